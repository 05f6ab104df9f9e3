//! AES-GCM (NIST SP 800-38D): with the x64 CPU's instructions where it has them, else by the crate `aes-gcm` 0.10.3.

use core::mem::ManuallyDrop;

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::aes::{Aes128Enc, Aes192Enc, Aes256Enc};

#[cfg(target_arch = "x86_64")]
use super::sse::{Rounds, SseGcm};
use super::{Aead, AuthenticationFailed, LimitExceeded, Nonce, Tag};
use crate::algorithm::GcmKey;

/// GCM over an AES that only encrypts: counter mode never runs AES backwards, and the schedule for it would
/// double the key.
type Gcm<Aes> = aes_gcm::AesGcm<Aes, U12>;

/// What runs AES-GCM. All give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// AES-NI and PCLMULQDQ in legacy-SSE encodings, eight blocks at a time.
    Sse,
    /// The crate `aes-gcm`, on any CPU.
    Portable,
}

impl Backend {
    /// The first of [`Backend::available`].
    pub fn fastest() -> Self {
        Self::available().first().copied().unwrap_or(Self::Portable)
    }

    /// Those that this CPU can run, the fastest first.
    pub fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if SseGcm::is_available() {
            return &[Self::Sse, Self::Portable];
        }
        &[Self::Portable]
    }
}

/// An AES-GCM key of any of the three lengths, expanded once.
///
/// It has 1,008 bytes (on 64-bit targets), because it has room for the portable AES's schedule: which [`Backend`] is
/// used is decided at run time, when the key is made. With [`Backend::Sse`] a packet reads the first 320, 352 or 384
/// bytes: the discriminant, eight powers of the hash key, and the round keys.
///
/// Dropping it wipes the key where it lies. Making one by `From` leaves copies on the stack;
/// [`EspSa::new_in`](crate::esp::EspSa::new_in) does not.
pub struct AesGcm(ManuallyDrop<Key>);

enum Key {
    Aes128(Gcm<Aes128Enc>),
    Aes192(Gcm<Aes192Enc>),
    Aes256(Gcm<Aes256Enc>),
    #[cfg(target_arch = "x86_64")]
    Sse(Rounds, SseGcm),
}

impl AesGcm {
    /// A key for `backend`, or for the portable one when this CPU cannot run it.
    pub(crate) fn new(backend: Backend, key: &GcmKey<'_>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if backend == Backend::Sse {
            let expanded = match key {
                GcmKey::Aes128(key) => SseGcm::new(key),
                GcmKey::Aes192(key) => SseGcm::new(key),
                GcmKey::Aes256(key) => SseGcm::new(key),
            };
            if let Some((rounds, gcm)) = expanded {
                return Self(ManuallyDrop::new(Key::Sse(rounds, gcm)));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = backend;
        match key {
            GcmKey::Aes128(key) => Self::portable_128(key),
            GcmKey::Aes192(key) => Self::portable_192(key),
            GcmKey::Aes256(key) => Self::portable_256(key),
        }
    }

    /// A key for one backend, which tests and comparisons need; `From` takes the fastest. `None` when this CPU cannot
    /// run it, or `key` has not 16, 24 or 32 bytes.
    pub fn with_backend(backend: Backend, key: &[u8]) -> Option<Self> {
        let key = match key.len() {
            16 => GcmKey::Aes128(key.try_into().ok()?),
            24 => GcmKey::Aes192(key.try_into().ok()?),
            _ => GcmKey::Aes256(key.try_into().ok()?),
        };
        Backend::available().contains(&backend).then(|| Self::new(backend, &key))
    }

    // Not inlined, here and below: inlined, the three lengths' temporaries add up in one stack frame of 4.6 KiB.
    #[inline(never)]
    fn portable_128(key: &[u8; 16]) -> Self {
        Self(ManuallyDrop::new(Key::Aes128(Gcm::new(key.into()))))
    }

    #[inline(never)]
    fn portable_192(key: &[u8; 24]) -> Self {
        Self(ManuallyDrop::new(Key::Aes192(Gcm::new(key.into()))))
    }

    #[inline(never)]
    fn portable_256(key: &[u8; 32]) -> Self {
        Self(ManuallyDrop::new(Key::Aes256(Gcm::new(key.into()))))
    }
}

impl From<&[u8; 16]> for AesGcm {
    fn from(key: &[u8; 16]) -> Self {
        Self::new(Backend::fastest(), &GcmKey::Aes128(key))
    }
}

impl From<&[u8; 24]> for AesGcm {
    fn from(key: &[u8; 24]) -> Self {
        Self::new(Backend::fastest(), &GcmKey::Aes192(key))
    }
}

impl From<&[u8; 32]> for AesGcm {
    fn from(key: &[u8; 32]) -> Self {
        Self::new(Backend::fastest(), &GcmKey::Aes256(key))
    }
}

impl Aead for AesGcm {
    fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, LimitExceeded> {
        let tag = match &*self.0 {
            Key::Aes128(gcm) => gcm.encrypt_in_place_detached(nonce.into(), aad, buf),
            Key::Aes192(gcm) => gcm.encrypt_in_place_detached(nonce.into(), aad, buf),
            Key::Aes256(gcm) => gcm.encrypt_in_place_detached(nonce.into(), aad, buf),
            #[cfg(target_arch = "x86_64")]
            Key::Sse(rounds, gcm) => return gcm.seal(*rounds, nonce, aad, buf),
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
        match &*self.0 {
            Key::Aes128(gcm) => gcm.decrypt_in_place_detached(nonce.into(), aad, buf, tag.into()),
            Key::Aes192(gcm) => gcm.decrypt_in_place_detached(nonce.into(), aad, buf, tag.into()),
            Key::Aes256(gcm) => gcm.decrypt_in_place_detached(nonce.into(), aad, buf, tag.into()),
            #[cfg(target_arch = "x86_64")]
            Key::Sse(rounds, gcm) => return gcm.open(*rounds, nonce, aad, buf, tag),
        }
        .map_err(|_| AuthenticationFailed)
    }
}

impl Drop for AesGcm {
    /// Wipes every byte.
    ///
    /// The features named `zeroize` do not: polyval 0.6.2 keeps the hash key, with which packets can be forged, in
    /// a union of `ManuallyDrop` and never drops it (`src/backend/autodetect.rs`); and what the unions and
    /// variants do not use holds whatever the stack held when they were moved, older keys included.
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: `zeroize_flat_type` asks for a type without references or heap data: `Key` is a discriminant,
        // and the AES schedule and the hash key, which are arrays of integers and vectors, some in unions, with
        // zero-sized tokens. It asks that no value in it be dropped, and that it not be used afterwards: it is in
        // a `ManuallyDrop`, private, and this is the end of its only owner. It asks that zeros be a valid value:
        // they are the discriminant of the first variant, and valid integers and vectors.
        unsafe { zeroize::zeroize_flat_type(&raw mut self.0) }
    }
}

impl zeroize::ZeroizeOnDrop for AesGcm {}
