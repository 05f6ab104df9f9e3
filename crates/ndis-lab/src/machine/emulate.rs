//! Privileged instructions that kernel code inlines: CR8, which is the IRQL, and fast-fail.
//!
//! `KeGetCurrentIrql`, `KeRaiseIrql` and `KeLowerIrql` are reads and writes of CR8 on x64. In user
//! mode they trap. A read is answered in the trap itself; a write may have to run DPCs, so the thread
//! goes on in [`write_irql`] as if the driver had called it there, with every register saved.

use std::arch::naked_asm;

use libc::{c_int, ucontext_t};

use super::{DISPATCH, HIGH, Machine, switch, thread};
use crate::rules;

/// `KERNEL_SECURITY_CHECK_FAILURE`.
pub(super) const SECURITY_CHECK: u32 = 0x139;
/// Saved state of the vector unit: x87, SSE, AVX and AVX-512 need less than this.
const VECTORS: usize = 4096;

/// What a privileged instruction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// `mov register, cr8`
    ReadIrql(usize),
    /// `mov cr8, register`
    WriteIrql(usize),
    /// `int 29h`
    FastFail,
    /// `int 2Ch`: NT_ASSERT
    Assertion,
}

/// Decodes the instruction at the start of `bytes`: (what, length).
pub(super) fn decode(bytes: [u8; 4]) -> Option<(Instruction, i64)> {
    match bytes {
        [0xcd, 0x29, ..] => Some((Instruction::FastFail, 2)),
        [0xcd, 0x2c, ..] => Some((Instruction::Assertion, 2)),
        // REX.R makes control register 0 into 8; REX.B reaches R8-R15; REX.W does not matter.
        [rex @ (0x44 | 0x45 | 0x4c | 0x4d), 0x0f, operation @ (0x20 | 0x22), modrm]
            if modrm & 0xf8 == 0xc0 =>
        {
            let register = usize::from(modrm & 7 | (rex & 1) << 3);
            let what = if operation == 0x20 {
                Instruction::ReadIrql(register)
            } else {
                Instruction::WriteIrql(register)
            };
            Some((what, 4))
        }
        _ => None,
    }
}

/// Registers of a signal's context, in the order of the processor's numbers.
pub(super) const GENERAL: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// What [`write_irql`] needs to go on where the instruction was.
#[repr(C)]
struct Saved {
    general: [i64; 16],
    rip: i64,
    flags: i64,
    value: i64,
}

/// Bytes of [`Saved`], as [`write_irql`] counts them.
const SAVED: i64 = 19 * 8;
const _: () = assert!(size_of::<Saved>() == 19 * 8);

/// How a trap is dealt with.
pub(super) enum Outcome {
    /// The context was changed: go on.
    Done,
    /// The driver asked for a bugcheck, with this code.
    FastFail(u64),
    /// An assertion of the driver fails.
    Assertion,
    /// Not an instruction of this module's.
    Foreign,
}

/// Looks at the instruction that trapped in driver code.
///
/// # Safety
/// `context` is that of a synchronous trap in driver code that runs on this thread, and none of the
/// lab's functions runs on its behalf.
pub(super) unsafe fn emulate(signal: c_int, context: *mut ucontext_t) -> Outcome {
    if signal != libc::SIGSEGV {
        return Outcome::Foreign;
    }
    // SAFETY: the caller's context.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let index = |register: c_int| usize::try_from(register).unwrap_or(0);
    let rip = registers[index(libc::REG_RIP)];
    // SAFETY: four bytes of code: the processor has just fetched the first of them. An instruction
    // of two bytes at the very end of its section ends in a page that is mapped to the end, and a
    // page starts on a multiple of four times 1024.
    let bytes = unsafe {
        let first = (rip as *const [u8; 2]).read_unaligned();
        if first[0] == 0xcd || rip & 0xfff > 0xffc {
            [first[0], first[1], 0, 0]
        } else {
            (rip as *const [u8; 4]).read_unaligned()
        }
    };
    let Some((what, length)) = decode(bytes) else { return Outcome::Foreign };
    match what {
        Instruction::Assertion => Outcome::Assertion,
        Instruction::FastFail => Outcome::FastFail(registers[index(libc::REG_RCX)].cast_unsigned()),
        Instruction::ReadIrql(register) => {
            registers[index(GENERAL[register])] = i64::from(thread::irql());
            registers[index(libc::REG_RIP)] = rip + length;
            Outcome::Done
        }
        Instruction::WriteIrql(register) => {
            let saved = Saved {
                general: GENERAL.map(|register| registers[index(register)]),
                rip: rip + length,
                flags: registers[index(libc::REG_EFL)],
                value: registers[index(GENERAL[register])],
            };
            let stack = registers[index(libc::REG_RSP)];
            let place = (stack - 256 - SAVED) & !63;
            // SAFETY: the stack below the driver's pointer is free: code for Windows has no red zone.
            unsafe { (place as *mut Saved).write(saved) };
            registers[index(libc::REG_RSP)] = place;
            registers[index(libc::REG_RIP)] = write_irql as *const () as i64;
            Outcome::Done
        }
    }
}

/// The name of the instruction at an address, if it is one that only the kernel may execute.
pub(super) fn privileged(at: usize) -> Option<String> {
    use iced_x86::{Decoder, DecoderOptions};
    let mut bytes = [0x90_u8; 15];
    let left = (4096 - (at & 4095)).min(15);
    if !super::guard::readable(at) {
        return None;
    }
    // SAFETY: the processor has just fetched the instruction from there; no byte of the next page is read.
    unsafe { std::ptr::copy_nonoverlapping(at as *const u8, bytes.as_mut_ptr(), left) };
    let instruction = Decoder::with_ip(64, &bytes, at as u64, DecoderOptions::NONE).decode();
    if !instruction.is_privileged() || instruction.is_invalid() {
        return None;
    }
    Some(format!("{:?}", instruction.mnemonic()).to_lowercase())
}

/// Sets the IRQL as a write of CR8 does.
extern "sysv64" fn set_irql(value: i64) {
    let stopped = {
        let Some(machine) = thread::with(thread::Thread::machine) else { return };
        // SAFETY: as in `exports::run`: the entry keeps the machine alive.
        let machine = unsafe { machine.as_ref() };
        let outer = thread::with(|thread| thread.set_function(Some("mov cr8")));
        let result = machine.write_irql(value);
        thread::with(|thread| thread.set_function(outer));
        result.is_err()
    };
    if stopped {
        // SAFETY: the innermost frame of this thread; between here and there lie frames of the
        // driver and `write_irql`, which owns nothing.
        unsafe { switch::leave(thread::with(thread::Thread::frame)) }
    }
}

impl Machine {
    fn write_irql(&self, value: i64) -> Result<(), super::Stopped> {
        let old = thread::irql();
        let Some(new) = u8::try_from(value).ok().filter(|new| *new <= HIGH) else {
            self.violate(rules::IRQL_LOWERED, format!("CR8 is set to {value:#x}"));
            return Err(self.stop(0xa, [value.cast_unsigned(), u64::from(old), 0, 0], "CR8 holds no IRQL"));
        };
        if new >= old {
            self.raise(new);
            return Ok(());
        }
        let held = thread::with(|thread| thread.held.borrow().last().copied());
        if let Some(lock) = held.filter(|_| new < DISPATCH) {
            self.violate(
                rules::LOCK_ORDER,
                format!("{} {:#x} is held while the IRQL is lowered", lock.kind, lock.address),
            );
        }
        self.lower(new)
    }
}

/// Runs [`set_irql`] and goes on behind the instruction. RSP points to a [`Saved`].
#[unsafe(naked)]
unsafe extern "sysv64" fn write_irql() {
    naked_asm!(
        "cld",
        "mov rbx, rsp",
        "sub rsp, {vectors}",
        // The header of the save area must be zero where XSAVE does not write it.
        "lea rdi, [rsp + 512]",
        "xor eax, eax",
        "mov ecx, 8",
        "rep stosq",
        "mov eax, 0xe7",
        "xor edx, edx",
        "xsave64 [rsp]",
        "mov rdi, [rbx + 144]",
        "call {set}",
        "mov eax, 0xe7",
        "xor edx, edx",
        "xrstor64 [rsp]",
        // Flags and address go where POPF and RET find them, right below the driver's stack pointer.
        "mov rax, [rbx + 32]",
        "sub rax, 16",
        "mov rcx, [rbx + 136]",
        "mov [rax], rcx",
        "mov rcx, [rbx + 128]",
        "mov [rax + 8], rcx",
        "mov [rbx + 32], rax",
        "mov rax, [rbx]",
        "mov rcx, [rbx + 8]",
        "mov rdx, [rbx + 16]",
        "mov rbp, [rbx + 40]",
        "mov rsi, [rbx + 48]",
        "mov rdi, [rbx + 56]",
        "mov r8, [rbx + 64]",
        "mov r9, [rbx + 72]",
        "mov r10, [rbx + 80]",
        "mov r11, [rbx + 88]",
        "mov r12, [rbx + 96]",
        "mov r13, [rbx + 104]",
        "mov r14, [rbx + 112]",
        "mov r15, [rbx + 120]",
        "mov rsp, [rbx + 32]",
        "mov rbx, [rbx + 24]",
        "popfq",
        "ret",
        vectors = const VECTORS,
        set = sym set_irql,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encodings_that_compilers_emit_are_known() {
        // Checked against an assembler: mov rax, cr8; mov r9, cr8; mov cr8, rcx; mov cr8, r15.
        assert_eq!(decode([0x44, 0x0f, 0x20, 0xc0]), Some((Instruction::ReadIrql(0), 4)));
        assert_eq!(decode([0x45, 0x0f, 0x20, 0xc1]), Some((Instruction::ReadIrql(9), 4)));
        assert_eq!(decode([0x44, 0x0f, 0x22, 0xc1]), Some((Instruction::WriteIrql(1), 4)));
        assert_eq!(decode([0x45, 0x0f, 0x22, 0xc7]), Some((Instruction::WriteIrql(15), 4)));
        // Other control registers are nothing that a driver may touch.
        assert_eq!(decode([0x0f, 0x20, 0xc0, 0x90]), None);
        assert_eq!(decode([0x44, 0x0f, 0x20, 0xd8]), None);
        assert_eq!(decode([0xcd, 0x29, 0, 0]), Some((Instruction::FastFail, 2)));
        assert_eq!(decode([0xcd, 0x2a, 0, 0]), None);
    }

    use crate::machine::thread::handler;
    use crate::machine::{Entry, Options, PASSIVE, Stopped, processor_block};

    /// Runs machine code as a driver's function.
    fn run(machine: &Machine, code: &[u8]) -> Result<u64, Stopped> {
        let mut memory = region::alloc(code.len(), region::Protection::READ_WRITE).unwrap();
        // SAFETY: the allocation holds the code, and nobody else knows it; then it is only executed:
        // a function that takes nothing.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), memory.as_mut_ptr::<u8>(), code.len());
            region::protect(memory.as_ptr::<u8>(), memory.len(), region::Protection::READ_EXECUTE).unwrap();
            let entry = Entry { handler: handler::DRIVER_ENTRY, driver: 1, adapter: None, irql: PASSIVE };
            machine.enter(entry, memory.as_ptr::<u8>() as usize, [0; 8])
        }
    }

    #[test]
    fn cr8_is_the_irql() {
        let machine = Machine::new(Options::for_tests());
        // mov r9d, 7; mov r15d, 2; mov rax, cr8; mov cr8, r15; mov r10, cr8; shl r10, 8; or rax, r10;
        // xor ecx, ecx; mov cr8, rcx; mov rdx, cr8; shl rdx, 16; or rax, rdx; shl r9, 24; or rax, r9; ret
        let code = [
            0x41, 0xb9, 7, 0, 0, 0, 0x41, 0x57, 0x41, 0xbf, 2, 0, 0, 0, 0x44, 0x0f, 0x20, 0xc0, 0x45, 0x0f,
            0x22, 0xc7, 0x45, 0x0f, 0x20, 0xc2, 0x49, 0xc1, 0xe2, 8, 0x4c, 0x09, 0xd0, 0x31, 0xc9, 0x44,
            0x0f, 0x22, 0xc1, 0x44, 0x0f, 0x20, 0xc2, 0x48, 0xc1, 0xe2, 16, 0x48, 0x09, 0xd0, 0x49, 0xc1,
            0xe1, 24, 0x4c, 0x09, 0xc8, 0x41, 0x5f, 0xc3,
        ];
        // PASSIVE_LEVEL, then DISPATCH_LEVEL, then PASSIVE_LEVEL again; R9 is not touched.
        assert_eq!(run(&machine, &code).unwrap(), 7 << 24 | 2 << 8);
        assert_eq!(machine.violations(), []);
        // Left at DISPATCH_LEVEL: mov ecx, 2; mov cr8, rcx; ret
        run(&machine, &[0xb9, 2, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc1, 0xc3]).unwrap();
        assert_eq!(machine.take_violations()[0].rule, rules::IRQL_CHANGED);
        // No IRQL: mov ecx, 16; mov cr8, rcx; ret
        run(&machine, &[0xb9, 16, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc1, 0xc3]).unwrap_err();
        assert_eq!(machine.bugcheck().unwrap().code, 0xa);
    }

    #[test]
    fn gs_leads_to_the_processor_block() {
        let machine = Machine::new(Options::for_tests());
        // mov rax, gs:[0x188]; ret
        let thread = run(&machine, &[0x65, 0x48, 0x8b, 0x04, 0x25, 0x88, 1, 0, 0, 0xc3]).unwrap();
        assert_eq!(thread, processor_block::current_thread() as u64);
        // mov rax, gs:[0x18]; ret
        assert_ne!(run(&machine, &[0x65, 0x48, 0x8b, 0x04, 0x25, 0x18, 0, 0, 0, 0xc3]).unwrap(), 0);
    }

    #[test]
    fn a_fast_fail_stops_the_machine() {
        let machine = Machine::new(Options::for_tests());
        // mov ecx, 2; int 29h
        run(&machine, &[0xb9, 2, 0, 0, 0, 0xcd, 0x29]).unwrap_err();
        let stop = machine.bugcheck().unwrap();
        assert_eq!((stop.code, stop.parameters[0]), (SECURITY_CHECK, 2), "{stop}");
    }
}
