//! The index of inbound entries: buckets of sixteen lanes, and a chain for the few entries that find none free.
//!
//! A bucket has one word, `commit`, that every publication and every removal of an entry with that home bucket changes by
//! compare-exchange (chain links apart): which lanes are taken, which are valid, and the head of the chain. That
//! makes "no entry with my key is there" and "mine is published" one step. The tags (8 bits of hash per lane) and the
//! slot numbers of the lanes are written before the lane is valid, lie apart from the `commit` words, and let a lookup find its
//! entry with two loads from (mostly) one cache line.
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
pub(crate) const LANES: u32 = 16;

/// Lanes in use: unit tests and the model checker leave most of them, to get at the chains.
const USED_LANES: u32 = if cfg!(any(test, loom, shuttle)) { 1 } else { LANES };

/// How many buckets a table of this many slots has: a power of two, and one for every 7 to 14 slots. Of a full table whose
/// entries are all inbound, 0.1 % are in chains with 8 slots per bucket, and 5 % with 14.
pub(crate) const fn buckets_for(slots: u32) -> u32 {
    let per_bucket = if cfg!(any(test, loom, shuttle)) { 16 } else { 7 };
    1 << slots.div_ceil(per_bucket).ilog2()
}

/// The longest chain behind the lanes of a bucket; one more is refused with
/// [`Refusal::Neighbourhood`](crate::Refusal). It bounds every lookup.
pub const MAX_CHAIN: u32 = 64;

const LANE_BITS: u64 = (1 << LANES) - 1;
const TAKEN_SHIFT: u32 = LANES;
const HEAD_SHIFT: u32 = 2 * LANES;

/// What lookups read of a bucket, 48 bytes: hints only. Apart from the bucket's other word, which writers change four
/// times in the life of an entry, and these once.
#[repr(C, align(16))]
pub(crate) struct Lanes {
    /// Sixteen tags, first 0. A lane that is not valid has its last one.
    tags: [AtomicU64; 2],
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
        Self {
            tags: core::array::from_fn(|_| AtomicU64::new(0)),
            slots: core::array::from_fn(|_| AtomicU16::new(0)),
        }
    }

    /// Empties the lanes; the caller has the table for itself.
    pub(crate) fn reset(&self) {
        for tags in &self.tags {
            // Relaxed: as nobody else uses the table.
            tags.store(0, Ordering::Relaxed);
        }
    }

    /// The lanes whose tag matches, perhaps with some that do not: the caller compares keys.
    ///
    /// Relaxed, as are the other accesses to tags and slot numbers. Who must find an entry has acquired its publication, by
    /// its own doing, from whoever told it of the entry, or with the commit word, and the lane was set before that. To
    /// anybody else the entry is being inserted at this moment, and may be there or not.
    #[inline]
    pub(crate) fn matches(&self, tag: u64) -> Matches {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(any(loom, shuttle, miri))))]
        {
            use core::arch::x86_64::__m128i;
            let tags: __m128i;
            // SAFETY: sixteen bytes are read, aligned to 16, that live as long as `self`; the processor reads either half of
            // them as an atomic load would. (The compiler moves a pair of those through general registers.)
            unsafe {
                core::arch::asm!(
                    "movdqa {tags}, [{at}]",
                    at = in(reg) &raw const self.tags,
                    tags = out(xmm_reg) tags,
                    options(readonly, nostack, preserves_flags)
                );
            }
            Matches::in_vector(tags, tag)
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(any(loom, shuttle, miri)))))]
        Matches::of(self.tags.each_ref().map(|tags| tags.load(Ordering::Relaxed)), tag)
    }

    /// The slot number of a lane: 0 or what [`set`](Self::set) was given, so in any case that of a slot of the table.
    #[inline]
    pub(crate) fn slot(&self, lane: u32) -> u16 {
        // Relaxed: see `matches`.
        self.slots[lane as usize % LANES as usize].load(Ordering::Relaxed)
    }

    /// Sets the hints of a lane that the caller has taken; `slot` is the number of a slot of this table. They stay until the lane
    /// is taken again: who follows them meanwhile finds a slot that is not live or has another key.
    #[expect(clippy::cast_possible_truncation, reason = "a slot number has 16 bits")]
    pub(crate) fn set(&self, lane: u32, slot: u32, tag: u64) {
        // Relaxed: the publication of the entry releases it, here and below.
        self.slots[lane as usize].store(slot as u16, Ordering::Relaxed);
        let (tags, shift) = (&self.tags[lane as usize / 8], lane % 8 * 8);
        // Relaxed: nobody else changes the tag of a taken lane, and the last owner's change is acquired with the lane.
        let old = tags.load(Ordering::Relaxed) >> shift & 0xff;
        tags.fetch_xor((old ^ tag) << shift, Ordering::Relaxed);
    }
}

/// Lanes that match: a bit for each.
pub(crate) struct Matches(u32);

impl Matches {
    /// The lanes whose byte in `tags` is `tag`, which is below 256.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", any(test, loom, shuttle, miri)))]
    #[inline]
    fn of(tags: [u64; 2], tag: u64) -> Self {
        // SAFETY: the target has SSE2, as the condition on this function says.
        let tags =
            unsafe { core::arch::x86_64::_mm_set_epi64x(tags[1].cast_signed(), tags[0].cast_signed()) };
        Self::in_vector(tags, tag)
    }

    /// The lanes whose byte in `tags` is `tag`, which is below 256.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below 256")]
    fn in_vector(tags: core::arch::x86_64::__m128i, tag: u64) -> Self {
        use core::arch::x86_64 as simd;
        // SAFETY: as in `of`.
        let mask = unsafe {
            // The tag in each byte.
            let tag = simd::_mm_cvtsi32_si128(tag as i32);
            let tag = simd::_mm_shufflelo_epi16::<0>(simd::_mm_unpacklo_epi8(tag, tag));
            let tag = simd::_mm_shuffle_epi32::<0>(tag);
            simd::_mm_movemask_epi8(simd::_mm_cmpeq_epi8(tags, tag))
        };
        Self(mask.cast_unsigned())
    }

    /// The lanes whose byte in `tags` is `tag`, which is below 256.
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
    #[inline]
    fn of(tags: [u64; 2], tag: u64) -> Self {
        Self::portable(tags, tag)
    }

    /// [`of`](Self::of) without vector registers.
    #[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
    #[inline]
    fn portable(tags: [u64; 2], tag: u64) -> Self {
        const LOW7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        let [low, high] = tags.map(|tags| {
            let difference = tags ^ tag.wrapping_mul(0x0101_0101_0101_0101);
            // The high bit of each byte that is 0, exactly: no carry leaves a byte. Then the eight bits, gathered.
            let same = !((difference & LOW7).wrapping_add(LOW7) | difference | LOW7) >> 7;
            (same.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
        });
        Self(low | high << 8)
    }

    pub(crate) const fn has(&self, lane: u32) -> bool {
        self.0 >> lane & 1 != 0
    }

    /// The first of them; some lane if there is none.
    #[inline]
    pub(crate) const fn first_or_any(&self) -> u32 {
        (self.0 | 1 << (LANES - 1)).trailing_zeros()
    }
}

/// From the first on.
impl Iterator for Matches {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let lane = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(lane)
    }
}

/// All buckets.
#[derive(Clone, Copy)]
pub(crate) struct Index<'t> {
    lanes: &'t [Lanes],
    /// As many as there are `lanes`.
    buckets: &'t [Bucket],
    /// Of a hash, so that a bucket's number is left, times [`UNIT`].
    mask: usize,
}

/// What the size of [`Lanes`] is a multiple of.
const UNIT: usize = 16;
const _: () = assert!(size_of::<Lanes>().is_multiple_of(UNIT));

impl<'t> Index<'t> {
    /// The two parts of the buckets.
    ///
    /// # Safety
    ///
    /// There are as many of the one as of the other, and that is a power of two.
    #[inline]
    pub(crate) unsafe fn new(lanes: &'t [Lanes], buckets: &'t [Bucket]) -> Self {
        debug_assert!(lanes.len() == buckets.len() && lanes.len().is_power_of_two());
        Self { lanes, buckets, mask: lanes.len().wrapping_sub(1).wrapping_mul(UNIT) }
    }

    /// Where a key with this hash belongs.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    pub(crate) fn home(self, hash: u64) -> Home<'t> {
        // A multiple of 16, as the size of `Lanes` is, so that a bucket's number is never multiplied by that size: a step less.
        let at = hash as usize & self.mask;
        // SAFETY: with `n` for `at / 16`, this is `lanes[n]`, as `at / 16 * size_of::<Lanes>()` bytes are `n` times its size; and `n`
        // is at most `mask / 16`, which is the number of buckets less 1: in range for both, by the contract of `new`. (The product does
        // not wrap, as all lanes are in memory; a check of that would cost more than the rest.)
        let (lanes, bucket) = unsafe {
            (
                &*self.lanes.as_ptr().byte_add(at.wrapping_mul(size_of::<Lanes>() / UNIT)),
                self.buckets.get_unchecked(at / UNIT),
            )
        };
        Home { lanes, bucket, tag: hash >> 56 }
    }

    /// The number of the bucket that [`home`](Self::home) gives.
    #[expect(clippy::cast_possible_truncation, reason = "fewer buckets than slots")]
    pub(crate) const fn number(self, hash: u64) -> u32 {
        ((hash as usize & self.mask) / UNIT) as u32
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
    /// Below 256.
    pub(crate) tag: u64,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn lanes_match_their_tags() {
        for tag in 0..=0xff {
            for lane in 0..LANES {
                let lanes = Lanes::new();
                lanes.set(lane, 40_000 + lane, tag);
                assert_eq!(u32::from(lanes.slot(lane)), 40_000 + lane);
                for other in 0..=0xff {
                    let expected: Vec<_> =
                        (0..LANES).filter(|&at| other == if at == lane { tag } else { 0 }).collect();
                    let matches = lanes.matches(other);
                    assert!((0..LANES).all(|at| matches.has(at) == expected.contains(&at)));
                    assert_eq!(matches.first_or_any(), expected.first().copied().unwrap_or(LANES - 1));
                    assert_eq!(matches.collect::<Vec<_>>(), expected, "{other:#x} of {tag:#x} in {lane}");
                }
                lanes.set(lane, 0, 0);
                assert_eq!(lanes.matches(0).count(), LANES as usize);
            }
        }
    }

    #[test]
    fn buckets_are_a_power_of_two_of_at_most_8_bytes_per_slot() {
        let bytes = u32::try_from(size_of::<Lanes>() + size_of::<Bucket>()).unwrap();
        let least = if USED_LANES == LANES { 7 } else { 16 };
        for slots in 1..=crate::MAX_CAPACITY {
            let buckets = buckets_for(slots);
            assert!(buckets.is_power_of_two());
            assert!(slots < 2 * least * buckets, "{slots}: {buckets}");
            assert!(slots < least || buckets * bytes <= slots.next_multiple_of(7) * 8, "{slots}: {buckets}");
        }
    }

    #[test]
    fn without_vector_registers_the_same_lanes_match() {
        let mut tags = [0x0100_ff80_7f01_0081_u64, 0x80ff_0001_817f_00fe];
        for step in 0..100_000u64 {
            tags = tags.map(|half| half.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(step));
            for tag in [0, 1, 0x80, 0xff, tags[0] & 0xff, tags[1] >> 56, step & 0xff] {
                let bytes = tags.map(u64::to_le_bytes).concat();
                let expected: Vec<_> =
                    (0..LANES).filter(|&lane| u64::from(bytes[lane as usize]) == tag).collect();
                assert_eq!(Matches::of(tags, tag).collect::<Vec<_>>(), expected);
                assert_eq!(Matches::portable(tags, tag).collect::<Vec<_>>(), expected, "{tag:#x} {tags:#x?}");
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
