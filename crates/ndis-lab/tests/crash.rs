//! What a bug check calls: the shutdown handler, and the callbacks that drivers registered, once, whatever goes wrong in the
//! others.

// Routines of a driver as one writes it in C.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::borrow_as_ptr)]
#![allow(clippy::cast_ptr_alignment, clippy::doc_markdown)]

mod mini;

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use mini::Defect;
use ndis_lab::rules::{self, Rule};
use ndis_lab::{Adapter, AdapterConfig, BugCheck, HaltAction, Lab, LabError, Oid};
use ndis_sys::*;
use parking_lot::{Mutex, MutexGuard};

unsafe extern "win64" {
    fn KeRegisterBugCheckCallback(
        record: *mut u64,
        routine: PVOID,
        buffer: PVOID,
        length: ULONG,
        component: *const u8,
    ) -> BOOLEAN;
    fn KeRegisterBugCheckReasonCallback(
        record: *mut u64,
        routine: PVOID,
        reason: i32,
        component: *const u8,
    ) -> BOOLEAN;
    fn KeDeregisterBugCheckCallback(record: *mut u64) -> BOOLEAN;
    fn KeDeregisterBugCheckReasonCallback(record: *mut u64) -> BOOLEAN;
}

/// Records lie in the driver's data.
struct Record(UnsafeCell<[u64; 8]>);

// SAFETY: touched by the driver of one test at a time: see `Turn`.
unsafe impl Sync for Record {}

static FIRST: Record = Record(UnsafeCell::new([0; 8]));
static SECOND: Record = Record(UnsafeCell::new([0; 8]));

static CALLS: AtomicU32 = AtomicU32::new(0);
static IRQL: AtomicU32 = AtomicU32::new(0);
static BUFFER: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
/// How the second callback is registered: for a reason, or 0 for a plain one.
static REASON: AtomicU32 = AtomicU32::new(0);

/// One test at a time: the driver's data exists once.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock();
    CALLS.store(0, Ordering::SeqCst);
    for record in [&FIRST, &SECOND] {
        // SAFETY: no driver runs.
        unsafe { *record.0.get() = [0; 8] };
    }
    guard
}

/// The good one: fills its buffer.
unsafe extern "win64" fn note(buffer: *mut usize, length: ULONG) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    IRQL.store(KeGetCurrentIrql().into(), Ordering::SeqCst);
    buffer.write(length as usize);
}

unsafe extern "win64" fn fault(_buffer: *mut usize, _length: ULONG) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    std::hint::black_box(0x10 as *const u64).read_volatile();
}

unsafe extern "win64" fn allocate(_buffer: *mut usize, _length: ULONG) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, 1);
    CALLS.fetch_add(100, Ordering::SeqCst);
}

/// For a reason: tells what it was given, and for secondary dump data fills the buffer.
unsafe extern "win64" fn reason(reason: i32, record: *mut u64, data: *mut u8, length: ULONG) {
    assert_eq!(record, SECOND.0.get().cast::<u64>());
    CALLS.fetch_add(1, Ordering::SeqCst);
    BUFFER[0].store(reason.unsigned_abs() as usize, Ordering::SeqCst);
    BUFFER[1].store(length as usize, Ordering::SeqCst);
    if reason == 2 {
        let buffer = data.cast::<*mut u8>().read();
        buffer.write_bytes(0x5a, data.add(8).cast::<u32>().read() as usize);
        data.add(32).cast::<*mut u8>().write(buffer);
        data.add(40).cast::<u32>().write(data.add(8).cast::<u32>().read());
    }
}

static ROUTINE: AtomicUsize = AtomicUsize::new(0);

/// Within MiniportInitializeEx.
unsafe fn register(_: NDIS_HANDLE) {
    let buffer = BUFFER.as_ptr().cast_mut().cast();
    let routine = ROUTINE.load(Ordering::Relaxed) as PVOID;
    let first = FIRST.0.get().cast();
    assert_eq!(KeRegisterBugCheckCallback(first, routine, buffer, 32, c"first".as_ptr().cast()), 1);
    // A record that is registered is not registered again.
    assert_eq!(KeRegisterBugCheckCallback(first, routine, buffer, 32, c"first".as_ptr().cast()), 0);
    let (second, name) = (SECOND.0.get().cast(), c"second".as_ptr().cast());
    match REASON.load(Ordering::Relaxed).cast_signed() {
        0 => assert_eq!(KeRegisterBugCheckCallback(second, note as *const () as PVOID, buffer, 32, name), 1),
        kind => {
            assert_eq!(KeRegisterBugCheckReasonCallback(second, reason as *const () as PVOID, kind, name), 1);
        }
    }
}

unsafe fn deregister() {
    assert_eq!(KeDeregisterBugCheckCallback(FIRST.0.get().cast()), 1);
    assert_eq!(KeDeregisterBugCheckCallback(FIRST.0.get().cast()), 0);
    let second = SECOND.0.get().cast();
    if REASON.load(Ordering::Relaxed) == 0 {
        KeDeregisterBugCheckCallback(second);
    } else {
        KeDeregisterBugCheckReasonCallback(second);
    }
}

fn load(lab: &Lab, defect: Defect, routine: usize, reason: u32) -> (ndis_lab::Driver, Adapter) {
    ROUTINE.store(routine, Ordering::Relaxed);
    REASON.store(reason, Ordering::Relaxed);
    mini::SCRIPT.store(register as *const () as usize, Ordering::Relaxed);
    // SAFETY: the entry point of the small miniport, whose defect the lab survives.
    let driver = unsafe { lab.load_native(mini::entry(defect), "crash") }.unwrap();
    let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
    (driver, adapter)
}

/// Crashes the machine in an OID request.
fn crash(routine: usize) -> (Lab, Box<BugCheck>) {
    let lab = Lab::new();
    let (_driver, adapter) = load(&lab, Defect::BugCheckInOid, routine, 0);
    let error = adapter.oid(Oid::query(OID_GEN_VENDOR_ID, 4)).unwrap_err();
    let LabError::BugCheck(bugcheck) = error else { panic!("{error}") };
    assert_eq!(bugcheck.code, 0xe2, "{bugcheck}");
    (lab, bugcheck)
}

fn named(lab: &Lab, rule: &'static Rule) -> bool {
    lab.violations().iter().any(|violation| violation.rule == rule)
}

#[test]
fn a_bug_check_calls_what_was_registered_in_its_order() {
    let _turn = turn();
    let (lab, bugcheck) = crash(note as *const () as usize);
    let names: Vec<_> = bugcheck.called.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "MiniportShutdownEx of adapter 1",
            "KBUGCHECK_CALLBACK_ROUTINE `first`",
            "KBUGCHECK_CALLBACK_ROUTINE `second`"
        ]
    );
    assert!(bugcheck.called.iter().all(|call| call.failure.is_none()), "{bugcheck:#?}");
    assert!(
        bugcheck.report().contains("KBUGCHECK_CALLBACK_ROUTINE `first` was called"),
        "{}",
        bugcheck.report()
    );
    assert_eq!((CALLS.load(Ordering::SeqCst), IRQL.load(Ordering::SeqCst)), (2, HIGH_LEVEL.into()));
    assert_eq!(BUFFER[0].load(Ordering::SeqCst), 32);
    assert!(!named(&lab, rules::BUGCHECK_CALLBACK), "{:#?}", lab.violations());
    // BufferFinished.
    // SAFETY: the machine has stopped, and its driver with it.
    assert_eq!(unsafe { *FIRST.0.get() }[7].to_le_bytes()[0], 3);
    // Once.
    assert_eq!(lab.bugcheck().unwrap().called, bugcheck.called);
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
}

#[test]
fn a_fault_in_a_callback_ends_that_one() {
    let _turn = turn();
    let (lab, bugcheck) = crash(fault as *const () as usize);
    let failure = bugcheck.called[1].failure.clone().unwrap();
    assert!(failure.contains("0x10"), "{failure}");
    assert_eq!((bugcheck.called[2].failure.as_deref(), CALLS.load(Ordering::SeqCst)), (None, 2));
    assert!(named(&lab, rules::BUGCHECK_CALLBACK));
    // BufferIncomplete.
    // SAFETY: as above.
    assert_eq!(unsafe { *FIRST.0.get() }[7].to_le_bytes()[0], 4);
}

#[test]
fn a_callback_that_calls_what_it_must_not_is_left_there() {
    let _turn = turn();
    let (lab, bugcheck) = crash(allocate as *const () as usize);
    let failure = bugcheck.called[1].failure.clone().unwrap();
    assert!(failure.contains("ExAllocatePool2"), "{failure}");
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    assert!(named(&lab, rules::IRQL_FUNCTION) && named(&lab, rules::BUGCHECK_CALLBACK));
}

#[test]
fn reasons_come_with_their_data_in_a_rehearsal_too() {
    // KbCallbackSecondaryDumpData, KbCallbackDumpIo (header, body, end), KbCallbackAddPages, KbCallbackTriageDumpData.
    for (kind, length, calls) in [(2, 48, 1), (3, 24, 3), (4, 32, 1), (7, 56, 1)] {
        let _turn = turn();
        let lab = Lab::new();
        let (driver, adapter) = load(&lab, Defect::None, note as *const () as usize, kind);
        adapter.restart().unwrap();
        let called = lab.rehearse_bugcheck().unwrap();
        assert!(called.iter().all(|call| call.failure.is_none()), "{called:#?}");
        assert_eq!(called[2].name, "KBUGCHECK_REASON_CALLBACK_ROUTINE `second`");
        assert_eq!(CALLS.load(Ordering::SeqCst), 1 + calls);
        assert_eq!(BUFFER[0].load(Ordering::SeqCst), kind as usize);
        assert_eq!(BUFFER[1].load(Ordering::SeqCst), length);
        // The machine goes on.
        adapter.pause().unwrap();
        adapter.halt(HaltAction::DeviceStopped).unwrap();
        // SAFETY: it runs in the driver's unload handler, and the turn keeps the records from other tests.
        mini::at_unload(|| unsafe { deregister() });
        driver.unload().unwrap();
        lab.assert_clean();
    }
}

/// Registers a record that was not initialised.
unsafe fn garbage(_: NDIS_HANDLE) {
    (*FIRST.0.get())[7] = 0x77;
    let routine = note as *const () as PVOID;
    let name = c"garbage".as_ptr().cast();
    assert_eq!(KeRegisterBugCheckCallback(FIRST.0.get().cast(), routine, PVOID::default(), 0, name), 0);
}

#[test]
fn records_are_initialised_kept_and_deregistered() {
    let _turn = turn();
    let good = note as *const () as usize;
    let lab = Lab::new();
    let (driver, adapter) = load(&lab, Defect::None, good, 0);
    // SAFETY: the driver does nothing now.
    unsafe { (*FIRST.0.get())[2] = 0 };
    let called = lab.rehearse_bugcheck().unwrap();
    assert!(called[1].failure.is_some() && called[2].failure.is_none(), "{called:#?}");
    assert!(named(&lab, rules::CALLBACK_USE));
    lab.take_violations();
    // What is left is told at unload, and not called any more.
    adapter.halt(HaltAction::DeviceStopped).unwrap();
    drop(adapter);
    driver.unload().unwrap();
    assert!(named(&lab, rules::LEAK_UNLOAD));
    assert!(lab.rehearse_bugcheck().unwrap().is_empty());
    drop(lab);

    // SAFETY: as above.
    unsafe { *FIRST.0.get() = [0; 8] };
    mini::SCRIPT.store(garbage as *const () as usize, Ordering::Relaxed);
    let lab = Lab::new();
    // SAFETY: the entry point of the small miniport.
    let driver = unsafe { lab.load_native(mini::entry(Defect::None), "crash") }.unwrap();
    driver.add_adapter(AdapterConfig::new()).unwrap();
    assert!(named(&lab, rules::CALLBACK_USE));
}
