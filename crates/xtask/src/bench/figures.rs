//! What the benchmark measured, as it says it in JSON.

use serde_json::{Value, json};

/// What the names of sections, rows and tables are in the benchmark (`crates/sa-table/benches/peers`).
pub mod names {
    /// Section.
    pub const BY_HANDLE: &str = "Lookup by handle";
    /// Section.
    pub const BY_KEY: &str = "Lookup by SPI, destination and protocol";
    /// Section.
    pub const WRITERS: &str = "Add + delete pairs of one writer alone, with grace periods";
    /// Section.
    pub const LISTS: &str = "Deletion lists, each with its grace period; insertions before that";
    /// Section.
    pub const MEMORY: &str = "Memory beyond the entries (key and value)";
    /// The table that lookups by handle are held against.
    pub const SLAB: &str = "bare slab";
    /// What all of the table's own rows begin with.
    pub const OURS: &str = "sa-table";
    /// What each reader does while others read or write too.
    pub const LOADS: [&str; 4] = ["1 reader", "2 readers", "1 + writer", "2 + writer"];
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was done.
    pub section: String,
    /// SAs in the table, nodes in the list, slots.
    pub size: u64,
    /// Under which load.
    pub what: String,
    /// Which table.
    pub table: String,
    /// Of `figure`.
    pub unit: String,
    /// The median.
    pub figure: f64,
    /// What it is of the reference's, round by round.
    pub ratio: Option<f64>,
    /// Pairs of insertions and deletions of the writer beside, per second.
    pub pairs: Option<f64>,
}

/// All figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// In the benchmark's order.
    pub rows: Vec<Row>,
    /// How it was measured, and what was not.
    pub notes: Vec<String>,
}

impl Figures {
    /// Reads the benchmark's JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let list = |name: &str| value[name].as_array().ok_or(format!("no {name}"));
        let rows = list("rows")?.iter().map(|row| Row::parse(row).ok_or(format!("no row: {row}")));
        let notes =
            list("notes")?.iter().map(|note| note.as_str().map(str::to_owned).ok_or("no note".to_owned()));
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, notes: notes.collect::<Result<_, _>>()? })
    }

    /// The rows of a section.
    pub fn section<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.section == section)
    }

    /// One row.
    pub fn row(&self, section: &str, size: u64, what: &str, table: &str) -> Option<&Row> {
        let wanted =
            |row: &&Row| row.section == section && row.size == size && row.what == what && row.table == table;
        self.rows.iter().find(wanted)
    }

    /// The sizes that a section has, in order.
    pub fn sizes(&self, section: &str) -> Vec<u64> {
        let mut sizes: Vec<u64> = self.section(section).map(|row| row.size).collect();
        sizes.dedup();
        sizes
    }

    /// The tables that a section has, in order.
    pub fn tables<'a>(&'a self, section: &'a str) -> Vec<&'a str> {
        let mut tables: Vec<&str> = Vec::new();
        for row in self.section(section) {
            if !tables.contains(&row.table.as_str()) {
                tables.push(&row.table);
            }
        }
        tables
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "section": row.section, "size": row.size, "what": row.what, "table": row.table, "unit": row.unit,
                "figure": row.figure, "ratio": row.ratio, "writer_pairs_per_second": row.pairs,
            })
        };
        self.rows.iter().map(row).collect()
    }
}

impl Row {
    fn parse(row: &Value) -> Option<Self> {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        Some(Self {
            section: text("section")?,
            size: row["size"].as_u64()?,
            what: text("what")?,
            table: text("table")?,
            unit: text("unit")?,
            figure: row["figure"].as_f64()?,
            ratio: row["ratio"].as_f64(),
            pairs: row["writer_pairs_per_second"].as_f64(),
        })
    }
}
