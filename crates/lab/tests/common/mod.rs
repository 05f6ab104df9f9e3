//! What the tests of the demo share.
#![allow(dead_code)] // not every test binary uses all of it

use std::path::{Path, PathBuf};

use lab::demo::{AlgorithmChoice, Options, Report, Silent};
use lab::source::DriverSource;

pub(crate) mod tshark;

/// A folder for one test, empty at the start.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Whether the tests of the image may be left out: `cargo xtask test --native-only` says so.
pub(crate) fn native_only() -> bool {
    std::env::var_os("IPSECNIC_NATIVE_ONLY").is_some_and(|value| value == "1")
}

/// The image that `cargo xtask test` built; `None` in native-only runs.
///
/// # Panics
/// If there is none, and nobody said that there need be none: a silent skip is not a pass.
pub(crate) fn image() -> Option<PathBuf> {
    match std::env::var_os("IPSECNIC_IMAGE") {
        Some(path) => Some(path.into()),
        None if native_only() => None,
        None => panic!(
            "IPSECNIC_IMAGE does not name an image to test: run `cargo xtask test`, or set IPSECNIC_NATIVE_ONLY=1 \
             to do without"
        ),
    }
}

pub(crate) fn options(driver: DriverSource, folder: &Path) -> Options {
    Options {
        driver,
        input: None,
        output: folder.join("demo.pcapng"),
        seed: 1,
        algorithm: AlgorithmChoice::Mixed,
    }
}

/// Runs a demo that has to hold.
pub(crate) fn run(options: &Options) -> Report {
    let report = lab::demo::run(options, &mut Silent).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.passed, "{:#?}", report.failures);
    report
}
