//! The PE loader: maps a driver image as the NT loader does, with every bound checked.
//!
//! An image is untrusted input: whatever its bytes are, loading ends in an [`Image`] or in a
//! [`LoadError`], never in a panic or an access outside of the mapping. After loading no page is
//! both writable and executable. What the image does once its code runs is another matter: the lab
//! runs it in its own process.

mod checksum;
mod kinds;

pub use kinds::MissingKind;

use std::ops::Range;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{Import, ImportTable, PeFile64, RelocationBlockIterator};
use region::Protection;

/// Pages of x64 Windows.
const PAGE: u32 = 0x1000;
/// No miniport comes near this; a header that asks for more is damaged or hostile.
const MAX_IMAGE: u32 = 256 << 20;
/// Tables that overlap could name imports without end.
const MAX_IMPORTS: usize = 1 << 14;
/// Offset of `SecurityCookie` in `IMAGE_LOAD_CONFIG_DIRECTORY64`.
const LOAD_CONFIG_COOKIE: u32 = 88;

/// Why an image was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the image: {0}")]
    Io(#[from] std::io::Error),
    /// There is no DOS or PE header here.
    #[error("not a PE32+ image: {0}")]
    NotPe(String),
    /// A structure of the image lies outside of it or contradicts another one.
    #[error("damaged image: {0}")]
    Damaged(String),
    /// The file's checksum is not the one in its header: Windows loads no such driver.
    #[error("damaged image: its checksum is {computed:#010x}, its header says {stored:#010x}")]
    Checksum {
        /// What the header says; 0 would mean that there is none.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The image was built for another processor.
    #[error("wrong machine {0:#06x}: this lab runs x64 images (0x8664)")]
    WrongMachine(u16),
    /// The image is a program or a library of user mode.
    #[error("subsystem {0} is not NATIVE (1): this is no driver")]
    NotNative(u16),
    /// The image asks for more memory than a driver can have.
    #[error("image size {0:#x} is beyond the lab's limit")]
    TooLarge(u32),
    /// Sections do not start on pages, so that they cannot be protected one by one.
    #[error("section alignment {0:#x} is not a multiple of the page size")]
    Alignment(u32),
    /// A section can be written and executed.
    #[error("section {0} is both writable and executable")]
    WritableExecutable(String),
    /// The image cannot be moved to where there is room.
    #[error("relocations are stripped")]
    NoRelocations,
    /// A relocation of a kind that x64 images do not have.
    #[error("relocation of type {kind} at {rva:#x} is not supported")]
    Relocation {
        /// `IMAGE_REL_BASED_*`.
        kind: u16,
        /// Where it applies.
        rva: u32,
    },
    /// Functions that the lab does not have; all of them.
    #[error("the lab lacks {} imported functions: {}", .0.len(), list(.0))]
    MissingImports(Vec<MissingImport>),
    /// Thread-local storage does not exist in the kernel.
    #[error("the image has thread-local storage, which the kernel has not")]
    ThreadLocalStorage,
    /// The entry point is missing or in no executable section.
    #[error("entry point {0:#x} is not in an executable section")]
    Entry(u32),
    /// The host refused memory.
    #[error("cannot map the image: {0}")]
    Map(#[from] region::Error),
}

/// An imported function that the lab does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingImport {
    /// The module that the image names, in lower case.
    pub module: String,
    /// The function; `#` and its number if it is imported by ordinal.
    pub name: String,
    /// What it is for.
    pub kind: MissingKind,
}

/// One line for each module and kind: "ndis.sys, hardware, which the lab has not: NdisMMapIoSpace, …".
pub fn missing_lines(missing: &[MissingImport]) -> Vec<String> {
    let mut groups: std::collections::BTreeMap<_, Vec<&str>> = std::collections::BTreeMap::new();
    for import in missing {
        groups.entry((import.module.as_str(), import.kind)).or_default().push(&import.name);
    }
    let line = |((module, kind), names): (_, Vec<&str>)| format!("{module}, {kind}: {}", names.join(", "));
    groups.into_iter().map(line).collect()
}

fn list(missing: &[MissingImport]) -> String {
    missing_lines(missing).join("; ")
}

fn damaged(what: impl std::fmt::Display) -> LoadError {
    LoadError::Damaged(what.to_string())
}

/// A section as it is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, without padding.
    pub name: String,
    /// Its addresses relative to the image's base.
    pub range: Range<u32>,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it can be executed.
    pub executable: bool,
    /// Whether it can be dropped after start (`INIT`, `.reloc`).
    pub discardable: bool,
}

/// One function that the image imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedFunction {
    /// The module, in lower case.
    pub module: String,
    /// The function.
    pub name: String,
}

/// A driver image, mapped, relocated and bound; unmapped when dropped.
pub struct Image {
    memory: region::Allocation,
    size: u32,
    entry: u32,
    sections: Vec<Section>,
    imports: Vec<ImportedFunction>,
    exception_directory: Range<u32>,
    time_date_stamp: u32,
    pdb: Option<PdbName>,
}

// SAFETY: the mapping belongs to the image alone, like a Box; region's type names it by a pointer.
unsafe impl Send for Image {}
// SAFETY: a shared image gives out addresses, and references only to sections that nobody writes.
unsafe impl Sync for Image {}

/// Which PDB belongs to an image: what its debug directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdbName {
    /// The file's name, without folders.
    pub file: String,
    /// The GUID of the build, in the byte order of the file.
    pub guid: [u8; 16],
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("base", &format_args!("{:#x}", self.base()))
            .field("size", &self.size)
            .field("entry", &self.entry)
            .field("sections", &self.sections)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Maps `bytes`. `resolve` gives the address of a function of a module (lower case, as the image
    /// names it), or `None` if the lab does not have it.
    ///
    /// # Errors
    /// [`LoadError`]; imports are resolved last, so [`LoadError::MissingImports`] means that the image
    /// is otherwise sound.
    pub fn load(
        bytes: &[u8],
        mut resolve: impl FnMut(&str, &str) -> Option<usize>,
    ) -> Result<Self, LoadError> {
        let file = PeFile64::parse(bytes).map_err(|e| refuse(bytes, &e))?;
        let headers = file.nt_headers();
        let optional = &headers.optional_header;
        let machine = headers.file_header.machine.get(LE);
        if machine != pe::IMAGE_FILE_MACHINE_AMD64 {
            return Err(LoadError::WrongMachine(machine.0));
        }
        let subsystem = optional.subsystem.get(LE);
        if subsystem != pe::IMAGE_SUBSYSTEM_NATIVE {
            return Err(LoadError::NotNative(subsystem.0));
        }
        let size = optional.size_of_image.get(LE);
        if size > MAX_IMAGE {
            return Err(LoadError::TooLarge(size));
        }
        let alignment = optional.section_alignment.get(LE);
        if alignment == 0 || !alignment.is_multiple_of(PAGE) {
            return Err(LoadError::Alignment(alignment));
        }
        let directory = |index| {
            file.data_directory(index).map_or((0, 0), |d| (d.virtual_address.get(LE), d.size.get(LE)))
        };
        if directory(pe::IMAGE_DIRECTORY_ENTRY_TLS).0 != 0 {
            return Err(LoadError::ThreadLocalStorage);
        }
        if directory(pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT).0 != 0 {
            return Err(damaged("delay-loaded imports, which the kernel has not"));
        }

        let header_len = optional.size_of_headers.get(LE);
        let header_bytes =
            bytes.get(..header_len as usize).ok_or_else(|| damaged("headers end after the file"))?;
        if size == 0 || header_len > size {
            return Err(damaged("headers end after the image"));
        }
        let sections = sections(&file, header_len, size, bytes.len())?;
        let stored = optional.check_sum.get(LE);
        let computed = checksum::of(bytes, checksum::offset(file.dos_header().nt_headers_offset()));
        if stored != 0 && stored != computed {
            return Err(LoadError::Checksum { stored, computed });
        }

        let mut memory = region::alloc(size as usize, Protection::READ_WRITE)?;
        let base = memory.as_ptr::<u8>() as u64;
        // SAFETY: the allocation is at least `size` bytes, zeroed, readable and writable, and nobody
        // else knows it yet; the slice is dropped before `memory` moves or its protection changes.
        let mapped = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr::<u8>(), size as usize) };
        mapped[..header_len as usize].copy_from_slice(header_bytes);
        for (section, header) in sections.iter().zip(file.section_table().iter()) {
            let data = header.pe_data(bytes).map_err(damaged)?;
            let start = section.range.start as usize;
            let room = section.range.len();
            let count = data.len().min(room);
            mapped[start..start + count].copy_from_slice(&data[..count]);
        }

        let stripped = headers.file_header.characteristics.get(LE).contains(pe::IMAGE_FILE_RELOCS_STRIPPED);
        relocate(mapped, base.wrapping_sub(optional.image_base.get(LE)), stripped, directory)?;
        set_cookie(mapped, base, &sections, directory);
        set_guard(mapped, base, &sections, directory);
        let imports = bind(mapped, &sections, directory, &mut resolve)?;

        let entry = optional.address_of_entry_point.get(LE);
        if !sections.iter().any(|s| s.executable && s.range.contains(&entry)) {
            return Err(LoadError::Entry(entry));
        }
        let (start, len) = directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION);
        let exception_directory = start..start.checked_add(len).filter(|end| *end <= size).unwrap_or(start);

        let image = Self {
            time_date_stamp: headers.file_header.time_date_stamp.get(LE),
            memory,
            size,
            entry,
            sections,
            imports,
            exception_directory,
            pdb: pdb_name(&file),
        };
        image.protect(header_len)?;
        Ok(image)
    }

    fn protect(&self, header_len: u32) -> Result<(), LoadError> {
        let base = self.memory.as_ptr::<u8>();
        // Gaps between sections are not part of the image: nothing may be read there.
        // SAFETY: the whole range is ours, and no reference into it exists.
        unsafe { region::protect(base, self.size as usize, Protection::NONE)? };
        let ranges =
            std::iter::once((0..header_len, Protection::READ)).chain(self.sections.iter().map(|s| {
                let access = match (s.writable, s.executable) {
                    (true, false) => Protection::READ_WRITE,
                    (_, true) => Protection::READ_EXECUTE,
                    (false, false) => Protection::READ,
                };
                (s.range.clone(), access)
            }));
        for (range, access) in ranges.filter(|(range, _)| !range.is_empty()) {
            // SAFETY: ranges were checked to lie within the allocation; no reference into it exists.
            unsafe { region::protect(base.add(range.start as usize), range.len(), access)? };
        }
        Ok(())
    }

    /// Where the image begins.
    pub fn base(&self) -> usize {
        self.memory.as_ptr::<u8>() as usize
    }

    /// `SizeOfImage`, in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The address of `DriverEntry`.
    pub fn entry(&self) -> usize {
        self.base() + self.entry as usize
    }

    /// The sections, in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// What the image imports, in its order.
    pub fn imports(&self) -> &[ImportedFunction] {
        &self.imports
    }

    /// The exception directory (`.pdata`), relative to the base: the unwind data of each function.
    pub fn exception_directory(&self) -> Range<u32> {
        self.exception_directory.clone()
    }

    /// The linker's time stamp or build hash, which also names the matching PDB.
    pub fn time_date_stamp(&self) -> u32 {
        self.time_date_stamp
    }

    /// The PDB that the image names.
    pub fn pdb(&self) -> Option<&PdbName> {
        self.pdb.as_ref()
    }

    /// DriverEntry returned: its code and data are thrown away, and a touch traps. Gives what went, relative to the base.
    pub(crate) fn discard(&self) -> Vec<Section> {
        let gone = self.sections.iter().filter(|section| section.discardable && section.name == "INIT");
        let gone = gone.filter(|section| {
            let start = self.base() + section.range.start as usize;
            // SAFETY: whole pages of the image's own mapping, which the lab reads no more: imports are bound.
            unsafe { region::protect(start as *const u8, section.range.len(), Protection::NONE) }.is_ok()
        });
        gone.cloned().collect()
    }

    /// Whether `address` lies in the image.
    pub fn contains(&self, address: usize) -> bool {
        (self.base()..self.base() + self.size as usize).contains(&address)
    }
}

/// The PDB of the CodeView record; an image without one, or with a damaged one, is as good to run.
fn pdb_name(file: &PeFile64<'_>) -> Option<PdbName> {
    use object::Object as _;
    let record = file.pdb_info().ok().flatten()?;
    let path = String::from_utf8_lossy(record.path()).into_owned();
    let file = path.rsplit(['\\', '/']).next().unwrap_or_default().to_owned();
    Some(PdbName { file, guid: record.guid() })
}

/// What `object` refuses: say whether it is another kind of file or a damaged image.
fn refuse(bytes: &[u8], error: &object::Error) -> LoadError {
    let offset =
        bytes.get(0x3c..0x40).and_then(|b| b.try_into().ok()).map(|b| u32::from_le_bytes(b) as usize);
    let at = |from: usize, len: usize| from.checked_add(len).and_then(|to| bytes.get(from..to));
    let signed = bytes.starts_with(b"MZ") && offset.is_some_and(|o| at(o, 4) == Some(b"PE\0\0"));
    if !signed {
        return LoadError::NotPe(error.to_string());
    }
    // A 32-bit or ARM64 image is told by its machine, which lies right behind the signature.
    match offset.and_then(|o| at(o + 4, 2)).map(|m| u16::from_le_bytes([m[0], m[1]])) {
        Some(machine) if machine != pe::IMAGE_FILE_MACHINE_AMD64.0 => LoadError::WrongMachine(machine),
        _ => damaged(error),
    }
}

fn sections(
    file: &PeFile64<'_>,
    header_len: u32,
    size: u32,
    file_len: usize,
) -> Result<Vec<Section>, LoadError> {
    let mut sections: Vec<Section> = Vec::new();
    let mut floor = header_len.next_multiple_of(PAGE);
    for header in file.section_table().iter() {
        let name = String::from_utf8_lossy(header.raw_name()).into_owned();
        let start = header.virtual_address.get(LE);
        let len = match header.virtual_size.get(LE) {
            0 => header.size_of_raw_data.get(LE),
            len => len,
        };
        let end = start.checked_add(len).filter(|end| *end <= size);
        let Some(end) = end.filter(|_| start >= floor && start.is_multiple_of(PAGE)) else {
            return Err(damaged(format_args!("section {name} is out of order or outside of the image")));
        };
        // Also where more lies in the file than is mapped: a file that ends early has been cut.
        let (from, raw) = (header.pointer_to_raw_data.get(LE), header.size_of_raw_data.get(LE));
        let raw_end = u64::from(from) + u64::from(raw);
        if raw != 0 && raw_end > file_len as u64 {
            return Err(damaged(format_args!(
                "section {name} ends at byte {raw_end}, the file at {file_len}"
            )));
        }
        floor = end.checked_next_multiple_of(PAGE).ok_or_else(|| damaged("section end"))?;
        let flags = header.characteristics.get(LE);
        let section = Section {
            range: start..end,
            writable: flags.contains(pe::IMAGE_SCN_MEM_WRITE),
            executable: flags.contains(pe::IMAGE_SCN_MEM_EXECUTE),
            discardable: flags.contains(pe::IMAGE_SCN_MEM_DISCARDABLE),
            name,
        };
        // Linkers of old put the import tables and code for DriverEntry into one discardable section. Nobody writes
        // there once the imports are bound, so that it is mapped for reading and execution.
        if section.writable && section.executable && !section.discardable {
            return Err(LoadError::WritableExecutable(section.name));
        }
        sections.push(section);
    }
    Ok(sections)
}

fn relocate(
    mapped: &mut [u8],
    delta: u64,
    stripped: bool,
    directory: impl Fn(usize) -> (u32, u32),
) -> Result<(), LoadError> {
    if delta == 0 {
        return Ok(());
    }
    if stripped {
        return Err(LoadError::NoRelocations);
    }
    let (start, len) = directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC);
    if start == 0 {
        return Ok(());
    }
    let table = (start as usize)
        .checked_add(len as usize)
        .and_then(|end| mapped.get(start as usize..end))
        .ok_or_else(|| damaged("relocation table outside of the image"))?
        .to_vec();
    let mut blocks = RelocationBlockIterator::new(&table);
    while let Some(block) = blocks.next().map_err(damaged)? {
        for relocation in block {
            let rva = relocation.virtual_address;
            match relocation.typ {
                pe::IMAGE_REL_BASED_ABSOLUTE => {}
                pe::IMAGE_REL_BASED_DIR64 => {
                    let at = mapped
                        .get_mut(rva as usize..)
                        .and_then(|tail| tail.first_chunk_mut::<8>())
                        .ok_or_else(|| {
                            damaged(format_args!("relocation at {rva:#x} outside of the image"))
                        })?;
                    *at = u64::from_le_bytes(*at).wrapping_add(delta).to_le_bytes();
                }
                kind => return Err(LoadError::Relocation { kind: kind.0, rva }),
            }
        }
    }
    Ok(())
}

/// The field of the load configuration at `offset`, if the directory reaches that far: a 64-bit number.
fn load_config(mapped: &[u8], directory: &impl Fn(usize) -> (u32, u32), offset: u32) -> Option<u64> {
    let (start, _) = directory(pe::IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG);
    if start == 0 {
        return None;
    }
    // The structure says itself how long it is; the directory's size is kept at that of Windows XP.
    let own = mapped.get(start as usize..)?.first_chunk::<4>()?;
    if u32::from_le_bytes(*own) < offset + 8 {
        return None;
    }
    let field = start.checked_add(offset)? as usize;
    Some(u64::from_le_bytes(*mapped.get(field..)?.first_chunk::<8>()?))
}

/// Offsets of `GuardCFCheckFunctionPointer` and `GuardCFDispatchFunctionPointer`.
const LOAD_CONFIG_CHECK: u32 = 112;
const LOAD_CONFIG_DISPATCH: u32 = 120;

/// Has the pointers, through which code that was built with control flow guard makes its indirect calls, lead
/// somewhere. Most images bring functions of their own that check nothing; an image that leaves the pointers
/// empty gets those of the lab.
fn set_guard(mapped: &mut [u8], base: u64, sections: &[Section], directory: impl Fn(usize) -> (u32, u32)) {
    let defaults = [
        (LOAD_CONFIG_CHECK, guard_check as *const () as u64),
        (LOAD_CONFIG_DISPATCH, guard_dispatch as *const () as u64),
    ];
    for (offset, default) in defaults {
        let Some(place) = load_config(mapped, &directory, offset) else { continue };
        let Ok(rva) = u32::try_from(place.wrapping_sub(base)) else { continue };
        let inside = |s: &Section| s.range.start <= rva && rva.saturating_add(8) <= s.range.end;
        let Some(slot) = mapped.get_mut(rva as usize..).and_then(|tail| tail.first_chunk_mut::<8>()) else {
            continue;
        };
        let target = u64::from_le_bytes(*slot).wrapping_sub(base);
        let code = |s: &Section| s.executable && u32::try_from(target).is_ok_and(|t| s.range.contains(&t));
        if place != 0 && sections.iter().any(inside) && !sections.iter().any(code) {
            *slot = default.to_le_bytes();
        }
    }
}

/// `_guard_check_icall`: any target is good.
#[unsafe(naked)]
unsafe extern "win64" fn guard_check() {
    std::arch::naked_asm!("ret")
}

/// `_guard_dispatch_icall`: goes to the target in RAX.
#[unsafe(naked)]
unsafe extern "win64" fn guard_dispatch() {
    std::arch::naked_asm!("jmp rax")
}

/// Gives the image its stack-protector cookie, as the loader of the kernel does for `/GS` code.
fn set_cookie(mapped: &mut [u8], base: u64, sections: &[Section], directory: impl Fn(usize) -> (u32, u32)) {
    let Some(address) = load_config(mapped, &directory, LOAD_CONFIG_COOKIE) else { return };
    let Ok(rva) = u32::try_from(address.wrapping_sub(base)) else { return };
    let inside = |s: &Section| s.writable && s.range.start <= rva && rva.saturating_add(8) <= s.range.end;
    if !sections.iter().any(inside) {
        return;
    }
    // 48 bits, as Windows keeps the upper 16 zero; any value but the compiler's default will do.
    let cookie = (base ^ 0x5bd1_e995_9d2c_5681).rotate_left(17) & 0x0000_ffff_ffff_ffff;
    mapped[rva as usize..rva as usize + 8].copy_from_slice(&cookie.to_le_bytes());
}

fn bind(
    mapped: &mut [u8],
    sections: &[Section],
    directory: impl Fn(usize) -> (u32, u32),
    resolve: &mut impl FnMut(&str, &str) -> Option<usize>,
) -> Result<Vec<ImportedFunction>, LoadError> {
    let (start, _) = directory(pe::IMAGE_DIRECTORY_ENTRY_IMPORT);
    if start == 0 {
        return Ok(Vec::new());
    }
    let mut slots = Vec::new();
    let mut imports = Vec::new();
    let mut missing = Vec::new();
    let table = ImportTable::new(mapped, 0, start);
    let mut descriptors = table.descriptors().map_err(damaged)?;
    while let Some(descriptor) = descriptors.next().map_err(damaged)? {
        let module = text(table.name(descriptor.name.get(LE)).map_err(damaged)?)?.to_ascii_lowercase();
        let first = descriptor.first_thunk.get(LE);
        // An image that was bound has its names in the original table only.
        let names = match descriptor.original_first_thunk.get(LE) {
            0 => first,
            names => names,
        };
        let mut thunks = table.thunks(names).map_err(damaged)?;
        let mut slot = first;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>().map_err(damaged)? {
            let (name, kind) = match table.import::<pe::ImageNtHeaders64>(thunk).map_err(damaged)? {
                Import::Ordinal(ordinal) => (format!("#{ordinal}"), MissingKind::Ordinal),
                Import::Name(_, name) => {
                    let name = text(name)?.to_owned();
                    let kind = kinds::of(&module, &name);
                    (name, kind)
                }
            };
            match resolve(&module, &name) {
                Some(address) => slots.push((slot, address)),
                None => missing.push(MissingImport { module: module.clone(), name: name.clone(), kind }),
            }
            imports.push(ImportedFunction { module: module.clone(), name });
            if imports.len() > MAX_IMPORTS {
                return Err(damaged("more imports than functions exist"));
            }
            slot = slot.checked_add(8).ok_or_else(|| damaged("import slots"))?;
        }
    }
    if !missing.is_empty() {
        missing.sort();
        missing.dedup();
        return Err(LoadError::MissingImports(missing));
    }
    for (slot, address) in slots {
        let end = slot.checked_add(8).ok_or_else(|| damaged("import slots"))?;
        if !sections.iter().any(|s| s.range.start <= slot && end <= s.range.end) {
            return Err(damaged(format_args!("import slot {slot:#x} is in no section")));
        }
        mapped[slot as usize..end as usize].copy_from_slice(&(address as u64).to_le_bytes());
    }
    Ok(imports)
}

fn text(bytes: &[u8]) -> Result<&str, LoadError> {
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && name.len() < 512 && name.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(name)
        }
        _ => Err(damaged("import name is no name")),
    }
}
