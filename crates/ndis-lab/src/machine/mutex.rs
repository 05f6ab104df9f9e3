//! Mutexes that threads may wait for: KMUTEX, FAST_MUTEX, guarded mutexes and push locks, and semaphores.
//!
//! Their state lies in the driver's memory, in the layouts of the WDK; who waits is woken by the dispatcher.
//! What a thread holds is in its own list, by which recursion, a wrong release and a mutex that is left held
//! are found.

use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ndis_sys::DISPATCHER_HEADER;

use super::dispatcher::{kind, signal};
use super::ktimer::write_header;
use super::{APC, Machine, PASSIVE, Stopped, processor_block, thread};
use crate::rules;

/// `KMUTANT`: its size, and where the owner and the abandoned flag are.
pub(crate) const MUTANT_SIZE: usize = 56;
const MUTANT_OWNER: usize = 40;
const MUTANT_APC_DISABLE: usize = 49;
/// `KSEMAPHORE`: its size, and where the limit is.
pub(crate) const SEMAPHORE_SIZE: usize = 32;
const SEMAPHORE_LIMIT: usize = 24;
/// `FAST_MUTEX`, which a guarded mutex is as well: its size, owner, event and saved IRQL.
pub(crate) const FAST_MUTEX_SIZE: usize = 56;
const FAST_OWNER: usize = 8;
const FAST_EVENT: usize = 24;
const FAST_OLD_IRQL: usize = 48;

pub(crate) const MUTANT: &str = "KMUTEX";
pub(crate) const FAST: &str = "FAST_MUTEX";
pub(crate) const FAST_UNSAFE: &str = "FAST_MUTEX (unsafe)";
pub(crate) const GUARDED: &str = "KGUARDED_MUTEX";
pub(crate) const GUARDED_UNSAFE: &str = "KGUARDED_MUTEX (unsafe)";
pub(crate) const PUSH_EXCLUSIVE: &str = "EX_PUSH_LOCK (exclusive)";
pub(crate) const PUSH_SHARED: &str = "EX_PUSH_LOCK (shared)";
/// The bit of a push lock that says exclusive; holders that share it count in steps of [`SHARE`].
const EXCLUSIVE: u64 = 1;
const SHARE: u64 = 1 << 4;

/// `STATUS_MUTANT_NOT_OWNED` and `STATUS_SEMAPHORE_LIMIT_EXCEEDED`, which the functions raise.
const NOT_OWNED: u64 = 0xc000_0046;
const LIMIT_EXCEEDED: u64 = 0xc000_0047;
/// `KMODE_EXCEPTION_NOT_HANDLED`, and `THREAD_STUCK_IN_DEVICE_DRIVER` for a deadlock.
const NOT_HANDLED: u32 = 0x1e;
const STUCK: u32 = 0xea;
/// How long a thread waits before the lab calls it a deadlock.
const DEADLOCK: Duration = Duration::from_secs(20);

/// A pointer-sized field of an object.
fn field<'a>(object: usize, offset: usize) -> &'a AtomicUsize {
    // SAFETY: the driver passed an object of the WDK's layout that outlives the call; the field is aligned,
    // and everyone accesses it through these functions, atomically.
    unsafe { AtomicUsize::from_ptr((object + offset) as *mut usize) }
}

/// `FAST_MUTEX.Count`: 1 while nobody holds it.
fn fast_count<'a>(object: usize) -> &'a AtomicI32 {
    // SAFETY: as above.
    unsafe { AtomicI32::from_ptr(object as *mut i32) }
}

fn push_word<'a>(object: usize) -> &'a AtomicU64 {
    // SAFETY: as above; a push lock is one aligned word.
    unsafe { AtomicU64::from_ptr(object as *mut u64) }
}

/// Whether the calling thread owns a KMUTANT.
pub(super) fn mutant_is_mine(object: usize) -> bool {
    // Relaxed: what a thread wrote itself it sees.
    field(object, MUTANT_OWNER).load(Ordering::Relaxed) == processor_block::current_thread()
}

/// A wait for a KMUTANT is satisfied: the calling thread owns it, once more.
pub(super) fn own_mutant(object: usize) {
    // Relaxed: the dispatcher's lock is held.
    let before = signal(object).fetch_sub(1, Ordering::Relaxed);
    if before == 1 {
        field(object, MUTANT_OWNER).store(processor_block::current_thread(), Ordering::Relaxed);
    }
    thread::with(|thread| {
        thread.mutexes.borrow_mut().push((object, MUTANT));
        thread.critical.set(thread.critical.get() + 1);
    });
}

fn holds(object: usize, kinds: &[&str]) -> bool {
    thread::with(|thread| {
        thread.mutexes.borrow().iter().any(|(held, kind)| *held == object && kinds.contains(kind))
    })
}

/// Takes a mutex off the thread's list; `false` if it is not on it.
fn forget(object: usize, kind: &str) -> bool {
    thread::with(|thread| {
        let mut held = thread.mutexes.borrow_mut();
        let at = held.iter().rposition(|(address, held)| *address == object && *held == kind);
        at.map(|at| held.remove(at)).is_some()
    })
}

impl Machine {
    /// `KeInitializeSemaphore`.
    pub(crate) fn initialize_semaphore(&self, object: usize, count: i32, limit: i32) {
        if limit <= 0 || !(0..=limit).contains(&count) {
            self.violate(rules::PARAMETER, format!("a semaphore of {count} with limit {limit}"));
        }
        // SAFETY: the driver gives a KSEMAPHORE that it owns and nobody uses.
        unsafe {
            write_header(object as *mut DISPATCHER_HEADER, kind::SEMAPHORE, SEMAPHORE_SIZE, count);
            ((object + SEMAPHORE_LIMIT) as *mut i32).write(limit);
        }
    }

    /// `KeReleaseSemaphore`: the count before.
    pub(crate) fn release_semaphore(&self, object: usize, adjustment: i32) -> Result<i32, Stopped> {
        // SAFETY: the driver's KSEMAPHORE: the type and the limit do not change.
        let (found, limit) =
            unsafe { ((object as *const u8).read(), ((object + SEMAPHORE_LIMIT) as *const i32).read()) };
        if found != kind::SEMAPHORE {
            self.violate(rules::MUTEX_USE, format!("semaphore {object:#x} was not initialised"));
            return Err(self.stop(NOT_HANDLED, [LIMIT_EXCEEDED, 0, 0, 0], "release of what is no semaphore"));
        }
        let before = self.with_dispatcher(|| {
            // Relaxed: the dispatcher's lock is held.
            let before = signal(object).load(Ordering::Relaxed);
            let after = before.checked_add(adjustment).filter(|after| adjustment > 0 && *after <= limit);
            after.map(|after| {
                signal(object).store(after, Ordering::Relaxed);
                before
            })
        });
        before.ok_or_else(|| {
            let text =
                format!("semaphore {object:#x} is released by {adjustment} beyond its limit of {limit}");
            self.violate(rules::SEMAPHORE_LIMIT, text);
            let parameters = [LIMIT_EXCEEDED, object as u64, 0, 0];
            self.stop(NOT_HANDLED, parameters, "STATUS_SEMAPHORE_LIMIT_EXCEEDED is raised")
        })
    }

    /// `KeInitializeMutex`.
    pub(crate) fn initialize_mutant(&self, object: usize) {
        if holds(object, &[MUTANT]) {
            self.violate(rules::MUTEX_USE, format!("{MUTANT} {object:#x} is initialised while it is held"));
        }
        // SAFETY: the driver gives a KMUTANT that it owns and nobody uses.
        unsafe {
            std::ptr::write_bytes(object as *mut u8, 0, MUTANT_SIZE);
            write_header(object as *mut DISPATCHER_HEADER, kind::MUTANT, MUTANT_SIZE, 1);
            ((object + MUTANT_APC_DISABLE) as *mut u8).write(1);
        }
    }

    /// `KeReleaseMutex`: the state before.
    pub(crate) fn release_mutant(&self, object: usize) -> Result<i32, Stopped> {
        if !forget(object, MUTANT) {
            self.violate(rules::MUTEX_NOT_OWNED, format!("{MUTANT} {object:#x} is not held by this thread"));
            let parameters = [NOT_OWNED, object as u64, 0, 0];
            return Err(self.stop(NOT_HANDLED, parameters, "STATUS_MUTANT_NOT_OWNED is raised"));
        }
        thread::with(|thread| thread.critical.set(thread.critical.get().saturating_sub(1)));
        Ok(self.give_mutant(object))
    }

    fn give_mutant(&self, object: usize) -> i32 {
        self.with_dispatcher(|| {
            // Relaxed: the dispatcher's lock is held.
            let before = signal(object).load(Ordering::Relaxed);
            if before == 0 {
                field(object, MUTANT_OWNER).store(0, Ordering::Relaxed);
            }
            signal(object).store(before + 1, Ordering::Relaxed);
            before
        })
    }

    /// `ExInitializeFastMutex` and `KeInitializeGuardedMutex`.
    pub(crate) fn initialize_fast_mutex(&self, object: usize) {
        if holds(object, &[FAST, FAST_UNSAFE, GUARDED, GUARDED_UNSAFE]) {
            self.violate(rules::MUTEX_USE, format!("mutex {object:#x} is initialised while it is held"));
        }
        // SAFETY: the driver gives a FAST_MUTEX that it owns and nobody uses.
        unsafe {
            std::ptr::write_bytes(object as *mut u8, 0, FAST_MUTEX_SIZE);
            (object as *mut i32).write(1);
            let event = (object + FAST_EVENT) as *mut DISPATCHER_HEADER;
            write_header(event, kind::SYNCHRONIZATION_EVENT, 24, 0);
        }
    }

    /// Acquires a fast or guarded mutex; without `wait`, only if that is possible at once.
    pub(crate) fn acquire_mutex(
        &self,
        object: usize,
        kind: &'static str,
        wait: bool,
    ) -> Result<bool, Stopped> {
        let count = fast_count(object).load(Ordering::Relaxed);
        if count > 1 || !object.is_multiple_of(8) {
            self.violate(rules::MUTEX_USE, format!("{kind} {object:#x} was not initialised"));
            return Err(self.stop(STUCK, [object as u64, 0, 0, 0], "no mutex at this address"));
        }
        if holds(object, &[FAST, FAST_UNSAFE, GUARDED, GUARDED_UNSAFE]) {
            if !wait {
                return Ok(false);
            }
            self.violate(rules::MUTEX_RECURSION, format!("{kind} {object:#x} is held by this thread"));
            return Err(self.stop(STUCK, [object as u64, 0, 0, 0], "deadlock on a mutex"));
        }
        self.check_apcs(object, kind);
        // APC_LEVEL and a guarded region hold from before the wait, as on Windows.
        let old = thread::irql();
        if kind == FAST {
            self.raise(old.max(APC));
        }
        let take = || {
            // Acquire: what the last holder wrote is ours.
            let free =
                fast_count(object).compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if free {
                field(object, FAST_OWNER).store(processor_block::current_thread(), Ordering::Relaxed);
            }
            free
        };
        let taken = if wait { self.wait_patiently(object, kind, take)? } else { self.with_dispatcher(take) };
        if !taken {
            if kind == FAST {
                self.lower(old)?;
            }
            return Ok(false);
        }
        if kind == FAST {
            // SAFETY: the holder of the mutex owns the field.
            unsafe { ((object + FAST_OLD_IRQL) as *mut u8).write(old) };
        }
        if kind == GUARDED {
            thread::with(|thread| thread.critical.set(thread.critical.get() + 1));
        }
        thread::with(|thread| thread.mutexes.borrow_mut().push((object, kind)));
        Ok(true)
    }

    /// Releases a fast or guarded mutex.
    pub(crate) fn release_mutex(&self, object: usize, kind: &'static str) -> Result<(), Stopped> {
        if !forget(object, kind) {
            let other =
                [FAST, FAST_UNSAFE, GUARDED, GUARDED_UNSAFE].into_iter().find(|kind| holds(object, &[kind]));
            let what =
                other.map_or("is not held by this thread".into(), |other| format!("was acquired as {other}"));
            self.violate(rules::MUTEX_NOT_OWNED, format!("{kind} {object:#x} {what}"));
            return Err(self.stop(STUCK, [object as u64, 0, 0, 0], "release of a mutex that is not held"));
        }
        // SAFETY: the holder of the mutex owns the field.
        let old = unsafe { ((object + FAST_OLD_IRQL) as *const u8).read() };
        self.open_mutex(object, kind);
        if kind == GUARDED {
            thread::with(|thread| thread.critical.set(thread.critical.get().saturating_sub(1)));
        }
        if kind == FAST { self.lower(old.min(APC)) } else { Ok(()) }
    }

    /// Opens a mutex for others, whoever holds it.
    pub(super) fn open_mutex(&self, object: usize, kind: &'static str) {
        match kind {
            MUTANT => {
                self.give_mutant(object);
            }
            PUSH_EXCLUSIVE | PUSH_SHARED => self.open_push_lock(object, kind),
            _ => self.with_dispatcher(|| {
                field(object, FAST_OWNER).store(0, Ordering::Relaxed);
                // Release: the next holder sees what we wrote.
                fast_count(object).store(1, Ordering::Release);
            }),
        }
    }

    /// Reports an acquisition that a suspended thread could hold for ever.
    fn check_apcs(&self, object: usize, kind: &'static str) {
        let asked = matches!(kind, FAST_UNSAFE | GUARDED_UNSAFE | PUSH_EXCLUSIVE | PUSH_SHARED);
        if asked && thread::irql() == PASSIVE && thread::with(|thread| thread.critical.get()) == 0 {
            let text =
                format!("{kind} {object:#x} at PASSIVE_LEVEL and outside of a critical or guarded region");
            self.violate(rules::MUTEX_USE, text);
        }
    }

    /// Waits for a lock; what does not become free is a deadlock.
    fn wait_patiently(
        &self,
        object: usize,
        kind: &'static str,
        take: impl FnMut() -> bool,
    ) -> Result<bool, Stopped> {
        if thread::irql() > APC {
            self.violate(rules::IRQL_WAIT, format!("{kind} {object:#x} is waited for"));
            return Err(self.stop(0xa, [object as u64, 0, 0, 0], "a wait at DISPATCH_LEVEL"));
        }
        let begun = Instant::now();
        if self.wait_for(Some(DEADLOCK), take)? {
            return Ok(true);
        }
        let text = format!("deadlock: {kind} {object:#x} does not become free in {:?}", begun.elapsed());
        self.violate(rules::MUTEX_USE, text);
        Err(self.stop(STUCK, [object as u64, 0, 0, 0], "deadlock on a mutex"))
    }

    /// Acquires a push lock.
    pub(crate) fn acquire_push_lock(&self, object: usize, kind: &'static str) -> Result<(), Stopped> {
        if holds(object, &[PUSH_EXCLUSIVE]) || (kind == PUSH_EXCLUSIVE && holds(object, &[PUSH_SHARED])) {
            self.violate(rules::MUTEX_RECURSION, format!("{kind} {object:#x} is held by this thread"));
            return Err(self.stop(STUCK, [object as u64, 0, 0, 0], "deadlock on a push lock"));
        }
        if holds(object, &[PUSH_SHARED]) {
            // Blocks as soon as a writer waits in between.
            self.violate(rules::MUTEX_RECURSION, format!("{kind} {object:#x} is held by this thread"));
        }
        self.check_apcs(object, kind);
        let word = push_word(object);
        self.wait_patiently(object, kind, || {
            // Relaxed: the dispatcher's lock orders all changes.
            let value = word.load(Ordering::Relaxed);
            let next = match kind {
                PUSH_EXCLUSIVE => (value == 0).then_some(EXCLUSIVE),
                _ => (value & EXCLUSIVE == 0).then_some(value + SHARE),
            };
            next.map(|next| word.store(next, Ordering::Relaxed)).is_some()
        })?;
        thread::with(|thread| thread.mutexes.borrow_mut().push((object, kind)));
        Ok(())
    }

    /// Releases a push lock; `None`: as it was acquired.
    pub(crate) fn release_push_lock(&self, object: usize, kind: Option<&'static str>) -> Result<(), Stopped> {
        let held = [PUSH_EXCLUSIVE, PUSH_SHARED].into_iter().find(|kind| holds(object, &[kind]));
        match (held, kind) {
            (Some(held), wanted) if wanted.is_none_or(|wanted| wanted == held) => {
                forget(object, held);
                self.open_push_lock(object, held);
                Ok(())
            }
            (held, _) => {
                let what =
                    held.map_or("is not held by this thread".into(), |held| format!("is held as {held}"));
                self.violate(rules::MUTEX_NOT_OWNED, format!("push lock {object:#x} {what}"));
                Err(self.stop(STUCK, [object as u64, 0, 0, 0], "release of a push lock that is not held"))
            }
        }
    }

    fn open_push_lock(&self, object: usize, kind: &'static str) {
        self.with_dispatcher(|| {
            let less = if kind == PUSH_EXCLUSIVE { EXCLUSIVE } else { SHARE };
            // Relaxed: the dispatcher's lock orders all changes.
            push_word(object).fetch_sub(less, Ordering::Relaxed);
        });
    }
}
