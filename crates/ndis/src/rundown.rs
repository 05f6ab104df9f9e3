//! Counting who is inside: the two counters that keep an adapter's memory alive.
//!
//! [`Gate`] counts calls in progress and can be closed for good; [`Traffic`] counts net buffer lists and data-path
//! handlers and knows when a pause may complete. Both touch nothing but their own atomic.

use core::sync::atomic::{AtomicUsize, Ordering};

/// A door that can be closed and then waited at until everybody inside has left.
///
/// # Invariants
///
/// The low bits count the [`Entered`] values that exist, plus enterers that were refused and have not taken their
/// count back yet. [`CLOSED`](Self::CLOSED) set means that no further `Entered` comes into being.
#[derive(Debug)]
pub(crate) struct Gate(AtomicUsize);

impl Gate {
    const CLOSED: usize = 1 << (usize::BITS - 1);

    /// A gate nobody can pass yet.
    pub(crate) const fn closed() -> Self {
        Self(AtomicUsize::new(Self::CLOSED))
    }

    /// Lets callers in. What was written before is visible to whoever enters.
    pub(crate) fn open(&self) {
        // Release: pairs with the Acquire of `enter`, so that what the gate guards is seen complete.
        self.0.fetch_and(!Self::CLOSED, Ordering::Release);
    }

    /// Enters, or `None` if the gate is closed.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        // Acquire: pairs with `open`. A closed gate is entered and left again, so the count stays exact.
        let before = self.0.fetch_add(1, Ordering::Acquire);
        let entered = Entered(self);
        (before & Self::CLOSED == 0).then_some(entered)
    }

    /// Closes the gate and calls `wait` until nobody is inside.
    pub(crate) fn close_and_wait(&self, mut wait: impl FnMut()) {
        // Relaxed: the loop below orders everything that leavers did.
        self.0.fetch_or(Self::CLOSED, Ordering::Relaxed);
        // Acquire: pairs with the Release of each leaver; their accesses happen before our return.
        while self.0.load(Ordering::Acquire) != Self::CLOSED {
            wait();
        }
    }
}

/// Proof of being inside a [`Gate`]; leaves on drop.
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a Gate);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of `close_and_wait`.
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

/// The adapter's data path: how much is in flight, and whether a pause waits for it.
///
/// One unit is a send NBL that NDIS gave us and we have not completed, a receive NBL that we indicated and have not got
/// back, or a data-path handler or indication in progress.
///
/// # Invariants
///
/// * The low bits hold the number of units. While it is not 0 no pause completes; as NDIS halts only a paused adapter
///   and [`stop_and_wait`](Self::stop_and_wait) waits for 0, the adapter context outlives every unit.
/// * [`PAUSE_ARMED`](Self::PAUSE_ARMED) is set from the driver's consent to a pause until exactly one party has taken
///   it over to complete that pause; it is never set while the count is 0.
///
/// # Ending a unit
///
/// The last access to `self` is the atomic operation that takes the unit away: from then on the adapter may be paused,
/// halted and freed by another processor. That is why decrement and takeover are one compare-and-exchange.
#[derive(Debug)]
#[repr(align(64))] // Every processor's data path writes here: keep the neighbours out of the line.
pub(crate) struct Traffic(AtomicUsize);

impl Traffic {
    /// No handler may use the miniport: it is not there yet, or halting.
    const STOPPED: usize = 1 << (usize::BITS - 1);
    /// No receive indication may start: paused or pausing.
    const RECEIVE_CLOSED: usize = 1 << (usize::BITS - 2);
    /// The driver has finished its part of a pause; the unit that brings the count to 0 completes it.
    const PAUSE_ARMED: usize = 1 << (usize::BITS - 3);
    const COUNT: usize = Self::PAUSE_ARMED - 1;

    /// Stopped, receive closed, nothing in flight: the state before initialisation is done.
    pub(crate) const fn stopped() -> Self {
        Self(AtomicUsize::new(Self::STOPPED | Self::RECEIVE_CLOSED))
    }

    /// The miniport is in place: handlers may use it.
    pub(crate) fn start(&self) {
        // Release: pairs with the Acquire of `begin`, which precedes every use of the miniport.
        self.0.fetch_and(!Self::STOPPED, Ordering::Release);
    }

    /// Adds `units`. False if the miniport must not be used; the units count all the same.
    pub(crate) fn begin(&self, units: usize) -> bool {
        // Acquire: pairs with `start`.
        self.0.fetch_add(units, Ordering::Acquire) & Self::STOPPED == 0
    }

    /// Adds `units`. False if no receive indication may start; the units count all the same.
    pub(crate) fn begin_receive(&self, units: usize) -> bool {
        // Acquire: pairs with the Release of `open_receive`.
        self.0.fetch_add(units, Ordering::Acquire) & (Self::STOPPED | Self::RECEIVE_CLOSED) == 0
    }

    /// Takes `units` away. True if the caller now has to complete the pause; if false, `self` may be gone.
    #[must_use]
    pub(crate) fn end(&self, units: usize) -> bool {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let mut next = current.wrapping_sub(units);
            let takeover = next & (Self::COUNT | Self::PAUSE_ARMED) == Self::PAUSE_ARMED;
            if takeover {
                next &= !Self::PAUSE_ARMED;
            }
            // Release: what we did with the adapter happens before the pause completes or the halt goes on.
            // Acquire: whoever takes the pause over has everybody's accesses behind it.
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return takeover,
                Err(seen) => current = seen,
            }
        }
    }

    /// Lets receive indications start (restart).
    pub(crate) fn open_receive(&self) {
        // Release: pairs with `begin_receive`.
        self.0.fetch_and(!Self::RECEIVE_CLOSED, Ordering::Release);
    }

    /// Refuses further receive indications (pause).
    pub(crate) fn close_receive(&self) {
        // Relaxed: an indication that slipped in before holds a unit, which the pause waits for.
        self.0.fetch_or(Self::RECEIVE_CLOSED, Ordering::Relaxed);
    }

    /// The driver has done its part of the pause. True if nothing is in flight: the caller completes the pause now.
    /// False: the last unit does, and `self` may be gone.
    #[must_use]
    pub(crate) fn arm_pause(&self) -> bool {
        // Acquire on both: pairs with the Release of `end`.
        let mut current = self.0.load(Ordering::Acquire);
        loop {
            if current & Self::COUNT == 0 {
                return true;
            }
            let next = current | Self::PAUSE_ARMED;
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return false,
                Err(seen) => current = seen,
            }
        }
    }

    /// Refuses the miniport to handlers and calls `wait` until nothing is in flight (halt).
    pub(crate) fn stop_and_wait(&self, mut wait: impl FnMut()) {
        // Relaxed: the loop orders.
        self.0.fetch_or(Self::STOPPED | Self::RECEIVE_CLOSED, Ordering::Relaxed);
        // Acquire: pairs with the Release of `end`.
        while self.0.load(Ordering::Acquire) & Self::COUNT != 0 {
            wait();
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::sync::atomic::AtomicU32;
    use std::thread;

    #[test]
    fn closed_gate_refuses_and_keeps_its_count() {
        let gate = Gate::closed();
        assert!(gate.enter().is_none());
        gate.open();
        let inside = gate.enter();
        assert!(inside.is_some());
        let mut inside = inside;
        let mut waits = 0;
        gate.close_and_wait(|| {
            waits += 1;
            inside.take();
        });
        assert_eq!(waits, 1);
        assert!(gate.enter().is_none());
    }

    #[test]
    fn nobody_is_inside_after_close_and_wait() {
        for _ in 0..200 {
            let gate = Gate::closed();
            gate.open();
            let inside = AtomicU32::new(0);
            let shut = core::sync::atomic::AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while let Some(_entered) = gate.enter() {
                            inside.fetch_add(1, Ordering::Relaxed);
                            assert!(!shut.load(Ordering::Relaxed));
                            inside.fetch_sub(1, Ordering::Relaxed);
                        }
                    });
                }
                gate.close_and_wait(thread::yield_now);
                shut.store(true, Ordering::Relaxed);
                assert_eq!(inside.load(Ordering::Relaxed), 0);
            });
        }
    }

    #[test]
    fn idle_pause_completes_at_once_and_busy_pause_at_the_last_unit() {
        let traffic = Traffic::stopped();
        traffic.start();
        assert!(traffic.arm_pause());
        assert!(traffic.begin(3));
        assert!(!traffic.arm_pause());
        assert!(!traffic.end(1));
        assert!(!traffic.end(1));
        assert!(traffic.end(1));
        assert!(traffic.begin(1));
        assert!(!traffic.end(1), "a pause completes once");
    }

    #[test]
    fn receive_is_refused_until_opened() {
        let traffic = Traffic::stopped();
        traffic.start();
        assert!(!traffic.begin_receive(2));
        assert!(!traffic.end(2));
        traffic.open_receive();
        assert!(traffic.begin_receive(2));
        traffic.close_receive();
        assert!(!traffic.begin_receive(1));
        assert!(!traffic.arm_pause());
        assert!(!traffic.end(1));
        assert!(traffic.end(2));
    }

    #[test]
    fn concurrent_units_complete_the_pause_exactly_once() {
        for _ in 0..500 {
            let traffic = Traffic::stopped();
            traffic.start();
            let completed = AtomicU32::new(0);
            assert!(traffic.begin(1));
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            traffic.begin(2);
                            for _ in 0..2 {
                                if traffic.end(1) {
                                    completed.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                    });
                }
                if traffic.arm_pause() {
                    completed.fetch_add(1, Ordering::Relaxed);
                }
                if traffic.end(1) {
                    completed.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(completed.load(Ordering::Relaxed), 1);
        }
    }
}
