//! IPsec task offload version 2: the direct OIDs that add, update and delete security associations, and the out-of-band
//! words on packets. What NDIS hands over in place is checked once, here, and becomes plain Rust values.

mod add;
mod delete;
mod node;
mod oob;
mod request;
mod sa;
#[cfg(test)]
mod tests;
mod update;

pub use delete::{DeleteSaHandles, DeleteSaList};
pub use oob::{CryptoStatus, IpsecReceive, IpsecReceiveHeader, IpsecSend, IpsecSendHeader};
pub use sa::{Endpoints, IpsecOperation, SaAlgorithm, SaAssociation, SaRequest};
pub use update::UpdateSa;

/// The largest number of list elements that is accepted: far more than any adapter's SaOffloadCapacity. It ends the walk over
/// a list whose `Next` pointers form a cycle.
pub const MAX_SA_LIST: usize = 1 << 16;

/// The longest key blob that is accepted. Two associations with the longest keys there are (HMAC-SHA-256, AES-256 and salt)
/// take 136 bytes.
pub const MAX_SA_KEY: usize = 1024;
