//! Comparisons of bytes that are fast when all is well, also without optimisation.

/// Where `bytes` first holds anything but `value`.
pub(crate) fn first_other(bytes: &[u8], value: u8) -> Option<usize> {
    // All bytes are the same as their successors, and the first is right: one memcmp.
    if bytes.first().is_none_or(|first| *first == value)
        && bytes.get(1..) == bytes.split_last().map(|(_, rest)| rest)
    {
        return None;
    }
    bytes.iter().position(|byte| *byte != value)
}

/// Fills memory with a word, over and over; the last one may be cut.
///
/// # Safety
/// `length` bytes from `start` are writable.
pub(crate) unsafe fn fill_words(start: *mut u8, length: usize, word: usize) {
    let bytes = word.to_le_bytes();
    let mut done = length.min(bytes.len());
    // SAFETY: no more than `length` bytes are written, and only what was written is copied.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, done);
        while done < length {
            let more = done.min(length - done);
            std::ptr::copy_nonoverlapping(start, start.add(done), more);
            done += more;
        }
    }
}

/// Where `bytes` is first not as [`fill_words`] left it.
pub(crate) fn first_other_word(bytes: &[u8], word: usize) -> Option<usize> {
    let word = word.to_le_bytes();
    let first = bytes.len().min(word.len());
    // As in `first_other`, by words.
    if bytes[..first] == word[..first] && bytes[first..] == bytes[..bytes.len() - first] {
        return None;
    }
    bytes.iter().zip(word.iter().cycle()).position(|(byte, right)| byte != right)
}

/// Where two slices of one length first differ.
pub(crate) fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    if one == other {
        return None;
    }
    one.iter().zip(other).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_is_found_among_words() {
        let word = 0x0102_0304_0506_0708;
        for length in 0..40 {
            let mut bytes = vec![0_u8; length];
            // SAFETY: the vector's own bytes.
            unsafe { fill_words(bytes.as_mut_ptr(), length, word) };
            assert_eq!(first_other_word(&bytes, word), None);
            for at in 0..length {
                bytes[at] ^= 0x80;
                assert_eq!(first_other_word(&bytes, word), Some(at));
                bytes[at] ^= 0x80;
            }
        }
    }

    #[test]
    fn each_position_is_found() {
        assert_eq!(first_other(&[], 7), None);
        for length in 1..40 {
            assert_eq!(first_other(&vec![7; length], 7), None);
            assert_eq!(first_other(&vec![8; length], 7), Some(0));
            for at in 0..length {
                let mut bytes = vec![7; length];
                bytes[at] = 9;
                assert_eq!(first_other(&bytes, 7), Some(at));
                assert_eq!(first_difference(&bytes, &vec![7; length]), Some(at));
            }
        }
    }
}
