//! A miniport written with the layer, in the lab: whatever is asked of it and whatever fails, no rule is broken and nothing is
//! left.

mod echo;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, RwLock};
use std::thread;
use std::time::Duration;

use echo::*;
use ndis_lab::{
    Adapter, AdapterConfig, Driver, HaltAction, Lab, LabError, Oid, OidOutcome, PauseReason, PnpEvent,
    ReturnPolicy, SendFrame, SendNbl, SendOptions, ShutdownAction, State,
};
use ndis_sys as sys;

const WAIT: Duration = Duration::from_secs(5);

fn load(lab: &Lab) -> Result<Driver, LabError> {
    // SAFETY: the entry point of a miniport driver.
    unsafe { lab.load_native(entry, "echo") }
}

fn start(lab: &Lab) -> (Driver, Adapter) {
    let driver = load(lab).unwrap();
    let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
    adapter.restart().unwrap();
    (driver, adapter)
}

/// Pauses, halts, unloads, and looks at what is left and what was broken.
fn end(lab: &Lab, driver: Driver, adapter: &Adapter) {
    if adapter.state() == State::Running {
        adapter.pause().unwrap();
    }
    adapter.halt(HaltAction::DeviceStopped).unwrap();
    driver.unload().unwrap();
    let census = lab.census();
    assert!(census.is_empty(), "left: {:#?}", census.lines());
    lab.assert_clean();
}

fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend((0..251).cycle().skip(14).take(length - 14));
    frame
}

fn set(adapter: &Adapter, oid: u32, value: u32) {
    assert!(adapter.oid(Oid::set_u32(oid, value)).unwrap().is_success(), "{oid:#x} {value}");
}

fn statuses(outcomes: &[ndis_lab::SendOutcome]) -> Vec<i32> {
    outcomes.iter().map(|outcome| outcome.status).collect()
}

#[test]
fn what_is_sent_comes_back() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    for options in [SendOptions::default(), SendOptions::dispatch()] {
        let lists = [
            SendNbl::frame(frame(14)),
            SendNbl::frame(frame(1514)).split(&[0, 14, 1, 0, 400]).within(7, 9),
            SendNbl::frames(
                (60..64).map(|length| SendFrame { bytes: frame(length), ..SendFrame::default() }),
            ),
        ];
        let sent = adapter.send_with(&lists, options).unwrap();
        assert!(sent.wait(WAIT).unwrap().iter().all(ndis_lab::SendOutcome::is_success));
        let received = adapter.wait_received(6, WAIT).unwrap();
        let frames: Vec<_> = received.into_iter().map(|received| received.frame).collect();
        let expected: Vec<_> = [14, 1514, 60, 61, 62, 63].map(frame).into();
        assert_eq!(frames, expected);
    }
    end(&lab, driver, &adapter);
}

#[test]
fn frames_that_do_not_fit_and_out_of_band_data() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    let lists = [
        SendNbl::frame(frame(1515)),
        SendNbl::frame(frame(60)).oob(sys::Ieee8021QNetBufferListInfo, 0xABC5),
        SendNbl::frame(frame(100)).oob(sys::TcpLargeSendNetBufferListInfo, (34 << 20) + 1460),
    ];
    let outcomes = adapter.send(&lists).unwrap();
    assert_eq!(statuses(&outcomes), [sys::NDIS_STATUS_INVALID_LENGTH, 0, 0]);
    let large_send = usize::try_from(sys::TcpLargeSendNetBufferListInfo).unwrap();
    assert_eq!(outcomes[2].oob[large_send], 100);
    let received = adapter.wait_received(2, WAIT).unwrap();
    let vlan = usize::try_from(sys::Ieee8021QNetBufferListInfo).unwrap();
    assert_eq!((received[0].oob[vlan], received[1].oob[vlan]), (0xABC5, 0));
    lab.set_faults(|point| point.function == "MmMapLockedPagesSpecifyCache");
    let unmapped = SendFrame { bytes: frame(60), unmapped: true, ..SendFrame::default() };
    let outcomes = adapter.send(&[SendNbl::frames([unmapped])]).unwrap();
    assert_eq!(statuses(&outcomes), [sys::NDIS_STATUS_RESOURCES]);
    lab.clear_faults();
    end(&lab, driver, &adapter);
}

#[test]
fn dropped_sends_complete_with_failure_once() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    set(&adapter, OID_MODE, DROP);
    for count in 1..6 {
        let lists: Vec<_> = (0..count).map(|_| SendNbl::frame(frame(60))).collect();
        let mut expected = vec![sys::NDIS_STATUS_FAILURE; count];
        if let Some(second) = expected.get_mut(1) {
            *second = sys::NDIS_STATUS_RESOURCES;
        }
        assert_eq!(statuses(&adapter.send(&lists).unwrap()), expected);
    }
    end(&lab, driver, &adapter);
}

#[test]
fn queued_sends_are_cancelled_by_id_and_flushed_in_order() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    set(&adapter, OID_MODE, QUEUE);
    let ids = [1, 2, 1, 3, 1];
    let lists: Vec<_> = ids.iter().map(|&id| SendNbl::frame(frame(60)).cancel_id(id)).collect();
    let first = adapter.send_with(&lists[..2], SendOptions::default()).unwrap();
    let second = adapter.send_with(&lists[2..], SendOptions::dispatch()).unwrap();
    adapter.cancel_send(7).unwrap();
    assert_eq!(adapter.outstanding_sends(), 5);
    adapter.cancel_send(1).unwrap();
    assert_eq!(adapter.outstanding_sends(), 2);
    set(&adapter, OID_COMMAND, FLUSH);
    let outcomes = [first.wait(WAIT).unwrap(), second.wait(WAIT).unwrap()].concat();
    let aborted = sys::NDIS_STATUS_SEND_ABORTED;
    assert_eq!(statuses(&outcomes), [aborted, 0, aborted, 0, aborted]);
    end(&lab, driver, &adapter);
}

#[test]
fn a_pause_completes_what_is_queued_and_sends_while_paused_are_refused() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    set(&adapter, OID_MODE, QUEUE);
    let sent = adapter.send_with(&[SendNbl::frame(frame(60))], SendOptions::default()).unwrap();
    assert!(adapter.pause_with(PauseReason::Internal).unwrap(), "nothing is left in flight");
    assert_eq!(statuses(&sent.wait(WAIT).unwrap()), [sys::NDIS_STATUS_PAUSED]);
    let outcomes = adapter.send(&[SendNbl::frame(frame(60))]).unwrap();
    assert_eq!(statuses(&outcomes), [sys::NDIS_STATUS_PAUSED]);
    adapter.restart().unwrap();
    end(&lab, driver, &adapter);
}

#[test]
fn a_pause_waits_for_the_receives_that_are_out() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    adapter.set_return_policy(ReturnPolicy::Hold);
    adapter.send(&[SendNbl::frame(frame(60)), SendNbl::frame(frame(61)), SendNbl::frame(frame(62))]).unwrap();
    adapter.wait_received(3, WAIT).unwrap();
    assert!(!adapter.pause_with(PauseReason::Internal).unwrap());
    // Nothing is indicated any more: what arrives now is refused.
    set(&adapter, OID_COMMAND, QUEUE_DPC);
    assert_eq!(adapter.return_held_with(2, true, |lists| lists.reverse()).unwrap(), 2);
    assert_eq!(adapter.state(), State::Pausing);
    adapter.return_held().unwrap();
    adapter.pause_wait(WAIT).unwrap();
    adapter.restart().unwrap();
    end(&lab, driver, &adapter);
}

#[test]
fn a_pause_waits_for_its_token() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    set(&adapter, OID_MODE, HOLD_PAUSE);
    assert!(!adapter.pause_with(PauseReason::Internal).unwrap());
    set(&adapter, OID_COMMAND, COMPLETE_PAUSE);
    adapter.pause_wait(WAIT).unwrap();
    end(&lab, driver, &adapter);
}

#[test]
fn receives_with_the_resources_flag_are_ours_again_at_once() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    set(&adapter, OID_MODE, ECHO_COPIED);
    adapter.set_return_policy(ReturnPolicy::Hold);
    for round in 0..20 {
        let lists: Vec<_> = (0..5).map(|index| SendNbl::frame(frame(60 + round + index))).collect();
        adapter.send(&lists).unwrap();
        let received = adapter.wait_received(5, WAIT).unwrap();
        assert_eq!(received[4].frame, frame(64 + round));
    }
    assert_eq!(adapter.held_receives(), 0);
    end(&lab, driver, &adapter);
}

fn wait_request(byte: u8, id: usize) -> Oid {
    Oid::set(OID_WAIT, [byte]).direct().at_dispatch().id(id)
}

#[test]
fn direct_requests_wait_complete_cancel_and_abort() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    let requests: Vec<_> = [1, 200, 2, 201, 3]
        .iter()
        .zip(11..)
        .map(|(&byte, id)| adapter.oid_begin(wait_request(byte, id)).unwrap())
        .collect();
    assert!(requests.iter().all(|request| request.pended() && !request.is_done()));
    adapter.cancel_oid(99, true).unwrap();
    adapter.cancel_oid(0, true).unwrap();
    requests[2].cancel().unwrap();
    assert!(requests[2].is_done());
    requests[2].cancel().unwrap();
    set(&adapter, OID_COMMAND, COMPLETE_DIRECT);
    let statuses: Vec<_> = requests
        .into_iter()
        .map(|request| {
            assert!(request.wait(WAIT).unwrap());
            let OidOutcome { status, bytes_read, .. } = request.finish().unwrap();
            assert_eq!(bytes_read, 0);
            status
        })
        .collect();
    let aborted = sys::NDIS_STATUS_REQUEST_ABORTED;
    assert_eq!(statuses, [0, aborted, aborted, aborted, 0]);
    let unknown = adapter.oid(Oid::query(1, 4).direct()).unwrap();
    assert_eq!(unknown.status, sys::NDIS_STATUS_NOT_SUPPORTED);
    end(&lab, driver, &adapter);
}

/// Many add requests, make them ready and cancel them at once; each ends, once, whoever had a look at the time.
#[test]
fn waiting_requests_end_once_whoever_looks() {
    const THREADS: u8 = 4;
    const ROUNDS: usize = 500;
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    // Some that are never ready make every look take its time.
    let others: Vec<_> =
        (0..100).map(|id| adapter.oid_begin(wait_request(200, 100_000 + id)).unwrap()).collect();
    // Nobody looks again before all requests of the round have ended.
    let (together, overlooked) = (Barrier::new(THREADS.into()), AtomicU32::new(0));
    let run = |number: u8| {
        let (mut completed, mut aborted) = (0, 0);
        for round in 0..ROUNDS {
            let value = number * 16 + u8::try_from(round % 16).unwrap();
            let id = usize::from(number) * ROUNDS + round + 1;
            let request = adapter.oid_begin(wait_request(value, id)).unwrap();
            together.wait();
            if round % 3 == 0 {
                request.cancel().unwrap();
            }
            let ready = adapter.oid(Oid::set(OID_READY, [value]).direct()).unwrap();
            assert_eq!(ready.status, 0);
            if !request.wait(WAIT).unwrap() {
                // Helped on, so that the threads do not wait for each other for ever; and remembered.
                overlooked.fetch_add(1, Ordering::Relaxed);
                adapter.oid(Oid::set(OID_READY, [value]).direct()).unwrap();
                assert!(request.wait(WAIT).unwrap());
            }
            match request.finish().unwrap().status {
                0 => completed += 1,
                sys::NDIS_STATUS_REQUEST_ABORTED => aborted += 1,
                other => panic!("{other:#x}"),
            }
            together.wait();
        }
        (completed, aborted)
    };
    let counts: Vec<(usize, usize)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(overlooked.into_inner(), 0, "requests that were ready, and nobody ended");
    for (completed, aborted) in counts {
        assert_eq!(completed + aborted, ROUNDS);
        assert!(aborted <= ROUNDS.div_ceil(3), "only those that were cancelled");
    }
    assert!(others.iter().all(|request| !request.is_done()));
    set(&adapter, OID_COMMAND, COMPLETE_DIRECT);
    for request in others {
        assert_eq!(request.finish().unwrap().status, sys::NDIS_STATUS_REQUEST_ABORTED);
    }
    end(&lab, driver, &adapter);
}

#[test]
fn resets_inline_and_later() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    assert!(!adapter.check_for_hang().unwrap());
    set(&adapter, OID_MODE, QUEUE);
    let sent = adapter.send_with(&[SendNbl::frame(frame(60))], SendOptions::default()).unwrap();
    let outcome = adapter.reset(2).unwrap();
    assert_eq!((outcome.status, outcome.addressing, outcome.pended), (0, true, false));
    assert_eq!(statuses(&sent.wait(WAIT).unwrap()), [sys::NDIS_STATUS_RESET_IN_PROGRESS]);
    set(&adapter, OID_MODE, HOLD_RESET);
    assert!(adapter.check_for_hang().unwrap());
    let outcome = thread::scope(|scope| {
        let reset = scope.spawn(|| adapter.reset(0).unwrap());
        // The command fails until the reset has come.
        while !adapter.oid(Oid::set_u32(OID_COMMAND, COMPLETE_RESET)).unwrap().is_success() {
            thread::yield_now();
        }
        reset.join().unwrap()
    });
    assert_eq!(
        (outcome.status, outcome.addressing, outcome.pended),
        (sys::NDIS_STATUS_SOFT_ERRORS, true, true)
    );
    end(&lab, driver, &adapter);
}

#[test]
fn keywords_and_addresses() {
    let lab = Lab::new();
    let driver = load(&lab).unwrap();
    for (value, expected) in [
        ("10", 10),
        ("20", 20),
        ("21", 15),
        ("9", 15),
        ("-1", 15),
        ("", 15),
        ("twelve", 15),
        ("99999999999", 15),
    ] {
        let adapter = driver.add_adapter(AdapterConfig::new().keyword("Number", value)).unwrap();
        assert_eq!(adapter.query_u32(OID_NUMBER).unwrap().u32(), Some(expected), "{value:?}");
        adapter.halt(HaltAction::DeviceStopped).unwrap();
    }
    let permanent = [2, 0, 0, 0, 0, 1];
    for (address, expected) in [
        ([2, 1, 2, 3, 4, 5], [2, 1, 2, 3, 4, 5]),
        ([1, 1, 2, 3, 4, 5], permanent),
        ([0xFF; 6], permanent),
        ([0; 6], permanent),
    ] {
        let adapter = driver.add_adapter(AdapterConfig::new().network_address(address)).unwrap();
        assert_eq!(adapter.attributes().general.current_address(), expected, "{address:02x?}");
        adapter.halt(HaltAction::DeviceStopped).unwrap();
    }
    let adapter = driver.add_adapter(AdapterConfig::new().keyword("NetworkAddress", "not one")).unwrap();
    assert_eq!(adapter.attributes().general.current_address(), permanent);
    end(&lab, driver, &adapter);
}

#[test]
fn a_handle_outlives_its_adapter_and_does_nothing() {
    let lab = Lab::new();
    let driver = load(&lab).unwrap();
    let first = driver.add_adapter(AdapterConfig::new()).unwrap();
    set(&first, OID_COMMAND, KEEP_HANDLE);
    // The adapter's drop tries all of it.
    first.halt(HaltAction::DeviceSurpriseRemoved).unwrap();
    let second = driver.add_adapter(AdapterConfig::new()).unwrap();
    end(&lab, driver, &second);
}

#[test]
fn other_events() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    adapter.take_statuses();
    set(&adapter, OID_COMMAND, INDICATE_LINK);
    assert_eq!(adapter.take_statuses().len(), 1);
    for event in [PnpEvent::PowerProfileChanged(true), PnpEvent::Other(17, vec![1, 2, 3])] {
        adapter.pnp_event(&event).unwrap();
    }
    adapter.shutdown(ShutdownAction::PowerOff).unwrap();
    let statistics = adapter.oid(Oid::query(sys::OID_GEN_STATISTICS, 152)).unwrap();
    assert!(statistics.is_success());
    adapter.pnp_event(&PnpEvent::SurpriseRemoved).unwrap();
    end(&lab, driver, &adapter);
}

#[test]
fn a_bugcheck_shutdown_calls_nothing() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    let before = lab.fault_points();
    adapter.shutdown(ShutdownAction::BugCheck).unwrap();
    assert_eq!(lab.fault_points(), before);
    end(&lab, driver, &adapter);
}

/// The whole life, stopping at the first error, as NDIS does.
fn live(lab: &Lab) -> Result<(), LabError> {
    let driver = load(lab)?;
    let adapter = match driver.add_adapter(AdapterConfig::new().network_address([2, 0, 0, 0, 0, 9])) {
        Ok(adapter) => adapter,
        Err(error) => {
            driver.unload()?;
            return Err(error);
        }
    };
    adapter.restart()?;
    adapter.send(&[SendNbl::frame(frame(60)).split(&[20]), SendNbl::frame(frame(61))])?;
    adapter.oid(Oid::query(sys::OID_GEN_STATISTICS, 152))?;
    adapter.pause()?;
    adapter.halt(HaltAction::DeviceStopped)?;
    driver.unload()
}

#[test]
fn each_call_that_can_fail_fails_in_turn() {
    let mut failed = 0;
    for skip in 0.. {
        let lab = Lab::builder().timeout(Duration::from_secs(2)).build();
        lab.fail_after(skip);
        let result = live(&lab);
        lab.clear_faults();
        let census = lab.census();
        assert!(census.is_empty(), "after failure {skip} ({result:?}) is left: {:#?}", census.lines());
        lab.assert_clean();
        failed += u32::from(result.is_err());
        if lab.fault_points() <= skip {
            break;
        }
        assert!(skip < 1000, "no end of fault points");
    }
    // Registration, context, attributes, configuration, pool, and three allocations for each of 32 buffers at the least.
    assert!(failed > 100, "{failed}");
}

#[test]
fn two_adapters_at_once_and_ten_lives() {
    let lab = Lab::new();
    for _ in 0..10 {
        let driver = load(&lab).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let adapter = driver.add_adapter(AdapterConfig::new()).unwrap();
                    adapter.restart().unwrap();
                    adapter.send(&[SendNbl::frame(frame(60))]).unwrap();
                    adapter.wait_received(1, WAIT).unwrap();
                    adapter.pause().unwrap();
                    adapter.halt(HaltAction::DeviceStopped).unwrap();
                });
            }
        });
        driver.unload().unwrap();
    }
    assert!(lab.census().is_empty());
    lab.assert_clean();
}

/// Has the senders stop, also if the thread that pauses panics.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends from three threads, on both levels, with cancels, flushes and receives that return late, while the adapter pauses and
/// restarts. With `gate`, no send is on its way into the driver when the pause begins.
fn race(lab: &Lab, adapter: &Adapter, gate: &RwLock<()>, gated: bool) {
    adapter.set_return_policy(ReturnPolicy::After);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for sender in 0..3 {
            let (adapter, stop) = (adapter.clone(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let lists: Vec<_> =
                        (0..4).map(|id| SendNbl::frame(frame(60 + id)).cancel_id(id + 1)).collect();
                    let options = if sender == 0 { SendOptions::dispatch() } else { SendOptions::default() };
                    let sent = {
                        let _entering = gated.then(|| gate.read().unwrap());
                        adapter.send_with(&lists, options).unwrap()
                    };
                    adapter.cancel_send(2).unwrap();
                    while !sent.is_done() {
                        thread::yield_now();
                        adapter.cancel_send(3).unwrap();
                    }
                    assert_eq!(sent.wait(WAIT).unwrap().len(), 4);
                    adapter.take_received();
                }
            });
        }
        let (adapter, stop) = (adapter.clone(), &stop);
        scope.spawn(move || {
            let stopping = Stopping(stop);
            for round in 0..60_u8 {
                let request = adapter.oid_begin(wait_request(round, usize::from(round) + 1)).unwrap();
                for mode in [QUEUE, u32::from(round) % 2] {
                    set(&adapter, OID_MODE, mode);
                    thread::yield_now();
                }
                set(&adapter, OID_COMMAND, FLUSH);
                {
                    let _outside = gated.then(|| gate.write().unwrap());
                    adapter.pause().unwrap();
                    request.cancel().unwrap();
                    assert!(request.wait(WAIT).unwrap());
                    request.finish().unwrap();
                    adapter.restart().unwrap();
                }
            }
            drop(stopping);
            while !lab.census().sends.is_empty() {
                set(&adapter, OID_COMMAND, FLUSH);
            }
        });
    });
}

#[test]
fn completions_returns_and_cancels_race_with_pauses() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    race(&lab, &adapter, &RwLock::new(()), true);
    end(&lab, driver, &adapter);
}

/// As above, with sends that enter the driver while the pause completes: they may end either way.
#[test]
fn sends_race_with_pauses() {
    let lab = Lab::new();
    let (driver, adapter) = start(&lab);
    race(&lab, &adapter, &RwLock::new(()), false);
    end(&lab, driver, &adapter);
}
