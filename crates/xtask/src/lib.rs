//! What `cargo xtask` does, as a library: its image checks are used by tests too.
//!
//! [`image`] reads bytes and nothing else. Everything else may touch the machine: it runs compilers and installs packages.

pub mod bench;
pub mod driver;
pub mod fuzz;
pub mod image;
pub mod inf;
pub mod report;
pub mod setup;
pub mod steps;
pub mod testing;
pub mod toolchain;
pub mod wine;
