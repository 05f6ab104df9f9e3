//! Plug and Play events (`[nc-ndis-miniport_device_pnp_event_notify]`).

use ndis_sys::{
    NET_DEVICE_PNP_EVENT, NdisDevicePnPEventPowerProfileChanged, NdisDevicePnPEventSurpriseRemoved,
    NdisPowerProfileBattery, ULONG,
};

/// What happened to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PnpEvent {
    /// The device is gone: from now on sends and OID requests end with NOT_ACCEPTED; pause and halt follow.
    SurpriseRemoved,
    /// The machine changed its power source.
    PowerProfileChanged {
        /// It runs on battery.
        battery: bool,
    },
    /// Another NDIS_DEVICE_PNP_EVENT, to be ignored.
    Other(i32),
}

impl PnpEvent {
    /// # Safety
    ///
    /// `event` is null or the event NDIS passed to MiniportDevicePnPEventNotify.
    pub(crate) unsafe fn from_raw(event: *const NET_DEVICE_PNP_EVENT) -> Option<Self> {
        if event.is_null() {
            return None;
        }
        // SAFETY: NDIS's structure, valid during the call.
        let (kind, buffer, length) = unsafe {
            ((*event).DevicePnPEvent, (*event).InformationBuffer, (*event).InformationBufferLength)
        };
        Some(match kind {
            NdisDevicePnPEventSurpriseRemoved => Self::SurpriseRemoved,
            NdisDevicePnPEventPowerProfileChanged => {
                if buffer.is_null() || (length as usize) < size_of::<ULONG>() {
                    return None;
                }
                // SAFETY: NDIS gives `length` readable bytes at `buffer`, enough for the ULONG, perhaps unaligned.
                let profile = unsafe { buffer.cast::<ULONG>().read_unaligned() };
                Self::PowerProfileChanged { battery: profile == NdisPowerProfileBattery.cast_unsigned() }
            }
            other => Self::Other(other),
        })
    }
}
