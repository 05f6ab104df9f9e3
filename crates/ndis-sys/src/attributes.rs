//! Attributes that an adapter gives to NDIS while it initialises.

use crate::{
    BOOLEAN, NDIS_HANDLE, NDIS_HD_SPLIT_ATTRIBUTES, NDIS_INTERFACE_TYPE, NDIS_MEDIA_CONNECT_STATE,
    NDIS_MEDIA_DUPLEX_STATE, NDIS_MEDIUM, NDIS_NIC_SWITCH_CAPABILITIES, NDIS_OBJECT_HEADER, NDIS_OFFLOAD,
    NDIS_OID, NDIS_PHYSICAL_MEDIUM, NDIS_PM_CAPABILITIES, NDIS_PNP_CAPABILITIES, NDIS_QOS_CAPABILITIES,
    NDIS_RECEIVE_FILTER_CAPABILITIES, NDIS_RECEIVE_SCALE_CAPABILITIES, NDIS_SRIOV_CAPABILITIES,
    NDIS_TCP_CONNECTION_OFFLOAD, NET_IF_ACCESS_TYPE, NET_IF_CONNECTION_TYPE, NET_IF_DIRECTION_TYPE,
    NET_IFTYPE, UCHAR, UINT, ULONG, ULONG64, USHORT,
};

#[cfg(doc)] // for links
use crate::*;

/// Attributes that an AddDevice handler sets. `[ns-ndis-_ndis_miniport_add_device_registration_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The driver's context for the device.
    pub MiniportAddDeviceContext: NDIS_HANDLE,
    /// 0.
    pub Flags: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES>() == 24
        && align_of::<NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES>() == 8
);

/// The first attributes an adapter sets; before them no other NdisM function may be called.
/// `[ns-ndis-_ndis_miniport_adapter_registration_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// What NDIS passes to every handler of this adapter.
    pub MiniportAdapterContext: NDIS_HANDLE,
    /// `NDIS_MINIPORT_ATTRIBUTES_…`.
    pub AttributeFlags: ULONG,
    /// Even number of seconds between check-for-hang calls; 0 is the default, 2.
    pub CheckForHangTimeInSeconds: UINT,
    /// The bus; [`NdisInterfaceInternal`] for a root-enumerated device.
    pub InterfaceType: NDIS_INTERFACE_TYPE,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES>() == 32
        && align_of::<NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES>() == 8
);

/// A bus-master DMA device.
pub const NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER: ULONG = 0x40;
/// The miniport activates the default port itself.
pub const NDIS_MINIPORT_ATTRIBUTES_CONTROLS_DEFAULT_PORT: ULONG = 0x80;
/// Protocols are not bound to all connection-oriented adapters.
pub const NDIS_MINIPORT_ATTRIBUTES_DO_NOT_BIND_TO_ALL_CO: ULONG = 0x10;
/// A physical device.
pub const NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE: ULONG = 1;
/// The adapter uses a WDM device below it.
pub const NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM: ULONG = 2;
/// Not connection-oriented, though the driver registers such handlers.
pub const NDIS_MINIPORT_ATTRIBUTES_NOT_CO_NDIS: ULONG = 8;
/// The adapter is not halted for a low-power state.
pub const NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND: ULONG = 0x20;
/// NDIS does not answer OIDs for ports other than the default.
pub const NDIS_MINIPORT_ATTRIBUTES_NO_OID_INTERCEPT_ON_NONDEFAULT_PORTS: ULONG = 0x200;
/// The adapter is not paused for a low-power state.
pub const NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND: ULONG = 0x100;
/// The shutdown handler is called at a bug check too.
pub const NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK: ULONG = 0x400;
/// The device may be removed without notice, and the user is not warned.
pub const NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK: ULONG = 4;

/// What kind of NIC the adapter is. `[ns-ndis-_ndis_miniport_adapter_general_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// 0.
    pub Flags: ULONG,
    /// The medium; must agree with the INF's `*MediaType`.
    pub MediaType: NDIS_MEDIUM,
    /// The physical medium; must agree with the INF's `*PhysicalMediaType`.
    pub PhysicalMediumType: NDIS_PHYSICAL_MEDIUM,
    /// Bytes of a frame's payload, without the MAC header.
    pub MtuSize: ULONG,
    /// Highest transmit speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub MaxXmitLinkSpeed: ULONG64,
    /// Transmit speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub XmitLinkSpeed: ULONG64,
    /// Highest receive speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub MaxRcvLinkSpeed: ULONG64,
    /// Receive speed, bit/s; [`NDIS_LINK_SPEED_UNKNOWN`] if unknown.
    pub RcvLinkSpeed: ULONG64,
    /// Whether the link is up.
    pub MediaConnectState: NDIS_MEDIA_CONNECT_STATE,
    /// Half or full duplex.
    pub MediaDuplexState: NDIS_MEDIA_DUPLEX_STATE,
    /// Bytes of a frame that the adapter can indicate as lookahead.
    pub LookaheadSize: ULONG,
    /// Null since NDIS 6.20.
    pub PowerManagementCapabilities: *mut NDIS_PNP_CAPABILITIES,
    /// `NDIS_MAC_OPTION_…`.
    pub MacOptions: ULONG,
    /// `NDIS_PACKET_TYPE_…` that the adapter can apply.
    pub SupportedPacketFilters: ULONG,
    /// Addresses that fit the multicast list.
    pub MaxMulticastListSize: ULONG,
    /// Bytes of a MAC address, 6 for Ethernet.
    pub MacAddressLength: USHORT,
    /// The address that the NIC was made with.
    pub PermanentMacAddress: [UCHAR; NDIS_MAX_PHYS_ADDRESS_LENGTH],
    /// The address in use.
    pub CurrentMacAddress: [UCHAR; NDIS_MAX_PHYS_ADDRESS_LENGTH],
    /// Receive-side scaling, or null.
    pub RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
    /// [`NET_IF_ACCESS_BROADCAST`] for Ethernet.
    pub AccessType: NET_IF_ACCESS_TYPE,
    /// [`NET_IF_DIRECTION_SENDRECEIVE`] for Ethernet.
    pub DirectionType: NET_IF_DIRECTION_TYPE,
    /// [`NET_IF_CONNECTION_DEDICATED`] for Ethernet.
    pub ConnectionType: NET_IF_CONNECTION_TYPE,
    /// `IF_TYPE_…`, 6 for Ethernet.
    pub IfType: NET_IFTYPE,
    /// [`TRUE`] only with a physical connector.
    pub IfConnectorPresent: BOOLEAN,
    /// `NDIS_STATISTICS_…_SUPPORTED`: the counters that the adapter keeps.
    pub SupportedStatistics: ULONG,
    /// An [`NDIS_SUPPORTED_PAUSE_FUNCTIONS`] value.
    pub SupportedPauseFunctions: ULONG,
    /// Bytes of headroom that the driver wants before a frame's data; usually 0.
    pub DataBackFillSize: ULONG,
    /// Bytes of headroom that the driver wants in an NBL's context; usually 0.
    pub ContextBackFillSize: ULONG,
    /// The OIDs that the driver handles.
    pub SupportedOidList: *mut NDIS_OID,
    /// Bytes (not elements) of the list.
    pub SupportedOidListLength: ULONG,
    /// `NDIS_LINK_STATE_…_AUTO_NEGOTIATED`.
    pub AutoNegotiationFlags: ULONG,
    /// Power management; mandatory since NDIS 6.20, also when nothing is supported.
    pub PowerManagementCapabilitiesEx: *mut NDIS_PM_CAPABILITIES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES>() == 224
        && align_of::<NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES>() == 8
);

/// Bytes reserved for a MAC address of any medium.
pub const NDIS_MAX_PHYS_ADDRESS_LENGTH: usize = 0x20;

/// 802.1p priority; every NDIS 6 miniport sets it.
pub const NDIS_MAC_OPTION_8021P_PRIORITY: ULONG = 0x40;
/// 802.1Q VLAN identifiers; requires the priority option.
pub const NDIS_MAC_OPTION_8021Q_VLAN: ULONG = 0x200;
/// Protocols may copy received data freely.
pub const NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA: ULONG = 1;
/// Ends of transmission are indicated.
pub const NDIS_MAC_OPTION_EOTX_INDICATION: ULONG = 0x20;
/// Full duplex.
pub const NDIS_MAC_OPTION_FULL_DUPLEX: ULONG = 0x10;
/// The NIC does not loop sends back: NDIS does.
pub const NDIS_MAC_OPTION_NO_LOOPBACK: ULONG = 8;
/// Receives are indicated at DISPATCH_LEVEL.
pub const NDIS_MAC_OPTION_RECEIVE_AT_DPC: ULONG = 0x100;
/// Receives are indicated one at a time.
pub const NDIS_MAC_OPTION_RECEIVE_SERIALIZED: ULONG = 2;
/// Reserved.
pub const NDIS_MAC_OPTION_RESERVED: ULONG = 0x8000_0000;
/// The `NetworkAddress` keyword is honoured; NDIS sets it when the driver calls [`NdisReadNetworkAddress`].
pub const NDIS_MAC_OPTION_SUPPORTS_MAC_ADDRESS_OVERWRITE: ULONG = 0x80;
/// Transfers of received data never pend.
pub const NDIS_MAC_OPTION_TRANSFERS_NOT_PEND: ULONG = 4;

/// All frames of local traffic.
pub const NDIS_PACKET_TYPE_ALL_LOCAL: ULONG = 0x80;
/// Every multicast frame.
pub const NDIS_PACKET_TYPE_ALL_MULTICAST: ULONG = 4;
/// Broadcast frames.
pub const NDIS_PACKET_TYPE_BROADCAST: ULONG = 8;
/// Frames to the adapter's address.
pub const NDIS_PACKET_TYPE_DIRECTED: ULONG = 1;
/// Multicast frames to addresses of the multicast list.
pub const NDIS_PACKET_TYPE_MULTICAST: ULONG = 2;
/// No local traffic.
pub const NDIS_PACKET_TYPE_NO_LOCAL: ULONG = 0x0001_0000;
/// Every frame.
pub const NDIS_PACKET_TYPE_PROMISCUOUS: ULONG = 0x20;
/// Source-routing frames.
pub const NDIS_PACKET_TYPE_SOURCE_ROUTING: ULONG = 0x10;

/// The adapter counts bytes of broadcast frames received.
pub const NDIS_STATISTICS_BROADCAST_BYTES_RCV_SUPPORTED: ULONG = 0x8000;
/// The adapter counts bytes of broadcast frames sent.
pub const NDIS_STATISTICS_BROADCAST_BYTES_XMIT_SUPPORTED: ULONG = 0x200;
/// The adapter counts broadcast frames received.
pub const NDIS_STATISTICS_BROADCAST_FRAMES_RCV_SUPPORTED: ULONG = 0x0001_0000;
/// The adapter counts broadcast frames sent.
pub const NDIS_STATISTICS_BROADCAST_FRAMES_XMIT_SUPPORTED: ULONG = 0x400;
/// The adapter counts bytes received.
pub const NDIS_STATISTICS_BYTES_RCV_SUPPORTED: ULONG = 0x0008_0000;
/// The adapter counts bytes sent.
pub const NDIS_STATISTICS_BYTES_XMIT_SUPPORTED: ULONG = 0x0010_0000;
/// The adapter counts bytes of directed frames received.
pub const NDIS_STATISTICS_DIRECTED_BYTES_RCV_SUPPORTED: ULONG = 0x800;
/// The adapter counts bytes of directed frames sent.
pub const NDIS_STATISTICS_DIRECTED_BYTES_XMIT_SUPPORTED: ULONG = 0x20;
/// The adapter counts directed frames received.
pub const NDIS_STATISTICS_DIRECTED_FRAMES_RCV_SUPPORTED: ULONG = 0x1000;
/// The adapter counts directed frames sent.
pub const NDIS_STATISTICS_DIRECTED_FRAMES_XMIT_SUPPORTED: ULONG = 0x40;
/// The adapter answers [`OID_GEN_STATISTICS`].
pub const NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED: ULONG = 0x0040_0000;
/// The adapter counts bytes of multicast frames received.
pub const NDIS_STATISTICS_MULTICAST_BYTES_RCV_SUPPORTED: ULONG = 0x2000;
/// The adapter counts bytes of multicast frames sent.
pub const NDIS_STATISTICS_MULTICAST_BYTES_XMIT_SUPPORTED: ULONG = 0x80;
/// The adapter counts multicast frames received.
pub const NDIS_STATISTICS_MULTICAST_FRAMES_RCV_SUPPORTED: ULONG = 0x4000;
/// The adapter counts multicast frames sent.
pub const NDIS_STATISTICS_MULTICAST_FRAMES_XMIT_SUPPORTED: ULONG = 0x100;
/// The adapter counts receives with a bad checksum.
pub const NDIS_STATISTICS_RCV_CRC_ERROR_SUPPORTED: ULONG = 0x0002_0000;
/// The adapter counts receives discarded.
pub const NDIS_STATISTICS_RCV_DISCARDS_SUPPORTED: ULONG = 0x0020_0000;
/// The adapter counts receives with errors.
pub const NDIS_STATISTICS_RCV_ERROR_SUPPORTED: ULONG = 8;
/// The adapter counts receives lost for lack of buffers.
pub const NDIS_STATISTICS_RCV_NO_BUFFER_SUPPORTED: ULONG = 0x10;
/// The adapter counts frames received.
pub const NDIS_STATISTICS_RCV_OK_SUPPORTED: ULONG = 2;
/// The adapter counts length of the send queue.
pub const NDIS_STATISTICS_TRANSMIT_QUEUE_LENGTH_SUPPORTED: ULONG = 0x0004_0000;
/// The adapter counts sends discarded.
pub const NDIS_STATISTICS_XMIT_DISCARDS_SUPPORTED: ULONG = 0x0800_0000;
/// The adapter counts sends that failed.
pub const NDIS_STATISTICS_XMIT_ERROR_SUPPORTED: ULONG = 4;
/// The adapter counts frames sent.
pub const NDIS_STATISTICS_XMIT_OK_SUPPORTED: ULONG = 1;

/// The adapter's task offloads. `[ns-ndis-_ndis_miniport_adapter_offload_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// What is in force now: capabilities as far as the configuration enables them.
    pub DefaultOffloadConfiguration: *mut NDIS_OFFLOAD,
    /// Everything that the device can do, enabled or not.
    pub HardwareOffloadCapabilities: *mut NDIS_OFFLOAD,
    /// Null.
    pub DefaultTcpConnectionOffloadConfiguration: *mut NDIS_TCP_CONNECTION_OFFLOAD,
    /// Null.
    pub TcpConnectionOffloadHardwareCapabilities: *mut NDIS_TCP_CONNECTION_OFFLOAD,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES>() == 40
        && align_of::<NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES>() == 8
);

/// The adapter's help for virtual machines. Null pointers where it has none.
/// `[ns-ndis-_ndis_miniport_adapter_hardware_assist_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Header-data split.
    pub HDSplitAttributes: *mut NDIS_HD_SPLIT_ATTRIBUTES,
    /// Receive filters that the device can do.
    pub HardwareReceiveFilterCapabilities: *mut NDIS_RECEIVE_FILTER_CAPABILITIES,
    /// Receive filters in force.
    pub CurrentReceiveFilterCapabilities: *mut NDIS_RECEIVE_FILTER_CAPABILITIES,
    /// NIC switches that the device can do.
    pub HardwareNicSwitchCapabilities: *mut NDIS_NIC_SWITCH_CAPABILITIES,
    /// NIC switches in force.
    pub CurrentNicSwitchCapabilities: *mut NDIS_NIC_SWITCH_CAPABILITIES,
    /// SR-IOV that the device can do.
    pub HardwareSriovCapabilities: *mut NDIS_SRIOV_CAPABILITIES,
    /// SR-IOV in force.
    pub CurrentSriovCapabilities: *mut NDIS_SRIOV_CAPABILITIES,
    /// Quality of service that the device can do.
    pub HardwareQosCapabilities: *mut NDIS_QOS_CAPABILITIES,
    /// Quality of service in force.
    pub CurrentQosCapabilities: *mut NDIS_QOS_CAPABILITIES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES>() == 80
        && align_of::<NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES>() == 8
);

/// Attributes for [`NdisMSetMiniportAttributes`]; `Header` tells which. The C union has members for 802.11,
/// NDK and PacketDirect too. `[ns-ndis-_ndis_miniport_adapter_attributes]`
#[derive(Clone, Copy)]
#[repr(C)]
pub union NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Of an AddDevice handler.
    pub AddDeviceRegistrationAttributes: NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES,
    /// Registration.
    pub RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
    /// General.
    pub GeneralAttributes: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    /// Task offload.
    pub OffloadAttributes: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
    /// Help for virtual machines.
    pub HardwareAssistAttributes: NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_ATTRIBUTES>() == 224
        && align_of::<NDIS_MINIPORT_ADAPTER_ATTRIBUTES>() == 8
);
