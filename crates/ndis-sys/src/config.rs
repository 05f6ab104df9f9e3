//! Configuration parameters.

use crate::*;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_CONFIGURATION_OBJECT {
    pub Header: NDIS_OBJECT_HEADER,
    pub NdisHandle: NDIS_HANDLE,
    pub Flags: ULONG,
}
const _: () =
    assert!(size_of::<NDIS_CONFIGURATION_OBJECT>() == 24 && align_of::<NDIS_CONFIGURATION_OBJECT>() == 8);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BINARY_DATA {
    pub Length: USHORT,
    pub Buffer: PVOID,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub union NDIS_CONFIGURATION_PARAMETER_DATA {
    pub IntegerData: ULONG,
    pub StringData: NDIS_STRING,
    pub BinaryData: BINARY_DATA,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct NDIS_CONFIGURATION_PARAMETER {
    pub ParameterType: NDIS_PARAMETER_TYPE,
    pub ParameterData: NDIS_CONFIGURATION_PARAMETER_DATA,
}
const _: () = assert!(
    size_of::<NDIS_CONFIGURATION_PARAMETER>() == 24 && align_of::<NDIS_CONFIGURATION_PARAMETER>() == 8
);

pub type NDIS_PARAMETER_TYPE = i32;
pub const NdisParameterInteger: NDIS_PARAMETER_TYPE = 0;
pub const NdisParameterHexInteger: NDIS_PARAMETER_TYPE = 1;
pub const NdisParameterString: NDIS_PARAMETER_TYPE = 2;
pub const NdisParameterMultiString: NDIS_PARAMETER_TYPE = 3;
pub const NdisParameterBinary: NDIS_PARAMETER_TYPE = 4;
