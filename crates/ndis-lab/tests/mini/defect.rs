//! What can be wrong with the small miniport, one mistake at a time.

use ndis_sys::DRIVER_INITIALIZE;

use super::driver_entry;

macro_rules! defects {
    ($($(#[doc = $doc:literal])? $name:ident,)*) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum Defect {
            $($(#[doc = $doc])? $name,)*
        }

        /// The entry point of the miniport with one mistake.
        pub(crate) fn entry(defect: Defect) -> DRIVER_INITIALIZE {
            match defect {
                $(Defect::$name => driver_entry::<{ Defect::$name as u32 }>,)*
            }
        }
    };
}

defects! {
    None,
    LeakNbl,
    LeakPoolBlock,
    CompleteSendTwice,
    NeverCompleteSend,
    WrongPoolTag,
    PoolOverrun,
    UseAfterFree,
    AttributeSize,
    AttributeOrder,
    AttributesMissing,
    LockHeldOnReturn,
    LockRecursion,
    BugCheckInOid,
    PassiveOnlyAtDispatch,
    IrqlNotRestored,
    SendNotPaused,
    PauseTwice,
    PauseTooEarly,
    OidOverrun,
    OidBytesWritten,
    OidCompletedTwice,
    OidWrongCompletion,
    OidNeverCompleted,
    ChangeSentData,
    ChangeSentOob,
    ChangeSentChain,
    WrongSourceHandle,
    WrongReceiveCount,
    IndicateWhilePaused,
    IndicateTwice,
    IndicateUnderLock,
    CharacteristicsSize,
    MissingHandler,
    NoDeregister,
    FailWithoutDeregister,
    ConfigurationLeft,
    TimerLeft,
    StatusHeader,
    ForeignStatus,
    DispatchFlag,
    NblPoolLeft,
    DoubleFree,
    XstateNotRestored,
    HandleAfterHalt,
    WildAccess,
    IllegalInstruction,
    EndlessRecursion,
    LeakOnFailure,
    /// No mistake: the same driver, registered for a later version, with its revisions.
    Ndis640,
    Ndis660,
    Ndis683,
    Ndis685,
    FutureCharacteristics,
    FutureVersion,
    LockOrder,
    PanicInOid,
    WaitAtDispatch,
    QueuedLockHeld,
    RwLockHeld,
    PoolReadAfterFree,
    PoolOverrunFar,
    OidTouchedAfterCompletion,
    OidBufferTouchedAfterCompletion,
    SendTouchedAfterCompletion,
    SendDataTouchedAfterCompletion,
    ListTouchedAfterFree,
    PagedAtDispatch,
    SendStatus,
    OidTouchedAfterEnd,
}
