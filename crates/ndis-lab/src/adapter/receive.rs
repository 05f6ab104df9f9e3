//! Receives: what the driver indicates is checked, copied, handed to a sink, and returned by policy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ndis_sys::{
    NBL_FLAGS_MINIPORT_RESERVED, NDIS_NBL_FLAGS_IS_IPV4, NDIS_NBL_FLAGS_IS_IPV6, NDIS_NBL_FLAGS_IS_TCP,
    NDIS_NBL_FLAGS_IS_UDP, NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL, NDIS_RECEIVE_FLAGS_PERFECT_FILTERED,
    NDIS_RECEIVE_FLAGS_RESOURCES, NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID,
    NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE, NDIS_RECEIVE_FLAGS_SINGLE_QUEUE, NDIS_RECEIVE_FLAGS_SINGLE_VLAN,
    NDIS_RETURN_FLAGS_DISPATCH_LEVEL, NET_BUFFER, NET_BUFFER_LIST,
};
use parking_lot::Mutex;

use super::send::OOB_SLOTS;
use super::{Adapter, AdapterCore, State};
use crate::error::LabError;
use crate::machine::thread::handler;
use crate::machine::{DISPATCH, Entry, Machine, Origin, PASSIVE, Stopped, guard, thread};
use crate::packet::{self, Owner};
use crate::rules;

/// Bytes of an Ethernet header without a tag.
const ETHERNET_HEADER: u32 = 14;

/// A received frame, copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The frame, from its MAC header on.
    pub frame: Vec<u8>,
    /// The out-of-band slots.
    pub oob: [usize; OOB_SLOTS],
    /// `NblFlags`.
    pub nbl_flags: u32,
    /// `ReceiveFlags` of the indication.
    pub flags: u32,
    /// `PortNumber`.
    pub port: u32,
    /// Which indication of the adapter this came with, counted from 0.
    pub indication: u64,
}

/// Takes what an adapter receives. It runs on the driver's thread, at the driver's IRQL, in the
/// middle of NdisMIndicateReceiveNetBufferLists: it must not block for long, may send through any
/// adapter, and sees frames in the order of the indication.
pub trait ReceiveSink: Send + Sync {
    /// Frames of one indication.
    fn receive(&self, adapter: &Adapter, frames: Vec<Received>);
}

impl<F: Fn(&Adapter, Vec<Received>) + Send + Sync> ReceiveSink for F {
    fn receive(&self, adapter: &Adapter, frames: Vec<Received>) {
        self(adapter, frames);
    }
}

/// When receives go back to the driver. Those with the RESOURCES flag go back when the indication
/// returns, whatever the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReturnPolicy {
    /// Inside of the indication, before it returns.
    #[default]
    Inside,
    /// As soon as the driver's call from which it indicated has returned.
    After,
    /// When [`Adapter::return_held`] is called.
    Hold,
}

#[derive(Default)]
struct Queues {
    policy: ReturnPolicy,
    sink: Option<Arc<dyn ReceiveSink>>,
    queue: VecDeque<Received>,
    /// Lists that NDIS owns and will return when asked to.
    held: VecDeque<usize>,
    /// Lists to return after the driver's call.
    after: VecDeque<usize>,
    /// Lists on their way through an indication or a return.
    moving: usize,
    indications: u64,
    frames: u64,
}

#[derive(Default)]
pub(crate) struct Receives(Mutex<Queues>);

impl Receives {
    /// Forgets the sink, and with it whatever adapters it holds.
    pub(crate) fn drop_sink(&self) {
        let sink = self.0.lock().sink.take();
        drop(sink);
    }

    /// Lists that the driver indicated and has not got back.
    pub(crate) fn outstanding(&self) -> usize {
        let state = self.0.lock();
        state.held.len() + state.after.len() + state.moving
    }

    /// As [`Receives::outstanding`], of those that nothing is about to return on this thread.
    pub(crate) fn with_others(&self) -> usize {
        let state = self.0.lock();
        state.held.len() + state.after.len()
    }
}

impl Adapter {
    /// Hands received frames to `sink` instead of the queue; `None` goes back to the queue.
    pub fn set_receive_sink(&self, sink: Option<Arc<dyn ReceiveSink>>) {
        self.core.receives.0.lock().sink = sink;
    }

    /// Chooses when receives go back to the driver.
    pub fn set_return_policy(&self, policy: ReturnPolicy) {
        self.core.receives.0.lock().policy = policy;
    }

    /// Frames that were received since the last look; takes them.
    pub fn take_received(&self) -> Vec<Received> {
        self.core.receives.0.lock().queue.drain(..).collect()
    }

    /// Waits until the queue holds `count` frames, and takes all of it.
    ///
    /// # Errors
    /// [`LabError::Timeout`]: the frames stay; [`LabError::BugCheck`].
    pub fn wait_received(&self, count: usize, timeout: Duration) -> Result<Vec<Received>, LabError> {
        if !self.machine.wait_until(timeout, || self.core.receives.0.lock().queue.len() >= count) {
            self.machine.alive()?;
            return Err(LabError::Timeout("a receive"));
        }
        Ok(self.take_received())
    }

    /// How many frames the driver indicated so far.
    pub fn frames_received(&self) -> u64 {
        self.core.receives.0.lock().frames
    }

    /// Lists that the lab holds: see [`ReturnPolicy::Hold`].
    pub fn held_receives(&self) -> usize {
        self.core.receives.0.lock().held.len()
    }

    /// Returns up to `count` held lists in the order of `pick`, which reorders their addresses
    /// (reverse them, say), in one call.
    ///
    /// # Errors
    /// [`LabError::BugCheck`].
    pub fn return_held_with(
        &self,
        count: usize,
        at_dispatch: bool,
        pick: impl FnOnce(&mut Vec<usize>),
    ) -> Result<usize, LabError> {
        self.machine.alive()?;
        let mut lists: Vec<usize> = {
            let mut state = self.core.receives.0.lock();
            let count = count.min(state.held.len());
            state.moving += count;
            state.held.drain(..count).collect()
        };
        pick(&mut lists);
        let irql = if at_dispatch { DISPATCH } else { PASSIVE };
        self.machine.return_lists(&self.core, &lists, irql).map_err(|_| self.machine.dead_error())?;
        self.deliver_returns().map_err(|_| self.machine.dead_error())?;
        Ok(lists.len())
    }

    /// Returns all held lists at PASSIVE_LEVEL.
    ///
    /// # Errors
    /// [`LabError::BugCheck`].
    pub fn return_held(&self) -> Result<usize, LabError> {
        self.return_held_with(usize::MAX, false, |_| {})
    }

    /// Returns what policy [`ReturnPolicy::After`] left over.
    pub(crate) fn deliver_returns(&self) -> Result<(), Stopped> {
        // Inside of another entry, the outermost one does it.
        if thread::with(thread::Thread::machine).is_some() {
            return Ok(());
        }
        self.machine.deliver_returns()
    }
}

/// What is wrong with the out-of-band words of a receive: of checksums, 802.1Q and IPsec.
fn contradiction(oob: &[usize; OOB_SLOTS], adapter: &AdapterCore) -> Option<String> {
    let checksum = oob[ndis_sys::TcpIpChecksumNetBufferListInfo as usize];
    if checksum >> 9 != 0 {
        return Some(format!("TcpIpChecksum is {checksum:#x}: bits from 9 on are reserved"));
    }
    for (name, failed, succeeded) in [("TCP", 0, 3), ("UDP", 1, 4), ("IP", 2, 5)] {
        if checksum >> failed & checksum >> succeeded & 1 != 0 {
            return Some(format!("TcpIpChecksum is {checksum:#x}: the {name} checksum is right and wrong"));
        }
    }
    let tag = oob[ndis_sys::Ieee8021QNetBufferListInfo as usize];
    if tag >> 20 != 0 {
        return Some(format!("Ieee8021Q is {tag:#x}: bits from 20 on are reserved"));
    }
    let version_2 = adapter.attributes.lock().offload.is_some_and(|o| o.hardware.IPsecV2.Encapsulation != 0);
    let ipsec = oob[ndis_sys::IPsecOffloadV2NetBufferListInfo as usize];
    let (done, next, status) = (ipsec & 2 != 0, ipsec & 4 != 0, ipsec >> 16 & 0xffff);
    let wrong = if ipsec & 0xfff8 != 0 || ipsec >> 32 != 0 {
        "bits 3 to 15 are reserved"
    } else if next && !done {
        "NextCryptoDone goes with CryptoDone"
    } else if status != 0 && !done {
        "CryptoStatus goes with CryptoDone"
    } else if status > 7 {
        "CryptoStatus is at most 7"
    } else {
        return None;
    };
    version_2.then(|| format!("IPsecOffloadV2 is {ipsec:#x}: {wrong}"))
}

impl AdapterCore {
    /// The adapter's `MtuSize`, and how long the MAC header of its medium is.
    fn medium(&self) -> (u32, u32) {
        let attributes = self.attributes.lock();
        let Some(general) = &attributes.general else { return (u32::MAX, 0) };
        // Raw IP, and media that the lab knows nothing about, have no header that counts.
        let header = if general.MediaType == ndis_sys::NdisMedium802_3 { ETHERNET_HEADER } else { 0 };
        (general.MtuSize, header)
    }
}

impl Machine {
    /// Returns what policy [`ReturnPolicy::After`] left over, for all adapters.
    pub(crate) fn deliver_returns(&self) -> Result<(), Stopped> {
        let adapters: Vec<_> = self.adapters.read().values().cloned().collect();
        for adapter in adapters {
            let lists: Vec<usize> = {
                let mut state = adapter.receives.0.lock();
                state.moving += state.after.len();
                state.after.drain(..).collect()
            };
            self.return_lists(&adapter, &lists, PASSIVE)?;
        }
        Ok(())
    }

    /// Lets a thread of the lab return what policy [`ReturnPolicy::After`] left over.
    fn return_elsewhere(&self) {
        if self.schedule.is_some() {
            // The one thread does it as soon as it waits or comes back.
            return;
        }
        // Acquire and Release: a thread that is told to stop here has seen all that was queued.
        if self.returning.swap(true, Ordering::AcqRel) {
            return;
        }
        let machine = self.weak();
        std::thread::spawn(move || {
            let Some(machine) = machine.upgrade() else { return };
            machine.returning.store(false, Ordering::Release);
            // A stop is seen by everyone else as well.
            let _ = machine.deliver_returns();
        });
    }

    /// Calls MiniportReturnNetBufferLists for lists that count as moving.
    fn return_lists(&self, adapter: &AdapterCore, lists: &[usize], irql: u8) -> Result<(), Stopped> {
        let Some(first) = lists.first() else { return Ok(()) };
        let Some(handler) = adapter.driver.characteristics().and_then(|c| c.ReturnNetBufferListsHandler)
        else {
            return Ok(());
        };
        for list in lists {
            self.take_back(adapter, *list);
        }
        for pair in lists.windows(2) {
            // SAFETY: lists that NDIS owns; they live, since the driver may not free them.
            unsafe { (*(pair[0] as *mut NET_BUFFER_LIST)).Next = pair[1] as *mut NET_BUFFER_LIST };
        }
        // SAFETY: as above; the list is not empty.
        unsafe { (*(lists[lists.len() - 1] as *mut NET_BUFFER_LIST)).Next = std::ptr::null_mut() };
        adapter.receives.0.lock().moving -= lists.len();
        let at_dispatch = irql.max(thread::irql()) >= DISPATCH;
        let flags = if at_dispatch { NDIS_RETURN_FLAGS_DISPATCH_LEVEL } else { 0 };
        let entry: Entry = adapter.entry(handler::RETURN, irql);
        let args = [adapter.context() as u64, *first as u64, u64::from(flags), 0, 0, 0, 0, 0];
        // SAFETY: the registered handler with its three arguments.
        unsafe { self.enter(entry, handler as usize, args) }?;
        self.notify();
        Ok(())
    }

    /// `NdisMIndicateReceiveNetBufferLists`.
    ///
    /// # Safety
    /// `chain` is a chain of NET_BUFFER_LISTs that ends with NULL.
    pub(crate) unsafe fn indicate_receives(
        &self,
        adapter: &Arc<AdapterCore>,
        chain: *mut NET_BUFFER_LIST,
        port: u32,
        count: u32,
        flags: u32,
    ) -> Result<(), Stopped> {
        self.check_indication(adapter, chain, port, flags);
        self.check_no_lock("receives are indicated");
        let resources = flags & NDIS_RECEIVE_FLAGS_RESOURCES != 0;
        let mut lists = Vec::new();
        let mut frames = Vec::new();
        let mut list = chain;
        let gone = Origin::here();
        let indication = {
            let mut state = adapter.receives.0.lock();
            state.indications += 1;
            state.indications - 1
        };
        while !list.is_null() {
            match self.packets.owner(list as usize) {
                Some(Owner::Driver) => {}
                Some(Owner::Indicated(id)) => {
                    self.violate_for(
                        adapter,
                        rules::NBL_IN_USE,
                        format!("NET_BUFFER_LIST {list:p} is indicated by {id} already"),
                    );
                    break;
                }
                None => {
                    // A pointer that was read from memory that is no longer the driver's tells so.
                    let text = format!("NET_BUFFER_LIST {list:p} comes from no pool, or was freed");
                    let (rule, text, gone) =
                        guard::explain_gone(list as usize).unwrap_or((rules::NBL_UNKNOWN, text, None));
                    self.violate_past(Some(adapter), rule, text, &guard::given_away(gone));
                    break;
                }
            }
            lists.push(list as usize);
            // SAFETY: the list is in the table of live ones, and now NDIS owns it; a frame was copied through
            // buffers and MDLs that were looked up.
            unsafe {
                let frame = self.copy_list(adapter, list);
                let (next, nbl_flags) = ((*list).Next, (*list).NblFlags);
                let oob = (*list).NetBufferListInfo.map(|slot| slot as usize);
                self.packets.hand_over(list as usize, adapter.id, frame.as_deref(), gone);
                if let Some(frame) = frame {
                    frames.push(Received { frame, oob, nbl_flags, flags, port, indication });
                }
                list = next;
            }
        }
        if lists.len() != count as usize {
            self.violate_for(
                adapter,
                rules::RECEIVE_COUNT,
                format!("{count} announced, {} in the chain", lists.len()),
            );
        }
        self.check_single_type(adapter, &frames, flags);
        let (sink, policy) = {
            let mut state = adapter.receives.0.lock();
            state.moving += lists.len();
            state.frames += frames.len() as u64;
            if state.sink.is_none() {
                state.queue.extend(frames.drain(..));
            }
            (state.sink.clone(), state.policy)
        };
        if let Some(sink) = sink {
            sink.receive(&Adapter { machine: self.arc(), core: adapter.clone() }, frames);
            if self.is_dead() {
                return Err(self.stop(0, [0; 4], "the machine has stopped"));
            }
        }
        if resources {
            for list in &lists {
                self.take_back(adapter, *list);
            }
            adapter.receives.0.lock().moving -= lists.len();
        } else {
            match policy {
                ReturnPolicy::Inside => self.return_lists(adapter, &lists, PASSIVE)?,
                ReturnPolicy::After | ReturnPolicy::Hold => {
                    let mut state = adapter.receives.0.lock();
                    state.moving -= lists.len();
                    let queue = if policy == ReturnPolicy::Hold { &mut state.held } else { &mut state.after };
                    queue.extend(&lists);
                    drop(state);
                    // A system thread may never come back to the lab, so another one returns them.
                    if policy == ReturnPolicy::After
                        && thread::with(|thread| thread.context().handler)
                            == Some(handler::SYSTEM_THREAD.name)
                    {
                        self.return_elsewhere();
                    }
                }
            }
        }
        self.notify();
        Ok(())
    }

    fn check_indication(&self, adapter: &AdapterCore, chain: *mut NET_BUFFER_LIST, port: u32, flags: u32) {
        let state = adapter.state();
        let allowed = match state {
            // In Pausing, a call that was in progress when the pause began may end.
            State::Running | State::Restarting | State::Pausing => true,
            State::Halted | State::Initializing | State::Paused => false,
        };
        // Acquire: pairs with the store when the power OID ended.
        if adapter.low_power.load(std::sync::atomic::Ordering::Acquire) {
            self.violate_for(adapter, rules::STATE_INDICATE, "the adapter is in a low-power state");
        }
        if !allowed {
            self.violate_for(adapter, rules::STATE_INDICATE, format!("the adapter is {state:?}"));
        }
        if chain.is_null() {
            self.violate_for(adapter, rules::RECEIVE_COUNT, "the chain is empty");
        }
        if port != 0 {
            self.violate_for(
                adapter,
                rules::RECEIVE_FLAGS,
                format!("PortNumber {port}: the adapter has port 0 only"),
            );
        }
        let known = NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL
            | NDIS_RECEIVE_FLAGS_RESOURCES
            | NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE
            | NDIS_RECEIVE_FLAGS_SINGLE_VLAN
            | NDIS_RECEIVE_FLAGS_PERFECT_FILTERED
            | NDIS_RECEIVE_FLAGS_SINGLE_QUEUE
            | NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID;
        if flags & !known != 0 {
            self.violate_for(adapter, rules::RECEIVE_FLAGS, format!("ReceiveFlags {flags:#x}"));
        }
        if flags & NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL != 0 && thread::irql() < DISPATCH {
            self.violate_for(
                adapter,
                rules::IRQL_FLAG,
                "NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL below DISPATCH_LEVEL",
            );
        }
    }

    /// Checks one list and copies its frame.
    ///
    /// # Safety
    /// The list lives; its buffers and MDLs are checked here before they are followed.
    unsafe fn copy_list(&self, adapter: &AdapterCore, list: *mut NET_BUFFER_LIST) -> Option<Vec<u8>> {
        // SAFETY: the caller vouches for the list.
        let (source, status, nbl_flags, buffer) =
            unsafe { ((*list).SourceHandle, (*list).Status, (*list).NblFlags, (*list).FirstNetBuffer) };
        if source as usize != adapter.handle {
            self.violate_for(
                adapter,
                rules::RECEIVE_SOURCE,
                format!("SourceHandle of {list:p} is {source:p}"),
            );
        }
        if status != ndis_sys::NDIS_STATUS_SUCCESS {
            self.violate_for(
                adapter,
                rules::RECEIVE_STATUS,
                format!("Status of {list:p} is {:#x}", status.cast_unsigned()),
            );
        }
        let own = NBL_FLAGS_MINIPORT_RESERVED
            | NDIS_NBL_FLAGS_IS_IPV4
            | NDIS_NBL_FLAGS_IS_IPV6
            | NDIS_NBL_FLAGS_IS_TCP
            | NDIS_NBL_FLAGS_IS_UDP;
        if nbl_flags & !own != 0 {
            self.violate_for(
                adapter,
                rules::RECEIVE_FLAGS,
                format!("NblFlags of {list:p} are {nbl_flags:#x}"),
            );
        }
        if buffer.is_null() || !self.packets.is_buffer(buffer as usize) {
            self.violate_for(
                adapter,
                rules::RECEIVE_ONE_BUFFER,
                format!("{list:p} has no NET_BUFFER that lives"),
            );
            return None;
        }
        // SAFETY: the caller vouches for the list.
        let oob = unsafe { (*list).NetBufferListInfo.map(|slot| slot as usize) };
        if let Some(text) = contradiction(&oob, adapter) {
            self.violate_for(adapter, rules::RECEIVE_OOB, format!("{list:p}: {text}"));
        }
        // SAFETY: the buffer lives, as the table says.
        if unsafe { !(*buffer).Next.is_null() } {
            self.violate_for(
                adapter,
                rules::RECEIVE_ONE_BUFFER,
                format!("{list:p} has more than one NET_BUFFER"),
            );
        }
        // SAFETY: as above.
        unsafe { self.copy_frame(adapter, buffer) }
    }

    /// # Safety
    /// The buffer lives.
    unsafe fn copy_frame(&self, adapter: &AdapterCore, buffer: *mut NET_BUFFER) -> Option<Vec<u8>> {
        // SAFETY: the caller vouches for the buffer; each MDL is looked up before it is read.
        unsafe {
            let mut mdl = (*buffer).MdlChain;
            let mut total = 0_u64;
            while !mdl.is_null() {
                if !self.packets.is_mdl(mdl as usize) {
                    self.violate_for(
                        adapter,
                        rules::MDL_CHAIN,
                        format!("MDL {mdl:p} of {buffer:p} is none that lives"),
                    );
                    return None;
                }
                let flags = (*mdl).MdlFlags;
                if flags & (ndis_sys::MDL_MAPPED_TO_SYSTEM_VA | ndis_sys::MDL_SOURCE_IS_NONPAGED_POOL) == 0 {
                    self.violate_for(adapter, rules::MDL_MEMORY, format!("MDL {mdl:p} is not mapped"));
                    return None;
                }
                self.check_range((*mdl).MappedSystemVa as usize, (*mdl).ByteCount as usize);
                total += u64::from((*mdl).ByteCount);
                mdl = (*mdl).Next;
            }
            let (offset, length) = ((*buffer).DataOffset, (*buffer).DataLength);
            let place = packet::locate((*buffer).MdlChain, offset);
            let current = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset);
            // The end of one MDL and the start of the next are the same place.
            let same = place.is_some_and(|(mdl, within)| {
                (mdl, within) == current
                    || (!current.0.is_null()
                        && within == 0
                        && (*current.0).Next == mdl
                        && (*current.0).ByteCount == current.1)
            });
            if !same {
                self.violate_for(
                    adapter,
                    rules::MDL_CHAIN,
                    format!("DataOffset {offset} is not where CurrentMdl and CurrentMdlOffset point"),
                );
                return None;
            }
            if u64::from(offset) + u64::from(length) > total {
                self.violate_for(
                    adapter,
                    rules::MDL_CHAIN,
                    format!("{length} bytes at {offset} of an MDL chain of {total}"),
                );
                return None;
            }
            let (mtu, header) = adapter.medium();
            // Of Ethernet, a header of 14 bytes; a tag of 4 where it is not stripped.
            if length < header.max(1) || length > mtu.saturating_add(header) {
                self.violate_for(adapter, rules::RECEIVE_LENGTH, format!("{length} bytes; MtuSize is {mtu}"));
            }
            packet::gather(buffer)
        }
    }

    fn check_single_type(&self, adapter: &AdapterCore, frames: &[Received], flags: u32) {
        let ethernet = adapter.medium().1 == ETHERNET_HEADER;
        // Without a MAC header the type is out of band, in the order of the network.
        let kind = |frame: &Received| {
            let slot = frame.oob[ndis_sys::NetBufferListFrameType as usize];
            if ethernet {
                frame.frame.get(12..14).map(<[u8]>::to_vec)
            } else {
                Some(slot.to_le_bytes().to_vec())
            }
        };
        let mixed = frames.windows(2).any(|pair| kind(&pair[0]) != kind(&pair[1]));
        if flags & NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE != 0 && mixed {
            self.violate_for(
                adapter,
                rules::RECEIVE_FLAGS,
                "SINGLE_ETHER_TYPE is set, and the frames' types differ",
            );
        }
    }
}
