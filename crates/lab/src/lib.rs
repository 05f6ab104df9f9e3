//! What the lab's command line does, as functions that tests can call.
//!
//! - [`bridge`]: `lab bridge`, a segment joined to the world outside
//! - [`cli`]: arguments, exit status, and what is shown on a terminal
//! - [`conformance`]: `lab conformance`, the lab's suite on a driver
//! - [`input`]: captures and the judgement of their packets
//! - [`demo`]: `lab demo`, step by step
//! - [`faults`]: `lab faults`, fault injection
//! - [`fuzz`]: `lab fuzz`, scripts by chance
//! - [`life`]: what a driver lives through while faults are injected
//! - [`sa`]: `lab sa`, the SA table of an adapter
//! - [`station`]: a small IPv4 host on an adapter
//! - [`run`]: `lab run`, any miniport's standard life
//! - [`settings`]: how adapters are installed, and what the driver is known to break
//! - [`source`]: where the driver comes from

#![allow(clippy::doc_markdown)] // ADD_SA, IPsecOV2 and hundreds like them are names, not code

#[cfg(unix)]
pub mod bridge;
pub mod cli;
pub mod conformance;
pub mod demo;
pub mod faults;
pub mod fuzz;
pub mod input;
pub mod life;
pub mod run;
pub mod sa;
pub mod settings;
pub mod source;
pub mod station;
