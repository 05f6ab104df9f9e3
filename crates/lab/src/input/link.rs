//! Link layers: what lies before the IP header.

use std::fmt;

use etherparse::{EtherType, Ethernet2Slice, SingleVlanSlice};

use super::Reason;

/// A link type of the tcpdump registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u32);

/// BSD loopback: an address family in the capturing machine's order.
const NULL: LinkType = LinkType(0);
pub(super) const ETHERNET: LinkType = LinkType(1);
/// Raw IP, by its number in the registry, and by those that two BSDs use for it.
pub(super) const RAW: LinkType = LinkType(101);
const RAW_BSD: [LinkType; 2] = [LinkType(12), LinkType(14)];
/// OpenBSD loopback: an address family in network order.
const LOOP: LinkType = LinkType(108);
const LINUX_SLL: LinkType = LinkType(113);
const IPV4: LinkType = LinkType(228);
const IPV6: LinkType = LinkType(229);
const LINUX_SLL2: LinkType = LinkType(276);

/// Bytes of a "cooked" header, by version.
const SLL_LENGTH: usize = 16;
const SLL2_LENGTH: usize = 20;
/// `PACKET_BROADCAST` and `PACKET_MULTICAST` of Linux.
const GROUP: [u16; 2] = [1, 2];
/// `ARPHRD_IPGRE`, `ARPHRD_IEEE80211_RADIOTAP`, `ARPHRD_NETLINK`: their protocol field is no Ethernet type.
const NO_ETHER_TYPE: [u16; 3] = [778, 803, 824];

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a link layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkPayload<'a> {
    /// The type of `data`.
    pub(super) ether_type: EtherType,
    /// Sent to more than one station.
    pub(super) group: bool,
    /// From the network header on, with what the link layer puts behind it.
    pub(super) data: &'a [u8],
}

/// Takes the link-layer headers off, VLAN tags included.
pub(super) fn payload(link: LinkType, frame: &[u8]) -> Result<LinkPayload<'_>, Reason> {
    let mut payload = match link {
        ETHERNET => {
            let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| Reason::LinkHeader)?;
            LinkPayload {
                ether_type: ethernet.ether_type(),
                group: ethernet.destination()[0] & 1 == 1,
                data: ethernet.payload_slice(),
            }
        }
        LINUX_SLL => {
            let (header, data) = frame.split_at_checked(SLL_LENGTH).ok_or(Reason::LinkHeader)?;
            cooked(half(header, 2), u16::from(header[1]), half(header, 14), data)?
        }
        LINUX_SLL2 => {
            let (header, data) = frame.split_at_checked(SLL2_LENGTH).ok_or(Reason::LinkHeader)?;
            cooked(half(header, 8), u16::from(header[10]), half(header, 0), data)?
        }
        NULL | LOOP => {
            let (family, data) = frame.split_first_chunk::<4>().ok_or(Reason::LinkHeader)?;
            // AF_INET is 2 everywhere; the number of AF_INET6 differs from system to system.
            let ipv4 = u32::from_le_bytes(*family) == 2 || u32::from_be_bytes(*family) == 2;
            raw(data, if ipv4 { EtherType::IPV4 } else { EtherType::IPV6 })
        }
        RAW => raw_by_version(frame)?,
        other if RAW_BSD.contains(&other) => raw_by_version(frame)?,
        IPV4 => raw(frame, EtherType::IPV4),
        IPV6 => raw(frame, EtherType::IPV6),
        LinkType(other) => return Err(Reason::LinkType(other)),
    };
    while let EtherType::VLAN_TAGGED_FRAME
    | EtherType::PROVIDER_BRIDGING
    | EtherType::VLAN_DOUBLE_TAGGED_FRAME = payload.ether_type
    {
        let tag = SingleVlanSlice::from_slice(payload.data).map_err(|_| Reason::LinkHeader)?;
        payload = LinkPayload { ether_type: tag.ether_type(), data: tag.payload_slice(), ..payload };
    }
    Ok(payload)
}

/// A packet of Linux's "any" device.
fn cooked(hardware: u16, packet_type: u16, protocol: u16, data: &[u8]) -> Result<LinkPayload<'_>, Reason> {
    if NO_ETHER_TYPE.contains(&hardware) {
        return Err(Reason::NotIpv4("no Ethernet type"));
    }
    Ok(LinkPayload { ether_type: EtherType(protocol), group: GROUP.contains(&packet_type), data })
}

/// A big-endian half word; `at + 2` is within `bytes`.
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn raw(data: &[u8], ether_type: EtherType) -> LinkPayload<'_> {
    LinkPayload { ether_type, group: false, data }
}

fn raw_by_version(data: &[u8]) -> Result<LinkPayload<'_>, Reason> {
    match data.first().ok_or(Reason::LinkHeader)? >> 4 {
        4 => Ok(raw(data, EtherType::IPV4)),
        6 => Ok(raw(data, EtherType::IPV6)),
        _ => Err(Reason::BadHeader("neither version 4 nor 6")),
    }
}
