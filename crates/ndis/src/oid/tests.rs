//! Requests of every kind, length and alignment, over memory with guards on both sides.

extern crate std;

use core::ptr::{self, NonNull};
use std::boxed::Box;
use std::vec::Vec;

use ndis_sys::{
    NDIS_OID_REQUEST, NDIS_OID_REQUEST_METHOD, NDIS_OID_REQUEST_QUERY, NDIS_OID_REQUEST_SET,
    NDIS_REQUEST_TYPE, NDIS_STATISTICS_INFO, NdisRequestMethod, NdisRequestQueryInformation,
    NdisRequestSetInformation,
};

use super::{Applied, OidCompletion, OidRequest, Regular, SetError, Statistics};
use crate::status::Status;

const GUARD: u8 = 0xA7;

/// A request over a buffer that begins `misalign` bytes into its memory and has guards on both sides.
struct Sent {
    raw: Box<NDIS_OID_REQUEST>,
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Sent {
    fn new(kind: NDIS_REQUEST_TYPE, input: &[u8], output: usize, misalign: usize) -> Self {
        let start = 8 + misalign;
        let length = input.len().max(output);
        let mut memory = std::vec![GUARD; start + length + 16];
        memory[start..start + input.len()].copy_from_slice(input);
        let mut raw = Box::new(NDIS_OID_REQUEST::zeroed());
        raw.RequestType = kind;
        let buffer = memory[start..].as_mut_ptr().cast();
        let count = |bytes: usize| u32::try_from(bytes).unwrap();
        match kind {
            NdisRequestSetInformation => {
                raw.DATA.SET_INFORMATION = NDIS_OID_REQUEST_SET {
                    Oid: 1,
                    InformationBuffer: buffer,
                    InformationBufferLength: count(input.len()),
                    BytesRead: 77,
                    BytesNeeded: 77,
                };
            }
            NdisRequestMethod => {
                raw.DATA.METHOD_INFORMATION = NDIS_OID_REQUEST_METHOD {
                    Oid: 1,
                    InformationBuffer: buffer,
                    InputBufferLength: count(input.len()),
                    OutputBufferLength: count(output),
                    MethodId: 0,
                    BytesWritten: 77,
                    BytesRead: 77,
                    BytesNeeded: 77,
                };
            }
            _ => {
                raw.DATA.QUERY_INFORMATION = NDIS_OID_REQUEST_QUERY {
                    Oid: 1,
                    InformationBuffer: buffer,
                    InformationBufferLength: count(output),
                    BytesWritten: 77,
                    BytesNeeded: 77,
                };
            }
        }
        Self { raw, memory, start, length }
    }

    fn query(output: usize, misalign: usize) -> Self {
        Self::new(NdisRequestQueryInformation, &[], output, misalign)
    }

    fn set(input: &[u8], misalign: usize) -> Self {
        Self::new(NdisRequestSetInformation, input, 0, misalign)
    }

    fn run(&mut self, answer: impl FnOnce(OidRequest<'_, Regular>) -> OidCompletion<'_, Regular>) -> Status {
        // SAFETY: request and buffer are this test's; the header is only used by a pended request, which no test makes.
        let request = unsafe { OidRequest::from_raw(NonNull::from(&mut *self.raw), NonNull::dangling()) };
        let status = Status::from_raw(answer(request).into_status());
        let (before, rest) = self.memory.split_at(self.start);
        assert!(before.iter().chain(&rest[self.length..]).all(|&byte| byte == GUARD), "wrote out of bounds");
        status
    }

    fn buffer(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    fn query_counts(&self) -> (u32, u32) {
        // SAFETY: a query request's member.
        let query = unsafe { self.raw.DATA.QUERY_INFORMATION };
        (query.BytesWritten, query.BytesNeeded)
    }

    fn set_counts(&self) -> (u32, u32) {
        // SAFETY: a set request's member.
        let set = unsafe { self.raw.DATA.SET_INFORMATION };
        (set.BytesRead, set.BytesNeeded)
    }
}

#[test]
fn answers_of_every_length_at_every_offset() {
    let answer: Vec<u8> = (1..=12).collect();
    for misalign in 0..8 {
        for length in 0..20 {
            let mut sent = Sent::query(length, misalign);
            let status = sent.run(|request| request.answer_bytes(&answer));
            if length < answer.len() {
                assert_eq!((status, sent.query_counts()), (Status::BUFFER_TOO_SHORT, (0, 12)));
                assert!(sent.buffer().iter().all(|&byte| byte == GUARD), "a short buffer stays untouched");
            } else {
                assert_eq!((status, sent.query_counts()), (Status::SUCCESS, (12, 0)));
                assert_eq!(sent.buffer()[..12], answer);
                assert!(sent.buffer()[12..].iter().all(|&byte| byte == GUARD));
            }
        }
    }
}

#[test]
fn counters_in_32_and_64_bits() {
    let value = 0x1122_3344_5566_7788_u64;
    for length in 0..17 {
        let mut sent = Sent::query(length, 3);
        let status = sent.run(|request| request.answer_counter64(value));
        match length {
            0..4 => {
                assert_eq!((status, sent.query_counts()), (Status::BUFFER_TOO_SHORT, (0, 8)));
                assert!(sent.buffer().iter().all(|&byte| byte == GUARD));
            }
            4..8 => {
                assert_eq!((status, sent.query_counts()), (Status::SUCCESS, (4, 8)));
                assert_eq!(sent.buffer()[..4], 0x5566_7788_u32.to_ne_bytes());
            }
            _ => {
                assert_eq!((status, sent.query_counts()), (Status::SUCCESS, (8, 0)));
                assert_eq!(sent.buffer()[..8], value.to_ne_bytes());
            }
        }
    }
}

#[test]
fn statistics_take_152_bytes_and_keep_their_sums() {
    let statistics = Statistics { in_directed_octets: 5, in_broadcast_octets: 7, ..Statistics::default() };
    let mut sent = Sent::query(151, 0);
    assert_eq!(sent.run(|request| request.answer_statistics(&statistics)), Status::BUFFER_TOO_SHORT);
    assert_eq!(sent.query_counts(), (0, 152));
    let mut sent = Sent::query(152, 5);
    assert_eq!(sent.run(|request| request.answer_statistics(&statistics)), Status::SUCCESS);
    assert_eq!(sent.buffer()[..4], [0x80, 1, 152, 0]);
    let octets = core::mem::offset_of!(NDIS_STATISTICS_INFO, ifHCInOctets);
    assert_eq!(sent.buffer()[octets..octets + 8], 12_u64.to_ne_bytes());
}

#[test]
fn sets_of_every_length_at_every_offset() {
    let input: Vec<u8> = (1..=8).collect();
    for misalign in 0..8 {
        for length in 0..=8 {
            for exact in [false, true] {
                let mut sent = Sent::set(&input[..length], misalign);
                let mut seen = None;
                let status = sent.run(|request| {
                    let apply = |value| {
                        seen = Some(value);
                        Ok(())
                    };
                    if exact { request.set_u32_exact(apply) } else { request.set_u32(apply) }
                });
                if length == 4 || (length > 4 && !exact) {
                    assert_eq!((status, sent.set_counts()), (Status::SUCCESS, (4, 0)));
                    assert_eq!(seen, Some(0x0403_0201));
                } else {
                    assert_eq!((status, sent.set_counts()), (Status::INVALID_LENGTH, (0, 4)));
                    assert_eq!(seen, None);
                }
                assert_eq!(sent.buffer(), &input[..length], "a set's buffer is not written");
            }
        }
    }
}

#[test]
fn a_set_reports_what_was_used_and_the_revision() {
    let mut sent = Sent::set(&[0; 10], 0);
    let applied = Applied { read: 6, revision: Some(3) };
    assert_eq!(sent.run(|request| request.set_bytes(|_| Ok::<_, SetError>(applied))), Status::SUCCESS);
    assert_eq!((sent.set_counts(), sent.raw.SupportedRevision), ((6, 0), 3));
    assert_eq!(sent.run(|request| request.set_bytes(|_| Ok::<_, SetError>(11))), Status::SUCCESS);
    assert_eq!(sent.set_counts(), (10, 0), "no more than there was");
    let refused = SetError { status: Status::MULTICAST_FULL, needed: 192 };
    assert_eq!(sent.run(|request| request.set_bytes(|_| Err::<usize, _>(refused))), Status::MULTICAST_FULL);
    assert_eq!(sent.set_counts(), (0, 192));
}

#[test]
fn the_wrong_direction_is_not_supported() {
    let mut query = Sent::query(8, 0);
    assert_eq!(query.run(|request| request.set_u32(|_| panic!("not a set"))), Status::NOT_SUPPORTED);
    assert_eq!(query.query_counts(), (0, 0));
    let mut set = Sent::set(&[0; 8], 0);
    for status in [
        set.run(|request| request.answer_u32(1)),
        set.run(|request| request.answer_counter64(1)),
        set.run(|request| request.answer_bytes(&[])),
    ] {
        assert_eq!(status, Status::NOT_SUPPORTED);
    }
    assert_eq!(set.set_counts(), (0, 0));
    let mut other = Sent::new(8, &[], 8, 0);
    assert_eq!(other.run(|request| request.answer_u32(1)), Status::NOT_SUPPORTED);
}

#[test]
fn methods_have_both_directions() {
    let mut sent = Sent::new(NdisRequestMethod, &[1, 2, 3], 5, 1);
    assert_eq!(
        sent.run(|request| {
            assert_eq!(request.input(), [1, 2, 3]);
            request.answer_u32(9)
        }),
        Status::SUCCESS
    );
    assert_eq!(sent.buffer(), [9, 0, 0, 0, GUARD]);
    // SAFETY: a method request's member.
    let method = unsafe { sent.raw.DATA.METHOD_INFORMATION };
    assert_eq!((method.BytesWritten, method.BytesRead, method.BytesNeeded), (4, 0, 0));
}

#[test]
fn a_null_buffer_has_no_bytes() {
    let mut sent = Sent::query(8, 0);
    sent.raw.DATA.QUERY_INFORMATION.InformationBuffer = ptr::null_mut();
    assert_eq!(sent.run(|request| request.answer_u32(1)), Status::BUFFER_TOO_SHORT);
    let mut sent = Sent::set(&[0; 4], 0);
    sent.raw.DATA.SET_INFORMATION.InformationBuffer = ptr::null_mut();
    assert_eq!(sent.run(|request| request.set_u32(|_| Ok(()))), Status::INVALID_LENGTH);
}

#[test]
fn nothing_is_pending_by_accident() {
    let mut sent = Sent::query(8, 0);
    assert_eq!(sent.run(|request| request.fail(Status::PENDING)), Status::FAILURE);
}
