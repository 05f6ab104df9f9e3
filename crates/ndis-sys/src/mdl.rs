//! Memory descriptor lists.

use crate::*;

#[derive(Debug)]
#[repr(C)]
pub struct MDL {
    pub Next: *mut MDL,
    pub Size: CSHORT,
    pub MdlFlags: CSHORT,
    pub Process: *mut EPROCESS,
    pub MappedSystemVa: PVOID,
    pub StartVa: PVOID,
    pub ByteCount: ULONG,
    pub ByteOffset: ULONG,
}
const _: () = assert!(size_of::<MDL>() == 48 && align_of::<MDL>() == 8);
pub const MDL_ALLOCATED_FIXED_SIZE: CSHORT = 8;
pub const MDL_ALLOCATED_MUST_SUCCEED: CSHORT = 0x4000;
pub const MDL_DESCRIBES_AWE: CSHORT = 0x400;
pub const MDL_FREE_EXTRA_PTES: CSHORT = 0x200;
pub const MDL_INTERNAL: CSHORT = 0x8000_u16.cast_signed();
pub const MDL_IO_PAGE_READ: CSHORT = 0x40;
pub const MDL_IO_SPACE: CSHORT = 0x800;
pub const MDL_LOCKED_PAGE_TABLES: CSHORT = 0x100;
pub const MDL_MAPPED_TO_SYSTEM_VA: CSHORT = 1;
pub const MDL_MAPPING_CAN_FAIL: CSHORT = 0x2000;
pub const MDL_NETWORK_HEADER: CSHORT = 0x1000;
pub const MDL_PAGES_LOCKED: CSHORT = 2;
pub const MDL_PAGE_CONTENTS_INVARIANT: CSHORT = 0x4000;
pub const MDL_PARENT_MAPPED_SYSTEM_VA: CSHORT = 0x100;
pub const MDL_PARTIAL: CSHORT = 0x10;
pub const MDL_PARTIAL_HAS_BEEN_MAPPED: CSHORT = 0x20;
pub const MDL_SOURCE_IS_NONPAGED_POOL: CSHORT = 4;
pub const MDL_WRITE_OPERATION: CSHORT = 0x80;
