//! `lab demo`: a driver protects real traffic, and everything about it is checked.
//!
//! The steps, each a module: what the driver advertises (`advertised`), what is to be carried (`plan`), the
//! stations on their segment (`stations`), their security associations (`associations`), the packets
//! (`traffic`, `secrecy`), forgeries and stale handles (`probes`), what the monitor saw (`wire`), and the end.
//! `report` holds the result, [`show`] prints it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use etherparse::IpNumber;
use ndis_lab::transport::Algorithm;
use ndis_lab::{Driver, Lab, LabError};

use crate::input::{Capture, DEFAULT_CAPTURE, DEFAULT_CAPTURE_NAME, InputError};
use crate::source::{DriverSource, SourceError};

mod advertised;
mod associations;
mod plan;
mod probes;
mod report;
mod secrecy;
pub mod show;
mod stations;
mod traffic;
mod wire;

pub(crate) use stations::encapsulation;
pub(crate) use traffic::{indicated, offloaded};

pub use report::{Association, Check, Report, Row, Section, Traffic, Value};

use associations::Associations;
use plan::{Judged, Plan};
use stations::Stations;
use wire::WireFiles;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The driver.
    pub driver: DriverSource,
    /// The capture to carry; `None` for the one that is built in.
    pub input: Option<PathBuf>,
    /// Where to write the capture of the wire; `esp_sa` goes into the same folder.
    pub output: PathBuf,
    /// Seed of keys, SPIs, IVs and MDL splits.
    pub seed: u64,
    /// The algorithm of the SAs.
    pub algorithm: AlgorithmChoice,
}

/// The algorithm of the SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AlgorithmChoice {
    /// AES-GCM-128 for all
    Gcm128,
    /// AES-GCM-192 for all
    Gcm192,
    /// AES-GCM-256 for all
    Gcm256,
    /// One after the other, pair by pair
    Mixed,
}

impl fmt::Display for AlgorithmChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gcm128 => "gcm128",
            Self::Gcm192 => "gcm192",
            Self::Gcm256 => "gcm256",
            Self::Mixed => "mixed",
        })
    }
}

/// Watches a demo.
pub trait Observer {
    /// A step begins.
    fn step(&mut self, title: &str);
    /// Something is known; may have several lines.
    fn note(&mut self, text: &str);
    /// What the driver advertised.
    fn tables(&mut self, sections: &[Section]);
    /// `done` of `total` packets are through.
    fn progress(&mut self, done: u64, total: u64);
}

/// Watches in silence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn tables(&mut self, _: &[Section]) {}
    fn progress(&mut self, _: u64, _: u64) {}
}

/// Why a demo could not be tried. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The driver cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The capture cannot be used.
    #[error("{0}: {1}")]
    Input(String, InputError),
    /// Nothing in the capture can be carried.
    #[error("{0}: none of its {1} packets can be carried: {2}")]
    NothingToCarry(String, usize, String),
    /// The driver does not offload what the demo needs.
    #[error("{0}: the driver does not offer {1}")]
    NotOffered(String, String),
    /// The output cannot be written.
    #[error("cannot write {path}: {1}", path = .0.display())]
    Output(PathBuf, std::io::Error),
    /// The capture of the wire would take the place of the capture that is carried.
    #[error("{path}: this is the input, and would be overwritten", path = .0.display())]
    OutputIsInput(PathBuf),
    /// The capture and the table that decrypts it would be one file.
    #[error("{path}: this name is the key table's, which is written beside the capture", path = .0.display())]
    OutputIsKeyTable(PathBuf),
}

/// Why a step did not end as it should.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// The lab could not go on.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The driver did something else than asked for.
    #[error("{0}")]
    Driver(String),
    /// The driver does not offer what the demo needs: nothing was tried.
    #[error("{0}")]
    NotOffered(String),
    /// The capture of the wire could not be written.
    #[error("{path}: {1}", path = .0.display())]
    Output(PathBuf, std::io::Error),
}

/// What the stations carry: IP packets of up to this many bytes, with `*JumboPacket` 9014.
const MTU: usize = stations::JUMBO_PACKET as usize - ndis_lab::transport::ETHERNET_HEADER_LENGTH;

/// Runs the demo.
///
/// # Errors
/// [`DemoError`] if it could not be tried. What the driver did wrong is in [`Report::failures`] instead.
pub fn run(options: &Options, observer: &mut dyn Observer) -> Result<Report, DemoError> {
    run_with(|| options.driver.load(), options, observer)
}

/// Runs the demo with a driver that `load` gives, in a lab that it has prepared.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    load: impl FnOnce() -> Result<(Lab, Driver), SourceError>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Report, DemoError> {
    let (name, capture) = read(options.input.as_deref())?;
    let judged = plan::judge(&capture, MTU);
    if judged.carried.is_empty() {
        return Err(DemoError::NothingToCarry(name, capture.len(), reasons(&judged)));
    }
    let mut report = Report {
        driver: options.driver.to_string(),
        input: name,
        output: options.output.display().to_string(),
        esp_sa: wire::esp_sa_path(&options.output).display().to_string(),
        seed: options.seed,
        captured: capture.len() as u64,
        ..Report::default()
    };

    observer.step(&format!("load {}", report.driver));
    let (lab, driver) = load()?;
    if let Some(registered) = driver.registered() {
        let (major, minor) = (registered.ndis_version >> 16, registered.ndis_version & 0xffff);
        observer.note(&format!("DriverEntry registered an NDIS {major}.{minor} miniport"));
    }
    let mut files = match WireFiles::create(options.input.as_deref(), &options.output) {
        Ok(files) => files,
        Err(error) => {
            // Nothing was tried, so nothing is judged either.
            let _ = driver.unload();
            return Err(error);
        }
    };
    let outcome = carry(&driver, judged, options, &mut files, &mut report, observer);
    match outcome {
        Ok(()) => {}
        Err(StepError::NotOffered(what)) => return Err(DemoError::NotOffered(report.driver, what)),
        Err(StepError::Output(path, error)) => return Err(DemoError::Output(path, error)),
        Err(other) => report.fail(other.to_string()),
    }
    files.finish()?;

    observer.step("unload, and take the census");
    if let Err(error) = driver.unload() {
        report.fail(format!("unload: {error}"));
    }
    census(&lab, &mut report);
    let failures = report.failures.len();
    observer.note(&format!(
        "left over: {}; broken rules: {}; failures: {failures}",
        report.census.len(),
        report.violations.len()
    ));
    report.passed = report.failures.is_empty();
    Ok(report)
}

/// Everything between DriverEntry and DriverUnload.
fn carry(
    driver: &Driver,
    judged: Judged,
    options: &Options,
    files: &mut WireFiles,
    report: &mut Report,
    observer: &mut dyn Observer,
) -> Result<(), StepError> {
    observer.step("start two adapters and a monitor on one Ethernet segment");
    let stations = Stations::start(driver, judged.slots())?;
    let outcome = protect(&stations, judged, options, files, report, observer);
    observer.step("pause and halt the adapters");
    match (outcome, stations.stop()) {
        (Ok(()), stopped) => Ok(stopped?),
        // What comes after the first failure may only be its consequence.
        (failed, _) => failed,
    }
}

/// Everything while the adapters run.
fn protect(
    stations: &Stations,
    judged: Judged,
    options: &Options,
    files: &mut WireFiles,
    report: &mut Report,
    observer: &mut dyn Observer,
) -> Result<(), StepError> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    observer.note(&Stations::describe());
    let adapter = &stations.adapters[0];
    if let Some(registered) = adapter.driver().registered() {
        report.advertised = advertised::tables(&registered, &adapter.attributes());
    }
    observer.tables(&report.advertised);
    let capacity = stations.offered(&algorithms(options.algorithm))?;

    observer.step("add security associations by direct OID");
    stations.configure()?;
    let Plan { sas, packets, not_carried, protocols, checksums_filled } =
        judged.plan(capacity, options.algorithm, &mut random);
    report.not_carried = not_carried.iter().map(|(reason, count)| (reason.to_string(), *count)).collect();
    report.protocols = protocols.iter().map(|(number, count)| (protocol_name(*number), *count)).collect();
    report.checksums_filled = checksums_filled;
    files.esp_sa(sas.iter().map(|sa| &sa.parameters))?;
    let mut associations = Associations::add(stations, sas, &mut random, report)?;
    observer.note(&format!(
        "{} SAs on each adapter; each is outbound on one and inbound on the other",
        report.associations.len()
    ));

    observer.step(&format!("carry {} packets", packets.len()));
    traffic::carry(stations, &mut associations, &packets, files, &mut random, report, observer)?;
    observer.note(&format!(
        "{} packets came out at the other adapter as they went in; {} failed",
        report.traffic.delivered, report.traffic.failed
    ));
    observer.note(&show::associations(report));
    probes::statistics(stations, report)?;
    probes::forgeries(stations, &mut associations, files, report)?;

    observer.step("delete the security associations with linked lists, and use a stale handle");
    let deleted = associations.delete(stations, &mut random)?;
    observer.note(&format!("{} handles deleted in {} lists", deleted.handles, deleted.lists));
    probes::after_deletion(stations, &mut associations, files, &packets, report)?;
    Ok(())
}

fn read(input: Option<&Path>) -> Result<(String, Capture), DemoError> {
    let (name, capture) = match input {
        Some(path) => (path.display().to_string(), Capture::read(path)),
        None => (DEFAULT_CAPTURE_NAME.to_owned(), Capture::from_bytes(DEFAULT_CAPTURE.to_vec())),
    };
    match capture {
        Ok(capture) => Ok((name, capture)),
        Err(error) => Err(DemoError::Input(name, error)),
    }
}

/// The reasons of packets that are not carried, in one line.
fn reasons(judged: &Judged) -> String {
    let texts: Vec<_> =
        judged.not_carried.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.join("; ")
}

fn algorithms(choice: AlgorithmChoice) -> Vec<Algorithm> {
    match choice {
        AlgorithmChoice::Gcm128 => vec![Algorithm::AesGcm128],
        AlgorithmChoice::Gcm192 => vec![Algorithm::AesGcm192],
        AlgorithmChoice::Gcm256 => vec![Algorithm::AesGcm256],
        AlgorithmChoice::Mixed => Algorithm::ALL.to_vec(),
    }
}

fn protocol_name(number: u8) -> String {
    match IpNumber(number) {
        IpNumber::ICMP => "ICMP".into(),
        IpNumber::TCP => "TCP".into(),
        IpNumber::UDP => "UDP".into(),
        other => match other.keyword_str() {
            Some(name) => format!("{name} (IP protocol {number})"),
            None => format!("IP protocol {number}"),
        },
    }
}

/// What is left, and which rules were broken.
fn census(lab: &Lab, report: &mut Report) {
    let census = lab.census();
    report.census = census.lines();
    let empty = if census.is_empty() { Ok(census.to_string()) } else { Err(census.to_string()) };
    report.check("nothing is left after DriverUnload: no pool memory, NBL, OID or SA", empty);
    report.violations = lab.violations().iter().map(ToString::to_string).collect();
    let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in lab.violations() {
        *by_rule.entry(violation.rule.id).or_insert(0) += 1;
    }
    let broken = match by_rule.iter().map(|(rule, count)| format!("{rule} ({count})")).collect::<Vec<_>>() {
        rules if rules.is_empty() => Ok("none broken".to_owned()),
        rules => Err(format!("{}; the first: {}", rules.join(", "), report.violations[0])),
    };
    report.check("every rule of NDIS and the kernel that the lab checks", broken);
}
