//! Parsers that need no driver.

use ipsec::algorithm::Algorithm;
use ipsec::esp::EspSa;
use ipsec::wire::{EspHeader, EthernetFrame, Ipv4Packet};
use ndis_lab::inf::Inf;
use ndis_lab::loader::Image;

/// Header views agree with each other and stay inside; an ESP packet that does not open stays as it is.
pub(crate) fn ipsec_wire(data: &[u8]) {
    if let Ok(ethernet) = EthernetFrame::new_checked(data) {
        let _ = (ethernet.dst(), ethernet.src(), ethernet.ethertype(), ethernet.vlan());
        assert_eq!(ethernet.header_len() + ethernet.payload().len(), data.len());
    }
    if let Ok(ip) = Ipv4Packet::new_checked(data) {
        let (header, total) = (ip.header_len(), usize::from(ip.total_len()));
        assert!((20..=60).contains(&header) && header <= total && total <= data.len());
        assert_eq!((ip.header().len(), header + ip.payload().len()), (header, total));
        assert_eq!(ip.options().len(), header - 20);
        let fragment = ip.more_fragments() || ip.fragment_offset() != 0;
        assert_eq!(ip.is_fragment(), fragment);
        let _ = (ip.ident(), ip.dont_fragment(), ip.ttl(), ip.protocol(), ip.src(), ip.dst());
        let mut copy = data.to_vec();
        if let Ok(mut changed) = Ipv4Packet::new_checked(copy.as_mut_slice()) {
            changed.fill_checksum();
            assert!(changed.verify_checksum());
        }
    }
    if let Ok(esp) = EspHeader::new_checked(data) {
        let _ = (esp.spi(), esp.sequence());
    }
    let Some((&choice, packet)) = data.split_first() else { return };
    let algorithm =
        [Algorithm::AesGcm128, Algorithm::AesGcm192, Algorithm::AesGcm256][usize::from(choice) % 3];
    let key = vec![7; [20, 28, 36][usize::from(choice) % 3]];
    let sa = EspSa::new(algorithm, 0x0102_0304, &key).expect("a key of the right length");
    let high = (choice & 0x80 != 0).then_some(u32::from(choice));
    // Sealed it opens, to what it was; else it is refused and unchanged. (That it opens by chance takes 2^128 tries.)
    let mut sealed = packet.to_vec();
    if choice & 0x40 != 0 && sa.seal(&mut sealed, high, None).is_ok() {
        let body = 16..sealed.len() - 16;
        let opened = sa.open(&mut sealed, high).expect("what was sealed");
        assert_eq!(sealed[body.clone()], packet[body]);
        let _ = opened.trailer;
    } else {
        let mut refused = packet.to_vec();
        assert!(sa.open(&mut refused, high).is_err());
        assert_eq!(refused, packet, "what is not authentic is not decrypted");
    }
}

/// A dump is read to its end, and what is written again of it reads the same.
pub(crate) fn dump(data: &[u8]) {
    let Ok(dump) = ipsecnic::dump::Dump::parse(data) else { return };
    let summary = *dump.summary();
    let entries: Vec<_> = dump.collect();
    assert_eq!(entries.len(), summary.entries as usize);
    let mut again = summary.to_bytes().to_vec();
    for entry in &entries {
        again.extend(entry.to_bytes());
    }
    let dump = ipsecnic::dump::Dump::parse(&again).expect("what was written");
    assert_eq!((*dump.summary(), dump.collect::<Vec<_>>()), (summary, entries));
}

/// An image is mapped or refused; its checksum is made good first, or hardly any would be looked at.
pub(crate) fn pe_image(data: &[u8]) {
    let mut bytes = data.to_vec();
    let header = bytes.get(0x3C..0x40).map(|at| u32::from_le_bytes([at[0], at[1], at[2], at[3]]) as usize);
    if let Some(checksum) = header.and_then(|at| bytes.get_mut(at.checked_add(88)?..at.checked_add(92)?)) {
        checksum.fill(0); // none
    }
    let Ok(image) = Image::load(&bytes, |_, name| (!name.starts_with("No")).then_some(0x1000)) else {
        return;
    };
    assert!(image.sections().iter().all(|section| section.range.end <= image.size()));
    assert!(image.sections().iter().all(|section| !(section.writable && section.executable)));
    let entry = u32::try_from(image.entry() - image.base()).expect("inside");
    assert!(image.sections().iter().any(|section| section.executable && section.range.contains(&entry)));
    let exceptions = image.exception_directory();
    assert!(exceptions.start <= exceptions.end);
    let _ = (image.imports(), image.pdb(), image.time_date_stamp());
}

/// An INF is read or refused.
pub(crate) fn inf(data: &[u8]) {
    let _ = Inf::read(data);
}

/// A capture is read to its end or refused, and each packet judged.
pub(crate) fn capture(data: &[u8]) {
    let Ok(capture) = lab::input::Capture::from_bytes(data.to_vec()) else { return };
    for packet in capture.packets() {
        let _ = lab::input::classify(packet, 1500);
    }
}
