//! Sends: the chain NDIS gives ([`SendChain`]), its lists ([`SendNbl`]), and giving them back ([`CompletedChain`]).
//!
//! Whatever happens to these values, each NBL is completed exactly once: an explicit status wins, a dropped one gets
//! FAILURE. Completing: IRQL <= DISPATCH_LEVEL, no lock held, for NDIS may call the send handler from within.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

use ndis_sys::{
    IPsecOffloadV2HeaderNetBufferListInfo, IPsecOffloadV2NetBufferListInfo,
    IPsecOffloadV2TunnelNetBufferListInfo, Ieee8021QNetBufferListInfo, NDIS_NET_BUFFER_LIST_INFO,
    NET_BUFFER_LIST, NetBufferListCancelId, PVOID, TcpIpChecksumNetBufferListInfo,
    TcpLargeSendNetBufferListInfo,
};

use super::cursor::NetBuffers;
use super::list::NblList;
use super::oob::{ChecksumSend, LargeSend, VlanTag};
use crate::adapter::Header;
use crate::ipsec_v2::{IpsecSend, IpsecSendHeader};
use crate::irql::Irql;
use crate::status::Status;

/// What names sends for cancelling (slot 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CancelId(usize);

impl CancelId {
    pub(crate) fn from_raw(raw: PVOID) -> Self {
        Self(raw.addr())
    }
}

/// One net buffer list to send. Dropped, it is completed with FAILURE.
///
/// # Invariants
///
/// `raw` is a valid NBL that NDIS gave to the adapter of `header` to send; this value owns it, with its unit of traffic, so
/// the adapter is not halted while it lives. Its `Next` is null.
#[must_use = "a send that is dropped fails"]
pub struct SendNbl {
    raw: NonNull<NET_BUFFER_LIST>,
    header: NonNull<Header>,
    owned: PhantomData<NET_BUFFER_LIST>,
}

// SAFETY: an NBL may be processed and completed on any thread; this value is its only owner.
unsafe impl Send for SendNbl {}
// SAFETY: shared access only reads fields that nobody writes meanwhile.
unsafe impl Sync for SendNbl {}

impl SendNbl {
    fn slot(&self, index: NDIS_NET_BUFFER_LIST_INFO) -> PVOID {
        let index = usize::try_from(index).unwrap_or_default();
        // SAFETY: the NBL is valid and ours; the array is read by a copy of one element, bounds checked.
        unsafe { (*self.raw.as_ptr()).NetBufferListInfo[index] }
    }

    /// Its frames, in order. All share the out-of-band data.
    #[must_use]
    pub fn buffers(&self) -> NetBuffers<'_> {
        // SAFETY: the NBL is valid and not completed while `self` is borrowed, and NDIS keeps its NET_BUFFERs till then.
        unsafe { NetBuffers::new((*self.raw.as_ptr()).FirstNetBuffer) }
    }

    /// What IPsec is to do (slots 1, 11, 12).
    #[must_use]
    pub fn ipsec(&self) -> IpsecSend {
        IpsecSend {
            transport: self.slot(IPsecOffloadV2NetBufferListInfo).addr(),
            tunnel: self.slot(IPsecOffloadV2TunnelNetBufferListInfo).addr(),
            header: IpsecSendHeader::from_slot(self.slot(IPsecOffloadV2HeaderNetBufferListInfo)),
        }
    }

    /// Which checksums to compute (slot 0).
    #[must_use]
    pub fn checksum(&self) -> ChecksumSend {
        ChecksumSend::from_slot(self.slot(TcpIpChecksumNetBufferListInfo))
    }

    /// How to segment it (slot 2), or `None`.
    #[must_use]
    pub fn large_send(&self) -> Option<LargeSend> {
        LargeSend::from_slot(self.slot(TcpLargeSendNetBufferListInfo))
    }

    /// Leaves the result of a large send in slot 2: `payload` bytes of TCP payload went out, over all segments. Nothing
    /// happens for an ordinary send.
    pub fn set_large_send_done(&mut self, payload: u32) {
        let Some(large) = self.large_send() else { return };
        let index = usize::try_from(TcpLargeSendNetBufferListInfo).unwrap_or_default();
        // SAFETY: the NBL is valid and ours to write; bounds checked.
        unsafe { (*self.raw.as_ptr()).NetBufferListInfo[index] = large.completion(payload) };
    }

    /// The 802.1Q tag to insert (slot 4), or `None`.
    #[must_use]
    pub fn vlan(&self) -> Option<VlanTag> {
        VlanTag::from_slot(self.slot(Ieee8021QNetBufferListInfo))
    }

    /// What MiniportCancelSend would call it (slot 5).
    #[must_use]
    pub fn cancel_id(&self) -> CancelId {
        CancelId::from_raw(self.slot(NetBufferListCancelId))
    }

    /// Completes this one alone. For more than one use [`CompletedChain`].
    pub fn complete(self, status: Status, irql: Irql<'_>) {
        let mut chain = CompletedChain::new();
        chain.push(self, status);
        chain.complete(irql);
    }

    /// Gives the parts up to the caller.
    fn into_parts(self) -> (NonNull<NET_BUFFER_LIST>, NonNull<Header>) {
        let parts = (self.raw, self.header);
        mem::forget(self);
        parts
    }
}

impl Drop for SendNbl {
    fn drop(&mut self) {
        // SAFETY: the value is being dropped, so its NBL, alone in its chain, and its unit of traffic are ours to give up.
        unsafe {
            (*self.raw.as_ptr()).Status = Status::FAILURE.raw();
            Header::complete_sends(self.header, self.raw.as_ptr(), 1, Irql::UNKNOWN);
        }
    }
}

impl fmt::Debug for SendNbl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendNbl").field("frames", &self.buffers().count()).finish_non_exhaustive()
    }
}

/// A first-in, first-out chain of sends: what a send call brings, or a queue of the driver's.
///
/// It is an iterator over its lists: what is not taken out when it is dropped is completed with FAILURE.
///
/// # Invariants
///
/// Each NBL in `list` is as in [`SendNbl`], all of the adapter of `header`, which is set unless the list is empty.
#[must_use = "sends that are dropped fail"]
pub struct SendChain {
    list: NblList,
    header: Option<NonNull<Header>>,
}

// SAFETY: as for `SendNbl`.
unsafe impl Send for SendChain {}
// SAFETY: as for `SendNbl`.
unsafe impl Sync for SendChain {}

impl SendChain {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { list: NblList::new(), header: None }
    }

    /// # Safety
    ///
    /// `list` is what NDIS has just given to the adapter of `header` to send; one unit of traffic per NBL was begun for the
    /// result to own.
    pub(crate) unsafe fn from_list(list: NblList, header: NonNull<Header>) -> Self {
        Self { list, header: Some(header) }
    }

    /// The number of lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.len() == 0
    }

    /// Takes the first list out.
    pub fn pop_front(&mut self) -> Option<SendNbl> {
        let header = self.header?;
        let raw = NonNull::new(self.list.pop_front()?)?;
        Some(SendNbl { raw, header, owned: PhantomData })
    }

    /// Adds a list at the end.
    ///
    /// # Errors
    ///
    /// The list itself, if it is another adapter's.
    pub fn push_back(&mut self, nbl: SendNbl) -> Result<(), SendNbl> {
        if !self.is_empty() && self.header != Some(nbl.header) {
            return Err(nbl);
        }
        let (raw, header) = nbl.into_parts();
        self.header = Some(header);
        // SAFETY: the NBL is valid, in no list, and now owned by this chain.
        unsafe { self.list.push_back(raw.as_ptr()) };
        Ok(())
    }

    /// Adds all of `other` at the end.
    ///
    /// # Errors
    ///
    /// `other` itself, if it is another adapter's.
    pub fn append(&mut self, mut other: Self) -> Result<(), Self> {
        if other.is_empty() {
            return Ok(());
        }
        if !self.is_empty() && self.header != other.header {
            return Err(other);
        }
        self.header = other.header;
        self.list.append(mem::replace(&mut other.list, NblList::new()));
        Ok(())
    }

    /// Takes out the lists with this cancel id, order kept: what MiniportCancelSend completes with SEND_ABORTED.
    pub fn take_cancelled(&mut self, id: CancelId) -> Self {
        let mut kept = Self::new();
        let mut cancelled = Self::new();
        while let Some(nbl) = self.pop_front() {
            let to = if nbl.cancel_id() == id { &mut cancelled } else { &mut kept };
            // All are of one adapter, so this cannot fail; if it did, the list would be completed.
            let _ = to.push_back(nbl);
        }
        *self = kept;
        cancelled
    }

    /// Completes all of it with one status, in order.
    pub fn complete(mut self, status: Status, irql: Irql<'_>) {
        let mut completed = CompletedChain::new();
        while let Some(nbl) = self.pop_front() {
            completed.push(nbl, status);
        }
        completed.complete(irql);
    }
}

impl Iterator for SendChain {
    type Item = SendNbl;

    fn next(&mut self) -> Option<SendNbl> {
        self.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl Default for SendChain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SendChain {
    fn drop(&mut self) {
        if !self.is_empty() {
            mem::take(self).complete(Status::FAILURE, Irql::UNKNOWN);
        }
    }
}

impl fmt::Debug for SendChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendChain").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Sends that are done, collected so that NDIS gets them back in one call, order kept. Dropped, it gives them back too.
///
/// # Invariants
///
/// Each NBL in `list` is as in [`SendNbl`] and has its status, all of the adapter of `header`, which is set unless the list is
/// empty.
#[must_use]
pub struct CompletedChain {
    list: NblList,
    header: Option<NonNull<Header>>,
}

// SAFETY: as for `SendNbl`.
unsafe impl Send for CompletedChain {}
// SAFETY: as for `SendNbl`.
unsafe impl Sync for CompletedChain {}

impl CompletedChain {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { list: NblList::new(), header: None }
    }

    /// The number of lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.len() == 0
    }

    /// Adds a list with its status. If the chain so far is another adapter's, that is completed first.
    pub fn push(&mut self, nbl: SendNbl, status: Status) {
        if self.header != Some(nbl.header) {
            self.flush(Irql::UNKNOWN);
        }
        let (raw, header) = nbl.into_parts();
        self.header = Some(header);
        // SAFETY: the NBL is valid, in no list, and now owned by this chain.
        unsafe {
            (*raw.as_ptr()).Status = status.as_final().raw();
            self.list.push_back(raw.as_ptr());
        }
    }

    /// NdisMSendNetBufferListsComplete.
    pub fn complete(mut self, irql: Irql<'_>) {
        self.flush(irql);
    }

    fn flush(&mut self, irql: Irql<'_>) {
        let list = mem::replace(&mut self.list, NblList::new());
        if let Some(header) = self.header.take()
            && list.len() != 0
        {
            // SAFETY: by the invariant the chain and its units are ours, and the list, taken out, is given up here.
            unsafe { Header::complete_sends(header, list.head(), list.len(), irql) };
        }
    }
}

impl Default for CompletedChain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for CompletedChain {
    fn drop(&mut self) {
        self.flush(Irql::UNKNOWN);
    }
}

impl fmt::Debug for CompletedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletedChain").field("len", &self.len()).finish_non_exhaustive()
    }
}
