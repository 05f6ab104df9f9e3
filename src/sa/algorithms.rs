//! The algorithms of IPsecOV2 by name: identifiers, key lengths and ICV lengths (`ns-ndis-_ipsec_offload_v2_algorithm_info`).
//!
//! All that the interface can name, whether or not the NIC has it: what it has is the capabilities' to say.

use ndis::{Result, SaAlgorithm, Status};
use ndis_sys as sys;

/// Bytes of the salt that ends AES-GCM and AES-GMAC keys (RFC 4106 §8.1, RFC 4543 §5.4).
const SALT_LEN: u32 = 4;

/// An authentication algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// HMAC-MD5-96 (RFC 2403).
    HmacMd5,
    /// HMAC-SHA-1-96 (RFC 2404).
    HmacSha1,
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha256,
    /// AES-GMAC-128 (RFC 4543); the header calls it AES_GCM_128.
    AesGmac128,
    /// AES-GMAC-192.
    AesGmac192,
    /// AES-GMAC-256.
    AesGmac256,
}

impl Authentication {
    const ALL: [Self; 6] = [
        Self::HmacMd5,
        Self::HmacSha1,
        Self::HmacSha256,
        Self::AesGmac128,
        Self::AesGmac192,
        Self::AesGmac256,
    ];

    /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_*`: one bit, in the capabilities and in an SA alike.
    pub(crate) const fn identifier(self) -> u32 {
        match self {
            Self::HmacMd5 => sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_MD5,
            Self::HmacSha1 => sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1,
            Self::HmacSha256 => sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256,
            Self::AesGmac128 => sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128,
            Self::AesGmac192 => sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_192,
            Self::AesGmac256 => sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_256,
        }
    }

    /// Bytes of key, salt included.
    const fn key_len(self) -> u32 {
        match self {
            Self::HmacMd5 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::AesGmac128 => 16 + SALT_LEN,
            Self::AesGmac192 => 24 + SALT_LEN,
            Self::AesGmac256 => 32 + SALT_LEN,
        }
    }

    /// Reads identifier, key length and ICV length.
    ///
    /// # Errors
    /// `INVALID_PARAMETER` for what is none of the above.
    pub(crate) fn parse(info: &SaAlgorithm) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.identifier() == info.identifier);
        let algorithm = found.ok_or(Status::INVALID_PARAMETER)?;
        let is_gmac = matches!(algorithm, Self::AesGmac128 | Self::AesGmac192 | Self::AesGmac256);
        if info.key_length != algorithm.key_len() || (is_gmac && !is_full_icv(info.additional)) {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(algorithm)
    }
}

/// An encryption algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// None: ESP that only authenticates.
    Null,
    /// DES-CBC (RFC 2405).
    DesCbc,
    /// 3DES-CBC (RFC 2451).
    TripleDesCbc,
    /// AES-CBC-128 (RFC 3602).
    AesCbc128,
    /// AES-CBC-192.
    AesCbc192,
    /// AES-CBC-256.
    AesCbc256,
    /// AES-GCM-128 (RFC 4106), which authenticates too.
    AesGcm128,
    /// AES-GCM-192.
    AesGcm192,
    /// AES-GCM-256.
    AesGcm256,
}

impl Encryption {
    const ALL: [Self; 9] = [
        Self::Null,
        Self::DesCbc,
        Self::TripleDesCbc,
        Self::AesCbc128,
        Self::AesCbc192,
        Self::AesCbc256,
        Self::AesGcm128,
        Self::AesGcm192,
        Self::AesGcm256,
    ];

    /// `IPSEC_OFFLOAD_V2_ENCRYPTION_*`: one bit, in the capabilities and in an SA alike.
    pub(crate) const fn identifier(self) -> u32 {
        match self {
            Self::Null => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_NONE,
            Self::DesCbc => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_DES_CBC,
            Self::TripleDesCbc => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_3_DES_CBC,
            Self::AesCbc128 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_128,
            Self::AesCbc192 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_192,
            Self::AesCbc256 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_256,
            Self::AesGcm128 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128,
            Self::AesGcm192 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
            Self::AesGcm256 => sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256,
        }
    }

    /// Bytes of key, salt included. A GCM key without its salt is refused, not completed: Windows documents no place for the
    /// salt, other implementations of the interface pass it behind the key, and a salt that is guessed breaks the cipher.
    const fn key_len(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::DesCbc => 8,
            Self::AesCbc128 => 16,
            Self::TripleDesCbc | Self::AesCbc192 => 24,
            Self::AesCbc256 => 32,
            Self::AesGcm128 => 16 + SALT_LEN,
            Self::AesGcm192 => 24 + SALT_LEN,
            Self::AesGcm256 => 32 + SALT_LEN,
        }
    }

    /// Whether it authenticates as well (combined mode, RFC 4303 §3.2.3).
    pub(crate) const fn is_combined(self) -> bool {
        matches!(self, Self::AesGcm128 | Self::AesGcm192 | Self::AesGcm256)
    }

    /// Reads identifier, key length and ICV length.
    ///
    /// # Errors
    /// `INVALID_PARAMETER` for what is none of the above.
    pub(crate) fn parse(info: &SaAlgorithm) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.identifier() == info.identifier);
        let algorithm = found.ok_or(Status::INVALID_PARAMETER)?;
        if info.key_length != algorithm.key_len()
            || (algorithm.is_combined() && !is_full_icv(info.additional))
        {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(algorithm)
    }
}

/// Whether AdditionalInfo asks for the whole ICV of AES-GCM. Its unit is not documented: 16 bytes, 128 bits, or nothing said.
const fn is_full_icv(additional: u32) -> bool {
    matches!(additional, 0 | 16 | 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(identifier: u32, key_length: u32, additional: u32) -> SaAlgorithm {
        SaAlgorithm { identifier, key_length, key_offset: 0, additional }
    }

    #[test]
    fn every_identifier_with_every_key_length() {
        for identifier in 0..0x1000 {
            for key_length in 0..=64 {
                let parsed = Encryption::parse(&info(identifier, key_length, 0)).ok();
                let expected = Encryption::ALL
                    .into_iter()
                    .find(|a| a.identifier() == identifier && a.key_len() == key_length);
                assert_eq!(parsed, expected, "encryption {identifier:#x}, {key_length} bytes");
                let parsed = Authentication::parse(&info(identifier, key_length, 0)).ok();
                let expected = Authentication::ALL
                    .into_iter()
                    .find(|a| a.identifier() == identifier && a.key_len() == key_length);
                assert_eq!(parsed, expected, "authentication {identifier:#x}, {key_length} bytes");
            }
        }
    }

    #[test]
    fn only_the_whole_icv() {
        for additional in 0..=256 {
            let full = [0, 16, 128].contains(&additional);
            let gcm = Encryption::parse(&info(Encryption::AesGcm256.identifier(), 36, additional));
            let gmac = Authentication::parse(&info(Authentication::AesGmac128.identifier(), 20, additional));
            assert_eq!((gcm.is_ok(), gmac.is_ok()), (full, full), "{additional}");
            // The others have one ICV length each, and no field that says so.
            let sha1 = Authentication::parse(&info(Authentication::HmacSha1.identifier(), 20, additional));
            assert_eq!(sha1, Ok(Authentication::HmacSha1));
        }
    }
}
