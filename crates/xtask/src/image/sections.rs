//! Checks of sections and relocations.

use object::LittleEndian as LE;
use object::pe;

use super::{Finding, Subject};

pub(super) fn write_xor_execute(subject: &Subject<'_>) -> Finding {
    let offenders: Vec<String> = subject
        .image
        .sections
        .iter()
        .filter(|section| section.has(pe::IMAGE_SCN_MEM_WRITE.0) && section.has(pe::IMAGE_SCN_MEM_EXECUTE.0))
        .map(|section| format!("{} is writable and executable", section.name))
        .collect();
    let shown: Vec<String> = subject
        .image
        .sections
        .iter()
        .map(|section| {
            let flag = |bit, letter| if section.has(bit) { letter } else { "" };
            format!(
                "{} {}{}{}",
                section.name,
                flag(pe::IMAGE_SCN_MEM_READ.0, "r"),
                flag(pe::IMAGE_SCN_MEM_WRITE.0, "w"),
                flag(pe::IMAGE_SCN_MEM_EXECUTE.0, "x"),
            )
        })
        .collect();
    Finding::passed_unless(&offenders, shown.join(", "))
}

pub(super) fn page_alignment(subject: &Subject<'_>) -> Finding {
    const PAGE: u32 = 4096;
    let alignment = subject.image.file.nt_headers().optional_header.section_alignment.get(LE);
    let mut offenders = Vec::new();
    if alignment < PAGE || !alignment.is_multiple_of(PAGE) {
        offenders.push(format!("SectionAlignment is {alignment}"));
    }
    for section in &subject.image.sections {
        if !section.rva.start.is_multiple_of(PAGE) {
            offenders.push(format!("{} starts at {:#x}", section.name, section.rva.start));
        }
    }
    for pair in subject.image.sections.windows(2) {
        if pair[1].rva.start < pair[0].rva.end {
            offenders.push(format!("{} overlaps {}", pair[1].name, pair[0].name));
        }
    }
    Finding::passed_unless(
        &offenders,
        format!("SectionAlignment {alignment}, {} sections", subject.image.sections.len()),
    )
}

pub(super) fn relocations(subject: &Subject<'_>) -> Finding {
    let image = subject.image;
    let flags = image.file.nt_headers().file_header.characteristics.get(LE);
    if flags.0 & pe::IMAGE_FILE_RELOCS_STRIPPED.0 != 0 {
        return Finding::failed("IMAGE_FILE_RELOCS_STRIPPED is set");
    }
    if image.directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC).is_none() {
        return Finding::failed("no relocation directory");
    }
    let sections = image.file.section_table();
    let blocks = image.file.data_directories().relocation_blocks(image.bytes, &sections);
    let mut blocks = match blocks {
        Ok(Some(blocks)) => blocks,
        Ok(None) => return Finding::failed("no relocation directory"),
        Err(error) => return Finding::failed(error.to_string()),
    };
    let mut count = 0_usize;
    let mut offenders = Vec::new();
    loop {
        let block = match blocks.next() {
            Ok(Some(block)) => block,
            Ok(None) => break,
            Err(error) => return Finding::failed(error.to_string()),
        };
        for relocation in block {
            if relocation.typ == pe::IMAGE_REL_BASED_ABSOLUTE {
                continue;
            }
            let at = relocation.virtual_address;
            if relocation.typ != pe::IMAGE_REL_BASED_DIR64 {
                offenders.push(format!("type {} at {at:#x}", relocation.typ.0));
            } else if image.at(at..at.saturating_add(8)).is_none() {
                offenders.push(format!("{at:#x} is outside the sections"));
            }
            count += 1;
        }
    }
    if count == 0 {
        offenders.push("the relocation directory is empty".into());
    }
    Finding::passed_unless(&offenders, format!("{count} of type DIR64"))
}
