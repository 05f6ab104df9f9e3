//! Task offloads: what an adapter can do and what is in force.

use crate::{BOOLEAN, NDIS_OBJECT_HEADER, ULONG};

#[cfg(doc)] // for links
use crate::*;

/// Task offloads of an adapter, as capabilities or as configuration, of NDIS 6.30 (revision 3).
/// `[ns-ntddndis-_ndis_offload]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Checksums.
    pub Checksum: NDIS_TCP_IP_CHECKSUM_OFFLOAD,
    /// Large send offload, version 1.
    pub LsoV1: NDIS_TCP_LARGE_SEND_OFFLOAD_V1,
    /// IPsec offload, version 1: zero, unsupported since Windows 8.
    pub IPsecV1: NDIS_IPSEC_OFFLOAD_V1,
    /// Large send offload, version 2.
    pub LsoV2: NDIS_TCP_LARGE_SEND_OFFLOAD_V2,
    /// `NDIS_OFFLOAD_FLAGS_…`, `IPSEC_OFFLOAD_V2_AND_…_COEXISTENCE`.
    pub Flags: ULONG,
    /// IPsec offload, version 2 (revision 2).
    pub IPsecV2: NDIS_IPSEC_OFFLOAD_V2,
    /// Receive segment coalescing (revision 3).
    pub Rsc: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD,
    /// Offloads inside GRE (revision 3).
    pub EncapsulatedPacketTaskOffloadGre: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD,
}
const _: () = assert!(size_of::<NDIS_OFFLOAD>() == 156 && align_of::<NDIS_OFFLOAD>() == 4);

/// Checksum capabilities can only be changed together.
pub const NDIS_OFFLOAD_FLAGS_GROUP_CHECKSUM_CAPABILITIES: ULONG = 1;
/// IPsec offload and TCP checksums work together.
pub const IPSEC_OFFLOAD_V2_AND_TCP_CHECKSUM_COEXISTENCE: ULONG = 2;
/// IPsec offload and UDP checksums work together.
pub const IPSEC_OFFLOAD_V2_AND_UDP_CHECKSUM_COEXISTENCE: ULONG = 4;

/// Capability: not supported.
pub const NDIS_OFFLOAD_NOT_SUPPORTED: ULONG = 0;
/// Capability: supported.
pub const NDIS_OFFLOAD_SUPPORTED: ULONG = 1;

/// Ethernet.
pub const NDIS_ENCAPSULATION_IEEE_802_3: ULONG = 2;
/// Ethernet with a VLAN tag in the frame.
pub const NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q: ULONG = 4;
/// Ethernet with VLAN data out of band.
pub const NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB: ULONG = 8;
/// LLC/SNAP.
pub const NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED: ULONG = 0x10;
/// None.
pub const NDIS_ENCAPSULATION_NOT_SUPPORTED: ULONG = 0;
/// No encapsulation.
pub const NDIS_ENCAPSULATION_NULL: ULONG = 1;

/// Bytes of IPv6 and TCP headers that a large send with extension headers may have.
pub const NDIS_LARGE_SEND_OFFLOAD_MAX_HEADER_LENGTH: ULONG = 0x80;

/// Checksum offloads over IPv4 in one direction; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// What is supported.
    pub Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS,
}

/// Checksum offloads over IPv6 in one direction; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// What is supported.
    pub Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_BITS,
}

/// Checksum offloads. `[ns-ntddndis-_ndis_tcp_ip_checksum_offload]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD {
    /// IPv4, sending.
    pub IPv4Transmit: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4,
    /// IPv4, receiving.
    pub IPv4Receive: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4,
    /// IPv6, sending.
    pub IPv6Transmit: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6,
    /// IPv6, receiving.
    pub IPv6Receive: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6,
}
const _: () = assert!(
    size_of::<NDIS_TCP_IP_CHECKSUM_OFFLOAD>() == 32 && align_of::<NDIS_TCP_IP_CHECKSUM_OFFLOAD>() == 4
);

/// Large send offload, version 1, over IPv4; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4 {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// Bytes of TCP payload of a large send, at most.
    pub MaxOffLoadSize: ULONG,
    /// Segments of a large send, at least.
    pub MinSegmentCount: ULONG,
    /// What is supported.
    pub Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_BITS,
}

/// Large send offload, version 1. `[ns-ntddndis-_ndis_tcp_large_send_offload_v1]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1 {
    /// Over IPv4.
    pub IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4,
}
const _: () = assert!(
    size_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V1>() == 16 && align_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V1>() == 4
);

/// Large send offload, version 2, over IPv4; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4 {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// Bytes of TCP payload of a large send, at most.
    pub MaxOffLoadSize: ULONG,
    /// Segments of a large send, at least.
    pub MinSegmentCount: ULONG,
}

/// Large send offload, version 2, over IPv6; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6 {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// Bytes of TCP payload of a large send, at most.
    pub MaxOffLoadSize: ULONG,
    /// Segments of a large send, at least.
    pub MinSegmentCount: ULONG,
    /// What is supported.
    pub Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_BITS,
}

/// Large send offload, version 2. `[ns-ntddndis-_ndis_tcp_large_send_offload_v2]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2 {
    /// Over IPv4.
    pub IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4,
    /// Over IPv6.
    pub IPv6: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6,
}
const _: () = assert!(
    size_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V2>() == 28 && align_of::<NDIS_TCP_LARGE_SEND_OFFLOAD_V2>() == 4
);

/// What IPsec offload, version 1, supports in general; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_IPSEC_OFFLOAD_V1_SUPPORTED {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// AH and ESP in one packet.
    pub AhEspCombined: ULONG,
    /// Transport mode inside tunnel mode.
    pub TransportTunnelCombined: ULONG,
    /// Packets with IPv4 options.
    pub IPv4Options: ULONG,
    /// 0.
    pub Flags: ULONG,
}

/// IPsec offload, version 1; zero on current Windows. `[ns-ntddndis-_ndis_ipsec_offload_v1]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_IPSEC_OFFLOAD_V1 {
    /// In general.
    pub Supported: NDIS_IPSEC_OFFLOAD_V1_SUPPORTED,
    /// AH.
    pub IPv4AH: NDIS_IPSEC_OFFLOAD_V1_IPv4AH,
    /// ESP.
    pub IPv4ESP: NDIS_IPSEC_OFFLOAD_V1_IPv4ESP,
}
const _: () = assert!(size_of::<NDIS_IPSEC_OFFLOAD_V1>() == 28 && align_of::<NDIS_IPSEC_OFFLOAD_V1>() == 4);

/// IPsec offload, version 2. `[ns-ntddndis-_ndis_ipsec_offload_v2]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_IPSEC_OFFLOAD_V2 {
    /// `NDIS_ENCAPSULATION_…`: the framings it works with.
    pub Encapsulation: ULONG,
    /// IPv6.
    pub IPv6Supported: BOOLEAN,
    /// Packets with IPv4 options.
    pub IPv4Options: BOOLEAN,
    /// Packets with IPv6 extension headers other than IPsec's.
    pub IPv6NonIPsecExtensionHeaders: BOOLEAN,
    /// AH.
    pub Ah: BOOLEAN,
    /// ESP.
    pub Esp: BOOLEAN,
    /// AH and ESP in one packet.
    pub AhEspCombined: BOOLEAN,
    /// Transport mode.
    pub Transport: BOOLEAN,
    /// Tunnel mode; must be [`TRUE`] for any IPsec offload.
    pub Tunnel: BOOLEAN,
    /// Transport mode inside tunnel mode.
    pub TransportTunnelCombined: BOOLEAN,
    /// Large send offload of protected connections.
    pub LsoSupported: BOOLEAN,
    /// Extended (64-bit) sequence numbers.
    pub ExtendedSequenceNumbers: BOOLEAN,
    /// Mask of `IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_…` types.
    pub UdpEsp: ULONG,
    /// Mask of `IPSEC_OFFLOAD_V2_AUTHENTICATION_…`.
    pub AuthenticationAlgorithms: ULONG,
    /// Mask of `IPSEC_OFFLOAD_V2_ENCRYPTION_…`.
    pub EncryptionAlgorithms: ULONG,
    /// SA bundles that the NIC holds.
    pub SaOffloadCapacity: ULONG,
}
const _: () = assert!(size_of::<NDIS_IPSEC_OFFLOAD_V2>() == 32 && align_of::<NDIS_IPSEC_OFFLOAD_V2>() == 4);

/// Receive segment coalescing of one address family; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_FAMILY {
    /// Supported or in force.
    pub Enabled: BOOLEAN,
}

/// Receive segment coalescing. `[ns-ntddndis-_ndis_tcp_recv_seg_coalesce_offload]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD {
    /// Over IPv4.
    pub IPv4: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_FAMILY,
    /// Over IPv6.
    pub IPv6: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_FAMILY,
}
const _: () = assert!(
    size_of::<NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD>() == 2
        && align_of::<NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD>() == 1
);

/// Offloads of encapsulated packets. `[ns-ntddndis-_ndis_encapsulated_packet_task_offload]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD {
    /// What is supported.
    pub Bits: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_BITS,
    /// Bytes of headers up to the inner payload, at most.
    pub MaxHeaderSizeSupported: ULONG,
}
const _: () = assert!(
    size_of::<NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD>() == 8
        && align_of::<NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD>() == 4
);

bits! {
    /// What checksum offloads over IPv4 support: [`NDIS_OFFLOAD_SUPPORTED`] each.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS(ULONG) =
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv4Transmit",
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv4Receive";
    /// Packets with IPv4 options.
    IpOptionsSupported / with_IpOptionsSupported: 0, 2;
    /// Segments with TCP options.
    TcpOptionsSupported / with_TcpOptionsSupported: 2, 2;
    /// TCP checksums.
    TcpChecksum / with_TcpChecksum: 4, 2;
    /// UDP checksums.
    UdpChecksum / with_UdpChecksum: 6, 2;
    /// IPv4 header checksums.
    IpChecksum / with_IpChecksum: 8, 2;
}

bits! {
    /// What checksum offloads over IPv6 support: [`NDIS_OFFLOAD_SUPPORTED`] each.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_BITS(ULONG) =
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv6Transmit",
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv6Receive";
    /// Packets with IPv6 extension headers.
    IpExtensionHeadersSupported / with_IpExtensionHeadersSupported: 0, 2;
    /// Segments with TCP options.
    TcpOptionsSupported / with_TcpOptionsSupported: 2, 2;
    /// TCP checksums.
    TcpChecksum / with_TcpChecksum: 4, 2;
    /// UDP checksums.
    UdpChecksum / with_UdpChecksum: 6, 2;
}

bits! {
    /// What large send offload, version 1, supports: [`NDIS_OFFLOAD_SUPPORTED`] each.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_BITS(ULONG) = "NDIS_TCP_LARGE_SEND_OFFLOAD_V1.IPv4";
    /// Segments with TCP options.
    TcpOptions / with_TcpOptions: 0, 2;
    /// Packets with IPv4 options.
    IpOptions / with_IpOptions: 2, 2;
}

bits! {
    /// What large send offload, version 2, over IPv6 supports: [`NDIS_OFFLOAD_SUPPORTED`] each.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_BITS(ULONG) = "NDIS_TCP_LARGE_SEND_OFFLOAD_V2.IPv6";
    /// Packets with IPv6 extension headers.
    IpExtensionHeadersSupported / with_IpExtensionHeadersSupported: 0, 2;
    /// Segments with TCP options.
    TcpOptionsSupported / with_TcpOptionsSupported: 2, 2;
}

bits! {
    /// AH of IPsec offload, version 1; anonymous in the C header.
    pub struct NDIS_IPSEC_OFFLOAD_V1_IPv4AH(ULONG) = "NDIS_IPSEC_OFFLOAD_V1.IPv4AH";
    /// HMAC-MD5.
    Md5 / with_Md5: 0, 2;
    /// HMAC-SHA-1.
    Sha_1 / with_Sha_1: 2, 2;
    /// Transport mode.
    Transport / with_Transport: 4, 2;
    /// Tunnel mode.
    Tunnel / with_Tunnel: 6, 2;
    /// Sending.
    Send / with_Send: 8, 2;
    /// Receiving.
    Receive / with_Receive: 10, 2;
}

bits! {
    /// ESP of IPsec offload, version 1; anonymous in the C header.
    pub struct NDIS_IPSEC_OFFLOAD_V1_IPv4ESP(ULONG) = "NDIS_IPSEC_OFFLOAD_V1.IPv4ESP";
    /// DES.
    Des / with_Des: 0, 2;
    /// Triple DES.
    TripleDes / with_TripleDes: 4, 2;
    /// No encryption.
    NullEsp / with_NullEsp: 6, 2;
    /// Transport mode.
    Transport / with_Transport: 8, 2;
    /// Tunnel mode.
    Tunnel / with_Tunnel: 10, 2;
    /// Sending.
    Send / with_Send: 12, 2;
    /// Receiving.
    Receive / with_Receive: 14, 2;
}

bits! {
    /// For which address families each offload of encapsulated packets is supported.
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_BITS(ULONG) = "NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD";
    /// Checksums, sending.
    TransmitChecksumOffloadSupported / with_TransmitChecksumOffloadSupported: 0, 4;
    /// Checksums, receiving.
    ReceiveChecksumOffloadSupported / with_ReceiveChecksumOffloadSupported: 4, 4;
    /// Large send offload, version 2.
    LsoV2Supported / with_LsoV2Supported: 8, 4;
    /// Receive-side scaling.
    RssSupported / with_RssSupported: 12, 4;
    /// Virtual machine queues.
    VmqSupported / with_VmqSupported: 16, 4;
}
