//! The lab: one simulated machine and what a user does with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ndis_sys::DRIVER_INITIALIZE;

use crate::call::CallPoint;
use crate::census::Census;
use crate::driver::{Code, Driver};
use crate::error::{BugCheck, CrashCall, LabError};
use crate::exports;
use crate::fault::FaultPoint;
use crate::loader::{Image, LoadError, MissingImport};
use crate::machine::pool::PoolBlock;
use crate::machine::schedule::{Event, Schedule};
use crate::machine::stubs::Stubs;
use crate::machine::{Machine, Options};
use crate::rules::{KnownRules, Violation};
use crate::symbols::pdb_beside;

/// The newest NDIS that the lab knows: 6.89, of Windows 11 24H2.
const NEWEST_NDIS: u32 = 0x0006_0059;

/// How a lab is made.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    options: Options,
}

impl Default for LabBuilder {
    fn default() -> Self {
        Self {
            options: Options {
                processors: 8,
                ndis_version: NEWEST_NDIS,
                timeout: Duration::from_secs(10),
                guard: false,
                seed: None,
                stub_imports: false,
                known: KnownRules::default(),
            },
        }
    }
}

impl LabBuilder {
    /// How many processors the machine has (8 unless set, 64 at most). Threads of the driver at
    /// `DISPATCH_LEVEL` own one each; more threads wait.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.options.processors = count.clamp(1, 64);
        self
    }

    /// The NDIS version of the machine, as `NdisGetVersion` tells it: 6.89, Windows 11
    /// 24H2, unless set. A driver that registers a later version is refused.
    #[must_use]
    pub fn ndis_version(mut self, version: u32) -> Self {
        self.options.ndis_version = version;
        self
    }

    /// How long the lab waits for a driver: 10 seconds unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Gives each pool block, packet structure and OID request pages of its own, between pages that
    /// nobody may touch, and takes the pages away when the driver gives it back. Reads and writes of
    /// freed or completed memory and of what lies behind a block then stop the machine at the
    /// instruction, with the rule's name; so do touches of paged pool at DISPATCH_LEVEL. Off unless set,
    /// since it costs some microseconds a block; Linux only.
    #[must_use]
    pub fn guard_pages(mut self, on: bool) -> Self {
        self.options.guard = on;
        self
    }

    /// Makes the machine deterministic: one thread, virtual time, and a seed that decides when timers and
    /// work items run. The same driver, calls and seed give the same run, which [`Lab::events`] tells; a
    /// time-out takes no time. All calls must come from one thread, and a driver gets no system threads.
    #[must_use]
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Loads images also when they import functions that the lab has not: [`Lab::missing_imports`]
    /// names them, and a call of one stops the machine. Off unless set: such an image is refused.
    #[must_use]
    pub fn stub_missing_imports(mut self, on: bool) -> Self {
        self.options.stub_imports = on;
        self
    }

    /// What the driver is known to break: it is counted there, and no [`Lab::violations`] tell of it.
    #[must_use]
    pub fn known(mut self, known: &KnownRules) -> Self {
        self.options.known = known.clone();
        self
    }

    /// Makes the lab.
    pub fn build(self) -> Lab {
        Lab { machine: Machine::new(self.options) }
    }
}

/// One simulated machine. Clones name the same one.
#[derive(Clone)]
pub struct Lab {
    machine: Arc<Machine>,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("bugcheck", &self.bugcheck()).finish_non_exhaustive()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// A machine with the usual settings.
    pub fn new() -> Self {
        LabBuilder::default().build()
    }

    /// Settings of a machine.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// Loads a driver image and runs its `DriverEntry`.
    ///
    /// # Errors
    /// [`LabError::Load`] for an image that cannot be loaded; [`LabError::DriverEntry`],
    /// [`LabError::NotRegistered`], [`LabError::BugCheck`].
    pub fn load_image(&self, image: &[u8], name: &str) -> Result<Driver, LabError> {
        self.load(image, name, None)
    }

    pub(crate) fn load(&self, image: &[u8], name: &str, path: Option<&Path>) -> Result<Driver, LabError> {
        self.machine.alive()?;
        let image = self.map(image)?;
        let pdb = path.and_then(|path| pdb_beside(path, image.pdb()));
        Driver::start(&self.machine, Code::Image(image, pdb), name)
    }

    fn map(&self, bytes: &[u8]) -> Result<Image, LoadError> {
        match Image::load(bytes, exports::resolve) {
            Err(LoadError::MissingImports(missing)) if self.machine.options.stub_imports => {
                let stubs = Arc::new(Stubs::new(missing)?);
                // They stay as long as the machine, and so longer than what calls them.
                self.machine.stubs.lock().push(stubs.clone());
                Image::load(bytes, |module, name| {
                    exports::resolve(module, name).or_else(|| stubs.find(module, name))
                })
            }
            result => result,
        }
    }

    /// Functions that loaded images import and the lab has not: see
    /// [`LabBuilder::stub_missing_imports`].
    pub fn missing_imports(&self) -> Vec<MissingImport> {
        self.machine.stubs.lock().iter().flat_map(|stubs| stubs.missing().to_vec()).collect()
    }

    /// The functions by which drivers asked for hardware that an adapter of the lab has not: interrupts, device
    /// memory, ports, DMA, a bus.
    pub fn hardware(&self) -> Vec<&'static str> {
        self.machine.hardware()
    }

    /// Reads a driver image from a file, named as the file, and runs its `DriverEntry`. Stacks are
    /// named by the PDB beside it.
    ///
    /// # Errors
    /// As [`Lab::load_image`]; [`LoadError::Io`] if the file cannot be read.
    pub fn load_file(&self, path: impl AsRef<Path>) -> Result<Driver, LabError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(LoadError::Io)?;
        let name = path.file_stem().map_or("driver".into(), |stem| stem.to_string_lossy());
        self.load(&bytes, &name, Some(path))
    }

    /// Runs the `DriverEntry` of a driver that is linked into this program. There can be one at a
    /// time in a process, since its statics exist once: the call waits until the one before is
    /// unloaded, or dropped with its lab.
    ///
    /// # Safety
    /// `entry` is the entry point of a miniport driver that keeps the contract of the Windows driver
    /// documentation, or at least breaks it in ways that the lab can survive.
    ///
    /// # Errors
    /// As [`Lab::load_image`].
    pub unsafe fn load_native(&self, entry: DRIVER_INITIALIZE, name: &str) -> Result<Driver, LabError> {
        self.machine.alive()?;
        Driver::start(&self.machine, Code::Native(entry), name)
    }

    /// The rules that were broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.machine.violations()
    }

    /// The rules that were broken since the last look; takes them.
    pub fn take_violations(&self) -> Vec<Violation> {
        self.machine.take_violations()
    }

    /// How often rules were broken; more than are listed if a driver repeats itself.
    pub fn violations_total(&self) -> u64 {
        self.machine.violations_total()
    }

    /// Panics with a list if a rule was broken: for tests.
    ///
    /// # Panics
    /// If a rule was broken.
    #[track_caller]
    pub fn assert_clean(&self) {
        let violations = self.violations();
        let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{} rules were broken:\n{}", lines.len(), lines.join("\n"));
    }

    /// What the drivers hold at this moment.
    pub fn census(&self) -> Census {
        Census::take(&self.machine)
    }

    /// Looks for writes outside of pool blocks and to freed memory, and records what it finds.
    pub fn sweep(&self) {
        self.machine.sweep_pool();
        self.machine.sweep_packets();
    }

    /// The bugcheck that stopped the machine.
    pub fn bugcheck(&self) -> Option<BugCheck> {
        self.machine.bugcheck()
    }

    /// Calls, at HIGH_LEVEL and in their order, what a bug check calls: MiniportShutdownEx of the adapters that asked for it
    /// (for [`ShutdownAction::BugCheck`](crate::ShutdownAction)), and the bugcheck callbacks of drivers. The machine goes on:
    /// a rehearsal.
    ///
    /// # Errors
    /// [`LabError::BugCheck`] if the machine has stopped.
    pub fn rehearse_bugcheck(&self) -> Result<Vec<CrashCall>, LabError> {
        self.machine.alive()?;
        Ok(self.machine.rehearse_crash())
    }

    /// What happened so far on a deterministic machine: handlers called, and functions that the driver
    /// called, with virtual times. Empty for other machines.
    pub fn events(&self) -> Vec<Event> {
        self.machine.schedule.as_ref().map(Schedule::events).unwrap_or_default()
    }

    /// Sets a value of the machine's registry, by the path of its key: `\Registry\Machine\…`. A driver that is
    /// loaded as `name` finds its own values under `…\System\CurrentControlSet\Services\name`.
    pub fn set_registry(&self, key: &str, name: &str, value: impl Into<crate::Value>) {
        self.machine.registry.set(key, name, value.into());
    }

    /// A value of the machine's registry.
    pub fn registry_value(&self, key: &str, name: &str) -> Option<crate::Value> {
        self.machine.registry.get(key, name)
    }

    /// What drivers printed with `DbgPrint`; takes it.
    pub fn take_debug_output(&self) -> Vec<String> {
        std::mem::take(&mut *self.machine.debug_output.lock())
    }

    /// Lets `decide` fail calls that may fail on Windows: allocations, mappings, registrations.
    pub fn set_faults(&self, decide: impl Fn(&FaultPoint) -> bool + Send + Sync + 'static) {
        self.machine.set_faults(Some(Arc::new(decide)));
    }

    /// Fails the call that follows after `skip` more of those that may fail; only that one.
    pub fn fail_after(&self, skip: u64) {
        let nth = self.machine.fault_points() + skip;
        self.set_faults(move |point| point.nth == nth);
    }

    /// Fails nothing any more.
    pub fn clear_faults(&self) {
        self.machine.set_faults(None);
    }

    /// How many calls so far might have failed.
    pub fn fault_points(&self) -> u64 {
        self.machine.fault_points()
    }

    /// Shows each call of the driver to `look` before it happens. So a test has two threads meet at an exact place: one waits
    /// in `look` until the other is where it should be. For the life of the lab: a second hook is ignored.
    pub fn on_call(&self, look: impl Fn(&CallPoint) + Send + Sync + 'static) {
        self.machine.set_call_hook(Arc::new(look));
    }

    /// Shows each pool block to `look` when it is freed, with its last bytes (has a key been zeroed?).
    /// `look` must not call the lab.
    pub fn on_pool_free(&self, look: impl Fn(&PoolBlock, &[u8]) + Send + Sync + 'static) {
        self.machine.pool.set_hook(Some(Arc::new(look)));
    }
}
