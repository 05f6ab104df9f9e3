//! IRQL, processors, locks, DPCs, events, processor state and bugchecks of ntoskrnl.exe.

use std::time::Duration;

use ndis_sys::{
    EVENT_TYPE, KDPC, KEVENT, KIRQL, KPRIORITY, KPROCESSOR_MODE, KSPIN_LOCK, KWAIT_REASON, LARGE_INTEGER,
    NTSTATUS, PKDEFERRED_ROUTINE, PVOID, ULONG, ULONG_PTR, ULONG64, XSTATE_SAVE,
};

use super::exports;
use crate::machine::{APC, DISPATCH, thread};
use crate::rules;

/// `STATUS_TIMEOUT`.
const STATUS_TIMEOUT: NTSTATUS = 0x102;
/// `STATUS_INSUFFICIENT_RESOURCES`.
const INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
/// `STATUS_NOT_SUPPORTED`.
const NOT_SUPPORTED: NTSTATUS = 0xc000_00bb_u32.cast_signed();
const KSPIN: &str = "KSPIN_LOCK";

/// The features whose state can be saved: x87, SSE, and what the host's processor has of AVX and AVX-512.
fn extended_features() -> u64 {
    let mut mask = ndis_sys::XSTATE_MASK_LEGACY;
    if std::arch::is_x86_feature_detected!("avx") {
        mask |= ndis_sys::XSTATE_MASK_AVX;
    }
    if std::arch::is_x86_feature_detected!("avx512f") {
        mask |= ndis_sys::XSTATE_MASK_AVX512;
    }
    mask
}

exports! { TABLE in "ntoskrnl.exe" {
    ANY fn KeGetCurrentIrql(_) -> KIRQL {
        Ok(thread::irql())
    }

    ANY fn KfRaiseIrql(call, new: KIRQL) -> KIRQL {
        let old = thread::irql();
        if new < old {
            call.violate(rules::IRQL_LOWERED, format!("raise from {} to {}", rules::irql_name(old), rules::irql_name(new)));
            return Err(call.stop(0x9, [u64::from(old), u64::from(new), 0, 0], "KeRaiseIrql to a lower IRQL"));
        }
        Ok(call.raise(new))
    }

    UP_TO_DISPATCH fn KeRaiseIrqlToDpcLevel(call) -> KIRQL {
        Ok(call.raise(thread::irql().max(DISPATCH)))
    }

    ANY fn KeLowerIrql(call, new: KIRQL) {
        let old = thread::irql();
        if new > old {
            call.violate(rules::IRQL_LOWERED, format!("lower from {} to {}", rules::irql_name(old), rules::irql_name(new)));
            return Err(call.stop(0xa, [u64::from(old), u64::from(new), 0, 0], "KeLowerIrql to a higher IRQL"));
        }
        let floor = thread::with(thread::Thread::floor);
        if new < floor {
            let (new, floor) = (rules::irql_name(new), rules::irql_name(floor));
            call.violate(rules::IRQL_LOWERED, format!("lower to {new} in a handler that was called at {floor}"));
        }
        call.lower(new)
    }

    ANY fn KeInitializeSpinLock(call, lock: *mut KSPIN_LOCK) {
        call.locks.order.forget(&(lock as usize..lock as usize + 1));
        // SAFETY: the caller owns the lock, which nobody uses yet.
        unsafe { lock.write(0) };
        // Headers initialise an NDIS_SPIN_LOCK by it, which begins with a KSPIN_LOCK.
        call.locks.note_initialised(lock as usize);
        Ok(())
    }

    UP_TO_DISPATCH fn KeAcquireSpinLockRaiseToDpc(call, lock: *mut KSPIN_LOCK) -> KIRQL {
        call.acquire(lock as usize, KSPIN, true)
    }

    DISPATCH_AND_ABOVE fn KeReleaseSpinLock(call, lock: *mut KSPIN_LOCK, new: KIRQL) {
        call.release(lock as usize, KSPIN, Some(new))
    }

    DISPATCH_AND_ABOVE fn KeAcquireSpinLockAtDpcLevel(call, lock: *mut KSPIN_LOCK) {
        call.acquire(lock as usize, KSPIN, false).map(|_| ())
    }

    AT_DISPATCH fn KeReleaseSpinLockFromDpcLevel(call, lock: *mut KSPIN_LOCK) {
        call.release(lock as usize, KSPIN, None)
    }

    ANY fn KeInitializeDpc(call, dpc: *mut KDPC, routine: PKDEFERRED_ROUTINE, context: PVOID) {
        call.initialize_dpc(dpc, routine, context);
        Ok(())
    }

    ANY fn KeInsertQueueDpc(call, dpc: *mut KDPC, first: PVOID, second: PVOID) -> u8 {
        call.queue_dpc(dpc, [first, second]).map(u8::from)
    }

    ANY fn KeRemoveQueueDpc(call, dpc: *mut KDPC) -> u8 {
        Ok(u8::from(call.remove_dpc(dpc)))
    }

    PASSIVE_ONLY fn KeFlushQueuedDpcs(call) {
        if thread::irql() >= DISPATCH {
            call.violate(rules::IRQL_WAIT, "KeFlushQueuedDpcs waits for this very processor");
            return Err(call.stop(0xa, [0; 4], "a wait at DISPATCH_LEVEL"));
        }
        call.flush_dpcs()
    }

    ANY fn KeInitializeEvent(_, event: *mut KEVENT, kind: EVENT_TYPE, state: u8) {
        // SAFETY: the caller owns the event, which nobody uses yet.
        unsafe {
            let header = &raw mut (*event).Header;
            (*header).Type = u8::from(kind == ndis_sys::SynchronizationEvent);
            (*header).Signalling = 0;
            (*header).Size = 6;
            (*header).Reserved1 = 0;
            (*header).SignalState = i32::from(state != 0);
            let list = &raw mut (*header).WaitListHead;
            (*list).Flink = list;
            (*list).Blink = list;
        }
        Ok(())
    }

    UP_TO_DISPATCH fn KeSetEvent(call, event: *mut KEVENT, _increment: KPRIORITY, _wait: u8) -> i32 {
        Ok(call.set_signal(event as usize, 1))
    }

    UP_TO_DISPATCH fn KeResetEvent(call, event: *mut KEVENT) -> i32 {
        Ok(call.set_signal(event as usize, 0))
    }

    UP_TO_DISPATCH fn KeClearEvent(call, event: *mut KEVENT) {
        call.set_signal(event as usize, 0);
        Ok(())
    }

    UP_TO_DISPATCH fn KeReadStateEvent(_, event: *mut KEVENT) -> i32 {
        // SAFETY: the caller's event; its state is accessed atomically.
        let state = unsafe { std::sync::atomic::AtomicI32::from_ptr(&raw mut (*event).Header.SignalState) };
        // Acquire: who sees the event set sees what was done before.
        Ok(state.load(std::sync::atomic::Ordering::Acquire))
    }

    UP_TO_DISPATCH fn KeWaitForSingleObject(
        call, object: PVOID, _reason: KWAIT_REASON, _mode: KPROCESSOR_MODE, _alertable: u8, limit: *mut LARGE_INTEGER,
    ) -> NTSTATUS {
        // SAFETY: the time-out is NULL or the caller's.
        let limit = unsafe { limit.as_ref() }.map(|limit| call.until(*limit));
        if thread::irql() > APC && limit != Some(Duration::ZERO) {
            call.violate(rules::IRQL_WAIT, "only a wait with a time-out of zero may be made at DISPATCH_LEVEL");
            return Err(call.stop(0xa, [object as u64, 0, 0, 0], "a wait at DISPATCH_LEVEL"));
        }
        Ok(if call.wait_signal(object as usize, limit)? { 0 } else { STATUS_TIMEOUT })
    }

    UP_TO_DISPATCH fn KeWaitForMultipleObjects(
        call, count: ULONG, objects: *const PVOID, kind: i32, _reason: KWAIT_REASON, _mode: KPROCESSOR_MODE,
        _alertable: u8, limit: *mut LARGE_INTEGER, blocks: PVOID,
    ) -> NTSTATUS {
        // Three wait blocks are built into a thread; 64 are the most.
        if count == 0 || count > 64 || (count > 3 && blocks.is_null()) {
            call.violate(rules::PARAMETER, format!("{count} objects, and WaitBlockArray is {blocks:p}"));
            return Err(call.stop(0xc, [0; 4], "MAXIMUM_WAIT_OBJECTS_EXCEEDED"));
        }
        // SAFETY: the caller's array of `count` objects; the time-out is NULL or the caller's.
        let (objects, limit) = unsafe { (std::slice::from_raw_parts(objects, count as usize), limit.as_ref()) };
        let objects: Vec<usize> = objects.iter().map(|object| *object as usize).collect();
        let limit = limit.map(|limit| call.until(*limit));
        if thread::irql() > APC && limit != Some(Duration::ZERO) {
            call.violate(rules::IRQL_WAIT, "only a wait with a time-out of zero may be made at DISPATCH_LEVEL");
            return Err(call.stop(0xa, [objects[0] as u64, 0, 0, 0], "a wait at DISPATCH_LEVEL"));
        }
        // WaitAll is 0, WaitAny 1.
        let found = call.wait_signals(&objects, kind == 0, limit)?;
        Ok(found.map_or(STATUS_TIMEOUT, |index| NTSTATUS::try_from(index).unwrap_or(0)))
    }

    UP_TO_APC fn KeDelayExecutionThread(call, _mode: KPROCESSOR_MODE, _alertable: u8, interval: *const LARGE_INTEGER) -> NTSTATUS {
        // SAFETY: the caller's interval.
        call.sleep(call.until(unsafe { *interval }));
        Ok(0)
    }

    ANY fn KeStallExecutionProcessor(call, microseconds: ULONG) {
        call.stall(Duration::from_micros(microseconds.into()));
        Ok(())
    }

    UP_TO_DISPATCH fn KeSaveExtendedProcessorState(call, mask: ULONG64, save: *mut XSTATE_SAVE) -> NTSTATUS {
        if call.fault(0, 0) {
            return Ok(INSUFFICIENT_RESOURCES);
        }
        if mask & !extended_features() != 0 {
            return Ok(NOT_SUPPORTED);
        }
        thread::with(|thread| thread.xstates.borrow_mut().push((save as usize, mask)));
        Ok(0)
    }

    UP_TO_DISPATCH fn KeRestoreExtendedProcessorState(call, save: *mut XSTATE_SAVE) {
        let found = thread::with(|thread| {
            let mut states = thread.xstates.borrow_mut();
            let at = states.iter().rposition(|(address, _)| *address == save as usize);
            at.map(|at| (states.len() - 1 == at, states.remove(at)))
        });
        match found {
            Some((true, _)) => {}
            Some((false, _)) => call.violate(rules::XSTATE_USE, format!("{save:p} was not saved last")),
            None => call.violate(rules::XSTATE_USE, format!("{save:p} was not saved by this thread")),
        }
        Ok(())
    }

    PASSIVE_ONLY fn RtlGetEnabledExtendedFeatures(_, mask: ULONG64) -> ULONG64 {
        Ok(extended_features() & mask)
    }

    ANY fn KeBugCheckEx(call, code: ULONG, a: ULONG_PTR, b: ULONG_PTR, c: ULONG_PTR, d: ULONG_PTR) {
        Err(call.stop(code, [a as u64, b as u64, c as u64, d as u64], "the driver called KeBugCheckEx"))
    }

    ANY fn KeBugCheck(call, code: ULONG) {
        Err(call.stop(code, [0; 4], "the driver called KeBugCheck"))
    }
} }
