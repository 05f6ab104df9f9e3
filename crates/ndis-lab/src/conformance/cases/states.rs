//! The state machine: pause, restart, halt, removal, shutdown, events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ndis_sys::{NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_PAUSED, OID_GEN_VENDOR_ID, OID_GEN_XMIT_OK};

use crate::adapter::oid::Oid;
use crate::adapter::receive::ReturnPolicy;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::adapter::{Adapter, HaltAction, PauseReason, PnpEvent, ShutdownAction, State};
use crate::conformance::context::Context;
use crate::conformance::station::{self, BROADCAST, Pair, SILENCE, STRANGER};
use crate::conformance::{Case, Need, Outcome, Stop, check, status_text};
use crate::error::LabError;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 11,
        id: "paused-sends",
        area: "1c_Mini6Send",
        title: "Sends to a paused or pausing adapter complete once, with NDIS_STATUS_PAUSED.",
        page: "nc-ndis-miniport_pause",
        needs: &[Need::Ethernet],
        run: paused_sends,
    },
    Case {
        number: 12,
        id: "pause-waits",
        area: "2c_Mini6SendRecv",
        title: "A pause completes after the last receive was returned, and nothing is indicated in between.",
        page: "nc-ndis-miniport_pause",
        needs: &[Need::Wire],
        run: pause_waits,
    },
    Case {
        number: 13,
        id: "pause-under-load",
        area: "2c_Mini6Stress",
        title: "Pauses and restarts come while both ends send and receive on several processors.",
        page: "miniport-adapter-states-and-operations",
        needs: &[Need::Wire],
        run: pause_under_load,
    },
    Case {
        number: 14,
        id: "restart-fails",
        area: "1c_FaultHandling",
        title: "A restart that fails leaves the adapter paused, and the next one succeeds.",
        page: "nc-ndis-miniport_restart",
        needs: &[Need::Ethernet],
        run: restart_fails,
    },
    Case {
        number: 14,
        id: "restart-works",
        area: "2c_Mini6CheckConnections",
        title: "After each restart frames are sent and received again, by the filters of before.",
        page: "nc-ndis-miniport_restart",
        needs: &[Need::Wire],
        run: restart_works,
    },
    Case {
        number: 15,
        id: "halt-from-any-life",
        area: "GenericMiniportRequirements",
        title: "An adapter halts without ever having run, and after surprise removal.",
        page: "nc-ndis-miniport_halt",
        needs: &[],
        run: halt_from_any_life,
    },
    Case {
        number: 16,
        id: "surprise-removal",
        area: "PnPSurpriseRemove",
        title: "After surprise removal sends and OIDs end with NDIS_STATUS_NOT_ACCEPTED.",
        page: "handling-the-surprise-removal-of-a-nic",
        needs: &[Need::Ethernet],
        run: surprise_removal,
    },
    Case {
        number: 18,
        id: "shutdown-bugcheck",
        area: "GenericMiniportRequirements",
        title: "MiniportShutdownEx for a bug check runs at HIGH_LEVEL: no NDIS call, no lock, no allocation.",
        page: "nc-ndis-miniport_shutdown",
        needs: &[Need::BugCheckCallback],
        run: |context| shutdown(context, ShutdownAction::BugCheck),
    },
    Case {
        number: 18,
        id: "bugcheck-callbacks",
        area: "GenericMiniportRequirements",
        title: "What is called at a bug check comes back from HIGH_LEVEL, and calls next to nothing.",
        page: "writing-a-bug-check-callback-routine",
        needs: &[],
        run: bugcheck_callbacks,
    },
    Case {
        number: 18,
        id: "shutdown-power-off",
        area: "GenericMiniportRequirements",
        title: "MiniportShutdownEx for a power-off frees nothing and fails nothing.",
        page: "nc-ndis-miniport_shutdown",
        needs: &[],
        run: |context| shutdown(context, ShutdownAction::PowerOff),
    },
    Case {
        number: 19,
        id: "handlers-at-dispatch",
        area: "2c_Mini6SendRecv",
        title: "Handlers that may be called at DISPATCH_LEVEL do nothing there that must not be done.",
        page: "managing-hardware-priorities",
        needs: &[Need::Ethernet],
        run: handlers_at_dispatch,
    },
    Case {
        number: 20,
        id: "unknown-events",
        area: "GenericMiniportRequirements",
        title: "Unknown PnP events and changes of the power profile change nothing.",
        page: "nc-ndis-miniport_device_pnp_event_notify",
        needs: &[],
        run: unknown_events,
    },
];

/// Sends a chain of three and expects one status of all.
fn refused(adapter: &Adapter, patience: Duration, expect: i32, when: &str) -> Outcome {
    let to = [STRANGER, BROADCAST, STRANGER];
    let lists = to.map(|to| SendNbl::frame(station::frame(to, station::address(adapter), 100, 9)));
    for options in [SendOptions::default(), SendOptions::dispatch()] {
        for outcome in adapter.send_with(&lists, options)?.wait(patience)? {
            check!(
                outcome.status == expect,
                "{when}, a send ends with {} instead of {}",
                status_text(outcome.status),
                status_text(expect)
            );
        }
    }
    Ok(())
}

fn paused_sends(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    refused(&adapter, context.patience, NDIS_STATUS_PAUSED, "before the first restart")?;
    adapter.restart()?;
    adapter.pause()?;
    refused(&adapter, context.patience, NDIS_STATUS_PAUSED, "paused")?;
    adapter.restart()?;
    station::send_all(
        &adapter,
        &[SendNbl::frame(station::frame(STRANGER, station::address(&adapter), 100, 1))],
        SendOptions::default(),
        context.patience,
    )?;
    Ok(())
}

fn pause_waits(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    pair.b.set_return_policy(ReturnPolicy::Hold);
    let lists: Vec<_> = (1..=5).map(|seed| SendNbl::frame(pair.frame(100, seed))).collect();
    pair.carry(&lists, 5)?;
    check!(pair.b.held_receives() == 5, "{} of 5 receives are held", pair.b.held_receives());
    let done = pair.b.pause_with(PauseReason::Internal)?;
    check!(!done && pair.b.state() == State::Pausing, "the pause completes with 5 receives outstanding");
    // What comes now is not for a pausing adapter.
    let before = pair.b.frames_received();
    pair.send(&lists, SendOptions::default())?;
    refused(&pair.b, context.patience, NDIS_STATUS_PAUSED, "while it pauses")?;
    std::thread::sleep(SILENCE);
    check!(pair.b.frames_received() == before, "a pausing adapter indicates new receives");
    let answer = pair.b.oid(Oid::query(OID_GEN_VENDOR_ID, 4))?;
    check!(
        answer.is_success(),
        "an OID request to a pausing adapter ends with {}",
        status_text(answer.status)
    );
    for left in (0..5).rev() {
        check!(
            matches!(pair.b.pause_wait(Duration::from_millis(1)), Err(LabError::Timeout(_))),
            "the pause completes with {} receives outstanding",
            left + 1
        );
        pair.b.return_held_with(1, left % 2 == 0, |_| {})?;
    }
    pair.b.pause_wait(context.patience)?;
    std::thread::sleep(SILENCE);
    check!(pair.b.frames_received() == before, "a paused adapter indicates receives");
    pair.b.set_return_policy(ReturnPolicy::Inside);
    pair.b.restart()?;
    pair.b.take_received();
    pair.still_works()
}

fn pause_under_load(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    pair.b.set_return_policy(ReturnPolicy::After);
    let stop = AtomicBool::new(false);
    let (to_b, to_a) =
        (pair.frame(200, 1), station::frame(station::address(&pair.a), station::address(&pair.b), 90, 2));
    let sender = |adapter: &Adapter, bytes: &[u8], options: SendOptions| -> Result<u64, LabError> {
        let list = SendNbl::frame(bytes);
        let mut sent = 0;
        // Relaxed: only ends the loop.
        while !stop.load(Ordering::Relaxed) {
            adapter.send_with(&[list.clone(), list.clone()], options)?.wait(context_patience())?;
            sent += 2;
        }
        Ok(sent)
    };
    let results = std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| sender(&pair.a, &to_b, SendOptions::default())),
            scope.spawn(|| sender(&pair.a, &to_b, SendOptions::dispatch())),
            scope.spawn(|| sender(&pair.b, &to_a, SendOptions::dispatch())),
        ];
        let mut cycles = Ok(());
        for round in 0..30 {
            let adapter = if round % 2 == 0 { &pair.b } else { &pair.a };
            cycles = cycles.and_then(|()| adapter.pause()).and_then(|()| adapter.restart());
            pair.a.take_received();
            pair.b.take_received();
        }
        stop.store(true, Ordering::Relaxed);
        let sent: Vec<_> =
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(LabError::NotRegistered))).collect();
        cycles.map(|()| sent)
    });
    results?.into_iter().collect::<Result<Vec<_>, _>>()?;
    std::thread::sleep(SILENCE);
    pair.b.take_received();
    pair.still_works()
}

/// The stress threads wait so long for one send; the machine's own limit does not reach them.
const fn context_patience() -> Duration {
    Duration::from_secs(3)
}

fn restart_fails(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let before = context.lab.fault_points();
    adapter.restart()?;
    adapter.pause()?;
    let calls = context.lab.fault_points() - before;
    for skip in 0..calls.min(200) {
        context.lab.fail_after(skip);
        let result = adapter.restart();
        context.lab.clear_faults();
        match result {
            Ok(()) => adapter.pause()?,
            Err(LabError::Restart(_)) => {
                check!(adapter.state() == State::Paused, "the adapter is {:?}", adapter.state());
                refused(&adapter, context.patience, NDIS_STATUS_PAUSED, "after a failed restart")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    adapter.restart()?;
    Ok(())
}

fn restart_works(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    for _ in 0..4 {
        pair.still_works()?;
        pair.b.pause()?;
        // Lost: nobody listens.
        pair.send(&[SendNbl::frame(pair.frame(100, 8))], SendOptions::default())?;
        std::thread::sleep(Duration::from_millis(2));
        pair.b.restart()?;
        pair.still_works()?;
        pair.a.pause()?;
        pair.a.restart()?;
    }
    Ok(())
}

fn halt_from_any_life(context: &Context) -> Outcome {
    let driver = context.driver()?;
    for action in
        [HaltAction::DeviceDisabled, HaltAction::DeviceInstanceDeInitialized, HaltAction::DevicePoweredDown]
    {
        driver.add_adapter(context.config())?.halt(action)?;
    }
    let adapter = driver.add_adapter(context.config())?;
    adapter.restart()?;
    adapter.pnp_event(&PnpEvent::SurpriseRemoved)?;
    adapter.pause_with(PauseReason::Remove)?;
    adapter.pause_wait(context.patience)?;
    adapter.halt(HaltAction::DeviceSurpriseRemoved)?;
    // Removed before it ever ran.
    let adapter = driver.add_adapter(context.config())?;
    adapter.pnp_event(&PnpEvent::SurpriseRemoved)?;
    adapter.halt(HaltAction::DeviceSurpriseRemoved)?;
    Ok(())
}

fn surprise_removal(context: &Context) -> Outcome {
    let adapter = context.running()?;
    adapter.pnp_event(&PnpEvent::SurpriseRemoved)?;
    refused(&adapter, context.patience, NDIS_STATUS_NOT_ACCEPTED, "after surprise removal")?;
    for request in [
        Oid::query(OID_GEN_VENDOR_ID, 4),
        Oid::query(OID_GEN_XMIT_OK, 8),
        Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, station::USUAL_FILTER),
    ] {
        let oid = request.oid;
        let outcome = adapter.oid(request)?;
        check!(
            outcome.status == NDIS_STATUS_NOT_ACCEPTED,
            "after surprise removal OID {oid:#010x} ends with {}",
            status_text(outcome.status)
        );
        check!(outcome.bytes_written == 0 && outcome.bytes_read == 0, "a refused request counts bytes");
    }
    adapter.pause_with(PauseReason::Remove)?;
    adapter.pause_wait(context.patience)?;
    adapter.halt(HaltAction::DeviceSurpriseRemoved)?;
    // The device comes back.
    context.running()?;
    Ok(())
}

fn shutdown(context: &Context, action: ShutdownAction) -> Outcome {
    let adapter = context.running()?;
    let before = context.lab.census();
    adapter.shutdown(action)?;
    let after = context.lab.census();
    // The machine goes down: nothing is paused or halted any more.
    context.abandon();
    check!(before.pool == after.pool, "pool memory before: {before}; after: {after}");
    check!(before.lines().len() == after.lines().len(), "before: {before}; after: {after}");
    Ok(())
}

fn bugcheck_callbacks(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let called = context.lab.rehearse_bugcheck()?;
    drop(adapter);
    // As after a shutdown.
    context.abandon();
    if called.is_empty() {
        return Err(Stop::NotApplicable("it is not told of a bug check".into()));
    }
    for call in called {
        check!(call.failure.is_none(), "{call}");
    }
    Ok(())
}

fn handlers_at_dispatch(context: &Context) -> Outcome {
    let facts = context.facts()?;
    let adapter = context.running()?;
    let own = station::address(&adapter);
    let lists: Vec<_> = (0..8)
        .map(|seed| SendNbl::frame(station::frame(STRANGER, own, 60 + 100 * usize::from(seed), seed)))
        .collect();
    station::send_all(&adapter, &lists, SendOptions::dispatch(), context.patience)?;
    // Without the flag the handler may not conclude anything from it.
    if facts.registered.characteristics.DirectOidRequestHandler.is_some() {
        for oid in [
            ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA,
            ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA,
            0xff12_3456,
        ] {
            adapter.oid(Oid::set(oid, [0; 24]).direct().at_dispatch())?;
            adapter.oid(Oid::set(oid, []).direct().at_dispatch())?;
        }
    }
    if facts.registered.characteristics.ResetHandlerEx.is_some() {
        adapter.reset(ndis_sys::DISPATCH_LEVEL)?;
    }
    if facts.shares_wire {
        let other = context.running()?;
        station::set_filter(&other, station::USUAL_FILTER)?;
        other.set_return_policy(ReturnPolicy::Hold);
        let list = SendNbl::frame(station::frame(station::address(&other), own, 300, 7));
        station::send_all(&adapter, &[list.clone(), list], SendOptions::dispatch(), context.patience)?;
        station::receive(&other, 2, context.patience)?;
        other.return_held_with(2, true, |_| {})?;
    }
    Ok(())
}

fn unknown_events(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let events = [
        PnpEvent::PowerProfileChanged(true),
        PnpEvent::PowerProfileChanged(false),
        PnpEvent::Other(0, Vec::new()),
        PnpEvent::Other(9, vec![1, 2, 3]),
        PnpEvent::Other(i32::MAX, vec![0; 64]),
        PnpEvent::Other(-1, Vec::new()),
    ];
    for event in &events {
        adapter.pnp_event(event)?;
    }
    let answer = adapter.oid(Oid::query(OID_GEN_VENDOR_ID, 4))?;
    check!(
        answer.is_success(),
        "after these events OID_GEN_VENDOR_ID ends with {}",
        status_text(answer.status)
    );
    let list = SendNbl::frame(station::frame(STRANGER, station::address(&adapter), 100, 1));
    station::send_all(&adapter, &[list], SendOptions::default(), context.patience)?;
    Ok(())
}
