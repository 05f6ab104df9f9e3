//! Sends: what a transport hands over, and its way through the driver.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ndis_sys::{
    MaxNetBufferListInfo, NDIS_SEND_FLAGS_DISPATCH_LEVEL, NET_BUFFER_LIST, NetBufferListCancelId,
};
use parking_lot::Mutex;

use super::{Adapter, State};
use crate::error::LabError;
use crate::machine::thread::handler;
use crate::machine::{AddressMap, DISPATCH, PASSIVE, thread};
use crate::rules;

mod build;
mod complete;

use build::{Built, Snapshot, build};

/// Out-of-band slots of a NET_BUFFER_LIST of NDIS 6.30.
pub const OOB_SLOTS: usize = MaxNetBufferListInfo as usize;

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

/// A list that the driver has.
struct Record {
    built: Built,
    before: Snapshot,
    batch: Arc<Batch>,
    index: usize,
}

/// The outcomes of one call of the send handler.
struct Batch {
    outcomes: Mutex<Vec<Option<SendOutcome>>>,
    /// The handler has returned; what is still out then is queued in the driver.
    returned: AtomicBool,
    /// Which call it is, counted from 1, and at which IRQL.
    number: u64,
    irql: u8,
    /// When it was called: [`AdapterCore::stretch`].
    stretch: u64,
    /// The state of the adapter, and how often it was reset and changed its power state, when it was called.
    state: State,
    resets: u64,
    power_changes: u64,
    /// The handler was called and returned while the adapter was paused: it had to refuse.
    refused: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Sends {
    records: Mutex<AddressMap<Record>>,
    mdls: Mutex<AddressMap<usize>>,
    kept: Mutex<VecDeque<Built>>,
    /// Calls of MiniportSendNetBufferLists.
    calls: AtomicU64,
    /// Identifiers that MiniportCancelSend was called with.
    cancelled: Mutex<BTreeSet<usize>>,
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

    /// The first lists that are with the driver, in words.
    pub(crate) fn describe(&self) -> String {
        const SHOWN: usize = 3;
        let records = self.records.lock();
        let mut lists: Vec<_> = records.iter().collect();
        lists.sort_unstable_by_key(|(_, record)| (record.batch.number, record.index));
        let one = |(list, record): &(&usize, &Record)| {
            let bytes: usize = record.built.frames.iter().map(|frame| frame.original.len()).sum();
            let batch = &record.batch;
            format!(
                "NET_BUFFER_LIST {list:#x} ({bytes} bytes, list {} of {} of call {} of MiniportSendNetBufferLists, at \
                 {}, the adapter was {:?})",
                record.index + 1,
                batch.outcomes.lock().len(),
                batch.number,
                crate::rules::irql_name(batch.irql),
                batch.state
            )
        };
        let more = lists.len().saturating_sub(SHOWN);
        let mut parts: Vec<_> = lists.iter().take(SHOWN).map(one).collect();
        if more > 0 {
            parts.push(format!("and {more} more"));
        }
        parts.join("; ")
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
    /// [`LabError::Timeout`], after recording [`rules::SEND_NOT_COMPLETED`]; [`LabError::BugCheck`].
    pub fn wait(&self, timeout: Duration) -> Result<Vec<SendOutcome>, LabError> {
        if !self.is_done() && !self.adapter.machine.wait_until(timeout, || self.is_done()) {
            let (machine, core) = (&self.adapter.machine, &self.adapter.core);
            machine.alive()?;
            let text = format!("after {timeout:?} these are still out: {}", core.sends.describe());
            machine.violate_for(core, rules::SEND_NOT_COMPLETED, text);
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
            // Relaxed: only tells calls apart.
            number: self.core.sends.calls.fetch_add(1, Ordering::Relaxed) + 1,
            irql: if options.at_dispatch { DISPATCH } else { thread::irql() },
            stretch: self.core.stretch(),
            state: self.state(),
            // Acquire: pairs with the changes.
            resets: self.core.resets.load(Ordering::Acquire),
            power_changes: self.core.power_changes.load(Ordering::Acquire),
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
        self.send_with(lists, SendOptions::default())?.wait(self.machine.options.timeout)
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
        self.core.sends.cancelled.lock().insert(cancel_id);
        let args = [self.core.context() as u64, cancel_id as u64, 0, 0];
        // SAFETY: the registered handler with its two arguments.
        unsafe { self.call(self.core.entry(handler::CANCEL_SEND, PASSIVE), cancel, args) }?;
        Ok(())
    }
}
