//! Device objects, symbolic links, work items, driver extensions and cancel-safe queues of ntoskrnl.exe, and
//! the devices that ndis.sys registers for a miniport.

use std::sync::atomic::{AtomicUsize, Ordering};

use ndis_sys::{
    BOOLEAN, DEVICE_OBJECT, DRIVER_OBJECT, IRP, KIRQL, NDIS_DEVICE_OBJECT_ATTRIBUTES, NDIS_HANDLE,
    NDIS_STATUS, NDIS_STATUS_FAILURE, NDIS_STATUS_SUCCESS, NTSTATUS, PVOID, ULONG, UNICODE_STRING,
};

use super::rtl_string::text;
use super::{Call, exports, outside};
use crate::adapter::attributes::Shape;
use crate::machine::io::{MAJORS, Made, device_object};
use crate::machine::work::ItemKind;
use crate::machine::{HandleKind, Stopped};
use crate::packet::Memory;
use crate::rules;

const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
const STATUS_OBJECT_NAME_COLLISION: NTSTATUS = 0xc000_0035_u32.cast_signed();
const STATUS_CANCELLED: NTSTATUS = 0xc000_0120_u32.cast_signed();
/// `IO_WORKITEM` is opaque; this is what IoSizeofWorkItem says.
const WORK_ITEM_SIZE: ULONG = 88;
/// The lock that serialises cancellation: see [`crate::machine::io`].
const CANCEL: &str = "cancel spin lock";
/// The address of IoCancelIrp, for the lab's own use of it.
pub(crate) fn cancel() -> usize {
    IoCancelIrp as *const () as usize
}

/// `IRP.Cancel`, `CancelIrql`, `CancelRoutine`, `Tail.Overlay.DriverContext[3]`, and the pending bit of the
/// current stack location.
const IRP_CANCEL: usize = 68;
const IRP_CANCEL_ROUTINE: usize = 104;
const IRP_CONTEXT_3: usize = 120 + 24;
const IRP_CURRENT_STACK: usize = 120 + 64;
const STACK_CONTROL: usize = 3;

/// A routine of the driver that a cancel-safe queue calls; each runs in the caller's context, and may return
/// with the queue's lock held.
///
/// To be used in an unsafe block: the address is that of a routine of this type.
macro_rules! routine {
    ($address:expr, ($($kind:ty),*) $(-> $ret:ty)?, $($argument:expr),*) => {{
        let routine = std::mem::transmute::<usize, unsafe extern "win64" fn($($kind),*) $(-> $ret)?>($address);
        outside(|| routine($($argument),*))
    }};
}

/// `IO_CSQ`.
#[repr(C)]
struct Csq {
    kind: ULONG,
    insert: usize,
    remove: usize,
    peek: usize,
    acquire: usize,
    release: usize,
    complete: usize,
    reserved: usize,
}
const _: () = assert!(size_of::<Csq>() == 64);

/// `IO_TYPE_CSQ` and `IO_TYPE_CSQ_EX`.
const TYPE_CSQ: ULONG = 2;
const TYPE_CSQ_EX: ULONG = 3;

fn irp_field<'a>(irp: usize, offset: usize) -> &'a AtomicUsize {
    // SAFETY: an IRP that the driver has: an aligned pointer field, accessed atomically.
    unsafe { AtomicUsize::from_ptr((irp + offset) as *mut usize) }
}

/// Fills an IO_CSQ.
///
/// # Safety
/// `csq` is the caller's.
unsafe fn initialize_csq(csq: *mut Csq, kind: ULONG, routines: [usize; 6]) -> NTSTATUS {
    if routines.contains(&0) {
        return STATUS_INVALID_PARAMETER;
    }
    let [insert, remove, peek, acquire, release, complete] = routines;
    // SAFETY: as the caller says.
    unsafe { csq.write(Csq { kind, insert, remove, peek, acquire, release, complete, reserved: 0 }) };
    0
}

/// The cancel routine that a cancel-safe queue gives its IRPs.
unsafe extern "win64" fn csq_cancel(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: IoCancelIrp calls it with the cancel spin lock held, for an IRP in a queue whose IO_CSQ the
    // insertion left in the IRP. Nothing here is owned: a routine may stop the machine.
    unsafe {
        IoReleaseCancelSpinLock(((irp as usize + IRP_CANCEL + 1) as *const KIRQL).read());
        let csq = irp_field(irp as usize, IRP_CONTEXT_3).swap(0, Ordering::Relaxed) as *mut Csq;
        if csq.is_null() {
            return;
        }
        let mut irql: KIRQL = 0;
        routine!((*csq).acquire, (*mut Csq, *mut KIRQL), csq, &raw mut irql);
        routine!((*csq).remove, (*mut Csq, *mut IRP), csq, irp);
        routine!((*csq).release, (*mut Csq, KIRQL), csq, irql);
        routine!((*csq).complete, (*mut Csq, *mut IRP), csq, irp);
    }
}

/// Puts an IRP into a queue.
///
/// # Safety
/// The queue was initialised; the IRP is the driver's.
unsafe fn csq_insert(csq: *mut Csq, irp: *mut IRP, context: *mut usize, insert_context: PVOID) -> NTSTATUS {
    // SAFETY: as the caller says. Nothing here is owned: a routine may stop the machine.
    unsafe {
        let address = irp as usize;
        if !context.is_null() {
            context.cast::<[usize; 3]>().write([TYPE_CSQ as usize, address, csq as usize]);
        }
        irp_field(address, IRP_CONTEXT_3).store(csq as usize, Ordering::Relaxed);
        let mut irql: KIRQL = 0;
        routine!((*csq).acquire, (*mut Csq, *mut KIRQL), csq, &raw mut irql);
        // IoMarkIrpPending.
        let location = irp_field(address, IRP_CURRENT_STACK).load(Ordering::Relaxed);
        *((location + STACK_CONTROL) as *mut u8) |= 1;
        let status = if (*csq).kind == TYPE_CSQ_EX {
            routine!((*csq).insert, (*mut Csq, *mut IRP, PVOID) -> NTSTATUS, csq, irp, insert_context)
        } else {
            routine!((*csq).insert, (*mut Csq, *mut IRP), csq, irp);
            0
        };
        if status < 0 {
            irp_field(address, IRP_CONTEXT_3).store(0, Ordering::Relaxed);
            routine!((*csq).release, (*mut Csq, KIRQL), csq, irql);
            return status;
        }
        // From here on it can be cancelled; it may have been already.
        irp_field(address, IRP_CANCEL_ROUTINE).store(csq_cancel as *const () as usize, Ordering::Release);
        let cancelled = ((address + IRP_CANCEL) as *const u8).read_volatile() != 0;
        if cancelled && irp_field(address, IRP_CANCEL_ROUTINE).swap(0, Ordering::AcqRel) != 0 {
            irp_field(address, IRP_CONTEXT_3).store(0, Ordering::Relaxed);
            routine!((*csq).remove, (*mut Csq, *mut IRP), csq, irp);
            routine!((*csq).release, (*mut Csq, KIRQL), csq, irql);
            routine!((*csq).complete, (*mut Csq, *mut IRP), csq, irp);
            return STATUS_CANCELLED;
        }
        routine!((*csq).release, (*mut Csq, KIRQL), csq, irql);
        status
    }
}

/// Takes the next IRP out of a queue that is not being cancelled.
///
/// # Safety
/// As [`csq_insert`].
unsafe fn csq_remove_next(csq: *mut Csq, peek: PVOID) -> *mut IRP {
    // SAFETY: as the caller says. Nothing here is owned: a routine may stop the machine.
    unsafe {
        let mut irql: KIRQL = 0;
        routine!((*csq).acquire, (*mut Csq, *mut KIRQL), csq, &raw mut irql);
        let mut irp: *mut IRP = std::ptr::null_mut();
        loop {
            irp = routine!((*csq).peek, (*mut Csq, *mut IRP, PVOID) -> *mut IRP, csq, irp, peek);
            if irp.is_null() {
                break;
            }
            // One whose cancel routine is gone is being cancelled: the next one.
            if irp_field(irp as usize, IRP_CANCEL_ROUTINE).swap(0, Ordering::AcqRel) != 0 {
                irp_field(irp as usize, IRP_CONTEXT_3).store(0, Ordering::Relaxed);
                routine!((*csq).remove, (*mut Csq, *mut IRP), csq, irp);
                break;
            }
        }
        routine!((*csq).release, (*mut Csq, KIRQL), csq, irql);
        irp
    }
}

/// A work item of the I/O manager, queued.
fn queue(
    call: &Call<'_>,
    item: PVOID,
    routine: PVOID,
    queue: i32,
    context: PVOID,
    extended: bool,
) -> Result<(), Stopped> {
    // CriticalWorkQueue, DelayedWorkQueue, HyperCriticalWorkQueue, NormalWorkQueue …, or 32 and a priority.
    if routine.is_null() || !(0..64).contains(&queue) {
        call.violate(rules::PARAMETER, format!("WorkerRoutine {routine:p}, QueueType {queue}"));
        return Ok(());
    }
    call.queue_work_item(item as usize, routine as usize, context as usize, extended)
}

/// The owner of a device object or a driver object that a work item is made for.
fn item_owner(call: &Call<'_>, object: usize) -> Option<(u32, Option<crate::adapter::AdapterId>)> {
    let owner =
        call.device_owner(object).or_else(|| call.driver_of_object(object).map(|core| (core.id, None)));
    if owner.is_none() {
        call.violate(rules::PARAMETER, format!("{object:#x} is no device object of the driver"));
    }
    owner
}

/// A name that may be missing.
///
/// # Safety
/// The string is NULL or the caller's.
unsafe fn name_of(call: &Call<'_>, name: *const UNICODE_STRING) -> Option<String> {
    // SAFETY: as the caller says.
    (!name.is_null()).then(|| unsafe { text(call, name) })
}

exports! { DEVICES in "ntoskrnl.exe" {
    UP_TO_APC fn IoCreateDevice(
        call, driver: *mut DRIVER_OBJECT, extension: ULONG, name: *const UNICODE_STRING, kind: ULONG,
        characteristics: ULONG, exclusive: BOOLEAN, device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        let Some(core) = call.driver_of_object(driver as usize) else {
            call.violate(rules::PARAMETER, format!("{driver:p} is not the DRIVER_OBJECT that DriverEntry got"));
            return Ok(STATUS_INVALID_PARAMETER);
        };
        // SAFETY: the caller's string, or NULL.
        let name = unsafe { name_of(call, name) };
        let mut flags = device_object::INITIALIZING;
        flags |= if exclusive == 0 { 0 } else { device_object::EXCLUSIVE };
        flags |= if name.is_some() { device_object::HAS_NAME } else { 0 };
        let made = Made { extension: extension as usize, kind, characteristics, flags, routines: None };
        let made = call.create_device(core, name, &made);
        // SAFETY: the caller's variable.
        unsafe { device.write(made.unwrap_or(0) as *mut DEVICE_OBJECT) };
        Ok(made.err().unwrap_or(0))
    }

    UP_TO_APC fn IoDeleteDevice(call, device: *mut DEVICE_OBJECT) {
        call.delete_device(device as usize);
        Ok(())
    }

    PASSIVE_ONLY fn IoCreateSymbolicLink(call, link: *const UNICODE_STRING, target: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller's strings.
        Ok(unsafe { call.create_link(&text(call, link), &text(call, target)) })
    }

    PASSIVE_ONLY fn IoCreateUnprotectedSymbolicLink(call, link: *const UNICODE_STRING, target: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller's strings.
        Ok(unsafe { call.create_link(&text(call, link), &text(call, target)) })
    }

    PASSIVE_ONLY fn IoDeleteSymbolicLink(call, link: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller's string.
        Ok(unsafe { call.delete_link(&text(call, link)) })
    }

    UP_TO_DISPATCH fn IoAllocateDriverObjectExtension(
        call, driver: *mut DRIVER_OBJECT, id: PVOID, size: ULONG, extension: *mut PVOID,
    ) -> NTSTATUS {
        let Some(core) = call.driver_of_object(driver as usize) else {
            call.violate(rules::PARAMETER, format!("{driver:p} is not the DRIVER_OBJECT that DriverEntry got"));
            return Ok(STATUS_INVALID_PARAMETER);
        };
        // SAFETY: the caller's variable.
        unsafe { extension.write(std::ptr::null_mut()) };
        let mut extensions = core.extensions.lock();
        if extensions.iter().any(|(known, _)| *known == id as usize) {
            return Ok(STATUS_OBJECT_NAME_COLLISION);
        }
        if call.fault(size as usize, 0) {
            return Ok(STATUS_INSUFFICIENT_RESOURCES);
        }
        let Some(memory) = Memory::zeroed(size as usize) else { return Ok(STATUS_INSUFFICIENT_RESOURCES) };
        // SAFETY: the caller's variable.
        unsafe { extension.write(memory.address() as PVOID) };
        extensions.push((id as usize, memory));
        Ok(0)
    }

    UP_TO_DISPATCH fn IoGetDriverObjectExtension(call, driver: *mut DRIVER_OBJECT, id: PVOID) -> PVOID {
        let Some(core) = call.driver_of_object(driver as usize) else { return Ok(std::ptr::null_mut()) };
        let extensions = core.extensions.lock();
        let found = extensions.iter().find(|(known, _)| *known == id as usize);
        Ok(found.map_or(0, |(_, memory)| memory.address()) as PVOID)
    }
} }

exports! { WORK in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn IoAllocateWorkItem(call, device: *mut DEVICE_OBJECT) -> PVOID {
        let Some((driver, adapter)) = item_owner(call, device as usize) else { return Ok(std::ptr::null_mut()) };
        if call.fault(WORK_ITEM_SIZE as usize, 0) {
            return Ok(std::ptr::null_mut());
        }
        Ok(call.create_work_item(ItemKind::Io { device: device as usize }, adapter, driver) as PVOID)
    }

    UP_TO_DISPATCH fn IoFreeWorkItem(call, item: PVOID) {
        call.free_work_item(item as usize)
    }

    UP_TO_DISPATCH fn IoQueueWorkItem(call, item: PVOID, routine: PVOID, kind: i32, context: PVOID) {
        queue(call, item, routine, kind, context, false)
    }

    UP_TO_DISPATCH fn IoQueueWorkItemEx(call, item: PVOID, routine: PVOID, kind: i32, context: PVOID) {
        queue(call, item, routine, kind, context, true)
    }

    ANY fn IoSizeofWorkItem(_) -> ULONG {
        Ok(WORK_ITEM_SIZE)
    }

    ANY fn IoInitializeWorkItem(call, object: PVOID, item: PVOID) {
        if let Some((driver, adapter)) = item_owner(call, object as usize) {
            if call.is_work_item(item as usize) {
                call.violate(rules::WORK_ITEM_USE, format!("work item {item:p} is initialised again"));
            }
            call.know_work_item(item as usize, ItemKind::Io { device: object as usize }, adapter, driver);
        }
        Ok(())
    }

    ANY fn IoUninitializeWorkItem(call, item: PVOID) {
        call.free_work_item(item as usize)
    }

    UP_TO_DISPATCH fn ExQueueWorkItem(call, item: *const [usize; 4], _kind: i32) {
        if call.is_work_item(item as usize) {
            call.violate(rules::WORK_ITEM_USE, format!("WORK_QUEUE_ITEM {item:p} is queued already"));
            return Ok(());
        }
        // SAFETY: the caller's WORK_QUEUE_ITEM: a list entry, the routine and its parameter.
        let [_, _, routine, context] = unsafe { *item };
        if routine == 0 {
            call.violate(rules::PARAMETER, "WorkerRoutine is NULL: the item was not initialised");
            return Ok(());
        }
        let owner = crate::machine::thread::with(crate::machine::Thread::context);
        call.know_work_item(item as usize, ItemKind::Executive, owner.adapter, owner.driver);
        call.queue_work_item(item as usize, routine, context, false)
    }
} }

exports! { CANCELLING in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn IoAcquireCancelSpinLock(call, irql: *mut KIRQL) {
        let old = call.acquire(call.io.cancel_lock(), CANCEL, true)?;
        // SAFETY: the caller's variable.
        unsafe { irql.write(old) };
        Ok(())
    }

    AT_DISPATCH fn IoReleaseCancelSpinLock(call, irql: KIRQL) {
        call.release(call.io.cancel_lock(), CANCEL, Some(irql))
    }

    ANY fn IoCsqInitialize(
        _, csq: *mut Csq, insert: PVOID, remove: PVOID, peek: PVOID, acquire: PVOID, release: PVOID, complete: PVOID,
    ) -> NTSTATUS {
        let routines = [insert, remove, peek, acquire, release, complete].map(|routine| routine as usize);
        // SAFETY: the caller's structure.
        Ok(unsafe { initialize_csq(csq, TYPE_CSQ, routines) })
    }

    ANY fn IoCsqInitializeEx(
        _, csq: *mut Csq, insert: PVOID, remove: PVOID, peek: PVOID, acquire: PVOID, release: PVOID, complete: PVOID,
    ) -> NTSTATUS {
        let routines = [insert, remove, peek, acquire, release, complete].map(|routine| routine as usize);
        // SAFETY: the caller's structure.
        Ok(unsafe { initialize_csq(csq, TYPE_CSQ_EX, routines) })
    }

    UP_TO_DISPATCH fn IoCsqInsertIrp(_, csq: *mut Csq, irp: *mut IRP, context: *mut usize) {
        // SAFETY: the caller's queue and IRP, here and below.
        unsafe { csq_insert(csq, irp, context, std::ptr::null_mut()) };
        Ok(())
    }

    UP_TO_DISPATCH fn IoCsqInsertIrpEx(_, csq: *mut Csq, irp: *mut IRP, context: *mut usize, insert: PVOID) -> NTSTATUS {
        // SAFETY: see above.
        Ok(unsafe { csq_insert(csq, irp, context, insert) })
    }

    UP_TO_DISPATCH fn IoCsqRemoveNextIrp(_, csq: *mut Csq, peek: PVOID) -> *mut IRP {
        // SAFETY: see above.
        Ok(unsafe { csq_remove_next(csq, peek) })
    }

    UP_TO_DISPATCH fn IoCancelIrp(call, irp: *mut IRP) -> BOOLEAN {
        let address = irp as usize;
        if !call.irp_lives(address) {
            call.violate(rules::IRP_COMPLETION, format!("IRP {address:#x} is none that lives"));
            return Ok(0);
        }
        let old = call.acquire(call.io.cancel_lock(), CANCEL, true)?;
        let Some((routine, device)) = call.mark_cancelled(address, old) else {
            call.release(call.io.cancel_lock(), CANCEL, Some(old))?;
            return Ok(0);
        };
        // SAFETY: the routine that the driver set, which releases the lock; nothing here is owned.
        unsafe {
            routine!(routine, (*mut DEVICE_OBJECT, *mut IRP), device as *mut DEVICE_OBJECT, irp);
        }
        Ok(1)
    }
} }

/// The one revision of NDIS_DEVICE_OBJECT_ATTRIBUTES.
const ATTRIBUTES: &[Shape] = &[Shape {
    name: "NDIS_DEVICE_OBJECT_ATTRIBUTES",
    kind: ndis_sys::NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
    revision: ndis_sys::NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    size: ndis_sys::NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    align: align_of::<NDIS_DEVICE_OBJECT_ATTRIBUTES>(),
}];

exports! { NDIS in "ndis.sys" {
    PASSIVE_ONLY fn NdisRegisterDeviceEx(
        call, handle: NDIS_HANDLE, attributes: *mut NDIS_DEVICE_OBJECT_ATTRIBUTES, device: *mut *mut DEVICE_OBJECT,
        device_handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        // Its page asks for the driver's handle; NDIS takes an adapter's too, as tap-windows6 passes it.
        let owner = call.owner_of(handle as usize);
        if let Some((Some(adapter), _)) = owner {
            call.violate(rules::PARAMETER, format!("NdisHandle is that of {adapter}, not the driver's"));
        }
        let owner = owner.map(|(_, driver)| driver);
        let core = call.objects.lock().drivers.values().find(|core| Some(core.id) == owner).cloned();
        let Some(core) = core else {
            call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
            return Ok(NDIS_STATUS_FAILURE);
        };
        // SAFETY: the caller's structure, as large as its header says; the header comes first.
        let attributes = unsafe {
            if !call.takes_header((*attributes).Header, ATTRIBUTES) {
                return Ok(NDIS_STATUS_FAILURE);
            }
            *attributes
        };
        if attributes.DeviceName.is_null() || attributes.SymbolicName.is_null() || attributes.MajorFunctions.is_null() {
            call.violate(rules::PARAMETER, "DeviceName, SymbolicName and MajorFunctions are not NULL");
            return Ok(NDIS_STATUS_FAILURE);
        }
        // SAFETY: the caller's strings, and an array of IRP_MJ_MAXIMUM_FUNCTION + 1 routines.
        let (name, link, functions) = unsafe {
            (text(call, attributes.DeviceName), text(call, attributes.SymbolicName), attributes.MajorFunctions.cast::<[usize; MAJORS]>().read())
        };
        let routines = functions.map(|routine| if routine == 0 { super::io::invalid_dispatch as *const () as usize } else { routine });
        let made = Made {
            extension: attributes.ExtensionSize as usize,
            // FILE_DEVICE_NETWORK and FILE_DEVICE_SECURE_OPEN.
            kind: 0x12,
            characteristics: 0x100,
            flags: device_object::HAS_NAME,
            routines: Some(routines),
        };
        let made = match call.create_device(core, Some(name.clone()), &made) {
            Ok(made) => made,
            Err(status) => return Ok(status),
        };
        let status = call.create_link(&link, &name);
        if status < 0 {
            call.delete_device(made);
            return Ok(status);
        }
        let number = call.handle(HandleKind::Device);
        call.objects.lock().devices.insert(number, (made, link));
        // SAFETY: the caller's variables.
        unsafe {
            device.write(made as *mut DEVICE_OBJECT);
            device_handle.write(number as NDIS_HANDLE);
        }
        Ok(NDIS_STATUS_SUCCESS)
    }

    PASSIVE_ONLY fn NdisDeregisterDeviceEx(call, handle: NDIS_HANDLE) {
        let found = call.objects.lock().devices.remove(&(handle as usize));
        match found {
            Some((device, link)) => {
                call.delete_link(&link);
                call.delete_device(device);
            }
            None => call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no registered device")),
        }
        Ok(())
    }

    ANY fn NdisGetDeviceReservedExtension(call, device: *mut DEVICE_OBJECT) -> PVOID {
        if !call.is_made_device(device as usize) {
            call.violate(rules::DEVICE_USE, format!("{device:p} is not what NdisRegisterDeviceEx made"));
            return Ok(std::ptr::null_mut());
        }
        // SAFETY: a DEVICE_OBJECT of the lab that lives.
        Ok(unsafe { ((device as usize + device_object::EXTENSION) as *const PVOID).read() })
    }
} }
