//! The IPsecOV2 structures, hand-built: truncated, misaligned, cyclic, lying about lengths.

#![allow(clippy::cast_ptr_alignment)] // the buffers are aligned to 16 bytes

extern crate std;

use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr;
use std::boxed::Box;
use std::vec::Vec;

use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA, IPSEC_OFFLOAD_V2_ADD_SA_EX, IPSEC_OFFLOAD_V2_DELETE_SA,
    IPSEC_OFFLOAD_V2_INBOUND, IPSEC_OFFLOAD_V2_IPv6, IPSEC_OFFLOAD_V2_UPDATE_SA, IPsecOffloadV2Ah,
    IPsecOffloadV2Esp, NDIS_OBJECT_TYPE_DEFAULT, ULONG,
};
use proptest::prelude::*;

use super::add::{add_list, add_one};
use super::update::UpdateSa;
use super::{DeleteSaList, Endpoints, IpsecOperation, MAX_SA_KEY, MAX_SA_LIST, SaRequest};
use crate::status::{Result, Status};

/// Memory aligned to 16 bytes, of which a request gets the first `length`; the rest is guard.
struct Buffer {
    words: Vec<u128>,
    length: usize,
}

const GUARD: u8 = 0xA7;

impl Buffer {
    fn new(bytes: &[u8]) -> Self {
        let mut words = std::vec![u128::from_ne_bytes([GUARD; 16]); bytes.len() / 16 + 3];
        // SAFETY: plain bytes of a vector long enough.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), words.as_mut_ptr().cast::<u8>(), bytes.len()) };
        Self { words, length: bytes.len() }
    }

    fn start(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast()
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn assert_guard(&self) {
        assert!(self.bytes()[self.length..].iter().all(|&byte| byte == GUARD), "wrote out of bounds");
    }
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

const KEY: [u8; 20] = [7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Where the fields of the two layouts are.
struct Layout {
    headers: usize,
    flags: usize,
    endpoints: usize,
    handle: usize,
    associations: usize,
    key_length: usize,
}

const ADD: Layout = Layout {
    headers: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, NumExtHdrs),
    flags: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Flags),
    endpoints: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Endpoints),
    handle: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle),
    associations: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, SecAssoc),
    key_length: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyLength),
};
const ADD_KEY: usize = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, KeyData);
const ADD_NEXT: usize = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, Next);

const EX: Layout = Layout {
    headers: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, NumExtHdrs),
    flags: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, Flags),
    endpoints: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, Endpoints),
    handle: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle),
    associations: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, SecAssoc),
    key_length: offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyLength),
};
const EX_KEY_OFFSET: usize = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyOffset);
const EX_SIZE: usize = 170;
/// A handle that was there before: it must not survive a failure.
const STALE: u64 = 0xDEAD_BEEF_DEAD_BEEF;

/// The fields that both layouts have: one inbound ESP AES-GCM-128 SA over IPv4, SPI `spi`.
fn fill(bytes: &mut [u8], layout: &Layout, spi: u32) {
    put(bytes, layout.headers, 1);
    put(bytes, layout.flags, IPSEC_OFFLOAD_V2_INBOUND);
    bytes[layout.endpoints..layout.endpoints + 8].copy_from_slice(&[192, 0, 2, 1, 198, 51, 100, 2]);
    bytes[layout.handle..layout.handle + 8].copy_from_slice(&STALE.to_ne_bytes());
    put(bytes, layout.associations + 4, IPsecOffloadV2Esp.cast_unsigned());
    put(bytes, layout.associations + 8, spi);
    put(bytes, layout.associations + 28, 8); // EncryptionAlgorithm
    put(bytes, layout.associations + 32, 20);
    put(bytes, layout.associations + 44, 0x99); // SequenceNumberHighOrder
    put(bytes, layout.key_length, 20);
}

fn add_element(spi: u32) -> Vec<u8> {
    let mut bytes = std::vec![0; ADD_KEY];
    bytes[..4].copy_from_slice(&[NDIS_OBJECT_TYPE_DEFAULT, 1, 176, 0]);
    fill(&mut bytes, &ADD, spi);
    bytes.extend_from_slice(&KEY);
    bytes
}

fn add_ex() -> Vec<u8> {
    let mut bytes = std::vec![0; EX_SIZE];
    bytes[..4].copy_from_slice(&[NDIS_OBJECT_TYPE_DEFAULT, 1, 170, 0]);
    fill(&mut bytes, &EX, 0x1234);
    put(&mut bytes, EX_KEY_OFFSET, 176);
    bytes.resize(176, 0xFF);
    bytes.extend_from_slice(&KEY);
    bytes
}

fn handle(bytes: &[u8], layout: &Layout) -> u64 {
    u64::from_ne_bytes(bytes[layout.handle..layout.handle + 8].try_into().unwrap())
}

#[allow(clippy::unnecessary_wraps)] // the shape of the driver's function
fn accept(_: &SaRequest<'_>) -> Result<NonZeroUsize> {
    Ok(NonZeroUsize::new(42).unwrap())
}

fn run_ex(bytes: &[u8], add: impl FnOnce(&SaRequest<'_>) -> Result<NonZeroUsize>) -> (Result<()>, Vec<u8>) {
    let mut buffer = Buffer::new(bytes);
    let start = buffer.start();
    // SAFETY: the buffer is this test's, `length` bytes long.
    let result = unsafe { add_one(start, buffer.length, add) };
    buffer.assert_guard();
    (result, buffer.bytes())
}

/// Runs a list of elements, each in memory of its own, linked by Next.
fn run_list(
    elements: &[Vec<u8>],
    add: impl FnMut(&SaRequest<'_>) -> Result<NonZeroUsize>,
) -> (Result<()>, Vec<u64>) {
    let mut buffers: Vec<_> = elements.iter().map(|bytes| Buffer::new(bytes)).collect();
    for index in 1..buffers.len() {
        let next = buffers[index].start().expose_provenance() as u64;
        let start = buffers[index - 1].start();
        // SAFETY: every element has a Next field.
        unsafe { start.byte_add(ADD_NEXT).cast::<u64>().write(next) };
    }
    let (start, length) = (buffers[0].start(), buffers[0].length);
    // SAFETY: the buffers are this test's, and Next pointers point to elements.
    let result = unsafe { add_list(start, length, add) };
    buffers.iter().for_each(Buffer::assert_guard);
    (result, buffers.iter().map(|buffer| handle(&buffer.bytes(), &ADD)).collect())
}

fn check_request(request: &SaRequest<'_>, spi: u32) {
    assert!(request.inbound);
    assert_eq!(request.endpoints, Endpoints::V4 { source: [192, 0, 2, 1], destination: [198, 51, 100, 2] });
    let sa = request.single().expect("one association");
    assert_eq!((sa.operation, sa.spi, sa.sequence_high, sa.esn), (IpsecOperation::Esp, spi, 0x99, false));
    assert_eq!(request.key(&sa.encryption), Ok(&KEY[..]));
}

#[test]
fn add_sa_ex_is_read_and_answered() {
    let (result, bytes) = run_ex(&add_ex(), |request| {
        check_request(request, 0x1234);
        accept(request)
    });
    assert_eq!((result, handle(&bytes, &EX)), (Ok(()), 42));
    let (result, bytes) = run_ex(&add_ex(), |_| Err(Status::RESOURCES));
    assert_eq!((result, handle(&bytes, &EX)), (Err(Status::RESOURCES), 0), "no stale handle after a failure");
    let (result, _) = run_ex(&add_ex(), |_| Err(Status::NOT_ACCEPTED));
    assert_eq!(result, Err(Status::FAILURE), "success severity is no success");
}

#[test]
fn add_sa_ex_of_every_length() {
    let whole = add_ex();
    for length in 0..=whole.len() {
        let (result, after) = run_ex(&whole[..length], accept);
        assert!(length < EX_SIZE || handle(&after, &EX) == if result.is_ok() { 42 } else { 0 }, "{length}");
        let expected = match length {
            0..EX_SIZE => Err(Status::INVALID_LENGTH),
            _ if length < whole.len() => Err(Status::INVALID_PARAMETER), // the key is outside
            _ => Ok(()),
        };
        assert_eq!(result, expected, "{length}");
    }
}

#[test]
fn add_sa_ex_keys_lie_inside_the_buffer_and_outside_the_structure() {
    let end = ULONG::try_from(add_ex().len()).unwrap();
    let limit = ULONG::try_from(MAX_SA_KEY).unwrap();
    for (offset, length, good) in [
        (176, 20, true),
        (170, 20, true),
        (169, 20, false),
        (0, 20, false),
        (177, 20, false),
        (end, 0, true),
        (end + 1, 0, false),
        (0, 0, true),
        (u32::MAX, 20, false),
        (176, u32::MAX, false),
        (u32::MAX, u32::MAX, false),
        (176, limit + 1, false),
    ] {
        let mut bytes = add_ex();
        put(&mut bytes, EX_KEY_OFFSET, offset);
        put(&mut bytes, EX.key_length, length);
        let (result, _) = run_ex(&bytes, accept);
        assert_eq!(result.is_ok(), good, "{offset} {length}: {result:?}");
    }
}

#[test]
fn add_sa_ex_headers_and_numbers() {
    for (at, value, expected) in [
        (0, 0, Status::INVALID_DATA),
        (1, 0, Status::INVALID_DATA),
        (2, 169, Status::INVALID_LENGTH),
        (2, 255, Status::INVALID_LENGTH), // more than the buffer
        (EX.headers, 0, Status::INVALID_PARAMETER),
        (EX.headers, 3, Status::INVALID_PARAMETER),
        (EX.associations + 4, 0, Status::INVALID_PARAMETER),
        (EX.associations + 4, 3, Status::INVALID_PARAMETER),
    ] {
        let mut bytes = add_ex();
        bytes[at] = value;
        let (result, after) = run_ex(&bytes, |_| panic!("must not be offered"));
        assert_eq!(result, Err(expected), "{at} = {value}");
        assert_eq!(handle(&after, &EX), 0, "{at} = {value}");
    }
    let mut later = add_ex();
    later[1] = 2;
    assert_eq!(run_ex(&later, accept).0, Ok(()), "a later revision reads as the first");
}

#[test]
fn add_sa_ex_must_be_aligned() {
    let mut bytes = std::vec![0];
    bytes.extend(add_ex());
    let mut buffer = Buffer::new(&bytes);
    // SAFETY: one byte into the buffer, one byte less.
    let result = unsafe { add_one(buffer.start().add(1), buffer.length - 1, accept) };
    assert_eq!((result, handle(&buffer.bytes()[1..], &EX)), (Err(Status::INVALID_PARAMETER), 0));
}

#[test]
fn key_slices_of_algorithms_are_bounded_by_the_blob() {
    for (offset, length, good) in [
        (0, 20, true),
        (20, 0, true),
        (0, 21, false),
        (1, 20, false),
        (u32::MAX, 1, false),
        (1, u32::MAX, false),
    ] {
        let mut bytes = add_ex();
        put(&mut bytes, EX.associations + 32, length);
        put(&mut bytes, EX.associations + 36, offset);
        let (result, _) = run_ex(&bytes, |request| {
            let sa = request.single().unwrap();
            request.key(&sa.encryption).and_then(|_| accept(request))
        });
        assert_eq!(result.is_ok(), good, "{offset} {length}");
    }
}

#[test]
fn ipv6_and_two_associations() {
    let mut bytes = add_ex();
    put(&mut bytes, EX.flags, IPSEC_OFFLOAD_V2_IPv6);
    for (byte, index) in bytes[EX.endpoints..EX.endpoints + 32].iter_mut().zip(0..) {
        *byte = index;
    }
    put(&mut bytes, EX.headers, 2);
    put(&mut bytes, EX.associations + 48 + 4, IPsecOffloadV2Ah.cast_unsigned());
    put(&mut bytes, EX.associations + 48, 1);
    let (result, _) = run_ex(&bytes, |request| {
        assert!(!request.inbound);
        let Endpoints::V6 { source, destination } = request.endpoints else { panic!("IPv6") };
        assert_eq!((source[0], source[15], destination[0], destination[15]), (0, 15, 16, 31));
        let operations: Vec<_> = request.associations().map(|sa| (sa.operation, sa.esn)).collect();
        assert_eq!(operations, [(IpsecOperation::Esp, false), (IpsecOperation::Ah, true)]);
        assert!(request.single().is_none());
        accept(request)
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn debug_output_has_no_key() {
    run_ex(&add_ex(), |request| {
        let text = std::format!("{request:?}");
        assert!(!text.contains("blob") && !text.contains("[7, 6, 5"), "{text}");
        accept(request)
    })
    .0
    .unwrap();
}

#[test]
fn lists_succeed_in_part() {
    let elements: Vec<_> = (0..4).map(add_element).collect();
    let (result, handles) = run_list(&elements, |request| {
        let spi = request.single().unwrap().spi;
        check_request(request, spi);
        NonZeroUsize::new(spi as usize * 8).ok_or(Status::RESOURCES)
    });
    assert_eq!((result, handles), (Ok(()), std::vec![0, 8, 16, 24]));
    let mut statuses = [Status::RESOURCES, Status::INVALID_DATA].into_iter().cycle();
    let (result, handles) = run_list(&elements, |_| Err(statuses.next().unwrap()));
    assert_eq!((result, handles), (Err(Status::RESOURCES), std::vec![0; 4]), "the first failure's status");
}

#[test]
fn a_bad_element_fails_alone_and_a_bad_list_altogether() {
    for (at, value) in [(ADD.headers, 3), (ADD.key_length, 21), (ADD.key_length, u32::MAX)] {
        let mut elements = std::vec![add_element(1), add_element(2)];
        put(&mut elements[0], at, value);
        let (result, handles) = run_list(&elements, accept);
        assert_eq!((result, handles), (Ok(()), std::vec![0, 42]), "{at} = {value}");
    }
    for (at, value, expected) in
        [(0, 0, Status::INVALID_DATA), (1, 0, Status::INVALID_DATA), (2, 168, Status::INVALID_LENGTH)]
    {
        let mut elements = std::vec![add_element(1), add_element(2)];
        elements[1][at] = value;
        let (result, handles) = run_list(&elements, |_| panic!("must not be offered"));
        assert_eq!((result, handles[0]), (Err(expected), 0), "{at} = {value}");
    }
}

#[test]
fn the_first_element_lies_in_the_buffer() {
    let whole = add_element(1);
    for length in 0..=whole.len() {
        let mut buffer = Buffer::new(&whole[..length]);
        let start = buffer.start();
        // SAFETY: the buffer is this test's, `length` bytes long; Next is null.
        let result = unsafe { add_list(start, buffer.length, accept) };
        buffer.assert_guard();
        assert_eq!(result.is_ok(), length == whole.len(), "{length}");
        assert!(result.is_ok() || result == Err(Status::INVALID_LENGTH));
    }
}

#[test]
fn cycles_and_misaligned_elements_end_the_walk() {
    for target in [0_usize, 4] {
        let mut buffer = Buffer::new(&add_element(1));
        let start = buffer.start();
        // SAFETY: the element has a Next field, here pointing to itself or into itself.
        unsafe { start.byte_add(ADD_NEXT).cast::<*mut u8>().write(start.byte_add(target)) };
        // SAFETY: Next points to an element of this test, or is misaligned.
        let result = unsafe { add_list(start, buffer.length, |_| panic!("must not be offered")) };
        assert_eq!(result, Err(Status::INVALID_PARAMETER));
        assert_eq!(handle(&buffer.bytes(), &ADD), 0);
    }
}

/// Elements that share memory, so that the NULL for one handle, or the handle, is another element's `Next`. Whatever comes of
/// it, no handle is taken for a pointer.
#[test]
fn elements_may_overlap() {
    let handle = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA, OffloadHandle);
    let overlap = handle - ADD_NEXT;
    for backwards in [false, true] {
        let mut bytes = add_element(1);
        bytes.resize(512, 0);
        let mut buffer = Buffer::new(&bytes);
        let start = buffer.start();
        let third = start.wrapping_add(256);
        // The handle of `low` is the link of `high`.
        let (low, high) = (start, start.wrapping_add(overlap));
        let order = if backwards { [high, low, third] } else { [low, high, third] };
        for (index, &node) in order.iter().enumerate() {
            // SAFETY: headers and links of three elements in memory of this test.
            unsafe {
                node.cast::<[u8; 4]>().write([NDIS_OBJECT_TYPE_DEFAULT, 1, 176, 0]);
                let next = order.get(index + 1).copied().unwrap_or(ptr::null_mut());
                node.byte_add(ADD_NEXT).cast::<*mut u8>().write(next);
            }
        }
        let mut offered = 0;
        // SAFETY: links lead to elements of this test, which lie in its memory with their keys.
        let result = unsafe {
            add_list(order[0], 512 - if backwards { overlap } else { 0 }, |_| {
                offered += 1;
                Ok(NonZeroUsize::new(0xF00D_F00D_F00D_F008).unwrap())
            })
        };
        assert!(offered <= 1 && result.is_ok() == (offered == 1), "{backwards}: {result:?}");
    }
}

/// What is written as the handle of one element lies over the KeyLength of another, whose key ends where memory does: neither the
/// handle nor what is kept there before makes the key longer.
#[test]
fn a_handle_makes_no_key_longer() {
    for outer_first in [false, true] {
        for upper in [20, 21, MAX_SA_KEY, MAX_SA_KEY + 1] {
            let mut buffer = Buffer::new(&[add_element(7), std::vec![0; 1024]].concat());
            let first = buffer.start();
            // `outer`'s KeyLength is the upper half of `inner`'s handle.
            let outer = first.wrapping_add(512);
            let inner = outer.wrapping_add(ADD.key_length + 4 - (ADD.handle + 8));
            let order = if outer_first { [first, outer, inner] } else { [first, inner, outer] };
            // SAFETY: elements in memory of this test.
            unsafe {
                outer.copy_from_nonoverlapping(add_element(7).as_ptr(), ADD_KEY);
                inner.copy_from_nonoverlapping(add_element(7).as_ptr(), ADD_NEXT);
                inner.byte_add(ADD.headers).cast::<[u32; 2]>().write([1, IPSEC_OFFLOAD_V2_INBOUND]);
                inner.byte_add(ADD.associations).cast::<[i32; 2]>().write([0, IPsecOffloadV2Esp]);
                for (index, node) in order.iter().enumerate() {
                    let next = order.get(index + 1).copied().unwrap_or(ptr::null_mut());
                    node.byte_add(ADD_NEXT).cast::<*mut u8>().write(next);
                }
                assert_eq!(outer.byte_add(ADD.key_length).cast::<u32>().read(), 20);
            }
            let mut longest = Vec::new();
            // SAFETY: links lead to elements of this test, which lie in its memory with their keys.
            let result = unsafe {
                add_list(first, ADD_KEY + KEY.len(), |request| {
                    let fits = |key_length| {
                        let algorithm = crate::SaAlgorithm { key_length, ..Default::default() };
                        request.key(&algorithm).is_ok()
                    };
                    longest.push((0..2000).rev().find(|&length| fits(length)).unwrap());
                    Ok(NonZeroUsize::new(upper << 32 | 8).unwrap())
                })
            };
            assert!(result.is_ok());
            assert_eq!(longest, [20, 0, 0], "{outer_first}, {upper}");
        }
    }
}

#[test]
fn unknown_flags_ask_for_what_nobody_can_do() {
    for bit in 0..32 {
        let flag = 1 << bit;
        let with = |at: usize, value: u32| {
            let mut bytes = add_ex();
            put(&mut bytes, at, value);
            run_ex(&bytes, accept).0.is_ok()
        };
        let known = IPSEC_OFFLOAD_V2_INBOUND | IPSEC_OFFLOAD_V2_IPv6;
        assert_eq!(with(EX.flags, flag), known & flag != 0, "{flag:#x}");
        assert_eq!(with(EX.associations, flag), flag == 1, "{flag:#x}");
        // Nobody reads the second association of one.
        assert!(with(EX.associations + 48, flag) && with(EX.associations + 52, flag));
    }
}

#[test]
fn sizes_of_elements() {
    for (size, good) in [(0, false), (23, false), (24, true), (25, false), (u16::MAX, false)] {
        let mut elements = delete_elements(&[1], |_| None);
        elements[0].Header.Size = size;
        assert_eq!(delete(&mut elements, 24).is_ok(), good, "{size} in 24 bytes");
    }
    // A longer element of a later revision, in a buffer that has it, and behind the buffer, where nobody knows.
    for length in [24, 48] {
        let mut elements = delete_elements(&[1, 2, 3], |index| (index == 0).then_some(2));
        for element in &mut elements[..] {
            element.Header.Revision = 9;
        }
        elements[0].Header.Size = length;
        elements[2].Header.Size = u16::MAX;
        assert_eq!(delete(&mut elements, usize::from(length)), Ok(std::vec![1, 3]));
    }
    for (size, good) in [(168, false), (169, true), (176, true), (188, true), (189, false)] {
        let mut bytes = add_element(1);
        bytes[2..4].copy_from_slice(&u16::to_ne_bytes(size));
        assert_eq!(run_list(&[bytes], accept).0.is_ok(), good, "{size} in 188 bytes");
    }
}

/// DELETE_SA elements in an array; `next[i]` is the index of the one after `i`.
fn delete_elements(
    handles: &[usize],
    next: impl Fn(usize) -> Option<usize>,
) -> Box<[IPSEC_OFFLOAD_V2_DELETE_SA]> {
    let mut elements: Box<[_]> = handles
        .iter()
        .map(|&handle| {
            let mut element = IPSEC_OFFLOAD_V2_DELETE_SA::zeroed();
            element.Header.Type = NDIS_OBJECT_TYPE_DEFAULT;
            element.Header.Revision = 1;
            element.Header.Size = 24;
            element.OffloadHandle = ptr::without_provenance_mut(handle);
            element
        })
        .collect();
    let base = elements.as_mut_ptr();
    for index in 0..handles.len() {
        let target = next(index).map_or(ptr::null_mut(), |target| base.wrapping_add(target));
        // SAFETY: inside the array; written through the pointer that the links are derived from.
        unsafe { (*base.add(index)).Next = target };
    }
    elements
}

fn delete(elements: &mut [IPSEC_OFFLOAD_V2_DELETE_SA], length: usize) -> Result<Vec<usize>> {
    // SAFETY: the array is this test's; `length` is no more than what it has.
    let list = unsafe { DeleteSaList::new(elements.as_mut_ptr().cast(), length) }?;
    assert_eq!(list.handles().len(), list.len());
    Ok(list.handles().collect())
}

#[test]
fn delete_lists_keep_their_order_and_repetitions() {
    let mut elements =
        delete_elements(&[1, 2, 2, usize::MAX, 0], |index| Some(index + 1).filter(|&next| next < 5));
    assert_eq!(delete(&mut elements, 24), Ok(std::vec![1, 2, 2, usize::MAX, 0]));
    let mut backwards = delete_elements(&[3, 9, 1], |index| [Some(2), None, Some(1)][index]);
    assert_eq!(delete(&mut backwards, 72), Ok(std::vec![3, 1, 9]));
}

#[test]
fn delete_checks_the_whole_list_first() {
    for (index, field, value, expected) in [
        (0, 0, 0, Status::INVALID_DATA),
        (2, 0, 0, Status::INVALID_DATA),
        (2, 1, 0, Status::INVALID_DATA),
        (2, 2, 23, Status::INVALID_LENGTH),
    ] {
        let mut elements = delete_elements(&[1, 2, 3], |index| Some(index + 1).filter(|&next| next < 3));
        let header = &mut elements[index].Header;
        match field {
            0 => header.Type = value,
            1 => header.Revision = value,
            _ => header.Size = value.into(),
        }
        assert_eq!(delete(&mut elements, 24), Err(expected));
    }
    for length in 0..24 {
        let mut elements = delete_elements(&[1], |_| None);
        assert_eq!(delete(&mut elements, length), Err(Status::INVALID_LENGTH));
    }
    // The second element begins in the buffer and does not end there.
    let mut elements = delete_elements(&[1, 2], |index| (index == 0).then_some(1));
    assert_eq!(delete(&mut elements, 47), Err(Status::INVALID_LENGTH));
    assert_eq!(delete(&mut elements, 48), Ok(std::vec![1, 2]));
}

#[test]
fn delete_lists_end_at_the_bound() {
    for cycle in 1..4 {
        let mut elements = delete_elements(&[1, 2, 3], |index| Some((index + 1) % cycle));
        assert_eq!(delete(&mut elements, 24), Err(Status::INVALID_PARAMETER));
    }
    let handles: Vec<_> = (1..=MAX_SA_LIST + 1).collect();
    let last = MAX_SA_LIST - 1;
    let mut longest = delete_elements(&handles, |index| Some(index + 1).filter(|_| index != last));
    assert_eq!(delete(&mut longest, 24).map(|handles| handles.len()), Ok(MAX_SA_LIST));
    let mut too_long = delete_elements(&handles, |index| Some(index + 1).filter(|&next| next <= MAX_SA_LIST));
    assert_eq!(delete(&mut too_long, 24), Err(Status::INVALID_PARAMETER));
}

#[test]
fn update_sa_of_every_length_and_with_bad_fields() {
    let mut bytes = std::vec![0; 32];
    bytes[..4].copy_from_slice(&[NDIS_OBJECT_TYPE_DEFAULT, 1, 28, 0]);
    bytes[8..16].copy_from_slice(&0x1122_3344_5566_7788_u64.to_ne_bytes());
    put(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Operation), IPsecOffloadV2Ah.cast_unsigned());
    put(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Spi), 5);
    put(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, SequenceNumberHighOrder), 6);
    for length in 0..=32 {
        let result = UpdateSa::parse(&bytes[..length]);
        if length < 28 {
            let error = result.unwrap_err();
            assert_eq!((error.status, error.needed), (Status::INVALID_LENGTH, 28));
        } else {
            let update = UpdateSa {
                handle: 0x1122_3344_5566_7788,
                operation: IpsecOperation::Ah,
                spi: 5,
                sequence_high: 6,
            };
            assert_eq!(result, Ok(update));
        }
    }
    put(&mut bytes, offset_of!(IPSEC_OFFLOAD_V2_UPDATE_SA, Operation), 3);
    assert_eq!(UpdateSa::parse(&bytes).unwrap_err().status, Status::INVALID_PARAMETER);
}

proptest! {
    /// Whatever an ADD_SA_EX holds, nothing outside its buffer is read or written (the guard, and any sanitizer, says so), and
    /// success means a handle, failure none.
    #[test]
    fn add_sa_ex_of_any_bytes(
        noise in prop::collection::vec((0..200_usize, any::<u8>()), 0..12),
        words in prop::collection::vec((0..50_usize, any::<u32>()), 0..4),
        length in 0..=196_usize,
    ) {
        let mut bytes = add_ex();
        for (at, value) in noise {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        for (word, value) in words {
            if word * 4 + 4 <= bytes.len() {
                put(&mut bytes, word * 4, value);
            }
        }
        let (result, after) = run_ex(&bytes[..length], |request| {
            for sa in request.associations() {
                let _ = request.key(&sa.authentication);
                let _ = request.key(&sa.encryption);
            }
            accept(request)
        });
        if result.is_ok() {
            prop_assert_eq!(handle(&after, &EX), 42);
        } else if length > 170 && bytes[..2] == [NDIS_OBJECT_TYPE_DEFAULT, 1] && handle(&after, &EX) != 0 {
            prop_assert_eq!(result, Err(Status::INVALID_LENGTH), "only a bad header leaves the handle alone");
        }
    }

    /// Lists of elements anywhere in one array, with any links among them, misaligned ones included.
    #[test]
    fn delete_lists_of_any_shape(
        links in prop::collection::vec((0..8_usize, 0..9_usize), 6),
        bad in prop::option::of((0..6_usize, 0..3_usize)),
    ) {
        let mut elements = delete_elements(&[10, 20, 30, 40, 50, 60], |_| None);
        let base = elements.as_mut_ptr();
        for (index, &(target, shift)) in links.iter().enumerate() {
            // Targets 6 and 7 are "no next"; shifts 1..=7 make the pointer misaligned.
            let next = if target < 6 { base.wrapping_add(target).wrapping_byte_add(shift % 8) } else { ptr::null_mut() };
            // SAFETY: inside the array.
            unsafe { (*base.add(index)).Next = next };
        }
        if let Some((index, field)) = bad {
            let header = &mut elements[index].Header;
            match field {
                0 => header.Type = 1,
                1 => header.Revision = 0,
                _ => header.Size = 8,
            }
        }
        // What the list means, followed by index.
        let mut expected = Vec::new();
        let mut at = Some(0);
        let mut good = true;
        while let Some(index) = at {
            if bad.is_some_and(|(bad, _)| bad == index) || expected.len() > 6 {
                good = false;
                break;
            }
            expected.push((index + 1) * 10);
            let (target, shift) = links[index];
            if target < 6 && shift % 8 != 0 {
                good = false;
                break;
            }
            at = (target < 6).then_some(target);
        }
        let result = delete(&mut elements, 24 * 6);
        if good {
            prop_assert_eq!(result, Ok(expected));
        } else {
            prop_assert!(result.is_err());
        }
    }
}
