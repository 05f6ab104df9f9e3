//! `lab conformance`: the lab's suite on a driver, as a table, as JSON, as JUnit's XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table};
use ndis_lab::LabError;
use ndis_lab::conformance::{Case, CaseReport, Report, Subject, Suite, Verdict, cases};
use ndis_lab::rules::KnownRules;
use serde::Serialize;

use crate::settings::{Settings, SettingsArguments, known_lines};
use crate::source::{DriverSource, SourceError};

/// Arguments of `lab conformance`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The driver's image
    #[arg(value_name = "DRIVER.sys", required_unless_present_any = ["native", "list"], conflicts_with = "native")]
    image: Option<PathBuf>,
    /// Use the driver that is linked into this program
    #[arg(long)]
    native: bool,
    /// Run only cases whose number, name, area or title contains this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// One thread and virtual time, in an order by this seed: a failure repeats exactly
    #[arg(long, value_name = "SEED")]
    deterministic: Option<u64>,
    // Two adapters of the same keywords should share a wire.
    #[command(flatten)]
    settings: SettingsArguments,
    /// List the cases, run nothing
    #[arg(long)]
    list: bool,
    /// Print one JSON document, and nothing else, on standard output
    #[arg(long)]
    json: bool,
    /// Write the outcome as JUnit's XML to this file as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// There is no driver.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No case is selected.
    #[error("no case matches the filter; --list shows them")]
    NothingSelected,
    /// A file cannot be written.
    #[error("{path}: {1}", path = .0.display())]
    Write(PathBuf, std::io::Error),
    /// The outcome cannot be written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs the command; `say` prints a line. Gives whether no case failed.
///
/// # Errors
/// [`ConformanceError`] if nothing could be tried.
pub fn command(arguments: &Arguments, say: impl Fn(&str) + Send + Sync) -> Result<bool, ConformanceError> {
    if arguments.list {
        for case in cases() {
            say(&listed(case));
        }
        return Ok(true);
    }
    let settings = arguments.settings.read().map_err(SourceError::from)?;
    let suite = Suite::new(subject(arguments, &settings)?).filter(&arguments.filter);
    let suite = match arguments.deterministic {
        Some(seed) => suite.deterministic(seed),
        None => suite,
    };
    let total = suite.selected().len();
    if total == 0 {
        return Err(ConformanceError::NothingSelected);
    }
    let mut done = 0;
    let report = suite.run(&mut |report| {
        done += 1;
        if !arguments.json {
            say(&line(report, done, total));
        }
    });
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&report)).map_err(|error| ConformanceError::Write(path.clone(), error))?;
    }
    if arguments.json {
        say(&serde_json::to_string_pretty(&Document::of(&report, &settings.known))?);
    } else {
        // What to fix comes last, where the reader is.
        say(&format!("\n{}\n", areas(&report)));
        details(&report).lines().for_each(&say);
        for line in known_lines(&settings.known) {
            say(&line);
        }
        say(&summary(&report));
    }
    Ok(report.passed())
}

/// The driver and its keywords. An image that cannot be loaded is no driver that fails a case.
fn subject(arguments: &Arguments, settings: &Settings) -> Result<Subject, ConformanceError> {
    let mut subject = match &arguments.image {
        Some(path) => {
            match DriverSource::Image(path.clone()).load() {
                Err(SourceError::Load(path, error @ LabError::Load(_))) => {
                    return Err(SourceError::Load(path, error).into());
                }
                Err(error @ SourceError::Read(..)) => return Err(error.into()),
                // What its DriverEntry does is for the suite to judge.
                _ => {}
            }
            Subject::file(path).map_err(|error| SourceError::Read(path.clone(), error))?
        }
        // SAFETY: the entry point of a miniport driver, which keeps the contract of one.
        None => unsafe { Subject::native(ipsecnic::DriverEntry, "ipsecnic") },
    };
    subject.keywords = settings.keywords.clone();
    subject.known = settings.known.clone();
    Ok(subject)
}

fn listed(case: &Case) -> String {
    format!("{:>3}  {:<26} {:<28} {} [{}]", case.number, case.id, case.area, case.title, case.page)
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "pass",
        Verdict::NotApplicable(_) => "n/a",
        Verdict::Failed(_) => "FAIL",
    }
}

/// One case as it ends.
fn line(report: &CaseReport, done: usize, total: usize) -> String {
    let case = report.case;
    let why = match &report.verdict {
        Verdict::NotApplicable(reason) => format!("  {reason}"),
        _ => String::new(),
    };
    let seconds = report.duration.as_secs_f64();
    let width = total.to_string().len();
    format!(
        "[{done:>width$}/{total}] {:<4} {:>7.3} s  {:<28} {:>3} {}{why}",
        word(&report.verdict),
        seconds,
        case.area,
        case.number,
        case.id
    )
}

/// What is wrong with each case that failed.
fn details(report: &Report) -> String {
    let mut text = String::new();
    for failed in report.failures() {
        let Verdict::Failed(failure) = &failed.verdict else { continue };
        let case = failed.case;
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "FAIL {} {} [{}]\n     asked: {}", case.number, case.id, case.page, case.title);
        for line in failure.report() {
            let _ = writeln!(text, "     {line}");
        }
        text.push('\n');
    }
    text
}

#[derive(Default)]
struct Counts {
    passed: u32,
    failed: u32,
    not_applicable: u32,
    seconds: f64,
}

/// One row for each area, as NDISTest shows its jobs.
fn areas(report: &Report) -> Table {
    let mut areas: BTreeMap<&str, Counts> = BTreeMap::new();
    for report in &report.cases {
        let counts = areas.entry(report.case.area).or_default();
        match report.verdict {
            Verdict::Passed => counts.passed += 1,
            Verdict::Failed(_) => counts.failed += 1,
            Verdict::NotApplicable(_) => counts.not_applicable += 1,
        }
        counts.seconds += report.duration.as_secs_f64();
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["area", "verdict", "passed", "failed", "n/a", "seconds"]);
    for (area, counts) in areas {
        let verdict = match &counts {
            Counts { failed: 1.., .. } => "FAIL",
            Counts { passed: 1.., .. } => "pass",
            Counts { .. } => "n/a",
        };
        table.add_row([
            area.to_owned(),
            verdict.to_owned(),
            counts.passed.to_string(),
            counts.failed.to_string(),
            counts.not_applicable.to_string(),
            format!("{:.3}", counts.seconds),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn summary(report: &Report) -> String {
    let count = |name: &str| report.cases.iter().filter(|r| word(&r.verdict) == name).count();
    format!(
        "{}: {} passed, {} failed, {} not applicable, in {:.1} s",
        if report.passed() { "PASSED" } else { "FAILED" },
        count("pass"),
        count("FAIL"),
        count("n/a"),
        report.duration.as_secs_f64()
    )
}

/// The outcome for machines.
#[derive(Serialize)]
struct Document<'r> {
    passed: bool,
    seconds: f64,
    /// What `--known` named, and how often it was broken.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    known: BTreeMap<String, u64>,
    cases: Vec<CaseDocument<'r>>,
}

#[derive(Serialize)]
struct CaseDocument<'r> {
    number: u16,
    id: &'r str,
    area: &'r str,
    title: &'r str,
    page: &'r str,
    /// `pass`, `FAIL` or `n/a`.
    verdict: &'r str,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'r str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<ViolationDocument<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<&'r str>,
}

#[derive(Serialize)]
struct ViolationDocument<'r> {
    rule: &'r str,
    page: &'r str,
    function: Option<&'r str>,
    handler: Option<&'r str>,
    irql: u8,
    adapter: Option<u32>,
    state: Option<String>,
    detail: &'r str,
    /// The driver's call stack, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stack: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    past: Vec<PastDocument<'r>>,
}

/// What happened before to the object that a violation is about.
#[derive(Serialize)]
struct PastDocument<'r> {
    what: &'r str,
    function: &'r str,
    handler: &'r str,
    stack: Vec<String>,
}

impl<'r> Document<'r> {
    fn of(report: &'r Report, known: &KnownRules) -> Self {
        let cases = report.cases.iter().map(CaseDocument::of).collect();
        let known = known.times().map(|(known, times)| (known.to_string(), times)).collect();
        Self { passed: report.passed(), seconds: report.duration.as_secs_f64(), known, cases }
    }
}

impl PastDocument<'_> {
    fn of(past: &ndis_lab::rules::Past) -> Self {
        let ndis_lab::rules::Past { what, origin } = *past;
        let stack = origin.stack.map(ndis_lab::CallStack::lines).unwrap_or_default();
        Self { what, function: origin.function, handler: origin.handler, stack }
    }
}

impl<'r> CaseDocument<'r> {
    fn of(report: &'r CaseReport) -> Self {
        let case = report.case;
        let mut document = Self {
            number: case.number,
            id: case.id,
            area: case.area,
            title: case.title,
            page: case.page,
            verdict: word(&report.verdict),
            seconds: report.duration.as_secs_f64(),
            reason: None,
            seen: None,
            violations: Vec::new(),
            left: Vec::new(),
        };
        match &report.verdict {
            Verdict::Passed => {}
            Verdict::NotApplicable(reason) => document.reason = Some(reason),
            Verdict::Failed(failure) => {
                document.seen = failure.seen.as_deref();
                document.left = failure.left.iter().map(String::as_str).collect();
                let violations = failure.violations.iter().map(|violation| ViolationDocument {
                    rule: violation.rule.id,
                    page: violation.rule.page,
                    function: violation.function,
                    handler: violation.handler,
                    irql: violation.irql,
                    adapter: violation.adapter.map(|adapter| adapter.0),
                    state: violation.state.map(|state| format!("{state:?}")),
                    detail: &violation.detail,
                    stack: violation.stack.lines(),
                    past: violation.past.iter().map(PastDocument::of).collect(),
                });
                document.violations = violations.collect();
            }
        }
        document
    }
}

/// JUnit's XML: what build servers read.
fn junit(report: &Report) -> String {
    let skipped = report.cases.iter().filter(|r| matches!(r.verdict, Verdict::NotApplicable(_))).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"conformance\" tests=\"{}\" failures=\"{}\" skipped=\"{skipped}\" time=\"{:.3}\">\n",
        report.cases.len(),
        report.failures().count(),
        report.duration.as_secs_f64()
    );
    for report in &report.cases {
        let (case, seconds) = (report.case, report.duration.as_secs_f64());
        let inner = match &report.verdict {
            Verdict::Passed => String::new(),
            Verdict::NotApplicable(reason) => format!("<skipped message=\"{}\"/>", escape(reason)),
            Verdict::Failed(failure) => {
                let message = format!("{} [{}]", case.title, case.page);
                format!(
                    "<failure message=\"{}\">{}</failure>",
                    escape(&message),
                    escape(&failure.to_string())
                )
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            xml,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\">{inner}</testcase>",
            escape(case.area),
            escape(case.id)
        );
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

/// Text for XML, in attributes too; what XML cannot hold becomes a question mark.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_is_escaped_for_xml() {
        assert_eq!(escape("a<b>&\"c\"\n\u{1}"), "a&lt;b&gt;&amp;&quot;c&quot;&#10;?");
    }
}
