//! The OIDs of IPsec task offload version 2: ADD_SA, ADD_SA_EX, UPDATE_SA, DELETE_SA.
//!
//! They come on the direct path: `IRQL <= DISPATCH_LEVEL`, on all processors at once, concurrently with everything. Nothing
//! here waits or takes a lock; `ndis::ipsec_v2` has checked the structures, `parameters` turns
//! their contents into SAs. On the regular path, where a protocol may try them too, the same code answers.

mod add;
mod algorithms;
mod delete;
mod parameters;
mod update;

pub(crate) use delete::{Path, PendingDeletes};

use ndis::{OidCompletion, OidRequest, Status};
use ndis_sys as sys;

use crate::adapter::{Adapter, gate::Traffic};

/// Whether an OID is answered here.
pub(crate) fn is_ours(oid: u32) -> bool {
    matches!(
        oid,
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA
            | sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX
            | sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA
            | sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA
    )
}

/// Answers a request of either path. The device removed or being reset: `NOT_ACCEPTED`, and NULL for the handles of what was not
/// added.
pub(crate) fn handle<'r, K: Path>(adapter: &Adapter, request: OidRequest<'r, K>) -> OidCompletion<'r, K> {
    let pass = adapter.pass(Traffic::Request);
    if let Err(status) = pass.bars.requests() {
        return match request.oid() {
            sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA => request.refuse_add_sa_list(status),
            sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX => request.refuse_add_sa_ex(status),
            _ => request.fail(status),
        };
    }
    match request.oid() {
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA => add::list(adapter, request),
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX => add::one(adapter, request),
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA => update::one(adapter, request),
        sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA => delete::list(adapter, request),
        _ => request.fail(Status::NOT_SUPPORTED),
    }
}
