//! What NDIS does to NET_BUFFERs and their lists: moving the start of the data, clones, contexts, copies.
//!
//! The structures' own tables are those of [`crate::packet`]; here is what was made for a driver beside them.

use ndis_sys::{
    MDL, NDIS_STATUS, NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, NET_BUFFER,
    NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT,
};
use parking_lot::Mutex;

use super::pool::PoolKind;
use super::{AddressMap, Machine, Stopped};
use crate::packet::locate;
use crate::rules;

/// Tags of memory that NDIS allocates on a driver's behalf: data space, and contexts.
const DATA_TAG: u32 = u32::from_le_bytes(*b"NDrd");
/// Who made the MDLs of clones and of data space.
const CLONE: &str = "NdisAllocateCloneNetBufferList";
const SPACE: &str = "NdisRetreatNetBufferDataStart";
/// `NDIS_CLONE_FLAGS_USE_ORIGINAL_MDLS`.
const ORIGINAL_MDLS: u32 = 2;

/// What lives beside the packets' own tables.
#[derive(Default)]
pub(crate) struct Extras {
    /// Data space that NDIS allocated: the block of each MDL.
    space: Mutex<AddressMap<usize>>,
    /// Clones, with their flags.
    clones: Mutex<AddressMap<u32>>,
    /// Contexts that were allocated by themselves.
    contexts: Mutex<AddressMap<usize>>,
}

/// Points CurrentMdl to where the data starts.
///
/// # Safety
/// `buffer` is a NET_BUFFER with a sound chain.
pub(crate) unsafe fn adjust(machine: &Machine, buffer: *mut NET_BUFFER) {
    // SAFETY: as the caller says.
    unsafe {
        let offset = (*buffer).DataOffset;
        if let Some((mdl, within)) = locate((*buffer).MdlChain, offset) {
            (*buffer).CurrentMdl = mdl;
            (*buffer).CurrentMdlOffset = within;
        } else {
            machine.violate(rules::MDL_CHAIN, format!("DataOffset {offset} lies behind the MDL chain"));
        }
    }
}

/// Copies between two chains from their current data on; says how many bytes.
///
/// # Safety
/// Both are NET_BUFFERs with sound, mapped chains.
pub(crate) unsafe fn copy(to: (*mut NET_BUFFER, u32), from: (*mut NET_BUFFER, u32), count: u32) -> u32 {
    // SAFETY: as the caller says; positions stay within the MDLs' bytes.
    unsafe {
        let start = |(buffer, offset): (*mut NET_BUFFER, u32)| {
            let (mut mdl, mut at) = ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset + offset);
            while !mdl.is_null() && at >= (*mdl).ByteCount {
                at -= (*mdl).ByteCount;
                mdl = (*mdl).Next;
            }
            (mdl, at)
        };
        let ((mut to_mdl, mut to_at), (mut from_mdl, mut from_at)) = (start(to), start(from));
        // The source ends with its data, the destination with its memory.
        let mut left = count.min((*from.0).DataLength.saturating_sub(from.1));
        let mut copied = 0;
        while left > 0 && !to_mdl.is_null() && !from_mdl.is_null() {
            let part = left.min((*to_mdl).ByteCount - to_at).min((*from_mdl).ByteCount - from_at);
            std::ptr::copy(
                (*from_mdl).MappedSystemVa.cast::<u8>().add(from_at as usize),
                (*to_mdl).MappedSystemVa.cast::<u8>().add(to_at as usize),
                part as usize,
            );
            (to_at, from_at, left, copied) = (to_at + part, from_at + part, left - part, copied + part);
            while !to_mdl.is_null() && to_at >= (*to_mdl).ByteCount {
                (to_mdl, to_at) = ((*to_mdl).Next, 0);
            }
            while !from_mdl.is_null() && from_at >= (*from_mdl).ByteCount {
                (from_mdl, from_at) = ((*from_mdl).Next, 0);
            }
        }
        copied
    }
}

impl Machine {
    /// An MDL with `size` bytes of data space; `None` without memory.
    fn make_space(&self, size: u32) -> Option<*mut MDL> {
        let block = self.allocate(size as usize, DATA_TAG, PoolKind::NonPaged, false);
        if block.is_null() {
            return None;
        }
        let mdl = self.allocate_mdl(block as usize, size, SPACE, true);
        if mdl.is_null() {
            let _ = self.free(block as usize, None);
            return None;
        }
        self.extras.space.lock().insert(mdl as usize, block as usize);
        Some(mdl)
    }

    /// `NdisRetreatNetBufferDataStart`.
    ///
    /// # Safety
    /// `buffer` is a NET_BUFFER of the driver with a sound chain; `allocate` is 0 or its handler.
    pub(crate) unsafe fn retreat(
        &self,
        buffer: *mut NET_BUFFER,
        delta: u32,
        backfill: u32,
        allocate: usize,
    ) -> NDIS_STATUS {
        // SAFETY: as the caller says.
        unsafe {
            let offset = (*buffer).DataOffset;
            if offset < delta {
                let mut size = delta - offset + backfill;
                let made = if allocate == 0 {
                    self.make_space(size)
                } else {
                    let handler: unsafe extern "win64" fn(*mut u32) -> *mut MDL =
                        std::mem::transmute(allocate);
                    let mdl = crate::exports::outside(|| handler(&raw mut size));
                    (!mdl.is_null() && (*mdl).ByteCount >= delta - offset).then_some(mdl)
                };
                let Some(mdl) = made else { return NDIS_STATUS_RESOURCES };
                (*mdl).Next = (*buffer).MdlChain;
                (*buffer).MdlChain = mdl;
                (*buffer).DataOffset = offset + (*mdl).ByteCount;
            }
            (*buffer).DataOffset -= delta;
            let Some(length) = (*buffer).DataLength.checked_add(delta) else { return NDIS_STATUS_FAILURE };
            (*buffer).DataLength = length;
            adjust(self, buffer);
        }
        NDIS_STATUS_SUCCESS
    }

    /// `NdisAdvanceNetBufferDataStart`.
    ///
    /// # Safety
    /// As for [`Machine::retreat`].
    pub(crate) unsafe fn advance(
        &self,
        buffer: *mut NET_BUFFER,
        delta: u32,
        release: bool,
        free: usize,
    ) -> Result<(), Stopped> {
        // SAFETY: as the caller says.
        unsafe {
            if delta > (*buffer).DataLength {
                let length = (*buffer).DataLength;
                self.violate(
                    rules::MDL_CHAIN,
                    format!("the data start is advanced by {delta} of {length} bytes"),
                );
            }
            let delta = delta.min((*buffer).DataLength);
            (*buffer).DataOffset += delta;
            (*buffer).DataLength -= delta;
            loop {
                let mdl = (*buffer).MdlChain;
                if !release || mdl.is_null() || (*mdl).ByteCount > (*buffer).DataOffset {
                    break;
                }
                let block = self.extras.space.lock().remove(&(mdl as usize));
                if block.is_none() && free == 0 {
                    break;
                }
                (*buffer).MdlChain = (*mdl).Next;
                (*buffer).DataOffset -= (*mdl).ByteCount;
                (*mdl).Next = std::ptr::null_mut();
                if let Some(block) = block {
                    self.free_mdl(mdl, SPACE);
                    self.free(block, None)?;
                } else {
                    let handler: unsafe extern "win64" fn(*mut MDL) = std::mem::transmute(free);
                    crate::exports::outside(|| handler(mdl));
                }
            }
            adjust(self, buffer);
        }
        Ok(())
    }

    /// MDLs over the data of a buffer; `None` without memory.
    ///
    /// # Safety
    /// `buffer` is a NET_BUFFER with a sound, mapped chain.
    unsafe fn clone_mdls(&self, buffer: *const NET_BUFFER) -> Option<*mut MDL> {
        let mut first: *mut MDL = std::ptr::null_mut();
        let mut end: *mut *mut MDL = &raw mut first;
        // SAFETY: as the caller says; each new MDL is linked behind the one before.
        unsafe {
            let (mut mdl, mut at, mut left) =
                ((*buffer).CurrentMdl, (*buffer).CurrentMdlOffset, (*buffer).DataLength);
            while left > 0 && !mdl.is_null() {
                let part = left.min((*mdl).ByteCount - at);
                if part > 0 {
                    let made =
                        self.allocate_mdl((*mdl).MappedSystemVa as usize + at as usize, part, CLONE, true);
                    if made.is_null() {
                        self.free_clone_mdls(first);
                        return None;
                    }
                    end.write(made);
                    end = &raw mut (*made).Next;
                }
                (mdl, at, left) = ((*mdl).Next, 0, left - part);
            }
        }
        Some(first)
    }

    /// # Safety
    /// A chain that [`Machine::clone_mdls`] made.
    unsafe fn free_clone_mdls(&self, mut mdl: *mut MDL) {
        while !mdl.is_null() {
            // SAFETY: as the caller says.
            let next = unsafe { (*mdl).Next };
            self.free_mdl(mdl, CLONE);
            mdl = next;
        }
    }

    /// `NdisAllocateCloneNetBufferList`.
    ///
    /// # Safety
    /// `original` is a NET_BUFFER_LIST with sound, mapped chains.
    pub(crate) unsafe fn clone_list(
        &self,
        original: *mut NET_BUFFER_LIST,
        pools: (usize, usize),
        flags: u32,
    ) -> *mut NET_BUFFER_LIST {
        let null = std::ptr::null_mut();
        let list_pool = if pools.0 == 0 { self.internal_list_pool() } else { pools.0 };
        let buffer_pool = if pools.1 == 0 { self.internal_buffer_pool() } else { pools.1 };
        let clone = self.allocate_list(list_pool, 0, 0, None);
        if clone.is_null() {
            return null;
        }
        self.extras.clones.lock().insert(clone as usize, flags);
        // SAFETY: as the caller says; the clone is ours.
        unsafe {
            (*clone).ParentNetBufferList = original;
            let mut end = &raw mut (*clone).FirstNetBuffer;
            let mut buffer = (*original).FirstNetBuffer;
            while !buffer.is_null() {
                let chain = if flags & ORIGINAL_MDLS == 0 {
                    self.clone_mdls(buffer).map(|chain| (chain, 0))
                } else {
                    Some(((*buffer).MdlChain, (*buffer).DataOffset))
                };
                let made = match chain {
                    Some((chain, offset)) => {
                        let length = (*buffer).DataLength as usize;
                        let made = self.allocate_buffer(buffer_pool, chain, offset, length);
                        if made.is_null() && flags & ORIGINAL_MDLS == 0 {
                            self.free_clone_mdls(chain);
                        }
                        made
                    }
                    None => std::ptr::null_mut(),
                };
                if made.is_null() {
                    self.free_cloned(clone, flags);
                    return null;
                }
                end.write(made);
                end = &raw mut (*made).Next;
                buffer = (*buffer).Next;
            }
        }
        clone
    }

    /// # Safety
    /// A clone that lives.
    unsafe fn free_cloned(&self, clone: *mut NET_BUFFER_LIST, flags: u32) {
        self.extras.clones.lock().remove(&(clone as usize));
        // SAFETY: as the caller says: its buffers and MDLs are those that the cloning made.
        unsafe {
            let mut buffer = std::mem::replace(&mut (*clone).FirstNetBuffer, std::ptr::null_mut());
            while !buffer.is_null() {
                let next = (*buffer).Next;
                if flags & ORIGINAL_MDLS == 0 {
                    self.free_clone_mdls((*buffer).MdlChain);
                }
                self.free_buffer(buffer);
                buffer = next;
            }
        }
        self.free_list(clone);
    }

    /// `NdisFreeCloneNetBufferList`.
    ///
    /// # Safety
    /// What is found to be a clone is the driver's.
    pub(crate) unsafe fn free_clone(&self, clone: *mut NET_BUFFER_LIST, flags: u32) {
        let made = self.extras.clones.lock().get(&(clone as usize)).copied();
        match made {
            None => {
                self.violate(rules::NBL_DOUBLE_FREE, format!("{clone:p} is no clone, or was freed before"));
            }
            Some(made) => {
                if made != flags {
                    let text = format!("the clone was made with flags {made:#x}, is freed with {flags:#x}");
                    self.violate(rules::PARAMETER, text);
                }
                // SAFETY: as the caller says.
                unsafe { self.free_cloned(clone, made) };
            }
        }
    }

    /// `NdisAllocateNetBufferListContext`.
    ///
    /// # Safety
    /// `list` is a NET_BUFFER_LIST of the driver.
    pub(crate) unsafe fn push_context(
        &self,
        list: *mut NET_BUFFER_LIST,
        size: u16,
        backfill: u16,
        tag: u32,
    ) -> NDIS_STATUS {
        if !size.is_multiple_of(8) || !backfill.is_multiple_of(8) {
            self.violate(rules::PARAMETER, format!("ContextSize {size}, ContextBackFill {backfill}"));
            return NDIS_STATUS_FAILURE;
        }
        // SAFETY: as the caller says; a context is followed by as many bytes as its Size says.
        unsafe {
            let first = (*list).Context;
            if !first.is_null() && (*first).Offset >= size {
                (*first).Offset -= size;
                return NDIS_STATUS_SUCCESS;
            }
            let Some(total) = size.checked_add(backfill) else { return NDIS_STATUS_FAILURE };
            let bytes = size_of::<NET_BUFFER_LIST_CONTEXT>() + usize::from(total);
            let block = self.allocate(bytes, tag, PoolKind::NonPaged, true);
            if block.is_null() {
                return NDIS_STATUS_RESOURCES;
            }
            // Pool blocks are aligned to 16 bytes.
            let block: ndis_sys::PVOID = block.cast();
            let context = block.cast::<NET_BUFFER_LIST_CONTEXT>();
            (*context).Next = first;
            (*context).Size = total;
            (*context).Offset = backfill;
            (*list).Context = context;
            self.extras.contexts.lock().insert(context as usize, list as usize);
        }
        NDIS_STATUS_SUCCESS
    }

    /// `NdisFreeNetBufferListContext`.
    ///
    /// # Safety
    /// `list` is a NET_BUFFER_LIST of the driver.
    pub(crate) unsafe fn pop_context(&self, list: *mut NET_BUFFER_LIST, size: u16) -> Result<(), Stopped> {
        // SAFETY: as the caller says.
        unsafe {
            let context = (*list).Context;
            let used = if context.is_null() { 0 } else { (*context).Size - (*context).Offset };
            if size > used {
                let text = format!("{size} bytes of context are freed, {used} are in use");
                self.violate(rules::PARAMETER, text);
                return Ok(());
            }
            (*context).Offset += size;
            let own = self.extras.contexts.lock().get(&(context as usize)) == Some(&(list as usize));
            if own && (*context).Offset == (*context).Size {
                (*list).Context = (*context).Next;
                self.extras.contexts.lock().remove(&(context as usize));
                self.free(context as usize, None)?;
            }
        }
        Ok(())
    }
}
