//! Registration, general and offload attributes.

use std::mem::zeroed;
use std::ptr::null_mut;

use ndis_sys::*;

use super::oids::{self, OIDS, offload};
use super::{Adapter, HARDWARE, M, header, is};

pub(super) unsafe fn set_registration(handle: NDIS_HANDLE, context: *mut Adapter) -> NDIS_STATUS {
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1;
    a.RegistrationAttributes = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, 1, size),
        MiniportAdapterContext: if is(M::ContextNull) { null_mut() } else { context.cast() },
        AttributeFlags: if is(M::AttributeFlagsUnknown) { 0x8000 } else { 0 }
            | NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM
            | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
            | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND
            | NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK,
        CheckForHangTimeInSeconds: if is(M::HangTimeOdd) { 3 } else { 0 },
        InterfaceType: NdisInterfaceInternal,
    };
    NdisMSetMiniportAttributes(handle, &mut a)
}

/// All of the general attributes' statistics.
const STATISTICS: u32 = 0x0879_ffff;

pub(super) unsafe fn set_general(adapter: *mut Adapter) -> NDIS_STATUS {
    let mut power: NDIS_PM_CAPABILITIES = zeroed();
    power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 2, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2);
    if is(M::PowerCapabilitiesRevision) {
        power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 1, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1);
    }
    let mut old_power = [0_u64; 8];
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2;
    let wrong = if is(M::GeneralSize) { 8 } else { 0 };
    let mtu = (*adapter).max_frame as u32 - 14;
    let mut twice = OIDS.to_vec();
    twice.push(OIDS[0]);
    let oids: &[u32] = if is(M::OidListedTwice) {
        &twice
    } else if is(M::OidNotListed) {
        &OIDS[1..]
    } else {
        &OIDS
    };
    let g = &mut a.GeneralAttributes;
    g.Header = header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, 2, size + wrong);
    g.MediaType = NdisMedium802_3;
    g.PhysicalMediumType = NdisPhysicalMedium802_3;
    g.MtuSize = if is(M::MtuWithHeader) { mtu + 14 } else { mtu };
    g.Flags = if is(M::GeneralFlags) { 1 } else { 0 };
    g.MaxXmitLinkSpeed = 10_000_000_000;
    g.XmitLinkSpeed = if is(M::LinkSpeedUnset) { 0 } else { 10_000_000_000 };
    g.MaxRcvLinkSpeed = 10_000_000_000;
    g.RcvLinkSpeed = 10_000_000_000;
    g.MediaConnectState = if is(M::ConnectStateOdd) { 7 } else { MediaConnectStateConnected };
    g.MediaDuplexState = MediaDuplexStateFull;
    g.LookaheadSize = if is(M::LookaheadTooLarge) { mtu + 14 } else { mtu };
    g.MacOptions = NDIS_MAC_OPTION_8021P_PRIORITY | NDIS_MAC_OPTION_8021Q_VLAN | NDIS_MAC_OPTION_NO_LOOPBACK;
    if is(M::PriorityNotClaimed) {
        g.MacOptions &= !NDIS_MAC_OPTION_8021P_PRIORITY;
    }
    if is(M::MacOptionsReserved) {
        g.MacOptions |= 0x8000_0000;
    }
    g.SupportedPacketFilters = if is(M::NoFilters) { 0 } else { 0x2f };
    g.MaxMulticastListSize = if is(M::FewGroups) { 8 } else { 32 };
    g.MacAddressLength = if is(M::MacLength) { 8 } else { 6 };
    let permanent = if is(M::PermanentFollows) { (*adapter).mac } else { (*adapter).permanent };
    g.PermanentMacAddress[..6].copy_from_slice(&permanent);
    g.CurrentMacAddress[..6].copy_from_slice(&(*adapter).mac);
    if is(M::PermanentIsGroup) {
        g.PermanentMacAddress[0] |= 1;
    }
    if is(M::CurrentUnset) {
        g.CurrentMacAddress[..6].fill(0);
    }
    g.AccessType = if is(M::AccessTypeUnset) { 0 } else { NET_IF_ACCESS_BROADCAST };
    g.ConnectionType = if is(M::ConnectionTypeUnset) { 0 } else { NET_IF_CONNECTION_DEDICATED };
    g.IfType = if is(M::IfTypeLoopback) { 24 } else { IF_TYPE_ETHERNET_CSMACD };
    g.SupportedStatistics = if is(M::StatisticsFlagsMixed) { oids::STATISTICS_VALID } else { STATISTICS };
    g.SupportedOidList = oids.as_ptr().cast_mut();
    g.SupportedOidListLength = match size_of_val(oids) as u32 {
        length if is(M::OidListCounted) => length / 4,
        length if is(M::OidListHalf) => (length / 2) & !3,
        length => length,
    };
    g.PowerManagementCapabilitiesEx = if is(M::PowerCapabilitiesMissing) { null_mut() } else { &mut power };
    if is(M::PowerCapabilitiesOld) {
        g.PowerManagementCapabilities = (&raw mut old_power).cast();
    }
    NdisMSetMiniportAttributes((*adapter).handle, &mut a)
}

pub(super) unsafe fn set_offload(adapter: *mut Adapter) -> NDIS_STATUS {
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let config = (*adapter).config;
    let mut hardware = offload(if is(M::HardwareFollowsKeyword) { config } else { HARDWARE });
    let mut default = offload(if is(M::OffloadKeywordIgnored) { HARDWARE } else { config });
    if is(M::OffloadHalfOff) {
        default.IPsecV2.Encapsulation = NDIS_ENCAPSULATION_IEEE_802_3;
    }
    if is(M::OffloadRevision) {
        hardware.Header = header(NDIS_OBJECT_TYPE_OFFLOAD, 2, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2);
    }
    if is(M::OffloadSizeof) {
        default.Header.Size += 4;
    }
    if is(M::DefaultAboveHardware) {
        hardware.LsoV2.IPv4.MaxOffLoadSize = 30_000;
    }
    if is(M::IpsecV1Claimed) {
        // IPsecV1.Encapsulation.
        (&raw mut hardware).cast::<u8>().add(52).cast::<u32>().write(NDIS_ENCAPSULATION_IEEE_802_3);
    }
    let o = &mut a.OffloadAttributes;
    o.Header = header(
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
        1,
        NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
    );
    o.DefaultOffloadConfiguration = if is(M::DefaultMissing) { null_mut() } else { &mut default };
    o.HardwareOffloadCapabilities = &mut hardware;
    NdisMSetMiniportAttributes((*adapter).handle, &mut a)
}
