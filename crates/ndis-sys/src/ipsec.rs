//! Security associations of IPsec Task Offload Version 2.

use crate::{IPAddr, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_SWITCH_PORT_ID, UCHAR, ULONG, USHORT};

#[cfg(doc)] // for links
use crate::*;

/// IPv4 addresses of an SA, network byte order; anonymous in the C header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS {
    /// Who sends the packets; 0 is any.
    pub SrcAddr: IPAddr,
    /// Who receives the packets; 0 is any.
    pub DestAddr: IPAddr,
}

/// IPv6 addresses of an SA; anonymous in the C header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_IPv6_ENDPOINTS {
    /// Who sends the packets; 0 is any.
    pub SrcAddr: [UCHAR; 16],
    /// Who receives the packets; 0 is any.
    pub DestAddr: [UCHAR; 16],
}

/// Addresses of an SA; of a tunnel, the outer ones. Anonymous in the C header.
#[derive(Clone, Copy)]
#[repr(C)]
pub union IPSEC_OFFLOAD_V2_ENDPOINTS {
    /// Without [`IPSEC_OFFLOAD_V2_IPv6`].
    pub IPv4Endpoints: IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS,
    /// With [`IPSEC_OFFLOAD_V2_IPv6`].
    pub IPv6Endpoints: IPSEC_OFFLOAD_V2_IPv6_ENDPOINTS,
}

/// An algorithm and where its key is. `[ns-ndis-_ipsec_offload_v2_algorithm_info]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_ALGORITHM_INFO {
    /// One `IPSEC_OFFLOAD_V2_AUTHENTICATION_…` or `IPSEC_OFFLOAD_V2_ENCRYPTION_…`; 0: none.
    pub Identifier: ULONG,
    /// Bytes of its key.
    pub KeyLength: ULONG,
    /// Where its key starts, bytes from the start of the SA's key data.
    pub KeyOffsetBytes: ULONG,
    /// AES-GCM: length of the ICV.
    pub AdditionalInfo: ULONG,
}
const _: () = assert!(
    size_of::<IPSEC_OFFLOAD_V2_ALGORITHM_INFO>() == 16 && align_of::<IPSEC_OFFLOAD_V2_ALGORITHM_INFO>() == 4
);

/// One AH or ESP header of an SA. `[ns-ndis-_ipsec_offload_v2_security_association]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION {
    /// [`IPSEC_OFFLOAD_V2_ESN_SA`] or 0.
    pub Flags: ULONG,
    /// AH or ESP.
    pub Operation: IPSEC_OFFLOAD_V2_OPERATION,
    /// Security parameters index.
    pub Spi: IPSEC_OFFLOAD_V2_SPI_TYPE,
    /// Integrity; ignored with AES-GCM encryption.
    pub AuthenticationAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    /// Encryption; all zero for AH.
    pub EncryptionAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    /// High half of the extended sequence number.
    pub SequenceNumberHighOrder: ULONG,
}
const _: () = assert!(
    size_of::<IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION>() == 48
        && align_of::<IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION>() == 4
);

/// SAs to offload, a linked list, for [`OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA`].
/// `[ns-ndis-_ipsec_offload_v2_add_sa]`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_ADD_SA {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The next SA, or null.
    pub Next: *mut IPSEC_OFFLOAD_V2_ADD_SA,
    /// Elements of `SecAssoc` in use: 1, or 2 for ESP and AH.
    pub NumExtHdrs: ULONG,
    /// [`IPSEC_OFFLOAD_V2_INBOUND`], [`IPSEC_OFFLOAD_V2_IPv6`].
    pub Flags: ULONG,
    /// Addresses.
    pub Endpoints: IPSEC_OFFLOAD_V2_ENDPOINTS,
    /// Set by the miniport: its handle of the SA; null: not offloaded.
    pub OffloadHandle: NDIS_HANDLE,
    /// `IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_…`.
    pub UdpEspEncapsulation: ULONG,
    /// AH and ESP, in the order of processing: ESP, then AH.
    pub SecAssoc: [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS as usize],
    /// Bytes of key data.
    pub KeyLength: ULONG,
    /// The first byte of the key data.
    pub KeyData: [UCHAR; 1],
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_ADD_SA>() == 176 && align_of::<IPSEC_OFFLOAD_V2_ADD_SA>() == 8);

/// An SA to offload, for [`OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX`].
/// `[ns-ndis-_ipsec_offload_v2_add_sa_ex]`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_ADD_SA_EX {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Elements of `SecAssoc` in use: 1, or 2 for ESP and AH.
    pub NumExtHdrs: ULONG,
    /// [`IPSEC_OFFLOAD_V2_INBOUND`], [`IPSEC_OFFLOAD_V2_IPv6`].
    pub Flags: ULONG,
    /// Addresses.
    pub Endpoints: IPSEC_OFFLOAD_V2_ENDPOINTS,
    /// Set by the miniport: its handle of the SA; null: not offloaded.
    pub OffloadHandle: NDIS_HANDLE,
    /// `IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_…`.
    pub UdpEspEncapsulation: ULONG,
    /// AH and ESP, in the order of processing: ESP, then AH.
    pub SecAssoc: [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS as usize],
    /// Bytes of key data.
    pub KeyLength: ULONG,
    /// Where the key data starts, bytes from the start of this structure.
    pub KeyOffset: ULONG,
    /// Reserved for the Hyper-V switch.
    pub SourceSwitchPortId: NDIS_SWITCH_PORT_ID,
    /// Reserved for the Hyper-V switch.
    pub VlanId: USHORT,
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>() == 176 && align_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>() == 8);

/// SAs to delete, a linked list, for [`OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA`].
/// `[ns-ndis-_ipsec_offload_v2_delete_sa]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_DELETE_SA {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The next SA, or null.
    pub Next: *mut IPSEC_OFFLOAD_V2_DELETE_SA,
    /// The miniport's handle of the SA.
    pub OffloadHandle: NDIS_HANDLE,
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_DELETE_SA>() == 24 && align_of::<IPSEC_OFFLOAD_V2_DELETE_SA>() == 8);

/// The high half of the sequence number of an SA with extended sequence numbers, for
/// [`OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA`]. `[ns-ndis-_ipsec_offload_v2_update_sa]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_UPDATE_SA {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The miniport's handle of the SA.
    pub OffloadHandle: NDIS_HANDLE,
    /// AH or ESP.
    pub Operation: IPSEC_OFFLOAD_V2_OPERATION,
    /// Security parameters index.
    pub Spi: IPSEC_OFFLOAD_V2_SPI_TYPE,
    /// High half of the extended sequence number.
    pub SequenceNumberHighOrder: ULONG,
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_UPDATE_SA>() == 32 && align_of::<IPSEC_OFFLOAD_V2_UPDATE_SA>() == 8);

/// A security parameters index.
pub type IPSEC_OFFLOAD_V2_SPI_TYPE = ULONG;
/// AH or ESP. `[ne-ndis-_ipsec_offload_v2_operation]`
pub type IPSEC_OFFLOAD_V2_OPERATION = i32;
/// AH (RFC 4302).
pub const IPsecOffloadV2Ah: IPSEC_OFFLOAD_V2_OPERATION = 1;
/// ESP (RFC 4303).
pub const IPsecOffloadV2Esp: IPSEC_OFFLOAD_V2_OPERATION = 2;
/// Above the last operation.
pub const IPsecOffloadV2Max: IPSEC_OFFLOAD_V2_OPERATION = 3;
/// HMAC-MD5-96 (RFC 2403).
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_MD5: ULONG = 1;
/// HMAC-SHA-1-96 (RFC 2404).
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1: ULONG = 2;
/// HMAC-SHA-256-128 (RFC 4868).
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256: ULONG = 4;
/// Triple DES-CBC (RFC 2451).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_3_DES_CBC: ULONG = 4;
/// AES-CBC with a 128-bit key (RFC 3602).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_128: ULONG = 0x40;
/// AES-CBC with a 192-bit key (RFC 3602).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_192: ULONG = 0x80;
/// AES-CBC with a 256-bit key (RFC 3602).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_256: ULONG = 0x100;
/// DES-CBC (RFC 2405).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_DES_CBC: ULONG = 2;
/// No encryption (RFC 2410).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_NONE: ULONG = 1;
/// The SA uses extended sequence numbers.
pub const IPSEC_OFFLOAD_V2_ESN_SA: ULONG = 1;
/// The SA is for received packets.
pub const IPSEC_OFFLOAD_V2_INBOUND: ULONG = 1;
/// The addresses are IPv6.
pub const IPSEC_OFFLOAD_V2_IPv6: ULONG = 0x10;
/// Elements of `SecAssoc`.
pub const IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS: ULONG = 2;
/// Tunnel-mode ESP in UDP; the inner packet is transport-mode ESP.
pub const IPSEC_OFFLOAD_V2_TRANSPORT_OVER_UDP_ESP_ENCAPSULATION_TUNNEL: ULONG = 4;
/// No UDP encapsulation.
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE: ULONG = 0;
/// Transport-mode ESP in UDP (RFC 3948).
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT: ULONG = 1;
/// A tunnel without UDP; the inner packet is transport-mode ESP in UDP.
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT_OVER_TUNNEL: ULONG = 8;
/// Tunnel-mode ESP in UDP; the inner packet is not ESP.
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TUNNEL: ULONG = 2;

/// AES-GMAC with a 128-bit key (RFC 4543).
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128: ULONG = 8;
/// AES-GMAC with a 192-bit key (RFC 4543).
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_192: ULONG = 0x10;
/// AES-GMAC with a 256-bit key (RFC 4543).
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_256: ULONG = 0x20;
/// AES-GCM with a 128-bit key (RFC 4106).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128: ULONG = 8;
/// AES-GCM with a 192-bit key (RFC 4106).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192: ULONG = 0x10;
/// AES-GCM with a 256-bit key (RFC 4106).
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256: ULONG = 0x20;
/// Failed, for no more specific reason.
pub const CRYPTO_GENERIC_ERROR: ULONG = 1;
/// Lengths in the packet are wrong.
pub const CRYPTO_INVALID_PACKET_SYNTAX: ULONG = 6;
/// The SA's protocol is not the packet's.
pub const CRYPTO_INVALID_PROTOCOL: ULONG = 7;
/// The packet is authentic.
pub const CRYPTO_SUCCESS: ULONG = 0;
/// AH of the transport payload: authentication failed.
pub const CRYPTO_TRANSPORT_AH_AUTH_FAILED: ULONG = 2;
/// ESP of the transport payload: authentication failed.
pub const CRYPTO_TRANSPORT_ESP_AUTH_FAILED: ULONG = 3;
/// AH of the tunnel: authentication failed.
pub const CRYPTO_TUNNEL_AH_AUTH_FAILED: ULONG = 4;
/// ESP of the tunnel: authentication failed.
pub const CRYPTO_TUNNEL_ESP_AUTH_FAILED: ULONG = 5;
