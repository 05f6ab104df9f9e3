//! The conformance suite: what the Windows driver documentation asks of an NDIS 6 Ethernet miniport, as cases
//! that any driver can be put through, image or native.
//!
//! A [`Case`] states the page that it checks, what a driver must have for it to apply, and the area of
//! Microsoft's own test (NDISTest, HLK) that covers the same ground. Each runs on a machine of its own, and
//! fails also if the lab recorded a broken rule on the way or the driver left something behind.
//! `crates/ndis-lab/tests/mutants.rs` shows for every case a driver that it fails.
//!
//! - [`Subject`]: the driver under test and how its adapters are installed
//! - [`Suite`]: selects and runs cases; [`Report`] is what came out
//! - `context`: what a case works with; `station`: frames and adapters that share a wire
//! - `cases`: the cases, by area; `peer`: an ESP implementation that is not the driver's

mod cases;
mod context;
mod facts;
mod peer;
mod run;
mod station;

use std::fmt;
use std::time::Duration;

use crate::error::LabError;
use crate::rules::{self, Violation};

pub use facts::Need;
pub use run::{Subject, Suite};

use context::Context;

/// One case of the suite.
pub struct Case {
    /// Its number in the plan of the suite; cases of one subject share it.
    pub number: u16,
    /// Short, stable name: `paused-sends`.
    pub id: &'static str,
    /// The job of NDISTest or of the HLK that covers the same ground.
    pub area: &'static str,
    /// What a driver that passes does, as a sentence.
    pub title: &'static str,
    /// The page of the Windows driver documentation (its last path element).
    pub page: &'static str,
    /// What a driver must have for the case to apply.
    pub needs: &'static [Need],
    run: fn(&Context) -> Outcome,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("number", &self.number).field("id", &self.id).finish_non_exhaustive()
    }
}

/// All cases, in the order in which they run.
pub fn cases() -> Vec<&'static Case> {
    cases::all()
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The driver does what the page says.
    Passed,
    /// The driver does not claim what the case is about; the text says what it lacks.
    NotApplicable(String),
    /// It does not.
    Failed(Failure),
}

/// Why a case failed. At least one part is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// What was seen, and what was expected.
    pub seen: Option<String>,
    /// Rules that were broken on the way.
    pub violations: Vec<Violation>,
    /// What the driver still held when it was unloaded.
    pub left: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report().join("\n"))
    }
}

impl Failure {
    /// All that is known, for people: as [`rules::summary`] tells it.
    pub fn report(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.seen.iter().cloned().collect();
        lines.extend(
            rules::summary(&self.violations)
                .into_iter()
                .map(|line| if line.starts_with(' ') { line } else { format!("rule {line}") }),
        );
        lines.extend(self.left.iter().map(|line| format!("left behind: {line}")));
        lines
    }

    /// One line for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        let seen = self.seen.iter().cloned();
        let violations = self.violations.iter().map(|violation| format!("rule {violation}"));
        let left = self.left.iter().map(|line| format!("left behind: {line}"));
        seen.chain(violations).chain(left).collect()
    }
}

/// A case that was run.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// The case.
    pub case: &'static Case,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub duration: Duration,
}

/// What a run of the suite gave.
#[derive(Debug, Clone)]
pub struct Report {
    /// The cases in their order.
    pub cases: Vec<CaseReport>,
    /// How long the whole run took.
    pub duration: Duration,
}

impl Report {
    /// Whether no case failed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|report| matches!(report.verdict, Verdict::Failed(_)))
    }
}

/// Why a case ended before its end.
#[derive(Debug)]
enum Stop {
    /// It does not apply.
    NotApplicable(String),
    /// The driver failed it.
    Failed(String),
    /// Broken rules or remains of another machine say what is wrong.
    Found,
}

/// What a case returns.
type Outcome<T = ()> = Result<T, Stop>;

impl From<LabError> for Stop {
    fn from(error: LabError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Fails the case unless a condition holds.
macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Stop::Failed(format!($($text)+)));
        }
    };
}
use check;

/// A status by name, for messages.
fn status_text(status: i32) -> String {
    let names = [
        (ndis_sys::NDIS_STATUS_SUCCESS, "SUCCESS"),
        (ndis_sys::NDIS_STATUS_PENDING, "PENDING"),
        (ndis_sys::NDIS_STATUS_NOT_ACCEPTED, "NOT_ACCEPTED"),
        (ndis_sys::NDIS_STATUS_FAILURE, "FAILURE"),
        (ndis_sys::NDIS_STATUS_RESOURCES, "RESOURCES"),
        (ndis_sys::NDIS_STATUS_NOT_SUPPORTED, "NOT_SUPPORTED"),
        (ndis_sys::NDIS_STATUS_INVALID_LENGTH, "INVALID_LENGTH"),
        (ndis_sys::NDIS_STATUS_INVALID_DATA, "INVALID_DATA"),
        (ndis_sys::NDIS_STATUS_INVALID_PARAMETER, "INVALID_PARAMETER"),
        (ndis_sys::NDIS_STATUS_INVALID_OID, "INVALID_OID"),
        (ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT, "BUFFER_TOO_SHORT"),
        (ndis_sys::NDIS_STATUS_MULTICAST_FULL, "MULTICAST_FULL"),
        (ndis_sys::NDIS_STATUS_REQUEST_ABORTED, "REQUEST_ABORTED"),
        (ndis_sys::NDIS_STATUS_RESET_IN_PROGRESS, "RESET_IN_PROGRESS"),
        (ndis_sys::NDIS_STATUS_SEND_ABORTED, "SEND_ABORTED"),
        (ndis_sys::NDIS_STATUS_PAUSED, "PAUSED"),
        (ndis_sys::NDIS_STATUS_LOW_POWER_STATE, "LOW_POWER_STATE"),
    ];
    names.iter().find(|(value, _)| *value == status).map_or_else(
        || format!("status {:#010x}", status.cast_unsigned()),
        |(_, name)| format!("NDIS_STATUS_{name}"),
    )
}
