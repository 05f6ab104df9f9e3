//! The TCP/IP side of the lab: what Windows' stack does above a NIC with IPsec Task Offload Version 2.
//!
//! It frames packets for a security association, lays them out in memory, describes them to the miniport in
//! out-of-band data, and judges what the miniport indicates. [`crate::ipsec_v2`] builds the requests. It does no cryptography: the NIC does, and this side only sees plaintext. It shares no code with
//! the driver, so that a mistake there is not repeated here, and it is as strict as the stack: whatever is
//! off is a typed failure ([`FrameError`], [`ReceiveFault`]), never repaired in silence.
//!
//! Packets are bytes here, and out-of-band data are words; what is sent and asked for goes through
//! [`Adapter`](crate::adapter::Adapter).

mod frame;
mod receive;
mod replay;
mod sa;
mod split;

pub use frame::{FrameError, Framed, ICV_LENGTH, IV_LENGTH, framed_length, header_word};
pub use receive::{Indicated, ReceiveFault, Received, Receiver};
pub use replay::ReplayWindow;
pub use sa::{Algorithm, Direction, KeyMaterial, OutboundSa, TransportSa};
pub use split::split;

/// Bytes of an Ethernet II header without a VLAN tag.
pub const ETHERNET_HEADER_LENGTH: usize = 14;

/// The IPv4 protocol number of ESP (RFC 4303).
pub const PROTOCOL_ESP: u8 = 50;

/// Puts an Ethernet II header with the type of IPv4 before an IP packet.
pub fn ethernet(destination: [u8; 6], source: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_HEADER_LENGTH + packet.len());
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ndis_sys::NDIS_ETH_TYPE_IPV4.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}
