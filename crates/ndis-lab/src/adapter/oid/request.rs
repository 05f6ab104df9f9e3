//! A request as its sender describes it, and how it ended.

use std::sync::Arc;

use ndis_sys::{NDIS_OID, NDIS_STATUS_INDICATION_REQUIRED, NDIS_STATUS_SUCCESS};

/// What kind of request: NDIS_REQUEST_TYPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidKind {
    /// `NdisRequestQueryInformation`.
    Query,
    /// `NdisRequestSetInformation`.
    Set,
    /// `NdisRequestQueryStatistics`.
    QueryStatistics,
    /// `NdisRequestMethod`.
    Method,
}

/// A request, as its sender describes it.
#[derive(Debug, Clone)]
pub struct Oid {
    /// The object identifier.
    pub oid: NDIS_OID,
    /// Query, set or method.
    pub kind: OidKind,
    /// What goes in: all of the buffer of a set, the input of a method.
    pub input: Vec<u8>,
    /// Bytes of room for the answer of a query or method.
    pub output: usize,
    /// Sent to `MiniportDirectOidRequest` instead of `MiniportOidRequest`.
    pub direct: bool,
    /// Direct requests only: called at DISPATCH_LEVEL.
    pub at_dispatch: bool,
    /// `MethodId`.
    pub method_id: u32,
    /// `RequestId`; 0 is what NDIS uses for its own.
    pub request_id: usize,
    /// `Timeout` in seconds; 0 is never.
    pub timeout: u32,
    /// How far the buffer starts behind an 8-byte boundary: 0 to 7.
    pub misalign: usize,
    /// A buffer that the sender built, in place of `input`: structures linked by pointers.
    pub(super) raw: Option<RawBuffer>,
}

/// A buffer owned by the sender.
#[derive(Clone)]
pub(super) struct RawBuffer {
    pub(super) address: usize,
    pub(super) length: usize,
    pub(super) keep: Arc<dyn Keep>,
}

impl std::fmt::Debug for RawBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawBuffer")
            .field("address", &self.address)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Keeps the memory of a raw buffer alive while its request is pending.
pub(crate) trait Keep: Send + Sync {}

impl Oid {
    fn new(oid: NDIS_OID, kind: OidKind) -> Self {
        Self {
            oid,
            kind,
            input: Vec::new(),
            output: 0,
            direct: false,
            at_dispatch: false,
            method_id: 0,
            request_id: 0,
            timeout: 0,
            misalign: 0,
            raw: None,
        }
    }

    /// A query with `length` bytes of room.
    pub fn query(oid: NDIS_OID, length: usize) -> Self {
        Self { output: length, ..Self::new(oid, OidKind::Query) }
    }

    /// A set of these bytes.
    pub fn set(oid: NDIS_OID, bytes: impl Into<Vec<u8>>) -> Self {
        Self { input: bytes.into(), ..Self::new(oid, OidKind::Set) }
    }

    /// A set of a 32-bit value.
    pub fn set_u32(oid: NDIS_OID, value: u32) -> Self {
        Self::set(oid, value.to_le_bytes())
    }

    /// A method with these input bytes and `output` bytes of room.
    pub fn method(oid: NDIS_OID, input: impl Into<Vec<u8>>, output: usize) -> Self {
        Self { input: input.into(), output, ..Self::new(oid, OidKind::Method) }
    }

    /// A set whose buffer is `length` bytes at `address`, kept alive by `keep`.
    pub(crate) fn raw_set(oid: NDIS_OID, address: usize, length: usize, keep: Arc<dyn Keep>) -> Self {
        Self { raw: Some(RawBuffer { address, length, keep }), ..Self::new(oid, OidKind::Set) }
    }

    /// Sends it as a direct request.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Calls the direct handler at DISPATCH_LEVEL.
    #[must_use]
    pub fn at_dispatch(mut self) -> Self {
        self.at_dispatch = true;
        self
    }

    /// Makes it a method (NDIS sends some sets as methods).
    #[must_use]
    pub fn as_method(mut self) -> Self {
        self.kind = OidKind::Method;
        self
    }

    /// Names it, so that it can be cancelled.
    #[must_use]
    pub fn id(mut self, id: usize) -> Self {
        self.request_id = id;
        self
    }

    /// Moves the buffer off its 8-byte boundary.
    #[must_use]
    pub fn misaligned(mut self, bytes: usize) -> Self {
        self.misalign = bytes % 8;
        self
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidOutcome {
    /// Its status.
    pub status: i32,
    /// Whether the handler left it pending.
    pub pended: bool,
    /// `BytesWritten` (0 for a set).
    pub bytes_written: u32,
    /// `BytesRead` (0 for a query).
    pub bytes_read: u32,
    /// `BytesNeeded`.
    pub bytes_needed: u32,
    /// The buffer as the driver left it, whole; empty for a raw one, which its owner reads.
    pub buffer: Vec<u8>,
    /// `SupportedRevision`.
    pub supported_revision: u8,
}

impl OidOutcome {
    /// Whether it succeeded.
    pub fn is_success(&self) -> bool {
        self.status == NDIS_STATUS_SUCCESS || self.status == NDIS_STATUS_INDICATION_REQUIRED
    }

    /// The answer: the first `BytesWritten` bytes of the buffer.
    pub fn answer(&self) -> &[u8] {
        &self.buffer[..(self.bytes_written as usize).min(self.buffer.len())]
    }

    /// The answer as a 32-bit value.
    pub fn u32(&self) -> Option<u32> {
        self.answer().first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The answer as a 64-bit value.
    pub fn u64(&self) -> Option<u64> {
        self.answer().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
