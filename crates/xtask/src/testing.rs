//! `cargo xtask test`: every check of the project, one closing line.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::driver;
use crate::fuzz;
use crate::report;
use crate::setup::{self, Install};
use crate::steps::{Failure, Outcome, Steps, run, shown};

/// What to test.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Without the image: only the natively linked driver.
    pub native_only: bool,
    /// Also what takes minutes.
    pub long: bool,
    /// Whether to install what is missing.
    pub install: Install,
}

/// Path of the image, for tests that run it. Unset in native-only runs.
const IMAGE_VARIABLE: &str = "IPSECNIC_IMAGE";
/// Set to 1 in native-only runs: tests of the image then pass without it, instead of failing.
const NATIVE_ONLY_VARIABLE: &str = "IPSECNIC_NATIVE_ONLY";
/// Set to 1 for tests that are to take their time.
const LONG_VARIABLE: &str = "IPSECNIC_LONG";
/// How long each fuzz target runs, in seconds.
const FUZZ_SECONDS: u32 = 20;

/// A command of Cargo that counts as one test.
struct CargoStep {
    name: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

/// What is checked besides the tests themselves.
const LINTS: &[CargoStep] = &[
    CargoStep { name: "cargo fmt", arguments: &["fmt", "--all", "--check"], variables: &[] },
    CargoStep {
        name: "cargo clippy",
        arguments: &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-Dwarnings"],
        variables: &[],
    },
    CargoStep {
        name: "cargo doc",
        arguments: &["doc", "--quiet", "--workspace", "--no-deps"],
        variables: &[("RUSTDOCFLAGS", "-Dwarnings")],
    },
];

/// What only `--long` runs. Each row is a test run; a target folder of its own keeps the usual build warm.
const LONG: &[CargoStep] = &[
    CargoStep {
        name: "loom models of the SA table",
        arguments: &[
            "test",
            "--package",
            "sa-table",
            "--release",
            "--test",
            "loom",
            "--target-dir",
            "target/loom",
        ],
        variables: &[("RUSTFLAGS", "--cfg loom")],
    },
    CargoStep {
        name: "loom models of the waiting requests",
        arguments: &[
            "test",
            "--package",
            "ndis",
            "--release",
            "--lib",
            "--target-dir",
            "target/loom",
            "--",
            "oid::waiting",
        ],
        variables: &[("RUSTFLAGS", "--cfg loom")],
    },
    CargoStep {
        name: "shuttle models of the SA table",
        arguments: &[
            "test",
            "--package",
            "sa-table",
            "--release",
            "--test",
            "shuttle",
            "--target-dir",
            "target/shuttle",
        ],
        variables: &[("RUSTFLAGS", "--cfg shuttle")],
    },
    CargoStep {
        name: "the SA table without vector instructions",
        arguments: &[
            "test",
            "--package",
            "sa-table",
            "--lib",
            "--test",
            "limits",
            "--test",
            "model",
            "--target-dir",
            "target/portable",
        ],
        variables: &[("RUSTFLAGS", "--cfg portable_tags")],
    },
    CargoStep {
        // Its output tells the seeds.
        name: "stress, a minute each of the native driver and the image",
        arguments: &["test", "--package", "ipsecnic", "--test", "stress", "--", "--nocapture"],
        variables: &[(LONG_VARIABLE, "1")],
    },
    CargoStep {
        name: "a list of ten million elements",
        arguments: &["test", "--package", "ipsecnic", "--test", "sa_delete", "a_list_without_end"],
        variables: &[(LONG_VARIABLE, "1")],
    },
    CargoStep {
        name: "properties of every OID structure, more cases",
        arguments: &["test", "--package", "ipsecnic", "--test", "sa_properties"],
        variables: &[("PROPTEST_CASES", "4096")],
    },
    CargoStep {
        name: "the image in Wine",
        arguments: &["test", "--package", "xtask", "--test", "wine"],
        variables: &[],
    },
    CargoStep {
        name: "the Linux kernel as an IPsec peer",
        arguments: &["test", "--package", "lab", "--test", "peer", "--", "--ignored"],
        variables: &[],
    },
];

/// Of `--long` too, where the host has what it takes.
const TAP: CargoStep = CargoStep {
    name: "a Linux TAP device",
    arguments: &["test", "--package", "lab", "--test", "tap", "--", "--ignored", "the_driver_and_the_kernel"],
    variables: &[],
};

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// One step that is not a run of tests.
    fn add_step(&mut self, outcome: &Outcome) {
        self.add(match outcome {
            Ok(()) => Self { passed: 1, ..Self::default() },
            Err(_) => Self { failed: 1, ..Self::default() },
        });
    }

    /// What libtest says at the end of each binary: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn from_result_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for count in counts.split("; ") {
            let (number, what) = count.split_once(' ')?;
            let field = match what {
                "passed" => &mut tally.passed,
                "failed" => &mut tally.failed,
                "ignored" => &mut tally.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
        }
        Some(tally)
    }
}

/// Runs everything and prints the closing line; whether nothing failed. Without `native_only`, an image that could not
/// be built is a failure.
///
/// # Errors
/// [`Failure::Cannot`] if Cargo cannot be run.
pub fn test(steps: &Steps, options: Options) -> Outcome<bool> {
    let mut tally = Tally::default();
    if let Err(missing) = setup::judge(steps, options.install) {
        steps.warn(format_args!("the packet judge is missing, tests that need it will say so: {missing}"));
    }
    let mut tests = tests_command(&["--workspace", "--no-fail-fast"]);
    if options.native_only {
        steps.warn("--native-only: the shipped image is NOT tested");
        tests.env(NATIVE_ONLY_VARIABLE, "1");
    } else {
        let image = image(steps, options.install, &mut tests);
        if let Err(failure) = &image {
            steps.warn(failure);
        }
        tally.add_step(&image);
    }
    for lint in LINTS {
        let outcome = steps.step(lint.name, || run(&mut lint.command()));
        if let Err(failure) = &outcome {
            steps.say(failure);
        }
        tally.add_step(&outcome);
    }
    let image_variables: Vec<_> =
        tests.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    let mut count = |name: &str, command: &mut Command| {
        let found = steps.step(name, || run_tests(command))?;
        steps.say(format_args!(
            "{name}: passed {}, failed {}, skipped {}",
            found.passed, found.failed, found.skipped
        ));
        tally.add(found);
        Ok(())
    };
    count("cargo test", &mut tests)?;
    if options.long {
        if let Err(missing) = setup::wine(steps, options.install) {
            steps.warn(format_args!("Wine is missing, tests that need it will say so: {missing}"));
        }
        for long in LONG {
            let mut command = long.command();
            // What the usual tests are told of the image.
            for (name, value) in &image_variables {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            count(long.name, &mut command)?;
        }
        match setup::tap(steps, options.install) {
            Ok(()) => {
                let mut command = TAP.command();
                for (name, value) in &image_variables {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                count(TAP.name, &mut command)?;
            }
            Err(missing) => {
                steps.warn(format_args!("SKIPPED {}: {missing}", TAP.name));
                tally.skipped += 1;
            }
        }
        match driver::build_for_arm64(steps) {
            Err(Failure::Cannot(missing)) => {
                steps.warn(format_args!("SKIPPED build for arm64: {missing}"));
                tally.skipped += 1;
            }
            outcome => {
                if let Err(failure) = &outcome {
                    steps.say(failure);
                }
                tally.add_step(&outcome);
            }
        }
        let fuzzing = fuzz::Options { targets: Vec::new(), seconds: FUZZ_SECONDS, install: options.install };
        match fuzz::fuzz(steps, &fuzzing) {
            Ok(found) => {
                let failed = found.failed.len() as u64;
                steps.say(format_args!("fuzzing: {} targets found nothing, {failed} something", found.clean));
                tally.add(Tally { passed: found.clean, failed, skipped: 0 });
            }
            Err(failure) => {
                steps.warn(&failure);
                tally.failed += 1;
            }
        }
    }
    println!("\nipsecnic: {} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(tally.failed == 0)
}

impl CargoStep {
    fn command(&self) -> Command {
        let mut command = driver::cargo();
        command.args(self.arguments).envs(self.variables.iter().copied());
        // Progress of the linters; standard output is for test results.
        command.stdout(std::io::stderr());
        command
    }
}

fn tests_command(arguments: &[&str]) -> Command {
    let mut command = driver::cargo();
    command.arg("test").args(arguments);
    command.env_remove(IMAGE_VARIABLE).env_remove(NATIVE_ONLY_VARIABLE);
    command
}

/// Builds the image, checks it and tells the tests where it is.
fn image(steps: &Steps, install: Install, tests: &mut Command) -> Outcome {
    let built = driver::build(steps, install, &driver::default_out())?;
    tests.env(IMAGE_VARIABLE, &built.sys);
    passed(&built.sys, &built.report)
}

/// An error, with the table on standard error, unless every check of the image holds.
///
/// # Errors
/// [`Failure::Failed`] if a check failed or could not be made.
pub fn passed(sys: &Path, report: &crate::image::Report) -> Outcome {
    if report.is_complete_pass() {
        return Ok(());
    }
    eprintln!("{}", report::table(sys, report));
    Err(Failure::Failed(format!("{} does not pass the image checks", sys.display())))
}

/// Runs a command of tests, shows its output and sums up its result lines. A run that ends badly without having
/// counted a failure (a build error, a crash) counts as one.
fn run_tests(command: &mut Command) -> Outcome<Tally> {
    let cannot = |error: std::io::Error| Failure::Cannot(format!("`cargo test` could not be run: {error}"));
    let name = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(cannot)?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(cannot)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.add(Tally::from_result_line(&line).unwrap_or_default());
        }
    }
    let status = child.wait().map_err(cannot)?;
    if !status.success() && tally.failed == 0 {
        eprintln!("`{name}` ended with {status}");
        tally.failed = 1;
    }
    if status.success() && tally.passed == 0 {
        eprintln!("`{name}` ran no test");
        tally.failed = 1;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_of_libtest_are_summed() {
        let mut sum = Tally::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "test result: nonsense",
        ] {
            sum.add(Tally::from_result_line(line).unwrap_or_default());
        }
        assert_eq!(sum, Tally { passed: 13, failed: 2, skipped: 1 });
    }

    #[test]
    #[cfg(unix)]
    fn a_run_that_crashes_or_tests_nothing_is_a_failure() {
        let run = |script: &str| run_tests(Command::new("sh").args(["-c", script])).expect("sh runs");
        let result = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";
        assert_eq!(run(result), Tally { passed: 2, failed: 0, skipped: 0 });
        assert_eq!(run(&format!("{result}; exit 101")), Tally { passed: 2, failed: 1, skipped: 0 });
        assert_eq!(run("true"), Tally { passed: 0, failed: 1, skipped: 0 });
    }
}
