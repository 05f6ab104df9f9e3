//! Structured exceptions of x64 images: unwinding by `.pdata`, `__C_specific_handler`, and raising.
//!
//! What a function of the lab raises, or an instruction of the driver ([`super::exception`]), travels up the
//! image's frames exactly as Windows dispatches it: language handlers look for a `__except` that takes it, and
//! then the frames below that one are unwound with their `__finally` blocks. Everything read of the image is
//! checked to lie in it; the stack is the driver's own.

use std::arch::naked_asm;

use ndis_sys::NTSTATUS;

use super::unwind::{EHANDLER, RSP, Registers, UHANDLER, Unwound, View};
use super::{Machine, copy, switch, thread};

/// `CONTEXT_FULL`: integer, control and floating-point registers.
#[cfg(target_os = "linux")]
const CONTEXT_FULL: u32 = 0x0010_000b;
/// `STATUS_ACCESS_VIOLATION`.
const ACCESS_VIOLATION: u32 = 0xc000_0005;
const UNWINDING: u32 = 2;
const EXIT_UNWIND: u32 = 4;
const TARGET_UNWIND: u32 = 0x20;
const CONTINUE_EXECUTION: i32 = 0;
const CONTINUE_SEARCH: i32 = 1;
/// `KMODE_EXCEPTION_NOT_HANDLED`.
const NOT_HANDLED: u32 = 0x1e;

/// `CONTEXT` of x64.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub(crate) struct Context {
    home: [u64; 6],
    flags: u32,
    mxcsr: u32,
    segments: [u16; 6],
    eflags: u32,
    debug: [u64; 6],
    /// In the order of the processor's register numbers.
    pub(super) general: [u64; 16],
    pub(super) rip: u64,
    legacy: [u8; 160],
    xmm: [[u64; 2]; 16],
    rest: [u8; 0x230],
}
const _: () = assert!(size_of::<Context>() == 1232);
const _: () = assert!(std::mem::offset_of!(Context, general) == 0x78);
const _: () = assert!(std::mem::offset_of!(Context, rip) == 0xf8);
const _: () = assert!(std::mem::offset_of!(Context, xmm) == 0x1a0);

/// `EXCEPTION_RECORD`.
#[repr(C)]
pub(crate) struct Record {
    pub(super) code: u32,
    flags: u32,
    next: usize,
    address: u64,
    count: u32,
    pub(super) information: [u64; 15],
}
const _: () = assert!(size_of::<Record>() == 152);

impl Record {
    /// An exception at an address, with what its code says of it.
    pub(super) fn new(code: u32, address: u64, information: &[u64]) -> Self {
        let mut record = Self { code, flags: 0, next: 0, address, count: 0, information: [0; 15] };
        for (place, value) in record.information.iter_mut().zip(information) {
            *place = *value;
            record.count += 1;
        }
        record
    }
}

impl Context {
    /// Of no thread.
    pub(super) const ZERO: Self = Self {
        home: [0; 6],
        flags: 0,
        mxcsr: 0,
        segments: [0; 6],
        eflags: 0,
        debug: [0; 6],
        general: [0; 16],
        rip: 0,
        legacy: [0; 160],
        xmm: [[0; 2]; 16],
        rest: [0; 0x230],
    };

    /// Takes over the registers of a signal.
    #[cfg(target_os = "linux")]
    pub(super) fn set(&mut self, from: &libc::mcontext_t) {
        let value = |register: libc::c_int| {
            usize::try_from(register).map_or(0, |register| from.gregs[register].cast_unsigned())
        };
        self.flags = CONTEXT_FULL;
        self.general = super::emulate::GENERAL.map(value);
        self.rip = value(libc::REG_RIP);
        self.eflags = (value(libc::REG_EFL) & 0xffff_ffff) as u32;
        // SAFETY: the host gives every signal of x86-64 its floating-point state; null is checked all the same.
        if let Some(state) = unsafe { from.fpregs.as_ref() } {
            self.mxcsr = state.mxcsr;
            for (place, register) in self.xmm.iter_mut().zip(&state._xmm) {
                let [a, b, c, d] = register.element.map(u64::from);
                *place = [a | b << 32, c | d << 32];
            }
        }
    }
}

/// `DISPATCHER_CONTEXT` of x64.
#[repr(C)]
pub(crate) struct Dispatcher {
    control_pc: u64,
    image_base: u64,
    function: usize,
    frame: u64,
    target_ip: u64,
    context: *mut Context,
    handler: usize,
    data: usize,
    history: usize,
    scope: u32,
    fill: u32,
}

type LanguageHandler = unsafe extern "win64" fn(*mut Record, u64, *mut Context, *mut Dispatcher) -> i32;

/// Unwinds one frame of a context.
///
/// # Safety
/// `context` is that of a thread in this image, whose stack is intact.
unsafe fn unwind(view: &View, context: &mut Context) -> Option<Unwound> {
    let mut registers = Registers { general: context.general.map(Some), ..Registers::default() };
    // SAFETY: the caller vouches for the stack, which is all that is loaded from.
    let load = |address: u64| Some(unsafe { (address as *const u64).read() });
    let unwound = view.unwind(context.rip, &mut registers, load)?;
    for (place, value) in context.general.iter_mut().zip(registers.general) {
        *place = value?;
    }
    for (place, value) in context.xmm.iter_mut().zip(registers.xmm) {
        *place = value.unwrap_or(*place);
    }
    context.rip = unwound.caller;
    Some(unwound)
}

impl Machine {
    /// The image that an address lies in.
    fn view(&self, address: u64) -> Option<View> {
        let objects = self.objects.lock();
        let address = usize::try_from(address).ok()?;
        objects.drivers.values().find_map(|driver| {
            let image = driver.image().filter(|image| image.contains(address))?;
            Some(View::new(image))
        })
    }
}

fn view(address: u64) -> Option<View> {
    let machine = thread::with(thread::Thread::machine)?;
    // SAFETY: as in `exports::run`: the entry that set the pointer keeps the machine alive.
    unsafe { machine.as_ref() }.view(address)
}

/// The innermost frame of an image: what ran in one of the lab's memory functions, which have no frame, or where no
/// code is, was called by it.
///
/// # Safety
/// As for [`dispatch`].
unsafe fn innermost(record: &Record, context: &Context) -> Context {
    let mut at = *context;
    // An access violation says first what it was: 8, the fetch of an instruction.
    let jumped = record.code == ACCESS_VIOLATION && record.information[..2] == [8, at.rip];
    if copy::contains(at.rip) || jumped {
        let stack = at.general[RSP];
        // SAFETY: the caller vouches for the stack, which begins with a return address.
        at.rip = unsafe { (stack as *const u64).read() };
        at.general[RSP] = stack + 8;
    }
    at
}

/// Looks for a handler of an exception, from `context` on; comes back if there is none.
///
/// # Safety
/// `context` is that of a thread in an image, or in a function without a frame that the image called, and the stack is
/// intact. Nothing between here and the image's frames owns anything of the lab's.
pub(super) unsafe fn dispatch(record: &mut Record, context: &mut Context) {
    // SAFETY: as the caller says.
    let mut at = unsafe { innermost(record, context) };
    let Some(view) = view(at.rip) else { return };
    while view.contains(at.rip) {
        let pc = at.rip;
        // SAFETY: as the caller says; each round is one frame up.
        let Some(unwound) = (unsafe { unwind(&view, &mut at) }) else { return };
        let Some((handler, data, flags)) = unwound.handler else { continue };
        if flags & EHANDLER == 0 {
            continue;
        }
        let mut dispatcher = Dispatcher {
            control_pc: pc,
            image_base: view.base as u64,
            function: unwound.function,
            frame: unwound.frame,
            target_ip: 0,
            context,
            handler,
            data,
            history: 0,
            scope: 0,
            fill: 0,
        };
        // SAFETY: the unwind information names this as the language handler of the function.
        let disposition = unsafe {
            let handler: LanguageHandler = std::mem::transmute(handler);
            handler(record, unwound.frame, context, &raw mut dispatcher)
        };
        if disposition == CONTINUE_EXECUTION {
            // SAFETY: the context that the filter may have changed, of this very thread.
            unsafe { resume(context) }
        }
    }
}

/// `RtlUnwindEx`: runs the termination handlers up to `target`, and goes on there at `ip`.
///
/// # Safety
/// As for [`dispatch`]; nothing between here and the frame at `target` owns anything of the lab's.
unsafe fn unwind_to(record: &mut Record, start: &Context, target: u64, ip: u64) {
    // SAFETY: as the caller says.
    let mut at = unsafe { innermost(record, start) };
    record.flags |= UNWINDING;
    let Some(view) = view(at.rip) else { return };
    while view.contains(at.rip) {
        let mut here = at;
        // SAFETY: as the caller says.
        let Some(unwound) = (unsafe { unwind(&view, &mut at) }) else { return };
        let last = unwound.frame == target;
        if last {
            record.flags |= TARGET_UNWIND;
        }
        if let Some((handler, data, flags)) = unwound.handler
            && flags & UHANDLER != 0
        {
            let mut dispatcher = Dispatcher {
                control_pc: here.rip,
                image_base: view.base as u64,
                function: unwound.function,
                frame: unwound.frame,
                target_ip: ip,
                context: &raw mut here,
                handler,
                data,
                history: 0,
                scope: 0,
                fill: 0,
            };
            // SAFETY: as in `dispatch`.
            unsafe {
                let handler: LanguageHandler = std::mem::transmute(handler);
                handler(record, unwound.frame, &raw mut here, &raw mut dispatcher);
            }
        }
        if last {
            here.rip = ip;
            here.general[0] = u64::from(record.code);
            // SAFETY: the context of the target's frame, on this thread's stack above us.
            unsafe { resume(&raw const here) }
        }
    }
}

/// `__C_specific_handler`: the language handler of `__try`.
///
/// # Safety
/// Called as a language handler, by the lab's dispatcher or by a handler of the image that wraps it.
pub(crate) unsafe extern "win64" fn c_specific_handler(
    record: *mut Record,
    frame: u64,
    context: *mut Context,
    dispatcher: *mut Dispatcher,
) -> i32 {
    // SAFETY: the structures are those that `dispatch` and `unwind_to` made, unchanged.
    let (record, dispatcher) = unsafe { (&mut *record, &mut *dispatcher) };
    let Some(view) = view(dispatcher.control_pc) else { return CONTINUE_SEARCH };
    let Some(table) = dispatcher.data.checked_sub(view.base) else { return CONTINUE_SEARCH };
    let offset =
        |address: u64| u32::try_from(address.wrapping_sub(dispatcher.image_base)).unwrap_or(u32::MAX);
    let (pc, target) = (offset(dispatcher.control_pc), offset(dispatcher.target_ip));
    let count = view.read::<u32>(table).unwrap_or(0);
    for index in dispatcher.scope..count {
        let Some([begin, end, handler, jump]) = view.read::<[u32; 4]>(table + 4 + 16 * index as usize) else {
            break;
        };
        if pc < begin || pc >= end {
            continue;
        }
        let routine = view.base + handler as usize;
        if record.flags & (UNWINDING | EXIT_UNWIND) != 0 {
            let aims_here =
                record.flags & TARGET_UNWIND != 0 && ((begin..end).contains(&target) || target == jump);
            if aims_here {
                break;
            }
            if jump == 0 {
                dispatcher.scope = index + 1;
                // SAFETY: the scope table names a termination handler of this function.
                unsafe {
                    let finally: unsafe extern "win64" fn(u8, u64) = std::mem::transmute(routine);
                    finally(1, frame);
                }
            }
            continue;
        }
        if jump == 0 {
            continue;
        }
        let verdict = if handler == 1 {
            1
        } else {
            let mut pointers = [std::ptr::from_mut(record).cast::<u8>(), context.cast::<u8>()];
            // SAFETY: the scope table names a filter of this function; it gets EXCEPTION_POINTERS.
            unsafe {
                let filter: unsafe extern "win64" fn(*mut u8, u64) -> i32 = std::mem::transmute(routine);
                filter(pointers.as_mut_ptr().cast(), frame)
            }
        };
        if verdict < 0 {
            return CONTINUE_EXECUTION;
        }
        if verdict > 0 {
            // SAFETY: the context at which the exception was raised; frames between here and the
            // target's are the dispatcher's, which owns nothing, and the driver's.
            unsafe { unwind_to(record, &*context, frame, dispatcher.image_base + u64::from(jump)) };
            break;
        }
    }
    CONTINUE_SEARCH
}

/// Raises `status` where `context` is: goes on in the handler that takes it, or stops the machine.
///
/// # Safety
/// Called by [`raising`] only, with the context of its caller, outside of any function of the lab.
unsafe extern "win64" fn raise(context: *mut Context, status: NTSTATUS) -> ! {
    {
        // SAFETY: the caller's context on its stack.
        let context = unsafe { &mut *context };
        let mut record = Record::new(status.cast_unsigned(), context.rip, &[]);
        // SAFETY: the caller is driver code whose stack is intact.
        unsafe { dispatch(&mut record, context) };
        if let Some(machine) = thread::with(thread::Thread::machine) {
            // SAFETY: as in `exports::run`.
            let machine = unsafe { machine.as_ref() };
            let parameters = [u64::from(status.cast_unsigned()), context.rip, 0, 0];
            let text = format!("exception {:#010x} is not handled", status.cast_unsigned());
            let _ = machine.stop(NOT_HANDLED, parameters, text);
        }
    }
    // SAFETY: the innermost frame of this thread; this function owns nothing any more.
    unsafe { switch::leave(thread::with(thread::Thread::frame)) }
}

/// Goes on at a context: loads every register.
///
/// # Safety
/// The context is of this thread, on a part of its stack that still lives; nothing below owns
/// anything of the lab's.
#[unsafe(naked)]
unsafe extern "win64" fn resume(context: *const Context) -> ! {
    // Flags and address go below the stack pointer of the context, where code for Windows keeps nothing.
    naked_asm!(
        "mov rax, [rcx + 0x98]",
        "mov rdx, [rcx + 0xf8]",
        "mov [rax - 8], rdx",
        "mov edx, [rcx + 0x44]",
        "mov [rax - 16], rdx",
        "ldmxcsr [rcx + 0x34]",
        "movaps xmm0, [rcx + 0x1a0]",
        "movaps xmm1, [rcx + 0x1b0]",
        "movaps xmm2, [rcx + 0x1c0]",
        "movaps xmm3, [rcx + 0x1d0]",
        "movaps xmm4, [rcx + 0x1e0]",
        "movaps xmm5, [rcx + 0x1f0]",
        "movaps xmm6, [rcx + 0x200]",
        "movaps xmm7, [rcx + 0x210]",
        "movaps xmm8, [rcx + 0x220]",
        "movaps xmm9, [rcx + 0x230]",
        "movaps xmm10, [rcx + 0x240]",
        "movaps xmm11, [rcx + 0x250]",
        "movaps xmm12, [rcx + 0x260]",
        "movaps xmm13, [rcx + 0x270]",
        "movaps xmm14, [rcx + 0x280]",
        "movaps xmm15, [rcx + 0x290]",
        "mov rbx, [rcx + 0x90]",
        "mov rbp, [rcx + 0xa0]",
        "mov rsi, [rcx + 0xa8]",
        "mov rdi, [rcx + 0xb0]",
        "mov r8, [rcx + 0xb8]",
        "mov r9, [rcx + 0xc0]",
        "mov r10, [rcx + 0xc8]",
        "mov r11, [rcx + 0xd0]",
        "mov r12, [rcx + 0xd8]",
        "mov r13, [rcx + 0xe0]",
        "mov r14, [rcx + 0xe8]",
        "mov r15, [rcx + 0xf0]",
        "mov rdx, [rcx + 0x88]",
        "lea rsp, [rax - 16]",
        "mov rax, [rcx + 0x78]",
        "mov rcx, [rcx + 0x80]",
        "popfq",
        "ret",
    )
}

/// Calls R11 with the three arguments of the caller, and raises the status that it returns as an
/// exception in the caller, unless that is 0.
///
/// # Safety
/// Jumped to from the first instruction of an exported function, so that the return address is on
/// top of the stack and all registers are the caller's; R11 is a function of up to three arguments
/// that returns an NTSTATUS.
#[unsafe(naked)]
pub(crate) unsafe extern "win64" fn raising() {
    naked_asm!(
        // Room for a CONTEXT and 32 bytes of home space; RSP becomes 16-byte aligned.
        "sub rsp, 1272",
        "pushfq",
        "pop rax",
        "mov [rsp + 32 + 0x44], eax",
        "stmxcsr [rsp + 32 + 0x34]",
        "mov [rsp + 32 + 0x80], rcx",
        "mov [rsp + 32 + 0x88], rdx",
        "mov [rsp + 32 + 0x90], rbx",
        "lea rax, [rsp + 1280]",
        "mov [rsp + 32 + 0x98], rax",
        "mov [rsp + 32 + 0xa0], rbp",
        "mov [rsp + 32 + 0xa8], rsi",
        "mov [rsp + 32 + 0xb0], rdi",
        "mov [rsp + 32 + 0xb8], r8",
        "mov [rsp + 32 + 0xc0], r9",
        "mov [rsp + 32 + 0xd8], r12",
        "mov [rsp + 32 + 0xe0], r13",
        "mov [rsp + 32 + 0xe8], r14",
        "mov [rsp + 32 + 0xf0], r15",
        "mov rax, [rsp + 1272]",
        "mov [rsp + 32 + 0xf8], rax",
        "movaps [rsp + 32 + 0x200], xmm6",
        "movaps [rsp + 32 + 0x210], xmm7",
        "movaps [rsp + 32 + 0x220], xmm8",
        "movaps [rsp + 32 + 0x230], xmm9",
        "movaps [rsp + 32 + 0x240], xmm10",
        "movaps [rsp + 32 + 0x250], xmm11",
        "movaps [rsp + 32 + 0x260], xmm12",
        "movaps [rsp + 32 + 0x270], xmm13",
        "movaps [rsp + 32 + 0x280], xmm14",
        "movaps [rsp + 32 + 0x290], xmm15",
        "call r11",
        "test eax, eax",
        "jne 2f",
        "add rsp, 1272",
        "ret",
        "2:",
        "lea rcx, [rsp + 32]",
        "mov edx, eax",
        "call {raise}",
        "ud2",
        raise = sym raise,
    )
}
