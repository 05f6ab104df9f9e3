//! The image as the checks see it: a PE32+ file that is whole.

use std::fmt;
use std::ops::Range;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

/// Why some bytes are not a whole 64-bit PE image, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnImage(String);

impl fmt::Display for NotAnImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAnImage {}

/// One section.
#[derive(Clone, Debug)]
pub(super) struct Section<'a> {
    pub(super) name: String,
    /// Addresses, relative to the image's base, of `VirtualSize` bytes.
    pub(super) rva: Range<u32>,
    /// `IMAGE_SCN_*`.
    pub(super) characteristics: u32,
    /// What the file holds of it: at most `VirtualSize` bytes.
    pub(super) data: &'a [u8],
}

impl Section<'_> {
    pub(super) fn has(&self, characteristics: u32) -> bool {
        self.characteristics & characteristics == characteristics
    }
}

/// A function, or a part of one, in the exception directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    /// Address of its first byte.
    pub(super) begin: u32,
    /// Address of its `UNWIND_INFO`.
    pub(super) unwind: u32,
}

/// A 64-bit PE image whose headers, sections and directories all lie within the file.
pub struct Image<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) file: PeFile64<'a>,
    pub(super) sections: Vec<Section<'a>>,
}

impl fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("sections", &self.sections).finish_non_exhaustive()
    }
}

impl<'a> Image<'a> {
    /// Reads an image.
    ///
    /// # Errors
    /// If `bytes` is something else, a 32-bit image, or a part of one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotAnImage> {
        let not = |what: String| NotAnImage(what);
        if bytes.is_empty() {
            return Err(not("the file is empty".into()));
        }
        if !bytes.starts_with(b"MZ") {
            return Err(not("not a PE image: it does not begin with MZ".into()));
        }
        let file = match PeFile64::parse(bytes) {
            Ok(file) => file,
            Err(_) if object::read::pe::PeFile32::parse(bytes).is_ok() => {
                return Err(not("a 32-bit image (PE32); a 64-bit one (PE32+) is wanted".into()));
            }
            Err(error) => return Err(not(format!("not a whole PE image: {error}"))),
        };
        let headers = file.nt_headers();
        if u64::from(headers.optional_header.size_of_headers.get(LE)) > bytes.len() as u64 {
            return Err(not("truncated: the headers reach past the end of the file".into()));
        }
        let mut sections = Vec::new();
        for header in file.section_table().iter() {
            let name = String::from_utf8_lossy(header.raw_name()).into_owned();
            let raw_end =
                u64::from(header.pointer_to_raw_data.get(LE)) + u64::from(header.size_of_raw_data.get(LE));
            if raw_end > bytes.len() as u64 {
                return Err(not(format!(
                    "truncated: section {name} ends at byte {raw_end}, the file has {}",
                    bytes.len()
                )));
            }
            let (start, size) = header.pe_address_range();
            let Some(end) = start.checked_add(size) else {
                return Err(not(format!("section {name} reaches past 4 GiB")));
            };
            let data = header.pe_data(bytes).map_err(|error| not(format!("section {name}: {error}")))?;
            sections.push(Section {
                name,
                rva: start..end,
                characteristics: header.characteristics.get(LE).0,
                data,
            });
        }
        if sections.is_empty() {
            return Err(not("an image without sections".into()));
        }
        let image = Self { bytes, file, sections };
        for (index, name) in [
            (pe::IMAGE_DIRECTORY_ENTRY_IMPORT, "import"),
            (pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, "exception"),
            (pe::IMAGE_DIRECTORY_ENTRY_BASERELOC, "relocation"),
            (pe::IMAGE_DIRECTORY_ENTRY_DEBUG, "debug"),
        ] {
            if image.directory(index).is_some_and(|range| image.at(range).is_none()) {
                return Err(not(format!("the {name} directory lies outside the image's sections")));
            }
        }
        Ok(image)
    }

    /// The address range of a data directory, if it has one.
    pub(super) fn directory(&self, index: usize) -> Option<Range<u32>> {
        let directory = self.file.data_directory(index)?;
        let (start, size) = directory.address_range();
        (start != 0 && size != 0).then(|| start..start.saturating_add(size))
    }

    /// The bytes of a data directory; empty if it has none.
    pub(super) fn directory_data(&self, index: usize) -> &'a [u8] {
        self.directory(index).and_then(|range| self.at(range)).unwrap_or_default()
    }

    /// The file's bytes at an address range, if one section holds them all.
    pub(super) fn at(&self, range: Range<u32>) -> Option<&'a [u8]> {
        self.sections.iter().find_map(|section| {
            let start = range.start.checked_sub(section.rva.start)? as usize;
            section.data.get(start..start.checked_add(range.len())?)
        })
    }

    /// What the exception directory says of functions, by address. Functions without a frame need not be in it.
    pub(super) fn functions(&self) -> Vec<Function> {
        /// `RUNTIME_FUNCTION`: begin, end, unwind information.
        const RUNTIME_FUNCTION: usize = 12;
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let entries = self.directory_data(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION).chunks_exact(RUNTIME_FUNCTION);
        let mut functions: Vec<Function> =
            entries.map(|entry| Function { begin: word(entry), unwind: word(&entry[8..]) }).collect();
        functions.sort_unstable_by_key(|function| function.begin);
        functions
    }

    /// Address of the entry point, relative to the image's base.
    pub(super) fn entry(&self) -> u32 {
        self.file.nt_headers().optional_header.address_of_entry_point.get(LE)
    }
}
