//! Raw ABI of NDIS 6.30 miniports and of the NT functions they use, without the WDK.
//!
//! Names are the WDK's; everything is at the root. Layouts, constants and prototypes are those of the WDK's headers for
//! an NDIS 6.30 miniport on 64-bit Windows, and tests compare each of them with numbers computed from those headers.
//! In brackets stands the page of Microsoft's driver documentation that an item comes from, `[ns-nbl-net_buffer]` for
//! example: a file of `windows-driver-docs-ddi` or `windows-driver-docs`, also of their history.
//!
//! # Calling convention and linking
//! Functions and callbacks are `extern "win64"` on x86-64, also on Linux and macOS, and `extern "C"` elsewhere; use
//! [`ndis_fn!`] and [`abi!`] to define and name them. In a Windows driver the functions are imports from `ndis.sys` and
//! `ntoskrnl.exe`, linked by raw-dylib without an import library. Elsewhere, and on Windows with the feature `hosted`,
//! they are symbols that a host defines: a lab that runs the driver in a process.
//!
//! # What is not the WDK's
//! - Structures and unions that C leaves anonymous have names here that begin with their parent's.
//! - Bit-fields are words with a getter and a builder per field, `TcpChecksum()` and `with_TcpChecksum(1)`.
//! - A union of which one member is of use is that member.
//! - Each structure has `zeroed()`.
//!
//! Enumerations are integers with constants: what Windows stores in them is not checked.

#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)] // the WDK's names
// Documentation names C items and files as C does, without backquotes around each.
#![allow(clippy::doc_markdown)]

const _: () = assert!(size_of::<usize>() == 8, "64-bit Windows only");

#[macro_use]
mod macros;

mod attributes;
mod callbacks;
mod config;
#[cfg(all(windows, not(feature = "hosted")))]
mod crt;
mod driver;
mod functions;
mod indication;
mod ipsec;
mod kernel;
mod link;
mod mdl;
mod nbl;
mod object;
mod offload;
mod offload_parameters;
mod oid;
mod oob;
mod power;
mod request;
mod revisions;
mod statistics;
mod status;
mod sync;
mod types;
mod zeroed;

pub use attributes::*;
pub use callbacks::*;
pub use config::*;
pub use driver::*;
pub use functions::*;
pub use indication::*;
pub use ipsec::*;
pub use kernel::*;
pub use link::*;
pub use mdl::*;
pub use nbl::*;
pub use object::*;
pub use offload::*;
pub use offload_parameters::*;
pub use oid::*;
pub use oob::*;
pub use power::*;
pub use request::*;
pub use revisions::*;
pub use statistics::*;
pub use status::*;
pub use sync::*;
pub use types::*;
