//! Versions, time, random numbers and checksums of ntoskrnl.exe's runtime library.

use std::sync::atomic::{AtomicU32, Ordering};

use ndis_sys::{BOOLEAN, NTSTATUS, PVOID, ULONG, UNICODE_STRING};

use super::leaves;
use crate::rules;

const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const STATUS_REVISION_MISMATCH: NTSTATUS = 0xc000_0059_u32.cast_signed();
/// `RTL_OSVERSIONINFOW`, and the longer `RTL_OSVERSIONINFOEXW`.
const VERSION_SIZES: [u32; 2] = [276, 284];
/// Units of 100 ns in a second, and seconds in a day.
const SECOND: i64 = 10_000_000;
const DAY: i64 = 86_400;

/// The build of Windows 10 or later that a version of NDIS came with.
pub(crate) fn build(ndis: u32) -> u32 {
    match ndis & 0xff {
        0..=50 => 10240,
        51..=60 => 14393,
        61..=70 => 15063,
        71..=80 => 16299,
        81 => 17134,
        82 => 17763,
        83 => 18362,
        84 => 19041,
        85 => 22000,
        86..=87 => 22621,
        _ => 26100,
    }
}

/// `TIME_FIELDS`: year, month, day, hour, minute, second, milliseconds, weekday.
type TimeFields = [i16; 8];

/// Days from the start of 1601 to a date of the Gregorian calendar; Howard Hinnant's `days_from_civil`.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    // 584,694 days lie between the algorithm's 0000-03-01 and 1601-01-01.
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 584_694
}

/// Its inverse, `civil_from_days`.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 584_694;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn fields_of(time: i64) -> TimeFields {
    let (seconds, rest) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
    let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date_of(days);
    // 1601-01-01 was a Monday.
    [year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60, rest / 10_000, (days + 1) % 7]
        .map(|field| i16::try_from(field).unwrap_or(0))
}

fn time_of(fields: TimeFields) -> Option<i64> {
    let [year, month, day, hour, minute, second, milliseconds, _] = fields.map(i64::from);
    let whole = (1601..=30_827).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..1000).contains(&milliseconds);
    let days = days_of(year, month, day);
    if !whole || date_of(days) != (year, month, day) {
        return None;
    }
    Some((days * DAY + hour * 3600 + minute * 60 + second) * SECOND + milliseconds * 10_000)
}

/// One step of the generator that RtlRandom's page describes: a linear congruential generator modulo 2³¹ − 1, as `RtlUniform` is.
fn random(seed: u32) -> u32 {
    let next = (u64::from(seed).wrapping_mul(0x7fff_ffed).wrapping_add(0x7fff_ffc3)) % 0x7fff_ffff;
    u32::try_from(next).unwrap_or(0)
}

/// CRC-32 of IEEE 802.3, reflected, without the final inversion.
fn crc32(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

/// Types of `RtlVerifyVersionInfo`: (bit of the type mask, offset in RTL_OSVERSIONINFOEXW, bytes there).
const VERSION_FIELDS: [(u32, usize, usize); 8] = [
    (0x02, 4, 4),
    (0x01, 8, 4),
    (0x04, 12, 4),
    (0x08, 16, 4),
    (0x20, 276, 2),
    (0x10, 278, 2),
    (0x40, 280, 2),
    (0x80, 282, 1),
];

/// Whether a comparison of version numbers holds; `VER_EQUAL` is 1, then greater, greater or equal, less, less or
/// equal.
fn holds(condition: u64, have: u32, want: u32) -> Option<bool> {
    Some(match condition {
        1 => have == want,
        2 => have > want,
        3 => have >= want,
        4 => have < want,
        5 => have <= want,
        _ => return None,
    })
}

leaves! { TABLE in "ntoskrnl.exe" {
    PASSIVE_ONLY fn RtlGetVersion(call, version: *mut u32) -> NTSTATUS {
        // SAFETY: the caller's structure, which starts with its size and is as long as that.
        unsafe {
            let size = version.read();
            if !VERSION_SIZES.contains(&size) {
                call.violate(rules::PARAMETER, format!("dwOSVersionInfoSize {size}"));
                return STATUS_INVALID_PARAMETER;
            }
            std::ptr::write_bytes(version.cast::<u8>().add(4), 0, size as usize - 4);
            version.add(1).write(10);
            version.add(3).write(build(call.options.ndis_version));
            // VER_PLATFORM_WIN32_NT; VER_NT_WORKSTATION.
            version.add(4).write(2);
            if size == VERSION_SIZES[1] {
                version.cast::<u8>().add(282).write(1);
            }
        }
        0
    }

    PASSIVE_ONLY fn RtlVerifyVersionInfo(call, version: *const u8, types: ULONG, conditions: u64) -> NTSTATUS {
        if types == 0 {
            return STATUS_INVALID_PARAMETER;
        }
        let have = [10, 0, build(call.options.ndis_version), 2, 0, 0, 0, 1];
        // Major, minor and service pack compare as one number: the first that differs decides.
        let mut decided = false;
        for ((bit, offset, bytes), have) in VERSION_FIELDS.iter().zip(have) {
            if types & bit == 0 || (decided && matches!(bit, 0x01 | 0x10 | 0x20)) {
                continue;
            }
            // SAFETY: the caller's structure, within which the field lies.
            let want = unsafe {
                match bytes {
                    4 => version.add(*offset).cast::<u32>().read_unaligned(),
                    2 => version.add(*offset).cast::<u16>().read_unaligned().into(),
                    _ => version.add(*offset).read().into(),
                }
            };
            let condition = conditions >> (3 * bit.trailing_zeros()) & 7;
            let compared = matches!(bit, 0x01 | 0x02) && have != want && condition != 1;
            decided |= compared;
            match holds(condition, have, want) {
                Some(true) => {}
                Some(false) => return STATUS_REVISION_MISMATCH,
                None => return STATUS_INVALID_PARAMETER,
            }
        }
        0
    }

    ANY fn VerSetConditionMask(_, mask: u64, types: ULONG, condition: u8) -> u64 {
        let bits = (0..8).filter(|bit| types >> bit & 1 == 1);
        bits.fold(mask, |mask, bit| mask | u64::from(condition & 7) << (3 * bit))
    }

    PASSIVE_ONLY fn RtlIsNtDdiVersionAvailable(_, version: ULONG) -> BOOLEAN {
        // Windows 10 as a whole: NTDDI versions of it begin with 0x0A00.
        u8::from(version >> 16 <= 0x0a00)
    }

    PASSIVE_ONLY fn IoIsWdmVersionAvailable(_, major: u8, minor: u8) -> BOOLEAN {
        // WDM 6.0.
        u8::from((major, minor) <= (6, 0))
    }

    PASSIVE_ONLY fn PsGetVersion(
        call, major: *mut ULONG, minor: *mut ULONG, number: *mut ULONG, service_pack: *mut UNICODE_STRING,
    ) -> BOOLEAN {
        // SAFETY: each is NULL or the caller's.
        unsafe {
            let values = [(major, 10), (minor, 0), (number, build(call.options.ndis_version))];
            for (variable, value) in values {
                if let Some(variable) = variable.as_mut() {
                    *variable = value;
                }
            }
            if let Some(text) = service_pack.as_mut() {
                text.Length = 0;
            }
        }
        // The free build.
        0
    }

    ANY fn RtlTimeToTimeFields(_, time: *const i64, fields: *mut TimeFields) {
        // SAFETY: the caller's variables.
        unsafe { fields.write(fields_of(time.read())) }
    }

    ANY fn RtlTimeFieldsToTime(_, fields: *const TimeFields, time: *mut i64) -> BOOLEAN {
        // SAFETY: the caller's variables.
        unsafe {
            let Some(found) = time_of(fields.read()) else { return 0 };
            time.write(found);
        }
        1
    }

    UP_TO_APC fn RtlRandom(_, seed: *mut ULONG) -> ULONG {
        // SAFETY: the caller's seed.
        unsafe {
            seed.write(random(seed.read()));
            seed.read()
        }
    }

    UP_TO_APC fn RtlRandomEx(_, seed: *mut ULONG) -> ULONG {
        // SAFETY: the caller's seed.
        unsafe {
            seed.write(random(seed.read()));
            seed.read()
        }
    }

    ANY fn RtlComputeCrc32(_, start: ULONG, data: *const u8, length: ULONG) -> ULONG {
        // SAFETY: the caller's bytes.
        !crc32(!start, unsafe { std::slice::from_raw_parts(data, length as usize) })
    }

    ANY fn RtlCrc32(_, data: *const u8, length: usize, start: ULONG) -> ULONG {
        // SAFETY: the caller's bytes.
        !crc32(!start, unsafe { std::slice::from_raw_parts(data, length) })
    }

    ANY fn RtlAssert(call, assertion: *const u8, file: *const u8, line: ULONG, _message: *const u8) {
        // SAFETY: the caller's strings, which end with zeros.
        let (assertion, file) = unsafe {
            let of = |start| String::from_utf16_lossy(&super::format::characters(start, 512));
            (of(assertion), of(file))
        };
        call.violate(rules::ASSERTION, format!("{assertion}, {file}:{line}"));
    }

    ANY fn RtlCaptureStackBackTrace(_, skip: ULONG, count: ULONG, frames: *mut PVOID, hash: *mut ULONG) -> u16 {
        let stack = crate::symbols::CallStack::here();
        let found: Vec<usize> =
            stack.frames().iter().map(crate::symbols::StackFrame::address).skip(skip as usize).take(count as usize).collect();
        // SAFETY: the caller's array of `count` pointers; the hash may be NULL.
        unsafe {
            for (index, address) in found.iter().enumerate() {
                frames.add(index).write(*address as PVOID);
            }
            if let Some(hash) = hash.as_mut() {
                *hash = found.iter().fold(0, |sum, address| sum.wrapping_add(u32::try_from(*address & 0xffff_ffff).unwrap_or(0)));
            }
        }
        u16::try_from(found.len()).unwrap_or(0)
    }

    PASSIVE_ONLY fn ExUuidCreate(call, uuid: *mut ndis_sys::GUID) -> NTSTATUS {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Relaxed: only uniqueness matters. A random UUID as RFC 9562 marks it, of time and count.
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let time = call.system_time().to_le_bytes();
        let made = ndis_sys::GUID {
            Data1: count,
            Data2: u16::from_le_bytes([time[0], time[1]]),
            Data3: 0x4000 | u16::from_le_bytes([time[2], time[3] & 0x0f]),
            Data4: [0x80, time[4], time[5], time[6], time[7], 0, 0, 1],
        };
        // SAFETY: the caller's variable.
        unsafe { uuid.write(made) };
        0
    }
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // 2000-02-29 12:34:56.789, a Tuesday.
        let fields = [2000, 2, 29, 12, 34, 56, 789, 2];
        let time = time_of(fields).unwrap();
        assert_eq!(time, 125_963_012_967_890_000);
        assert_eq!(fields_of(time), fields);
        assert_eq!(fields_of(0), [1601, 1, 1, 0, 0, 0, 0, 1]);
        assert_eq!(time_of([2001, 2, 29, 0, 0, 0, 0, 0]), None);
        assert_eq!(time_of([1600, 1, 1, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn the_checksum_is_that_of_ethernet() {
        assert_eq!(!crc32(!0, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn versions_compare_as_asked() {
        assert_eq!(holds(3, 10, 10), Some(true));
        assert_eq!(holds(2, 10, 10), Some(false));
        assert_eq!(holds(0, 10, 10), None);
    }
}
