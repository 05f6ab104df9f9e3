//! What comes in for an SA while IPsec is switched off or on again, its gate is shut, or the SA is deleted: just before the first,
//! second, … call that the driver makes while it takes packets from the wire. Each packet is decrypted and says so, or is as it
//! came off the wire; none is in between, the change comes once, and no SA goes by itself.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use control::interrupt::{Interrupt, elsewhere};
use control::{
    CRYPTO_DONE, ESP_AT, Flow, IPSEC_V2_IPV4, SA_DELETE_REQ, add, delete, encapsulation, offload_parameters,
    set, slot_1, status, table, watch_freed_memory,
};
use ndis_lab::{Adapter, Received, SendNbl};
use ndis_sys::{NDIS_OFFLOAD_SET_OFF, NDIS_OFFLOAD_SET_ON, NDIS_STATUS_SUCCESS};

/// More calls than the driver makes for three packets.
const MOST_CALLS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(5);
const PAYLOAD: &[u8] = b"what only the receiver may read";

/// What comes in between.
struct Change {
    name: &'static str,
    /// IPsec is on before it.
    begins_on: bool,
    happens: fn(&Adapter, &Flow),
    /// Slot 1 of packets before it, and after.
    slots: [usize; 2],
    /// Whether the SA is in the table afterwards.
    keeps: bool,
}

const CHANGES: [Change; 5] = [
    Change {
        name: "IPsec off",
        begins_on: true,
        happens: |adapter, _| set_ipsec(adapter, false),
        slots: [CRYPTO_DONE, SA_DELETE_REQ],
        keeps: true,
    },
    Change {
        name: "IPsec on again",
        begins_on: false,
        happens: |adapter, _| set_ipsec(adapter, true),
        slots: [SA_DELETE_REQ, CRYPTO_DONE],
        keeps: true,
    },
    Change {
        name: "the gate shut",
        begins_on: true,
        happens: |adapter, _| set(adapter, encapsulation(NDIS_OFFLOAD_SET_OFF)),
        slots: [CRYPTO_DONE, 0],
        keeps: true,
    },
    Change {
        name: "the SA deleted",
        begins_on: true,
        happens: |adapter, flow| delete(adapter, &[flow.inbound]),
        slots: [CRYPTO_DONE, 0],
        keeps: false,
    },
    Change {
        name: "the SA deleted, as it was asked for",
        begins_on: false,
        happens: |adapter, flow| delete(adapter, &[flow.inbound]),
        slots: [SA_DELETE_REQ, 0],
        keeps: false,
    },
];

fn set_ipsec(adapter: &Adapter, on: bool) {
    set(adapter, offload_parameters(&[(IPSEC_V2_IPV4, if on { 3 } else { 1 })]));
}

/// The packet that came in, by what its slot 1 says, is the one that was sent.
#[track_caller]
fn is_whole(received: &Received, sealed: &[u8], what: &str) {
    if slot_1(received) == CRYPTO_DONE {
        assert!(received.frame[ESP_AT + 16..].starts_with(PAYLOAD), "{what}: not decrypted");
    } else {
        assert_eq!(received.frame, sealed, "{what}: not as it came");
    }
}

on_both! {
    fn changes_come_before_each_call_of_a_receive(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let interrupt = Interrupt::new(bench, &["KDEFERRED_ROUTINE"]);
        for (number, change) in (0_u32..).zip(&CHANGES) {
            let mut flow = Flow::new(1, 2, 0x100 + number);
            let found = watch_freed_memory(&bench.lab, &[flow.key.to_vec()]);
            flow.handle = add(&a, &flow.parameters(false));
            let mut orders = 0;
            for nth in 1..=MOST_CALLS {
                let what = format!("{}, call {nth}", change.name);
                flow.inbound = add(&b, &flow.parameters(true));
                set_ipsec(&b, change.begins_on);
                let clear: Vec<_> = (0..3).map(|_| flow.clear(PAYLOAD)).collect();
                let list: Vec<SendNbl> = clear.iter().map(|frame| flow.send_of(frame.clone())).collect();
                let (other, same, happens) = (b.clone(), flow.clone(), change.happens);
                let (received, there, thread) = interrupt.at(
                    nth,
                    || {
                        for sent in a.send(&list).unwrap() {
                            assert_eq!(status(sent.status), status(NDIS_STATUS_SUCCESS), "{what}");
                        }
                        b.wait_received(3, PATIENCE).unwrap()
                    },
                    move || elsewhere(move || happens(&other, &same)),
                );
                thread.join().unwrap();
                assert_eq!(received.len(), 3, "{what}");
                let [before, after] = change.slots;
                let mut changed = false;
                for (received, clear) in received.iter().zip(&clear) {
                    let slot = slot_1(received);
                    changed |= slot == after;
                    assert_eq!(slot, if changed { after } else { before }, "{what}");
                    is_whole(received, &flow.seal(clear.clone()), &what);
                }
                // Once the request is done, nothing is as before.
                let clear = flow.clear(PAYLOAD);
                a.send(&[flow.send_of(clear.clone())]).unwrap();
                let received = control::receive(&b);
                assert_eq!(slot_1(&received), after, "{what}: afterwards");
                is_whole(&received, &flow.seal(clear), &what);
                let (summary, entries) = table(&b);
                assert_eq!((entries.len(), summary.waiting), (change.keeps.into(), 0), "{what}");
                if change.keeps {
                    delete(&b, &[flow.inbound]);
                }
                set_ipsec(&b, true);
                set(&b, encapsulation(NDIS_OFFLOAD_SET_ON));
                if !there {
                    break;
                }
                orders += 1;
            }
            assert!((5..MOST_CALLS).contains(&orders), "{}: {orders} orders were tried", change.name);
            delete(&a, &[flow.handle]);
            assert_eq!(found.load(Relaxed), 0, "{}: key bytes in freed memory", change.name);
        }
    }
}
