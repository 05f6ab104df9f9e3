//! An adapter's parameters in the registry.

use crate::{NDIS_HANDLE, NDIS_OBJECT_HEADER, PVOID, ULONG, UNICODE_STRING, USHORT};

#[cfg(doc)] // for links
use crate::*;

/// Whose configuration is to be opened. `[ns-ndis-_ndis_configuration_object]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NDIS_CONFIGURATION_OBJECT {
    /// Type, revision and size.
    pub Header: NDIS_OBJECT_HEADER,
    /// The adapter's handle.
    pub NdisHandle: NDIS_HANDLE,
    /// 0 for a miniport.
    pub Flags: ULONG,
}
const _: () =
    assert!(size_of::<NDIS_CONFIGURATION_OBJECT>() == 24 && align_of::<NDIS_CONFIGURATION_OBJECT>() == 8);

/// A value of type REG_BINARY. `[ns-ndis-binary_data]`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BINARY_DATA {
    /// Bytes.
    pub Length: USHORT,
    /// The data.
    pub Buffer: PVOID,
}

/// The value of a configuration parameter; anonymous in the C header.
#[derive(Clone, Copy)]
#[repr(C)]
pub union NDIS_CONFIGURATION_PARAMETER_DATA {
    /// For the integer types.
    pub IntegerData: ULONG,
    /// For the string types.
    pub StringData: UNICODE_STRING,
    /// For [`NdisParameterBinary`].
    pub BinaryData: BINARY_DATA,
}

/// A parameter that was read; valid until the configuration is closed.
/// `[ns-ndis-_ndis_configuration_parameter]`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NDIS_CONFIGURATION_PARAMETER {
    /// Which member of `ParameterData` is valid.
    pub ParameterType: NDIS_PARAMETER_TYPE,
    /// The value.
    pub ParameterData: NDIS_CONFIGURATION_PARAMETER_DATA,
}
const _: () = assert!(
    size_of::<NDIS_CONFIGURATION_PARAMETER>() == 24 && align_of::<NDIS_CONFIGURATION_PARAMETER>() == 8
);

/// Type of a configuration parameter. `[ne-ndis-_ndis_parameter_type]`
pub type NDIS_PARAMETER_TYPE = i32;
/// A decimal number, from REG_DWORD or a string.
pub const NdisParameterInteger: NDIS_PARAMETER_TYPE = 0;
/// A hexadecimal number, from REG_DWORD or a string.
pub const NdisParameterHexInteger: NDIS_PARAMETER_TYPE = 1;
/// A string.
pub const NdisParameterString: NDIS_PARAMETER_TYPE = 2;
/// A list of strings.
pub const NdisParameterMultiString: NDIS_PARAMETER_TYPE = 3;
/// Bytes.
pub const NdisParameterBinary: NDIS_PARAMETER_TYPE = 4;
