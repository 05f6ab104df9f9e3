//! The private OIDs: the dump of the SA table, and the order to wedge the device. Layouts, writers and readers.
//!
//! Plain bytes, little-endian, no alignment asked; knows nothing of NDIS or of the driver, so that tools can read a dump with
//! the very code that wrote it. `docs/oids.md` says the same for people. There is nothing secret in a dump: keys, salts and
//! IVs have no field.
//!
//! A dump is a [`Summary`] and then its [`Entry`]s. Both sizes are in the summary; a later revision may lengthen either, and
//! readers skip what they do not know.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Query: the SA table. The first byte, FF, makes an OID the vendor's own.
pub const OID_IPSECNIC_SA_TABLE: u32 = 0xFF00_5A01;

/// Set, only with keyword `FaultInjection` 1: wedges the device; see [`wedge_order`].
pub const OID_IPSECNIC_WEDGE: u32 = 0xFF00_5A02;

/// Bytes of a summary.
pub const SUMMARY_LEN: usize = 64;

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 104;

/// `NDIS_OBJECT_TYPE_DEFAULT`, the first byte of both structures.
const OBJECT_TYPE: u8 = 0x80;
/// The revision of both structures.
const REVISION: u8 = 1;

/// The table as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of one word, each with a name")]
pub struct Summary {
    /// Entries that follow.
    pub entries: u32,
    /// SA slots.
    pub capacity: u32,
    /// SAs that were added.
    pub added: u64,
    /// SAs that were deleted.
    pub deleted: u64,
    /// SAs that were refused by the table: full, or there already.
    pub refused: u64,
    /// Handles in DELETE_SA lists that named no SA.
    pub skipped: u64,
    /// Deleted SAs whose keys some packet in progress still holds.
    pub waiting: u32,
    /// Resets of the device.
    pub resets: u32,
    /// The device is wedged.
    pub wedged: bool,
    /// Sends with a handle are protected.
    pub transmits: bool,
    /// Received packets are matched with SAs and processed.
    pub receives: bool,
    /// Received packets are matched with SAs and ask for their deletion.
    pub asks_to_delete: bool,
}

/// An SA, by slot number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `OffloadHandle`.
    pub handle: u64,
    /// Which use of the slot this is; part of the handle.
    pub generation: u64,
    /// The slot; part of the handle.
    pub slot: u32,
    /// For received packets.
    pub inbound: bool,
    /// The device has it in its slot.
    pub loaded: bool,
    /// The SPI as a number.
    pub spi: u32,
    /// 50 for ESP, 51 for AH.
    pub protocol: u8,
    /// `IPSEC_OFFLOAD_V2_ENCRYPTION_*`, 0 for none.
    pub encryption: u32,
    /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_*`, 0 for none of its own.
    pub authentication: u32,
    /// High half of the sequence number, if extended ones are used.
    pub sequence_high: Option<u32>,
    /// Sender of the packets, unspecified for any.
    pub source: IpAddr,
    /// Receiver, unspecified for any.
    pub destination: IpAddr,
    /// Packets protected, or verified.
    pub packets: u64,
    /// Bytes of their ESP parts.
    pub octets: u64,
    /// Packets refused: malformed, IV used before, or not authentic.
    pub errors: u64,
}

/// Flags of a summary.
mod summary_flags {
    pub(super) const WEDGED: u32 = 1;
    pub(super) const TRANSMITS: u32 = 2;
    pub(super) const RECEIVES: u32 = 4;
    pub(super) const ASKS_TO_DELETE: u32 = 8;
}

/// Flags of an entry.
mod entry_flags {
    pub(super) const INBOUND: u32 = 1;
    pub(super) const IPV6: u32 = 2;
    pub(super) const ESN: u32 = 4;
    pub(super) const LOADED: u32 = 8;
}

const fn flag(on: bool, flag: u32) -> u32 {
    if on { flag } else { 0 }
}

/// Fields one after the other.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn put<const M: usize>(&mut self, field: [u8; M]) -> &mut Self {
        if let Some(room) = self.bytes.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *room = field;
        }
        self.at += M;
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(value.to_le_bytes())
    }
}

/// Fields one after the other; what is not there reads as 0, and lengths are checked before.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const M: usize>(&mut self) -> [u8; M] {
        match self.bytes.split_first_chunk() {
            Some((field, rest)) => {
                self.bytes = rest;
                *field
            }
            None => [0; M],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "small constants")]
impl Summary {
    /// The structure.
    pub fn to_bytes(&self) -> [u8; SUMMARY_LEN] {
        use summary_flags as flags;
        let mut writer = Writer::new();
        writer
            .put([OBJECT_TYPE, REVISION])
            .put((SUMMARY_LEN as u16).to_le_bytes())
            .u32(ENTRY_LEN as u32)
            .u32(self.entries)
            .u32(self.capacity)
            .u64(self.added)
            .u64(self.deleted)
            .u64(self.refused)
            .u64(self.skipped)
            .u32(self.waiting)
            .u32(self.resets)
            .u32(
                flag(self.wedged, flags::WEDGED)
                    | flag(self.transmits, flags::TRANSMITS)
                    | flag(self.receives, flags::RECEIVES)
                    | flag(self.asks_to_delete, flags::ASKS_TO_DELETE),
            )
            .u32(0);
        writer.bytes
    }

    /// Reads what follows the two sizes and the number of entries.
    fn read(reader: &mut Reader<'_>, entries: u32) -> Self {
        use summary_flags as flags;
        let capacity = reader.u32();
        let [added, deleted, refused, skipped] = core::array::from_fn(|_| reader.u64());
        let [waiting, resets, bits] = core::array::from_fn(|_| reader.u32());
        Self {
            entries,
            capacity,
            added,
            deleted,
            refused,
            skipped,
            waiting,
            resets,
            wedged: bits & flags::WEDGED != 0,
            transmits: bits & flags::TRANSMITS != 0,
            receives: bits & flags::RECEIVES != 0,
            asks_to_delete: bits & flags::ASKS_TO_DELETE != 0,
        }
    }
}

impl Entry {
    /// The structure.
    pub fn to_bytes(&self) -> [u8; ENTRY_LEN] {
        use entry_flags as flags;
        let mut writer = Writer::new();
        writer
            .u64(self.handle)
            .u64(self.generation)
            .u32(self.slot)
            .u32(
                flag(self.inbound, flags::INBOUND)
                    | flag(self.destination.is_ipv6(), flags::IPV6)
                    | flag(self.sequence_high.is_some(), flags::ESN)
                    | flag(self.loaded, flags::LOADED),
            )
            .u32(self.spi)
            .u32(self.protocol.into())
            .u32(self.encryption)
            .u32(self.authentication)
            .u32(self.sequence_high.unwrap_or(0))
            .u32(0)
            .put(address_bytes(self.source))
            .put(address_bytes(self.destination))
            .u64(self.packets)
            .u64(self.octets)
            .u64(self.errors);
        writer.bytes
    }

    fn read(bytes: &[u8]) -> Self {
        use entry_flags as flags;
        let reader = &mut Reader { bytes };
        let [handle, generation] = core::array::from_fn(|_| reader.u64());
        let [slot, bits, spi, protocol, encryption, authentication, high, _] =
            core::array::from_fn(|_| reader.u32());
        let ipv6 = bits & flags::IPV6 != 0;
        let [source, destination] = core::array::from_fn(|_| address(reader.take(), ipv6));
        let [packets, octets, errors] = core::array::from_fn(|_| reader.u64());
        Self {
            handle,
            generation,
            slot,
            inbound: bits & flags::INBOUND != 0,
            loaded: bits & flags::LOADED != 0,
            spi,
            protocol: protocol.to_le_bytes()[0],
            encryption,
            authentication,
            sequence_high: (bits & flags::ESN != 0).then_some(high),
            source,
            destination,
            packets,
            octets,
            errors,
        }
    }
}

/// An IPv4 address lies in the first four bytes.
fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(bytes: [u8; 16], ipv6: bool) -> IpAddr {
    let [a, b, c, d, ..] = bytes;
    if ipv6 { Ipv6Addr::from(bytes).into() } else { Ipv4Addr::new(a, b, c, d).into() }
}

/// A dump that was read: an iterator over its entries, and what the table says of itself.
#[derive(Clone, Debug)]
pub struct Dump<'a> {
    summary: Summary,
    entry_len: usize,
    rest: &'a [u8],
}

/// Bytes that are no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpError {
    /// Fewer bytes than the structures say.
    Truncated,
    /// Another structure.
    Header,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the dump of the SA table ends too early",
            Self::Header => "not a dump of the SA table",
        })
    }
}

impl core::error::Error for DumpError {}

impl<'a> Dump<'a> {
    /// Reads the answer to [`OID_IPSECNIC_SA_TABLE`].
    ///
    /// # Errors
    /// [`DumpError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DumpError> {
        let whole = bytes.get(..SUMMARY_LEN).ok_or(DumpError::Truncated)?;
        let mut reader = Reader { bytes: whole };
        let [kind, revision] = reader.take();
        let summary_len = usize::from(u16::from_le_bytes(reader.take()));
        let entry_len = reader.u32() as usize;
        let entries = reader.u32();
        if kind != OBJECT_TYPE || revision < REVISION || summary_len < SUMMARY_LEN || entry_len < ENTRY_LEN {
            return Err(DumpError::Header);
        }
        let summary = Summary::read(&mut reader, entries);
        let len = entry_len.checked_mul(entries as usize).ok_or(DumpError::Truncated)?;
        let rest = bytes.get(summary_len..).and_then(|rest| rest.get(..len)).ok_or(DumpError::Truncated)?;
        Ok(Self { summary, entry_len, rest })
    }

    /// The table as a whole.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Iterator for Dump<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (entry, rest) = self.rest.split_at_checked(self.entry_len)?;
        self.rest = rest;
        Some(Entry::read(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rest.len() / self.entry_len;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Dump<'_> {}

/// The buffer of [`OID_IPSECNIC_WEDGE`]: wedge the device once it has transmitted so many more frames, at once for 0; with
/// `None`, call that off. Only a reset makes a wedged device work again.
pub fn wedge_order(frames: Option<u32>) -> [u8; WEDGE_LEN] {
    let mut writer = Writer::new();
    let size = u16::try_from(WEDGE_LEN).unwrap_or(0);
    writer.put([OBJECT_TYPE, REVISION]).put(size.to_le_bytes()).u32(frames.unwrap_or(NO_WEDGE));
    writer.bytes
}

/// Bytes of a wedge order.
pub const WEDGE_LEN: usize = 8;

/// No wedge.
const NO_WEDGE: u32 = u32::MAX;

/// Reads a wedge order.
pub(crate) fn read_wedge_order(bytes: &[u8]) -> Result<Option<u32>, DumpError> {
    let whole = bytes.get(..WEDGE_LEN).ok_or(DumpError::Truncated)?;
    let mut reader = Reader { bytes: whole };
    let [kind, revision] = reader.take();
    let size = usize::from(u16::from_le_bytes(reader.take()));
    if kind != OBJECT_TYPE || revision < REVISION || !(WEDGE_LEN..=bytes.len()).contains(&size) {
        return Err(DumpError::Header);
    }
    let frames = reader.u32();
    Ok((frames != NO_WEDGE).then_some(frames))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn entry(n: u64, destination: IpAddr) -> Entry {
        let unspecified =
            if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let small = u32::try_from(n).unwrap();
        Entry {
            handle: u64::MAX - n,
            generation: n << 40,
            slot: small,
            inbound: n.is_multiple_of(2),
            loaded: n.is_multiple_of(3),
            spi: 0xDEAD_0000 | small,
            protocol: 50 + u8::from(n.is_multiple_of(2)),
            encryption: 8,
            authentication: 0x20,
            sequence_high: (n.is_multiple_of(2)).then_some(u32::MAX - small),
            source: unspecified,
            destination,
            packets: n + 1,
            octets: n + 2,
            errors: n + 3,
        }
    }

    fn dump() -> (Summary, Vec<Entry>, Vec<u8>) {
        let entries: Vec<_> = [
            IpAddr::from([10, 0, 0, 1]),
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]),
            IpAddr::from([255, 255, 255, 255]),
        ]
        .into_iter()
        .enumerate()
        .map(|(n, address)| entry(n as u64, address))
        .collect();
        let summary = Summary {
            entries: 3,
            capacity: 4096,
            added: 1 << 40,
            deleted: 2,
            refused: 3,
            skipped: 4,
            waiting: 5,
            resets: 6,
            wedged: true,
            transmits: false,
            receives: true,
            asks_to_delete: false,
        };
        let mut bytes = Vec::from(summary.to_bytes());
        bytes.extend(entries.iter().flat_map(Entry::to_bytes));
        (summary, entries, bytes)
    }

    #[test]
    fn what_is_written_is_read_and_fills_its_structures() {
        let (summary, entries, bytes) = dump();
        let read = Dump::parse(&bytes).unwrap();
        assert_eq!((read.summary(), read.len()), (&summary, 3));
        assert_eq!(read.collect::<Vec<_>>(), entries);
        let mut writer = Writer::<SUMMARY_LEN>::new();
        writer.put([0; SUMMARY_LEN - 4]).u32(0);
        assert_eq!(writer.at, SUMMARY_LEN);
        // The last field of each is where the structure ends.
        assert_eq!(entries[2].to_bytes()[ENTRY_LEN - 8..], 5_u64.to_le_bytes());
        assert_eq!(summary.to_bytes()[SUMMARY_LEN - 8..SUMMARY_LEN - 4], 5_u32.to_le_bytes());
    }

    #[test]
    fn every_shorter_dump_is_refused_and_longer_structures_are_skipped() {
        let (summary, entries, bytes) = dump();
        for len in 0..bytes.len() {
            assert_eq!(Dump::parse(&bytes[..len]).err(), Some(DumpError::Truncated), "{len}");
        }
        let mut longer = bytes[..SUMMARY_LEN].to_vec();
        longer[1] = 2;
        longer[2..4].copy_from_slice(&72_u16.to_le_bytes());
        longer[4..8].copy_from_slice(&112_u32.to_le_bytes());
        longer.extend([0xEE; 8]);
        for entry in &entries {
            longer.extend(entry.to_bytes());
            longer.extend([0xEE; 8]);
        }
        let read = Dump::parse(&longer).unwrap();
        assert_eq!(*read.summary(), summary);
        assert_eq!(read.collect::<Vec<_>>(), entries);
        for (at, value) in [(0, 0x81), (1, 0), (2, 63), (4, 103), (11, 0xFF)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert!(Dump::parse(&wrong).is_err(), "byte {at}");
        }
    }

    #[test]
    fn wedge_orders() {
        for frames in [None, Some(0), Some(7), Some(u32::MAX - 1)] {
            let order = wedge_order(frames);
            assert_eq!(read_wedge_order(&order), Ok(frames));
            for len in 0..order.len() {
                assert_eq!(read_wedge_order(&order[..len]), Err(DumpError::Truncated));
            }
        }
        assert_eq!(read_wedge_order(&[0x80, 1, 9, 0, 0, 0, 0, 0]), Err(DumpError::Header));
        assert_eq!(read_wedge_order(&[0x80, 0, 8, 0, 0, 0, 0, 0]), Err(DumpError::Header));
    }
}
