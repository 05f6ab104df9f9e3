//! Lookups and writers of all tables, in rounds.

use std::collections::hash_map::RandomState;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sa_table::{Handle, InboundKey};

use crate::Options;
use crate::foreign::{Dpdk, Foreign, Lfht, Peer};
use crate::maps::{Dash, Papaya, Plain, SameHash, Scc};
use crate::measure::{median, per_unit, processors, stay_on, thread_time};
use crate::report::{Report, Section};
use crate::tables::{BATCH, Entered, Key, Many, Ours, Renewed, Slab, Table, WINDOW, key};

/// One turn of one table in one round: how long each reader has a processor.
const TURN: Duration = Duration::from_millis(6);
/// Lookups between two looks at the clock.
const CHUNK: usize = 512 * BATCH;
/// Where the keys of writers begin.
const WRITERS: u64 = 1 << 40;

/// A table and what is looked up in it.
struct Subject<T: Table> {
    table: T,
    queries: Vec<T::Query>,
}

/// A subject of any type.
trait Turn {
    fn name(&self) -> &'static str;
    fn shared(&self) -> bool;
    /// Nanoseconds per lookup of so many readers, and pairs per second of the writer, if there is one.
    fn turn(&self, readers: usize, writer: bool) -> (f64, f64);
    /// Nanoseconds per pair of one writer alone.
    fn write(&self) -> f64;
}

impl<T: Table> Subject<T> {
    fn boxed<'a>(keys: &[Key]) -> Box<dyn Turn + 'a>
    where
        T: 'a,
    {
        let (table, queries) = T::build(keys, 4 * WINDOW as usize);
        // Uniformly random, the same for all tables: each several times, and more than a branch predictor learns.
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        let queries = (0..(4 * queries.len()).next_multiple_of(CHUNK))
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                queries[((x >> 32) as usize * queries.len()) >> 32]
            })
            .collect();
        Box::new(Self { table, queries })
    }

    fn read(&self, cpu: u32) -> f64 {
        let mut chunks = self.queries.chunks(CHUNK).cycle();
        per_unit(TURN, CHUNK, || self.table.run(cpu, chunks.next().unwrap_or_default()))
    }
}

impl<T: Table> Turn for Subject<T> {
    fn name(&self) -> &'static str {
        T::name()
    }

    fn shared(&self) -> bool {
        T::SHARED
    }

    fn turn(&self, readers: usize, writer: bool) -> (f64, f64) {
        // Those that nobody may write have the time of readers alone as their reference.
        let writer = writer && T::SHARED;
        let stop = AtomicBool::new(false);
        let barrier = Barrier::new(readers + usize::from(writer));
        std::thread::scope(|scope| {
            let (stop, barrier) = (&stop, &barrier);
            let writer = writer.then(|| {
                scope.spawn(move || {
                    // With fewer processors than threads it shares the first reader's.
                    stay_on(readers);
                    barrier.wait();
                    let begin = Instant::now();
                    let pairs = self.table.churn(3, WRITERS, &|| stop.load(Ordering::Relaxed));
                    pairs as f64 / begin.elapsed().as_secs_f64()
                })
            });
            let readers: Vec<_> = (0..readers as u32)
                .map(|cpu| {
                    scope.spawn(move || {
                        stay_on(cpu as usize);
                        barrier.wait();
                        self.read(cpu)
                    })
                })
                .collect();
            let times: Vec<_> = readers.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).collect();
            stop.store(true, Ordering::Relaxed);
            let rate = writer.map_or(f64::NAN, |thread| thread.join().unwrap_or(f64::NAN));
            (times.iter().sum::<f64>() / times.len() as f64, rate)
        })
    }

    fn write(&self) -> f64 {
        let begin = thread_time();
        let pairs = self.table.churn(0, WRITERS, &|| thread_time() - begin > TURN);
        (thread_time() - begin).as_nanos() as f64 / pairs as f64
    }
}

fn by_handle(keys: &[Key]) -> Vec<Box<dyn Turn>> {
    vec![
        Subject::<Slab>::boxed(keys),
        Subject::<Ours<Entered<Handle>>>::boxed(keys),
        Subject::<Ours<Renewed<Handle>>>::boxed(keys),
    ]
}

fn by_key(keys: &[Key]) -> Vec<Box<dyn Turn>> {
    let mut subjects = vec![
        Subject::<Plain<hashbrown::DefaultHashBuilder>>::boxed(keys),
        Subject::<Plain<SameHash>>::boxed(keys),
        Subject::<Ours<Entered<InboundKey>>>::boxed(keys),
        Subject::<Ours<Renewed<InboundKey>>>::boxed(keys),
        Subject::<Ours<Many>>::boxed(keys),
        Subject::<Papaya<RandomState>>::boxed(keys),
        Subject::<Papaya<SameHash>>::boxed(keys),
        Subject::<Scc<RandomState>>::boxed(keys),
        Subject::<Scc<SameHash>>::boxed(keys),
        Subject::<Dash<RandomState>>::boxed(keys),
    ];
    if Foreign::<Lfht>::library().is_ok() {
        subjects.push(Subject::<Foreign<Lfht>>::boxed(keys));
    }
    if Foreign::<Dpdk>::library().is_ok() {
        subjects.push(Subject::<Foreign<Dpdk>>::boxed(keys));
    }
    subjects
}

/// How many readers, whether there is a writer, and what that is called.
const LOADS: [(usize, bool, &str); 4] =
    [(1, false, "1 reader"), (2, false, "2 readers"), (1, true, "1 + writer"), (2, true, "2 + writer")];

/// Measures everything.
pub(crate) fn run(options: &Options, report: &mut Report) {
    let rounds = options.rounds;
    let processors = processors();
    let mut writers =
        Section::new("Add + delete pairs of one writer alone, with grace periods", "ns per pair");
    for (title, build) in [
        ("Lookup by handle", by_handle as fn(&[Key]) -> Vec<Box<dyn Turn>>),
        ("Lookup by SPI, destination and protocol", by_key),
    ] {
        let mut section = Section::new(title, "ns per lookup");
        for n in [128, 4096, 65_536 - 4 * WINDOW] {
            if !options.measures_size(n) {
                continue;
            }
            let keys: Vec<_> = (0..n).map(key).collect();
            let mut first = true;
            let mut subjects = build(&keys);
            subjects.retain(|subject| std::mem::take(&mut first) || options.measures(subject.name()));
            eprintln!("{title}, {n} SAs …");
            let mut times = vec![vec![vec![]; subjects.len()]; LOADS.len()];
            let mut rates = times.clone();
            // One and two readers are compared, too, so loads take turns as well.
            for _ in 0..rounds {
                for (load, (readers, writer, _)) in LOADS.into_iter().enumerate() {
                    for (at, subject) in subjects.iter().enumerate() {
                        let (time, rate) = subject.turn(readers, writer);
                        times[load][at].push(time);
                        rates[load][at].push(rate);
                    }
                }
            }
            for (load, (_, _, what)) in LOADS.into_iter().enumerate() {
                for (at, subject) in subjects.iter().enumerate() {
                    let pairs = times[load][at].iter().zip(&times[load][0]);
                    let ratios = pairs.map(|(time, first)| time / first).collect();
                    section.compare(
                        n,
                        what,
                        subject.name(),
                        median(times[load][at].clone()),
                        median(ratios),
                        median(rates[load][at].clone()),
                    );
                }
            }
            // By handle or by key: it is the same writer.
            if n == 4096 && !options.alone && subjects.len() > 3 {
                for subject in subjects.iter().filter(|subject| subject.shared()) {
                    let times = (0..rounds).map(|_| subject.write()).collect();
                    writers.add(n, "1 writer", subject.name(), median(times));
                }
            }
        }
        report.add(section);
    }
    report.add(writers);
    for (name, missing) in
        [(Lfht::NAME, Foreign::<Lfht>::library().err()), (Dpdk::NAME, Foreign::<Dpdk>::library().err())]
    {
        if let Some(why) = missing {
            report.note(format!("{name} was not measured: {why}."));
        }
    }
    report.note(format!(
        "{processors} processors. Time that the thread had a processor, median of {rounds} rounds, of {} ms each, in \
         which the tables take turns; batches of {BATCH}, uniformly random keys, values of {} bytes.",
        TURN.as_millis(),
        size_of::<crate::tables::Value>(),
    ));
    if processors < 3 {
        report.note(
            "In the rows \"2 + writer\" the writer shares a processor with a reader. While it has the processor, that reader stands \
             still in the midst of a batch, so that nothing is reclaimed: a table of fixed size soon refuses insertions, others take \
             more memory."
                .into(),
        );
    }
}
