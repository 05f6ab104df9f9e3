//! Check-for-hang and reset: MiniportCheckForHangEx and MiniportResetEx, and what must be done before a reset completes.

use std::sync::atomic::Ordering;

use ndis_sys::{NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS};

use super::lifecycle::CastStatus as _;
use super::{Adapter, AdapterCore, Operation, State};
use crate::error::LabError;
use crate::machine::PASSIVE;
use crate::machine::thread::handler;
use crate::rules;

/// How a reset ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetOutcome {
    /// Its status.
    pub status: i32,
    /// `AddressingReset`: NDIS has to set filters and multicast lists again.
    pub addressing: bool,
    /// Whether the handler left it pending.
    pub pended: bool,
}

impl Adapter {
    /// Whether the driver asked for a reset by `NdisMResetMiniport` since the last look: NDIS resets it then, and so
    /// has a test to do.
    pub fn reset_asked(&self) -> bool {
        // AcqRel: whoever resets the adapter sees what led to it.
        self.core.reset_asked.swap(false, Ordering::AcqRel)
    }

    /// Whether the driver gave the adapter up by `NdisMRemoveMiniport`: NDIS removes it then, and so has a test to do.
    pub fn removal_asked(&self) -> bool {
        // Acquire: as above.
        self.core.removal_asked.load(Ordering::Acquire)
    }

    /// Calls `MiniportCheckForHangEx`: whether the driver asks to be reset, now or by `NdisMResetMiniport` before.
    ///
    /// # Errors
    /// [`LabError::NoHandler`] if the driver has none.
    pub fn check_for_hang(&self) -> Result<bool, LabError> {
        self.check_passive("check an adapter")?;
        if self.reset_asked() {
            return Ok(true);
        }
        let check = self
            .characteristics()?
            .CheckForHangHandlerEx
            .ok_or(LabError::NoHandler("MiniportCheckForHangEx"))? as usize;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("check"));
        }
        let args = [self.core.context() as u64, 0, 0, 0];
        // SAFETY: the registered handler with its argument.
        let hung =
            unsafe { self.call(self.core.entry(handler::CHECK_FOR_HANG, PASSIVE), check, args) }? & 0xff != 0;
        Ok(hung)
    }

    /// Resets the adapter, at the given IRQL (PASSIVE_LEVEL or DISPATCH_LEVEL), and waits for it.
    ///
    /// # Errors
    /// [`LabError::NoHandler`]; [`LabError::Timeout`] if it does not complete.
    pub fn reset(&self, irql: u8) -> Result<ResetOutcome, LabError> {
        self.machine.alive()?;
        let core = &self.core;
        let reset =
            self.characteristics()?.ResetHandlerEx.ok_or(LabError::NoHandler("MiniportResetEx"))? as usize;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("reset"));
        }
        let addressing = self.lend("AddressingReset", 0_u8)?;
        *core.reset.lock() = (Operation::InHandler, false);
        // Release: threads that see it know that requests may be refused now.
        core.resetting.store(true, Ordering::Release);
        // Release: as above.
        core.resets.fetch_add(1, Ordering::Release);
        let args = [core.context() as u64, addressing.address() as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments, which outlive the call.
        let status = unsafe { self.call(core.entry(handler::RESET, irql), reset, args) };
        // SAFETY: the byte was initialised when it was lent, and the handler has returned.
        let set = unsafe { addressing.at::<u8>(0).read() } != 0;
        self.take_lent(addressing);
        let status = status?.cast_status();
        let mut outcome = ResetOutcome { status, addressing: set, pended: false };
        if status == NDIS_STATUS_PENDING {
            let done = || matches!(core.reset.lock().0, Operation::Done(_) | Operation::Early(_));
            {
                let mut reset = core.reset.lock();
                if reset.0 == Operation::InHandler {
                    reset.0 = Operation::Pending;
                }
            }
            let timeout = self.machine.options.timeout;
            let mut ended = self.machine.wait_until(timeout / 4, done);
            if !ended && self.core.receives.outstanding() > 0 {
                // The driver may wait for its receives, as netvmini does. A transport gives them back in the end.
                self.return_held()?;
            }
            ended = ended || self.machine.wait_until(timeout, done);
            if !ended {
                self.machine.alive()?;
                self.violate(
                    rules::RESET_TIMEOUT,
                    "MiniportResetEx returned NDIS_STATUS_PENDING and nothing completes it",
                );
                return Err(LabError::Timeout("MiniportResetEx"));
            }
            let (operation, addressing) = *core.reset.lock();
            if let Operation::Done(status) | Operation::Early(status) = operation {
                outcome = ResetOutcome { status, addressing, pended: true };
            }
        } else {
            self.check_reset();
            if matches!(core.reset.lock().0, Operation::Early(_)) {
                let text =
                    format!("MiniportResetEx was completed, and returned {:#x} too", status.cast_unsigned());
                self.violate(rules::STATE_COMPLETION, text);
            }
        }
        let known = [
            NDIS_STATUS_SUCCESS,
            ndis_sys::NDIS_STATUS_RESET_IN_PROGRESS,
            ndis_sys::NDIS_STATUS_SOFT_ERRORS,
            ndis_sys::NDIS_STATUS_HARD_ERRORS,
        ];
        if !known.contains(&outcome.status) {
            let text = format!("MiniportResetEx ended with {:#010x}", outcome.status.cast_unsigned());
            self.violate(rules::STATE_STATUS, text);
        }
        core.reset.lock().0 = Operation::Idle;
        // Release: a send that came during the reset may still say so.
        core.resets.fetch_add(1, Ordering::Release);
        core.resetting.store(false, Ordering::Release);
        Ok(outcome)
    }

    fn check_reset(&self) {
        self.core.check_reset(&self.machine);
    }
}

impl AdapterCore {
    /// What must have been completed before a reset completes.
    pub(crate) fn check_reset(&self, machine: &crate::machine::Machine) {
        let (oids, sends) = (self.oids.pending_regular(), self.sends.outstanding());
        if oids > 0 || sends > 0 {
            machine.violate_for(
                self,
                rules::RESET_PENDING,
                format!("{oids} OID requests and {sends} sends are pending"),
            );
        }
    }
}
