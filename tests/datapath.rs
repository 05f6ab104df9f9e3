//! Plain frames: lengths and tags at the maximum, counters that lose nothing, and the OIDs beside them.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use control::{Bench, mac, status};
use ndis_lab::{Adapter, AdapterConfig, Oid, SendFrame, SendNbl};
use ndis_sys::{
    NDIS_STATISTICS_INFO, NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_DATA, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_SUCCESS, OID_802_3_MULTICAST_LIST, OID_GEN_STATISTICS, OID_PM_PARAMETERS,
};

/// The driver's maximum without jumbo frames, MAC header included.
const MAX_FRAME: usize = 1514;
const TAG: [u8; 4] = [0x81, 0x00, 0xA0, 0x07];

/// A frame of `len` bytes from station 1 to station 2, with an 802.1Q tag if `tagged`.
fn frame(len: usize, tagged: bool) -> Vec<u8> {
    let mut frame = [mac(2), mac(1)].concat();
    if tagged {
        frame.extend(TAG);
    }
    frame.extend([0x88, 0xB5]);
    frame.extend((frame.len()..len).map(|i| u8::try_from(i % 251).unwrap()));
    frame
}

fn send(adapter: &Adapter, list: SendNbl) -> String {
    status(adapter.send(&[list]).expect("a send")[0].status)
}

fn pair(bench: &Bench, jumbo: &str) -> (Adapter, Adapter) {
    (bench.station_with(1, AdapterConfig::new().keyword("*JumboPacket", jumbo)), bench.station(2))
}

/// ifHCOutUcastPkts, ifOutErrors, ifOutDiscards, ifHCInUcastPkts, ifInErrors.
fn counters(adapter: &Adapter) -> [u64; 5] {
    let answer = adapter.oid(Oid::query(OID_GEN_STATISTICS, size_of::<NDIS_STATISTICS_INFO>())).unwrap();
    let at = |offset: usize| u64::from_le_bytes(answer.answer()[offset..offset + 8].try_into().unwrap());
    [
        at(std::mem::offset_of!(NDIS_STATISTICS_INFO, ifHCOutUcastPkts)),
        at(std::mem::offset_of!(NDIS_STATISTICS_INFO, ifOutErrors)),
        at(std::mem::offset_of!(NDIS_STATISTICS_INFO, ifOutDiscards)),
        at(std::mem::offset_of!(NDIS_STATISTICS_INFO, ifHCInUcastPkts)),
        at(std::mem::offset_of!(NDIS_STATISTICS_INFO, ifInErrors)),
    ]
}

on_both! {
    /// Whoever sends while the DPC indicates keeps it going, but not for ever: it leaves the rest to another DPC.
    fn a_flood_from_another_processor_does_not_keep_a_dpc(bench) {
        /// Frames that arrive during each indication.
        const MEANWHILE: usize = 100;
        /// How many times.
        const TIMES: usize = 12;
        /// The NIC's buffers: no more are taken in one go.
        const BUFFERS: usize = 256;
        let (a, b) = pair(bench, "1514");
        let (ask, asked) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel::<()>();
        let flooding = a.clone();
        let flood = thread::spawn(move || {
            for () in asked {
                let lists: Vec<_> = (0..MEANWHILE).map(|_| SendNbl::frame(frame(60, false))).collect();
                flooding.send(&lists).expect("a send");
                tell.send(()).expect("the DPC waits");
            }
        });
        let link = Mutex::new((Some(ask), told, 0));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = calls.clone();
        bench.lab.on_call(move |call| {
            if call.handler != Some("KDEFERRED_ROUTINE") {
                return;
            }
            log.lock().unwrap().push(call.function);
            if call.function == "NdisMIndicateReceiveNetBufferLists" {
                let mut link = link.lock().unwrap();
                link.2 += 1;
                if link.2 > TIMES {
                    link.0 = None;
                }
                if let Some(ask) = &link.0 {
                    ask.send(()).expect("the other sends");
                    link.1.recv().expect("it has sent");
                }
            }
        });
        assert_eq!(send(&a, SendNbl::frame(frame(60, false))), status(NDIS_STATUS_SUCCESS));
        flood.join().expect("the flood ends");
        assert_eq!(b.take_received().len(), 1 + TIMES * MEANWHILE);
        let indications = |calls: &[&str]| {
            calls.iter().filter(|&&call| call == "NdisMIndicateReceiveNetBufferLists").count()
        };
        let calls = calls.lock().unwrap();
        assert_eq!(indications(&calls), 1 + TIMES);
        for one in calls.split(|&call| call == "KeInsertQueueDpc") {
            // The first had one frame.
            assert!(indications(one) <= 1 + BUFFERS.div_ceil(MEANWHILE), "{one:?}");
        }
    }

    /// 1514 bytes, and four more only for a tag that the frame brings; the tag is out-of-band at the other end.
    fn the_longest_frames_pass(bench) {
        let (a, b) = pair(bench, "1514");
        for (len, tagged, expected) in [
            (MAX_FRAME, false, NDIS_STATUS_SUCCESS),
            (MAX_FRAME + 1, false, NDIS_STATUS_INVALID_LENGTH),
            (MAX_FRAME + 4, false, NDIS_STATUS_INVALID_LENGTH),
            (MAX_FRAME + 4, true, NDIS_STATUS_SUCCESS),
            (MAX_FRAME + 5, true, NDIS_STATUS_INVALID_LENGTH),
            (13, false, NDIS_STATUS_INVALID_LENGTH),
        ] {
            let mut sent = frame(len, tagged);
            sent.truncate(len);
            assert_eq!(send(&a, SendNbl::frame(sent.clone())), status(expected), "{len} {tagged}");
            let received = b.take_received();
            if expected == NDIS_STATUS_SUCCESS {
                let slot = ndis_sys::Ieee8021QNetBufferListInfo as usize;
                let (tag, plain) = if tagged { (0x0075, [&sent[..12], &sent[16..]].concat()) } else { (0, sent) };
                assert_eq!((received.len(), received[0].oob[slot]), (1, tag));
                assert!(received[0].frame == plain, "{len} {tagged}");
            } else {
                assert!(received.is_empty());
            }
        }
    }

    /// What a station with longer frames sends is an error here, not an indication beyond the maximum.
    fn a_longer_frame_than_the_maximum_is_not_indicated(bench) {
        let (a, b) = pair(bench, "9014");
        for len in [MAX_FRAME + 1, MAX_FRAME + 4, MAX_FRAME + 5, 9014] {
            assert_eq!(send(&a, SendNbl::frame(frame(len, false))), status(NDIS_STATUS_SUCCESS));
            assert!(b.take_received().is_empty(), "{len}");
        }
        assert_eq!(counters(&b)[3..], [0, 4]);
        assert_eq!(send(&a, SendNbl::frame(frame(MAX_FRAME, false))), status(NDIS_STATUS_SUCCESS));
        assert_eq!((b.take_received().len(), counters(&b)[3]), (1, 1), "no buffer was lost");
    }

    /// Every frame of a list that fails is counted: those before the bad one as sent, it and those behind it as errors.
    fn a_failing_list_loses_no_frame_from_the_counters(bench) {
        let (a, b) = pair(bench, "1514");
        let part = |len| SendFrame { bytes: frame(len, false), ..SendFrame::default() };
        let list = SendNbl::frames([part(60), part(60), part(2000), part(60), part(60)]);
        assert_eq!(send(&a, list), status(NDIS_STATUS_INVALID_LENGTH));
        assert_eq!(b.take_received().len(), 2);
        assert_eq!(counters(&a)[..3], [2, 3, 0]);
        // A stale handle: nothing goes out, everything is counted.
        let list = SendNbl::frames([part(60), part(60)]).oob(ndis_sys::IPsecOffloadV2NetBufferListInfo, 0x1_0001);
        assert_eq!(send(&a, list), status(NDIS_STATUS_FAILURE));
        assert_eq!((b.take_received().len(), counters(&a)), (0, [2, 5, 0, 0, 0]));
    }

    /// A length that is no number of addresses is refused with the next one that is.
    fn a_torn_multicast_list_names_the_length_it_needs(bench) {
        let a = bench.station(1);
        for (len, needed) in [(5, 6), (7, 12), (11, 12), (13, 18)] {
            let outcome = a.oid(Oid::set(OID_802_3_MULTICAST_LIST, vec![1; len])).unwrap();
            assert_eq!((status(outcome.status), outcome.bytes_needed), (status(NDIS_STATUS_INVALID_LENGTH), needed));
        }
    }

    /// OID_PM_PARAMETERS: the header is checked, nothing that wakes is accepted, all off is.
    fn power_parameters_are_checked(bench) {
        let a = bench.station(1);
        let good = || {
            let mut bytes = vec![0; 20];
            bytes[..4].copy_from_slice(&[ndis_sys::NDIS_OBJECT_TYPE_DEFAULT, 2, 20, 0]);
            bytes
        };
        let ask = |bytes: Vec<u8>| status(a.oid(Oid::set(OID_PM_PARAMETERS, bytes)).unwrap().status);
        assert_eq!(ask(good()), status(NDIS_STATUS_SUCCESS));
        for (at, value) in [(0, 0), (1, 0), (2, 15), (3, 1)] {
            let mut bytes = good();
            bytes[at] = value;
            assert_eq!(ask(bytes), status(NDIS_STATUS_INVALID_DATA), "{at}");
        }
        for at in [4, 8, 12] {
            let mut bytes = good();
            bytes[at] = 1;
            assert_eq!(ask(bytes), status(ndis_sys::NDIS_STATUS_INVALID_PARAMETER), "{at}");
        }
    }
}
