//! `lab conformance` as a user calls it: exit status, and what is written for machines.

use std::process::{Command, Output};

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab")).arg("conformance").args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn cases_pass_and_are_told_to_people_and_machines() {
    let junit = std::env::temp_dir().join(format!("lab-conformance-{}.xml", std::process::id()));
    let path = junit.to_str().unwrap();
    let arguments =
        ["--native", "--set", "SegmentId=1", "--filter", "driver-entry", "--filter", "12", "--junit", path];
    let output = lab(&arguments);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("pause-waits") && text.contains("PASSED: 3 passed, 0 failed"), "{text}");
    let xml = std::fs::read_to_string(&junit).unwrap();
    std::fs::remove_file(&junit).unwrap();
    assert!(xml.contains("tests=\"3\" failures=\"0\""), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 3);

    let output = lab(&["--native", "--filter", "driver-entry", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["passed"], true);
    assert_eq!(document["cases"].as_array().unwrap().len(), 2);
    assert!(document["cases"][0]["page"].is_string());
}

#[test]
fn the_list_names_every_case_with_its_page() {
    let output = lab(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let text = out(&output);
    let cases = ndis_lab::conformance::cases();
    assert_eq!(text.lines().count(), cases.len());
    assert!(cases.iter().all(|case| text.contains(case.id) && text.contains(case.page)));
}

#[test]
fn what_cannot_be_tried_is_one_line_and_status_2() {
    for arguments in [&["no-such-file.sys"][..], &["Cargo.toml"], &["--native", "--filter", "no such case"]] {
        let output = lab(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(text.starts_with("lab: ") && text.lines().count() == 1, "{text}");
    }
    assert_eq!(lab(&[]).status.code(), Some(2));
    assert_eq!(lab(&["--native", "--set", "novalue"]).status.code(), Some(2));
}
