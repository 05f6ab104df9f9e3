//! Out-of-band words other than IPsec's: checksums, large sends, 802.1Q (`spec` pages named at each).

use ndis_sys::{
    NDIS_NET_BUFFER_LIST_8021Q_INFO, NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE,
    NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT, NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT_COMPLETE,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT_COMPLETE,
    NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE, PVOID,
};

/// The low 16 bits.
fn low16(value: u32) -> u16 {
    let [low, high, ..] = value.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Checksums the sender wants computed (slot 0, `[ns-nblchecksum-ndis_tcp_ip_checksum_net_buffer_list_info]`).
/// Neither `ipv4` nor `ipv6`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent bits, as NDIS has them
pub struct ChecksumSend {
    /// The packet is IPv4.
    pub ipv4: bool,
    /// The packet is IPv6.
    pub ipv6: bool,
    /// Compute the TCP checksum.
    pub tcp: bool,
    /// Compute the UDP checksum.
    pub udp: bool,
    /// Compute the IPv4 header checksum.
    pub ip: bool,
    /// Bytes from the start of the frame to the TCP header; not filled in for UDP.
    pub tcp_offset: u16,
}

impl ChecksumSend {
    pub(super) fn from_slot(slot: PVOID) -> Self {
        let word = NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT::from_slot(slot);
        Self {
            ipv4: word.IsIPv4() != 0,
            ipv6: word.IsIPv6() != 0,
            tcp: word.TcpChecksum() != 0,
            udp: word.UdpChecksum() != 0,
            ip: word.IpHeaderChecksum() != 0,
            tcp_offset: low16(word.TcpHeaderOffset()),
        }
    }
}

/// What the adapter found in one checksum of a received packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// Not checked; also a UDP checksum of 0 over IPv4.
    #[default]
    NotChecked,
    /// Right.
    Succeeded,
    /// Wrong.
    Failed,
}

/// Checksums of a received packet (slot 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumReceive {
    /// IPv4 header.
    pub ip: ChecksumVerdict,
    /// TCP.
    pub tcp: ChecksumVerdict,
    /// UDP.
    pub udp: ChecksumVerdict,
}

impl ChecksumReceive {
    pub(super) fn into_slot(self) -> PVOID {
        let bits = |verdict| {
            (u32::from(verdict == ChecksumVerdict::Failed), u32::from(verdict == ChecksumVerdict::Succeeded))
        };
        let (ip_failed, ip_good) = bits(self.ip);
        let (tcp_failed, tcp_good) = bits(self.tcp);
        let (udp_failed, udp_good) = bits(self.udp);
        NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE::default()
            .with_IpChecksumFailed(ip_failed)
            .with_IpChecksumSucceeded(ip_good)
            .with_TcpChecksumFailed(tcp_failed)
            .with_TcpChecksumSucceeded(tcp_good)
            .with_UdpChecksumFailed(udp_failed)
            .with_UdpChecksumSucceeded(udp_good)
            .into_slot()
    }
}

/// A large send (slot 2, `[ns-nbllso-ndis_tcp_large_send_offload_net_buffer_list_info]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeSend {
    /// Which version, and for version 2 which family.
    pub version: LargeSendVersion,
    /// Bytes of TCP payload per segment.
    pub mss: u32,
    /// Bytes from the start of the frame to the TCP header.
    pub tcp_offset: u16,
}

/// The version of a large send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargeSendVersion {
    /// Version 1, IPv4.
    V1,
    /// Version 2, IPv4.
    V2Ipv4,
    /// Version 2, IPv6.
    V2Ipv6,
}

impl LargeSend {
    /// `None` for an ordinary send: the slot is 0.
    pub(super) fn from_slot(slot: PVOID) -> Option<Self> {
        if slot.is_null() {
            return None;
        }
        // MSS and TcpHeaderOffset lie at the same bits in both versions.
        let word = NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT::from_slot(slot);
        let version = if word.Type() != NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE {
            LargeSendVersion::V1
        } else if word.IPVersion() == NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6 {
            LargeSendVersion::V2Ipv6
        } else {
            LargeSendVersion::V2Ipv4
        };
        Some(Self { version, mss: word.MSS(), tcp_offset: low16(word.TcpHeaderOffset()) })
    }

    /// The word to leave in the slot when the send is done; `payload` is the TCP payload sent, over all segments.
    pub(super) fn completion(self, payload: u32) -> PVOID {
        match self.version {
            LargeSendVersion::V1 => {
                NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT_COMPLETE::default()
                    .with_TcpPayload(payload)
                    .into_slot()
            }
            LargeSendVersion::V2Ipv4 | LargeSendVersion::V2Ipv6 => {
                NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT_COMPLETE::default()
                    .with_Type(NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE)
                    .into_slot()
            }
        }
    }
}

/// An 802.1Q tag (slot 4, `[ns-nbl8021q-ndis_net_buffer_list_8021q_info]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanTag {
    /// User priority, 0..=7.
    pub priority: u8,
    /// Canonical format identifier.
    pub canonical_format: bool,
    /// VLAN, 0..=4095; 0 = priority only.
    pub vlan: u16,
}

impl VlanTag {
    /// `None` if the slot is 0: no tag.
    pub(super) fn from_slot(slot: PVOID) -> Option<Self> {
        if slot.is_null() {
            return None;
        }
        let word = NDIS_NET_BUFFER_LIST_8021Q_INFO::from_slot(slot);
        Some(Self {
            priority: word.UserPriority().to_le_bytes()[0],
            canonical_format: word.CanonicalFormatId() != 0,
            vlan: low16(word.VlanId()),
        })
    }

    pub(super) fn into_slot(self) -> PVOID {
        NDIS_NET_BUFFER_LIST_8021Q_INFO::default()
            .with_UserPriority(self.priority.into())
            .with_CanonicalFormatId(self.canonical_format.into())
            .with_VlanId(self.vlan.into())
            .into_slot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::without_provenance_mut;

    #[test]
    fn checksum_words() {
        let word = ChecksumSend::from_slot(without_provenance_mut(0x0022_0015));
        assert_eq!(
            word,
            ChecksumSend { ipv4: true, ipv6: false, tcp: true, udp: false, ip: true, tcp_offset: 34 }
        );
        let verdicts = ChecksumReceive {
            ip: ChecksumVerdict::Succeeded,
            tcp: ChecksumVerdict::Failed,
            udp: ChecksumVerdict::NotChecked,
        };
        assert_eq!(verdicts.into_slot().addr(), 0x21);
        assert!(ChecksumReceive::default().into_slot().is_null());
    }

    #[test]
    fn large_send_words() {
        assert_eq!(LargeSend::from_slot(core::ptr::null_mut()), None);
        let v1 = LargeSend::from_slot(without_provenance_mut((34 << 20) + 1460)).unwrap();
        assert_eq!(v1, LargeSend { version: LargeSendVersion::V1, mss: 1460, tcp_offset: 34 });
        assert_eq!(v1.completion(64000).addr(), 64000);
        let v2 = LargeSend::from_slot(without_provenance_mut((3 << 30) + (54 << 20) + 1440)).unwrap();
        assert_eq!(v2, LargeSend { version: LargeSendVersion::V2Ipv6, mss: 1440, tcp_offset: 54 });
        assert_eq!(v2.completion(64000).addr(), 1 << 30);
    }

    #[test]
    fn vlan_words() {
        let tag = VlanTag { priority: 5, canonical_format: false, vlan: 0xABC };
        assert_eq!(tag.into_slot().addr(), 0xABC5);
        assert_eq!(VlanTag::from_slot(tag.into_slot()), Some(tag));
        assert_eq!(VlanTag::from_slot(core::ptr::null_mut()), None);
    }
}
