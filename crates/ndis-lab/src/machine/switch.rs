//! The way into driver code and the two ways out of it: a return, or a jump when the machine stops.
//!
//! A bugcheck does not return to its caller. The lab must therefore leave driver frames without
//! running them: every entry into the driver keeps a [`Frame`] with the stack pointer at which its
//! callee-saved registers lie, and [`leave`] returns from the innermost entry a second way, with
//! [`Returned::stopped`] set. To the compiler an entry is an ordinary call that returns once.
//!
//! Only driver frames (and the thin exported shell that called [`leave`], which owns nothing) are
//! skipped. Frames of the lab that lie further out see `Err(Stopped)`, drop what they own, and leave
//! again if the driver had called them.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("ndis-lab runs x64 miniports inside its own process: build it for x86_64");

use core::arch::naked_asm;

/// How many integer arguments an entry can pass: the longest callback of NDIS 6.30 has five.
pub(crate) const MAX_ARGUMENTS: usize = 8;

/// One entry into driver code: where its saved registers are.
#[repr(C)]
pub(crate) struct Frame {
    stack_pointer: *mut u8,
}

impl Frame {
    /// A frame that was not entered yet.
    pub(crate) const fn new() -> Self {
        Self { stack_pointer: core::ptr::null_mut() }
    }

    /// Where the saved registers are; what lies below belongs to the driver.
    pub(crate) fn stack_pointer(&self) -> *mut u8 {
        self.stack_pointer
    }
}

/// How an entry into driver code ended.
#[repr(C)]
pub(crate) struct Returned {
    /// What the driver returned in RAX; 0 when it was left.
    pub(crate) value: u64,
    /// 0 when the driver returned, 1 when [`leave`] was called.
    pub(crate) stopped: u64,
}

/// Calls `target` with the Windows x64 convention.
///
/// # Safety
/// `target` is a function that takes at most [`MAX_ARGUMENTS`] integers or pointers under the
/// Windows x64 convention, and calling it with `args` is sound. `frame` stays where it is, and is
/// not used for another entry, until the call has ended.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn call(
    frame: *mut Frame,
    target: usize,
    args: *const [u64; MAX_ARGUMENTS],
) -> Returned {
    // XMM6-15 are callee-saved for Windows but not here, so our caller expects nothing of them.
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "mov [rdi], rsp",
        // 32 bytes of home space, then the fifth and later arguments; RSP stays 16-byte aligned.
        "sub rsp, 64",
        "mov rax, rsi",
        "mov r10, rdx",
        "mov rcx, [r10 + 32]",
        "mov [rsp + 32], rcx",
        "mov rcx, [r10 + 40]",
        "mov [rsp + 40], rcx",
        "mov rcx, [r10 + 48]",
        "mov [rsp + 48], rcx",
        "mov rcx, [r10 + 56]",
        "mov [rsp + 56], rcx",
        "mov rcx, [r10]",
        "mov rdx, [r10 + 8]",
        "mov r8, [r10 + 16]",
        "mov r9, [r10 + 24]",
        "call rax",
        "add rsp, 64",
        "xor edx, edx",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Leaves driver code: the [`call`] that entered through `frame` returns with `stopped` set.
///
/// # Safety
/// `frame` is the innermost frame that this thread entered and has not left, and no frame between
/// here and there owns anything of the lab's (a guard, memory, a count).
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn leave(frame: *const Frame) -> ! {
    naked_asm!(
        "mov rsp, [rdi]",
        "cld",
        "xor eax, eax",
        "mov edx, 1",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local!(static INNERMOST: Cell<*const Frame> = const { Cell::new(core::ptr::null()) });

    fn enter(target: usize, args: [u64; MAX_ARGUMENTS]) -> Returned {
        let mut frame = Frame::new();
        let outer = INNERMOST.replace(&raw const frame);
        // SAFETY: the targets below are win64 functions of integers; the frame outlives the call.
        let returned = unsafe { call(&raw mut frame, target, &raw const args) };
        INNERMOST.set(outer);
        returned
    }

    #[allow(clippy::many_single_char_names)]
    extern "win64" fn weigh(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64) -> u64 {
        [a, b, c, d, e, f, g, h].iter().zip(1..).map(|(v, w)| v * w).sum()
    }

    #[test]
    fn passes_eight_arguments_and_returns_the_value() {
        let args = [3, 1, 4, 1, 5, 9, 2, 6];
        let returned = enter(weigh as *const () as usize, args);
        assert_eq!((returned.value, returned.stopped), (args.iter().zip(1..).map(|(v, w)| v * w).sum(), 0));
    }

    extern "win64" fn deep(depth: u64) -> u64 {
        if depth > 0 {
            return deep(std::hint::black_box(depth - 1)) + 1;
        }
        // SAFETY: the innermost frame is the entry in `a_stop_skips_driver_frames_only`; the frames
        // of `deep` own nothing.
        unsafe { leave(INNERMOST.get()) }
    }

    extern "win64" fn nested(depth: u64) -> u64 {
        let held: Vec<u64> = std::hint::black_box(vec![depth; 3]);
        let inner = enter(deep as *const () as usize, [depth, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(inner.stopped, 1);
        held.iter().sum()
    }

    #[test]
    fn a_stop_skips_driver_frames_only() {
        for round in 0..1000 {
            let returned = enter(nested as *const () as usize, [round % 50, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!((returned.value, returned.stopped), ((round % 50) * 3, 0));
            let returned = enter(deep as *const () as usize, [round % 50, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!((returned.value, returned.stopped), (0, 1));
        }
    }
}
