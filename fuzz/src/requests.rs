//! OID requests: IPsecOV2's structures and lists, offload configuration, and any OID at all.

use std::collections::BTreeSet;

use ndis_lab::ipsec_v2::{AddSaList, Algorithm, DeleteSaList, SaParameters, handle_of_add_sa_ex};
use ndis_lab::{Adapter, Oid, OidKind};
use ndis_sys::{
    NDIS_STATUS_BUFFER_TOO_SHORT, NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_MULTICAST_FULL, NDIS_STATUS_NOT_ACCEPTED,
    NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
    NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA as ADD_SA,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX as ADD_SA_EX,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA as DELETE_SA,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA as UPDATE_SA,
};

use crate::bench::{self, add, sa, table};
use crate::input::Input;

/// `Next` of an element.
const NEXT: usize = 8;

/// Statuses that a request may be refused with.
fn refusal(status: i32) {
    let known = [
        NDIS_STATUS_BUFFER_TOO_SHORT,
        NDIS_STATUS_FAILURE,
        NDIS_STATUS_INVALID_DATA,
        NDIS_STATUS_INVALID_LENGTH,
        NDIS_STATUS_INVALID_PARAMETER,
        NDIS_STATUS_MULTICAST_FULL,
        NDIS_STATUS_NOT_ACCEPTED,
        NDIS_STATUS_NOT_SUPPORTED,
        NDIS_STATUS_RESOURCES,
    ];
    assert!(known.contains(&status), "ended with {:#010x}", status.cast_unsigned());
}

/// The ways that a request of IPsecOV2 may come.
fn by(way: u8, oid: Oid) -> Oid {
    let mut oid = if way & 1 == 0 { oid } else { oid.as_method() };
    if way & 2 != 0 {
        oid.direct = false;
    } else if way & 4 != 0 {
        oid = oid.at_dispatch();
    }
    oid
}

fn handles(adapter: &Adapter) -> BTreeSet<u64> {
    table(adapter).1.iter().map(|sa| sa.handle).collect()
}

/// Where elements may begin: multiples of 8 in the first part of the list's memory, so that whatever key they claim, up to the
/// most that is accepted, lies in it as well.
const ELEMENTS: usize = 1024;
/// That memory.
const MEMORY: usize = ELEMENTS + 176 + 1024 + 64;

/// Elements and their links: places, and for each which one follows (none, one of them, or a misaligned address).
fn links(input: &mut Input<'_>) -> Vec<(usize, Option<(usize, usize)>)> {
    let count = usize::from(input.u8() % 7) + 1;
    let mut elements = Vec::new();
    for index in 0..count {
        let place = if index == 0 { 0 } else { usize::from(input.u16()) * 8 % ELEMENTS };
        let next = input.u8();
        let to = usize::from(next & 0xF) % (count + 1);
        let off = if next >= 0xF0 { usize::from(next % 8) } else { 0 };
        elements.push((place, (to < count).then_some((to, off))));
    }
    elements
}

/// The links as writes into the list's memory, which begins at `start`.
fn written(
    elements: &[(usize, Option<(usize, usize)>)],
    start: usize,
) -> impl Iterator<Item = (usize, [u8; 8])> {
    elements.iter().map(move |(place, next)| {
        let next = next.map_or(0, |(to, off)| start + elements[to].0 + off);
        (place + NEXT, next.to_le_bytes())
    })
}

pub(crate) fn add_sa(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        let (way, key) = (input.u8(), usize::from(input.u8()));
        let elements = links(input);
        // The first element's buffer is as long as its key says; behind it is the rest of the memory.
        let first = sa(1, false, key);
        let mut filler = sa(2, false, 0);
        filler.associations[0].encryption =
            Some(Algorithm { id: 8, key: vec![0x42; MEMORY], additional_info: 0 });
        let mut list = AddSaList::new(&[first, filler]).expect("a list");
        let start = list.address(0);
        list = list.with_bytes(0, 0, input.rest(MEMORY));
        for (at, next) in written(&elements, start) {
            list = list.with_bytes(0, at, &next);
        }
        let outcome = bench.adapter.oid(by(way, list.request())).expect("ADD_SA");
        let live = handles(&bench.adapter);
        if outcome.status == NDIS_STATUS_SUCCESS {
            assert!(!live.is_empty(), "a success without an SA");
        } else {
            refusal(outcome.status);
            assert!(live.is_empty(), "a failure with an SA");
        }
    });
}

pub(crate) fn delete_sa(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        let (way, ours) = (input.u8(), input.u32());
        let elements = links(input);
        let adapter = &bench.adapter;
        let live: Vec<usize> = (1..=4).map(|spi| add(adapter, &sa(spi, spi % 2 == 0, 20))).collect();
        let mut list = DeleteSaList::new(&[0; MEMORY / 32]).expect("a list");
        let start = list.address(0);
        list = list.with_bytes(0, 0, input.rest(MEMORY / 32 * 32 - 8));
        for (index, (place, _)) in elements.iter().enumerate() {
            // Some elements name an SA, the others whatever is there.
            if ours >> index & 1 != 0 {
                let handle = live[(ours >> (8 + 2 * index) & 3) as usize];
                list = list.with_bytes(0, place + 16, &handle.to_le_bytes());
            }
        }
        for (at, next) in written(&elements, start) {
            list = list.with_bytes(0, at, &next);
        }
        let before = table(adapter).0;
        let outcome = adapter.oid(by(way, list.request())).expect("DELETE_SA");
        let (after, left) = table(adapter);
        assert_eq!(left.len() as u64, 4 - (after.deleted - before.deleted));
        if outcome.status != NDIS_STATUS_SUCCESS {
            refusal(outcome.status);
            assert_eq!((after.deleted, after.skipped), (before.deleted, before.skipped), "half done");
        }
    });
}

pub(crate) fn add_sa_ex(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        let (way, misalign) = (input.u8(), usize::from(input.u8() & 7));
        let bytes = input.rest(2048).to_vec();
        let request = Oid::set(ADD_SA_EX, bytes).direct().misaligned(misalign);
        let outcome = bench.adapter.oid(by(way, request)).expect("ADD_SA_EX");
        let live = handles(&bench.adapter);
        if outcome.status == NDIS_STATUS_SUCCESS {
            let handle = handle_of_add_sa_ex(&outcome.buffer).expect("a handle");
            assert_eq!(live, BTreeSet::from([handle as u64]));
        } else {
            refusal(outcome.status);
            assert!(live.is_empty(), "a failure with an SA");
        }
    });
}

pub(crate) fn update_sa(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        let (way, ours, misalign) = (input.u8(), input.u8(), usize::from(input.u8() & 7));
        let mut bytes = input.rest(64).to_vec();
        let extended = |mut sa: SaParameters| {
            sa.associations[0].esn = Some(5);
            sa
        };
        let adapter = &bench.adapter;
        let live = [add(adapter, &extended(sa(1, false, 20))), add(adapter, &sa(2, true, 20))];
        if ours < 128 && bytes.len() >= 16 {
            bytes[8..16].copy_from_slice(&live[usize::from(ours % 2)].to_le_bytes());
        }
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let high = word(24);
        let request = Oid::set(UPDATE_SA, bytes.clone()).direct().misaligned(misalign);
        let outcome = adapter.oid(by(way, request)).expect("UPDATE_SA");
        let (_, entries) = table(adapter);
        let found = entries.iter().find(|entry| entry.handle == live[0] as u64).expect("the SA");
        if outcome.status == NDIS_STATUS_SUCCESS {
            assert_eq!((found.sequence_high, ours % 2), (high, 0), "the one with extended sequence numbers");
        } else {
            refusal(outcome.status);
            assert_eq!(found.sequence_high, Some(5));
        }
    });
}

/// A configuration request: what succeeds is indicated, what does not changes nothing.
fn configure(bytes: &[u8], oid: u32) {
    bench::with(|bench| {
        let adapter = &bench.adapter;
        let before = table(adapter).0;
        let outcome = adapter.oid(Oid::set(oid, bytes)).expect("a request");
        let after = table(adapter).0;
        let indicated = adapter.take_statuses();
        if outcome.status == NDIS_STATUS_SUCCESS {
            let [indication] = indicated.as_slice() else { panic!("{} indications", indicated.len()) };
            assert_eq!(indication.code, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG);
            let on = indication.offload().expect("NDIS_OFFLOAD").IPsecV2.Esp != 0;
            assert_eq!((after.transmits, after.asks_to_delete), (on, !on));
        } else {
            refusal(outcome.status);
            assert!(indicated.is_empty());
            assert_eq!((before.transmits, before.receives), (after.transmits, after.receives), "half done");
        }
    });
}

pub(crate) fn offload_parameters(data: &[u8]) {
    configure(&data[..data.len().min(64)], ndis_sys::OID_TCP_OFFLOAD_PARAMETERS);
}

pub(crate) fn offload_encapsulation(data: &[u8]) {
    configure(&data[..data.len().min(64)], ndis_sys::OID_OFFLOAD_ENCAPSULATION);
}

pub(crate) fn oids(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        while !input.is_empty() {
            let mut known = bench.adapter.attributes().general.supported_oids;
            known.extend([ADD_SA, ADD_SA_EX, UPDATE_SA, DELETE_SA, ipsecnic::dump::OID_IPSECNIC_WEDGE]);
            let oid = match input.u8() {
                0xFF => input.u32(),
                index => known[usize::from(index) % known.len()],
            };
            let (kind, misalign) = (input.u8(), usize::from(input.u8()));
            let (len, output) = (usize::from(input.u8()), usize::from(input.u8()) * 8);
            let mut bytes = input.bytes(len).to_vec();
            // The links of lists are kernel pointers, which their sender vouches for.
            if [ADD_SA, DELETE_SA].contains(&oid) && bytes.len() >= 16 {
                bytes[8..16].fill(0);
            }
            let mut request = match kind & 3 {
                1 => Oid::set(oid, bytes),
                2 => Oid::method(oid, bytes, output),
                _ => Oid::query(oid, output),
            };
            if kind & 3 == 3 {
                request.kind = OidKind::QueryStatistics;
            }
            request.direct = kind & 4 != 0;
            let outcome = bench.adapter.oid(request.misaligned(misalign & 7)).expect("a request");
            if outcome.status != NDIS_STATUS_SUCCESS {
                refusal(outcome.status);
            }
        }
    });
}
