//! The image checks on the image that was built, and on spoilt copies of it: what passes on a fixture made by hand has to
//! pass, and fail, on the real thing too.

use std::env;
use std::fs;
use std::path::PathBuf;

use xtask::image::{Verdict, check};

/// Image and PDB, from `IPSECNIC_IMAGE`; nothing only if `IPSECNIC_NATIVE_ONLY=1` says that there is no image.
fn built() -> Option<(Vec<u8>, Vec<u8>)> {
    let Some(sys) = env::var_os("IPSECNIC_IMAGE").map(PathBuf::from) else {
        assert_eq!(
            env::var("IPSECNIC_NATIVE_ONLY").as_deref(),
            Ok("1"),
            "IPSECNIC_IMAGE does not name an image: run `cargo xtask test`, or `cargo xtask image` and set it to \
             out/x64/ipsecnic.sys, or set IPSECNIC_NATIVE_ONLY=1"
        );
        return None;
    };
    let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some((read(sys.clone()), read(sys.with_extension("pdb"))))
}

#[test]
fn the_built_image_passes_every_check() {
    let Some((sys, pdb)) = built() else { return };
    let report = check(&sys, Some(&pdb)).expect("an image");
    assert!(report.is_complete_pass(), "{report:#?}");
}

#[test]
fn a_vzeroupper_in_the_built_image_is_found_with_its_function() {
    let Some((mut sys, pdb)) = built() else { return };
    // A function's first bytes: the entry point's. Its file offset is found by the bytes, which are unique enough to
    // spoil whichever comes first.
    let entry = check(&sys, Some(&pdb)).expect("an image").finding("entry").seen.clone();
    let rva =
        entry.rsplit("0x").next().and_then(|hex| usize::from_str_radix(hex, 16).ok()).expect("an address");
    // .text is the first section: its raw data begins after the headers, its addresses at one page.
    let size_of_headers =
        u32::from_le_bytes(sys[header(&sys) + 60..][..4].try_into().expect("four bytes")) as usize;
    let offset = rva - 0x1000 + size_of_headers;
    sys[offset..offset + 3].copy_from_slice(&[0xc5, 0xf8, 0x77]);
    let report = check(&sys, Some(&pdb)).expect("an image");
    let finding = report.finding("no-vector-extensions");
    assert_eq!(finding.verdict, Verdict::Failed);
    assert!(finding.seen.contains(&format!("VEX_Vzeroupper at {rva:#x} in ")), "{}", finding.seen);
    assert_eq!(report.finding("checksum").verdict, Verdict::Failed, "any changed byte shows there");
}

#[test]
fn the_built_image_fails_with_another_pdb_or_flags() {
    let Some((sys, pdb)) = built() else { return };
    let mut other = sys.clone();
    other[header(&sys) + 70] &= !0x40;
    let report = check(&other, Some(&pdb)).expect("an image");
    assert_eq!(report.finding("dll-characteristics").seen, "DYNAMIC_BASE is not set");
    let guid = sys.windows(4).position(|bytes| bytes == b"RSDS").expect("a CodeView record") + 4;
    let mut other = sys.clone();
    other[guid] ^= 1;
    assert_eq!(check(&other, Some(&pdb)).expect("an image").finding("pdb").verdict, Verdict::Failed);
    assert!(check(&sys[..sys.len() / 2], Some(&pdb)).is_err(), "half of it is no image");
}

/// File offset of the optional header.
fn header(sys: &[u8]) -> usize {
    u32::from_le_bytes(sys[0x3c..0x40].try_into().expect("four bytes")) as usize + 24
}
