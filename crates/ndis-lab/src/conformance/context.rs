//! What a case works with: a machine of its own, and drivers and adapters that are taken down after it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::facts::Facts;
use super::run::Subject;
use super::{Outcome, Stop};
use crate::adapter::{Adapter, AdapterConfig, HaltAction, PauseReason, State};
use crate::driver::Driver;
use crate::error::LabError;
use crate::lab::Lab;
use crate::objects::Keywords;
use crate::rules::Violation;

/// One machine with the driver under test.
pub(super) struct Context {
    subject: Arc<Subject>,
    facts: Option<Arc<Facts>>,
    /// The machine.
    pub(super) lab: Lab,
    /// How long the driver may take for anything.
    pub(super) patience: Duration,
    driver: RefCell<Option<Driver>>,
    adapters: RefCell<Vec<Adapter>>,
    abandoned: Cell<bool>,
    /// What was found on further machines of this case.
    elsewhere: Rc<RefCell<Evidence>>,
    guarded: bool,
    /// Of a deterministic machine.
    seed: Option<u64>,
}

/// Broken rules, and what was left behind.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) violations: Vec<Violation>,
    pub(super) left: Vec<String>,
}

impl Context {
    pub(super) fn new(
        subject: Arc<Subject>,
        facts: Option<Arc<Facts>>,
        patience: Duration,
        guarded: bool,
        seed: Option<u64>,
    ) -> Self {
        let builder =
            Lab::builder().timeout(patience).processors(4).guard_pages(guarded).known(&subject.known);
        let builder = match seed {
            Some(seed) => builder.deterministic(seed),
            None => builder,
        };
        Self {
            subject,
            facts,
            lab: builder.build(),
            guarded,
            seed,
            patience,
            driver: RefCell::new(None),
            adapters: RefCell::new(Vec::new()),
            abandoned: Cell::new(false),
            elsewhere: Rc::default(),
        }
    }

    /// Another machine with the same driver; the one before must have ended.
    pub(super) fn another(&self) -> Self {
        let other =
            Self::new(self.subject.clone(), self.facts.clone(), self.patience, self.guarded, self.seed);
        Self { elsewhere: self.elsewhere.clone(), ..other }
    }

    /// What the driver claims.
    pub(super) fn facts(&self) -> Outcome<&Facts> {
        self.facts.as_deref().ok_or_else(|| Stop::Failed("no adapter could be made of the driver".into()))
    }

    /// Runs DriverEntry on this machine.
    pub(super) fn load(&self) -> Result<Driver, LabError> {
        let driver = self.subject.load(&self.lab)?;
        *self.driver.borrow_mut() = Some(driver.clone());
        Ok(driver)
    }

    /// The driver, loaded if it is not yet.
    pub(super) fn driver(&self) -> Result<Driver, LabError> {
        let loaded = self.driver.borrow().clone();
        loaded.map_or_else(|| self.load(), Ok)
    }

    /// How an adapter of the subject is installed.
    pub(super) fn config(&self) -> AdapterConfig {
        AdapterConfig { keywords: self.subject.keywords.clone() }
    }

    /// The keywords that the subject is installed with.
    pub(super) fn keywords(&self) -> &Keywords {
        &self.subject.keywords
    }

    /// A paused adapter.
    pub(super) fn adapter(&self) -> Result<Adapter, LabError> {
        self.adapter_of(self.config())
    }

    /// A paused adapter that is installed differently.
    pub(super) fn adapter_of(&self, config: AdapterConfig) -> Result<Adapter, LabError> {
        let adapter = self.driver()?.add_adapter(config)?;
        Ok(self.keep(adapter))
    }

    /// Sees to it that an adapter is taken down.
    pub(super) fn keep(&self, adapter: Adapter) -> Adapter {
        self.adapters.borrow_mut().push(adapter.clone());
        adapter
    }

    /// A running adapter.
    pub(super) fn running(&self) -> Result<Adapter, LabError> {
        let adapter = self.adapter()?;
        adapter.restart()?;
        Ok(adapter)
    }

    /// Leaves everything as it is at the end: the machine has crashed or is switched off.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
    }

    /// Whether the machine is to be left as it is.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// Pauses, halts and unloads what is there; goes on after an error, and gives the first one.
    pub(super) fn take_down(&self) -> Outcome {
        self.lab.clear_faults();
        let mut result = Ok(());
        let mut note = |step: Result<(), LabError>| {
            if let (Ok(()), Err(error)) = (&result, step) {
                result = Err(Stop::from(error));
            }
        };
        let adapters = std::mem::take(&mut *self.adapters.borrow_mut());
        for adapter in &adapters {
            if adapter.state() == State::Running {
                note(adapter.pause_with(PauseReason::Remove).map(drop));
            }
        }
        for adapter in &adapters {
            note(adapter.return_held().map(drop));
            if adapter.state() == State::Pausing {
                note(adapter.pause_wait(self.patience));
            }
            if adapter.state() == State::Paused {
                note(adapter.halt(HaltAction::DeviceDisabled));
            }
        }
        drop(adapters);
        let driver = self.driver.borrow_mut().take();
        if let Some(driver) = driver {
            note(driver.unload());
        }
        result
    }

    /// Takes this machine down and looks at what is left: for cases with machines of their own.
    pub(super) fn finish(self) -> Outcome {
        let down = self.take_down();
        let (violations, left) = (self.lab.violations(), self.lab.census().grouped());
        let clean = violations.is_empty() && left.is_empty();
        let mut elsewhere = self.elsewhere.borrow_mut();
        elsewhere.violations.extend(violations);
        elsewhere.left.extend(left);
        drop(elsewhere);
        down?;
        if clean { Ok(()) } else { Err(Stop::Found) }
    }

    /// What was found on further machines; takes it.
    pub(super) fn elsewhere(&self) -> Evidence {
        std::mem::take(&mut *self.elsewhere.borrow_mut())
    }
}
