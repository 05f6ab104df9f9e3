//! The gate of the adapter: what may pass now, and what is still inside (`miniport-adapter-states-and-operations`).
//!
//! One word. Its low bits are the **bars**, reasons not to carry packets; above them are the **passes**, the chains of packets
//! and the requests in progress, counted apart. A packet path takes one pass for a chain. A reset waits for all passes, sleep
//! for those of packets; that a pause waits for packets that NDIS or the driver hold is the business of `ndis`.

use core::sync::atomic::{AtomicU64, Ordering};

use ndis::Status;

/// A reason not to carry packets. Several may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
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

/// What is done under a pass. The values count one of them in the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Traffic {
    /// Sending or indicating packets.
    Packets = 1 << 8,
    /// Answering a request.
    Request = 1 << 36,
}

/// All that is below the count of requests, all that is below the count of packets.
const BELOW_REQUESTS: u64 = Traffic::Request as u64 - 1;
const BARS: u64 = Traffic::Packets as u64 - 1;

/// The bars that are down, and the passes that are out.
pub(crate) struct Gate(AtomicU64);

impl Gate {
    /// Paused: the state after initialisation.
    pub(crate) const fn paused() -> Self {
        Self(AtomicU64::new(Bar::Paused as u64))
    }

    /// Lets nothing more pass for this reason.
    pub(crate) fn lower(&self, bar: Bar) {
        // Relaxed: that whoever passes later sees the bar follows from the one order of the word's changes.
        self.0.fetch_or(bar as u64, Ordering::Relaxed);
    }

    /// Takes this reason away.
    pub(crate) fn lift(&self, bar: Bar) {
        // Release: with the Acquire of `pass`, so that who passes sees what a reset has restored.
        self.0.fetch_and(!(bar as u64), Ordering::Release);
    }

    /// Takes a pass, whatever the bars, and says which are down. [`leave`](Self::leave) follows in any case.
    pub(crate) fn pass(&self, traffic: Traffic) -> Bars {
        // Acquire: see `lift`.
        Bars(self.0.fetch_add(traffic as u64, Ordering::Acquire))
    }

    /// Gives a pass back. `true`: it was the last one, and a reset waits for that.
    pub(crate) fn leave(&self, traffic: Traffic) -> bool {
        // Release: what was done under the pass happens before the reset, or sleep, goes on.
        let before = Bars(self.0.fetch_sub(traffic as u64, Ordering::Release));
        before.has(Bar::Resetting) && before.0 & !BARS == traffic as u64
    }

    /// Whether a reset is under way and no pass is out.
    pub(crate) fn is_drained(&self) -> bool {
        // Acquire: see `leave`.
        let now = Bars(self.0.load(Ordering::Acquire));
        now.has(Bar::Resetting) && now.0 & !BARS == 0
    }

    /// Whether packets are being sent or indicated.
    pub(crate) fn has_packets(&self) -> bool {
        // Acquire: see `leave`.
        self.0.load(Ordering::Acquire) & BELOW_REQUESTS & !BARS != 0
    }

    /// The bars that are down.
    pub(crate) fn bars(&self) -> Bars {
        Bars(self.0.load(Ordering::Relaxed))
    }
}

/// The bars at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bars(u64);

impl Bars {
    fn has(self, bar: Bar) -> bool {
        self.0 & bar as u64 != 0
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
        assert!(
            gate.pass(Traffic::Packets).packets().is_ok() && gate.pass(Traffic::Request).requests().is_ok()
        );
        assert!(gate.pass(Traffic::Packets).packets().is_ok());
        assert!(!gate.leave(Traffic::Packets) && !gate.is_drained() && gate.has_packets());
        gate.lower(Bar::Resetting);
        assert!(!gate.is_drained());
        // One that is refused counts as long as it is there.
        assert!(gate.pass(Traffic::Packets).packets().is_err());
        assert!(!gate.leave(Traffic::Packets) && gate.has_packets());
        assert!(!gate.leave(Traffic::Packets) && !gate.has_packets() && !gate.is_drained());
        assert!(gate.leave(Traffic::Request) && gate.is_drained());
        gate.lift(Bar::Resetting);
        assert!(!gate.is_drained());
        gate.pass(Traffic::Packets);
        assert!(!gate.leave(Traffic::Packets));
    }
}
