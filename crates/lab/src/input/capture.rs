//! Reads capture files: pcap in all its variants, and pcapng.

use std::ops::Range;
use std::path::Path;

use pcap_parser::nom::Err as NomErr;
use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{
    PcapError, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
    parse_sectionheaderblock,
};

use super::LinkType;

/// A file larger than this is refused: it is held in memory.
const MAX_FILE: u64 = 4 << 30;
/// Block type of the obsolete Packet Block of pcapng, which nothing has written since 2010.
const OBSOLETE_PACKET_BLOCK: u32 = 2;

/// Why a file cannot be used. Each is one line for the user, without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Over 4 GiB.
    #[error("larger than 4 GiB")]
    TooLarge,
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Its first bytes are not those of a capture.
    #[error("not a pcap or pcapng capture{0}")]
    NotACapture(&'static str),
    /// It ends within a record.
    #[error("the capture is cut short at byte {at}, after {packets} packets")]
    Truncated {
        /// Where the incomplete record starts.
        at: usize,
        /// Complete packets before it.
        packets: usize,
    },
    /// A record makes no sense.
    #[error("the capture is damaged at byte {at}, after {packets} packets: {what}")]
    Damaged {
        /// Where the record starts.
        at: usize,
        /// Packets before it.
        packets: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A capture of nothing.
    #[error("the capture holds no packets")]
    NoPackets,
}

/// A capture in memory.
#[derive(Debug)]
pub struct Capture {
    bytes: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Clone, Debug)]
struct Record {
    data: Range<usize>,
    original_length: usize,
    link: LinkType,
}

/// One packet of a capture, as captured.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The captured bytes, from the link-layer header on.
    pub data: &'a [u8],
    /// Its length on the wire: more than `data` if the capture was limited.
    pub original_length: usize,
    /// What `data` starts with.
    pub link: LinkType,
}

impl Capture {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.len() > MAX_FILE {
            return Err(InputError::TooLarge);
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE), &mut bytes)?;
        Self::from_bytes(bytes)
    }

    /// Takes the contents of a file.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InputError> {
        let records = match bytes.first_chunk::<4>() {
            None if bytes.is_empty() => return Err(InputError::Empty),
            Some(b"\x0a\x0d\x0d\x0a") => read_pcapng(&bytes)?,
            // 0x34cd: Kuznetzov's variant, little-endian only.
            Some(
                b"\xd4\xc3\xb2\xa1" | b"\xa1\xb2\xc3\xd4" | b"\x4d\x3c\xb2\xa1" | b"\xa1\xb2\x3c\x4d"
                | b"\x34\xcd\xb2\xa1",
            ) => read_pcap(&bytes)?,
            Some([0x1f, 0x8b, ..]) => {
                return Err(InputError::NotACapture(", but compressed: gunzip it first"));
            }
            Some(b"\x28\xb5\x2f\xfd") => {
                return Err(InputError::NotACapture(", but compressed: unzstd it first"));
            }
            _ => return Err(InputError::NotACapture("")),
        };
        if records.is_empty() {
            return Err(InputError::NoPackets);
        }
        Ok(Self { bytes, records })
    }

    /// Number of packets; at least one.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Never: a capture holds at least one packet.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The packets, in the file's order.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        self.records.iter().map(|record| Packet {
            data: &self.bytes[record.data.clone()],
            original_length: record.original_length,
            link: record.link,
        })
    }
}

/// The place of `part`, a slice of `whole`.
fn range_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// Sorts the parser's errors into cut short and damaged.
fn failure(error: &NomErr<PcapError<&[u8]>>, at: usize, packets: usize) -> InputError {
    match error {
        NomErr::Incomplete(_) => InputError::Truncated { at, packets },
        NomErr::Error(_) | NomErr::Failure(_) => {
            InputError::Damaged { at, packets, what: "a record does not parse" }
        }
    }
}

fn read_pcap(bytes: &[u8]) -> Result<Vec<Record>, InputError> {
    let (mut rest, header) = parse_pcap_header(bytes).map_err(|error| failure(&error, 0, 0))?;
    let parse = match (header.is_modified_format(), header.is_bigendian()) {
        (true, _) => parse_pcap_frame_modified,
        (false, true) => parse_pcap_frame_be,
        (false, false) => parse_pcap_frame,
    };
    // The upper bits of the field say how long the FCS is; it lies behind what the IP header counts.
    let link = LinkType(header.network.0.cast_unsigned() & 0xffff);
    let mut records = Vec::new();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (next, frame) = parse(rest).map_err(|error| failure(&error, at, records.len()))?;
        records.push(Record {
            data: range_in(bytes, frame.data),
            original_length: frame.origlen as usize,
            link,
        });
        rest = next;
    }
    Ok(records)
}

/// Whether a block, other than a section's header, says that it has fewer than the 12 bytes of its type and its two lengths.
/// pcap-parser 0.17 takes 12 off the length of some kinds unseen, and panics.
fn is_stunted(block: &[u8], big_endian: bool) -> bool {
    let Some((kind, rest)) = block.split_first_chunk::<4>() else { return false };
    let Some(length) = rest.first_chunk::<4>() else { return false };
    let length = if big_endian { u32::from_be_bytes(*length) } else { u32::from_le_bytes(*length) };
    *kind != *b"\x0a\x0d\x0d\x0a" && length < 12
}

fn read_pcapng(bytes: &[u8]) -> Result<Vec<Record>, InputError> {
    let (_, section) = parse_sectionheaderblock(bytes).map_err(|error| failure(&error, 0, 0))?;
    let mut big_endian = section.big_endian();
    let mut interfaces: Vec<(LinkType, u32)> = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let packets = records.len();
        let damaged = |what| InputError::Damaged { at, packets, what };
        if is_stunted(rest, big_endian) {
            return Err(damaged("a block shorter than its own lengths"));
        }
        let parse = if big_endian { parse_block_be } else { parse_block_le };
        let (next, block) = parse(rest).map_err(|error| failure(&error, at, packets))?;
        if next.len() >= rest.len() {
            return Err(damaged("a block without a length"));
        }
        rest = next;
        match block {
            Block::SectionHeader(section) => {
                big_endian = section.big_endian();
                interfaces.clear();
            }
            Block::InterfaceDescription(interface) => {
                let link = LinkType(interface.linktype.0.cast_unsigned() & 0xffff);
                interfaces.push((link, interface.snaplen));
            }
            Block::EnhancedPacket(packet) => {
                let (link, _) = usize::try_from(packet.if_id)
                    .ok()
                    .and_then(|index| interfaces.get(index))
                    .ok_or(damaged("a packet of an interface that is not described"))?;
                records.push(Record {
                    data: range_in(bytes, packet.packet_data()),
                    original_length: packet.origlen as usize,
                    link: *link,
                });
            }
            Block::SimplePacket(packet) => {
                let (link, snaplen) =
                    interfaces.first().ok_or(damaged("a packet of an interface that is not described"))?;
                let mut data = packet.packet_data();
                if *snaplen > 0 {
                    data = &data[..data.len().min(*snaplen as usize)];
                }
                records.push(Record {
                    data: range_in(bytes, data),
                    original_length: packet.origlen as usize,
                    link: *link,
                });
            }
            Block::Unknown(block) if block.block_type == OBSOLETE_PACKET_BLOCK => {
                return Err(damaged("packets in obsolete Packet Blocks; `editcap` rewrites them"));
            }
            _ => {} // names, statistics, secrets: no packets
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{DEFAULT_CAPTURE, link};

    /// A pcap file with packets of the given bytes.
    fn pcap(
        order: fn(u32) -> [u8; 4],
        half: fn(u16) -> [u8; 2],
        magic: u32,
        link: u32,
        data: &[&[u8]],
    ) -> Vec<u8> {
        let mut file = order(magic).to_vec();
        file.extend(half(2));
        file.extend(half(4));
        file.extend([0; 8]);
        file.extend(order(65_535));
        file.extend(order(link));
        for packet in data {
            let length = u32::try_from(packet.len()).unwrap();
            for field in [1, 2, length, length + 1] {
                file.extend(order(field));
            }
            if magic == 0xa1b2_cd34 {
                file.extend([0; 8]);
            }
            file.extend_from_slice(packet);
        }
        file
    }

    #[test]
    fn every_variant_of_pcap_is_read() {
        let data: [&[u8]; 3] = [&[1, 2, 3], &[], &[4; 100]];
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
            let files = [
                pcap(u32::to_le_bytes, u16::to_le_bytes, magic, 101, &data),
                pcap(u32::to_be_bytes, u16::to_be_bytes, magic, 101, &data),
            ];
            for file in files {
                check(file, &data);
            }
        }
        check(pcap(u32::to_le_bytes, u16::to_le_bytes, 0xa1b2_cd34, 101, &data), &data);
        // With a length of the FCS in the link type's upper bits.
        check(pcap(u32::to_le_bytes, u16::to_le_bytes, 0xa1b2_c3d4, 0x2400_0065, &data), &data);
    }

    fn check(file: Vec<u8>, data: &[&[u8]]) {
        let capture = Capture::from_bytes(file).unwrap();
        let got: Vec<_> = capture.packets().map(|packet| packet.data).collect();
        assert_eq!(got, data);
        assert!(capture.packets().all(|packet| packet.link == link::RAW));
        assert!(capture.packets().all(|packet| packet.original_length == packet.data.len() + 1));
    }

    #[test]
    fn the_default_capture_is_read() {
        let capture = Capture::from_bytes(DEFAULT_CAPTURE.to_vec()).unwrap();
        assert!(capture.len() > 100);
        assert!(capture.packets().all(|packet| packet.link == link::ETHERNET));
        assert!(capture.packets().all(|packet| packet.original_length == packet.data.len()));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_or_ends_between_records() {
        let small = pcap(u32::to_le_bytes, u16::to_le_bytes, 0xa1b2_c3d4, 1, &[&[7; 20], &[8; 9]]);
        for file in [DEFAULT_CAPTURE[..4000].to_vec(), small] {
            let mut whole = 0;
            for length in 0..file.len() {
                match Capture::from_bytes(file[..length].to_vec()) {
                    Ok(_) => whole += 1,
                    Err(error) => assert!(!error.to_string().contains('\n')),
                }
            }
            assert!(whole < 30, "{whole}");
        }
    }

    #[test]
    fn damage_anywhere_never_panics() {
        let mut file = DEFAULT_CAPTURE[..3000].to_vec();
        for at in 0..file.len() {
            for flip in [0x01, 0x80, 0xff] {
                file[at] ^= flip;
                let _ = Capture::from_bytes(file.clone()).map(|capture| capture.packets().count());
                file[at] ^= flip;
            }
        }
    }

    /// Found by fuzzing, with a Process Information Block of 8 bytes.
    #[test]
    fn a_block_of_any_kind_that_is_too_short_is_damage() {
        let section =
            &DEFAULT_CAPTURE[..u32::from_le_bytes(*DEFAULT_CAPTURE[4..].first_chunk().unwrap()) as usize];
        let kinds = (0..12_u32).chain([0x8000_0001, 0x0BAD, 0x4000_0BAD]);
        for kind in kinds {
            for length in 0..12_u32 {
                let mut file = section.to_vec();
                file.extend(kind.to_le_bytes());
                file.extend(length.to_le_bytes());
                file.extend([0; 32]);
                let error = Capture::from_bytes(file).unwrap_err();
                assert!(matches!(error, InputError::Damaged { .. }), "{kind:#x}, {length}: {error}");
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_called_so() {
        let line = |bytes: &[u8]| Capture::from_bytes(bytes.to_vec()).unwrap_err().to_string();
        assert_eq!(line(b""), "the file is empty");
        assert_eq!(line(b"abc"), "not a pcap or pcapng capture");
        assert_eq!(line(b"MZ\x90\0 a driver"), "not a pcap or pcapng capture");
        assert!(line(b"\x1f\x8b\x08\0").contains("gunzip"));
        let none = pcap(u32::to_le_bytes, u16::to_le_bytes, 0xa1b2_c3d4, 1, &[]);
        assert_eq!(line(&none), "the capture holds no packets");
        assert!(matches!(Capture::read(Path::new("no such file")), Err(InputError::Io(_))));
    }
}
