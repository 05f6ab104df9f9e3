//! OID requests, and what ends those that are pending.

use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use ndis_sys::*;

use super::attributes::read_address;
use super::{Adapter, Defect, TAG, allocate, free, header, is};

/// A request that was completed, of a driver that does not forget it.
pub(super) static ENDED: AtomicPtr<NDIS_OID_REQUEST> = AtomicPtr::new(null_mut());

ndis_fn! {
    pub(super) unsafe extern fn cancel_oid(context: NDIS_HANDLE, id: PVOID) {
        cancel(context.cast(), id, false);
    }

    pub(super) unsafe extern fn cancel_direct_oid(context: NDIS_HANDLE, id: PVOID) {
        cancel(context.cast(), id, true);
    }

    pub(super) unsafe extern fn tick(_one: PVOID, context: PVOID, _two: PVOID, _three: PVOID) {
        KeInsertQueueDpc((*context.cast::<Adapter>()).dpc.get(), null_mut(), null_mut());
    }

    pub(super) unsafe extern fn complete_pended(_dpc: *mut KDPC, context: PVOID, _one: PVOID, _two: PVOID) {
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

    pub(super) unsafe extern fn oid_request(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        answer(context.cast(), request)
    }

    pub(super) unsafe extern fn direct_oid(context: NDIS_HANDLE, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
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
