//! Initialise, restart, pause, halt and the other calls of an adapter's life (all at PASSIVE_LEVEL); see `reset` for resets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ndis_sys::{
    NDIS_MINIPORT_INIT_PARAMETERS, NDIS_MINIPORT_PAUSE_PARAMETERS, NDIS_MINIPORT_RESTART_PARAMETERS,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS,
    NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS, NET_DEVICE_PNP_EVENT, NET_LUID_LH,
};
use parking_lot::Mutex;

use super::attributes::Attributes;
use super::{Adapter, AdapterConfig, AdapterCore, Operation, State};
use crate::census::Census;
use crate::driver::Driver;
use crate::error::LabError;
use crate::machine::thread::handler;
use crate::machine::{HIGH, HandleKind, PASSIVE};
use crate::packet::Memory;
use crate::rules::{self, Rule};

/// Why an adapter is paused: `PauseReason` of NDIS_MINIPORT_PAUSE_PARAMETERS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PauseReason {
    /// `NDIS_PAUSE_NDIS_INTERNAL`.
    #[default]
    Internal,
    /// `NDIS_PAUSE_LOW_POWER`.
    LowPower,
    /// `NDIS_PAUSE_UNBIND_PROTOCOL`.
    Unbind,
    /// `NDIS_PAUSE_MINIPORT_DEVICE_REMOVE`.
    Remove,
}

/// Why an adapter is halted: NDIS_HALT_ACTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // the names of the header
pub enum HaltAction {
    DeviceDisabled,
    DeviceInstanceDeInitialized,
    DevicePoweredDown,
    DeviceSurpriseRemoved,
    DeviceFailed,
    DeviceInitializationFailed,
    #[default]
    DeviceStopped,
}

/// NDIS_SHUTDOWN_ACTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownAction {
    /// The system goes down; PASSIVE_LEVEL.
    PowerOff,
    /// The system crashed; HIGH_LEVEL.
    BugCheck,
}

/// An event for `MiniportDevicePnPEventNotify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PnpEvent {
    /// The device is gone already.
    SurpriseRemoved,
    /// The machine runs on battery (`false`) or mains (`true`).
    PowerProfileChanged(bool),
    /// Any other NDIS_DEVICE_PNP_EVENT, also an unknown one, with its buffer.
    Other(i32, Vec<u8>),
}

fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size }
}

impl Adapter {
    /// Runs `MiniportInitializeEx`.
    pub(crate) fn initialize(driver: &Driver, config: AdapterConfig) -> Result<Self, LabError> {
        let machine = driver.machine.clone();
        machine.alive()?;
        let initialize = driver
            .core
            .characteristics()
            .and_then(|c| c.InitializeHandlerEx)
            .ok_or(LabError::NotRegistered)? as usize;
        let handle = machine.handle(HandleKind::Adapter);
        let core = Arc::new(AdapterCore::new(handle, driver.core.clone(), config, machine.adapter_id()));
        machine.adapters.write().insert(handle, core.clone());
        let adapter = Self { machine, core };
        adapter.check_passive("initialise an adapter").inspect_err(|_| adapter.remove())?;
        let core = &adapter.core;
        core.set_state(State::Initializing);
        let parameters = NDIS_MINIPORT_INIT_PARAMETERS {
            Header: header(
                NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS,
                ndis_sys::NDIS_MINIPORT_INIT_PARAMETERS_REVISION_1,
                ndis_sys::NDIS_SIZEOF_MINIPORT_INIT_PARAMETER_REVISION_1,
            ),
            Flags: 0,
            AllocatedResources: std::ptr::null_mut(),
            IMDeviceInstanceContext: std::ptr::null_mut(),
            MiniportAddDeviceContext: std::ptr::null_mut(),
            IfIndex: core.id.0 + 1,
            // Interface type 6 in the upper 16 bits, the index below, as NET_LUID lays them out.
            NetLuid: NET_LUID_LH { Value: 6 << 48 | u64::from(core.id.0) << 24 },
            DefaultPortAuthStates: std::ptr::null_mut(),
            PciDeviceCustomProperties: std::ptr::null_mut(),
        };
        let parameters =
            adapter.lend("NDIS_MINIPORT_INIT_PARAMETERS", parameters).inspect_err(|_| adapter.remove())?;
        // Release: the handler, on this thread, and functions that it calls see it set.
        core.initializing.store(true, Ordering::Release);
        let args = [handle as u64, core.driver.driver_context() as u64, parameters.address() as u64, 0];
        // SAFETY: the registered handler with its three arguments, which outlive the call.
        let status = unsafe { adapter.call(core.entry(handler::INITIALIZE, PASSIVE), initialize, args) };
        core.initializing.store(false, Ordering::Release);
        adapter.take_lent(parameters);
        let status = status?.cast_status();
        let complete = core.attributes.lock().complete();
        if status == NDIS_STATUS_SUCCESS && complete.is_some() {
            core.set_state(State::Paused);
            return Ok(adapter);
        }
        if status == NDIS_STATUS_SUCCESS {
            adapter.violate(
                rules::ATTRIBUTE_MISSING,
                "MiniportInitializeEx succeeded without registration and general attributes",
            );
        } else if status > 0 && status != NDIS_STATUS_NOT_ACCEPTED {
            adapter.violate(rules::INITIALIZE_STATUS, format!("returned {:#010x}", status.cast_unsigned()));
        }
        core.set_state(State::Halted);
        adapter.check_left(rules::LEAK_INITIALIZE);
        adapter.remove();
        Err(LabError::Initialize(status.cast_unsigned()))
    }

    /// What a handler is given by pointer, in memory of its own: [`Adapter::take_lent`] ends the loan.
    pub(super) fn lend<T>(&self, what: &'static str, value: T) -> Result<Memory, LabError> {
        let memory = Memory::guarded(&self.machine, size_of::<T>(), what)
            .ok_or(LabError::Invalid("the host has no memory left"))?;
        // SAFETY: fresh memory, aligned to 16 bytes, that is as large as the value.
        unsafe { memory.at::<T>(0).write(value) };
        Ok(memory)
    }

    /// As [`Adapter::lend`], of bytes.
    fn lend_bytes(&self, bytes: &[u8]) -> Result<Memory, LabError> {
        let memory = Memory::guarded(&self.machine, bytes.len(), "buffer of an event")
            .ok_or(LabError::Invalid("the host has no memory left"))?;
        // SAFETY: fresh memory, as long as the bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.at(0), bytes.len()) };
        Ok(memory)
    }

    /// The handler has returned: nobody has any business with it.
    pub(super) fn take_lent(&self, memory: Memory) {
        memory.poison_by(rules::PARAMETERS_KEPT, None);
        self.machine.retire_given(rules::PARAMETERS_KEPT, [memory]);
    }

    pub(super) fn violate(&self, rule: &'static Rule, detail: impl Into<String>) {
        self.machine.violate_for(&self.core, rule, detail);
    }

    /// Forgets the adapter's handle.
    fn remove(&self) {
        self.machine.adapters.write().remove(&self.core.handle);
        self.machine.objects.lock().halted.insert(self.core.handle, self.core.id);
    }

    /// Reports what the adapter left behind.
    fn check_left(&self, rule: &'static Rule) {
        self.machine.sweep_pool();
        self.machine.sweep_packets();
        self.machine.sweep_lent();
        self.core.sweep_oids(&self.machine);
        self.core.sweep_sends(&self.machine);
        if self.machine.work.any_of(self.core.id) || self.machine.dpcs.any_of(self.core.id) {
            self.violate(rules::HALT_WAITS, "a DPC, timer or work item still waits or runs");
        }
        for (line, origin) in Census::take(&self.machine).of_adapter(self.core.id).entries() {
            self.machine.violate_past(Some(&self.core), rule, line, &[("allocated", origin)]);
        }
    }

    /// Its attributes, as deep copies.
    ///
    /// # Panics
    /// Never: an adapter that was initialised has attributes.
    pub fn attributes(&self) -> Attributes {
        self.core.attributes.lock().complete().expect("an initialised adapter has attributes")
    }

    /// Restarts the adapter: paused to running.
    ///
    /// # Errors
    /// [`LabError::Restart`] with the driver's status: the adapter stays paused.
    pub fn restart(&self) -> Result<(), LabError> {
        self.check_passive("restart an adapter")?;
        if self.state() != State::Paused {
            return Err(self.wrong_state("restart"));
        }
        let restart =
            self.characteristics()?.RestartHandler.ok_or(LabError::NoHandler("MiniportRestart"))? as usize;
        self.core.set_state(State::Restarting);
        self.core.close_sends(false);
        let parameters = NDIS_MINIPORT_RESTART_PARAMETERS {
            Header: header(
                NDIS_OBJECT_TYPE_DEFAULT,
                ndis_sys::NDIS_MINIPORT_RESTART_PARAMETERS_REVISION_1,
                ndis_sys::NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1,
            ),
            RestartAttributes: std::ptr::null_mut(),
            Flags: 0,
        };
        let core = &self.core;
        let parameters = self.lend("NDIS_MINIPORT_RESTART_PARAMETERS", parameters)?;
        let args = [core.context() as u64, parameters.address() as u64, 0, 0];
        let call = || {
            // SAFETY: the registered handler with its two arguments, which outlive the call.
            let status = unsafe { self.call(core.entry(handler::RESTART, PASSIVE), restart, args) };
            self.take_lent(parameters);
            status
        };
        let status = self.operate(&core.restart, call, "MiniportRestart", rules::RESTART_TIMEOUT)?;
        if status == NDIS_STATUS_SUCCESS {
            core.set_state(State::Running);
            return Ok(());
        }
        if status > 0 {
            self.violate(
                rules::STATE_STATUS,
                format!("MiniportRestart ended with {:#010x}", status.cast_unsigned()),
            );
        }
        core.set_state(State::Paused);
        core.close_sends(true);
        Err(LabError::Restart(status.cast_unsigned()))
    }

    /// Pauses the adapter: running to paused. Waits for a pended pause.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if the driver does not complete it, for example because receives are
    /// held; the adapter is pausing then, and [`Adapter::pause_wait`] waits on.
    pub fn pause(&self) -> Result<(), LabError> {
        self.pause_with(PauseReason::Internal)?;
        self.pause_wait(self.machine.options.timeout)
    }

    /// Calls `MiniportPause`. Says whether the pause is complete; else [`Adapter::pause_wait`] waits
    /// for it.
    ///
    /// # Errors
    /// [`LabError::State`] unless the adapter runs.
    pub fn pause_with(&self, reason: PauseReason) -> Result<bool, LabError> {
        self.check_passive("pause an adapter")?;
        if self.state() != State::Running {
            return Err(self.wrong_state("pause"));
        }
        let pause =
            self.characteristics()?.PauseHandler.ok_or(LabError::NoHandler("MiniportPause"))? as usize;
        self.core.set_state(State::Pausing);
        let parameters = NDIS_MINIPORT_PAUSE_PARAMETERS {
            Header: header(
                NDIS_OBJECT_TYPE_DEFAULT,
                ndis_sys::NDIS_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
                ndis_sys::NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
            ),
            Flags: 0,
            PauseReason: match reason {
                PauseReason::Internal => ndis_sys::NDIS_PAUSE_NDIS_INTERNAL,
                PauseReason::LowPower => ndis_sys::NDIS_PAUSE_LOW_POWER,
                PauseReason::Unbind => ndis_sys::NDIS_PAUSE_UNBIND_PROTOCOL,
                PauseReason::Remove => ndis_sys::NDIS_PAUSE_MINIPORT_DEVICE_REMOVE,
            },
        };
        let core = &self.core;
        let parameters = self.lend("NDIS_MINIPORT_PAUSE_PARAMETERS", parameters)?;
        *core.pause.lock() = Operation::InHandler;
        let args = [core.context() as u64, parameters.address() as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments, which outlive the call.
        let status = unsafe { self.call(core.entry(handler::PAUSE, PASSIVE), pause, args) };
        self.take_lent(parameters);
        let status = status?.cast_status();
        core.close_sends(true);
        if status != NDIS_STATUS_SUCCESS && status != NDIS_STATUS_PENDING {
            self.violate(
                rules::STATE_STATUS,
                format!("MiniportPause returned {:#010x}: it cannot fail", status.cast_unsigned()),
            );
        }
        let done = self.handler_returned(&core.pause, status, "MiniportPause").is_some();
        if done {
            self.paused();
        }
        Ok(done)
    }

    /// Waits for a pause that the driver left pending.
    ///
    /// # Errors
    /// [`LabError::Timeout`]; [`LabError::BugCheck`].
    pub fn pause_wait(&self, timeout: Duration) -> Result<(), LabError> {
        if self.state() == State::Paused {
            return Ok(());
        }
        let done = || matches!(*self.core.pause.lock(), Operation::Done(_));
        if !self.machine.wait_until(timeout, done) {
            self.machine.alive()?;
            let (held, sends) = (self.core.receives.outstanding(), self.core.sends.outstanding());
            if held == 0 {
                self.violate(
                    rules::PAUSE_TIMEOUT,
                    format!(
                        "the pause does not complete; {sends} sends are outstanding{}{}",
                        if sends == 0 { "" } else { ": " },
                        self.core.sends.describe()
                    ),
                );
            }
            return Err(LabError::Timeout("MiniportPause"));
        }
        *self.core.pause.lock() = Operation::Idle;
        self.paused();
        Ok(())
    }

    fn paused(&self) {
        if self.state() == State::Pausing {
            self.core.check_paused(&self.machine);
            self.core.set_state(State::Paused);
        }
    }

    /// Runs a handler that may pend, and waits for its completion.
    fn operate(
        &self,
        operation: &Mutex<Operation>,
        call: impl FnOnce() -> Result<u64, LabError>,
        name: &'static str,
        rule: &'static Rule,
    ) -> Result<i32, LabError> {
        *operation.lock() = Operation::InHandler;
        let status = call()?.cast_status();
        if let Some(status) = self.handler_returned(operation, status, name) {
            return Ok(status);
        }
        let done = || matches!(*operation.lock(), Operation::Done(_));
        if !self.machine.wait_until(self.machine.options.timeout, done) {
            self.machine.alive()?;
            self.violate(rule, format!("{name} returned NDIS_STATUS_PENDING and nothing completes it"));
            *operation.lock() = Operation::Idle;
            return Err(LabError::Timeout(name));
        }
        match std::mem::take(&mut *operation.lock()) {
            Operation::Done(status) => Ok(status),
            _ => Err(LabError::Timeout(name)),
        }
    }

    /// A handler returned: its status if that is final, `None` if it is pending.
    fn handler_returned(&self, operation: &Mutex<Operation>, status: i32, name: &str) -> Option<i32> {
        let mut operation = operation.lock();
        match (*operation, status) {
            (Operation::Early(status), NDIS_STATUS_PENDING) => {
                *operation = Operation::Idle;
                Some(status)
            }
            (_, NDIS_STATUS_PENDING) => {
                *operation = Operation::Pending;
                None
            }
            (Operation::Early(_), status) => {
                *operation = Operation::Idle;
                drop(operation);
                self.violate(
                    rules::STATE_COMPLETION,
                    format!("{name} was completed, and returned {:#x} too", status.cast_unsigned()),
                );
                Some(status)
            }
            (_, status) => {
                *operation = Operation::Idle;
                Some(status)
            }
        }
    }

    /// Halts a paused adapter.
    ///
    /// # Errors
    /// [`LabError::State`] unless the adapter is paused; [`LabError::BugCheck`].
    pub fn halt(&self, action: HaltAction) -> Result<(), LabError> {
        self.check_passive("halt an adapter")?;
        if self.state() != State::Paused {
            return Err(self.wrong_state("halt"));
        }
        self.core.check_paused(&self.machine);
        let halt =
            self.characteristics()?.HaltHandlerEx.ok_or(LabError::NoHandler("MiniportHaltEx"))? as usize;
        let args = [self.core.context() as u64, action as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments.
        unsafe { self.call(self.core.entry(handler::HALT, PASSIVE), halt, args) }?;
        self.core.set_state(State::Halted);
        self.core.receives.drop_sink();
        self.remove();
        self.check_left(rules::LEAK_HALT);
        Ok(())
    }

    /// Calls `MiniportShutdownEx`: at PASSIVE_LEVEL, or at HIGH_LEVEL for a bugcheck.
    ///
    /// # Errors
    /// [`LabError::State`] for a halted adapter; [`LabError::BugCheck`].
    pub fn shutdown(&self, action: ShutdownAction) -> Result<(), LabError> {
        self.machine.alive()?;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("shut down"));
        }
        let shutdown =
            self.characteristics()?.ShutdownHandlerEx.ok_or(LabError::NoHandler("MiniportShutdownEx"))?
                as usize;
        let irql = if action == ShutdownAction::BugCheck { HIGH } else { PASSIVE };
        let args = [self.core.context() as u64, action as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments.
        unsafe { self.call(self.core.entry(handler::SHUTDOWN, irql), shutdown, args) }?;
        Ok(())
    }

    /// Calls `MiniportDevicePnPEventNotify`.
    ///
    /// # Errors
    /// [`LabError::State`] for a halted or pausing adapter; [`LabError::BugCheck`].
    pub fn pnp_event(&self, event: &PnpEvent) -> Result<(), LabError> {
        self.check_passive("notify an adapter")?;
        if matches!(self.state(), State::Halted | State::Initializing | State::Pausing) {
            return Err(self.wrong_state("notify"));
        }
        let notify = self
            .characteristics()?
            .DevicePnPEventNotifyHandler
            .ok_or(LabError::NoHandler("MiniportDevicePnPEventNotify"))? as usize;
        let (code, buffer) = match event {
            PnpEvent::SurpriseRemoved => {
                // Release: sends on other threads see it once the driver may have.
                self.core.removed.store(true, Ordering::Release);
                (ndis_sys::NdisDevicePnPEventSurpriseRemoved, Vec::new())
            }
            PnpEvent::PowerProfileChanged(mains) => {
                (ndis_sys::NdisDevicePnPEventPowerProfileChanged, u32::from(*mains).to_le_bytes().to_vec())
            }
            PnpEvent::Other(code, buffer) => (*code, buffer.clone()),
        };
        let information = if buffer.is_empty() { None } else { Some(self.lend_bytes(&buffer)?) };
        let event = NET_DEVICE_PNP_EVENT {
            Header: header(
                NDIS_OBJECT_TYPE_DEFAULT,
                1,
                ndis_sys::NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1,
            ),
            PortNumber: 0,
            DevicePnPEvent: code,
            InformationBuffer: information.as_ref().map_or(std::ptr::null_mut(), |memory| memory.at(0)),
            InformationBufferLength: u32::try_from(buffer.len()).unwrap_or(0),
            NdisReserved: [0; 16],
        };
        let event = self.lend("NET_DEVICE_PNP_EVENT", event)?;
        let args = [self.core.context() as u64, event.address() as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments; event and buffer outlive the call.
        let result = unsafe { self.call(self.core.entry(handler::PNP_EVENT, PASSIVE), notify, args) };
        self.take_lent(event);
        if let Some(memory) = information {
            self.take_lent(memory);
        }
        result.map(|_| ())
    }
}

impl AdapterCore {
    /// What must have come back before a pause completes.
    pub(crate) fn check_paused(&self, machine: &crate::machine::Machine) {
        let (receives, sends) = (self.receives.with_others(), self.sends.queued());
        if receives > 0 {
            machine.violate_for(
                self,
                rules::PAUSE_RECEIVES,
                format!("{receives} receives were indicated and are still with NDIS"),
            );
        }
        if sends > 0 {
            let which = self.sends.describe();
            let text = format!("{sends} sends were not completed: {which}");
            machine.violate_for(self, rules::PAUSE_SENDS, text);
        }
    }
}

/// The status in a returned register.
pub(crate) trait CastStatus {
    /// The low 32 bits, which is where a 32-bit function returns.
    fn cast_status(self) -> i32;
}

impl CastStatus for u64 {
    fn cast_status(self) -> i32 {
        ((self & 0xffff_ffff) as u32).cast_signed()
    }
}
