//! DELETE_SA (`oid-tcp-task-ipsec-offload-v2-delete-sa`).
//!
//! The whole list is checked before anything happens (`ndis::ipsec_v2::DeleteSaList`). Then every SA is unpublished, and keys
//! and slots are freed once no packet in progress can still see them: at once if none does, else by the last one,
//! which then completes the pended request ([`PendingDeletes::complete`]). Handles that name no SA are skipped and counted.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ndis::{Direct, OidCompletion, OidPath, OidRequest, PendedQueue, Regular, RequestId, processor};

use crate::{
    adapter::Adapter,
    nic::slots::{GracePeriod, Progress, Slots},
};

/// Requests that wait until the last packet has left their SAs, by the path that they came by.
pub(crate) struct PendingDeletes {
    direct: PendedQueue<Direct, GracePeriod>,
    regular: PendedQueue<Regular, GracePeriod>,
    /// Handles in DELETE_SA lists that named no SA.
    skipped: AtomicU64,
}

/// A path of requests, with the queue of its own.
pub(crate) trait Path: OidPath {
    /// Where requests of this path wait.
    fn queue(pending: &PendingDeletes) -> &PendedQueue<Self, GracePeriod>;
}

impl Path for Direct {
    fn queue(pending: &PendingDeletes) -> &PendedQueue<Self, GracePeriod> {
        &pending.direct
    }
}

impl Path for Regular {
    fn queue(pending: &PendingDeletes) -> &PendedQueue<Self, GracePeriod> {
        &pending.regular
    }
}

impl PendingDeletes {
    /// None waits.
    pub(crate) fn new() -> Self {
        Self { direct: PendedQueue::new(), regular: PendedQueue::new(), skipped: AtomicU64::new(0) }
    }

    /// Ends a cancelled request: `REQUEST_ABORTED`. Its SAs are deleted all the same: they were unpublished before it was
    /// pended.
    pub(crate) fn cancel<K: Path>(&self, slots: &Slots, id: RequestId) {
        K::queue(self).cancel(id, |grace| slots.is_over(*grace));
    }

    /// Ends all of them because of a reset: `REQUEST_ABORTED`, as for a cancelled one.
    pub(crate) fn abort(&self) {
        self.direct.abort();
        self.regular.abort();
    }

    /// Completes the requests whose SAs have been freed, if there was progress. `IRQL <= DISPATCH_LEVEL`, no lock held.
    ///
    /// To be called with every [`Progress`], as the table's protocol for deleting asks.
    pub(crate) fn complete(&self, slots: &Slots, progress: Progress) {
        if progress.ended() {
            self.complete_freed(slots);
        }
    }

    /// As [`complete`](Self::complete), whether or not there was progress.
    fn complete_freed(&self, slots: &Slots) {
        self.direct.complete_if(|grace| slots.is_over(*grace));
        self.regular.complete_if(|grace| slots.is_over(*grace));
    }

    /// Handles in DELETE_SA lists that named no SA.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }
}

/// Deletes the SAs of a list.
pub(super) fn list<'r, K: Path>(adapter: &Adapter, mut request: OidRequest<'r, K>) -> OidCompletion<'r, K> {
    let (slots, pending) = (&adapter.nic.slots, &adapter.pending_deletes);
    let mut deleter = slots.deleter(processor::current());
    match request.delete_sa_list() {
        Ok(list) => list.handles().for_each(|handle| deleter.delete(handle)),
        Err(error) => {
            let _ = deleter.finish();
            return request.fail_needed(error.status, error.needed);
        }
    }
    let (grace, skipped, progress) = deleter.finish();
    // Relaxed: a statistic.
    pending.skipped.fetch_add(skipped.into(), Relaxed);
    pending.complete(slots, progress);
    let Some(grace) = grace else { return request.succeed_delete_sa() };
    pending.complete(slots, slots.try_reclaim());
    if slots.is_over(grace) {
        return request.succeed_delete_sa();
    }
    // Some packet is still at one of the SAs. The order matters (see sa-table, "The protocol"): first the request is
    // where whoever frees the SAs looks for it, then it is tried again. From here on it may be completed at any moment. The
    // last packet may have freed the SAs in between and found nobody who waits: then there is no progress to be made any
    // more, and it is for this thread to see that all is over.
    let (pended, completion) = request.pend();
    if let Err(foreign) = K::queue(pending).push(pended, grace) {
        foreign.cancel(); // another adapter's: NDIS sends none, and the queue has one owner
    }
    let _ = slots.try_reclaim();
    pending.complete_freed(slots);
    completion
}
