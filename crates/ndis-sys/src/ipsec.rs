//! Security associations of IPsec Task Offload Version 2.

use crate::*;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS {
    pub SrcAddr: IPAddr,
    pub DestAddr: IPAddr,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_IPv6_ENDPOINTS {
    pub SrcAddr: [UCHAR; 16],
    pub DestAddr: [UCHAR; 16],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub union IPSEC_OFFLOAD_V2_ENDPOINTS {
    pub IPv4Endpoints: IPSEC_OFFLOAD_V2_IPv4_ENDPOINTS,
    pub IPv6Endpoints: IPSEC_OFFLOAD_V2_IPv6_ENDPOINTS,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_ALGORITHM_INFO {
    pub Identifier: ULONG,
    pub KeyLength: ULONG,
    pub KeyOffsetBytes: ULONG,
    pub AdditionalInfo: ULONG,
}
const _: () = assert!(
    size_of::<IPSEC_OFFLOAD_V2_ALGORITHM_INFO>() == 16 && align_of::<IPSEC_OFFLOAD_V2_ALGORITHM_INFO>() == 4
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION {
    pub Flags: ULONG,
    pub Operation: IPSEC_OFFLOAD_V2_OPERATION,
    pub Spi: IPSEC_OFFLOAD_V2_SPI_TYPE,
    pub AuthenticationAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    pub EncryptionAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    pub SequenceNumberHighOrder: ULONG,
}
const _: () = assert!(
    size_of::<IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION>() == 48
        && align_of::<IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION>() == 4
);

#[derive(Clone, Copy)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_ADD_SA {
    pub Header: NDIS_OBJECT_HEADER,
    pub Next: *mut IPSEC_OFFLOAD_V2_ADD_SA,
    pub NumExtHdrs: ULONG,
    pub Flags: ULONG,
    pub Endpoints: IPSEC_OFFLOAD_V2_ENDPOINTS,
    pub OffloadHandle: NDIS_HANDLE,
    pub UdpEspEncapsulation: ULONG,
    pub SecAssoc: [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS as usize],
    pub KeyLength: ULONG,
    pub KeyData: [UCHAR; 1],
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_ADD_SA>() == 176 && align_of::<IPSEC_OFFLOAD_V2_ADD_SA>() == 8);

#[derive(Clone, Copy)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_ADD_SA_EX {
    pub Header: NDIS_OBJECT_HEADER,
    pub NumExtHdrs: ULONG,
    pub Flags: ULONG,
    pub Endpoints: IPSEC_OFFLOAD_V2_ENDPOINTS,
    pub OffloadHandle: NDIS_HANDLE,
    pub UdpEspEncapsulation: ULONG,
    pub SecAssoc: [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS as usize],
    pub KeyLength: ULONG,
    pub KeyOffset: ULONG,
    pub SourceSwitchPortId: NDIS_SWITCH_PORT_ID,
    pub VlanId: USHORT,
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>() == 176 && align_of::<IPSEC_OFFLOAD_V2_ADD_SA_EX>() == 8);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_DELETE_SA {
    pub Header: NDIS_OBJECT_HEADER,
    pub Next: *mut IPSEC_OFFLOAD_V2_DELETE_SA,
    pub OffloadHandle: NDIS_HANDLE,
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_DELETE_SA>() == 24 && align_of::<IPSEC_OFFLOAD_V2_DELETE_SA>() == 8);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IPSEC_OFFLOAD_V2_UPDATE_SA {
    pub Header: NDIS_OBJECT_HEADER,
    pub OffloadHandle: NDIS_HANDLE,
    pub Operation: IPSEC_OFFLOAD_V2_OPERATION,
    pub Spi: IPSEC_OFFLOAD_V2_SPI_TYPE,
    pub SequenceNumberHighOrder: ULONG,
}
const _: () =
    assert!(size_of::<IPSEC_OFFLOAD_V2_UPDATE_SA>() == 32 && align_of::<IPSEC_OFFLOAD_V2_UPDATE_SA>() == 8);

pub type IPSEC_OFFLOAD_V2_SPI_TYPE = ULONG;
pub type IPSEC_OFFLOAD_V2_OPERATION = i32;
pub const IPsecOffloadV2Ah: IPSEC_OFFLOAD_V2_OPERATION = 1;
pub const IPsecOffloadV2Esp: IPSEC_OFFLOAD_V2_OPERATION = 2;
pub const IPsecOffloadV2Max: IPSEC_OFFLOAD_V2_OPERATION = 3;
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_MD5: ULONG = 1;
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1: ULONG = 2;
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256: ULONG = 4;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_3_DES_CBC: ULONG = 4;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_128: ULONG = 0x40;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_192: ULONG = 0x80;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_256: ULONG = 0x100;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_DES_CBC: ULONG = 2;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_NONE: ULONG = 1;
pub const IPSEC_OFFLOAD_V2_ESN_SA: ULONG = 1;
pub const IPSEC_OFFLOAD_V2_INBOUND: ULONG = 1;
pub const IPSEC_OFFLOAD_V2_IPv6: ULONG = 0x10;
pub const IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS: ULONG = 2;
pub const IPSEC_OFFLOAD_V2_TRANSPORT_OVER_UDP_ESP_ENCAPSULATION_TUNNEL: ULONG = 4;
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE: ULONG = 0;
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT: ULONG = 1;
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT_OVER_TUNNEL: ULONG = 8;
pub const IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TUNNEL: ULONG = 2;

pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128: ULONG = 8;
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_192: ULONG = 0x10;
pub const IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_256: ULONG = 0x20;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128: ULONG = 8;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192: ULONG = 0x10;
pub const IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256: ULONG = 0x20;
pub const CRYPTO_GENERIC_ERROR: ULONG = 1;
pub const CRYPTO_INVALID_PACKET_SYNTAX: ULONG = 6;
pub const CRYPTO_INVALID_PROTOCOL: ULONG = 7;
pub const CRYPTO_SUCCESS: ULONG = 0;
pub const CRYPTO_TRANSPORT_AH_AUTH_FAILED: ULONG = 2;
pub const CRYPTO_TRANSPORT_ESP_AUTH_FAILED: ULONG = 3;
pub const CRYPTO_TUNNEL_AH_AUTH_FAILED: ULONG = 4;
pub const CRYPTO_TUNNEL_ESP_AUTH_FAILED: ULONG = 5;
