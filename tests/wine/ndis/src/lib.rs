//! A small `ndis.sys` for Wine, which has one of NDIS 5 only and no miniports.
//!
//! A miniport that Wine's `ntoskrnl.exe` loads finds here what it imports from NDIS. It is registered, gets one adapter per
//! Plug and Play device, and lives as on Windows: initialize, restart, a request, a send, pause, halt, unload. This is no
//! NDIS to work with: one thing after the other, one miniport at a time, nothing bound on top. What was seen is written to
//! a file, line by line; `xtask` reads and judges it. docs/wine.md says more.
//!
//! | module | what it is |
//! |---|---|
//! | [`report`] | the file |
//! | [`imports`] | what the miniport imports, and what Wine lacks of that |
//! | [`miniport`] | registration |
//! | [`device`] | Plug and Play: AddDevice and its requests |
//! | [`adapter`] | the life of one adapter |
//! | [`attributes`] | what an adapter says of itself |
//! | [`config`] | keywords in the registry |
//! | [`memory`] | MDLs and NET_BUFFER_LISTs |
#![no_std]
#![cfg(windows)]
#![allow(non_snake_case, non_upper_case_globals, reason = "the WDK's names")]
#![allow(clippy::cast_possible_truncation, reason = "sizes of structures and frames, all below 64 KiB")]
#![allow(clippy::doc_markdown, reason = "NDIS's words are not Rust items")]

mod adapter;
mod attributes;
mod config;
mod crt;
mod device;
mod imports;
mod memory;
mod miniport;
mod report;

use core::ffi::c_void;
use core::panic::PanicInfo;

use windows_sys::Win32::Foundation::HINSTANCE;
use windows_sys::Win32::System::Diagnostics::Debug::RaiseException;
use windows_sys::Win32::System::SystemServices::{DLL_PROCESS_ATTACH, DLL_PROCESS_DETACH};

/// Wine's loader calls it when the first driver that imports from `ndis.sys` is loaded, before that driver's DriverEntry,
/// as Windows calls DllInitialize.
///
/// # Safety
/// Called by the loader.
#[unsafe(no_mangle)]
unsafe extern "system" fn DllMain(module: HINSTANCE, reason: u32, _: *mut c_void) -> i32 {
    match reason {
        DLL_PROCESS_ATTACH => imports::watch(module),
        DLL_PROCESS_DETACH => imports::unwatch(),
        _ => {}
    }
    1
}

/// A panic is written down and ends the process, with a status of our own.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    report::line(format_args!("panic {info}"));
    loop {
        // SAFETY: no arguments are passed; Wine ends the process that hosts the driver.
        unsafe { RaiseException(0xE052_5553, 1, 0, core::ptr::null()) };
    }
}
