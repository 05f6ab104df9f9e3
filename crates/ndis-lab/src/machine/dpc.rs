//! Processors and their DPC queues.
//!
//! A thread at DISPATCH_LEVEL owns a processor, and nobody else does: that is what per-processor
//! data of a driver relies on. A DPC runs on the processor that queued it, or on the one that it was
//! targeted at, when that processor is about to fall below DISPATCH_LEVEL. A processor that nobody owns is
//! interrupted for it: by a thread of its own, or on a deterministic machine when the seed says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use ndis_sys::KDPC;
use parking_lot::{Condvar, Mutex};

use super::thread::{Context, handler};
use super::{AddressMap, DISPATCH, Entry, Machine, Origin, Stopped, thread};
use crate::rules;

/// `KOBJECTS::DpcObject`, the type that KeInitializeDpc writes.
const DPC_OBJECT: u8 = 0x13;

/// What KeSetTargetProcessorDpc adds to a processor's number, so that 0 is no target.
const TARGETED: u16 = 0x500;
/// `HighImportance` of `KDPC_IMPORTANCE`.
const HIGH_IMPORTANCE: u8 = 2;

#[derive(Default)]
pub(crate) struct Processor {
    busy: AtomicBool,
    queue: Mutex<VecDeque<usize>>,
    /// Its thread was asked to look at the queue.
    interrupt: Mutex<Interrupt>,
    interrupted: Condvar,
}

#[derive(Default)]
struct Interrupt {
    pending: bool,
    thread: bool,
    closed: bool,
}

/// DPCs that were queued and have not returned yet.
#[derive(Default)]
pub(crate) struct Pending {
    /// By address of the KDPC: what it will run for.
    queued: Mutex<AddressMap<(Context, Origin)>>,
    running: Mutex<Vec<(usize, Context)>>,
    idle: Condvar,
}

impl Pending {
    /// DPCs that wait, and what queued them.
    pub(crate) fn waiting(&self) -> Vec<(usize, Origin)> {
        self.queued.lock().iter().map(|(address, (_, origin))| (*address, *origin)).collect()
    }

    /// Whether a DPC of this adapter waits or runs.
    pub(crate) fn any_of(&self, adapter: crate::adapter::AdapterId) -> bool {
        self.queued.lock().values().any(|(context, _)| context.adapter == Some(adapter))
            || self.running.lock().iter().any(|(_, context)| context.adapter == Some(adapter))
    }

    /// Whether a waiting DPC lies in these bytes.
    pub(crate) fn within(&self, range: std::ops::Range<usize>) -> Option<usize> {
        self.queued.lock().keys().copied().find(|address| range.contains(address))
    }
}

impl Machine {
    /// Takes a free processor of those that the thread may run on (0: all), the preferred one if it is free.
    pub(super) fn take_processor(&self, preferred: u32, allowed: u64) -> u32 {
        let count = self.processors.len();
        // On one thread any processor will do: the seed takes one.
        let start =
            self.schedule.as_ref().map_or(preferred as usize % count, |schedule| schedule.choose(count));
        for round in 0_u32.. {
            for index in (start..count).chain(0..start) {
                if allowed != 0 && allowed >> index & 1 == 0 {
                    continue;
                }
                let busy = &self.processors[index].busy;
                // Relaxed look, then Acquire: per-processor data that the last owner wrote is ours.
                if !busy.load(Ordering::Relaxed) && !busy.swap(true, Ordering::Acquire) {
                    return u32::try_from(index).unwrap_or(0);
                }
            }
            // More threads than processors: as on a real machine, some wait.
            if round < 64 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        unreachable!("the loop above ends with a processor only")
    }

    pub(super) fn give_processor(&self, processor: u32) {
        if let Some(processor) = self.processors.get(processor as usize) {
            // Release: pairs with the Acquire of the next owner.
            processor.busy.store(false, Ordering::Release);
        }
    }

    /// Runs what waits on a processor that the calling thread owns.
    pub(super) fn run_dpcs(&self, processor: u32) -> Result<(), Stopped> {
        let Some(queue) = self.processors.get(processor as usize).map(|p| &p.queue) else { return Ok(()) };
        loop {
            let Some(address) = queue.lock().pop_front() else { return Ok(()) };
            if self.is_dead() {
                return Err(Stopped::new());
            }
            let dpc = address as *mut KDPC;
            let Some((context, _)) = self.dpcs.queued.lock().remove(&address) else { continue };
            self.dpcs.running.lock().push((address, context));
            // The routine may free or queue the DPC again, so everything is read before it runs.
            // SAFETY: KeInsertQueueDpc was given this initialised KDPC, and the driver has to keep
            // it until it ran; the pool refuses to free a block that holds a queued one.
            let (routine, args) = unsafe {
                queued_mark(dpc).store(std::ptr::null_mut(), Ordering::Release);
                let routine = (*dpc).DeferredRoutine.map_or(0, |f| f as usize);
                let args = [
                    address as u64,
                    (*dpc).DeferredContext as u64,
                    (*dpc).SystemArgument1 as u64,
                    (*dpc).SystemArgument2 as u64,
                    0,
                    0,
                    0,
                    0,
                ];
                (routine, args)
            };
            let entry = Entry {
                handler: handler::DPC,
                driver: context.driver,
                adapter: context.adapter,
                irql: DISPATCH,
            };
            // SAFETY: the routine was registered by KeInitializeDpc for exactly this call.
            let result = unsafe { self.enter(entry, routine, args) };
            let mut running = self.dpcs.running.lock();
            if let Some(at) = running.iter().position(|(a, _)| *a == address) {
                running.swap_remove(at);
            }
            drop(running);
            self.dpcs.idle.notify_all();
            self.notify();
            result?;
        }
    }

    /// `KeSetTargetProcessorDpc`.
    pub(crate) fn target_dpc(&self, dpc: *mut KDPC, processor: u32) -> bool {
        // SAFETY: the driver gives a KDPC that it owns.
        if unsafe { (*dpc).Type } != DPC_OBJECT {
            self.violate(rules::DPC_USE, format!("KDPC {dpc:p} was not initialised"));
            return false;
        }
        let Some(number) = u16::try_from(processor).ok().filter(|_| processor < self.options.processors)
        else {
            let count = self.options.processors;
            self.violate(rules::PARAMETER, format!("processor {processor}: the machine has {count}"));
            return false;
        };
        // SAFETY: as above; the target is read when the DPC is queued.
        unsafe { (*dpc).Number = TARGETED + number };
        true
    }

    /// Has a processor look at its queue.
    fn interrupt(&self, processor: u32) {
        if self.schedule.is_some() {
            // See `run_remote_dpc`.
            return;
        }
        let Some(target) = self.processors.get(processor as usize) else { return };
        let mut state = target.interrupt.lock();
        state.pending = true;
        let start = !std::mem::replace(&mut state.thread, true);
        drop(state);
        if start {
            let machine = self.weak();
            std::thread::spawn(move || processor_thread(&machine, processor));
        } else {
            target.interrupted.notify_one();
        }
    }

    /// Takes one particular processor, or learns that whoever has it runs the queue.
    fn serve(&self, processor: u32) {
        let target = &self.processors[processor as usize];
        // Acquire, as in `take_processor`.
        while !target.queue.lock().is_empty() && !self.is_dead() {
            if target.busy.swap(true, Ordering::Acquire) {
                std::thread::sleep(Duration::from_micros(20));
                continue;
            }
            self.run_on(processor);
        }
    }

    /// Runs the queue of a processor that the caller has just taken, and frees it.
    fn run_on(&self, processor: u32) {
        thread::with(|thread| thread.own(processor));
        // A machine that stopped has nothing more to run.
        let _ = self.lower(super::PASSIVE);
        self.notify();
    }

    /// On a deterministic machine: the processors, none of them owned, whose queues are not empty.
    pub(super) fn waiting_processors(&self) -> Vec<u32> {
        let waits = |processor: &Processor| {
            // Relaxed: one thread.
            !processor.busy.load(Ordering::Relaxed) && !processor.queue.lock().is_empty()
        };
        (0..self.options.processors).filter(|index| waits(&self.processors[*index as usize])).collect()
    }

    /// On a deterministic machine, below DISPATCH_LEVEL: runs the queue of a processor that nobody owns.
    pub(super) fn run_remote_dpcs(&self, processor: u32) {
        let (irql, outer) = thread::with(|thread| (thread.irql(), thread.processor()));
        // Relaxed: one thread.
        self.processors[processor as usize].busy.store(true, Ordering::Relaxed);
        self.run_on(processor);
        thread::with(|thread| thread.back_to(irql, outer));
    }

    /// Ends the processors' threads; called when the machine goes.
    pub(super) fn close_processors(&self) {
        for processor in &self.processors {
            processor.interrupt.lock().closed = true;
            processor.interrupted.notify_all();
        }
    }

    pub(crate) fn initialize_dpc(
        &self,
        dpc: *mut KDPC,
        routine: ndis_sys::PKDEFERRED_ROUTINE,
        context: ndis_sys::PVOID,
    ) {
        if self.dpcs.queued.lock().contains_key(&(dpc as usize)) {
            self.violate(rules::DPC_USE, format!("KDPC {dpc:p} is initialised while it is queued"));
            return;
        }
        // SAFETY: the driver gives a KDPC that it owns; it is not queued, so nobody else reads it.
        unsafe {
            dpc.write(KDPC {
                Type: DPC_OBJECT,
                Importance: 1,
                Number: 0,
                DpcListEntry: ndis_sys::SINGLE_LIST_ENTRY { Next: std::ptr::null_mut() },
                ProcessorHistory: 0,
                DeferredRoutine: routine,
                DeferredContext: context,
                SystemArgument1: std::ptr::null_mut(),
                SystemArgument2: std::ptr::null_mut(),
                DpcData: std::ptr::null_mut(),
            });
        }
    }

    /// Queues a DPC on its target or the calling thread's processor; `false` if it was queued already.
    pub(crate) fn queue_dpc(&self, dpc: *mut KDPC, arguments: [ndis_sys::PVOID; 2]) -> Result<bool, Stopped> {
        let context = thread::with(super::Thread::context);
        self.queue_dpc_for(dpc, arguments, context, Origin::here())
    }

    /// As [`Machine::queue_dpc`], on behalf of what a timer was set for.
    pub(crate) fn queue_dpc_for(
        &self,
        dpc: *mut KDPC,
        arguments: [ndis_sys::PVOID; 2],
        context: Context,
        origin: Origin,
    ) -> Result<bool, Stopped> {
        // SAFETY: the driver gives a KDPC that it owns; its type never changes while it is one.
        let (kind, routine, importance, number) =
            unsafe { ((*dpc).Type, (*dpc).DeferredRoutine, (*dpc).Importance, (*dpc).Number) };
        if kind != DPC_OBJECT || routine.is_none() {
            self.violate(rules::DPC_USE, format!("KDPC {dpc:p} was not initialised"));
            return Ok(false);
        }
        let old = self.raise(thread::irql().max(DISPATCH));
        let mut queued = self.dpcs.queued.lock();
        let fresh = !queued.contains_key(&(dpc as usize));
        let here = thread::with(super::Thread::processor);
        let target = number.checked_sub(TARGETED).map_or(here, u32::from);
        if fresh {
            queued.insert(dpc as usize, (context, origin));
            // SAFETY: the DPC is not queued and the table is locked, so nobody else uses its fields.
            unsafe {
                (*dpc).SystemArgument1 = arguments[0];
                (*dpc).SystemArgument2 = arguments[1];
                queued_mark(dpc).store(dpc.cast(), Ordering::Release);
            }
            let mut queue = self.processors[target as usize].queue.lock();
            if importance == HIGH_IMPORTANCE {
                queue.push_front(dpc as usize);
            } else {
                queue.push_back(dpc as usize);
            }
        }
        drop(queued);
        if fresh && target != here {
            self.interrupt(target);
        }
        self.lower(old)?;
        Ok(fresh)
    }

    /// Takes a DPC out of its queue; `false` if it was not queued.
    pub(crate) fn remove_dpc(&self, dpc: *mut KDPC) -> bool {
        let mut queued = self.dpcs.queued.lock();
        if queued.remove(&(dpc as usize)).is_none() {
            return false;
        }
        for processor in &self.processors {
            processor.queue.lock().retain(|address| *address != dpc as usize);
        }
        // SAFETY: it was queued, so it is a KDPC that the driver keeps; now nobody else uses it.
        queued_mark(dpc).store(std::ptr::null_mut(), Ordering::Release);
        true
    }

    /// Waits until no DPC waits or runs on any processor, and no timer function either.
    pub(crate) fn flush_dpcs(&self) -> Result<(), Stopped> {
        if self.schedule.is_some() {
            while let Some(processor) = self.waiting_processors().first() {
                self.run_remote_dpcs(*processor);
            }
            return if self.is_dead() { Err(Stopped::new()) } else { Ok(()) };
        }
        // A DPC waits only while some thread owns or is about to own its processor, so this ends without
        // our help.
        let mut running = self.dpcs.running.lock();
        loop {
            if self.is_dead() {
                return Err(Stopped::new());
            }
            if running.is_empty() && self.dpcs.queued.lock().is_empty() && !self.work.timer_runs() {
                return Ok(());
            }
            self.dpcs.idle.wait_for(&mut running, Duration::from_millis(1));
        }
    }
}

/// The thread that interrupts a processor which nobody owns.
fn processor_thread(machine: &std::sync::Weak<Machine>, processor: u32) {
    loop {
        let Some(machine) = machine.upgrade() else { return };
        let target = &machine.processors[processor as usize];
        let mut state = target.interrupt.lock();
        if state.closed || machine.is_dead() {
            return;
        }
        if !std::mem::take(&mut state.pending) {
            // Not for ever: the machine must be dropped by its last user, not kept by this thread.
            target.interrupted.wait_for(&mut state, Duration::from_millis(20));
            continue;
        }
        drop(state);
        machine.serve(processor);
        let _ = machine.deliver_returns();
    }
}

/// `DpcData`, which is not null while the DPC is queued; drivers may look at it from anywhere.
fn queued_mark(dpc: *mut KDPC) -> &'static AtomicPtr<std::ffi::c_void> {
    // SAFETY: the callers hold a KDPC that stays; the field is an aligned pointer that the lab
    // accesses atomically only. The reference does not leave the caller's statement.
    unsafe { AtomicPtr::from_ptr(&raw mut (*dpc).DpcData) }
}
