//! The checksum in an image's header (PE/COFF, Optional Header, `CheckSum`).

/// The signature, the file header, and the field's place in the optional header.
const CHECK_SUM: u32 = 4 + 20 + 64;

/// Where the field lies in a file whose PE headers begin at `nt_headers`.
pub(super) fn offset(nt_headers: u32) -> usize {
    nt_headers as usize + CHECK_SUM as usize
}

/// What `CheckSumMappedFile` computes: the 16-bit one's complement sum of the file, the field itself taken as zero, plus
/// the file's length.
pub(super) fn of(file: &[u8], field: usize) -> u32 {
    let mut sum: u32 = 0;
    for (index, word) in file.chunks(2).enumerate() {
        if (field..field + 4).contains(&(index * 2)) {
            continue;
        }
        let word = u16::from_le_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        sum += u32::from(word);
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    #[allow(clippy::cast_possible_truncation)] // images are shorter than 4 GiB
    let len = file.len() as u32;
    sum.wrapping_add(len)
}
