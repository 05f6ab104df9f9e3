//! Out-of-band words: typed views of the pointer-sized slots of [`NET_BUFFER_LIST::NetBufferListInfo`].

use crate::*;

bits! {
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_TRANSMIT(usize) = "NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO.Transmit";
    IsIPv4 / with_IsIPv4: 0, 1;
    IsIPv6 / with_IsIPv6: 1, 1;
    TcpChecksum / with_TcpChecksum: 2, 1;
    UdpChecksum / with_UdpChecksum: 3, 1;
    IpHeaderChecksum / with_IpHeaderChecksum: 4, 1;
    TcpHeaderOffset / with_TcpHeaderOffset: 16, 10;
}

bits! {
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_RECEIVE(usize) = "NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO.Receive";
    TcpChecksumFailed / with_TcpChecksumFailed: 0, 1;
    UdpChecksumFailed / with_UdpChecksumFailed: 1, 1;
    IpChecksumFailed / with_IpChecksumFailed: 2, 1;
    TcpChecksumSucceeded / with_TcpChecksumSucceeded: 3, 1;
    UdpChecksumSucceeded / with_UdpChecksumSucceeded: 4, 1;
    IpChecksumSucceeded / with_IpChecksumSucceeded: 5, 1;
    Loopback / with_Loopback: 6, 1;
    TcpChecksumValueInvalid / with_TcpChecksumValueInvalid: 7, 1;
    IpChecksumValueInvalid / with_IpChecksumValueInvalid: 8, 1;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_TRANSMIT(usize) = "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.Transmit";
    Type / with_Type: 30, 1;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT(usize) = "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV1Transmit";
    MSS / with_MSS: 0, 20;
    TcpHeaderOffset / with_TcpHeaderOffset: 20, 10;
    Type / with_Type: 30, 1;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V1_TRANSMIT_COMPLETE(usize) = "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV1TransmitComplete";
    TcpPayload / with_TcpPayload: 0, 30;
    Type / with_Type: 30, 1;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT(usize) = "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV2Transmit";
    MSS / with_MSS: 0, 20;
    TcpHeaderOffset / with_TcpHeaderOffset: 20, 10;
    Type / with_Type: 30, 1;
    IPVersion / with_IPVersion: 31, 1;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_V2_TRANSMIT_COMPLETE(usize) = "NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO.LsoV2TransmitComplete";
    Type / with_Type: 30, 1;
}

bits! {
    pub struct NDIS_NET_BUFFER_LIST_8021Q_INFO(usize) = "NDIS_NET_BUFFER_LIST_8021Q_INFO.TagHeader";
    UserPriority / with_UserPriority: 0, 3;
    CanonicalFormatId / with_CanonicalFormatId: 3, 1;
    VlanId / with_VlanId: 4, 12;
}

bits! {
    pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE(usize) = "NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO.Receive";
    SaDeleteReq / with_SaDeleteReq: 0, 1;
    CryptoDone / with_CryptoDone: 1, 1;
    NextCryptoDone / with_NextCryptoDone: 2, 1;
    CryptoStatus / with_CryptoStatus: 16, 16;
}

bits! {
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT(usize) = "NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO.Transmit";
    NextHeader / with_NextHeader: 0, 8;
    PadLength / with_PadLength: 8, 8;
    AhHeaderOffset / with_AhHeaderOffset: 16, 8;
    EspHeaderOffset / with_EspHeaderOffset: 24, 8;
}

bits! {
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE(usize) = "NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO.Receive";
    NextHeader / with_NextHeader: 0, 8;
    PadLength / with_PadLength: 8, 8;
    HeaderInfoSet / with_HeaderInfoSet: 16, 1;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_TRANSMIT {
    pub OffloadHandle: PVOID,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO_TRANSMIT {
    pub TunnelHandle: NDIS_HANDLE,
}

pub const NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4: ULONG = 0;
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6: ULONG = 1;
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE: ULONG = 0;
pub const NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE: ULONG = 1;

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
