//! Sends: layouts of frames, lengths, chains, cancellation, tags.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_RESOURCES, NDIS_STATUS_SEND_ABORTED,
    NDIS_STATUS_SUCCESS,
};

use crate::adapter::Adapter;
use crate::adapter::receive::Received;
use crate::adapter::send::{SendFrame, SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::station::{self, HEADER, MIN_FRAME, Pair, STRANGER};
use crate::conformance::{Case, Need, Outcome, Stop, check, status_text};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 31,
        id: "any-boundary",
        area: "AnyBoundary",
        title: "A frame may be cut into MDLs anywhere, empty ones too, and lie anywhere in them.",
        page: "net-buffer-structure",
        needs: &[Need::Wire],
        run: any_boundary,
    },
    Case {
        number: 32,
        id: "chains",
        area: "1c_Mini6Send",
        title: "Chains of lists with several buffers are sent in order, and each list comes back once, as it was.",
        page: "nc-ndis-miniport_send_net_buffer_lists",
        needs: &[Need::Wire],
        run: chains,
    },
    Case {
        number: 32,
        id: "sends-complete",
        area: "1c_Mini6Send",
        title: "Every list is completed once with a status of its page, at any IRQL, and comes back as it was given.",
        page: "nf-ndis-ndismsendnetbufferlistscomplete",
        needs: &[Need::Ethernet],
        run: sends_complete,
    },
    Case {
        number: 33,
        id: "short-packets",
        area: "ShortPackets",
        title: "Short frames are padded to 60 bytes with zeros, never with what was in memory.",
        page: "sending-ethernet-frames",
        needs: &[Need::Wire],
        run: short_packets,
    },
    Case {
        number: 33,
        id: "lengths",
        area: "InvalidPackets",
        title: "The longest frame is sent; longer and empty ones end with NDIS_STATUS_INVALID_LENGTH.",
        page: "nf-ndis-ndismsendnetbufferlistscomplete",
        needs: &[Need::Ethernet],
        run: lengths,
    },
    Case {
        number: 34,
        id: "sends-without-memory",
        area: "1c_FaultHandling",
        title: "Sends whose mapping or allocation fails end with NDIS_STATUS_RESOURCES, and later ones succeed.",
        page: "nf-ndis-ndismsendnetbufferlistscomplete",
        needs: &[Need::Ethernet],
        run: without_memory,
    },
    Case {
        number: 35,
        id: "cancel-sends",
        area: "1c_Mini6Send",
        title: "Cancelling ends only queued sends with that identifier, with NDIS_STATUS_SEND_ABORTED.",
        page: "nc-ndis-miniport_cancel_send",
        needs: &[Need::Ethernet],
        run: cancel_sends,
    },
    Case {
        number: 39,
        id: "priority-tags",
        area: "2c_Priority",
        title: "802.1Q data go out of band at both ends and in a tag in between.",
        page: "ns-nbl8021q-ndis_net_buffer_list_8021q_info",
        needs: &[Need::Wire],
        run: priority_tags,
    },
    Case {
        number: 40,
        id: "reentrant-sends",
        area: "2c_Mini6SendRecvReply",
        title: "A receive is answered from within its indication: no lock is held while NDIS is called.",
        page: "nf-ndis-ndismindicatereceivenetbufferlists",
        needs: &[Need::Wire],
        run: reentrant_sends,
    },
];

fn any_boundary(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let bytes = pair.frame(90, 7);
    let mut lists = Vec::new();
    // The MAC header is in one MDL; NDIS promises that.
    for cut in HEADER..=90 {
        for (offset, tail, misalign, unmapped) in
            [(0, 0, 0, false), (7, 0, 3, false), (20, 13, 9, true), (1, 1, 15, false)]
        {
            let frame = SendFrame {
                bytes: bytes.clone(),
                split: vec![offset + cut, 0, 5],
                data_offset: offset,
                tail,
                misalign,
                unmapped,
            };
            lists.push(SendNbl::frames([frame]));
        }
    }
    // Every byte behind the header in an MDL of its own, and MDLs before the frame.
    let mut split = vec![3, 0, 4, HEADER];
    split.extend(std::iter::repeat_n(1, 76));
    lists.push(SendNbl::frames([SendFrame {
        bytes: bytes.clone(),
        split,
        data_offset: 7,
        tail: 5,
        ..SendFrame::default()
    }]));
    for chunk in lists.chunks(16) {
        for received in pair.carry(chunk, chunk.len())? {
            let at = (0..bytes.len().max(received.frame.len()))
                .find(|at| received.frame.get(*at) != bytes.get(*at));
            check!(
                at.is_none(),
                "a frame in pieces came in different from byte {at:?} on ({} bytes)",
                received.frame.len()
            );
        }
    }
    Ok(())
}

fn chains(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let mut number = 0_u8;
    let mut expect = Vec::new();
    let lists: Vec<SendNbl> = [1, 3, 2, 7, 1, 4]
        .map(|count| {
            let frames = (0..count).map(|_| {
                number += 1;
                let bytes = pair.frame(60 + 70 * usize::from(number), number);
                expect.push(bytes.clone());
                SendFrame { bytes, split: vec![20, 30], ..SendFrame::default() }
            });
            SendNbl::frames(frames.collect::<Vec<_>>())
        })
        .to_vec();
    for options in [SendOptions::default(), SendOptions::dispatch()] {
        pair.send(&lists, options)?;
        let received = station::receive(&pair.b, expect.len(), context.patience)?;
        let order: Vec<_> =
            received.iter().map(|r| expect.iter().position(|bytes| *bytes == r.frame)).collect();
        let right: Vec<_> = (0..expect.len()).map(Some).collect();
        check!(order == right, "frames of a chain came in as {order:?}");
    }
    Ok(())
}

fn sends_complete(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let own = station::address(&adapter);
    for round in 0..20_u8 {
        let lists: Vec<SendNbl> = (1..=8_u8)
            .map(|count| {
                let frames = (0..=count % 3).map(|at| SendFrame {
                    bytes: station::frame(STRANGER, own, 60 + 150 * usize::from(count), at),
                    split: vec![14, 10 + usize::from(round)],
                    data_offset: usize::from(round),
                    tail: usize::from(count),
                    ..SendFrame::default()
                });
                // Identifiers and classification that mean nothing to the miniport.
                SendNbl::frames(frames.collect::<Vec<_>>()).cancel_id(usize::from(round) + 1).oob(3, 0x1230)
            })
            .collect();
        let options = if round % 2 == 0 { SendOptions::default() } else { SendOptions::dispatch() };
        station::send_all(&adapter, &lists, options, context.patience)?;
        check!(adapter.outstanding_sends() == 0, "{} sends are outstanding", adapter.outstanding_sends());
    }
    Ok(())
}

fn short_packets(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    for length in HEADER..=MIN_FRAME + 2 {
        // What lies in buffers that are used again must not come out.
        for seed in 1..3 {
            pair.carry_one(&pair.frame(600, 0x80 | seed))?;
        }
        let bytes = pair.frame(length, 9);
        let received: Received = pair.carry(&[SendNbl::frame(bytes.clone()).within(9, 40)], 1)?.remove(0);
        check!(
            received.frame == station::padded(&bytes),
            "a frame of {length} bytes came in as {} bytes, padded with {:02x?}",
            received.frame.len(),
            received.frame.get(length..).unwrap_or_default()
        );
    }
    Ok(())
}

fn lengths(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let (own, max) = (station::address(&adapter), station::max_frame(&adapter));
    let status = |length: usize| -> Outcome<i32> {
        let bytes = station::frame(STRANGER, own, length.max(HEADER), 3)[..length].to_vec();
        Ok(adapter.send(&[SendNbl::frame(bytes)])?[0].status)
    };
    for length in [HEADER, MIN_FRAME, 61, max - 1, max] {
        let status = status(length)?;
        check!(status == NDIS_STATUS_SUCCESS, "a frame of {length} bytes ends with {}", status_text(status));
    }
    for length in [0, 1, HEADER - 1, max + 1, max + 4, max + 5, max + 1000, 100_000] {
        let status = status(length)?;
        check!(
            status == NDIS_STATUS_INVALID_LENGTH,
            "a frame of {length} bytes (MtuSize {}) ends with {}",
            max - HEADER,
            status_text(status)
        );
    }
    // One bad frame fails its list; the next list is sent.
    let good = station::frame(STRANGER, own, 100, 3);
    let bad = SendNbl::frames(
        [good.clone(), vec![0; max + 1000], good.clone()]
            .map(|bytes| SendFrame { bytes, ..SendFrame::default() }),
    );
    let outcomes = adapter.send(&[bad, SendNbl::frame(good)])?;
    let statuses = [outcomes[0].status, outcomes[1].status];
    check!(
        [NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_FAILURE].contains(&statuses[0])
            && statuses[1] == NDIS_STATUS_SUCCESS,
        "a list with a frame that is too long ends with {}, a good one behind it with {}",
        status_text(statuses[0]),
        status_text(statuses[1])
    );
    Ok(())
}

fn without_memory(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let own = station::address(&adapter);
    let list = || {
        let frame = SendFrame {
            bytes: station::frame(STRANGER, own, 300, 5),
            split: vec![100, 100],
            unmapped: true,
            ..SendFrame::default()
        };
        SendNbl::frames([frame])
    };
    let run = |adapter: &Adapter| -> Outcome {
        for outcome in adapter.send(&[list(), list()])? {
            check!(
                [NDIS_STATUS_SUCCESS, NDIS_STATUS_RESOURCES].contains(&outcome.status),
                "a send whose memory fails ends with {}",
                status_text(outcome.status)
            );
        }
        Ok(())
    };
    let before = context.lab.fault_points();
    run(&adapter)?;
    let calls = context.lab.fault_points() - before;
    for skip in 0..calls.min(64) {
        context.lab.fail_after(skip);
        run(&adapter)?;
    }
    context.lab.set_faults(|point| point.handler == "MiniportSendNetBufferLists");
    run(&adapter)?;
    context.lab.clear_faults();
    station::send_all(&adapter, &[list(), list()], SendOptions::default(), context.patience)?;
    Ok(())
}

fn cancel_sends(context: &Context) -> Outcome {
    let adapter = context.running()?;
    let own = station::address(&adapter);
    for id in [0, 1, usize::MAX] {
        adapter.cancel_send(id)?;
    }
    for round in 0..20 {
        let lists: Vec<_> = (0..4)
            .map(|at| {
                SendNbl::frame(station::frame(STRANGER, own, 100, at)).cancel_id(0x700 + usize::from(at % 2))
            })
            .collect();
        let sent = adapter.send_with(&lists, SendOptions::default())?;
        adapter.cancel_send(0x701)?;
        for (at, outcome) in sent.wait(context.patience)?.iter().enumerate() {
            let cancelled = at % 2 == 1 && outcome.status == NDIS_STATUS_SEND_ABORTED;
            check!(
                cancelled || outcome.is_success(),
                "round {round}: list {at}, identifier {:#x}, ends with {} when 0x701 is cancelled",
                0x700 + at % 2,
                status_text(outcome.status)
            );
        }
        adapter.cancel_send(0x700)?;
    }
    Ok(())
}

/// `NDIS_NET_BUFFER_LIST_8021Q_INFO`: priority in bits 0 to 2, VLAN identifier in bits 4 to 15.
fn tag(priority: usize, vlan: usize) -> usize {
    priority | vlan << 4
}

fn priority_tags(context: &Context) -> Outcome {
    let options = context.facts()?.attributes.general.MacOptions;
    if options & ndis_sys::NDIS_MAC_OPTION_8021P_PRIORITY == 0 {
        return Err(Stop::NotApplicable("its MacOptions lack NDIS_MAC_OPTION_8021P_PRIORITY".into()));
    }
    let vlans = options & ndis_sys::NDIS_MAC_OPTION_8021Q_VLAN != 0;
    let pair = Pair::new(context)?;
    let slot = ndis_sys::Ieee8021QNetBufferListInfo;
    let received_slot = usize::try_from(slot).unwrap_or_default();
    let mut tags = vec![0, tag(1, 0), tag(7, 0)];
    if vlans {
        tags.extend([tag(0, 5), tag(5, 0xabc), tag(7, 4095)]);
    }
    // Nothing of the frame before.
    tags.push(0);
    for value in tags {
        for length in [60, 61, 400, station::max_frame(&pair.a)] {
            let bytes = pair.frame(length, 3);
            let received = pair.carry(&[SendNbl::frame(bytes.clone()).oob(slot, value)], 1)?.remove(0);
            check!(
                received.frame == bytes,
                "a frame of {length} bytes with 802.1Q data {value:#x} came in with {} bytes, or changed",
                received.frame.len()
            );
            let came = received.oob[received_slot];
            check!(came == value, "802.1Q data {value:#x} came in as {came:#x}");
        }
    }
    Ok(())
}

fn reentrant_sends(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    let count = Arc::new(AtomicU32::new(0));
    let (a, b) = (station::address(&pair.a), station::address(&pair.b));
    let failed = Arc::new(AtomicU32::new(0));
    let (bounces, errors) = (count.clone(), failed.clone());
    let sink = move |adapter: &Adapter, frames: Vec<Received>| {
        for received in frames {
            // Relaxed: counters that are read after all is quiet.
            if bounces.fetch_add(1, Ordering::Relaxed) >= 20 {
                return;
            }
            let (to, from) = if received.frame[..6] == b { (a, b) } else { (b, a) };
            let mut bytes = received.frame.clone();
            bytes[..6].copy_from_slice(&to);
            bytes[6..12].copy_from_slice(&from);
            let list = SendNbl::frame(bytes);
            if adapter.send_with(&[list.clone(), list], SendOptions::default()).is_err() {
                errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    pair.b.set_receive_sink(Some(Arc::new(sink)));
    let result = pair.send(&[SendNbl::frame(pair.frame(120, 1))], SendOptions::default());
    let got = station::receive(&pair.a, 2, context.patience);
    pair.b.set_receive_sink(None);
    result?;
    got?;
    check!(failed.load(Ordering::Relaxed) == 0, "a send from within an indication was not possible");
    pair.still_works()
}
