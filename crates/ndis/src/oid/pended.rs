//! [`PendedOid`]: a request that is answered later.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

use ndis_sys::{NDIS_OID, NDIS_OID_REQUEST};

use super::request::{OidRequest, clear_counts, raw_id, raw_oid};
use super::{OidPath, RequestId};
use crate::adapter::Header;
use crate::status::Status;

/// An OID request that returned PENDING. Complete it from any thread; dropped, it ends with REQUEST_ABORTED.
/// Completing: IRQL <= DISPATCH_LEVEL, no lock held.
///
/// # Invariants
///
/// `raw` is a request of the adapter of `header`, on path `K`, that NDIS waits for; this value alone may complete it.
#[must_use = "dropping the request aborts it"]
pub struct PendedOid<K: OidPath> {
    raw: NonNull<NDIS_OID_REQUEST>,
    header: NonNull<Header>,
    path: PhantomData<K>,
}

// SAFETY: the request belongs to this value alone, and its completion function may be called on any thread.
unsafe impl<K: OidPath> Send for PendedOid<K> {}
// SAFETY: a shared value only reads fields that NDIS does not change while the request is out.
unsafe impl<K: OidPath> Sync for PendedOid<K> {}

impl<K: OidPath> PendedOid<K> {
    pub(super) fn new(request: &OidRequest<'_, K>) -> Self {
        let (raw, header) = request.parts();
        Self { raw, header, path: PhantomData }
    }

    pub(super) fn header(&self) -> NonNull<Header> {
        self.header
    }

    /// Gives the parts up to the caller.
    pub(super) fn into_parts(self) -> (NonNull<NDIS_OID_REQUEST>, NonNull<Header>) {
        let parts = (self.raw, self.header);
        mem::forget(self);
        parts
    }

    /// # Safety
    ///
    /// The parts came from [`into_parts`](Self::into_parts) of a value of this type, and this is the only one made of them.
    pub(super) unsafe fn from_parts(raw: NonNull<NDIS_OID_REQUEST>, header: NonNull<Header>) -> Self {
        Self { raw, header, path: PhantomData }
    }

    /// The object identifier.
    #[must_use]
    pub fn oid(&self) -> NDIS_OID {
        // SAFETY: by the invariant the request is valid and ours.
        unsafe { raw_oid(self.raw) }
    }

    /// What MiniportCancel(Direct)OidRequest will call it.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        // SAFETY: as above.
        unsafe { raw_id(self.raw) }
    }

    /// Answers with `status`; with anything but SUCCESS the byte counts are cleared.
    pub fn complete(self, status: Status) {
        self.complete_ref(status);
        mem::forget(self);
    }

    /// Answers a cancelled request: REQUEST_ABORTED.
    pub fn cancel(self) {
        drop(self);
    }

    fn complete_ref(&self, status: Status) {
        if status != Status::SUCCESS {
            // SAFETY: the request is valid and ours.
            unsafe { clear_counts(self.raw) };
        }
        // SAFETY: NDIS waits for this request, so the adapter is live; every caller then forgets the value or is its drop,
        // so the request completes once, with the function of its path, and is not touched again.
        unsafe { K::COMPLETE((*self.header.as_ptr()).ndis(), self.raw.as_ptr(), status.as_final().raw()) };
    }
}

impl<K: OidPath> Drop for PendedOid<K> {
    fn drop(&mut self) {
        self.complete_ref(Status::REQUEST_ABORTED);
    }
}

impl<K: OidPath> fmt::Debug for PendedOid<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendedOid").field("oid", &self.oid()).finish_non_exhaustive()
    }
}
