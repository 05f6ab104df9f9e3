//! The processor control region that kernel code reads through GS: KPCR, with KPRCB inside of it.
//!
//! Compilers inline `KeGetCurrentThread`, `KeGetCurrentProcessorNumber` and their like as reads
//! relative to GS. On Linux a user-mode program on x86-64 does not use GS, so each thread that runs
//! driver code gets a block of its own and points GS at it. On other hosts GS belongs to the system
//! (Windows: the TEB; macOS: thread-local storage), and images that read it are not supported there.

use std::cell::{Cell, RefCell};

use crate::packet::Memory;

/// Bytes of a KPCR up to what drivers can know of its KPRCB.
const SIZE: usize = 0x1000;
/// `KPCR.Self`, `KPCR.CurrentPrcb`, and in the KPRCB, `Number` and `CurrentThread`.
const SELF: usize = 0x18;
const CURRENT_PRCB: usize = 0x20;
const PRCB: usize = 0x180;
const CURRENT_THREAD: usize = 0x188;
const NUMBER: usize = 0x1a4;
/// Bytes of the KTHREAD of a thread that is not a driver's.
pub(super) const THREAD_SIZE: usize = 0x800;
/// `KOBJECTS::ThreadObject`.
pub(crate) const THREAD_OBJECT: u8 = 6;

/// The memory behind GS: the region, and the KTHREAD of a thread of the lab's user.
struct Block {
    _region: Memory,
    _thread: Memory,
}

thread_local! {
    static BLOCK: RefCell<Option<Block>> = const { RefCell::new(None) };
    /// The region's address, for quick updates; 0 before [`prepare`].
    static REGION: Cell<usize> = const { Cell::new(0) };
}

/// Makes a dispatcher header of a thread, which is signalled when the thread has ended.
///
/// # Safety
/// `object` is zeroed memory that is large enough, and nobody else uses it.
pub(crate) unsafe fn write_thread_header(object: *mut ndis_sys::DISPATCHER_HEADER) {
    // SAFETY: as the caller says.
    unsafe {
        (*object).Type = THREAD_OBJECT;
        let list = &raw mut (*object).WaitListHead;
        (*list).Flink = list;
        (*list).Blink = list;
    }
}

/// Gives the calling thread its block, if it has none.
pub(super) fn prepare() {
    if REGION.get() != 0 {
        return;
    }
    let (Some(region), Some(thread)) = (Memory::zeroed(SIZE), Memory::zeroed(THREAD_SIZE)) else {
        // Without memory the image faults when it looks, which is reported.
        return;
    };
    let base = region.address();
    // SAFETY: offsets within memory that was just made; nobody else knows it.
    unsafe {
        region.at::<usize>(SELF).write(base);
        region.at::<usize>(CURRENT_PRCB).write(base + PRCB);
        region.at::<usize>(CURRENT_THREAD).write(thread.address());
        write_thread_header(thread.at(0));
    }
    BLOCK.with(|block| *block.borrow_mut() = Some(Block { _region: region, _thread: thread }));
    REGION.set(base);
    set_gs(base);
}

#[cfg(target_os = "linux")]
fn set_gs(base: usize) {
    const ARCH_SET_GS: i32 = 0x1001;
    // SAFETY: sets this thread's GS base, which nothing in a Linux program on x86-64 uses.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
}

#[cfg(not(target_os = "linux"))]
fn set_gs(_base: usize) {}

/// The thread got a processor.
pub(super) fn set_processor(number: u32) {
    let base = REGION.get();
    if base != 0 {
        // SAFETY: the block lives as long as its thread, and only the thread itself writes to it.
        unsafe { ((base + NUMBER) as *mut u32).write(number) };
    }
}

/// Makes the calling thread run as the thread `object`.
pub(crate) fn set_thread(object: usize) {
    prepare();
    let base = REGION.get();
    if base != 0 {
        // SAFETY: as above.
        unsafe { ((base + CURRENT_THREAD) as *mut usize).write(object) };
    }
}

/// The KTHREAD of the calling thread; 0 if it never ran driver code.
pub(crate) fn current_thread() -> usize {
    let base = REGION.get();
    // SAFETY: as above; the field was written by `prepare`.
    if base == 0 { 0 } else { unsafe { ((base + CURRENT_THREAD) as *const usize).read() } }
}
