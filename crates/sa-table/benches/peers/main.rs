//! The table against its peers: time per lookup, ratios, writers' rate, and what deletion lists cost.
//!
//! ```text
//! cargo bench -p sa-table [-- [--quick] [--alone] [--markdown FILE] [--json FILE]]
//! ```
//!
//! All peers of a row take turns in many short rounds, so that a disturbance hits all of them; what is printed
//! is the median of the rounds. Takes about half a minute; `--quick` less; `--alone` measures only
//! single readers.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::unchecked_time_subtraction,
    reason = "figures, not facts"
)]

mod lists;
mod measure;
mod report;
mod scenarios;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;

struct Options {
    rounds: usize,
    alone: bool,
    markdown: Option<PathBuf>,
    json: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { rounds: 9, alone: false, markdown: None, json: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut file = || args.next().map(PathBuf::from).ok_or(format!("{arg} needs a file name"));
        match arg.as_str() {
            "--quick" => options.rounds = 5,
            "--alone" => options.alone = true,
            "--markdown" => options.markdown = Some(file()?),
            "--json" => options.json = Some(file()?),
            // Cargo's.
            "--bench" => {}
            // `cargo test --benches` runs this too: it has nothing to test.
            "--test" => std::process::exit(0),
            _ => {
                return Err(format!(
                    "unknown argument {arg}; known: --quick, --alone, --markdown FILE, --json FILE"
                ));
            }
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    let mut report = Report::default();
    scenarios::run(options.rounds, options.alone, &mut report);
    if !options.alone {
        lists::run(options.rounds, &mut report);
    }
    print!("{}", report.text());
    let write = |path: &Option<PathBuf>, text: String| match path {
        Some(path) => std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(()),
    };
    write(&options.markdown, report.markdown())?;
    write(&options.json, report.json())
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
