//! [`PendedQueue`]: pended requests that wait for something, kept without memory of their own.

use core::fmt;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{self, NonNull};

use ndis_sys::NDIS_OID_REQUEST;

use super::{OidPath, PendedOid, RequestId};
use crate::adapter::Header;
use crate::lock::SpinLock;

/// What a waiting request keeps in its MiniportReserved, 16 bytes that are the miniport's while it has the request.
#[repr(C)]
struct Link<T> {
    next: *mut NDIS_OID_REQUEST,
    value: T,
}

/// A first-in, first-out queue of pended requests of one adapter, each with a small value that says what it waits for. Pushing
/// cannot fail: the links are in the requests. IRQL <= DISPATCH_LEVEL; concurrent.
///
/// Dropped, it aborts what is in it.
///
/// # Invariants
///
/// From `head` on, requests are linked by the `Link`s in their MiniportReserved, `tail` being the last; each was taken out of a
/// [`PendedOid`] of the adapter of `header`, which is set unless the queue is empty.
pub struct PendedQueue<K: OidPath, T: Copy> {
    list: SpinLock<List>,
    path: PhantomData<(K, T)>,
}

struct List {
    head: *mut NDIS_OID_REQUEST,
    tail: *mut NDIS_OID_REQUEST,
    header: Option<NonNull<Header>>,
}

// SAFETY: the list owns its requests, which may be completed on any thread.
unsafe impl Send for List {}

/// # Safety
///
/// `request` is valid and its MiniportReserved ours.
unsafe fn link<T>(request: *mut NDIS_OID_REQUEST) -> *mut Link<T> {
    const {
        assert!(size_of::<Link<T>>() <= 16, "MiniportReserved has 16 bytes");
        assert!(align_of::<Link<T>>() <= 8, "MiniportReserved is aligned to 8 bytes");
        assert!(offset_of!(NDIS_OID_REQUEST, MiniportReserved).is_multiple_of(8));
    }
    // SAFETY: the caller's contract; the field has room for the link and its alignment, as just asserted.
    unsafe { request.byte_add(offset_of!(NDIS_OID_REQUEST, MiniportReserved)).cast() }
}

impl<K: OidPath, T: Copy> PendedQueue<K, T> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        let list = List { head: ptr::null_mut(), tail: ptr::null_mut(), header: None };
        Self { list: SpinLock::new(list), path: PhantomData }
    }

    /// Adds a request at the end; from now on any processor may take and complete it.
    ///
    /// # Errors
    ///
    /// The request itself, if it is another adapter's than those in the queue.
    pub fn push(&self, request: PendedOid<K>, value: T) -> Result<(), PendedOid<K>> {
        let mut list = self.list.lock();
        if list.header.is_some_and(|header| header != request.header()) {
            return Err(request);
        }
        let (raw, header) = request.into_parts();
        let raw = raw.as_ptr();
        list.header = Some(header);
        // SAFETY: the request is ours and valid; so is the tail.
        unsafe {
            link::<T>(raw).write(Link { next: ptr::null_mut(), value });
            if list.tail.is_null() {
                list.head = raw;
            } else {
                (*link::<T>(list.tail)).next = raw;
            }
        }
        list.tail = raw;
        Ok(())
    }

    /// Takes the first request out whose value `ready` accepts. `ready` runs at DISPATCH_LEVEL with the queue locked.
    pub fn take_if(&self, mut ready: impl FnMut(&T) -> bool) -> Option<PendedOid<K>> {
        // SAFETY: the requests in the queue are valid and ours, with a link written by `push`.
        self.take_first(|request| ready(unsafe { &(*link::<T>(request)).value }))
    }

    /// Takes out the request of this id, for MiniportCancel(Direct)OidRequest to [`cancel`](PendedOid::cancel).
    pub fn take(&self, id: RequestId) -> Option<PendedOid<K>> {
        self.take_first(|request| {
            // SAFETY: the requests in the queue are valid and ours.
            NonNull::new(request).and_then(|raw| unsafe { super::request::raw_id(raw) }) == Some(id)
        })
    }

    fn take_first(&self, mut found: impl FnMut(*mut NDIS_OID_REQUEST) -> bool) -> Option<PendedOid<K>> {
        let mut list = self.list.lock();
        let header = list.header?;
        let mut previous = ptr::null_mut();
        let mut request = NonNull::new(list.head)?;
        while !found(request.as_ptr()) {
            previous = request.as_ptr();
            // SAFETY: the requests in the queue are valid and ours, with links.
            request = NonNull::new(unsafe { (*link::<T>(previous)).next })?;
        }
        // SAFETY: as above, the previous one included.
        unsafe {
            let next = (*link::<T>(request.as_ptr())).next;
            if previous.is_null() {
                list.head = next;
            } else {
                (*link::<T>(previous)).next = next;
            }
            if next.is_null() {
                list.tail = previous;
            }
        }
        if list.head.is_null() {
            list.header = None;
        }
        // SAFETY: `push` took it out of a `PendedOid` of this path and adapter, and it has just left the queue.
        Some(unsafe { PendedOid::from_parts(request, header) })
    }
}

impl<K: OidPath, T: Copy> Default for PendedQueue<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: OidPath, T: Copy> Drop for PendedQueue<K, T> {
    fn drop(&mut self) {
        while let Some(request) = self.take_first(|_| true) {
            request.cancel();
        }
    }
}

impl<K: OidPath, T: Copy> fmt::Debug for PendedQueue<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendedQueue").finish_non_exhaustive()
    }
}
