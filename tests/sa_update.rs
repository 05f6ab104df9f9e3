//! UPDATE_SA and extended sequence numbers (RFC 4303 §2.2.1): the high half is in the ICV, and comes from the host.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use control::{AUTH_FAILED, CRYPTO_DONE, Flow, delete, receive, set, slot_1, status, table};
use ndis_lab::ipsec_v2::{Operation, update_sa};
use ndis_lab::{Adapter, Oid, SendNbl};
use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_SUCCESS,
};

/// Where the IV lies: behind the headers of Ethernet, IPv4, and ESP.
const IV: std::ops::Range<usize> = 14 + 20 + 8..14 + 20 + 16;

/// What the wire sees of a packet that `sender` protects: taken by a port that hears everything.
fn on_the_wire(flow: &mut Flow, sender: &Adapter, monitor: &Adapter) -> (Vec<u8>, Vec<u8>) {
    let frame = flow.clear(b"what the wire sees");
    let outcome = sender.send(&[flow.send_of(frame.clone())]).unwrap();
    assert_eq!(status(outcome[0].status), status(NDIS_STATUS_SUCCESS));
    (receive(monitor).frame, frame)
}

/// Puts a packet that another hand has sealed on the wire; slot 1 of what arrives.
fn inject(flow: &mut Flow, from: &Adapter, to: &Adapter) -> usize {
    let frame = flow.clear(b"from another hand");
    from.send(&[SendNbl::frame(flow.seal(frame))]).unwrap();
    slot_1(&receive(to))
}

fn promiscuous(monitor: &Adapter) {
    let filter = ndis_sys::NDIS_PACKET_TYPE_PROMISCUOUS;
    set(monitor, Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, filter));
}

on_both! {
    /// Each half of the work against AES-GCM by another hand, at every edge of the low half.
    fn the_high_half_is_in_the_icv(bench) {
        let (a, b, monitor) = (bench.station(1), bench.station(2), bench.station(3));
        promiscuous(&monitor);
        for (spi, high) in [(0x100, 0), (0x101, 1), (0x102, 0xDEAD_BEEF), (0x103, u32::MAX)] {
            for low in [1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX - 1] {
                let mut flow = Flow::new(1, 2, spi).extended(high).add(&a, &b);
                flow.sequence = low - 1;
                let (seen, clear) = on_the_wire(&mut flow, &a, &monitor);
                assert_eq!(seen, flow.seal(clear.clone()), "{high:#x}:{low:#x}");
                let without = Flow { high: None, ..flow.clone() };
                assert_ne!(seen, without.seal(clear));
                assert_eq!(slot_1(&receive(&b)), CRYPTO_DONE);
                assert_eq!(inject(&mut flow, &monitor, &b), CRYPTO_DONE);
                // Another high half is another packet.
                flow.high = Some(high ^ 0x10);
                assert_eq!(inject(&mut flow, &monitor, &b), AUTH_FAILED);
                delete(&a, &[flow.handle]);
                delete(&b, &[flow.inbound]);
            }
        }
    }

    fn updates_take_hold_in_both_directions(bench) {
        let (a, b, monitor) = (bench.station(1), bench.station(2), bench.station(3));
        promiscuous(&monitor);
        let mut flow = Flow::new(1, 2, 0x200).extended(3).add(&a, &b);
        flow.works(&a, &b);
        monitor.take_received();
        for high in [4, 9, 2, 0, u32::MAX] {
            let update = |handle| update_sa(handle, Operation::Esp, 0x200, high);
            let outcome = a.oid(update(flow.handle)).unwrap();
            assert_eq!((status(outcome.status), outcome.bytes_read), (status(NDIS_STATUS_SUCCESS), 28));
            set(&b, update(flow.inbound).at_dispatch());
            flow.high = Some(high);
            let (seen, clear) = on_the_wire(&mut flow, &a, &monitor);
            assert_eq!(seen, flow.seal(clear), "{high:#x}");
            assert_eq!(slot_1(&receive(&b)), CRYPTO_DONE);
            let high_of = |adapter| table(adapter).1[0].sequence_high;
            assert_eq!((high_of(&a), high_of(&b)), (Some(high), Some(high)));
        }
    }

    /// The low half wraps; the host's word comes late, or early, or twice, and packets come out of order.
    fn a_wrap_loses_no_packet(bench) {
        let (a, b, monitor) = (bench.station(1), bench.station(2), bench.station(3));
        promiscuous(&monitor);
        for (spi, early) in [(0x300, false), (0x301, true)] {
            let mut flow = Flow::new(1, 2, spi).extended(7).add(&a, &b);
            flow.sequence = u32::MAX - 4;
            flow.works(&a, &b);
            monitor.take_received();
            let update = |high| {
                set(&a, update_sa(flow.handle, Operation::Esp, spi, high));
                set(&b, update_sa(flow.inbound, Operation::Esp, spi, high));
            };
            if early {
                update(8);
            }
            let mut flow = flow.clone();
            for step in 0..8_u32 {
                // MAX - 2, MAX - 1, MAX, 0, 1, …
                flow.high = Some(if step < 3 { 7 } else { 8 });
                let (seen, clear) = on_the_wire(&mut flow, &a, &monitor);
                assert_eq!(seen, flow.seal(clear), "step {step}");
                assert_eq!(slot_1(&receive(&b)), CRYPTO_DONE, "step {step}");
            }
            update(8);
            // Stragglers from before the wrap, and on it goes after it.
            let (straggler, next) = (u32::MAX - 20, flow.sequence);
            flow = Flow { high: Some(7), sequence: straggler, ..flow };
            assert_eq!(inject(&mut flow, &monitor, &b), CRYPTO_DONE);
            flow = Flow { high: Some(8), sequence: next, ..flow };
            flow.works(&a, &b);
            monitor.take_received();
            assert_eq!(table(&b).1.iter().find(|sa| sa.spi == spi).unwrap().sequence_high, Some(8));
        }
    }

    /// An IV that goes out twice under one key would break AES-GCM (RFC 4106 §3.1): a packet whose IV the stack forgot to
    /// change fails, and nothing of it is on the wire.
    fn an_iv_goes_out_once(bench) {
        let (a, b, monitor) = (bench.station(1), bench.station(2), bench.station(3));
        promiscuous(&monitor);
        let mut flow = Flow::new(1, 2, 0x400).add(&a, &b);
        let frame = flow.clear(b"once");
        let send = |list| status(a.send(&[list]).unwrap()[0].status);
        assert_eq!(send(flow.send_of(frame.clone())), status(NDIS_STATUS_SUCCESS));
        assert_eq!(receive(&monitor).frame, flow.seal(frame.clone()));
        assert_eq!(slot_1(&receive(&b)), CRYPTO_DONE);
        let errors = table(&a).1[0].errors;
        // Again, and with another payload under the same IV.
        let mut other = frame.clone();
        let payload = other.len() - 16 - 8; // before ICV, and trailer and payload
        other[payload] ^= 1;
        let first = frame.clone();
        for frame in [frame, other] {
            assert_eq!(send(flow.send_of(frame)), status(NDIS_STATUS_FAILURE));
        }
        assert_eq!(table(&a).1[0].errors, errors + 2);
        flow.works(&a, &b);
        let iv = flow.seal(first)[IV].to_vec();
        assert!(monitor.take_received().iter().all(|received| received.frame[IV] != iv), "it is on the wire again");
    }

    /// A packet further away than any window is tried with the high half as the NIC has it, too.
    fn far_from_the_newest(bench) {
        let (b, other) = (bench.station(2), bench.station(3));
        let mut flow = Flow::new(1, 2, 0x500).extended(5);
        flow.inbound = control::add(&b, &flow.parameters(true));
        for low in [10, 0xC000_0000, 11, u32::MAX, 0x8000_0000] {
            flow.sequence = low - 1;
            assert_eq!(inject(&mut flow, &other, &b), CRYPTO_DONE, "{low:#x}");
        }
        // Those of a subspace that is not next to it fail.
        flow = Flow { high: Some(7), sequence: 20, ..flow };
        assert_eq!(inject(&mut flow, &other, &b), AUTH_FAILED);
        let (_, entries) = table(&b);
        assert_eq!((entries[0].sequence_high, entries[0].packets, entries[0].errors), (Some(5), 5, 1));
    }

    fn an_update_names_its_sa_in_full(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x400).extended(1).add(&a, &b);
        let plain = Flow::new(1, 2, 0x401).add(&a, &b);
        let wrong = [
            ("no ESN", update_sa(plain.handle, Operation::Esp, plain.spi, 2)),
            ("another operation", update_sa(flow.handle, Operation::Ah, flow.spi, 2)),
            ("another SPI", update_sa(flow.handle, Operation::Esp, flow.spi + 1, 2)),
            ("an SPI turned round", update_sa(flow.handle, Operation::Esp, flow.spi.swap_bytes(), 2)),
            ("no handle", update_sa(0, Operation::Esp, flow.spi, 2)),
            ("a made-up handle", update_sa(flow.handle ^ 1 << 40, Operation::Esp, flow.spi, 2)),
        ];
        for (what, request) in wrong {
            let outcome = a.oid(request).unwrap();
            assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER), "{what}");
        }
        let right = update_sa(flow.handle, Operation::Esp, flow.spi, 2);
        for len in 0..usize::from(ndis_sys::NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1) {
            let mut short = right.clone();
            short.input.truncate(len);
            let outcome = a.oid(short).unwrap();
            assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_LENGTH), "{len} bytes");
        }
        // Nothing of that changed anything.
        flow.works(&a, &b);
        delete(&a, &[flow.handle]);
        let outcome = a.oid(right).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER), "deleted");
    }
}
