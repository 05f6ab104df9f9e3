//! Events and waiting. The signal state lives in the driver's KEVENT, as it does on Windows.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Machine, Stopped};

#[derive(Default)]
pub(crate) struct Dispatcher {
    /// Held while a signal state changes or is examined.
    lock: Mutex<()>,
    changed: Condvar,
}

impl Dispatcher {
    /// Lets every waiter look again.
    pub(crate) fn wake(&self) {
        drop(self.lock.lock());
        self.changed.notify_all();
    }
}

/// `SignalState` of a dispatcher object.
fn signal<'a>(object: usize) -> &'a AtomicI32 {
    // SAFETY: the driver passed a dispatcher object that outlives the call; its second word is the
    // aligned signal state, which is accessed atomically only.
    unsafe { AtomicI32::from_ptr((object as *mut i32).add(1)) }
}

/// Whether a satisfied wait resets the object.
fn synchronization(object: usize) -> bool {
    // SAFETY: as above; the type byte is written once, by KeInitializeEvent.
    unsafe { (object as *const u8).read() == 1 }
}

impl Machine {
    /// Signals or resets an object; returns the state before.
    pub(crate) fn set_signal(&self, object: usize, state: i32) -> i32 {
        let guard = self.dispatcher.lock.lock();
        // Relaxed: the dispatcher's lock orders it against waiters.
        let old = signal(object).swap(state, Ordering::Relaxed);
        drop(guard);
        if state != 0 {
            self.dispatcher.changed.notify_all();
        }
        old
    }

    /// Waits for an object; `None` is for ever. Says whether it was signalled.
    pub(crate) fn wait_signal(&self, object: usize, timeout: Option<Duration>) -> Result<bool, Stopped> {
        self.wait_signals(&[object], false, timeout).map(|found| found.is_some())
    }

    /// Waits for one of these objects, or for all of them at once. Says which one was signalled (the
    /// first, if all were), or `None` when the time is up.
    pub(crate) fn wait_signals(
        &self,
        objects: &[usize],
        all: bool,
        timeout: Option<Duration>,
    ) -> Result<Option<usize>, Stopped> {
        if self.schedule.is_some() {
            return self.wait_signals_virtually(objects, all, timeout);
        }
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut guard = self.dispatcher.lock.lock();
        loop {
            if self.is_dead() {
                return Err(Stopped::new());
            }
            if let Some(first) = take(objects, all) {
                return Ok(Some(first));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            let pause = Duration::from_millis(50);
            let until = deadline.map_or(Instant::now() + pause, |d| d.min(Instant::now() + pause));
            let _ = self.dispatcher.changed.wait_until(&mut guard, until);
        }
    }

    /// As [`Machine::wait_signals`], on a deterministic machine: everything else runs meanwhile.
    fn wait_signals_virtually(
        &self,
        objects: &[usize],
        all: bool,
        timeout: Option<Duration>,
    ) -> Result<Option<usize>, Stopped> {
        let mut found = None;
        let deadline = timeout.map(|timeout| self.now() + timeout);
        self.wait_virtual(deadline, || {
            found = take(objects, all);
            found.is_some()
        });
        if self.is_dead() { Err(Stopped::new()) } else { Ok(found) }
    }
}

/// Satisfies a wait if it can be: the first object that was signalled. To be called with the
/// dispatcher's lock held, or on the only thread.
fn take(objects: &[usize], all: bool) -> Option<usize> {
    // Relaxed: the dispatcher's lock orders it against signals.
    let signalled = |object: &usize| signal(*object).load(Ordering::Relaxed) > 0;
    let taken = if all {
        objects.iter().all(signalled).then_some(0..objects.len())
    } else {
        objects.iter().position(signalled).map(|index| index..index + 1)
    }?;
    let first = taken.start;
    for object in objects[taken].iter().filter(|object| synchronization(**object)) {
        signal(*object).store(0, Ordering::Relaxed);
    }
    Some(first)
}
