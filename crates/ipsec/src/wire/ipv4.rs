//! IPv4 (RFC 791).

use core::net::Ipv4Addr;

use super::{Error, bytes, set_bytes};
use crate::checksum;

/// IP protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP: the payload of a tunnel.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ESP (RFC 4303).
    pub const ESP: u8 = 50;
    /// AH (RFC 4302).
    pub const AH: u8 = 51;
    /// No next header: the payload of a dummy packet (RFC 4303 §2.6).
    pub const NO_NEXT_HEADER: u8 = 59;
}

/// Bytes of the header without options.
const MIN_HEADER_LEN: usize = 20;
const TOTAL_LEN: usize = 2;
const FRAGMENT: usize = 6;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const OPTIONS: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1FFF;

/// An IPv4 packet. The buffer may go on after it, as an Ethernet frame's padding does.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Checks version and lengths, not the checksum: see [`Self::verify_checksum`].
    ///
    /// # Errors
    /// [`Error::Truncated`] when the buffer has no whole header, [`Error::Version`] when it is not IPv4, [`Error::HeaderLength`]
    /// when the header claims less than 20 bytes, [`Error::TotalLength`] when the packet claims less than
    /// its header or more than the buffer.
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let packet = Self { buffer };
        let len = packet.buffer.as_ref().len();
        let &[first, ..] = packet.buffer.as_ref() else { return Err(Error::Truncated) };
        if first >> 4 != 4 {
            return Err(Error::Version);
        }
        let header_len = packet.header_len();
        if header_len < MIN_HEADER_LEN {
            return Err(Error::HeaderLength);
        }
        if len < header_len {
            return Err(Error::Truncated);
        }
        let total_len = usize::from(packet.total_len());
        if total_len < header_len || total_len > len {
            return Err(Error::TotalLength);
        }
        Ok(packet)
    }

    /// Bytes of the header, options included: 20-60.
    pub fn header_len(&self) -> usize {
        let [first] = bytes(self.buffer.as_ref(), 0);
        usize::from(first & 0x0F) * 4
    }

    /// Bytes of the packet, header included.
    pub fn total_len(&self) -> u16 {
        self.u16_at(TOTAL_LEN)
    }

    /// Identification, for reassembly.
    pub fn ident(&self) -> u16 {
        self.u16_at(4)
    }

    /// The DF bit.
    pub fn dont_fragment(&self) -> bool {
        self.u16_at(FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// The MF bit.
    pub fn more_fragments(&self) -> bool {
        self.u16_at(FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where the payload belongs in the whole packet's, in bytes.
    pub fn fragment_offset(&self) -> u16 {
        // 13 bits times 8 fit 16.
        (self.u16_at(FRAGMENT) & FRAGMENT_OFFSET) << 3
    }

    /// Whether it is a fragment, the first one included. ESP and AH apply to whole packets only.
    pub fn is_fragment(&self) -> bool {
        self.u16_at(FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        let [ttl] = bytes(self.buffer.as_ref(), 8);
        ttl
    }

    /// What the payload is; see [`protocol`].
    pub fn protocol(&self) -> u8 {
        let [protocol] = bytes(self.buffer.as_ref(), PROTOCOL);
        protocol
    }

    /// The header checksum as it stands.
    pub fn header_checksum(&self) -> u16 {
        self.u16_at(CHECKSUM)
    }

    /// Whether the header checksum is right.
    pub fn verify_checksum(&self) -> bool {
        checksum::of(self.header()) == 0
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(bytes::<4>(self.buffer.as_ref(), 12))
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(bytes::<4>(self.buffer.as_ref(), 16))
    }

    /// The header, options included.
    pub fn header(&self) -> &[u8] {
        self.buffer.as_ref().get(..self.header_len()).unwrap_or_default()
    }

    /// The options as they stand, 0-40 bytes.
    pub fn options(&self) -> &[u8] {
        self.header().get(OPTIONS..).unwrap_or_default()
    }

    /// What follows the header, to the end of the packet, not of the buffer.
    pub fn payload(&self) -> &[u8] {
        self.buffer.as_ref().get(self.header_len()..usize::from(self.total_len())).unwrap_or_default()
    }

    /// Gives the buffer back.
    pub fn into_inner(self) -> T {
        self.buffer
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes(bytes(self.buffer.as_ref(), at))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4Packet<T> {
    /// What follows the header, to the end of the packet, to write.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = self.header_len()..usize::from(self.total_len());
        self.buffer.as_mut().get_mut(range).unwrap_or_default()
    }

    /// Sets the total length. The caller answers for that the buffer and the header agree with it.
    pub fn set_total_len(&mut self, total_len: u16) {
        set_bytes(self.buffer.as_mut(), TOTAL_LEN, &total_len.to_be_bytes());
    }

    /// Sets the protocol.
    pub fn set_protocol(&mut self, protocol: u8) {
        set_bytes(self.buffer.as_mut(), PROTOCOL, &[protocol]);
    }

    /// Computes the header checksum and writes it.
    pub fn fill_checksum(&mut self) {
        set_bytes(self.buffer.as_mut(), CHECKSUM, &[0, 0]);
        let checksum = checksum::of(self.header());
        set_bytes(self.buffer.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }
}
