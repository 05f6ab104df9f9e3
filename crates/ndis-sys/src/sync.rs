//! Locks, events, deferred procedure calls and timers.

use crate::{
    CCHAR, KAFFINITY, KIRQL, KSPIN_LOCK, LIST_ENTRY, LONG, NDIS_OBJECT_HEADER, PKDEFERRED_ROUTINE,
    PNDIS_TIMER_FUNCTION, PVOID, SINGLE_LIST_ENTRY, UCHAR, ULONG, USHORT,
};

#[cfg(doc)] // for links
use crate::*;

/// A spin lock that remembers the IRQL. Must not move while it is in use. `[nf-ndis-ndisallocatespinlock]`
#[derive(Debug)]
#[repr(C)]
pub struct NDIS_SPIN_LOCK {
    /// The lock.
    pub SpinLock: KSPIN_LOCK,
    /// The IRQL before it was acquired.
    pub OldIrql: KIRQL,
}
const _: () = assert!(size_of::<NDIS_SPIN_LOCK>() == 16 && align_of::<NDIS_SPIN_LOCK>() == 8);

/// State of one acquisition of a read/write lock. `[ns-ndis-_lock_state_ex]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LOCK_STATE_EX {
    /// The IRQL before.
    pub OldIrql: KIRQL,
    /// Opaque.
    pub LockState: UCHAR,
    /// Opaque.
    pub Flags: UCHAR,
}
const _: () = assert!(size_of::<LOCK_STATE_EX>() == 3 && align_of::<LOCK_STATE_EX>() == 1);

/// The caller is at DISPATCH_LEVEL.
pub const NDIS_RWL_AT_DISPATCH_LEVEL: UCHAR = 1;

/// An event. Must not move while it is in use. `[nf-ndis-ndisinitializeevent]`
#[derive(Debug)]
#[repr(C)]
pub struct NDIS_EVENT {
    /// The kernel's event.
    pub Event: KEVENT,
}
const _: () = assert!(size_of::<NDIS_EVENT>() == 24 && align_of::<NDIS_EVENT>() == 8);

/// An event. Must not move while it is in use. Opaque to drivers. `[eprocess]`
#[derive(Debug)]
#[repr(C)]
pub struct KEVENT {
    /// The dispatcher header.
    pub Header: DISPATCHER_HEADER,
}
const _: () = assert!(size_of::<KEVENT>() == 24 && align_of::<KEVENT>() == 8);

/// Head of an object that threads can wait for. Of the C union, the plain members. Opaque to drivers.
#[derive(Debug)]
#[repr(C)]
pub struct DISPATCHER_HEADER {
    /// Type of the object.
    pub Type: UCHAR,
    /// Depends on the type.
    pub Signalling: UCHAR,
    /// Size in 32-bit words.
    pub Size: UCHAR,
    /// Depends on the type.
    pub Reserved1: UCHAR,
    /// Above 0: signalled.
    pub SignalState: LONG,
    /// The threads that wait.
    pub WaitListHead: LIST_ENTRY,
}
const _: () = assert!(size_of::<DISPATCHER_HEADER>() == 24 && align_of::<DISPATCHER_HEADER>() == 8);

/// Type of an event. `[nf-wdm-keinitializeevent]`
pub type EVENT_TYPE = i32;
/// Stays signalled until it is reset.
pub const NotificationEvent: EVENT_TYPE = 0;
/// Releases one waiter, then is reset.
pub const SynchronizationEvent: EVENT_TYPE = 1;
/// Why a thread waits. `[nf-wdm-kewaitforsingleobject]`
pub type KWAIT_REASON = i32;
/// A driver waits.
pub const Executive: KWAIT_REASON = 0;
/// Kernel or user mode.
pub type KPROCESSOR_MODE = CCHAR;
/// Kernel mode.
pub const KernelMode: KPROCESSOR_MODE = 0;
/// User mode.
pub const UserMode: KPROCESSOR_MODE = 1;

/// A deferred procedure call. Must not move while it is in use. Opaque to drivers. `[eprocess]`
#[derive(Debug)]
#[repr(C)]
pub struct KDPC {
    /// Type of the object.
    pub Type: UCHAR,
    /// Where it is queued.
    pub Importance: UCHAR,
    /// Target processor.
    pub Number: USHORT,
    /// The queue's link.
    pub DpcListEntry: SINGLE_LIST_ENTRY,
    /// Where it ran.
    pub ProcessorHistory: KAFFINITY,
    /// The routine.
    pub DeferredRoutine: PKDEFERRED_ROUTINE,
    /// Its context.
    pub DeferredContext: PVOID,
    /// First argument of [`KeInsertQueueDpc`].
    pub SystemArgument1: PVOID,
    /// Second argument of [`KeInsertQueueDpc`].
    pub SystemArgument2: PVOID,
    /// The queue it is in.
    pub DpcData: PVOID,
}
const _: () = assert!(size_of::<KDPC>() == 64 && align_of::<KDPC>() == 8);

/// Properties of a timer. `[ns-ndis-_ndis_timer_characteristics]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_TIMER_CHARACTERISTICS {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// Tag of the timer's memory.
    pub AllocationTag: ULONG,
    /// What it calls.
    pub TimerFunction: PNDIS_TIMER_FUNCTION,
    /// With what, unless [`NdisSetTimerObject`] says otherwise.
    pub FunctionContext: PVOID,
}
const _: () =
    assert!(size_of::<NDIS_TIMER_CHARACTERISTICS>() == 24 && align_of::<NDIS_TIMER_CHARACTERISTICS>() == 8);
