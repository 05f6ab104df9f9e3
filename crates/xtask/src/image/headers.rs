//! Checks of the headers.

use object::LittleEndian as LE;
use object::pe;

use super::{Finding, Subject};

pub(super) fn machine(subject: &Subject<'_>) -> Finding {
    let machine = subject.image.file.nt_headers().file_header.machine.get(LE);
    let name = match machine {
        pe::IMAGE_FILE_MACHINE_AMD64 => "x64".into(),
        pe::IMAGE_FILE_MACHINE_ARM64 => "arm64, which these checks do not cover yet".into(),
        other => format!("{:#06x}", other.0),
    };
    Finding::passed_if(machine == pe::IMAGE_FILE_MACHINE_AMD64, name)
}

pub(super) fn subsystem(subject: &Subject<'_>) -> Finding {
    let subsystem = subject.image.file.nt_headers().optional_header.subsystem.get(LE);
    let native = subsystem == pe::IMAGE_SUBSYSTEM_NATIVE;
    Finding::passed_if(native, if native { "native".into() } else { format!("{}", subsystem.0) })
}

fn characteristics(subject: &Subject<'_>) -> u16 {
    subject.image.file.nt_headers().optional_header.dll_characteristics.get(LE).0
}

pub(super) fn dll_characteristics(subject: &Subject<'_>) -> Finding {
    let set = characteristics(subject);
    let missing: Vec<String> = [
        (pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "NX_COMPAT"),
        (pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "DYNAMIC_BASE"),
        (pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA, "HIGH_ENTROPY_VA"),
    ]
    .into_iter()
    .filter(|(bit, _)| set & bit.0 == 0)
    .map(|(_, name)| format!("{name} is not set"))
    .collect();
    Finding::passed_unless(&missing, format!("{set:#06x}"))
}

pub(super) fn signature(subject: &Subject<'_>) -> Finding {
    let forced = characteristics(subject) & pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY.0 != 0;
    // The certificate table is the one directory whose address is a file offset.
    let signed = subject.image.directory(pe::IMAGE_DIRECTORY_ENTRY_SECURITY).is_some();
    Finding::noted(format!(
        "FORCE_INTEGRITY {}; {}",
        if forced { "set" } else { "not set" },
        if signed { "has a certificate table (not verified here)" } else { "unsigned" },
    ))
}

pub(super) fn control_flow_guard(subject: &Subject<'_>) -> Finding {
    let guarded = characteristics(subject) & pe::IMAGE_DLLCHARACTERISTICS_GUARD_CF.0 != 0;
    Finding::noted(if guarded { "GUARD_CF set" } else { "not built with it" })
}

pub(super) fn no_tls(subject: &Subject<'_>) -> Finding {
    let directory = subject.image.directory(pe::IMAGE_DIRECTORY_ENTRY_TLS).is_some();
    let section = subject.image.sections.iter().any(|section| section.name == ".tls");
    let offenders: Vec<String> = [(directory, "a TLS directory"), (section, "a section named .tls")]
        .into_iter()
        .filter(|(present, _)| *present)
        .map(|(_, what)| what.into())
        .collect();
    Finding::passed_unless(&offenders, "none")
}

pub(super) fn checksum(subject: &Subject<'_>) -> Finding {
    let stored = subject.image.file.nt_headers().optional_header.check_sum.get(LE);
    let computed = compute_checksum(subject.image.bytes, checksum_offset(subject.image.bytes));
    let seen = format!("header {stored:#010x}, file {computed:#010x}");
    Finding::passed_if(stored == computed, seen)
}

/// File offset of `IMAGE_OPTIONAL_HEADER64.CheckSum` in a parsed image.
pub(super) fn checksum_offset(bytes: &[u8]) -> usize {
    /// `e_lfanew` in the DOS header.
    const NT_HEADERS: usize = 0x3c;
    /// Signature (4), file header (20), and the field's place in the optional header (64).
    const CHECK_SUM: usize = 4 + 20 + 64;
    let at: [u8; 4] = bytes[NT_HEADERS..NT_HEADERS + 4].try_into().expect("a parsed image has a DOS header");
    u32::from_le_bytes(at) as usize + CHECK_SUM
}

/// The checksum that `CheckSumMappedFile` computes: the 16-bit one's complement sum of the file with the field itself
/// as zero, plus the file's length.
pub(super) fn compute_checksum(bytes: &[u8], field: usize) -> u32 {
    let mut sum: u64 = 0;
    for (index, word) in bytes.chunks(2).enumerate() {
        let at = index * 2;
        if (field..field + 4).contains(&at) {
            continue;
        }
        sum += u64::from(word[0]) | u64::from(word.get(1).copied().unwrap_or(0)) << 8;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // `sum` has 16 bits; the addition is modulo 2^32, and images are shorter than that.
    u32::try_from((sum + bytes.len() as u64) & u64::from(u32::MAX)).expect("masked to 32 bits")
}
