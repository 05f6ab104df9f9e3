//! Sends.

use std::mem::replace;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndis_sys::*;

use super::receive::{Delivery, NOTHING, indicate, put_on_wire, release};
use super::{Adapter, HEADER, M, MIN_FRAME, TAG, WIRE, allocate, free, is, lock};
use super::{esp, tasks};

/// Identifier that a mutant remembers.
static CANCELLED: AtomicUsize = AtomicUsize::new(0);

unsafe fn complete(adapter: *mut Adapter, chain: *mut NET_BUFFER_LIST, at_dispatch: bool) {
    if is(M::SendUnderLock) {
        let _guard = lock();
        return NdisMSendNetBufferListsComplete((*adapter).handle, chain, 0);
    }
    if is(M::SendNextRead) {
        // One after the other, as netvmini once returned its receives.
        let mut list = chain;
        while !list.is_null() {
            NdisMSendNetBufferListsComplete((*adapter).handle, list, 0);
            list = (&raw const (*list).Next).read_volatile();
        }
        return;
    }
    if is(M::SendFirstOnly) {
        (*chain).Next = null_mut();
    }
    if is(M::SendCircle) {
        let mut last = chain;
        while !(*last).Next.is_null() {
            last = (*last).Next;
        }
        (*last).Next = chain;
    }
    if is(M::SendOtherAdapter) {
        let others = *WIRE.adapters.get();
        if let Some(other) = others.into_iter().find(|other| !other.is_null() && *other != adapter) {
            return NdisMSendNetBufferListsComplete((*other).handle, chain, 0);
        }
    }
    let flags = if at_dispatch || is(M::DispatchFlag) { NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL } else { 0 };
    let odd = if is(M::SendOddFlags) { 0x100 } else { 0 };
    NdisMSendNetBufferListsComplete((*adapter).handle, chain, flags | odd);
    if is(M::SendTouched) {
        (*chain).Status = NDIS_STATUS_FAILURE;
    }
    if is(M::SendCompletedTwice) {
        NdisMSendNetBufferListsComplete((*adapter).handle, chain, flags);
    }
    if is(M::SendCompletesNothing) {
        NdisMSendNetBufferListsComplete((*adapter).handle, null_mut(), flags);
    }
}

unsafe fn complete_all(
    adapter: *mut Adapter,
    chain: *mut NET_BUFFER_LIST,
    status: NDIS_STATUS,
    at_dispatch: bool,
) {
    let mut list = chain;
    while !list.is_null() {
        (*list).Status = status;
        list = (*list).Next;
    }
    complete(adapter, chain, at_dispatch);
}

/// Why packets do not pass now.
unsafe fn refusal(adapter: *mut Adapter) -> NDIS_STATUS {
    if (*adapter).removed && !is(M::RemovedSends) {
        NDIS_STATUS_NOT_ACCEPTED
    } else if !(*adapter).running && !is(M::PausedSends) {
        NDIS_STATUS_PAUSED
    } else if (*adapter).low_power && !is(M::AsleepSends) {
        NDIS_STATUS_LOW_POWER_STATE
    } else {
        NDIS_STATUS_SUCCESS
    }
}

ndis_fn! {
    pub(super) unsafe extern fn send(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, _port: NDIS_PORT_NUMBER, flags: ULONG) {
        let adapter = context.cast::<Adapter>();
        if !is(M::DeleteWakeUpLost) {
            return send_all(adapter, chain, flags);
        }
        {
            let _guard = lock();
            (*adapter).sending += 1;
        }
        send_all(adapter, chain, flags);
        let waiting = {
            let _guard = lock();
            (*adapter).sending -= 1;
            if (*adapter).sending == 0 { replace(&mut (*adapter).waiting, null_mut()) } else { null_mut() }
        };
        if !waiting.is_null() {
            NdisMDirectOidRequestComplete((*adapter).handle, waiting, NDIS_STATUS_SUCCESS);
        }
    }

    unsafe extern fn send_all(adapter: *mut Adapter, chain: *mut NET_BUFFER_LIST, flags: ULONG) {
        let at_dispatch = flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0;
        (*adapter).last_sent = chain;
        spoil_irql(adapter, at_dispatch);
        if is(M::SendReadsLater) {
            // The data of the send before, as a statistic of what was last sent would have it.
            if !(*adapter).kept.is_null() {
                (*adapter).kept.read_volatile();
            }
            (*adapter).kept = (*(*(*chain).FirstNetBuffer).CurrentMdl).MappedSystemVa.cast();
        }
        if is(M::SenderListFreed) {
            NdisFreeNetBufferList(chain);
        }
        if is(M::SendLoopedBack) && (*adapter).running {
            NdisMIndicateReceiveNetBufferLists((*adapter).handle, chain, 0, 1, NDIS_RECEIVE_FLAGS_RESOURCES);
        }
        let status = {
            let _guard = lock();
            let status = refusal(adapter);
            if status == NDIS_STATUS_SUCCESS {
                (*adapter).outstanding += 1;
            } else if is(M::RefusedCounted) {
                (*adapter).sent[0].packets += 1;
            }
            status
        };
        if is(M::RemovedForgets) && status == NDIS_STATUS_NOT_ACCEPTED || is(M::AsleepForgets) && status == NDIS_STATUS_LOW_POWER_STATE {
            return;
        }
        if status != NDIS_STATUS_SUCCESS {
            return complete_all(adapter, chain, status, at_dispatch);
        }
        let scratch = allocate((*adapter).max_frame + 8).cast::<u8>();
        if scratch.is_null() {
            let status = if is(M::ResourcesAsFailure) { NDIS_STATUS_FAILURE } else { NDIS_STATUS_RESOURCES };
            complete_all(adapter, chain, status, at_dispatch);
            return release(adapter, 1);
        }
        let mut out = [NOTHING; 16];
        let mut list = chain;
        while !list.is_null() {
            (*list).Status = send_list(adapter, list, scratch, &mut out);
            spoil_list(list);
            list = (*list).Next;
        }
        if !is(M::SendLeaks) {
            free(scratch.cast());
        }
        if is(M::SendsForgotten) {
            return release(adapter, 1);
        }
        if is(M::SendForgotten) && !(*chain).NetBufferListInfo[NetBufferListCancelId as usize].is_null() {
            return release(adapter, 1);
        }
        complete(adapter, chain, at_dispatch);
        for delivery in &out {
            if !delivery.to.is_null() {
                indicate(delivery, at_dispatch);
            }
        }
        release(adapter, 1);
    }

    pub(super) unsafe extern fn cancel_send(context: NDIS_HANDLE, id: PVOID) {
        let adapter = context.cast::<Adapter>();
        if is(M::CancelCompletesAgain) && !(*adapter).last_sent.is_null() {
            NdisMSendNetBufferListsComplete((*adapter).handle, (*adapter).last_sent, 0);
        }
        CANCELLED.store(id as usize, Ordering::Relaxed);
    }
}

/// What mutants do at the wrong IRQL or with locks, in a handler that comes at any IRQL.
unsafe fn spoil_irql(adapter: *mut Adapter, at_dispatch: bool) {
    let own = (*adapter).lock.get();
    if is(M::PassiveFunctionAtDispatch) && at_dispatch {
        NdisMSleep(1);
    }
    if is(M::PagedAtDispatch) && at_dispatch {
        let block = ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG);
        if !block.is_null() {
            free(block);
        }
    }
    if is(M::DprLockAtPassive) {
        // Released as if at DISPATCH_LEVEL, which nobody raised to.
        KeReleaseSpinLock(own.cast(), DISPATCH_LEVEL);
    }
    if is(M::IrqlDropped) && at_dispatch {
        KeLowerIrql(PASSIVE_LEVEL);
        KeRaiseIrqlToDpcLevel();
    }
    if is(M::SavedTooMuch) {
        let mut save: XSTATE_SAVE = std::mem::zeroed();
        KeRestoreExtendedProcessorState(&mut save);
    }
    if is(M::IrqlLeftRaised) && !at_dispatch {
        KeRaiseIrqlToDpcLevel();
    }
    if is(M::IrqlLoweredUpwards) && !at_dispatch {
        KeLowerIrql(DISPATCH_LEVEL);
        KeLowerIrql(PASSIVE_LEVEL);
    }
    if is(M::PagedTouchedAtDispatch) && at_dispatch && !(*adapter).paged.is_null() {
        (*adapter).paged.write_volatile(1);
    }
    if is(M::WaitAtDispatch) && at_dispatch {
        let mut event: KEVENT = std::mem::zeroed();
        KeInitializeEvent(&mut event, 1, 1);
        let mut due = LARGE_INTEGER { QuadPart: -10 };
        KeWaitForSingleObject((&raw mut event).cast(), 0, 0, 0, &mut due);
    }
    if is(M::LockLeftHeld) {
        NdisAcquireSpinLock(own);
    }
    if is(M::LocksCrossed) {
        NdisAcquireSpinLock(own);
        drop(lock());
        NdisReleaseSpinLock(own);
    }
    if is(M::LockTakenTwice) {
        NdisAcquireSpinLock(own);
        NdisAcquireSpinLock(own);
    }
    if is(M::LockNotHeld) {
        let old = KeRaiseIrqlToDpcLevel();
        NdisReleaseSpinLock(own);
        KeLowerIrql(old);
    }
    if is(M::LockWrongIrql) && !at_dispatch {
        let mut spin: KSPIN_LOCK = std::mem::zeroed();
        KeAcquireSpinLockRaiseToDpc(&mut spin);
        KeReleaseSpinLock(&mut spin, DISPATCH_LEVEL);
        KeLowerIrql(PASSIVE_LEVEL);
    }
    if is(M::LocksCrosswise) && !at_dispatch {
        let (mut first, mut second): (KSPIN_LOCK, KSPIN_LOCK) = (std::mem::zeroed(), std::mem::zeroed());
        let outer = KeAcquireSpinLockRaiseToDpc(&mut first);
        let inner = KeAcquireSpinLockRaiseToDpc(&mut second);
        KeReleaseSpinLock(&mut first, outer);
        KeReleaseSpinLock(&mut second, inner);
        KeLowerIrql(PASSIVE_LEVEL);
    }
    if is(M::LockOfStackLeft) {
        // A lock whose memory goes while it is held.
        let mut spin: KSPIN_LOCK = std::mem::zeroed();
        KeAcquireSpinLockRaiseToDpc(&mut spin);
    }
    if is(M::ExtendedStateKept) {
        let mut save: XSTATE_SAVE = std::mem::zeroed();
        KeSaveExtendedProcessorState(XSTATE_MASK_LEGACY, &mut save);
    }
    if is(M::BugCheckInSend) {
        KeBugCheckEx(0xe2, 1, 2, 3, 4);
    }
}

/// What mutants do to the sender's list.
unsafe fn spoil_list(list: *mut NET_BUFFER_LIST) {
    let buffer = (*list).FirstNetBuffer;
    if is(M::SendPayloadChanged) && (*buffer).DataLength > 20 {
        let data = NdisGetDataBuffer(buffer, 14, null_mut(), 1, 0).cast::<u8>();
        if !data.is_null() {
            data.add(6).write(data.add(6).read() ^ 0xff);
        }
    }
    if is(M::SendOobChanged) {
        (*list).NetBufferListInfo[Ieee8021QNetBufferListInfo as usize] = 0x10 as PVOID;
    }
    if is(M::SendChainChanged) {
        (*buffer).DataLength = (*buffer).DataLength.wrapping_sub(1);
    }
    if is(M::ListReservedWritten) {
        (*list).ProtocolReserved[1] = 1 as PVOID;
    }
    if is(M::NdisReservedWritten) {
        (*list).NdisReserved[0] = 1 as PVOID;
    }
    if is(M::BufferReservedWritten) {
        (*buffer).ProtocolReserved[0] = 1 as PVOID;
    }
    if is(M::DataOffsetMoved) && (*buffer).DataLength > 20 {
        (*buffer).DataOffset += 14;
        (*buffer).CurrentMdlOffset += 14;
        (*buffer).DataLength -= 14;
    }
    if is(M::SendSourceWritten) {
        (*list).SourceHandle = null_mut();
    }
    if is(M::SendNblFlagsWritten) {
        (*list).NblFlags ^= 0x0800_0000;
    }
    if is(M::SendContextWritten) {
        (*list).Context = list.cast();
    }
    if is(M::SendParentWritten) {
        (*list).ParentNetBufferList = list;
    }
    let mdl = (*buffer).MdlChain;
    if is(M::SendMdlShortened) && !mdl.is_null() && (*mdl).ByteCount > 1 {
        (*mdl).ByteCount -= 1;
    }
    if is(M::SendMdlUnlinked) && !mdl.is_null() {
        (*mdl).Next = null_mut();
    }
    if is(M::SendMdlUnmapped) && !mdl.is_null() {
        (*mdl).MdlFlags = 0;
    }
    let running = (*list).Status == NDIS_STATUS_SUCCESS;
    for (mutant, status) in [
        (M::PausedWhileRunning, NDIS_STATUS_PAUSED),
        (M::AsleepWhileAwake, NDIS_STATUS_LOW_POWER_STATE),
        (M::ResetUnasked, NDIS_STATUS_RESET_IN_PROGRESS),
        (M::AbortedUnasked, NDIS_STATUS_SEND_ABORTED),
        (M::RemovedUnasked, NDIS_STATUS_NOT_ACCEPTED),
        (M::SendLeftPending, NDIS_STATUS_PENDING),
    ] {
        if is(mutant) && running {
            (*list).Status = status;
        }
    }
    if is(M::SendOddStatus) {
        (*list).Status = NDIS_STATUS_INVALID_DATA;
    }
    if is(M::CancelAbortsOthers) && CANCELLED.load(Ordering::Relaxed) > 1 {
        let id = (*list).NetBufferListInfo[NetBufferListCancelId as usize] as usize;
        if id != 0 && id != CANCELLED.load(Ordering::Relaxed) {
            (*list).Status = NDIS_STATUS_SEND_ABORTED;
        }
    }
}

/// Sends the frames of a list.
unsafe fn send_list(
    adapter: *mut Adapter,
    list: *mut NET_BUFFER_LIST,
    scratch: *mut u8,
    out: &mut [Delivery; 16],
) -> NDIS_STATUS {
    let mut buffer = (*list).FirstNetBuffer;
    let large = (*list).NetBufferListInfo[TcpLargeSendNetBufferListInfo as usize] as usize;
    if large != 0 {
        return send_large(adapter, list, large, out);
    }
    while !buffer.is_null() {
        match assemble(adapter, list, buffer, scratch) {
            Ok(length) => {
                let frame = std::slice::from_raw_parts(scratch, length);
                let _guard = lock();
                put_on_wire(adapter, frame, out);
            }
            Err(_) if is(M::PartSucceeds) && buffer != (*list).FirstNetBuffer => {}
            Err(status) => {
                let _guard = lock();
                (*adapter).send_errors += 1;
                return status;
            }
        }
        if is(M::FirstBufferOnly) {
            break;
        }
        buffer = (*buffer).Next;
    }
    NDIS_STATUS_SUCCESS
}

/// Cuts a large send into segments and sends them.
unsafe fn send_large(
    adapter: *mut Adapter,
    list: *mut NET_BUFFER_LIST,
    info: usize,
    out: &mut [Delivery; 16],
) -> NDIS_STATUS {
    let buffer = (*list).FirstNetBuffer;
    let length = (*buffer).DataLength as usize;
    if !(*adapter).config.large && !is(M::LargeSentWhenOff) || length < HEADER {
        return NDIS_STATUS_FAILURE;
    }
    let mut whole = vec![0; length];
    if let Err(status) = gather(buffer, whole.as_mut_ptr(), length) {
        return status;
    }
    let max = (*adapter).max_frame;
    let tag = (*list).NetBufferListInfo[Ieee8021QNetBufferListInfo as usize] as usize;
    let handle = (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] as usize;
    if handle != 0 {
        let trailer = (*list).NetBufferListInfo[IPsecOffloadV2HeaderNetBufferListInfo as usize] as usize;
        let segments = tasks::segment_esp(&whole, info, trailer, max).ok_or(NDIS_STATUS_FAILURE);
        return match segments.and_then(|segments| send_protected(adapter, handle, segments, out)) {
            Ok(()) => {
                (*list).NetBufferListInfo[TcpLargeSendNetBufferListInfo as usize] = (1 << 30) as PVOID;
                NDIS_STATUS_SUCCESS
            }
            Err(status) => status,
        };
    }
    let done = tasks::segment(&whole, info, max, |segment| {
        let tagged = if is(M::LargeTagLost) { segment.to_vec() } else { with_tag(segment, tag) };
        let _guard = lock();
        put_on_wire(adapter, &tagged, out);
    });
    if done.is_none() {
        return NDIS_STATUS_FAILURE;
    }
    if !is(M::LargeNotReported) {
        (*list).NetBufferListInfo[TcpLargeSendNetBufferListInfo as usize] = (1 << 30) as PVOID;
    }
    NDIS_STATUS_SUCCESS
}

/// Encrypts segments and sends them.
unsafe fn send_protected(
    adapter: *mut Adapter,
    handle: usize,
    segments: Vec<Vec<u8>>,
    out: &mut [Delivery; 16],
) -> Result<(), NDIS_STATUS> {
    for mut segment in segments {
        if !is(M::LargeEspClear) {
            esp::protect(adapter, &mut segment, handle, 0)?;
        }
        let _guard = lock();
        put_on_wire(adapter, &segment, out);
    }
    Ok(())
}

/// A frame with the tag that out-of-band slot 4 asks for.
fn with_tag(frame: &[u8], tag: usize) -> Vec<u8> {
    let mut tagged = frame.to_vec();
    if tag != 0 {
        let tci = (tag & 7) << 13 | (tag >> 4 & 0xfff);
        tagged.splice(12..12, [0x81, 0, (tci >> 8) as u8, tci as u8]);
    }
    tagged
}

/// Gathers a frame, pads, protects and tags it; gives its length.
unsafe fn assemble(
    adapter: *mut Adapter,
    list: *mut NET_BUFFER_LIST,
    buffer: *mut NET_BUFFER,
    scratch: *mut u8,
) -> Result<usize, NDIS_STATUS> {
    let length = (*buffer).DataLength as usize;
    let least = if is(M::EmptyAccepted) { 0 } else { HEADER };
    let max = (*adapter).max_frame + if is(M::LongByFour) { 4 } else { 0 };
    if length > max && is(M::LongAccepted) {
        return Ok(0);
    }
    if !(least..=max).contains(&length) {
        return Err(NDIS_STATUS_INVALID_LENGTH);
    }
    gather(buffer, scratch, length)?;
    let mut padded = length.max(MIN_FRAME);
    if is(M::NotPadded) {
        padded = length;
    } else if is(M::PaddedWithResidue) {
        scratch.add(length).write_bytes(0x77, padded - length);
    } else {
        scratch.add(length).write_bytes(0, padded - length);
    }
    let checksum = (*list).NetBufferListInfo[TcpIpChecksumNetBufferListInfo as usize] as usize;
    if checksum != 0 {
        tasks::fill_in(std::slice::from_raw_parts_mut(scratch, padded), checksum);
    }
    let handle = (*list).NetBufferListInfo[IPsecOffloadV2NetBufferListInfo as usize] as usize;
    if handle != 0 {
        let frame = std::slice::from_raw_parts_mut(scratch, padded);
        let tunnel = (*list).NetBufferListInfo[IPsecOffloadV2TunnelNetBufferListInfo as usize] as usize;
        esp::protect(adapter, frame, handle, tunnel)?;
    }
    let tag = (*list).NetBufferListInfo[Ieee8021QNetBufferListInfo as usize] as usize;
    if tag != 0 && !is(M::TagNotSent) {
        scratch.add(12).copy_to(scratch.add(16), padded - 12);
        let priority = if is(M::PriorityLost) { 0 } else { tag & 7 };
        let tci = priority << 13 | (tag >> 4 & 0xfff);
        std::slice::from_raw_parts_mut(scratch.add(12), 4).copy_from_slice(&[
            0x81,
            0,
            (tci >> 8) as u8,
            tci as u8,
        ]);
        padded += 4;
    }
    Ok(padded)
}

unsafe fn gather(buffer: *mut NET_BUFFER, to: *mut u8, length: usize) -> Result<(), NDIS_STATUS> {
    let mut mdl = (*buffer).CurrentMdl;
    let mut skip = (*buffer).CurrentMdlOffset as usize;
    if is(M::DataOffsetIgnored) {
        (mdl, skip) = ((*buffer).MdlChain, 0);
    }
    let mut done = 0;
    while done < length && !mdl.is_null() {
        let here = ((*mdl).ByteCount as usize - skip).min(length - done);
        if here == 0 && is(M::EmptyMdlEnds) {
            to.add(done).write_bytes(0, length - done);
            break;
        }
        if here > 0 {
            let address = MmGetSystemAddressForMdlSafe(mdl, 16).cast::<u8>();
            if is(M::MdlOverread) && !address.is_null() {
                // Eight bytes at a time.
                let mut at = 0;
                while at < here {
                    address.add(skip + at).cast::<u64>().read_unaligned();
                    at += 8;
                }
                address.add((*mdl).ByteCount as usize).read_volatile();
            }
            if address.is_null() && !is(M::MapUnchecked) {
                return Err(if is(M::ResourcesAsFailure) {
                    NDIS_STATUS_FAILURE
                } else {
                    NDIS_STATUS_RESOURCES
                });
            }
            address.add(skip).copy_to(to.add(done), here);
        }
        done += here;
        skip = 0;
        if is(M::FirstMdlOnly) {
            to.add(done).write_bytes(0, length - done);
            break;
        }
        mdl = (*mdl).Next;
    }
    Ok(())
}
