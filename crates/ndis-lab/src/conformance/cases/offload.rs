//! Configuration of task offloads.

use ndis_sys::{
    NDIS_OFFLOAD, NDIS_STATUS_BUFFER_TOO_SHORT, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG,
    OID_OFFLOAD_ENCAPSULATION, OID_TCP_OFFLOAD_PARAMETERS,
};

use crate::adapter::oid::{Oid, OidOutcome};
use crate::adapter::{Adapter, HaltAction};
use crate::conformance::context::Context;
use crate::conformance::{Case, Need, Outcome, Stop, check, status_text};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 47,
        id: "offload-parameters",
        area: "OffloadMISC",
        title: "OID_TCP_OFFLOAD_PARAMETERS: every field and value, applied whole or not at all, and indicated.",
        page: "oid-tcp-offload-parameters",
        needs: &[Need::Offload],
        run: parameters,
    },
    Case {
        number: 47,
        id: "offload-parameters-header",
        area: "OffloadMISC",
        title: "OID_TCP_OFFLOAD_PARAMETERS is taken in every revision, and refused if it is short or malformed.",
        page: "ns-ntddndis-_ndis_offload_parameters",
        needs: &[Need::Offload],
        run: parameters_header,
    },
    Case {
        number: 48,
        id: "offload-persists",
        area: "OffloadMISC",
        title: "A configuration that was set by OID is in force when the adapter comes back: NDIS wrote the keywords.",
        page: "using-registry-values-to-enable-and-disable-task-offloading",
        needs: &[Need::Offload],
        run: persists,
    },
    Case {
        number: 49,
        id: "offload-encapsulation",
        area: "OffloadMISC",
        title: "OID_OFFLOAD_ENCAPSULATION takes Ethernet for both families and refuses what is not supported.",
        page: "oid-offload-encapsulation",
        needs: &[Need::Offload],
        run: encapsulation,
    },
];

/// Offsets of the fields of NDIS_OFFLOAD_PARAMETERS, and their names.
const FIELDS: &[(usize, &str, u8)] = &[
    (4, "IPv4Checksum", 4),
    (5, "TCPIPv4Checksum", 4),
    (6, "UDPIPv4Checksum", 4),
    (7, "TCPIPv6Checksum", 4),
    (8, "UDPIPv6Checksum", 4),
    (9, "LsoV1", 2),
    (11, "LsoV2IPv4", 2),
    (12, "LsoV2IPv6", 2),
    (20, "IPsecV2", 4),
    (21, "IPsecV2IPv4", 4),
];

/// Sizes by revision.
const SIZES: [u8; 3] = [20, 22, 26];

fn size(revision: u8) -> u8 {
    SIZES[usize::from(revision) - 1]
}

/// Parameters that change nothing.
fn unchanged(revision: u8) -> Vec<u8> {
    let size = size(revision);
    let mut bytes = vec![0; size.into()];
    bytes[..4].copy_from_slice(&[0x80, revision, size, 0]);
    bytes
}

/// Parameters of revision 3 with one field set.
pub(super) fn with(field: &str, value: u8) -> Vec<u8> {
    let mut bytes = unchanged(3);
    if let Some((offset, ..)) = FIELDS.iter().find(|(_, name, _)| *name == field) {
        bytes[*offset] = value;
    }
    bytes
}

/// The field by which IPsec is switched: IPv4-only devices have one of their own.
pub(super) fn ipsec_field(hardware: &NDIS_OFFLOAD) -> &'static str {
    if hardware.IPsecV2.IPv6Supported != 0 { "IPsecV2" } else { "IPsecV2IPv4" }
}

fn set(adapter: &Adapter, bytes: Vec<u8>) -> Outcome<OidOutcome> {
    Ok(adapter.oid(Oid::set(OID_TCP_OFFLOAD_PARAMETERS, bytes))?)
}

/// The configurations that were indicated since the last look.
fn configurations(adapter: &Adapter) -> Vec<Vec<u8>> {
    let statuses = adapter.take_statuses();
    let of_kind = statuses.into_iter().filter(|s| s.code == NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG);
    of_kind.map(|status| status.buffer).collect()
}

fn current(adapter: &Adapter) -> Outcome<NDIS_OFFLOAD> {
    adapter.current_offload().ok_or_else(|| Stop::Failed("there is no current configuration".into()))
}

/// Whether every offload of `inner` is one of `outer`: both are masks, flags and limits.
fn within(inner: &NDIS_OFFLOAD, outer: &NDIS_OFFLOAD) -> bool {
    let ipsec = |o: &NDIS_OFFLOAD| {
        let i = &o.IPsecV2;
        [
            i.Encapsulation,
            u32::from(i.Ah),
            u32::from(i.Esp),
            u32::from(i.Tunnel),
            i.AuthenticationAlgorithms,
            i.EncryptionAlgorithms,
            o.LsoV2.IPv4.Encapsulation,
            o.LsoV2.IPv6.Encapsulation,
        ]
    };
    ipsec(inner).iter().zip(ipsec(outer)).all(|(inner, outer)| inner & !outer == 0)
}

/// Whether a value switches something on.
fn switches_on(field: &str, value: u8) -> bool {
    value >= 2 && !field.starts_with("IPsec")
}

/// Whether the hardware has any of what a field switches.
fn can(field: &str, hardware: &NDIS_OFFLOAD) -> bool {
    let (checksum, large) = (&hardware.Checksum, &hardware.LsoV2);
    match field {
        "IPv4Checksum" => {
            checksum.IPv4Transmit.Bits.IpChecksum() + checksum.IPv4Receive.Bits.IpChecksum() > 0
        }
        "TCPIPv4Checksum" => {
            checksum.IPv4Transmit.Bits.TcpChecksum() + checksum.IPv4Receive.Bits.TcpChecksum() > 0
        }
        "UDPIPv4Checksum" => {
            checksum.IPv4Transmit.Bits.UdpChecksum() + checksum.IPv4Receive.Bits.UdpChecksum() > 0
        }
        "TCPIPv6Checksum" => {
            checksum.IPv6Transmit.Bits.TcpChecksum() + checksum.IPv6Receive.Bits.TcpChecksum() > 0
        }
        "UDPIPv6Checksum" => {
            checksum.IPv6Transmit.Bits.UdpChecksum() + checksum.IPv6Receive.Bits.UdpChecksum() > 0
        }
        "LsoV1" => hardware.LsoV1.IPv4.MaxOffLoadSize > 0,
        "LsoV2IPv4" => large.IPv4.MaxOffLoadSize > 0,
        "LsoV2IPv6" => large.IPv6.MaxOffLoadSize > 0,
        _ => true,
    }
}

fn parameters(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let hardware = context.facts()?.attributes.offload.map(|offload| offload.hardware);
    let Some(hardware) = hardware else { return Ok(()) };
    configurations(&adapter);
    for (_, field, max) in FIELDS {
        for value in 0..=max + 1 {
            let before = current(&adapter)?;
            let outcome = set(&adapter, with(field, value))?;
            let indicated = configurations(&adapter);
            let after = current(&adapter)?;
            if outcome.is_success() {
                check!(
                    !switches_on(field, value) || can(field, &hardware),
                    "{field} {value} succeeds, and the hardware cannot do it"
                );
                check!(value <= *max, "{field} {value}, which means nothing, succeeds");
                check!(
                    indicated.len() == 1,
                    "{field} {value} succeeds with {} indications of the current configuration",
                    indicated.len()
                );
                check!(
                    outcome.bytes_read == u32::from(size(3)),
                    "{field} {value}: BytesRead {}",
                    outcome.bytes_read
                );
                check!(within(&after, &hardware), "{field} {value} switches on what the hardware cannot do");
                check!(value != 0 || after == before, "{field} 0, no change, changes the configuration");
            } else {
                check!(
                    [NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_SUPPORTED]
                        .contains(&outcome.status),
                    "{field} {value} ends with {}",
                    status_text(outcome.status)
                );
                check!(
                    value > 1,
                    "{field} {value}, which switches nothing on, ends with {}",
                    status_text(outcome.status)
                );
                check!(
                    indicated.is_empty() && after == before,
                    "{field} {value} is refused and changes the configuration"
                );
            }
        }
    }
    if hardware.IPsecV2.SaOffloadCapacity > 0 {
        ipsec_switch(&adapter, &hardware)?;
    }
    Ok(())
}

fn ipsec_switch(adapter: &Adapter, hardware: &NDIS_OFFLOAD) -> Outcome {
    let field = ipsec_field(hardware);
    let (ah, esp) = (hardware.IPsecV2.Ah, hardware.IPsecV2.Esp);
    for (value, want) in [(1, [0, 0]), (4, [ah, esp]), (1, [0, 0]), (3, [0, esp]), (4, [ah, esp])] {
        let outcome = set(adapter, with(field, value))?;
        if value == 3 && esp == 0 {
            continue;
        }
        check!(outcome.is_success(), "{field} {value} ends with {}", status_text(outcome.status));
        let now = current(adapter)?.IPsecV2;
        check!([now.Ah, now.Esp] == want, "after {field} {value} Ah is {}, Esp {}", now.Ah, now.Esp);
        let off = value == 1;
        check!(
            !off || now == ndis_sys::NDIS_IPSEC_OFFLOAD_V2::default(),
            "after {field} 1 the IPsecV2 part is not all zero"
        );
    }
    // All or nothing: one good field and one that means nothing.
    let before = current(adapter)?;
    let mut both = with(field, 1);
    both[4] = 9;
    let outcome = set(adapter, both)?;
    check!(!outcome.is_success(), "IPv4Checksum 9, which means nothing, succeeds");
    // Only an indication tells what is in force; this one changes nothing.
    set(adapter, unchanged(3))?;
    check!(current(adapter)? == before, "parameters that are refused as a whole are applied in part");
    Ok(())
}

fn parameters_header(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    for revision in 1..=3 {
        let bytes = unchanged(revision);
        let outcome = set(&adapter, bytes.clone())?;
        check!(
            outcome.is_success() && outcome.bytes_read == u32::from(size(revision)),
            "revision {revision}: {}, BytesRead {}",
            status_text(outcome.status),
            outcome.bytes_read
        );
        check!(
            outcome.supported_revision == revision,
            "revision {revision}: SupportedRevision {}",
            outcome.supported_revision
        );
        let mut longer = bytes.clone();
        longer.resize(60, 0xee);
        let outcome = set(&adapter, longer)?;
        check!(
            outcome.is_success(),
            "revision {revision} in 60 bytes ends with {}",
            status_text(outcome.status)
        );
        for length in 0..bytes.len() {
            let outcome = set(&adapter, bytes[..length].to_vec())?;
            let refusals = [
                NDIS_STATUS_INVALID_LENGTH,
                NDIS_STATUS_BUFFER_TOO_SHORT,
                NDIS_STATUS_INVALID_DATA,
                NDIS_STATUS_INVALID_PARAMETER,
            ];
            check!(
                refusals.contains(&outcome.status),
                "{length} bytes of revision {revision} end with {}",
                status_text(outcome.status)
            );
        }
        for (at, value) in [(0, 0x81), (1, 0), (2, bytes[2] - 1), (3, 0x7f)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            let outcome = set(&adapter, wrong)?;
            check!(
                !outcome.is_success(),
                "revision {revision} with byte {at} of the header {value:#x} succeeds"
            );
        }
    }
    // A later revision has the fields of revision 3 first.
    let mut later = unchanged(3);
    later.resize(40, 0xee);
    later[..4].copy_from_slice(&[0x80, 5, 40, 0]);
    let outcome = set(&adapter, later)?;
    check!(
        outcome.is_success() && outcome.supported_revision <= 5 && outcome.supported_revision >= 1,
        "revision 5 ends with {}, SupportedRevision {}",
        status_text(outcome.status),
        outcome.supported_revision
    );
    Ok(())
}

/// Fields of NDIS_OFFLOAD_PARAMETERS, and values that one after the other are set.
const FLIPS: &[(&str, &[u8])] = &[
    ("IPv4Checksum", &[1, 2, 3, 4]),
    ("TCPIPv4Checksum", &[1, 2, 3, 4]),
    ("UDPIPv4Checksum", &[1, 2, 3, 4]),
    ("TCPIPv6Checksum", &[1, 4]),
    ("UDPIPv6Checksum", &[1, 4]),
    ("LsoV2IPv4", &[1, 2]),
    ("LsoV2IPv6", &[1, 2]),
];

fn persists(context: &Context) -> Outcome {
    let Some(hardware) = context.facts()?.hardware().copied() else { return Ok(()) };
    let ipsec: &[u8] = if hardware.IPsecV2.Esp == 0 { &[1, 4] } else { &[1, 3, 4] };
    let flips = FLIPS.iter().copied().filter(|(field, _)| can(field, &hardware));
    let switches_ipsec = hardware.IPsecV2.SaOffloadCapacity > 0;
    let flips = flips.chain(switches_ipsec.then_some((ipsec_field(&hardware), ipsec)));
    for (field, value) in flips.flat_map(|(field, values)| values.iter().map(move |value| (field, *value))) {
        let adapter = context.driver()?.add_adapter(context.config())?;
        // A half of a checksum offload that the hardware does not have is refused.
        if !set(&adapter, with(field, value))?.is_success() {
            adapter.halt(HaltAction::DeviceDisabled)?;
            continue;
        }
        let by_oid = current(&adapter)?;
        // NDIS wrote the new value to the registry before the driver saw the request.
        let keywords = adapter.keywords();
        adapter.halt(HaltAction::DeviceDisabled)?;
        let adapter = context.driver()?.add_adapter(crate::AdapterConfig { keywords })?;
        let by_keyword = current(&adapter)?;
        adapter.halt(HaltAction::DeviceDisabled)?;
        check!(
            by_oid == by_keyword,
            "{field} {value}, set by OID, is gone or differs when the adapter comes back with the keywords that \
             NDIS wrote"
        );
    }
    Ok(())
}

/// NDIS_OFFLOAD_ENCAPSULATION: header, then Enabled, EncapsulationType, HeaderSize of both families.
pub(super) fn encapsulate(ipv4: [u32; 3], ipv6: [u32; 3]) -> Vec<u8> {
    let mut bytes = vec![ndis_sys::NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION, 1, 28, 0];
    bytes.extend([ipv4, ipv6].as_flattened().iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

pub(super) const NO_CHANGE: [u32; 3] = [ndis_sys::NDIS_OFFLOAD_SET_NO_CHANGE, 0, 0];
pub(super) const ON: [u32; 3] = [ndis_sys::NDIS_OFFLOAD_SET_ON, ndis_sys::NDIS_ENCAPSULATION_IEEE_802_3, 14];
pub(super) const OFF: [u32; 3] =
    [ndis_sys::NDIS_OFFLOAD_SET_OFF, ndis_sys::NDIS_ENCAPSULATION_IEEE_802_3, 14];

fn encapsulation(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let send = |bytes: Vec<u8>| adapter.oid(Oid::set(OID_OFFLOAD_ENCAPSULATION, bytes));
    for (ipv4, ipv6) in
        [(ON, NO_CHANGE), (NO_CHANGE, ON), (ON, ON), (OFF, OFF), (NO_CHANGE, NO_CHANGE), (ON, OFF)]
    {
        configurations(&adapter);
        let outcome = send(encapsulate(ipv4, ipv6))?;
        check!(
            outcome.is_success() && outcome.bytes_read == 28,
            "encapsulation IPv4 {ipv4:?}, IPv6 {ipv6:?}: {}, BytesRead {}",
            status_text(outcome.status),
            outcome.bytes_read
        );
        let indicated = configurations(&adapter).len();
        check!(indicated == 1, "encapsulation IPv4 {ipv4:?}, IPv6 {ipv6:?} is indicated {indicated} times");
    }
    // No encapsulation at all is none that anybody supports; LLC/SNAP only where it is claimed.
    let refused = [NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_INVALID_DATA];
    for kind in [0, 0x20, 0x8000_0000] {
        configurations(&adapter);
        let outcome = send(encapsulate([ON[0], kind, 14], NO_CHANGE))?;
        check!(
            refused.contains(&outcome.status),
            "encapsulation type {kind:#x} for IPv4 ends with {}",
            status_text(outcome.status)
        );
        check!(configurations(&adapter).is_empty(), "a refused encapsulation is indicated");
    }
    let outcome = send(encapsulate([7, ON[1], 14], NO_CHANGE))?;
    check!(refused.contains(&outcome.status), "Enabled 7 ends with {}", status_text(outcome.status));
    Ok(())
}
