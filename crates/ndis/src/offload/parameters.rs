//! OID_TCP_OFFLOAD_PARAMETERS (`[ns-ntddndis-_ndis_offload_parameters]`), revisions 1 to 3.

use core::mem::offset_of;

use ndis_sys::{
    NDIS_OBJECT_TYPE_DEFAULT, NDIS_OFFLOAD_PARAMETERS, NDIS_OFFLOAD_PARAMETERS_REVISION_1,
    NDIS_OFFLOAD_PARAMETERS_REVISION_2, NDIS_OFFLOAD_PARAMETERS_REVISION_3,
    NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1, NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_2,
    NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3,
};

use crate::oid::{SetError, checked_header, u8_at};
use crate::status::Status;

/// A checksum setting. The numbers are the OID's, not the keywords'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumSetting {
    /// On send.
    pub transmit: bool,
    /// On receive.
    pub receive: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toggle {
    /// Disable.
    Off,
    /// Enable.
    On,
}

/// An IPsec setting. All false disables it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpsecSetting {
    /// AH.
    pub ah: bool,
    /// ESP.
    pub esp: bool,
}

/// A checked NDIS_OFFLOAD_PARAMETERS; `None` is "no change". Fields of a revision that the request does not have read as
/// no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadParameters {
    /// IPv4 header checksum.
    pub ipv4_checksum: Option<ChecksumSetting>,
    /// TCP over IPv4.
    pub tcp_ipv4_checksum: Option<ChecksumSetting>,
    /// UDP over IPv4.
    pub udp_ipv4_checksum: Option<ChecksumSetting>,
    /// TCP over IPv6.
    pub tcp_ipv6_checksum: Option<ChecksumSetting>,
    /// UDP over IPv6.
    pub udp_ipv6_checksum: Option<ChecksumSetting>,
    /// Large send, version 1.
    pub lso_v1: Option<Toggle>,
    /// IPsec, version 1.
    pub ipsec_v1: Option<IpsecSetting>,
    /// Large send, version 2, IPv4.
    pub lso_v2_ipv4: Option<Toggle>,
    /// Large send, version 2, IPv6.
    pub lso_v2_ipv6: Option<Toggle>,
    /// TCP chimney, IPv4.
    pub tcp_connection_ipv4: Option<Toggle>,
    /// TCP chimney, IPv6.
    pub tcp_connection_ipv6: Option<Toggle>,
    /// IPsec version 2, both families (revision 2).
    pub ipsec_v2: Option<IpsecSetting>,
    /// IPsec version 2 of an IPv4-only device (revision 2).
    pub ipsec_v2_ipv4: Option<IpsecSetting>,
    /// Receive segment coalescing, IPv4 (revision 3).
    pub rsc_ipv4: Option<Toggle>,
    /// Receive segment coalescing, IPv6 (revision 3).
    pub rsc_ipv6: Option<Toggle>,
    /// Task offload of encapsulated packets, NVGRE (revision 3). Its numbers are those of other structures: 1 is on.
    pub encapsulated: Option<Toggle>,
    /// The revision that was understood: min(the request's, 3). For SupportedRevision.
    pub revision: u8,
    /// The bytes of that revision. For BytesRead.
    pub size: usize,
}

impl OffloadParameters {
    /// Reads the structure from a set request's buffer.
    ///
    /// # Errors
    ///
    /// INVALID_LENGTH, with the size of revision 3 as the length needed, if the buffer does not even hold revision 1;
    /// INVALID_DATA for a header that does not fit the buffer or a value out of range. What the device cannot do is the
    /// driver's to refuse, with INVALID_PARAMETER.
    pub fn parse(buffer: &[u8]) -> Result<Self, SetError> {
        let needed = NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3.into();
        let revision = checked_header(
            buffer,
            NDIS_OBJECT_TYPE_DEFAULT,
            NDIS_OFFLOAD_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1.into(),
        )
        .map_err(
            |error| if error.status == Status::INVALID_LENGTH { SetError { needed, ..error } } else { error },
        )?
        .min(NDIS_OFFLOAD_PARAMETERS_REVISION_3);
        let size = usize::from(match revision {
            NDIS_OFFLOAD_PARAMETERS_REVISION_1 => NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1,
            NDIS_OFFLOAD_PARAMETERS_REVISION_2 => NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_2,
            _ => NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3,
        });
        // Header.Size must be at least the size of its revision; `checked_header` made sure that the buffer holds it.
        checked_header(buffer, NDIS_OBJECT_TYPE_DEFAULT, revision, size)
            .map_err(|_| SetError::from(Status::INVALID_DATA))?;
        let since = |first: u8, offset: usize| if revision >= first { u8_at(buffer, offset) } else { Ok(0) };
        Ok(Self {
            ipv4_checksum: checksum(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, IPv4Checksum))?)?,
            tcp_ipv4_checksum: checksum(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, TCPIPv4Checksum))?)?,
            udp_ipv4_checksum: checksum(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, UDPIPv4Checksum))?)?,
            tcp_ipv6_checksum: checksum(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, TCPIPv6Checksum))?)?,
            udp_ipv6_checksum: checksum(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, UDPIPv6Checksum))?)?,
            lso_v1: toggle(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV1))?)?,
            ipsec_v1: ipsec(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV1))?)?,
            lso_v2_ipv4: toggle(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV2IPv4))?)?,
            lso_v2_ipv6: toggle(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV2IPv6))?)?,
            tcp_connection_ipv4: toggle(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, TcpConnectionIPv4))?)?,
            tcp_connection_ipv6: toggle(since(1, offset_of!(NDIS_OFFLOAD_PARAMETERS, TcpConnectionIPv6))?)?,
            ipsec_v2: ipsec(since(2, offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV2))?)?,
            ipsec_v2_ipv4: ipsec(since(2, offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV2IPv4))?)?,
            rsc_ipv4: toggle(since(3, offset_of!(NDIS_OFFLOAD_PARAMETERS, RscIPv4))?)?,
            rsc_ipv6: toggle(since(3, offset_of!(NDIS_OFFLOAD_PARAMETERS, RscIPv6))?)?,
            encapsulated: encapsulated(since(
                3,
                offset_of!(NDIS_OFFLOAD_PARAMETERS, EncapsulatedPacketTaskOffload),
            )?)?,
            revision,
            size,
        })
    }
}

fn checksum(value: u8) -> Result<Option<ChecksumSetting>, Status> {
    use ndis_sys::{
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE, NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED,
        NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED, NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED,
        NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED,
    };
    Ok(Some(match value {
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE => return Ok(None),
        NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED => ChecksumSetting { transmit: false, receive: false },
        NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED => ChecksumSetting { transmit: true, receive: false },
        NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED => ChecksumSetting { transmit: false, receive: true },
        NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED => ChecksumSetting { transmit: true, receive: true },
        _ => return Err(Status::INVALID_DATA),
    }))
}

fn toggle(value: u8) -> Result<Option<Toggle>, Status> {
    use ndis_sys::{
        NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED, NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED,
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE,
    };
    match value {
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE => Ok(None),
        NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED => Ok(Some(Toggle::Off)),
        NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED => Ok(Some(Toggle::On)),
        _ => Err(Status::INVALID_DATA),
    }
}

fn encapsulated(value: u8) -> Result<Option<Toggle>, Status> {
    use ndis_sys::{NDIS_OFFLOAD_SET_NO_CHANGE, NDIS_OFFLOAD_SET_OFF, NDIS_OFFLOAD_SET_ON};
    match value.into() {
        NDIS_OFFLOAD_SET_NO_CHANGE => Ok(None),
        NDIS_OFFLOAD_SET_ON => Ok(Some(Toggle::On)),
        NDIS_OFFLOAD_SET_OFF => Ok(Some(Toggle::Off)),
        _ => Err(Status::INVALID_DATA),
    }
}

/// The numbers are the same for versions 1 and 2.
fn ipsec(value: u8) -> Result<Option<IpsecSetting>, Status> {
    use ndis_sys::{
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_AND_ESP_ENABLED, NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_ENABLED,
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_DISABLED, NDIS_OFFLOAD_PARAMETERS_IPSECV2_ESP_ENABLED,
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE,
    };
    Ok(Some(match value {
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE => return Ok(None),
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_DISABLED => IpsecSetting { ah: false, esp: false },
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_ENABLED => IpsecSetting { ah: true, esp: false },
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_ESP_ENABLED => IpsecSetting { ah: false, esp: true },
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_AND_ESP_ENABLED => IpsecSetting { ah: true, esp: true },
        _ => return Err(Status::INVALID_DATA),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(revision: u8, size: u8) -> [u8; 26] {
        let mut bytes = [0; 26];
        bytes[..4].copy_from_slice(&[NDIS_OBJECT_TYPE_DEFAULT, revision, size, 0]);
        bytes
    }

    #[test]
    fn lengths_of_all_revisions() {
        for (revision, size) in [(1, 20), (2, 22), (3, 26)] {
            for length in 0..=26_usize {
                let result = OffloadParameters::parse(&wire(revision, size)[..length]);
                if length < 20 {
                    let error = result.unwrap_err();
                    assert_eq!((error.status, error.needed), (Status::INVALID_LENGTH, 26));
                } else if length < size.into() {
                    assert_eq!(result.unwrap_err().status, Status::INVALID_DATA);
                } else {
                    let parsed = result.unwrap();
                    assert_eq!((parsed.revision, parsed.size), (revision, size.into()));
                }
            }
        }
    }

    #[test]
    fn later_revisions_read_as_revision_3() {
        let parsed = OffloadParameters::parse(&wire(5, 26)).unwrap();
        assert_eq!((parsed.revision, parsed.size), (3, 26));
    }

    #[test]
    fn fields_of_later_revisions_are_not_read() {
        let mut bytes = wire(1, 20);
        bytes[20] = 99;
        bytes[22] = 99;
        assert_eq!(OffloadParameters::parse(&bytes).unwrap().ipsec_v2, None);
    }

    #[test]
    fn ranges() {
        for (field, highest) in [
            (4, 4),
            (5, 4),
            (6, 4),
            (7, 4),
            (8, 4),
            (9, 2),
            (10, 4),
            (11, 2),
            (12, 2),
            (13, 2),
            (14, 2),
            (20, 4),
            (21, 4),
            (22, 2),
            (23, 2),
            (24, 2),
        ] {
            for value in 0..=255 {
                let mut bytes = wire(3, 26);
                bytes[field] = value;
                let result = OffloadParameters::parse(&bytes);
                assert_eq!(result.is_ok(), value <= highest, "field {field} value {value}");
            }
        }
    }

    #[test]
    fn meanings() {
        let mut bytes = wire(3, 26);
        bytes[4] = 3;
        bytes[11] = 1;
        bytes[20] = 2;
        let parsed = OffloadParameters::parse(&bytes).unwrap();
        assert_eq!(parsed.ipv4_checksum, Some(ChecksumSetting { transmit: false, receive: true }));
        assert_eq!(parsed.lso_v2_ipv4, Some(Toggle::Off));
        assert_eq!(parsed.ipsec_v2, Some(IpsecSetting { ah: true, esp: false }));
        assert_eq!((parsed.tcp_ipv6_checksum, parsed.encapsulated), (None, None));
        for (value, toggle) in [(1, Toggle::On), (2, Toggle::Off)] {
            bytes[24] = value;
            assert_eq!(OffloadParameters::parse(&bytes).unwrap().encapsulated, Some(toggle));
        }
    }
}
