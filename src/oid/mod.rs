//! Regular OID requests: one table says which there are, which way each goes and who answers it.
//!
//! `PASSIVE_LEVEL`, one at a time (NDIS serialises them). The IPsec OIDs are `sa`'s, on whichever path they come.

mod ethernet;
mod general;
mod offload;
mod power;
mod private;
mod statistics;

use ndis::{OidCompletion, OidKind, OidRequest, Regular, Status};
use ndis_sys::{self as sys, NDIS_OID};

use crate::{
    adapter::{Adapter, gate::Traffic},
    dump, sa,
};

/// Answers one OID in one direction.
type Handler = for<'r> fn(&Adapter, OidRequest<'r, Regular>) -> OidCompletion<'r, Regular>;

/// An OID that reaches a miniport, and its handlers. NDIS answers the others itself, from attributes and indications.
struct Entry {
    oid: NDIS_OID,
    query: Option<Handler>,
    set: Option<Handler>,
}

const fn query(oid: NDIS_OID, handler: Handler) -> Entry {
    Entry { oid, query: Some(handler), set: None }
}

const fn set(oid: NDIS_OID, handler: Handler) -> Entry {
    Entry { oid, query: None, set: Some(handler) }
}

const TABLE: [Entry; 34] = [
    query(sys::OID_GEN_HARDWARE_STATUS, general::hardware_status),
    query(sys::OID_GEN_TRANSMIT_BUFFER_SPACE, general::transmit_buffer_space),
    query(sys::OID_GEN_RECEIVE_BUFFER_SPACE, general::receive_buffer_space),
    query(sys::OID_GEN_TRANSMIT_BLOCK_SIZE, general::max_frame),
    query(sys::OID_GEN_RECEIVE_BLOCK_SIZE, general::max_frame),
    query(sys::OID_GEN_VENDOR_ID, general::vendor_id),
    query(sys::OID_GEN_VENDOR_DESCRIPTION, general::vendor_description),
    query(sys::OID_GEN_VENDOR_DRIVER_VERSION, general::vendor_driver_version),
    query(sys::OID_GEN_MAXIMUM_TOTAL_SIZE, general::max_frame),
    query(sys::OID_GEN_MAXIMUM_SEND_PACKETS, general::max_send_packets),
    query(sys::OID_GEN_TRANSMIT_QUEUE_LENGTH, general::transmit_queue_length),
    set(sys::OID_GEN_CURRENT_PACKET_FILTER, general::set_packet_filter),
    set(sys::OID_GEN_CURRENT_LOOKAHEAD, general::set_lookahead),
    set(sys::OID_GEN_LINK_PARAMETERS, general::set_link_parameters),
    Entry {
        oid: sys::OID_GEN_INTERRUPT_MODERATION,
        query: Some(general::interrupt_moderation),
        set: Some(general::set_interrupt_moderation),
    },
    query(sys::OID_GEN_STATISTICS, statistics::all),
    query(sys::OID_GEN_XMIT_OK, statistics::transmitted),
    query(sys::OID_GEN_RCV_OK, statistics::received),
    query(sys::OID_GEN_XMIT_ERROR, statistics::transmit_errors),
    query(sys::OID_GEN_RCV_ERROR, statistics::receive_errors),
    query(sys::OID_GEN_RCV_NO_BUFFER, statistics::receive_discards),
    query(sys::OID_802_3_RCV_ERROR_ALIGNMENT, statistics::none),
    query(sys::OID_802_3_XMIT_ONE_COLLISION, statistics::none),
    query(sys::OID_802_3_XMIT_MORE_COLLISIONS, statistics::none),
    query(sys::OID_802_3_PERMANENT_ADDRESS, ethernet::permanent_address),
    query(sys::OID_802_3_CURRENT_ADDRESS, ethernet::current_address),
    query(sys::OID_802_3_MAXIMUM_LIST_SIZE, ethernet::max_multicast_list),
    set(sys::OID_802_3_MULTICAST_LIST, ethernet::set_multicast_list),
    set(sys::OID_PNP_SET_POWER, power::set_power),
    Entry { oid: sys::OID_PNP_QUERY_POWER, query: Some(power::query_power), set: Some(power::query_power) },
    set(sys::OID_PM_PARAMETERS, power::set_parameters),
    set(sys::OID_TCP_OFFLOAD_PARAMETERS, offload::set_parameters),
    set(sys::OID_OFFLOAD_ENCAPSULATION, offload::set_encapsulation),
    query(dump::OID_IPSECNIC_SA_TABLE, private::sa_table),
];

/// What is answered but not listed: it exists for tests, by a keyword.
const UNLISTED: [Entry; 1] = [set(dump::OID_IPSECNIC_WEDGE, private::wedge)];

/// The OID list of the general attributes: all of the table.
pub(crate) static SUPPORTED: [NDIS_OID; TABLE.len()] = {
    let mut oids = [0; TABLE.len()];
    let mut i = 0;
    while i < oids.len() {
        oids[i] = TABLE[i].oid;
        i += 1;
    }
    oids
};

/// Answers a request.
pub(crate) fn handle<'r>(adapter: &Adapter, request: OidRequest<'r, Regular>) -> OidCompletion<'r, Regular> {
    if sa::is_ours(request.oid()) {
        return sa::handle(adapter, request);
    }
    let pass = adapter.pass(Traffic::Request);
    if let Err(status) = pass.bars.requests() {
        return request.fail(status);
    }
    let entry = TABLE.iter().chain(&UNLISTED).find(|entry| entry.oid == request.oid());
    let handler = entry.and_then(|entry| match request.kind() {
        OidKind::Query => entry.query,
        OidKind::Set => entry.set,
        OidKind::Method | OidKind::Other => None,
    });
    match handler {
        Some(handler) => handler(adapter, request),
        None => request.fail(Status::NOT_SUPPORTED),
    }
}
