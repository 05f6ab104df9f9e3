//! OID requests, regular and direct: delivery, completion, cancellation, and what NDIS answers itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ndis_sys::{
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_OID_REQUEST, NDIS_OID, NDIS_OID_REQUEST, NDIS_OID_REQUEST_DATA,
    NDIS_OID_REQUEST_METHOD, NDIS_OID_REQUEST_QUERY, NDIS_OID_REQUEST_REVISION_1, NDIS_OID_REQUEST_SET,
    NDIS_SIZEOF_OID_REQUEST_REVISION_1, NDIS_STATUS_INDICATION_REQUIRED, NDIS_STATUS_PENDING,
    NDIS_STATUS_SUCCESS, PVOID,
};
use parking_lot::{Condvar, Mutex};

use super::lifecycle::CastStatus;
use super::{Adapter, AdapterCore, State};
use crate::error::LabError;
use crate::machine::thread::handler;
use crate::machine::{AddressMap, DISPATCH, HandleKind, Machine, PASSIVE};
use crate::packet::Memory;
use crate::rules;

/// Sets whose buffer the miniport writes into (`oid-tcp-task-ipsec-offload-v2-add-sa`, `-add-sa-ex`).
const RETURN_IN_PLACE: [NDIS_OID; 2] =
    [ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA, ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX];

/// Bytes of guard on each side of an information buffer.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xa7;
/// How many ended requests are kept, so that a late touch or completion is recognised.
const KEPT: usize = 64;
/// How a query's buffer looks before the driver writes it.
const UNWRITTEN: u8 = 0xcd;

/// What kind of request: NDIS_REQUEST_TYPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidKind {
    /// `NdisRequestQueryInformation`.
    Query,
    /// `NdisRequestSetInformation`.
    Set,
    /// `NdisRequestQueryStatistics`.
    QueryStatistics,
    /// `NdisRequestMethod`.
    Method,
}

/// A request, as its sender describes it.
#[derive(Debug, Clone)]
pub struct Oid {
    /// The object identifier.
    pub oid: NDIS_OID,
    /// Query, set or method.
    pub kind: OidKind,
    /// What goes in: all of the buffer of a set, the input of a method.
    pub input: Vec<u8>,
    /// Bytes of room for the answer of a query or method.
    pub output: usize,
    /// Sent to `MiniportDirectOidRequest` instead of `MiniportOidRequest`.
    pub direct: bool,
    /// Direct requests only: called at DISPATCH_LEVEL.
    pub at_dispatch: bool,
    /// `MethodId`.
    pub method_id: u32,
    /// `RequestId`; 0 is what NDIS uses for its own.
    pub request_id: usize,
    /// `Timeout` in seconds; 0 is never.
    pub timeout: u32,
    /// How far the buffer starts behind an 8-byte boundary: 0 to 7.
    pub misalign: usize,
    /// A buffer that the sender built, in place of `input`: structures linked by pointers.
    raw: Option<RawBuffer>,
}

/// A buffer owned by the sender.
#[derive(Clone)]
struct RawBuffer {
    address: usize,
    length: usize,
    keep: Arc<dyn Keep>,
}

impl std::fmt::Debug for RawBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawBuffer")
            .field("address", &self.address)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Keeps the memory of a raw buffer alive while its request is pending.
pub(crate) trait Keep: Send + Sync {}

impl Oid {
    fn new(oid: NDIS_OID, kind: OidKind) -> Self {
        Self {
            oid,
            kind,
            input: Vec::new(),
            output: 0,
            direct: false,
            at_dispatch: false,
            method_id: 0,
            request_id: 0,
            timeout: 0,
            misalign: 0,
            raw: None,
        }
    }

    /// A query with `length` bytes of room.
    pub fn query(oid: NDIS_OID, length: usize) -> Self {
        Self { output: length, ..Self::new(oid, OidKind::Query) }
    }

    /// A set of these bytes.
    pub fn set(oid: NDIS_OID, bytes: impl Into<Vec<u8>>) -> Self {
        Self { input: bytes.into(), ..Self::new(oid, OidKind::Set) }
    }

    /// A set of a 32-bit value.
    pub fn set_u32(oid: NDIS_OID, value: u32) -> Self {
        Self::set(oid, value.to_le_bytes())
    }

    /// A method with these input bytes and `output` bytes of room.
    pub fn method(oid: NDIS_OID, input: impl Into<Vec<u8>>, output: usize) -> Self {
        Self { input: input.into(), output, ..Self::new(oid, OidKind::Method) }
    }

    /// A set whose buffer is `length` bytes at `address`, kept alive by `keep`.
    pub(crate) fn raw_set(oid: NDIS_OID, address: usize, length: usize, keep: Arc<dyn Keep>) -> Self {
        Self { raw: Some(RawBuffer { address, length, keep }), ..Self::new(oid, OidKind::Set) }
    }

    /// Sends it as a direct request.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Calls the direct handler at DISPATCH_LEVEL.
    #[must_use]
    pub fn at_dispatch(mut self) -> Self {
        self.at_dispatch = true;
        self
    }

    /// Makes it a method (NDIS sends some sets as methods).
    #[must_use]
    pub fn as_method(mut self) -> Self {
        self.kind = OidKind::Method;
        self
    }

    /// Names it, so that it can be cancelled.
    #[must_use]
    pub fn id(mut self, id: usize) -> Self {
        self.request_id = id;
        self
    }

    /// Moves the buffer off its 8-byte boundary.
    #[must_use]
    pub fn misaligned(mut self, bytes: usize) -> Self {
        self.misalign = bytes % 8;
        self
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidOutcome {
    /// Its status.
    pub status: i32,
    /// Whether the handler left it pending.
    pub pended: bool,
    /// `BytesWritten` (0 for a set).
    pub bytes_written: u32,
    /// `BytesRead` (0 for a query).
    pub bytes_read: u32,
    /// `BytesNeeded`.
    pub bytes_needed: u32,
    /// The buffer as the driver left it, whole; empty for a raw one, which its owner reads.
    pub buffer: Vec<u8>,
    /// `SupportedRevision`.
    pub supported_revision: u8,
}

impl OidOutcome {
    /// Whether it succeeded.
    pub fn is_success(&self) -> bool {
        self.status == NDIS_STATUS_SUCCESS || self.status == NDIS_STATUS_INDICATION_REQUIRED
    }

    /// The answer: the first `BytesWritten` bytes of the buffer.
    pub fn answer(&self) -> &[u8] {
        &self.buffer[..(self.bytes_written as usize).min(self.buffer.len())]
    }

    /// The answer as a 32-bit value.
    pub fn u32(&self) -> Option<u32> {
        self.answer().first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The answer as a 64-bit value.
    pub fn u64(&self) -> Option<u64> {
        self.answer().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    InHandler,
    Early(i32),
    Pending,
    Done(i32),
}

/// What NDIS remembers of successful sets, to answer queries itself.
const REMEMBERED: &[NDIS_OID] = &[
    ndis_sys::OID_GEN_CURRENT_PACKET_FILTER,
    ndis_sys::OID_GEN_CURRENT_LOOKAHEAD,
    ndis_sys::OID_802_3_MULTICAST_LIST,
    ndis_sys::OID_PM_PARAMETERS,
    ndis_sys::OID_OFFLOAD_ENCAPSULATION,
];

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
    /// The bytes of successful sets of the [`REMEMBERED`] identifiers.
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
        })
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
        let oid = self.request.oid;
        let kind = self.request.kind;
        self.adapter.machine.violate_for(
            &self.adapter.core,
            rule,
            format!("{kind:?} of OID {oid:#010x}: {detail}"),
        );
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
        kept.iter().flatten().for_each(|memory| memory.open());
        let outcome = self.outcome(status);
        if outcome.is_success() && self.request.kind == OidKind::Set && !self.request.direct {
            self.adapter.core.remember_set(self.request.oid, &self.request.input);
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

    /// Reads and checks what the driver left in request and buffer.
    fn outcome(&self, status: i32) -> OidOutcome {
        let oid = self.address as *const NDIS_OID_REQUEST;
        // SAFETY: the request is memory of ours, and the driver is done with it. The union's arms
        // hold plain numbers and a pointer, all initialised.
        let (written, read, needed, revision, now) = unsafe {
            let (written, read, needed) = match self.request.kind {
                OidKind::Query | OidKind::QueryStatistics => {
                    let data = (*oid).DATA.QUERY_INFORMATION;
                    (data.BytesWritten, 0, data.BytesNeeded)
                }
                OidKind::Set => {
                    let data = (*oid).DATA.SET_INFORMATION;
                    (0, data.BytesRead, data.BytesNeeded)
                }
                OidKind::Method => {
                    let data = (*oid).DATA.METHOD_INFORMATION;
                    (data.BytesWritten, data.BytesRead, data.BytesNeeded)
                }
            };
            let now = std::slice::from_raw_parts(oid.cast::<u8>(), size_of::<NDIS_OID_REQUEST>());
            (written, read, needed, (*oid).SupportedRevision, now)
        };
        // Header to RequestHandle, OID, buffer and lengths, reserved bytes of NDIS and of the sender.
        for (range, what) in [
            (0..52, "header, type, identifiers, buffer"),
            (72..200, "NdisReserved"),
            (216..232, "SourceReserved"),
        ] {
            if now[range.clone()] != self.before[range] {
                self.violate(rules::OID_REQUEST_CHANGED, format!("{what} changed"));
            }
        }
        let buffer = self.check_buffer(status, written, read, needed);
        OidOutcome {
            status,
            pended: self.pended,
            bytes_written: written,
            bytes_read: read,
            bytes_needed: needed,
            buffer,
            supported_revision: revision,
        }
    }

    fn check_buffer(&self, status: i32, written: u32, read: u32, needed: u32) -> Vec<u8> {
        let success = status == NDIS_STATUS_SUCCESS || status == NDIS_STATUS_INDICATION_REQUIRED;
        let Some(memory) = &self.buffer else { return Vec::new() };
        let (input, output) = (self.request.input.len(), self.request.output);
        let length = input.max(output);
        let start = GUARD + self.request.misalign;
        // SAFETY: the buffer is initialised memory of ours, and the driver is done with it.
        let whole =
            unsafe { std::slice::from_raw_parts(memory.address() as *const u8, length + 2 * GUARD + 8) };
        let outside = |at: &usize| *at < start || *at >= start + length;
        if let Some(at) = (0..whole.len()).filter(outside).find(|at| whole[*at] != GUARD_BYTE) {
            let offset = at.cast_signed() - start.cast_signed();
            self.violate(
                rules::OID_OVERRUN,
                format!("byte {offset} of a buffer of {length} bytes was written"),
            );
        }
        let buffer = &whole[start..start + length];
        let untouched = |from: usize| {
            let was = |at: usize| self.request.input.get(at).copied().unwrap_or(UNWRITTEN);
            (from..length).find(|at| buffer[*at] != was(*at))
        };
        match self.request.kind {
            OidKind::Query | OidKind::QueryStatistics => {
                if written as usize > length {
                    self.violate(rules::OID_BYTES, format!("BytesWritten {written} of {length}"));
                } else if !success && written != 0 {
                    self.violate(
                        rules::OID_BYTES,
                        format!("BytesWritten {written} with status {:#x}", status.cast_unsigned()),
                    );
                }
                if success && let Some(at) = untouched((written as usize).min(length)) {
                    self.violate(
                        rules::OID_OVERRUN,
                        format!("byte {at} was written, BytesWritten is {written}"),
                    );
                }
                if !success && let Some(at) = untouched(0) {
                    self.violate(
                        rules::OID_FAILED_WRITE,
                        format!("byte {at} was written, the status is {:#x}", status.cast_unsigned()),
                    );
                }
            }
            OidKind::Set => {
                if read as usize > length {
                    self.violate(rules::OID_BYTES, format!("BytesRead {read} of {length}"));
                }
                // ADD_SA and ADD_SA_EX return the handle in place, on whichever path they come.
                let returns_in_place = self.request.direct || RETURN_IN_PLACE.contains(&self.request.oid);
                if let Some(at) = untouched(0)
                    && !returns_in_place
                {
                    self.violate(rules::OID_SET_WRITE, format!("byte {at} was written"));
                }
            }
            OidKind::Method => {
                if written as usize > output || read as usize > input {
                    self.violate(
                        rules::OID_BYTES,
                        format!("BytesWritten {written} of {output}, BytesRead {read} of {input}"),
                    );
                }
            }
        }
        let short = [ndis_sys::NDIS_STATUS_INVALID_LENGTH, ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT];
        let too_short =
            short.contains(&status) && matches!(self.request.kind, OidKind::Query | OidKind::QueryStatistics);
        if too_short && needed as usize <= length {
            self.violate(
                rules::OID_BYTES,
                format!("status {:#x} for {length} bytes, BytesNeeded is {needed}", status.cast_unsigned()),
            );
        }
        buffer.to_vec()
    }
}

impl Drop for PendingOid {
    fn drop(&mut self) {
        if self.memory.is_none() {
            return;
        }
        if self.is_done() {
            // Nobody looks at it; the next owner of its pages may.
            self.memory.iter().chain(&self.buffer).for_each(|memory| memory.open());
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

    /// What NDIS answers by itself, from attributes and indications: `None` if the OID is the
    /// driver's to answer (`oid` of [`Adapter::oid`]).
    pub fn query_ndis(&self, oid: NDIS_OID) -> Option<Vec<u8>> {
        let attributes = self.core.attributes.lock().complete()?;
        let general = &attributes.general;
        let word = |value: u32| Some(value.to_le_bytes().to_vec());
        let link = *self.core.indications.link.lock();
        let (connect, duplex, transmit, receive) = link.unwrap_or((
            general.MediaConnectState,
            general.MediaDuplexState,
            general.XmitLinkSpeed,
            general.RcvLinkSpeed,
        ));
        match oid {
            ndis_sys::OID_GEN_SUPPORTED_LIST => {
                Some(general.supported_oids.iter().flat_map(|oid| oid.to_le_bytes()).collect())
            }
            ndis_sys::OID_GEN_MEDIA_SUPPORTED | ndis_sys::OID_GEN_MEDIA_IN_USE => {
                word(general.MediaType.cast_unsigned())
            }
            ndis_sys::OID_GEN_MAXIMUM_LOOKAHEAD => word(general.LookaheadSize),
            ndis_sys::OID_GEN_MAXIMUM_FRAME_SIZE => word(general.MtuSize),
            ndis_sys::OID_GEN_LINK_SPEED => word(u32::try_from(transmit / 100).unwrap_or(u32::MAX)),
            ndis_sys::OID_GEN_MAC_OPTIONS => word(general.MacOptions),
            // NdisMediaStateConnected is 0, NdisMediaStateDisconnected 1.
            ndis_sys::OID_GEN_MEDIA_CONNECT_STATUS => {
                word(u32::from(connect != ndis_sys::MediaConnectStateConnected))
            }
            ndis_sys::OID_GEN_PHYSICAL_MEDIUM => word(general.PhysicalMediumType.cast_unsigned()),
            ndis_sys::OID_GEN_MEDIA_DUPLEX_STATE => word(duplex.cast_unsigned()),
            ndis_sys::OID_GEN_LINK_STATE => {
                let mut state = vec![0x80, 1, 40, 0];
                state.extend_from_slice(&connect.to_le_bytes());
                state.extend_from_slice(&duplex.to_le_bytes());
                state.extend_from_slice(&[0; 4]);
                state.extend_from_slice(&transmit.to_le_bytes());
                state.extend_from_slice(&receive.to_le_bytes());
                state.extend_from_slice(&general.SupportedPauseFunctions.to_le_bytes());
                state.extend_from_slice(&general.AutoNegotiationFlags.to_le_bytes());
                Some(state)
            }
            ndis_sys::OID_GEN_CURRENT_PACKET_FILTER => {
                self.core.oids.set.lock().get(&oid).cloned().or_else(|| word(0))
            }
            oid if REMEMBERED.contains(&oid) => {
                Some(self.core.oids.set.lock().get(&oid).cloned().unwrap_or_default())
            }
            ndis_sys::OID_802_3_MAXIMUM_LIST_SIZE => word(general.MaxMulticastListSize),
            ndis_sys::OID_TCP_OFFLOAD_CURRENT_CONFIG => self.current_offload().map(offload_bytes),
            ndis_sys::OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES => {
                attributes.offload.map(|o| offload_bytes(o.hardware))
            }
            _ => None,
        }
    }
}

impl AdapterCore {
    /// Looks whether requests were written after they had ended.
    fn check_retired_oids(&self, machine: &Machine, old: impl IntoIterator<Item = [Option<Arc<Memory>>; 2]>) {
        for memory in old.into_iter().flatten().flatten().filter(|memory| !memory.intact()) {
            machine.violate_for(
                self,
                rules::OID_TOUCHED,
                format!("request or buffer at {:#x} was written after its completion", memory.address()),
            );
        }
    }

    /// As above, for all that are still kept.
    pub(crate) fn sweep_oids(&self, machine: &Machine) {
        let old = std::mem::take(&mut *self.oids.done.lock());
        self.check_retired_oids(machine, old);
    }

    /// A set succeeded: NDIS keeps what it will be asked for, and the power state.
    fn remember_set(&self, oid: NDIS_OID, bytes: &[u8]) {
        if REMEMBERED.contains(&oid) {
            self.oids.set.lock().insert(oid, bytes.to_vec());
        }
        if let (ndis_sys::OID_PNP_SET_POWER, Some(state)) = (oid, bytes.first_chunk()) {
            let low = i32::from_le_bytes(*state) != ndis_sys::NdisDeviceStateD0;
            // Release: who sees the state also sees that the driver has been told.
            self.low_power.store(low, Ordering::Release);
        }
    }
}

fn offload_bytes(offload: ndis_sys::NDIS_OFFLOAD) -> Vec<u8> {
    // SAFETY: NDIS_OFFLOAD was zeroed as a whole and then copied over, so every byte, padding
    // included, is initialised.
    let bytes =
        unsafe { std::slice::from_raw_parts((&raw const offload).cast::<u8>(), size_of_val(&offload)) };
    bytes[..usize::from(offload.Header.Size).min(bytes.len())].to_vec()
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
        let mut records = adapter.oids.records.lock();
        let Some(record) = records.get_mut(&address) else {
            drop(records);
            let done = adapter
                .oids
                .done
                .lock()
                .iter()
                .any(|[request, _]| request.as_ref().is_some_and(|memory| memory.address() == address));
            let (rule, what) = if done {
                (rules::OID_COMPLETED_TWICE, "was completed before")
            } else {
                (rules::OID_UNKNOWN, "is not with this adapter")
            };
            self.violate_for(adapter, rule, format!("request {address:#x} {what}"));
            return;
        };
        let wrong = record.direct != direct;
        let again = matches!(record.phase, Phase::Done(_) | Phase::Early(_));
        if !again {
            record.phase =
                if record.phase == Phase::InHandler { Phase::Early(status) } else { Phase::Done(status) };
            record.memory.iter().flatten().for_each(|memory| memory.close(rules::OID_TOUCHED));
        }
        drop(records);
        if again {
            self.violate_for(
                adapter,
                rules::OID_COMPLETED_TWICE,
                format!("request {address:#x} was completed before"),
            );
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
