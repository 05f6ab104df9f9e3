//! The crypto engine: what happens to one frame between host memory and the wire.
//!
//! Outbound, [`protect`] turns a frame that the stack has framed for ESP into what goes on the wire, or refuses
//! it. Inbound, [`selector`] says which SA a frame asks for and [`verify`] checks and decrypts it in place. Pure
//! functions over one frame and one SA: no table, no wire, no counters but the SA's own.

use core::net::Ipv4Addr;

use ipsec::{
    esp::{self, HEADER_LEN as ESP_HEADER_LEN, IV_LEN, OpenError, SealError, Trailer},
    wire::{EspHeader, EtherType, EthernetFrame, Ipv4Packet, protocol},
};

use super::sa::{Direction, Sa};

/// Bytes of an IPv4 header without options, the only kind that the capabilities cover.
const IPV4_HEADER_LEN: usize = 20;

/// What the host says about a packet that it wants protected (send OOB slot 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendHeader {
    /// The ESP trailer that the stack has written.
    pub trailer: Trailer,
    /// Bytes from the start of the IP header to the ESP header.
    pub esp_offset: usize,
}

/// Why a frame cannot be protected; it must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectError {
    /// The SA is for received packets.
    WrongDirection,
    /// The frame is not a whole IPv4 packet without options that carries ESP where the host says.
    NotEsp,
    /// Its addresses or SPI are not those of the SA.
    NotCovered,
    /// Its IV is the one of the packet before: encrypting it would break the cipher.
    IvRepeated,
    /// The ESP part is malformed.
    Malformed(SealError),
}

/// Encrypts and signs the ESP part of `frame` in place.
///
/// # Errors
/// [`ProtectError`]; the frame is then unchanged, and counted as a failure of the SA.
pub fn protect(sa: &Sa, frame: &mut [u8], header: SendHeader) -> Result<(), ProtectError> {
    let result = try_protect(sa, frame, header);
    match result {
        Ok(octets) => sa.count(octets),
        Err(_) => sa.count_failure(),
    }
    result.map(|_| ())
}

fn try_protect(sa: &Sa, frame: &mut [u8], header: SendHeader) -> Result<usize, ProtectError> {
    if sa.direction() != Direction::Outbound {
        return Err(ProtectError::WrongDirection);
    }
    let mut ethernet = EthernetFrame::new_checked(frame).map_err(|_| ProtectError::NotEsp)?;
    if ethernet.ethertype() != EtherType::IPV4 {
        return Err(ProtectError::NotEsp);
    }
    let mut ip = Ipv4Packet::new_checked(ethernet.payload_mut()).map_err(|_| ProtectError::NotEsp)?;
    if !is_plain_esp(&ip) || ip.header_len() != header.esp_offset {
        return Err(ProtectError::NotEsp);
    }
    if !sa.covers(ip.src(), ip.dst()) {
        return Err(ProtectError::NotCovered);
    }
    let packet = ip.payload_mut();
    let esp = EspHeader::new_checked(&*packet).map_err(|_| ProtectError::NotEsp)?;
    let sequence = esp.sequence();
    if esp.spi() != sa.spi() {
        return Err(ProtectError::NotCovered);
    }
    let iv = packet.get(ESP_HEADER_LEN..).and_then(<[u8]>::first_chunk::<IV_LEN>).copied();
    if !sa.take_iv(iv.ok_or(ProtectError::NotEsp)?) {
        return Err(ProtectError::IvRepeated);
    }
    let high = sa.esn().map(|esn| esn.nearest(sequence));
    sa.esp().seal(packet, high, Some(header.trailer)).map_err(ProtectError::Malformed)?;
    if let (Some(esn), Some(high)) = (sa.esn(), high) {
        esn.advance(high, sequence);
    }
    Ok(packet.len())
}

/// What a received packet says about the SA that it was sent under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The SPI as a number.
    pub spi: u32,
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// The sequence number, or the low half of an extended one.
    sequence: u32,
    /// Where the ESP part lies in the frame.
    start: usize,
    end: usize,
}

/// The SA that `frame` asks for; `None` for what the capabilities do not cover: anything that is not a whole IPv4
/// packet without options that carries ESP.
pub fn selector(frame: &[u8]) -> Option<Selector> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EtherType::IPV4 || ethernet.vlan().is_some() {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if !is_plain_esp(&ip) {
        return None;
    }
    let esp = EspHeader::new_checked(ip.payload()).ok()?;
    let start = ethernet.header_len() + ip.header_len();
    let end = ethernet.header_len() + usize::from(ip.total_len());
    Some(Selector {
        spi: esp.spi(),
        source: ip.src(),
        destination: ip.dst(),
        sequence: esp.sequence(),
        start,
        end,
    })
}

/// Verifies and decrypts in place the packet that `selector` was made of, and counts it.
///
/// # Errors
/// [`OpenError`]; a packet that is not authentic is left as it was.
pub fn verify(sa: &Sa, frame: &mut [u8], selector: Selector) -> Result<Trailer, OpenError> {
    let packet = frame.get_mut(selector.start..selector.end);
    let result = match packet {
        Some(packet) => open(sa, packet, selector.sequence),
        None => Err(OpenError::from(esp::SyntaxError::Truncated)),
    };
    match result {
        Ok(opened) => {
            sa.count(selector.end - selector.start);
            Ok(opened.trailer)
        }
        Err(error) => {
            sa.count_failure();
            Err(error)
        }
    }
}

/// Opens a packet with the high half of its sequence number, which it does not carry. What does not authenticate is not
/// decrypted, so a second try costs one more authentication and no more; [`Esn::candidates`](super::esn::Esn::candidates)
/// says when there is one.
fn open(sa: &Sa, packet: &mut [u8], sequence: u32) -> Result<esp::Opened, OpenError> {
    let Some(esn) = sa.esn() else { return sa.esp().open(packet, None) };
    let (first, second) = esn.candidates(sequence);
    let (mut high, mut result) = (first, sa.esp().open(packet, Some(first)));
    if let (Err(OpenError::AuthenticationFailed), Some(second)) = (&result, second) {
        (high, result) = (second, sa.esp().open(packet, Some(second)));
    }
    if result.is_ok() {
        esn.advance(high, sequence);
    }
    result
}

fn is_plain_esp<T: AsRef<[u8]>>(ip: &Ipv4Packet<T>) -> bool {
    ip.header_len() == IPV4_HEADER_LEN && !ip.is_fragment() && ip.protocol() == protocol::ESP
}
