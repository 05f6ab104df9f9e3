//! What the lab knows of the calling thread: its IRQL, its processor, what it was called for.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::switch::{self, Frame, MAX_ARGUMENTS};
use super::{DISPATCH, Machine, processor_block};
use crate::adapter::AdapterId;
use crate::rules;

/// Proof that the machine stopped: whoever holds it returns to its caller at once.
#[derive(Debug)]
pub(crate) struct Stopped(());

impl Stopped {
    pub(super) const fn new() -> Self {
        Self(())
    }
}

/// A handler of the driver, as documentation names it.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) name: &'static str,
}

macro_rules! handlers {
    ($($constant:ident = $name:literal;)*) => {
        $(pub(crate) const $constant: &Handler = &Handler { name: $name };)*
    };
}

/// The handlers that the lab calls.
pub(crate) mod handler {
    use super::Handler;
    handlers! {
        DRIVER_ENTRY = "DriverEntry";
        SET_OPTIONS = "MiniportSetOptions";
        INITIALIZE = "MiniportInitializeEx";
        HALT = "MiniportHaltEx";
        UNLOAD = "MiniportDriverUnload";
        PAUSE = "MiniportPause";
        RESTART = "MiniportRestart";
        OID_REQUEST = "MiniportOidRequest";
        CANCEL_OID = "MiniportCancelOidRequest";
        DIRECT_OID_REQUEST = "MiniportDirectOidRequest";
        CANCEL_DIRECT_OID = "MiniportCancelDirectOidRequest";
        SEND = "MiniportSendNetBufferLists";
        CANCEL_SEND = "MiniportCancelSend";
        RETURN = "MiniportReturnNetBufferLists";
        CHECK_FOR_HANG = "MiniportCheckForHangEx";
        RESET = "MiniportResetEx";
        PNP_EVENT = "MiniportDevicePnPEventNotify";
        SHUTDOWN = "MiniportShutdownEx";
        DPC = "KDEFERRED_ROUTINE";
        TIMER = "NDIS_TIMER_FUNCTION";
        WORK_ITEM = "NDIS_IO_WORKITEM_FUNCTION";
        IO_WORK_ITEM = "IO_WORKITEM_ROUTINE";
        SYSTEM_THREAD = "KSTART_ROUTINE";
        PROCESS_NOTIFY = "CREATE_PROCESS_NOTIFY_ROUTINE";
    }
}

/// What a thread is called for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context {
    pub(crate) handler: Option<&'static str>,
    pub(crate) driver: u32,
    pub(crate) adapter: Option<AdapterId>,
}

/// One entry into driver code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) handler: &'static Handler,
    pub(crate) driver: u32,
    pub(crate) adapter: Option<AdapterId>,
    /// The thread is raised to this IRQL for the call; it is never lowered.
    pub(crate) irql: u8,
}

/// A spin lock that the thread holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) address: usize,
    pub(crate) kind: &'static str,
    /// The IRQL before the acquisition, or `None` if that did not raise it.
    pub(crate) old_irql: Option<u8>,
    /// `KeTryToAcquireSpinLockAtDpcLevel` acquired it.
    pub(crate) tried: bool,
    /// Who acquired it.
    pub(crate) origin: super::Origin,
}

/// The state of one host thread.
pub(crate) struct Thread {
    machine: Cell<Option<NonNull<Machine>>>,
    frame: Cell<*mut Frame>,
    irql: Cell<u8>,
    /// The IRQL at which the innermost entry called the driver.
    floor: Cell<u8>,
    /// The processor that this thread owns: only at DISPATCH_LEVEL and above.
    processor: Cell<Option<u32>>,
    /// The processor that it ran on last.
    last: Cell<u32>,
    context: Cell<Context>,
    function: Cell<Option<&'static str>>,
    pub(crate) held: RefCell<Vec<Held>>,
    /// Saved extended states, innermost last: (address of `XSTATE_SAVE`, mask).
    pub(crate) xstates: RefCell<Vec<(usize, u64)>>,
    /// How often the thread entered a critical region and has not left it.
    pub(crate) critical: Cell<u32>,
    /// The process whose thread this is: its identifier; 0 is the system process.
    pub(crate) process: Cell<usize>,
    /// Processes that the thread is attached to, innermost last: (KAPC_STATE, identifier).
    pub(crate) attached: RefCell<Vec<(usize, usize)>>,
    /// Mutexes of all kinds that it holds, as often as it acquired them: (address, kind).
    pub(crate) mutexes: RefCell<Vec<(usize, &'static str)>>,
    /// The processors that it is to run on, one bit each; 0: all.
    pub(crate) affinity: Cell<u64>,
    /// ERESOURCEs that it holds, each as often as it acquired them.
    pub(crate) resources: RefCell<Vec<usize>>,
    /// What it does for a bug check.
    pub(crate) crash: super::crash::Crash,
    /// Driver code was left from within its panic.
    pub(super) panicked: Cell<bool>,
    /// Wild pointers of the driver that the lab followed.
    #[cfg(target_os = "linux")]
    pub(super) wild: super::wild::Touches,
    /// What the last trap left.
    #[cfg(target_os = "linux")]
    pub(super) trapped: super::exception::Slot,
    /// A register that leads to the shadow of the shared data for one instruction.
    #[cfg(target_os = "linux")]
    pub(super) shared: super::shared_data::Turned,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            machine: Cell::new(None),
            frame: Cell::new(std::ptr::null_mut()),
            irql: Cell::new(0),
            floor: Cell::new(0),
            processor: Cell::new(None),
            last: Cell::new(0),
            context: Cell::new(Context { handler: None, driver: 0, adapter: None }),
            function: Cell::new(None),
            held: RefCell::new(Vec::new()),
            xstates: RefCell::new(Vec::new()),
            critical: Cell::new(0),
            process: Cell::new(0),
            attached: RefCell::new(Vec::new()),
            mutexes: RefCell::new(Vec::new()),
            affinity: Cell::new(0),
            resources: RefCell::new(Vec::new()),
            crash: super::crash::Crash::new(),
            panicked: Cell::new(false),
            #[cfg(target_os = "linux")]
            wild: super::wild::Touches::new(),
            #[cfg(target_os = "linux")]
            trapped: super::exception::Slot::new(),
            #[cfg(target_os = "linux")]
            shared: super::shared_data::Turned::new(),
        }
    };
}

/// Looks at the calling thread.
pub(crate) fn with<R>(look: impl FnOnce(&Thread) -> R) -> R {
    THREAD.with(look)
}

/// As [`with`], also in a signal handler or while the thread ends: `None` if it is too late.
pub(super) fn try_with<R>(look: impl FnOnce(&Thread) -> R) -> Option<R> {
    THREAD.try_with(look).ok()
}

/// The IRQL of the calling thread.
pub(crate) fn irql() -> u8 {
    with(Thread::irql)
}

/// Runs something on this host thread as another thread of the system, which holds nothing and is at
/// PASSIVE_LEVEL: on a deterministic machine, where what waits lends its thread to others.
pub(super) fn as_another<R>(run: impl FnOnce() -> R) -> R {
    let object = crate::packet::Memory::zeroed(processor_block::THREAD_SIZE);
    let current = processor_block::current_thread();
    if let Some(object) = &object {
        processor_block::set_thread(object.address());
    }
    let saved = with(|thread| {
        let lists = (
            thread.held.take(),
            thread.xstates.take(),
            thread.attached.take(),
            thread.mutexes.take(),
            thread.resources.take(),
        );
        let cells = (
            (thread.irql.replace(0), thread.floor.replace(0)),
            thread.critical.replace(0),
            thread.affinity.replace(0),
            thread.process.replace(0),
        );
        (lists, cells)
    });
    let result = run();
    with(|thread| {
        let ((held, xstates, attached, mutexes, resources), ((irql, floor), critical, affinity, process)) =
            saved;
        thread.held.replace(held);
        thread.xstates.replace(xstates);
        thread.attached.replace(attached);
        thread.mutexes.replace(mutexes);
        thread.resources.replace(resources);
        thread.irql.set(irql);
        thread.floor.set(floor);
        thread.critical.set(critical);
        thread.affinity.set(affinity);
        thread.process.set(process);
    });
    if object.is_some() && current != 0 {
        processor_block::set_thread(current);
    }
    result
}

/// Whether an address lies in the part of this thread's stack that the driver uses now.
pub(crate) fn on_driver_stack(address: usize) -> bool {
    let here = 0_u8;
    with(|thread| {
        let frame = thread.frame();
        // SAFETY: while the thread is in an entry, its frame is that entry's local.
        let end = (!frame.is_null()).then(|| unsafe { (*frame).stack_pointer() as usize });
        end.is_some_and(|end| (std::ptr::from_ref(&here) as usize..end).contains(&address))
    })
}

impl Thread {
    pub(crate) fn irql(&self) -> u8 {
        self.irql.get()
    }

    /// A handler may raise and lower, but not below this.
    pub(crate) fn floor(&self) -> u8 {
        self.floor.get()
    }

    pub(crate) fn context(&self) -> Context {
        self.context.get()
    }

    pub(crate) fn function(&self) -> Option<&'static str> {
        self.function.get()
    }

    /// Names the lab function that runs; returns the one before.
    pub(crate) fn set_function(&self, function: Option<&'static str>) -> Option<&'static str> {
        self.function.replace(function)
    }

    /// Whether driver code is below this frame.
    pub(crate) fn machine(&self) -> Option<NonNull<Machine>> {
        self.machine.get()
    }

    pub(crate) fn frame(&self) -> *mut Frame {
        self.frame.get()
    }

    pub(crate) fn processor(&self) -> u32 {
        self.processor.get().unwrap_or_else(|| self.last.get())
    }

    /// The thread has taken a processor, at DISPATCH_LEVEL.
    pub(super) fn own(&self, processor: u32) {
        processor_block::prepare();
        self.irql.set(DISPATCH);
        self.processor.set(Some(processor));
        self.last.set(processor);
        processor_block::set_processor(processor);
    }

    /// The thread goes on where it was before it stood in for another processor.
    pub(super) fn back_to(&self, irql: u8, processor: u32) {
        self.irql.set(irql);
        self.last.set(processor);
        processor_block::set_processor(processor);
    }

    /// Puts the thread at an IRQL without a processor of its own: all others have stopped. The one before.
    pub(super) fn stand_at(&self, irql: u8) -> u8 {
        self.irql.replace(irql)
    }

    /// What the thread holds that is to be given back before a handler returns.
    fn debts(&self) -> Debts {
        Debts {
            held: self.held.borrow().len(),
            xstates: self.xstates.borrow().len(),
            critical: self.critical.get(),
            affinity: self.affinity.get(),
            attached: self.attached.borrow().len(),
            resources: self.resources.borrow().len(),
            mutexes: self.mutexes.borrow().len(),
        }
    }

    /// Forgets what was taken since.
    fn forget_since(&self, before: Debts) {
        self.held.borrow_mut().truncate(before.held);
        self.xstates.borrow_mut().truncate(before.xstates);
        self.critical.set(before.critical);
        self.affinity.set(before.affinity);
        self.attached.borrow_mut().truncate(before.attached);
        self.resources.borrow_mut().truncate(before.resources);
        self.mutexes.borrow_mut().truncate(before.mutexes);
    }
}

/// How much of everything a thread held when an entry began.
#[derive(Debug, Clone, Copy)]
struct Debts {
    held: usize,
    xstates: usize,
    critical: u32,
    affinity: u64,
    attached: usize,
    resources: usize,
    mutexes: usize,
}

impl Machine {
    /// The thread leaves a critical or guarded region.
    pub(crate) fn leave_critical(&self) {
        let count = with(|thread| thread.critical.get());
        if count == 0 {
            self.violate(rules::CRITICAL_REGION, "the thread is in no critical region");
        }
        with(|thread| thread.critical.set(count.saturating_sub(1)));
    }

    /// The calling thread's affinity changed: below DISPATCH_LEVEL it moves at once, else when it is lowered.
    #[allow(clippy::unused_self)] // a processor of this machine
    pub(crate) fn migrate(&self) {
        with(|thread| {
            let mask = thread.affinity.get();
            if mask != 0 && thread.processor.get().is_none() && mask >> thread.last.get() & 1 == 0 {
                thread.last.set(mask.trailing_zeros());
                processor_block::set_processor(mask.trailing_zeros());
            }
        });
    }

    /// Raises the calling thread; it owns a processor from DISPATCH_LEVEL on.
    pub(crate) fn raise(&self, irql: u8) -> u8 {
        with(|thread| {
            let old = thread.irql.get();
            if irql >= DISPATCH && thread.processor.get().is_none() {
                let processor = self.take_processor(thread.last.get(), thread.affinity.get());
                thread.processor.set(Some(processor));
                thread.last.set(processor);
                processor_block::set_processor(processor);
                if self.options.guard {
                    super::guard::page_out();
                }
            }
            thread.irql.set(irql);
            old
        })
    }

    /// Lowers the calling thread. Below DISPATCH_LEVEL the processor's DPCs run first, and then the
    /// processor is free for others.
    pub(crate) fn lower(&self, irql: u8) -> Result<(), Stopped> {
        let mut ended = Ok(());
        if irql < DISPATCH
            && let Some(processor) = with(|thread| thread.processor.get())
        {
            with(|thread| thread.irql.set(DISPATCH));
            ended = self.run_dpcs(processor);
            with(|thread| thread.processor.set(None));
            self.give_processor(processor);
            self.migrate();
        }
        with(|thread| thread.irql.set(irql));
        ended
    }

    /// Calls driver code.
    ///
    /// The thread is raised to the entry's IRQL, checked when it comes back (IRQL, locks), and put
    /// back to where it was; DPCs that wait on its processor run before it falls below DISPATCH.
    ///
    /// # Safety
    /// `target` is a function of the driver with the Windows x64 convention, `args` are valid for
    /// its prototype, and what they point to outlives the call.
    pub(crate) unsafe fn enter(
        &self,
        entry: Entry,
        target: usize,
        args: [u64; MAX_ARGUMENTS],
    ) -> Result<u64, Stopped> {
        if self.is_dead() {
            return Err(Stopped::new());
        }
        let this = NonNull::from(self);
        let context =
            Context { handler: Some(entry.handler.name), driver: entry.driver, adapter: entry.adapter };
        let mut frame = Frame::new();
        // Another machine's driver may lie further out on this thread: this one starts afresh.
        let (outer, debts) = with(|thread| {
            let same = thread.machine.get() == Some(this) || thread.machine.get().is_none();
            let outer = (
                thread.machine.replace(Some(this)),
                thread.frame.replace(&raw mut frame),
                thread.context.replace(context),
                thread.function.replace(None),
                thread.irql.get(),
                thread.processor.get(),
            );
            if !same {
                thread.irql.set(0);
                thread.processor.set(None);
            }
            (outer, thread.debts())
        });
        let outermost = outer.1.is_null();
        let before = irql();
        let during = before.max(entry.irql);
        if during != before {
            self.raise(during);
        }
        let outer_floor = with(|thread| thread.floor.replace(during));
        processor_block::prepare();
        self.check_resident(target, during);
        self.note(entry.handler.name, true, entry.adapter);
        // SAFETY: the caller vouches for `target` and `args`; `frame` is a local of ours, pinned by
        // not being touched until the call has ended, and used for this entry only.
        let returned = unsafe { switch::call(&raw mut frame, target, &raw const args) };
        // The frame is spent: whatever goes wrong from here on is not the driver's doing.
        with(|thread| {
            thread.frame.set(std::ptr::null_mut());
            thread.floor.set(outer_floor);
        });
        Self::settle_panic();
        let mut result = if returned.stopped == 0 { Ok(returned.value) } else { Err(Stopped::new()) };
        if result.is_ok() {
            self.check_return(during, debts);
        }
        #[cfg(target_os = "linux")]
        if self.settle_wild("the check of what the handler left behind").is_err() {
            result = Err(Stopped::new());
        }
        with(|thread| {
            thread.forget_since(debts);
            if result.is_err() {
                // The driver's frames are gone, and with them what it had raised.
                thread.irql.set(during);
            }
        });
        if self.lower(before).is_err() && result.is_ok() {
            result = Err(Stopped::new());
        }
        with(|thread| {
            let (machine, frame, context, function, irql, processor) = outer;
            thread.machine.set(machine);
            thread.frame.set(frame);
            thread.context.set(context);
            thread.function.set(function);
            thread.irql.set(irql);
            thread.processor.set(processor);
        });
        if result.is_err() && outermost && !with(|thread| thread.crash.is_calling()) {
            self.settle_crash();
        }
        result
    }

    fn check_return(&self, irql: u8, before: Debts) {
        let (now, locks, after) = with(|thread| {
            let locks = thread.held.borrow().get(before.held..).map(<[Held]>::to_vec).unwrap_or_default();
            (thread.irql(), locks, thread.debts())
        });
        for lock in locks {
            self.violate_past(
                None,
                rules::LOCK_HELD_ON_RETURN,
                format!("{} {:#x} is still held", lock.kind, lock.address),
                &[("acquired", lock.origin)],
            );
            self.locks.force_release(lock.address, lock.kind);
        }
        if now != irql {
            let (from, to) = (rules::irql_name(irql), rules::irql_name(now));
            self.violate(rules::IRQL_CHANGED, format!("called at {from}, returned at {to}"));
            self.raise(irql);
        }
        if after.xstates > before.xstates {
            self.violate(
                rules::XSTATE_USE,
                format!("{} saved extended states were not restored", after.xstates - before.xstates),
            );
        }
        if after.critical != before.critical {
            self.violate(
                rules::CRITICAL_REGION,
                format!("entered {} times before, {} times now", before.critical, after.critical),
            );
        }
        if after.affinity != before.affinity {
            self.violate(
                rules::AFFINITY,
                format!("processors {:#x} before, {:#x} now", before.affinity, after.affinity),
            );
        }
        if after.attached > before.attached {
            self.violate(rules::ATTACH_PROCESS, "the thread is still attached to another process");
        }
        if after.mutexes > before.mutexes {
            let held = with(|thread| thread.mutexes.borrow()[before.mutexes..].to_vec());
            for (address, kind) in held {
                self.violate(rules::MUTEX_HELD_ON_RETURN, format!("{kind} {address:#x} is still held"));
                self.open_mutex(address, kind);
            }
        }
        if after.resources > before.resources {
            self.violate(
                rules::RESOURCE_HELD_ON_RETURN,
                format!("{} acquisitions were not released", after.resources - before.resources),
            );
        }
    }
}
