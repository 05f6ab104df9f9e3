//! Shows the image checks: a table for people, JSON for machines.

use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::image::{Report, Verdict};

/// The report as a table, and a closing line.
pub fn table(sys: &Path, report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(120)
        .set_header(["check", "result", "seen in the image", "why, with source"]);
    for row in &report.rows {
        let finding = &row.finding;
        table.add_row([row.check, &finding.verdict.to_string(), &finding.seen, row.why]);
    }
    let closing = format!(
        "{}: {} checks hold, {} failed, {} not checked",
        sys.display(),
        report.count(Verdict::Passed),
        report.count(Verdict::Failed),
        report.count(Verdict::NotChecked)
    );
    format!("{table}\n{closing}")
}

/// The report for machines.
pub fn json(sys: &Path, report: &Report) -> Value {
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            let verdict = match row.finding.verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "failed",
                Verdict::NotChecked => "not_checked",
                Verdict::Noted => "noted",
            };
            json!({ "check": row.check, "verdict": verdict, "seen": row.finding.seen, "why": row.why })
        })
        .collect();
    json!({ "image": sys.display().to_string(), "holds": report.holds(), "checks": rows })
}
