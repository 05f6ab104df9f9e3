//! [`SpinLock`]: data behind a kernel spin lock.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use ndis_sys::{KIRQL, KSPIN_LOCK, KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};

/// A value behind a `KSPIN_LOCK`. Taking it raises the IRQL to DISPATCH_LEVEL; releasing it restores what was before.
/// IRQL <= DISPATCH_LEVEL. Not recursive.
///
/// While a guard lives, do not call anything that completes sends or OID requests, indicates or pauses: those calls may
/// come back into the driver. Release guards in the reverse order of taking them.
pub struct SpinLock<T: ?Sized> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: sending the lock sends the value.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}
// SAFETY: the lock gives access to the value to one thread at a time, which is sending it there and back.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock. KeInitializeSpinLock is an inline function that stores 0.
    pub const fn new(value: T) -> Self {
        Self { lock: UnsafeCell::new(0), value: UnsafeCell::new(value) }
    }

    /// The value, of a lock that nobody can hold any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock, spinning while another processor holds it.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        // SAFETY: `lock` is an initialised KSPIN_LOCK that does not move while borrowed, in memory as resident as the
        // value's owner (this crate's allocators give non-paged pool).
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        SpinLockGuard { lock: self, irql, stay: PhantomData }
    }

    /// The value, without locking: the exclusive borrow proves that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

/// Access to the value of a [`SpinLock`]; releases it on drop.
///
/// Not `Send`: a spin lock is released on the processor that took it.
#[must_use = "dropping the guard releases the lock"]
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
    irql: KIRQL,
    stay: PhantomData<*const ()>,
}

// SAFETY: `&SpinLockGuard` gives `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for SpinLockGuard<'_, T> {}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, so nobody else has a reference to the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference made through the guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the guard holds the lock, and `irql` is the level before it was taken.
        unsafe { KeReleaseSpinLock(self.lock.lock.get(), self.irql) };
    }
}
