//! Asks the processor for a cache line before it is needed. A hint: nothing is read, and nothing can be observed.

/// Requests the line that `of` begins in.
#[cfg(all(target_arch = "x86_64", target_feature = "sse", not(any(loom, shuttle, miri))))]
#[inline]
pub(crate) fn prefetch<T>(of: &T) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the target has SSE, as the condition on this function says. A prefetch reads nothing, and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const *of).cast()) }
}

/// Requests the line that `of` begins in.
#[cfg(all(target_arch = "aarch64", not(any(loom, shuttle, miri))))]
#[inline]
pub(crate) fn prefetch<T>(of: &T) {
    // SAFETY: a prefetch reads nothing, and faults on no address.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) &raw const *of, options(nostack, preserves_flags, readonly));
    }
}

/// Does nothing: there is no way to ask here.
#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse", not(any(loom, shuttle, miri))),
    all(target_arch = "aarch64", not(any(loom, shuttle, miri)))
)))]
#[inline]
pub(crate) fn prefetch<T>(_: &T) {}
