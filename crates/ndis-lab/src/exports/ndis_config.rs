//! Configuration of ndis.sys: keywords from the adapter's registry key.

use ndis_sys::{
    NDIS_CONFIGURATION_OBJECT, NDIS_CONFIGURATION_PARAMETER, NDIS_CONFIGURATION_PARAMETER_DATA, NDIS_HANDLE,
    NDIS_PARAMETER_TYPE, NDIS_STATUS, NDIS_STATUS_FAILURE, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_RESOURCES,
    NDIS_STATUS_SUCCESS, NDIS_STRING, NdisParameterBinary, NdisParameterHexInteger, NdisParameterInteger,
    NdisParameterMultiString, NdisParameterString, PVOID, UINT,
};

use super::rtl_string::text;
use super::{Call, exports};
use crate::adapter::attributes::CONFIGURATION_OBJECT;
use crate::machine::{HandleKind, Machine, Origin};
use crate::objects::{Configuration, Value};
use crate::packet::Memory;
use crate::rules;

/// `NdisEnvironmentWindowsNt`.
const ENVIRONMENT_NT: u32 = 1;

/// RtlUnicodeStringToInteger: leading blanks and a sign, then digits as far as there are any. It
/// never fails; garbage is 0 and overflow wraps.
pub(crate) fn to_integer(text: &str, base: u32) -> u32 {
    let text = text.trim_start_matches(|c: char| c <= ' ');
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let value = digits
        .chars()
        .map_while(|c| c.to_digit(base))
        .fold(0_u32, |value, digit| value.wrapping_mul(base).wrapping_add(digit));
    if negative { value.wrapping_neg() } else { value }
}

/// The GUID of an adapter's interface, of one family for all of them.
pub(super) fn instance_id(adapter: crate::adapter::AdapterId) -> String {
    format!("{{6C616220-0000-4000-8000-{:012X}}}", adapter.0)
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// A value as a driver is to see it.
enum Made {
    Integer(u32),
    /// Type, UTF-16 text or other bytes in words, and how many bytes count.
    Bytes(NDIS_PARAMETER_TYPE, Vec<u16>, u16),
}

#[allow(non_upper_case_globals)] // NdisParameter… are names of the WDK
/// Makes what the driver sees of a value, or `None` if NDIS does not convert it.
fn convert(value: &Value, asked: NDIS_PARAMETER_TYPE) -> Option<Made> {
    let string = |words: Vec<u16>, kind| {
        let length = u16::try_from(words.len() * 2).ok()?;
        Some(Made::Bytes(kind, words, length))
    };
    match (value, asked) {
        (Value::Dword(number), NdisParameterInteger | NdisParameterHexInteger) => {
            Some(Made::Integer(*number))
        }
        (Value::Text(text), NdisParameterInteger) => Some(Made::Integer(to_integer(text, 10))),
        (Value::Text(text), NdisParameterHexInteger) => Some(Made::Integer(to_integer(text, 16))),
        (Value::Text(text), NdisParameterString) => string(utf16(text), NdisParameterString),
        (Value::Texts(texts), NdisParameterMultiString) => {
            let all = texts.iter().flat_map(|text| utf16(text).into_iter().chain([0])).chain([0]).collect();
            string(all, NdisParameterMultiString)
        }
        (Value::Binary(raw), NdisParameterBinary) => {
            let length = u16::try_from(raw.len()).ok()?;
            let word = |pair: &[u8]| u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            Some(Made::Bytes(NdisParameterBinary, raw.chunks(2).map(word).collect(), length))
        }
        _ => None,
    }
}

/// Puts a value where the driver can read it: the parameter, and behind it what it points to.
fn parameter(machine: &Machine, made: &Made) -> Option<Memory> {
    const FIXED: usize = size_of::<NDIS_CONFIGURATION_PARAMETER>();
    let words = match made {
        Made::Integer(_) => &[][..],
        Made::Bytes(_, words, _) => words,
    };
    let memory = Memory::guarded(machine, FIXED + words.len() * 2, "NDIS_CONFIGURATION_PARAMETER")?;
    let buffer = memory.address() + FIXED;
    let (kind, data) = match *made {
        Made::Integer(number) => {
            (NdisParameterInteger, NDIS_CONFIGURATION_PARAMETER_DATA { IntegerData: number })
        }
        Made::Bytes(kind, _, length) if kind == NdisParameterBinary => {
            let data = ndis_sys::BINARY_DATA { Length: length, Buffer: buffer as PVOID };
            (kind, NDIS_CONFIGURATION_PARAMETER_DATA { BinaryData: data })
        }
        Made::Bytes(kind, _, length) => {
            let data = NDIS_STRING { Length: length, MaximumLength: length, Buffer: buffer as *mut u16 };
            (kind, NDIS_CONFIGURATION_PARAMETER_DATA { StringData: data })
        }
    };
    // SAFETY: the zeroed memory that was just made holds the parameter and the words behind it.
    unsafe {
        let value = NDIS_CONFIGURATION_PARAMETER { ParameterType: kind, ParameterData: data };
        memory.at::<NDIS_CONFIGURATION_PARAMETER>(0).write(value);
        std::ptr::copy_nonoverlapping(words.as_ptr(), buffer as *mut u16, words.len());
    }
    Some(memory)
}

/// The bytes of a NetworkAddress keyword: hexadecimal digits, with hyphens or not.
fn network_address(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap_or(0)).collect())
}

impl Machine {
    fn no_configuration(&self, handle: NDIS_HANDLE) {
        self.violate(rules::CONFIGURATION_CLOSED, format!("{handle:p} is no open configuration"));
    }
}

#[allow(non_upper_case_globals)] // NdisParameter… are names of the WDK
/// The value that a driver writes; `None` for a type that there is not.
///
/// # Safety
/// The structure is the caller's, and what it points to.
unsafe fn written(call: &Call<'_>, value: *const NDIS_CONFIGURATION_PARAMETER) -> Option<Value> {
    // SAFETY: as the caller says: the type selects the member.
    unsafe {
        let NDIS_CONFIGURATION_PARAMETER { ParameterType, ParameterData } = &*value;
        Some(match *ParameterType {
            NdisParameterInteger | NdisParameterHexInteger => Value::Dword(ParameterData.IntegerData),
            NdisParameterString => Value::Text(text(call, &raw const ParameterData.StringData)),
            NdisParameterMultiString => {
                let all = text(call, &raw const ParameterData.StringData);
                Value::Texts(all.trim_end_matches('\0').split('\0').map(str::to_owned).collect())
            }
            NdisParameterBinary => {
                let data = ParameterData.BinaryData;
                let bytes = std::slice::from_raw_parts(data.Buffer.cast::<u8>(), data.Length.into());
                Value::Binary(bytes.to_vec())
            }
            _ => return None,
        })
    }
}

/// Opens a subkey of a configuration: keywords whose names begin with it and a backslash.
fn open_subkey(
    call: &Call<'_>,
    handle: NDIS_HANDLE,
    choose: impl FnOnce(Vec<String>) -> Option<String>,
) -> Option<(usize, String)> {
    let failing = call.fault(0, 0);
    let mut objects = call.objects.lock();
    let Some(configuration) = objects.configurations.get(&(handle as usize)) else {
        drop(objects);
        call.no_configuration(handle);
        return None;
    };
    let mut subkeys: Vec<String> = configuration
        .keywords
        .iter()
        .filter_map(|(name, _)| Some(name.split_once('\\')?.0.to_owned()))
        .collect();
    subkeys.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    let chosen = choose(subkeys).filter(|_| !failing)?;
    let inside = |name: &str| {
        let (key, rest) = name.split_once('\\')?;
        key.eq_ignore_ascii_case(&chosen).then(|| rest.to_owned())
    };
    let keywords = configuration
        .keywords
        .iter()
        .filter_map(|(name, value)| Some((inside(name)?, value.clone())))
        .collect();
    let opened = Configuration {
        adapter: configuration.adapter,
        path: format!("{}{chosen}\\", configuration.path),
        keywords,
        given: Vec::new(),
        origin: Origin::here(),
    };
    let number = call.handle(HandleKind::Configuration);
    objects.configurations.insert(number, opened);
    Some((number, chosen))
}

exports! { TABLE in "ndis.sys" {
    PASSIVE_ONLY fn NdisOpenConfigurationEx(
        call, object: *mut NDIS_CONFIGURATION_OBJECT, handle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        // SAFETY: the caller's structure, as large as its header says; the header comes first.
        let object = unsafe {
            if !call.takes_header((*object).Header, CONFIGURATION_OBJECT) {
                return Ok(NDIS_STATUS_FAILURE);
            }
            // Only what revision 1 has is read: 20 of 24 bytes.
            ((*object).NdisHandle, (*object).Flags)
        };
        if object.1 != 0 {
            call.violate(rules::PARAMETER, format!("Flags {:#x} of NDIS_CONFIGURATION_OBJECT", object.1));
        }
        let Some(adapter) = call.named_adapter(object.0) else { return Ok(NDIS_STATUS_FAILURE) };
        if call.fault(0, 0) {
            return Ok(NDIS_STATUS_RESOURCES);
        }
        let configuration = Configuration {
            adapter: adapter.id,
            path: String::new(),
            keywords: adapter.keywords.lock().clone(),
            given: Vec::new(),
            origin: Origin::here(),
        };
        let number = call.handle(HandleKind::Configuration);
        call.objects.lock().configurations.insert(number, configuration);
        // SAFETY: the caller's variable.
        unsafe { handle.write(number as NDIS_HANDLE) };
        Ok(NDIS_STATUS_SUCCESS)
    }

    PASSIVE_ONLY fn NdisReadConfiguration(
        call, status: *mut NDIS_STATUS, value: *mut *mut NDIS_CONFIGURATION_PARAMETER, handle: NDIS_HANDLE,
        keyword: *mut NDIS_STRING, kind: NDIS_PARAMETER_TYPE,
    ) {
        // SAFETY: the caller's string, of as many bytes as it says.
        let keyword = unsafe { text(call, keyword) };
        let failing = call.fault(0, 0);
        let mut objects = call.objects.lock();
        let Some(configuration) = objects.configurations.get_mut(&(handle as usize)) else {
            drop(objects);
            call.no_configuration(handle);
            // SAFETY: the caller's variable.
            unsafe { status.write(NDIS_STATUS_FAILURE) };
            return Ok(());
        };
        let own = match keyword.as_str() {
            "Environment" => Some(Value::Dword(ENVIRONMENT_NT)),
            "NdisVersion" => Some(Value::Dword(call.options.ndis_version)),
            // What the installation of every adapter leaves in its key; drivers name their devices by it.
            "NetCfgInstanceId" if configuration.keywords.get("NetCfgInstanceId").is_none() => {
                Some(Value::Text(instance_id(configuration.adapter)))
            }
            _ => None,
        };
        let found = own.as_ref().or_else(|| configuration.keywords.get(&keyword));
        let made = found.filter(|_| !failing).and_then(|value| convert(value, kind));
        let result = match made.and_then(|made| parameter(call, &made)) {
            // No memory; what is not there, or of another type, is FAILURE.
            None if failing => NDIS_STATUS_RESOURCES,
            Some(memory) => {
                // SAFETY: the caller's variable; the parameter stays until the configuration closes.
                unsafe { value.write(memory.at(0)) };
                configuration.given.push(memory);
                NDIS_STATUS_SUCCESS
            }
            None => NDIS_STATUS_FAILURE,
        };
        // SAFETY: the caller's variable.
        unsafe { status.write(result) };
        Ok(())
    }

    PASSIVE_ONLY fn NdisReadNetworkAddress(
        call, status: *mut NDIS_STATUS, address: *mut PVOID, length: *mut UINT, handle: NDIS_HANDLE,
    ) {
        let failing = call.fault(0, 0);
        let mut objects = call.objects.lock();
        let Some(configuration) = objects.configurations.get_mut(&(handle as usize)) else {
            drop(objects);
            call.no_configuration(handle);
            // SAFETY: the caller's variable.
            unsafe { status.write(NDIS_STATUS_FAILURE) };
            return Ok(());
        };
        let bytes = match configuration.keywords.get("NetworkAddress") {
            Some(Value::Text(text)) if !failing => network_address(text),
            _ => None,
        };
        let id = configuration.adapter;
        let given = bytes.and_then(|bytes| {
            let memory = Memory::guarded(call, bytes.len(), "network address")?;
            // SAFETY: the memory is as long as the bytes.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.at(0), bytes.len()) };
            Some((memory, bytes.len()))
        });
        let result = match given {
            None if failing => NDIS_STATUS_RESOURCES,
            Some((memory, bytes)) => {
                // SAFETY: the caller's variables; the bytes stay until the configuration closes.
                unsafe {
                    address.write(memory.at(0));
                    length.write(UINT::try_from(bytes).unwrap_or(0));
                }
                configuration.given.push(memory);
                NDIS_STATUS_SUCCESS
            }
            None => NDIS_STATUS_FAILURE,
        };
        drop(objects);
        if let Some(adapter) = call.adapters.read().values().find(|adapter| adapter.id == id) {
            // Relaxed: a flag that is read after initialisation, on the same thread.
            adapter.read_network_address.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        // SAFETY: the caller's variable.
        unsafe { status.write(result) };
        Ok(())
    }

    PASSIVE_ONLY fn NdisWriteConfiguration(
        call, status: *mut NDIS_STATUS, handle: NDIS_HANDLE, keyword: *const NDIS_STRING,
        value: *const NDIS_CONFIGURATION_PARAMETER,
    ) {
        // SAFETY: the caller's string and structure.
        let (keyword, value) = unsafe { (text(call, keyword), written(call, value)) };
        let failing = call.fault(0, 0);
        let mut objects = call.objects.lock();
        let Some(configuration) = objects.configurations.get_mut(&(handle as usize)) else {
            drop(objects);
            call.no_configuration(handle);
            // SAFETY: the caller's variable.
            unsafe { status.write(NDIS_STATUS_FAILURE) };
            return Ok(());
        };
        let result = match value {
            None => NDIS_STATUS_NOT_SUPPORTED,
            Some(_) if failing => NDIS_STATUS_RESOURCES,
            Some(value) => {
                configuration.keywords.set(&keyword, value.clone());
                let (id, path) = (configuration.adapter, format!("{}{keyword}", configuration.path));
                drop(objects);
                let adapter = call.adapters.read().values().find(|adapter| adapter.id == id).cloned();
                if let Some(adapter) = adapter {
                    adapter.keywords.lock().set(&path, value);
                }
                NDIS_STATUS_SUCCESS
            }
        };
        // SAFETY: the caller's variable.
        unsafe { status.write(result) };
        Ok(())
    }

    UP_TO_APC fn NdisOpenConfigurationKeyByName(
        call, status: *mut NDIS_STATUS, handle: NDIS_HANDLE, name: *const NDIS_STRING, subkey: *mut NDIS_HANDLE,
    ) {
        // SAFETY: the caller's string.
        let name = unsafe { text(call, name) };
        let opened = open_subkey(call, handle, |subkeys| subkeys.into_iter().find(|key| key.eq_ignore_ascii_case(&name)));
        // SAFETY: the caller's variables.
        unsafe {
            status.write(if opened.is_some() { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_FAILURE });
            subkey.write(opened.map_or(0, |(number, _)| number) as NDIS_HANDLE);
        }
        Ok(())
    }

    UP_TO_APC fn NdisOpenConfigurationKeyByIndex(
        call, status: *mut NDIS_STATUS, handle: NDIS_HANDLE, index: u32, name: *mut NDIS_STRING, subkey: *mut NDIS_HANDLE,
    ) {
        let opened = open_subkey(call, handle, |subkeys| subkeys.into_iter().nth(index as usize));
        // SAFETY: the caller's variables, and a string with the room that it says.
        unsafe {
            status.write(if opened.is_some() { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_FAILURE });
            subkey.write(opened.as_ref().map_or(0, |(number, _)| *number) as NDIS_HANDLE);
            if let Some((_, found)) = opened {
                let found = utf16(&found);
                let room = usize::from((*name).MaximumLength) / 2;
                let count = found.len().min(room);
                std::ptr::copy_nonoverlapping(found.as_ptr(), (*name).Buffer, count);
                (*name).Length = u16::try_from(count * 2).unwrap_or(0);
            }
        }
        Ok(())
    }

    PASSIVE_ONLY fn NdisCloseConfiguration(call, handle: NDIS_HANDLE) {
        let closed = call.objects.lock().configurations.remove(&(handle as usize));
        match closed {
            Some(configuration) => {
                let gone = Origin::here();
                for memory in &configuration.given {
                    memory.poison_by(rules::CONFIGURATION_KEPT, Some(gone));
                }
                call.retire_given(rules::CONFIGURATION_KEPT, configuration.given);
            }
            None => call.no_configuration(handle),
        }
        Ok(())
    }
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_numbers_as_the_runtime_library_does_it() {
        for (text, base, value) in [
            ("1514", 10, 1514),
            ("  42x", 10, 42),
            ("-1", 10, u32::MAX),
            ("+7", 10, 7),
            ("", 10, 0),
            ("garbage", 10, 0),
            ("1F", 16, 0x1f),
            ("0x1F", 16, 0),
            ("4294967296", 10, 0),
        ] {
            assert_eq!(to_integer(text, base), value, "{text:?}");
        }
    }

    #[test]
    fn network_addresses_may_have_hyphens() {
        assert_eq!(network_address("02-00-5E-00-00-01"), Some(vec![2, 0, 0x5e, 0, 0, 1]));
        assert_eq!(network_address("02005E000001"), Some(vec![2, 0, 0x5e, 0, 0, 1]));
        for bad in ["", "0", "02:00", "zz", "-"] {
            assert_eq!(network_address(bad), None, "{bad:?}");
        }
    }
}
