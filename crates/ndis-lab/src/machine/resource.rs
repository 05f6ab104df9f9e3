//! ERESOURCE: locks that many may share or one may have, and that threads may wait for.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{APC, AddressMap, Machine, Origin, Stopped, thread};
use crate::rules;

/// Bytes of an ERESOURCE on x64.
pub(crate) const SIZE: usize = 104;
/// `RESOURCE_NOT_OWNED`.
const RESOURCE_NOT_OWNED: u32 = 0xe3;
/// How long a thread waits before the lab calls it a deadlock.
const DEADLOCK: Duration = Duration::from_secs(20);

struct Resource {
    /// The thread that has it alone, and how often.
    exclusive: Option<(usize, usize)>,
    /// Threads that share it, once for each acquisition.
    shared: Vec<usize>,
    /// Threads that wait to have it alone.
    writers: usize,
    origin: Origin,
}

/// All resources that live, by address.
#[derive(Default)]
pub(crate) struct Resources {
    table: Mutex<AddressMap<Resource>>,
    changed: Condvar,
}

/// How a resource is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Alone.
    Exclusive,
    /// Shared, behind those who wait to have it alone.
    Shared,
    /// Shared, before them.
    StarveExclusive,
}

impl Resource {
    /// Whether the thread may have it now.
    fn open(&self, want: Want, me: usize) -> bool {
        match (self.exclusive, want) {
            (Some((owner, _)), _) => owner == me,
            (None, Want::Exclusive) => self.shared.is_empty(),
            (None, Want::StarveExclusive) => true,
            (None, Want::Shared) => self.writers == 0 || self.shared.contains(&me),
        }
    }

    fn take(&mut self, want: Want, me: usize) {
        match (&mut self.exclusive, want) {
            (Some((_, count)), _) => *count += 1,
            (none, Want::Exclusive) => *none = Some((me, 1)),
            _ => self.shared.push(me),
        }
    }
}

impl Resources {
    pub(crate) fn census(&self) -> Vec<Origin> {
        self.table.lock().values().map(|resource| resource.origin).collect()
    }

    /// A resource that lies in these bytes and was not deleted; takes it out.
    pub(crate) fn remove_within(&self, range: &std::ops::Range<usize>) -> Option<usize> {
        let mut table = self.table.lock();
        let found = table.keys().copied().find(|address| range.contains(address))?;
        table.remove(&found);
        Some(found)
    }
}

impl Machine {
    pub(crate) fn initialize_resource(&self, address: usize) {
        let resource = Resource { exclusive: None, shared: Vec::new(), writers: 0, origin: Origin::here() };
        // SAFETY: the driver gives an ERESOURCE that it owns and nobody uses yet.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, SIZE) };
        if self.resources.table.lock().insert(address, resource).is_some() {
            self.violate(rules::RESOURCE_USE, format!("ERESOURCE {address:#x} is initialised again"));
        }
    }

    pub(crate) fn delete_resource(&self, address: usize) {
        match self.resources.table.lock().remove(&address) {
            None => self.violate(rules::RESOURCE_USE, format!("ERESOURCE {address:#x} is not initialised")),
            Some(resource) if resource.exclusive.is_some() || !resource.shared.is_empty() => {
                self.violate(
                    rules::RESOURCE_USE,
                    format!("ERESOURCE {address:#x} is deleted while it is held"),
                );
            }
            Some(_) => {}
        }
    }

    /// Acquires a resource; `false` if it cannot be had without waiting and `wait` is not set.
    pub(crate) fn acquire_resource(&self, address: usize, want: Want, wait: bool) -> Result<bool, Stopped> {
        if thread::irql() < APC && thread::with(|thread| thread.critical.get()) == 0 {
            self.violate(
                rules::RESOURCE_APC,
                format!("ERESOURCE {address:#x} at PASSIVE_LEVEL and outside of a critical region"),
            );
        }
        let me = super::processor_block::current_thread();
        let begun = Instant::now();
        let mut waits = false;
        let mut table = self.resources.table.lock();
        loop {
            let Some(resource) = table.get_mut(&address) else {
                drop(table);
                self.violate(rules::RESOURCE_USE, format!("ERESOURCE {address:#x} is not initialised"));
                return Err(self.stop(
                    RESOURCE_NOT_OWNED,
                    [address as u64, 0, 0, 0],
                    "no ERESOURCE at this address",
                ));
            };
            if resource.open(want, me) {
                resource.take(want, me);
                resource.writers -= usize::from(waits);
                break;
            }
            if !wait {
                return Ok(false);
            }
            if self.is_dead() {
                return Err(Stopped::new());
            }
            let upgrade = want == Want::Exclusive && resource.shared.contains(&me);
            if upgrade || begun.elapsed() > DEADLOCK {
                drop(table);
                let what = if upgrade { "is shared by this thread" } else { "does not become free" };
                self.violate(rules::RESOURCE_USE, format!("deadlock: ERESOURCE {address:#x} {what}"));
                return Err(self.stop(
                    RESOURCE_NOT_OWNED,
                    [address as u64, 0, 0, 0],
                    "deadlock on an ERESOURCE",
                ));
            }
            if want == Want::Exclusive && !waits {
                resource.writers += 1;
                waits = true;
            }
            self.resources.changed.wait_for(&mut table, Duration::from_millis(50));
        }
        drop(table);
        thread::with(|thread| thread.resources.borrow_mut().push(address));
        Ok(true)
    }

    pub(crate) fn release_resource(&self, address: usize) -> Result<(), Stopped> {
        let me = super::processor_block::current_thread();
        let mut table = self.resources.table.lock();
        let released = table.get_mut(&address).is_some_and(|resource| match &mut resource.exclusive {
            Some((owner, count)) if *owner == me => {
                *count -= 1;
                if *count == 0 {
                    resource.exclusive = None;
                }
                true
            }
            Some(_) => false,
            None => resource
                .shared
                .iter()
                .rposition(|reader| *reader == me)
                .map(|at| resource.shared.swap_remove(at))
                .is_some(),
        });
        drop(table);
        if !released {
            self.violate(
                rules::RESOURCE_NOT_OWNED,
                format!("ERESOURCE {address:#x} is not held by this thread"),
            );
            return Err(self.stop(
                RESOURCE_NOT_OWNED,
                [address as u64, 0, 0, 0],
                "release of an ERESOURCE that is not held",
            ));
        }
        thread::with(|thread| {
            let mut held = thread.resources.borrow_mut();
            if let Some(at) = held.iter().rposition(|resource| *resource == address) {
                held.remove(at);
            }
        });
        self.resources.changed.notify_all();
        Ok(())
    }
}
