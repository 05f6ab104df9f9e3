//! Receive buffers: [`ReceivePool`] and [`ReceiveBuffer`].
//!
//! A buffer is one NBL with one NET_BUFFER, one MDL and one block of non-paged memory, as Ethernet receives want it.

use core::alloc::Layout;
use core::fmt;
use core::mem;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use ndis_sys::{
    MDL, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_PROTOCOL_ID_DEFAULT,
    NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NET_BUFFER, NET_BUFFER_LIST,
    NET_BUFFER_LIST_POOL_PARAMETERS, NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NdisAllocateMdl,
    NdisAllocateNetBufferAndNetBufferList, NdisAllocateNetBufferListPool, NdisFreeMdl, NdisFreeNetBufferList,
    NdisFreeNetBufferListPool, TRUE,
};

use crate::adapter::{Handle, Header};
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
pub(super) struct Block {
    shared: NonNull<Shared>,
    pub(super) nbl: *mut NET_BUFFER_LIST,
    nb: *mut NET_BUFFER,
    mdl: *mut MDL,
    /// The next block of a batch: our own link, for NDIS may re-link NBLs that it copies from.
    pub(super) next: *mut Block,
}

impl Block {
    /// Bytes before the data.
    const DATA: usize = size_of::<Self>();

    /// Makes the NET_BUFFER describe the first `length` bytes, in one MDL.
    ///
    /// # Safety
    ///
    /// The block, NBL, NET_BUFFER and MDL are ours, and `length` is no more than the capacity.
    pub(super) unsafe fn lay_out(block: NonNull<Self>, length: u32) {
        // SAFETY: the caller's contract; all four are valid.
        unsafe {
            let Self { nbl, nb, mdl, .. } = *block.as_ref();
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

    /// The adapter the buffer was allocated for.
    pub(super) fn header(&self) -> NonNull<Header> {
        self.shared().handle.header_ptr()
    }

    /// Gives the block up to the caller.
    pub(super) fn into_block(self) -> NonNull<Block> {
        let block = self.block;
        mem::forget(self);
        block
    }

    /// The buffer of a block, restored to its full length.
    ///
    /// # Safety
    ///
    /// The block came from [`into_block`](Self::into_block), all that belongs to it is ours, and this is the only value made of it.
    pub(super) unsafe fn from_block(block: NonNull<Block>) -> Self {
        let buffer = Self { block };
        // SAFETY: the caller's contract.
        unsafe { Block::lay_out(block, buffer.shared().capacity) };
        buffer
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
    /// `nbl` is an NBL that a [`ReceiveBatch`](super::ReceiveBatch) let out and that is ours again; this is the only value made of
    /// it.
    pub(super) unsafe fn reclaim(nbl: *mut NET_BUFFER_LIST) -> Self {
        // SAFETY: the caller's contract; the batch had the block from `into_block`.
        unsafe { Self::from_block(Block::of(nbl)) }
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
