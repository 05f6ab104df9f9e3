//! ESP with AES-GCM, sealed and opened in place, beside ring's AES-GCM over the same bytes.
//!
//! ring is the peer because it is what a Rust program would otherwise use: assembly with AVX where the CPU has it,
//! which is not open to the driver. Payloads of 64, 256 and 1,400 bytes. The table at the end gives the
//! throughput of both, counting payload bytes, and their ratio.

use std::path::Path;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use ipsec::algorithm::Algorithm;
use ipsec::esp::{EspSa, HEADER_LEN, ICV_LEN, IV_LEN, Trailer};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const SPI: u32 = 0x1000;
const MATERIAL: [u8; 36] = [0x42; 36];
const PAYLOADS: [usize; 3] = [64, 256, 1400];
const BODY: usize = HEADER_LEN + IV_LEN;

fn framed(payload_len: usize) -> Vec<u8> {
    let trailer = Trailer::minimal(payload_len, 17);
    let mut packet = [&SPI.to_be_bytes()[..], &[0, 0, 0, 1], &[9; IV_LEN]].concat();
    packet.resize(BODY + payload_len, 0xA5);
    packet.extend(1..=trailer.pad_len);
    packet.extend([trailer.pad_len, trailer.next_header]);
    packet.extend([0; ICV_LEN]);
    packet
}

/// The peer, framed as [`EspSa`] frames: the same nonce, AAD and bytes.
struct Peer(LessSafeKey);

impl Peer {
    fn nonce_and_aad(packet: &[u8]) -> (Nonce, Aad<[u8; HEADER_LEN]>) {
        let mut nonce = [0x42; 12];
        nonce[4..].copy_from_slice(&packet[HEADER_LEN..BODY]);
        (Nonce::assume_unique_for_key(nonce), Aad::from(*packet.first_chunk().unwrap()))
    }

    fn seal(&self, packet: &mut [u8]) {
        let (nonce, aad) = Self::nonce_and_aad(packet);
        let (body, icv) = packet[BODY..].split_last_chunk_mut::<ICV_LEN>().unwrap();
        let tag = self.0.seal_in_place_separate_tag(nonce, aad, body).unwrap();
        icv.copy_from_slice(tag.as_ref());
    }

    fn open(&self, packet: &mut [u8]) {
        let (nonce, aad) = Self::nonce_and_aad(packet);
        self.0.open_in_place(nonce, aad, &mut packet[BODY..]).unwrap();
    }
}

/// Measures `process` on copies of `packet`, which are made outside the measured time.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    payload_len: usize,
    packet: &[u8],
    process: impl Fn(&mut [u8]),
) {
    group.throughput(Throughput::Bytes(payload_len as u64));
    group.bench_function(BenchmarkId::new(name, payload_len), |bencher| {
        bencher.iter_batched_ref(|| packet.to_vec(), |packet| process(packet), BatchSize::SmallInput);
    });
}

/// The median time of one measurement, in nanoseconds, as criterion has stored it.
fn median(results: &Path, group: &str, name: &str, payload_len: usize) -> Option<f64> {
    let file = results.join(group).join(name).join(payload_len.to_string()).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

fn main() {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("esp-bench");
    // Only what this run measures shall be in its table.
    let _ = std::fs::remove_dir_all(&results);
    let mut criterion = Criterion::default()
        .output_directory(&results)
        .without_plots()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(30)
        .configure_from_args();

    let algorithms = [(Algorithm::AesGcm128, &AES_128_GCM), (Algorithm::AesGcm256, &AES_256_GCM)];
    let mut rows = Vec::new();
    for (algorithm, peer) in algorithms {
        let sa = EspSa::new(algorithm, SPI, &MATERIAL[..algorithm.key_material_len()]).unwrap();
        let peer = Peer(LessSafeKey::new(UnboundKey::new(peer, &MATERIAL[..algorithm.key_len()]).unwrap()));
        for operation in ["seal", "open"] {
            let name = format!("{algorithm:?}-{operation}");
            let mut group = criterion.benchmark_group(&name);
            for payload_len in PAYLOADS {
                let clear = framed(payload_len);
                let mut sealed = clear.clone();
                sa.seal(&mut sealed, None, None).unwrap();
                let mut sealed_by_peer = clear.clone();
                peer.seal(&mut sealed_by_peer);
                assert_eq!(sealed, sealed_by_peer, "both must do the same work");
                if operation == "seal" {
                    measure(&mut group, "ipsec", payload_len, &clear, |packet| {
                        sa.seal(packet, None, None).unwrap();
                    });
                    measure(&mut group, "ring", payload_len, &clear, |packet| peer.seal(packet));
                } else {
                    measure(&mut group, "ipsec", payload_len, &sealed, |packet| {
                        sa.open(packet, None).unwrap();
                    });
                    measure(&mut group, "ring", payload_len, &sealed, |packet| peer.open(packet));
                }
                rows.push((name.clone(), payload_len));
            }
            group.finish();
        }
    }

    println!("{:<16} {:>7} {:>12} {:>12} {:>11}", "", "payload", "ipsec GB/s", "ring GB/s", "ipsec/ring");
    for (name, payload_len) in rows {
        let of = |who| median(&results, &name, who, payload_len);
        // `cargo test` and filters leave measurements out.
        if let (Some(ours), Some(peer)) = (of("ipsec"), of("ring")) {
            #[allow(clippy::cast_precision_loss)]
            let rate = |nanoseconds| payload_len as f64 / nanoseconds;
            println!(
                "{name:<16} {payload_len:>7} {:>12.2} {:>12.2} {:>11.2}",
                rate(ours),
                rate(peer),
                peer / ours
            );
        }
    }
}
