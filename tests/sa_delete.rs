//! DELETE_SA: lists, pending requests and their ends, and what is left of a key.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use control::{
    Flow, Roadblock, SA_DELETE_REQ, add, delete, offload_parameters, set, slot_1, status, table,
    watch_freed_memory,
};
use ndis_lab::ipsec_v2::{AddSaList, DeleteSaList};
use ndis_lab::{AdapterConfig, Oid, SendNbl};
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
            assert_eq!(status(a.oid(oid).unwrap().status), status(NDIS_STATUS_INVALID_LENGTH), "{len}");
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
