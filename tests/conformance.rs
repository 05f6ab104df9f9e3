//! The lab's conformance suite on our driver: linked natively, and the image.

mod control;

use ndis_lab::conformance::{Report, Subject, Suite, Verdict};

/// Cases that do not apply to the driver, by name: it does not claim what they are about.
const NOT_APPLICABLE: &[&str] = &[
    // It drops frames that it has no buffer for.
    "low-resources",
    // It has no device of its own for programs.
    "control-devices",
    // It has nothing to do when the machine crashes.
    "shutdown-bugcheck",
    "bugcheck-callbacks",
    // It does ESP in transport mode.
    "ah-and-esp",
    "transport-over-tunnel",
    // It can be without.
    "reset",
    // It offloads neither.
    "send-checksums",
    "receive-checksums",
    "large-sends",
    "large-sends-malformed",
    "large-sends-under-esp",
];

fn subject(mut subject: Subject) -> Subject {
    subject.keywords.set("SegmentId", "7").set("SaOffloadCapacity", "64");
    subject
}

fn judge(report: &Report) {
    let failures: Vec<String> = report
        .failures()
        .map(|report| {
            let Verdict::Failed(failure) = &report.verdict else { return String::new() };
            format!("{} [{}]\n  {}", report.case.id, report.case.page, failure.lines().join("\n  "))
        })
        .collect();
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    let others: Vec<&str> = report
        .cases
        .iter()
        .filter(|report| matches!(report.verdict, Verdict::NotApplicable(_)))
        .map(|report| report.case.id)
        .collect();
    for id in &others {
        assert!(NOT_APPLICABLE.contains(id), "{id} should apply");
    }
    assert!(report.cases.len() - others.len() >= 65, "{} cases applied", report.cases.len() - others.len());
}

#[test]
fn the_native_driver_conforms() {
    // SAFETY: the entry point of a miniport driver, which keeps the contract of one.
    let native = unsafe { Subject::native(ipsecnic::DriverEntry, "ipsecnic") };
    judge(&Suite::new(subject(native)).run(&mut |_| {}));
}

#[test]
fn the_image_conforms() {
    let Some(path) = control::image_file() else { return };
    let image = Subject::file(&path).unwrap_or_else(|error| panic!("IPSECNIC_IMAGE: {error}"));
    judge(&Suite::new(subject(image)).run(&mut |_| {}));
}
