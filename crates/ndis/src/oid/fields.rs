//! Reading NDIS structures from the bytes of a request's buffer.

use core::mem::offset_of;

use ndis_sys::NDIS_OBJECT_HEADER;

use super::SetError;
use crate::status::{Result, Status};

/// Checks the NDIS_OBJECT_HEADER at the start of `buffer` and gives its revision.
///
/// The buffer must hold `size` bytes (else INVALID_LENGTH with the length needed), the type must be `kind`, the revision at
/// least `revision`, and Header.Size between `size` and the buffer's length (else INVALID_DATA).
///
/// # Errors
///
/// As said.
pub fn checked_header(buffer: &[u8], kind: u8, revision: u8, size: usize) -> Result<u8, SetError> {
    if buffer.len() < size {
        return Err(SetError { status: Status::INVALID_LENGTH, needed: size });
    }
    let found = u8_at(buffer, offset_of!(NDIS_OBJECT_HEADER, Revision))?;
    let header_size = usize::from(u16_at(buffer, offset_of!(NDIS_OBJECT_HEADER, Size))?);
    let fits = u8_at(buffer, offset_of!(NDIS_OBJECT_HEADER, Type))? == kind
        && found >= revision
        && (size..=buffer.len()).contains(&header_size);
    if fits { Ok(found) } else { Err(Status::INVALID_DATA.into()) }
}

pub(crate) fn u8_at(buffer: &[u8], offset: usize) -> Result<u8> {
    buffer.get(offset).copied().ok_or(Status::INVALID_LENGTH)
}

fn u16_at(buffer: &[u8], offset: usize) -> Result<u16> {
    bytes_at(buffer, offset).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(buffer: &[u8], offset: usize) -> Result<u32> {
    bytes_at(buffer, offset).map(u32::from_ne_bytes)
}

pub(crate) fn usize_at(buffer: &[u8], offset: usize) -> Result<usize> {
    bytes_at(buffer, offset).map(usize::from_ne_bytes)
}

fn bytes_at<const N: usize>(buffer: &[u8], offset: usize) -> Result<[u8; N]> {
    buffer.get(offset..).and_then(<[u8]>::first_chunk).copied().ok_or(Status::INVALID_LENGTH)
}
