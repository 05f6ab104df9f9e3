//! A small image and its PDB, made byte by byte, on which every check passes: what the tests then spoil.

use super::headers::{checksum_offset, compute_checksum};

/// File offsets and addresses in [`image`] that the tests change.
pub(super) mod at {
    /// `IMAGE_FILE_HEADER.Machine`.
    pub(crate) const MACHINE: usize = NT + 4;
    /// `IMAGE_FILE_HEADER.Characteristics`.
    pub(crate) const FILE_CHARACTERISTICS: usize = NT + 4 + 18;
    /// The optional header.
    pub(crate) const OPTIONAL: usize = NT + 24;
    /// `AddressOfEntryPoint`.
    pub(crate) const ENTRY: usize = OPTIONAL + 16;
    /// `SectionAlignment`.
    pub(crate) const SECTION_ALIGNMENT: usize = OPTIONAL + 32;
    /// `CheckSum`.
    pub(crate) const CHECKSUM: usize = OPTIONAL + 64;
    /// `Subsystem`.
    pub(crate) const SUBSYSTEM: usize = OPTIONAL + 68;
    /// `DllCharacteristics`.
    pub(crate) const DLL_CHARACTERISTICS: usize = OPTIONAL + 70;
    /// Data directory `index`.
    pub(crate) const fn directory(index: usize) -> usize {
        OPTIONAL + 112 + index * 8
    }
    /// Header of section `index`.
    pub(crate) const fn section(index: usize) -> usize {
        OPTIONAL + 240 + index * 40
    }
    /// A run of `NOP`s in `DriverEntry`.
    pub(crate) const NOPS: usize = TEXT + 12;
    /// The last byte of padding before the leaf function.
    pub(crate) const TEXT_BEFORE_LEAF: usize = TEXT + 0x3f;
    /// The name that is imported from ndis.sys.
    pub(crate) const NDIS_NAME: usize = RDATA + 0x82;
    /// The name of the module ndis.sys.
    pub(crate) const NDIS_MODULE: usize = RDATA + 0xc0;
    /// The lookup entry of ntoskrnl.exe.
    pub(crate) const LOOKUP: usize = RDATA + 0x50;
    /// The GUID by which the image names its PDB.
    pub(crate) const GUID: usize = RDATA + 0x124;
    /// Where the exception directory names the unwind information of `DriverEntry`.
    pub(crate) const PDATA_UNWIND: usize = PDATA + 8;
    /// The unwind information of `DriverEntry`: four bytes of header, then its codes.
    pub(crate) const UNWIND: usize = RDATA + 0x180;
    /// The first relocation's type and offset.
    pub(crate) const RELOCATION: usize = RELOC + 8;

    pub(super) const NT: usize = 0x40;
    pub(super) const TEXT: usize = 0x400;
    pub(super) const RDATA: usize = 0x600;
    pub(super) const DATA: usize = 0x800;
    pub(super) const PDATA: usize = 0xa00;
    pub(super) const RELOC: usize = 0xc00;
    pub(super) const END: usize = 0xe00;
}

const GUID: [u8; 16] = *b"fixture of xtask";
const AGE: u32 = 1;
const DRIVER_ENTRY: u32 = 0x1000;

fn put(bytes: &mut [u8], offset: usize, what: &[u8]) {
    bytes[offset..offset + what.len()].copy_from_slice(what);
}

fn put32(bytes: &mut [u8], offset: usize, value: u32) {
    put(bytes, offset, &value.to_le_bytes());
}

/// Name, address, file offset, virtual size and `IMAGE_SCN_*` of the sections.
const SECTIONS: [(&[u8], u32, usize, u32, u32); 5] = [
    (b".text", 0x1000, at::TEXT, 0x50, 0x6000_0020),
    (b".rdata", 0x2000, at::RDATA, 0x200, 0x4000_0040),
    (b".data", 0x3000, at::DATA, 0x10, 0xc000_0040),
    (b".pdata", 0x4000, at::PDATA, 0x18, 0x4000_0040),
    (b".reloc", 0x5000, at::RELOC, 0x0c, 0x4200_0040),
];

fn section_headers() -> Vec<u8> {
    let mut headers = vec![0; SECTIONS.len() * 40];
    for (index, (name, rva, raw, size, flags)) in SECTIONS.iter().enumerate() {
        let header = &mut headers[index * 40..][..40];
        put(header, 0, name);
        put32(header, 8, *size);
        put32(header, 12, *rva);
        put32(header, 16, 0x200);
        put32(header, 20, u32::try_from(*raw).expect("small"));
        put32(header, 36, *flags);
    }
    headers
}

/// The image.
pub(super) fn image() -> Vec<u8> {
    let mut image = vec![0_u8; at::END];
    let b = image.as_mut_slice();
    put(b, 0, b"MZ");
    put32(b, 0x3c, u32::try_from(at::NT).expect("small"));
    put(b, at::NT, b"PE\0\0");
    put(b, at::MACHINE, &0x8664_u16.to_le_bytes());
    put(b, at::NT + 6, &5_u16.to_le_bytes());
    put(b, at::NT + 20, &240_u16.to_le_bytes());
    put(b, at::FILE_CHARACTERISTICS, &0x2022_u16.to_le_bytes());
    put(b, at::OPTIONAL, &0x020b_u16.to_le_bytes());
    put32(b, at::ENTRY, DRIVER_ENTRY);
    put(b, at::OPTIONAL + 24, &0x1_8000_0000_u64.to_le_bytes());
    put32(b, at::SECTION_ALIGNMENT, 0x1000);
    put32(b, at::OPTIONAL + 36, 0x200);
    put32(b, at::OPTIONAL + 56, 0x6000);
    put32(b, at::OPTIONAL + 60, 0x400);
    put(b, at::SUBSYSTEM, &1_u16.to_le_bytes());
    put(b, at::DLL_CHARACTERISTICS, &0x01e0_u16.to_le_bytes());
    put32(b, at::OPTIONAL + 108, 16);
    for (index, rva, size) in
        [(1, 0x2000, 0x3c), (3, 0x4000, 0x18), (5, 0x5000, 0x0c), (6, 0x2100, 0x1c), (12, 0x2060, 0x20)]
    {
        put32(b, at::directory(index), rva);
        put32(b, at::directory(index) + 4, size);
    }
    put(b, at::section(0), &section_headers());

    // sub rsp, 40; call [KeBugCheckEx's slot]; xor eax, eax; 16 NOPs; add rsp, 40; ret; then a leaf: ret.
    b[at::TEXT..at::TEXT + 0x50].fill(0xcc);
    put(b, at::TEXT, &[0x48, 0x83, 0xec, 0x28, 0xff, 0x15, 0x66, 0x10, 0, 0, 0x31, 0xc0]);
    put(b, at::NOPS, &[0x90; 16]);
    put(b, at::NOPS + 16, &[0x48, 0x83, 0xc4, 0x28, 0xc3]);
    put(b, at::TEXT + 0x40, &[0xc3]);

    // Two import descriptors, their lookup and address tables, names.
    for (descriptor, lookup, module, slots) in [(0, 0x2040, 0x20c0, 0x2060), (0x14, 0x2050, 0x20d0, 0x2070)] {
        put32(b, at::RDATA + descriptor, lookup);
        put32(b, at::RDATA + descriptor + 12, module);
        put32(b, at::RDATA + descriptor + 16, slots);
    }
    for (slot, name) in [(0x40, 0x2080), (0x60, 0x2080), (0x50, 0x20a0), (0x70, 0x20a0)] {
        put32(b, at::RDATA + slot, name);
    }
    put(b, at::NDIS_NAME, b"NdisGetVersion\0");
    put(b, at::RDATA + 0xa2, b"KeBugCheckEx\0");
    put(b, at::NDIS_MODULE, b"ndis.sys\0");
    put(b, at::RDATA + 0xd0, b"ntoskrnl.exe\0");

    // Debug directory: one CodeView record.
    put32(b, at::RDATA + 0x100 + 12, 2);
    put32(b, at::RDATA + 0x100 + 16, 0x30);
    put32(b, at::RDATA + 0x100 + 20, 0x2120);
    put32(b, at::RDATA + 0x100 + 24, u32::try_from(at::RDATA + 0x120).expect("small"));
    put(b, at::RDATA + 0x120, b"RSDS");
    put(b, at::GUID, &GUID);
    put32(b, at::GUID + 16, AGE);
    put(b, at::GUID + 20, b"fixture.pdb\0");

    // A pointer to DriverEntry, which is relocated.
    put(b, at::DATA, &0x1_8000_1000_u64.to_le_bytes());
    put32(b, at::RELOC, 0x3000);
    put32(b, at::RELOC + 4, 0x0c);
    put(b, at::RELOCATION, &0xa000_u16.to_le_bytes());

    for (entry, begin, end) in [(0, 0x1000, 0x1021), (12, 0x1040, 0x1041)] {
        put32(b, at::PDATA + entry, begin);
        put32(b, at::PDATA + entry + 4, end);
        put32(b, at::PDATA + entry + 8, if entry == 0 { 0x2180 } else { 0x2190 });
    }
    // Unwind information: DriverEntry allocates 40 bytes at byte 4 of its prologue; the leaf nothing.
    put(b, at::UNWIND, &[1, 4, 2, 0, 4, 0x42, 0, 0x30]);
    put(b, at::RDATA + 0x190, &[1, 0, 0, 0]);
    seal(&mut image);
    image
}

/// Writes the checksum of a changed image, so that only what was changed differs.
pub(super) fn seal(image: &mut [u8]) {
    let field = checksum_offset(image);
    let sum = compute_checksum(image, field);
    put32(image, field, sum);
}

/// The PDB of [`image`]: an MSF file with the streams that say what it belongs to, the sections and one public symbol.
/// Layout: <https://llvm.org/docs/PDB/MsfFile.html>, `PdbStream`, `DbiStream`.
pub(super) fn pdb() -> Vec<u8> {
    const PAGE: usize = 512;
    let mut information = Vec::new();
    for word in [20_000_404_u32, 0, AGE] {
        information.extend(word.to_le_bytes());
    }
    information.extend(GUID);
    information.extend(0_u32.to_le_bytes());

    let mut symbol = Vec::new();
    symbol.extend(0x110e_u16.to_le_bytes()); // S_PUB32
    symbol.extend(2_u32.to_le_bytes()); // a function
    symbol.extend(0_u32.to_le_bytes()); // offset in
    symbol.extend(1_u16.to_le_bytes()); // section 1
    symbol.extend(b"DriverEntry\0");
    while !(symbol.len() + 2).is_multiple_of(4) {
        symbol.push(0);
    }
    let mut symbols = u16::try_from(symbol.len()).expect("small").to_le_bytes().to_vec();
    symbols.extend(symbol);

    let mut debug = vec![0_u8; 64];
    put32(&mut debug, 0, u32::MAX); // signature
    put32(&mut debug, 4, 19_990_903); // V70
    put32(&mut debug, 8, AGE);
    put(&mut debug, 12, &[0xff, 0xff]); // no globals
    put(&mut debug, 16, &[0xff, 0xff]); // no publics' hash
    put(&mut debug, 20, &4_u16.to_le_bytes()); // symbol records
    put32(&mut debug, 48, 22); // optional debug headers
    put(&mut debug, 58, &0x8664_u16.to_le_bytes());
    for index in 0..11_u16 {
        debug.extend(if index == 5 { 5_u16 } else { u16::MAX }.to_le_bytes()); // section headers
    }

    let streams = [Vec::new(), information, Vec::new(), debug, symbols, section_headers()];
    let mut directory = Vec::new();
    directory.extend(u32::try_from(streams.len()).expect("small").to_le_bytes());
    for stream in &streams {
        directory.extend(u32::try_from(stream.len()).expect("small").to_le_bytes());
    }
    // Pages 0 to 4: superblock, two free maps, block map, directory; then each stream in a page.
    let mut pages = 5_u32;
    let mut contents = Vec::new();
    for stream in streams.iter().filter(|stream| !stream.is_empty()) {
        assert!(stream.len() <= PAGE);
        directory.extend(pages.to_le_bytes());
        pages += 1;
        contents.extend(stream);
        contents.resize(contents.len().next_multiple_of(PAGE), 0);
    }
    let mut file = vec![0_u8; 5 * PAGE];
    put(&mut file, 0, b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
    for (index, word) in
        [u32::try_from(PAGE).expect("small"), 1, pages, u32::try_from(directory.len()).expect("small"), 0, 3]
            .into_iter()
            .enumerate()
    {
        put32(&mut file, 32 + index * 4, word);
    }
    put32(&mut file, 3 * PAGE, 4);
    put(&mut file, 4 * PAGE, &directory);
    file.extend(contents);
    file
}
