//! What mutants do to kernel objects that miniports use beside NDIS: critical regions, ERESOURCEs, mutexes, semaphores,
//! push locks, rundown protection, lookaside lists. Functions that `ndis-sys` does not declare are the lab's own, linked by name.

use std::ffi::c_void;
use std::ptr::null_mut;

use ndis_sys::{BOOLEAN, KeWaitForSingleObject, LONG, NTSTATUS, ULONG};

use super::{M, TAG, allocate, free, is};

unsafe extern "win64" {
    fn KeEnterCriticalRegion();
    fn KeLeaveCriticalRegion();
    fn ExInitializeResourceLite(resource: *mut c_void) -> NTSTATUS;
    fn ExDeleteResourceLite(resource: *mut c_void) -> NTSTATUS;
    fn ExAcquireResourceExclusiveLite(resource: *mut c_void, wait: BOOLEAN) -> BOOLEAN;
    fn ExReleaseResourceLite(resource: *mut c_void);
    fn KeInitializeMutex(mutex: *mut c_void, level: ULONG);
    fn KeReleaseMutex(mutex: *mut c_void, wait: BOOLEAN) -> LONG;
    fn KeInitializeSemaphore(semaphore: *mut c_void, count: LONG, limit: LONG);
    fn KeReleaseSemaphore(semaphore: *mut c_void, increment: LONG, adjustment: LONG, wait: BOOLEAN) -> LONG;
    fn KeInitializeGuardedMutex(mutex: *mut c_void);
    fn ExAcquireFastMutex(mutex: *mut c_void);
    fn ExAcquireFastMutexUnsafe(mutex: *mut c_void);
    fn ExReleaseFastMutexUnsafe(mutex: *mut c_void);
    fn ExAcquirePushLockExclusiveEx(lock: *mut c_void, flags: ULONG);
    fn ExInitializeRundownProtection(reference: *mut c_void);
    fn ExAcquireRundownProtection(reference: *mut c_void) -> BOOLEAN;
    fn ExReleaseRundownProtection(reference: *mut c_void);
    fn ExReInitializeRundownProtection(reference: *mut c_void);
    fn ExInitializeNPagedLookasideList(
        list: *mut c_void,
        allocate: *mut c_void,
        free: *mut c_void,
        flags: ULONG,
        size: usize,
        tag: ULONG,
        depth: u16,
    );
    fn RtlInitializeGenericTableAvl(
        table: *mut c_void,
        compare: unsafe extern "win64" fn(*mut c_void, *mut c_void, *mut c_void) -> LONG,
        allocate: unsafe extern "win64" fn(*mut c_void, ULONG) -> *mut c_void,
        free: unsafe extern "win64" fn(*mut c_void, *mut c_void),
        context: *mut c_void,
    );
    fn RtlInsertElementGenericTableAvl(
        table: *mut c_void,
        buffer: *mut c_void,
        size: ULONG,
        new: *mut BOOLEAN,
    ) -> *mut c_void;
}

/// `GenericEqual`: the table has one element.
unsafe extern "win64" fn equal(_table: *mut c_void, _a: *mut c_void, _b: *mut c_void) -> LONG {
    2
}

/// The element lies behind its table.
unsafe extern "win64" fn element(table: *mut c_void, _size: ULONG) -> *mut c_void {
    table.byte_add(ROOM / 2)
}

unsafe extern "win64" fn keep(_table: *mut c_void, _element: *mut c_void) {}

/// Bytes that are enough for each of the objects, aligned as pool memory is.
const ROOM: usize = 256;

/// Within MiniportInitializeEx.
pub(super) unsafe fn spoil() {
    if is(M::CriticalRegionKept) {
        KeEnterCriticalRegion();
    }
    let mutants = [
        M::ResourceWithoutRegion,
        M::ResourceNotOwned,
        M::ResourceKept,
        M::ResourceNotInitialised,
        M::ResourceNotDeleted,
        M::MutexKept,
        M::MutexNotOwned,
        M::SemaphoreAboveLimit,
        M::LookasideNotDeleted,
        M::TableNotEmptied,
        M::MutexNotInitialised,
        M::MutexOutsideRegion,
        M::MutexTakenTwice,
        M::PushLockTakenTwice,
        M::RundownReleasedTwice,
        M::RundownNotWaited,
    ];
    if !mutants.into_iter().any(is) {
        return;
    }
    let object = allocate(ROOM);
    if object.is_null() {
        return;
    }
    if is(M::ResourceWithoutRegion) {
        ExInitializeResourceLite(object);
        ExAcquireResourceExclusiveLite(object, 1);
        ExReleaseResourceLite(object);
        ExDeleteResourceLite(object);
    }
    if is(M::ResourceNotOwned) {
        ExInitializeResourceLite(object);
        ExReleaseResourceLite(object);
    }
    if is(M::ResourceKept) {
        ExInitializeResourceLite(object);
        KeEnterCriticalRegion();
        ExAcquireResourceExclusiveLite(object, 1);
        KeLeaveCriticalRegion();
        // Kept for good, with its memory.
        return;
    }
    if is(M::ResourceNotInitialised) {
        KeEnterCriticalRegion();
        ExAcquireResourceExclusiveLite(object, 1);
        KeLeaveCriticalRegion();
    }
    if is(M::ResourceNotDeleted) {
        ExInitializeResourceLite(object);
    }
    if is(M::MutexKept) {
        KeInitializeMutex(object, 0);
        KeWaitForSingleObject(object, 0, 0, 0, null_mut());
        return;
    }
    if is(M::MutexNotOwned) {
        KeInitializeMutex(object, 0);
        KeReleaseMutex(object, 0);
    }
    if is(M::SemaphoreAboveLimit) {
        KeInitializeSemaphore(object, 1, 1);
        KeReleaseSemaphore(object, 0, 1, 0);
    }
    if is(M::LookasideNotDeleted) {
        ExInitializeNPagedLookasideList(object, null_mut(), null_mut(), 0, 64, TAG, 0);
    }
    if is(M::TableNotEmptied) {
        RtlInitializeGenericTableAvl(object, equal, element, keep, null_mut());
        let mut value = 1_u64;
        RtlInsertElementGenericTableAvl(object, (&raw mut value).cast(), 8, null_mut());
    }
    if is(M::MutexNotInitialised) {
        object.cast::<u64>().write(0x7878_7878);
        ExAcquireFastMutex(object);
    }
    if is(M::MutexOutsideRegion) {
        KeInitializeGuardedMutex(object);
        ExAcquireFastMutexUnsafe(object);
        ExReleaseFastMutexUnsafe(object);
    }
    if is(M::MutexTakenTwice) {
        KeInitializeGuardedMutex(object);
        ExAcquireFastMutex(object);
        ExAcquireFastMutex(object);
    }
    if is(M::PushLockTakenTwice) {
        KeEnterCriticalRegion();
        ExAcquirePushLockExclusiveEx(object, 0);
        ExAcquirePushLockExclusiveEx(object, 0);
    }
    if is(M::RundownReleasedTwice) {
        ExInitializeRundownProtection(object);
        ExAcquireRundownProtection(object);
        ExReleaseRundownProtection(object);
        ExReleaseRundownProtection(object);
    }
    if is(M::RundownNotWaited) {
        ExInitializeRundownProtection(object);
        ExAcquireRundownProtection(object);
        ExReInitializeRundownProtection(object);
    }
    free(object);
}
