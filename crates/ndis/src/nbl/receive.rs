//! Receives: buffers ([`ReceivePool`], [`ReceiveBuffer`]), indicating them ([`ReceiveBatch`]) and getting them back
//! ([`ReturnedChain`]).
//!
//! A buffer is one NBL with one NET_BUFFER, one MDL and one block of non-paged memory, as Ethernet receives want it. While it is
//! indicated no Rust value gives access to it.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use ndis_sys::{
    IPsecOffloadV2HeaderNetBufferListInfo, IPsecOffloadV2NetBufferListInfo, Ieee8021QNetBufferListInfo, MDL,
    NDIS_DEFAULT_PORT_NUMBER, NDIS_HANDLE, NDIS_NET_BUFFER_LIST_INFO, NDIS_OBJECT_HEADER,
    NDIS_OBJECT_TYPE_DEFAULT, NDIS_PROTOCOL_ID_DEFAULT, NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL,
    NDIS_RECEIVE_FLAGS_RESOURCES, NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NET_BUFFER,
    NET_BUFFER_LIST, NET_BUFFER_LIST_POOL_PARAMETERS, NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
    NdisAllocateMdl, NdisAllocateNetBufferAndNetBufferList, NdisAllocateNetBufferListPool, NdisFreeMdl,
    NdisFreeNetBufferList, NdisFreeNetBufferListPool, NdisMIndicateReceiveNetBufferLists, TRUE,
    TcpIpChecksumNetBufferListInfo, ULONG,
};

use super::list::NblList;
use super::oob::{ChecksumReceive, VlanTag};
use crate::adapter::{Handle, Header};
use crate::ipsec_v2::{IpsecReceive, IpsecReceiveHeader};
use crate::irql::Irql;
use crate::pool::{LAYER_TAG, LayerAlloc};
use crate::status::{Result, Status};

/// What the buffers of a pool have in common. Lives as long as the pool or any of its buffers.
///
/// # Invariants
///
/// `references` counts the [`ReceivePool`] and every [`Block`]; the last one frees the NDIS pool and this.
struct Shared {
    handle: Handle,
    ndis_pool: NDIS_HANDLE,
    capacity: u32,
    layout: Layout,
    references: AtomicUsize,
}

impl Shared {
    /// # Safety
    ///
    /// The caller owns one reference, which goes away.
    unsafe fn release(shared: NonNull<Self>) {
        // SAFETY: the caller's reference keeps it valid until the decrement.
        // Release: what we did with it happens before it is freed.
        if unsafe { (*shared.as_ptr()).references.fetch_sub(1, Ordering::Release) } != 1 {
            return;
        }
        // Pairs with the Release of every other owner.
        fence(Ordering::Acquire);
        // SAFETY: nobody else has a reference; it came from `Box::into_raw` in `ReceivePool::try_new`, with this allocator. All
        // NBLs of the pool are freed, since each had a reference.
        unsafe {
            NdisFreeNetBufferListPool((*shared.as_ptr()).ndis_pool);
            drop(Box::from_raw_in(shared.as_ptr(), LayerAlloc::default()));
        }
    }
}

/// The start of a buffer's memory; the frame's bytes follow it.
///
/// # Invariants
///
/// Lies at the start of an allocation of `Shared::layout`, with `Shared::capacity` initialised bytes from [`Block::DATA`] on. `mdl`
/// describes those bytes; `nbl`, whose MiniportReserved[0] is the block's address, has the one NET_BUFFER `nb`.
#[repr(C, align(16))]
struct Block {
    shared: NonNull<Shared>,
    nbl: *mut NET_BUFFER_LIST,
    nb: *mut NET_BUFFER,
    mdl: *mut MDL,
    /// The next block of a batch: our own link, for NDIS may re-link NBLs that it copies from.
    next: *mut Block,
}

impl Block {
    /// Bytes before the data.
    const DATA: usize = size_of::<Self>();

    /// The block of one of our NBLs.
    ///
    /// # Safety
    ///
    /// `nbl` is the NBL of a live [`Block`].
    unsafe fn of(nbl: *mut NET_BUFFER_LIST) -> NonNull<Self> {
        // SAFETY: MiniportReserved belongs to the miniport that allocated a receive NBL, so it still is the block's address.
        unsafe { NonNull::new_unchecked((*nbl).MiniportReserved[0].cast()) }
    }
}

/// A source of receive buffers of one size.
///
/// The pool is freed when it is dropped and all of its buffers are; keep both in the adapter, which the layer does not drop
/// before every indicated buffer is back.
pub struct ReceivePool {
    shared: NonNull<Shared>,
}

// SAFETY: NDIS's allocation functions may be called on any thread at once; the rest of `Shared` is constant or atomic.
unsafe impl Send for ReceivePool {}
// SAFETY: as above.
unsafe impl Sync for ReceivePool {}

impl ReceivePool {
    /// A pool of buffers of `capacity` bytes, none of them allocated yet. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// RESOURCES; INVALID_PARAMETER for no capacity or more than NDIS can describe; CLOSING if the adapter is halted.
    pub fn try_new(handle: &Handle, capacity: usize) -> Result<Self> {
        let bytes = u32::try_from(capacity).map_err(|_| Status::INVALID_PARAMETER)?;
        if bytes == 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        let size = Block::DATA.checked_add(capacity).ok_or(Status::INVALID_PARAMETER)?;
        let layout =
            Layout::from_size_align(size, align_of::<Block>()).map_err(|_| Status::INVALID_PARAMETER)?;
        let _call = handle.header().call().ok_or(Status::CLOSING)?;
        let mut parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
                Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            },
            ProtocolId: NDIS_PROTOCOL_ID_DEFAULT,
            fAllocateNetBuffer: TRUE,
            ContextSize: 0,
            PoolTag: LAYER_TAG,
            DataSize: 0,
        };
        // SAFETY: calls are open, so the handle is valid; the parameters are complete.
        let ndis_pool = unsafe { NdisAllocateNetBufferListPool(handle.header().ndis(), &raw mut parameters) };
        if ndis_pool.is_null() {
            return Err(Status::RESOURCES);
        }
        let shared = Shared {
            handle: handle.clone(),
            ndis_pool,
            capacity: bytes,
            layout,
            references: AtomicUsize::new(1),
        };
        let Ok(shared) = Box::try_new_in(shared, LayerAlloc::default()) else {
            // SAFETY: the pool was just made and has no NBLs.
            unsafe { NdisFreeNetBufferListPool(ndis_pool) };
            return Err(Status::RESOURCES);
        };
        // SAFETY: a box's pointer is not null.
        Ok(Self { shared: unsafe { NonNull::new_unchecked(Box::into_raw(shared)) } })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the pool owns a reference.
        unsafe { self.shared.as_ref() }
    }

    /// Bytes per buffer.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared().capacity as usize
    }

    /// A new buffer, its bytes zero; `None` when memory is exhausted or the adapter is halted. IRQL <= DISPATCH_LEVEL.
    ///
    /// It takes three allocations: keep buffers that come back rather than dropping them.
    #[must_use]
    pub fn try_allocate(&self) -> Option<ReceiveBuffer> {
        let shared = self.shared();
        let _call = shared.handle.header().call()?;
        let block: NonNull<Block> = LayerAlloc::default().allocate_zeroed(shared.layout).ok()?.cast();
        // SAFETY: the data begins inside the allocation, see `try_new`.
        let data = unsafe { block.cast::<u8>().add(Block::DATA) };
        // SAFETY: calls are open, so the handle is valid; `data` begins `capacity` bytes of non-paged pool.
        let mdl =
            unsafe { NdisAllocateMdl(shared.handle.header().ndis(), data.as_ptr().cast(), shared.capacity) };
        if mdl.is_null() {
            // SAFETY: allocated above with this layout.
            unsafe { LayerAlloc::default().deallocate(block.cast(), shared.layout) };
            return None;
        }
        // SAFETY: the pool is live, and the MDL is one we own.
        let nbl = unsafe { NdisAllocateNetBufferAndNetBufferList(shared.ndis_pool, 0, 0, mdl, 0, 0) };
        if nbl.is_null() {
            // SAFETY: both allocated above and not used by anybody.
            unsafe {
                NdisFreeMdl(mdl);
                LayerAlloc::default().deallocate(block.cast(), shared.layout);
            }
            return None;
        }
        // Relaxed: made from the pool's own reference.
        shared.references.fetch_add(1, Ordering::Relaxed);
        // SAFETY: block and NBL are ours; the NBL came with its NET_BUFFER.
        unsafe {
            block.write(Block {
                shared: self.shared,
                nbl,
                nb: (*nbl).FirstNetBuffer,
                mdl,
                next: ptr::null_mut(),
            });
            (*nbl).MiniportReserved[0] = block.as_ptr().cast();
        }
        Some(ReceiveBuffer { block })
    }
}

impl Drop for ReceivePool {
    fn drop(&mut self) {
        // SAFETY: the pool owns one reference and is not used again.
        unsafe { Shared::release(self.shared) };
    }
}

impl fmt::Debug for ReceivePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivePool").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// A receive buffer that is ours. Dropping it frees NBL, MDL and memory.
///
/// # Invariants
///
/// This value owns the block and all that belongs to it, one reference to its pool included.
pub struct ReceiveBuffer {
    block: NonNull<Block>,
}

// SAFETY: the buffer is owned; NDIS's free functions may be called on any thread.
unsafe impl Send for ReceiveBuffer {}
// SAFETY: shared access reads bytes and constants.
unsafe impl Sync for ReceiveBuffer {}

impl ReceiveBuffer {
    fn block(&self) -> &Block {
        // SAFETY: by the invariant.
        unsafe { self.block.as_ref() }
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the buffer owns a reference to its pool.
        unsafe { self.block().shared.as_ref() }
    }

    /// Bytes in the buffer.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared().capacity as usize
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: the data begins inside the block's allocation.
        unsafe { self.block.cast::<u8>().add(Block::DATA) }.as_ptr()
    }

    /// All of its bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        // SAFETY: by the invariants the block has `capacity` initialised bytes there, and nobody writes them while shared.
        unsafe { slice::from_raw_parts(self.start(), self.capacity()) }
    }

    /// All of its bytes. What a former frame left in them is still there.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`, and `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.start(), self.capacity()) }
    }

    /// The buffer of an NBL that is back, restored to its full length (whoever had it may have moved the data start).
    ///
    /// # Safety
    ///
    /// `nbl` is an NBL that a [`ReceiveBatch`] let out and that is ours again; this is the only value made of it.
    unsafe fn reclaim(nbl: *mut NET_BUFFER_LIST) -> Self {
        // SAFETY: the caller's contract.
        let block = unsafe { Block::of(nbl) };
        let buffer = Self { block };
        let capacity = buffer.shared().capacity;
        // SAFETY: NBL, NET_BUFFER and MDL are ours again.
        unsafe { buffer.lay_out(capacity) };
        buffer
    }

    /// Makes the NET_BUFFER describe the first `length` bytes.
    ///
    /// # Safety
    ///
    /// NBL, NET_BUFFER and MDL are ours, and `length` is no more than the capacity.
    unsafe fn lay_out(&self, length: u32) {
        let Block { nbl, nb, mdl, .. } = *self.block();
        // SAFETY: the caller's contract; all three are valid.
        unsafe {
            (*mdl).Next = ptr::null_mut();
            (*mdl).ByteCount = length;
            (*nb).Next = ptr::null_mut();
            (*nb).MdlChain = mdl;
            (*nb).CurrentMdl = mdl;
            (*nb).CurrentMdlOffset = 0;
            (*nb).DataOffset = 0;
            (*nb).DataLength = length;
            (*nbl).Next = ptr::null_mut();
            (*nbl).FirstNetBuffer = nb;
        }
    }
}

impl Drop for ReceiveBuffer {
    fn drop(&mut self) {
        let Block { shared, nbl, mdl, .. } = *self.block();
        // SAFETY: all of it is ours, and each part is freed once: the NBL (with its NET_BUFFER), the MDL, then the memory that it
        // described, by the layout of its pool, whose reference goes last.
        unsafe {
            (*mdl).ByteCount = (*shared.as_ptr()).capacity;
            NdisFreeNetBufferList(nbl);
            NdisFreeMdl(mdl);
            LayerAlloc::default().deallocate(self.block.cast(), (*shared.as_ptr()).layout);
            Shared::release(shared);
        }
    }
}

impl fmt::Debug for ReceiveBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveBuffer").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

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
        let header = buffer.shared().handle.header_ptr();
        let bytes = match u32::try_from(length) {
            Ok(bytes @ 1..) if bytes <= buffer.shared().capacity => bytes,
            _ => return Err(buffer),
        };
        if self.length == u32::MAX || (self.length != 0 && self.header != Some(header)) {
            return Err(buffer);
        }
        let block = buffer.block.as_ptr();
        mem::forget(buffer);
        // SAFETY: the block is ours, taken out of the buffer, and `bytes` is no more than its capacity; the tail is in this batch.
        unsafe {
            ReceiveBuffer::lay_out(
                &mem::ManuallyDrop::new(ReceiveBuffer { block: NonNull::new_unchecked(block) }),
                bytes,
            );
            let nbl = (*block).nbl;
            (*nbl).SourceHandle = header.as_ref().ndis();
            (*nbl).Status = Status::SUCCESS.raw();
            (*nbl).NblFlags = 0;
            (*nbl).NetBufferListInfo = [ptr::null_mut(); _];
            let set = |index: NDIS_NET_BUFFER_LIST_INFO, value| {
                (*nbl).NetBufferListInfo[usize::try_from(index).unwrap_or_default()] = value;
            };
            set(TcpIpChecksumNetBufferListInfo, oob.checksum.into_slot());
            if let Some(ipsec) = oob.ipsec {
                set(IPsecOffloadV2NetBufferListInfo, ipsec.into_slot());
            }
            if let Some(trailer) = oob.ipsec_header {
                set(IPsecOffloadV2HeaderNetBufferListInfo, trailer.into_slot());
            }
            if let Some(tag) = oob.vlan {
                set(Ieee8021QNetBufferListInfo, tag.into_slot());
            }
            (*block).next = ptr::null_mut();
            if self.tail.is_null() {
                self.head = block;
            } else {
                (*self.tail).next = block;
                (*(*self.tail).nbl).Next = nbl;
            }
        }
        self.tail = block;
        self.length += 1;
        self.header = Some(header);
        Ok(())
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
        let buffer = ReceiveBuffer { block };
        let capacity = buffer.shared().capacity;
        // SAFETY: the buffer is ours.
        unsafe { buffer.lay_out(capacity) };
        Some(buffer)
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
        let (head, length) = (batch.head, batch.length);
        mem::forget(batch);
        // SAFETY: the batch's NBLs are a null-terminated chain of `length`, given up with `forget`.
        unsafe { indication.run((*head).nbl, length, flags.0, irql) };
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
        batch: ReceiveBatch,
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
            indication.run((*batch.head).nbl, batch.length, flags.0 | NDIS_RECEIVE_FLAGS_RESOURCES, irql);
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
    _call: crate::rundown::Entered<'a>,
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
