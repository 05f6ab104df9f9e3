//! What NDIS answers by itself, from attributes, indications and what it set before.

use std::sync::atomic::Ordering;

use ndis_sys::NDIS_OID;

use super::super::{Adapter, AdapterCore};

/// What NDIS remembers of successful sets, to answer queries itself.
const REMEMBERED: &[NDIS_OID] = &[
    ndis_sys::OID_GEN_CURRENT_PACKET_FILTER,
    ndis_sys::OID_GEN_CURRENT_LOOKAHEAD,
    ndis_sys::OID_802_3_MULTICAST_LIST,
    ndis_sys::OID_PM_PARAMETERS,
    ndis_sys::OID_OFFLOAD_ENCAPSULATION,
];

impl Adapter {
    /// What NDIS answers by itself, from attributes and indications: `None` if the OID is the
    /// driver's to answer (`oid` of [`Adapter::oid`]).
    pub fn query_ndis(&self, oid: NDIS_OID) -> Option<Vec<u8>> {
        let attributes = self.core.attributes.lock().complete()?;
        let general = &attributes.general;
        let word = |value: u32| Some(value.to_le_bytes().to_vec());
        let link = *self.core.indications.link.lock();
        let (connect, duplex, transmit, receive) = link.unwrap_or((
            general.MediaConnectState,
            general.MediaDuplexState,
            general.XmitLinkSpeed,
            general.RcvLinkSpeed,
        ));
        match oid {
            ndis_sys::OID_GEN_SUPPORTED_LIST => {
                Some(general.supported_oids.iter().flat_map(|oid| oid.to_le_bytes()).collect())
            }
            ndis_sys::OID_GEN_MEDIA_SUPPORTED | ndis_sys::OID_GEN_MEDIA_IN_USE => {
                word(general.MediaType.cast_unsigned())
            }
            ndis_sys::OID_GEN_MAXIMUM_LOOKAHEAD => word(general.LookaheadSize),
            ndis_sys::OID_GEN_MAXIMUM_FRAME_SIZE => word(general.MtuSize),
            ndis_sys::OID_GEN_LINK_SPEED => word(u32::try_from(transmit / 100).unwrap_or(u32::MAX)),
            ndis_sys::OID_GEN_MAC_OPTIONS => word(general.MacOptions),
            // NdisMediaStateConnected is 0, NdisMediaStateDisconnected 1.
            ndis_sys::OID_GEN_MEDIA_CONNECT_STATUS => {
                word(u32::from(connect != ndis_sys::MediaConnectStateConnected))
            }
            ndis_sys::OID_GEN_PHYSICAL_MEDIUM => word(general.PhysicalMediumType.cast_unsigned()),
            ndis_sys::OID_GEN_MEDIA_DUPLEX_STATE => word(duplex.cast_unsigned()),
            ndis_sys::OID_GEN_LINK_STATE => {
                let mut state = vec![0x80, 1, 40, 0];
                state.extend_from_slice(&connect.to_le_bytes());
                state.extend_from_slice(&duplex.to_le_bytes());
                state.extend_from_slice(&[0; 4]);
                state.extend_from_slice(&transmit.to_le_bytes());
                state.extend_from_slice(&receive.to_le_bytes());
                state.extend_from_slice(&general.SupportedPauseFunctions.to_le_bytes());
                state.extend_from_slice(&general.AutoNegotiationFlags.to_le_bytes());
                Some(state)
            }
            ndis_sys::OID_GEN_CURRENT_PACKET_FILTER => {
                self.core.oids.set.lock().get(&oid).cloned().or_else(|| word(0))
            }
            oid if REMEMBERED.contains(&oid) => {
                Some(self.core.oids.set.lock().get(&oid).cloned().unwrap_or_default())
            }
            ndis_sys::OID_802_3_MAXIMUM_LIST_SIZE => word(general.MaxMulticastListSize),
            ndis_sys::OID_TCP_OFFLOAD_CURRENT_CONFIG => self.current_offload().map(offload_bytes),
            ndis_sys::OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES => {
                attributes.offload.map(|o| offload_bytes(o.hardware))
            }
            _ => None,
        }
    }
}

impl AdapterCore {
    /// A set succeeded: NDIS keeps what it will be asked for, and the power state.
    pub(super) fn remember_set(&self, oid: NDIS_OID, bytes: &[u8]) {
        if REMEMBERED.contains(&oid) {
            self.oids.set.lock().insert(oid, bytes.to_vec());
        }
        if let (ndis_sys::OID_PNP_SET_POWER, Some(state)) = (oid, bytes.first_chunk()) {
            let low = i32::from_le_bytes(*state) != ndis_sys::NdisDeviceStateD0;
            // Release: who sees the state also sees that the driver has been told.
            self.low_power.store(low, Ordering::Release);
        }
    }
}

fn offload_bytes(offload: ndis_sys::NDIS_OFFLOAD) -> Vec<u8> {
    // SAFETY: NDIS_OFFLOAD was zeroed as a whole and then copied over, so every byte, padding
    // included, is initialised.
    let bytes =
        unsafe { std::slice::from_raw_parts((&raw const offload).cast::<u8>(), size_of_val(&offload)) };
    bytes[..usize::from(offload.Header.Size).min(bytes.len())].to_vec()
}
