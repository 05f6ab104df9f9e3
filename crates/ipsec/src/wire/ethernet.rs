//! Ethernet II, with at most one 802.1Q tag.

use core::fmt;

use super::{Error, bytes};

/// Where the type, or the tag before it, begins.
const TYPE: usize = 12;
/// Bytes of the header without a tag.
const HEADER_LEN: usize = 14;
/// Bytes of an 802.1Q tag.
const TAG_LEN: usize = 4;

/// A 48-bit MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xFF; 6]);

    /// Whether it is the broadcast address.
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether it is a group address; broadcast is one.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

/// An `EtherType`, or below 1536 the length of an 802.3 frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q tag.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86DD);
}

/// The content of an 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// Priority code point, 0-7.
    pub priority: u8,
    /// Drop eligible indicator.
    pub drop_eligible: bool,
    /// VLAN identifier, 0-4095; 0 means that the tag carries a priority only.
    pub vlan_id: u16,
}

/// An Ethernet II frame without its frame check sequence.
///
/// One 802.1Q tag is taken as part of the header. Of two, the second is the [`EtherType`] and the payload
/// begins with it: what is not understood is not looked into.
#[derive(Clone, Copy, Debug)]
pub struct EthernetFrame<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> EthernetFrame<T> {
    /// # Errors
    /// [`Error::Truncated`] when the header, with its tag if it has one, is not all there.
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let frame = Self { buffer };
        let len = frame.buffer.as_ref().len();
        if len < HEADER_LEN || len < frame.header_len() { Err(Error::Truncated) } else { Ok(frame) }
    }

    /// Destination address.
    pub fn dst(&self) -> MacAddress {
        MacAddress(bytes(self.buffer.as_ref(), 0))
    }

    /// Source address.
    pub fn src(&self) -> MacAddress {
        MacAddress(bytes(self.buffer.as_ref(), 6))
    }

    /// What the payload is: the type after the tag, if there is one.
    pub fn ethertype(&self) -> EtherType {
        self.u16_at(self.header_len() - 2)
    }

    /// The 802.1Q tag.
    pub fn vlan(&self) -> Option<VlanTag> {
        self.is_tagged().then(|| {
            let EtherType(tag) = self.u16_at(TYPE + 2);
            VlanTag {
                priority: tag.to_be_bytes()[0] >> 5,
                drop_eligible: tag & 0x1000 != 0,
                vlan_id: tag & 0x0FFF,
            }
        })
    }

    /// Bytes before the payload: 14, or 18 with a tag.
    pub fn header_len(&self) -> usize {
        if self.is_tagged() { HEADER_LEN + TAG_LEN } else { HEADER_LEN }
    }

    /// What follows the header, Ethernet's own padding included.
    pub fn payload(&self) -> &[u8] {
        self.buffer.as_ref().get(self.header_len()..).unwrap_or_default()
    }

    /// Gives the buffer back.
    pub fn into_inner(self) -> T {
        self.buffer
    }

    fn is_tagged(&self) -> bool {
        self.u16_at(TYPE) == EtherType::VLAN
    }

    fn u16_at(&self, at: usize) -> EtherType {
        EtherType(u16::from_be_bytes(bytes(self.buffer.as_ref(), at)))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EthernetFrame<T> {
    /// What follows the header, to write.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let at = self.header_len();
        self.buffer.as_mut().get_mut(at..).unwrap_or_default()
    }
}
