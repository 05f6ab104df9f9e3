//! What can be wrong with the small miniport, one thing at a time, and what has to notice it.

#![allow(clippy::doc_markdown)] // DISPATCH_LEVEL and the like are names, not code

use std::sync::atomic::{AtomicU32, Ordering};

use ndis_lab::rules::{self, Rule};

/// A row of the matrix.
pub(crate) struct Mutant {
    pub(crate) mutation: Mutation,
    /// Its name in the source.
    pub(crate) name: &'static str,
    /// What it does wrong.
    pub(crate) what: &'static str,
    /// The case that fails.
    pub(crate) case: &'static str,
    /// The rule that is broken on the way, if there is one for it.
    pub(crate) rule: Option<&'static Rule>,
}

macro_rules! mutations {
    ($($name:ident: $case:literal $(, $rule:ident)?; $what:literal)*) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum Mutation {
            /// The good miniport.
            None,
            $(#[doc = $what] $name,)*
        }

        /// All of them.
        pub(crate) const ALL: &[Mutant] = &[$(
            Mutant {
                mutation: Mutation::$name,
                name: stringify!($name),
                what: $what,
                case: $case,
                rule: mutations!(@rule $($rule)?),
            },
        )*];
    };
    (@rule) => { None };
    (@rule $rule:ident) => { Some(rules::$rule) };
}

mutations! {
    // Registration
    CharacteristicsSize: "driver-entry", REGISTER_CHARACTERISTICS; "registers with a wrong Header.Size"
    HandlerMissing: "driver-entry", REGISTER_HANDLERS; "has no CancelOidRequestHandler"
    NoDeregister: "driver-entry", REGISTER_ONCE; "unloads without NdisMDeregisterMiniportDriver"
    UnloadLeaks: "driver-entry", LEAK_UNLOAD; "leaves memory behind at unload"
    HandleMadeUp: "driver-entry", HANDLE_UNKNOWN; "calls NDIS with a handle that is none"
    DirectWithoutCancel: "handlers-in-pairs", REGISTER_HANDLERS; "has a direct OID handler without its cancel handler"
    HangWithoutReset: "handlers-in-pairs", REGISTER_HANDLERS; "checks for hang and has no reset handler"
    EntryLeaks: "driver-entry-fails", LEAK_UNLOAD; "leaks memory when registration fails"
    EntryOtherStatus: "driver-entry-fails"; "returns another status than registration did"
    EntrySucceedsUnregistered: "driver-entry-fails"; "returns success when registration failed"
    EntryStaysRegistered: "driver-entry-fails", REGISTER_STATUS; "fails after registration and stays registered"

    // Initialisation
    GeneralFirst: "attribute-order", ATTRIBUTE_ORDER; "sets general attributes before registration attributes"
    GeneralSize: "attribute-order", ATTRIBUTE_HEADER; "sets general attributes with a wrong size"
    GeneralMissing: "attribute-order", ATTRIBUTE_MISSING; "sets no general attributes"
    LookaheadTooLarge: "attribute-order", ATTRIBUTE_CONTENT; "announces a lookahead above its MTU"
    StatusTooEarly: "attribute-order", ATTRIBUTE_ORDER; "indicates a status before the registration attributes"
    ConfigurationSize: "attribute-order", STRUCTURE_HEADER; "opens its configuration with sizeof for a size"
    ConfigurationLeft: "attribute-order", LEAK_HALT; "does not close its configuration"
    ConfigurationClosedTwice: "attribute-order", CONFIGURATION_CLOSED; "closes its configuration twice"
    ListPoolWithoutTag: "attribute-order", POOL_TAG_ZERO; "makes a list pool with tag 0"
    ConfigurationFlags: "attribute-order", PARAMETER; "opens its configuration with unknown flags"
    MdlTooLong: "attribute-order", MDL_MEMORY; "describes more memory by an MDL than it has"
    WorkItemFreedQueued: "attribute-order", WORK_ITEM_USE; "frees a work item while it is queued"
    PoolOverrun: "attribute-order", POOL_OVERRUN; "writes one byte behind a block"
    PoolWrongTag: "attribute-order", POOL_WRONG_TAG; "frees a block with another tag"
    PoolZeroSize: "attribute-order", POOL_ZERO_SIZE; "allocates nothing"
    PoolZeroTag: "attribute-order", POOL_TAG_ZERO; "allocates with tag 0"
    PoolNoPool: "attribute-order", POOL_FLAGS; "allocates from no pool"
    PoolInnerFree: "attribute-order", POOL_UNKNOWN_FREE; "frees the middle of a block"
    PoolWrongLength: "attribute-order", POOL_WRONG_LENGTH; "gives NdisFreeMemory a wrong length"
    AccessTypeUnset: "attribute-values"; "leaves AccessType 0"
    StatisticsFlagsMixed: "attribute-values"; "uses the flags of NDIS_STATISTICS_INFO in its attributes, as a sample does"
    OidListedTwice: "attribute-values"; "lists an OID twice"
    OidNotListed: "attribute-values"; "does not list OID_GEN_VENDOR_ID"
    InitializeLeaksAll: "initialize-fails", LEAK_UNLOAD; "cleans nothing up when its initialisation fails"
    InitializeLeaksPool: "initialize-fails", LEAK_INITIALIZE; "forgets its list pool when its initialisation fails"
    InitializeOddStatus: "initialize-fails", INITIALIZE_STATUS; "fails its initialisation with a success code"
    SharedAddress: "parallel-initialize"; "gives all adapters one permanent address"
    KeywordTrusted: "malformed-keywords"; "fails its initialisation when *JumboPacket is malformed"
    KeywordClamped: "keywords-out-of-range"; "takes the nearest value for a keyword out of range, not the default"
    OffloadKeywordIgnored: "offload-keywords"; "offloads by default what a keyword switched off"
    HardwareFollowsKeyword: "offload-keywords"; "denies capabilities that a keyword switched off"
    OffloadHalfOff: "offload-keywords"; "leaves Encapsulation set in a part that is switched off"
    AddressIgnored: "network-address"; "ignores NetworkAddress"
    GroupAddressAccepted: "network-address"; "takes a group address for its own"
    LongAddressAccepted: "network-address"; "takes the start of an address that is too long"
    PermanentFollows: "network-address"; "changes its permanent address with the current one"
    HaltLeaksList: "many-lives", LEAK_HALT; "does not free its lists at halt"
    HaltLeaksBlock: "many-lives", LEAK_UNLOAD; "does not free a block at halt"
    ListPoolLeft: "many-lives", LEAK_HALT; "does not free its list pool at halt"
    ListFreedTwice: "many-lives", NBL_DOUBLE_FREE; "frees its lists twice"
    ListPoolFreedFirst: "many-lives", NBL_POOL; "frees its list pool before the lists"
    TimerSetAtHalt: "many-lives", HALT_WAITS; "leaves a timer running at halt"
    HandleAfterHalt: "many-lives", HANDLE_AFTER_HALT; "uses the handle of a halted adapter"
    ListTouchedFreed: "many-lives", NBL_USE_AFTER_FREE; "writes to a list after freeing it"
    TimerLeft: "many-lives", LEAK_HALT; "does not free its timer at halt"
    TimerFreedSet: "many-lives", TIMER_USE; "frees its timer while it is set"
    DpcQueuedAtHalt: "many-lives", POOL_IN_USE; "frees memory in which a DPC is queued"
    ContextFreedTwice: "many-lives", POOL_DOUBLE_FREE; "frees its context twice"
    UseAfterFree: "many-lives", POOL_USE_AFTER_FREE; "writes to its context after freeing it"

    // States
    PausedSends: "paused-sends", SEND_NOT_PAUSED; "sends while it is paused"
    PauseTooEarly: "pause-waits", PAUSE_RECEIVES; "completes a pause with receives outstanding"
    PauseNeverEnds: "pause-waits", PAUSE_TIMEOUT; "does not complete a pause when the last receive is back"
    PauseGoesOnReceiving: "pause-waits"; "goes on receiving while it pauses"
    PausedReceives: "restart-works", STATE_INDICATE; "receives while it is paused"
    PauseFails: "many-lives", STATE_STATUS; "fails a pause"
    PauseTwice: "many-lives", STATE_COMPLETION; "completes a pause by call and by status"
    PauseLosesBuffer: "pause-under-load"; "loses receive buffers in each pause"
    RestartLeavesRunning: "restart-fails", SEND_NOT_PAUSED; "runs after a restart that failed"
    RestartOddStatus: "restart-fails", STATE_STATUS; "fails a restart with a success code"
    RestartNeverEnds: "restart-works", RESTART_TIMEOUT; "leaves a restart pending for good"
    RestartClearsFilter: "restart-works"; "forgets its packet filter in a restart"
    HaltLeavesNeverRun: "halt-from-any-life", LEAK_HALT; "frees nothing at halt if it never ran"
    RemovedSends: "surprise-removal"; "sends after surprise removal"
    RemovedAnswers: "surprise-removal"; "answers OIDs after surprise removal"
    ShutdownCallsNdis: "shutdown-bugcheck", IRQL_FUNCTION; "indicates a status when the machine has crashed"
    ShutdownLocks: "shutdown-bugcheck", IRQL_FUNCTION; "takes a lock when the machine has crashed"
    ShutdownFrees: "shutdown-power-off"; "frees memory at shutdown"
    PassiveFunctionAtDispatch: "handlers-at-dispatch", IRQL_FUNCTION; "sleeps at DISPATCH_LEVEL"
    PagedAtDispatch: "handlers-at-dispatch", IRQL_PAGED; "allocates paged memory at DISPATCH_LEVEL"
    PagedTouchedAtDispatch: "handlers-at-dispatch", IRQL_PAGED_ACCESS; "touches paged memory at DISPATCH_LEVEL"
    WaitAtDispatch: "handlers-at-dispatch", IRQL_WAIT; "waits at DISPATCH_LEVEL"
    IrqlLeftRaised: "sends-complete", IRQL_CHANGED; "returns at a higher IRQL"
    IrqlLoweredUpwards: "sends-complete", IRQL_LOWERED; "raises the IRQL with KeLowerIrql"
    DispatchFlag: "sends-complete", IRQL_FLAG; "sets the DISPATCH_LEVEL flag at PASSIVE_LEVEL"
    LockLeftHeld: "sends-complete", LOCK_HELD_ON_RETURN; "returns with a lock held"
    LockTakenTwice: "sends-complete", LOCK_RECURSION; "takes a lock that it holds"
    LockNotHeld: "sends-complete", LOCK_NOT_HELD; "releases a lock that it does not hold"
    LockWrongIrql: "sends-complete", LOCK_ORDER; "releases a lock to another IRQL"
    ExtendedStateKept: "sends-complete", XSTATE_USE; "does not restore the extended state that it saved"
    BugCheckInSend: "sends-complete", BUGCHECK; "stops the machine"
    AnyEventRemoves: "unknown-events"; "takes any PnP event for a removal"
    AsleepSends: "sleep-and-wake"; "sends in D3"
    AsleepDisconnected: "sleep-and-wake"; "says in D3 that the medium is disconnected"
    StatusSize: "sleep-and-wake", STATUS_HEADER; "indicates a link state of a wrong size"
    StatusForeign: "sleep-and-wake", STATUS_CODE; "indicates NDIS_STATUS_RESET_START"
    AsleepReceives: "sleep-on-the-wire"; "receives in D3"
    SleepClearsFilter: "sleep-on-the-wire"; "forgets its packet filter in D3"
    AnyPowerState: "set-power"; "takes power states that do not exist"
    ResetNeverEnds: "reset", RESET_TIMEOUT; "leaves a reset pending for good"
    ResetAllocatesPaged: "reset", IRQL_PAGED; "allocates paged memory in a reset"
    ResetLeavesPending: "reset", RESET_PENDING; "completes a reset while a request is pending"
    ResetClearsFilter: "reset"; "forgets its packet filter in a reset and says that it did not"
    ResetEndsPause: "reset"; "runs after a reset though it was paused"

    // OIDs
    ListedNotAnswered: "listed-oids-answer"; "lists an OID that it does not answer"
    NeededMissing: "query-lengths", OID_BYTES; "leaves BytesNeeded 0 when a query is too short"
    ShortIsWritten: "query-lengths", OID_FAILED_WRITE; "fills a buffer that is too short"
    ShortCounts: "query-lengths", OID_BYTES; "sets BytesWritten when a query is too short"
    AnswerOverruns: "query-lengths", OID_OVERRUN; "writes behind the buffer"
    WrittenTooMany: "query-lengths", OID_BYTES; "says that it wrote more than there is room for"
    WrittenIsRoom: "query-lengths"; "says that it wrote all of the buffer"
    RequestChanged: "query-lengths", OID_REQUEST_CHANGED; "changes the request's identifier"
    OidCompletedInline: "query-lengths", OID_NOT_PENDING; "completes a request by call and by status"
    OidUnknownCompleted: "query-lengths", OID_UNKNOWN; "completes a request that nobody sent"
    ShortSetAccepted: "set-lengths"; "takes a set that is too short"
    SetNeededMissing: "set-lengths"; "leaves BytesNeeded 0 when a set is too short"
    SetReadMissing: "set-lengths"; "leaves BytesRead 0 after a set"
    Counter32: "64-bit-counters"; "answers 64-bit counters with 32 bits"
    UnknownSucceeds: "foreign-oids"; "succeeds for OIDs that it does not know"
    QuerySet: "foreign-oids"; "takes a set of an OID that can only be queried"
    MethodAccepted: "foreign-oids"; "takes methods"
    ModerationSet: "interrupt-moderation"; "lets interrupt moderation be set that it does not have"
    CancelIgnored: "cancel-oids", OID_TIMEOUT; "does not end a request that is cancelled"
    CancelCompletesTwice: "cancel-oids", OID_COMPLETED_TWICE; "completes a cancelled request twice"
    CancelEndsAny: "cancel-oids"; "ends a request when another one is cancelled"
    DpcNotInitialised: "listed-oids-answer", DPC_USE; "queues a DPC that it never initialised"
    OidTouched: "listed-oids-answer", OID_TOUCHED; "writes to a request after completing it"
    OidWrongCompletion: "listed-oids-answer", OID_WRONG_COMPLETION; "completes a regular request as a direct one"
    OidCompletedPending: "listed-oids-answer", OID_STATUS; "completes a request with NDIS_STATUS_PENDING"
    NameUnbounded: "random-oids", POOL_OVERRUN; "copies all of a buffer into one of 64 bytes"
    UnsupportedFilterAccepted: "set-packet-filter"; "takes packet filter bits that it does not support"
    SetWritesBuffer: "set-packet-filter", OID_SET_WRITE; "writes to the buffer of a set"
    FilterIgnored: "packet-filters"; "receives everything whatever the packet filter"
    MulticastAsAll: "packet-filters"; "receives every group with the filter MULTICAST"
    RefusedFilterApplied: "packet-filters"; "applies a packet filter that it refuses"
    OddListAccepted: "set-multicast-list"; "takes a multicast list that is no multiple of six bytes"
    LongListAccepted: "set-multicast-list"; "takes a multicast list that is too long"
    FullNeededMissing: "set-multicast-list"; "does not say how long a multicast list may be"
    ListMerged: "multicast-filtering"; "adds a multicast list to the one of before"
    RefusedListClears: "multicast-filtering"; "forgets its multicast list when it refuses one"
    StatisticsSize: "statistics-structure"; "answers OID_GEN_STATISTICS with a wrong Header.Size"
    StatisticsFlagsUnset: "statistics-structure"; "answers OID_GEN_STATISTICS without flags"
    CountedTwice: "statistics-count"; "counts frames twice"
    RefusedCounted: "statistics-count"; "counts sends that it refuses"
    PauseClearsCounters: "statistics-count"; "clears its counters in a pause"

    // Sends
    FirstMdlOnly: "any-boundary"; "sends the first MDL only"
    DataOffsetIgnored: "any-boundary"; "sends from the start of the MDL chain"
    FirstBufferOnly: "chains"; "sends the first buffer of a list only"
    ReversedOrder: "chains"; "turns a chain round"
    SendCompletedTwice: "sends-complete", SEND_COMPLETED_TWICE; "completes a send twice"
    SendsForgotten: "lengths", SEND_NOT_COMPLETED; "completes no send"
    SendTouched: "sends-complete", SEND_TOUCHED; "writes to a list after completing it"
    LocksCrossed: "statistics-count", LOCK_CYCLE; "takes two locks in either order"
    SendForgotten: "sends-complete", PAUSE_SENDS; "does not complete sends that can be cancelled"
    SendLeaks: "sends-complete", LEAK_UNLOAD; "leaks memory with each send"
    SendOddStatus: "sends-complete", SEND_STATUS; "completes sends with a status that is none of theirs"
    SendOddFlags: "sends-complete", SEND_FLAGS; "completes sends with unknown flags"
    SendCompletesNothing: "sends-complete", SEND_UNKNOWN; "completes an empty chain"
    SendChainChanged: "sends-complete", SEND_CHAIN_CHANGED; "changes DataLength"
    SendOobChanged: "sends-complete", SEND_OOB_CHANGED; "changes out-of-band data"
    SendPayloadChanged: "sends-complete", SEND_PAYLOAD_CHANGED; "writes to the sender's frame"
    NotPadded: "short-packets"; "sends short frames as they are"
    PaddedWithResidue: "short-packets"; "pads short frames with what was in memory"
    LongAccepted: "lengths"; "says that it sent frames that are too long"
    EmptyAccepted: "lengths"; "says that it sent frames without a header"
    ResourcesAsFailure: "sends-without-memory"; "fails sends for want of memory with NDIS_STATUS_FAILURE"
    CancelCompletesAgain: "cancel-sends", SEND_COMPLETED_TWICE; "completes sends when they are cancelled that it completed before"
    CancelAbortsOthers: "cancel-sends"; "aborts sends of another identifier"
    TagNotSent: "priority-tags"; "ignores 802.1Q data"
    TagKept: "priority-tags"; "leaves the tag in a received frame"
    TagNotReported: "priority-tags"; "takes the tag out of a received frame and does not tell"
    IndicatedUnderLock: "reentrant-sends", LOCK_HELD_IN_CALL; "indicates receives with a lock held"

    ChecksumNotFilled: "send-checksums"; "fills no checksum in"
    ChecksumUnasked: "send-checksums"; "fills checksums in without IsIPv4"
    UdpZeroSent: "send-checksums"; "sends a UDP checksum of zero"
    LargeFlagsKept: "large-sends"; "sets FIN, PSH and CWR in every segment"
    LargeIdNotWrapped: "large-sends"; "lets the IP identification go beyond 0x7fff"
    LargeSequenceKept: "large-sends"; "does not advance the sequence number"
    LargeLastLost: "large-sends"; "loses the last segment"
    LargeNotReported: "large-sends"; "leaves slot 2 as it was when a large send is done"
    LargeMssTrusted: "large-sends-malformed"; "takes an MSS of 0 for no limit"
    LargeAnyProtocol: "large-sends-malformed"; "cuts UDP as if it were TCP"
    LargeSentWhenOff: "large-sends-malformed"; "cuts large sends that are switched off"
    ChecksumToldEarly: "receive-checksums"; "tells checksums before it is asked to"
    ChecksumFailureNotTold: "receive-checksums"; "tells wrong checksums right"
    UdpNoneJudged: "receive-checksums"; "judges UDP packets without a checksum"

    // Receives
    FcsIndicated: "indications"; "indicates four bytes more than the frame has"
    LongIndicated: "indications", RECEIVE_LENGTH; "indicates the longest frame four bytes longer"
    NoBuffer: "indications", RECEIVE_ONE_BUFFER; "indicates lists without a buffer"
    ListOfNoPool: "indications", NBL_UNKNOWN; "indicates a list that comes from no pool"
    OobNotCleared: "priority-tags"; "leaves the out-of-band data of the frame before"
    SourceHandleUnset: "indications", RECEIVE_SOURCE; "does not set SourceHandle"
    ReceiveStatusSet: "indications", RECEIVE_STATUS; "indicates with a failure status"
    NblFlagsOfNdis: "indications", RECEIVE_FLAGS; "sets flags that are not its own"
    CountWrong: "indications", RECEIVE_COUNT; "announces one list more"
    CurrentMdlOffsetWrong: "indications", MDL_CHAIN; "sets DataOffset without CurrentMdlOffset"
    ResourcesKept: "low-resources"; "waits for the return of what it indicated with the RESOURCES flag"
    BuffersUsedTwice: "return-orders", NBL_IN_USE; "indicates a buffer that is out"
    IndicatedTwice: "pause-waits", NBL_IN_USE; "indicates each chain twice"
    ReturnsFirstOnly: "return-orders", LEAK_HALT; "takes back the first list of a chain only"
    BuffersLost: "no-receive-buffers", LEAK_HALT; "does not use returned buffers again"
    DiscardsNotCounted: "no-receive-buffers"; "does not count what it has no buffer for"
    SingleTypeAlways: "single-ether-type", RECEIVE_FLAGS; "always says that an indication has a single type"

    // Offload configuration
    ConfigurationNotTold: "offload-parameters"; "does not indicate its new configuration"
    UnsupportedSwitchedOn: "offload-parameters"; "says that it switched on what it cannot do"
    MeaninglessAccepted: "offload-parameters"; "takes values that mean nothing"
    ParametersInPart: "offload-parameters"; "applies a part of what it refuses"
    ParametersHeaderIgnored: "offload-parameters-header"; "does not look at the header of parameters"
    LaterRevisionRefused: "offload-parameters-header"; "refuses a later revision"
    SwitchedOnStaysOff: "offload-persists"; "does not switch on by OID what it does by keyword"
    AnyEncapsulation: "offload-encapsulation"; "takes any encapsulation"

    // IPsec
    ListAllOrNothing: "add-sa-list"; "fails an ADD_SA list for one bad SA"
    ListAlwaysSucceeds: "add-sa-list"; "succeeds for a list without a good SA"
    ListStopsAtBad: "add-sa-list"; "stops at the first bad SA of a list"
    ListFailedHandleSet: "add-sa-list"; "gives a bad SA of a list a handle"
    FailedHandleKept: "add-sa-ex-malformed"; "leaves what was in OffloadHandle when it fails"
    KeyOffsetBoundOff: "add-sa-ex-malformed"; "reads a key that ends one byte behind the buffer"
    KeyBoundOff: "add-sa-ex-malformed"; "reads a key that ends one byte behind the blob"
    CountIgnored: "add-sa-ex-malformed"; "ignores NumExtHdrs"
    AnyAlgorithm: "sa-algorithms"; "takes SAs of algorithms that it does not advertise"
    KeyLengthIgnored: "sa-algorithms"; "takes keys of a wrong length"
    AuthenticationNotIgnored: "sa-algorithms"; "refuses AES-GCM with an authentication algorithm"
    CapacityOffByOne: "sa-capacity"; "takes one SA more than it has slots (> for >=)"
    CapacityShort: "sa-capacity"; "takes one SA less than it announces"
    HandleIsSlot: "sa-capacity"; "uses handles again"
    DeleteBySlot: "sa-capacity"; "deletes by a stale handle"
    DeleteUnbounded: "delete-sa"; "follows a DELETE_SA list that never ends"
    DeleteFirstOnly: "sa-capacity"; "deletes the first SA of a list only"
    NotEncrypted: "esp-on-the-wire"; "sends the packets of an SA in clear"
    NonceSwapped: "esp-on-the-wire"; "puts the salt behind the IV, at both ends alike"
    TrailerNotTold: "esp-between-adapters"; "does not tell next header and pad length"
    UnknownHandleSendsClear: "handles-on-sends"; "sends in clear for a handle that it does not know"
    InboundHandleAccepted: "handles-on-sends"; "sends under an inbound SA"
    FailureNotTold: "esp-received"; "does not tell that a packet is not authentic"
    ReleasesUnauthentic: "esp-received"; "decrypts packets that are not authentic"
    FragmentsProcessed: "esp-received"; "processes fragments"
    ReceivesBeforeEnabled: "esp-received"; "processes received packets before it is asked to"
    OutboundReceives: "esp-received"; "receives by outbound SAs"
    DestinationIgnored: "esp-received"; "finds an SA by its SPI alone"
    SaNeededMissing: "sa-lengths"; "does not say how many bytes an SA request needs"
    HandlesOfLife: "handles-of-other-lives"; "counts its handles anew in each life"
    HighHalfIgnored: "extended-sequence-numbers"; "leaves the high half of the sequence number out of the ICV, at both ends alike"
    UpdateIgnored: "extended-sequence-numbers"; "takes UPDATE_SA and goes on with the old high half"
    UpdateAnySpi: "extended-sequence-numbers"; "updates an SA by its handle, whatever the SPI"
    UpdateSucceeds: "update-sa"; "updates SAs that do not exist"
    DirectPaged: "sa-stress", IRQL_PAGED; "allocates paged memory in direct OIDs"
    DirectWrongCompletion: "sa-stress", OID_WRONG_COMPLETION; "completes direct requests as regular ones"
    AddDisturbsOthers: "sa-stress"; "disturbs another SA while it adds one"
    OffSendsClear: "sa-outlives-changes"; "sends in clear when IPsec is switched off"
    OffAddsSas: "sa-outlives-changes"; "takes SAs while IPsec is switched off"
    PauseDropsSas: "sa-outlives-changes"; "drops its SAs in a pause"
    KeysNotWiped: "keys-are-wiped"; "frees memory with keys in it"
}

static MUTATION: AtomicU32 = AtomicU32::new(0);

/// Makes the miniport of this process wrong in one place.
pub(crate) fn choose(mutation: Mutation) {
    // Relaxed: set before the driver's threads exist.
    MUTATION.store(mutation as u32, Ordering::Relaxed);
}

/// Whether the miniport is to make this mistake.
pub(crate) fn is(mutation: Mutation) -> bool {
    // Relaxed: see `choose`.
    MUTATION.load(Ordering::Relaxed) == mutation as u32
}
