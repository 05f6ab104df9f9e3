//! What a miniport driver registers, and what NDIS passes to the handlers of an adapter's life.

use crate::{
    MINIPORT_CANCEL_DIRECT_OID_REQUEST_HANDLER, MINIPORT_CANCEL_OID_REQUEST_HANDLER,
    MINIPORT_CANCEL_SEND_HANDLER, MINIPORT_CHECK_FOR_HANG_HANDLER, MINIPORT_DEVICE_PNP_EVENT_NOTIFY_HANDLER,
    MINIPORT_DIRECT_OID_REQUEST_HANDLER, MINIPORT_DRIVER_UNLOAD, MINIPORT_HALT_HANDLER,
    MINIPORT_INITIALIZE_HANDLER, MINIPORT_OID_REQUEST_HANDLER, MINIPORT_PAUSE_HANDLER,
    MINIPORT_RESET_HANDLER, MINIPORT_RESTART_HANDLER, MINIPORT_RETURN_NET_BUFFER_LISTS_HANDLER,
    MINIPORT_SEND_NET_BUFFER_LISTS_HANDLER, MINIPORT_SHUTDOWN_HANDLER, NDIS_HANDLE, NDIS_OBJECT_HEADER,
    NDIS_OID, NDIS_PCI_DEVICE_CUSTOM_PROPERTIES, NDIS_PORT_NUMBER, NDIS_RECEIVE_SCALE_CAPABILITIES,
    NDIS_RESOURCE_LIST, NET_IF_ACCESS_TYPE, NET_IF_CONNECTION_TYPE, NET_IFINDEX, NET_LUID_LH, PVOID,
    SET_OPTIONS_HANDLER, UCHAR, UINT, ULONG, ULONG64,
};

#[cfg(doc)] // for links
use crate::*;

/// What a miniport driver registers: its versions and entry points. NDIS copies it.
/// `[ns-ndis-_ndis_miniport_driver_characteristics]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// 6.
    pub MajorNdisVersion: UCHAR,
    /// 30 for NDIS 6.30 (decimal).
    pub MinorNdisVersion: UCHAR,
    /// The driver's own major version.
    pub MajorDriverVersion: UCHAR,
    /// The driver's own minor version.
    pub MinorDriverVersion: UCHAR,
    /// 0, [`NDIS_INTERMEDIATE_DRIVER`] or [`NDIS_WDM_DRIVER`].
    pub Flags: ULONG,
    /// Optional; called inside [`NdisMRegisterMiniportDriver`].
    pub SetOptionsHandler: SET_OPTIONS_HANDLER,
    /// Mandatory.
    pub InitializeHandlerEx: MINIPORT_INITIALIZE_HANDLER,
    /// Mandatory.
    pub HaltHandlerEx: MINIPORT_HALT_HANDLER,
    /// Mandatory.
    pub UnloadHandler: MINIPORT_DRIVER_UNLOAD,
    /// Mandatory.
    pub PauseHandler: MINIPORT_PAUSE_HANDLER,
    /// Mandatory.
    pub RestartHandler: MINIPORT_RESTART_HANDLER,
    /// Mandatory.
    pub OidRequestHandler: MINIPORT_OID_REQUEST_HANDLER,
    /// Mandatory.
    pub SendNetBufferListsHandler: MINIPORT_SEND_NET_BUFFER_LISTS_HANDLER,
    /// Mandatory.
    pub ReturnNetBufferListsHandler: MINIPORT_RETURN_NET_BUFFER_LISTS_HANDLER,
    /// Mandatory.
    pub CancelSendHandler: MINIPORT_CANCEL_SEND_HANDLER,
    /// Optional; discouraged since NDIS 6.83.
    pub CheckForHangHandlerEx: MINIPORT_CHECK_FOR_HANG_HANDLER,
    /// Needed only with `CheckForHangHandlerEx`.
    pub ResetHandlerEx: MINIPORT_RESET_HANDLER,
    /// Mandatory.
    pub DevicePnPEventNotifyHandler: MINIPORT_DEVICE_PNP_EVENT_NOTIFY_HANDLER,
    /// Mandatory.
    pub ShutdownHandlerEx: MINIPORT_SHUTDOWN_HANDLER,
    /// Mandatory.
    pub CancelOidRequestHandler: MINIPORT_CANCEL_OID_REQUEST_HANDLER,
    /// Optional (revision 2): IPsec offload needs it. With `CancelDirectOidRequestHandler` or not at all.
    pub DirectOidRequestHandler: MINIPORT_DIRECT_OID_REQUEST_HANDLER,
    /// Optional (revision 2); see `DirectOidRequestHandler`.
    pub CancelDirectOidRequestHandler: MINIPORT_CANCEL_DIRECT_OID_REQUEST_HANDLER,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_DRIVER_CHARACTERISTICS>() == 152
        && align_of::<NDIS_MINIPORT_DRIVER_CHARACTERISTICS>() == 8
);

/// An intermediate driver.
pub const NDIS_INTERMEDIATE_DRIVER: ULONG = 1;
/// A WDM driver below.
pub const NDIS_WDM_DRIVER: ULONG = 2;

/// What NDIS tells an adapter about itself at initialisation. `[ns-ndis-_ndis_miniport_init_parameters]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_INIT_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Flags; 0 for an ordinary miniport.
    pub Flags: ULONG,
    /// Hardware resources; null for a software device.
    pub AllocatedResources: *mut NDIS_RESOURCE_LIST,
    /// Context of an intermediate driver; null otherwise.
    pub IMDeviceInstanceContext: NDIS_HANDLE,
    /// What the driver's AddDevice handler registered; null without one.
    pub MiniportAddDeviceContext: NDIS_HANDLE,
    /// Index of the adapter's network interface.
    pub IfIndex: NET_IFINDEX,
    /// Identifier of the adapter's network interface.
    pub NetLuid: NET_LUID_LH,
    /// State of the default port; null: as the general attributes say.
    pub DefaultPortAuthStates: *mut NDIS_PORT_AUTHENTICATION_PARAMETERS,
    /// PCI properties, or null.
    pub PciDeviceCustomProperties: *mut NDIS_PCI_DEVICE_CUSTOM_PROPERTIES,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_INIT_PARAMETERS>() == 64 && align_of::<NDIS_MINIPORT_INIT_PARAMETERS>() == 8
);

/// The default port.
pub const NDIS_DEFAULT_PORT_NUMBER: NDIS_PORT_NUMBER = 0;

/// Control and authorization state of a port. `[ns-ntddndis-_ndis_port_authentication_parameters]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_PORT_AUTHENTICATION_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Whether sends are controlled.
    pub SendControlState: NDIS_PORT_CONTROL_STATE,
    /// Whether receives are controlled.
    pub RcvControlState: NDIS_PORT_CONTROL_STATE,
    /// Whether sends are authorized.
    pub SendAuthorizationState: NDIS_PORT_AUTHORIZATION_STATE,
    /// Whether receives are authorized.
    pub RcvAuthorizationState: NDIS_PORT_AUTHORIZATION_STATE,
}
const _: () = assert!(
    size_of::<NDIS_PORT_AUTHENTICATION_PARAMETERS>() == 20
        && align_of::<NDIS_PORT_AUTHENTICATION_PARAMETERS>() == 4
);

/// Whether traffic of a port depends on its authorization. `[ns-ntddndis-_ndis_port_authentication_parameters]`
pub type NDIS_PORT_CONTROL_STATE = i32;
/// Unknown.
pub const NdisPortControlStateUnknown: NDIS_PORT_CONTROL_STATE = 0;
/// Only authorized traffic passes.
pub const NdisPortControlStateControlled: NDIS_PORT_CONTROL_STATE = 1;
/// All traffic passes.
pub const NdisPortControlStateUncontrolled: NDIS_PORT_CONTROL_STATE = 2;

/// Whether a port is authorized. `[ns-ntddndis-_ndis_port_authentication_parameters]`
pub type NDIS_PORT_AUTHORIZATION_STATE = i32;
/// Unknown.
pub const NdisPortAuthorizationUnknown: NDIS_PORT_AUTHORIZATION_STATE = 0;
/// Authorized.
pub const NdisPortAuthorized: NDIS_PORT_AUTHORIZATION_STATE = 1;
/// Not authorized.
pub const NdisPortUnauthorized: NDIS_PORT_AUTHORIZATION_STATE = 2;
/// Being authorized again.
pub const NdisPortReauthorizing: NDIS_PORT_AUTHORIZATION_STATE = 3;

/// Why an adapter is to pause. `[ns-ndis-_ndis_miniport_pause_parameters]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_PAUSE_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// 0.
    pub Flags: ULONG,
    /// `NDIS_PAUSE_…`.
    pub PauseReason: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_PAUSE_PARAMETERS>() == 12 && align_of::<NDIS_MINIPORT_PAUSE_PARAMETERS>() == 4
);

/// A filter is to be attached.
pub const NDIS_PAUSE_ATTACH_FILTER: ULONG = 0x10;
/// A protocol is to be bound.
pub const NDIS_PAUSE_BIND_PROTOCOL: ULONG = 4;
/// A filter is to be detached.
pub const NDIS_PAUSE_DETACH_FILTER: ULONG = 0x20;
/// A filter asked to restart the stack.
pub const NDIS_PAUSE_FILTER_RESTART_STACK: ULONG = 0x40;
/// The adapter goes to a low-power state.
pub const NDIS_PAUSE_LOW_POWER: ULONG = 2;
/// The device is to be removed.
pub const NDIS_PAUSE_MINIPORT_DEVICE_REMOVE: ULONG = 0x80;
/// A reason of NDIS's own.
pub const NDIS_PAUSE_NDIS_INTERNAL: ULONG = 1;
/// A protocol is to be unbound.
pub const NDIS_PAUSE_UNBIND_PROTOCOL: ULONG = 8;

/// How an adapter is to restart. `[ns-ndis-_ndis_miniport_restart_parameters]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_MINIPORT_RESTART_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// A list of attributes that changed, or null.
    pub RestartAttributes: *mut NDIS_RESTART_ATTRIBUTES,
    /// 0.
    pub Flags: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_MINIPORT_RESTART_PARAMETERS>() == 24
        && align_of::<NDIS_MINIPORT_RESTART_PARAMETERS>() == 8
);

/// An element of the list of restart attributes. `[ns-ndis-_ndis_restart_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct NDIS_RESTART_ATTRIBUTES {
    /// The next element, or null.
    pub Next: *mut NDIS_RESTART_ATTRIBUTES,
    /// What `Data` holds; [`OID_GEN_MINIPORT_RESTART_ATTRIBUTES`]: an [`NDIS_RESTART_GENERAL_ATTRIBUTES`].
    pub Oid: NDIS_OID,
    /// Bytes of `Data`.
    pub DataLength: ULONG,
    /// The first byte of the data, aligned to 16 bytes.
    pub Data: [UCHAR; 1],
}
const _: () =
    assert!(size_of::<NDIS_RESTART_ATTRIBUTES>() == 32 && align_of::<NDIS_RESTART_ATTRIBUTES>() == 16);

/// General attributes at restart. `[ns-ndis-_ndis_restart_general_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_RESTART_GENERAL_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Bytes of a frame's payload, without the MAC header.
    pub MtuSize: ULONG,
    /// Highest transmit speed, bit/s.
    pub MaxXmitLinkSpeed: ULONG64,
    /// Highest receive speed, bit/s.
    pub MaxRcvLinkSpeed: ULONG64,
    /// Bytes of a frame that the adapter can indicate as lookahead.
    pub LookaheadSize: ULONG,
    /// `NDIS_MAC_OPTION_…`.
    pub MacOptions: ULONG,
    /// `NDIS_PACKET_TYPE_…` that the adapter can apply.
    pub SupportedPacketFilters: ULONG,
    /// Addresses that fit the multicast list.
    pub MaxMulticastListSize: ULONG,
    /// Receive-side scaling, or null.
    pub RecvScaleCapabilities: *mut NDIS_RECEIVE_SCALE_CAPABILITIES,
    /// [`NET_IF_ACCESS_BROADCAST`] for Ethernet.
    pub AccessType: NET_IF_ACCESS_TYPE,
    /// [`NDIS_RESTART_GENERAL_ATTRIBUTES_MAX_LOOKAHEAD_ACCESSED_DEFINED`] or 0.
    pub Flags: ULONG,
    /// [`NET_IF_CONNECTION_DEDICATED`] for Ethernet.
    pub ConnectionType: NET_IF_CONNECTION_TYPE,
    /// `NDIS_STATISTICS_…_SUPPORTED`: the counters that the adapter keeps.
    pub SupportedStatistics: ULONG,
    /// Bytes of headroom that the driver wants before a frame's data; usually 0.
    pub DataBackFillSize: ULONG,
    /// Bytes of headroom that the driver wants in an NBL's context; usually 0.
    pub ContextBackFillSize: ULONG,
    /// The OIDs that the driver handles.
    pub SupportedOidList: *mut NDIS_OID,
    /// Bytes (not elements) of the list.
    pub SupportedOidListLength: ULONG,
    /// Bytes that drivers above look at, if
    /// [`NDIS_RESTART_GENERAL_ATTRIBUTES_MAX_LOOKAHEAD_ACCESSED_DEFINED`].
    pub MaxLookaheadSizeAccessed: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_RESTART_GENERAL_ATTRIBUTES>() == 88 && align_of::<NDIS_RESTART_GENERAL_ATTRIBUTES>() == 8
);

/// `MaxLookaheadSizeAccessed` is valid.
pub const NDIS_RESTART_GENERAL_ATTRIBUTES_MAX_LOOKAHEAD_ACCESSED_DEFINED: ULONG = 1;

/// Why an adapter is halted. `[nc-ndis-miniport_halt]`
pub type NDIS_HALT_ACTION = i32;
/// The device was disabled.
pub const NdisHaltDeviceDisabled: NDIS_HALT_ACTION = 0;
/// An intermediate driver removed its instance.
pub const NdisHaltDeviceInstanceDeInitialized: NDIS_HALT_ACTION = 1;
/// The device is powered down.
pub const NdisHaltDevicePoweredDown: NDIS_HALT_ACTION = 2;
/// The device was removed without notice: the hardware must not be touched.
pub const NdisHaltDeviceSurpriseRemoved: NDIS_HALT_ACTION = 3;
/// The device was removed after a failure.
pub const NdisHaltDeviceFailed: NDIS_HALT_ACTION = 4;
/// Starting the adapter failed after it was initialised.
pub const NdisHaltDeviceInitializationFailed: NDIS_HALT_ACTION = 5;
/// The device was stopped, to rebalance resources for example.
pub const NdisHaltDeviceStopped: NDIS_HALT_ACTION = 6;

/// Why the system shuts an adapter down. `[nc-ndis-miniport_shutdown]`
pub type NDIS_SHUTDOWN_ACTION = i32;
/// Power-off; at PASSIVE_LEVEL.
pub const NdisShutdownPowerOff: NDIS_SHUTDOWN_ACTION = 0;
/// Bug check; at HIGH_LEVEL, where no kernel or NDIS function may be called.
pub const NdisShutdownBugCheck: NDIS_SHUTDOWN_ACTION = 1;

/// A Plug and Play event of the adapter's device. `[ns-ndis-_net_device_pnp_event]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NET_DEVICE_PNP_EVENT {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The port, usually [`NDIS_DEFAULT_PORT_NUMBER`].
    pub PortNumber: NDIS_PORT_NUMBER,
    /// What happened.
    pub DevicePnPEvent: NDIS_DEVICE_PNP_EVENT,
    /// For [`NdisDevicePnPEventPowerProfileChanged`], an [`NDIS_POWER_PROFILE`]; else null.
    pub InformationBuffer: PVOID,
    /// Bytes of the buffer.
    pub InformationBufferLength: ULONG,
    /// Reserved for NDIS.
    pub NdisReserved: [UCHAR; 16],
}
const _: () = assert!(size_of::<NET_DEVICE_PNP_EVENT>() == 48 && align_of::<NET_DEVICE_PNP_EVENT>() == 8);

/// A Plug and Play event. `[ns-ndis-_net_device_pnp_event]`
pub type NDIS_DEVICE_PNP_EVENT = i32;
/// May the device be removed?
pub const NdisDevicePnPEventQueryRemoved: NDIS_DEVICE_PNP_EVENT = 0;
/// The device is being removed.
pub const NdisDevicePnPEventRemoved: NDIS_DEVICE_PNP_EVENT = 1;
/// The device is gone.
pub const NdisDevicePnPEventSurpriseRemoved: NDIS_DEVICE_PNP_EVENT = 2;
/// May the device be stopped?
pub const NdisDevicePnPEventQueryStopped: NDIS_DEVICE_PNP_EVENT = 3;
/// The device is being stopped.
pub const NdisDevicePnPEventStopped: NDIS_DEVICE_PNP_EVENT = 4;
/// The power source changed.
pub const NdisDevicePnPEventPowerProfileChanged: NDIS_DEVICE_PNP_EVENT = 5;
/// The list of filter modules above changed.
pub const NdisDevicePnPEventFilterListChanged: NDIS_DEVICE_PNP_EVENT = 6;

/// The system's power source. `[ns-ndis-_net_device_pnp_event]`
pub type NDIS_POWER_PROFILE = i32;
/// Battery.
pub const NdisPowerProfileBattery: NDIS_POWER_PROFILE = 0;
/// Mains.
pub const NdisPowerProfileAcOnLine: NDIS_POWER_PROFILE = 1;

/// What [`NdisGetVersion`] returns for NDIS 6.0: major version in the high word, minor (decimal) in the low
/// word.
pub const NDIS_RUNTIME_VERSION_60: UINT = 0x0006_0000;
/// NDIS 6.1: Windows Vista SP1.
pub const NDIS_RUNTIME_VERSION_61: UINT = 0x0006_0001;
/// NDIS 6.20: Windows 7.
pub const NDIS_RUNTIME_VERSION_620: UINT = 0x0006_0014;
/// NDIS 6.30: Windows 8, Server 2012.
pub const NDIS_RUNTIME_VERSION_630: UINT = 0x0006_001E;
/// NDIS 6.40: Windows 8.1, Server 2012 R2.
pub const NDIS_RUNTIME_VERSION_640: UINT = 0x0006_0028;
/// NDIS 6.50: Windows 10 1507.
pub const NDIS_RUNTIME_VERSION_650: UINT = 0x0006_0032;
/// NDIS 6.51: Windows 10 1511.
pub const NDIS_RUNTIME_VERSION_651: UINT = 0x0006_0033;
/// NDIS 6.60: Windows 10 1607, Server 2016.
pub const NDIS_RUNTIME_VERSION_660: UINT = 0x0006_003C;
/// NDIS 6.70: Windows 10 1703.
pub const NDIS_RUNTIME_VERSION_670: UINT = 0x0006_0046;
/// NDIS 6.80: Windows 10 1709.
pub const NDIS_RUNTIME_VERSION_680: UINT = 0x0006_0050;
