//! What must not work: forged and replayed packets, and the use of SAs that are gone.

use std::mem::offset_of;

use ndis_lab::adapter::receive::Received;
use ndis_lab::adapter::send::{SendNbl, SendOptions};
use ndis_lab::transport::{ReceiveFault, ethernet};
use ndis_lab::{LabError, Oid};
use ndis_sys::{
    CRYPTO_TRANSPORT_ESP_AUTH_FAILED, NDIS_STATISTICS_INFO, NDIS_STATUS_FAILURE, OID_GEN_STATISTICS,
};

use super::StepError;
use super::associations::Associations;
use super::plan::{PlannedPacket, Station};
use super::report::{Association, Report};
use super::stations::{SILENCE, Stations};
use super::traffic::{indicated, offloaded};
use super::wire::WireFiles;

/// Compares the adapters' own counters with what was sent and received.
pub(super) fn statistics(stations: &Stations, report: &mut Report) -> Result<(), StepError> {
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for station in Station::BOTH {
        let outcome = stations
            .adapter(station)
            .oid(Oid::query(OID_GEN_STATISTICS, size_of::<NDIS_STATISTICS_INFO>()))?;
        let counter = |at: usize| {
            outcome.answer().get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_le_bytes(*bytes))
        };
        let carried = |of: fn(&Association) -> u8| -> u64 {
            report.associations.iter().filter(|sa| of(sa) == station.number()).map(|sa| sa.packets).sum()
        };
        let pairs = [
            ("sent", offset_of!(NDIS_STATISTICS_INFO, ifHCOutUcastPkts), carried(|sa| sa.sender)),
            ("received", offset_of!(NDIS_STATISTICS_INFO, ifHCInUcastPkts), carried(|sa| sa.receiver)),
        ];
        for (what, at, expected) in pairs {
            let number = station.number();
            let text = match counter(at) {
                Some(count) => format!("adapter {number} {what} {count}"),
                None => format!("adapter {number} does not say what it {what}"),
            };
            if counter(at) != Some(expected) {
                wrong.push(format!("{text}, {expected} expected"));
            }
            seen.push(text);
        }
    }
    report.check(
        "the adapters' statistics count every packet once",
        if wrong.is_empty() { Ok(seen.join(", ")) } else { Err(wrong.join(", ")) },
    );
    Ok(())
}

/// Injects damaged and repeated frames on the wire, where an attacker would.
pub(super) fn forgeries(
    stations: &Stations,
    associations: &mut Associations,
    files: &WireFiles,
    report: &mut Report,
) -> Result<(), StepError> {
    let Some((receiver, genuine)) = files.last() else { return Ok(()) };
    let genuine = genuine.to_vec();
    let mut forged = genuine.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let got = inject(stations, receiver, &forged)?;
    let fault = associations.receivers[receiver.index()].receive(indicated(&got));
    report.check(
        "a frame with one bit of its ICV flipped is indicated as it came, with CryptoStatus 3",
        match fault {
            Err(ReceiveFault::CryptoStatus(CRYPTO_TRANSPORT_ESP_AUTH_FAILED)) if got.frame == forged => {
                Ok("CRYPTO_TRANSPORT_ESP_AUTH_FAILED, ciphertext untouched".into())
            }
            Err(ReceiveFault::CryptoStatus(CRYPTO_TRANSPORT_ESP_AUTH_FAILED)) => {
                Err("the driver changed a frame that is not authentic".into())
            }
            other => Err(format!("{other:?}")),
        },
    );
    let got = inject(stations, receiver, &genuine)?;
    let fault = associations.receivers[receiver.index()].receive(indicated(&got));
    report.check(
        "a genuine frame once more is decrypted, and refused by the transport's replay window",
        match fault {
            Err(ReceiveFault::Replayed(number)) => Ok(format!("sequence number {number} is refused")),
            other => Err(format!("{other:?}")),
        },
    );
    Ok(())
}

/// Uses SAs that were deleted: to send, and to receive.
pub(super) fn after_deletion(
    stations: &Stations,
    associations: &mut Associations,
    files: &WireFiles,
    packets: &[PlannedPacket],
    report: &mut Report,
) -> Result<(), StepError> {
    let mut statuses = Vec::new();
    for station in Station::BOTH {
        let Some(packet) = packets.iter().find(|packet| associations.sas[packet.sa].sender == station) else {
            continue;
        };
        let framed = associations.outbound[packet.sa]
            .frame(&packet.packet)
            .map_err(|error| StepError::Driver(error.to_string()))?;
        let frame = ethernet(Stations::address(station.other()), Stations::address(station), &framed.packet);
        let list = offloaded(&framed, SendNbl::frame(frame));
        let outcomes = stations.send(station, &[list], SendOptions::default())?;
        statuses.extend(outcomes.iter().map(|outcome| outcome.status));
    }
    let wrong = statuses.iter().find(|status| **status != NDIS_STATUS_FAILURE);
    report.check(
        "a send with a stale handle is refused with NDIS_STATUS_FAILURE",
        match wrong {
            None => Ok(format!("{} sends, all refused", statuses.len())),
            Some(status) => Err(format!("a send ended with {:#010x}", status.cast_unsigned())),
        },
    );
    let silence = stations.monitor.wait_received(1, SILENCE);
    report.check(
        "nothing of it reaches the wire",
        match silence {
            Err(LabError::Timeout(_)) => {
                Ok(format!("the monitor saw nothing for {} ms", SILENCE.as_millis()))
            }
            Err(other) => return Err(other.into()),
            Ok(frames) => Err(format!("the monitor saw {} frames", frames.len())),
        },
    );
    let Some((receiver, genuine)) = files.last() else { return Ok(()) };
    let got = inject(stations, receiver, genuine)?;
    let words = indicated(&got);
    report.check(
        "a frame of a deleted SA is indicated as it came, with empty out-of-band data",
        if got.frame != genuine {
            Err("the frame was changed".into())
        } else if (words.ipsec, words.header) != (0, 0) {
            Err(format!("slot 1 {:#x}, slot 12 {:#x}", words.ipsec, words.header))
        } else {
            Ok("ciphertext untouched, CryptoDone clear".into())
        },
    );
    Ok(())
}

/// Puts a frame on the wire as it is, from the monitor, and gives what `receiver` is indicated.
fn inject(stations: &Stations, receiver: Station, frame: &[u8]) -> Result<Received, StepError> {
    let adapter = stations.adapter(receiver);
    let outcomes = stations.monitor.send(&[SendNbl::frame(frame)])?;
    if let Some(outcome) = outcomes.iter().find(|outcome| !outcome.is_success()) {
        let status = outcome.status.cast_unsigned();
        return Err(StepError::Driver(format!("the monitor's send ended with {status:#010x}")));
    }
    let who = format!("adapter {}", receiver.number());
    let mut frames = Stations::receive(adapter, &who, 1)?;
    frames.pop().ok_or_else(|| StepError::Driver(format!("{who} was indicated nothing")))
}
