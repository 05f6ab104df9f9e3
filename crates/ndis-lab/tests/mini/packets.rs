//! Sends, and what comes back as received.

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ndis_sys::*;

use super::{Adapter, Defect, allocate, free, is};

ndis_fn! {
    pub(super) unsafe extern fn send(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, _port: NDIS_PORT_NUMBER, flags: ULONG) {
        let adapter = context.cast::<Adapter>();
        let running = (*adapter).running.load(Ordering::SeqCst) == 1;
        let mut list = chain;
        let (mut first, mut last, mut count) = (null_mut(), null_mut::<NET_BUFFER_LIST>(), 0);
        while !list.is_null() {
            if running || is(Defect::IndicateWhilePaused) {
                let mut buffer = (*list).FirstNetBuffer;
                while !buffer.is_null() {
                    let copy = receive_copy(adapter, list, buffer);
                    if !copy.is_null() {
                        if last.is_null() { first = copy } else { (*last).Next = copy }
                        last = copy;
                        count += 1;
                    }
                    buffer = (*buffer).Next;
                }
                (*adapter).sent.fetch_add(1, Ordering::Relaxed);
            }
            spoil(list);
            let refused = !running && !is(Defect::SendNotPaused);
            (*list).Status = if refused { NDIS_STATUS_PAUSED } else { NDIS_STATUS_SUCCESS };
            if is(Defect::SendStatus) && running {
                (*list).Status = NDIS_STATUS_PENDING;
            }
            list = (*list).Next;
        }
        if is(Defect::NeverCompleteSend) {
            return;
        }
        let at_dispatch = if flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0 || is(Defect::DispatchFlag) { 1 } else { 0 };
        let data = (*(*(*chain).FirstNetBuffer).MdlChain).MappedSystemVa.cast::<u8>();
        NdisMSendNetBufferListsComplete((*adapter).handle, chain, at_dispatch);
        if is(Defect::SendTouchedAfterCompletion) {
            (&raw mut (*chain).Status).write_volatile(7);
        }
        if is(Defect::SendDataTouchedAfterCompletion) {
            data.write_volatile(7);
        }
        if is(Defect::CompleteSendTwice) {
            NdisMSendNetBufferListsComplete((*adapter).handle, chain, at_dispatch);
        }
        if !first.is_null() {
            indicate(adapter, first, count, at_dispatch);
        }
    }

    pub(super) unsafe extern fn return_lists(context: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, flags: ULONG) {
        let adapter = context.cast::<Adapter>();
        let mut list = chain;
        while !list.is_null() {
            let next = (*list).Next;
            free_copy(list);
            let left = (*adapter).outstanding.fetch_sub(1, Ordering::SeqCst) - 1;
            if left == 0 && (*adapter).pausing.swap(0, Ordering::SeqCst) == 1 {
                NdisMPauseComplete((*adapter).handle);
                if is(Defect::PauseTwice) {
                    NdisMPauseComplete((*adapter).handle);
                }
            }
            list = next;
        }
        let _ = flags;
    }

    pub(super) unsafe extern fn cancel_send(_context: NDIS_HANDLE, _id: PVOID) {}
}

/// Breaks the sender's list as the defect asks for.
unsafe fn spoil(list: *mut NET_BUFFER_LIST) {
    let buffer = (*list).FirstNetBuffer;
    if is(Defect::ChangeSentData) {
        (*(*buffer).MdlChain).MappedSystemVa.cast::<u8>().write(0xff);
    }
    if is(Defect::ChangeSentOob) {
        (*list).NetBufferListInfo[4] = 1 as PVOID;
    }
    if is(Defect::ChangeSentChain) {
        (*buffer).DataLength -= 1;
    }
}

/// Copies a frame into a list of our own: block, MDL, list.
unsafe fn receive_copy(
    adapter: *mut Adapter,
    list: *mut NET_BUFFER_LIST,
    buffer: *mut NET_BUFFER,
) -> *mut NET_BUFFER_LIST {
    let length = (*buffer).DataLength as usize;
    let block = allocate(length);
    if block.is_null() {
        return null_mut();
    }
    let data = NdisGetDataBuffer(buffer, length as u32, block, 1, 0);
    if data.is_null() {
        free(block);
        return null_mut();
    }
    if data != block {
        std::ptr::copy_nonoverlapping(data.cast::<u8>(), block.cast::<u8>(), length);
    }
    let mdl = NdisAllocateMdl((*adapter).handle, block, length as u32);
    if mdl.is_null() {
        free(block);
        return null_mut();
    }
    let copy = NdisAllocateNetBufferAndNetBufferList((*adapter).pool, 0, 0, mdl, 0, length);
    if copy.is_null() {
        NdisFreeMdl(mdl);
        free(block);
        return null_mut();
    }
    (*copy).SourceHandle = if is(Defect::WrongSourceHandle) { null_mut() } else { (*adapter).handle };
    (*copy).NetBufferListInfo[12] = (*list).NetBufferListInfo[12];
    copy
}

unsafe fn free_copy(list: *mut NET_BUFFER_LIST) {
    let mdl = (*(*list).FirstNetBuffer).MdlChain;
    let block = (*mdl).MappedSystemVa;
    if !is(Defect::LeakNbl) {
        NdisFreeNetBufferList(list);
    }
    NdisFreeMdl(mdl);
    free(block);
}

unsafe fn indicate(adapter: *mut Adapter, first: *mut NET_BUFFER_LIST, count: u32, flags: u32) {
    (*adapter).outstanding.fetch_add(count as usize, Ordering::SeqCst);
    if is(Defect::IndicateUnderLock) {
        NdisAcquireSpinLock((*adapter).lock.get());
    }
    let announced = if is(Defect::WrongReceiveCount) { count + 1 } else { count };
    NdisMIndicateReceiveNetBufferLists((*adapter).handle, first, 0, announced, flags);
    if is(Defect::IndicateTwice) {
        NdisMIndicateReceiveNetBufferLists((*adapter).handle, first, 0, announced, flags);
    }
    if is(Defect::IndicateUnderLock) {
        NdisReleaseSpinLock((*adapter).lock.get());
    }
}
