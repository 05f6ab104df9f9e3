//! Waiting, and the time since the machine started.

use ndis_sys::{LARGE_INTEGER, NdisGetSystemUpTimeEx, NdisMSleep};

/// Gives up the processor for about `microseconds`. PASSIVE_LEVEL: at DISPATCH_LEVEL the system stops with a bug check.
pub fn sleep(microseconds: u32) {
    // SAFETY: no preconditions but the IRQL, and a wait at a higher one is a bug check, not undefined behaviour.
    unsafe { NdisMSleep(microseconds) };
}

/// Milliseconds since the machine started, in steps of a clock tick (some 16 ms on Windows). Any IRQL.
#[must_use]
pub fn uptime() -> u64 {
    let mut up = LARGE_INTEGER { QuadPart: 0 };
    // SAFETY: the variable is valid during the call, which has no other precondition.
    unsafe { NdisGetSystemUpTimeEx(&raw mut up) };
    up.QuadPart.cast_unsigned()
}
