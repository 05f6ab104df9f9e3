//! Processors, groups, affinity and time of ntoskrnl.exe. The machine has one group and one node.

use ndis_sys::{BOOLEAN, LARGE_INTEGER, NTSTATUS, PROCESSOR_NUMBER, PVOID, ULONG, ULONG64, USHORT};

use super::{Call, exports, leaves, outside};
use crate::machine::{Machine, Origin, thread};
use crate::rules;

const STATUS_INVALID_PARAMETER: NTSTATUS = 0xc000_000d_u32.cast_signed();
const STATUS_INFO_LENGTH_MISMATCH: NTSTATUS = 0xc000_0004_u32.cast_signed();
/// What functions answer for a processor that does not exist.
const INVALID_INDEX: ULONG = u32::MAX;
/// A tick of the clock: 15.625 ms, in units of 100 ns.
const TIME_INCREMENT: ULONG = 156_250;
/// A cache line.
const CACHE_LINE: ULONG = 64;

/// `GROUP_AFFINITY`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct GroupAffinity {
    mask: u64,
    group: USHORT,
    reserved: [USHORT; 3],
}
const _: () = assert!(size_of::<GroupAffinity>() == 16);

/// Counts the processors, in group 0 or in all.
pub(super) fn processors(machine: &Machine, group: USHORT) -> ULONG {
    if group == 0 || group == ndis_sys::ALL_PROCESSOR_GROUPS { machine.options.processors } else { 0 }
}

/// One bit for each processor.
pub(super) fn all(machine: &Machine) -> u64 {
    u64::MAX >> (64 - machine.options.processors.clamp(1, 64))
}

impl Machine {
    /// Ticks of 100 nanoseconds since the machine was made.
    pub(crate) fn ticks(&self) -> u64 {
        u64::try_from(self.uptime().as_nanos() / 100).unwrap_or(u64::MAX)
    }

    /// The system time: 100 nanoseconds since 1601. A deterministic machine starts at a fixed date.
    pub(crate) fn system_time(&self) -> u64 {
        self.boot_time + self.ticks()
    }

    /// How long until an absolute or (negative) relative time of the kernel.
    pub(crate) fn until(&self, due: LARGE_INTEGER) -> std::time::Duration {
        let ticks = match u64::try_from(due.QuadPart) {
            Ok(absolute) => absolute.saturating_sub(self.system_time()),
            Err(_) => due.QuadPart.unsigned_abs(),
        };
        std::time::Duration::from_nanos(ticks.saturating_mul(100))
    }
}

/// Moves the calling thread to processors, or reports what names none.
fn affine(call: &Call<'_>, mask: u64) -> Option<u64> {
    if mask & all(call) == 0 {
        call.violate(
            rules::PARAMETER,
            format!("affinity {mask:#x}: the machine has {} processors", call.options.processors),
        );
        return None;
    }
    let old = thread::with(|thread| thread.affinity.replace(mask & all(call)));
    call.migrate();
    Some(old)
}

leaves! { TABLE in "ntoskrnl.exe" {
    ANY fn KeGetCurrentProcessorNumberEx(_, number: *mut PROCESSOR_NUMBER) -> ULONG {
        let processor = thread::with(thread::Thread::processor);
        if !number.is_null() {
            // SAFETY: the caller's structure; not NULL.
            unsafe { number.write(numbered(processor)) };
        }
        processor
    }

    ANY fn KeQueryActiveProcessorCountEx(call, group: USHORT) -> ULONG {
        processors(call, group)
    }

    ANY fn KeQueryMaximumProcessorCountEx(call, group: USHORT) -> ULONG {
        processors(call, group)
    }

    ANY fn KeQueryMaximumProcessorCount(call) -> ULONG {
        call.options.processors
    }

    ANY fn KeQueryActiveProcessorCount(call, active: *mut u64) -> ULONG {
        // SAFETY: NULL or the caller's variable.
        if let Some(active) = unsafe { active.as_mut() } {
            *active = all(call);
        }
        call.options.processors
    }

    ANY fn KeQueryActiveProcessors(call) -> u64 {
        all(call)
    }

    ANY fn KeQueryActiveGroupCount(_) -> USHORT {
        1
    }

    ANY fn KeQueryMaximumGroupCount(_) -> USHORT {
        1
    }

    ANY fn KeQueryGroupAffinity(call, group: USHORT) -> u64 {
        if group == 0 { all(call) } else { 0 }
    }

    ANY fn KeQueryHighestNodeNumber(_) -> USHORT {
        0
    }

    ANY fn KeGetCurrentNodeNumber(_) -> USHORT {
        0
    }

    ANY fn KeQueryNodeActiveAffinity(call, node: USHORT, affinity: *mut GroupAffinity, count: *mut USHORT) {
        let mask = if node == 0 { all(call) } else { 0 };
        // SAFETY: each is NULL or the caller's variable.
        unsafe {
            if let Some(affinity) = affinity.as_mut() {
                *affinity = GroupAffinity { mask, group: 0, reserved: [0; 3] };
            }
            if let Some(count) = count.as_mut() {
                *count = u16::try_from(mask.count_ones()).unwrap_or(0);
            }
        }
    }

    ANY fn KeGetProcessorNumberFromIndex(call, index: ULONG, number: *mut PROCESSOR_NUMBER) -> NTSTATUS {
        if index >= call.options.processors {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's structure.
        unsafe { number.write(numbered(index)) };
        0
    }

    ANY fn KeGetProcessorIndexFromNumber(call, number: *const PROCESSOR_NUMBER) -> ULONG {
        // SAFETY: the caller's structure.
        let number = unsafe { *number };
        let index = ULONG::from(number.Number);
        if number.Group == 0 && number.Reserved == 0 && index < call.options.processors { index } else { INVALID_INDEX }
    }

    ANY fn KeGetRecommendedSharedDataAlignment(_) -> ULONG {
        CACHE_LINE
    }

    ANY fn KeQueryTimeIncrement(_) -> ULONG {
        TIME_INCREMENT
    }

    ANY fn KeQueryPerformanceCounter(call, frequency: *mut LARGE_INTEGER) -> LARGE_INTEGER {
        if !frequency.is_null() {
            // SAFETY: the caller's variable; not NULL.
            unsafe { frequency.write(LARGE_INTEGER { QuadPart: 10_000_000 }) };
        }
        LARGE_INTEGER { QuadPart: call.ticks().cast_signed() }
    }

    ANY fn KeQueryInterruptTimePrecise(call, counter: *mut ULONG64) -> ULONG64 {
        let ticks = call.ticks();
        // SAFETY: the caller's variable.
        unsafe { counter.write(ticks) };
        ticks
    }

    ANY fn KeQueryUnbiasedInterruptTimePrecise(call, counter: *mut ULONG64) -> ULONG64 {
        let ticks = call.ticks();
        // SAFETY: the caller's variable.
        unsafe { counter.write(ticks) };
        ticks
    }

    ANY fn KeQueryInterruptTime(call) -> ULONG64 {
        call.ticks()
    }

    ANY fn KeQueryUnbiasedInterruptTime(call) -> ULONG64 {
        call.ticks()
    }

    ANY fn KeQuerySystemTimePrecise(call, time: *mut LARGE_INTEGER) {
        // SAFETY: the caller's variable.
        unsafe { time.write(LARGE_INTEGER { QuadPart: call.system_time().cast_signed() }) };
    }

    ANY fn KeQuerySystemTime(call, time: *mut LARGE_INTEGER) {
        // SAFETY: the caller's variable.
        unsafe { time.write(LARGE_INTEGER { QuadPart: call.system_time().cast_signed() }) };
    }

    ANY fn KeQueryTickCount(call, count: *mut LARGE_INTEGER) {
        let ticks = call.ticks() / u64::from(TIME_INCREMENT);
        // SAFETY: the caller's variable.
        unsafe { count.write(LARGE_INTEGER { QuadPart: ticks.cast_signed() }) };
    }

    UP_TO_APC fn ExSetTimerResolution(_, desired: ULONG, set: BOOLEAN) -> ULONG {
        // Between 1 ms and the tick of the clock.
        if set == 0 { TIME_INCREMENT } else { desired.clamp(10_000, TIME_INCREMENT) }
    }

    ANY fn ExQueryTimerResolution(_, maximum: *mut ULONG, minimum: *mut ULONG, current: *mut ULONG) {
        // SAFETY: the caller's variables.
        unsafe {
            maximum.write(TIME_INCREMENT);
            minimum.write(10_000);
            current.write(TIME_INCREMENT);
        }
    }

    ANY fn ExSystemTimeToLocalTime(_, system: *const i64, local: *mut i64) {
        // The machine lives in Greenwich.
        // SAFETY: the caller's variables.
        unsafe { local.write(system.read()) }
    }

    ANY fn ExLocalTimeToSystemTime(_, local: *const i64, system: *mut i64) {
        // SAFETY: the caller's variables.
        unsafe { system.write(local.read()) }
    }

    AT_DISPATCH fn KeShouldYieldProcessor(_) -> ULONG {
        // A DPC of the lab's machine takes less than the 100 ms after which Windows complains.
        0
    }

    AT_DISPATCH fn KeQueryDpcWatchdogInformation(_, information: *mut [ULONG; 5]) -> NTSTATUS {
        // DpcTimeLimit and DpcTimeCount, DpcWatchdogLimit and DpcWatchdogCount, in ticks; none has passed.
        // SAFETY: the caller's structure.
        unsafe { information.write([0x500, 0x500, 0x1e00, 0x1e00, 0]) };
        0
    }

    UP_TO_DISPATCH fn KeQueryLogicalProcessorRelationship(
        call, _number: *const PROCESSOR_NUMBER, relation: i32, information: *mut u8, length: *mut ULONG,
    ) -> NTSTATUS {
        // SAFETY: the caller's buffer of that length, and variable.
        unsafe { relationship(call, relation, information, length) }
    }
} }

/// `RelationGroup` of `LOGICAL_PROCESSOR_RELATIONSHIP`, and `RelationAll`.
const RELATION_GROUP: i32 = 4;
const RELATION_ALL: i32 = 0xffff;
/// Bytes of SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX with one GROUP_RELATIONSHIP of one group.
const GROUP_BYTES: ULONG = 8 + 24 + 48;

/// Answers for groups; the machine tells nothing of cores and caches.
///
/// # Safety
/// `length` is the caller's, and `information` has as many bytes, or is NULL with a length of 0.
unsafe fn relationship(call: &Call<'_>, relation: i32, information: *mut u8, length: *mut ULONG) -> NTSTATUS {
    if relation != RELATION_GROUP && relation != RELATION_ALL {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: as the caller says.
    unsafe {
        let room = std::mem::replace(&mut *length, GROUP_BYTES);
        if room < GROUP_BYTES || information.is_null() {
            return STATUS_INFO_LENGTH_MISMATCH;
        }
        std::ptr::write_bytes(information, 0, GROUP_BYTES as usize);
        information.cast::<ULONG>().write_unaligned(RELATION_GROUP.cast_unsigned());
        information.add(4).cast::<ULONG>().write_unaligned(GROUP_BYTES);
        // MaximumGroupCount, ActiveGroupCount; then MaximumProcessorCount, ActiveProcessorCount and the mask.
        information.add(8).cast::<[u16; 2]>().write_unaligned([1, 1]);
        let count = u8::try_from(call.options.processors).unwrap_or(u8::MAX);
        information.add(32).cast::<[u8; 2]>().write([count, count]);
        information.add(32 + 40).cast::<u64>().write_unaligned(all(call));
    }
    0
}

pub(super) fn numbered(index: u32) -> PROCESSOR_NUMBER {
    PROCESSOR_NUMBER { Group: 0, Number: u8::try_from(index).unwrap_or(u8::MAX), Reserved: 0 }
}

/// `KE_PROCESSOR_CHANGE_ADD_EXISTING` of KeRegisterProcessorChangeCallback, and the states of a change.
const ADD_EXISTING: ULONG = 1;
const ADD_START: i32 = 0;
const ADD_COMPLETE: i32 = 1;

/// `KE_PROCESSOR_CHANGE_NOTIFY_CONTEXT`.
#[repr(C)]
struct ChangeContext {
    state: i32,
    number: ULONG,
    status: NTSTATUS,
    processor: PROCESSOR_NUMBER,
}

exports! { CHANGING in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn KeSetSystemAffinityThreadEx(call, mask: u64) -> u64 {
        Ok(affine(call, mask).unwrap_or(0))
    }

    UP_TO_DISPATCH fn KeSetSystemAffinityThread(call, mask: u64) {
        affine(call, mask);
        Ok(())
    }

    UP_TO_DISPATCH fn KeRevertToUserAffinityThreadEx(_, mask: u64) {
        thread::with(|thread| thread.affinity.set(mask));
        Ok(())
    }

    UP_TO_DISPATCH fn KeRevertToUserAffinityThread(_) {
        thread::with(|thread| thread.affinity.set(0));
        Ok(())
    }

    UP_TO_DISPATCH fn KeSetSystemGroupAffinityThread(call, new: *const GroupAffinity, old: *mut GroupAffinity) {
        // SAFETY: the caller's structures; the second may be NULL.
        unsafe {
            let wanted = *new;
            if wanted.reserved != [0; 3] || wanted.group != 0 {
                call.violate(rules::PARAMETER, format!("group {} and reserved fields {:?} of GROUP_AFFINITY", wanted.group, wanted.reserved));
            }
            let mask = if wanted.group == 0 { affine(call, wanted.mask) } else { None };
            if let Some(old) = old.as_mut() {
                *old = GroupAffinity { mask: mask.unwrap_or(0), group: 0, reserved: [0; 3] };
            }
        }
        Ok(())
    }

    UP_TO_DISPATCH fn KeRevertToUserGroupAffinityThread(_, old: *const GroupAffinity) {
        // SAFETY: the caller's structure, which the change filled.
        let mask = unsafe { (*old).mask };
        thread::with(|thread| thread.affinity.set(mask));
        Ok(())
    }

    PASSIVE_ONLY fn KeRegisterProcessorChangeCallback(call, function: PVOID, context: PVOID, flags: ULONG) -> PVOID {
        if function.is_null() || call.fault(0, 0) {
            return Ok(std::ptr::null_mut());
        }
        let number = call.handle(crate::machine::HandleKind::Callback);
        call.callbacks.lock().insert(number, ("processor change callback", Origin::here()));
        if flags & ADD_EXISTING == 0 {
            return Ok(number as PVOID);
        }
        // Each processor is announced and then there, as if it had just been added.
        for state in [ADD_START, ADD_COMPLETE] {
            for index in 0..call.options.processors {
                let mut change = ChangeContext { state, number: index, status: 0, processor: numbered(index) };
                let mut status: NTSTATUS = 0;
                // SAFETY: the driver's callback with its three arguments; this frame owns nothing.
                unsafe {
                    let function: unsafe extern "win64" fn(PVOID, *mut ChangeContext, *mut NTSTATUS) =
                        std::mem::transmute(function);
                    outside(|| function(context, &raw mut change, &raw mut status));
                }
                if status < 0 {
                    call.callbacks.lock().remove(&number);
                    return Ok(std::ptr::null_mut());
                }
            }
        }
        Ok(number as PVOID)
    }

    PASSIVE_ONLY fn KeDeregisterProcessorChangeCallback(call, handle: PVOID) {
        if call.callbacks.lock().remove(&(handle as usize)).is_none() {
            call.violate(rules::CALLBACK_USE, format!("{handle:p} is no registered callback"));
        }
        Ok(())
    }
} }
