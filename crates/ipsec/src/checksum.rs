//! The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit words.

/// A running sum over data that may come in pieces.
///
/// Words are summed as 32-bit ones into 64 bits, which no 4 GiB of data overflow, and folded at the end
/// (RFC 1071 §2 (C)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    sum: u64,
    /// Whether an odd number of bytes has been added: the next byte is the low half of a word.
    odd: bool,
}

impl Checksum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds `data`. Pieces of any length may follow each other.
    #[must_use]
    pub fn add_bytes(self, data: &[u8]) -> Self {
        let (mut sum, mut data) = (self.sum, data);
        if self.odd
            && let Some((&low, rest)) = data.split_first()
        {
            sum = add(sum, u64::from(low));
            data = rest;
        } else if self.odd {
            return self;
        }
        let (words, rest) = data.as_chunks::<4>();
        for word in words {
            sum = add(sum, u64::from(u32::from_be_bytes(*word)));
        }
        let (halves, last) = rest.as_chunks::<2>();
        for half in halves {
            sum = add(sum, u64::from(u16::from_be_bytes(*half)));
        }
        if let Some(&high) = last.first() {
            sum = add(sum, u64::from(high) << 8);
        }
        Self { sum, odd: !last.is_empty() }
    }

    /// Adds one 16-bit word, as a pseudo-header has them.
    #[must_use]
    pub fn add_u16(self, word: u16) -> Self {
        self.add_bytes(&word.to_be_bytes())
    }

    /// The checksum, as a number; the header holds it in network order.
    ///
    /// Over data that includes its own right checksum it is 0.
    pub fn finish(self) -> u16 {
        !fold(self.sum)
    }
}

/// The checksum of `data`.
pub fn of(data: &[u8]) -> u16 {
    Checksum::new().add_bytes(data).finish()
}

/// Ones' complement addition: the carry comes back in.
fn add(sum: u64, word: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(word);
    // After a carry out of 64 bits the sum is below `word`, far from the top: this does not overflow.
    sum.wrapping_add(u64::from(carry))
}

fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(sum) => return sum,
            Err(_) => sum = (sum >> 16) + (sum & 0xFFFF),
        }
    }
}
