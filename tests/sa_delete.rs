//! DELETE_SA: lists, pending requests and their ends, and what is left of a key.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use control::{
    Flow, Roadblock, SA_DELETE_REQ, Source, add, delete, load, offload_parameters, set, slot_1, status,
    table, watch_freed_memory,
};
use ndis_lab::ipsec_v2::{AddSaList, DeleteSaList, Operation};
use ndis_lab::{AdapterConfig, Lab, Oid, SendNbl};
use ndis_sys::{
    NDIS_OBJECT_HEADER, NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_SUCCESS,
};

/// Long enough for a thread to be done, short enough to wait for what must not come.
const MOMENT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(5);

fn regular(mut oid: Oid) -> Oid {
    oid.direct = false;
    oid
}

on_both! {
    /// A packet in progress keeps its SA; the request pends and the packet's end completes it, on either path.
    fn the_last_packet_completes_the_request(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        for (spi, path) in [(0x10, "direct"), (0x11, "regular"), (0x12, "at dispatch")] {
            let mut flow = Flow::new(1, 2, spi).add(&a, &b);
            let found = watch_freed_memory(&bench.lab, &[flow.key.to_vec()]);
            let block = Roadblock::new(&bench.lab);
            let sender = block.send(&a, two(&mut flow));
            let request = DeleteSaList::new(&[flow.handle]).unwrap().request();
            let pending = a.oid_begin(match path {
                "regular" => regular(request),
                "at dispatch" => request.at_dispatch(),
                _ => request,
            }).unwrap();
            assert!(pending.pended() && !pending.is_done(), "{path}");
            assert_eq!(table_of(&a, path), None::<usize>);
            // New packets do not find it any more.
            assert_eq!(slot_1(&control::receive(&b)), control::CRYPTO_DONE, "what it protected has gone out");
            flow.is_refused(&a, &b);
            assert!(!pending.wait(MOMENT).unwrap());
            block.release();
            assert_eq!(sender.join().unwrap(), ONE_OF_TWO);
            assert!(pending.wait(PATIENCE).unwrap());
            let outcome = pending.finish().unwrap();
            assert_eq!((status(outcome.status), outcome.bytes_read), (status(NDIS_STATUS_SUCCESS), 24));
            assert_eq!(table(&a).0.waiting, 0);
            delete(&b, &[flow.inbound]);
            assert_eq!(found.load(Relaxed), 0, "key bytes in freed memory");
        }
    }

    /// A cancelled request ends with REQUEST_ABORTED; its SAs are deleted all the same.
    fn cancelled(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        for direct in [true, false] {
            let mut flow = Flow::new(1, 2, 0x20 + u32::from(direct)).add(&a, &b);
            let block = Roadblock::new(&bench.lab);
            let sender = block.send(&a, two(&mut flow));
            let request = DeleteSaList::new(&[flow.handle]).unwrap().request().id(0x77);
            let pending = a.oid_begin(if direct { request } else { regular(request) }).unwrap();
            a.cancel_oid(0x78, direct).unwrap();
            a.cancel_oid(0x77, !direct).unwrap();
            assert!(!pending.is_done(), "another id, another path");
            pending.cancel().unwrap();
            let outcome = pending.finish().unwrap();
            assert_eq!((status(outcome.status), outcome.bytes_read), (status(NDIS_STATUS_REQUEST_ABORTED), 0));
            flow.is_refused(&a, &b);
            block.release();
            assert_eq!(sender.join().unwrap(), ONE_OF_TWO);
            control::receive(&b);
            assert_eq!((table(&a).0.entries, table(&a).0.waiting), (0, 0));
            // It has ended: a late cancellation finds nothing.
            a.cancel_oid(0x77, direct).unwrap();
        }
    }

    /// Several lists pend behind one packet and all end with it; those that no packet uses do not wait at all.
    fn several_requests_behind_one_packet(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x30).add(&a, &b);
        let idle: Vec<_> = (0..9).map(|n| add(&a, &Flow::new(1, 2, 0x40 + n).parameters(false))).collect();
        delete(&a, &idle[..3]);
        let block = Roadblock::new(&bench.lab);
        let sender = block.send(&a, two(&mut flow));
        let begin = |handles: &[usize]| a.oid_begin(DeleteSaList::new(handles).unwrap().request()).unwrap();
        let pending = [begin(&[flow.handle]), begin(&idle[3..5]), begin(&idle[5..])];
        // Only handles that name nothing: there is nothing to wait for.
        delete(&a, &idle[..3]);
        delete(&a, &[flow.handle]);
        assert!(pending[0].pended());
        block.release();
        assert_eq!(sender.join().unwrap(), ONE_OF_TWO);
        for request in pending {
            assert!(request.wait(PATIENCE).unwrap());
            assert_eq!(status(request.finish().unwrap().status), status(NDIS_STATUS_SUCCESS));
        }
        control::receive(&b);
        let (summary, entries) = table(&a);
        assert_eq!((summary.deleted, summary.skipped, summary.waiting, entries.len()), (10, 4, 0, 0));
    }

    fn nothing_is_deleted_by_a_malformed_list(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x50).add(&a, &b);
        let other = add(&a, &Flow::new(1, 2, 0x51).parameters(false));
        let list = || DeleteSaList::new(&[flow.handle, other, 0]).unwrap();
        let header = |kind, revision, size| NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size };
        let malformed = [
            ("a cycle", list().with_link(2, 0), NDIS_STATUS_INVALID_PARAMETER),
            ("a cycle of one", list().with_link(1, 1), NDIS_STATUS_INVALID_PARAMETER),
            ("a wrong type", list().with_header(2, header(0x81, 1, 24)), NDIS_STATUS_INVALID_DATA),
            ("revision 0", list().with_header(1, header(0x80, 0, 24)), NDIS_STATUS_INVALID_DATA),
            ("a short element", list().with_header(2, header(0x80, 1, 23)), NDIS_STATUS_INVALID_LENGTH),
            ("a short first one", list().with_header(0, header(0x80, 1, 0)), NDIS_STATUS_INVALID_LENGTH),
        ];
        for (what, list, expected) in malformed {
            let outcome = a.oid(list.request()).unwrap();
            assert_eq!(status(outcome.status), status(expected), "{what}");
        }
        for len in 0..24 {
            let mut bytes = vec![0x80, 1, 24, 0, 0, 0, 0, 0];
            bytes.extend(0_u64.to_le_bytes());
            bytes.extend(flow.handle.to_le_bytes());
            bytes.truncate(len);
            let oid = Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA, bytes).direct();
            let outcome = a.oid(oid).unwrap();
            assert_eq!((status(outcome.status), outcome.bytes_needed), (status(NDIS_STATUS_INVALID_LENGTH), 24), "{len}");
        }
        assert_eq!(table(&a).0.deleted, 0);
        flow.works(&a, &b);
    }

    /// Zero, unknown, stale and repeated handles in a sound list are skipped and counted.
    fn handles_that_name_nothing(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x60).add(&a, &b);
        let old = add(&a, &Flow::new(1, 2, 0x61).parameters(false));
        delete(&a, &[old]);
        let slot = add(&a, &Flow::new(1, 2, 0x62).parameters(false));
        assert_eq!(slot & 0xFFFF, old & 0xFFFF, "the same slot, another generation");
        let made_up = [flow.handle ^ 2, flow.handle ^ 1 << 17, flow.handle ^ 1 << 20];
        let nothing = [[0, 1, usize::MAX, old, old].as_slice(), &made_up].concat();
        for handle in &nothing {
            delete(&a, &[*handle]);
        }
        delete(&a, &nothing);
        assert_eq!((table(&a).0.deleted, table(&a).0.skipped), (1, 16));
        flow.works(&a, &b);
        delete(&a, &[slot, slot, flow.handle, slot]);
        assert_eq!((table(&a).0.deleted, table(&a).0.skipped), (3, 18));
        flow.is_refused(&a, &b);
    }

    /// A list as long as the table; and one that is longer than any list.
    fn long_lists(bench) {
        let a = bench.adapter(AdapterConfig::new().keyword("SaOffloadCapacity", "5000"));
        let sas: Vec<_> = (1..=5000).map(|spi| Flow::new(1, 2, spi).parameters(spi % 2 == 0)).collect();
        let list = AddSaList::new(&sas).unwrap();
        assert_eq!(status(a.oid(list.request()).unwrap().status), status(NDIS_STATUS_SUCCESS));
        let handles: Vec<_> = list.handles().into_iter().map(Option::unwrap).collect();
        assert_eq!(table(&a).1.len(), 5000);
        let mut too_long = handles.clone();
        too_long.resize(65_537, 0);
        let outcome = a.oid(DeleteSaList::new(&too_long).unwrap().request()).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER));
        assert_eq!(table(&a).1.len(), 5000);
        too_long.pop();
        delete(&a, &too_long);
        let (summary, entries) = table(&a);
        assert_eq!((entries.len(), summary.deleted, summary.waiting), (0, 5000, 0));
        assert_eq!(summary.skipped, 65_536 - 5000);
    }

    /// Lists whose last link leads back, of every length and to every element; they end, and nothing is deleted.
    fn cycles_of_every_shape(bench) {
        let a = bench.station(1);
        let live: Vec<_> = (0..9).map(|n| add(&a, &Flow::new(1, 2, 0x80 + n).parameters(false))).collect();
        for len in 1..=live.len() {
            for entry in 0..len {
                let list = DeleteSaList::new(&live[..len]).unwrap().with_link(len - 1, entry);
                let outcome = a.oid(list.request()).unwrap();
                let expected = status(NDIS_STATUS_INVALID_PARAMETER);
                assert_eq!(status(outcome.status), expected, "{len} elements, back to {entry}");
            }
        }
        // Links that lead anywhere but to an element's alignment; each behind a good element, and behind many.
        for len in 1..=live.len() {
            for off in 1..8_usize {
                let list = DeleteSaList::new(&live).unwrap();
                let next = list.address(len - 1) + off;
                let outcome = a.oid(list.with_bytes(len - 1, 8, &next.to_le_bytes()).request()).unwrap();
                assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER), "{off} off");
            }
        }
        assert_eq!((table(&a).1.len(), table(&a).0.skipped), (9, 0));
        // Forwards and backwards links that do not close are as good as any.
        let list = DeleteSaList::new(&live).unwrap();
        let end = list.clone().with_bytes(3, 8, &[0; 8]).with_link(0, 8).with_link(8, 1).with_link(1, 3);
        assert_eq!(status(a.oid(end.request()).unwrap().status), status(NDIS_STATUS_SUCCESS));
        let left: Vec<_> = table(&a).1.iter().map(|entry| entry.spi - 0x80).collect();
        assert_eq!(left, [2, 4, 5, 6, 7]);
    }

    /// The first element and the buffer: shorter, as long, longer; headers of other sizes and revisions.
    fn lengths_and_headers(bench) {
        let a = bench.station(1);
        let sa = Flow::new(1, 2, 0x90).parameters(false);
        for (revision, size, len, good) in [
            (1_u8, 24_u16, 24_usize, true),
            (1, 24, 25, true),
            (1, 24, 4096, true),
            (2, 24, 24, true),
            (255, 40, 40, true),
            (255, 40, 48, true),
            (2, 40, 24, false),
            (1, 25, 24, false),
            (1, u16::MAX, 4096, false),
            (1, 23, 24, false),
            (1, 0, 24, false),
            (0, 24, 24, false),
        ] {
            let handle = add(&a, &sa);
            let mut bytes = vec![0; len];
            bytes[..2].copy_from_slice(&[0x80, revision]);
            bytes[2..4].copy_from_slice(&size.to_le_bytes());
            bytes[16..24].copy_from_slice(&handle.to_le_bytes());
            bytes[24..].fill(0xEE);
            let oid = Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA, bytes).direct();
            let outcome = a.oid(oid).unwrap();
            let shown = format!("revision {revision}, size {size}, {len} bytes: {}", status(outcome.status));
            assert_eq!(outcome.status == NDIS_STATUS_SUCCESS, good, "{shown}");
            assert_eq!(table(&a).1.is_empty(), good, "{shown}");
            if good {
                assert_eq!((outcome.bytes_read, outcome.supported_revision), (24, 1));
            } else {
                delete(&a, &[handle]);
            }
        }
    }

    /// A list far longer than any bound ends as soon as one that is a little too long, whatever comes behind.
    fn a_list_without_end(bench) {
        let a = bench.station(1);
        let live = add(&a, &Flow::new(1, 2, 0xA0).parameters(false));
        let long = std::env::var_os("IPSECNIC_LONG").is_some_and(|value| value == "1");
        let elements = if long { 10_000_000 } else { 1_000_000 };
        let list = DeleteSaList::new(&vec![live; elements]).unwrap();
        let outcome = a.oid(list.request()).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER));
        assert_eq!((table(&a).1.len(), table(&a).0.skipped), (1, 0));
        // The same handle as often as a list may name it.
        let list = list.with_bytes(65_535, 8, &[0; 8]);
        assert_eq!(status(a.oid(list.request()).unwrap().status), status(NDIS_STATUS_SUCCESS));
        assert_eq!((table(&a).1.len(), table(&a).0.skipped), (0, 65_535));
    }

    /// A handle means something to its own adapter alone.
    fn handles_of_another_adapter(bench) {
        let adapters = [bench.station(1), bench.station(2), bench.station(3)];
        let sas: Vec<Vec<usize>> = adapters
            .iter()
            .map(|adapter| (1..20).map(|spi| add(adapter, &Flow::new(1, 2, spi).parameters(spi % 2 == 0))).collect())
            .collect();
        for (index, adapter) in adapters.iter().enumerate() {
            let others: Vec<_> =
                sas.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, sas)| sas.clone()).collect();
            delete(adapter, &others);
            assert_eq!((table(adapter).1.len(), table(adapter).0.skipped), (19, 38));
        }
        let mut flow = Flow::new(1, 2, 1);
        flow.handle = sas[1][0];
        flow.is_refused(&adapters[0], &adapters[1]);
        flow.handle = sas[0][1];
        flow.is_refused(&adapters[0], &adapters[1]); // inbound
    }

    /// What the NIC counted for an SA stays counted when the SA is gone.
    fn counters_outlive_their_sa(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0xB0).add(&a, &b);
        for _ in 0..3 {
            flow.works(&a, &b);
        }
        let counter = |adapter: &ndis_lab::Adapter, oid| adapter.oid(Oid::query(oid, 8)).unwrap().u64().unwrap();
        let sent = counter(&a, ndis_sys::OID_GEN_XMIT_OK);
        let received = counter(&b, ndis_sys::OID_GEN_RCV_OK);
        delete(&a, &[flow.handle]);
        delete(&b, &[flow.inbound]);
        assert_eq!((sent, received), (3, 3));
        assert_eq!((counter(&a, ndis_sys::OID_GEN_XMIT_OK), counter(&b, ndis_sys::OID_GEN_RCV_OK)), (3, 3));
        assert_eq!((table(&a).0.added, table(&a).0.deleted), (1, 1));
    }

    /// Cancelling against the end of the packet that the request waits for: one of the two ends it, once.
    fn cancelling_races_completion(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let (mut completed, mut aborted) = (0, 0);
        for round in 0..60 {
            let mut flow = Flow::new(1, 2, 0xC00 + round);
            flow.handle = add(&a, &flow.parameters(false));
            let block = Roadblock::new(&bench.lab);
            let sender = block.send(&a, two(&mut flow));
            let request = DeleteSaList::new(&[flow.handle]).unwrap().request().id(0x99);
            let pending = a.oid_begin(request).unwrap();
            assert!(pending.pended());
            let canceller = {
                let a = a.clone();
                std::thread::spawn(move || {
                    for _ in 0..round % 7 {
                        std::thread::yield_now();
                    }
                    a.cancel_oid(0x99, true).unwrap();
                })
            };
            block.release();
            canceller.join().unwrap();
            sender.join().unwrap();
            assert!(pending.wait(PATIENCE).unwrap());
            match pending.finish().unwrap().status {
                NDIS_STATUS_SUCCESS => completed += 1,
                NDIS_STATUS_REQUEST_ABORTED => aborted += 1,
                other => panic!("round {round}: {}", status(other)),
            }
            b.take_received();
        }
        assert_eq!((completed + aborted, table(&a).0.deleted, table(&a).0.waiting), (60, 60, 0));
    }

    /// Pausing while a request waits for a packet: the packet's end completes both.
    fn pausing_while_a_request_waits(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0xD0).add(&a, &b);
        let block = Roadblock::new(&bench.lab);
        let sender = block.send(&a, two(&mut flow));
        let pending = a.oid_begin(DeleteSaList::new(&[flow.handle]).unwrap().request()).unwrap();
        assert!(pending.pended());
        let pausing = {
            let a = a.clone();
            std::thread::spawn(move || a.pause().unwrap())
        };
        std::thread::sleep(MOMENT);
        assert!(!pausing.is_finished() && !pending.is_done());
        block.release();
        pausing.join().unwrap();
        assert_eq!(sender.join().unwrap(), ONE_OF_TWO);
        assert!(pending.wait(PATIENCE).unwrap());
        assert_eq!(status(pending.finish().unwrap().status), status(NDIS_STATUS_SUCCESS));
        // Paused, requests are answered as ever.
        let other = add(&a, &Flow::new(1, 2, 0xD1).parameters(false));
        delete(&a, &[other, flow.handle]);
        assert_eq!((table(&a).0.deleted, table(&a).0.skipped), (2, 1));
        drop(b);
    }

    /// Each SA of a pair lives until its own delete, also after SaDeleteReq.
    fn a_pair_goes_one_by_one(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut there = Flow::new(1, 2, 0x70).add(&a, &b);
        let mut back = Flow::new(2, 1, 0x71).add(&b, &a);
        there.works(&a, &b);
        back.works(&b, &a);
        // IPsec off on b: it asks for the deletion of what comes in. On again: both work as before.
        set(&b, offload_parameters(&[(control::IPSEC_V2_IPV4, 1)]));
        assert_eq!(slot_1(&there.carry(&a, &b)), SA_DELETE_REQ);
        set(&b, offload_parameters(&[(control::IPSEC_V2_IPV4, 3)]));
        there.works(&a, &b);
        back.works(&b, &a);
        delete(&b, &[there.inbound]);
        back.works(&b, &a);
        assert_eq!(slot_1(&there.carry(&a, &b)), 0, "matches no SA");
        delete(&b, &[back.handle]);
        back.is_refused(&b, &a);
        // a still has both of its own.
        assert_eq!(table(&a).1.len(), 2);
    }

    /// No key is in any block that is freed: by DELETE_SA, by a refused ADD_SA, by halt with SAs in the table.
    fn keys_are_wiped(bench) {
        let a = bench.station_with(1, AdapterConfig::new().keyword("SaOffloadCapacity", "8"));
        let flows: Vec<_> = (1..=12).map(|spi| Flow::new(2, 1, spi)).collect();
        let keys: Vec<_> = flows.iter().map(|flow| flow.key.to_vec()).collect();
        let found = watch_freed_memory(&bench.lab, &keys);
        let mut handles = Vec::new();
        for flow in &flows {
            let (outcome, handle) = a.add_sa_ex(&flow.parameters(true)).unwrap();
            assert_eq!(handle.is_some(), flow.spi <= 8, "{}", status(outcome.status));
            handles.extend(handle);
            // There already.
            control::refuses(&a, &flow.parameters(true), if flow.spi <= 8 {
                // A full table says so first, an inbound SA that is there next.
                if flow.spi == 8 { ndis_sys::NDIS_STATUS_RESOURCES } else { NDIS_STATUS_INVALID_PARAMETER }
            } else {
                ndis_sys::NDIS_STATUS_RESOURCES
            });
        }
        delete(&a, &handles[..4]);
        control::stop(&a);
        assert_eq!(found.load(Relaxed), 0, "key bytes in freed memory");
    }
}

/// Two packets of a flow: one that gets through, and one that is held up.
fn two(flow: &mut Flow) -> Vec<SendNbl> {
    vec![flow.next(b"a packet of the flow"), flow.next(b"another one")]
}

/// The second one finds no SA any more.
const ONE_OF_TWO: [i32; 2] = [NDIS_STATUS_SUCCESS, NDIS_STATUS_FAILURE];

/// What a query of the table says while a regular request pends: NDIS sends one at a time, so it cannot be asked then.
fn table_of(adapter: &ndis_lab::Adapter, path: &str) -> Option<usize> {
    if path == "regular" { None } else { table(adapter).1.first().map(|_| 0) }
}

/// What may be the last in the way of a deletion.
type Noise = fn(&ndis_lab::Adapter, &Flow);

/// Requests that look at the SA table for a moment, and are told nothing of the deletion that they hold up.
const NOISES: [(&str, Noise); 4] = [
    ("refused additions", |a, there_already| {
        control::refuses(a, &there_already.parameters(true), NDIS_STATUS_INVALID_PARAMETER);
    }),
    ("updates", |a, there_already| {
        set(a, ndis_lab::ipsec_v2::update_sa(there_already.inbound, Operation::Esp, there_already.spi, 7));
    }),
    ("updates of nothing", |a, there_already| {
        let request = ndis_lab::ipsec_v2::update_sa(1, Operation::Esp, there_already.spi, 7);
        assert_eq!(status(a.oid(request).unwrap().status), status(NDIS_STATUS_INVALID_PARAMETER));
    }),
    ("dumps", |a, _| {
        table(a);
    }),
];

/// One processor, so that all that is at work shares one line of the SA table. Something else goes on all the time; whichever of it is
/// the last in the way of a deletion has to complete its request.
fn others_complete_deletions(source: Source) {
    let lab = Lab::builder().processors(1).build();
    let Some(driver) = load(source, &lab) else { return };
    for (what, noise) in NOISES {
        let a = driver.add_adapter(AdapterConfig::new().keyword("SaOffloadCapacity", "64")).unwrap();
        let mut there_already = Flow::new(2, 1, 1).extended(7);
        there_already.inbound = add(&a, &there_already.parameters(true));
        let stop = AtomicBool::new(false);
        let mut pended = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    noise(&a, &there_already);
                }
            });
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                for spi in 2..10_000 {
                    // Often enough, where it happens at all: it takes two processors at the same moment.
                    if pended == 5 {
                        break;
                    }
                    let handle = add(&a, &Flow::new(1, 2, spi).parameters(false));
                    let pending = a.oid_begin(DeleteSaList::new(&[handle]).unwrap().request()).unwrap();
                    pended += u32::from(pending.pended());
                    assert!(
                        pending.wait(PATIENCE).unwrap(),
                        "{what}: nobody completes the request, SPI {spi}"
                    );
                    assert_eq!(status(pending.finish().unwrap().status), status(NDIS_STATUS_SUCCESS));
                }
            }));
            stop.store(true, Relaxed);
            if let Err(panic) = outcome {
                resume_unwind(panic);
            }
        });
        eprintln!("{source:?}: {pended} requests waited for {what}");
        control::stop(&a);
    }
    driver.unload().unwrap();
    lab.assert_clean();
}

#[test]
fn others_complete_deletions_native() {
    others_complete_deletions(Source::Native);
}

#[test]
fn others_complete_deletions_image() {
    others_complete_deletions(Source::Image);
}
