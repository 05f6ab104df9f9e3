//! The INX, stamped for both architectures, against the rules for a root-enumerated NET device (Microsoft's pages on network INF files) and for
//! run-from-driver-store packages.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const INX: &str = include_str!("../../../../inf/ipsecnic.inx");

/// Sections in lower case (section names are not case-sensitive), each with its lines, comments and quotes removed where
/// they are no part of the value.
type Inf = BTreeMap<String, Vec<String>>;

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    line[..end.unwrap_or(line.len())].trim()
}

fn parse(text: &str) -> Inf {
    let mut sections = Inf::new();
    let mut current = None;
    for line in text.lines().map(without_comment).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.to_lowercase();
            assert!(!sections.contains_key(&name), "section {name} stands twice");
            sections.insert(name.clone(), Vec::new());
            current = Some(name);
        } else {
            let name = current.as_ref().expect("a line before the first section");
            sections.get_mut(name).expect("inserted").push(line.to_owned());
        }
    }
    sections
}

fn stamped_for(arch: &'static str) -> Inf {
    parse(&stamped(INX, &Stamp { arch, date: "02/29/2024".into(), version: "1.2.3.0" }))
}

fn section<'a>(inf: &'a Inf, name: &str) -> &'a [String] {
    inf.get(&name.to_lowercase()).unwrap_or_else(|| panic!("no section [{name}]"))
}

/// The value of `key = value` in a section, without quotes.
fn value<'a>(inf: &'a Inf, name: &str, key: &str) -> &'a str {
    let mut values = section(inf, name).iter().filter_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == key).then(|| value.trim().trim_matches('"'))
    });
    let value = values.next().unwrap_or_else(|| panic!("no {key} in [{name}]"));
    assert!(values.next().is_none(), "{key} stands twice in [{name}]");
    value
}

/// The `HKR, subkey, name, flags, data` lines of the sections that `AddReg` names: (subkey, name) to data.
fn registry(inf: &Inf) -> BTreeMap<(String, String), String> {
    let mut values = BTreeMap::new();
    for list in value(inf, "Install.NT", "AddReg").split(',') {
        for line in section(inf, list.trim()) {
            let fields: Vec<&str> = line.splitn(5, ',').map(|field| field.trim().trim_matches('"')).collect();
            let [root, subkey, name, flags, data] = fields[..] else { panic!("{line}") };
            assert_eq!(root, "HKR", "only the driver's own key may be written: {line}");
            assert_eq!(flags, "0", "keywords are REG_SZ: {line}");
            let old = values.insert((subkey.to_owned(), name.to_owned()), data.to_owned());
            assert!(old.is_none(), "{line} stands twice");
        }
    }
    values
}

#[test]
fn it_is_a_net_class_driver_that_runs_from_the_driver_store() {
    for arch in ["amd64", "arm64"] {
        let inf = stamped_for(arch);
        assert_eq!(value(&inf, "Version", "Signature"), "$Windows NT$");
        assert_eq!(value(&inf, "Version", "Class"), "Net");
        assert_eq!(value(&inf, "Version", "ClassGuid"), "{4D36E972-E325-11CE-BFC1-08002BE10318}");
        assert_eq!(value(&inf, "Version", "CatalogFile"), "ipsecnic.cat");
        assert_eq!(value(&inf, "Version", "PnpLockdown"), "1");
        assert_eq!(value(&inf, "Version", "DriverVer"), "02/29/2024,1.2.3.0");

        // dirid 13 needs a models section that is limited to builds with it (16299), ours to 2004 (19041).
        let models = format!("Models.NT{arch}.10.0...19041");
        assert_eq!(value(&inf, "Manufacturer", "%Provider%"), format!("Models, NT{arch}.10.0...19041"));
        assert_eq!(value(&inf, &models, "%DeviceDesc%"), "Install, Root\\ipsecnic");

        assert_eq!(section(&inf, "DestinationDirs"), ["DefaultDestDir = 13"]);
        assert_eq!(section(&inf, "Files"), ["ipsecnic.sys"]);
        assert_eq!(section(&inf, "SourceDisksFiles"), ["ipsecnic.sys = 1"]);
        assert_eq!(value(&inf, "Install.NT", "CopyFiles"), "Files");
        assert!(inf.keys().all(|name| !name.contains("delfiles") && !name.contains("coinstallers")));
    }
}

#[test]
fn the_adapter_is_a_virtual_ethernet_adapter_with_an_advanced_page() {
    let inf = stamped_for("amd64");
    // NCF_VIRTUAL 1 and NCF_HAS_UI 0x80; a BusType is for physical adapters.
    assert_eq!(value(&inf, "Install.NT", "Characteristics"), "0x81");
    assert!(!section(&inf, "Install.NT").iter().any(|line| line.starts_with("BusType")));
    // NDIS does not call InitializeEx if one of these is missing.
    assert_eq!(value(&inf, "Install.NT", "*IfType"), "6");
    assert_eq!(value(&inf, "Install.NT", "*MediaType"), "0");
    assert_eq!(value(&inf, "Install.NT", "*PhysicalMediaType"), "14");
}

#[test]
fn service_and_bindings_agree() {
    let inf = stamped_for("amd64");
    let service = value(&inf, "Install.NT.Services", "AddService");
    let parts: Vec<&str> = service.split(',').map(str::trim).collect();
    let [name, flags, service, event_log] = parts[..] else { panic!("{parts:?}") };
    assert_eq!(flags, "2", "SPSVCINST_ASSOCSERVICE");
    assert_eq!(value(&inf, service, "ServiceType"), "1");
    assert_eq!(value(&inf, service, "StartType"), "3");
    assert_eq!(value(&inf, service, "ErrorControl"), "1");
    assert_eq!(value(&inf, service, "ServiceBinary"), "%13%\\ipsecnic.sys");
    assert_eq!(section(&inf, event_log).len(), 2);

    let registry = registry(&inf);
    let get = |subkey: &str, name: &str| registry.get(&(subkey.to_owned(), name.to_owned())).cloned();
    assert_eq!(get("Ndi", "Service").as_deref(), Some(name), "must be the service's name");
    assert_eq!(get("Ndi\\Interfaces", "UpperRange").as_deref(), Some("ndis5"));
    assert_eq!(get("Ndi\\Interfaces", "LowerRange").as_deref(), Some("ethernet"));
    assert_eq!(get("Ndi", "CoServices"), None, "no CoServices for Net class");
}

#[test]
fn every_keyword_is_complete_and_in_its_range() {
    let inf = stamped_for("amd64");
    let registry = registry(&inf);
    let get = |key: &str, name: &str| registry.get(&(key.to_owned(), name.to_owned())).map(String::as_str);
    let keywords: BTreeSet<&str> = registry
        .keys()
        .filter_map(|(subkey, _)| subkey.strip_prefix("Ndi\\params\\"))
        .filter(|keyword| !keyword.contains('\\'))
        .collect();
    assert!(
        keywords.contains("*IPsecOffloadV2IPv4") != keywords.contains("*IPsecOffloadV2"),
        "one, never both"
    );
    assert!(!keywords.iter().any(|keyword| keyword.starts_with("*IPsecOffloadV1")), "gone since Windows 8");
    for keyword in keywords {
        let key = format!("Ndi\\params\\{keyword}");
        let must = |name| get(&key, name).unwrap_or_else(|| panic!("{keyword} has no {name}"));
        assert!(must("ParamDesc").starts_with('%'), "{keyword}: texts stand in [Strings]");
        let default = must("Default");
        match must("Type") {
            "enum" => assert!(get(&format!("{key}\\enum"), default).is_some(), "{keyword}: {default}"),
            "int" | "dword" | "word" | "long" => {
                let number = |name| must(name).parse::<u32>().unwrap_or_else(|_| panic!("{keyword} {name}"));
                assert!((number("Min")..=number("Max")).contains(&number("Default")), "{keyword}");
                assert_eq!((number("Base"), number("Step")), (10, 1), "{keyword}: NDIS reads decimal");
            }
            "edit" => assert_eq!(must("Optional"), "1", "{keyword}: absent unless the user sets it"),
            other => panic!("{keyword}: type {other}"),
        }
    }
    assert_eq!(get("Ndi\\params\\*JumboPacket", "Min"), Some("1514"), "Ethernet header included");
    assert_eq!(get("Ndi\\params\\NetworkAddress", "LimitText"), Some("12"));
}

#[test]
fn the_keywords_are_those_that_the_driver_reads() {
    /// Where the driver reads its settings.
    const SETTINGS: &str = include_str!("../../../../src/adapter/settings.rs");
    /// What the driver reads and the INF does not offer: the keyword of a device for both families, of which a device has
    /// one; and how often a slot can be used, which is for tests of fault injection alone.
    const NOT_OFFERED: [&str; 2] = ["*IPsecOffloadV2", "SaSlotUses"];
    let read: BTreeSet<&str> = SETTINGS
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.contains("reason ="))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect();
    let registry = registry(&stamped_for("amd64"));
    let mut offered: BTreeSet<&str> = registry
        .keys()
        .filter(|(_, name)| name == "Default")
        .filter_map(|(subkey, _)| subkey.strip_prefix("Ndi\\params\\"))
        .collect();
    // Read by NdisReadNetworkAddress, not by name.
    assert!(offered.remove("NetworkAddress"));
    for keyword in NOT_OFFERED {
        assert!(offered.insert(keyword), "{keyword} is in the INF");
    }
    assert_eq!(read, offered);
}

#[test]
fn every_string_is_defined_and_used() {
    let text = stamped(INX, &Stamp { arch: "amd64", date: "02/29/2024".into(), version: "1.2.3.0" });
    let inf = parse(&text);
    let defined: BTreeSet<&str> =
        section(&inf, "Strings").iter().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    let mut used = BTreeSet::new();
    for line in inf.iter().filter(|(name, _)| *name != "strings").flat_map(|(_, lines)| lines) {
        // %% is a percent sign; %13% is a directory.
        let line = line.replace("%%", "");
        let tokens: Vec<&str> = line.split('%').collect();
        assert!(!tokens.len().is_multiple_of(2), "odd percent sign: {line}");
        for token in tokens.iter().skip(1).step_by(2) {
            if token.parse::<u32>().is_err() {
                used.insert((*token).to_owned());
            }
        }
    }
    assert_eq!(defined, used.iter().map(String::as_str).collect());
}

#[test]
fn stamping_leaves_nothing_to_stamp_and_ends_lines_for_windows() {
    let text = stamped(INX, &Stamp { arch: "arm64", date: "02/29/2024".into(), version: "1.2.3.0" });
    assert!(!text.contains("$ARCH$") && text.is_ascii());
    assert!(text.split('\n').all(|line| line.is_empty() || line.ends_with('\r')));
    assert_eq!(text.matches("DriverVer ").count(), 1);
}

#[test]
fn days_become_dates() {
    assert_eq!(us_date(0), "01/01/1970");
    assert_eq!(us_date(951_782_400 / 86_400), "02/29/2000");
    assert_eq!(us_date(1_709_164_800 / 86_400), "02/29/2024");
    assert_eq!(us_date(4_102_444_800 / 86_400), "01/01/2100");
    assert_eq!(us_date(4_107_542_399 / 86_400), "02/28/2100", "2100 is no leap year");
    assert_eq!(us_date(4_107_542_400 / 86_400), "03/01/2100");
}
