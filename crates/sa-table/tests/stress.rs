//! Readers, writers and requests that wait for grace periods, all at once, with canaries in the values.
//!
//! `SA_TABLE_SEED` repeats a run's choices (not its schedule), `SA_TABLE_SECONDS` makes it longer than 2 s.
#![cfg(not(any(loom, shuttle)))]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sa_table::{Config, GracePeriod, Handle, InboundKey, Progress, Protocol, Refusal, SaTable};

const ALIVE: u64 = 0x600d_cafe_600d_cafe;
const DEAD: u64 = 0xdead_dead_dead_dead;

static LIVING: AtomicU32 = AtomicU32::new(0);

/// A value that knows whether it has been dropped.
struct Canary {
    head: AtomicU64,
    spi: u32,
    tail: AtomicU64,
}

impl Canary {
    fn new(spi: u32) -> Self {
        LIVING.fetch_add(1, Ordering::Relaxed);
        Self { head: AtomicU64::new(ALIVE ^ u64::from(spi)), spi, tail: AtomicU64::new(ALIVE) }
    }

    fn check(&self) {
        assert_eq!(self.head.load(Ordering::Relaxed), ALIVE ^ u64::from(self.spi), "read after drop");
        assert_eq!(self.tail.load(Ordering::Relaxed), ALIVE, "read after drop");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.check();
        self.head.store(DEAD, Ordering::Relaxed);
        self.tail.store(DEAD, Ordering::Relaxed);
        LIVING.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(n)) >> 32).unwrap()
    }
}

fn key(spi: u32) -> InboundKey {
    InboundKey::v4(spi, [203, 0, 113, 5], Protocol::Esp)
}

/// A driver in small: the table, the requests that wait, and what was issued.
struct Driver {
    table: SaTable<Canary>,
    pended: Mutex<Vec<(u64, GracePeriod)>>,
    completed: AtomicU64,
    handles: Mutex<Vec<Handle>>,
    stop: AtomicBool,
}

impl Driver {
    /// Step 5 of the protocol.
    fn progress(&self, progress: Progress) {
        if progress.ended() {
            let mut pended = self.pended.lock().unwrap();
            pended.retain(|(_, grace)| {
                let over = self.table.is_over(*grace);
                self.completed.fetch_add(u64::from(over), Ordering::Relaxed);
                !over
            });
        }
    }

    /// Steps 1 to 4. True if a request was made, at once or later completed.
    fn delete(&self, cpu: u32, request: u64, handles: &[Handle]) -> bool {
        let mut writer = self.table.writer(cpu);
        for handle in handles {
            let _ = writer.retire(*handle);
        }
        let grace = writer.grace();
        self.progress(writer.finish());
        let Some(grace) = grace else { return false };
        self.progress(self.table.try_reclaim());
        if self.table.is_over(grace) {
            self.completed.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        self.pended.lock().unwrap().push((request, grace));
        self.progress(self.table.try_reclaim());
        if self.table.is_over(grace) {
            let mut pended = self.pended.lock().unwrap();
            if let Some(at) = pended.iter().position(|(id, _)| *id == request) {
                pended.swap_remove(at);
                self.completed.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    fn write(&self, cpu: u32, seed: u64) -> u64 {
        let mut random = Random(seed);
        let mut mine = Vec::new();
        let mut requests = 0;
        let mut serial = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mut writer = self.table.writer(cpu);
            for _ in 0..random.below(6) {
                let spi = random.below(96);
                let inbound = !random.next().is_multiple_of(4);
                match writer.insert(inbound.then(|| key(spi)), Canary::new(spi)) {
                    Ok(handle) => mine.push(handle),
                    Err(error) => {
                        error.value.check();
                        assert!(error.refusal != Refusal::Neighbourhood);
                    }
                }
            }
            self.progress(writer.finish());
            self.handles.lock().unwrap().clone_from(&mine);
            let take = random.below(8).min(u32::try_from(mine.len()).unwrap());
            let mut list: Vec<_> = (0..take)
                .map(|_| {
                    let at = random.below(u32::try_from(mine.len()).unwrap());
                    mine.swap_remove(at as usize)
                })
                .collect();
            if random.next().is_multiple_of(4) {
                // Somebody else's, perhaps deleted by both at once.
                list.extend(self.handles.lock().unwrap().iter().take(2));
            }
            serial += 1;
            requests += u64::from(self.delete(cpu, u64::from(cpu) << 32 | serial, &list));
        }
        requests
    }

    fn read(&self, cpu: u32, seed: u64) -> u64 {
        let mut random = Random(seed);
        let mut found = 0;
        let mut reader = self.table.enter(cpu);
        while !self.stop.load(Ordering::Relaxed) {
            // The next batch, in one of the two ways.
            if random.next().is_multiple_of(2) {
                self.progress(reader.renew());
            } else {
                self.progress(reader.leave());
                reader = self.table.enter(cpu);
            }
            let mut held = Vec::new();
            for _ in 0..random.below(40) {
                let spi = random.below(96);
                if let Some((_, value)) = reader.find(&key(spi)) {
                    assert_eq!(value.spi, spi);
                    held.push(value);
                }
            }
            let spis: Vec<u32> = (0..random.below(80)).map(|_| random.below(96)).collect();
            let keys: Vec<_> = spis.iter().copied().map(key).collect();
            reader.find_many(&keys, |n, found| {
                if let Some((_, value)) = found {
                    assert_eq!(value.spi, spis[n]);
                    held.push(value);
                }
            });
            for handle in self.handles.lock().unwrap().iter() {
                held.extend(reader.get(*handle));
            }
            if random.next().is_multiple_of(64) {
                std::thread::yield_now();
            }
            for value in &held {
                value.check();
            }
            found += held.len() as u64;
        }
        self.progress(reader.leave());
        found
    }
}

#[test]
fn nothing_is_read_after_its_drop_and_every_request_completes_once() {
    let seed = std::env::var("SA_TABLE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs() << 30
    });
    let seconds = std::env::var("SA_TABLE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    println!("SA_TABLE_SEED={seed}");
    let mut random = Random(seed | 1);
    let begin = Instant::now();
    let (mut requests, mut found, mut rounds) = (0, 0, 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        let config = Config {
            seed: random.next(),
            first_generation: 1 + random.below(1 << 20) as usize,
            ..Config::new(1 + random.below(80), 1 + random.below(4))
        };
        let mut driver = Driver {
            table: SaTable::try_new(config).unwrap(),
            pended: Mutex::default(),
            completed: AtomicU64::new(0),
            handles: Mutex::default(),
            stop: AtomicBool::new(false),
        };
        let round = std::thread::scope(|scope| {
            let driver = &driver;
            let writers: Vec<_> = (0..4)
                .map(|cpu| {
                    let seed = random.next() | 1;
                    scope.spawn(move || driver.write(cpu, seed))
                })
                .collect();
            let readers: Vec<_> = (0..4)
                .map(|cpu| {
                    let seed = random.next() | 1;
                    scope.spawn(move || driver.read(cpu, seed))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(100));
            driver.stop.store(true, Ordering::Relaxed);
            found += readers.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
            writers.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        requests += round;
        rounds += 1;
        // Nobody is in the table any more: whatever waited has been told, by whoever was last.
        assert_eq!(driver.pended.get_mut().unwrap().len(), 0, "a wake-up was lost");
        assert_eq!(driver.completed.load(Ordering::Relaxed), round);
        let stats = driver.table.stats();
        let _ = driver.table.try_reclaim();
        assert_eq!(driver.table.stats().pending, 0);
        assert_eq!(LIVING.load(Ordering::Relaxed), stats.occupancy);
        assert_eq!(driver.table.enter(0).iter().count(), stats.occupancy as usize);
        assert_eq!(driver.table.drain(), stats.occupancy);
        assert_eq!(LIVING.load(Ordering::Relaxed), 0);
    }
    println!("{rounds} rounds, {requests} requests, {found} entries found");
    assert!(requests > 0 && found > 0);
}
