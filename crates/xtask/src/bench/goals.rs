//! The goals of the SA table, and what the figures say of them.

use std::fmt;

use super::figures::{Figures, Row, names};

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// One goal, for one table of one size.
#[derive(Clone, Debug)]
pub struct Goal {
    /// In words.
    pub what: String,
    /// Which of our ways to look up, or what else of ours.
    pub table: String,
    /// SAs, nodes or slots; of the largest, if the goal is about many.
    pub size: u64,
    /// The bound.
    pub wanted: Wanted,
    /// The figure.
    pub measured: f64,
    /// The unit of both.
    pub unit: &'static str,
    /// The peers have our hash, too, which nobody asked for.
    pub stricter: bool,
}

impl Goal {
    /// Whether it is met.
    pub fn met(&self) -> bool {
        match self.wanted {
            Wanted::AtMost(bound) => self.measured <= bound,
            Wanted::AtLeast(bound) => self.measured >= bound,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {bound}"),
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
        }
    }
}

/// Lists from this length on shall cost the same per node, within a factor.
const FLAT_FROM: u64 = 64;

/// All goals for which there are figures.
pub fn judge(figures: &Figures) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (section, reference, alone, writing) in
        [(names::BY_HANDLE, "a bare slab", 1.2, 1.5), (names::BY_KEY, "hashbrown", 1.2, 1.6)]
    {
        for size in figures.sizes(section) {
            for table in figures.tables(section).into_iter().filter(|table| table.starts_with(names::OURS)) {
                let row = |what: &str| figures.row(section, size, what, table);
                let mut add = |what: String, wanted, measured: Option<f64>| {
                    if let Some(measured) = measured {
                        let table = table.to_owned();
                        goals.push(Goal { what, table, size, wanted, measured, unit: "x", stricter: false });
                    }
                };
                let by = if section == names::BY_HANDLE { "by handle" } else { "by key" };
                for what in names::LOADS {
                    let bound = if what.contains("writer") { writing } else { alone };
                    if what != "2 readers" {
                        let ratio = row(what).and_then(|row| row.ratio);
                        add(format!("{by}, {what}: time of {reference}"), Wanted::AtMost(bound), ratio);
                    }
                }
                let two =
                    row("1 reader").zip(row("2 readers")).map(|(one, two)| 2.0 * one.figure / two.figure);
                add(format!("{by}, 2 readers: lookups of one"), Wanted::AtLeast(1.9), two);
            }
        }
    }
    for size in figures.sizes(names::BY_KEY) {
        for (what, times) in [("1 reader", 2.0), ("1 + writer", 3.0), ("2 + writer", 3.0)] {
            for stricter in [false, true] {
                let ours = fastest(figures, size, what, |table| table.starts_with(names::OURS));
                let peer = fastest(figures, size, what, |table| is_peer(table, stricter));
                if let Some((ours, peer)) = ours.zip(peer) {
                    let hash = if stricter { ", all with our hash" } else { "" };
                    goals.push(Goal {
                        what: format!(
                            "by key, {what}: times as fast as the fastest peer{hash} ({})",
                            peer.table
                        ),
                        table: ours.table.clone(),
                        size,
                        wanted: Wanted::AtLeast(times),
                        measured: peer.figure / ours.figure,
                        unit: "x",
                        stricter,
                    });
                }
            }
        }
    }
    if let Some(row) = figures.section(names::WRITERS).find(|row| row.table == names::OURS) {
        goals.push(Goal {
            what: "writer alone: million pairs of insertion and deletion a second".into(),
            table: names::OURS.into(),
            size: row.size,
            wanted: Wanted::AtLeast(5.0),
            // From nanoseconds per pair.
            measured: 1e3 / row.figure,
            unit: "M/s",
            stricter: false,
        });
    }
    let deletions: Vec<&Row> =
        figures.section(names::LISTS).filter(|row| row.what == "delete" && row.size >= FLAT_FROM).collect();
    let costs = || deletions.iter().map(|row| row.figure);
    if let Some(longest) = deletions.last() {
        goals.push(Goal {
            what: format!("deletion lists from {FLAT_FROM} nodes up: dearest node to cheapest"),
            table: names::OURS.into(),
            size: longest.size,
            wanted: Wanted::AtMost(2.0),
            measured: costs().fold(0.0, f64::max) / costs().fold(f64::INFINITY, f64::min),
            unit: "x",
            stricter: false,
        });
    }
    for row in figures.section(names::MEMORY) {
        goals.push(Goal {
            what: "memory beyond the entries: bytes per slot".into(),
            table: names::OURS.into(),
            size: row.size,
            wanted: Wanted::AtMost(24.0),
            measured: row.figure,
            unit: "bytes",
            stricter: false,
        });
    }
    goals
}

/// Whether this is a table of others that threads share; `stricter`: also if it was given our hash.
pub(super) fn is_peer(table: &str, stricter: bool) -> bool {
    !table.starts_with(names::OURS)
        && !table.starts_with("hashbrown")
        && (stricter || !table.ends_with("same hash"))
}

/// The fastest of some tables, by key.
pub(super) fn fastest<'f>(
    figures: &'f Figures,
    size: u64,
    what: &str,
    of: impl Fn(&str) -> bool,
) -> Option<&'f Row> {
    figures
        .section(names::BY_KEY)
        .filter(|row| row.size == size && row.what == what && of(&row.table))
        .min_by(|a, b| a.figure.total_cmp(&b.figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(section: &str, size: u64, what: &str, table: &str, figure: f64, ratio: Option<f64>) -> Row {
        let [section, what, table, unit] = [section, what, table, "ns"].map(str::to_owned);
        Row { section, size, what, table, unit, figure, ratio, pairs: None }
    }

    fn verdicts(rows: Vec<Row>) -> Vec<(String, f64, bool)> {
        let figures = Figures { rows, notes: Vec::new() };
        judge(&figures).into_iter().map(|goal| (goal.what.clone(), goal.measured, goal.met())).collect()
    }

    #[test]
    fn lookups_are_held_against_their_reference() {
        let rows = vec![
            row(names::BY_HANDLE, 128, "1 reader", "bare slab", 1.0, Some(1.0)),
            row(names::BY_HANDLE, 128, "1 reader", "sa-table", 1.2, Some(1.2)),
            row(names::BY_HANDLE, 128, "2 readers", "sa-table", 1.3, Some(1.21)),
            row(names::BY_HANDLE, 128, "2 + writer", "sa-table", 1.0, Some(1.51)),
        ];
        assert_eq!(
            verdicts(rows),
            [
                ("by handle, 1 reader: time of a bare slab".into(), 1.2, true),
                ("by handle, 2 + writer: time of a bare slab".into(), 1.51, false),
                ("by handle, 2 readers: lookups of one".into(), 2.0 * 1.2 / 1.3, false),
            ]
        );
    }

    #[test]
    fn peers_are_judged_as_they_come_and_with_our_hash() {
        let rows = vec![
            row(names::BY_KEY, 128, "1 reader", "hashbrown", 1.0, Some(1.0)),
            row(names::BY_KEY, 128, "1 reader", "sa-table", 2.0, Some(2.0)),
            row(names::BY_KEY, 128, "1 reader", "sa-table, find_many", 2.5, Some(1.1)),
            row(names::BY_KEY, 128, "1 reader", "papaya", 9.0, Some(9.0)),
            row(names::BY_KEY, 128, "1 reader", "papaya, same hash", 3.0, Some(3.0)),
            row(names::BY_KEY, 128, "1 reader", "dashmap", 4.0, Some(4.0)),
        ];
        assert_eq!(
            verdicts(rows),
            [
                ("by key, 1 reader: time of hashbrown".into(), 2.0, false),
                ("by key, 1 reader: time of hashbrown".into(), 1.1, true),
                ("by key, 1 reader: times as fast as the fastest peer (dashmap)".into(), 2.0, true),
                (
                    "by key, 1 reader: times as fast as the fastest peer, all with our hash (papaya, same hash)".into(),
                    1.5,
                    false
                ),
            ]
        );
    }

    #[test]
    fn short_lists_may_cost_more_long_ones_may_not() {
        let lists = |dear| {
            vec![
                row(names::LISTS, 1, "delete", "sa-table", 90.0, None),
                row(names::LISTS, 64, "delete", "sa-table", 30.0, None),
                row(names::LISTS, 4096, "delete", "sa-table", 40.0, None),
                row(names::LISTS, 4096, "insert", "sa-table", 400.0, None),
                row(names::LISTS, 65_536, "delete", "sa-table", dear, None),
            ]
        };
        assert!(verdicts(lists(60.0))[0].2);
        assert!(!verdicts(lists(61.0))[0].2);
    }

    #[test]
    fn writers_and_memory_have_bounds() {
        let rows = |pair, bytes| {
            vec![
                row(names::WRITERS, 4096, "1 writer", "sa-table", pair, None),
                row(names::MEMORY, 4096, "memory", "sa-table", bytes, None),
            ]
        };
        assert!(verdicts(rows(200.0, 24.0)).iter().all(|goal| goal.2));
        assert!(verdicts(rows(201.0, 24.1)).iter().all(|goal| !goal.2));
    }
}
