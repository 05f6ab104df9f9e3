//! Timers and work items: the threads of the system that call a driver by themselves.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::thread::handler;
use super::{AddressMap, DISPATCH, Entry, HandleKind, Machine, Origin, PASSIVE, Stopped, thread};
use crate::adapter::AdapterId;
use crate::rules;

/// `BUGCODE_NDIS_DRIVER`.
pub(crate) const NDIS_DRIVER: u32 = 0x7c;

/// An NDIS timer object.
pub(crate) struct Timer {
    function: usize,
    default_context: usize,
    context: usize,
    period: Option<Duration>,
    /// When it fires next.
    due: Option<Instant>,
    running: usize,
    driver: u32,
    pub(crate) adapter: Option<AdapterId>,
    pub(crate) origin: Origin,
}

/// An NDIS work item.
pub(crate) struct WorkItem {
    queued: bool,
    running: bool,
    driver: u32,
    pub(crate) adapter: Option<AdapterId>,
    pub(crate) origin: Origin,
}

struct Job {
    item: usize,
    routine: usize,
    context: usize,
}

#[derive(Default)]
struct State {
    timers: AddressMap<Timer>,
    /// (due, handle): what fires next comes first.
    schedule: BTreeSet<(Instant, usize)>,
    items: AddressMap<WorkItem>,
    jobs: VecDeque<Job>,
    timer_thread: bool,
    worker_thread: bool,
    closed: bool,
}

/// A timer's function and context, its driver and adapter.
type TimerCall = (usize, usize, u32, Option<AdapterId>);
/// A job, and the driver and adapter of its work item.
type JobCall = (Job, u32, Option<AdapterId>);

impl State {
    /// A timer is due: sets it again if it is periodic; gives what to call.
    fn fire(&mut self, due: Instant, handle: usize, now: Instant) -> Option<TimerCall> {
        self.schedule.remove(&(due, handle));
        let timer = self.timers.get_mut(&handle)?;
        timer.due = timer.period.map(|period| now + period);
        if let Some(next) = timer.due {
            self.schedule.insert((next, handle));
        }
        timer.running += 1;
        Some((timer.function, timer.context, timer.driver, timer.adapter))
    }

    /// Takes a job out of the queue; `None` if its work item is gone.
    fn begin(&mut self, index: usize) -> Option<JobCall> {
        let job = self.jobs.remove(index)?;
        let item = self.items.get_mut(&job.item)?;
        item.queued = false;
        item.running = true;
        Some((job, item.driver, item.adapter))
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Work(Arc<Shared>);

impl Work {
    /// Ends the threads; called when the machine goes.
    pub(super) fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }

    pub(crate) fn timers(&self) -> Vec<(Option<AdapterId>, Origin)> {
        self.0.state.lock().timers.values().map(|t| (t.adapter, t.origin)).collect()
    }

    pub(crate) fn items(&self) -> Vec<(Option<AdapterId>, Origin)> {
        self.0.state.lock().items.values().map(|t| (t.adapter, t.origin)).collect()
    }

    /// Whether the function of any timer runs: it is a DPC, too.
    pub(super) fn timer_runs(&self) -> bool {
        self.0.state.lock().timers.values().any(|timer| timer.running > 0)
    }

    /// Whether a timer of this adapter is set or runs, or a work item of it waits or runs.
    pub(crate) fn any_of(&self, adapter: AdapterId) -> bool {
        let state = self.0.state.lock();
        let timer = |t: &Timer| t.adapter == Some(adapter) && (t.due.is_some() || t.running > 0);
        let item = |i: &WorkItem| i.adapter == Some(adapter) && (i.queued || i.running);
        state.timers.values().any(timer) || state.items.values().any(item)
    }
}

impl Machine {
    pub(crate) fn create_timer(
        &self,
        adapter: Option<AdapterId>,
        driver: u32,
        function: usize,
        context: usize,
    ) -> usize {
        let handle = self.handle(HandleKind::Timer);
        let timer = Timer {
            function,
            default_context: context,
            context,
            period: None,
            due: None,
            running: 0,
            driver,
            adapter,
            origin: Origin::here(),
        };
        self.work.0.state.lock().timers.insert(handle, timer);
        handle
    }

    /// Sets a timer; says whether it was set already.
    pub(crate) fn set_timer(
        &self,
        handle: usize,
        delay: Duration,
        period: Option<Duration>,
        context: usize,
    ) -> Result<bool, Stopped> {
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let Some(timer) = state.timers.get_mut(&handle) else {
            drop(guard);
            self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no timer object"));
            return Err(self.stop(NDIS_DRIVER, [9, handle as u64, 0, 0], "set of what is no timer"));
        };
        let due = self.now() + delay;
        timer.context = if context == 0 { timer.default_context } else { context };
        timer.period = period;
        let old = timer.due.replace(due);
        if let Some(old) = old {
            state.schedule.remove(&(old, handle));
        }
        state.schedule.insert((due, handle));
        let start = self.schedule.is_none() && !std::mem::replace(&mut state.timer_thread, true);
        drop(guard);
        if start {
            let (shared, machine) = (self.work.0.clone(), self.weak());
            std::thread::spawn(move || timer_thread(&shared, &machine));
        }
        self.work.0.changed.notify_all();
        Ok(old.is_some())
    }

    /// Cancels a timer; says whether it was set.
    pub(crate) fn cancel_timer(&self, handle: usize) -> Result<bool, Stopped> {
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let Some(timer) = state.timers.get_mut(&handle) else {
            drop(guard);
            self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no timer object"));
            return Err(self.stop(NDIS_DRIVER, [9, handle as u64, 0, 0], "cancel of what is no timer"));
        };
        timer.period = None;
        let due = timer.due.take();
        if let Some(due) = due {
            state.schedule.remove(&(due, handle));
        }
        Ok(due.is_some())
    }

    pub(crate) fn free_timer(&self, handle: usize) -> Result<(), Stopped> {
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let Some(timer) = state.timers.remove(&handle) else {
            drop(guard);
            self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no timer object"));
            return Err(self.stop(NDIS_DRIVER, [9, handle as u64, 0, 0], "free of what is no timer"));
        };
        if let Some(due) = timer.due {
            state.schedule.remove(&(due, handle));
        }
        drop(guard);
        if timer.due.is_some() || timer.running > 0 {
            let what = if timer.due.is_some() { "set" } else { "running" };
            self.violate(rules::TIMER_USE, format!("timer {handle:#x} is freed while it is {what}"));
        }
        Ok(())
    }

    pub(crate) fn create_work_item(&self, adapter: Option<AdapterId>, driver: u32) -> usize {
        let handle = self.handle(HandleKind::WorkItem);
        let item = WorkItem { queued: false, running: false, driver, adapter, origin: Origin::here() };
        self.work.0.state.lock().items.insert(handle, item);
        handle
    }

    pub(crate) fn queue_work_item(
        &self,
        handle: usize,
        routine: usize,
        context: usize,
    ) -> Result<(), Stopped> {
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let Some(item) = state.items.get_mut(&handle) else {
            drop(guard);
            self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no work item"));
            return Err(self.stop(
                NDIS_DRIVER,
                [0xa, handle as u64, 0, 0],
                "queueing of what is no work item",
            ));
        };
        if std::mem::replace(&mut item.queued, true) {
            drop(guard);
            self.violate(rules::WORK_ITEM_USE, format!("work item {handle:#x} is queued already"));
            return Ok(());
        }
        state.jobs.push_back(Job { item: handle, routine, context });
        let start = self.schedule.is_none() && !std::mem::replace(&mut state.worker_thread, true);
        drop(guard);
        if start {
            let (shared, machine) = (self.work.0.clone(), self.weak());
            std::thread::spawn(move || worker_thread(&shared, &machine));
        }
        self.work.0.changed.notify_all();
        Ok(())
    }

    pub(crate) fn free_work_item(&self, handle: usize) -> Result<(), Stopped> {
        let mut state = self.work.0.state.lock();
        let Some(item) = state.items.remove(&handle) else {
            drop(state);
            self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no work item"));
            return Err(self.stop(NDIS_DRIVER, [0xa, handle as u64, 0, 0], "free of what is no work item"));
        };
        state.jobs.retain(|job| job.item != handle);
        drop(state);
        // A routine may free its own item; another thread must not.
        let own = thread::with(|t| t.context().handler) == Some(handler::WORK_ITEM.name);
        if item.queued || (item.running && !own) {
            let what = if item.queued { "queued" } else { "running" };
            self.violate(rules::WORK_ITEM_USE, format!("work item {handle:#x} is freed while it is {what}"));
        }
        Ok(())
    }
}

impl Machine {
    fn run_timer(&self, handle: usize, (function, context, driver, adapter): TimerCall) {
        let entry = Entry { handler: handler::TIMER, driver, adapter, irql: DISPATCH };
        // SAFETY: NdisAllocateTimerObject was given this function for exactly this call.
        let _ = unsafe { self.enter(entry, function, [0, context as u64, 0, 0, 0, 0, 0, 0]) };
        if let Some(timer) = self.work.0.state.lock().timers.get_mut(&handle) {
            timer.running -= 1;
        }
    }

    fn run_job(&self, (job, driver, adapter): &JobCall) {
        let entry = Entry { handler: handler::WORK_ITEM, driver: *driver, adapter: *adapter, irql: PASSIVE };
        let args = [job.context as u64, job.item as u64, 0, 0, 0, 0, 0, 0];
        // SAFETY: NdisQueueIoWorkItem was given this routine for exactly this call.
        let _ = unsafe { self.enter(entry, job.routine, args) };
        if let Some(item) = self.work.0.state.lock().items.get_mut(&job.item) {
            item.running = false;
        }
    }

    /// When the next timer of a deterministic machine is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.work.0.state.lock().schedule.first().map(|(due, _)| *due)
    }

    /// Runs one timer that is due on a deterministic machine, or with `jobs` one work item, as the seed
    /// says. `false` if there is none.
    pub(super) fn run_ready(&self, jobs: bool) -> bool {
        let Some(schedule) = &self.schedule else { return false };
        let now = self.now();
        let mut state = self.work.0.state.lock();
        let due: Vec<_> = state.schedule.iter().copied().take_while(|(due, _)| *due <= now).collect();
        let jobs = if jobs { state.jobs.len() } else { 0 };
        if due.len() + jobs == 0 {
            return false;
        }
        let index = schedule.choose(due.len() + jobs);
        if let Some((time, handle)) = due.get(index).copied() {
            let call = state.fire(time, handle, now);
            drop(state);
            if let Some(call) = call {
                self.run_timer(handle, call);
            }
        } else {
            let job = state.begin(index - due.len());
            drop(state);
            if let Some(job) = job {
                self.run_job(&job);
            }
        }
        self.notify();
        true
    }
}

fn timer_thread(shared: &Shared, machine: &Weak<Machine>) {
    loop {
        let mut guard = shared.state.lock();
        let (handle, timer_entry) = loop {
            if guard.closed {
                return;
            }
            let state = &mut *guard;
            let now = Instant::now();
            match state.schedule.first().copied() {
                Some((due, handle)) if due <= now => {
                    let Some(call) = state.fire(due, handle, now) else { continue };
                    break (handle, call);
                }
                Some((due, _)) => {
                    shared.changed.wait_until(&mut guard, due);
                }
                None => shared.changed.wait(&mut guard),
            }
        };
        drop(guard);
        let Some(machine) = machine.upgrade() else { return };
        machine.run_timer(handle, timer_entry);
        let _ = machine.deliver_returns();
        machine.notify();
    }
}

fn worker_thread(shared: &Shared, machine: &Weak<Machine>) {
    loop {
        let mut guard = shared.state.lock();
        let job = loop {
            if guard.closed {
                return;
            }
            let state = &mut *guard;
            if !state.jobs.is_empty() {
                let Some(job) = state.begin(0) else { continue };
                break job;
            }
            shared.changed.wait(&mut guard);
        };
        drop(guard);
        let Some(machine) = machine.upgrade() else { return };
        machine.run_job(&job);
        let _ = machine.deliver_returns();
        machine.notify();
    }
}
