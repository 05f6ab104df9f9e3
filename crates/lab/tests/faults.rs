//! `lab faults` and `lab fuzz` find nothing in our driver, and what is wrong with drivers that were made wrong.

#[path = "common/mod.rs"]
mod common;
#[path = "../../ndis-lab/tests/mini/mod.rs"]
mod mini;

use std::time::Duration;

use lab::faults::{self, Report};
use lab::fuzz::{self, Script};
use lab::life::Subject;
use lab::source::{DriverSource, Linked};
use mini::Defect;

fn mutant(defect: Defect) -> Subject {
    // SAFETY: the entry point of the small miniport; its mutants break rules that the lab survives.
    Subject::new(DriverSource::Linked(unsafe { Linked::new("mini", mini::entry(defect)) }))
}

fn faults(subject: Subject) -> Report {
    let options = faults::Options { random: 24, ..faults::Options::new(subject) };
    faults::run(&options, |_, _| {})
}

fn fuzz(subject: Subject, scripts: u64, seconds: u64) -> fuzz::Report {
    let limit = Duration::from_secs(seconds);
    let options = fuzz::Options { subject, limit, seed: 1, steps: 200, scripts };
    fuzz::run(&options, |_, _| {}).unwrap()
}

fn nothing_breaks(report: &Report) {
    assert!(report.passed && !report.incomplete, "{}", faults::show(report, true));
    // Allocations, attributes, settings, mappings: far more than these, and each was tried.
    let functions = report.by_function();
    for function in ["ExAllocatePool2", "NdisMSetMiniportAttributes", "MmMapLockedPagesSpecifyCache"] {
        assert!(functions.contains_key(function), "{functions:?}");
    }
    assert!(
        report.rows.len() >= 25 && report.rows.len() >= report.sites - report.beyond_depth,
        "{report:#?}"
    );
    assert!(report.random_faults > 24);
    // Every stack leads to one of the driver's handlers, and a failed allocation shows.
    assert!(report.rows.iter().all(|row| !row.stack.is_empty()), "{report:#?}");
    assert!(report.rows.iter().filter(|row| !row.failed.is_empty()).count() >= 15, "{report:#?}");
}

#[test]
fn no_failing_call_breaks_the_native_driver() {
    nothing_breaks(&faults(Subject::new(DriverSource::Native)));
}

#[test]
fn no_failing_call_breaks_the_image_and_its_stacks_have_names() {
    let Some(image) = common::image() else { return };
    let pdb = image.with_extension("pdb").is_file();
    let report = faults(Subject::new(DriverSource::Image(image)));
    nothing_breaks(&report);
    if pdb {
        let named = |row: &faults::Row| row.stack.iter().any(|line| line.contains("ndis::callbacks::"));
        assert!(report.rows.iter().filter(|row| named(row)).count() >= 20, "{report:#?}");
    }
}

#[test]
fn a_good_small_driver_does_not_break() {
    let report = faults(mutant(Defect::None));
    assert!(report.passed && report.rows.len() >= 8, "{}", faults::show(&report, true));
}

#[test]
fn a_leak_on_a_failing_path_is_found_where_it_happens() {
    let report = faults(mutant(Defect::LeakOnFailure));
    assert!(!report.passed && report.broken_without_faults.is_empty());
    let broken: Vec<_> = report.broken().collect();
    assert!(!broken.is_empty());
    for row in &broken {
        assert!(row.broken.iter().any(|what| what.contains("leak-")), "{row:#?}");
        assert!(row.stack.iter().any(|line| line.contains("mini::initialize")), "{row:#?}");
    }
    // What fails before there is anything to leak does not break.
    assert!(report.rows.iter().any(|row| row.broken.is_empty() && row.handlers == ["MiniportInitializeEx"]));
}

#[test]
fn scripts_break_neither_the_native_driver_nor_the_image() {
    let report = fuzz(Subject::new(DriverSource::Native), 12, 600);
    assert!(report.passed && report.scripts == 12, "{:#?}", report.script);
    if let Some(image) = common::image() {
        let report = fuzz(Subject::new(DriverSource::Image(image)), 8, 600);
        assert!(report.passed && report.scripts == 8, "{:#?}", report.script);
    }
}

/// A script that fails is small, repeats itself, and survives being written and read.
fn found_and_small(defect: Defect, rule: &str, most: usize) {
    let report = fuzz(mutant(defect), 200, 60);
    let script =
        report.script.unwrap_or_else(|| panic!("{defect:?} was not found in {} scripts", report.scripts));
    assert_eq!(script.failure.rule, rule, "{script:#?}");
    assert!(script.steps.len() <= most, "{script:#?}");
    let text = serde_json::to_string(&script).unwrap();
    let read: Script = serde_json::from_str(&text).unwrap();
    assert_eq!(read, script);
    let failure = fuzz::replay(&mutant(defect), &read).unwrap();
    assert_eq!((failure.rule, failure.step), (script.failure.rule, script.failure.step));
    assert_eq!(fuzz::replay(&mutant(Defect::None), &read), None);
}

#[test]
fn a_query_that_writes_too_far_is_found_and_made_small() {
    found_and_small(Defect::OidOverrun, "oid-overrun", 2);
}

#[test]
fn a_send_completed_twice_is_found_and_made_small() {
    found_and_small(Defect::CompleteSendTwice, "send-completed-twice", 2);
}

#[test]
fn a_bugcheck_is_found_and_made_small() {
    found_and_small(Defect::BugCheckInOid, "bugcheck 0xe2", 2);
}
