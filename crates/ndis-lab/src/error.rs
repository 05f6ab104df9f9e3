//! What can go wrong for a user of the lab. Broken rules are not errors: see [`crate::rules`].

use std::fmt::{self, Write as _};

use crate::adapter::{AdapterId, State};
use crate::loader::LoadError;
use crate::symbols::CallStack;

/// A stop of the machine, as `KeBugCheckEx` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BugCheck {
    /// The bugcheck code.
    pub code: u32,
    /// Its four parameters.
    pub parameters: [u64; 4],
    /// The lab function that stopped the machine.
    pub function: Option<&'static str>,
    /// The driver's handler that was running.
    pub handler: Option<&'static str>,
    /// The adapter that the handler was called for.
    pub adapter: Option<AdapterId>,
    /// What the lab saw; for the driver's own bugcheck, that it was the driver's.
    pub detail: String,
    /// The driver's frames.
    pub stack: CallStack,
    /// What the bug check called: MiniportShutdownEx, and the callbacks of drivers.
    pub called: Vec<CrashCall>,
}

/// Something that a bug check calls: see [`BugCheck::called`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashCall {
    /// What was called, and for whom.
    pub name: String,
    /// What went wrong in it.
    pub failure: Option<String>,
}

impl fmt::Display for CrashCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was called", self.name)?;
        self.failure.as_ref().map_or(Ok(()), |failure| write!(f, ", and failed: {failure}"))
    }
}

impl BugCheck {
    /// All that is known, in several lines: what [`fmt::Display`] says, the stack with its names, and what was called
    /// then.
    pub fn report(&self) -> String {
        let stack = self.stack.to_string();
        let stack = if stack.is_empty() { "     (no stack)\n".to_owned() } else { stack };
        let mut text = format!("{self}\n{stack}");
        for call in &self.called {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {call}");
        }
        text
    }
}

impl fmt::Display for BugCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth] = self.parameters;
        let code = self.code;
        write!(f, "bugcheck {code:#x} ({first:#x}, {second:#x}, {third:#x}, {fourth:#x}): {}", self.detail)?;
        match (self.function, self.handler) {
            (Some(function), Some(handler)) => write!(f, "; in {function}, called by {handler}")?,
            (Some(name), None) | (None, Some(name)) => write!(f, "; in {name}")?,
            (None, None) => {}
        }
        self.adapter.map_or(Ok(()), |adapter| write!(f, " of {adapter}"))
    }
}

/// Why the lab did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The machine stopped, now or before; it can only be looked at and dropped.
    #[error("the machine stopped: {0}")]
    BugCheck(Box<BugCheck>),
    /// The image was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// `DriverEntry` returned a failure.
    #[error("DriverEntry failed with {0:#010x}")]
    DriverEntry(u32),
    /// `DriverEntry` succeeded without registering a miniport.
    #[error("DriverEntry succeeded, but registered no miniport")]
    NotRegistered,
    /// `MiniportInitializeEx` returned a failure, or a success that NDIS does not accept.
    #[error("MiniportInitializeEx failed with {0:#010x}")]
    Initialize(u32),
    /// `MiniportRestart` failed; the adapter is paused.
    #[error("MiniportRestart failed with {0:#010x}")]
    Restart(u32),
    /// NDIS never does this in this state.
    #[error("{adapter} is {state:?}: NDIS does not {operation} it now")]
    State {
        /// The adapter.
        adapter: AdapterId,
        /// Its state.
        state: State,
        /// What was asked for.
        operation: &'static str,
    },
    /// The driver did not register this optional handler.
    #[error("the driver has no {0}")]
    NoHandler(&'static str),
    /// The driver did not answer in time.
    #[error("{0} did not complete in time")]
    Timeout(&'static str),
    /// The driver still has adapters.
    #[error("the driver still has {0} adapters")]
    AdaptersLeft(usize),
    /// Files are open on the driver's devices: Windows keeps it loaded until they are closed.
    #[error("{0} files are open on the driver's devices")]
    FilesOpen(usize),
    /// A request to a device failed.
    #[error("{request} failed with {status:#010x}")]
    Device {
        /// What was asked for.
        request: &'static str,
        /// The NTSTATUS.
        status: u32,
    },
    /// This thread runs at an IRQL that is too high for the call.
    #[error("this thread runs at IRQL {irql}, too high for {operation}")]
    Irql {
        /// The thread's IRQL.
        irql: u8,
        /// What was asked for.
        operation: &'static str,
    },
    /// The request cannot be built as described.
    #[error("cannot build this: {0}")]
    Invalid(&'static str),
}
