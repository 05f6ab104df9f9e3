//! The functions that the compiler calls on its own, imported from the kernel.

use crate::{PVOID, SIZE_T};

#[cfg(all(windows, not(feature = "hosted")))]
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub fn memcpy(Destination: PVOID, Source: *const core::ffi::c_void, Count: SIZE_T) -> PVOID;
    pub fn memmove(Destination: PVOID, Source: *const core::ffi::c_void, Count: SIZE_T) -> PVOID;
    pub fn memset(Destination: PVOID, Value: i32, Count: SIZE_T) -> PVOID;
    pub fn memcmp(Left: *const core::ffi::c_void, Right: *const core::ffi::c_void, Count: SIZE_T) -> i32;
    pub fn __chkstk();
}
