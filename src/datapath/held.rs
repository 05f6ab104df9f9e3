//! Sends that a wedged device has taken and does not give back.
//!
//! They wait here, in order, until somebody ends them: a reset (RESET_IN_PROGRESS), a pause (PAUSED), sleep, removal, or their
//! sender, who cancels them. Nothing else ever waits on the send path.

use ndis::{CancelId, Irql, SendChain, SpinLock, Status};

/// The queue of held sends.
pub(crate) struct HeldSends(SpinLock<SendChain>);

impl HeldSends {
    /// None is held.
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new(SendChain::new()))
    }

    /// Holds these.
    pub(super) fn hold(&self, chain: SendChain) {
        let refused = self.0.lock().append(chain);
        // Another adapter's, which NDIS does not send here: fails, now that the lock is free.
        drop(refused);
    }

    /// Completes all with `status`. No lock held.
    pub(crate) fn complete(&self, status: Status, irql: Irql<'_>) {
        let held = core::mem::take(&mut *self.0.lock());
        if !held.is_empty() {
            held.complete(status, irql);
        }
    }

    /// Completes those that their sender has cancelled (`nc-ndis-miniport_cancel_send`).
    pub(crate) fn cancel(&self, id: CancelId) {
        let cancelled = self.0.lock().take_cancelled(id);
        if !cancelled.is_empty() {
            cancelled.complete(Status::SEND_ABORTED, Irql::UNKNOWN);
        }
    }
}
