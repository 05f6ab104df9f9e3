//! The table against its peers: time per lookup, ratios, writers' rate, and what deletion lists cost.
//!
//! ```text
//! cargo bench -p sa-table [-- [--quick] [--alone] [--only NAME]... [--size N]... [--json FILE]]
//! ```
//!
//! All peers of a row take turns in many short rounds, so that a disturbance hits all of them. What is printed is the median of
//! the rounds; the ratio is the median of the ratios to the row's first table in the same round. Takes about a minute;
//! `--quick` half of that; `--alone` measures only lookups; `--only` leaves out the tables without this in their names, but for the
//! first, and `--size` the other numbers of entries: to look at one change. `cargo xtask bench sa` runs all of it and judges it.

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
    only: Vec<String>,
    sizes: Vec<u64>,
    json: Option<PathBuf>,
}

impl Options {
    /// Whether a table with this name takes part.
    fn measures(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Whether tables with so many entries are measured.
    fn measures_size(&self, entries: u64) -> bool {
        self.sizes.is_empty() || self.sizes.contains(&entries)
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { rounds: 9, alone: false, only: vec![], sizes: vec![], json: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut next = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => options.rounds = 5,
            "--alone" => options.alone = true,
            "--only" => options.only.push(next()?),
            "--size" => options.sizes.push(next()?.parse().map_err(|_| format!("{arg} needs a number"))?),
            "--json" => options.json = Some(PathBuf::from(next()?)),
            // Cargo's.
            "--bench" => {}
            // `cargo test --benches` runs this too: it has nothing to test.
            "--test" => std::process::exit(0),
            _ => {
                return Err(format!(
                    "unknown argument {arg}; known: --quick, --alone, --only NAME, --size N, --json FILE"
                ));
            }
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    let mut report = Report::default();
    scenarios::run(options, &mut report);
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
