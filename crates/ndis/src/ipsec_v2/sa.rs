//! [`SaRequest`]: what ADD_SA and ADD_SA_EX ask for, in one shape.

use core::fmt;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ALGORITHM_INFO, IPSEC_OFFLOAD_V2_ENDPOINTS, IPSEC_OFFLOAD_V2_ESN_SA,
    IPSEC_OFFLOAD_V2_INBOUND, IPSEC_OFFLOAD_V2_IPv6, IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS,
    IPSEC_OFFLOAD_V2_OPERATION, IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION, IPsecOffloadV2Ah, IPsecOffloadV2Esp,
};

use crate::status::{Result, Status};

/// The addresses of a security association, in network byte order. Zero means any. Those of a tunnel SA are the outer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// IPv4.
    V4 {
        /// Sender of the packets.
        source: [u8; 4],
        /// Receiver of the packets.
        destination: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// Sender of the packets.
        source: [u8; 16],
        /// Receiver of the packets.
        destination: [u8; 16],
    },
}

/// Which protocol an association is for (IPSEC_OFFLOAD_V2_OPERATION).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpsecOperation {
    /// Authentication header.
    Ah,
    /// Encapsulating security payload.
    Esp,
}

impl IpsecOperation {
    pub(super) fn from_raw(raw: IPSEC_OFFLOAD_V2_OPERATION) -> Result<Self> {
        match raw {
            IPsecOffloadV2Ah => Ok(Self::Ah),
            IPsecOffloadV2Esp => Ok(Self::Esp),
            _ => Err(Status::INVALID_PARAMETER),
        }
    }
}

/// An algorithm of an association (IPSEC_OFFLOAD_V2_ALGORITHM_INFO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaAlgorithm {
    /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_*` or `_ENCRYPTION_*`; 0 = none given.
    pub identifier: u32,
    /// Bytes of key.
    pub key_length: u32,
    /// Where they begin in the key blob.
    pub key_offset: u32,
    /// AdditionalInfo: for AES-GCM the ICV length, in an undocumented unit.
    pub additional: u32,
}

impl From<IPSEC_OFFLOAD_V2_ALGORITHM_INFO> for SaAlgorithm {
    fn from(raw: IPSEC_OFFLOAD_V2_ALGORITHM_INFO) -> Self {
        Self {
            identifier: raw.Identifier,
            key_length: raw.KeyLength,
            key_offset: raw.KeyOffsetBytes,
            additional: raw.AdditionalInfo,
        }
    }
}

/// One association of a bundle (IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaAssociation {
    /// AH or ESP.
    pub operation: IpsecOperation,
    /// Extended sequence numbers are in use.
    pub esn: bool,
    /// The security parameters index, as stored: its byte order is not documented.
    pub spi: u32,
    /// Authentication. To be ignored for AES-GCM.
    pub authentication: SaAlgorithm,
    /// Encryption.
    pub encryption: SaAlgorithm,
    /// High half of the sequence number.
    pub sequence_high: u32,
}

impl SaAssociation {
    fn from_raw(raw: &IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION) -> Result<Self> {
        if raw.Flags & !IPSEC_OFFLOAD_V2_ESN_SA != 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(Self {
            operation: IpsecOperation::from_raw(raw.Operation)?,
            esn: raw.Flags & IPSEC_OFFLOAD_V2_ESN_SA != 0,
            spi: raw.Spi,
            authentication: raw.AuthenticationAlgorithm.into(),
            encryption: raw.EncryptionAlgorithm.into(),
            sequence_high: raw.SequenceNumberHighOrder,
        })
    }
}

/// A request to add a security association (an AH and/or ESP bundle), from ADD_SA or ADD_SA_EX. Its structure is checked;
/// whether the adapter can do what it asks for is the driver's to say.
///
/// `Debug` leaves the keys out.
#[derive(Clone, Copy)]
pub struct SaRequest<'k> {
    /// For received packets, else for sent ones.
    pub inbound: bool,
    /// The addresses.
    pub endpoints: Endpoints,
    /// `IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_*`, one value.
    pub udp_esp: u32,
    first: SaAssociation,
    second: Option<SaAssociation>,
    blob: &'k [u8],
}

/// The fields that both structures have, at different offsets.
pub(super) struct RawSa {
    pub(super) headers: u32,
    pub(super) flags: u32,
    pub(super) endpoints: IPSEC_OFFLOAD_V2_ENDPOINTS,
    pub(super) udp_esp: u32,
    pub(super) associations:
        [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS as usize],
}

impl<'k> SaRequest<'k> {
    /// Checks and converts. INVALID_PARAMETER for a wrong number of headers, an unknown operation, or a flag that nobody here
    /// knows the meaning of: what it asks for could not be done.
    pub(super) fn new(raw: &RawSa, blob: &'k [u8]) -> Result<Self> {
        if raw.flags & !(IPSEC_OFFLOAD_V2_INBOUND | IPSEC_OFFLOAD_V2_IPv6) != 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        let [first, second] = &raw.associations;
        let second = match raw.headers {
            1 => None,
            2 => Some(SaAssociation::from_raw(second)?),
            _ => return Err(Status::INVALID_PARAMETER),
        };
        let endpoints = if raw.flags & IPSEC_OFFLOAD_V2_IPv6 == 0 {
            // SAFETY: the union is plain integers and bytes, all of it read from the request.
            let pair = unsafe { raw.endpoints.IPv4Endpoints };
            Endpoints::V4 { source: pair.SrcAddr.to_ne_bytes(), destination: pair.DestAddr.to_ne_bytes() }
        } else {
            // SAFETY: as above.
            let pair = unsafe { raw.endpoints.IPv6Endpoints };
            Endpoints::V6 { source: pair.SrcAddr, destination: pair.DestAddr }
        };
        Ok(Self {
            inbound: raw.flags & IPSEC_OFFLOAD_V2_INBOUND != 0,
            endpoints,
            udp_esp: raw.udp_esp,
            first: SaAssociation::from_raw(first)?,
            second,
            blob,
        })
    }

    /// The associations in processing order: one, or ESP then AH.
    pub fn associations(&self) -> impl Iterator<Item = &SaAssociation> {
        core::iter::once(&self.first).chain(&self.second)
    }

    /// The only association, or `None` if there are two.
    #[must_use]
    pub fn single(&self) -> Option<&SaAssociation> {
        if self.second.is_none() { Some(&self.first) } else { None }
    }

    /// An algorithm's key.
    ///
    /// # Errors
    ///
    /// INVALID_PARAMETER if it is not inside the key blob.
    pub fn key(&self, algorithm: &SaAlgorithm) -> Result<&'k [u8]> {
        let start = algorithm.key_offset as usize;
        start
            .checked_add(algorithm.key_length as usize)
            .and_then(|end| self.blob.get(start..end))
            .ok_or(Status::INVALID_PARAMETER)
    }
}

impl fmt::Debug for SaRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaRequest")
            .field("inbound", &self.inbound)
            .field("endpoints", &self.endpoints)
            .field("udp_esp", &self.udp_esp)
            .field("first", &self.first)
            .field("second", &self.second)
            .finish_non_exhaustive()
    }
}
