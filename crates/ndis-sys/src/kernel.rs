//! Kernel objects: locks, events, timers, DPCs, pool, processor state.

use crate::*;

#[derive(Debug)]
#[repr(C)]
pub struct DISPATCHER_HEADER {
    pub Type: UCHAR,
    pub Signalling: UCHAR,
    pub Size: UCHAR,
    pub Reserved1: UCHAR,
    pub SignalState: LONG,
    pub WaitListHead: LIST_ENTRY,
}
const _: () = assert!(size_of::<DISPATCHER_HEADER>() == 24 && align_of::<DISPATCHER_HEADER>() == 8);

#[derive(Debug)]
#[repr(C)]
pub struct KEVENT {
    pub Header: DISPATCHER_HEADER,
}
const _: () = assert!(size_of::<KEVENT>() == 24 && align_of::<KEVENT>() == 8);

#[derive(Debug)]
#[repr(C)]
pub struct KDPC {
    pub Type: UCHAR,
    pub Importance: UCHAR,
    pub Number: USHORT,
    pub DpcListEntry: SINGLE_LIST_ENTRY,
    pub ProcessorHistory: KAFFINITY,
    pub DeferredRoutine: PKDEFERRED_ROUTINE,
    pub DeferredContext: PVOID,
    pub SystemArgument1: PVOID,
    pub SystemArgument2: PVOID,
    pub DpcData: PVOID,
}
const _: () = assert!(size_of::<KDPC>() == 64 && align_of::<KDPC>() == 8);

#[derive(Debug)]
#[repr(C)]
pub struct NDIS_SPIN_LOCK {
    pub SpinLock: KSPIN_LOCK,
    pub OldIrql: KIRQL,
}
const _: () = assert!(size_of::<NDIS_SPIN_LOCK>() == 16 && align_of::<NDIS_SPIN_LOCK>() == 8);

#[derive(Debug)]
#[repr(C)]
pub struct NDIS_EVENT {
    pub Event: KEVENT,
}
const _: () = assert!(size_of::<NDIS_EVENT>() == 24 && align_of::<NDIS_EVENT>() == 8);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LOCK_STATE_EX {
    pub OldIrql: KIRQL,
    pub LockState: UCHAR,
    pub Flags: UCHAR,
}
const _: () = assert!(size_of::<LOCK_STATE_EX>() == 3 && align_of::<LOCK_STATE_EX>() == 1);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_TIMER_CHARACTERISTICS {
    pub Header: NDIS_OBJECT_HEADER,
    pub AllocationTag: ULONG,
    pub TimerFunction: PNDIS_TIMER_FUNCTION,
    pub FunctionContext: PVOID,
}
const _: () =
    assert!(size_of::<NDIS_TIMER_CHARACTERISTICS>() == 24 && align_of::<NDIS_TIMER_CHARACTERISTICS>() == 8);

#[derive(Debug)]
#[repr(C)]
pub struct XSTATE_SAVE {
    pub Prev: *mut XSTATE_SAVE,
    pub Thread: *mut KTHREAD,
    pub Level: UCHAR,
    pub XStateContext: XSTATE_CONTEXT,
}
const _: () = assert!(size_of::<XSTATE_SAVE>() == 56 && align_of::<XSTATE_SAVE>() == 8);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_DEVICE_OBJECT_ATTRIBUTES {
    pub Header: NDIS_OBJECT_HEADER,
    pub DeviceName: *mut NDIS_STRING,
    pub SymbolicName: *mut NDIS_STRING,
    pub MajorFunctions: *mut PDRIVER_DISPATCH,
    pub ExtensionSize: ULONG,
    pub DefaultSDDLString: *const UNICODE_STRING,
    pub DeviceClassGuid: *const GUID,
}
const _: () = assert!(
    size_of::<NDIS_DEVICE_OBJECT_ATTRIBUTES>() == 56 && align_of::<NDIS_DEVICE_OBJECT_ATTRIBUTES>() == 8
);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct XSTATE_CONTEXT {
    pub Mask: ULONG64,
    pub Length: ULONG,
    pub Reserved1: ULONG,
    pub Area: PVOID,
    pub Buffer: PVOID,
}

pub type EVENT_TYPE = i32;
pub const NotificationEvent: EVENT_TYPE = 0;
pub const SynchronizationEvent: EVENT_TYPE = 1;
pub type KWAIT_REASON = i32;
pub const Executive: KWAIT_REASON = 0;
pub type KPROCESSOR_MODE = CCHAR;
pub const KernelMode: KPROCESSOR_MODE = 0;
pub const UserMode: KPROCESSOR_MODE = 1;
pub type EX_POOL_PRIORITY = i32;
pub const LowPoolPriority: EX_POOL_PRIORITY = 0;
pub const NormalPoolPriority: EX_POOL_PRIORITY = 16;
pub const HighPoolPriority: EX_POOL_PRIORITY = 32;
pub type POOL_FLAGS = ULONG64;
pub const POOL_FLAG_USE_QUOTA: POOL_FLAGS = 0x1;
pub const POOL_FLAG_UNINITIALIZED: POOL_FLAGS = 0x2;
pub const POOL_FLAG_SESSION: POOL_FLAGS = 0x4;
pub const POOL_FLAG_CACHE_ALIGNED: POOL_FLAGS = 0x8;
pub const POOL_FLAG_RAISE_ON_FAILURE: POOL_FLAGS = 0x20;
pub const POOL_FLAG_NON_PAGED: POOL_FLAGS = 0x40;
pub const POOL_FLAG_NON_PAGED_EXECUTE: POOL_FLAGS = 0x80;
pub const POOL_FLAG_PAGED: POOL_FLAGS = 0x100;
pub const PASSIVE_LEVEL: KIRQL = 0;
pub const APC_LEVEL: KIRQL = 1;
pub const DISPATCH_LEVEL: KIRQL = 2;
pub const HIGH_LEVEL: KIRQL = 15;
pub const XSTATE_MASK_LEGACY_FLOATING_POINT: ULONG64 = 1 << 0;
pub const XSTATE_MASK_LEGACY_SSE: ULONG64 = 1 << 1;
pub const XSTATE_MASK_LEGACY: ULONG64 = XSTATE_MASK_LEGACY_FLOATING_POINT | XSTATE_MASK_LEGACY_SSE;
pub const XSTATE_MASK_GSSE: ULONG64 = 1 << 2;
pub const XSTATE_MASK_AVX: ULONG64 = XSTATE_MASK_GSSE;
pub const XSTATE_MASK_AVX512: ULONG64 = 0xE0;
pub const ALL_PROCESSOR_GROUPS: USHORT = 0xFFFF;
pub const MdlMappingNoExecute: ULONG = 0x4000_0000;
pub const MdlMappingNoWrite: ULONG = 0x8000_0000;
pub type MM_PAGE_PRIORITY = i32;
pub const LowPagePriority: MM_PAGE_PRIORITY = 0;
pub const NormalPagePriority: MM_PAGE_PRIORITY = 16;
pub const HighPagePriority: MM_PAGE_PRIORITY = 32;
pub type MEMORY_CACHING_TYPE = i32;
pub const MmNonCached: MEMORY_CACHING_TYPE = 0;
pub const MmCached: MEMORY_CACHING_TYPE = 1;
pub const MmWriteCombined: MEMORY_CACHING_TYPE = 2;
pub const NDIS_RWL_AT_DISPATCH_LEVEL: UCHAR = 1;
