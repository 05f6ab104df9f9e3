//! An adapter: its state machine, and every way in which NDIS calls its driver.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use ndis_sys::NDIS_MINIPORT_DRIVER_CHARACTERISTICS;
use parking_lot::Mutex;

use crate::driver::{Driver, DriverCore};
use crate::error::LabError;
use crate::machine::io::Device;
use crate::machine::{Entry, Handler, Machine, PASSIVE, thread};
use crate::objects::{Keywords, Value};

pub mod attributes;
pub mod indication;
mod lifecycle;
pub mod oid;
pub mod receive;
mod reset;
pub mod send;

pub use lifecycle::{HaltAction, PauseReason, PnpEvent, ShutdownAction};
pub use reset::ResetOutcome;

/// The lab's number of an adapter: 1 for the first one of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterId(pub u32);

impl fmt::Display for AdapterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "adapter {}", self.0)
    }
}

/// The states of `miniport-adapter-states-and-operations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not initialised, or halted.
    Halted,
    /// In `MiniportInitializeEx`.
    Initializing,
    /// Initialised; no packets.
    Paused,
    /// In `MiniportRestart`, or waiting for its completion.
    Restarting,
    /// Sends and receives.
    Running,
    /// In `MiniportPause`, or waiting for its completion.
    Pausing,
}

const STATES: [State; 6] =
    [State::Halted, State::Initializing, State::Paused, State::Restarting, State::Running, State::Pausing];

/// How an adapter is installed.
#[derive(Debug, Clone, Default)]
pub struct AdapterConfig {
    /// Its keywords, as the INF and the user set them.
    pub keywords: Keywords,
}

impl AdapterConfig {
    /// An adapter without keywords.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a keyword.
    #[must_use]
    pub fn keyword(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.keywords.set(name, value);
        self
    }

    /// Sets the keyword `NetworkAddress`.
    #[must_use]
    pub fn network_address(self, address: [u8; 6]) -> Self {
        let number = address.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        self.keyword("NetworkAddress", format!("{number:012X}"))
    }
}

/// An operation that a handler may leave pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Operation {
    /// Nobody waits.
    #[default]
    Idle,
    /// The handler runs.
    InHandler,
    /// The completion was called before the handler returned.
    Early(i32),
    /// The handler returned pending.
    Pending,
    /// The completion was called.
    Done(i32),
}

impl Operation {
    /// The driver called the completion function; `false` if it had no right to.
    pub(crate) fn complete(&mut self, status: i32) -> bool {
        *self = match *self {
            Self::InHandler => Self::Early(status),
            Self::Pending => Self::Done(status),
            Self::Idle | Self::Early(_) | Self::Done(_) => return false,
        };
        true
    }
}

/// The lab's side of an adapter.
pub(crate) struct AdapterCore {
    pub(crate) id: AdapterId,
    pub(crate) handle: usize,
    pub(crate) driver: Arc<DriverCore>,
    pub(crate) keywords: Mutex<Keywords>,
    state: AtomicU8,
    /// Odd while the driver knows that it may not send, even otherwise; each change makes it another.
    closed: AtomicU64,
    /// `MiniportAdapterContext`.
    context: AtomicUsize,
    pub(crate) initializing: AtomicBool,
    pub(crate) removed: AtomicBool,
    pub(crate) low_power: AtomicBool,
    pub(crate) resetting: AtomicBool,
    /// The driver asked NDIS for a reset, or for the adapter's removal.
    pub(crate) reset_asked: AtomicBool,
    pub(crate) removal_asked: AtomicBool,
    /// Odd while a reset is under way; each reset makes it another.
    pub(crate) resets: AtomicU64,
    /// Odd while a change of the power state is with the driver; each change makes it another.
    pub(crate) power_changes: AtomicU64,
    pub(crate) attributes: Mutex<attributes::Collected>,
    pub(crate) pause: Mutex<Operation>,
    pub(crate) restart: Mutex<Operation>,
    pub(crate) reset: Mutex<(Operation, bool)>,
    pub(crate) oids: oid::Oids,
    pub(crate) sends: send::Sends,
    pub(crate) receives: receive::Receives,
    pub(crate) indications: indication::Indications,
    /// The address override that NdisReadNetworkAddress gave out was asked for.
    pub(crate) read_network_address: AtomicBool,
    /// Its device objects, once someone asked for them.
    pub(crate) device: Mutex<Option<Arc<Device>>>,
}

impl AdapterCore {
    pub(crate) fn new(handle: usize, driver: Arc<DriverCore>, config: AdapterConfig, id: AdapterId) -> Self {
        Self {
            id,
            handle,
            driver,
            keywords: Mutex::new(config.keywords),
            state: AtomicU8::new(State::Halted as u8),
            closed: AtomicU64::new(1),
            context: AtomicUsize::new(0),
            initializing: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            low_power: AtomicBool::new(false),
            resetting: AtomicBool::new(false),
            reset_asked: AtomicBool::new(false),
            removal_asked: AtomicBool::new(false),
            resets: AtomicU64::new(0),
            power_changes: AtomicU64::new(0),
            attributes: Mutex::default(),
            pause: Mutex::default(),
            restart: Mutex::default(),
            reset: Mutex::default(),
            oids: oid::Oids::default(),
            sends: send::Sends::default(),
            receives: receive::Receives::default(),
            indications: indication::Indications::default(),
            read_network_address: AtomicBool::new(false),
            device: Mutex::new(None),
        }
    }

    pub(crate) fn state(&self) -> State {
        // Acquire: what was done before the state changed is visible to who acts on it.
        STATES[usize::from(self.state.load(Ordering::Acquire)) % STATES.len()]
    }

    pub(crate) fn set_state(&self, state: State) {
        // Release: pairs with `state`.
        self.state.store(state as u8, Ordering::Release);
    }

    /// Which stretch of time this is for a sender: odd from the return of MiniportPause (or the
    /// initialisation) to the call of MiniportRestart. A send that begins and ends in one odd stretch
    /// met a driver that knew it was paused; one that crosses an end may have met either.
    pub(crate) fn stretch(&self) -> u64 {
        // Acquire: pairs with the changes below.
        self.closed.load(Ordering::Acquire)
    }

    /// MiniportPause returned, or MiniportRestart failed (`true`); MiniportRestart is about to be called
    /// (`false`).
    pub(crate) fn close_sends(&self, closed: bool) {
        let now = self.closed.load(Ordering::Acquire);
        // Release: a send that sees the new stretch comes after what the driver did in the handler.
        self.closed.store(now + u64::from((now % 2 == 1) != closed), Ordering::Release);
    }

    /// Whether NDIS tells it of a bug check: it asked for that, or is older than the flag by which one asks.
    pub(crate) fn wants_bugcheck(&self) -> bool {
        let flags = self.attributes.lock().registration.map_or(0, |attributes| attributes.flags);
        flags & ndis_sys::NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK != 0 || self.driver.minor() < 30
    }

    pub(crate) fn context(&self) -> usize {
        // Acquire: pairs with `set_context`, so that the driver's context is complete.
        self.context.load(Ordering::Acquire)
    }

    pub(crate) fn set_context(&self, context: usize) {
        // Release: see above.
        self.context.store(context, Ordering::Release);
    }

    pub(crate) fn entry(&self, handler: &'static Handler, irql: u8) -> Entry {
        Entry { handler, driver: self.driver.id, adapter: Some(self.id), irql }
    }
}

/// An adapter. Clones name the same one.
#[derive(Clone)]
pub struct Adapter {
    pub(crate) machine: Arc<Machine>,
    pub(crate) core: Arc<AdapterCore>,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("id", &self.core.id)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// The lab's number of this adapter.
    pub fn id(&self) -> AdapterId {
        self.core.id
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.core.state()
    }

    /// Its driver.
    pub fn driver(&self) -> Driver {
        Driver { machine: self.machine.clone(), core: self.core.driver.clone() }
    }

    /// Changes its keywords, as a user does in the device's properties. The driver reads them when
    /// it is initialised.
    pub fn set_keyword(&self, name: &str, value: impl Into<Value>) {
        self.core.keywords.lock().set(name, value);
    }

    /// Its keywords.
    pub fn keywords(&self) -> Keywords {
        self.core.keywords.lock().clone()
    }

    fn characteristics(&self) -> Result<NDIS_MINIPORT_DRIVER_CHARACTERISTICS, LabError> {
        self.core.driver.characteristics().ok_or(LabError::NotRegistered)
    }

    /// Fails unless the machine lives and this thread may call at PASSIVE_LEVEL.
    fn check_passive(&self, operation: &'static str) -> Result<(), LabError> {
        self.machine.alive()?;
        match thread::irql() {
            PASSIVE => Ok(()),
            irql => Err(LabError::Irql { irql, operation }),
        }
    }

    fn wrong_state(&self, operation: &'static str) -> LabError {
        LabError::State { adapter: self.core.id, state: self.state(), operation }
    }

    /// Calls a handler; an error means that the machine stopped.
    ///
    /// # Safety
    /// `target` is the handler that `entry` names, and `args` are valid for its prototype.
    unsafe fn call(&self, entry: Entry, target: usize, args: [u64; 4]) -> Result<u64, LabError> {
        let [a, b, c, d] = args;
        // SAFETY: as the caller says.
        let result = unsafe { self.machine.enter(entry, target, [a, b, c, d, 0, 0, 0, 0]) };
        if thread::with(thread::Thread::machine).is_none() {
            self.machine.after_handler();
        }
        let returned = self.deliver_returns();
        match (result, returned) {
            (Ok(value), Ok(())) => Ok(value),
            _ => Err(self.machine.dead_error()),
        }
    }
}
