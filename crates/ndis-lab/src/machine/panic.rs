//! A panic of a natively linked driver stops the simulated machine, as its panic handler would on
//! Windows. It never unwinds: a driver's functions do not, and the process would be aborted.
//!
//! The hook leaves the driver where `KeBugCheckEx` does. That skips the end of the standard library's
//! own panic, so the thread's panic count is put right by one more, which is caught. What stays behind is
//! a reader of the library's lock of hooks: after such a panic, [`std::panic::set_hook`] and
//! [`std::panic::take_hook`] block, so a program sets its hooks before it runs drivers that panic.

use std::panic::{PanicHookInfo, catch_unwind, resume_unwind};
use std::sync::Once;

use super::{Machine, switch, thread};

/// `KMODE_EXCEPTION_NOT_HANDLED`.
const NOT_HANDLED: u32 = 0x1e;

/// Installs the hook, once for the process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave_driver(info);
            previous(info);
        }));
    });
}

/// Returns only if the panic is not a driver's.
fn leave_driver(info: &PanicHookInfo<'_>) {
    let entered = thread::try_with(|thread| {
        // A lab function, or the lab's user whom it calls, panics as everyone does.
        let machine = thread.machine().filter(|_| thread.function().is_none())?;
        let frame = thread.frame();
        // SAFETY: a frame that is not null is the local of an entry of this thread that has not ended.
        let entered = !frame.is_null() && unsafe { !(*frame).stack_pointer().is_null() };
        entered.then_some((machine, frame))
    });
    let Some(Some((machine, frame))) = entered else { return };
    {
        // SAFETY: driver code runs for this machine, which its entry keeps alive.
        let machine = unsafe { machine.as_ref() };
        let text = info.payload_as_str().unwrap_or("a payload that is no text");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = machine.stop(NOT_HANDLED, [0; 4], format!("panic at {place}: {text}"));
    }
    thread::with(|thread| thread.panicked.set(true));
    // SAFETY: the innermost frame of this thread. Between here and there lie frames of the driver and of
    // its panic, which is put right by `settle`; this function owns nothing any more.
    unsafe { switch::leave(frame) }
}

impl Machine {
    /// After a driver was left from its panic: the thread is no longer one that panics.
    pub(super) fn settle_panic() {
        if !thread::with(|thread| thread.panicked.take()) {
            return;
        }
        // Catching any panic ends the state of being within a hook. This one does not call the hook.
        let caught = catch_unwind(|| resume_unwind(Box::new(())));
        debug_assert!(caught.is_err() && !std::thread::panicking(), "the panic was put right");
    }
}
