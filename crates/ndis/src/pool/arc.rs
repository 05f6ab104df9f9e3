//! [`PoolArc`]: shared ownership in pool memory.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use super::{OutOfMemory, Pool, PoolBox};

struct Inner<T> {
    references: AtomicUsize,
    value: T,
}

/// A counted reference to a value in pool memory, like `alloc::sync::Arc` without weak references, and with allocation that
/// can fail. IRQL <= DISPATCH_LEVEL, as far as `T` and its drop are fit for it.
///
/// # Invariants
///
/// `inner` came from `PoolBox::into_raw`; its count is the number of `PoolArc`s to it.
pub struct PoolArc<T> {
    inner: NonNull<Inner<T>>,
    owned: PhantomData<Inner<T>>,
}

// SAFETY: like `Arc`: a `PoolArc` gives `&T` to any thread that has it, and may drop the `T` there.
unsafe impl<T: Send + Sync> Send for PoolArc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PoolArc<T> {}

impl<T> PoolArc<T> {
    /// Moves `value` to pool memory.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; `value` is dropped.
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        let inner = PoolBox::try_new_in(Inner { references: AtomicUsize::new(1), value }, Pool)
            .map_err(|_| OutOfMemory)?;
        // SAFETY: a box's pointer is not null.
        Ok(Self { inner: unsafe { NonNull::new_unchecked(PoolBox::into_raw(inner)) }, owned: PhantomData })
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

impl<T> Deref for PoolArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Clone for PoolArc<T> {
    fn clone(&self) -> Self {
        // Relaxed: made from an existing reference. The count cannot overflow by leaking: each leak takes machine time, and
        // 2^64 of them centuries.
        self.inner().references.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner, owned: PhantomData }
    }
}

impl<T> Drop for PoolArc<T> {
    fn drop(&mut self) {
        // Release: what we did with the value happens before it is dropped.
        if self.inner().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Pairs with the Release of every other owner.
        fence(Ordering::Acquire);
        // SAFETY: this was the last reference, and by the invariant the memory is a box's.
        drop(unsafe { PoolBox::from_raw_in(self.inner.as_ptr(), Pool) });
    }
}

impl<T: fmt::Debug> fmt::Debug for PoolArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
