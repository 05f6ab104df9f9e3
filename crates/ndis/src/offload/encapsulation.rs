//! OID_OFFLOAD_ENCAPSULATION (`[ns-encapsulationconfig-ndis_offload_encapsulation]`).

use core::mem::offset_of;

use ndis_sys::{
    NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION, NDIS_OFFLOAD_ENCAPSULATION, NDIS_OFFLOAD_ENCAPSULATION_FAMILY,
    NDIS_OFFLOAD_ENCAPSULATION_REVISION_1, NDIS_OFFLOAD_SET_NO_CHANGE, NDIS_OFFLOAD_SET_OFF,
    NDIS_OFFLOAD_SET_ON, NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1,
};

use crate::oid::{SetError, checked_header, u32_at};
use crate::status::Status;

/// What to do with one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadSwitch {
    /// Leave it.
    NoChange,
    /// Enable.
    On,
    /// Disable.
    Off,
}

/// The encapsulation of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncapsulationFamily {
    /// Enable, disable or leave.
    pub switch: OffloadSwitch,
    /// `NDIS_ENCAPSULATION_*`, one of them.
    pub encapsulation: u32,
    /// Bytes of the MAC header, 14 for 802.3.
    pub header_size: u32,
}

/// A checked NDIS_OFFLOAD_ENCAPSULATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadEncapsulation {
    /// IPv4.
    pub ipv4: EncapsulationFamily,
    /// IPv6.
    pub ipv6: EncapsulationFamily,
}

impl OffloadEncapsulation {
    /// Bytes to report as read.
    pub const SIZE: usize = NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1 as usize;

    /// Reads the structure from a set request's buffer.
    ///
    /// # Errors
    ///
    /// INVALID_LENGTH with the length needed for a short buffer, INVALID_DATA for a wrong header or an unknown switch.
    pub fn parse(buffer: &[u8]) -> Result<Self, SetError> {
        checked_header(
            buffer,
            NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION,
            NDIS_OFFLOAD_ENCAPSULATION_REVISION_1,
            Self::SIZE,
        )?;
        Ok(Self {
            ipv4: family(buffer, offset_of!(NDIS_OFFLOAD_ENCAPSULATION, IPv4))?,
            ipv6: family(buffer, offset_of!(NDIS_OFFLOAD_ENCAPSULATION, IPv6))?,
        })
    }
}

fn family(buffer: &[u8], at: usize) -> Result<EncapsulationFamily, SetError> {
    let field = |offset| u32_at(buffer, at + offset);
    Ok(EncapsulationFamily {
        switch: match field(offset_of!(NDIS_OFFLOAD_ENCAPSULATION_FAMILY, Enabled))? {
            NDIS_OFFLOAD_SET_NO_CHANGE => OffloadSwitch::NoChange,
            NDIS_OFFLOAD_SET_ON => OffloadSwitch::On,
            NDIS_OFFLOAD_SET_OFF => OffloadSwitch::Off,
            _ => return Err(Status::INVALID_DATA.into()),
        },
        encapsulation: field(offset_of!(NDIS_OFFLOAD_ENCAPSULATION_FAMILY, EncapsulationType))?,
        header_size: field(offset_of!(NDIS_OFFLOAD_ENCAPSULATION_FAMILY, HeaderSize))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..4].copy_from_slice(&[NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION, 1, 28, 0]);
        for (field, value) in [1_u32, 2, 14, 2, 2, 14].into_iter().enumerate() {
            bytes[4 + field * 4..8 + field * 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn reads_both_families() {
        let parsed = OffloadEncapsulation::parse(&wire()).unwrap();
        assert_eq!(
            parsed.ipv4,
            EncapsulationFamily { switch: OffloadSwitch::On, encapsulation: 2, header_size: 14 }
        );
        assert_eq!(parsed.ipv6.switch, OffloadSwitch::Off);
    }

    #[test]
    fn every_short_length_is_refused_with_the_length_needed() {
        for length in 0..28 {
            let error = OffloadEncapsulation::parse(&wire()[..length]).unwrap_err();
            assert_eq!((error.status, error.needed), (Status::INVALID_LENGTH, 28));
        }
    }

    #[test]
    fn wrong_headers_and_switches_are_refused() {
        for (offset, value) in [(0, 0), (1, 0), (2, 27), (3, 1), (4, 3), (16, 255)] {
            let mut bytes = wire();
            bytes[offset] = value;
            assert_eq!(
                OffloadEncapsulation::parse(&bytes).unwrap_err().status,
                Status::INVALID_DATA,
                "{offset}"
            );
        }
    }
}
