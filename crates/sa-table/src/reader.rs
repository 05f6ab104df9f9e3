//! The read side: one guard per batch of packets.

use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;

use crate::epoch::{self, Counter, Line, Parity};
use crate::handle::{Handle, MAX_CAPACITY, Phase};
use crate::index::{Bucket, Home};
use crate::key::{Hasher, InboundKey};
use crate::progress::Progress;
use crate::shared::Core;
use crate::slot::{LINK_MASK, NONE, Slot};
use crate::sync::Ordering;

/// A batch of lookups. No entry that this finds is freed while it exists: references to entries borrow it.
///
/// Made by [`SaTable::enter`](crate::SaTable::enter); end it with [`leave`](Self::leave). Every function is wait-free:
/// lookups by handle load one slot; lookups by key one bucket and, but for tag collisions, one slot, and at most
/// 8 + [`MAX_CHAIN`](crate::MAX_CHAIN) slots and those that are just being unlinked. They write no shared memory.
///
/// An entry that is retired while a reader exists is not found by lookups that begin after the retirement; references
/// that were obtained before stay good.
pub struct Reader<'t, V> {
    core: &'t Core<V>,
    /// The core's, copied: so that a loop of lookups keeps them in registers.
    slots: &'t [Slot<V>],
    buckets: &'t [Bucket],
    hasher: Hasher,
    line: &'t Line,
    parity: Parity,
    /// Slots compared in vain, added to the line's statistics at the end.
    probes: Cell<u32>,
    stale: Cell<u32>,
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
        let parity = core.pin(line);
        Self {
            core,
            slots: core.slots(),
            buckets: core.storage.buckets(),
            hasher: core.hasher,
            line,
            parity,
            probes: Cell::new(0),
            stale: Cell::new(0),
        }
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
        self.stale.set(self.stale.get().wrapping_add(1));
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
        let words = key.words();
        let home = Home::of(self.hasher.hash(&words), self.buckets);
        for lane in home.bucket.matches(home.tag) {
            if let Some(found) = compare(self.slots, home.bucket.slot(lane), &words) {
                return Some(found);
            }
            self.probes.set(self.probes.get().wrapping_add(1));
        }
        let head = home.bucket.load().head();
        if head == NONE {
            return None;
        }
        // Nothing of `self` is lent to what is not inlined, which would keep it out of registers.
        let (found, probes) = find_in_chain(self.slots, head, words);
        self.probes.set(self.probes.get().wrapping_add(probes));
        found
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

    /// Ends the batch. If somebody waits for this reader and it is the last one in the way, the epoch is advanced and
    /// what became free is reclaimed here, and [`Progress::ended`] is true.
    #[inline]
    pub fn leave(self) -> Progress {
        // The guard's own `Drop` would do the same and tell nobody.
        ManuallyDrop::new(self).end()
    }

    #[inline]
    fn end(&mut self) -> Progress {
        if self.probes.get() | self.stale.get() != 0 {
            self.line.count(Counter::Probes, self.probes.get());
            self.line.count(Counter::Stale, self.stale.get());
        }
        if epoch::unpin(self.line, self.parity) { self.core.drive() } else { Progress::default() }
    }
}

/// The entry in this slot, if it is live and has this key. The caller is pinned, and stays so for all of `'r`.
#[inline]
fn compare<'r, V>(slots: &'r [Slot<V>], index: u32, words: &[u64; 3]) -> Option<(Handle, &'r V)> {
    let slot = slots.get(index as usize)?;
    let state = slot.state();
    // SAFETY: Live was loaded, and the caller is pinned.
    if state.is(Phase::Live) && same(unsafe { slot.key() }, words) {
        // SAFETY: as above, for all of `'r`.
        return Some((state.to_handle(), unsafe { slot.value() }));
    }
    None
}

/// Without a branch per word.
#[inline]
fn same(a: &[u64; 3], b: &[u64; 3]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) == 0
}

/// Looks through a chain; and how many slots were compared in vain.
#[cold]
#[inline(never)]
fn find_in_chain<V>(slots: &[Slot<V>], head: u32, words: [u64; 3]) -> (Option<(Handle, &V)>, u32) {
    let mut index = head;
    // No node comes twice, see `Writer::unlink_marked`; the count says so to the reader of this loop.
    for probes in 0..=MAX_CAPACITY {
        let Some(slot) = slots.get(index as usize) else { return (None, probes) };
        // Before the slot is judged. `SeqCst`: as in `Bucket::load`.
        let next = slot.place.load(Ordering::SeqCst) & LINK_MASK;
        if let Some(found) = compare(slots, index, &words) {
            return (Some(found), probes);
        }
        index = next;
    }
    (None, MAX_CAPACITY)
}

impl<V> Drop for Reader<'_, V> {
    /// As [`leave`](Reader::leave), but tells nobody of the progress: for users that wait for no grace period.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl<V> fmt::Debug for Reader<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("parity", &self.parity).finish_non_exhaustive()
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
