//! MDLs: made, walked, mapped and freed.

use ndis_sys::{
    MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_SOURCE_IS_NONPAGED_POOL, NET_BUFFER, PVOID,
};

use super::{MdlRecord, Memory, retire};
use crate::adapter::AdapterId;
use crate::machine::{Machine, Origin};
use crate::rules;

const PAGE: usize = 4096;

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

impl Machine {
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

    /// An MDL was allocated with a handle: says whose it is.
    pub(crate) fn own_mdl(&self, mdl: *mut MDL, owner: Option<AdapterId>) {
        if let Some(record) = self.packets.0.lock().mdls.get_mut(&(mdl as usize)) {
            record.origin.adapter = owner;
        }
    }

    /// Reports bytes that lie partly or wholly in freed pool memory, or run over the end of a block.
    pub(crate) fn check_range(&self, address: usize, length: usize) {
        if length == 0 {
            return;
        }
        if crate::machine::thread::on_driver_stack(address) {
            self.violate(rules::MDL_MEMORY, format!("{address:#x} lies on the driver's stack"));
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
        let indicated = super::Packets::indicated_with(&tables.lists, mdl as usize);
        let Some(record) = tables.mdls.remove(&(mdl as usize)) else {
            drop(tables);
            self.violate(rules::NBL_DOUBLE_FREE, format!("MDL {mdl:p} was not allocated, or freed before"));
            return;
        };
        let wrong = (record.by != by).then_some(record.by);
        let retired = retire(&mut tables, record.memory, "MDL");
        drop(tables);
        if let Some((list, gone)) = indicated {
            let text = format!(
                "MDL {mdl:p} is freed, and NET_BUFFER_LIST {list:#x}, whose frame it describes, is with NDIS"
            );
            self.violate_past(None, rules::NBL_IN_USE, text, &[("indicated", gone)]);
        }
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
        let pages = || self.pages.lock().get(&(mdl as usize)).copied();
        let Some(address) = known.or_else(pages).or_else(|| self.sender_mdl(mdl as usize)) else {
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
