//! System threads of drivers, and processes as drivers hear of them.

use super::ob::{Gone, Kind};
use super::thread::handler;
use super::{Entry, Machine, Origin, PASSIVE, Stopped, processor_block, thread};
use crate::rules;

impl Machine {
    /// `PsCreateSystemThread`: a handle of the new thread, in the kernel's table or in a process's.
    pub(crate) fn create_thread(
        &self,
        routine: usize,
        context: usize,
        table: Option<usize>,
        access: u32,
    ) -> Option<usize> {
        // A deterministic machine has one thread.
        if self.schedule.is_some() {
            return None;
        }
        let object = self.ob.create(Kind::Thread, None)?;
        // One reference for the handle, one for the thread itself.
        self.ob.hold(object);
        let Some(handle) = self.ob.open(table, object, access) else {
            let _ = self.ob.release(object);
            let _ = self.ob.release(object);
            return None;
        };
        let driver = thread::with(|thread| thread.context().driver);
        let core = self.objects.lock().drivers.values().find(|core| core.id == driver).cloned();
        let machine = self.arc();
        self.threads.lock().push((object, Origin::here()));
        let run = move || {
            // The image stays while a thread of it runs.
            let _core = core;
            processor_block::set_thread(object);
            let entry = Entry { handler: handler::SYSTEM_THREAD, driver, adapter: None, irql: PASSIVE };
            let args = [context as u64, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: PsCreateSystemThread was given this routine for exactly this call.
            let _ = unsafe { machine.enter(entry, routine, args) };
            let _ = machine.deliver_returns();
            machine.threads.lock().retain(|(running, _)| *running != object);
            machine.set_signal(object, 1);
            let gone = machine.ob.release(object);
            debug_assert!(matches!(gone, Gone::Nothing), "a thread is no file");
            machine.notify();
        };
        if std::thread::Builder::new().name("system thread".into()).spawn(run).is_ok() {
            return Some(handle);
        }
        self.threads.lock().retain(|(running, _)| *running != object);
        let _ = self.ob.close(table.unwrap_or(super::ob::SYSTEM), handle);
        let _ = self.ob.release(object);
        None
    }

    /// `PsTerminateSystemThread`: the thread leaves its routine.
    pub(crate) fn end_thread(&self) -> Stopped {
        if self.ob.kind(processor_block::current_thread()) != Some(Kind::Thread) {
            self.violate(
                rules::PARAMETER,
                "PsTerminateSystemThread in a thread that the driver did not create",
            );
            return self.stop(0x7c, [0; 4], "the end of a thread that is not the driver's");
        }
        let (held, resources) =
            thread::with(|thread| (thread.held.borrow().len(), thread.resources.borrow().len()));
        if held > 0 {
            self.violate(rules::LOCK_HELD_ON_RETURN, "a thread ends with a spin lock held");
        }
        if resources > 0 {
            self.violate(rules::RESOURCE_HELD_ON_RETURN, "a thread ends with an ERESOURCE held");
        }
        Stopped::new()
    }

    /// Threads of a driver that have not ended: who created them.
    pub(crate) fn threads_of(&self, driver: u32) -> Vec<Origin> {
        let threads = self.threads.lock();
        threads.iter().map(|(_, origin)| *origin).filter(|origin| origin.driver == driver).collect()
    }

    /// Calls every process notification routine, in a critical region as the kernel does.
    pub(crate) fn notify_process(&self, process: usize, create: bool) -> Result<(), Stopped> {
        let routines = self.ob.notify.lock().clone();
        for (routine, origin) in routines {
            let entry = Entry {
                handler: handler::PROCESS_NOTIFY,
                driver: origin.driver,
                adapter: None,
                irql: PASSIVE,
            };
            let args = [super::ob::SYSTEM as u64, process as u64, u64::from(create), 0, 0, 0, 0, 0];
            thread::with(|thread| thread.critical.set(thread.critical.get() + 1));
            // SAFETY: PsSetCreateProcessNotifyRoutine was given this routine for exactly this call.
            let result = unsafe { self.enter(entry, routine, args) };
            thread::with(|thread| thread.critical.set(thread.critical.get().saturating_sub(1)));
            result?;
        }
        Ok(())
    }
}
