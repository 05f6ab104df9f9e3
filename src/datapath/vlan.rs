//! 802.1Q tags: out-of-band with NDIS, in the frame on the wire (`ns-nbl8021q-ndis_net_buffer_list_8021q_info`).

use ndis::VlanTag;

/// Bytes of a tag.
pub(super) const TAG_LEN: usize = 4;

/// Where it goes: after the two addresses.
const TAG_AT: usize = 12;

const TPID: [u8; 2] = [0x81, 0x00];

/// Inserts a tag into the frame that fills all of `frame` but its last [`TAG_LEN`] bytes.
pub(super) fn insert(frame: &mut [u8], tag: VlanTag) {
    let Some(end) = frame.len().checked_sub(TAG_LEN).filter(|&end| end >= TAG_AT) else { return };
    frame.copy_within(TAG_AT..end, TAG_AT + TAG_LEN);
    let tci = u16::from(tag.priority) << 13 | u16::from(tag.canonical_format) << 12 | (tag.vlan & 0xFFF);
    let [a, b] = tci.to_be_bytes();
    frame[TAG_AT..TAG_AT + TAG_LEN].copy_from_slice(&[TPID[0], TPID[1], a, b]);
}

/// Whether there is a tag in the frame.
pub(super) fn is_tagged(frame: &[u8]) -> bool {
    frame.get(TAG_AT..TAG_AT + TPID.len()) == Some(&TPID)
}

/// Takes the tag out of a frame: what it was, and how long the frame is without it.
pub(super) fn strip(frame: &mut [u8]) -> (Option<VlanTag>, usize) {
    let len = frame.len();
    match frame.get(TAG_AT..TAG_AT + TAG_LEN) {
        Some(&[0x81, 0x00, a, b]) => {
            let tci = u16::from_be_bytes([a, b]);
            frame.copy_within(TAG_AT + TAG_LEN.., TAG_AT);
            let tag = VlanTag { priority: a >> 5, canonical_format: tci & 0x1000 != 0, vlan: tci & 0xFFF };
            (Some(tag), len - TAG_LEN)
        }
        _ => (None, len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_in_and_comes_out() {
        let original: std::vec::Vec<u8> = (0..60).collect();
        let tag = VlanTag { priority: 5, canonical_format: false, vlan: 0xABC };
        let mut frame = original.clone();
        frame.resize(64, 0);
        insert(&mut frame, tag);
        assert_eq!(frame[..12], original[..12]);
        assert_eq!(frame[12..16], [0x81, 0x00, 0xAA, 0xBC]);
        assert_eq!(frame[16..], original[12..]);
        assert_eq!(strip(&mut frame), (Some(tag), 60));
        assert_eq!(frame[..60], original);
        assert_eq!(strip(&mut frame[..60]), (None, 60));
        for len in 0..16 {
            assert_eq!(strip(&mut frame[..len]), (None, len));
        }
    }
}
