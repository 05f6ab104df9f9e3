//! Judges what a miniport indicates for an inbound SA, and takes the ESP frame apart again.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header};
use ndis_sys::{
    NDIS_ETH_TYPE_IPV4, NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE as ReceiveHeader,
    NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE as ReceiveIpsec,
};

use super::frame::{ESP_HEADER_LENGTH, ESP_TRAILER_LENGTH, ICV_LENGTH, IV_LENGTH};
use super::{ETHERNET_HEADER_LENGTH, PROTOCOL_ESP, ReplayWindow, TransportSa};

/// A frame that a miniport indicated, with its out-of-band words.
#[derive(Clone, Copy, Debug)]
pub struct Indicated<'a> {
    /// The Ethernet frame.
    pub frame: &'a [u8],
    /// Slot 1: what the NIC did.
    pub ipsec: usize,
    /// Slot 12: what it found in the ESP trailer.
    pub header: usize,
}

/// What the receiving stack got out of an indicated frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The IP packet without ESP: protocol, total length and checksum are those of the original.
    pub packet: Vec<u8>,
    /// The SA it came in on.
    pub spi: u32,
    /// Its sequence number.
    pub sequence: u32,
}

/// Why the stack would drop an indicated frame. In the order in which it is checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveFault {
    /// Shorter than its headers, or not IPv4 at all.
    #[error("not an IPv4 frame of {0} bytes")]
    NotIpv4(usize),
    /// The IPv4 header of an ESP packet is damaged; the text says where.
    #[error("IPv4 header: {0}")]
    IpHeader(&'static str),
    /// Not ESP, where only ESP is expected.
    #[error("IP protocol {0} in clear where ESP is expected")]
    NotEsp(u8),
    /// The ESP part is shorter than its headers and ICV.
    #[error("ESP packet too short: {0} bytes")]
    EspTooShort(usize),
    /// No inbound SA of this receiver.
    #[error("no inbound SA for SPI {0:#010x} to {1}")]
    UnknownSa(u32, Ipv4Addr),
    /// The packet's source is not the SA's.
    #[error("SPI {0:#010x} does not belong to {1}")]
    WrongSource(u32, Ipv4Addr),
    /// Reserved bits of slot 1 or 12 are set.
    #[error("reserved bits in out-of-band data: slot 1 {0:#x}, slot 12 {1:#x}")]
    ReservedBits(usize, usize),
    /// The NIC did not process a packet that matches an SA it holds.
    #[error("CryptoDone is clear for SPI {0:#010x}")]
    NotProcessed(u32),
    /// `NextCryptoDone` speaks of tunnel and transport, but there is no tunnel.
    #[error("NextCryptoDone is set without a tunnel")]
    NextCryptoDone,
    /// The NIC says that the packet is bad.
    #[error("CryptoStatus {0}")]
    CryptoStatus(u32),
    /// The NIC asked for the SA's deletion, which nothing here called for.
    #[error("SaDeleteReq is set")]
    DeleteRequested,
    /// A decrypted ESP packet comes without `HeaderInfoSet`.
    #[error("HeaderInfoSet is clear")]
    HeaderInfoMissing,
    /// What the NIC said of the trailer differs from the trailer.
    #[error(
        "out-of-band next header {said_next} and pad length {said_pad}; the trailer has {next} and {pad}"
    )]
    TrailerMismatch {
        /// Next header by slot 12.
        said_next: u8,
        /// Pad length by slot 12.
        said_pad: u8,
        /// Next header in the frame.
        next: u8,
        /// Pad length in the frame.
        pad: u8,
    },
    /// The padding is not 1, 2, 3, … (RFC 4303, section 2.4), or longer than the payload.
    #[error("padding is not 1, 2, 3, …")]
    Padding,
    /// Seen before, or too old to tell.
    #[error("sequence number {0} replayed")]
    Replayed(u32),
}

/// The inbound SAs of one station.
#[derive(Debug, Default)]
pub struct Receiver {
    sas: HashMap<(u32, Ipv4Addr), (TransportSa, ReplayWindow)>,
}

impl Receiver {
    /// Expects packets of this SA from now on.
    pub fn add(&mut self, parameters: TransportSa) {
        self.sas.insert((parameters.spi, parameters.destination), (parameters, ReplayWindow::default()));
    }

    /// Expects none any more; `false` if there was no such SA.
    pub fn remove(&mut self, spi: u32, destination: Ipv4Addr) -> bool {
        self.sas.remove(&(spi, destination)).is_some()
    }

    /// Checks one indicated frame and strips ESP from it.
    ///
    /// # Errors
    /// The first [`ReceiveFault`].
    pub fn receive(&mut self, indicated: Indicated<'_>) -> Result<Received, ReceiveFault> {
        let (mut ip, esp) = ip_packet(indicated.frame)?;
        if ip.protocol.0 != PROTOCOL_ESP {
            return Err(ReceiveFault::NotEsp(ip.protocol.0));
        }
        if esp.len() < ESP_HEADER_LENGTH + IV_LENGTH + ESP_TRAILER_LENGTH + ICV_LENGTH {
            return Err(ReceiveFault::EspTooShort(esp.len()));
        }
        let (spi, sequence) = (word(esp, 0), word(esp, 4));
        let destination = Ipv4Addr::from(ip.destination);
        let (parameters, window) =
            self.sas.get_mut(&(spi, destination)).ok_or(ReceiveFault::UnknownSa(spi, destination))?;
        let source = Ipv4Addr::from(ip.source);
        if parameters.source != source {
            return Err(ReceiveFault::WrongSource(spi, source));
        }
        let header = crypto_result(&indicated, spi)?;

        let clear = &esp[ESP_HEADER_LENGTH + IV_LENGTH..esp.len() - ICV_LENGTH];
        let [.., pad, next] = *clear else { return Err(ReceiveFault::EspTooShort(esp.len())) };
        if header != (next, pad) {
            let (said_next, said_pad) = header;
            return Err(ReceiveFault::TrailerMismatch { said_next, said_pad, next, pad });
        }
        let padded = &clear[..clear.len() - ESP_TRAILER_LENGTH];
        let end = padded.len().checked_sub(usize::from(pad)).ok_or(ReceiveFault::Padding)?;
        if !padded[end..].iter().copied().eq(1..=pad) {
            return Err(ReceiveFault::Padding);
        }
        if !window.accept(sequence) {
            return Err(ReceiveFault::Replayed(sequence));
        }

        let payload = &padded[..end];
        ip.protocol = IpNumber(next);
        ip.set_payload_len(payload.len()).map_err(|_| ReceiveFault::IpHeader("length"))?;
        ip.header_checksum = ip.calc_header_checksum();
        let mut packet = Vec::with_capacity(Ipv4Header::MIN_LEN + payload.len());
        packet.extend_from_slice(&ip.to_bytes());
        packet.extend_from_slice(payload);
        Ok(Received { packet, spi, sequence })
    }
}

/// The IP header and payload of a frame, without Ethernet's padding.
fn ip_packet(frame: &[u8]) -> Result<(Ipv4Header, &[u8]), ReceiveFault> {
    let not_ipv4 = ReceiveFault::NotIpv4(frame.len());
    let (mac, packet) = frame.split_at_checked(ETHERNET_HEADER_LENGTH).ok_or(not_ipv4.clone())?;
    if mac[12..] != NDIS_ETH_TYPE_IPV4.to_be_bytes() {
        return Err(not_ipv4);
    }
    let (ip, _) = Ipv4Header::from_slice(packet).map_err(|_| not_ipv4)?;
    if !ip.options.is_empty() {
        return Err(ReceiveFault::IpHeader("options"));
    }
    if ip.is_fragmenting_payload() {
        return Err(ReceiveFault::IpHeader("fragment"));
    }
    if ip.header_checksum != ip.calc_header_checksum() {
        return Err(ReceiveFault::IpHeader("checksum"));
    }
    let total = usize::from(ip.total_len);
    let payload = packet.get(Ipv4Header::MIN_LEN..total).ok_or(ReceiveFault::IpHeader("total length"))?;
    // Beyond the packet there may only be what fills a frame to Ethernet's minimum, and that is zero.
    let beyond = &packet[total..];
    if !beyond.is_empty() && (frame.len() > 60 || beyond.iter().any(|byte| *byte != 0)) {
        return Err(ReceiveFault::IpHeader("bytes after the packet"));
    }
    Ok((ip, payload))
}

/// Judges the out-of-band words; gives the next header and pad length that the NIC reported.
fn crypto_result(indicated: &Indicated<'_>, spi: u32) -> Result<(u8, u8), ReceiveFault> {
    let ipsec = ReceiveIpsec(indicated.ipsec);
    let header = ReceiveHeader(indicated.header);
    let known_ipsec = ReceiveIpsec::default()
        .with_SaDeleteReq(1)
        .with_CryptoDone(1)
        .with_NextCryptoDone(1)
        .with_CryptoStatus(u32::from(u16::MAX));
    let known_header = ReceiveHeader::default()
        .with_NextHeader(u32::from(u8::MAX))
        .with_PadLength(u32::from(u8::MAX))
        .with_HeaderInfoSet(1);
    if ipsec.0 & !known_ipsec.0 != 0 || header.0 & !known_header.0 != 0 {
        return Err(ReceiveFault::ReservedBits(ipsec.0, header.0));
    }
    if ipsec.CryptoDone() == 0 {
        return Err(ReceiveFault::NotProcessed(spi));
    }
    if ipsec.NextCryptoDone() != 0 {
        return Err(ReceiveFault::NextCryptoDone);
    }
    if ipsec.CryptoStatus() != ndis_sys::CRYPTO_SUCCESS {
        return Err(ReceiveFault::CryptoStatus(ipsec.CryptoStatus()));
    }
    if ipsec.SaDeleteReq() != 0 {
        return Err(ReceiveFault::DeleteRequested);
    }
    if header.HeaderInfoSet() == 0 {
        return Err(ReceiveFault::HeaderInfoMissing);
    }
    #[allow(clippy::cast_possible_truncation)] // 8-bit fields
    Ok((header.NextHeader() as u8, header.PadLength() as u8))
}

/// A big-endian word; `at + 4` is within `bytes`.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::transport::{Algorithm, KeyMaterial, OutboundSa, ethernet};

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const SPI: u32 = 0x1_0001;
    const GOOD: usize = 1 << 1; // CryptoDone
    const INFO: usize = 1 << 16; // HeaderInfoSet

    fn sa() -> TransportSa {
        let key = KeyMaterial::generate(Algorithm::AesGcm256, |bytes| bytes.fill(1));
        TransportSa { source: A, destination: B, spi: SPI, algorithm: Algorithm::AesGcm256, key }
    }

    /// A packet, and its frame as a NIC without a cipher would indicate it (the transport sees plaintext only).
    fn frame(length: usize) -> (Vec<u8>, Vec<u8>, usize) {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(A.octets(), B.octets(), 64).icmpv4_echo_request(3, 4);
        builder.write(&mut packet, &vec![0x5a; length]).unwrap();
        let framed = OutboundSa::new(sa(), 1, 0).frame(&packet).unwrap();
        let header = framed.header & 0xffff | INFO;
        (packet, ethernet([2; 6], [4; 6], &framed.packet), header)
    }

    fn receiver() -> Receiver {
        let mut receiver = Receiver::default();
        receiver.add(sa());
        receiver
    }

    #[test]
    fn what_was_framed_comes_back_once() {
        for length in 0..40 {
            let (packet, frame, header) = frame(length);
            let mut receiver = receiver();
            let indicated = Indicated { frame: &frame, ipsec: GOOD, header };
            let expected = Received { packet, spi: SPI, sequence: 1 };
            assert_eq!(receiver.receive(indicated), Ok(expected));
            assert_eq!(receiver.receive(indicated), Err(ReceiveFault::Replayed(1)));
            assert!(receiver.remove(SPI, B));
            assert_eq!(receiver.receive(indicated), Err(ReceiveFault::UnknownSa(SPI, B)));
        }
    }

    #[test]
    fn out_of_band_data_must_be_right_to_the_bit() {
        let (_, frame, header) = frame(9);
        let judge = |ipsec, header| receiver().receive(Indicated { frame: &frame, ipsec, header });
        assert!(judge(GOOD, header).is_ok());
        assert_eq!(judge(0, 0), Err(ReceiveFault::NotProcessed(SPI)));
        assert_eq!(judge(GOOD | 4, header), Err(ReceiveFault::NextCryptoDone));
        assert_eq!(judge(GOOD | 3 << 16, header), Err(ReceiveFault::CryptoStatus(3)));
        assert_eq!(judge(GOOD | 1, header), Err(ReceiveFault::DeleteRequested));
        assert_eq!(judge(GOOD, header & !INFO), Err(ReceiveFault::HeaderInfoMissing));
        assert_eq!(judge(GOOD | 8, header), Err(ReceiveFault::ReservedBits(GOOD | 8, header)));
        assert_eq!(judge(GOOD, header | 1 << 17), Err(ReceiveFault::ReservedBits(GOOD, header | 1 << 17)));
        assert!(matches!(judge(GOOD, header ^ 1), Err(ReceiveFault::TrailerMismatch { .. })));
        assert!(matches!(judge(GOOD, header ^ 0x100), Err(ReceiveFault::TrailerMismatch { .. })));
    }

    #[test]
    fn every_flipped_byte_before_the_icv_is_noticed_or_changes_the_packet() {
        let (packet, good, header) = frame(9);
        // From the IP header to the end of the trailer, without the IV: it means nothing in clear.
        let iv = 14 + 20 + 8..14 + 20 + 16;
        for at in (14..good.len() - ICV_LENGTH).filter(|at| !iv.contains(at)) {
            let mut frame = good.clone();
            frame[at] ^= 0x40;
            let got = receiver().receive(Indicated { frame: &frame, ipsec: GOOD, header });
            let sequence = 14 + 20 + 4..14 + 20 + 8;
            match got {
                Ok(received) if sequence.contains(&at) => assert_ne!(received.sequence, 1),
                Ok(received) => assert_ne!(received.packet, packet, "byte {at}"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn short_and_odd_frames_are_faults_not_panics() {
        let (_, good, header) = frame(9);
        for length in 0..good.len() {
            let indicated = Indicated { frame: &good[..length], ipsec: GOOD, header };
            assert!(receiver().receive(indicated).is_err(), "{length}");
        }
        let mut long = good.clone();
        long.push(0);
        let indicated = Indicated { frame: &long, ipsec: GOOD, header };
        assert_eq!(receiver().receive(indicated), Err(ReceiveFault::IpHeader("bytes after the packet")));
        let mut clear = good;
        clear[14 + 9] = 17;
        let (ip, _) = Ipv4Header::from_slice(&clear[14..]).unwrap();
        clear[14 + 10..14 + 12].copy_from_slice(&ip.calc_header_checksum().to_be_bytes());
        let indicated = Indicated { frame: &clear, ipsec: 0, header: 0 };
        assert_eq!(receiver().receive(indicated), Err(ReceiveFault::NotEsp(17)));
    }
}
