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
