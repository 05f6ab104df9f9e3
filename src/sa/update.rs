//! UPDATE_SA (`oid-tcp-task-ipsec-offload-v2-update-sa`): the high half of an extended sequence number.
//!
//! One SA for each request: the OID's page speaks of a list, but neither the structure nor its page has a link.

use ndis::{IpsecOperation, OidCompletion, OidPath, OidRequest, Status, UpdateSa, processor};

use super::parameters::spi;
use crate::{adapter::Adapter, nic::sa::Sa};

/// Sets the high half of one SA.
pub(super) fn one<'r, K: OidPath>(adapter: &Adapter, request: OidRequest<'r, K>) -> OidCompletion<'r, K> {
    let slots = &adapter.nic.slots;
    let reader = slots.enter(processor::current());
    let completion = request.update_sa(|update| {
        let sa = reader.get(update.handle).ok_or(Status::INVALID_PARAMETER)?;
        set(sa, &update)
    });
    let progress = reader.leave();
    adapter.pending_deletes.complete(slots, progress);
    completion
}

/// The handle alone would do; operation and SPI have to agree with it, as the page says that they name the SA.
fn set(sa: &Sa, update: &UpdateSa) -> ndis::Result<()> {
    let esn = sa.esn().ok_or(Status::INVALID_PARAMETER)?;
    if update.operation != IpsecOperation::Esp || spi(update.spi) != sa.spi() {
        return Err(Status::INVALID_PARAMETER);
    }
    esn.update(update.sequence_high);
    Ok(())
}
