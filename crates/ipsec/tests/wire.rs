//! The views: fields as the RFCs place them, and no panic on any bytes.

use std::net::Ipv4Addr;

use ipsec::checksum::{self, Checksum};
use ipsec::wire::{Error, EspHeader, EtherType, EthernetFrame, Ipv4Packet, MacAddress, VlanTag, protocol};
use proptest::prelude::*;

/// Calls every accessor of every view that can be made of `bytes`, and holds them to each other.
fn look_at_everything(bytes: &[u8]) {
    if let Ok(frame) = EthernetFrame::new_checked(bytes) {
        assert_eq!([&frame.dst().0[..], &frame.src().0].concat(), bytes[..12]);
        assert_eq!(frame.header_len() + frame.payload().len(), bytes.len());
        assert_eq!(frame.vlan().is_some(), frame.header_len() == 18);
        assert_eq!(frame.ethertype().0.to_be_bytes(), bytes[frame.header_len() - 2..frame.header_len()]);
        let mut copy = bytes.to_vec();
        let len = EthernetFrame::new_checked(&mut copy[..]).unwrap().payload_mut().len();
        assert_eq!(len, frame.payload().len());
        look_at_everything(frame.payload());
    }
    if let Ok(packet) = Ipv4Packet::new_checked(bytes) {
        assert_eq!(packet.header().len() + packet.payload().len(), usize::from(packet.total_len()));
        assert_eq!(packet.header().len(), 20 + packet.options().len());
        assert_eq!(packet.is_fragment(), packet.more_fragments() || packet.fragment_offset() != 0);
        let _ = (packet.ident(), packet.dont_fragment(), packet.ttl(), packet.protocol());
        let _ = (packet.header_checksum(), packet.src(), packet.dst());
        let mut copy = bytes.to_vec();
        let mut view = Ipv4Packet::new_checked(&mut copy[..]).unwrap();
        assert_eq!(view.payload_mut().len(), packet.payload().len());
        view.fill_checksum();
        assert!(view.verify_checksum());
    }
    let esp = EspHeader::new_checked(bytes);
    assert_eq!(esp.is_ok(), bytes.len() >= 8);
    if let Ok(esp) = esp {
        assert_eq!([esp.spi().to_be_bytes(), esp.sequence().to_be_bytes()].concat(), bytes[..8]);
    }
}

fn ipv4(header_words: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(header_words) * 4];
    bytes[0] = 0x40 | header_words;
    bytes.extend(payload);
    let total_len = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    bytes
}

fn ipv4_error(bytes: &[u8]) -> Option<Error> {
    Ipv4Packet::new_checked(bytes).err()
}

#[test]
fn an_untagged_frame() {
    let bytes = [&[0xFF; 6][..], &[2, 0, 0, 0, 0, 9], &[0x08, 0x00], b"payload"].concat();
    let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
    assert!(frame.dst().is_broadcast() && frame.dst().is_multicast());
    assert!(!frame.src().is_broadcast() && !frame.src().is_multicast());
    assert_eq!(frame.src().to_string(), "02:00:00:00:00:09");
    assert_eq!((frame.ethertype(), frame.vlan(), frame.payload()), (EtherType::IPV4, None, &b"payload"[..]));
    assert!(MacAddress([1, 0, 0x5E, 0, 0, 1]).is_multicast());
}

#[test]
fn a_tagged_frame() {
    let bytes = [&[0; 12][..], &[0x81, 0x00, 0xB1, 0x23, 0x86, 0xDD], b"payload"].concat();
    let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
    assert_eq!(frame.vlan(), Some(VlanTag { priority: 5, drop_eligible: true, vlan_id: 0x123 }));
    assert_eq!((frame.ethertype(), frame.payload()), (EtherType::IPV6, &b"payload"[..]));
    for len in 0..18 {
        assert_eq!(EthernetFrame::new_checked(&bytes[..len]).err(), Some(Error::Truncated), "{len}");
    }
    // A second tag is left to whoever wants it.
    let bytes = [&bytes[..16], &[0x81, 0x00, 0, 1, 8, 0]].concat();
    let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
    assert_eq!((frame.ethertype(), frame.payload()), (EtherType::VLAN, &[0, 1, 8, 0][..]));
}

#[test]
fn an_ipv4_packet() {
    let mut bytes = ipv4(6, b"payload");
    bytes[4..6].copy_from_slice(&[0x12, 0x34]);
    bytes[8..10].copy_from_slice(&[64, protocol::ESP]);
    bytes[12..24].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 148, 4, 0, 0]);
    let end = bytes.len();
    bytes.extend(b"padding of the frame");
    let mut packet = Ipv4Packet::new_checked(&mut bytes[..]).unwrap();
    packet.fill_checksum();
    assert!(packet.verify_checksum() && packet.header_checksum() != 0);
    assert_eq!((packet.header_len(), usize::from(packet.total_len())), (24, end));
    assert_eq!((packet.ident(), packet.ttl(), packet.protocol()), (0x1234, 64, protocol::ESP));
    assert_eq!((packet.src(), packet.dst()), (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!((packet.options(), packet.payload()), (&[148, 4, 0, 0][..], &b"payload"[..]));
    packet.set_protocol(protocol::UDP);
    assert_eq!(packet.protocol(), protocol::UDP);
    assert!(!packet.verify_checksum());
}

#[test]
fn fragments() {
    let rows = [
        (0x0000, false, 0),
        (0x4000, false, 0),
        (0x2000, true, 0),
        (0x0001, true, 8),
        (0x3FFF, true, 65_528),
    ];
    for (word, is_fragment, offset) in rows {
        let mut bytes = ipv4(5, b"");
        bytes[6..8].copy_from_slice(&u16::to_be_bytes(word));
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((packet.is_fragment(), packet.fragment_offset()), (is_fragment, offset), "{word:04x}");
        assert_eq!(
            (packet.dont_fragment(), packet.more_fragments()),
            (word & 0x4000 != 0, word & 0x2000 != 0)
        );
    }
}

#[test]
fn ipv4_headers_that_are_none() {
    let good = ipv4(6, b"payload");
    assert_eq!(ipv4_error(&good), None);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        ipv4_error(&bytes)
    };
    assert_eq!(with(0, 0x66), Some(Error::Version));
    assert_eq!(with(0, 0x44), Some(Error::HeaderLength));
    assert_eq!(with(0, 0x4F), Some(Error::Truncated));
    assert_eq!(with(3, 23), Some(Error::TotalLength));
    assert_eq!(with(3, 24), None);
    assert_eq!(with(3, 31), None);
    assert_eq!(with(3, 32), Some(Error::TotalLength));
    assert_eq!(with(2, 0xFF), Some(Error::TotalLength));
    for len in 0..good.len() {
        let error = if len < 24 { Error::Truncated } else { Error::TotalLength };
        assert_eq!(ipv4_error(&good[..len]), Some(error), "{len}");
    }
}

#[test]
fn the_checksum_of_rfc_1071() {
    // RFC 1071 §3: these bytes sum to ddf2.
    let bytes = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
    assert_eq!(checksum::of(&bytes), !0xDDF2);
    let words = [0x0001, 0xF203, 0xF4F5, 0xF6F7].into_iter().fold(Checksum::new(), Checksum::add_u16);
    assert_eq!(words.finish(), !0xDDF2);
    assert_eq!(checksum::of(&[]), 0xFFFF);
}

/// RFC 1071 §1, word by word.
fn naive_checksum(data: &[u8]) -> u16 {
    let mut sum = 0u16;
    for word in data.chunks(2) {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (low, carry) = sum.overflowing_add(word);
        sum = low + u16::from(carry);
    }
    !sum
}

proptest! {
    #[test]
    fn arbitrary_bytes_and_every_truncation(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        for len in 0..=bytes.len() {
            look_at_everything(&bytes[..len]);
        }
    }

    #[test]
    fn likely_frames_and_every_truncation(
        tag in any::<Option<[u8; 2]>>(),
        first in 0x44u8..=0x4F,
        total_len in 0u16..96,
        mut rest in prop::collection::vec(any::<u8>(), 76),
    ) {
        let mut bytes = vec![0; 12];
        if let Some(tag) = tag {
            bytes.extend([[0x81, 0x00], tag].concat());
        }
        bytes.extend([0x08, 0x00]);
        rest[0] = first;
        rest[2..4].copy_from_slice(&total_len.to_be_bytes());
        bytes.extend(rest);
        for len in 0..=bytes.len() {
            look_at_everything(&bytes[..len]);
        }
    }

    #[test]
    fn a_checksum_in_pieces(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
    ) {
        let sum = pieces.iter().fold(Checksum::new(), |sum, piece| sum.add_bytes(piece));
        prop_assert_eq!(sum.finish(), naive_checksum(&pieces.concat()));
    }
}
