//! Drivers that break rules without any fault: what is known of them is passed over, and what is new stands out.

#[path = "../../ndis-lab/tests/mini/mod.rs"]
mod mini;

use std::sync::atomic::Ordering;
use std::time::Duration;

use lab::faults::{self, Report};
use lab::fuzz;
use lab::life::Subject;
use lab::source::{DriverSource, Linked};
use mini::Defect;
use ndis_lab::conformance::{Subject as Suited, Suite, Verdict};
use ndis_lab::rules::{Known, KnownRules};
use ndis_sys::{ExAllocatePool2, ExFreePoolWithTag, NDIS_HANDLE, POOL_FLAG_NON_PAGED};
use std::sync::{Mutex, PoisonError};

/// One test at a time: the script lies in a variable of the driver.
static TURN: Mutex<()> = Mutex::new(());

/// What the small miniport plays in MiniportInitializeEx: a block with no tag.
unsafe fn untagged(_: NDIS_HANDLE) {
    // SAFETY: an allocation, freed at once if there is one.
    unsafe {
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 32, 0);
        if !block.is_null() {
            ExFreePoolWithTag(block, 0);
        }
    }
}

fn with_script<T>(run: impl FnOnce() -> T) -> T {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    mini::SCRIPT.store(untagged as unsafe fn(NDIS_HANDLE) as usize, Ordering::Relaxed);
    run()
}

fn known(names: &[&str]) -> KnownRules {
    KnownRules::new(names.iter().map(|name| name.parse::<Known>().unwrap()))
}

fn subject(defect: Defect, names: &[&str]) -> Subject {
    // SAFETY: the entry point of the small miniport; what it breaks the lab survives.
    let linked = unsafe { Linked::new("mini", mini::entry(defect)) };
    Subject { known: known(names), ..Subject::new(DriverSource::Linked(linked)) }
}

fn faults(subject: Subject) -> Report {
    faults::run(&faults::Options { random: 6, ..faults::Options::new(subject) }, |_, _| {})
}

fn times(known: &KnownRules) -> Vec<u64> {
    known.times().map(|(_, times)| times).collect()
}

#[test]
fn what_breaks_without_a_fault_is_told_once_and_faults_are_tried() {
    let report = with_script(|| faults(subject(Defect::None, &[])));
    let shown = faults::show(&report, true);
    assert!(!report.passed && report.tried, "{shown}");
    assert!(report.broken_without_faults.iter().any(|line| line.starts_with("pool-tag-zero")), "{shown}");
    assert!(report.rows.len() >= 8 && report.broken().next().is_none(), "{shown}");
    assert!(report.random_lives == 6 && report.random_broken.is_empty(), "{shown}");
    assert!(shown.contains("BROKE WITHOUT ANY FAULT:\n   pool-tag-zero"), "{shown}");
}

#[test]
fn what_is_new_with_a_fault_stands_out_from_what_is_not() {
    let report = with_script(|| faults(subject(Defect::LeakOnFailure, &[])));
    let shown = faults::show(&report, true);
    assert!(report.tried && !report.broken_without_faults.is_empty(), "{shown}");
    assert!(report.broken().next().is_some(), "{shown}");
    for row in report.broken() {
        assert!(row.broken.iter().any(|what| what.contains("leak-")), "{shown}");
        assert!(!row.broken.iter().any(|what| what.contains("pool-tag-zero")), "{shown}");
    }
    assert!(shown.contains("BROKE in another way"), "{shown}");
}

#[test]
fn a_driver_that_breaks_only_what_is_known_passes() {
    let subject = subject(Defect::None, &["pool-tag-zero", "lock-order"]);
    let report = with_script(|| faults(subject.clone()));
    assert!(report.passed && report.broken_without_faults.is_empty(), "{}", faults::show(&report, true));
    assert!(times(&subject.known)[0] > 8 && times(&subject.known)[1] == 0);
    assert!(
        report.known[0].contains("pool-tag-zero") && report.known[1].contains("did not break"),
        "{:?}",
        report.known
    );
    // What is told otherwise is not known.
    let other = self::subject(Defect::None, &["pool-tag-zero:NdisAllocate"]);
    assert!(!with_script(|| faults(other)).passed);
}

#[test]
fn a_stop_without_a_fault_leaves_nothing_to_try() {
    let report = with_script(|| faults(subject(Defect::BugCheckInOid, &["pool-tag-zero"])));
    let shown = faults::show(&report, true);
    assert!(!report.passed && !report.tried && report.rows.is_empty() && report.random_lives == 0, "{shown}");
    assert!(shown.contains("bugcheck 0xe2") && shown.contains("none was tried"), "{shown}");
}

#[test]
fn scripts_and_cases_pass_over_what_is_known() {
    let fuzzed = |names: &[&str]| {
        let subject = subject(Defect::None, names);
        let options =
            fuzz::Options { subject, limit: Duration::from_mins(1), seed: 1, steps: 20, scripts: 3 };
        fuzz::run(&options, |_, _| {}).unwrap()
    };
    let judged = |names: &[&str]| {
        // SAFETY: as above.
        let mut subject = unsafe { Suited::native(mini::entry(Defect::None), "mini") };
        subject.known = known(names);
        let report = Suite::new(subject).filter(["attribute-order", "many-lives"]).run(&mut |_| {});
        assert_eq!(report.cases.len(), 2);
        report.cases.iter().all(|case| matches!(case.verdict, Verdict::Passed))
    };
    with_script(|| {
        assert_eq!(fuzzed(&[]).script.unwrap().failure.rule, "pool-tag-zero");
        assert!(fuzzed(&["pool-tag-zero"]).passed);
        assert!(!judged(&[]) && judged(&["pool-tag-zero"]));
    });
}
