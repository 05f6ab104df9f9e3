//! The census: what a driver holds at this moment.

use std::fmt;

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
        let place = |origin: &Origin| {
            let place = origin.stack.and_then(CallStack::place);
            place.map_or_else(String::new, |place| format!(", from {place}"))
        };
        self.entries().into_iter().map(|(text, origin)| text + &place(&origin)).collect()
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
