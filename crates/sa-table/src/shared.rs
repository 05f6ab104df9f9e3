//! The parts of the table that all handles to it share: slots, free list, limbo lists, and the drive.

use crate::epoch::{self, Advance, Control, Counter, GRACE, LIMBOS, Line, Wake};
use crate::handle::{MAX_GENERATION, Phase, State};
use crate::index::Home;
use crate::key::Hasher;
use crate::prefetch::prefetch;
use crate::progress::{GracePeriod, Progress};
use crate::slot::{LANE, LINK_MASK, NONE, Slot};
use crate::storage::Storage;
use crate::sync::{AtomicU64, Ordering, fence, order_s};

/// A table without its allocator.
pub(crate) struct Core<V> {
    pub(crate) storage: Storage<V>,
    pub(crate) hasher: Hasher,
}

impl<V> Core<V> {
    #[inline]
    pub(crate) fn slots(&self) -> &[Slot<V>] {
        self.storage.slots()
    }

    /// The slot with a number that came from a link, a lane or a handle of this table.
    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &Slot<V> {
        &self.slots()[index as usize]
    }

    pub(crate) fn control(&self) -> &Control {
        self.storage.control()
    }

    /// The line for a processor number; any number will do.
    #[inline]
    pub(crate) fn line(&self, hint: u32) -> &Line {
        let lines = self.storage.lines();
        let hint = hint as usize;
        // A number in range, the usual case, does without the division.
        lines.get(hint).unwrap_or_else(|| &lines[hint % lines.len()])
    }

    #[inline]
    pub(crate) fn pin(&self, line: &Line) -> u64 {
        epoch::pin(&self.control().epoch.0, line)
    }

    #[inline]
    pub(crate) fn home(&self, key: &[u64; 3]) -> Home<'_> {
        self.storage.index().home(self.hasher.hash(key))
    }

    /// E. `SeqCst`: in S, as the proof in `epoch` needs for stamps and reclaims.
    pub(crate) fn epoch(&self) -> u64 {
        self.control().epoch.0.load(Ordering::SeqCst)
    }

    /// Takes a slot from the free list; the caller owns it.
    pub(crate) fn pop_free(&self, retries: &mut u32) -> Option<u32> {
        let top = &self.control().free.0;
        // Acquire: with the slot comes what its last owner did to it.
        let mut head = top.load(Ordering::Acquire);
        loop {
            let index = link(head);
            if index == NONE {
                return None;
            }
            // Relaxed: if another thread has popped the slot meanwhile, this may be anything, but then the tag differs
            // and the exchange fails.
            let next = self.slot(index).link.load(Ordering::Relaxed);
            // For the next insertion.
            if let Some(next) = self.slots().get(next as usize) {
                prefetch(next);
            }
            match top.compare_exchange_weak(head, retag(head, next), Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
            *retries += 1;
        }
    }

    /// Puts a slot that the caller owns and that is Free into the free list.
    pub(crate) fn push_free(&self, index: u32) {
        self.push(&self.control().free.0, index);
    }

    fn push(&self, top: &AtomicU64, index: u32) {
        let slot = self.slot(index);
        // Relaxed: the exchange releases the link and acquires nothing.
        let mut head = top.load(Ordering::Relaxed);
        loop {
            slot.link.store(link(head), Ordering::Relaxed);
            // Release: whoever pops the slot sees what this thread did to it.
            match top.compare_exchange_weak(head, retag(head, index), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Stamps an unpublished entry and puts it into limbo. The caller is pinned, and still owns the entry; not afterwards.
    ///
    /// Returns the stamp, and how many entries of that stamp's list are pending.
    pub(crate) fn push_limbo(&self, index: u32) -> (GracePeriod, u32) {
        order_s();
        let stamp = self.epoch();
        let limbo = &self.control().limbo.0;
        let list = residue(stamp);
        // Relaxed: the release of the push below covers it for whoever finds the entry, and so decrements.
        let pending = limbo.pending[list].fetch_add(1, Ordering::Relaxed);
        self.push(&limbo.tops[list], index);
        (GracePeriod::of(stamp), pending + 1)
    }

    /// Takes an entry from a limbo list if its grace period is over; the caller owns it.
    ///
    /// Why an entry that this returns is safe: its stamp s has the list's residue. Its writer read s before it pushed the
    /// entry, and this thread has acquired the push before it reads E: so E >= s. The difference is 3 modulo
    /// 4, and therefore at least 3. The entry is still on top when the exchange succeeds, as the tag has not changed.
    ///
    /// Why no entry is overlooked for long: its writer was pinned while it pushed the entry, so E <= s + 2 at that
    /// time (step 2 of the proof in `epoch`, with the pin for F and the push for U). From E = s + 3 on nobody adds an
    /// entry of stamp s, and whoever moves E on to s + 4 has first emptied the list (see [`drive`](Self::drive)).
    fn pop_limbo(&self, list: usize) -> Option<u32> {
        let top = &self.control().limbo.0.tops[list];
        loop {
            // Acquire: pairs with the Release of `push`.
            let head = top.load(Ordering::Acquire);
            let index = link(head);
            if index == NONE || residue(self.epoch().wrapping_sub(GRACE)) != list {
                return None;
            }
            // Relaxed: as in `pop_free`.
            let next = self.slot(index).link.load(Ordering::Relaxed);
            // It is most likely the next to be popped, and in a long list far away.
            if let Some(next) = self.slots().get(next as usize) {
                prefetch(next);
            }
            // Acquire: as the load. Release: who finds the list empty after this sees this thread among the reclaimers.
            if top.compare_exchange_weak(head, retag(head, next), Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                return Some(index);
            }
        }
    }

    /// Drops the value of a retired entry whose grace period is over, and frees its slot.
    fn reclaim(&self, list: usize, index: u32) {
        let slot = self.slot(index);
        // Relaxed, here and below: this thread owns the slot, and `push_free` releases it.
        let generation = State(slot.state.load(Ordering::Relaxed)).generation();
        let place = slot.place.load(Ordering::Relaxed);
        // Before the value is dropped: should its `Drop` panic, nobody drops it again.
        slot.state.store(State::new(generation, Phase::Free, index).0, Ordering::Relaxed);
        // SAFETY: `pop_limbo` gave the slot to this thread alone, after the grace period of its entry: by the proof in
        // `epoch` each reader that found it live has unpinned, and that happens before this. It was Retired, so it was
        // filled, and what was retired is dropped here alone (or by `reset`, which finds it Free after this).
        unsafe { slot.drop_value() };
        if place & LANE != 0 {
            // SAFETY: this thread owns the slot.
            let home = self.home(unsafe { slot.key() });
            home.bucket.give_back(place & LINK_MASK);
        }
        if self.renew(index, generation) {
            self.push_free(index);
        }
        // SeqCst, and last: `is_over` tells by it that the value is gone.
        self.control().limbo.0.pending[list].fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives a Free slot that the caller owns its next generation; false if it has had the last one.
    fn renew(&self, index: u32, generation: usize) -> bool {
        let slot = self.slot(index);
        if generation < MAX_GENERATION {
            slot.state.store(State::new(generation + 1, Phase::Free, index).0, Ordering::Relaxed);
            return true;
        }
        slot.link.store(WORN_OUT, Ordering::Relaxed);
        self.control().limbo.0.worn_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Entries retired and not yet reclaimed.
    pub(crate) fn pending(&self) -> u32 {
        self.control().limbo.0.pending.iter().map(|n| n.load(Ordering::SeqCst)).sum()
    }

    /// Advances the epoch and reclaims, as far as pinned readers allow, until everything that was retired before the
    /// call is reclaimed. Never waits. Call it unpinned: one's own pin would be in the way.
    ///
    /// When this ends before that, the reader that is in the way will drive when it unpins (see `epoch`), or another
    /// thread is dropping the last values now and will report it.
    #[cold]
    pub(crate) fn drive(&self) -> Progress {
        self.drive_with(Wake::Ask);
        // Whether or not this thread did anything: it is what somebody was told to wait for.
        Progress { ended: true }
    }

    /// As [`drive`](Self::drive), but leaves readers in the way alone: for writers that nobody waits for, and that will be
    /// back. A reader that is asked does all the work, and has the cache misses, that they can do themselves.
    #[cold]
    pub(crate) fn drive_lazily(&self) -> Progress {
        Progress { ended: self.drive_with(Wake::No) }
    }

    /// Whether the epoch has moved or anything was reclaimed.
    fn drive_with(&self, wake: Wake) -> bool {
        let start = self.epoch();
        let mut moved = false;
        loop {
            let e = self.epoch();
            // Before E moves on, the list whose residue the next epoch takes is emptied.
            moved |= self.empty(residue(e.wrapping_sub(GRACE)));
            if e.wrapping_sub(start) >= GRACE || self.pending() == 0 {
                break;
            }
            if let Advance::Blocked = epoch::advance(&self.control().epoch.0, self.storage.lines(), e, wake) {
                break;
            }
            moved = true;
        }
        // Whoever waits for a grace period first makes that known, then asks `is_over`; this thread first reclaims, then
        // looks who waits. With a full fence in both, one of the two sees the other.
        fence(Ordering::SeqCst);
        moved
    }

    /// Reclaims what is in a limbo list, as long as it is safe. Whether there may have been anything.
    fn empty(&self, list: usize) -> bool {
        let limbo = &self.control().limbo.0;
        // Acquire: see `is_over`.
        if link(limbo.tops[list].load(Ordering::Acquire)) == NONE {
            return false;
        }
        // Relaxed: the exchange that takes the first entry out releases it.
        limbo.reclaimers.fetch_add(1, Ordering::Relaxed);
        while let Some(index) = self.pop_limbo(list) {
            self.reclaim(list, index);
        }
        // SeqCst, and last: `is_over` tells by it that the values are gone. Who asked meanwhile was told that it is not over,
        // even if there was nothing to reclaim: so this reports progress in any case.
        limbo.reclaimers.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Whether E has passed the last stamp's grace period, and all entries have been dropped.
    ///
    /// *Those of the last stamp, s*: each is counted as pending from before its token was made until after its drop.
    ///
    /// *Those of earlier stamps*, t < s: of their list entries of t + 4 may be pending by now. But E is at least s + 3, so it
    /// has been moved on from t + 3, by a thread that had found the list empty while nobody added to it any more (see
    /// `pop_limbo`). Whoever had taken such an entry out had counted itself among the reclaimers before. That is seen here: it
    /// was released by the exchange that took the entry, acquired with the empty list, released with E, and acquired with E
    /// below. So if no reclaimer is counted now, then that one has dropped what it took, and uncounted itself.
    ///
    /// (A thread that is preempted in a drop keeps a token of several stamps from being over, whatever it is dropping; it tells of
    /// its progress when it goes on.)
    pub(crate) fn is_over(&self, grace: GracePeriod) -> bool {
        let limbo = &self.control().limbo.0;
        // See the end of `drive_with`.
        fence(Ordering::SeqCst);
        self.epoch() >= grace.stamp() + GRACE
            && limbo.pending[residue(grace.stamp())].load(Ordering::SeqCst) == 0
            && (!grace.has_earlier() || limbo.reclaimers.load(Ordering::SeqCst) == 0)
    }

    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        // Relaxed: a statistic.
        let load = |line: &Line| line.counters[counter as usize].load(Ordering::Relaxed);
        self.storage.lines().iter().map(load).fold(0, u64::wrapping_add)
    }

    /// Drops all values and starts anew, with the next generations. Returns how many were dropped.
    ///
    /// Relaxed throughout: `&mut self` proves that no other thread uses the table.
    pub(crate) fn reset(&mut self) -> u32 {
        // First the lists: should a value's `Drop` panic, slots are leaked, but none is found in a list that it does
        // not belong to any more.
        let control = self.control();
        control.free.0.store(u64::from(NONE), Ordering::Relaxed);
        for list in 0..LIMBOS {
            control.limbo.0.tops[list].store(u64::from(NONE), Ordering::Relaxed);
            control.limbo.0.pending[list].store(0, Ordering::Relaxed);
        }
        control.limbo.0.reclaimers.store(0, Ordering::Relaxed);
        for line in self.storage.lines() {
            line.forget_pins();
        }
        let mut dropped = 0;
        for (index, slot) in (0u32..).zip(self.slots()) {
            let state = State(slot.state.load(Ordering::Relaxed));
            if state.is(Phase::Live) {
                self.line(0).count(Counter::Retired, 1);
            } else if !state.is(Phase::Retired) {
                continue;
            }
            slot.state.store(state.to(Phase::Free).0, Ordering::Relaxed);
            // SAFETY: `&mut self`: no reader borrows the table, so none is pinned with a reference to an entry, and no
            // writer owns a slot. Live and Retired slots are filled, and the state keeps this from being done twice.
            unsafe { slot.drop_value() };
            self.renew(index, state.generation());
            dropped += 1;
        }
        self.storage.index().reset();
        // Upwards again, as in a new table.
        for index in (0..self.storage.slot_count()).rev() {
            if self.slot(index).link.load(Ordering::Relaxed) != WORN_OUT {
                self.push_free(index);
            }
        }
        dropped
    }
}

/// In the link of a slot that has had all its generations, and is in no list.
const WORN_OUT: u32 = u32::MAX;

#[expect(clippy::cast_possible_truncation, reason = "masked to 17 bits")]
const fn link(head: u64) -> u32 {
    head as u32 & LINK_MASK
}

/// The next value of a list's top: another slot, another tag. 2^47 changes within one attempt of a thread to change
/// the top would be needed to deceive it.
const fn retag(head: u64, index: u32) -> u64 {
    const TAG: u64 = LINK_MASK as u64 + 1;
    (head & !(TAG - 1)).wrapping_add(TAG) | index as u64
}

#[expect(clippy::cast_possible_truncation, reason = "below LIMBOS")]
const fn residue(stamp: u64) -> usize {
    stamp as usize % LIMBOS
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_list_top_changes_with_every_step() {
        let mut head = u64::from(NONE);
        let mut seen = std::collections::HashSet::new();
        for step in 0..1000 {
            head = retag(head, step % 3);
            assert_eq!(link(head), step % 3);
            assert!(seen.insert(head));
        }
        assert_eq!(link(retag(u64::MAX, 5)), 5);
    }

    #[test]
    fn keys_have_homes_in_the_table() {
        let hasher = Hasher::new(7);
        for count in [1, 2, 3, 1000, 7022] {
            let lanes: Vec<_> = (0..count).map(|_| crate::index::Lanes::new()).collect();
            let buckets: Vec<_> = (0..count).map(|_| crate::index::Bucket::new()).collect();
            // SAFETY: as many of both, and no count above is 0.
            let index = unsafe { crate::index::Index::new(&lanes, &buckets) };
            let hashes = (0..1000).map(|spi| crate::InboundKey::v4(spi, [10, 0, 0, 1], crate::Protocol::Ah));
            for hash in hashes.map(|key| hasher.hash(key.words())).chain([0, 1, u64::MAX, 1 << 32]) {
                let home = index.home(hash);
                let at = |of: *const u8, base: *const u8, size: usize| (of.addr() - base.addr()) / size;
                let lane = at(std::ptr::from_ref(home.lanes).cast(), lanes.as_ptr().cast(), 64);
                let bucket = at(std::ptr::from_ref(home.bucket).cast(), buckets.as_ptr().cast(), 8);
                assert!(lane == bucket && bucket < count);
            }
        }
    }
}
