//! The figures as text, Markdown and JSON.

use std::fmt::Write;

/// All sections of a run.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
    notes: Vec<String>,
}

/// A table of figures.
pub(crate) struct Section {
    title: &'static str,
    unit: &'static str,
    rows: Vec<Row>,
}

struct Row {
    size: u64,
    what: String,
    name: &'static str,
    figure: f64,
    rate: Option<f64>,
}

impl Section {
    pub(crate) fn new(title: &'static str, unit: &'static str) -> Self {
        Self { title, unit, rows: Vec::new() }
    }

    /// A figure; `rate` is that of the writer that went on meanwhile, in pairs per second.
    pub(crate) fn add(&mut self, size: u64, what: &str, name: &'static str, figure: f64, rate: Option<f64>) {
        self.rows.push(Row { size, what: what.into(), name, figure, rate });
    }

    /// The figure divided by that of the first table in the same row group.
    fn ratio(&self, row: &Row) -> f64 {
        let first = self.rows.iter().find(|other| other.size == row.size && other.what == row.what);
        row.figure / first.map_or(f64::NAN, |first| first.figure)
    }
}

impl Report {
    pub(crate) fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            let _ = writeln!(text, "\n{} ({})", section.title, section.unit);
            for row in &section.rows {
                let rate = row.rate.filter(|rate| rate.is_finite());
                let _ = writeln!(
                    text,
                    "  {:>6}  {:<40} {:<22} {:>9.2}  {:>6.2}x{}",
                    row.size,
                    row.what,
                    row.name,
                    row.figure,
                    section.ratio(row),
                    rate.map_or(String::new(), |rate| format!("  writer {:.2} M pairs/s", rate / 1e6)),
                );
            }
        }
        let _ = writeln!(text);
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("# SA table: benchmarks\n\nWritten by `cargo bench -p sa-table`.\n");
        for section in &self.sections {
            let _ = writeln!(text, "\n## {}\n", section.title);
            let _ = writeln!(text, "| SAs | | table | {} | ratio | writer, M pairs/s |", section.unit);
            let _ = writeln!(text, "|---:|---|---|---:|---:|---:|");
            for row in &section.rows {
                let rate = row.rate.filter(|rate| rate.is_finite());
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {:.2} | {:.2} | {} |",
                    row.size,
                    row.what,
                    row.name,
                    row.figure,
                    section.ratio(row),
                    rate.map_or(String::new(), |rate| format!("{:.2}", rate / 1e6)),
                );
            }
        }
        let _ = writeln!(text, "\n{}", self.notes.join("\n\n"));
        text
    }

    pub(crate) fn json(&self) -> String {
        let number = |n: f64| if n.is_finite() { format!("{n:.4}") } else { "null".into() };
        let rows: Vec<_> = self
            .sections
            .iter()
            .flat_map(|section| section.rows.iter().map(move |row| (section, row)))
            .map(|(section, row)| {
                format!(
                    "  {{\"section\": {:?}, \"size\": {}, \"what\": {:?}, \"table\": {:?}, \"unit\": {:?}, \"figure\": \
                     {}, \"ratio\": {}, \"writer_pairs_per_second\": {}}}",
                    section.title,
                    row.size,
                    row.what,
                    row.name,
                    section.unit,
                    number(row.figure),
                    number(section.ratio(row)),
                    number(row.rate.unwrap_or(f64::NAN)),
                )
            })
            .collect();
        let notes: Vec<_> = self.notes.iter().map(|note| format!("  {note:?}")).collect();
        format!("{{\"rows\": [\n{}\n],\n\"notes\": [\n{}\n]}}\n", rows.join(",\n"), notes.join(",\n"))
    }
}
