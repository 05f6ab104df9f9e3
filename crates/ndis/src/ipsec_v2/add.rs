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
use super::node::{Bounds, check_list, next};
use super::sa::{RawSa, SaRequest};
use crate::status::{Result, Status};

/// Bytes of ADD_SA_EX without its key.
pub(super) const ADD_SA_EX_SIZE: usize = NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1 as usize;

/// Offers every element of an ADD_SA list to `add` and stores the handle it gives, or NULL.
///
/// The list's structure (alignment, headers, number of elements) is checked first, and nothing is added if it is wrong; all
/// handles reached are NULL then. An element with wrong contents fails alone.
///
/// Elements may overlap: a handle that is written may then be another element's `Next`. The first walk writes NULL to all
/// handles before it goes on, so the second one finds the elements of the first in their order, but for those that such a NULL
/// has cut off; it never follows a handle (`q.Next` being `p`'s handle, either `q` comes after `p` and ended the first
/// walk too, or it comes before, and the second walk ends at it).
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
    let count = unsafe {
        check_list(first, bounds, |node| {
            // SAFETY: checked elements are ours to write, and aligned.
            (&raw mut (*node).OffloadHandle).write(ptr::null_mut());
        })
    }?;
    let mut node = first;
    let mut added = false;
    let mut failure = None;
    for _ in 0..count {
        if node.is_null() {
            break;
        }
        // SAFETY: one of the `count` elements that were checked above.
        let result = unsafe { parse_element(node, bounds) }.and_then(|request| add(&request));
        match result {
            Ok(handle) => {
                added = true;
                // SAFETY: as above; the request that borrowed the element's key is gone.
                unsafe { (&raw mut (*node).OffloadHandle).write(ptr::without_provenance_mut(handle.get())) };
            }
            Err(status) => failure = failure.or(Some(status)),
        }
        // SAFETY: as above.
        node = unsafe { next(node) };
    }
    if added { Ok(()) } else { Err(failure.unwrap_or(Status::FAILURE).as_failure()) }
}

/// Reads a checked element.
///
/// # Safety
///
/// `node` was checked with `bounds` in this request and has its KeyLength bytes of key, if it lies outside the bounds. They do
/// not change while the result lives.
unsafe fn parse_element<'k>(node: *mut IPSEC_OFFLOAD_V2_ADD_SA, bounds: Bounds) -> Result<SaRequest<'k>> {
    // SAFETY: a checked element is aligned and has readable fields up to KeyLength, for which every bit pattern is valid.
    let (raw, key_length) = unsafe {
        (
            RawSa {
                headers: (*node).NumExtHdrs,
                flags: (*node).Flags,
                endpoints: (*node).Endpoints,
                udp_esp: (*node).UdpEspEncapsulation,
                associations: (*node).SecAssoc,
            },
            (*node).KeyLength as usize,
        )
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
    // SAFETY: the field is in the buffer, which is ours to write.
    unsafe { (&raw mut (*node).OffloadHandle).write(ptr::null_mut()) };
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
