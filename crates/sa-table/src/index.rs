//! The index of inbound entries: buckets of eight lanes, and a chain for the few entries that find none free.
//!
//! A bucket has one word, `commit`, that every publication and every removal of an entry with that home bucket changes by
//! compare-exchange (chain links apart): which lanes are taken, which are valid, and the head of the chain. That
//! makes "no entry with my key is there" and "mine is published" one step. The tags (8 bits of hash per lane) and the
//! slot numbers of the lanes are written before the lane is valid, and let a lookup find its entry with two loads
//! from one cache line.
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

/// Lanes per bucket.
pub(crate) const LANES: u32 = 8;

/// Lanes in use: unit tests and the model checker leave most of them, to get at the chains.
const USED_LANES: u32 = if cfg!(any(test, loom, shuttle)) { 1 } else { LANES };

/// How many buckets a table of this many slots has: a power of two, and one for every 4 to 8 slots. Of a full table whose
/// entries are all inbound, 0.8 % are in chains with 4 slots per bucket, and 14 % with 8.
pub(crate) const fn buckets_for(slots: u32) -> u32 {
    let per_bucket = if cfg!(any(test, loom, shuttle)) { 16 } else { 4 };
    1 << slots.div_ceil(per_bucket).ilog2()
}

/// The longest chain behind the lanes of a bucket; one more is refused with
/// [`Refusal::Neighbourhood`](crate::Refusal). It bounds every lookup.
pub const MAX_CHAIN: u32 = 64;

const LANE_BITS: u64 = (1 << LANES) - 1;
const TAKEN_SHIFT: u32 = 8;
const HEAD_SHIFT: u32 = 16;

/// One bucket: 32 bytes, so that two share a cache line and none straddles one.
#[repr(C, align(32))]
pub(crate) struct Bucket {
    /// Eight tags, first 0. A lane that is not valid has its last one.
    tags: AtomicU64,
    commit: AtomicU64,
    slots: [AtomicU16; LANES as usize],
}

/// A value of `commit`: valid lanes in bits 0-7, taken ones in 8-15, chain head in 16-32.
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

    #[expect(clippy::cast_possible_truncation, reason = "masked to 17 bits")]
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
        Self {
            tags: AtomicU64::new(0),
            commit: AtomicU64::new(u64::from(NONE) << HEAD_SHIFT),
            slots: core::array::from_fn(|_| AtomicU16::new(0)),
        }
    }

    /// Empties the bucket; the caller has the table for itself.
    pub(crate) fn reset(&self) {
        // Relaxed: as nobody else uses the table.
        self.tags.store(0, Ordering::Relaxed);
        self.commit.store(u64::from(NONE) << HEAD_SHIFT, Ordering::Relaxed);
    }

    /// The lanes whose tag matches, perhaps with some that do not: the caller compares keys.
    #[inline]
    pub(crate) fn matches(&self, tag: u64) -> Matches {
        // Acquire: with a lane's tag comes its slot number.
        Matches::of(self.tags.load(Ordering::Acquire), tag)
    }

    /// The slot number of a lane: 0 or what [`set_lane`](Self::set_lane) was given, so in any case that of a slot of the table.
    #[inline]
    pub(crate) fn slot(&self, lane: u32) -> u16 {
        // Relaxed: ordered by the acquisition of the tag.
        self.slots[lane as usize % LANES as usize].load(Ordering::Relaxed)
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

    /// Sets the hints of a lane that the caller has taken; `slot` is the number of a slot of this table. They stay until the lane
    /// is taken again: who follows them meanwhile finds a slot that is not live or has another key.
    #[expect(clippy::cast_possible_truncation, reason = "a slot number has 16 bits")]
    pub(crate) fn set_lane(&self, lane: u32, slot: u32, tag: u64) {
        // Relaxed: the tag releases it.
        self.slots[lane as usize].store(slot as u16, Ordering::Relaxed);
        // Relaxed: nobody else changes the tag of a taken lane, and the last owner's change is acquired with the lane.
        let old = self.tags.load(Ordering::Relaxed) >> (8 * lane) & 0xff;
        // Release: pairs with the Acquire in `matches`.
        self.tags.fetch_xor((old ^ tag) << (8 * lane), Ordering::Release);
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

/// Lanes that match: a bit for each.
#[derive(Clone, Copy)]
pub(crate) struct Matches(u32);

impl Matches {
    /// The lanes whose byte in `tags` is `tag`, which is below 256.
    #[cfg(target_feature = "sse2")]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below 256")]
    fn of(tags: u64, tag: u64) -> Self {
        #[cfg(target_arch = "x86")]
        use core::arch::x86 as simd;
        #[cfg(target_arch = "x86_64")]
        use core::arch::x86_64 as simd;
        // SAFETY: the target has SSE2, as the condition on this function says.
        let mask = unsafe {
            let tags = simd::_mm_set_epi64x(0, tags.cast_signed());
            // The tag in each of the low eight bytes.
            let tag = simd::_mm_cvtsi32_si128(tag as i32);
            let tag = simd::_mm_shufflelo_epi16::<0>(simd::_mm_unpacklo_epi8(tag, tag));
            simd::_mm_movemask_epi8(simd::_mm_cmpeq_epi8(tags, tag))
        };
        Self(mask.cast_unsigned())
    }

    /// The lanes whose byte in `tags` is `tag`, which is below 256.
    #[cfg(not(target_feature = "sse2"))]
    #[inline]
    fn of(tags: u64, tag: u64) -> Self {
        Self::portable(tags, tag)
    }

    /// [`of`](Self::of) without vector registers.
    #[cfg(any(test, not(target_feature = "sse2")))]
    #[inline]
    fn portable(tags: u64, tag: u64) -> Self {
        const LOW7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        let difference = tags ^ tag.wrapping_mul(0x0101_0101_0101_0101);
        // The high bit of each byte that is 0, exactly: no carry leaves a byte. Then the eight bits, gathered.
        let same = !((difference & LOW7).wrapping_add(LOW7) | difference | LOW7) >> 7;
        Self((same.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32)
    }

    /// The first lane.
    #[inline]
    pub(crate) const fn first(self) -> Option<u32> {
        // With the bit beyond there is always one, which saves a case.
        let lane = (self.0 | 1 << LANES).trailing_zeros();
        if lane < LANES { Some(lane) } else { None }
    }

    pub(crate) const fn has(self, lane: u32) -> bool {
        self.0 >> lane & 1 != 0
    }

    /// All of them.
    pub(crate) fn all(self) -> impl Iterator<Item = u32> {
        (0..LANES).filter(move |&lane| self.has(lane))
    }
}

/// Where a key belongs.
#[derive(Clone, Copy)]
pub(crate) struct Home<'t> {
    pub(crate) bucket: &'t Bucket,
    /// Below 256.
    pub(crate) tag: u64,
}

impl<'t> Home<'t> {
    /// `buckets` are a power of two.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    pub(crate) fn of(hash: u64, buckets: &'t [Bucket]) -> Self {
        let index = hash as usize & buckets.len().wrapping_sub(1);
        // SAFETY: a table has at least one bucket, so that `len - 1` does not wrap, and a number masked with it is less
        // than `len`.
        let bucket = unsafe { buckets.get_unchecked(index) };
        Self { bucket, tag: hash >> 56 }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn lanes_match_their_tags() {
        for tag in 0..=0xff {
            for lane in 0..LANES {
                let bucket = Bucket::new();
                bucket.set_lane(lane, 40_000 + lane, tag);
                assert_eq!(u32::from(bucket.slot(lane)), 40_000 + lane);
                for other in 0..=0xff {
                    let expected: Vec<_> =
                        (0..LANES).filter(|&at| other == if at == lane { tag } else { 0 }).collect();
                    let matches = bucket.matches(other);
                    assert_eq!(
                        matches.first(),
                        expected.first().copied(),
                        "{other:#x} of {tag:#x} in {lane}"
                    );
                    assert!(expected.iter().all(|&at| matches.has(at)));
                    // False ones only above true ones.
                    assert!(!expected.is_empty() || matches.all().count() == 0);
                }
                bucket.set_lane(lane, 0, 0);
                assert_eq!(bucket.matches(0).all().count(), 8);
            }
        }
    }

    #[test]
    fn buckets_are_a_power_of_two_of_at_most_8_bytes_per_slot() {
        let lanes_per_slot = if USED_LANES == LANES { 1 } else { 4 };
        for slots in 1..=crate::MAX_CAPACITY {
            let buckets = buckets_for(slots);
            assert!(buckets.is_power_of_two());
            assert!(slots <= 8 * lanes_per_slot * buckets, "{slots}: {buckets}");
            assert!(slots < 4 || buckets * 32 <= (slots + 3) * 8, "{slots}: {buckets}");
        }
    }

    #[test]
    fn without_vector_registers_the_same_lanes_match() {
        let mut tags = 0x0100_ff80_7f01_0081_u64;
        for step in 0..100_000u64 {
            tags = tags.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(step);
            for tag in [0, 1, 0x80, 0xff, tags & 0xff, tags >> 56, step & 0xff] {
                let expected: Vec<_> = (0..LANES).filter(|lane| tags >> (8 * lane) & 0xff == tag).collect();
                assert_eq!(Matches::of(tags, tag).all().collect::<Vec<_>>(), expected);
                assert_eq!(
                    Matches::portable(tags, tag).all().collect::<Vec<_>>(),
                    expected,
                    "{tag:#x} {tags:#x}"
                );
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
