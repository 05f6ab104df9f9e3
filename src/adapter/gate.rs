//! The gate of the adapter: what may pass now, and what is still inside (`miniport-adapter-states-and-operations`).
//!
//! One word. Its low bits are the **bars**, reasons not to carry packets; above them are the **passes**, chains and requests
//! in progress. A packet path takes one pass for a chain. Only a reset waits for passes: that a pause waits for packets that NDIS
//! or the driver hold is the business of `ndis`.

use core::sync::atomic::{AtomicU32, Ordering};

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
    /// Being reset. Requests are barred too.
    Resetting = 8,
}

/// One pass.
const PASS: u32 = 1 << 8;

/// The bars that are down, and the passes that are out.
pub(crate) struct Gate(AtomicU32);

impl Gate {
    /// Paused: the state after initialisation.
    pub(crate) const fn paused() -> Self {
        Self(AtomicU32::new(Bar::Paused as u32))
    }

    /// Lets nothing more pass for this reason.
    pub(crate) fn lower(&self, bar: Bar) {
        // Relaxed: that whoever passes later sees the bar follows from the one order of the word's changes.
        self.0.fetch_or(bar as u32, Ordering::Relaxed);
    }

    /// Takes this reason away.
    pub(crate) fn lift(&self, bar: Bar) {
        // Release: with the Acquire of `pass`, so that who passes sees what a reset has restored.
        self.0.fetch_and(!(bar as u32), Ordering::Release);
    }

    /// Takes a pass, whatever the bars, and says which are down. [`leave`](Self::leave) follows in any case.
    pub(crate) fn pass(&self) -> Bars {
        // Acquire: see `lift`.
        Bars(self.0.fetch_add(PASS, Ordering::Acquire))
    }

    /// Gives a pass back. `true`: it was the last one, and a reset waits for that.
    pub(crate) fn leave(&self) -> bool {
        // Release: what was done under the pass happens before the reset goes on (`is_drained`).
        let before = Bars(self.0.fetch_sub(PASS, Ordering::Release));
        before.has(Bar::Resetting) && before.0 < 2 * PASS
    }

    /// Whether a reset is under way and no pass is out.
    pub(crate) fn is_drained(&self) -> bool {
        // Acquire: see `leave`.
        let now = Bars(self.0.load(Ordering::Acquire));
        now.has(Bar::Resetting) && now.0 < PASS
    }

    /// How many passes are out.
    pub(crate) fn passes(&self) -> u32 {
        // Acquire: see `leave`.
        self.0.load(Ordering::Acquire) / PASS
    }

    /// The bars that are down.
    pub(crate) fn bars(&self) -> Bars {
        Bars(self.0.load(Ordering::Relaxed))
    }
}

/// The bars at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bars(u32);

impl Bars {
    fn has(self, bar: Bar) -> bool {
        self.0 & bar as u32 != 0
    }

    /// Whether packets pass.
    ///
    /// # Errors
    /// The status to complete a send with (`nf-ndis-ndismsendnetbufferlistscomplete`): of several reasons that of the
    /// most lasting.
    pub(crate) fn packets(self) -> Result<(), Status> {
        if self.has(Bar::Removed) {
            Err(Status::NOT_ACCEPTED)
        } else if self.has(Bar::Paused) {
            Err(Status::PAUSED)
        } else if self.has(Bar::Resetting) {
            Err(Status::RESET_IN_PROGRESS)
        } else if self.has(Bar::LowPower) {
            Err(Status::LOW_POWER_STATE)
        } else {
            Ok(())
        }
    }

    /// Whether requests pass.
    ///
    /// # Errors
    /// `NOT_ACCEPTED` when the device is gone or being reset.
    pub(crate) fn requests(self) -> Result<(), Status> {
        if self.has(Bar::Removed) || self.has(Bar::Resetting) { Err(Status::NOT_ACCEPTED) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_lasting_reason_decides() {
        let gate = Gate::paused();
        let packets = || gate.bars().packets();
        assert_eq!(packets(), Err(Status::PAUSED));
        gate.lower(Bar::LowPower);
        assert_eq!(packets(), Err(Status::PAUSED));
        gate.lift(Bar::Paused);
        assert_eq!(packets(), Err(Status::LOW_POWER_STATE));
        gate.lower(Bar::Resetting);
        assert_eq!(
            (packets(), gate.bars().requests()),
            (Err(Status::RESET_IN_PROGRESS), Err(Status::NOT_ACCEPTED))
        );
        gate.lift(Bar::Resetting);
        assert_eq!(gate.bars().requests(), Ok(()));
        gate.lower(Bar::Removed);
        assert_eq!(
            (packets(), gate.bars().requests()),
            (Err(Status::NOT_ACCEPTED), Err(Status::NOT_ACCEPTED))
        );
        gate.lift(Bar::Removed);
        gate.lift(Bar::LowPower);
        assert_eq!(packets(), Ok(()));
    }

    #[test]
    fn the_last_pass_tells_a_reset_and_only_that() {
        let gate = Gate::paused();
        gate.lift(Bar::Paused);
        assert!(gate.pass().packets().is_ok() && gate.pass().packets().is_ok());
        assert!(!gate.leave() && !gate.is_drained());
        gate.lower(Bar::Resetting);
        assert!(!gate.is_drained());
        // One that is refused counts as long as it is there.
        assert!(gate.pass().packets().is_err());
        assert!(!gate.leave());
        assert!(gate.leave() && gate.is_drained());
        gate.lift(Bar::Resetting);
        assert!(!gate.is_drained());
        gate.pass();
        assert!(!gate.leave());
    }
}
