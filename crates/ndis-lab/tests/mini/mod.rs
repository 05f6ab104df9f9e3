//! A small Ethernet miniport, written on `ndis-sys` alone: it loops what it sends back as received.
//! Each [`Defect`] is one mistake; the lab has to catch it by name.

#![allow(dead_code)]
// each test binary uses a part of it
// This is a driver as one writes it in C: every function is unsafe as a whole, and stands on the contract of the
// NDIS callbacks (the context is the one that was registered, lists and requests are valid until they are
// completed) and on no other. There are no unsafe blocks whose proofs would say that fifty times.
#![allow(unsafe_op_in_unsafe_fn)]
#![allow(clippy::cast_possible_truncation, clippy::borrow_as_ptr, clippy::bool_to_int_with_if)]

mod attributes;
mod defect;
mod oids;
mod packets;

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use ndis_sys::*;

use attributes::{read_address, set_general, set_offload, set_registration};
pub(crate) use defect::{Defect, entry};
use oids::{ENDED, cancel_direct_oid, cancel_oid, complete_pended, direct_oid, oid_request, tick};
use packets::{cancel_send, return_lists, send};

/// `'inim'`, `mini` in a debugger.
const TAG: u32 = u32::from_le_bytes(*b"mini");
const MTU: usize = 1500;

static DEFECT: AtomicU32 = AtomicU32::new(0);
static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
/// Handle of the adapter that was halted last.
static HALTED: AtomicUsize = AtomicUsize::new(0);

/// The `DRIVER_OBJECT` of the driver that is loaded.
pub(crate) static OBJECT: AtomicPtr<DRIVER_OBJECT> = AtomicPtr::new(null_mut());
/// What `MiniportInitializeEx` of the good driver does beside its work, with the adapter's handle: see `imports.rs`.
pub(crate) static SCRIPT: AtomicUsize = AtomicUsize::new(0);

/// The handle that the driver registered with.
pub(crate) fn driver_handle() -> NDIS_HANDLE {
    DRIVER.load(Ordering::Relaxed)
}

/// What `MiniportDriverUnload` does before its work, once.
static AT_UNLOAD: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>> = std::sync::Mutex::new(None);

pub(crate) fn at_unload(run: impl FnOnce() + Send + 'static) {
    *AT_UNLOAD.lock().unwrap() = Some(Box::new(run));
}

fn is(defect: Defect) -> bool {
    DEFECT.load(Ordering::Relaxed) == defect as u32
}

struct Adapter {
    handle: NDIS_HANDLE,
    pool: NDIS_HANDLE,
    lock: UnsafeCell<NDIS_SPIN_LOCK>,
    second: UnsafeCell<NDIS_SPIN_LOCK>,
    running: AtomicU32,
    outstanding: AtomicUsize,
    pausing: AtomicU32,
    filter: AtomicU32,
    sent: AtomicUsize,
    /// A pended OID request.
    pended: AtomicPtr<NDIS_OID_REQUEST>,
    timer: NDIS_HANDLE,
    dpc: UnsafeCell<KDPC>,
}

static OIDS: [NDIS_OID; 6] = [
    OID_GEN_XMIT_OK,
    OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_VENDOR_ID,
    OID_GEN_STATISTICS,
    OID_GEN_MACHINE_NAME,
    OID_GEN_TRANSMIT_BLOCK_SIZE,
];

fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size }
}

unsafe extern "win64" fn driver_entry<const DEFECT_NUMBER: u32>(
    object: *mut DRIVER_OBJECT,
    path: *mut UNICODE_STRING,
) -> NTSTATUS {
    DEFECT.store(DEFECT_NUMBER, Ordering::Relaxed);
    OBJECT.store(object, Ordering::Relaxed);
    register(object, path)
}

unsafe fn register(object: *mut DRIVER_OBJECT, path: *mut UNICODE_STRING) -> NTSTATUS {
    let mut c: NDIS_MINIPORT_DRIVER_CHARACTERISTICS = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2;
    c.Header = header(
        NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
        if is(Defect::CharacteristicsSize) { size + 8 } else { size },
    );
    c.MajorNdisVersion = 6;
    c.MinorNdisVersion = minor();
    if minor() >= 80 || is(Defect::FutureCharacteristics) {
        // Revision 3 has one more handler, which may be NULL.
        let mut newer: (NDIS_MINIPORT_DRIVER_CHARACTERISTICS, usize) = (c, 0);
        newer.0.Header.Revision = 3;
        newer.0.Header.Size = size + 8;
        return register_with(object, path, &mut newer.0);
    }
    register_with(object, path, &mut c)
}

/// The minor version that the driver registers.
fn minor() -> u8 {
    match () {
        () if is(Defect::Ndis640) => 40,
        () if is(Defect::Ndis660) => 60,
        () if is(Defect::Ndis683) => 83,
        () if is(Defect::Ndis685) => 85,
        () if is(Defect::FutureVersion) => 99,
        () => 30,
    }
}

unsafe fn register_with(
    object: *mut DRIVER_OBJECT,
    path: *mut UNICODE_STRING,
    c: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
) -> NTSTATUS {
    let c = &mut *c;
    c.InitializeHandlerEx = Some(initialize);
    c.HaltHandlerEx = Some(halt);
    c.UnloadHandler = Some(unload);
    c.PauseHandler = Some(pause);
    c.RestartHandler = Some(restart);
    c.OidRequestHandler = Some(oid_request);
    c.SendNetBufferListsHandler = Some(send);
    c.ReturnNetBufferListsHandler = Some(return_lists);
    c.CancelSendHandler = Some(cancel_send);
    c.DevicePnPEventNotifyHandler = Some(pnp_event);
    c.ShutdownHandlerEx = Some(shutdown);
    c.CancelOidRequestHandler = (!is(Defect::MissingHandler)).then_some(cancel_oid);
    c.DirectOidRequestHandler = Some(direct_oid);
    c.CancelDirectOidRequestHandler = Some(cancel_direct_oid);
    let mut handle = null_mut();
    let status = NdisMRegisterMiniportDriver(object, path, null_mut(), c, &mut handle);
    DRIVER.store(handle, Ordering::Relaxed);
    if is(Defect::FailWithoutDeregister) { NDIS_STATUS_FAILURE } else { status }
}

unsafe fn allocate(size: usize) -> *mut c_void {
    ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG)
}

unsafe fn free(block: *mut c_void) {
    ExFreePoolWithTag(block, TAG);
}

unsafe fn tear_down(adapter: *mut Adapter) {
    if !(*adapter).timer.is_null() && !is(Defect::TimerLeft) {
        if NdisCancelTimerObject((*adapter).timer) == FALSE {
            // It may be running: timers are DPCs.
            KeFlushQueuedDpcs();
        }
        NdisFreeTimerObject((*adapter).timer);
    }
    if !(*adapter).pool.is_null() && !is(Defect::NblPoolLeft) {
        NdisFreeNetBufferListPool((*adapter).pool);
    }
    free(adapter.cast());
    if is(Defect::DoubleFree) {
        free(adapter.cast());
    }
    if is(Defect::UseAfterFree) {
        adapter.cast::<u8>().add(8).write(7);
    }
}

ndis_fn! {
    unsafe extern fn initialize(handle: NDIS_HANDLE, _driver: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS) -> NDIS_STATUS {
        if is(Defect::PoolOverrun) {
            let block = allocate(40).cast::<u8>();
            if block.is_null() {
                return NDIS_STATUS_RESOURCES;
            }
            block.add(40).write(1);
            free(block.cast());
        }
        if is(Defect::WrongPoolTag) {
            let block = allocate(40);
            if !block.is_null() {
                ExFreePoolWithTag(block, TAG + 1);
            }
        }
        if is(Defect::LeakPoolBlock) {
            allocate(40);
        }
        let adapter = allocate(size_of::<Adapter>()).cast::<Adapter>();
        if adapter.is_null() {
            return NDIS_STATUS_RESOURCES;
        }
        (*adapter).handle = handle;
        match initialize_adapter(handle, adapter) {
            Ok(()) => NDIS_STATUS_SUCCESS,
            Err(status) => {
                if !is(Defect::LeakOnFailure) {
                    tear_down(adapter);
                }
                status
            }
        }
    }
}

fn check(status: NDIS_STATUS) -> Result<(), NDIS_STATUS> {
    if status == NDIS_STATUS_SUCCESS { Ok(()) } else { Err(status) }
}

unsafe fn initialize_adapter(handle: NDIS_HANDLE, adapter: *mut Adapter) -> Result<(), NDIS_STATUS> {
    if is(Defect::AttributeOrder) {
        check(set_general(handle, [2, 0, 0, 0, 0, 1]))?;
    }
    check(set_registration(handle, adapter))?;
    let mac = read_address(handle)?;
    NdisAllocateSpinLock((*adapter).lock.get());
    NdisAllocateSpinLock((*adapter).second.get());
    let mut parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1),
        ProtocolId: 0,
        fAllocateNetBuffer: 1,
        ContextSize: 0,
        PoolTag: TAG,
        DataSize: 0,
    };
    (*adapter).pool = NdisAllocateNetBufferListPool(handle, &mut parameters);
    if (*adapter).pool.is_null() {
        return Err(NDIS_STATUS_RESOURCES);
    }
    let mut timer = NDIS_TIMER_CHARACTERISTICS {
        Header: header(
            NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
            1,
            NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
        ),
        AllocationTag: TAG,
        TimerFunction: Some(tick),
        FunctionContext: adapter.cast(),
    };
    check(NdisAllocateTimerObject(handle, &mut timer, &mut (*adapter).timer))?;
    KeInitializeDpc((*adapter).dpc.get(), Some(complete_pended), adapter.cast());
    if is(Defect::AttributesMissing) {
        return Ok(());
    }
    check(set_general(handle, mac))?;
    if let script @ 1.. = SCRIPT.load(Ordering::Relaxed) {
        // SAFETY: the tests store such functions only.
        let script: unsafe fn(NDIS_HANDLE) = std::mem::transmute(script);
        script(handle);
    }
    if minor() > 30 { check(set_offload(handle)) } else { Ok(()) }
}

ndis_fn! {
    unsafe extern fn halt(context: NDIS_HANDLE, _action: NDIS_HALT_ACTION) {
        let adapter = context.cast::<Adapter>();
        if is(Defect::OidTouchedAfterEnd) {
            (*ENDED.load(Ordering::Relaxed)).DATA.SET_INFORMATION.BytesRead = 7;
        }
        HALTED.store((*adapter).handle as usize, Ordering::Relaxed);
        tear_down(adapter);
    }

    unsafe extern fn unload(_object: *mut DRIVER_OBJECT) {
        let more = AT_UNLOAD.lock().unwrap().take();
        if let Some(more) = more {
            more();
        }
        if is(Defect::HandleAfterHalt) {
            NdisMPauseComplete(HALTED.load(Ordering::Relaxed) as NDIS_HANDLE);
        }
        if !is(Defect::NoDeregister) {
            NdisMDeregisterMiniportDriver(DRIVER.load(Ordering::Relaxed));
        }
    }

    unsafe extern fn restart(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS) -> NDIS_STATUS {
        (*context.cast::<Adapter>()).running.store(1, Ordering::SeqCst);
        NDIS_STATUS_SUCCESS
    }

    unsafe extern fn pause(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        (*adapter).running.store(0, Ordering::SeqCst);
        if is(Defect::PauseTooEarly) {
            return NDIS_STATUS_SUCCESS;
        }
        (*adapter).pausing.store(1, Ordering::SeqCst);
        if (*adapter).outstanding.load(Ordering::SeqCst) == 0 && (*adapter).pausing.swap(0, Ordering::SeqCst) == 1 {
            return NDIS_STATUS_SUCCESS;
        }
        NDIS_STATUS_PENDING
    }

    unsafe extern fn pnp_event(_context: NDIS_HANDLE, _event: *mut NET_DEVICE_PNP_EVENT) {}
    unsafe extern fn shutdown(_context: NDIS_HANDLE, _action: NDIS_SHUTDOWN_ACTION) {}
}
