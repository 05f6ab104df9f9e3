//! Frames, and adapters that share a wire.

use std::time::Duration;

use ndis_sys::{
    NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED, NDIS_PACKET_TYPE_MULTICAST, NDIS_STATUS_SUCCESS,
    OID_GEN_CURRENT_PACKET_FILTER,
};

use super::context::Context;
use super::{Outcome, Stop, check, status_text};
use crate::adapter::Adapter;
use crate::adapter::oid::{Oid, OidOutcome};
use crate::adapter::receive::Received;
use crate::adapter::send::{SendNbl, SendOptions, SendOutcome};

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// To everyone.
pub(super) const BROADCAST: Mac = [0xff; 6];
/// A group.
pub(super) const GROUP: Mac = [0x01, 0, 0x5e, 0, 0, 0x11];
/// Another one.
pub(super) const OTHER_GROUP: Mac = [0x01, 0, 0x5e, 0, 0, 0x12];
/// A station that is not there.
pub(super) const STRANGER: Mac = [0x02, 0xee, 0, 0, 0, 0x77];
/// IEEE 802's local experimental EtherType 1.
pub(super) const EXPERIMENTAL: u16 = 0x88b5;
/// Bytes of a MAC header.
pub(super) const HEADER: usize = 14;
/// The shortest frame, without FCS.
pub(super) const MIN_FRAME: usize = 60;
/// The usual packet filter of a station.
pub(super) const USUAL_FILTER: u32 =
    NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_MULTICAST | NDIS_PACKET_TYPE_BROADCAST;
/// How long silence is listened to.
pub(super) const SILENCE: Duration = Duration::from_millis(15);

/// A frame of `length` bytes in all whose payload depends on `seed`, never zero.
pub(super) fn frame(to: Mac, from: Mac, length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&to);
    bytes.extend_from_slice(&from);
    bytes.extend_from_slice(&EXPERIMENTAL.to_be_bytes());
    let payload = (0_u32..).map(|at| (at.wrapping_mul(31).wrapping_add(u32::from(seed)) % 255) as u8 + 1);
    bytes.extend(payload.take(length.saturating_sub(HEADER)));
    bytes
}

/// A frame as it comes in: padded to Ethernet's minimum.
pub(super) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(MIN_FRAME), 0);
    bytes
}

/// The current address of an adapter.
pub(super) fn address(adapter: &Adapter) -> Mac {
    adapter.attributes().general.current_address().try_into().unwrap_or([0; 6])
}

/// The longest frame of an adapter, without tag.
pub(super) fn max_frame(adapter: &Adapter) -> usize {
    adapter.attributes().general.MtuSize as usize + HEADER
}

/// Sends a request that has to succeed.
pub(super) fn succeed(adapter: &Adapter, request: Oid, name: &str) -> Outcome<OidOutcome> {
    let outcome = adapter.oid(request)?;
    check!(outcome.status == NDIS_STATUS_SUCCESS, "{name} ends with {}", status_text(outcome.status));
    Ok(outcome)
}

/// Sets the packet filter.
pub(super) fn set_filter(adapter: &Adapter, filter: u32) -> Outcome {
    let request = Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, filter);
    succeed(adapter, request, &format!("setting the packet filter to {filter:#x}")).map(drop)
}

/// Whether another adapter with the same keywords hears what this one broadcasts. Both are paused
/// before; the first one is so afterwards.
pub(super) fn share_a_wire(context: &Context, adapter: &Adapter) -> Outcome<bool> {
    let other = context.running()?;
    set_filter(&other, USUAL_FILTER)?;
    adapter.restart()?;
    adapter.send(&[SendNbl::frame(frame(BROADCAST, address(adapter), 100, 1))])?;
    match other.wait_received(1, Duration::from_millis(500)) {
        Ok(_) => Ok(true),
        Err(crate::LabError::Timeout(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Two running adapters on one wire.
pub(super) struct Pair<'c> {
    context: &'c Context,
    /// Sends, mostly.
    pub(super) a: Adapter,
    /// Receives, mostly.
    pub(super) b: Adapter,
}

impl<'c> Pair<'c> {
    /// Starts them with the usual filter.
    pub(super) fn new(context: &'c Context) -> Outcome<Self> {
        let pair = Self { context, a: context.running()?, b: context.running()? };
        set_filter(&pair.a, USUAL_FILTER)?;
        set_filter(&pair.b, USUAL_FILTER)?;
        Ok(pair)
    }

    /// How long a station may take for one thing.
    pub(super) fn patience(&self) -> Duration {
        self.context.patience
    }

    /// A frame from A to B.
    pub(super) fn frame(&self, length: usize, seed: u8) -> Vec<u8> {
        frame(address(&self.b), address(&self.a), length, seed)
    }

    /// Sends lists from A, which have to succeed.
    pub(super) fn send(&self, lists: &[SendNbl], options: SendOptions) -> Outcome<Vec<SendOutcome>> {
        send_all(&self.a, lists, options, self.context.patience)
    }

    /// Sends lists from A and takes what comes in at B: `count` frames and no more.
    pub(super) fn carry(&self, lists: &[SendNbl], count: usize) -> Outcome<Vec<Received>> {
        self.send(lists, SendOptions::default())?;
        receive(&self.b, count, self.context.patience)
    }

    /// Sends one frame and checks that just this one comes in.
    pub(super) fn carry_one(&self, bytes: &[u8]) -> Outcome<Received> {
        let mut received = self.carry(&[SendNbl::frame(bytes)], 1)?;
        let received = received.remove(0);
        check!(
            received.frame == padded(bytes),
            "a frame of {} bytes came in as one of {} bytes, or changed",
            bytes.len(),
            received.frame.len()
        );
        Ok(received)
    }

    /// Checks that frames still come through, and nothing that was sent before.
    pub(super) fn still_works(&self) -> Outcome {
        self.carry_one(&self.frame(77, 0x5a)).map(drop)
    }
}

/// Sends lists, which have to succeed.
pub(super) fn send_all(
    adapter: &Adapter,
    lists: &[SendNbl],
    options: SendOptions,
    patience: Duration,
) -> Outcome<Vec<SendOutcome>> {
    let outcomes = adapter.send_with(lists, options)?.wait(patience)?;
    for (at, outcome) in outcomes.iter().enumerate() {
        check!(
            outcome.is_success(),
            "list {at} of {} ends with {}",
            lists.len(),
            status_text(outcome.status)
        );
    }
    Ok(outcomes)
}

/// Waits for `count` frames; more than that is a failure.
pub(super) fn receive(adapter: &Adapter, count: usize, patience: Duration) -> Outcome<Vec<Received>> {
    match adapter.wait_received(count, patience) {
        Ok(frames) => {
            check!(frames.len() == count, "{} frames came in, {count} were expected", frames.len());
            Ok(frames)
        }
        Err(crate::LabError::Timeout(_)) => {
            let got = adapter.take_received().len();
            Err(Stop::Failed(format!("{got} of {count} frames came in")))
        }
        Err(error) => Err(error.into()),
    }
}
