//! The glue to the kernel: where memory, locks and the end of the world come from.
//!
//! The rest of the driver takes from here what is not a matter of NDIS: pool memory and spin locks. The other modules exist
//! only in the image and say what the language itself needs there, a global allocator and a panic handler: `wdk` with
//! Microsoft's crates (feature `wdk`, on a Windows host with a WDK), else `freestanding`. Nothing outside this folder and
//! `build.rs` knows which.

pub use ndis::{OutOfMemory, SpinLock};

#[cfg(all(windows, not(feature = "hosted"), not(feature = "wdk")))]
mod freestanding;
#[cfg(all(windows, not(feature = "hosted"), not(feature = "wdk-panic")))]
mod panic;
#[cfg(all(windows, not(feature = "hosted"), feature = "wdk"))]
mod wdk;

// Natively linked (tests, the lab) the driver runs in a process: both come from its standard library.
#[cfg(any(not(windows), feature = "hosted"))]
extern crate std;

/// The driver's pool tag; debuggers show it as `Ipsn`.
const TAG: u32 = ndis::pool_tag(*b"Ipsn");

/// Non-paged pool. Every allocation may fail.
pub type Pool = ndis::PoolAlloc<TAG>;

/// One value in pool memory.
pub type PoolBox<T> = ndis::alloc::boxed::Box<T, Pool>;

/// Values in pool memory. Grows only by `try_reserve`.
pub type PoolVec<T> = ndis::alloc::vec::Vec<T, Pool>;

/// A value in pool memory with counted owners.
pub type PoolArc<T> = ndis::PoolArc<T, TAG>;

/// A vector without memory.
pub const fn empty_vec<T>() -> PoolVec<T> {
    PoolVec::new_in(ndis::PoolAlloc)
}

/// Allocates a box and has `init` fill it in place.
///
/// # Errors
/// `init`'s, or [`OutOfMemory`] as one.
pub fn try_init_box<T, E: From<OutOfMemory>>(
    init: impl for<'a> FnOnce(&'a mut core::mem::MaybeUninit<T>) -> Result<&'a mut T, E>,
) -> Result<PoolBox<T>, E> {
    ndis::try_box_with(Pool::default(), init)
}
