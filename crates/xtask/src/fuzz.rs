//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, with the stable compiler and without cargo-fuzz.
//!
//! What cargo-fuzz asks of a nightly compiler is the sanitizers. Coverage, by which libFuzzer finds its way, comes from an LLVM pass
//! whose switches are stable. Without an address sanitizer, what lies outside of a buffer is found by the lab's guards and by Rust.
//! Whoever has a nightly compiler runs `cargo +nightly fuzz run --features libfuzzer TARGET` in the same folder.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::driver;
use crate::setup::{self, Install};
use crate::steps::{Failure, Outcome, Steps, ask, run};
use crate::toolchain;

/// How the targets are compiled: counters at every edge, a table of their places, and comparisons that the fuzzer sees.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];
/// An input that takes longer, in seconds, is a find.
const SLOW: u32 = 20;

/// What to fuzz.
#[derive(Clone, Debug)]
pub struct Options {
    /// These targets; all if there are none.
    pub targets: Vec<String>,
    /// Each for so many seconds.
    pub seconds: u32,
    /// Whether to install what is missing.
    pub install: Install,
}

/// How many targets ran without a find, and the names of those with one.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Without.
    pub clean: u64,
    /// With.
    pub failed: Vec<String>,
}

/// The targets there are.
///
/// # Errors
/// [`Failure::Cannot`] if the folder cannot be read.
pub fn targets() -> Outcome<Vec<String>> {
    let folder = driver::root().join("fuzz/fuzz_targets");
    let unreadable = |error| Failure::Cannot(format!("{}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if let Some(name) = path.file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the targets and runs them one after the other. What is new goes to `target/fuzz/corpus`, finds to `fuzz/artifacts`.
///
/// # Errors
/// [`Failure::Cannot`] if they cannot be built or started, or there is none of a name.
pub fn fuzz(steps: &Steps, options: &Options) -> Outcome<Found> {
    let all = targets()?;
    let names = if options.targets.is_empty() { all.clone() } else { options.targets.clone() };
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        return Err(Failure::Cannot(format!("no target is called {unknown}; there are {}", all.join(", "))));
    }
    setup::compiler(steps, options.install)?;
    let programs = steps.step("build the fuzz targets", || build(&names))?;
    let mut found = Found::default();
    for name in names {
        let outcome = steps.step(&format!("fuzz {name} for {} s", options.seconds), || {
            let told = run_target(&programs.join(&name), &name, options.seconds)?;
            steps.say(told);
            Ok(())
        });
        match outcome {
            Ok(()) => found.clean += 1,
            Err(Failure::Failed(text)) => {
                steps.say(&text);
                found.failed.push(name);
            }
            Err(cannot) => return Err(cannot),
        }
    }
    Ok(found)
}

/// The folder of the programs.
fn build(names: &[String]) -> Outcome<PathBuf> {
    let host = ask(toolchain::clean("rustc").args(["--print", "host-tuple"]));
    let host = host.ok_or_else(|| Failure::Cannot("rustc does not say what it compiles for".into()))?;
    let folder = driver::target_folder().join("fuzz");
    let mut command = driver::cargo();
    command.args(["build", "--quiet", "--package", "ipsecnic-fuzz", "--features", "libfuzzer"]);
    command.args(["--profile", "lab", "--target", &host, "--target-dir"]).arg(&folder);
    for name in names {
        command.args(["--bin", name]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")).stdout(std::io::stderr());
    run(&mut command)
        .map_err(|failure| Failure::Cannot(format!("the fuzz targets were not built: {failure}")))?;
    Ok(folder.join(host).join("lab"))
}

/// Runs one target; its last line of statistics.
fn run_target(program: &std::path::Path, name: &str, seconds: u32) -> Outcome<String> {
    let fresh = driver::target_folder().join("fuzz/corpus").join(name);
    let artifacts = driver::root().join("fuzz/artifacts").join(name);
    for folder in [&fresh, &artifacts] {
        fs::create_dir_all(folder)
            .map_err(|error| Failure::Cannot(format!("{}: {error}", folder.display())))?;
    }
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={SLOW}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-rss_limit_mb=4096");
    // The first folder gets what is new, the committed one is only read.
    command.arg(&fresh).arg(driver::root().join("fuzz/corpus").join(name));
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::Cannot(format!("{} could not be started: {error}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let last = text.lines().rfind(|line| line.contains("cov:")).unwrap_or("no statistics");
        return Ok(format!("{name}: {}", last.split(" rss:").next().unwrap_or(last)));
    }
    // The panic, and where libFuzzer put the input.
    let tail: Vec<&str> = text.lines().rev().take(40).collect();
    Err(Failure::Failed(format!(
        "{name} ended with {}; {}\n{}",
        output.status,
        artifacts.display(),
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_folder_and_others_are_refused() {
        let names = targets().unwrap();
        assert!(names.contains(&"delete_sa".into()) && names.windows(2).all(|pair| pair[0] < pair[1]));
        let options = Options { targets: vec!["nothing".into()], seconds: 1, install: Install::IfRoot };
        let error = fuzz(&Steps::default(), &options).unwrap_err();
        assert!(matches!(&error, Failure::Cannot(text) if text.contains("delete_sa")), "{error}");
    }
}
