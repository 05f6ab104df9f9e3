//! The kind of a NIC, its link and its interrupts.

use crate::{NDIS_OBJECT_HEADER, NET_IFTYPE, ULONG, ULONG64};

#[cfg(doc)] // for links
use crate::*;

/// A medium, as NDIS numbers them; those that Ethernet-like drivers meet. `[ne-ntddndis-_ndis_medium]`
pub type NDIS_MEDIUM = i32;
/// Ethernet.
pub const NdisMedium802_3: NDIS_MEDIUM = 0;
/// 802.11 without Ethernet emulation.
pub const NdisMediumNative802_11: NDIS_MEDIUM = 16;
/// Loopback.
pub const NdisMediumLoopback: NDIS_MEDIUM = 17;
/// Raw IP packets.
pub const NdisMediumIP: NDIS_MEDIUM = 19;

/// A physical medium; those that Ethernet-like drivers meet. `[oid-gen-physical-medium]`
pub type NDIS_PHYSICAL_MEDIUM = i32;
/// Unspecified.
pub const NdisPhysicalMediumUnspecified: NDIS_PHYSICAL_MEDIUM = 0;
/// 802.11.
pub const NdisPhysicalMediumNative802_11: NDIS_PHYSICAL_MEDIUM = 9;
/// Ethernet.
pub const NdisPhysicalMedium802_3: NDIS_PHYSICAL_MEDIUM = 14;
/// Another.
pub const NdisPhysicalMediumOther: NDIS_PHYSICAL_MEDIUM = 19;

/// The bus of an adapter; those that current drivers meet. `[ne-miniport-_interface_type]`
pub type NDIS_INTERFACE_TYPE = i32;
/// None: a software or root-enumerated device.
pub const NdisInterfaceInternal: NDIS_INTERFACE_TYPE = 0;
/// PCI and PCI Express.
pub const NdisInterfacePci: NDIS_INTERFACE_TYPE = 5;
/// A Plug and Play bus.
pub const NdisInterfacePNPBus: NDIS_INTERFACE_TYPE = 15;
/// USB.
pub const NdisInterfaceUSB: NDIS_INTERFACE_TYPE = 16;

/// Ethernet.
pub const IF_TYPE_ETHERNET_CSMACD: NET_IFTYPE = 6;
/// None of the others.
pub const IF_TYPE_OTHER: NET_IFTYPE = 1;
/// A virtual interface.
pub const IF_TYPE_PROP_VIRTUAL: NET_IFTYPE = 0x35;

/// How stations share the medium. `[ns-ndis-_ndis_miniport_adapter_general_attributes]`
pub type NET_IF_ACCESS_TYPE = i32;
/// Loopback.
pub const NET_IF_ACCESS_LOOPBACK: NET_IF_ACCESS_TYPE = 1;
/// Broadcast, as Ethernet.
pub const NET_IF_ACCESS_BROADCAST: NET_IF_ACCESS_TYPE = 2;
/// Point to point.
pub const NET_IF_ACCESS_POINT_TO_POINT: NET_IF_ACCESS_TYPE = 3;
/// Point to many, without broadcast.
pub const NET_IF_ACCESS_POINT_TO_MULTI_POINT: NET_IF_ACCESS_TYPE = 4;

/// In which directions an interface works. `[ns-ndis-_ndis_miniport_adapter_general_attributes]`
pub type NET_IF_DIRECTION_TYPE = i32;
/// Both.
pub const NET_IF_DIRECTION_SENDRECEIVE: NET_IF_DIRECTION_TYPE = 0;
/// Sends only.
pub const NET_IF_DIRECTION_SENDONLY: NET_IF_DIRECTION_TYPE = 1;
/// Receives only.
pub const NET_IF_DIRECTION_RECEIVEONLY: NET_IF_DIRECTION_TYPE = 2;

/// How an interface is connected. `[ns-ndis-_ndis_miniport_adapter_general_attributes]`
pub type NET_IF_CONNECTION_TYPE = i32;
/// Always, as Ethernet.
pub const NET_IF_CONNECTION_DEDICATED: NET_IF_CONNECTION_TYPE = 1;
/// By the other side.
pub const NET_IF_CONNECTION_PASSIVE: NET_IF_CONNECTION_TYPE = 2;
/// On demand.
pub const NET_IF_CONNECTION_DEMAND: NET_IF_CONNECTION_TYPE = 3;

/// The state of the link, indicated with [`NDIS_STATUS_LINK_STATE`]. `[ns-ntddndis-_ndis_link_state]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_LINK_STATE {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Whether the link is up.
    pub MediaConnectState: NDIS_MEDIA_CONNECT_STATE,
    /// Half or full duplex.
    pub MediaDuplexState: NDIS_MEDIA_DUPLEX_STATE,
    /// Transmit speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub XmitLinkSpeed: ULONG64,
    /// Receive speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub RcvLinkSpeed: ULONG64,
    /// Flow control in force.
    pub PauseFunctions: NDIS_SUPPORTED_PAUSE_FUNCTIONS,
    /// `NDIS_LINK_STATE_…_AUTO_NEGOTIATED`.
    pub AutoNegotiationFlags: ULONG,
}
const _: () = assert!(size_of::<NDIS_LINK_STATE>() == 40 && align_of::<NDIS_LINK_STATE>() == 8);

/// Link parameters set with [`OID_GEN_LINK_PARAMETERS`]. `[oid-gen-link-parameters]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_LINK_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Half or full duplex.
    pub MediaDuplexState: NDIS_MEDIA_DUPLEX_STATE,
    /// Transmit speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub XmitLinkSpeed: ULONG64,
    /// Receive speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub RcvLinkSpeed: ULONG64,
    /// Flow control wanted.
    pub PauseFunctions: NDIS_SUPPORTED_PAUSE_FUNCTIONS,
    /// `NDIS_LINK_STATE_…_AUTO_NEGOTIATED`.
    pub AutoNegotiationFlags: ULONG,
}
const _: () = assert!(size_of::<NDIS_LINK_PARAMETERS>() == 32 && align_of::<NDIS_LINK_PARAMETERS>() == 8);

/// A link speed that is not known. `[ns-ntddndis-_ndis_link_state]`
pub const NDIS_LINK_SPEED_UNKNOWN: ULONG64 = u64::MAX;
/// The duplex state was negotiated.
pub const NDIS_LINK_STATE_DUPLEX_AUTO_NEGOTIATED: ULONG = 4;
/// The pause functions were negotiated.
pub const NDIS_LINK_STATE_PAUSE_FUNCTIONS_AUTO_NEGOTIATED: ULONG = 8;
/// The receive speed was negotiated.
pub const NDIS_LINK_STATE_RCV_LINK_SPEED_AUTO_NEGOTIATED: ULONG = 2;
/// The transmit speed was negotiated.
pub const NDIS_LINK_STATE_XMIT_LINK_SPEED_AUTO_NEGOTIATED: ULONG = 1;

/// Whether a link is up. `[ns-ndis-_ndis_miniport_adapter_general_attributes]`
pub type NET_IF_MEDIA_CONNECT_STATE = i32;
/// Unknown.
pub const MediaConnectStateUnknown: NET_IF_MEDIA_CONNECT_STATE = 0;
/// Up.
pub const MediaConnectStateConnected: NET_IF_MEDIA_CONNECT_STATE = 1;
/// Down.
pub const MediaConnectStateDisconnected: NET_IF_MEDIA_CONNECT_STATE = 2;
/// Whether a link is up.
pub type NDIS_MEDIA_CONNECT_STATE = NET_IF_MEDIA_CONNECT_STATE;

/// The duplex state of a link. `[ns-ndis-_ndis_miniport_adapter_general_attributes]`
pub type NET_IF_MEDIA_DUPLEX_STATE = i32;
/// Unknown.
pub const MediaDuplexStateUnknown: NET_IF_MEDIA_DUPLEX_STATE = 0;
/// Half duplex.
pub const MediaDuplexStateHalf: NET_IF_MEDIA_DUPLEX_STATE = 1;
/// Full duplex.
pub const MediaDuplexStateFull: NET_IF_MEDIA_DUPLEX_STATE = 2;
/// The duplex state of a link.
pub type NDIS_MEDIA_DUPLEX_STATE = NET_IF_MEDIA_DUPLEX_STATE;

/// Flow control by 802.3x pause frames. `[ns-ntddndis-_ndis_link_state]`
pub type NDIS_SUPPORTED_PAUSE_FUNCTIONS = i32;
/// None.
pub const NdisPauseFunctionsUnsupported: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 0;
/// Pause frames are sent.
pub const NdisPauseFunctionsSendOnly: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 1;
/// Pause frames are obeyed.
pub const NdisPauseFunctionsReceiveOnly: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 2;
/// Both.
pub const NdisPauseFunctionsSendAndReceive: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 3;
/// Unknown.
pub const NdisPauseFunctionsUnknown: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 4;

/// State of the medium, for [`OID_GEN_MEDIA_CONNECT_STATUS`]. Beware: other numbers than
/// [`NET_IF_MEDIA_CONNECT_STATE`]. `[oid-gen-media-connect-status]`
pub type NDIS_MEDIA_STATE = i32;
/// Connected.
pub const NdisMediaStateConnected: NDIS_MEDIA_STATE = 0;
/// Disconnected.
pub const NdisMediaStateDisconnected: NDIS_MEDIA_STATE = 1;

/// State of the hardware, for [`OID_GEN_HARDWARE_STATUS`]. `[oid-gen-hardware-status]`
pub type NDIS_HARDWARE_STATUS = i32;
/// Ready.
pub const NdisHardwareStatusReady: NDIS_HARDWARE_STATUS = 0;
/// Initialising.
pub const NdisHardwareStatusInitializing: NDIS_HARDWARE_STATUS = 1;
/// Resetting.
pub const NdisHardwareStatusReset: NDIS_HARDWARE_STATUS = 2;
/// Closing.
pub const NdisHardwareStatusClosing: NDIS_HARDWARE_STATUS = 3;
/// Not ready.
pub const NdisHardwareStatusNotReady: NDIS_HARDWARE_STATUS = 4;

/// Interrupt moderation, for [`OID_GEN_INTERRUPT_MODERATION`].
/// `[ns-ntddndis-_ndis_interrupt_moderation_parameters]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_INTERRUPT_MODERATION_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_INTERRUPT_MODERATION_CHANGE_…`.
    pub Flags: ULONG,
    /// The state.
    pub InterruptModeration: NDIS_INTERRUPT_MODERATION,
}
const _: () = assert!(
    size_of::<NDIS_INTERRUPT_MODERATION_PARAMETERS>() == 12
        && align_of::<NDIS_INTERRUPT_MODERATION_PARAMETERS>() == 4
);

/// State of interrupt moderation. `[ns-ntddndis-_ndis_interrupt_moderation_parameters]`
pub type NDIS_INTERRUPT_MODERATION = i32;
/// Unknown.
pub const NdisInterruptModerationUnknown: NDIS_INTERRUPT_MODERATION = 0;
/// Not supported.
pub const NdisInterruptModerationNotSupported: NDIS_INTERRUPT_MODERATION = 1;
/// On.
pub const NdisInterruptModerationEnabled: NDIS_INTERRUPT_MODERATION = 2;
/// Off.
pub const NdisInterruptModerationDisabled: NDIS_INTERRUPT_MODERATION = 3;

/// A change takes effect after the adapter is halted and initialised.
pub const NDIS_INTERRUPT_MODERATION_CHANGE_NEEDS_REINITIALIZE: ULONG = 2;
/// A change takes effect after a reset.
pub const NDIS_INTERRUPT_MODERATION_CHANGE_NEEDS_RESET: ULONG = 1;
