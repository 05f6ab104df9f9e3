//! Judges each packet: what IPsecOV2 can carry for ESP in transport mode over IPv4, and why not the rest.

use std::fmt;
use std::net::Ipv4Addr;

use etherparse::err::ipv4::{HeaderError, HeaderSliceError};
use etherparse::{EtherType, IpNumber, Ipv4Header};
use ndis_lab::transport;

use super::{Packet, link};

/// Why a packet is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A link type that this program does not read.
    LinkType(u32),
    /// The link-layer header is cut short.
    LinkHeader,
    /// Another protocol than IPv4, named.
    NotIpv4(&'static str),
    /// The capture kept only the first bytes of the packet.
    CutByCapture,
    /// The IPv4 header makes no sense; the text says where.
    BadHeader(&'static str),
    /// IPv4 options: the stack does not offload them unless the NIC says it can.
    Options,
    /// A fragment: never offloaded.
    Fragment,
    /// To more than one station: no unicast SA covers it.
    Group,
    /// From or to 0.0.0.0: a wildcard in an SA.
    Unspecified,
    /// ESP or AH already.
    AlreadyIpsec,
    /// Protocol 59, which in ESP marks a dummy packet (RFC 4303, section 2.6).
    NoNextHeader,
    /// With ESP around it, longer than the adapter's frames.
    TooLong,
    /// A packet of an address pair for which the adapter had no SA slot left.
    NoSlot,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkType(number) => write!(f, "link type {number} is not supported"),
            Self::LinkHeader => f.write_str("link-layer header cut short"),
            Self::NotIpv4(what) => write!(f, "not IPv4 ({what})"),
            Self::CutByCapture => f.write_str("cut by the capture's length limit"),
            Self::BadHeader(what) => write!(f, "bad IPv4 header ({what})"),
            Self::Options => f.write_str("IPv4 options"),
            Self::Fragment => f.write_str("IPv4 fragment"),
            Self::Group => f.write_str("multicast or broadcast destination"),
            Self::Unspecified => f.write_str("unspecified address (0.0.0.0)"),
            Self::AlreadyIpsec => f.write_str("IPsec already (ESP or AH)"),
            Self::NoNextHeader => f.write_str("IP protocol 59 (in ESP: a dummy packet)"),
            Self::TooLong => f.write_str("too long for the adapter with ESP around it"),
            Self::NoSlot => f.write_str("no SA slot left on the adapter"),
        }
    }
}

/// An IPv4 packet that can be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Who sent it.
    pub source: Ipv4Addr,
    /// Who it is for.
    pub destination: Ipv4Addr,
    /// Its IP protocol.
    pub protocol: u8,
    /// The packet: a 20-byte header with a correct checksum, and the payload.
    pub packet: Vec<u8>,
    /// The header's checksum was 0, as captures have it that were taken before the NIC filled it in; it is filled
    /// in here.
    pub checksum_filled: bool,
}

/// Judges a packet for adapters that carry IP packets of up to `mtu` bytes.
///
/// # Errors
/// The [`Reason`] why it cannot be carried.
pub fn classify(packet: Packet<'_>, mtu: usize) -> Result<Carried, Reason> {
    let cut = packet.data.len() < packet.original_length;
    // What is missing because the capture cut it off is not the packet's fault.
    let unless_cut = |reason| if cut { Reason::CutByCapture } else { reason };
    let link = link::payload(packet.link, packet.data).map_err(|reason| match reason {
        Reason::LinkHeader => unless_cut(reason),
        other => other,
    })?;
    match link.ether_type {
        EtherType::IPV4 => {}
        EtherType::IPV6 => return Err(Reason::NotIpv4("IPv6")),
        EtherType::ARP => return Err(Reason::NotIpv4("ARP")),
        // Below 1536 it is a length: IEEE 802.3 with LLC.
        EtherType(length) if length < 0x600 => return Err(Reason::NotIpv4("LLC")),
        _ => return Err(Reason::NotIpv4("other")),
    }
    let (mut ip, rest) = Ipv4Header::from_slice(link.data).map_err(|error| match error {
        HeaderSliceError::Len(_) => unless_cut(Reason::BadHeader("cut short")),
        HeaderSliceError::Content(HeaderError::UnexpectedVersion { .. }) => Reason::BadHeader("version"),
        HeaderSliceError::Content(HeaderError::HeaderLengthSmallerThanHeader { .. }) => {
            Reason::BadHeader("header length")
        }
    })?;
    let total = usize::from(ip.total_len);
    if total == 0 {
        return Err(Reason::BadHeader("length 0: a large send, captured before it was segmented"));
    }
    let payload_length = total.checked_sub(ip.header_len()).ok_or(Reason::BadHeader("total length"))?;
    let payload = rest.get(..payload_length).ok_or(unless_cut(Reason::BadHeader("total length")))?;
    let checksum_filled = ip.header_checksum == 0 && ip.calc_header_checksum() != 0;
    if checksum_filled {
        ip.header_checksum = ip.calc_header_checksum();
    } else if ip.header_checksum != ip.calc_header_checksum() {
        return Err(Reason::BadHeader("checksum"));
    }
    let (source, destination) = (Ipv4Addr::from(ip.source), Ipv4Addr::from(ip.destination));
    if link.group || destination.is_multicast() || destination.is_broadcast() {
        return Err(Reason::Group);
    }
    if source.is_multicast() || source.is_broadcast() {
        return Err(Reason::BadHeader("source address"));
    }
    if source.is_unspecified() || destination.is_unspecified() {
        return Err(Reason::Unspecified);
    }
    if ip.is_fragmenting_payload() {
        return Err(Reason::Fragment);
    }
    if !ip.options.is_empty() {
        return Err(Reason::Options);
    }
    match ip.protocol {
        IpNumber::ENCAPSULATING_SECURITY_PAYLOAD | IpNumber::AUTHENTICATION_HEADER => {
            return Err(Reason::AlreadyIpsec);
        }
        IpNumber::IPV6_NO_NEXT_HEADER => return Err(Reason::NoNextHeader),
        _ => {}
    }
    if transport::framed_length(payload.len()).is_none_or(|framed| framed > mtu) {
        return Err(Reason::TooLong);
    }
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&ip.to_bytes());
    bytes.extend_from_slice(payload);
    Ok(Carried { source, destination, protocol: ip.protocol.0, packet: bytes, checksum_filled })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::input::{Capture, DEFAULT_CAPTURE, LinkType};

    const A: [u8; 4] = [10, 0, 0, 1];
    const B: [u8; 4] = [10, 0, 0, 2];

    fn ip(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(A, B, 64).udp(1, 2).write(&mut packet, &vec![9; payload]).unwrap();
        packet
    }

    fn judge_link(link: u32, data: &[u8]) -> Result<Carried, Reason> {
        classify(Packet { data, original_length: data.len(), link: LinkType(link) }, 1500)
    }

    fn judge(packet: &[u8]) -> Result<Carried, Reason> {
        judge_link(101, packet)
    }

    /// The packet with its IP checksum made right again.
    fn sealed(mut packet: Vec<u8>) -> Vec<u8> {
        let (header, _) = Ipv4Header::from_slice(&packet).unwrap();
        packet[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        packet
    }

    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut packet = ip(30);
        change(&mut packet);
        sealed(packet)
    }

    #[test]
    fn the_same_packet_is_found_behind_every_link_layer() {
        let packet = ip(33);
        let expected = judge(&packet).unwrap();
        assert_eq!(expected.packet, packet);
        assert_eq!((expected.protocol, expected.checksum_filled), (17, false));
        let sll_tail = [0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        let headers: [(u32, Vec<u8>); 14] = [
            (0, vec![2, 0, 0, 0]),
            (0, vec![0, 0, 0, 2]),
            (1, [[2; 6], [4; 6]].concat().into_iter().chain([8, 0]).collect()),
            (1, [&[2; 12][..], &[0x81, 0, 0, 5, 8, 0]].concat()),
            (1, [&[2; 12][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 7, 8, 0]].concat()),
            (12, vec![]),
            (14, vec![]),
            (101, vec![]),
            (108, vec![0, 0, 0, 2]),
            (113, [&[0, 0][..], &sll_tail, &[8, 0]].concat()),
            (228, vec![]),
            (276, [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6][..], &[2; 8]].concat()),
            (113, [&[0, 4][..], &sll_tail, &[0x81, 0, 0, 9, 8, 0]].concat()),
            (113, [&[0, 0, 3, 4][..], &sll_tail[2..], &[8, 0]].concat()), // of the loopback device
        ];
        for (link, header) in headers {
            let data = [header.clone(), packet.clone(), vec![0; 6]].concat(); // with Ethernet's padding
            assert_eq!(judge_link(link, &data), Ok(expected.clone()), "{link} {header:?}");
        }
    }

    #[test]
    fn what_is_not_carried_has_its_reason() {
        let sll_tail = [0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        let mac = |destination: [u8; 6], ether_type: [u8; 2]| {
            [&destination[..], &[4; 6], &ether_type, &ip(30)].concat()
        };
        let unicast = [2; 6];
        let cases = [
            (judge_link(105, &ip(1)), Reason::LinkType(105)),
            (judge_link(1, &[2; 13]), Reason::LinkHeader),
            (judge_link(276, &[0; 19]), Reason::LinkHeader),
            (judge_link(0, &[0; 3]), Reason::LinkHeader),
            (judge_link(113, &[0; 15]), Reason::LinkHeader),
            (
                judge_link(113, &[0, 0, 3, 0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
                Reason::NotIpv4("no Ethernet type"),
            ),
            (judge_link(113, &[&[0, 1][..], &sll_tail, &[8, 0], &ip(3)].concat()), Reason::Group),
            (judge_link(0, &[30, 0, 0, 0, 0x60]), Reason::NotIpv4("IPv6")),
            (judge_link(1, &mac(unicast, [0x86, 0xdd])), Reason::NotIpv4("IPv6")),
            (judge_link(1, &mac(unicast, [8, 6])), Reason::NotIpv4("ARP")),
            (judge_link(1, &mac(unicast, [0, 40])), Reason::NotIpv4("LLC")),
            (judge_link(1, &mac(unicast, [0x88, 0xcc])), Reason::NotIpv4("other")),
            (judge_link(1, &mac([1, 0, 0x5e, 0, 0, 1], [8, 0])), Reason::Group),
            (judge_link(1, &mac([0xff; 6], [8, 0])), Reason::Group),
            (
                judge_link(276, &[&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 6][..], &[2; 8], &ip(3)].concat()),
                Reason::Group,
            ),
            (judge(&changed(|p| p[16] = 224)), Reason::Group),
            (judge(&changed(|p| p[16..20].fill(255))), Reason::Group),
            (judge(&changed(|p| p[12] = 224)), Reason::BadHeader("source address")),
            (judge(&changed(|p| p[12..16].fill(0))), Reason::Unspecified),
            (judge(&changed(|p| p[6] |= 0x20)), Reason::Fragment),
            (judge(&changed(|p| p[7] = 1)), Reason::Fragment),
            (judge(&changed(|p| p[0] = 0x46)), Reason::Options),
            (judge(&changed(|p| p[9] = 50)), Reason::AlreadyIpsec),
            (judge(&changed(|p| p[9] = 51)), Reason::AlreadyIpsec),
            (judge(&changed(|p| p[9] = 59)), Reason::NoNextHeader),
            (judge(&changed(|p| p[3] = 19)), Reason::BadHeader("total length")),
            (judge(&changed(|p| p[3] += 1)), Reason::BadHeader("total length")),
            (judge(&[0x44; 20]), Reason::BadHeader("header length")),
            (judge(&[0x54; 20]), Reason::BadHeader("neither version 4 nor 6")),
            (judge(&ip(30)[..19]), Reason::BadHeader("cut short")),
            (judge_link(228, &[0x65; 20]), Reason::BadHeader("version")),
        ];
        for (index, (got, reason)) in cases.into_iter().enumerate() {
            assert_eq!(got, Err(reason), "case {index}");
        }
        let mut zero_length = ip(30);
        zero_length[2..4].fill(0);
        assert!(matches!(judge(&zero_length), Err(Reason::BadHeader(text)) if text.starts_with("length 0")));
        let mut bad = ip(30);
        bad[10] ^= 1;
        assert_eq!(judge(&bad), Err(Reason::BadHeader("checksum")));
    }

    #[test]
    fn a_checksum_of_zero_is_filled_in_and_said() {
        let mut packet = ip(30);
        let good = judge(&packet).unwrap();
        packet[10..12].fill(0);
        assert_eq!(judge(&packet), Ok(Carried { checksum_filled: true, ..good }));
    }

    #[test]
    fn a_packet_cut_by_the_capture_is_not_called_bad() {
        let packet = ip(100);
        for length in 0..packet.len() {
            let cut = Packet { data: &packet[..length], original_length: packet.len(), link: LinkType(228) };
            assert_eq!(classify(cut, 1500), Err(Reason::CutByCapture), "{length}");
        }
    }

    #[test]
    fn the_longest_packet_is_the_one_that_still_fits_with_esp() {
        // 20 + 8 + 8 + payload + padding + 2 + 16 <= 1500, where payload + padding + 2 is a multiple of 4.
        let longest = 1446;
        assert!(judge(&ip(longest - 8)).is_ok());
        assert_eq!(judge(&ip(longest - 7)), Err(Reason::TooLong));
    }

    #[test]
    fn the_default_capture_is_carried_but_for_what_was_put_there_to_be_refused() {
        let capture = Capture::from_bytes(DEFAULT_CAPTURE.to_vec()).unwrap();
        let (mut carried, mut reasons, mut protocols) = (0, BTreeMap::new(), BTreeMap::new());
        for packet in capture.packets() {
            match classify(packet, 9000) {
                Ok(packet) => {
                    carried += 1;
                    *protocols.entry(packet.protocol).or_insert(0) += 1;
                }
                Err(reason) => *reasons.entry(reason).or_insert(0) += 1,
            }
        }
        assert_eq!(carried + reasons.values().sum::<usize>(), capture.len());
        assert_eq!(protocols.keys().copied().collect::<Vec<_>>(), [1, 6, 17]);
        let named: Vec<_> = reasons.keys().copied().collect();
        assert_eq!(named, [Reason::NotIpv4("ARP"), Reason::Fragment, Reason::Group]);
        assert_eq!(reasons[&Reason::Fragment], 6);
    }
}
