//! The high half of an extended sequence number (RFC 4303 §2.2.1 and Appendix A).
//!
//! Only the low half goes on the wire; the high half is part of what the ICV covers. The host says where it stands
//! when it adds the SA and updates it when the low half wraps, but packets on either side of the wrap may pass the NIC before
//! or after that word comes. So the NIC keeps the newest number that it has processed, and takes a packet's to be
//! the one nearest to it, as Appendix A does with the receive window.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Half of the low half's range.
const HALF: u32 = 1 << 31;

/// Where an SA's extended sequence number stands. Any processor, any IRQL; nothing waits.
///
/// One word: the newest number that was processed, or what the host said last with a low half of 0. 0 stands for "nothing
/// processed since": then the host's word is taken as it is.
#[derive(Debug)]
pub struct Esn(AtomicU64);

impl Esn {
    /// As the host says.
    pub fn new(high: u32) -> Self {
        Self(AtomicU64::new(join(high, 0)))
    }

    /// The high half as far as the NIC knows.
    pub fn high(&self) -> u32 {
        split(self.0.load(Relaxed)).0
    }

    /// The host's word. The step that a wrap has led to already, or is about to, does not make the NIC forget on
    /// which side of it a packet is; any other is taken at face value.
    pub fn update(&self, high: u32) {
        // Relaxed, as in all of this module: the word stands for itself, and publishes nothing.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |newest| {
            let (old, low) = split(newest);
            if low != 0 && high == old {
                None
            } else if low >= HALF && Some(high) == old.checked_add(1) {
                Some(join(high, 1))
            } else {
                Some(join(high, 0))
            }
        });
    }

    /// The high half of the number whose low half is `low`: the nearest to the newest.
    pub fn nearest(&self, low: u32) -> u32 {
        let (high, newest) = split(self.0.load(Relaxed));
        if newest == 0 {
            return high;
        }
        let ahead = low.wrapping_sub(newest);
        if ahead < HALF {
            // At or after the newest: in the next subspace if the low half wrapped in between.
            if low < newest { high.saturating_add(1) } else { high }
        } else if low > newest {
            // Before it, across the wrap. There is nothing before 0.
            high.saturating_sub(1)
        } else {
            high
        }
    }

    /// The high halves to verify a received packet with: the nearest, then what the NIC has, if that is another one. It is
    /// another one only for packets that are 2^31 and more away from the newest, as no honest ones are but at the start.
    pub fn candidates(&self, low: u32) -> (u32, Option<u32>) {
        let nearest = self.nearest(low);
        let known = self.high();
        (nearest, (nearest != known).then_some(known))
    }

    /// A packet was processed as number `high`, `low`.
    pub fn advance(&self, high: u32, low: u32) {
        let number = join(high, low.max(1));
        // The usual case first without a write, for packets that come out of order.
        if number > self.0.load(Relaxed) {
            self.0.fetch_max(number, Relaxed);
        }
    }
}

const fn join(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of the word")]
const fn split(number: u64) -> (u32, u32) {
    ((number >> 32) as u32, number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4303 Appendix A2.1 for a window of 2^31.
    fn appendix_a(newest: u64, low: u32) -> u32 {
        let (th, tl) = split(newest);
        let bottom = tl.wrapping_sub(HALF - 1);
        if tl >= HALF - 1 {
            if low >= bottom { th } else { th + 1 }
        } else if low >= bottom {
            th.saturating_sub(1)
        } else {
            th
        }
    }

    #[test]
    fn nearest_is_what_appendix_a_finds() {
        let edges = [1, 2, 77, HALF - 2, HALF - 1, HALF, HALF + 1, u32::MAX - 1, u32::MAX];
        for high in [0, 1, 9] {
            for newest in edges {
                let esn = Esn::new(0);
                esn.advance(high, newest);
                for low in edges.into_iter().chain([0]) {
                    // At exactly 2^31 there is no nearer one.
                    if low.wrapping_sub(newest) != HALF {
                        let expected = appendix_a(join(high, newest), low);
                        assert_eq!(esn.nearest(low), expected, "{high}:{newest:#x}, low {low:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_host_says_is_taken_as_it_is_until_a_packet_comes() {
        let esn = Esn::new(5);
        for low in [0, 1, HALF, u32::MAX] {
            assert_eq!(esn.candidates(low), (5, None));
        }
        esn.advance(5, 100);
        assert_eq!(esn.candidates(u32::MAX), (4, Some(5)));
        esn.update(5);
        assert_eq!(esn.candidates(u32::MAX), (4, Some(5)), "nothing new");
        esn.update(7);
        assert_eq!(esn.candidates(u32::MAX), (7, None));
        esn.update(2);
        assert_eq!((esn.high(), esn.nearest(9)), (2, 2));
    }

    #[test]
    fn a_wrap_before_during_and_after_the_update() {
        // The update comes late.
        let esn = Esn::new(0);
        esn.advance(0, u32::MAX);
        assert_eq!(esn.nearest(0), 1);
        esn.advance(1, 0);
        assert_eq!((esn.nearest(u32::MAX), esn.nearest(1)), (0, 1));
        esn.update(1);
        assert_eq!((esn.nearest(u32::MAX), esn.nearest(1)), (0, 1));
        // It comes early.
        let esn = Esn::new(0);
        esn.advance(0, u32::MAX - 9);
        esn.update(1);
        assert_eq!((esn.nearest(u32::MAX - 8), esn.nearest(3)), (0, 1));
    }

    #[test]
    fn nothing_wraps_at_the_ends_of_the_high_half() {
        let esn = Esn::new(u32::MAX);
        esn.advance(u32::MAX, u32::MAX);
        assert_eq!(esn.nearest(3), u32::MAX);
        let esn = Esn::new(0);
        esn.advance(0, 1);
        assert_eq!(esn.candidates(u32::MAX), (0, None));
        esn.update(u32::MAX);
        assert_eq!(esn.high(), u32::MAX);
    }
}
