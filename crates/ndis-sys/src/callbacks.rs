//! Types of the functions that NDIS and the kernel call in a driver.
//!
//! In C, `MINIPORT_HALT` is a function and `MINIPORT_HALT_HANDLER` a pointer to it, perhaps null; here the first is the
//! pointer and the second its `Option`.

use crate::{
    BOOLEAN, DEVICE_OBJECT, DRIVER_OBJECT, IRP, KDPC, NDIS_HALT_ACTION, NDIS_HANDLE,
    NDIS_MINIPORT_INIT_PARAMETERS, NDIS_MINIPORT_PAUSE_PARAMETERS, NDIS_MINIPORT_RESTART_PARAMETERS,
    NDIS_OID_REQUEST, NDIS_PORT_NUMBER, NDIS_SHUTDOWN_ACTION, NDIS_STATUS, NET_BUFFER_LIST,
    NET_DEVICE_PNP_EVENT, NTSTATUS, PVOID, ULONG, UNICODE_STRING,
};

#[cfg(doc)] // for links
use crate::*;

callbacks! {
    /// Initialises an adapter; sets its attributes. Several may run at once. PASSIVE_LEVEL.
    /// `[nc-ndis-miniport_initialize]`
    pub type MINIPORT_INITIALIZE = fn(
        NdisMiniportHandle: NDIS_HANDLE,
        MiniportDriverContext: NDIS_HANDLE,
        MiniportInitParameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
    ) -> NDIS_STATUS;
    /// Undoes [`MINIPORT_INITIALIZE`] of a paused adapter. PASSIVE_LEVEL. `[nc-ndis-miniport_halt]`
    pub type MINIPORT_HALT = fn(MiniportAdapterContext: NDIS_HANDLE, HaltAction: NDIS_HALT_ACTION);
    /// Undoes DriverEntry after the last adapter was halted. PASSIVE_LEVEL. `[nc-ndis-miniport_unload]`
    pub type MINIPORT_UNLOAD = fn(DriverObject: *mut DRIVER_OBJECT);
    /// Stops receives and waits for those indicated; sends are refused from now on. [`NDIS_STATUS_SUCCESS`],
    /// or [`NDIS_STATUS_PENDING`] and [`NdisMPauseComplete`]. PASSIVE_LEVEL. `[nc-ndis-miniport_pause]`
    pub type MINIPORT_PAUSE = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        PauseParameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
    ) -> NDIS_STATUS;
    /// Starts a paused adapter. Status, or [`NDIS_STATUS_PENDING`] and [`NdisMRestartComplete`].
    /// PASSIVE_LEVEL. `[nc-ndis-miniport_restart]`
    pub type MINIPORT_RESTART = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        RestartParameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
    ) -> NDIS_STATUS;
    /// Handles a regular OID request, one at a time. Status, or [`NDIS_STATUS_PENDING`] and
    /// [`NdisMOidRequestComplete`]. PASSIVE_LEVEL. `[nc-ndis-miniport_oid_request]`
    pub type MINIPORT_OID_REQUEST = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;
    /// Takes a chain to send; each list is completed once with [`NdisMSendNetBufferListsComplete`]. Several
    /// may run at once. At most DISPATCH_LEVEL. `[nc-ndis-miniport_send_net_buffer_lists]`
    pub type MINIPORT_SEND_NET_BUFFER_LISTS = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        NetBufferList: *mut NET_BUFFER_LIST,
        PortNumber: NDIS_PORT_NUMBER,
        SendFlags: ULONG,
    );
    /// Gives indicated lists back, in any order and grouping. At most DISPATCH_LEVEL.
    /// `[nc-ndis-miniport_return_net_buffer_lists]`
    pub type MINIPORT_RETURN_NET_BUFFER_LISTS = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        NetBufferLists: *mut NET_BUFFER_LIST,
        ReturnFlags: ULONG,
    );
    /// Completes queued sends with this cancel identifier as [`NDIS_STATUS_SEND_ABORTED`]. At most
    /// DISPATCH_LEVEL. `[nc-ndis-miniport_cancel_send]`
    pub type MINIPORT_CANCEL_SEND = fn(MiniportAdapterContext: NDIS_HANDLE, CancelId: PVOID);
    /// [`TRUE`] asks for a reset. PASSIVE_LEVEL. `[nc-ndis-miniport_check_for_hang]`
    pub type MINIPORT_CHECK_FOR_HANG = fn(MiniportAdapterContext: NDIS_HANDLE) -> BOOLEAN;
    /// Resets the hardware; `AddressingReset` says whether NDIS must set filters and addresses again.
    /// Status, or [`NDIS_STATUS_PENDING`] and [`NdisMResetComplete`]. At most DISPATCH_LEVEL.
    /// `[nc-ndis-miniport_reset]`
    pub type MINIPORT_RESET = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        AddressingReset: *mut BOOLEAN,
    ) -> NDIS_STATUS;
    /// Tells of a Plug and Play event, surprise removal for example. PASSIVE_LEVEL.
    /// `[nc-ndis-miniport_device_pnp_event_notify]`
    pub type MINIPORT_DEVICE_PNP_EVENT_NOTIFY = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        NetDevicePnPEvent: *mut NET_DEVICE_PNP_EVENT,
    );
    /// Brings the hardware to a known state at shutdown. PASSIVE_LEVEL, or HIGH_LEVEL at a bug check.
    /// `[nc-ndis-miniport_shutdown]`
    pub type MINIPORT_SHUTDOWN = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        ShutdownAction: NDIS_SHUTDOWN_ACTION,
    );
    /// Completes the pending request with this identifier as [`NDIS_STATUS_REQUEST_ABORTED`]. At most
    /// DISPATCH_LEVEL. `[nc-ndis-miniport_cancel_oid_request]`
    pub type MINIPORT_CANCEL_OID_REQUEST = fn(MiniportAdapterContext: NDIS_HANDLE, RequestId: PVOID);
    /// Handles a direct OID request; not serialised with anything. Status, or [`NDIS_STATUS_PENDING`] and
    /// [`NdisMDirectOidRequestComplete`]. At most DISPATCH_LEVEL. `[nc-ndis-miniport_direct_oid_request]`
    pub type MINIPORT_DIRECT_OID_REQUEST = fn(
        MiniportAdapterContext: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;
    /// Completes the pending direct request with this identifier as [`NDIS_STATUS_REQUEST_ABORTED`]. At most
    /// DISPATCH_LEVEL. `[nc-ndis-miniport_cancel_direct_oid_request]`
    pub type MINIPORT_CANCEL_DIRECT_OID_REQUEST = fn(MiniportAdapterContext: NDIS_HANDLE, RequestId: PVOID);
    /// Registers optional handlers, inside [`NdisMRegisterMiniportDriver`]. PASSIVE_LEVEL.
    /// `[nc-ndis-set_options]`
    pub type SET_OPTIONS = fn(NdisDriverHandle: NDIS_HANDLE, DriverContext: NDIS_HANDLE) -> NDIS_STATUS;
    /// A timer fired. DISPATCH_LEVEL. `[nc-ndis-ndis_timer_function]`
    pub type NDIS_TIMER_FUNCTION = fn(
        SystemSpecific1: PVOID,
        FunctionContext: PVOID,
        SystemSpecific2: PVOID,
        SystemSpecific3: PVOID,
    );
    /// Runs a queued work item. PASSIVE_LEVEL. `[nf-ndis-ndisqueueioworkitem]`
    pub type NDIS_IO_WORKITEM_FUNCTION = fn(WorkItemContext: PVOID, NdisIoWorkItemHandle: NDIS_HANDLE);
    /// DriverEntry: the driver was loaded. PASSIVE_LEVEL. `[nc-wdm-driver_initialize]`
    pub type DRIVER_INITIALIZE = fn(
        DriverObject: *mut DRIVER_OBJECT,
        RegistryPath: *mut UNICODE_STRING,
    ) -> NTSTATUS;
    /// Unloads a driver; NDIS's in a miniport. PASSIVE_LEVEL. `[nc-wdm-driver_unload]`
    pub type DRIVER_UNLOAD = fn(DriverObject: *mut DRIVER_OBJECT);
    /// A deferred procedure call. DISPATCH_LEVEL. `[nc-wdm-kdeferred_routine]`
    pub type KDEFERRED_ROUTINE = fn(
        Dpc: *mut KDPC,
        DeferredContext: PVOID,
        SystemArgument1: PVOID,
        SystemArgument2: PVOID,
    );
    /// Handles an I/O request packet. PASSIVE_LEVEL for a control device. `[nc-wdm-driver_dispatch]`
    pub type DRIVER_DISPATCH = fn(DeviceObject: *mut DEVICE_OBJECT, Irp: *mut IRP) -> NTSTATUS;
}
/// An entry point of type [`MINIPORT_INITIALIZE`], or `None` for null.
pub type MINIPORT_INITIALIZE_HANDLER = Option<MINIPORT_INITIALIZE>;
/// An entry point of type [`MINIPORT_HALT`], or `None` for null.
pub type MINIPORT_HALT_HANDLER = Option<MINIPORT_HALT>;
/// An entry point of type [`MINIPORT_PAUSE`], or `None` for null.
pub type MINIPORT_PAUSE_HANDLER = Option<MINIPORT_PAUSE>;
/// An entry point of type [`MINIPORT_RESTART`], or `None` for null.
pub type MINIPORT_RESTART_HANDLER = Option<MINIPORT_RESTART>;
/// An entry point of type [`MINIPORT_OID_REQUEST`], or `None` for null.
pub type MINIPORT_OID_REQUEST_HANDLER = Option<MINIPORT_OID_REQUEST>;
/// An entry point of type [`MINIPORT_SEND_NET_BUFFER_LISTS`], or `None` for null.
pub type MINIPORT_SEND_NET_BUFFER_LISTS_HANDLER = Option<MINIPORT_SEND_NET_BUFFER_LISTS>;
/// An entry point of type [`MINIPORT_RETURN_NET_BUFFER_LISTS`], or `None` for null.
pub type MINIPORT_RETURN_NET_BUFFER_LISTS_HANDLER = Option<MINIPORT_RETURN_NET_BUFFER_LISTS>;
/// An entry point of type [`MINIPORT_CANCEL_SEND`], or `None` for null.
pub type MINIPORT_CANCEL_SEND_HANDLER = Option<MINIPORT_CANCEL_SEND>;
/// An entry point of type [`MINIPORT_CHECK_FOR_HANG`], or `None` for null.
pub type MINIPORT_CHECK_FOR_HANG_HANDLER = Option<MINIPORT_CHECK_FOR_HANG>;
/// An entry point of type [`MINIPORT_RESET`], or `None` for null.
pub type MINIPORT_RESET_HANDLER = Option<MINIPORT_RESET>;
/// An entry point of type [`MINIPORT_DEVICE_PNP_EVENT_NOTIFY`], or `None` for null.
pub type MINIPORT_DEVICE_PNP_EVENT_NOTIFY_HANDLER = Option<MINIPORT_DEVICE_PNP_EVENT_NOTIFY>;
/// An entry point of type [`MINIPORT_SHUTDOWN`], or `None` for null.
pub type MINIPORT_SHUTDOWN_HANDLER = Option<MINIPORT_SHUTDOWN>;
/// An entry point of type [`MINIPORT_CANCEL_OID_REQUEST`], or `None` for null.
pub type MINIPORT_CANCEL_OID_REQUEST_HANDLER = Option<MINIPORT_CANCEL_OID_REQUEST>;
/// An entry point of type [`MINIPORT_DIRECT_OID_REQUEST`], or `None` for null.
pub type MINIPORT_DIRECT_OID_REQUEST_HANDLER = Option<MINIPORT_DIRECT_OID_REQUEST>;
/// An entry point of type [`MINIPORT_CANCEL_DIRECT_OID_REQUEST`], or `None` for null.
pub type MINIPORT_CANCEL_DIRECT_OID_REQUEST_HANDLER = Option<MINIPORT_CANCEL_DIRECT_OID_REQUEST>;
/// An entry point of type [`SET_OPTIONS`], or `None` for null.
pub type SET_OPTIONS_HANDLER = Option<SET_OPTIONS>;
/// An entry point of type [`MINIPORT_UNLOAD`], or `None` for null.
pub type MINIPORT_DRIVER_UNLOAD = Option<MINIPORT_UNLOAD>;
/// An entry point of type [`NDIS_TIMER_FUNCTION`], or `None` for null.
pub type PNDIS_TIMER_FUNCTION = Option<NDIS_TIMER_FUNCTION>;
/// An entry point of type [`NDIS_IO_WORKITEM_FUNCTION`], or `None` for null.
pub type NDIS_IO_WORKITEM_ROUTINE = Option<NDIS_IO_WORKITEM_FUNCTION>;
/// An entry point of type [`KDEFERRED_ROUTINE`], or `None` for null.
pub type PKDEFERRED_ROUTINE = Option<KDEFERRED_ROUTINE>;
/// An entry point of type [`DRIVER_DISPATCH`], or `None` for null.
pub type PDRIVER_DISPATCH = Option<DRIVER_DISPATCH>;
