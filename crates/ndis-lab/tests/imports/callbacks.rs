//! Callback objects, pages for MDLs, and reader-writer locks that are tried.

use super::*;

#[allow(non_snake_case)]
unsafe extern "win64" {
    fn ExCreateCallback(
        object: *mut PVOID,
        attributes: *const ObjectAttributes,
        make: u8,
        many: u8,
    ) -> NTSTATUS;
    fn ExRegisterCallback(object: PVOID, routine: Routine, context: PVOID) -> PVOID;
    fn ExUnregisterCallback(handle: PVOID);
    fn ExNotifyCallback(object: PVOID, first: PVOID, second: PVOID);
    fn ObfDereferenceObject(object: PVOID) -> isize;
    fn MmAllocatePagesForMdlEx(
        low: i64,
        high: i64,
        skip: i64,
        size: usize,
        cache: i32,
        flags: u32,
    ) -> *mut MDL;
    fn MmFreePagesFromMdl(mdl: *mut MDL);
    fn MmUnmapLockedPages(base: PVOID, mdl: *mut MDL);
    fn ExFreePool(block: PVOID);
    fn NdisTryAcquireRWLockRead(lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX, flags: u8) -> u8;
    fn NdisTryAcquireRWLockWrite(lock: *mut NDIS_RW_LOCK_EX, state: *mut LOCK_STATE_EX, flags: u8) -> u8;
}

type Routine = unsafe extern "win64" fn(PVOID, PVOID, PVOID);

/// `STATUS_OBJECT_NAME_NOT_FOUND`, `STATUS_UNSUCCESSFUL`
const NAME_NOT_FOUND: NTSTATUS = 0xc000_0034_u32.cast_signed();
const UNSUCCESSFUL: NTSTATUS = 0xc000_0001_u32.cast_signed();

unsafe fn create(name: Option<&str>, make: bool, many: bool) -> Result<PVOID, NTSTATUS> {
    let units = units(name.unwrap_or_default());
    let text = string(&units);
    let attributes = ObjectAttributes {
        length: 48,
        root: 0,
        name: if name.is_some() { &text } else { std::ptr::null() },
        // OBJ_CASE_INSENSITIVE and OBJ_PERMANENT
        attributes: 0x50,
        security: null_mut(),
        quality: null_mut(),
    };
    let mut object = null_mut();
    match ExCreateCallback(&mut object, &attributes, u8::from(make), u8::from(many)) {
        0 => Ok(object),
        status => Err(status),
    }
}

static HEARD: Mutex<Vec<(usize, usize, usize)>> = Mutex::new(Vec::new());

unsafe extern "win64" fn hear(context: PVOID, first: PVOID, second: PVOID) {
    HEARD.lock().push((context as usize, first as usize, second as usize));
}

#[test]
fn callback_objects_tell_everyone_who_registered() {
    unsafe fn tell(_: NDIS_HANDLE) {
        HEARD.lock().clear();
        assert_eq!(create(None, true, true), Err(UNSUCCESSFUL));
        assert_eq!(create(Some(r"\Callback\Softnic"), false, true), Err(NAME_NOT_FOUND));
        let object = create(Some(r"\Callback\Softnic"), true, true).unwrap();
        // The same object, by its name in any case.
        assert_eq!(create(Some(r"\callback\SOFTNIC"), false, true), Ok(object));
        let [one, two] = [1, 2].map(|context| ExRegisterCallback(object, hear, context as PVOID));
        ExNotifyCallback(object, 7 as PVOID, 8 as PVOID);
        ExUnregisterCallback(one);
        ExNotifyCallback(object, 9 as PVOID, null_mut());
        ExUnregisterCallback(two);
        ExNotifyCallback(object, null_mut(), null_mut());
        assert_eq!(*HEARD.lock(), [(1, 7, 8), (2, 7, 8), (2, 9, 0)]);
        ObfDereferenceObject(object);
        ObfDereferenceObject(object);
        // The kernel's own is there.
        let power = create(Some(r"\Callback\PowerState"), false, false).unwrap();
        let handle = ExRegisterCallback(power, hear, null_mut());
        assert!(!handle.is_null());
        ExUnregisterCallback(handle);
        ObfDereferenceObject(power);
        // One routine only.
        let single = create(Some(r"\Callback\Single"), true, false).unwrap();
        let handle = ExRegisterCallback(single, hear, null_mut());
        assert!(ExRegisterCallback(single, hear, null_mut()).is_null());
        ExUnregisterCallback(handle);
        ObfDereferenceObject(single);
    }
    clean(tell);
}

#[test]
fn callback_routines_are_unregistered_once() {
    unsafe fn left(_: NDIS_HANDLE) {
        let object = create(Some(r"\Callback\Softnic"), true, true).unwrap();
        ExRegisterCallback(object, hear, null_mut());
        ObfDereferenceObject(object);
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let object = create(Some(r"\Callback\Softnic"), true, true).unwrap();
        let handle = ExRegisterCallback(object, hear, null_mut());
        ExUnregisterCallback(handle);
        ExUnregisterCallback(handle);
        ObfDereferenceObject(object);
    }
    unsafe fn no_object(_: NDIS_HANDLE) {
        let block = block(64);
        ExNotifyCallback(block, null_mut(), null_mut());
        free(block);
    }
    unsafe fn reference_kept(_: NDIS_HANDLE) {
        create(Some(r"\Callback\Softnic"), true, true).unwrap();
    }
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::CALLBACK_USE, twice);
    breaks(rules::PARAMETER, no_object);
    breaks(rules::LEAK_HALT, reference_kept);
}

unsafe fn pages(size: usize) -> *mut MDL {
    let mdl = MmAllocatePagesForMdlEx(0, i64::MAX, 0, size, 1, 0);
    assert!(!mdl.is_null());
    mdl
}

#[test]
fn pages_for_an_mdl_are_whole_zeroed_and_freed_before_it() {
    unsafe fn right(_: NDIS_HANDLE) {
        let mdl = pages(5000);
        assert_eq!(((*mdl).ByteCount, (*mdl).ByteOffset), (8192, 0));
        let bytes = MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, null_mut(), 0, 16);
        let data = std::slice::from_raw_parts_mut(bytes.cast::<u8>(), 8192);
        assert!(data.iter().all(|byte| *byte == 0));
        data.fill(0x5a);
        MmUnmapLockedPages(bytes, mdl);
        MmFreePagesFromMdl(mdl);
        ExFreePool(mdl.cast());
    }
    unsafe fn mdl_kept(_: NDIS_HANDLE) {
        MmFreePagesFromMdl(pages(4096));
    }
    unsafe fn pages_kept(_: NDIS_HANDLE) {
        ExFreePool(pages(4096).cast());
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let mdl = pages(4096);
        MmFreePagesFromMdl(mdl);
        MmFreePagesFromMdl(mdl);
        ExFreePool(mdl.cast());
    }
    unsafe fn mapped(_: NDIS_HANDLE) {
        let mdl = pages(4096);
        MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, null_mut(), 0, 16);
        MmFreePagesFromMdl(mdl);
        ExFreePool(mdl.cast());
    }
    unsafe fn none(_: NDIS_HANDLE) {
        assert!(MmAllocatePagesForMdlEx(0, i64::MAX, 0, 0, 1, 0).is_null());
    }
    clean(right);
    breaks(rules::LEAK_UNLOAD, mdl_kept);
    breaks(rules::LEAK_UNLOAD, pages_kept);
    breaks(rules::MDL_LOCK, twice);
    breaks(rules::MDL_LOCK, mapped);
    breaks(rules::PARAMETER, none);
}

#[test]
fn a_reader_writer_lock_is_tried_without_waiting() {
    static LOCK: AtomicPtr<NDIS_RW_LOCK_EX> = AtomicPtr::new(null_mut());
    static REFUSED: AtomicU32 = AtomicU32::new(0);
    unsafe extern "win64" fn other(_context: PVOID) {
        let (lock, mut state) = (LOCK.load(Ordering::Relaxed), std::mem::zeroed());
        if NdisTryAcquireRWLockRead(lock, &mut state, 0) == 1 {
            NdisReleaseRWLock(lock, &mut state);
        } else {
            REFUSED.fetch_add(1, Ordering::SeqCst);
        }
        let event = DONE.load(Ordering::Relaxed);
        KeSetEvent(event, 0, 0);
    }
    static DONE: AtomicPtr<KEVENT> = AtomicPtr::new(null_mut());
    unsafe fn tries(handle: NDIS_HANDLE) {
        REFUSED.store(0, Ordering::Relaxed);
        let lock = NdisAllocateRWLock(handle);
        LOCK.store(lock, Ordering::Relaxed);
        let mut state: LOCK_STATE_EX = std::mem::zeroed();
        assert_eq!(NdisTryAcquireRWLockWrite(lock, &mut state, 0), 1);
        NdisReleaseRWLock(lock, &mut state);
        assert_eq!(NdisTryAcquireRWLockRead(lock, &mut state, 0), 1);
        NdisReleaseRWLock(lock, &mut state);
        // On another thread, while it is held for writing.
        let event = block(size_of::<KEVENT>()).cast::<KEVENT>();
        KeInitializeEvent(event, NotificationEvent, 0);
        DONE.store(event, Ordering::Relaxed);
        let item = block(32).cast::<[usize; 4]>();
        (*item)[2] = other as unsafe extern "win64" fn(PVOID) as usize;
        NdisAcquireRWLockWrite(lock, &mut state, 0);
        ExQueueWorkItem(item, 1);
        while REFUSED.load(Ordering::SeqCst) == 0 {
            std::hint::spin_loop();
        }
        NdisReleaseRWLock(lock, &mut state);
        assert_eq!(wait(event.cast()), 0);
        free(item.cast());
        free(event.cast());
        NdisFreeRWLock(lock);
    }
    // It takes two threads.
    clean_on(&lab().build(), tries);
}
