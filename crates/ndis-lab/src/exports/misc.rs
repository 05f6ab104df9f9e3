//! What is left of ntoskrnl.exe: pool functions of other generations, physical memory, pageable code, bugcheck
//! callbacks, processor features, stacks, and variables.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use ndis_sys::{
    BOOLEAN, HANDLE, KPROCESSOR_MODE, MDL, MEMORY_CACHING_TYPE, NTSTATUS, POOL_FLAGS, PVOID, ULONG,
};

use super::{Export, exports, leaves, outside};
use crate::machine::crash::Registration;
use crate::machine::ob::SYSTEM;
use crate::machine::pool::PoolKind;
use crate::machine::{processor_block, thread};
use crate::rules;

const STATUS_NO_MEMORY: NTSTATUS = 0xc000_0017_u32.cast_signed();
const PAGE: usize = 4096;
/// The tag of memory that a function allocates which takes none.
const NO_TAG: ULONG = u32::from_le_bytes(*b"None");
const CONTIGUOUS: ULONG = u32::from_le_bytes(*b"Cont");
/// Bytes of a kernel stack.
const KERNEL_STACK: usize = 24 << 10;

/// Contiguous memory starts on a page.
fn contiguous(size: usize) -> usize {
    size.max(1).next_multiple_of(PAGE)
}

exports! { TABLE in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn ExAllocatePool(call, pool_type: i32, size: usize) -> PVOID {
        Ok(call.allocate(size, NO_TAG, super::memory::pool_of(pool_type), false).cast())
    }

    UP_TO_DISPATCH fn ExAllocatePoolWithTagPriority(call, pool_type: i32, size: usize, tag: ULONG, _priority: i32) -> PVOID {
        Ok(call.allocate(size, tag, super::memory::pool_of(pool_type), false).cast())
    }

    UP_TO_DISPATCH fn ExAllocatePoolWithQuotaTag(call, pool_type: i32, size: usize, tag: ULONG) -> PVOID {
        let block = call.allocate(size, tag, super::memory::pool_of(pool_type), false);
        // POOL_QUOTA_FAIL_INSTEAD_OF_RAISE.
        if block.is_null() && pool_type & 8 == 0 {
            return Err(call.stop(0x1e, [0xc000_009a, 0, 0, 0], "an allocation raised its failure"));
        }
        Ok(block.cast())
    }

    UP_TO_DISPATCH fn ExAllocatePool3(
        call, flags: POOL_FLAGS, size: usize, tag: ULONG, _parameters: PVOID, _count: ULONG,
    ) -> PVOID {
        super::memory::allocate_pool2(call, flags, size, tag)
    }

    UP_TO_DISPATCH fn ExFreePool2(call, block: PVOID, tag: ULONG, _parameters: PVOID, _count: ULONG) {
        call.free(block as usize, (tag != 0).then_some(tag))
    }

    UP_TO_DISPATCH fn MmAllocateContiguousMemory(call, size: usize, _highest: u64) -> PVOID {
        Ok(call.allocate(contiguous(size), CONTIGUOUS, PoolKind::NonPaged, false).cast())
    }

    UP_TO_DISPATCH fn MmAllocateContiguousMemorySpecifyCache(
        call, size: usize, _lowest: u64, _highest: u64, _boundary: u64, _cache: MEMORY_CACHING_TYPE,
    ) -> PVOID {
        Ok(call.allocate(contiguous(size), CONTIGUOUS, PoolKind::NonPaged, false).cast())
    }

    UP_TO_DISPATCH fn MmAllocateContiguousMemorySpecifyCacheNode(
        call, size: usize, _lowest: u64, _highest: u64, _boundary: u64, _cache: MEMORY_CACHING_TYPE, _node: ULONG,
    ) -> PVOID {
        Ok(call.allocate(contiguous(size), CONTIGUOUS, PoolKind::NonPaged, false).cast())
    }

    UP_TO_DISPATCH fn MmAllocateContiguousNodeMemory(
        call, size: usize, _lowest: u64, _highest: u64, _boundary: u64, _protect: ULONG, _node: ULONG,
    ) -> PVOID {
        Ok(call.allocate(contiguous(size), CONTIGUOUS, PoolKind::NonPaged, false).cast())
    }

    UP_TO_DISPATCH fn MmFreeContiguousMemory(call, block: PVOID) {
        call.free(block as usize, Some(CONTIGUOUS))
    }

    UP_TO_DISPATCH fn MmFreeContiguousMemorySpecifyCache(call, block: PVOID, _size: usize, _cache: MEMORY_CACHING_TYPE) {
        call.free(block as usize, Some(CONTIGUOUS))
    }

    UP_TO_APC fn MmAllocateNonCachedMemory(call, size: usize) -> PVOID {
        Ok(call.allocate(contiguous(size), CONTIGUOUS, PoolKind::NonPaged, false).cast())
    }

    UP_TO_APC fn MmFreeNonCachedMemory(call, block: PVOID, _size: usize) {
        call.free(block as usize, Some(CONTIGUOUS))
    }

    ANY fn MmGetPhysicalAddress(_, address: PVOID) -> u64 {
        // The machine's memory is where it is seen: no device looks at it.
        Ok(address as u64)
    }

    UP_TO_DISPATCH fn MmIsAddressValid(_, address: PVOID) -> BOOLEAN {
        Ok(u8::from(crate::machine::guard::readable(address as usize)))
    }

    UP_TO_DISPATCH fn MmMapLockedPages(call, mdl: *mut MDL, _mode: KPROCESSOR_MODE) -> PVOID {
        let mapped = call.map_user(mdl, true).unwrap_or_else(|| call.map_mdl(mdl));
        if mapped.is_null() {
            return Err(call.stop(0x4c, [mdl as u64, 0, 0, 0], "a mapping failed that must succeed"));
        }
        Ok(mapped)
    }

    UP_TO_DISPATCH fn MmProtectMdlSystemAddress(call, mdl: *mut MDL, _protection: ULONG) -> NTSTATUS {
        // SAFETY: the caller's MDL.
        let mapped = unsafe { (*mdl).MdlFlags } & ndis_sys::MDL_MAPPED_TO_SYSTEM_VA != 0;
        if !mapped {
            call.violate(rules::PARAMETER, format!("MDL {mdl:p} is not mapped"));
        }
        // STATUS_NOT_MAPPED_VIEW.
        Ok(if mapped { 0 } else { 0xc000_0019_u32.cast_signed() })
    }

    UP_TO_APC fn MmLockPagableDataSection(call, address: PVOID) -> PVOID {
        call.lock_section(address as usize, 1);
        Ok(address)
    }

    UP_TO_APC fn MmUnlockPagableImageSection(call, handle: PVOID) {
        call.lock_section(handle as usize, -1);
        Ok(())
    }

    ANY fn KeRegisterBugCheckCallback(
        call, record: PVOID, routine: PVOID, buffer: PVOID, length: ULONG, component: *const u8,
    ) -> BOOLEAN {
        let kind = Registration::Buffer(buffer as usize, length);
        // SAFETY: the caller's record and string.
        Ok(u8::from(unsafe { call.register_crash_callback(record as usize, routine as usize, kind, component) }))
    }

    ANY fn KeRegisterBugCheckReasonCallback(
        call, record: PVOID, routine: PVOID, reason: i32, component: *const u8,
    ) -> BOOLEAN {
        let kind = Registration::Reason(reason);
        // SAFETY: the caller's record and string.
        Ok(u8::from(unsafe { call.register_crash_callback(record as usize, routine as usize, kind, component) }))
    }

    ANY fn KeDeregisterBugCheckCallback(call, record: PVOID) -> BOOLEAN {
        Ok(u8::from(call.deregister_crash_callback(record as usize)))
    }

    ANY fn KeDeregisterBugCheckReasonCallback(call, record: PVOID) -> BOOLEAN {
        Ok(u8::from(call.deregister_crash_callback(record as usize)))
    }

    UP_TO_APC fn KeExpandKernelStackAndCallout(call, routine: PVOID, parameter: PVOID, size: usize) -> NTSTATUS {
        // MAXIMUM_EXPANSION_SIZE.
        if size > (72 << 10) {
            call.violate(rules::PARAMETER, format!("{size} bytes of stack: 72 KiB are the most"));
        }
        if call.fault(0, 0) {
            return Ok(STATUS_NO_MEMORY);
        }
        // The host's stack has room for that; nothing here is owned.
        // SAFETY: the driver's routine with its parameter.
        unsafe {
            let routine: unsafe extern "win64" fn(PVOID) = std::mem::transmute(routine);
            outside(|| routine(parameter));
        }
        Ok(0)
    }

    UP_TO_APC fn IoGetRemainingStackSize(_) -> usize {
        let (top, here) = stack();
        Ok(KERNEL_STACK.saturating_sub(top.saturating_sub(here)))
    }

    UP_TO_APC fn IoGetStackLimits(_, low: *mut usize, high: *mut usize) {
        let (top, _) = stack();
        // SAFETY: the caller's variables.
        unsafe {
            low.write(top.saturating_sub(KERNEL_STACK));
            high.write(top);
        }
        Ok(())
    }
} }

/// Where the stack of the driver's entry begins, and where it is now.
fn stack() -> (usize, usize) {
    let here = 0_u8;
    let frame = thread::with(thread::Thread::frame);
    // SAFETY: while the thread is in an entry, its frame is that entry's local.
    let top = if frame.is_null() { 0 } else { unsafe { (*frame).stack_pointer() as usize } };
    (top, &raw const here as usize)
}

leaves! { FACTS in "ntoskrnl.exe" {
    ANY fn MmSizeOfMdl(_, base: PVOID, length: usize) -> usize {
        size_of::<MDL>() + (base as usize % PAGE + length).div_ceil(PAGE) * size_of::<usize>()
    }

    ANY fn MmQuerySystemSize(_) -> i32 {
        // MmLargeSystem.
        2
    }

    ANY fn MmIsThisAnNtAsSystem(_) -> BOOLEAN {
        // A workstation.
        0
    }

    UP_TO_APC fn MmPageEntireDriver(_, address: PVOID) -> PVOID {
        address
    }

    UP_TO_APC fn MmResetDriverPaging(_, _address: PVOID) {}

    UP_TO_DISPATCH fn ExGetPreviousMode(_) -> KPROCESSOR_MODE {
        // A thread of a user's process is in the kernel because the user asked.
        i8::from(thread::with(|thread| thread.process.get()) != 0)
    }

    PASSIVE_ONLY fn ExIsProcessorFeaturePresent(_, feature: ULONG) -> BOOLEAN {
        // PF_COMPARE_EXCHANGE_DOUBLE, MMX, XMMI, RDTSC, XMMI64, NX, COMPARE_EXCHANGE128, and PF_XSAVE.
        u8::from(matches!(feature, 2 | 3 | 6 | 8 | 10 | 12 | 14 | 17))
    }

    ANY fn PsGetCurrentThread(_) -> PVOID {
        processor_block::current_thread() as PVOID
    }

    ANY fn KeGetCurrentThread(_) -> PVOID {
        processor_block::current_thread() as PVOID
    }

    ANY fn PsGetProcessId(call, process: PVOID) -> HANDLE {
        call.ob.process_of(process as usize).unwrap_or(0) as HANDLE
    }

    UP_TO_DISPATCH fn PsGetThreadId(call, thread: PVOID) -> HANDLE {
        call.ob.id(thread as usize) as HANDLE
    }

    UP_TO_DISPATCH fn PsIsSystemThread(call, object: PVOID) -> BOOLEAN {
        let mine = object as usize == processor_block::current_thread();
        u8::from(!mine || call.current_process(true) == SYSTEM)
    }

    PASSIVE_ONLY fn KeQueryPriorityThread(_, _thread: PVOID) -> i32 {
        // What a system thread starts with; the host schedules as it likes.
        8
    }

    PASSIVE_ONLY fn KeSetBasePriorityThread(_, _thread: PVOID, _increment: i32) -> i32 {
        0
    }

    ANY fn KdRefreshDebuggerNotPresent(_) -> BOOLEAN {
        1
    }

    UP_TO_DISPATCH fn KeInvalidateAllCaches(_) -> BOOLEAN {
        1
    }
} }

/// Exported variables, which have no shell.
static DEBUGGER_ENABLED: AtomicU8 = AtomicU8::new(0);
static DEBUGGER_NOT_PRESENT: AtomicU8 = AtomicU8::new(1);
static SAFE_BOOT_MODE: AtomicU32 = AtomicU32::new(0);
static HIGHEST_USER_ADDRESS: AtomicU64 = AtomicU64::new(0x7fff_fffe_ffff);
static USER_PROBE_ADDRESS: AtomicU64 = AtomicU64::new(0x7fff_ffff_0000);
static SYSTEM_RANGE_START: AtomicU64 = AtomicU64::new(0xffff_8000_0000_0000);

macro_rules! variables {
    ($($name:literal => $variable:ident;)*) => {
        pub(super) const VARIABLES: &[Export] = &[$(Export {
            module: "ntoskrnl.exe",
            name: $name,
            irql: super::ANY,
            address: || std::ptr::from_ref(&$variable) as usize,
        }),*];
    };
}

variables! {
    "KdDebuggerEnabled" => DEBUGGER_ENABLED;
    "KdDebuggerNotPresent" => DEBUGGER_NOT_PRESENT;
    "InitSafeBootMode" => SAFE_BOOT_MODE;
    "MmHighestUserAddress" => HIGHEST_USER_ADDRESS;
    "MmUserProbeAddress" => USER_PROBE_ADDRESS;
    "MmSystemRangeStart" => SYSTEM_RANGE_START;
}
