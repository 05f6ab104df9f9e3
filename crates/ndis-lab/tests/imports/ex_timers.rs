//! EX_TIMER objects.

use super::*;

#[allow(non_snake_case)]
unsafe extern "win64" {
    fn ExAllocateTimer(callback: Option<Callback>, context: PVOID, attributes: u32) -> PVOID;
    fn ExSetTimer(timer: PVOID, due: i64, period: i64, parameters: PVOID) -> u8;
    fn ExCancelTimer(timer: PVOID, parameters: PVOID) -> u8;
    fn ExDeleteTimer(timer: PVOID, cancel: u8, wait: u8, parameters: PVOID) -> u8;
    fn KeDelayExecutionThread(mode: i8, alertable: u8, interval: *mut i64) -> NTSTATUS;
    fn KeStallExecutionProcessor(microseconds: u32);
}

type Callback = unsafe extern "win64" fn(PVOID, PVOID);

/// `EX_TIMER_HIGH_RESOLUTION`, `EX_TIMER_NOTIFICATION`
const HIGH_RESOLUTION: u32 = 4;
const NOTIFICATION: u32 = 1 << 31;

static FIRED: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Counts, at DISPATCH_LEVEL, and remembers its timer.
unsafe extern "win64" fn fire(timer: PVOID, context: PVOID) {
    assert_eq!(KeGetCurrentIrql(), DISPATCH_LEVEL);
    LAST.store(timer, Ordering::SeqCst);
    FIRED.fetch_add(u32::try_from(context as usize).unwrap(), Ordering::SeqCst);
}

unsafe extern "win64" fn fire_and_delete(timer: PVOID, context: PVOID) {
    ExDeleteTimer(timer, 1, 0, null_mut());
    FIRED.fetch_add(u32::try_from(context as usize).unwrap(), Ordering::SeqCst);
}

unsafe fn until(count: u32) {
    let mut moment = after(1);
    while FIRED.load(Ordering::SeqCst) < count {
        KeDelayExecutionThread(KernelMode, 0, &mut moment);
    }
}

#[test]
fn a_timer_fires_signals_and_is_deleted_once() {
    unsafe fn once(_: NDIS_HANDLE) {
        FIRED.store(0, Ordering::SeqCst);
        let timer = ExAllocateTimer(Some(fire), 3 as PVOID, NOTIFICATION);
        assert_eq!(ExCancelTimer(timer, null_mut()), 0);
        assert_eq!(ExSetTimer(timer, after(60_000), 0, null_mut()), 0);
        // Set again, it was set; then it fires, and stays signalled.
        assert_eq!(ExSetTimer(timer, after(1), 0, null_mut()), 1);
        assert_eq!((wait(timer), wait(timer)), (0, 0));
        until(3);
        assert_eq!(LAST.load(Ordering::SeqCst), timer);
        assert_eq!(ExSetTimer(timer, after(60_000), 0, null_mut()), 0);
        assert_eq!(ExDeleteTimer(timer, 1, 1, null_mut()), 1);
        assert_eq!(FIRED.load(Ordering::SeqCst), 3);
    }
    unsafe fn periodic(_: NDIS_HANDLE) {
        FIRED.store(0, Ordering::SeqCst);
        // Without a callback it can be waited for; a synchronization timer once for each time.
        let silent = ExAllocateTimer(None, null_mut(), 0);
        ExSetTimer(silent, after(1), 10_000, null_mut());
        assert_eq!((wait(silent), wait(silent)), (0, 0));
        assert_eq!(ExDeleteTimer(silent, 1, 1, null_mut()), 1);
        let timer = ExAllocateTimer(Some(fire), 1 as PVOID, HIGH_RESOLUTION);
        ExSetTimer(timer, after(1), 10_000, null_mut());
        until(3);
        ExDeleteTimer(timer, 1, 1, null_mut());
        let count = FIRED.load(Ordering::SeqCst);
        KeStallExecutionProcessor(50);
        assert_eq!(FIRED.load(Ordering::SeqCst), count);
    }
    unsafe fn last_time(_: NDIS_HANDLE) {
        FIRED.store(0, Ordering::SeqCst);
        // Deleted while it is set, and without a cancel: it fires before it goes.
        let timer = ExAllocateTimer(Some(fire), 1 as PVOID, 0);
        ExSetTimer(timer, after(1), 0, null_mut());
        assert_eq!(ExDeleteTimer(timer, 0, 0, null_mut()), 0);
        // Or from within its own callback.
        let timer = ExAllocateTimer(Some(fire_and_delete), 1 as PVOID, 0);
        ExSetTimer(timer, after(1), 0, null_mut());
        until(2);
        KeFlushQueuedDpcs();
    }
    clean(once);
    clean(periodic);
    clean(last_time);
}

#[test]
fn timers_are_deleted_and_their_rules_kept() {
    unsafe fn kept(_: NDIS_HANDLE) {
        ExAllocateTimer(Some(fire), null_mut(), 0);
    }
    unsafe fn twice(_: NDIS_HANDLE) {
        let timer = ExAllocateTimer(Some(fire), null_mut(), 0);
        ExDeleteTimer(timer, 1, 1, null_mut());
        ExDeleteTimer(timer, 1, 1, null_mut());
    }
    unsafe fn other_memory(_: NDIS_HANDLE) {
        let block = block(512);
        ExSetTimer(block, after(1), 0, null_mut());
        free(block);
    }
    unsafe fn absolute(_: NDIS_HANDLE) {
        let timer = ExAllocateTimer(Some(fire), null_mut(), HIGH_RESOLUTION);
        ExSetTimer(timer, 1, 0, null_mut());
    }
    unsafe fn wait_only(_: NDIS_HANDLE) {
        let timer = ExAllocateTimer(Some(fire), null_mut(), 0);
        ExDeleteTimer(timer, 0, 1, null_mut());
    }
    unsafe fn wait_at_dispatch(_: NDIS_HANDLE) {
        let timer = ExAllocateTimer(Some(fire), null_mut(), 0);
        let _ = KeRaiseIrqlToDpcLevel();
        ExDeleteTimer(timer, 1, 1, null_mut());
    }
    unsafe fn attributes(_: NDIS_HANDLE) {
        ExDeleteTimer(ExAllocateTimer(None, null_mut(), 1), 1, 1, null_mut());
    }
    breaks(rules::LEAK_UNLOAD, kept);
    for script in [twice, other_memory, absolute, wait_only] {
        breaks(rules::TIMER_USE, script);
    }
    breaks(rules::IRQL_WAIT, wait_at_dispatch);
    breaks(rules::PARAMETER, attributes);
}
