//! Task-offload capabilities and their configuration.

use crate::*;

bits! {
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS(ULONG) = "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv4Transmit", "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv4Receive";
    IpOptionsSupported / with_IpOptionsSupported: 0, 2;
    TcpOptionsSupported / with_TcpOptionsSupported: 2, 2;
    TcpChecksum / with_TcpChecksum: 4, 2;
    UdpChecksum / with_UdpChecksum: 6, 2;
    IpChecksum / with_IpChecksum: 8, 2;
}

bits! {
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_BITS(ULONG) = "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv6Transmit", "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv6Receive";
    IpExtensionHeadersSupported / with_IpExtensionHeadersSupported: 0, 2;
    TcpOptionsSupported / with_TcpOptionsSupported: 2, 2;
    TcpChecksum / with_TcpChecksum: 4, 2;
    UdpChecksum / with_UdpChecksum: 6, 2;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_BITS(ULONG) = "NDIS_TCP_LARGE_SEND_OFFLOAD_V1.IPv4";
    TcpOptions / with_TcpOptions: 0, 2;
    IpOptions / with_IpOptions: 2, 2;
}

bits! {
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_BITS(ULONG) = "NDIS_TCP_LARGE_SEND_OFFLOAD_V2.IPv6";
    IpExtensionHeadersSupported / with_IpExtensionHeadersSupported: 0, 2;
    TcpOptionsSupported / with_TcpOptionsSupported: 2, 2;
}

bits! {
    pub struct NDIS_IPSEC_OFFLOAD_V1_IPv4AH(ULONG) = "NDIS_IPSEC_OFFLOAD_V1.IPv4AH";
    Md5 / with_Md5: 0, 2;
    Sha_1 / with_Sha_1: 2, 2;
    Transport / with_Transport: 4, 2;
    Tunnel / with_Tunnel: 6, 2;
    Send / with_Send: 8, 2;
    Receive / with_Receive: 10, 2;
}

bits! {
    pub struct NDIS_IPSEC_OFFLOAD_V1_IPv4ESP(ULONG) = "NDIS_IPSEC_OFFLOAD_V1.IPv4ESP";
    Des / with_Des: 0, 2;
    TripleDes / with_TripleDes: 4, 2;
    NullEsp / with_NullEsp: 6, 2;
    Transport / with_Transport: 8, 2;
    Tunnel / with_Tunnel: 10, 2;
    Send / with_Send: 12, 2;
    Receive / with_Receive: 14, 2;
}

bits! {
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_BITS(ULONG) = "NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD";
    TransmitChecksumOffloadSupported / with_TransmitChecksumOffloadSupported: 0, 4;
    ReceiveChecksumOffloadSupported / with_ReceiveChecksumOffloadSupported: 4, 4;
    LsoV2Supported / with_LsoV2Supported: 8, 4;
    RssSupported / with_RssSupported: 12, 4;
    VmqSupported / with_VmqSupported: 16, 4;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 {
    pub Encapsulation: ULONG,
    pub Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 {
    pub Encapsulation: ULONG,
    pub Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_BITS,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD {
    pub IPv4Transmit: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4,
    pub IPv4Receive: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4,
    pub IPv6Transmit: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6,
    pub IPv6Receive: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6,
}
const _: () = assert!(
    size_of::<NDIS_TCP_IP_CHECKSUM_OFFLOAD>() == 32 && align_of::<NDIS_TCP_IP_CHECKSUM_OFFLOAD>() == 4
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4 {
    pub Encapsulation: ULONG,
    pub MaxOffLoadSize: ULONG,
    pub MinSegmentCount: ULONG,
    pub Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_BITS,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1 {
    pub IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4,
}
const _: () = assert!(
    size_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V1>() == 16 && align_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V1>() == 4
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4 {
    pub Encapsulation: ULONG,
    pub MaxOffLoadSize: ULONG,
    pub MinSegmentCount: ULONG,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6 {
    pub Encapsulation: ULONG,
    pub MaxOffLoadSize: ULONG,
    pub MinSegmentCount: ULONG,
    pub Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_BITS,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2 {
    pub IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4,
    pub IPv6: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6,
}
const _: () = assert!(
    size_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V2>() == 28 && align_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V2>() == 4
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_IPSEC_OFFLOAD_V1_SUPPORTED {
    pub Encapsulation: ULONG,
    pub AhEspCombined: ULONG,
    pub TransportTunnelCombined: ULONG,
    pub IPv4Options: ULONG,
    pub Flags: ULONG,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_IPSEC_OFFLOAD_V1 {
    pub Supported: NDIS_IPSEC_OFFLOAD_V1_SUPPORTED,
    pub IPv4AH: NDIS_IPSEC_OFFLOAD_V1_IPv4AH,
    pub IPv4ESP: NDIS_IPSEC_OFFLOAD_V1_IPv4ESP,
}
const _: () = assert!(size_of::<NDIS_IPSEC_OFFLOAD_V1>() == 28 && align_of::<NDIS_IPSEC_OFFLOAD_V1>() == 4);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_IPSEC_OFFLOAD_V2 {
    pub Encapsulation: ULONG,
    pub IPv6Supported: BOOLEAN,
    pub IPv4Options: BOOLEAN,
    pub IPv6NonIPsecExtensionHeaders: BOOLEAN,
    pub Ah: BOOLEAN,
    pub Esp: BOOLEAN,
    pub AhEspCombined: BOOLEAN,
    pub Transport: BOOLEAN,
    pub Tunnel: BOOLEAN,
    pub TransportTunnelCombined: BOOLEAN,
    pub LsoSupported: BOOLEAN,
    pub ExtendedSequenceNumbers: BOOLEAN,
    pub UdpEsp: ULONG,
    pub AuthenticationAlgorithms: ULONG,
    pub EncryptionAlgorithms: ULONG,
    pub SaOffloadCapacity: ULONG,
}
const _: () = assert!(size_of::<NDIS_IPSEC_OFFLOAD_V2>() == 32 && align_of::<NDIS_IPSEC_OFFLOAD_V2>() == 4);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_FAMILY {
    pub Enabled: BOOLEAN,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD {
    pub IPv4: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_FAMILY,
    pub IPv6: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_FAMILY,
}
const _: () = assert!(
    size_of::<NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD>() == 2
        && align_of::<NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD>() == 1
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD {
    pub Bits: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_BITS,
    pub MaxHeaderSizeSupported: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD>() == 8
        && align_of::<NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD>() == 4
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD {
    pub Header: NDIS_OBJECT_HEADER,
    pub Checksum: NDIS_TCP_IP_CHECKSUM_OFFLOAD,
    pub LsoV1: NDIS_TCP_LARGE_SEND_OFFLOAD_V1,
    pub IPsecV1: NDIS_IPSEC_OFFLOAD_V1,
    pub LsoV2: NDIS_TCP_LARGE_SEND_OFFLOAD_V2,
    pub Flags: ULONG,
    pub IPsecV2: NDIS_IPSEC_OFFLOAD_V2,
    pub Rsc: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD,
    pub EncapsulatedPacketTaskOffloadGre: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD,
}
const _: () = assert!(size_of::<NDIS_OFFLOAD>() == 156 && align_of::<NDIS_OFFLOAD>() == 4);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD_PARAMETERS {
    pub Header: NDIS_OBJECT_HEADER,
    pub IPv4Checksum: UCHAR,
    pub TCPIPv4Checksum: UCHAR,
    pub UDPIPv4Checksum: UCHAR,
    pub TCPIPv6Checksum: UCHAR,
    pub UDPIPv6Checksum: UCHAR,
    pub LsoV1: UCHAR,
    pub IPsecV1: UCHAR,
    pub LsoV2IPv4: UCHAR,
    pub LsoV2IPv6: UCHAR,
    pub TcpConnectionIPv4: UCHAR,
    pub TcpConnectionIPv6: UCHAR,
    pub Flags: ULONG,
    pub IPsecV2: UCHAR,
    pub IPsecV2IPv4: UCHAR,
    pub RscIPv4: UCHAR,
    pub RscIPv6: UCHAR,
    pub EncapsulatedPacketTaskOffload: UCHAR,
    pub EncapsulationTypes: UCHAR,
}
const _: () =
    assert!(size_of::<NDIS_OFFLOAD_PARAMETERS>() == 28 && align_of::<NDIS_OFFLOAD_PARAMETERS>() == 4);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD_ENCAPSULATION_FAMILY {
    pub Enabled: ULONG,
    pub EncapsulationType: ULONG,
    pub HeaderSize: ULONG,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD_ENCAPSULATION {
    pub Header: NDIS_OBJECT_HEADER,
    pub IPv4: NDIS_OFFLOAD_ENCAPSULATION_FAMILY,
    pub IPv6: NDIS_OFFLOAD_ENCAPSULATION_FAMILY,
}
const _: () =
    assert!(size_of::<NDIS_OFFLOAD_ENCAPSULATION>() == 28 && align_of::<NDIS_OFFLOAD_ENCAPSULATION>() == 4);

pub const NDIS_OFFLOAD_NOT_SUPPORTED: ULONG = 0;
pub const NDIS_OFFLOAD_SUPPORTED: ULONG = 1;
pub const NDIS_OFFLOAD_SET_NO_CHANGE: ULONG = 0;
pub const NDIS_OFFLOAD_SET_ON: ULONG = 1;
pub const NDIS_OFFLOAD_SET_OFF: ULONG = 2;
pub const NDIS_OFFLOAD_FLAGS_GROUP_CHECKSUM_CAPABILITIES: ULONG = 1;
pub const IPSEC_OFFLOAD_V2_AND_TCP_CHECKSUM_COEXISTENCE: ULONG = 2;
pub const IPSEC_OFFLOAD_V2_AND_UDP_CHECKSUM_COEXISTENCE: ULONG = 4;
pub const NDIS_LARGE_SEND_OFFLOAD_MAX_HEADER_LENGTH: ULONG = 0x80;
pub const NDIS_ENCAPSULATION_IEEE_802_3: ULONG = 2;
pub const NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q: ULONG = 4;
pub const NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB: ULONG = 8;
pub const NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED: ULONG = 0x10;
pub const NDIS_ENCAPSULATION_NOT_SUPPORTED: ULONG = 0;
pub const NDIS_ENCAPSULATION_NULL: ULONG = 1;
pub const NDIS_ENCAPSULATION_TYPE_GRE_MAC: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE: ULONG = 1;
pub const NDIS_OFFLOAD_PARAMETERS_CONNECTION_OFFLOAD_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_CONNECTION_OFFLOAD_ENABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_AH_AND_ESP_ENABLED: UCHAR = 4;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_AH_ENABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_ESP_ENABLED: UCHAR = 3;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_AND_ESP_ENABLED: UCHAR = 4;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_ENABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_ESP_ENABLED: UCHAR = 3;
pub const NDIS_OFFLOAD_PARAMETERS_LSOV1_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_LSOV1_ENABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_NO_CHANGE: UCHAR = 0;
pub const NDIS_OFFLOAD_PARAMETERS_RSC_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_RSC_ENABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED: UCHAR = 3;
pub const NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED: UCHAR = 2;
pub const NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED: UCHAR = 1;
pub const NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED: UCHAR = 4;
