//! What the adapter says of itself at initialisation (`ns-ndis-_ndis_miniport_adapter_general_attributes`).

use ndis::{GeneralAttributes, LinkState, MediaConnectState, MediaDuplexState, PauseFunctions};
use ndis_sys as sys;

use super::settings::Settings;
use crate::{nic::filter::MULTICAST_CAPACITY, oid};

/// The wire has no speed of its own; this is what it claims, in bit/s.
const LINK_SPEED: u64 = 10_000_000_000;

/// Packet filter bits that work.
pub(crate) const PACKET_FILTERS: u32 = sys::NDIS_PACKET_TYPE_DIRECTED
    | sys::NDIS_PACKET_TYPE_MULTICAST
    | sys::NDIS_PACKET_TYPE_ALL_MULTICAST
    | sys::NDIS_PACKET_TYPE_BROADCAST
    | sys::NDIS_PACKET_TYPE_PROMISCUOUS;

/// `OID_802_3_MAXIMUM_LIST_SIZE`.
#[expect(clippy::cast_possible_truncation, reason = "32")]
pub(crate) const MAX_MULTICAST: u32 = MULTICAST_CAPACITY as u32;

/// `NDIS_STATISTICS_*_SUPPORTED`; the flags inside `OID_GEN_STATISTICS` are other ones (`oid::statistics`).
const STATISTICS: u32 = sys::NDIS_STATISTICS_XMIT_OK_SUPPORTED
    | sys::NDIS_STATISTICS_RCV_OK_SUPPORTED
    | sys::NDIS_STATISTICS_XMIT_ERROR_SUPPORTED
    | sys::NDIS_STATISTICS_RCV_ERROR_SUPPORTED
    | sys::NDIS_STATISTICS_RCV_NO_BUFFER_SUPPORTED
    | sys::NDIS_STATISTICS_DIRECTED_BYTES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_DIRECTED_FRAMES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_MULTICAST_BYTES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_MULTICAST_FRAMES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_BROADCAST_BYTES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_BROADCAST_FRAMES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_DIRECTED_BYTES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_DIRECTED_FRAMES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_MULTICAST_BYTES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_MULTICAST_FRAMES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_BROADCAST_BYTES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_BROADCAST_FRAMES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_BYTES_RCV_SUPPORTED
    | sys::NDIS_STATISTICS_BYTES_XMIT_SUPPORTED
    | sys::NDIS_STATISTICS_RCV_DISCARDS_SUPPORTED
    | sys::NDIS_STATISTICS_XMIT_DISCARDS_SUPPORTED
    | sys::NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED;

/// The link in a power state: up while awake, unknown while asleep (`oid-pnp-set-power`).
pub(crate) fn link(awake: bool) -> LinkState {
    LinkState {
        connect: if awake { MediaConnectState::Connected } else { MediaConnectState::Unknown },
        duplex: if awake { MediaDuplexState::Full } else { MediaDuplexState::Unknown },
        transmit_bps: if awake { LINK_SPEED } else { u64::MAX },
        receive_bps: if awake { LINK_SPEED } else { u64::MAX },
        pause: PauseFunctions::Unsupported,
        auto_negotiation: 0,
    }
}

/// The general attributes.
pub(crate) fn general(settings: &Settings) -> GeneralAttributes {
    GeneralAttributes {
        mtu: settings.mtu(),
        max_transmit_bps: LINK_SPEED,
        max_receive_bps: LINK_SPEED,
        link: link(true),
        lookahead: settings.mtu(),
        mac_options: sys::NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA
            | sys::NDIS_MAC_OPTION_TRANSFERS_NOT_PEND
            | sys::NDIS_MAC_OPTION_NO_LOOPBACK
            | sys::NDIS_MAC_OPTION_8021P_PRIORITY,
        packet_filters: PACKET_FILTERS,
        max_multicast: MAX_MULTICAST,
        permanent_address: settings.permanent_address.0,
        current_address: settings.current_address.0,
        connector_present: false,
        statistics: STATISTICS,
        oids: &oid::SUPPORTED,
    }
}
