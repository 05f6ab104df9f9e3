//! DELETE_SA against packets, a cancellation and a reset, and ADD_SA against a reset and IPsec off, in every order: one does its part just before the first, second, …
//! call that the driver makes in the handler of the other. Whoever is last ends the request; a
//! wake-up that is lost in between would leave it pending for ever, as nothing else happens here that could make up for it.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use control::interrupt::{Interrupt, as_far_as_it_can, elsewhere};
use control::{Bench, Flow, Roadblock, delete, status};
use ndis_lab::ipsec_v2::{DeleteSaList, handle_of_add_sa_ex};
use ndis_lab::{Adapter, Oid, PendingOid};
use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_SUCCESS,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// More calls than the driver makes for one request.
const MOST_CALLS: u32 = 40;
const ID: usize = 0x77;
/// Where an ADD_SA_EX has its handle.
const HANDLE_AT: usize = std::mem::offset_of!(ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
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

/// Holds each thread of the driver up when it frees memory in a request for the first time.
struct Frees {
    state: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    reached: Vec<ThreadId>,
    released: Vec<ThreadId>,
    /// The test is over.
    all: bool,
}

impl Frees {
    fn watch(bench: &Bench) -> Self {
        let state = Arc::new((Mutex::new(Held::default()), Condvar::new()));
        let shared = state.clone();
        bench.lab.on_call(move |call| {
            if call.handler != Some(REQUESTS[0]) || !call.function.starts_with("ExFreePool") {
                return;
            }
            let (held, changed) = &*shared;
            let mut held = held.lock().unwrap();
            let this = std::thread::current().id();
            if !held.reached.contains(&this) {
                held.reached.push(this);
                changed.notify_all();
                drop(changed.wait_while(held, |held| !held.all && !held.released.contains(&this)).unwrap());
            }
        });
        Self { state }
    }

    /// Waits until a thread, other than this one, is held up.
    fn wait(&self, other: Option<ThreadId>) -> ThreadId {
        let (held, changed) = &*self.state;
        let found = |held: &Held| held.reached.iter().copied().find(|thread| Some(*thread) != other);
        let (held, _) =
            changed.wait_timeout_while(held.lock().unwrap(), PATIENCE, |held| found(held).is_none()).unwrap();
        let thread = found(&held);
        drop(held);
        // The others must not stay held up behind a test that fails.
        thread.unwrap_or_else(|| {
            self.release_all();
            panic!("nobody frees an SA")
        })
    }

    fn release(&self, thread: ThreadId) {
        self.state.0.lock().unwrap().released.push(thread);
        self.state.1.notify_all();
    }

    fn release_all(&self) {
        self.state.0.lock().unwrap().all = true;
        self.state.1.notify_all();
    }
}

impl Drop for Frees {
    fn drop(&mut self) {
        self.release_all();
    }
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

    /// An SA that is added while the adapter is reset, or IPsec is switched off, is there afterwards and works, or was never added.
    fn an_addition_meets_a_change(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let interrupt = Interrupt::new(bench, REQUESTS);
        let switch = |adapter: &Adapter, value| {
            control::set(adapter, control::offload_parameters(&[(control::IPSEC_V2_IPV4, value)]));
        };
        for (change, refusal) in [("reset", NDIS_STATUS_NOT_ACCEPTED), ("IPsec off", NDIS_STATUS_FAILURE)] {
            for path in 0..2 {
                let mut orders = 0;
                for nth in 1..=MOST_CALLS {
                    let what = format!("{change}, path {path}, call {nth}");
                    let mut flow = Flow::new(1, 2, 0x3000 + nth);
                    flow.inbound = control::add(&b, &flow.parameters(true));
                    let mut buffer = flow.parameters(false).add_sa_ex();
                    buffer[HANDLE_AT..HANDLE_AT + 8].fill(0xEE);
                    let request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer).direct();
                    let request = if path == 1 { request.at_dispatch() } else { request };
                    let other = a.clone();
                    let (added, there, thread) = interrupt.at(nth, || a.oid(request).unwrap(), move || {
                        elsewhere(move || match change {
                            "reset" => assert_eq!(other.reset(0).unwrap().status, NDIS_STATUS_SUCCESS),
                            _ => switch(&other, 1),
                        })
                    });
                    thread.join().unwrap();
                    let handle = handle_of_add_sa_ex(&added.buffer);
                    let expected = if handle.is_some() { NDIS_STATUS_SUCCESS } else { refusal };
                    assert_eq!(status(added.status), status(expected), "{what}");
                    let (_, entries) = control::table(&a);
                    assert_eq!(entries.len(), usize::from(handle.is_some()), "{what}");
                    assert!(entries.iter().all(|entry| entry.loaded), "{what}: not in the device");
                    if let Some(handle) = handle {
                        flow.handle = handle;
                        if change == "IPsec off" {
                            flow.is_refused(&a, &b);
                            switch(&a, 3);
                        }
                        flow.works(&a, &b);
                        delete(&a, &[handle]);
                    }
                    switch(&a, 3);
                    delete(&b, &[flow.inbound]);
                    if !there {
                        break;
                    }
                    orders += 1;
                }
                assert!((1..MOST_CALLS).contains(&orders), "{change}, path {path}: {orders} orders were tried");
            }
        }
    }

    /// Of a long list the first SAs are freed while the others are still being unpublished, and another request has a hand in
    /// that: as long as it is at one of them, the long list has not come to its end.
    fn another_request_frees_one_of_its_sas(bench) {
        let a = bench.station_with(1, ndis_lab::AdapterConfig::new().keyword("SaOffloadCapacity", "64"));
        let handles: Vec<_> = (1..=41).map(|spi| control::add(&a, &Flow::new(1, 2, spi).parameters(false))).collect();
        let (other, long) = handles.split_first().unwrap();
        let frees = Frees::watch(bench);
        let begin = |handles: &[usize]| {
            let (a, request) = (a.clone(), DeleteSaList::new(handles).unwrap().request());
            std::thread::spawn(move || a.oid_begin(request).unwrap())
        };
        let deletion = begin(long);
        // Its own thread has got to the first SA, the other one's to the second.
        let mine = frees.wait(None);
        let helper = begin(&[*other]);
        let helping = frees.wait(Some(mine));
        frees.release(mine);
        let deletion = deletion.join().unwrap();
        assert!(deletion.pended() && !deletion.is_done(), "an SA of the list is not freed yet");
        frees.release(helping);
        ends(helper.join().unwrap(), NDIS_STATUS_SUCCESS, "one SA");
        ends(deletion, NDIS_STATUS_SUCCESS, "the list");
        let (summary, entries) = control::table(&a);
        assert_eq!((summary.deleted, summary.waiting, entries.len()), (41, 0, 0));
    }

    /// An addition to a full table frees an SA that is being deleted, as it needs the slot: it is for the addition to tell.
    fn an_addition_frees_one_of_its_sas(bench) {
        let a = bench.station_with(1, ndis_lab::AdapterConfig::new().keyword("SaOffloadCapacity", "2"));
        let handles: Vec<_> = (1..=2).map(|spi| control::add(&a, &Flow::new(1, 2, spi).parameters(false))).collect();
        let frees = Frees::watch(bench);
        let (other, request) = (a.clone(), DeleteSaList::new(&handles).unwrap().request());
        let deletion = std::thread::spawn(move || other.oid_begin(request).unwrap());
        // It has got to the one, and the addition to the other.
        let mine = frees.wait(None);
        let other = a.clone();
        let addition = std::thread::spawn(move || control::add(&other, &Flow::new(1, 2, 3).parameters(false)));
        let helping = frees.wait(Some(mine));
        frees.release(mine);
        let deletion = deletion.join().unwrap();
        assert!(deletion.pended() && !deletion.is_done(), "an SA of the list is not freed yet");
        frees.release(helping);
        let added = addition.join().unwrap();
        ends(deletion, NDIS_STATUS_SUCCESS, "the list");
        let (summary, entries) = control::table(&a);
        assert_eq!((summary.deleted, summary.waiting, entries.len()), (2, 0, 1));
        assert!(!handles.contains(&added));
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
