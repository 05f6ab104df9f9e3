//! Offloads of single packets: checksums and large sends, over IPv4.

use etherparse::{Ipv4Header, Ipv4HeaderSlice, PacketBuilder, TcpHeader, TcpSlice};
use ndis_sys::{
    NDIS_OFFLOAD, NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE as ReceiveChecksum,
    NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT as TransmitChecksum,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT as LargeSend, OID_OFFLOAD_ENCAPSULATION,
    OID_TCP_OFFLOAD_PARAMETERS,
};

use super::offload::{NO_CHANGE, ON, encapsulate, with};
use crate::adapter::oid::Oid;
use crate::adapter::receive::Received;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::station::{self, HEADER, Pair, SILENCE, succeed};
use crate::conformance::{Case, Need, Outcome, Stop, check, status_text};
use crate::transport::ethernet;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 36,
        id: "send-checksums",
        area: "OffloadChecksum",
        title: "Checksums are filled in where the out-of-band data ask for it, and nowhere else.",
        page: "offloading-checksum-tasks",
        needs: &[Need::TransmitChecksum, Need::Wire],
        run: send_checksums,
    },
    Case {
        number: 37,
        id: "large-sends",
        area: "OffloadLSO",
        title: "A large send becomes segments of MSS bytes with the headers that its page describes.",
        page: "offloading-the-segmentation-of-large-tcp-packets",
        needs: &[Need::LargeSend, Need::Wire],
        run: large_sends,
    },
    Case {
        number: 38,
        id: "large-sends-malformed",
        area: "OffloadLSO",
        title: "Malformed large sends, and all once they are switched off, put nothing on the wire.",
        page: "offloading-the-segmentation-of-large-tcp-packets",
        needs: &[Need::LargeSend, Need::Wire],
        run: malformed,
    },
    Case {
        number: 45,
        id: "receive-checksums",
        area: "OffloadChecksum",
        title: "Received checksums are told right or wrong once the stack asks for it; bad packets come in all the same.",
        page: "ns-nblchecksum-ndis_tcp_ip_checksum_net_buffer_list_info",
        needs: &[Need::ReceiveChecksum, Need::Wire],
        run: receive_checksums,
    },
];

const A: [u8; 4] = [192, 0, 2, 1];
const B: [u8; 4] = [192, 0, 2, 2];
const IP: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SLOT_CHECKSUM: i32 = ndis_sys::TcpIpChecksumNetBufferListInfo;
pub(super) const SLOT_LARGE: i32 = ndis_sys::TcpLargeSendNetBufferListInfo;

pub(super) fn slot(oob: &[usize], slot: i32) -> usize {
    usize::try_from(slot).map_or(0, |slot| oob[slot])
}

/// Payload that is different at each place.
fn payload(length: usize) -> Vec<u8> {
    (1..=251).cycle().take(length).collect()
}

fn built(result: Result<(), impl std::fmt::Display>) -> Outcome {
    result.map_err(|error| Stop::Failed(error.to_string()))
}

/// A frame of TCP or UDP with right checksums.
fn frame(pair: &Pair<'_>, protocol: u8, payload: &[u8]) -> Outcome<Vec<u8>> {
    let mut packet = Vec::new();
    let ip = PacketBuilder::ipv4(A, B, 64);
    built(match protocol {
        TCP => ip.tcp(1234, 80, 0x0102_0304, 4096).write(&mut packet, payload),
        _ => ip.udp(1234, 53).write(&mut packet, payload),
    })?;
    Ok(ethernet(station::address(&pair.b), station::address(&pair.a), &packet))
}

/// Where the checksum of the transport header lies in a frame.
fn checksum_at(protocol: u8) -> usize {
    HEADER + IP + if protocol == TCP { 16 } else { 6 }
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The sum over the pseudo-header, with a length or, for a large send, without.
fn pseudo_header(protocol: u8, length: usize) -> u16 {
    let words = [A, B].as_flattened().as_chunks().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    fold(words.sum::<u32>() + u32::from(protocol) + u32::try_from(length).unwrap_or(0))
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn send_checksums(context: &Context) -> Outcome {
    let Some(now) = configuration(context)? else { return Ok(()) };
    let bits = now.Checksum.IPv4Transmit.Bits;
    let pair = Pair::new(context)?;
    let base = TransmitChecksum::default().with_IsIPv4(1);
    let offset = u32::try_from(HEADER + IP).unwrap_or(0);
    for protocol in [TCP, UDP] {
        let offered = if protocol == TCP { bits.TcpChecksum() } else { bits.UdpChecksum() };
        for length in [0, 1, 2, 3, 17, 700, 1400] {
            let right = frame(&pair, protocol, &payload(length))?;
            let mut request = base;
            let mut given = right.clone();
            if bits.IpChecksum() != 0 {
                request = request.with_IpHeaderChecksum(1);
                put(&mut given, HEADER + 10, 0xdead);
            }
            if offered != 0 {
                request = if protocol == TCP {
                    request.with_TcpChecksum(1).with_TcpHeaderOffset(offset)
                } else {
                    request.with_UdpChecksum(1)
                };
                put(&mut given, checksum_at(protocol), pseudo_header(protocol, right.len() - HEADER - IP));
            }
            let list = SendNbl::frame(given.clone()).split(&[HEADER, IP, 9]).within(3, 5);
            let received =
                pair.carry(&[list.oob(SLOT_CHECKSUM, request.into_slot().addr())], 1)?.remove(0).frame;
            check!(
                received == station::padded(&right),
                "protocol {protocol}, {length} bytes: checksums of IP {:02x?} and transport {:02x?}, not {:02x?} and {:02x?}",
                &received[HEADER + 10..HEADER + 12],
                &received[checksum_at(protocol)..checksum_at(protocol) + 2],
                &right[HEADER + 10..HEADER + 12],
                &right[checksum_at(protocol)..checksum_at(protocol) + 2]
            );
            // Not asked for: neither family is named.
            let silent =
                TransmitChecksum::default().with_TcpChecksum(1).with_UdpChecksum(1).with_IpHeaderChecksum(1);
            let list = SendNbl::frame(given.clone()).oob(SLOT_CHECKSUM, silent.into_slot().addr());
            let received = pair.carry(&[list], 1)?.remove(0).frame;
            check!(
                received == station::padded(&given),
                "protocol {protocol}, {length} bytes: changed though neither IsIPv4 nor IsIPv6 is set"
            );
        }
    }
    if bits.IpOptionsSupported() != 0 && bits.UdpChecksum() != 0 {
        with_options(&pair, base)?;
    }
    if bits.UdpChecksum() != 0 {
        // A checksum that comes out as zero goes as all ones (RFC 768).
        let zero = frame(&pair, UDP, &[0, 0])?;
        let at = checksum_at(UDP);
        let mut given = zero.clone();
        given[HEADER + IP + 8..HEADER + IP + 10].copy_from_slice(&zero[at..at + 2]);
        put(&mut given, at, pseudo_header(UDP, 10));
        let request = base.with_UdpChecksum(1).into_slot().addr();
        let received = pair.carry(&[SendNbl::frame(given).oob(SLOT_CHECKSUM, request)], 1)?.remove(0).frame;
        check!(
            received[at..at + 2] == [0xff; 2],
            "a UDP checksum that is zero goes as {:02x?}",
            &received[at..at + 2]
        );
    }
    Ok(())
}

/// A UDP packet behind an IPv4 header with options.
fn with_options(pair: &Pair<'_>, base: TransmitChecksum) -> Outcome {
    let plain = frame(pair, UDP, &payload(33))?;
    let mut right = plain.clone();
    // A router alert (RFC 2113).
    right.splice(HEADER + IP..HEADER + IP, [0x94, 4, 0, 0]);
    right[HEADER] = 0x46;
    let total = u16::try_from(right.len() - HEADER).unwrap_or(0);
    put(&mut right, HEADER + 2, total);
    put(&mut right, HEADER + 10, 0);
    let words = right[HEADER..HEADER + IP + 4].as_chunks().0.iter();
    let sum = fold(words.map(|word| u32::from(u16::from_be_bytes(*word))).sum());
    put(&mut right, HEADER + 10, !sum);
    let mut given = right.clone();
    put(&mut given, HEADER + 10, 0xdead);
    put(&mut given, checksum_at(UDP) + 4, pseudo_header(UDP, plain.len() - HEADER - IP));
    let request = base.with_IpHeaderChecksum(1).with_UdpChecksum(1).into_slot().addr();
    let received = pair.carry(&[SendNbl::frame(given).oob(SLOT_CHECKSUM, request)], 1)?.remove(0).frame;
    check!(received == station::padded(&right), "a packet with IPv4 options: a checksum is wrong");
    Ok(())
}

/// What is on by default, as the subject is installed.
fn configuration(context: &Context) -> Outcome<Option<NDIS_OFFLOAD>> {
    Ok(context.facts()?.attributes.offload.map(|offload| offload.default))
}

fn receive_checksums(context: &Context) -> Outcome {
    let Some(now) = configuration(context)? else { return Ok(()) };
    let bits = now.Checksum.IPv4Receive.Bits;
    let pair = Pair::new(context)?;
    let told = |bytes: &[u8]| -> Outcome<ReceiveChecksum> {
        let received = pair.carry(&[SendNbl::frame(bytes)], 1)?.remove(0);
        check!(received.frame == station::padded(bytes), "a frame came in changed");
        Ok(ReceiveChecksum(slot(&received.oob, SLOT_CHECKSUM)))
    };
    let good = frame(&pair, TCP, &payload(101))?;
    let before = told(&good)?;
    check!(
        before.0 == 0,
        "checksums are told ({:#x}) before OID_OFFLOAD_ENCAPSULATION asks for it",
        before.0
    );
    let switch = Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulate(ON, NO_CHANGE));
    succeed(&pair.b, switch, "OID_OFFLOAD_ENCAPSULATION")?;
    for (protocol, offered) in [(TCP, bits.TcpChecksum()), (UDP, bits.UdpChecksum())] {
        for length in [0, 1, 2, 3, 101, 1200] {
            let good = frame(&pair, protocol, &payload(length))?;
            let word = told(&good)?;
            let what = |word: ReceiveChecksum| {
                let all = if protocol == TCP {
                    (word.TcpChecksumSucceeded(), word.TcpChecksumFailed())
                } else {
                    (word.UdpChecksumSucceeded(), word.UdpChecksumFailed())
                };
                (all, (word.IpChecksumSucceeded(), word.IpChecksumFailed()))
            };
            let on = |offered: u32| u32::from(offered != 0);
            let (expect, ip) = (on(offered), on(bits.IpChecksum()));
            check!(
                what(word) == ((expect, 0), (ip, 0)),
                "protocol {protocol}, {length} bytes, all right: slot 0 is {:#x}",
                word.0
            );
            let mut bad = good.clone();
            bad[checksum_at(protocol)] ^= 0x10;
            let word = told(&bad)?;
            check!(
                what(word) == ((0, expect), (ip, 0)),
                "protocol {protocol}, {length} bytes, wrong transport checksum: slot 0 is {:#x}",
                word.0
            );
            let mut bad = good.clone();
            bad[HEADER + 10] ^= 0x10;
            let word = told(&bad)?;
            check!(
                what(word).1 == (0, ip),
                "protocol {protocol}, {length} bytes, wrong IP checksum: slot 0 is {:#x}",
                word.0
            );
        }
    }
    let mut none = frame(&pair, UDP, &payload(20))?;
    put(&mut none, checksum_at(UDP), 0);
    let word = told(&none)?;
    check!(
        word.UdpChecksumSucceeded() == 0 && word.UdpChecksumFailed() == 0,
        "a UDP packet without checksum: slot 0 is {:#x}",
        word.0
    );
    // The transport checksum of a fragment is nobody's to judge.
    let mut fragment = frame(&pair, UDP, &payload(64))?;
    fragment[HEADER + 6] = 0x20;
    let sum = u16::from_be_bytes([fragment[HEADER + 10], fragment[HEADER + 11]]);
    // One's complement: what is added to the header is taken off its checksum (RFC 1624).
    put(&mut fragment, HEADER + 10, !fold(u32::from(!sum) + 0x2000));
    let word = told(&fragment)?;
    check!(
        word.UdpChecksumSucceeded() == 0 && word.UdpChecksumFailed() == 0,
        "a fragment of a UDP packet: slot 0 is {:#x}",
        word.0
    );
    let plain = told(&pair.frame(200, 1))?;
    check!(plain.0 == 0, "a frame that is no IP packet: slot 0 is {:#x}", plain.0);
    Ok(())
}

/// A large send as the stack hands it over, and the header of its first segment.
pub(super) fn large(pair: &Pair<'_>, length: usize) -> Outcome<(Vec<u8>, TcpHeader)> {
    let mut header = TcpHeader::new(1234, 80, u32::MAX - 1500, 4096);
    (header.ack, header.psh, header.fin, header.cwr) = (true, true, true, true);
    built(header.set_options_raw(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]))?;
    let mut ip = Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, A, B)
        .map_err(|error| Stop::Failed(error.to_string()))?;
    ip.identification = 0x7ffe;
    let mut packet = ip.to_bytes().to_vec();
    packet.extend_from_slice(&header.to_bytes());
    packet.extend_from_slice(&payload(length));
    // Total length 0, no IP checksum, and a transport checksum over the pseudo-header without length.
    put(&mut packet, 2, 0);
    put(&mut packet, 10, 0);
    put(&mut packet, IP + 16, pseudo_header(TCP, 0));
    Ok((ethernet(station::address(&pair.b), station::address(&pair.a), &packet), header))
}

fn word(mss: u32) -> LargeSend {
    let offset = u32::try_from(HEADER + IP).unwrap_or(0);
    LargeSend::default().with_MSS(mss).with_TcpHeaderOffset(offset).with_Type(1)
}

fn large_sends(context: &Context) -> Outcome {
    let Some(now) = configuration(context)? else { return Ok(()) };
    let least = now.LsoV2.IPv4.MinSegmentCount.max(2) as usize;
    let pair = Pair::new(context)?;
    let options = context.facts()?.attributes.general.MacOptions;
    let tags = options & ndis_sys::NDIS_MAC_OPTION_8021P_PRIORITY != 0;
    for mss in [536, 1000, 1448] {
        let most = now.LsoV2.IPv4.MaxOffLoadSize as usize;
        for length in [mss * least - 1, mss * least, mss * least + 1, mss * 7 + 3] {
            if length > most {
                continue;
            }
            let (given, header) = large(&pair, length)?;
            let list = SendNbl::frame(given).split(&[HEADER + IP + 32, 1000]);
            let list = list.oob(SLOT_LARGE, word(u32::try_from(mss).unwrap_or(0)).into_slot().addr());
            // Priority 5, no VLAN.
            let tag = if tags && mss == 1000 { 5 } else { 0 };
            let list = list.oob(ndis_sys::Ieee8021QNetBufferListInfo, tag);
            let outcome = pair.send(&[list], SendOptions::default())?.remove(0);
            let segments = station::receive(&pair.b, length.div_ceil(mss), context.patience)?;
            judge_segments(&segments, mss, length, &header)?;
            for segment in &segments {
                let came = slot(&segment.oob, ndis_sys::Ieee8021QNetBufferListInfo);
                check!(
                    came == tag,
                    "a large send with 802.1Q data {tag:#x}: a segment came in with {came:#x}"
                );
            }
            let done = LargeSend(slot(&outcome.oob, SLOT_LARGE));
            check!(
                done.Type() == 1 && done.0 == LargeSend::default().with_Type(1).0,
                "the completed large send has {:#x} in slot 2: Type alone is set",
                done.0
            );
        }
    }
    Ok(())
}

pub(super) fn judge_segments(segments: &[Received], mss: usize, length: usize, first: &TcpHeader) -> Outcome {
    let all = payload(length);
    let count = segments.len();
    for (at, segment) in segments.iter().enumerate() {
        let what = format!("{length} bytes by {mss}, segment {at} of {count}");
        let parsed = |text: &str| Stop::Failed(format!("{what}: {text}"));
        let packet = &segment.frame[HEADER..];
        let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|error| parsed(&error.to_string()))?;
        let end = usize::from(ip.total_len()).min(packet.len());
        let tcp = TcpSlice::from_slice(&packet[IP..end]).map_err(|error| parsed(&error.to_string()))?;
        let start = at * mss;
        let part = &all[start..(start + mss).min(length)];
        check!(
            tcp.payload() == part,
            "{what}: the payload has {} bytes, or is not the right part",
            tcp.payload().len()
        );
        let id = u16::try_from((0x7ffe + at) & 0x7fff).unwrap_or(0);
        check!(
            ip.identification() == id,
            "{what}: IP identification {:#x}, not {id:#x}",
            ip.identification()
        );
        let header = ip.to_header();
        check!(header.calc_header_checksum() == header.header_checksum, "{what}: wrong IP header checksum");
        let mut expect = first.clone();
        expect.sequence_number = first.sequence_number.wrapping_add(u32::try_from(start).unwrap_or(0));
        let last = at + 1 == count;
        (expect.fin, expect.psh, expect.cwr) = (last, last, at == 0);
        expect.checksum =
            expect.calc_checksum_ipv4(&header, part).map_err(|error| parsed(&error.to_string()))?;
        let found = tcp.to_header();
        check!(found == expect, "{what}: TCP header {found:?}, not {expect:?}");
    }
    Ok(())
}

fn malformed(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let (given, _) = large(&pair, 5000)?;
    let max = station::max_frame(&pair.b);
    let silent = |frame: &[u8], large: LargeSend, what: &str| -> Outcome {
        let outcome =
            pair.a.send(&[SendNbl::frame(frame).oob(SLOT_LARGE, large.into_slot().addr())])?.remove(0);
        std::thread::sleep(SILENCE);
        let heard = pair.b.take_received();
        check!(
            heard.is_empty(),
            "{what}: {} frames are on the wire, the longest of {} bytes (of {max}); the send ended with {}",
            heard.len(),
            heard.iter().map(|received| received.frame.len()).max().unwrap_or(0),
            status_text(outcome.status)
        );
        Ok(())
    };
    silent(&given, word(0), "MSS 0")?;
    silent(&given, word(1000).with_TcpHeaderOffset(1000), "TcpHeaderOffset behind the headers")?;
    silent(&given, word(1000).with_TcpHeaderOffset(0), "TcpHeaderOffset 0")?;
    silent(&given[..HEADER + IP + 4], word(1000), "a frame that ends in its TCP header")?;
    let mut udp = given.clone();
    udp[HEADER + 9] = UDP;
    silent(&udp, word(1000), "UDP")?;
    let mut short = given.clone();
    short[HEADER + IP + 12] = 0x10;
    silent(&short, word(1000), "a TCP header of 4 bytes")?;
    let off = Oid::set(OID_TCP_OFFLOAD_PARAMETERS, with("LsoV2IPv4", 1));
    succeed(&pair.a, off, "switching large sends off")?;
    silent(&given, word(1000), "large sends are off")?;
    pair.still_works()
}
