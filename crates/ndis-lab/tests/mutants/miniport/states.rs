//! Restart, pause, reset, shutdown, events.

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ndis_sys::*;

use super::attributes::set_offload;
use super::life::free_buffer;
use super::status::indicate_link;
use super::{Adapter, M, Rx, TAG, allocate, free, is, lock};

ndis_fn! {
    pub(super) unsafe extern fn restart(context: NDIS_HANDLE, parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        if is(M::RestartAttributesTrusted) {
            (*parameters).RestartAttributes.cast::<u8>().read_volatile();
        }
        if is(M::AttributesInRestart) {
            set_offload(adapter);
        }
        if is(M::ParametersKept) {
            (*adapter).kept.write_volatile(1);
        }
        if is(M::PauseCompletedUnasked) {
            NdisMPauseComplete((*adapter).handle);
        }
        if is(M::RestartCompletedTooLate) {
            NdisMRestartComplete((*adapter).handle, NDIS_STATUS_SUCCESS);
        }
        if is(M::RestartLeavesRunning) {
            (*adapter).running = true;
        }
        if is(M::IrqlRaisedInRestart) {
            KeRaiseIrqlToDpcLevel();
        }
        // Something to do that may fail.
        let block = allocate(24);
        if block.is_null() {
            return if is(M::RestartOddStatus) { 0x4000_0042 } else { NDIS_STATUS_RESOURCES };
        }
        free(block);
        let guard = lock();
        (*adapter).running = true;
        (*adapter).ever_ran = true;
        if is(M::RestartClearsFilter) {
            (*adapter).filter = 0;
        }
        drop(guard);
        if is(M::RestartNeverEnds) { NDIS_STATUS_PENDING } else { NDIS_STATUS_SUCCESS }
    }

    pub(super) unsafe extern fn pause(context: NDIS_HANDLE, _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        let guard = lock();
        if !is(M::PauseGoesOnReceiving) {
            (*adapter).running = false;
        }
        if is(M::PauseLosesBuffer) && !(*adapter).free.is_null() {
            // Twenty at once, so that it shows after a few pauses.
            let mut lost = null_mut::<Rx>();
            for _ in 0..20 {
                let rx = (*adapter).free;
                if rx.is_null() {
                    break;
                }
                (*adapter).free = (*rx).next;
                (*adapter).free_count -= 1;
                (*rx).next = lost;
                lost = rx;
            }
            drop(guard);
            while !lost.is_null() {
                let next = (*lost).next;
                free_buffer(lost);
                lost = next;
            }
            return NDIS_STATUS_SUCCESS;
        }
        if is(M::PauseClearsCounters) {
            (*adapter).sent = Default::default();
        }
        if is(M::PauseDropsSas) {
            for slot in &mut (*adapter).sas {
                slot.handle = 0;
            }
        }
        if is(M::LockLeftInPause) {
            std::mem::forget(guard);
            return NDIS_STATUS_SUCCESS;
        }
        if is(M::PauseTooEarly) {
            return NDIS_STATUS_SUCCESS;
        }
        if is(M::PauseFails) && (*adapter).outstanding == 0 {
            return NDIS_STATUS_FAILURE;
        }
        if (*adapter).outstanding == 0 {
            drop(guard);
            if is(M::PauseTwice) {
                NdisMPauseComplete((*adapter).handle);
            }
            return NDIS_STATUS_SUCCESS;
        }
        (*adapter).pausing = !is(M::PauseNeverEnds);
        NDIS_STATUS_PENDING
    }

    pub(super) unsafe extern fn pnp_event(context: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT) {
        if is(M::EventOverread) && !(*event).InformationBuffer.is_null() {
            (*event).InformationBuffer.cast::<u8>().add(4096).read_volatile();
        }
        if is(M::EventTrusted) {
            (*event).InformationBuffer.cast::<u32>().read_volatile();
        }
        if is(M::EventSleepsLocked) {
            let _guard = lock();
            NdisMSleep(10);
        }
        let _guard = lock();
        if (*event).DevicePnPEvent == NdisDevicePnPEventSurpriseRemoved || is(M::AnyEventRemoves) {
            (*context.cast::<Adapter>()).removed = true;
        }
    }

    pub(super) unsafe extern fn shutdown(context: NDIS_HANDLE, action: NDIS_SHUTDOWN_ACTION) {
        let adapter = context.cast::<Adapter>();
        if is(M::ShutdownCallsNdis) {
            indicate_link(adapter, MediaConnectStateUnknown);
        }
        if is(M::ShutdownAllocates) {
            allocate(16);
        }
        if is(M::ShutdownLocks) {
            let _guard = lock();
        }
        if is(M::ShutdownFrees) && action == NdisShutdownPowerOff {
            free((*adapter).name.cast());
            (*adapter).name = null_mut();
        }
    }

    pub(super) unsafe extern fn check_for_hang(_context: NDIS_HANDLE) -> BOOLEAN {
        if is(M::HangAlways) { TRUE } else { FALSE }
    }

    pub(super) unsafe extern fn reset(context: NDIS_HANDLE, addressing: *mut BOOLEAN) -> NDIS_STATUS {
        let adapter = context.cast::<Adapter>();
        *addressing = FALSE;
        if is(M::ResetAllocatesPaged) {
            let block = ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG);
            if !block.is_null() {
                free(block);
            }
        }
        if is(M::ResetNeverEnds) {
            return NDIS_STATUS_PENDING;
        }
        if is(M::ResetTwice) {
            NdisMResetComplete((*adapter).handle, NDIS_STATUS_SUCCESS, FALSE);
        }
        if is(M::ResetOddStatus) {
            return NDIS_STATUS_INVALID_DATA;
        }
        if is(M::ResetDropsSas) {
            for slot in &mut (*adapter).sas {
                slot.handle = 0;
            }
        }
        let request = (*adapter).pended.swap(null_mut(), Ordering::SeqCst);
        if !request.is_null() {
            if is(M::ResetLeavesPending) {
                (*adapter).pended.store(request, Ordering::SeqCst);
            } else {
                NdisMOidRequestComplete((*adapter).handle, request, NDIS_STATUS_REQUEST_ABORTED);
            }
        }
        let _guard = lock();
        if is(M::ResetClearsFilter) {
            (*adapter).filter = 0;
        }
        if is(M::ResetEndsPause) {
            (*adapter).running = true;
        }
        NDIS_STATUS_SUCCESS
    }
}
