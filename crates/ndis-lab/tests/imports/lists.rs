//! Lookaside lists, SLISTs and interlocked lists.

use super::*;

/// What the WDK's headers inline: the list's own routines are at these offsets.
unsafe fn from_list(list: PVOID) -> PVOID {
    let at = list.cast::<u8>();
    let allocate: unsafe extern "win64" fn(i32, usize, u32) -> PVOID =
        std::mem::transmute(at.add(48).cast::<usize>().read());
    let (kind, tag, size) =
        (at.add(36).cast::<i32>().read(), at.add(40).cast::<u32>().read(), at.add(44).cast::<u32>().read());
    allocate(kind, size as usize, tag)
}

unsafe fn to_list(list: PVOID, entry: PVOID) {
    let free: unsafe extern "win64" fn(PVOID) =
        std::mem::transmute(list.cast::<u8>().add(56).cast::<usize>().read());
    free(entry);
}

unsafe fn make_list() -> PVOID {
    let list = block(128);
    ExInitializeNPagedLookasideList(list, null_mut(), null_mut(), 0, 200, TAG, 0);
    list
}

#[test]
fn lookaside_lists_get_back_what_they_gave_and_are_deleted() {
    unsafe fn script(_: NDIS_HANDLE) {
        let list = make_list();
        let entry = from_list(list);
        std::ptr::write_bytes(entry.cast::<u8>(), 1, 200);
        to_list(list, entry);
        ExDeleteNPagedLookasideList(list);
        free(list);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        make_list();
    }
    unsafe fn freed(_: NDIS_HANDLE) {
        free(make_list());
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let list = make_list();
        ExDeleteNPagedLookasideList(list);
        ExDeleteNPagedLookasideList(list);
    }
    unsafe fn foreign(_: NDIS_HANDLE) {
        let list = make_list();
        to_list(list, block(200));
        ExDeleteNPagedLookasideList(list);
        free(list);
    }
    unsafe fn beyond(_: NDIS_HANDLE) {
        let list = make_list();
        let entry = from_list(list);
        entry.cast::<u8>().add(200).write(1);
        to_list(list, entry);
        ExDeleteNPagedLookasideList(list);
        free(list);
    }
    clean(script);
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::LOOKASIDE_USE, freed);
    breaks(rules::LOOKASIDE_USE, twice);
    breaks(rules::LOOKASIDE_USE, foreign);
    breaks(rules::POOL_OVERRUN, beyond);
}

#[test]
fn linked_lists_hang_together() {
    unsafe fn script(_: NDIS_HANDLE) {
        let memory = block(128);
        let at = |offset: usize| memory.cast::<u8>().add(offset).cast::<c_void>();
        assert!(ExpInterlockedPushEntrySList(at(0), at(16)).is_null());
        assert_eq!(ExpInterlockedPopEntrySList(at(0)), at(16));
        let (head, lock) = (at(32), at(48).cast::<KSPIN_LOCK>());
        lock.cast::<usize>().write(0);
        head.cast::<[PVOID; 2]>().write([head; 2]);
        assert!(ExInterlockedInsertTailList(head, at(64), lock).is_null());
        assert_eq!(ExInterlockedInsertTailList(head, at(80), lock), at(64));
        assert_eq!(ExInterlockedRemoveHeadList(head, lock), at(64));
        assert_eq!(ExInterlockedRemoveHeadList(head, lock), at(80));
        assert!(ExInterlockedRemoveHeadList(head, lock).is_null());
        free(memory);
    }
    unsafe fn crooked(_: NDIS_HANDLE) {
        let memory = block(64);
        ExpInterlockedPushEntrySList(memory, memory.cast::<u8>().add(24).cast());
        free(memory);
    }
    unsafe fn corrupt(_: NDIS_HANDLE) {
        let memory = block(64);
        let entry = memory.cast::<u8>().add(16).cast::<c_void>();
        memory.cast::<[PVOID; 2]>().write([entry; 2]);
        entry.cast::<[PVOID; 2]>().write([entry; 2]);
        ExInterlockedRemoveHeadList(memory, memory.cast::<u8>().add(32).cast());
    }
    clean(script);
    breaks(rules::LIST_USE, crooked);
    breaks(rules::LIST_USE, corrupt);
}
