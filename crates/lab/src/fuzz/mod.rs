//! `lab fuzz`: a driver is put through scripts made by chance: requests, packets and events, good, nearly
//! good and garbage, in any order that NDIS allows.
//!
//! A script follows from its seed alone. One that fails is made small by delta debugging (Zeller and
//! Hildebrandt, "Simplifying and isolating failure-inducing input") and written as JSON, to be replayed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndis_lab::LabError;
use serde::{Deserialize, Serialize};

mod generate;
mod shrink;
mod step;

pub use step::{Action, Bytes, Failure, Step};

use crate::life::{DriverArguments, Subject, progress_bar};
use crate::settings::known_lines;
use crate::source::SourceError;
use generate::Profile;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The driver.
    pub subject: Subject,
    /// No new script is begun after this time.
    pub limit: Duration,
    /// The seed of the first script; the next ones count up.
    pub seed: u64,
    /// Steps of a script.
    pub steps: usize,
    /// No more scripts than this.
    pub scripts: u64,
}

/// A script that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The driver that failed.
    pub driver: String,
    /// Keywords of its adapters.
    pub keywords: Vec<(String, String)>,
    /// The seed that the script was made of.
    pub seed: u64,
    /// How it failed.
    pub failure: Failure,
    /// What is done.
    pub steps: Vec<Step>,
}

/// How a run ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether no script failed.
    pub passed: bool,
    /// Scripts played.
    pub scripts: u64,
    /// Steps played.
    pub steps: u64,
    /// Milliseconds that it took, without shrinking.
    pub milliseconds: u128,
    /// The failure, small.
    pub script: Option<Script>,
}

/// Plays scripts until one fails or the time is up. `watch` is told the scripts and steps played.
///
/// # Errors
/// [`LabError`] if the driver does not even start.
pub fn run(options: &Options, mut watch: impl FnMut(u64, u64)) -> Result<Report, LabError> {
    let profile = Profile::of(&options.subject)?;
    let start = Instant::now();
    let mut report = Report { passed: true, ..Report::default() };
    while report.passed && report.scripts < options.scripts && start.elapsed() < options.limit {
        let seed = options.seed.wrapping_add(report.scripts);
        let steps = profile.script(seed, options.steps);
        let played = step::play(&options.subject, &steps, &mut report.steps);
        report.scripts += 1;
        watch(report.scripts, report.steps);
        if let Err(failure) = played {
            report.passed = false;
            report.milliseconds = start.elapsed().as_millis();
            let (steps, failure) = shrink::shrink(&options.subject, steps, failure);
            let subject = &options.subject;
            let (driver, keywords) = (subject.source.to_string(), subject.keywords.clone());
            report.script = Some(Script { driver, keywords, seed, failure, steps });
        }
    }
    if report.passed {
        report.milliseconds = start.elapsed().as_millis();
    }
    Ok(report)
}

/// Plays a script again: how it fails now, if it does.
pub fn replay(subject: &Subject, script: &Script) -> Option<Failure> {
    let mut subject = subject.clone();
    subject.keywords.clone_from(&script.keywords);
    step::play(&subject, &script.steps, &mut 0).err()
}

/// Arguments of `lab fuzz`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    driver: DriverArguments,
    /// Begin no new script after this many minutes
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// The seed of the first script; the next ones count up
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Steps of a script
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: usize,
    /// Where to write a script that fails
    #[arg(long, value_name = "FILE.json", default_value = "fuzz-failure.json")]
    output: PathBuf,
    /// Play this script instead
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["minutes", "seed", "steps"])]
    replay: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes is expected")?;
    if (0.0..1e6).contains(&minutes) { Ok(minutes) } else { Err("out of range".into()) }
}

/// Why fuzzing could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum FuzzError {
    /// The driver cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It does not start.
    #[error("{0}")]
    Start(LabError),
    /// A file cannot be read or written.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, std::io::Error),
    /// A script is none.
    #[error("{path}: {1}", path = .0.display())]
    Script(PathBuf, serde_json::Error),
}

/// Runs `lab fuzz`: whether nothing failed.
///
/// # Errors
/// [`FuzzError`] if it could not be tried.
pub fn command(arguments: &Arguments, mut say: impl FnMut(&str)) -> Result<bool, FuzzError> {
    let subject = arguments.driver.subject().map_err(SourceError::from)?;
    let (_, driver) = subject.source.load()?;
    let _ = driver.unload();
    if let Some(path) = &arguments.replay {
        let script = read(path)?;
        let failure = replay(&subject, &script);
        for line in known_lines(&subject.known) {
            say(&line);
        }
        let Some(failure) = failure else {
            say(&format!("{} steps: nothing failed", script.steps.len()));
            return Ok(true);
        };
        say(&show(&failure, &script.steps));
        return Ok(false);
    }
    let options = Options {
        subject,
        limit: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed,
        steps: arguments.steps.max(8),
        scripts: u64::MAX,
    };
    let bar = progress_bar(false, "scripts");
    let report = run(&options, |scripts, _| {
        bar.set_length(scripts);
        bar.set_position(scripts);
    });
    bar.finish_and_clear();
    let report = report.map_err(FuzzError::Start)?;
    for line in known_lines(&options.subject.known) {
        say(&line);
    }
    let seconds = Duration::from_millis(u64::try_from(report.milliseconds).unwrap_or(u64::MAX)).as_secs_f64();
    let count = format!("{} scripts, {} steps in {seconds:.1} s", report.scripts, report.steps);
    let Some(script) = &report.script else {
        say(&format!("{count}, seeds from {}: nothing failed", options.seed));
        return Ok(true);
    };
    let text = serde_json::to_string_pretty(script)
        .map_err(|error| FuzzError::Script(arguments.output.clone(), error))?;
    std::fs::write(&arguments.output, text + "\n")
        .map_err(|error| FuzzError::File(arguments.output.clone(), error))?;
    say(&show(&script.failure, &script.steps));
    say(&format!("{count}: seed {} FAILED", script.seed));
    say(&format!("replay: lab fuzz {} --replay {}", driver_name(script), arguments.output.display()));
    Ok(false)
}

fn driver_name(script: &Script) -> &str {
    if script.driver.contains(' ') { "--native" } else { &script.driver }
}

fn read(path: &Path) -> Result<Script, FuzzError> {
    let text = std::fs::read_to_string(path).map_err(|error| FuzzError::File(path.to_owned(), error))?;
    serde_json::from_str(&text).map_err(|error| FuzzError::Script(path.to_owned(), error))
}

/// The failure, and what led to it.
fn show(failure: &Failure, steps: &[Step]) -> String {
    let mut text = String::new();
    for (at, step) in steps.iter().enumerate() {
        let mark = if at == failure.step { "->" } else { "  " };
        let action = format!("{:?}", step.action);
        let short: String = action.chars().take(160).collect();
        let more = if short.len() < action.len() { "…" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {at:>3} adapter {}: {short}{more}", step.adapter + 1);
    }
    if failure.step >= steps.len() {
        text.push_str("->     pause, halt and unload\n");
    }
    text.push_str(&failure.report);
    text
}
