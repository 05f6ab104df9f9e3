//! Timers, DPCs, semaphores, mutexes, push locks, rundown protection, affinity.

use super::*;

#[test]
fn timers_fire_signal_and_queue_their_dpc() {
    unsafe fn script(_: NDIS_HANDLE) {
        CALLS.store(0, Ordering::SeqCst);
        let memory = block(64 + 64);
        let (timer, dpc) = (memory, memory.cast::<u8>().add(64).cast::<KDPC>());
        KeInitializeDpc(dpc, Some(count_dpc), null_mut());
        KeInitializeTimer(timer);
        assert_eq!(KeSetTimer(timer, after(1), dpc), 0);
        assert_eq!((wait(timer), KeReadStateTimer(timer)), (0, 1));
        KeFlushQueuedDpcs();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        // A synchronization timer releases one wait each time.
        KeInitializeTimerEx(timer, 1);
        KeSetTimerEx(timer, after(1), 1, dpc);
        for _ in 0..3 {
            assert_eq!(wait(timer), 0);
        }
        assert_eq!(KeCancelTimer(timer), 1);
        assert_eq!(KeCancelTimer(timer), 0);
        KeFlushQueuedDpcs();
        assert!(CALLS.load(Ordering::SeqCst) >= 4);
        free(memory);
    }
    clean(script);
}

#[test]
fn timers_are_initialised_cancelled_and_kept() {
    unsafe fn uninitialised(_: NDIS_HANDLE) {
        let timer = block(64);
        KeSetTimer(timer, after(1), null_mut());
        free(timer);
    }
    unsafe fn freed(_: NDIS_HANDLE) {
        let timer = block(64);
        KeInitializeTimer(timer);
        KeSetTimer(timer, after(60_000), null_mut());
        free(timer);
    }
    unsafe fn again(_: NDIS_HANDLE) {
        let timer = block(64);
        KeInitializeTimer(timer);
        KeSetTimer(timer, after(60_000), null_mut());
        KeInitializeTimer(timer);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        static TIMER: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
        let timer = TIMER.as_ptr().cast_mut().cast();
        KeInitializeTimer(timer);
        KeSetTimer(timer, after(60_000), null_mut());
    }
    breaks(rules::TIMER_USE, uninitialised);
    breaks(rules::POOL_IN_USE, freed);
    breaks(rules::TIMER_USE, again);
    breaks(rules::HALT_WAITS, left);
}

static PROCESSORS: AtomicU64 = AtomicU64::new(0);

unsafe extern "win64" fn note_processor(dpc: *mut KDPC, _context: PVOID, wanted: PVOID, _second: PVOID) {
    let here = KeGetCurrentProcessorNumberEx(null_mut());
    if here as usize == wanted as usize && (*dpc).Type != 0 {
        PROCESSORS.fetch_or(1 << here, Ordering::SeqCst);
    }
}

#[test]
fn a_dpc_runs_on_the_processor_that_it_is_targeted_at() {
    unsafe fn script(_: NDIS_HANDLE) {
        PROCESSORS.store(0, Ordering::SeqCst);
        let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
        let memory = block(64 * count as usize);
        for index in 0..count {
            let dpc = memory.cast::<KDPC>().add(index as usize);
            KeInitializeDpc(dpc, Some(note_processor), null_mut());
            let number = PROCESSOR_NUMBER { Group: 0, Number: index as u8, Reserved: 0 };
            assert_eq!(KeSetTargetProcessorDpcEx(dpc, &number), 0);
            assert_eq!(KeInsertQueueDpc(dpc, index as usize as PVOID, null_mut()), 1);
        }
        KeFlushQueuedDpcs();
        assert_eq!(PROCESSORS.load(Ordering::SeqCst), (1 << count) - 1);
        free(memory);
    }
    unsafe fn nowhere(_: NDIS_HANDLE) {
        let dpc = block(64).cast();
        KeInitializeDpc(dpc, Some(note_processor), null_mut());
        KeSetTargetProcessorDpcEx(dpc, &PROCESSOR_NUMBER { Group: 0, Number: 99, Reserved: 0 });
        free(dpc.cast());
    }
    clean(script);
    breaks(rules::PARAMETER, nowhere);
}

#[test]
fn semaphores_and_mutexes_are_waited_for_and_released_by_their_owner() {
    unsafe fn script(_: NDIS_HANDLE) {
        let memory = block(128);
        let mutex = memory.cast::<u8>().add(64).cast::<c_void>();
        KeInitializeSemaphore(memory, 1, 2);
        assert_eq!(wait(memory), 0);
        let mut now = LARGE_INTEGER { QuadPart: 0 };
        assert_eq!(KeWaitForSingleObject(memory, Executive, KernelMode, 0, &mut now), 0x102);
        assert_eq!(KeReleaseSemaphore(memory, 0, 2, 0), 0);
        // A mutex may be acquired again by its owner.
        KeInitializeMutex(mutex, 0);
        assert_eq!((wait(mutex), wait(mutex)), (0, 0));
        assert_eq!((KeReleaseMutex(mutex, 0), KeReleaseMutex(mutex, 0)), (-1, 0));
        KeInitializeGuardedMutex(mutex);
        KeAcquireGuardedMutex(mutex);
        KeReleaseGuardedMutex(mutex);
        ExAcquireFastMutex(mutex);
        assert_eq!((KeGetCurrentIrql(), ExTryToAcquireFastMutex(mutex)), (APC_LEVEL, 0));
        ExReleaseFastMutex(mutex);
        assert_eq!(KeGetCurrentIrql(), PASSIVE_LEVEL);
        free(memory);
    }
    unsafe fn too_often(_: NDIS_HANDLE) {
        let semaphore = block(32);
        KeInitializeSemaphore(semaphore, 2, 2);
        KeReleaseSemaphore(semaphore, 0, 1, 0);
    }
    unsafe fn not_owned(_: NDIS_HANDLE) {
        let mutex = block(56);
        KeInitializeMutex(mutex, 0);
        KeReleaseMutex(mutex, 0);
    }
    unsafe fn kept(_: NDIS_HANDLE) {
        let mutex = block(56);
        KeInitializeMutex(mutex, 0);
        wait(mutex);
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let mutex = block(56);
        KeInitializeGuardedMutex(mutex);
        ExAcquireFastMutex(mutex);
        ExAcquireFastMutex(mutex);
    }
    unsafe fn exposed(_: NDIS_HANDLE) {
        let mutex = block(56);
        KeInitializeGuardedMutex(mutex);
        ExAcquireFastMutexUnsafe(mutex);
    }
    unsafe fn wrong_kind(_: NDIS_HANDLE) {
        let mutex = block(56);
        KeInitializeGuardedMutex(mutex);
        KeAcquireGuardedMutex(mutex);
        ExReleaseFastMutex(mutex);
    }
    clean(script);
    breaks(rules::SEMAPHORE_LIMIT, too_often);
    breaks(rules::MUTEX_NOT_OWNED, not_owned);
    breaks(rules::MUTEX_HELD_ON_RETURN, kept);
    breaks(rules::MUTEX_RECURSION, twice);
    breaks(rules::MUTEX_USE, exposed);
    breaks(rules::MUTEX_NOT_OWNED, wrong_kind);
}

#[test]
fn push_locks_are_taken_in_critical_regions() {
    unsafe fn script(_: NDIS_HANDLE) {
        let lock = block(8);
        KeEnterCriticalRegion();
        ExAcquirePushLockExclusiveEx(lock, 0);
        ExReleasePushLockExclusiveEx(lock, 0);
        ExAcquirePushLockSharedEx(lock, 0);
        ExReleasePushLockSharedEx(lock, 0);
        KeLeaveCriticalRegion();
        free(lock);
    }
    unsafe fn outside(_: NDIS_HANDLE) {
        let lock = block(8);
        ExAcquirePushLockSharedEx(lock, 0);
        ExReleasePushLockSharedEx(lock, 0);
        free(lock);
    }
    unsafe fn mixed(_: NDIS_HANDLE) {
        let lock = block(8);
        KeEnterCriticalRegion();
        ExAcquirePushLockSharedEx(lock, 0);
        ExReleasePushLockExclusiveEx(lock, 0);
    }
    clean(script);
    breaks(rules::MUTEX_USE, outside);
    breaks(rules::MUTEX_NOT_OWNED, mixed);
}

#[test]
fn rundown_protection_ends_with_its_last_user() {
    unsafe fn script(_: NDIS_HANDLE) {
        let reference = block(8);
        ExInitializeRundownProtection(reference);
        assert_eq!(ExAcquireRundownProtection(reference), 1);
        ExReleaseRundownProtection(reference);
        ExWaitForRundownProtectionRelease(reference);
        assert_eq!(ExAcquireRundownProtection(reference), 0);
        ExReInitializeRundownProtection(reference);
        assert_eq!(ExAcquireRundownProtection(reference), 1);
        ExReleaseRundownProtection(reference);
        free(reference);
    }
    unsafe fn too_often(_: NDIS_HANDLE) {
        let reference = block(8);
        ExInitializeRundownProtection(reference);
        ExReleaseRundownProtection(reference);
    }
    unsafe fn not_waited_for(_: NDIS_HANDLE) {
        let reference = block(8);
        ExInitializeRundownProtection(reference);
        ExAcquireRundownProtection(reference);
        ExReInitializeRundownProtection(reference);
        free(reference);
    }
    clean(script);
    breaks(rules::RUNDOWN_USE, too_often);
    breaks(rules::RUNDOWN_USE, not_waited_for);
}

#[test]
fn a_thread_runs_where_its_affinity_says() {
    unsafe fn script(_: NDIS_HANDLE) {
        for processor in 0..KeQueryActiveProcessorCountEx(0) {
            let old = KeSetSystemAffinityThreadEx(1 << processor);
            assert_eq!(KeGetCurrentProcessorNumberEx(null_mut()), processor);
            let irql = KeRaiseIrqlToDpcLevel();
            assert_eq!(KeGetCurrentProcessorNumberEx(null_mut()), processor);
            KeLowerIrql(irql);
            KeRevertToUserAffinityThreadEx(old);
        }
    }
    unsafe fn kept(_: NDIS_HANDLE) {
        KeSetSystemAffinityThreadEx(2);
    }
    clean(script);
    breaks(rules::AFFINITY, kept);
}

#[test]
fn a_lock_that_was_tried_is_released_by_either_function() {
    unsafe fn right(_: NDIS_HANDLE) {
        let lock = block(8).cast::<KSPIN_LOCK>();
        let old = KeRaiseIrqlToDpcLevel();
        assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(lock), 1);
        // As its page says, and netvmini does: the IRQL is that of the acquisition.
        KeReleaseSpinLock(lock, DISPATCH_LEVEL);
        assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(lock), 1);
        assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(lock), 0);
        KeReleaseSpinLockFromDpcLevel(lock);
        KeLowerIrql(old);
        free(lock.cast());
    }
    unsafe fn lowered(_: NDIS_HANDLE) {
        let lock = block(8).cast::<KSPIN_LOCK>();
        let _ = KeRaiseIrqlToDpcLevel();
        assert_eq!(KeTryToAcquireSpinLockAtDpcLevel(lock), 1);
        KeReleaseSpinLock(lock, 0);
        free(lock.cast());
    }
    unsafe fn taken(_: NDIS_HANDLE) {
        let lock = block(8).cast::<KSPIN_LOCK>();
        let old = KeRaiseIrqlToDpcLevel();
        KeAcquireSpinLockAtDpcLevel(lock);
        KeReleaseSpinLock(lock, DISPATCH_LEVEL);
        KeLowerIrql(old);
        free(lock.cast());
    }
    clean(right);
    breaks(rules::LOCK_ORDER, lowered);
    breaks(rules::LOCK_ORDER, taken);
}
