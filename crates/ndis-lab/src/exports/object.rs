//! Objects, handles, processes and system threads of ntoskrnl.exe.

use std::sync::atomic::{AtomicUsize, Ordering};

use ndis_sys::{BOOLEAN, HANDLE, KPRIORITY, KPROCESSOR_MODE, NTSTATUS, PVOID, ULONG, UNICODE_STRING};

use super::{Export, exports};
use crate::machine::ob::{Kind, SYSTEM};
use crate::machine::{Machine, processor_block, thread};
use crate::rules;

const STATUS_INFO_LENGTH_MISMATCH: NTSTATUS = 0xc000_0004_u32.cast_signed();
const STATUS_INVALID_CID: NTSTATUS = 0xc000_000b_u32.cast_signed();
const STATUS_INVALID_INFO_CLASS: NTSTATUS = 0xc000_0003_u32.cast_signed();
const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
const STATUS_NO_YIELD_PERFORMED: NTSTATUS = 0x4000_0024;
/// `OBJ_KERNEL_HANDLE`.
const KERNEL_HANDLE: ULONG = 0x200;
/// `SystemExtendedHandleInformation`.
const EXTENDED_HANDLES: i32 = 0x40;
/// Process notification routines that the kernel has room for.
const MAX_NOTIFY: usize = 64;
/// `INVALID_PROCESS_DETACH_ATTEMPT`.
const INVALID_DETACH: u32 = 0x06;

/// Variables that hold the types of objects: `*ExEventObjectType` is one.
static TYPES: [AtomicUsize; 5] = [const { AtomicUsize::new(0) }; 5];

fn type_variable(kind: Kind) -> usize {
    let variable = &TYPES[kind as usize];
    // Relaxed: everyone writes the same value, before the image that reads it is bound.
    variable.store(kind.type_object(), Ordering::Relaxed);
    std::ptr::from_ref(variable) as usize
}

/// Exported variables, which have no shell.
pub(super) const TYPE_VARIABLES: &[Export] = &[
    Export {
        module: "ntoskrnl.exe",
        name: "ExEventObjectType",
        irql: super::ANY,
        address: || type_variable(Kind::Event),
    },
    Export {
        module: "ntoskrnl.exe",
        name: "PsThreadType",
        irql: super::ANY,
        address: || type_variable(Kind::Thread),
    },
    Export {
        module: "ntoskrnl.exe",
        name: "PsProcessType",
        irql: super::ANY,
        address: || type_variable(Kind::Process),
    },
    Export {
        module: "ntoskrnl.exe",
        name: "IoFileObjectType",
        irql: super::ANY,
        address: || type_variable(Kind::File),
    },
];

/// `OBJECT_ATTRIBUTES`.
#[repr(C)]
pub(crate) struct ObjectAttributes {
    pub(super) length: ULONG,
    pub(super) root: HANDLE,
    pub(super) name: *mut UNICODE_STRING,
    pub(super) attributes: ULONG,
    security: PVOID,
    quality: PVOID,
}

/// `OBJECT_HANDLE_INFORMATION`.
#[repr(C)]
pub(crate) struct HandleInformation {
    attributes: ULONG,
    access: ULONG,
}

/// `KAPC_STATE`, of which only the address matters.
#[repr(C)]
pub(crate) struct ApcState([usize; 6]);

/// The list of `SystemExtendedHandleInformation`, as bytes.
fn handles(machine: &Machine) -> Vec<u8> {
    let listed = machine.ob.list();
    let mut bytes = Vec::with_capacity(16 + 40 * listed.len());
    bytes.extend_from_slice(&(listed.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    for one in listed {
        for number in [one.object, one.process, one.handle] {
            bytes.extend_from_slice(&(number as u64).to_le_bytes());
        }
        bytes.extend_from_slice(&one.access.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&one.kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
    }
    bytes
}

exports! { TABLE in "ntoskrnl.exe" {
    PASSIVE_ONLY fn ObReferenceObjectByHandle(
        call, handle: HANDLE, access: ULONG, kind: PVOID, mode: KPROCESSOR_MODE, object: *mut PVOID,
        information: *mut HandleInformation,
    ) -> NTSTATUS {
        match call.reference_by_handle(handle as usize, access, kind as usize, mode != 0) {
            Ok((found, granted)) => {
                // SAFETY: the caller's variables; the second may be NULL.
                unsafe {
                    object.write(found as PVOID);
                    if let Some(information) = information.as_mut() {
                        *information = HandleInformation { attributes: 0, access: granted };
                    }
                }
                Ok(0)
            }
            Err(status) => {
                // SAFETY: as above.
                unsafe { object.write(std::ptr::null_mut()) };
                Ok(status)
            }
        }
    }

    UP_TO_DISPATCH fn ObfReferenceObject(call, object: PVOID) -> isize {
        if !call.ob.reference(object as usize) {
            call.violate(rules::OBJECT_REFERENCE, format!("{object:p} is no object"));
        }
        Ok(1)
    }

    UP_TO_DISPATCH fn ObfDereferenceObject(call, object: PVOID) -> isize {
        call.dereference(object as usize)?;
        Ok(0)
    }

    PASSIVE_ONLY fn ObCloseHandle(call, handle: HANDLE, mode: KPROCESSOR_MODE) -> NTSTATUS {
        call.close_handle(handle as usize, mode != 0)
    }

    PASSIVE_ONLY fn ZwClose(call, handle: HANDLE) -> NTSTATUS {
        call.close_handle(handle as usize, false)
    }

    PASSIVE_ONLY fn PsCreateSystemThread(
        call, handle: *mut HANDLE, access: ULONG, attributes: *mut ObjectAttributes, process: HANDLE, client: PVOID,
        routine: PVOID, context: PVOID,
    ) -> NTSTATUS {
        // SAFETY: NULL or the caller's structure.
        let flags = unsafe { attributes.as_ref() }.map_or(0, |attributes| attributes.attributes);
        let in_system = call.current_process(false) == SYSTEM;
        if flags & KERNEL_HANDLE == 0 && !in_system {
            call.violate(rules::OBJECT_HANDLE, "the thread's handle goes into a user's table: OBJ_KERNEL_HANDLE is not set");
        }
        if !process.is_null() || !client.is_null() || routine.is_null() {
            call.violate(rules::PARAMETER, "ProcessHandle and ClientId are NULL for a driver's thread, StartRoutine is not");
            return Ok(STATUS_INVALID_PARAMETER);
        }
        if call.fault(0, 0) {
            return Ok(STATUS_INSUFFICIENT_RESOURCES);
        }
        let table = (flags & KERNEL_HANDLE == 0 && !in_system).then(|| call.current_process(false));
        match call.create_thread(routine as usize, context as usize, table, access) {
            Some(number) => {
                // SAFETY: the caller's variable.
                unsafe { handle.write(number as HANDLE) };
                Ok(0)
            }
            None => Ok(STATUS_INSUFFICIENT_RESOURCES),
        }
    }

    PASSIVE_ONLY fn PsTerminateSystemThread(call, _status: NTSTATUS) -> NTSTATUS {
        Err(call.end_thread())
    }

    PASSIVE_ONLY fn KeSetPriorityThread(call, object: PVOID, priority: KPRIORITY) -> KPRIORITY {
        let known = object as usize == processor_block::current_thread()
            || call.ob.kind(object as usize) == Some(Kind::Thread);
        if !known || !(1..=31).contains(&priority) {
            call.violate(rules::PARAMETER, format!("priority {priority} of thread {object:p}"));
        }
        // The host schedules its threads as it likes; 8 is what a system thread starts with.
        Ok(8)
    }

    ANY fn PsGetCurrentProcessId(call) -> HANDLE {
        Ok(call.current_process(true) as HANDLE)
    }

    ANY fn PsGetCurrentThreadId(call) -> HANDLE {
        Ok(match call.ob.id(processor_block::current_thread()) {
            0 => SYSTEM as HANDLE,
            id => id as HANDLE,
        })
    }

    ANY fn IoGetCurrentProcess(call) -> PVOID {
        Ok(call.ob.process_object(call.current_process(false)).unwrap_or(0) as PVOID)
    }

    UP_TO_APC fn PsLookupProcessByProcessId(call, id: HANDLE, process: *mut PVOID) -> NTSTATUS {
        let Some(object) = call.ob.process_object(id as usize) else { return Ok(STATUS_INVALID_CID) };
        call.ob.reference(object);
        // SAFETY: the caller's variable.
        unsafe { process.write(object as PVOID) };
        Ok(0)
    }

    UP_TO_APC fn KeStackAttachProcess(call, process: PVOID, state: *mut ApcState) {
        let Some(id) = call.ob.process_of(process as usize) else {
            call.violate(rules::ATTACH_PROCESS, format!("{process:p} is no process"));
            return Err(call.stop(0x05, [process as u64, 0, 0, 0], "attach to what is no process"));
        };
        thread::with(|thread| thread.attached.borrow_mut().push((state as usize, id)));
        Ok(())
    }

    UP_TO_APC fn KeUnstackDetachProcess(call, state: *mut ApcState) {
        let last = thread::with(|thread| thread.attached.borrow_mut().pop());
        if last.is_none_or(|(address, _)| address != state as usize) {
            call.violate(rules::ATTACH_PROCESS, format!("{state:p} is not what the last attachment filled"));
            return Err(call.stop(INVALID_DETACH, [state as u64, 0, 0, 0], "detach without attach"));
        }
        Ok(())
    }

    PASSIVE_ONLY fn PsSetCreateProcessNotifyRoutine(call, routine: PVOID, remove: BOOLEAN) -> NTSTATUS {
        let routine = routine as usize;
        let mut list = call.ob.notify.lock();
        let at = list.iter().position(|(known, _)| *known == routine);
        match (at, remove != 0) {
            (Some(at), true) => {
                list.remove(at);
                Ok(0)
            }
            (None, false) if list.len() < MAX_NOTIFY => {
                drop(list);
                if call.fault(0, 0) {
                    return Ok(STATUS_INSUFFICIENT_RESOURCES);
                }
                call.ob.notify.lock().push((routine, crate::machine::Origin::here()));
                Ok(0)
            }
            (found, _) => {
                drop(list);
                let what = if found.is_some() { "registered already" } else { "not registered, or one too many" };
                call.violate(rules::PROCESS_NOTIFY, format!("{routine:#x} is {what}"));
                Ok(STATUS_INVALID_PARAMETER)
            }
        }
    }

    PASSIVE_ONLY fn ZwQuerySystemInformation(
        call, class: i32, buffer: PVOID, length: ULONG, returned: *mut ULONG,
    ) -> NTSTATUS {
        if class != EXTENDED_HANDLES {
            return Ok(STATUS_INVALID_INFO_CLASS);
        }
        let bytes = handles(call);
        let needed = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // SAFETY: the caller's variable, which may be NULL.
        if let Some(returned) = unsafe { returned.as_mut() } {
            *returned = needed;
        }
        if length < needed {
            return Ok(STATUS_INFO_LENGTH_MISMATCH);
        }
        // SAFETY: the caller's buffer, which is long enough by its own word.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>(), bytes.len()) };
        Ok(0)
    }

    PASSIVE_ONLY fn ZwYieldExecution(_) -> NTSTATUS {
        std::thread::yield_now();
        Ok(STATUS_NO_YIELD_PERFORMED)
    }
} }

#[cfg(test)]
mod tests {
    #[test]
    fn structures_have_their_sizes_on_x64() {
        assert_eq!(size_of::<super::ObjectAttributes>(), 48);
        assert_eq!(size_of::<super::HandleInformation>(), 8);
        assert_eq!(size_of::<super::ApcState>(), 48);
    }
}
