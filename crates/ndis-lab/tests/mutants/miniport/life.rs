//! Initialise and halt.

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ndis_sys::*;

use super::attributes::{set_general, set_offload, set_registration};
use super::memory::work;
use super::receive::make_buffers;
use super::settings::read_settings;
use super::status::indicate_link;
use super::{
    Adapter, HALTED, M, Rx, TAG, WIRE, allocate, check, free, header, is, lock, memory, objects, oids, system,
};

ndis_fn! {
    pub(super) unsafe extern fn initialize(handle: NDIS_HANDLE, _driver: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS) -> NDIS_STATUS {
        memory::spoil(handle);
        objects::spoil();
        system::spoil();
        let flags = if is(M::ContextNotZeroed) { POOL_FLAG_UNINITIALIZED } else { 0 };
        let adapter = ExAllocatePool2(POOL_FLAG_NON_PAGED | flags, size_of::<Adapter>(), TAG).cast::<Adapter>();
        if adapter.is_null() {
            return NDIS_STATUS_RESOURCES;
        }
        (*adapter).handle = handle;
        if is(M::ParametersKept) {
            (*adapter).kept = parameters.cast();
        }
        let index = if is(M::SharedAddress) { 7 } else { (*parameters).IfIndex as u8 };
        (*adapter).permanent = [2, 0x77, 0, 0, 0, index];
        match build(adapter) {
            Ok(()) if is(M::InitializePends) => NDIS_STATUS_PENDING,
            Ok(()) => NDIS_STATUS_SUCCESS,
            Err(status) => {
                if !is(M::InitializeLeaksAll) {
                    tear_down(adapter, is(M::InitializeLeaksPool));
                }
                if is(M::InitializeOddStatus) { 0x4000_0123 } else { status }
            }
        }
    }

    pub(super) unsafe extern fn halt(context: NDIS_HANDLE, _action: NDIS_HALT_ACTION) {
        let adapter = context.cast::<Adapter>();
        HALTED.store((*adapter).handle, Ordering::Relaxed);
        if is(M::HaltLeavesNeverRun) && !(*adapter).ever_ran {
            return;
        }
        tear_down(adapter, false);
    }
}

unsafe fn build(adapter: *mut Adapter) -> Result<(), NDIS_STATUS> {
    let handle = (*adapter).handle;
    if is(M::GeneralFirst) {
        (*adapter).max_frame = 1514;
        (*adapter).mac = (*adapter).permanent;
        check(set_general(adapter))?;
    }
    if is(M::StatusTooEarly) {
        indicate_link(adapter, MediaConnectStateConnected);
    }
    check(set_registration(handle, adapter))?;
    if is(M::RegistrationTwice) {
        check(set_registration(handle, adapter))?;
    }
    let settings = read_settings(handle)?;
    (*adapter).mac = settings.mac.unwrap_or((*adapter).permanent);
    (*adapter).max_frame = settings.max_frame;
    (*adapter).config = settings.config;
    if !is(M::SpinLockNotAllocated) {
        NdisAllocateSpinLock((*adapter).lock.get());
    }
    if is(M::SpinLockNotAllocated) || is(M::SpinLockFreed) {
        if is(M::SpinLockFreed) {
            NdisFreeSpinLock((*adapter).lock.get());
        }
        NdisAcquireSpinLock((*adapter).lock.get());
        NdisReleaseSpinLock((*adapter).lock.get());
    }
    if is(M::WorkItemAtHalt) {
        (*adapter).item = NdisAllocateIoWorkItem(handle);
    }
    (*adapter).name = allocate(64).cast();
    if is(M::PagedTouchedAtDispatch) {
        (*adapter).paged = ExAllocatePool2(POOL_FLAG_PAGED, 64, TAG).cast();
    }
    if (*adapter).name.is_null() {
        return Err(NDIS_STATUS_RESOURCES);
    }
    let mut parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(
            if is(M::ListPoolType) { NDIS_OBJECT_TYPE_OFFLOAD } else { NDIS_OBJECT_TYPE_DEFAULT },
            1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        ),
        ProtocolId: 0,
        fAllocateNetBuffer: if is(M::ListPoolWithoutBuffers) { 0 } else { 1 },
        ContextSize: if is(M::ListPoolContextOdd) { 8 } else { 0 },
        PoolTag: if is(M::ListPoolWithoutTag) { 0 } else { TAG },
        DataSize: 0,
    };
    (*adapter).pool = NdisAllocateNetBufferListPool(handle, &mut parameters);
    if (*adapter).pool.is_null() {
        return Err(NDIS_STATUS_RESOURCES);
    }
    make_buffers(adapter)?;
    let mut timer = NDIS_TIMER_CHARACTERISTICS {
        Header: header(
            NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
            if is(M::TimerRevision) { 2 } else { 1 },
            NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
        ),
        AllocationTag: if is(M::TimerWithoutTag) { 0 } else { TAG },
        TimerFunction: (!is(M::TimerWithoutFunction)).then_some(oids::tick),
        FunctionContext: adapter.cast(),
    };
    check(NdisAllocateTimerObject(handle, &mut timer, &mut (*adapter).timer))?;
    if !is(M::DpcNotInitialised) {
        KeInitializeDpc((*adapter).dpc.get(), Some(oids::complete_pended), adapter.cast());
    }
    if is(M::GeneralMissing) {
        return plug_in(adapter);
    }
    if is(M::OffloadBeforeGeneral) {
        check(set_offload(adapter))?;
    }
    check(set_general(adapter))?;
    if is(M::GeneralTwice) {
        check(set_general(adapter))?;
    }
    check(set_offload(adapter))?;
    plug_in(adapter)
}

unsafe fn plug_in(adapter: *mut Adapter) -> Result<(), NDIS_STATUS> {
    let _guard = lock();
    let place = (*WIRE.adapters.get()).iter_mut().find(|place| place.is_null());
    match place {
        Some(place) => {
            *place = adapter;
            Ok(())
        }
        None => Err(NDIS_STATUS_RESOURCES),
    }
}

pub(super) unsafe fn free_buffer(rx: *mut Rx) {
    if !(*rx).list.is_null() && !is(M::HaltLeaksList) {
        NdisFreeNetBufferList((*rx).list);
        if is(M::ListTouchedFreed) {
            (*(*rx).list).Status = 1;
        }
        if is(M::ListFreedTwice) {
            NdisFreeNetBufferList((*rx).list);
        }
    }
    if !(*rx).mdl.is_null() && !is(M::MdlLeft) {
        NdisFreeMdl((*rx).mdl);
    }
    if !(*rx).data.is_null() {
        free((*rx).data.cast());
    }
    free(rx.cast());
}

unsafe fn tear_down(adapter: *mut Adapter, leak: bool) {
    {
        let _guard = lock();
        for place in &mut *WIRE.adapters.get() {
            if *place == adapter {
                *place = null_mut();
            }
        }
    }
    if is(M::TimerSetAtHalt) && !(*adapter).timer.is_null() {
        NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: -10_000_000 }, 0, null_mut());
    } else if !(*adapter).timer.is_null() && !is(M::TimerLeft) {
        if is(M::TimerFreedSet) {
            NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: -10_000_000 }, 0, null_mut());
        } else if NdisCancelTimerObject((*adapter).timer) == FALSE {
            KeFlushQueuedDpcs();
        }
        NdisFreeTimerObject((*adapter).timer);
    }
    if is(M::TimerFreedTwice) && !(*adapter).timer.is_null() {
        NdisFreeTimerObject((*adapter).timer);
    }
    if is(M::TimerSetFreed) && !(*adapter).timer.is_null() {
        NdisSetTimerObject((*adapter).timer, LARGE_INTEGER { QuadPart: -10_000_000 }, 0, null_mut());
    }
    if is(M::ListPoolFreedFirst) && !(*adapter).pool.is_null() {
        NdisFreeNetBufferListPool((*adapter).pool);
        (*adapter).pool = null_mut();
    }
    let mut rx = (*adapter).free;
    while !rx.is_null() {
        let next = (*rx).next;
        free_buffer(rx);
        rx = next;
    }
    if !(*adapter).pool.is_null() && !is(M::ListPoolLeft) && !leak {
        NdisFreeNetBufferListPool((*adapter).pool);
    }
    if !(*adapter).paged.is_null() {
        free((*adapter).paged.cast());
    }
    if !(*adapter).name.is_null() && !is(M::HaltLeaksBlock) {
        free((*adapter).name.cast());
    }
    if !is(M::KeysNotWiped) {
        for slot in &mut (*adapter).sas {
            slot.key = [0; 36];
            slot.ah_key = [0; 20];
        }
    }
    if !(*adapter).item.is_null() {
        NdisQueueIoWorkItem((*adapter).item, Some(work), null_mut());
    }
    if is(M::DpcQueuedAtHalt) {
        // It cannot run before the IRQL is lowered.
        let old = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc((*adapter).dpc.get(), null_mut(), null_mut());
        free(adapter.cast());
        KeLowerIrql(old);
        return;
    }
    free(adapter.cast());
    if is(M::ContextFreedTwice) {
        free(adapter.cast());
    }
    if is(M::UseAfterFree) {
        adapter.cast::<u8>().add(8).write(7);
    }
}
