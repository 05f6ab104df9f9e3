//! Interrupt request levels, memory, processor state and control devices.

use crate::{
    GUID, KIRQL, KTHREAD, NDIS_OBJECT_HEADER, NDIS_STRING, PDRIVER_DISPATCH, PVOID, UCHAR, ULONG, ULONG64,
    UNICODE_STRING, USHORT, XSAVE_AREA,
};

/// Threads.
pub const PASSIVE_LEVEL: KIRQL = 0;
/// Asynchronous procedure calls.
pub const APC_LEVEL: KIRQL = 1;
/// The scheduler and DPCs; no waiting, no paged memory.
pub const DISPATCH_LEVEL: KIRQL = 2;
/// Everything is masked. 15 on x86-64 and arm64.
pub const HIGH_LEVEL: KIRQL = 15;

/// All groups of processors.
pub const ALL_PROCESSOR_GROUPS: USHORT = 0xFFFF;

/// How hard an allocation is tried. `[nf-ndis-ndisallocatememorywithtagpriority]`
pub type EX_POOL_PRIORITY = i32;
/// May fail when memory runs low.
pub const LowPoolPriority: EX_POOL_PRIORITY = 0;
/// May fail when memory runs very low.
pub const NormalPoolPriority: EX_POOL_PRIORITY = 16;
/// Fails only when there is none.
pub const HighPoolPriority: EX_POOL_PRIORITY = 32;
/// Properties of a pool allocation. `[pool_flags]`
pub type POOL_FLAGS = ULONG64;
/// Charges the process's quota.
pub const POOL_FLAG_USE_QUOTA: POOL_FLAGS = 0x1;
/// Does not zero the memory.
pub const POOL_FLAG_UNINITIALIZED: POOL_FLAGS = 0x2;
/// From the session's pool.
pub const POOL_FLAG_SESSION: POOL_FLAGS = 0x4;
/// Aligned to a cache line if that can be had.
pub const POOL_FLAG_CACHE_ALIGNED: POOL_FLAGS = 0x8;
/// Raises an exception instead of returning null.
pub const POOL_FLAG_RAISE_ON_FAILURE: POOL_FLAGS = 0x20;
/// Non-paged, not executable.
pub const POOL_FLAG_NON_PAGED: POOL_FLAGS = 0x40;
/// Non-paged, executable.
pub const POOL_FLAG_NON_PAGED_EXECUTE: POOL_FLAGS = 0x80;
/// Paged.
pub const POOL_FLAG_PAGED: POOL_FLAGS = 0x100;

/// How hard a mapping is tried. `[nf-wdm-mmgetsystemaddressformdlsafe]`
pub type MM_PAGE_PRIORITY = i32;
/// May fail when resources run low.
pub const LowPagePriority: MM_PAGE_PRIORITY = 0;
/// May fail when resources run very low.
pub const NormalPagePriority: MM_PAGE_PRIORITY = 16;
/// Fails only when there are none.
pub const HighPagePriority: MM_PAGE_PRIORITY = 32;
/// The mapping is not executable. Or it to the priority.
pub const MdlMappingNoExecute: ULONG = 0x4000_0000;
/// The mapping is not writable. Or it to the priority.
pub const MdlMappingNoWrite: ULONG = 0x8000_0000;

/// Caching of a mapping. `[ne-wdm-_memory_caching_type]`
pub type MEMORY_CACHING_TYPE = i32;
/// Not cached.
pub const MmNonCached: MEMORY_CACHING_TYPE = 0;
/// Cached.
pub const MmCached: MEMORY_CACHING_TYPE = 1;
/// Writes are combined.
pub const MmWriteCombined: MEMORY_CACHING_TYPE = 2;

/// Extended processor state of x86-64 that was saved. Opaque to drivers.
/// `[nf-wdm-kesaveextendedprocessorstate]`
#[derive(Debug)]
#[repr(C)]
pub struct XSTATE_SAVE {
    /// The state saved before.
    pub Prev: *mut XSTATE_SAVE,
    /// The thread whose it is.
    pub Thread: *mut KTHREAD,
    /// The IRQL at which it was saved.
    pub Level: UCHAR,
    /// Where it is.
    pub XStateContext: XSTATE_CONTEXT,
}
const _: () = assert!(size_of::<XSTATE_SAVE>() == 56 && align_of::<XSTATE_SAVE>() == 8);

/// Where extended processor state is kept. Opaque to drivers.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct XSTATE_CONTEXT {
    /// What is kept.
    pub Mask: ULONG64,
    /// Bytes.
    pub Length: ULONG,
    /// Reserved.
    pub Reserved1: ULONG,
    /// The XSAVE area.
    pub Area: *mut XSAVE_AREA,
    /// The allocation that holds it.
    pub Buffer: PVOID,
}

/// x87.
pub const XSTATE_MASK_LEGACY_FLOATING_POINT: ULONG64 = 1 << 0;
/// XMM registers.
pub const XSTATE_MASK_LEGACY_SSE: ULONG64 = 1 << 1;
/// x87 and XMM registers.
pub const XSTATE_MASK_LEGACY: ULONG64 = XSTATE_MASK_LEGACY_FLOATING_POINT | XSTATE_MASK_LEGACY_SSE;
/// Upper halves of the YMM registers.
pub const XSTATE_MASK_GSSE: ULONG64 = 1 << 2;
/// Upper halves of the YMM registers.
pub const XSTATE_MASK_AVX: ULONG64 = XSTATE_MASK_GSSE;
/// Mask registers, upper halves of ZMM0-15, and ZMM16-31.
pub const XSTATE_MASK_AVX512: ULONG64 = 0xE0;

/// Properties of a control device. `[ns-ndis-_ndis_device_object_attributes]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_DEVICE_OBJECT_ATTRIBUTES {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Its name, `\Device\…`.
    pub DeviceName: *mut NDIS_STRING,
    /// Its symbolic link, `\DosDevices\…`.
    pub SymbolicName: *mut NDIS_STRING,
    /// Dispatch routines, 28 of them; null where there is none.
    pub MajorFunctions: *mut PDRIVER_DISPATCH,
    /// Bytes of device extension.
    pub ExtensionSize: ULONG,
    /// Its security descriptor, or null.
    pub DefaultSDDLString: *const UNICODE_STRING,
    /// Its class, or null.
    pub DeviceClassGuid: *const GUID,
}
const _: () = assert!(
    size_of::<NDIS_DEVICE_OBJECT_ATTRIBUTES>() == 56 && align_of::<NDIS_DEVICE_OBJECT_ATTRIBUTES>() == 8
);
