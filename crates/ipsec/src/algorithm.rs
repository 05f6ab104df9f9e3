//! The algorithms by name, and their keying material taken apart.

use core::fmt;

/// Bytes of the salt that ends AES-GCM keying material (RFC 4106 §4, §8.1).
pub const SALT_LEN: usize = 4;

/// An algorithm of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-GCM with a 128-bit key and a 16-byte ICV (RFC 4106).
    AesGcm128,
    /// AES-GCM with a 192-bit key and a 16-byte ICV (RFC 4106).
    AesGcm192,
    /// AES-GCM with a 256-bit key and a 16-byte ICV (RFC 4106).
    AesGcm256,
}

impl Algorithm {
    /// Every algorithm, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::AesGcm128, Self::AesGcm192, Self::AesGcm256];

    /// Bytes of the cipher's key, without the salt.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesGcm128 => 16,
            Self::AesGcm192 => 24,
            Self::AesGcm256 => 32,
        }
    }

    /// Bytes of keying material an SA is given: key ‖ salt, 20, 28 or 36 (RFC 4106 §8.1).
    pub const fn key_material_len(self) -> usize {
        self.key_len() + SALT_LEN
    }
}

/// The keying material has a length that the algorithm does not have.
///
/// AES-GCM keys without a salt (16, 24, 32 bytes) are refused too: a salt is never assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLengthError {
    /// The algorithm that was to be keyed.
    pub algorithm: Algorithm,
    /// Bytes that were given; [`Algorithm::key_material_len`] says how many it takes.
    pub found: usize,
}

impl fmt::Display for KeyLengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, found } = self;
        write!(
            f,
            "{algorithm:?} takes {} bytes of keying material, not {found}",
            algorithm.key_material_len()
        )
    }
}

impl core::error::Error for KeyLengthError {}

/// AES-GCM keying material, taken apart without copying the key.
pub(crate) enum GcmKey<'a> {
    Aes128(&'a [u8; 16]),
    Aes192(&'a [u8; 24]),
    Aes256(&'a [u8; 32]),
}

/// Takes `material` (key ‖ salt) apart: the salt is its last four bytes.
pub(crate) fn split_key_material(
    algorithm: Algorithm,
    material: &[u8],
) -> Result<(GcmKey<'_>, [u8; SALT_LEN]), KeyLengthError> {
    let refusal = KeyLengthError { algorithm, found: material.len() };
    let (key, salt) = material.split_last_chunk::<SALT_LEN>().ok_or(refusal)?;
    let key = match algorithm {
        Algorithm::AesGcm128 => key.try_into().map(GcmKey::Aes128),
        Algorithm::AesGcm192 => key.try_into().map(GcmKey::Aes192),
        Algorithm::AesGcm256 => key.try_into().map(GcmKey::Aes256),
    };
    Ok((key.map_err(|_| refusal)?, *salt))
}
