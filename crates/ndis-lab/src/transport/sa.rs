//! Security associations as the TCP/IP stack sees them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128, IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256,
};

use crate::ipsec_v2::{Association, SaParameters};

/// A combined-mode ESP algorithm (RFC 4106): 8 bytes of IV in each packet, 16 bytes of ICV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-GCM with a 128-bit key.
    AesGcm128,
    /// AES-GCM with a 192-bit key.
    AesGcm192,
    /// AES-GCM with a 256-bit key.
    AesGcm256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AesGcm128, Self::AesGcm192, Self::AesGcm256];

    /// The `IPSEC_OFFLOAD_V2_ENCRYPTION_*` identifier, which is also the bit in the capabilities.
    pub const fn identifier(self) -> u32 {
        match self {
            Self::AesGcm128 => IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128,
            Self::AesGcm192 => IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192,
            Self::AesGcm256 => IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256,
        }
    }

    /// Bytes of keying material: the AES key and the 4-byte salt after it (RFC 4106, section 8.1).
    pub const fn key_length(self) -> usize {
        match self {
            Self::AesGcm128 => 16 + 4,
            Self::AesGcm192 => 24 + 4,
            Self::AesGcm256 => 32 + 4,
        }
    }

    /// The usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesGcm128 => "AES-GCM-128",
            Self::AesGcm192 => "AES-GCM-192",
            Self::AesGcm256 => "AES-GCM-256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An AES key followed by its salt. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyMaterial(Vec<u8>);

impl KeyMaterial {
    /// Keying material for `algorithm` from `source`, which fills the slice it is given.
    pub fn generate(algorithm: Algorithm, source: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = vec![0; algorithm.key_length()];
        source(&mut bytes);
        Self(bytes)
    }

    /// The bytes: key, then salt.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyMaterial({} bytes)", self.0.len())
    }
}

/// Which way a security association is used by the adapter that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// For packets that the adapter receives.
    Inbound,
    /// For packets that the adapter sends.
    Outbound,
}

/// One security association: ESP in transport mode over IPv4, one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportSa {
    /// Who sends its packets.
    pub source: Ipv4Addr,
    /// Who receives its packets.
    pub destination: Ipv4Addr,
    /// The index that names it to the receiver, as a number (on the wire in network order).
    pub spi: u32,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The key and its salt.
    pub key: KeyMaterial,
}

impl TransportSa {
    /// How it is described to the miniport that uses it in one direction.
    pub fn parameters(&self, direction: Direction) -> SaParameters {
        SaParameters::new(
            direction == Direction::Inbound,
            IpAddr::V4(self.source),
            IpAddr::V4(self.destination),
            Association::esp_gcm(self.spi, self.key.bytes()),
        )
    }
}

/// The sender's half of a security association: handle, sequence number, and IV.
#[derive(Debug)]
pub struct OutboundSa {
    /// What both ends agreed on.
    pub parameters: TransportSa,
    /// The handle that the miniport gave when the SA was added; it goes into out-of-band slot 1.
    pub handle: usize,
    /// The last sequence number used; 0 before the first packet.
    pub(super) sequence: u32,
    /// The next IV: a counter, so that none repeats under one key (RFC 4106, section 3.1).
    pub(super) iv: u64,
}

impl OutboundSa {
    /// A fresh association whose IVs count from `first_iv`.
    pub fn new(parameters: TransportSa, handle: usize, first_iv: u64) -> Self {
        Self { parameters, handle, sequence: 0, iv: first_iv }
    }

    /// The last sequence number used; 0 before the first packet.
    pub fn last_sequence(&self) -> u32 {
        self.sequence
    }
}
