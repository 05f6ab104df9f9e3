//! How fast the strict path is: OID requests and packets through every check of the lab, on one thread, natively
//! and, if `IPSECNIC_IMAGE` names one, through the image. `cargo bench -p lab --bench strict --profile lab`.
//!
//! The goal is a million of either in a minute: 16,667 a second.

use std::time::{Duration, Instant};

use lab::life::Subject;
use lab::source::DriverSource;
use ndis_lab::{Adapter, AdapterConfig, Driver, HaltAction, Lab, Oid, SendNbl, SendOptions};
use ndis_sys::{
    NDIS_PACKET_TYPE_DIRECTED, OID_GEN_CURRENT_PACKET_FILTER, OID_GEN_STATISTICS, OID_GEN_VENDOR_ID,
};

const GOAL: u32 = 1_000_000 / 60;
/// Requests, and packets, of one measurement.
const COUNT: u32 = 200_000;
/// Packets of one call of the send handler.
const BATCH: usize = 32;

fn rate(count: u32, spent: Duration) -> f64 {
    f64::from(count) / spent.as_secs_f64()
}

fn queries(adapter: &Adapter) -> Duration {
    let start = Instant::now();
    for at in 0..COUNT / 2 {
        let (oid, length) = if at % 2 == 0 { (OID_GEN_VENDOR_ID, 4) } else { (OID_GEN_STATISTICS, 152) };
        assert!(adapter.oid(Oid::query(oid, length)).unwrap().is_success());
        // A request that is refused is checked no less.
        assert!(!adapter.oid(Oid::query(oid, length - 1)).unwrap().is_success());
    }
    start.elapsed()
}

fn packets(from: &Adapter, to: &Adapter, length: usize) -> Duration {
    let mut bytes = to.attributes().general.current_address().to_vec();
    bytes.extend_from_slice(from.attributes().general.current_address());
    bytes.extend_from_slice(&[0x88, 0xb5]);
    bytes.resize(length, 0x5a);
    let lists: Vec<_> = (0..BATCH).map(|_| SendNbl::frame(bytes.clone()).split(&[14, 20])).collect();
    let start = Instant::now();
    let mut carried = 0;
    while carried < COUNT {
        let sent = from.send_with(&lists, SendOptions::dispatch()).unwrap();
        for outcome in sent.wait(Duration::from_secs(5)).unwrap() {
            assert!(outcome.is_success());
        }
        let frames = to.wait_received(BATCH, Duration::from_secs(5)).unwrap();
        assert!(frames.len() == BATCH && frames.iter().all(|frame| frame.frame.len() == length));
        carried += u32::try_from(BATCH).unwrap();
    }
    start.elapsed()
}

fn measure(source: &DriverSource) {
    let subject = Subject::new(source.clone());
    let (lab, driver): (Lab, Driver) = subject.source.load().unwrap();
    let add = |last| {
        let adapter =
            driver.add_adapter(AdapterConfig::new().network_address([2, 0, 0, 0, 0, last])).unwrap();
        adapter.restart().unwrap();
        let filter = Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, NDIS_PACKET_TYPE_DIRECTED);
        assert!(adapter.oid(filter).unwrap().is_success());
        adapter
    };
    let (one, two) = (add(1), add(2));
    let report = |what: &str, spent: Duration| {
        let rate = rate(COUNT, spent);
        let verdict = if rate >= f64::from(GOAL) { "holds" } else { "MISSED" };
        println!(
            "{source}: {what}: {rate:.0} a second, {:.1} million a minute; goal {verdict}",
            rate * 60.0 / 1e6
        );
    };
    report("OID requests", queries(&one));
    report("packets of 64 bytes, sent and received", packets(&one, &two, 64));
    report("packets of 1,514 bytes, sent and received", packets(&one, &two, 1514));
    for adapter in [one, two] {
        adapter.pause().unwrap();
        adapter.halt(HaltAction::DeviceStopped).unwrap();
    }
    driver.unload().unwrap();
    lab.assert_clean();
    assert!(lab.census().is_empty());
}

fn main() {
    measure(&DriverSource::Native);
    if let Some(image) = std::env::var_os("IPSECNIC_IMAGE") {
        measure(&DriverSource::Image(image.into()));
    }
}
