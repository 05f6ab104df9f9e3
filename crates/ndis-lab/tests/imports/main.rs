//! What C miniports import beside NDIS' own functions: right use breaks no rule and leaves nothing, wrong use is named.
//!
//! Each test plays a script in MiniportInitializeEx of the small good miniport.

// Scripts are pieces of a driver as one writes it in C: each stands on the contracts of the functions that it calls, with
// memory that it allocated.
#![allow(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::borrow_as_ptr, clippy::cast_possible_truncation, clippy::cast_ptr_alignment)]
#![allow(clippy::doc_markdown, clippy::items_after_statements)]

#[path = "../mini/mod.rs"]
mod mini;

mod callbacks;
mod devices;
mod dispatcher;
mod ex_timers;
mod hardware;
mod lists;
mod packets;
mod registry;
mod strings;
mod tables;
mod work;

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
    fn KeTryToAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) -> u8;
    fn KeAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK);
    fn KeReleaseSpinLockFromDpcLevel(lock: *mut KSPIN_LOCK);
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
