//! A good native miniport breaks no rule, and each of its mutants breaks the one that it is meant to.

mod mini;

use std::time::Duration;

use mini::Defect;
use ndis_lab::rules::{self, Rule};
use ndis_lab::{
    Adapter, AdapterConfig, Driver, HaltAction, Lab, LabError, Oid, ReturnPolicy, SendNbl, SendOptions, State,
};

fn load(lab: &Lab, defect: Defect) -> Result<Driver, LabError> {
    // SAFETY: the entry point of the small miniport; its mutants break rules that the lab survives.
    unsafe { lab.load_native(mini::entry(defect), "mini") }
}

fn lab() -> Lab {
    Lab::builder().timeout(Duration::from_millis(300)).build()
}

fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend((0..251).cycle().skip(14).take(length - 14));
    frame
}

/// The standard life of an adapter; stops at the first error.
fn live(lab: &Lab, defect: Defect) -> Result<(), LabError> {
    let driver = load(lab, defect)?;
    let adapter = driver.add_adapter(AdapterConfig::new().network_address([2, 0, 0, 0, 0, 9]))?;
    adapter.send(&[SendNbl::frame(frame(60))])?;
    adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 4))?;
    adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 2))?;
    adapter.oid(Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, 0xf))?;
    adapter.oid(Oid::set(ndis_sys::OID_GEN_MACHINE_NAME, *b"l\0a\0b\0"))?;
    adapter
        .oid(Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA, [0; 24]).direct().at_dispatch())?;
    adapter.restart()?;
    adapter.set_return_policy(ReturnPolicy::Hold);
    adapter.send(&[
        SendNbl::frame(frame(60)),
        SendNbl::frame(frame(1514)).split(&[3, 0, 11, 700]).within(5, 9),
    ])?;
    if !adapter.pause_with(ndis_lab::PauseReason::Internal)? {
        adapter.return_held()?;
        adapter.pause_wait(Duration::from_millis(300))?;
    }
    adapter.return_held()?;
    adapter.halt(HaltAction::DeviceStopped)?;
    driver.unload()
}

fn caught(defect: Defect, rule: &'static Rule) {
    caught_in(&lab(), defect, rule);
}

/// The defect is caught on this machine, by this rule.
fn caught_in(lab: &Lab, defect: Defect, rule: &'static Rule) {
    let result = live(lab, defect);
    let found = lab.violations();
    let ids: Vec<_> = found.iter().map(|violation| violation.rule.id).collect();
    assert!(ids.contains(&rule.id), "{defect:?} was not caught by {rule}; {result:?}, {found:#?}");
    // A report names the place.
    let report = found.iter().find(|violation| violation.rule == rule).unwrap().to_string();
    assert!(report.contains(rule.page) && report.len() > 40, "{report}");
}

#[test]
fn the_good_miniport_is_clean() {
    let lab = lab();
    live(&lab, Defect::None).unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

#[test]
fn drivers_of_later_versions_are_judged_by_theirs() {
    for (version, minor) in
        [(Defect::Ndis640, 40), (Defect::Ndis660, 60), (Defect::Ndis683, 83), (Defect::Ndis685, 85)]
    {
        let lab = lab();
        live(&lab, version).unwrap();
        lab.assert_clean();
        // An older system refuses it.
        let older = Lab::builder().ndis_version(0x0006_0000 | (minor - 1)).build();
        assert!(matches!(load(&older, version), Err(LabError::DriverEntry(_))), "6.{minor}");
    }
}

/// A machine on which every block has pages of its own.
#[cfg(target_os = "linux")]
fn guarded() -> Lab {
    Lab::builder().timeout(Duration::from_millis(300)).guard_pages(true).build()
}

#[cfg(target_os = "linux")]
#[test]
fn the_good_miniport_is_clean_between_guard_pages() {
    let lab = guarded();
    live(&lab, Defect::None).unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

/// Guard pages catch what touches them at once, by name, and it stops the machine.
#[cfg(target_os = "linux")]
#[test]
fn touches_of_memory_that_is_not_the_drivers_are_named() {
    for (defect, rule, code) in [
        (Defect::UseAfterFree, rules::POOL_USE_AFTER_FREE, 0xcc),
        (Defect::PoolReadAfterFree, rules::POOL_USE_AFTER_FREE, 0xcc),
        (Defect::PoolOverrunFar, rules::POOL_OVERRUN, 0xcd),
        (Defect::PagedAtDispatch, rules::IRQL_PAGED_ACCESS, 0xd1),
        (Defect::OidTouchedAfterCompletion, rules::OID_TOUCHED, 0xcc),
        (Defect::OidBufferTouchedAfterCompletion, rules::OID_TOUCHED, 0xcc),
        (Defect::SendTouchedAfterCompletion, rules::SEND_TOUCHED, 0xcc),
        (Defect::SendDataTouchedAfterCompletion, rules::SEND_TOUCHED, 0xcc),
        (Defect::ListTouchedAfterFree, rules::NBL_USE_AFTER_FREE, 0xcc),
    ] {
        let lab = guarded();
        caught_in(&lab, defect, rule);
        let bugcheck = lab.bugcheck().unwrap_or_else(|| panic!("{defect:?} did not stop the machine"));
        assert_eq!(bugcheck.code, code, "{defect:?}: {bugcheck}");
    }
}

/// What was caught without guard pages is caught with them.
#[cfg(target_os = "linux")]
#[test]
fn guard_pages_hide_nothing() {
    for (defect, rule) in [
        (Defect::PoolOverrun, rules::POOL_OVERRUN),
        (Defect::WrongPoolTag, rules::POOL_WRONG_TAG),
        (Defect::DoubleFree, rules::POOL_DOUBLE_FREE),
        (Defect::CompleteSendTwice, rules::SEND_COMPLETED_TWICE),
        (Defect::OidCompletedTwice, rules::OID_NOT_PENDING),
        (Defect::OidOverrun, rules::OID_OVERRUN),
        (Defect::ChangeSentData, rules::SEND_PAYLOAD_CHANGED),
    ] {
        caught_in(&guarded(), defect, rule);
    }
}

macro_rules! mutants {
    ($($name:ident: $defect:ident => $rule:ident;)*) => {
        $(#[test]
        fn $name() {
            caught(Defect::$defect, rules::$rule);
        })*
    };
}

mutants! {
    a_leaked_list: LeakNbl => LEAK_HALT;
    a_leaked_block: LeakPoolBlock => LEAK_UNLOAD;
    a_send_completed_twice: CompleteSendTwice => SEND_COMPLETED_TWICE;
    a_send_never_completed: NeverCompleteSend => SEND_NOT_COMPLETED;
    a_wrong_tag: WrongPoolTag => POOL_WRONG_TAG;
    a_pool_overrun: PoolOverrun => POOL_OVERRUN;
    a_use_after_free: UseAfterFree => POOL_USE_AFTER_FREE;
    a_double_free: DoubleFree => POOL_DOUBLE_FREE;
    a_wrong_attribute_size: AttributeSize => ATTRIBUTE_HEADER;
    a_wrong_attribute_order: AttributeOrder => ATTRIBUTE_ORDER;
    missing_attributes: AttributesMissing => ATTRIBUTE_MISSING;
    a_lock_held_on_return: LockHeldOnReturn => LOCK_HELD_ON_RETURN;
    a_lock_taken_twice: LockRecursion => LOCK_RECURSION;
    a_bugcheck: BugCheckInOid => BUGCHECK;
    a_passive_function_at_dispatch: PassiveOnlyAtDispatch => IRQL_FUNCTION;
    an_irql_left_raised: IrqlNotRestored => IRQL_CHANGED;
    a_send_accepted_while_paused: SendNotPaused => SEND_NOT_PAUSED;
    a_pause_completed_too_early: PauseTooEarly => PAUSE_RECEIVES;
    a_query_that_writes_too_far: OidOverrun => OID_OVERRUN;
    too_many_bytes_written: OidBytesWritten => OID_BYTES;
    a_completion_of_an_inline_request: OidCompletedTwice => OID_NOT_PENDING;
    a_completion_of_the_wrong_kind: OidWrongCompletion => OID_WRONG_COMPLETION;
    a_request_that_never_ends: OidNeverCompleted => OID_TIMEOUT;
    changed_payload: ChangeSentData => SEND_PAYLOAD_CHANGED;
    changed_out_of_band_data: ChangeSentOob => SEND_OOB_CHANGED;
    a_changed_chain: ChangeSentChain => SEND_CHAIN_CHANGED;
    a_wrong_source_handle: WrongSourceHandle => RECEIVE_SOURCE;
    a_wrong_count: WrongReceiveCount => RECEIVE_COUNT;
    an_indication_while_paused: IndicateWhilePaused => STATE_INDICATE;
    a_list_indicated_twice: IndicateTwice => NBL_IN_USE;
    an_indication_under_a_lock: IndicateUnderLock => LOCK_HELD_IN_CALL;
    a_wrong_characteristics_size: CharacteristicsSize => REGISTER_CHARACTERISTICS;
    characteristics_of_a_later_version: FutureCharacteristics => REGISTER_CHARACTERISTICS;
    a_version_that_does_not_exist: FutureVersion => REGISTER_CHARACTERISTICS;
    a_pause_completed_twice: PauseTwice => STATE_COMPLETION;
    locks_in_two_orders: LockOrder => LOCK_CYCLE;
    a_wait_at_dispatch: WaitAtDispatch => IRQL_WAIT;
    a_queued_lock_held_on_return: QueuedLockHeld => LOCK_HELD_ON_RETURN;
    a_reader_lock_held_on_return: RwLockHeld => LOCK_HELD_ON_RETURN;
    a_completed_send_written: SendTouchedAfterCompletion => SEND_TOUCHED;
    the_data_of_a_completed_send_written: SendDataTouchedAfterCompletion => SEND_TOUCHED;
    an_ended_request_written: OidTouchedAfterEnd => OID_TOUCHED;
    a_send_completed_as_pending: SendStatus => SEND_STATUS;
    a_missing_handler: MissingHandler => REGISTER_HANDLERS;
    no_deregistration: NoDeregister => REGISTER_ONCE;
    a_failure_without_deregistration: FailWithoutDeregister => REGISTER_STATUS;
    an_open_configuration: ConfigurationLeft => LEAK_HALT;
    a_timer_left: TimerLeft => LEAK_HALT;
    a_pool_left: NblPoolLeft => LEAK_HALT;
    a_wrong_status_header: StatusHeader => STATUS_HEADER;
    a_status_of_ndis: ForeignStatus => STATUS_CODE;
    a_wrong_dispatch_flag: DispatchFlag => IRQL_FLAG;
    extended_state_not_restored: XstateNotRestored => XSTATE_USE;
    a_handle_used_after_halt: HandleAfterHalt => HANDLE_AFTER_HALT;
}

#[test]
fn a_bugcheck_is_a_value_and_ends_the_machine() {
    let lab = lab();
    let driver = load(&lab, Defect::BugCheckInOid).unwrap();
    let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
    let error = adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 4)).unwrap_err();
    let LabError::BugCheck(bugcheck) = error else { panic!("{error}") };
    assert_eq!((bugcheck.code, bugcheck.parameters), (0xe2, [1, 2, 3, 4]));
    assert_eq!(bugcheck.handler, Some("MiniportOidRequest"));
    assert!(matches!(adapter.restart(), Err(LabError::BugCheck(_))));
    assert!(matches!(driver.add_adapter(AdapterConfig::new()), Err(LabError::BugCheck(_))));
    assert_eq!(lab.bugcheck().unwrap(), *bugcheck);
}

/// Runs a test that has a native driver panic in a process of its own: the lab leaves the panic from within std's hook,
/// whose lock stays read-locked, and the test runner's main function takes the hook when it ends.
fn in_a_process_of_its_own(test: &str, body: fn()) {
    const CHILD: &str = "LAB_NATIVE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let result = std::panic::catch_unwind(body);
        std::process::exit(i32::from(result.is_err()));
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn a_panic_in_the_driver_stops_the_machine_only() {
    in_a_process_of_its_own("a_panic_in_the_driver_stops_the_machine_only", panics);
}

fn panics() {
    caught(Defect::PanicInOid, rules::BUGCHECK);
    // Often, on one thread: nothing of the panic may stay behind.
    for round in 0..4 {
        let lab = lab();
        let driver = load(&lab, Defect::PanicInOid).unwrap();
        let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
        let error = adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 4)).unwrap_err();
        let LabError::BugCheck(bugcheck) = error else { panic!("{error}") };
        assert_eq!((bugcheck.code, bugcheck.handler), (0x1e, Some("MiniportOidRequest")), "{bugcheck}");
        assert!(bugcheck.detail.contains("the driver expected something"), "{bugcheck}");
        assert!(bugcheck.detail.contains(file!().trim_end_matches("native.rs")), "{bugcheck}");
        assert!(!std::thread::panicking());
        let caught = std::panic::catch_unwind(|| assert_eq!(round, 9, "a panic of the test's own"));
        assert!(caught.is_err());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_trap_in_the_driver_stops_the_machine_only() {
    for (defect, code) in
        [(Defect::WildAccess, 0x1e), (Defect::IllegalInstruction, 0x1e), (Defect::EndlessRecursion, 0x7f)]
    {
        for _ in 0..3 {
            let lab = lab();
            let driver = load(&lab, defect).unwrap();
            let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
            let error = adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 4)).unwrap_err();
            let LabError::BugCheck(bugcheck) = error else { panic!("{error}") };
            assert_eq!(bugcheck.code, code, "{bugcheck}");
            if defect == Defect::WildAccess {
                // STATUS_ACCESS_VIOLATION: a write, to this address.
                assert_eq!(bugcheck.parameters[0], 0xc000_0005);
                assert_eq!(bugcheck.parameters[2..], [1, 0x1234_5678_9abc]);
            }
        }
    }
}

fn running(lab: &Lab) -> (Driver, Adapter) {
    let driver = load(lab, Defect::None).unwrap();
    let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
    adapter.restart().unwrap();
    (driver, adapter)
}

fn end(driver: Driver, adapter: &Adapter, lab: &Lab) {
    adapter.pause().unwrap();
    adapter.halt(HaltAction::DeviceStopped).unwrap();
    driver.unload().unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

#[test]
fn frames_come_through_however_they_are_cut() {
    let lab = lab();
    let (driver, adapter) = running(&lab);
    let whole = frame(90);
    for cut in 0..=90 {
        for (offset, tail) in [(0, 0), (7, 0), (20, 13)] {
            let nbl = SendNbl::frame(whole.clone()).split(&[cut, 0, 5]).within(offset, tail).oob(12, 0x1234);
            for options in [SendOptions::default(), SendOptions::dispatch()] {
                let sent = adapter.send_with(std::slice::from_ref(&nbl), options).unwrap();
                assert!(sent.is_done() && sent.outcomes()[0].unwrap().is_success());
                let received = adapter.take_received();
                assert_eq!(received.len(), 1);
                assert_eq!((&received[0].frame, received[0].oob[12]), (&whole, 0x1234));
            }
        }
    }
    end(driver, &adapter, &lab);
}

#[test]
fn unmapped_pages_are_mapped_on_demand_and_may_fail_to() {
    let lab = lab();
    let (driver, adapter) = running(&lab);
    let mut nbl = SendNbl::frame(frame(300)).split(&[100, 100]);
    nbl.frames[0].unmapped = true;
    adapter.send(std::slice::from_ref(&nbl)).unwrap();
    assert_eq!(adapter.take_received()[0].frame, frame(300));
    lab.set_faults(|point| point.function == "NdisGetDataBuffer");
    adapter.send(&[nbl]).unwrap();
    assert!(adapter.take_received().is_empty());
    end(driver, &adapter, &lab);
}

#[test]
fn every_failing_call_of_initialisation_is_undone() {
    let lab = lab();
    let driver = load(&lab, Defect::None).unwrap();
    let mut failures = 0;
    for skip in 0.. {
        let before = lab.fault_points();
        lab.fail_after(skip);
        let result = driver.add_adapter(AdapterConfig::new());
        lab.clear_faults();
        match result {
            Err(LabError::Initialize(_)) => failures += 1,
            Err(error) => panic!("{error}"),
            Ok(adapter) => {
                adapter.halt(HaltAction::DeviceStopped).unwrap();
                if lab.fault_points() - before <= skip {
                    break;
                }
            }
        }
        assert!(lab.census().is_empty(), "after fault {skip}: {}", lab.census());
    }
    assert!(failures >= 6, "{failures}");
    driver.unload().unwrap();
    lab.assert_clean();
}

#[test]
fn a_pause_waits_for_held_receives() {
    let lab = lab();
    let (driver, adapter) = running(&lab);
    adapter.set_return_policy(ReturnPolicy::Hold);
    adapter.send(&[SendNbl::frame(frame(60)), SendNbl::frame(frame(61)), SendNbl::frame(frame(62))]).unwrap();
    assert_eq!(adapter.held_receives(), 3);
    assert!(!adapter.pause_with(ndis_lab::PauseReason::Internal).unwrap());
    assert_eq!(adapter.state(), State::Pausing);
    assert!(matches!(adapter.pause_wait(Duration::from_millis(20)), Err(LabError::Timeout(_))));
    assert_eq!(adapter.return_held_with(2, true, |lists| lists.reverse()).unwrap(), 2);
    assert!(matches!(adapter.pause_wait(Duration::from_millis(20)), Err(LabError::Timeout(_))));
    adapter.return_held().unwrap();
    adapter.pause_wait(Duration::from_millis(200)).unwrap();
    adapter.restart().unwrap();
    end(driver, &adapter, &lab);
}

#[test]
fn a_pended_request_is_waited_for_or_cancelled() {
    let lab = lab();
    let (driver, adapter) = running(&lab);
    let outcome = adapter.oid(Oid::set(ndis_sys::OID_GEN_MACHINE_NAME, *b"a\0")).unwrap();
    assert!(outcome.pended && outcome.is_success());
    assert_eq!(outcome.bytes_read, 2);
    let pending = adapter.oid_begin(Oid::set(ndis_sys::OID_GEN_MACHINE_NAME, *b"a\0").id(77)).unwrap();
    assert!(pending.pended() && !pending.is_done());
    assert_eq!(lab.census().oids.len(), 1);
    pending.cancel().unwrap();
    assert_eq!(pending.finish().unwrap().status, ndis_sys::NDIS_STATUS_REQUEST_ABORTED);
    end(driver, &adapter, &lab);
}

/// Several timers and pended requests, whose order is the seed's.
fn eventful(seed: u64, defect: Defect) -> (Vec<ndis_lab::Event>, Vec<String>) {
    let lab = Lab::builder().deterministic(seed).build();
    let _ = live(&lab, defect);
    if defect == Defect::None {
        let (driver, adapter) = running(&lab);
        for _ in 0..5 {
            let pending = adapter.oid_begin(Oid::set(ndis_sys::OID_GEN_MACHINE_NAME, *b"a\0")).unwrap();
            while !pending.is_done() {
                adapter.send(&[SendNbl::frame(frame(60))]).unwrap();
            }
            pending.finish().unwrap();
        }
        end(driver, &adapter, &lab);
    }
    let violations = lab.violations().iter().map(|violation| violation.rule.id.to_owned()).collect();
    (lab.events(), violations)
}

#[test]
fn a_deterministic_run_repeats_itself() {
    let mut logs = Vec::new();
    for seed in 0..20 {
        let (events, violations) = eventful(seed, Defect::None);
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
        assert!(events.iter().any(|event| event.name == "NDIS_TIMER_FUNCTION"));
        assert!(events.iter().any(|event| event.name == "KDEFERRED_ROUTINE"));
        assert_eq!(eventful(seed, Defect::None).0, events, "seed {seed}");
        logs.push(events);
    }
    assert!(logs.windows(2).all(|pair| pair[0] != pair[1]));
    // Not only the clock differs.
    let names = |log: &Vec<ndis_lab::Event>| log.iter().map(|event| event.name).collect::<Vec<_>>();
    assert!(logs.iter().any(|log| names(log) != names(&logs[0])));
}

#[test]
fn a_deterministic_failure_repeats_itself_and_time_outs_take_no_time() {
    let begun = std::time::Instant::now();
    for defect in [Defect::OidNeverCompleted, Defect::NeverCompleteSend, Defect::LeakNbl] {
        let first = eventful(7, defect);
        assert!(!first.1.is_empty(), "{defect:?}");
        assert_eq!(first, eventful(7, defect), "{defect:?}");
    }
    // Each waits for ten seconds of the machine, several times.
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn stress_from_several_threads() {
    let lab = Lab::builder().processors(3).build();
    let (driver, adapter) = running(&lab);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let adapter = &adapter;
            scope.spawn(move || {
                for round in 0..300 {
                    let options = if (round + thread) % 2 == 0 {
                        SendOptions::dispatch()
                    } else {
                        SendOptions::default()
                    };
                    let sent = adapter.send_with(&[SendNbl::frame(frame(60 + round))], options).unwrap();
                    assert!(sent.is_done());
                    let oid = ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA;
                    let mut request = Oid::set(oid, [0; 24]).direct();
                    request.at_dispatch = round % 2 == 1;
                    adapter.oid(request).unwrap();
                    adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_ID, 8)).unwrap();
                }
            });
        }
    });
    assert_eq!(adapter.take_received().len(), 1200);
    end(driver, &adapter, &lab);
}

#[test]
fn two_adapters_have_their_own_state() {
    let lab = lab();
    let driver = load(&lab, Defect::None).unwrap();
    let one = driver.add_adapter(AdapterConfig::new().network_address([2, 0, 0, 0, 0, 8])).unwrap();
    let two = driver.add_adapter(AdapterConfig::new()).unwrap();
    assert_eq!(one.attributes().general.current_address(), [2, 0, 0, 0, 0, 8]);
    assert_eq!(two.attributes().general.current_address(), [2, 0, 0, 0, 0, 1]);
    one.restart().unwrap();
    assert_eq!((one.state(), two.state()), (State::Running, State::Paused));
    assert!(matches!(driver.clone().unload(), Err(LabError::AdaptersLeft(2))));
    assert!(matches!(two.pause(), Err(LabError::State { .. })));
    two.halt(HaltAction::DeviceDisabled).unwrap();
    end(driver, &one, &lab);
}
