//! The rules that the lab enforces, and what is recorded when a driver breaks one.
//!
//! A rule is a row of [`ALL`]: an identifier that tests and filters use, a sentence, and the page of
//! the Windows driver documentation that states it. Breaking a rule is recorded, not fatal, unless
//! Windows itself could not go on; then the machine stops with a bugcheck as well.

use std::fmt::{self, Write as _};

use crate::adapter::{AdapterId, State};
use crate::machine::Origin;
use crate::symbols::CallStack;

mod known;

pub use known::{Known, KnownError, KnownRules, without_numbers};

/// A rule of NDIS or of the kernel.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Short, stable name: `nbl-completed-twice`.
    pub id: &'static str,
    /// What the rule asks for, as a sentence.
    pub name: &'static str,
    /// The page of the Windows driver documentation (its last path element).
    pub page: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

macro_rules! rules {
    ($($constant:ident = $id:literal, $name:literal, $page:literal;)*) => {
        $(
            #[doc = $name]
            pub const $constant: &Rule = &Rule { id: $id, name: $name, page: $page };
        )*
        /// Every rule, in the order of this page.
        pub const ALL: &[&Rule] = &[$($constant),*];
    };
}

rules! {
    // IRQL
    IRQL_FUNCTION = "irql-function", "A function is called only at an IRQL that it allows.", "managing-hardware-priorities";
    IRQL_PAGED = "irql-paged", "Paged memory is not allocated or freed at DISPATCH_LEVEL.", "nf-wdm-exallocatepool2";
    IRQL_PAGED_ACCESS = "irql-paged-access", "Paged pool is not touched at DISPATCH_LEVEL.", "managing-hardware-priorities";
    PAGED_CODE = "paged-code", "Code that runs at DISPATCH_LEVEL does not lie in a pageable section, and a section is unlocked as often as it was locked.", "making-drivers-pageable";
    INIT_CODE = "init-code", "Code and data of discardable sections are not used after DriverEntry.", "allocating-system-space-memory";
    IRQL_CHANGED = "irql-changed", "A handler returns at the IRQL at which it was called.", "managing-hardware-priorities";
    IRQL_LOWERED = "irql-lowered", "KeRaiseIrql does not lower the IRQL, nor KeLowerIrql raise it, nor lower it below that of the caller.", "nf-wdm-kelowerirql";
    IRQL_WAIT = "irql-wait", "A thread does not wait at DISPATCH_LEVEL.", "nf-wdm-kewaitforsingleobject";
    IRQL_FLAG = "irql-flag", "A DISPATCH_LEVEL flag is set only when the caller runs at DISPATCH_LEVEL.", "dispatch-irql-tracking";

    // Spin locks
    LOCK_RECURSION = "lock-recursion", "A spin lock is not acquired by the thread that holds it.", "nf-wdm-keacquirespinlock";
    LOCK_NOT_HELD = "lock-not-held", "A spin lock is released only by the thread that holds it.", "nf-wdm-kereleasespinlock";
    LOCK_ORDER = "lock-order", "A spin lock is released with the IRQL that its acquisition gave.", "nf-wdm-kereleasespinlock";
    LOCK_HELD_ON_RETURN = "lock-held-on-return", "A handler holds no spin lock when it returns.", "introduction-to-spin-locks";
    LOCK_HELD_IN_CALL = "lock-held-in-call", "No spin lock is held while packets or completions are handed to NDIS.", "nf-ndis-ndismindicatereceivenetbufferlists";
    LOCK_CYCLE = "lock-cycle", "Locks that are held together are taken in the same order everywhere.", "introduction-to-spin-locks";
    LOCK_NOT_ALLOCATED = "lock-not-allocated", "An NDIS spin lock is initialised before it is used.", "nf-ndis-ndisallocatespinlock";

    // Pool
    POOL_ZERO_SIZE = "pool-zero-size", "An allocation asks for at least one byte.", "nf-wdm-exallocatepool2";
    POOL_TAG_ZERO = "pool-tag-zero", "A pool tag is not zero.", "nf-wdm-exallocatepool2";
    POOL_FLAGS = "pool-flags", "Pool flags name exactly one pool and no unknown bit.", "pool_flags";
    POOL_WRONG_TAG = "pool-wrong-tag", "A block is freed with the tag of its allocation.", "nf-wdm-exfreepoolwithtag";
    POOL_DOUBLE_FREE = "pool-double-free", "A block is freed once.", "nf-wdm-exfreepoolwithtag";
    POOL_UNKNOWN_FREE = "pool-unknown-free", "Only the start of a live pool block is freed.", "nf-wdm-exfreepoolwithtag";
    POOL_OVERRUN = "pool-overrun", "Nothing before or behind a pool block is touched.", "special-pool";
    POOL_USE_AFTER_FREE = "pool-use-after-free", "A freed block is neither written nor read.", "special-pool";
    POOL_WRONG_LENGTH = "pool-wrong-length", "NdisFreeMemory gets the length of the allocation.", "nf-ndis-ndisfreememory";
    POOL_IN_USE = "pool-in-use", "A block that holds a queued DPC, a set timer, a held lock or a registered record is not freed.", "nf-wdm-exfreepoolwithtag";

    // Registration and initialisation
    REGISTER_CHARACTERISTICS = "register-characteristics", "Driver characteristics have type, revision, size and versions that belong together.", "ns-ndis-_ndis_miniport_driver_characteristics";
    REGISTER_HANDLERS = "register-handlers", "All mandatory handlers are registered, and optional ones in pairs.", "ns-ndis-_ndis_miniport_driver_characteristics";
    REGISTER_STATUS = "register-status", "DriverEntry returns what registration returned, and deregisters if it fails later.", "nf-ndis-ndismregisterminiportdriver";
    REGISTER_ONCE = "register-once", "A driver is registered once and deregistered once.", "nf-ndis-ndismderegisterminiportdriver";
    ATTRIBUTE_HEADER = "attribute-header", "An attribute structure has exactly the type, revision and size of its NDIS version.", "nf-ndis-ndismsetminiportattributes";
    ATTRIBUTE_ORDER = "attribute-order", "Registration attributes come first, general ones second, each once and only in MiniportInitializeEx.", "nf-ndis-ndismsetminiportattributes";
    ATTRIBUTE_CONTENT = "attribute-content", "Attributes hold values that NDIS accepts.", "ns-ndis-_ndis_miniport_adapter_general_attributes";
    ATTRIBUTE_MISSING = "attribute-missing", "MiniportInitializeEx sets registration and general attributes before it succeeds.", "nc-ndis-miniport_initialize";
    INITIALIZE_STATUS = "initialize-status", "MiniportInitializeEx returns one of its documented statuses.", "nc-ndis-miniport_initialize";
    HANDLE_UNKNOWN = "handle-unknown", "A handle passed to NDIS is one that NDIS gave and that still lives.", "ndis-handles";
    HANDLE_AFTER_HALT = "handle-after-halt", "No NDIS call names an adapter after MiniportHaltEx returned.", "nc-ndis-miniport_halt";
    STRUCTURE_HEADER = "structure-header", "A structure given to NDIS has the type, revision and size that its page names.", "using-ndis-version-information";
    POINTER_WILD = "pointer-wild", "A pointer that a driver passes, or stores where NDIS reads it, leads to memory.", "bug-check-0x50--page-fault-in-nonpaged-area";
    PARAMETER = "parameter", "A parameter has a value that the function's page allows.", "ndis-library-functions";
    CONFIGURATION_CLOSED = "configuration-closed", "A configuration handle is closed once and not used afterwards.", "nf-ndis-ndiscloseconfiguration";

    STRING_USE = "string-use", "A counted string has whole characters, a Length up to MaximumLength, and a buffer.", "ns-ntdef-_unicode_string";
    CONFIGURATION_KEPT = "configuration-kept", "What a configuration handle gave out is not used after it was closed.", "nf-ndis-ndisreadconfiguration";
    PARAMETERS_KEPT = "parameters-kept", "Structures that a handler is given by pointer, its parameters, are not touched after it returned.", "nc-ndis-miniport_initialize";

    // States
    STATE_INDICATE = "state-indicate", "Receives are indicated only between entry to MiniportRestart and completion of MiniportPause.", "miniport-adapter-states-and-operations";
    STATE_COMPLETION = "state-completion", "A pause, restart or reset completes only after its handler returned NDIS_STATUS_PENDING, once.", "nf-ndis-ndismpausecomplete";
    STATE_STATUS = "state-status", "A state handler returns one of its documented statuses.", "miniport-adapter-states-and-operations";
    PAUSE_RECEIVES = "pause-receives", "A pause completes after all indicated receives were returned.", "nc-ndis-miniport_pause";
    PAUSE_SENDS = "pause-sends", "A pause completes after all sends were completed.", "nc-ndis-miniport_pause";
    PAUSE_TIMEOUT = "pause-timeout", "A pause completes.", "nc-ndis-miniport_pause";
    RESTART_TIMEOUT = "restart-timeout", "A restart completes.", "nc-ndis-miniport_restart";
    RESET_TIMEOUT = "reset-timeout", "A reset completes.", "nc-ndis-miniport_reset";
    RESET_PENDING = "reset-pending", "OIDs and sends that were pending complete before the reset does.", "hardware-reset";
    HALT_WAITS = "halt-waits", "No DPC, timer or work item of an adapter runs or waits after MiniportHaltEx returned.", "nc-ndis-miniport_halt";
    LEAK_INITIALIZE = "leak-initialize", "A failed MiniportInitializeEx leaves nothing behind.", "nc-ndis-miniport_initialize";
    LEAK_HALT = "leak-halt", "MiniportHaltEx frees what belongs to the adapter.", "nc-ndis-miniport_halt";
    LEAK_UNLOAD = "leak-unload", "A driver that is unloaded leaves nothing behind.", "nc-ndis-miniport_unload";

    // OID requests
    OID_COMPLETED_TWICE = "oid-completed-twice", "An OID request is completed once.", "nf-ndis-ndismoidrequestcomplete";
    OID_NOT_PENDING = "oid-not-pending", "A request is completed by call only if its handler returned or will return NDIS_STATUS_PENDING.", "nc-ndis-miniport_oid_request";
    OID_WRONG_COMPLETION = "oid-wrong-completion", "Regular requests end with NdisMOidRequestComplete, direct ones with NdisMDirectOidRequestComplete.", "nf-ndis-ndismdirectoidrequestcomplete";
    OID_UNKNOWN = "oid-unknown", "Only a request that the adapter was given is completed, with the handle of that adapter.", "nf-ndis-ndismoidrequestcomplete";
    OID_STATUS = "oid-status", "A request ends with a status of NDIS that is final.", "nc-ndis-miniport_oid_request";
    OID_TIMEOUT = "oid-timeout", "A pending request is completed, at the latest when it is cancelled.", "nc-ndis-miniport_cancel_oid_request";
    OID_BYTES = "oid-bytes", "BytesWritten and BytesRead do not exceed the buffer, and a short buffer is told by BytesNeeded.", "nc-ndis-miniport_oid_request";
    OID_OVERRUN = "oid-overrun", "Nothing is written outside of the information buffer, nor behind BytesWritten.", "nc-ndis-miniport_oid_request";
    OID_FAILED_WRITE = "oid-failed-write", "A query that fails leaves its buffer alone.", "nc-ndis-miniport_oid_request";
    OID_SET_WRITE = "oid-set-write", "A set leaves its buffer alone.", "nc-ndis-miniport_oid_request";
    OID_TOUCHED = "oid-touched", "A completed OID request and its buffer are not touched.", "nf-ndis-ndismoidrequestcomplete";
    OID_REQUEST_CHANGED = "oid-request-changed", "The fields of a request that belong to NDIS are left alone.", "ns-oidrequest-ndis_oid_request";

    // Sends
    SEND_COMPLETED_TWICE = "send-completed-twice", "A NET_BUFFER_LIST is completed once.", "nf-ndis-ndismsendnetbufferlistscomplete";
    SEND_UNKNOWN = "send-unknown", "Only NET_BUFFER_LISTs that were given to this adapter are completed to it.", "nf-ndis-ndismsendnetbufferlistscomplete";
    SEND_STATUS = "send-status", "A send completes with a status that its page names, and that is true.", "nf-ndis-ndismsendnetbufferlistscomplete";
    SEND_NOT_PAUSED = "send-not-paused", "Sends to a paused or pausing adapter complete with NDIS_STATUS_PAUSED.", "nc-ndis-miniport_pause";
    SEND_CHAIN_CHANGED = "send-chain-changed", "Net buffers, MDLs, offsets and lengths are as they were given when a send completes.", "nc-ndis-miniport_send_net_buffer_lists";
    SEND_OOB_CHANGED = "send-oob-changed", "Out-of-band data is as it was given when a send completes.", "nc-ndis-miniport_send_net_buffer_lists";
    SEND_PAYLOAD_CHANGED = "send-payload-changed", "The bytes of a sender are not written.", "nc-ndis-miniport_send_net_buffer_lists";
    SEND_NOT_COMPLETED = "send-not-completed", "Every NET_BUFFER_LIST given to MiniportSendNetBufferLists is completed.", "nc-ndis-miniport_send_net_buffer_lists";
    SEND_TOUCHED = "send-touched", "A completed NET_BUFFER_LIST, with its buffers, MDLs and data, is not touched.", "nf-ndis-ndismsendnetbufferlistscomplete";
    SEND_FLAGS = "send-flags", "Completion flags hold no unknown bit.", "nf-ndis-ndismsendnetbufferlistscomplete";

    // Receives
    NBL_UNKNOWN = "nbl-unknown", "A NET_BUFFER_LIST comes from a pool and was not freed.", "ns-nbl-net_buffer_list";
    NBL_POOL = "nbl-pool", "Pools are created with valid parameters and freed when they are empty.", "nf-nblapi-ndisallocatenetbufferlistpool";
    NBL_DOUBLE_FREE = "nbl-double-free", "A NET_BUFFER_LIST, NET_BUFFER or MDL is freed once, by the function that belongs to its allocation.", "nf-nblapi-ndisfreenetbufferlist";
    NBL_USE_AFTER_FREE = "nbl-use-after-free", "A NET_BUFFER_LIST, NET_BUFFER or MDL is not touched after it was freed.", "nf-nblapi-ndisfreenetbufferlist";
    NBL_IN_USE = "nbl-in-use", "What was indicated and not returned is neither freed nor indicated again.", "nf-ndis-ndismindicatereceivenetbufferlists";
    MDL_CHAIN = "mdl-chain", "DataOffset, CurrentMdl, CurrentMdlOffset and DataLength describe bytes of the MDL chain.", "net-buffer-structure";
    MDL_MEMORY = "mdl-memory", "An MDL describes non-paged memory that is still allocated.", "nf-ndis-ndisallocatemdl";
    RECEIVE_COUNT = "receive-count", "NumberOfNetBufferLists is the length of the chain.", "nf-ndis-ndismindicatereceivenetbufferlists";
    RECEIVE_ONE_BUFFER = "receive-one-buffer", "An Ethernet receive has one NET_BUFFER per NET_BUFFER_LIST.", "indicating-received-ethernet-frames";
    RECEIVE_SOURCE = "receive-source", "SourceHandle of a received NET_BUFFER_LIST is the adapter's handle.", "nf-ndis-ndismindicatereceivenetbufferlists";
    RECEIVE_STATUS = "receive-status", "Status of a received NET_BUFFER_LIST is NDIS_STATUS_SUCCESS.", "nf-ndis-ndismindicatereceivenetbufferlists";
    RECEIVE_FLAGS = "receive-flags", "Receive flags and NblFlags hold only bits that a miniport may set, and what they say is true.", "nf-ndis-ndismindicatereceivenetbufferlists";
    RECEIVE_LENGTH = "receive-length", "A received frame holds a MAC header and is no longer than the adapter's maximum.", "indicating-received-ethernet-frames";
    RECEIVE_OOB = "receive-oob", "Out-of-band words of a receive have no reserved bits, and say nothing that contradicts itself.", "ns-nblchecksum-ndis_tcp_ip_checksum_net_buffer_list_info";
    RECEIVE_CHAIN_CHANGED = "receive-chain-changed", "Receives that NDIS owns are left alone by the driver.", "nf-ndis-ndismindicatereceivenetbufferlists";

    // Indications and others
    STATUS_HEADER = "status-header", "A status indication has the right header and source handle, and buffers of the right size.", "ns-ndis-_ndis_status_indication";
    STATUS_CODE = "status-code", "A miniport indicates only statuses that are its own.", "nf-ndis-ndismindicatestatusex";
    TIMER_USE = "timer-use", "A timer is set, cancelled and freed in that order, and not freed while set or running.", "nf-ndis-ndisfreetimerobject";
    WORK_ITEM_USE = "work-item-use", "A work item is queued once at a time and not freed while queued or running.", "nf-ndis-ndisqueueioworkitem";
    DPC_USE = "dpc-use", "A DPC is initialised before it is queued.", "nf-wdm-keinitializedpc";
    XSTATE_USE = "xstate-use", "Extended processor state is restored by the call chain and thread that saved it, innermost first.", "nf-wdm-kerestoreextendedprocessorstate";
    CRITICAL_REGION = "critical-region", "A thread leaves each critical region that it entered, before its handler returns.", "nf-ntddk-keentercriticalregion";

    ASSERTION = "assertion", "The driver's own assertions hold.", "nf-wdm-nt_assert";
    CALLBACK_USE = "callback-use", "What a driver registered to be called back is deregistered once, with what the registration gave.", "nf-wdm-keregisterprocessorchangecallback";
    BUGCHECK_CALLBACK = "bugcheck-callback", "What is called at a bug check runs at HIGH_LEVEL: it touches resident memory, calls next to nothing, and comes back.", "writing-a-bug-check-callback-routine";
    AFFINITY = "affinity-not-restored", "A handler restores the affinity of its thread.", "nf-wdm-kereverttouseraffinitythreadex";

    LOOKASIDE_USE = "lookaside-use", "A lookaside list is initialised once, deleted before its memory goes, and gets back its own entries.", "using-lookaside-lists";
    LIST_USE = "list-use", "Linked lists hang together, and SLIST headers and entries are aligned to 16 bytes.", "singly-and-doubly-linked-lists";

    TABLE_USE = "table-use", "A generic table is initialised and locked by the driver, its elements are deleted from it, and it is empty when it goes.", "nf-ntddk-rtlinitializegenerictableavl";

    // Mutexes, push locks, rundown protection
    MUTEX_USE = "mutex-use", "A mutex or push lock is initialised before it is used, and acquired with normal kernel APCs disabled where its page asks for it.", "nf-wdm-exacquirefastmutexunsafe";
    MUTEX_RECURSION = "mutex-recursion", "A fast mutex, guarded mutex or push lock is not acquired by the thread that holds it.", "nf-wdm-exacquirefastmutex";
    MUTEX_NOT_OWNED = "mutex-not-owned", "A mutex is released by the thread that holds it, by the function that belongs to the acquisition.", "nf-wdm-kereleasemutex";
    MUTEX_HELD_ON_RETURN = "mutex-held-on-return", "A handler holds no mutex when it returns.", "introduction-to-mutex-objects";
    SEMAPHORE_LIMIT = "semaphore-limit", "A semaphore is not released beyond its limit.", "nf-wdm-kereleasesemaphore";
    RUNDOWN_USE = "rundown-use", "Rundown protection is released as often as it was acquired, and waited for before it is used again.", "run-down-protection";

    // Resources, objects, processes and threads
    RESOURCE_USE = "resource-use", "An ERESOURCE is initialised before it is used, and deleted once before its memory goes, while nobody holds it.", "nf-wdm-exdeleteresourcelite";
    RESOURCE_APC = "resource-apc", "An ERESOURCE is acquired with normal kernel APCs disabled: in a critical region or at APC_LEVEL.", "nf-wdm-exacquireresourceexclusivelite";
    RESOURCE_NOT_OWNED = "resource-not-owned", "An ERESOURCE is released by a thread that holds it.", "nf-wdm-exreleaseresourcelite";
    RESOURCE_HELD_ON_RETURN = "resource-held-on-return", "A handler holds no ERESOURCE when it returns.", "introduction-to-eresource-routines";
    OBJECT_REFERENCE = "object-reference", "A reference that a driver took of an object is given back once.", "nf-wdm-obfdereferenceobject";
    OBJECT_HANDLE = "object-handle", "A handle that a driver opened is a kernel handle, and is closed once.", "nf-wdm-obreferenceobjectbyhandle";
    ATTACH_PROCESS = "attach-process", "A thread detaches from each process that it attached to, innermost first.", "nf-ntifs-kestackattachprocess";
    PROCESS_NOTIFY = "process-notify", "A process notification is registered once and removed before the driver is unloaded.", "nf-ntddk-pssetcreateprocessnotifyroutine";
    THREAD_LEFT = "thread-left", "A driver's system threads end before it is unloaded.", "nf-wdm-pscreatesystemthread";
    SUBJECT_CONTEXT = "subject-context", "A captured subject context is released once.", "nf-ntifs-sereleasesubjectcontext";

    DEVICE_USE = "device-use", "A device object and its symbolic links are deleted once, before the driver is unloaded, and not touched afterwards.", "nf-wdm-iodeletedevice";
    REGISTRY_USE = "registry-use", "RTL_QUERY_REGISTRY_DIRECT is used with RTL_QUERY_REGISTRY_TYPECHECK, and names the type that it expects.", "nf-wdm-rtlqueryregistryvalues";
    TRACE_USE = "trace-use", "An ETW or WPP provider is registered once, and unregistered before the driver is unloaded.", "nf-wdm-etwunregister";

    // I/O requests and user memory
    IRP_COMPLETION = "irp-completion", "An IRP is completed once, with a final status, and not touched afterwards.", "nf-wdm-iocompleterequest";
    IRP_STATUS = "irp-status", "A dispatch routine returns the status of the IRP that it completed, or marks it pending and returns STATUS_PENDING.", "nc-wdm-driver_dispatch";
    IRP_BUFFER = "irp-buffer", "Nothing is written outside of the buffers of an IRP.", "buffer-descriptions-for-i-o-control-codes";
    MDL_LOCK = "mdl-lock", "Pages are locked once, and unlocked before their MDL is freed and after its partial MDLs are gone.", "nf-wdm-mmprobeandlockpages";
    BUGCHECK = "bugcheck", "A driver does not stop the machine.", "nf-wdm-kebugcheckex";
}

/// A rule that a driver broke, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static Rule,
    /// The lab function that noticed, as the driver called it; `None` when the lab looked by itself.
    pub function: Option<&'static str>,
    /// The driver's handler that was running.
    pub handler: Option<&'static str>,
    /// The IRQL of the thread.
    pub irql: u8,
    /// The adapter that the handler or the function is about.
    pub adapter: Option<AdapterId>,
    /// The state of that adapter.
    pub state: Option<State>,
    /// What was seen, and what was expected.
    pub detail: String,
    /// The driver's frames, innermost first; empty when the lab looked by itself, after the driver had
    /// returned.
    pub stack: CallStack,
    /// What happened before to the object that this is about: who allocated it, who gave it away.
    pub past: Vec<Past>,
}

/// Something that happened to an object before a rule was broken with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// What: `allocated`, `completed`…
    pub what: &'static str,
    /// Who did it.
    pub origin: Origin,
}

impl Violation {
    /// All that is known, in several lines: what [`fmt::Display`] says, the driver's call stack with its
    /// names, and what happened to the object before, each with the call stack of then.
    pub fn report(&self) -> String {
        let mut text = format!("{self}\n{}", self.stack);
        for past in &self.past {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {} {}", past.what, past.origin);
            if let Some(stack) = past.origin.stack {
                text.push_str(&stack.to_string());
            }
        }
        text
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.id, self.detail)?;
        match (self.function, self.handler) {
            (Some(function), Some(handler)) => write!(f, "; in {function}, called by {handler}")?,
            (Some(name), None) | (None, Some(name)) => write!(f, "; in {name}")?,
            (None, None) => {}
        }
        write!(f, " at {}", irql_name(self.irql))?;
        if let Some(adapter) = self.adapter {
            write!(f, ", {adapter}")?;
            if let Some(state) = self.state {
                write!(f, " ({state:?})")?;
            }
        }
        write!(f, ". {} [{}]", self.rule.name, self.rule.page)
    }
}

/// Violations in words, for people: those that differ only in details are grouped, the first of each group is
/// told with all that is known, some more in one line each, and of the rest the number.
pub fn summary(violations: &[Violation]) -> Vec<String> {
    /// How many of a group are shown.
    const SHOWN: usize = 3;
    let mut groups: Vec<Vec<&Violation>> = Vec::new();
    for violation in violations {
        let key = |v: &Violation| (v.rule.id, v.handler, v.function);
        match groups.iter_mut().find(|group| key(group[0]) == key(violation)) {
            Some(group) => group.push(violation),
            None => groups.push(vec![violation]),
        }
    }
    crate::symbols::prepare(groups.iter().flat_map(|group| {
        let past = group[0].past.iter().filter_map(|past| past.origin.stack);
        past.chain([&group[0].stack])
    }));
    let mut lines = Vec::new();
    for group in groups {
        lines.extend(group[0].report().lines().map(str::to_owned));
        lines.extend(group.iter().skip(1).take(SHOWN - 1).map(ToString::to_string));
        if group.len() > SHOWN {
            lines.push(format!("  … and {} more of the same", group.len() - SHOWN));
        }
    }
    lines
}

/// `DISPATCH_LEVEL` for 2, and so on.
pub(crate) fn irql_name(irql: u8) -> String {
    match irql {
        0 => "PASSIVE_LEVEL".into(),
        1 => "APC_LEVEL".into(),
        2 => "DISPATCH_LEVEL".into(),
        15 => "HIGH_LEVEL".into(),
        other => format!("IRQL {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identifiers_are_unique_and_plain() {
        let ids: HashSet<_> = ALL.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for rule in ALL {
            assert!(rule.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", rule.id);
            assert!(rule.name.ends_with('.') && !rule.page.is_empty(), "{}", rule.id);
        }
    }
}
