//! Fault injection: any function that can fail on Windows can be made to.

use crate::adapter::AdapterId;

/// A call that is about to succeed and may be made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPoint {
    /// Which such call this is, counted from 0 over the life of the lab.
    pub nth: u64,
    /// The function.
    pub function: &'static str,
    /// The driver's handler that calls it.
    pub handler: &'static str,
    /// The adapter that the handler was called for.
    pub adapter: Option<AdapterId>,
    /// Bytes asked for, or 0.
    pub size: usize,
    /// The pool tag, or 0.
    pub tag: u32,
}

/// Decides whether a call fails. It runs on the driver's thread and must not call the lab.
pub type FaultHook = dyn Fn(&FaultPoint) -> bool + Send + Sync;
