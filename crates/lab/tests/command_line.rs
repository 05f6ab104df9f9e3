//! The command line: exit status 0, 1, 2, and one clear line for what cannot be tried.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{folder, image};
use lab::input::DEFAULT_CAPTURE;

fn lab(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab")).current_dir(folder).args(arguments).output().unwrap()
}

/// Runs what cannot be tried: status 2, nothing on standard output, one line on standard error.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = lab(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    assert!(errors.starts_with("lab: "), "{errors}");
    errors
}

#[test]
fn what_cannot_be_used_gives_one_line_and_status_2() {
    let folder = folder("refused");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("text.pcap", b"this is no capture\n");
    write("empty.pcap", b"");
    write("cut.pcapng", &DEFAULT_CAPTURE[..DEFAULT_CAPTURE.len() / 2]);
    write("text.sys", b"this is no driver\n");
    write("empty.sys", b"");
    let program = std::fs::read(env!("CARGO_BIN_EXE_lab")).unwrap();
    write("elf.sys", &program[..program.len().min(100_000)]);

    let input = |name: &str| refused(&folder, &["demo", "--native", "--input", name, "--json"]);
    assert!(input("missing.pcap").contains("No such file"));
    assert!(input("text.pcap").contains("text.pcap: not a pcap or pcapng capture"));
    assert!(input("empty.pcap").contains("empty"));
    assert!(input("cut.pcapng").contains("cut short at byte"));
    assert!(input(".").contains("directory"));
    for name in ["missing.sys", "text.sys", "empty.sys", "elf.sys"] {
        assert!(refused(&folder, &["demo", "--image", name]).contains(name));
    }
    assert!(
        refused(&folder, &["demo", "--output", "no/such/folder.pcapng"]).contains("no/such/folder.pcapng")
    );
    // What was refused leaves no output behind.
    assert!(!folder.join("demo.pcapng").exists());
    assert!(!folder.join("esp_sa").exists());
}

#[test]
fn the_key_table_does_not_overwrite_the_capture() {
    assert!(refused(&folder("table"), &["demo", "--output", "./esp_sa"]).contains("key table"));
}

#[test]
fn the_input_is_not_overwritten() {
    let folder = folder("same");
    std::fs::write(folder.join("demo.pcapng"), DEFAULT_CAPTURE).unwrap();
    assert!(refused(&folder, &["demo", "--input", "./demo.pcapng"]).contains("would be overwritten"));
    assert_eq!(std::fs::read(folder.join("demo.pcapng")).unwrap(), DEFAULT_CAPTURE);
}

#[test]
fn a_capture_of_what_was_carried_holds_nothing_to_carry() {
    let folder = folder("again");
    assert!(lab(&folder, &["demo"]).status.success());
    let line = refused(&folder, &["demo", "--input", "demo.pcapng", "--output", "other.pcapng"]);
    assert!(line.contains("115 IPsec already"), "{line}");
}

#[test]
fn an_image_cut_anywhere_is_refused() {
    let Some(image) = image() else { return };
    let folder = folder("cut-image");
    let bytes = std::fs::read(image).unwrap();
    for part in [1, 64, 500, bytes.len() / 2, bytes.len() - 512, bytes.len() - 200, bytes.len() - 1] {
        std::fs::write(folder.join("cut.sys"), &bytes[..part]).unwrap();
        assert!(refused(&folder, &["demo", "--image", "cut.sys"]).contains("cut.sys"));
    }
}

#[test]
fn bad_usage_has_status_2() {
    let folder = folder("usage");
    for arguments in
        [&["demo", "--bogus"][..], &["demo", "--image", "a", "--native"], &["demo", "--seed", "x"], &[]]
    {
        assert_eq!(lab(&folder, arguments).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["demo", "--help"], &["--version"]] {
        assert_eq!(lab(&folder, arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn json_is_one_document_and_nothing_else() {
    let folder = folder("json");
    let output = lab(&folder, &["demo", "--native", "--json", "--seed", "3"]);
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["passed"], true);
    assert_eq!(report["traffic"]["delivered"], 115);
    assert_eq!(report["seed"], 3);
    assert!(folder.join(report["output"].as_str().unwrap()).exists());
    assert!(folder.join(report["esp_sa"].as_str().unwrap()).exists());
}

#[test]
fn people_get_steps_and_tables() {
    let output = lab(&folder("people"), &["demo"]);
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "no terminal, no bar: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        ["DirectOidRequestHandler", "SaOffloadCapacity", "AES-GCM-256", "IPv4 fragment", "everything held"]
    {
        assert!(text.contains(part), "{part}");
    }
}
