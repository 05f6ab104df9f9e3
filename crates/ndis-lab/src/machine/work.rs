//! Timers and work items: the threads of the system that call a driver by themselves.
//!
//! Timers are NDIS timer objects, known by their handles, and KTIMERs that are set, known by their addresses:
//! see [`super::ktimer`]. Work items are those of NDIS and of the I/O manager.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::thread::{Context, handler};
use super::{AddressMap, DISPATCH, Entry, HandleKind, Machine, Origin, PASSIVE, Stopped, thread};
use crate::adapter::AdapterId;
use crate::rules;

/// `BUGCODE_NDIS_DRIVER`.
pub(crate) const NDIS_DRIVER: u32 = 0x7c;

/// What happens when a timer fires.
#[derive(Debug, Clone, Copy)]
enum Fires {
    /// An NDIS timer object calls its function.
    Function { function: usize, default_context: usize, context: usize },
    /// A KTIMER is signalled, and queues this DPC unless it is 0.
    Dpc(usize),
}

/// A timer.
pub(crate) struct Timer {
    fires: Fires,
    period: Option<Duration>,
    /// When it fires next.
    due: Option<Instant>,
    running: usize,
    driver: u32,
    pub(crate) adapter: Option<AdapterId>,
    pub(crate) origin: Origin,
}

/// Whose a work item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// `NdisAllocateIoWorkItem`.
    Ndis,
    /// `IoAllocateWorkItem`, for this device object.
    Io { device: usize },
    /// `WORK_QUEUE_ITEM`, which ExQueueWorkItem takes: known only while it is queued.
    Executive,
}

/// A work item.
pub(crate) struct WorkItem {
    kind: ItemKind,
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
    /// The routine gets the work item too: IoQueueWorkItemEx.
    extended: bool,
}

#[derive(Default)]
struct State {
    timers: AddressMap<Timer>,
    /// (due, handle): what fires next comes first.
    schedule: BTreeSet<(Instant, usize)>,
    items: AddressMap<WorkItem>,
    /// Drivers whose WORK_QUEUE_ITEMs run.
    executing: Vec<u32>,
    jobs: VecDeque<Job>,
    /// Handles of timers that were freed, and by whom.
    freed_timers: AddressMap<Origin>,
    timer_thread: bool,
    worker_thread: bool,
    closed: bool,
}

/// What fires, and for whom.
struct TimerCall {
    fires: Fires,
    driver: u32,
    adapter: Option<AdapterId>,
    origin: Origin,
}
/// A job, and the kind, driver and adapter of its work item.
type JobCall = (Job, ItemKind, u32, Option<AdapterId>);

impl State {
    /// A timer is due: sets it again if it is periodic; gives what to call. A KTIMER is signalled here, where
    /// nobody can cancel it in between and take its memory away.
    fn fire(
        &mut self,
        due: Instant,
        handle: usize,
        now: Instant,
        signal: impl FnOnce(usize),
    ) -> Option<TimerCall> {
        self.schedule.remove(&(due, handle));
        let timer = self.timers.get_mut(&handle)?;
        timer.due = timer.period.map(|period| now + period);
        if let Some(next) = timer.due {
            self.schedule.insert((next, handle));
        }
        timer.running += 1;
        if matches!(timer.fires, Fires::Dpc(_)) {
            signal(handle);
        }
        let (driver, adapter, origin) = (timer.driver, timer.adapter, timer.origin);
        Some(TimerCall { fires: timer.fires, driver, adapter, origin })
    }

    /// Takes a job out of the queue; `None` if its work item is gone.
    fn begin(&mut self, index: usize) -> Option<JobCall> {
        let job = self.jobs.remove(index)?;
        let item = self.items.get_mut(&job.item)?;
        item.queued = false;
        item.running = true;
        let call = (item.kind, item.driver, item.adapter);
        if call.0 == ItemKind::Executive {
            // From here on the memory is the routine's to free or to queue again.
            self.items.remove(&job.item);
            self.executing.push(call.1);
        }
        Some((job, call.0, call.1, call.2))
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

    /// A set KTIMER or a queued WORK_QUEUE_ITEM in these bytes: its name and address.
    pub(crate) fn within(&self, range: &std::ops::Range<usize>) -> Option<(&'static str, usize)> {
        let state = self.0.state.lock();
        let in_range = |address: &&usize| range.contains(*address);
        let timer = state
            .timers
            .iter()
            .filter(|(_, timer)| timer.due.is_some())
            .map(|(address, _)| address)
            .find(in_range)
            .map(|address| ("a set KTIMER", *address));
        timer.or_else(|| {
            let item = state.items.keys().find(in_range)?;
            Some(("a queued work item", *item))
        })
    }

    /// Whether work of this driver waits or runs.
    pub(crate) fn executive_of(&self, driver: u32) -> usize {
        self.0.state.lock().executing.iter().filter(|owner| **owner == driver).count()
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
            fires: Fires::Function { function, default_context: context, context },
            period: None,
            due: None,
            running: 0,
            driver,
            adapter,
            origin: Origin::made_with(adapter),
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
            return Err(self.no_timer(handle, "set of what is no timer"));
        };
        let due = self.now() + delay;
        if let Fires::Function { default_context, context: current, .. } = &mut timer.fires {
            *current = if context == 0 { *default_context } else { context };
        }
        timer.period = period;
        let old = timer.due.replace(due);
        if let Some(old) = old {
            state.schedule.remove(&(old, handle));
        }
        state.schedule.insert((due, handle));
        drop(guard);
        self.start_timers();
        Ok(old.is_some())
    }

    /// A timer was set: the thread of timers has to look again.
    fn start_timers(&self) {
        let thread = &mut self.work.0.state.lock().timer_thread;
        let start = self.schedule.is_none() && !std::mem::replace(thread, true);
        if start {
            let (shared, machine) = (self.work.0.clone(), self.weak());
            std::thread::spawn(move || timer_thread(&shared, &machine));
        }
        self.work.0.changed.notify_all();
    }

    /// Sets the KTIMER at `address`, whose header was checked; says whether it was set already.
    pub(super) fn set_ktimer(
        &self,
        address: usize,
        delay: Duration,
        period: Option<Duration>,
        dpc: usize,
    ) -> bool {
        let due = self.now() + delay;
        let context = thread::with(super::Thread::context);
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let timer = Timer {
            fires: Fires::Dpc(dpc),
            period,
            due: Some(due),
            running: 0,
            driver: context.driver,
            adapter: context.adapter,
            origin: Origin::here(),
        };
        let old = state.timers.insert(address, timer);
        let running = old.as_ref().map_or(0, |old| old.running);
        let was = old.and_then(|old| old.due);
        if let Some(was) = was {
            state.schedule.remove(&(was, address));
        }
        if let Some(timer) = state.timers.get_mut(&address) {
            timer.running = running;
        }
        state.schedule.insert((due, address));
        drop(guard);
        self.start_timers();
        was.is_some()
    }

    /// Cancels a KTIMER; says whether it was set.
    pub(super) fn cancel_ktimer(&self, address: usize) -> bool {
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let Some(timer) = state.timers.get_mut(&address) else { return false };
        let due = timer.due.take();
        timer.period = None;
        let idle = timer.running == 0;
        if let Some(due) = due {
            state.schedule.remove(&(due, address));
        }
        if idle {
            state.timers.remove(&address);
        }
        due.is_some()
    }

    /// Whether the KTIMER at `address` is set.
    pub(crate) fn ktimer_is_set(&self, address: usize) -> bool {
        self.work.0.state.lock().timers.get(&address).is_some_and(|timer| timer.due.is_some())
    }

    /// Cancels a timer; says whether it was set.
    pub(crate) fn cancel_timer(&self, handle: usize) -> Result<bool, Stopped> {
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        let Some(timer) = state.timers.get_mut(&handle) else {
            drop(guard);
            return Err(self.no_timer(handle, "cancel of what is no timer"));
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
            return Err(self.no_timer(handle, "free of what is no timer"));
        };
        if let Some(due) = timer.due {
            state.schedule.remove(&(due, handle));
        }
        state.freed_timers.insert(handle, Origin::here());
        drop(guard);
        if timer.due.is_some() || timer.running > 0 {
            let what = if timer.due.is_some() { "set" } else { "running" };
            self.violate(rules::TIMER_USE, format!("timer {handle:#x} is freed while it is {what}"));
        }
        Ok(())
    }

    /// A timer is named that is none, or none any more.
    fn no_timer(&self, handle: usize, what: &str) -> Stopped {
        let freed = self.work.0.state.lock().freed_timers.get(&handle).copied();
        match freed {
            Some(origin) => {
                let text = format!("timer {handle:#x} was freed before");
                self.violate_past(None, rules::TIMER_USE, text, &[("freed", origin)]);
            }
            None => self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no timer object")),
        }
        self.stop(NDIS_DRIVER, [9, handle as u64, 0, 0], what)
    }

    pub(crate) fn create_work_item(&self, kind: ItemKind, adapter: Option<AdapterId>, driver: u32) -> usize {
        let handle = self.handle(HandleKind::WorkItem);
        self.know_work_item(handle, kind, adapter, driver);
        handle
    }

    /// Makes a work item known, by its handle or, if the driver made its memory, by its address.
    pub(crate) fn know_work_item(
        &self,
        handle: usize,
        kind: ItemKind,
        adapter: Option<AdapterId>,
        driver: u32,
    ) {
        let origin = Origin::made_with(adapter);
        let item = WorkItem { kind, queued: false, running: false, driver, adapter, origin };
        self.work.0.state.lock().items.insert(handle, item);
    }

    /// The memory of a KTIMER or a work item goes: nothing of it may fire any more.
    pub(super) fn forget_work(&self, address: usize) {
        self.cancel_ktimer(address);
        let mut state = self.work.0.state.lock();
        state.items.remove(&address);
        state.jobs.retain(|job| job.item != address);
    }

    /// Whether a work item is known.
    pub(crate) fn is_work_item(&self, handle: usize) -> bool {
        self.work.0.state.lock().items.contains_key(&handle)
    }

    pub(crate) fn queue_work_item(
        &self,
        handle: usize,
        routine: usize,
        context: usize,
        extended: bool,
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
        state.jobs.push_back(Job { item: handle, routine, context, extended });
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
        // A routine may free its own item; another thread must not. The I/O manager is through with an item of its
        // own before it calls the routine.
        let own = thread::with(|t| t.context().handler) == Some(handler::WORK_ITEM.name);
        if item.queued || (item.running && !own && item.kind == ItemKind::Ndis) {
            let what = if item.queued { "queued" } else { "running" };
            self.violate(rules::WORK_ITEM_USE, format!("work item {handle:#x} is freed while it is {what}"));
        }
        Ok(())
    }
}

impl Machine {
    fn run_timer(&self, handle: usize, call: &TimerCall) {
        let TimerCall { fires, driver, adapter, origin } = *call;
        match fires {
            Fires::Function { function, context, .. } => {
                let entry = Entry { handler: handler::TIMER, driver, adapter, irql: DISPATCH };
                // SAFETY: NdisAllocateTimerObject was given this function for exactly this call.
                let _ = unsafe { self.enter(entry, function, [0, context as u64, 0, 0, 0, 0, 0, 0]) };
            }
            Fires::Dpc(dpc) => {
                if dpc != 0 {
                    let context = Context { handler: None, driver, adapter };
                    // The machine stopped, or the DPC waits already: nothing more to do.
                    let null = std::ptr::null_mut();
                    let _ = self.queue_dpc_for(dpc as *mut ndis_sys::KDPC, [null, null], context, origin);
                }
            }
        }
        let mut guard = self.work.0.state.lock();
        let state = &mut *guard;
        if let Some(timer) = state.timers.get_mut(&handle) {
            timer.running -= 1;
            let spent = matches!(timer.fires, Fires::Dpc(_)) && timer.due.is_none() && timer.running == 0;
            if spent {
                state.timers.remove(&handle);
            }
        }
    }

    fn run_job(&self, (job, kind, driver, adapter): &JobCall) {
        let handler = if *kind == ItemKind::Ndis { handler::WORK_ITEM } else { handler::IO_WORK_ITEM };
        let entry = Entry { handler, driver: *driver, adapter: *adapter, irql: PASSIVE };
        let (context, item) = (job.context as u64, job.item as u64);
        let args = match *kind {
            ItemKind::Ndis => [context, item, 0, 0, 0, 0, 0, 0],
            ItemKind::Io { device } if job.extended => [device as u64, context, item, 0, 0, 0, 0, 0],
            ItemKind::Io { device } => [device as u64, context, 0, 0, 0, 0, 0, 0],
            ItemKind::Executive => [context, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: NdisQueueIoWorkItem, IoQueueWorkItem or the WORK_QUEUE_ITEM named this routine for exactly
        // this call.
        let _ = unsafe { self.enter(entry, job.routine, args) };
        let mut state = self.work.0.state.lock();
        if *kind == ItemKind::Executive {
            if let Some(at) = state.executing.iter().position(|owner| owner == driver) {
                state.executing.swap_remove(at);
            }
        } else if let Some(item) = state.items.get_mut(&job.item) {
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
        let remote = self.waiting_processors();
        let jobs = if jobs { state.jobs.len() } else { 0 };
        if due.len() + jobs + remote.len() == 0 {
            return false;
        }
        let index = schedule.choose(due.len() + jobs + remote.len());
        if let Some((time, handle)) = due.get(index).copied() {
            let call = state.fire(time, handle, now, |timer| {
                self.set_signal(timer, 1);
            });
            drop(state);
            if let Some(call) = call {
                self.run_timer(handle, &call);
            }
        } else if let Some(processor) = index.checked_sub(due.len() + jobs) {
            drop(state);
            self.run_remote_dpcs(remote[processor]);
        } else {
            let job = state.begin(index - due.len());
            drop(state);
            if let Some(job) = job {
                thread::as_another(|| self.run_job(&job));
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
                    let Some(machine) = machine.upgrade() else { return };
                    let call = state.fire(due, handle, now, |timer| {
                        machine.set_signal(timer, 1);
                    });
                    let Some(call) = call else { continue };
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
        machine.run_timer(handle, &timer_entry);
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
