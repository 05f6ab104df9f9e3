//! Executive spin locks, in-stack queued spin locks, resources and critical regions of ntoskrnl.exe.

use ndis_sys::{BOOLEAN, KIRQL, KSPIN_LOCK, NTSTATUS, PVOID};

use super::{Call, exports};
use crate::machine::Stopped;
use crate::machine::resource::Want;
use crate::machine::thread;

const QUEUED: &str = "queued KSPIN_LOCK";

/// `KLOCK_QUEUE_HANDLE`.
#[repr(C)]
pub(crate) struct LockQueueHandle {
    next: usize,
    lock: usize,
    old_irql: KIRQL,
}

/// Acquires an in-stack queued lock; `raise` to DISPATCH_LEVEL, or the thread is there.
///
/// # Safety
/// `handle` is the caller's.
unsafe fn acquire_queued(
    call: &Call<'_>,
    lock: *mut KSPIN_LOCK,
    handle: *mut LockQueueHandle,
    raise: bool,
) -> Result<(), Stopped> {
    let old_irql = call.acquire(lock as usize, QUEUED, raise)?;
    // SAFETY: as the caller says.
    unsafe { handle.write(LockQueueHandle { next: 0, lock: lock as usize, old_irql }) };
    Ok(())
}

/// Releases it; `lower` to the IRQL before.
///
/// # Safety
/// `handle` is the caller's, filled by the acquisition; the release uses it up.
unsafe fn release_queued(call: &Call<'_>, handle: *mut LockQueueHandle, lower: bool) -> Result<(), Stopped> {
    // SAFETY: as the caller says.
    let (lock, irql) = unsafe { (std::mem::take(&mut (*handle).lock), (*handle).old_irql) };
    call.release(lock, QUEUED, lower.then_some(irql))
}

exports! { TABLE in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn ExAcquireSpinLockShared(call, lock: *mut u32) -> KIRQL {
        call.acquire_ex(lock as usize, false, true)
    }

    UP_TO_DISPATCH fn ExAcquireSpinLockExclusive(call, lock: *mut u32) -> KIRQL {
        call.acquire_ex(lock as usize, true, true)
    }

    DISPATCH_AND_ABOVE fn ExAcquireSpinLockSharedAtDpcLevel(call, lock: *mut u32) {
        call.acquire_ex(lock as usize, false, false).map(|_| ())
    }

    DISPATCH_AND_ABOVE fn ExAcquireSpinLockExclusiveAtDpcLevel(call, lock: *mut u32) {
        call.acquire_ex(lock as usize, true, false).map(|_| ())
    }

    DISPATCH_AND_ABOVE fn ExReleaseSpinLockShared(call, lock: *mut u32, irql: KIRQL) {
        call.release_ex(lock as usize, false, Some(irql))
    }

    DISPATCH_AND_ABOVE fn ExReleaseSpinLockExclusive(call, lock: *mut u32, irql: KIRQL) {
        call.release_ex(lock as usize, true, Some(irql))
    }

    DISPATCH_AND_ABOVE fn ExReleaseSpinLockSharedFromDpcLevel(call, lock: *mut u32) {
        call.release_ex(lock as usize, false, None)
    }

    DISPATCH_AND_ABOVE fn ExReleaseSpinLockExclusiveFromDpcLevel(call, lock: *mut u32) {
        call.release_ex(lock as usize, true, None)
    }

    UP_TO_DISPATCH fn KeAcquireInStackQueuedSpinLock(call, lock: *mut KSPIN_LOCK, handle: *mut LockQueueHandle) {
        // SAFETY: the caller's structure, here and below.
        unsafe { acquire_queued(call, lock, handle, true) }
    }

    DISPATCH_AND_ABOVE fn KeReleaseInStackQueuedSpinLock(call, handle: *mut LockQueueHandle) {
        // SAFETY: see above.
        unsafe { release_queued(call, handle, true) }
    }

    DISPATCH_AND_ABOVE fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
        call, lock: *mut KSPIN_LOCK, handle: *mut LockQueueHandle,
    ) {
        // SAFETY: see above.
        unsafe { acquire_queued(call, lock, handle, false) }
    }

    DISPATCH_AND_ABOVE fn KeReleaseInStackQueuedSpinLockFromDpcLevel(call, handle: *mut LockQueueHandle) {
        // SAFETY: see above.
        unsafe { release_queued(call, handle, false) }
    }

    UP_TO_APC fn KeEnterCriticalRegion(_) {
        thread::with(|thread| thread.critical.set(thread.critical.get() + 1));
        Ok(())
    }

    UP_TO_APC fn KeLeaveCriticalRegion(call) {
        call.leave_critical();
        Ok(())
    }

    UP_TO_DISPATCH fn KeAreApcsDisabled(_) -> BOOLEAN {
        Ok(u8::from(thread::irql() > 0 || thread::with(|thread| thread.critical.get()) > 0))
    }

    UP_TO_DISPATCH fn ExInitializeResourceLite(call, resource: PVOID) -> NTSTATUS {
        call.initialize_resource(resource as usize);
        Ok(0)
    }

    UP_TO_APC fn ExDeleteResourceLite(call, resource: PVOID) -> NTSTATUS {
        call.delete_resource(resource as usize);
        Ok(0)
    }

    UP_TO_APC fn ExAcquireResourceExclusiveLite(call, resource: PVOID, wait: BOOLEAN) -> BOOLEAN {
        call.acquire_resource(resource as usize, Want::Exclusive, wait != 0).map(u8::from)
    }

    UP_TO_APC fn ExAcquireResourceSharedLite(call, resource: PVOID, wait: BOOLEAN) -> BOOLEAN {
        call.acquire_resource(resource as usize, Want::Shared, wait != 0).map(u8::from)
    }

    UP_TO_APC fn ExAcquireSharedStarveExclusive(call, resource: PVOID, wait: BOOLEAN) -> BOOLEAN {
        call.acquire_resource(resource as usize, Want::StarveExclusive, wait != 0).map(u8::from)
    }

    UP_TO_DISPATCH fn ExReleaseResourceLite(call, resource: PVOID) {
        call.release_resource(resource as usize)
    }
} }

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_queue_handle_is_the_wdks() {
        use std::mem::offset_of;
        let text = include_str!("../../tests/data/io-layouts.json");
        let line = text.lines().find(|line| line.contains("KLOCK_QUEUE_HANDLE")).unwrap();
        let size = size_of::<super::LockQueueHandle>();
        assert!(line.contains(&format!("\"size\": {size},")), "{line}");
        let old = offset_of!(super::LockQueueHandle, old_irql);
        assert!(line.contains(&format!("[\"OldIrql\", {old}, \"KIRQL\"]")), "{line}");
    }
}
