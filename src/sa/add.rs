//! ADD_SA and ADD_SA_EX (`oid-tcp-task-ipsec-offload-v2-add-sa`, `-add-sa-ex`).
//!
//! An SA is built completely, then published; what fails leaves a NULL handle and nothing behind.

use core::num::NonZeroUsize;

use ndis::{Direct, OidCompletion, OidRequest, SaRequest, Status, processor};

use super::parameters;
use crate::{adapter::Adapter, nic::slots::AddError};

/// A list; the request succeeds if any of its elements does.
pub(super) fn list<'r>(adapter: &Adapter, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct> {
    request.add_sa_list(|sa| add(adapter, sa))
}

/// A single SA.
pub(super) fn one<'r>(adapter: &Adapter, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct> {
    request.add_sa_ex(|sa| add(adapter, sa))
}

fn add(adapter: &Adapter, request: &SaRequest<'_>) -> Result<NonZeroUsize, Status> {
    let config = adapter.offload.get();
    let sa = parameters::build(request, &config)?;
    let (handle, progress) =
        adapter.nic.slots.add(processor::current(), sa).map_err(|error| match error {
            AddError::Full => Status::RESOURCES,
            AddError::Duplicate => Status::INVALID_PARAMETER,
        })?;
    adapter.pending_deletes.complete(&adapter.nic.slots, progress);
    Ok(handle)
}
