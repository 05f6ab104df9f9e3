//! `printf` as the kernel's runtime library does it, for `DbgPrint` and the `_snprintf` family.
//!
//! It knows what `<ntstrsafe.h>` and debug output use: the conversions of C, the sizes `h`, `l`, `ll`, `w`,
//! `I`, `I32`, `I64`, `z`, `j` and `t`, and `%Z` and `%wZ` for counted strings. Arguments are the 8-byte
//! places of a `va_list` of x64.

use std::ffi::c_void;
use std::fmt::Write as _;

/// A longer string than this is one that does not end.
const LONGEST: usize = 1 << 16;

/// How wide an integer argument is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Char,
    Short,
    Int,
    Long64,
}

#[allow(clippy::struct_excessive_bools)] // the five flags of printf
/// One conversion, from `%` to its letter.
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    size: Size,
    /// `Some`: a string or character is wide, or narrow, whatever the function is.
    wide: Option<bool>,
}

/// The arguments that are left.
struct Arguments(*const u64);

impl Arguments {
    /// # Safety
    /// The format promises one more argument.
    unsafe fn next(&mut self) -> u64 {
        // SAFETY: the caller of the formatting function passed what its format asks for.
        unsafe {
            let value = self.0.read();
            self.0 = self.0.add(1);
            value
        }
    }
}

/// The characters of a string that ends with a zero, `limit` at most.
///
/// # Safety
/// `start` is such a string, or `limit` characters can be read there.
pub(crate) unsafe fn characters<T: Copy + Into<u16>>(start: *const T, limit: usize) -> Vec<u16> {
    let mut found = Vec::new();
    while found.len() < limit.min(LONGEST) {
        // SAFETY: the caller vouches for it.
        let one: u16 = unsafe { start.add(found.len()).read_unaligned() }.into();
        if one == 0 {
            break;
        }
        found.push(one);
    }
    found
}

/// `UNICODE_STRING` or `ANSI_STRING`.
#[repr(C)]
struct Counted {
    length: u16,
    maximum: u16,
    buffer: *const u8,
}

/// Formats. `wide`: the function that was called works on wide characters, so that `%s` does.
///
/// # Safety
/// `arguments` leads to as many arguments as the format asks for, of the kinds that it names.
pub(crate) unsafe fn format(format: &[u16], wide: bool, arguments: *const u64) -> Vec<u16> {
    let mut arguments = Arguments(arguments);
    let mut output = Vec::new();
    let mut at = 0;
    while let Some(&one) = format.get(at) {
        at += 1;
        if one != u16::from(b'%') {
            output.push(one);
            continue;
        }
        let start = at;
        // SAFETY: as the caller says.
        let Some((conversion, letter)) = (unsafe { parse(format, &mut at, &mut arguments) }) else {
            output.push(one);
            at = start;
            continue;
        };
        if letter == '%' {
            output.push(one);
            continue;
        }
        // SAFETY: as the caller says.
        match unsafe { convert(&conversion, letter, wide, &mut arguments) } {
            Some(text) => pad(&conversion, &text, &mut output),
            // No conversion of C: shown as it stands.
            None => output.extend_from_slice(&format[start - 1..at]),
        }
    }
    output
}

/// Reads a conversion; `None` if the format ends within it.
///
/// # Safety
/// As [`format`].
unsafe fn parse(format: &[u16], at: &mut usize, arguments: &mut Arguments) -> Option<(Conversion, char)> {
    let mut c = Conversion {
        left: false,
        plus: false,
        space: false,
        zero: false,
        alternate: false,
        width: 0,
        precision: None,
        size: Size::Int,
        wide: None,
    };
    let look = |at: usize| format.get(at).and_then(|unit| char::from_u32((*unit).into()));
    loop {
        match look(*at)? {
            '-' => c.left = true,
            '+' => c.plus = true,
            ' ' => c.space = true,
            '0' => c.zero = true,
            '#' => c.alternate = true,
            _ => break,
        }
        *at += 1;
    }
    let number = |at: &mut usize, arguments: &mut Arguments| -> Option<i32> {
        if look(*at)? == '*' {
            *at += 1;
            // SAFETY: as the caller says: a star takes an argument.
            return Some(low(unsafe { arguments.next() }).cast_signed());
        }
        let mut value = 0_i32;
        while let Some(digit) = look(*at).and_then(|one| one.to_digit(10)) {
            value = value.saturating_mul(10).saturating_add(digit.cast_signed());
            *at += 1;
        }
        Some(value)
    };
    let width = number(at, arguments)?;
    c.left |= width < 0;
    c.width = usize::try_from(width.unsigned_abs()).unwrap_or(0).min(LONGEST);
    if look(*at)? == '.' {
        *at += 1;
        c.precision = usize::try_from(number(at, arguments)?).ok();
    }
    loop {
        match look(*at)? {
            'h' => {
                c.size = if c.size == Size::Short { Size::Char } else { Size::Short };
                c.wide = Some(false);
            }
            'l' => {
                // `long` has 32 bits; `long long` has 64.
                c.size = if c.wide == Some(true) { Size::Long64 } else { Size::Int };
                c.wide = Some(true);
            }
            'w' => c.wide = Some(true),
            'z' | 'j' | 't' | 'L' => c.size = Size::Long64,
            'I' => match (look(*at + 1), look(*at + 2)) {
                (Some('6'), Some('4')) => {
                    c.size = Size::Long64;
                    *at += 2;
                }
                (Some('3'), Some('2')) => {
                    c.size = Size::Int;
                    *at += 2;
                }
                _ => c.size = Size::Long64,
            },
            letter => {
                *at += 1;
                return Some((c, letter));
            }
        }
        *at += 1;
    }
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// What one argument becomes, without padding; `None` for an unknown letter.
///
/// # Safety
/// As [`format`].
unsafe fn convert(c: &Conversion, letter: char, wide: bool, arguments: &mut Arguments) -> Option<Vec<u16>> {
    // SAFETY: as the caller says: each letter takes one argument of its kind.
    let mut next = || unsafe { arguments.next() };
    Some(match letter {
        'd' | 'i' => {
            let value = next();
            let value = match c.size {
                Size::Char => i64::from(((value & 0xff) as u8).cast_signed()),
                Size::Short => i64::from(((value & 0xffff) as u16).cast_signed()),
                Size::Int => i64::from(low(value).cast_signed()),
                Size::Long64 => value.cast_signed(),
            };
            let sign = match (value < 0, c.plus, c.space) {
                (true, ..) => "-",
                (false, true, _) => "+",
                (false, false, true) => " ",
                _ => "",
            };
            digits(c, sign, value.unsigned_abs().to_string())
        }
        'u' | 'o' | 'x' | 'X' => {
            let value = match c.size {
                Size::Char => next() & 0xff,
                Size::Short => next() & 0xffff,
                Size::Int => u64::from(low(next())),
                Size::Long64 => next(),
            };
            let (prefix, text) = match letter {
                'u' => ("", value.to_string()),
                'o' => ("0", format!("{value:o}")),
                'x' => ("0x", format!("{value:x}")),
                _ => ("0X", format!("{value:X}")),
            };
            digits(c, if c.alternate && value != 0 { prefix } else { "" }, text)
        }
        'p' => units(&format!("{:016X}", next())),
        'c' | 'C' => {
            let value = next();
            let is_wide = c.wide.unwrap_or((letter == 'c') == wide);
            vec![if is_wide { (value & 0xffff) as u16 } else { u16::from((value & 0xff) as u8) }]
        }
        's' | 'S' => {
            let start = usize::try_from(next()).unwrap_or(0);
            let limit = c.precision.unwrap_or(LONGEST);
            let is_wide = c.wide.unwrap_or((letter == 's') == wide);
            if start == 0 {
                units("(null)").into_iter().take(limit).collect()
            } else if is_wide {
                // SAFETY: the argument is a string that ends with a zero, or is cut by the precision.
                unsafe { characters(start as *const u16, limit) }
            } else {
                // SAFETY: as above.
                unsafe { characters(start as *const u8, limit) }
            }
        }
        'Z' => {
            let string = next() as *const Counted;
            // SAFETY: the argument is NULL or a counted string with as many bytes as it says.
            unsafe {
                match string.as_ref() {
                    None => units("(null)"),
                    Some(string) if string.buffer.is_null() => Vec::new(),
                    Some(string) if c.wide == Some(true) => (0..usize::from(string.length) / 2)
                        .map(|index| string.buffer.cast::<c_void>().cast::<u16>().add(index).read_unaligned())
                        .collect(),
                    Some(string) => (0..usize::from(string.length))
                        .map(|index| u16::from(string.buffer.add(index).read()))
                        .collect(),
                }
            }
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'a' | 'A' => {
            let value = f64::from_bits(next());
            let precision = c.precision.unwrap_or(6);
            let mut text = String::new();
            // Writing to a String cannot fail.
            let _ = match letter {
                'e' | 'E' => write!(text, "{value:.precision$e}"),
                _ => write!(text, "{value:.precision$}"),
            };
            units(&text)
        }
        // Counts what was written so far, in an int: no kernel function writes it.
        'n' => {
            next();
            Vec::new()
        }
        _ => return None,
    })
}

/// Sign or prefix, leading zeros, digits.
fn digits(c: &Conversion, sign: &str, text: String) -> Vec<u16> {
    let text = if c.precision == Some(0) && text == "0" { String::new() } else { text };
    let least = match c.precision {
        Some(precision) => precision.min(LONGEST),
        // Zeros fill the width only without a precision.
        None if c.zero && !c.left => c.width.saturating_sub(sign.len()),
        None => 0,
    };
    units(&format!("{sign}{}{text}", "0".repeat(least.saturating_sub(text.len()))))
}

fn pad(c: &Conversion, text: &[u16], output: &mut Vec<u16>) {
    let blanks = c.width.saturating_sub(text.len());
    if c.left {
        output.extend_from_slice(text);
    }
    output.extend(std::iter::repeat_n(u16::from(b' '), blanks));
    if !c.left {
        output.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str, wide: bool, arguments: &[u64]) -> String {
        // SAFETY: the tests pass what their formats ask for, and three more.
        let made = unsafe {
            let arguments = [arguments, &[0; 3]].concat();
            format(&units(pattern), wide, arguments.as_ptr())
        };
        String::from_utf16(&made).unwrap()
    }

    #[test]
    fn numbers_are_those_of_c() {
        // Expected values are those of a C library's printf.
        for (pattern, value, expected) in [
            ("%d", u64::from(u32::MAX), "-1"),
            ("%5d|", 42, "   42|"),
            ("%-5d|", 42, "42   |"),
            ("%05d|", 42, "00042|"),
            ("%+d", 7, "+7"),
            ("% d", 7, " 7"),
            ("%.3d", 7, "007"),
            ("%.0d", 0, ""),
            ("%hd", 0x1_8000, "-32768"),
            ("%hhu", 0x1ff, "255"),
            ("%u", 0x1_0000_0001, "1"),
            ("%lu", 0x1_0000_0001, "1"),
            ("%llu", 0x1_0000_0001, "4294967297"),
            ("%I64x", 0x1_0000_000a, "10000000a"),
            ("%I32X", 0x1_0000_000a, "A"),
            ("%zu", 0x1_0000_0001, "4294967297"),
            ("%#x", 255, "0xff"),
            ("%#x", 0, "0"),
            ("%08lx", 255, "000000ff"),
            ("%o", 8, "10"),
            ("%p", 0xabc, "0000000000000ABC"),
            ("%c", u64::from(b'x'), "x"),
            ("100%% %d", 1, "100% 1"),
            ("%", 1, "%"),
            ("%y %d", 3, "%y 3"),
        ] {
            assert_eq!(text(pattern, false, &[value]), expected, "{pattern}");
        }
        assert_eq!(text("%*d|%.*x", false, &[4, 9, 3, 10]), "   9|00a");
    }

    #[test]
    fn strings_are_narrow_or_wide_as_the_function_or_the_format_says() {
        let narrow = c"narrow".as_ptr().cast::<u8>() as u64;
        let wide_text = units("wide\0");
        let wide = wide_text.as_ptr() as u64;
        assert_eq!(text("%s %S %ws %hs", false, &[narrow, wide, wide, narrow]), "narrow wide wide narrow");
        assert_eq!(text("%s %S %ls %hs", true, &[wide, narrow, wide, narrow]), "wide narrow wide narrow");
        assert_eq!(text("%.3s|%8s|%-8s|", false, &[narrow, narrow, narrow]), "nar|  narrow|narrow  |");
        assert_eq!(text("%s", false, &[0]), "(null)");
        let counted = Counted { length: 4, maximum: 10, buffer: wide_text.as_ptr().cast() };
        assert_eq!(text("%wZ", false, &[&raw const counted as u64]), "wi");
        let counted = Counted { length: 3, maximum: 3, buffer: b"abc".as_ptr() };
        assert_eq!(text("%Z|%d", false, &[&raw const counted as u64, 5]), "abc|5");
    }
}
