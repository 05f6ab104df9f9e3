//! The driver.
#![no_std]
#[cfg(not(windows))]
extern crate std;
