//! `docs/hosting.md` lists the functions that images can import: the list is written by
//! `LAB_WRITE_DOCS=1 cargo test -p ndis-lab --test hosting`, and this test says whether it is current.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

const BEGIN: &str = "<!-- functions: written by the test `hosting` -->\n";
const END: &str = "<!-- end of functions -->\n";
/// Beginnings of names by which the kernel's functions are told apart, longest first.
const GROUPS: [&str; 15] =
    ["Ndis", "Rtl", "Dbg", "Etw", "Wmi", "Ke", "Kf", "Ex", "Io", "Mm", "Ob", "Ps", "Se", "Zw", "Kd"];

/// What groups a function: the beginning of its name, or the runtime library.
fn group(name: &str) -> &'static str {
    let own = |start: &&&str| {
        let rest = name.strip_prefix(**start);
        rest.and_then(|rest| rest.chars().next())
            .is_some_and(|one| one.is_ascii_uppercase() || one == 'f' || one == 'p')
    };
    GROUPS.iter().find(own).copied().unwrap_or("others")
}

fn list() -> String {
    let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for (module, name) in ndis_lab::functions() {
        groups.entry((module, group(name))).or_default().push(name);
    }
    let mut text = String::from("| module | names | number | functions |\n|---|---|---|---|\n");
    for ((module, group), names) in &mut groups {
        names.sort_unstable();
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let group = if *group == "others" { (*group).to_owned() } else { format!("{group}…") };
        writeln!(text, "| {module} | {group} | {} | {} |", names.len(), names.join(" ")).unwrap();
    }
    text
}

#[test]
fn the_list_of_functions_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/hosting.md");
    let there = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = there.split_once(BEGIN).expect("the place of the list");
    let (_, after) = rest.split_once(END).expect("the end of the list");
    let current = format!("{before}{BEGIN}{}{END}{after}", list());
    if std::env::var_os("LAB_WRITE_DOCS").is_some() {
        std::fs::write(&path, &current).unwrap();
        return;
    }
    assert!(there == current, "docs/hosting.md is not current: LAB_WRITE_DOCS=1 writes it");
}
