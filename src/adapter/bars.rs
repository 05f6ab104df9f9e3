//! What keeps packets from passing an adapter now (`miniport-adapter-states-and-operations`).
//!
//! Only a yes or no with a reason: that a pause waits for what has passed already is the business of `ndis`, which
//! counts the chains and buffers in flight.

use core::sync::atomic::{AtomicU8, Ordering};

use ndis::Status;

/// A reason not to carry packets. Several may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Bar {
    /// Not restarted yet, pausing or paused.
    Paused = 1,
    /// In a sleep state, D1 to D3.
    LowPower = 2,
    /// Surprise-removed.
    Removed = 4,
}

/// The bars that are down.
pub(crate) struct Bars(AtomicU8);

impl Bars {
    /// Paused: the state after initialisation.
    pub(crate) const fn paused() -> Self {
        Self(AtomicU8::new(Bar::Paused as u8))
    }

    /// Lets nothing pass for this reason.
    pub(crate) fn lower(&self, bar: Bar) {
        // Relaxed, as in all of this: a hint in its own right, nothing is published through it. Who has just passed is
        // counted by `ndis`.
        self.0.fetch_or(bar as u8, Ordering::Relaxed);
    }

    /// Takes this reason away.
    pub(crate) fn lift(&self, bar: Bar) {
        self.0.fetch_and(!(bar as u8), Ordering::Relaxed);
    }

    /// Whether packets pass.
    ///
    /// # Errors
    /// The status to complete a send with (`nf-ndis-ndismsendnetbufferlistscomplete`): of several reasons that of the
    /// most lasting.
    pub(crate) fn check(&self) -> Result<(), Status> {
        let down = self.0.load(Ordering::Relaxed);
        let is_down = |bar: Bar| down & bar as u8 != 0;
        if is_down(Bar::Removed) {
            Err(Status::NOT_ACCEPTED)
        } else if is_down(Bar::Paused) {
            Err(Status::PAUSED)
        } else if is_down(Bar::LowPower) {
            Err(Status::LOW_POWER_STATE)
        } else {
            Ok(())
        }
    }

    /// Whether the device is gone.
    pub(crate) fn is_removed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Bar::Removed as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_lasting_reason_decides() {
        let bars = Bars::paused();
        assert_eq!(bars.check(), Err(Status::PAUSED));
        bars.lower(Bar::LowPower);
        assert_eq!(bars.check(), Err(Status::PAUSED));
        bars.lift(Bar::Paused);
        assert_eq!(bars.check(), Err(Status::LOW_POWER_STATE));
        bars.lower(Bar::Removed);
        assert!(bars.is_removed());
        assert_eq!(bars.check(), Err(Status::NOT_ACCEPTED));
        bars.lift(Bar::Removed);
        bars.lift(Bar::LowPower);
        assert_eq!(bars.check(), Ok(()));
    }
}
