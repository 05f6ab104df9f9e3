//! [`PoolArc`]: shared ownership in pool memory.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use allocator_api2::boxed::Box;

use super::{OutOfMemory, PoolAlloc};

struct Inner<T> {
    references: AtomicUsize,
    value: T,
}

/// A counted reference to a value in pool memory, like `alloc::sync::Arc` without weak references, and with allocation that
/// can fail. IRQL <= DISPATCH_LEVEL, as far as `T` and its drop are fit for it.
///
/// # Invariants
///
/// `inner` came from `Box::into_raw` with `PoolAlloc<TAG>`; its count is the number of `PoolArc`s to it.
pub struct PoolArc<T, const TAG: u32> {
    inner: NonNull<Inner<T>>,
    owned: PhantomData<Inner<T>>,
}

// SAFETY: like `Arc`: a `PoolArc` gives `&T` to any thread that has it, and may drop the `T` there.
unsafe impl<T: Send + Sync, const TAG: u32> Send for PoolArc<T, TAG> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, const TAG: u32> Sync for PoolArc<T, TAG> {}

impl<T, const TAG: u32> PoolArc<T, TAG> {
    /// Moves `value` to pool memory.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; `value` is dropped.
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        let inner = Box::try_new_in(Inner { references: AtomicUsize::new(1), value }, PoolAlloc::<TAG>)
            .map_err(|_| OutOfMemory)?;
        // SAFETY: a box's pointer is not null.
        Ok(Self { inner: unsafe { NonNull::new_unchecked(Box::into_raw(inner)) }, owned: PhantomData })
    }

    /// Whether both refer to one value.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.inner == other.inner
    }

    /// The number of references now, for assertions and statistics: others may change it at any moment.
    #[must_use]
    pub fn count(this: &Self) -> usize {
        // Relaxed: orders nothing.
        this.inner().references.load(Ordering::Relaxed)
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: by the invariant this reference keeps it alive.
        unsafe { self.inner.as_ref() }
    }
}

impl<T, const TAG: u32> Deref for PoolArc<T, TAG> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T, const TAG: u32> Clone for PoolArc<T, TAG> {
    fn clone(&self) -> Self {
        // Relaxed: made from an existing reference. The count cannot overflow by leaking: each leak takes machine time, and
        // 2^64 of them centuries.
        self.inner().references.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner, owned: PhantomData }
    }
}

impl<T, const TAG: u32> Drop for PoolArc<T, TAG> {
    fn drop(&mut self) {
        // Release: what we did with the value happens before it is dropped.
        if self.inner().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Pairs with the Release of every other owner.
        fence(Ordering::Acquire);
        // SAFETY: this was the last reference, and by the invariant the memory is a box's.
        drop(unsafe { Box::from_raw_in(self.inner.as_ptr(), PoolAlloc::<TAG>) });
    }
}

impl<T: fmt::Debug, const TAG: u32> fmt::Debug for PoolArc<T, TAG> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
