//! [`Configuration`]: an adapter's keywords in the registry (`[nf-ndis-ndisreadconfiguration]`).

use core::fmt;
use core::marker::PhantomData;
use core::ops::RangeInclusive;
use core::ptr;

use ndis_sys::{
    NDIS_CONFIGURATION_OBJECT, NDIS_CONFIGURATION_OBJECT_REVISION_1, NDIS_CONFIGURATION_PARAMETER,
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
    NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1, NDIS_STATUS, NDIS_STRING, NdisCloseConfiguration,
    NdisOpenConfigurationEx, NdisParameterHexInteger, NdisParameterInteger, NdisReadConfiguration,
    NdisReadNetworkAddress,
};

use crate::attributes::{MAC_ADDRESS_LENGTH, MacAddress};
use crate::status::{Result, Status};

/// Longest keyword, in characters, that can be asked for. The longest standardized one has 33.
const MAX_KEYWORD: usize = 64;

/// An open configuration; closed on drop. PASSIVE_LEVEL throughout.
///
/// NDIS validates nothing: what is absent, of the wrong type or out of range reads as the default, so that no value in the
/// registry can keep an adapter from starting. What could not be read for lack of memory does: it says nothing of what is
/// there, and a default in its place could switch on what the administrator has switched off. Neither `Send` nor `Sync`: calls on one configuration must not overlap.
pub struct Configuration<'a> {
    handle: NDIS_HANDLE,
    adapter: PhantomData<(&'a (), *const ())>,
}

impl Configuration<'_> {
    /// # Safety
    ///
    /// `ndis` is the handle of an adapter that stays initialised, or in initialisation, for the lifetime. PASSIVE_LEVEL.
    pub(crate) unsafe fn open(ndis: NDIS_HANDLE) -> Result<Self> {
        let mut object = NDIS_CONFIGURATION_OBJECT {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
                Revision: NDIS_CONFIGURATION_OBJECT_REVISION_1,
                Size: NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
            },
            NdisHandle: ndis,
            Flags: 0,
        };
        let mut handle = ptr::null_mut();
        // SAFETY: the object is complete; the handle comes back through the second argument.
        Status::from_raw(unsafe { NdisOpenConfigurationEx(&raw mut object, &raw mut handle) }).ok()?;
        Ok(Self { handle, adapter: PhantomData })
    }

    /// The number under `keyword`, or `default` if there is none within `range`.
    ///
    /// Keywords are stored as strings; NDIS converts them, base 10.
    ///
    /// # Errors
    ///
    /// RESOURCES if NDIS had no memory to read it.
    pub fn read_u32(&self, keyword: &str, range: RangeInclusive<u32>, default: u32) -> Result<u32> {
        Ok(self.read_integer(keyword)?.filter(|value| range.contains(value)).unwrap_or(default))
    }

    /// The flag under `keyword`: 1 or 0, anything else is `default`.
    ///
    /// # Errors
    ///
    /// As [`read_u32`](Self::read_u32).
    pub fn read_bool(&self, keyword: &str, default: bool) -> Result<bool> {
        Ok(self.read_u32(keyword, 0..=1, u32::from(default))? == 1)
    }

    fn read_integer(&self, keyword: &str) -> Result<Option<u32>> {
        let mut buffer = [0_u16; MAX_KEYWORD];
        let mut length = 0;
        for (slot, unit) in buffer.iter_mut().zip(keyword.encode_utf16()) {
            *slot = unit;
            length += 1;
        }
        if keyword.encode_utf16().nth(length).is_some() {
            return Ok(None); // longer than any keyword
        }
        let Ok(bytes) = u16::try_from(length * size_of::<u16>()) else { return Ok(None) };
        let mut name = NDIS_STRING { Length: bytes, MaximumLength: bytes, Buffer: buffer.as_mut_ptr() };
        let mut status = Status::FAILURE.raw();
        let mut parameter: *mut NDIS_CONFIGURATION_PARAMETER = ptr::null_mut();
        // SAFETY: the configuration is open, used by this thread only, and all pointers are valid during the call.
        unsafe {
            NdisReadConfiguration(
                &raw mut status,
                &raw mut parameter,
                self.handle,
                &raw mut name,
                NdisParameterInteger,
            );
        }
        if !found(status)? || parameter.is_null() {
            return Ok(None);
        }
        // SAFETY: on success NDIS gives a parameter that stays valid until the configuration is closed.
        let kind = unsafe { (*parameter).ParameterType };
        if kind != NdisParameterInteger && kind != NdisParameterHexInteger {
            return Ok(None);
        }
        // SAFETY: as above, and with these types the integer is the member in use.
        Ok(Some(unsafe { (*parameter).ParameterData.IntegerData }))
    }

    /// The address the user gave the adapter (keyword NetworkAddress), if it is one: 6 bytes, unicast, not all zero.
    ///
    /// # Errors
    ///
    /// As [`read_u32`](Self::read_u32).
    pub fn network_address(&self) -> Result<Option<MacAddress>> {
        let mut status = Status::FAILURE.raw();
        let mut address = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the configuration is open, used by this thread only, and all pointers are valid during the call.
        unsafe { NdisReadNetworkAddress(&raw mut status, &raw mut address, &raw mut length, self.handle) };
        if !found(status)? || address.is_null() || length as usize != MAC_ADDRESS_LENGTH {
            return Ok(None);
        }
        // SAFETY: on success NDIS gives `length` = 6 bytes, valid until the configuration is closed; arrays of bytes have no
        // alignment.
        let address = unsafe { address.cast::<MacAddress>().read() };
        let unicast = address[0] & 1 == 0;
        Ok((unicast && address != [0; MAC_ADDRESS_LENGTH]).then_some(address))
    }
}

/// Whether NDIS found something. FAILURE says that there is nothing, or nothing of this type; RESOURCES says nothing.
fn found(status: NDIS_STATUS) -> Result<bool> {
    if status == Status::RESOURCES.raw() {
        Err(Status::RESOURCES)
    } else {
        Ok(status == Status::SUCCESS.raw())
    }
}

impl Drop for Configuration<'_> {
    fn drop(&mut self) {
        // SAFETY: the configuration is open and closed once.
        unsafe { NdisCloseConfiguration(self.handle) };
    }
}

impl fmt::Debug for Configuration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").finish_non_exhaustive()
    }
}
