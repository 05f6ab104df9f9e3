//! Packets made by scapy and accepted by Linux and Wireshark, both ways (`data/README.md`).

use data_encoding::HEXLOWER;
use ipsec::aead::{AesGcm, Backend};
use ipsec::algorithm::Algorithm;
use ipsec::esp::{EspSa, HEADER_LEN, ICV_LEN, IV_LEN, OpenError, TRAILER_LEN, Trailer};
use ipsec::wire::{EspHeader, Ipv4Packet, protocol};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    #[serde(deserialize_with = "hex")]
    crypt_key: Vec<u8>,
    #[serde(deserialize_with = "hex")]
    salt: Vec<u8>,
    #[serde(deserialize_with = "hex")]
    iv: Vec<u8>,
    icv_len: usize,
    spi: u32,
    esn: bool,
    seq_hi: u32,
    seq_lo: u32,
    #[serde(deserialize_with = "hex")]
    plaintext: Vec<u8>,
    #[serde(deserialize_with = "hex")]
    protected: Vec<u8>,
}

fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    HEXLOWER.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

fn vectors() -> Vec<Vector> {
    let file: File = serde_json::from_str(include_str!("data/esp-gcm-ipv4-transport.json")).unwrap();
    file.vectors
}

impl Vector {
    /// The SA, over each cipher that this CPU can run; the first is what the driver takes.
    fn sas(&self) -> Vec<EspSa> {
        let over = |&backend| {
            let aead = AesGcm::with_backend(backend, &self.crypt_key).unwrap();
            EspSa::with_aead(self.spi, self.salt[..].try_into().unwrap(), aead)
        };
        [self.sa()].into_iter().chain(Backend::available().iter().map(over)).collect()
    }

    fn sa(&self) -> EspSa {
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.key_len() == self.crypt_key.len()).unwrap();
        let material = [&self.crypt_key[..], &self.salt[..]].concat();
        EspSa::new(algorithm, self.spi, &material).unwrap()
    }

    fn seq_hi(&self) -> Option<u32> {
        self.esn.then_some(self.seq_hi)
    }

    fn trailer(&self) -> Trailer {
        let plain = Ipv4Packet::new_checked(&self.plaintext[..]).unwrap();
        Trailer::minimal(plain.payload().len(), plain.protocol())
    }

    /// The packet as the host hands it to the NIC: all there, but in clear and without an ICV.
    fn framed(&self) -> Vec<u8> {
        let plain = Ipv4Packet::new_checked(&self.plaintext[..]).unwrap();
        let trailer = self.trailer();
        let mut packet = plain.header().to_vec();
        packet.extend(self.spi.to_be_bytes());
        packet.extend(self.seq_lo.to_be_bytes());
        packet.extend(&self.iv);
        packet.extend(plain.payload());
        packet.extend(1..=trailer.pad_len);
        packet.extend([trailer.pad_len, trailer.next_header]);
        packet.extend([0; ICV_LEN]);
        let total_len = u16::try_from(packet.len()).unwrap();
        let mut view = Ipv4Packet::new_checked(&mut packet[..]).unwrap();
        view.set_total_len(total_len);
        view.set_protocol(protocol::ESP);
        view.fill_checksum();
        packet
    }
}

/// Each vector with each of its SAs.
fn cases() -> impl Iterator<Item = (Vector, EspSa)> {
    let count = Backend::available().len() + 1;
    (0..count)
        .flat_map(|i| vectors().into_iter().map(move |v| (v.sas().swap_remove(i), v)))
        .map(|(sa, v)| (v, sa))
}

/// The ESP part of an IPv4 packet.
fn esp(packet: &mut [u8]) -> &mut [u8] {
    let at = Ipv4Packet::new_checked(&*packet).unwrap().header_len();
    &mut packet[at..]
}

#[test]
fn the_file_has_what_its_readme_says() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 45);
    assert_eq!(vectors.iter().filter(|v| v.esn).count(), 5);
    for key_len in Algorithm::ALL.map(Algorithm::key_len) {
        assert!(vectors.iter().any(|v| v.crypt_key.len() == key_len), "AES-{}", key_len * 8);
    }
    assert!(vectors.iter().any(|v| !Ipv4Packet::new_checked(&v.plaintext[..]).unwrap().options().is_empty()));
    assert!(vectors.iter().all(|v| v.icv_len == ICV_LEN && v.iv.len() == IV_LEN));
}

#[test]
fn outbound_is_byte_exact() {
    for (v, sa) in cases() {
        let mut packet = v.framed();
        let found = sa.seal(esp(&mut packet), v.seq_hi(), Some(v.trailer())).unwrap();
        assert_eq!(found, v.trailer(), "{}", v.id);
        assert_eq!(HEXLOWER.encode(&packet), HEXLOWER.encode(&v.protected), "{}", v.id);
    }
}

#[test]
fn inbound_gives_the_plaintext_and_moves_nothing() {
    for (v, sa) in cases() {
        let mut packet = v.protected.clone();
        let view = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(view.verify_checksum(), "{}", v.id);
        assert_eq!(view.protocol(), protocol::ESP, "{}", v.id);
        let header = EspHeader::new_checked(view.payload()).unwrap();
        assert_eq!((header.spi(), header.sequence()), (v.spi, v.seq_lo), "{}", v.id);

        let opened = sa.open(esp(&mut packet), v.seq_hi()).unwrap();
        assert_eq!(opened.trailer, v.trailer(), "{}", v.id);
        let plain = Ipv4Packet::new_checked(&v.plaintext[..]).unwrap();
        assert_eq!(&esp(&mut packet)[opened.payload.clone()], plain.payload(), "{}", v.id);

        // What arrives is what was framed, with the ICV of what crossed the wire.
        let mut expected = v.framed();
        let at = expected.len() - ICV_LEN;
        expected[at..].copy_from_slice(&v.protected[at..]);
        assert_eq!(packet, expected, "{}", v.id);
        assert_eq!(opened.payload.start, HEADER_LEN + IV_LEN, "{}", v.id);
        let rest = usize::from(opened.trailer.pad_len) + TRAILER_LEN + ICV_LEN;
        assert_eq!(opened.payload.end + rest, esp(&mut packet).len(), "{}", v.id);
    }
}

#[test]
fn every_flipped_bit_is_refused_and_changes_nothing() {
    for (v, sa) in cases() {
        let mut packet = v.protected.clone();
        let packet = esp(&mut packet);
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            let before = packet.to_vec();
            let error = sa.open(packet, v.seq_hi()).unwrap_err();
            // A flipped SPI is another SA's packet; everything else is a matter of the ICV.
            if bit / 8 >= 4 {
                assert_eq!(error, OpenError::AuthenticationFailed, "{} bit {bit}", v.id);
            }
            assert_eq!(packet, before, "{} bit {bit}", v.id);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        sa.open(packet, v.seq_hi()).unwrap();
    }
}

#[test]
fn another_high_half_is_refused() {
    for (v, sa) in cases() {
        let wrong = [None, Some(0), Some(v.seq_hi.wrapping_add(1)), Some(v.seq_hi.wrapping_sub(1))];
        for seq_hi in wrong.into_iter().filter(|&seq_hi| seq_hi != v.seq_hi()) {
            let mut packet = v.protected.clone();
            let error = sa.open(esp(&mut packet), seq_hi).unwrap_err();
            assert_eq!(error, OpenError::AuthenticationFailed, "{} {seq_hi:?}", v.id);
            assert_eq!(packet, v.protected, "{} {seq_hi:?}", v.id);
        }
    }
}

#[test]
fn every_truncation_is_refused_and_changes_nothing() {
    for (v, sa) in cases() {
        let mut packet = v.protected.clone();
        let packet = esp(&mut packet);
        for len in 0..packet.len() {
            let before = packet.to_vec();
            assert!(sa.open(&mut packet[..len], v.seq_hi()).is_err(), "{} {len}", v.id);
            assert_eq!(packet, before, "{} {len}", v.id);
        }
    }
}
