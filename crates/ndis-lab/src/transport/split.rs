//! Splits a frame over MDLs the way a stack may: anywhere, at odd lengths, with empty ones in between.

use std::ops::Range;

use super::ETHERNET_HEADER_LENGTH;

/// How a frame lies in a `NET_BUFFER`'s MDL chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The part of the frame in each MDL, in order; they cover the frame, and some may be empty.
    pub pieces: Vec<Range<usize>>,
    /// Bytes in the first MDL before the frame: the `NET_BUFFER`'s `DataOffset`.
    pub lead: usize,
    /// Bytes in the last MDL after the frame, which are not part of it.
    pub tail: usize,
}

impl Layout {
    /// The plainest one: one MDL that holds the frame and nothing else.
    pub fn whole(length: usize) -> Self {
        Self { pieces: std::iter::once(0..length).collect(), lead: 0, tail: 0 }
    }
}

/// A random layout for a frame of `length` bytes. NDIS's only promise is kept: the MAC header is in one MDL.
pub fn split(random: &mut fastrand::Rng, length: usize) -> Layout {
    if length <= ETHERNET_HEADER_LENGTH || random.u8(..) < 64 {
        return Layout::whole(length);
    }
    let mut cuts: Vec<usize> =
        (0..random.usize(..6)).map(|_| random.usize(ETHERNET_HEADER_LENGTH..=length)).collect();
    if random.bool() {
        cuts.push(ETHERNET_HEADER_LENGTH); // as Windows does it: the MAC header in its own MDL
    }
    cuts.push(length);
    cuts.sort_unstable(); // equal cuts make empty MDLs
    let mut start = 0;
    let pieces = cuts.into_iter().map(|end| std::mem::replace(&mut start, end)..end).collect();
    Layout { pieces, lead: random.usize(..64), tail: random.usize(..32) }
}

#[cfg(test)]
mod tests {
    use super::{ETHERNET_HEADER_LENGTH, split};

    #[test]
    fn the_pieces_cover_the_frame_and_the_mac_header_is_whole() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut empty, mut many) = (0, 0);
        for length in (0..2000).chain(0..2000) {
            let layout = split(&mut random, length);
            assert_eq!(layout.pieces.first().unwrap().start, 0);
            assert_eq!(layout.pieces.last().unwrap().end, length);
            assert!(layout.pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(layout.pieces[0].len() >= ETHERNET_HEADER_LENGTH.min(length));
            empty += usize::from(layout.pieces.iter().any(std::ops::Range::is_empty));
            many += usize::from(layout.pieces.len() > 3);
        }
        assert!(empty > 10 && many > 1000, "{empty} {many}");
    }
}
