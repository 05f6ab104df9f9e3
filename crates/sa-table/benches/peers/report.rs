//! The figures as text and as JSON.

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
    ratio: f64,
    rate: f64,
}

impl Section {
    pub(crate) fn new(title: &'static str, unit: &'static str) -> Self {
        Self { title, unit, rows: Vec::new() }
    }

    /// A figure of one table.
    pub(crate) fn add(&mut self, size: u64, what: &str, name: &'static str, figure: f64) {
        self.rows.push(Row { size, what: what.into(), name, figure, ratio: f64::NAN, rate: f64::NAN });
    }

    /// A figure beside others; `ratio` is what it is of the first table's, and `rate` that of the writer that went on meanwhile,
    /// in pairs per second (not a number if there was none).
    pub(crate) fn compare(
        &mut self,
        size: u64,
        what: &str,
        name: &'static str,
        figure: f64,
        ratio: f64,
        rate: f64,
    ) {
        self.rows.push(Row { size, what: what.into(), name, figure, ratio, rate });
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
                let _ =
                    write!(text, "  {:>6}  {:<12} {:<24} {:>9.2}", row.size, row.what, row.name, row.figure);
                if row.ratio.is_finite() {
                    let _ = write!(text, "  {:>6.2}x", row.ratio);
                }
                if row.rate.is_finite() {
                    let _ = write!(text, "  writer {:.2} M pairs/s", row.rate / 1e6);
                }
                let _ = writeln!(text);
            }
        }
        let _ = writeln!(text);
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        // What is not a number is nothing.
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
                    number(row.ratio),
                    number(row.rate),
                )
            })
            .collect();
        let notes: Vec<_> = self.notes.iter().map(|note| format!("  {note:?}")).collect();
        format!("{{\"rows\": [\n{}\n],\n\"notes\": [\n{}\n]}}\n", rows.join(",\n"), notes.join(",\n"))
    }
}
