//! What a caller learns about grace periods.

use core::ops::BitOrAssign;

/// Names the grace period of what was retired: over once no reader can see it any more **and** its value
/// has been dropped.
///
/// Comes from [`Writer::retire`](crate::Writer::retire) and is asked of the same table with
/// [`SaTable::is_over`](crate::SaTable::is_over). Of one thread's retirements, the last one's token covers all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracePeriod {
    pub(crate) stamp: u64,
}

impl GracePeriod {
    /// The token that covers both retirements, whichever threads made them.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { stamp: self.stamp.max(other.stamp) }
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
