//! The committed corpus through every target, without libFuzzer. What fuzzing found is in it.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a target's corpus.
fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// One test for all: the linked driver exists once in a process.
#[test]
fn every_file_of_the_corpus_passes() {
    for (name, target) in ipsecnic_fuzz::TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in &files {
            let data = fs::read(file).unwrap();
            eprintln!("{}", file.display()); // shown if it fails
            target(&data);
            // Cut short anywhere, and with each bit of its first bytes flipped.
            for len in [0, 1, data.len() / 2, data.len().saturating_sub(1)] {
                target(&data[..len]);
            }
            let mut flipped = data.clone();
            for bit in 0..data.len().min(4) * 8 {
                flipped[bit / 8] ^= 1 << (bit % 8);
                target(&flipped);
                flipped[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
    ipsecnic_fuzz::end();
}

/// Cargo.toml, the folder of targets and the list of them name the same ones.
#[test]
fn every_target_has_its_entry() {
    let manifest = include_str!("../Cargo.toml");
    let mut entries: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    entries.sort();
    let mut names: Vec<_> = ipsecnic_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(entries, names);
    for name in &names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let entry = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets").join(name).with_extension("rs"),
        );
        assert!(entry.unwrap().contains(&format!("run(\"{name}\", data)")), "{name}");
    }
}
