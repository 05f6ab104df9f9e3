//! `cargo xtask demo`: builds the image and the lab, then hands over to `lab demo`.

use std::process::{Command, ExitCode};

use xtask::driver;
use xtask::setup::Install;
use xtask::steps::{Failure, Outcome, Steps, run};
use xtask::testing;

/// Runs the demo with the lab's arguments; the status is the lab's.
pub(crate) fn demo(steps: &Steps, arguments: &[String]) -> Outcome<ExitCode> {
    let mut lab = Command::new(lab(steps)?);
    lab.arg("demo");
    // `--native` needs no image; whoever names one has it; help needs neither.
    let chosen = ["--native", "--image", "--help", "-h"];
    let has_chosen = arguments
        .iter()
        .any(|argument| chosen.contains(&argument.as_str()) || argument.starts_with("--image="));
    if !has_chosen {
        match driver::build(steps, Install::IfRoot, &driver::default_out()) {
            Ok(built) => {
                testing::passed(&built.sys, &built.report)?;
                steps.say("the image passes all its checks (cargo xtask check-image shows them)");
                lab.arg("--image").arg(built.sys);
            }
            Err(failure) => {
                steps.warn(format_args!(
                    "NO IMAGE: {failure}\nThe demo goes on with the natively linked driver; it does NOT show ipsecnic.sys."
                ));
                lab.arg("--native");
            }
        }
    }
    let status = lab
        .args(arguments)
        .status()
        .map_err(|error| Failure::Cannot(format!("the lab could not be started: {error}")))?;
    // Without a code a signal ended it.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    if status.code().is_none() {
        steps.warn(format_args!("the lab ended with {status}"));
    }
    Ok(ExitCode::from(code))
}

/// Builds the lab's command line; its path. It is run from where the user stands, so that paths mean what they say.
fn lab(steps: &Steps) -> Outcome<std::path::PathBuf> {
    let folder = driver::target_folder();
    let mut command = driver::cargo();
    command.args(["build", "--package", "lab", "--profile", "lab", "--target-dir"]).arg(&folder);
    steps
        .step("build the lab", || run(&mut command))
        .map_err(|failure| Failure::Cannot(format!("the lab was not built: {failure}")))?;
    Ok(folder.join("lab").join(format!("lab{}", std::env::consts::EXE_SUFFIX)))
}
