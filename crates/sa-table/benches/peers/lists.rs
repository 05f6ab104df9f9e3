//! What a list of deletions costs per node, and an insertion into the fullest table.

use std::time::{Duration, Instant};

use sa_table::{Config, MAX_CAPACITY, SaTable};

use crate::measure::{median, thread_time};
use crate::report::{Report, Section};
use crate::tables::{Value, key, value};

/// A stopwatch: for long lists of the time that this thread has a processor; for short ones of the clock on the wall, which is read
/// in less time than such a list takes.
enum Watch {
    Wall(Instant),
    Thread(Duration),
}

impl Watch {
    fn start(nodes: usize) -> Self {
        if nodes < 4096 { Self::Wall(Instant::now()) } else { Self::Thread(thread_time()) }
    }

    fn nanoseconds_per(&self, nodes: usize) -> f64 {
        let time = match self {
            Self::Wall(start) => start.elapsed(),
            Self::Thread(start) => thread_time() - *start,
        };
        time.as_nanos() as f64 / nodes as f64
    }
}

/// Measures both.
pub(crate) fn run(rounds: usize, report: &mut Report) {
    let table: SaTable<Value> = SaTable::try_new(Config::new(MAX_CAPACITY, 4)).unwrap();
    let mut section =
        Section::new("Deletion lists, each with its grace period; insertions before that", "ns per node");
    eprintln!("deletion lists …");
    for nodes in [1usize, 8, 64, 512, 4096, 65_536] {
        let (mut inserts, mut deletes) = (vec![], vec![]);
        // The rest of the table is full, so that all lists work in the same memory.
        let mut writer = table.writer(0);
        let rest: Vec<_> = (0..MAX_CAPACITY as usize - nodes)
            .map(|n| writer.insert(Some(key(n as u64).inbound), value(1)).unwrap())
            .collect();
        let _ = writer.finish();
        let begin = Instant::now();
        while inserts.len() < rounds || begin.elapsed() < Duration::from_millis(50) && nodes < 4096 {
            let watch = Watch::start(nodes);
            let mut writer = table.writer(0);
            let list: Vec<_> = (0..nodes)
                .map(|n| writer.insert(Some(key(1 << 32 | n as u64).inbound), value(1)).unwrap())
                .collect();
            let _ = writer.finish();
            inserts.push(watch.nanoseconds_per(nodes));

            let watch = Watch::start(nodes);
            let mut writer = table.writer(0);
            let mut grace = None;
            for handle in &list {
                grace = writer.retire(*handle).ok();
            }
            let _ = writer.finish();
            let _ = table.try_reclaim();
            assert!(table.is_over(grace.unwrap()));
            deletes.push(watch.nanoseconds_per(nodes));
        }
        section.add(nodes as u64, "insert", "sa-table", median(inserts));
        section.add(nodes as u64, "delete", "sa-table", median(deletes));
        let mut writer = table.writer(0);
        for handle in rest {
            let _ = writer.retire(handle);
        }
        let _ = writer.finish();
        let _ = table.try_reclaim();
    }
    report.add(section);
    let mut section = Section::new("Memory beyond the entries (key and value)", "bytes per slot");
    for capacity in [4096, MAX_CAPACITY] {
        let table: SaTable<Value> = SaTable::try_new(Config::new(capacity, 4)).unwrap();
        let per_slot = table.stats().bytes as f64 / f64::from(capacity);
        section.add(u64::from(capacity), "memory", "sa-table", per_slot - (24 + size_of::<Value>()) as f64);
    }
    report.add(section);
}
