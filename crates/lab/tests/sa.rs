//! `lab sa`: the exact table of a scripted sequence, native and image, as text and as JSON; and how two tables differ.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{folder, image};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sa.jsonl");
const TEXT: &str = include_str!("data/sa.txt");
const JSON: &str = include_str!("data/sa.json");

fn lab(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.current_dir(folder).arg("sa").args(arguments).output().unwrap()
}

fn shown(output: &Output) -> &str {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    str::from_utf8(&output.stdout).unwrap()
}

/// The linked driver, and the image where there is one.
fn drivers() -> Vec<String> {
    let image: Option<PathBuf> = image();
    ["--native".to_owned()].into_iter().chain(image.map(|path| path.display().to_string())).collect()
}

#[test]
fn the_table_of_a_script_exactly() {
    let folder = folder("sa-exactly");
    for driver in drivers() {
        let output = lab(&folder, &[&driver, "--script", SCRIPT]);
        assert_eq!((shown(&output), output.status.code()), (TEXT, Some(0)), "{driver}");
        let output = lab(&folder, &[&driver, "--script", SCRIPT, "--json"]);
        // But for the driver's name.
        let body = |text: &str| text.split_once("\"table\"").unwrap().1.to_owned();
        assert_eq!((body(shown(&output)), output.status.code()), (body(JSON), Some(0)), "{driver}");
        // Of no key in it four bytes are shown.
        let script = std::fs::read_to_string(SCRIPT).unwrap();
        let keys = script.split("\"key\": \"").skip(1).map(|rest| rest.split_once('"').unwrap().0);
        for key in keys {
            for piece in key.as_bytes().windows(8) {
                let piece = str::from_utf8(piece).unwrap();
                assert!(!shown(&output).contains(piece) && !TEXT.contains(piece), "{piece}");
            }
        }
    }
}

#[test]
fn tables_are_compared() {
    let folder = folder("sa-compared");
    std::fs::write(folder.join("old.json"), JSON).unwrap();
    for driver in drivers() {
        let output = lab(&folder, &[&driver, "--script", SCRIPT, "--diff", "old.json"]);
        assert_eq!((shown(&output), output.status.code()), ("no difference\n", Some(0)), "{driver}");
        // One packet more, one SA less, and one in its place.
        let key = "bb".repeat(20);
        let more = format!(
            "{}\n{{\"send\": {{\"spi\": 4098}}}}\n{{\"delete\": [4099]}}\n\
             {{\"add\": {{\"direction\": \"out\", \"spi\": 5, \"key\": \"{key}\"}}}}\n",
            std::fs::read_to_string(SCRIPT).unwrap()
        );
        std::fs::write(folder.join("more.jsonl"), more).unwrap();
        let output = lab(&folder, &[&driver, "--script", "more.jsonl", "--diff", "old.json"]);
        let expected = "~ the table: added 4 -> 5, deleted 1 -> 2\n\
                        - slot 3, out ESP 0x00001003\n\
                        ~ slot 2, in ESP 0x00001002: bytes 108 -> 216, packets 1 -> 2\n\
                        + slot 3, out ESP 0x00000005\n";
        assert_eq!((shown(&output), output.status.code()), (expected, Some(1)), "{driver}");
        let output = lab(&folder, &[&driver, "--script", "more.jsonl", "--diff", "old.json", "--json"]);
        let changes: serde_json::Value = serde_json::from_str(shown(&output)).unwrap();
        assert_eq!(output.status.code(), Some(1));
        let kinds: Vec<_> = changes.as_array().unwrap().iter().map(|change| &change["change"]).collect();
        assert_eq!(kinds, ["changed", "gone", "changed", "new"]);
        assert_eq!(changes[2]["fields"]["packets"], serde_json::json!([1, 2]));
        assert_ne!(changes[1]["of"], changes[3]["of"], "the same slot, another handle");
    }
}

#[test]
fn made_of_a_seed() {
    let folder = folder("sa-seed");
    for driver in drivers() {
        let run = |seed: &str| {
            let output = lab(
                &folder,
                &[&driver, "--count", "9", "--packets", "3", "--delete", "2", "--seed", seed, "--json"],
            );
            assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
            shown(&output).to_owned()
        };
        let one = run("1");
        assert_eq!(one, run("1"));
        assert_ne!(one, run("2"));
        let json: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert_eq!((json["sas"].as_array().unwrap().len(), &json["table"]["deleted"]), (7, &2.into()));
    }
}

#[test]
fn what_was_not_done_is_said() {
    let folder = folder("sa-refused");
    let key = "cc".repeat(20);
    let script = format!(
        "{{\"add\": {{\"direction\": \"in\", \"spi\": 0, \"key\": \"{key}\"}}}}\n\
         {{\"send\": {{\"spi\": 77}}}}\n{{\"delete\": [78]}}\n"
    );
    std::fs::write(folder.join("script.jsonl"), script).unwrap();
    let output = lab(&folder, &["--native", "--script", "script.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = shown(&output).lines().rev().take(4).collect();
    assert_eq!(
        lines,
        [
            "step 3: there is no SA 0x0000004e",
            "step 2: there is no SA 0x0000004d",
            "step 1: ADD_SA of SA 0x00000000 was refused, 0xc000000d",
            "0 of 64 slots; 0 added, 0 deleted (0 of them wait for packets), 0 refused, 0 handles skipped; 0 resets",
        ]
    );
    std::fs::write(folder.join("bad.jsonl"), "\n{\"frobnicate\": 1}\n").unwrap();
    for (arguments, text) in [
        (["--native", "--script", "missing.jsonl"], "missing.jsonl: No such file"),
        (["--native", "--script", "bad.jsonl"], "bad.jsonl, line 2: unknown variant `frobnicate`"),
        (["--native", "--diff", "bad.jsonl"], "bad.jsonl: "),
        (["missing.sys", "--seed", "1"], "missing.sys: "),
    ] {
        let output = lab(&folder, &arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
        assert!(errors.starts_with(&format!("lab: {text}")), "{errors}");
    }
}
