//! `lab demo`, natively and with the image that ships, and Wireshark as its judge.

mod common;

use std::path::Path;

use common::{folder, image, options, run, tshark};
use lab::demo::{AlgorithmChoice, Report, Silent};
use lab::input::{Capture, Carried, DEFAULT_CAPTURE, Packet, classify};
use lab::source::DriverSource;

/// IP packets of up to this many bytes are carried.
const MTU: usize = 9000;

fn default_capture() -> Capture {
    Capture::from_bytes(DEFAULT_CAPTURE.to_vec()).unwrap()
}

/// The packets of a capture that are carried, in order.
fn carried(capture: &Capture) -> Vec<Carried> {
    capture.packets().filter_map(|packet| classify(packet, MTU).ok()).collect()
}

/// What ESP carries of a packet: payload, padding, pad length, next header.
fn esp_content(packet: &Carried) -> Vec<u8> {
    let mut content = packet.packet[20..].to_vec();
    let pad = u8::try_from((4 - (content.len() + 2) % 4) % 4).unwrap();
    content.extend(1..=pad);
    content.extend([pad, packet.protocol]);
    content
}

/// Has tshark verify every ESP packet, and compares what it decrypts with the original packets.
fn judge(report: &Report, packets: &[Carried]) {
    if !tshark::present() {
        return;
    }
    let verdicts = tshark::judge(Path::new(&report.output));
    assert_eq!(verdicts.len(), packets.len(), "ESP packets in {}", report.output);
    for (verdict, packet) in verdicts.iter().zip(packets) {
        assert!(verdict.icv_good && !verdict.icv_bad, "ICV of frame {}", verdict.frame);
        assert_eq!(verdict.decrypted, esp_content(packet), "frame {}", verdict.frame);
    }
}

/// The frames of a capture.
fn frames(path: &str) -> Vec<Vec<u8>> {
    let capture = Capture::read(Path::new(path)).unwrap();
    capture.packets().map(|Packet { data, .. }| data.to_vec()).collect()
}

/// What has to be the same, whichever driver was run.
fn check(report: &Report) {
    let capture = default_capture();
    let carried = carried(&capture);
    assert_eq!(report.captured, capture.len() as u64);
    assert_eq!(report.traffic.sent, carried.len() as u64);
    assert_eq!(report.traffic.delivered, carried.len() as u64);
    assert_eq!(report.traffic.wire_frames, carried.len() as u64);
    assert_eq!(report.traffic.failed, 0);
    let not_carried: u64 = report.not_carried.values().sum();
    assert_eq!(report.captured, report.traffic.delivered + not_carried);
    assert_eq!(report.checks.len(), 9, "{:#?}", report.checks);
    assert!(report.checks.iter().all(|check| check.passed));
    assert!(report.census.is_empty() && report.violations.is_empty());
    let by_list = report.associations.iter().filter(|sa| sa.added_by == "ADD_SA").count();
    assert_eq!((report.associations.len(), by_list), (6, 2));
    assert!(report.advertised.len() >= 4);
    judge(report, &carried);
}

#[test]
fn the_native_driver_protects_the_default_capture() {
    check(&run(&options(DriverSource::Native, &folder("native"))));
}

#[test]
fn the_image_protects_the_default_capture_and_puts_the_same_bytes_on_the_wire() {
    let Some(image) = image() else { return };
    let shipped = run(&options(DriverSource::Image(image), &folder("image")));
    check(&shipped);
    let native = run(&options(DriverSource::Native, &folder("image-and-native")));
    assert_eq!(frames(&shipped.output), frames(&native.output));
}

#[test]
fn every_algorithm_and_many_layouts_hold() {
    let choices = [AlgorithmChoice::Gcm128, AlgorithmChoice::Gcm192, AlgorithmChoice::Gcm256];
    for (seed, algorithm) in (2..).zip(choices.iter().cycle().take(6)) {
        let mut options = options(DriverSource::Native, &folder("algorithms"));
        (options.seed, options.algorithm) = (seed, *algorithm);
        let report = run(&options);
        let names: Vec<_> = report.associations.iter().map(|sa| sa.algorithm).collect();
        assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        judge(&report, &carried(&default_capture()));
    }
}

#[test]
fn a_seed_repeats_the_wire_and_another_one_does_not() {
    let wire = |name: &str, seed| {
        let mut options = options(DriverSource::Native, &folder(name));
        options.seed = seed;
        frames(&run(&options).output)
    };
    let first = wire("seed-first", 7);
    assert_eq!(first, wire("seed-again", 7));
    let other = wire("seed-other", 8);
    assert!(first.iter().zip(&other).all(|(a, b)| a[34..] != b[34..]));
}

#[test]
fn the_judge_sees_a_single_flipped_bit() {
    let report = run(&options(DriverSource::Native, &folder("flipped")));
    if !tshark::present() {
        return;
    }
    let file = std::fs::read(&report.output).unwrap();
    let wire = frames(&report.output);
    // In the ciphertext, in the ICV, and in what is authenticated only: the sequence number.
    for (index, place) in
        [(0, 14 + 36), (wire.len() / 2, wire[wire.len() / 2].len() - 1), (wire.len() - 1, 14 + 27)]
    {
        let frame = &wire[index];
        let start = file.windows(frame.len()).position(|window| window == frame).unwrap();
        let mut damaged = file.clone();
        damaged[start + place] ^= 0x10;
        std::fs::write(&report.output, damaged).unwrap();
        let verdicts = tshark::judge(Path::new(&report.output));
        assert_eq!(verdicts.len(), wire.len());
        for (at, verdict) in verdicts.iter().enumerate() {
            assert_eq!(
                (verdict.icv_good, verdict.icv_bad),
                (at != index, at == index),
                "frame {}",
                verdict.frame
            );
        }
    }
}

#[test]
fn what_the_driver_fails_to_do_is_a_failure_of_the_demo_and_still_cleaned_up() {
    let options = options(DriverSource::Native, &folder("refused-mapping"));
    let load = || {
        let (lab, driver) = options.driver.load()?;
        // Some frames lie in memory that has to be mapped; NdisMSendNetBufferListsComplete then says RESOURCES.
        lab.set_faults(|point| point.function == "MmMapLockedPagesSpecifyCache");
        Ok((lab, driver))
    };
    let report = lab::demo::run_with(load, &options, &mut Silent).unwrap();
    assert!(!report.passed);
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    assert!(report.failures[0].contains("the send ended with 0xc000009a"), "{:?}", report.failures);
    assert!(report.census.is_empty() && report.violations.is_empty());
}

/// A pcap file of raw IP packets.
fn raw_pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0];
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        file.extend([[0; 4], [0; 4], length, length].as_flattened());
        file.extend(packet);
    }
    file
}

/// A sealed IPv4 packet of any protocol.
fn packet(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = etherparse::Ipv4Header::new(
        u16::try_from(payload.len()).unwrap(),
        64,
        etherparse::IpNumber(protocol),
        source,
        destination,
    );
    let mut header = header.unwrap();
    header.header_checksum = header.calc_header_checksum();
    [header.to_bytes().as_slice(), payload].concat()
}

#[test]
fn odd_captures_are_carried_too() {
    let folder = folder("odd");
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let bytes = |length: usize| (0..length).map(|i| u8::try_from(i * 7 % 256).unwrap()).collect::<Vec<_>>();
    let mut packets: Vec<_> = (0..70).map(|length| packet(a, b, 253, &bytes(length))).collect();
    packets.push(packet([127, 0, 0, 1], [127, 0, 0, 1], 17, &bytes(40))); // a host with itself
    packets.push(packet(b, a, 132, &[0; 900])); // zeros: nothing may shine through
    packets.push(packet(a, b, 6, &bytes(8946))); // 9000 bytes with ESP
    packets.push(packet(a, b, 6, &bytes(8947))); // one more
    let input = folder.join("odd.pcap");
    std::fs::write(&input, raw_pcap(&packets)).unwrap();
    let mut options = options(DriverSource::Native, &folder);
    options.input = Some(input);
    let report = run(&options);
    assert_eq!(report.traffic.delivered, packets.len() as u64 - 1);
    assert_eq!(report.not_carried.values().sum::<u64>(), 1);
    assert_eq!(report.associations.len(), 4);
}

#[test]
fn more_address_pairs_than_the_smallest_table_are_carried() {
    let folder = folder("pairs");
    let packets: Vec<_> = (0..200)
        .map(|i| packet([10, 0, 1, i], [10, 0, 2, i / 2], 17, b"who will carry all of us?"))
        .collect();
    let input = folder.join("pairs.pcap");
    std::fs::write(&input, raw_pcap(&packets)).unwrap();
    let mut options = options(DriverSource::Native, &folder);
    options.input = Some(input);
    let report = run(&options);
    assert_eq!((report.traffic.delivered, report.associations.len()), (200, 400));
}
