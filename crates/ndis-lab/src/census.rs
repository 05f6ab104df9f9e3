//! The census: what a driver holds at this moment.

use std::collections::HashMap;
use std::{fmt, iter};

use crate::adapter::AdapterId;
use crate::machine::pool::PoolBlock;
use crate::machine::{Machine, Origin};
use crate::symbols::CallStack;

/// One object that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The adapter whose handle it was made with, if any.
    pub adapter: Option<AdapterId>,
    /// Who made it.
    pub origin: Origin,
}

/// What lives in the machine on behalf of its drivers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Pool memory.
    pub pool: Vec<PoolBlock>,
    /// NET_BUFFER_LIST pools.
    pub list_pools: Vec<Item>,
    /// NET_BUFFER pools.
    pub buffer_pools: Vec<Item>,
    /// NET_BUFFER_LISTs of the driver.
    pub lists: Vec<Item>,
    /// NET_BUFFERs allocated by themselves.
    pub buffers: Vec<Item>,
    /// MDLs.
    pub mdls: Vec<Item>,
    /// Configuration handles.
    pub configurations: Vec<Item>,
    /// Timer objects.
    pub timers: Vec<Item>,
    /// Work items.
    pub work_items: Vec<Item>,
    /// DPCs that wait.
    pub dpcs: Vec<Item>,
    /// Reader-writer locks.
    pub locks: Vec<Item>,
    /// References that the driver took of objects.
    pub references: Vec<Item>,
    /// Kernel handles that the driver opened.
    pub handles: Vec<Item>,
    /// Subject contexts that it captured.
    pub subjects: Vec<Item>,
    /// Process notification routines that it registered.
    pub routines: Vec<Item>,
    /// ERESOURCEs that it initialised.
    pub resources: Vec<Item>,
    /// Lookaside lists that it initialised.
    pub lookasides: Vec<Item>,
    /// What it registered to be called back: ETW providers, callbacks.
    pub callbacks: Vec<Item>,
    /// Device objects and symbolic links that it made.
    pub devices: Vec<Item>,
    /// MDLs whose pages it locked.
    pub locked: Vec<Item>,
    /// OID requests that the driver has not completed.
    pub oids: Vec<Item>,
    /// Sends that the driver has not completed.
    pub sends: Vec<Item>,
    /// Receives that were not returned to the driver.
    pub receives: Vec<Item>,
}

impl Census {
    pub(crate) fn take(machine: &Machine) -> Self {
        let item = |(adapter, origin): (Option<AdapterId>, Origin)| Item { adapter, origin };
        let own = |origin: Origin| Item { adapter: None, origin };
        let packets = machine.packets.census();
        let adapters: Vec<_> = machine.adapters.read().values().cloned().collect();
        let holdings = machine.ob.holdings(machine);
        let all = |origins: Vec<Origin>| origins.into_iter().map(own).collect();
        let objects = machine.objects.lock();
        let held = |count: usize, adapter: &crate::adapter::AdapterCore, what: &'static str| {
            let origin = Origin {
                function: what,
                handler: "NDIS",
                driver: adapter.driver.id,
                adapter: Some(adapter.id),
                stack: None,
            };
            vec![Item { adapter: Some(adapter.id), origin }; count]
        };
        Self {
            pool: machine.pool.census(),
            list_pools: packets.list_pools.into_iter().map(item).collect(),
            buffer_pools: packets.buffer_pools.into_iter().map(item).collect(),
            lists: packets.lists.into_iter().map(|(_, origin)| own(origin)).collect(),
            buffers: packets.buffers.into_iter().map(|(_, origin)| own(origin)).collect(),
            mdls: packets.mdls.into_iter().map(|(_, origin)| own(origin)).collect(),
            configurations: objects
                .configurations
                .values()
                .map(|c| item((Some(c.adapter), c.origin)))
                .collect(),
            timers: machine.work.timers().into_iter().map(item).collect(),
            work_items: machine.work.items().into_iter().map(item).collect(),
            dpcs: machine.dpcs.waiting().into_iter().map(|(_, origin)| own(origin)).collect(),
            locks: all(machine.locks.census()),
            references: all(holdings.references),
            handles: all(holdings.handles),
            subjects: all(holdings.subjects),
            routines: all(holdings.routines),
            resources: all(holdings.resources),
            lookasides: all(machine.lookasides.census()),
            callbacks: all(machine.callbacks.lock().values().map(|(_, origin)| *origin).collect()),
            devices: all(machine.io.census()),
            locked: all(machine.users.census()),
            oids: adapters.iter().flat_map(|a| held(a.oids.outstanding(), a, "an OID request")).collect(),
            sends: adapters.iter().flat_map(|a| held(a.sends.outstanding(), a, "a send")).collect(),
            receives: adapters.iter().flat_map(|a| held(a.receives.outstanding(), a, "a receive")).collect(),
        }
    }

    fn kinds(&self) -> [(&'static str, &Vec<Item>); 22] {
        [
            ("NET_BUFFER_LIST pool", &self.list_pools),
            ("NET_BUFFER pool", &self.buffer_pools),
            ("NET_BUFFER_LIST", &self.lists),
            ("NET_BUFFER", &self.buffers),
            ("MDL", &self.mdls),
            ("configuration handle", &self.configurations),
            ("timer", &self.timers),
            ("work item", &self.work_items),
            ("queued DPC", &self.dpcs),
            ("reader-writer lock", &self.locks),
            ("object reference", &self.references),
            ("kernel handle", &self.handles),
            ("subject context", &self.subjects),
            ("process notification", &self.routines),
            ("ERESOURCE", &self.resources),
            ("lookaside list", &self.lookasides),
            ("registration", &self.callbacks),
            ("device or symbolic link", &self.devices),
            ("MDL with locked pages", &self.locked),
            ("pending OID request", &self.oids),
            ("pending send", &self.sends),
            ("receive not returned", &self.receives),
        ]
    }

    fn kinds_mut(&mut self) -> [&mut Vec<Item>; 22] {
        [
            &mut self.list_pools,
            &mut self.buffer_pools,
            &mut self.lists,
            &mut self.buffers,
            &mut self.mdls,
            &mut self.configurations,
            &mut self.timers,
            &mut self.work_items,
            &mut self.dpcs,
            &mut self.locks,
            &mut self.references,
            &mut self.handles,
            &mut self.subjects,
            &mut self.routines,
            &mut self.resources,
            &mut self.lookasides,
            &mut self.callbacks,
            &mut self.devices,
            &mut self.locked,
            &mut self.oids,
            &mut self.sends,
            &mut self.receives,
        ]
    }

    /// Only what one driver holds.
    pub(crate) fn of_driver(mut self, driver: u32) -> Self {
        self.pool.retain(|block| block.origin.driver == driver);
        for items in self.kinds_mut() {
            items.retain(|item| item.origin.driver == driver);
        }
        self
    }

    /// Only what was made with the handle of one adapter, or while a handler ran for it; without
    /// pool memory, devices, registrations and lookaside lists, which may belong to the driver as a whole.
    pub(crate) fn of_adapter(mut self, adapter: AdapterId) -> Self {
        self.pool.clear();
        for shared in [&mut self.devices, &mut self.callbacks, &mut self.lookasides] {
            shared.clear();
        }
        for items in self.kinds_mut() {
            items.retain(|item| item.adapter.or(item.origin.adapter) == Some(adapter));
        }
        self
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty() && self.kinds().iter().all(|(_, items)| items.is_empty())
    }

    /// Bytes of pool memory.
    pub fn pool_bytes(&self) -> usize {
        self.pool.iter().map(|block| block.size).sum()
    }

    /// One line for each object, with the place in the driver's source that made it.
    pub fn lines(&self) -> Vec<String> {
        self.entries().into_iter().map(|(text, origin)| text + &place(&origin)).collect()
    }

    /// As [`lines`](Self::lines), but one line for all that are alike: of one kind and size, made at one place.
    pub fn grouped(&self) -> Vec<String> {
        let mut groups: Vec<(String, String, usize)> = Vec::new();
        let mut known = HashMap::new();
        let sizes = self.pool.iter().map(|block| format!("{} {:?}", block.size, block.tag));
        for ((text, origin), size) in
            self.entries().into_iter().zip(sizes.map(Some).chain(iter::repeat(None)))
        {
            let place = place(&origin);
            // A pool block's own words have its address.
            let alike = size.map_or_else(|| text.clone(), |size| format!("{size} {origin}")) + &place;
            let at = *known.entry(alike).or_insert_with(|| {
                groups.push((text, place, 0));
                groups.len() - 1
            });
            groups[at].2 += 1;
        }
        let line = |(text, place, count): (String, String, usize)| match count {
            1 => text + &place,
            count => format!("{text}{place}, and {} more like it", count - 1),
        };
        groups.into_iter().map(line).collect()
    }

    /// Each object in words, and who made it.
    pub(crate) fn entries(&self) -> Vec<(String, Origin)> {
        let blocks = self.pool.iter().map(|block| (format!("pool: {block}"), block.origin));
        let items = self.kinds().into_iter().flat_map(|(kind, items)| {
            items.iter().map(move |item| (format!("{kind}, {}", item.origin), item.origin))
        });
        blocks.chain(items).collect()
    }
}

/// Where in the driver's source something was made, in words.
fn place(origin: &Origin) -> String {
    let place = origin.stack.and_then(CallStack::place);
    place.map_or_else(String::new, |place| format!(", from {place}"))
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing is left");
        }
        let mut parts = Vec::new();
        if !self.pool.is_empty() {
            parts.push(format!("{} pool blocks ({} bytes)", self.pool.len(), self.pool_bytes()));
        }
        for (kind, items) in self.kinds() {
            match items.len() {
                0 => {}
                1 => parts.push(format!("1 {kind}")),
                count => parts.push(format!("{count} {kind}s")),
            }
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::pool::PoolKind;

    fn origin(function: &'static str, handler: &'static str) -> Origin {
        Origin { function, handler, driver: 1, adapter: None, stack: None }
    }

    #[test]
    fn what_is_alike_is_told_once() {
        let block = |address, size, handler| PoolBlock {
            address,
            size,
            tag: u32::from_le_bytes(*b"Test"),
            kind: PoolKind::NonPaged,
            origin: origin("ExAllocatePool2", handler),
        };
        let mdl = Item { adapter: None, origin: origin("NdisAllocateMdl", "MiniportInitializeEx") };
        let census = Census {
            pool: vec![
                block(0x1000, 64, "DriverEntry"),
                block(0x2000, 64, "MiniportInitializeEx"),
                block(0x3000, 64, "DriverEntry"),
                block(0x4000, 65, "DriverEntry"),
            ],
            mdls: vec![mdl.clone(), mdl.clone(), mdl],
            ..Census::default()
        };
        assert_eq!(census.lines().len(), 7);
        let grouped = census.grouped();
        let starts =
            ["pool: 64 bytes at 0x1000", "pool: 64 bytes at 0x2000", "pool: 65 bytes at 0x4000", "MDL, by"];
        let ends = [", and 1 more like it", "MiniportInitializeEx", "DriverEntry", ", and 2 more like it"];
        assert_eq!(grouped.len(), starts.len());
        for ((line, start), end) in grouped.iter().zip(starts).zip(ends) {
            assert!(line.starts_with(start) && line.ends_with(end), "{line}");
        }
    }
}
