//! Framing for the NIC: ESP header, IV, payload in clear, trailer, and room for the ICV (RFC 4303, section 2).

use etherparse::{IpNumber, Ipv4Header};
use ndis_sys::NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT as TransmitHeader;

use super::{OutboundSa, PROTOCOL_ESP};

/// Bytes of IV that AES-GCM carries in each packet (RFC 4106, section 3.1).
pub const IV_LENGTH: usize = 8;
/// Bytes of ICV that the NIC writes at the end (RFC 4106, section 6).
pub const ICV_LENGTH: usize = 16;
/// SPI and sequence number.
pub(super) const ESP_HEADER_LENGTH: usize = 8;
/// Pad length and next header.
pub(super) const ESP_TRAILER_LENGTH: usize = 2;
/// Where the ESP header starts, from the start of the IP header, in 4-byte units.
const ESP_HEADER_OFFSET: u32 = 20 / 4;
/// The trailer ends on a boundary of this many bytes (RFC 4303, section 2.4).
const ALIGNMENT: usize = 4;

/// Why a packet cannot be framed for an offloaded SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a valid IPv4 header, or its lengths disagree with the packet's.
    #[error("not a well-formed IPv4 packet")]
    NotIpv4,
    /// The stack does not offload packets with IPv4 options unless the NIC says it can.
    #[error("IPv4 options")]
    Options,
    /// The stack does not offload fragments.
    #[error("an IPv4 fragment")]
    Fragment,
    /// The packet is not one of the SA's: other addresses.
    #[error("addresses are not those of the security association")]
    WrongAddresses,
    /// With ESP around it, the packet is longer than IPv4's 65,535 bytes.
    #[error("too long for IPv4 with ESP around it")]
    TooLong,
    /// Sequence numbers must not cycle (RFC 4303, section 3.3.3).
    #[error("the security association has used all its sequence numbers")]
    SequenceExhausted,
}

/// A packet as the stack hands it to an IPsecOV2 miniport, and what it says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The IP packet: header, ESP header, IV, payload in clear, trailer, and 16 zero bytes for the ICV.
    pub packet: Vec<u8>,
    /// For out-of-band slot 1: the SA's handle.
    pub handle: usize,
    /// For out-of-band slot 12: next header, pad length, offset of the ESP header in 4-byte units.
    pub header: usize,
    /// The sequence number that the packet carries.
    pub sequence: u32,
}

/// Bytes of an IP packet with a payload of `payload` bytes once it is framed; `None` if too long for IPv4.
pub fn framed_length(payload: usize) -> Option<usize> {
    let length = Ipv4Header::MIN_LEN
        + ESP_HEADER_LENGTH
        + IV_LENGTH
        + payload
        + padding(payload)
        + ESP_TRAILER_LENGTH
        + ICV_LENGTH;
    u16::try_from(length).is_ok().then_some(length)
}

/// Padding bytes after a payload of `payload` bytes.
const fn padding(payload: usize) -> usize {
    (ALIGNMENT - (payload + ESP_TRAILER_LENGTH) % ALIGNMENT) % ALIGNMENT
}

/// The word of out-of-band slot 12 on send, for an ESP header right after a 20-byte IP header.
pub fn header_word(next_header: u8, pad_length: u8) -> usize {
    TransmitHeader::default()
        .with_NextHeader(u32::from(next_header))
        .with_PadLength(u32::from(pad_length))
        .with_EspHeaderOffset(ESP_HEADER_OFFSET)
        .into_slot()
        .addr()
}

impl OutboundSa {
    /// Frames an IP packet as the stack does for this SA and takes the next sequence number.
    ///
    /// # Errors
    /// [`FrameError`]; no sequence number is taken then.
    pub fn frame(&mut self, packet: &[u8]) -> Result<Framed, FrameError> {
        let (mut ip, payload) = Ipv4Header::from_slice(packet).map_err(|_| FrameError::NotIpv4)?;
        if usize::from(ip.total_len) != packet.len() {
            return Err(FrameError::NotIpv4);
        }
        if !ip.options.is_empty() {
            return Err(FrameError::Options);
        }
        if ip.is_fragmenting_payload() {
            return Err(FrameError::Fragment);
        }
        if ip.source != self.parameters.source.octets()
            || ip.destination != self.parameters.destination.octets()
        {
            return Err(FrameError::WrongAddresses);
        }
        let length = framed_length(payload.len()).ok_or(FrameError::TooLong)?;
        let sequence = self.sequence.checked_add(1).ok_or(FrameError::SequenceExhausted)?;
        self.sequence = sequence;
        let iv = self.iv;
        self.iv = iv.wrapping_add(1);

        let next_header = ip.protocol.0;
        ip.protocol = IpNumber(PROTOCOL_ESP);
        ip.total_len = u16::try_from(length).map_err(|_| FrameError::TooLong)?;
        ip.header_checksum = ip.calc_header_checksum();

        let pad_length = u8::try_from(padding(payload.len())).map_err(|_| FrameError::TooLong)?;
        let mut framed = Vec::with_capacity(length);
        framed.extend_from_slice(&ip.to_bytes());
        framed.extend_from_slice(&self.parameters.spi.to_be_bytes());
        framed.extend_from_slice(&sequence.to_be_bytes());
        framed.extend_from_slice(&iv.to_be_bytes());
        framed.extend_from_slice(payload);
        framed.extend(1..=pad_length);
        framed.extend_from_slice(&[pad_length, next_header]);
        framed.extend_from_slice(&[0; ICV_LENGTH]);
        debug_assert_eq!(framed.len(), length);
        Ok(Framed {
            packet: framed,
            handle: self.handle,
            header: header_word(next_header, pad_length),
            sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::transport::{Algorithm, KeyMaterial, TransportSa};

    const A: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
    const B: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 4);

    type Spoil = fn(&mut Vec<u8>);

    fn sa() -> OutboundSa {
        let parameters = TransportSa {
            source: A,
            destination: B,
            spi: 0x1234_5678,
            algorithm: Algorithm::AesGcm128,
            key: KeyMaterial::generate(Algorithm::AesGcm128, |bytes| bytes.fill(7)),
        };
        OutboundSa::new(parameters, 0xbeef, u64::MAX)
    }

    fn udp(length: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        PacketBuilder::ipv4(A.octets(), B.octets(), 64).udp(7, 9).write(&mut packet, &payload).unwrap();
        packet
    }

    #[test]
    fn every_field_is_where_rfc_4303_puts_it() {
        let mut sa = sa();
        for length in 0..9 {
            let packet = udp(length);
            let framed = sa.frame(&packet).unwrap();
            let payload = &packet[20..];
            let wire = &framed.packet;
            let (ip, esp) = Ipv4Header::from_slice(wire).unwrap();
            assert_eq!(usize::from(ip.total_len), wire.len());
            assert_eq!(ip.protocol, IpNumber::ENCAPSULATING_SECURITY_PAYLOAD);
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(ip.source, A.octets());
            assert_eq!(esp[..4], 0x1234_5678_u32.to_be_bytes());
            assert_eq!(esp[4..8], u32::try_from(length + 1).unwrap().to_be_bytes());
            // The counter wraps, and so never repeats in 2^64 packets.
            assert_eq!(esp[8..16], u64::MAX.wrapping_add(length as u64).to_be_bytes());
            assert_eq!(&esp[16..16 + payload.len()], payload);
            let trailer = &esp[16 + payload.len()..esp.len() - 16];
            let pad = trailer.len() - 2;
            assert_eq!((payload.len() + trailer.len()) % 4, 0);
            assert!(pad < 4);
            assert_eq!(trailer[..pad], [1, 2, 3][..pad]);
            assert_eq!(usize::from(trailer[pad]), pad);
            assert_eq!(trailer[pad + 1], IpNumber::UDP.0);
            assert_eq!(esp[esp.len() - 16..], [0; 16]);
            assert_eq!(framed.handle, 0xbeef);
            assert_eq!(framed.header, 0x11 | pad << 8 | 0x05 << 24);
            assert_eq!(framed_length(payload.len()), Some(wire.len()));
        }
    }

    #[test]
    fn what_the_stack_would_not_offload_is_refused_without_taking_a_number() {
        let mut sa = sa();
        let good = udp(10);
        let cases: [(Spoil, FrameError); 6] = [
            (|p| p[0] = 0x65, FrameError::NotIpv4),
            (|p| p.truncate(19), FrameError::NotIpv4),
            (|p| p.push(0), FrameError::NotIpv4),
            (|p| p[0] = 0x46, FrameError::Options),
            (|p| p[6] = 0x20, FrameError::Fragment),
            (|p| p[19] = 9, FrameError::WrongAddresses),
        ];
        for (spoil, error) in cases {
            let mut packet = good.clone();
            spoil(&mut packet);
            assert_eq!(sa.frame(&packet), Err(error));
        }
        assert_eq!(sa.frame(&udp(65_507)), Err(FrameError::TooLong));
        assert_eq!(sa.last_sequence(), 0);
        sa.sequence = u32::MAX;
        assert_eq!(sa.frame(&good), Err(FrameError::SequenceExhausted));
    }
}
