//! Versions and names of ntoskrnl.exe.

use ndis_sys::{NTSTATUS, PVOID, UNICODE_STRING};

use super::{exports, resolve};
use crate::rules;

/// `RTL_OSVERSIONINFOW`, and the longer `RTL_OSVERSIONINFOEXW`.
const VERSION_SIZES: [u32; 2] = [276, 284];

/// The build of Windows 10 or later that a version of NDIS came with.
fn build(ndis: u32) -> u32 {
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

exports! { TABLE in "ntoskrnl.exe" {
    PASSIVE_ONLY fn RtlGetVersion(call, version: *mut u32) -> NTSTATUS {
        // SAFETY: the caller's structure, which starts with its size and is as long as that.
        unsafe {
            let size = version.read();
            if !VERSION_SIZES.contains(&size) {
                call.violate(rules::PARAMETER, format!("dwOSVersionInfoSize {size}"));
                return Ok(0xc000_000d_u32.cast_signed());
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
        Ok(0)
    }

    PASSIVE_ONLY fn MmGetSystemRoutineAddress(_, name: *const UNICODE_STRING) -> PVOID {
        // SAFETY: the caller's string.
        let name = unsafe {
            let string = &*name;
            std::slice::from_raw_parts(string.Buffer, usize::from(string.Length) / 2)
        };
        let name = String::from_utf16_lossy(name);
        // A driver that asks can do without; what is not there is NULL, as on an older Windows.
        Ok(resolve("ntoskrnl.exe", &name).unwrap_or(0) as PVOID)
    }
} }
