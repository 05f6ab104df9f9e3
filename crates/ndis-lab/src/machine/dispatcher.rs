//! Objects that can be waited for: events, timers, semaphores, mutexes, threads. Their state lives in their
//! own memory, the driver's KEVENT for example, as it does on Windows.

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
pub(super) fn signal<'a>(object: usize) -> &'a AtomicI32 {
    // SAFETY: the driver passed a dispatcher object that outlives the call; its second word is the
    // aligned signal state, which is accessed atomically only.
    unsafe { AtomicI32::from_ptr((object as *mut i32).add(1)) }
}

/// `KOBJECTS`, the type of an object that can be waited for.
pub(crate) mod kind {
    pub(crate) const SYNCHRONIZATION_EVENT: u8 = 1;
    pub(crate) const MUTANT: u8 = 2;
    pub(crate) const SEMAPHORE: u8 = 5;
    pub(crate) const SYNCHRONIZATION_TIMER: u8 = 9;
}

/// The type of an object.
fn kind_of(object: usize) -> u8 {
    // SAFETY: as above; the type byte is written once, when the object is initialised.
    unsafe { (object as *const u8).read() }
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

    /// The signal state of an object.
    #[allow(clippy::unused_self)] // of this machine's memory
    pub(crate) fn read_signal(&self, object: usize) -> i32 {
        // Acquire: who sees it signalled sees what was done before.
        signal(object).load(Ordering::Acquire)
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
        let mut found = None;
        self.wait_for(timeout, || {
            found = take(objects, all);
            found.is_some()
        })?;
        Ok(found)
    }

    /// Waits until `take` says that it took what the thread waits for; says whether it did before the time
    /// was up. `take` runs with the dispatcher's lock held, and whenever something may have been signalled.
    pub(crate) fn wait_for(
        &self,
        timeout: Option<Duration>,
        mut take: impl FnMut() -> bool,
    ) -> Result<bool, Stopped> {
        if self.schedule.is_some() {
            let deadline = timeout.map(|timeout| self.now() + timeout);
            let mut taken = false;
            self.wait_virtual(deadline, || {
                taken = taken || take();
                taken
            });
            return if self.is_dead() { Err(Stopped::new()) } else { Ok(taken) };
        }
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut guard = self.dispatcher.lock.lock();
        loop {
            if self.is_dead() {
                return Err(Stopped::new());
            }
            if take() {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            let pause = Duration::from_millis(50);
            let until = deadline.map_or(Instant::now() + pause, |d| d.min(Instant::now() + pause));
            let _ = self.dispatcher.changed.wait_until(&mut guard, until);
        }
    }

    /// Changes something that threads may wait for, with the dispatcher's lock held, and lets them look.
    pub(crate) fn with_dispatcher<R>(&self, change: impl FnOnce() -> R) -> R {
        let guard = self.dispatcher.lock.lock();
        let result = change();
        drop(guard);
        self.dispatcher.changed.notify_all();
        result
    }
}

/// Satisfies a wait if it can be: the first object that was signalled. To be called with the
/// dispatcher's lock held, or on the only thread.
fn take(objects: &[usize], all: bool) -> Option<usize> {
    // Relaxed: the dispatcher's lock orders it against signals.
    let signalled = |object: &usize| {
        let state = signal(*object).load(Ordering::Relaxed);
        state > 0 || (kind_of(*object) == kind::MUTANT && super::mutex::mutant_is_mine(*object))
    };
    let taken = if all {
        objects.iter().all(signalled).then_some(0..objects.len())
    } else {
        objects.iter().position(signalled).map(|index| index..index + 1)
    }?;
    let first = taken.start;
    for object in &objects[taken] {
        match kind_of(*object) {
            kind::SYNCHRONIZATION_EVENT | kind::SYNCHRONIZATION_TIMER => {
                signal(*object).store(0, Ordering::Relaxed);
            }
            kind::SEMAPHORE => {
                signal(*object).fetch_sub(1, Ordering::Relaxed);
            }
            kind::MUTANT => super::mutex::own_mutant(*object),
            _ => {}
        }
    }
    Some(first)
}
