//! What mutants do to pool memory, MDLs and work items.

use std::ptr::null_mut;

use ndis_sys::*;

use super::{M, TAG, allocate, free, is};

ndis_fn! {
    pub(super) unsafe extern fn work(_context: PVOID, _item: NDIS_HANDLE) {
        NdisMSleep(20_000);
    }
}

/// Within MiniportInitializeEx.
pub(super) unsafe fn spoil(handle: NDIS_HANDLE) {
    if is(M::PoolOverrun) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            block.add(40).write(1);
            free(block.cast());
        }
    }
    if is(M::PoolUnderrun) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            block.sub(1).write(1);
            free(block.cast());
        }
    }
    if is(M::ReadAfterFree) {
        let block = allocate(40).cast::<u8>();
        if !block.is_null() {
            free(block.cast());
            block.read_volatile();
        }
    }
    if is(M::PointerAfterFree) {
        // A list element that is followed after it was freed.
        let block = allocate(40).cast::<*mut u8>();
        if !block.is_null() {
            block.write(null_mut());
            free(block.cast());
            let next = block.read_volatile();
            if !next.is_null() {
                next.read_volatile();
            }
        }
    }
    if is(M::PagedFreedAtDispatch) {
        let block = ExAllocatePool2(POOL_FLAG_PAGED, 40, TAG);
        if !block.is_null() {
            let old = KeRaiseIrqlToDpcLevel();
            free(block);
            KeLowerIrql(old);
        }
    }
    if is(M::WorkItemLeft) {
        NdisAllocateIoWorkItem(handle);
    }
    if is(M::WorkItemQueuedTwice) {
        let item = NdisAllocateIoWorkItem(handle);
        if !item.is_null() {
            // Often: a worker might take it out of the queue just in time, once or twice.
            for _ in 0..20 {
                NdisQueueIoWorkItem(item, Some(work), null_mut());
            }
            NdisMSleep(1_000_000);
            NdisFreeIoWorkItem(item);
        }
    }
    if is(M::MdlFreedTwice) || is(M::MdlOnStack) || is(M::MdlPaged) {
        let mut local = [0_u8; 64];
        let block =
            ExAllocatePool2(if is(M::MdlPaged) { POOL_FLAG_PAGED } else { POOL_FLAG_NON_PAGED }, 64, TAG);
        let data = if is(M::MdlOnStack) { (&raw mut local).cast() } else { block };
        let mdl = NdisAllocateMdl(handle, data, 64);
        if !mdl.is_null() {
            NdisFreeMdl(mdl);
            if is(M::MdlFreedTwice) {
                NdisFreeMdl(mdl);
            }
        }
        if !block.is_null() {
            free(block);
        }
    }
    if is(M::PoolWrongTag) {
        let block = allocate(40);
        if !block.is_null() {
            ExFreePoolWithTag(block, TAG + 1);
        }
    }
    if is(M::PoolZeroSize) {
        let block = allocate(0);
        if !block.is_null() {
            free(block);
        }
    }
    if is(M::PoolZeroTag) {
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 40, 0);
        if !block.is_null() {
            ExFreePool(block);
        }
    }
    if is(M::PoolNoPool) {
        let block = ExAllocatePool2(0, 40, TAG);
        if !block.is_null() {
            free(block);
        }
    }
    if is(M::PoolInnerFree) {
        let block = allocate(64).cast::<u8>();
        if !block.is_null() {
            free(block.add(16).cast());
        }
    }
    if is(M::WorkItemFreedQueued) {
        let item = NdisAllocateIoWorkItem(handle);
        if !item.is_null() {
            NdisQueueIoWorkItem(item, Some(work), null_mut());
            NdisFreeIoWorkItem(item);
        }
    }
    if is(M::PoolWrongLength) {
        let block = NdisAllocateMemoryWithTagPriority(handle, 40, TAG, NormalPoolPriority);
        if !block.is_null() {
            NdisFreeMemory(block, 41, 0);
        }
    }
}
