//! The deterministic machine: one thread, a clock that only this module moves, and a seed that decides
//! what comes next. A run with the same driver, calls and seed repeats exactly.
//!
//! Timers and work items have no threads of their own. They run on the caller's, whenever it waits,
//! sleeps or comes back from the driver, in an order that the seed chooses; and timers that are due may
//! interrupt any code below DISPATCH_LEVEL that calls a function of the lab, as the clock does. The clock
//! goes on by less than a microsecond with most calls and by up to 300 with some, and jumps when everyone
//! waits. A wait that nothing can end stops the machine.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{DISPATCH, Machine, Stopped, thread};
use crate::adapter::AdapterId;
use crate::rules;

/// `THREAD_STUCK_IN_DEVICE_DRIVER`.
const STUCK: u32 = 0xea;
/// A log longer than this is a loop; the rest is not kept.
const MAX_EVENTS: usize = 1 << 20;

/// Something that happened on a deterministic machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Virtual time since the machine was made.
    pub at: Duration,
    /// The handler that was called, or the function that the driver called.
    pub name: &'static str,
    /// Whether it is a handler of the driver.
    pub handler: bool,
    /// The IRQL of the thread.
    pub irql: u8,
    /// The adapter that the handler is called for.
    pub adapter: Option<AdapterId>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.handler { "->" } else { "  <-" };
        write!(f, "{:>12} ns {arrow} {} at {}", self.at.as_nanos(), self.name, rules::irql_name(self.irql))?;
        self.adapter.map_or(Ok(()), |adapter| write!(f, ", {adapter}"))
    }
}

/// The clock, the dice and the log of a deterministic machine.
pub(crate) struct Schedule {
    dice: Mutex<fastrand::Rng>,
    /// Nanoseconds since the machine was made.
    now: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            now: AtomicU64::new(0),
            events: Mutex::default(),
        }
    }

    /// A number below `limit`.
    pub(super) fn choose(&self, limit: usize) -> usize {
        self.dice.lock().usize(..limit.max(1))
    }

    fn now(&self) -> Duration {
        // Relaxed: one thread.
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    fn go_to(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Relaxed: one thread. The clock never goes back.
        self.now.fetch_max(time, Ordering::Relaxed);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }
}

impl Machine {
    /// Time since the machine was made, real or virtual.
    pub(crate) fn uptime(&self) -> Duration {
        self.schedule.as_ref().map_or_else(|| self.started.elapsed(), Schedule::now)
    }

    /// The present, real or virtual.
    pub(crate) fn now(&self) -> Instant {
        self.schedule.as_ref().map_or_else(Instant::now, |schedule| self.started + schedule.now())
    }

    /// Lets time pass on the calling thread; others run meanwhile.
    pub(crate) fn sleep(&self, time: Duration) {
        if self.schedule.is_some() {
            let deadline = self.now() + time;
            let _ = self.wait_virtual(Some(deadline), || false);
        } else {
            std::thread::sleep(time);
        }
    }

    /// Keeps the processor busy.
    pub(crate) fn stall(&self, time: Duration) {
        if let Some(schedule) = &self.schedule {
            schedule.go_to(schedule.now() + time);
            return;
        }
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    /// Notes what happens, and lets the clock tick.
    pub(super) fn note(&self, name: &'static str, handler: bool, adapter: Option<AdapterId>) {
        let Some(schedule) = &self.schedule else { return };
        // Mostly some instructions; now and then the host of a virtual machine takes its time.
        let most = if schedule.choose(16) == 0 { 300_000 } else { 900 };
        schedule.go_to(schedule.now() + Duration::from_nanos(100 + schedule.choose(most) as u64));
        let mut events = schedule.events.lock();
        if events.len() < MAX_EVENTS {
            events.push(Event { at: schedule.now(), name, handler, irql: thread::irql(), adapter });
        }
    }

    /// The driver called a function: notes it, and may interrupt it for a timer.
    pub(crate) fn note_function(&self, name: &'static str) {
        let Some(schedule) = &self.schedule else { return };
        self.note(name, false, None);
        if thread::irql() < DISPATCH && schedule.choose(4) == 0 {
            self.run_ready(false);
        }
    }

    /// A handler came back to the lab: the seed says how much else happens before the next call.
    pub(crate) fn after_handler(&self) {
        let Some(schedule) = &self.schedule else { return };
        while !self.is_dead() && schedule.choose(2) == 0 && self.run_ready(true) {}
    }

    /// Waits in virtual time, and runs what can run meanwhile. Says whether `done`; `None`: nothing can
    /// end the wait, and the machine was stopped.
    pub(super) fn wait_virtual(
        &self,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> bool,
    ) -> Option<bool> {
        let schedule = self.schedule.as_ref()?;
        loop {
            if done() {
                return Some(true);
            }
            if self.is_dead() {
                return Some(false);
            }
            let returned: Result<(), Stopped> = self.deliver_returns();
            if returned.is_err() || done() {
                continue;
            }
            if self.run_ready(true) {
                continue;
            }
            let next = self.next_due();
            match (next, deadline) {
                (Some(next), deadline) if deadline.is_none_or(|deadline| next <= deadline) => {
                    schedule.go_to(next.saturating_duration_since(self.started));
                }
                (_, Some(deadline)) => {
                    schedule.go_to(deadline.saturating_duration_since(self.started));
                    return Some(done());
                }
                (_, None) => {
                    let _ = self.stop(STUCK, [0; 4], "a wait that nothing can end: nothing else can run");
                    return None;
                }
            }
        }
    }
}
