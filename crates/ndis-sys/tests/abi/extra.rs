//! What is declared but not in the WDK's tables, each with its source.

/// Constants: name, value, source.
pub(crate) const CONSTANTS: &[(&str, i128, &str)] = &[
    ("TRUE", 1, "ntdef.h"),
    ("FALSE", 0, "ntdef.h"),
    ("PASSIVE_LEVEL", 0, "wdm.h"),
    ("APC_LEVEL", 1, "wdm.h"),
    ("DISPATCH_LEVEL", 2, "wdm.h"),
    ("HIGH_LEVEL", 15, "wdm.h, x64"),
    ("ALL_PROCESSOR_GROUPS", 0xFFFF, "wdm.h"),
    ("NotificationEvent", 0, "ntdef.h, EVENT_TYPE"),
    ("SynchronizationEvent", 1, "ntdef.h, EVENT_TYPE"),
    ("Executive", 0, "wdm.h, KWAIT_REASON"),
    ("KernelMode", 0, "wdm.h, MODE"),
    ("UserMode", 1, "wdm.h, MODE"),
    ("LowPoolPriority", 0, "wdm.h, EX_POOL_PRIORITY"),
    ("NormalPoolPriority", 16, "wdm.h, EX_POOL_PRIORITY"),
    ("HighPoolPriority", 32, "wdm.h, EX_POOL_PRIORITY"),
    ("MdlMappingNoWrite", 0x8000_0000, "wdm.h"),
    ("MdlMappingNoExecute", 0x4000_0000, "wdm.h"),
    ("POOL_FLAG_USE_QUOTA", 0x1, "page pool_flags: Windows 10 2004, younger than the tables"),
    ("POOL_FLAG_UNINITIALIZED", 0x2, "page pool_flags"),
    ("POOL_FLAG_SESSION", 0x4, "page pool_flags"),
    ("POOL_FLAG_CACHE_ALIGNED", 0x8, "page pool_flags"),
    ("POOL_FLAG_RAISE_ON_FAILURE", 0x20, "page pool_flags"),
    ("POOL_FLAG_NON_PAGED", 0x40, "page pool_flags"),
    ("POOL_FLAG_NON_PAGED_EXECUTE", 0x80, "page pool_flags"),
    ("POOL_FLAG_PAGED", 0x100, "page pool_flags"),
    ("XSTATE_MASK_LEGACY_FLOATING_POINT", 1 << 0, "wdm.h: XSAVE component 0"),
    ("XSTATE_MASK_LEGACY_SSE", 1 << 1, "wdm.h: XSAVE component 1"),
    ("XSTATE_MASK_LEGACY", 0b11, "wdm.h"),
    ("XSTATE_MASK_GSSE", 1 << 2, "wdm.h: XSAVE component 2"),
    ("XSTATE_MASK_AVX", 1 << 2, "wdm.h"),
    ("XSTATE_MASK_AVX512", 0b111 << 5, "wdm.h: XSAVE components 5, 6 and 7"),
    ("IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128", 0x08, "ntddndis.h; also in windows-sys"),
    ("IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_192", 0x10, "ntddndis.h; also in windows-sys"),
    ("IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_256", 0x20, "ntddndis.h; also in windows-sys"),
    ("IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128", 0x08, "ntddndis.h; also in windows-sys"),
    ("IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192", 0x10, "ntddndis.h; also in windows-sys"),
    ("IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256", 0x20, "ntddndis.h; also in windows-sys"),
    ("NDIS_LINK_SPEED_UNKNOWN", u64::MAX as i128, "ifdef.h: ((ULONG64)(-1)); the table cuts it to 32 bits"),
    (
        "MaxNetBufferListInfo",
        24,
        "length of NET_BUFFER_LIST.NetBufferListInfo at NDIS 6.30; the table has 6.80's",
    ),
];

/// Aliases: name and type; all are enumerations of wdm.h and ntdef.h but the last two.
pub(crate) const ALIASES: &[(&str, &str)] = &[
    ("EVENT_TYPE", "i32"),
    ("KWAIT_REASON", "i32"),
    ("EX_POOL_PRIORITY", "i32"),
    ("KPROCESSOR_MODE", "CCHAR"),
    ("POOL_FLAGS", "ULONG64"),
];

/// Structures: name and source. The sizes of those that hold them are in the tables.
pub(crate) const STRUCTS: &[(&str, usize, &str)] =
    &[("SINGLE_LIST_ENTRY", 8, "ntdef.h; in KDPC"), ("XSTATE_CONTEXT", 32, "wdm.h, x64; in XSTATE_SAVE")];

/// A prototype: name, page, returned type, and the parameters' names and types.
pub(crate) type Prototype =
    (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Functions.
pub(crate) const FUNCTIONS: &[Prototype] = &[
    (
        "ExAllocatePool2",
        "nf-wdm-exallocatepool2",
        "PVOID",
        &[("Flags", "POOL_FLAGS"), ("NumberOfBytes", "SIZE_T"), ("Tag", "ULONG")],
    ),
    (
        "KeAcquireSpinLockRaiseToDpc",
        "nf-wdm-keacquirespinlockraisetodpc",
        "KIRQL",
        &[("SpinLock", "PKSPIN_LOCK")],
    ),
    (
        "KeReleaseSpinLock",
        "nf-wdm-kereleasespinlock",
        "void",
        &[("SpinLock", "PKSPIN_LOCK"), ("NewIrql", "KIRQL")],
    ),
    ("KeRemoveQueueDpc", "nf-wdm-keremovequeuedpc", "BOOLEAN", &[("Dpc", "PRKDPC")]),
    (
        "KeQueryMaximumProcessorCountEx",
        "nf-wdm-kequerymaximumprocessorcountex",
        "ULONG",
        &[("GroupNumber", "USHORT")],
    ),
    (
        "RtlGetEnabledExtendedFeatures",
        "nf-wdm-rtlgetenabledextendedfeatures",
        "ULONG64",
        &[("FeatureMask", "ULONG64")],
    ),
    ("NdisAcquireSpinLock", "nf-ndis-ndisacquirespinlock", "void", &[("SpinLock", "PNDIS_SPIN_LOCK")]),
    ("NdisReleaseSpinLock", "nf-ndis-ndisreleasespinlock", "void", &[("SpinLock", "PNDIS_SPIN_LOCK")]),
];

/// Exports that are younger than the import libraries of the table.
pub(crate) const EXPORTS: &[(&str, &str, &str)] = &[("ntoskrnl.exe", "ExAllocatePool2", "Windows 10 2004")];

/// Callbacks.
pub(crate) const CALLBACKS: &[Prototype] = &[(
    "KDEFERRED_ROUTINE",
    "nc-wdm-kdeferred_routine",
    "void",
    &[
        ("Dpc", "KDPC *"),
        ("DeferredContext", "PVOID"),
        ("SystemArgument1", "PVOID"),
        ("SystemArgument2", "PVOID"),
    ],
)];

/// Functions with a body: inline functions of wdm.h.
pub(crate) const HELPERS: &[&str] = &["MmGetMdlVirtualAddress", "MmGetSystemAddressForMdlSafe"];
