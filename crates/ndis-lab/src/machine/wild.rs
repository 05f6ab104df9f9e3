//! Wild pointers that a function of the lab follows for the driver: an argument, a `Next` link, an MDL's address.
//!
//! On Windows the kernel faults and the machine stops. Here the trap is in the middle of a function of the lab, which may
//! hold locks and cannot be left. So it goes on: the register with the wild address is turned to a **scratch** region of
//! zeros, where reads find nothing and writes do no harm, the instruction is repeated, and when the function has ended the
//! touch is reported and the machine stops. Linux only; called from the signal handler, where it neither allocates nor locks.

#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // registers of x64 are as wide as its addresses

use std::cell::Cell;
use std::sync::OnceLock;

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};
use libc::{c_int, ucontext_t};

use super::{Machine, Stopped, thread};
use crate::rules;

/// `PAGE_FAULT_IN_NONPAGED_AREA`.
const PAGE_FAULT: u32 = 0x50;
/// Bytes of the scratch region; a wild address is turned to its middle.
const SCRATCH: usize = 1 << 20;
/// Traps after which one function is given up: it would never end.
const MOST_TRAPS: u32 = 100_000;
/// The longest instruction.
const LONGEST: usize = 15;
/// Addresses that lie in one page with another one differ in these bits only.
const IN_PAGE: usize = 0xfff;

/// Where the scratch region begins; 0 if the host gave none.
static START: OnceLock<usize> = OnceLock::new();

/// The wild addresses that a thread has touched since the last report.
#[derive(Default)]
pub(crate) struct Touches {
    first: Cell<usize>,
    count: Cell<u32>,
}

impl Touches {
    pub(super) const fn new() -> Self {
        Self { first: Cell::new(0), count: Cell::new(0) }
    }
}

/// Takes the memory, and has the decoder build its tables, so that the signal handler need not.
pub(super) fn prepare() {
    START.get_or_init(|| {
        let mut decoder = Decoder::new(64, &[0x90], DecoderOptions::NONE);
        let decodes = !decoder.decode().is_invalid();
        // SAFETY: a new anonymous mapping, placed by the host, that touches no other memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SCRATCH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED || !decodes { 0 } else { start as usize }
    });
}

/// The place of a register in a signal's context.
pub(super) fn slot(register: Register) -> Option<usize> {
    let slot: c_int = match register {
        Register::RAX => libc::REG_RAX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RBX => libc::REG_RBX,
        Register::RBP => libc::REG_RBP,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => return None,
    };
    usize::try_from(slot).ok()
}

/// Whether `address` is one that the processor takes.
fn is_canonical(address: usize) -> bool {
    // Bits 47 to 63 are the same.
    matches!(address.cast_signed() >> 47, 0 | -1)
}

/// Turns the memory operand of the trapped instruction to the scratch region, if the trap is one of a function of the lab that
/// works for a driver. True: the instruction can be repeated.
///
/// # Safety
/// `context` is that of a `SIGSEGV` or `SIGBUS` of this thread, whose instruction pointer leads to code of this process;
/// `fault` is the address that the host reports (0 for one that is not canonical).
pub(super) unsafe fn divert(fault: usize, context: *mut ucontext_t) -> bool {
    let Some(&start) = START.get().filter(|&&start| start != 0) else { return false };
    // SAFETY: the caller's context.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let rip = registers[usize::try_from(libc::REG_RIP).unwrap_or(0)].cast_unsigned() as usize;
    if fault == rip {
        // A jump to where no code is.
        return false;
    }
    // SAFETY: code of the lab is followed by more of it, or by read-only data, for more than an instruction's length; nobody
    // writes it.
    let bytes = unsafe { (rip as *const [u8; LONGEST]).read_unaligned() };
    let instruction = Decoder::with_ip(64, &bytes, rip as u64, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return false;
    }
    let middle = start + SCRATCH / 2;
    let mut address = None;
    for operand in 0..instruction.op_count() {
        let Some((register, at)) = target(&instruction, operand, registers) else { continue };
        let reported = fault != 0 && at & !IN_PAGE == fault & !IN_PAGE;
        if reported || !is_canonical(at) || at < 1 << 16 {
            // Alignment is kept, for instructions that insist on it.
            let turned = middle + (at & 63);
            let moved = registers[register].wrapping_add(turned.wrapping_sub(at) as i64);
            registers[register] = moved;
            address = address.or(Some(if fault == 0 { at } else { fault }));
        }
    }
    let Some(address) = address else { return false };
    let counted = thread::try_with(|thread| {
        let count = thread.wild.count.get();
        // In the scratch region it is the walk of a loop that was turned there before.
        if count == 0 {
            thread.wild.first.set(address);
        }
        thread.wild.count.set(count + 1);
        count < MOST_TRAPS
    });
    counted == Some(true)
}

/// The register that leads a memory operand, and the address of the operand.
fn target(instruction: &Instruction, operand: u32, registers: &[i64]) -> Option<(usize, usize)> {
    let value = |slot: usize| registers[slot].cast_unsigned() as usize;
    match instruction.op_kind(operand) {
        OpKind::MemorySegRSI => slot(Register::RSI).map(|slot| (slot, value(slot))),
        OpKind::MemoryESRDI => slot(Register::RDI).map(|slot| (slot, value(slot))),
        OpKind::Memory => {
            let base = slot(instruction.memory_base())?;
            let index = slot(instruction.memory_index()).map_or(0, value);
            let scale = instruction.memory_index_scale() as usize;
            let displacement = usize::try_from(instruction.memory_displacement64()).ok()?;
            let at = value(base).wrapping_add(index.wrapping_mul(scale)).wrapping_add(displacement);
            Some((base, at))
        }
        _ => None,
    }
}

impl Machine {
    /// Reports what the function that ends now, or the lab itself after a handler, has touched for the driver, and stops the
    /// machine, as the touch itself does on Windows.
    ///
    /// # Errors
    /// [`Stopped`] if there was something.
    pub(crate) fn settle_wild(&self, of: &str) -> Result<(), Stopped> {
        let (address, count) = thread::with(|thread| (thread.wild.first.get(), thread.wild.count.take()));
        if count == 0 {
            return Ok(());
        }
        if let Some(&start) = START.get() {
            // Zeros again for the next machine; a thread of another one that is there now sees them a little early.
            // SAFETY: whole pages of the lab's own mapping, which nobody expects anything of.
            unsafe { libc::madvise(start as *mut libc::c_void, SCRATCH, libc::MADV_DONTNEED) };
        }
        let text = format!("{of} followed a pointer to {address:#x}, where there is no memory");
        self.violate(rules::POINTER_WILD, text.clone());
        Err(self.stop(PAGE_FAULT, [address as u64, 0, 0, 0], text))
    }
}
