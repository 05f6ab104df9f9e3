//! The read side: one guard per batch of packets.

use core::fmt;
use core::hint::cold_path;
use core::mem::ManuallyDrop;

use crate::epoch::{self, Counter, Line};
use crate::handle::{Handle, Phase, State};
use crate::index::{Home, Index};
use crate::key::{Hasher, InboundKey};
use crate::prefetch::prefetch;
use crate::progress::Progress;
use crate::shared::Core;
use crate::slot::{LINK_MASK, Slot};
use crate::sync::Ordering;

/// Keys that [`Reader::find_many`] has in progress at a time: more than a processor has cache misses in progress.
const GROUP: usize = 32;

/// From how many bytes of slots on they are expected to be outside of a processor's first cache, even if only the first lines of
/// them are used. Below, the lookups of a loop overlap by themselves, and to do them in two steps costs more than it brings.
const FAR: usize = if cfg!(any(test, loom, shuttle)) { 1 } else { 1 << 20 };

/// A batch of lookups. No entry that this finds is freed while it exists: references to entries borrow it.
///
/// Made by [`SaTable::enter`](crate::SaTable::enter); end it with [`leave`](Self::leave), or go on to the next batch with
/// [`renew`](Self::renew). Every function is wait-free: lookups by handle load one slot; lookups by key one bucket and, but for
/// tag collisions, one slot, and at most 1 + 16 + [`MAX_CHAIN`](crate::MAX_CHAIN) slots and those that are just being
/// unlinked. They write no shared memory.
///
/// An entry that is retired while a reader exists is not found by lookups that begin after the retirement; references
/// that were obtained before stay good.
pub struct Reader<'t, V> {
    core: &'t Core<V>,
    /// The core's, copied, as is the rest: a loop of lookups keeps them in registers. (For that no function that is not inlined
    /// gets a reference to this.)
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
        if let Some(lane) = home.lanes.matches(home.tag).first() {
            // SAFETY: the number is from a lane.
            let slot = unsafe { slot_numbered(self.slots, home.lanes.slot(lane)) };
            if let Some(state) = holds_key(slot, key) {
                // SAFETY: the slot was found live, and this thread is pinned as long as `self` is borrowed.
                return Some((state.to_handle(), unsafe { slot.value() }));
            }
        }
        cold_path();
        let (state, slot) = find_anywhere(self.core, self.line, key)?;
        // SAFETY: as above.
        Some((state.to_handle(), unsafe { slot.value() }))
    }

    /// Looks up many keys, and calls `each` with the number of each key, in order, and what [`find`](Self::find) says of it.
    ///
    /// Of tables that are larger than the processor's nearest cache the slots of all these keys are requested first, so that one
    /// waits for the slowest of them, not for each in turn: about twice as fast at 65,536 entries. Of small ones it is the same as
    /// `find`.
    #[inline]
    pub fn find_many<'r>(
        &'r self,
        keys: &[InboundKey],
        mut each: impl FnMut(usize, Option<(Handle, &'r V)>),
    ) {
        if size_of_val(self.slots) < FAR {
            keys.iter().enumerate().for_each(|(n, key)| each(n, self.find(key)));
            return;
        }
        let mut n = 0usize;
        for keys in keys.chunks(GROUP) {
            let mut numbers = [0; GROUP];
            request(self.slots, self.index, self.hasher, keys, &mut numbers);
            for (key, number) in keys.iter().zip(&numbers) {
                // SAFETY: `request` gives numbers of slots.
                let slot = unsafe { slot_numbered(self.slots, *number) };
                each(n, self.find_in(slot, key));
                // It is the number of a key in memory.
                n = n.wrapping_add(1);
            }
        }
    }

    /// The entry with this key, which is most likely in this slot.
    #[inline]
    fn find_in(&self, slot: &'t Slot<V>, key: &InboundKey) -> Option<(Handle, &V)> {
        if let Some(state) = holds_key(slot, key) {
            // SAFETY: the slot was found live, and this thread is pinned as long as `self` is borrowed.
            return Some((state.to_handle(), unsafe { slot.value() }));
        }
        cold_path();
        let (state, slot) = find_anywhere(self.core, self.line, key)?;
        // SAFETY: as above.
        Some((state.to_handle(), unsafe { slot.value() }))
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
        let progress;
        (progress, self.epoch) = pin_anew(self.core, self.line, self.epoch);
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
        unpin(self.core, self.line, self.epoch)
    }
}

#[inline]
fn unpin<V>(core: &Core<V>, line: &Line, epoch: u64) -> Progress {
    if epoch::unpin(line, epoch) { core.drive() } else { Progress::default() }
}

/// Ends the pin of `epoch` and begins another; gives that one's epoch, too.
#[cold]
#[inline(never)]
fn pin_anew<V>(core: &Core<V>, line: &Line, epoch: u64) -> (Progress, u64) {
    let progress = unpin(core, line, epoch);
    (progress, core.pin(line))
}

/// The slot with this number.
///
/// # Safety
///
/// The number was in a lane of the same table: it is 0 or what a writer put there, the number of a slot (see `Lanes::slot`), and
/// a table has a slot 0. Or it is known to be below the number of slots.
#[inline]
unsafe fn slot_numbered<V>(slots: &[Slot<V>], number: u16) -> &Slot<V> {
    // SAFETY: by the contract there is such a slot. (A check of it costs a twentieth of a lookup.)
    unsafe { slots.get_unchecked(number as usize) }
}

/// The state of this slot, if it is live and has this key. The caller is pinned.
#[inline]
fn holds_key<V>(slot: &Slot<V>, key: &InboundKey) -> Option<State> {
    let state = slot.state();
    // SAFETY: Live was loaded, and the caller is pinned.
    (state.is(Phase::Live) && unsafe { slot.key() } == key.words()).then_some(state)
}

/// The live slot with this key, and its state, from any lane whose tag matches or from the chain. The caller is pinned.
#[cold]
#[inline(never)]
fn find_anywhere<'t, V>(core: &'t Core<V>, line: &Line, key: &InboundKey) -> Option<(State, &'t Slot<V>)> {
    let home = core.home(key.words());
    for lane in home.lanes.matches(home.tag).lanes() {
        let slot = core.slot(u32::from(home.lanes.slot(lane)));
        if let Some(state) = holds_key(slot, key) {
            return Some((state, slot));
        }
        line.count_here(Counter::Probes);
    }
    let mut index = home.bucket.load().head();
    // No node comes twice, see `Writer::unlink_marked`; the count says so to the reader of this loop.
    for _ in core.slots() {
        // `NONE` is the number of no slot.
        let slot = core.slots().get(index as usize)?;
        // Before the slot is judged. `SeqCst`: as in `Bucket::load`.
        index = slot.place.load(Ordering::SeqCst) & LINK_MASK;
        if let Some(state) = holds_key(slot, key) {
            return Some((state, slot));
        }
        line.count_here(Counter::Probes);
    }
    None
}

/// Requests the slots in which these keys most likely are, and gives their numbers, all of slots. Waits for no slot, but for buckets,
/// of which there are few enough for a near cache.
#[inline(never)]
fn request<V>(
    slots: &[Slot<V>],
    index: Index<'_>,
    hasher: Hasher,
    keys: &[InboundKey],
    numbers: &mut [u16; GROUP],
) {
    for (key, number) in keys.iter().zip(numbers) {
        let home = index.home(hasher.hash(key.words()));
        *number = if let Some(lane) = home.lanes.matches(home.tag).first() {
            home.lanes.slot(lane)
        } else {
            cold_path();
            first_of_chain(home, slots.len())
        };
        // SAFETY: the number is from a lane, or below the number of slots.
        prefetch(unsafe { slot_numbered(slots, *number) });
    }
}

/// The number of the first slot in the chain of a bucket: of those that are in chains, most are. 0 if there is none. Nobody waits for
/// it: a processor goes on to the next keys, and requests the slot when the bucket's word is there.
#[inline]
fn first_of_chain(home: Home<'_>, slots: usize) -> u16 {
    // As a hint it needs no order, but the load has one.
    let head = home.bucket.load().head();
    u16::try_from(head).ok().filter(|head| usize::from(*head) < slots).unwrap_or(0)
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
