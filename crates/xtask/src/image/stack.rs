//! The check of stack frames, from the unwind information (x64 exception handling, `UNWIND_INFO`).

use super::{Finding, Image, Subject};

/// The largest frame that passes, in bytes: a third of the 12 KiB that a driver may count on. Frames of the data path are
/// to stay below 1 KiB; which functions those are, an image does not say.
const LARGEST: u32 = 4096;

pub(super) fn frames(subject: &Subject<'_>) -> Finding {
    let symbols = subject.symbols.as_ref().and_then(|symbols| symbols.as_ref().ok());
    let mut frames = Vec::new();
    for function in subject.image.functions() {
        let name = symbols.and_then(|symbols| symbols.function_at(function.begin));
        let name = name.map_or_else(|| format!("{:#x}", function.begin), str::to_owned);
        match frame_size(subject.image, function.unwind) {
            Some(size) => frames.push((size, name)),
            None => return Finding::failed(format!("the unwind information of {name} is malformed")),
        }
    }
    frames.sort_unstable_by(|one, other| other.cmp(one));
    let shown = |(size, name): &(u32, String)| format!("{size} bytes in {name}");
    let offenders: Vec<String> = frames.iter().filter(|(size, _)| *size > LARGEST).map(shown).collect();
    let above = frames.iter().filter(|(size, _)| *size > 1024).count();
    let largest = frames.first().map_or_else(|| "no frame".into(), shown);
    Finding::passed_unless(&offenders, format!("largest: {largest}; {above} of {} above 1 KiB", frames.len()))
}

/// Bytes that a function's prologue takes of the stack: what it pushes and what it allocates. `None` if the information
/// is malformed.
fn frame_size(image: &Image<'_>, unwind: u32) -> Option<u32> {
    const HEADER: u32 = 4;
    let header = image.at(unwind..unwind.checked_add(HEADER)?)?;
    let start = unwind + HEADER;
    let codes = image.at(start..start.checked_add(u32::from(header[2]) * 2)?)?;
    let mut codes = codes.chunks_exact(2).map(|code| u16::from_le_bytes([code[0], code[1]]));
    let mut size = 0_u32;
    while let Some(code) = codes.next() {
        let (operation, info) = (code >> 8 & 0xf, u32::from(code >> 12));
        let (bytes, more) = match operation {
            0 => (8, 0),                                                         // UWOP_PUSH_NONVOL
            1 if info == 0 => (u32::from(codes.next()?) * 8, 0), // UWOP_ALLOC_LARGE, in units of 8
            1 => (u32::from(codes.next()?) | u32::from(codes.next()?) << 16, 0), // UWOP_ALLOC_LARGE, in bytes
            2 => (info * 8 + 8, 0),                              // UWOP_ALLOC_SMALL
            3 | 6 | 10 => (0, 0), // UWOP_SET_FPREG, UWOP_EPILOG, UWOP_PUSH_MACHFRAME
            4 | 8 => (0, 1),      // UWOP_SAVE_NONVOL, UWOP_SAVE_XMM128
            5 | 9 => (0, 2),      // the same, far
            _ => return None,
        };
        size = size.checked_add(bytes)?;
        for _ in 0..more {
            codes.next()?;
        }
    }
    Some(size)
}
