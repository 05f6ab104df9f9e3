//! What the driver asks for at a bug check: to be called, to leave a few words in the dump.

use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use ndis_sys::*;

use super::{M, TAG, is};

unsafe extern "win64" {
    fn KeRegisterBugCheckCallback(
        record: PVOID,
        routine: PVOID,
        buffer: PVOID,
        length: ULONG,
        component: *const u8,
    ) -> BOOLEAN;
    fn KeDeregisterBugCheckCallback(record: PVOID) -> BOOLEAN;
}

/// Words of the buffer.
const WORDS: usize = 4;
/// Where `CallbackRoutine` and `State` lie in the record.
const ROUTINE: usize = 2;
const STATE: usize = 7;

/// A KBUGCHECK_CALLBACK_RECORD and the buffer.
struct Area(UnsafeCell<([usize; 8], [usize; WORDS])>);

// SAFETY: DriverEntry and MiniportDriverUnload touch it, and a bug check, when nobody else runs.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new(([0; 8], [0; WORDS])));
/// Paged memory, of a mutant.
static PAGED: AtomicPtr<u8> = AtomicPtr::new(null_mut());

unsafe extern "win64" fn crashed(buffer: *mut usize, length: ULONG) {
    if is(M::CrashAllocates) {
        ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, TAG);
    }
    if is(M::CrashFollowsNull) {
        std::hint::black_box(null_mut::<u8>()).read_volatile();
    }
    if is(M::CrashTouchesPaged) {
        PAGED.load(Ordering::Relaxed).read_volatile();
    }
    for index in 0..length as usize / size_of::<usize>() {
        buffer.add(index).write(index);
    }
}

/// At the end of DriverEntry.
pub(super) unsafe fn register() {
    let (record, buffer) = &mut *AREA.0.get();
    *record = [0; 8];
    if is(M::CrashRecordDirty) {
        record[STATE] = 0x55;
    }
    if is(M::CrashTouchesPaged) {
        PAGED.store(ExAllocatePool2(POOL_FLAG_PAGED, 64, TAG).cast(), Ordering::Relaxed);
    }
    KeRegisterBugCheckCallback(
        record.as_mut_ptr().cast(),
        crashed as *const () as PVOID,
        buffer.as_mut_ptr().cast(),
        size_of_val(buffer) as u32,
        c"mutant".as_ptr().cast(),
    );
    if is(M::CrashRecordOverwritten) {
        record[ROUTINE] = 0;
    }
}

/// In MiniportDriverUnload.
pub(super) unsafe fn deregister() {
    let paged = PAGED.swap(null_mut(), Ordering::Relaxed);
    if !paged.is_null() {
        super::free(paged.cast());
    }
    if !is(M::CrashRecordLeft) {
        KeDeregisterBugCheckCallback((*AREA.0.get()).0.as_mut_ptr().cast());
    }
}
