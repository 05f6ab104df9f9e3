//! Processors, as indices for per-processor data.

use core::ptr;

use ndis_sys::{ALL_PROCESSOR_GROUPS, KeGetCurrentProcessorNumberEx, KeQueryMaximumProcessorCountEx};

/// How many there can ever be, in all groups: every [`current`] is less. At least 1.
#[must_use]
pub fn count() -> u32 {
    // SAFETY: callable at any IRQL <= DISPATCH_LEVEL, without preconditions.
    unsafe { KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS) }.max(1)
}

/// The one that runs this. Below DISPATCH_LEVEL it may be another one by the time the caller looks. Any IRQL.
#[must_use]
pub fn current() -> u32 {
    // SAFETY: callable at any IRQL; the argument is optional.
    unsafe { KeGetCurrentProcessorNumberEx(ptr::null_mut()) }
}
