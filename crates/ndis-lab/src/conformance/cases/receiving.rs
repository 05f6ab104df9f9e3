//! Receives: what is indicated, what comes back, and what happens when nothing does.

use std::time::Duration;

use ndis_sys::{
    NDIS_RECEIVE_FLAGS_PERFECT_FILTERED, NDIS_RECEIVE_FLAGS_RESOURCES, NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE,
};

use super::statistics::Statistics;
use crate::adapter::receive::ReturnPolicy;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::station::{self, BROADCAST, Pair};
use crate::conformance::{Case, Need, Outcome, Stop, check};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 41,
        id: "indications",
        area: "2c_ReceivePackets",
        title: "A frame comes in whole, without FCS, in one list of one buffer with clean out-of-band data.",
        page: "indicating-received-ethernet-frames",
        needs: &[Need::Wire],
        run: indications,
    },
    Case {
        number: 42,
        id: "low-resources",
        area: "2c_ReceivePackets",
        title: "What is indicated with NDIS_RECEIVE_FLAGS_RESOURCES is the miniport's again when the call returns.",
        page: "nf-ndis-ndismindicatereceivenetbufferlists",
        needs: &[Need::Wire],
        run: low_resources,
    },
    Case {
        number: 43,
        id: "return-orders",
        area: "2c_ReceivePackets",
        title: "Receives come back in any order, in any chains, at any time, and no buffer is used twice.",
        page: "nc-ndis-miniport_return_net_buffer_lists",
        needs: &[Need::Wire],
        run: return_orders,
    },
    Case {
        number: 44,
        id: "no-receive-buffers",
        area: "2c_ReceivePackets",
        title: "When all receive buffers are out, frames are counted as discards; when they are back, frames flow.",
        page: "oid-gen-statistics",
        needs: &[Need::Wire],
        run: no_receive_buffers,
    },
    Case {
        number: 46,
        id: "single-ether-type",
        area: "SingleEtherType",
        title: "NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE and PERFECT_FILTERED are set only when they are true.",
        page: "nf-ndis-ndismindicatereceivenetbufferlists",
        needs: &[Need::Wire],
        run: single_ether_type,
    },
];

/// Slots that a driver without offloads may set: frame type, and hash value and information of RSS.
const FREE_SLOTS: [i32; 3] =
    [ndis_sys::NetBufferListFrameType, ndis_sys::NetBufferListHashValue, ndis_sys::NetBufferListHashInfo];

fn indications(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let max = station::max_frame(&pair.a).min(station::max_frame(&pair.b));
    for length in [60, 61, 64, 100, 1000, 1499, max - 1, max] {
        for seed in 1..4 {
            let received = pair.carry_one(&pair.frame(length, seed))?;
            for (slot, value) in received.oob.iter().enumerate() {
                let free = FREE_SLOTS.iter().any(|free| usize::try_from(*free) == Ok(slot));
                check!(free || *value == 0, "out-of-band slot {slot} of a plain frame is {value:#x}");
            }
            // If it is there it is the frame's type, in network byte order.
            let kind = received.oob[usize::try_from(ndis_sys::NetBufferListFrameType).unwrap_or_default()];
            let expect = usize::from(station::EXPERIMENTAL.to_be());
            check!(kind == 0 || kind == expect, "NetBufferListFrameType is {kind:#x}, not {expect:#x}");
        }
    }
    // Many at once keep their order.
    let lists: Vec<_> = (1..=40).map(|seed| SendNbl::frame(pair.frame(80, seed))).collect();
    let received = pair.carry(&lists, 40)?;
    for (seed, received) in (1..).zip(&received) {
        check!(received.frame == pair.frame(80, seed), "frame {seed} of 40 came in out of order, or changed");
    }
    Ok(())
}

fn low_resources(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    pair.b.set_return_policy(ReturnPolicy::Hold);
    let (mut low, mut silent) = (0, 0);
    // Until it has nothing left to indicate with, or was seen to be short of buffers.
    for _ in 0..400 {
        let lists: Vec<_> = (1..=16).map(|seed| SendNbl::frame(pair.frame(90, seed))).collect();
        pair.send(&lists, SendOptions::default())?;
        let frames = pair.b.wait_received(1, Duration::from_millis(3)).unwrap_or_default();
        low += frames.iter().filter(|frame| frame.flags & NDIS_RECEIVE_FLAGS_RESOURCES != 0).count();
        silent = if frames.is_empty() { silent + 1 } else { 0 };
        if silent > 4 || low > 100 {
            break;
        }
    }
    pair.b.return_held()?;
    pair.b.set_return_policy(ReturnPolicy::Inside);
    std::thread::sleep(station::SILENCE);
    pair.b.take_received();
    pair.still_works()?;
    if low == 0 {
        return Err(Stop::NotApplicable("it never sets NDIS_RECEIVE_FLAGS_RESOURCES".into()));
    }
    Ok(())
}

fn return_orders(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    pair.b.set_return_policy(ReturnPolicy::Hold);
    let mut random = fastrand::Rng::with_seed(43);
    let mut seed = 0_u8;
    for round in 0..40 {
        let count = random.usize(1..=12);
        let first = seed;
        let lists: Vec<_> = (0..count)
            .map(|_| {
                seed = seed.wrapping_add(1);
                SendNbl::frame(pair.frame(100 + usize::from(seed), seed))
            })
            .collect();
        let received = pair.carry(&lists, count)?;
        let mut expect = first;
        for received in &received {
            expect = expect.wrapping_add(1);
            check!(
                received.frame == pair.frame(100 + usize::from(expect), expect),
                "round {round}: a frame came in changed: its buffer is in use twice"
            );
        }
        // Some go back, of this round and of earlier ones, in chains that mix them.
        let held = pair.b.held_receives();
        let back = if held > 20 { held } else { random.usize(..=held) };
        pair.b.return_held_with(back, random.bool(), |lists| match round % 3 {
            0 => lists.reverse(),
            1 => random.shuffle(lists),
            _ => {}
        })?;
    }
    for policy in [ReturnPolicy::Inside, ReturnPolicy::After] {
        pair.b.set_return_policy(policy);
        pair.b.return_held()?;
        for seed in 1..30 {
            pair.carry_one(&pair.frame(200, seed))?;
        }
    }
    Ok(())
}

fn no_receive_buffers(context: &Context) -> Outcome {
    const MOST: u64 = 20_000;
    const BURST: u64 = 64;
    let pair = Pair::new(context)?;
    let discards = || Statistics::of(&pair.b).map(|statistics| statistics.get("ifInDiscards"));
    let lists: Vec<_> = (1..=64).map(|seed| SendNbl::frame(pair.frame(70, seed))).collect();
    for _ in 0..2 {
        pair.b.set_return_policy(ReturnPolicy::Hold);
        let (before, first) = (discards()?, pair.b.frames_received());
        let mut sent = 0;
        let lost = loop {
            pair.send(&lists, SendOptions::default())?;
            sent += BURST;
            let came = || pair.b.frames_received() - first;
            let all = (0..100).any(|_| {
                came() == sent || {
                    std::thread::sleep(Duration::from_micros(300));
                    false
                }
            });
            if !all {
                break sent - came();
            }
            if sent >= MOST {
                return Err(Stop::NotApplicable(format!("it took {MOST} frames without a buffer back")));
            }
        };
        let counted = discards()? - before;
        check!(counted >= lost, "{lost} frames found no receive buffer, and ifInDiscards grew by {counted}");
        pair.b.set_return_policy(ReturnPolicy::Inside);
        pair.b.return_held()?;
        std::thread::sleep(station::SILENCE);
        pair.b.take_received();
        pair.still_works()?;
        let after = discards()?;
        pair.still_works()?;
        check!(discards()? == after, "frames are discarded though all receive buffers are back");
    }
    Ok(())
}

fn single_ether_type(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let group = pair.frame(100, 1);
    let lists: Vec<_> = (0..60_u8)
        .map(|at| {
            let mut bytes = group.clone();
            // Two types in turn, and now and then another destination.
            bytes[12..14].copy_from_slice(&[0x88, 0xb5 + at % 2]);
            if at % 3 == 0 {
                bytes[..6].copy_from_slice(&BROADCAST);
            }
            SendNbl::frame(bytes)
        })
        .collect();
    pair.b.set_return_policy(ReturnPolicy::After);
    let received = pair.carry(&lists, lists.len())?;
    let single = received.iter().filter(|r| r.flags & NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE != 0);
    let mut types: Vec<_> = single.map(|r| (r.indication, r.frame[13])).collect();
    types.dedup();
    check!(
        types.windows(2).all(|pair| pair[0].0 != pair[1].0),
        "NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE is set on an indication of two types"
    );
    let own = station::address(&pair.b);
    let wrong = received.iter().find(|r| {
        r.flags & NDIS_RECEIVE_FLAGS_PERFECT_FILTERED != 0 && r.frame[..6] != own && r.frame[..6] != BROADCAST
    });
    check!(
        wrong.is_none(),
        "NDIS_RECEIVE_FLAGS_PERFECT_FILTERED is set on a frame that the filter does not cover"
    );
    Ok(())
}
