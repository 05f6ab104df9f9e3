//! KUSER_SHARED_DATA: the page at 0xFFFFF780'00000000 that kernel code reads the time from.
//!
//! `KeQueryTickCount`, `KeQuerySystemTime` and `KeQueryInterruptTime` are reads of that page on x64. A program
//! cannot map it, so that they trap. The trap fills a **shadow** of the page, turns the register that led there
//! to the shadow, and lets the processor execute the one instruction; the next trap puts the register back.
//! Called in the signal handler, where it neither allocates nor locks.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use iced_x86::{Decoder, DecoderOptions, OpKind, Register};
use libc::ucontext_t;

use super::{Machine, thread};

/// Where Windows has the page, and its size.
const ADDRESS: usize = 0xffff_f780_0000_0000;
const PAGE: usize = 4096;
/// The longest instruction.
const LONGEST: usize = 15;
/// The trap flag: the processor traps behind the next instruction.
const TRAP_FLAG: i64 = 0x100;

/// Offsets of KUSER_SHARED_DATA.
mod field {
    pub(super) const TICK_MULTIPLIER: usize = 0x4;
    pub(super) const INTERRUPT_TIME: usize = 0x8;
    pub(super) const SYSTEM_TIME: usize = 0x14;
    pub(super) const BUILD: usize = 0x260;
    pub(super) const PRODUCT_TYPE: usize = 0x264;
    pub(super) const PRODUCT_TYPE_VALID: usize = 0x268;
    pub(super) const MAJOR: usize = 0x26c;
    pub(super) const TICK_COUNT: usize = 0x320;
    pub(super) const PROCESSORS: usize = 0x3c0;
}

/// The shadow; 0 if the host gave no memory.
static SHADOW: OnceLock<usize> = OnceLock::new();

/// A register that was turned to the shadow: its place in the context, what it was, what it is now.
#[derive(Default)]
pub(super) struct Turned(Cell<Option<(usize, i64, i64)>>);

impl Turned {
    pub(super) const fn new() -> Self {
        Self(Cell::new(None))
    }
}

/// Takes the memory.
pub(super) fn prepare() {
    SHADOW.get_or_init(|| {
        // SAFETY: a new anonymous mapping, placed by the host, that touches no other memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED { 0 } else { start as usize }
    });
}

/// Whether a touch is one of the page.
pub(super) fn holds(address: usize) -> bool {
    (ADDRESS..ADDRESS + PAGE).contains(&address)
}

impl Machine {
    /// Writes what the machine knows into the shadow.
    fn fill_shadow(&self, start: usize) {
        let word = |offset: usize, value: u32| {
            // SAFETY: an aligned number within the shadow, which all threads access atomically.
            let place = unsafe { AtomicU32::from_ptr((start + offset) as *mut u32) };
            // Relaxed: a clock; who reads it late reads an older time.
            place.store(value, Ordering::Relaxed);
        };
        // A KSYSTEM_TIME: the low half, the high half, and that once more.
        let time = |offset: usize, value: u64| {
            let high = (value >> 32) as u32;
            word(offset, (value & 0xffff_ffff) as u32);
            word(offset + 4, high);
            word(offset + 8, high);
        };
        time(field::INTERRUPT_TIME, self.ticks());
        time(field::SYSTEM_TIME, self.system_time());
        // 15.625 ms a tick; the multiplier has 24 bits behind the point.
        let ticks = self.ticks() / 156_250;
        // SAFETY: as above; TickCountQuad is aligned.
        let quad = unsafe { AtomicU64::from_ptr((start + field::TICK_COUNT) as *mut u64) };
        quad.store(ticks, Ordering::Relaxed);
        word(field::TICK_COUNT + 8, (ticks >> 32) as u32);
        word(field::TICK_MULTIPLIER, 0x0fa0_0000);
        word(field::BUILD, crate::exports::rtl::build(self.options.ndis_version));
        word(field::PRODUCT_TYPE, 1);
        word(field::PRODUCT_TYPE_VALID, 1);
        word(field::MAJOR, 10);
        word(field::PROCESSORS, self.options.processors);
    }

    /// Driver code on this thread trapped at an address of the page. True: it can go on.
    ///
    /// # Safety
    /// `context` is that of a synchronous trap in driver code that runs on this thread.
    pub(super) unsafe fn read_shared(&self, address: usize, context: *mut ucontext_t) -> bool {
        let Some(&start) = SHADOW.get().filter(|&&start| start != 0) else { return false };
        self.fill_shadow(start);
        // SAFETY: the caller's context.
        let registers = unsafe { &mut (*context).uc_mcontext.gregs };
        let place = |register| usize::try_from(register).unwrap_or(0);
        let rip = registers[place(libc::REG_RIP)];
        // SAFETY: code of the driver, of which the processor has just fetched the first byte; what lies behind
        // it in its section is readable, and a section that ends sooner is followed by zeros of its last page,
        // of which no more is read than the instruction needs below.
        let bytes = unsafe {
            let left = PAGE - usize::try_from(rip).unwrap_or(0) % PAGE;
            let mut bytes = [0x90_u8; LONGEST];
            std::ptr::copy_nonoverlapping(rip as *const u8, bytes.as_mut_ptr(), left.min(LONGEST));
            bytes
        };
        let instruction = Decoder::with_ip(64, &bytes, rip.cast_unsigned(), DecoderOptions::NONE).decode();
        let memory = (0..instruction.op_count()).any(|at| instruction.op_kind(at) == OpKind::Memory);
        if instruction.is_invalid() || !memory {
            return false;
        }
        let shift = start.wrapping_sub(ADDRESS).cast_signed() as i64;
        if instruction.memory_base() == Register::None {
            // MOV of the accumulator from a 64-bit address.
            return accumulate(&instruction, address - ADDRESS + start, registers);
        }
        let Some(slot) = super::wild::slot(instruction.memory_base()) else { return false };
        let old = registers[slot];
        registers[slot] = old.wrapping_add(shift);
        registers[place(libc::REG_EFL)] |= TRAP_FLAG;
        thread::with(|thread| thread.shared.0.set(Some((slot, old, registers[slot]))));
        true
    }
}

/// `mov al/ax/eax/rax, [address]`.
fn accumulate(instruction: &iced_x86::Instruction, address: usize, registers: &mut [i64]) -> bool {
    let accumulator = instruction.op0_register();
    if instruction.mnemonic() != iced_x86::Mnemonic::Mov || accumulator.full_register() != Register::RAX {
        return false;
    }
    let index = |register| usize::try_from(register).unwrap_or(0);
    let old = registers[index(libc::REG_RAX)].cast_unsigned();
    // SAFETY: within the shadow, which is never unmapped; the alignment is the driver's.
    let value = unsafe { (address as *const u64).read_unaligned() };
    let new = match accumulator.size() {
        8 => value,
        4 => value & 0xffff_ffff,
        2 => old & !0xffff | value & 0xffff,
        _ => old & !0xff | value & 0xff,
    };
    registers[index(libc::REG_RAX)] = new.cast_signed();
    registers[index(libc::REG_RIP)] += i64::try_from(instruction.len()).unwrap_or(0);
    true
}

/// The instruction behind a turned register has been executed: puts the register back, unless it was written.
/// False: the trap is another one.
///
/// # Safety
/// `context` is that of a `SIGTRAP` of this thread.
pub(super) unsafe fn stepped(context: *mut ucontext_t) -> bool {
    let turned = thread::try_with(|thread| thread.shared.0.take()).flatten();
    let Some((slot, old, now)) = turned else { return false };
    // SAFETY: the caller's context.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    if registers[slot] == now {
        registers[slot] = old;
    }
    registers[usize::try_from(libc::REG_EFL).unwrap_or(0)] &= !TRAP_FLAG;
    true
}

#[cfg(test)]
mod tests {
    use crate::machine::thread::handler;
    use crate::machine::{Entry, Machine, Options, PASSIVE};

    /// Runs machine code as a driver's function.
    fn run(machine: &Machine, code: &[u8]) -> u64 {
        let mut memory = region::alloc(code.len(), region::Protection::READ_WRITE).unwrap();
        // SAFETY: the allocation holds the code, and nobody else knows it; then it is only executed: a function
        // that takes nothing.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), memory.as_mut_ptr::<u8>(), code.len());
            region::protect(memory.as_ptr::<u8>(), memory.len(), region::Protection::READ_EXECUTE).unwrap();
            let entry = Entry { handler: handler::DRIVER_ENTRY, driver: 1, adapter: None, irql: PASSIVE };
            machine.enter(entry, memory.as_ptr::<u8>() as usize, [0; 8]).unwrap()
        }
    }

    #[test]
    fn the_time_is_read_as_compilers_read_it() {
        let machine = Machine::new(Options { seed: Some(1), ..Options::for_tests() });
        let begin = machine.system_time();
        // mov rax, 0FFFFF78000000014h; mov rax, [rax]; ret
        let time = run(&machine, &[0x48, 0xb8, 0x14, 0, 0, 0, 0x80, 0xf7, 0xff, 0xff, 0x48, 0x8b, 0, 0xc3]);
        assert!((begin..begin + 10_000_000).contains(&time), "{begin} {time}");
        // mov rcx, 0FFFFF78000000000h; mov eax, [rcx + 26Ch]; cmp eax, [rcx + 26Ch]; sete dl; movzx edx, dl;
        // shl edx, 8; or eax, edx; shr rcx, 32; shl rcx, 16; or rax, rcx; ret
        let version = run(
            &machine,
            &[
                0x48, 0xb9, 0, 0, 0, 0, 0x80, 0xf7, 0xff, 0xff, 0x8b, 0x81, 0x6c, 2, 0, 0, 0x3b, 0x81, 0x6c,
                2, 0, 0, 0x0f, 0x94, 0xc2, 0x0f, 0xb6, 0xd2, 0xc1, 0xe2, 8, 0x09, 0xd0, 0x48, 0xc1, 0xe9, 32,
                0x48, 0xc1, 0xe1, 16, 0x48, 0x09, 0xc8, 0xc3,
            ],
        );
        // The register that led there is as it was: its upper half is 0xFFFFF780.
        assert_eq!(version, (0xffff_f780 << 16) + (1 << 8) + 10);
        // mov eax, [0FFFFF780000003C0h], by a 64-bit address; ret
        let count = run(&machine, &[0xa1, 0xc0, 3, 0, 0, 0x80, 0xf7, 0xff, 0xff, 0xc3]);
        assert_eq!(count, u64::from(machine.options.processors));
        assert_eq!(machine.violations(), []);
    }
}
