//! Function types of everything that NDIS or the kernel calls in a driver.

use crate::*;

callbacks! {
    pub type MINIPORT_INITIALIZE = fn(NdisMiniportHandle: NDIS_HANDLE, MiniportDriverContext: NDIS_HANDLE, MiniportInitParameters: *mut NDIS_MINIPORT_INIT_PARAMETERS) -> NDIS_STATUS;
    pub type MINIPORT_HALT = fn(MiniportAdapterContext: NDIS_HANDLE, HaltAction: NDIS_HALT_ACTION);
    pub type MINIPORT_UNLOAD = fn(DriverObject: *mut DRIVER_OBJECT);
    pub type MINIPORT_PAUSE = fn(MiniportAdapterContext: NDIS_HANDLE, PauseParameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS) -> NDIS_STATUS;
    pub type MINIPORT_RESTART = fn(MiniportAdapterContext: NDIS_HANDLE, RestartParameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS) -> NDIS_STATUS;
    pub type MINIPORT_OID_REQUEST = fn(MiniportAdapterContext: NDIS_HANDLE, OidRequest: *mut NDIS_OID_REQUEST) -> NDIS_STATUS;
    pub type MINIPORT_SEND_NET_BUFFER_LISTS = fn(MiniportAdapterContext: NDIS_HANDLE, NetBufferList: *mut NET_BUFFER_LIST, PortNumber: NDIS_PORT_NUMBER, SendFlags: ULONG);
    pub type MINIPORT_RETURN_NET_BUFFER_LISTS = fn(MiniportAdapterContext: NDIS_HANDLE, NetBufferLists: *mut NET_BUFFER_LIST, ReturnFlags: ULONG);
    pub type MINIPORT_CANCEL_SEND = fn(MiniportAdapterContext: NDIS_HANDLE, CancelId: PVOID);
    pub type MINIPORT_CHECK_FOR_HANG = fn(MiniportAdapterContext: NDIS_HANDLE) -> BOOLEAN;
    pub type MINIPORT_RESET = fn(MiniportAdapterContext: NDIS_HANDLE, AddressingReset: *mut BOOLEAN) -> NDIS_STATUS;
    pub type MINIPORT_DEVICE_PNP_EVENT_NOTIFY = fn(MiniportAdapterContext: NDIS_HANDLE, NetDevicePnPEvent: *mut NET_DEVICE_PNP_EVENT);
    pub type MINIPORT_SHUTDOWN = fn(MiniportAdapterContext: NDIS_HANDLE, ShutdownAction: NDIS_SHUTDOWN_ACTION);
    pub type MINIPORT_CANCEL_OID_REQUEST = fn(MiniportAdapterContext: NDIS_HANDLE, RequestId: PVOID);
    pub type MINIPORT_DIRECT_OID_REQUEST = fn(MiniportAdapterContext: NDIS_HANDLE, OidRequest: *mut NDIS_OID_REQUEST) -> NDIS_STATUS;
    pub type MINIPORT_CANCEL_DIRECT_OID_REQUEST = fn(MiniportAdapterContext: NDIS_HANDLE, RequestId: PVOID);
    pub type SET_OPTIONS = fn(NdisDriverHandle: NDIS_HANDLE, DriverContext: NDIS_HANDLE) -> NDIS_STATUS;
    pub type NDIS_TIMER_FUNCTION = fn(SystemSpecific1: PVOID, FunctionContext: PVOID, SystemSpecific2: PVOID, SystemSpecific3: PVOID);
    pub type NDIS_IO_WORKITEM_FUNCTION = fn(WorkItemContext: PVOID, NdisIoWorkItemHandle: NDIS_HANDLE);
    pub type DRIVER_INITIALIZE = fn(DriverObject: *mut DRIVER_OBJECT, RegistryPath: *mut UNICODE_STRING) -> NTSTATUS;
    pub type DRIVER_UNLOAD = fn(DriverObject: *mut DRIVER_OBJECT);
    pub type KDEFERRED_ROUTINE = fn(Dpc: *mut KDPC, DeferredContext: PVOID, SystemArgument1: PVOID, SystemArgument2: PVOID);
    pub type DRIVER_DISPATCH = fn(DeviceObject: *mut DEVICE_OBJECT, Irp: *mut IRP) -> NTSTATUS;
}
pub type MINIPORT_INITIALIZE_HANDLER = Option<MINIPORT_INITIALIZE>;
pub type MINIPORT_HALT_HANDLER = Option<MINIPORT_HALT>;
pub type MINIPORT_PAUSE_HANDLER = Option<MINIPORT_PAUSE>;
pub type MINIPORT_RESTART_HANDLER = Option<MINIPORT_RESTART>;
pub type MINIPORT_OID_REQUEST_HANDLER = Option<MINIPORT_OID_REQUEST>;
pub type MINIPORT_SEND_NET_BUFFER_LISTS_HANDLER = Option<MINIPORT_SEND_NET_BUFFER_LISTS>;
pub type MINIPORT_RETURN_NET_BUFFER_LISTS_HANDLER = Option<MINIPORT_RETURN_NET_BUFFER_LISTS>;
pub type MINIPORT_CANCEL_SEND_HANDLER = Option<MINIPORT_CANCEL_SEND>;
pub type MINIPORT_CHECK_FOR_HANG_HANDLER = Option<MINIPORT_CHECK_FOR_HANG>;
pub type MINIPORT_RESET_HANDLER = Option<MINIPORT_RESET>;
pub type MINIPORT_DEVICE_PNP_EVENT_NOTIFY_HANDLER = Option<MINIPORT_DEVICE_PNP_EVENT_NOTIFY>;
pub type MINIPORT_SHUTDOWN_HANDLER = Option<MINIPORT_SHUTDOWN>;
pub type MINIPORT_CANCEL_OID_REQUEST_HANDLER = Option<MINIPORT_CANCEL_OID_REQUEST>;
pub type MINIPORT_DIRECT_OID_REQUEST_HANDLER = Option<MINIPORT_DIRECT_OID_REQUEST>;
pub type MINIPORT_CANCEL_DIRECT_OID_REQUEST_HANDLER = Option<MINIPORT_CANCEL_DIRECT_OID_REQUEST>;
pub type SET_OPTIONS_HANDLER = Option<SET_OPTIONS>;
pub type MINIPORT_DRIVER_UNLOAD = Option<MINIPORT_UNLOAD>;
pub type PNDIS_TIMER_FUNCTION = Option<NDIS_TIMER_FUNCTION>;
pub type NDIS_IO_WORKITEM_ROUTINE = Option<NDIS_IO_WORKITEM_FUNCTION>;
pub type PKDEFERRED_ROUTINE = Option<KDEFERRED_ROUTINE>;
pub type PDRIVER_DISPATCH = Option<DRIVER_DISPATCH>;
