//! DELETE_SA against packets, a cancellation and a reset, in every order: one does its part just before the first, second, …
//! call that the driver makes in the handler of the other. Whoever is last ends the request; a
//! wake-up that is lost in between would leave it pending for ever, as nothing else happens here that could make up for it.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::thread::JoinHandle;
use std::time::Duration;

use control::interrupt::{Interrupt, as_far_as_it_can, elsewhere};
use control::{Bench, Flow, Roadblock, delete, status};
use ndis_lab::ipsec_v2::DeleteSaList;
use ndis_lab::{Adapter, Oid, PendingOid};
use ndis_sys::{NDIS_STATUS_FAILURE, NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_SUCCESS};

const PATIENCE: Duration = Duration::from_secs(5);
/// More calls than the driver makes for one request.
const MOST_CALLS: u32 = 40;
const ID: usize = 0x77;
const REQUESTS: &[&str] = &["MiniportDirectOidRequest", "MiniportOidRequest"];

/// A DELETE_SA of the flow: 0 on the direct path, 1 there at DISPATCH_LEVEL, 2 on the regular path.
fn request(flow: &Flow, path: usize) -> Oid {
    let mut request = DeleteSaList::new(&[flow.handle]).unwrap().request().id(ID);
    request.direct = path != 2;
    if path == 1 { request.at_dispatch() } else { request }
}

/// One packet of the SA that is held up in its send call.
fn packet_in_progress(bench: &Bench, a: &Adapter, flow: &mut Flow) -> (Roadblock, JoinHandle<Vec<i32>>) {
    let block = Roadblock::new(&bench.lab);
    let packet = vec![flow.next(b"on its way")];
    let sender = block.send(a, packet);
    (block, sender)
}

/// Tries all orders, each on each path: `round` is given the flow, its request, and which call to come before; it says whether
/// there was that call.
fn in_all_orders(a: &Adapter, b: &Adapter, mut round: impl FnMut(Flow, usize, u32) -> bool) {
    for path in 0..3 {
        let orders = (1..=MOST_CALLS)
            .take_while(|&nth| {
                let flow = Flow::new(1, 2, 0x1000 + nth).add(a, b);
                let inbound = flow.inbound;
                let there = round(flow, path, nth);
                b.take_received();
                delete(b, &[inbound]);
                there
            })
            .count();
        // At least: a look at who waits, on either path, and putting the request there.
        assert!((3..MOST_CALLS as usize).contains(&orders), "path {path}: {orders} orders were tried");
    }
}

fn ends(pending: PendingOid, expected: i32, what: &str) {
    assert!(pending.wait(PATIENCE).unwrap(), "{what}: a DELETE_SA that nobody ends");
    assert_eq!(status(pending.finish().unwrap().status), status(expected), "{what}");
}

on_both! {
    fn the_packet_ends_before_each_call(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let interrupt = Interrupt::new(bench, REQUESTS);
        in_all_orders(&a, &b, |mut flow, path, nth| {
            let (block, sender) = packet_in_progress(bench, &a, &mut flow);
            let (pending, there, sender) = interrupt.at(nth, || a.oid_begin(request(&flow, path)).unwrap(), move || {
                block.release();
                as_far_as_it_can(sender)
            });
            sender.join().unwrap();
            ends(pending, NDIS_STATUS_SUCCESS, &format!("path {path}, call {nth}"));
            there
        });
    }

    fn it_is_cancelled_before_each_call(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let interrupt = Interrupt::new(bench, REQUESTS);
        in_all_orders(&a, &b, |mut flow, path, nth| {
            let (block, sender) = packet_in_progress(bench, &a, &mut flow);
            let other = a.clone();
            let (pending, there, cancellation) = interrupt.at(nth, || a.oid_begin(request(&flow, path)).unwrap(), move || {
                elsewhere(move || other.cancel_oid(ID, path != 2).unwrap())
            });
            cancellation.join().unwrap();
            // The request may not have been there to be found yet; then it is the packet that ends it.
            let expected = if pending.is_done() { NDIS_STATUS_REQUEST_ABORTED } else { NDIS_STATUS_SUCCESS };
            block.release();
            sender.join().unwrap();
            let what = format!("path {path}, call {nth}");
            ends(pending, expected, &what);
            assert_eq!(control::table(&a).0.waiting, 0, "{what}");
            there
        });
    }

    fn a_reset_begins_before_each_call(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let interrupt = Interrupt::new(bench, REQUESTS);
        in_all_orders(&a, &b, |mut flow, path, nth| {
            let (block, sender) = packet_in_progress(bench, &a, &mut flow);
            let other = a.clone();
            let (pending, there, reset) = interrupt.at(nth, || a.oid_begin(request(&flow, path)).unwrap(), move || {
                elsewhere(move || other.reset(0).unwrap())
            });
            let what = format!("path {path}, call {nth}");
            block.release();
            sender.join().unwrap();
            assert!(pending.wait(PATIENCE).unwrap(), "{what}: a DELETE_SA that nobody ends");
            // Cut off by the reset, or freed first by the packet for which the reset waits too.
            let expected = [NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_SUCCESS];
            let found = pending.finish().unwrap().status;
            assert!(expected.contains(&found), "{what}: {}", status(found));
            assert_eq!(status(reset.join().unwrap().status), status(NDIS_STATUS_SUCCESS), "{what}");
            assert_eq!(control::table(&a).0.waiting, 0, "{what}");
            there
        });
    }

    /// The sender's SA is deleted while the packet is on its way out, and the receiver's while it comes in.
    fn it_comes_before_each_call_of_a_packet(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let interrupt = Interrupt::new(bench, &["MiniportSendNetBufferLists", "KDEFERRED_ROUTINE"]);
        for inbound in [false, true] {
            in_all_orders(&a, &b, |mut flow, path, nth| {
                let packet = [flow.next(b"on its way")];
                let handle = if inbound { flow.inbound } else { flow.handle };
                let other = if inbound { b.clone() } else { a.clone() };
                let deleted = Flow { handle, ..flow.clone() };
                let (sent, there, pending) = interrupt.at(nth, || a.send(&packet).unwrap(), move || {
                    elsewhere(move || other.oid_begin(request(&deleted, path)).unwrap())
                });
                let what = format!("inbound {inbound}, path {path}, call {nth}");
                ends(pending.join().unwrap(), NDIS_STATUS_SUCCESS, &what);
                // Protected, or refused because the SA was gone by then; received under its SA, or as it came.
                if inbound {
                    assert_eq!(status(sent[0].status), status(NDIS_STATUS_SUCCESS), "{what}");
                    let slot = control::slot_1(&control::receive(&b));
                    assert!([0, control::CRYPTO_DONE].contains(&slot), "{what}: {slot:#x}");
                    delete(&a, &[flow.handle]);
                } else {
                    let expected = [NDIS_STATUS_SUCCESS, NDIS_STATUS_FAILURE];
                    assert!(expected.contains(&sent[0].status), "{what}: {}", status(sent[0].status));
                }
                for adapter in [&a, &b] {
                    assert_eq!(control::table(adapter).0.waiting, 0, "{what}");
                }
                there
            });
        }
    }
}
