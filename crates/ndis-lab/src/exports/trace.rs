//! Event tracing of ntoskrnl.exe: ETW providers, and what WPP's generated code calls. Nobody listens on the
//! lab's machine, so that events go nowhere; registrations are watched.

use ndis_sys::{BOOLEAN, DEVICE_OBJECT, GUID, NTSTATUS, PVOID, ULONG, UNICODE_STRING, USHORT};

use super::rtl_string::text;
use super::{ANY, Call, Export, Function, exports, leaf, leaves, variadic};
use crate::machine::{HandleKind, Origin};
use crate::rules;

const STATUS_INVALID_HANDLE: NTSTATUS = 0xc000_0008_u32.cast_signed();
const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
const STATUS_NOT_FOUND: NTSTATUS = 0xc000_0225_u32.cast_signed();
/// What census and reports call a registration.
const PROVIDER: &str = "ETW provider";
const WMI: &str = "WMI registration";
/// Actions of IoWMIRegistrationControl: register, deregister, register again, update GUIDs, block IRPs.
const WMI_ACTIONS: std::ops::RangeInclusive<ULONG> = 1..=5;
const WMI_REGISTER: ULONG = 1;
const WMI_DEREGISTER: ULONG = 2;
/// Events have 64 KiB at most, in 128 pieces.
const MOST_DATA: ULONG = 128;

/// Registers a provider.
///
/// # Safety
/// The pointers are the caller's.
unsafe fn register(call: &Call<'_>, provider: *const GUID, handle: *mut u64) -> NTSTATUS {
    if provider.is_null() || handle.is_null() {
        call.violate(rules::PARAMETER, "ProviderId or RegHandle is NULL");
        return STATUS_INVALID_PARAMETER;
    }
    if call.fault(0, 0) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let number = call.handle(HandleKind::Trace);
    call.callbacks.lock().insert(number, (PROVIDER, Origin::here()));
    // SAFETY: the caller's variable.
    unsafe { handle.write(number as u64) };
    0
}

/// Whether a handle names a provider; 0, of a provider that could not be registered, is none.
fn known(call: &Call<'_>, handle: u64) -> bool {
    let known = call.callbacks.lock().contains_key(&usize::try_from(handle).unwrap_or(0));
    if !known && handle != 0 {
        call.violate(rules::TRACE_USE, format!("{handle:#x} is no registered provider"));
    }
    known
}

/// An event of a provider.
fn event(call: &Call<'_>, handle: u64, count: ULONG) -> NTSTATUS {
    if count > MOST_DATA {
        call.violate(rules::PARAMETER, format!("UserDataCount {count}"));
        return STATUS_INVALID_PARAMETER;
    }
    if known(call, handle) { 0 } else { STATUS_INVALID_HANDLE }
}

exports! { REGISTRATION in "ntoskrnl.exe" {
    PASSIVE_ONLY fn EtwRegister(
        call, provider: *const GUID, _callback: PVOID, _context: PVOID, handle: *mut u64,
    ) -> NTSTATUS {
        // SAFETY: the caller's pointers.
        Ok(unsafe { register(call, provider, handle) })
    }

    PASSIVE_ONLY fn EtwRegisterClassicProvider(
        call, provider: *const GUID, _kind: ULONG, _callback: PVOID, _context: PVOID, handle: *mut u64,
    ) -> NTSTATUS {
        // SAFETY: the caller's pointers.
        Ok(unsafe { register(call, provider, handle) })
    }

    PASSIVE_ONLY fn EtwUnregister(call, handle: u64) -> NTSTATUS {
        if call.callbacks.lock().remove(&usize::try_from(handle).unwrap_or(0)).is_some() {
            return Ok(0);
        }
        if handle != 0 {
            call.violate(rules::TRACE_USE, format!("{handle:#x} is no registered provider"));
        }
        Ok(STATUS_INVALID_HANDLE)
    }

    PASSIVE_ONLY fn EtwSetInformation(call, handle: u64, _class: i32, _information: PVOID, _length: ULONG) -> NTSTATUS {
        Ok(if known(call, handle) { 0 } else { STATUS_INVALID_HANDLE })
    }

    PASSIVE_ONLY fn IoWMIRegistrationControl(call, device: *mut DEVICE_OBJECT, action: ULONG) -> NTSTATUS {
        // The upper bits say what the address is, and that WPP asks: WMIREG_FLAG_TRACE_PROVIDER and its like.
        let action = action & 0xff;
        if !WMI_ACTIONS.contains(&action) {
            return Ok(STATUS_INVALID_PARAMETER);
        }
        let mut callbacks = call.callbacks.lock();
        let there = callbacks.contains_key(&(device as usize));
        match action {
            WMI_REGISTER if !there => {
                callbacks.insert(device as usize, (WMI, Origin::here()));
            }
            WMI_DEREGISTER if there => {
                callbacks.remove(&(device as usize));
            }
            WMI_REGISTER | WMI_DEREGISTER => {
                drop(callbacks);
                let what = if there { "registered already" } else { "not registered" };
                call.violate(rules::TRACE_USE, format!("{device:p} is {what}"));
                return Ok(STATUS_INVALID_PARAMETER);
            }
            _ => {}
        }
        Ok(0)
    }
} }

leaves! { TABLE in "ntoskrnl.exe" {
    ANY fn EtwWrite(call, handle: u64, _event: PVOID, _activity: *const GUID, count: ULONG, _data: PVOID) -> NTSTATUS {
        event(call, handle, count)
    }

    ANY fn EtwWriteEx(
        call, handle: u64, _event: PVOID, _filter: u64, _flags: ULONG, _activity: *const GUID, _related: *const GUID,
        count: ULONG, _data: PVOID,
    ) -> NTSTATUS {
        event(call, handle, count)
    }

    ANY fn EtwWriteTransfer(
        call, handle: u64, _event: PVOID, _activity: *const GUID, _related: *const GUID, count: ULONG, _data: PVOID,
    ) -> NTSTATUS {
        event(call, handle, count)
    }

    ANY fn EtwWriteString(call, handle: u64, _level: u8, _keyword: u64, _activity: *const GUID, _string: *const u16) -> NTSTATUS {
        event(call, handle, 1)
    }

    ANY fn EtwEventEnabled(_, _handle: u64, _event: PVOID) -> BOOLEAN {
        0
    }

    ANY fn EtwProviderEnabled(_, _handle: u64, _level: u8, _keyword: u64) -> BOOLEAN {
        0
    }

    ANY fn EtwActivityIdControl(call, code: ULONG, activity: *mut GUID) -> NTSTATUS {
        // Get, set, create, get and set, create and set: identifiers count up.
        if !(1..=5).contains(&code) {
            return STATUS_INVALID_PARAMETER;
        }
        if matches!(code, 1 | 3 | 4 | 5) {
            let made = if matches!(code, 3 | 5) { call.handle(HandleKind::Trace) as u64 } else { 0 };
            // SAFETY: the caller's variable.
            unsafe { activity.write(GUID { Data1: 0, Data2: 0, Data3: 0, Data4: made.to_be_bytes() }) };
        }
        0
    }

    ANY fn WmiQueryTraceInformation(_, _class: i32, _information: PVOID, _length: ULONG, _needed: *mut ULONG, _buffer: PVOID) -> NTSTATUS {
        STATUS_NOT_FOUND
    }

    ANY fn WmiTraceMessageVa(_, _logger: u64, _flags: ULONG, _message: *const GUID, _number: USHORT, _list: *const u64) -> NTSTATUS {
        STATUS_INVALID_HANDLE
    }
} }

static WMI_TRACE_MESSAGE: Function = Function { name: "WmiTraceMessage", irql: ANY };

variadic! {
    #[unsafe(no_mangle)]
    WmiTraceMessage => wmi_trace_message
}

unsafe extern "win64" fn wmi_trace_message(_all: *const u64) -> NTSTATUS {
    // No logger has been handed out, so that no handle is right.
    leaf(&WMI_TRACE_MESSAGE, |_| STATUS_INVALID_HANDLE)
}

pub(super) const VARIADIC: &[Export] = &[Export {
    module: "ntoskrnl.exe",
    name: "WmiTraceMessage",
    irql: super::ANY,
    address: || WmiTraceMessage as *const () as usize,
}];

exports! { ROUTINES in "ntoskrnl.exe" {
    PASSIVE_ONLY fn MmGetSystemRoutineAddress(call, name: *const UNICODE_STRING) -> PVOID {
        // SAFETY: the caller's string.
        let name = unsafe { text(call, name) };
        // A driver that asks can do without; what is not there is NULL, as on an older Windows.
        Ok(super::resolve("ntoskrnl.exe", &name).unwrap_or(0) as PVOID)
    }
} }
