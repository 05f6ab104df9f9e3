//! The life of one adapter, each step once: initialize, restart, a request, a send, pause, halt.

use core::cell::Cell;
use core::ptr;

use ndis_sys::{
    BOOLEAN, LARGE_INTEGER, NDIS_DEFAULT_PORT_NUMBER, NDIS_HANDLE, NDIS_MINIPORT_INIT_PARAMETERS,
    NDIS_MINIPORT_INIT_PARAMETERS_REVISION_1, NDIS_MINIPORT_PAUSE_PARAMETERS,
    NDIS_MINIPORT_PAUSE_PARAMETERS_REVISION_1, NDIS_MINIPORT_RESTART_PARAMETERS,
    NDIS_MINIPORT_RESTART_PARAMETERS_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS, NDIS_OBJECT_TYPE_OID_REQUEST, NDIS_OID_REQUEST,
    NDIS_OID_REQUEST_REVISION_1, NDIS_PAUSE_NDIS_INTERNAL, NDIS_RECEIVE_FLAGS_RESOURCES,
    NDIS_SIZEOF_MINIPORT_INIT_PARAMETER_REVISION_1, NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1,
    NDIS_SIZEOF_OID_REQUEST_REVISION_1, NDIS_STATUS, NDIS_STATUS_INDICATION, NDIS_STATUS_PENDING,
    NDIS_STATUS_SUCCESS, NET_BUFFER_LIST, NET_BUFFER_LIST_POOL_PARAMETERS,
    NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NET_DEVICE_PNP_EVENT, NdisDevicePnPEventSurpriseRemoved,
    NdisHaltDeviceDisabled, NdisHaltDeviceSurpriseRemoved, NdisRequestQueryInformation,
    OID_GEN_VENDOR_DRIVER_VERSION, TRUE,
};
use windows_sys::Wdk::Foundation::DEVICE_OBJECT;
use windows_sys::Wdk::System::SystemServices::{KeDelayExecutionThread, KernelMode};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;

use crate::memory::{
    self, NdisAllocateMdl, NdisAllocateNetBufferAndNetBufferList, NdisAllocateNetBufferListPool, NdisFreeMdl,
    NdisFreeNetBufferList, NdisFreeNetBufferListPool,
};
use crate::miniport::{self, Miniport};
use crate::report;

/// An adapter: the extension of its device. Its address is its NDIS handle.
pub(crate) struct Adapter {
    /// The device that Wine enumerated.
    pub(crate) below: *mut DEVICE_OBJECT,
    /// The next device below ours.
    pub(crate) next: *mut DEVICE_OBJECT,
    /// The miniport's context, once its registration attributes are set.
    pub(crate) context: Cell<NDIS_HANDLE>,
    /// From the general attributes; 0 before.
    pub(crate) mtu: Cell<u32>,
    running: Cell<bool>,
    surprised: Cell<bool>,
}

impl Adapter {
    pub(crate) fn new(below: *mut DEVICE_OBJECT, next: *mut DEVICE_OBJECT) -> Self {
        Self {
            below,
            next,
            context: Cell::new(ptr::null_mut()),
            mtu: Cell::new(0),
            running: Cell::new(false),
            surprised: Cell::new(false),
        }
    }

    /// Initializes and restarts the adapter, asks it something and lets it send. Whether it runs.
    pub(crate) fn start(&self) -> bool {
        let Some(miniport) = miniport::get() else { return false };
        let mut parameters = NDIS_MINIPORT_INIT_PARAMETERS::zeroed();
        parameters.Header = header(
            NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS,
            NDIS_MINIPORT_INIT_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_MINIPORT_INIT_PARAMETER_REVISION_1,
        );
        parameters.IfIndex = 7;
        let this: NDIS_HANDLE = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: a registered miniport's handler; the adapter stays where it is until its device is deleted.
        let status = unsafe {
            miniport.handlers.InitializeHandlerEx.map_or(NDIS_STATUS_SUCCESS, |initialize| {
                initialize(this, miniport.context, &raw mut parameters)
            })
        };
        report::line(format_args!("initialize status={status:#010x}"));
        if status != NDIS_STATUS_SUCCESS {
            return false;
        }
        let mut parameters = NDIS_MINIPORT_RESTART_PARAMETERS::zeroed();
        parameters.Header = header(
            NDIS_OBJECT_TYPE_DEFAULT,
            NDIS_MINIPORT_RESTART_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1,
        );
        // SAFETY: the adapter is initialised, that is, paused.
        let status = unsafe {
            miniport
                .handlers
                .RestartHandler
                .map_or(NDIS_STATUS_SUCCESS, |restart| restart(self.context.get(), &raw mut parameters))
        };
        report::line(format_args!("restart status={status:#010x}"));
        self.running.set(true);
        self.ask(&miniport);
        self.send(&miniport);
        true
    }

    /// Queries the driver's version.
    fn ask(&self, miniport: &Miniport) {
        let mut version = 0_u32;
        let mut request = NDIS_OID_REQUEST::zeroed();
        request.Header = header(
            NDIS_OBJECT_TYPE_OID_REQUEST,
            NDIS_OID_REQUEST_REVISION_1,
            NDIS_SIZEOF_OID_REQUEST_REVISION_1,
        );
        request.RequestType = NdisRequestQueryInformation;
        request.DATA.QUERY_INFORMATION.Oid = OID_GEN_VENDOR_DRIVER_VERSION;
        // SAFETY: the union is zeroed, and of this member from here on. The request and its buffer live until it is
        // completed, which is at once.
        let (status, written) = unsafe {
            let query = &mut request.DATA.QUERY_INFORMATION;
            query.InformationBuffer = (&raw mut version).cast();
            query.InformationBufferLength = size_of::<u32>() as u32;
            let status = miniport
                .handlers
                .OidRequestHandler
                .map_or(NDIS_STATUS_SUCCESS, |handler| handler(self.context.get(), &raw mut request));
            (status, request.DATA.QUERY_INFORMATION.BytesWritten)
        };
        report::line(format_args!("oid status={status:#010x} written={written} version={version:#010x}"));
    }

    /// Sends one Ethernet frame; the miniport completes it within the call, or the report says otherwise.
    fn send(&self, miniport: &Miniport) {
        let mut frame = [0xFF_u8; 60]; // to everybody; what is in it does not matter
        let mut parameters = NET_BUFFER_LIST_POOL_PARAMETERS::zeroed();
        parameters.Header = header(
            NDIS_OBJECT_TYPE_DEFAULT,
            NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        );
        parameters.fAllocateNetBuffer = TRUE;
        // SAFETY: pool, MDL and list are made of each other and freed in reverse, after the miniport has completed the list.
        unsafe {
            let pool = NdisAllocateNetBufferListPool(ptr::null_mut(), &raw mut parameters);
            let bytes = frame.len();
            let mdl = NdisAllocateMdl(ptr::null_mut(), frame.as_mut_ptr().cast(), bytes as u32);
            if pool.is_null() || mdl.is_null() {
                return report::line(format_args!("send no-memory"));
            }
            let list = NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, mdl, 0, bytes);
            if let (Some(send), false) = (miniport.handlers.SendNetBufferListsHandler, list.is_null()) {
                (*list).SourceHandle = ptr::from_ref(self).cast_mut().cast();
                send(self.context.get(), list, NDIS_DEFAULT_PORT_NUMBER, 0);
                NdisFreeNetBufferList(list);
            }
            NdisFreeMdl(mdl);
            NdisFreeNetBufferListPool(pool);
        }
    }

    /// The device is gone, without a word before.
    pub(crate) fn surprise(&self) {
        report::line(format_args!("surprise-removal"));
        self.surprised.set(true);
        let Some(handler) = miniport::get().and_then(|it| it.handlers.DevicePnPEventNotifyHandler) else {
            return;
        };
        if self.running.get() {
            let mut event = NET_DEVICE_PNP_EVENT::zeroed();
            event.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1);
            event.DevicePnPEvent = NdisDevicePnPEventSurpriseRemoved;
            // SAFETY: the adapter is initialised.
            unsafe { handler(self.context.get(), &raw mut event) };
        }
    }

    /// Pauses and halts the adapter.
    pub(crate) fn stop(&self) {
        let Some(miniport) = miniport::get() else { return };
        if !self.running.get() {
            return;
        }
        self.running.set(false);
        let mut parameters = NDIS_MINIPORT_PAUSE_PARAMETERS::zeroed();
        parameters.Header = header(
            NDIS_OBJECT_TYPE_DEFAULT,
            NDIS_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
        );
        parameters.PauseReason = NDIS_PAUSE_NDIS_INTERNAL;
        // SAFETY: the adapter runs.
        let status = unsafe {
            miniport
                .handlers
                .PauseHandler
                .map_or(NDIS_STATUS_SUCCESS, |pause| pause(self.context.get(), &raw mut parameters))
        };
        report::line(format_args!("pause status={status:#010x}"));
        if status == NDIS_STATUS_PENDING {
            // Nothing here can still be out that a pause would have to wait for: a finding of its own.
            return report::line(format_args!("halt not-called"));
        }
        let action =
            if self.surprised.get() { NdisHaltDeviceSurpriseRemoved } else { NdisHaltDeviceDisabled };
        if let Some(halt) = miniport.handlers.HaltHandlerEx {
            // SAFETY: the adapter is paused.
            unsafe { halt(self.context.get(), action) };
        }
        let left = memory::left();
        report::line(format_args!(
            "halt action={action} pools={} lists={} mdls={}",
            left.pools, left.lists, left.mdls
        ));
        self.context.set(ptr::null_mut());
        self.mtu.set(0);
    }
}

fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size }
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMSendNetBufferListsComplete(
    _: NDIS_HANDLE,
    mut list: *mut NET_BUFFER_LIST,
    _: u32,
) {
    // SAFETY: a chain of lists that were sent, handed back.
    while let Some(one) = unsafe { list.as_ref() } {
        report::line(format_args!("send-complete status={:#010x}", one.Status));
        list = one.Next;
    }
}

/// Nobody is bound, so what is received goes straight back.
///
/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMIndicateReceiveNetBufferLists(
    handle: NDIS_HANDLE,
    list: *mut NET_BUFFER_LIST,
    _: u32,
    count: u32,
    flags: u32,
) {
    report::line(format_args!("receive count={count}"));
    // SAFETY: the handle is an adapter's.
    let context = unsafe { (*handle.cast::<Adapter>()).context.get() };
    let handler = miniport::get().and_then(|miniport| miniport.handlers.ReturnNetBufferListsHandler);
    if let (Some(handler), 0) = (handler, flags & NDIS_RECEIVE_FLAGS_RESOURCES) {
        // SAFETY: the chain as it was indicated.
        unsafe { handler(context, list, 0) };
    }
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMIndicateStatusEx(_: NDIS_HANDLE, indication: *mut NDIS_STATUS_INDICATION) {
    // SAFETY: the driver's structure, valid during the call.
    let code = unsafe { (*indication).StatusCode };
    report::line(format_args!("indicate status={code:#010x}"));
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMOidRequestComplete(
    _: NDIS_HANDLE,
    _: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    report::line(format_args!("oid-complete status={status:#010x}"));
}

/// No reset is made.
///
/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMResetComplete(_: NDIS_HANDLE, status: NDIS_STATUS, _: BOOLEAN) {
    report::line(format_args!("reset-complete status={status:#010x}"));
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMPauseComplete(_: NDIS_HANDLE) {
    report::line(format_args!("pause-complete"));
}

/// No direct request is made.
///
/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMDirectOidRequestComplete(
    _: NDIS_HANDLE,
    _: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    report::line(format_args!("direct-oid-complete status={status:#010x}"));
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMSleep(microseconds: u32) {
    // Relative, in units of 100 ns.
    let interval = -10 * i64::from(microseconds);
    // SAFETY: the interval lives during the call.
    unsafe { KeDelayExecutionThread(KernelMode as i8, false, &raw const interval) };
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisGetSystemUpTimeEx(up: *mut LARGE_INTEGER) {
    // SAFETY: without preconditions.
    let milliseconds = unsafe { GetTickCount64() };
    // SAFETY: the caller's variable.
    unsafe { up.write(LARGE_INTEGER { QuadPart: milliseconds.cast_signed() }) };
}
