//! NET_BUFFER_LIST, NET_BUFFER and MDL: pools, allocation as NDIS does it, and a record of each.
//!
//! Layouts are those of NDIS 6.30 on x64: a list has 336 bytes, a buffer 176, an MDL header 48 and
//! eight bytes per page behind it. What is freed is poisoned and kept from reuse for a while.

use std::alloc::{self, Layout};
use std::collections::VecDeque;
use std::ptr::NonNull;

use ndis_sys::{
    MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_SOURCE_IS_NONPAGED_POOL, NDIS_HANDLE, NET_BUFFER,
    NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT, PVOID,
};
use parking_lot::Mutex;

use crate::adapter::AdapterId;
use crate::bytes::first_other;
use crate::machine::guard::{Guarded, What};
use crate::machine::{AddressMap, HandleKind, Machine, Origin};
use crate::rules;

const PAGE: usize = 4096;
const FREED: u8 = 0xdd;
/// How many freed structures of each kind are kept from reuse.
const QUARANTINE: usize = 512;

/// Zeroed memory of the lab, 16-byte aligned, that a driver is given.
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// The pages that hold it, if it has some of its own.
    pages: Option<Guarded>,
}

// SAFETY: the memory belongs to its record alone; addresses are not tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: the record is only shared for its address.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn zeroed(size: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(16), 16).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Self { start, layout, pages: None })
    }

    /// As [`Memory::zeroed`], with pages of its own on a machine that guards them; `what` names it.
    pub(crate) fn guarded(machine: &Machine, size: usize, what: &'static str) -> Option<Self> {
        let pages = if machine.options.guard { Guarded::new(size) } else { None };
        let Some(pages) = pages else { return Self::zeroed(size) };
        let layout = Layout::from_size_align(size.max(16), 16).ok()?;
        let address = pages.start() + pages.bytes() - layout.size().next_multiple_of(16);
        pages.name(What::Structure(what, address, size));
        Some(Self { start: NonNull::new(address as *mut u8)?, layout, pages: Some(pages) })
    }

    /// Keeps everyone from touching it for now, if it has pages of its own.
    pub(crate) fn close(&self, rule: &'static rules::Rule) {
        if let Some(pages) = &self.pages {
            pages.close(rule);
        }
    }

    /// Undoes [`Memory::close`].
    pub(crate) fn open(&self) {
        if let Some(pages) = &self.pages {
            pages.open();
        }
    }

    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(crate) fn at<T>(&self, offset: usize) -> *mut T {
        debug_assert!(offset + size_of::<T>() <= self.layout.size());
        // SAFETY: offsets are computed by this module, within the size it asked for.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    /// Nobody has any business with it from now on; a touch breaks `rule`.
    pub(crate) fn poison(&self, rule: &'static rules::Rule) {
        if let Some(pages) = &self.pages {
            pages.retire(rule);
            return;
        }
        // SAFETY: the whole of the allocation, which nobody reads any more.
        unsafe { std::ptr::write_bytes(self.start.as_ptr(), FREED, self.layout.size()) };
    }

    pub(crate) fn intact(&self) -> bool {
        if self.pages.is_some() {
            // A touch would have trapped.
            return true;
        }
        // SAFETY: the allocation is initialised: zeroed when made, poisoned when freed.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) };
        first_other(bytes, FREED).is_none()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.pages.is_some() {
            return;
        }
        // SAFETY: allocated with this layout in `zeroed`, freed once, here.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

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

/// Fills a fresh MDL header. `mapped`: the MDL describes non-paged pool.
///
/// # Safety
/// `mdl` is writable for a whole MDL.
pub(crate) unsafe fn write_mdl(mdl: *mut MDL, address: usize, length: u32, mapped: bool) {
    let offset = address % PAGE;
    let pages = (offset + length as usize).div_ceil(PAGE);
    let size = size_of::<MDL>() + pages * size_of::<usize>();
    // SAFETY: the caller vouches for the memory.
    unsafe {
        mdl.write(MDL {
            Next: std::ptr::null_mut(),
            Size: i16::try_from(size).unwrap_or(i16::MAX),
            MdlFlags: if mapped { MDL_SOURCE_IS_NONPAGED_POOL } else { 0 },
            Process: std::ptr::null_mut(),
            MappedSystemVa: if mapped { address as PVOID } else { std::ptr::null_mut() },
            StartVa: (address - offset) as PVOID,
            ByteCount: length,
            ByteOffset: u32::try_from(offset).unwrap_or(0),
        });
    }
}

/// Bytes of an MDL that describes `length` bytes at `address`, with its page numbers.
pub(crate) fn mdl_bytes(address: usize, length: u32) -> usize {
    size_of::<MDL>() + (address % PAGE + length as usize).div_ceil(PAGE) * size_of::<usize>()
}

/// Finds the MDL that holds byte `offset` of a chain: (MDL, offset in it).
///
/// # Safety
/// `chain` is a chain of MDLs that end with a null `Next`.
pub(crate) unsafe fn locate(chain: *mut MDL, offset: u32) -> Option<(*mut MDL, u32)> {
    let (mut mdl, mut left) = (chain, offset);
    while !mdl.is_null() {
        // SAFETY: the caller vouches for the chain.
        let (count, next) = unsafe { ((*mdl).ByteCount, (*mdl).Next) };
        if left < count || (left == count && next.is_null()) {
            return Some((mdl, left));
        }
        left -= count;
        mdl = next;
    }
    (offset == 0).then_some((chain, 0))
}

/// Copies a frame out of its MDL chain; `None` when the chain is shorter than the frame says.
///
/// # Safety
/// `buffer` and its MDLs are valid, and the MDLs are mapped.
pub(crate) unsafe fn gather(buffer: *const NET_BUFFER) -> Option<Vec<u8>> {
    // SAFETY: the caller vouches for the structures.
    unsafe {
        let (mut mdl, mut offset) = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset as usize);
        let mut left = (*buffer).DataLength as usize;
        let mut frame = Vec::with_capacity(left);
        while left > 0 {
            if mdl.is_null() {
                return None;
            }
            let count = ((*mdl).ByteCount as usize).checked_sub(offset)?.min(left);
            let bytes = (*mdl).MappedSystemVa.cast::<u8>().add(offset);
            frame.extend_from_slice(std::slice::from_raw_parts(bytes, count));
            left -= count;
            offset = 0;
            mdl = (*mdl).Next;
        }
        Some(frame)
    }
}

impl Packets {
    pub(crate) fn census(&self) -> PacketCensus {
        let tables = self.0.lock();
        let pools = |pools: &AddressMap<Pool>| pools.values().map(|p| (p.adapter, p.origin)).collect();
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

    /// Changes the owner of a list.
    pub(crate) fn set_owner(&self, list: usize, owner: Owner) {
        if let Some(record) = self.0.lock().lists.get_mut(&list) {
            record.owner = owner;
        }
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
            self.violate(rules::POOL_USE_AFTER_FREE, detail);
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
        let pool = Pool { parameters, outstanding: 0, adapter, origin: Origin::here() };
        self.packets.0.lock().list_pools.insert(handle, pool);
        handle
    }

    pub(crate) fn create_buffer_pool(&self, data_size: u32, adapter: Option<AdapterId>) -> usize {
        let handle = self.handle(HandleKind::BufferPool);
        let parameters = PoolParameters { allocate_buffer: true, context_size: 0, data_size };
        let pool = Pool { parameters, outstanding: 0, adapter, origin: Origin::here() };
        self.packets.0.lock().buffer_pools.insert(handle, pool);
        handle
    }

    pub(crate) fn free_packet_pool(&self, handle: usize, lists: bool) {
        let mut tables = self.packets.0.lock();
        let pools = if lists { &mut tables.list_pools } else { &mut tables.buffer_pools };
        let pool = pools.remove(&handle);
        drop(tables);
        match pool {
            None => self.violate(rules::HANDLE_UNKNOWN, format!("{handle:#x} is no pool")),
            Some(pool) if pool.outstanding > 0 => {
                self.violate(
                    rules::NBL_POOL,
                    format!("pool {handle:#x} is freed with {} left", pool.outstanding),
                );
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
        let list_size = size_of::<NET_BUFFER_LIST>();
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
        let record = ListRecord { memory, pool, with_buffer: data.is_some(), owner: Owner::Driver, origin };
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
            let freed = tables.quarantine.iter().any(|(memory, _)| memory.address() == address);
            drop(tables);
            let (rule, what) = if freed {
                (rules::NBL_DOUBLE_FREE, "was freed before")
            } else {
                (rules::NBL_UNKNOWN, "comes from no pool")
            };
            self.violate(rule, format!("NET_BUFFER_LIST {address:#x} {what}"));
            return;
        };
        if let Owner::Indicated(adapter) = record.owner {
            drop(tables);
            self.violate(
                rules::NBL_IN_USE,
                format!("NET_BUFFER_LIST {address:#x} is indicated by {adapter}"),
            );
            return;
        }
        let Some(record) = tables.lists.remove(&address) else { return };
        if let Some(pool) = tables.list_pools.get_mut(&record.pool) {
            pool.outstanding -= 1;
        }
        let mut data = None;
        if record.with_buffer {
            let buffer = address + size_of::<NET_BUFFER_LIST>();
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

    /// Allocates an MDL; `mapped`: over non-paged memory, as NdisAllocateMdl does.
    pub(crate) fn allocate_mdl(
        &self,
        address: usize,
        length: u32,
        by: &'static str,
        mapped: bool,
    ) -> *mut MDL {
        if by != "NDIS" && self.fault(size_of::<MDL>(), 0) {
            return std::ptr::null_mut();
        }
        if mapped {
            self.check_range(address, length as usize);
        }
        let Some(memory) = Memory::guarded(self, mdl_bytes(address, length), "MDL") else {
            return std::ptr::null_mut();
        };
        let mdl: *mut MDL = memory.at(0);
        // SAFETY: the memory holds an MDL.
        unsafe { write_mdl(mdl, address, length, mapped) };
        let record = MdlRecord { memory, address, by, origin: Origin::here() };
        self.packets.0.lock().mdls.insert(mdl as usize, record);
        mdl
    }

    /// Reports bytes that lie partly or wholly in freed pool memory, or run over the end of a block.
    pub(crate) fn check_range(&self, address: usize, length: usize) {
        if length == 0 {
            return;
        }
        if let Some((block, live)) = self.pool.find(address) {
            if !live {
                self.violate(rules::MDL_MEMORY, format!("{address:#x} was freed: {block}"));
            } else if address + length > block.address + block.size {
                self.violate(
                    rules::MDL_MEMORY,
                    format!("{length} bytes at {address:#x} run over the end of {block}"),
                );
            } else if block.kind == crate::machine::pool::PoolKind::Paged {
                self.violate(rules::MDL_MEMORY, format!("{address:#x} is paged: {block}"));
            }
        }
    }

    pub(crate) fn free_mdl(&self, mdl: *mut MDL, by: &'static str) {
        let mut tables = self.packets.0.lock();
        let Some(record) = tables.mdls.remove(&(mdl as usize)) else {
            drop(tables);
            self.violate(rules::NBL_DOUBLE_FREE, format!("MDL {mdl:p} was not allocated, or freed before"));
            return;
        };
        let wrong = (record.by != by).then_some(record.by);
        let retired = retire(&mut tables, record.memory, "MDL");
        drop(tables);
        if let Some(made) = wrong {
            self.violate(rules::NBL_DOUBLE_FREE, format!("MDL {mdl:p} comes from {made}"));
        }
        self.check_retired(retired);
    }

    /// `MmBuildMdlForNonPagedPool`.
    pub(crate) fn build_mdl(&self, mdl: *mut MDL) {
        let address = self.packets.0.lock().mdls.get(&(mdl as usize)).map(|record| record.address);
        let Some(address) = address else {
            self.violate(rules::NBL_UNKNOWN, format!("MDL {mdl:p} was not allocated"));
            return;
        };
        // SAFETY: the MDL is in the table, so it is live memory of ours; the driver owns it now.
        unsafe {
            (*mdl).MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
            (*mdl).MappedSystemVa = address as PVOID;
            self.check_range(address, (*mdl).ByteCount as usize);
        }
    }

    /// `MmMapLockedPagesSpecifyCache`: gives locked pages a system address; null if it is refused.
    pub(crate) fn map_mdl(&self, mdl: *mut MDL) -> PVOID {
        // SAFETY: the driver vouches that this is an MDL that it may use.
        let (flags, mapped) = unsafe { ((*mdl).MdlFlags, (*mdl).MappedSystemVa) };
        if flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
            self.violate(
                rules::PARAMETER,
                format!("MDL {mdl:p} is mapped already: MmGetSystemAddressForMdlSafe gives its address"),
            );
            return mapped;
        }
        if flags & MDL_PAGES_LOCKED == 0 {
            self.violate(rules::PARAMETER, format!("the pages of MDL {mdl:p} are not locked"));
        }
        if self.fault(0, 0) {
            return std::ptr::null_mut();
        }
        let known = self.packets.0.lock().mdls.get(&(mdl as usize)).map(|record| record.address);
        let Some(address) = known.or_else(|| self.sender_mdl(mdl as usize)) else {
            self.violate(rules::NBL_UNKNOWN, format!("MDL {mdl:p} is none that lives"));
            return std::ptr::null_mut();
        };
        // SAFETY: as above.
        unsafe {
            (*mdl).MappedSystemVa = address as PVOID;
            (*mdl).MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
        }
        address as PVOID
    }

    /// The data of an MDL that a send of the lab owns.
    fn sender_mdl(&self, mdl: usize) -> Option<usize> {
        self.adapters.read().values().find_map(|adapter| adapter.sends.mdl_data(mdl))
    }
}
