//! [`PendedQueue`]: pended requests that wait for something, kept without memory of their own and without a lock.

use core::fmt;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{self, NonNull};

use ndis_sys::{KIRQL, KeLowerIrql, KeRaiseIrqlToDpcLevel, NDIS_OID_REQUEST};

use super::waiting::{Node, Waiting};
use super::{OidPath, PendedOid, RequestId};
use crate::adapter::Header;
use crate::status::Status;
use crate::sync::{AtomicPtr, Ordering};

/// What a waiting request keeps in its MiniportReserved, 16 bytes that are the miniport's while it has the request.
#[repr(C)]
struct Link<T> {
    next: *mut Waiter<T>,
    value: T,
}

/// A request in the queue.
#[repr(transparent)]
struct Waiter<T> {
    request: NDIS_OID_REQUEST,
    value: PhantomData<T>,
}

impl<T> Waiter<T> {
    /// The request's MiniportReserved.
    ///
    /// # Safety
    ///
    /// The request is valid.
    unsafe fn link(waiter: NonNull<Self>) -> NonNull<Link<T>> {
        const {
            assert!(size_of::<Link<T>>() <= 16, "MiniportReserved has 16 bytes");
            assert!(align_of::<Link<T>>() <= 8, "MiniportReserved is aligned to 8 bytes");
            assert!(offset_of!(NDIS_OID_REQUEST, MiniportReserved).is_multiple_of(8));
        }
        // SAFETY: the caller's contract; the field has room for the link and its alignment, as just asserted.
        unsafe { waiter.byte_add(offset_of!(NDIS_OID_REQUEST, MiniportReserved)).cast() }
    }

    /// # Safety
    ///
    /// The request is valid and has a link.
    unsafe fn value<'a>(waiter: NonNull<Self>) -> &'a T {
        // SAFETY: the caller's contract; nobody writes the value again before the request leaves the queue.
        unsafe { &(*Self::link(waiter).as_ptr()).value }
    }
}

// SAFETY: the link is a field of the request's MiniportReserved, which nobody else touches.
unsafe impl<T> Node for Waiter<T> {
    unsafe fn next(node: NonNull<Self>) -> *mut Self {
        // SAFETY: the caller's contract.
        unsafe { (*Self::link(node).as_ptr()).next }
    }

    unsafe fn set_next(node: NonNull<Self>, next: *mut Self) {
        // SAFETY: the caller's contract.
        unsafe { (*Self::link(node).as_ptr()).next = next }
    }
}

// SAFETY: a waiting request may be completed on any thread; its value goes with it.
unsafe impl<T: Send> Send for Waiter<T> {}

/// Pended requests of one adapter, each with a small value that says what it waits for, the oldest first. Adding cannot fail: the
/// links are in the requests. IRQL <= DISPATCH_LEVEL; concurrent.
///
/// Nobody waits to add a request or to complete those that are ready; only [`cancel`](Self::cancel) and [`abort`](Self::abort)
/// may wait for the look of another processor. How, and why nothing is overlooked, is in `oid/waiting.rs`.
///
/// Dropped, it aborts what is in it.
///
/// # Invariants
///
/// Each waiter was taken out of a [`PendedOid`] of this path and of the adapter of `header`, which was set before.
pub struct PendedQueue<K: OidPath, T: Copy> {
    waiting: Waiting<Waiter<T>>,
    header: AtomicPtr<Header>,
    path: PhantomData<K>,
}

/// DISPATCH_LEVEL, until it is dropped.
struct AtDispatch {
    before: KIRQL,
    /// Not `Send`: the IRQL is a processor's.
    stay: PhantomData<*const ()>,
}

impl AtDispatch {
    fn raise() -> Self {
        // SAFETY: the queue's functions are called at DISPATCH_LEVEL at most; the drop restores what was before.
        Self { before: unsafe { KeRaiseIrqlToDpcLevel() }, stay: PhantomData }
    }
}

impl Drop for AtDispatch {
    fn drop(&mut self) {
        // SAFETY: what `raise` raised from, on this thread.
        unsafe { KeLowerIrql(self.before) }
    }
}

impl<K: OidPath, T: Copy> PendedQueue<K, T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self { waiting: Waiting::new(), header: AtomicPtr::new(ptr::null_mut()), path: PhantomData }
    }

    /// Adds a request at the end; from now on any processor may complete it. Call [`complete_if`](Self::complete_if) afterwards: what
    /// it waits for may have happened before it could be found.
    ///
    /// # Errors
    ///
    /// The request itself, if it is another adapter's than those before.
    pub fn push(&self, request: PendedOid<K>, value: T) -> Result<(), PendedOid<K>> {
        let header = request.header().as_ptr();
        // Relaxed: pointers are compared and handed on. What this one leads to was complete before there were requests, and who
        // takes a request out has acquired what was done before it was added.
        let known =
            self.header.compare_exchange(ptr::null_mut(), header, Ordering::Relaxed, Ordering::Relaxed);
        if known.is_err_and(|known| known != header) {
            return Err(request);
        }
        let (raw, _) = request.into_parts();
        let waiter: NonNull<Waiter<T>> = raw.cast();
        // SAFETY: the request is ours and valid until it is completed, which only who takes it out does.
        unsafe {
            Waiter::link(waiter).write(Link { next: ptr::null_mut(), value });
            self.waiting.push(waiter);
        }
        Ok(())
    }

    /// Completes with SUCCESS the requests whose values `ready` accepts. No lock held. `ready` runs at DISPATCH_LEVEL and calls
    /// nothing that waits.
    ///
    /// A request that was ready before the call is completed by this thread, or by another one that is looking at this moment.
    pub fn complete_if(&self, mut ready: impl FnMut(&T) -> bool) {
        loop {
            let dispatch = AtDispatch::raise();
            // SAFETY: the waiters in the queue are valid and have links.
            let found = self.waiting.look(|waiter| ready(unsafe { Waiter::value(waiter) }));
            drop(dispatch);
            let Some(found) = found else { return };
            self.taken(found).complete(Status::SUCCESS);
        }
    }

    /// Ends the request of this id, if it is here, with REQUEST_ABORTED, for MiniportCancel(Direct)OidRequest. No lock held.
    ///
    /// Others that looked meanwhile have left it to this thread; so it completes what is ready, too.
    pub fn cancel(&self, id: RequestId, ready: impl FnMut(&T) -> bool) {
        let dispatch = AtDispatch::raise();
        let found = self.waiting.take(|waiter| {
            // SAFETY: the waiters in the queue are valid requests.
            (unsafe { super::request::raw_id(waiter.cast()) }) == Some(id)
        });
        drop(dispatch);
        if let Some(found) = found {
            self.taken(found).cancel();
        }
        self.complete_if(ready);
    }

    /// Ends all requests with REQUEST_ABORTED. No lock held. When it returns, each has been completed, or another thread is about to.
    pub fn abort(&self) {
        loop {
            let dispatch = AtDispatch::raise();
            // All are wanted, so those that looked meanwhile have left nothing else to this thread.
            let found = self.waiting.take(|_| true);
            drop(dispatch);
            let Some(found) = found else { return };
            self.taken(found).cancel();
        }
    }

    /// A request that has just left the queue.
    fn taken(&self, waiter: NonNull<Waiter<T>>) -> PendedOid<K> {
        // Relaxed: see `push`.
        let header = self.header.load(Ordering::Relaxed);
        // SAFETY: by the invariant the header was set, and the request came out of a `PendedOid` of this path and adapter. It has
        // left the queue, so there is no other value for it.
        unsafe { PendedOid::from_parts(waiter.cast(), NonNull::new_unchecked(header)) }
    }
}

impl<K: OidPath, T: Copy> Default for PendedQueue<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: OidPath, T: Copy> Drop for PendedQueue<K, T> {
    fn drop(&mut self) {
        self.abort();
    }
}

impl<K: OidPath, T: Copy> fmt::Debug for PendedQueue<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendedQueue").finish_non_exhaustive()
    }
}
