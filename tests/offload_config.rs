//! What is advertised, and how it is changed: keywords, OID_TCP_OFFLOAD_PARAMETERS, OID_OFFLOAD_ENCAPSULATION.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::sync::{Arc, Mutex};

use control::{
    Bench, Flow, IPSEC_V2_IPV4, Roadblock, SA_DELETE_REQ, add, delete, encapsulation, encapsulation_of,
    offload_parameters, refuses, set, slot_1, status, table,
};
use ndis_lab::{Adapter, AdapterConfig, Oid};
use ndis_sys::{
    NDIS_ENCAPSULATION_IEEE_802_3 as ETHERNET, NDIS_IPSEC_OFFLOAD_V2, NDIS_OFFLOAD, NDIS_OFFLOAD_PARAMETERS,
    NDIS_OFFLOAD_SET_NO_CHANGE as NO_CHANGE, NDIS_OFFLOAD_SET_OFF as OFF, NDIS_OFFLOAD_SET_ON as ON,
    NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_INVALID_PARAMETER,
    NDIS_STATUS_SUCCESS, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG,
};

/// Offset of IPsecV2.
const IPSEC_V2: usize = std::mem::offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV2);

fn offload_of(adapter: &Adapter) -> (NDIS_OFFLOAD, NDIS_OFFLOAD) {
    let offload = adapter.attributes().offload.expect("offload attributes");
    (offload.default, offload.hardware)
}

/// The fields of the IPsec capabilities, which have no equality of their own.
fn fields(ipsec: &NDIS_IPSEC_OFFLOAD_V2) -> [u32; 16] {
    [
        ipsec.Encapsulation,
        ipsec.IPv6Supported.into(),
        ipsec.IPv4Options.into(),
        ipsec.IPv6NonIPsecExtensionHeaders.into(),
        ipsec.Ah.into(),
        ipsec.Esp.into(),
        ipsec.AhEspCombined.into(),
        ipsec.Transport.into(),
        ipsec.Tunnel.into(),
        ipsec.TransportTunnelCombined.into(),
        ipsec.LsoSupported.into(),
        ipsec.ExtendedSequenceNumbers.into(),
        ipsec.UdpEsp,
        ipsec.AuthenticationAlgorithms,
        ipsec.EncryptionAlgorithms,
        ipsec.SaOffloadCapacity,
    ]
}

/// The same as they lie in memory; the one byte of padding is 0.
fn ipsec_bytes(ipsec: &NDIS_IPSEC_OFFLOAD_V2) -> Vec<u8> {
    let fields = fields(ipsec);
    let mut bytes = fields[0].to_le_bytes().to_vec();
    bytes.extend(fields[1..12].iter().map(|flag| u8::from(*flag != 0)));
    bytes.push(0);
    bytes.extend(fields[12..].iter().flat_map(|field| field.to_le_bytes()));
    bytes
}

/// Whether IPsec is on, by the indications since the last look; all of them have to agree. `None`: there was none.
fn indicated(adapter: &Adapter, hardware: &NDIS_OFFLOAD) -> Option<bool> {
    let mut last = None;
    // NDIS answers these two from attributes and indications; the driver never sees them.
    let answers = |oid| {
        let bytes = adapter.query_ndis(oid).expect("NDIS knows the offloads");
        assert_eq!(bytes[..4], [0xA7, 3, 156, 0], "type, revision, size");
        bytes
    };
    for indication in adapter.take_statuses() {
        assert_eq!(indication.code, NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG);
        assert_eq!(indication.buffer[..4], [0xA7, 3, 156, 0], "type, revision, size");
        let ipsec = indication.offload().expect("NDIS_OFFLOAD").IPsecV2;
        let on = ipsec.Esp != 0;
        assert_eq!(fields(&ipsec), if on { fields(&hardware.IPsecV2) } else { [0; 16] });
        assert_eq!(indication.buffer, answers(ndis_sys::OID_TCP_OFFLOAD_CURRENT_CONFIG));
        let capabilities = answers(ndis_sys::OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES);
        assert_eq!(&capabilities[112..144], ipsec_bytes(&hardware.IPsecV2), "whatever is on");
        last = Some(on);
    }
    last
}

fn answer(adapter: &Adapter, oid: Oid) -> String {
    status(adapter.oid(oid).unwrap().status)
}

/// A structure of revision 1, 2 or 3 with one byte set.
fn parameters(revision: u8, size: u16, len: usize, at: usize, value: u8) -> Oid {
    let mut bytes = vec![0; 32];
    bytes[..2].copy_from_slice(&[0x80, revision]);
    bytes[2..4].copy_from_slice(&size.to_le_bytes());
    bytes[at] = value;
    bytes.truncate(len);
    Oid::set(ndis_sys::OID_TCP_OFFLOAD_PARAMETERS, bytes)
}

/// Adds an outbound SA; whether that is what the configuration allows.
fn takes_sas(adapter: &Adapter) -> bool {
    let sa = Flow::new(1, 2, 1).parameters(false);
    let (outcome, handle) = adapter.add_sa_ex(&sa).unwrap();
    if let Some(handle) = handle {
        delete(adapter, &[handle]);
        return true;
    }
    assert_eq!(status(outcome.status), status(NDIS_STATUS_FAILURE));
    false
}

fn with_keywords(bench: &Bench, keywords: &[(&str, &str)]) -> Adapter {
    bench.adapter(
        keywords.iter().fold(AdapterConfig::new(), |config, (name, value)| config.keyword(name, *value)),
    )
}

/// Who acts on an indication. The hook must not keep an adapter beyond the test, which would keep the machine and its hook.
struct Acts(Arc<Mutex<Option<(Adapter, Flow)>>>);

impl Acts {
    fn new(adapter: &Adapter, flow: Flow) -> Self {
        Self(Arc::new(Mutex::new(Some((adapter.clone(), flow)))))
    }
}

impl Drop for Acts {
    fn drop(&mut self) {
        self.0.lock().unwrap().take();
    }
}

on_both! {
    /// Both keywords, every value, nonsense, and neither.
    fn keywords(bench) {
        const IPV4: &str = "*IPsecOffloadV2IPv4";
        const BOTH: &str = "*IPsecOffloadV2";
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[(IPV4, "0")], false),
            (&[(IPV4, "1")], false),
            (&[(IPV4, "2")], true),
            (&[(IPV4, "3")], true),
            (&[(IPV4, "4")], true),
            // NDIS makes a number of it: 0, for there is no digit.
            (&[(IPV4, "on")], false),
            (&[(BOTH, "0")], false),
            (&[(BOTH, "1")], false),
            (&[(BOTH, "2")], true),
            (&[(BOTH, "3")], true),
            (&[(BOTH, "9")], true),
            // A device has one of the two; the one of its kind counts.
            (&[(IPV4, "0"), (BOTH, "3")], false),
            (&[(IPV4, "3"), (BOTH, "0")], true),
        ];
        for (keywords, on) in cases {
            let adapter = with_keywords(bench, keywords);
            let (default, hardware) = offload_of(&adapter);
            let expected = [ETHERNET, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0x38, 4096];
            assert_eq!(fields(&hardware.IPsecV2), expected, "{keywords:?}");
            assert_eq!(fields(&default.IPsecV2), if *on { expected } else { [0; 16] }, "{keywords:?}");
            assert_eq!(takes_sas(&adapter), *on, "{keywords:?}");
            assert!(adapter.take_statuses().is_empty());
            control::stop(&adapter);
        }
        for (value, capacity) in [("1", 1), ("65536", 65_536), ("0", 4096), ("65537", 4096), ("-1", 4096)] {
            let adapter = with_keywords(bench, &[("SaOffloadCapacity", value)]);
            assert_eq!(offload_of(&adapter).1.IPsecV2.SaOffloadCapacity, capacity, "{value}");
            control::stop(&adapter);
        }
    }

    /// Every revision, length and field value: all of a structure is done, or nothing.
    fn parameters_of_every_revision(bench) {
        let adapter = with_keywords(bench, &[]);
        let (_, hardware) = offload_of(&adapter);
        let sizes = [(1, 20_u16), (2, 22), (3, 26), (4, 26), (255, 32)];
        for (revision, size) in sizes {
            for len in 0..=32_usize {
                let outcome = adapter.oid(parameters(revision, size, len, 31, 0)).unwrap();
                let expected = if len < 20 {
                    NDIS_STATUS_INVALID_LENGTH
                } else if len < size.into() {
                    NDIS_STATUS_INVALID_DATA
                } else {
                    NDIS_STATUS_SUCCESS
                };
                assert_eq!(status(outcome.status), status(expected), "revision {revision}, {len} bytes");
                let on = indicated(&adapter, &hardware);
                if expected == NDIS_STATUS_SUCCESS {
                    assert_eq!(on, Some(true), "indicated even if nothing changed");
                    let read = [20, 22, 26][usize::from(revision.min(3)) - 1];
                    assert_eq!((outcome.bytes_read, outcome.supported_revision), (read, revision.min(3)));
                } else {
                    assert_eq!((on, outcome.bytes_read), (None, 0));
                    let needed = if expected == NDIS_STATUS_INVALID_LENGTH { 26 } else { 0 };
                    assert_eq!(outcome.bytes_needed, needed);
                }
            }
        }
        // What may be switched on is ESP; everything may be switched off; all else is out of range.
        for at in (4..16).chain(20..26) {
            for value in 0..=6 {
                let (name, highest, on): (_, u8, &[u8]) = match at {
                    4..=8 => ("a checksum", 4, &[2, 3, 4]),
                    9 | 11 | 12 | 22 | 23 => ("LSO or RSC", 2, &[2]),
                    10 => ("IPsec, version 1", 4, &[2, 3, 4]),
                    13 | 14 => ("TCP chimney", 2, &[2]),
                    24 => ("NVGRE", 2, &[1]),
                    IPSEC_V2 => ("IPsec of both families", 4, &[2, 3, 4]),
                    IPSEC_V2_IPV4 => ("IPsec", 4, &[2]),
                    // Padding, and what says something of NVGRE alone.
                    _ => ("nothing to us", 6, &[]),
                };
                let expected = if value > highest {
                    NDIS_STATUS_INVALID_DATA
                } else if on.contains(&value) {
                    NDIS_STATUS_INVALID_PARAMETER
                } else {
                    NDIS_STATUS_SUCCESS
                };
                // Together with ESP off, which must not happen if the other field is refused.
                let request = if at == IPSEC_V2_IPV4 {
                    offload_parameters(&[(at, value)])
                } else {
                    offload_parameters(&[(IPSEC_V2_IPV4, 1), (at, value)])
                };
                assert_eq!(answer(&adapter, request), status(expected), "{name} ({at}) {value}");
                let off = at != IPSEC_V2_IPV4 || value == 1;
                let now = indicated(&adapter, &hardware);
                if expected == NDIS_STATUS_SUCCESS {
                    assert_eq!(now, Some(!off), "{name} ({at}) {value}");
                    assert_eq!(takes_sas(&adapter), !off);
                    set(&adapter, offload_parameters(&[(IPSEC_V2_IPV4, 4)]));
                    assert_eq!(indicated(&adapter, &hardware), Some(true));
                } else {
                    assert_eq!(now, None);
                    assert!(takes_sas(&adapter), "nothing of it was done");
                }
            }
        }
        assert_eq!(fields(&offload_of(&adapter).1.IPsecV2), fields(&hardware.IPsecV2));
    }

    /// An adapter with the keyword of devices of both families is switched by that field.
    fn the_field_goes_with_the_keyword(bench) {
        let adapter = with_keywords(bench, &[("*IPsecOffloadV2", "3")]);
        assert!(takes_sas(&adapter));
        let refused = status(NDIS_STATUS_INVALID_PARAMETER);
        assert_eq!(answer(&adapter, offload_parameters(&[(IPSEC_V2_IPV4, 3)])), refused);
        assert_eq!(answer(&adapter, offload_parameters(&[(IPSEC_V2, 2)])), refused, "AH alone");
        set(&adapter, offload_parameters(&[(IPSEC_V2_IPV4, 1)]));
        assert!(takes_sas(&adapter), "not its field");
        set(&adapter, offload_parameters(&[(IPSEC_V2, 1)]));
        assert!(!takes_sas(&adapter));
        set(&adapter, offload_parameters(&[(IPSEC_V2, 3)]));
        assert!(takes_sas(&adapter));
    }

    /// Received packets are processed only after the encapsulation has been switched on.
    fn encapsulation_is_the_gate_for_receive(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x10).add(&a, &b);
        flow.works(&a, &b);
        let (_, hardware) = offload_of(&b);
        set(&b, encapsulation(OFF));
        assert_eq!(indicated(&b, &hardware), Some(true));
        assert_eq!(slot_1(&flow.carry(&a, &b)), 0, "as it came");
        // Sending is not concerned.
        set(&a, encapsulation(OFF));
        assert_eq!(slot_1(&flow.carry(&a, &b)), 0);
        set(&b, encapsulation(ON));
        flow.works(&a, &b);
        set(&b, encapsulation_of(NO_CHANGE, 0, OFF, 0));
        flow.works(&a, &b);
        set(&b, encapsulation_of(NO_CHANGE, 0, ON, ETHERNET));
        flow.works(&a, &b);
        indicated(&b, &hardware);
        for (request, expected) in [
            (encapsulation_of(ON, ndis_sys::NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED, NO_CHANGE, 0), NDIS_STATUS_INVALID_PARAMETER),
            (encapsulation_of(ON, 0, OFF, 0), NDIS_STATUS_INVALID_PARAMETER),
            (encapsulation_of(OFF, 0, ON, 1), NDIS_STATUS_INVALID_PARAMETER),
        ] {
            assert_eq!(answer(&b, request), status(expected));
            assert_eq!(indicated(&b, &hardware), None);
        }
        flow.works(&a, &b);
    }

    /// IPsec off with live SAs: nothing goes out in clear, the stack is asked to delete, and nothing is dropped.
    fn switched_off_with_live_sas(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut there = Flow::new(1, 2, 0x20).add(&a, &b);
        let mut back = Flow::new(2, 1, 0x21).add(&b, &a);
        let off = || offload_parameters(&[(IPSEC_V2_IPV4, 1)]);
        let on = || offload_parameters(&[(IPSEC_V2_IPV4, 3)]);
        set(&a, off());
        // Whatever carries a handle fails.
        there.is_refused(&a, &b);
        refuses(&a, &Flow::new(1, 2, 0x22).parameters(false), NDIS_STATUS_FAILURE);
        // What comes in for a live SA comes as it is, with the request; again and again, until it is deleted.
        for _ in 0..3 {
            let received = back.carry(&b, &a);
            assert_eq!(slot_1(&received), SA_DELETE_REQ);
            let clear = Flow { sequence: back.sequence - 1, iv: back.iv - 1, ..back.clone() }
                .clear(b"a packet of the flow");
            assert_eq!(received.frame, back.seal(clear), "untouched");
        }
        let (summary, entries) = table(&a);
        assert!(!summary.transmits && !summary.receives && summary.asks_to_delete);
        assert_eq!((entries.len(), summary.deleted), (2, 0));
        // The outbound one is deleted: the inbound one still asks. Then that too, and nothing asks any more.
        delete(&a, &[there.handle]);
        assert_eq!(slot_1(&back.carry(&b, &a)), SA_DELETE_REQ);
        delete(&a, &[back.inbound]);
        assert_eq!(slot_1(&back.carry(&b, &a)), 0);
        // On again, with new SAs; and off and on with those alive.
        set(&a, on());
        there.handle = add(&a, &there.parameters(false));
        back.inbound = add(&a, &back.parameters(true));
        there.works(&a, &b);
        set(&a, off());
        set(&a, encapsulation(OFF));
        assert_eq!(slot_1(&back.carry(&b, &a)), SA_DELETE_REQ);
        there.is_refused(&a, &b);
        set(&a, encapsulation(ON));
        set(&a, on());
        there.works(&a, &b);
        back.works(&b, &a);
        let (summary, _) = table(&a);
        assert!(summary.transmits && summary.receives && !summary.asks_to_delete);
    }

    /// What is indicated is so already: who acts on the indication finds nothing as it was.
    fn the_indication_comes_after_the_change(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let flow = Flow::new(1, 2, 0x50).add(&a, &b);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (keep, acts) = (seen.clone(), Acts::new(&a, flow));
        let state = acts.0.clone();
        bench.lab.on_call(move |call| {
            if call.function == "NdisMIndicateStatusEx" && call.handler == Some("MiniportOidRequest") {
                let packet = state.lock().unwrap().as_mut().map(|(a, flow)| (a.clone(), flow.next(b"a packet of the flow")));
                let Some((sender, packet)) = packet else { return };
                let sent = std::thread::spawn(move || sender.send(&[packet]).unwrap()[0].status).join().unwrap();
                keep.lock().unwrap().push(status(sent));
            }
        });
        for value in [1, 3, 3, 1, 4] {
            set(&a, offload_parameters(&[(IPSEC_V2_IPV4, value)]));
        }
        let [sent, failed] = [NDIS_STATUS_SUCCESS, NDIS_STATUS_FAILURE].map(status);
        assert_eq!(*seen.lock().unwrap(), [&failed, &sent, &sent, &failed, &sent].map(String::clone));
        let received = b.wait_received(3, std::time::Duration::from_secs(5)).unwrap();
        assert!(received.iter().all(|received| slot_1(received) == control::CRYPTO_DONE));
    }

    /// Switched off in the middle of a chain: what went out before was protected, what comes after it fails.
    fn switched_off_in_the_middle_of_a_chain(bench) {
        let (a, b, monitor) = (bench.station(1), bench.station(2), bench.station(3));
        set(&monitor, Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, ndis_sys::NDIS_PACKET_TYPE_PROMISCUOUS));
        let mut flow = Flow::new(1, 2, 0x40).add(&a, &b);
        let clear = flow.clear(b"a packet of the flow");
        let block = Roadblock::new(&bench.lab);
        let sender = block.send(&a, vec![flow.send_of(clear.clone()), flow.next(b"held up")]);
        set(&a, offload_parameters(&[(IPSEC_V2_IPV4, 1)]));
        block.release();
        assert_eq!(sender.join().unwrap(), [NDIS_STATUS_SUCCESS, NDIS_STATUS_FAILURE]);
        assert_eq!(control::receive(&monitor).frame, flow.seal(clear), "on the wire");
        control::receive(&b);
        assert_eq!((monitor.frames_received(), table(&a).1.len()), (1, 1));
    }

    /// What NDIS has no memory to read keeps the adapter from starting: a default might switch on what is off.
    fn keywords_that_cannot_be_read(bench) {
        let calls = {
            let before = bench.lab.fault_points();
            control::stop(&with_keywords(bench, &[("*IPsecOffloadV2IPv4", "0")]));
            bench.lab.fault_points() - before
        };
        let mut failed = 0;
        for nth in 0..calls {
            let reading = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let (hit, first) = (reading.clone(), bench.lab.fault_points());
            bench.lab.set_faults(move |point| {
                let is_read = point.function.starts_with("NdisRead") && point.nth == first + nth;
                hit.fetch_or(is_read, std::sync::atomic::Ordering::Relaxed);
                is_read
            });
            let config = AdapterConfig::new().keyword("*IPsecOffloadV2IPv4", "0");
            let adapter = bench.driver.add_adapter(config);
            bench.lab.clear_faults();
            if reading.load(std::sync::atomic::Ordering::Relaxed) {
                failed += 1;
                assert!(adapter.is_err(), "call {nth}");
            } else {
                let adapter = adapter.unwrap();
                assert!(!takes_sas(&adapter));
                control::stop(&adapter);
            }
        }
        // Every keyword of the driver, and the address.
        assert_eq!(failed, 7);
    }

    /// What is current outlives pause, restart and sleep.
    fn the_configuration_stays(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x30).add(&a, &b);
        for adapter in [&a, &b] {
            adapter.pause().unwrap();
            adapter.restart().unwrap();
        }
        flow.works(&a, &b);
        set(&a, offload_parameters(&[(IPSEC_V2_IPV4, 1)]));
        a.pause().unwrap();
        a.restart().unwrap();
        flow.is_refused(&a, &b);
    }
}
