//! Pool memory and MDLs, of the kernel and of NDIS.

use ndis_sys::{
    EX_POOL_PRIORITY, IRP, KPROCESSOR_MODE, MDL, MEMORY_CACHING_TYPE, NDIS_HANDLE, NDIS_STATUS,
    POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE, POOL_FLAG_PAGED,
    POOL_FLAG_RAISE_ON_FAILURE, POOL_FLAG_SESSION, POOL_FLAG_UNINITIALIZED, POOL_FLAG_USE_QUOTA, POOL_FLAGS,
    PVOID, UINT, ULONG,
};

use super::{Call, exports};
use crate::machine::pool::PoolKind;
use crate::machine::{Machine, Stopped};
use crate::rules;

/// Flags below bit 32 that ExAllocatePool2 refuses when it does not know them.
const KNOWN: POOL_FLAGS = POOL_FLAG_USE_QUOTA
    | POOL_FLAG_UNINITIALIZED
    | POOL_FLAG_SESSION
    | POOL_FLAG_CACHE_ALIGNED
    | POOL_FLAG_RAISE_ON_FAILURE
    | POOL_FLAG_NON_PAGED
    | POOL_FLAG_NON_PAGED_EXECUTE
    | POOL_FLAG_PAGED;
const POOLS: POOL_FLAGS = POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED;

/// `STATUS_INSUFFICIENT_RESOURCES`, raised by an allocation that may not fail.
const RAISED: u32 = 0x1e;

/// The pool of a POOL_TYPE; its low bit says paged, and 512 no-execute.
pub(super) fn pool_of(pool_type: i32) -> PoolKind {
    if pool_type & 1 == 1 { PoolKind::Paged } else { PoolKind::NonPaged }
}

/// `ExAllocatePool2`.
pub(super) fn allocate_pool2(
    call: &Call<'_>,
    flags: POOL_FLAGS,
    size: usize,
    tag: ULONG,
) -> Result<PVOID, Stopped> {
    if (flags & POOLS).count_ones() != 1 || flags & 0xffff_ffff & !KNOWN != 0 {
        call.violate(rules::POOL_FLAGS, format!("flags {flags:#x}"));
        return Ok(std::ptr::null_mut());
    }
    let kind = if flags & POOL_FLAG_PAGED == 0 { PoolKind::NonPaged } else { PoolKind::Paged };
    let block = call.allocate(size, tag, kind, flags & POOL_FLAG_UNINITIALIZED == 0);
    if block.is_null() && flags & POOL_FLAG_RAISE_ON_FAILURE != 0 {
        return Err(call.stop(RAISED, [0xc000_009a, 0, 0, 0], "an allocation raised its failure"));
    }
    Ok(block.cast())
}

fn ndis_free(
    machine: &Machine,
    address: PVOID,
    length: Option<UINT>,
    tag: Option<ULONG>,
) -> Result<(), Stopped> {
    if let (Some(length), Some((block, true))) = (length, machine.pool.find(address as usize))
        && length != 0
        && block.size != length as usize
    {
        machine.violate(rules::POOL_WRONG_LENGTH, format!("freed with length {length}: {block}"));
    }
    machine.free(address as usize, tag)
}

exports! { KERNEL in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn ExAllocatePool2(call, flags: POOL_FLAGS, size: usize, tag: ULONG) -> PVOID {
        allocate_pool2(call, flags, size, tag)
    }

    UP_TO_DISPATCH fn ExAllocatePoolWithTag(call, pool_type: i32, size: usize, tag: ULONG) -> PVOID {
        Ok(call.allocate(size, tag, pool_of(pool_type), false).cast())
    }

    UP_TO_DISPATCH fn ExFreePoolWithTag(call, block: PVOID, tag: ULONG) {
        // A tag of 0 matches every block.
        call.free(block as usize, (tag != 0).then_some(tag))
    }

    UP_TO_DISPATCH fn ExFreePool(call, block: PVOID) {
        call.free(block as usize, None)
    }

    UP_TO_DISPATCH fn IoAllocateMdl(call, address: PVOID, length: ULONG, secondary: u8, _quota: u8, irp: *mut IRP) -> *mut MDL {
        if secondary != 0 || !irp.is_null() {
            call.violate(rules::PARAMETER, "the lab gives miniports no IRP to attach an MDL to");
        }
        Ok(call.allocate_mdl(address as usize, length, "IoAllocateMdl", false))
    }

    UP_TO_DISPATCH fn IoFreeMdl(call, mdl: *mut MDL) {
        call.check_unlocked(mdl);
        call.free_mdl(mdl, "IoAllocateMdl");
        Ok(())
    }

    UP_TO_DISPATCH fn MmBuildMdlForNonPagedPool(call, mdl: *mut MDL) {
        call.build_mdl(mdl);
        Ok(())
    }

    UP_TO_DISPATCH fn MmMapLockedPagesSpecifyCache(
        call, mdl: *mut MDL, _mode: KPROCESSOR_MODE, _cache: MEMORY_CACHING_TYPE, _address: PVOID, bugcheck: ULONG,
        priority: ULONG,
    ) -> PVOID {
        // MdlMappingNoWrite
        let write = priority & 0x8000_0000 == 0;
        let mapped = call.map_user(mdl, write).unwrap_or_else(|| call.map_mdl(mdl));
        if mapped.is_null() && bugcheck != 0 {
            return Err(call.stop(0x4c, [mdl as u64, 0, 0, 0], "a mapping failed that must succeed"));
        }
        Ok(mapped)
    }
} }

exports! { NDIS in "ndis.sys" {
    UP_TO_DISPATCH fn NdisAllocateMemoryWithTagPriority(
        call, handle: NDIS_HANDLE, length: UINT, tag: ULONG, _priority: EX_POOL_PRIORITY,
    ) -> PVOID {
        if !call.knows_handle(handle as usize) {
            call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
        }
        Ok(call.allocate(length as usize, tag, PoolKind::NonPaged, false).cast())
    }

    UP_TO_DISPATCH fn NdisAllocateMemoryWithTag(call, address: *mut PVOID, length: UINT, tag: ULONG) -> NDIS_STATUS {
        let block = call.allocate(length as usize, tag, PoolKind::NonPaged, false);
        // SAFETY: the caller gives a place for the address.
        unsafe { address.write(block.cast()) };
        Ok(if block.is_null() { ndis_sys::NDIS_STATUS_RESOURCES } else { ndis_sys::NDIS_STATUS_SUCCESS })
    }

    UP_TO_DISPATCH fn NdisFreeMemory(call, address: PVOID, length: UINT, flags: UINT) {
        if flags != 0 {
            call.violate(rules::PARAMETER, format!("MemoryFlags {flags:#x}; memory of the pool has none"));
        }
        ndis_free(call, address, Some(length), None)
    }

    UP_TO_DISPATCH fn NdisFreeMemoryWithTag(call, address: PVOID, tag: ULONG) {
        ndis_free(call, address, None, Some(tag))
    }

    UP_TO_DISPATCH fn NdisFreeMemoryWithTagPriority(call, handle: NDIS_HANDLE, address: PVOID, tag: ULONG) {
        if !call.knows_handle(handle as usize) {
            call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
        }
        ndis_free(call, address, None, Some(tag))
    }

    UP_TO_DISPATCH fn NdisAllocateMdl(call, handle: NDIS_HANDLE, address: PVOID, length: UINT) -> *mut MDL {
        let mdl = call.allocate_mdl(address as usize, length, "NdisAllocateMdl", true);
        match call.owner_of(handle as usize) {
            Some((owner, _)) => call.own_mdl(mdl, owner),
            None => {
                call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
            }
        }
        Ok(mdl)
    }

    UP_TO_DISPATCH fn NdisFreeMdl(call, mdl: *mut MDL) {
        call.free_mdl(mdl, "NdisAllocateMdl");
        Ok(())
    }
} }
