//! Power management.

use crate::{NDIS_OBJECT_HEADER, ULONG};

#[cfg(doc)] // for links
use crate::*;

/// Power management that an adapter supports. `[ns-ntddndis-_ndis_pm_capabilities]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_PM_CAPABILITIES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_PM_WAKE_PACKET_INDICATION_SUPPORTED`, `NDIS_PM_SELECTIVE_SUSPEND_SUPPORTED`.
    pub Flags: ULONG,
    /// `NDIS_PM_WOL_…_SUPPORTED`.
    pub SupportedWoLPacketPatterns: ULONG,
    /// Patterns that fit.
    pub NumTotalWoLPatterns: ULONG,
    /// Bytes of a frame that a pattern may compare.
    pub MaxWoLPatternSize: ULONG,
    /// How far into a frame a pattern may start, bytes.
    pub MaxWoLPatternOffset: ULONG,
    /// Bytes of a wake-up frame that the adapter keeps.
    pub MaxWoLPacketSaveBuffer: ULONG,
    /// `NDIS_PM_PROTOCOL_OFFLOAD_…_SUPPORTED`.
    pub SupportedProtocolOffloads: ULONG,
    /// Addresses for which it answers ARP.
    pub NumArpOffloadIPv4Addresses: ULONG,
    /// Neighbour solicitations that it answers.
    pub NumNSOffloadIPv6Addresses: ULONG,
    /// The deepest state from which a magic packet wakes it.
    pub MinMagicPacketWakeUp: NDIS_DEVICE_POWER_STATE,
    /// The deepest state from which a pattern wakes it.
    pub MinPatternWakeUp: NDIS_DEVICE_POWER_STATE,
    /// The deepest state from which a link change wakes it.
    pub MinLinkChangeWakeUp: NDIS_DEVICE_POWER_STATE,
    /// `NDIS_PM_WAKE_ON_…_SUPPORTED` (revision 2).
    pub SupportedWakeUpEvents: ULONG,
    /// Wake-up events of the medium (revision 2).
    pub MediaSpecificWakeUpEvents: ULONG,
}
const _: () = assert!(size_of::<NDIS_PM_CAPABILITIES>() == 60 && align_of::<NDIS_PM_CAPABILITIES>() == 4);

/// Power management that is enabled, set with [`OID_PM_PARAMETERS`]. `[ns-ntddndis-_ndis_pm_parameters]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_PM_PARAMETERS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NDIS_PM_WOL_…_ENABLED`.
    pub EnabledWoLPacketPatterns: ULONG,
    /// `NDIS_PM_PROTOCOL_OFFLOAD_…_ENABLED`.
    pub EnabledProtocolOffloads: ULONG,
    /// `NDIS_PM_WAKE_ON_…_ENABLED`.
    pub WakeUpFlags: ULONG,
    /// Wake-up events of the medium (revision 2).
    pub MediaSpecificWakeUpEvents: ULONG,
}
const _: () = assert!(size_of::<NDIS_PM_PARAMETERS>() == 20 && align_of::<NDIS_PM_PARAMETERS>() == 4);

/// A device power state, set with [`OID_PNP_SET_POWER`]. `[ne-ntddndis-_ndis_device_power_state]`
pub type NDIS_DEVICE_POWER_STATE = i32;
/// None: wake-up is not supported.
pub const NdisDeviceStateUnspecified: NDIS_DEVICE_POWER_STATE = 0;
/// Fully on.
pub const NdisDeviceStateD0: NDIS_DEVICE_POWER_STATE = 1;
/// D1.
pub const NdisDeviceStateD1: NDIS_DEVICE_POWER_STATE = 2;
/// D2.
pub const NdisDeviceStateD2: NDIS_DEVICE_POWER_STATE = 3;
/// Off or nearly so.
pub const NdisDeviceStateD3: NDIS_DEVICE_POWER_STATE = 4;
/// Above the last state.
pub const NdisDeviceStateMaximum: NDIS_DEVICE_POWER_STATE = 5;

// [`NDIS_PM_CAPABILITIES::Flags`].

/// The frame that woke the adapter can be indicated.
pub const NDIS_PM_WAKE_PACKET_INDICATION_SUPPORTED: ULONG = 1;
/// Selective suspend is supported.
pub const NDIS_PM_SELECTIVE_SUSPEND_SUPPORTED: ULONG = 2;

// Wake-on-LAN patterns, supported and enabled.

/// Bitmap patterns: enabled.
pub const NDIS_PM_WOL_BITMAP_PATTERN_ENABLED: ULONG = 1;
/// Bitmap patterns: supported.
pub const NDIS_PM_WOL_BITMAP_PATTERN_SUPPORTED: ULONG = 1;
/// EAPOL identity requests: enabled.
pub const NDIS_PM_WOL_EAPOL_REQUEST_ID_MESSAGE_ENABLED: ULONG = 0x0001_0000;
/// EAPOL identity requests: supported.
pub const NDIS_PM_WOL_EAPOL_REQUEST_ID_MESSAGE_SUPPORTED: ULONG = 0x0001_0000;
/// TCP SYN to any IPv4 address: enabled.
pub const NDIS_PM_WOL_IPV4_DEST_ADDR_WILDCARD_ENABLED: ULONG = 0x200;
/// TCP SYN to any IPv4 address: supported.
pub const NDIS_PM_WOL_IPV4_DEST_ADDR_WILDCARD_SUPPORTED: ULONG = 0x200;
/// TCP SYN over IPv4: enabled.
pub const NDIS_PM_WOL_IPV4_TCP_SYN_ENABLED: ULONG = 4;
/// TCP SYN over IPv4: supported.
pub const NDIS_PM_WOL_IPV4_TCP_SYN_SUPPORTED: ULONG = 4;
/// TCP SYN to any IPv6 address: enabled.
pub const NDIS_PM_WOL_IPV6_DEST_ADDR_WILDCARD_ENABLED: ULONG = 0x800;
/// TCP SYN to any IPv6 address: supported.
pub const NDIS_PM_WOL_IPV6_DEST_ADDR_WILDCARD_SUPPORTED: ULONG = 0x800;
/// TCP SYN over IPv6: enabled.
pub const NDIS_PM_WOL_IPV6_TCP_SYN_ENABLED: ULONG = 8;
/// TCP SYN over IPv6: supported.
pub const NDIS_PM_WOL_IPV6_TCP_SYN_SUPPORTED: ULONG = 8;
/// Magic packets: enabled.
pub const NDIS_PM_WOL_MAGIC_PACKET_ENABLED: ULONG = 2;
/// Magic packets: supported.
pub const NDIS_PM_WOL_MAGIC_PACKET_SUPPORTED: ULONG = 2;

// Protocol offloads, supported and enabled.

/// 802.11 rekeying: enabled.
pub const NDIS_PM_PROTOCOL_OFFLOAD_80211_RSN_REKEY_ENABLED: ULONG = 0x80;
/// 802.11 rekeying: supported.
pub const NDIS_PM_PROTOCOL_OFFLOAD_80211_RSN_REKEY_SUPPORTED: ULONG = 0x80;
/// Answers to ARP: enabled.
pub const NDIS_PM_PROTOCOL_OFFLOAD_ARP_ENABLED: ULONG = 1;
/// Answers to ARP: supported.
pub const NDIS_PM_PROTOCOL_OFFLOAD_ARP_SUPPORTED: ULONG = 1;
/// Answers to IPv6 neighbour solicitations: enabled.
pub const NDIS_PM_PROTOCOL_OFFLOAD_NS_ENABLED: ULONG = 2;
/// Answers to IPv6 neighbour solicitations: supported.
pub const NDIS_PM_PROTOCOL_OFFLOAD_NS_SUPPORTED: ULONG = 2;

// [`NDIS_PM_CAPABILITIES::SupportedWakeUpEvents`].

/// The link coming up can wake the adapter.
pub const NDIS_PM_WAKE_ON_MEDIA_CONNECT_SUPPORTED: ULONG = 1;
/// The link going down can wake the adapter.
pub const NDIS_PM_WAKE_ON_MEDIA_DISCONNECT_SUPPORTED: ULONG = 2;

// [`NDIS_PM_PARAMETERS::WakeUpFlags`].

/// Link changes wake the adapter.
pub const NDIS_PM_WAKE_ON_LINK_CHANGE_ENABLED: ULONG = 1;
/// The link going down wakes the adapter.
pub const NDIS_PM_WAKE_ON_MEDIA_DISCONNECT_ENABLED: ULONG = 2;
/// Selective suspend is enabled.
pub const NDIS_PM_SELECTIVE_SUSPEND_ENABLED: ULONG = 0x10;

// Before NDIS 6.20.

/// Power management before NDIS 6.20, for [`OID_PNP_CAPABILITIES`]. `[oid-pnp-capabilities]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_PNP_CAPABILITIES {
    /// `NDIS_DEVICE_WAKE_…`.
    pub Flags: ULONG,
    /// From which states it wakes.
    pub WakeUpCapabilities: NDIS_PM_WAKE_UP_CAPABILITIES,
}
const _: () = assert!(size_of::<NDIS_PNP_CAPABILITIES>() == 16 && align_of::<NDIS_PNP_CAPABILITIES>() == 4);

/// Wake-up by magic packets is enabled.
pub const NDIS_DEVICE_WAKE_ON_MAGIC_PACKET_ENABLE: ULONG = 4;
/// Wake-up by patterns is enabled.
pub const NDIS_DEVICE_WAKE_ON_PATTERN_MATCH_ENABLE: ULONG = 2;
/// Wake-up is enabled.
pub const NDIS_DEVICE_WAKE_UP_ENABLE: ULONG = 1;

/// Wake-up capabilities before NDIS 6.20. `[oid-pnp-capabilities]`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NDIS_PM_WAKE_UP_CAPABILITIES {
    /// The deepest state from which a magic packet wakes it.
    pub MinMagicPacketWakeUp: NDIS_DEVICE_POWER_STATE,
    /// The deepest state from which a pattern wakes it.
    pub MinPatternWakeUp: NDIS_DEVICE_POWER_STATE,
    /// The deepest state from which a link change wakes it.
    pub MinLinkChangeWakeUp: NDIS_DEVICE_POWER_STATE,
}
const _: () = assert!(
    size_of::<NDIS_PM_WAKE_UP_CAPABILITIES>() == 12 && align_of::<NDIS_PM_WAKE_UP_CAPABILITIES>() == 4
);
