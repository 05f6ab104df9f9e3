//! What C miniports import beside NDIS' own functions: right use breaks no rule and leaves nothing, wrong use is named.
//!
//! Each test plays a script in MiniportInitializeEx of the small good miniport.

// Scripts are pieces of a driver as one writes it in C: each stands on the contracts of the functions that it calls, with
// memory that it allocated.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::borrow_as_ptr, clippy::cast_possible_truncation, clippy::cast_ptr_alignment)]
#![allow(clippy::doc_markdown, clippy::items_after_statements)]

mod mini;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mini::Defect;
use ndis_lab::device::Token;
use ndis_lab::rules::{self, Rule};
use ndis_lab::{Adapter, AdapterConfig, Driver, HaltAction, Lab, LabBuilder, LabError, Value};
use ndis_sys::*;
use parking_lot::Mutex;

/// `'tset'`.
const TAG: u32 = u32::from_le_bytes(*b"test");

type Handle = usize;
type Dispatch = unsafe extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP) -> NTSTATUS;

#[allow(non_snake_case)]
unsafe extern "win64" {
    fn KeInitializeTimer(timer: PVOID);
    fn KeInitializeTimerEx(timer: PVOID, kind: i32);
    fn KeSetTimer(timer: PVOID, due: i64, dpc: *mut KDPC) -> u8;
    fn KeSetTimerEx(timer: PVOID, due: i64, period: i32, dpc: *mut KDPC) -> u8;
    fn KeCancelTimer(timer: PVOID) -> u8;
    fn KeReadStateTimer(timer: PVOID) -> u8;
    fn KeSetTargetProcessorDpcEx(dpc: *mut KDPC, number: *const PROCESSOR_NUMBER) -> NTSTATUS;
    fn KeInitializeSemaphore(semaphore: PVOID, count: i32, limit: i32);
    fn KeReleaseSemaphore(semaphore: PVOID, increment: i32, adjustment: i32, wait: u8) -> i32;
    fn KeInitializeMutex(mutex: PVOID, level: u32);
    fn KeReleaseMutex(mutex: PVOID, wait: u8) -> i32;
    fn ExAcquireFastMutex(mutex: PVOID);
    fn ExReleaseFastMutex(mutex: PVOID);
    fn ExTryToAcquireFastMutex(mutex: PVOID) -> u8;
    fn ExAcquireFastMutexUnsafe(mutex: PVOID);
    fn KeInitializeGuardedMutex(mutex: PVOID);
    fn KeAcquireGuardedMutex(mutex: PVOID);
    fn KeReleaseGuardedMutex(mutex: PVOID);
    fn KeEnterCriticalRegion();
    fn KeLeaveCriticalRegion();
    fn ExAcquirePushLockExclusiveEx(lock: PVOID, flags: u32);
    fn ExAcquirePushLockSharedEx(lock: PVOID, flags: u32);
    fn ExReleasePushLockExclusiveEx(lock: PVOID, flags: u32);
    fn ExReleasePushLockSharedEx(lock: PVOID, flags: u32);
    fn ExInitializeRundownProtection(reference: PVOID);
    fn ExAcquireRundownProtection(reference: PVOID) -> u8;
    fn ExReleaseRundownProtection(reference: PVOID);
    fn ExWaitForRundownProtectionRelease(reference: PVOID);
    fn ExReInitializeRundownProtection(reference: PVOID);
    fn ExInitializeNPagedLookasideList(
        list: PVOID,
        allocate: PVOID,
        free: PVOID,
        flags: u32,
        size: usize,
        tag: u32,
        depth: u16,
    );
    fn ExDeleteNPagedLookasideList(list: PVOID);
    fn ExpInterlockedPushEntrySList(header: PVOID, entry: PVOID) -> PVOID;
    fn ExpInterlockedPopEntrySList(header: PVOID) -> PVOID;
    fn ExInterlockedInsertTailList(head: PVOID, entry: PVOID, lock: *mut KSPIN_LOCK) -> PVOID;
    fn ExInterlockedRemoveHeadList(head: PVOID, lock: *mut KSPIN_LOCK) -> PVOID;
    fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        characteristics: u32,
        exclusive: u8,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS;
    fn IoDeleteDevice(device: *mut DEVICE_OBJECT);
    fn IoCreateSymbolicLink(link: *const UNICODE_STRING, target: *const UNICODE_STRING) -> NTSTATUS;
    fn IoDeleteSymbolicLink(link: *const UNICODE_STRING) -> NTSTATUS;
    fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> PVOID;
    fn IoQueueWorkItem(item: PVOID, routine: PVOID, kind: i32, context: PVOID);
    fn IoFreeWorkItem(item: PVOID);
    fn ExQueueWorkItem(item: *mut [usize; 4], kind: i32);
    fn NdisMGetDeviceProperty(
        handle: NDIS_HANDLE,
        physical: *mut *mut DEVICE_OBJECT,
        functional: *mut *mut DEVICE_OBJECT,
        next: *mut *mut DEVICE_OBJECT,
        resources: PVOID,
        translated: PVOID,
    );
    fn NdisDeregisterDeviceEx(handle: NDIS_HANDLE);
    fn IofCompleteRequest(irp: *mut IRP, boost: i8);
    fn IoCsqInitialize(
        csq: PVOID,
        insert: PVOID,
        remove: PVOID,
        peek: PVOID,
        acquire: PVOID,
        release: PVOID,
        complete: PVOID,
    ) -> NTSTATUS;
    fn IoCsqInsertIrp(csq: PVOID, irp: *mut IRP, context: PVOID);
    fn ZwOpenKey(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes) -> NTSTATUS;
    fn ZwQueryValueKey(
        handle: Handle,
        name: *const UNICODE_STRING,
        class: i32,
        buffer: PVOID,
        length: u32,
        needed: *mut u32,
    ) -> NTSTATUS;
    fn ZwSetValueKey(
        handle: Handle,
        name: *const UNICODE_STRING,
        title: u32,
        kind: u32,
        data: *const c_void,
        length: u32,
    ) -> NTSTATUS;
    fn ZwClose(handle: Handle) -> NTSTATUS;
    fn IoOpenDriverRegistryKey(
        driver: *mut DRIVER_OBJECT,
        kind: i32,
        access: u32,
        flags: u32,
        handle: *mut Handle,
    ) -> NTSTATUS;
    fn RtlQueryRegistryValues(
        to: u32,
        path: *const u16,
        table: *const Query,
        context: PVOID,
        environment: PVOID,
    ) -> NTSTATUS;
    fn EtwRegister(provider: *const GUID, callback: PVOID, context: PVOID, handle: *mut u64) -> NTSTATUS;
    fn EtwUnregister(handle: u64) -> NTSTATUS;
    fn KeSetSystemAffinityThreadEx(mask: u64) -> u64;
    fn KeRevertToUserAffinityThreadEx(mask: u64);
    fn RtlAnsiStringToUnicodeString(
        to: *mut UNICODE_STRING,
        from: *const UNICODE_STRING,
        allocate: u8,
    ) -> NTSTATUS;
    fn RtlFreeUnicodeString(string: *mut UNICODE_STRING);
    fn RtlEqualUnicodeString(a: *const UNICODE_STRING, b: *const UNICODE_STRING, fold: u8) -> u8;
    fn NdisAdvanceNetBufferDataStart(buffer: *mut NET_BUFFER, delta: u32, free: u8, handler: PVOID);
    fn NdisRetreatNetBufferDataStart(
        buffer: *mut NET_BUFFER,
        delta: u32,
        backfill: u32,
        handler: PVOID,
    ) -> NDIS_STATUS;
    fn NdisAllocateCloneNetBufferList(
        list: *mut NET_BUFFER_LIST,
        lists: NDIS_HANDLE,
        buffers: NDIS_HANDLE,
        flags: u32,
    ) -> *mut NET_BUFFER_LIST;
    fn NdisFreeCloneNetBufferList(clone: *mut NET_BUFFER_LIST, flags: u32);
    fn NdisAllocateNetBufferListContext(
        list: *mut NET_BUFFER_LIST,
        size: u16,
        backfill: u16,
        tag: u32,
    ) -> NDIS_STATUS;
    fn NdisFreeNetBufferListContext(list: *mut NET_BUFFER_LIST, size: u16);
    fn NdisCopyFromNetBufferToNetBuffer(
        to: *mut NET_BUFFER,
        to_offset: u32,
        count: u32,
        from: *mut NET_BUFFER,
        from_offset: u32,
        copied: *mut u32,
    ) -> NDIS_STATUS;
    fn NdisInitializeReadWriteLock(lock: PVOID);
    fn NdisAcquireReadWriteLock(lock: PVOID, write: u8, state: PVOID);
    fn NdisReleaseReadWriteLock(lock: PVOID, state: PVOID);
    fn KeRegisterProcessorChangeCallback(function: PVOID, context: PVOID, flags: u32) -> PVOID;
    fn KeDeregisterProcessorChangeCallback(handle: PVOID);
    fn DbgPrint(format: *const u8, a: usize, b: usize, c: usize) -> u32;
}

#[repr(C)]
struct ObjectAttributes {
    length: u32,
    root: Handle,
    name: *const UNICODE_STRING,
    attributes: u32,
    security: PVOID,
    quality: PVOID,
}

/// `RTL_QUERY_REGISTRY_TABLE`.
#[repr(C)]
struct Query {
    routine: usize,
    flags: u32,
    name: *const u16,
    entry: PVOID,
    default_type: u32,
    default_data: PVOID,
    default_length: u32,
}

fn lab() -> LabBuilder {
    Lab::builder().timeout(Duration::from_millis(500))
}

/// One script at a time: it lies in a variable of the driver.
static TURN: Mutex<()> = Mutex::new(());

fn load(lab: &Lab, script: unsafe fn(NDIS_HANDLE)) -> Result<(Driver, Adapter), LabError> {
    mini::SCRIPT.store(script as usize, Ordering::Relaxed);
    // SAFETY: the entry point of the small miniport; scripts break rules that the lab survives.
    let driver = unsafe { lab.load_native(mini::entry(Defect::None), "softnic") }?;
    let adapter = driver.add_adapter(AdapterConfig::new())?;
    Ok((driver, adapter))
}

fn end(driver: Driver, adapter: &Adapter) -> Result<(), LabError> {
    adapter.restart()?;
    adapter.pause()?;
    adapter.halt(HaltAction::DeviceStopped)?;
    driver.unload()
}

fn play(lab: &Lab, script: unsafe fn(NDIS_HANDLE)) -> Result<(), LabError> {
    let _turn = TURN.lock();
    let (driver, adapter) = load(lab, script)?;
    end(driver, &adapter)
}

/// The script breaks no rule and leaves nothing behind.
fn clean_on(lab: &Lab, script: unsafe fn(NDIS_HANDLE)) {
    play(lab, script).unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

fn clean(script: unsafe fn(NDIS_HANDLE)) {
    clean_on(&lab().build(), script);
    // And so on one thread, with virtual time.
    clean_on(&lab().deterministic(7).build(), script);
}

/// The script breaks this rule, and the report names it.
fn breaks(rule: &'static Rule, script: unsafe fn(NDIS_HANDLE)) {
    breaks_on(&lab().build(), rule, script);
}

fn breaks_on(lab: &Lab, rule: &'static Rule, script: unsafe fn(NDIS_HANDLE)) {
    let result = play(lab, script);
    let found = lab.violations();
    assert!(found.iter().any(|violation| violation.rule == rule), "{rule}: {result:?}, {found:#?}");
}

unsafe fn block(size: usize) -> PVOID {
    let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, size, TAG);
    assert!(!block.is_null());
    block
}

unsafe fn free(block: PVOID) {
    ExFreePoolWithTag(block, TAG);
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// A UNICODE_STRING over characters that end with a zero.
fn string(units: &[u16]) -> UNICODE_STRING {
    let length = u16::try_from(units.len() * 2 - 2).unwrap();
    UNICODE_STRING { Length: length, MaximumLength: length + 2, Buffer: units.as_ptr().cast_mut() }
}

static CALLS: AtomicU32 = AtomicU32::new(0);

unsafe extern "win64" fn count_dpc(_dpc: *mut KDPC, _context: PVOID, _first: PVOID, _second: PVOID) {
    CALLS.fetch_add(1, Ordering::SeqCst);
}

unsafe fn wait(object: PVOID) -> NTSTATUS {
    KeWaitForSingleObject(object, Executive, KernelMode, 0, null_mut())
}

/// Milliseconds, relative.
const fn after(milliseconds: i64) -> i64 {
    -10_000 * milliseconds
}

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

/// What the WDK's headers inline: the list's own routines are at these offsets.
unsafe fn from_list(list: PVOID) -> PVOID {
    let at = list.cast::<u8>();
    let allocate: unsafe extern "win64" fn(i32, usize, u32) -> PVOID =
        std::mem::transmute(at.add(48).cast::<usize>().read());
    let (kind, tag, size) =
        (at.add(36).cast::<i32>().read(), at.add(40).cast::<u32>().read(), at.add(44).cast::<u32>().read());
    allocate(kind, size as usize, tag)
}

unsafe fn to_list(list: PVOID, entry: PVOID) {
    let free: unsafe extern "win64" fn(PVOID) =
        std::mem::transmute(list.cast::<u8>().add(56).cast::<usize>().read());
    free(entry);
}

unsafe fn make_list() -> PVOID {
    let list = block(128);
    ExInitializeNPagedLookasideList(list, null_mut(), null_mut(), 0, 200, TAG, 0);
    list
}

#[test]
fn lookaside_lists_get_back_what_they_gave_and_are_deleted() {
    unsafe fn script(_: NDIS_HANDLE) {
        let list = make_list();
        let entry = from_list(list);
        std::ptr::write_bytes(entry.cast::<u8>(), 1, 200);
        to_list(list, entry);
        ExDeleteNPagedLookasideList(list);
        free(list);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        make_list();
    }
    unsafe fn freed(_: NDIS_HANDLE) {
        free(make_list());
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let list = make_list();
        ExDeleteNPagedLookasideList(list);
        ExDeleteNPagedLookasideList(list);
    }
    unsafe fn foreign(_: NDIS_HANDLE) {
        let list = make_list();
        to_list(list, block(200));
        ExDeleteNPagedLookasideList(list);
        free(list);
    }
    unsafe fn beyond(_: NDIS_HANDLE) {
        let list = make_list();
        let entry = from_list(list);
        entry.cast::<u8>().add(200).write(1);
        to_list(list, entry);
        ExDeleteNPagedLookasideList(list);
        free(list);
    }
    clean(script);
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::LOOKASIDE_USE, freed);
    breaks(rules::LOOKASIDE_USE, twice);
    breaks(rules::LOOKASIDE_USE, foreign);
    breaks(rules::POOL_OVERRUN, beyond);
}

#[test]
fn linked_lists_hang_together() {
    unsafe fn script(_: NDIS_HANDLE) {
        let memory = block(128);
        let at = |offset: usize| memory.cast::<u8>().add(offset).cast::<c_void>();
        assert!(ExpInterlockedPushEntrySList(at(0), at(16)).is_null());
        assert_eq!(ExpInterlockedPopEntrySList(at(0)), at(16));
        let (head, lock) = (at(32), at(48).cast::<KSPIN_LOCK>());
        lock.cast::<usize>().write(0);
        head.cast::<[PVOID; 2]>().write([head; 2]);
        assert!(ExInterlockedInsertTailList(head, at(64), lock).is_null());
        assert_eq!(ExInterlockedInsertTailList(head, at(80), lock), at(64));
        assert_eq!(ExInterlockedRemoveHeadList(head, lock), at(64));
        assert_eq!(ExInterlockedRemoveHeadList(head, lock), at(80));
        assert!(ExInterlockedRemoveHeadList(head, lock).is_null());
        free(memory);
    }
    unsafe fn crooked(_: NDIS_HANDLE) {
        let memory = block(64);
        ExpInterlockedPushEntrySList(memory, memory.cast::<u8>().add(24).cast());
        free(memory);
    }
    unsafe fn corrupt(_: NDIS_HANDLE) {
        let memory = block(64);
        let entry = memory.cast::<u8>().add(16).cast::<c_void>();
        memory.cast::<[PVOID; 2]>().write([entry; 2]);
        entry.cast::<[PVOID; 2]>().write([entry; 2]);
        ExInterlockedRemoveHeadList(memory, memory.cast::<u8>().add(32).cast());
    }
    clean(script);
    breaks(rules::LIST_USE, crooked);
    breaks(rules::LIST_USE, corrupt);
}

/// Completes an IRP with success.
unsafe extern "win64" fn succeed(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    irp.cast::<u8>().add(48).cast::<NTSTATUS>().write(0);
    IofCompleteRequest(irp, 0);
    0
}

/// Doubles the first byte of the system buffer.
unsafe extern "win64" fn double(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let irp = irp.cast::<u8>();
    let buffer = irp.add(24).cast::<*mut u8>().read();
    *buffer *= 2;
    irp.add(56).cast::<usize>().write(1);
    irp.add(48).cast::<NTSTATUS>().write(0);
    IofCompleteRequest(irp.cast(), 0);
    0
}

static QUEUED: AtomicPtr<IRP> = AtomicPtr::new(null_mut());
static QUEUE: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
static QUEUE_LOCK: AtomicUsize = AtomicUsize::new(0);

unsafe extern "win64" fn csq_insert(_csq: PVOID, irp: *mut IRP) {
    QUEUED.store(irp, Ordering::SeqCst);
}
unsafe extern "win64" fn csq_remove(_csq: PVOID, _irp: *mut IRP) {
    QUEUED.store(null_mut(), Ordering::SeqCst);
}
unsafe extern "win64" fn csq_peek(_csq: PVOID, _irp: *mut IRP, _context: PVOID) -> *mut IRP {
    QUEUED.load(Ordering::SeqCst)
}
unsafe extern "win64" fn csq_acquire(_csq: PVOID, irql: *mut KIRQL) {
    irql.write(KeAcquireSpinLockRaiseToDpc(QUEUE_LOCK.as_ptr().cast()));
}
unsafe extern "win64" fn csq_release(_csq: PVOID, irql: KIRQL) {
    KeReleaseSpinLock(QUEUE_LOCK.as_ptr().cast(), irql);
}
unsafe extern "win64" fn csq_complete(_csq: PVOID, irp: *mut IRP) {
    irp.cast::<u8>().add(48).cast::<u32>().write(0xc000_0120);
    IofCompleteRequest(irp, 0);
}

/// Puts a read into the cancel-safe queue, where it stays.
unsafe extern "win64" fn pend(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    IoCsqInsertIrp(QUEUE.as_ptr().cast_mut().cast(), irp, null_mut());
    0x103
}

static DEVICE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

unsafe fn register_device(driver: NDIS_HANDLE) -> NDIS_STATUS {
    let (name, link) = (units(r"\Device\softnic"), units(r"\DosDevices\softnic"));
    let (mut name, mut link) = (string(&name), string(&link));
    let mut functions: [Option<Dispatch>; 28] = [Some(succeed); 28];
    functions[3] = Some(pend);
    functions[14] = Some(double);
    let mut attributes: NDIS_DEVICE_OBJECT_ATTRIBUTES = std::mem::zeroed();
    attributes.Header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
        Revision: NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
        Size: NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    };
    attributes.DeviceName = &mut name;
    attributes.SymbolicName = &mut link;
    attributes.MajorFunctions = functions.as_mut_ptr().cast();
    attributes.ExtensionSize = 32;
    let (mut device, mut handle) = (null_mut(), null_mut());
    let status = NdisRegisterDeviceEx(driver, &mut attributes, &mut device, &mut handle);
    DEVICE.store(handle, Ordering::SeqCst);
    status
}

/// A control device as tap drivers have it: opened by its link, asked, read, closed.
#[test]
fn a_control_device_is_opened_by_its_name() {
    unsafe fn script(_: NDIS_HANDLE) {
        let routines = [
            csq_insert as *const () as PVOID,
            csq_remove as *const () as PVOID,
            csq_peek as *const () as PVOID,
            csq_acquire as *const () as PVOID,
            csq_release as *const () as PVOID,
            csq_complete as *const () as PVOID,
        ];
        let [insert, remove, peek, acquire, release, complete] = routines;
        let queue = QUEUE.as_ptr().cast_mut().cast();
        assert_eq!(IoCsqInitialize(queue, insert, remove, peek, acquire, release, complete), 0);
        assert_eq!(register_device(mini::driver_handle()), NDIS_STATUS_SUCCESS);
    }
    let _turn = TURN.lock();
    let lab = lab().build();
    let (driver, adapter) = load(&lab, script).unwrap();
    assert_eq!(
        lab.device_names(),
        [(r"\Device\softnic".to_owned(), vec![r"\DosDevices\softnic".to_owned()])]
    );
    let process = lab.process("tool.exe", Token::system()).unwrap();
    assert!(process.open_name(r"\\.\nothing").is_err());
    let file = process.open_name(r"\\.\SoftNic").unwrap();
    let outcome = file.control(0x0022_0000, &[21], 1).unwrap();
    assert_eq!((outcome.status, outcome.output), (0, vec![42]));
    // A read that stays pending is cancelled by its program.
    let outcome = file.read(16, Duration::from_millis(20)).unwrap();
    assert_eq!((outcome.status.cast_unsigned(), outcome.pended), (0xc000_0120, true));
    file.close().unwrap();
    drop(process);
    // SAFETY: what the script registered; as MiniportDriverUnload would, were it this driver's.
    mini::at_unload(|| unsafe { NdisDeregisterDeviceEx(DEVICE.load(Ordering::SeqCst)) });
    end(driver, &adapter).unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

unsafe fn create_device() -> *mut DEVICE_OBJECT {
    let (name, link) = (units(r"\Device\soft"), units(r"\DosDevices\soft"));
    let (name, link) = (string(&name), string(&link));
    let mut device = null_mut();
    let object = mini::OBJECT.load(Ordering::Relaxed);
    assert_eq!(IoCreateDevice(object, 64, &name, 0x12, 0x100, 0, &mut device), 0);
    assert_eq!(IoCreateSymbolicLink(&link, &name), 0);
    // STATUS_OBJECT_NAME_COLLISION
    let mut second = null_mut();
    assert_eq!(IoCreateDevice(object, 0, &name, 0x12, 0, 0, &mut second).cast_unsigned(), 0xc000_0035);
    device
}

unsafe fn delete_link() {
    let link = units(r"\??\soft");
    assert_eq!(IoDeleteSymbolicLink(&string(&link)), 0);
}

#[test]
fn devices_and_links_are_deleted_once() {
    unsafe fn script(_: NDIS_HANDLE) {
        let device = create_device();
        delete_link();
        IoDeleteDevice(device);
    }
    unsafe fn link_left(_: NDIS_HANDLE) {
        IoDeleteDevice(create_device());
    }
    unsafe fn device_left(_: NDIS_HANDLE) {
        create_device();
        delete_link();
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let device = create_device();
        delete_link();
        IoDeleteDevice(device);
        IoDeleteDevice(device);
    }
    clean(script);
    breaks(rules::LEAK_UNLOAD, link_left);
    breaks(rules::LEAK_UNLOAD, device_left);
    breaks(rules::DEVICE_USE, twice);
}

const KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\softnic";

unsafe fn open_key() -> Handle {
    let path = units(KEY);
    let name = string(&path);
    let attributes = ObjectAttributes {
        length: 48,
        root: 0,
        name: &name,
        attributes: 0x240,
        security: null_mut(),
        quality: null_mut(),
    };
    let mut handle = 0;
    assert_eq!(ZwOpenKey(&mut handle, 0x2_0019, &attributes), 0);
    handle
}

static MTU: AtomicU32 = AtomicU32::new(0);

/// Reads `MTU` by RtlQueryRegistryValues into [`MTU`].
unsafe fn query(flags: u32) -> NTSTATUS {
    let (path, name) = (units(KEY), units("MTU"));
    let entry = |routine, name, flags| Query {
        routine,
        flags,
        name,
        entry: MTU.as_ptr().cast(),
        default_type: if flags & 0x100 == 0 { 0 } else { 4 << 24 },
        default_data: null_mut(),
        default_length: 0,
    };
    let table = [entry(0, name.as_ptr(), flags), entry(0, std::ptr::null(), 0)];
    RtlQueryRegistryValues(0, path.as_ptr(), table.as_ptr(), null_mut(), null_mut())
}

#[test]
fn the_registry_is_read_and_written() {
    unsafe fn script(_: NDIS_HANDLE) {
        let handle = open_key();
        let name = units("MTU");
        let (mut buffer, mut needed) = ([0_u32; 4], 0);
        let name = string(&name);
        let short = ZwQueryValueKey(handle, &name, 2, buffer.as_mut_ptr().cast(), 12, &mut needed);
        assert_eq!((short.cast_unsigned(), needed), (0x8000_0005, 16));
        assert_eq!(ZwQueryValueKey(handle, &name, 2, buffer.as_mut_ptr().cast(), 16, &mut needed), 0);
        assert_eq!(buffer, [0, 4, 4, 1280]);
        // Opened for reading only.
        let denied = ZwSetValueKey(handle, &name, 0, 4, buffer.as_ptr().cast(), 4);
        assert_eq!(denied.cast_unsigned(), 0xc000_0022);
        assert_eq!(ZwClose(handle), 0);
        // RTL_QUERY_REGISTRY_DIRECT, TYPECHECK, REQUIRED.
        assert_eq!((query(0x124), MTU.load(Ordering::Relaxed)), (0, 1280));
        let mut handle = 0;
        let object = mini::OBJECT.load(Ordering::Relaxed);
        assert_eq!(IoOpenDriverRegistryKey(object, 0, 0x2_001f, 0, &mut handle), 0);
        let (name, value) = (units("Seen"), 7_u32);
        assert_eq!(ZwSetValueKey(handle, &string(&name), 0, 4, (&raw const value).cast(), 4), 0);
        assert_eq!(ZwClose(handle), 0);
    }
    unsafe fn unchecked(_: NDIS_HANDLE) {
        query(0x20);
    }
    unsafe fn left_open(_: NDIS_HANDLE) {
        open_key();
    }
    let fresh = || {
        let lab = lab().build();
        lab.set_registry(KEY, "MTU", 1280);
        lab
    };
    let good = fresh();
    clean_on(&good, script);
    let seen = good.registry_value(&format!(r"{KEY}\Parameters"), "Seen");
    assert_eq!(seen, Some(Value::Dword(7)));
    for (rule, script) in [
        (rules::REGISTRY_USE, unchecked as unsafe fn(NDIS_HANDLE)),
        (rules::LEAK_UNLOAD, left_open as unsafe fn(NDIS_HANDLE)),
    ] {
        let lab = fresh();
        let _ = play(&lab, script);
        assert!(lab.violations().iter().any(|v| v.rule == rule), "{rule}: {:#?}", lab.violations());
    }
}

static DONE: AtomicPtr<KEVENT> = AtomicPtr::new(null_mut());

unsafe extern "win64" fn io_work(_device: *mut DEVICE_OBJECT, _context: PVOID) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    KeSetEvent(DONE.load(Ordering::SeqCst), 0, 0);
}

unsafe extern "win64" fn executive_work(_context: PVOID) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    KeSetEvent(DONE.load(Ordering::SeqCst), 0, 0);
}

unsafe fn work_item(handle: NDIS_HANDLE) -> PVOID {
    let mut device = null_mut();
    NdisMGetDeviceProperty(handle, null_mut(), &mut device, null_mut(), null_mut(), null_mut());
    let item = IoAllocateWorkItem(device);
    assert!(!item.is_null());
    item
}

#[test]
fn work_items_run_once_and_are_freed() {
    unsafe fn script(handle: NDIS_HANDLE) {
        CALLS.store(0, Ordering::SeqCst);
        let memory = block(64);
        let event = memory.cast::<KEVENT>();
        KeInitializeEvent(event, SynchronizationEvent, 0);
        DONE.store(event, Ordering::SeqCst);
        let item = work_item(handle);
        IoQueueWorkItem(item, io_work as *const () as PVOID, 1, null_mut());
        assert_eq!(wait(event.cast()), 0);
        let executive = memory.cast::<u8>().add(32).cast::<[usize; 4]>();
        executive.write([0, 0, executive_work as *const () as usize, 0]);
        ExQueueWorkItem(executive, 1);
        assert_eq!(wait(event.cast()), 0);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
        // The routine has signalled the event; it is out of the driver's code when its thread has gone on.
        NdisMSleep(50_000);
        IoFreeWorkItem(item);
        free(memory);
    }
    unsafe fn twice(handle: NDIS_HANDLE) {
        let item = work_item(handle);
        // At DISPATCH_LEVEL, on a machine with one thread: nothing runs in between.
        let old = KeRaiseIrqlToDpcLevel();
        IoQueueWorkItem(item, io_work as *const () as PVOID, 1, null_mut());
        IoQueueWorkItem(item, io_work as *const () as PVOID, 1, null_mut());
        KeLowerIrql(old);
    }
    unsafe fn left(handle: NDIS_HANDLE) {
        work_item(handle);
    }
    clean(script);
    static EVENT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    DONE.store(EVENT.as_ptr().cast_mut().cast(), Ordering::SeqCst);
    breaks_on(&lab().deterministic(7).build(), rules::WORK_ITEM_USE, twice);
    breaks(rules::LEAK_HALT, left);
}

#[test]
fn providers_and_callbacks_are_unregistered() {
    const PROVIDER: GUID = GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] };
    unsafe extern "win64" fn changed(_context: PVOID, _change: PVOID, _status: *mut NTSTATUS) {
        CALLS.fetch_add(1, Ordering::SeqCst);
    }
    unsafe fn script(_: NDIS_HANDLE) {
        CALLS.store(0, Ordering::SeqCst);
        let mut handle = 0;
        assert_eq!(EtwRegister(&PROVIDER, null_mut(), null_mut(), &mut handle), 0);
        assert_eq!(EtwUnregister(handle), 0);
        // Each processor is announced, and then there.
        let callback = KeRegisterProcessorChangeCallback(changed as *const () as PVOID, null_mut(), 1);
        let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2 * count);
        KeDeregisterProcessorChangeCallback(callback);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        let mut handle = 0;
        EtwRegister(&PROVIDER, null_mut(), null_mut(), &mut handle);
    }
    unsafe fn wrong_provider(_: NDIS_HANDLE) {
        EtwUnregister(0x1234);
    }
    unsafe fn wrong_callback(_: NDIS_HANDLE) {
        KeDeregisterProcessorChangeCallback(0x1234 as PVOID);
    }
    clean(script);
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::TRACE_USE, wrong_provider);
    breaks(rules::CALLBACK_USE, wrong_callback);
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
fn strings_count_what_they_hold() {
    unsafe fn script(_: NDIS_HANDLE) {
        let narrow =
            UNICODE_STRING { Length: 3, MaximumLength: 4, Buffer: c"abc".as_ptr().cast_mut().cast() };
        let mut wide: UNICODE_STRING = std::mem::zeroed();
        assert_eq!(RtlAnsiStringToUnicodeString(&mut wide, &narrow, 1), 0);
        let expected = units("ABC");
        assert_eq!(RtlEqualUnicodeString(&wide, &string(&expected), 1), 1);
        assert_eq!(RtlEqualUnicodeString(&wide, &string(&expected), 0), 0);
        DbgPrint(c"%s, %wZ %d\n".as_ptr().cast(), c"one".as_ptr() as usize, &raw const wide as usize, 42);
        RtlFreeUnicodeString(&mut wide);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        let narrow =
            UNICODE_STRING { Length: 3, MaximumLength: 4, Buffer: c"abc".as_ptr().cast_mut().cast() };
        let mut wide: UNICODE_STRING = std::mem::zeroed();
        RtlAnsiStringToUnicodeString(&mut wide, &narrow, 1);
    }
    unsafe fn half(_: NDIS_HANDLE) {
        let text = units("ab");
        let odd = UNICODE_STRING { Length: 3, ..string(&text) };
        RtlEqualUnicodeString(&odd, &odd, 0);
    }
    let lab = lab().build();
    clean_on(&lab, script);
    assert_eq!(lab.take_debug_output(), ["one, abc 42\n"]);
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::STRING_USE, half);
}

/// A list with one buffer of 100 bytes, on memory of its own.
unsafe fn make_packet(handle: NDIS_HANDLE) -> (NDIS_HANDLE, *mut NET_BUFFER_LIST, *mut MDL, PVOID) {
    let mut parameters: NET_BUFFER_LIST_POOL_PARAMETERS = std::mem::zeroed();
    parameters.Header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_DEFAULT,
        Revision: 1,
        Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
    };
    parameters.fAllocateNetBuffer = 1;
    parameters.PoolTag = TAG;
    let pool = NdisAllocateNetBufferListPool(handle, &mut parameters);
    let data = block(100);
    for index in 0..100 {
        data.cast::<u8>().add(index).write(index as u8);
    }
    let mdl = NdisAllocateMdl(handle, data, 100);
    let list = NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, mdl, 10, 90);
    (pool, list, mdl, data)
}

unsafe fn free_packet((pool, list, mdl, data): (NDIS_HANDLE, *mut NET_BUFFER_LIST, *mut MDL, PVOID)) {
    NdisFreeNetBufferList(list);
    NdisFreeMdl(mdl);
    free(data);
    NdisFreeNetBufferListPool(pool);
}

#[test]
fn net_buffers_are_moved_cloned_and_copied() {
    unsafe fn script(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        let buffer = (*packet.1).FirstNetBuffer;
        let shape = |buffer: *mut NET_BUFFER| {
            ((*buffer).DataOffset, (*buffer).DataLength, (*buffer).CurrentMdlOffset)
        };
        NdisAdvanceNetBufferDataStart(buffer, 14, 0, null_mut());
        assert_eq!(shape(buffer), (24, 76, 24));
        // Within the data space, and then beyond it: NDIS allocates.
        assert_eq!(NdisRetreatNetBufferDataStart(buffer, 20, 0, null_mut()), NDIS_STATUS_SUCCESS);
        assert_eq!((shape(buffer), (*buffer).MdlChain), ((4, 96, 4), packet.2));
        assert_eq!(NdisRetreatNetBufferDataStart(buffer, 30, 6, null_mut()), NDIS_STATUS_SUCCESS);
        assert_eq!(shape(buffer), (6, 126, 6));
        assert_ne!((*buffer).MdlChain, packet.2);
        NdisAdvanceNetBufferDataStart(buffer, 30, 1, null_mut());
        assert_eq!((shape(buffer), (*buffer).MdlChain), ((4, 96, 4), packet.2));
        // A clone shows the same bytes by other MDLs.
        let clone = NdisAllocateCloneNetBufferList(packet.1, null_mut(), null_mut(), 0);
        let copy = (*clone).FirstNetBuffer;
        assert_eq!((shape(copy), (*clone).ParentNetBufferList), ((0, 96, 0), packet.1));
        assert_eq!((*(*copy).MdlChain).MappedSystemVa, packet.3.cast::<u8>().add(4).cast());
        let mut copied = 0;
        let other = make_packet(handle);
        let target = (*other.1).FirstNetBuffer;
        assert_eq!(
            NdisCopyFromNetBufferToNetBuffer(target, 5, 1000, copy, 1, &mut copied),
            NDIS_STATUS_SUCCESS
        );
        // 100 - 15 bytes of room; byte 15 of the target is the second of the source's data.
        assert_eq!((copied, other.3.cast::<u8>().add(15).read()), (85, 5));
        NdisFreeCloneNetBufferList(clone, 0);
        assert_eq!(NdisAllocateNetBufferListContext(packet.1, 32, 16, TAG), NDIS_STATUS_SUCCESS);
        assert_eq!(NdisAllocateNetBufferListContext(packet.1, 16, 0, TAG), NDIS_STATUS_SUCCESS);
        NdisFreeNetBufferListContext(packet.1, 16);
        NdisFreeNetBufferListContext(packet.1, 32);
        free_packet(packet);
        free_packet(other);
    }
    unsafe fn too_far(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisAdvanceNetBufferDataStart((*packet.1).FirstNetBuffer, 91, 0, null_mut());
        free_packet(packet);
    }
    unsafe fn clone_left(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisAllocateCloneNetBufferList(packet.1, null_mut(), null_mut(), 0);
        free_packet(packet);
    }
    unsafe fn no_clone(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisFreeCloneNetBufferList(packet.1, 0);
        free_packet(packet);
    }
    unsafe fn space_left(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisRetreatNetBufferDataStart((*packet.1).FirstNetBuffer, 30, 0, null_mut());
        free_packet(packet);
    }
    clean(script);
    breaks(rules::MDL_CHAIN, too_far);
    breaks(rules::LEAK_HALT, clone_left);
    breaks(rules::NBL_DOUBLE_FREE, no_clone);
    breaks(rules::LEAK_UNLOAD, space_left);
}

#[test]
fn locks_of_ndis_60_are_released() {
    unsafe fn script(_: NDIS_HANDLE) {
        let (lock, state) = (block(1040), block(8));
        NdisInitializeReadWriteLock(lock);
        for write in [0, 1] {
            NdisAcquireReadWriteLock(lock, write, state);
            NdisReleaseReadWriteLock(lock, state);
        }
        free(lock);
        free(state);
    }
    unsafe fn kept(_: NDIS_HANDLE) {
        let (lock, state) = (block(1040), block(8));
        NdisInitializeReadWriteLock(lock);
        NdisAcquireReadWriteLock(lock, 1, state);
    }
    clean(script);
    breaks(rules::LOCK_HELD_ON_RETURN, kept);
}
