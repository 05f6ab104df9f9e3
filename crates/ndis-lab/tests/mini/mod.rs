//! A small Ethernet miniport, written on `ndis-sys` alone: it loops what it sends back as received.
//! Each [`Defect`] is one mistake; the lab has to catch it by name.

#![allow(dead_code)]
// each test binary uses a part of it
// This is a driver as one writes it in C: every function is unsafe as a whole, and stands on the contract of the
// NDIS callbacks (the context is the one that was registered, lists and requests are valid until they are
// completed) and on no other. There are no unsafe blocks whose proofs would say that fifty times.
#![allow(unsafe_op_in_unsafe_fn)]
#![allow(clippy::cast_possible_truncation, clippy::borrow_as_ptr, clippy::bool_to_int_with_if)]

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use ndis_sys::*;

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Defect {
    None,
    LeakNbl,
    LeakPoolBlock,
    CompleteSendTwice,
    NeverCompleteSend,
    WrongPoolTag,
    PoolOverrun,
    UseAfterFree,
    AttributeSize,
    AttributeOrder,
    AttributesMissing,
    LockHeldOnReturn,
    LockRecursion,
    BugCheckInOid,
    PassiveOnlyAtDispatch,
    IrqlNotRestored,
    SendNotPaused,
    PauseTwice,
    PauseTooEarly,
    OidOverrun,
    OidBytesWritten,
    OidCompletedTwice,
    OidWrongCompletion,
    OidNeverCompleted,
    ChangeSentData,
    ChangeSentOob,
    ChangeSentChain,
    WrongSourceHandle,
    WrongReceiveCount,
    IndicateWhilePaused,
    IndicateTwice,
    IndicateUnderLock,
    CharacteristicsSize,
    MissingHandler,
    NoDeregister,
    FailWithoutDeregister,
    ConfigurationLeft,
    TimerLeft,
    StatusHeader,
    ForeignStatus,
    DispatchFlag,
    NblPoolLeft,
    DoubleFree,
    XstateNotRestored,
    HandleAfterHalt,
    WildAccess,
    IllegalInstruction,
    EndlessRecursion,
    LeakOnFailure,
    /// No mistake: the same driver, registered for a later version, with its revisions.
    Ndis640,
    Ndis660,
    Ndis683,
    Ndis685,
    FutureCharacteristics,
    FutureVersion,
    LockOrder,
    PanicInOid,
    WaitAtDispatch,
    QueuedLockHeld,
    RwLockHeld,
    PoolReadAfterFree,
    PoolOverrunFar,
    OidTouchedAfterCompletion,
    OidBufferTouchedAfterCompletion,
    SendTouchedAfterCompletion,
    SendDataTouchedAfterCompletion,
    ListTouchedAfterFree,
    PagedAtDispatch,
    SendStatus,
    OidTouchedAfterEnd,
}

/// `'inim'`, `mini` in a debugger.
const TAG: u32 = u32::from_le_bytes(*b"mini");
const MTU: usize = 1500;

static DEFECT: AtomicU32 = AtomicU32::new(0);
static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
/// A request that was completed, of a driver that does not forget it.
static ENDED: AtomicPtr<NDIS_OID_REQUEST> = AtomicPtr::new(null_mut());
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

/// The entry point of the miniport with one mistake.
pub(crate) fn entry(defect: Defect) -> DRIVER_INITIALIZE {
    macro_rules! entries {
        ($($name:ident),*) => {
            match defect {
                $(Defect::$name => driver_entry::<{ Defect::$name as u32 }>,)*
            }
        };
    }
    entries!(
        None,
        LeakNbl,
        LeakPoolBlock,
        CompleteSendTwice,
        NeverCompleteSend,
        WrongPoolTag,
        PoolOverrun,
        UseAfterFree,
        AttributeSize,
        AttributeOrder,
        AttributesMissing,
        LockHeldOnReturn,
        LockRecursion,
        BugCheckInOid,
        PassiveOnlyAtDispatch,
        IrqlNotRestored,
        SendNotPaused,
        PauseTwice,
        PauseTooEarly,
        OidOverrun,
        OidBytesWritten,
        OidCompletedTwice,
        OidWrongCompletion,
        OidNeverCompleted,
        ChangeSentData,
        ChangeSentOob,
        ChangeSentChain,
        WrongSourceHandle,
        WrongReceiveCount,
        IndicateWhilePaused,
        IndicateTwice,
        IndicateUnderLock,
        CharacteristicsSize,
        MissingHandler,
        NoDeregister,
        FailWithoutDeregister,
        ConfigurationLeft,
        TimerLeft,
        StatusHeader,
        ForeignStatus,
        DispatchFlag,
        NblPoolLeft,
        DoubleFree,
        XstateNotRestored,
        HandleAfterHalt,
        WildAccess,
        IllegalInstruction,
        EndlessRecursion,
        LeakOnFailure,
        Ndis640,
        Ndis660,
        Ndis683,
        Ndis685,
        FutureCharacteristics,
        FutureVersion,
        LockOrder,
        PanicInOid,
        WaitAtDispatch,
        QueuedLockHeld,
        RwLockHeld,
        PoolReadAfterFree,
        PoolOverrunFar,
        OidTouchedAfterCompletion,
        OidBufferTouchedAfterCompletion,
        SendTouchedAfterCompletion,
        SendDataTouchedAfterCompletion,
        ListTouchedAfterFree,
        PagedAtDispatch,
        SendStatus,
        OidTouchedAfterEnd
    )
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

unsafe fn set_registration(handle: NDIS_HANDLE, context: *mut Adapter) -> NDIS_STATUS {
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1;
    a.RegistrationAttributes = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, 1, size),
        MiniportAdapterContext: context.cast(),
        AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND,
        CheckForHangTimeInSeconds: 0,
        InterfaceType: NdisInterfaceInternal,
    };
    NdisMSetMiniportAttributes(handle, &mut a)
}

/// Offload attributes in the revision of the version that was registered: no offload at all.
unsafe fn set_offload(handle: NDIS_HANDLE) -> NDIS_STATUS {
    // 6.40 still has revision 3; 4, 5, 6 and 7 came with 6.50, 6.70, 6.83 and 6.85.
    let (revision, size) = match minor() {
        85.. => (7, 217),
        83.. => (6, 216),
        50.. => (4, 177),
        _ => (3, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3),
    };
    let mut offload = [0_u64; 32];
    offload.as_mut_ptr().cast::<NDIS_OBJECT_HEADER>().write(header(NDIS_OBJECT_TYPE_OFFLOAD, revision, size));
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let o = &mut a.OffloadAttributes;
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1;
    o.Header = header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, 1, size);
    o.DefaultOffloadConfiguration = offload.as_mut_ptr().cast();
    o.HardwareOffloadCapabilities = offload.as_mut_ptr().cast();
    NdisMSetMiniportAttributes(handle, &mut a)
}

unsafe fn set_general(handle: NDIS_HANDLE, mac: [u8; 6]) -> NDIS_STATUS {
    let mut power: NDIS_PM_CAPABILITIES = zeroed();
    power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 2, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2);
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2;
    let g = &mut a.GeneralAttributes;
    let wrong = if is(Defect::AttributeSize) { 8 } else { 0 };
    g.Header = header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, 2, size + wrong);
    g.MediaType = NdisMedium802_3;
    g.PhysicalMediumType = NdisPhysicalMedium802_3;
    g.MtuSize = MTU as u32;
    g.MaxXmitLinkSpeed = 10_000_000_000;
    g.XmitLinkSpeed = 10_000_000_000;
    g.MaxRcvLinkSpeed = 10_000_000_000;
    g.RcvLinkSpeed = 10_000_000_000;
    g.MediaConnectState = MediaConnectStateConnected;
    g.MediaDuplexState = MediaDuplexStateFull;
    g.LookaheadSize = MTU as u32;
    g.MacOptions = NDIS_MAC_OPTION_8021P_PRIORITY | NDIS_MAC_OPTION_NO_LOOPBACK;
    g.SupportedPacketFilters = 0x2f;
    g.MaxMulticastListSize = 32;
    g.MacAddressLength = 6;
    g.PermanentMacAddress[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    g.CurrentMacAddress[..6].copy_from_slice(&mac);
    g.AccessType = NET_IF_ACCESS_BROADCAST;
    g.ConnectionType = NET_IF_CONNECTION_DEDICATED;
    g.IfType = IF_TYPE_ETHERNET_CSMACD;
    g.SupportedOidList = OIDS.as_ptr().cast_mut();
    g.SupportedOidListLength = size_of_val(&OIDS) as u32;
    g.PowerManagementCapabilitiesEx = &mut power;
    NdisMSetMiniportAttributes(handle, &mut a)
}

unsafe fn read_address(handle: NDIS_HANDLE) -> Result<[u8; 6], NDIS_STATUS> {
    let mut object = NDIS_CONFIGURATION_OBJECT {
        Header: header(NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, 1, NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1),
        NdisHandle: handle,
        Flags: 0,
    };
    let mut configuration = null_mut();
    let status = NdisOpenConfigurationEx(&mut object, &mut configuration);
    if status != NDIS_STATUS_SUCCESS {
        return Err(status);
    }
    let mut mac = [2, 0, 0, 0, 0, 1];
    let (mut status, mut address, mut length) = (0, null_mut(), 0);
    NdisReadNetworkAddress(&mut status, &mut address, &mut length, configuration);
    if status == NDIS_STATUS_SUCCESS && length == 6 {
        mac.copy_from_slice(std::slice::from_raw_parts(address.cast::<u8>(), 6));
    }
    if !is(Defect::ConfigurationLeft) {
        NdisCloseConfiguration(configuration);
    }
    Ok(mac)
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

    unsafe extern fn send(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, _port: NDIS_PORT_NUMBER, flags: ULONG) {
        let adapter = context.cast::<Adapter>();
        let running = (*adapter).running.load(Ordering::SeqCst) == 1;
        let mut list = chain;
        let (mut first, mut last, mut count) = (null_mut(), null_mut::<NET_BUFFER_LIST>(), 0);
        while !list.is_null() {
            if running || is(Defect::IndicateWhilePaused) {
                let mut buffer = (*list).FirstNetBuffer;
                while !buffer.is_null() {
                    let copy = receive_copy(adapter, list, buffer);
                    if !copy.is_null() {
                        if last.is_null() { first = copy } else { (*last).Next = copy }
                        last = copy;
                        count += 1;
                    }
                    buffer = (*buffer).Next;
                }
                (*adapter).sent.fetch_add(1, Ordering::Relaxed);
            }
            spoil(list);
            let refused = !running && !is(Defect::SendNotPaused);
            (*list).Status = if refused { NDIS_STATUS_PAUSED } else { NDIS_STATUS_SUCCESS };
            if is(Defect::SendStatus) && running {
                (*list).Status = NDIS_STATUS_PENDING;
            }
            list = (*list).Next;
        }
        if is(Defect::NeverCompleteSend) {
            return;
        }
        let at_dispatch = if flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0 || is(Defect::DispatchFlag) { 1 } else { 0 };
        let data = (*(*(*chain).FirstNetBuffer).MdlChain).MappedSystemVa.cast::<u8>();
        NdisMSendNetBufferListsComplete((*adapter).handle, chain, at_dispatch);
        if is(Defect::SendTouchedAfterCompletion) {
            (&raw mut (*chain).Status).write_volatile(7);
        }
        if is(Defect::SendDataTouchedAfterCompletion) {
            data.write_volatile(7);
        }
        if is(Defect::CompleteSendTwice) {
            NdisMSendNetBufferListsComplete((*adapter).handle, chain, at_dispatch);
        }
        if !first.is_null() {
            indicate(adapter, first, count, at_dispatch);
        }
    }

    unsafe extern fn return_lists(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, flags: ULONG) {
        let adapter = context.cast::<Adapter>();
        let mut list = chain;
        while !list.is_null() {
            let next = (*list).Next;
            free_copy(list);
            let left = (*adapter).outstanding.fetch_sub(1, Ordering::SeqCst) - 1;
            if left == 0 && (*adapter).pausing.swap(0, Ordering::SeqCst) == 1 {
                NdisMPauseComplete((*adapter).handle);
                if is(Defect::PauseTwice) {
                    NdisMPauseComplete((*adapter).handle);
                }
            }
            list = next;
        }
        let _ = flags;
    }

    unsafe extern fn cancel_send(_context: NDIS_HANDLE, _id: PVOID) {}
    unsafe extern fn pnp_event(_context: NDIS_HANDLE, _event: *mut NET_DEVICE_PNP_EVENT) {}
    unsafe extern fn shutdown(_context: NDIS_HANDLE, _action: NDIS_SHUTDOWN_ACTION) {}

    unsafe extern fn cancel_oid(context: NDIS_HANDLE, id: PVOID) {
        cancel(context.cast(), id, false);
    }

    unsafe extern fn cancel_direct_oid(context: NDIS_HANDLE, id: PVOID) {
        cancel(context.cast(), id, true);
    }

    unsafe extern fn tick(_one: PVOID, context: PVOID, _two: PVOID, _three: PVOID) {
        KeInsertQueueDpc((*context.cast::<Adapter>()).dpc.get(), null_mut(), null_mut());
    }

    unsafe extern fn complete_pended(_dpc: *mut KDPC, context: PVOID, _one: PVOID, _two: PVOID) {
        let adapter = context.cast::<Adapter>();
        let request = (*adapter).pended.swap(null_mut(), Ordering::SeqCst);
        if !request.is_null() {
            (*request).DATA.SET_INFORMATION.BytesRead = (*request).DATA.SET_INFORMATION.InformationBufferLength;
            let buffer = (*request).DATA.SET_INFORMATION.InformationBuffer.cast::<u8>();
            // Before the completion: the halt that looks at it may come on another thread right behind.
            if is(Defect::OidTouchedAfterEnd) {
                ENDED.store(request, Ordering::Relaxed);
            }
            NdisMOidRequestComplete((*adapter).handle, request, NDIS_STATUS_SUCCESS);
            if is(Defect::OidTouchedAfterCompletion) {
                (&raw mut (*request).DATA.SET_INFORMATION.BytesNeeded).write_volatile(7);
            }
            if is(Defect::OidBufferTouchedAfterCompletion) {
                buffer.write_volatile(7);
            }
        }
    }

    unsafe extern fn oid_request(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        answer(context.cast(), request)
    }

    unsafe extern fn direct_oid(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        NdisAcquireSpinLock((*adapter).lock.get());
        NdisAcquireSpinLock((*adapter).second.get());
        NdisReleaseSpinLock((*adapter).second.get());
        (*request).DATA.SET_INFORMATION.BytesRead = (*request).DATA.SET_INFORMATION.InformationBufferLength;
        NdisReleaseSpinLock((*adapter).lock.get());
        NDIS_STATUS_SUCCESS
    }
}

unsafe fn cancel(adapter: *mut Adapter, id: PVOID, _direct: bool) {
    let request = (*adapter).pended.load(Ordering::SeqCst);
    if !request.is_null() && (*request).RequestId == id && !is(Defect::OidNeverCompleted) {
        (*adapter).pended.store(null_mut(), Ordering::SeqCst);
        NdisMOidRequestComplete((*adapter).handle, request, NDIS_STATUS_REQUEST_ABORTED);
    }
}

/// Breaks the sender's list as the defect asks for.
unsafe fn spoil(list: *mut NET_BUFFER_LIST) {
    let buffer = (*list).FirstNetBuffer;
    if is(Defect::ChangeSentData) {
        (*(*buffer).MdlChain).MappedSystemVa.cast::<u8>().write(0xff);
    }
    if is(Defect::ChangeSentOob) {
        (*list).NetBufferListInfo[4] = 1 as PVOID;
    }
    if is(Defect::ChangeSentChain) {
        (*buffer).DataLength -= 1;
    }
}

/// Copies a frame into a list of our own: block, MDL, list.
unsafe fn receive_copy(
    adapter: *mut Adapter,
    list: *mut NET_BUFFER_LIST,
    buffer: *mut NET_BUFFER,
) -> *mut NET_BUFFER_LIST {
    let length = (*buffer).DataLength as usize;
    let block = allocate(length);
    if block.is_null() {
        return null_mut();
    }
    let data = NdisGetDataBuffer(buffer, length as u32, block, 1, 0);
    if data.is_null() {
        free(block);
        return null_mut();
    }
    if data != block {
        std::ptr::copy_nonoverlapping(data.cast::<u8>(), block.cast::<u8>(), length);
    }
    let mdl = NdisAllocateMdl((*adapter).handle, block, length as u32);
    if mdl.is_null() {
        free(block);
        return null_mut();
    }
    let copy = NdisAllocateNetBufferAndNetBufferList((*adapter).pool, 0, 0, mdl, 0, length);
    if copy.is_null() {
        NdisFreeMdl(mdl);
        free(block);
        return null_mut();
    }
    (*copy).SourceHandle = if is(Defect::WrongSourceHandle) { null_mut() } else { (*adapter).handle };
    (*copy).NetBufferListInfo[12] = (*list).NetBufferListInfo[12];
    copy
}

unsafe fn free_copy(list: *mut NET_BUFFER_LIST) {
    let mdl = (*(*list).FirstNetBuffer).MdlChain;
    let block = (*mdl).MappedSystemVa;
    if !is(Defect::LeakNbl) {
        NdisFreeNetBufferList(list);
    }
    NdisFreeMdl(mdl);
    free(block);
}

unsafe fn indicate(adapter: *mut Adapter, first: *mut NET_BUFFER_LIST, count: u32, flags: u32) {
    (*adapter).outstanding.fetch_add(count as usize, Ordering::SeqCst);
    if is(Defect::IndicateUnderLock) {
        NdisAcquireSpinLock((*adapter).lock.get());
    }
    let announced = if is(Defect::WrongReceiveCount) { count + 1 } else { count };
    NdisMIndicateReceiveNetBufferLists((*adapter).handle, first, 0, announced, flags);
    if is(Defect::IndicateTwice) {
        NdisMIndicateReceiveNetBufferLists((*adapter).handle, first, 0, announced, flags);
    }
    if is(Defect::IndicateUnderLock) {
        NdisReleaseSpinLock((*adapter).lock.get());
    }
}

unsafe fn indicate_link(adapter: *mut Adapter) {
    let mut state: NDIS_LINK_STATE = zeroed();
    let size = NDIS_SIZEOF_LINK_STATE_REVISION_1;
    let wrong = if is(Defect::StatusHeader) { 4 } else { 0 };
    state.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 1, size + wrong);
    state.MediaConnectState = MediaConnectStateConnected;
    let mut indication: NDIS_STATUS_INDICATION = zeroed();
    indication.Header =
        header(NDIS_OBJECT_TYPE_STATUS_INDICATION, 1, NDIS_SIZEOF_STATUS_INDICATION_REVISION_1);
    indication.SourceHandle = (*adapter).handle;
    indication.StatusCode =
        if is(Defect::ForeignStatus) { NDIS_STATUS_RESET_START } else { NDIS_STATUS_LINK_STATE };
    indication.StatusBuffer = (&raw mut state).cast();
    indication.StatusBufferSize = size_of::<NDIS_LINK_STATE>() as u32;
    NdisMIndicateStatusEx((*adapter).handle, &mut indication);
}

#[allow(unconditional_recursion)] // that is the defect
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(frame[7] + 1) + frame[3]
}

// Functions that only some drivers import; the lab has them natively, too.
unsafe extern "win64" {
    fn KeAcquireInStackQueuedSpinLock(lock: *mut KSPIN_LOCK, handle: *mut [usize; 3]);
}

/// What a query does wrong.
unsafe fn spoil_query(adapter: *mut Adapter) {
    if is(Defect::LockOrder) {
        NdisAcquireSpinLock((*adapter).second.get());
        NdisAcquireSpinLock((*adapter).lock.get());
        NdisReleaseSpinLock((*adapter).lock.get());
        NdisReleaseSpinLock((*adapter).second.get());
    }
    if is(Defect::PanicInOid) {
        let nothing: Option<u32> = std::hint::black_box(None);
        nothing.expect("the driver expected something");
    }
    if is(Defect::WaitAtDispatch) {
        let mut event: KEVENT = zeroed();
        KeInitializeEvent(&mut event, NotificationEvent, 0);
        KeRaiseIrqlToDpcLevel();
        KeWaitForSingleObject((&raw mut event).cast(), Executive, 0, 0, null_mut());
    }
    if is(Defect::QueuedLockHeld) {
        static LOCK: AtomicUsize = AtomicUsize::new(0);
        let mut handle = [0_usize; 3];
        KeAcquireInStackQueuedSpinLock(LOCK.as_ptr(), &mut handle);
    }
    if is(Defect::RwLockHeld) {
        let lock = NdisAllocateRWLock((*adapter).handle);
        let mut state: LOCK_STATE_EX = zeroed();
        NdisAcquireRWLockRead(lock, &mut state, 0);
    }
    if is(Defect::PoolReadAfterFree) {
        let block = allocate(100).cast::<u8>();
        free(block.cast());
        std::hint::black_box(block.add(50).read_volatile());
    }
    if is(Defect::PoolOverrunFar) {
        let block = allocate(100).cast::<u8>();
        std::hint::black_box(block.add(112).read_volatile());
        free(block.cast());
    }
    if is(Defect::PagedAtDispatch) {
        let block = ExAllocatePool2(POOL_FLAG_PAGED, 100, TAG).cast::<u8>();
        block.write_volatile(1);
        let old = KeRaiseIrqlToDpcLevel();
        block.write_volatile(2);
        KeLowerIrql(old);
        ExFreePoolWithTag(block.cast(), TAG);
    }
    if is(Defect::ListTouchedAfterFree) {
        let list = NdisAllocateNetBufferAndNetBufferList((*adapter).pool, 0, 0, null_mut(), 0, 0);
        NdisFreeNetBufferList(list);
        std::hint::black_box((&raw const (*list).Next).read_volatile());
    }
}

unsafe fn answer(adapter: *mut Adapter, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    let oid = (*request).DATA.QUERY_INFORMATION.Oid;
    let set = (*request).RequestType == 1;
    let query = &mut (*request).DATA.QUERY_INFORMATION;
    match (oid, set) {
        (OID_GEN_VENDOR_ID, false) => {
            if is(Defect::BugCheckInOid) {
                KeBugCheckEx(0xe2, 1, 2, 3, 4);
            }
            if is(Defect::WildAccess) {
                (0x1234_5678_9abc_usize as *mut u8).write_volatile(1);
            }
            if is(Defect::IllegalInstruction) {
                std::arch::asm!("ud2");
            }
            if is(Defect::EndlessRecursion) {
                recurse(0);
            }
            spoil_query(adapter);
            if is(Defect::LockHeldOnReturn) {
                NdisAcquireSpinLock((*adapter).lock.get());
            }
            if is(Defect::LockRecursion) {
                NdisAcquireSpinLock((*adapter).lock.get());
                NdisAcquireSpinLock((*adapter).lock.get());
            }
            if is(Defect::IrqlNotRestored) {
                KeRaiseIrqlToDpcLevel();
            }
            if is(Defect::PassiveOnlyAtDispatch) {
                let old = KeRaiseIrqlToDpcLevel();
                let _ = read_address((*adapter).handle);
                KeLowerIrql(old);
            }
            if is(Defect::XstateNotRestored) {
                let mut save: XSTATE_SAVE = zeroed();
                KeSaveExtendedProcessorState(XSTATE_MASK_LEGACY, &mut save);
            }
            if query.InformationBufferLength < 4 {
                query.BytesNeeded = 4;
                return NDIS_STATUS_INVALID_LENGTH;
            }
            query.InformationBuffer.cast::<u32>().write_unaligned(0x00ff_ffff);
            query.BytesWritten = if is(Defect::OidBytesWritten) { 40 } else { 4 };
            if is(Defect::OidOverrun) {
                query.InformationBuffer.cast::<u8>().add(query.InformationBufferLength as usize).write(1);
            }
            if is(Defect::OidCompletedTwice) {
                NdisMOidRequestComplete((*adapter).handle, request, NDIS_STATUS_SUCCESS);
            }
            NDIS_STATUS_SUCCESS
        }
        (OID_GEN_CURRENT_PACKET_FILTER, true) => {
            let data = &mut (*request).DATA.SET_INFORMATION;
            if data.InformationBufferLength != 4 {
                data.BytesNeeded = 4;
                return NDIS_STATUS_INVALID_LENGTH;
            }
            (*adapter).filter.store(data.InformationBuffer.cast::<u32>().read_unaligned(), Ordering::Relaxed);
            data.BytesRead = 4;
            indicate_link(adapter);
            NDIS_STATUS_SUCCESS
        }
        // Pends, and ends by a timer and a DPC.
        (OID_GEN_MACHINE_NAME, true) => {
            if is(Defect::OidWrongCompletion) {
                NdisMDirectOidRequestComplete((*adapter).handle, request, NDIS_STATUS_SUCCESS);
                return NDIS_STATUS_PENDING;
            }
            (*adapter).pended.store(request, Ordering::SeqCst);
            if !is(Defect::OidNeverCompleted) && (*request).RequestId.is_null() {
                let due = LARGE_INTEGER { QuadPart: -10_000 };
                NdisSetTimerObject((*adapter).timer, due, 0, null_mut());
            }
            NDIS_STATUS_PENDING
        }
        _ => NDIS_STATUS_NOT_SUPPORTED,
    }
}

/// For the compiler: the module uses it in one configuration only.
const _: *const u8 = null();
