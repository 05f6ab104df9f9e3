//! A report for people.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::report::{Report, Section, Value};

/// Columns of name and value side by side; rows with many words have one.
const SIDE_BY_SIDE: usize = 2;
const WIDTH: u16 = 118;

fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}

/// One section of what the driver advertised.
pub fn section(section: &Section) -> String {
    let mut table = table();
    let wordy = section.rows.iter().any(|row| matches!(row.value, Value::Bits { .. }));
    let columns = if wordy { 1 } else { SIDE_BY_SIDE };
    let height = section.rows.len().div_ceil(columns).max(1);
    for line in 0..height {
        let cells = section
            .rows
            .iter()
            .skip(line)
            .step_by(height)
            .flat_map(|row| [row.name.clone(), text(&row.value)]);
        let mut cells: Vec<String> = cells.collect();
        cells.resize(columns * 2, String::new());
        table.add_row(cells);
    }
    format!("{}\n{table}", section.title)
}

fn text(value: &Value) -> String {
    match value {
        Value::Flag(true) => "yes".into(),
        Value::Flag(false) => "-".into(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Names(names) if names.is_empty() => "-".into(),
        Value::Names(names) => names.join(", "),
        Value::Bits { set, clear } if set.is_empty() => format!("none of {}", clear.join(", ")),
        Value::Bits { set, clear } if clear.is_empty() => set.join(", "),
        Value::Bits { set, clear } => format!("{}; not {}", set.join(", "), clear.join(", ")),
    }
}

/// The SAs and what they carried.
pub fn associations(report: &Report) -> String {
    /// More lines than this are for `--json`.
    const MOST: usize = 24;
    let mut table = table();
    table.set_header(["SPI", "from", "to", "algorithm", "encrypts", "decrypts", "added by", "packets"]);
    for sa in report.associations.iter().take(MOST) {
        table.add_row([
            Cell::new(&sa.spi),
            Cell::new(&sa.source),
            Cell::new(&sa.destination),
            Cell::new(sa.algorithm),
            Cell::new(format!("adapter {}", sa.sender)),
            Cell::new(format!("adapter {}", sa.receiver)),
            Cell::new(sa.added_by),
            Cell::new(sa.packets).set_alignment(CellAlignment::Right),
        ]);
    }
    let mut text = table.to_string();
    if let Some(more) = report.associations.len().checked_sub(MOST).filter(|more| *more > 0) {
        let _ = write!(text, "\nand {more} more (--json lists them)"); // writing to a String cannot fail
    }
    text
}

/// The closing tables: what was carried, what was not, and what was proved.
pub fn summary(report: &Report) -> String {
    let traffic = &report.traffic;
    let mut counts = table();
    let mut row = |name: String, value: String| {
        counts.add_row([Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Right)]);
    };
    row("packets in the capture".into(), report.captured.to_string());
    row(
        "carried under ESP, and equal to the original at the other end".into(),
        traffic.delivered.to_string(),
    );
    for (protocol, count) in &report.protocols {
        row(format!("    {protocol}"), count.to_string());
    }
    row("failed".into(), traffic.failed.to_string());
    row("not carried".into(), report.not_carried.values().sum::<u64>().to_string());
    for (reason, count) in &report.not_carried {
        row(format!("    {reason}"), count.to_string());
    }
    if report.checksums_filled > 0 {
        row(
            "IP checksums filled in, as captured before the NIC did".into(),
            report.checksums_filled.to_string(),
        );
    }
    row("bytes of IP packets carried".into(), traffic.bytes.to_string());
    row("frames on the wire".into(), format!("{} ({} bytes)", traffic.wire_frames, traffic.wire_bytes));
    row(
        "rate through both adapters".into(),
        format!("{:.0} packets/s, {:.1} Mbit/s", traffic.packets_per_second, traffic.megabits_per_second),
    );

    let mut checks = table();
    checks.set_header(["what has to hold", "", "seen"]);
    for check in &report.checks {
        checks.add_row([check.name, if check.passed { "ok" } else { "FAILED" }, &check.detail]);
    }
    format!("{counts}\n{checks}")
}

/// The closing line, and above it what did not hold.
pub fn verdict(report: &Report) -> String {
    let mut text = String::new();
    for failure in &report.failures {
        let _ = writeln!(text, "FAILED: {failure}"); // writing to a String cannot fail
    }
    let verdict = if report.passed { "everything held" } else { "NOT everything held" };
    let _ = write!(
        text,
        "{verdict}: {} packets carried, {} failed",
        report.traffic.delivered, report.traffic.failed
    );
    text
}
