//! Raw ABI of NDIS 6.30 miniports and the NT functions they use.
#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(missing_docs, clippy::all, clippy::pedantic)] // first pass

#[macro_use]
mod macros;

mod callbacks;
mod config;
#[cfg(all(windows, not(feature = "hosted")))]
pub mod crt;
mod functions;
mod indication;
mod ipsec;
mod kernel;
mod mdl;
mod miniport;
mod nbl;
mod object;
mod offload;
mod oid;
mod oob;
mod status;
mod types;
mod zeroed;

pub use callbacks::*;
pub use config::*;
pub use functions::*;
pub use indication::*;
pub use ipsec::*;
pub use kernel::*;
pub use mdl::*;
pub use miniport::*;
pub use nbl::*;
pub use object::*;
pub use offload::*;
pub use oid::*;
pub use oob::*;
pub use status::*;
pub use types::*;
