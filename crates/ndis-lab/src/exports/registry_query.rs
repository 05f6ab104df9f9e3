//! The registry functions of the run time: RtlQueryRegistryValues and its kin, over those of [`super::registry`].

use ndis_sys::{HANDLE, NTSTATUS, PVOID, ULONG, UNICODE_STRING};

use super::registry::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, SUCCESS, bytes_of,
    value_of,
};
use super::{Call, exports, outside};
use crate::machine::ob::STATUS_OBJECT_TYPE_MISMATCH;
use crate::machine::pool::PoolKind;
use crate::machine::registry::{SERVICES, STATUS_OBJECT_NAME_NOT_FOUND};
use crate::rules;

/// The tag of what RtlQueryRegistryValues allocates.
const TAG: u32 = u32::from_le_bytes(*b"Rqrv");

/// `RTL_QUERY_REGISTRY_TABLE`.
#[repr(C)]
struct Query {
    routine: usize,
    flags: ULONG,
    name: *const u16,
    entry_context: PVOID,
    default_type: ULONG,
    default_data: PVOID,
    default_length: ULONG,
}
const _: () = assert!(size_of::<Query>() == 56);

const QUERY_SUBKEY: ULONG = 1;
const QUERY_TOPKEY: ULONG = 2;
const QUERY_REQUIRED: ULONG = 4;
const QUERY_NOVALUE: ULONG = 8;
const QUERY_DIRECT: ULONG = 0x20;
const QUERY_DELETE: ULONG = 0x40;
const QUERY_TYPECHECK: ULONG = 0x100;

/// The path of the Rtl functions: relative to one of the kernel's keys, or to a handle.
///
/// # Safety
/// `path` is the caller's: a string that ends with a zero, a handle, or NULL.
unsafe fn relative(call: &Call<'_>, to: ULONG, path: *const u16) -> Result<String, NTSTATUS> {
    // RTL_REGISTRY_HANDLE, and RTL_REGISTRY_OPTIONAL beside the others.
    if to & 0x4000_0000 != 0 {
        return call.key_of(path as HANDLE, 0);
    }
    let root = match to & 0xff {
        0 => "",
        1 => SERVICES,
        2 => r"\Registry\Machine\System\ControlSet001\Control",
        3 => r"\Registry\Machine\Software\Microsoft\Windows NT\CurrentVersion",
        4 => r"\Registry\Machine\Hardware\DeviceMap",
        5 => r"\Registry\User\.Default",
        _ => return Err(STATUS_INVALID_PARAMETER),
    };
    // SAFETY: as the caller says.
    let path = if path.is_null() { Vec::new() } else { unsafe { super::format::characters(path, 0x7fff) } };
    let separator = if root.is_empty() { "" } else { "\\" };
    Ok(format!("{root}{separator}{}", String::from_utf16_lossy(&path)))
}

/// Stores a value where an entry with RTL_QUERY_REGISTRY_DIRECT says.
///
/// # Safety
/// The entry's context is what its flags promise.
unsafe fn store_direct(call: &Call<'_>, query: &Query, kind: ULONG, data: &[u8]) -> NTSTATUS {
    let context = query.entry_context;
    let expected = query.default_type >> 24;
    if query.flags & QUERY_TYPECHECK == 0 || expected == 0 {
        call.violate(
            rules::REGISTRY_USE,
            "RTL_QUERY_REGISTRY_DIRECT without RTL_QUERY_REGISTRY_TYPECHECK and a type",
        );
    } else if expected != kind {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    // SAFETY: as the caller says.
    unsafe {
        match kind {
            // REG_SZ, REG_EXPAND_SZ, REG_MULTI_SZ: a UNICODE_STRING, whose buffer is allocated if it has none.
            1 | 2 | 7 => {
                let string = &mut *context.cast::<UNICODE_STRING>();
                let length = data.len().saturating_sub(2);
                if string.Buffer.is_null() {
                    let block = call.allocate(data.len().max(2), TAG, PoolKind::Paged, true);
                    if block.is_null() {
                        return STATUS_INSUFFICIENT_RESOURCES;
                    }
                    string.Buffer = block.cast();
                    string.MaximumLength = u16::try_from(data.len()).unwrap_or(u16::MAX);
                } else if usize::from(string.MaximumLength) < data.len() {
                    return STATUS_BUFFER_TOO_SMALL;
                }
                std::ptr::copy_nonoverlapping(data.as_ptr(), string.Buffer.cast(), data.len());
                string.Length = u16::try_from(length).unwrap_or(0);
            }
            // Up to a ULONG: as it is. More: the buffer begins with its size, negative if that alone is told.
            _ if data.len() <= 4 => std::ptr::copy_nonoverlapping(data.as_ptr(), context.cast(), data.len()),
            _ => {
                let room = context.cast::<i32>().read();
                if room >= 0 {
                    return STATUS_BUFFER_TOO_SMALL;
                }
                let room = room.unsigned_abs() as usize;
                if room < data.len() {
                    return STATUS_BUFFER_TOO_SMALL;
                }
                std::ptr::copy_nonoverlapping(data.as_ptr(), context.cast(), data.len());
            }
        }
    }
    SUCCESS
}

/// Gives one value to an entry of the table.
///
/// # Safety
/// The entry is the caller's.
unsafe fn deliver(
    call: &Call<'_>,
    query: &Query,
    name: &str,
    kind: ULONG,
    data: &[u8],
    context: PVOID,
) -> NTSTATUS {
    if query.flags & QUERY_DIRECT != 0 {
        // SAFETY: as the caller says.
        return unsafe { store_direct(call, query, kind, data) };
    }
    if query.routine == 0 {
        return SUCCESS;
    }
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // Strings of a REG_MULTI_SZ come one by one.
    let parts: Vec<Vec<u8>> = if kind == 7 {
        let (units, _) = data.as_chunks::<2>();
        let strings = units.split(|unit| *unit == [0, 0]).filter(|part| !part.is_empty());
        strings.map(|part| [part.as_flattened(), &[0, 0]].concat()).collect()
    } else {
        vec![data.to_vec()]
    };
    for mut part in parts {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let shown = if kind == 7 { 1 } else { kind };
        // SAFETY: the entry's QueryRoutine, of the type that the structure's page names. If it stops the
        // machine, the copies above are lost, and nothing else.
        let status = unsafe {
            let routine: unsafe extern "win64" fn(*const u16, ULONG, PVOID, ULONG, PVOID, PVOID) -> NTSTATUS =
                std::mem::transmute(query.routine);
            outside(|| {
                routine(name.as_ptr(), shown, part.as_mut_ptr().cast(), length, context, query.entry_context)
            })
        };
        if status == STATUS_BUFFER_TOO_SMALL || status < 0 {
            return status;
        }
    }
    SUCCESS
}

/// `RtlQueryRegistryValues`.
///
/// # Safety
/// The table and the path are the caller's.
unsafe fn query_values(
    call: &Call<'_>,
    to: ULONG,
    path: *const u16,
    table: *const Query,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: as the caller says.
    let top = match unsafe { relative(call, to, path) } {
        Ok(top) if call.registry.exists(&top) => top,
        Ok(_) if to & 0x8000_0000 != 0 => return SUCCESS,
        Ok(_) => return STATUS_OBJECT_NAME_NOT_FOUND,
        Err(status) => return status,
    };
    let mut key = top.clone();
    for index in 0.. {
        // SAFETY: the table ends with an entry that has neither routine nor name.
        let query = unsafe { &*table.add(index) };
        if query.routine == 0 && query.flags & (QUERY_SUBKEY | QUERY_DIRECT) == 0 {
            break;
        }
        let name = if query.name.is_null() {
            String::new()
        } else {
            // SAFETY: the caller's string, which ends with a zero.
            String::from_utf16_lossy(&unsafe { super::format::characters(query.name, 0x7fff) })
        };
        if query.flags & QUERY_TOPKEY != 0 {
            key.clone_from(&top);
        }
        // SAFETY: as the caller says, here and below.
        let status = unsafe {
            if query.flags & QUERY_SUBKEY != 0 {
                key = format!("{top}\\{name}");
                let there = call.registry.exists(&key);
                if !there && query.flags & QUERY_REQUIRED != 0 {
                    STATUS_OBJECT_NAME_NOT_FOUND
                } else {
                    SUCCESS
                }
            } else if query.flags & QUERY_NOVALUE != 0 {
                deliver(call, query, &name, 0, &[], context)
            } else if query.name.is_null() {
                let values = call.registry.values(&key);
                values.iter().fold(SUCCESS, |status, (name, value)| {
                    let (kind, data) = bytes_of(value);
                    if status < 0 { status } else { deliver(call, query, name, kind, &data, context) }
                })
            } else {
                one_value(call, &key, query, &name, context)
            }
        };
        if status < 0 {
            return status;
        }
    }
    SUCCESS
}

/// A value by its name, or its default.
///
/// # Safety
/// The entry is the caller's.
unsafe fn one_value(call: &Call<'_>, key: &str, query: &Query, name: &str, context: PVOID) -> NTSTATUS {
    // SAFETY: as the caller says; a default has the length that it names, or ends with a zero.
    unsafe {
        let Some(value) = call.registry.get(key, name) else {
            let kind = query.default_type & 0xff_ffff;
            if query.flags & QUERY_REQUIRED != 0 {
                return STATUS_OBJECT_NAME_NOT_FOUND;
            }
            if kind == 0 || query.default_data.is_null() {
                return SUCCESS;
            }
            let length = match (query.default_length, kind) {
                (0, 1 | 2) => {
                    super::format::characters(query.default_data.cast::<u16>(), 0x7fff).len() * 2 + 2
                }
                (length, _) => length as usize,
            };
            let data = std::slice::from_raw_parts(query.default_data.cast::<u8>(), length).to_vec();
            return deliver(call, query, name, kind, &data, context);
        };
        let (kind, data) = bytes_of(&value);
        let status = deliver(call, query, name, kind, &data, context);
        if status >= 0 && query.flags & QUERY_DELETE != 0 {
            call.registry.remove_value(key, name);
        }
        status
    }
}

exports! { RTL in "ntoskrnl.exe" {
    PASSIVE_ONLY fn RtlQueryRegistryValues(
        call, to: ULONG, path: *const u16, table: *const Query, context: PVOID, _environment: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller's table and path.
        Ok(unsafe { query_values(call, to, path, table, context) })
    }

    PASSIVE_ONLY fn RtlQueryRegistryValuesEx(
        call, to: ULONG, path: *const u16, table: *const Query, context: PVOID, _environment: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller's table and path.
        Ok(unsafe { query_values(call, to, path, table, context) })
    }

    PASSIVE_ONLY fn RtlCheckRegistryKey(call, to: ULONG, path: *const u16) -> NTSTATUS {
        // SAFETY: the caller's path.
        Ok(match unsafe { relative(call, to, path) } {
            Ok(path) if call.registry.exists(&path) => SUCCESS,
            Ok(_) => STATUS_OBJECT_NAME_NOT_FOUND,
            Err(status) => status,
        })
    }

    PASSIVE_ONLY fn RtlCreateRegistryKey(call, to: ULONG, path: *const u16) -> NTSTATUS {
        // SAFETY: the caller's path.
        Ok(match unsafe { relative(call, to, path) } {
            Ok(_) if call.fault(0, 0) => STATUS_INSUFFICIENT_RESOURCES,
            Ok(path) => {
                call.registry.create(&path);
                SUCCESS
            }
            Err(status) => status,
        })
    }

    PASSIVE_ONLY fn RtlWriteRegistryValue(
        call, to: ULONG, path: *const u16, name: *const u16, kind: ULONG, data: *const u8, length: ULONG,
    ) -> NTSTATUS {
        // SAFETY: the caller's path, name and data.
        unsafe {
            let path = match relative(call, to, path) {
                Ok(path) if call.registry.exists(&path) => path,
                Ok(_) => return Ok(STATUS_OBJECT_NAME_NOT_FOUND),
                Err(status) => return Ok(status),
            };
            if call.fault(length as usize, 0) {
                return Ok(STATUS_INSUFFICIENT_RESOURCES);
            }
            let name = String::from_utf16_lossy(&super::format::characters(name, 0x7fff));
            let bytes = if length == 0 { &[] } else { std::slice::from_raw_parts(data, length as usize) };
            call.registry.set(&path, &name, value_of(kind, bytes));
        }
        Ok(SUCCESS)
    }

    PASSIVE_ONLY fn RtlDeleteRegistryValue(call, to: ULONG, path: *const u16, name: *const u16) -> NTSTATUS {
        // SAFETY: the caller's path and name.
        unsafe {
            let name = String::from_utf16_lossy(&super::format::characters(name, 0x7fff));
            Ok(match relative(call, to, path) {
                Ok(path) if call.registry.remove_value(&path, &name) => SUCCESS,
                Ok(_) => STATUS_OBJECT_NAME_NOT_FOUND,
                Err(status) => status,
            })
        }
    }
} }
