//! Checked views of the headers a NIC reads, in the manner of smoltcp.
//!
//! `new_checked` looks once at everything an accessor relies on; after it no accessor fails. A view borrows or owns its
//! buffer (anything that is `AsRef<[u8]>`; with `AsMut<[u8]>` it writes too) and copies nothing.

mod esp;
mod ethernet;
mod ipv4;

pub use esp::EspHeader;
pub use ethernet::{EtherType, EthernetFrame, MacAddress, VlanTag};
pub use ipv4::{Ipv4Packet, protocol};

use core::fmt;

/// What a view could not be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The buffer ends before the header does.
    Truncated,
    /// The IP version is not the one of the view.
    Version,
    /// The header's own length is less than its minimum.
    HeaderLength,
    /// The total length is less than the header's, or more than the buffer's.
    TotalLength,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the buffer ends before the header does",
            Self::Version => "another IP version",
            Self::HeaderLength => "the header length is less than the minimum",
            Self::TotalLength => "the total length does not fit header and buffer",
        })
    }
}

impl core::error::Error for Error {}

/// `N` bytes at `at`, or zeros where the buffer has none.
///
/// A view has checked that it has them. The zeros are for a buffer whose `as_ref` changes its mind between
/// two calls: that deserves no right answer, but neither does it get a panic.
fn bytes<const N: usize>(buffer: &[u8], at: usize) -> [u8; N] {
    buffer.get(at..).and_then(|tail| tail.first_chunk()).copied().unwrap_or([0; N])
}

/// Writes `bytes` at `at`, or nothing where the buffer has no room; see [`bytes`].
fn set_bytes(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..).and_then(|tail| tail.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}
