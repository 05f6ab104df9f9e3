//! ESP with AES-GCM (RFC 4106) as the other end of an SA does it: not the driver's code, nor the library that it is built on.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

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

#[cfg(test)]
mod tests {
    use super::Peer;

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
}
