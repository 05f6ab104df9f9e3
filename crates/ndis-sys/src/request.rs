//! Requests about OIDs. The OIDs are in `oid`.

use crate::{NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OID, NDIS_PORT_NUMBER, PVOID, UCHAR, UINT, ULONG, USHORT};

#[cfg(doc)] // for links
use crate::*;

/// A query. The C header calls it `QUERY`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_OID_REQUEST_QUERY {
    /// What is asked for.
    pub Oid: NDIS_OID,
    /// The data, in place.
    pub InformationBuffer: PVOID,
    /// Bytes of the buffer.
    pub InformationBufferLength: UINT,
    /// Set by the miniport: bytes written to the buffer.
    pub BytesWritten: UINT,
    /// Set by the miniport when the buffer is too short: bytes needed.
    pub BytesNeeded: UINT,
}

/// A set. The C header calls it `SET`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_OID_REQUEST_SET {
    /// What is asked for.
    pub Oid: NDIS_OID,
    /// The data, in place.
    pub InformationBuffer: PVOID,
    /// Bytes of the buffer.
    pub InformationBufferLength: UINT,
    /// Set by the miniport: bytes used of the buffer.
    pub BytesRead: UINT,
    /// Set by the miniport when the buffer is too short: bytes needed.
    pub BytesNeeded: UINT,
}

/// A method request: input and output in one buffer. The C header calls it `METHOD`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_OID_REQUEST_METHOD {
    /// What is asked for.
    pub Oid: NDIS_OID,
    /// The data, in place.
    pub InformationBuffer: PVOID,
    /// Bytes of input in the buffer.
    pub InputBufferLength: ULONG,
    /// Bytes of room for output.
    pub OutputBufferLength: ULONG,
    /// WMI method; 0 otherwise.
    pub MethodId: ULONG,
    /// Set by the miniport: bytes written to the buffer.
    pub BytesWritten: UINT,
    /// Set by the miniport: bytes used of the buffer.
    pub BytesRead: UINT,
    /// Set by the miniport when the buffer is too short: bytes needed.
    pub BytesNeeded: UINT,
}

/// The part of an OID request that depends on its type. The C header calls it `REQUEST_DATA`.
#[derive(Clone, Copy)]
#[repr(C)]
pub union NDIS_OID_REQUEST_DATA {
    /// For [`NdisRequestQueryInformation`] and [`NdisRequestQueryStatistics`].
    pub QUERY_INFORMATION: NDIS_OID_REQUEST_QUERY,
    /// For [`NdisRequestSetInformation`].
    pub SET_INFORMATION: NDIS_OID_REQUEST_SET,
    /// For [`NdisRequestMethod`].
    pub METHOD_INFORMATION: NDIS_OID_REQUEST_METHOD,
}

/// A request about an OID, regular or direct. `[ns-oidrequest-ndis_oid_request]`
#[repr(C)]
pub struct NDIS_OID_REQUEST {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Which member of `DATA` is valid.
    pub RequestType: NDIS_REQUEST_TYPE,
    /// The port.
    pub PortNumber: NDIS_PORT_NUMBER,
    /// Seconds, or [`NDIS_OID_REQUEST_TIMEOUT_INFINITE`].
    pub Timeout: UINT,
    /// By which it is cancelled; null: can't be.
    pub RequestId: PVOID,
    /// The originator's handle.
    pub RequestHandle: NDIS_HANDLE,
    /// The data.
    pub DATA: NDIS_OID_REQUEST_DATA,
    /// Reserved for NDIS.
    pub NdisReserved: [UCHAR; 128],
    /// For the miniport while it owns the request.
    pub MiniportReserved: [UCHAR; 16],
    /// For the originator.
    pub SourceReserved: [UCHAR; 16],
    /// Set by the miniport after a set or method of a revisioned structure: the revision it used.
    pub SupportedRevision: UCHAR,
    /// Reserved.
    pub Reserved1: UCHAR,
    /// Reserved.
    pub Reserved2: USHORT,
}
const _: () = assert!(size_of::<NDIS_OID_REQUEST>() == 240 && align_of::<NDIS_OID_REQUEST>() == 8);

/// Never times out.
pub const NDIS_OID_REQUEST_TIMEOUT_INFINITE: UINT = 0;

/// Type of an OID request; those that reach an NDIS 6 miniport. `[ns-oidrequest-ndis_oid_request]`
pub type NDIS_REQUEST_TYPE = i32;
/// Query.
pub const NdisRequestQueryInformation: NDIS_REQUEST_TYPE = 0;
/// Set.
pub const NdisRequestSetInformation: NDIS_REQUEST_TYPE = 1;
/// Query of a statistic, on behalf of WMI or a user-mode program: a query.
pub const NdisRequestQueryStatistics: NDIS_REQUEST_TYPE = 2;
/// Method.
pub const NdisRequestMethod: NDIS_REQUEST_TYPE = 12;
