//! Receives: indicating frames ([`ReceiveBatch`]) and getting their buffers back ([`ReturnedChain`]).
//!
//! While a buffer is indicated no Rust value gives access to it.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ptr::{self, NonNull};

use ndis_sys::{
    IPsecOffloadV2HeaderNetBufferListInfo, IPsecOffloadV2NetBufferListInfo, Ieee8021QNetBufferListInfo,
    MaxNetBufferListInfo, NDIS_DEFAULT_PORT_NUMBER, NDIS_NET_BUFFER_LIST_INFO,
    NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL, NDIS_RECEIVE_FLAGS_RESOURCES, NET_BUFFER_LIST,
    NdisMIndicateReceiveNetBufferLists, PVOID, TcpIpChecksumNetBufferListInfo, ULONG,
};

use super::buffer::{Block, ReceiveBuffer};
use super::list::NblList;
use super::oob::{ChecksumReceive, VlanTag};
use crate::adapter::{Handle, Header};
use crate::ipsec_v2::{IpsecReceive, IpsecReceiveHeader};
use crate::irql::Irql;
use crate::rundown::Entered;
use crate::status::{Result, Status};

/// Out-of-band slots of an NBL in NDIS 6.30. Later versions have more, which a 6.30 miniport does not touch.
#[allow(clippy::cast_sign_loss)] // a count
const SLOTS: usize = MaxNetBufferListInfo as usize;

/// What to say beside a received frame. The default says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveOob {
    /// Slot 0.
    pub checksum: ChecksumReceive,
    /// Slot 1.
    pub ipsec: Option<IpsecReceive>,
    /// Slot 12.
    pub ipsec_header: Option<IpsecReceiveHeader>,
    /// Slot 4: the tag that was taken out of the frame.
    pub vlan: Option<VlanTag>,
}

impl ReceiveOob {
    /// The whole array, for it may hold what others left there.
    fn to_slots(self) -> [PVOID; SLOTS] {
        let mut slots = [ptr::null_mut(); SLOTS];
        let mut set = |index: NDIS_NET_BUFFER_LIST_INFO, value| {
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| slots.get_mut(index)) {
                *slot = value;
            }
        };
        set(TcpIpChecksumNetBufferListInfo, self.checksum.into_slot());
        if let Some(ipsec) = self.ipsec {
            set(IPsecOffloadV2NetBufferListInfo, ipsec.into_slot());
        }
        if let Some(trailer) = self.ipsec_header {
            set(IPsecOffloadV2HeaderNetBufferListInfo, trailer.into_slot());
        }
        if let Some(tag) = self.vlan {
            set(Ieee8021QNetBufferListInfo, tag.into_slot());
        }
        slots
    }
}

/// What holds for all frames of an indication (`NDIS_RECEIVE_FLAGS_*`). Claim only what is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveFlags(ULONG);

impl ReceiveFlags {
    /// Nothing in particular.
    pub const NONE: Self = Self(0);
    /// Every frame passed an exact filter.
    pub const PERFECT_FILTERED: Self = Self(ndis_sys::NDIS_RECEIVE_FLAGS_PERFECT_FILTERED);
}

/// Frames to indicate in one call, in order. Dropping it frees the buffers.
///
/// # Invariants
///
/// From `head` to `tail` `length` blocks are linked by `Block::next`, each owned as in [`ReceiveBuffer`], laid out, with its
/// out-of-band data set; all of the adapter of `header`, which is set unless the batch is empty.
pub struct ReceiveBatch {
    head: *mut Block,
    tail: *mut Block,
    length: u32,
    header: Option<NonNull<Header>>,
    owned: PhantomData<ReceiveBuffer>,
}

// SAFETY: as for `ReceiveBuffer`.
unsafe impl Send for ReceiveBatch {}
// SAFETY: shared access reads the length.
unsafe impl Sync for ReceiveBatch {}

impl ReceiveBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut(), length: 0, header: None, owned: PhantomData }
    }

    /// The number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a frame: the first `length` bytes of `buffer`, MAC header first, without FCS.
    ///
    /// # Errors
    ///
    /// The buffer, if `length` is 0 or more than it holds, or if it belongs to another adapter than the rest.
    pub fn push(
        &mut self,
        buffer: ReceiveBuffer,
        length: usize,
        oob: &ReceiveOob,
    ) -> Result<(), ReceiveBuffer> {
        let header = buffer.header();
        let bytes = match u32::try_from(length) {
            Ok(bytes @ 1..) if length <= buffer.capacity() => bytes,
            _ => return Err(buffer),
        };
        if self.length == u32::MAX || (self.length != 0 && self.header != Some(header)) {
            return Err(buffer);
        }
        let block = buffer.into_block();
        // SAFETY: the block is ours, taken out of the buffer, and `bytes` is no more than its capacity.
        unsafe {
            Block::lay_out(block, bytes);
            let nbl = block.as_ref().nbl;
            (*nbl).SourceHandle = header.as_ref().ndis();
            (*nbl).Status = Status::SUCCESS.raw();
            (*nbl).NblFlags = 0;
            (*nbl).NetBufferListInfo = oob.to_slots();
        }
        let block = block.as_ptr();
        // SAFETY: the block is ours, and so is the tail, which is in this batch.
        unsafe {
            (*block).next = ptr::null_mut();
            if self.tail.is_null() {
                self.head = block;
            } else {
                (*self.tail).next = block;
            }
        }
        self.tail = block;
        self.length += 1;
        self.header = Some(header);
        Ok(())
    }

    /// Links the NBLs in the batch's order and gives the first. Linked here and not in `push`, for an indication with
    /// RESOURCES may leave other links.
    fn link(&mut self) -> *mut NET_BUFFER_LIST {
        let mut block = self.head;
        // SAFETY: the blocks of the batch are ours, linked by their `next`.
        unsafe {
            while let Some(current) = block.as_ref() {
                block = current.next;
                (*current.nbl).Next = block.as_ref().map_or(ptr::null_mut(), |next| next.nbl);
            }
            self.head.as_ref().map_or(ptr::null_mut(), |head| head.nbl)
        }
    }

    /// Takes the first buffer out again.
    pub fn pop_front(&mut self) -> Option<ReceiveBuffer> {
        let block = NonNull::new(self.head)?;
        // SAFETY: the head is in this batch, whose blocks are ours.
        unsafe {
            self.head = (*block.as_ptr()).next;
            (*block.as_ptr()).next = ptr::null_mut();
        }
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        self.length -= 1;
        // SAFETY: the block came from `into_block`, and has just left the batch.
        Some(unsafe { ReceiveBuffer::from_block(block) })
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ReceiveBatch {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveBatch").field("len", &self.length).finish_non_exhaustive()
    }
}

impl Handle {
    /// Indicates a batch to the drivers above and gives its buffers up until they come back through
    /// [`Miniport::return_buffers`](crate::Miniport::return_buffers), perhaps before this returns.
    /// IRQL <= DISPATCH_LEVEL, no lock held. An empty batch is done at once.
    ///
    /// # Errors
    ///
    /// The batch, if the adapter may not indicate now (paused, pausing, not initialised, halted), or if it is another adapter's.
    pub fn indicate_receive(
        &self,
        batch: ReceiveBatch,
        flags: ReceiveFlags,
        irql: Irql<'_>,
    ) -> Result<(), ReceiveBatch> {
        if batch.is_empty() {
            return Ok(());
        }
        // One unit for each buffer, ended by its return, and one for the indication.
        let units = batch.len() + 1;
        let Some(indication) = self.begin_indication(&batch, units) else { return Err(batch) };
        let mut batch = mem::ManuallyDrop::new(batch);
        // SAFETY: the batch's NBLs, linked, are a null-terminated chain of its length; not dropping the batch gives them up.
        unsafe { indication.run(batch.link(), batch.length, flags.0, irql) };
        Ok(())
    }

    /// Indicates a batch with NDIS_RECEIVE_FLAGS_RESOURCES: the drivers above copy, and the buffers are ours again when this
    /// returns. IRQL <= DISPATCH_LEVEL, no lock held.
    ///
    /// # Errors
    ///
    /// As [`indicate_receive`](Self::indicate_receive).
    pub fn indicate_receive_copied(
        &self,
        mut batch: ReceiveBatch,
        flags: ReceiveFlags,
        irql: Irql<'_>,
    ) -> Result<ReceiveBatch, ReceiveBatch> {
        if batch.is_empty() {
            return Ok(batch);
        }
        let Some(indication) = self.begin_indication(&batch, 1) else { return Err(batch) };
        // SAFETY: the NBLs are a null-terminated chain of `length`; with RESOURCES they are lent for the call, during which
        // nobody touches the batch. Afterwards its own links, not NDIS's, say what is in it.
        unsafe {
            indication.run(batch.link(), batch.length, flags.0 | NDIS_RECEIVE_FLAGS_RESOURCES, irql);
        }
        Ok(batch)
    }

    /// Begins `units` of traffic for an indication; `None` if it must not be.
    fn begin_indication(&self, batch: &ReceiveBatch, units: usize) -> Option<Indication<'_>> {
        if batch.header != Some(self.header_ptr()) {
            return None;
        }
        let call = self.header().call()?;
        if self.header().traffic.begin_receive(units) {
            return Some(Indication { handle: self, _call: call });
        }
        // SAFETY: the units just begun are ours; the handle's reference keeps the header.
        unsafe { Header::end_traffic(self.header_ptr(), units) };
        None
    }
}

/// The right to make one indication.
///
/// # Invariants
///
/// Calls are open, and a unit of traffic for the indication is begun.
struct Indication<'a> {
    handle: &'a Handle,
    _call: Entered<'a>,
}

impl Indication<'_> {
    /// # Safety
    ///
    /// `chain` is a null-terminated chain of `length` receive NBLs of this adapter, laid out, given up or, with RESOURCES, lent.
    unsafe fn run(self, chain: *mut NET_BUFFER_LIST, length: ULONG, flags: ULONG, irql: Irql<'_>) {
        let level = if irql.is_dispatch() { NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL } else { 0 };
        // SAFETY: calls are open, so the handle is valid; receive is open, and cannot be reported paused before our unit ends.
        unsafe {
            NdisMIndicateReceiveNetBufferLists(
                self.handle.header().ndis(),
                chain,
                NDIS_DEFAULT_PORT_NUMBER,
                length,
                flags | level,
            );
        }
        // SAFETY: the indication's unit is ours.
        unsafe { Header::end_traffic(self.handle.header_ptr(), 1) };
    }
}

/// Receive buffers that are back: an iterator over them. What is not taken out when it is dropped is freed.
///
/// # Invariants
///
/// Each NBL in `list` was let out by a [`ReceiveBatch`] and is ours again.
pub struct ReturnedChain {
    list: NblList,
}

// SAFETY: as for `ReceiveBuffer`.
unsafe impl Send for ReturnedChain {}
// SAFETY: shared access reads the length.
unsafe impl Sync for ReturnedChain {}

impl ReturnedChain {
    /// # Safety
    ///
    /// `list` is of NBLs that [`Handle::indicate_receive`] gave up and NDIS has just given back.
    pub(crate) unsafe fn from_list(list: NblList) -> Self {
        Self { list }
    }

    /// The number of buffers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.len() == 0
    }
}

impl Iterator for ReturnedChain {
    type Item = ReceiveBuffer;

    fn next(&mut self) -> Option<ReceiveBuffer> {
        let nbl = self.list.pop_front()?;
        // SAFETY: by the invariant, and it has just left the list.
        Some(unsafe { ReceiveBuffer::reclaim(nbl) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl Drop for ReturnedChain {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

impl fmt::Debug for ReturnedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReturnedChain").field("len", &self.len()).finish_non_exhaustive()
    }
}
