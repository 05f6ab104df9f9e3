//! Packets under an SA: on the wire, received, and with handles that are none.

use ndis_sys::{NDIS_PACKET_TYPE_PROMISCUOUS, NDIS_STATUS_FAILURE, OID_OFFLOAD_ENCAPSULATION};

use super::super::offload::{NO_CHANGE, OFF, ON, encapsulate};
use crate::adapter::oid::Oid;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::adapter::{Adapter, HaltAction};
use crate::conformance::context::Context;
use crate::conformance::peer::ICV;
use crate::conformance::station::{self, HEADER, SILENCE, succeed};
use crate::conformance::{Outcome, check, status_text};
use crate::transport::{self, Direction, IV_LENGTH};

use super::{
    CRYPTO_DONE, ESP, HEADER_INFO_SET, IP, SLOT_HEADER, SLOT_IPSEC, SPI, Secured, add, common, delete,
    monitor, offered, slot, transport_sa, udp,
};

pub(super) fn esp_on_the_wire(context: &Context) -> Outcome {
    for algorithm in offered(context)? {
        let mut secured = Secured::new(context, algorithm)?;
        let monitor = monitor(context)?;
        let peer = secured.peer().ok();
        for length in (0..24).chain([64, 255, 256, 1000, 1400]) {
            let packet = udp(length, 3)?;
            let (frame, header) = secured.framed(&packet)?;
            let list =
                SendNbl::frame(frame.clone()).oob(SLOT_IPSEC, secured.out.handle).oob(SLOT_HEADER, header);
            secured.pair.carry(&[list], 1)?;
            let seen = station::receive(&monitor, 1, context.patience)?.remove(0).frame;
            let start = HEADER + IP;
            check!(
                seen.len() == frame.len().max(station::MIN_FRAME) && seen[..start] == frame[..start],
                "{algorithm}, {length} bytes: the length or the headers before ESP changed"
            );
            check!(
                seen[start..start + ESP + IV_LENGTH] == frame[start..start + ESP + IV_LENGTH],
                "{algorithm}, {length} bytes: SPI, sequence number or IV changed"
            );
            let clear = &frame[start + ESP + IV_LENGTH..frame.len() - ICV];
            let sealed = &seen[start + ESP + IV_LENGTH..frame.len() - ICV];
            check!(clear != sealed, "{algorithm}, {length} bytes: the payload is on the wire in clear");
            if let Some(peer) = &peer {
                let opened = peer.open(&seen[start..frame.len()]);
                check!(
                    opened.as_deref() == Some(clear),
                    "{algorithm}, {length} bytes: a peer with the key cannot verify the packet"
                );
            }
        }
        monitor.pause()?;
        for adapter in [&secured.pair.a, &secured.pair.b] {
            adapter.pause()?;
        }
    }
    Ok(())
}

pub(super) fn esp_between_adapters(context: &Context) -> Outcome {
    let mut random = fastrand::Rng::with_seed(53);
    for algorithm in offered(context)? {
        let mut secured = Secured::new(context, algorithm)?;
        let max = station::max_frame(&secured.pair.a).min(station::max_frame(&secured.pair.b));
        let longest = max - HEADER - IP - ESP - IV_LENGTH - 2 - ICV - 8 - 3;
        for length in (0..20).chain([100, 511, 512, 1000, longest]) {
            secured.carry(&udp(length, 9)?)?;
        }
        // Cut anywhere, several at once, at DISPATCH_LEVEL.
        let mut packets = Vec::new();
        let mut lists = Vec::new();
        for length in 0..20 {
            let packet = udp(length * 37, 5)?;
            let (frame, header) = secured.framed(&packet)?;
            let list = SendNbl::frames([transport::split(&mut random, frame)]);
            lists.push(list.oob(SLOT_IPSEC, secured.out.handle).oob(SLOT_HEADER, header));
            packets.push(packet);
        }
        secured.pair.send(&lists, SendOptions::dispatch())?;
        let received = station::receive(&secured.pair.b, lists.len(), context.patience)?;
        for (received, packet) in received.iter().zip(&packets) {
            secured.accept(received, packet)?;
        }
        for adapter in [&secured.pair.a, &secured.pair.b] {
            adapter.pause()?;
        }
    }
    Ok(())
}

/// Sends a frame with a handle, which has to fail, and sees to it that nobody hears of it.
pub(super) fn fails_unheard(
    context: &Context,
    adapter: &Adapter,
    monitor: &Adapter,
    list: &SendNbl,
    handle: usize,
    what: &str,
) -> Outcome {
    monitor.take_received();
    let outcome = adapter.send(&[list.clone().oob(SLOT_IPSEC, handle)])?;
    check!(
        outcome[0].status == NDIS_STATUS_FAILURE,
        "a send with {what} ends with {} instead of NDIS_STATUS_FAILURE",
        status_text(outcome[0].status)
    );
    std::thread::sleep(SILENCE);
    let heard = monitor.take_received().len();
    check!(heard == 0, "{heard} frames of a send with {what} are on the wire");
    let _ = context;
    Ok(())
}

pub(super) fn handles_on_sends(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let mut secured = Secured::new(context, algorithm)?;
    let monitor = monitor(context)?;
    secured.carry(&udp(40, 1)?)?;
    let (frame, header) = secured.framed(&udp(40, 1)?)?;
    let list = SendNbl::frame(frame).oob(SLOT_HEADER, header);
    let own = secured.out.handle;
    // Another SA at A, for packets that it receives, and one that is deleted again.
    let other = transport_sa(algorithm, SPI + 1);
    let inbound = add(&secured.pair.a, &other.parameters(Direction::Inbound))?;
    let gone = add(&secured.pair.a, &transport_sa(algorithm, SPI + 2).parameters(Direction::Outbound))?;
    delete(&secured.pair.a, &[gone])?;
    let a = &secured.pair.a;
    for (handle, what) in [
        (inbound, "the handle of an inbound SA"),
        (gone, "the handle of a deleted SA"),
        (usize::MAX, "a made-up handle"),
        (1, "the handle 1"),
        (own ^ 1 << 40, "a handle of another generation"),
    ] {
        if handle != own {
            fails_unheard(context, a, &monitor, &list, handle, what)?;
        }
    }
    // An outbound SA of another adapter with the same driver, if its handle is another number.
    let foreign = add(&secured.pair.b, &transport_sa(algorithm, SPI).parameters(Direction::Outbound))?;
    if foreign != own && foreign != inbound {
        fails_unheard(context, a, &monitor, &list, foreign, "the handle of an SA of another adapter")?;
    }
    delete(&secured.pair.b, &[foreign])?;
    // The slot of the deleted SA is used again; its old handle is none of the new SA.
    let again = add(a, &transport_sa(algorithm, SPI).parameters(Direction::Outbound)).ok();
    fails_unheard(context, a, &monitor, &list, gone, "the handle of an SA whose slot is used again")?;
    if let Some(again) = again {
        delete(a, &[again])?;
    }
    // No handle: no IPsec.
    let received = secured.pair.carry(&[SendNbl::frame(secured.pair.frame(100, 3))], 1)?;
    check!(slot(&received[0], SLOT_IPSEC) == 0, "a frame in clear comes in as if it had been checked");
    secured.carry(&udp(50, 2)?)?;
    delete(&secured.pair.a, &[own])?;
    fails_unheard(context, &secured.pair.a, &monitor, &list, own, "the handle of a deleted SA")?;
    // The adapter comes back: handles of its life before are unknown.
    secured.pair.a.pause()?;
    secured.pair.a.halt(HaltAction::DeviceDisabled)?;
    let reborn = context.running()?;
    fails_unheard(context, &reborn, &monitor, &list, own, "a handle of the adapter's life before")?;
    fails_unheard(context, &reborn, &monitor, &list, inbound, "a handle of the adapter's life before")
}

/// Sets protocol-independent fields of the IPv4 header and its checksum right.
pub(super) fn set_checksum(frame: &mut [u8]) {
    let header = HEADER..HEADER + 4 * usize::from(frame[HEADER] & 0xf);
    frame[HEADER + 10..HEADER + 12].fill(0);
    let mut sum: u32 =
        frame[header].as_chunks().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[HEADER + 10..HEADER + 12].copy_from_slice(&(!u16::try_from(sum).unwrap_or(0)).to_be_bytes());
}

/// Carries a frame that has to come in as it was sent, with these out-of-band words.
pub(super) fn untouched(secured: &Secured<'_>, frame: &[u8], words: &[usize], what: &str) -> Outcome {
    let received = secured.pair.carry(&[SendNbl::frame(frame)], 1)?.remove(0);
    check!(received.frame == station::padded(frame), "{what}: the packet is changed");
    let word = slot(&received, SLOT_IPSEC);
    check!(words.contains(&word), "{what}: out-of-band slot 1 is {word:#x}, expected {words:x?}");
    check!(slot(&received, SLOT_HEADER) == 0, "{what}: slot 12 is {:#x}", slot(&received, SLOT_HEADER));
    Ok(())
}

/// The word that says: checked, with this result.
pub(super) fn failed(status: u32) -> usize {
    CRYPTO_DONE | (status as usize) << 16
}

pub(super) fn esp_received(context: &Context) -> Outcome {
    let mut secured = Secured::new(context, common(context)?)?;
    let packet = udp(64, 4)?;
    // Good ones, as a peer sends them.
    for length in [0, 1, 2, 3, 64, 900] {
        let packet = udp(length, 4)?;
        let frame = secured.sealed(&packet)?;
        let received = secured.pair.carry(&[SendNbl::frame(frame)], 1)?.remove(0);
        secured.accept(&received, &packet)?;
        let header = slot(&received, SLOT_HEADER);
        check!(header & HEADER_INFO_SET != 0 && header & 0xff == 17, "slot 12 is {header:#x}: UDP is 17");
    }
    let syntax = failed(ndis_sys::CRYPTO_INVALID_PACKET_SYNTAX);
    let authentication = failed(ndis_sys::CRYPTO_TRANSPORT_ESP_AUTH_FAILED);
    let good = secured.sealed(&packet)?;
    let end = good.len();
    // SPI and the ICV's both ends, sequence number, IV, payload: anything that is not authentic.
    for at in [HEADER + IP + 4, HEADER + IP + 7, HEADER + IP + ESP, HEADER + IP + 16, end - ICV, end - 1] {
        let mut frame = good.clone();
        frame[at] ^= 0x10;
        untouched(&secured, &frame, &[authentication], &format!("byte {at} is wrong"))?;
    }
    // No SA: another SPI, another destination.
    let mut frame = good.clone();
    frame[HEADER + IP] ^= 0x10;
    untouched(&secured, &frame, &[0], "another SPI")?;
    let mut frame = good.clone();
    frame[HEADER + 19] ^= 1;
    set_checksum(&mut frame);
    untouched(&secured, &frame, &[0], "another destination")?;
    // An SA of the other direction.
    let outbound = transport_sa(secured.sa.algorithm, SPI + 9);
    add(&secured.pair.b, &outbound.parameters(Direction::Outbound))?;
    let mut frame = good.clone();
    frame[HEADER + IP..HEADER + IP + 4].copy_from_slice(&(SPI + 9).to_be_bytes());
    untouched(&secured, &frame, &[0], "the SPI of an outbound SA")?;
    // Fragments are never processed.
    for (at, value) in [(6, 0x20), (7, 0x05)] {
        let mut frame = good.clone();
        frame[HEADER + at] = value;
        set_checksum(&mut frame);
        untouched(&secured, &frame, &[0], "a fragment")?;
    }
    // Shorter and shorter: the IP header says so, and the rest is right.
    for keep in [ESP, ESP + IV_LENGTH, ESP + IV_LENGTH + 1, ESP + IV_LENGTH + ICV - 1, ESP + IV_LENGTH + ICV]
    {
        let mut frame = good[..HEADER + IP + keep].to_vec();
        let total = u16::try_from(IP + keep).unwrap_or(0);
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
        set_checksum(&mut frame);
        // A decoder may find no trailer, or first find that nothing is authentic.
        untouched(&secured, &frame, &[syntax, authentication, 0], &format!("{keep} bytes of ESP"))?;
    }
    let can_options = context.facts()?.hardware().is_some_and(|hardware| hardware.IPsecV2.IPv4Options != 0);
    if !can_options {
        let mut frame = good.clone();
        frame.splice(HEADER + IP..HEADER + IP, [1, 1, 1, 0]);
        frame[HEADER] = 0x46;
        let total = u16::try_from(frame.len() - HEADER).unwrap_or(0);
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
        set_checksum(&mut frame);
        untouched(&secured, &frame, &[0], "IPv4 options, which are not advertised")?;
    }
    // Another protocol that looks the same.
    let mut frame = good.clone();
    frame[HEADER + 9] = 17;
    set_checksum(&mut frame);
    untouched(&secured, &frame, &[0], "UDP")?;
    // Not enabled, and deleted.
    let switch = |family| Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulate(family, NO_CHANGE));
    succeed(&secured.pair.b, switch(OFF), "OID_OFFLOAD_ENCAPSULATION")?;
    untouched(&secured, &good, &[0], "receive offload is off")?;
    succeed(&secured.pair.b, switch(ON), "OID_OFFLOAD_ENCAPSULATION")?;
    secured.carry(&packet)?;
    delete(&secured.pair.b, &[secured.inbound])?;
    untouched(&secured, &good, &[0], "the SA is deleted")?;
    // On by keyword, but not yet by OID_OFFLOAD_ENCAPSULATION.
    let fresh = context.running()?;
    station::set_filter(&fresh, NDIS_PACKET_TYPE_PROMISCUOUS)?;
    add(&fresh, &secured.sa.parameters(Direction::Inbound))?;
    secured.pair.send(&[SendNbl::frame(good.clone())], SendOptions::default())?;
    let received = station::receive(&fresh, 1, context.patience)?.remove(0);
    check!(
        received.frame == good && slot(&received, SLOT_IPSEC) == 0,
        "received packets are processed before OID_OFFLOAD_ENCAPSULATION asks for it"
    );
    Ok(())
}
