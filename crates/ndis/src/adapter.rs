//! The adapter context: the block of pool memory NDIS hands back to every callback, and [`Handle`], the driver's way to
//! call NDIS about its adapter.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use allocator_api2::alloc::Allocator;
use ndis_sys::{
    KDPC, KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc, NDIS_HANDLE,
    NDIS_STATUS_INDICATION, NdisMIndicateStatusEx, NdisMPauseComplete, NdisMSendNetBufferListsComplete,
    NdisMSleep, PKDEFERRED_ROUTINE,
};

use crate::irql::Irql;
use crate::pool::LayerAlloc;
use crate::rundown::{Entered, Gate, Traffic};

/// How long to sleep between looks at a counter that has to become 0. Microseconds.
const RUNDOWN_POLL: u32 = 50;

/// The part of the context that does not depend on the driver.
///
/// # Invariants
///
/// * Lives in a pool block of `layout`, at its start, and does not move.
/// * The block is freed when `references` reaches 0. One reference belongs to NDIS (from [`Context::allocate`] to the end of
///   MiniportHaltEx, or of a failed MiniportInitializeEx), one to each [`Handle`].
/// * Units of `traffic`, pended OIDs and pause or reset tokens exist only while NDIS holds its reference: NDIS halts
///   neither an adapter with requests pending nor one that has not finished its pause, and `traffic` delays the pause.
pub(crate) struct Header {
    ndis: NDIS_HANDLE,
    references: AtomicUsize,
    layout: Layout,
    /// Closed until the miniport is in place and again before it is halted: who is inside may use the miniport.
    /// Data-path handlers hold a unit of `traffic` instead.
    pub(crate) handlers: Gate,
    /// Open while NDIS functions may be called on this adapter.
    calls: Gate,
    pub(crate) traffic: Traffic,
    dpc: UnsafeCell<KDPC>,
}

// SAFETY: the NDIS handle may be used from any thread; the counters are atomic; the KDPC is passed to kernel functions
// only, which synchronise on it themselves.
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Sync for Header {}

impl Header {
    /// The handle of the adapter in NDIS.
    pub(crate) fn ndis(&self) -> NDIS_HANDLE {
        self.ndis
    }

    /// Enters the right to call NDIS on this adapter; `None` once it is halting.
    pub(crate) fn call(&self) -> Option<Entered<'_>> {
        self.calls.enter()
    }

    /// Ends `units` of the adapter's traffic and completes a pause that waited for them. IRQL <= DISPATCH_LEVEL, no lock
    /// held.
    ///
    /// # Safety
    ///
    /// `header` is valid, and the caller owns the units.
    pub(crate) unsafe fn end_traffic(header: NonNull<Self>, units: usize) {
        // SAFETY: the units keep the adapter from being halted, so the header is valid up to `end`.
        let ndis = unsafe { (*header.as_ptr()).ndis };
        // SAFETY: as above; `end` touches the header last in its one decisive atomic operation. The reference it works
        // on is derived from the raw field, not held beyond the call.
        let complete = unsafe { (*header.as_ptr()).traffic.end(units) };
        if complete {
            // SAFETY: the driver agreed to the pause (it is armed), nothing is in flight, and we alone took the pause over.
            // The adapter cannot be halted before this call, so its handle is valid.
            unsafe { NdisMPauseComplete(ndis) };
        }
    }

    /// Gives a chain of send NBLs back to NDIS and ends their units of traffic. IRQL <= DISPATCH_LEVEL, no lock held.
    ///
    /// # Safety
    ///
    /// `header` is valid; `chain` is a null-terminated chain of `count` send NBLs of this adapter that the caller owns
    /// with their units of traffic, statuses set. Ownership of both goes away.
    pub(crate) unsafe fn complete_sends(
        header: NonNull<Self>,
        chain: *mut ndis_sys::NET_BUFFER_LIST,
        count: usize,
        irql: Irql<'_>,
    ) {
        let flags = if irql.is_dispatch() { ndis_sys::NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL } else { 0 };
        // SAFETY: the units keep the adapter alive, so the handle is valid; the caller owns the chain.
        unsafe { NdisMSendNetBufferListsComplete((*header.as_ptr()).ndis, chain, flags) };
        // SAFETY: the units are the caller's.
        unsafe { Self::end_traffic(header, count) };
    }

    fn add_reference(&self) {
        // Relaxed: a new reference is made from an existing one, which keeps the block alive.
        self.references.fetch_add(1, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// The caller owns one reference, which goes away; `header` came from [`Context::allocate`].
    unsafe fn release(header: NonNull<Self>) {
        // SAFETY: the caller's reference keeps the header valid until the decrement.
        // Release: what we did with the block happens before it is freed.
        if unsafe { (*header.as_ptr()).references.fetch_sub(1, Ordering::Release) } != 1 {
            return;
        }
        // Pairs with the Release of every other owner.
        fence(Ordering::Acquire);
        // SAFETY: nobody else has a reference, so reading the layout and freeing the block is ours. The miniport was
        // dropped before NDIS's reference went away.
        unsafe {
            let layout = (*header.as_ptr()).layout;
            LayerAlloc::default().deallocate(header.cast(), layout);
        }
    }
}

/// The adapter context of a driver whose adapters are `M`.
#[repr(C)]
pub(crate) struct Context<M> {
    pub(crate) header: Header,
    miniport: UnsafeCell<MaybeUninit<M>>,
}

impl<M> Context<M> {
    /// Allocates a context; NDIS's reference is the caller's. `None` when the pool is exhausted.
    pub(crate) fn allocate(ndis: NDIS_HANDLE, dpc: PKDEFERRED_ROUTINE) -> Option<NonNull<Self>> {
        let layout = Layout::new::<Self>();
        let block: NonNull<Self> = LayerAlloc::default().allocate_zeroed(layout).ok()?.cast();
        let header = Header {
            ndis,
            references: AtomicUsize::new(1),
            layout,
            handlers: Gate::closed(),
            calls: Gate::closed(),
            traffic: Traffic::stopped(),
            // SAFETY: KDPC is a C structure of integers, raw pointers and an optional function pointer: zero is valid.
            dpc: UnsafeCell::new(unsafe { core::mem::zeroed() }),
        };
        // SAFETY: the block has this type's size and alignment and is ours. The miniport stays uninitialised.
        unsafe { (&raw mut (*block.as_ptr()).header).write(header) };
        // SAFETY: the header is initialised and will not move; the KDPC is in non-paged pool. The DPC gets the block's
        // address as its context.
        unsafe {
            KeInitializeDpc((*block.as_ptr()).header.dpc.get(), dpc, block.as_ptr().cast());
            (*block.as_ptr()).header.calls.open();
        }
        Some(block)
    }

    pub(crate) fn header(context: NonNull<Self>) -> NonNull<Header> {
        // The header is the first field of a repr(C) structure.
        context.cast()
    }

    /// Where the miniport is or will be.
    pub(crate) fn miniport(context: NonNull<Self>) -> *mut M {
        // SAFETY: projects to a field of a live block without making a reference to it.
        unsafe { UnsafeCell::raw_get(&raw const (*context.as_ptr()).miniport).cast() }
    }

    /// Lets handlers use the miniport.
    ///
    /// # Safety
    ///
    /// The context is live and its miniport initialised.
    pub(crate) unsafe fn open(context: NonNull<Self>) {
        // SAFETY: the header is initialised.
        let header = unsafe { Self::header(context).as_ref() };
        header.handlers.open();
        header.traffic.start();
    }

    /// Waits until no handler uses the miniport and lets none in. PASSIVE_LEVEL.
    ///
    /// # Safety
    ///
    /// The context is live.
    pub(crate) unsafe fn close_handlers(context: NonNull<Self>) {
        // SAFETY: the header is initialised.
        let header = unsafe { Self::header(context).as_ref() };
        header.handlers.close_and_wait(sleep);
        header.traffic.stop_and_wait(sleep);
    }

    /// Ends all calls into NDIS on this adapter and takes its DPC off the queues. PASSIVE_LEVEL.
    ///
    /// # Safety
    ///
    /// The context is live.
    pub(crate) unsafe fn close_calls(context: NonNull<Self>) {
        // SAFETY: the header is initialised.
        let header = unsafe { Self::header(context).as_ref() };
        header.calls.close_and_wait(sleep);
        // SAFETY: the KDPC was initialised by `allocate`. Nobody queues it any more, so after removing it and waiting for
        // DPCs in progress on all processors (at PASSIVE_LEVEL, as the caller promises) nothing refers to it.
        unsafe {
            KeRemoveQueueDpc(header.dpc.get());
            KeFlushQueuedDpcs();
        }
    }

    /// Drops the miniport.
    ///
    /// # Safety
    ///
    /// The miniport is initialised, nobody uses it and it is not used afterwards.
    pub(crate) unsafe fn drop_miniport(context: NonNull<Self>) {
        // SAFETY: the caller's contract.
        unsafe { ptr::drop_in_place(Self::miniport(context)) };
    }

    /// Gives NDIS's reference up.
    ///
    /// # Safety
    ///
    /// The caller owns NDIS's reference; calls are closed and the miniport is dropped or was never there.
    pub(crate) unsafe fn release(context: NonNull<Self>) {
        // SAFETY: the caller's contract.
        unsafe { Header::release(Self::header(context)) };
    }
}

fn sleep() {
    // SAFETY: callers are at PASSIVE_LEVEL (halt and initialisation), which NdisMSleep requires.
    unsafe { NdisMSleep(RUNDOWN_POLL) };
}

/// The driver's handle of its adapter: everything that calls NDIS about the adapter starts here.
///
/// A handle may outlive the adapter (another adapter may hold one, say): it keeps the context block allocated, and its
/// methods do nothing once the adapter is halted. Drop handles in time: a block that is still referenced when the driver
/// unloads is a leak. Cloning counts a reference, calling costs two atomic additions: amortise over chains.
pub struct Handle {
    header: NonNull<Header>,
}

// SAFETY: `Header` is Sync, and the reference count is atomic.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// # Safety
    ///
    /// The header is live, kept so by a reference somebody owns during this call.
    pub(crate) unsafe fn new(header: NonNull<Header>) -> Self {
        // SAFETY: the caller's contract.
        unsafe { header.as_ref() }.add_reference();
        Self { header }
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the handle owns a reference, and a live header is only accessed shared.
        unsafe { self.header.as_ref() }
    }

    pub(crate) fn header_ptr(&self) -> NonNull<Header> {
        self.header
    }

    /// Queues the adapter's deferred procedure, [`Miniport::deferred`](crate::Miniport::deferred), on the current
    /// processor. True if it was queued; false if it is queued already (it runs once for all such calls, after the last
    /// of them) or the adapter is halted. Before initialisation is done the procedure is taken off the queue without
    /// running. IRQL <= DISPATCH_LEVEL, locks may be held.
    pub fn queue_dpc(&self) -> bool {
        let Some(_call) = self.header().call() else { return false };
        // SAFETY: the KDPC is initialised, in non-paged memory, and stays there while calls are open; `close_calls` takes
        // it off the queues before the block can be freed.
        unsafe { KeInsertQueueDpc(self.header().dpc.get(), ptr::null_mut(), ptr::null_mut()) != 0 }
    }

    /// NdisMIndicateStatusEx.
    pub(crate) fn indicate_status_raw(&self, indication: &mut NDIS_STATUS_INDICATION) {
        let Some(_call) = self.header().call() else { return };
        indication.SourceHandle = self.header().ndis;
        // SAFETY: calls are open, so the handle is valid; the indication and what it points to live through the call.
        unsafe { NdisMIndicateStatusEx(self.header().ndis, indication) };
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        // SAFETY: `self` owns a reference.
        unsafe { Self::new(self.header) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle owns one reference and is not used again.
        unsafe { Header::release(self.header) };
    }
}

impl PartialEq for Handle {
    /// Whether both are handles of one adapter.
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header
    }
}

impl Eq for Handle {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("ndis", &self.header().ndis).finish_non_exhaustive()
    }
}
