//! AES-GCM (NIST SP 800-38D) by the crate `aes-gcm` 0.10.3.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInPlace, KeyInit};

use super::{Aead, AuthenticationFailed, LimitExceeded, Nonce, Tag};
use crate::algorithm::GcmKey;

/// GCM over an AES that only encrypts: counter mode never runs AES backwards, and the schedule for it would
/// double the key.
type Gcm<Aes> = aes_gcm::AesGcm<Aes, U12>;

/// An AES-GCM key of any of the three lengths, expanded once.
///
/// The size is that of the portable AES's schedule (up to 960 bytes), since the crate decides at run time
/// which one it uses. With AES-NI a packet reads the discriminant and the first 176, 208 or 240 bytes of
/// the key (the round keys), and the last 32 (the hash key).
///
/// Dropping it wipes the key.
pub struct AesGcm(Key);

enum Key {
    Aes128(Gcm<aes::Aes128Enc>),
    Aes192(Gcm<aes::Aes192Enc>),
    Aes256(Gcm<aes::Aes256Enc>),
}

impl AesGcm {
    pub(crate) fn new(key: &GcmKey<'_>) -> Self {
        Self(match *key {
            GcmKey::Aes128(key) => Key::Aes128(Gcm::new(key.into())),
            GcmKey::Aes192(key) => Key::Aes192(Gcm::new(key.into())),
            GcmKey::Aes256(key) => Key::Aes256(Gcm::new(key.into())),
        })
    }
}

impl From<&[u8; 16]> for AesGcm {
    fn from(key: &[u8; 16]) -> Self {
        Self::new(&GcmKey::Aes128(key))
    }
}

impl From<&[u8; 24]> for AesGcm {
    fn from(key: &[u8; 24]) -> Self {
        Self::new(&GcmKey::Aes192(key))
    }
}

impl From<&[u8; 32]> for AesGcm {
    fn from(key: &[u8; 32]) -> Self {
        Self::new(&GcmKey::Aes256(key))
    }
}

impl Aead for AesGcm {
    fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, LimitExceeded> {
        let tag = match &self.0 {
            Key::Aes128(gcm) => gcm.encrypt_in_place_detached(nonce.into(), aad, buf),
            Key::Aes192(gcm) => gcm.encrypt_in_place_detached(nonce.into(), aad, buf),
            Key::Aes256(gcm) => gcm.encrypt_in_place_detached(nonce.into(), aad, buf),
        };
        // aes-gcm 0.10.3 refuses nothing but lengths, and before it writes (`src/lib.rs`,
        // `encrypt_in_place_detached`: the check of P_MAX and A_MAX is its first statement).
        tag.map(Into::into).map_err(|_| LimitExceeded)
    }

    fn open_in_place(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buf: &mut [u8],
        tag: &Tag,
    ) -> Result<(), AuthenticationFailed> {
        // aes-gcm 0.10.3 computes the expected tag from the ciphertext, compares it with subtle's `ct_eq`, and
        // applies the key stream only if they agree (`src/lib.rs`, `decrypt_in_place_detached`). Its other
        // error, a buffer above 2^36 bytes, has not authenticated either.
        match &self.0 {
            Key::Aes128(gcm) => gcm.decrypt_in_place_detached(nonce.into(), aad, buf, tag.into()),
            Key::Aes192(gcm) => gcm.decrypt_in_place_detached(nonce.into(), aad, buf, tag.into()),
            Key::Aes256(gcm) => gcm.decrypt_in_place_detached(nonce.into(), aad, buf, tag.into()),
        }
        .map_err(|_| AuthenticationFailed)
    }
}

impl Drop for AesGcm {
    /// Wipes the key: the round keys and the hash key are overwritten by those of the all-zero key.
    ///
    /// The features named `zeroize` are not enough: polyval 0.6.2 keeps the hash key in a union of `ManuallyDrop`
    /// and never drops it (`src/backend/autodetect.rs`), and with the hash key alone packets can be forged.
    /// Which member of its unions a crate uses is fixed by the CPU, so the new key lies on the old one.
    fn drop(&mut self) {
        fn wipe<G: KeyInit>(gcm: &mut G) {
            *gcm = G::new(&aes_gcm::Key::<G>::default());
            zeroize::optimization_barrier(gcm);
        }
        match &mut self.0 {
            Key::Aes128(gcm) => wipe(gcm),
            Key::Aes192(gcm) => wipe(gcm),
            Key::Aes256(gcm) => wipe(gcm),
        }
    }
}

impl zeroize::ZeroizeOnDrop for AesGcm {}
