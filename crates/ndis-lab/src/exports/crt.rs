//! The runtime functions that compilers call: `memcpy` and its kin, and the stack probe.
//!
//! They are no symbols, since the host's C library has those names, and they have no shell: they
//! run at any IRQL and cannot fail.

use std::arch::naked_asm;
use std::ffi::c_void;

use super::Export;

const MODULE: &str = "ntoskrnl.exe";

pub(super) const TABLE: &[Export] = &[
    Export { module: MODULE, name: "memcpy", address: || memcpy as *const () as usize },
    Export { module: MODULE, name: "memmove", address: || memcpy as *const () as usize },
    Export { module: MODULE, name: "memset", address: || memset as *const () as usize },
    Export { module: MODULE, name: "memcmp", address: || memcmp as *const () as usize },
    Export { module: MODULE, name: "__chkstk", address: || chkstk as *const () as usize },
];

/// Serves `memmove` as well: kernel drivers rely on overlapping `memcpy`, which is one function there.
unsafe extern "win64" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    // SAFETY: the caller vouches for both ranges, as C demands; `copy` allows them to overlap.
    unsafe { std::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), len) };
    to
}

unsafe extern "win64" fn memset(to: *mut c_void, value: i32, len: usize) -> *mut c_void {
    // SAFETY: the caller vouches for the range; the value is converted as C does.
    unsafe { std::ptr::write_bytes(to.cast::<u8>(), value.to_le_bytes()[0], len) };
    to
}

unsafe extern "win64" fn memcmp(a: *const c_void, b: *const c_void, len: usize) -> i32 {
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller vouches for both ranges, which are only read.
    let (a, b) = unsafe {
        (std::slice::from_raw_parts(a.cast::<u8>(), len), std::slice::from_raw_parts(b.cast::<u8>(), len))
    };
    a.cmp(b) as i32
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
