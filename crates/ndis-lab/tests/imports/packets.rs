//! Net buffers, and the locks of NDIS 6.0.

use super::*;

/// A list with one buffer of 100 bytes, on memory of its own.
unsafe fn make_packet(handle: NDIS_HANDLE) -> (NDIS_HANDLE, *mut NET_BUFFER_LIST, *mut MDL, PVOID) {
    let mut parameters: NET_BUFFER_LIST_POOL_PARAMETERS = std::mem::zeroed();
    parameters.Header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_DEFAULT,
        Revision: 1,
        Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
    };
    parameters.fAllocateNetBuffer = 1;
    parameters.PoolTag = TAG;
    let pool = NdisAllocateNetBufferListPool(handle, &mut parameters);
    let data = block(100);
    for index in 0..100 {
        data.cast::<u8>().add(index).write(index as u8);
    }
    let mdl = NdisAllocateMdl(handle, data, 100);
    let list = NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, mdl, 10, 90);
    (pool, list, mdl, data)
}

unsafe fn free_packet((pool, list, mdl, data): (NDIS_HANDLE, *mut NET_BUFFER_LIST, *mut MDL, PVOID)) {
    NdisFreeNetBufferList(list);
    NdisFreeMdl(mdl);
    free(data);
    NdisFreeNetBufferListPool(pool);
}

#[test]
fn net_buffers_are_moved_cloned_and_copied() {
    unsafe fn script(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        let buffer = (*packet.1).FirstNetBuffer;
        let shape = |buffer: *mut NET_BUFFER| {
            ((*buffer).DataOffset, (*buffer).DataLength, (*buffer).CurrentMdlOffset)
        };
        NdisAdvanceNetBufferDataStart(buffer, 14, 0, null_mut());
        assert_eq!(shape(buffer), (24, 76, 24));
        // Within the data space, and then beyond it: NDIS allocates.
        assert_eq!(NdisRetreatNetBufferDataStart(buffer, 20, 0, null_mut()), NDIS_STATUS_SUCCESS);
        assert_eq!((shape(buffer), (*buffer).MdlChain), ((4, 96, 4), packet.2));
        assert_eq!(NdisRetreatNetBufferDataStart(buffer, 30, 6, null_mut()), NDIS_STATUS_SUCCESS);
        assert_eq!(shape(buffer), (6, 126, 6));
        assert_ne!((*buffer).MdlChain, packet.2);
        NdisAdvanceNetBufferDataStart(buffer, 30, 1, null_mut());
        assert_eq!((shape(buffer), (*buffer).MdlChain), ((4, 96, 4), packet.2));
        // A clone shows the same bytes by other MDLs.
        let clone = NdisAllocateCloneNetBufferList(packet.1, null_mut(), null_mut(), 0);
        let copy = (*clone).FirstNetBuffer;
        assert_eq!((shape(copy), (*clone).ParentNetBufferList), ((0, 96, 0), packet.1));
        assert_eq!((*(*copy).MdlChain).MappedSystemVa, packet.3.cast::<u8>().add(4).cast());
        let mut copied = 0;
        let other = make_packet(handle);
        let target = (*other.1).FirstNetBuffer;
        assert_eq!(
            NdisCopyFromNetBufferToNetBuffer(target, 5, 1000, copy, 1, &mut copied),
            NDIS_STATUS_SUCCESS
        );
        // 100 - 15 bytes of room; byte 15 of the target is the second of the source's data.
        assert_eq!((copied, other.3.cast::<u8>().add(15).read()), (85, 5));
        NdisFreeCloneNetBufferList(clone, 0);
        assert_eq!(NdisAllocateNetBufferListContext(packet.1, 32, 16, TAG), NDIS_STATUS_SUCCESS);
        assert_eq!(NdisAllocateNetBufferListContext(packet.1, 16, 0, TAG), NDIS_STATUS_SUCCESS);
        NdisFreeNetBufferListContext(packet.1, 16);
        NdisFreeNetBufferListContext(packet.1, 32);
        free_packet(packet);
        free_packet(other);
    }
    unsafe fn too_far(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisAdvanceNetBufferDataStart((*packet.1).FirstNetBuffer, 91, 0, null_mut());
        free_packet(packet);
    }
    unsafe fn clone_left(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisAllocateCloneNetBufferList(packet.1, null_mut(), null_mut(), 0);
        free_packet(packet);
    }
    unsafe fn no_clone(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisFreeCloneNetBufferList(packet.1, 0);
        free_packet(packet);
    }
    unsafe fn space_left(handle: NDIS_HANDLE) {
        let packet = make_packet(handle);
        NdisRetreatNetBufferDataStart((*packet.1).FirstNetBuffer, 30, 0, null_mut());
        free_packet(packet);
    }
    clean(script);
    breaks(rules::MDL_CHAIN, too_far);
    breaks(rules::LEAK_HALT, clone_left);
    breaks(rules::NBL_DOUBLE_FREE, no_clone);
    breaks(rules::LEAK_UNLOAD, space_left);
}

#[test]
fn locks_of_ndis_60_are_released() {
    unsafe fn script(_: NDIS_HANDLE) {
        let (lock, state) = (block(1040), block(8));
        NdisInitializeReadWriteLock(lock);
        for write in [0, 1] {
            NdisAcquireReadWriteLock(lock, write, state);
            NdisReleaseReadWriteLock(lock, state);
        }
        free(lock);
        free(state);
    }
    unsafe fn kept(_: NDIS_HANDLE) {
        let (lock, state) = (block(1040), block(8));
        NdisInitializeReadWriteLock(lock);
        NdisAcquireReadWriteLock(lock, 1, state);
    }
    clean(script);
    breaks(rules::LOCK_HELD_ON_RETURN, kept);
}

#[test]
fn what_is_made_with_the_drivers_handle_outlives_the_adapter() {
    static KEPT: [AtomicPtr<c_void>; 3] = [const { AtomicPtr::new(null_mut()) }; 3];
    unsafe fn make(handle: NDIS_HANDLE) {
        let data = block(64);
        let made = [data, NdisAllocateMdl(handle, data, 64).cast(), NdisAllocateRWLock(handle).cast()];
        for (place, made) in KEPT.iter().zip(made) {
            assert!(!made.is_null());
            place.store(made, Ordering::Relaxed);
        }
    }
    unsafe fn take(_: NDIS_HANDLE) {
        let [data, mdl, lock] = KEPT.each_ref().map(|place| place.swap(null_mut(), Ordering::Relaxed));
        NdisFreeMdl(mdl.cast());
        NdisFreeRWLock(lock.cast());
        free(data);
    }
    unsafe fn of_the_driver(_: NDIS_HANDLE) {
        make(mini::driver_handle());
    }
    unsafe fn of_the_adapter(handle: NDIS_HANDLE) {
        make(handle);
    }
    // The next adapter's handler frees what the first one's made, as an unload routine would.
    let live = |script: unsafe fn(NDIS_HANDLE)| {
        let _turn = TURN.lock();
        let lab = lab().build();
        let (driver, adapter) = load(&lab, script).unwrap();
        adapter.halt(HaltAction::DeviceStopped).unwrap();
        mini::SCRIPT.store(take as unsafe fn(NDIS_HANDLE) as usize, Ordering::Relaxed);
        let next = driver.add_adapter(AdapterConfig::new()).unwrap();
        end(driver, &next).unwrap();
        assert!(lab.census().is_empty(), "{}", lab.census());
        lab.take_violations()
    };
    assert_eq!(live(of_the_driver), []);
    let left = live(of_the_adapter);
    assert_eq!(left.len(), 2, "{left:#?}");
    assert!(left.iter().all(|violation| violation.rule == rules::LEAK_HALT), "{left:#?}");
}
