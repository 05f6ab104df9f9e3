//! Basic types of the Windows kernel.

use core::ffi::c_void;
use core::marker::{PhantomData, PhantomPinned};

pub type CHAR = i8;
pub type CCHAR = i8;
pub type UCHAR = u8;
pub type BOOLEAN = u8;
pub type CSHORT = i16;
pub type USHORT = u16;
pub type WCHAR = u16;
pub type LONG = i32;
pub type ULONG = u32;
pub type UINT = u32;
pub type LONGLONG = i64;
pub type ULONG64 = u64;
pub type SIZE_T = usize;
pub type ULONG_PTR = usize;
pub type KAFFINITY = usize;
pub type KSPIN_LOCK = usize;
pub type KIRQL = u8;
pub type KPRIORITY = i32;
pub type PVOID = *mut c_void;
pub type HANDLE = PVOID;
pub type NTSTATUS = i32;
pub type NDIS_STATUS = i32;
pub type NDIS_HANDLE = PVOID;
pub type NDIS_OID = ULONG;
pub type NDIS_PORT_NUMBER = ULONG;
pub type NDIS_SWITCH_PORT_ID = ULONG;
pub type NET_IFINDEX = ULONG;
pub type NET_IFTYPE = USHORT;
pub type IPAddr = ULONG;
pub type PHYSICAL_ADDRESS = LARGE_INTEGER;
pub type NDIS_PHYSICAL_ADDRESS = PHYSICAL_ADDRESS;
pub type NDIS_STRING = UNICODE_STRING;
pub const TRUE: BOOLEAN = 1;
pub const FALSE: BOOLEAN = 0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LARGE_INTEGER {
    pub QuadPart: LONGLONG,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UNICODE_STRING {
    pub Length: USHORT,
    pub MaximumLength: USHORT,
    pub Buffer: *mut WCHAR,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LIST_ENTRY {
    pub Flink: *mut LIST_ENTRY,
    pub Blink: *mut LIST_ENTRY,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SINGLE_LIST_ENTRY {
    pub Next: *mut SINGLE_LIST_ENTRY,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GUID {
    pub Data1: ULONG,
    pub Data2: USHORT,
    pub Data3: USHORT,
    pub Data4: [UCHAR; 8],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PROCESSOR_NUMBER {
    pub Group: USHORT,
    pub Number: UCHAR,
    pub Reserved: UCHAR,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NET_LUID_LH {
    pub Value: ULONG64,
}

macro_rules! opaque {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            pub struct $name {
                _opaque: [u8; 0],
                _neither_send_nor_sync_nor_unpin: PhantomData<(*mut u8, PhantomPinned)>,
            }
        )*
    };
}

opaque! {
    DRIVER_OBJECT,
    DEVICE_OBJECT,
    IRP,
    EPROCESS,
    KTHREAD,
    CM_RESOURCE_LIST,
    NDIS_RESOURCE_LIST,
    NDIS_PCI_DEVICE_CUSTOM_PROPERTIES,
    NDIS_TCP_CONNECTION_OFFLOAD,
    NDIS_RECEIVE_SCALE_CAPABILITIES,
    NDIS_HD_SPLIT_ATTRIBUTES,
    NDIS_RECEIVE_FILTER_CAPABILITIES,
    NDIS_NIC_SWITCH_CAPABILITIES,
    NDIS_SRIOV_CAPABILITIES,
    NDIS_QOS_CAPABILITIES,
    NDIS_RW_LOCK_EX,
    SCATTER_GATHER_LIST,
}
