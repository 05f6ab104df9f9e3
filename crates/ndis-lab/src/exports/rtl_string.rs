//! Counted strings of ntoskrnl.exe: copies, comparisons, conversions, numbers, GUIDs.
//!
//! ANSI is Latin-1 here: drivers of all countries agree on its first half. Case is that of Unicode's simple
//! mappings, as the kernel's table has it.

use ndis_sys::{BOOLEAN, GUID, NTSTATUS, ULONG, UNICODE_STRING, WCHAR};

use super::format::characters;
use super::{Call, exports, leaves};
use crate::machine::pool::PoolKind;
use crate::rules;

const SUCCESS: NTSTATUS = 0;
const STATUS_BUFFER_TOO_SMALL: NTSTATUS = 0xc000_0023_u32.cast_signed();
const STATUS_BUFFER_OVERFLOW: NTSTATUS = 0x8000_0005_u32.cast_signed();
const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const STATUS_INVALID_PARAMETER_2: NTSTATUS = 0xc000_00f0_u32.cast_signed();
const STATUS_NO_MEMORY: NTSTATUS = 0xc000_0017_u32.cast_signed();
const STATUS_NAME_TOO_LONG: NTSTATUS = 0xc000_0106_u32.cast_signed();
const STATUS_SOME_NOT_MAPPED: NTSTATUS = 0x107;
/// The tag of strings that the runtime library allocates.
const TAG: u32 = u32::from_le_bytes(*b"Strg");
/// Bytes that a UNICODE_STRING can count.
const MOST: usize = 0xfffe;

/// `ANSI_STRING`, and with `u16` the layout of `UNICODE_STRING`.
#[repr(C)]
pub(crate) struct Counted<T> {
    length: u16,
    maximum: u16,
    buffer: *mut T,
}
const _: () = assert!(size_of::<Counted<u8>>() == size_of::<UNICODE_STRING>());

pub(super) fn upcase(unit: WCHAR) -> WCHAR {
    single(unit, |one| one.to_uppercase().collect())
}

pub(super) fn downcase(unit: WCHAR) -> WCHAR {
    single(unit, |one| one.to_lowercase().collect())
}

/// A mapping of one character to one, if there is such.
fn single(unit: WCHAR, map: impl Fn(char) -> String) -> WCHAR {
    let Some(one) = char::from_u32(unit.into()) else { return unit };
    let mapped: Vec<u16> = map(one).encode_utf16().collect();
    if let [mapped] = mapped[..] { mapped } else { unit }
}

/// What a counted string holds; one that contradicts itself is reported, and holds nothing.
///
/// # Safety
/// `string` is a counted string of as many bytes as it says.
pub(super) unsafe fn contents<'a, T>(call: &Call<'_>, string: *const Counted<T>) -> &'a [T] {
    // SAFETY: as the caller says.
    let (length, maximum, buffer) = unsafe { ((*string).length, (*string).maximum, (*string).buffer) };
    let odd = usize::from(length) % size_of::<T>() != 0;
    if odd || length > maximum || (buffer.is_null() && length > 0) {
        call.violate(
            rules::STRING_USE,
            format!("Length {length}, MaximumLength {maximum}, Buffer {buffer:p}"),
        );
        return &[];
    }
    if length == 0 {
        return &[];
    }
    // SAFETY: as the caller says; not null, and whole characters.
    unsafe { std::slice::from_raw_parts(buffer, usize::from(length) / size_of::<T>()) }
}

/// A UNICODE_STRING as text.
///
/// # Safety
/// As [`contents`].
pub(crate) unsafe fn text(call: &Call<'_>, string: *const UNICODE_STRING) -> String {
    // SAFETY: as the caller says.
    String::from_utf16_lossy(unsafe { contents::<u16>(call, string.cast()) })
}

/// Fills a counted string that has room for some; says how many characters did not fit.
///
/// # Safety
/// `string` has the room that it says.
unsafe fn fill<T: Copy + Default>(string: *mut Counted<T>, from: usize, all: &[T]) -> usize {
    // SAFETY: as the caller says.
    unsafe {
        let room = usize::from((*string).maximum) / size_of::<T>();
        let count = all.len().min(room.saturating_sub(from));
        if count > 0 {
            std::ptr::copy(all.as_ptr(), (*string).buffer.add(from), count);
        }
        let length = (from + count) * size_of::<T>();
        (*string).length = u16::try_from(length).unwrap_or(0);
        if from + count < room {
            (*string).buffer.add(from + count).write(T::default());
        }
        all.len() - count
    }
}

/// Puts characters into a string that the caller made, or that is allocated for it.
///
/// # Safety
/// `to` is a counted string; unless `allocate`, with the room that it says.
unsafe fn give<T: Copy + Default>(
    call: &Call<'_>,
    to: *mut Counted<T>,
    all: &[T],
    allocate: bool,
    too_small: NTSTATUS,
) -> NTSTATUS {
    let bytes = size_of_val(all);
    if bytes + size_of::<T>() > MOST {
        return STATUS_INVALID_PARAMETER_2;
    }
    // SAFETY: as the caller says.
    unsafe {
        if allocate {
            let block = call.allocate(bytes + size_of::<T>(), TAG, PoolKind::Paged, true);
            if block.is_null() {
                return STATUS_NO_MEMORY;
            }
            let maximum = u16::try_from(bytes + size_of::<T>()).unwrap_or(0);
            to.write(Counted { length: 0, maximum, buffer: block.cast() });
        } else if usize::from((*to).maximum) < bytes {
            return too_small;
        }
        fill(to, 0, all);
    }
    SUCCESS
}

/// Latin-1 of wide characters.
fn narrow(all: &[u16]) -> Vec<u8> {
    all.iter().map(|unit| u8::try_from(*unit).unwrap_or(b'?')).collect()
}

fn widen(all: &[u8]) -> Vec<u16> {
    all.iter().map(|byte| u16::from(*byte)).collect()
}

fn compare<T: Copy + Into<u16>>(a: &[T], b: &[T], fold: bool) -> i32 {
    let key = |unit: &T| if fold { upcase((*unit).into()) } else { (*unit).into() };
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (i32::from(key(a)), i32::from(key(b)));
        if a != b {
            return a - b;
        }
    }
    i32::try_from(a.len()).unwrap_or(0) - i32::try_from(b.len()).unwrap_or(0)
}

/// Digits of a number in base 2, 8, 10 (or 0) or 16, in capitals.
fn in_base(value: u64, base: ULONG) -> Option<Vec<u16>> {
    let text = match base {
        0 | 10 => value.to_string(),
        2 => format!("{value:b}"),
        8 => format!("{value:o}"),
        16 => format!("{value:X}"),
        _ => return None,
    };
    Some(text.encode_utf16().collect())
}

/// A number as text has it, with the prefixes 0x, 0o and 0b where no base is given.
fn parse_number(text: &str, base: ULONG) -> Option<u32> {
    let text = text.trim_start_matches(|c: char| c <= ' ');
    let (negative, text) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, text) = match (base, text.get(..2)) {
        (0, Some("0x")) => (16, &text[2..]),
        (0, Some("0o")) => (8, &text[2..]),
        (0, Some("0b")) => (2, &text[2..]),
        (0, _) => (10, text),
        (2 | 8 | 10 | 16, _) => (base, text),
        _ => return None,
    };
    let value = super::ndis_config::to_integer(text.trim_start_matches(['+', '-']), base);
    Some(if negative { value.wrapping_neg() } else { value })
}

/// `{8-4-4-4-12}` of a GUID.
fn guid_text(guid: &GUID) -> String {
    let d = guid.Data4;
    format!(
        "{{{:08X}-{:04X}-{:04X}-{:02X}{:02X}-{:02X}{:02X}{:02X}{:02X}{:02X}{:02X}}}",
        guid.Data1, guid.Data2, guid.Data3, d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]
    )
}

fn guid_of(text: &str) -> Option<GUID> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let parts: Vec<&str> = inner.split('-').collect();
    if parts.iter().map(|part| part.len()).ne([8, 4, 4, 4, 12]) || !inner.is_ascii() {
        return None;
    }
    let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
    let (high, low) = (number(parts[3])?, number(parts[4])?);
    let bytes = (high << 48 | low).to_be_bytes();
    Some(GUID {
        Data1: u32::try_from(number(parts[0])?).ok()?,
        Data2: u16::try_from(number(parts[1])?).ok()?,
        Data3: u16::try_from(number(parts[2])?).ok()?,
        Data4: bytes,
    })
}

leaves! { TABLE in "ntoskrnl.exe" {
    ANY fn RtlInitUnicodeString(_, destination: *mut UNICODE_STRING, source: *const WCHAR) {
        // SAFETY: the caller's structure, and NULL or a string that ends with a zero.
        unsafe { initialize(destination.cast(), source) }
    }

    ANY fn RtlInitUnicodeStringEx(_, destination: *mut UNICODE_STRING, source: *const WCHAR) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            if !source.is_null() && characters(source, MOST).len() * 2 + 2 > MOST {
                destination.write(UNICODE_STRING { Length: 0, MaximumLength: 0, Buffer: std::ptr::null_mut() });
                return STATUS_NAME_TOO_LONG;
            }
            initialize::<u16>(destination.cast(), source);
        }
        SUCCESS
    }

    ANY fn RtlInitAnsiString(_, destination: *mut Counted<u8>, source: *const u8) {
        // SAFETY: the caller's structure, and NULL or a string that ends with a zero.
        unsafe { initialize(destination, source) }
    }

    ANY fn RtlInitString(_, destination: *mut Counted<u8>, source: *const u8) {
        // SAFETY: as above.
        unsafe { initialize(destination, source) }
    }

    ANY fn RtlCopyUnicodeString(call, to: *mut Counted<u16>, from: *const Counted<u16>) {
        // SAFETY: the caller's strings; the source may be NULL.
        unsafe { copy(call, to, from) }
    }

    ANY fn RtlCopyString(call, to: *mut Counted<u8>, from: *const Counted<u8>) {
        // SAFETY: as above.
        unsafe { copy(call, to, from) }
    }

    ANY fn RtlAppendUnicodeToString(call, to: *mut Counted<u16>, from: *const WCHAR) -> NTSTATUS {
        // SAFETY: the caller's string, and NULL or a string that ends with a zero.
        unsafe {
            let added = if from.is_null() { Vec::new() } else { characters(from, MOST) };
            append(call, to, &added)
        }
    }

    ANY fn RtlAppendUnicodeStringToString(call, to: *mut Counted<u16>, from: *const Counted<u16>) -> NTSTATUS {
        // SAFETY: the caller's strings.
        unsafe { append(call, to, contents(call, from)) }
    }

    PASSIVE_ONLY fn RtlCompareUnicodeString(call, a: *const Counted<u16>, b: *const Counted<u16>, fold: BOOLEAN) -> i32 {
        // SAFETY: the caller's strings.
        unsafe { compare(contents(call, a), contents(call, b), fold != 0) }
    }

    PASSIVE_ONLY fn RtlEqualUnicodeString(call, a: *const Counted<u16>, b: *const Counted<u16>, fold: BOOLEAN) -> BOOLEAN {
        // SAFETY: the caller's strings.
        unsafe { u8::from(compare(contents(call, a), contents(call, b), fold != 0) == 0) }
    }

    PASSIVE_ONLY fn RtlPrefixUnicodeString(call, a: *const Counted<u16>, b: *const Counted<u16>, fold: BOOLEAN) -> BOOLEAN {
        // SAFETY: the caller's strings.
        let (a, b) = unsafe { (contents(call, a), contents(call, b)) };
        u8::from(b.get(..a.len()).is_some_and(|start| compare(a, start, fold != 0) == 0))
    }

    PASSIVE_ONLY fn RtlCompareString(call, a: *const Counted<u8>, b: *const Counted<u8>, fold: BOOLEAN) -> i32 {
        // SAFETY: the caller's strings.
        unsafe { compare(contents(call, a), contents(call, b), fold != 0) }
    }

    PASSIVE_ONLY fn RtlEqualString(call, a: *const Counted<u8>, b: *const Counted<u8>, fold: BOOLEAN) -> BOOLEAN {
        // SAFETY: the caller's strings.
        unsafe { u8::from(compare(contents(call, a), contents(call, b), fold != 0) == 0) }
    }

    UP_TO_APC fn RtlUpcaseUnicodeChar(_, unit: WCHAR) -> WCHAR {
        upcase(unit)
    }

    PASSIVE_ONLY fn RtlDowncaseUnicodeChar(_, unit: WCHAR) -> WCHAR {
        downcase(unit)
    }

    UP_TO_APC fn RtlUpperChar(_, one: u8) -> u8 {
        u8::try_from(upcase(one.into())).unwrap_or(one)
    }

    UP_TO_APC fn RtlUpperString(call, to: *mut Counted<u8>, from: *const Counted<u8>) {
        // SAFETY: the caller's strings.
        unsafe {
            let upper: Vec<u8> =
                contents(call, from).iter().map(|one| u8::try_from(upcase((*one).into())).unwrap_or(*one)).collect();
            fill(to, 0, &upper);
        }
    }

    UP_TO_APC fn RtlHashUnicodeString(
        call, string: *const Counted<u16>, fold: BOOLEAN, algorithm: ULONG, value: *mut ULONG,
    ) -> NTSTATUS {
        // HASH_STRING_ALGORITHM_DEFAULT and HASH_STRING_ALGORITHM_X65599.
        if algorithm > 1 || value.is_null() {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's string and variable.
        unsafe {
            let units = contents(call, string).iter();
            let hash = units.fold(0_u32, |hash, unit| {
                let unit = if fold == 0 { *unit } else { upcase(*unit) };
                hash.wrapping_mul(65599).wrapping_add(unit.into())
            });
            value.write(hash);
        }
        SUCCESS
    }

    PASSIVE_ONLY fn RtlIntegerToUnicodeString(call, value: ULONG, base: ULONG, string: *mut Counted<u16>) -> NTSTATUS {
        let Some(digits) = in_base(value.into(), base) else { return STATUS_INVALID_PARAMETER };
        // SAFETY: the caller's string.
        unsafe { give(call, string, &digits, false, STATUS_BUFFER_OVERFLOW) }
    }

    PASSIVE_ONLY fn RtlInt64ToUnicodeString(call, value: u64, base: ULONG, string: *mut Counted<u16>) -> NTSTATUS {
        let Some(digits) = in_base(value, base) else { return STATUS_INVALID_PARAMETER };
        // SAFETY: the caller's string.
        unsafe { give(call, string, &digits, false, STATUS_BUFFER_OVERFLOW) }
    }

    PASSIVE_ONLY fn RtlUnicodeStringToInteger(call, string: *const UNICODE_STRING, base: ULONG, value: *mut ULONG) -> NTSTATUS {
        // SAFETY: the caller's string and variable.
        unsafe {
            let Some(number) = parse_number(&text(call, string), base) else { return STATUS_INVALID_PARAMETER };
            value.write(number);
        }
        SUCCESS
    }

    PASSIVE_ONLY fn RtlCharToInteger(_, string: *const u8, base: ULONG, value: *mut ULONG) -> NTSTATUS {
        // SAFETY: the caller's string, which ends with a zero, and variable.
        unsafe {
            let text = String::from_utf16_lossy(&characters(string, MOST));
            let Some(number) = parse_number(&text, base) else { return STATUS_INVALID_PARAMETER };
            value.write(number);
        }
        SUCCESS
    }

    PASSIVE_ONLY fn RtlGUIDFromString(call, string: *const UNICODE_STRING, guid: *mut GUID) -> NTSTATUS {
        // SAFETY: the caller's string and structure.
        unsafe {
            let Some(found) = guid_of(&text(call, string)) else { return STATUS_INVALID_PARAMETER };
            guid.write(found);
        }
        SUCCESS
    }

    PASSIVE_ONLY fn RtlxAnsiStringToUnicodeSize(call, string: *const Counted<u8>) -> ULONG {
        // SAFETY: the caller's string.
        unsafe { u32::try_from(contents(call, string).len() * 2 + 2).unwrap_or(0) }
    }

    PASSIVE_ONLY fn RtlxUnicodeStringToAnsiSize(call, string: *const Counted<u16>) -> ULONG {
        // SAFETY: the caller's string.
        unsafe { u32::try_from(contents(call, string).len() + 1).unwrap_or(0) }
    }

    UP_TO_APC fn RtlUnicodeToMultiByteN(_, to: *mut u8, room: ULONG, count: *mut ULONG, from: *const u16, bytes: ULONG) -> NTSTATUS {
        // SAFETY: the caller's buffers; the count may be NULL.
        unsafe {
            let all = narrow(std::slice::from_raw_parts(from, bytes as usize / 2));
            put(to, room as usize, count, &all);
        }
        SUCCESS
    }

    UP_TO_APC fn RtlMultiByteToUnicodeN(_, to: *mut u16, room: ULONG, count: *mut ULONG, from: *const u8, bytes: ULONG) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            let all = widen(std::slice::from_raw_parts(from, bytes as usize));
            put(to, room as usize, count, &all);
        }
        SUCCESS
    }

    PASSIVE_ONLY fn RtlUTF8ToUnicodeN(_, to: *mut u16, room: ULONG, count: *mut ULONG, from: *const u8, bytes: ULONG) -> NTSTATUS {
        // SAFETY: as above; without a destination only the size is wanted.
        unsafe {
            let text = String::from_utf8_lossy(std::slice::from_raw_parts(from, bytes as usize));
            let all: Vec<u16> = text.encode_utf16().collect();
            utf(put(to, room as usize, count, &all), text.contains('\u{fffd}'))
        }
    }

    PASSIVE_ONLY fn RtlUnicodeToUTF8N(_, to: *mut u8, room: ULONG, count: *mut ULONG, from: *const u16, bytes: ULONG) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            let text = String::from_utf16_lossy(std::slice::from_raw_parts(from, bytes as usize / 2));
            utf(put(to, room as usize, count, text.as_bytes()), text.contains('\u{fffd}'))
        }
    }
} }

exports! { ALLOCATING in "ntoskrnl.exe" {
    PASSIVE_ONLY fn RtlUnicodeStringToAnsiString(
        call, to: *mut Counted<u8>, from: *const Counted<u16>, allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's strings.
        Ok(unsafe { give(call, to, &narrow(contents(call, from)), allocate != 0, STATUS_BUFFER_OVERFLOW) })
    }

    PASSIVE_ONLY fn RtlAnsiStringToUnicodeString(
        call, to: *mut Counted<u16>, from: *const Counted<u8>, allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's strings.
        Ok(unsafe { give(call, to, &widen(contents(call, from)), allocate != 0, STATUS_BUFFER_OVERFLOW) })
    }

    UP_TO_APC fn RtlUpcaseUnicodeString(
        call, to: *mut Counted<u16>, from: *const Counted<u16>, allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's strings.
        unsafe {
            let upper: Vec<u16> = contents(call, from).iter().map(|unit| upcase(*unit)).collect();
            Ok(give(call, to, &upper, allocate != 0, STATUS_BUFFER_OVERFLOW))
        }
    }

    UP_TO_APC fn RtlDowncaseUnicodeString(
        call, to: *mut Counted<u16>, from: *const Counted<u16>, allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's strings.
        unsafe {
            let lower: Vec<u16> = contents(call, from).iter().map(|unit| downcase(*unit)).collect();
            Ok(give(call, to, &lower, allocate != 0, STATUS_BUFFER_OVERFLOW))
        }
    }

    PASSIVE_ONLY fn RtlStringFromGUID(call, guid: *const GUID, to: *mut Counted<u16>) -> NTSTATUS {
        // SAFETY: the caller's structures; the string is allocated for it.
        unsafe {
            let all: Vec<u16> = guid_text(&*guid).encode_utf16().collect();
            Ok(give(call, to, &all, true, STATUS_BUFFER_TOO_SMALL))
        }
    }

    UP_TO_APC fn RtlFreeUnicodeString(call, string: *mut Counted<u16>) {
        // SAFETY: the caller's string.
        unsafe { release(call, string) }
    }

    UP_TO_APC fn RtlFreeAnsiString(call, string: *mut Counted<u8>) {
        // SAFETY: the caller's string.
        unsafe { release(call, string) }
    }
} }

/// Frees what the runtime library allocated.
///
/// # Safety
/// `string` is the caller's.
unsafe fn release<T>(call: &Call<'_>, string: *mut Counted<T>) -> Result<(), crate::machine::Stopped> {
    // SAFETY: as the caller says.
    let old = unsafe { string.replace(Counted { length: 0, maximum: 0, buffer: std::ptr::null_mut() }) };
    if old.buffer.is_null() { Ok(()) } else { call.free(old.buffer as usize, None) }
}

/// # Safety
/// `to` is the caller's; `from` NULL or a string that ends with a zero.
unsafe fn initialize<T: Copy + Into<u16>>(to: *mut Counted<T>, from: *const T) {
    // SAFETY: as the caller says. A counted string cannot hold more than 65,532 bytes and the zero.
    unsafe {
        let length = if from.is_null() { 0 } else { characters(from, MOST / size_of::<T>() - 1).len() };
        let bytes = u16::try_from(length * size_of::<T>()).unwrap_or(0);
        let end = if from.is_null() { 0 } else { u16::try_from(size_of::<T>()).unwrap_or(0) };
        to.write(Counted { length: bytes, maximum: bytes + end, buffer: from.cast_mut() });
    }
}

/// # Safety
/// As [`contents`]; `from` may be NULL.
unsafe fn copy<T: Copy + Default>(call: &Call<'_>, to: *mut Counted<T>, from: *const Counted<T>) {
    // SAFETY: as the caller says.
    unsafe {
        if from.is_null() {
            (*to).length = 0;
        } else {
            fill(to, 0, contents(call, from));
        }
    }
}

/// # Safety
/// As [`contents`].
unsafe fn append(call: &Call<'_>, to: *mut Counted<u16>, added: &[u16]) -> NTSTATUS {
    // SAFETY: as the caller says.
    unsafe {
        let old = contents(call, to).len();
        if (old + added.len()) * 2 > usize::from((*to).maximum) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        fill(to, old, added);
    }
    SUCCESS
}

/// Writes as many characters as fit into `room` bytes; says whether all did. Without a buffer, only counts.
///
/// # Safety
/// The buffer has that room; `count` may be NULL.
unsafe fn put<T: Copy>(to: *mut T, room: usize, count: *mut ULONG, all: &[T]) -> bool {
    let fits = if to.is_null() { all.len() } else { all.len().min(room / size_of::<T>()) };
    // SAFETY: as the caller says.
    unsafe {
        if !to.is_null() {
            std::ptr::copy(all.as_ptr(), to, fits);
        }
        if let Some(count) = count.as_mut() {
            *count = u32::try_from(fits * size_of::<T>()).unwrap_or(u32::MAX);
        }
    }
    fits == all.len()
}

fn utf(whole: bool, damaged: bool) -> NTSTATUS {
    match (whole, damaged) {
        (false, _) => STATUS_BUFFER_TOO_SMALL,
        (true, true) => STATUS_SOME_NOT_MAPPED,
        (true, false) => SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_and_numbers_are_read_and_written() {
        let text = "{4D36E972-E325-11CE-BFC1-08002BE10318}";
        let guid = guid_of(text).unwrap();
        assert_eq!((guid.Data1, guid.Data2, guid.Data4[0], guid.Data4[7]), (0x4d36_e972, 0xe325, 0xbf, 0x18));
        assert_eq!(guid_text(&guid), text);
        for bad in ["", "{}", "4D36E972-E325-11CE-BFC1-08002BE10318", "{4D36E972-E325-11CE-BFC1-08002BE1031}"]
        {
            assert!(guid_of(bad).is_none(), "{bad}");
        }
        for (text, base, value) in [
            ("42", 0, Some(42)),
            ("0x1f", 0, Some(31)),
            ("0b11", 0, Some(3)),
            ("-1", 10, Some(u32::MAX)),
            ("17", 8, Some(15)),
            ("ff", 16, Some(255)),
            ("1", 7, None),
        ] {
            assert_eq!(parse_number(text, base), value, "{text} in base {base}");
        }
        assert_eq!(in_base(255, 16).unwrap(), [u16::from(b'F'); 2]);
    }

    #[test]
    fn case_is_unicodes() {
        assert_eq!(upcase(u16::from(b'a')), u16::from(b'A'));
        assert_eq!(upcase(0xe4), 0xc4);
        // A sharp s has no single capital.
        assert_eq!(upcase(0xdf), 0xdf);
        assert_eq!(downcase(0x0416), 0x0436);
    }
}
