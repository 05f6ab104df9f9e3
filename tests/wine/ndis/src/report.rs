//! The report: one line per event, `word key=value key=value`, in a file that `xtask` reads.

use core::fmt::{self, Write as _};
use core::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_APPEND_DATA, FILE_ATTRIBUTE_NORMAL, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_ALWAYS,
    WriteFile,
};
use windows_sys::w;

/// Longest line, in bytes; what is longer ends there.
const LONGEST: usize = 512;

struct Line {
    bytes: [u8; LONGEST],
    length: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(text.bytes()) {
            *slot = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Writes a line. It is in the file when this returns, whatever becomes of the process.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; LONGEST], length: 0 };
    // Writing to memory cannot fail, and an argument that does leaves its place empty.
    let _ = writeln!(line, "{text}");
    let length = u32::try_from(line.length).unwrap_or(0);
    // SAFETY: the name is a constant, the buffer and its length are those of `line`, and the handle is closed once.
    unsafe {
        let file = CreateFileW(
            w!("C:\\ndis-report.txt"),
            FILE_APPEND_DATA,
            FILE_SHARE_READ | FILE_SHARE_WRITE,
            null(),
            OPEN_ALWAYS,
            FILE_ATTRIBUTE_NORMAL,
            null_mut(),
        );
        if file != INVALID_HANDLE_VALUE {
            let mut written = 0;
            WriteFile(file, line.bytes.as_ptr(), length, &raw mut written, null_mut());
            CloseHandle(file);
        }
    }
}
