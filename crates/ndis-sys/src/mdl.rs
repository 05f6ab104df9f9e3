//! Memory descriptor lists.

use crate::{CSHORT, EPROCESS, FALSE, KernelMode, MmCached, MmMapLockedPagesSpecifyCache, PVOID, ULONG};

#[cfg(doc)] // for links
use crate::*;

/// A memory descriptor list: a virtually contiguous buffer and, behind the structure, its pages. From the
/// kernel or NDIS only. `[ns-wdm-_mdl]`
#[derive(Debug)]
#[repr(C)]
pub struct MDL {
    /// The next MDL of the chain, or null.
    pub Next: *mut MDL,
    /// Bytes of the MDL with its page array.
    pub Size: CSHORT,
    /// `MDL_…`.
    pub MdlFlags: CSHORT,
    /// The process whose memory it is.
    pub Process: *mut EPROCESS,
    /// The buffer in system space, if [`MDL_MAPPED_TO_SYSTEM_VA`] or [`MDL_SOURCE_IS_NONPAGED_POOL`].
    pub MappedSystemVa: PVOID,
    /// The buffer's address, rounded down to a page.
    pub StartVa: PVOID,
    /// Bytes of the buffer.
    pub ByteCount: ULONG,
    /// Where in its first page the buffer starts.
    pub ByteOffset: ULONG,
}
const _: () = assert!(size_of::<MDL>() == 48 && align_of::<MDL>() == 8);

/// Allocated with room for a fixed number of pages.
pub const MDL_ALLOCATED_FIXED_SIZE: CSHORT = 8;
/// Describes an AWE region.
pub const MDL_DESCRIBES_AWE: CSHORT = 0x400;
/// Extra page table entries are freed with the mapping.
pub const MDL_FREE_EXTRA_PTES: CSHORT = 0x200;
/// Internal to the memory manager.
pub const MDL_INTERNAL: CSHORT = 0x8000_u16.cast_signed();
/// For paging I/O, reading.
pub const MDL_IO_PAGE_READ: CSHORT = 0x40;
/// Describes I/O space.
pub const MDL_IO_SPACE: CSHORT = 0x800;
/// Page tables are locked.
pub const MDL_LOCKED_PAGE_TABLES: CSHORT = 0x100;
/// `MappedSystemVa` is valid.
pub const MDL_MAPPED_TO_SYSTEM_VA: CSHORT = 1;
/// Mapping may fail instead of bug-checking.
pub const MDL_MAPPING_CAN_FAIL: CSHORT = 0x2000;
/// A network header.
pub const MDL_NETWORK_HEADER: CSHORT = 0x1000;
/// The pages are locked.
pub const MDL_PAGES_LOCKED: CSHORT = 2;
/// The contents do not change while it is in use.
pub const MDL_PAGE_CONTENTS_INVARIANT: CSHORT = 0x4000;
/// A partial MDL that uses its parent's mapping.
pub const MDL_PARENT_MAPPED_SYSTEM_VA: CSHORT = 0x100;
/// Describes a part of another MDL.
pub const MDL_PARTIAL: CSHORT = 0x10;
/// A partial MDL with a mapping of its own.
pub const MDL_PARTIAL_HAS_BEEN_MAPPED: CSHORT = 0x20;
/// Built for non-paged pool: `MappedSystemVa` is valid.
pub const MDL_SOURCE_IS_NONPAGED_POOL: CSHORT = 4;
/// For writing into the memory.
pub const MDL_WRITE_OPERATION: CSHORT = 0x80;

/// The virtual address of the buffer in the process that it belongs to; an address of system space for non-paged
/// pool. `[nf-wdm-mmgetmdlvirtualaddress]`
///
/// # Safety
/// `Mdl` points to a valid MDL. Any IRQL.
#[inline]
pub unsafe fn MmGetMdlVirtualAddress(Mdl: *const MDL) -> PVOID {
    // SAFETY: the caller vouches for the MDL.
    unsafe { (*Mdl).StartVa.wrapping_byte_add((*Mdl).ByteOffset as usize) }
}

/// The address of the buffer in system space; maps it if it is not mapped. Null on failure. At most DISPATCH_LEVEL.
/// `[nf-wdm-mmgetsystemaddressformdlsafe]`
///
/// # Safety
/// `Mdl` points to a valid MDL whose pages are locked or non-paged. At most DISPATCH_LEVEL.
#[inline]
pub unsafe fn MmGetSystemAddressForMdlSafe(Mdl: *mut MDL, Priority: ULONG) -> PVOID {
    // SAFETY: the caller vouches for the MDL and the IRQL.
    unsafe {
        if (*Mdl).MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
            (*Mdl).MappedSystemVa
        } else {
            MmMapLockedPagesSpecifyCache(
                Mdl,
                KernelMode,
                MmCached,
                core::ptr::null_mut(),
                ULONG::from(FALSE),
                Priority,
            )
        }
    }
}
