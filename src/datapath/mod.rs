//! Between NDIS and the NIC: NET_BUFFER_LISTs and their out-of-band data on one side, frames on the other.
//!
//! Runs at any IRQL up to `DISPATCH_LEVEL`, on all processors at once; blocks on nothing and takes no lock but short ones of
//! its own and the NIC's.

mod buffers;
mod held;
mod receive;
mod send;
mod vlan;

pub use buffers::{Buffer, Line};
pub(crate) use buffers::{TransmitBuffers, buffer_len};
pub(crate) use held::HeldSends;
pub(crate) use receive::{poll, return_buffers};
pub(crate) use send::send;
