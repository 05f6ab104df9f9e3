//! Passing the gate, and what happens when it is shut: pause, sleep, removal, and the reset of a wedged device
//! (`nc-ndis-miniport_check_for_hang`, `nc-ndis-miniport_reset`).
//!
//! A reset bars packets and requests, ends what the device or the readers of an SA hold back, and waits until the last
//! pass is given back: whoever gives it back goes on. Then the device is reset, its SA slots are loaded again from the driver's
//! table, and the reset completes. Filters, multicast list and offload configuration stay in the driver too, so NDIS has
//! nothing to send again (AddressingReset is FALSE), and no handle changes.

use ndis::{Irql, Reset, ResetOutcome, Status, processor};

use super::{
    Adapter,
    gate::{Bar, Bars, Traffic},
};

/// The right to be at work in an adapter; a reset waits until it is dropped. Dropping it may complete a reset:
/// `IRQL <= DISPATCH_LEVEL`, no lock held.
pub(crate) struct Pass<'a> {
    adapter: &'a Adapter,
    traffic: Traffic,
    /// The bars when it was taken.
    pub(crate) bars: Bars,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.adapter.gate.leave(self.traffic)
            && let Some(reset) = self.adapter.take_reset()
        {
            self.adapter.restore();
            reset.complete(Status::SUCCESS, false);
        }
    }
}

impl Adapter {
    /// A pass; what its bars refuse is not to be done.
    pub(crate) fn pass(&self, traffic: Traffic) -> Pass<'_> {
        Pass { adapter: self, traffic, bars: self.gate.pass(traffic) }
    }

    /// Whether packets pass at this moment, for who has a pass or needs none.
    pub(crate) fn packets(&self) -> Result<(), Status> {
        self.gate.bars().packets()
    }

    /// Lowers a bar and fails what the device holds with the status that it gives.
    pub(super) fn shut(&self, bar: Bar) {
        self.gate.lower(bar);
        self.listen();
        self.fail_held();
    }

    /// Lifts a bar.
    pub(super) fn open(&self, bar: Bar) {
        self.gate.lift(bar);
        self.listen();
    }

    /// Has the port listen if packets pass and the device works.
    pub(crate) fn listen(&self) {
        if self.packets().is_ok() && !self.nic.device().is_wedged() {
            self.nic.port().start();
        } else {
            self.nic.port().stop();
        }
    }

    /// Completes the sends that the device holds if they may not pass any more. To be called after a bar was lowered, and
    /// after sends were held: whichever comes second finds both.
    pub(crate) fn fail_held(&self) {
        if let Err(status) = self.packets() {
            self.held_sends.complete(status, Irql::UNKNOWN);
        }
    }

    /// `MiniportResetEx`.
    pub(super) fn begin_reset(&self, reset: Reset) -> ResetOutcome {
        self.shut(Bar::Resetting);
        self.pending_deletes.abort();
        *self.reset.lock() = Some(reset);
        match self.take_reset() {
            Some(reset) => {
                self.restore();
                reset.finish(Status::SUCCESS, false)
            }
            None => ResetOutcome::Pending,
        }
    }

    /// The reset that waits, if there is one and nothing is in progress any more. Of several that ask, one gets it.
    fn take_reset(&self) -> Option<Reset> {
        if self.gate.is_drained() { self.reset.lock().take() } else { None }
    }

    /// Resets the device and lets packets and requests pass again.
    fn restore(&self) {
        // What was pended or held while the last passes were given back.
        self.pending_deletes.abort();
        self.held_sends.complete(Status::RESET_IN_PROGRESS, Irql::UNKNOWN);
        let progress = self.nic.reset(processor::current());
        self.pending_deletes.complete(&self.nic.slots, progress);
        self.open(Bar::Resetting);
    }
}
