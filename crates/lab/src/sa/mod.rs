//! `lab sa`: adds security associations to an adapter, uses and deletes some, and shows its SA table by the driver's private OID
//! (`docs/oids.md`).
//!
//! - [`SaArgument`]: an SA on the command line
//! - [`script`]: what is done, line by line or made of a seed
//! - [`dump`]: the table as text and as JSON, and how two of them differ
//!
//! The machine is deterministic: a dump follows from driver, script and seed alone, handles included.

mod argument;
pub mod dump;
mod play;
pub mod script;

pub use argument::SaArgument;

use std::path::PathBuf;

use clap::Args;
use ndis_lab::{Driver, HaltAction, Lab, LabError, Oid, State};
use ndis_sys::{NDIS_STATUS_BUFFER_TOO_SHORT, NDIS_STATUS_SUCCESS};

use self::dump::{Dump, Outcome};
use self::play::Pair;
use self::script::{Plan, ScriptError, Step};
use crate::life::DriverArguments;
use crate::source::SourceError;

/// Arguments of `lab sa`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    driver: DriverArguments,
    /// What to do, one JSON document a line: add, add_list, send, update, delete (`-` is standard input)
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["count", "packets", "delete"])]
    script: Option<PathBuf>,
    /// Add so many SAs, made of the seed
    #[arg(long, value_name = "N", default_value_t = 8)]
    count: u32,
    /// Send up to so many packets through each
    #[arg(long, value_name = "N", default_value_t = 0)]
    packets: u32,
    /// Delete so many of them afterwards
    #[arg(long, value_name = "N", default_value_t = 0)]
    delete: u32,
    /// Seed of SAs, keys and choices, and of the machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON document, and nothing else, on standard output
    #[arg(long)]
    json: bool,
    /// Show how the table differs from this one, a former output of --json
    #[arg(long, value_name = "OLD.json")]
    diff: Option<PathBuf>,
}

/// Why no table can be shown.
#[derive(Debug, thiserror::Error)]
pub enum SaError {
    /// The driver cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The script cannot be used.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The other dump cannot be used.
    #[error("{path}: {1}", path = .0.display())]
    Old(PathBuf, String),
    /// The lab stopped, or an adapter does not start.
    #[error("the adapters do not work: {0}")]
    Lab(#[from] LabError),
    /// The driver does not know the OID.
    #[error("the driver shows no SA table: OID {0:#010x} ended with {1:#010x}")]
    NoTable(u32, u32),
    /// What it answers is no dump.
    #[error("the driver's SA table cannot be read: {0}")]
    Unreadable(ipsecnic::dump::DumpError),
    /// The result cannot be written as JSON.
    #[error("the result cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs `lab sa`; whether all that was asked for was done, and, with `--diff`, nothing differs.
///
/// # Errors
/// [`SaError`] if there is no table to show.
pub fn command(arguments: &Arguments, say: fn(&str)) -> Result<bool, SaError> {
    let steps = match &arguments.script {
        Some(path) => script::read(path)?,
        None => script::generate(&Plan {
            count: arguments.count,
            packets: arguments.packets,
            delete: arguments.delete,
            seed: arguments.seed,
        }),
    };
    let old = arguments.diff.as_ref().map(|path| {
        let unusable = |error: &dyn std::fmt::Display| SaError::Old(path.clone(), error.to_string());
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
        serde_json::from_str::<Dump>(&text).map_err(|error| unusable(&error))
    });
    let old = old.transpose()?;
    let outcome = run(&arguments.driver, arguments.seed, &steps)?;
    let held = outcome.held();
    let Some(old) = old else {
        say(&if arguments.json { serde_json::to_string_pretty(&outcome)? } else { outcome.to_string() });
        return Ok(held);
    };
    let changes = dump::diff(&old, &outcome.dump)?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&changes)?);
    } else {
        say(&dump::changes(&changes));
        for line in outcome.complaints() {
            say(&line);
        }
    }
    Ok(held && changes.is_empty())
}

/// Does what the steps say on a fresh machine, and takes the table before everything is taken down again.
///
/// # Errors
/// [`SaError`].
pub fn run(driver: &DriverArguments, seed: u64, steps: &[Step]) -> Result<Outcome, SaError> {
    let subject = driver.subject().map_err(SourceError::from)?;
    let (lab, driver) =
        subject.source.load_on(Lab::builder().deterministic(seed).known(&subject.known).build())?;
    let result = play(&subject, &driver, steps);
    let (dump, refused) = result?;
    driver.unload()?;
    let broken = lab.take_violations().iter().map(ToString::to_string).collect();
    let census = lab.census();
    let left = (!census.is_empty()).then(|| census.to_string());
    Ok(Outcome { driver: subject.source.to_string(), dump, refused, broken, left })
}

fn play(
    subject: &crate::life::Subject,
    driver: &Driver,
    steps: &[Step],
) -> Result<(Dump, Vec<String>), SaError> {
    let mut pair = Pair::start(subject, driver)?;
    let mut refused = Vec::new();
    for (number, step) in (1..).zip(steps) {
        for complaint in pair.play(step)? {
            refused.push(format!("step {number}: {complaint}"));
        }
    }
    let dump = take(pair.subject())?;
    for adapter in pair.adapters() {
        if adapter.state() == State::Running {
            adapter.pause()?;
        }
        adapter.halt(HaltAction::DeviceStopped)?;
    }
    Ok((dump, refused))
}

/// The table of an adapter: asked again with more room until it fits.
///
/// # Errors
/// [`SaError`].
pub fn take(adapter: &ndis_lab::Adapter) -> Result<Dump, SaError> {
    let oid = ipsecnic::dump::OID_IPSECNIC_SA_TABLE;
    let mut room = ipsecnic::dump::SUMMARY_LEN;
    loop {
        let outcome = adapter.oid(Oid::query(oid, room))?;
        match outcome.status {
            NDIS_STATUS_SUCCESS => {
                let table = ipsecnic::dump::Dump::parse(outcome.answer()).map_err(SaError::Unreadable)?;
                return Ok(Dump::new(table));
            }
            NDIS_STATUS_BUFFER_TOO_SHORT if outcome.bytes_needed as usize > room => {
                room = outcome.bytes_needed as usize;
            }
            status => return Err(SaError::NoTable(oid, status.cast_unsigned())),
        }
    }
}
