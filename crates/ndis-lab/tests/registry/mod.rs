//! A driver image that nobody here wrote: `wintun.sys`, the file that `WINTUN_SYS` names, or out of the `wintun` crate of
//! crates.io.
//!
//! The crate carries `wintun.dll`, and that carries the driver and its INF as resources. Cargo
//! downloads the crate (once; it checks what it downloads), and this module reads the resources. A
//! copy lies beside the tests' other temporary files, for `lab run`; nothing of it is committed.

use std::path::{Path, PathBuf};
use std::process::Command;

use object::LittleEndian as LE;
use object::read::pe::{PeFile64, ResourceDirectoryEntryData, ResourceNameOrId};

const VERSION: &str = "0.5.1";

/// The driver and its INF.
pub(crate) struct Package {
    pub(crate) image: Vec<u8>,
    pub(crate) inf: String,
}

/// The folder of the crate that Cargo downloaded.
fn folder() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wintun-fetch");
    std::fs::create_dir_all(place.join("src")).expect("a folder for the download");
    let manifest = place.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
         [dependencies]\nwintun = \"={VERSION}\"\n\n[workspace]\n"
    );
    std::fs::write(&manifest, text).expect("a manifest for the download");
    std::fs::write(place.join("src/lib.rs"), "").expect("a source for the download");
    let mut errors = String::new();
    // What is there already needs no network.
    for mode in [Some("--offline"), None] {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]);
        command.arg("--manifest-path").arg(&manifest).args(mode);
        let output = command.output().expect("cargo runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let file = format!("wintun-{VERSION}");
        if let Some(at) = text.find(&file).filter(|_| output.status.success()) {
            let start = text[..at].rfind('"').map_or(0, |quote| quote + 1);
            return PathBuf::from(text[start..at + file.len()].replace("\\\\", "\\"));
        }
        errors.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    panic!("cargo cannot download the crate wintun {VERSION}, which this test needs:\n{errors}");
}

/// A resource by its name, in the first language.
fn resource(file: &PeFile64<'_>, bytes: &[u8], name: &str) -> Vec<u8> {
    let wanted: Vec<u16> = name.encode_utf16().collect();
    let directories = file.data_directories();
    let sections = file.section_table();
    let resources = directories.resource_directory(bytes, &sections).unwrap().expect("resources");
    for kind in resources.root().unwrap().entries {
        let ResourceDirectoryEntryData::Table(names) = kind.data(resources).unwrap() else { continue };
        for entry in names.entries {
            let ResourceNameOrId::Name(found) = entry.name_or_id() else { continue };
            if found.data(resources).unwrap().iter().map(|unit| unit.get(LE)).ne(wanted.iter().copied()) {
                continue;
            }
            let ResourceDirectoryEntryData::Table(languages) = entry.data(resources).unwrap() else {
                continue;
            };
            let ResourceDirectoryEntryData::Data(data) = languages.entries[0].data(resources).unwrap() else {
                continue;
            };
            let found = sections.pe_data_at(bytes, data.offset_to_data.get(LE)).expect("data in a section");
            return found[..data.size.get(LE) as usize].to_vec();
        }
    }
    panic!("no resource {name}");
}

/// The package: the image that `WINTUN_SYS` names, made of the driver's sources perhaps, with the INF beside it; or the
/// one in the crate, downloaded if it is not there yet.
pub(crate) fn wintun() -> Package {
    if let Some(path) = std::env::var_os("WINTUN_SYS").map(PathBuf::from) {
        let read =
            |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let inf = String::from_utf8(read(&path.with_extension("inf"))).expect("an INF in UTF-8");
        return Package { image: read(&path), inf };
    }
    let path = folder().join("wintun/bin/amd64/wintun.dll");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = PeFile64::parse(&*bytes).expect("a PE file");
    let image = resource(&file, &bytes, "WINTUN.SYS");
    let inf = String::from_utf8(resource(&file, &bytes, "WINTUN.INF")).expect("an INF in UTF-8");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, bytes) in [("wintun.sys", image.as_slice()), ("wintun.inf", inf.as_bytes())] {
        std::fs::write(place.join(name), bytes).expect("a copy of the driver");
    }
    Package { image, inf }
}
