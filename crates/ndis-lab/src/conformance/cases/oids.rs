//! Regular OID requests: lengths, directions, cancellation, nonsense.

use std::collections::BTreeMap;

use ndis_sys::{
    NDIS_STATUS_BUFFER_TOO_SHORT, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_INVALID_OID, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_REQUEST_ABORTED,
    OID_802_3_MULTICAST_LIST, OID_GEN_CURRENT_LOOKAHEAD, OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_INTERRUPT_MODERATION, OID_GEN_LINK_PARAMETERS, OID_GEN_RCV_OK, OID_GEN_STATISTICS,
    OID_GEN_VENDOR_ID, OID_GEN_XMIT_OK, OID_OFFLOAD_ENCAPSULATION, OID_PNP_SET_POWER,
    OID_TCP_OFFLOAD_PARAMETERS,
};

use crate::adapter::Adapter;
use crate::adapter::oid::{Oid, OidKind, OidOutcome};
use crate::conformance::context::Context;
use crate::conformance::{Case, Outcome, Stop, check, status_text};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 21,
        id: "listed-oids-answer",
        area: "1c_OidsDeviceIoControl",
        title: "Every OID of the supported list is answered in some direction.",
        page: "ns-ndis-_ndis_miniport_adapter_general_attributes",
        needs: &[],
        run: listed_oids_answer,
    },
    Case {
        number: 21,
        id: "query-lengths",
        area: "2c_OidsNdisRequest",
        title: "A query into a buffer of any length is right or says how many bytes it needs, and writes no other.",
        page: "nc-ndis-miniport_oid_request",
        needs: &[],
        run: query_lengths,
    },
    Case {
        number: 21,
        id: "set-lengths",
        area: "2c_OidsNdisRequest",
        title: "A set that is too short is refused and says how many bytes it needs.",
        page: "nc-ndis-miniport_oid_request",
        needs: &[],
        run: set_lengths,
    },
    Case {
        number: 22,
        id: "64-bit-counters",
        area: "1c_64BitOIDs",
        title: "Counters are answered with 32 bits into 4 to 7 bytes, with 64 bits into 8 and more.",
        page: "oid-gen-xmit-ok",
        needs: &[],
        run: counters,
    },
    Case {
        number: 23,
        id: "foreign-oids",
        area: "1c_NdisRequestCov",
        title: "Unknown OIDs, wrong directions and methods are refused as not supported.",
        page: "handling-oid-requests-in-a-miniport-adapter",
        needs: &[],
        run: foreign_oids,
    },
    Case {
        number: 27,
        id: "interrupt-moderation",
        area: "InterruptModeration",
        title: "Interrupt moderation is described in 12 bytes, and cannot be set where it does not exist.",
        page: "oid-gen-interrupt-moderation",
        needs: &[],
        run: interrupt_moderation,
    },
    Case {
        number: 29,
        id: "cancel-oids",
        area: "1c_NdisRequestCov",
        title: "Cancelling ends a pending request once, with NDIS_STATUS_REQUEST_ABORTED, and touches no other.",
        page: "nc-ndis-miniport_cancel_oid_request",
        needs: &[],
        run: cancel_oids,
    },
    Case {
        number: 30,
        id: "random-oids",
        area: "1c_NdisRequestCov",
        title: "Thousands of malformed requests, seeded, are answered within their buffers.",
        page: "nc-ndis-miniport_oid_request",
        needs: &[],
        run: random_oids,
    },
];

/// Room for any answer.
const ROOM: usize = 4096;
/// Power and what switches the adapter off are not asked for at random.
const DANGEROUS: &[u32] = &[OID_PNP_SET_POWER];

fn too_short(status: i32) -> bool {
    status == NDIS_STATUS_INVALID_LENGTH || status == NDIS_STATUS_BUFFER_TOO_SHORT
}

fn unknown(status: i32) -> bool {
    status == NDIS_STATUS_NOT_SUPPORTED || status == NDIS_STATUS_INVALID_OID
}

/// What NDIS answers itself; a driver may list it and need not answer.
fn ndis_answers(adapter: &Adapter, oid: u32) -> bool {
    let others = [
        ndis_sys::OID_GEN_DRIVER_VERSION,
        ndis_sys::OID_GEN_MAX_LINK_SPEED,
        ndis_sys::OID_GEN_ENUMERATE_PORTS,
        ndis_sys::OID_GEN_MINIPORT_RESTART_ATTRIBUTES,
        ndis_sys::OID_GEN_LINK_SPEED_EX,
        ndis_sys::OID_PM_CURRENT_CAPABILITIES,
        ndis_sys::OID_PM_HARDWARE_CAPABILITIES,
        ndis_sys::OID_802_3_ADD_MULTICAST_ADDRESS,
        ndis_sys::OID_802_3_DELETE_MULTICAST_ADDRESS,
    ];
    // Counters by class come out of OID_GEN_STATISTICS.
    let statistics = (0x0002_0201..=0x0002_021c).contains(&oid);
    adapter.query_ndis(oid).is_some() || others.contains(&oid) || statistics
}

/// The direct OIDs may be listed; they do not come this way.
fn is_direct(oid: u32) -> bool {
    (0xfc03_0202..=0xfc03_0205).contains(&oid)
}

/// The listed OIDs that reach the driver as regular requests.
fn listed(adapter: &Adapter) -> Vec<u32> {
    let oids = adapter.attributes().general.supported_oids.clone();
    oids.into_iter().filter(|oid| !ndis_answers(adapter, *oid) && !is_direct(*oid)).collect()
}

fn listed_oids_answer(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    for oid in listed(&adapter) {
        let query = adapter.oid(Oid::query(oid, ROOM))?;
        if !unknown(query.status) {
            continue;
        }
        let set = adapter.oid(Oid::set(oid, vec![0; 4]))?;
        let method =
            if unknown(set.status) { adapter.oid(Oid::method(oid, [0; 4], ROOM))?.status } else { 0 };
        check!(
            !unknown(set.status) || !unknown(method),
            "OID {oid:#010x} is listed, and neither query, set nor method is supported"
        );
    }
    Ok(())
}

/// The queries that succeed, with the length of their answers.
fn answers(adapter: &Adapter) -> Outcome<BTreeMap<u32, usize>> {
    let mut answers = BTreeMap::new();
    for oid in listed(adapter) {
        let outcome = adapter.oid(Oid::query(oid, ROOM))?;
        if outcome.is_success() {
            answers.insert(oid, outcome.bytes_written as usize);
        } else {
            check!(
                unknown(outcome.status) || !too_short(outcome.status),
                "a query of OID {oid:#010x} into {ROOM} bytes ends with {}",
                status_text(outcome.status)
            );
        }
    }
    Ok(answers)
}

/// Fixed answers, by their pages.
fn known_length(oid: u32) -> Option<usize> {
    Some(match oid {
        OID_GEN_STATISTICS => 152,
        OID_GEN_INTERRUPT_MODERATION => 12,
        ndis_sys::OID_802_3_PERMANENT_ADDRESS | ndis_sys::OID_802_3_CURRENT_ADDRESS => 6,
        ndis_sys::OID_GEN_HARDWARE_STATUS
        | ndis_sys::OID_GEN_TRANSMIT_BUFFER_SPACE
        | ndis_sys::OID_GEN_RECEIVE_BUFFER_SPACE
        | ndis_sys::OID_GEN_TRANSMIT_BLOCK_SIZE
        | ndis_sys::OID_GEN_RECEIVE_BLOCK_SIZE
        | OID_GEN_VENDOR_ID
        | ndis_sys::OID_GEN_VENDOR_DRIVER_VERSION
        | ndis_sys::OID_GEN_MAXIMUM_TOTAL_SIZE
        | ndis_sys::OID_GEN_MAXIMUM_SEND_PACKETS
        | ndis_sys::OID_GEN_TRANSMIT_QUEUE_LENGTH
        | ndis_sys::OID_GEN_VLAN_ID
        | ndis_sys::OID_802_3_MAXIMUM_LIST_SIZE => 4,
        _ => return None,
    })
}

fn is_counter(oid: u32) -> bool {
    (OID_GEN_XMIT_OK..=ndis_sys::OID_GEN_RCV_NO_BUFFER).contains(&oid)
}

fn query_lengths(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    for (oid, size) in answers(&adapter)? {
        if let Some(length) = known_length(oid) {
            check!(size == length, "OID {oid:#010x} is answered with {size} bytes, by its page {length}");
        }
        if is_counter(oid) {
            continue; // they have a case of their own
        }
        for length in (0..size).filter(|length| *length < 200 || length + 3 > size) {
            let outcome = adapter.oid(Oid::query(oid, length))?;
            let status = outcome.status;
            check!(
                too_short(status),
                "OID {oid:#010x} needs {size} bytes, and a query of {length} ends with {}",
                status_text(status)
            );
            check!(
                outcome.bytes_needed as usize == size,
                "a query of OID {oid:#010x} into {length} bytes: BytesNeeded {}, the answer has {size}",
                outcome.bytes_needed
            );
        }
        for length in [size, size + 1, size + 63] {
            for misalign in 0..8 {
                let outcome = adapter.oid(Oid::query(oid, length).misaligned(misalign))?;
                check!(
                    outcome.is_success() && outcome.bytes_written as usize == size,
                    "a query of OID {oid:#010x} into {length} bytes at {misalign} behind a boundary: {}, BytesWritten {}",
                    status_text(outcome.status),
                    outcome.bytes_written
                );
            }
        }
        let mut statistics = Oid::query(oid, size);
        statistics.kind = OidKind::QueryStatistics;
        let outcome = adapter.oid(statistics)?;
        check!(
            outcome.is_success() && outcome.bytes_written as usize == size,
            "OID {oid:#010x} as NdisRequestQueryStatistics ends with {}",
            status_text(outcome.status)
        );
    }
    Ok(())
}

/// What a set of an OID has at least, by its page.
const SETS: &[(u32, usize)] = &[
    (OID_GEN_CURRENT_PACKET_FILTER, 4),
    (OID_GEN_CURRENT_LOOKAHEAD, 4),
    (OID_GEN_LINK_PARAMETERS, 32),
    (OID_GEN_INTERRUPT_MODERATION, 12),
    (ndis_sys::OID_GEN_VLAN_ID, 4),
    (OID_PNP_SET_POWER, 4),
    (OID_TCP_OFFLOAD_PARAMETERS, 20),
    (OID_OFFLOAD_ENCAPSULATION, 28),
];

fn set_lengths(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let listed = listed(&adapter);
    for (oid, least) in SETS.iter().filter(|(oid, _)| listed.contains(oid)) {
        for length in 0..*least {
            let outcome = adapter.oid(Oid::set(*oid, vec![0; length]).misaligned(length))?;
            if unknown(outcome.status) {
                break;
            }
            check!(
                too_short(outcome.status),
                "a set of OID {oid:#010x} with {length} of {least} bytes ends with {}",
                status_text(outcome.status)
            );
            check!(
                outcome.bytes_needed as usize >= *least,
                "a set of OID {oid:#010x} with {length} of {least} bytes: BytesNeeded {}",
                outcome.bytes_needed
            );
            check!(
                outcome.bytes_read == 0,
                "a refused set of OID {oid:#010x}: BytesRead {}",
                outcome.bytes_read
            );
        }
    }
    let outcome = adapter.oid(Oid::set_u32(OID_GEN_CURRENT_LOOKAHEAD, 256))?;
    check!(
        outcome.is_success() && outcome.bytes_read == 4,
        "OID_GEN_CURRENT_LOOKAHEAD: {}, BytesRead {}",
        status_text(outcome.status),
        outcome.bytes_read
    );
    Ok(())
}

fn counters(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let query =
        |oid: u32, length: usize| -> Outcome<OidOutcome> { Ok(adapter.oid(Oid::query(oid, length))?) };
    for oid in [OID_GEN_XMIT_OK, OID_GEN_RCV_OK] {
        for length in 0..4 {
            let outcome = query(oid, length)?;
            check!(
                too_short(outcome.status) && outcome.bytes_needed == 8,
                "OID {oid:#010x} into {length} bytes: {}, BytesNeeded {} instead of 8",
                status_text(outcome.status),
                outcome.bytes_needed
            );
        }
        for (length, written) in [(4, 4), (5, 4), (7, 4), (8, 8), (9, 8), (16, 8)] {
            let outcome = query(oid, length)?;
            check!(
                outcome.is_success() && outcome.bytes_written == written,
                "OID {oid:#010x} into {length} bytes: {}, BytesWritten {} instead of {written}",
                status_text(outcome.status),
                outcome.bytes_written
            );
            check!(
                length >= 8 || outcome.bytes_needed == 8,
                "OID {oid:#010x} into {length} bytes: BytesNeeded {} instead of 8",
                outcome.bytes_needed
            );
        }
        let (short, long) = (query(oid, 4)?.u32(), query(oid, 8)?.u64());
        #[allow(clippy::cast_possible_truncation)] // that is what is asked for
        let low = long.map(|value| value as u32);
        check!(short == low, "OID {oid:#010x}: {short:?} in 32 bits, {long:?} in 64");
    }
    Ok(())
}

fn foreign_oids(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let refused = |request: Oid, what: &str| -> Outcome {
        let oid = request.oid;
        let outcome = adapter.oid(request)?;
        check!(
            unknown(outcome.status),
            "{what} of OID {oid:#010x} ends with {}",
            status_text(outcome.status)
        );
        check!(
            outcome.bytes_written == 0 && outcome.bytes_read == 0,
            "{what} of OID {oid:#010x} is refused and counts bytes"
        );
        Ok(())
    };
    for oid in [0, 0xff12_3456, 0x0001_0fff, 0xfc01_0201, u32::MAX] {
        refused(Oid::query(oid, ROOM), "a query")?;
        refused(Oid::set(oid, [0; 64]), "a set")?;
        refused(Oid::method(oid, [0; 64], 64), "a method")?;
    }
    refused(Oid::set(OID_GEN_VENDOR_ID, [0; 4]), "a set")?;
    refused(Oid::set(OID_GEN_STATISTICS, [0; 152]), "a set")?;
    refused(Oid::set(OID_GEN_XMIT_OK, [0; 8]), "a set")?;
    refused(Oid::method(OID_GEN_VENDOR_ID, [0; 4], 4), "a method")?;
    refused(Oid::method(OID_GEN_CURRENT_PACKET_FILTER, [0; 4], 4), "a method")?;
    refused(Oid::query(OID_PNP_SET_POWER, 4), "a query")
}

fn interrupt_moderation(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let outcome = adapter.oid(Oid::query(OID_GEN_INTERRUPT_MODERATION, 12))?;
    if unknown(outcome.status) {
        return Err(Stop::NotApplicable("it does not support OID_GEN_INTERRUPT_MODERATION".into()));
    }
    check!(outcome.is_success(), "the query ends with {}", status_text(outcome.status));
    let answer = outcome.answer();
    check!(answer.len() == 12, "the answer has {} bytes", answer.len());
    // NDIS_INTERRUPT_MODERATION_PARAMETERS: header, Flags, InterruptModeration.
    check!(answer[..4] == [0x80, 1, 12, 0], "its header is {:02x?}", &answer[..4]);
    let setting = i32::from_le_bytes([answer[8], answer[9], answer[10], answer[11]]);
    check!(
        (ndis_sys::NdisInterruptModerationNotSupported..=3).contains(&setting),
        "InterruptModeration is {setting}"
    );
    if setting == ndis_sys::NdisInterruptModerationNotSupported {
        let mut bytes = answer.to_vec();
        bytes[8] = 2;
        let outcome = adapter.oid(Oid::set(OID_GEN_INTERRUPT_MODERATION, bytes))?;
        check!(
            outcome.status == NDIS_STATUS_INVALID_DATA,
            "setting what is not supported ends with {}",
            status_text(outcome.status)
        );
    }
    Ok(())
}

fn cancel_oids(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let direct = context.facts()?.registered.characteristics.DirectOidRequestHandler.is_some();
    // Nothing is pending.
    for id in [0, 1, usize::MAX] {
        adapter.cancel_oid(id, false)?;
        if direct {
            adapter.cancel_oid(id, true)?;
        }
    }
    let mut requests: Vec<Oid> = listed(&adapter)
        .into_iter()
        .filter(|oid| !DANGEROUS.contains(oid))
        .flat_map(|oid| [Oid::query(oid, ROOM), Oid::set(oid, [0; 4])])
        .collect();
    if direct {
        requests.push(Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA, [0; 24]).direct());
    }
    for (id, request) in (0x1000_usize..).zip(requests) {
        let (oid, is_direct) = (request.oid, request.direct);
        let pending = adapter.oid_begin(request.id(id))?;
        if pending.pended() && !pending.is_done() {
            adapter.cancel_oid(id + 0x10_0000, is_direct)?;
            let early = pending.is_done();
            pending.cancel()?;
            pending.wait(context.patience)?;
            let outcome = pending.finish()?;
            check!(
                !early || outcome.status != NDIS_STATUS_REQUEST_ABORTED,
                "OID {oid:#010x} ends with NDIS_STATUS_REQUEST_ABORTED when another request is cancelled"
            );
            check!(
                outcome.is_success() || outcome.status == NDIS_STATUS_REQUEST_ABORTED,
                "OID {oid:#010x}, cancelled, ends with {}",
                status_text(outcome.status)
            );
        } else {
            // Too late: it has ended.
            pending.finish()?;
            adapter.cancel_oid(id, is_direct)?;
        }
    }
    let answer = adapter.oid(Oid::query(OID_GEN_VENDOR_ID, 4))?;
    check!(answer.is_success(), "after all this OID_GEN_VENDOR_ID ends with {}", status_text(answer.status));
    Ok(())
}

fn random_oids(context: &Context) -> Outcome {
    let facts = context.facts()?;
    let adapter = context.running()?;
    let mut random = fastrand::Rng::with_seed(30);
    let mut oids = listed(&adapter);
    oids.retain(|oid| !DANGEROUS.contains(oid));
    oids.extend([
        OID_802_3_MULTICAST_LIST,
        OID_TCP_OFFLOAD_PARAMETERS,
        OID_OFFLOAD_ENCAPSULATION,
        0xff00_0001,
    ]);
    let direct = facts.registered.characteristics.DirectOidRequestHandler.is_some();
    for _ in 0..3000 {
        let oid = oids[random.usize(..oids.len())];
        let length = if random.bool() { random.usize(..64) } else { random.usize(..400) };
        let mut bytes: Vec<u8> =
            (0..length).map(|_| if random.bool() { random.u8(..) } else { random.u8(..4) }).collect();
        // A header that claims more than there is.
        if bytes.len() >= 4 && random.bool() {
            let size = random.u16(..600).to_le_bytes();
            bytes[..4].copy_from_slice(&[0x80, random.u8(..5), size[0], size[1]]);
        }
        let request = match random.u8(..4) {
            0 => Oid::query(oid, length),
            1 => Oid::method(oid, bytes, random.usize(..400)),
            _ => Oid::set(oid, bytes),
        };
        adapter.oid(request.misaligned(random.usize(..8)))?;
    }
    if direct {
        for _ in 0..1000 {
            let oid = 0xfc03_0202 + random.u32(..5);
            let mut bytes: Vec<u8> = (0..random.usize(..260)).map(|_| random.u8(..)).collect();
            // Lists are linked by pointers, which cannot be made up; everything else may be anything.
            for at in [8, 9, 10, 11, 12, 13, 14, 15] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 0;
                }
            }
            if bytes.len() >= 4 {
                let size = random.u16(..300).to_le_bytes();
                bytes[..4].copy_from_slice(&[0x80, 1, size[0], size[1]]);
            }
            let mut request = Oid::set(oid, bytes).direct();
            request.at_dispatch = random.bool();
            adapter.oid(request)?;
        }
    }
    let answer = adapter.oid(Oid::query(OID_GEN_VENDOR_ID, 4))?;
    check!(answer.is_success(), "after all this OID_GEN_VENDOR_ID ends with {}", status_text(answer.status));
    Ok(())
}
