//! Resetting an adapter (`[nc-ndis-miniport_reset]`).

use core::fmt;
use core::mem;
use core::ptr::NonNull;

use ndis_sys::{BOOLEAN, NDIS_STATUS, NdisMResetComplete};

use crate::adapter::Header;
use crate::status::Status;

/// One reset in progress. Complete it inline with [`finish`](Self::finish), or keep it and [`complete`](Self::complete) it
/// later; dropped, it completes with HARD_ERRORS.
///
/// # Invariants
///
/// At most one exists per adapter, only during a reset that NDIS waits for.
#[must_use = "dropping the token fails the reset"]
pub struct Reset {
    header: NonNull<Header>,
}

// SAFETY: the token stands for a right that any thread may exercise; `Header` is Sync.
unsafe impl Send for Reset {}
// SAFETY: a shared token gives access to nothing.
unsafe impl Sync for Reset {}

impl Reset {
    /// # Safety
    ///
    /// NDIS has just called MiniportResetEx for the adapter of `header`.
    pub(crate) unsafe fn new(header: NonNull<Header>) -> Self {
        Self { header }
    }

    /// Ends the reset inline. `addressing`: NDIS has to send packet filter, multicast list and encapsulation again.
    pub fn finish(self, status: Status, addressing: bool) -> ResetOutcome {
        ResetOutcome::Complete { reset: self, status, addressing }
    }

    /// Ends the reset from outside MiniportResetEx. IRQL <= DISPATCH_LEVEL, no lock held.
    pub fn complete(self, status: Status, addressing: bool) {
        self.complete_ref(status, addressing);
        mem::forget(self);
    }

    fn complete_ref(&self, status: Status, addressing: bool) {
        // SAFETY: NDIS waits for this reset, so the adapter is live and its handle valid; every caller then forgets the
        // token or is its drop, so the reset completes once.
        unsafe {
            NdisMResetComplete(
                (*self.header.as_ptr()).ndis(),
                status.as_final().raw(),
                BOOLEAN::from(addressing),
            );
        }
    }
}

impl Drop for Reset {
    fn drop(&mut self) {
        self.complete_ref(Status::HARD_ERRORS, false);
    }
}

impl fmt::Debug for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reset").finish_non_exhaustive()
    }
}

/// What MiniportResetEx has to say.
#[derive(Debug)]
#[must_use = "NDIS waits for the answer"]
pub enum ResetOutcome {
    /// The reset is over.
    Complete {
        /// The right to say so.
        reset: Reset,
        /// SUCCESS, SOFT_ERRORS, HARD_ERRORS, ...
        status: Status,
        /// Whether NDIS has to send the addressing OIDs again.
        addressing: bool,
    },
    /// Somebody keeps the [`Reset`] and will complete it.
    Pending,
}

impl ResetOutcome {
    /// The status and AddressingReset of MiniportResetEx for the adapter of `header`.
    pub(crate) fn into_status(self, header: NonNull<Header>) -> (NDIS_STATUS, bool) {
        match self {
            Self::Complete { reset, status, addressing } if reset.header == header => {
                mem::forget(reset);
                (status.as_final().raw(), addressing)
            }
            // Another adapter's token: complete that reset; ours is still out.
            Self::Complete { reset, status, addressing } => {
                reset.complete(status, addressing);
                (Status::PENDING.raw(), false)
            }
            Self::Pending => (Status::PENDING.raw(), false),
        }
    }
}
