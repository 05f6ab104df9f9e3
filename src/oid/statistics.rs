//! Counters (`oid-gen-statistics`). All come from the NIC's two tallies, so that the identities between them hold.

use ndis::{OidCompletion, OidRequest, Regular, Statistics};
use ndis_sys as sys;

use crate::adapter::Adapter;

type Request<'r> = OidRequest<'r, Regular>;
type Completion<'r> = OidCompletion<'r, Regular>;

/// `NDIS_STATISTICS_FLAGS_VALID_*`; the general attributes have bits of another kind.
const VALID: u32 = sys::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_RCV_DISCARDS
    | sys::NDIS_STATISTICS_FLAGS_VALID_RCV_ERROR
    | sys::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT
    | sys::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_XMIT
    | sys::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_XMIT
    | sys::NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT
    | sys::NDIS_STATISTICS_FLAGS_VALID_XMIT_ERROR
    | sys::NDIS_STATISTICS_FLAGS_VALID_XMIT_DISCARDS
    | sys::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_RCV
    | sys::NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_XMIT
    | sys::NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_XMIT
    | sys::NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_XMIT;

pub(super) fn all<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    let (received, sent) = (adapter.nic.received(), adapter.nic.sent());
    request.answer_statistics(&Statistics {
        valid: VALID,
        // The header's comments: discards are RCV_ERROR and RCV_NO_BUFFER together.
        in_discards: received.errors + received.discards,
        in_errors: received.errors,
        in_directed: received.unicast.packets,
        in_multicast: received.multicast.packets,
        in_broadcast: received.broadcast.packets,
        in_directed_octets: received.unicast.octets,
        in_multicast_octets: received.multicast.octets,
        in_broadcast_octets: received.broadcast.octets,
        out_errors: sent.errors,
        out_discards: sent.discards,
        out_directed: sent.unicast.packets,
        out_multicast: sent.multicast.packets,
        out_broadcast: sent.broadcast.packets,
        out_directed_octets: sent.unicast.octets,
        out_multicast_octets: sent.multicast.octets,
        out_broadcast_octets: sent.broadcast.octets,
    })
}

pub(super) fn transmitted<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_counter64(adapter.nic.sent().packets())
}

pub(super) fn received<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_counter64(adapter.nic.received().packets())
}

pub(super) fn transmit_errors<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_counter64(adapter.nic.sent().errors)
}

pub(super) fn receive_errors<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_counter64(adapter.nic.received().errors)
}

pub(super) fn receive_discards<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_counter64(adapter.nic.received().discards)
}

/// What a wire without collisions and bit errors counts.
pub(super) fn none<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(0)
}
