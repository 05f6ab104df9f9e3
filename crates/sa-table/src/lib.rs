#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]

// So that the tests in tests/ also run as unit tests, where buckets have one lane and most entries are in chains.
#[cfg(test)]
extern crate self as sa_table;

mod epoch;
mod handle;
mod index;
mod key;
mod prefetch;
mod progress;
mod reader;
mod shared;
mod slot;
mod storage;
mod sync;
mod table;
mod tags;
mod writer;

pub use handle::{Handle, MAX_CAPACITY, MAX_GENERATION};
pub use index::MAX_CHAIN;
pub use key::{InboundKey, Protocol};
pub use progress::{GracePeriod, Progress};
pub use reader::{Entry, Reader};
pub use table::{Config, CreateError, MAX_READERS, SaTable, Stats};
pub use writer::{InsertError, Refusal, Stale, Writer};

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "../tests/limits.rs"]
mod limits_with_chains;
#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "../tests/model.rs"]
mod model_with_chains;
#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "../tests/stress.rs"]
mod stress_with_chains;
