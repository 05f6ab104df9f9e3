//! Lookaside lists, SLISTs and interlocked lists of ntoskrnl.exe and ndis.sys.

use ndis_sys::{KSPIN_LOCK, NTSTATUS, PVOID, ULONG, USHORT};

use super::{Call, exports};
use crate::machine::Stopped;
use crate::machine::lookaside::Parameters;
use crate::machine::pool::PoolKind;
use crate::rules;

const STATUS_INVALID_PARAMETER_4: NTSTATUS = 0xc000_00f2_u32.cast_signed();
/// `EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL` and `…_FAIL_NO_RAISE`.
const KNOWN_FLAGS: ULONG = 3;
/// How entries of lookaside lists are shown in reports.
const ENTRY: &str = "ExAllocateFromLookasideList";

/// What the lists call by default; see [`crate::machine::lookaside`].
fn defaults() -> (usize, usize) {
    (ExAllocateFromLookasideList as *const () as usize, ExFreeToLookasideList as *const () as usize)
}

fn or(routine: PVOID, default: usize) -> usize {
    if routine.is_null() { default } else { routine as usize }
}

fn initialize(
    call: &Call<'_>,
    list: PVOID,
    routines: (PVOID, PVOID),
    pool_type: i32,
    size: usize,
    tag: ULONG,
) {
    let (allocate, free) = defaults();
    let (allocate, free) = (or(routines.0, allocate), or(routines.1, free));
    call.initialize_lookaside(list as usize, &Parameters { pool_type, size, tag, allocate, free });
}

exports! { LOOKASIDE in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn ExInitializeNPagedLookasideList(
        call, list: PVOID, allocate: PVOID, free: PVOID, flags: ULONG, size: usize, tag: ULONG, depth: USHORT,
    ) {
        if depth != 0 {
            call.violate(rules::PARAMETER, format!("Depth {depth}: it is reserved and must be zero"));
        }
        // POOL_NX_ALLOCATION and POOL_RAISE_IF_ALLOCATION_FAILURE.
        if flags & !(512 | 16) != 0 {
            call.violate(rules::PARAMETER, format!("Flags {flags:#x}"));
        }
        initialize(call, list, (allocate, free), (flags & 512).cast_signed(), size, tag);
        Ok(())
    }

    UP_TO_DISPATCH fn ExDeleteNPagedLookasideList(call, list: PVOID) {
        call.delete_lookaside(list as usize)
    }

    UP_TO_APC fn ExInitializePagedLookasideList(
        call, list: PVOID, allocate: PVOID, free: PVOID, flags: ULONG, size: usize, tag: ULONG, depth: USHORT,
    ) {
        if depth != 0 || flags & !16 != 0 {
            call.violate(rules::PARAMETER, format!("Depth {depth}, Flags {flags:#x}"));
        }
        initialize(call, list, (allocate, free), 1, size, tag);
        Ok(())
    }

    UP_TO_APC fn ExDeletePagedLookasideList(call, list: PVOID) {
        call.delete_lookaside(list as usize)
    }

    UP_TO_DISPATCH fn ExInitializeLookasideListEx(
        call, list: PVOID, allocate: PVOID, free: PVOID, pool_type: i32, flags: ULONG, size: usize, tag: ULONG, depth: USHORT,
    ) -> NTSTATUS {
        if depth != 0 {
            call.violate(rules::PARAMETER, format!("Depth {depth}: it is reserved and must be zero"));
        }
        if flags & !KNOWN_FLAGS != 0 || flags == KNOWN_FLAGS {
            return Ok(STATUS_INVALID_PARAMETER_4);
        }
        initialize(call, list, (allocate, free), pool_type, size, tag);
        Ok(0)
    }

    UP_TO_DISPATCH fn ExDeleteLookasideListEx(call, list: PVOID) {
        call.delete_lookaside(list as usize)
    }

    UP_TO_DISPATCH fn ExFlushLookasideListEx(_, _list: PVOID) {
        // Nothing is kept: the depth is 0.
        Ok(())
    }
} }

// What lookaside lists call. No driver imports these two: their addresses lie in the lists.
exports! { ROUTINES in "" {
    UP_TO_DISPATCH fn ExAllocateFromLookasideList(call, pool_type: i32, size: usize, tag: ULONG) -> PVOID {
        let kind = if pool_type & 1 == 1 { PoolKind::Paged } else { PoolKind::NonPaged };
        Ok(call.allocate(size & 0xffff_ffff, tag, kind, false).cast())
    }

    UP_TO_DISPATCH fn ExFreeToLookasideList(call, entry: PVOID) {
        call.free_entry(entry as usize, ENTRY)
    }
} }

exports! { SLISTS in "ntoskrnl.exe" {
    ANY fn InitializeSListHead(_, header: *mut [usize; 2]) {
        // SAFETY: the caller's SLIST_HEADER, which nobody uses yet.
        unsafe { header.write([0; 2]) };
        Ok(())
    }

    ANY fn ExpInterlockedPushEntrySList(call, header: PVOID, entry: PVOID) -> PVOID {
        Ok(call.push_slist(header as usize, entry as usize) as PVOID)
    }

    ANY fn ExpInterlockedPopEntrySList(call, header: PVOID) -> PVOID {
        Ok(call.pop_slist(header as usize) as PVOID)
    }

    ANY fn ExpInterlockedFlushSList(call, header: PVOID) -> PVOID {
        Ok(call.flush_slist(header as usize) as PVOID)
    }

    ANY fn ExInterlockedPushEntrySList(call, header: PVOID, entry: PVOID, _lock: PVOID) -> PVOID {
        Ok(call.push_slist(header as usize, entry as usize) as PVOID)
    }

    ANY fn ExInterlockedPopEntrySList(call, header: PVOID, _lock: PVOID) -> PVOID {
        Ok(call.pop_slist(header as usize) as PVOID)
    }

    ANY fn ExInterlockedFlushSList(call, header: PVOID) -> PVOID {
        Ok(call.flush_slist(header as usize) as PVOID)
    }

    UP_TO_DISPATCH fn ExQueryDepthSList(_, header: *const u16) -> USHORT {
        // SAFETY: the caller's SLIST_HEADER, which begins with its depth.
        Ok(unsafe { header.read_volatile() })
    }
} }

/// Runs something with a spin lock of the driver held, at the IRQL that the thread has: interrupts are off.
fn locked<R>(
    call: &Call<'_>,
    lock: *mut KSPIN_LOCK,
    change: impl FnOnce() -> Result<R, Stopped>,
) -> Result<R, Stopped> {
    call.acquire_interlocked(lock as usize)?;
    let result = change();
    call.release_interlocked(lock as usize);
    result
}

/// Puts an entry in front of `next`; says what the list's first entry was before, or 0.
///
/// # Safety
/// The list and the entry are the caller's.
unsafe fn insert(call: &Call<'_>, head: PVOID, entry: PVOID, tail: bool) -> Result<PVOID, Stopped> {
    call.check_list(head as usize)?;
    // SAFETY: the list hangs together; the entry is the caller's.
    unsafe {
        let [first, last] = head.cast::<[usize; 2]>().read();
        let (next, previous) = if tail { (head as usize, last) } else { (first, head as usize) };
        entry.cast::<[usize; 2]>().write([next, previous]);
        (previous as *mut usize).write(entry as usize);
        (next as *mut usize).add(1).write(entry as usize);
        let old = if tail { last } else { first };
        Ok(if old == head as usize { std::ptr::null_mut() } else { old as PVOID })
    }
}

/// Takes the first entry out; NULL if there is none.
///
/// # Safety
/// The list is the caller's.
unsafe fn remove(call: &Call<'_>, head: PVOID) -> Result<PVOID, Stopped> {
    call.check_list(head as usize)?;
    // SAFETY: the list hangs together, and so does its first entry.
    unsafe {
        let first = head.cast::<usize>().read();
        if first == head as usize {
            return Ok(std::ptr::null_mut());
        }
        call.check_list(first)?;
        let next = (first as *const usize).read();
        head.cast::<usize>().write(next);
        (next as *mut usize).add(1).write(head as usize);
        Ok(first as PVOID)
    }
}

/// Puts an entry in front of a singly linked list; gives the one that was first.
///
/// # Safety
/// The list and the entry are the caller's.
unsafe fn push(head: *mut usize, entry: *mut usize) -> PVOID {
    // SAFETY: as the caller says.
    unsafe {
        let first = head.replace(entry as usize);
        entry.write(first);
        first as PVOID
    }
}

/// Takes the first entry of a singly linked list; NULL if there is none.
///
/// # Safety
/// The list is the caller's.
unsafe fn pop(head: *mut usize) -> PVOID {
    // SAFETY: as the caller says.
    unsafe {
        let first = head.read();
        if first != 0 {
            head.write((first as *const usize).read());
        }
        first as PVOID
    }
}

/// The interlocked functions that the kernel and NDIS both have. The spin lock of an NDIS_SPIN_LOCK is its first field.
macro_rules! interlocked {
    ($table:ident in $module:literal {
        $insert_head:ident, $insert_tail:ident, $remove:ident, $push:ident, $pop:ident, $add:ident
    }) => {
        // SAFETY of all: the caller's lists, entries, numbers and locks.
        exports! { $table in $module {
            ANY fn $insert_head(call, head: PVOID, entry: PVOID, lock: *mut KSPIN_LOCK) -> PVOID {
                // SAFETY: as above.
                locked(call, lock, || unsafe { insert(call, head, entry, false) })
            }

            ANY fn $insert_tail(call, head: PVOID, entry: PVOID, lock: *mut KSPIN_LOCK) -> PVOID {
                // SAFETY: as above.
                locked(call, lock, || unsafe { insert(call, head, entry, true) })
            }

            ANY fn $remove(call, head: PVOID, lock: *mut KSPIN_LOCK) -> PVOID {
                // SAFETY: as above.
                locked(call, lock, || unsafe { remove(call, head) })
            }

            ANY fn $push(call, head: *mut usize, entry: *mut usize, lock: *mut KSPIN_LOCK) -> PVOID {
                // SAFETY: as above.
                locked(call, lock, || Ok(unsafe { push(head, entry) }))
            }

            ANY fn $pop(call, head: *mut usize, lock: *mut KSPIN_LOCK) -> PVOID {
                // SAFETY: as above.
                locked(call, lock, || Ok(unsafe { pop(head) }))
            }

            ANY fn $add(call, addend: *mut ULONG, increment: ULONG, lock: *mut KSPIN_LOCK) -> ULONG {
                // SAFETY: as above.
                locked(call, lock, || Ok(unsafe { addend.replace(addend.read().wrapping_add(increment)) }))
            }
        } }
    };
}

interlocked! { INTERLOCKED in "ntoskrnl.exe" {
    ExInterlockedInsertHeadList, ExInterlockedInsertTailList, ExInterlockedRemoveHeadList, ExInterlockedPushEntryList,
    ExInterlockedPopEntryList, ExInterlockedAddUlong
} }

interlocked! { NDIS_INTERLOCKED in "ndis.sys" {
    NdisInterlockedInsertHeadList, NdisInterlockedInsertTailList, NdisInterlockedRemoveHeadList,
    NdisInterlockedPushEntryList, NdisInterlockedPopEntryList, NdisInterlockedAddUlong
} }

exports! { LARGE in "ntoskrnl.exe" {
    ANY fn ExInterlockedAddLargeInteger(call, addend: *mut i64, increment: i64, lock: *mut KSPIN_LOCK) -> i64 {
        // SAFETY: the caller's number.
        locked(call, lock, || Ok(unsafe { addend.replace(addend.read().wrapping_add(increment)) }))
    }
} }

exports! { NDIS in "ndis.sys" {
    ANY fn NdisInterlockedIncrement(_, number: *mut i32) -> i32 {
        // SAFETY: the caller's aligned number, which is accessed atomically.
        let number = unsafe { std::sync::atomic::AtomicI32::from_ptr(number) };
        // SeqCst: an interlocked instruction is a full barrier.
        Ok(number.fetch_add(1, std::sync::atomic::Ordering::SeqCst).wrapping_add(1))
    }

    ANY fn NdisInterlockedDecrement(_, number: *mut i32) -> i32 {
        // SAFETY: as above.
        let number = unsafe { std::sync::atomic::AtomicI32::from_ptr(number) };
        // SeqCst: as above.
        Ok(number.fetch_sub(1, std::sync::atomic::Ordering::SeqCst).wrapping_sub(1))
    }
} }
