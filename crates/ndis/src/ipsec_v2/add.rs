//! ADD_SA (a list, partial success) and ADD_SA_EX (one), in place (`[oid-tcp-task-ipsec-offload-v2-add-sa-ex]`).

use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr;
use core::slice;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_ADD_SA_EX, NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
    NDIS_OBJECT_TYPE_DEFAULT, NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1,
};

use super::MAX_SA_KEY;
use super::node::{Bounds, Node, check_list, walk};
use super::sa::{RawSa, SaRequest};
use crate::status::{Result, Status};

/// Bytes of ADD_SA_EX without its key.
pub(super) const ADD_SA_EX_SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1 as usize;

/// Offers every element of an ADD_SA list to `add` and stores the handle it gives, or NULL.
///
/// The list's structure (alignment, headers, number of elements) is checked first, and nothing is added if it is wrong; all
/// handles reached are NULL then. An element with wrong contents fails alone.
///
/// # Elements that overlap
///
/// No sane list has them, but nothing keeps a caller from it: what is written as the handle of one element may be part of another.
/// Two fields decide which memory is touched, `Next` and `KeyLength`. Three walks see to it that what is read of either is never more
/// than what the caller had put there.
///
/// 1. Each element is checked and its handle made NULL, before the walk goes on.
/// 2. Each element's KeyLength is read, this once, and kept in the element's own handle. Handles are aligned to their size,
///    so no other element's handle lies over that part of one. What is read is the caller's number, or 0 if a handle lies over it:
///    NULL by then, or a length kept there, whose upper half is 0 too.
/// 3. Each element is offered with the length that its handle has kept, and gets its handle.
///
/// The second and third walk find the elements of the first in their order, but for those that a NULL has cut off; they
/// never follow what is kept in a handle. For let `q.Next` be `p`'s handle: either `q` comes after `p` and ended the first walk, and
/// so, by the count, ends the others; or it comes before, and the others end at it, as `p`'s handle is NULL until it is
/// reached.
///
/// # Errors
///
/// What is wrong with the list, or the first element's error if none was added.
///
/// # Safety
///
/// `start` points to `length` bytes that are ours to read and write; every `Next` pointer of an element that passes its checks is
/// null, misaligned, or points to an element of the caller's, ours to read and write for as long as the call lasts: a header,
/// and if that is ADD_SA's, the structure with its KeyLength bytes of key.
pub(super) unsafe fn add_list(
    start: *mut u8,
    length: usize,
    mut add: impl FnMut(&SaRequest<'_>) -> Result<NonZeroUsize>,
) -> Result<()> {
    let bounds = Bounds::new(start, length);
    #[allow(clippy::cast_ptr_alignment)] // checked with each element
    let first = start.cast::<IPSEC_OFFLOAD_V2_ADD_SA>();
    // SAFETY: the caller's contract.
    let count = unsafe { clear_list(start, length) }?;
    // SAFETY: elements of the list just checked; as to their links, see above.
    unsafe { walk(first, count, |node| set_handle(node, (*node).KeyLength as usize)) };
    let mut added = false;
    let mut failure = None;
    let mut offer = |node| {
        // SAFETY: the same elements again. The length is the caller's, or 0.
        let result = unsafe { parse_element(node, bounds, handle(node)) }.and_then(|request| add(&request));
        let handle = match result {
            Ok(handle) => {
                added = true;
                handle.get()
            }
            Err(status) => {
                failure = failure.or(Some(status));
                0
            }
        };
        // SAFETY: as above; the request that borrowed the element's key is gone.
        unsafe { set_handle(node, handle) };
    };
    // SAFETY: as for the second walk.
    unsafe { walk(first, count, &mut offer) };
    if added { Ok(()) } else { Err(failure.unwrap_or(Status::FAILURE).as_failure()) }
}

/// Checks an ADD_SA list and makes all handles reached NULL; gives the number of elements.
///
/// # Errors
///
/// What is wrong with the list.
///
/// # Safety
///
/// As for [`add_list`].
pub(super) unsafe fn clear_list(start: *mut u8, length: usize) -> Result<usize> {
    #[allow(clippy::cast_ptr_alignment)] // checked with each element
    let first = start.cast::<IPSEC_OFFLOAD_V2_ADD_SA>();
    if length >= IPSEC_OFFLOAD_V2_ADD_SA::SIZE {
        // Whatever is wrong with the element: a caller that looks at the handle of a failed request finds none.
        // SAFETY: the field is in the buffer, which is ours to write.
        unsafe { (&raw mut (*first).OffloadHandle).write_unaligned(ptr::null_mut()) };
    }
    // SAFETY: the caller's contract; a checked element is ours to write.
    unsafe { check_list(first, Bounds::new(start, length), |node| set_handle(node, 0)) }
}

/// # Safety
///
/// `node` is a checked element, ours to write.
unsafe fn set_handle(node: *mut IPSEC_OFFLOAD_V2_ADD_SA, handle: usize) {
    // SAFETY: the caller's contract; a checked element is aligned.
    unsafe { (&raw mut (*node).OffloadHandle).write(ptr::without_provenance_mut(handle)) };
}

/// # Safety
///
/// `node` is a checked element.
unsafe fn handle(node: *mut IPSEC_OFFLOAD_V2_ADD_SA) -> usize {
    // SAFETY: the caller's contract; a pointer may have any value.
    unsafe { (*node).OffloadHandle }.addr()
}

/// Reads a checked element with a key of `key_length` bytes.
///
/// # Safety
///
/// `node` was checked with `bounds` in this request and has so many bytes of key, if it lies outside the bounds. They do
/// not change while the result lives.
unsafe fn parse_element<'k>(
    node: *mut IPSEC_OFFLOAD_V2_ADD_SA,
    bounds: Bounds,
    key_length: usize,
) -> Result<SaRequest<'k>> {
    // SAFETY: a checked element is aligned and has readable fields up to KeyLength, for which every bit pattern is valid.
    let raw = unsafe {
        RawSa {
            headers: (*node).NumExtHdrs,
            flags: (*node).Flags,
            endpoints: (*node).Endpoints,
            udp_esp: (*node).UdpEspEncapsulation,
            associations: (*node).SecAssoc,
        }
    };
    if key_length > MAX_SA_KEY {
        return Err(Status::INVALID_LENGTH);
    }
    let key_offset = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyData);
    let outside = bounds
        .remaining(node.addr())
        .is_some_and(|remaining| remaining.checked_sub(key_offset).is_none_or(|room| room < key_length));
    if outside {
        return Err(Status::INVALID_LENGTH);
    }
    // SAFETY: in the buffer the key was just found to fit; elsewhere the caller vouches for it. Nobody writes it meanwhile.
    let blob = unsafe { slice::from_raw_parts(node.cast::<u8>().add(key_offset), key_length) };
    SaRequest::new(&raw, blob)
}

/// Offers the SA of an ADD_SA_EX to `add` and stores the handle it gives, or NULL.
///
/// # Errors
///
/// INVALID_LENGTH, INVALID_DATA or INVALID_PARAMETER for a malformed request, or `add`'s error.
///
/// # Safety
///
/// `start` points to `length` bytes that are ours to read and write while the call lasts.
pub(super) unsafe fn add_one(
    start: *mut u8,
    length: usize,
    add: impl FnOnce(&SaRequest<'_>) -> Result<NonZeroUsize>,
) -> Result<()> {
    #[allow(clippy::cast_ptr_alignment)] // checked below
    let node = start.cast::<IPSEC_OFFLOAD_V2_ADD_SA_EX>();
    if length < ADD_SA_EX_SIZE {
        return Err(Status::INVALID_LENGTH);
    }
    // SAFETY: the caller's contract.
    unsafe { clear_one(start, length) };
    if !node.is_aligned() {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: aligned, and the fields up to VlanId, for which every bit pattern is valid, are in the buffer.
    let (header, raw, key_length, key_offset) = unsafe {
        (
            (*node).Header,
            RawSa {
                headers: (*node).NumExtHdrs,
                flags: (*node).Flags,
                endpoints: (*node).Endpoints,
                udp_esp: (*node).UdpEspEncapsulation,
                associations: (*node).SecAssoc,
            },
            (*node).KeyLength as usize,
            (*node).KeyOffset as usize,
        )
    };
    if header.Type != NDIS_OBJECT_TYPE_DEFAULT || header.Revision < NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1
    {
        return Err(Status::INVALID_DATA);
    }
    if !(ADD_SA_EX_SIZE..=length).contains(&usize::from(header.Size)) {
        return Err(Status::INVALID_LENGTH);
    }
    if key_length > MAX_SA_KEY {
        return Err(Status::INVALID_LENGTH);
    }
    let end = key_offset.checked_add(key_length).ok_or(Status::INVALID_PARAMETER)?;
    if end > length || (key_length != 0 && key_offset < ADD_SA_EX_SIZE) {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: the range lies in the buffer (for no bytes, at or before its end) and behind the structure; nobody writes it
    // while the slice lives.
    let blob = unsafe { slice::from_raw_parts(start.add(key_offset), key_length) };
    let handle = SaRequest::new(&raw, blob).and_then(|request| add(&request)).map_err(Status::as_failure)?;
    // SAFETY: as above; the request that borrowed the key is gone.
    unsafe { (&raw mut (*node).OffloadHandle).write(ptr::without_provenance_mut(handle.get())) };
    Ok(())
}

/// Makes the handle of an ADD_SA_EX NULL if the structure is in the buffer, whatever is wrong with it: a caller that looks at the
/// handle of a failed request finds none.
///
/// # Safety
///
/// As for [`add_one`].
pub(super) unsafe fn clear_one(start: *mut u8, length: usize) {
    if length >= ADD_SA_EX_SIZE {
        #[allow(clippy::cast_ptr_alignment)] // written unaligned
        let node = start.cast::<IPSEC_OFFLOAD_V2_ADD_SA_EX>();
        // SAFETY: the field is in the buffer, which is ours to write.
        unsafe { (&raw mut (*node).OffloadHandle).write_unaligned(ptr::null_mut()) };
    }
}
