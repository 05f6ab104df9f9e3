//! The registry functions of ntoskrnl.exe, over the small registry of [`crate::machine::registry`].

use ndis_sys::{DEVICE_OBJECT, DRIVER_OBJECT, HANDLE, NTSTATUS, ULONG, UNICODE_STRING};

use super::object::ObjectAttributes;
use super::rtl_string::text;
use super::{Call, exports};
use crate::machine::Machine;
use crate::machine::ob::{
    Kind, STATUS_ACCESS_DENIED, STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH, SYSTEM,
};
use crate::machine::registry::{NETWORK_CLASS, SERVICES, STATUS_OBJECT_NAME_NOT_FOUND};
use crate::objects::Value;
use crate::rules;

pub(super) const SUCCESS: NTSTATUS = 0;
const STATUS_BUFFER_OVERFLOW: NTSTATUS = 0x8000_0005_u32.cast_signed();
const STATUS_NO_MORE_ENTRIES: NTSTATUS = 0x8000_001a_u32.cast_signed();
pub(super) const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
pub(super) const STATUS_BUFFER_TOO_SMALL: NTSTATUS = 0xc000_0023_u32.cast_signed();
const STATUS_OBJECT_TYPE: NTSTATUS = STATUS_OBJECT_TYPE_MISMATCH;
pub(super) const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
const STATUS_CANNOT_DELETE: NTSTATUS = 0xc000_0121_u32.cast_signed();
const STATUS_INVALID_PARAMETER_2: NTSTATUS = 0xc000_00f0_u32.cast_signed();
/// `OBJ_KERNEL_HANDLE`.
const KERNEL_HANDLE: ULONG = 0x200;
/// Rights to a key: to read its values, to change them, to list its subkeys, to remove it.
const KEY_QUERY_VALUE: ULONG = 1;
const KEY_SET_VALUE: ULONG = 2;
const KEY_ENUMERATE_SUB_KEYS: ULONG = 8;
const DELETE: ULONG = 0x1_0000;

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The type of a value, and its bytes as the registry has them.
pub(super) fn bytes_of(value: &Value) -> (ULONG, Vec<u8>) {
    match value {
        Value::Text(text) => (1, utf16(&format!("{text}\0"))),
        Value::Binary(bytes) => (3, bytes.clone()),
        Value::Dword(number) => (4, number.to_le_bytes().to_vec()),
        Value::Texts(texts) => {
            (7, texts.iter().flat_map(|text| utf16(text).into_iter().chain([0, 0])).chain([0, 0]).collect())
        }
    }
}

/// What a driver writes; types that the lab does not tell apart are kept as bytes.
pub(super) fn value_of(kind: ULONG, bytes: &[u8]) -> Value {
    let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let text = String::from_utf16_lossy(&units);
    match (kind, bytes.try_into()) {
        (4, Ok(bytes)) => Value::Dword(u32::from_le_bytes(bytes)),
        (1 | 2, _) => Value::Text(text.trim_end_matches('\0').to_owned()),
        (7, _) => Value::Texts(text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()),
        _ => Value::Binary(bytes.to_vec()),
    }
}

/// Puts as much as fits into a buffer; `fixed` bytes have to.
///
/// # Safety
/// The buffer has that length; `needed` is the caller's.
unsafe fn answer(all: &[u8], fixed: usize, buffer: *mut u8, length: ULONG, needed: *mut ULONG) -> NTSTATUS {
    // SAFETY: as the caller says.
    unsafe {
        needed.write(u32::try_from(all.len()).unwrap_or(u32::MAX));
        let room = length as usize;
        if room < fixed {
            return STATUS_BUFFER_TOO_SMALL;
        }
        std::ptr::copy_nonoverlapping(all.as_ptr(), buffer, room.min(all.len()));
        if room < all.len() { STATUS_BUFFER_OVERFLOW } else { SUCCESS }
    }
}

/// KEY_VALUE_BASIC_, FULL_ or PARTIAL_INFORMATION of a value, and how much of it is fixed.
fn value_information(class: i32, name: &str, value: &Value) -> Option<(Vec<u8>, usize)> {
    let (kind, data) = bytes_of(value);
    let name = utf16(name);
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut all = [[0; 4], kind.to_le_bytes()].concat();
    let fixed = match class {
        0 => {
            all.extend(word(name.len()));
            all.extend(name);
            12
        }
        1 => {
            let offset = (20 + name.len()).next_multiple_of(8);
            all.extend([word(offset), word(data.len()), word(name.len())].concat());
            all.extend(name);
            all.resize(offset, 0);
            all.extend(data);
            20
        }
        2 => {
            all.extend(word(data.len()));
            all.extend(data);
            12
        }
        _ => return None,
    };
    Some((all, fixed))
}

/// KEY_BASIC_ or NODE_INFORMATION of a subkey.
fn key_information(class: i32, name: &str) -> Option<(Vec<u8>, usize)> {
    let name = utf16(name);
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
    let fixed = match class {
        0 => vec![0; 12],
        1 => [vec![0; 12], u32::MAX.to_le_bytes().to_vec(), vec![0; 4]].concat(),
        _ => return None,
    };
    let all = [fixed, length.to_vec(), name].concat();
    Some((all, if class == 0 { 16 } else { 24 }))
}

impl Machine {
    /// The path of a key that is open, if it was opened with this right.
    pub(super) fn key_of(&self, handle: HANDLE, right: ULONG) -> Result<String, NTSTATUS> {
        let found = self.ob.look(self.current_process(false), handle as usize);
        let Some((object, kind, granted)) = found else { return Err(STATUS_INVALID_HANDLE) };
        if kind != Kind::Key {
            return Err(STATUS_OBJECT_TYPE);
        }
        if granted & right != right {
            return Err(STATUS_ACCESS_DENIED);
        }
        self.registry.path_of(object).ok_or(STATUS_INVALID_HANDLE)
    }

    /// The keywords of an adapter lie in its key, where its driver may look past NDIS' configuration.
    fn keywords_to_registry(&self, adapter: crate::adapter::AdapterId, path: &str) {
        let found = self.adapters.read().values().find(|core| core.id == adapter).cloned();
        let keywords = found.map(|core| core.keywords.lock().clone()).unwrap_or_default();
        let id = super::ndis_config::instance_id(adapter);
        self.registry.set(path, "NetCfgInstanceId", Value::Text(id));
        for (name, value) in keywords.iter() {
            self.registry.set(path, name, value.clone());
        }
    }

    /// Opens a key that exists.
    fn open_key(&self, path: &str, access: ULONG, kernel: bool) -> Result<usize, NTSTATUS> {
        // GENERIC_READ, GENERIC_WRITE, GENERIC_ALL and MAXIMUM_ALLOWED.
        let access = match access {
            access if access & 0x1200_0000 != 0 => 0xf003f,
            access if access & 0x4000_0000 != 0 => access | 0x2_0006,
            access if access & 0x8000_0000 != 0 => access | 0x2_0019,
            access => access,
        };
        if self.fault(0, 0) {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        let object = self.ob.create(Kind::Key, None).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        self.registry.remember(object, path.to_owned());
        let process = (!kernel).then(|| self.current_process(false));
        self.ob.open(process, object, access).ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }
}

/// The path that OBJECT_ATTRIBUTES name, and whether the handle is to be a kernel handle.
///
/// # Safety
/// The structure is the caller's.
unsafe fn named(call: &Call<'_>, attributes: *const ObjectAttributes) -> Result<(String, bool), NTSTATUS> {
    // SAFETY: as the caller says.
    let attributes = unsafe { &*attributes };
    if attributes.length as usize != size_of::<ObjectAttributes>() {
        call.violate(rules::PARAMETER, format!("Length {} of OBJECT_ATTRIBUTES", attributes.length));
        return Err(STATUS_INVALID_PARAMETER);
    }
    // SAFETY: as the caller says; the name may be missing.
    let name = if attributes.name.is_null() { String::new() } else { unsafe { text(call, attributes.name) } };
    let root = if attributes.root.is_null() {
        String::new()
    } else {
        if name.starts_with('\\') {
            return Err(0xc000_003b_u32.cast_signed());
        }
        format!("{}\\", call.key_of(attributes.root, 0)?)
    };
    let system = call.current_process(false) == SYSTEM;
    let kernel = attributes.attributes & KERNEL_HANDLE != 0;
    if !kernel && !system {
        call.violate(
            rules::OBJECT_HANDLE,
            "the key's handle goes into a user's table: OBJ_KERNEL_HANDLE is not set",
        );
    }
    Ok((format!("{root}{name}"), kernel || system))
}

/// Opens or creates a key; 1 for a new key, 2 for one that was there.
///
/// # Safety
/// The pointers are the caller's.
unsafe fn open(
    call: &Call<'_>,
    handle: *mut HANDLE,
    access: ULONG,
    attributes: *const ObjectAttributes,
    create: bool,
) -> Result<ULONG, NTSTATUS> {
    // SAFETY: as the caller says.
    unsafe {
        handle.write(std::ptr::null_mut());
        let (path, kernel) = named(call, attributes)?;
        let there = call.registry.exists(&path);
        if !there && !create {
            return Err(STATUS_OBJECT_NAME_NOT_FOUND);
        }
        let number = call.open_key(&path, access, kernel)?;
        if !there {
            call.registry.create(&path);
        }
        handle.write(number as HANDLE);
        Ok(if there { 2 } else { 1 })
    }
}

fn status<T>(result: Result<T, NTSTATUS>) -> NTSTATUS {
    result.err().unwrap_or(SUCCESS)
}

exports! { KEYS in "ntoskrnl.exe" {
    PASSIVE_ONLY fn ZwOpenKey(call, handle: *mut HANDLE, access: ULONG, attributes: *const ObjectAttributes) -> NTSTATUS {
        // SAFETY: the caller's pointers.
        Ok(status(unsafe { open(call, handle, access, attributes, false) }))
    }

    PASSIVE_ONLY fn ZwOpenKeyEx(
        call, handle: *mut HANDLE, access: ULONG, attributes: *const ObjectAttributes, _options: ULONG,
    ) -> NTSTATUS {
        // SAFETY: the caller's pointers.
        Ok(status(unsafe { open(call, handle, access, attributes, false) }))
    }

    PASSIVE_ONLY fn ZwCreateKey(
        call, handle: *mut HANDLE, access: ULONG, attributes: *const ObjectAttributes, _title: ULONG,
        _class: *const UNICODE_STRING, _options: ULONG, disposition: *mut ULONG,
    ) -> NTSTATUS {
        // SAFETY: the caller's pointers; the last may be NULL.
        unsafe {
            let made = open(call, handle, access, attributes, true);
            if let (Ok(made), Some(disposition)) = (made, disposition.as_mut()) {
                *disposition = made;
            }
            Ok(status(made))
        }
    }

    PASSIVE_ONLY fn ZwQueryValueKey(
        call, handle: HANDLE, name: *const UNICODE_STRING, class: i32, buffer: *mut u8, length: ULONG, needed: *mut ULONG,
    ) -> NTSTATUS {
        let path = match call.key_of(handle, KEY_QUERY_VALUE) {
            Ok(path) => path,
            Err(status) => return Ok(status),
        };
        // SAFETY: the caller's string.
        let name = unsafe { text(call, name) };
        let Some(value) = call.registry.get(&path, &name) else { return Ok(STATUS_OBJECT_NAME_NOT_FOUND) };
        let Some((all, fixed)) = value_information(class, &name, &value) else { return Ok(STATUS_INVALID_PARAMETER) };
        // SAFETY: the caller's buffer and variable.
        Ok(unsafe { answer(&all, fixed, buffer, length, needed) })
    }

    PASSIVE_ONLY fn ZwEnumerateValueKey(
        call, handle: HANDLE, index: ULONG, class: i32, buffer: *mut u8, length: ULONG, needed: *mut ULONG,
    ) -> NTSTATUS {
        let path = match call.key_of(handle, KEY_QUERY_VALUE) {
            Ok(path) => path,
            Err(status) => return Ok(status),
        };
        let values = call.registry.values(&path);
        let Some((name, value)) = values.get(index as usize) else { return Ok(STATUS_NO_MORE_ENTRIES) };
        let Some((all, fixed)) = value_information(class, name, value) else { return Ok(STATUS_INVALID_PARAMETER) };
        // SAFETY: the caller's buffer and variable.
        Ok(unsafe { answer(&all, fixed, buffer, length, needed) })
    }

    PASSIVE_ONLY fn ZwEnumerateKey(
        call, handle: HANDLE, index: ULONG, class: i32, buffer: *mut u8, length: ULONG, needed: *mut ULONG,
    ) -> NTSTATUS {
        let path = match call.key_of(handle, KEY_ENUMERATE_SUB_KEYS) {
            Ok(path) => path,
            Err(status) => return Ok(status),
        };
        let keys = call.registry.subkeys(&path);
        let Some(name) = keys.get(index as usize) else { return Ok(STATUS_NO_MORE_ENTRIES) };
        let Some((all, fixed)) = key_information(class, name) else { return Ok(STATUS_INVALID_PARAMETER) };
        // SAFETY: the caller's buffer and variable.
        Ok(unsafe { answer(&all, fixed, buffer, length, needed) })
    }

    PASSIVE_ONLY fn ZwQueryKey(
        call, handle: HANDLE, class: i32, buffer: *mut u8, length: ULONG, needed: *mut ULONG,
    ) -> NTSTATUS {
        let path = match call.key_of(handle, KEY_QUERY_VALUE) {
            Ok(path) => path,
            Err(status) => return Ok(status),
        };
        let name = path.rsplit('\\').next().unwrap_or_default();
        let (all, fixed) = match class {
            // KeyFullInformation: counts and the longest of each; KeyNameInformation: the path.
            2 => full_information(call, &path),
            3 => {
                let bytes = utf16(&path);
                ([u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes().to_vec(), bytes].concat(), 4)
            }
            class => match key_information(class, name) {
                Some(found) => found,
                None => return Ok(STATUS_INVALID_PARAMETER),
            },
        };
        // SAFETY: the caller's buffer and variable.
        Ok(unsafe { answer(&all, fixed, buffer, length, needed) })
    }

    PASSIVE_ONLY fn ZwSetValueKey(
        call, handle: HANDLE, name: *const UNICODE_STRING, _title: ULONG, kind: ULONG, data: *const u8, length: ULONG,
    ) -> NTSTATUS {
        let path = match call.key_of(handle, KEY_SET_VALUE) {
            Ok(path) => path,
            Err(status) => return Ok(status),
        };
        if call.fault(length as usize, 0) {
            return Ok(STATUS_INSUFFICIENT_RESOURCES);
        }
        // SAFETY: the caller's string and data; without data there may be no pointer.
        unsafe {
            let bytes = if length == 0 { &[] } else { std::slice::from_raw_parts(data, length as usize) };
            call.registry.set(&path, &text(call, name), value_of(kind, bytes));
        }
        Ok(SUCCESS)
    }

    PASSIVE_ONLY fn ZwDeleteValueKey(call, handle: HANDLE, name: *const UNICODE_STRING) -> NTSTATUS {
        Ok(match call.key_of(handle, KEY_SET_VALUE) {
            // SAFETY: the caller's string.
            Ok(path) if call.registry.remove_value(&path, &unsafe { text(call, name) }) => SUCCESS,
            Ok(_) => STATUS_OBJECT_NAME_NOT_FOUND,
            Err(status) => status,
        })
    }

    PASSIVE_ONLY fn ZwDeleteKey(call, handle: HANDLE) -> NTSTATUS {
        Ok(match call.key_of(handle, DELETE) {
            Ok(path) if call.registry.remove(&path) => SUCCESS,
            Ok(_) => STATUS_CANNOT_DELETE,
            Err(status) => status,
        })
    }

    PASSIVE_ONLY fn ZwFlushKey(call, handle: HANDLE) -> NTSTATUS {
        Ok(status(call.key_of(handle, 0)))
    }

    PASSIVE_ONLY fn IoOpenDriverRegistryKey(
        call, driver: *mut DRIVER_OBJECT, kind: i32, access: ULONG, flags: ULONG, handle: *mut HANDLE,
    ) -> NTSTATUS {
        let Some(core) = call.driver_of_object(driver as usize) else {
            call.violate(rules::PARAMETER, format!("{driver:p} is not the DRIVER_OBJECT that DriverEntry got"));
            return Ok(STATUS_INVALID_PARAMETER);
        };
        // DriverRegKeyParameters, DriverRegKeyPersistentState.
        if !(0..=1).contains(&kind) || flags != 0 {
            return Ok(STATUS_INVALID_PARAMETER_2);
        }
        let folder = if kind == 0 { "Parameters" } else { "PersistentState" };
        let path = format!(r"{SERVICES}\{}\{folder}", core.name);
        call.registry.create(&path);
        // SAFETY: the caller's variable.
        Ok(unsafe { give(call.open_key(&path, access, true), handle) })
    }

    PASSIVE_ONLY fn IoOpenDeviceRegistryKey(
        call, device: *mut DEVICE_OBJECT, kind: ULONG, access: ULONG, handle: *mut HANDLE,
    ) -> NTSTATUS {
        let Some((_, Some(adapter))) = call.device_owner(device as usize) else {
            call.violate(rules::PARAMETER, format!("{device:p} is no device of an adapter"));
            return Ok(STATUS_INVALID_PARAMETER);
        };
        // PLUGPLAY_REGKEY_DEVICE and PLUGPLAY_REGKEY_DRIVER, the key of the class with the keywords.
        let path = match kind & 3 {
            1 => format!(r"\Registry\Machine\System\ControlSet001\Enum\ROOT\NET\{:04}\Device Parameters", adapter.0),
            2 => format!(r"{NETWORK_CLASS}\{:04}", adapter.0),
            _ => return Ok(STATUS_INVALID_PARAMETER),
        };
        call.registry.create(&path);
        if kind & 3 == 2 {
            call.keywords_to_registry(adapter, &path);
        }
        // SAFETY: the caller's variable.
        Ok(unsafe { give(call.open_key(&path, access, true), handle) })
    }
} }

/// Hands a handle out.
///
/// # Safety
/// `handle` is the caller's.
unsafe fn give(opened: Result<usize, NTSTATUS>, handle: *mut HANDLE) -> NTSTATUS {
    // SAFETY: as the caller says.
    unsafe { handle.write(opened.unwrap_or(0) as HANDLE) };
    status(opened)
}

/// KEY_FULL_INFORMATION.
fn full_information(call: &Call<'_>, path: &str) -> (Vec<u8>, usize) {
    let (keys, values) = (call.registry.subkeys(path), call.registry.values(path));
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let numbers = [
        u32::MAX as usize,
        0,
        keys.len(),
        longest(&mut keys.iter().map(|name| utf16(name).len())),
        0,
        values.len(),
        longest(&mut values.iter().map(|(name, _)| utf16(name).len())),
        longest(&mut values.iter().map(|(_, value)| bytes_of(value).1.len())),
    ];
    let words = numbers.iter().flat_map(|number| u32::try_from(*number).unwrap_or(u32::MAX).to_le_bytes());
    // Eight bytes of time first, and an empty class at the end.
    let all: Vec<u8> = std::iter::repeat_n(0, 8).chain(words).chain([0; 4]).collect();
    (all, 44)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types_and_bytes() {
        for value in [
            Value::Text("a b".into()),
            Value::Dword(0x1234_5678),
            Value::Texts(vec!["one".into(), "two".into()]),
            Value::Binary(vec![1, 2, 3, 4, 5]),
        ] {
            let (kind, bytes) = bytes_of(&value);
            assert_eq!(value_of(kind, &bytes), value);
        }
        let (all, fixed) = value_information(2, "x", &Value::Dword(7)).unwrap();
        assert_eq!((fixed, &all[4..]), (12, &[4, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0][..]));
        let (all, _) = value_information(1, "xy", &Value::Dword(7)).unwrap();
        // DataOffset is aligned to 8; the name has 4 bytes from 20 on.
        assert_eq!((all[8], all[16], all.len()), (24, 4, 28));
    }
}
