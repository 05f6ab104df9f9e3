//! Call stacks and their names: functions, files and lines, from the PDB beside an image or from the
//! debug information of this program.

use std::collections::HashMap;
use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pdb_addr2line::TypeFormatterFlags;

use crate::loader::{Image, PdbName};

/// A driver image as stacks name it; it may be unloaded already.
pub struct Module {
    name: String,
    base: usize,
    size: usize,
    pdb: Option<PathBuf>,
    identity: Option<PdbName>,
    /// What the PDB said of addresses that were asked for.
    known: Mutex<HashMap<u32, Arc<[Line]>>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.name).field("pdb", &self.pdb).finish_non_exhaustive()
    }
}

/// A function at an address, or one that was inlined there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub function: String,
    /// File and line, if they are known.
    pub place: Option<(String, u32)>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match &self.place {
            Some((file, line)) => write!(f, " ({}:{line})", short(file)),
            None => Ok(()),
        }
    }
}

/// The last three parts of a path: enough to find the file, and the same on every machine.
fn short(path: &str) -> String {
    let mut parts: Vec<_> = path.rsplit(['/', '\\']).take(3).collect();
    parts.reverse();
    parts.join("/")
}

impl Module {
    pub(crate) fn new(name: &str, image: &Image, pdb: Option<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            base: image.base(),
            size: image.size() as usize,
            pdb,
            identity: image.pdb().cloned(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.size
    }

    /// Names addresses relative to the base: for each the innermost inlined function first. Without a
    /// PDB, or with one of another build, nothing is known.
    fn lines(&self, addresses: &[u32]) -> Vec<Arc<[Line]>> {
        let mut known = self.known.lock();
        let missing: Vec<u32> = addresses.iter().copied().filter(|rva| !known.contains_key(rva)).collect();
        if !missing.is_empty() {
            let found =
                self.pdb.as_deref().and_then(|path| look_up(path, self.identity.as_ref(), &missing).ok());
            let found = found.unwrap_or_else(|| vec![Vec::new(); missing.len()]);
            known.extend(missing.into_iter().zip(found.into_iter().map(Arc::from)));
        }
        addresses.iter().map(|rva| known.get(rva).cloned().unwrap_or_default()).collect()
    }
}

/// The PDB of an image that was read from `path`: the one that it names, or one with its own name.
pub(crate) fn pdb_beside(path: &Path, identity: Option<&PdbName>) -> Option<PathBuf> {
    let named = identity.map(|pdb| path.with_file_name(&pdb.file));
    named.into_iter().chain([path.with_extension("pdb")]).find(|candidate| candidate.is_file())
}

/// Asks a PDB.
fn look_up(
    path: &Path,
    identity: Option<&PdbName>,
    addresses: &[u32],
) -> Result<Vec<Vec<Line>>, pdb_addr2line::Error> {
    let bytes = std::fs::read(path).map_err(pdb_addr2line::pdb::Error::IoError)?;
    let mut pdb = pdb_addr2line::pdb::PDB::open(Cursor::new(bytes))?;
    let guid = pdb.pdb_information()?.guid;
    if identity.is_some_and(|identity| identity.guid != guid.to_bytes_le()) {
        return Ok(vec![Vec::new(); addresses.len()]);
    }
    let data = pdb_addr2line::ContextPdbData::try_from_pdb(pdb)?;
    let context = data.make_context_with_formatter_flags(
        TypeFormatterFlags::NO_FUNCTION_RETURN | TypeFormatterFlags::NO_ARGUMENTS,
    )?;
    let lines = |address: u32| {
        let frames =
            context.find_frames(address).ok().flatten().map(|found| found.frames).unwrap_or_default();
        let line = |frame: pdb_addr2line::Frame<'_>| Line {
            function: frame.function.unwrap_or_else(|| "?".to_owned()),
            place: frame.file.map(|file| (file.into_owned(), frame.line.unwrap_or(0))),
        };
        frames.into_iter().map(line).collect()
    };
    Ok(addresses.iter().map(|address| lines(*address)).collect())
}

/// One frame of a stack.
#[derive(Debug, Clone)]
pub struct StackFrame {
    module: Option<Arc<Module>>,
    address: usize,
    exact: bool,
}

impl StackFrame {
    pub(crate) fn new(module: Option<Arc<Module>>, address: usize, exact: bool) -> Self {
        Self { module, address, exact }
    }

    pub(crate) fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    /// The image's name; `None` for code that is linked into this program.
    pub fn module(&self) -> Option<&str> {
        self.module.as_ref().map(|module| module.name.as_str())
    }

    /// Its address in the process.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// The address relative to the image, or, in this program, relative to a place in it: the same in
    /// every run of one build.
    pub fn offset(&self) -> usize {
        let base = self.module.as_ref().map_or(short as *const () as usize, |module| module.base);
        self.address.wrapping_sub(base)
    }

    /// The address of the instruction that calls.
    fn inside(&self) -> usize {
        self.address - usize::from(!self.exact && self.address > 0)
    }

    /// The functions at this frame, innermost first; none if there is no debug information.
    pub fn lines(&self) -> Vec<Line> {
        if let Some(module) = &self.module {
            let rva = u32::try_from(self.inside() - module.base).unwrap_or(0);
            return module.lines(&[rva]).remove(0).to_vec();
        }
        let mut lines = Vec::new();
        backtrace::resolve(self.inside() as *mut _, |symbol| {
            if let Some(name) = symbol.name() {
                let place =
                    symbol.filename().map(|file| (file.display().to_string(), symbol.lineno().unwrap_or(0)));
                // Without the hash of the build.
                lines.push(Line { function: format!("{name:#}"), place });
            }
        });
        lines
    }
}

impl fmt::Display for StackFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module() {
            Some(name) => write!(f, "{name}+{:#x}", self.offset()),
            None => write!(f, "{:#x}", self.address),
        }
    }
}

/// The frames of a driver, innermost first, up to where the lab called it.
#[derive(Debug, Clone, Default)]
pub struct CallStack {
    frames: Vec<StackFrame>,
}

impl PartialEq for CallStack {
    fn eq(&self, other: &Self) -> bool {
        self.frames.len() == other.frames.len() && self.id() == other.id()
    }
}

impl Eq for CallStack {}

impl CallStack {
    pub(crate) fn new(frames: Vec<StackFrame>) -> Self {
        Self { frames }
    }

    /// The stack of the driver that called the lab on this thread: of use within a fault hook or a
    /// pool hook. Empty elsewhere, and on hosts where stacks cannot be walked (Windows).
    #[must_use]
    pub fn here() -> Self {
        crate::machine::stack::capture(false)
    }

    /// Its frames, innermost first.
    pub fn frames(&self) -> &[StackFrame] {
        &self.frames
    }

    /// A number that tells it from other stacks: of the frames' offsets, so that runs of one build
    /// agree on it. A hash (FNV-1a, 64 bits).
    pub fn id(&self) -> u64 {
        self.frames
            .iter()
            .flat_map(|frame| frame.offset().to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// As [`CallStack::id`], of this process only: images that are loaded at different times differ.
    pub(crate) fn identity(&self) -> u64 {
        let modules = self.frames.iter().filter_map(|frame| frame.module.as_ref());
        modules.fold(self.id(), |hash, module| {
            (hash ^ Arc::as_ptr(module) as u64).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The innermost function that is known by name, with its place in the source; the innermost address
    /// where none is. `None` for an empty stack.
    pub fn place(&self) -> Option<String> {
        self.prepare();
        let named =
            self.frames.iter().find_map(|frame| frame.lines().into_iter().find(|line| line.place.is_some()));
        named.map(|line| line.to_string()).or_else(|| self.frames.first().map(ToString::to_string))
    }

    /// One line for each function, innermost first; a frame without debug information is one line with its address.
    pub fn lines(&self) -> Vec<String> {
        self.prepare();
        let mut text = Vec::new();
        for frame in &self.frames {
            let lines = frame.lines();
            if lines.is_empty() {
                text.push(frame.to_string());
            }
            text.extend(lines.iter().map(|line| format!("{frame} {line}")));
        }
        text
    }

    /// Asks the PDB for all frames at once.
    fn prepare(&self) {
        prepare([self]);
    }
}

/// Asks the PDBs for all frames of these stacks at once, which is much faster than one after the other.
pub fn prepare<'a>(stacks: impl IntoIterator<Item = &'a CallStack>) {
    let mut wanted: Vec<(&Arc<Module>, Vec<u32>)> = Vec::new();
    for frame in stacks.into_iter().flat_map(|stack| &stack.frames) {
        let Some(module) = &frame.module else { continue };
        let rva = u32::try_from(frame.inside() - module.base).unwrap_or(0);
        match wanted.iter_mut().find(|(known, _)| Arc::ptr_eq(known, module)) {
            Some((_, addresses)) => addresses.push(rva),
            None => wanted.push((module, vec![rva])),
        }
    }
    for (module, addresses) in wanted {
        module.lines(&addresses);
    }
}

impl fmt::Display for CallStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.lines().iter().enumerate() {
            writeln!(f, "{number:>4} {line}")?;
        }
        Ok(())
    }
}
