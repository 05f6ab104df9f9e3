//! Drivers, configurations and what else the lab gives handles for.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndis_sys::NDIS_CONFIGURATION_PARAMETER;

use crate::adapter::AdapterId;
use crate::driver::DriverCore;
use crate::machine::{AddressMap, Machine, Origin};

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

/// What NdisReadConfiguration gave out: stays until the configuration is closed.
pub(crate) struct Parameter {
    /// Boxed: the driver holds its address.
    pub(crate) value: Box<NDIS_CONFIGURATION_PARAMETER>,
    /// What the value points to.
    pub(crate) _bytes: Box<[u16]>,
}

// SAFETY: the pointers in a parameter lead to its own boxed bytes.
unsafe impl Send for Parameter {}

/// An open configuration.
pub(crate) struct Configuration {
    pub(crate) adapter: AdapterId,
    /// Of a subkey, its name and a backslash; empty for the adapter's own key.
    pub(crate) path: String,
    pub(crate) keywords: Keywords,
    pub(crate) parameters: Vec<Parameter>,
    /// What NdisReadNetworkAddress gave out.
    pub(crate) addresses: Vec<Box<[u8]>>,
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
    /// Handles of adapters that were halted.
    pub(crate) halted: AddressMap<AdapterId>,
}

impl Machine {
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
