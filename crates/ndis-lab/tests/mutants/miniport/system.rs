//! What mutants do to the parts of the system that a miniport meets beside NDIS: processes, threads and handles, the
//! registry, tracing, strings, lists, locked pages. Functions that `ndis-sys` does not declare are the lab's own, linked
//! by name.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ndis_sys::*;

use super::{M, OBJECT, WILD, allocate, free, is};

unsafe extern "win64" {
    fn RtlEqualUnicodeString(a: *const UNICODE_STRING, b: *const UNICODE_STRING, fold: BOOLEAN) -> BOOLEAN;
    fn ExpInterlockedPushEntrySList(header: PVOID, entry: PVOID) -> PVOID;
    fn ExInterlockedRemoveHeadList(head: PVOID, lock: *mut KSPIN_LOCK) -> PVOID;
    fn KeSetSystemAffinityThreadEx(mask: u64) -> u64;
    fn KeRegisterProcessorChangeCallback(function: PVOID, context: PVOID, flags: ULONG) -> PVOID;
    fn KeDeregisterProcessorChangeCallback(handle: PVOID);
    fn EtwRegister(provider: *const GUID, callback: PVOID, context: PVOID, handle: *mut u64) -> NTSTATUS;
    fn EtwUnregister(handle: u64) -> NTSTATUS;
    fn PsCreateSystemThread(
        handle: *mut HANDLE,
        access: ULONG,
        attributes: PVOID,
        process: HANDLE,
        client: PVOID,
        routine: PVOID,
        context: PVOID,
    ) -> NTSTATUS;
    fn PsLookupProcessByProcessId(id: HANDLE, process: *mut PVOID) -> NTSTATUS;
    fn PsGetCurrentProcessId() -> HANDLE;
    fn PsSetCreateProcessNotifyRoutine(routine: PVOID, remove: BOOLEAN) -> NTSTATUS;
    fn ObfDereferenceObject(object: PVOID) -> isize;
    fn ZwClose(handle: HANDLE) -> NTSTATUS;
    fn KeStackAttachProcess(process: PVOID, state: PVOID);
    fn KeUnstackDetachProcess(state: PVOID);
    fn SeCaptureSubjectContext(context: PVOID);
    fn SeReleaseSubjectContext(context: PVOID);
    fn RtlQueryRegistryValues(
        to: ULONG,
        path: *const u16,
        table: *const Query,
        context: PVOID,
        environment: PVOID,
    ) -> NTSTATUS;
    fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension: ULONG,
        name: *const UNICODE_STRING,
        kind: ULONG,
        characteristics: ULONG,
        exclusive: BOOLEAN,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS;
    fn IoDeleteDevice(device: *mut DEVICE_OBJECT);
    fn MmProbeAndLockPages(mdl: *mut MDL, mode: KPROCESSOR_MODE, operation: i32);
    fn MmUnlockPages(mdl: *mut MDL);
}

/// `RTL_QUERY_REGISTRY_TABLE`.
#[repr(C)]
struct Query {
    routine: usize,
    flags: ULONG,
    name: *const u16,
    entry: PVOID,
    default_type: ULONG,
    default_data: PVOID,
    default_length: ULONG,
}

const PROVIDER: GUID = GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] };
const THREAD_ALL_ACCESS: ULONG = 0x1f_ffff;
/// `RTL_REGISTRY_SERVICES`, `RTL_QUERY_REGISTRY_DIRECT`.
const SERVICES: ULONG = 1;
const DIRECT: ULONG = 0x20;
const REG_DWORD: ULONG = 4;
const IO_READ_ACCESS: i32 = 0;
/// `SECURITY_SUBJECT_CONTEXT`, `KAPC_STATE`: opaque, and no larger.
const ROOM: usize = 64;

/// A provider that a mutant registered.
static TRACE: AtomicU64 = AtomicU64::new(0);
/// A process that a mutant attached to.
static PROCESS: AtomicUsize = AtomicUsize::new(0);

/// Within MiniportInitializeEx.
pub(super) unsafe fn spoil() {
    spoil_values();
    spoil_registrations();
    spoil_processes();
    spoil_threads();
    spoil_devices();
    spoil_pages();
}

/// Strings, lists, assertions, pointers.
unsafe fn spoil_values() {
    if is(M::StringHalf) || is(M::StringNull) {
        let mut text = [b'a'.into(), b'b'.into()];
        let string = if is(M::StringHalf) {
            UNICODE_STRING { Length: 3, MaximumLength: 4, Buffer: text.as_mut_ptr() }
        } else {
            UNICODE_STRING { Length: 4, MaximumLength: 4, Buffer: null_mut() }
        };
        RtlEqualUnicodeString(&string, &string, FALSE);
    }
    if is(M::AssertionFails) {
        // NT_ASSERT as the compiler has it: int 2Ch.
        std::arch::asm!("int 0x2c");
    }
    if is(M::EntryCrooked) || is(M::ListCorrupt) {
        let block = allocate(ROOM);
        if block.is_null() {
            return;
        }
        let at = |offset: usize| block.cast::<u8>().add(offset).cast::<c_void>();
        if is(M::EntryCrooked) {
            ExpInterlockedPushEntrySList(block, at(24));
        } else {
            // The head leads to an entry that does not lead back.
            block.cast::<[PVOID; 2]>().write([at(16); 2]);
            at(16).cast::<[PVOID; 2]>().write([at(16); 2]);
            ExInterlockedRemoveHeadList(block, at(32).cast());
        }
        free(block);
    }
    if is(M::EventWild) {
        KeSetEvent(WILD as *mut KEVENT, 0, FALSE);
    }
}

unsafe extern "win64" fn processor_changed(_context: PVOID, _change: PVOID, _status: *mut NTSTATUS) {}

unsafe extern "win64" fn process_notified(_parent: HANDLE, _process: HANDLE, _create: BOOLEAN) {}

/// What is called back, and who is told.
unsafe fn spoil_registrations() {
    if is(M::CallbackLeft) || is(M::CallbackRemovedTwice) {
        let callback =
            KeRegisterProcessorChangeCallback(processor_changed as *const () as PVOID, null_mut(), 0);
        if is(M::CallbackRemovedTwice) {
            KeDeregisterProcessorChangeCallback(callback);
            KeDeregisterProcessorChangeCallback(callback);
        }
    }
    if is(M::TraceLeft) || is(M::TraceUnregisteredTwice) {
        let mut provider = 0;
        EtwRegister(&PROVIDER, null_mut(), null_mut(), &mut provider);
        TRACE.store(provider, Ordering::Relaxed);
        if is(M::TraceUnregisteredTwice) {
            EtwUnregister(provider);
            EtwUnregister(provider);
        }
    }
    if is(M::NotifiedTwice) || is(M::NotifyLeft) {
        let routine = process_notified as *const () as PVOID;
        PsSetCreateProcessNotifyRoutine(routine, FALSE);
        if is(M::NotifiedTwice) {
            PsSetCreateProcessNotifyRoutine(routine, FALSE);
            PsSetCreateProcessNotifyRoutine(routine, TRUE);
        }
    }
    if is(M::RegistryUnchecked) {
        let (name, mut value, mut seen) = (['X' as u16, 0], 7_u32, 0_u32);
        let mut entry = |name, flags| Query {
            routine: 0,
            flags,
            name,
            entry: (&raw mut seen).cast(),
            default_type: REG_DWORD,
            default_data: (&raw mut value).cast(),
            default_length: 4,
        };
        let table = [entry(name.as_ptr(), DIRECT), entry(std::ptr::null(), 0)];
        RtlQueryRegistryValues(SERVICES, std::ptr::null(), table.as_ptr(), null_mut(), null_mut());
    }
}

/// Processes, their handles and what is known of their users.
unsafe fn spoil_processes() {
    if is(M::ProcessReleasedTwice) || is(M::ProcessKept) || is(M::AttachedForGood) || is(M::DetachedTwice) {
        let mut process = null_mut();
        if PsLookupProcessByProcessId(PsGetCurrentProcessId(), &mut process) < 0 {
            return;
        }
        let mut state = [0_u64; ROOM / 8];
        if is(M::AttachedForGood) || is(M::DetachedTwice) {
            PROCESS.store(process as usize, Ordering::Relaxed);
            KeStackAttachProcess(process, state.as_mut_ptr().cast());
        }
        if is(M::DetachedTwice) {
            KeUnstackDetachProcess(state.as_mut_ptr().cast());
            KeUnstackDetachProcess(state.as_mut_ptr().cast());
        }
        if !is(M::ProcessKept) {
            ObfDereferenceObject(process);
        }
        if is(M::ProcessReleasedTwice) {
            ObfDereferenceObject(process);
        }
    }
    if is(M::SubjectKept) || is(M::SubjectReleasedTwice) {
        let mut context = [0_u64; ROOM / 8];
        SeCaptureSubjectContext(context.as_mut_ptr().cast());
        if is(M::SubjectReleasedTwice) {
            SeReleaseSubjectContext(context.as_mut_ptr().cast());
            SeReleaseSubjectContext(context.as_mut_ptr().cast());
        }
    }
    if is(M::AffinityKept) {
        KeSetSystemAffinityThreadEx(2);
    }
}

unsafe extern "win64" fn linger(_context: PVOID) {
    NdisMSleep(3_000_000);
}

unsafe extern "win64" fn end(_context: PVOID) {}

/// System threads.
unsafe fn spoil_threads() {
    if is(M::ThreadLeft) || is(M::HandleClosedTwice) || is(M::HandleLeft) {
        let routine = if is(M::ThreadLeft) { linger } else { end } as *const () as PVOID;
        let mut thread = null_mut();
        let status = PsCreateSystemThread(
            &mut thread,
            THREAD_ALL_ACCESS,
            null_mut(),
            null_mut(),
            null_mut(),
            routine,
            null_mut(),
        );
        if status >= 0 && !is(M::HandleLeft) {
            ZwClose(thread);
            if is(M::HandleClosedTwice) {
                ZwClose(thread);
            }
        }
    }
}

/// Device objects of the driver's own.
unsafe fn spoil_devices() {
    if is(M::DeviceDeletedTwice) || is(M::DeviceLeft) || is(M::DeviceTouched) {
        let mut device = null_mut();
        let object = OBJECT.load(Ordering::Relaxed);
        if IoCreateDevice(object, 64, std::ptr::null(), 0x12, 0, FALSE, &mut device) < 0 {
            return;
        }
        if !is(M::DeviceLeft) {
            IoDeleteDevice(device);
        }
        if is(M::DeviceDeletedTwice) {
            IoDeleteDevice(device);
        }
        if is(M::DeviceTouched) {
            device.cast::<u8>().add(48).read_volatile();
        }
    }
}

/// Pages that are locked for a device.
unsafe fn spoil_pages() {
    if !(is(M::PagesLockedTwice) || is(M::PagesLeftLocked) || is(M::PagesUnlockedTwice)) {
        return;
    }
    let block = ExAllocatePool2(POOL_FLAG_PAGED, ROOM, super::TAG);
    let mdl = IoAllocateMdl(block, ROOM as u32, FALSE, FALSE, null_mut());
    if !mdl.is_null() {
        MmProbeAndLockPages(mdl, KernelMode, IO_READ_ACCESS);
        if is(M::PagesLockedTwice) {
            MmProbeAndLockPages(mdl, KernelMode, IO_READ_ACCESS);
        }
        if !is(M::PagesLeftLocked) {
            MmUnlockPages(mdl);
        }
        if is(M::PagesUnlockedTwice) {
            MmUnlockPages(mdl);
        }
        IoFreeMdl(mdl);
    }
    if !block.is_null() {
        free(block);
    }
}
