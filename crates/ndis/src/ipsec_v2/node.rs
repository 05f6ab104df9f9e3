//! Walking the list elements of ADD_SA and DELETE_SA: where an element may lie and how it is read.
//!
//! The first element lies in the request's buffer, whose length is known. The others are wherever the caller's `Next` pointers
//! say, in kernel memory; the interface promises that they are there, and nothing more can be checked than alignment, header
//! and number. Elements that do lie in the buffer are held to its bounds.

use core::mem::offset_of;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_DELETE_SA, NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1,
    NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1,
};

use super::MAX_SA_LIST;
use crate::status::{Result, Status};

/// A list element: a structure with a header and a `Next` pointer.
///
/// # Safety
///
/// `Self` is `repr(C)`, begins with an NDIS_OBJECT_HEADER and has a `*mut Self` at `NEXT`; `SIZE` bytes include both and
/// consist of fields for which every bit pattern is valid. `Self`'s alignment is that of a pointer.
pub(super) unsafe trait Node: Sized {
    const SIZE: usize;
    const REVISION: u8;
    const NEXT: usize;
}

// SAFETY: by ndis-sys's definition; the size reaches behind Next.
unsafe impl Node for IPSEC_OFFLOAD_V2_ADD_SA {
    const SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1 as usize;
    const REVISION: u8 = NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1;
    const NEXT: usize = offset_of!(Self, Next);
}

// SAFETY: as above.
unsafe impl Node for IPSEC_OFFLOAD_V2_DELETE_SA {
    const SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1 as usize;
    const REVISION: u8 = NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1;
    const NEXT: usize = offset_of!(Self, Next);
}

/// The request's buffer, to hold elements in it to its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    start: usize,
    length: usize,
}

impl Bounds {
    pub(super) fn new(start: *const u8, length: usize) -> Self {
        Self { start: start.addr(), length }
    }

    /// The bytes from `address` to the end of the buffer, if it lies in the buffer.
    pub(super) fn remaining(self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.start)?;
        self.length.checked_sub(offset).filter(|&remaining| remaining != 0)
    }
}

/// Checks one element: INVALID_PARAMETER if it is misaligned, INVALID_LENGTH if the buffer or its header is too short or its
/// header says more than the buffer holds, INVALID_DATA if its type or revision is wrong.
///
/// # Safety
///
/// `node` is in `bounds`, of which all bytes are readable, or it points to a structure with a header whose `N::SIZE` bytes, if
/// the header is `N`'s, are readable.
pub(super) unsafe fn check<N: Node>(node: *const N, bounds: Bounds) -> Result<()> {
    if node.is_null() || !node.is_aligned() {
        return Err(Status::INVALID_PARAMETER);
    }
    let remaining = bounds.remaining(node.addr());
    if remaining.is_some_and(|remaining| remaining < N::SIZE) {
        return Err(Status::INVALID_LENGTH);
    }
    // SAFETY: aligned for N, which is no less than the header's alignment; in bounds as just checked, or readable by the caller's
    // contract.
    let header = unsafe { node.cast::<NDIS_OBJECT_HEADER>().read() };
    if header.Type != NDIS_OBJECT_TYPE_DEFAULT || header.Revision < N::REVISION {
        return Err(Status::INVALID_DATA);
    }
    // The header's comments ask for `sizeof`, which is more than the structure's last field needs, for the size.
    let most = remaining.map_or(usize::MAX, |remaining| remaining.max(size_of::<N>()));
    if !(N::SIZE..=most).contains(&usize::from(header.Size)) {
        return Err(Status::INVALID_LENGTH);
    }
    Ok(())
}

/// The element after a checked one; null at the end.
///
/// # Safety
///
/// `node` passed [`check`] in the same request.
pub(super) unsafe fn next<N: Node>(node: *mut N) -> *mut N {
    // SAFETY: a checked element has SIZE readable bytes, which include Next; a pointer may have any value.
    unsafe { node.byte_add(N::NEXT).cast::<*mut N>().read() }
}

/// Checks every element of the list at `first` and gives their number. A list of more than [`MAX_SA_LIST`] elements, a cyclic
/// one among them, is INVALID_PARAMETER. `visit` sees each element after its own check, also if a later one fails.
///
/// # Safety
///
/// `first` points to the start of `bounds`; every `Next` pointer of an element is null, misaligned, or fit for [`check`].
pub(super) unsafe fn check_list<N: Node>(
    first: *mut N,
    bounds: Bounds,
    mut visit: impl FnMut(*mut N),
) -> Result<usize> {
    if bounds.length < N::SIZE {
        return Err(Status::INVALID_LENGTH);
    }
    let mut node = first;
    let mut count = 0;
    while !node.is_null() {
        if count == MAX_SA_LIST {
            return Err(Status::INVALID_PARAMETER);
        }
        // SAFETY: the caller's contract.
        unsafe { check(node, bounds) }?;
        visit(node);
        count += 1;
        // SAFETY: just checked.
        node = unsafe { next(node) };
    }
    Ok(count)
}

/// Shows `visit` the elements of a list again, `count` of them at most. `visit` may change them.
///
/// # Safety
///
/// In this request [`check_list`] found `count` elements from `first` on, and whatever `visit` changes, each link that it leaves is
/// null or still that to the next one.
pub(super) unsafe fn walk<N: Node>(first: *mut N, count: usize, mut visit: impl FnMut(*mut N)) {
    let mut node = first;
    for _ in 0..count {
        if node.is_null() {
            return;
        }
        visit(node);
        // SAFETY: one of the elements that were checked.
        node = unsafe { next(node) };
    }
}
