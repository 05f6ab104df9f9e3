//! Call stacks of driver code: who called the lab.
//!
//! A walk has two parts. The host's unwinder goes from the lab's own frames to the code that called
//! them: that is the driver, natively linked, or the first frame of an image, which the host knows
//! nothing about. From there the image's exception directory leads on
//! (`x64 exception handling` of the MSVC documentation), up to the entry into the driver.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::thread;
use crate::loader::Image;
use crate::symbols::{CallStack, Module, StackFrame};

/// No stack of a driver is deeper; a walk that goes on has gone astray.
const MAX_FRAMES: usize = 64;
/// Bytes between the saved registers of an entry and the stack pointer with which it calls the driver.
const CALL_AREA: usize = 64;
/// Registers by their number in UNWIND_INFO.
const RSP: usize = 4;
const RBP: usize = 5;

/// The images that are loaded, of all machines of this process.
static LOADED: RwLock<Vec<(Arc<Image>, Arc<Module>)>> = RwLock::new(Vec::new());

/// Keeps an image known to walks.
pub(crate) struct Known(Arc<Module>);

impl Known {
    /// Makes an image known. `pdb` is its PDB, if there is one.
    pub(crate) fn new(image: &Arc<Image>, name: &str, pdb: Option<std::path::PathBuf>) -> Self {
        let module = Arc::new(Module::new(name, image, pdb));
        LOADED.write().push((image.clone(), module.clone()));
        Self(module)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        LOADED.write().retain(|(_, module)| !Arc::ptr_eq(module, &self.0));
    }
}

/// Stacks that are kept for good, by what tells them apart: there are as many as a driver has ways to the
/// lab.
static INTERNED: Mutex<BTreeMap<u64, &'static CallStack>> = Mutex::new(BTreeMap::new());

/// Keeps a stack, once for all that are equal; `None` for an empty one.
pub(crate) fn intern(stack: &CallStack) -> Option<&'static CallStack> {
    if stack.frames().is_empty() {
        return None;
    }
    // Images of the same name are told apart by their module: an image that was built anew has other lines.
    let key = stack.identity();
    let mut interned = INTERNED.lock();
    Some(interned.entry(key).or_insert_with(|| Box::leak(Box::new(stack.clone()))))
}

/// The image that holds an address.
pub(crate) fn module_at(address: usize) -> Option<Arc<Module>> {
    LOADED.read().iter().find(|(_, module)| module.contains(address)).map(|(_, module)| module.clone())
}

/// The frames of the driver that called the lab on this thread, innermost first; none if no driver did.
///
/// `first_exact` says that the innermost address is of the instruction itself, as after a trap, and
/// not the one behind a call.
pub(crate) fn capture(first_exact: bool) -> CallStack {
    let limit = thread::with(|thread| {
        let frame = thread.frame();
        // SAFETY: while the thread is in an entry, its frame is that entry's local.
        (thread.machine().is_some() && !frame.is_null()).then(|| unsafe { (*frame).stack_pointer() as usize })
    });
    let Some(limit) = limit.and_then(|limit| limit.checked_sub(CALL_AREA)) else {
        return CallStack::default();
    };
    let mut walk = host::Walk { limit, frames: Vec::new(), driver_from: 0, registers: None };
    host::trace(&mut walk);
    let mut frames: Vec<StackFrame> = Vec::with_capacity(walk.frames.len());
    // Without a frame of the lab in between, the driver's frames were lost.
    if walk.driver_from > 0 {
        frames
            .extend(walk.frames.drain(..).skip(walk.driver_from).map(|at| StackFrame::new(None, at, false)));
    }
    if let Some((address, registers)) = walk.registers {
        // All frames before are the lab's.
        frames.clear();
        walk_image(address, registers, limit, &mut frames);
    }
    if let Some(first) = frames.first_mut() {
        first.set_exact(first_exact);
    }
    CallStack::new(frames)
}

/// Whether a function is where the lab goes on after a trap in driver code.
#[cfg(unix)]
fn is_trap(function: usize) -> bool {
    #[cfg(target_os = "linux")]
    return function == super::trap::trampoline as *const () as usize;
    #[cfg(not(target_os = "linux"))]
    return function == 0;
}

/// The general-purpose registers as far as they are known.
type Registers = [Option<usize>; 16];

/// Follows frames of images, starting with code at `address`.
fn walk_image(mut address: usize, mut registers: Registers, limit: usize, frames: &mut Vec<StackFrame>) {
    let loaded = LOADED.read();
    while frames.len() < MAX_FRAMES {
        let Some((image, module)) = loaded.iter().find(|(_, module)| module.contains(address)) else { break };
        frames.push(StackFrame::new(Some(module.clone()), address, false));
        let Ok(rva) = u32::try_from(address - module.base()) else { break };
        let stack = Stack { limit };
        match unwind(image, rva, &mut registers, stack) {
            Some(caller) => address = caller,
            None => break,
        }
    }
}

/// The part of the stack that belongs to the driver.
#[derive(Clone, Copy)]
struct Stack {
    limit: usize,
}

impl Stack {
    fn read(self, address: usize, stack_pointer: usize) -> Option<usize> {
        let within = address >= stack_pointer && address.checked_add(8)? <= self.limit;
        // SAFETY: between the stack pointer and the limit lie the driver's frames on this thread's
        // stack, which is readable; the address is not assumed to be aligned.
        within.then(|| unsafe { (address as *const usize).read_unaligned() })
    }
}

/// `UNWIND_INFO.Flags`: another entry follows the codes.
const UNW_FLAG_CHAININFO: u8 = 4;
/// No function has so many parts.
const MAX_CHAIN: usize = 32;

/// Undoes the prologue of the function at `rva`; gives the address to which it returns.
fn unwind(image: &Image, rva: u32, registers: &mut Registers, stack: Stack) -> Option<usize> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let directory = image.exception_directory();
    let table = image.constant(directory.start, directory.end - directory.start).unwrap_or_default();
    let (entries, _) = table.as_chunks::<12>();
    let index = entries.partition_point(|entry| word(entry, 0).is_some_and(|begin| begin <= rva));
    let entry = index.checked_sub(1).and_then(|index| entries.get(index));
    let mut entry = entry.copied().filter(|entry| word(entry, 4).is_some_and(|end| rva < end));
    let mut offset = Some(rva.checked_sub(entry.and_then(|entry| word(&entry, 0)).unwrap_or(rva))?);
    // A function without an entry is a leaf: it moved nothing.
    for _ in 0..MAX_CHAIN {
        let Some(current) = entry.take() else { break };
        let at = word(&current, 8)?;
        let header = image.constant(at, 4)?;
        let (flags, count, frame) = (header[0] >> 3, u32::from(header[2]), header[3]);
        let codes = image.constant(at.checked_add(4)?, count * 2)?;
        undo(codes, offset, frame, registers, stack)?;
        if flags & UNW_FLAG_CHAININFO != 0 {
            let next = image.constant(at.checked_add(4)?.checked_add((count + (count & 1)) * 2)?, 12)?;
            entry = next.try_into().ok();
            offset = None;
        }
    }
    let stack_pointer = registers[RSP]?;
    let caller = stack.read(stack_pointer, stack_pointer)?;
    registers[RSP] = Some(stack_pointer + 8);
    Some(caller)
}

/// Undoes the operations of one UNWIND_INFO that were done before `offset`; `None` is all of them.
fn undo(codes: &[u8], offset: Option<u32>, frame: u8, registers: &mut Registers, stack: Stack) -> Option<()> {
    let slot = |index: usize| {
        Some(usize::from(u16::from_le_bytes([*codes.get(index * 2)?, *codes.get(index * 2 + 1)?])))
    };
    let mut index = 0;
    while index * 2 < codes.len() {
        let (done_at, operation, info) =
            (codes[index * 2], codes[index * 2 + 1] & 15, usize::from(codes[index * 2 + 1] >> 4));
        let slots = match (operation, info) {
            (0 | 2 | 3 | 10, _) => 1,
            (1, 0) | (4 | 6 | 8, _) => 2,
            (1, 1) | (5 | 7 | 9, _) => 3,
            _ => return None,
        };
        if offset.is_none_or(|offset| u32::from(done_at) <= offset) {
            let stack_pointer = registers[RSP]?;
            let base = |registers: &Registers| {
                // The register that holds the frame, minus the offset that it was given.
                match frame & 15 {
                    0 => Some(stack_pointer),
                    register => registers[usize::from(register)]?.checked_sub(usize::from(frame >> 4) * 16),
                }
            };
            match operation {
                // UWOP_PUSH_NONVOL
                0 => {
                    registers[info] = stack.read(stack_pointer, stack_pointer);
                    registers[RSP] = stack_pointer.checked_add(8);
                }
                // UWOP_ALLOC_LARGE
                1 => {
                    let size = if info == 0 {
                        slot(index + 1)? * 8
                    } else {
                        slot(index + 1)? | slot(index + 2)? << 16
                    };
                    registers[RSP] = stack_pointer.checked_add(size);
                }
                // UWOP_ALLOC_SMALL
                2 => registers[RSP] = stack_pointer.checked_add(info * 8 + 8),
                // UWOP_SET_FPREG
                3 => registers[RSP] = base(registers),
                // UWOP_SAVE_NONVOL and UWOP_SAVE_NONVOL_FAR
                4 | 5 => {
                    let at = if operation == 4 {
                        slot(index + 1)? * 8
                    } else {
                        slot(index + 1)? | slot(index + 2)? << 16
                    };
                    registers[info] =
                        base(registers).and_then(|base| stack.read(base.checked_add(at)?, stack_pointer));
                }
                // UWOP_PUSH_MACHFRAME: an interrupt, which the lab does not make.
                10 => return None,
                // XMM registers are of no interest.
                _ => {}
            }
        }
        index += slots;
    }
    Some(())
}

#[cfg(unix)]
mod host {
    //! The unwinder of the host: the Itanium ABI's, which Rust's standard library links.

    use std::ffi::{c_int, c_void};

    use super::{MAX_FRAMES, RBP, RSP, Registers};
    use crate::exports;

    #[repr(C)]
    struct Context {
        _opaque: [u8; 0],
    }

    unsafe extern "C" {
        fn _Unwind_Backtrace(
            trace: extern "C" fn(*mut Context, *mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(context: *mut Context) -> usize;
        fn _Unwind_GetCFA(context: *mut Context) -> usize;
        fn _Unwind_GetGR(context: *mut Context, register: c_int) -> usize;
        fn _Unwind_GetRegionStart(context: *mut Context) -> usize;
    }

    /// `_URC_NO_REASON`, and a code that ends the walk.
    const GO_ON: c_int = 0;
    const ENOUGH: c_int = 4;
    /// The callee-saved registers that every frame of the host keeps: (number of the System V ABI,
    /// number in UNWIND_INFO).
    const KEPT: [(c_int, usize); 6] = [(3, 3), (6, RBP), (12, 12), (13, 13), (14, 14), (15, 15)];

    pub(super) struct Walk {
        /// Above this the driver's frames end.
        pub(super) limit: usize,
        pub(super) frames: Vec<usize>,
        /// Frames before this one are the lab's.
        pub(super) driver_from: usize,
        /// The first frame in an image: its address and registers.
        pub(super) registers: Option<(usize, Registers)>,
    }

    pub(super) fn trace(walk: &mut Walk) {
        // SAFETY: the callback keeps the unwinder's contract; `walk` outlives the call.
        unsafe { _Unwind_Backtrace(step, std::ptr::from_mut(walk).cast()) };
    }

    extern "C" fn step(context: *mut Context, argument: *mut c_void) -> c_int {
        // SAFETY: `trace` passed its walk, which nothing else uses during the call; the context is
        // the unwinder's own for this frame, and the registers asked for are saved by every frame.
        unsafe {
            let walk = &mut *argument.cast::<Walk>();
            let (address, stack_pointer) = (_Unwind_GetIP(context), _Unwind_GetCFA(context));
            if address == 0 || stack_pointer >= walk.limit || walk.frames.len() >= MAX_FRAMES {
                return ENOUGH;
            }
            if super::module_at(address).is_some() {
                let mut registers = Registers::default();
                for (host, image) in KEPT {
                    registers[image] = Some(_Unwind_GetGR(context, host));
                }
                registers[RSP] = Some(stack_pointer);
                walk.registers = Some((address, registers));
                return ENOUGH;
            }
            walk.frames.push(address);
            let function = _Unwind_GetRegionStart(context);
            if exports::is_export(function) || super::is_trap(function) {
                walk.driver_from = walk.frames.len();
            }
            GO_ON
        }
    }
}

#[cfg(not(unix))]
mod host {
    //! No walk yet: faults are told apart by function and handler.

    use super::Registers;

    pub(super) struct Walk {
        pub(super) limit: usize,
        pub(super) frames: Vec<usize>,
        pub(super) driver_from: usize,
        pub(super) registers: Option<(usize, Registers)>,
    }

    pub(super) fn trace(_: &mut Walk) {}
}
