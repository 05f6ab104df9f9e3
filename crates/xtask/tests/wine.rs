//! The image and its INF in Wine (docs/wine.md): `cargo xtask test --long` runs it, with Wine installed.
//!
//! `IPSECNIC_IMAGE` names the image; its INF lies beside it. Each of the tests that expect a failure breaks the image in
//! one place.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use xtask::steps::Steps;
use xtask::wine::Wine;
use xtask::wine::inf::{self, Section};
use xtask::wine::judge::{Expected, Life};

/// What Wine is told to install instead of the INF as it is: its setupapi knows architectures in the names of models
/// sections, but no Windows versions.
const DECORATION: (&str, &str) = ("NTamd64.10.0...19041", "NTamd64");
const HARDWARE_ID: &str = "Root\\ipsecnic";

/// The image to test; `None` in a run without.
fn image() -> Option<PathBuf> {
    let image = std::env::var_os("IPSECNIC_IMAGE");
    let native_only = std::env::var_os("IPSECNIC_NATIVE_ONLY").is_some_and(|value| value == "1");
    assert!(image.is_some() || native_only, "IPSECNIC_IMAGE names no image: run `cargo xtask test --long`");
    image.map(PathBuf::from)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn inf_of(image: &Path) -> String {
    String::from_utf8(read(&image.with_extension("inf"))).expect("the INF is ASCII")
}

/// One Wine for all tests, from the first that wants it to the last; one test at a time in it.
fn wine() -> (Arc<Wine>, MutexGuard<'static, ()>) {
    static SHARED: Mutex<Weak<Wine>> = Mutex::new(Weak::new());
    static TURN: OnceLock<Mutex<()>> = OnceLock::new();
    let wine = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let wine = Arc::new(Wine::new(&Steps::default()).unwrap_or_else(|failure| panic!("{failure}")));
            *shared = Arc::downgrade(&wine);
            wine
        })
    };
    let turn = TURN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    // What an earlier test left loaded would stand in for what this one loads.
    wine.end();
    (wine, turn)
}

/// Loads an image as a service of its own, unloads it if it was loaded, and gives the report.
fn load(wine: &Wine, image: &[u8]) -> String {
    static LOADS: AtomicU32 = AtomicU32::new(0);
    let name = format!("loaded{}", LOADS.fetch_add(1, Relaxed));
    let path = format!("binPath=C:\\{name}\\ipsecnic.sys");
    wine.take_report().expect("no report is left");
    wine.write(&format!("{name}/ipsecnic.sys"), image).expect("the image is written");
    let run = |arguments: &[&str]| wine.run(arguments).unwrap_or_else(|failure| panic!("{failure}"));
    let made = run(&["sc", "create", &name, "type=", "kernel", &path]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let started = run(&["net", "start", &name]);
    if started.status == Some(0) {
        let stopped = run(&["net", "stop", &name]);
        assert_eq!(stopped.status, Some(0), "{stopped:?}");
    }
    wine.take_report().expect("the report is text")
}

#[test]
fn the_image_is_loaded_registered_and_unloaded() {
    let Some(path) = image() else { return };
    let bytes = read(&path);
    let expected = Expected::new(&bytes, &inf_of(&path)).expect("an image");
    let (wine, _turn) = wine();
    let report = load(&wine, &bytes);
    let findings = expected.judge(&report, Life::Driver);
    assert!(findings.is_empty(), "{findings:#?}\n{report}");
}

#[test]
fn an_adapter_lives_from_its_installation_to_its_removal() {
    let Some(path) = image() else { return };
    let (bytes, text) = (read(&path), inf_of(&path));
    let (version, architecture) = DECORATION;
    assert_eq!(text.matches(version).count(), 2, "the manufacturer's line and the section's name");
    let text = text.replace(version, architecture);
    let expected = Expected::new(&bytes, &text).expect("an image");
    let (wine, _turn) = wine();
    wine.take_report().expect("no report is left");
    wine.write("package/ipsecnic.inf", text.as_bytes()).expect("the INF is written");
    wine.write("package/ipsecnic.sys", &bytes).expect("the image is written");
    let run = |arguments: &[&str]| wine.run_well(arguments).unwrap_or_else(|failure| panic!("{failure}"));
    run(&["C:\\install.exe", "add", "C:\\package\\ipsecnic.inf", HARDWARE_ID]);
    run(&["C:\\install.exe", "remove", HARDWARE_ID]);
    run(&["net", "stop", "ipsecnic"]);
    let report = wine.take_report().expect("the report is text");
    let findings = expected.judge(&report, Life::Adapter);
    assert!(findings.is_empty(), "{findings:#?}\n{report}");

    // What was installed: the image where the INF's service looks for it, and the service as the INF has it.
    let key = "HKLM\\System\\CurrentControlSet\\Services\\ipsecnic";
    let service = run(&["reg", "query", key]);
    let value = |name: &str| {
        let line = service.lines().map(str::trim).find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
    };
    let sections = inf::sections(&text);
    let of = |key| inf::value(&sections, "Service", key).expect("it is in the INF");
    for (name, key) in [("Start", "StartType"), ("Type", "ServiceType"), ("ErrorControl", "ErrorControl")] {
        assert_eq!(value(name).trim_start_matches("0x"), of(key), "{name} in {service}");
    }
    let image_path = value("ImagePath");
    let below = image_path.strip_prefix("C:\\").expect("a path on C:").replace('\\', "/");
    assert!(read(&wine.path(&below)) == bytes, "{image_path} is not the image");

    every_line_and_value_counts(&expected, &report);
}

/// Without any one of its lines, or with any one value changed, a good report is none: what the judge does not look at is
/// listed here.
fn every_line_and_value_counts(expected: &Expected, report: &str) {
    const FREE_LINES: [&str; 3] = ["indicate", "receive", "pool"];
    const FREE_VALUES: [(&str, &[&str]); 9] = [
        ("image", &["entry", "size"]),
        ("import", &["exported"]),
        ("characteristics", &["flags"]),
        ("registration", &["flags", "interface"]),
        ("pool", &["with-buffer", "context"]),
        ("general", &["oids"]),
        ("offload", &["ah", "transport", "tunnel"]),
        ("halt", &["action"]),
        ("indicate", &["status"]),
    ];
    let lines: Vec<&str> = report.lines().collect();
    let is_good = |lines: &[&str]| expected.judge(&lines.join("\n"), Life::Adapter).is_empty();
    for (at, line) in lines.iter().enumerate() {
        let word = line.split(' ').next().unwrap_or_default();
        let not_there = line.ends_with("from=nowhere");
        let others: Vec<&str> = lines[..at].iter().chain(&lines[at + 1..]).copied().collect();
        assert_eq!(is_good(&others), FREE_LINES.contains(&word) || not_there, "without `{line}`");
        for (key, value) in line.split(' ').filter_map(|pair| pair.split_once('=')) {
            let changed = line.replacen(&format!("{key}={value}"), &format!("{key}=other"), 1);
            let mut others = lines.clone();
            others[at] = &changed;
            let free = FREE_VALUES.iter().any(|(free, keys)| *free == word && keys.contains(&key))
                || not_there && key != "from";
            assert_eq!(is_good(&others), free, "`{changed}` for `{line}`");
        }
    }
}

#[test]
fn wine_reads_the_inf_as_it_is_meant() {
    let Some(path) = image() else { return };
    let text = inf_of(&path);
    let (wine, _turn) = wine();
    wine.write("inf/ipsecnic.inf", text.as_bytes()).expect("the INF is written");
    let listing = wine.run_well(&["C:\\install.exe", "list", "C:\\inf\\ipsecnic.inf"]).expect("it is read");
    let listed = inf::listed(&listing).unwrap_or_else(|line| panic!("`{line}` in {listing}"));
    let expected = inf::sections(&text);
    let names =
        |sections: &[Section]| sections.iter().map(|section| section.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&listed), names(&expected));
    for (listed, expected) in listed.iter().zip(&expected) {
        assert_eq!(listed.lines.len(), expected.lines.len(), "lines of [{}]", expected.name);
        for (listed, expected) in listed.lines.iter().zip(&expected.lines) {
            assert_eq!(listed.len(), expected.len(), "fields of {expected:?}: {listed:?}");
            for (listed, expected) in listed.iter().zip(expected) {
                // A folder that is given by number is a folder of Wine's.
                match expected.strip_prefix("%13%") {
                    Some(file) => {
                        assert!(listed.starts_with("C:\\windows\\") && listed.ends_with(file), "{listed}");
                    }
                    None => assert_eq!(listed, expected),
                }
            }
        }
    }
}

#[test]
fn an_inf_that_is_cut_off_is_not_read() {
    let Some(path) = image() else { return };
    let text = inf_of(&path);
    // In the middle of `[Version]`, so that it is no INF at all.
    let cut = &text[..text.find("[Version]").expect("it has a version") + 5];
    let (wine, _turn) = wine();
    wine.write("inf/cut.inf", cut.as_bytes()).expect("the INF is written");
    let ended = wine.run(&["C:\\install.exe", "list", "C:\\inf\\cut.inf"]).expect("it ends");
    assert_ne!(ended.status, Some(0), "{ended:?}");
}

#[test]
fn half_an_image_is_not_loaded() {
    broken(|bytes| bytes.truncate(bytes.len() / 2), "no `register`");
}

#[test]
fn an_import_that_nobody_exports_is_named() {
    let rename = |bytes: &mut Vec<u8>| *find(bytes, b"NdisMSleep\0").last_mut().expect("a name") = b'x';
    broken(rename, "found must be export or substitute: `import module=ndis.sys name=NdisMSleex ");
}

#[test]
fn an_entry_point_that_fails_is_noticed() {
    // mov eax, STATUS_UNSUCCESSFUL; ret
    broken(|bytes| at_entry(bytes, &[0xB8, 1, 0, 0, 0xC0, 0xC3]), "no `register`");
}

#[test]
fn an_entry_point_that_does_nothing_is_noticed() {
    // xor eax, eax; ret
    broken(|bytes| at_entry(bytes, &[0x31, 0xC0, 0xC3]), "no `register`");
}

/// Loads the image with one change, and expects that finding, among others.
fn broken(change: impl FnOnce(&mut Vec<u8>), finding: &str) {
    let Some(path) = image() else { return };
    let whole = read(&path);
    let expected = Expected::new(&whole, &inf_of(&path)).expect("an image");
    let mut bytes = whole.clone();
    change(&mut bytes);
    assert!(bytes != whole, "nothing was changed");
    let (wine, _turn) = wine();
    let report = load(&wine, &bytes);
    let findings = expected.judge(&report, Life::Driver);
    assert!(findings.iter().any(|found| found.contains(finding)), "{findings:#?}\n{report}");
}

/// The bytes of a name that stands once in the image, without the zero at its end.
fn find<'a>(bytes: &'a mut [u8], name: &[u8]) -> &'a mut [u8] {
    let mut places = bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
    let (at, _) = places.next().expect("the name is there");
    assert!(places.next().is_none(), "the name is there twice");
    &mut bytes[at..at + name.len() - 1]
}

/// Overwrites the code at the entry point.
fn at_entry(bytes: &mut [u8], code: &[u8]) {
    use object::read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _, PeFile64};
    let at = {
        let file = PeFile64::parse(&*bytes).expect("an image");
        let entry = file.nt_headers().optional_header().address_of_entry_point();
        let (start, _) = file.section_table().pe_file_range_at(entry).expect("it lies in a section");
        start as usize
    };
    bytes[at..at + code.len()].copy_from_slice(code);
}
