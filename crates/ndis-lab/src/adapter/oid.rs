//! OID requests, regular and direct: delivery, completion, cancellation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ndis_sys::{
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_OID_REQUEST, NDIS_OID, NDIS_OID_REQUEST, NDIS_OID_REQUEST_DATA,
    NDIS_OID_REQUEST_METHOD, NDIS_OID_REQUEST_QUERY, NDIS_OID_REQUEST_REVISION_1, NDIS_OID_REQUEST_SET,
    NDIS_SIZEOF_OID_REQUEST_REVISION_1, NDIS_STATUS_PENDING, PVOID,
};
use parking_lot::{Condvar, Mutex};

use super::lifecycle::CastStatus;
use super::{Adapter, AdapterCore, State};
use crate::error::LabError;
use crate::machine::thread::{self, handler};
use crate::machine::{AddressMap, DISPATCH, HandleKind, Machine, Origin, PASSIVE};
use crate::packet::Memory;
use crate::rules;

mod answers;
mod judge;
mod keywords;
mod names;
mod request;

pub(crate) use request::Keep;
pub use request::{Oid, OidKind, OidOutcome};

/// Bytes of guard on each side of an information buffer.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xa7;
/// How many ended requests are kept, so that a late touch or completion is recognised.
const KEPT: usize = 64;
/// How a query's buffer looks before the driver writes it.
const UNWRITTEN: u8 = 0xcd;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    InHandler,
    Early(i32),
    Pending,
    Done(i32),
}

/// A request that the driver has.
struct Record {
    direct: bool,
    phase: Phase,
    /// The request and its buffer; closed from the completion until the sender looks.
    memory: [Option<Arc<Memory>>; 2],
}

#[derive(Default)]
pub(crate) struct Oids {
    records: Mutex<AddressMap<Record>>,
    /// Completed requests whose memory is still kept, so that a second completion is recognised.
    done: Mutex<VecDeque<[Option<Arc<Memory>>; 2]>>,
    /// The bytes of successful sets of the identifiers that are asked for again.
    set: Mutex<BTreeMap<NDIS_OID, Vec<u8>>>,
    /// Whether a regular request is with the driver: they come one at a time.
    busy: Mutex<bool>,
    free: Condvar,
}

impl Oids {
    pub(crate) fn outstanding(&self) -> usize {
        self.records.lock().values().filter(|r| matches!(r.phase, Phase::Pending | Phase::InHandler)).count()
    }

    pub(crate) fn pending_regular(&self) -> usize {
        self.records.lock().values().filter(|r| !r.direct && r.phase == Phase::Pending).count()
    }
}

/// A request on its way. Dropping it waits for nothing and keeps its memory until the driver is done.
pub struct PendingOid {
    adapter: Adapter,
    request: Oid,
    memory: Option<Arc<Memory>>,
    buffer: Option<Arc<Memory>>,
    before: Vec<u8>,
    address: usize,
    pended: bool,
    turn: bool,
    /// Who completed it, if that was a call.
    ended_by: Option<Origin>,
}

impl std::fmt::Debug for PendingOid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingOid")
            .field("request", &self.request)
            .field("pended", &self.pended)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// Sends a request and waits for its end. If the driver does not complete it within the lab's
    /// time limit and it has an identifier, it is cancelled, as NDIS does.
    ///
    /// # Errors
    /// [`LabError::State`] where NDIS sends no requests; [`LabError::Timeout`] if even the cancelled
    /// request does not end; [`LabError::BugCheck`].
    pub fn oid(&self, request: Oid) -> Result<OidOutcome, LabError> {
        let pending = self.oid_begin(request)?;
        let timeout = self.machine.options.timeout;
        if !pending.wait(timeout)? && pending.request.request_id != 0 {
            pending.cancel()?;
            pending.wait(timeout)?;
        }
        pending.finish()
    }

    /// Sends a query of 4 bytes.
    ///
    /// # Errors
    /// As [`Adapter::oid`].
    pub fn query_u32(&self, oid: NDIS_OID) -> Result<OidOutcome, LabError> {
        self.oid(Oid::query(oid, 4))
    }

    /// Sends a request; it may be pending when this returns.
    ///
    /// A regular request waits until the one before it has ended.
    ///
    /// # Errors
    /// [`LabError::State`], [`LabError::NoHandler`], [`LabError::Irql`], [`LabError::BugCheck`].
    pub fn oid_begin(&self, request: Oid) -> Result<PendingOid, LabError> {
        self.machine.alive()?;
        let characteristics = self.characteristics()?;
        let (target, name) = if request.direct {
            (characteristics.DirectOidRequestHandler.map(|f| f as usize), handler::DIRECT_OID_REQUEST)
        } else {
            self.check_passive("send an OID request")?;
            (characteristics.OidRequestHandler.map(|f| f as usize), handler::OID_REQUEST)
        };
        let target = target.ok_or(LabError::NoHandler(name.name))?;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("send OID requests to"));
        }
        let mut pending = PendingOid::build(self, request)?;
        if !pending.request.direct {
            pending.take_turn()?;
        }
        if pending.request.oid == ndis_sys::OID_TCP_OFFLOAD_PARAMETERS && pending.request.kind == OidKind::Set
        {
            self.core.write_offload_keywords(&pending.request.input);
        }
        if pending.sets_power() {
            // Release: sends that the driver refuses from now on see it.
            self.core.power_changes.fetch_add(1, Ordering::Release);
            if pending.request.input.first_chunk() == Some(&ndis_sys::NdisDeviceStateD0.to_le_bytes()) {
                // Told to wake up, the driver may indicate what arrives, before the request has ended.
                self.core.low_power.store(false, Ordering::Release);
            }
        }
        let memory = [pending.memory.clone(), pending.buffer.clone()];
        let record = Record { direct: pending.request.direct, phase: Phase::InHandler, memory };
        self.core.oids.records.lock().insert(pending.address, record);
        let irql = if pending.request.direct && pending.request.at_dispatch { DISPATCH } else { PASSIVE };
        let args = [self.core.context() as u64, pending.address as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments; the request's memory stays until it
        // has ended.
        let status = unsafe { self.call(self.core.entry(name, irql), target, args) }?.cast_status();
        pending.returned(status);
        Ok(pending)
    }
}

impl PendingOid {
    fn build(adapter: &Adapter, request: Oid) -> Result<Self, LabError> {
        let no_memory = LabError::Invalid("the host has no memory left");
        let machine = &adapter.machine;
        let memory =
            Memory::guarded(machine, size_of::<NDIS_OID_REQUEST>(), "NDIS_OID_REQUEST").ok_or(no_memory)?;
        let length = request.raw.as_ref().map_or(request.input.len().max(request.output), |raw| raw.length);
        let bytes = u32::try_from(length).map_err(|_| LabError::Invalid("the buffer is too long"))?;
        let (buffer, start) = if let Some(raw) = &request.raw {
            (None, raw.address)
        } else {
            let total = length + 2 * GUARD + 8;
            let buffer = Memory::guarded(machine, total, "buffer of an OID request")
                .ok_or(LabError::Invalid("the host has no memory left"))?;
            let start = buffer.address() + GUARD + request.misalign;
            // SAFETY: all of it lies within the buffer that was just made.
            unsafe {
                std::ptr::write_bytes(buffer.address() as *mut u8, GUARD_BYTE, total);
                std::ptr::write_bytes(start as *mut u8, UNWRITTEN, length);
                std::ptr::copy_nonoverlapping(request.input.as_ptr(), start as *mut u8, request.input.len());
            }
            (Some(buffer), start)
        };
        let pointer =
            if length == 0 && request.raw.is_none() { std::ptr::null_mut() } else { start as PVOID };
        // Neither is longer than the whole, whose length fits; a raw buffer is both.
        let part = |length: usize| {
            if request.raw.is_some() { bytes } else { u32::try_from(length).unwrap_or(bytes) }
        };
        let data = match request.kind {
            OidKind::Query | OidKind::QueryStatistics => NDIS_OID_REQUEST_DATA {
                QUERY_INFORMATION: NDIS_OID_REQUEST_QUERY {
                    Oid: request.oid,
                    InformationBuffer: pointer,
                    InformationBufferLength: bytes,
                    BytesWritten: 0,
                    BytesNeeded: 0,
                },
            },
            OidKind::Set => NDIS_OID_REQUEST_DATA {
                SET_INFORMATION: NDIS_OID_REQUEST_SET {
                    Oid: request.oid,
                    InformationBuffer: pointer,
                    InformationBufferLength: bytes,
                    BytesRead: 0,
                    BytesNeeded: 0,
                },
            },
            OidKind::Method => NDIS_OID_REQUEST_DATA {
                METHOD_INFORMATION: NDIS_OID_REQUEST_METHOD {
                    Oid: request.oid,
                    InformationBuffer: pointer,
                    InputBufferLength: part(request.input.len()),
                    OutputBufferLength: part(request.output),
                    MethodId: request.method_id,
                    BytesWritten: 0,
                    BytesRead: 0,
                    BytesNeeded: 0,
                },
            },
        };
        let oid: *mut NDIS_OID_REQUEST = memory.at(0);
        // SAFETY: our zeroed memory holds one request.
        unsafe {
            (*oid).Header = NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_OID_REQUEST,
                Revision: NDIS_OID_REQUEST_REVISION_1,
                Size: NDIS_SIZEOF_OID_REQUEST_REVISION_1,
            };
            (*oid).RequestType = match request.kind {
                OidKind::Query => 0,
                OidKind::Set => 1,
                OidKind::QueryStatistics => 2,
                OidKind::Method => 12,
            };
            (*oid).Timeout = request.timeout;
            (*oid).RequestId = request.request_id as PVOID;
            (*oid).RequestHandle = adapter.machine.handle(HandleKind::OidRequest) as PVOID;
            (*oid).DATA = data;
        }
        // SAFETY: the request is initialised memory of ours.
        let before =
            unsafe { std::slice::from_raw_parts(oid.cast::<u8>(), size_of::<NDIS_OID_REQUEST>()) }.to_vec();
        Ok(Self {
            adapter: adapter.clone(),
            address: memory.address(),
            request,
            memory: Some(Arc::new(memory)),
            buffer: buffer.map(Arc::new),
            before,
            pended: false,
            turn: false,
            ended_by: None,
        })
    }

    fn sets_power(&self) -> bool {
        self.request.oid == ndis_sys::OID_PNP_SET_POWER && self.request.kind == OidKind::Set
    }

    fn take_turn(&mut self) -> Result<(), LabError> {
        let (oids, machine) = (&self.adapter.core.oids, &self.adapter.machine);
        let mut busy = oids.busy.lock();
        while *busy {
            if machine.is_dead() {
                return Err(machine.dead_error());
            }
            if machine.schedule.is_some() {
                drop(busy);
                let free = machine.wait_until(machine.options.timeout, || !*oids.busy.lock());
                busy = oids.busy.lock();
                if !free {
                    return Err(LabError::Timeout("the OID request before"));
                }
                continue;
            }
            oids.free.wait_for(&mut busy, Duration::from_millis(20));
        }
        *busy = true;
        self.turn = true;
        Ok(())
    }

    fn end_turn(&mut self) {
        if std::mem::take(&mut self.turn) {
            *self.adapter.core.oids.busy.lock() = false;
            self.adapter.core.oids.free.notify_one();
        }
    }

    fn violate(&self, rule: &'static rules::Rule, detail: impl std::fmt::Display) {
        let oid = names::oid_text(self.request.oid);
        let kind = self.request.kind;
        let handler = if self.request.direct { handler::DIRECT_OID_REQUEST } else { handler::OID_REQUEST };
        // Judged when it has ended: by its completion, or else by the return of the handler.
        let past = self.ended_by.map(|origin| ("completed", origin));
        let by = if past.is_some() { String::new() } else { format!("; {} returned it", handler.name) };
        let past: Vec<_> = past.into_iter().collect();
        let text = format!("{kind:?} of {oid}: {detail}{by}");
        self.adapter.machine.violate_past(Some(&self.adapter.core), rule, text, &past);
    }

    /// The handler returned.
    fn returned(&mut self, status: i32) {
        let mut records = self.adapter.core.oids.records.lock();
        let Some(record) = records.get_mut(&self.address) else { return };
        let early = matches!(record.phase, Phase::Early(_));
        self.pended = status == NDIS_STATUS_PENDING;
        record.phase = match (record.phase, self.pended) {
            (Phase::Early(status), true) => Phase::Done(status),
            (_, true) => Phase::Pending,
            (_, false) => Phase::Done(status),
        };
        drop(records);
        if early && !self.pended {
            self.violate(
                rules::OID_NOT_PENDING,
                format!("it was completed by call, and the handler returned {:#x}", status.cast_unsigned()),
            );
        }
    }

    fn violate_touched(&self, memory: &Memory, at: usize) {
        let (what, oid) = (memory.what(), names::oid_text(self.request.oid));
        let text = format!("{oid}: byte {at} of the {what} was written after its completion");
        let core = &self.adapter.core;
        self.adapter.machine.violate_past(Some(core), rules::OID_TOUCHED, text, &memory.past("completed"));
    }

    fn phase(&self) -> Phase {
        let records = self.adapter.core.oids.records.lock();
        records.get(&self.address).map_or(Phase::Done(0), |record| record.phase)
    }

    /// Whether the handler returned NDIS_STATUS_PENDING.
    pub fn pended(&self) -> bool {
        self.pended
    }

    /// Whether the request has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.phase(), Phase::Done(_))
    }

    /// Waits for the end; `false` after `timeout`.
    ///
    /// # Errors
    /// [`LabError::BugCheck`].
    pub fn wait(&self, timeout: Duration) -> Result<bool, LabError> {
        let done = self.is_done() || self.adapter.machine.wait_until(timeout, || self.is_done());
        if !done {
            self.adapter.machine.alive()?;
        }
        Ok(done)
    }

    /// Calls the cancel handler with the request's identifier.
    ///
    /// # Errors
    /// [`LabError::NoHandler`]; [`LabError::BugCheck`].
    pub fn cancel(&self) -> Result<(), LabError> {
        self.adapter.cancel_oid(self.request.request_id, self.request.direct)
    }

    /// What the request led to.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it has not ended; its memory is then kept for good.
    pub fn finish(mut self) -> Result<OidOutcome, LabError> {
        let Phase::Done(status) = self.phase() else {
            let name = if self.request.direct { "a direct OID request" } else { "an OID request" };
            self.violate(rules::OID_TIMEOUT, "it is neither completed nor ended by its cancellation");
            return Err(LabError::Timeout(name));
        };
        let kept = [self.memory.take(), self.buffer.clone()];
        self.ended_by = kept[0].as_ref().and_then(|request| request.past("").pop()).map(|(_, origin)| origin);
        for memory in kept.iter().flatten() {
            if let Some(at) = memory.open() {
                self.violate_touched(memory, at);
            }
        }
        let outcome = self.outcome(status);
        if outcome.is_success() && self.request.kind == OidKind::Set && !self.request.direct {
            self.adapter.core.remember_set(self.request.oid, &self.request.input);
        }
        if self.sets_power() {
            // Release: who sees it also sees the power state.
            self.adapter.core.power_changes.fetch_add(1, Ordering::Release);
        }
        self.end_turn();
        self.adapter.core.oids.records.lock().remove(&self.address);
        // From here on the driver has no business with them.
        kept.iter().flatten().for_each(|memory| memory.poison(rules::OID_TOUCHED));
        let mut done = self.adapter.core.oids.done.lock();
        done.push_back(kept);
        let old = if done.len() > KEPT { done.pop_front() } else { None };
        drop(done);
        self.adapter.core.check_retired_oids(&self.adapter.machine, old);
        Ok(outcome)
    }
}

impl Drop for PendingOid {
    fn drop(&mut self) {
        if self.memory.is_none() {
            return;
        }
        if self.is_done() {
            // Nobody looks at it; the next owner of its pages may.
            for memory in self.memory.iter().chain(&self.buffer) {
                if let Some(at) = memory.open() {
                    self.violate_touched(memory, at);
                }
            }
            self.end_turn();
            self.adapter.core.oids.records.lock().remove(&self.address);
            return;
        }
        // The driver still has it: its memory must stay, but others need not wait for it.
        self.end_turn();
        std::mem::forget(self.memory.take());
        std::mem::forget(self.buffer.take());
        std::mem::forget(self.request.raw.take().map(|raw| raw.keep));
    }
}

impl Adapter {
    /// Calls `MiniportCancelOidRequest` or `MiniportCancelDirectOidRequest`.
    ///
    /// # Errors
    /// [`LabError::NoHandler`]; [`LabError::BugCheck`].
    pub fn cancel_oid(&self, request_id: usize, direct: bool) -> Result<(), LabError> {
        self.machine.alive()?;
        let characteristics = self.characteristics()?;
        let (target, name) = if direct {
            (characteristics.CancelDirectOidRequestHandler.map(|f| f as usize), handler::CANCEL_DIRECT_OID)
        } else {
            (characteristics.CancelOidRequestHandler.map(|f| f as usize), handler::CANCEL_OID)
        };
        let target = target.ok_or(LabError::NoHandler(name.name))?;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("cancel OID requests of"));
        }
        let args = [self.core.context() as u64, request_id as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments.
        unsafe { self.call(self.core.entry(name, PASSIVE), target, args) }?;
        Ok(())
    }
}

impl AdapterCore {
    /// Looks whether requests were written after they had ended.
    fn check_retired_oids(&self, machine: &Machine, old: impl IntoIterator<Item = [Option<Arc<Memory>>; 2]>) {
        for memory in old.into_iter().flatten().flatten() {
            let Some(at) = memory.touched() else { continue };
            let (what, address) = (memory.what(), memory.address());
            let text = format!("byte {at} of the {what} at {address:#x} was written after its completion");
            machine.violate_past(Some(self), rules::OID_TOUCHED, text, &memory.past("completed"));
        }
    }

    /// As above, for all that are still kept.
    pub(crate) fn sweep_oids(&self, machine: &Machine) {
        let old = std::mem::take(&mut *self.oids.done.lock());
        self.check_retired_oids(machine, old);
    }
}

impl Machine {
    /// `NdisMOidRequestComplete` and `NdisMDirectOidRequestComplete`.
    pub(crate) fn complete_oid(
        &self,
        adapter: &AdapterCore,
        request: *mut NDIS_OID_REQUEST,
        status: i32,
        direct: bool,
    ) {
        let address = request as usize;
        if status == NDIS_STATUS_PENDING {
            self.violate_for(
                adapter,
                rules::OID_STATUS,
                format!("request {address:#x} is completed with NDIS_STATUS_PENDING"),
            );
            return;
        }
        let cancelling = thread::with(|thread| thread.context().handler)
            .is_some_and(|name| name == handler::CANCEL_OID.name || name == handler::CANCEL_DIRECT_OID.name);
        if cancelling && status != ndis_sys::NDIS_STATUS_REQUEST_ABORTED {
            let text = format!(
                "request {address:#x} is cancelled and ends with {:#010x}, not NDIS_STATUS_REQUEST_ABORTED",
                status.cast_unsigned()
            );
            self.violate_for(adapter, rules::OID_STATUS, text);
        }
        let mut records = adapter.oids.records.lock();
        let Some(record) = records.get_mut(&address) else {
            drop(records);
            let done = adapter.oids.done.lock();
            let requests = done.iter().filter_map(|[request, _]| request.as_ref());
            let past =
                requests.rev().find(|m| m.address() == address).map(|request| request.past("completed"));
            drop(done);
            let (rule, what) = if past.is_some() {
                (rules::OID_COMPLETED_TWICE, "was completed before")
            } else {
                (rules::OID_UNKNOWN, "is not with this adapter")
            };
            let text = format!("request {address:#x} {what}");
            self.violate_past(Some(adapter), rule, text, &past.unwrap_or_default());
            return;
        };
        let wrong = record.direct != direct;
        let again = matches!(record.phase, Phase::Done(_) | Phase::Early(_));
        if !again {
            record.phase =
                if record.phase == Phase::InHandler { Phase::Early(status) } else { Phase::Done(status) };
            record.memory.iter().flatten().for_each(|memory| memory.close(rules::OID_TOUCHED));
        }
        let past = record.memory[0].as_ref().map(|request| request.past("completed"));
        drop(records);
        if again {
            let text = format!("request {address:#x} was completed before");
            self.violate_past(Some(adapter), rules::OID_COMPLETED_TWICE, text, &past.unwrap_or_default());
        }
        if wrong {
            let is = if direct { "a regular" } else { "a direct" };
            self.violate_for(
                adapter,
                rules::OID_WRONG_COMPLETION,
                format!("request {address:#x} is {is} one"),
            );
        }
        self.notify();
    }
}
