//! What a caller learns about grace periods.

use core::ops::BitOrAssign;

/// Names the grace period of what was retired: over once no reader can see it any more **and** its value
/// has been dropped.
///
/// Comes from [`Writer::retire`](crate::Writer::retire) and is asked of the same table with
/// [`SaTable::is_over`](crate::SaTable::is_over). Of one writer's retirements, the last one's token covers all; those of several
/// writers are joined by [`max`](Self::max).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracePeriod {
    /// The latest stamp, times 2; 1 more if there are earlier ones, too.
    word: u64,
}

impl GracePeriod {
    /// Of what was retired under one stamp.
    pub(crate) const fn of(stamp: u64) -> Self {
        Self { word: stamp << 1 }
    }

    /// The latest stamp.
    pub(crate) const fn stamp(self) -> u64 {
        self.word >> 1
    }

    /// Whether something with an earlier stamp is covered as well.
    pub(crate) const fn has_earlier(self) -> bool {
        self.word & 1 != 0
    }

    /// The token that covers both retirements, whichever threads made them.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let (word, same) = (self.word | other.word, self.stamp() == other.stamp());
        Self { word: if same { word } else { self.word.max(other.word) | 1 } }
    }
}

/// Whether grace periods may have ended in a call: whoever keeps a list of those that are waited for must look
/// through it if [`ended`](Self::ended) says so, as nobody else may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "whoever waits for a grace period may have to be told now"]
pub struct Progress {
    pub(crate) ended: bool,
}

impl Progress {
    /// True if grace periods may have ended, in this call or shortly before it in another thread.
    #[inline]
    pub const fn ended(self) -> bool {
        self.ended
    }
}

impl BitOrAssign for Progress {
    fn bitor_assign(&mut self, other: Self) {
        self.ended |= other.ended;
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_token_covers_both_of_which_it_is_made() {
        let of = GracePeriod::of;
        for (one, other, stamp, has_earlier) in [
            (of(7), of(7), 7, false),
            (of(7), of(9), 9, true),
            (of(7).max(of(9)), of(9), 9, true),
            (of(7).max(of(8)), of(9), 9, true),
            (of(9), of(0), 9, true),
        ] {
            for token in [one.max(other), other.max(one)] {
                assert_eq!((token.stamp(), token.has_earlier()), (stamp, has_earlier), "{one:?}, {other:?}");
            }
        }
    }
}
