//! Large sends under an SA: segmentation first, then ESP for each segment.

use ndis_sys::NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT as LargeSend;

use super::super::tasks::{self, SLOT_LARGE};
use super::{CRYPTO_DONE, ESP, IP, SLOT_HEADER, SLOT_IPSEC, SPI, Secured, common, monitor, slot};
use crate::adapter::receive::Received;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::station::{self, HEADER};
use crate::conformance::{Outcome, Stop, check};
use crate::transport::{self, IV_LENGTH, ethernet, header_word};

const TCP: u8 = 6;
const PROTOCOL_ESP: u8 = 50;

/// A large send as the stack hands it over: ESP header and IV are there, trailer and ICV are not.
fn framed(plain: &[u8], sequence: u32, iv: u64, excess: u8) -> Vec<u8> {
    let mut frame = plain.to_vec();
    let mut esp = SPI.to_be_bytes().to_vec();
    esp.extend_from_slice(&sequence.to_be_bytes());
    esp.extend_from_slice(&iv.to_be_bytes());
    frame.splice(HEADER + IP..HEADER + IP, esp);
    frame[HEADER + 9] = PROTOCOL_ESP;
    // What PadLength counts is there and goes.
    frame.extend((0..excess).map(|byte| 0xe0 | byte));
    frame
}

pub(super) fn large_sends(context: &Context) -> Outcome {
    let Some(now) = context.facts()?.attributes.offload.map(|offload| offload.default) else { return Ok(()) };
    let least = now.LsoV2.IPv4.MinSegmentCount.max(2) as usize;
    let mut secured = Secured::new(context, common(context)?)?;
    let monitor = monitor(context)?;
    let peer = secured.peer()?;
    let (mut sequence, mut iv) = (1_u32, 0x55_0000_0000_u64);
    for mss in [536_usize, 1000, 1001, 1002, 1003] {
        for (length, excess) in [(mss * least, 0), (mss * least + 1, 6), (mss * 5 - 7, 0)] {
            let (plain, header) = tasks::large(&secured.pair, length)?;
            let frame = framed(&plain, sequence, iv, excess);
            let offset = u32::try_from(HEADER + IP + ESP + IV_LENGTH).unwrap_or(0);
            let word = LargeSend::default()
                .with_MSS(u32::try_from(mss).unwrap_or(0))
                .with_TcpHeaderOffset(offset)
                .with_Type(1);
            let list = SendNbl::frame(frame.clone())
                .split(&[HEADER + IP + ESP + IV_LENGTH + 32, 700])
                .oob(SLOT_LARGE, word.into_slot().addr())
                .oob(SLOT_IPSEC, secured.out.handle)
                .oob(SLOT_HEADER, header_word(TCP, excess));
            let outcome = secured.pair.send(&[list], SendOptions::default())?.remove(0);
            let done = tasks::slot(&outcome.oob, SLOT_LARGE);
            check!(done == 1 << 30, "the completed large send has {done:#x} in slot 2: Type alone is set");
            let count = length.div_ceil(mss);
            let what = format!("{length} bytes by {mss}");
            let mut clear = Vec::new();
            for (at, received) in (0_u32..).zip(station::receive(&secured.pair.b, count, context.patience)?) {
                clear.push(segment(&mut secured, &received, sequence + at, iv + u64::from(at), &what)?);
            }
            tasks::judge_segments(&clear, mss, length, &header)?;
            // Not only the driver's own receiving half: a peer with the key verifies what was on the wire.
            for seen in station::receive(&monitor, count, context.patience)? {
                let total = usize::from(u16::from_be_bytes([seen.frame[HEADER + 2], seen.frame[HEADER + 3]]));
                let esp = seen.frame.get(HEADER + IP..HEADER + total).unwrap_or_default();
                check!(peer.open(esp).is_some(), "{what}: a peer with the key cannot verify a segment");
            }
            let segments = u32::try_from(count).unwrap_or(0);
            (sequence, iv) = (sequence + segments, iv + u64::from(segments));
        }
    }
    Ok(())
}

/// Checks what is ESP's in a segment that came in; gives it without ESP.
fn segment(
    secured: &mut Secured<'_>,
    received: &Received,
    sequence: u32,
    iv: u64,
    what: &str,
) -> Outcome<Received> {
    let esp = &received.frame[HEADER + IP..];
    check!(esp.len() > ESP + IV_LENGTH, "{what}: a segment is no ESP packet");
    let number = u32::from_be_bytes([esp[4], esp[5], esp[6], esp[7]]);
    check!(number == sequence, "{what}: sequence number {number}, not {sequence}");
    let own = &esp[ESP..ESP + IV_LENGTH];
    check!(own == iv.to_be_bytes(), "{what}: IV {own:02x?}, not {iv:#x}");
    let total = usize::from(u16::from_be_bytes([received.frame[HEADER + 2], received.frame[HEADER + 3]]));
    // RFC 4303, section 2.4: the trailer ends on a boundary of four bytes.
    check!(total.is_multiple_of(4), "{what}: a segment's packet has {total} bytes: it is not padded to four");
    let word = slot(received, SLOT_IPSEC);
    check!(word == CRYPTO_DONE, "{what}: a segment came in with {word:#x} in slot 1");
    let indicated =
        transport::Indicated { frame: &received.frame, ipsec: word, header: slot(received, SLOT_HEADER) };
    let got = secured.receiver.receive(indicated);
    let packet = got.map_err(|fault| Stop::Failed(format!("{what}: a segment: {fault}")))?.packet;
    let frame = ethernet(station::address(&secured.pair.b), station::address(&secured.pair.a), &packet);
    Ok(Received { frame, ..received.clone() })
}
