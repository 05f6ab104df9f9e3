//! Each check passes on the good image and fails, alone, on an image that is spoilt for it.

use super::fixture::{at, image, pdb, seal};
use super::*;

/// The checks that fail on the good image after `spoil`; the checksum is right again unless `sealed` is false.
fn failing(sealed: bool, spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<&'static str> {
    let mut bytes = image();
    spoil(&mut bytes);
    if sealed {
        seal(&mut bytes);
    }
    let report = check(&bytes, Some(&pdb())).expect("still an image");
    report
        .rows
        .iter()
        .filter(|row| row.finding.verdict == Verdict::Failed)
        .map(|row| {
            assert!(!row.finding.seen.is_empty(), "{} fails without saying what it saw", row.check);
            row.check
        })
        .collect()
}

fn spoilt(spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<&'static str> {
    failing(true, spoil)
}

fn put(bytes: &mut [u8], offset: usize, what: &[u8]) {
    bytes[offset..offset + what.len()].copy_from_slice(what);
}

#[test]
fn the_good_image_passes_every_check() {
    let report = check(&image(), Some(&pdb())).expect("an image");
    assert!(report.is_complete_pass(), "{report:#?}");
    assert_eq!(report.finding("entry").seen, "DriverEntry at 0x1000");
}

#[test]
fn without_a_pdb_its_checks_are_not_passes() {
    let report = check(&image(), None).expect("an image");
    assert_eq!(report.finding("pdb").verdict, Verdict::NotChecked);
    assert_eq!(report.finding("entry").verdict, Verdict::NotChecked);
    assert!(report.holds() && !report.is_complete_pass());
}

#[test]
fn a_machine_other_than_x64_fails() {
    assert_eq!(spoilt(|b| put(b, at::MACHINE, &0xaa64_u16.to_le_bytes())), ["machine"]);
}

#[test]
fn a_user_mode_subsystem_fails() {
    assert_eq!(spoilt(|b| put(b, at::SUBSYSTEM, &[3, 0])), ["subsystem"]);
}

#[test]
fn each_missing_dll_characteristic_fails() {
    for bit in [0x0100_u16, 0x0040, 0x0020] {
        let flags = (0x01e0 & !bit).to_le_bytes();
        assert_eq!(spoilt(|b| put(b, at::DLL_CHARACTERISTICS, &flags)), ["dll-characteristics"], "{bit:#x}");
    }
}

#[test]
fn a_checksum_that_is_missing_or_wrong_fails() {
    assert_eq!(failing(false, |b| put(b, at::CHECKSUM, &[0; 4])), ["checksum"]);
    assert_eq!(failing(false, |b| b[at::NOPS] = 0x97), ["checksum"], "a changed byte elsewhere");
}

#[test]
fn relocations_that_are_stripped_missing_or_wild_fail() {
    assert_eq!(spoilt(|b| b[at::FILE_CHARACTERISTICS] |= 1), ["relocations"]);
    assert_eq!(spoilt(|b| put(b, at::directory(5), &[0; 8])), ["relocations"]);
    assert_eq!(
        spoilt(|b| put(b, at::RELOCATION, &0x3000_u16.to_le_bytes())),
        ["relocations"],
        "type HIGHLOW"
    );
    assert_eq!(
        spoilt(|b| put(b, at::RELOCATION, &0xaff8_u16.to_le_bytes())),
        ["relocations"],
        "outside .data"
    );
    assert_eq!(spoilt(|b| put(b, at::RELOCATION, &[0; 2])), ["relocations"], "none left");
}

#[test]
fn a_section_that_is_writable_and_executable_fails() {
    assert_eq!(spoilt(|b| b[at::section(0) + 39] |= 0x80), ["write-xor-execute"]);
}

#[test]
fn sections_off_page_boundaries_fail() {
    assert_eq!(spoilt(|b| put(b, at::SECTION_ALIGNMENT, &0x200_u32.to_le_bytes())), ["page-alignment"]);
    assert_eq!(
        spoilt(|b| put(b, at::section(2) + 8, &0x1010_u32.to_le_bytes())),
        ["page-alignment"],
        ".data reaches into .pdata"
    );
}

#[test]
fn thread_local_storage_fails() {
    assert_eq!(spoilt(|b| put(b, at::directory(9), &[0, 0x20, 0, 0, 0x28, 0, 0, 0])), ["no-tls"]);
    assert_eq!(spoilt(|b| put(b, at::section(2), b".tls\0")), ["no-tls"]);
}

#[test]
fn imports_that_are_not_on_the_list_fail() {
    assert_eq!(spoilt(|b| put(b, at::NDIS_NAME, b"NdisGetVersiom")), ["imports"], "name");
    assert_eq!(spoilt(|b| put(b, at::NDIS_MODULE, b"hal.dll\0")), ["imports"], "module");
    assert_eq!(spoilt(|b| put(b, at::LOOKUP, &[7, 0, 0, 0, 0, 0, 0, 0x80])), ["imports"], "by number");
    assert_eq!(spoilt(|b| put(b, at::LOOKUP, &[0, 0, 0, 0x7f])), ["imports"], "wild");
    assert_eq!(
        spoilt(|b| put(b, at::directory(13), &[0, 0x20, 0, 0, 0x20, 0, 0, 0])),
        ["imports"],
        "delayed"
    );
}

#[test]
fn vector_instructions_fail() {
    assert_eq!(spoilt(|b| put(b, at::NOPS, &[0xc5, 0xf8, 0x77])), ["no-vector-extensions"], "vzeroupper");
    let evex = [0x62, 0xf1, 0x7c, 0x48, 0x10, 0xc1];
    assert_eq!(spoilt(|b| put(b, at::NOPS, &evex)), ["no-vector-extensions"], "vmovups zmm0, zmm1");
}

#[test]
fn x87_and_mmx_instructions_fail() {
    assert_eq!(spoilt(|b| put(b, at::NOPS, &[0xd9, 0xe8])), ["no-x87-mmx"], "fld1");
    assert_eq!(spoilt(|b| put(b, at::NOPS, &[0x0f, 0x6f, 0xc1])), ["no-x87-mmx"], "movq mm0, mm1");
}

#[test]
fn bytes_that_are_no_instructions_fail() {
    assert_eq!(spoilt(|b| put(b, at::NOPS, &[0x06])), ["code-decodes"], "push es, not in 64-bit mode");
    // An instruction that runs over the next function's start would hide it.
    assert_eq!(spoilt(|b| put(b, at::TEXT_BEFORE_LEAF, &[0xe8])), ["code-decodes"], "a call cut by the leaf");
}

#[test]
fn large_stack_frames_fail() {
    let passed = check(&image(), Some(&pdb())).expect("an image").finding("stack-frames").seen.clone();
    // Eight bytes pushed, 40 allocated.
    assert_eq!(passed, "largest: 48 bytes in 0x1000; 0 of 2 above 1 KiB");
    // UWOP_ALLOC_LARGE: 513 units of 8 bytes; then the same in bytes.
    assert_eq!(spoilt(|b| put(b, at::UNWIND + 2, &[2, 0, 4, 0x01, 1, 2])), ["stack-frames"]);
    assert_eq!(spoilt(|b| put(b, at::UNWIND + 2, &[3, 0, 4, 0x11, 8, 0x10, 0, 0])), ["stack-frames"]);
    assert_eq!(spoilt(|b| put(b, at::UNWIND + 2, &[1, 0, 4, 0x01])), ["stack-frames"], "cut short");
    assert_eq!(spoilt(|b| put(b, at::PDATA_UNWIND, &[0xf0, 0xff, 0, 0])), ["stack-frames"], "wild");
}

#[test]
fn an_entry_point_of_another_name_fails() {
    assert_eq!(spoilt(|b| put(b, at::ENTRY, &0x1040_u32.to_le_bytes())), ["entry"]);
}

#[test]
fn the_pdb_of_another_build_fails() {
    assert_eq!(spoilt(|b| b[at::GUID] ^= 1), ["pdb"]);
    assert_eq!(spoilt(|b| b[at::GUID + 16] ^= 2), ["pdb"], "age");
    assert_eq!(spoilt(|b| put(b, at::directory(6), &[0; 8])), ["pdb"], "no debug directory");
}

#[test]
fn a_pdb_that_is_none_fails() {
    let report = check(&image(), Some(b"not a PDB")).expect("an image");
    assert_eq!(report.finding("pdb").verdict, Verdict::Failed);
    assert!(!report.holds());
}

#[test]
fn what_is_no_whole_image_is_refused_in_one_line() {
    let good = image();
    for length in 0..good.len() {
        // The last section's raw data reaches the file's end, so every shorter file lacks something.
        let error = Image::parse(&good[..length]).expect_err("truncated").to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
    let other = |bytes: &[u8]| Image::parse(bytes).expect_err("no image").to_string();
    assert_eq!(other(b""), "the file is empty");
    assert_eq!(other(b"\x7fELF and more"), "not a PE image: it does not begin with MZ");
    assert!(other(&good[..at::RELOCATION]).starts_with("truncated: section .reloc"));
    let mut wild = image();
    put(&mut wild, at::directory(1), &[0, 0, 0, 0x70]);
    assert_eq!(other(&wild), "the import directory lies outside the image's sections");
}

#[test]
fn no_byte_that_is_changed_makes_the_checks_panic() {
    let (good, pdb) = (image(), pdb());
    for offset in 0..good.len() {
        for value in [0, 0xff] {
            let mut bytes = good.clone();
            bytes[offset] = value;
            if let Ok(report) = check(&bytes, Some(&pdb)) {
                assert_eq!(report.rows.len(), CHECKS.len());
            }
        }
    }
}
