//! The tags of a bucket: sixteen bits of hash per lane, all compared with a key's at once.
//!
//! One of three functions does that: with SSE2, with NEON, or one by one, which is what the model checkers and Miri understand
//! (and whoever says `--cfg portable_tags`, to run all tests with it).

use crate::index::{LANES, USED_LANES};
use crate::sync::{AtomicU16, Ordering};

/// First 0. A lane that is not valid has its last tag.
#[repr(C, align(16))]
pub(crate) struct Tags([AtomicU16; LANES as usize]);

impl Tags {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU16::new(0)))
    }

    /// The lanes with this tag.
    ///
    /// Relaxed, as are the other accesses to tags and slot numbers. Who must find an entry has acquired its publication, by
    /// its own doing, from whoever told it of the entry, or with the commit word, and the lane was set before that. To
    /// anybody else the entry is being inserted at this moment, and may be there or not.
    #[inline]
    pub(crate) fn matches(&self, tag: u16) -> Matches {
        #[cfg(not(any(loom, shuttle, miri, portable_tags)))]
        {
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            return self.matches_sse2(tag);
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            return self.matches_neon(tag);
        }
        #[allow(unreachable_code, reason = "for who has returned above")]
        self.matches_one_by_one(tag)
    }

    /// [`matches`](Self::matches) on x86-64.
    #[cfg(all(
        target_arch = "x86_64",
        target_feature = "sse2",
        not(any(loom, shuttle, miri, portable_tags))
    ))]
    #[inline]
    fn matches_sse2(&self, tag: u16) -> Matches {
        use core::arch::x86_64 as simd;
        let (low, high): (simd::__m128i, simd::__m128i);
        // SAFETY: the 32 bytes of the tags are read, aligned to 16, that live as long as `self`; the processor reads each tag
        // among them as an atomic load would. (A wider load of atomics is unknown to the language.)
        unsafe {
            core::arch::asm!(
                "movdqa {low}, [{at}]",
                "movdqa {high}, [{at} + 16]",
                at = in(reg) &raw const *self,
                low = out(xmm_reg) low,
                high = out(xmm_reg) high,
                options(readonly, nostack, preserves_flags)
            );
        }
        // SAFETY: the target has SSE2, as the condition on this function says.
        let mask = unsafe {
            let tag = simd::_mm_set1_epi16(tag.cast_signed());
            let (low, high) = (simd::_mm_cmpeq_epi16(low, tag), simd::_mm_cmpeq_epi16(high, tag));
            simd::_mm_movemask_epi8(simd::_mm_packs_epi16(low, high))
        };
        Matches(mask.cast_unsigned())
    }

    /// [`matches`](Self::matches) on 64-bit Arm.
    #[cfg(all(
        target_arch = "aarch64",
        target_feature = "neon",
        not(any(loom, shuttle, miri, portable_tags))
    ))]
    #[inline]
    fn matches_neon(&self, tag: u16) -> Matches {
        use core::arch::aarch64 as simd;
        /// The bit of each lane.
        const BITS: [u16; LANES as usize] = {
            let mut bits = [0; LANES as usize];
            let mut lane = 0;
            while lane < bits.len() {
                bits[lane] = 1 << lane;
                lane += 1;
            }
            bits
        };
        let (low, high): (simd::uint16x8_t, simd::uint16x8_t);
        // SAFETY: the 32 bytes of the tags are read, aligned to 16, that live as long as `self`; the processor reads each tag
        // among them as an atomic load would. (A wider load of atomics is unknown to the language.)
        unsafe {
            core::arch::asm!(
                "ldp {low:q}, {high:q}, [{at}]",
                at = in(reg) &raw const *self,
                low = out(vreg) low,
                high = out(vreg) high,
                options(readonly, nostack, preserves_flags)
            );
        }
        // SAFETY: the target has NEON, as the condition on this function says; the loads are of `BITS` and within it.
        let mask = unsafe {
            let tag = simd::vdupq_n_u16(tag);
            let low = simd::vandq_u16(simd::vceqq_u16(low, tag), simd::vld1q_u16(BITS.as_ptr()));
            let high = simd::vandq_u16(simd::vceqq_u16(high, tag), simd::vld1q_u16(BITS.as_ptr().add(8)));
            simd::vaddvq_u16(simd::vorrq_u16(low, high))
        };
        Matches(u32::from(mask))
    }

    /// [`matches`](Self::matches) anywhere. The lanes that are not in use have no tags to compare.
    #[cfg_attr(not(any(test, loom, shuttle)), allow(dead_code, reason = "where there is a faster one"))]
    #[inline]
    fn matches_one_by_one(&self, tag: u16) -> Matches {
        let in_use = (0..).zip(&self.0).take(USED_LANES as usize);
        Matches(
            in_use.fold(0, |mask, (lane, at)| mask | u32::from(at.load(Ordering::Relaxed) == tag) << lane),
        )
    }

    /// Sets the tag of a lane that the caller has taken, or of a table that it has for itself.
    pub(crate) fn set(&self, lane: u32, tag: u16) {
        // Relaxed: see `matches`; and nobody else changes the tag of a taken lane.
        self.0[lane as usize].store(tag, Ordering::Relaxed);
    }
}

/// Lanes that match: a bit for each.
#[derive(Clone, Copy)]
pub(crate) struct Matches(u32);

impl Matches {
    pub(crate) const fn has(self, lane: u32) -> bool {
        self.0 >> lane & 1 != 0
    }

    /// The first of them.
    #[inline]
    pub(crate) const fn first(self) -> Option<u32> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros()) }
    }

    /// All of them, from the first on.
    pub(crate) fn lanes(self) -> impl Iterator<Item = u32> {
        (0..LANES).filter(move |&lane| self.has(lane))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn lanes_match_their_tags() {
        for tag in (0..=u16::MAX).step_by(251).chain([1, 0xff, 0x100, 0x7fff, 0x8000, 0xff00, u16::MAX]) {
            for lane in 0..LANES {
                let tags = Tags::new();
                tags.set(lane, tag);
                for other in [0, 1, tag, tag ^ 1, tag ^ 0x8000, tag.swap_bytes(), !tag] {
                    // Lanes that are never in use keep tag 0, which only the wide functions see.
                    let expected: Vec<_> =
                        (0..LANES).filter(|&at| other == if at == lane { tag } else { 0 }).collect();
                    let matches = tags.matches(other);
                    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
                        && !cfg!(any(miri, portable_tags))
                    {
                        assert_eq!(
                            matches.lanes().collect::<Vec<_>>(),
                            expected,
                            "{other:#x} of {tag:#x} in {lane}"
                        );
                        assert!((0..LANES).all(|at| matches.has(at) == expected.contains(&at)));
                        assert_eq!(matches.first(), expected.first().copied());
                    }
                    let in_use: Vec<_> = expected.into_iter().filter(|&at| at < USED_LANES).collect();
                    assert_eq!(tags.matches_one_by_one(other).lanes().collect::<Vec<_>>(), in_use);
                }
            }
        }
    }
}
