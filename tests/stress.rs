//! Everything at once: eight threads of direct OIDs at PASSIVE_LEVEL and DISPATCH_LEVEL against sends, receives, pause,
//! restart, sleep, wedges, resets, configuration changes and halt. The laws at the end: every SA that was added is deleted or
//! in the table, every send and request ended once and as it may, nothing left the adapter in clear, no key byte was left
//! in freed memory.
//!
//! Two seconds natively and in the image; 60 each with `IPSECNIC_LONG=1`. `IPSECNIC_SEED` repeats the choices of a run (not
//! its interleaving).
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::{
    CRYPTO_DONE, ESP_AT, Flow, IPSEC_V2_IPV4, SA_DELETE_REQ, Source, encapsulation, ip, load, mac,
    offload_parameters, set, slot_1, status, table,
};
use ipsecnic::dump::{OID_IPSECNIC_WEDGE, wedge_order};
use ndis_lab::ipsec_v2::{
    AddSaList, Association, DeleteSaList, Operation, SaParameters, handle_of_add_sa_ex, update_sa,
};
use ndis_lab::{
    Adapter, AdapterConfig, Driver, HaltAction, Lab, Oid, Received, ReturnPolicy, SendNbl, SendOptions, Sent,
};
use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_LOW_POWER_STATE,
    NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_PAUSED, NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_RESET_IN_PROGRESS,
    NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
};

/// In every payload, and so nowhere on the wire.
const PLAINTEXT: &[u8] = b"in clear, nowhere but at the two ends";
/// In every key, and so in no freed memory.
const KEY_MARK: [u8; 8] = [0xC3, 0x5A, 0x0F, 0x96, 0x69, 0xF0, 0xA5, 0x3C];
/// SA slots: few enough to be all taken at times.
const CAPACITY: u32 = 192;
const OID_THREADS: u32 = 8;

/// The two ends, the listener and what the threads share.
struct Life {
    adapter: Adapter,
    peer: Adapter,
    stop: AtomicBool,
    /// Flows whose SAs the adapter has, or had a moment ago: outbound, inbound.
    flows: [Mutex<Vec<Flow>>; 2],
    sent: AtomicU64,
    failed: AtomicU64,
}

/// What a thread of direct OIDs did.
#[derive(Default)]
struct Ledger {
    live: BTreeMap<usize, Flow>,
    added: u64,
    deleted: u64,
    skipped: u64,
    aborted: u64,
    turned_away: u64,
}

fn marked(flow: Flow) -> Flow {
    let mut flow = flow;
    flow.key[8..16].copy_from_slice(&KEY_MARK);
    flow
}

impl Life {
    fn running(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Sends an OID to the adapter at a random level.
    fn direct(&self, random: &mut fastrand::Rng, oid: Oid) -> (i32, Vec<u8>) {
        let oid = if random.bool() { oid.at_dispatch() } else { oid };
        let outcome = self.adapter.oid(oid).expect("a direct OID");
        (outcome.status, outcome.buffer)
    }

    /// One of the eight.
    fn direct_oids(&self, thread: u32, seed: u64) -> Ledger {
        let mut random = fastrand::Rng::with_seed(seed ^ u64::from(thread) << 32);
        let mut ledger = Ledger::default();
        let mut gone = vec![0, usize::MAX];
        let mut spi = (thread + 1) << 20;
        while self.running() {
            match random.u32(..10) {
                0..=2 => self.add(&mut random, &mut ledger, &mut spi, 1, true),
                3 => {
                    let count = random.usize(1..6);
                    self.add(&mut random, &mut ledger, &mut spi, count, false);
                }
                4..=6 => self.delete(&mut random, &mut ledger, &mut gone),
                7..=8 => self.update(&mut random, &ledger, &gone),
                _ => std::thread::yield_now(),
            }
        }
        ledger
    }

    fn add(&self, random: &mut fastrand::Rng, ledger: &mut Ledger, spi: &mut u32, count: usize, ex: bool) {
        let new: Vec<(Flow, bool)> = (0..count)
            .map(|_| {
                *spi += 1;
                let inbound = random.bool();
                let (from, to) = if inbound { (2, 1) } else { (1, 2) };
                let flow = marked(Flow::new(from, to, *spi));
                (if random.bool() { flow.extended(random.u32(..)) } else { flow }, inbound)
            })
            .collect();
        let parameters: Vec<SaParameters> =
            new.iter().map(|(flow, inbound)| flow.parameters(*inbound)).collect();
        let (ended, handles) = if ex {
            let oid = ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX;
            let (ended, buffer) = self.direct(random, Oid::set(oid, parameters[0].add_sa_ex()).direct());
            (ended, vec![handle_of_add_sa_ex(&buffer)])
        } else {
            let list = AddSaList::new(&parameters).unwrap();
            let (ended, _) = self.direct(random, list.request());
            (ended, list.handles())
        };
        let any = handles.iter().any(Option::is_some);
        match ended {
            NDIS_STATUS_SUCCESS => assert!(any),
            NDIS_STATUS_NOT_ACCEPTED => {
                assert!(!any);
                ledger.turned_away += 1;
            }
            // Full, or IPsec is off at the moment.
            NDIS_STATUS_RESOURCES | NDIS_STATUS_FAILURE => assert!(!any),
            other => panic!("an addition ended with {}", status(other)),
        }
        for ((mut flow, inbound), handle) in new.into_iter().zip(handles) {
            let Some(handle) = handle else { continue };
            (flow.handle, flow.inbound) = (handle, handle);
            assert!(ledger.live.insert(handle, flow.clone()).is_none(), "one handle for two SAs");
            ledger.added += 1;
            let mut flows = self.flows[usize::from(inbound)].lock().unwrap();
            if flows.len() == 64 {
                flows.swap_remove(random.usize(..64));
            }
            flows.push(flow);
        }
    }

    fn delete(&self, random: &mut fastrand::Rng, ledger: &mut Ledger, gone: &mut Vec<usize>) {
        let mut handles: Vec<usize> = ledger.live.keys().copied().filter(|_| random.u32(..4) == 0).collect();
        let live = handles.len();
        for _ in 0..random.usize(..3) {
            handles.push(gone[random.usize(..gone.len())]);
        }
        if handles.is_empty() {
            return;
        }
        let distinct = handles.clone();
        random.shuffle(&mut handles);
        let request = DeleteSaList::new(&handles).unwrap().request();
        match self.direct(random, request).0 {
            NDIS_STATUS_SUCCESS => {}
            // Cut off by a reset: deleted all the same.
            NDIS_STATUS_REQUEST_ABORTED => ledger.aborted += 1,
            NDIS_STATUS_NOT_ACCEPTED => {
                ledger.turned_away += 1;
                return;
            }
            other => panic!("a deletion ended with {}", status(other)),
        }
        for handle in &distinct[..live] {
            ledger.live.remove(handle);
            gone.push(*handle);
        }
        ledger.deleted += live as u64;
        ledger.skipped += (distinct.len() - live) as u64;
    }

    fn update(&self, random: &mut fastrand::Rng, ledger: &Ledger, gone: &[usize]) {
        let high = random.u32(..);
        let index = random.usize(..=ledger.live.len());
        if let Some((handle, flow)) = ledger.live.iter().nth(index) {
            let update = update_sa(*handle, Operation::Esp, flow.spi, high);
            let expected =
                if flow.high.is_some() { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_INVALID_PARAMETER };
            let ended = self.direct(random, update).0;
            assert!([expected, NDIS_STATUS_NOT_ACCEPTED].contains(&ended), "{}", status(ended));
        } else {
            let handle = gone[random.usize(..gone.len())];
            let ended = self.direct(random, update_sa(handle, Operation::Esp, 1, high)).0;
            let expected = [NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_NOT_ACCEPTED];
            assert!(expected.contains(&ended), "{}", status(ended));
        }
    }

    /// Sends through SAs that others add and delete meanwhile, and in clear.
    fn sends(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut out: Vec<Sent> = Vec::new();
        let mut iv = random.u64(..);
        while self.running() {
            let chain: Vec<SendNbl> = (0..random.usize(1..5))
                .map(|_| {
                    let flow = pick(&self.flows[0], &mut random);
                    match flow {
                        Some(mut flow) if random.u32(..8) != 0 => {
                            iv = iv.wrapping_add(1);
                            flow.iv = iv;
                            flow.sequence = random.u32(..);
                            flow.next(PLAINTEXT)
                        }
                        _ => SendNbl::frame(clear_frame(1, 2)),
                    }
                })
                .collect();
            let options = if random.bool() { SendOptions::dispatch() } else { SendOptions::default() };
            out.push(self.adapter.send_with(&chain, options).expect("a send"));
            out.retain(|sent| !self.settle(sent));
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while !out.is_empty() {
            assert!(Instant::now() < deadline, "{} sends never end", out.len());
            std::thread::sleep(Duration::from_millis(1));
            out.retain(|sent| !self.settle(sent));
        }
    }

    /// Counts a send that has ended.
    fn settle(&self, sent: &Sent) -> bool {
        if !sent.is_done() {
            return false;
        }
        for outcome in sent.outcomes().into_iter().flatten() {
            match outcome.status {
                NDIS_STATUS_SUCCESS => self.sent.fetch_add(1, Relaxed),
                NDIS_STATUS_FAILURE => self.failed.fetch_add(1, Relaxed),
                NDIS_STATUS_PAUSED | NDIS_STATUS_RESET_IN_PROGRESS | NDIS_STATUS_LOW_POWER_STATE => 0,
                other => panic!("a send ended with {}", status(other)),
            };
        }
        true
    }

    /// Has the peer send packets for inbound SAs, sealed by another hand, and in clear.
    fn receives(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while self.running() {
            let frame = match pick(&self.flows[1], &mut random) {
                Some(mut flow) => {
                    flow.sequence = random.u32(..);
                    let clear = flow.clear(PLAINTEXT);
                    flow.seal(clear)
                }
                None => clear_frame(2, 1),
            };
            let options = if random.bool() { SendOptions::dispatch() } else { SendOptions::default() };
            let sent = self.peer.send_with(&[SendNbl::frame(frame)], options).expect("the peer sends");
            assert!(sent.is_done());
        }
    }

    /// What NDIS and the user do to the adapter.
    fn upheavals(&self, seed: u64, until: Instant) -> u32 {
        let mut random = fastrand::Rng::with_seed(seed);
        let adapter = &self.adapter;
        let power = |state: i32| Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned());
        let mut resets = 0;
        let mut reset = |random: &mut fastrand::Rng| {
            let outcome = adapter.reset(if random.bool() { 2 } else { 0 }).expect("a reset");
            assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
            resets += 1;
        };
        while Instant::now() < until {
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
            match random.u32(..9) {
                0 | 1 => {
                    adapter.pause().expect("a pause");
                    if random.u32(..3) == 0 {
                        reset(&mut random);
                    }
                    adapter.restart().expect("a restart");
                }
                2 => reset(&mut random),
                3 | 4 => {
                    set(adapter, Oid::set(OID_IPSECNIC_WEDGE, wedge_order(Some(random.u32(..20)))));
                    std::thread::sleep(Duration::from_micros(random.u64(..3000)));
                    let _ = adapter.check_for_hang().expect("a check");
                    reset(&mut random);
                }
                5 => {
                    set(adapter, power(ndis_sys::NdisDeviceStateD3));
                    set(adapter, power(ndis_sys::NdisDeviceStateD0));
                }
                6 => {
                    set(adapter, offload_parameters(&[(IPSEC_V2_IPV4, 1)]));
                    set(adapter, offload_parameters(&[(IPSEC_V2_IPV4, 3)]));
                }
                7 => {
                    set(adapter, encapsulation(ndis_sys::NDIS_OFFLOAD_SET_OFF));
                    set(adapter, encapsulation(ndis_sys::NDIS_OFFLOAD_SET_ON));
                }
                _ => {
                    let (summary, entries) = table(adapter);
                    assert!(summary.deleted <= summary.added && entries.len() <= CAPACITY as usize);
                }
            }
            adapter.take_statuses();
        }
        resets
    }
}

fn pick(flows: &Mutex<Vec<Flow>>, random: &mut fastrand::Rng) -> Option<Flow> {
    let flows = flows.lock().unwrap();
    if flows.is_empty() { None } else { Some(flows[random.usize(..flows.len())].clone()) }
}

/// A packet that no SA covers, with nothing secret in it.
fn clear_frame(from: u8, to: u8) -> Vec<u8> {
    let packet = control::ipv4(ip(from), ip(to), 17, &[0xEE; 40]);
    ndis_lab::transport::ethernet(mac(to), mac(from), &packet)
}

/// Judges what the adapter is indicated: decrypted if it says so, else as it came.
fn judge(received: &Received, decrypted: &AtomicUsize) {
    let word = slot_1(received);
    let holds = received.frame.windows(PLAINTEXT.len()).any(|bytes| bytes == PLAINTEXT);
    if word == CRYPTO_DONE {
        assert!(received.frame[ESP_AT + 16..].starts_with(PLAINTEXT), "CryptoDone on something else");
        decrypted.fetch_add(1, Relaxed);
    } else {
        // An update to another high half makes a packet fail; nothing is decrypted then.
        assert!(!holds, "slot 1 is {word:#x}, and the payload is there in clear");
        assert!([0, SA_DELETE_REQ, control::AUTH_FAILED].contains(&word), "slot 1 is {word:#x}");
    }
}

fn station(driver: &Driver, number: u8) -> Adapter {
    let config = AdapterConfig::new()
        .keyword("SegmentId", "9")
        .keyword("FaultInjection", "1")
        .keyword("SaOffloadCapacity", CAPACITY.to_string())
        .network_address(mac(number));
    let adapter = driver.add_adapter(config).expect("MiniportInitializeEx");
    adapter.restart().expect("MiniportRestart");
    let filter = if number == 3 {
        ndis_sys::NDIS_PACKET_TYPE_PROMISCUOUS
    } else {
        ndis_sys::NDIS_PACKET_TYPE_DIRECTED
    };
    set(&adapter, Oid::set_u32(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, filter));
    set(&adapter, encapsulation(ndis_sys::NDIS_OFFLOAD_SET_ON));
    adapter
}

/// One life of the adapter, to its halt with SAs in it.
fn live(lab: &Lab, driver: &Driver, peer: &Adapter, seed: u64, until: Instant) -> String {
    let adapter = station(driver, 1);
    let decrypted = Arc::new(AtomicUsize::new(0));
    let count = decrypted.clone();
    adapter.set_receive_sink(Some(Arc::new(move |_: &Adapter, frames: Vec<Received>| {
        for frame in &frames {
            judge(frame, &count);
        }
    })));
    adapter.set_return_policy(if seed.is_multiple_of(2) {
        ReturnPolicy::Inside
    } else {
        ReturnPolicy::After
    });
    let life = Life {
        adapter: adapter.clone(),
        peer: peer.clone(),
        stop: AtomicBool::new(false),
        flows: Default::default(),
        sent: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    let (ledgers, resets) = std::thread::scope(|scope| {
        let life = &life;
        let oids: Vec<_> =
            (0..OID_THREADS).map(|thread| scope.spawn(move || life.direct_oids(thread, seed))).collect();
        let senders: Vec<_> = (1..=2).map(|n| scope.spawn(move || life.sends(seed ^ n << 50))).collect();
        let receiver = scope.spawn(move || life.receives(seed ^ 3 << 50));
        let upheavals = scope.spawn(move || life.upheavals(seed ^ 4 << 50, until));
        let resets = upheavals.join();
        life.stop.store(true, Relaxed);
        let ledgers: Vec<_> = oids.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        receiver.join().expect("the receiver");
        for sender in senders {
            sender.join().expect("a sender");
        }
        let ledgers: Vec<Ledger> =
            ledgers.into_iter().map(|ledger| ledger.expect("a thread of direct OIDs")).collect();
        (ledgers, resets.expect("the upheavals"))
    });
    let sum = |of: fn(&Ledger) -> u64| ledgers.iter().map(of).sum::<u64>();
    let (added, deleted) = (sum(|l| l.added), sum(|l| l.deleted));
    // The laws.
    let (summary, entries) = table(&adapter);
    assert_eq!((summary.added, summary.deleted, summary.waiting), (added, deleted, 0));
    assert_eq!(summary.skipped, sum(|l| l.skipped), "every handle that named nothing was counted");
    assert_eq!(summary.resets, resets);
    let mut found: Vec<_> = entries.iter().map(|entry| (entry.handle, entry.spi)).collect();
    let mut expected: Vec<_> = ledgers
        .iter()
        .flat_map(|ledger| ledger.live.iter().map(|(handle, flow)| (*handle as u64, flow.spi)))
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "the table holds what was added and not deleted");
    assert!(entries.iter().all(|entry| entry.loaded));
    assert_eq!(entries.len() as u64, added - deleted);
    let counter = |oid| adapter.oid(Oid::query(oid, 8)).unwrap().u64().unwrap();
    assert_eq!(counter(ndis_sys::OID_GEN_XMIT_OK), life.sent.load(Relaxed));
    assert_eq!(counter(ndis_sys::OID_GEN_XMIT_ERROR), life.failed.load(Relaxed));
    assert!(counter(ndis_sys::OID_GEN_RCV_OK) >= adapter.frames_received());
    assert_eq!(adapter.outstanding_sends(), 0);
    assert_clean(lab);
    adapter.pause().expect("the last pause");
    adapter.halt(HaltAction::DeviceDisabled).expect("MiniportHaltEx");
    format!(
        "{added} SAs added, {deleted} deleted, {} aborted, {} turned away, {} sent, {} failed, {} decrypted, {resets} resets",
        sum(|l| l.aborted),
        sum(|l| l.turned_away),
        life.sent.load(Relaxed),
        life.failed.load(Relaxed),
        decrypted.load(Relaxed),
    )
}

/// No rule is broken, but for one that the lab cannot judge here: it counts a send as the driver's before it calls the
/// driver, so that a reset on another thread may end in between. The driver is held to it where one thing happens at a time
/// (`sa_reset`), and here by all sends having ended.
fn assert_clean(lab: &Lab) {
    let broken = lab.take_violations();
    let broken: Vec<_> = broken.iter().filter(|found| found.rule.id != "reset-pending").collect();
    let lines: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{} rules were broken:\n{}", lines.len(), lines.join("\n"));
}

fn stress(source: Source) {
    let lab = Lab::new();
    let Some(driver) = load(source, &lab) else { return };
    let long = std::env::var_os("IPSECNIC_LONG").is_some_and(|value| value == "1");
    let (lives, each) = if long { (12, 5000) } else { (2, 1000) };
    let seed = std::env::var("IPSECNIC_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{source:?}: IPSECNIC_SEED={seed}");
    let keys = Arc::new(AtomicUsize::new(0));
    let found = keys.clone();
    lab.on_pool_free(move |_, bytes| {
        let marks = bytes.iter().enumerate().filter(|(_, byte)| **byte == KEY_MARK[0]);
        let marks = marks.filter(|(at, _)| bytes[*at..].starts_with(&KEY_MARK)).count();
        found.fetch_add(marks, Relaxed);
    });
    let (peer, monitor) = (station(&driver, 2), station(&driver, 3));
    monitor.set_receive_sink(Some(Arc::new(|_: &Adapter, frames: Vec<Received>| {
        for frame in frames {
            assert!(
                !frame.frame.windows(PLAINTEXT.len()).any(|bytes| bytes == PLAINTEXT),
                "a packet of an SA is on the wire in clear"
            );
        }
    })));
    peer.set_receive_sink(Some(Arc::new(|_: &Adapter, _: Vec<Received>| {})));
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..lives {
        let until = Instant::now() + Duration::from_millis(each);
        let told = live(&lab, &driver, &peer, random.u64(..), until);
        eprintln!("{source:?}, life {number}: {told}");
    }
    for adapter in [peer, monitor] {
        control::stop(&adapter);
    }
    driver.unload().expect("unload");
    assert_clean(&lab);
    assert!(lab.census().is_empty(), "left: {}", lab.census());
    assert_eq!(keys.load(Relaxed), 0, "key bytes in freed memory");
}

#[test]
fn native() {
    stress(Source::Native);
}

#[test]
fn image() {
    stress(Source::Image);
}

/// The keys are as long as the stress takes them to be.
#[test]
fn the_mark_is_in_the_key() {
    let flow = marked(Flow::new(1, 2, 5));
    let association = Association::esp_gcm(5, &flow.key);
    let key = association.encryption.expect("AES-GCM").key;
    assert!(key.windows(8).any(|bytes| bytes == KEY_MARK) && key[..8] != KEY_MARK);
}
