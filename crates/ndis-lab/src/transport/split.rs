//! Splits a frame over MDLs the way a stack may: anywhere, at odd lengths, with empty ones in between.

use super::ETHERNET_HEADER_LENGTH;
use crate::adapter::send::SendFrame;

/// Lays a frame out at random. NDIS's only promise is kept: the MAC header is in one MDL.
pub fn split(random: &mut fastrand::Rng, bytes: Vec<u8>) -> SendFrame {
    let length = bytes.len();
    let plain = SendFrame { bytes, ..SendFrame::default() };
    if length <= ETHERNET_HEADER_LENGTH || random.u8(..) < 64 {
        return plain;
    }
    let (data_offset, tail) = (random.usize(..64), random.usize(..32));
    let mut cuts: Vec<usize> =
        (0..random.usize(..6)).map(|_| random.usize(ETHERNET_HEADER_LENGTH..=length)).collect();
    if random.bool() {
        cuts.push(ETHERNET_HEADER_LENGTH); // as Windows does it: the MAC header in its own MDL
    }
    cuts.sort_unstable(); // equal cuts make empty MDLs
    let mut start = 0;
    let split = cuts
        .into_iter()
        .map(|cut| {
            let end = data_offset + cut;
            end - std::mem::replace(&mut start, end)
        })
        .collect();
    SendFrame {
        split,
        data_offset,
        tail,
        misalign: random.usize(..16),
        unmapped: random.u8(..) < 32,
        ..plain
    }
}

#[cfg(test)]
mod tests {
    use super::{ETHERNET_HEADER_LENGTH, split};

    #[test]
    fn the_mdls_lie_within_the_data_and_the_mac_header_is_whole() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut empty, mut many) = (0, 0);
        for length in (0..2000).chain(0..2000) {
            let frame = split(&mut random, vec![7; length]);
            assert_eq!(frame.bytes.len(), length);
            assert!(frame.split.iter().sum::<usize>() <= frame.data_offset + length);
            if let Some(first) = frame.split.first() {
                assert!(*first >= frame.data_offset + ETHERNET_HEADER_LENGTH);
            }
            empty += usize::from(frame.split.contains(&0));
            many += usize::from(frame.split.len() > 2);
        }
        assert!(empty > 10 && many > 1000, "{empty} {many}");
    }
}
