//! The PE loader, on images that are made here: what it maps runs, and what is damaged is refused.

use ndis_lab::loader::{Image, LoadError, MissingImport, MissingKind, missing_lines};
use object::pe;
use object::write::pe::{NtHeaders, SectionRange, Writer};
use proptest::prelude::*;

const BASE: u64 = 0x1_4000_0000;
/// Sections follow the headers, each on the next page.
const TEXT: u32 = 0x1000;
const DATA: u32 = 0x2000;

/// What an image is made with.
struct Recipe {
    machine: pe::Machine,
    subsystem: pe::Subsystem,
    flags: pe::FileFlags,
    text: pe::SectionFlags,
    relocation: pe::BaseRelocationType,
    /// Functions to import from ntoskrnl.exe; `None` is ordinal 7.
    imports: Vec<Option<&'static str>>,
    entry: u32,
    tls: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            machine: pe::IMAGE_FILE_MACHINE_AMD64,
            subsystem: pe::IMAGE_SUBSYSTEM_NATIVE,
            flags: pe::IMAGE_FILE_EXECUTABLE_IMAGE | pe::IMAGE_FILE_LARGE_ADDRESS_AWARE,
            text: pe::IMAGE_SCN_CNT_CODE | pe::IMAGE_SCN_MEM_EXECUTE | pe::IMAGE_SCN_MEM_READ,
            relocation: pe::IMAGE_REL_BASED_DIR64,
            imports: vec![Some("KeAnswer")],
            entry: TEXT,
            tls: false,
        }
    }
}

const IAT: u32 = DATA + 0x40;
const NAMES: u32 = DATA + 0x80;
const DESCRIPTORS: u32 = DATA + 0xc0;
const MODULE: u32 = DATA + 0x100;
const HINTS: u32 = DATA + 0x120;

/// `DriverEntry`: calls the first import and adds what a relocated pointer leads to.
fn code() -> Vec<u8> {
    let relative = |to: u32, next: u32| to.wrapping_sub(TEXT + next).to_le_bytes();
    let mut code = vec![0x48, 0x83, 0xec, 0x28]; // sub rsp, 28h
    code.extend([0xff, 0x15]); // call [rip + IAT]
    code.extend(relative(IAT, 10));
    code.extend([0x48, 0x8b, 0x0d]); // mov rcx, [rip + DATA]
    code.extend(relative(DATA, 17));
    code.extend([0x48, 0x03, 0x01]); // add rax, [rcx]
    code.extend([0x48, 0x83, 0xc4, 0x28, 0xc3]); // add rsp, 28h; ret
    code
}

fn data(recipe: &Recipe) -> Vec<u8> {
    let mut data = vec![0_u8; 0x200];
    let mut put = |at: u32, bytes: &[u8]| {
        let at = (at - DATA) as usize;
        data[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(DATA, &(BASE + u64::from(DATA) + 8).to_le_bytes());
    put(DATA + 8, &1000_u64.to_le_bytes());
    let mut hint = HINTS;
    for (index, import) in (0_u32..).zip(&recipe.imports) {
        let thunk = match import {
            None => 1 << 63 | 7,
            Some(name) => {
                put(hint + 2, name.as_bytes());
                hint += 32;
                u64::from(hint - 32)
            }
        };
        put(IAT + 8 * index, &thunk.to_le_bytes());
        put(NAMES + 8 * index, &thunk.to_le_bytes());
    }
    put(DESCRIPTORS, &NAMES.to_le_bytes());
    put(DESCRIPTORS + 12, &MODULE.to_le_bytes());
    put(DESCRIPTORS + 16, &IAT.to_le_bytes());
    put(MODULE, b"ntoskrnl.exe");
    data
}

fn make(recipe: &Recipe) -> Vec<u8> {
    let (text, data) = (code(), data(recipe));
    let mut bytes = Vec::new();
    let mut writer = Writer::new(true, 0x1000, 0x200, &mut bytes);
    writer.reserve_dos_header_and_stub();
    writer.reserve_nt_headers(16);
    writer.reserve_section_headers(3);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let section = |writer: &mut Writer<'_>, name: &[u8; 8], flags, bytes: &[u8]| -> SectionRange {
        writer.reserve_section(*name, flags, length(bytes), length(bytes))
    };
    let text_range = section(&mut writer, b".text\0\0\0", recipe.text, &text);
    let flags = pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_WRITE;
    let data_range = section(&mut writer, b".data\0\0\0", flags, &data);
    assert_eq!((text_range.virtual_address, data_range.virtual_address), (TEXT, DATA));
    writer.add_reloc(DATA, recipe.relocation);
    writer.reserve_reloc_section();
    writer.set_data_directory(pe::IMAGE_DIRECTORY_ENTRY_IMPORT, DESCRIPTORS, 40);
    if recipe.tls {
        writer.set_data_directory(pe::IMAGE_DIRECTORY_ENTRY_TLS, DATA, 40);
    }
    writer.write_dos_header_and_stub().unwrap();
    writer.write_nt_headers(NtHeaders {
        machine: recipe.machine,
        time_date_stamp: 0x5eed,
        characteristics: recipe.flags,
        major_linker_version: 14,
        minor_linker_version: 0,
        address_of_entry_point: recipe.entry,
        image_base: BASE,
        major_operating_system_version: 10,
        minor_operating_system_version: 0,
        major_image_version: 0,
        minor_image_version: 0,
        major_subsystem_version: 10,
        minor_subsystem_version: 0,
        subsystem: recipe.subsystem,
        dll_characteristics: pe::DllFlags(0x160),
        size_of_stack_reserve: 0,
        size_of_stack_commit: 0,
        size_of_heap_reserve: 0,
        size_of_heap_commit: 0,
    });
    writer.write_section_headers();
    writer.write_section(text_range.file_offset, &text);
    writer.write_section(data_range.file_offset, &data);
    writer.write_reloc_section();
    bytes
}

extern "win64" fn answer() -> u64 {
    42
}

fn resolve(module: &str, name: &str) -> Option<usize> {
    (module == "ntoskrnl.exe" && name == "KeAnswer").then_some(answer as *const () as usize)
}

#[test]
fn a_good_image_runs_where_it_was_mapped() {
    let bytes = make(&Recipe::default());
    let images: Vec<_> = (0..3).map(|_| Image::load(&bytes, resolve).unwrap()).collect();
    for image in &images {
        assert_ne!(image.base() as u64, BASE);
        assert!(image.contains(image.entry()));
        assert_eq!((image.time_date_stamp(), image.imports().len()), (0x5eed, 1));
        // SAFETY: the entry point is `code()`, a win64 function without arguments.
        let entry: extern "win64" fn() -> u64 = unsafe { std::mem::transmute(image.entry()) };
        assert_eq!(entry(), 1042);
        for section in image.sections() {
            let address = (image.base() + section.range.start as usize) as *const u8;
            let region = region::query(address).unwrap();
            assert_eq!(region.is_executable(), section.executable, "{}", section.name);
            assert_eq!(region.is_writable(), section.writable, "{}", section.name);
        }
    }
}

fn refused(recipe: &Recipe) -> LoadError {
    Image::load(&make(recipe), resolve).unwrap_err()
}

#[test]
fn what_is_no_driver_is_told_from_what_is_damaged() {
    assert!(matches!(Image::load(b"", resolve), Err(LoadError::NotPe(_))));
    assert!(matches!(Image::load(&[0x7f; 4096], resolve), Err(LoadError::NotPe(_))));
    let machine = Recipe { machine: pe::IMAGE_FILE_MACHINE_ARM64, ..Recipe::default() };
    assert!(matches!(refused(&machine), LoadError::WrongMachine(0xaa64)));
    let program = Recipe { subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI, ..Recipe::default() };
    assert!(matches!(refused(&program), LoadError::NotNative(3)));
    let stripped = Recipe {
        flags: pe::IMAGE_FILE_EXECUTABLE_IMAGE | pe::IMAGE_FILE_RELOCS_STRIPPED,
        ..Recipe::default()
    };
    assert!(matches!(refused(&stripped), LoadError::NoRelocations));
    let writable = Recipe {
        text: pe::IMAGE_SCN_MEM_EXECUTE | pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_WRITE,
        ..Recipe::default()
    };
    assert!(matches!(refused(&writable), LoadError::WritableExecutable(name) if name == ".text"));
    assert!(matches!(refused(&Recipe { tls: true, ..Recipe::default() }), LoadError::ThreadLocalStorage));
    for entry in [0, DATA, 0xffff_fff0] {
        assert!(matches!(refused(&Recipe { entry, ..Recipe::default() }), LoadError::Entry(e) if e == entry));
    }
    let relocation = Recipe { relocation: pe::IMAGE_REL_BASED_HIGHLOW, ..Recipe::default() };
    assert!(matches!(refused(&relocation), LoadError::Relocation { kind: 3, rva: DATA }));
}

#[test]
fn all_missing_imports_are_named_at_once() {
    let imports = vec![Some("ZwZebra"), Some("KeAnswer"), Some("IoAnt")];
    let LoadError::MissingImports(missing) = refused(&Recipe { imports, ..Recipe::default() }) else {
        panic!()
    };
    let named = |name: &str| MissingImport {
        module: "ntoskrnl.exe".into(),
        name: name.into(),
        kind: MissingKind::Unimplemented,
    };
    assert_eq!(missing, [named("IoAnt"), named("ZwZebra")]);
    let error = LoadError::MissingImports(missing).to_string();
    assert!(error.contains("ntoskrnl.exe, not in the lab: IoAnt, ZwZebra"), "{error}");
    // One by ordinal is named with the others, and each with what it is for.
    let imports = vec![None, Some("IoAnt"), Some("MmMapIoSpace")];
    let LoadError::MissingImports(missing) = refused(&Recipe { imports, ..Recipe::default() }) else {
        panic!()
    };
    let lines = missing_lines(&missing);
    assert_eq!(
        lines,
        [
            "ntoskrnl.exe, hardware, which the lab has not: MmMapIoSpace",
            "ntoskrnl.exe, not in the lab: IoAnt",
            "ntoskrnl.exe, imported by ordinal: #7",
        ]
    );
}

/// Linkers put the import tables and the code of DriverEntry into one section, which is thrown away then.
#[test]
fn a_discardable_section_may_be_writable_code_and_is_mapped_as_code() {
    let text = pe::IMAGE_SCN_MEM_EXECUTE
        | pe::IMAGE_SCN_MEM_READ
        | pe::IMAGE_SCN_MEM_WRITE
        | pe::IMAGE_SCN_MEM_DISCARDABLE;
    let image = Image::load(&make(&Recipe { text, ..Recipe::default() }), resolve).unwrap();
    let section = &image.sections()[0];
    assert!(section.writable && section.executable && section.discardable);
    let region = region::query(image.entry() as *const u8).unwrap();
    assert!(region.is_executable() && !region.is_writable());
}

#[test]
fn a_file_that_ends_early_is_refused_at_every_length() {
    let image = make(&Recipe::default());
    Image::load(&image, resolve).expect("the whole image");
    for len in 0..image.len() {
        assert!(Image::load(&image[..len], resolve).is_err(), "{len} of {} bytes", image.len());
    }
}

#[test]
fn a_checksum_that_does_not_fit_is_refused() {
    let mut image = make(&Recipe::default());
    let nt_headers = u32::from_le_bytes(image[0x3c..0x40].try_into().unwrap()) as usize;
    let field = nt_headers + 88; // IMAGE_NT_HEADERS64.OptionalHeader.CheckSum
    let mut with = |sum: u32| {
        image[field..field + 4].copy_from_slice(&sum.to_le_bytes());
        Image::load(&image, resolve)
    };
    assert!(with(0).is_ok(), "0 stands for none");
    let Err(LoadError::Checksum { stored: 1, computed }) = with(1) else { panic!("1 is no checksum") };
    assert!(with(computed).is_ok(), "the one it names is right");
    let last = image.len() - 1;
    image[last] ^= 1;
    assert!(matches!(Image::load(&image, resolve), Err(LoadError::Checksum { .. })));
}

#[test]
fn no_truncation_and_no_changed_header_byte_panics() {
    let bytes = make(&Recipe::default());
    for length in 0..bytes.len() {
        let _ = Image::load(&bytes[..length], resolve);
    }
    for at in 0..0x400 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = Image::load(&changed, resolve);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)) {
        let mut bytes = make(&Recipe::default());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Image::load(&bytes, resolve);
    }

    #[test]
    fn no_words_in_tables_panic(at in 0_u32..0x140, word in any::<u32>()) {
        let mut bytes = make(&Recipe::default());
        // The import tables lie in the data section, whose place in the file the headers tell.
        let file = bytes.len() - 0x200 - 0x200;
        let at = file + at as usize;
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        let _ = Image::load(&bytes, resolve);
    }
}
