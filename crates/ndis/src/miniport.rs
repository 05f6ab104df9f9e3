//! [`Miniport`]: what a driver implements, and the small types its methods take.

use crate::attributes::Registration;
use crate::driver::Driver;
use crate::initialize::{Initialized, Initializing};
use crate::irql::Irql;
use crate::nbl::{CancelId, ReturnedChain, SendChain};
use crate::oid::{Direct, OidCompletion, OidRequest, Regular, RequestId};
use crate::pause::{Pause, PauseOutcome, Restart};
use crate::pnp::PnpEvent;
use crate::reset::{Reset, ResetOutcome};
use crate::status::Result;

/// One adapter instance of a driver. The layer calls these methods from NDIS's callbacks.
///
/// NDIS calls concurrently, on any processor: every method takes `&self`, and an implementation is `Sync`. The layer
/// calls none of them before [`initialize`](Self::initialize) succeeded or once [`halt`](Self::halt) has begun.
pub trait Miniport: Sized + Send + Sync + 'static {
    /// The driver image this belongs to.
    type Driver: Driver<Adapter = Self>;

    /// What to say in the registration attributes, the first thing NDIS wants to know of an adapter.
    const REGISTRATION: Registration = Registration::SOFTWARE;

    /// Registers MiniportCheckForHangEx and MiniportResetEx. See [`check_for_hang`](Self::check_for_hang) and
    /// [`reset`](Self::reset).
    const RESETTABLE: bool = false;

    /// MiniportInitializeEx. PASSIVE_LEVEL; two adapters may be initialised at once.
    ///
    /// The registration attributes are set already. Read the configuration, make everything, set the general attributes,
    /// then perhaps the offload attributes, and end with [`Attributed::finish`](crate::Attributed::finish), which moves the
    /// adapter to its place. The adapter then is paused.
    ///
    /// # Errors
    ///
    /// Any error fails the initialisation: what the method made is dropped, `halt` is not called. NOT_ACCEPTED, which has
    /// success severity, is reported as FAILURE.
    fn initialize<'i>(driver: &Self::Driver, init: Initializing<'i, Self>) -> Result<Initialized<'i, Self>>;

    /// MiniportRestart: sends will come and receives may be indicated from now on. PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// The adapter stays paused, and must not indicate receives.
    fn restart(&self, request: Restart<'_>) -> Result<()>;

    /// MiniportPause: stop making receive indications, complete or give up sends that are held back, and agree. PASSIVE_LEVEL.
    ///
    /// The layer refuses indications from here to the next restart, and completes the pause only when the driver agreed
    /// **and** all send NBLs are completed, all indicated receive buffers are back and no send or return handler is running.
    fn pause(&self, pause: Pause) -> PauseOutcome;

    /// MiniportHaltEx: the adapter is paused, and nothing is outstanding. PASSIVE_LEVEL. Stop what the adapter runs, release
    /// what others hold of it. Status indications are still possible. No other method runs now or later; then the layer
    /// closes all [`Handle`](crate::Handle)s, takes the DPC off its queue and drops `self`.
    fn halt(&self, action: HaltAction);

    /// MiniportShutdownEx. PASSIVE_LEVEL for [`ShutdownAction::PowerOff`]; HIGH_LEVEL for [`ShutdownAction::BugCheck`], which
    /// may interrupt any other method anywhere: no lock, no allocation, no NDIS function then.
    fn shutdown(&self, action: ShutdownAction) {
        let _ = action;
    }

    /// MiniportOidRequest. PASSIVE_LEVEL; NDIS sends one at a time.
    fn oid_request<'r>(&self, request: OidRequest<'r, Regular>) -> OidCompletion<'r, Regular>;

    /// MiniportCancelOidRequest: complete the pended request of this id, if it is still there, with
    /// [`PendedOid::cancel`](crate::oid::PendedOid::cancel). IRQL <= DISPATCH_LEVEL.
    fn cancel_oid_request(&self, id: RequestId) {
        let _ = id;
    }

    /// MiniportDirectOidRequest. IRQL <= DISPATCH_LEVEL, concurrently with everything, itself included.
    fn direct_oid_request<'r>(&self, request: OidRequest<'r, Direct>) -> OidCompletion<'r, Direct>;

    /// MiniportCancelDirectOidRequest, like [`cancel_oid_request`](Self::cancel_oid_request). IRQL <= DISPATCH_LEVEL.
    fn cancel_direct_oid_request(&self, id: RequestId) {
        let _ = id;
    }

    /// MiniportSendNetBufferLists, in every state: complete with PAUSED what comes while not running. IRQL <= DISPATCH_LEVEL,
    /// concurrently on several processors.
    fn send(&self, chain: SendChain, context: SendContext<'_>);

    /// MiniportCancelSend: complete the queued NBLs of this id with SEND_ABORTED. IRQL <= DISPATCH_LEVEL.
    fn cancel_send(&self, id: CancelId) {
        let _ = id;
    }

    /// MiniportReturnNetBufferLists: buffers that were indicated are back. Dropping the chain frees them.
    /// IRQL <= DISPATCH_LEVEL, perhaps inside an indication of our own.
    fn return_buffers(&self, chain: ReturnedChain, irql: Irql<'_>) {
        let _ = irql;
        drop(chain);
    }

    /// The adapter's deferred procedure call, which [`Handle::queue_dpc`](crate::Handle::queue_dpc) asks for.
    /// DISPATCH_LEVEL; it may run on several processors at once.
    fn deferred(&self, irql: Irql<'_>) {
        let _ = irql;
    }

    /// MiniportDevicePnPEventNotify. PASSIVE_LEVEL.
    fn pnp_event(&self, event: PnpEvent) {
        let _ = event;
    }

    /// MiniportCheckForHangEx, every [`Registration::check_for_hang_seconds`]; true makes NDIS reset the adapter. Only if
    /// [`RESETTABLE`](Self::RESETTABLE). PASSIVE_LEVEL by the header; take IRQL <= DISPATCH_LEVEL.
    fn check_for_hang(&self) -> bool {
        false
    }

    /// MiniportResetEx. Only if [`RESETTABLE`](Self::RESETTABLE). IRQL <= DISPATCH_LEVEL. Pending OID requests and sends are to
    /// be completed before the reset is.
    fn reset(&self, reset: Reset) -> ResetOutcome {
        reset.finish(crate::Status::SUCCESS, false)
    }
}

/// How a chain of sends came.
#[derive(Clone, Copy, Debug)]
pub struct SendContext<'a> {
    /// The IRQL, as far as the caller told.
    pub irql: Irql<'a>,
    /// PortNumber; 0 unless ports were made.
    pub port: u32,
    /// NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK: NDIS loops the frames back itself if MAC option NO_LOOPBACK is set.
    pub check_for_loopback: bool,
}

macro_rules! actions {
    ($(#[$meta:meta])* $name:ident: $raw:ident { $($(#[$doc:meta])* $variant:ident = $value:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A value that this layer does not know.
            Other(i32),
        }

        impl $name {
            pub(crate) fn from_raw(raw: ndis_sys::$raw) -> Self {
                match raw {
                    $(ndis_sys::$value => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

actions! {
    /// Why an adapter is halted (NDIS_HALT_ACTION).
    HaltAction: NDIS_HALT_ACTION {
        /// The user disabled the device.
        DeviceDisabled = NdisHaltDeviceDisabled,
        /// The device's instance was deinitialised (intermediate drivers).
        InstanceDeInitialized = NdisHaltDeviceInstanceDeInitialized,
        /// The device goes to low power and is halted for it.
        PoweredDown = NdisHaltDevicePoweredDown,
        /// The device is gone.
        SurpriseRemoved = NdisHaltDeviceSurpriseRemoved,
        /// The device failed.
        Failed = NdisHaltDeviceFailed,
        /// NDIS could not initialise the adapter after the miniport had.
        InitializationFailed = NdisHaltDeviceInitializationFailed,
        /// The device was stopped for other resources.
        Stopped = NdisHaltDeviceStopped,
    }
}

actions! {
    /// Why the system shuts down (NDIS_SHUTDOWN_ACTION).
    ShutdownAction: NDIS_SHUTDOWN_ACTION {
        /// Power off, at PASSIVE_LEVEL.
        PowerOff = NdisShutdownPowerOff,
        /// Bug check, at HIGH_LEVEL.
        BugCheck = NdisShutdownBugCheck,
    }
}
