//! Drivers, configurations and what else the lab gives handles for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::adapter::AdapterId;
use crate::driver::DriverCore;
use crate::machine::{AddressMap, Machine, Origin};
use crate::packet::Memory;
use crate::rules::Rule;

/// How much of what was lent is kept from reuse after its time.
const KEPT: usize = 256;

/// A value of the registry, as an INF or a user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `REG_SZ`: what standardized keywords use, also for numbers.
    Text(String),
    /// `REG_DWORD`.
    Dword(u32),
    /// `REG_MULTI_SZ`.
    Texts(Vec<String>),
    /// `REG_BINARY`.
    Binary(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Dword(value)
    }
}

/// The keywords of an adapter; names compare without case, as in the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keywords(BTreeMap<String, (String, Value)>);

impl Keywords {
    /// No keyword.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a keyword.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_ascii_lowercase(), (name.to_owned(), value.into()));
        self
    }

    /// Removes a keyword.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(&name.to_ascii_lowercase());
    }

    /// A keyword's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(&name.to_ascii_lowercase()).map(|(_, value)| value)
    }

    /// All keywords with their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.values().map(|(name, value)| (name.as_str(), value))
    }
}

impl<N: AsRef<str>, V: Into<Value>> FromIterator<(N, V)> for Keywords {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut keywords = Self::new();
        for (name, value) in pairs {
            keywords.set(name.as_ref(), value);
        }
        keywords
    }
}

/// An open configuration.
pub(crate) struct Configuration {
    pub(crate) adapter: AdapterId,
    /// Of a subkey, its name and a backslash; empty for the adapter's own key.
    pub(crate) path: String,
    pub(crate) keywords: Keywords,
    /// What NdisReadConfiguration and NdisReadNetworkAddress gave out: the driver's until it is closed.
    pub(crate) given: Vec<Memory>,
    pub(crate) origin: Origin,
}

/// Tables by handle.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) drivers: AddressMap<Arc<DriverCore>>,
    pub(crate) configurations: AddressMap<Configuration>,
    /// What NdisRegisterDeviceEx made: the device object and its symbolic link.
    pub(crate) devices: AddressMap<(usize, String)>,
    /// Generic objects, which serve as handles: the driver of each.
    pub(crate) generic: AddressMap<u32>,
    /// What drivers were lent, for the time of a call or until a configuration was closed, and the rule that
    /// a later touch breaks.
    lent: VecDeque<(Memory, &'static Rule)>,
    /// Handles of adapters that were halted.
    pub(crate) halted: AddressMap<AdapterId>,
}

impl Machine {
    /// Keeps what was lent to a driver, and is poisoned, from reuse for a while.
    pub(crate) fn retire_given(&self, rule: &'static Rule, given: impl IntoIterator<Item = Memory>) {
        let mut objects = self.objects.lock();
        objects.lent.extend(given.into_iter().map(|memory| (memory, rule)));
        let over = objects.lent.len().saturating_sub(KEPT);
        let old: Vec<_> = objects.lent.drain(..over).collect();
        drop(objects);
        self.check_lent(old);
    }

    fn check_lent(&self, old: impl IntoIterator<Item = (Memory, &'static Rule)>) {
        for (memory, rule) in old {
            let Some(at) = memory.touched() else { continue };
            let text = format!("byte {at} of the {} at {:#x} was written", memory.what(), memory.address());
            self.violate_past(None, rule, text, &memory.past("given away"));
        }
    }

    /// Looks at everything that was lent and is kept.
    pub(crate) fn sweep_lent(&self) {
        let old = std::mem::take(&mut self.objects.lock().lent);
        self.check_lent(old);
    }

    /// Whether a handle names a live adapter or driver.
    pub(crate) fn knows_handle(&self, handle: usize) -> bool {
        self.owner_of(handle).is_some()
    }

    /// The adapter and the driver that a handle names.
    pub(crate) fn owner_of(&self, handle: usize) -> Option<(Option<AdapterId>, u32)> {
        if let Some(adapter) = self.adapter(handle) {
            return Some((Some(adapter.id), adapter.driver.id));
        }
        let objects = self.objects.lock();
        let driver = objects.drivers.get(&handle).map(|driver| driver.id);
        driver.or_else(|| objects.generic.get(&handle).copied()).map(|driver| (None, driver))
    }
}
