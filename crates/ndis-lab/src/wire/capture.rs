//! Writes Ethernet frames as pcapng.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, PcapError, PcapResult};

/// A capture of one or more Ethernet interfaces, with nanosecond timestamps.
pub struct CaptureWriter<W: Write> {
    writer: PcapNgWriter<W>,
    interfaces: u32,
}

impl<W: Write> CaptureWriter<W> {
    /// Starts a capture made by `application`.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn new(writer: W, application: &str) -> std::io::Result<Self> {
        let section = SectionHeaderBlock {
            options: vec![SectionHeaderOption::UserApplication(Cow::Owned(application.to_owned()))],
            ..SectionHeaderBlock::default()
        };
        let writer = io(PcapNgWriter::with_section_header(writer, section))?;
        Ok(Self { writer, interfaces: 0 })
    }

    /// Adds an interface; frames name it by the number returned.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn interface(&mut self, name: &str, description: &str) -> std::io::Result<u32> {
        io(self.writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfDescription(Cow::Borrowed(description)),
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        }))?;
        let number = self.interfaces;
        self.interfaces += 1;
        Ok(number)
    }

    /// Writes one frame, seen `timestamp` after 1970-01-01 UTC, with a comment if there is something to say.
    ///
    /// # Errors
    /// What the writer returns; `InvalidInput` for an interface that was not added, or a frame of over 4 GiB.
    pub fn frame(
        &mut self,
        interface: u32,
        timestamp: Duration,
        frame: &[u8],
        comment: Option<&str>,
    ) -> std::io::Result<()> {
        let original_len =
            u32::try_from(frame.len()).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        io(self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: interface,
            timestamp,
            original_len,
            data: Cow::Borrowed(frame),
            options: comment
                .map(|text| EnhancedPacketOption::Comment(Cow::Borrowed(text)))
                .into_iter()
                .collect(),
        }))?;
        Ok(())
    }

    /// Flushes, and gives the writer back.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn finish(self) -> std::io::Result<W> {
        let mut writer = self.writer.into_inner();
        writer.flush()?;
        Ok(writer)
    }
}

fn io<T>(result: PcapResult<T>) -> std::io::Result<T> {
    result.map_err(|error| match error {
        PcapError::IoError(error) => error,
        other => std::io::Error::new(std::io::ErrorKind::InvalidInput, other),
    })
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    #[test]
    fn a_reader_gets_back_what_was_written() {
        let mut capture = CaptureWriter::new(Vec::new(), "a test").unwrap();
        let left = capture.interface("left", "the left segment").unwrap();
        let right = capture.interface("right", "the right segment").unwrap();
        let time = Duration::new(1_800_000_000, 123_456_789);
        let frames = [(left, vec![1; 60], Some("first")), (right, vec![2; 61], None), (left, vec![], None)];
        for (interface, frame, comment) in &frames {
            capture.frame(*interface, time, frame, *comment).unwrap();
        }
        assert!(capture.frame(2, time, &[0], None).is_err());
        let file = capture.finish().unwrap();

        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let mut at = 0;
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                let (interface, frame, comment) = &frames[at];
                assert_eq!(packet.interface_id, *interface);
                assert_eq!(packet.data, *frame);
                assert_eq!(packet.original_len as usize, frame.len());
                assert_eq!(packet.timestamp, time);
                let said: Vec<_> =
                    comment.map(|text| EnhancedPacketOption::Comment(text.into())).into_iter().collect();
                assert_eq!(packet.options, said);
                at += 1;
            }
        }
        assert_eq!(at, frames.len());
    }
}
