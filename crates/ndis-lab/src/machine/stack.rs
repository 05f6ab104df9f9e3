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
use super::unwind::{RBP, RSP, Registers, View};
use crate::loader::Image;
use crate::symbols::{CallStack, Module, StackFrame};

/// No stack of a driver is deeper; a walk that goes on has gone astray.
const MAX_FRAMES: usize = 64;
/// Bytes between the saved registers of an entry and the stack pointer with which it calls the driver.
const CALL_AREA: usize = 64;

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

/// Follows frames of images, starting with code at `address`.
fn walk_image(mut address: usize, mut registers: Registers, limit: usize, frames: &mut Vec<StackFrame>) {
    let loaded = LOADED.read();
    // A frame lies above the one that it called; a walk that goes down has gone astray, and must not read there.
    let mut floor = registers.general[RSP].unwrap_or(u64::MAX);
    while frames.len() < MAX_FRAMES {
        let Some((image, module)) = loaded.iter().find(|(_, module)| module.contains(address)) else { break };
        frames.push(StackFrame::new(Some(module.clone()), address, false));
        let Some(stack_pointer) = registers.general[RSP].filter(|now| *now >= floor) else { break };
        floor = stack_pointer;
        let load = |at: u64| {
            let within = at >= stack_pointer && at.checked_add(8)? <= limit as u64;
            // SAFETY: between the stack pointer and the limit lie the driver's frames on this thread's
            // stack, which is readable; the address is not assumed to be aligned.
            within.then(|| unsafe { (at as *const u64).read_unaligned() })
        };
        let caller = View::new(image).unwind(address as u64, &mut registers, load);
        match caller.and_then(|unwound| usize::try_from(unwound.caller).ok()) {
            Some(caller) => address = caller,
            None => break,
        }
    }
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
                    registers.general[image] = Some(_Unwind_GetGR(context, host) as u64);
                }
                registers.general[RSP] = Some(stack_pointer as u64);
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
