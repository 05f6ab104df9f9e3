//! NET_BUFFERs of ndis.sys beyond their allocation: data start, clones, contexts, copies.

use ndis_sys::{
    BOOLEAN, NDIS_HANDLE, NDIS_STATUS, NDIS_STATUS_SUCCESS, NET_BUFFER, NET_BUFFER_LIST, PVOID, ULONG, USHORT,
};

use super::exports;
use crate::machine::net_buffer::{adjust, copy};

/// Slots of out-of-band data that NdisCopySendNetBufferListInfo copies, and those of the receive path.
const SEND_INFO: [i32; 11] = [
    ndis_sys::TcpIpChecksumNetBufferListInfo,
    ndis_sys::IPsecOffloadV1NetBufferListInfo,
    ndis_sys::TcpLargeSendNetBufferListInfo,
    ndis_sys::Ieee8021QNetBufferListInfo,
    ndis_sys::NetBufferListCancelId,
    ndis_sys::MediaSpecificInformation,
    ndis_sys::NetBufferListProtocolId,
    ndis_sys::IPsecOffloadV2TunnelNetBufferListInfo,
    ndis_sys::IPsecOffloadV2HeaderNetBufferListInfo,
    ndis_sys::NetBufferListFilteringInfo,
    ndis_sys::VirtualSubnetInfo,
];
const RECEIVE_INFO: [i32; 10] = [
    ndis_sys::TcpIpChecksumNetBufferListInfo,
    ndis_sys::IPsecOffloadV1NetBufferListInfo,
    ndis_sys::Ieee8021QNetBufferListInfo,
    ndis_sys::MediaSpecificInformation,
    ndis_sys::NetBufferListFrameType,
    ndis_sys::NetBufferListHashValue,
    ndis_sys::NetBufferListHashInfo,
    ndis_sys::IPsecOffloadV2TunnelNetBufferListInfo,
    ndis_sys::IPsecOffloadV2HeaderNetBufferListInfo,
    ndis_sys::NetBufferListFilteringInfo,
];

/// # Safety
/// Both are NET_BUFFER_LISTs that the driver may touch.
unsafe fn copy_info(to: *mut NET_BUFFER_LIST, from: *const NET_BUFFER_LIST, slots: &[i32]) {
    for slot in slots.iter().filter_map(|slot| usize::try_from(*slot).ok()) {
        // SAFETY: as the caller says; slots are below the number of slots.
        unsafe { (*to).NetBufferListInfo[slot] = (*from).NetBufferListInfo[slot] };
    }
}

/// Changes every buffer of a list; stops at the first that fails, and undoes what was done.
///
/// # Safety
/// `list` is a NET_BUFFER_LIST of the driver.
unsafe fn for_each<E>(
    list: *mut NET_BUFFER_LIST,
    mut change: impl FnMut(*mut NET_BUFFER) -> Result<(), E>,
) -> Result<(), E> {
    // SAFETY: as the caller says.
    let mut buffer = unsafe { (*list).FirstNetBuffer };
    while !buffer.is_null() {
        change(buffer)?;
        // SAFETY: as above.
        buffer = unsafe { (*buffer).Next };
    }
    Ok(())
}

// The buffers and lists that these functions get are the caller's, with sound chains.
exports! { TABLE in "ndis.sys" {
    UP_TO_DISPATCH fn NdisAdvanceNetBufferDataStart(
        call, buffer: *mut NET_BUFFER, delta: ULONG, release: BOOLEAN, free: PVOID,
    ) {
        // SAFETY: see above.
        unsafe { call.advance(buffer, delta, release != 0, free as usize) }
    }

    UP_TO_DISPATCH fn NdisRetreatNetBufferDataStart(
        call, buffer: *mut NET_BUFFER, delta: ULONG, backfill: ULONG, allocate: PVOID,
    ) -> NDIS_STATUS {
        // SAFETY: see above.
        Ok(unsafe { call.retreat(buffer, delta, backfill, allocate as usize) })
    }

    UP_TO_DISPATCH fn NdisAdvanceNetBufferListDataStart(
        call, list: *mut NET_BUFFER_LIST, delta: ULONG, release: BOOLEAN, free: PVOID,
    ) {
        // SAFETY: see above.
        unsafe { for_each(list, |buffer| call.advance(buffer, delta, release != 0, free as usize)) }
    }

    UP_TO_DISPATCH fn NdisRetreatNetBufferListDataStart(
        call, list: *mut NET_BUFFER_LIST, delta: ULONG, backfill: ULONG, allocate: PVOID, free: PVOID,
    ) -> NDIS_STATUS {
        let mut done = Vec::new();
        // SAFETY: see above.
        let result = unsafe {
            for_each(list, |buffer| match call.retreat(buffer, delta, backfill, allocate as usize) {
                NDIS_STATUS_SUCCESS => {
                    done.push(buffer);
                    Ok(())
                }
                status => Err(status),
            })
        };
        if let Err(status) = result {
            for buffer in done {
                // SAFETY: see above.
                unsafe { call.advance(buffer, delta, true, free as usize) }?;
            }
            return Ok(status);
        }
        Ok(NDIS_STATUS_SUCCESS)
    }

    ANY fn NdisAdjustNetBufferCurrentMdl(call, buffer: *mut NET_BUFFER) {
        // SAFETY: see above.
        unsafe { adjust(call, buffer) };
        Ok(())
    }

    UP_TO_DISPATCH fn NdisCopyFromNetBufferToNetBuffer(
        call, to: *mut NET_BUFFER, to_offset: ULONG, count: ULONG, from: *mut NET_BUFFER, from_offset: ULONG,
        copied: *mut ULONG,
    ) -> NDIS_STATUS {
        // SAFETY: see above; MDLs are mapped before they are read, and the variable is the caller's.
        unsafe {
            for buffer in [to, from] {
                let mut mdl = (*buffer).CurrentMdl;
                while !mdl.is_null() {
                    let mapped = ndis_sys::MDL_MAPPED_TO_SYSTEM_VA | ndis_sys::MDL_SOURCE_IS_NONPAGED_POOL;
                    if (*mdl).MdlFlags & mapped == 0 && call.map_mdl(mdl).is_null() {
                        copied.write(0);
                        return Ok(ndis_sys::NDIS_STATUS_RESOURCES);
                    }
                    mdl = (*mdl).Next;
                }
            }
            copied.write(copy((to, to_offset), (from, from_offset), count));
        }
        Ok(NDIS_STATUS_SUCCESS)
    }

    UP_TO_DISPATCH fn NdisAllocateCloneNetBufferList(
        call, original: *mut NET_BUFFER_LIST, lists: NDIS_HANDLE, buffers: NDIS_HANDLE, flags: ULONG,
    ) -> *mut NET_BUFFER_LIST {
        // SAFETY: see above.
        Ok(unsafe { call.clone_list(original, (lists as usize, buffers as usize), flags) })
    }

    UP_TO_DISPATCH fn NdisFreeCloneNetBufferList(call, clone: *mut NET_BUFFER_LIST, flags: ULONG) {
        // SAFETY: see above.
        unsafe { call.free_clone(clone, flags) };
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAllocateNetBufferListContext(
        call, list: *mut NET_BUFFER_LIST, size: USHORT, backfill: USHORT, tag: ULONG,
    ) -> NDIS_STATUS {
        // SAFETY: see above.
        Ok(unsafe { call.push_context(list, size, backfill, tag) })
    }

    UP_TO_DISPATCH fn NdisFreeNetBufferListContext(call, list: *mut NET_BUFFER_LIST, size: USHORT) {
        // SAFETY: see above.
        unsafe { call.pop_context(list, size) }
    }

    UP_TO_DISPATCH fn NdisAllocateNetBufferMdlAndData(call, pool: NDIS_HANDLE) -> *mut NET_BUFFER {
        // The pool's DataSize says how much there is.
        Ok(call.allocate_buffer(pool as usize, std::ptr::null_mut(), 0, 0))
    }

    UP_TO_DISPATCH fn NdisCopySendNetBufferListInfo(_, to: *mut NET_BUFFER_LIST, from: *const NET_BUFFER_LIST) {
        // SAFETY: see above.
        unsafe { copy_info(to, from, &SEND_INFO) };
        Ok(())
    }

    UP_TO_DISPATCH fn NdisCopyReceiveNetBufferListInfo(_, to: *mut NET_BUFFER_LIST, from: *const NET_BUFFER_LIST) {
        // SAFETY: see above.
        unsafe { copy_info(to, from, &RECEIVE_INFO) };
        Ok(())
    }

    UP_TO_DISPATCH fn NdisQueryNetBufferPhysicalCount(_, buffer: *const NET_BUFFER) -> ULONG {
        // Pages that the data lies in.
        // SAFETY: see above.
        unsafe {
            let (mut mdl, mut at, mut left) = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset, (*buffer).DataLength);
            let mut pages = 0;
            while left > 0 && !mdl.is_null() {
                let part = left.min((*mdl).ByteCount.saturating_sub(at));
                pages += (((*mdl).ByteOffset + at) % 4096 + part).div_ceil(4096);
                (mdl, at, left) = ((*mdl).Next, 0, left - part);
            }
            Ok(pages)
        }
    }

    UP_TO_DISPATCH fn NdisGetPoolFromNetBufferList(_, list: *const NET_BUFFER_LIST) -> NDIS_HANDLE {
        // SAFETY: see above.
        Ok(unsafe { (*list).NdisPoolHandle })
    }

    UP_TO_DISPATCH fn NdisGetPoolFromNetBuffer(_, buffer: *const NET_BUFFER) -> NDIS_HANDLE {
        // SAFETY: see above.
        Ok(unsafe { (*buffer).NdisPoolHandle })
    }
} }
