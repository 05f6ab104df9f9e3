//! What a Windows user does with `devcon` and a text editor, as one program for Wine:
//!
//! - `install list <inf>`: every section and line of an INF as setupapi reads it, strings replaced. Sections in the order
//!   of the file, one line each, fields separated by tabs, the key first (empty if there is none).
//! - `install add <inf> <hardware ID>`: makes a root-enumerated device node and installs it with the INF.
//! - `install remove <hardware ID>`: removes the nodes with that ID.
//!
//! Exit status: 0 if it was done, else the Windows error, or 87 (`ERROR_INVALID_PARAMETER`) for a wrong command line.
#![no_std]
#![no_main]
#![cfg(windows)]
#![allow(clippy::cast_possible_truncation, reason = "lengths of buffers in here, all below 64 KiB")]

mod crt;

use core::panic::PanicInfo;
use core::ptr::{null, null_mut};

use windows_sys::Win32::Devices::DeviceAndDriverInstallation::{
    DICD_GENERATE_ID, DIF_REGISTERDEVICE, DIF_REMOVE, DIGCF_ALLCLASSES, INF_STYLE_WIN4, INFCONTEXT,
    SP_DEVINFO_DATA, SPDRP_HARDWAREID, SetupCloseInfFile, SetupDiCallClassInstaller,
    SetupDiCreateDeviceInfoList, SetupDiCreateDeviceInfoW, SetupDiDestroyDeviceInfoList,
    SetupDiEnumDeviceInfo, SetupDiGetClassDevsW, SetupDiGetDeviceRegistryPropertyW, SetupDiGetINFClassW,
    SetupDiSetDeviceRegistryPropertyW, SetupEnumInfSectionsW, SetupFindFirstLineW, SetupFindNextLine,
    SetupGetFieldCount, SetupGetStringFieldW, SetupOpenInfFileW, UpdateDriverForPlugAndPlayDevicesW,
};
use windows_sys::Win32::Foundation::{
    ERROR_INVALID_PARAMETER, ERROR_NO_SUCH_DEVINST, ERROR_WRITE_FAULT, GetLastError, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::WriteFile;
use windows_sys::Win32::System::Console::{GetStdHandle, STD_OUTPUT_HANDLE};
use windows_sys::Win32::System::Environment::GetCommandLineW;
use windows_sys::Win32::System::Threading::ExitProcess;
use windows_sys::core::{BOOL, GUID, PCWSTR};

/// Longest argument, section name or field, in characters with the zero at the end.
const LONGEST: usize = 512;
type Text = [u16; LONGEST];

/// A Windows error.
struct Failed(u32);

/// The entry point: there is no C run-time library before it.
///
/// # Safety
/// Called by the loader.
#[unsafe(no_mangle)]
unsafe extern "system" fn start() -> ! {
    let status = match run() {
        Ok(()) => 0,
        Err(Failed(error)) => error,
    };
    // SAFETY: ends the process.
    unsafe { ExitProcess(status) }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: ends the process.
    unsafe { ExitProcess(u32::MAX) }
}

fn run() -> Result<(), Failed> {
    let mut arguments = [[0; LONGEST]; 4];
    match (split(&mut arguments), ascii(&arguments[1])) {
        (3, b'l') => list(&arguments[2]),
        (4, b'a') => add(&arguments[2], &arguments[3]),
        (3, b'r') => remove(&arguments[2]),
        _ => Err(Failed(ERROR_INVALID_PARAMETER)),
    }
}

/// The first character, if it is ASCII.
fn ascii(text: &Text) -> u8 {
    u8::try_from(text[0]).unwrap_or(0)
}

/// The words of the command line; how many there are. None has spaces: `xtask` calls this program, in a folder without.
fn split(words: &mut [Text; 4]) -> usize {
    // SAFETY: the command line lives as long as the process, and ends with a zero.
    let mut at = unsafe { GetCommandLineW() };
    let (mut word, mut length) = (0, 0);
    loop {
        // SAFETY: the zero at the end is not passed.
        let unit = unsafe { *at };
        match (unit, length) {
            (0, _) => return word + usize::from(length > 0),
            // Another blank, or a quotation mark.
            (0x20, 0) | (0x22, _) => {}
            (0x20, _) => (word, length) = (word + 1, 0),
            _ => {
                if let Some(slot) = words.get_mut(word).and_then(|text| text[..LONGEST - 1].get_mut(length)) {
                    *slot = unit;
                }
                length += 1;
            }
        }
        // SAFETY: not at the end.
        at = unsafe { at.add(1) };
    }
}

fn list(inf: &Text) -> Result<(), Failed> {
    let mut error_line = 0;
    // SAFETY: a name that ends with a zero.
    let file = unsafe { SetupOpenInfFileW(inf.as_ptr(), null(), INF_STYLE_WIN4, &raw mut error_line) };
    if file == INVALID_HANDLE_VALUE {
        return Err(last());
    }
    let (mut section, mut needed) = ([0; LONGEST], 0);
    let mut index = 0;
    // SAFETY: the file is open until the end, and the buffers have the lengths that are passed with them.
    unsafe {
        while SetupEnumInfSectionsW(file, index, section.as_mut_ptr(), LONGEST as u32, &raw mut needed) != 0 {
            index += 1;
            write(b"[")?;
            write_text(&section)?;
            write(b"]\r\n")?;
            let mut context = INFCONTEXT::default();
            let mut more = SetupFindFirstLineW(file, section.as_ptr(), null(), &raw mut context);
            while more != 0 {
                for field in 0..=SetupGetFieldCount(&raw const context) {
                    let mut text = [0; LONGEST];
                    SetupGetStringFieldW(
                        &raw const context,
                        field,
                        text.as_mut_ptr(),
                        LONGEST as u32,
                        &raw mut needed,
                    );
                    if field > 0 {
                        write(b"\t")?;
                    }
                    write_text(&text)?;
                }
                write(b"\r\n")?;
                let before = context;
                more = SetupFindNextLine(&raw const before, &raw mut context);
            }
        }
        SetupCloseInfFile(file);
    }
    Ok(())
}

fn add(inf: &Text, hardware_id: &Text) -> Result<(), Failed> {
    let (mut class, mut name) = (GUID::from_u128(0), [0; 64]);
    let mut device = new_device();
    // A list of strings: one more zero.
    let bytes = (length(hardware_id) + 2) * size_of::<u16>();
    // SAFETY: text ends with a zero, and buffers have the lengths that are passed with them.
    unsafe {
        check(SetupDiGetINFClassW(inf.as_ptr(), &raw mut class, name.as_mut_ptr(), 64, null_mut()))?;
        let set = SetupDiCreateDeviceInfoList(&raw const class, null_mut());
        check(SetupDiCreateDeviceInfoW(
            set,
            name.as_ptr(),
            &raw const class,
            null(),
            null_mut(),
            DICD_GENERATE_ID,
            &raw mut device,
        ))?;
        check(SetupDiSetDeviceRegistryPropertyW(
            set,
            &raw mut device,
            SPDRP_HARDWAREID,
            hardware_id.as_ptr().cast(),
            bytes as u32,
        ))?;
        check(SetupDiCallClassInstaller(DIF_REGISTERDEVICE, set, &raw const device))?;
        let mut reboot = 0;
        check(UpdateDriverForPlugAndPlayDevicesW(
            null_mut(),
            hardware_id.as_ptr(),
            inf.as_ptr(),
            0,
            &raw mut reboot,
        ))?;
        SetupDiDestroyDeviceInfoList(set);
    }
    Ok(())
}

fn remove(hardware_id: &Text) -> Result<(), Failed> {
    let mut removed = 0;
    // SAFETY: as in `add`.
    unsafe {
        let set = SetupDiGetClassDevsW(null(), null::<u16>() as PCWSTR, null_mut(), DIGCF_ALLCLASSES);
        let mut device = new_device();
        let mut index = 0;
        while SetupDiEnumDeviceInfo(set, index, &raw mut device) != 0 {
            index += 1;
            let mut ids: Text = [0; LONGEST];
            let found = SetupDiGetDeviceRegistryPropertyW(
                set,
                &raw const device,
                SPDRP_HARDWAREID,
                null_mut(),
                ids.as_mut_ptr().cast(),
                size_of::<Text>() as u32,
                null_mut(),
            );
            let end = length(hardware_id);
            if found != 0 && ids[..=end] == hardware_id[..=end] {
                check(SetupDiCallClassInstaller(DIF_REMOVE, set, &raw const device))?;
                removed += 1;
            }
        }
        SetupDiDestroyDeviceInfoList(set);
    }
    if removed == 0 { Err(Failed(ERROR_NO_SUCH_DEVINST)) } else { Ok(()) }
}

fn new_device() -> SP_DEVINFO_DATA {
    SP_DEVINFO_DATA { cbSize: size_of::<SP_DEVINFO_DATA>() as u32, ..Default::default() }
}

fn check(done: BOOL) -> Result<(), Failed> {
    if done == 0 { Err(last()) } else { Ok(()) }
}

fn last() -> Failed {
    // SAFETY: always callable.
    Failed(unsafe { GetLastError() })
}

fn length(text: &[u16]) -> usize {
    text.iter().position(|&unit| unit == 0).unwrap_or(text.len())
}

/// Writes text as UTF-8.
fn write_text(text: &Text) -> Result<(), Failed> {
    for unit in char::decode_utf16(text[..length(text)].iter().copied()) {
        let character = unit.unwrap_or(char::REPLACEMENT_CHARACTER);
        write(character.encode_utf8(&mut [0; 4]).as_bytes())?;
    }
    Ok(())
}

fn write(bytes: &[u8]) -> Result<(), Failed> {
    let mut written = 0;
    // SAFETY: the buffer has the length that is passed with it.
    let done = unsafe {
        WriteFile(
            GetStdHandle(STD_OUTPUT_HANDLE),
            bytes.as_ptr(),
            bytes.len() as u32,
            &raw mut written,
            null_mut(),
        )
    };
    if done == 0 || written as usize != bytes.len() { Err(Failed(ERROR_WRITE_FAULT)) } else { Ok(()) }
}
