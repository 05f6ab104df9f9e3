//! Task offload configuration (`oid-tcp-offload-parameters`, `oid-offload-encapsulation`). Each change is indicated.

use ndis::{Applied, OffloadEncapsulation, OffloadParameters, OidCompletion, OidRequest, Regular};
use ndis_sys as sys;

use crate::adapter::Adapter;

type Request<'r> = OidRequest<'r, Regular>;
type Completion<'r> = OidCompletion<'r, Regular>;

pub(super) fn set_parameters<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_bytes(|input| {
        let parameters = OffloadParameters::parse(input)?;
        adapter.configure_offload(|config| config.apply(&parameters))?;
        Ok(Applied { read: parameters.size, revision: Some(parameters.revision) })
    })
}

pub(super) fn set_encapsulation<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_bytes(|input| {
        let encapsulation = OffloadEncapsulation::parse(input)?;
        adapter.configure_offload(|config| config.encapsulate(&encapsulation))?;
        let revision = sys::NDIS_OFFLOAD_ENCAPSULATION_REVISION_1;
        Ok(Applied { read: OffloadEncapsulation::SIZE, revision: Some(revision) })
    })
}
