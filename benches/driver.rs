//! The control plane through the driver's own entry points, in the lab: what a node of a DELETE_SA list costs, how much of that is the
//! walk that checks the list, and ADD_SA_EX into an empty and into the fullest table. `cargo bench -p ipsecnic`, or
//! `cargo xtask bench driver`, which also writes the page.
//!
//! The linked driver, and the image if `IPSECNIC_IMAGE` names one. A request costs what the lab does for it as well (about a
//! microsecond); so does each SA, whose memory the lab takes and gives back with its accounts.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use ndis_lab::ipsec_v2::{Association, DeleteSaList, SaParameters};
use ndis_lab::{Adapter, AdapterConfig, Driver, HaltAction, Lab, Oid};
use ndis_sys::{NDIS_OBJECT_HEADER, NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_SUCCESS};

/// Nodes of the lists.
const LENGTHS: [usize; 7] = [1, 8, 64, 512, 4096, 16_384, 65_536];
/// SA slots, the most there can be.
const CAPACITY: usize = 65_536;
/// Elements of an ADD_SA list, with which tables are filled.
const FILL: usize = 4096;

/// Inbound SAs with SPIs by chance, so that the table is entered everywhere.
fn sa(random: &mut fastrand::Rng) -> SaParameters {
    let mut key = [0; 20];
    random.fill(&mut key);
    let association = Association::esp_gcm(random.u32(1..), &key);
    SaParameters::new(true, Ipv4Addr::new(10, 0, 0, 2).into(), Ipv4Addr::new(10, 0, 0, 1).into(), association)
}

/// Adds SAs until there are `count` more; their handles, in random order.
fn fill(adapter: &Adapter, random: &mut fastrand::Rng, count: usize) -> Vec<usize> {
    let mut handles = Vec::with_capacity(count);
    while handles.len() < count {
        let list: Vec<_> = (0..FILL.min(count - handles.len())).map(|_| sa(random)).collect();
        let (_, added) = adapter.add_sa_list(&list).expect("ADD_SA");
        handles.extend(added.into_iter().flatten());
    }
    random.shuffle(&mut handles);
    handles
}

/// Time of requests that have to end with `status`.
fn timed(adapter: &Adapter, request: Oid, status: i32) -> Duration {
    let began = Instant::now();
    let outcome = adapter.oid(black_box(request)).expect("a request");
    let took = began.elapsed();
    assert_eq!(outcome.status, status);
    took
}

/// Every list is of a full table, whose SAs are in no cache: what a node costs must not follow from where its SA lies.
fn delete_sa(criterion: &mut Criterion, name: &str, adapter: &Adapter) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut handles = fill(adapter, &mut random, CAPACITY);
    let mut group = criterion.benchmark_group(format!("{name}-delete"));
    group.sampling_mode(SamplingMode::Flat);
    for length in LENGTHS {
        group.throughput(Throughput::Elements(length as u64));
        group.bench_function(BenchmarkId::new("whole", length), |bencher| {
            bencher.iter_custom(|rounds| {
                let one = |_| {
                    random.shuffle(&mut handles);
                    let list = DeleteSaList::new(&handles.split_off(CAPACITY - length)).expect("a list");
                    let took = timed(adapter, list.request(), NDIS_STATUS_SUCCESS);
                    handles.extend(fill(adapter, &mut random, length));
                    took
                };
                (0..rounds).map(one).sum()
            });
        });
        // The same list with an error at its end: it is checked, and nothing is done.
        let short = NDIS_OBJECT_HEADER { Type: 0x80, Revision: 1, Size: 23 };
        let list = DeleteSaList::new(&handles[..length]).expect("a list").with_header(length - 1, short);
        group.bench_function(BenchmarkId::new("check", length), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds).map(|_| timed(adapter, list.request(), NDIS_STATUS_INVALID_LENGTH)).sum()
            });
        });
    }
    group.finish();
    adapter.delete_sas(&handles).expect("DELETE_SA");
}

fn add_sa_ex(criterion: &mut Criterion, name: &str, adapter: &Adapter) {
    let mut random = fastrand::Rng::with_seed(2);
    let mut group = criterion.benchmark_group(format!("{name}-add"));
    // A few are left free for the SAs that are measured, and for neighbourhoods that are full.
    for (table, others) in [("empty", 0), ("fullest", CAPACITY - 64)] {
        let handles = fill(adapter, &mut random, others);
        group.bench_function(BenchmarkId::new(table, others), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let sa = sa(&mut random);
                    let request = Oid::set(
                        ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
                        black_box(sa.add_sa_ex()),
                    );
                    let began = Instant::now();
                    let outcome = adapter.oid(request.direct()).expect("ADD_SA_EX");
                    took += began.elapsed();
                    let handle = ndis_lab::ipsec_v2::handle_of_add_sa_ex(&outcome.buffer);
                    adapter.delete_sas(&[handle.expect("room for one more")]).expect("DELETE_SA");
                }
                took
            });
        });
        for handles in handles.chunks(CAPACITY) {
            adapter.delete_sas(handles).expect("DELETE_SA");
        }
    }
    group.finish();
}

/// The drivers to measure.
fn drivers() -> Vec<(&'static str, Option<PathBuf>)> {
    let image = std::env::var_os("IPSECNIC_IMAGE").map(PathBuf::from);
    let native = std::iter::once(("native", None));
    native.chain(image.map(|path| ("image", Some(path)))).collect()
}

fn load(lab: &Lab, image: Option<&Path>) -> Driver {
    match image {
        Some(path) => lab.load_file(path).expect("an image"),
        // SAFETY: the entry point of a miniport driver, which keeps the contract of one.
        None => unsafe { lab.load_native(ipsecnic::DriverEntry, "ipsecnic") }.expect("DriverEntry"),
    }
}

/// The median of one measurement in nanoseconds, as criterion has stored it.
fn median(results: &Path, group: &str, name: &str, parameter: usize) -> Option<f64> {
    let file = results.join(group).join(name).join(parameter.to_string()).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

fn main() {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver-bench");
    // Only what this run measures shall be in its table.
    let _ = std::fs::remove_dir_all(&results);
    let mut criterion = Criterion::default()
        .output_directory(&results)
        .without_plots()
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(60))
        .sample_size(12)
        .configure_from_args();
    let mut figures = Vec::new();
    for (name, image) in drivers() {
        let lab = Lab::new();
        let driver = load(&lab, image.as_deref());
        let config = AdapterConfig::new().keyword("SaOffloadCapacity", CAPACITY.to_string());
        let adapter = driver.add_adapter(config).expect("MiniportInitializeEx");
        delete_sa(&mut criterion, name, &adapter);
        add_sa_ex(&mut criterion, name, &adapter);
        adapter.halt(HaltAction::DeviceDisabled).expect("MiniportHaltEx");
        driver.unload().expect("unload");
        lab.assert_clean();
        let of = |group: &str, what: &str, parameter| {
            median(&results, &format!("{name}-{group}"), what, parameter)
        };
        let lists: Vec<_> = LENGTHS
            .iter()
            // `cargo test` and filters leave measurements out.
            .filter_map(|&length| {
                let (whole, check) = (of("delete", "whole", length)?, of("delete", "check", length)?);
                Some(serde_json::json!({ "nodes": length, "whole": whole, "check": check }))
            })
            .collect();
        if let (Some(empty), Some(fullest)) = (of("add", "empty", 0), of("add", "fullest", CAPACITY - 64)) {
            figures.push(serde_json::json!({
                "driver": name, "delete": lists, "add": { "empty": empty, "fullest": fullest },
            }));
        }
    }
    if let Some(file) = std::env::var_os("IPSECNIC_BENCH_JSON") {
        let text = serde_json::Value::from(figures).to_string();
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
