//! An adapter's settings: the standardized keywords and our own, as the INF declares them
//! (`enumeration-keywords`, `keywords-that-can-be-edited`). Whatever is missing or out of range is its default; what NDIS had
//! no memory to read is an error, for a default might switch on what was switched off.

use core::num::NonZeroU32;

use ndis::{Configuration, IpsecSetting, Result};

use crate::nic::{filter::MacAddress, frame};

/// What `*JumboPacket` may be: frame bytes with MAC header, without tag and FCS.
const MAX_FRAME: core::ops::RangeInclusive<u32> = 1514..=9014;

/// What this adapter was told to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Longest frame, MAC header included, in bytes.
    pub(crate) max_frame: u32,
    /// The address that the device was born with.
    pub(crate) permanent_address: MacAddress,
    /// The address in use: the user's, if there is one.
    pub(crate) current_address: MacAddress,
    /// What of IPsec is on at first.
    pub(crate) ipsec: IpsecSetting,
    /// The keyword that said so, and with it the field of `OID_TCP_OFFLOAD_PARAMETERS` that changes it.
    pub(crate) ipsec_keyword: IpsecKeyword,
    /// `SegmentId`: the virtual segment to be on.
    pub(crate) segment: u32,
    /// `SaOffloadCapacity`: SA slots.
    pub(crate) sa_capacity: u32,
    /// `FaultInjection`: whether a private OID may wedge the device.
    pub(crate) fault_injection: bool,
    /// `SaSlotUses`, with fault injection: how often an SA slot is used before it is worn out; `None` for as often as can be.
    pub(crate) sa_slot_uses: Option<NonZeroU32>,
}

/// Which of the two IPsec keywords an adapter is installed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpsecKeyword {
    /// `*IPsecOffloadV2IPv4`, for devices that offload IPv4 only, as this one does and its INF says.
    Ipv4Only,
    /// `*IPsecOffloadV2`, for devices of both families: another INF's. What it says of IPv4 is done.
    BothFamilies,
}

/// Receive buffers lent to the NIC.
pub(crate) const RECEIVE_BUFFERS: u32 = 256;

impl Settings {
    /// Reads the settings of the adapter with interface index `if_index`.
    ///
    /// # Errors
    /// `RESOURCES`.
    pub(crate) fn read(configuration: &Configuration<'_>, if_index: u32) -> Result<Self> {
        let permanent_address = permanent_address(if_index);
        let (ipsec, ipsec_keyword) = ipsec(configuration)?;
        let fault_injection = configuration.read_bool("FaultInjection", false)?;
        let sa_slot_uses =
            if fault_injection { configuration.read_u32("SaSlotUses", 0..=u32::MAX, 0)? } else { 0 };
        Ok(Self {
            max_frame: configuration.read_u32("*JumboPacket", MAX_FRAME, *MAX_FRAME.start())?,
            permanent_address,
            current_address: configuration.network_address()?.map_or(permanent_address, MacAddress),
            ipsec,
            ipsec_keyword,
            segment: configuration.read_u32("SegmentId", 0..=0xFFFF, 0)?,
            sa_capacity: configuration.read_u32("SaOffloadCapacity", 1..=65_536, 4096)?,
            fault_injection,
            sa_slot_uses: NonZeroU32::new(sa_slot_uses),
        })
    }

    /// Largest payload of a frame, in bytes.
    pub(crate) fn mtu(&self) -> u32 {
        self.max_frame - HEADER_LEN
    }
}

#[expect(clippy::cast_possible_truncation, reason = "14")]
const HEADER_LEN: u32 = frame::HEADER_LEN as u32;

/// The IPsec keywords. The one for IPv4-only devices is asked first; a device has one of the two, never both.
fn ipsec(configuration: &Configuration<'_>) -> Result<(IpsecSetting, IpsecKeyword)> {
    // Their numbers: 0 off, 1 AH, 2 ESP, 3 both; here 4 if there is none, or nonsense.
    let read = |keyword| configuration.read_u32(keyword, 0..=3, 4);
    let (value, keyword) = match (read("*IPsecOffloadV2IPv4")?, read("*IPsecOffloadV2")?) {
        (4, both @ 0..=3) => (both, IpsecKeyword::BothFamilies),
        (ipv4, _) => (ipv4, IpsecKeyword::Ipv4Only),
    };
    let value = if value > 3 { 3 } else { value };
    Ok((IpsecSetting { ah: value & 1 != 0, esp: value & 2 != 0 }, keyword))
}

/// A locally administered address that no two adapters of one machine share.
fn permanent_address(if_index: u32) -> MacAddress {
    let [a, b, c, d] = if_index.to_be_bytes();
    MacAddress([0x02, 50, a, b, c, d])
}
