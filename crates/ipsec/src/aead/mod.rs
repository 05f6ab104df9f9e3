//! The seam to the cipher: authenticated encryption with associated data (RFC 5116), in place.
//!
//! [`crate::esp`] knows a cipher only as an [`Aead`]. That is [`AesGcm`], which has two [`Backend`]s; the
//! same tests run over both.

mod aes_gcm;
#[cfg(target_arch = "x86_64")]
mod sse;

pub use aes_gcm::{AesGcm, Backend};

use core::fmt;

/// Bytes of the nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of the authentication tag.
pub const TAG_LEN: usize = 16;

/// A nonce. It must never be used twice with one key to seal.
pub type Nonce = [u8; NONCE_LEN];
/// An authentication tag.
pub type Tag = [u8; TAG_LEN];

/// A keyed AEAD with a 12-byte nonce and a 16-byte tag.
///
/// Both operations take `&self`: a key serves any number of processors at once. Dropping it wipes it.
pub trait Aead {
    /// Encrypts `buf` in place and returns the tag over `aad` and the ciphertext.
    ///
    /// # Errors
    /// [`LimitExceeded`] when `buf` is longer than the algorithm may encrypt; `buf` is then unchanged.
    fn seal_in_place(&self, nonce: &Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, LimitExceeded>;

    /// Verifies `tag` over `aad` and `buf`, in constant time, and only then decrypts `buf` in place.
    ///
    /// # Errors
    /// [`AuthenticationFailed`] when the tag is wrong; `buf` is then unchanged.
    fn open_in_place(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buf: &mut [u8],
        tag: &Tag,
    ) -> Result<(), AuthenticationFailed>;
}

/// The tag is not that of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationFailed;

impl fmt::Display for AuthenticationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authentication failed")
    }
}

impl core::error::Error for AuthenticationFailed {}

/// The data is longer than the algorithm may process under one nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded;

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more data than one nonce may protect")
    }
}

impl core::error::Error for LimitExceeded {}
