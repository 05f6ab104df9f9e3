//! Compares everything that the crate declares with the numbers of the WDK's headers.
//!
//! `surface.rs` lists what is declared, so that the compiler's values of it can be looked at; the first test compares
//! the list with the source. An item that neither the WDK's tables (`tests/data`) nor `extra.rs` have fails a test.

mod constants;
mod data;
mod extra;
mod functions;
mod layouts;
mod source;
mod types;

use std::fmt::Write;

/// A constant's value and size in bytes.
struct Constant {
    name: &'static str,
    value: i128,
    size: usize,
}

/// A structure's or union's layout.
struct Layout {
    name: &'static str,
    size: usize,
    align: usize,
    fields: Vec<FieldLayout>,
}

struct FieldLayout {
    name: &'static str,
    offset: usize,
    size: usize,
}

/// A word of bit-fields.
struct Word {
    name: &'static str,
    paths: &'static [&'static str],
    fields: Vec<BitField>,
}

struct BitField {
    name: &'static str,
    /// The bits that the builder sets in a word of zeros.
    set: u64,
    /// The bits that the builder clears in a word of ones.
    cleared: u64,
    /// What the getter reads of a word of ones.
    read: u32,
    /// What the getter reads of a word where only this field is not zero.
    read_alone: u32,
}

fn size_of_target<T>(_: *const T) -> usize {
    size_of::<T>()
}

fn size_of_value<T>(_: T) -> usize {
    size_of::<T>()
}

macro_rules! constants {
    ($($name:ident,)*) => {
        fn constants() -> Vec<Constant> {
            #[allow(clippy::cast_lossless)] // not from `usize`
            let constants = vec![$(
                Constant {
                    name: stringify!($name),
                    value: ndis_sys::$name as i128,
                    size: size_of_value(ndis_sys::$name),
                },
            )*];
            constants
        }
    };
}

macro_rules! layouts {
    ($($name:ident { $($field:ident,)* })*) => {
        fn layouts() -> Vec<Layout> {
            vec![$({
                let value = core::mem::MaybeUninit::<ndis_sys::$name>::uninit();
                let value = value.as_ptr();
                Layout {
                    name: stringify!($name),
                    size: size_of::<ndis_sys::$name>(),
                    align: align_of::<ndis_sys::$name>(),
                    fields: vec![$(
                        FieldLayout {
                            name: stringify!($field),
                            offset: core::mem::offset_of!(ndis_sys::$name, $field),
                            // SAFETY: the place is inside the allocation and is not read.
                            size: size_of_target(unsafe { &raw const (*value).$field }),
                        },
                    )*],
                }
            },)*]
        }
    };
}

macro_rules! words {
    ($($name:ident { $($get:ident / $with:ident,)* })*) => {
        fn words() -> Vec<Word> {
            #[allow(clippy::cast_lossless)] // not from `usize`
            let words = vec![$(
                Word {
                    name: stringify!($name),
                    paths: ndis_sys::$name::WDK_PATHS,
                    fields: vec![$({
                        let zeros = ndis_sys::$name(0);
                        let ones = ndis_sys::$name(!0);
                        BitField {
                            name: stringify!($get),
                            set: zeros.$with(u32::MAX).0 as u64,
                            cleared: !ones.$with(0).0 as u64,
                            read: ones.$get(),
                            read_alone: zeros.$with(u32::MAX).$get(),
                        }
                    },)*],
                },
            )*];
            words
        }
    };
}

include!("surface.rs");

/// The contents of `surface.rs` for this source.
fn surface(source: &source::Source) -> String {
    let mut text = String::from("// Made by `BLESS=1 cargo test -p ndis-sys --test abi`.\n\nconstants! {\n");
    for name in source.constants.keys() {
        writeln!(text, "    {name},").unwrap();
    }
    text.push_str("}\n\nlayouts! {\n");
    for (name, declared) in &source.structs {
        let fields: Vec<_> = declared.fields.iter().map(|(field, _)| format!("{field}, ")).collect();
        writeln!(text, "    {name} {{ {}}}", fields.concat()).unwrap();
    }
    text.push_str("}\n\nwords! {\n");
    for (name, word) in &source.words {
        let fields: Vec<_> = word.fields.iter().map(|field| format!("{field} / with_{field}, ")).collect();
        writeln!(text, "    {name} {{ {}}}", fields.concat()).unwrap();
    }
    text.push_str("}\n");
    text
}

#[test]
fn surface_is_what_the_source_declares() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi/surface.rs");
    let expected = surface(&source::Source::load());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert!(include_str!("surface.rs") == expected, "surface.rs is out of date; see tests/data/README.md");
}
