//! [`OidRequest`]: a request in its handler, and the ways to answer it (`[ns-oidrequest-ndis_oid_request]`).
//!
//! The helpers keep the rules of the byte counts: a short buffer stays untouched and gets BytesNeeded; success reports the
//! bytes really written or read; any other failure reports none.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::slice;

use ndis_sys::{
    NDIS_INTERRUPT_MODERATION, NDIS_INTERRUPT_MODERATION_PARAMETERS,
    NDIS_INTERRUPT_MODERATION_PARAMETERS_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_OID,
    NDIS_OID_REQUEST, NDIS_OID_REQUEST_DATA, NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_STATISTICS_INFO_REVISION_1, NDIS_STATISTICS_INFO, NDIS_STATUS, NdisRequestMethod,
    NdisRequestQueryInformation, NdisRequestQueryStatistics, NdisRequestSetInformation, UINT,
};

use super::{OidPath, PendedOid, RequestId, Statistics};
use crate::adapter::Header;
use crate::initialize::Brand;
use crate::status::{Result, Status};

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

/// A set that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// BytesRead.
    pub read: usize,
    /// SupportedRevision, for structures with revisions.
    pub revision: Option<u8>,
}

impl From<usize> for Applied {
    /// So many bytes read.
    fn from(read: usize) -> Self {
        Self { read, revision: None }
    }
}

/// A set that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetError {
    /// Why.
    pub status: Status,
    /// BytesNeeded, 0 where it means nothing.
    pub needed: usize,
}

impl From<Status> for SetError {
    fn from(status: Status) -> Self {
        Self { status, needed: 0 }
    }
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

/// The byte counts of an answer, as far as the kind of request has them.
#[derive(Clone, Copy, Default)]
struct Counts {
    written: UINT,
    read: UINT,
    needed: UINT,
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

/// A count for NDIS; what does not fit, which no buffer of NDIS can reach, is the largest.
fn count(bytes: usize) -> UINT {
    UINT::try_from(bytes).unwrap_or(UINT::MAX)
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

    fn finish(self, status: Status, counts: Counts) -> OidCompletion<'r, K> {
        // SAFETY: by the invariant.
        unsafe { set_counts(self.raw, counts) };
        OidCompletion { status: status.as_final(), brand: PhantomData, path: PhantomData }
    }

    /// Records a success's BytesRead and SupportedRevision before the answer, for requests that are pended.
    pub(crate) fn record(&mut self, applied: Applied, written: usize) {
        // SAFETY: the request is valid and ours.
        unsafe {
            set_counts(self.raw, Counts { read: count(applied.read), written: count(written), needed: 0 });
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

    /// Refuses the request; byte counts are 0.
    pub fn fail(self, status: Status) -> OidCompletion<'r, K> {
        self.finish(status, Counts::default())
    }

    /// Refuses the request for its length: BytesNeeded is `needed`.
    pub fn fail_needed(self, status: Status, needed: usize) -> OidCompletion<'r, K> {
        self.finish(status, Counts { needed: count(needed), ..Counts::default() })
    }

    /// Answers a query or method with `bytes`; too short a buffer gets BUFFER_TOO_SHORT, a set NOT_SUPPORTED.
    pub fn answer_bytes(self, bytes: &[u8]) -> OidCompletion<'r, K> {
        if !matches!(self.kind(), OidKind::Query | OidKind::Method) {
            return self.fail(Status::NOT_SUPPORTED);
        }
        let buffer = self.buffer();
        if buffer.output < bytes.len() {
            return self.fail_needed(Status::BUFFER_TOO_SHORT, bytes.len());
        }
        // SAFETY: NDIS gives `output` writable bytes, at least as many as `bytes` has; the buffer is ours, so `bytes` is no part
        // of it (references into it borrow the request, which is consumed here).
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.start, bytes.len()) };
        self.finish(Status::SUCCESS, Counts { written: count(bytes.len()), ..Counts::default() })
    }

    /// Answers a query with a ULONG.
    pub fn answer_u32(self, value: u32) -> OidCompletion<'r, K> {
        self.answer_bytes(&value.to_ne_bytes())
    }

    /// Answers a query of a counter that may be asked for in 32 or 64 bits: 8 bytes where they fit; else the low 4 bytes,
    /// with BytesNeeded 8; else nothing, with BytesNeeded 8.
    pub fn answer_counter64(self, value: u64) -> OidCompletion<'r, K> {
        let wide = value.to_ne_bytes();
        let output = self.buffer().output;
        if self.kind() != OidKind::Query || output >= size_of::<u64>() {
            return self.answer_bytes(&wide);
        }
        if output < size_of::<u32>() {
            return self.fail_needed(Status::BUFFER_TOO_SHORT, size_of::<u64>());
        }
        #[allow(clippy::cast_possible_truncation)] // the low half is what is asked for
        let narrow = (value as u32).to_ne_bytes();
        let start = self.buffer().start;
        // SAFETY: the buffer has at least 4 writable bytes.
        unsafe { ptr::copy_nonoverlapping(narrow.as_ptr(), start, narrow.len()) };
        self.finish(
            Status::SUCCESS,
            Counts { written: count(narrow.len()), needed: count(size_of::<u64>()), ..Counts::default() },
        )
    }

    /// Answers OID_GEN_STATISTICS.
    pub fn answer_statistics(self, statistics: &Statistics) -> OidCompletion<'r, K> {
        let raw: NDIS_STATISTICS_INFO = statistics.to_raw();
        const {
            assert!(size_of::<NDIS_STATISTICS_INFO>() == NDIS_SIZEOF_STATISTICS_INFO_REVISION_1 as usize);
        }
        // SAFETY: a header of four bytes, a ULONG and eighteen ULONG64 follow each other without padding (8 + 144 = 152 bytes,
        // the size asserted), so all bytes are initialised.
        let bytes = unsafe {
            slice::from_raw_parts((&raw const raw).cast::<u8>(), size_of::<NDIS_STATISTICS_INFO>())
        };
        self.answer_bytes(bytes)
    }

    /// Answers a query of OID_GEN_INTERRUPT_MODERATION with one of `NdisInterruptModeration*`.
    pub fn answer_interrupt_moderation(self, moderation: NDIS_INTERRUPT_MODERATION) -> OidCompletion<'r, K> {
        let raw = NDIS_INTERRUPT_MODERATION_PARAMETERS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NDIS_INTERRUPT_MODERATION_PARAMETERS_REVISION_1,
                Size: NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1,
            },
            Flags: 0,
            InterruptModeration: moderation,
        };
        const {
            assert!(
                size_of::<NDIS_INTERRUPT_MODERATION_PARAMETERS>()
                    == NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1 as usize
            );
        }
        // SAFETY: a header of four bytes and two 32-bit fields, 12 bytes, have no padding.
        let bytes = unsafe {
            slice::from_raw_parts(
                (&raw const raw).cast::<u8>(),
                size_of::<NDIS_INTERRUPT_MODERATION_PARAMETERS>(),
            )
        };
        self.answer_bytes(bytes)
    }

    /// Applies a set request: `apply` gets the buffer and says how many bytes it used ([`Applied`], or a plain number), or why
    /// not. Anything but a set gets NOT_SUPPORTED.
    pub fn set_bytes<A: Into<Applied>>(
        self,
        apply: impl FnOnce(&[u8]) -> Result<A, SetError>,
    ) -> OidCompletion<'r, K> {
        let request = self;
        if request.kind() != OidKind::Set {
            return request.fail(Status::NOT_SUPPORTED);
        }
        let input = request.input();
        let length = input.len();
        match apply(input) {
            Ok(applied) => {
                let applied = applied.into();
                request.succeed(Applied { read: applied.read.min(length), ..applied }, 0)
            }
            Err(error) => request.fail_needed(error.status, error.needed),
        }
    }

    /// Applies a set request that carries a ULONG, at least: a shorter buffer gets INVALID_LENGTH, a longer one is fine.
    pub fn set_u32(self, apply: impl FnOnce(u32) -> Result<()>) -> OidCompletion<'r, K> {
        self.set_bytes(|input| {
            let bytes = input
                .first_chunk()
                .ok_or(SetError { status: Status::INVALID_LENGTH, needed: size_of::<u32>() })?;
            apply(u32::from_ne_bytes(*bytes))?;
            Ok(size_of::<u32>())
        })
    }

    /// Applies a set request that carries exactly a ULONG: any other length gets INVALID_LENGTH.
    pub fn set_u32_exact(self, apply: impl FnOnce(u32) -> Result<()>) -> OidCompletion<'r, K> {
        self.set_bytes(|input| {
            let bytes = <[u8; 4]>::try_from(input)
                .map_err(|_| SetError { status: Status::INVALID_LENGTH, needed: size_of::<u32>() })?;
            apply(u32::from_ne_bytes(bytes))?;
            Ok(size_of::<u32>())
        })
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::vec::Vec;

    use ndis_sys::{
        NDIS_OID_REQUEST_METHOD, NDIS_OID_REQUEST_QUERY, NDIS_OID_REQUEST_SET, NDIS_REQUEST_TYPE,
    };

    use super::*;
    use crate::oid::Regular;

    const GUARD: u8 = 0xA7;

    /// A request over a buffer that begins `misalign` bytes into its memory and has guards on both sides.
    struct Sent {
        raw: Box<NDIS_OID_REQUEST>,
        memory: Vec<u8>,
        start: usize,
        length: usize,
    }

    impl Sent {
        fn new(kind: NDIS_REQUEST_TYPE, input: &[u8], output: usize, misalign: usize) -> Self {
            let start = 8 + misalign;
            let length = input.len().max(output);
            let mut memory = std::vec![GUARD; start + length + 16];
            memory[start..start + input.len()].copy_from_slice(input);
            let mut raw = Box::new(NDIS_OID_REQUEST::zeroed());
            raw.RequestType = kind;
            let buffer = memory[start..].as_mut_ptr().cast();
            let count = |bytes: usize| u32::try_from(bytes).unwrap();
            match kind {
                NdisRequestSetInformation => {
                    raw.DATA.SET_INFORMATION = NDIS_OID_REQUEST_SET {
                        Oid: 1,
                        InformationBuffer: buffer,
                        InformationBufferLength: count(input.len()),
                        BytesRead: 77,
                        BytesNeeded: 77,
                    };
                }
                NdisRequestMethod => {
                    raw.DATA.METHOD_INFORMATION = NDIS_OID_REQUEST_METHOD {
                        Oid: 1,
                        InformationBuffer: buffer,
                        InputBufferLength: count(input.len()),
                        OutputBufferLength: count(output),
                        MethodId: 0,
                        BytesWritten: 77,
                        BytesRead: 77,
                        BytesNeeded: 77,
                    };
                }
                _ => {
                    raw.DATA.QUERY_INFORMATION = NDIS_OID_REQUEST_QUERY {
                        Oid: 1,
                        InformationBuffer: buffer,
                        InformationBufferLength: count(output),
                        BytesWritten: 77,
                        BytesNeeded: 77,
                    };
                }
            }
            Self { raw, memory, start, length }
        }

        fn query(output: usize, misalign: usize) -> Self {
            Self::new(NdisRequestQueryInformation, &[], output, misalign)
        }

        fn set(input: &[u8], misalign: usize) -> Self {
            Self::new(NdisRequestSetInformation, input, 0, misalign)
        }

        fn run(
            &mut self,
            answer: impl FnOnce(OidRequest<'_, Regular>) -> OidCompletion<'_, Regular>,
        ) -> Status {
            // SAFETY: request and buffer are this test's; the header is only used by a pended request, which no test makes.
            let request = unsafe { OidRequest::from_raw(NonNull::from(&mut *self.raw), NonNull::dangling()) };
            let status = Status::from_raw(answer(request).into_status());
            let (before, rest) = self.memory.split_at(self.start);
            assert!(
                before.iter().chain(&rest[self.length..]).all(|&byte| byte == GUARD),
                "wrote out of bounds"
            );
            status
        }

        fn buffer(&self) -> &[u8] {
            &self.memory[self.start..self.start + self.length]
        }

        fn query_counts(&self) -> (u32, u32) {
            // SAFETY: a query request's member.
            let query = unsafe { self.raw.DATA.QUERY_INFORMATION };
            (query.BytesWritten, query.BytesNeeded)
        }

        fn set_counts(&self) -> (u32, u32) {
            // SAFETY: a set request's member.
            let set = unsafe { self.raw.DATA.SET_INFORMATION };
            (set.BytesRead, set.BytesNeeded)
        }
    }

    #[test]
    fn answers_of_every_length_at_every_offset() {
        let answer: Vec<u8> = (1..=12).collect();
        for misalign in 0..8 {
            for length in 0..20 {
                let mut sent = Sent::query(length, misalign);
                let status = sent.run(|request| request.answer_bytes(&answer));
                if length < answer.len() {
                    assert_eq!((status, sent.query_counts()), (Status::BUFFER_TOO_SHORT, (0, 12)));
                    assert!(
                        sent.buffer().iter().all(|&byte| byte == GUARD),
                        "a short buffer stays untouched"
                    );
                } else {
                    assert_eq!((status, sent.query_counts()), (Status::SUCCESS, (12, 0)));
                    assert_eq!(sent.buffer()[..12], answer);
                    assert!(sent.buffer()[12..].iter().all(|&byte| byte == GUARD));
                }
            }
        }
    }

    #[test]
    fn counters_in_32_and_64_bits() {
        let value = 0x1122_3344_5566_7788_u64;
        for length in 0..17 {
            let mut sent = Sent::query(length, 3);
            let status = sent.run(|request| request.answer_counter64(value));
            match length {
                0..4 => {
                    assert_eq!((status, sent.query_counts()), (Status::BUFFER_TOO_SHORT, (0, 8)));
                    assert!(sent.buffer().iter().all(|&byte| byte == GUARD));
                }
                4..8 => {
                    assert_eq!((status, sent.query_counts()), (Status::SUCCESS, (4, 8)));
                    assert_eq!(sent.buffer()[..4], 0x5566_7788_u32.to_ne_bytes());
                }
                _ => {
                    assert_eq!((status, sent.query_counts()), (Status::SUCCESS, (8, 0)));
                    assert_eq!(sent.buffer()[..8], value.to_ne_bytes());
                }
            }
        }
    }

    #[test]
    fn statistics_take_152_bytes_and_keep_their_sums() {
        let statistics =
            Statistics { in_directed_octets: 5, in_broadcast_octets: 7, ..Statistics::default() };
        let mut sent = Sent::query(151, 0);
        assert_eq!(sent.run(|request| request.answer_statistics(&statistics)), Status::BUFFER_TOO_SHORT);
        assert_eq!(sent.query_counts(), (0, 152));
        let mut sent = Sent::query(152, 5);
        assert_eq!(sent.run(|request| request.answer_statistics(&statistics)), Status::SUCCESS);
        assert_eq!(sent.buffer()[..4], [0x80, 1, 152, 0]);
        let octets = core::mem::offset_of!(NDIS_STATISTICS_INFO, ifHCInOctets);
        assert_eq!(sent.buffer()[octets..octets + 8], 12_u64.to_ne_bytes());
    }

    #[test]
    fn sets_of_every_length_at_every_offset() {
        let input: Vec<u8> = (1..=8).collect();
        for misalign in 0..8 {
            for length in 0..=8 {
                for exact in [false, true] {
                    let mut sent = Sent::set(&input[..length], misalign);
                    let mut seen = None;
                    let status = sent.run(|request| {
                        let apply = |value| {
                            seen = Some(value);
                            Ok(())
                        };
                        if exact { request.set_u32_exact(apply) } else { request.set_u32(apply) }
                    });
                    if length == 4 || (length > 4 && !exact) {
                        assert_eq!((status, sent.set_counts()), (Status::SUCCESS, (4, 0)));
                        assert_eq!(seen, Some(0x0403_0201));
                    } else {
                        assert_eq!((status, sent.set_counts()), (Status::INVALID_LENGTH, (0, 4)));
                        assert_eq!(seen, None);
                    }
                    assert_eq!(sent.buffer(), &input[..length], "a set's buffer is not written");
                }
            }
        }
    }

    #[test]
    fn a_set_reports_what_was_used_and_the_revision() {
        let mut sent = Sent::set(&[0; 10], 0);
        let applied = Applied { read: 6, revision: Some(3) };
        assert_eq!(sent.run(|request| request.set_bytes(|_| Ok::<_, SetError>(applied))), Status::SUCCESS);
        assert_eq!((sent.set_counts(), sent.raw.SupportedRevision), ((6, 0), 3));
        assert_eq!(sent.run(|request| request.set_bytes(|_| Ok::<_, SetError>(11))), Status::SUCCESS);
        assert_eq!(sent.set_counts(), (10, 0), "no more than there was");
        let refused = SetError { status: Status::MULTICAST_FULL, needed: 192 };
        assert_eq!(
            sent.run(|request| request.set_bytes(|_| Err::<usize, _>(refused))),
            Status::MULTICAST_FULL
        );
        assert_eq!(sent.set_counts(), (0, 192));
    }

    #[test]
    fn the_wrong_direction_is_not_supported() {
        let mut query = Sent::query(8, 0);
        assert_eq!(query.run(|request| request.set_u32(|_| panic!("not a set"))), Status::NOT_SUPPORTED);
        assert_eq!(query.query_counts(), (0, 0));
        let mut set = Sent::set(&[0; 8], 0);
        for status in [
            set.run(|request| request.answer_u32(1)),
            set.run(|request| request.answer_counter64(1)),
            set.run(|request| request.answer_bytes(&[])),
        ] {
            assert_eq!(status, Status::NOT_SUPPORTED);
        }
        assert_eq!(set.set_counts(), (0, 0));
        let mut other = Sent::new(8, &[], 8, 0);
        assert_eq!(other.run(|request| request.answer_u32(1)), Status::NOT_SUPPORTED);
    }

    #[test]
    fn methods_have_both_directions() {
        let mut sent = Sent::new(NdisRequestMethod, &[1, 2, 3], 5, 1);
        assert_eq!(
            sent.run(|request| {
                assert_eq!(request.input(), [1, 2, 3]);
                request.answer_u32(9)
            }),
            Status::SUCCESS
        );
        assert_eq!(sent.buffer(), [9, 0, 0, 0, GUARD]);
        // SAFETY: a method request's member.
        let method = unsafe { sent.raw.DATA.METHOD_INFORMATION };
        assert_eq!((method.BytesWritten, method.BytesRead, method.BytesNeeded), (4, 0, 0));
    }

    #[test]
    fn a_null_buffer_has_no_bytes() {
        let mut sent = Sent::query(8, 0);
        sent.raw.DATA.QUERY_INFORMATION.InformationBuffer = ptr::null_mut();
        assert_eq!(sent.run(|request| request.answer_u32(1)), Status::BUFFER_TOO_SHORT);
        let mut sent = Sent::set(&[0; 4], 0);
        sent.raw.DATA.SET_INFORMATION.InformationBuffer = ptr::null_mut();
        assert_eq!(sent.run(|request| request.set_u32(|_| Ok(()))), Status::INVALID_LENGTH);
    }

    #[test]
    fn nothing_is_pending_by_accident() {
        let mut sent = Sent::query(8, 0);
        assert_eq!(sent.run(|request| request.fail(Status::PENDING)), Status::FAILURE);
    }
}
