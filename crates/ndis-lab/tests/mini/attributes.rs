//! Attributes of an adapter, and its configuration.

use std::mem::zeroed;
use std::ptr::null_mut;

use ndis_sys::*;

use super::{Adapter, Defect, MTU, OIDS, header, is, minor};

pub(super) unsafe fn set_registration(handle: NDIS_HANDLE, context: *mut Adapter) -> NDIS_STATUS {
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1;
    a.RegistrationAttributes = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, 1, size),
        MiniportAdapterContext: context.cast(),
        AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM
            | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND
            | NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK,
        CheckForHangTimeInSeconds: 0,
        InterfaceType: NdisInterfaceInternal,
    };
    NdisMSetMiniportAttributes(handle, &mut a)
}

/// Offload attributes in the revision of the version that was registered: no offload at all.
pub(super) unsafe fn set_offload(handle: NDIS_HANDLE) -> NDIS_STATUS {
    // 6.40 still has revision 3; 4, 5, 6 and 7 came with 6.50, 6.70, 6.83 and 6.85.
    let (revision, size) = match minor() {
        85.. => (7, 217),
        83.. => (6, 216),
        50.. => (4, 177),
        _ => (3, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3),
    };
    let mut offload = [0_u64; 32];
    offload.as_mut_ptr().cast::<NDIS_OBJECT_HEADER>().write(header(NDIS_OBJECT_TYPE_OFFLOAD, revision, size));
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let o = &mut a.OffloadAttributes;
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1;
    o.Header = header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, 1, size);
    o.DefaultOffloadConfiguration = offload.as_mut_ptr().cast();
    o.HardwareOffloadCapabilities = offload.as_mut_ptr().cast();
    NdisMSetMiniportAttributes(handle, &mut a)
}

pub(super) unsafe fn set_general(handle: NDIS_HANDLE, mac: [u8; 6]) -> NDIS_STATUS {
    let mut power: NDIS_PM_CAPABILITIES = zeroed();
    power.Header = header(NDIS_OBJECT_TYPE_DEFAULT, 2, NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2);
    let mut a: NDIS_MINIPORT_ADAPTER_ATTRIBUTES = zeroed();
    let size = NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2;
    let g = &mut a.GeneralAttributes;
    let wrong = if is(Defect::AttributeSize) { 8 } else { 0 };
    g.Header = header(NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, 2, size + wrong);
    g.MediaType = NdisMedium802_3;
    g.PhysicalMediumType = NdisPhysicalMedium802_3;
    g.MtuSize = MTU as u32;
    g.MaxXmitLinkSpeed = 10_000_000_000;
    g.XmitLinkSpeed = 10_000_000_000;
    g.MaxRcvLinkSpeed = 10_000_000_000;
    g.RcvLinkSpeed = 10_000_000_000;
    g.MediaConnectState = MediaConnectStateConnected;
    g.MediaDuplexState = MediaDuplexStateFull;
    g.LookaheadSize = MTU as u32;
    g.MacOptions = NDIS_MAC_OPTION_8021P_PRIORITY | NDIS_MAC_OPTION_NO_LOOPBACK;
    g.SupportedPacketFilters = 0x2f;
    g.MaxMulticastListSize = 32;
    g.MacAddressLength = 6;
    g.PermanentMacAddress[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    g.CurrentMacAddress[..6].copy_from_slice(&mac);
    g.AccessType = NET_IF_ACCESS_BROADCAST;
    g.ConnectionType = NET_IF_CONNECTION_DEDICATED;
    g.IfType = IF_TYPE_ETHERNET_CSMACD;
    g.SupportedOidList = OIDS.as_ptr().cast_mut();
    g.SupportedOidListLength = size_of_val(&OIDS) as u32;
    g.PowerManagementCapabilitiesEx = &mut power;
    NdisMSetMiniportAttributes(handle, &mut a)
}

pub(super) unsafe fn read_address(handle: NDIS_HANDLE) -> Result<[u8; 6], NDIS_STATUS> {
    let mut object = NDIS_CONFIGURATION_OBJECT {
        Header: header(NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, 1, NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1),
        NdisHandle: handle,
        Flags: 0,
    };
    let mut configuration = null_mut();
    let status = NdisOpenConfigurationEx(&mut object, &mut configuration);
    if status != NDIS_STATUS_SUCCESS {
        return Err(status);
    }
    let mut mac = [2, 0, 0, 0, 0, 1];
    let (mut status, mut address, mut length) = (0, null_mut(), 0);
    NdisReadNetworkAddress(&mut status, &mut address, &mut length, configuration);
    if status == NDIS_STATUS_SUCCESS && length == 6 {
        mac.copy_from_slice(std::slice::from_raw_parts(address.cast::<u8>(), 6));
    }
    if !is(Defect::ConfigurationLeft) {
        NdisCloseConfiguration(configuration);
    }
    Ok(mac)
}
