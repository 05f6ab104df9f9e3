//! OID requests, owned: every request is answered exactly once, on the path it came by.

mod answer;
mod fields;
mod pended;
mod queue;
mod request;
mod statistics;
#[cfg(test)]
mod tests;
mod waiting;

pub use answer::{Applied, SetError};

pub use fields::checked_header;
pub(crate) use fields::{u8_at, u32_at, usize_at};
pub use pended::PendedOid;
pub use queue::PendedQueue;
pub use request::{OidCompletion, OidKind, OidRequest};
pub use statistics::Statistics;

use core::num::NonZeroUsize;

use ndis_sys::{NDIS_HANDLE, NDIS_OID_REQUEST, NDIS_STATUS, PVOID};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Regular {}
    impl Sealed for super::Direct {}
}

/// The path a request came by, and completes on: [`Regular`] or [`Direct`].
pub trait OidPath: sealed::Sealed + Sized + 'static {
    /// The function that completes a pended request of this path.
    #[doc(hidden)]
    const COMPLETE: ndis_sys::abi!(fn(NDIS_HANDLE, *mut NDIS_OID_REQUEST, NDIS_STATUS));
}

/// MiniportOidRequest: PASSIVE_LEVEL, one at a time.
#[derive(Clone, Copy, Debug)]
pub enum Regular {}

/// MiniportDirectOidRequest: IRQL <= DISPATCH_LEVEL, not serialised.
#[derive(Clone, Copy, Debug)]
pub enum Direct {}

impl OidPath for Regular {
    const COMPLETE: ndis_sys::abi!(fn(NDIS_HANDLE, *mut NDIS_OID_REQUEST, NDIS_STATUS)) =
        ndis_sys::NdisMOidRequestComplete;
}

impl OidPath for Direct {
    const COMPLETE: ndis_sys::abi!(fn(NDIS_HANDLE, *mut NDIS_OID_REQUEST, NDIS_STATUS)) =
        ndis_sys::NdisMDirectOidRequestComplete;
}

/// What names a pended request for cancelling. A request without one (0) cannot be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(NonZeroUsize);

impl RequestId {
    pub(crate) fn from_raw(raw: PVOID) -> Option<Self> {
        NonZeroUsize::new(raw.addr()).map(Self)
    }
}
