//! Checksums and large sends over IPv4.

use ndis_sys::*;

use super::{Config, HEADER, M, is};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| if is(M::OddByteLost) { 0 } else { u32::from(*byte) << 8 });
    words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + last
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Lengths of the IPv4 header and of the packet, if the frame holds one that is no fragment.
fn ipv4(frame: &[u8]) -> Option<(usize, usize)> {
    let ip = frame.get(HEADER..HEADER + 20)?;
    let header = if is(M::OptionsIgnored) { 20 } else { 4 * usize::from(ip[0] & 0xf) };
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let fragment = if is(M::FragmentsJudged) { 0 } else { ip[6] & 0x3f | ip[7] };
    let good = frame[12..14] == [8, 0] && ip[0] >> 4 == 4 && header >= 20 && header <= total;
    (good && fragment == 0 && HEADER + total <= frame.len()).then_some((header, total))
}

fn pseudo_header(frame: &[u8], protocol: u8, length: usize) -> u32 {
    sum(&frame[HEADER + 12..HEADER + 20]) + u32::from(protocol) + length as u32
}

/// Fills in what out-of-band slot 0 asks for.
pub(super) fn fill_in(frame: &mut [u8], info: usize) {
    let info = NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT(info);
    if info.IsIPv4() == 0 && !is(M::ChecksumUnasked) || is(M::ChecksumNotFilled) {
        return;
    }
    let Some((header, total)) = ipv4(frame) else { return };
    if info.IpHeaderChecksum() != 0 {
        put(frame, HEADER + 10, 0);
        let checksum = !fold(sum(&frame[HEADER..HEADER + header]));
        put(frame, HEADER + 10, checksum);
    }
    let start = HEADER + header;
    let (field, least) = match frame[HEADER + 9] {
        TCP if info.TcpChecksum() != 0 => (start + 16, 20),
        UDP if info.UdpChecksum() != 0 => (start + 6, 8),
        _ => return,
    };
    if total < header + least {
        return;
    }
    // The field holds the sum over the pseudo-header.
    let mut checksum = !fold(sum(&frame[start..HEADER + total]));
    if checksum == 0 && frame[HEADER + 9] == UDP && !is(M::UdpZeroSent) {
        checksum = 0xffff;
    }
    put(frame, field, checksum);
}

/// Slot 0 of a received frame.
pub(super) fn verify(frame: &[u8], config: Config, receive_on: bool) -> usize {
    let mut info = NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE(0);
    if !receive_on && !is(M::ChecksumToldEarly) {
        return 0;
    }
    let Some((header, total)) = ipv4(frame) else { return 0 };
    if config.ip & 2 != 0 {
        let right = fold(sum(&frame[HEADER..HEADER + header])) == 0xffff;
        info = if right { info.with_IpChecksumSucceeded(1) } else { info.with_IpChecksumFailed(1) };
    }
    let protocol = frame[HEADER + 9];
    let part = &frame[HEADER + header..HEADER + total];
    let right = fold(sum(part) + pseudo_header(frame, protocol, part.len())) == 0xffff;
    let right = right || is(M::ChecksumFailureNotTold);
    if protocol == TCP && config.tcp & 2 != 0 && part.len() >= 20 {
        info = if right { info.with_TcpChecksumSucceeded(1) } else { info.with_TcpChecksumFailed(1) };
    }
    let none = part.len() >= 8 && part[6..8] == [0, 0] && !is(M::UdpNoneJudged);
    if protocol == UDP && config.udp & 2 != 0 && part.len() >= 8 && !none {
        info = if right { info.with_UdpChecksumSucceeded(1) } else { info.with_UdpChecksumFailed(1) };
    }
    info.0
}

/// Cuts a large send; hands each segment to `send`. `None` if it is malformed.
pub(super) fn segment(frame: &[u8], info: usize, max: usize, mut send: impl FnMut(&mut [u8])) -> Option<()> {
    let info = NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT(info);
    let mut mss = info.MSS() as usize;
    let offset = info.TcpHeaderOffset() as usize;
    let ip = frame.get(HEADER..HEADER + 20)?;
    let header = 4 * usize::from(ip[0] & 0xf);
    let tcp = frame.get(offset..offset + 20)?;
    let tcp_length = 4 * usize::from(tcp[12] >> 4);
    let protocol = ip[9] == TCP || is(M::LargeAnyProtocol);
    if mss == 0 && is(M::LargeMssTrusted) {
        mss = frame.len();
    }
    let all = offset + tcp_length;
    if frame[12..14] != [8, 0]
        || ip[0] >> 4 != 4
        || !protocol
        || offset != HEADER + header
        || tcp_length < 20
        || mss == 0
    {
        return None;
    }
    let payload = frame.get(all..)?;
    if all + mss > max && !is(M::LargeMssTrusted) {
        return None;
    }
    let step = if is(M::LargeStepWrong) { mss + 1 } else { mss };
    let (headers, count) = (&frame[..all], payload.len().div_ceil(step));
    for (at, part) in payload.chunks(step).enumerate() {
        let mut segment = headers.to_vec();
        if is(M::LargeOptionsLost) && at > 0 {
            segment[offset + 20..].fill(1);
        }
        segment.extend_from_slice(part);
        let last = at + 1 == count;
        if last && is(M::LargeLastLost) {
            break;
        }
        let total = (segment.len() - HEADER) as u16;
        if !is(M::LargeLengthKept) {
            put(&mut segment, HEADER + 2, total);
        }
        let id = u16::from_be_bytes([frame[HEADER + 4], frame[HEADER + 5]]).wrapping_add(at as u16);
        put(&mut segment, HEADER + 4, if is(M::LargeIdNotWrapped) { id } else { id & 0x7fff });
        let sequence =
            u32::from_be_bytes([frame[offset + 4], frame[offset + 5], frame[offset + 6], frame[offset + 7]]);
        let step = if is(M::LargeSequenceKept) { 0 } else { (at * mss) as u32 };
        segment[offset + 4..offset + 8].copy_from_slice(&sequence.wrapping_add(step).to_be_bytes());
        if !is(M::LargeFlagsKept) {
            // FIN and PSH in the last, CWR in the first.
            segment[offset + 13] &= !(if last { 0 } else { 0x09 } | if at == 0 { 0 } else { 0x80 });
        }
        put(&mut segment, HEADER + 10, 0);
        let checksum = !fold(sum(&segment[HEADER..HEADER + header]));
        put(&mut segment, HEADER + 10, checksum);
        put(&mut segment, offset + 16, 0);
        let length = segment.len() - offset;
        let checksum = !fold(sum(&segment[offset..]) + pseudo_header(&segment, TCP, length));
        if !is(M::LargeChecksumLeft) {
            put(&mut segment, offset + 16, checksum);
        }
        let padded = segment.len().max(60);
        segment.resize(padded, 0);
        send(&mut segment);
    }
    Some(())
}

/// Cuts a large send under an SA: [MAC][IPv4][ESP][IV][TCP][payload], without trailer and ICV. `trailer` is
/// out-of-band slot 12. `None` if it is malformed.
pub(super) fn segment_esp(frame: &[u8], info: usize, trailer: usize, max: usize) -> Option<Vec<Vec<u8>>> {
    const ESP: usize = 8;
    const IV: usize = 8;
    const ICV: usize = 16;
    let excess = if is(M::LargeEspPadKept) { 0 } else { trailer >> 8 & 0xff };
    let end = frame.len().checked_sub(excess)?;
    let ip = frame.get(HEADER..HEADER + 20)?;
    let at_tcp = HEADER + 20 + ESP + IV;
    let word = NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT(info);
    if ip[0] != 0x45
        || ip[9] != 50
        || trailer & 0xff != usize::from(TCP)
        || word.TcpHeaderOffset() as usize != at_tcp
    {
        return None;
    }
    // As if there were no ESP: the segments of the rest.
    let mut plain = frame[..HEADER + 20].to_vec();
    plain[9 + HEADER] = TCP;
    plain.extend_from_slice(frame.get(at_tcp..end)?);
    let offset = (HEADER + 20) as u32;
    let inner = NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT::default()
        .with_MSS(word.MSS())
        .with_TcpHeaderOffset(offset)
        .with_Type(1);
    let mut segments = Vec::new();
    segment(&plain, inner.0, max, |part| segments.push(part.to_vec()))?;
    let (esp, iv) = (&frame[HEADER + 20..HEADER + 24], &frame[HEADER + 28..HEADER + 36]);
    let sequence = u32::from_be_bytes(frame[HEADER + 24..HEADER + 28].try_into().ok()?);
    let iv = u64::from_be_bytes(iv.try_into().ok()?);
    for (at, part) in segments.iter_mut().enumerate() {
        let total = usize::from(u16::from_be_bytes([part[HEADER + 2], part[HEADER + 3]]));
        let payload = part[HEADER + 20..HEADER + total].to_vec();
        part.truncate(HEADER + 20);
        let step = if is(M::LargeEspNumberKept) { 0 } else { at as u32 };
        let next_iv = if is(M::LargeEspIvKept) { iv } else { iv + at as u64 };
        part.extend_from_slice(esp);
        part.extend_from_slice(&(sequence + step).to_be_bytes());
        part.extend_from_slice(&next_iv.to_be_bytes());
        part.extend_from_slice(&payload);
        let pad = if is(M::LargeEspNotPadded) { 0 } else { (4 - (payload.len() + 2) % 4) % 4 };
        part.extend(1..=pad as u8);
        part.extend_from_slice(&[pad as u8, TCP]);
        part.extend_from_slice(&[0; ICV]);
        let total = if is(M::LargeEspLengthKept) { total } else { part.len() - HEADER };
        put(part, HEADER + 2, total as u16);
        part[HEADER + 9] = 50;
        put(part, HEADER + 10, 0);
        let checksum = !fold(sum(&part[HEADER..HEADER + 20]));
        put(part, HEADER + 10, checksum);
    }
    Some(segments)
}
