//! The control device, as tap drivers have one: opened by its name, asked, read, written, closed. Functions that
//! `ndis-sys` does not declare are the lab's own, linked by name.

use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use ndis_sys::*;

use super::{DRIVER, M, header, is};

type Dispatch = unsafe extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP) -> NTSTATUS;

unsafe extern "win64" {
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
}

const STATUS_SUCCESS: NTSTATUS = 0;
const STATUS_PENDING: NTSTATUS = 0x103;
const STATUS_INVALID_DEVICE_REQUEST: NTSTATUS = 0xc000_0010_u32.cast_signed();
const STATUS_BUFFER_TOO_SMALL: NTSTATUS = 0xc000_0023_u32.cast_signed();
const STATUS_CANCELLED: NTSTATUS = 0xc000_0120_u32.cast_signed();
const STATUS_DEVICE_BUSY: NTSTATUS = 0x8000_0011_u32.cast_signed();

/// `CTL_CODE(FILE_DEVICE_NETWORK, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)`: the version, four bytes.
const GET_VERSION: u32 = 0x0012_2000;
const VERSION: u32 = 3;

// Offsets of IRP and of its current stack location.
const SYSTEM_BUFFER: usize = 24;
const STATUS: usize = 48;
const INFORMATION: usize = 56;
const CANCEL_ROUTINE: usize = 104;
const CURRENT_STACK: usize = 184;
const LENGTH: usize = 8;
const CONTROL_CODE: usize = 24;

/// What [`NdisRegisterDeviceEx`] gave.
static CONTROL: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// The cancel-safe queue of reads, which has one place, and its lock.
static QUEUE: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
static QUEUED: AtomicPtr<IRP> = AtomicPtr::new(null_mut());
static QUEUE_LOCK: AtomicUsize = AtomicUsize::new(0);

unsafe fn field<T>(irp: *mut IRP, offset: usize) -> *mut T {
    irp.cast::<u8>().add(offset).cast()
}

/// A field of the current stack location.
unsafe fn parameter<T: Copy>(irp: *mut IRP, offset: usize) -> T {
    field::<*mut u8>(irp, CURRENT_STACK).read().add(offset).cast::<T>().read()
}

unsafe fn complete(irp: *mut IRP, status: NTSTATUS, information: usize) -> NTSTATUS {
    let told = if is(M::IrpCompletedPending) { STATUS_PENDING } else { status };
    field::<NTSTATUS>(irp, STATUS).write(told);
    field::<usize>(irp, INFORMATION).write(information);
    if is(M::IrpCancelRoutineLeft) {
        field::<usize>(irp, CANCEL_ROUTINE).write(csq_complete as *const () as usize);
    }
    IofCompleteRequest(irp, 0);
    if is(M::IrpCompletedTwice) {
        IofCompleteRequest(irp, 0);
    }
    if is(M::IrpTouched) {
        field::<usize>(irp, INFORMATION).write(0);
    }
    if is(M::IrpReadLater) {
        return field::<NTSTATUS>(irp, STATUS).read_volatile();
    }
    if is(M::IrpOtherStatus) && status < 0 { STATUS_SUCCESS } else { told }
}

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
    if !is(M::IrpForgotten) {
        complete(irp, STATUS_CANCELLED, 0);
    }
}

/// Opens, cleanups and closes.
unsafe extern "win64" fn succeed(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_SUCCESS, 0)
}

unsafe extern "win64" fn refuse(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0)
}

/// A read waits for what never comes, until it is cancelled.
unsafe extern "win64" fn read(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    if is(M::IrpNotMarked) {
        QUEUED.store(irp, Ordering::SeqCst);
        KeSetTimer(TIMER.as_ptr().cast_mut().cast(), -10_000, DPC.as_ptr().cast_mut().cast());
        return STATUS_PENDING;
    }
    if !QUEUED.load(Ordering::SeqCst).is_null() {
        return complete(irp, STATUS_DEVICE_BUSY, 0);
    }
    IoCsqInsertIrp(QUEUE.as_ptr().cast_mut().cast(), irp, null_mut());
    if is(M::IrpPendingAsSuccess) { STATUS_SUCCESS } else { STATUS_PENDING }
}

/// The timer and the DPC of a mutant that completes reads itself.
static TIMER: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
static DPC: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

unsafe extern "win64" {
    fn KeInitializeTimer(timer: PVOID);
    fn KeSetTimer(timer: PVOID, due: i64, dpc: *mut KDPC) -> BOOLEAN;
}

unsafe extern "win64" fn complete_read(_dpc: *mut KDPC, _context: PVOID, _first: PVOID, _second: PVOID) {
    let irp = QUEUED.swap(null_mut(), Ordering::SeqCst);
    if !irp.is_null() {
        complete(irp, STATUS_SUCCESS, 0);
    }
}

/// What is written is taken, and goes nowhere.
unsafe extern "win64" fn write(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let length = parameter::<u32>(irp, LENGTH) as usize;
    complete(irp, STATUS_SUCCESS, if is(M::IrpInformation) { length + 1 } else { length })
}

unsafe extern "win64" fn control(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let buffer = field::<*mut u8>(irp, SYSTEM_BUFFER).read();
    if parameter::<u32>(irp, CONTROL_CODE) != GET_VERSION {
        if is(M::IrpNotCompleted) {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        let status = if is(M::ControlAnything) { STATUS_SUCCESS } else { STATUS_INVALID_DEVICE_REQUEST };
        return complete(irp, status, 0);
    }
    let length = parameter::<u32>(irp, LENGTH) as usize;
    if length < size_of_val(&VERSION) && !is(M::ControlOverruns) {
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    if !buffer.is_null() {
        buffer.cast::<u32>().write_unaligned(VERSION);
    }
    complete(irp, STATUS_SUCCESS, size_of_val(&VERSION).min(length))
}

/// Makes the device; the driver is registered.
pub(super) unsafe fn register() -> NDIS_STATUS {
    let routines = [
        csq_insert as *const () as PVOID,
        csq_remove as *const () as PVOID,
        csq_peek as *const () as PVOID,
        csq_acquire as *const () as PVOID,
        csq_release as *const () as PVOID,
        csq_complete as *const () as PVOID,
    ];
    let [insert, remove, peek, acquire, release, finish] = routines;
    QUEUED.store(null_mut(), Ordering::SeqCst);
    QUEUE_LOCK.store(0, Ordering::SeqCst);
    IoCsqInitialize(QUEUE.as_ptr().cast_mut().cast(), insert, remove, peek, acquire, release, finish);
    KeInitializeTimer(TIMER.as_ptr().cast_mut().cast());
    KeInitializeDpc(DPC.as_ptr().cast_mut().cast(), Some(complete_read), null_mut());
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let string = |units: &mut Vec<u16>| {
        let length = (units.len() * 2) as u16;
        UNICODE_STRING { Length: length, MaximumLength: length, Buffer: units.as_mut_ptr() }
    };
    let (mut name, mut link) = (units(r"\Device\mutant"), units(r"\DosDevices\mutant"));
    let (mut name, mut link) = (string(&mut name), string(&mut link));
    let mut functions: [Dispatch; 28] = [refuse; 28];
    for major in [0x00, 0x02, 0x12] {
        functions[major] = succeed;
    }
    functions[0x03] = read;
    functions[0x04] = write;
    functions[0x0e] = control;
    let mut attributes: NDIS_DEVICE_OBJECT_ATTRIBUTES = zeroed();
    attributes.Header = header(
        NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
        NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
        NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    );
    attributes.DeviceName = &mut name;
    attributes.SymbolicName = &mut link;
    attributes.MajorFunctions = functions.as_mut_ptr().cast();
    let (mut device, mut handle) = (null_mut(), null_mut());
    let status =
        NdisRegisterDeviceEx(DRIVER.load(Ordering::Relaxed), &mut attributes, &mut device, &mut handle);
    CONTROL.store(handle, Ordering::Relaxed);
    status
}

/// Deletes the device.
pub(super) unsafe fn deregister() {
    let handle = CONTROL.swap(null_mut(), Ordering::Relaxed);
    if handle.is_null() || is(M::ControlLeft) {
        return;
    }
    NdisDeregisterDeviceEx(handle);
    if is(M::ControlDeregisteredTwice) {
        NdisDeregisterDeviceEx(handle);
    }
}
