//! NET_BUFFER_LIST, NET_BUFFER and MDL: pools, allocation as NDIS does it, and a record of each.
//!
//! Layouts are those of NDIS 6.30 on x64: a list has 336 bytes, a buffer 176, an MDL header 48 and
//! eight bytes per page behind it. What is freed is poisoned and kept from reuse for a while.

use std::collections::VecDeque;

use ndis_sys::{MDL, NDIS_HANDLE, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT};
use parking_lot::Mutex;

use crate::adapter::AdapterId;
use crate::machine::{AddressMap, HandleKind, Machine, Origin, guard};
use crate::rules;

mod handover;
mod mdl;
mod memory;

pub(crate) use mdl::{gather, locate, mdl_bytes, write_mdl};
pub(crate) use memory::Memory;

/// How many freed structures of each kind are kept from reuse.
const QUARANTINE: usize = 512;

/// Bytes of a NET_BUFFER_LIST: `ndis-sys` has that of NDIS 6.30, and later versions have some more slots of
/// out-of-band data, up to this size; a driver of such a version reads and copies them.
pub(crate) const LIST_BYTES: usize = size_of::<NET_BUFFER_LIST>() + 64;

/// What a pool was created with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolParameters {
    pub(crate) allocate_buffer: bool,
    pub(crate) context_size: u16,
    pub(crate) data_size: u32,
}

struct Pool {
    parameters: PoolParameters,
    outstanding: usize,
    adapter: Option<AdapterId>,
    origin: Origin,
}

/// Who may touch a NET_BUFFER_LIST of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The driver that allocated it.
    Driver,
    /// NDIS and what lies above, until it is returned.
    Indicated(AdapterId),
}

struct ListRecord {
    memory: Memory,
    pool: usize,
    with_buffer: bool,
    owner: Owner,
    /// While NDIS owns it.
    away: Option<handover::Away>,
    origin: Origin,
}

struct BufferRecord {
    memory: Option<Memory>,
    pool: usize,
    /// Data that NDIS attached, and its MDL.
    data: Option<(Memory, usize)>,
    origin: Origin,
}

struct MdlRecord {
    memory: Memory,
    address: usize,
    by: &'static str,
    origin: Origin,
}

#[derive(Default)]
struct Tables {
    /// Pools of the lab's own, for clones whose driver names none: of lists and of buffers, 0 before their use.
    internal: [usize; 2],
    list_pools: AddressMap<Pool>,
    buffer_pools: AddressMap<Pool>,
    lists: AddressMap<ListRecord>,
    buffers: AddressMap<BufferRecord>,
    mdls: AddressMap<MdlRecord>,
    quarantine: VecDeque<(Memory, &'static str)>,
}

/// All packets of the driver.
#[derive(Default)]
pub(crate) struct Packets(Mutex<Tables>);

/// What is alive, for the census.
#[derive(Debug, Clone, Default)]
pub(crate) struct PacketCensus {
    pub(crate) list_pools: Vec<(Option<AdapterId>, Origin)>,
    pub(crate) buffer_pools: Vec<(Option<AdapterId>, Origin)>,
    pub(crate) lists: Vec<(usize, Origin)>,
    pub(crate) buffers: Vec<(usize, Origin)>,
    pub(crate) mdls: Vec<(usize, Origin)>,
}

impl Packets {
    pub(crate) fn census(&self) -> PacketCensus {
        let tables = self.0.lock();
        let pools = |pools: &AddressMap<Pool>| {
            let own = |handle: &usize| tables.internal.contains(handle);
            pools.iter().filter(|(handle, _)| !own(handle)).map(|(_, p)| (p.adapter, p.origin)).collect()
        };
        PacketCensus {
            list_pools: pools(&tables.list_pools),
            buffer_pools: pools(&tables.buffer_pools),
            lists: tables.lists.iter().map(|(a, r)| (*a, r.origin)).collect(),
            buffers: tables
                .buffers
                .iter()
                .filter(|(_, r)| r.memory.is_some())
                .map(|(a, r)| (*a, r.origin))
                .collect(),
            mdls: tables.mdls.iter().map(|(a, r)| (*a, r.origin)).collect(),
        }
    }

    /// Who may touch a list; `None` if it is no list that lives.
    pub(crate) fn owner(&self, list: usize) -> Option<Owner> {
        self.0.lock().lists.get(&list).map(|record| record.owner)
    }

    pub(crate) fn is_buffer(&self, buffer: usize) -> bool {
        self.0.lock().buffers.contains_key(&buffer)
    }

    pub(crate) fn is_mdl(&self, mdl: usize) -> bool {
        self.0.lock().mdls.contains_key(&mdl)
    }
}

/// Puts memory into quarantine; gives back what leaves it.
fn retire(tables: &mut Tables, memory: Memory, what: &'static str) -> Option<(Memory, &'static str)> {
    memory.poison(rules::NBL_USE_AFTER_FREE);
    tables.quarantine.push_back((memory, what));
    if tables.quarantine.len() > QUARANTINE { tables.quarantine.pop_front() } else { None }
}

impl Machine {
    fn check_retired(&self, retired: Option<(Memory, &'static str)>) {
        if let Some((memory, what)) = retired
            && !memory.intact()
        {
            let detail = format!("{what} {:#x} was written after it was freed", memory.address());
            self.violate_past(None, rules::NBL_USE_AFTER_FREE, detail, &memory.past("freed"));
        }
    }

    /// Looks at everything that was freed recently.
    pub(crate) fn sweep_packets(&self) {
        let retired: Vec<_> = std::mem::take(&mut self.packets.0.lock().quarantine).into();
        for entry in retired {
            self.check_retired(Some(entry));
        }
    }

    pub(crate) fn create_list_pool(&self, parameters: PoolParameters, adapter: Option<AdapterId>) -> usize {
        let handle = self.handle(HandleKind::ListPool);
        let origin = Origin::made_with(adapter);
        let pool = Pool { parameters, outstanding: 0, adapter, origin };
        self.packets.0.lock().list_pools.insert(handle, pool);
        handle
    }

    pub(crate) fn create_buffer_pool(&self, data_size: u32, adapter: Option<AdapterId>) -> usize {
        let handle = self.handle(HandleKind::BufferPool);
        let parameters = PoolParameters { allocate_buffer: true, context_size: 0, data_size };
        let origin = Origin::made_with(adapter);
        let pool = Pool { parameters, outstanding: 0, adapter, origin };
        self.packets.0.lock().buffer_pools.insert(handle, pool);
        handle
    }

    /// NDIS' own pool of lists.
    pub(crate) fn internal_list_pool(&self) -> usize {
        let mut tables = self.packets.0.lock();
        if tables.internal[0] == 0 {
            let handle = self.handle(HandleKind::ListPool);
            let parameters = PoolParameters { allocate_buffer: false, context_size: 0, data_size: 0 };
            let pool = Pool { parameters, outstanding: 0, adapter: None, origin: Origin::default() };
            tables.list_pools.insert(handle, pool);
            tables.internal[0] = handle;
        }
        tables.internal[0]
    }

    /// NDIS' own pool of buffers.
    pub(crate) fn internal_buffer_pool(&self) -> usize {
        let mut tables = self.packets.0.lock();
        if tables.internal[1] == 0 {
            let handle = self.handle(HandleKind::BufferPool);
            let parameters = PoolParameters { allocate_buffer: true, context_size: 0, data_size: 0 };
            let pool = Pool { parameters, outstanding: 0, adapter: None, origin: Origin::default() };
            tables.buffer_pools.insert(handle, pool);
            tables.internal[1] = handle;
        }
        tables.internal[1]
    }

    pub(crate) fn free_packet_pool(&self, handle: usize, lists: bool) {
        let mut tables = self.packets.0.lock();
        let pools = if lists { &mut tables.list_pools } else { &mut tables.buffer_pools };
        let pool = pools.remove(&handle);
        drop(tables);
        match pool {
            None => self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no pool")),
            Some(pool) if pool.outstanding > 0 => {
                let text = format!("pool {handle:#x} is freed with {} left", pool.outstanding);
                self.violate_past(None, rules::NBL_POOL, text, &[("created", pool.origin)]);
            }
            Some(_) => {}
        }
    }

    /// Allocates a list, with its first buffer when `data` says over which MDLs: (chain, offset,
    /// length). `need_buffer`: whether the function attaches one.
    pub(crate) fn allocate_list(
        &self,
        pool: usize,
        context_size: u16,
        backfill: u16,
        data: Option<(*mut MDL, u32, usize)>,
    ) -> *mut NET_BUFFER_LIST {
        let null = std::ptr::null_mut();
        let Some(parameters) = self.packets.0.lock().list_pools.get(&pool).map(|p| p.parameters) else {
            self.violate(rules::HANDLE_UNKNOWN, format!("{pool:#x} is no NET_BUFFER_LIST pool"));
            return null;
        };
        if data.is_some() && !parameters.allocate_buffer {
            self.violate(rules::NBL_POOL, "the pool was created without fAllocateNetBuffer");
            return null;
        }
        if !(context_size + backfill).is_multiple_of(16) {
            self.violate(rules::NBL_POOL, format!("context of {context_size} + {backfill} bytes"));
        }
        if self.fault(size_of::<NET_BUFFER_LIST>(), 0) {
            return null;
        }
        let context = match (context_size, backfill) {
            (0, 0) => parameters.context_size,
            (size, backfill) => size.saturating_add(backfill),
        };
        let list_size = LIST_BYTES;
        let buffer_size = if data.is_some() { size_of::<NET_BUFFER>() } else { 0 };
        let context_bytes =
            if context == 0 { 0 } else { size_of::<NET_BUFFER_LIST_CONTEXT>() + usize::from(context) };
        let Some(memory) = Memory::guarded(self, list_size + buffer_size + context_bytes, "NET_BUFFER_LIST")
        else {
            return null;
        };
        let list: *mut NET_BUFFER_LIST = memory.at(0);
        let buffer: *mut NET_BUFFER = if data.is_some() { memory.at(list_size) } else { null.cast() };
        // SAFETY: all of it lies in the zeroed memory that was just made, at the offsets above.
        unsafe {
            (*list).NdisPoolHandle = pool as NDIS_HANDLE;
            (*list).FirstNetBuffer = buffer;
            if context > 0 {
                let header: *mut NET_BUFFER_LIST_CONTEXT = memory.at(list_size + buffer_size);
                (*header).Size = context;
                (*header).Offset = backfill;
                (*list).Context = header;
            }
        }
        let mut attached = None;
        if let Some((chain, offset, length)) = data {
            // SAFETY: the buffer lies in our memory; the driver vouches for the chain.
            match unsafe { self.fill_buffer(buffer, pool, parameters.data_size, chain, offset, length) } {
                Ok(own) => attached = own,
                Err(()) => return null,
            }
        }
        let origin = Origin::here();
        let mut tables = self.packets.0.lock();
        if let Some(pool) = tables.list_pools.get_mut(&pool) {
            pool.outstanding += 1;
        }
        if data.is_some() {
            tables
                .buffers
                .insert(buffer as usize, BufferRecord { memory: None, pool, data: attached, origin });
        }
        let with_buffer = data.is_some();
        let record = ListRecord { memory, pool, with_buffer, owner: Owner::Driver, away: None, origin };
        tables.lists.insert(list as usize, record);
        list
    }

    /// Points a buffer at its data. Attaches data of the pool when the caller gave none.
    ///
    /// # Safety
    /// `buffer` is a zeroed NET_BUFFER, `chain` null or a chain of MDLs.
    unsafe fn fill_buffer(
        &self,
        buffer: *mut NET_BUFFER,
        pool: usize,
        data_size: u32,
        chain: *mut MDL,
        offset: u32,
        length: usize,
    ) -> Result<Option<(Memory, usize)>, ()> {
        let mut attached = None;
        let mut chain = chain;
        if chain.is_null() && data_size > 0 {
            let memory = Memory::guarded(self, data_size as usize, "data of a NET_BUFFER").ok_or(())?;
            chain = self.allocate_mdl(memory.address(), data_size, "NDIS", true);
            if chain.is_null() {
                return Err(());
            }
            attached = Some((memory, chain as usize));
        }
        // SAFETY: the caller vouches for the buffer and the chain.
        unsafe {
            (*buffer).NdisPoolHandle = pool as NDIS_HANDLE;
            (*buffer).MdlChain = chain;
            (*buffer).DataOffset = offset;
            (*buffer).DataLength = u32::try_from(length).unwrap_or(u32::MAX);
            if let Some((mdl, within)) = locate(chain, offset) {
                (*buffer).CurrentMdl = mdl;
                (*buffer).CurrentMdlOffset = within;
            } else {
                self.violate(rules::MDL_CHAIN, format!("DataOffset {offset} lies behind the MDL chain"));
            }
        }
        Ok(attached)
    }

    pub(crate) fn free_list(&self, list: *mut NET_BUFFER_LIST) {
        let address = list as usize;
        let mut tables = self.packets.0.lock();
        let Some(record) = tables.lists.get(&address) else {
            let freed = tables.quarantine.iter().rev().find(|(memory, _)| memory.address() == address);
            let past = freed.map(|(memory, _)| memory.past("freed"));
            drop(tables);
            let (rule, text) = match &past {
                Some(_) => (rules::NBL_DOUBLE_FREE, format!("NET_BUFFER_LIST {address:#x} was freed before")),
                None => (rules::NBL_UNKNOWN, format!("NET_BUFFER_LIST {address:#x} comes from no pool")),
            };
            let found =
                guard::explain_gone(address).map(|(rule, text, gone)| (rule, text, guard::given_away(gone)));
            let (rule, text, past) =
                found.filter(|_| past.is_none()).unwrap_or((rule, text, past.unwrap_or_default()));
            self.violate_past(None, rule, text, &past);
            return;
        };
        if let Owner::Indicated(adapter) = record.owner {
            let past: Vec<_> = record.away.iter().map(|away| ("indicated", away.gone())).collect();
            drop(tables);
            let text = format!("NET_BUFFER_LIST {address:#x} is indicated by {adapter}");
            self.violate_past(None, rules::NBL_IN_USE, text, &past);
            return;
        }
        let Some(record) = tables.lists.remove(&address) else { return };
        if let Some(pool) = tables.list_pools.get_mut(&record.pool) {
            pool.outstanding -= 1;
        }
        let mut data = None;
        if record.with_buffer {
            let buffer = address + LIST_BYTES;
            data = tables.buffers.remove(&buffer).and_then(|buffer| buffer.data);
        }
        let retired = retire(&mut tables, record.memory, "NET_BUFFER_LIST");
        drop(tables);
        self.check_retired(retired);
        self.free_attached(data);
    }

    fn free_attached(&self, data: Option<(Memory, usize)>) {
        if let Some((memory, mdl)) = data {
            self.free_mdl(mdl as *mut MDL, "NDIS");
            let retired = retire(&mut self.packets.0.lock(), memory, "data of a NET_BUFFER");
            self.check_retired(retired);
        }
    }

    pub(crate) fn allocate_buffer(
        &self,
        pool: usize,
        chain: *mut MDL,
        offset: u32,
        length: usize,
    ) -> *mut NET_BUFFER {
        let null = std::ptr::null_mut();
        let Some(parameters) = self.packets.0.lock().buffer_pools.get(&pool).map(|p| p.parameters) else {
            self.violate(rules::HANDLE_UNKNOWN, format!("{pool:#x} is no NET_BUFFER pool"));
            return null;
        };
        if self.fault(size_of::<NET_BUFFER>(), 0) {
            return null;
        }
        let Some(memory) = Memory::guarded(self, size_of::<NET_BUFFER>(), "NET_BUFFER") else { return null };
        let buffer: *mut NET_BUFFER = memory.at(0);
        // SAFETY: the buffer is our zeroed memory; the driver vouches for the chain.
        let Ok(data) =
            (unsafe { self.fill_buffer(buffer, pool, parameters.data_size, chain, offset, length) })
        else {
            return null;
        };
        let record = BufferRecord { memory: Some(memory), pool, data, origin: Origin::here() };
        let mut tables = self.packets.0.lock();
        if let Some(pool) = tables.buffer_pools.get_mut(&pool) {
            pool.outstanding += 1;
        }
        tables.buffers.insert(buffer as usize, record);
        buffer
    }

    pub(crate) fn free_buffer(&self, buffer: *mut NET_BUFFER) {
        let address = buffer as usize;
        let mut tables = self.packets.0.lock();
        let whole = tables.buffers.get(&address).is_some_and(|record| record.memory.is_some());
        if !whole {
            drop(tables);
            self.violate(
                rules::NBL_DOUBLE_FREE,
                format!("NET_BUFFER {address:#x} was not allocated by itself, or freed before"),
            );
            return;
        }
        let Some(record) = tables.buffers.remove(&address) else { return };
        if let Some(pool) = tables.buffer_pools.get_mut(&record.pool) {
            pool.outstanding -= 1;
        }
        let retired = record.memory.and_then(|memory| retire(&mut tables, memory, "NET_BUFFER"));
        drop(tables);
        self.check_retired(retired);
        self.free_attached(record.data);
    }
}
