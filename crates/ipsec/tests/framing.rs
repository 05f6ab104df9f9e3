//! What ESP hands to the cipher, and what it refuses before and after.

use std::cell::RefCell;

use ipsec::aead::{Aead, AesGcm, AuthenticationFailed, LimitExceeded, Nonce, Tag};
use ipsec::algorithm::Algorithm;
use ipsec::esp::{
    ALIGNMENT, EspSa, HEADER_LEN, ICV_LEN, IV_LEN, MAX_PACKET_LEN, MIN_PACKET_LEN, OpenError, SealError,
    SyntaxError, TRAILER_LEN, Trailer,
};
use proptest::prelude::*;

const SPI: u32 = 0xC0FF_EE01;
const SALT: [u8; 4] = [1, 2, 3, 4];
const TAG: Tag = [0xA5; 16];

/// Nonce, AAD and text in clear.
type Call = (Nonce, Vec<u8>, Vec<u8>);

/// A cipher that inverts every byte and writes down what it was given.
#[derive(Default)]
struct Recorder {
    calls: RefCell<Vec<Call>>,
    limit: Option<usize>,
}

fn invert(buf: &mut [u8]) {
    for byte in buf {
        *byte = !*byte;
    }
}

impl Aead for &Recorder {
    fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, LimitExceeded> {
        if self.limit.is_some_and(|limit| buf.len() > limit) {
            return Err(LimitExceeded);
        }
        self.calls.borrow_mut().push((*nonce, aad.to_vec(), buf.to_vec()));
        invert(buf);
        Ok(TAG)
    }

    fn open_in_place(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buf: &mut [u8],
        tag: &Tag,
    ) -> Result<(), AuthenticationFailed> {
        if *tag != TAG {
            return Err(AuthenticationFailed);
        }
        invert(buf);
        self.calls.borrow_mut().push((*nonce, aad.to_vec(), buf.to_vec()));
        Ok(())
    }
}

/// A packet in clear, with room for the ICV.
fn framed(seq: u32, iv: [u8; IV_LEN], payload: &[u8], trailer: Trailer) -> Vec<u8> {
    let mut packet = [&SPI.to_be_bytes()[..], &seq.to_be_bytes(), &iv, payload].concat();
    packet.extend(1..=trailer.pad_len);
    packet.extend([trailer.pad_len, trailer.next_header]);
    packet.extend([0; ICV_LEN]);
    packet
}

fn ping(payload: &[u8]) -> Vec<u8> {
    framed(7, *b"iv iv iv", payload, Trailer::minimal(payload.len(), 1))
}

fn real() -> EspSa {
    EspSa::new(Algorithm::AesGcm256, SPI, &[7; 36]).unwrap()
}

#[test]
fn nonce_and_aad_are_those_of_rfc_4106() {
    let (spi, high, low) = (SPI.to_be_bytes(), 0x1122_3344u32.to_be_bytes(), 7u32.to_be_bytes());
    let rows = [(None, [spi, low].concat()), (Some(0x1122_3344), [spi, high, low].concat())];
    for (seq_hi, aad) in rows {
        let recorder = Recorder::default();
        let sa = EspSa::with_aead(SPI, SALT, &recorder);
        let clear = ping(b"payload");
        let (head, rest) = clear.split_at(HEADER_LEN + IV_LEN);
        let (body, _) = rest.split_at(rest.len() - ICV_LEN);

        let mut packet = clear.clone();
        sa.seal(&mut packet, seq_hi, None).unwrap();
        let inverted: Vec<u8> = body.iter().map(|byte| !byte).collect();
        assert_eq!(packet, [head, &inverted, &TAG].concat());
        sa.open(&mut packet, seq_hi).unwrap();
        assert_eq!(packet, [head, body, &TAG].concat());

        let call = (*b"\x01\x02\x03\x04iv iv iv", aad, body.to_vec());
        assert_eq!(*recorder.calls.borrow(), [call.clone(), call]);
    }
}

#[test]
fn malformed_packets_never_reach_the_cipher() {
    let recorder = Recorder::default();
    let sa = EspSa::with_aead(SPI, SALT, &recorder);
    let spi = |packet: Vec<u8>| [&(SPI + 1).to_be_bytes()[..], &packet[4..]].concat();
    let cut = |len: usize| ping(b"")[..len].to_vec();
    let mut too_long = ping(&vec![0; MAX_PACKET_LEN]);
    too_long.truncate(MAX_PACKET_LEN + 1);
    let rows = [
        (Vec::new(), SyntaxError::Truncated),
        (cut(HEADER_LEN - 1), SyntaxError::Truncated),
        (cut(HEADER_LEN + IV_LEN - 1), SyntaxError::Truncated),
        (cut(MIN_PACKET_LEN - ALIGNMENT - 1), SyntaxError::Truncated),
        (cut(MIN_PACKET_LEN - ALIGNMENT), SyntaxError::Truncated),
        (cut(MIN_PACKET_LEN - 1), SyntaxError::Misaligned),
        (cut(MIN_PACKET_LEN - 3), SyntaxError::Misaligned),
        (spi(ping(b"payload")), SyntaxError::Spi),
        (too_long, SyntaxError::TooLong),
    ];
    for (packet, error) in rows {
        let mut buf = packet.clone();
        assert_eq!(sa.seal(&mut buf, None, None), Err(SealError::InvalidPacketSyntax(error)));
        assert_eq!(sa.open(&mut buf, None), Err(OpenError::InvalidPacketSyntax(error)));
        assert_eq!(buf, packet, "{error}");
    }
    assert_eq!(*recorder.calls.borrow(), []);
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let sa = real();
    let overhead = MIN_PACKET_LEN - ALIGNMENT;
    let longest = (MAX_PACKET_LEN - overhead) / ALIGNMENT * ALIGNMENT - TRAILER_LEN;
    for payload_len in [0, longest] {
        let clear = ping(&vec![3; payload_len]);
        let mut packet = clear.clone();
        sa.seal(&mut packet, None, None).unwrap();
        assert_eq!(sa.open(&mut packet, None).unwrap().payload.len(), payload_len);
        let protected = packet.len() - ICV_LEN;
        assert_eq!(packet[..protected], clear[..protected]);
    }
    assert_eq!(ping(b"").len(), MIN_PACKET_LEN);
}

#[test]
fn a_pad_length_beyond_the_payload_is_refused() {
    let sa = real();
    // Payload and padding are 6 bytes: 6 is the most a pad length can say.
    for (pad_len, fits) in [(6, true), (7, false), (255, false)] {
        let mut clear = ping(b"payld");
        let at = clear.len() - ICV_LEN - TRAILER_LEN;
        clear[at] = pad_len;
        let mut packet = clear.clone();
        let sealed = sa.seal(&mut packet, None, None);
        if fits {
            assert_eq!(sealed, Ok(Trailer { pad_len, next_header: 1 }));
            assert!(sa.open(&mut packet, None).unwrap().payload.is_empty());
            continue;
        }
        assert_eq!(sealed, Err(SealError::InvalidPacketSyntax(SyntaxError::PadLength)));
        assert_eq!(packet, clear);

        // A peer that holds the key can send it all the same.
        let nonce = Nonce::try_from(&[&[7; 4], &packet[HEADER_LEN..][..IV_LEN]].concat()[..]).unwrap();
        let (aad, rest) = packet.split_at_mut(HEADER_LEN);
        let (body, icv) = rest[IV_LEN..].split_last_chunk_mut::<ICV_LEN>().unwrap();
        *icv = AesGcm::from(&[7; 32]).seal_in_place(&nonce, aad, body).unwrap();
        let refusal = Err(OpenError::InvalidPacketSyntax(SyntaxError::PadLength));
        assert_eq!(sa.open(&mut packet, None), refusal);
    }
}

#[test]
fn a_trailer_other_than_announced_is_not_sealed() {
    let recorder = Recorder::default();
    let sa = EspSa::with_aead(SPI, SALT, &recorder);
    let clear = ping(b"payload");
    let found = Trailer::minimal(7, 1);
    for announced in [
        Trailer { pad_len: found.pad_len + 1, ..found },
        Trailer { next_header: found.next_header + 1, ..found },
    ] {
        let mut packet = clear.clone();
        assert_eq!(sa.seal(&mut packet, None, Some(announced)), Err(SealError::TrailerMismatch { found }));
        assert_eq!(packet, clear);
    }
    assert_eq!(*recorder.calls.borrow(), []);
    assert_eq!(sa.seal(&mut clear.clone(), None, Some(found)), Ok(found));
}

#[test]
fn padding_of_any_length_and_content_is_accepted() {
    let sa = real();
    for pad_len in (3..=255).step_by(4) {
        let trailer = Trailer { pad_len, next_header: 17 };
        let mut packet = framed(9, [0; IV_LEN], b"abc", trailer);
        packet[HEADER_LEN + IV_LEN + 3] ^= 0x55;
        assert_eq!(sa.seal(&mut packet, None, Some(trailer)), Ok(trailer));
        let opened = sa.open(&mut packet, None).unwrap();
        assert_eq!(opened.trailer, trailer);
        assert_eq!(packet[opened.payload], *b"abc");
    }
}

#[test]
fn what_the_cipher_may_not_encrypt_is_too_long() {
    let recorder = Recorder { limit: Some(16), ..Recorder::default() };
    let sa = EspSa::with_aead(SPI, SALT, &recorder);
    let clear = ping(&[0; 16]);
    let mut packet = clear.clone();
    let refusal = Err(SealError::InvalidPacketSyntax(SyntaxError::TooLong));
    assert_eq!(sa.seal(&mut packet, None, None), refusal);
    assert_eq!(packet, clear);
}

#[test]
fn the_least_padding_aligns() {
    for payload_len in 0..64 {
        let Trailer { pad_len, next_header } = Trailer::minimal(payload_len, 6);
        assert_eq!(next_header, 6);
        assert!(usize::from(pad_len) < ALIGNMENT);
        assert_eq!((payload_len + usize::from(pad_len) + TRAILER_LEN) % ALIGNMENT, 0);
    }
}

fn arbitrary_packet() -> impl Strategy<Value = Vec<u8>> {
    // Half of them have the right SPI, or hardly any would come past it.
    (any::<bool>(), prop::collection::vec(any::<u8>(), 0..120)).prop_map(|(known, mut bytes)| {
        if known && let Some(spi) = bytes.first_chunk_mut() {
            *spi = SPI.to_be_bytes();
        }
        bytes
    })
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        algorithm in prop::sample::select(&Algorithm::ALL[..]),
        material in any::<[u8; 36]>(),
        seq in any::<u32>(),
        seq_hi in any::<Option<u32>>(),
        iv in any::<[u8; IV_LEN]>(),
        payload in prop::collection::vec(any::<u8>(), 0..2000),
        next_header in any::<u8>(),
    ) {
        let sa = EspSa::new(algorithm, SPI, &material[..algorithm.key_material_len()]).unwrap();
        let trailer = Trailer::minimal(payload.len(), next_header);
        let clear = framed(seq, iv, &payload, trailer);
        let mut packet = clear.clone();
        prop_assert_eq!(sa.seal(&mut packet, seq_hi, Some(trailer)), Ok(trailer));
        prop_assert_ne!(&packet[packet.len() - ICV_LEN..], &[0; ICV_LEN]);
        let opened = sa.open(&mut packet, seq_hi).unwrap();
        prop_assert_eq!(opened.trailer, trailer);
        prop_assert_eq!(&packet[opened.payload], &payload);
        let icv = packet.len() - ICV_LEN;
        prop_assert_eq!(&packet[..icv], &clear[..icv]);
    }

    #[test]
    fn arbitrary_bytes_are_refused_unchanged(packet in arbitrary_packet(), seq_hi in any::<Option<u32>>()) {
        let mut buf = packet.clone();
        prop_assert!(real().open(&mut buf, seq_hi).is_err());
        prop_assert_eq!(buf, packet);
    }

    #[test]
    fn arbitrary_bytes_are_sealed_whole_or_not_at_all(
        packet in arbitrary_packet(),
        seq_hi in any::<Option<u32>>(),
        announced in prop::option::of((0u8..8, any::<u8>())),
    ) {
        let announced = announced.map(|(pad_len, next_header)| Trailer { pad_len, next_header });
        let mut buf = packet.clone();
        let sa = real();
        if let Ok(trailer) = sa.seal(&mut buf, seq_hi, announced) {
            prop_assert_eq!(sa.open(&mut buf, seq_hi).unwrap().trailer, trailer);
            let icv = buf.len() - ICV_LEN;
            prop_assert_eq!(&buf[..icv], &packet[..icv]);
        } else {
            prop_assert_eq!(buf, packet);
        }
    }
}
