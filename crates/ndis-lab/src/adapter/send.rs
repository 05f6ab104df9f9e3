//! Sends: NET_BUFFER_LISTs built as a transport builds them, and their way through the driver.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ndis_sys::{
    MDL, MDL_PAGES_LOCKED, MaxNetBufferListInfo, NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL,
    NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE, NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE,
    NDIS_SEND_FLAGS_DISPATCH_LEVEL, NET_BUFFER, NET_BUFFER_LIST, NetBufferListCancelId, PVOID,
    TcpLargeSendNetBufferListInfo,
};
use parking_lot::Mutex;

use super::{Adapter, AdapterCore, AdapterId, State};
use crate::bytes::first_difference;
use crate::error::LabError;
use crate::machine::thread::handler;
use crate::machine::{AddressMap, DISPATCH, Machine, PASSIVE, thread};
use crate::packet::{self, Memory};
use crate::rules;

/// Out-of-band slots of a NET_BUFFER_LIST of NDIS 6.30.
pub const OOB_SLOTS: usize = MaxNetBufferListInfo as usize;
/// What the unused bytes around a frame hold.
const FILL: u8 = 0xa5;
/// How many completed lists are kept, so that a second completion is recognised.
const KEPT: usize = 1024;

/// One frame of a NET_BUFFER_LIST, and how it lies in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendFrame {
    /// The frame, from its MAC header on.
    pub bytes: Vec<u8>,
    /// Lengths of the MDLs that the data (`data_offset`, frame, `tail`) is cut into; what they leave
    /// is one more MDL. Zero-length MDLs are allowed.
    pub split: Vec<usize>,
    /// Bytes of the chain before the frame: `DataOffset`.
    pub data_offset: usize,
    /// Bytes of the chain behind the frame.
    pub tail: usize,
    /// How far the data starts behind a 16-byte boundary.
    pub misalign: usize,
    /// The MDLs are locked but not mapped: MmGetSystemAddressForMdlSafe has to map them, and may fail.
    pub unmapped: bool,
}

/// One NET_BUFFER_LIST to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendNbl {
    /// Its NET_BUFFERs.
    pub frames: Vec<SendFrame>,
    /// Its out-of-band slots.
    pub oob: [usize; OOB_SLOTS],
    /// Its `NblFlags`.
    pub nbl_flags: u32,
}

impl SendNbl {
    /// A list of one frame in one MDL.
    pub fn frame(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            frames: vec![SendFrame { bytes: bytes.into(), ..SendFrame::default() }],
            oob: [0; OOB_SLOTS],
            nbl_flags: 0,
        }
    }

    /// A list of several frames, which share the out-of-band data.
    pub fn frames(frames: impl IntoIterator<Item = SendFrame>) -> Self {
        Self { frames: frames.into_iter().collect(), oob: [0; OOB_SLOTS], nbl_flags: 0 }
    }

    /// Sets an out-of-band slot, by `NDIS_NET_BUFFER_LIST_INFO`.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn oob(mut self, slot: i32, value: usize) -> Self {
        self.oob[usize::try_from(slot).expect("a slot is not negative")] = value;
        self
    }

    /// Sets the cancel identifier.
    #[must_use]
    pub fn cancel_id(self, id: usize) -> Self {
        self.oob(NetBufferListCancelId, id)
    }

    /// Cuts the data of every frame into MDLs of these lengths.
    #[must_use]
    pub fn split(mut self, lengths: &[usize]) -> Self {
        for frame in &mut self.frames {
            frame.split = lengths.to_vec();
        }
        self
    }

    /// Puts the frames `offset` bytes into their MDL chain, with `tail` bytes behind.
    #[must_use]
    pub fn within(mut self, offset: usize, tail: usize) -> Self {
        for frame in &mut self.frames {
            (frame.data_offset, frame.tail) = (offset, tail);
        }
        self
    }
}

impl From<Vec<u8>> for SendNbl {
    fn from(bytes: Vec<u8>) -> Self {
        Self::frame(bytes)
    }
}

/// How MiniportSendNetBufferLists is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendOptions {
    /// At DISPATCH_LEVEL, with the flag that says so.
    pub at_dispatch: bool,
    /// Further `SendFlags`.
    pub flags: u32,
    /// `PortNumber`.
    pub port: u32,
}

impl SendOptions {
    /// Calls at DISPATCH_LEVEL.
    pub fn dispatch() -> Self {
        Self { at_dispatch: true, ..Self::default() }
    }
}

/// How a NET_BUFFER_LIST came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOutcome {
    /// Its status.
    pub status: i32,
    /// Its out-of-band slots at completion (large sends report there).
    pub oob: [usize; OOB_SLOTS],
}

impl SendOutcome {
    /// Whether the status is NDIS_STATUS_SUCCESS.
    pub fn is_success(&self) -> bool {
        self.status == ndis_sys::NDIS_STATUS_SUCCESS
    }
}

/// The memory of one NET_BUFFER_LIST and all that hangs off it.
struct Built {
    list: Memory,
    /// (buffer, MDLs, data, original bytes of the data)
    frames: Vec<BuiltFrame>,
    large_send: bool,
}

struct BuiltFrame {
    buffer: Memory,
    mdls: Vec<(Memory, usize)>,
    data: Memory,
    start: usize,
    original: Vec<u8>,
}

/// A list that the driver has.
struct Record {
    built: Built,
    before: Snapshot,
    batch: Arc<Batch>,
    index: usize,
}

/// What must be the same at completion.
#[derive(PartialEq, Eq, Clone)]
struct Snapshot {
    list: (usize, usize, usize, usize, usize, u32, i32),
    oob: [usize; OOB_SLOTS],
    buffers: Vec<(usize, usize, u32, u32, usize, u32)>,
    mdls: Vec<(usize, i16, usize, u32, u32)>,
}

impl Snapshot {
    /// # Safety
    /// The lists, buffers and MDLs of `built` are initialised.
    unsafe fn take(built: &Built) -> Self {
        let list = built.list.at::<NET_BUFFER_LIST>(0);
        // SAFETY: the caller vouches for them; each is memory of `built`.
        unsafe {
            let buffers = built.frames.iter().map(|frame| {
                let b = frame.buffer.at::<NET_BUFFER>(0);
                (
                    (*b).Next as usize,
                    (*b).CurrentMdl as usize,
                    (*b).CurrentMdlOffset,
                    (*b).DataLength,
                    (*b).MdlChain as usize,
                    (*b).DataOffset,
                )
            });
            let mdls = built.frames.iter().flat_map(|frame| &frame.mdls).map(|(memory, _)| {
                let m = memory.at::<MDL>(0);
                ((*m).Next as usize, (*m).Size, (*m).StartVa as usize, (*m).ByteCount, (*m).ByteOffset)
            });
            Self {
                list: (
                    (*list).FirstNetBuffer as usize,
                    (*list).Context as usize,
                    (*list).ParentNetBufferList as usize,
                    (*list).NdisPoolHandle as usize,
                    (*list).SourceHandle as usize,
                    (*list).NblFlags,
                    (*list).ChildRefCount,
                ),
                oob: (*list).NetBufferListInfo.map(|slot| slot as usize),
                buffers: buffers.collect(),
                mdls: mdls.collect(),
            }
        }
    }
}

/// The outcomes of one call of the send handler.
struct Batch {
    outcomes: Mutex<Vec<Option<SendOutcome>>>,
    /// The handler has returned; what is still out then is queued in the driver.
    returned: AtomicBool,
    /// When it was called: [`AdapterCore::stretch`].
    stretch: u64,
    /// The handler was called and returned while the adapter was paused: it had to refuse.
    refused: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Sends {
    records: Mutex<AddressMap<Record>>,
    mdls: Mutex<AddressMap<usize>>,
    kept: Mutex<VecDeque<Built>>,
}

impl Sends {
    pub(crate) fn outstanding(&self) -> usize {
        self.records.lock().len()
    }

    /// As [`Sends::outstanding`], without those whose handler call is under way on some processor: the
    /// driver may not even have seen them.
    pub(crate) fn queued(&self) -> usize {
        // Acquire: pairs with the store after the handler's return.
        self.records.lock().values().filter(|record| record.batch.returned.load(Ordering::Acquire)).count()
    }

    /// The data of an MDL of a list that the driver has.
    pub(crate) fn mdl_data(&self, mdl: usize) -> Option<usize> {
        self.mdls.lock().get(&mdl).copied()
    }
}

/// Lists that were handed to the driver together.
pub struct Sent {
    adapter: Adapter,
    batch: Arc<Batch>,
}

impl Sent {
    /// The outcome of each list, in the order in which they were given; `None` while it is out.
    pub fn outcomes(&self) -> Vec<Option<SendOutcome>> {
        self.batch.outcomes.lock().clone()
    }

    /// Whether all of them came back.
    pub fn is_done(&self) -> bool {
        self.batch.outcomes.lock().iter().all(Option::is_some)
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// [`LabError::Timeout`]; [`LabError::BugCheck`].
    pub fn wait(&self, timeout: Duration) -> Result<Vec<SendOutcome>, LabError> {
        if !self.is_done() && !self.adapter.machine.wait_until(timeout, || self.is_done()) {
            self.adapter.machine.alive()?;
            return Err(LabError::Timeout("a send"));
        }
        Ok(self.batch.outcomes.lock().iter().copied().flatten().collect())
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent").field("outcomes", &*self.batch.outcomes.lock()).finish_non_exhaustive()
    }
}

fn memory(machine: &Machine, size: usize, what: &'static str) -> Result<Memory, LabError> {
    Memory::guarded(machine, size, what).ok_or(LabError::Invalid("the host has no memory left"))
}

fn build(machine: &Machine, nbl: &SendNbl, source: usize) -> Result<Built, LabError> {
    let list = memory(machine, size_of::<NET_BUFFER_LIST>(), "NET_BUFFER_LIST to send")?;
    let mut frames = Vec::with_capacity(nbl.frames.len());
    for frame in &nbl.frames {
        frames.push(build_frame(machine, frame)?);
    }
    let raw = list.at::<NET_BUFFER_LIST>(0);
    // SAFETY: zeroed memory of the right sizes, not shared with anyone yet.
    unsafe {
        (*raw).SourceHandle = source as PVOID;
        (*raw).NdisPoolHandle = source as PVOID;
        (*raw).NblFlags = nbl.nbl_flags;
        (*raw).NetBufferListInfo = nbl.oob.map(|slot| slot as PVOID);
        let mut next = std::ptr::null_mut();
        for frame in frames.iter().rev() {
            let buffer = frame.buffer.at::<NET_BUFFER>(0);
            (*buffer).Next = next;
            (*buffer).NdisPoolHandle = source as PVOID;
            next = buffer;
        }
        (*raw).FirstNetBuffer = next;
    }
    Ok(Built { list, frames, large_send: nbl.oob[TcpLargeSendNetBufferListInfo as usize] != 0 })
}

fn build_frame(machine: &Machine, frame: &SendFrame) -> Result<BuiltFrame, LabError> {
    let total = frame.data_offset + frame.bytes.len() + frame.tail;
    let misalign = frame.misalign % 16;
    let data = memory(machine, total + misalign, "data to send")?;
    let start = data.address() + misalign;
    let mut original = vec![FILL; total];
    original[frame.data_offset..frame.data_offset + frame.bytes.len()].copy_from_slice(&frame.bytes);
    // SAFETY: `total` bytes from `start` lie in the data's memory.
    unsafe { std::ptr::copy_nonoverlapping(original.as_ptr(), start as *mut u8, total) };
    let mut lengths = Vec::with_capacity(frame.split.len() + 1);
    let mut left = total;
    for length in &frame.split {
        let length = (*length).min(left);
        lengths.push(length);
        left -= length;
    }
    if left > 0 || lengths.is_empty() {
        lengths.push(left);
    }
    let mut mdls = Vec::with_capacity(lengths.len());
    let mut address = start;
    for length in lengths {
        let bytes = u32::try_from(length).map_err(|_| LabError::Invalid("the frame is too long"))?;
        let mdl = memory(machine, packet::mdl_bytes(address, bytes), "MDL to send")?;
        // SAFETY: the memory holds an MDL with its pages.
        unsafe {
            packet::write_mdl(mdl.at(0), address, bytes, !frame.unmapped);
            let raw = mdl.at::<MDL>(0);
            if frame.unmapped {
                // Locked user pages, say: StartVa means nothing in this address space.
                (*raw).MdlFlags = MDL_PAGES_LOCKED;
                (*raw).StartVa = (0x00cd_0000_0000_0000 | (address & !0xfff)) as PVOID;
            }
        }
        mdls.push((mdl, address));
        address += length;
    }
    let buffer = memory(machine, size_of::<NET_BUFFER>(), "NET_BUFFER to send")?;
    let raw = buffer.at::<NET_BUFFER>(0);
    let number = |value: usize| u32::try_from(value).map_err(|_| LabError::Invalid("the frame is too long"));
    // SAFETY: zeroed memory of the right sizes, not shared with anyone yet.
    unsafe {
        for pair in mdls.windows(2) {
            (*pair[0].0.at::<MDL>(0)).Next = pair[1].0.at(0);
        }
        let chain = mdls[0].0.at::<MDL>(0);
        let offset = number(frame.data_offset)?;
        let (current, within) = packet::locate(chain, offset).unwrap_or((chain, 0));
        (*raw).MdlChain = chain;
        (*raw).DataOffset = offset;
        (*raw).CurrentMdl = current;
        (*raw).CurrentMdlOffset = within;
        (*raw).DataLength = number(frame.bytes.len())?;
    }
    Ok(BuiltFrame { buffer, mdls, data, start, original })
}

impl Adapter {
    /// Hands lists to the driver in one call; they may come back later.
    ///
    /// NDIS itself sends only to a running adapter; a test may send in any state between
    /// initialisation and halt, since a driver has to refuse with NDIS_STATUS_PAUSED.
    ///
    /// # Errors
    /// [`LabError::State`] for a halted adapter; [`LabError::BugCheck`].
    pub fn send_with(&self, lists: &[SendNbl], options: SendOptions) -> Result<Sent, LabError> {
        self.machine.alive()?;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("send through"));
        }
        let send = self
            .characteristics()?
            .SendNetBufferListsHandler
            .ok_or(LabError::NoHandler("MiniportSendNetBufferLists"))? as usize;
        if lists.is_empty() || lists.iter().any(|nbl| nbl.frames.is_empty()) {
            return Err(LabError::Invalid("a chain has a list, a list has a frame"));
        }
        let built = lists
            .iter()
            .map(|nbl| build(&self.machine, nbl, self.core.handle))
            .collect::<Result<Vec<_>, _>>()?;
        let batch = Arc::new(Batch {
            outcomes: Mutex::new(vec![None; lists.len()]),
            returned: AtomicBool::new(false),
            stretch: self.core.stretch(),
            refused: AtomicBool::new(false),
        });
        let mut first: *mut NET_BUFFER_LIST = std::ptr::null_mut();
        for one in built.iter().rev() {
            let list = one.list.at::<NET_BUFFER_LIST>(0);
            // SAFETY: the list is ours until it is handed over.
            unsafe { (*list).Next = first };
            first = list;
        }
        {
            let mut records = self.core.sends.records.lock();
            let mut mdls = self.core.sends.mdls.lock();
            for (index, built) in built.into_iter().enumerate() {
                for (mdl, data) in built.frames.iter().flat_map(|frame| &frame.mdls) {
                    mdls.insert(mdl.address(), *data);
                }
                // SAFETY: everything was initialised by `build`.
                let before = unsafe { Snapshot::take(&built) };
                let record = Record { before, batch: batch.clone(), index, built };
                records.insert(record.built.list.address(), record);
            }
        }
        let irql = if options.at_dispatch { DISPATCH } else { PASSIVE };
        let at_dispatch = options.at_dispatch || thread::irql() >= DISPATCH;
        let flags = options.flags | if at_dispatch { NDIS_SEND_FLAGS_DISPATCH_LEVEL } else { 0 };
        let args = [self.core.context() as u64, first as u64, u64::from(options.port), u64::from(flags)];
        // SAFETY: the registered handler with its four arguments; the lists stay until completion.
        unsafe { self.call(self.core.entry(handler::SEND, irql), send, args) }?;
        if batch.stretch % 2 == 1 && batch.stretch == self.core.stretch() {
            // Release: as below.
            batch.refused.store(true, Ordering::Release);
        }
        // Release: whoever sees it finds the handler's completions done.
        batch.returned.store(true, Ordering::Release);
        Ok(Sent { adapter: self.clone(), batch })
    }

    /// Sends at PASSIVE_LEVEL and waits until all lists are back.
    ///
    /// # Errors
    /// [`LabError::Timeout`], after recording [`rules::SEND_NOT_COMPLETED`]; as [`Adapter::send_with`].
    pub fn send(&self, lists: &[SendNbl]) -> Result<Vec<SendOutcome>, LabError> {
        let sent = self.send_with(lists, SendOptions::default())?;
        sent.wait(self.machine.options.timeout).inspect_err(|error| {
            if matches!(error, LabError::Timeout(_)) {
                let out = sent.outcomes().iter().filter(|o| o.is_none()).count();
                self.machine.violate_for(
                    &self.core,
                    rules::SEND_NOT_COMPLETED,
                    format!("{out} lists are still out"),
                );
            }
        })
    }

    /// Lists that the driver has and has not completed.
    pub fn outstanding_sends(&self) -> usize {
        self.core.sends.outstanding()
    }

    /// Calls `MiniportCancelSend`.
    ///
    /// # Errors
    /// [`LabError::State`] for a halted adapter; [`LabError::BugCheck`].
    pub fn cancel_send(&self, cancel_id: usize) -> Result<(), LabError> {
        self.machine.alive()?;
        if matches!(self.state(), State::Halted | State::Initializing) {
            return Err(self.wrong_state("cancel sends of"));
        }
        let cancel =
            self.characteristics()?.CancelSendHandler.ok_or(LabError::NoHandler("MiniportCancelSend"))?
                as usize;
        let args = [self.core.context() as u64, cancel_id as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments.
        unsafe { self.call(self.core.entry(handler::CANCEL_SEND, PASSIVE), cancel, args) }?;
        Ok(())
    }
}

/// What a send may be completed with `[nf-ndis-ndismsendnetbufferlistscomplete]`.
fn is_send_status(status: i32) -> bool {
    [
        ndis_sys::NDIS_STATUS_SUCCESS,
        ndis_sys::NDIS_STATUS_INVALID_LENGTH,
        ndis_sys::NDIS_STATUS_RESOURCES,
        ndis_sys::NDIS_STATUS_PAUSED,
        ndis_sys::NDIS_STATUS_SEND_ABORTED,
        ndis_sys::NDIS_STATUS_RESET_IN_PROGRESS,
        ndis_sys::NDIS_STATUS_LOW_POWER_STATE,
        ndis_sys::NDIS_STATUS_NOT_ACCEPTED,
        ndis_sys::NDIS_STATUS_FAILURE,
    ]
    .contains(&status)
}

/// Keeps a completed list for a while, poisoned.
fn retire_send(machine: &Machine, adapter: &AdapterCore, built: Built) {
    let mut mdls = adapter.sends.mdls.lock();
    for (mdl, _) in built.frames.iter().flat_map(|frame| &frame.mdls) {
        mdls.remove(&mdl.address());
    }
    drop(mdls);
    // From here on the driver has no business with it.
    built.list.poison(rules::SEND_TOUCHED);
    for frame in &built.frames {
        frame.buffer.poison(rules::SEND_TOUCHED);
        frame.data.poison(rules::SEND_TOUCHED);
        frame.mdls.iter().for_each(|(mdl, _)| mdl.poison(rules::SEND_TOUCHED));
    }
    let mut kept = adapter.sends.kept.lock();
    kept.push_back(built);
    let old = if kept.len() > KEPT { kept.pop_front() } else { None };
    drop(kept);
    check_retired(machine, adapter, old);
}

/// Looks whether completed lists were written.
fn check_retired(machine: &Machine, adapter: &AdapterCore, old: impl IntoIterator<Item = Built>) {
    for built in old {
        let frames = built.frames.iter().flat_map(|frame| {
            let mdls = frame.mdls.iter().map(|(mdl, _)| ("MDL", mdl));
            mdls.chain([("NET_BUFFER", &frame.buffer), ("data", &frame.data)])
        });
        let touched = frames.chain([("NET_BUFFER_LIST", &built.list)]).find(|(_, memory)| !memory.intact());
        if let Some((what, memory)) = touched {
            let text = format!("the {what} at {:#x} was written after its completion", memory.address());
            machine.violate_for(adapter, rules::SEND_TOUCHED, text);
        }
    }
}

impl AdapterCore {
    /// Looks at all completed lists that are kept.
    pub(crate) fn sweep_sends(&self, machine: &Machine) {
        let old = std::mem::take(&mut *self.sends.kept.lock());
        check_retired(machine, self, old);
    }
}

impl Machine {
    /// `NdisMSendNetBufferListsComplete`.
    ///
    /// # Safety
    /// `chain` is a chain of NET_BUFFER_LISTs that ends with NULL.
    pub(crate) unsafe fn complete_sends(
        &self,
        adapter: &AdapterCore,
        chain: *mut NET_BUFFER_LIST,
        flags: u32,
    ) {
        let known = NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL
            | NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE
            | NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE;
        if flags & !known != 0 {
            self.violate_for(adapter, rules::SEND_FLAGS, format!("SendCompleteFlags {flags:#x}"));
        }
        if flags & NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL != 0 && thread::irql() < DISPATCH {
            self.violate_for(
                adapter,
                rules::IRQL_FLAG,
                "NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL below DISPATCH_LEVEL",
            );
        }
        self.check_no_lock("sends are completed");
        if chain.is_null() {
            self.violate_for(adapter, rules::SEND_UNKNOWN, "the chain is empty");
        }
        let mut list = chain;
        while !list.is_null() {
            let record = adapter.sends.records.lock().remove(&(list as usize));
            let Some(record) = record else {
                self.unknown_send(adapter, list as usize);
                // What is not ours cannot be followed.
                break;
            };
            // SAFETY: the list is in the table, so it is memory of ours that lives.
            let (next, status) = unsafe { ((*list).Next, (*list).Status) };
            self.check_sent(adapter, &record, status);
            // SAFETY: as above.
            let oob = unsafe { (*list).NetBufferListInfo.map(|slot| slot as usize) };
            if let Some(outcome) = record.batch.outcomes.lock().get_mut(record.index) {
                *outcome = Some(SendOutcome { status, oob });
            }
            retire_send(self, adapter, record.built);
            list = next;
        }
        self.notify();
    }

    fn unknown_send(&self, adapter: &AdapterCore, list: usize) {
        let twice = adapter.sends.kept.lock().iter().any(|built| built.list.address() == list);
        if twice {
            self.violate_for(
                adapter,
                rules::SEND_COMPLETED_TWICE,
                format!("NET_BUFFER_LIST {list:#x} was completed before"),
            );
            return;
        }
        let others: Vec<AdapterId> = {
            let adapters = self.adapters.read();
            adapters.values().filter(|a| a.sends.records.lock().contains_key(&list)).map(|a| a.id).collect()
        };
        let whose = others.first().map_or("nobody's send".to_owned(), |id| format!("a send of {id}"));
        self.violate_for(adapter, rules::SEND_UNKNOWN, format!("NET_BUFFER_LIST {list:#x} is {whose}"));
    }

    fn check_sent(&self, adapter: &AdapterCore, record: &Record, status: i32) {
        if !is_send_status(status) {
            self.violate_for(adapter, rules::SEND_STATUS, format!("status {:#010x}", status.cast_unsigned()));
        }
        // A send that came to an adapter that knew it was paused is refused. One whose handler call
        // crosses a pause or a restart may end either way: NDIS itself cannot tell which came first.
        let batch = &record.batch;
        let paused = (batch.stretch % 2 == 1 && batch.stretch == adapter.stretch())
            // Acquire: pairs with the store after the handler's return.
            || batch.refused.load(Ordering::Acquire);
        let gone = adapter.removed.load(Ordering::Acquire)
            || adapter.low_power.load(Ordering::Acquire)
            || adapter.resetting.load(Ordering::Acquire);
        if paused && !gone && status != ndis_sys::NDIS_STATUS_PAUSED {
            let text = format!("status {:#010x}; the adapter was paused", status.cast_unsigned());
            self.violate_for(adapter, rules::SEND_NOT_PAUSED, text);
        }
        // SAFETY: the record holds the memory, initialised when it was built.
        let now = unsafe { Snapshot::take(&record.built) };
        let before = &record.before;
        if (&now.list, &now.buffers, &now.mdls) != (&before.list, &before.buffers, &before.mdls) {
            let what = if now.list != before.list {
                "the NET_BUFFER_LIST"
            } else if now.buffers != before.buffers {
                "a NET_BUFFER"
            } else {
                "an MDL"
            };
            self.violate_for(adapter, rules::SEND_CHAIN_CHANGED, format!("{what} is not as it was given"));
        }
        let slots = (0..OOB_SLOTS).filter(|slot| now.oob[*slot] != before.oob[*slot]);
        for slot in
            slots.filter(|slot| !(record.built.large_send && *slot == TcpLargeSendNetBufferListInfo as usize))
        {
            let text = format!("slot {slot} was {:#x} and is {:#x}", before.oob[slot], now.oob[slot]);
            self.violate_for(adapter, rules::SEND_OOB_CHANGED, text);
        }
        for frame in &record.built.frames {
            // SAFETY: the data is memory of the record, initialised when it was built.
            let data = unsafe { std::slice::from_raw_parts(frame.start as *const u8, frame.original.len()) };
            if let Some(at) = first_difference(data, &frame.original) {
                self.violate_for(
                    adapter,
                    rules::SEND_PAYLOAD_CHANGED,
                    format!("byte {at} of {} was written", data.len()),
                );
            }
        }
    }
}
