//! The packets: framed by the transport, sent in chains, looked at on the wire, judged at the other end.

use std::time::{Duration, Instant};

use ndis_lab::adapter::receive::Received;
use ndis_lab::adapter::send::{SendNbl, SendOptions};
use ndis_lab::transport::{
    ETHERNET_HEADER_LENGTH, Framed, ICV_LENGTH, IV_LENGTH, Indicated, ethernet, split,
};
use ndis_sys::{IPsecOffloadV2HeaderNetBufferListInfo, IPsecOffloadV2NetBufferListInfo};

use super::associations::Associations;
use super::plan::{PlannedPacket, Station};
use super::report::Report;
use super::secrecy::Plaintext;
use super::stations::Stations;
use super::wire::WireFiles;
use super::{Observer, StepError, protocol_name};

/// Packets in one call of the send handler.
const CHAIN: usize = 32;
/// What stays in clear at the start of an ESP packet: IP header, SPI, sequence number and IV.
const CLEAR: usize = 20 + 8 + IV_LENGTH;
/// Ciphertext shorter than this may equal the plaintext by chance.
const TELLING: usize = 8;

/// One packet on its way.
struct OnItsWay<'a> {
    planned: &'a PlannedPacket,
    framed: Framed,
    /// The frame that was handed to the driver.
    frame: Vec<u8>,
}

/// Carries all packets in the capture's order.
pub(super) fn carry(
    stations: &Stations,
    associations: &mut Associations,
    packets: &[PlannedPacket],
    files: &mut WireFiles,
    random: &mut fastrand::Rng,
    report: &mut Report,
    observer: &mut dyn Observer,
) -> Result<(), StepError> {
    let mut plaintext = Plaintext::default();
    for packet in packets {
        plaintext.add(&packet.packet[20..]);
    }
    let mut time = Duration::ZERO;
    let mut on_the_wire = Ok(());
    let total = packets.len() as u64;
    for chain in chains(associations, packets) {
        let station = associations.sas[chain[0].sa].sender;
        let result = carry_chain(stations, associations, station, chain, random, report);
        time += result.as_ref().map_or(Duration::ZERO, |carried| carried.time);
        report.traffic.rate(time);
        let Carried { packets, wire, received, .. } = result?;
        for (packet, seen) in packets.iter().zip(&wire) {
            files.frame(station.other(), &seen.frame, &comment(associations, packet))?;
            report.traffic.wire_frames += 1;
            report.traffic.wire_bytes += seen.frame.len() as u64;
            if on_the_wire.is_ok() {
                on_the_wire = inspect(packet, seen, &plaintext);
            }
        }
        for (packet, received) in packets.iter().zip(&received) {
            match judge(associations, station.other(), packet, received) {
                Ok(()) => {
                    report.traffic.delivered += 1;
                    report.traffic.bytes += packet.planned.packet.len() as u64;
                    report.associations[packet.planned.sa].packets += 1;
                }
                Err(what) => {
                    report.traffic.failed += 1;
                    report.fail(what);
                }
            }
        }
        observer.progress(report.traffic.delivered + report.traffic.failed, total);
    }
    report.traffic.rate(time);
    let frames = report.traffic.wire_frames;
    report.check(
        "on the wire: only ESP, with the right SPI, sequence number and IV, and no plaintext",
        on_the_wire.map(|()| format!("{frames} frames, searched at every offset")),
    );
    Ok(())
}

/// Runs of packets of one sender.
fn chains<'a>(associations: &Associations, packets: &'a [PlannedPacket]) -> Vec<&'a [PlannedPacket]> {
    let senders: Vec<Station> = associations.sas.iter().map(|sa| sa.sender).collect();
    packets.chunk_by(|a, b| senders[a.sa] == senders[b.sa]).flat_map(|run| run.chunks(CHAIN)).collect()
}

/// A chain that went through.
struct Carried<'a> {
    packets: Vec<OnItsWay<'a>>,
    wire: Vec<Received>,
    received: Vec<Received>,
    time: Duration,
}

fn carry_chain<'a>(
    stations: &Stations,
    associations: &mut Associations,
    station: Station,
    chain: &'a [PlannedPacket],
    random: &mut fastrand::Rng,
    report: &mut Report,
) -> Result<Carried<'a>, StepError> {
    let mut packets = Vec::with_capacity(chain.len());
    let mut lists: Vec<SendNbl> = Vec::with_capacity(chain.len());
    // The number of each packet's list.
    let mut list_of = Vec::with_capacity(chain.len());
    for planned in chain {
        let framed = associations.outbound[planned.sa].frame(&planned.packet).map_err(|error| {
            StepError::Driver(format!("packet {} of the capture: {error}", planned.number))
        })?;
        let frame = ethernet(Stations::address(station.other()), Stations::address(station), &framed.packet);
        let buffer = split(random, frame.clone());
        // NET_BUFFERs of one list share its out-of-band data, so they are of one SA and padded alike.
        let alike = packets.last().is_some_and(|last: &OnItsWay<'_>| {
            (last.framed.handle, last.framed.header) == (framed.handle, framed.header)
        });
        match lists.last_mut() {
            Some(list) if alike && random.bool() => list.frames.push(buffer),
            _ => lists.push(offloaded(&framed, SendNbl::frames([buffer]))),
        }
        list_of.push(lists.len() - 1);
        packets.push(OnItsWay { planned, framed, frame });
    }
    let options = if random.bool() { SendOptions::dispatch() } else { SendOptions::default() };
    let start = Instant::now();
    let outcomes = stations.send(station, &lists, options)?;
    report.traffic.sent += chain.len() as u64;
    for (packet, list) in packets.iter().zip(list_of) {
        if let Some(outcome) = outcomes.get(list).filter(|outcome| !outcome.is_success()) {
            let status = outcome.status.cast_unsigned();
            return Err(StepError::Driver(format!(
                "packet {} of the capture: the send ended with {status:#010x}",
                packet.planned.number
            )));
        }
    }
    let who = format!("adapter {}", station.other().number());
    let received = Stations::receive(stations.adapter(station.other()), &who, chain.len())?;
    let time = start.elapsed();
    let wire = Stations::receive(&stations.monitor, "the monitor", chain.len())?;
    Ok(Carried { packets, wire, received, time })
}

/// The out-of-band data of an offloaded send.
pub(crate) fn offloaded(framed: &Framed, list: SendNbl) -> SendNbl {
    list.oob(IPsecOffloadV2NetBufferListInfo, framed.handle)
        .oob(IPsecOffloadV2HeaderNetBufferListInfo, framed.header)
}

/// A received frame as the transport judges it.
pub(crate) fn indicated(received: &Received) -> Indicated<'_> {
    let slot =
        |slot: i32| usize::try_from(slot).ok().and_then(|slot| received.oob.get(slot)).copied().unwrap_or(0);
    Indicated {
        frame: &received.frame,
        ipsec: slot(IPsecOffloadV2NetBufferListInfo),
        header: slot(IPsecOffloadV2HeaderNetBufferListInfo),
    }
}

fn comment(associations: &Associations, packet: &OnItsWay<'_>) -> String {
    let sa = &associations.sas[packet.planned.sa].parameters;
    let protocol = protocol_name(packet.planned.packet[9]);
    format!(
        "packet {} of the capture: {protocol} {} to {}; SA {:#010x} {}, sequence number {}",
        packet.planned.number, sa.source, sa.destination, sa.spi, sa.algorithm, packet.framed.sequence
    )
}

/// What the monitor saw of a packet: all that stays in clear is as it was framed, nothing else is.
fn inspect(packet: &OnItsWay<'_>, seen: &Received, plaintext: &Plaintext) -> Result<(), String> {
    let number = packet.planned.number;
    let (sent, seen) = (&packet.frame, &seen.frame);
    let clear = ETHERNET_HEADER_LENGTH + CLEAR;
    if seen.len() != sent.len() {
        return Err(format!("packet {number}: {} bytes on the wire, {} were framed", seen.len(), sent.len()));
    }
    if seen[..clear] != sent[..clear] {
        return Err(format!("packet {number}: MAC, IP or ESP header, or IV, changed on the wire"));
    }
    let (secret, icv) = sent[clear..].split_at(sent.len() - clear - ICV_LENGTH);
    let cipher = &seen[clear..clear + secret.len()];
    if secret.len() >= TELLING && secret == cipher {
        return Err(format!("packet {number} is on the wire in clear"));
    }
    if let Some(at) = plaintext.find_in(&seen[clear..]) {
        return Err(format!("packet {number}: plaintext on the wire at byte {}", clear + at));
    }
    if seen[clear + secret.len()..] == *icv {
        return Err(format!("packet {number} has no ICV on the wire"));
    }
    Ok(())
}

/// What the other end got for a packet.
fn judge(
    associations: &mut Associations,
    receiver: Station,
    packet: &OnItsWay<'_>,
    received: &Received,
) -> Result<(), String> {
    let number = packet.planned.number;
    let sa = &associations.sas[packet.planned.sa].parameters;
    let got = associations.receivers[receiver.index()]
        .receive(indicated(received))
        .map_err(|fault| format!("packet {number}: {fault}"))?;
    if (got.spi, got.sequence) != (sa.spi, packet.framed.sequence) {
        return Err(format!(
            "packet {number}: SPI {:#010x} sequence {} came in its place",
            got.spi, got.sequence
        ));
    }
    if received.frame[..ETHERNET_HEADER_LENGTH] != packet.frame[..ETHERNET_HEADER_LENGTH] {
        return Err(format!("packet {number}: the MAC header changed"));
    }
    if got.packet != packet.planned.packet {
        return Err(format!("packet {number}: what arrived differs from what was sent"));
    }
    Ok(())
}
