//! Looking at each call of a driver: where a test stops one thread until another has got as far as it wants.

use crate::adapter::AdapterId;

/// A function of the lab that a driver has called, before anything of it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPoint {
    /// The function.
    pub function: &'static str,
    /// The driver's handler that calls it.
    pub handler: Option<&'static str>,
    /// The adapter that the handler was called for.
    pub adapter: Option<AdapterId>,
}

/// Looks at a call. It runs on the driver's thread, at its IRQL, may wait for other threads, and must not call the lab.
pub type CallHook = dyn Fn(&CallPoint) + Send + Sync;
