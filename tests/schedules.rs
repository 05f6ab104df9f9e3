//! Packets against everything that can come in between, in every order: pause, sleep, reset, IPsec switched off, just before
//! the first, second, … call that the driver makes while it sends, or while it takes what came in. Each send ends once with a
//! status that the state allows, nothing of an SA goes out in clear, and afterwards all is as it was before.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::time::{Duration, Instant};

use control::interrupt::{Interrupt, elsewhere};
use control::{Flow, IPSEC_V2_IPV4, delete, mac, offload_parameters, set, status};
use ndis_lab::{Adapter, Oid, SendNbl};
use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_LOW_POWER_STATE, NDIS_STATUS_PAUSED, NDIS_STATUS_RESET_IN_PROGRESS,
    NDIS_STATUS_SUCCESS, NdisDeviceStateD0, NdisDeviceStateD3, OID_PNP_SET_POWER,
};

/// More calls than the driver makes for a packet at both ends.
const MOST_CALLS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(5);
/// What an SA must not let out.
const SECRET: &[u8] = b"a secret that no wire has seen";

/// Where the payload of an ESP packet lies: behind the headers of Ethernet, IPv4, and ESP with its IV.
const PAYLOAD: usize = 14 + 20 + 16;

/// What comes in between, what it makes of sends, and how it is undone.
struct Event {
    name: &'static str,
    happens: fn(&Adapter),
    status: i32,
    is_undone: fn(&Adapter),
}

fn set_power(adapter: &Adapter, state: i32) {
    set(adapter, Oid::set_u32(OID_PNP_SET_POWER, state.cast_unsigned()));
}

fn set_ipsec(adapter: &Adapter, value: u8) {
    set(adapter, offload_parameters(&[(IPSEC_V2_IPV4, value)]));
}

const EVENTS: [Event; 4] = [
    Event {
        name: "pause",
        happens: |adapter| adapter.pause().unwrap(),
        status: NDIS_STATUS_PAUSED,
        is_undone: |adapter| adapter.restart().unwrap(),
    },
    Event {
        name: "sleep",
        happens: |adapter| set_power(adapter, NdisDeviceStateD3),
        status: NDIS_STATUS_LOW_POWER_STATE,
        is_undone: |adapter| set_power(adapter, NdisDeviceStateD0),
    },
    Event {
        name: "reset",
        happens: |adapter| assert_eq!(status(adapter.reset(0).unwrap().status), status(NDIS_STATUS_SUCCESS)),
        status: NDIS_STATUS_RESET_IN_PROGRESS,
        is_undone: |_| (),
    },
    Event {
        name: "IPsec off",
        happens: |adapter| set_ipsec(adapter, 1),
        status: NDIS_STATUS_FAILURE,
        is_undone: |adapter| set_ipsec(adapter, 3),
    },
];

/// Waits until a packet with this payload has come in, behind whatever was on its way before.
fn arrives(adapter: &Adapter, payload: &[u8], what: &str) {
    let start = Instant::now();
    while !adapter
        .take_received()
        .iter()
        .any(|received| received.frame.get(PAYLOAD..).is_some_and(|rest| rest.starts_with(payload)))
    {
        assert!(start.elapsed() < PATIENCE, "{what}: a packet afterwards does not arrive decrypted");
        std::thread::yield_now();
    }
}

on_both! {
    fn events_come_before_each_call_of_a_packet(bench) {
        let (a, b, monitor) = (bench.station(1), bench.station(2), bench.station(3));
        set(&monitor, Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, ndis_sys::NDIS_PACKET_TYPE_PROMISCUOUS));
        let interrupt = Interrupt::new(bench, &["MiniportSendNetBufferLists", "KDEFERRED_ROUTINE"]);
        let plain: Vec<u8> = [&mac(2)[..], &mac(1), &[0x88, 0xB5], &[7; 60]].concat();
        for event in &EVENTS {
            for at_sender in [true, false] {
                let mut flow = Flow::new(1, 2, 0x10).add(&a, &b);
                let mut orders = 0;
                for nth in 1..=MOST_CALLS {
                    let what = format!("{} of the {}, call {nth}", event.name, if at_sender { "sender" } else { "receiver" });
                    let list = [flow.next(SECRET), SendNbl::frame(plain.clone()), flow.next(SECRET)];
                    let target = if at_sender { a.clone() } else { b.clone() };
                    let (happens, other) = (event.happens, target.clone());
                    let (sent, there, thread) =
                        interrupt.at(nth, || a.send(&list).unwrap(), move || elsewhere(move || happens(&other)));
                    thread.join().unwrap();
                    for (outcome, protected) in sent.iter().zip([true, false, true]) {
                        let spoilt = at_sender && (protected || event.status != NDIS_STATUS_FAILURE);
                        let allowed = outcome.status == NDIS_STATUS_SUCCESS || spoilt && outcome.status == event.status;
                        assert!(allowed, "{what}: {}", status(outcome.status));
                    }
                    (event.is_undone)(&target);
                    // Afterwards all is as it was: the SA, both ends, the wire.
                    let again = a.send(&[flow.next(&nth.to_be_bytes())]).unwrap();
                    assert_eq!(status(again[0].status), status(NDIS_STATUS_SUCCESS), "{what}: afterwards");
                    arrives(&b, &nth.to_be_bytes(), &what);
                    for received in monitor.take_received() {
                        let clear = received.frame.windows(SECRET.len()).any(|window| window == SECRET);
                        assert!(!clear, "{what}: a packet of the SA is on the wire in clear");
                    }
                    if !there {
                        break;
                    }
                    orders += 1;
                }
                assert!((10..MOST_CALLS).contains(&orders), "{}: {orders} orders were tried", event.name);
                delete(&a, &[flow.handle]);
                delete(&b, &[flow.inbound]);
            }
        }
    }
}
