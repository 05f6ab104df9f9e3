//! Out-of-band words: typed values of the slots of [`NET_BUFFER_LIST::NetBufferListInfo`].
//!
//! A slot is as wide as a pointer. Where it holds bit-fields they are in its low 32 bits; the C unions that name them are
//! one type per member here, and a builder leaves the other bits as they are.

use crate::{NDIS_HANDLE, PVOID, ULONG};

#[cfg(doc)] // for links
use crate::*;

bits! {
    /// Checksums to compute, in sends: `Transmit` of the C union.
    /// `[ns-nblchecksum-ndis_tcp_ip_checksum_net_buffer_list_info]`
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT(usize) =
        "NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO.Transmit";
    /// The frames are IPv4. Neither this nor `IsIPv6`: nothing to do.
    IsIPv4 / with_IsIPv4: 0, 1;
    /// The frames are IPv6.
    IsIPv6 / with_IsIPv6: 1, 1;
    /// Compute the TCP checksum.
    TcpChecksum / with_TcpChecksum: 2, 1;
    /// Compute the UDP checksum.
    UdpChecksum / with_UdpChecksum: 3, 1;
    /// Compute the IPv4 header checksum.
    IpHeaderChecksum / with_IpHeaderChecksum: 4, 1;
    /// Where the TCP header starts, bytes from the start of the frame; not filled for UDP.
    TcpHeaderOffset / with_TcpHeaderOffset: 16, 10;
}

bits! {
    /// Checksums verified, in receives: `Receive` of the C union.
    /// `[ns-nblchecksum-ndis_tcp_ip_checksum_net_buffer_list_info]`
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE(usize) =
        "NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO.Receive";
    /// The TCP checksum is wrong.
    TcpChecksumFailed / with_TcpChecksumFailed: 0, 1;
    /// The UDP checksum is wrong.
    UdpChecksumFailed / with_UdpChecksumFailed: 1, 1;
    /// The IPv4 header checksum is wrong.
    IpChecksumFailed / with_IpChecksumFailed: 2, 1;
    /// The TCP checksum is right.
    TcpChecksumSucceeded / with_TcpChecksumSucceeded: 3, 1;
    /// The UDP checksum is right.
    UdpChecksumSucceeded / with_UdpChecksumSucceeded: 4, 1;
    /// The IPv4 header checksum is right.
    IpChecksumSucceeded / with_IpChecksumSucceeded: 5, 1;
    /// Looped back.
    Loopback / with_Loopback: 6, 1;
    /// The TCP checksum in the header is not valid (coalesced segments).
    TcpChecksumValueInvalid / with_TcpChecksumValueInvalid: 7, 1;
    /// The IPv4 checksum in the header is not valid (coalesced segments).
    IpChecksumValueInvalid / with_IpChecksumValueInvalid: 8, 1;
}

bits! {
    /// What tells the versions of large send offload apart: `Transmit` of the C union.
    /// `[ns-nbllso-ndis_tcp_large_send_offload_net_buffer_list_info]`
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_TRANSMIT(usize) =
        "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.Transmit";
    /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
    Type / with_Type: 30, 1;
}

bits! {
    /// A large send, version 1: `LsoV1Transmit` of the C union.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT(usize) =
        "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV1Transmit";
    /// Bytes of TCP payload of each segment but the last.
    MSS / with_MSS: 0, 20;
    /// Where the TCP header starts, bytes from the start of the frame.
    TcpHeaderOffset / with_TcpHeaderOffset: 20, 10;
    /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
    Type / with_Type: 30, 1;
}

bits! {
    /// A completed large send, version 1: `LsoV1TransmitComplete` of the C union.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT_COMPLETE(usize) =
        "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV1TransmitComplete";
    /// Bytes of TCP payload sent in all segments.
    TcpPayload / with_TcpPayload: 0, 30;
    /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
    Type / with_Type: 30, 1;
}

bits! {
    /// A large send, version 2: `LsoV2Transmit` of the C union.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT(usize) =
        "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV2Transmit";
    /// Bytes of TCP payload of each segment but the last.
    MSS / with_MSS: 0, 20;
    /// Where the TCP header starts, bytes from the start of the frame.
    TcpHeaderOffset / with_TcpHeaderOffset: 20, 10;
    /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
    Type / with_Type: 30, 1;
    /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6`].
    IPVersion / with_IPVersion: 31, 1;
}

bits! {
    /// A completed large send, version 2: `LsoV2TransmitComplete` of the C union.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT_COMPLETE(usize) =
        "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV2TransmitComplete";
    /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
    Type / with_Type: 30, 1;
}

bits! {
    /// VLAN tag of the frames; 0: none. `TagHeader` of the C union.
    /// `[ns-nbl8021q-ndis_net_buffer_list_8021q_info]`
    pub struct NDIS_NET_BUFFER_LIST_8021Q_INFO(usize) = "NDIS_NET_BUFFER_LIST_8021Q_INFO.TagHeader";
    /// 802.1p priority.
    UserPriority / with_UserPriority: 0, 3;
    /// 0.
    CanonicalFormatId / with_CanonicalFormatId: 3, 1;
    /// VLAN identifier.
    VlanId / with_VlanId: 4, 12;
}

bits! {
    /// What the NIC did with a received packet: `Receive` of the C union.
    /// `[ns-ndis-_ndis_ipsec_offload_v2_net_buffer_list_info]`
    pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE(usize) =
        "NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO.Receive";
    /// The NIC asks for the deletion of the SA; it keeps it until then.
    SaDeleteReq / with_SaDeleteReq: 0, 1;
    /// At least one payload was checked.
    CryptoDone / with_CryptoDone: 1, 1;
    /// Both the tunnel's and the transport payload were checked.
    NextCryptoDone / with_NextCryptoDone: 2, 1;
    /// `CRYPTO_…`, if `CryptoDone`.
    CryptoStatus / with_CryptoStatus: 16, 16;
}

bits! {
    /// Where the IPsec headers of a send are: `Transmit` of the C union; its word has 32 bits. Offsets are
    /// from the start of the (outer) IP header, in units of 4 bytes.
    /// `[ns-ndis-_ndis_ipsec_offload_v2_header_net_buffer_list_info]`
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT(usize) =
        "NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO.Transmit";
    /// IP protocol of the payload.
    NextHeader / with_NextHeader: 0, 8;
    /// Bytes of the ESP trailer's padding; of a large send, bytes at the end of the data to drop.
    PadLength / with_PadLength: 8, 8;
    /// AH header.
    AhHeaderOffset / with_AhHeaderOffset: 16, 8;
    /// ESP header, behind a UDP header if there is one.
    EspHeaderOffset / with_EspHeaderOffset: 24, 8;
}

bits! {
    /// What the ESP trailer of a received packet said: `Receive` of the C union; its word has 32 bits.
    /// `[ns-ndis-_ndis_ipsec_offload_v2_header_net_buffer_list_info]`
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE(usize) =
        "NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO.Receive";
    /// IP protocol of the payload.
    NextHeader / with_NextHeader: 0, 8;
    /// Bytes of padding.
    PadLength / with_PadLength: 8, 8;
    /// The other two are valid.
    HeaderInfoSet / with_HeaderInfoSet: 16, 1;
}

/// The SA of a send: `Transmit` of the C union NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO.
/// `[ns-ndis-_ndis_ipsec_offload_v2_net_buffer_list_info]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_TRANSMIT {
    /// The SA, or the transport SA inside a tunnel; null: no IPsec.
    pub OffloadHandle: PVOID,
}

/// The tunnel SA of a send with transport mode inside tunnel mode: `Transmit` of the C union
/// NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO.
/// `[ns-ndis-_ndis_ipsec_offload_v2_tunnel_net_buffer_list_info]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO_TRANSMIT {
    /// The tunnel SA; null: none.
    pub TunnelHandle: NDIS_HANDLE,
}

/// IPv4.
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4: ULONG = 0;
/// IPv6.
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6: ULONG = 1;
/// Large send offload, version 1.
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE: ULONG = 0;
/// Large send offload, version 2.
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE: ULONG = 1;

/// Conversion from and to slots.
macro_rules! slots {
    ($($t:ident,)*) => {
        $(
            impl $t {
                /// Reads the slot's value.
                #[must_use]
                pub fn from_slot(slot: PVOID) -> Self {
                    Self(slot.addr())
                }

                /// The value to store in the slot.
                #[must_use]
                pub const fn into_slot(self) -> PVOID {
                    core::ptr::without_provenance_mut(self.0)
                }
            }
        )*
    };
}

slots! {
    NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT,
    NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_TRANSMIT,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT_COMPLETE,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT,
    NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT_COMPLETE,
    NDIS_NET_BUFFER_LIST_8021Q_INFO,
    NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE,
    NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT,
    NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE,
}
