#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(test)]
extern crate std;

mod epoch;
mod handle;
mod index;
mod key;
mod progress;
mod reader;
mod shared;
mod slot;
mod storage;
mod sync;
mod table;
mod writer;

pub use handle::{Handle, MAX_CAPACITY, MAX_GENERATION};
pub use index::MAX_CHAIN;
pub use key::{InboundKey, Protocol};
pub use progress::{GracePeriod, Progress};
pub use reader::{Entry, Reader};
pub use table::{Config, CreateError, MAX_READERS, SaTable, Stats};
pub use writer::{InsertError, Refusal, Stale, Writer};
