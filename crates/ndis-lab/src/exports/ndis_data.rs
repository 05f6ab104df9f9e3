//! NET_BUFFER_LISTs, NET_BUFFERs and what carries them, of ndis.sys.

use ndis_sys::{
    MDL, NDIS_HANDLE, NDIS_PORT_NUMBER, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_POOL_PARAMETERS,
    NET_BUFFER_POOL_PARAMETERS, PVOID, UINT, ULONG, USHORT,
};

use super::exports;
use crate::adapter::attributes::{BUFFER_POOL, LIST_POOL};
use crate::machine::{Machine, thread};
use crate::packet::PoolParameters;
use crate::rules;

/// The adapter for whose handle a pool is made; the driver's handle is allowed too.
fn pool_owner(machine: &Machine, handle: NDIS_HANDLE) -> Result<Option<crate::adapter::AdapterId>, ()> {
    if let Some((adapter, _)) = machine.owner_of(handle as usize) {
        return Ok(adapter);
    }
    // NULL was allowed for drivers of NDIS 5 only.
    machine.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
    Err(())
}

/// NdisGetDataBuffer.
///
/// # Safety
/// The buffer and its MDLs are valid; `storage` is NULL or holds `needed` bytes.
unsafe fn data_buffer(
    machine: &Machine,
    buffer: *mut NET_BUFFER,
    needed: ULONG,
    storage: PVOID,
    multiple: UINT,
    offset: UINT,
) -> PVOID {
    let null = std::ptr::null_mut();
    if multiple == 0 || !multiple.is_power_of_two() || offset >= multiple {
        machine.violate(rules::PARAMETER, format!("AlignMultiple {multiple}, AlignOffset {offset}"));
        return null;
    }
    // SAFETY: the caller vouches for the structures; unmapped MDLs are mapped before they are read.
    unsafe {
        if (*buffer).DataLength < needed || needed == 0 {
            return null;
        }
        let map = |mdl: *mut MDL| -> PVOID {
            if (*mdl).MdlFlags & (ndis_sys::MDL_MAPPED_TO_SYSTEM_VA | ndis_sys::MDL_SOURCE_IS_NONPAGED_POOL)
                == 0
            {
                machine.map_mdl(mdl)
            } else {
                (*mdl).MappedSystemVa
            }
        };
        let (mut mdl, mut within) = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset);
        while !mdl.is_null() && within >= (*mdl).ByteCount {
            within -= (*mdl).ByteCount;
            mdl = (*mdl).Next;
        }
        if mdl.is_null() {
            return null;
        }
        if (*mdl).ByteCount - within >= needed {
            let base = map(mdl);
            if base.is_null() {
                return null;
            }
            let address = base.cast::<u8>().add(within as usize);
            if (address as usize) % multiple as usize == offset as usize || storage.is_null() {
                let aligned = (address as usize) % multiple as usize == offset as usize;
                return if aligned { address.cast() } else { null };
            }
        }
        if storage.is_null() {
            return null;
        }
        let (mut to, mut left) = (storage.cast::<u8>(), needed);
        while left > 0 {
            if mdl.is_null() {
                return null;
            }
            let base = map(mdl);
            if base.is_null() {
                return null;
            }
            let count = ((*mdl).ByteCount - within).min(left);
            std::ptr::copy_nonoverlapping(base.cast::<u8>().add(within as usize), to, count as usize);
            to = to.add(count as usize);
            left -= count;
            within = 0;
            mdl = (*mdl).Next;
        }
        storage
    }
}

exports! { TABLE in "ndis.sys" {
    UP_TO_DISPATCH fn NdisAllocateNetBufferListPool(
        call, handle: NDIS_HANDLE, parameters: *mut NET_BUFFER_LIST_POOL_PARAMETERS,
    ) -> NDIS_HANDLE {
        let null = std::ptr::null_mut();
        // SAFETY: the caller's structure, as large as its header says; the header comes first.
        let parameters = unsafe {
            if !call.takes_header((*parameters).Header, LIST_POOL) {
                return Ok(null);
            }
            *parameters
        };
        let Ok(adapter) = pool_owner(call, handle) else { return Ok(null) };
        if parameters.PoolTag == 0 {
            call.violate(rules::POOL_TAG_ZERO, "PoolTag of NET_BUFFER_LIST_POOL_PARAMETERS");
        }
        if !parameters.ContextSize.is_multiple_of(16) {
            call.violate(rules::NBL_POOL, format!("ContextSize {} is no multiple of 16", parameters.ContextSize));
        }
        if parameters.ProtocolId > ndis_sys::NDIS_PROTOCOL_ID_MASK {
            call.violate(rules::NBL_POOL, format!("ProtocolId {}", parameters.ProtocolId));
        }
        let allocate_buffer = parameters.fAllocateNetBuffer != 0;
        if parameters.DataSize > 0 && !allocate_buffer {
            call.violate(rules::NBL_POOL, "DataSize without fAllocateNetBuffer");
        }
        if call.fault(0, parameters.PoolTag) {
            return Ok(null);
        }
        let parameters = PoolParameters {
            allocate_buffer,
            context_size: parameters.ContextSize,
            data_size: parameters.DataSize,
        };
        Ok(call.create_list_pool(parameters, adapter) as NDIS_HANDLE)
    }

    UP_TO_DISPATCH fn NdisFreeNetBufferListPool(call, pool: NDIS_HANDLE) {
        call.free_packet_pool(pool as usize, true);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAllocateNetBufferPool(
        call, handle: NDIS_HANDLE, parameters: *mut NET_BUFFER_POOL_PARAMETERS,
    ) -> NDIS_HANDLE {
        let null = std::ptr::null_mut();
        // SAFETY: the caller's structure, as large as its header says; the header comes first.
        let parameters = unsafe {
            if !call.takes_header((*parameters).Header, BUFFER_POOL) {
                return Ok(null);
            }
            *parameters
        };
        let Ok(adapter) = pool_owner(call, handle) else { return Ok(null) };
        if parameters.PoolTag == 0 {
            call.violate(rules::POOL_TAG_ZERO, "PoolTag of NET_BUFFER_POOL_PARAMETERS");
        }
        if call.fault(0, parameters.PoolTag) {
            return Ok(null);
        }
        Ok(call.create_buffer_pool(parameters.DataSize, adapter) as NDIS_HANDLE)
    }

    UP_TO_DISPATCH fn NdisFreeNetBufferPool(call, pool: NDIS_HANDLE) {
        call.free_packet_pool(pool as usize, false);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAllocateNetBufferAndNetBufferList(
        call, pool: NDIS_HANDLE, context: USHORT, backfill: USHORT, chain: *mut MDL, offset: ULONG, length: usize,
    ) -> *mut NET_BUFFER_LIST {
        Ok(call.allocate_list(pool as usize, context, backfill, Some((chain, offset, length))))
    }

    UP_TO_DISPATCH fn NdisAllocateNetBufferList(
        call, pool: NDIS_HANDLE, context: USHORT, backfill: USHORT,
    ) -> *mut NET_BUFFER_LIST {
        Ok(call.allocate_list(pool as usize, context, backfill, None))
    }

    UP_TO_DISPATCH fn NdisFreeNetBufferList(call, list: *mut NET_BUFFER_LIST) {
        call.free_list(list);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAllocateNetBuffer(
        call, pool: NDIS_HANDLE, chain: *mut MDL, offset: ULONG, length: usize,
    ) -> *mut NET_BUFFER {
        Ok(call.allocate_buffer(pool as usize, chain, offset, length))
    }

    UP_TO_DISPATCH fn NdisFreeNetBuffer(call, buffer: *mut NET_BUFFER) {
        call.free_buffer(buffer);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisGetDataBuffer(
        call, buffer: *mut NET_BUFFER, needed: ULONG, storage: PVOID, multiple: UINT, offset: UINT,
    ) -> PVOID {
        // SAFETY: the caller's buffer and storage.
        Ok(unsafe { data_buffer(call, buffer, needed, storage, multiple, offset) })
    }

    UP_TO_DISPATCH fn NdisMSendNetBufferListsComplete(
        call, handle: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, flags: ULONG,
    ) {
        if let Some(adapter) = call.named_adapter(handle) {
            // SAFETY: the caller's chain; each list is looked up before it is read.
            unsafe { call.complete_sends(&adapter, chain, flags) };
        }
        Ok(())
    }

    UP_TO_DISPATCH fn NdisMIndicateReceiveNetBufferLists(
        call, handle: NDIS_HANDLE, chain: *mut NET_BUFFER_LIST, port: NDIS_PORT_NUMBER, count: ULONG, flags: ULONG,
    ) {
        let Some(adapter) = call.named_adapter(handle) else { return Ok(()) };
        // SAFETY: the caller's chain; each list is looked up before it is read.
        unsafe { call.indicate_receives(&adapter, chain, port, count, flags) }?;
        // What the call made others do may have raised the thread no further than it was.
        debug_assert!(thread::irql() <= 2);
        Ok(())
    }
} }
