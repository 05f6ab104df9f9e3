//! Arbitrary bytes through the driver's entry points: every OID that carries a structure, every length, offsets that
//! overflow, lists that lie. Nothing breaks a rule of the lab, nothing is half done, and the table holds what was added.
//!
//! `PROPTEST_CASES` sets the number of cases; each begins with a driver that is loaded once for the whole test.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::collections::HashSet;

use control::{Bench, CAPACITY, Flow, table};
use ndis_lab::ipsec_v2::{AddSaList, DeleteSaList, SaParameters, handle_of_add_sa_ex};
use ndis_lab::{Adapter, AdapterConfig, Oid, OidKind};
use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA_EX, NDIS_STATUS_BUFFER_TOO_SHORT, NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_DATA,
    NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_MULTICAST_FULL,
    NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA as ADD_SA, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX as ADD_SA_EX,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA as DELETE_SA,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA as UPDATE_SA,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs a property over one adapter; the table is emptied after each case.
fn check<S: Strategy>(bench: &Bench, strategy: S, property: impl Fn(&Adapter, S::Value)) {
    let config = AdapterConfig::new().keyword("SaOffloadCapacity", CAPACITY.to_string());
    let adapter = bench.adapter(config);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&strategy, |value| {
        property(&adapter, value);
        bench.lab.assert_clean();
        let left: Vec<_> =
            table(&adapter).1.iter().map(|entry| usize::try_from(entry.handle).unwrap()).collect();
        if !left.is_empty() {
            control::delete(&adapter, &left);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Statuses that a request may be refused with.
fn is_refusal(status: i32) -> bool {
    [
        NDIS_STATUS_BUFFER_TOO_SHORT,
        NDIS_STATUS_FAILURE,
        NDIS_STATUS_INVALID_DATA,
        NDIS_STATUS_INVALID_LENGTH,
        NDIS_STATUS_INVALID_PARAMETER,
        NDIS_STATUS_MULTICAST_FULL,
        NDIS_STATUS_NOT_ACCEPTED,
        NDIS_STATUS_NOT_SUPPORTED,
        NDIS_STATUS_RESOURCES,
    ]
    .contains(&status)
}

/// Changes that make a sound structure lie: bytes, whole fields, and its length.
#[derive(Clone, Debug)]
struct Lies {
    bytes: Vec<(prop::sample::Index, u8)>,
    words: Vec<(prop::sample::Index, u32)>,
    len: Option<prop::sample::Index>,
}

fn lies() -> impl Strategy<Value = Lies> {
    let edge = prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(i32::MAX.cast_unsigned()),
        0..512_u32,
        any::<u32>()
    ];
    (
        prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
        prop::collection::vec((any::<prop::sample::Index>(), edge), 0..4),
        prop::option::of(any::<prop::sample::Index>()),
    )
        .prop_map(|(bytes, words, len)| Lies { bytes, words, len })
}

impl Lies {
    /// `spare`: bytes that must not change, which the sender vouches for (pointers).
    fn tell(&self, structure: &mut Vec<u8>, spare: std::ops::Range<usize>) {
        for (index, value) in &self.bytes {
            let at = index.index(structure.len());
            if !spare.contains(&at) {
                structure[at] = *value;
            }
        }
        for (index, value) in &self.words {
            let at = index.index(structure.len() / 4) * 4;
            if !spare.contains(&at) && at + 4 <= structure.len() {
                structure[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        if let Some(len) = self.len {
            structure.truncate(len.index(structure.len() + 1));
        }
    }
}

on_both! {
    /// ADD_SA_EX with lies: a handle if and only if it succeeded, and an SA if and only if there is a handle.
    fn add_sa_ex_of_lies(bench) {
        let strategy = (lies(), any::<(u32, bool, bool, bool)>(), 0..8_usize);
        check(bench, strategy, |adapter, (lies, (spi, inbound, dispatch, method), misalign)| {
            let mut bytes = Flow::new(1, 2, spi).parameters(inbound).add_sa_ex();
            lies.tell(&mut bytes, 0..0);
            let mut oid = Oid::set(ADD_SA_EX, bytes.clone()).direct().misaligned(misalign);
            oid.at_dispatch = dispatch;
            if method {
                oid.kind = OidKind::Method;
                oid.output = bytes.len();
            }
            let outcome = adapter.oid(oid).unwrap();
            let (summary, entries) = table(adapter);
            if outcome.status == NDIS_STATUS_SUCCESS {
                assert_eq!(misalign, 0);
                let handle = handle_of_add_sa_ex(&outcome.buffer).expect("a handle");
                assert_eq!(entries.iter().map(|e| e.handle).collect::<Vec<_>>(), [handle as u64]);
                assert_eq!(summary.entries, 1);
            } else {
                assert!(is_refusal(outcome.status), "{}", control::status(outcome.status));
                assert!(entries.is_empty());
                // NULL for what failed, if there is room for it; else nothing is touched.
                let mut expected = bytes.clone();
                if bytes.len() >= 170 {
                    let at = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
                    expected[at..at + 8].fill(0);
                }
                assert_eq!(outcome.buffer, expected, "NULL, and left alone");
            }
        });
    }

    /// Key offsets and lengths, of the blob and in it, at and beyond every edge.
    fn keys_that_are_not_there(bench) {
        let at_key_length = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyLength);
        let at_key_offset = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyOffset);
        let at_encryption = std::mem::offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, SecAssoc) + 28;
        let edge = || prop_oneof![0..260_u32, Just(u32::MAX), Just(u32::MAX - 19), Just(1 << 31), any::<u32>()];
        check(bench, (edge(), edge(), edge(), edge()), |adapter, (length, offset, inner_length, inner_offset)| {
            let mut bytes = Flow::new(1, 2, 7).parameters(false).add_sa_ex();
            let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            put(at_key_length, length);
            put(at_key_offset, offset);
            put(at_encryption + 4, inner_length);
            put(at_encryption + 8, inner_offset);
            let total = bytes.len() as u64;
            let outcome = adapter.oid(Oid::set(ADD_SA_EX, bytes).direct()).unwrap();
            let [length, offset, inner_length, inner_offset] =
                [length, offset, inner_length, inner_offset].map(u64::from);
            // Behind the structure, whose 170 bytes the key must not overlap.
            let blob = length <= 1024 && offset + length <= total && (length == 0 || offset >= 170);
            let key = inner_length == 20 && inner_offset + inner_length <= length;
            assert_eq!(outcome.status == NDIS_STATUS_SUCCESS, blob && key, "{}", control::status(outcome.status));
        });
    }

    /// A list of which every element but the pointers may lie.
    fn lists_of_lies(bench) {
        let element = (any::<(u32, bool)>(), any::<u8>(), 0..4_u8);
        let links = prop::option::of(any::<(prop::sample::Index, prop::sample::Index)>());
        check(bench, (prop::collection::vec(element, 1..90), links), |adapter, (elements, link)| {
            let sas: Vec<SaParameters> = elements
                .iter()
                .map(|((spi, inbound), lie, what)| {
                    let mut sa = Flow::new(1, 2, *spi).parameters(*inbound);
                    let encryption = sa.associations[0].encryption.as_mut().unwrap();
                    match (lie % 8, what) {
                        (0, 0) => encryption.id = u32::from(*lie),
                        (0, 1) => encryption.key.truncate(usize::from(*lie) % 21),
                        (0, 2) => encryption.additional_info = u32::from(*lie),
                        (0, _) => sa.udp_esp = u32::from(*lie),
                        (1, 0) => sa.associations.clear(),
                        (1, 1) => sa.associations.push(sa.associations[0].clone()),
                        _ => {}
                    }
                    sa
                })
                .collect();
            let mut list = AddSaList::new(&sas).unwrap();
            let mut whole = true;
            if let Some((from, to)) = link {
                let (from, to) = (from.index(sas.len()), to.index(sas.len()));
                // Backwards it is a cycle.
                whole = to > from;
                list = list.with_link(from, to);
            }
            let outcome = adapter.oid(list.request()).unwrap();
            let handles: HashSet<_> = list.handles().into_iter().flatten().collect();
            let (summary, entries) = table(adapter);
            let found: HashSet<_> = entries.iter().map(|e| usize::try_from(e.handle).unwrap()).collect();
            assert_eq!(found, handles);
            assert_eq!(outcome.status == NDIS_STATUS_SUCCESS, !handles.is_empty());
            assert!(whole || handles.is_empty(), "a cycle adds nothing");
            assert!(summary.entries <= CAPACITY);
            if !handles.is_empty() {
                // As long a list deletes them, with repetitions.
                let mut doomed: Vec<_> = handles.iter().copied().collect();
                doomed.extend(handles.iter().copied());
                let delete = DeleteSaList::new(&doomed).unwrap();
                assert_eq!(adapter.oid(delete.request()).unwrap().status, NDIS_STATUS_SUCCESS);
                assert!(table(adapter).1.is_empty());
            }
        });
    }

    /// DELETE_SA and UPDATE_SA of arbitrary bytes (without links, which the sender vouches for).
    fn deletes_and_updates_of_lies(bench) {
        let strategy = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..64), any::<(bool, bool, bool)>(), 0..8_usize);
        check(bench, strategy, |adapter, (update, mut bytes, (sound, of_ours, dispatch), misalign)| {
            let handle = control::add(adapter, &Flow::new(1, 2, 9).extended(1).parameters(false));
            if sound {
                let header = if update { [0x80, 1, 28, 0] } else { [0x80, 1, 24, 0] };
                let have = bytes.len().min(4);
                bytes[..have].copy_from_slice(&header[..have]);
            }
            if !update && bytes.len() >= 16 {
                bytes[8..16].fill(0);
            }
            let at = if update { 8 } else { 16 };
            if of_ours && bytes.len() >= at + 8 {
                bytes[at..at + 8].copy_from_slice(&handle.to_le_bytes());
            }
            let oid = if update { UPDATE_SA } else { DELETE_SA };
            let mut request = Oid::set(oid, bytes.clone()).direct().misaligned(misalign);
            request.at_dispatch = dispatch;
            let outcome = adapter.oid(request).unwrap();
            let gone = table(adapter).1.is_empty();
            if outcome.status == NDIS_STATUS_SUCCESS {
                let wrote_ours = of_ours && bytes.len() >= at + 8;
                assert_eq!(gone, !update && wrote_ours);
                assert!(!update || wrote_ours);
            } else {
                assert!(is_refusal(outcome.status) && !gone);
            }
        });
    }

    /// Every OID there is, any kind, any bytes: the lab holds the driver to its byte counts and guards.
    fn every_oid_with_any_bytes(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let mut oids: Vec<u32> = adapter.attributes().general.supported_oids;
        oids.extend([ADD_SA, ADD_SA_EX, UPDATE_SA, DELETE_SA, ipsecnic::dump::OID_IPSECNIC_WEDGE, 0, u32::MAX]);
        let bytes = prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x80), Just(26), any::<u8>()], 0..300);
        let strategy = (0..oids.len(), 0..4_u8, bytes, 0..200_usize, 0..8_usize, any::<bool>());
        check(bench, strategy, |adapter, (index, kind, mut bytes, output, misalign, direct)| {
            let oid = oids[index];
            // The links of lists are kernel pointers, which their sender vouches for.
            if [ADD_SA, DELETE_SA].contains(&oid) && bytes.len() >= 16 {
                bytes[8..16].fill(0);
            }
            let mut request = match kind {
                1 => Oid::set(oid, bytes),
                2 => Oid::method(oid, bytes, output),
                _ => Oid::query(oid, output),
            };
            if kind == 3 {
                request.kind = OidKind::QueryStatistics;
            }
            request.direct = direct;
            let outcome = adapter.oid(request.misaligned(misalign)).unwrap();
            assert!(
                outcome.status == NDIS_STATUS_SUCCESS || is_refusal(outcome.status),
                "{oid:#010x}: {}",
                control::status(outcome.status)
            );
        });
    }
}
