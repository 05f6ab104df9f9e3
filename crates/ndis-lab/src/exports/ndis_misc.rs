//! Read-write locks of NDIS 6.0, processors, strings, generic objects and routine addresses of ndis.sys.

use ndis_sys::{
    DRIVER_OBJECT, LARGE_INTEGER, NDIS_HANDLE, NDIS_STATUS, NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES,
    NDIS_STATUS_SUCCESS, PROCESSOR_NUMBER, PVOID, UCHAR, ULONG, UNICODE_STRING, USHORT, WCHAR,
};

use super::processors::{all, numbered};
use super::rtl_string::{Counted, contents, text};
use super::{Call, exports, leaves};
use crate::machine::pool::PoolKind;
use crate::rules;

const NDIS_STATUS_BUFFER_TOO_SHORT: NDIS_STATUS = 0xc001_0016_u32.cast_signed();
/// Bytes of NDIS_RSS_PROCESSOR_INFO revision 2, NDIS_RSS_PROCESSOR, NDIS_SYSTEM_PROCESSOR_INFO_EX and
/// NDIS_PROCESSOR_INFO_EX.
const RSS_INFO: u32 = 40;
const RSS_PROCESSOR: u32 = 8;
const SYSTEM_INFO: u32 = 40;
const PROCESSOR_INFO: u32 = 20;
/// Object types: NDIS_OBJECT_TYPE_RSS_PROCESSOR_INFO, NDIS_OBJECT_TYPE_DEFAULT, NDIS_OBJECT_TYPE_GENERIC_OBJECT.
const RSS_TYPE: u8 = 0xb1;
const DEFAULT_TYPE: u8 = 0x80;
const GENERIC_TYPE: u8 = 0xa2;
/// Bytes of an NDIS_GENERIC_OBJECT.
const GENERIC_OBJECT: usize = 32;
/// The tag of strings that NDIS allocates.
const STRING_TAG: ULONG = u32::from_le_bytes(*b"NDst");

/// The tag of memory that a miniport shares with its device, if it had one.
const SHARED_TAG: ULONG = u32::from_le_bytes(*b"NDsm");

/// `NDIS_SHARED_MEMORY_PARAMETERS`, as far as revision 1 goes.
#[repr(C)]
pub(crate) struct SharedMemory {
    header: [u8; 4],
    flags: ULONG,
    queue: ULONG,
    handle: NDIS_HANDLE,
    node: ULONG,
    usage: i32,
    length: ULONG,
    address: PVOID,
    list_length: ULONG,
    list: PVOID,
}
const _: () = assert!(size_of::<SharedMemory>() == 64);

/// `LOCK_STATE`.
#[repr(C)]
pub(crate) struct LockState {
    state: USHORT,
    irql: UCHAR,
}

/// Hands bytes out if there is room; tells their number in any case.
///
/// # Safety
/// The buffer, if there is one, has `*size` bytes.
unsafe fn answer(bytes: &[u8], buffer: *mut u8, size: *mut usize) -> NDIS_STATUS {
    // SAFETY: as the caller says.
    unsafe {
        let room = std::mem::replace(&mut *size, bytes.len());
        if buffer.is_null() || room < bytes.len() {
            return NDIS_STATUS_BUFFER_TOO_SHORT;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, bytes.len());
    }
    NDIS_STATUS_SUCCESS
}

fn header(kind: u8, revision: u8, size: u32) -> [u8; 4] {
    let [low, high, ..] = size.to_le_bytes();
    [kind, revision, low, high]
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A PROCESSOR_NUMBER as bytes.
fn number(index: u32) -> [u8; 4] {
    [0, 0, u8::try_from(index).unwrap_or(u8::MAX), 0]
}

/// NDIS_RSS_PROCESSOR_INFO: every processor may be used, each as well as the other.
fn rss_processors(count: u32) -> Vec<u8> {
    let mut bytes = header(RSS_TYPE, 2, RSS_INFO).to_vec();
    bytes.extend(words(&[0]));
    bytes.extend(number(0));
    // MaxNumRssProcessors, PreferredNumaNode with its padding, offset, count and size of the array.
    bytes.extend(words(&[count, 0, RSS_INFO, count, RSS_PROCESSOR]));
    bytes.extend(number(count - 1));
    // NdisRssProfileClosest.
    bytes.extend(words(&[1]));
    for index in 0..count {
        bytes.extend(number(index));
        bytes.extend([0; 4]);
    }
    bytes
}

/// NDIS_SYSTEM_PROCESSOR_INFO_EX: one socket, each processor a core of its own.
fn system_processors(count: u32) -> Vec<u8> {
    let mut bytes = header(DEFAULT_TYPE, 1, SYSTEM_INFO).to_vec();
    // Flags, ProcessorVendor (unknown), sockets, cores, cores of a socket, threads of a core, the array.
    bytes.extend(words(&[0, 0, 1, count, count, 1, SYSTEM_INFO, count, PROCESSOR_INFO]));
    for index in 0..count {
        bytes.extend(number(index));
        bytes.extend(words(&[0, index, 0, 0]));
    }
    bytes
}

exports! { LOCKS in "ndis.sys" {
    ANY fn NdisInitializeReadWriteLock(call, lock: PVOID) {
        call.initialize_rw_lock(lock as usize);
        Ok(())
    }

    UP_TO_DISPATCH fn NdisAcquireReadWriteLock(call, lock: PVOID, write: u8, state: *mut LockState) {
        let irql = call.acquire_rw(lock as usize, write != 0)?;
        // SAFETY: the caller's structure.
        unsafe { state.write(LockState { state: if write == 0 { 1 } else { 2 }, irql }) };
        Ok(())
    }

    AT_DISPATCH fn NdisReleaseReadWriteLock(call, lock: PVOID, state: *const LockState) {
        // SAFETY: the structure that the acquisition filled.
        call.release_rw(lock as usize, unsafe { (*state).irql })
    }

    AT_DISPATCH fn NdisDprAcquireReadWriteLock(call, lock: PVOID, write: u8, state: *mut LockState) {
        let irql = call.acquire_rw(lock as usize, write != 0)?;
        // SAFETY: the caller's structure.
        unsafe { state.write(LockState { state: if write == 0 { 3 } else { 4 }, irql }) };
        Ok(())
    }

    AT_DISPATCH fn NdisDprReleaseReadWriteLock(call, lock: PVOID, state: *const LockState) {
        // SAFETY: the structure that the acquisition filled.
        call.release_rw(lock as usize, unsafe { (*state).irql })
    }
} }

leaves! { PROCESSORS in "ndis.sys" {
    UP_TO_DISPATCH fn NdisGetRssProcessorInformation(call, handle: NDIS_HANDLE, buffer: *mut u8, size: *mut usize) -> NDIS_STATUS {
        if !call.knows_handle(handle as usize) {
            call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
            return NDIS_STATUS_FAILURE;
        }
        // SAFETY: the caller's buffer and variable.
        unsafe { answer(&rss_processors(call.options.processors), buffer, size) }
    }

    UP_TO_DISPATCH fn NdisGetProcessorInformationEx(call, handle: NDIS_HANDLE, buffer: *mut u8, size: *mut usize) -> NDIS_STATUS {
        if !handle.is_null() && !call.knows_handle(handle as usize) {
            call.violate(rules::HANDLE_UNKNOWN, format!("{handle:p} is no handle of an adapter or driver"));
            return NDIS_STATUS_FAILURE;
        }
        // SAFETY: the caller's buffer and variable.
        unsafe { answer(&system_processors(call.options.processors), buffer, size) }
    }

    ANY fn NdisSystemActiveProcessorCount(call, active: *mut u64) -> ULONG {
        // SAFETY: NULL or the caller's variable.
        if let Some(active) = unsafe { active.as_mut() } {
            *active = all(call);
        }
        call.options.processors
    }

    ANY fn NdisMaxGroupCount(_) -> USHORT {
        1
    }

    ANY fn NdisActiveGroupCount(_) -> USHORT {
        1
    }

    ANY fn NdisGroupMaxProcessorCount(call, group: USHORT) -> ULONG {
        super::processors::processors(call, group)
    }

    ANY fn NdisProcessorNumberToIndex(call, processor: PROCESSOR_NUMBER) -> ULONG {
        let index = ULONG::from(processor.Number);
        if processor.Group == 0 && index < call.options.processors { index } else { u32::MAX }
    }

    ANY fn NdisProcessorIndexToNumber(call, index: ULONG, processor: *mut PROCESSOR_NUMBER) -> NDIS_STATUS {
        if index >= call.options.processors {
            return NDIS_STATUS_FAILURE;
        }
        // SAFETY: the caller's structure.
        unsafe { processor.write(numbered(index)) };
        NDIS_STATUS_SUCCESS
    }

    UP_TO_DISPATCH fn NdisGetCurrentProcessorCounts(call, idle: *mut ULONG, busy: *mut ULONG, index: *mut ULONG) {
        // In ticks: the processor has been idle half of the time.
        let ticks = u32::try_from((call.ticks() / 156_250) & 0xffff_ffff).unwrap_or(0);
        // SAFETY: the caller's variables.
        unsafe {
            idle.write(ticks / 2);
            busy.write(ticks - ticks / 2);
            index.write(crate::machine::thread::with(crate::machine::Thread::processor));
        }
    }

    ANY fn NdisGetCurrentSystemTime(call, time: *mut LARGE_INTEGER) {
        // SAFETY: the caller's variable.
        unsafe { time.write(LARGE_INTEGER { QuadPart: call.system_time().cast_signed() }) };
    }

    ANY fn NdisGetSystemUpTime(call, up: *mut ULONG) {
        let milliseconds = u32::try_from(call.uptime().as_millis() & 0xffff_ffff).unwrap_or(0);
        // SAFETY: the caller's variable.
        unsafe { up.write(milliseconds) };
    }

    UP_TO_DISPATCH fn NdisGeneratePartialCancelId(_) -> UCHAR {
        // One for each protocol driver; a miniport has no need of it, but may ask.
        1
    }
} }

/// A NUL-terminated narrow string, as characters.
///
/// # Safety
/// It ends with a zero.
unsafe fn narrow(source: *const u8) -> Vec<WCHAR> {
    // SAFETY: as the caller says.
    unsafe { super::format::characters(source, 0x7ffe) }
}

/// A string in pool memory, which the caller frees with NdisFreeMemory; `false` without memory.
///
/// # Safety
/// `string` is the caller's.
unsafe fn allocate_string(call: &Call<'_>, string: *mut UNICODE_STRING, units: &[WCHAR]) -> bool {
    let bytes = (units.len() + 1) * 2;
    let block: PVOID = call.allocate(bytes, STRING_TAG, PoolKind::NonPaged, true).cast();
    let block = block.cast::<WCHAR>();
    if block.is_null() {
        return false;
    }
    // SAFETY: the block has room for the characters; the string is the caller's.
    unsafe {
        std::ptr::copy_nonoverlapping(units.as_ptr(), block, units.len());
        let length = u16::try_from(units.len() * 2).unwrap_or(0);
        string.write(UNICODE_STRING { Length: length, MaximumLength: length + 2, Buffer: block });
    }
    true
}

exports! { TABLE in "ndis.sys" {
    PASSIVE_ONLY fn NdisInitializeString(call, string: *mut UNICODE_STRING, source: *const u8) {
        // SAFETY: the caller's string and structure.
        unsafe {
            if !allocate_string(call, string, &narrow(source)) {
                string.write(UNICODE_STRING { Length: 0, MaximumLength: 0, Buffer: std::ptr::null_mut() });
            }
        }
        Ok(())
    }

    PASSIVE_ONLY fn NdisMQueryAdapterInstanceName(call, string: *mut UNICODE_STRING, handle: NDIS_HANDLE) -> NDIS_STATUS {
        let Some(adapter) = call.named_adapter(handle) else { return Ok(NDIS_STATUS_FAILURE) };
        let name: Vec<WCHAR> = format!("{} {}", adapter.driver.name, adapter.id).encode_utf16().collect();
        // SAFETY: the caller's structure.
        Ok(if unsafe { allocate_string(call, string, &name) } { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_RESOURCES })
    }

    PASSIVE_ONLY fn NdisEqualString(call, a: *const Counted<u16>, b: *const Counted<u16>, fold: u8) -> u8 {
        // SAFETY: the caller's strings.
        let (a, b) = unsafe { (contents(call, a), contents(call, b)) };
        let key = |unit: &u16| if fold == 0 { *unit } else { super::rtl_string::upcase(*unit) };
        Ok(u8::from(a.iter().map(key).eq(b.iter().map(key))))
    }

    UP_TO_DISPATCH fn NdisAllocateGenericObject(call, driver: *mut DRIVER_OBJECT, tag: ULONG, size: USHORT) -> PVOID {
        let object = call.allocate(GENERIC_OBJECT + usize::from(size), tag, PoolKind::NonPaged, true);
        if object.is_null() {
            return Ok(std::ptr::null_mut());
        }
        // SAFETY: a block of that size: a header, who called, and the driver's object.
        unsafe {
            object.cast::<[u8; 4]>().write(header(GENERIC_TYPE, 1, 32));
            object.add(24).cast::<*mut DRIVER_OBJECT>().write_unaligned(driver);
        }
        let owner = crate::machine::thread::with(crate::machine::Thread::context).driver;
        call.objects.lock().generic.insert(object as usize, owner);
        Ok(object.cast())
    }

    UP_TO_DISPATCH fn NdisFreeGenericObject(call, object: PVOID) {
        let known = call.objects.lock().generic.remove(&(object as usize));
        if known.is_none() {
            call.violate(rules::HANDLE_UNKNOWN, format!("{object:p} is no generic object, or was freed before"));
            return Ok(());
        }
        call.free(object as usize, None)
    }

    PASSIVE_ONLY fn NdisAllocateSharedMemory(
        call, handle: NDIS_HANDLE, parameters: *mut SharedMemory, allocation: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS {
        if call.named_adapter(handle).is_none() {
            return Ok(NDIS_STATUS_FAILURE);
        }
        // SAFETY: the caller's structure, as large as its header says; what is read lies in revision 1.
        let (kind, revision, length) = unsafe {
            ((*parameters).header[0], (*parameters).header[1], (*parameters).length)
        };
        if kind != DEFAULT_TYPE || !(1..=2).contains(&revision) || length == 0 {
            call.violate(rules::STRUCTURE_HEADER, format!("type {kind:#x}, revision {revision}, {length} bytes"));
            return Ok(NDIS_STATUS_FAILURE);
        }
        let size = (length as usize).next_multiple_of(4096);
        let block = call.allocate(size, SHARED_TAG, PoolKind::NonPaged, true);
        if block.is_null() {
            return Ok(NDIS_STATUS_RESOURCES);
        }
        // SAFETY: the caller's structure and variable.
        unsafe {
            (*parameters).address = block.cast();
            (*parameters).handle = block.cast();
            allocation.write(block.cast());
        }
        Ok(NDIS_STATUS_SUCCESS)
    }

    PASSIVE_ONLY fn NdisFreeSharedMemory(call, handle: NDIS_HANDLE, allocation: NDIS_HANDLE) {
        if call.named_adapter(handle).is_none() {
            return Ok(());
        }
        call.free(allocation as usize, Some(SHARED_TAG))
    }

    UP_TO_DISPATCH fn NdisGetSharedDataAlignment(_) -> ULONG {
        // A cache line.
        Ok(64)
    }

    PASSIVE_ONLY fn NdisGetRoutineAddress(call, name: *const UNICODE_STRING) -> PVOID {
        // SAFETY: the caller's string.
        let name = unsafe { text(call, name) };
        // As for MmGetSystemRoutineAddress.
        Ok(super::resolve("ndis.sys", &name).unwrap_or(0) as PVOID)
    }
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_lists_have_the_sizes_that_they_tell() {
        let rss = rss_processors(4);
        assert_eq!(rss.len(), 40 + 4 * 8);
        // Offset, count and entry size of the array.
        assert_eq!(&rss[20..32], words(&[40, 4, 8]));
        assert_eq!((rss[34], rss[42], rss[66]), (3, 0, 3));
        let system = system_processors(2);
        assert_eq!(system.len(), 40 + 2 * 20);
        assert_eq!(&system[28..40], words(&[40, 2, 20]));
    }
}
