//! ADD_SA and ADD_SA_EX (`oid-tcp-task-ipsec-offload-v2-add-sa`, `-add-sa-ex`).
//!
//! An SA is built completely, then published; what fails leaves a NULL handle and nothing behind. An inbound SA with the SPI,
//! destination and protocol of one that is there is refused (`INVALID_PARAMETER`) and the older one stays: a packet could not
//! tell them apart (RFC 4301 §4.1), and the NIC drops no SA by itself.

use core::num::NonZeroUsize;

use ndis::{OidCompletion, OidPath, OidRequest, SaRequest, Status, processor};

use super::parameters::{SaParameters, build};
use crate::{adapter::Adapter, nic::slots::AddError};

/// A list; the request succeeds if any of its elements does.
pub(super) fn list<'r, K: OidPath>(adapter: &Adapter, request: OidRequest<'r, K>) -> OidCompletion<'r, K> {
    request.add_sa_list(|sa| add(adapter, sa))
}

/// A single SA.
pub(super) fn one<'r, K: OidPath>(adapter: &Adapter, request: OidRequest<'r, K>) -> OidCompletion<'r, K> {
    request.add_sa_ex(|sa| add(adapter, sa))
}

/// `INVALID_PARAMETER` for what is malformed, not covered by the capabilities, or there already; `FAILURE` when IPsec has been
/// switched off, a normal race (`oid-tcp-task-ipsec-offload-v2-add-sa-ex`); `RESOURCES` without memory or a slot.
fn add(adapter: &Adapter, request: &SaRequest<'_>) -> Result<NonZeroUsize, Status> {
    let parameters = SaParameters::parse(request)?;
    let capabilities = adapter.offload.get().current().ipsec.ok_or(Status::FAILURE)?;
    parameters.check(&capabilities)?;
    let sa = build(&parameters)?;
    let (added, progress) = adapter.nic.add(processor::current(), sa);
    adapter.pending_deletes.complete(&adapter.nic.slots, progress);
    added.map_err(|error| match error {
        AddError::Full => Status::RESOURCES,
        AddError::Duplicate => Status::INVALID_PARAMETER,
    })
}
