//! A panic stops the machine with a bug check that names the place.

use core::panic::PanicInfo;

use ndis_sys::KeBugCheckEx;

/// `RUST`: the bug check of a panic. Its parameters are the line, the column, the address of the file's name and its
/// length.
const BUGCHECK_PANIC: u32 = u32::from_be_bytes(*b"RUST");

/// A panic is a broken invariant: the kernel's memory can no longer be trusted, so the machine stops.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (line, column, file) = info.location().map_or((0, 0, ""), |at| (at.line(), at.column(), at.file()));
    // SAFETY: callable at any IRQL with any parameters; it does not return.
    unsafe {
        KeBugCheckEx(BUGCHECK_PANIC, line as usize, column as usize, file.as_ptr() as usize, file.len())
    }
}
