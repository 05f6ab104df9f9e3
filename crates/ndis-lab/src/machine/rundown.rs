//! Rundown protection: a count of those who use something, and a wait until the last of them is done.
//!
//! An EX_RUNDOWN_REF is one word in the driver's memory: bit 0 says that the rundown has begun, the bits
//! above count. The cache-aware kind is a block that begins with such a word.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{APC, Machine, Stopped, thread};
use crate::rules;

const ACTIVE: u64 = 1;
const ONE: u64 = 2;
/// `DRIVER_VIOLATION`: what the kernel says of a count that goes below zero.
const DRIVER_VIOLATION: u32 = 0x9e;

fn word<'a>(address: usize) -> &'a AtomicU64 {
    // SAFETY: the driver passed an EX_RUNDOWN_REF that outlives the call, which is one aligned word and
    // is accessed through these functions only.
    unsafe { AtomicU64::from_ptr(address as *mut u64) }
}

impl Machine {
    /// `ExAcquireRundownProtectionEx`: whether the protection was granted.
    #[allow(clippy::unused_self)] // of this machine's memory
    pub(crate) fn acquire_rundown(&self, address: usize, count: u32) -> bool {
        let step = ONE * u64::from(count);
        let add = |value: u64| (value & ACTIVE == 0).then(|| value + step);
        // Acquire: what was done before the last start is ours to see.
        word(address).fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_ok()
    }

    /// `ExReleaseRundownProtectionEx`.
    pub(crate) fn release_rundown(&self, address: usize, count: u32) -> Result<(), Stopped> {
        let step = ONE * u64::from(count);
        // Release: who waits sees what was done under the protection.
        let left =
            word(address).fetch_update(Ordering::Release, Ordering::Relaxed, |value| value.checked_sub(step));
        let Ok(before) = left else {
            let text = format!("rundown protection {address:#x} is released {count} times too often");
            self.violate(rules::RUNDOWN_USE, text);
            return Err(self.stop(
                DRIVER_VIOLATION,
                [address as u64, 0, 0, 0],
                "rundown protection is not held",
            ));
        };
        if before & !ACTIVE == step {
            self.dispatcher.wake();
        }
        Ok(())
    }

    /// `ExWaitForRundownProtectionRelease`.
    pub(crate) fn wait_for_rundown(&self, address: usize) -> Result<(), Stopped> {
        if thread::irql() > APC {
            self.violate(rules::IRQL_WAIT, "ExWaitForRundownProtectionRelease waits");
            return Err(self.stop(0xa, [address as u64, 0, 0, 0], "a wait at DISPATCH_LEVEL"));
        }
        // Acquire, also below: what was done under the protection is ours to see.
        word(address).fetch_or(ACTIVE, Ordering::Acquire);
        self.wait_for(None, || word(address).load(Ordering::Acquire) == ACTIVE).map(|_| ())
    }

    /// `ExReInitializeRundownProtection`, or with `completed` `ExRundownCompleted`.
    pub(crate) fn reset_rundown(&self, address: usize, completed: bool) {
        // Relaxed: the wait has ordered everything, if it was made.
        let value = word(address).load(Ordering::Relaxed);
        if value != ACTIVE {
            let text = format!("rundown protection {address:#x} was not waited for: {} hold it", value / ONE);
            self.violate(rules::RUNDOWN_USE, text);
        }
        word(address).store(if completed { ACTIVE } else { 0 }, Ordering::Release);
    }

    /// `ExInitializeRundownProtection`.
    #[allow(clippy::unused_self)] // of this machine's memory
    pub(crate) fn initialize_rundown(&self, address: usize) {
        // Relaxed: nobody uses it yet.
        word(address).store(0, Ordering::Relaxed);
    }
}
