//! The read side: one guard per batch of packets.

use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;

use crate::epoch::{self, Counter, Line};
use crate::handle::Handle;
use crate::key::InboundKey;
use crate::progress::Progress;
use crate::shared::Core;
use crate::slot::{LINK_MASK, NONE};
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
    line: &'t Line,
    parity: u32,
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
        Self { core, line, parity, probes: Cell::new(0), stale: Cell::new(0) }
    }

    /// The entry with this handle; `None` if there is none (counted in [`Stats::stale`](crate::Stats)).
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&V> {
        if let Some(slot) = self.core.slots().get(handle.index() as usize)
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
        let key = unsafe { self.core.slot(handle.index()).key() };
        Some(Entry { handle, key: InboundKey::from_words(key), value })
    }

    /// The inbound entry with this key, and its handle.
    #[inline]
    pub fn find(&self, key: &InboundKey) -> Option<(Handle, &V)> {
        let words = key.words();
        let (bucket, home) = self.core.home(&words);
        for lane in bucket.matches(home.tag) {
            if let Some(found) = self.compare(bucket.slot(lane), &words) {
                return Some(found);
            }
        }
        let head = bucket.load().head();
        if head == NONE { None } else { self.find_in_chain(head, &words) }
    }

    #[cold]
    fn find_in_chain(&self, head: u32, words: &[u64; 3]) -> Option<(Handle, &V)> {
        let mut index = head;
        // No node comes twice, see `Writer::unlink_marked`; the count says so to the reader of this loop.
        for _ in self.core.slots() {
            if index == NONE {
                break;
            }
            let slot = self.core.slots().get(index as usize)?;
            // Before the slot is judged. SeqCst: as in `Bucket::load`.
            let next = slot.place.load(Ordering::SeqCst) & LINK_MASK;
            if let Some(found) = self.compare(index, words) {
                return Some(found);
            }
            index = next;
        }
        None
    }

    /// The entry in this slot, if it is live and has this key.
    #[inline]
    fn compare(&self, index: u32, words: &[u64; 3]) -> Option<(Handle, &V)> {
        let slot = self.core.slots().get(index as usize)?;
        if let Some(handle) = slot.live() {
            // SAFETY: Live was loaded, and this thread is pinned.
            if unsafe { slot.key() } == *words {
                // SAFETY: as above, as long as `self` is borrowed.
                return Some((handle, unsafe { slot.value() }));
            }
        }
        self.probes.set(self.probes.get().wrapping_add(1));
        None
    }

    /// All entries that are live when the iteration comes to them, by slot number, for dumps.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, V>> {
        self.core.slots().iter().filter_map(|slot| {
            let handle = slot.live()?;
            // SAFETY: Live was loaded, and this thread is pinned as long as `self` is borrowed.
            let (key, value) = unsafe { (slot.key(), slot.value()) };
            Some(Entry { handle, key: InboundKey::from_words(key), value })
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
