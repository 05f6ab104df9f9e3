//! Basic types of the Windows kernel.

use core::ffi::c_void;
use core::marker::{PhantomData, PhantomPinned};

#[cfg(doc)] // for links
use crate::*;

/// A C `char`, signed.
pub type CHAR = i8;
/// A C `char` used as a small signed number.
pub type CCHAR = i8;
/// An unsigned byte.
pub type UCHAR = u8;
/// A byte that is [`TRUE`] or [`FALSE`]. Not a `bool`: C code may store any byte.
pub type BOOLEAN = u8;
/// A signed 16-bit number.
pub type CSHORT = i16;
/// An unsigned 16-bit number.
pub type USHORT = u16;
/// A UTF-16 code unit.
pub type WCHAR = u16;
/// A signed 32-bit number, also on 64-bit Windows.
pub type LONG = i32;
/// An unsigned 32-bit number, also on 64-bit Windows.
pub type ULONG = u32;
/// An unsigned 32-bit number.
pub type UINT = u32;
/// A signed 64-bit number.
pub type LONGLONG = i64;
/// An unsigned 64-bit number.
pub type ULONG64 = u64;
/// A size in bytes.
pub type SIZE_T = usize;
/// An unsigned number as wide as a pointer.
pub type ULONG_PTR = usize;
/// A set of processors of one group, a bit each.
pub type KAFFINITY = usize;
/// A spin lock; 0 is free. Must not move while it is in use.
pub type KSPIN_LOCK = usize;
/// An interrupt request level, [`PASSIVE_LEVEL`] to [`HIGH_LEVEL`].
pub type KIRQL = u8;
/// A thread priority or a priority increment.
pub type KPRIORITY = i32;
/// An untyped pointer.
pub type PVOID = *mut c_void;
/// A handle of the object manager.
pub type HANDLE = PVOID;
/// A status of the NT kernel; negative values are errors.
pub type NTSTATUS = i32;
/// A status of NDIS; negative values are errors. Most are statuses of the NT kernel too.
pub type NDIS_STATUS = i32;
/// A handle that NDIS or a driver gave out; opaque to the other side.
pub type NDIS_HANDLE = PVOID;
/// An object identifier, `OID_…`.
pub type NDIS_OID = ULONG;
/// A port of a miniport adapter; 0 is the default port.
pub type NDIS_PORT_NUMBER = ULONG;
/// A port of the Hyper-V switch; 0 outside it.
pub type NDIS_SWITCH_PORT_ID = ULONG;
/// The index of a network interface; 0 is none.
pub type NET_IFINDEX = ULONG;
/// An interface type as IANA numbers them, `IF_TYPE_…`.
pub type NET_IFTYPE = USHORT;
/// An IPv4 address in network byte order.
pub type IPAddr = ULONG;
/// A physical address.
pub type PHYSICAL_ADDRESS = LARGE_INTEGER;
/// A physical address.
pub type NDIS_PHYSICAL_ADDRESS = PHYSICAL_ADDRESS;
/// A counted UTF-16 string.
pub type NDIS_STRING = UNICODE_STRING;
/// True.
pub const TRUE: BOOLEAN = 1;
/// False.
pub const FALSE: BOOLEAN = 0;

/// A signed 64-bit number. The C union also names its halves `LowPart` and `HighPart`.
///
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LARGE_INTEGER {
    /// The whole number.
    pub QuadPart: LONGLONG,
}
const _: () = assert!(size_of::<LARGE_INTEGER>() == 8 && align_of::<LARGE_INTEGER>() == 8);

/// A counted UTF-16 string, not necessarily terminated.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UNICODE_STRING {
    /// Bytes in use, without a terminator.
    pub Length: USHORT,
    /// Bytes of the buffer.
    pub MaximumLength: USHORT,
    /// The first code unit.
    pub Buffer: *mut WCHAR,
}
const _: () = assert!(size_of::<UNICODE_STRING>() == 16 && align_of::<UNICODE_STRING>() == 8);

/// A link of a doubly linked list, or its head.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LIST_ENTRY {
    /// The next entry.
    pub Flink: *mut LIST_ENTRY,
    /// The previous entry.
    pub Blink: *mut LIST_ENTRY,
}
const _: () = assert!(size_of::<LIST_ENTRY>() == 16 && align_of::<LIST_ENTRY>() == 8);

/// A link of a singly linked list, or its head.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SINGLE_LIST_ENTRY {
    /// The next entry.
    pub Next: *mut SINGLE_LIST_ENTRY,
}

/// A globally unique identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GUID {
    /// The first 8 hexadecimal digits.
    pub Data1: ULONG,
    /// The first group of 4 digits.
    pub Data2: USHORT,
    /// The second group of 4 digits.
    pub Data3: USHORT,
    /// The last 16 digits, byte by byte.
    pub Data4: [UCHAR; 8],
}
const _: () = assert!(size_of::<GUID>() == 16 && align_of::<GUID>() == 4);

/// A processor as group and number within the group. `[ns-miniport-_processor_number]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PROCESSOR_NUMBER {
    /// The group.
    pub Group: USHORT,
    /// The number within the group.
    pub Number: UCHAR,
    /// Zero.
    pub Reserved: UCHAR,
}
const _: () = assert!(size_of::<PROCESSOR_NUMBER>() == 4 && align_of::<PROCESSOR_NUMBER>() == 2);

/// A locally unique identifier of a network interface. The C union also names its bit-fields: index at bits
/// 24-47, interface type at bits 48-63. `[nf-ntddndis-ndis_make_net_luid]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NET_LUID_LH {
    /// The whole identifier.
    pub Value: ULONG64,
}
const _: () = assert!(size_of::<NET_LUID_LH>() == 8 && align_of::<NET_LUID_LH>() == 8);

/// Types of which only pointers are passed.
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
    /// The kernel's object of a driver. NDIS owns its dispatch table and unload routine in a pure miniport.
    /// Opaque here.
    DRIVER_OBJECT,
    /// The kernel's object of a device. Opaque here.
    DEVICE_OBJECT,
    /// An I/O request packet. Opaque here.
    IRP,
    /// A process. Opaque.
    EPROCESS,
    /// A thread. Opaque.
    KTHREAD,
    /// Hardware resources of a device. Opaque here: a software miniport has none.
    CM_RESOURCE_LIST,
    /// Hardware resources of a miniport adapter. Opaque here: a software miniport has none.
    NDIS_RESOURCE_LIST,
    /// PCI properties of an adapter. Opaque here.
    NDIS_PCI_DEVICE_CUSTOM_PROPERTIES,
    /// Capabilities of TCP chimney. Opaque: no Windows since 10 uses it.
    NDIS_TCP_CONNECTION_OFFLOAD,
    /// Capabilities of receive-side scaling. Opaque here.
    NDIS_RECEIVE_SCALE_CAPABILITIES,
    /// Capabilities of header-data split. Opaque here.
    NDIS_HD_SPLIT_ATTRIBUTES,
    /// Capabilities of receive filters. Opaque here.
    NDIS_RECEIVE_FILTER_CAPABILITIES,
    /// Capabilities of a NIC switch. Opaque here.
    NDIS_NIC_SWITCH_CAPABILITIES,
    /// Capabilities of SR-IOV. Opaque here.
    NDIS_SRIOV_CAPABILITIES,
    /// Capabilities of data centre bridging. Opaque here.
    NDIS_QOS_CAPABILITIES,
    /// A read/write lock that [`NdisAllocateRWLock`] allocates. Opaque.
    NDIS_RW_LOCK_EX,
    /// The processor's XSAVE area. Opaque.
    XSAVE_AREA,
}
