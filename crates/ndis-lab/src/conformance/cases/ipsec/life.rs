//! SAs through stress, sleep, reset, and IPsec switched off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use etherparse::PacketBuilder;
use ndis_sys::{OID_TCP_OFFLOAD_PARAMETERS, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX};

use super::super::offload::{ipsec_field, with};
use crate::adapter::oid::Oid;
use crate::adapter::receive::Received;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::adapter::{Adapter, HaltAction};
use crate::conformance::context::Context;
use crate::conformance::station::{self, SILENCE, succeed};
use crate::conformance::{Need, Outcome, Stop, check, status_text};
use crate::error::LabError;
use crate::ipsec_v2::{self, DeleteSaList};
use crate::transport::{Direction, OutboundSa, TransportSa, ethernet};

use super::{
    A, B, CRYPTO_DONE, IP, SA_DELETE_REQUEST, SLOT_HEADER, SLOT_IPSEC, SPI, Secured, add, common, delete,
    monitor, offered, receive_on, slot, transport_sa, udp,
};

pub(super) fn stress(context: &Context) -> Outcome {
    const ROUNDS: u32 = 60;
    let algorithm = offered(context)?[0];
    let mut secured = Secured::new(context, algorithm)?;
    let (a, b) = (secured.pair.a.clone(), secured.pair.b.clone());
    let lists = (0..4).map(|length| secured.list(&udp(length * 90, 8)?)).collect::<Outcome<Vec<_>>>()?;
    let stop = AtomicBool::new(false);
    let patience = context.patience;
    let (bad, processed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (wrong, right) = (bad.clone(), processed.clone());
    let sink = move |_: &Adapter, frames: Vec<Received>| {
        for received in &frames {
            // Relaxed: counters that are read after all is quiet.
            match slot(received, SLOT_IPSEC) {
                CRYPTO_DONE => right.fetch_add(1, Ordering::Relaxed),
                _ => wrong.fetch_add(1, Ordering::Relaxed),
            };
        }
    };
    b.set_receive_sink(Some(Arc::new(sink)));
    let churn = |adapter: &Adapter, first: u32, direction: Direction| -> Result<(), LabError> {
        for round in 0..ROUNDS {
            let sa = transport_sa(algorithm, first + round).parameters(direction);
            let mut request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, sa.add_sa_ex()).direct();
            request.at_dispatch = round % 2 == 0;
            let outcome = adapter.oid(request)?;
            let Some(handle) = ipsec_v2::handle_of_add_sa_ex(&outcome.buffer) else { continue };
            let mut request = DeleteSaList::new(&[handle])?.request();
            request.at_dispatch = round % 3 == 0;
            adapter.oid(request)?;
        }
        Ok(())
    };
    let send = |options: SendOptions| -> Result<(), LabError> {
        // Relaxed: only ends the loop.
        while !stop.load(Ordering::Relaxed) {
            a.send_with(&lists, options)?.wait(patience)?;
        }
        Ok(())
    };
    let results: Vec<Result<(), LabError>> = std::thread::scope(|scope| {
        let senders = [scope.spawn(|| send(SendOptions::dispatch()))];
        let changers = [
            scope.spawn(|| churn(&a, 0x10_0000, Direction::Outbound)),
            scope.spawn(|| churn(&a, 0x20_0000, Direction::Inbound)),
            scope.spawn(|| churn(&b, 0x30_0000, Direction::Inbound)),
            scope.spawn(|| churn(&b, 0x40_0000, Direction::Outbound)),
        ];
        let mut results: Vec<_> = changers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        results.extend(senders.into_iter().map(std::thread::ScopedJoinHandle::join));
        results.into_iter().map(|result| result.unwrap_or(Err(LabError::NotRegistered))).collect()
    });
    std::thread::sleep(SILENCE);
    b.set_receive_sink(None);
    results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (bad, processed) = (bad.load(Ordering::Relaxed), processed.load(Ordering::Relaxed));
    // The same packets again and again: the sender may refuse to repeat an IV, so that some or most fail.
    check!(
        bad == 0,
        "{bad} packets of an SA that was not touched came in unprocessed or damaged, {processed} came in well"
    );
    b.take_received();
    secured.carry(&udp(70, 1)?)
}

/// A pair with SAs both ways: as [`Secured`], and back from B to A.
struct BothWays<'c> {
    there: Secured<'c>,
    back: OutboundSa,
    /// B's handle of the SA back, and A's.
    back_handles: [usize; 2],
}

impl<'c> BothWays<'c> {
    fn new(context: &'c Context) -> Outcome<Self> {
        let there = Secured::new(context, common(context)?)?;
        let sa = TransportSa { source: B, destination: A, ..transport_sa(there.sa.algorithm, SPI + 0x40) };
        let out = add(&there.pair.b, &sa.parameters(Direction::Outbound))?;
        let inbound = add(&there.pair.a, &sa.parameters(Direction::Inbound))?;
        Ok(Self { there, back: OutboundSa::new(sa, out, 0x77_0000_0000), back_handles: [out, inbound] })
    }

    /// Sends a packet from B to A under the SA back; the word of slot 1 with which it came in.
    fn carry_back(&mut self, payload: u8) -> Outcome<usize> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(B.octets(), A.octets(), 64)
            .udp(9, 7)
            .write(&mut packet, &[payload; 40])
            .map_err(|error| Stop::Failed(error.to_string()))?;
        let framed = self.back.frame(&packet).map_err(|error| Stop::Failed(error.to_string()))?;
        let (a, b) = (&self.there.pair.a, &self.there.pair.b);
        let frame = ethernet(station::address(a), station::address(b), &framed.packet);
        let list =
            SendNbl::frame(frame).oob(SLOT_IPSEC, self.back_handles[0]).oob(SLOT_HEADER, framed.header);
        let patience = self.there.pair.patience();
        station::send_all(b, &[list], SendOptions::default(), patience)?;
        Ok(slot(&station::receive(a, 1, patience)?[0], SLOT_IPSEC))
    }

    /// Sends an encrypted packet from A to B as a peer does; the word of slot 1.
    fn sealed_there(&mut self, seed: u8) -> Outcome<(usize, bool)> {
        let frame = self.there.sealed(&udp(64, seed)?)?;
        let received = self.there.pair.carry(&[SendNbl::frame(frame.clone())], 1)?.remove(0);
        Ok((slot(&received, SLOT_IPSEC), received.frame == station::padded(&frame)))
    }
}

pub(super) fn delete_request(context: &Context) -> Outcome {
    let mut both = BothWays::new(context)?;
    let Some(hardware) = context.facts()?.hardware() else { return Ok(()) };
    let field = ipsec_field(hardware);
    let quiet = |word: usize, when: &str| -> Outcome {
        check!(word == CRYPTO_DONE, "{when}: slot 1 is {word:#x}; CryptoDone alone is expected");
        Ok(())
    };
    for seed in 0..3 {
        quiet(both.sealed_there(seed)?.0, "nothing has changed")?;
        quiet(both.carry_back(seed)?, "nothing has changed")?;
    }
    // What makes a miniport ask: the offload is switched off while SAs live.
    let b = both.there.pair.b.clone();
    let switch = |value: u8| Oid::set(OID_TCP_OFFLOAD_PARAMETERS, with(field, value));
    succeed(&b, switch(1), "switching IPsec off")?;
    for seed in 3..6 {
        let (word, same) = both.sealed_there(seed)?;
        let asked = word & SA_DELETE_REQUEST != 0;
        let done = word & CRYPTO_DONE != 0;
        check!(
            if done { asked } else { same && word & !SA_DELETE_REQUEST == 0 },
            "IPsec is switched off: slot 1 is {word:#x}, and the packet is {}; it is processed only if its \
             deletion is asked for",
            if same { "as it was sent" } else { "changed" }
        );
    }
    // Nothing was dropped: all SAs work again without being added again.
    succeed(&b, switch(3), "switching ESP on again")?;
    quiet(both.sealed_there(6)?.0, "IPsec is on again, and the inbound SA was not deleted")?;
    quiet(both.carry_back(7)?, "IPsec is on again, and the outbound SA was not deleted")?;
    // The stack deletes the inbound SA, then its partner: until then that one works.
    delete(&b, &[both.there.inbound])?;
    let (word, same) = both.sealed_there(8)?;
    check!(word == 0 && same, "the inbound SA is deleted, and a packet of it has {word:#x} in slot 1");
    quiet(both.carry_back(9)?, "the inbound SA is deleted, and its outbound partner is not")?;
    delete(&b, &[both.back_handles[0]])?;
    let a = both.there.pair.a.clone();
    a.take_received();
    check!(both.carry_back(10).is_err(), "a packet is sent under an SA after its DELETE_SA");
    delete(&a, &[both.there.out.handle, both.back_handles[1]])
}

pub(super) fn outlives_changes(context: &Context) -> Outcome {
    let mut secured = Secured::new(context, offered(context)?[0])?;
    let monitor = monitor(context)?;
    secured.carry(&udp(80, 1)?)?;
    let (a, b) = (secured.pair.a.clone(), secured.pair.b.clone());
    for adapter in [&a, &b] {
        adapter.pause()?;
        adapter.restart()?;
        secured.carry(&udp(81, 1)?)?;
    }
    let facts = context.facts()?;
    if Need::NoPauseOnSuspend.lacking(facts).is_none() {
        for adapter in [&a, &b] {
            for state in [ndis_sys::NdisDeviceStateD3, ndis_sys::NdisDeviceStateD0] {
                succeed(
                    adapter,
                    Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned()),
                    "a power state",
                )?;
            }
            secured.carry(&udp(82, 1)?)?;
        }
    }
    if Need::Reset.lacking(facts).is_none() {
        for adapter in [&a, &b] {
            let addressing = adapter.reset(ndis_sys::PASSIVE_LEVEL)?.addressing;
            if addressing {
                station::set_filter(adapter, station::USUAL_FILTER)?;
                receive_on(adapter)?;
            }
            secured.carry(&udp(83, 1)?)?;
        }
    }
    // Switched off while SAs live.
    let Some(hardware) = facts.hardware() else { return Ok(()) };
    let switch = |value: u8| Oid::set(OID_TCP_OFFLOAD_PARAMETERS, with(ipsec_field(hardware), value));
    succeed(&a, switch(1), "switching IPsec off")?;
    let packet = udp(300, 0x41)?;
    let list = secured.list(&packet)?;
    monitor.take_received();
    a.send(&[list])?;
    std::thread::sleep(SILENCE);
    let secret = &packet[IP + 8..IP + 40];
    for seen in monitor.take_received() {
        check!(
            !seen.frame.windows(secret.len()).any(|window| window == secret),
            "a packet of an SA is on the wire in clear when IPsec is switched off"
        );
    }
    b.take_received();
    let (outcome, handle) =
        a.add_sa_ex(&transport_sa(secured.sa.algorithm, SPI + 7).parameters(Direction::Outbound))?;
    check!(handle.is_none(), "an SA is taken while IPsec is switched off: {}", status_text(outcome.status));
    succeed(&a, switch(3), "switching ESP on again")?;
    delete(&a, &[secured.out.handle])?;
    let again = add(&a, &secured.sa.parameters(Direction::Outbound))?;
    secured.out.handle = again;
    secured.carry(&udp(84, 1)?)
}

pub(super) fn handles_of_other_lives(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let mut before = Vec::new();
    for life in 1..=3 {
        let adapter = context.driver()?.add_adapter(context.config())?;
        // The same requests in the same order, some slots used twice.
        let mut handles = Vec::new();
        for spi in 0..6 {
            let direction = if spi % 2 == 0 { Direction::Outbound } else { Direction::Inbound };
            handles.push(add(&adapter, &transport_sa(algorithm, SPI + spi).parameters(direction))?);
            if spi == 2 {
                delete(&adapter, &handles[1..2])?;
            }
        }
        for handle in &handles {
            check!(
                !before.contains(handle),
                "life {life} of the adapter gives handle {handle:#x} of an earlier one again"
            );
        }
        before.extend(handles);
        adapter.halt(HaltAction::DeviceDisabled)?;
    }
    Ok(())
}
