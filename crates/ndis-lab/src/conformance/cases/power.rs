//! Power states, and reset.

use std::mem::offset_of;

use ndis_sys::{
    MediaConnectStateConnected, MediaConnectStateUnknown, NDIS_LINK_STATE, NDIS_STATUS_INVALID_DATA,
    NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_LINK_STATE, NDIS_STATUS_LOW_POWER_STATE, NDIS_STATUS_PENDING,
    NDIS_STATUS_SUCCESS, OID_PNP_QUERY_POWER, OID_PNP_SET_POWER,
};

use crate::adapter::Adapter;
use crate::adapter::oid::Oid;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::station::{self, Pair, SILENCE, STRANGER, succeed};
use crate::conformance::{Case, Need, Outcome, check, status_text};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 17,
        id: "sleep-and-wake",
        area: "PM_PowerStateTransition",
        title: "In D3 sends end with NDIS_STATUS_LOW_POWER_STATE and the link state is unknown; D0 brings both back.",
        page: "oid-pnp-set-power",
        needs: &[Need::Ethernet, Need::NoPauseOnSuspend],
        run: sleep_and_wake,
    },
    Case {
        number: 17,
        id: "sleep-on-the-wire",
        area: "PM_PowerStateTransition",
        title: "In D3 nothing is indicated; after it the filters of before are in force.",
        page: "oid-pnp-set-power",
        needs: &[Need::Wire, Need::NoPauseOnSuspend],
        run: sleep_on_the_wire,
    },
    Case {
        number: 28,
        id: "set-power",
        area: "PM_Requirements",
        title: "OID_PNP_SET_POWER takes D0 to D3 in four bytes and nothing else; OID_PNP_QUERY_POWER always succeeds.",
        page: "oid-pnp-set-power",
        needs: &[],
        run: set_power,
    },
    Case {
        number: 60,
        id: "reset",
        area: "Reset",
        title: "A reset ends, at PASSIVE_LEVEL and DISPATCH_LEVEL, running and paused, and packets flow after it.",
        page: "nc-ndis-miniport_reset",
        needs: &[Need::Ethernet, Need::Reset],
        run: reset,
    },
];

fn power(adapter: &Adapter, state: i32) -> Outcome {
    succeed(
        adapter,
        Oid::set_u32(OID_PNP_SET_POWER, state.cast_unsigned()),
        &format!("setting power state {state}"),
    )
    .map(drop)
}

const D0: i32 = ndis_sys::NdisDeviceStateD0;
const D1: i32 = ndis_sys::NdisDeviceStateD1;
const D2: i32 = ndis_sys::NdisDeviceStateD2;
const D3: i32 = ndis_sys::NdisDeviceStateD3;

/// A link state that was indicated: MediaConnectState, XmitLinkSpeed and RcvLinkSpeed.
#[derive(Debug, Clone, Copy)]
struct Link {
    connect: i32,
    speeds: [u64; 2],
}

/// The link states that were indicated since the last look.
fn links(adapter: &Adapter) -> Vec<Link> {
    let statuses = adapter.take_statuses();
    let links = statuses.iter().filter(|status| status.code == NDIS_STATUS_LINK_STATE);
    let read = |buffer: &[u8]| {
        let speed = |at: usize| Some(u64::from_le_bytes(*buffer.get(at..at + 8)?.first_chunk()?));
        Some(Link {
            connect: i32::from_le_bytes(
                *buffer.get(offset_of!(NDIS_LINK_STATE, MediaConnectState)..)?.first_chunk()?,
            ),
            speeds: [
                speed(offset_of!(NDIS_LINK_STATE, XmitLinkSpeed))?,
                speed(offset_of!(NDIS_LINK_STATE, RcvLinkSpeed))?,
            ],
        })
    };
    links.filter_map(|status| read(&status.buffer)).collect()
}

fn sleep_and_wake(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let list = SendNbl::frame(station::frame(STRANGER, station::address(&adapter), 100, 4));
    for state in [D3, D1, D2, D3] {
        links(&adapter);
        power(&adapter, state)?;
        let told = links(&adapter);
        check!(
            told.last().is_some_and(|link| link.connect == MediaConnectStateUnknown),
            "power state {state} is entered without a link state indication of MediaConnectStateUnknown: {told:?}"
        );
        for options in [SendOptions::default(), SendOptions::dispatch()] {
            for outcome in
                adapter.send_with(&[list.clone(), list.clone()], options)?.wait(context.patience)?
            {
                check!(
                    outcome.status == NDIS_STATUS_LOW_POWER_STATE,
                    "in power state {state} a send ends with {}",
                    status_text(outcome.status)
                );
            }
        }
        power(&adapter, D0)?;
        let told = links(&adapter);
        let link = told.last().filter(|link| link.connect == MediaConnectStateConnected);
        check!(
            link.is_some(),
            "D0 is entered without a link state indication of MediaConnectStateConnected: {told:?}"
        );
        check!(
            link.is_some_and(|link| !link.speeds.contains(&0)),
            "the link is connected at 0 bits a second (NDIS_LINK_SPEED_UNKNOWN says that a speed is not known): {link:?}"
        );
        station::send_all(&adapter, std::slice::from_ref(&list), SendOptions::default(), context.patience)?;
    }
    // Paused while asleep, and the other way round.
    power(&adapter, D3)?;
    adapter.pause()?;
    power(&adapter, D0)?;
    adapter.restart()?;
    station::send_all(&adapter, &[list], SendOptions::default(), context.patience)?;
    Ok(())
}

fn sleep_on_the_wire(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    for _ in 0..3 {
        pair.still_works()?;
        power(&pair.b, D3)?;
        let before = pair.b.frames_received();
        pair.send(&[SendNbl::frame(pair.frame(200, 3))], SendOptions::default())?;
        std::thread::sleep(SILENCE);
        check!(pair.b.frames_received() == before, "a receive is indicated in D3");
        power(&pair.b, D0)?;
        // What came in D3 is lost.
        std::thread::sleep(SILENCE);
        pair.b.take_received();
    }
    pair.still_works()
}

fn set_power(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    for length in 0..4 {
        let outcome = adapter.oid(Oid::set(OID_PNP_SET_POWER, vec![0; length]))?;
        let refused =
            [NDIS_STATUS_INVALID_LENGTH, ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT].contains(&outcome.status);
        check!(refused, "OID_PNP_SET_POWER of {length} bytes ends with {}", status_text(outcome.status));
        check!(
            outcome.bytes_needed == 4,
            "OID_PNP_SET_POWER of {length} bytes: BytesNeeded {}",
            outcome.bytes_needed
        );
    }
    for state in [0_u32, 5, 0x8000_0000, u32::MAX] {
        let outcome = adapter.oid(Oid::set_u32(OID_PNP_SET_POWER, state))?;
        check!(
            outcome.status == NDIS_STATUS_INVALID_DATA,
            "power state {state}, which does not exist, ends with {}",
            status_text(outcome.status)
        );
    }
    for state in [D1, D0, D2, D0, D3, D0] {
        let outcome = adapter.oid(Oid::set_u32(OID_PNP_SET_POWER, state.cast_unsigned()))?;
        check!(
            outcome.status == NDIS_STATUS_SUCCESS,
            "state {state} ends with {}",
            status_text(outcome.status)
        );
        check!(outcome.bytes_read == 4, "state {state}: BytesRead {}", outcome.bytes_read);
        let query = adapter.oid(Oid::set_u32(OID_PNP_QUERY_POWER, state.cast_unsigned()))?;
        check!(query.is_success(), "OID_PNP_QUERY_POWER ends with {}", status_text(query.status));
    }
    Ok(())
}

fn reset(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let list = SendNbl::frame(station::frame(STRANGER, station::address(&adapter), 100, 4));
    for irql in [ndis_sys::PASSIVE_LEVEL, ndis_sys::DISPATCH_LEVEL] {
        let outcome = adapter.reset(irql)?;
        check!(
            outcome.status == NDIS_STATUS_SUCCESS || outcome.status == NDIS_STATUS_PENDING,
            "the reset ends with {}",
            status_text(outcome.status)
        );
        station::send_all(&adapter, std::slice::from_ref(&list), SendOptions::default(), context.patience)?;
        adapter.pause()?;
        adapter.reset(irql)?;
        let outcomes = adapter.send(std::slice::from_ref(&list))?;
        check!(!outcomes[0].is_success(), "a reset ends a pause");
        adapter.restart()?;
    }
    requests_end(context, &adapter)?;
    if context.facts()?.registered.characteristics.CheckForHangHandlerEx.is_some() {
        check!(!adapter.check_for_hang()?, "an adapter that works asks to be reset");
    }
    if context.facts()?.shares_wire {
        let pair = Pair::new(context)?;
        pair.b.reset(ndis_sys::PASSIVE_LEVEL)?;
        pair.still_works()?;
    }
    Ok(())
}

/// Whatever request is pending when a reset comes has ended when the reset has.
fn requests_end(context: &Context, adapter: &Adapter) -> Outcome {
    let oids = adapter.attributes().general.supported_oids.clone();
    for oid in oids.into_iter().filter(|oid| *oid != OID_PNP_SET_POWER) {
        let pending = adapter.oid_begin(Oid::set(oid, [0; 4]))?;
        if pending.pended() && !pending.is_done() {
            adapter.reset(ndis_sys::PASSIVE_LEVEL)?;
            check!(
                pending.wait(context.patience)?,
                "OID {oid:#010x} is pending, and a reset does not end it"
            );
        }
        let status = pending.finish()?.status;
        check!(status != NDIS_STATUS_PENDING, "OID {oid:#010x} ends with {}", status_text(status));
    }
    Ok(())
}
