//! The functions that the compiler calls on its own, imported from ntdll: nothing in Rust refers to them.

use core::ffi::{c_char, c_int, c_void};

#[link(name = "ntdll.dll", kind = "raw-dylib", modifiers = "+verbatim")]
#[allow(dead_code, reason = "the linker finds the compiler's calls here")]
unsafe extern "C" {
    fn memcpy(destination: *mut c_void, source: *const c_void, count: usize) -> *mut c_void;
    fn memmove(destination: *mut c_void, source: *const c_void, count: usize) -> *mut c_void;
    fn memset(destination: *mut c_void, value: c_int, count: usize) -> *mut c_void;
    fn memcmp(left: *const c_void, right: *const c_void, count: usize) -> c_int;
    fn strlen(string: *const c_char) -> usize;
    fn __chkstk();
}
