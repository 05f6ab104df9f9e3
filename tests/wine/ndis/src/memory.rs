//! MDLs, pools, and NET_BUFFER_LISTs with one NET_BUFFER; all are counted.

use core::ffi::c_void;
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed}; // counters only

use ndis_sys::{
    MDL, MDL_SOURCE_IS_NONPAGED_POOL, NDIS_HANDLE, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT,
    NET_BUFFER_LIST_POOL_PARAMETERS,
};
use windows_sys::Wdk::Foundation::NonPagedPoolNx;
use windows_sys::Wdk::System::SystemServices::{ExAllocatePoolWithTag, ExFreePoolWithTag};

use crate::report;

const TAG: u32 = u32::from_le_bytes(*b"WinN");
const PAGE: usize = 4096;

static POOLS: AtomicI32 = AtomicI32::new(0);
static LISTS: AtomicI32 = AtomicI32::new(0);
static MDLS: AtomicI32 = AtomicI32::new(0);

/// What has been allocated and not freed.
pub(crate) struct Left {
    pub(crate) pools: i32,
    pub(crate) lists: i32,
    pub(crate) mdls: i32,
}

pub(crate) fn left() -> Left {
    Left { pools: POOLS.load(Relaxed), lists: LISTS.load(Relaxed), mdls: MDLS.load(Relaxed) }
}

/// Zeroed memory, aligned to 16 bytes; null on failure.
pub(crate) fn allocate(bytes: usize) -> *mut c_void {
    // SAFETY: callable with any size; what it gives has that many bytes.
    unsafe {
        let memory = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TAG);
        if !memory.is_null() {
            memory.cast::<u8>().write_bytes(0, bytes);
        }
        memory
    }
}

/// # Safety
/// `memory` is of [`allocate`] and freed once.
pub(crate) unsafe fn free(memory: *mut c_void) {
    // SAFETY: as the caller promises.
    unsafe { ExFreePoolWithTag(memory, TAG) };
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "win64" fn NdisAllocateMdl(
    _: NDIS_HANDLE,
    address: *mut c_void,
    bytes: u32,
) -> *mut MDL {
    let offset = address as usize % PAGE;
    let size = size_of::<MDL>() + (offset + bytes as usize).div_ceil(PAGE) * size_of::<usize>();
    let mdl = allocate(size).cast::<MDL>();
    if !mdl.is_null() {
        MDLS.fetch_add(1, Relaxed);
        // SAFETY: new and zeroed, which is an MDL.
        let mdl = unsafe { &mut *mdl };
        mdl.Size = i16::try_from(size).unwrap_or(0);
        mdl.MdlFlags = MDL_SOURCE_IS_NONPAGED_POOL;
        mdl.MappedSystemVa = address;
        mdl.StartVa = address.wrapping_byte_sub(offset);
        mdl.ByteOffset = offset as u32;
        mdl.ByteCount = bytes;
    }
    mdl
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "win64" fn NdisFreeMdl(mdl: *mut MDL) {
    MDLS.fetch_sub(1, Relaxed);
    // SAFETY: of `NdisAllocateMdl`.
    unsafe { free(mdl.cast()) };
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "win64" fn NdisAllocateNetBufferListPool(
    _: NDIS_HANDLE,
    parameters: *mut NET_BUFFER_LIST_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    // SAFETY: the driver's structure, valid during the call.
    let parameters = unsafe { *parameters };
    report::line(format_args!(
        "pool type={:#x} revision={} size={} with-buffer={} context={}",
        parameters.Header.Type,
        parameters.Header.Revision,
        parameters.Header.Size,
        parameters.fAllocateNetBuffer,
        parameters.ContextSize
    ));
    let pool = allocate(size_of::<NET_BUFFER_LIST_POOL_PARAMETERS>());
    if !pool.is_null() {
        POOLS.fetch_add(1, Relaxed);
        // SAFETY: new, and large enough.
        unsafe { pool.cast::<NET_BUFFER_LIST_POOL_PARAMETERS>().write(parameters) };
    }
    pool
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "win64" fn NdisFreeNetBufferListPool(pool: NDIS_HANDLE) {
    POOLS.fetch_sub(1, Relaxed);
    // SAFETY: of `NdisAllocateNetBufferListPool`.
    unsafe { free(pool) };
}

/// A list, its NET_BUFFER, and the block for its context, 16-byte aligned as they are.
#[repr(C)]
struct Whole {
    list: NET_BUFFER_LIST,
    buffer: NET_BUFFER,
    context: NET_BUFFER_LIST_CONTEXT,
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "win64" fn NdisAllocateNetBufferAndNetBufferList(
    pool: NDIS_HANDLE,
    context: u16,
    back_fill: u16,
    mdls: *mut MDL,
    offset: u32,
    bytes: usize,
) -> *mut NET_BUFFER_LIST {
    // SAFETY: of `NdisAllocateNetBufferListPool`.
    let size = unsafe { (*pool.cast::<NET_BUFFER_LIST_POOL_PARAMETERS>()).ContextSize };
    let context = size + context + back_fill;
    let whole = allocate(size_of::<Whole>() + usize::from(context)).cast::<Whole>();
    if whole.is_null() {
        return ptr::null_mut();
    }
    LISTS.fetch_add(1, Relaxed);
    let (mut mdl, mut into) = (mdls, offset);
    // SAFETY: new and zeroed, which is a list; the chain of MDLs is the driver's and at least `offset` bytes long.
    unsafe {
        while !mdl.is_null() && into >= (*mdl).ByteCount && !(*mdl).Next.is_null() {
            into -= (*mdl).ByteCount;
            mdl = (*mdl).Next;
        }
        let list = &mut (*whole).list;
        let buffer = &mut (*whole).buffer;
        list.NdisPoolHandle = pool;
        list.FirstNetBuffer = buffer;
        if context != 0 {
            (*whole).context.Size = context;
            (*whole).context.Offset = context;
            list.Context = &raw mut (*whole).context;
        }
        buffer.MdlChain = mdls;
        buffer.CurrentMdl = mdl;
        buffer.CurrentMdlOffset = into;
        buffer.DataOffset = offset;
        buffer.DataLength = u32::try_from(bytes).unwrap_or(0);
        list
    }
}

/// # Safety
/// As NDIS documents it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "win64" fn NdisFreeNetBufferList(list: *mut NET_BUFFER_LIST) {
    const _: () = assert!(mem::offset_of!(Whole, list) == 0);
    LISTS.fetch_sub(1, Relaxed);
    // SAFETY: of `NdisAllocateNetBufferAndNetBufferList`.
    unsafe { free(list.cast()) };
}
