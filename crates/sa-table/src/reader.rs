//! The read side: one guard per batch of packets.

use core::fmt;
use core::hint::cold_path;
use core::mem::ManuallyDrop;

use crate::epoch::{self, Counter, Line, Parity};
use crate::handle::{Handle, Phase};
use crate::index::{Bucket, Home, Matches};
use crate::key::{Hasher, InboundKey};
use crate::progress::Progress;
use crate::shared::Core;
use crate::slot::{LINK_MASK, Slot};
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
        Self { core, slots: core.slots(), buckets: core.storage.buckets(), hasher: core.hasher, line, parity }
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
        let home = Home::of(self.hasher.hash(key.words()), self.buckets);
        let matches = home.bucket.matches(home.tag);
        // Nearly always it is the first that matches. Everything else is elsewhere, so that a loop of lookups stays small.
        if let Some(lane) = matches.first() {
            let found = compare(slot_of_lane(self.slots, home.bucket, lane), key);
            if found.is_some() {
                return found;
            }
        }
        cold_path();
        find_on(self.slots, home.bucket, matches, key, self.line)
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
        if epoch::unpin(self.line, self.parity) { self.core.drive() } else { Progress::default() }
    }
}

/// The slot whose number is in a lane.
#[inline]
fn slot_of_lane<'t, V>(slots: &'t [Slot<V>], bucket: &Bucket, lane: u32) -> &'t Slot<V> {
    // SAFETY: lanes hold 0 or what a writer put there, the number of a slot of this table (see `Bucket::slot`).
    unsafe { slots.get_unchecked(bucket.slot(lane) as usize) }
}

/// The entry in this slot, if it is live and has this key. The caller is pinned, and stays so as long as it uses the result.
#[inline]
fn compare<'t, V>(slot: &'t Slot<V>, key: &InboundKey) -> Option<(Handle, &'t V)> {
    let state = slot.state();
    if !state.is(Phase::Live) {
        cold_path();
        return None;
    }
    // SAFETY: Live was loaded, and the caller is pinned.
    if !same(*unsafe { slot.key() }, *key.words()) {
        cold_path();
        return None;
    }
    // SAFETY: as above, as long as the reference is used.
    Some((state.to_handle(), unsafe { slot.value() }))
}

/// Whether two keys are the same, word by word: the compiler's own comparison of arrays is longer.
#[inline]
fn same(a: [u64; 3], b: [u64; 3]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) == 0
}

/// Goes through all lanes whose tag matches, and the chain.
#[cold]
#[inline(never)]
fn find_on<'t, V>(
    slots: &'t [Slot<V>],
    bucket: &Bucket,
    matches: Matches,
    key: &InboundKey,
    line: &Line,
) -> Option<(Handle, &'t V)> {
    for lane in matches.all() {
        let found = compare(slot_of_lane(slots, bucket, lane), key);
        if found.is_some() {
            return found;
        }
        line.count_here(Counter::Probes);
    }
    let mut index = bucket.load().head();
    // No node comes twice, see `Writer::unlink_marked`; the count says so to the reader of this loop.
    for _ in slots {
        // `NONE` is the number of no slot.
        let slot = slots.get(index as usize)?;
        // Before the slot is judged. `SeqCst`: as in `Bucket::load`.
        index = slot.place.load(Ordering::SeqCst) & LINK_MASK;
        let found = compare(slot, key);
        if found.is_some() {
            return found;
        }
        line.count_here(Counter::Probes);
    }
    None
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
