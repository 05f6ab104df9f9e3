//! Power (`oid-pnp-set-power`, `oid-pm-parameters`). The device cannot wake the machine.

use ndis::{Applied, OidCompletion, OidKind, OidRequest, Regular, Status, oid::checked_header};
use ndis_sys as sys;

use crate::adapter::Adapter;

type Request<'r> = OidRequest<'r, Regular>;
type Completion<'r> = OidCompletion<'r, Regular>;

pub(super) fn set_power<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_u32(|state| {
        match state.cast_signed() {
            sys::NdisDeviceStateD0 => adapter.wake(),
            sys::NdisDeviceStateD1 | sys::NdisDeviceStateD2 | sys::NdisDeviceStateD3 => adapter.sleep(),
            _ => return Err(Status::INVALID_DATA),
        }
        Ok(())
    })
}

/// Any state will do.
pub(super) fn query_power<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    if request.kind() == OidKind::Query { request.answer_bytes(&[]) } else { request.set_u32(|_| Ok(())) }
}

/// Acceptable as long as it asks for no wake-up and no protocol offload.
pub(super) fn set_parameters<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_bytes(|input| {
        let revision = sys::NDIS_PM_PARAMETERS_REVISION_1;
        let size = usize::from(sys::NDIS_SIZEOF_NDIS_PM_PARAMETERS_REVISION_1);
        checked_header(input, sys::NDIS_OBJECT_TYPE_DEFAULT, revision, size)?;
        // After the header come EnabledWoLPacketPatterns, EnabledProtocolOffloads and WakeUpFlags.
        if input[size_of::<sys::NDIS_OBJECT_HEADER>()..size].iter().any(|&byte| byte != 0) {
            return Err(Status::INVALID_PARAMETER.into());
        }
        Ok(Applied { read: size, revision: Some(revision) })
    })
}
