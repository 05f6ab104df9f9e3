//! The figures for people: one table for the terminal, a page for the documentation.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::Machine;
use super::figures::{Figures, Row, names};
use super::goals::{self, Goal};

/// The plot's file name, beside the page.
pub(super) const PLOT: &str = "bench-sa.svg";

/// The lookups of one table of one size, under each load.
struct Line<'f> {
    by: &'static str,
    size: u64,
    table: &'f str,
    loads: [Option<&'f Row>; names::LOADS.len()],
}

fn lines(figures: &Figures) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for (section, by) in [(names::BY_HANDLE, "handle"), (names::BY_KEY, "key")] {
        for size in figures.sizes(section) {
            for table in figures.tables(section) {
                let loads = names::LOADS.map(|what| figures.row(section, size, what, table));
                lines.push(Line { by, size, table, loads });
            }
        }
    }
    lines
}

/// A figure and its ratio.
fn cell(row: Option<&Row>) -> String {
    row.map_or(String::new(), |row| match row.ratio {
        Some(ratio) => format!("{:.2} ({ratio:.2}x)", row.figure),
        None => format!("{:.2}", row.figure),
    })
}

/// 65536 as 65,536.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What the goals of one line come to: which are met, which are not.
fn verdict(goals: &[Goal], line: &Line<'_>) -> String {
    let prefix = format!("by {}", line.by);
    let of_line = |goal: &&Goal| {
        goal.table == line.table && goal.size == line.size && goal.what.starts_with(&prefix) && !goal.stricter
    };
    let (mut met, mut missed) = (0, 0);
    for goal in goals.iter().filter(of_line) {
        if goal.met() { met += 1 } else { missed += 1 }
    }
    match (met, missed) {
        (0, 0) => String::new(),
        (_, 0) => "all met".into(),
        _ => format!("{met} met, {missed} MISSED"),
    }
}

/// Everything in one table: lookups with their ratios, then the goals with what was measured.
pub(super) fn table(figures: &Figures, goals: &[Goal]) -> String {
    let mut table = Table::new();
    let [one, two, one_and, two_and] = names::LOADS;
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(140)
        .set_header(["by", "SAs", "table", one, two, one_and, two_and, "goals"]);
    for line in lines(figures) {
        let [a, b, c, d] = line.loads.map(cell);
        let verdict = verdict(goals, &line);
        table.add_row([line.by, &grouped(line.size), line.table, &a, &b, &c, &d, &verdict]);
    }
    for goal in goals.iter().filter(|goal| !goal.what.starts_with("by ")) {
        table.add_row([
            "",
            &grouped(goal.size),
            &goal.table,
            &goal.what,
            &format!("{:.2} {}", goal.measured, goal.unit),
            &goal.wanted.to_string(),
            "",
            mark(goal),
        ]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "ns per lookup of each reader, and what that is of the first table's time. With a writer: beside one that inserts and \
         retires as fast as it can\n{table}"
    )
}

fn mark(goal: &Goal) -> &'static str {
    if goal.met() { "met" } else { "MISSED" }
}

/// How many goals are met, and each that is not.
pub(super) fn closing(goals: &[Goal]) -> String {
    let asked: Vec<&Goal> = goals.iter().filter(|goal| !goal.stricter).collect();
    let missed: Vec<&&Goal> = asked.iter().filter(|goal| !goal.met()).collect();
    let mut text = String::new();
    for goal in &missed {
        let _ = writeln!(
            text,
            "missed: {}, {}, {}: {:.2} {}, wanted {}",
            goal.table,
            grouped(goal.size),
            goal.what,
            goal.measured,
            goal.unit,
            goal.wanted
        );
    }
    let _ = write!(text, "goals: {} met, {} missed", asked.len() - missed.len(), missed.len());
    text
}

/// The page.
pub(super) fn markdown(figures: &Figures, goals: &[Goal], machine: &Machine) -> String {
    let mut text = String::from(
        "# The SA table against its peers\n\nWritten by `cargo xtask bench sa`; not edited by hand. What is measured, and how, is in \
         `crates/sa-table/benches/peers`.\n\n",
    );
    let _ = writeln!(text, "Measured on: {}.\n", machine.describe());
    for note in &figures.notes {
        let _ = writeln!(text, "{note}\n");
    }
    let _ = writeln!(text, "![Time of a lookup by key, by number of SAs]({PLOT})\n");
    text.push_str(
        "Rows of ours: `sa-table` enters and leaves for each batch of 32; `renewed` calls `Reader::renew` between batches; \
         `find_many` does that too, and looks up all keys of a batch at once. \"Same hash\" peers were given our hash, one \
         multiplication, in place of their own; liburcu always, for it has none. The ratio is the time divided by that of the first \
         table of the same size, round by round. \"M pairs/s\" is what the writer beside managed meanwhile; more threads than \
         processors share them.\n",
    );
    for (section, by) in [(names::BY_HANDLE, "handle"), (names::BY_KEY, "key")] {
        let _ = writeln!(text, "\n## {section}, ns\n");
        let [one, two, one_and, two_and] = names::LOADS;
        let _ = writeln!(
            text,
            "| SAs | table | {one} | {two} | {one_and} | M pairs/s | {two_and} | M pairs/s | goals |\n\
             |---:|---|---:|---:|---:|---:|---:|---:|---|"
        );
        for line in lines(figures).iter().filter(|line| line.by == by) {
            let [a, b, c, d] = line.loads.map(cell);
            let pairs = |at: usize| {
                let pairs = line.loads[at].and_then(|row| row.pairs);
                pairs.map_or(String::new(), |pairs| format!("{:.2}", pairs / 1e6))
            };
            let (size, verdict) = (grouped(line.size), verdict(goals, line));
            let _ = writeln!(
                text,
                "| {size} | {} | {a} | {b} | {c} | {} | {d} | {} | {verdict} |",
                line.table,
                pairs(2),
                pairs(3)
            );
        }
    }
    for section in [names::WRITERS, names::LISTS, names::MEMORY] {
        let unit = figures.section(section).next().map_or("", |row| row.unit.as_str());
        let _ = writeln!(text, "\n## {section}\n\n| size | | table | {unit} |\n|---:|---|---|---:|");
        for row in figures.section(section) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} |",
                grouped(row.size),
                row.what,
                row.table,
                row.figure
            );
        }
    }
    let _ = writeln!(
        text,
        "\n## Goals\n\nThose in italics are stricter than what the project asks for: there every peer has our hash.\n\n\
         | SAs, nodes, slots | of | goal | wanted | measured | |\n|---:|---|---|---|---:|---|"
    );
    for goal in goals {
        let what = if goal.stricter { format!("*{}*", goal.what) } else { goal.what.clone() };
        let _ = writeln!(
            text,
            "| {} | {} | {what} | {} | {:.2} {} | {} |",
            grouped(goal.size),
            goal.table,
            goal.wanted,
            goal.measured,
            goal.unit,
            mark(goal)
        );
    }
    text.push_str(&bounds(figures));
    text
}

/// What a lookup by key cannot be below, what it is, and what the goal against the fastest peer comes to.
fn bounds(figures: &Figures) -> String {
    const WHAT: &str = "1 + writer";
    let mut text = format!(
        "\n## What bounds a lookup by key\n\nUnder \"{WHAT}\", in ns. The bare slab loads the line of a random entry by handle and does \
         nothing else, with as many cache misses in progress as the processor can have: no lookup by key can be faster. What ours takes \
         beyond that is hash, the bucket's line and the comparison, and with a writer one line for each of its insertions. In the \
         largest table both lines are far, and the second is requested only when the first is there: what a batch of 32 cannot hide \
         is the way to its first bucket and the comparison of its last entries.\n\n\
         | SAs | entry alone | fastest of ours | beyond the entry | fastest peer | a third of it |\n\
         |---:|---:|---:|---:|---:|---:|\n"
    );
    for size in figures.sizes(names::BY_KEY) {
        let ours = goals::fastest(figures, size, WHAT, |table| table.starts_with(names::OURS));
        let slab = figures.row(names::BY_HANDLE, size, WHAT, names::SLAB);
        if let (Some(ours), Some(peer), Some(slab)) =
            (ours, goals::fastest(figures, size, WHAT, |table| goals::is_peer(table, false)), slab)
        {
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} ({}) | {:.2} | {:.2} ({}) | {:.2} |",
                grouped(size),
                slab.figure,
                ours.figure,
                ours.table,
                ours.figure - slab.figure,
                peer.figure,
                peer.table,
                peer.figure / 3.0
            );
        }
    }
    text
}

/// Where the summary stands in the crate's README.
pub(super) const MARKS: [&str; 2] =
    ["<!-- bench-sa: written by `cargo xtask bench sa` -->\n", "<!-- end of bench-sa -->"];

/// The short form: times and ratios of our ways to look up, and of the fastest others, in one table.
pub(super) fn summary(figures: &Figures, machine: &Machine) -> String {
    let [one, _, one_and, two_and] = names::LOADS;
    let mut text = format!(
        "Time of a lookup in ns, and what that is of the first table's, on `{}`:\n\n| by | SAs | table | {one} | {one_and} | {two_and} \
         |\n|---|---:|---|---:|---:|---:|\n",
        machine.describe()
    );
    // Those whose own hash is most of their time are on the page.
    let long = ["papaya", "scc HashIndex", "dashmap"];
    for line in lines(figures).iter().filter(|line| !long.contains(&line.table)) {
        let [a, _, c, d] = line.loads.map(cell);
        let _ =
            writeln!(text, "| {} | {} | `{}` | {a} | {c} | {d} |", line.by, grouped(line.size), line.table);
    }
    text
}

/// The README with another summary; `None` if it has no place for one.
pub(super) fn with_summary(readme: &str, summary: &str) -> Option<String> {
    let [begin, end] = MARKS;
    let (before, rest) = readme.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{summary}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 7, 128, 4096, 65_536, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "7", "128", "4,096", "65,536", "1,234,567"]);
    }

    #[test]
    fn what_bounds_a_lookup_is_in_the_figures() {
        let row = |section: &str, table: &str, figure| {
            let [section, what, table, unit] = [section, "1 + writer", table, "ns"].map(str::to_owned);
            Row { section, size: 4096, what, table, unit, figure, ratio: None, pairs: None }
        };
        let rows = vec![
            row(names::BY_HANDLE, names::SLAB, 1.5),
            row(names::BY_KEY, "hashbrown", 4.0),
            row(names::BY_KEY, "sa-table", 6.0),
            row(names::BY_KEY, "sa-table, find_many", 5.0),
            row(names::BY_KEY, "papaya, same hash", 7.0),
            row(names::BY_KEY, "papaya", 24.0),
            row(names::BY_KEY, "liburcu lfht", 18.0),
        ];
        let text = bounds(&Figures { rows, notes: Vec::new() });
        let last = text.lines().last();
        assert_eq!(
            last,
            Some("| 4,096 | 1.50 | 5.00 (sa-table, find_many) | 3.50 | 18.00 (liburcu lfht) | 6.00 |")
        );
    }

    #[test]
    fn a_summary_replaces_the_one_before() {
        let [begin, end] = MARKS;
        let readme = |summary: &str| format!("# Title\n\n{begin}{summary}{end}\n\nRest\n");
        assert_eq!(with_summary(&readme("old\n"), "new\n"), Some(readme("new\n")));
        assert_eq!(with_summary("# Title\n", "new\n"), None);
    }

    #[test]
    fn the_crate_has_a_place_for_the_summary() {
        let readme = std::fs::read_to_string(crate::bench::readme()).expect("the crate has a README");
        assert!(with_summary(&readme, "").is_some());
    }
}
