//! Pages that are allocated for an MDL, without an address of their own: MmAllocatePagesForMdl and its kin.
//!
//! The pages and the MDL are pool blocks: MmFreePagesFromMdl frees the pages, and ExFreePool the MDL. The driver maps
//! them to see them.

use ndis_sys::{MDL, PHYSICAL_ADDRESS, ULONG};

use super::{Call, exports};
use crate::machine::pool::PoolKind;
use crate::packet::write_mdl;
use crate::rules;

const PAGE: usize = 4096;
/// `'Mdl '`, of the MDL, and `'MmPg'`, of the pages.
const MDL_TAG: ULONG = u32::from_le_bytes(*b"Mdl ");
const PAGES_TAG: ULONG = u32::from_le_bytes(*b"MmPg");
/// `MM_DONT_ZERO_ALLOCATION` and all flags that there are.
const DONT_ZERO: ULONG = 1;
const KNOWN_FLAGS: ULONG = 0x3f;

/// The pages of an MDL: NULL without memory for them.
fn allocate(call: &Call<'_>, size: usize, zero: bool) -> *mut MDL {
    if size == 0 || size > u32::MAX as usize - (PAGE - 1) {
        call.violate(rules::PARAMETER, format!("TotalBytes {size:#x}"));
        return std::ptr::null_mut();
    }
    let pages = size.div_ceil(PAGE);
    let length = u32::try_from(pages * PAGE).unwrap_or(0);
    let block = call.allocate(pages * PAGE, PAGES_TAG, PoolKind::NonPaged, zero);
    if block.is_null() {
        return std::ptr::null_mut();
    }
    let room = call.allocate(size_of::<MDL>() + 8 * pages, MDL_TAG, PoolKind::NonPaged, true);
    // Pool memory is aligned to 16 bytes.
    let mdl = room as usize as *mut MDL;
    if mdl.is_null() {
        // What was allocated by this function and is known to nobody.
        let _ = call.free(block as usize, Some(PAGES_TAG));
        return mdl;
    }
    // SAFETY: fresh blocks, of the pages and of an MDL with room for their numbers.
    unsafe {
        write_mdl(mdl, block as usize, length, false);
        (*mdl).MdlFlags |= ndis_sys::MDL_PAGES_LOCKED;
    }
    call.pages.lock().insert(mdl as usize, block as usize);
    mdl
}

exports! { TABLE in "ntoskrnl.exe" {
    UP_TO_DISPATCH fn MmAllocatePagesForMdl(
        call, _low: PHYSICAL_ADDRESS, _high: PHYSICAL_ADDRESS, _skip: PHYSICAL_ADDRESS, size: usize,
    ) -> *mut MDL {
        Ok(allocate(call, size, true))
    }

    UP_TO_DISPATCH fn MmAllocatePagesForMdlEx(
        call, _low: PHYSICAL_ADDRESS, _high: PHYSICAL_ADDRESS, _skip: PHYSICAL_ADDRESS, size: usize, cache: i32,
        flags: ULONG,
    ) -> *mut MDL {
        // MmHardwareCoherentCached and MmNonCachedUnordered are the last two that there are.
        if !(0..=5).contains(&cache) || flags & !KNOWN_FLAGS != 0 {
            call.violate(rules::PARAMETER, format!("CacheType {cache}, Flags {flags:#x}"));
        }
        Ok(allocate(call, size, flags & DONT_ZERO == 0))
    }

    UP_TO_DISPATCH fn MmFreePagesFromMdl(call, mdl: *mut MDL) {
        let Some(start) = call.pages.lock().remove(&(mdl as usize)) else {
            call.violate(rules::MDL_LOCK, format!("the pages of MDL {mdl:p} were not allocated for it, or were freed"));
            return Ok(());
        };
        // SAFETY: the caller's MDL.
        if unsafe { (*mdl).MdlFlags } & ndis_sys::MDL_MAPPED_TO_SYSTEM_VA != 0 {
            call.violate(rules::MDL_LOCK, "the pages of an MDL are freed while they are mapped");
        }
        call.free(start, Some(PAGES_TAG))?;
        // SAFETY: as above: the MDL describes nothing any more.
        unsafe { (*mdl).MdlFlags &= !ndis_sys::MDL_PAGES_LOCKED };
        Ok(())
    }
} }
