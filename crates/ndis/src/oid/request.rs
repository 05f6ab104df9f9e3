//! [`OidRequest`]: a request in its handler (`[ns-oidrequest-ndis_oid_request]`). How it is answered is in `answer`.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::slice;

use ndis_sys::{
    NDIS_OID, NDIS_OID_REQUEST, NDIS_OID_REQUEST_DATA, NDIS_STATUS, NdisRequestMethod,
    NdisRequestQueryInformation, NdisRequestQueryStatistics, NdisRequestSetInformation,
};

use super::answer::{Applied, Counts};
use super::{OidPath, PendedOid, RequestId};
use crate::adapter::Header;
use crate::initialize::Brand;
use crate::status::Status;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OidKind {
    /// Information; query-statistics requests too.
    Query,
    /// To change something.
    Set,
    /// Both.
    Method,
    /// A type that no miniport gets.
    Other,
}

/// An OID request in its handler. Each way to answer consumes it and gives the [`OidCompletion`] that the handler returns.
///
/// The lifetime is that of the call; it ties the completion to this very request.
///
/// # Invariants
///
/// `raw` is a valid request that NDIS handed to the adapter of `header` on path `K`. It and its buffer are ours until the
/// handler returns (or, pended, until completed). The buffer may have any alignment.
#[must_use = "answer the request"]
pub struct OidRequest<'r, K: OidPath> {
    raw: NonNull<NDIS_OID_REQUEST>,
    header: NonNull<Header>,
    brand: Brand<'r>,
    path: PhantomData<K>,
}

/// The answer to a request: what its handler returns.
#[must_use = "return it from the handler"]
pub struct OidCompletion<'r, K: OidPath> {
    status: Status,
    brand: Brand<'r>,
    path: PhantomData<K>,
}

impl<K: OidPath> OidCompletion<'_, K> {
    pub(crate) fn into_status(self) -> NDIS_STATUS {
        self.status.raw()
    }

    /// The status that NDIS will see.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }
}

impl<K: OidPath> fmt::Debug for OidCompletion<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OidCompletion").field(&self.status).finish()
    }
}

/// # Safety
///
/// `raw` is valid and ours to read.
pub(super) unsafe fn raw_oid(raw: NonNull<NDIS_OID_REQUEST>) -> NDIS_OID {
    // SAFETY: the OID is the first field of all three members of the union.
    unsafe { (*raw.as_ptr()).DATA.QUERY_INFORMATION.Oid }
}

/// # Safety
///
/// `raw` is valid and ours to read.
pub(super) unsafe fn raw_id(raw: NonNull<NDIS_OID_REQUEST>) -> Option<RequestId> {
    // SAFETY: the caller's contract.
    RequestId::from_raw(unsafe { (*raw.as_ptr()).RequestId })
}

/// # Safety
///
/// `raw` is valid and ours to read.
unsafe fn raw_kind(raw: NonNull<NDIS_OID_REQUEST>) -> OidKind {
    // SAFETY: the caller's contract.
    match unsafe { (*raw.as_ptr()).RequestType } {
        NdisRequestQueryInformation | NdisRequestQueryStatistics => OidKind::Query,
        NdisRequestSetInformation => OidKind::Set,
        NdisRequestMethod => OidKind::Method,
        _ => OidKind::Other,
    }
}

/// # Safety
///
/// `raw` is valid and ours.
unsafe fn set_counts(raw: NonNull<NDIS_OID_REQUEST>, counts: Counts) {
    // SAFETY: the caller's contract.
    let kind = unsafe { raw_kind(raw) };
    // SAFETY: the request is ours to write; each arm writes the member of the union that its kind uses.
    unsafe {
        let data: *mut NDIS_OID_REQUEST_DATA = &raw mut (*raw.as_ptr()).DATA;
        match kind {
            OidKind::Query => {
                (*data).QUERY_INFORMATION.BytesWritten = counts.written;
                (*data).QUERY_INFORMATION.BytesNeeded = counts.needed;
            }
            OidKind::Set => {
                (*data).SET_INFORMATION.BytesRead = counts.read;
                (*data).SET_INFORMATION.BytesNeeded = counts.needed;
            }
            OidKind::Method => {
                (*data).METHOD_INFORMATION.BytesWritten = counts.written;
                (*data).METHOD_INFORMATION.BytesRead = counts.read;
                (*data).METHOD_INFORMATION.BytesNeeded = counts.needed;
            }
            OidKind::Other => {}
        }
    }
}

/// # Safety
///
/// `raw` is valid and ours.
pub(super) unsafe fn clear_counts(raw: NonNull<NDIS_OID_REQUEST>) {
    // SAFETY: the caller's contract.
    unsafe { set_counts(raw, Counts::default()) };
}

/// Where a request's buffer is, and how much of it may be read and written.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    pub(crate) start: *mut u8,
    pub(crate) input: usize,
    pub(crate) output: usize,
}

impl<'r, K: OidPath> OidRequest<'r, K> {
    /// # Safety
    ///
    /// `raw` is a valid request that NDIS hands to the adapter of `header` on path `K`, in a call that lasts for `'r`; this is the
    /// only value made of it.
    pub(crate) unsafe fn from_raw(raw: NonNull<NDIS_OID_REQUEST>, header: NonNull<Header>) -> Self {
        Self { raw, header, brand: PhantomData, path: PhantomData }
    }

    pub(super) fn parts(&self) -> (NonNull<NDIS_OID_REQUEST>, NonNull<Header>) {
        (self.raw, self.header)
    }

    /// The object identifier.
    #[must_use]
    pub fn oid(&self) -> NDIS_OID {
        // SAFETY: by the invariant.
        unsafe { raw_oid(self.raw) }
    }

    /// Query, set or method.
    #[must_use]
    pub fn kind(&self) -> OidKind {
        // SAFETY: by the invariant.
        unsafe { raw_kind(self.raw) }
    }

    /// What MiniportCancel(Direct)OidRequest would call it.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        // SAFETY: by the invariant.
        unsafe { raw_id(self.raw) }
    }

    /// The request's buffer. A null buffer has no bytes.
    pub(crate) fn buffer(&self) -> Buffer {
        let kind = self.kind();
        // SAFETY: the request is valid, and each arm reads the member of the union that its kind uses.
        let (start, input, output) = unsafe {
            let data: *const NDIS_OID_REQUEST_DATA = &raw const (*self.raw.as_ptr()).DATA;
            match kind {
                OidKind::Query => {
                    let query = &raw const (*data).QUERY_INFORMATION;
                    ((*query).InformationBuffer, 0, (*query).InformationBufferLength)
                }
                OidKind::Set => {
                    let set = &raw const (*data).SET_INFORMATION;
                    ((*set).InformationBuffer, (*set).InformationBufferLength, 0)
                }
                OidKind::Method => {
                    let method = &raw const (*data).METHOD_INFORMATION;
                    ((*method).InformationBuffer, (*method).InputBufferLength, (*method).OutputBufferLength)
                }
                OidKind::Other => (ptr::null_mut(), 0, 0),
            }
        };
        if start.is_null() {
            return Buffer { start: NonNull::<u8>::dangling().as_ptr(), input: 0, output: 0 };
        }
        Buffer { start: start.cast(), input: input as usize, output: output as usize }
    }

    /// The bytes that came with a set or method request; empty for a query.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        let buffer = self.buffer();
        // SAFETY: NDIS gives `input` readable bytes, which nobody changes while the request is ours; `&self` keeps us from
        // writing. The length fits `isize`, being a UINT.
        unsafe { slice::from_raw_parts(buffer.start, buffer.input) }
    }

    /// Bytes of room for an answer; 0 for a set.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.buffer().output
    }

    /// Ends the request with these counts.
    pub(super) fn finish(self, status: Status, counts: Counts) -> OidCompletion<'r, K> {
        // SAFETY: by the invariant.
        unsafe { set_counts(self.raw, counts) };
        OidCompletion { status: status.as_final(), brand: PhantomData, path: PhantomData }
    }

    /// Records a success's BytesRead and SupportedRevision before the answer, for requests that are pended.
    pub(crate) fn record(&mut self, applied: Applied, written: usize) {
        // SAFETY: the request is valid and ours.
        unsafe {
            set_counts(self.raw, Counts::of(written, applied.read));
            if let Some(revision) = applied.revision {
                (*self.raw.as_ptr()).SupportedRevision = revision;
            }
        }
    }

    /// Ends the request in success, with the counts that it has.
    pub(crate) fn succeed(mut self, applied: Applied, written: usize) -> OidCompletion<'r, K> {
        self.record(applied, written);
        OidCompletion { status: Status::SUCCESS, brand: PhantomData, path: PhantomData }
    }

    /// Answers later: the handler returns the completion (PENDING), and whoever gets the [`PendedOid`] completes it, which may
    /// happen before the handler has returned.
    pub fn pend(self) -> (PendedOid<K>, OidCompletion<'r, K>) {
        let pended = PendedOid::new(&self);
        (pended, OidCompletion { status: Status::PENDING, brand: PhantomData, path: PhantomData })
    }
}

impl<K: OidPath> fmt::Debug for OidRequest<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidRequest")
            .field("oid", &self.oid())
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}
