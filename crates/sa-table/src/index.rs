//! The index of inbound entries: buckets of sixteen lanes, and a chain for the few entries that find none free.
//!
//! A bucket has one word, `commit`, that every publication and every removal of an entry with that home bucket changes by
//! compare-exchange (chain links apart): which lanes are taken, which are valid, and the head of the chain. That
//! makes "no entry with my key is there" and "mine is published" one step. The tags (16 bits of hash per lane, see `tags`) and
//! the slot numbers of the lanes are written before the lane is valid and lie apart from the `commit` words, in one cache line
//! for each bucket: all that a lookup reads of the index, and all that an insertion takes away from the processors of readers.
//!
//! # What depends on the index and what does not
//!
//! A lookup takes tags and slot numbers as **hints**: what it finds is decided by the slot's state and key alone (see
//! `slot`), so no value of a tag, a slot number or a link can make a reader touch an entry that is not live.
//! The index must be right for the other half: that a live entry is always found, and that no two live entries have the
//! same key.
//!
//! # Why a commit cannot race with the same key's
//!
//! A writer is pinned from before it loads `commit` to after its compare-exchange of it. A lane that is valid, or a node
//! that is linked, when it was loaded keeps slot and key until the writer unpins: reuse needs a grace period after
//! removal. A lane that was free or taken may have become valid and invalid again since, but then its entry is
//! retired. So if `commit` still has the loaded value, then every live entry of this home bucket is among those that
//! were compared.

use crate::slot::{LINK_MASK, NONE};
use crate::sync::{AtomicU16, AtomicU64, Ordering};
use crate::tags::{Matches, Tags};

/// Lanes per bucket.
pub(crate) const LANES: u32 = 16;

/// Lanes in use: unit tests and the model checker leave most of them, to get at the chains.
pub(crate) const USED_LANES: u32 = if cfg!(any(test, loom, shuttle)) { 1 } else { LANES };

/// How many buckets a table of this many slots has: one for every 9 1/3, which with 72 bytes for a bucket makes 7.7 bytes per
/// slot. Of a full table whose entries are all inbound, 0.3 % are in chains.
pub(crate) const fn buckets_for(slots: u32) -> u32 {
    if USED_LANES == LANES { (3 * slots).div_ceil(28) } else { slots.div_ceil(16) }
}

/// The longest chain behind the lanes of a bucket; one more is refused with
/// [`Refusal::Neighbourhood`](crate::Refusal). It bounds every lookup.
pub const MAX_CHAIN: u32 = 64;

const LANE_BITS: u64 = (1 << LANES) - 1;
const TAKEN_SHIFT: u32 = LANES;
const HEAD_SHIFT: u32 = 2 * LANES;

/// What lookups read of a bucket, one cache line: hints only. Apart from the bucket's other word, which writers change four
/// times in the life of an entry, and this once.
#[repr(C, align(64))]
pub(crate) struct Lanes {
    tags: Tags,
    slots: [AtomicU16; LANES as usize],
}

/// What decides: see [`Commit`].
pub(crate) struct Bucket {
    commit: AtomicU64,
}

/// A value of `commit`: valid lanes in bits 0-15, taken ones in 16-31, chain head in 32-48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit(u64);

impl Commit {
    pub(crate) const fn valid(self) -> u64 {
        self.0 & LANE_BITS
    }

    /// A lane that is not taken.
    pub(crate) const fn free_lane(self) -> Option<u32> {
        let free = !(self.0 >> TAKEN_SHIFT) & ((1 << USED_LANES) - 1);
        if free == 0 { None } else { Some(free.trailing_zeros()) }
    }

    pub(crate) const fn head(self) -> u32 {
        (self.0 >> HEAD_SHIFT) as u32 & LINK_MASK
    }

    pub(crate) const fn with_taken(self, lane: u32) -> Self {
        Self(self.0 | 1 << (TAKEN_SHIFT + lane))
    }

    pub(crate) const fn with_valid(self, lane: u32) -> Self {
        Self(self.0 | 1 << lane)
    }

    pub(crate) const fn with_head(self, slot: u32) -> Self {
        Self(self.0 & ((1 << HEAD_SHIFT) - 1) | (slot as u64) << HEAD_SHIFT)
    }
}

impl Bucket {
    pub(crate) fn new() -> Self {
        Self { commit: AtomicU64::new(u64::from(NONE) << HEAD_SHIFT) }
    }

    /// Empties the bucket; the caller has the table for itself.
    pub(crate) fn reset(&self) {
        // Relaxed: as nobody else uses the table.
        self.commit.store(u64::from(NONE) << HEAD_SHIFT, Ordering::Relaxed);
    }

    /// `SeqCst`: a pinned thread must not get a chain head that was unlinked, and whose slot was reclaimed, before it
    /// pinned. The unlinking precedes the scan that overlooked this thread, so its pin, so this load, in S.
    #[inline]
    pub(crate) fn load(&self) -> Commit {
        Commit(self.commit.load(Ordering::SeqCst))
    }

    /// `SeqCst`: in S with the loads, see [`load`](Self::load); and it releases lane or node to whoever loads it.
    ///
    /// # Errors
    ///
    /// The value found instead.
    pub(crate) fn exchange(&self, from: Commit, to: Commit) -> Result<(), Commit> {
        self.commit
            .compare_exchange_weak(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(Commit)
    }

    /// Makes a lane invalid; it stays taken until the grace period is over.
    pub(crate) fn invalidate(&self, lane: u32) {
        // SeqCst: in S with the stamp that follows.
        self.commit.fetch_and(!(1 << lane), Ordering::SeqCst);
    }

    /// Gives a lane back that is taken and not valid.
    pub(crate) fn give_back(&self, lane: u32) {
        // SeqCst is more than the Release that the next taker needs, and costs the same.
        self.commit.fetch_and(!(1 << (TAKEN_SHIFT + lane)), Ordering::SeqCst);
    }
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self { tags: Tags::new(), slots: core::array::from_fn(|_| AtomicU16::new(0)) }
    }

    /// Empties the lanes; the caller has the table for itself.
    fn reset(&self) {
        (0..LANES).for_each(|lane| self.tags.set(lane, 0));
    }

    /// The lanes whose tag matches, perhaps with some that hold other entries or none: the caller compares keys.
    #[inline]
    pub(crate) fn matches(&self, tag: u16) -> Matches {
        self.tags.matches(tag)
    }

    /// The slot number of a lane: 0 or what [`set`](Self::set) was given, so in any case that of a slot of the table.
    #[inline]
    pub(crate) fn slot(&self, lane: u32) -> u16 {
        // Relaxed: see `Tags::matches`.
        self.slots[lane as usize % LANES as usize].load(Ordering::Relaxed)
    }

    /// Sets the hints of a lane that the caller has taken; `slot` is the number of a slot of this table. They stay until the lane
    /// is taken again: who follows them meanwhile finds a slot that is not live or has another key.
    ///
    /// Two plain stores to one cache line, so that it leaves the readers' processors once.
    #[expect(clippy::cast_possible_truncation, reason = "a slot number has 16 bits")]
    pub(crate) fn set(&self, lane: u32, slot: u32, tag: u16) {
        // Relaxed: the publication of the entry releases both.
        self.slots[lane as usize].store(slot as u16, Ordering::Relaxed);
        self.tags.set(lane, tag);
    }
}

/// All buckets.
#[derive(Clone, Copy)]
pub(crate) struct Index<'t> {
    lanes: &'t [Lanes],
    /// As many as there are `lanes`.
    buckets: &'t [Bucket],
}

/// The number of the bucket, of so many, that a key with this hash belongs to: the hash as a fraction of 2^64, of their number.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it is below `buckets`")]
pub(crate) const fn home_number(hash: u64, buckets: usize) -> usize {
    ((hash as u128).wrapping_mul(buckets as u128) >> 64) as usize
}

impl<'t> Index<'t> {
    /// The two parts of the buckets.
    ///
    /// # Safety
    ///
    /// There are as many of the one as of the other, and not none.
    #[inline]
    pub(crate) unsafe fn new(lanes: &'t [Lanes], buckets: &'t [Bucket]) -> Self {
        debug_assert!(lanes.len() == buckets.len() && !lanes.is_empty());
        Self { lanes, buckets }
    }

    /// Where a key with this hash belongs.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low 16 bits, which have little to do with the bucket's number"
    )]
    pub(crate) fn home(self, hash: u64) -> Home<'t> {
        let at = home_number(hash, self.lanes.len());
        // SAFETY: with n buckets, `at` is the whole part of hash / 2^64 x n. The fraction is less than 1, so `at` is less than n: in
        // range for both, by the contract of `new`. (A check of it costs a twentieth of a lookup.)
        let (lanes, bucket) = unsafe { (self.lanes.get_unchecked(at), self.buckets.get_unchecked(at)) };
        Home { lanes, bucket, tag: hash as u16 }
    }

    /// The number of the bucket that [`home`](Self::home) gives.
    #[expect(clippy::cast_possible_truncation, reason = "fewer buckets than slots")]
    pub(crate) const fn number(self, hash: u64) -> u32 {
        home_number(hash, self.lanes.len()) as u32
    }

    /// Empties all; the caller has the table for itself.
    pub(crate) fn reset(self) {
        self.lanes.iter().for_each(Lanes::reset);
        self.buckets.iter().for_each(Bucket::reset);
    }
}

/// Where a key belongs.
#[derive(Clone, Copy)]
pub(crate) struct Home<'t> {
    pub(crate) lanes: &'t Lanes,
    pub(crate) bucket: &'t Bucket,
    pub(crate) tag: u16,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_lane_holds_what_it_is_given() {
        let lanes = Lanes::new();
        for lane in 0..USED_LANES {
            assert_eq!(lanes.slot(lane), 0);
            lanes.set(lane, 40_000 + lane, 0x1200 + u16::try_from(lane).unwrap());
        }
        for lane in 0..USED_LANES {
            assert_eq!(u32::from(lanes.slot(lane)), 40_000 + lane);
            assert_eq!(lanes.matches(0x1200 + u16::try_from(lane).unwrap()).first(), Some(lane));
        }
        lanes.reset();
        assert!((0..USED_LANES).all(|lane| lanes.matches(0).has(lane)));
        assert_eq!((size_of::<Lanes>(), align_of::<Lanes>()), (64, 64));
    }

    #[test]
    fn buckets_are_enough_and_at_most_8_bytes_per_slot() {
        let bytes = u32::try_from(size_of::<Lanes>() + size_of::<Bucket>()).unwrap();
        for slots in 1..=crate::MAX_CAPACITY {
            let buckets = buckets_for(slots);
            assert!(buckets > 0 && slots <= 16 * buckets, "{slots}: {buckets}");
            // One bucket more than exactly that many, as there is no part of one.
            assert!(bytes * (buckets - 1) <= 8 * slots, "{slots}: {buckets}");
        }
    }

    #[test]
    fn every_bucket_is_the_home_of_its_part_of_the_hashes() {
        for buckets in [1usize, 2, 3, 40, 7022] {
            assert_eq!((home_number(0, buckets), home_number(u64::MAX, buckets)), (0, buckets - 1));
            let part = u64::MAX / buckets as u64;
            for n in 0..buckets {
                // In the middle of its part, where rounding plays no part.
                assert_eq!(home_number(part * n as u64 + part / 2, buckets), n);
            }
        }
    }

    #[test]
    fn a_commit_word_holds_what_it_is_given() {
        let mut commit = Bucket::new().load();
        assert_eq!((commit.valid(), commit.free_lane(), commit.head()), (0, Some(0), NONE));
        for lane in 0..LANES {
            assert_eq!(commit.free_lane(), (lane < USED_LANES).then_some(lane));
            commit = commit.with_taken(lane);
            assert_eq!(commit.valid() >> lane, 0);
            commit = commit.with_valid(lane).with_head(65_535);
            assert_eq!((commit.valid() >> lane, commit.head()), (1, 65_535));
        }
        assert_eq!(commit.free_lane(), None);
        assert_eq!(commit.with_head(NONE).head(), NONE);
    }
}
