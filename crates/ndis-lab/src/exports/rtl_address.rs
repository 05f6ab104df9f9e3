//! Addresses as text, of ntoskrnl.exe: IPv4, IPv6 and Ethernet.

use std::net::{Ipv4Addr, Ipv6Addr};

use ndis_sys::{NTSTATUS, ULONG};

use super::leaves;

const SUCCESS: NTSTATUS = 0;
const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();

/// Puts text and a zero into a buffer of `*length` characters, as `RtlIpv4AddressToStringEx` does.
///
/// # Safety
/// The buffer has that room, and `length` is the caller's.
unsafe fn put_address<T: Copy + From<u8>>(text: &str, buffer: *mut T, length: *mut ULONG) -> NTSTATUS {
    // SAFETY: as the caller says.
    unsafe {
        let needed = u32::try_from(text.len() + 1).unwrap_or(u32::MAX);
        let room = std::mem::replace(&mut *length, needed);
        if room < needed || buffer.is_null() {
            return STATUS_INVALID_PARAMETER;
        }
        for (at, byte) in text.bytes().chain([0]).enumerate() {
            buffer.add(at).write(byte.into());
        }
    }
    SUCCESS
}

fn with_port(address: &str, port: u16, six: bool) -> String {
    match (u16::from_be(port), six) {
        (0, _) => address.to_owned(),
        (port, false) => format!("{address}:{port}"),
        (port, true) => format!("[{address}]:{port}"),
    }
}

/// Address text without a length: gives where it ends.
///
/// # Safety
/// The buffer has room for the longest.
unsafe fn put_text<T: Copy + From<u8>>(text: &str, buffer: *mut T) -> *mut T {
    // SAFETY: as the caller says.
    unsafe {
        for (at, byte) in text.bytes().chain([0]).enumerate() {
            buffer.add(at).write(byte.into());
        }
        buffer.add(text.len())
    }
}

leaves! { TABLE in "ntoskrnl.exe" {
    ANY fn RtlIpv4AddressToStringExA(_, address: *const [u8; 4], port: u16, to: *mut u8, length: *mut ULONG) -> NTSTATUS {
        // SAFETY: the caller's address and buffer.
        unsafe { put_address(&with_port(&Ipv4Addr::from(*address).to_string(), port, false), to, length) }
    }

    ANY fn RtlIpv4AddressToStringExW(_, address: *const [u8; 4], port: u16, to: *mut u16, length: *mut ULONG) -> NTSTATUS {
        // SAFETY: as above.
        unsafe { put_address(&with_port(&Ipv4Addr::from(*address).to_string(), port, false), to, length) }
    }

    ANY fn RtlIpv6AddressToStringExA(_, address: *const [u8; 16], _scope: ULONG, port: u16, to: *mut u8, length: *mut ULONG) -> NTSTATUS {
        // SAFETY: as above.
        unsafe { put_address(&with_port(&Ipv6Addr::from(*address).to_string(), port, true), to, length) }
    }

    ANY fn RtlIpv6AddressToStringExW(_, address: *const [u8; 16], _scope: ULONG, port: u16, to: *mut u16, length: *mut ULONG) -> NTSTATUS {
        // SAFETY: as above.
        unsafe { put_address(&with_port(&Ipv6Addr::from(*address).to_string(), port, true), to, length) }
    }

    ANY fn RtlIpv4AddressToStringA(_, address: *const [u8; 4], to: *mut u8) -> *mut u8 {
        // SAFETY: the caller's address, and a buffer of 16 characters.
        unsafe { put_text(&Ipv4Addr::from(*address).to_string(), to) }
    }

    ANY fn RtlIpv4AddressToStringW(_, address: *const [u8; 4], to: *mut u16) -> *mut u16 {
        // SAFETY: as above.
        unsafe { put_text(&Ipv4Addr::from(*address).to_string(), to) }
    }

    ANY fn RtlIpv6AddressToStringA(_, address: *const [u8; 16], to: *mut u8) -> *mut u8 {
        // SAFETY: the caller's address, and a buffer of 46 characters.
        unsafe { put_text(&Ipv6Addr::from(*address).to_string(), to) }
    }

    ANY fn RtlIpv6AddressToStringW(_, address: *const [u8; 16], to: *mut u16) -> *mut u16 {
        // SAFETY: as above.
        unsafe { put_text(&Ipv6Addr::from(*address).to_string(), to) }
    }

    ANY fn RtlEthernetAddressToStringA(_, address: *const [u8; 6], to: *mut u8) -> *mut u8 {
        // SAFETY: the caller's address, and a buffer of 18 characters.
        unsafe { put_text(&(*address).map(|byte| format!("{byte:02X}")).join("-"), to) }
    }

    ANY fn RtlEthernetAddressToStringW(_, address: *const [u8; 6], to: *mut u16) -> *mut u16 {
        // SAFETY: as above.
        unsafe { put_text(&(*address).map(|byte| format!("{byte:02X}")).join("-"), to) }
    }
} }
