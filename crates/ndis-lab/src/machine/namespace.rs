//! Names of devices and symbolic links, and the devices that drivers make besides those of their adapters.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndis_sys::NTSTATUS;

use super::io::{Device, Io, Made};
use super::{AddressMap, Machine, Origin};
use crate::driver::DriverCore;
use crate::rules;

pub(crate) const STATUS_OBJECT_NAME_COLLISION: NTSTATUS = 0xc000_0035_u32.cast_signed();
const STATUS_OBJECT_NAME_NOT_FOUND: NTSTATUS = 0xc000_0034_u32.cast_signed();
const STATUS_OBJECT_PATH_SYNTAX_BAD: NTSTATUS = 0xc000_003b_u32.cast_signed();
const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = 0xc000_009a_u32.cast_signed();
/// Where symbolic links lead at most.
const MAX_LINKS: usize = 8;

struct Entry {
    device: Arc<Device>,
    name: Option<String>,
    origin: Origin,
}

/// What has a name.
#[derive(Default)]
pub(super) struct Namespace {
    /// Devices that drivers made, by address.
    devices: AddressMap<Entry>,
    /// Their names, in lower case, and what they are called really.
    names: BTreeMap<String, usize>,
    /// Symbolic links: the name as it was given, where it leads, and who made it.
    links: BTreeMap<String, (String, String, Origin)>,
}

/// A name as the tables have it: names compare without case, and there is one directory of links.
fn key(name: &str) -> String {
    let name = name.to_lowercase();
    for prefix in [r"\\.\", r"\??\", r"\global??\", r"\dosdevices\global\"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return format!(r"\dosdevices\{rest}");
        }
    }
    name
}

impl Io {
    pub(crate) fn census(&self) -> Vec<Origin> {
        let namespace = self.namespace.lock();
        let devices = namespace.devices.values().map(|entry| entry.origin);
        devices.chain(namespace.links.values().map(|(.., origin)| *origin)).collect()
    }

    /// The devices that drivers made: their names, and the links that lead to them.
    pub(crate) fn names(&self) -> Vec<(String, Vec<String>)> {
        let namespace = self.namespace.lock();
        let named = namespace.devices.values().map(|entry| {
            let name = entry.name.clone().unwrap_or_default();
            let leads = |target: &str| !name.is_empty() && key(target) == key(&name);
            let links = namespace.links.values().filter(|(_, target, _)| leads(target));
            (name.clone(), links.map(|(link, ..)| link.clone()).collect())
        });
        let mut all: Vec<(String, Vec<String>)> = named.collect();
        all.sort();
        all
    }

    /// The name of a device that a driver made.
    pub(super) fn device_name(&self, address: usize) -> Option<String> {
        self.namespace.lock().devices.get(&address)?.name.clone()
    }

    /// The device of a name, through symbolic links.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Device>> {
        let namespace = self.namespace.lock();
        let mut at = key(name);
        for _ in 0..MAX_LINKS {
            if let Some(address) = namespace.names.get(&at) {
                return namespace.devices.get(address).map(|entry| entry.device.clone());
            }
            at = key(&namespace.links.get(&at)?.1);
        }
        None
    }

    /// Makes what DriverEntry of this driver made ready to be opened.
    pub(crate) fn initialized(&self, driver: u32) {
        for entry in self.namespace.lock().devices.values().filter(|entry| entry.device.driver.id == driver) {
            entry.device.initialized();
        }
    }
}

impl Machine {
    /// The driver of a DRIVER_OBJECT.
    pub(crate) fn driver_of_object(&self, object: usize) -> Option<Arc<DriverCore>> {
        self.objects.lock().drivers.values().find(|core| core.object() == object).cloned()
    }

    /// Makes a device, with a name or without.
    pub(crate) fn create_device(
        &self,
        driver: Arc<DriverCore>,
        name: Option<String>,
        made: &Made,
    ) -> Result<usize, NTSTATUS> {
        if let Some(name) = &name {
            if !name.starts_with('\\') {
                return Err(STATUS_OBJECT_PATH_SYNTAX_BAD);
            }
            if self.io.namespace.lock().names.contains_key(&key(name)) {
                return Err(STATUS_OBJECT_NAME_COLLISION);
            }
        }
        if self.fault(0, 0) {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        let device = Device::made(self, driver, made).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        let address = device.address();
        let mut namespace = self.io.namespace.lock();
        if let Some(name) = &name {
            namespace.names.insert(key(name), address);
        }
        namespace.devices.insert(address, Entry { device, name, origin: Origin::here() });
        Ok(address)
    }

    /// Whether this is a device that a driver made.
    pub(crate) fn is_made_device(&self, address: usize) -> bool {
        self.io.namespace.lock().devices.contains_key(&address)
    }

    /// The driver and the adapter of a device object, an adapter's or one that a driver made.
    pub(crate) fn device_owner(&self, address: usize) -> Option<(u32, Option<crate::adapter::AdapterId>)> {
        if let Some(entry) = self.io.namespace.lock().devices.get(&address) {
            return Some((entry.device.driver.id, None));
        }
        let adapters: Vec<_> = self.adapters.read().values().cloned().collect();
        adapters.into_iter().find_map(|adapter| {
            let device = adapter.device()?;
            let mine = device.address() == address || device.physical() == address;
            mine.then_some((adapter.driver.id, Some(adapter.id)))
        })
    }

    /// Deletes a device that a driver made. Files that are open on it keep its memory.
    pub(crate) fn delete_device(&self, address: usize) {
        let mut namespace = self.io.namespace.lock();
        let Some(entry) = namespace.devices.remove(&address) else {
            drop(namespace);
            self.violate(
                rules::DEVICE_USE,
                format!("{address:#x} is no device that the driver made, or was deleted"),
            );
            return;
        };
        if let Some(name) = &entry.name {
            namespace.names.remove(&key(name));
        }
        drop(namespace);
        entry.device.driver.remove_device(address);
        if Arc::strong_count(&entry.device) == 1 {
            entry.device.poison();
        }
        self.io.keep(entry.device);
    }

    /// Makes a symbolic link.
    pub(crate) fn create_link(&self, link: &str, target: &str) -> NTSTATUS {
        if !link.starts_with('\\') || !target.starts_with('\\') {
            return STATUS_OBJECT_PATH_SYNTAX_BAD;
        }
        let found = self.io.namespace.lock().links.contains_key(&key(link));
        if found {
            return STATUS_OBJECT_NAME_COLLISION;
        }
        if self.fault(0, 0) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        let entry = (link.to_owned(), target.to_owned(), Origin::here());
        self.io.namespace.lock().links.insert(key(link), entry);
        0
    }

    /// Removes a symbolic link.
    pub(crate) fn delete_link(&self, link: &str) -> NTSTATUS {
        let removed = self.io.namespace.lock().links.remove(&key(link));
        if removed.is_some() { 0 } else { STATUS_OBJECT_NAME_NOT_FOUND }
    }
}
