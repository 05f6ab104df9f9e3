//! The little that the wire itself reads of a frame (IEEE 802.3 §3.2).

use super::filter::MacAddress;

/// Destination, source and type.
pub const HEADER_LEN: usize = 14;

/// Shortest frame without FCS; shorter ones are padded with zeros.
pub const MIN_LEN: usize = 60;

/// The destination address of a frame, if the frame is long enough to have a header.
pub fn destination(frame: &[u8]) -> Option<MacAddress> {
    if frame.len() < HEADER_LEN { None } else { frame.first_chunk().copied().map(MacAddress) }
}
