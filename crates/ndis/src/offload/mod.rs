//! Task-offload capabilities: [`Offload`], which becomes an NDIS_OFFLOAD of revision 3 (NDIS 6.30, 156 bytes).
//!
//! A feature that is off is `None`, and all zero in NDIS's structure, its encapsulation included.

mod encapsulation;
mod parameters;

pub use encapsulation::{EncapsulationFamily, OffloadEncapsulation, OffloadSwitch};
pub use parameters::{ChecksumSetting, IpsecSetting, OffloadParameters, Toggle};

use ndis_sys::{
    BOOLEAN, NDIS_IPSEC_OFFLOAD_V2, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_OFFLOAD, NDIS_OFFLOAD,
    NDIS_OFFLOAD_NOT_SUPPORTED, NDIS_OFFLOAD_REVISION_3, NDIS_OFFLOAD_SUPPORTED,
    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3, NDIS_TCP_IP_CHECKSUM_OFFLOAD, NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4,
    NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS, NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6,
    NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_BITS, NDIS_TCP_LARGE_SEND_OFFLOAD_V1,
    NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4, NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_BITS,
    NDIS_TCP_LARGE_SEND_OFFLOAD_V2, NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4, NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6,
    NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_BITS, ULONG,
};

/// IPv4 checksums in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent capabilities, as NDIS has them
pub struct ChecksumIpv4 {
    /// `NDIS_ENCAPSULATION_*` mask.
    pub encapsulation: u32,
    /// Packets with IP options.
    pub ip_options: bool,
    /// Segments with TCP options.
    pub tcp_options: bool,
    /// TCP checksum.
    pub tcp: bool,
    /// UDP checksum.
    pub udp: bool,
    /// IP header checksum.
    pub ip: bool,
}

/// IPv6 checksums in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent capabilities, as NDIS has them
pub struct ChecksumIpv6 {
    /// `NDIS_ENCAPSULATION_*` mask.
    pub encapsulation: u32,
    /// Packets with extension headers.
    pub extension_headers: bool,
    /// Segments with TCP options.
    pub tcp_options: bool,
    /// TCP checksum.
    pub tcp: bool,
    /// UDP checksum.
    pub udp: bool,
}

/// Large send offload, version 1 (IPv4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsoV1 {
    /// `NDIS_ENCAPSULATION_*` mask.
    pub encapsulation: u32,
    /// Largest payload, bytes, <= 64 KiB.
    pub max_size: u32,
    /// Least number of segments worth offloading.
    pub min_segments: u32,
    /// TCP options.
    pub tcp_options: bool,
    /// IP options.
    pub ip_options: bool,
}

/// Large send offload, version 2, IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsoV2Ipv4 {
    /// `NDIS_ENCAPSULATION_*` mask.
    pub encapsulation: u32,
    /// Largest payload, bytes.
    pub max_size: u32,
    /// Least number of segments worth offloading.
    pub min_segments: u32,
}

/// Large send offload, version 2, IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsoV2Ipv6 {
    /// `NDIS_ENCAPSULATION_*` mask.
    pub encapsulation: u32,
    /// Largest payload, bytes.
    pub max_size: u32,
    /// Least number of segments worth offloading.
    pub min_segments: u32,
    /// Packets with extension headers.
    pub extension_headers: bool,
    /// TCP options.
    pub tcp_options: bool,
}

/// IPsec task offload version 2 (`[ns-ntddndis-_ndis_ipsec_offload_v2]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent capabilities, as NDIS has them
pub struct IpsecOffload {
    /// `NDIS_ENCAPSULATION_*` mask.
    pub encapsulation: u32,
    /// IPv6 traffic.
    pub ipv6: bool,
    /// Packets with IPv4 options.
    pub ipv4_options: bool,
    /// IPv6 extension headers beside the IPsec ones.
    pub ipv6_extension_headers: bool,
    /// AH.
    pub ah: bool,
    /// ESP.
    pub esp: bool,
    /// AH and ESP in one packet.
    pub ah_esp_combined: bool,
    /// Transport mode.
    pub transport: bool,
    /// Tunnel mode; must be true for any IPsec offload.
    pub tunnel: bool,
    /// A transport SA inside a tunnel SA.
    pub transport_tunnel_combined: bool,
    /// Large send offload on IPsec connections.
    pub lso: bool,
    /// Extended sequence numbers.
    pub extended_sequence_numbers: bool,
    /// `IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_*` mask.
    pub udp_esp: u32,
    /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_*` mask.
    pub authentication: u32,
    /// `IPSEC_OFFLOAD_V2_ENCRYPTION_*` mask.
    pub encryption: u32,
    /// SA bundles the adapter holds.
    pub capacity: u32,
}

/// What an adapter offloads, or could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// IPv4 checksums on send.
    pub checksum_ipv4_transmit: Option<ChecksumIpv4>,
    /// IPv4 checksums on receive.
    pub checksum_ipv4_receive: Option<ChecksumIpv4>,
    /// IPv6 checksums on send.
    pub checksum_ipv6_transmit: Option<ChecksumIpv6>,
    /// IPv6 checksums on receive.
    pub checksum_ipv6_receive: Option<ChecksumIpv6>,
    /// Large send, version 1.
    pub lso_v1: Option<LsoV1>,
    /// Large send, version 2, IPv4.
    pub lso_v2_ipv4: Option<LsoV2Ipv4>,
    /// Large send, version 2, IPv6.
    pub lso_v2_ipv6: Option<LsoV2Ipv6>,
    /// IPsec, version 2.
    pub ipsec: Option<IpsecOffload>,
    /// `NDIS_OFFLOAD.Flags`: group checksum capabilities, IPsec and checksum coexistence.
    pub flags: u32,
}

const fn on(supported: bool) -> ULONG {
    if supported { NDIS_OFFLOAD_SUPPORTED } else { NDIS_OFFLOAD_NOT_SUPPORTED }
}

impl ChecksumIpv4 {
    fn to_raw(self) -> NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 {
        NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 {
            Encapsulation: self.encapsulation,
            Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_BITS::default()
                .with_IpOptionsSupported(on(self.ip_options))
                .with_TcpOptionsSupported(on(self.tcp_options))
                .with_TcpChecksum(on(self.tcp))
                .with_UdpChecksum(on(self.udp))
                .with_IpChecksum(on(self.ip)),
        }
    }
}

impl ChecksumIpv6 {
    fn to_raw(self) -> NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 {
        NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 {
            Encapsulation: self.encapsulation,
            Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_BITS::default()
                .with_IpExtensionHeadersSupported(on(self.extension_headers))
                .with_TcpOptionsSupported(on(self.tcp_options))
                .with_TcpChecksum(on(self.tcp))
                .with_UdpChecksum(on(self.udp)),
        }
    }
}

impl LsoV1 {
    fn to_raw(self) -> NDIS_TCP_LARGE_SEND_OFFLOAD_V1 {
        NDIS_TCP_LARGE_SEND_OFFLOAD_V1 {
            IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4 {
                Encapsulation: self.encapsulation,
                MaxOffLoadSize: self.max_size,
                MinSegmentCount: self.min_segments,
                Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_BITS::default()
                    .with_TcpOptions(on(self.tcp_options))
                    .with_IpOptions(on(self.ip_options)),
            },
        }
    }
}

impl LsoV2Ipv4 {
    fn to_raw(self) -> NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4 {
        NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4 {
            Encapsulation: self.encapsulation,
            MaxOffLoadSize: self.max_size,
            MinSegmentCount: self.min_segments,
        }
    }
}

impl LsoV2Ipv6 {
    fn to_raw(self) -> NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6 {
        NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6 {
            Encapsulation: self.encapsulation,
            MaxOffLoadSize: self.max_size,
            MinSegmentCount: self.min_segments,
            Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_BITS::default()
                .with_IpExtensionHeadersSupported(on(self.extension_headers))
                .with_TcpOptionsSupported(on(self.tcp_options)),
        }
    }
}

impl IpsecOffload {
    fn to_raw(self) -> NDIS_IPSEC_OFFLOAD_V2 {
        NDIS_IPSEC_OFFLOAD_V2 {
            Encapsulation: self.encapsulation,
            IPv6Supported: BOOLEAN::from(self.ipv6),
            IPv4Options: BOOLEAN::from(self.ipv4_options),
            IPv6NonIPsecExtensionHeaders: BOOLEAN::from(self.ipv6_extension_headers),
            Ah: BOOLEAN::from(self.ah),
            Esp: BOOLEAN::from(self.esp),
            AhEspCombined: BOOLEAN::from(self.ah_esp_combined),
            Transport: BOOLEAN::from(self.transport),
            Tunnel: BOOLEAN::from(self.tunnel),
            TransportTunnelCombined: BOOLEAN::from(self.transport_tunnel_combined),
            LsoSupported: BOOLEAN::from(self.lso),
            ExtendedSequenceNumbers: BOOLEAN::from(self.extended_sequence_numbers),
            UdpEsp: self.udp_esp,
            AuthenticationAlgorithms: self.authentication,
            EncryptionAlgorithms: self.encryption,
            SaOffloadCapacity: self.capacity,
        }
    }
}

impl Offload {
    /// The capabilities as NDIS_OFFLOAD revision 3.
    pub(crate) fn to_raw(self) -> RawOffload {
        let ipsec = self.ipsec.map(IpsecOffload::to_raw).unwrap_or_default();
        let offload = NDIS_OFFLOAD {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_OFFLOAD,
                Revision: NDIS_OFFLOAD_REVISION_3,
                Size: NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3,
            },
            Checksum: NDIS_TCP_IP_CHECKSUM_OFFLOAD {
                IPv4Transmit: self.checksum_ipv4_transmit.map(ChecksumIpv4::to_raw).unwrap_or_default(),
                IPv4Receive: self.checksum_ipv4_receive.map(ChecksumIpv4::to_raw).unwrap_or_default(),
                IPv6Transmit: self.checksum_ipv6_transmit.map(ChecksumIpv6::to_raw).unwrap_or_default(),
                IPv6Receive: self.checksum_ipv6_receive.map(ChecksumIpv6::to_raw).unwrap_or_default(),
            },
            LsoV1: self.lso_v1.map(LsoV1::to_raw).unwrap_or_default(),
            LsoV2: NDIS_TCP_LARGE_SEND_OFFLOAD_V2 {
                IPv4: self.lso_v2_ipv4.map(LsoV2Ipv4::to_raw).unwrap_or_default(),
                IPv6: self.lso_v2_ipv6.map(LsoV2Ipv6::to_raw).unwrap_or_default(),
            },
            Flags: self.flags,
            ..Default::default()
        };
        RawOffload::new(&offload, &ipsec)
    }
}

/// An NDIS_OFFLOAD whose padding is 0 as well: NDIS copies it whole, and hands it to applications that ask.
#[derive(Clone, Debug)]
#[repr(transparent)]
pub(crate) struct RawOffload([u32; size_of::<NDIS_OFFLOAD>() / 4]);

impl RawOffload {
    /// The parts that can be on, field by field where there is padding between them.
    fn new(offload: &NDIS_OFFLOAD, ipsec: &NDIS_IPSEC_OFFLOAD_V2) -> Self {
        const { assert!(size_of::<Self>() == size_of::<NDIS_OFFLOAD>()) };
        const { assert!(align_of::<Self>() >= align_of::<NDIS_OFFLOAD>()) };
        let mut raw = Self([0; _]);
        let to = raw.as_mut_ptr();
        macro_rules! copy {
            ($($field:ident),*) => { $((&raw mut (*to).$field).write(offload.$field);)* };
        }
        macro_rules! copy_ipsec {
            ($($field:ident),*) => { $((&raw mut (*to).IPsecV2.$field).write(ipsec.$field);)* };
        }
        // SAFETY: the words have an NDIS_OFFLOAD's size and alignment, and are this function's own.
        unsafe {
            copy!(Header, Checksum, LsoV1, LsoV2, Flags);
            copy_ipsec!(
                Encapsulation,
                IPv6Supported,
                IPv4Options,
                IPv6NonIPsecExtensionHeaders,
                Ah,
                Esp,
                AhEspCombined,
                Transport,
                Tunnel,
                TransportTunnelCombined,
                LsoSupported,
                ExtendedSequenceNumbers,
                UdpEsp,
                AuthenticationAlgorithms,
                EncryptionAlgorithms,
                SaOffloadCapacity
            );
        }
        raw
    }

    /// For NDIS.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut NDIS_OFFLOAD {
        self.0.as_mut_ptr().cast()
    }
}
