//! Packets: what comes off the wire, and what the stack hands over.

use ndis_lab::{SendFrame, SendNbl};
use ndis_sys::{
    IPsecOffloadV2HeaderNetBufferListInfo, IPsecOffloadV2NetBufferListInfo, NDIS_STATUS_FAILURE,
    NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_RESET_IN_PROGRESS, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS,
};

use crate::bench::{self, IPS, MACS, add, sa};
use crate::input::Input;

/// Bytes of the longest frame that is tried; the driver's is 1,514.
const LONGEST: usize = 1600;
/// CryptoDone without an error.
const VERIFIED: usize = 2;

/// A frame from the peer to the adapter, or the other way: addresses, and IPv4 and ESP headers where they are asked for, so that the
/// fuzzer need not find them.
fn frame(to_adapter: bool, shape: u8, spi: u32, rest: &[u8]) -> Vec<u8> {
    let (from, to) = if to_adapter { (1, 0) } else { (0, 1) };
    let mut frame = [MACS[to], MACS[from]].concat();
    if shape & 1 != 0 {
        frame.extend([8, 0]);
    }
    if shape & 2 != 0 {
        let total = u16::try_from(20 + 8 * usize::from(shape & 4 != 0) + rest.len()).unwrap_or(u16::MAX);
        let mut header = vec![0x45, 0];
        header.extend(total.to_be_bytes());
        header.extend([0, 0, 0, 0, 64, 50, 0, 0]);
        header.extend([IPS[from], IPS[to]].concat());
        let checksum = ipsec::checksum::of(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
    }
    if shape & 4 != 0 {
        frame.extend(spi.to_be_bytes());
        frame.extend(1_u32.to_be_bytes());
    }
    frame.extend(rest);
    frame
}

fn header_word(input: &mut Input<'_>) -> usize {
    input.u32() as usize
}

pub(crate) fn received(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        let inbound = sa(1, true, 20);
        let mut extended = sa(2, true, 20);
        extended.associations[0].esn = Some(0);
        add(&bench.adapter, &inbound);
        add(&bench.adapter, &extended);
        // The peer protects with the same keys, so that what reaches the decrypted part is authentic garbage as well.
        let mirror = [inbound, extended].map(|mut sa| {
            sa.inbound = false;
            add(&bench.peer, &sa)
        });
        while !input.is_empty() {
            let (shape, protect) = (input.u8(), input.u8());
            let len = usize::from(input.u16()) % LONGEST;
            let spi = u32::from(protect & 3);
            let word = header_word(input);
            let bytes = frame(true, shape, spi, input.bytes(len));
            let mut list = SendNbl::frame(bytes.clone());
            if protect & 4 != 0 {
                list = list
                    .oob(IPsecOffloadV2NetBufferListInfo, mirror[usize::from(protect & 1)])
                    .oob(IPsecOffloadV2HeaderNetBufferListInfo, word);
            }
            let sent = bench.peer.send(&[list]).expect("a send");
            for received in bench.adapter.take_received() {
                assert_eq!(sent[0].status, NDIS_STATUS_SUCCESS, "what came was sent");
                let slot = usize::try_from(IPsecOffloadV2NetBufferListInfo).expect("a slot");
                if received.oob[slot] != VERIFIED && protect & 4 == 0 {
                    // Not decrypted: as it was, but for the minimum length and a tag.
                    let tagged = bytes.get(12..14) == Some(&[0x81, 0]);
                    assert!(tagged || received.frame.starts_with(&bytes), "changed on its way");
                }
            }
        }
    });
}

pub(crate) fn sent(data: &[u8]) {
    bench::with(|bench| {
        let input = &mut Input::new(data);
        let mut extended = sa(2, false, 20);
        extended.associations[0].esn = Some(0);
        let live = [add(&bench.adapter, &sa(1, false, 20)), add(&bench.adapter, &extended)];
        let inbound = add(&bench.adapter, &sa(3, true, 20));
        let mut lists = Vec::new();
        while !input.is_empty() && lists.len() < 8 {
            let (shape, which, slots) = (input.u8(), input.u8(), input.u8());
            let len = usize::from(input.u16()) % LONGEST;
            let word = header_word(input);
            let handle = match which & 7 {
                0..=2 => 0,
                3 => live[0],
                4 => live[1],
                5 => inbound,
                6 => live[0] ^ 1 << (which >> 3),
                _ => input.usize(),
            };
            let split: Vec<usize> = (0..slots & 3).map(|_| usize::from(input.u8())).collect();
            let (data_offset, tail) = (usize::from(input.u8() & 0x3F), usize::from(input.u8() & 0x3F));
            let bytes = frame(false, shape, u32::from(which & 3), input.bytes(len));
            let frame = SendFrame {
                bytes,
                split,
                data_offset,
                tail,
                misalign: usize::from(slots >> 5),
                unmapped: slots & 4 != 0,
            };
            let mut list = SendNbl::frames([frame])
                .oob(IPsecOffloadV2NetBufferListInfo, handle)
                .oob(IPsecOffloadV2HeaderNetBufferListInfo, word);
            if slots & 8 != 0 {
                // Any other slot of the stack's: checksums, large sends, 802.1Q, the tunnel's handle.
                let slot = [0, 2, 4, 11][usize::from(input.u8() & 3)];
                list = list.oob(slot, input.u32() as usize);
            }
            lists.push(list);
        }
        if lists.is_empty() {
            return;
        }
        let outcomes = bench.adapter.send(&lists).expect("a send");
        let good = outcomes.iter().filter(|outcome| outcome.status == NDIS_STATUS_SUCCESS).count();
        for outcome in &outcomes {
            let known = [
                NDIS_STATUS_SUCCESS,
                NDIS_STATUS_FAILURE,
                NDIS_STATUS_INVALID_LENGTH,
                NDIS_STATUS_RESOURCES,
                NDIS_STATUS_RESET_IN_PROGRESS,
            ];
            assert!(known.contains(&outcome.status), "{:#010x}", outcome.status.cast_unsigned());
        }
        let arrived = bench.peer.take_received();
        assert_eq!(arrived.len(), good, "each good one goes out, and nothing of the others");
        for (list, received) in lists
            .iter()
            .zip(&outcomes)
            .filter(|(_, o)| o.status == NDIS_STATUS_SUCCESS)
            .map(|(l, _)| l)
            .zip(&arrived)
        {
            let slot = usize::try_from(IPsecOffloadV2NetBufferListInfo).expect("a slot");
            let bytes = &list.frames[0].bytes;
            if list.oob[slot] != 0 {
                // Past the ESP header and the IV nothing is as it was; an ICV of 16 zeros would be chance.
                let icv = |frame: &[u8]| frame.get(34 + 16..).map(<[u8]>::to_vec);
                assert_ne!(icv(&received.frame), icv(bytes), "in clear on the wire");
            }
        }
    });
}
