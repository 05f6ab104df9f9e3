//! Extended sequence numbers (RFC 4303 §2.2.1): the high half is in no packet but in every ICV, and comes from the stack.

use ndis_sys::{NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_SUCCESS};

use crate::adapter::Adapter;
use crate::adapter::send::SendNbl;
use crate::conformance::context::Context;
use crate::conformance::peer::ICV;
use crate::conformance::station::{self, HEADER};
use crate::conformance::{Outcome, Stop, check, status_text};
use crate::ipsec_v2::{Operation, SaParameters, update_sa};
use crate::transport::{Direction, IV_LENGTH};

use super::{
    CRYPTO_DONE, ESP, IP, SLOT_HEADER, SLOT_IPSEC, SPI, Secured, add, common, delete, monitor, slot,
    transport_sa, udp,
};

/// The SA of a pair, with this high half.
fn extended(secured: &Secured<'_>, direction: Direction, high: u32) -> SaParameters {
    let mut parameters = secured.sa.parameters(direction);
    for association in &mut parameters.associations {
        association.esn = Some(high);
    }
    parameters
}

/// A packet under the SA as the wire has it: a peer with this high half can read it, with another one it cannot.
fn sent_with(context: &Context, secured: &mut Secured<'_>, monitor: &Adapter, high: u32) -> Outcome {
    let packet = udp(48, 6)?;
    let (frame, header) = secured.framed(&packet)?;
    monitor.take_received();
    let list = SendNbl::frame(frame.clone()).oob(SLOT_IPSEC, secured.out.handle).oob(SLOT_HEADER, header);
    let received = secured.pair.carry(&[list], 1)?.remove(0);
    secured.accept(&received, &packet)?;
    let seen = station::receive(monitor, 1, context.patience)?.remove(0).frame;
    let esp = &seen[HEADER + IP..frame.len()];
    let clear = &frame[HEADER + IP + ESP + IV_LENGTH..frame.len() - ICV];
    let peer = secured.peer()?;
    check!(
        peer.open_extended(esp, Some(high)).as_deref() == Some(clear),
        "what is sent under an SA with high half {high} does not verify with it{}",
        if peer.open(esp).is_some() { ", but without any" } else { "" }
    );
    Ok(())
}

/// Slot 1 of a packet that a peer sends with this high half.
fn received_with(secured: &mut Secured<'_>, high: u32) -> Outcome<usize> {
    let (mut frame, _) = secured.framed(&udp(48, 6)?)?;
    let sealed = secured.peer()?.seal_extended(&mut frame[HEADER + IP..], Some(high));
    sealed.ok_or_else(|| Stop::Failed("the peer cannot encrypt".into()))?;
    let received = secured.pair.carry(&[SendNbl::frame(frame)], 1)?.remove(0);
    Ok(slot(&received, SLOT_IPSEC))
}

fn update(
    adapter: &Adapter,
    handle: usize,
    operation: Operation,
    spi: u32,
    high: u32,
    status: i32,
) -> Outcome {
    let outcome = adapter.oid(update_sa(handle, operation, spi, high))?;
    check!(
        outcome.status == status,
        "UPDATE_SA of handle {handle:#x}, {operation:?}, SPI {spi:#x} ends with {} instead of {}",
        status_text(outcome.status),
        status_text(status)
    );
    Ok(())
}

pub(super) fn sequence_numbers(context: &Context) -> Outcome {
    let mut secured = Secured::new(context, common(context)?)?;
    let monitor = monitor(context)?;
    let failed = CRYPTO_DONE | (ndis_sys::CRYPTO_TRANSPORT_ESP_AUTH_FAILED as usize) << 16;
    // The same SA anew, with the flag.
    delete(&secured.pair.a, &[secured.out.handle])?;
    delete(&secured.pair.b, &[secured.inbound])?;
    secured.out.handle = add(&secured.pair.a, &extended(&secured, Direction::Outbound, 3))?;
    secured.inbound = add(&secured.pair.b, &extended(&secured, Direction::Inbound, 3))?;
    sent_with(context, &mut secured, &monitor, 3)?;
    check!(received_with(&mut secured, 3)? == CRYPTO_DONE, "a packet with the right high half is refused");
    let word = received_with(&mut secured, 9)?;
    check!(word == failed, "slot 1 of a packet with another high half is {word:#x}");
    // What names no such SA changes nothing.
    let (out, inbound) = (secured.out.handle, secured.inbound);
    let plain =
        add(&secured.pair.a, &transport_sa(secured.sa.algorithm, SPI + 5).parameters(Direction::Outbound))?;
    let refused = NDIS_STATUS_INVALID_PARAMETER;
    update(&secured.pair.a, out, Operation::Esp, SPI + 1, 40, refused)?;
    update(&secured.pair.a, out, Operation::Ah, SPI, 41, refused)?;
    update(&secured.pair.a, plain, Operation::Esp, SPI + 5, 42, refused)?;
    sent_with(context, &mut secured, &monitor, 3)?;
    // What does, does.
    for high in [4, u32::MAX] {
        update(&secured.pair.a, out, Operation::Esp, SPI, high, NDIS_STATUS_SUCCESS)?;
        update(&secured.pair.b, inbound, Operation::Esp, SPI, high, NDIS_STATUS_SUCCESS)?;
        sent_with(context, &mut secured, &monitor, high)?;
        check!(
            received_with(&mut secured, high)? == CRYPTO_DONE,
            "a packet with the new high half is refused"
        );
    }
    delete(&secured.pair.a, &[out, plain])?;
    update(&secured.pair.a, out, Operation::Esp, SPI, 7, refused)
}
