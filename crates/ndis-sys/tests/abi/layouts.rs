//! Structures, unions and bit-fields.

use crate::data::{Data, Field};
use crate::extra;
use crate::source::Source;
use crate::types::rust;
use crate::{Layout, Word};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Fields that are anonymous in C: their members count as members of the structure around them.
const ANONYMOUS: &[(&str, &str)] =
    &[("IPSEC_OFFLOAD_V2_ADD_SA", "Endpoints"), ("IPSEC_OFFLOAD_V2_ADD_SA_EX", "Endpoints")];

/// The name of the fields that hold a word of bit-fields where C has the bit-fields themselves.
const BITS: &str = "Bits";

struct Checker {
    source: Source,
    data: Data,
    layouts: BTreeMap<&'static str, Layout>,
    words: BTreeMap<&'static str, Word>,
    /// Structures that were compared.
    seen: BTreeSet<String>,
}

impl Checker {
    fn new() -> Self {
        Self {
            source: Source::load(),
            data: Data::load(),
            layouts: crate::layouts().into_iter().map(|layout| (layout.name, layout)).collect(),
            words: crate::words().into_iter().map(|word| (word.name, word)).collect(),
            seen: BTreeSet::new(),
        }
    }

    /// Compares structure `name`, which lies at `base` in `root` of the tables; its members' paths begin with `prefix`.
    fn compare(&mut self, root: &str, prefix: &str, name: &str, base: usize) {
        let covered = self.compare_fields(root, prefix, name, base);
        // What is not declared is an alternative of something that is: a member of the same union in C.
        for member in &self.data.layouts[root].fields {
            let Some(rest) = member.path.strip_prefix(prefix) else { continue };
            let declared = self.source.structs[name].fields.iter().any(|(field, _)| field == rest);
            assert!(
                rest.contains('.') || declared || covered.iter().any(|range| range.contains(&member.offset)),
                "{root}.{} is not declared",
                member.path
            );
        }
    }

    /// Compares the declared fields of a structure; returns which bytes of `root` they cover.
    fn compare_fields(&mut self, root: &str, prefix: &str, name: &str, base: usize) -> Vec<Range<usize>> {
        self.seen.insert(name.to_owned());
        let declared = self.source.structs[name].fields.clone();
        let mut covered = Vec::new();
        for (field, ty) in &declared {
            let layout = self.layouts[name].fields.iter().find(|layout| layout.name == *field).unwrap();
            let (offset, size) = (base + layout.offset, layout.size);
            covered.push(offset..offset + size);
            let path = format!("{prefix}{field}");
            let place = format!("{root}.{path}");

            if ANONYMOUS.contains(&(root, field)) {
                self.compare_fields(root, prefix, ty, offset);
                continue;
            }
            if self.words.contains_key(ty.as_str()) {
                let path = if field == BITS { prefix.trim_end_matches('.') } else { &path };
                let (start, _) = bit_fields(&self.data.layouts[root].fields, path);
                assert_eq!(offset, start, "{place}");
                let word = if path.is_empty() { root.to_owned() } else { format!("{root}.{path}") };
                assert!(self.words[ty.as_str()].paths.contains(&word.as_str()), "{place}: {word}");
                continue;
            }
            let expected = self.data.layouts[root].fields.iter().find(|expected| expected.path == path);
            let expected = expected.unwrap_or_else(|| panic!("{place} is in no table"));
            assert_eq!(offset, expected.offset, "{place}");
            assert_eq!(expected.bits, None, "{place}");
            let c_type = expected.c_type.clone();
            if self.is_known(&c_type) {
                let expected_size = self.c_size(&c_type);
                assert_eq!(size, expected_size, "{place}: {c_type}");
                assert_eq!(element(ty), element(&rust(&c_type)), "{place}");
            } else {
                // A structure that is anonymous, or known only as a part of this one.
                self.compare(root, &format!("{path}."), ty, offset);
            }
        }
        covered
    }

    /// Whether the C type is more than a part of the structure that it was found in.
    fn is_known(&self, c_type: &str) -> bool {
        let element = c_type.trim_start_matches("volatile ").split('[').next().unwrap();
        element.ends_with('*')
            || element.starts_with("unsigned ")
            || self.data.layouts.contains_key(element)
            || self.source.aliases.contains_key(element)
            || extra::STRUCTS.iter().any(|(name, ..)| *name == element)
            || rust(element).starts_with('*')
    }

    fn c_size(&self, c_type: &str) -> usize {
        let c_type = c_type.trim_start_matches("volatile ");
        if let Some((element, length)) = c_type.split_once('[') {
            return self.c_size(element) * length.trim_end_matches(']').parse().unwrap_or(0);
        }
        let ty = rust(c_type);
        if ty.starts_with('*') || ty.starts_with("Option<") {
            return 8;
        }
        if let Some(layout) = self.data.layouts.get(&ty) {
            return layout.size;
        }
        if let Some((_, size, _)) = extra::STRUCTS.iter().find(|(name, ..)| *name == ty) {
            return *size;
        }
        match ty.as_str() {
            "i8" | "u8" => 1,
            "i16" | "u16" => 2,
            "i32" | "u32" => 4,
            "i64" | "u64" | "usize" => 8,
            alias => {
                let target = self.source.aliases.get(alias).unwrap_or_else(|| panic!("{c_type} is unknown"));
                self.c_size(target)
            }
        }
    }
}

/// The element of an array type, or the type. Lengths are compared by size.
fn element(ty: &str) -> &str {
    ty.strip_prefix('[').map_or(ty, |array| array.rsplit_once(';').unwrap().0)
}

/// The bit-fields right under `path`: where their word starts, and their names with lowest bit and width.
fn bit_fields(fields: &[Field], path: &str) -> (usize, Vec<(String, usize, usize)>) {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let members = fields.iter().filter_map(|field| {
        let name = field.path.strip_prefix(&prefix)?;
        let bits = field.bits?;
        (!name.contains('.')).then_some((name.to_owned(), field.offset, bits))
    });
    let members: Vec<_> = members.collect();
    let start = members
        .iter()
        .map(|(_, offset, _)| *offset)
        .min()
        .unwrap_or_else(|| panic!("{path} has no bit-fields"));
    let place = |(name, offset, (first, last)): (String, usize, (usize, usize))| {
        (name, 8 * (offset - start) + first, last - first + 1)
    };
    (start, members.into_iter().map(place).collect())
}

#[test]
fn structures_have_the_wdks_layouts() {
    let mut checker = Checker::new();
    for name in checker.source.structs.keys().cloned().collect::<Vec<_>>() {
        let layout = &checker.layouts[name.as_str()];
        if let Some(expected) = checker.data.layouts.get(&name) {
            assert_eq!((layout.size, layout.align), (expected.size, expected.align), "{name}");
            // Words of out-of-band data are unions in C; `bit_fields_have_the_wdks_bits` looks at them.
            checker.compare(&name, "", &name, 0);
        } else if let Some((_, size, source)) = extra::STRUCTS.iter().find(|(extra, ..)| *extra == name) {
            assert_eq!(layout.size, *size, "{name}: {source}");
            checker.seen.insert(name);
        }
    }
    for (name, path, field) in TRANSPARENT {
        let expected = &checker.data.layouts[*path].fields;
        let expected = expected.iter().find(|expected| expected.path == *field).unwrap();
        assert_eq!(
            (expected.offset, checker.c_size(&expected.c_type)),
            (0, checker.layouts[*name].size),
            "{name}"
        );
        checker.seen.insert((*name).to_owned());
    }
    let declared: BTreeSet<_> = checker.source.structs.keys().cloned().collect();
    assert_eq!(declared.difference(&checker.seen).collect::<Vec<_>>(), Vec::<&String>::new(), "in no table");
}

/// Slots that are a handle and nothing else: the type, and the C union and its member.
const TRANSPARENT: &[(&str, &str, &str)] = &[
    (
        "NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_TRANSMIT",
        "NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO",
        "Transmit.OffloadHandle",
    ),
    (
        "NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO_TRANSMIT",
        "NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO",
        "Transmit.TunnelHandle",
    ),
];

#[test]
fn unions_are_unions() {
    let source = Source::load();
    for layout in crate::layouts() {
        let overlap =
            layout.fields.len() > 1 && layout.fields.iter().all(|field| field.offset == 0 && field.size > 0);
        assert_eq!(source.structs[layout.name].is_union, overlap, "{}", layout.name);
    }
}

#[test]
fn bit_fields_have_the_wdks_bits() {
    let data = Data::load();
    for word in crate::words() {
        assert!(!word.paths.is_empty());
        for path in word.paths {
            let (root, path) = path.split_once('.').unwrap_or((path, ""));
            let (_, expected) = bit_fields(&data.layouts[root].fields, path);
            for (name, low, width) in &expected {
                let Some(field) = word.fields.iter().find(|field| field.name == name) else {
                    assert!(
                        name.starts_with("Reserved") || name == "Unused",
                        "{}.{name} is not declared",
                        word.name
                    );
                    continue;
                };
                let value = u32::try_from((1_u64 << width) - 1).unwrap();
                let mask = u64::from(value) << low;
                assert_eq!((field.set, field.cleared), (mask, mask), "{}.{name}", word.name);
                assert_eq!((field.read, field.read_alone), (value, value), "{}.{name}", word.name);
            }
            for field in &word.fields {
                assert!(expected.iter().any(|(name, ..)| name == field.name), "{}.{}", word.name, field.name);
            }
        }
    }
}
