//! Locks, timers, work items, events and facts about the system, of ndis.sys.

use std::time::Duration;

use ndis_sys::{
    LARGE_INTEGER, LOCK_STATE_EX, NDIS_EVENT, NDIS_HANDLE, NDIS_IO_WORKITEM_ROUTINE, NDIS_RW_LOCK_EX,
    NDIS_SPIN_LOCK, NDIS_STATUS, NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
    NDIS_TIMER_CHARACTERISTICS, PVOID, UINT, ULONG, USHORT,
};

use super::exports;
use crate::adapter::attributes::TIMER;
use crate::machine::work::ItemKind;
use crate::machine::{APC, Machine, Stopped, thread};
use crate::rules;

const SPIN: &str = "NDIS_SPIN_LOCK";

/// What NdisAllocateSpinLock leaves in the part of `NDIS_SPIN_LOCK` that holds the saved IRQL.
const NO_IRQL: u8 = 0xff;

fn owner(machine: &Machine, handle: NDIS_HANDLE) -> Option<(Option<crate::adapter::AdapterId>, u32)> {
    let owner = machine.owner_of(handle as usize);
    if owner.is_none() {
        machine.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
    }
    owner
}

/// Saves or takes the IRQL beside the lock.
///
/// # Safety
/// `lock` is an NDIS_SPIN_LOCK that this thread holds.
unsafe fn old_irql<'a>(lock: *mut NDIS_SPIN_LOCK) -> &'a mut u8 {
    // SAFETY: the holder of the lock owns the field.
    unsafe { &mut (*lock).OldIrql }
}

fn wait_event(machine: &Machine, event: *mut NDIS_EVENT, milliseconds: UINT) -> Result<u8, Stopped> {
    if thread::irql() > APC {
        machine.violate(rules::IRQL_WAIT, "NdisWaitEvent waits at DISPATCH_LEVEL");
        return Err(machine.stop(0xa, [event as u64, 0, 0, 0], "a wait at DISPATCH_LEVEL"));
    }
    let limit = (milliseconds != 0).then(|| Duration::from_millis(milliseconds.into()));
    machine.wait_signal(event as usize, limit).map(u8::from)
}

exports! { TABLE in "ndis.sys" {
    ANY fn NdisAllocateSpinLock(call, lock: *mut NDIS_SPIN_LOCK) {
        call.locks.order.forget(&(lock as usize..lock as usize + 1));
        // SAFETY: the caller owns the lock, which nobody uses yet.
        unsafe { lock.write(NDIS_SPIN_LOCK { SpinLock: 0, OldIrql: NO_IRQL }) };
        call.locks.note_initialised(lock as usize);
        Ok(())
    }

    ANY fn NdisFreeSpinLock(call, lock: *mut NDIS_SPIN_LOCK) {
        // SAFETY: the caller owns the lock; its word is read as an atomic.
        let word = unsafe { std::sync::atomic::AtomicUsize::from_ptr(&raw mut (*lock).SpinLock) };
        // Relaxed: a look for misuse only.
        if word.load(std::sync::atomic::Ordering::Relaxed) != 0 {
            call.violate(rules::POOL_IN_USE, format!("{SPIN} {lock:p} is freed while it is held"));
        }
        call.locks.note_freed(lock as usize);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAcquireSpinLock(call, lock: *mut NDIS_SPIN_LOCK) {
        call.check_initialised(lock as usize);
        let old = call.acquire(lock as usize, SPIN, true)?;
        // SAFETY: this thread holds the lock now.
        unsafe { *old_irql(lock) = old };
        Ok(())
    }

    AT_DISPATCH fn NdisReleaseSpinLock(call, lock: *mut NDIS_SPIN_LOCK) {
        let held = thread::with(|t| t.held.borrow().iter().any(|held| held.address == lock as usize));
        // SAFETY: if this thread holds the lock, the field is its own; else it is not read.
        let old = if held { unsafe { *old_irql(lock) } } else { 0 };
        call.release(lock as usize, SPIN, Some(old))
    }

    AT_DISPATCH fn NdisDprAcquireSpinLock(call, lock: *mut NDIS_SPIN_LOCK) {
        call.check_initialised(lock as usize);
        call.acquire(lock as usize, SPIN, false).map(|_| ())
    }

    AT_DISPATCH fn NdisDprReleaseSpinLock(call, lock: *mut NDIS_SPIN_LOCK) {
        call.release(lock as usize, SPIN, None)
    }

    UP_TO_DISPATCH fn NdisAllocateRWLock(call, handle: NDIS_HANDLE) -> *mut NDIS_RW_LOCK_EX {
        let Some((adapter, _)) = owner(call, handle) else { return Ok(std::ptr::null_mut()) };
        if call.fault(0, 0) {
            return Ok(std::ptr::null_mut());
        }
        let number = call.handle(crate::machine::HandleKind::RwLock);
        call.create_rw_lock(number, adapter);
        Ok(number as *mut NDIS_RW_LOCK_EX)
    }

    UP_TO_DISPATCH fn NdisFreeRWLock(call, lock: *mut NDIS_RW_LOCK_EX) {
        call.free_rw_lock(lock as usize);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAcquireRWLockRead(call, lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX, flags: u8) {
        let old = call.acquire_rw(lock as usize, false)?;
        // SAFETY: the caller's structure.
        unsafe { state.write(LOCK_STATE_EX { OldIrql: old, LockState: 1, Flags: flags }) };
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAcquireRWLockWrite(call, lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX, flags: u8) {
        let old = call.acquire_rw(lock as usize, true)?;
        // SAFETY: the caller's structure.
        unsafe { state.write(LOCK_STATE_EX { OldIrql: old, LockState: 2, Flags: flags }) };
        Ok(())
    }

    UP_TO_DISPATCH fn NdisTryAcquireRWLockRead(
        call, lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX, flags: u8,
    ) -> u8 {
        let old = call.take_rw(lock as usize, false, false)?;
        if let Some(old) = old {
            // SAFETY: the caller's structure.
            unsafe { state.write(LOCK_STATE_EX { OldIrql: old, LockState: 1, Flags: flags }) };
        }
        Ok(u8::from(old.is_some()))
    }

    UP_TO_DISPATCH fn NdisTryAcquireRWLockWrite(
        call, lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX, flags: u8,
    ) -> u8 {
        let old = call.take_rw(lock as usize, true, false)?;
        if let Some(old) = old {
            // SAFETY: the caller's structure.
            unsafe { state.write(LOCK_STATE_EX { OldIrql: old, LockState: 2, Flags: flags }) };
        }
        Ok(u8::from(old.is_some()))
    }

    AT_DISPATCH fn NdisReleaseRWLock(call, lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX) {
        // SAFETY: the structure that the acquisition filled.
        let old = unsafe { (*state).OldIrql };
        call.release_rw(lock as usize, old)
    }

    UP_TO_DISPATCH fn NdisAllocateTimerObject(
        call, handle: NDIS_HANDLE, characteristics: *mut NDIS_TIMER_CHARACTERISTICS, timer: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        // SAFETY: the caller's structure, as large as its header says; the header comes first.
        let characteristics = unsafe {
            if !call.takes_header((*characteristics).Header, TIMER) {
                return Ok(NDIS_STATUS_FAILURE);
            }
            *characteristics
        };
        let Some(function) = characteristics.TimerFunction else {
            call.violate(rules::PARAMETER, "TimerFunction is NULL");
            return Ok(NDIS_STATUS_FAILURE);
        };
        if characteristics.AllocationTag == 0 {
            call.violate(rules::POOL_TAG_ZERO, "AllocationTag of NDIS_TIMER_CHARACTERISTICS");
        }
        let Some((adapter, driver)) = owner(call, handle) else { return Ok(NDIS_STATUS_FAILURE) };
        if call.fault(0, characteristics.AllocationTag) {
            return Ok(NDIS_STATUS_RESOURCES);
        }
        let number = call.create_timer(adapter, driver, function as usize, characteristics.FunctionContext as usize);
        // SAFETY: the caller's variable.
        unsafe { timer.write(number as NDIS_HANDLE) };
        Ok(NDIS_STATUS_SUCCESS)
    }

    UP_TO_DISPATCH fn NdisSetTimerObject(
        call, timer: NDIS_HANDLE, due: LARGE_INTEGER, period: i32, context: PVOID,
    ) -> u8 {
        // Negative: relative, in units of 100 ns. Positive: absolute, which has passed.
        let delay = u64::try_from(due.QuadPart.saturating_neg()).unwrap_or(0);
        let delay = Duration::from_nanos(delay.saturating_mul(100));
        let period = u64::try_from(period).ok().filter(|p| *p > 0).map(Duration::from_millis);
        call.set_timer(timer as usize, delay, period, context as usize).map(u8::from)
    }

    UP_TO_DISPATCH fn NdisCancelTimerObject(call, timer: NDIS_HANDLE) -> u8 {
        call.cancel_timer(timer as usize).map(u8::from)
    }

    UP_TO_DISPATCH fn NdisFreeTimerObject(call, timer: NDIS_HANDLE) {
        call.free_timer(timer as usize)
    }

    UP_TO_DISPATCH fn NdisAllocateIoWorkItem(call, handle: NDIS_HANDLE) -> NDIS_HANDLE {
        let Some((adapter, driver)) = owner(call, handle) else { return Ok(std::ptr::null_mut()) };
        if call.fault(0, 0) {
            return Ok(std::ptr::null_mut());
        }
        Ok(call.create_work_item(ItemKind::Ndis, adapter, driver) as NDIS_HANDLE)
    }

    UP_TO_DISPATCH fn NdisQueueIoWorkItem(call, item: NDIS_HANDLE, routine: NDIS_IO_WORKITEM_ROUTINE, context: PVOID) {
        let Some(routine) = routine else {
            call.violate(rules::PARAMETER, "Routine is NULL");
            return Ok(());
        };
        call.queue_work_item(item as usize, routine as usize, context as usize, false)
    }

    UP_TO_DISPATCH fn NdisFreeIoWorkItem(call, item: NDIS_HANDLE) {
        call.free_work_item(item as usize)
    }

    ANY fn NdisInitializeEvent(_, event: *mut NDIS_EVENT) {
        // SAFETY: the caller owns the event, which nobody uses yet.
        unsafe {
            let header = &raw mut (*event).Event.Header;
            (*header).Type = 0;
            (*header).Signalling = 0;
            (*header).Size = 6;
            (*header).Reserved1 = 0;
            (*header).SignalState = 0;
            let list = &raw mut (*header).WaitListHead;
            (*list).Flink = list;
            (*list).Blink = list;
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisSetEvent(call, event: *mut NDIS_EVENT) {
        call.set_signal(event as usize, 1);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisResetEvent(call, event: *mut NDIS_EVENT) {
        call.set_signal(event as usize, 0);
        Ok(())
    }

    PASSIVE_ONLY fn NdisWaitEvent(call, event: *mut NDIS_EVENT, milliseconds: UINT) -> u8 {
        wait_event(call, event, milliseconds)
    }

    UP_TO_APC fn NdisMSleep(call, microseconds: ULONG) {
        if thread::irql() > APC {
            call.violate(rules::IRQL_WAIT, "NdisMSleep sleeps at DISPATCH_LEVEL");
            return Err(call.stop(0xa, [0; 4], "a wait at DISPATCH_LEVEL"));
        }
        call.sleep(Duration::from_micros(microseconds.into()));
        Ok(())
    }

    ANY fn NdisGetSystemUpTimeEx(call, up: *mut LARGE_INTEGER) {
        let milliseconds = i64::try_from(call.uptime().as_millis()).unwrap_or(i64::MAX);
        // SAFETY: the caller's variable.
        unsafe { up.write(LARGE_INTEGER { QuadPart: milliseconds }) };
        Ok(())
    }

    AT_DISPATCH fn NdisCurrentProcessorIndex(_) -> ULONG {
        Ok(thread::with(thread::Thread::processor))
    }

    PASSIVE_ONLY fn NdisSystemProcessorCount(call) -> i8 {
        Ok(i8::try_from(call.options.processors).unwrap_or(i8::MAX))
    }

    ANY fn NdisGroupActiveProcessorCount(call, group: USHORT) -> ULONG {
        Ok(if group == 0 || group == ndis_sys::ALL_PROCESSOR_GROUPS { call.options.processors } else { 0 })
    }

    UP_TO_DISPATCH fn NdisGetVersion(call) -> UINT {
        Ok(call.options.ndis_version)
    }
} }
