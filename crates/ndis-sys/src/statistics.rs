//! Counters of an adapter.

use crate::{NDIS_OBJECT_HEADER, ULONG, ULONG64};

#[cfg(doc)] // for links
use crate::*;

/// The adapter's counters, for [`OID_GEN_STATISTICS`]. Octets include the MAC header, not the FCS.
/// `[oid-gen-statistics]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_STATISTICS_INFO {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_STATISTICS_FLAGS_VALID_…`: which counters are valid. Not `NDIS_STATISTICS_…_SUPPORTED`!
    pub SupportedStatistics: ULONG,
    /// Receives discarded: errors and lack of buffers.
    pub ifInDiscards: ULONG64,
    /// Receives with errors.
    pub ifInErrors: ULONG64,
    /// Octets received without errors.
    pub ifHCInOctets: ULONG64,
    /// Directed frames received.
    pub ifHCInUcastPkts: ULONG64,
    /// Multicast frames received.
    pub ifHCInMulticastPkts: ULONG64,
    /// Broadcast frames received.
    pub ifHCInBroadcastPkts: ULONG64,
    /// Octets sent without errors.
    pub ifHCOutOctets: ULONG64,
    /// Directed frames sent.
    pub ifHCOutUcastPkts: ULONG64,
    /// Multicast frames sent.
    pub ifHCOutMulticastPkts: ULONG64,
    /// Broadcast frames sent.
    pub ifHCOutBroadcastPkts: ULONG64,
    /// Sends that failed.
    pub ifOutErrors: ULONG64,
    /// Sends discarded.
    pub ifOutDiscards: ULONG64,
    /// Octets of directed frames received.
    pub ifHCInUcastOctets: ULONG64,
    /// Octets of multicast frames received.
    pub ifHCInMulticastOctets: ULONG64,
    /// Octets of broadcast frames received.
    pub ifHCInBroadcastOctets: ULONG64,
    /// Octets of directed frames sent.
    pub ifHCOutUcastOctets: ULONG64,
    /// Octets of multicast frames sent.
    pub ifHCOutMulticastOctets: ULONG64,
    /// Octets of broadcast frames sent.
    pub ifHCOutBroadcastOctets: ULONG64,
}
const _: () = assert!(size_of::<NDIS_STATISTICS_INFO>() == 152 && align_of::<NDIS_STATISTICS_INFO>() == 8);
/// Valid: bytes of broadcast frames received.
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_RCV: ULONG = 0x0004_0000;
/// Valid: bytes of broadcast frames sent.
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_XMIT: ULONG = 0x0020_0000;
/// Valid: broadcast frames received.
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_RCV: ULONG = 4;
/// Valid: broadcast frames sent.
pub const NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_XMIT: ULONG = 0x100;
/// Valid: bytes received.
pub const NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV: ULONG = 8;
/// Valid: bytes sent.
pub const NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT: ULONG = 0x200;
/// Valid: bytes of directed frames received.
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_RCV: ULONG = 0x0001_0000;
/// Valid: bytes of directed frames sent.
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_XMIT: ULONG = 0x0008_0000;
/// Valid: directed frames received.
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV: ULONG = 1;
/// Valid: directed frames sent.
pub const NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT: ULONG = 0x40;
/// Valid: bytes of multicast frames received.
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_RCV: ULONG = 0x0002_0000;
/// Valid: bytes of multicast frames sent.
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_XMIT: ULONG = 0x0010_0000;
/// Valid: multicast frames received.
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_RCV: ULONG = 2;
/// Valid: multicast frames sent.
pub const NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_XMIT: ULONG = 0x80;
/// Valid: receives discarded.
pub const NDIS_STATISTICS_FLAGS_VALID_RCV_DISCARDS: ULONG = 0x10;
/// Valid: receives with errors.
pub const NDIS_STATISTICS_FLAGS_VALID_RCV_ERROR: ULONG = 0x20;
/// Valid: sends discarded.
pub const NDIS_STATISTICS_FLAGS_VALID_XMIT_DISCARDS: ULONG = 0x8000;
/// Valid: sends that failed.
pub const NDIS_STATISTICS_FLAGS_VALID_XMIT_ERROR: ULONG = 0x400;
