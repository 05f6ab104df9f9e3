//! Every case of the conformance suite can fail: for each there is a miniport with one mistake that it catches, and
//! the good one passes them all. The matrix is shown in `docs/conformance.md`, which is written by
//! `LAB_WRITE_DOCS=1 cargo test -p ndis-lab --test mutants`.
//!
//! Each mutant runs in a process of its own: some hang, some break their process.

#[path = "mutants/miniport/mod.rs"]
mod miniport;
#[path = "mutants/mutation.rs"]
mod mutation;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mutation::{ALL, Mutant, Mutation};
use ndis_lab::conformance::{Report, Subject, Suite, Verdict, cases};
use ndis_lab::fault::Search;
use ndis_lab::rules::{self, Rule};
use ndis_lab::{AdapterConfig, HaltAction, Lab, LabError, Oid, SendNbl};

/// Names the mutant that a child process is to be.
const MUTANT: &str = "LAB_MUTANT";
/// Cases that a child process is to run; all if it is empty.
const CASES: &str = "LAB_MUTANT_CASES";
/// Set, a child process prints what a user would read.
const REPORT: &str = "LAB_MUTANT_REPORT";
/// Makes its machines deterministic, with this seed.
const SEED: &str = "LAB_MUTANT_SEED";
/// Where it writes what came out.
const OUTPUT: &str = "LAB_MUTANT_OUTPUT";

fn suite(filters: &[String]) -> Suite {
    // SAFETY: the entry point of the small miniport; its mutants break rules that the lab survives, or their process.
    let subject = unsafe { Subject::native(miniport::driver_entry, "mutant") };
    Suite::new(subject).filter(filters).patience(Duration::from_millis(400)).limit(Duration::from_secs(20))
}

/// What a case of a child came to: its name, `pass`, `n/a` or `FAIL`, the broken rules, and what was seen.
fn lines(report: &Report) -> String {
    let mut text = String::new();
    for report in &report.cases {
        let (verdict, rules, seen) = match &report.verdict {
            Verdict::Passed => ("pass", String::new(), String::new()),
            Verdict::NotApplicable(reason) => ("n/a", String::new(), reason.clone()),
            Verdict::Failed(failure) => {
                let rules: BTreeSet<_> =
                    failure.violations.iter().map(|violation| violation.rule.id).collect();
                let rules: Vec<_> = rules.into_iter().collect();
                ("FAIL", rules.join(","), failure.lines().join(" / "))
            }
        };
        writeln!(text, "{}\t{verdict}\t{rules}\t{}", report.case.id, seen.replace(['\n', '\t'], " "))
            .unwrap();
    }
    text
}

/// In a child process: be a mutant, run cases, write what came out.
#[test]
#[ignore = "what the processes of the other tests run"]
fn child() {
    let (Ok(name), Ok(output)) = (std::env::var(MUTANT), std::env::var(OUTPUT)) else { return };
    let mutant = ALL.iter().find(|mutant| mutant.name == name);
    mutation::choose(mutant.map_or(Mutation::None, |mutant| mutant.mutation));
    let filters: Vec<String> = std::env::var(CASES)
        .unwrap_or_default()
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let suite = match seed {
        Some(seed) => suite(&filters).deterministic(seed),
        None => suite(&filters),
    };
    let report = suite.run(&mut |_| {});
    if std::env::var_os(REPORT).is_some() {
        for failed in report.failures() {
            let Verdict::Failed(failure) = &failed.verdict else { continue };
            println!("{}: {failure}", failed.case.id);
        }
    }
    std::fs::write(output, lines(&report)).unwrap();
    // A mutant that hangs has a thread that never ends.
    std::process::exit(0);
}

/// Runs cases on a mutant in a process of its own; gives its lines.
fn run(name: &str, cases: &str) -> Vec<Vec<String>> {
    run_with(name, cases, None)
}

/// As [`run`], on deterministic machines if there is a seed.
fn run_with(name: &str, cases: &str, seed: Option<u64>) -> Vec<Vec<String>> {
    let place = format!("ndis-lab-mutant-{}-{name}-{}", std::process::id(), seed.unwrap_or(0));
    let output = std::env::temp_dir().join(place);
    let mut command = Command::new(std::env::current_exe().unwrap());
    if let Some(seed) = seed {
        command.env(SEED, seed.to_string());
    }
    let status = command
        .args(["--ignored", "--exact", "child", "--quiet"])
        .envs([(MUTANT, name), (CASES, cases)])
        .env(OUTPUT, &output)
        .output();
    let text = std::fs::read_to_string(&output);
    let _ = std::fs::remove_file(&output);
    let Ok(text) = text else {
        // The driver broke its process; that is noticed too.
        return vec![vec![cases.to_owned(), "FAIL".into(), "process".into(), format!("{status:?}")]];
    };
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn the_good_miniport_passes_every_case() {
    let lines = run("None", "");
    assert_eq!(lines.len(), cases().len());
    let others: Vec<_> = lines.iter().filter(|line| line[1] != "pass").collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn the_good_miniport_passes_on_deterministic_machines_too() {
    for seed in [1, 20] {
        let lines = run_with("None", "", Some(seed));
        assert_eq!(lines.len(), cases().len());
        // Cases about several threads do not apply to a machine that has one.
        let others: Vec<_> = lines
            .iter()
            .filter(|line| line[1] == "FAIL" || line[1] == "n/a" && !line[3].contains("threads"))
            .collect();
        assert!(others.is_empty(), "seed {seed}: {others:#?}");
    }
}

/// What is wrong with how a mutant was caught.
fn judge(mutant: &Mutant) -> Option<String> {
    // The case by its name: other names may contain it.
    let lines = run(mutant.name, mutant.case);
    let Some(line) = lines.iter().find(|line| line[0] == mutant.case) else {
        return Some(format!("{}: {} was not run", mutant.name, mutant.case));
    };
    if line[1] != "FAIL" {
        return Some(format!("{}: {} says {} {}", mutant.name, mutant.case, line[1], line[3]));
    }
    let rule = mutant.rule?;
    let found = line[2].split(',').any(|id| id == rule.id) || line[2] == "process";
    (!found).then(|| format!("{}: {} fails without rule {rule}: {}", mutant.name, mutant.case, line[3]))
}

#[test]
fn every_mutant_is_caught_by_its_case_and_named_by_its_rule() {
    let next = AtomicUsize::new(0);
    let wrong: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                // Relaxed: only hands out numbers.
                while let Some(mutant) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(text) = judge(mutant) {
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ALL.len(), wrong.join("\n"));
}

/// For who writes a mutant: which cases of the whole suite fail for those that `LAB_JUDGE` names (by a part of
/// their name, `,` between them), and which rules name them.
#[test]
#[ignore = "for who writes a mutant"]
fn who_catches() {
    let wanted = std::env::var("LAB_JUDGE").unwrap_or_default();
    let wanted: Vec<_> = wanted.split(',').collect();
    for mutant in ALL.iter().filter(|mutant| wanted.contains(&mutant.name)) {
        let failed: Vec<_> = run(mutant.name, "").into_iter().filter(|line| line[1] == "FAIL").collect();
        println!("{}: {} cases", mutant.name, failed.len());
        for line in failed {
            println!("    {} [{}] {:.300}", line[0], line[2], line[3]);
        }
    }
}

/// A life of the good miniport in which anything may fail that can fail on Windows. What is wrong with it.
fn faulty_life(lab: &Lab) -> Result<(), LabError> {
    // SAFETY: the entry point of the small miniport, which keeps its contracts.
    let driver = match unsafe { lab.load_native(miniport::driver_entry, "mutant") } {
        Err(LabError::DriverEntry(_)) => return Ok(()),
        driver => driver?,
    };
    match driver.add_adapter(AdapterConfig::new()) {
        Err(LabError::Initialize(_)) => {}
        adapter => {
            let adapter = adapter?;
            for oid in adapter.attributes().general.supported_oids {
                adapter.oid(Oid::query(oid, 256))?;
                adapter.oid(Oid::set(oid, [0; 4]).id(1))?;
            }
            adapter.oid(Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, 1))?;
            match adapter.restart() {
                Err(LabError::Restart(_)) => {}
                restarted => {
                    restarted?;
                    adapter.send(&[SendNbl::frame([0xff; 60]).split(&[14, 20])])?;
                    adapter.pause()?;
                }
            }
            adapter.halt(HaltAction::DeviceDisabled)?;
        }
    }
    driver.unload()
}

#[test]
fn the_good_miniport_fails_cleanly_at_every_call_that_can_fail() {
    mutation::choose(Mutation::None);
    let mut search = Search::new(2);
    let mut lives = 0;
    while let Some(trial) = search.next_trial() {
        let lab = Lab::new();
        trial.arm(&lab);
        let lived = faulty_life(&lab);
        lab.clear_faults();
        search.learn(&trial);
        let failed: Vec<_> = trial.injected().iter().map(|site| site.function).collect();
        assert!(lived.is_ok(), "{failed:?} failed: {lived:?}");
        assert!(lab.violations().is_empty(), "{failed:?} failed: {:#?}", rules::summary(&lab.violations()));
        assert!(lab.census().is_empty(), "{failed:?} failed: {:#?}", lab.census().lines());
        lives += 1;
    }
    assert!(lives > 10 && search.beyond_depth() == 0, "{lives} lives, {} sites", search.found());
}

/// Rules that only an image can break, since a native driver has no sections: the tests of `sections.rs` that break them.
const BY_IMAGES: [(&Rule, &str); 2] = [
    (rules::PAGED_CODE, "a_dpc_does_not_lie_in_pageable_code"),
    (rules::INIT_CODE, "code_of_init_is_gone_after_driver_entry"),
];

#[test]
fn every_rule_has_a_mutant_or_an_image_that_breaks_it() {
    let source = include_str!("sections.rs");
    for (rule, test) in BY_IMAGES {
        let body = source.split(&format!("fn {test}()")).nth(1).unwrap_or_default();
        let body = body.split("#[test]").next().unwrap_or_default();
        let constant = rule.id.replace('-', "_").to_uppercase();
        assert!(body.contains(&format!("rules::{constant},")), "{test} does not break {rule}");
    }
    let broken: Vec<_> =
        ALL.iter().filter_map(|mutant| mutant.rule).chain(BY_IMAGES.map(|(rule, _)| rule)).collect();
    let without: Vec<_> = rules::ALL.iter().filter(|rule| !broken.contains(rule)).collect();
    assert!(without.is_empty(), "rules that nothing breaks: {without:?}");
}

#[test]
fn every_case_has_a_mutant() {
    let caught: BTreeSet<_> = ALL.iter().map(|mutant| mutant.case).collect();
    let without: Vec<_> = cases().iter().map(|case| case.id).filter(|id| !caught.contains(id)).collect();
    assert!(without.is_empty(), "cases that no mutant fails: {without:?}");
    let known: BTreeSet<_> = cases().iter().map(|case| case.id).collect();
    let unknown: Vec<_> = caught.difference(&known).collect();
    assert!(unknown.is_empty(), "mutants for cases that do not exist: {unknown:?}");
}

/// The page that shows cases, mutants and rules.
fn document() -> String {
    let mut text = String::from(include_str!("mutants/document.md"));
    text.push_str("\n## Cases\n\n| no. | case | area | what a driver that passes does | page | mutants |\n|---|---|---|---|---|---|\n");
    for case in cases() {
        let mutants: Vec<_> = ALL.iter().filter(|m| m.case == case.id).map(|m| m.name).collect();
        writeln!(
            text,
            "| {} | `{}` | {} | {} | {} | {} |",
            case.number,
            case.id,
            case.area,
            case.title,
            case.page,
            mutants.join(", ")
        )
        .unwrap();
    }
    text.push_str("\n## Rules\n\n| rule | what it asks for | page | mutants |\n|---|---|---|---|\n");
    for rule in rules::ALL {
        let mutants: Vec<_> = ALL.iter().filter(|m| m.rule == Some(*rule)).map(|m| m.name).collect();
        let image = BY_IMAGES.iter().find(|(known, _)| known == rule);
        let mutants = image.map_or_else(
            || mutants.join(", "),
            |(_, test)| format!("an image: `{test}` of `crates/ndis-lab/tests/sections.rs`"),
        );
        writeln!(text, "| `{}` | {} | {} | {mutants} |", rule.id, rule.name, rule.page).unwrap();
    }
    text.push_str("\n## Mutants\n\n| mutant | what it does wrong | case that fails | rule that is broken |\n|---|---|---|---|\n");
    for mutant in ALL {
        let rule = mutant.rule.map_or_else(|| "-".to_owned(), |rule| format!("`{}`", rule.id));
        writeln!(text, "| {} | {} | `{}` | {rule} |", mutant.name, mutant.what, mutant.case).unwrap();
    }
    text
}

#[test]
fn the_document_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let document = document();
    if std::env::var_os("LAB_WRITE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == document, "docs/conformance.md is not current: LAB_WRITE_DOCS=1 writes it");
}
