//! One simulated machine: processors, IRQL, pool, locks, queues, and the way into driver code.
//!
//! Locks here are short and never held while driver code runs: a driver may call back at any time,
//! from any thread, and may stop the machine from within the call.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::adapter::AdapterCore;
use crate::call::{CallHook, CallPoint};
use crate::error::{BugCheck, LabError};
use crate::fault::{FaultHook, FaultPoint};
use crate::packet::Packets;
use crate::rules::{self, Past, Rule, Violation};
use crate::symbols::CallStack;

pub(crate) mod copy;
pub(crate) mod crash;
pub(crate) mod dispatcher;
pub(crate) mod dpc;
#[cfg(target_os = "linux")]
mod emulate;
#[cfg(target_os = "linux")]
mod exception;
pub(crate) mod generic_table;
pub(crate) mod grave;
pub(crate) mod guard;
pub(crate) mod io;
pub(crate) mod irp;
pub(crate) mod ktimer;
pub(crate) mod lock;
mod lock_order;
pub(crate) mod lookaside;
pub(crate) mod mutex;
pub(crate) mod namespace;
pub(crate) mod net_buffer;
pub(crate) mod ob;
mod pageable;
mod panic;
pub(crate) mod pool;
pub(crate) mod processor_block;
pub(crate) mod registry;
pub(crate) mod resource;
pub(crate) mod rundown;
pub(crate) mod schedule;
pub(crate) mod security;
pub(crate) mod seh;
#[cfg(target_os = "linux")]
mod shared_data;
pub(crate) mod stack;
pub(crate) mod stubs;
pub(crate) mod switch;
mod system_thread;
pub(crate) mod thread;
#[cfg(target_os = "linux")]
mod trap;
mod unwind;
pub(crate) mod user;
#[cfg(target_os = "linux")]
pub(crate) mod wild;
pub(crate) mod work;

pub(crate) use thread::{Entry, Handler, Stopped, Thread};

/// `PASSIVE_LEVEL`.
pub(crate) const PASSIVE: u8 = ndis_sys::PASSIVE_LEVEL;
/// `APC_LEVEL`.
pub(crate) const APC: u8 = ndis_sys::APC_LEVEL;
/// `DISPATCH_LEVEL`.
pub(crate) const DISPATCH: u8 = ndis_sys::DISPATCH_LEVEL;
/// `HIGH_LEVEL`.
pub(crate) const HIGH: u8 = ndis_sys::HIGH_LEVEL;

/// A violation list longer than this is a loop; the rest is counted only.
const MAX_VIOLATIONS: usize = 4096;
/// Violations beyond this are recorded without the driver's call stack.
const MAX_STACKS: usize = 256;
/// Allocations and hand-overs whose call stack is kept. Walking a stack takes microseconds: a driver that
/// runs for long would be slowed down by half for what a report seldom needs by then.
const KEPT_STACKS: u32 = 40_000;
/// Lock acquisitions whose call stack is kept.
const KEPT_LOCK_STACKS: u32 = 4_000;

/// Hashes addresses and handles: one multiplication is enough, nobody attacks these tables.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing, folded so that the low bits, which choose the bucket, see all of it.
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// A table keyed by address or handle.
pub(crate) type AddressMap<V> = HashMap<usize, V, BuildHasherDefault<AddressHasher>>;

/// What is being made when a handle is given out. Handles are no addresses: a driver that follows
/// one faults instead of reading the lab's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandleKind {
    Driver = 1,
    Adapter,
    Configuration,
    ListPool,
    BufferPool,
    Timer,
    WorkItem,
    OidRequest,
    RwLock,
    Callback,
    Device,
    Trace,
}

/// Who asked for an object, for the census and for leak reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The lab function that made the object.
    pub function: &'static str,
    /// The handler of the driver that called it.
    pub handler: &'static str,
    /// The driver, by the lab's number.
    pub driver: u32,
    /// The adapter that the handler was called for, or that the object was made for, if any.
    pub adapter: Option<crate::adapter::AdapterId>,
    /// The driver's call stack; `None` where it was not kept: a machine keeps those of its first tens of
    /// thousands of calls.
    pub stack: Option<&'static CallStack>,
}

impl Origin {
    /// What the calling thread does, for the record of an object. With the driver's call stack, unless its
    /// machine has kept so many already.
    pub(crate) fn here() -> Self {
        Self::within(|machine| &machine.stacks_left)
    }

    /// As [`Origin::here`], of an object that is made with a handle: it belongs to the adapter that this names, or, with
    /// the driver's handle, to no adapter, whichever one the calling handler is for.
    pub(crate) fn made_with(owner: Option<crate::adapter::AdapterId>) -> Self {
        Self { adapter: owner, ..Self::here() }
    }

    /// As [`Origin::here`], for the acquisition of a lock.
    pub(crate) fn of_lock() -> Self {
        Self::within(|machine| &machine.lock_stacks_left)
    }

    fn within(left: impl FnOnce(&Machine) -> &AtomicU32) -> Self {
        let (mut origin, machine) = thread::with(|thread| {
            let context = thread.context();
            let origin = Self {
                function: thread.function().unwrap_or_default(),
                handler: context.handler.unwrap_or_default(),
                driver: context.driver,
                adapter: context.adapter,
                stack: None,
            };
            (origin, thread.machine())
        });
        // SAFETY: `Machine::enter` set this pointer from a reference that lives until the entry ends, and
        // this code runs within the entry.
        let left = machine.as_ref().map(|machine| left(unsafe { machine.as_ref() }));
        // Relaxed: a limit without data behind it.
        let kept = left.is_some_and(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        });
        if kept {
            origin.stack = stack::intern(&stack::capture(false));
        }
        origin
    }

    /// One line: who, and from where in the driver's source.
    pub fn line(&self) -> String {
        match self.stack.and_then(CallStack::place) {
            Some(place) => format!("{self}, from {place}"),
            None => self.to_string(),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "by {} in {}", self.function, self.handler)?;
        self.adapter.map_or(Ok(()), |adapter| write!(f, " of {adapter}"))
    }
}

/// How the machine is made.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) processors: u32,
    pub(crate) ndis_version: u32,
    pub(crate) timeout: Duration,
    /// Each pool block and structure has pages of its own.
    pub(crate) guard: bool,
    /// One thread and virtual time, with this seed.
    pub(crate) seed: Option<u64>,
    /// Images that import what the lab has not are loaded all the same.
    pub(crate) stub_imports: bool,
    /// Of these nothing is made but a count.
    pub(crate) known: crate::rules::KnownRules,
}

#[cfg(test)]
impl Options {
    /// A small machine.
    pub(crate) fn for_tests() -> Self {
        Self {
            processors: 2,
            ndis_version: 0x0006_0050,
            timeout: Duration::from_secs(1),
            guard: false,
            seed: None,
            stub_imports: false,
            known: crate::rules::KnownRules::default(),
        }
    }
}

pub(crate) struct Machine {
    this: Weak<Machine>,
    pub(crate) options: Options,
    dead: AtomicBool,
    bugcheck: Mutex<Option<BugCheck>>,
    pub(crate) processors: Box<[dpc::Processor]>,
    pub(crate) dpcs: dpc::Pending,
    pub(crate) pool: pool::Pool,
    pub(crate) packets: Packets,
    pub(crate) extras: net_buffer::Extras,
    pub(crate) locks: lock::Locks,
    pub(crate) dispatcher: dispatcher::Dispatcher,
    pub(crate) work: work::Work,
    pub(crate) ob: ob::Manager,
    pub(crate) io: io::Io,
    pub(crate) lookasides: lookaside::Lookasides,
    pub(crate) tables: generic_table::GenericTables,
    pub(crate) registry: registry::Registry,
    pub(crate) resources: resource::Resources,
    pub(crate) users: user::Users,
    /// System threads that run: the object, and who created it.
    pub(crate) threads: Mutex<Vec<(usize, Origin)>>,
    /// Stands in for functions that the loaded images import and the lab has not.
    pub(crate) stubs: Mutex<Vec<Arc<stubs::Stubs>>>,
    /// Some image has pageable sections.
    any_pageable: AtomicBool,
    /// A thread is on its way to return receives.
    pub(crate) returning: AtomicBool,
    pub(crate) objects: Mutex<crate::objects::Objects>,
    pub(crate) adapters: RwLock<AddressMap<Arc<AdapterCore>>>,
    violations: Mutex<Vec<Violation>>,
    violations_total: AtomicU64,
    faults: RwLock<Option<Arc<FaultHook>>>,
    /// Set for good: reading it is all that calls of other machines pay.
    calls: OnceLock<Arc<CallHook>>,
    fault_points: AtomicU64,
    next_handle: AtomicU32,
    next_adapter: AtomicU32,
    pub(crate) started: Instant,
    /// The system time when it started, in units of 100 ns since 1601.
    pub(crate) boot_time: u64,
    /// Registrations by which something calls the driver back, or may: by handle or address.
    pub(crate) callbacks: Mutex<AddressMap<(&'static str, Origin)>>,
    pub(crate) crash_callbacks: crash::Callbacks,
    /// The machine has stopped, and what a bug check calls was not called yet.
    crash_due: AtomicBool,
    pub(crate) callback_objects: crate::exports::callback::CallbackObjects,
    /// MDLs of pages that were allocated for them, and where these are.
    pub(crate) pages: Mutex<AddressMap<usize>>,
    /// Functions by which hardware was asked for that is not there.
    hardware: Mutex<std::collections::BTreeSet<&'static str>>,
    pub(crate) schedule: Option<schedule::Schedule>,
    /// How many more call stacks are kept: see [`Origin::here`].
    stacks_left: AtomicU32,
    /// As above, of acquisitions of locks.
    lock_stacks_left: AtomicU32,
    /// Signalled when the machine stops or any pending operation completes.
    pub(crate) progress: Mutex<()>,
    pub(crate) progressed: Condvar,
    pub(crate) debug_output: Mutex<Vec<String>>,
}

impl Machine {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        guard::prepare();
        panic::install();
        #[cfg(target_os = "linux")]
        {
            wild::prepare();
            shared_data::prepare();
            trap::install();
        }
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            dead: AtomicBool::new(false),
            bugcheck: Mutex::new(None),
            processors: (0..options.processors).map(|_| dpc::Processor::default()).collect(),
            dpcs: dpc::Pending::default(),
            pool: pool::Pool::default(),
            packets: Packets::default(),
            extras: net_buffer::Extras::default(),
            locks: lock::Locks::default(),
            dispatcher: dispatcher::Dispatcher::default(),
            work: work::Work::default(),
            ob: ob::Manager::default(),
            io: io::Io::default(),
            lookasides: lookaside::Lookasides::default(),
            tables: generic_table::GenericTables::default(),
            registry: registry(&options),
            resources: resource::Resources::default(),
            users: user::Users::default(),
            threads: Mutex::default(),
            stubs: Mutex::default(),
            any_pageable: AtomicBool::new(false),
            returning: AtomicBool::new(false),
            objects: Mutex::default(),
            adapters: RwLock::default(),
            violations: Mutex::default(),
            violations_total: AtomicU64::new(0),
            faults: RwLock::new(None),
            calls: OnceLock::new(),
            fault_points: AtomicU64::new(0),
            next_handle: AtomicU32::new(1),
            next_adapter: AtomicU32::new(1),
            started: Instant::now(),
            boot_time: boot_time(options.seed.is_some()),
            callbacks: Mutex::default(),
            crash_callbacks: crash::Callbacks::default(),
            crash_due: AtomicBool::new(false),
            callback_objects: crate::exports::callback::CallbackObjects::default(),
            pages: Mutex::default(),
            hardware: Mutex::default(),
            schedule: options.seed.map(schedule::Schedule::new),
            stacks_left: AtomicU32::new(KEPT_STACKS),
            lock_stacks_left: AtomicU32::new(KEPT_LOCK_STACKS),
            progress: Mutex::new(()),
            progressed: Condvar::new(),
            debug_output: Mutex::default(),
            options,
        })
    }

    pub(crate) fn arc(&self) -> Arc<Self> {
        self.this.upgrade().expect("a machine that is called is alive")
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        self.this.clone()
    }

    /// A new handle: a non-canonical address, distinct for each object of the machine.
    pub(crate) fn handle(&self, kind: HandleKind) -> usize {
        // Relaxed: only uniqueness matters.
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed) as usize;
        0x00ab_0000_0000_0000 | (kind as usize) << 40 | number << 4
    }

    /// The number of a new adapter.
    pub(crate) fn adapter_id(&self) -> crate::adapter::AdapterId {
        // Relaxed: only uniqueness matters.
        crate::adapter::AdapterId(self.next_adapter.fetch_add(1, Ordering::Relaxed))
    }

    /// Records a broken rule, with what the calling thread was doing.
    pub(crate) fn violate(&self, rule: &'static Rule, detail: impl Into<String>) {
        self.violate_past(None, rule, detail, &[]);
    }

    /// Records a broken rule of one adapter, whatever the thread was called for.
    pub(crate) fn violate_for(&self, adapter: &AdapterCore, rule: &'static Rule, detail: impl Into<String>) {
        self.violate_past(Some(adapter), rule, detail, &[]);
    }

    /// Records a broken rule, of `adapter` or of the one that the thread was called for, with what happened
    /// to the object before: (what, who did it).
    pub(crate) fn violate_past(
        &self,
        adapter: Option<&AdapterCore>,
        rule: &'static Rule,
        detail: impl Into<String>,
        past: &[(&'static str, Origin)],
    ) {
        let (function, handler, irql, about) = thread::with(|thread| {
            let context = thread.context();
            (thread.function(), context.handler, thread.irql(), context.adapter)
        });
        let adapter = adapter.map(|adapter| adapter.id).or(about);
        let state =
            adapter.and_then(|id| self.adapters.read().values().find(|a| a.id == id).map(|a| a.state()));
        let past = past.iter().map(|(what, origin)| Past { what, origin: *origin }).collect();
        let (detail, stack) = (detail.into(), CallStack::default());
        let mut violation = Violation { rule, function, handler, irql, adapter, state, detail, stack, past };
        if self.options.known.take(&violation) {
            return;
        }
        // Relaxed: a count that is read after the threads were joined or for display only.
        let before = self.violations_total.fetch_add(1, Ordering::Relaxed);
        if before < MAX_STACKS as u64 {
            violation.stack = stack::capture(function.is_none());
        }
        let mut violations = self.violations.lock();
        if violations.len() < MAX_VIOLATIONS {
            violations.push(violation);
        }
    }

    /// The function that runs asks for hardware that is not there.
    pub(crate) fn note_hardware(&self) {
        self.hardware.lock().extend(thread::with(thread::Thread::function));
    }

    pub(crate) fn hardware(&self) -> Vec<&'static str> {
        self.hardware.lock().iter().copied().collect()
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.violations.lock().clone()
    }

    pub(crate) fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.violations.lock())
    }

    pub(crate) fn violations_total(&self) -> u64 {
        // Relaxed: see `record`.
        self.violations_total.load(Ordering::Relaxed)
    }

    /// Stops the machine; the first stop is the one that counts.
    pub(crate) fn stop(&self, code: u32, parameters: [u64; 4], what: impl Into<String>) -> Stopped {
        let (function, handler, adapter) = thread::with(|thread| {
            let context = thread.context();
            (thread.function(), context.handler, context.adapter)
        });
        let mut bugcheck = self.bugcheck.lock();
        let first = bugcheck.is_none();
        if thread::with(|thread| thread.crash.is_calling()) {
            drop(bugcheck);
            let what = what.into();
            thread::with(|thread| thread.crash.fail(format!("bugcheck {code:#x}: {what}")));
            return Stopped::new();
        }
        if first {
            *bugcheck = Some(BugCheck {
                code,
                parameters,
                function,
                handler,
                adapter,
                detail: what.into(),
                stack: stack::capture(function.is_none()),
                called: Vec::new(),
            });
            // Relaxed: see `settle_crash`.
            self.crash_due.store(true, Ordering::Relaxed);
        }
        let detail = bugcheck.as_ref().map(ToString::to_string).unwrap_or_default();
        drop(bugcheck);
        // Release: a thread that sees the machine dead also finds the bugcheck.
        self.dead.store(true, Ordering::Release);
        if first {
            self.violate(rules::BUGCHECK, detail);
        }
        // A sink may hold adapters, and they the machine: a dead one must still be dropped.
        let adapters: Vec<_> = self.adapters.read().values().cloned().collect();
        for adapter in adapters {
            adapter.receives.drop_sink();
        }
        drop(self.progress.lock());
        self.progressed.notify_all();
        self.dispatcher.wake();
        Stopped::new()
    }

    pub(crate) fn is_dead(&self) -> bool {
        // Acquire: pairs with the store in `stop`. What a bug check calls runs on a machine that has stopped.
        self.dead.load(Ordering::Acquire) && !thread::with(|thread| thread.crash.is_calling())
    }

    pub(crate) fn bugcheck(&self) -> Option<BugCheck> {
        // The machine may have been stopped by the lab, and not by a thread in a driver.
        if thread::with(|thread| thread.frame().is_null()) {
            self.settle_crash();
        }
        self.bugcheck.lock().clone()
    }

    /// The error of a call that met a stopped machine.
    pub(crate) fn dead_error(&self) -> LabError {
        LabError::BugCheck(Box::new(self.bugcheck().unwrap_or_default()))
    }

    pub(crate) fn alive(&self) -> Result<(), LabError> {
        if self.is_dead() { Err(self.dead_error()) } else { Ok(()) }
    }

    /// Waits until `done`, the machine stops, or `timeout` passes; says whether `done`.
    pub(crate) fn wait_until(&self, timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
        if self.schedule.is_some() {
            return self.wait_virtual(Some(self.now() + timeout), done) == Some(true);
        }
        let deadline = Instant::now() + timeout;
        let mut guard = self.progress.lock();
        loop {
            if done() {
                return true;
            }
            if self.is_dead() || self.progressed.wait_until(&mut guard, deadline).timed_out() {
                return done();
            }
        }
    }

    /// Tells waiters to look again.
    pub(crate) fn notify(&self) {
        // Taking the lock orders the change before a waiter's last look.
        drop(self.progress.lock());
        self.progressed.notify_all();
    }

    /// The first one stays.
    pub(crate) fn set_call_hook(&self, hook: Arc<CallHook>) {
        let _ = self.calls.set(hook);
    }

    /// Tells the hook of calls, if there is one, of a function that begins.
    pub(crate) fn tell_call(&self, function: &'static str) {
        if let Some(hook) = self.calls.get() {
            let context = thread::with(thread::Thread::context);
            hook(&CallPoint { function, handler: context.handler, adapter: context.adapter });
        }
    }

    pub(crate) fn set_faults(&self, hook: Option<Arc<FaultHook>>) {
        *self.faults.write() = hook;
    }

    /// How often the driver asked for something that could have been refused.
    pub(crate) fn fault_points(&self) -> u64 {
        // Relaxed: a counter without data behind it.
        self.fault_points.load(Ordering::Relaxed)
    }

    /// Whether a call that may fail on Windows shall fail now.
    pub(crate) fn fault(&self, size: usize, tag: u32) -> bool {
        // Relaxed: a counter without data behind it.
        let nth = self.fault_points.fetch_add(1, Ordering::Relaxed);
        let Some(hook) = self.faults.read().clone() else { return false };
        let point = thread::with(|thread| {
            let context = thread.context();
            FaultPoint {
                nth,
                function: thread.function().unwrap_or_default(),
                handler: context.handler.unwrap_or_default(),
                adapter: context.adapter,
                size,
                tag,
            }
        });
        hook(&point)
    }

    pub(crate) fn adapter(&self, handle: usize) -> Option<Arc<AdapterCore>> {
        self.adapters.read().get(&handle).cloned()
    }

    /// The adapter that the driver names; reports a handle that names none.
    pub(crate) fn named_adapter(&self, handle: ndis_sys::NDIS_HANDLE) -> Option<Arc<AdapterCore>> {
        let found = self.adapter(handle as usize);
        if found.is_none() {
            let halted = self.objects.lock().halted.get(&(handle as usize)).copied();
            let (rule, text) = halted.map_or_else(
                || (rules::HANDLE_UNKNOWN, "is no adapter's handle".to_owned()),
                |id| (rules::HANDLE_AFTER_HALT, format!("was {id}, which is halted")),
            );
            self.violate(rule, format!("{handle:p} {text}"));
        }
        found
    }
}

/// A registry with what every Windows has.
fn registry(options: &Options) -> registry::Registry {
    let registry = registry::Registry::default();
    registry.fill(crate::exports::rtl::build(options.ndis_version));
    registry
}

/// The system time now, or (`fixed`) at the start of 2026.
fn boot_time(fixed: bool) -> u64 {
    /// Units of 100 ns from 1601 to 1970, and to 2026.
    const EPOCH: u64 = 116_444_736_000_000_000;
    const START_OF_2026: u64 = EPOCH + 20_454 * 24 * 3600 * 10_000_000;
    if fixed {
        return START_OF_2026;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    EPOCH + u64::try_from(since.as_nanos() / 100).unwrap_or(0)
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.work.close();
        self.close_processors();
    }
}
