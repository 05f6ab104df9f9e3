//! Keywords in the registry (`[nf-ndis-ndisreadconfiguration]`).
//!
//! On Windows the class installer of network adapters writes the defaults under `Ndi\params` into the adapter's key when
//! the device is installed. Wine has none, so a keyword that is not there has its default.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;

use ndis_sys::{
    NDIS_CONFIGURATION_OBJECT, NDIS_CONFIGURATION_PARAMETER, NDIS_HANDLE, NDIS_PARAMETER_TYPE, NDIS_STATUS,
    NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, NDIS_STRING, NdisParameterInteger,
};
use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::System::Registry::{KeyValuePartialInformation, ZwOpenKey, ZwQueryValueKey};
use windows_sys::Wdk::System::SystemServices::KEY_VALUE_PARTIAL_INFORMATION;
use windows_sys::Wdk::System::SystemServices::ZwClose;
use windows_sys::Wdk::System::SystemServices::{IoOpenDeviceRegistryKey, PLUGPLAY_REGKEY_DRIVER};
use windows_sys::Win32::Foundation::{HANDLE, UNICODE_STRING};

use crate::adapter::Adapter;
use crate::memory;
use crate::report;

const KEY_READ: u32 = 0x2_0019;
const REG_SZ: u32 = 1;
/// Parameters that one configuration can be asked for.
const MOST: usize = 16;
/// Longest name of a key or keyword, and longest value, in characters.
const LONGEST: usize = 128;

/// An open configuration; zeroed when new.
struct Configuration {
    key: HANDLE,
    used: Cell<usize>,
    /// What was read, valid until the configuration is closed.
    parameters: [Cell<NDIS_CONFIGURATION_PARAMETER>; MOST],
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisOpenConfigurationEx(
    object: *mut NDIS_CONFIGURATION_OBJECT,
    handle: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    // SAFETY: the driver's structure; its handle is the one of an adapter of ours.
    let (header, adapter) = unsafe { ((*object).Header, &*(*object).NdisHandle.cast::<Adapter>()) };
    let mut key = ptr::null_mut();
    // SAFETY: the device below the adapter is live.
    let status =
        unsafe { IoOpenDeviceRegistryKey(adapter.below, PLUGPLAY_REGKEY_DRIVER, KEY_READ, &raw mut key) };
    report::line(format_args!(
        "open-configuration type={:#x} revision={} size={} status={status:#010x}",
        header.Type, header.Revision, header.Size
    ));
    if status != 0 {
        return NDIS_STATUS_FAILURE;
    }
    let configuration = memory::allocate(size_of::<Configuration>()).cast::<Configuration>();
    if configuration.is_null() {
        return NDIS_STATUS_RESOURCES;
    }
    // SAFETY: new; zeroes are a configuration, and the handle's place is the driver's.
    unsafe {
        (*configuration).key = key;
        *handle = configuration.cast();
    }
    NDIS_STATUS_SUCCESS
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisReadConfiguration(
    status: *mut NDIS_STATUS,
    parameter: *mut *mut NDIS_CONFIGURATION_PARAMETER,
    handle: NDIS_HANDLE,
    keyword: *mut NDIS_STRING,
    kind: NDIS_PARAMETER_TYPE,
) {
    // SAFETY: an open configuration; the keyword is `Length` bytes of text.
    let (configuration, keyword) = unsafe { (&*handle.cast::<Configuration>(), text(&*keyword)) };
    let mut shown = [0; LONGEST];
    let name = utf8(keyword, &mut shown);
    let installed = integer(configuration.key, keyword);
    let found = installed.or_else(|| default(configuration.key, keyword));
    let from = match (installed, found) {
        (Some(_), _) => "installed",
        (None, Some(_)) => "default",
        (None, None) => "nowhere",
    };
    report::line(format_args!("keyword name={name} value={} from={from}", found.unwrap_or(0)));
    let slot = configuration.parameters.get(configuration.used.get());
    // SAFETY: status and parameter are the driver's places.
    unsafe {
        *status = NDIS_STATUS_FAILURE;
        if let (Some(value), Some(slot), NdisParameterInteger) = (found, slot, kind) {
            configuration.used.set(configuration.used.get() + 1);
            let mut read = NDIS_CONFIGURATION_PARAMETER::zeroed();
            read.ParameterType = kind;
            read.ParameterData.IntegerData = value;
            slot.set(read);
            *parameter = slot.as_ptr();
            *status = NDIS_STATUS_SUCCESS;
        }
    }
}

/// No test sets an address.
///
/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisReadNetworkAddress(
    status: *mut NDIS_STATUS,
    _: *mut *mut c_void,
    _: *mut u32,
    _: NDIS_HANDLE,
) {
    // SAFETY: the driver's place.
    unsafe { *status = NDIS_STATUS_FAILURE };
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisCloseConfiguration(handle: NDIS_HANDLE) {
    report::line(format_args!("close-configuration"));
    // SAFETY: an open configuration, closed once.
    unsafe {
        ZwClose((*handle.cast::<Configuration>()).key);
        memory::free(handle);
    }
}

/// `Default` of the keyword's description, under `Ndi\params`.
fn default(key: HANDLE, keyword: &[u16]) -> Option<u32> {
    let mut path = [0_u16; LONGEST];
    let mut length = 0;
    for (slot, &unit) in path.iter_mut().zip(ascii(b"Ndi\\params\\").iter().chain(keyword)) {
        *slot = unit;
        length += 1;
    }
    let path = string(&path[..length]);
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: key,
        ObjectName: &raw const path,
        ..Default::default()
    };
    let mut params = ptr::null_mut();
    // SAFETY: the attributes name a key below an open one; the new handle is closed once.
    unsafe {
        if ZwOpenKey(&raw mut params, KEY_READ, &raw const attributes) != 0 {
            return None;
        }
        let value = integer(params, &ascii(b"Default"));
        ZwClose(params);
        value
    }
}

/// The number in decimal under a name.
fn integer(key: HANDLE, name: &[u16]) -> Option<u32> {
    #[repr(C, align(4))]
    struct Value([u8; size_of::<KEY_VALUE_PARTIAL_INFORMATION>() + 2 * LONGEST]);
    let mut value = Value([0; _]);
    let name = string(name);
    let mut length = 0;
    // SAFETY: the key is open, and the value's size is given.
    let status = unsafe {
        ZwQueryValueKey(
            key,
            &raw const name,
            KeyValuePartialInformation,
            value.0.as_mut_ptr().cast(),
            size_of::<Value>() as u32,
            &raw mut length,
        )
    };
    // SAFETY: aligned, and all zero is a value of it too.
    let header = unsafe { &*(&raw const value).cast::<KEY_VALUE_PARTIAL_INFORMATION>() };
    if status != 0 || header.Type != REG_SZ {
        return None;
    }
    let start = core::mem::offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
    let data = value.0.get(start..start + header.DataLength as usize)?;
    let units = data.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let mut digits = units.take_while(|&unit| unit != 0).peekable();
    digits.peek()?;
    digits.try_fold(0_u32, |number, unit| {
        let digit = char::from_u32(unit.into())?.to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// # Safety
/// The string is what it says.
unsafe fn text(string: &NDIS_STRING) -> &[u16] {
    // SAFETY: as the caller promises.
    unsafe { core::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) }
}

fn string(text: &[u16]) -> UNICODE_STRING {
    let bytes = u16::try_from(size_of_val(text)).unwrap_or(0);
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: text.as_ptr().cast_mut() }
}

fn ascii<const N: usize>(text: &[u8; N]) -> [u16; N] {
    text.map(u16::from)
}

fn utf8<'a>(text: &[u16], to: &'a mut [u8; LONGEST]) -> &'a str {
    let length = text.len().min(LONGEST);
    for (slot, &unit) in to.iter_mut().zip(text) {
        *slot = u8::try_from(unit).ok().filter(u8::is_ascii_graphic).unwrap_or(b'?');
    }
    core::str::from_utf8(&to[..length]).unwrap_or("?")
}
