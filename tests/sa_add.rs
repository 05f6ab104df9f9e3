//! ADD_SA and ADD_SA_EX: what is accepted, what is refused, and that both are what is advertised.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::net::{IpAddr, Ipv4Addr};

use control::{
    AUTH_FAILED, CAPACITY, CRYPTO_DONE, Flow, add, delete, ip, receive, refuses, slot_1, status, table,
};
use ipsecnic::dump::{Entry, Summary};
use ndis_lab::ipsec_v2::{AddSaList, Algorithm, Association, DeleteSaList, Operation, SaParameters};
use ndis_lab::{Adapter, AdapterConfig, Oid, SendNbl};
use ndis_sys::{
    IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128 as GMAC_128, IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1 as SHA_1,
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_128 as CBC_128, IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128 as GCM_128,
    IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192 as GCM_192, IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256 as GCM_256,
    IPSEC_OFFLOAD_V2_ENCRYPTION_NONE as NONE, NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_RESOURCES,
    NDIS_STATUS_SUCCESS,
};

fn algorithm(id: u32, key: usize) -> Algorithm {
    Algorithm { id, key: vec![0x5A; key], additional_info: 0 }
}

/// An outbound SA of station 1 with this header.
fn outbound(association: Association) -> SaParameters {
    SaParameters::new(false, ip(1).into(), ip(2).into(), association)
}

fn esp(spi: u32, encryption: Algorithm, authentication: Option<Algorithm>) -> Association {
    Association { operation: Operation::Esp, spi, esn: None, authentication, encryption: Some(encryption) }
}

fn ah(spi: u32, authentication: Algorithm) -> Association {
    Association {
        operation: Operation::Ah,
        spi,
        esn: None,
        authentication: Some(authentication),
        encryption: None,
    }
}

/// Accepted and deleted again, or refused with INVALID_PARAMETER.
fn accepted(adapter: &Adapter, sa: &SaParameters) -> bool {
    let (outcome, handle) = adapter.add_sa_ex(sa).expect("ADD_SA_EX");
    let expected = if handle.is_some() { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_INVALID_PARAMETER };
    assert_eq!(status(outcome.status), status(expected));
    if let Some(handle) = handle {
        delete(adapter, &[handle]);
    }
    handle.is_some()
}

on_both! {
    /// Every encryption with every key length and every authentication, ESP and AH: accepted if and only if the
    /// capabilities have it and the key fits.
    fn every_algorithm_is_accepted_as_advertised(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let advertised = adapter.attributes().offload.expect("offload attributes").default.IPsecV2;
        assert_eq!(advertised.EncryptionAlgorithms, GCM_128 | GCM_192 | GCM_256);
        assert_eq!((advertised.Esp, advertised.Ah, advertised.AuthenticationAlgorithms), (1, 0, 0));
        let keys = [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40];
        let mut taken = Vec::new();
        for encryption in (0..10).map(|bit| 1 << bit).chain([0, 3, GCM_128 | GCM_256, u32::MAX]) {
            for key in keys {
                for authentication in [0, 1, 2, 4, 8, 0x10, 0x20, 0x40] {
                    let second = (authentication != 0).then(|| algorithm(authentication, 20));
                    let sa = outbound(esp(1, algorithm(encryption, key), second));
                    if accepted(&adapter, &sa) {
                        assert_ne!(advertised.EncryptionAlgorithms & encryption, 0);
                        taken.push((encryption, key, authentication));
                    }
                }
            }
        }
        let expected: Vec<_> = [(GCM_128, 20), (GCM_192, 28), (GCM_256, 36)]
            .into_iter()
            // The authentication algorithm of a combined mode is to be ignored.
            .flat_map(|(id, key)| [0, 1, 2, 4, 8, 0x10, 0x20, 0x40].map(|other| (id, key, other)))
            .collect();
        assert_eq!(taken, expected);
        for id in (0..8).map(|bit| 1 << bit) {
            for key in keys {
                assert!(!accepted(&adapter, &outbound(ah(1, algorithm(id, key)))), "AH {id:#x}, {key}");
            }
        }
        let (summary, entries) = table(&adapter);
        assert_eq!((summary.added, summary.deleted, entries.len()), (taken.len() as u64, taken.len() as u64, 0));
    }

    /// Every encryption with every key length, ICV length and place in the blob, and every second header with it: what is taken
    /// is what the capabilities say, each by itself.
    fn the_whole_matrix(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let advertised = adapter.attributes().offload.expect("offload attributes").default.IPsecV2.EncryptionAlgorithms;
        let ids = (0..12).map(|bit| 1_u32 << bit).chain([0, GCM_128 | NONE, u32::MAX]);
        let mut taken = 0;
        for id in ids {
            for key in (0..=40).step_by(2).chain([15, 17, 19, 21, 27, 29, 35, 37, 1000]) {
                for additional_info in [0, 1, 8, 12, 15, 16, 17, 96, 128, 160, u32::MAX] {
                    let encryption = Algorithm { additional_info, ..algorithm(id, key) };
                    let sa = outbound(esp(1, encryption, None));
                    let bytes = match id {
                        GCM_128 => 20,
                        GCM_192 => 28,
                        GCM_256 => 36,
                        _ => 0,
                    };
                    let expected = advertised & id == id && key == bytes && [0, 16, 128].contains(&additional_info) && id != 0;
                    assert_eq!(accepted(&adapter, &sa), expected, "{id:#x}, {key} bytes, ICV {additional_info}");
                    taken += u64::from(expected);
                }
            }
        }
        assert_eq!(taken, 9, "three keys, three ways to say 16 bytes");
        // With a second header nothing is taken, whatever the two are.
        let gcm = |spi| esp(spi, algorithm(GCM_256, 36), None);
        for id in (0..6).map(|bit| 1 << bit) {
            for key in [16, 20, 28, 32, 36] {
                for (first, second) in [
                    (gcm(1), ah(2, algorithm(id, key))),
                    (ah(2, algorithm(id, key)), gcm(1)),
                    (esp(1, algorithm(NONE, 0), Some(algorithm(id, key))), ah(2, algorithm(id, key))),
                    (esp(1, algorithm(CBC_128, 16), Some(algorithm(id, key))), ah(2, algorithm(id, key))),
                ] {
                    let mut sa = outbound(first);
                    sa.associations.push(second);
                    for inbound in [false, true] {
                        sa.inbound = inbound;
                        assert!(!accepted(&adapter, &sa), "two headers, {id:#x}, {key}");
                    }
                }
            }
        }
        let (summary, entries) = table(&adapter);
        assert_eq!((summary.added, summary.deleted, entries.len()), (taken, taken, 0));
    }

    fn only_the_whole_icv(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        for additional_info in (0..=256).chain([u32::MAX]) {
            let sa = outbound(esp(1, Algorithm { additional_info, ..algorithm(GCM_128, 20) }, None));
            assert_eq!(accepted(&adapter, &sa), [0, 16, 128].contains(&additional_info), "{additional_info}");
        }
    }

    /// Garbage where a combined mode has no authentication: a key length and an offset that lead out of the blob.
    fn what_is_to_be_ignored_is_ignored(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let mut buffer = outbound(esp(1, algorithm(GCM_128, 20), None)).add_sa_ex();
        let authentication = std::mem::offset_of!(ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA_EX, SecAssoc) + 12;
        buffer[authentication..authentication + 16].fill(0xFF);
        let outcome = adapter
            .oid(Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer).direct())
            .unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        assert!(ndis_lab::ipsec_v2::handle_of_add_sa_ex(&outcome.buffer).is_some());
    }

    /// What the engine does not do is refused; nothing is accepted and then dropped.
    fn what_is_not_there_is_refused(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let gcm = |spi| esp(spi, algorithm(GCM_128, 20), None);
        let sound = outbound(gcm(1));
        assert!(accepted(&adapter, &sound));
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let with = |change: fn(&mut SaParameters)| {
            let mut sa = sound.clone();
            change(&mut sa);
            sa
        };
        let refused = [
            ("SPI 0", outbound(gcm(0))),
            ("IPv6", SaParameters::new(false, v6, v6, gcm(1))),
            ("IPv6 inbound", SaParameters::new(true, v6, v6, gcm(1))),
            ("AH", outbound(ah(1, algorithm(GMAC_128, 20)))),
            ("GMAC", outbound(esp(1, algorithm(NONE, 0), Some(algorithm(GMAC_128, 20))))),
            ("NULL with SHA-1", outbound(esp(1, algorithm(NONE, 0), Some(algorithm(SHA_1, 20))))),
            ("CBC with SHA-1", outbound(esp(1, algorithm(CBC_128, 16), Some(algorithm(SHA_1, 20))))),
            ("CBC alone", outbound(esp(1, algorithm(CBC_128, 16), None))),
            ("nothing at all", outbound(esp(1, algorithm(NONE, 0), None))),
            ("UDP-ESP transport", with(|sa| sa.udp_esp = 1)),
            ("UDP-ESP tunnel", with(|sa| sa.udp_esp = 2)),
            ("transport over a UDP-ESP tunnel", with(|sa| sa.udp_esp = 4)),
            ("UDP-ESP transport over a tunnel", with(|sa| sa.udp_esp = 8)),
            ("no encapsulation type", with(|sa| sa.udp_esp = 3)),
            ("no encapsulation type", with(|sa| sa.udp_esp = 16)),
            ("no header", with(|sa| sa.associations.clear())),
            ("ESP and AH", with(|sa| sa.associations.push(ah(2, algorithm(GMAC_128, 20))))),
            ("ESP twice", with(|sa| sa.associations.push(sa.associations[0].clone()))),
            ("AH and ESP", with(|sa| sa.associations.insert(0, ah(2, algorithm(GMAC_128, 20))))),
            ("AH that encrypts", {
                let encryption = Some(algorithm(GCM_128, 20));
                outbound(Association { encryption, ..ah(1, algorithm(GMAC_128, 20)) })
            }),
        ];
        for (what, sa) in refused {
            assert!(!accepted(&adapter, &sa), "{what}");
        }
        assert_eq!(table(&adapter).0.added, 1);
    }

    /// Zero addresses are wildcards, and the SA for the destination goes before the one for any.
    fn wildcards(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        for (source, destination) in [(any, ip(2).into()), (ip(1).into(), any), (any, any)] {
            let mut flow = Flow::new(1, 2, 0x1000);
            flow.handle = add(&a, &SaParameters { source, destination, ..flow.parameters(false) });
            flow.inbound = add(&b, &SaParameters { source, destination, ..flow.parameters(true) });
            flow.works(&a, &b);
            delete(&a, &[flow.handle]);
            delete(&b, &[flow.inbound]);
        }
        // Another sender's packets are not those of an SA with a source.
        let mut flow = Flow::new(1, 2, 0x1000);
        flow.handle = add(&a, &flow.parameters(false));
        let other = SaParameters { source: ip(9).into(), ..flow.parameters(true) };
        let exact = add(&b, &other);
        assert_eq!(slot_1(&flow.carry(&a, &b)), 0);
        // One for any destination takes what the first does not.
        flow.inbound = add(&b, &SaParameters { source: any, destination: any, ..flow.parameters(true) });
        flow.works(&a, &b);
        // With another key the SA for this very destination is found, and fails.
        delete(&b, &[exact]);
        let mut wrong = flow.clone();
        wrong.key[0] ^= 1;
        let exact = add(&b, &wrong.parameters(true));
        assert_eq!(slot_1(&flow.carry(&a, &b)), AUTH_FAILED);
        delete(&b, &[exact]);
        flow.works(&a, &b);
    }

    /// An inbound SA protects no packet, though it has the very addresses, SPI and key; nor is an outbound one found by what comes in.
    fn each_direction_by_itself(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x1800);
        flow.handle = add(&a, &flow.parameters(true));
        flow.is_refused(&a, &b);
        assert_eq!(table(&a).1[0].packets, 0);
        delete(&a, &[flow.handle]);
        flow.handle = add(&a, &flow.parameters(false));
        let outbound = add(&b, &flow.parameters(false));
        assert_eq!(slot_1(&flow.carry(&a, &b)), 0, "as it came");
        delete(&b, &[outbound]);
        flow.inbound = add(&b, &flow.parameters(true));
        flow.works(&a, &b);
    }

    /// An inbound SA with the SPI and destination of another is refused, and the first one stays as it was.
    fn duplicates(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x2000).add(&a, &b);
        refuses(&b, &flow.parameters(true), NDIS_STATUS_INVALID_PARAMETER);
        let mut other = flow.clone();
        other.key = [7; 20];
        other.from = 9;
        refuses(&b, &other.parameters(true), NDIS_STATUS_INVALID_PARAMETER);
        flow.works(&a, &b);
        // Another destination, another SPI, the other direction: nothing of that is a duplicate.
        let elsewhere = SaParameters { destination: ip(77).into(), ..flow.parameters(true) };
        let more = [
            add(&b, &elsewhere),
            add(&b, &Flow::new(1, 2, 0x2001).parameters(true)),
            add(&b, &flow.parameters(false)),
            add(&b, &flow.parameters(false)),
        ];
        flow.works(&a, &b);
        delete(&b, &more);
        // What was deleted may come again at once.
        delete(&b, &[flow.inbound]);
        let again = add(&b, &flow.parameters(true));
        assert_ne!(again, flow.inbound);
        flow.works(&a, &b);
    }

    fn a_list_succeeds_if_any_of_it_does(bench) {
        let adapter = bench.adapter(AdapterConfig::new().keyword("SaOffloadCapacity", "3"));
        let good = |spi| outbound(esp(spi, algorithm(GCM_128, 20), None));
        let bad = outbound(esp(0, algorithm(GCM_128, 20), None));
        let (outcome, handles) = adapter.add_sa_list(&[bad.clone(), good(1), bad.clone(), good(2)]).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        assert_eq!(handles.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
        let (outcome, handles) = adapter.add_sa_list(&[bad.clone(), bad]).unwrap();
        assert_eq!((status(outcome.status), handles), (status(NDIS_STATUS_INVALID_PARAMETER), vec![None; 2]));
        // One slot is left for these three.
        let (outcome, handles) = adapter.add_sa_list(&[good(3), good(4), good(5)]).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        assert_eq!(handles.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
        let (outcome, handles) = adapter.add_sa_list(&[good(6)]).unwrap();
        assert_eq!((status(outcome.status), handles), (status(NDIS_STATUS_RESOURCES), vec![None]));
    }

    fn capacity_and_handles(bench) {
        let adapter = bench.adapter(AdapterConfig::new().keyword("SaOffloadCapacity", "5"));
        let advertised = adapter.attributes().offload.unwrap().default.IPsecV2.SaOffloadCapacity;
        assert_eq!(advertised, 5);
        let sa = |spi| outbound(esp(spi, algorithm(GCM_256, 36), None));
        let mut handles: Vec<_> = (1..=5).map(|spi| add(&adapter, &sa(spi))).collect();
        let mut seen = handles.clone();
        for round in 6..50 {
            refuses(&adapter, &sa(round), NDIS_STATUS_RESOURCES);
            let index = round as usize % 5;
            delete(&adapter, &[handles[index]]);
            handles[index] = add(&adapter, &sa(round));
            assert!(!seen.contains(&handles[index]), "handle {:#x} comes twice", handles[index]);
            seen.push(handles[index]);
        }
    }

    /// Flags that nobody knows are refused; what is reserved, and the second header of one, nobody reads.
    fn flags_and_what_is_not_read(bench) {
        use std::mem::offset_of;
        use ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA_EX as Ex;
        let adapter = bench.adapter(AdapterConfig::new());
        let sound = outbound(esp(1, algorithm(GCM_128, 20), None)).add_sa_ex();
        let with = |at: usize, bytes: &[u8]| {
            let mut buffer = sound.clone();
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
            let request = Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer).direct();
            let outcome = adapter.oid(request).unwrap();
            let handle = ndis_lab::ipsec_v2::handle_of_add_sa_ex(&outcome.buffer);
            assert_eq!(handle.is_some(), outcome.status == NDIS_STATUS_SUCCESS);
            if let Some(handle) = handle {
                delete(&adapter, &[handle]);
            }
            status(outcome.status)
        };
        let (taken, refused) = (status(NDIS_STATUS_SUCCESS), status(NDIS_STATUS_INVALID_PARAMETER));
        for bit in 0..32 {
            let flag = 1_u32 << bit;
            // Inbound, IPv6, and nothing else; IPv6 is not among the capabilities.
            let expected = if flag == 1 { &taken } else { &refused };
            assert_eq!(with(offset_of!(Ex, Flags), &flag.to_le_bytes()), *expected, "flag {flag:#x}");
            // Extended sequence numbers.
            assert_eq!(with(offset_of!(Ex, SecAssoc), &flag.to_le_bytes()), *expected, "SA flag {flag:#x}");
        }
        assert_eq!(with(offset_of!(Ex, SecAssoc) + 48, &[0xFF; 48]), taken, "the second of one header");
        assert_eq!(with(offset_of!(Ex, SourceSwitchPortId), &[0xFF; 4]), taken);
        assert_eq!(with(offset_of!(Ex, VlanId), &[0xFF; 2]), taken);
        assert_eq!(with(offset_of!(Ex, OffloadHandle), &[0xFF; 8]), taken, "it is an output");
        let both = [0xFF; 32];
        let mut buffer = sound.clone();
        buffer[offset_of!(Ex, Flags)] = 0x10;
        buffer[offset_of!(Ex, Endpoints)..offset_of!(Ex, Endpoints) + 32].copy_from_slice(&both);
        let outcome = adapter.oid(Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer).direct());
        assert_eq!(status(outcome.unwrap().status), refused, "IPv6");
    }

    /// Where the key lies: behind the structure, anywhere, at any alignment; and nowhere else.
    fn key_offsets(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let (at_length, at_offset) = (
            std::mem::offset_of!(ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyLength),
            std::mem::offset_of!(ndis_sys::IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyOffset),
        );
        let sound = outbound(esp(1, algorithm(GCM_128, 20), None)).add_sa_ex();
        for (offset, length, room, good) in [
            (170_u32, 20_u32, 190_usize, true),
            (171, 20, 191, true),
            (176, 20, 196, true),
            (1000, 20, 1020, true),
            (169, 20, 196, false),
            (0, 20, 196, false),
            (164, 20, 196, false),
            (177, 20, 196, false),
            (196, 20, 196, false),
            (u32::MAX, 20, 196, false),
            (u32::MAX - 19, 20, 196, false),
            (176, u32::MAX, 196, false),
            (176, u32::MAX - 175, 196, false),
            // More than the algorithm needs is as good; less is not, and too much for anybody is not.
            (170, 1024, 1194, true),
            (170, 1025, 1195, false),
            (176, 19, 196, false),
            (176, 0, 196, false),
            (196, 0, 196, false),
        ] {
            let mut buffer = sound.clone();
            buffer.resize(room, 0x33);
            buffer[at_length..at_length + 4].copy_from_slice(&length.to_le_bytes());
            buffer[at_offset..at_offset + 4].copy_from_slice(&offset.to_le_bytes());
            let request = Oid::set(ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer).direct();
            let outcome = adapter.oid(request).unwrap();
            assert_eq!(outcome.status == NDIS_STATUS_SUCCESS, good, "{offset}, {length} in {room}");
            let handle = ndis_lab::ipsec_v2::handle_of_add_sa_ex(&outcome.buffer);
            assert_eq!(handle.is_some(), good);
            if let Some(handle) = handle {
                delete(&adapter, &[handle]);
            }
        }
    }

    /// Headers of the elements of a list: later revisions and longer structures are read as the one that is known.
    fn headers_of_a_list(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let header = |kind, revision, size| ndis_sys::NDIS_OBJECT_HEADER { Type: kind, Revision: revision, Size: size };
        let sas = || AddSaList::new(&[1, 2].map(|spi| outbound(esp(spi, algorithm(GCM_128, 20), None)))).unwrap();
        for (element, header, good) in [
            (0, header(0x80, 1, 169), true),
            (0, header(0x80, 1, 176), true),
            (0, header(0x80, 2, 180), true),
            (0, header(0x80, 255, 188), true),
            (0, header(0x80, 1, 189), false),
            (0, header(0x80, 1, 168), false),
            (0, header(0x80, 0, 176), false),
            (0, header(0x81, 1, 176), false),
            (1, header(0x80, 7, 400), true),
            (1, header(0x80, 1, 24), false),
            (1, header(0x80, 0, 176), false),
            (1, header(0, 1, 176), false),
        ] {
            let shown = format!("element {element}: {header:?}");
            let list = sas().with_header(element, header);
            let outcome = adapter.oid(list.request()).unwrap();
            assert_eq!(outcome.status == NDIS_STATUS_SUCCESS, good, "{shown}");
            let handles: Vec<_> = list.handles().into_iter().flatten().collect();
            // All or, of a list that is none, nothing.
            assert_eq!(handles.len(), if good { 2 } else { 0 }, "{shown}");
            if good {
                assert_eq!((outcome.bytes_read, outcome.supported_revision), (169, 1));
                delete(&adapter, &handles);
            }
        }
    }

    /// Of two inbound SAs of one list that no packet could tell apart the first is added.
    fn duplicates_in_one_list(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x2100);
        let other = Flow { key: [9; 20], ..flow.clone() };
        flow.handle = add(&a, &flow.parameters(false));
        let (outcome, handles) =
            b.add_sa_list(&[flow.parameters(true), other.parameters(true), flow.parameters(true)]).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        assert_eq!(handles.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
        flow.works(&a, &b);
        assert_eq!((table(&b).0.added, table(&b).0.refused), (1, 2));
        // A cycle over good elements, wherever it leads back to, adds nothing.
        let sas: Vec<_> = (0..4).map(|n| Flow::new(1, 2, 0x2200 + n).parameters(true)).collect();
        for entry in 0..4 {
            let list = AddSaList::new(&sas).unwrap().with_link(3, entry);
            let outcome = b.oid(list.request()).unwrap();
            assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER));
            assert_eq!(list.handles(), [None; 4]);
        }
        // Misaligned elements, and no element at all behind a good one.
        for off in 1..8 {
            let list = AddSaList::new(&sas).unwrap();
            let next = (list.address(2) + off).to_le_bytes();
            let list = list.with_bytes(1, 8, &next);
            let outcome = b.oid(list.request()).unwrap();
            assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER), "{off}");
        }
        assert_eq!(table(&b).0.added, 1);
    }

    /// Elements that share memory: the NULL for the handle of one is the link of another.
    fn elements_may_overlap(bench) {
        let adapter = bench.adapter(AdapterConfig::new());
        let sas = [1, 2, 3, 4].map(|spi| outbound(esp(spi, algorithm(GCM_128, 20), None)));
        // 48 bytes before the third element, in the second, begins another one, whose handle is the third one's link.
        let list = AddSaList::new(&sas).unwrap();
        let (third, fourth) = (list.address(2), list.address(3));
        let at = third - 48 - list.address(1);
        let list = list
            .with_link(0, 2)
            .with_bytes(1, at, &[0x80, 1, 176, 0])
            .with_bytes(1, at + 8, &fourth.to_le_bytes())
            .with_bytes(2, 8, &(third - 48).to_le_bytes());
        let outcome = adapter.oid(list.request()).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS), "the first one is good");
        let (summary, entries) = table(&adapter);
        assert_eq!(summary.added, entries.len() as u64);
        assert!(entries.iter().any(|entry| entry.spi == 1));
    }

    /// Each allocation of an addition, and of a dump, fails once: RESOURCES, no handle, nothing kept.
    fn without_memory(bench) {
        let adapter = bench.adapter(AdapterConfig::new().keyword("SaOffloadCapacity", "8"));
        let sa = outbound(esp(1, algorithm(GCM_256, 36), None));
        let mut failures = 0;
        loop {
            bench.lab.fail_after(failures);
            let (outcome, handle) = adapter.add_sa_ex(&sa).unwrap();
            bench.lab.clear_faults();
            if let Some(handle) = handle {
                delete(&adapter, &[handle]);
                break;
            }
            assert_eq!(status(outcome.status), status(NDIS_STATUS_RESOURCES));
            assert_eq!((table(&adapter).0.added, table(&adapter).0.waiting), (0, 0));
            failures += 1;
        }
        assert!(failures >= 1, "an SA takes memory");
        // A list whose second element finds no memory.
        bench.lab.fail_after(failures);
        let (outcome, handles) = adapter.add_sa_list(&[sa.clone(), sa.clone(), sa]).unwrap();
        bench.lab.clear_faults();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        assert_eq!(handles.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        bench.lab.fail_after(0);
        let outcome = adapter.oid(Oid::query(ipsecnic::dump::OID_IPSECNIC_SA_TABLE, 4096)).unwrap();
        bench.lab.clear_faults();
        assert_eq!((status(outcome.status), outcome.bytes_written), (status(NDIS_STATUS_RESOURCES), 0));
        assert_eq!(table(&adapter).1.len(), 2);
    }

    /// The four OIDs on the regular path, as sets and as methods.
    fn the_regular_path(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let regular = |mut oid: Oid| {
            oid.direct = false;
            oid
        };
        let list = AddSaList::new(&[Flow::new(1, 2, 0x3000).parameters(false)]).unwrap();
        let outcome = a.oid(regular(list.request())).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        let mut flow = Flow::new(1, 2, 0x3000);
        flow.handle = list.handles()[0].expect("a handle");
        let list = AddSaList::new(&[flow.parameters(true)]).unwrap();
        let outcome = b.oid(regular(list.request().as_method())).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
        flow.inbound = list.handles()[0].expect("a handle");
        flow.works(&a, &b);
        let update = ndis_lab::ipsec_v2::update_sa(flow.handle, Operation::Esp, flow.spi, 1);
        let outcome = a.oid(regular(update)).unwrap();
        assert_eq!(status(outcome.status), status(NDIS_STATUS_INVALID_PARAMETER), "no ESN");
        let request = DeleteSaList::new(&[flow.handle]).unwrap().request();
        let outcome = a.oid(regular(request)).unwrap();
        assert_eq!((status(outcome.status), outcome.bytes_read), (status(NDIS_STATUS_SUCCESS), 24));
        flow.is_refused(&a, &b);
    }

    /// The dump says it all, and nothing else.
    fn the_table_exactly(bench) {
        let (a, b) = (bench.station(1), bench.station(2));
        let mut flow = Flow::new(1, 2, 0x4000).extended(9).add(&a, &b);
        let gone = add(&b, &Flow::new(1, 2, 0x4001).parameters(true));
        let mut gcm256 = Flow::new(2, 1, 0x4002).parameters(false);
        gcm256.source = Ipv4Addr::UNSPECIFIED.into();
        gcm256.associations = vec![esp(0x4002, algorithm(GCM_256, 36), None)];
        let other = add(&b, &gcm256);
        delete(&b, &[gone, gone, 0, 0xDEAD]);
        refuses(&b, &flow.parameters(true), NDIS_STATUS_INVALID_PARAMETER);
        flow.works(&a, &b);
        flow.works(&a, &b);
        // One that is damaged on its way, from a third station.
        let third = bench.station(3);
        let frame = flow.clear(b"damaged");
        let mut sealed = flow.seal(frame);
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        third.send(&[SendNbl::frame(sealed)]).unwrap();
        assert_eq!(slot_1(&receive(&b)), AUTH_FAILED);

        let (summary, entries) = table(&b);
        assert_eq!(
            summary,
            Summary {
                entries: 2,
                capacity: CAPACITY,
                added: 3,
                deleted: 1,
                refused: 1,
                skipped: 3,
                waiting: 0,
                resets: 0,
                wedged: false,
                transmits: true,
                receives: true,
                asks_to_delete: false,
            }
        );
        let octets = |payload: usize| ((payload + 2).next_multiple_of(4) + 8 + 8 + 16) as u64;
        let entry = |handle: usize| Entry {
            handle: handle as u64,
            generation: sa_table::Handle::from_raw(handle).unwrap().generation() as u64,
            slot: sa_table::Handle::from_raw(handle).unwrap().index(),
            inbound: true,
            loaded: true,
            spi: 0x4000,
            protocol: 50,
            encryption: GCM_128,
            authentication: 0,
            sequence_high: Some(9),
            source: ip(1).into(),
            destination: ip(2).into(),
            packets: 2,
            octets: 2 * octets(b"a packet of the flow".len()),
            errors: 1,
        };
        let mut expected = vec![
            entry(flow.inbound),
            Entry {
                inbound: false,
                spi: 0x4002,
                encryption: GCM_256,
                sequence_high: None,
                source: Ipv4Addr::UNSPECIFIED.into(),
                destination: ip(1).into(),
                packets: 0,
                octets: 0,
                errors: 0,
                ..entry(other)
            },
        ];
        expected.sort_by_key(|entry| entry.slot);
        assert_eq!(entries, expected);
        // The sender counted the same packets.
        let (_, entries) = table(&a);
        let sent = Entry { inbound: false, errors: 0, ..entry(flow.handle) };
        assert_eq!(entries, [sent]);
        // A buffer too short is told what it takes, and left alone (the lab sees to that).
        let needed = ipsecnic::dump::SUMMARY_LEN + 2 * ipsecnic::dump::ENTRY_LEN;
        for room in [0, 1, ipsecnic::dump::SUMMARY_LEN, needed - 1] {
            let outcome = b.oid(Oid::query(ipsecnic::dump::OID_IPSECNIC_SA_TABLE, room)).unwrap();
            assert_eq!(outcome.status, ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT);
            assert_eq!((outcome.bytes_needed as usize, outcome.bytes_written), (needed, 0));
        }
        let outcome = b.oid(Oid::query(ipsecnic::dump::OID_IPSECNIC_SA_TABLE, needed)).unwrap();
        assert_eq!(outcome.answer().len(), needed);
        assert!(!outcome.answer().windows(8).any(|bytes| flow.key.windows(8).any(|key| key == bytes)));
        assert_eq!(slot_1(&flow.carry(&a, &b)), CRYPTO_DONE);
    }
}
