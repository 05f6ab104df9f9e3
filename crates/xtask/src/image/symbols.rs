//! Checks against the PDB: the entry point's name, and whether it is this image's PDB at all.

use std::io::Cursor;

use object::Object as _;
use pdb2::{FallibleIterator as _, SymbolData};

use super::{Finding, Subject, Verdict};

/// What the checks need of a PDB.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbols {
    /// In the byte order of the file.
    guid: [u8; 16],
    age: u32,
    /// Address and name of each public symbol.
    publics: Vec<(u32, String)>,
    /// Start, length and name of each function, by start.
    functions: Vec<(u32, u32, String)>,
}

impl Symbols {
    /// Reads a PDB; the error is one line.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::try_read(bytes).map_err(|error| format!("the PDB cannot be read: {error}"))
    }

    fn try_read(bytes: &[u8]) -> pdb2::Result<Self> {
        let mut pdb = pdb2::PDB::open(Cursor::new(bytes))?;
        let information = pdb.pdb_information()?;
        let debug = pdb.debug_information()?;
        // The linker writes the image's age into the debug stream; tools that change the PDB later raise the other one.
        let age = debug.age().unwrap_or(information.age);
        let mut symbols = Self { guid: information.guid.to_bytes_le(), age, ..Self::default() };
        let map = pdb.address_map()?;
        let globals = pdb.global_symbols()?;
        let mut iter = globals.iter();
        while let Some(symbol) = iter.next()? {
            if let Ok(SymbolData::Public(public)) = symbol.parse()
                && let Some(rva) = public.offset.to_rva(&map)
            {
                symbols.publics.push((rva.0, public.name.to_string().into_owned()));
            }
        }
        let mut modules = debug.modules()?;
        while let Some(module) = modules.next()? {
            let Some(info) = pdb.module_info(&module)? else { continue };
            let mut iter = info.symbols()?;
            while let Some(symbol) = iter.next()? {
                if let Ok(SymbolData::Procedure(function)) = symbol.parse()
                    && let Some(rva) = function.offset.to_rva(&map)
                {
                    symbols.functions.push((rva.0, function.len, function.name.to_string().into_owned()));
                }
            }
        }
        symbols.functions.sort_unstable();
        Ok(symbols)
    }

    /// Name of the function that holds an address.
    pub(super) fn function_at(&self, rva: u32) -> Option<&str> {
        let after = self.functions.partition_point(|(start, ..)| *start <= rva);
        let (start, len, name) = self.functions.get(after.checked_sub(1)?)?;
        (rva - start < *len).then_some(name)
    }
}

/// The PDB's symbols, or the finding that there are none.
fn symbols<'a>(subject: &'a Subject<'_>) -> Result<&'a Symbols, Finding> {
    match &subject.symbols {
        Some(Ok(symbols)) => Ok(symbols),
        Some(Err(error)) => Err(Finding::failed(error.clone())),
        None => Err(Finding::new(Verdict::NotChecked, "no PDB beside the image")),
    }
}

pub(super) fn entry(subject: &Subject<'_>) -> Finding {
    let symbols = match symbols(subject) {
        Ok(symbols) => symbols,
        Err(finding) => return finding,
    };
    let entry = subject.image.entry();
    let names: Vec<&str> =
        symbols.publics.iter().filter(|(rva, _)| *rva == entry).map(|(_, name)| name.as_str()).collect();
    if names.contains(&"DriverEntry") {
        Finding::passed(format!("DriverEntry at {entry:#x}"))
    } else {
        Finding::failed(format!(
            "{entry:#x} is {}",
            if names.is_empty() { "no public symbol".into() } else { names.join(", ") }
        ))
    }
}

pub(super) fn identity(subject: &Subject<'_>) -> Finding {
    let wanted = match subject.image.file.pdb_info() {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return Finding::failed("the image names no PDB (no CodeView record)"),
        Err(error) => return Finding::failed(format!("the debug directory is malformed: {error}")),
    };
    let symbols = match symbols(subject) {
        Ok(symbols) => symbols,
        Err(finding) => return finding,
    };
    let shown = |guid: [u8; 16], age: u32| format!("{:032x} age {age}", u128::from_be_bytes(guid));
    let mut offenders = Vec::new();
    if (wanted.guid(), wanted.age()) != (symbols.guid, symbols.age) {
        offenders.push(format!(
            "the image wants {}, the PDB is {}",
            shown(wanted.guid(), wanted.age()),
            shown(symbols.guid, symbols.age)
        ));
    }
    let seen = format!(
        "{}, {}, {} public symbols",
        String::from_utf8_lossy(wanted.path()),
        shown(wanted.guid(), wanted.age()),
        symbols.publics.len()
    );
    Finding::passed_unless(&offenders, seen)
}
