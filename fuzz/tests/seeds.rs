//! Writes the seeds of the corpus: sound inputs, from which the fuzzer begins.
//! `cargo test -p ipsecnic-fuzz --test seeds -- --ignored`, after a change of what a target makes of its input.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

use std::fs;
use std::path::Path;

use ndis_lab::ipsec_v2::{Algorithm, Association, Operation, SaParameters};

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
}

fn gcm(spi: u32, inbound: bool, key: usize) -> SaParameters {
    let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let association = Association::esp_gcm(spi, &vec![7; key]);
    let (from, to) = if inbound { (b, a) } else { (a, b) };
    SaParameters::new(inbound, from.into(), to.into(), association)
}

/// An ADD_SA element, from the ADD_SA_EX structure, whose fields have the same order.
fn element(sa: &SaParameters) -> Vec<u8> {
    let ex = sa.add_sa_ex();
    let mut bytes = vec![0x80, 1, 176, 0, 0, 0, 0, 0];
    bytes.extend([0; 8]); // Next
    bytes.extend(&ex[4..44]); // NumExtHdrs, Flags, Endpoints
    bytes.extend([0; 8]); // OffloadHandle
    bytes.extend(&ex[56..160]); // UdpEspEncapsulation, SecAssoc, KeyLength
    bytes.extend(&ex[176..]); // the key
    bytes
}

fn chain(length: u8, place: impl Fn(u8) -> u16, next: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut bytes = vec![length - 1];
    for index in 0..length {
        if index > 0 {
            bytes.extend((place(index) / 8).to_le_bytes());
        }
        bytes.push(next(index));
    }
    bytes
}

#[test]
#[ignore = "writes files"]
fn write_the_seeds() {
    lists();
    settings();
    frames();
    parsers();
}

fn lists() {
    let cbc = Association {
        operation: Operation::Esp,
        spi: 9,
        esn: Some(1),
        authentication: Some(Algorithm { id: 2, key: vec![1; 20], additional_info: 0 }),
        encryption: Some(Algorithm { id: 0x40, key: vec![2; 16], additional_info: 0 }),
    };
    let ah = Association { operation: Operation::Ah, encryption: None, ..cbc.clone() };
    let mut bundle = gcm(3, true, 20);
    bundle.associations = vec![cbc.clone(), ah.clone()];
    let v6 = SaParameters::new(false, [1_u8; 16].into(), [2_u8; 16].into(), cbc);
    let sas = [gcm(1, false, 20), gcm(2, true, 36), gcm(4, true, 28), bundle, v6];
    for (number, sa) in sas.iter().enumerate() {
        write("add_sa_ex", &number.to_string(), [vec![0, 0], sa.add_sa_ex()].concat());
        let one = [vec![0, 20], chain(1, |_| 0, |_| 1), element(sa)].concat();
        write("add_sa", &format!("one-{number}"), one);
    }
    // Three in a row, 256 bytes apart; in a cycle; overlapping by 48 bytes, which is where a handle is the next link.
    let mut memory = vec![0; 1024];
    for (number, sa) in sas.iter().take(3).enumerate() {
        let bytes = element(sa);
        memory[number * 256..number * 256 + bytes.len()].copy_from_slice(&bytes);
    }
    let apart = |index: u8| u16::from(index) * 256;
    write("add_sa", "three", [vec![0, 20], chain(3, apart, |index| index + 1), memory.clone()].concat());
    let cycle = chain(3, apart, |index| (index + 1) % 3);
    write("add_sa", "cycle", [vec![4, 20], cycle, memory.clone()].concat());
    let mut overlapping = memory.clone();
    overlapping[208..212].copy_from_slice(&[0x80, 1, 176, 0]);
    let places = |index: u8| [0, 256, 208][usize::from(index)];
    write("add_sa", "overlap", [vec![2, 20], chain(3, places, |index| index + 1), overlapping].concat());
    let mut deletions = vec![0; 256];
    for number in 0..4 {
        deletions[number * 32..number * 32 + 4].copy_from_slice(&[0x80, 1, 24, 0]);
    }
    let apart = |index: u8| u16::from(index) * 32;
    for (name, next, ours) in [
        ("four", [1, 2, 3, 4], 0xE4_0F_u32),
        ("repeated", [1, 2, 3, 4], 0x0F),
        ("unknown", [1, 2, 3, 4], 0),
        ("cycle", [1, 2, 3, 0], 0xE4_0F),
        ("misaligned", [1, 0xF4, 3, 4], 0xE4_0F),
    ] {
        let links = chain(4, apart, |index| next[usize::from(index)]);
        write("delete_sa", name, [vec![0], ours.to_le_bytes().to_vec(), links, deletions.clone()].concat());
    }
}

fn settings() {
    for (name, ours, operation, spi) in [("sound", 0, 2, 1_u32), ("no-esn", 1, 2, 2), ("ah", 0, 1, 1)] {
        let mut update = vec![0x80, 1, 28, 0, 0, 0, 0, 0];
        update.extend([0; 8]);
        update.extend([operation, 0, 0, 0]);
        update.extend(spi.to_be_bytes());
        update.extend(77_u32.to_le_bytes());
        write("update_sa", name, [vec![0, ours, 0], update].concat());
    }
    for (revision, size) in [(1, 20), (2, 22), (3, 26), (5, 32)] {
        let mut parameters = vec![0x80, revision, size, 0];
        parameters.resize(size.into(), 0);
        write("offload_parameters", &format!("nothing-{revision}"), &parameters);
        if let Some(ipsec) = parameters.get_mut(21) {
            *ipsec = 1;
            write("offload_parameters", &format!("off-{revision}"), &parameters);
        }
    }
    for switch in 0..3_u32 {
        let mut encapsulation = vec![0xA8, 1, 28, 0];
        encapsulation.extend([switch, 2, 14, switch, 2, 14].iter().flat_map(|word| word.to_le_bytes()));
        write("offload_encapsulation", &switch.to_string(), &encapsulation);
    }
    for oid in 0..40_u8 {
        // A query, and a set of four bytes.
        write("oids", &oid.to_string(), [oid, 0, 0, 0, 32, oid, 1, 0, 4, 0, 1, 0, 0, 0]);
    }
}

/// The ESP part of a packet behind SPI and sequence number: IV, payload, trailer, room for the ICV.
fn payload(len: usize) -> Vec<u8> {
    let mut esp = vec![1; 8];
    esp.resize(8 + len, 0x33);
    esp.extend([1, 2, 2, 17]);
    esp.resize(esp.len() + 16, 0);
    esp
}

fn frames() {
    let word = 5_u32 << 24 | 2 << 8 | 0x11;
    for (name, shape, which, rest) in [
        ("plain", 0, 0, vec![0x88, 0xB5, 1, 2, 3]),
        ("ip", 3, 0, vec![9; 40]),
        ("esp", 7, 4, payload(20)),
        ("esp-extended", 7, 5, payload(100)),
        ("tagged", 0, 0, vec![0x81, 0, 0x20, 1, 8, 0, 0x45, 0]),
    ] {
        let len = u16::try_from(rest.len()).unwrap().to_le_bytes();
        let received = [&[shape, which][..], &len, &word.to_le_bytes(), &rest].concat();
        write("received_frames", name, &received);
        let handle = [0, 3, 4][usize::from(which.saturating_sub(3))];
        let sent = [&[shape, handle, 0][..], &len, &word.to_le_bytes(), &[0, 0], &rest].concat();
        write("sent_frames", name, &sent);
        let split =
            [&[shape, handle, 0x23 + 4][..], &len, &word.to_le_bytes(), &[10, 20, 30, 5, 9], &rest].concat();
        write("sent_frames", &format!("{name}-split"), &split);
    }
}

fn parsers() {
    let mut ip = vec![0x45, 0, 0, 60, 0, 0, 0, 0, 64, 50, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ip.extend(payload(12));
    write("ipsec_wire", "ip", &ip);
    write("ipsec_wire", "ethernet", [vec![2; 12], vec![8, 0], ip.clone()].concat());
    write("ipsec_wire", "esp", [vec![0x41, 1, 2, 3, 4, 0, 0, 0, 1], payload(32)].concat());
    let entry = ipsecnic::dump::Entry {
        handle: 1,
        generation: 2,
        slot: 3,
        inbound: true,
        loaded: true,
        spi: 4,
        protocol: 50,
        encryption: 8,
        authentication: 0,
        sequence_high: Some(5),
        source: [10, 0, 0, 1].into(),
        destination: [0_u8; 16].into(),
        packets: 6,
        octets: 7,
        errors: 8,
    };
    let summary = ipsecnic::dump::Summary { entries: 1, capacity: 4, ..Default::default() };
    write("dump", "empty", ipsecnic::dump::Summary::default().to_bytes());
    write("dump", "one", [summary.to_bytes().as_slice(), &entry.to_bytes()].concat());
    let mut pcap =
        vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 1, 0, 0, 0];
    let packet = [vec![2; 12], vec![8, 0], ip].concat();
    let len = u32::try_from(packet.len()).unwrap().to_le_bytes();
    pcap.extend([[0; 8].as_slice(), &len, &len, &packet].concat());
    write("capture", "pcap", &pcap);
    write("capture", "pcapng", &lab::input::DEFAULT_CAPTURE[..lab::input::DEFAULT_CAPTURE.len().min(2048)]);
    write("inf", "ipsecnic", include_bytes!("../../inf/ipsecnic.inx"));
    write("inf", "small", "[Version]\nSignature=\"$WINDOWS NT$\"\n[Strings]\na=\"b\"\n");
}
