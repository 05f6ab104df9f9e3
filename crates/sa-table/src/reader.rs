//! The read side: one guard per batch of packets.

use core::fmt;
use core::hint::cold_path;
use core::mem::ManuallyDrop;

use crate::epoch::{self, Counter, Line};
use crate::handle::{Handle, Phase, State};
use crate::index::Index;
use crate::key::{Hasher, InboundKey};
use crate::prefetch::prefetch;
use crate::progress::Progress;
use crate::shared::Core;
use crate::slot::{LINK_MASK, Slot};
use crate::sync::Ordering;

/// Keys that [`Reader::find_many`] has in progress at a time: more than a processor has cache misses in progress.
const GROUP: usize = 32;

/// From how many bytes of slots on they are expected to be outside of a processor's own caches: a usual second-level one has 1 to
/// 2 MiB. Below, the lookups of a loop overlap by themselves, and to do them in stages costs more than it brings.
const FAR: usize = if cfg!(any(test, loom, shuttle)) { 1 } else { 1 << 21 };

/// A batch of lookups. No entry that this finds is freed while it exists: references to entries borrow it.
///
/// Made by [`SaTable::enter`](crate::SaTable::enter); end it with [`leave`](Self::leave), or go on to the next batch with
/// [`renew`](Self::renew). Every function is wait-free: lookups by handle load one slot; lookups by key one bucket and, but for
/// tag collisions, one slot, and at most 2 x 16 + [`MAX_CHAIN`](crate::MAX_CHAIN) slots and those that are just being
/// unlinked. They write no shared memory.
///
/// An entry that is retired while a reader exists is not found by lookups that begin after the retirement; references
/// that were obtained before stay good.
pub struct Reader<'t, V> {
    core: &'t Core<V>,
    /// The core's, copied: so that a loop of lookups keeps them in registers.
    slots: &'t [Slot<V>],
    index: Index<'t>,
    hasher: Hasher,
    line: &'t Line,
    /// E, as it was when this reader was pinned under its parity.
    epoch: u64,
}

/// One entry, in a dump.
pub struct Entry<'r, V> {
    /// Its handle.
    pub handle: Handle,
    /// What it is found by; `None` for an outbound entry.
    pub key: Option<InboundKey>,
    /// The value.
    pub value: &'r V,
}

impl<'t, V> Reader<'t, V> {
    #[inline]
    pub(crate) fn new(core: &'t Core<V>, hint: u32) -> Self {
        let line = core.line(hint);
        let epoch = core.pin(line);
        Self { core, slots: core.slots(), index: core.storage.index(), hasher: core.hasher, line, epoch }
    }

    /// The entry with this handle; `None` if there is none (counted in [`Stats::stale`](crate::Stats)).
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&V> {
        if let Some(slot) = self.slots.get(handle.index() as usize)
            && slot.holds(handle)
        {
            // SAFETY: Live was loaded, and this thread is pinned as long as `self` is borrowed.
            return Some(unsafe { slot.value() });
        }
        self.line.count_here(Counter::Stale);
        None
    }

    /// As [`get`](Self::get), with the key.
    pub fn entry(&self, handle: Handle) -> Option<Entry<'_, V>> {
        let value = self.get(handle)?;
        // SAFETY: `get` found the slot live, and this thread is pinned.
        let key = unsafe { self.slots[handle.index() as usize].key() };
        Some(Entry { handle, key: InboundKey::from_words(*key), value })
    }

    /// The inbound entry with this key, and its handle.
    #[inline]
    pub fn find(&self, key: &InboundKey) -> Option<(Handle, &V)> {
        let home = self.index.home(self.hasher.hash(key.words()));
        // Nearly always it is the first that matches. Everything else is elsewhere, so that a loop of lookups stays small.
        for lane in home.lanes.matches(home.tag) {
            let slot = self.slot_numbered(home.lanes.slot(lane));
            if let Some(state) = holds_key(slot, key) {
                // SAFETY: the slot was found live, and this thread is pinned as long as `self` is borrowed.
                return Some((state.to_handle(), unsafe { slot.value() }));
            }
            cold_path();
        }
        cold_path();
        self.find_anywhere(key)
    }

    /// Goes through all lanes whose tag matches, and the chain.
    #[cold]
    #[inline(never)]
    fn find_anywhere(&self, key: &InboundKey) -> Option<(Handle, &V)> {
        let home = self.index.home(self.hasher.hash(key.words()));
        for lane in home.lanes.matches(home.tag) {
            let slot = self.slot_numbered(home.lanes.slot(lane));
            if let Some(state) = holds_key(slot, key) {
                // SAFETY: the slot was found live, and this thread is pinned as long as `self` is borrowed.
                return Some((state.to_handle(), unsafe { slot.value() }));
            }
            self.line.count_here(Counter::Probes);
        }
        let mut index = home.bucket.load().head();
        // No node comes twice, see `Writer::unlink_marked`; the count says so to the reader of this loop.
        for _ in self.slots {
            // `NONE` is the number of no slot.
            let slot = self.slots.get(index as usize)?;
            // Before the slot is judged. `SeqCst`: as in `Bucket::load`.
            index = slot.place.load(Ordering::SeqCst) & LINK_MASK;
            if let Some(state) = holds_key(slot, key) {
                // SAFETY: as above.
                return Some((state.to_handle(), unsafe { slot.value() }));
            }
            self.line.count_here(Counter::Probes);
        }
        None
    }

    /// The slot with a number that was in a lane, or number 0.
    #[inline]
    fn slot_numbered(&self, number: u16) -> &'t Slot<V> {
        // SAFETY: lanes hold 0 or what a writer put there, the number of a slot of this table (see `Lanes::slot`), and a table
        // has a slot 0. Nobody else calls this with anything else.
        unsafe { self.slots.get_unchecked(number as usize) }
    }

    /// Looks up many keys, and calls `each` with the number of each key, in order, and what [`find`](Self::find) says of it.
    ///
    /// Of tables that are larger than the processor's caches all that these keys need is requested first, so that one waits
    /// for the slowest of them, not for each in turn: about twice as fast at 65,536 entries. Of small ones it is the same as
    /// `find`.
    #[inline]
    pub fn find_many<'r>(
        &'r self,
        keys: &[InboundKey],
        mut each: impl FnMut(usize, Option<(Handle, &'r V)>),
    ) {
        if size_of_val(self.slots) < FAR {
            keys.iter().enumerate().for_each(|(n, key)| each(n, self.find(key)));
        } else {
            self.find_far(keys, each);
        }
    }

    /// [`find_many`](Self::find_many) in stages: the buckets of a group of keys are requested, then their slots, then those are
    /// compared. By itself, so that the loop for small tables stays small.
    #[inline(never)]
    fn find_far<'r>(&'r self, keys: &[InboundKey], mut each: impl FnMut(usize, Option<(Handle, &'r V)>)) {
        let mut n = 0;
        for keys in keys.chunks(GROUP) {
            let mut hashes = [0; GROUP];
            for (key, hash) in keys.iter().zip(&mut hashes) {
                *hash = self.hasher.hash(key.words());
                prefetch(self.index.home(*hash).lanes);
            }
            let mut numbers = [0; GROUP];
            for ((_, hash), number) in keys.iter().zip(hashes).zip(&mut numbers) {
                let home = self.index.home(hash);
                *number = home.lanes.slot(home.lanes.matches(home.tag).first_or_any());
                prefetch(self.slot_numbered(*number));
            }
            for (key, number) in keys.iter().zip(numbers) {
                let slot = self.slot_numbered(number);
                each(
                    n,
                    if let Some(state) = holds_key(slot, key) {
                        // SAFETY: the slot was found live, and this thread is pinned as long as `self` is borrowed.
                        Some((state.to_handle(), unsafe { slot.value() }))
                    } else {
                        cold_path();
                        self.find_anywhere(key)
                    },
                );
                n += 1;
            }
        }
    }

    /// All entries that are live when the iteration comes to them, by slot number, for dumps.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, V>> {
        self.slots.iter().filter_map(|slot| {
            let state = slot.state();
            if !state.is(Phase::Live) {
                return None;
            }
            let handle = state.to_handle();
            // SAFETY: Live was loaded, and this thread is pinned as long as `self` is borrowed.
            let (key, value) = unsafe { (slot.key(), slot.value()) };
            Some(Entry { handle, key: InboundKey::from_words(*key), value })
        })
    }

    /// Ends this batch and begins the next: as [`leave`](Self::leave) and then [`enter`](crate::SaTable::enter), but as long
    /// as nobody wants to reclaim anything it is one load. For loops that read one batch after the other.
    ///
    /// A thread that renews in a loop keeps no grace period from ending, as one that leaves and enters; one that stops calling
    /// this does, until it leaves.
    #[inline]
    pub fn renew(&mut self) -> Progress {
        // While E is what it was, this reader is in nobody's way (see `epoch`), and the pin goes on: references to entries
        // have ended, as this borrows the reader mutably. Relaxed: a move of E that this does not see yet is seen by a later
        // call, or by `leave`.
        if self.core.control().epoch.0.load(Ordering::Relaxed) == self.epoch {
            return Progress::default();
        }
        self.pin_anew()
    }

    #[cold]
    fn pin_anew(&mut self) -> Progress {
        let progress = self.end();
        self.epoch = self.core.pin(self.line);
        progress
    }

    /// Ends the batch. If somebody waits for this reader and it is the last one in the way, the epoch is advanced and
    /// what became free is reclaimed here, and [`Progress::ended`] is true.
    #[inline]
    pub fn leave(self) -> Progress {
        // The guard's own `Drop` would do the same and tell nobody.
        ManuallyDrop::new(self).end()
    }

    #[inline]
    fn end(&mut self) -> Progress {
        if epoch::unpin(self.line, self.epoch) { self.core.drive() } else { Progress::default() }
    }
}

/// The state of this slot, if it is live and has this key. The caller is pinned.
#[inline]
fn holds_key<V>(slot: &Slot<V>, key: &InboundKey) -> Option<State> {
    let state = slot.state();
    // SAFETY: Live was loaded, and the caller is pinned.
    (state.is(Phase::Live) && unsafe { slot.key() } == key.words()).then_some(state)
}

impl<V> Drop for Reader<'_, V> {
    /// As [`leave`](Reader::leave), but tells nobody of the progress: for users that wait for no grace period.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl<V> fmt::Debug for Reader<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl<V: fmt::Debug> fmt::Debug for Entry<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("handle", &self.handle)
            .field("key", &self.key)
            .field("value", self.value)
            .finish()
    }
}
