//! The receiver's replay check (RFC 4303, section 3.4.3): the NIC leaves it to the stack.

/// A sliding window over the last 64 sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    highest: u32,
    /// Bit `i` set: number `highest - i` has been seen.
    seen: u64,
}

impl ReplayWindow {
    /// Numbers that the window covers.
    pub const SIZE: u32 = u64::BITS;

    /// Accepts a number once; `false` for a repeated one, for one that has left the window, and for 0.
    pub fn accept(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false; // RFC 4303, section 2.2: the first packet has 1
        }
        if sequence > self.highest {
            let advance = sequence - self.highest;
            self.seen = self.seen.checked_shl(advance).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let age = self.highest - sequence;
        if age >= Self::SIZE || self.seen >> age & 1 == 1 {
            return false;
        }
        self.seen |= 1 << age;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::ReplayWindow;

    #[test]
    fn each_number_is_accepted_once_and_only_inside_the_window() {
        let mut window = ReplayWindow::default();
        assert!(!window.accept(0));
        assert!(window.accept(5));
        assert!(!window.accept(5));
        assert!(window.accept(1));
        assert!(!window.accept(1));
        assert!(window.accept(5 + 63));
        assert!(!window.accept(5)); // seen
        assert!(!window.accept(4)); // left the window
        assert!(window.accept(6));
        assert!(window.accept(u32::MAX));
        assert!(!window.accept(u32::MAX));
        assert!(!window.accept(u32::MAX - 64));
        assert!(window.accept(u32::MAX - 63));
    }
}
