//! What an adapter says of itself (`[nf-ndis-ndismsetminiportattributes]`), in the order in which it must.

use core::fmt::{Debug, Formatter, Result, Write as _};

use ndis_sys::{
    NDIS_HANDLE, NDIS_MINIPORT_ADAPTER_ATTRIBUTES, NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, NDIS_OFFLOAD, NDIS_STATUS,
    NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_SUCCESS,
};

use crate::adapter::Adapter;
use crate::report;

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
unsafe extern "win64" fn NdisMSetMiniportAttributes(
    handle: NDIS_HANDLE,
    attributes: *mut NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
) -> NDIS_STATUS {
    // SAFETY: the handle is the one of MiniportInitializeEx, an adapter; each kind starts with a header, which says which
    // member of the union it is.
    let (adapter, attributes) = unsafe { (&*handle.cast::<Adapter>(), &*attributes) };
    // SAFETY: as above.
    let header = unsafe { attributes.Header };
    let kind = match header.Type {
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES => "registration",
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES => "general",
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES => "offload",
        _ => "unknown",
    };
    report::line(format_args!(
        "attributes kind={kind} type={:#x} revision={} size={}",
        header.Type, header.Revision, header.Size
    ));
    match (header.Type, adapter.context.get().is_null(), adapter.mtu.get()) {
        (NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES, true, 0) => {
            // SAFETY: of that type.
            let registration = unsafe { attributes.RegistrationAttributes };
            adapter.context.set(registration.MiniportAdapterContext);
            report::line(format_args!(
                "registration context={} flags={:#x} interface={}",
                if adapter.context.get().is_null() { "null" } else { "set" },
                registration.AttributeFlags,
                registration.InterfaceType
            ));
        }
        (NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES, false, 0) => {
            // SAFETY: of that type.
            let general = unsafe { &attributes.GeneralAttributes };
            adapter.mtu.set(general.MtuSize);
            let length = usize::from(general.MacAddressLength).min(general.CurrentMacAddress.len());
            report::line(format_args!(
                "general medium={} physical={} mtu={} mac={} iftype={} oids={} pm={}",
                general.MediaType,
                general.PhysicalMediumType,
                general.MtuSize,
                MacAddress(&general.CurrentMacAddress[..length]),
                general.IfType,
                general.SupportedOidListLength as usize / size_of::<u32>(),
                if general.PowerManagementCapabilitiesEx.is_null() { "null" } else { "set" }
            ));
        }
        (NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES, false, 1..) => {
            // SAFETY: of that type.
            let offload = unsafe { attributes.OffloadAttributes };
            // SAFETY: both configurations are the driver's, and valid during the call.
            unsafe {
                configuration("current", offload.DefaultOffloadConfiguration);
                configuration("hardware", offload.HardwareOffloadCapabilities);
            }
        }
        // Not known, or not its turn.
        _ => return NDIS_STATUS_INVALID_PARAMETER,
    }
    NDIS_STATUS_SUCCESS
}

/// # Safety
/// `offload` is null or a configuration of the size that it says.
unsafe fn configuration(which: &str, offload: *const NDIS_OFFLOAD) {
    // SAFETY: as the caller promises.
    let Some(offload) = (unsafe { offload.as_ref() }) else {
        return report::line(format_args!("offload which={which} null"));
    };
    let ipsec = &offload.IPsecV2;
    report::line(format_args!(
        "offload which={which} revision={} size={} ah={} esp={} transport={} tunnel={} capacity={}",
        offload.Header.Revision,
        offload.Header.Size,
        ipsec.Ah,
        ipsec.Esp,
        ipsec.Transport,
        ipsec.Tunnel,
        ipsec.SaOffloadCapacity
    ));
}

/// Bytes of an address, with colons.
struct MacAddress<'a>(&'a [u8]);

impl core::fmt::Display for MacAddress<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Debug for MacAddress<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        core::fmt::Display::fmt(self, f)
    }
}
