//! A larger model under shuttle's random scheduler: readers, writers and deletions that wait, against a reference map that
//! says what each lookup may find.
//!
//! ```text
//! RUSTFLAGS='--cfg shuttle' cargo test -p sa-table --release --test shuttle
//! ```
//!
//! Where loom tries all schedules of few steps, this tries random ones of thousands; a failure prints the schedule, which
//! `shuttle::replay` repeats. `SA_TABLE_SCHEDULES` says how many (20,000 of each model). Buckets have one lane here,
//! so that most entries are in chains.
#![cfg(shuttle)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use sa_table::{Config, GracePeriod, Handle, InboundKey, Progress, Protocol, Refusal, SaTable};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

const KEYS: u32 = 6;

fn key(spi: u32) -> InboundKey {
    InboundKey::v4(spi, [192, 0, 2, 1], Protocol::Esp)
}

/// A value that knows whether it was dropped. (Plain atomics: no switch of threads while it looks.)
struct Sa {
    spi: u32,
    alive: Arc<AtomicU32>,
    this: AtomicU32,
}

impl Sa {
    fn new(spi: u32, alive: &Arc<AtomicU32>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { spi, alive: alive.clone(), this: AtomicU32::new(1) }
    }

    fn check(&self) {
        assert_eq!(self.this.load(Ordering::Relaxed), 1, "read after drop");
    }
}

impl Drop for Sa {
    fn drop(&mut self) {
        assert_eq!(self.this.swap(0, Ordering::Relaxed), 1, "dropped twice");
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When an entry was live, in terms of one clock that every thread reads around what it does.
#[derive(Clone, Copy)]
struct Life {
    key: Option<u32>,
    /// The insertion had returned.
    sure_from: u64,
    /// The retirement had not begun.
    sure_until: u64,
    /// The retirement had returned.
    gone_from: u64,
}

#[derive(Default)]
struct World {
    clock: u64,
    lives: HashMap<Handle, Life>,
    pended: Vec<(GracePeriod, u64)>,
    requests: u64,
    completed: u64,
}

struct Model {
    table: SaTable<Sa>,
    world: Mutex<World>,
    alive: Arc<AtomicU32>,
}

impl Model {
    fn now(&self) -> u64 {
        let mut world = self.world.lock().unwrap();
        world.clock += 1;
        world.clock
    }

    /// Step 5 of the protocol.
    fn progress(&self, progress: Progress) {
        if progress.ended() {
            let mut world = self.world.lock().unwrap();
            let before = world.pended.len();
            world.pended.retain(|(grace, _)| !self.table.is_over(*grace));
            world.completed += (before - world.pended.len()) as u64;
        }
    }

    fn write(&self, cpu: u32, steps: u32) {
        let mut mine: Vec<Handle> = Vec::new();
        for _ in 0..steps {
            if mine.is_empty() || thread_rng().gen_bool(0.5) {
                let spi = thread_rng().gen_bool(0.8).then(|| thread_rng().gen_range(0..KEYS));
                let begin = self.now();
                let mut writer = self.table.writer(cpu);
                let result = writer.insert(spi.map(key), Sa::new(spi.unwrap_or(99), &self.alive));
                self.progress(writer.finish());
                let end = self.now();
                match result {
                    Ok(handle) => {
                        let life =
                            Life { key: spi, sure_from: end, sure_until: u64::MAX, gone_from: u64::MAX };
                        let mut world = self.world.lock().unwrap();
                        assert!(world.lives.insert(handle, life).is_none(), "a handle was issued twice");
                        mine.push(handle);
                    }
                    Err(error) => {
                        error.value.check();
                        if let Refusal::Duplicate(handle) = error.refusal {
                            // Its owner may not have noted it yet; if it has, it was live at some time in between.
                            let world = self.world.lock().unwrap();
                            if let Some(life) = world.lives.get(&handle) {
                                assert!(life.key == spi && life.gone_from > begin);
                            }
                        }
                    }
                }
            } else {
                // A deletion request: steps 1 to 4.
                let count = thread_rng().gen_range(1..=mine.len());
                let mut writer = self.table.writer(cpu);
                let mut last = None;
                for _ in 0..count {
                    let handle = mine.swap_remove(thread_rng().gen_range(0..mine.len()));
                    let begin = self.now();
                    self.world.lock().unwrap().lives.get_mut(&handle).unwrap().sure_until = begin;
                    last = Some(writer.retire(handle).expect("only its owner retires it"));
                    let end = self.now();
                    self.world.lock().unwrap().lives.get_mut(&handle).unwrap().gone_from = end;
                    assert!(writer.retire(handle).is_err());
                }
                self.progress(writer.finish());
                let grace = last.unwrap();
                let id = {
                    let mut world = self.world.lock().unwrap();
                    world.requests += 1;
                    world.requests
                };
                self.progress(self.table.try_reclaim());
                if self.table.is_over(grace) {
                    self.world.lock().unwrap().completed += 1;
                    continue;
                }
                self.world.lock().unwrap().pended.push((grace, id));
                self.progress(self.table.try_reclaim());
                if self.table.is_over(grace) {
                    let mut world = self.world.lock().unwrap();
                    if let Some(at) = world.pended.iter().position(|(_, other)| *other == id) {
                        world.pended.swap_remove(at);
                        world.completed += 1;
                    }
                }
            }
        }
    }

    fn read(&self, cpu: u32, steps: u32) {
        let mut reader = self.table.enter(cpu);
        for _ in 0..steps {
            // The next batch, in one of the two ways.
            if thread_rng().gen_bool(0.5) {
                self.progress(reader.renew());
            } else {
                self.progress(reader.leave());
                reader = self.table.enter(cpu);
            }
            let mut held = Vec::new();
            for _ in 0..thread_rng().gen_range(1..5) {
                let spi = thread_rng().gen_range(0..KEYS);
                let begin = self.now();
                let mut found = None;
                if thread_rng().gen_bool(0.5) {
                    found = reader.find(&key(spi));
                } else {
                    reader.find_many(&[key(spi)], |_, one| found = one);
                }
                let end = self.now();
                if let Some((_, sa)) = found {
                    assert_eq!(sa.spi, spi);
                    held.push(sa);
                }
                let found = found.map(|(handle, _)| handle);
                let world = self.world.lock().unwrap();
                let mut live = 0;
                for (handle, life) in world.lives.iter().filter(|(_, life)| life.key == Some(spi)) {
                    let sure = life.sure_from < begin && end < life.sure_until;
                    live += u32::from(sure);
                    assert!(live < 2, "two live entries have the same key");
                    assert!(!sure || found == Some(*handle), "a live entry was not found by its key");
                    assert!(found != Some(*handle) || life.gone_from > begin, "found after its end");
                }
                let handles: Vec<_> = world.lives.keys().copied().collect();
                drop(world);
                if !handles.is_empty() {
                    let handle = handles[thread_rng().gen_range(0..handles.len())];
                    let begin = self.now();
                    let found = reader.get(handle);
                    let end = self.now();
                    held.extend(found);
                    let life = self.world.lock().unwrap().lives[&handle];
                    assert!(found.is_some() || !(life.sure_from < begin && end < life.sure_until));
                    assert!(found.is_none() || life.gone_from > begin);
                }
            }
            for sa in held {
                sa.check();
            }
        }
        self.progress(reader.leave());
    }
}

fn run(writers: u32, readers: u32, steps: u32) {
    let alive = Arc::new(AtomicU32::new(0));
    let config = Config {
        seed: thread_rng().gen_range(0..u64::MAX),
        ..Config::new(thread_rng().gen_range(1..12), thread_rng().gen_range(1..4))
    };
    let model = Arc::new(Model {
        table: SaTable::try_new(config).unwrap(),
        world: Mutex::default(),
        alive: alive.clone(),
    });
    let mut threads = Vec::new();
    for cpu in 0..writers {
        let model = model.clone();
        threads.push(thread::spawn(move || model.write(cpu, steps)));
    }
    for cpu in 0..readers {
        let model = model.clone();
        threads.push(thread::spawn(move || model.read(cpu, steps)));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    {
        let world = model.world.lock().unwrap();
        assert_eq!((world.pended.len(), world.completed), (0, world.requests), "a wake-up was lost");
        let live = world.lives.values().filter(|life| life.sure_until == u64::MAX).count();
        let stats = model.table.stats();
        assert_eq!((stats.occupancy as usize, stats.pending), (live, 0));
        assert_eq!(alive.load(Ordering::Relaxed) as usize, live, "dropped too early or not at all");
    }
    drop(model);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

fn schedules() -> usize {
    std::env::var("SA_TABLE_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn random_schedules() {
    shuttle::check_random(|| run(2, 2, 6), schedules());
}

/// Few preemptions at the places that matter: finds what needs one thread to stand still for long.
#[test]
fn schedules_with_few_preemptions() {
    shuttle::check_pct(|| run(2, 2, 6), schedules(), 4);
}

#[test]
fn many_threads() {
    shuttle::check_random(|| run(4, 3, 4), schedules() / 3);
}
