//! DELETE_SA: a list of handles, checked whole before anything is deleted (`[oid-tcp-task-ipsec-offload-v2-delete-sa]`).

use core::marker::PhantomData;

use ndis_sys::IPSEC_OFFLOAD_V2_DELETE_SA;

use super::node::{Bounds, check_list, next};
use crate::status::Result;

/// The handles of a DELETE_SA request. Every element is checked: alignment, header, and that the list ends.
///
/// # Invariants
///
/// At `first` begins a list of at least `count` checked elements, which do not change during `'a`.
#[derive(Clone, Copy, Debug)]
pub struct DeleteSaList<'a> {
    first: *mut IPSEC_OFFLOAD_V2_DELETE_SA,
    count: usize,
    request: PhantomData<&'a ()>,
}

impl DeleteSaList<'_> {
    /// # Errors
    ///
    /// INVALID_LENGTH, INVALID_DATA or INVALID_PARAMETER for a malformed list.
    ///
    /// # Safety
    ///
    /// `start` points to `length` readable bytes; every `Next` pointer of an element that passes its checks is null, misaligned, or
    /// points to a readable element of the caller's: a header and, if that is DELETE_SA's, the structure. None of it changes
    /// during the lifetime.
    pub(super) unsafe fn new(start: *mut u8, length: usize) -> Result<Self> {
        let first = start.cast();
        // SAFETY: the caller's contract.
        let count =
            unsafe { check_list::<IPSEC_OFFLOAD_V2_DELETE_SA>(first, Bounds::new(start, length), |_| ()) }?;
        Ok(Self { first, count, request: PhantomData })
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never true: a list has at least the element in the request's buffer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The handles in the list's order. Unknown, stale and repeated ones are for the driver to skip.
    #[must_use]
    pub fn handles(&self) -> DeleteSaHandles<'_> {
        DeleteSaHandles { node: self.first, left: self.count, list: PhantomData }
    }
}

/// Iterator over the handles of a [`DeleteSaList`].
#[derive(Clone, Debug)]
pub struct DeleteSaHandles<'a> {
    node: *mut IPSEC_OFFLOAD_V2_DELETE_SA,
    left: usize,
    list: PhantomData<&'a ()>,
}

impl Iterator for DeleteSaHandles<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: by the list's invariant `node` is one of its checked elements, `left` of which are not consumed yet.
        let handle = unsafe { (*self.node).OffloadHandle };
        // SAFETY: as above.
        self.node = unsafe { next(self.node) };
        Some(handle.addr())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for DeleteSaHandles<'_> {}
