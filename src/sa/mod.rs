//! The direct OIDs of IPsec task offload version 2: ADD_SA, ADD_SA_EX, DELETE_SA.
//!
//! `IRQL <= DISPATCH_LEVEL`, on all processors at once, concurrently with everything. Nothing here blocks or takes a lock
//! that a packet needs; `ndis::ipsec_v2` has checked the structures, [`parameters`] turns their contents into SAs.

mod add;
mod delete;
mod parameters;

pub(crate) use delete::PendingDeletes;

use ndis::{Direct, OidCompletion, OidRequest, Status};
use ndis_sys as sys;

use crate::adapter::Adapter;

/// Answers a direct request.
pub(crate) fn handle<'r>(adapter: &Adapter, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct> {
    if adapter.bars.is_removed() {
        return request.fail(Status::NOT_ACCEPTED);
    }
    match request.oid() {
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA => add::list(adapter, request),
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX => add::one(adapter, request),
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA => delete::list(adapter, request),
        _ => request.fail(Status::NOT_SUPPORTED),
    }
}
