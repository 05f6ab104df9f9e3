//! [`Status`]: an NDIS status as a value.

use core::fmt;

use ndis_sys::NDIS_STATUS;

/// An `NDIS_STATUS`. Beware that some non-success values, [`Status::NOT_ACCEPTED`] among them, have success severity:
/// compare with [`Status::SUCCESS`], never by sign.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(NDIS_STATUS);

/// `Result` with a [`Status`] as its error.
pub type Result<T, E = Status> = core::result::Result<T, E>;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:ident;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self(ndis_sys::$value);)*

            /// The WDK's name of the status, without its prefix.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                $(if self.0 == Self::$name.0 { return Some(stringify!($name)); })*
                None
            }
        }
    };
}

statuses! {
    /// Done.
    SUCCESS = NDIS_STATUS_SUCCESS;
    /// Not now: resetting, or the device is gone. Has success severity.
    NOT_ACCEPTED = NDIS_STATUS_NOT_ACCEPTED;
    /// A warning of MiniportResetEx: some errors were corrected.
    SOFT_ERRORS = NDIS_STATUS_SOFT_ERRORS;
    /// MiniportResetEx failed to bring the hardware back.
    HARD_ERRORS = NDIS_STATUS_HARD_ERRORS;
    /// Failed, for no more specific reason.
    FAILURE = NDIS_STATUS_FAILURE;
    /// An argument does not fit the state of the adapter.
    INVALID_PARAMETER = NDIS_STATUS_INVALID_PARAMETER;
    /// Memory, or another resource, ran out.
    RESOURCES = NDIS_STATUS_RESOURCES;
    /// The request, or this direction of it, is not implemented.
    NOT_SUPPORTED = NDIS_STATUS_NOT_SUPPORTED;
    /// The adapter is going away.
    CLOSING = NDIS_STATUS_CLOSING;
    /// The adapter was not found.
    ADAPTER_NOT_FOUND = NDIS_STATUS_ADAPTER_NOT_FOUND;
    /// More multicast addresses than the adapter holds.
    MULTICAST_FULL = NDIS_STATUS_MULTICAST_FULL;
    /// A pending request was cancelled or cut short by a reset.
    REQUEST_ABORTED = NDIS_STATUS_REQUEST_ABORTED;
    /// A reset is in progress.
    RESET_IN_PROGRESS = NDIS_STATUS_RESET_IN_PROGRESS;
    /// The packet is malformed.
    INVALID_PACKET = NDIS_STATUS_INVALID_PACKET;
    /// The adapter is not initialised.
    ADAPTER_NOT_READY = NDIS_STATUS_ADAPTER_NOT_READY;
    /// A buffer has the wrong length.
    INVALID_LENGTH = NDIS_STATUS_INVALID_LENGTH;
    /// A buffer has the right length and impossible contents.
    INVALID_DATA = NDIS_STATUS_INVALID_DATA;
    /// A buffer is too short for the answer.
    BUFFER_TOO_SHORT = NDIS_STATUS_BUFFER_TOO_SHORT;
    /// The OID is not known.
    INVALID_OID = NDIS_STATUS_INVALID_OID;
    /// A queued send was cancelled. Not [`Status::REQUEST_ABORTED`].
    SEND_ABORTED = NDIS_STATUS_SEND_ABORTED;
    /// The link is down.
    MEDIA_DISCONNECTED = NDIS_STATUS_MEDIA_DISCONNECTED;
    /// The adapter is paused or pausing.
    PAUSED = NDIS_STATUS_PAUSED;
    /// The adapter is in a low power state.
    LOW_POWER_STATE = NDIS_STATUS_LOW_POWER_STATE;
    /// Pending. The layer itself returns it where an owned token stands for the pending operation.
    PENDING = NDIS_STATUS_PENDING;
}

impl Status {
    /// A status from its number.
    #[must_use]
    pub const fn from_raw(raw: NDIS_STATUS) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> NDIS_STATUS {
        self.0
    }

    /// `Ok` for [`Status::SUCCESS`], `Err` for everything else.
    ///
    /// # Errors
    ///
    /// The status itself, unless it is `SUCCESS`.
    pub const fn ok(self) -> Result<()> {
        if self.0 == Self::SUCCESS.0 { Ok(()) } else { Err(self) }
    }

    /// The status as the result of something that failed: what NDIS would take for success or "still pending" becomes
    /// [`Status::FAILURE`].
    pub(crate) const fn as_failure(self) -> Self {
        if self.0 >= 0 { Self::FAILURE } else { self }
    }

    /// The status as that of something that ended: `PENDING` becomes [`Status::FAILURE`].
    pub(crate) const fn as_final(self) -> Self {
        if self.0 == Self::PENDING.0 { Self::FAILURE } else { self }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Status({:#010x})", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_severity_is_not_success() {
        assert!(Status::NOT_ACCEPTED.raw() > 0);
        assert_eq!(Status::NOT_ACCEPTED.ok(), Err(Status::NOT_ACCEPTED));
        assert_eq!(Status::NOT_ACCEPTED.as_failure(), Status::FAILURE);
        assert_eq!(Status::SUCCESS.as_failure(), Status::FAILURE);
        assert_eq!(Status::RESOURCES.as_failure(), Status::RESOURCES);
        assert_eq!(Status::PENDING.as_final(), Status::FAILURE);
        assert_eq!(Status::NOT_ACCEPTED.as_final(), Status::NOT_ACCEPTED);
    }

    #[test]
    fn names_are_the_wdks() {
        assert_eq!(Status::SEND_ABORTED.name(), Some("SEND_ABORTED"));
        assert_eq!(Status::from_raw(0x1234).name(), None);
    }
}
