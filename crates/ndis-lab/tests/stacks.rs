//! A bugcheck and a trap are shown with the driver's call stack, by name.
#![cfg(target_os = "linux")]

mod mini;

use mini::Defect;
use ndis_lab::{AdapterConfig, BugCheck, Lab, LabError, Oid};

fn stop(defect: Defect) -> BugCheck {
    let lab = Lab::new();
    // SAFETY: the entry point of the small miniport; its mutants break rules that the lab survives.
    let driver = unsafe { lab.load_native(mini::entry(defect), "mini") }.unwrap();
    let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
    match adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 4)).unwrap_err() {
        LabError::BugCheck(bugcheck) => *bugcheck,
        error => panic!("{error}"),
    }
}

#[test]
fn the_stack_of_a_stop_leads_from_the_handler_to_the_culprit() {
    for defect in [Defect::BugCheckInOid, Defect::WildAccess, Defect::IllegalInstruction] {
        let bugcheck = stop(defect);
        let report = bugcheck.report();
        let line = |what: &str| report.lines().position(|line| line.contains(what));
        let (inner, outer) = (line("mini::oids::answer"), line("mini::oids::oid_request"));
        assert!(inner.is_some() && inner < outer, "{defect:?}: {report}");
        assert!(report.contains("mini/oids.rs:"), "{report}");
        // The lab's own frames are not the driver's.
        assert!(!report.contains("ndis_lab::") && !report.contains("KeBugCheckEx ("), "{report}");
        assert_eq!(bugcheck.stack, stop(defect).stack);
    }
}

#[test]
fn an_exhausted_stack_is_reported_without_being_walked() {
    let bugcheck = stop(Defect::EndlessRecursion);
    assert_eq!(bugcheck.code, 0x7f);
    assert!(bugcheck.stack.frames().is_empty());
}
