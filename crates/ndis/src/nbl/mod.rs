//! Net buffer lists, owned. A list that NDIS gave us to send is completed once, whatever the driver does with the value; a
//! buffer that was indicated cannot be touched until it is back.

mod buffer;
mod cursor;
mod list;
mod oob;
mod receive;
mod send;

pub use buffer::{ReceiveBuffer, ReceivePool};
pub use cursor::{CopyError, NetBuffer, NetBuffers};
pub(crate) use list::NblList;
pub use oob::{ChecksumReceive, ChecksumSend, ChecksumVerdict, LargeSend, LargeSendVersion, VlanTag};
pub use receive::{ReceiveBatch, ReceiveFlags, ReceiveOob, ReturnedChain};
pub use send::{CancelId, CompletedChain, SendChain, SendNbl};
