//! Status indications.

use crate::{GUID, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_PORT_NUMBER, NDIS_STATUS, PVOID, ULONG};

#[cfg(doc)] // for links
use crate::*;

/// A change of state that a driver tells the drivers above. `[ns-ndis-_ndis_status_indication]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_STATUS_INDICATION {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The adapter's handle.
    pub SourceHandle: NDIS_HANDLE,
    /// The port.
    pub PortNumber: NDIS_PORT_NUMBER,
    /// What changed.
    pub StatusCode: NDIS_STATUS,
    /// `NDIS_STATUS_INDICATION_FLAGS_…`; 0.
    pub Flags: ULONG,
    /// The receiver; null is all. After [`NDIS_STATUS_INDICATION_REQUIRED`], the OID request's
    /// `RequestHandle`.
    pub DestinationHandle: NDIS_HANDLE,
    /// Null, or the OID request's `RequestId`.
    pub RequestId: PVOID,
    /// Data, valid during the call.
    pub StatusBuffer: PVOID,
    /// Bytes of data.
    pub StatusBufferSize: ULONG,
    /// Of a private indication; else zero.
    pub Guid: GUID,
    /// Reserved for NDIS.
    pub NdisReserved: [PVOID; 4],
}
const _: () =
    assert!(size_of::<NDIS_STATUS_INDICATION>() == 112 && align_of::<NDIS_STATUS_INDICATION>() == 8);

/// NDIS: a reset starts.
pub const NDIS_STATUS_RESET_START: NDIS_STATUS = 0x4001_0004;
/// NDIS: a reset ended.
pub const NDIS_STATUS_RESET_END: NDIS_STATUS = 0x4001_0005;
/// NDIS 5: the link is up.
pub const NDIS_STATUS_MEDIA_CONNECT: NDIS_STATUS = 0x4001_000B;
/// NDIS 5: the link is down.
pub const NDIS_STATUS_MEDIA_DISCONNECT: NDIS_STATUS = 0x4001_000C;
/// The link state changed; data: [`NDIS_LINK_STATE`].
pub const NDIS_STATUS_LINK_STATE: NDIS_STATUS = 0x4001_0017;
/// The link moved to another network; data: [`NDIS_NETWORK_CHANGE_TYPE`].
pub const NDIS_STATUS_NETWORK_CHANGE: NDIS_STATUS = 0x4001_0018;
/// A port's state changed.
pub const NDIS_STATUS_PORT_STATE: NDIS_STATUS = 0x4001_0022;
/// NDIS: the interface's operational status changed.
pub const NDIS_STATUS_OPER_STATUS: NDIS_STATUS = 0x4001_0023;
/// NDIS: the packet filter changed.
pub const NDIS_STATUS_PACKET_FILTER: NDIS_STATUS = 0x4001_0024;
/// The task offloads in force changed, or were set; data: [`NDIS_OFFLOAD`].
pub const NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG: NDIS_STATUS = 0x4002_0006;
/// The hardware's task offloads changed; data: [`NDIS_OFFLOAD`].
pub const NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES: NDIS_STATUS = 0x4002_0007;
/// The supported encapsulation changed; data: [`NDIS_OFFLOAD_ENCAPSULATION`]. Misspelt in the header.
pub const NDIS_STATUS_OFFLOAD_ENCASPULATION_CHANGE: NDIS_STATUS = 0x4002_0008;
/// The MAC address changed (after NDIS 6.30).
pub const NDIS_STATUS_CURRENT_MAC_ADDRESS_CHANGE: NDIS_STATUS = 0x4002_00B0;
/// A wake-on-LAN pattern was given up.
pub const NDIS_STATUS_PM_WOL_PATTERN_REJECTED: NDIS_STATUS = 0x4003_0051;
/// A protocol offload was given up.
pub const NDIS_STATUS_PM_OFFLOAD_REJECTED: NDIS_STATUS = 0x4003_0052;
/// Power management capabilities changed; data: [`NDIS_PM_CAPABILITIES`].
pub const NDIS_STATUS_PM_CAPABILITIES_CHANGE: NDIS_STATUS = 0x4003_0053;
/// How sure it is that the network changed. `[ndis-status-network-change]`
pub type NDIS_NETWORK_CHANGE_TYPE = i32;
/// Possibly.
pub const NdisPossibleNetworkChange: NDIS_NETWORK_CHANGE_TYPE = 1;
/// Certainly.
pub const NdisDefinitelyNetworkChange: NDIS_NETWORK_CHANGE_TYPE = 2;
/// The link came up.
pub const NdisNetworkChangeFromMediaConnect: NDIS_NETWORK_CHANGE_TYPE = 3;
/// The link went from up to up, to another network.
pub const NDIS_STATUS_INDICATION_FLAGS_MEDIA_CONNECT_TO_CONNECT: ULONG = 0x1000;
/// Reserved for NDIS.
pub const NDIS_STATUS_INDICATION_FLAGS_NDIS_RESERVED: ULONG = 0xFFF;
