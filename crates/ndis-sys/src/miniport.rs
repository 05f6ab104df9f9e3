//! What a miniport gives to NDIS when it registers and initialises, and what NDIS gives it.

use crate::*;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
    pub Header: NDIS_OBJECT_HEADER,
    pub MajorNdisVersion: UCHAR,
    pub MinorNdisVersion: UCHAR,
    pub MajorDriverVersion: UCHAR,
    pub MinorDriverVersion: UCHAR,
    pub Flags: ULONG,
    pub SetOptionsHandler: SET_OPTIONS_HANDLER,
    pub InitializeHandlerEx: MINIPORT_INITIALIZE_HANDLER,
    pub HaltHandlerEx: MINIPORT_HALT_HANDLER,
    pub UnloadHandler: MINIPORT_DRIVER_UNLOAD,
    pub PauseHandler: MINIPORT_PAUSE_HANDLER,
    pub RestartHandler: MINIPORT_RESTART_HANDLER,
    pub OidRequestHandler: MINIPORT_OID_REQUEST_HANDLER,
    pub SendNetBufferListsHandler: MINIPORT_SEND_NET_BUFFER_LISTS_HANDLER,
    pub ReturnNetBufferListsHandler: MINIPORT_RETURN_NET_BUFFER_LISTS_HANDLER,
    pub CancelSendHandler: MINIPORT_CANCEL_SEND_HANDLER,
    pub CheckForHangHandlerEx: MINIPORT_CHECK_FOR_HANG_HANDLER,
    pub ResetHandlerEx: MINIPORT_RESET_HANDLER,
    pub DevicePnPEventNotifyHandler: MINIPORT_DEVICE_PNP_EVENT_NOTIFY_HANDLER,
    pub ShutdownHandlerEx: MINIPORT_SHUTDOWN_HANDLER,
    pub CancelOidRequestHandler: MINIPORT_CANCEL_OID_REQUEST_HANDLER,
    pub DirectOidRequestHandler: MINIPORT_DIRECT_OID_REQUEST_HANDLER,
    pub CancelDirectOidRequestHandler: MINIPORT_CANCEL_DIRECT_OID_REQUEST_HANDLER,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_DRIVER_CHARACTERISTICS>() == 152
        && align_of::<NDIS_MINIPORT_DRIVER_CHARACTERISTICS>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_INIT_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: ULONG,
    pub AllocatedResources: *mut NDIS_RESOURCE_LIST,
    pub IMDeviceInstanceContext: NDIS_HANDLE,
    pub MiniportAddDeviceContext: NDIS_HANDLE,
    pub IfIndex: NET_IFINDEX,
    pub NetLuid: NET_LUID_LH,
    pub DefaultPortAuthStates: *mut NDIS_PORT_AUTHENTICATION_PARAMETERS,
    pub PciDeviceCustomProperties: *mut NDIS_PCI_DEVICE_CUSTOM_PROPERTIES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_INIT_PARAMETERS>() == 64 && align_of::<NDIS_MINIPORT_INIT_PARAMETERS>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub MiniportAddDeviceContext: NDIS_HANDLE,
    pub Flags: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES>() == 24
        && align_of::<NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub MiniportAdapterContext: NDIS_HANDLE,
    pub AttributeFlags: ULONG,
    pub CheckForHangTimeInSeconds: UINT,
    pub InterfaceType: NDIS_INTERFACE_TYPE,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES>() == 32
        && align_of::<NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: ULONG,
    pub MediaType: NDIS_MEDIUM,
    pub PhysicalMediumType: NDIS_PHYSICAL_MEDIUM,
    pub MtuSize: ULONG,
    pub MaxXmitLinkSpeed: ULONG64,
    pub XmitLinkSpeed: ULONG64,
    pub MaxRcvLinkSpeed: ULONG64,
    pub RcvLinkSpeed: ULONG64,
    pub MediaConnectState: NDIS_MEDIA_CONNECT_STATE,
    pub MediaDuplexState: NDIS_MEDIA_DUPLEX_STATE,
    pub LookaheadSize: ULONG,
    pub PowerManagementCapabilities: *mut NDIS_PNP_CAPABILITIES,
    pub MacOptions: ULONG,
    pub SupportedPacketFilters: ULONG,
    pub MaxMulticastListSize: ULONG,
    pub MacAddressLength: USHORT,
    pub PermanentMacAddress: [UCHAR; 32],
    pub CurrentMacAddress: [UCHAR; 32],
    pub RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
    pub AccessType: NET_IF_ACCESS_TYPE,
    pub DirectionType: NET_IF_DIRECTION_TYPE,
    pub ConnectionType: NET_IF_CONNECTION_TYPE,
    pub IfType: NET_IFTYPE,
    pub IfConnectorPresent: BOOLEAN,
    pub SupportedStatistics: ULONG,
    pub SupportedPauseFunctions: ULONG,
    pub DataBackFillSize: ULONG,
    pub ContextBackFillSize: ULONG,
    pub SupportedOidList: *mut NDIS_OID,
    pub SupportedOidListLength: ULONG,
    pub AutoNegotiationFlags: ULONG,
    pub PowerManagementCapabilitiesEx: *mut NDIS_PM_CAPABILITIES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES>() == 224
        && align_of::<NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub DefaultOffloadConfiguration: *mut NDIS_OFFLOAD,
    pub HardwareOffloadCapabilities: *mut NDIS_OFFLOAD,
    pub DefaultTcpConnectionOffloadConfiguration: *mut NDIS_TCP_CONNECTION_OFFLOAD,
    pub TcpConnectionOffloadHardwareCapabilities: *mut NDIS_TCP_CONNECTION_OFFLOAD,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES>() == 40
        && align_of::<NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub HDSplitAttributes: *mut NDIS_HD_SPLIT_ATTRIBUTES,
    pub HardwareReceiveFilterCapabilities: *mut NDIS_RECEIVE_FILTER_CAPABILITIES,
    pub CurrentReceiveFilterCapabilities: *mut NDIS_RECEIVE_FILTER_CAPABILITIES,
    pub HardwareNicSwitchCapabilities: *mut NDIS_NIC_SWITCH_CAPABILITIES,
    pub CurrentNicSwitchCapabilities: *mut NDIS_NIC_SWITCH_CAPABILITIES,
    pub HardwareSriovCapabilities: *mut NDIS_SRIOV_CAPABILITIES,
    pub CurrentSriovCapabilities: *mut NDIS_SRIOV_CAPABILITIES,
    pub HardwareQosCapabilities: *mut NDIS_QOS_CAPABILITIES,
    pub CurrentQosCapabilities: *mut NDIS_QOS_CAPABILITIES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES>() == 80
        && align_of::<NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy)]
#[repr(C)]
pub union NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub AddDeviceRegistrationAttributes: NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES,
    pub RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
    pub GeneralAttributes: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    pub OffloadAttributes: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
    pub HardwareAssistAttributes: NDIS_MINIPORT_ADAPTER_HARDWARE_ASSIST_ATTRIBUTES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_ADAPTER_ATTRIBUTES>() == 224
        && align_of::<NDIS_MINIPORT_ADAPTER_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_PAUSE_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub Flags: ULONG,
    pub PauseReason: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_PAUSE_PARAMETERS>() == 12 && align_of::<NDIS_MINIPORT_PAUSE_PARAMETERS>() == 4
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_RESTART_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub RestartAttributes: *mut NDIS_RESTART_ATTRIBUTES,
    pub Flags: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_RESTART_PARAMETERS>() == 24
        && align_of::<NDIS_MINIPORT_RESTART_PARAMETERS>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct NDIS_RESTART_ATTRIBUTES {
    pub Next: *mut NDIS_RESTART_ATTRIBUTES,
    pub Oid: NDIS_OID,
    pub DataLength: ULONG,
    pub Data: [UCHAR; 1],
}
const _: () =
    assert!(size_of::<NDIS_RESTART_ATTRIBUTES>() == 32 && align_of::<NDIS_RESTART_ATTRIBUTES>() == 16);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_RESTART_GENERAL_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub MtuSize: ULONG,
    pub MaxXmitLinkSpeed: ULONG64,
    pub MaxRcvLinkSpeed: ULONG64,
    pub LookaheadSize: ULONG,
    pub MacOptions: ULONG,
    pub SupportedPacketFilters: ULONG,
    pub MaxMulticastListSize: ULONG,
    pub RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
    pub AccessType: NET_IF_ACCESS_TYPE,
    pub Flags: ULONG,
    pub ConnectionType: NET_IF_CONNECTION_TYPE,
    pub SupportedStatistics: ULONG,
    pub DataBackFillSize: ULONG,
    pub ContextBackFillSize: ULONG,
    pub SupportedOidList: *mut NDIS_OID,
    pub SupportedOidListLength: ULONG,
    pub MaxLookaheadSizeAccessed: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_RESTART_GENERAL_ATTRIBUTES>() == 88 && align_of::<NDIS_RESTART_GENERAL_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_DEVICE_PNP_EVENT {
    pub Header: NDIS_OBJECT_HEADER,
    pub PortNumber: NDIS_PORT_NUMBER,
    pub DevicePnPEvent: NDIS_DEVICE_PNP_EVENT,
    pub InformationBuffer: PVOID,
    pub InformationBufferLength: ULONG,
    pub NdisReserved: [UCHAR; 16],
}
const _: () = assert!(size_of::<NET_DEVICE_PNP_EVENT>() == 48 && align_of::<NET_DEVICE_PNP_EVENT>() == 8);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_PORT_AUTHENTICATION_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub SendControlState: NDIS_PORT_CONTROL_STATE,
    pub RcvControlState: NDIS_PORT_CONTROL_STATE,
    pub SendAuthorizationState: NDIS_PORT_AUTHORIZATION_STATE,
    pub RcvAuthorizationState: NDIS_PORT_AUTHORIZATION_STATE,
}
const _: () = assert!(
    size_of::<NDIS_PORT_AUTHENTICATION_PARAMETERS>() == 20
        && align_of::<NDIS_PORT_AUTHENTICATION_PARAMETERS>() == 4
);

pub type NDIS_MEDIUM = i32;
pub const NdisMedium802_3: NDIS_MEDIUM = 0;
pub const NdisMedium802_5: NDIS_MEDIUM = 1;
pub const NdisMediumFddi: NDIS_MEDIUM = 2;
pub const NdisMediumWan: NDIS_MEDIUM = 3;
pub const NdisMediumLocalTalk: NDIS_MEDIUM = 4;
pub const NdisMediumDix: NDIS_MEDIUM = 5;
pub const NdisMediumArcnetRaw: NDIS_MEDIUM = 6;
pub const NdisMediumArcnet878_2: NDIS_MEDIUM = 7;
pub const NdisMediumAtm: NDIS_MEDIUM = 8;
pub const NdisMediumWirelessWan: NDIS_MEDIUM = 9;
pub const NdisMediumIrda: NDIS_MEDIUM = 10;
pub const NdisMediumBpc: NDIS_MEDIUM = 11;
pub const NdisMediumCoWan: NDIS_MEDIUM = 12;
pub const NdisMedium1394: NDIS_MEDIUM = 13;
pub const NdisMediumInfiniBand: NDIS_MEDIUM = 14;
pub const NdisMediumTunnel: NDIS_MEDIUM = 15;
pub const NdisMediumNative802_11: NDIS_MEDIUM = 16;
pub const NdisMediumLoopback: NDIS_MEDIUM = 17;
pub const NdisMediumWiMAX: NDIS_MEDIUM = 18;
pub const NdisMediumIP: NDIS_MEDIUM = 19;

pub type NDIS_PHYSICAL_MEDIUM = i32;
pub const NdisPhysicalMediumUnspecified: NDIS_PHYSICAL_MEDIUM = 0;
pub const NdisPhysicalMediumWirelessLan: NDIS_PHYSICAL_MEDIUM = 1;
pub const NdisPhysicalMediumCableModem: NDIS_PHYSICAL_MEDIUM = 2;
pub const NdisPhysicalMediumPhoneLine: NDIS_PHYSICAL_MEDIUM = 3;
pub const NdisPhysicalMediumPowerLine: NDIS_PHYSICAL_MEDIUM = 4;
pub const NdisPhysicalMediumDSL: NDIS_PHYSICAL_MEDIUM = 5;
pub const NdisPhysicalMediumFibreChannel: NDIS_PHYSICAL_MEDIUM = 6;
pub const NdisPhysicalMedium1394: NDIS_PHYSICAL_MEDIUM = 7;
pub const NdisPhysicalMediumWirelessWan: NDIS_PHYSICAL_MEDIUM = 8;
pub const NdisPhysicalMediumNative802_11: NDIS_PHYSICAL_MEDIUM = 9;
pub const NdisPhysicalMediumBluetooth: NDIS_PHYSICAL_MEDIUM = 10;
pub const NdisPhysicalMediumInfiniband: NDIS_PHYSICAL_MEDIUM = 11;
pub const NdisPhysicalMediumWiMax: NDIS_PHYSICAL_MEDIUM = 12;
pub const NdisPhysicalMediumUWB: NDIS_PHYSICAL_MEDIUM = 13;
pub const NdisPhysicalMedium802_3: NDIS_PHYSICAL_MEDIUM = 14;
pub const NdisPhysicalMedium802_5: NDIS_PHYSICAL_MEDIUM = 15;
pub const NdisPhysicalMediumIrda: NDIS_PHYSICAL_MEDIUM = 16;
pub const NdisPhysicalMediumWiredWAN: NDIS_PHYSICAL_MEDIUM = 17;
pub const NdisPhysicalMediumWiredCoWan: NDIS_PHYSICAL_MEDIUM = 18;
pub const NdisPhysicalMediumOther: NDIS_PHYSICAL_MEDIUM = 19;
pub const NdisPhysicalMediumNative802_15_4: NDIS_PHYSICAL_MEDIUM = 20;

pub type NDIS_INTERFACE_TYPE = i32;
pub const NdisInterfaceInternal: NDIS_INTERFACE_TYPE = 0;
pub const NdisInterfaceIsa: NDIS_INTERFACE_TYPE = 1;
pub const NdisInterfaceEisa: NDIS_INTERFACE_TYPE = 2;
pub const NdisInterfaceMca: NDIS_INTERFACE_TYPE = 3;
pub const NdisInterfaceTurboChannel: NDIS_INTERFACE_TYPE = 4;
pub const NdisInterfacePci: NDIS_INTERFACE_TYPE = 5;
pub const NdisInterfacePcMcia: NDIS_INTERFACE_TYPE = 8;
pub const NdisInterfaceCBus: NDIS_INTERFACE_TYPE = 9;
pub const NdisInterfaceMPIBus: NDIS_INTERFACE_TYPE = 10;
pub const NdisInterfaceMPSABus: NDIS_INTERFACE_TYPE = 11;
pub const NdisInterfaceProcessorInternal: NDIS_INTERFACE_TYPE = 12;
pub const NdisInterfaceInternalPowerBus: NDIS_INTERFACE_TYPE = 13;
pub const NdisInterfacePNPISABus: NDIS_INTERFACE_TYPE = 14;
pub const NdisInterfacePNPBus: NDIS_INTERFACE_TYPE = 15;
pub const NdisInterfaceUSB: NDIS_INTERFACE_TYPE = 16;
pub const NdisInterfaceIrda: NDIS_INTERFACE_TYPE = 17;
pub const NdisInterface1394: NDIS_INTERFACE_TYPE = 18;

pub type NET_IF_MEDIA_CONNECT_STATE = i32;
pub const MediaConnectStateUnknown: NET_IF_MEDIA_CONNECT_STATE = 0;
pub const MediaConnectStateConnected: NET_IF_MEDIA_CONNECT_STATE = 1;
pub const MediaConnectStateDisconnected: NET_IF_MEDIA_CONNECT_STATE = 2;

pub type NET_IF_MEDIA_DUPLEX_STATE = i32;
pub const MediaDuplexStateUnknown: NET_IF_MEDIA_DUPLEX_STATE = 0;
pub const MediaDuplexStateHalf: NET_IF_MEDIA_DUPLEX_STATE = 1;
pub const MediaDuplexStateFull: NET_IF_MEDIA_DUPLEX_STATE = 2;

pub type NET_IF_ACCESS_TYPE = i32;
pub const NET_IF_ACCESS_LOOPBACK: NET_IF_ACCESS_TYPE = 1;
pub const NET_IF_ACCESS_BROADCAST: NET_IF_ACCESS_TYPE = 2;
pub const NET_IF_ACCESS_POINT_TO_POINT: NET_IF_ACCESS_TYPE = 3;
pub const NET_IF_ACCESS_POINT_TO_MULTI_POINT: NET_IF_ACCESS_TYPE = 4;

pub type NET_IF_DIRECTION_TYPE = i32;
pub const NET_IF_DIRECTION_SENDRECEIVE: NET_IF_DIRECTION_TYPE = 0;
pub const NET_IF_DIRECTION_SENDONLY: NET_IF_DIRECTION_TYPE = 1;
pub const NET_IF_DIRECTION_RECEIVEONLY: NET_IF_DIRECTION_TYPE = 2;

pub type NET_IF_CONNECTION_TYPE = i32;
pub const NET_IF_CONNECTION_DEDICATED: NET_IF_CONNECTION_TYPE = 1;
pub const NET_IF_CONNECTION_PASSIVE: NET_IF_CONNECTION_TYPE = 2;
pub const NET_IF_CONNECTION_DEMAND: NET_IF_CONNECTION_TYPE = 3;

pub type NDIS_SUPPORTED_PAUSE_FUNCTIONS = i32;
pub const NdisPauseFunctionsUnsupported: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 0;
pub const NdisPauseFunctionsSendOnly: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 1;
pub const NdisPauseFunctionsReceiveOnly: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 2;
pub const NdisPauseFunctionsSendAndReceive: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 3;
pub const NdisPauseFunctionsUnknown: NDIS_SUPPORTED_PAUSE_FUNCTIONS = 4;

pub type NDIS_HALT_ACTION = i32;
pub const NdisHaltDeviceDisabled: NDIS_HALT_ACTION = 0;
pub const NdisHaltDeviceInstanceDeInitialized: NDIS_HALT_ACTION = 1;
pub const NdisHaltDevicePoweredDown: NDIS_HALT_ACTION = 2;
pub const NdisHaltDeviceSurpriseRemoved: NDIS_HALT_ACTION = 3;
pub const NdisHaltDeviceFailed: NDIS_HALT_ACTION = 4;
pub const NdisHaltDeviceInitializationFailed: NDIS_HALT_ACTION = 5;
pub const NdisHaltDeviceStopped: NDIS_HALT_ACTION = 6;

pub type NDIS_SHUTDOWN_ACTION = i32;
pub const NdisShutdownPowerOff: NDIS_SHUTDOWN_ACTION = 0;
pub const NdisShutdownBugCheck: NDIS_SHUTDOWN_ACTION = 1;

pub type NDIS_DEVICE_PNP_EVENT = i32;
pub const NdisDevicePnPEventQueryRemoved: NDIS_DEVICE_PNP_EVENT = 0;
pub const NdisDevicePnPEventRemoved: NDIS_DEVICE_PNP_EVENT = 1;
pub const NdisDevicePnPEventSurpriseRemoved: NDIS_DEVICE_PNP_EVENT = 2;
pub const NdisDevicePnPEventQueryStopped: NDIS_DEVICE_PNP_EVENT = 3;
pub const NdisDevicePnPEventStopped: NDIS_DEVICE_PNP_EVENT = 4;
pub const NdisDevicePnPEventPowerProfileChanged: NDIS_DEVICE_PNP_EVENT = 5;
pub const NdisDevicePnPEventFilterListChanged: NDIS_DEVICE_PNP_EVENT = 6;

pub type NDIS_POWER_PROFILE = i32;
pub const NdisPowerProfileBattery: NDIS_POWER_PROFILE = 0;
pub const NdisPowerProfileAcOnLine: NDIS_POWER_PROFILE = 1;

pub type NDIS_PORT_CONTROL_STATE = i32;
pub const NdisPortControlStateUnknown: NDIS_PORT_CONTROL_STATE = 0;
pub const NdisPortControlStateControlled: NDIS_PORT_CONTROL_STATE = 1;
pub const NdisPortControlStateUncontrolled: NDIS_PORT_CONTROL_STATE = 2;

pub type NDIS_PORT_AUTHORIZATION_STATE = i32;
pub const NdisPortAuthorizationUnknown: NDIS_PORT_AUTHORIZATION_STATE = 0;
pub const NdisPortAuthorized: NDIS_PORT_AUTHORIZATION_STATE = 1;
pub const NdisPortUnauthorized: NDIS_PORT_AUTHORIZATION_STATE = 2;
pub const NdisPortReauthorizing: NDIS_PORT_AUTHORIZATION_STATE = 3;
pub type NDIS_MEDIA_CONNECT_STATE = NET_IF_MEDIA_CONNECT_STATE;
pub type NDIS_MEDIA_DUPLEX_STATE = NET_IF_MEDIA_DUPLEX_STATE;
pub const NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER: ULONG = 0x40;
pub const NDIS_MINIPORT_ATTRIBUTES_CONTROLS_DEFAULT_PORT: ULONG = 0x80;
pub const NDIS_MINIPORT_ATTRIBUTES_DO_NOT_BIND_TO_ALL_CO: ULONG = 0x10;
pub const NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE: ULONG = 1;
pub const NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM: ULONG = 2;
pub const NDIS_MINIPORT_ATTRIBUTES_NOT_CO_NDIS: ULONG = 8;
pub const NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND: ULONG = 0x20;
pub const NDIS_MINIPORT_ATTRIBUTES_NO_OID_INTERCEPT_ON_NONDEFAULT_PORTS: ULONG = 0x200;
pub const NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND: ULONG = 0x100;
pub const NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK: ULONG = 0x400;
pub const NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK: ULONG = 4;
pub const NDIS_MAC_OPTION_8021P_PRIORITY: ULONG = 0x40;
pub const NDIS_MAC_OPTION_8021Q_VLAN: ULONG = 0x200;
pub const NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA: ULONG = 1;
pub const NDIS_MAC_OPTION_EOTX_INDICATION: ULONG = 0x20;
pub const NDIS_MAC_OPTION_FULL_DUPLEX: ULONG = 0x10;
pub const NDIS_MAC_OPTION_NO_LOOPBACK: ULONG = 8;
pub const NDIS_MAC_OPTION_RECEIVE_AT_DPC: ULONG = 0x100;
pub const NDIS_MAC_OPTION_RECEIVE_SERIALIZED: ULONG = 2;
pub const NDIS_MAC_OPTION_RESERVED: ULONG = 0x8000_0000;
pub const NDIS_MAC_OPTION_SUPPORTS_MAC_ADDRESS_OVERWRITE: ULONG = 0x80;
pub const NDIS_MAC_OPTION_TRANSFERS_NOT_PEND: ULONG = 4;
pub const NDIS_PAUSE_ATTACH_FILTER: ULONG = 0x10;
pub const NDIS_PAUSE_BIND_PROTOCOL: ULONG = 4;
pub const NDIS_PAUSE_DETACH_FILTER: ULONG = 0x20;
pub const NDIS_PAUSE_FILTER_RESTART_STACK: ULONG = 0x40;
pub const NDIS_PAUSE_LOW_POWER: ULONG = 2;
pub const NDIS_PAUSE_MINIPORT_DEVICE_REMOVE: ULONG = 0x80;
pub const NDIS_PAUSE_NDIS_INTERNAL: ULONG = 1;
pub const NDIS_PAUSE_UNBIND_PROTOCOL: ULONG = 8;
pub const NDIS_LINK_STATE_DUPLEX_AUTO_NEGOTIATED: ULONG = 4;
pub const NDIS_LINK_STATE_PAUSE_FUNCTIONS_AUTO_NEGOTIATED: ULONG = 8;
pub const NDIS_LINK_STATE_RCV_LINK_SPEED_AUTO_NEGOTIATED: ULONG = 2;
pub const NDIS_LINK_STATE_XMIT_LINK_SPEED_AUTO_NEGOTIATED: ULONG = 1;
pub const NDIS_STATISTICS_BROADCAST_BYTES_RCV_SUPPORTED: ULONG = 0x8000;
pub const NDIS_STATISTICS_BROADCAST_BYTES_XMIT_SUPPORTED: ULONG = 0x200;
pub const NDIS_STATISTICS_BROADCAST_FRAMES_RCV_SUPPORTED: ULONG = 0x0001_0000;
pub const NDIS_STATISTICS_BROADCAST_FRAMES_XMIT_SUPPORTED: ULONG = 0x400;
pub const NDIS_STATISTICS_BYTES_RCV_SUPPORTED: ULONG = 0x0008_0000;
pub const NDIS_STATISTICS_BYTES_XMIT_SUPPORTED: ULONG = 0x0010_0000;
pub const NDIS_STATISTICS_DIRECTED_BYTES_RCV_SUPPORTED: ULONG = 0x800;
pub const NDIS_STATISTICS_DIRECTED_BYTES_XMIT_SUPPORTED: ULONG = 0x20;
pub const NDIS_STATISTICS_DIRECTED_FRAMES_RCV_SUPPORTED: ULONG = 0x1000;
pub const NDIS_STATISTICS_DIRECTED_FRAMES_XMIT_SUPPORTED: ULONG = 0x40;
pub const NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED: ULONG = 0x0040_0000;
pub const NDIS_STATISTICS_MULTICAST_BYTES_RCV_SUPPORTED: ULONG = 0x2000;
pub const NDIS_STATISTICS_MULTICAST_BYTES_XMIT_SUPPORTED: ULONG = 0x80;
pub const NDIS_STATISTICS_MULTICAST_FRAMES_RCV_SUPPORTED: ULONG = 0x4000;
pub const NDIS_STATISTICS_MULTICAST_FRAMES_XMIT_SUPPORTED: ULONG = 0x100;
pub const NDIS_STATISTICS_RCV_CRC_ERROR_SUPPORTED: ULONG = 0x0002_0000;
pub const NDIS_STATISTICS_RCV_DISCARDS_SUPPORTED: ULONG = 0x0020_0000;
pub const NDIS_STATISTICS_RCV_ERROR_SUPPORTED: ULONG = 8;
pub const NDIS_STATISTICS_RCV_NO_BUFFER_SUPPORTED: ULONG = 0x10;
pub const NDIS_STATISTICS_RCV_OK_SUPPORTED: ULONG = 2;
pub const NDIS_STATISTICS_TRANSMIT_QUEUE_LENGTH_SUPPORTED: ULONG = 0x0004_0000;
pub const NDIS_STATISTICS_XMIT_DISCARDS_SUPPORTED: ULONG = 0x0800_0000;
pub const NDIS_STATISTICS_XMIT_ERROR_SUPPORTED: ULONG = 4;
pub const NDIS_STATISTICS_XMIT_OK_SUPPORTED: ULONG = 1;
pub const NDIS_RESTART_GENERAL_ATTRIBUTES_MAX_LOOKAHEAD_ACCESSED_DEFINED: ULONG = 1;
pub const NDIS_INTERMEDIATE_DRIVER: ULONG = 1;
pub const NDIS_WDM_DRIVER: ULONG = 2;
pub const NDIS_MAX_PHYS_ADDRESS_LENGTH: ULONG = 0x20;
pub const NDIS_DEFAULT_PORT_NUMBER: ULONG = 0;
pub const NDIS_RUNTIME_VERSION_60: ULONG = 0x0006_0000;
pub const NDIS_RUNTIME_VERSION_61: ULONG = 0x0006_0001;
pub const NDIS_RUNTIME_VERSION_620: ULONG = 0x0006_0014;
pub const NDIS_RUNTIME_VERSION_630: ULONG = 0x0006_001E;
pub const NDIS_RUNTIME_VERSION_640: ULONG = 0x0006_0028;
pub const NDIS_RUNTIME_VERSION_650: ULONG = 0x0006_0032;
pub const NDIS_RUNTIME_VERSION_651: ULONG = 0x0006_0033;
pub const NDIS_RUNTIME_VERSION_660: ULONG = 0x0006_003C;
pub const NDIS_RUNTIME_VERSION_670: ULONG = 0x0006_0046;
pub const NDIS_RUNTIME_VERSION_680: ULONG = 0x0006_0050;
pub const IF_TYPE_ETHERNET_CSMACD: USHORT = 6;
pub const IF_TYPE_OTHER: USHORT = 1;
pub const IF_TYPE_PROP_VIRTUAL: USHORT = 0x35;
pub const NDIS_LINK_SPEED_UNKNOWN: ULONG64 = u64::MAX;
