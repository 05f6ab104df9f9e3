//! Spin locks: KSPIN_LOCK, NDIS_SPIN_LOCK and reader-writer locks, with an eye on who holds what.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::thread::Held;
use super::{AddressMap, DISPATCH, Machine, Origin, Stopped, thread};
use crate::adapter::AdapterId;
use crate::rules;

/// `SPIN_LOCK_ALREADY_OWNED`.
const ALREADY_OWNED: u32 = 0x0f;
/// `SPIN_LOCK_NOT_OWNED`.
const NOT_OWNED: u32 = 0x10;

/// Reader-writer locks, by handle.
#[derive(Default)]
pub(crate) struct Locks {
    pub(crate) rw: Mutex<AddressMap<RwLock>>,
    pub(crate) order: super::lock_order::Order,
    /// NDIS_SPIN_LOCKs that were initialised and not freed, and who freed the latest others.
    initialised: Mutex<AddressMap<Option<Origin>>>,
}

/// The state of an `NDIS_RW_LOCK_EX`.
pub(crate) struct RwLock {
    /// Readers by thread mark; a thread may read recursively.
    readers: Vec<usize>,
    writer: usize,
    /// It lies in the driver's memory (`NDIS_RW_LOCK`): nobody has to free it.
    embedded: bool,
    origin: Origin,
}

/// What a held spin lock's word contains: never 0, distinct for each thread.
pub(super) fn mark() -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        // Relaxed: only uniqueness matters.
        static MARK: usize = usize::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(1) << 1 | 1;
    }
    MARK.with(|mark| *mark)
}

/// An `EX_SPIN_LOCK` that was acquired shared.
pub(crate) const EX_SHARED: &str = "EX_SPIN_LOCK (shared)";
/// An `EX_SPIN_LOCK` that was acquired exclusively.
pub(crate) const EX_EXCLUSIVE: &str = "EX_SPIN_LOCK (exclusive)";
/// The bit of an `EX_SPIN_LOCK` that says exclusive; the others count the holders.
const EX_BIT: u32 = 1 << 31;
/// The bit that a waiting writer sets, so that no more readers come in.
const EX_WAITER: u32 = 1 << 30;

/// The word of an `EX_SPIN_LOCK`.
fn ex_word<'a>(address: usize) -> &'a AtomicU32 {
    // SAFETY: as for `word`; an EX_SPIN_LOCK has 32 bits.
    unsafe { AtomicU32::from_ptr(address as *mut u32) }
}

fn release_ex(address: usize, exclusive: bool) {
    // Release: the next holder sees what we wrote.
    if exclusive {
        ex_word(address).fetch_and(!EX_BIT, Ordering::Release);
    } else {
        ex_word(address).fetch_sub(1, Ordering::Release);
    }
}

/// The lock's word.
fn word<'a>(address: usize) -> &'a AtomicUsize {
    // SAFETY: the driver passed the address of a KSPIN_LOCK (aligned, in memory that outlives the
    // call); everyone accesses it through these functions, atomically.
    unsafe { AtomicUsize::from_ptr(address as *mut usize) }
}

impl Locks {
    /// Reader-writer locks that have to be freed.
    pub(crate) fn census(&self) -> Vec<Origin> {
        self.rw.lock().values().filter(|lock| !lock.embedded).map(|lock| lock.origin).collect()
    }

    /// The memory of these locks goes.
    pub(crate) fn forget(&self, range: &std::ops::Range<usize>) {
        self.order.forget(range);
        self.rw.lock().retain(|address, lock| !lock.embedded || !range.contains(address));
        self.initialised.lock().retain(|lock, _| !range.contains(lock));
    }

    /// Opens a lock that a handler left held, so that the lab can go on.
    pub(crate) fn force_release(&self, address: usize, kind: &'static str) {
        if kind == EX_SHARED || kind == EX_EXCLUSIVE {
            release_ex(address, kind == EX_EXCLUSIVE);
            return;
        }
        let mut rw = self.rw.lock();
        if let Some(lock) = rw.get_mut(&address) {
            lock.readers.retain(|reader| *reader != mark());
            if lock.writer == mark() {
                lock.writer = 0;
            }
        } else {
            // Release: as a proper release would.
            word(address).store(0, Ordering::Release);
        }
    }
}

impl Locks {
    /// An NDIS_SPIN_LOCK was initialised.
    pub(crate) fn note_initialised(&self, lock: usize) {
        self.initialised.lock().insert(lock, None);
    }

    /// An NDIS_SPIN_LOCK was freed.
    pub(crate) fn note_freed(&self, lock: usize) {
        self.initialised.lock().insert(lock, Some(Origin::here()));
    }
}

impl Machine {
    /// Reports an NDIS_SPIN_LOCK that is used and was not initialised, or freed since.
    pub(crate) fn check_initialised(&self, lock: usize) {
        let state = self.locks.initialised.lock().get(&lock).copied();
        match state {
            Some(None) => {}
            Some(Some(origin)) => {
                let text = format!("NDIS_SPIN_LOCK {lock:#x} is acquired after NdisFreeSpinLock");
                self.violate_past(None, rules::LOCK_NOT_ALLOCATED, text, &[("freed", origin)]);
            }
            None => self.violate(
                rules::LOCK_NOT_ALLOCATED,
                format!(
                    "NDIS_SPIN_LOCK {lock:#x} is acquired, and NdisAllocateSpinLock never initialised it"
                ),
            ),
        }
    }

    /// Acquires a spin lock. `raise`: to DISPATCH_LEVEL; otherwise the thread is there already.
    /// Returns the IRQL before.
    pub(crate) fn acquire(&self, address: usize, kind: &'static str, raise: bool) -> Result<u8, Stopped> {
        if address == 0 || !address.is_multiple_of(align_of::<usize>()) {
            self.violate(rules::PARAMETER, format!("{kind} at {address:#x} is null or not aligned"));
            return Err(self.stop(ALREADY_OWNED, [address as u64, 0, 0, 0], "no spin lock at this address"));
        }
        let old = thread::irql();
        if raise {
            if old > DISPATCH {
                self.violate(rules::IRQL_FUNCTION, format!("{kind} acquired at {}", rules::irql_name(old)));
            }
            self.raise(old.max(DISPATCH));
        }
        self.note_lock_order(address, kind);
        let lock = word(address);
        let mut rounds = 0_u32;
        // Acquire: what the last holder wrote is ours to read.
        while let Err(holder) = lock.compare_exchange_weak(0, mark(), Ordering::Acquire, Ordering::Relaxed) {
            if holder == mark() {
                self.violate(rules::LOCK_RECURSION, format!("{kind} {address:#x} is held by this thread"));
                return Err(self.stop(ALREADY_OWNED, [address as u64, 0, 0, 0], "deadlock on a spin lock"));
            }
            self.spin(&mut rounds)?;
        }
        let old_irql = raise.then_some(old);
        thread::with(|thread| {
            thread.held.borrow_mut().push(Held {
                address,
                kind,
                old_irql,
                tried: false,
                origin: Origin::of_lock(),
            });
        });
        Ok(old)
    }

    /// Acquires a spin lock at DISPATCH_LEVEL if it is free; says whether it was.
    pub(crate) fn try_acquire(&self, address: usize, kind: &'static str) -> bool {
        if address == 0 || !address.is_multiple_of(align_of::<usize>()) {
            self.violate(rules::PARAMETER, format!("{kind} at {address:#x} is null or not aligned"));
            return false;
        }
        // Acquire: what the last holder wrote is ours to read.
        let taken = word(address).compare_exchange(0, mark(), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            let held = Held { address, kind, old_irql: None, tried: true, origin: Origin::of_lock() };
            thread::with(|thread| thread.held.borrow_mut().push(held));
        }
        taken
    }

    /// Takes a spin lock for one operation with interrupts off: the IRQL stays as it is.
    pub(crate) fn acquire_interlocked(&self, address: usize) -> Result<(), Stopped> {
        if address == 0 || !address.is_multiple_of(align_of::<usize>()) {
            self.violate(rules::PARAMETER, format!("spin lock at {address:#x} is null or not aligned"));
            return Err(self.stop(ALREADY_OWNED, [address as u64, 0, 0, 0], "no spin lock at this address"));
        }
        let mut rounds = 0;
        // Acquire: what the last holder wrote is ours to read.
        while let Err(holder) =
            word(address).compare_exchange_weak(0, mark(), Ordering::Acquire, Ordering::Relaxed)
        {
            if holder == mark() {
                self.violate(rules::LOCK_RECURSION, format!("spin lock {address:#x} is held by this thread"));
                return Err(self.stop(ALREADY_OWNED, [address as u64, 0, 0, 0], "deadlock on a spin lock"));
            }
            self.spin(&mut rounds)?;
        }
        Ok(())
    }

    /// Releases what [`Machine::acquire_interlocked`] took.
    #[allow(clippy::unused_self)] // a lock in this machine's memory
    pub(crate) fn release_interlocked(&self, address: usize) {
        // Release: the next holder sees what we wrote.
        word(address).store(0, Ordering::Release);
    }

    /// Releases a spin lock. `lower`: to which IRQL; `None` leaves it.
    pub(crate) fn release(
        &self,
        address: usize,
        kind: &'static str,
        lower: Option<u8>,
    ) -> Result<(), Stopped> {
        let held = thread::with(|thread| {
            let mut held = thread.held.borrow_mut();
            held.iter().rposition(|lock| lock.address == address).map(|at| held.remove(at))
        });
        let Some(held) = held else {
            self.violate(rules::LOCK_NOT_HELD, format!("{kind} {address:#x} is not held by this thread"));
            return Err(self.stop(
                NOT_OWNED,
                [address as u64, 0, 0, 0],
                "release of a spin lock that is not held",
            ));
        };
        // Release: the next holder sees what we wrote.
        word(address).store(0, Ordering::Release);
        self.settle_release(held, lower)
    }

    /// Acquires an `EX_SPIN_LOCK`; returns the IRQL before. `raise` as in [`Machine::acquire`].
    pub(crate) fn acquire_ex(&self, address: usize, exclusive: bool, raise: bool) -> Result<u8, Stopped> {
        let kind = if exclusive { EX_EXCLUSIVE } else { EX_SHARED };
        if address == 0 || !address.is_multiple_of(align_of::<u32>()) {
            self.violate(rules::PARAMETER, format!("{kind} at {address:#x} is null or not aligned"));
            return Err(self.stop(ALREADY_OWNED, [address as u64, 0, 0, 0], "no spin lock at this address"));
        }
        let mine = thread::with(|t| t.held.borrow().iter().any(|held| held.address == address));
        if mine {
            // A reader that reads again deadlocks as soon as a writer waits between the two.
            self.violate(rules::LOCK_RECURSION, format!("{kind} {address:#x} is held by this thread"));
            if exclusive || ex_word(address).load(Ordering::Relaxed) & EX_BIT != 0 {
                return Err(self.stop(ALREADY_OWNED, [address as u64, 0, 0, 0], "deadlock on a spin lock"));
            }
        }
        let old = thread::irql();
        if raise {
            if old > DISPATCH {
                self.violate(rules::IRQL_FUNCTION, format!("{kind} acquired at {}", rules::irql_name(old)));
            }
            self.raise(old.max(DISPATCH));
        }
        self.note_lock_order(address, kind);
        let lock = ex_word(address);
        let mut rounds = 0_u32;
        loop {
            // Relaxed: only the successful exchange below orders anything.
            let value = lock.load(Ordering::Relaxed);
            // A thread that reads already is let in again: its recursion was reported above.
            let closed = if exclusive { value & !EX_WAITER != 0 } else { value & EX_BIT != 0 };
            if !closed && (exclusive || mine || value & EX_WAITER == 0) {
                let next = if exclusive { EX_BIT } else { value + 1 };
                // Acquire: what the last holder wrote is ours to read.
                if lock.compare_exchange_weak(value, next, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    break;
                }
            } else if exclusive && value & EX_WAITER == 0 {
                // Relaxed: the bit carries no data.
                lock.fetch_or(EX_WAITER, Ordering::Relaxed);
            }
            self.spin(&mut rounds)?;
        }
        let old_irql = raise.then_some(old);
        thread::with(|thread| {
            thread.held.borrow_mut().push(Held {
                address,
                kind,
                old_irql,
                tried: false,
                origin: Origin::of_lock(),
            });
        });
        Ok(old)
    }

    /// Releases an `EX_SPIN_LOCK`; `lower` as in [`Machine::release`].
    pub(crate) fn release_ex(
        &self,
        address: usize,
        exclusive: bool,
        lower: Option<u8>,
    ) -> Result<(), Stopped> {
        let kind = if exclusive { EX_EXCLUSIVE } else { EX_SHARED };
        let held = thread::with(|thread| {
            let mut held = thread.held.borrow_mut();
            let at = held.iter().rposition(|lock| lock.address == address && lock.kind == kind);
            at.map(|at| held.remove(at))
        });
        let Some(held) = held else {
            self.violate(rules::LOCK_NOT_HELD, format!("{kind} {address:#x} is not held by this thread"));
            return Err(self.stop(
                NOT_OWNED,
                [address as u64, 0, 0, 0],
                "release of a spin lock that is not held",
            ));
        };
        release_ex(address, exclusive);
        self.settle_release(held, lower)
    }

    /// A lock was released: checks the IRQL that the caller names against the one that the acquisition gave.
    fn settle_release(&self, held: Held, lower: Option<u8>) -> Result<(), Stopped> {
        // KeTryToAcquireSpinLockAtDpcLevel's page names KeReleaseSpinLock, which is told an IRQL; the one that the
        // lock was acquired at. KeReleaseSpinLockFromDpcLevel leaves it as it is, which comes to the same.
        let tried = held.tried && lower == Some(DISPATCH);
        if held.old_irql != lower && !tried {
            let name = |irql: Option<u8>| irql.map_or("no change of IRQL".into(), rules::irql_name);
            let Held { address, kind, old_irql, .. } = held;
            let text =
                format!("{kind} {address:#x} gave {}, is released with {}", name(old_irql), name(lower));
            self.violate(rules::LOCK_ORDER, text);
        }
        let other = thread::with(|thread| thread.held.borrow().last().copied());
        if let Some(other) = other.filter(|_| lower.is_some_and(|irql| irql < DISPATCH)) {
            let text = format!(
                "{} {:#x} is released with {} while {} {:#x} is still held: a lock that is acquired later is released earlier",
                held.kind,
                held.address,
                rules::irql_name(lower.unwrap_or(0)),
                other.kind,
                other.address
            );
            self.violate_past(None, rules::LOCK_ORDER, text, &[("the other one was acquired", other.origin)]);
        }
        lower.map_or(Ok(()), |irql| self.lower(irql))
    }

    /// One round of waiting; ends when the machine does.
    fn spin(&self, rounds: &mut u32) -> Result<(), Stopped> {
        if self.is_dead() {
            return Err(Stopped::new());
        }
        *rounds += 1;
        if *rounds < 32 {
            std::hint::spin_loop();
        } else {
            // The holder may have been preempted by the host, which a kernel thread never is.
            std::thread::yield_now();
        }
        Ok(())
    }

    pub(crate) fn create_rw_lock(&self, handle: usize, owner: Option<AdapterId>) {
        let origin = Origin::made_with(owner);
        let lock = RwLock { readers: Vec::new(), writer: 0, embedded: false, origin };
        self.locks.rw.lock().insert(handle, lock);
    }

    /// `NdisInitializeReadWriteLock`: a lock in the driver's memory.
    pub(crate) fn initialize_rw_lock(&self, address: usize) {
        let lock = RwLock { readers: Vec::new(), writer: 0, embedded: true, origin: Origin::here() };
        let old = self.locks.rw.lock().insert(address, lock);
        if old.is_some_and(|old| old.writer != 0 || !old.readers.is_empty()) {
            self.violate(
                rules::POOL_IN_USE,
                format!("NDIS_RW_LOCK {address:#x} is initialised while it is held"),
            );
        }
    }

    pub(crate) fn free_rw_lock(&self, handle: usize) {
        match self.locks.rw.lock().remove(&handle) {
            None => self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no reader-writer lock")),
            Some(lock) if lock.writer != 0 || !lock.readers.is_empty() => {
                self.violate(
                    rules::LOCK_HELD_ON_RETURN,
                    format!("lock {handle:#x} is freed while it is held"),
                );
            }
            Some(_) => {}
        }
    }

    /// Acquires a reader-writer lock; returns the IRQL before.
    pub(crate) fn acquire_rw(&self, handle: usize, write: bool) -> Result<u8, Stopped> {
        let old = thread::irql();
        self.take_rw(handle, write, true)?;
        Ok(old)
    }

    /// Acquires a reader-writer lock if nobody is in the way, or when nobody is any more; returns the IRQL before.
    pub(crate) fn take_rw(&self, handle: usize, write: bool, wait: bool) -> Result<Option<u8>, Stopped> {
        let kind = "NDIS_RW_LOCK_EX";
        let old = thread::irql();
        self.raise(old.max(DISPATCH));
        self.note_lock_order(handle, kind);
        let mut rounds = 0;
        loop {
            let mut locks = self.locks.rw.lock();
            let Some(lock) = locks.get_mut(&handle) else {
                drop(locks);
                self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no reader-writer lock"));
                return Err(self.stop(ALREADY_OWNED, [handle as u64, 0, 0, 0], "no lock at this address"));
            };
            let mine = lock.writer == mark() || (write && lock.readers.contains(&mark()));
            if mine {
                drop(locks);
                self.violate(rules::LOCK_RECURSION, format!("{kind} {handle:#x} is held by this thread"));
                return Err(self.stop(ALREADY_OWNED, [handle as u64, 0, 0, 0], "deadlock on a lock"));
            }
            if lock.writer == 0 && (!write || lock.readers.is_empty()) {
                if write {
                    lock.writer = mark();
                } else {
                    lock.readers.push(mark());
                }
                break;
            }
            drop(locks);
            if !wait {
                self.lower(old)?;
                return Ok(None);
            }
            self.spin(&mut rounds)?;
        }
        let held =
            Held { address: handle, kind, old_irql: Some(old), tried: false, origin: Origin::of_lock() };
        thread::with(|thread| thread.held.borrow_mut().push(held));
        Ok(Some(old))
    }

    pub(crate) fn release_rw(&self, handle: usize, irql: u8) -> Result<(), Stopped> {
        let held = thread::with(|thread| {
            let mut held = thread.held.borrow_mut();
            held.iter().rposition(|lock| lock.address == handle).map(|at| held.remove(at))
        });
        let Some(held) = held else {
            self.violate(rules::LOCK_NOT_HELD, format!("lock {handle:#x} is not held by this thread"));
            return Err(self.stop(NOT_OWNED, [handle as u64, 0, 0, 0], "release of a lock that is not held"));
        };
        if let Some(lock) = self.locks.rw.lock().get_mut(&handle) {
            if lock.writer == mark() {
                lock.writer = 0;
            } else if let Some(at) = lock.readers.iter().position(|reader| *reader == mark()) {
                lock.readers.swap_remove(at);
            }
        }
        if held.old_irql != Some(irql) {
            self.violate(
                rules::LOCK_ORDER,
                format!("lock {handle:#x} is released with another LOCK_STATE_EX"),
            );
        }
        self.lower(held.old_irql.unwrap_or(irql))
    }

    /// Records a violation if the calling thread holds a spin lock of the driver.
    pub(crate) fn check_no_lock(&self, what: &str) {
        let held = thread::with(|thread| thread.held.borrow().last().copied());
        if let Some(lock) = held {
            self.violate(
                rules::LOCK_HELD_IN_CALL,
                format!("{} {:#x} is held while {what}", lock.kind, lock.address),
            );
        }
    }
}
