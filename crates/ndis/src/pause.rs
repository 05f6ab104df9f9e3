//! Pausing and restarting an adapter (`[nc-ndis-miniport_pause]`, `[nc-ndis-miniport_restart]`).

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

use ndis_sys::{NDIS_STATUS, NdisMPauseComplete};

use crate::adapter::Header;
use crate::status::Status;

/// The driver's part of one pause. Give it back when the adapter makes no more indications of its own and holds no send
/// back: inline with [`PauseOutcome::Complete`], or later by [`complete`](Self::complete) or dropping it.
///
/// # Invariants
///
/// At most one exists per adapter, only during a pause that NDIS waits for.
#[must_use = "dropping the token agrees to the pause"]
pub struct Pause {
    header: NonNull<Header>,
}

// SAFETY: the token stands for a right that any thread may exercise; `Header` is Sync.
unsafe impl Send for Pause {}
// SAFETY: a shared token gives access to nothing.
unsafe impl Sync for Pause {}

impl Pause {
    /// # Safety
    ///
    /// NDIS has just called MiniportPause for the adapter of `header`.
    pub(crate) unsafe fn new(header: NonNull<Header>) -> Self {
        Self { header }
    }

    /// Agrees to the pause from outside MiniportPause. IRQL <= DISPATCH_LEVEL, no lock held.
    pub fn complete(self) {
        drop(self);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // SAFETY: NDIS waits for this pause, so it has not halted the adapter; `arm_pause` touches the header last in its one
        // decisive atomic operation. The handle is read before.
        let ndis = unsafe { (*self.header.as_ptr()).ndis() };
        // SAFETY: as above.
        if unsafe { (*self.header.as_ptr()).traffic.arm_pause() } {
            // SAFETY: nothing is in flight, the pause is not complete and nobody else completes it.
            unsafe { NdisMPauseComplete(ndis) };
        }
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause").finish_non_exhaustive()
    }
}

/// What MiniportPause has to say.
#[derive(Debug)]
#[must_use = "NDIS waits for the answer"]
pub enum PauseOutcome {
    /// The driver has done its part.
    Complete(Pause),
    /// Somebody keeps the [`Pause`] and will give it back.
    Pending,
}

impl PauseOutcome {
    /// The status MiniportPause returns for the adapter of `header`.
    ///
    /// # Safety
    ///
    /// Called once, in MiniportPause of the adapter of `header`.
    pub(crate) unsafe fn into_status(self, header: NonNull<Header>) -> NDIS_STATUS {
        match self {
            Self::Complete(pause) if pause.header == header => {
                mem::forget(pause);
                // SAFETY: MiniportPause has not returned, so the adapter is live; see `Traffic::arm_pause` for the rest.
                let complete = unsafe { (*header.as_ptr()).traffic.arm_pause() };
                if complete { Status::SUCCESS.raw() } else { Status::PENDING.raw() }
            }
            // Another adapter's token: dropping it completes that pause; ours is still out.
            Self::Complete(_) | Self::Pending => Status::PENDING.raw(),
        }
    }
}

/// What came with MiniportRestart.
#[derive(Debug)]
pub struct Restart<'a> {
    parameters: PhantomData<&'a ()>,
}

impl Restart<'_> {
    pub(crate) fn new() -> Self {
        // RestartAttributes are what filter modules ask for; a miniport may ignore them (`[nc-ndis-miniport_restart]`).
        Self { parameters: PhantomData }
    }
}
