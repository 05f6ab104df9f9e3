//! Processor traps in driver code: a wild access, an illegal instruction or an exhausted stack is an exception that
//! the driver may handle ([`super::exception`]), or stops the simulated machine instead of the process.
//!
//! A trap of a thread that runs driver code, and not a function of the lab on its behalf, resumes in
//! [`landed`] on the stack below the entry frame: the driver's frames are given up anyway. All other
//! traps go where they went before the lab came. A touch of guarded memory ([`super::guard`]) is reported by
//! the rule that it breaks, and a function of the lab that follows a driver's wild pointer goes on ([`super::wild`]).

use core::arch::naked_asm;
use std::ptr::{NonNull, null_mut};
use std::sync::Once;

use libc::{SA_NODEFER, SA_ONSTACK, SA_SIGINFO, c_int, c_void, sigaction, siginfo_t, ucontext_t};

use super::exception::{ASSERTION, FAST_FAIL, stop_code};
use super::{Machine, emulate, seh, switch, thread};
use crate::rules;

/// What processor traps become here.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

/// What handled the signals before.
static mut PREVIOUS: [Option<sigaction>; SIGNALS.len()] = [None; SIGNALS.len()];

/// Installs the handlers, once for the process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (index, signal) in SIGNALS.iter().enumerate() {
            // SAFETY: the structures are plain numbers and a handler of the right signature; within
            // `call_once` nobody else writes PREVIOUS, and the handler of a signal reads its entry
            // only after it was written here, save for a trap in between, which finds None.
            unsafe {
                let mut action: sigaction = std::mem::zeroed();
                action.sa_sigaction = handle as *const () as usize;
                // On the alternate stack, since the driver's may be exhausted.
                action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
                let mut old: sigaction = std::mem::zeroed();
                if libc::sigaction(*signal, &raw const action, &raw mut old) == 0 {
                    PREVIOUS[index] = Some(old);
                }
            }
        }
    });
}

#[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, clippy::cast_possible_truncation)] // addresses, and register numbers from libc
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the context of this trap.
    if signal == libc::SIGTRAP && unsafe { super::shared_data::stepped(context.cast()) } {
        return;
    }
    let memory = matches!(signal, libc::SIGSEGV | libc::SIGBUS);
    let works =
        thread::try_with(|thread| (thread.machine().is_some(), thread.function().is_some(), thread.irql()));
    if let Some((_, lab, irql)) = works.filter(|(for_driver, ..)| memory && *for_driver) {
        // SAFETY: the kernel passes the siginfo of this trap.
        let address = unsafe { (*info).si_addr() as usize };
        if super::guard::repair(address, irql, lab) {
            return;
        }
        if !lab && super::shared_data::holds(address) {
            let machine = thread::try_with(thread::Thread::machine).flatten();
            // SAFETY: the entry that set the pointer keeps the machine alive; the context is of this trap, in code
            // that the driver runs.
            if machine.is_some_and(|machine| unsafe { machine.as_ref().read_shared(address, context.cast()) })
            {
                return;
            }
        }
        let between = thread::try_with(|thread| thread.frame().is_null()) == Some(true);
        // SAFETY: the context of this trap, in code of the lab: a function, or its own between two handlers.
        if (lab || between) && unsafe { super::wild::divert(address, context.cast()) } {
            return;
        }
    }
    let driver = thread::try_with(|thread| {
        let in_driver = thread.machine().is_some() && thread.function().is_none();
        (in_driver && !thread.frame().is_null()).then(|| thread.frame())
    });
    let Some(Some(frame)) = driver else {
        // Not ours: put the former handler back and let the instruction trap again.
        let index = SIGNALS.iter().position(|known| *known == signal).unwrap_or(0);
        // SAFETY: PREVIOUS was written before this handler was in force; sigaction is safe to call
        // in a signal handler.
        unsafe {
            let old = (&raw const PREVIOUS).cast::<Option<sigaction>>().add(index).read();
            let default: sigaction = std::mem::zeroed();
            libc::sigaction(signal, &raw const *old.as_ref().unwrap_or(&default), null_mut());
        }
        return;
    };
    // SAFETY: the kernel passes the siginfo and context of this trap. A jump to where no code is has no instruction
    // to look at.
    let jumped = unsafe {
        let rip = (*context.cast::<ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize];
        memory && (*info).si_addr() as i64 == rip
    };
    let outcome = if jumped {
        emulate::Outcome::Foreign
    } else {
        // SAFETY: the context of a trap in driver code on this thread, as was just found out.
        unsafe { emulate::emulate(signal, context.cast()) }
    };
    let (signal, fail_code) = match outcome {
        emulate::Outcome::Done => return,
        emulate::Outcome::FastFail(code) => (FAST_FAIL, Some(code)),
        emulate::Outcome::Assertion => (ASSERTION, Some(0)),
        emulate::Outcome::Foreign => (signal, None),
    };
    // SAFETY: the kernel passes the siginfo and context of this trap; the frame belongs to this
    // thread, and below its stack pointer there are only frames that are given up here.
    unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        let address =
            fail_code.map_or_else(|| (*info).si_addr() as usize, |code| usize::try_from(code).unwrap_or(0));
        let at = registers[libc::REG_RIP as usize];
        let (stack_pointer, fault) = (registers[libc::REG_RSP as usize] as usize, (*info).si_addr() as usize);
        let mut set = |register: c_int, value: i64| registers[register as usize] = value;
        let jumped = matches!(signal, libc::SIGSEGV | libc::SIGBUS) && fault == at as usize;
        let entry = (*frame).stack_pointer() as usize;
        let sound = is_sound(entry, stack_pointer, fault);
        let (stack, from) = landing(entry, stack_pointer, at as usize, jumped, sound);
        let _ = thread::try_with(|thread| thread.trapped.keep(info, context.cast(), sound));
        (stack as *mut usize).write(from);
        set(libc::REG_RSP, stack as i64);
        set(libc::REG_RIP, trampoline as *const () as i64);
        set(libc::REG_RDI, signal.into());
        set(libc::REG_RSI, address as i64);
        set(libc::REG_RDX, at);
    }
}

/// Bytes of stack that [`landed`] may need.
const ROOM: usize = 64 << 10;
/// A driver's stack pointer further from its entry than this is no stack pointer.
const LARGEST_STACK: usize = 1 << 20;

/// Whether a driver's stack can be walked, and used further: its pointer leads to below its entry, and the trap
/// is not that of a stack which is used up.
fn is_sound(entry: usize, stack_pointer: usize, fault: usize) -> bool {
    (entry.saturating_sub(LARGEST_STACK)..entry - 64).contains(&stack_pointer)
        && stack_pointer.is_multiple_of(8)
        && fault.abs_diff(stack_pointer) > ROOM
}

/// Where a trapped thread goes on: a place of its stack, and the address to put there as if code at
/// that address had called. Below the driver's frames, which can be walked then; below its entry, and
/// with nothing to walk, if its stack is not sound.
///
/// # Safety
/// `entry` is the stack pointer of this thread's innermost entry.
unsafe fn landing(
    entry: usize,
    stack_pointer: usize,
    at: usize,
    jumped: bool,
    sound: bool,
) -> (usize, usize) {
    if !sound {
        return (((entry - 512) & !15) - 8, 0);
    }
    if jumped {
        // A call or jump to where no code is: the caller's address lies on the stack.
        // SAFETY: the stack between its pointer and the entry is readable.
        return (stack_pointer, unsafe { (stack_pointer as *const usize).read() });
    }
    (stack_pointer - 8, at)
}

/// Calls [`landed`] on an aligned stack. To unwinders it is the frame of a signal handler that
/// interrupted the driver.
#[unsafe(naked)]
pub(super) extern "sysv64" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_signal_frame",
        ".cfi_def_cfa rsp, 8",
        ".cfi_offset rip, -8",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "and rsp, -16",
        "call {landed}",
        "ud2",
        ".cfi_endproc",
        landed = sym landed,
    )
}

/// Where a trapped thread goes on, no longer in a signal handler.
extern "sysv64" fn landed(signal: c_int, address: usize, at: usize) -> ! {
    let frame = {
        let (machine, frame) = thread::with(|thread| (thread.machine(), thread.frame()));
        // SAFETY: the handler found driver code running for this machine, which its entry keeps
        // alive.
        let machine = unsafe { machine.unwrap_or(NonNull::dangling()).as_ref() };
        let (fault, mut context) = thread::with(|thread| thread.trapped.take());
        // A breakpoint traps behind its instruction.
        let back = usize::from(signal == libc::SIGTRAP);
        let at = at - back;
        if let Some(context) = &mut context {
            context.rip -= back as u64;
        }
        if signal == ASSERTION {
            machine.violate(rules::ASSERTION, format!("an assertion fails at {}", machine.place(at)));
        }
        let mut exception = machine.exception(signal, &fault, at, context.as_ref());
        if let (Some(record), Some(context)) = (&mut exception, &mut context) {
            // SAFETY: the driver's registers and its stack, which is sound; this function and what called it own nothing.
            unsafe { seh::dispatch(record, context) };
        }
        // Nothing has handled it.
        let exhausted = context.is_none() && matches!(signal, libc::SIGSEGV | libc::SIGBUS);
        let _ = stop(
            machine,
            signal,
            (address, at),
            exhausted,
            stop_code(exception.as_ref(), signal, &fault, at),
        );
        frame
    };
    // SAFETY: the innermost frame of this thread; this function owns nothing any more, and between
    // here and there lie frames of the driver only.
    unsafe { switch::leave(frame) }
}

/// Reports a trap and stops the machine. `address` is what was touched, `at` the instruction; `lost`: the stack cannot be used.
fn stop(
    machine: &Machine,
    signal: c_int,
    (address, at): (usize, usize),
    lost: bool,
    (code, parameters): (u32, [u64; 4]),
) -> super::Stopped {
    let place = machine.place(at);
    let memory = matches!(signal, libc::SIGSEGV | libc::SIGBUS);
    if let Some((rule, text, gone)) = super::guard::explain(address).filter(|_| memory) {
        let past = super::guard::given_away(gone);
        machine.violate_past(None, rule, format!("{text}; by {place}"), &past);
        let parameters = [address as u64, parameters[1], at as u64, 0];
        return machine.stop(special_code(rule), parameters, format!("access to {address:#x} by {place}"));
    }
    if let Some(section) = machine.discarded_at(address).filter(|_| memory) {
        machine.violate(rules::INIT_CODE, format!("{address:#x} of section {section}; by {place}"));
    }
    if lost {
        let text = format!("the kernel stack is used up, or its pointer is lost, at {place}");
        return machine.stop(UNEXPECTED_TRAP, [DOUBLE_FAULT, 0, at as u64, 0], text);
    }
    let privileged = if memory && address == 0 { emulate::privileged(at) } else { None };
    let what = match signal {
        FAST_FAIL => {
            let text = format!("fast-fail {address:#x} at {place}");
            return machine.stop(emulate::SECURITY_CHECK, [address as u64, 0, at as u64, 0], text);
        }
        ASSERTION => format!("assertion (int 2Ch) at {place}"),
        libc::SIGTRAP => format!("breakpoint at {place}, and no debugger is there"),
        libc::SIGSEGV if privileged.is_some() => {
            let instruction = privileged.unwrap_or_default();
            format!("`{instruction}` at {place}: the lab has no hardware behind it")
        }
        libc::SIGSEGV | libc::SIGBUS if address == at => format!("jump to {place}, where no code is"),
        libc::SIGSEGV | libc::SIGBUS => format!("access to {address:#x} by {place}"),
        libc::SIGILL => format!("illegal instruction at {place}"),
        _ => format!("arithmetic exception at {place}"),
    };
    machine.stop(code, parameters, what)
}

/// `UNEXPECTED_KERNEL_MODE_TRAP`, and its first parameter for a stack that is used up.
const UNEXPECTED_TRAP: u32 = 0x7f;
const DOUBLE_FAULT: u64 = 8;

/// What bugchecks Windows with special pool when a driver breaks this rule by a touch.
fn special_code(rule: &crate::rules::Rule) -> u32 {
    if rule == rules::IRQL_PAGED_ACCESS {
        // DRIVER_IRQL_NOT_LESS_OR_EQUAL
        0xd1
    } else if rule == rules::POOL_OVERRUN {
        // PAGE_FAULT_BEYOND_END_OF_ALLOCATION
        0xcd
    } else {
        // PAGE_FAULT_IN_FREED_SPECIAL_POOL
        0xcc
    }
}

impl Machine {
    /// Names an address of code: image and offset, or the bare number.
    fn place(&self, address: usize) -> String {
        let drivers: Vec<_> = self.objects.lock().drivers.values().cloned().collect();
        drivers
            .iter()
            .find_map(|driver| {
                let image = driver.image().filter(|image| image.contains(address))?;
                Some(format!("{}+{:#x}", driver.name, address - image.base()))
            })
            .unwrap_or_else(|| format!("{address:#x}"))
    }
}
