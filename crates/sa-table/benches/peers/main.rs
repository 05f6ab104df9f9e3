//! The table against its peers: time per lookup, ratios, writers' rate, and what deletion lists cost.
//!
//! ```text
//! cargo bench -p sa-table [-- [--quick] [--alone] [--json FILE]]
//! ```
//!
//! All peers of a row take turns in many short rounds, so that a disturbance hits all of them. What is printed is the median of
//! the rounds; the ratio is the median of the ratios to the row's first table in the same round. Takes about a minute;
//! `--quick` half of that; `--alone` measures only lookups. `cargo xtask bench sa` runs this and judges it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::unchecked_time_subtraction,
    reason = "figures, not facts"
)]

mod foreign;
mod lists;
mod maps;
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
    json: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { rounds: 9, alone: false, json: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut file = || args.next().map(PathBuf::from).ok_or(format!("{arg} needs a file name"));
        match arg.as_str() {
            "--quick" => options.rounds = 5,
            "--alone" => options.alone = true,
            "--json" => options.json = Some(file()?),
            // Cargo's.
            "--bench" => {}
            // `cargo test --benches` runs this too: it has nothing to test.
            "--test" => std::process::exit(0),
            _ => {
                return Err(format!("unknown argument {arg}; known: --quick, --alone, --json FILE"));
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
    match &options.json {
        Some(path) => {
            std::fs::write(path, report.json()).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => Ok(()),
    }
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
