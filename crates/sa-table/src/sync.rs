//! The atomics and the cell that the table is built on, so that `--cfg loom` and `--cfg shuttle` can put those of
//! a model checker in their place. No code of its own beyond that.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;

/// `core::cell::UnsafeCell` with the access functions of loom's, which track concurrent accesses.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Marks the places where the proof uses the single order S of all `SeqCst` operations.
///
/// The language gives that order to the accesses themselves, so nothing is emitted. loom treats
/// `SeqCst` accesses as `AcqRel` and models only `SeqCst` *fences* fully: there, the fence stands in.
#[inline]
pub(crate) fn order_s() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
