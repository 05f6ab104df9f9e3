//! `OID_802_3_*`: addresses.

use ndis::{OidCompletion, OidRequest, Regular, SetError, Status};

use crate::{
    adapter::{Adapter, attributes::MAX_MULTICAST},
    nic::filter::{MULTICAST_CAPACITY, MacAddress},
};

type Request<'r> = OidRequest<'r, Regular>;
type Completion<'r> = OidCompletion<'r, Regular>;

pub(super) fn permanent_address<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_bytes(&adapter.settings.permanent_address.0)
}

pub(super) fn current_address<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_bytes(&adapter.settings.current_address.0)
}

pub(super) fn max_multicast_list<'r>(_: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.answer_u32(MAX_MULTICAST)
}

pub(super) fn set_multicast_list<'r>(adapter: &Adapter, request: Request<'r>) -> Completion<'r> {
    request.set_bytes(|input| {
        let (addresses, rest) = input.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(SetError {
                status: Status::INVALID_LENGTH,
                needed: input.len().next_multiple_of(size_of::<MacAddress>()),
            });
        }
        let groups = addresses.iter().copied().map(MacAddress);
        adapter.nic.port().set_groups(groups).map_err(|_| SetError {
            status: Status::MULTICAST_FULL,
            needed: MULTICAST_CAPACITY * size_of::<MacAddress>(),
        })?;
        Ok(input.len())
    })
}
