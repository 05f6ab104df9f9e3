//! A wedged device, its reset, and the ends of an adapter: what SAs, sends and requests come to.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use control::{
    Bench, CRYPTO_DONE, Flow, Roadblock, Source, add, load, offload_parameters, receive, set, slot_1, status,
    stop, table, watch_freed_memory,
};
use ipsecnic::dump::{OID_IPSECNIC_WEDGE, wedge_order};
use ndis_lab::ipsec_v2::{AddSaList, DeleteSaList, Operation, handle_of_add_sa_ex, update_sa};
use ndis_lab::{Adapter, AdapterConfig, HaltAction, Lab, Oid, PnpEvent, SendNbl, SendOptions, Sent};
use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_LOW_POWER_STATE,
    NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_PAUSED, NDIS_STATUS_REQUEST_ABORTED,
    NDIS_STATUS_RESET_IN_PROGRESS, NDIS_STATUS_SEND_ABORTED, NDIS_STATUS_SUCCESS,
};

/// A station whose device may be wedged.
fn fragile(bench: &Bench, number: u8) -> Adapter {
    let config = AdapterConfig::new().keyword("FaultInjection", "1").keyword("SaOffloadCapacity", "64");
    bench.station_with(number, config)
}

fn wedge(adapter: &Adapter, frames: u32) {
    set(adapter, Oid::set(OID_IPSECNIC_WEDGE, wedge_order(Some(frames))));
}

/// Sends a packet of the flow that the device does not give back.
fn stuck(flow: &mut Flow, sender: &Adapter) -> Sent {
    let nbl = flow.next(b"a packet of the flow").cancel_id(0x5EED);
    let sent = sender.send_with(&[nbl], SendOptions::default()).unwrap();
    assert!(!sent.is_done(), "the device has it");
    sent
}

#[track_caller]
fn ended(sent: &Sent, expected: i32) {
    let statuses: Vec<_> = sent.outcomes().into_iter().map(|o| o.map(|o| status(o.status))).collect();
    assert!(statuses.iter().all(|found| *found == Some(status(expected))), "{statuses:?}");
}

fn reset(adapter: &Adapter, irql: u8) {
    let outcome = adapter.reset(irql).unwrap();
    assert_eq!((status(outcome.status), outcome.addressing), (status(NDIS_STATUS_SUCCESS), false));
    assert!(!adapter.check_for_hang().unwrap());
}

/// Requests for SAs that are turned away unseen leave no handle that was there before: NOT_ACCEPTED has success severity, and
/// who looks at that alone must not take one for an SA.
fn no_handle_is_left(adapter: &Adapter) {
    const AT: usize = std::mem::offset_of!(ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
    let sas = [0x22, 0x23].map(|spi| Flow::new(1, 2, spi).parameters(false));
    for direct in [true, false] {
        let mut buffer = sas[0].add_sa_ex();
        buffer[AT..AT + 8].fill(0xFF);
        let request = Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer);
        let outcome = adapter.oid(if direct { request.direct() } else { request }).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_NOT_ACCEPTED));
        assert_eq!(handle_of_add_sa_ex(&outcome.buffer), None);
        let at = std::mem::offset_of!(ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle);
        let list = AddSaList::new(&sas).unwrap().with_bytes(0, at, &[0xFF; 8]).with_bytes(1, at, &[0xFF; 8]);
        let mut request = list.request();
        request.direct = direct;
        let outcome = adapter.oid(request).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_NOT_ACCEPTED));
        assert_eq!(list.handles(), [None, None]);
    }
}

/// [`what_comes_during_a_reset`] with a DELETE_SA on the direct or the regular path.
fn comes_during_a_reset(bench: &Bench, direct: bool) {
    let (a, b) = (fragile(bench, 1), bench.station(2));
    let mut flow = Flow::new(1, 2, 0x20).extended(1).add(&a, &b);
    let mut kept = Flow::new(1, 2, 0x21).add(&a, &b);
    let block = Roadblock::new(&bench.lab);
    let first = flow.next(b"a packet of the flow");
    let sender = block.send(&a, vec![first, flow.next(b"held up")]);
    let delete = DeleteSaList::new(&[flow.handle]).unwrap();
    let mut request = delete.request();
    request.direct = direct;
    let pending = a.oid_begin(request).unwrap();
    assert!(pending.pended() && !pending.is_done());
    let resetting = {
        let a = a.clone();
        std::thread::spawn(move || a.reset(0).unwrap())
    };
    // The reset's first act.
    assert!(pending.wait(Duration::from_secs(5)).unwrap());
    assert_eq!(status(pending.finish().unwrap().status), status(NDIS_STATUS_REQUEST_ABORTED));
    assert!(!resetting.is_finished());
    let requests = [
        (
            "ADD_SA_EX",
            Oid::set(
                ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
                Flow::new(1, 2, 0x22).parameters(false).add_sa_ex(),
            )
            .direct(),
        ),
        ("UPDATE_SA", update_sa(kept.handle, Operation::Esp, kept.spi, 2)),
        ("DELETE_SA", DeleteSaList::new(&[kept.handle]).unwrap().request()),
        ("DELETE_SA at dispatch", DeleteSaList::new(&[kept.handle]).unwrap().request().at_dispatch()),
        ("a regular query", Oid::query(ndis_sys::OID_GEN_STATISTICS, 152)),
        ("a regular set", Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, 0)),
    ];
    for (what, request) in requests {
        let outcome = a.oid(request).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_NOT_ACCEPTED), "{what}");
        assert_eq!((outcome.bytes_read, outcome.bytes_written), (0, 0), "{what}");
    }
    no_handle_is_left(&a);
    let outcome = a.send(&[kept.next(b"refused")]).unwrap();
    assert_eq!(status(outcome[0].status), status(NDIS_STATUS_RESET_IN_PROGRESS));
    assert!(!resetting.is_finished());
    block.release();
    let outcome = resetting.join().unwrap();
    assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
    assert_eq!(sender.join().unwrap(), [NDIS_STATUS_SUCCESS, NDIS_STATUS_FAILURE]);
    assert_eq!(slot_1(&receive(&b)), CRYPTO_DONE);
    // The deletion happened; the other SA is as it was.
    flow.is_refused(&a, &b);
    kept.works(&a, &b);
    assert_eq!((table(&a).1.len(), table(&a).0.waiting), (1, 0));
}

on_both! {
    /// The device wedges in the middle of a chain; the reset brings SAs, handles, filters and traffic back.
    fn a_wedged_device_is_found_and_reset(bench) {
        let (a, b) = (fragile(bench, 1), bench.station(2));
        let mut there = Flow::new(1, 2, 0x10).extended(3).add(&a, &b);
        let mut back = Flow::new(2, 1, 0x11).add(&b, &a);
        there.works(&a, &b);
        for (round, irql) in [(1_u32, 0_u8), (2, 2)] {
            assert!(!a.check_for_hang().unwrap());
            wedge(&a, 2);
            let chain: Vec<_> = (0..5).map(|_| there.next(b"a packet of the flow")).collect();
            let sent = a.send_with(&chain, SendOptions::default()).unwrap();
            let done: Vec<_> = sent.outcomes().iter().map(Option::is_some).collect();
            assert_eq!(done, [true, true, false, false, false]);
            assert_eq!(b.wait_received(2, Duration::from_secs(5)).unwrap().len(), 2);
            // What follows waits behind them, and what comes is lost.
            let later = stuck(&mut there, &a);
            let outcome = b.send(&[back.next(b"lost")]).unwrap();
            assert_eq!(status(outcome[0].status), status(NDIS_STATUS_SUCCESS));
            assert!(a.check_for_hang().unwrap());
            let (summary, _) = table(&a);
            assert!(summary.wedged);
            let before = a.frames_received();
            reset(&a, irql);
            let statuses: Vec<_> = sent.outcomes().into_iter().map(|o| o.unwrap().status).collect();
            let aborted = NDIS_STATUS_RESET_IN_PROGRESS;
            assert_eq!(statuses, [NDIS_STATUS_SUCCESS, NDIS_STATUS_SUCCESS, aborted, aborted, aborted]);
            ended(&later, aborted);
            assert_eq!(a.frames_received(), before);
            // As before, in both directions, with the same handles: every SA is in its slot again.
            there.works(&a, &b);
            back.works(&b, &a);
            let (summary, entries) = table(&a);
            assert!(!summary.wedged && summary.transmits && summary.receives);
            assert_eq!((summary.resets, summary.added, summary.deleted), (round, 2, 0));
            assert!(entries.len() == 2 && entries.iter().all(|sa| sa.loaded));
            assert!(a.take_statuses().is_empty(), "NDIS indicates the reset itself");
        }
    }

    /// While a packet is in progress the reset waits; requests and sends are turned away, pended deletes, of either path, are
    /// cut off.
    fn what_comes_during_a_reset(bench) {
        for direct in [true, false] {
            comes_during_a_reset(bench, direct);
        }
    }

    /// Sends that a wedged device holds end with a pause, sleep, removal or their cancellation.
    fn held_sends_end_otherwise(bench) {
        let (a, b) = (fragile(bench, 1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x30).add(&a, &b);
        wedge(&a, 0);
        assert!(a.check_for_hang().unwrap());
        let held = stuck(&mut flow, &a);
        a.cancel_send(1).unwrap();
        assert!(!held.is_done());
        a.cancel_send(0x5EED).unwrap();
        ended(&held, NDIS_STATUS_SEND_ABORTED);

        let held = stuck(&mut flow, &a);
        a.pause().unwrap();
        ended(&held, NDIS_STATUS_PAUSED);
        let outcome = a.send(&[flow.next(b"paused")]).unwrap();
        assert_eq!(status(outcome[0].status), status(NDIS_STATUS_PAUSED));
        a.restart().unwrap();

        let held = stuck(&mut flow, &a);
        let set_power = |state: i32| Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned());
        set(&a, set_power(ndis_sys::NdisDeviceStateD3));
        ended(&held, NDIS_STATUS_LOW_POWER_STATE);
        set(&a, set_power(ndis_sys::NdisDeviceStateD0));
        // Still wedged; a reset of a paused adapter mends it.
        let held = stuck(&mut flow, &a);
        a.pause().unwrap();
        ended(&held, NDIS_STATUS_PAUSED);
        reset(&a, 0);
        a.restart().unwrap();
        flow.works(&a, &b);

        wedge(&a, 0);
        let held = stuck(&mut flow, &a);
        a.pnp_event(&PnpEvent::SurpriseRemoved).unwrap();
        ended(&held, NDIS_STATUS_NOT_ACCEPTED);
    }

    /// Gone: everything is refused, and halt frees SAs that nobody deleted, without a key in the freed memory.
    fn surprise_removal(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x40).add(&a, &b);
        let found = watch_freed_memory(&bench.lab, &[flow.key.to_vec()]);
        a.pnp_event(&PnpEvent::SurpriseRemoved).unwrap();
        let outcome = a.send(&[flow.next(b"gone")]).unwrap();
        assert_eq!(status(outcome[0].status), status(NDIS_STATUS_NOT_ACCEPTED));
        for request in [
            DeleteSaList::new(&[flow.handle]).unwrap().request(),
            Oid::query(ipsecnic::dump::OID_IPSECNIC_SA_TABLE, 4096),
            Oid::query(ndis_sys::OID_GEN_XMIT_OK, 8),
        ] {
            assert_eq!(status(a.oid(request).unwrap().status), status(NDIS_STATUS_NOT_ACCEPTED));
        }
        no_handle_is_left(&a);
        a.pause().unwrap();
        a.halt(HaltAction::DeviceSurpriseRemoved).unwrap();
        assert_eq!(found.load(Relaxed), 0);
    }

    /// Sleep keeps SAs; a wake-up that fails ends in a halt, which frees them.
    fn sleep_and_a_failed_power_up(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x50).add(&a, &b);
        let set_power = |state: i32| Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned());
        for adapter in [&a, &b] {
            set(adapter, set_power(ndis_sys::NdisDeviceStateD3));
        }
        let outcome = a.send(&[flow.next(b"asleep")]).unwrap();
        assert_eq!(status(outcome[0].status), status(NDIS_STATUS_LOW_POWER_STATE));
        // Requests are answered asleep as well.
        let other = add(&a, &Flow::new(1, 2, 0x51).parameters(false));
        control::delete(&a, &[other]);
        for adapter in [&a, &b] {
            set(adapter, set_power(ndis_sys::NdisDeviceStateD0));
        }
        flow.works(&a, &b);
        let found = watch_freed_memory(&bench.lab, &[flow.key.to_vec()]);
        set(&a, set_power(ndis_sys::NdisDeviceStateD3));
        a.pause().unwrap();
        a.halt(HaltAction::DevicePoweredDown).unwrap();
        assert_eq!(found.load(Relaxed), 0);
    }

    /// Going to sleep waits for the packet in progress; it is carried to its end, and what comes later is turned away.
    fn sleep_against_a_packet_in_progress(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x58).add(&a, &b);
        let set_power = |state: i32| Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned());
        for state in [ndis_sys::NdisDeviceStateD1, ndis_sys::NdisDeviceStateD2, ndis_sys::NdisDeviceStateD3] {
            a.take_statuses();
            let block = Roadblock::new(&bench.lab);
            let first = flow.next(b"a packet of the flow");
            let sender = block.send(&a, vec![first, flow.next(b"held up")]);
            let falling_asleep = {
                let a = a.clone();
                std::thread::spawn(move || set(&a, set_power(state)))
            };
            // Until the gate is shut, packets pass; then they are turned away, though it is not asleep yet.
            let mut early = 0;
            while a.send(&[flow.next(b"early or too late")]).unwrap()[0].status == NDIS_STATUS_SUCCESS {
                early += 1;
                std::thread::yield_now();
            }
            let outcome = a.send(&[flow.next(b"too late")]).unwrap();
            assert_eq!(status(outcome[0].status), status(NDIS_STATUS_LOW_POWER_STATE));
            assert!(!falling_asleep.is_finished(), "the packet is still being worked at");
            assert!(a.take_statuses().is_empty(), "not asleep yet");
            block.release();
            let done = sender.join().unwrap();
            falling_asleep.join().unwrap();
            assert_eq!(done, [NDIS_STATUS_SUCCESS, NDIS_STATUS_SUCCESS]);
            assert_eq!(b.wait_received(2 + early, Duration::from_secs(5)).unwrap().len(), 2 + early);
            assert_eq!(a.take_statuses().len(), 1, "the link");
            set(&a, set_power(ndis_sys::NdisDeviceStateD0));
            flow.works(&a, &b);
        }
        assert_eq!(table(&a).1.len(), 1);
    }

    /// UPDATE_SA and DELETE_SA of an SA whatever the adapter is at: the SA is there or it is not.
    fn requests_in_every_state(bench) {
        let (a, b) = (fragile(bench, 1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x5A).extended(1).add(&a, &b);
        let set_power = |state: i32| Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned());
        let mut high = 1;
        let mut update = |what: &str, expected: i32| {
            high += 1;
            let outcome = a.oid(update_sa(flow.handle, Operation::Esp, flow.spi, high)).unwrap();
            assert_eq!(status(outcome.status), status(expected), "{what}");
            high
        };
        update("running", NDIS_STATUS_SUCCESS);
        set(&a, offload_parameters(&[(control::IPSEC_V2_IPV4, 1)]));
        update("IPsec off", NDIS_STATUS_SUCCESS);
        set(&a, offload_parameters(&[(control::IPSEC_V2_IPV4, 3)]));
        set(&a, set_power(ndis_sys::NdisDeviceStateD3));
        update("asleep", NDIS_STATUS_SUCCESS);
        set(&a, set_power(ndis_sys::NdisDeviceStateD0));
        a.pause().unwrap();
        update("paused", NDIS_STATUS_SUCCESS);
        a.restart().unwrap();
        wedge(&a, 0);
        update("wedged", NDIS_STATUS_SUCCESS);
        reset(&a, 0);
        let high = update("reset", NDIS_STATUS_SUCCESS);
        flow.high = Some(high);
        set(&b, update_sa(flow.inbound, Operation::Esp, flow.spi, high));
        flow.works(&a, &b);
        // Deleted, though its last packet is still in progress.
        let block = Roadblock::new(&bench.lab);
        let first = flow.next(b"a packet of the flow");
        let sender = block.send(&a, vec![first, flow.next(b"held up")]);
        let pending = a.oid_begin(DeleteSaList::new(&[flow.handle]).unwrap().request()).unwrap();
        assert!(pending.pended() && !pending.is_done());
        let outcome = a.oid(update_sa(flow.handle, Operation::Esp, flow.spi, 9)).unwrap();
        assert_eq!(status(outcome.status), status(ndis_sys::NDIS_STATUS_INVALID_PARAMETER), "being deleted");
        // The slot is not to be had before the packet is done, the SPI is.
        let again = add(&a, &flow.parameters(false));
        assert_ne!(again, flow.handle);
        block.release();
        sender.join().unwrap();
        assert!(pending.wait(Duration::from_secs(5)).unwrap());
        assert_eq!(status(pending.finish().unwrap().status), status(NDIS_STATUS_SUCCESS));
        a.pnp_event(&PnpEvent::SurpriseRemoved).unwrap();
        let outcome = a.oid(update_sa(again, Operation::Esp, flow.spi, 9)).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_NOT_ACCEPTED), "gone");
    }

    /// A removal does not touch a request that waits: the packet's end completes it, and halt frees the rest.
    fn removal_while_a_request_waits(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x5C).add(&a, &b);
        let mut back = Flow::new(2, 1, 0x5D).add(&b, &a);
        back.works(&b, &a);
        let keys = [flow.key.to_vec(), back.key.to_vec()];
        let found = watch_freed_memory(&bench.lab, &keys);
        let block = Roadblock::new(&bench.lab);
        let first = flow.next(b"a packet of the flow");
        let sender = block.send(&a, vec![first, flow.next(b"held up")]);
        let pending = a.oid_begin(DeleteSaList::new(&[flow.handle]).unwrap().request()).unwrap();
        assert!(pending.pended());
        a.pnp_event(&PnpEvent::SurpriseRemoved).unwrap();
        assert!(!pending.is_done());
        block.release();
        sender.join().unwrap();
        assert!(pending.wait(Duration::from_secs(5)).unwrap());
        assert_eq!(status(pending.finish().unwrap().status), status(NDIS_STATUS_SUCCESS));
        a.pause().unwrap();
        a.halt(HaltAction::DeviceSurpriseRemoved).unwrap();
        assert_eq!(found.load(Relaxed), 0, "key bytes in freed memory");
    }

    /// A handle of an earlier adapter in the same place names nothing, whatever is in its slot now.
    fn handles_of_an_earlier_life(bench) {
        let b = bench.station(2);
        let mut handles = Vec::new();
        for life in 0..20_u32 {
            let a = bench.station(1);
            let mut flow = Flow::new(1, 2, 0x60).add(&a, &b);
            for stale in &handles {
                let mut old = Flow { handle: *stale, ..flow.clone() };
                old.is_refused(&a, &b);
                control::delete(&a, &[*stale]);
            }
            flow.works(&a, &b);
            assert_eq!((table(&a).0.deleted, table(&a).0.skipped), (0, life.into()));
            assert!(!handles.contains(&flow.handle));
            handles.push(flow.handle);
            control::delete(&b, &[flow.inbound]);
            stop(&a);
        }
    }

    /// The order to wedge is there by keyword only, and checked like any other structure.
    fn the_order_to_wedge(bench) {
        let (plain, fragile) = (bench.station(1), fragile(bench, 2));
        let order = |bytes: &[u8]| Oid::set(OID_IPSECNIC_WEDGE, bytes);
        let whole = wedge_order(Some(0));
        assert_eq!(status(plain.oid(order(&whole)).unwrap().status), status(NDIS_STATUS_NOT_SUPPORTED));
        assert!(!plain.check_for_hang().unwrap());
        for len in 0..whole.len() {
            let outcome = fragile.oid(order(&whole[..len])).unwrap();
            assert_eq!((status(outcome.status), outcome.bytes_needed), (status(NDIS_STATUS_INVALID_LENGTH), 8));
        }
        for (at, value) in [(0, 0x81), (1, 0), (2, 7), (2, 9)] {
            let mut wrong = whole;
            wrong[at] = value;
            let outcome = fragile.oid(order(&wrong)).unwrap();
            assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_DATA));
        }
        assert!(!fragile.check_for_hang().unwrap());
        let outcome = fragile.oid(order(&wedge_order(Some(1)))).unwrap();
        assert_eq!((status(outcome.status), outcome.bytes_read), (status(NDIS_STATUS_SUCCESS), 8));
        let outcome = fragile.oid(order(&wedge_order(None))).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        for _ in 0..3 {
            let sent = fragile.send(&[SendNbl::frame(vec![0xFF; 60])]).unwrap();
            assert_eq!(status(sent[0].status), status(NDIS_STATUS_SUCCESS));
        }
        assert!(!plain.attributes().general.supported_oids.contains(&OID_IPSECNIC_WEDGE));
        assert!(plain.attributes().general.supported_oids.contains(&ipsecnic::dump::OID_IPSECNIC_SA_TABLE));
    }

    /// A reset keeps the offload configuration too: off stays off.
    fn the_configuration_outlives_a_reset(bench) {
        let (a, b) = (fragile(bench, 1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x70).add(&a, &b);
        set(&a, offload_parameters(&[(control::IPSEC_V2_IPV4, 1)]));
        wedge(&a, 0);
        reset(&a, 0);
        flow.is_refused(&a, &b);
        set(&a, offload_parameters(&[(control::IPSEC_V2_IPV4, 3)]));
        flow.works(&a, &b);
    }
}

/// A handle of an earlier load of the driver names nothing either: neither the image nor the kernel remembers it.
fn handles_of_an_earlier_load(source: Source) {
    let lab = Lab::new();
    let mut handles = Vec::new();
    for _ in 0..12 {
        let Some(driver) = load(source, &lab) else { return };
        for _ in 0..3 {
            let config = AdapterConfig::new().keyword("SaOffloadCapacity", "8");
            let a = driver.add_adapter(config).expect("MiniportInitializeEx");
            let new: Vec<_> = (1..=8).map(|spi| add(&a, &Flow::new(1, 2, spi).parameters(false))).collect();
            if !handles.is_empty() {
                control::delete(&a, &handles);
            }
            let (summary, entries) = table(&a);
            assert_eq!((entries.len(), summary.skipped), (8, handles.len() as u64));
            handles.extend(new);
            stop(&a);
        }
        driver.unload().expect("unload");
    }
    lab.assert_clean();
    let distinct: std::collections::HashSet<_> = handles.iter().collect();
    assert_eq!(distinct.len(), handles.len());
}

#[test]
fn handles_of_an_earlier_load_native() {
    handles_of_an_earlier_load(Source::Native);
}

#[test]
fn handles_of_an_earlier_load_image() {
    handles_of_an_earlier_load(Source::Image);
}
