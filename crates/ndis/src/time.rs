//! Waiting.

use ndis_sys::NdisMSleep;

/// Gives up the processor for about `microseconds`. PASSIVE_LEVEL: at DISPATCH_LEVEL the system stops with a bug check.
pub fn sleep(microseconds: u32) {
    // SAFETY: no preconditions but the IRQL, and a wait at a higher one is a bug check, not undefined behaviour.
    unsafe { NdisMSleep(microseconds) };
}
