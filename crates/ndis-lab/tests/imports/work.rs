//! Work items, and what a driver registers to be called back.

use super::*;

static DONE: AtomicPtr<KEVENT> = AtomicPtr::new(null_mut());

unsafe extern "win64" fn io_work(_device: *mut DEVICE_OBJECT, _context: PVOID) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    KeSetEvent(DONE.load(Ordering::SeqCst), 0, 0);
}

unsafe extern "win64" fn executive_work(_context: PVOID) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    KeSetEvent(DONE.load(Ordering::SeqCst), 0, 0);
}

unsafe fn work_item(handle: NDIS_HANDLE) -> PVOID {
    let mut device = null_mut();
    NdisMGetDeviceProperty(handle, null_mut(), &mut device, null_mut(), null_mut(), null_mut());
    let item = IoAllocateWorkItem(device);
    assert!(!item.is_null());
    item
}

#[test]
fn work_items_run_once_and_are_freed() {
    unsafe fn script(handle: NDIS_HANDLE) {
        CALLS.store(0, Ordering::SeqCst);
        let memory = block(64);
        let event = memory.cast::<KEVENT>();
        KeInitializeEvent(event, SynchronizationEvent, 0);
        DONE.store(event, Ordering::SeqCst);
        let item = work_item(handle);
        IoQueueWorkItem(item, io_work as *const () as PVOID, 1, null_mut());
        assert_eq!(wait(event.cast()), 0);
        let executive = memory.cast::<u8>().add(32).cast::<[usize; 4]>();
        executive.write([0, 0, executive_work as *const () as usize, 0]);
        ExQueueWorkItem(executive, 1);
        assert_eq!(wait(event.cast()), 0);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
        // The routine has signalled the event; it is out of the driver's code when its thread has gone on.
        NdisMSleep(50_000);
        IoFreeWorkItem(item);
        free(memory);
    }
    unsafe fn twice(handle: NDIS_HANDLE) {
        let item = work_item(handle);
        // At DISPATCH_LEVEL, on a machine with one thread: nothing runs in between.
        let old = KeRaiseIrqlToDpcLevel();
        IoQueueWorkItem(item, io_work as *const () as PVOID, 1, null_mut());
        IoQueueWorkItem(item, io_work as *const () as PVOID, 1, null_mut());
        KeLowerIrql(old);
    }
    unsafe fn left(handle: NDIS_HANDLE) {
        work_item(handle);
    }
    clean(script);
    static EVENT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    DONE.store(EVENT.as_ptr().cast_mut().cast(), Ordering::SeqCst);
    breaks_on(&lab().deterministic(7).build(), rules::WORK_ITEM_USE, twice);
    breaks(rules::LEAK_HALT, left);
}

#[test]
fn providers_and_callbacks_are_unregistered() {
    const PROVIDER: GUID = GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] };
    unsafe extern "win64" fn changed(_context: PVOID, _change: PVOID, _status: *mut NTSTATUS) {
        CALLS.fetch_add(1, Ordering::SeqCst);
    }
    unsafe fn script(_: NDIS_HANDLE) {
        CALLS.store(0, Ordering::SeqCst);
        let mut handle = 0;
        assert_eq!(EtwRegister(&PROVIDER, null_mut(), null_mut(), &mut handle), 0);
        assert_eq!(EtwUnregister(handle), 0);
        // Each processor is announced, and then there.
        let callback = KeRegisterProcessorChangeCallback(changed as *const () as PVOID, null_mut(), 1);
        let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2 * count);
        KeDeregisterProcessorChangeCallback(callback);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        let mut handle = 0;
        EtwRegister(&PROVIDER, null_mut(), null_mut(), &mut handle);
    }
    unsafe fn wrong_provider(_: NDIS_HANDLE) {
        EtwUnregister(0x1234);
    }
    unsafe fn wrong_callback(_: NDIS_HANDLE) {
        KeDeregisterProcessorChangeCallback(0x1234 as PVOID);
    }
    clean(script);
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::TRACE_USE, wrong_provider);
    breaks(rules::CALLBACK_USE, wrong_callback);
}

#[test]
fn a_driver_asks_for_a_reset_or_gives_its_adapter_up() {
    unsafe extern "win64" {
        fn NdisMResetMiniport(handle: NDIS_HANDLE);
        fn NdisMRemoveMiniport(handle: NDIS_HANDLE) -> NDIS_STATUS;
    }
    unsafe fn give_up(handle: NDIS_HANDLE) {
        assert_eq!(NdisMRemoveMiniport(handle), NDIS_STATUS_SUCCESS);
        assert_eq!(NdisMRemoveMiniport(mini::driver_handle()), NDIS_STATUS_FAILURE);
    }
    unsafe fn reset(handle: NDIS_HANDLE) {
        NdisMResetMiniport(handle);
    }
    unsafe fn neither(_: NDIS_HANDLE) {}
    let _turn = TURN.lock();
    for (script, asked, removal, rule) in [
        (give_up as unsafe fn(NDIS_HANDLE), false, true, Some(rules::HANDLE_UNKNOWN)),
        // The small miniport has no MiniportResetEx: it cannot be done.
        (reset, true, false, Some(rules::PARAMETER)),
        (neither, false, false, None),
    ] {
        let lab = lab().build();
        let (driver, adapter) = load(&lab, script).unwrap();
        assert_eq!(adapter.removal_asked(), removal);
        // NDIS is told once, whether it looks for a hang or not.
        assert_eq!(adapter.check_for_hang().is_ok_and(|hung| hung), asked);
        assert!(!adapter.reset_asked());
        end(driver, &adapter).unwrap();
        let broken: Vec<_> = lab.violations().iter().map(|violation| violation.rule).collect();
        assert_eq!(broken, rule.into_iter().collect::<Vec<_>>());
    }
}
