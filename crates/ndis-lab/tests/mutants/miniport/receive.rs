//! The wire, and receives.

use std::ptr::null_mut;

use ndis_sys::*;

use super::{Adapter, Counts, HEADER, M, Rx, WIRE, allocate, is, lock};
use super::{esp, tasks};

/// Receive buffers of an adapter.
const BUFFERS: usize = 80;
/// With fewer free ones it wants them back at once.
const LOW: usize = 8;
pub(super) unsafe fn make_buffers(adapter: *mut Adapter) -> Result<(), NDIS_STATUS> {
    for _ in 0..BUFFERS {
        let rx = allocate(size_of::<Rx>()).cast::<Rx>();
        if rx.is_null() {
            return Err(NDIS_STATUS_RESOURCES);
        }
        (*rx).adapter = adapter;
        (*rx).next = (*adapter).free;
        (*adapter).free = rx;
        (*adapter).free_count += 1;
        // Room for a tag, and for a mutant's FCS.
        let size = (*adapter).max_frame + 8;
        (*rx).data = allocate(size).cast();
        if (*rx).data.is_null() {
            return Err(NDIS_STATUS_RESOURCES);
        }
        let mdl_size = if is(M::MdlTooLong) { size + 100 } else { size };
        (*rx).mdl = NdisAllocateMdl((*adapter).handle, (*rx).data.cast(), mdl_size as u32);
        if (*rx).mdl.is_null() {
            return Err(NDIS_STATUS_RESOURCES);
        }
        (*rx).list = NdisAllocateNetBufferAndNetBufferList((*adapter).pool, 0, 0, (*rx).mdl, 0, 0);
        if (*rx).list.is_null() {
            return Err(NDIS_STATUS_RESOURCES);
        }
        (*(*rx).list).MiniportReserved[0] = rx.cast();
    }
    Ok(())
}

/// Ends a call or a receive that kept an adapter from being paused.
pub(super) unsafe fn release(adapter: *mut Adapter, count: u32) {
    let handle = (*adapter).handle;
    let guard = lock();
    (*adapter).outstanding -= count;
    let done = (*adapter).outstanding == 0 && (*adapter).pausing;
    if done {
        (*adapter).pausing = false;
    }
    drop(guard);
    if done {
        NdisMPauseComplete(handle);
    }
}

/// What one call of the send handler brought for one adapter.
#[derive(Clone, Copy)]
pub(super) struct Delivery {
    pub(super) to: *mut Adapter,
    first: *mut Rx,
    last: *mut Rx,
    count: u32,
    low: bool,
}

pub(super) const NOTHING: Delivery =
    Delivery { to: null_mut(), first: null_mut(), last: null_mut(), count: 0, low: false };

fn class(to: &[u8]) -> usize {
    match to[..6] {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 2,
        [first, ..] if first & 1 == 1 => 1,
        _ => 0,
    }
}

pub(super) fn count(counts: &mut Counts, frame: &[u8]) {
    let count = &mut counts[class(frame)];
    count.packets += if is(M::CountedTwice) { 2 } else { 1 };
    count.octets += frame.len() as u64;
}

unsafe fn accepts(adapter: *mut Adapter, frame: &[u8]) -> bool {
    let has = |bit: u32| (*adapter).filter & bit != 0;
    if has(NDIS_PACKET_TYPE_PROMISCUOUS) || is(M::FilterIgnored) {
        return true;
    }
    let groups = &(&(*adapter).groups)[..(*adapter).group_count];
    match class(frame) {
        0 => has(NDIS_PACKET_TYPE_DIRECTED) && frame[..6] == (*adapter).mac,
        1 if is(M::MulticastAsAll) => has(NDIS_PACKET_TYPE_MULTICAST),
        1 => {
            has(NDIS_PACKET_TYPE_ALL_MULTICAST)
                || has(NDIS_PACKET_TYPE_MULTICAST) && groups.iter().any(|group| frame[..6] == *group)
        }
        _ => has(NDIS_PACKET_TYPE_BROADCAST),
    }
}

/// Counts a frame and delivers it to all others. The lock is held.
pub(super) unsafe fn put_on_wire(from: *mut Adapter, frame: &[u8], out: &mut [Delivery; 16]) {
    if frame.is_empty() || frame.len() < HEADER {
        return;
    }
    count(&mut (*from).sent, frame);
    let adapters = *WIRE.adapters.get();
    for (to, delivery) in adapters.into_iter().zip(out) {
        if to.is_null() || to == from && !is(M::HearsItself) || !(*to).running && !is(M::PausedReceives) {
            continue;
        }
        if (*to).removed || (*to).low_power && !is(M::AsleepReceives) || !accepts(to, frame) {
            continue;
        }
        let rx = (*to).free;
        if rx.is_null() {
            if !is(M::DiscardsNotCounted) {
                (*to).discards += 1;
            }
            continue;
        }
        count(&mut (*to).received, frame);
        if !is(M::BuffersUsedTwice) {
            (*to).free = (*rx).next;
            (*to).free_count -= 1;
            (*rx).next = null_mut();
        }
        fill(to, rx, frame);
        if delivery.to.is_null() {
            *delivery = Delivery { to, ..NOTHING };
            // Until its indication is over.
            (*to).outstanding += 1;
        }
        (*to).outstanding += 1;
        if delivery.last.is_null() {
            delivery.first = rx;
        } else if is(M::ReversedOrder) {
            (*rx).next = delivery.first;
            (*(*rx).list).Next = (*delivery.first).list;
            delivery.first = rx;
        } else {
            (*delivery.last).next = rx;
            (*(*delivery.last).list).Next = (*rx).list;
        }
        if !is(M::ReversedOrder) || delivery.last.is_null() {
            delivery.last = rx;
        }
        delivery.count += 1;
        delivery.low |= (*to).free_count < LOW;
    }
}

/// Puts a frame into a receive buffer as it comes off the wire.
unsafe fn fill(to: *mut Adapter, rx: *mut Rx, frame: &[u8]) {
    let list = (*rx).list;
    let data = std::slice::from_raw_parts_mut((*rx).data, frame.len());
    data.copy_from_slice(frame);
    let mut length = frame.len();
    if !is(M::OobNotCleared) {
        (*list).NetBufferListInfo = [null_mut(); MaxNetBufferListInfo as usize];
    }
    if data[12..14] == [0x81, 0] && !is(M::TagKept) {
        let tci = usize::from(data[14]) << 8 | usize::from(data[15]);
        if !is(M::TagNotReported) {
            let info = tci >> 13 | (tci & 0xfff) << 4;
            (*list).NetBufferListInfo[Ieee8021QNetBufferListInfo as usize] = info as PVOID;
        }
        data.copy_within(16.., 12);
        length -= 4;
    }
    let checksums = tasks::verify(&data[..length], (*to).config, (*to).receive_on);
    if checksums != 0 {
        (*list).NetBufferListInfo[TcpIpChecksumNetBufferListInfo as usize] = checksums as PVOID;
    }
    let (ipsec, info) = esp::receive(to, &mut data[..length]);
    if !is(M::OobNotCleared) || ipsec != 0 {
        (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] = ipsec as PVOID;
        (*list).NetBufferListInfo[IPsecOffloadV2HeaderNetBufferListInfo as usize] = info as PVOID;
    }
    if is(M::FcsIndicated) || is(M::LongIndicated) && length == (*to).max_frame {
        length += 4;
    }
    if is(M::ShortIndicated) {
        length = 10;
    }
    if is(M::ChainTooShort) {
        length = (*(*rx).mdl).ByteCount as usize + 1;
    }
    if is(M::ChecksumBoth) {
        (*list).NetBufferListInfo[TcpIpChecksumNetBufferListInfo as usize] = 0x24 as PVOID;
    }
    if is(M::ChecksumReserved) {
        (*list).NetBufferListInfo[TcpIpChecksumNetBufferListInfo as usize] = 0x8000 as PVOID;
    }
    if is(M::PriorityReserved) {
        (*list).NetBufferListInfo[Ieee8021QNetBufferListInfo as usize] = 0x70_0000 as PVOID;
    }
    if is(M::CryptoReserved) {
        (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] = 0x10 as PVOID;
    }
    if is(M::CryptoStatusAlone) {
        (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] = 0x3_0000 as PVOID;
    }
    if is(M::NextCryptoAlone) {
        (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] = 4 as PVOID;
    }
    if is(M::DeleteRequested) {
        let word = (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] as usize | 1;
        (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] = word as PVOID;
    }
    let buffer = (*list).FirstNetBuffer;
    (*buffer).CurrentMdl = (*rx).mdl;
    (*buffer).CurrentMdlOffset = if is(M::CurrentMdlOffsetWrong) { 2 } else { 0 };
    (*buffer).DataOffset = 0;
    (*buffer).DataLength = length as u32;
    (*list).Next = null_mut();
    (*list).SourceHandle = if is(M::SourceHandleUnset) { null_mut() } else { (*to).handle };
    (*list).Status = if is(M::ReceiveStatusSet) { NDIS_STATUS_FAILURE } else { NDIS_STATUS_SUCCESS };
    (*list).NblFlags = if is(M::NblFlagsOfNdis) { 0x1 } else { 0 };
}

/// Indicates what came for one adapter.
pub(super) unsafe fn indicate(delivery: &Delivery, at_dispatch: bool) {
    let to = delivery.to;
    let mut flags = if at_dispatch { NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL } else { 0 };
    if delivery.low {
        flags |= NDIS_RECEIVE_FLAGS_RESOURCES;
    }
    if is(M::SingleTypeAlways) {
        flags |= NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE;
    }
    if is(M::ReceiveDispatchFlag) {
        flags |= NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL;
    }
    if is(M::ReceiveFlagsUnknown) {
        flags |= 0x8_0000;
    }
    let port = if is(M::ReceivePort) { 1 } else { 0 };
    if is(M::ReceiveCircle) {
        (*(*delivery.last).list).Next = (*delivery.first).list;
    }
    let count = if is(M::CountWrong) { delivery.count + 1 } else { delivery.count };
    let mut handle = (*to).handle;
    if is(M::IndicatedForOther) {
        let all = *WIRE.adapters.get();
        let other = all.into_iter().find(|other| !other.is_null() && *other != to);
        handle = other.map_or(handle, |other| (*other).handle);
    }
    let list = (*delivery.first).list;
    if is(M::TwoBuffersIndicated) {
        (*(*list).FirstNetBuffer).Next = (*list).FirstNetBuffer;
    }
    if is(M::BufferFreed) {
        NdisFreeNetBuffer((*list).FirstNetBuffer);
    }
    if is(M::LengthZero) {
        (*(*list).FirstNetBuffer).DataLength = 0;
    }
    if is(M::IndicatedUnderLock) {
        NdisAcquireSpinLock((*to).lock.get());
    }
    let mut stranger: NET_BUFFER_LIST = std::mem::zeroed();
    stranger.FirstNetBuffer = (*list).FirstNetBuffer;
    if is(M::NoBuffer) {
        (*list).FirstNetBuffer = null_mut();
    }
    let indicated = if is(M::ListOfNoPool) { &raw mut stranger } else { list };
    NdisMIndicateReceiveNetBufferLists(handle, indicated, port, count, flags);
    if is(M::ReceiveWritten) && !delivery.low {
        (*list).Status = NDIS_STATUS_FAILURE;
    }
    if is(M::ReceiveDataWritten) && !delivery.low {
        (*delivery.first).data.add(20).write_volatile(0x99);
    }
    if is(M::ReceiveFreed) && !delivery.low {
        NdisFreeNetBufferList(list);
    }
    if is(M::ReceiveMdlFreed) && !delivery.low {
        NdisFreeMdl((*delivery.first).mdl);
        (*delivery.first).mdl = null_mut();
    }
    if is(M::ReceiveNextRead) && !delivery.low {
        let mut next = list;
        while !next.is_null() {
            next = (&raw const (*next).Next).read_volatile();
        }
    }
    if is(M::NoBuffer) {
        (*list).FirstNetBuffer = stranger.FirstNetBuffer;
    }
    if is(M::IndicatedUnderLock) {
        NdisReleaseSpinLock((*to).lock.get());
    }
    if is(M::IndicatedTwice) && !delivery.low {
        NdisMIndicateReceiveNetBufferLists(handle, list, 0, count, flags);
    }
    if delivery.low && !is(M::ResourcesKept) || is(M::ListOfNoPool) {
        let mut rx = delivery.first;
        while !rx.is_null() {
            let next = (*rx).next;
            recycle(rx);
            rx = next;
        }
    }
    release(to, 1);
}

/// Takes a buffer back.
unsafe fn recycle(rx: *mut Rx) {
    let adapter = (*rx).adapter;
    if !is(M::BuffersLost) && !is(M::BuffersUsedTwice) {
        let _guard = lock();
        (*rx).next = (*adapter).free;
        (*adapter).free = rx;
        (*adapter).free_count += 1;
    }
    release(adapter, 1);
}

ndis_fn! {
    pub(super) unsafe extern fn return_lists(_context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, _flags: ULONG) {
        let mut list = chain;
        while !list.is_null() {
            let next = (*list).Next;
            let rx = (*list).MiniportReserved[0].cast::<Rx>();
            if is(M::IrqlRaisedInReturn) {
                KeRaiseIrqlToDpcLevel();
            }
            if is(M::ReturnedIndicated) {
                // Straight up again, without its having been taken back.
                NdisMIndicateReceiveNetBufferLists((*(*rx).adapter).handle, list, 0, 1, 0);
                return;
            }
            recycle(rx);
            if is(M::ReturnsFirstOnly) && !next.is_null() {
                // The rest of the chain is forgotten, but for the count.
                let mut rest = next;
                while !rest.is_null() {
                    let adapter = (*(*rest).MiniportReserved[0].cast::<Rx>()).adapter;
                    rest = (*rest).Next;
                    release(adapter, 1);
                }
                return;
            }
            list = next;
        }
    }
}
