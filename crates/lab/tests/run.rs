//! `lab run` on the driver's image, and on files that are none.

use std::cell::RefCell;

use clap::Parser;
use lab::run::{self, RunError};
use lab::settings::SettingsError;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    arguments: run::Arguments,
}

/// What is printed, and how it ends.
fn lab_run(arguments: &[&str]) -> (String, Result<bool, RunError>) {
    let arguments = Command::parse_from(["run"].iter().chain(arguments)).arguments;
    let output = RefCell::new(String::new());
    let result = run::command(&arguments, |line| output.borrow_mut().extend([line, "\n"]));
    (output.into_inner(), result)
}

#[test]
fn the_image_lives_its_life_with_the_settings_of_its_inf() {
    let Some(image) = std::env::var_os("IPSECNIC_IMAGE") else {
        assert!(
            std::env::var_os("IPSECNIC_NATIVE_ONLY").is_some_and(|value| value == "1"),
            "IPSECNIC_IMAGE names no driver image (cargo xtask image builds one); \
             set IPSECNIC_NATIVE_ONLY=1 to do without",
        );
        return;
    };
    let inf = concat!(env!("CARGO_MANIFEST_DIR"), "/../../inf/ipsecnic.inx");
    let image = image.to_str().expect("a path in Unicode");
    let (output, result) = lab_run(&[image, "--inf", inf, "--set", "*JumboPacket=4088", "--guard-pages"]);
    assert!(result.expect("the image loads"), "{output}");
    assert!(output.contains("*JumboPacket = 4088") && output.contains("No rule was broken"), "{output}");
    assert!(!output.contains("the INF says"), "{output}");
}

#[test]
fn what_is_no_driver_cannot_be_tried() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let (_, result) = lab_run(&[here]);
    assert!(matches!(result, Err(RunError::Load(..))), "{result:?}");
    let (_, result) = lab_run(&["/nonexistent.sys"]);
    assert!(matches!(result, Err(RunError::Read(..))), "{result:?}");
    let (_, result) = lab_run(&[here, "--inf", here]);
    assert!(matches!(result, Err(RunError::Settings(SettingsError::Inf(..)))), "{result:?}");
}
