//! A host for NDIS miniports: it runs them outside of Windows, natively linked or as the very image
//! that ships, and is as strict as NDIS Verifier and Driver Verifier together.
//!
//! A [`Lab`] is one simulated machine. It loads drivers ([`Lab::load_image`], [`Lab::load_native`]),
//! a [`Driver`] gets adapters, an [`Adapter`] is restarted, sends, receives, answers OID requests,
//! is paused and halted. Whatever the driver does wrong is recorded as a [`Violation`] of a named
//! [`Rule`](rules::Rule); what stops Windows stops the machine, as a [`BugCheck`] value; and the
//! [`Census`] says what the driver still holds.
//!
//! # Map
//! - [`loader`]: PE images, mapped with every bound checked
//! - `exports`: the functions of ntoskrnl.exe and ndis.sys, each defined once for both ways to load
//! - `machine`: processors, IRQL, pool, locks, DPCs, timers, and the way into driver code
//! - `packet`: NET_BUFFER_LIST, NET_BUFFER and MDL
//! - [`fault`]: fault injection, systematic and by chance
//! - [`adapter`]: the state machine, OID requests, sends, receives, indications
//! - [`device`]: user-mode processes that open a driver's device
//! - [`inf`]: what an INF says about a miniport
//! - [`rules`]: every rule, with its page of the documentation
//! - [`ipsec_v2`]: builders for the structures of IPsec Task Offload Version 2
//! - [`transport`]: what TCP/IP does above it: framing, and judging what is indicated
//! - [`conformance`]: the suite that any driver can be put through
//! - [`wire`]: captures of what a monitor port sees; a cable that loses and damages; bridges
//! - [`symbols`]: call stacks of the driver, with names from its PDB
//!
//! # Unsafe
//! This crate is the other side of a C interface: it takes pointers from drivers. Natively linked
//! drivers and images run in the lab's own process; a wild pointer in a driver can break it. What
//! the lab is given by handle or by a structure that it allocated is looked up before it is read.

#![allow(clippy::doc_markdown)] // NET_BUFFER_LIST and hundreds like it are names, not code

pub mod adapter;
mod bytes;
mod call;
mod census;
pub mod conformance;
pub mod device;
mod driver;
mod error;
mod exports;
pub mod fault;
pub mod inf;
pub mod ipsec_v2;
mod lab;
pub mod loader;
mod machine;
mod objects;
mod packet;
pub mod rules;
pub mod symbols;
pub mod transport;
pub mod wire;

pub use adapter::oid::{Oid, OidKind, OidOutcome, PendingOid};
pub use adapter::receive::{ReceiveSink, Received, ReturnPolicy};
pub use adapter::send::{OOB_SLOTS, SendFrame, SendNbl, SendOptions, SendOutcome, Sent};
pub use adapter::{
    Adapter, AdapterConfig, AdapterId, HaltAction, PauseReason, PnpEvent, ResetOutcome, ShutdownAction, State,
};
pub use call::{CallHook, CallPoint};
pub use census::{Census, Item};
pub use driver::{Driver, Registered};
pub use error::{BugCheck, CrashCall, LabError};
pub use exports::functions;
pub use fault::{FaultHook, FaultPoint};
pub use lab::{Lab, LabBuilder};
pub use loader::LoadError;
pub use machine::Origin;
pub use machine::pool::{PoolBlock, PoolKind, tag_text};
pub use machine::schedule::Event;
pub use objects::{Keywords, Value};
pub use rules::Violation;
pub use symbols::CallStack;
