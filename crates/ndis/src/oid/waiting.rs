//! [`Waiting`]: nodes that wait for a condition, kept by links of their own, without a lock. Knows nothing of NDIS.
//!
//! # Who may touch what
//!
//! Anybody may add a node, by one exchange of `arrived`. Everything else is for who has the *baton*: looking through the nodes, and
//! taking one out. A node belongs to the list from [`push`](Waiting::push) until it is taken out; who took it owns it alone, for
//! nobody else has a pointer to it: a list that anybody could walk would lead to requests that have been completed meanwhile.
//!
//! # Nobody waits, and nothing is overlooked
//!
//! [`look`](Waiting::look) first counts itself in `calls`. Was the count 0, then this thread has the baton; else somebody else
//! has it, and this call is over: no one waits. The holder gives the baton back by changing `calls` from what it was before it
//! looked to 0. That fails if somebody called meanwhile, and then the holder looks again. So let a condition become true, or a node be
//! added, before a call of `look`. Either that call has the baton itself; or there is a holder, whose exchange reads the count of this
//! call or a later one. A call releases, and all changes of `calls` are read-modify-writes, so that its release sequence ends nowhere: who
//! acquires from a change later in the modification order sees all that was done before the call. So the holder sees the condition and the
//! node, and looks after that.
//!
//! A holder that takes a node out gives the baton back at once, whatever the count, since the node will be completed outside. It owes
//! those that called a look, and all that call it are bound to pay: they call `look` until it finds nothing (see there).
//!
//! [`take`](Waiting::take) does wait for the baton: a cancellation must look itself. Holders are at DISPATCH_LEVEL and call nothing,
//! so that is short. No packet and no request takes this way.
//!
//! The models at the end of this file are for loom; each ordering here has been weakened once to see one of them fail.

use core::ptr::{self, NonNull};

use crate::sync::{AtomicPtr, AtomicUsize, Ordering, UnsafeCell, spin_loop};

/// What can be kept in a [`Waiting`].
///
/// # Safety
///
/// A node has one link, which [`next`](Self::next) reads as [`set_next`](Self::set_next) wrote it last, and nobody else touches.
pub(super) unsafe trait Node {
    /// The link.
    ///
    /// # Safety
    ///
    /// The node is valid, and nobody changes its link meanwhile.
    unsafe fn next(node: NonNull<Self>) -> *mut Self;

    /// Sets the link.
    ///
    /// # Safety
    ///
    /// The node is valid, and nobody else has it.
    unsafe fn set_next(node: NonNull<Self>, next: *mut Self);
}

/// Nodes that wait. IRQL <= DISPATCH_LEVEL; the functions say where DISPATCH_LEVEL is wanted.
///
/// # Invariants
///
/// From `arrived` on, and from the first of `list` on, valid nodes are linked, each in one of both and nowhere else; the list is
/// touched by who has the baton alone, which is who changed `calls` from 0, until it sets it to 0.
pub(super) struct Waiting<N: Node> {
    /// Nodes that were added since somebody looked last, the newest first.
    arrived: AtomicPtr<N>,
    /// Calls of `look` since the baton was given back; 0 if nobody has it.
    calls: AtomicUsize,
    /// All others, the oldest first.
    list: UnsafeCell<List<N>>,
}

struct List<N> {
    first: *mut N,
    last: *mut N,
}

// SAFETY: nodes are given to whatever thread takes them, once, which is sending them.
unsafe impl<N: Node + Send> Send for Waiting<N> {}
// SAFETY: as above; the cell is accessed by one thread at a time, see the invariants.
unsafe impl<N: Node + Send> Sync for Waiting<N> {}

impl<N: Node> Waiting<N> {
    pub(super) fn new() -> Self {
        Self {
            arrived: AtomicPtr::new(ptr::null_mut()),
            calls: AtomicUsize::new(0),
            list: UnsafeCell::new(List { first: ptr::null_mut(), last: ptr::null_mut() }),
        }
    }

    /// Adds a node. Call [`look`](Self::look) afterwards: its condition may have become true before it could be found.
    ///
    /// # Safety
    ///
    /// The node is valid until it is taken out, and nobody else has it.
    pub(super) unsafe fn push(&self, node: NonNull<N>) {
        // Relaxed: the pointer is only written into the link; nothing is read through it here.
        let mut newest = self.arrived.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller's contract.
            unsafe { N::set_next(node, newest) };
            // Release: who takes `arrived` sees the node's contents and link. That the exchange succeeds only with the value that was
            // linked is all that counts: that another node of the same address was there in between does no harm.
            match self.arrived.compare_exchange_weak(
                newest,
                node.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// Takes out the oldest node that `ready` accepts; never waits. DISPATCH_LEVEL, so that a holder of the baton is not held up.
    ///
    /// None means that no node is ready now that was so before the call, or that another thread will look after this call.
    /// Some means that the caller is to call again: what others called for meanwhile is left to it.
    #[must_use]
    pub(super) fn look(&self, mut ready: impl FnMut(NonNull<N>) -> bool) -> Option<NonNull<N>> {
        // AcqRel: "Nobody waits, and nothing is overlooked".
        if self.calls.fetch_add(1, Ordering::AcqRel) != 0 {
            return None;
        }
        // SAFETY: this thread has just changed `calls` from 0 to 1.
        unsafe { self.hold(&mut ready) }
    }

    /// Takes out the oldest node that `wanted` accepts, waiting for the baton. DISPATCH_LEVEL: holders are on other processors.
    ///
    /// None means that there was no such node when the baton was given back. Who called [`look`](Self::look) meanwhile has left it to
    /// this thread, which is to call it too, unless `wanted` accepts all that would.
    #[must_use]
    pub(super) fn take(&self, mut wanted: impl FnMut(NonNull<N>) -> bool) -> Option<NonNull<N>> {
        // Acquire: what was done before the calls that came first, and the list as the last holder left it. This is no call that anybody
        // looks for, so nothing is released. Relaxed: nothing is read after a failure.
        while self.calls.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spin_loop();
        }
        // SAFETY: this thread has just changed `calls` from 0 to 1.
        unsafe { self.hold(&mut wanted) }
    }

    /// Takes out the oldest node that `wanted` accepts, and gives the baton back.
    ///
    /// # Safety
    ///
    /// The caller has the baton, having changed `calls` to 1.
    unsafe fn hold(&self, wanted: &mut impl FnMut(NonNull<N>) -> bool) -> Option<NonNull<N>> {
        let mut seen = 1;
        loop {
            // SAFETY: the caller has the baton.
            if let Some(node) = unsafe { self.first(wanted) } {
                // Release: the next holder sees the list. A swap and not a store, which would end the release sequences of the calls that
                // it overwrites: through it, this thread's next look sees what was done before them.
                self.calls.swap(0, Ordering::Release);
                return Some(node);
            }
            // Release: as above. Acquire: what was done before the calls that came meanwhile is seen when looking again.
            match self.calls.compare_exchange(seen, 0, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes out the oldest node that `wanted` accepts.
    ///
    /// # Safety
    ///
    /// The caller has the baton.
    unsafe fn first(&self, wanted: &mut impl FnMut(NonNull<N>) -> bool) -> Option<NonNull<N>> {
        // Acquire: the nodes that were added, with their links. Relaxed for the store: a null pointer tells nothing.
        let arrived = self.arrived.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: the caller has the baton, so nobody else is at the list. The nodes are valid and in this list alone.
        self.list.with_mut(|list| unsafe {
            let list = &mut *list;
            list.append_reversed(arrived);
            let mut previous = ptr::null_mut();
            let mut node = NonNull::new(list.first)?;
            while !wanted(node) {
                previous = node.as_ptr();
                node = NonNull::new(N::next(node))?;
            }
            list.unlink(NonNull::new(previous), node);
            Some(node)
        })
    }
}

impl<N: Node> List<N> {
    /// Appends nodes that are linked newest first, oldest first.
    ///
    /// # Safety
    ///
    /// The nodes of both lists are valid and the caller's alone.
    unsafe fn append_reversed(&mut self, mut newest: *mut N) {
        let (mut first, last) = (ptr::null_mut(), newest);
        while let Some(node) = NonNull::new(newest) {
            // SAFETY: the caller's contract.
            unsafe {
                newest = N::next(node);
                N::set_next(node, first);
            }
            first = node.as_ptr();
        }
        if first.is_null() {
            return;
        }
        match NonNull::new(self.last) {
            // SAFETY: as above.
            Some(tail) => unsafe { N::set_next(tail, first) },
            None => self.first = first,
        }
        self.last = last;
    }

    /// Takes a node out that comes after `previous`, or first.
    ///
    /// # Safety
    ///
    /// As of `append_reversed`, and the nodes are in the list in this order.
    unsafe fn unlink(&mut self, previous: Option<NonNull<N>>, node: NonNull<N>) {
        // SAFETY: the caller's contract.
        let next = unsafe { N::next(node) };
        match previous {
            // SAFETY: as above.
            Some(previous) => unsafe { N::set_next(previous, next) },
            None => self.first = next,
        }
        if next.is_null() {
            self.last = previous.map_or(ptr::null_mut(), NonNull::as_ptr);
        }
    }
}

#[cfg(all(test, loom))]
#[path = "waiting_models.rs"]
mod models;
