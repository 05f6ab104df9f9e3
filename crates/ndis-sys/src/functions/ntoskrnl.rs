//! Functions of ntoskrnl.exe.

use crate::{
    BOOLEAN, CHAR, EVENT_TYPE, IRP, KDPC, KEVENT, KIRQL, KPRIORITY, KPROCESSOR_MODE, KSPIN_LOCK,
    KWAIT_REASON, LARGE_INTEGER, LONG, MDL, MEMORY_CACHING_TYPE, NTSTATUS, PKDEFERRED_ROUTINE, POOL_FLAGS,
    PROCESSOR_NUMBER, PVOID, SIZE_T, ULONG, ULONG_PTR, ULONG64, UNICODE_STRING, USHORT, WCHAR, XSTATE_SAVE,
};

#[cfg(doc)] // for links
use crate::*;

imports! { "ntoskrnl.exe" =>
    /// Allocates pool memory, zeroed unless [`POOL_FLAG_UNINITIALIZED`]; null on failure. Aligned to 16
    /// bytes, or to the page if it has a page or more. At most DISPATCH_LEVEL for non-paged memory. Windows
    /// 10 2004. `[nf-wdm-exallocatepool2]`
    pub fn ExAllocatePool2(Flags: POOL_FLAGS, NumberOfBytes: SIZE_T, Tag: ULONG) -> PVOID;
    /// Frees pool memory. At most DISPATCH_LEVEL. `[nf-ntddk-exfreepool]`
    pub fn ExFreePool(P: PVOID);
    /// Frees pool memory with this tag. At most DISPATCH_LEVEL. `[nf-wdm-exfreepoolwithtag]`
    pub fn ExFreePoolWithTag(P: PVOID, Tag: ULONG);
    /// Stops the system. Any IRQL. `[nf-wdm-kebugcheckex]`
    pub fn KeBugCheckEx(
        BugCheckCode: ULONG,
        BugCheckParameter1: ULONG_PTR,
        BugCheckParameter2: ULONG_PTR,
        BugCheckParameter3: ULONG_PTR,
        BugCheckParameter4: ULONG_PTR,
    ) -> !;
    /// The IRQL. Any IRQL. `[nf-wdm-kegetcurrentirql]`
    pub fn KeGetCurrentIrql() -> KIRQL;
    /// Raises the IRQL, `KeRaiseIrql` in C; returns that before. At most `NewIrql`. `[nf-wdm-keraiseirql]`
    pub fn KfRaiseIrql(NewIrql: KIRQL) -> KIRQL;
    /// Lowers the IRQL to that before it was raised. At least `NewIrql`. `[nf-wdm-kelowerirql]`
    pub fn KeLowerIrql(NewIrql: KIRQL);
    /// Raises to DISPATCH_LEVEL; returns the IRQL before. At most DISPATCH_LEVEL.
    /// `[nf-wdm-keraiseirqltodpclevel]`
    pub fn KeRaiseIrqlToDpcLevel() -> KIRQL;
    /// Raises to DISPATCH_LEVEL and acquires the lock; returns the IRQL before. At most DISPATCH_LEVEL.
    /// `[nf-wdm-keacquirespinlockraisetodpc]`
    pub fn KeAcquireSpinLockRaiseToDpc(SpinLock: *mut KSPIN_LOCK) -> KIRQL;
    /// Releases the lock and lowers to `NewIrql`. DISPATCH_LEVEL. `[nf-wdm-kereleasespinlock]`
    pub fn KeReleaseSpinLock(SpinLock: *mut KSPIN_LOCK, NewIrql: KIRQL);
    /// Initialises a DPC. Any IRQL. `[nf-wdm-keinitializedpc]`
    pub fn KeInitializeDpc(Dpc: *mut KDPC, DeferredRoutine: PKDEFERRED_ROUTINE, DeferredContext: PVOID);
    /// Queues a DPC; [`FALSE`] if it is queued already. Any IRQL. `[nf-wdm-keinsertqueuedpc]`
    pub fn KeInsertQueueDpc(Dpc: *mut KDPC, SystemArgument1: PVOID, SystemArgument2: PVOID) -> BOOLEAN;
    /// Takes a DPC off its queue; [`FALSE`] if it was not queued. Any IRQL. `[nf-wdm-keremovequeuedpc]`
    pub fn KeRemoveQueueDpc(Dpc: *mut KDPC) -> BOOLEAN;
    /// Waits until all DPCs queued so far have run. PASSIVE_LEVEL. `[nf-wdm-keflushqueueddpcs]`
    pub fn KeFlushQueuedDpcs();
    /// Initialises an event. Any IRQL. `[nf-wdm-keinitializeevent]`
    pub fn KeInitializeEvent(Event: *mut KEVENT, Type: EVENT_TYPE, State: BOOLEAN);
    /// Signals an event; returns whether it was signalled. At most DISPATCH_LEVEL with `Wait` [`FALSE`].
    /// `[nf-wdm-kesetevent]`
    pub fn KeSetEvent(Event: *mut KEVENT, Increment: KPRIORITY, Wait: BOOLEAN) -> LONG;
    /// Waits until an object is signalled or the time is over (in units of 100 ns, negative is relative;
    /// null is for ever). At most APC_LEVEL; DISPATCH_LEVEL with time 0. `[nf-wdm-kewaitforsingleobject]`
    pub fn KeWaitForSingleObject(
        Object: PVOID,
        WaitReason: KWAIT_REASON,
        WaitMode: KPROCESSOR_MODE,
        Alertable: BOOLEAN,
        Timeout: *mut LARGE_INTEGER,
    ) -> NTSTATUS;
    /// The processor this runs on, counted over all groups; the pointer may be null. Steady only at
    /// DISPATCH_LEVEL. `[nf-wdm-kegetcurrentprocessornumberex]`
    pub fn KeGetCurrentProcessorNumberEx(ProcNumber: *mut PROCESSOR_NUMBER) -> ULONG;
    /// Processors of a group, or of [`ALL_PROCESSOR_GROUPS`]. Any IRQL.
    /// `[nf-wdm-kequeryactiveprocessorcountex]`
    pub fn KeQueryActiveProcessorCountEx(GroupNumber: USHORT) -> ULONG;
    /// Processors that a group, or [`ALL_PROCESSOR_GROUPS`], may ever have. Any IRQL.
    /// `[nf-wdm-kequerymaximumprocessorcountex]`
    pub fn KeQueryMaximumProcessorCountEx(GroupNumber: USHORT) -> ULONG;
    /// Saves extended processor state (x86-64) before its use; may fail for lack of memory. At most
    /// DISPATCH_LEVEL. `[nf-wdm-kesaveextendedprocessorstate]`
    pub fn KeSaveExtendedProcessorState(Mask: ULONG64, XStateSave: *mut XSTATE_SAVE) -> NTSTATUS;
    /// Undoes [`KeSaveExtendedProcessorState`]. At the same IRQL.
    /// `[nf-wdm-kerestoreextendedprocessorstate]`
    pub fn KeRestoreExtendedProcessorState(XStateSave: *mut XSTATE_SAVE);
    /// Which of `FeatureMask`'s features (x86-64) the processor has and the system enabled. PASSIVE_LEVEL.
    /// `[nf-ntddk-rtlgetenabledextendedfeatures]`
    pub fn RtlGetEnabledExtendedFeatures(FeatureMask: ULONG64) -> ULONG64;
    /// Maps an MDL's pages; null on failure unless `BugCheckOnFailure`. At most DISPATCH_LEVEL for system
    /// space. `[nf-wdm-mmmaplockedpagesspecifycache]`
    pub fn MmMapLockedPagesSpecifyCache(
        MemoryDescriptorList: *mut MDL,
        AccessMode: KPROCESSOR_MODE,
        CacheType: MEMORY_CACHING_TYPE,
        RequestedAddress: PVOID,
        BugCheckOnFailure: ULONG,
        Priority: ULONG,
    ) -> PVOID;
    /// Fills in the pages of an MDL over non-paged pool. At most DISPATCH_LEVEL.
    /// `[nf-wdm-mmbuildmdlfornonpagedpool]`
    pub fn MmBuildMdlForNonPagedPool(MemoryDescriptorList: *mut MDL);
    /// Allocates an MDL; null on failure. At most DISPATCH_LEVEL. `[nf-wdm-ioallocatemdl]`
    pub fn IoAllocateMdl(
        VirtualAddress: PVOID,
        Length: ULONG,
        SecondaryBuffer: BOOLEAN,
        ChargeQuota: BOOLEAN,
        Irp: *mut IRP,
    ) -> *mut MDL;
    /// Frees an MDL of [`IoAllocateMdl`]. At most DISPATCH_LEVEL. `[nf-wdm-iofreemdl]`
    pub fn IoFreeMdl(Mdl: *mut MDL);
    /// Makes a counted string of a terminated one, without copying it. Any IRQL.
    /// `[nf-wdm-rtlinitunicodestring]`
    pub fn RtlInitUnicodeString(DestinationString: *mut UNICODE_STRING, SourceString: *const WCHAR);
    /// Sends a message to the debugger; at any IRQL if the message has no Unicode. `[nf-wdm-dbgprintex]`
    pub fn DbgPrintEx(ComponentId: ULONG, Level: ULONG, Format: *const CHAR, ...) -> ULONG;
}
