//! ESP with AES-GCM (RFC 4106) and AH with HMAC-SHA (RFC 4302, RFC 2404, RFC 4868) as the other end of an SA does them: not
//! the driver's code, nor the library that it is built on.

use ndis_sys::{IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1, IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

/// Bytes of salt behind the AES key.
const SALT: usize = 4;
/// SPI and sequence number.
const ESP_HEADER: usize = 8;
/// Bytes of IV.
const IV: usize = 8;
/// Bytes of ICV.
pub(super) const ICV: usize = 16;

/// One SA's key.
pub(super) struct Peer {
    key: LessSafeKey,
    salt: [u8; SALT],
}

impl Peer {
    /// From AES key and salt; `None` for a length that this peer has no cipher for (192 bits).
    pub(super) fn new(material: &[u8]) -> Option<Self> {
        let (key, salt) = material.split_last_chunk::<SALT>()?;
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self { key, salt: *salt })
    }

    /// What is authenticated beside the payload: SPI, the high half of an extended sequence number, which is not in the packet
    /// (RFC 4106 §5), and its low half.
    fn aad(esp: &[u8], high: Option<u32>) -> Option<Vec<u8>> {
        let header: &[u8; ESP_HEADER] = esp.first_chunk()?;
        let (spi, low) = header.split_at(4);
        let high = high.map_or(Vec::new(), |high| high.to_be_bytes().to_vec());
        Some([spi, &high, low].concat())
    }

    fn nonce(&self, esp: &[u8]) -> Option<Nonce> {
        let mut nonce = [0; SALT + IV];
        nonce[..SALT].copy_from_slice(&self.salt);
        nonce[SALT..].copy_from_slice(esp.get(ESP_HEADER..ESP_HEADER + IV)?);
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Encrypts an ESP packet in place: header, IV, payload with trailer in clear, room for the ICV.
    pub(super) fn seal(&self, esp: &mut [u8]) -> Option<()> {
        self.seal_extended(esp, None)
    }

    /// As [`seal`](Self::seal), with the high half of an extended sequence number.
    pub(super) fn seal_extended(&self, esp: &mut [u8], high: Option<u32>) -> Option<()> {
        let nonce = self.nonce(esp)?;
        let aad = Self::aad(esp, high)?;
        let end = esp.len().checked_sub(ICV)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), esp.get_mut(ESP_HEADER + IV..end)?)
            .ok()?;
        esp[end..].copy_from_slice(tag.as_ref());
        Some(())
    }

    /// Verifies an ESP packet and gives its payload with the trailer.
    pub(super) fn open(&self, esp: &[u8]) -> Option<Vec<u8>> {
        self.open_extended(esp, None)
    }

    /// As [`open`](Self::open), with the high half of an extended sequence number.
    pub(super) fn open_extended(&self, esp: &[u8], high: Option<u32>) -> Option<Vec<u8>> {
        let nonce = self.nonce(esp)?;
        let aad = Self::aad(esp, high)?;
        let mut sealed = esp.get(ESP_HEADER + IV..)?.to_vec();
        let clear = self.key.open_in_place(nonce, Aad::from(aad), &mut sealed).ok()?;
        Some(clear.to_vec())
    }
}

/// Bytes of an IPv4 header without options, and of AH before its ICV.
const IP: usize = 20;
const AH_FIXED: usize = 12;

/// The algorithms that this peer has for AH: (identifier, bytes of key, bytes of ICV). AES-GMAC is not among them: whether its
/// IV, which lies in AH's ICV field, counts as 0 was not settled.
const AH_ALGORITHMS: [(u32, usize, usize); 2] =
    [(IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1, 20, 12), (IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256, 32, 16)];

/// AH of an SA over IPv4.
pub(super) struct AhPeer {
    key: hmac::Key,
    /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_…`
    pub(super) identifier: u32,
    /// Bytes of ICV.
    pub(super) icv: usize,
}

impl AhPeer {
    /// By the first algorithm that a driver has, of these bits; `None` if it has none of this peer's. Also the key.
    pub(super) fn new(offered: u32, seed: u8) -> Option<(Self, Vec<u8>)> {
        let (identifier, length, icv) = AH_ALGORITHMS.into_iter().find(|(id, ..)| offered & id != 0)?;
        let algorithm = match identifier {
            IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            _ => hmac::HMAC_SHA256,
        };
        let key: Vec<u8> = (0..).map(|at: u8| at.wrapping_mul(29).wrapping_add(seed)).take(length).collect();
        Some((Self { key: hmac::Key::new(algorithm, &key), identifier, icv }, key))
    }

    /// Bytes of the header with its ICV, a multiple of 4 for both algorithms.
    pub(super) fn length(&self) -> usize {
        AH_FIXED + self.icv
    }

    /// The header of a packet, its ICV 0.
    pub(super) fn header(&self, next: u8, spi: u32, sequence: u32) -> Vec<u8> {
        // In units of 4 bytes, less 2 (RFC 4302 §2.2).
        let units = u8::try_from(self.length() / 4 - 2).unwrap_or(0);
        let mut header = vec![next, units, 0, 0];
        header.extend(spi.to_be_bytes());
        header.extend(sequence.to_be_bytes());
        header.resize(self.length(), 0);
        header
    }

    /// The ICV of a packet whose AH follows the IPv4 header: what may change on the way counts as 0 (RFC 4302 §3.3.3.1.1).
    pub(super) fn icv_of(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut covered = packet.to_vec();
        for at in [1, 6, 7, 8, 10, 11] {
            *covered.get_mut(at)? = 0;
        }
        covered.get_mut(IP + AH_FIXED..IP + self.length())?.fill(0);
        Some(hmac::sign(&self.key, &covered).as_ref()[..self.icv].to_vec())
    }

    /// Where the ICV lies in the packet.
    pub(super) fn place(&self) -> std::ops::Range<usize> {
        IP + AH_FIXED..IP + self.length()
    }

    /// Writes the ICV of a packet.
    pub(super) fn seal(&self, packet: &mut [u8]) -> Option<()> {
        let icv = self.icv_of(packet)?;
        packet.get_mut(self.place())?.copy_from_slice(&icv);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{AhPeer, Peer};

    #[test]
    fn what_is_sealed_is_opened_and_nothing_else() {
        for length in [20, 36] {
            let key: Vec<u8> = (0..length).collect();
            let peer = Peer::new(&key).unwrap();
            let clear: Vec<u8> = (0..16 + 40 + 16).collect();
            let mut sealed = clear.clone();
            peer.seal(&mut sealed).unwrap();
            assert_eq!(sealed[..16], clear[..16]);
            assert_eq!(peer.open(&sealed).unwrap(), clear[16..56]);
            for at in 0..sealed.len() {
                sealed[at] ^= 1;
                assert!(peer.open(&sealed).is_none(), "{at}");
                sealed[at] ^= 1;
            }
            assert!(peer.open_extended(&sealed, Some(0)).is_none());
            sealed = clear.clone();
            peer.seal_extended(&mut sealed, Some(7)).unwrap();
            assert_eq!(peer.open_extended(&sealed, Some(7)).unwrap(), clear[16..56]);
            assert!(peer.open_extended(&sealed, Some(6)).is_none() && peer.open(&sealed).is_none());
        }
        assert!(Peer::new(&[0; 28]).is_none() && Peer::new(&[0; 3]).is_none());
    }

    #[test]
    fn ah_covers_what_does_not_change_on_the_way() {
        for (offered, length) in [(2, 24), (4, 28), (6, 24)] {
            let (peer, _) = AhPeer::new(offered, 7).unwrap();
            let mut packet: Vec<u8> = (0..20).collect();
            packet.extend(peer.header(17, 0x1234, 1));
            packet.extend([9; 30]);
            assert_eq!(packet.len(), 20 + length + 30);
            peer.seal(&mut packet).unwrap();
            let icv = peer.icv_of(&packet).unwrap();
            assert_eq!(packet[peer.place()], icv);
            for at in 0..packet.len() {
                let mut other = packet.clone();
                other[at] ^= 1;
                let mutable = [1, 6, 7, 8, 10, 11].contains(&at) || peer.place().contains(&at);
                assert_eq!(peer.icv_of(&other).unwrap() == icv, mutable, "{at}");
            }
        }
        assert!(AhPeer::new(8 | 1, 0).is_none());
    }
}
