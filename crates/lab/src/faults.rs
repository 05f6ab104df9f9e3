//! `lab faults`: every distinct call stack of the driver that reaches a function that can fail on
//! Windows fails once, in a life of its own; then calls fail by chance.
//!
//! A good driver ends each of these lives with adapters that work, or that failed cleanly: no rule
//! broken, nothing left over, no hang, no bugcheck, and everything in order again once nothing fails.
//!
//! What a driver breaks without any fault is told first, and loudly. It is then the baseline: of the lives with a
//! fault only what is new is told.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use ndis_lab::fault::{self, Search, Site};
use ndis_lab::rules::{Known, without_numbers};
use ndis_lab::{Lab, symbols};
use serde::Serialize;

use crate::life::{self, DriverArguments, Lived, Subject, progress_bar};
use crate::settings::known_lines;
use crate::source::SourceError;

/// What to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// The driver.
    pub subject: Subject,
    /// How many failures are combined in one life: those that only a failure brings to light are tried with it.
    pub depth: usize,
    /// Lives with failures by chance.
    pub random: u32,
    /// Seed of these.
    pub seed: u64,
    /// No new life is begun after this time.
    pub limit: Duration,
}

impl Options {
    /// The usual: two failures deep, sixty random lives.
    pub fn new(subject: Subject) -> Self {
        Self { subject, depth: 2, random: 60, seed: 1, limit: Duration::from_mins(5) }
    }
}

/// One life.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The functions that failed, in order.
    pub functions: Vec<String>,
    /// Number of the last site that failed: its stack's.
    pub site: String,
    /// The handlers in which they failed.
    pub handlers: Vec<String>,
    /// The driver's functions from which the last one was called, innermost first; addresses without a PDB.
    pub stack: Vec<String>,
    /// What the driver reported as failed.
    pub failed: Vec<String>,
    /// What must not happen, and does not happen without a fault.
    pub broken: Vec<String>,
}

/// All lives.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The driver.
    pub driver: String,
    /// Whether nothing broke.
    pub passed: bool,
    /// What lives without any fault broke: the baseline. Rows tell only what is new.
    pub broken_without_faults: Vec<String>,
    /// Whether faults were tried: not if the machine stops without any.
    pub tried: bool,
    /// What `--known` named, and how often it was broken in all lives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// Distinct sites that were found.
    pub sites: usize,
    /// Sites that lie behind more failures than were combined.
    pub beyond_depth: usize,
    /// One for each systematic life.
    pub rows: Vec<Row>,
    /// Random lives: how many, how many calls failed in them.
    pub random_lives: u32,
    /// How many calls failed in random lives.
    pub random_faults: usize,
    /// Random lives that broke, by (seed, percent).
    pub random_broken: Vec<RandomRow>,
    /// Whether the time ran out before everything was tried.
    pub incomplete: bool,
    /// Milliseconds that it took.
    pub milliseconds: u128,
}

/// A random life that broke.
#[derive(Clone, Debug, Serialize)]
pub struct RandomRow {
    /// Its seed.
    pub seed: u64,
    /// Its chance of failure.
    pub percent: u8,
    /// The calls that failed.
    pub functions: Vec<String>,
    /// What must not happen.
    pub broken: Vec<String>,
}

impl Report {
    /// Systematic lives that broke.
    pub fn broken(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.broken.is_empty())
    }

    /// How often each function was made to fail.
    pub fn by_function(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            if let Some(function) = row.functions.last() {
                *counts.entry(function.as_str()).or_insert(0) += 1;
            }
        }
        counts
    }
}

/// Lives without a fault, if the first one breaks something: what depends on chance shows in one of them.
const BASELINE_LIVES: usize = 4;

/// What breaks without any fault, as often as it likes.
#[derive(Default)]
struct Baseline {
    rules: Vec<Known>,
    /// What else is wrong, without the numbers in it.
    wrong: HashSet<String>,
}

impl Baseline {
    /// Learns from a life without a fault; says what was new in it.
    fn learn(&mut self, mut lived: Lived) -> Vec<String> {
        // Nothing was made to fail, so nothing may.
        lived.wrong.append(&mut lived.failed);
        self.leave_out(&mut lived);
        self.rules.extend(lived.violations.iter().map(Known::like));
        self.wrong.extend(lived.wrong.iter().map(|line| without_numbers(line)));
        lived.broken()
    }

    /// Leaves out of a life what is not new.
    fn leave_out(&self, lived: &mut Lived) {
        lived.wrong.retain(|line| !self.wrong.contains(&without_numbers(line)));
        lived.violations.retain(|violation| !self.rules.iter().any(|known| known.covers(violation)));
    }
}

/// Tries everything. `watch` is told the lives done and known.
pub fn run(options: &Options, mut watch: impl FnMut(u64, u64)) -> Report {
    let start = Instant::now();
    let mut options = options.clone();
    options.subject.probe();
    let known = options.subject.known.clone();
    let mut report = Report { driver: options.subject.source.to_string(), tried: true, ..Report::default() };
    let mut baseline = Baseline::default();
    let mut search = Search::new(options.depth);
    let mut lives: Vec<(Vec<Site>, Lived)> = Vec::new();
    while let Some(trial) = search.next_trial() {
        if start.elapsed() > options.limit {
            report.incomplete = true;
            break;
        }
        let mut lived = life::live(&options.subject, |lab: &Lab| trial.arm(lab));
        search.learn(&trial);
        if trial.plan().is_empty() {
            report.tried = lived.bugcheck.is_none();
            report.broken_without_faults = baseline.learn(lived);
            if report.broken_without_faults.is_empty() {
                continue;
            }
            for _ in 1..BASELINE_LIVES {
                let again = life::live(&options.subject, |_| {});
                report.tried &= again.bugcheck.is_none();
                report.broken_without_faults.extend(baseline.learn(again));
            }
            if !report.tried {
                break;
            }
            // The machines keep no list of them, in which something new would be lost.
            options.subject.known = known.and(baseline.rules.iter().cloned());
            continue;
        }
        baseline.leave_out(&mut lived);
        lives.push((trial.injected(), lived));
        watch(lives.len() as u64, (lives.len() + search.waiting()) as u64 + u64::from(options.random));
    }
    report.sites = search.found();
    report.beyond_depth = search.beyond_depth();
    symbols::prepare(lives.iter().flat_map(|(sites, _)| sites).map(|site| &site.stack));
    // A fault that is not met again, because another one came before, was not tried.
    report.rows =
        lives.iter().filter(|(sites, _)| !sites.is_empty()).map(|(sites, lived)| row(sites, lived)).collect();
    if report.tried {
        chance(&options, &baseline, &mut report, start, watch);
    }
    report.known = known_lines(&known);
    report.passed = report.broken_without_faults.is_empty()
        && report.broken().next().is_none()
        && report.random_broken.is_empty();
    report.milliseconds = start.elapsed().as_millis();
    report
}

/// Lives in which 1 to 6 of 100 calls fail.
fn chance(
    options: &Options,
    baseline: &Baseline,
    report: &mut Report,
    start: Instant,
    mut watch: impl FnMut(u64, u64),
) {
    let done = report.rows.len() as u64;
    for (number, percent) in (0..options.random).zip((1..=6).cycle()) {
        if start.elapsed() > options.limit {
            report.incomplete = true;
            break;
        }
        let seed = options.seed.wrapping_add(u64::from(number));
        let mut injected = None;
        let mut lived =
            life::live(&options.subject, |lab: &Lab| injected = Some(fault::random(lab, seed, percent)));
        baseline.leave_out(&mut lived);
        let sites = injected.map(|sites| std::mem::take(&mut *sites.lock())).unwrap_or_default();
        report.random_lives += 1;
        report.random_faults += sites.len();
        let broken = lived.broken();
        if !broken.is_empty() {
            let functions =
                sites.iter().map(|site| format!("{} in {}", site.function, site.handler)).collect();
            report.random_broken.push(RandomRow { seed, percent, functions, broken });
        }
        watch(done + u64::from(number) + 1, done + u64::from(options.random));
    }
}

fn row(sites: &[Site], lived: &Lived) -> Row {
    let last = sites.last();
    Row {
        functions: sites.iter().map(|site| site.function.to_owned()).collect(),
        site: last.map_or(String::new(), |site| format!("{:08x}", site.id >> 32)),
        handlers: sites.iter().map(|site| site.handler.to_owned()).collect(),
        stack: last.map(|site| site.stack.lines()).unwrap_or_default(),
        failed: lived.failed.clone(),
        broken: lived.broken(),
    }
}

/// Arguments of `lab faults`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    driver: DriverArguments,
    /// How many failures are combined in one life
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    depth: u8,
    /// Lives in which 1 to 6 of 100 calls fail by chance
    #[arg(long, value_name = "N", default_value_t = 60)]
    random: u32,
    /// Seed of these
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Begin no new life after this many seconds
    #[arg(long, value_name = "S", default_value_t = 300)]
    seconds: u64,
    /// Show the whole call stack of every fault
    #[arg(long)]
    stacks: bool,
    /// Print one JSON document, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// Runs `lab faults`: whether nothing broke.
///
/// # Errors
/// [`SourceError`] if the driver cannot be used.
pub fn command(arguments: &Arguments, mut say: impl FnMut(&str)) -> Result<bool, SourceError> {
    let subject = arguments.driver.subject()?;
    // A driver that cannot be loaded at all is no finding.
    let (_, driver) = subject.source.load()?;
    let _ = driver.unload();
    let options = Options {
        subject,
        depth: usize::from(arguments.depth),
        random: arguments.random,
        seed: arguments.seed,
        limit: Duration::from_secs(arguments.seconds),
    };
    let bar = progress_bar(arguments.json, "lives");
    let report = run(&options, |done, known| {
        bar.set_length(known);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    if arguments.json {
        say(&serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        say(&show(&report, arguments.stacks));
    }
    Ok(report.passed)
}

/// The report for people.
pub fn show(report: &Report, stacks: bool) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(comfy_table::ContentArrangement::Dynamic)
        .set_width(150)
        .set_header(["fails", "in", "site", "called from", "what happened", ""]);
    for row in &report.rows {
        let happened = match row.failed.as_slice() {
            _ if !row.broken.is_empty() => "see below".to_owned(),
            [] => "absorbed".to_owned(),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
        };
        let from = if stacks { row.stack.join("\n") } else { caller(&row.stack) };
        let verdict = if row.broken.is_empty() { "ok" } else { "BROKE" };
        let handler = row.handlers.last().map_or("", String::as_str);
        table.add_row([&row.functions.join(", then "), handler, &row.site, &from, &happened, verdict]);
    }
    let mut text = format!("{table}\n");
    let mut line = |what: String| {
        text.push_str(&what);
        text.push('\n');
    };
    let baseline = &report.broken_without_faults;
    if !baseline.is_empty() {
        line("\nBROKE WITHOUT ANY FAULT:".to_owned());
        baseline.iter().flat_map(|what| what.lines()).for_each(|what| line(format!("   {what}")));
        if report.tried {
            line("Of all this, what comes with a fault as well is not told again.".to_owned());
        }
    }
    for row in report.broken() {
        line(format!("\nBROKE when {} failed (site {}), called by", row.functions.join(", then "), row.site));
        row.stack.iter().for_each(|frame| line(format!("     {frame}")));
        row.broken.iter().for_each(|what| line(format!("   {what}")));
    }
    for row in &report.random_broken {
        let (seed, percent) = (row.seed, row.percent);
        line(format!(
            "\nBROKE when {percent} of 100 calls failed, seed {seed}: {}",
            row.functions.join(", ")
        ));
        row.broken.iter().for_each(|what| line(format!("   {what}")));
    }
    let functions: Vec<_> =
        report.by_function().iter().map(|(name, count)| format!("{name} {count}")).collect();
    line(format!("tried: {}", functions.join(", ")));
    if report.beyond_depth > 0 {
        line(format!("{} sites lie behind more failures than were combined (--depth)", report.beyond_depth));
    }
    if report.incomplete {
        line("the time ran out before everything was tried (--seconds)".to_owned());
    }
    let broke = report.broken().count() + report.random_broken.len();
    line(format!(
        "{} sites, {} systematic lives and {} by chance with {} failed calls, in {:.1} s: {}",
        report.sites,
        report.rows.len(),
        report.random_lives,
        report.random_faults,
        Duration::from_millis(u64::try_from(report.milliseconds).unwrap_or(u64::MAX)).as_secs_f64(),
        match (broke, baseline.is_empty()) {
            _ if !report.tried => "it BROKE without any fault, and none was tried".to_owned(),
            (0, true) => "nothing broke".to_owned(),
            (0, false) => "it BROKE without any fault; with one, nothing else did".to_owned(),
            (broke, true) => format!("{broke} BROKE"),
            (broke, false) => format!("it BROKE without any fault; with one, {broke} BROKE in another way"),
        }
    ));
    report.known.iter().for_each(|known| line(known.clone()));
    text
}

/// The innermost function of a stack that is the driver's own: of its module, or at least of no library.
fn caller(stack: &[String]) -> String {
    const LIBRARIES: [&str; 6] = ["alloc", "core", "std", "ndis", "ndis_sys", "allocator_api2"];
    // `module+offset name (place)`, or only the offset.
    let parts = |line: &str| {
        let (place, name) = line.split_once(' ').unwrap_or((line, line));
        let module = place.split_once('+').map_or("", |(module, _)| module).to_owned();
        (module, name.to_owned())
    };
    let krate = |name: &str| name.trim_start_matches('<').split("::").next().unwrap_or_default().to_owned();
    let frames: Vec<_> = stack.iter().map(|line| parts(line)).collect();
    frames
        .iter()
        .find(|(module, name)| krate(name) == *module)
        .or_else(|| frames.iter().find(|(_, name)| !LIBRARIES.contains(&krate(name).as_str())))
        .or(frames.first())
        .map(|(_, name)| name.clone())
        .unwrap_or_default()
}
