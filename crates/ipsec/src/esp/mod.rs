//! The Encapsulating Security Payload (RFC 4303), in place.
//!
//! A packet here is the ESP part of an IP packet: from the first byte of the ESP header to the last of the
//! ICV. With AES-GCM (RFC 4106 §3) it is
//!
//! ```text
//! SPI 4 | sequence 4 | IV 8 | payload … padding 0-255 | pad length 1 | next header 1 | ICV 16
//!                           '-------------------- encrypted ---------------------'
//! ```
//!
//! The ICV covers SPI, sequence number (with its high half, if extended) and the encrypted part; the IV is
//! covered as part of the nonce.

mod combined;

pub use combined::{EspSa, ICV_LEN, IV_LEN, MIN_PACKET_LEN};

use core::fmt;
use core::ops::Range;

/// Bytes of the ESP header: SPI and sequence number (RFC 4303 §2.1, §2.2).
pub const HEADER_LEN: usize = 8;
/// Bytes of the ESP trailer without the padding: pad length and next header (RFC 4303 §2.5, §2.6).
pub const TRAILER_LEN: usize = 2;
/// What the encrypted part is padded to (RFC 4303 §2.4).
pub const ALIGNMENT: usize = 4;
/// The longest packet: an IP packet's lengths have 16 bits.
pub const MAX_PACKET_LEN: usize = 65_535;

/// The end of the encrypted part.
///
/// The content of the padding is checked in neither direction. RFC 4303 §2.4 has the sender write 1, 2, 3… and
/// says that the receiver SHOULD inspect it, as some protection where there is no other; here the ICV
/// already covers it. Refusing it would only lose packets of peers that pad otherwise, and the host, which
/// gets the packet with its padding, can still look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Bytes of padding before the pad length.
    pub pad_len: u8,
    /// The protocol of the payload (an IP protocol number).
    pub next_header: u8,
}

impl Trailer {
    /// Reads the trailer at the end of `body`, the decrypted part.
    ///
    /// # Errors
    /// [`SyntaxError::Truncated`] when there is no room for a trailer, [`SyntaxError::PadLength`] when the
    /// padding would begin before `body`.
    pub fn parse(body: &[u8]) -> Result<Self, SyntaxError> {
        let (before, &[pad_len, next_header]) =
            body.split_last_chunk::<TRAILER_LEN>().ok_or(SyntaxError::Truncated)?;
        if usize::from(pad_len) > before.len() {
            return Err(SyntaxError::PadLength);
        }
        Ok(Self { pad_len, next_header })
    }

    /// The trailer of a payload of `payload_len` bytes with the least padding that aligns it.
    pub fn minimal(payload_len: usize, next_header: u8) -> Self {
        let pad_len = match payload_len.wrapping_add(TRAILER_LEN) % ALIGNMENT {
            1 => 3,
            2 => 2,
            3 => 1,
            _ => 0,
        };
        Self { pad_len, next_header }
    }
}

/// What [`EspSa::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The packet's trailer.
    pub trailer: Trailer,
    /// Where the payload lies in the packet.
    pub payload: Range<usize>,
}

/// A packet whose form is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// It is too short for header, IV, trailer and ICV.
    Truncated,
    /// It is longer than [`MAX_PACKET_LEN`].
    TooLong,
    /// The encrypted part is not a multiple of [`ALIGNMENT`].
    Misaligned,
    /// The SPI is not that of the SA.
    Spi,
    /// The pad length is more than there is.
    PadLength,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the packet is too short for ESP",
            Self::TooLong => "the packet is longer than an IP packet can be",
            Self::Misaligned => "the encrypted part is not a multiple of four bytes",
            Self::Spi => "the SPI is not that of the SA",
            Self::PadLength => "the pad length exceeds the payload",
        })
    }
}

impl core::error::Error for SyntaxError {}

/// Why a packet was not sealed. It is unchanged and must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// Its form is wrong.
    InvalidPacketSyntax(SyntaxError),
    /// Its trailer is not the one announced.
    TrailerMismatch {
        /// The trailer in the packet.
        found: Trailer,
    },
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPacketSyntax(error) => error.fmt(f),
            Self::TrailerMismatch { found: Trailer { pad_len, next_header } } => {
                write!(
                    f,
                    "the trailer has pad length {pad_len} and next header {next_header}, not what was announced"
                )
            }
        }
    }
}

impl core::error::Error for SealError {}

impl From<SyntaxError> for SealError {
    fn from(error: SyntaxError) -> Self {
        Self::InvalidPacketSyntax(error)
    }
}

/// Why a packet was not opened; each variant is one class of `CryptoStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// `CRYPTO_INVALID_PACKET_SYNTAX`: its form is wrong. The packet is unchanged, but after
    /// [`SyntaxError::PadLength`], which is seen only once the packet is authentic and decrypted.
    InvalidPacketSyntax(SyntaxError),
    /// `CRYPTO_TRANSPORT_ESP_AUTH_FAILED` or `CRYPTO_TUNNEL_ESP_AUTH_FAILED`, by the mode of the SA. The
    /// packet is unchanged: nothing that was not verified is ever decrypted.
    AuthenticationFailed,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPacketSyntax(error) => error.fmt(f),
            Self::AuthenticationFailed => f.write_str("authentication failed"),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<SyntaxError> for OpenError {
    fn from(error: SyntaxError) -> Self {
        Self::InvalidPacketSyntax(error)
    }
}
