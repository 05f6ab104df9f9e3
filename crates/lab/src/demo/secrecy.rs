//! The search for plaintext on the wire.

use std::collections::HashSet;

/// Bytes that are compared at a time: a run of this length is in ciphertext by chance once in 2^128 places.
const RUN: usize = 16;

/// All plaintext that was handed to the driver, as runs of 16 bytes.
#[derive(Debug, Default)]
pub(super) struct Plaintext {
    runs: HashSet<[u8; RUN]>,
}

impl Plaintext {
    /// Remembers a payload. What is left over at its end is covered by a run that ends with it.
    pub(super) fn add(&mut self, payload: &[u8]) {
        self.runs.extend(payload.as_chunks::<RUN>().0.iter().copied());
        self.runs.extend(payload.last_chunk::<RUN>().copied());
    }

    /// Where in `bytes` a run of plaintext starts, if there is one at any offset.
    pub(super) fn find_in(&self, bytes: &[u8]) -> Option<usize> {
        bytes.windows(RUN).position(|window| self.runs.contains(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_found_at_any_offset_and_nothing_else_is() {
        let payload: Vec<u8> = (0..100).collect();
        let mut plaintext = Plaintext::default();
        plaintext.add(&payload);
        plaintext.add(&payload[..5]); // too short to tell
        let mut wire = vec![0xff; 200];
        assert_eq!(plaintext.find_in(&wire), None);
        wire[37..37 + 84].copy_from_slice(&payload[16..]);
        assert_eq!(plaintext.find_in(&wire), Some(37));
        let tail = [&[0xff; 3][..], &payload[84..]].concat();
        assert_eq!(plaintext.find_in(&tail), Some(3));
        assert_eq!(plaintext.find_in(&payload[..15]), None);
    }
}
