//! The functions that the compiler calls on its own, imported from the kernel: a driver has no C runtime.
//!
//! Nothing in Rust refers to these declarations: the linker finds the compiler's calls in the import library that
//! raw-dylib makes of them, and imports those that are called.

use core::ffi::{c_char, c_int, c_void};

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
#[allow(dead_code)] // see above
unsafe extern "C" {
    /// Copies bytes that do not overlap.
    fn memcpy(destination: *mut c_void, source: *const c_void, count: usize) -> *mut c_void;
    /// Copies bytes that may overlap.
    fn memmove(destination: *mut c_void, source: *const c_void, count: usize) -> *mut c_void;
    /// Fills bytes.
    fn memset(destination: *mut c_void, value: c_int, count: usize) -> *mut c_void;
    /// Compares bytes.
    fn memcmp(left: *const c_void, right: *const c_void, count: usize) -> c_int;
    /// Length of a C string: `alloc` refers to it, even where nothing calls it.
    fn strlen(string: *const c_char) -> usize;
    /// Touches the pages of a large stack frame; its size is in a register.
    fn __chkstk();
}
