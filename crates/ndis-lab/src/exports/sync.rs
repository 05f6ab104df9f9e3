//! Timers, targets of DPCs, semaphores, mutexes, push locks and rundown protection of ntoskrnl.exe.

use ndis_sys::{
    BOOLEAN, KDPC, KIRQL, KPRIORITY, KSPIN_LOCK, LARGE_INTEGER, LONG, NTSTATUS, PKDEFERRED_ROUTINE,
    PROCESSOR_NUMBER, PVOID, ULONG,
};

use super::{Call, exports};
use crate::machine::pool::PoolKind;
use crate::machine::{APC, DISPATCH, Stopped, ktimer, mutex, thread};
use crate::rules;

const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const KSPIN: &str = "KSPIN_LOCK";
/// The tag of what the kernel allocates for rundown protection when the caller names none.
const RUNDOWN_TAG: ULONG = u32::from_le_bytes(*b"ExRp");
/// Bytes of an EX_RUNDOWN_REF_CACHE_AWARE: more than one word, so that nobody takes it for one.
const CACHE_AWARE: usize = 64;
/// The lowest `KDPC_IMPORTANCE` that there is not: low, medium, high, medium-high.
const IMPORTANCES: i32 = 4;
/// `ThreadedDpcObject`; the lab runs threaded DPCs as ordinary ones, which Windows may do as well.
const MEDIUM: u8 = 1;

/// A wait, or an acquisition that may wait, above APC_LEVEL.
fn no_wait(call: &Call<'_>, object: PVOID) -> Result<(), Stopped> {
    if thread::irql() < DISPATCH {
        return Ok(());
    }
    call.violate(rules::IRQL_WAIT, format!("{object:p} may have to be waited for"));
    Err(call.stop(0xa, [object as u64, 0, 0, 0], "a wait at DISPATCH_LEVEL"))
}

exports! { TIMERS in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn KeInitializeTimer(call, timer: PVOID) {
        call.initialize_ktimer(timer as usize, ktimer::NOTIFICATION)
    }

    UP_TO_DISPATCH fn KeInitializeTimerEx(call, timer: PVOID, kind: i32) {
        // NotificationTimer is 0, SynchronizationTimer 1.
        if !(0..=1).contains(&kind) {
            call.violate(rules::PARAMETER, format!("TIMER_TYPE {kind}"));
        }
        call.initialize_ktimer(timer as usize, if kind == 0 { ktimer::NOTIFICATION } else { ktimer::SYNCHRONIZATION })
    }

    UP_TO_DISPATCH fn KeSetTimer(call, timer: PVOID, due: LARGE_INTEGER, dpc: *mut KDPC) -> BOOLEAN {
        call.start_ktimer(timer as usize, due, 0, dpc).map(u8::from)
    }

    UP_TO_DISPATCH fn KeSetTimerEx(call, timer: PVOID, due: LARGE_INTEGER, period: LONG, dpc: *mut KDPC) -> BOOLEAN {
        call.start_ktimer(timer as usize, due, period, dpc).map(u8::from)
    }

    UP_TO_DISPATCH fn KeSetCoalescableTimer(
        call, timer: PVOID, due: LARGE_INTEGER, period: ULONG, _delay: ULONG, dpc: *mut KDPC,
    ) -> BOOLEAN {
        call.start_ktimer(timer as usize, due, i32::try_from(period).unwrap_or(-1), dpc).map(u8::from)
    }

    UP_TO_DISPATCH fn KeCancelTimer(call, timer: PVOID) -> BOOLEAN {
        call.stop_ktimer(timer as usize).map(u8::from)
    }

    UP_TO_DISPATCH fn KeReadStateTimer(call, timer: PVOID) -> BOOLEAN {
        Ok(u8::from(call.read_signal(timer as usize) > 0))
    }

    ANY fn KeSetTargetProcessorDpc(call, dpc: *mut KDPC, processor: i8) {
        call.target_dpc(dpc, u32::try_from(processor).unwrap_or(u32::MAX));
        Ok(())
    }

    ANY fn KeSetTargetProcessorDpcEx(call, dpc: *mut KDPC, processor: *const PROCESSOR_NUMBER) -> NTSTATUS {
        // SAFETY: the caller's structure.
        let processor = unsafe { *processor };
        let index = if processor.Group == 0 && processor.Reserved == 0 { processor.Number.into() } else { u32::MAX };
        Ok(if call.target_dpc(dpc, index) { 0 } else { STATUS_INVALID_PARAMETER })
    }

    ANY fn KeSetImportanceDpc(call, dpc: *mut KDPC, importance: i32) {
        if !(0..IMPORTANCES).contains(&importance) {
            call.violate(rules::PARAMETER, format!("KDPC_IMPORTANCE {importance}"));
            return Ok(());
        }
        // SAFETY: the caller's KDPC; the importance is read when it is queued.
        unsafe { (*dpc).Importance = u8::try_from(importance).unwrap_or(MEDIUM) };
        Ok(())
    }

    ANY fn KeInitializeThreadedDpc(call, dpc: *mut KDPC, routine: PKDEFERRED_ROUTINE, context: PVOID) {
        call.initialize_dpc(dpc, routine, context);
        Ok(())
    }
} }

exports! { MUTEXES in "ntoskrnl.exe" {
    PASSIVE_ONLY fn KeInitializeSemaphore(call, semaphore: PVOID, count: LONG, limit: LONG) {
        call.initialize_semaphore(semaphore as usize, count, limit);
        Ok(())
    }

    UP_TO_DISPATCH fn KeReleaseSemaphore(call, semaphore: PVOID, _increment: KPRIORITY, adjustment: LONG, _wait: BOOLEAN) -> LONG {
        call.release_semaphore(semaphore as usize, adjustment)
    }

    ANY fn KeReadStateSemaphore(call, semaphore: PVOID) -> LONG {
        Ok(call.read_signal(semaphore as usize))
    }

    ANY fn KeInitializeMutex(call, mutex: PVOID, _level: ULONG) {
        call.initialize_mutant(mutex as usize);
        Ok(())
    }

    UP_TO_DISPATCH fn KeReleaseMutex(call, mutex: PVOID, _wait: BOOLEAN) -> LONG {
        call.release_mutant(mutex as usize)
    }

    UP_TO_DISPATCH fn KeReadStateMutex(call, mutex: PVOID) -> LONG {
        Ok(call.read_signal(mutex as usize))
    }

    UP_TO_APC fn ExAcquireFastMutex(call, mutex: PVOID) {
        call.acquire_mutex(mutex as usize, mutex::FAST, true).map(|_| ())
    }

    UP_TO_APC fn ExTryToAcquireFastMutex(call, mutex: PVOID) -> BOOLEAN {
        call.acquire_mutex(mutex as usize, mutex::FAST, false).map(u8::from)
    }

    UP_TO_APC fn ExReleaseFastMutex(call, mutex: PVOID) {
        call.release_mutex(mutex as usize, mutex::FAST)
    }

    UP_TO_APC fn ExAcquireFastMutexUnsafe(call, mutex: PVOID) {
        call.acquire_mutex(mutex as usize, mutex::FAST_UNSAFE, true).map(|_| ())
    }

    UP_TO_APC fn ExReleaseFastMutexUnsafe(call, mutex: PVOID) {
        call.release_mutex(mutex as usize, mutex::FAST_UNSAFE)
    }

    UP_TO_APC fn KeInitializeGuardedMutex(call, mutex: PVOID) {
        call.initialize_fast_mutex(mutex as usize);
        Ok(())
    }

    UP_TO_APC fn KeAcquireGuardedMutex(call, mutex: PVOID) {
        call.acquire_mutex(mutex as usize, mutex::GUARDED, true).map(|_| ())
    }

    UP_TO_APC fn KeTryToAcquireGuardedMutex(call, mutex: PVOID) -> BOOLEAN {
        call.acquire_mutex(mutex as usize, mutex::GUARDED, false).map(u8::from)
    }

    UP_TO_APC fn KeReleaseGuardedMutex(call, mutex: PVOID) {
        call.release_mutex(mutex as usize, mutex::GUARDED)
    }

    UP_TO_APC fn KeAcquireGuardedMutexUnsafe(call, mutex: PVOID) {
        call.acquire_mutex(mutex as usize, mutex::GUARDED_UNSAFE, true).map(|_| ())
    }

    UP_TO_APC fn KeReleaseGuardedMutexUnsafe(call, mutex: PVOID) {
        call.release_mutex(mutex as usize, mutex::GUARDED_UNSAFE)
    }

    UP_TO_APC fn KeEnterGuardedRegion(_) {
        thread::with(|thread| thread.critical.set(thread.critical.get() + 1));
        Ok(())
    }

    UP_TO_APC fn KeLeaveGuardedRegion(call) {
        call.leave_critical();
        Ok(())
    }

    UP_TO_DISPATCH fn KeAreAllApcsDisabled(_) -> BOOLEAN {
        Ok(u8::from(thread::irql() >= APC || thread::with(|thread| thread.critical.get()) > 0))
    }

    UP_TO_APC fn ExInitializePushLock(_, lock: *mut usize) {
        // SAFETY: the caller's push lock, which nobody uses yet.
        unsafe { lock.write(0) };
        Ok(())
    }

    UP_TO_APC fn ExAcquirePushLockExclusiveEx(call, lock: PVOID, _flags: ULONG) {
        call.acquire_push_lock(lock as usize, mutex::PUSH_EXCLUSIVE)
    }

    UP_TO_APC fn ExAcquirePushLockSharedEx(call, lock: PVOID, _flags: ULONG) {
        call.acquire_push_lock(lock as usize, mutex::PUSH_SHARED)
    }

    UP_TO_APC fn ExReleasePushLockExclusiveEx(call, lock: PVOID, _flags: ULONG) {
        call.release_push_lock(lock as usize, Some(mutex::PUSH_EXCLUSIVE))
    }

    UP_TO_APC fn ExReleasePushLockSharedEx(call, lock: PVOID, _flags: ULONG) {
        call.release_push_lock(lock as usize, Some(mutex::PUSH_SHARED))
    }

    UP_TO_APC fn ExReleasePushLockEx(call, lock: PVOID, _flags: ULONG) {
        call.release_push_lock(lock as usize, None)
    }

    UP_TO_APC fn ExfAcquirePushLockExclusive(call, lock: PVOID) {
        call.acquire_push_lock(lock as usize, mutex::PUSH_EXCLUSIVE)
    }

    UP_TO_APC fn ExfAcquirePushLockShared(call, lock: PVOID) {
        call.acquire_push_lock(lock as usize, mutex::PUSH_SHARED)
    }

    UP_TO_APC fn ExfReleasePushLockExclusive(call, lock: PVOID) {
        call.release_push_lock(lock as usize, Some(mutex::PUSH_EXCLUSIVE))
    }

    UP_TO_APC fn ExfReleasePushLockShared(call, lock: PVOID) {
        call.release_push_lock(lock as usize, Some(mutex::PUSH_SHARED))
    }

    UP_TO_APC fn ExfReleasePushLock(call, lock: PVOID) {
        call.release_push_lock(lock as usize, None)
    }
} }

exports! { SPINNING in "ntoskrnl.exe" {
    AT_DISPATCH fn KeTryToAcquireSpinLockAtDpcLevel(call, lock: *mut KSPIN_LOCK) -> BOOLEAN {
        Ok(u8::from(call.try_acquire(lock as usize, KSPIN)))
    }

    ANY fn KeTestSpinLock(_, lock: *mut KSPIN_LOCK) -> BOOLEAN {
        // SAFETY: the caller's lock; its word is accessed atomically.
        let word = unsafe { std::sync::atomic::AtomicUsize::from_ptr(lock.cast()) };
        // Relaxed: the answer may be wrong by the time that it is read, as its page says.
        Ok(u8::from(word.load(std::sync::atomic::Ordering::Relaxed) == 0))
    }

    UP_TO_DISPATCH fn KeAcquireSpinLockForDpc(call, lock: *mut KSPIN_LOCK) -> KIRQL {
        call.acquire(lock as usize, KSPIN, true)
    }

    DISPATCH_AND_ABOVE fn KeReleaseSpinLockForDpc(call, lock: *mut KSPIN_LOCK, irql: KIRQL) {
        call.release(lock as usize, KSPIN, Some(irql))
    }
} }

/// The functions of rundown protection, of which there are two kinds: in one word, and with a word a processor.
macro_rules! rundown {
    ($table:ident {
        $acquire:ident, $acquire_many:ident, $release:ident, $release_many:ident, $wait:ident, $completed:ident,
        $again:ident
    }) => {
        exports! { $table in "ntoskrnl.exe" {
            UP_TO_DISPATCH fn $acquire(call, reference: PVOID) -> BOOLEAN {
                Ok(u8::from(call.acquire_rundown(reference as usize, 1)))
            }

            UP_TO_DISPATCH fn $acquire_many(call, reference: PVOID, count: ULONG) -> BOOLEAN {
                Ok(u8::from(call.acquire_rundown(reference as usize, count)))
            }

            UP_TO_DISPATCH fn $release(call, reference: PVOID) {
                call.release_rundown(reference as usize, 1)
            }

            UP_TO_DISPATCH fn $release_many(call, reference: PVOID, count: ULONG) {
                call.release_rundown(reference as usize, count)
            }

            UP_TO_APC fn $wait(call, reference: PVOID) {
                no_wait(call, reference)?;
                call.wait_for_rundown(reference as usize)
            }

            UP_TO_APC fn $completed(call, reference: PVOID) {
                call.reset_rundown(reference as usize, true);
                Ok(())
            }

            UP_TO_APC fn $again(call, reference: PVOID) {
                call.reset_rundown(reference as usize, false);
                Ok(())
            }
        } }
    };
}

rundown! { RUNDOWN {
    ExAcquireRundownProtection, ExAcquireRundownProtectionEx, ExReleaseRundownProtection, ExReleaseRundownProtectionEx,
    ExWaitForRundownProtectionRelease, ExRundownCompleted, ExReInitializeRundownProtection
} }

rundown! { CACHE_AWARE_RUNDOWN {
    ExAcquireRundownProtectionCacheAware, ExAcquireRundownProtectionCacheAwareEx, ExReleaseRundownProtectionCacheAware,
    ExReleaseRundownProtectionCacheAwareEx, ExWaitForRundownProtectionReleaseCacheAware, ExRundownCompletedCacheAware,
    ExReInitializeRundownProtectionCacheAware
} }

exports! { MAKING_RUNDOWN in "ntoskrnl.exe" {
    UP_TO_APC fn ExInitializeRundownProtection(call, reference: PVOID) {
        call.initialize_rundown(reference as usize);
        Ok(())
    }

    UP_TO_APC fn ExAllocateCacheAwareRundownProtection(call, _pool: i32, tag: ULONG) -> PVOID {
        let tag = if tag == 0 { RUNDOWN_TAG } else { tag };
        Ok(call.allocate(CACHE_AWARE, tag, PoolKind::NonPaged, true).cast())
    }

    UP_TO_APC fn ExFreeCacheAwareRundownProtection(call, reference: PVOID) {
        call.free(reference as usize, None)
    }

    UP_TO_APC fn ExSizeOfRundownProtectionCacheAware(_) -> usize {
        Ok(CACHE_AWARE)
    }

    UP_TO_APC fn ExInitializeRundownProtectionCacheAware(call, reference: PVOID, size: usize) {
        if size < CACHE_AWARE {
            call.violate(rules::PARAMETER, format!("{size} bytes: ExSizeOfRundownProtectionCacheAware says {CACHE_AWARE}"));
        }
        call.initialize_rundown(reference as usize);
        Ok(())
    }
} }
