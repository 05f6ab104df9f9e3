//! The check of imports against the list of what Windows 10 2004 has.

use std::collections::BTreeMap;

use object::LittleEndian as LE;
use object::pe;

use super::{Finding, Image, Subject};

/// Module, name and source of every import that is allowed; the file says how a line is made.
const ALLOWED: &str = include_str!("../../data/imports.txt");

/// Whether `name` of `module` may be imported.
fn is_allowed(module: &str, name: &str) -> bool {
    allowed_list().any(|(m, n, _)| m.eq_ignore_ascii_case(module) && n == name)
}

/// Module, name and source, line by line.
fn allowed_list() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    ALLOWED.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).filter_map(|line| {
        let (module, rest) = line.split_once(char::is_whitespace)?;
        let (name, source) = rest.trim_start().split_once(char::is_whitespace)?;
        Some((module, name, source.trim()))
    })
}

pub(super) fn allowed(subject: &Subject<'_>) -> Finding {
    let image = subject.image;
    let mut offenders = Vec::new();
    for (directory, what) in [
        (pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT, "delay-loaded imports"),
        (pe::IMAGE_DIRECTORY_ENTRY_BOUND_IMPORT, "bound imports"),
    ] {
        if image.directory(directory).is_some() {
            offenders.push(format!("it has {what}"));
        }
    }
    let imports = match names(image) {
        Ok(imports) => imports,
        Err(error) => return Finding::failed(format!("imports are malformed: {error}")),
    };
    for (module, names) in &imports {
        for name in names {
            match name {
                Some(name) if is_allowed(module, name) => {}
                Some(name) => offenders.push(format!("{module}!{name} is not in data/imports.txt")),
                None => offenders.push(format!("{module} has an import by number")),
            }
        }
    }
    let counts: Vec<String> =
        imports.iter().map(|(module, names)| format!("{} from {module}", names.len())).collect();
    Finding::passed_unless(&offenders, if counts.is_empty() { "none".into() } else { counts.join(", ") })
}

/// The imported names by module; `None` for an import by number.
fn names(image: &Image<'_>) -> object::read::Result<BTreeMap<String, Vec<Option<String>>>> {
    let mut modules: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    let Some(table) = image.file.import_table()? else { return Ok(modules) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let names = modules.entry(text(table.name(descriptor.name.get(LE))?)).or_default();
        let lookup = match descriptor.original_first_thunk.get(LE) {
            0 => descriptor.first_thunk.get(LE),
            lookup => lookup,
        };
        let mut thunks = table.thunks(lookup)?;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
            names.push(match table.import::<pe::ImageNtHeaders64>(thunk)? {
                object::read::pe::Import::Ordinal(_) => None,
                object::read::pe::Import::Name(_, name) => Some(text(name)),
            });
        }
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_of_the_list_names_module_function_and_source() {
        let lines = ALLOWED.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
        assert_eq!(allowed_list().count(), lines, "a line has no source");
        let mut seen = BTreeSet::new();
        for (module, name, source) in allowed_list() {
            assert!(["ndis.sys", "ntoskrnl.exe"].contains(&module), "{module}");
            assert!(!source.is_empty(), "{name} has no source");
            assert!(seen.insert((module, name)), "{name} stands twice");
        }
    }

    #[test]
    fn a_name_is_allowed_only_in_its_own_module() {
        assert!(is_allowed("NDIS.SYS", "NdisMRegisterMiniportDriver"));
        assert!(!is_allowed("ntoskrnl.exe", "NdisMRegisterMiniportDriver"));
        assert!(!is_allowed("ndis.sys", "NdisMRegisterMiniport"), "NDIS 5");
    }
}
