//! The runtime functions that compilers and their headers call: `memcpy` and its kin, strings, `_snprintf`
//! and the stack probe.
//!
//! They are no symbols, since the host's C library has those names, and they have no shell: they
//! run at any IRQL, own nothing, and a bad pointer traps in them as in the driver.

use std::arch::naked_asm;

use super::format::{characters, format};
use super::{Export, variadic};
use crate::machine::copy::{compare_memory, fill_memory, memcmp, memcpy, memset, zero_memory};

const MODULE: &str = "ntoskrnl.exe";

macro_rules! rows {
    ($($name:literal => $function:expr;)*) => {
        &[$(Export { module: MODULE, name: $name, irql: super::ANY, address: || $function as *const () as usize }),*]
    };
}

pub(super) const TABLE: &[Export] = rows! {
    "memcpy" => memcpy;
    "memmove" => memcpy;
    "memset" => memset;
    "memcmp" => memcmp;
    "__chkstk" => chkstk;
    "RtlCopyMemory" => memcpy;
    "RtlCopyMemoryNonTemporal" => memcpy;
    "RtlMoveMemory" => memcpy;
    "RtlZeroMemory" => zero_memory;
    "RtlFillMemory" => fill_memory;
    "RtlCompareMemory" => compare_memory;
    "memchr" => memchr;
    "memcpy_s" => memmove_s;
    "memmove_s" => memmove_s;
    "strlen" => length::<u8>;
    "wcslen" => length::<u16>;
    "strnlen" => bounded_length::<u8>;
    "wcsnlen" => bounded_length::<u16>;
    "strcmp" => compare::<u8>;
    "wcscmp" => compare::<u16>;
    "strncmp" => compare_some::<u8>;
    "wcsncmp" => compare_some::<u16>;
    "_stricmp" => compare_folded::<u8>;
    "_wcsicmp" => compare_folded::<u16>;
    "_strnicmp" => compare_some_folded::<u8>;
    "_wcsnicmp" => compare_some_folded::<u16>;
    "strcpy" => copy::<u8>;
    "wcscpy" => copy::<u16>;
    "strncpy" => copy_some::<u8>;
    "wcsncpy" => copy_some::<u16>;
    "strcat" => append::<u8>;
    "wcscat" => append::<u16>;
    "strncat" => append_some::<u8>;
    "wcsncat" => append_some::<u16>;
    "strcpy_s" => copy_checked::<u8>;
    "wcscpy_s" => copy_checked::<u16>;
    "strcat_s" => append_checked::<u8>;
    "wcscat_s" => append_checked::<u16>;
    "strncpy_s" => copy_some_checked::<u8>;
    "wcsncpy_s" => copy_some_checked::<u16>;
    "strchr" => find::<u8>;
    "wcschr" => find::<u16>;
    "strrchr" => find_last::<u8>;
    "wcsrchr" => find_last::<u16>;
    "strstr" => search::<u8>;
    "wcsstr" => search::<u16>;
    "tolower" => to_lower;
    "toupper" => to_upper;
    "towlower" => to_lower_wide;
    "towupper" => to_upper_wide;
    "isdigit" => is_digit;
    "isxdigit" => is_hex_digit;
    "isspace" => is_space;
    "isprint" => is_print;
    "isalpha" => is_alpha;
    "isalnum" => is_alphanumeric;
    "isupper" => is_upper;
    "islower" => is_lower;
    "atoi" => to_integer;
    "atol" => to_integer;
    "_snprintf" => snprintf;
    "_snwprintf" => snwprintf;
    "_vsnprintf" => vsnprintf;
    "_vsnwprintf" => vsnwprintf;
    "sprintf_s" => sprintf_s;
    "swprintf_s" => swprintf_s;
    "vsprintf_s" => vsprintf_s;
    "vswprintf_s" => vswprintf_s;
    "sprintf" => sprintf;
    "vsprintf" => vsprintf;
};

/// A character of a string.
trait Unit: Copy + PartialEq + Into<u16> {
    const ZERO: Self;
    fn from_unit(unit: u16) -> Self;
    /// As a number, for comparisons: `char` is signed for no comparison of the library.
    fn folded(self) -> u16 {
        let unit: u16 = self.into();
        if (u16::from(b'A')..=u16::from(b'Z')).contains(&unit) { unit | 0x20 } else { unit }
    }
}

impl Unit for u8 {
    const ZERO: Self = 0;
    fn from_unit(unit: u16) -> Self {
        u8::try_from(unit).unwrap_or(b'?')
    }
}

impl Unit for u16 {
    const ZERO: Self = 0;
    fn from_unit(unit: u16) -> Self {
        unit
    }
}

/// What the functions that check answer: `EINVAL` and `ERANGE`.
const INVALID: i32 = 22;
const RANGE: i32 = 34;

// Each of these functions has the contract of its namesake in C: pointers lead to strings that end with a
// zero, or to as many characters as a count says; SAFETY comments say only what goes beyond that.

unsafe extern "win64" fn memchr(start: *const u8, value: i32, len: usize) -> *const u8 {
    let value = value.to_le_bytes()[0];
    // SAFETY: the caller vouches for the range up to the byte that is looked for.
    unsafe { (0..len).map(|at| start.add(at)).find(|at| at.read() == value).unwrap_or(std::ptr::null()) }
}

unsafe extern "win64" fn memmove_s(to: *mut u8, room: usize, from: *const u8, len: usize) -> i32 {
    if len == 0 {
        return 0;
    }
    if to.is_null() || from.is_null() {
        return INVALID;
    }
    if room < len {
        // SAFETY: the caller vouches for `room` bytes.
        unsafe { std::ptr::write_bytes(to, 0, room) };
        return RANGE;
    }
    // SAFETY: the caller vouches for both ranges.
    unsafe { std::ptr::copy(from, to, len) };
    0
}

unsafe extern "win64" fn length<T: Unit>(string: *const T) -> usize {
    // SAFETY: the contract of strlen.
    (0..isize::MAX as usize).find(|at| unsafe { string.add(*at).read() } == T::ZERO).unwrap_or(0)
}

unsafe extern "win64" fn bounded_length<T: Unit>(string: *const T, limit: usize) -> usize {
    if string.is_null() {
        return 0;
    }
    // SAFETY: the contract of strnlen.
    (0..limit).find(|at| unsafe { string.add(*at).read() } == T::ZERO).unwrap_or(limit)
}

/// # Safety
/// The contract of `strncmp`.
unsafe fn order<T: Unit>(a: *const T, b: *const T, limit: usize, key: impl Fn(T) -> u16) -> i32 {
    for at in 0..limit {
        // SAFETY: both strings go on until one of them ends, which ends the loop.
        let (a, b) = unsafe { (a.add(at).read(), b.add(at).read()) };
        let (x, y) = (key(a), key(b));
        if x != y {
            return if x < y { -1 } else { 1 };
        }
        if a == T::ZERO {
            break;
        }
    }
    0
}

unsafe extern "win64" fn compare<T: Unit>(a: *const T, b: *const T) -> i32 {
    // SAFETY: the contract of strcmp.
    unsafe { order(a, b, usize::MAX, Into::into) }
}

unsafe extern "win64" fn compare_some<T: Unit>(a: *const T, b: *const T, limit: usize) -> i32 {
    // SAFETY: the contract of strncmp.
    unsafe { order(a, b, limit, Into::into) }
}

unsafe extern "win64" fn compare_folded<T: Unit>(a: *const T, b: *const T) -> i32 {
    // SAFETY: the contract of _stricmp.
    unsafe { order(a, b, usize::MAX, T::folded) }
}

unsafe extern "win64" fn compare_some_folded<T: Unit>(a: *const T, b: *const T, limit: usize) -> i32 {
    // SAFETY: the contract of _strnicmp.
    unsafe { order(a, b, limit, T::folded) }
}

unsafe extern "win64" fn copy<T: Unit>(to: *mut T, from: *const T) -> *mut T {
    // SAFETY: the contract of strcpy.
    unsafe { std::ptr::copy(from, to, length(from) + 1) };
    to
}

unsafe extern "win64" fn copy_some<T: Unit>(to: *mut T, from: *const T, count: usize) -> *mut T {
    // SAFETY: the contract of strncpy: what is left of `count` becomes zeros.
    unsafe {
        let length = bounded_length(from, count);
        std::ptr::copy(from, to, length);
        for at in length..count {
            to.add(at).write(T::ZERO);
        }
    }
    to
}

unsafe extern "win64" fn append<T: Unit>(to: *mut T, from: *const T) -> *mut T {
    // SAFETY: the contract of strcat.
    unsafe { copy(to.add(length(to)), from) };
    to
}

unsafe extern "win64" fn append_some<T: Unit>(to: *mut T, from: *const T, count: usize) -> *mut T {
    // SAFETY: the contract of strncat.
    unsafe {
        let (end, added) = (length(to), bounded_length(from, count));
        std::ptr::copy(from, to.add(end), added);
        to.add(end + added).write(T::ZERO);
    }
    to
}

/// # Safety
/// `to` has `room` characters, `from` has `count` or ends before.
unsafe fn place<T: Unit>(to: *mut T, room: usize, start: usize, from: *const T, count: usize) -> i32 {
    if to.is_null() || room == 0 {
        return INVALID;
    }
    // SAFETY: as the caller says.
    unsafe {
        let length = if from.is_null() { room } else { bounded_length(from, count) };
        if from.is_null() || start >= room || length >= room - start {
            to.write(T::ZERO);
            return if from.is_null() || start >= room { INVALID } else { RANGE };
        }
        std::ptr::copy(from, to.add(start), length);
        to.add(start + length).write(T::ZERO);
    }
    0
}

unsafe extern "win64" fn copy_checked<T: Unit>(to: *mut T, room: usize, from: *const T) -> i32 {
    // SAFETY: the contract of strcpy_s.
    unsafe { place(to, room, 0, from, usize::MAX) }
}

unsafe extern "win64" fn append_checked<T: Unit>(to: *mut T, room: usize, from: *const T) -> i32 {
    // SAFETY: the contract of strcat_s.
    unsafe { place(to, room, bounded_length(to, room), from, usize::MAX) }
}

unsafe extern "win64" fn copy_some_checked<T: Unit>(
    to: *mut T,
    room: usize,
    from: *const T,
    count: usize,
) -> i32 {
    // SAFETY: the contract of strncpy_s; a count of SIZE_MAX truncates.
    unsafe {
        let count = if count == usize::MAX { room.saturating_sub(1) } else { count };
        place(to, room, 0, from, count)
    }
}

/// The character that an `int` argument names.
fn character(one: u32, bytes: usize) -> u16 {
    u16::try_from(one & if bytes == 1 { 0xff } else { 0xffff }).unwrap_or(0)
}

unsafe extern "win64" fn find<T: Unit>(string: *const T, one: u32) -> *const T {
    let one = T::from_unit(character(one, size_of::<T>()));
    let mut at = string;
    loop {
        // SAFETY: the contract of strchr: the loop ends with the string.
        let unit = unsafe { at.read() };
        if unit == one {
            return at;
        }
        if unit == T::ZERO {
            return std::ptr::null();
        }
        // SAFETY: as above.
        at = unsafe { at.add(1) };
    }
}

unsafe extern "win64" fn find_last<T: Unit>(string: *const T, one: u32) -> *const T {
    let one = T::from_unit(character(one, size_of::<T>()));
    // SAFETY: the contract of strrchr: the zero at the end belongs to the string.
    unsafe {
        (0..=length(string))
            .rev()
            .map(|at| string.add(at))
            .find(|at| at.read() == one)
            .unwrap_or(std::ptr::null())
    }
}

unsafe extern "win64" fn search<T: Unit>(string: *const T, part: *const T) -> *const T {
    // SAFETY: the contract of strstr.
    unsafe {
        let (whole, length) = (length(string), length(part));
        let starts = |at: usize| order(string.add(at), part, length, Into::into) == 0;
        (0..(whole + 1).saturating_sub(length))
            .find(|at| starts(*at))
            .map_or(std::ptr::null(), |at| string.add(at))
    }
}

/// A character of the "C" locale; 0 for what is none.
fn ascii(one: i32) -> u8 {
    u8::try_from(one).unwrap_or(0)
}

extern "win64" fn to_lower(one: i32) -> i32 {
    if ascii(one).is_ascii_uppercase() { one | 0x20 } else { one }
}

extern "win64" fn to_upper(one: i32) -> i32 {
    if ascii(one).is_ascii_lowercase() { one & !0x20 } else { one }
}

extern "win64" fn to_lower_wide(one: u16) -> u16 {
    super::rtl_string::downcase(one)
}

extern "win64" fn to_upper_wide(one: u16) -> u16 {
    super::rtl_string::upcase(one)
}

extern "win64" fn is_digit(one: i32) -> i32 {
    i32::from(ascii(one).is_ascii_digit())
}

extern "win64" fn is_hex_digit(one: i32) -> i32 {
    i32::from(ascii(one).is_ascii_hexdigit())
}

extern "win64" fn is_space(one: i32) -> i32 {
    i32::from(matches!(ascii(one), 9..=13 | 32))
}

extern "win64" fn is_print(one: i32) -> i32 {
    i32::from(matches!(ascii(one), 32..=126))
}

extern "win64" fn is_alpha(one: i32) -> i32 {
    i32::from(ascii(one).is_ascii_alphabetic())
}

extern "win64" fn is_alphanumeric(one: i32) -> i32 {
    i32::from(ascii(one).is_ascii_alphanumeric())
}

extern "win64" fn is_upper(one: i32) -> i32 {
    i32::from(ascii(one).is_ascii_uppercase())
}

extern "win64" fn is_lower(one: i32) -> i32 {
    i32::from(ascii(one).is_ascii_lowercase())
}

unsafe extern "win64" fn to_integer(string: *const u8) -> i32 {
    // SAFETY: the contract of atoi.
    let text: String =
        unsafe { characters(string, 64) }.iter().map(|c| char::from(u8::from_unit(*c))).collect();
    super::ndis_config::to_integer(&text, 10).cast_signed()
}

/// Puts text into a buffer of `room` characters; says how many it has without the zero at the end, or −1
/// if they do not fit. `closed`: a text that is cut ends with a zero (`_s`).
///
/// # Safety
/// The buffer has that room.
unsafe fn put<T: Unit>(to: *mut T, room: usize, text: &[u16], closed: bool) -> i32 {
    let fits = text.len() < room || (!closed && text.len() == room);
    for (at, unit) in text.iter().take(room).enumerate() {
        // SAFETY: within the room.
        unsafe { to.add(at).write(T::from_unit(*unit)) };
    }
    if text.len() < room {
        // SAFETY: within the room.
        unsafe { to.add(text.len()).write(T::ZERO) };
    } else if closed && room > 0 {
        // SAFETY: the room's first character: the functions that check leave no part of a text.
        unsafe { to.write(T::ZERO) };
    }
    if fits { i32::try_from(text.len()).unwrap_or(-1) } else { -1 }
}

/// # Safety
/// A format that ends with a zero and what it asks for; a buffer of that room.
unsafe fn print<T: Unit>(
    to: *mut T,
    room: usize,
    pattern: *const T,
    arguments: *const u64,
    closed: bool,
) -> i32 {
    // SAFETY: as the caller says.
    unsafe {
        let pattern = characters(pattern, usize::MAX);
        let text = format(&pattern, size_of::<T>() == 2, arguments);
        put(to, room, &text, closed)
    }
}

unsafe extern "win64" fn vsnprintf(to: *mut u8, room: usize, pattern: *const u8, list: *const u64) -> i32 {
    // SAFETY: the contract of _vsnprintf.
    unsafe { print(to, room, pattern, list, false) }
}

unsafe extern "win64" fn vsnwprintf(to: *mut u16, room: usize, pattern: *const u16, list: *const u64) -> i32 {
    // SAFETY: the contract of _vsnwprintf.
    unsafe { print(to, room, pattern, list, false) }
}

unsafe extern "win64" fn vsprintf_s(to: *mut u8, room: usize, pattern: *const u8, list: *const u64) -> i32 {
    // SAFETY: the contract of vsprintf_s.
    unsafe { print(to, room, pattern, list, true) }
}

unsafe extern "win64" fn vswprintf_s(
    to: *mut u16,
    room: usize,
    pattern: *const u16,
    list: *const u64,
) -> i32 {
    // SAFETY: the contract of vswprintf_s.
    unsafe { print(to, room, pattern, list, true) }
}

unsafe extern "win64" fn vsprintf(to: *mut u8, pattern: *const u8, list: *const u64) -> i32 {
    // SAFETY: the contract of vsprintf: the buffer holds whatever comes.
    unsafe { print(to, i32::MAX as usize, pattern, list, false) }
}

macro_rules! with_arguments {
    ($($name:ident, $body:ident: $unit:ty, $closed:literal;)*) => {
        $(
            variadic!($name => $body);
            /// The arguments in a row: buffer, room, format, and what the format asks for.
            unsafe extern "win64" fn $body(all: *const u64) -> i32 {
                // SAFETY: the contract of the function in C; four arguments have a place at least.
                unsafe {
                    let (to, room, pattern) =
                        (all.read(), usize::try_from(all.add(1).read()).unwrap_or(0), all.add(2).read());
                    print(to as *mut $unit, room, pattern as *const $unit, all.add(3), $closed)
                }
            }
        )*
    };
}

with_arguments! {
    snprintf, snprintf_body: u8, false;
    snwprintf, snwprintf_body: u16, false;
    sprintf_s, sprintf_s_body: u8, true;
    swprintf_s, swprintf_s_body: u16, true;
}

variadic!(sprintf => sprintf_body);
unsafe extern "win64" fn sprintf_body(all: *const u64) -> i32 {
    // SAFETY: the contract of sprintf; four arguments have a place at least.
    unsafe { vsprintf(all.read() as *mut u8, all.add(1).read() as *const u8, all.add(2)) }
}

/// Touches each page that a large frame is about to use: RAX holds its size; no register changes.
#[unsafe(naked)]
unsafe extern "win64" fn chkstk() {
    naked_asm!(
        "push rcx",
        "push rax",
        "lea rcx, [rsp + 24]",
        "cmp rax, 0x1000",
        "jb 3f",
        "2:",
        "sub rcx, 0x1000",
        "test [rcx], rcx",
        "sub rax, 0x1000",
        "cmp rax, 0x1000",
        "ja 2b",
        "3:",
        "sub rcx, rax",
        "test [rcx], rcx",
        "pop rax",
        "pop rcx",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_compare_copy_and_search_as_in_c() {
        // SAFETY: literals that end with a zero, and buffers that are large enough.
        unsafe {
            assert_eq!(length(c"abc".as_ptr().cast::<u8>()), 3);
            assert_eq!(bounded_length(b"abc".as_ptr(), 2), 2);
            assert_eq!(compare(c"abc".as_ptr().cast::<u8>(), c"abd".as_ptr().cast::<u8>()), -1);
            assert_eq!(compare_folded(c"ABC".as_ptr().cast::<u8>(), c"abc".as_ptr().cast::<u8>()), 0);
            assert_eq!(compare_some(c"abX".as_ptr().cast::<u8>(), c"abY".as_ptr().cast::<u8>(), 2), 0);
            let mut buffer = [0xff_u8; 8];
            copy_some(buffer.as_mut_ptr(), c"ab".as_ptr().cast::<u8>(), 5);
            assert_eq!(&buffer, b"ab\0\0\0\xff\xff\xff");
            append(buffer.as_mut_ptr(), c"cd".as_ptr().cast::<u8>());
            assert_eq!(&buffer[..5], b"abcd\0");
            assert_eq!(copy_checked(buffer.as_mut_ptr(), 3, c"abc".as_ptr().cast::<u8>()), RANGE);
            assert_eq!(buffer[0], 0);
            assert_eq!(
                copy_some_checked(buffer.as_mut_ptr(), 3, c"abcdef".as_ptr().cast::<u8>(), usize::MAX),
                0
            );
            assert_eq!(&buffer[..3], b"ab\0");
            let text = b"one two two\0";
            let at = |found: *const u8| found.offset_from(text.as_ptr());
            assert_eq!(at(search(text.as_ptr(), c"two".as_ptr().cast::<u8>())), 4);
            assert_eq!(at(find(text.as_ptr(), u32::from(b'o'))), 0);
            assert_eq!(at(find_last(text.as_ptr(), u32::from(b'o'))), 10);
            assert!(search(text.as_ptr(), c"three".as_ptr().cast::<u8>()).is_null());
            assert_eq!(compare_memory(b"abcd".as_ptr(), b"abXd".as_ptr(), 4), 2);
            assert_eq!(to_integer(c" -12x".as_ptr().cast::<u8>()), -12);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_as_each_function_says() {
        let print: unsafe extern "win64" fn(*mut u8, usize, *const u8, u64, u64, u64) -> i32 =
            // SAFETY: a function with variable arguments, called with some.
            unsafe { std::mem::transmute(snprintf as *const ()) };
        let mut buffer = [0xff_u8; 8];
        // SAFETY: the format takes three integers; the buffer has eight bytes.
        unsafe {
            assert_eq!(print(buffer.as_mut_ptr(), 8, c"%d-%d-%d".as_ptr().cast::<u8>(), 1, 2, 3), 5);
            assert_eq!(&buffer[..6], b"1-2-3\0");
            assert_eq!(print(buffer.as_mut_ptr(), 3, c"%d-%d-%d".as_ptr().cast::<u8>(), 4, 5, 6), -1);
            assert_eq!(&buffer[..6], b"4-5-3\0");
            assert_eq!(
                vsprintf_s(buffer.as_mut_ptr(), 3, c"abcdef".as_ptr().cast::<u8>(), [0; 4].as_ptr()),
                -1
            );
            assert_eq!(buffer[0], 0);
        }
    }
}
