//! Task offloads: how they are configured.

use crate::{NDIS_OBJECT_HEADER, UCHAR, ULONG};

#[cfg(doc)] // for links
use crate::*;

/// Settings of task offloads, set with [`OID_TCP_OFFLOAD_PARAMETERS`], of NDIS 6.30 (revision 3).
/// [`NDIS_OFFLOAD_PARAMETERS_NO_CHANGE`] in a field leaves it. `[ns-ntddndis-_ndis_offload_parameters]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// IPv4 header checksums.
    pub IPv4Checksum: UCHAR,
    /// TCP checksums over IPv4.
    pub TCPIPv4Checksum: UCHAR,
    /// UDP checksums over IPv4.
    pub UDPIPv4Checksum: UCHAR,
    /// TCP checksums over IPv6.
    pub TCPIPv6Checksum: UCHAR,
    /// UDP checksums over IPv6.
    pub UDPIPv6Checksum: UCHAR,
    /// Large send offload, version 1.
    pub LsoV1: UCHAR,
    /// IPsec offload, version 1.
    pub IPsecV1: UCHAR,
    /// Large send offload, version 2, over IPv4.
    pub LsoV2IPv4: UCHAR,
    /// Large send offload, version 2, over IPv6.
    pub LsoV2IPv6: UCHAR,
    /// TCP chimney over IPv4.
    pub TcpConnectionIPv4: UCHAR,
    /// TCP chimney over IPv6.
    pub TcpConnectionIPv6: UCHAR,
    /// [`NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE`] or 0; for NDIS.
    pub Flags: ULONG,
    /// IPsec offload, version 2, over both address families (revision 2).
    pub IPsecV2: UCHAR,
    /// IPsec offload, version 2, of a device that does IPv4 only (revision 2).
    pub IPsecV2IPv4: UCHAR,
    /// Receive segment coalescing over IPv4 (revision 3).
    pub RscIPv4: UCHAR,
    /// Receive segment coalescing over IPv6 (revision 3).
    pub RscIPv6: UCHAR,
    /// Offloads of encapsulated packets: [`NDIS_OFFLOAD_SET_ON`] or [`NDIS_OFFLOAD_SET_OFF`] (revision 3).
    pub EncapsulatedPacketTaskOffload: UCHAR,
    /// `NDIS_ENCAPSULATION_TYPE_…` (revision 3).
    pub EncapsulationTypes: UCHAR,
}
const _: () =
    assert!(size_of::<NDIS_OFFLOAD_PARAMETERS>() == 28 && align_of::<NDIS_OFFLOAD_PARAMETERS>() == 4);

/// NDIS does not store the settings in the registry.
pub const NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE: ULONG = 1;

// Values of the fields; 0 and 1 mean the same in all of them.

/// Leave it.
pub const NDIS_OFFLOAD_PARAMETERS_NO_CHANGE: UCHAR = 0;
/// Checksum: sending only.
pub const NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED: UCHAR = 2;
/// Checksum: off.
pub const NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED: UCHAR = 1;
/// Checksum: sending and receiving.
pub const NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED: UCHAR = 4;
/// Checksum: receiving only.
pub const NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED: UCHAR = 3;
/// Large send offload, version 1: off.
pub const NDIS_OFFLOAD_PARAMETERS_LSOV1_DISABLED: UCHAR = 1;
/// Large send offload, version 1: on.
pub const NDIS_OFFLOAD_PARAMETERS_LSOV1_ENABLED: UCHAR = 2;
/// Large send offload, version 2: off.
pub const NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED: UCHAR = 1;
/// Large send offload, version 2: on.
pub const NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED: UCHAR = 2;
/// IPsec offload, version 1: AH and ESP.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_AH_AND_ESP_ENABLED: UCHAR = 4;
/// IPsec offload, version 1: AH.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_AH_ENABLED: UCHAR = 2;
/// IPsec offload, version 1: off.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_DISABLED: UCHAR = 1;
/// IPsec offload, version 1: ESP.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV1_ESP_ENABLED: UCHAR = 3;
/// IPsec offload, version 2: AH and ESP.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_AND_ESP_ENABLED: UCHAR = 4;
/// IPsec offload, version 2: AH.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_ENABLED: UCHAR = 2;
/// IPsec offload, version 2: off.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_DISABLED: UCHAR = 1;
/// IPsec offload, version 2: ESP.
pub const NDIS_OFFLOAD_PARAMETERS_IPSECV2_ESP_ENABLED: UCHAR = 3;
/// Receive segment coalescing: off.
pub const NDIS_OFFLOAD_PARAMETERS_RSC_DISABLED: UCHAR = 1;
/// Receive segment coalescing: on.
pub const NDIS_OFFLOAD_PARAMETERS_RSC_ENABLED: UCHAR = 2;
/// TCP chimney: off.
pub const NDIS_OFFLOAD_PARAMETERS_CONNECTION_OFFLOAD_DISABLED: UCHAR = 1;
/// TCP chimney: on.
pub const NDIS_OFFLOAD_PARAMETERS_CONNECTION_OFFLOAD_ENABLED: UCHAR = 2;
/// GRE with MAC headers (NVGRE).
pub const NDIS_ENCAPSULATION_TYPE_GRE_MAC: UCHAR = 1;

// Framing.

/// The framing that task offloads are used with, set with [`OID_OFFLOAD_ENCAPSULATION`]; it activates
/// receive offloads. `[ns-encapsulationconfig-ndis_offload_encapsulation]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD_ENCAPSULATION {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// For IPv4.
    pub IPv4: NDIS_OFFLOAD_ENCAPSULATION_FAMILY,
    /// For IPv6.
    pub IPv6: NDIS_OFFLOAD_ENCAPSULATION_FAMILY,
}
const _: () =
    assert!(size_of::<NDIS_OFFLOAD_ENCAPSULATION>() == 28 && align_of::<NDIS_OFFLOAD_ENCAPSULATION>() == 4);

/// The framing of one address family; anonymous in the C header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NDIS_OFFLOAD_ENCAPSULATION_FAMILY {
    /// `NDIS_OFFLOAD_SET_…`.
    pub Enabled: ULONG,
    /// [`NDIS_ENCAPSULATION_IEEE_802_3`] or [`NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED`].
    pub EncapsulationType: ULONG,
    /// Bytes of the MAC header.
    pub HeaderSize: ULONG,
}

/// Setting: as it is.
pub const NDIS_OFFLOAD_SET_NO_CHANGE: ULONG = 0;
/// Setting: on.
pub const NDIS_OFFLOAD_SET_ON: ULONG = 1;
/// Setting: off.
pub const NDIS_OFFLOAD_SET_OFF: ULONG = 2;
