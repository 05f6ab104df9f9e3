//! The memory functions that drivers use on memory of programs: `memcpy`, `memset`, `memcmp` and their kin.
//!
//! They touch no register that their caller keeps, and no stack: an exception in one of them is one of its caller, whose
//! `__try` may handle it ([`super::exception`]). Compilers promise no such thing, so they are written in assembler.

use std::arch::global_asm;

/// The name of a symbol, as the object format has it.
#[cfg(target_vendor = "apple")]
macro_rules! name {
    ($name:literal) => {
        concat!("_ndis_lab_", $name)
    };
}
#[cfg(not(target_vendor = "apple"))]
macro_rules! name {
    ($name:literal) => {
        concat!("ndis_lab_", $name)
    };
}

global_asm!(
    ".text",
    ".balign 16",
    concat!(".globl ", name!("copy_begin")),
    concat!(name!("copy_begin"), ":"),
    // RCX: to, RDX: from, R8: bytes; RAX: to. Ranges may overlap.
    ".balign 16",
    concat!(".globl ", name!("memcpy")),
    concat!(name!("memcpy"), ":"),
    ".cfi_startproc",
    "mov rax, rcx",
    "mov r9, rcx",
    "sub r9, rdx",
    "cmp r9, r8",
    "jb 20f",
    "mov r10, r8",
    "shr r10, 6",
    "jz 12f",
    "11:",
    "movups xmm0, [rdx]",
    "movups xmm1, [rdx + 16]",
    "movups xmm2, [rdx + 32]",
    "movups xmm3, [rdx + 48]",
    "movups [rcx], xmm0",
    "movups [rcx + 16], xmm1",
    "movups [rcx + 32], xmm2",
    "movups [rcx + 48], xmm3",
    "add rdx, 64",
    "add rcx, 64",
    "dec r10",
    "jnz 11b",
    "12:",
    "mov r10, r8",
    "and r10, 56",
    "shr r10, 3",
    "jz 14f",
    "13:",
    "mov r9, [rdx]",
    "mov [rcx], r9",
    "add rdx, 8",
    "add rcx, 8",
    "dec r10",
    "jnz 13b",
    "14:",
    "and r8, 7",
    "jz 16f",
    "15:",
    "mov r9b, [rdx]",
    "mov [rcx], r9b",
    "inc rdx",
    "inc rcx",
    "dec r8",
    "jnz 15b",
    "16:",
    "ret",
    // The target begins within the source: from the end.
    "20:",
    "add rdx, r8",
    "add rcx, r8",
    "mov r10, r8",
    "shr r10, 4",
    "jz 22f",
    "21:",
    "sub rdx, 16",
    "sub rcx, 16",
    "movups xmm0, [rdx]",
    "movups [rcx], xmm0",
    "dec r10",
    "jnz 21b",
    "22:",
    "and r8, 15",
    "jz 16b",
    "23:",
    "dec rdx",
    "dec rcx",
    "mov r9b, [rdx]",
    "mov [rcx], r9b",
    "dec r8",
    "jnz 23b",
    "ret",
    ".cfi_endproc",
    // RCX: to, RDX: bytes.
    ".balign 16",
    concat!(".globl ", name!("zero")),
    concat!(name!("zero"), ":"),
    ".cfi_startproc",
    "mov r8, rdx",
    "xor edx, edx",
    concat!("jmp ", name!("memset")),
    ".cfi_endproc",
    // RCX: to, RDX: bytes, R8: value.
    ".balign 16",
    concat!(".globl ", name!("fill")),
    concat!(name!("fill"), ":"),
    ".cfi_startproc",
    "xchg rdx, r8",
    concat!("jmp ", name!("memset")),
    ".cfi_endproc",
    // RCX: to, RDX: value, R8: bytes; RAX: to.
    ".balign 16",
    concat!(".globl ", name!("memset")),
    concat!(name!("memset"), ":"),
    ".cfi_startproc",
    "mov rax, rcx",
    "movzx edx, dl",
    "mov r9, 0x0101010101010101",
    "imul rdx, r9",
    "mov r10, r8",
    "shr r10, 3",
    "jz 31f",
    "30:",
    "mov [rcx], rdx",
    "add rcx, 8",
    "dec r10",
    "jnz 30b",
    "31:",
    "and r8, 7",
    "jz 33f",
    "32:",
    "mov [rcx], dl",
    "inc rcx",
    "dec r8",
    "jnz 32b",
    "33:",
    "ret",
    ".cfi_endproc",
    // RCX, RDX: the two, R8: bytes; RAX: how many from the start are equal.
    ".balign 16",
    concat!(".globl ", name!("compare")),
    concat!(name!("compare"), ":"),
    ".cfi_startproc",
    "xor eax, eax",
    "mov r10, r8",
    "and r10, -8",
    "jz 41f",
    "40:",
    "mov r9, [rcx + rax]",
    "cmp r9, [rdx + rax]",
    "jne 41f",
    "add rax, 8",
    "cmp rax, r10",
    "jne 40b",
    "41:",
    "cmp rax, r8",
    "je 42f",
    "mov r9b, [rcx + rax]",
    "cmp r9b, [rdx + rax]",
    "jne 42f",
    "inc rax",
    "jmp 41b",
    "42:",
    "ret",
    ".cfi_endproc",
    // RCX, RDX: the two, R8: bytes; EAX: below, at or above 0.
    ".balign 16",
    concat!(".globl ", name!("memcmp")),
    concat!(name!("memcmp"), ":"),
    ".cfi_startproc",
    "xor r9d, r9d",
    "50:",
    "cmp r9, r8",
    "je 51f",
    "movzx eax, byte ptr [rcx + r9]",
    "movzx r10d, byte ptr [rdx + r9]",
    "inc r9",
    "sub eax, r10d",
    "jz 50b",
    "ret",
    "51:",
    "xor eax, eax",
    "ret",
    ".cfi_endproc",
    concat!(".globl ", name!("copy_end")),
    concat!(name!("copy_end"), ":"),
);

unsafe extern "win64" {
    /// `memcpy`, which serves `memmove` as well: kernel drivers rely on overlapping `memcpy`, which is one function there.
    #[link_name = "ndis_lab_memcpy"]
    pub(crate) fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    /// `memset`.
    #[link_name = "ndis_lab_memset"]
    pub(crate) fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8;
    /// `RtlZeroMemory`.
    #[link_name = "ndis_lab_zero"]
    pub(crate) fn zero_memory(to: *mut u8, len: usize);
    /// `RtlFillMemory`.
    #[link_name = "ndis_lab_fill"]
    pub(crate) fn fill_memory(to: *mut u8, len: usize, value: i32);
    /// `RtlCompareMemory`: how many bytes from the start are equal.
    #[link_name = "ndis_lab_compare"]
    pub(crate) fn compare_memory(a: *const u8, b: *const u8, len: usize) -> usize;
    /// `memcmp`.
    #[link_name = "ndis_lab_memcmp"]
    pub(crate) fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32;
}

unsafe extern "C" {
    #[link_name = "ndis_lab_copy_begin"]
    static BEGIN: u8;
    #[link_name = "ndis_lab_copy_end"]
    static END: u8;
}

/// Whether an address lies in one of these functions.
pub(super) fn contains(address: u64) -> bool {
    let [begin, end] = [&raw const BEGIN, &raw const END].map(|label| label as u64);
    (begin..end).contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that tell where they came from.
    fn bytes(length: usize, seed: u8) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap().wrapping_add(seed)).collect()
    }

    #[test]
    fn copies_of_all_lengths_overlap_as_they_like() {
        for length in (0..200).chain([1500, 4096]) {
            for (from, to) in [(0, 5000), (5000, 0), (100, 101), (101, 100), (100, 117), (117, 100), (64, 64)]
            {
                let mut memory = bytes(10_000, 3);
                let mut expected = memory.clone();
                expected.copy_within(from..from + length, to);
                let start = memory.as_mut_ptr();
                // SAFETY: both ranges lie within the vector.
                let returned = unsafe { memcpy(start.add(to), start.add(from), length) };
                assert_eq!(returned as usize, start as usize + to);
                assert!(memory == expected, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn memory_is_filled_within_its_range() {
        for length in 0..100 {
            for at in 0..9 {
                let mut memory = [bytes(128, 7), bytes(128, 7), bytes(128, 7)];
                let mut expected = memory.clone();
                expected[0][at..at + length].fill(0x5a);
                expected[1][at..at + length].fill(0x5a);
                expected[2][at..at + length].fill(0);
                // SAFETY: the ranges lie within the vectors.
                unsafe {
                    memset(memory[0].as_mut_ptr().add(at), 0x1_235a, length);
                    fill_memory(memory[1].as_mut_ptr().add(at), length, 0x5a);
                    zero_memory(memory[2].as_mut_ptr().add(at), length);
                }
                assert!(memory == expected, "{length} bytes at {at}");
            }
        }
    }

    #[test]
    fn memory_compares_by_its_first_difference() {
        for length in 0..40 {
            let a = bytes(length, 9);
            for at in 0..=length {
                let mut b = a.clone();
                if at < length {
                    b[at] = b[at].wrapping_add(1);
                }
                // SAFETY: as many bytes as the vectors have.
                let (order, equal) = unsafe {
                    (memcmp(a.as_ptr(), b.as_ptr(), length), compare_memory(a.as_ptr(), b.as_ptr(), length))
                };
                assert_eq!((order.signum(), equal), (a.cmp(&b) as i32, at));
            }
        }
    }
}
