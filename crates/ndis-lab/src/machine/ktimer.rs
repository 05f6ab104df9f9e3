//! KTIMER: timers in the driver's memory, which can be waited for and queue a DPC when they fire.
//!
//! The signal state and the type lie in the timer's own header; when it fires next is in the tables of
//! [`super::work`], by address, as long as it is set.

use std::time::Duration;

use ndis_sys::{DISPATCHER_HEADER, KDPC, LARGE_INTEGER};

use super::{Machine, Stopped};
use crate::rules;

/// Bytes of a KTIMER.
pub(crate) const SIZE: usize = 64;
/// `TimerNotificationObject` and `TimerSynchronizationObject`.
pub(crate) const NOTIFICATION: u8 = 8;
pub(crate) const SYNCHRONIZATION: u8 = 9;
/// `TIMER_OR_DPC_INVALID`.
const INVALID: u32 = 0xc7;

/// Writes the header of an object that can be waited for.
///
/// # Safety
/// `header` is writable, and nobody uses the object yet.
pub(crate) unsafe fn write_header(header: *mut DISPATCHER_HEADER, kind: u8, bytes: usize, state: i32) {
    // SAFETY: as the caller says.
    unsafe {
        (*header).Type = kind;
        (*header).Signalling = 0;
        (*header).Size = u8::try_from(bytes / 4).unwrap_or(0);
        (*header).Reserved1 = 0;
        (*header).SignalState = state;
        let list = &raw mut (*header).WaitListHead;
        (*list).Flink = list;
        (*list).Blink = list;
    }
}

impl Machine {
    /// `KeInitializeTimerEx`.
    pub(crate) fn initialize_ktimer(&self, address: usize, kind: u8) -> Result<(), Stopped> {
        if self.ktimer_is_set(address) {
            self.violate(rules::TIMER_USE, format!("KTIMER {address:#x} is initialised while it is set"));
            return Err(self.stop(
                INVALID,
                [0, address as u64, 0, 0],
                "initialisation of a timer that is set",
            ));
        }
        // SAFETY: the driver gives a KTIMER that it owns and nobody uses.
        unsafe {
            std::ptr::write_bytes(address as *mut u8, 0, SIZE);
            write_header(address as *mut DISPATCHER_HEADER, kind, SIZE, 0);
        }
        Ok(())
    }

    /// Whether there is a KTIMER at `address`; reports it if there is none.
    fn is_ktimer(&self, address: usize) -> bool {
        // SAFETY: the driver passes a KTIMER; if it is none, its first byte says so.
        let good = unsafe { matches!((address as *const u8).read(), NOTIFICATION | SYNCHRONIZATION) };
        if !good {
            self.violate(rules::TIMER_USE, format!("KTIMER {address:#x} was not initialised"));
        }
        good
    }

    /// `KeSetTimerEx`: says whether it was set already.
    pub(crate) fn start_ktimer(
        &self,
        address: usize,
        due: LARGE_INTEGER,
        period: i32,
        dpc: *mut KDPC,
    ) -> Result<bool, Stopped> {
        if !self.is_ktimer(address) {
            return Err(self.stop(INVALID, [0, address as u64, 0, 0], "set of what is no timer"));
        }
        if period < 0 {
            self.violate(rules::PARAMETER, format!("a period of {period} milliseconds"));
        }
        self.set_signal(address, 0);
        let period = u64::try_from(period).ok().filter(|period| *period > 0).map(Duration::from_millis);
        Ok(self.set_ktimer(address, self.until(due), period, dpc as usize))
    }

    /// `KeCancelTimer`: says whether it was set.
    pub(crate) fn stop_ktimer(&self, address: usize) -> Result<bool, Stopped> {
        if !self.is_ktimer(address) {
            return Err(self.stop(INVALID, [0, address as u64, 0, 0], "cancel of what is no timer"));
        }
        Ok(self.cancel_ktimer(address))
    }
}
