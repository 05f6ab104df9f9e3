//! The registry: keys with values, as far as drivers look at it.
//!
//! Names compare without case. `CurrentControlSet` is `ControlSet001`, as on a Windows that started well.

use std::collections::BTreeMap;

use ndis_sys::NTSTATUS;
use parking_lot::Mutex;

use super::{AddressMap, Machine};
use crate::objects::{Keywords, Value};

pub(crate) const STATUS_OBJECT_NAME_NOT_FOUND: NTSTATUS = 0xc000_0034_u32.cast_signed();
/// Where drivers have their keys.
pub(crate) const SERVICES: &str = r"\Registry\Machine\System\ControlSet001\Services";
/// Where network adapters have theirs.
pub(crate) const NETWORK_CLASS: &str =
    r"\Registry\Machine\System\ControlSet001\Control\Class\{4d36e972-e325-11ce-bfc1-08002be10318}";

#[derive(Default)]
struct Key {
    /// As it was spelt when it was made.
    name: String,
    values: Keywords,
    subkeys: BTreeMap<String, Key>,
}

/// The registry of a machine, and the key of each open key object.
#[derive(Default)]
pub(crate) struct Registry {
    root: Mutex<Key>,
    open: Mutex<AddressMap<String>>,
}

/// The parts of a path.
fn parts(path: &str) -> Vec<&str> {
    let parts = path.split('\\').filter(|part| !part.is_empty());
    parts
        .map(|part| if part.eq_ignore_ascii_case("CurrentControlSet") { "ControlSet001" } else { part })
        .collect()
}

impl Key {
    fn find(&self, path: &str) -> Option<&Self> {
        parts(path).into_iter().try_fold(self, |key, part| key.subkeys.get(&part.to_lowercase()))
    }

    fn find_mut(&mut self, path: &str) -> Option<&mut Self> {
        parts(path).into_iter().try_fold(self, |key, part| key.subkeys.get_mut(&part.to_lowercase()))
    }

    fn make(&mut self, path: &str) -> &mut Self {
        parts(path).into_iter().fold(self, |key, part| {
            key.subkeys
                .entry(part.to_lowercase())
                .or_insert_with(|| Self { name: part.to_owned(), ..Self::default() })
        })
    }
}

impl Registry {
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.lock().find(path).is_some()
    }

    pub(crate) fn create(&self, path: &str) {
        self.root.lock().make(path);
    }

    pub(crate) fn set(&self, path: &str, name: &str, value: Value) {
        self.root.lock().make(path).values.set(name, value);
    }

    pub(crate) fn get(&self, path: &str, name: &str) -> Option<Value> {
        self.root.lock().find(path)?.values.get(name).cloned()
    }

    pub(crate) fn values(&self, path: &str) -> Vec<(String, Value)> {
        let root = self.root.lock();
        let values = root.find(path).map(|key| key.values.iter());
        values.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    pub(crate) fn subkeys(&self, path: &str) -> Vec<String> {
        let root = self.root.lock();
        let keys = root.find(path).map(|key| key.subkeys.values());
        keys.into_iter().flatten().map(|key| key.name.clone()).collect()
    }

    /// Removes a value; `false` if there is none.
    pub(crate) fn remove_value(&self, path: &str, name: &str) -> bool {
        let mut root = self.root.lock();
        let Some(key) = root.find_mut(path) else { return false };
        let there = key.values.get(name).is_some();
        key.values.remove(name);
        there
    }

    /// Removes a key that has no subkeys; `false` if it has, or is not there.
    pub(crate) fn remove(&self, path: &str) -> bool {
        let parts = parts(path);
        let Some((last, before)) = parts.split_last() else { return false };
        let mut root = self.root.lock();
        let Some(parent) = root.find_mut(&before.join("\\")) else { return false };
        let last = last.to_lowercase();
        if parent.subkeys.get(&last).is_none_or(|key| !key.subkeys.is_empty()) {
            return false;
        }
        parent.subkeys.remove(&last).is_some()
    }

    /// The path of an open key object.
    pub(crate) fn path_of(&self, object: usize) -> Option<String> {
        self.open.lock().get(&object).cloned()
    }

    pub(crate) fn remember(&self, object: usize, path: String) {
        self.open.lock().insert(object, path);
    }

    /// What every Windows has.
    pub(crate) fn fill(&self, build: u32) {
        let version = r"\Registry\Machine\Software\Microsoft\Windows NT\CurrentVersion";
        self.set(version, "CurrentVersion", Value::Text("6.3".into()));
        self.set(version, "CurrentBuildNumber", Value::Text(build.to_string()));
        self.set(version, "ProductName", Value::Text("Windows 10 Pro".into()));
        self.create(SERVICES);
        self.create(NETWORK_CLASS);
    }
}

impl Machine {
    /// A driver was loaded: its service's key.
    pub(crate) fn register_service(&self, name: &str) {
        let path = format!(r"{SERVICES}\{name}");
        // SERVICE_KERNEL_DRIVER, started on demand, with a failure logged.
        for (value, number) in [("Type", 1), ("Start", 3), ("ErrorControl", 1)] {
            if self.registry.get(&path, value).is_none() {
                self.registry.set(&path, value, Value::Dword(number));
            }
        }
        let image = format!(r"\SystemRoot\System32\drivers\{name}.sys");
        self.registry.set(&path, "ImagePath", Value::Text(image));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_the_control_set_is_the_current_one() {
        let registry = Registry::default();
        registry.fill(19045);
        registry.set(r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\Nic", "A", Value::Dword(7));
        let path = r"\REGISTRY\MACHINE\System\ControlSet001\services\nic";
        assert_eq!(registry.get(path, "a"), Some(Value::Dword(7)));
        assert_eq!(registry.subkeys(SERVICES), ["Nic"]);
        assert!(!registry.remove(SERVICES), "a key with subkeys");
        assert!(registry.remove_value(path, "A") && !registry.remove_value(path, "A"));
        assert!(registry.remove(path) && !registry.exists(path));
    }
}
