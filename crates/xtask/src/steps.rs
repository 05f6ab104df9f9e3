//! Progress for people, on standard error: one line when a step begins and one when it ends, with the time since the
//! start. Standard output is left to results.

use std::fmt;
use std::process::Command;
use std::time::Instant;

/// Why xtask ends without success. Each is one line for a person.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for was done, and did not hold. Exit status 1.
    Failed(String),
    /// It could not be done; the line says what to do. Exit status 2.
    Cannot(String),
}

impl Failure {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Cannot(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Cannot(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

/// A result of xtask.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Prints steps with the time since the start.
#[derive(Debug)]
pub struct Steps {
    start: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Steps {
    /// Prints a line.
    pub fn say(&self, text: impl fmt::Display) {
        eprintln!("[{:6.1} s] {text}", self.start.elapsed().as_secs_f64());
    }

    /// Prints a line that must not be overlooked.
    pub fn warn(&self, text: impl fmt::Display) {
        let rule = "!".repeat(76);
        eprintln!("{rule}");
        self.say(text);
        eprintln!("{rule}");
    }

    /// Does `work` between two lines, the second with what came of it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn step<T>(&self, name: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        self.say(format_args!("{name} …"));
        let began = Instant::now();
        let outcome = work();
        let took = began.elapsed().as_secs_f64();
        self.say(format_args!("{name}: {} ({took:.1} s)", if outcome.is_ok() { "done" } else { "FAILED" }));
        outcome
    }
}

/// A command as one types it, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command with its output shown.
///
/// # Errors
/// [`Failure::Cannot`] if it cannot be started, [`Failure::Failed`] if it ends with a status other than 0.
pub fn run(command: &mut Command) -> Outcome {
    let status = command
        .status()
        .map_err(|error| Failure::Cannot(format!("`{}` could not be started: {error}", shown(command))))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Failed(format!("`{}` ended with {status}", shown(command))))
    }
}

/// Runs a command and returns what it printed, or nothing if it failed or is not there.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
