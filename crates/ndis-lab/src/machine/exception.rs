//! Which traps of driver code are exceptions, that its `__try` may handle, and what a handler is told of them.
//!
//! As on Windows, an access to memory of programs that is not there is an exception, and so are a division by zero, an
//! illegal instruction, a breakpoint without a debugger and a failed assertion. An access to kernel memory that is not
//! there is none, nor is any page fault at DISPATCH_LEVEL: they stop the machine at once.

use std::cell::{Cell, UnsafeCell};

use iced_x86::{Decoder, DecoderOptions, OpKind, Register};
use libc::{c_int, siginfo_t, ucontext_t};

use super::seh::{Context, Record};
use super::{DISPATCH, Machine, emulate, thread};

/// Stands for `int 29h`, by which code fails fast.
pub(super) const FAST_FAIL: c_int = -1;
/// Stands for `int 2Ch`, by which an assertion fails.
pub(super) const ASSERTION: c_int = -2;

const STATUS_ACCESS_VIOLATION: u32 = 0xc000_0005;
const STATUS_BREAKPOINT: u32 = 0x8000_0003;
const STATUS_ILLEGAL_INSTRUCTION: u32 = 0xc000_001d;
const STATUS_INTEGER_DIVIDE_BY_ZERO: u32 = 0xc000_0094;
const STATUS_INTEGER_OVERFLOW: u32 = 0xc000_0095;
const STATUS_ASSERTION_FAILURE: u32 = 0xc000_0420;

/// `ExceptionInformation[0]` of an access violation.
const READ: u64 = 0;
const WRITE: u64 = 1;
const EXECUTE: u64 = 8;

/// `si_code` of a trap that is not about one page: a general protection fault.
const SI_KERNEL: c_int = 0x80;
/// `FPE_INTDIV`, which the host says of both errors of a division.
const FPE_INTDIV: c_int = 1;
/// The longest instruction.
const LONGEST: usize = 15;

/// What is known of a trap beside the registers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fault {
    /// The address that was touched; 0 for a general protection fault.
    pub(super) address: usize,
    /// [`READ`], [`WRITE`] or [`EXECUTE`].
    access: u64,
    /// A general protection fault: the address is not canonical, or not aligned as the instruction wants it.
    protection: bool,
    /// `si_code`.
    code: c_int,
}

/// The registers of the last trap of a thread, from its signal handler to where the thread goes on.
pub(crate) struct Slot {
    context: UnsafeCell<Context>,
    fault: Cell<Fault>,
    full: Cell<bool>,
}

impl Slot {
    pub(super) const fn new() -> Self {
        let fault = Fault { address: 0, access: READ, protection: false, code: 0 };
        Self { context: UnsafeCell::new(Context::ZERO), fault: Cell::new(fault), full: Cell::new(false) }
    }

    /// Keeps what a trap is about, and its registers if the thread's stack is one that can be walked.
    ///
    /// # Safety
    /// Both are those of a trap of this thread.
    pub(super) unsafe fn keep(&self, info: *const siginfo_t, trap: *const ucontext_t, sound: bool) {
        // SAFETY: the caller's; the union's address is meant for every signal that is handled.
        let (code, address, registers) =
            unsafe { ((*info).si_code, (*info).si_addr() as usize, &(*trap).uc_mcontext) };
        let error = registers.gregs[usize::try_from(libc::REG_ERR).unwrap_or(0)];
        // The error code of a page fault: bit 1 for a write, bit 4 for a fetch of code.
        let access = match error {
            error if error & 0x10 != 0 => EXECUTE,
            error if error & 2 != 0 => WRITE,
            _ => READ,
        };
        self.fault.set(Fault { address, access, protection: code == SI_KERNEL, code });
        self.full.set(sound);
        if sound {
            // SAFETY: this thread's own, which nothing refers to: `take` copies it.
            unsafe { (*self.context.get()).set(registers) };
        }
    }

    /// What was kept last, once.
    pub(super) fn take(&self) -> (Fault, Option<Context>) {
        // SAFETY: this thread's own, written by its signal handler only, which does not run now.
        let context = self.full.replace(false).then(|| unsafe { *self.context.get() });
        (self.fault.get(), context)
    }
}

impl Machine {
    /// The exception that a trap of driver code is, at the instruction `at`; `None` if it stops the machine at once.
    /// `context` has the registers, if they are known.
    pub(super) fn exception(
        &self,
        signal: c_int,
        fault: &Fault,
        at: usize,
        context: Option<&Context>,
    ) -> Option<Record> {
        let address = fault.address as u64;
        let (code, information): (u32, &[u64]) = match signal {
            ASSERTION => (STATUS_ASSERTION_FAILURE, &[]),
            libc::SIGTRAP => (STATUS_BREAKPOINT, &[0]),
            libc::SIGILL => (STATUS_ILLEGAL_INSTRUCTION, &[]),
            libc::SIGFPE if fault.code == FPE_INTDIV => {
                let by = context.and_then(|context| divisor(at, &context.general));
                let by_zero = by.is_none_or(|divisor| divisor == 0);
                (if by_zero { STATUS_INTEGER_DIVIDE_BY_ZERO } else { STATUS_INTEGER_OVERFLOW }, &[])
            }
            // The processor does not say which address was not canonical.
            libc::SIGSEGV if fault.protection && emulate::privileged(at).is_none() => {
                (STATUS_ACCESS_VIOLATION, &[READ, u64::MAX])
            }
            libc::SIGSEGV | libc::SIGBUS
                if !fault.protection && thread::irql() < DISPATCH && self.is_user(fault.address) =>
            {
                (STATUS_ACCESS_VIOLATION, &[fault.access, address])
            }
            _ => return None,
        };
        Some(Record::new(code, at as u64, information))
    }
}

/// The code and the parameters of the bug check that a trap is; `unhandled` if it is an exception that nothing handled.
pub(super) fn stop_code(
    unhandled: Option<&Record>,
    signal: c_int,
    fault: &Fault,
    at: usize,
) -> (u32, [u64; 4]) {
    let (address, at, irql) = (fault.address as u64, at as u64, thread::irql());
    let memory = matches!(signal, libc::SIGSEGV | libc::SIGBUS) && !fault.protection;
    match unhandled {
        // KMODE_EXCEPTION_NOT_HANDLED
        Some(record) => (0x1e, [record.code.into(), at, record.information[0], record.information[1]]),
        // DRIVER_IRQL_NOT_LESS_OR_EQUAL
        None if memory && irql >= DISPATCH => (0xd1, [address, irql.into(), fault.access, at]),
        // PAGE_FAULT_IN_NONPAGED_AREA
        None if memory => (0x50, [address, fault.access, at, 0]),
        None => (0x1e, [STATUS_ILLEGAL_INSTRUCTION.into(), at, 0, 0]),
    }
}

/// What the division at an address divided by.
fn divisor(at: usize, registers: &[u64; 16]) -> Option<u64> {
    let mut bytes = [0x90_u8; LONGEST];
    let left = (4096 - (at & 4095)).min(LONGEST);
    // SAFETY: the processor has just executed the instruction there; no byte of the next page is read.
    unsafe { std::ptr::copy_nonoverlapping(at as *const u8, bytes.as_mut_ptr(), left) };
    let instruction = Decoder::with_ip(64, &bytes, at as u64, DecoderOptions::NONE).decode();
    let value = |register: Register| match register {
        Register::AH | Register::BH | Register::CH | Register::DH => {
            Some(registers[register.number() - Register::AH.number()] >> 8)
        }
        register if register.is_gpr() => Some(registers[register.full_register().number()]),
        // The base of a segment that has none.
        register if register.is_segment_register() => Some(0),
        _ => None,
    };
    let (value, size) = match instruction.op_kind(0) {
        OpKind::Register => (value(instruction.op_register(0))?, instruction.op_register(0).size()),
        OpKind::Memory => {
            let address = instruction.virtual_address(0, 0, |register, _, _| value(register))?;
            let (mut bytes, size) = ([0_u8; 8], instruction.memory_size().size().min(8));
            // SAFETY: the processor has just loaded the divisor from there.
            unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), size) };
            (u64::from_le_bytes(bytes), size)
        }
        _ => return None,
    };
    Some(if size >= 8 { value } else { value & ((1 << (8 * size)) - 1) })
}

#[cfg(test)]
mod tests {
    use super::divisor;

    #[test]
    fn divisors_are_found_in_registers_and_memory() {
        let cell = 0x1122_3344_0000_0000_u64;
        let mut registers = [0_u64; 16];
        registers[1] = 0xffff_0000_0000_0000;
        registers[3] = (&raw const cell) as u64 - 4;
        registers[9] = 0x5500;
        for (code, expected) in [
            // div rcx; div ecx; div cx; div cl
            (&[0x48_u8, 0xf7, 0xf1][..], 0xffff_0000_0000_0000),
            (&[0xf7, 0xf1], 0),
            (&[0x66, 0xf7, 0xf1], 0),
            (&[0xf6, 0xf1], 0),
            // idiv r9w; div dword ptr [rbx + 4]; div qword ptr [rbx + 4]
            (&[0x66, 0x41, 0xf7, 0xf9], 0x5500),
            (&[0xf7, 0x73, 4], 0),
            (&[0x48, 0xf7, 0x73, 4], cell),
        ] {
            let mut bytes = code.to_vec();
            bytes.resize(32, 0x90);
            assert_eq!(divisor(bytes.as_ptr() as usize, &registers), Some(expected), "{code:x?}");
        }
        registers[1] = 0x0700;
        // div ch
        let mut bytes = vec![0xf6_u8, 0xf5];
        bytes.resize(32, 0x90);
        assert_eq!(divisor(bytes.as_ptr() as usize, &registers), Some(7));
    }
}
