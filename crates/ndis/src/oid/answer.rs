//! The ways to answer a request.
//!
//! The helpers keep the rules of the byte counts: a short buffer stays untouched and gets BytesNeeded; success reports the
//! bytes really written or read; any other failure reports none.

use core::ptr;
use core::slice;

use ndis_sys::{
    NDIS_INTERRUPT_MODERATION, NDIS_INTERRUPT_MODERATION_PARAMETERS,
    NDIS_INTERRUPT_MODERATION_PARAMETERS_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1, NDIS_SIZEOF_STATISTICS_INFO_REVISION_1,
    NDIS_STATISTICS_INFO, UINT,
};

use super::{OidCompletion, OidKind, OidPath, OidRequest, Statistics};
use crate::status::{Result, Status};

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

/// The byte counts of an answer, as far as the kind of request has them.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) written: UINT,
    pub(super) read: UINT,
    pub(super) needed: UINT,
}

impl Counts {
    /// So many bytes written and read.
    pub(super) fn of(written: usize, read: usize) -> Self {
        Self { written: count(written), read: count(read), needed: 0 }
    }

    fn needing(self, needed: usize) -> Self {
        Self { needed: count(needed), ..self }
    }
}

/// A count for NDIS; what does not fit, which no buffer of NDIS can reach, is the largest.
fn count(bytes: usize) -> UINT {
    UINT::try_from(bytes).unwrap_or(UINT::MAX)
}

impl<'r, K: OidPath> OidRequest<'r, K> {
    /// Refuses the request; byte counts are 0.
    pub fn fail(self, status: Status) -> OidCompletion<'r, K> {
        self.finish(status, Counts::default())
    }

    /// Refuses the request for its length: BytesNeeded is `needed`.
    pub fn fail_needed(self, status: Status, needed: usize) -> OidCompletion<'r, K> {
        self.finish(status, Counts::default().needing(needed))
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
        self.finish(Status::SUCCESS, Counts::of(bytes.len(), 0))
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
        self.finish(Status::SUCCESS, Counts::of(narrow.len(), 0).needing(size_of::<u64>()))
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
}
