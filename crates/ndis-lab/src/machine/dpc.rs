//! Processors and their DPC queues.
//!
//! A thread at DISPATCH_LEVEL owns a processor, and nobody else does: that is what per-processor
//! data of a driver relies on. A DPC runs on the processor that queued it, when that processor is
//! about to fall below DISPATCH_LEVEL.

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

#[derive(Default)]
pub(crate) struct Processor {
    busy: AtomicBool,
    queue: Mutex<VecDeque<usize>>,
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
    /// Takes a free processor, the preferred one if it is free.
    pub(super) fn take_processor(&self, preferred: u32) -> u32 {
        let count = self.processors.len();
        // On one thread any processor will do: the seed takes one.
        let start =
            self.schedule.as_ref().map_or(preferred as usize % count, |schedule| schedule.choose(count));
        for round in 0_u32.. {
            for index in (start..count).chain(0..start) {
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

    /// Queues a DPC on the calling thread's processor; `false` if it was queued already.
    pub(crate) fn queue_dpc(&self, dpc: *mut KDPC, arguments: [ndis_sys::PVOID; 2]) -> Result<bool, Stopped> {
        // SAFETY: the driver gives a KDPC that it owns; its type never changes while it is one.
        let (kind, routine) = unsafe { ((*dpc).Type, (*dpc).DeferredRoutine) };
        if kind != DPC_OBJECT || routine.is_none() {
            self.violate(rules::DPC_USE, format!("KDPC {dpc:p} was not initialised"));
            return Ok(false);
        }
        let old = self.raise(thread::irql().max(DISPATCH));
        let mut queued = self.dpcs.queued.lock();
        let fresh = !queued.contains_key(&(dpc as usize));
        if fresh {
            let context = thread::with(super::Thread::context);
            queued.insert(dpc as usize, (context, Origin::here()));
            // SAFETY: the DPC is not queued and the table is locked, so nobody else uses its fields.
            unsafe {
                (*dpc).SystemArgument1 = arguments[0];
                (*dpc).SystemArgument2 = arguments[1];
                queued_mark(dpc).store(dpc.cast(), Ordering::Release);
            }
            let processor = thread::with(super::Thread::processor);
            self.processors[processor as usize].queue.lock().push_back(dpc as usize);
        }
        drop(queued);
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
        // A DPC waits only while some thread owns its processor, so this ends without our help.
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

/// `DpcData`, which is not null while the DPC is queued; drivers may look at it from anywhere.
fn queued_mark(dpc: *mut KDPC) -> &'static AtomicPtr<std::ffi::c_void> {
    // SAFETY: the callers hold a KDPC that stays; the field is an aligned pointer that the lab
    // accesses atomically only. The reference does not leave the caller's statement.
    unsafe { AtomicPtr::from_ptr(&raw mut (*dpc).DpcData) }
}
