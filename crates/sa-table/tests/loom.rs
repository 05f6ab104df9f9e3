//! Models of the table for the loom model checker, which tries schedules (up to a number of preemptions) and every value
//! that a load may see under the memory model.
//!
//! ```text
//! RUSTFLAGS='--cfg loom' cargo test -p sa-table --release --test loom
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` overrides the bound, which is 3 for two threads and 2 or 3 for three. Buckets have one lane here,
//! so that the second entry of a bucket is in its chain.
//!
//! loom 0.7 knows only the last access to an atomic when it looks for schedules to try. A thread that loads a word before it
//! changes it therefore hides loads by others, and schedules in which it goes first are not found. So each model runs
//! once for each order in which its threads can be started.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Arc, Mutex};
use loom::thread;

use sa_table::{Config, GracePeriod, Handle, InboundKey, Progress, Protocol, Refusal, SaTable, Stale};

/// A value whose reads and drop loom checks against each other: a drop that does not happen after all reads fails.
struct Sa {
    key: UnsafeCell<u32>,
}

// SAFETY: for the sake of the model: whether this is true is what loom checks.
unsafe impl Sync for Sa {}

impl Sa {
    fn new(key: u32) -> Self {
        Self { key: UnsafeCell::new(key) }
    }

    fn read(&self) -> u32 {
        // SAFETY: loom panics if there is a concurrent write.
        self.key.with(|key| unsafe { *key })
    }
}

impl Drop for Sa {
    fn drop(&mut self) {
        // SAFETY: loom panics if there is a concurrent access.
        self.key.with_mut(|key| unsafe { *key = u32::MAX });
    }
}

type Table = SaTable<Sa>;

fn key(spi: u32) -> InboundKey {
    InboundKey::v4(spi, [192, 0, 2, 1], Protocol::Esp)
}

fn table(capacity: u32, lines: u32) -> Arc<Table> {
    Arc::new(SaTable::try_new(Config::new(capacity, lines)).unwrap())
}

fn insert(table: &Table, key: Option<InboundKey>, value: u32) -> Result<Handle, Refusal> {
    let mut writer = table.writer(0);
    let result = writer.insert(key, Sa::new(value)).map_err(|error| error.refusal);
    let _ = writer.finish();
    result
}

fn retire(table: &Table, handle: Handle) -> Result<(), Stale> {
    let mut writer = table.writer(0);
    let result = writer.retire(handle).map(drop);
    let _ = writer.finish();
    result
}

fn reclaim(table: &Table) {
    let _ = table.try_reclaim();
}

type Part<R> = Box<dyn FnOnce() -> R + Send>;

/// A part of a model, run by a thread of its own.
fn part<R>(table: &Arc<Table>, body: impl FnOnce(&Table) -> R + Send + 'static) -> Part<R> {
    let table = table.clone();
    Box::new(move || body(&table))
}

/// Runs the parts at the same time, the one numbered `first` on this thread; gives their results in order.
fn race<R: Send + 'static, const N: usize>(first: usize, parts: [Part<R>; N]) -> [R; N] {
    let mut parts = parts.map(Some);
    let mine = parts[first].take().unwrap();
    let mut threads: Vec<_> =
        parts.iter_mut().map(|part| part.take().map(|part| thread::spawn(part))).collect();
    let mut mine = Some(mine());
    std::array::from_fn(|n| match threads[n].take() {
        Some(thread) => thread.join().unwrap(),
        None => mine.take().unwrap(),
    })
}

/// Runs a model of `parts` parts in each order.
fn model(parts: usize, preemptions: usize, check: impl Fn(usize) + Sync + Send + Clone + 'static) {
    for first in 0..parts {
        let check = check.clone();
        let mut builder = Builder::new();
        builder.max_branches = 20_000;
        if builder.preemption_bound.is_none() {
            builder.preemption_bound = Some(preemptions);
        }
        builder.check(move || check(first));
    }
}

/// A reader by handle, while its entry is retired and reclaimed as eagerly as can be. In the writer's line, or in one that only the
/// scan looks at.
#[test]
fn lookup_by_handle_and_retirement() {
    for cpu in [0, 1] {
        model(2, 3, move |first| {
            let table = table(1, cpu + 1);
            let handle = insert(&table, None, 7).unwrap();
            race(
                first,
                [
                    part(&table, move |table| {
                        let reader = table.enter(cpu);
                        if let Some(sa) = reader.get(handle) {
                            assert_eq!(sa.read(), 7);
                            assert_eq!(sa.read(), 7);
                        }
                        let _ = reader.leave();
                    }),
                    part(&table, move |table| {
                        retire(table, handle).unwrap();
                        reclaim(table);
                    }),
                ],
            );
            assert!(table.enter(0).get(handle).is_none());
            // One of the two has reclaimed it.
            assert_eq!(table.stats().pending, 0);
        });
    }
}

/// A reader that goes from batch to batch, and finds the entry in the first, the second, both or none, while it is retired and
/// reclaimed.
#[test]
fn renewal_and_retirement() {
    model(2, 3, |first| {
        let table = table(1, 1);
        let handle = insert(&table, Some(key(1)), 7).unwrap();
        race(
            first,
            [
                part(&table, move |table| {
                    let mut reader = table.enter(0);
                    let before = reader.get(handle).map(Sa::read);
                    let _ = reader.renew();
                    reader.find_many(&[key(1)], |_, found| {
                        if let Some((found, sa)) = found {
                            assert_eq!((found, sa.read(), before), (handle, 7, Some(7)));
                        }
                    });
                    let _ = reader.leave();
                }),
                part(&table, move |table| {
                    retire(table, handle).unwrap();
                    reclaim(table);
                }),
            ],
        );
        assert_eq!(table.stats().pending, 0);
    });
}

/// A reader whose renewal may come after an entry was retired and E has moved, and which then finds another one that is
/// retired in turn: its new pin must be as good as a first one.
#[test]
fn a_renewed_pin_protects() {
    model(2, 3, |first| {
        let table = table(2, 1);
        let handles = [insert(&table, None, 1).unwrap(), insert(&table, None, 2).unwrap()];
        race(
            first,
            [
                part(&table, move |table| {
                    let mut reader = table.enter(0);
                    let _ = reader.renew();
                    for (handle, value) in handles.into_iter().zip([1, 2]) {
                        if let Some(sa) = reader.get(handle) {
                            assert_eq!((sa.read(), sa.read()), (value, value));
                        }
                    }
                    let _ = reader.leave();
                }),
                part(&table, move |table| {
                    for handle in handles {
                        retire(table, handle).unwrap();
                        reclaim(table);
                    }
                }),
            ],
        );
        assert_eq!(table.stats().pending, 0);
    });
}

/// Why entries wait for three steps of the epoch, not two: a reader looks at E and is preempted; one writer moves E, and then
/// scans the lines for the parity that the reader will count itself under, finds nobody, and is preempted; the reader
/// counts itself and finds an entry; another writer retires it; the first one moves E, and once more, for the other
/// parity.
#[test]
fn a_late_pin_and_an_epoch_that_moves() {
    model(3, 3, |first| {
        let table = table(2, 1);
        let handles = [insert(&table, None, 1).unwrap(), insert(&table, None, 2).unwrap()];
        race(
            first,
            [
                part(&table, move |table| {
                    let reader = table.enter(0);
                    if let Some(sa) = reader.get(handles[1]) {
                        assert_eq!(sa.read(), 2);
                    }
                    let _ = reader.leave();
                }),
                part(&table, move |table| {
                    retire(table, handles[0]).unwrap();
                    reclaim(table);
                    reclaim(table);
                }),
                part(&table, move |table| retire(table, handles[1]).unwrap()),
            ],
        );
        reclaim(&table);
        assert_eq!(table.stats().pending, 0);
    });
}

/// A reclaimer looks at E and is preempted; E moves; an entry gets into the very list that the reclaimer believes safe.
#[test]
fn a_late_reclaimer() {
    model(3, 2, |first| {
        let table = table(2, 1);
        let handles = [insert(&table, None, 1).unwrap(), insert(&table, None, 2).unwrap()];
        retire(&table, handles[0]).unwrap();
        race(
            first,
            [
                part(&table, move |table| {
                    let reader = table.enter(0);
                    if let Some(sa) = reader.get(handles[1]) {
                        assert_eq!(sa.read(), 2);
                        assert_eq!(sa.read(), 2);
                    }
                    let _ = reader.leave();
                }),
                part(&table, reclaim),
                part(&table, move |table| {
                    reclaim(table);
                    retire(table, handles[1]).unwrap();
                }),
            ],
        );
        reclaim(&table);
        assert_eq!(table.stats().pending, 0);
    });
}

/// A reader by key, while its entry is removed from its lane and another one, in the chain behind it, stays; or the other
/// way round.
#[test]
fn lookup_by_key_and_retirement() {
    for removed in [1, 2] {
        model(2, 3, move |first| {
            let table = table(2, 1);
            let handles = [1, 2].map(|spi| insert(&table, Some(key(spi)), spi).unwrap());
            race(
                first,
                [
                    part(&table, move |table| {
                        let reader = table.enter(0);
                        for spi in [1, 2] {
                            if let Some((handle, sa)) = reader.find(&key(spi)) {
                                assert_eq!((handle, sa.read()), (handles[spi as usize - 1], spi));
                            } else {
                                assert_eq!(spi, removed);
                            }
                        }
                        let _ = reader.leave();
                    }),
                    part(&table, move |table| {
                        retire(table, handles[removed as usize - 1]).unwrap();
                        reclaim(table);
                    }),
                ],
            );
        });
    }
}

/// A slot that is used anew under a reader with the old handle, and one that finds the new entry by its key.
#[test]
fn handle_reuse() {
    model(2, 3, |first| {
        let table = table(1, 1);
        let old = insert(&table, Some(key(1)), 1).unwrap();
        let [found, new] = race(
            first,
            [
                part(&table, move |table| {
                    let reader = table.enter(0);
                    let found = reader.find(&key(2)).map(|(handle, sa)| (handle, sa.read()));
                    if let Some(sa) = reader.get(old) {
                        assert_eq!(sa.read(), 1);
                        assert!(found.is_none(), "old and new at once");
                    }
                    let _ = reader.leave();
                    found
                }),
                part(&table, move |table| {
                    retire(table, old).unwrap();
                    insert(table, Some(key(2)), 2).ok().map(|handle| (handle, 2))
                }),
            ],
        );
        assert!(new.is_none_or(|(new, _)| new != old));
        assert!(found.is_none() || found == new);
        let reader = table.enter(0);
        assert!(reader.get(old).is_none());
        assert_eq!(reader.find(&key(2)).map(|(handle, sa)| (handle, sa.read())), new);
    });
}

/// What a reader finds, by whatever way, is complete.
#[test]
fn publication() {
    for spi in [None, Some(1)] {
        model(2, 3, move |first| {
            let table = table(2, 1);
            let [seen, inserted] = race(
                first,
                [
                    part(&table, move |table| {
                        let reader = table.enter(0);
                        let seen = reader.iter().next().map(|entry| {
                            assert_eq!((entry.key, entry.value.read()), (spi.map(key), 1));
                            entry.handle
                        });
                        if let Some((handle, sa)) = reader.find(&key(1)) {
                            assert_eq!((spi, sa.read()), (Some(1), 1));
                            assert!(seen.is_none_or(|seen| seen == handle));
                        } else {
                            assert!(spi.is_none() || seen.is_none(), "gone again");
                        }
                        let _ = reader.leave();
                        seen
                    }),
                    part(&table, move |table| insert(table, spi.map(key), 1).ok()),
                ],
            );
            assert!(seen.is_none() || seen == inserted);
        });
    }
}

/// Two writers insert the same key at the same time: one entry, and the other writer is told its handle, which is live by
/// then. With a free lane, and with the lane taken.
#[test]
fn duplicates() {
    for occupied in [false, true] {
        model(2, 3, move |first| {
            let table = table(3, 1);
            if occupied {
                insert(&table, Some(key(9)), 9).unwrap();
            }
            let racer = |table: &Table| {
                let result = insert(table, Some(key(1)), 1);
                if let Err(Refusal::Duplicate(handle)) = result {
                    let reader = table.enter(0);
                    assert_eq!(reader.get(handle).map(Sa::read), Some(1), "named, but not to be found");
                    assert_eq!(reader.find(&key(1)).map(|(found, _)| found), Some(handle));
                }
                result
            };
            let results = race(first, [part(&table, racer), part(&table, racer)]);
            let handles: Vec<_> = results.iter().filter_map(|result| result.ok()).collect();
            assert_eq!(handles.len(), 1, "{results:?}");
            assert!(results.contains(&Err(Refusal::Duplicate(handles[0]))));
        });
    }
}

/// An insertion that is refused takes its lane back while the duplicate goes away.
#[test]
fn a_refused_insertion_and_a_retirement() {
    model(2, 3, |first| {
        let table = table(3, 1);
        let old = insert(&table, Some(key(1)), 1).unwrap();
        let [result, _] = race(
            first,
            [
                part(&table, |table| insert(table, Some(key(1)), 2)),
                part(&table, move |table| {
                    retire(table, old).unwrap();
                    reclaim(table);
                    Ok(old)
                }),
            ],
        );
        assert!(result.is_ok() || result == Err(Refusal::Duplicate(old)));
        let reader = table.enter(0);
        assert_eq!(reader.find(&key(1)).map(|(handle, sa)| (handle, sa.read())), result.ok().map(|h| (h, 2)));
        let _ = reader.leave();
        reclaim(&table);
        assert_eq!(table.stats().pending, 0);
    });
}

/// While two writers want to insert one key, the entry in the lane goes away and one of them takes its place: `commit` looks as
/// before to the other one, unless the lane stays taken for the grace period.
#[test]
fn a_lane_is_not_reused_under_a_writer() {
    model(2, 3, |first| {
        let table = table(4, 1);
        let old = insert(&table, Some(key(9)), 9).unwrap();
        let inserted = race(
            first,
            [
                part(&table, |table| insert(table, Some(key(1)), 1).is_ok()),
                part(&table, move |table| {
                    retire(table, old).unwrap();
                    reclaim(table);
                    insert(table, Some(key(1)), 1).is_ok()
                }),
            ],
        );
        assert_ne!(inserted[0], inserted[1], "both or none");
    });
}

/// Two writers retire one handle: one of them does it.
#[test]
fn retired_once() {
    model(2, 3, |first| {
        let table = table(1, 1);
        let handle = insert(&table, Some(key(1)), 1).unwrap();
        let racer = move |table: &Table| {
            let result = retire(table, handle);
            reclaim(table);
            result
        };
        let results = race(first, [part(&table, racer), part(&table, racer)]);
        assert!(results.contains(&Ok(())) && results.contains(&Err(Stale)), "{results:?}");
        assert_eq!(table.stats().pending, 0);
    });
}

/// Neighbours in a chain are taken out at the same time, or one is while an entry is added in front: Harris's race. Then all
/// slots are used anew, so that a node that was left in the chain shows.
#[test]
fn chain_removals() {
    for [a, b] in [[2, 3], [1, 2], [4, 3]] {
        model(2, 3, move |first| {
            // The lane has 0, the chain 4, 3, 2, 1 (from the head).
            let table = table(6, 1);
            let handles: Vec<_> = (0..5).map(|spi| insert(&table, Some(key(spi)), spi).unwrap()).collect();
            let (one, other) = (handles[a], handles[b]);
            race(
                first,
                [
                    part(&table, move |table| retire(table, one).unwrap()),
                    part(&table, move |table| {
                        retire(table, other).unwrap();
                        insert(table, Some(key(5)), 5).unwrap();
                    }),
                ],
            );
            reclaim(&table);
            assert_eq!(table.stats().pending, 0);
            for spi in [6, 7] {
                insert(&table, Some(key(spi)), spi).unwrap();
            }
            let reader = table.enter(0);
            for spi in 0..8 {
                let gone = spi as usize == a || spi as usize == b;
                assert_eq!(reader.find(&key(spi)).map(|(_, sa)| sa.read()), (!gone).then_some(spi));
            }
            assert_eq!(reader.find(&key(8)).map(|(handle, _)| handle), None);
        });
    }
}

/// A driver's store of requests that wait, and how many were completed.
#[derive(Default)]
struct Requests {
    pended: Vec<GracePeriod>,
    completed: usize,
}

type Store = Arc<Mutex<Requests>>;

/// Steps 1 to 5 of the protocol in the crate's documentation.
fn complete(table: &Table, requests: &Store, progress: Progress) {
    if progress.ended() {
        let mut requests = requests.lock().unwrap();
        let before = requests.pended.len();
        requests.pended.retain(|grace| !table.is_over(*grace));
        requests.completed += before - requests.pended.len();
    }
}

fn delete(table: &Table, requests: &Store, handle: Handle) {
    let mut writer = table.writer(0);
    let grace = writer.retire(handle).unwrap();
    complete(table, requests, writer.finish());
    complete(table, requests, table.try_reclaim());
    if table.is_over(grace) {
        requests.lock().unwrap().completed += 1;
        return;
    }
    requests.lock().unwrap().pended.push(grace);
    complete(table, requests, table.try_reclaim());
    if table.is_over(grace) {
        let mut requests = requests.lock().unwrap();
        if let Some(at) = requests.pended.iter().position(|other| *other == grace) {
            requests.pended.swap_remove(at);
            requests.completed += 1;
        }
    }
}

fn read(table: &Table, requests: &Store, cpu: u32, handle: Handle) {
    let reader = table.enter(cpu);
    let _ = reader.get(handle).map(Sa::read);
    complete(table, requests, reader.leave());
}

fn all_told(table: &Table, requests: &Store, expected: usize) {
    let requests = requests.lock().unwrap();
    assert_eq!((requests.completed, requests.pended.len()), (expected, 0), "a wake-up was lost");
    assert_eq!(table.stats().pending, 0);
}

/// One deletion and one reader: told once, whoever is last.
#[test]
fn a_grace_period_is_told() {
    model(2, 3, |first| {
        let table = table(1, 1);
        let requests = Store::default();
        let handle = insert(&table, None, 7).unwrap();
        let stores = [requests.clone(), requests.clone()];
        let [r, d] = stores;
        race(
            first,
            [
                part(&table, move |table| read(table, &r, 0, handle)),
                part(&table, move |table| delete(table, &d, handle)),
            ],
        );
        all_told(&table, &requests, 1);
    });
}

/// The same, where the reader may learn of the deletion when it is renewed, between two batches.
#[test]
fn a_grace_period_is_told_by_a_renewal() {
    model(2, 3, |first| {
        let table = table(1, 1);
        let requests = Store::default();
        let handle = insert(&table, None, 7).unwrap();
        let [r, d] = [requests.clone(), requests.clone()];
        race(
            first,
            [
                part(&table, move |table| {
                    let mut reader = table.enter(0);
                    let _ = reader.get(handle).map(Sa::read);
                    complete(table, &r, reader.renew());
                    let _ = reader.get(handle).map(Sa::read);
                    complete(table, &r, reader.leave());
                }),
                part(&table, move |table| delete(table, &d, handle)),
            ],
        );
        all_told(&table, &requests, 1);
    });
}

/// Two readers in different lines, so that the one who is woken may have to wake the other.
#[test]
fn a_grace_period_is_told_by_the_last_of_two_readers() {
    model(3, 2, |first| {
        let table = table(1, 2);
        let requests = Store::default();
        let handle = insert(&table, None, 7).unwrap();
        let [a, b, d] = [requests.clone(), requests.clone(), requests.clone()];
        race(
            first,
            [
                part(&table, move |table| read(table, &a, 0, handle)),
                part(&table, move |table| read(table, &b, 1, handle)),
                part(&table, move |table| delete(table, &d, handle)),
            ],
        );
        all_told(&table, &requests, 1);
    });
}

/// Two deletions at once and a reader: one of them may drop the other's entry, and reports it.
#[test]
fn two_deletions_are_told() {
    model(3, 2, |first| {
        let table = table(2, 1);
        let requests = Store::default();
        let handles = [insert(&table, None, 1).unwrap(), insert(&table, None, 2).unwrap()];
        let [a, b, d] = [requests.clone(), requests.clone(), requests.clone()];
        race(
            first,
            [
                part(&table, move |table| read(table, &a, 0, handles[0])),
                part(&table, move |table| delete(table, &b, handles[0])),
                part(&table, move |table| delete(table, &d, handles[1])),
            ],
        );
        all_told(&table, &requests, 2);
    });
}

/// A value that leaves word of its drop outside; loom checks that who looks there looks after it.
struct Traced(Arc<UnsafeCell<bool>>);

// SAFETY: as for `Sa`.
unsafe impl Send for Traced {}
// SAFETY: as for `Sa`.
unsafe impl Sync for Traced {}

impl Drop for Traced {
    fn drop(&mut self) {
        // SAFETY: loom panics if there is a concurrent access.
        self.0.with_mut(|dropped| unsafe { *dropped = true });
    }
}

/// Where a [`Traced`] leaves word.
struct Trace(Arc<UnsafeCell<bool>>);

// SAFETY: as for `Sa`.
unsafe impl Send for Trace {}

impl Trace {
    fn new() -> (Self, Traced) {
        let cell = Arc::new(UnsafeCell::new(false));
        (Self(cell.clone()), Traced(cell))
    }

    fn assert_dropped(&self) {
        // SAFETY: loom panics if there is a concurrent write.
        assert!(self.0.with(|dropped| unsafe { *dropped }), "over, and not dropped");
    }
}

/// A writer retires two entries, between which E moves so far that another thread reclaims the first one. That the second one's
/// grace period is over says that the first one has been dropped, too.
#[test]
fn the_last_token_covers_the_earlier_ones() {
    for merged in [false, true] {
        model(2, 3, move |first| {
            let table = Arc::new(SaTable::try_new(Config::new(2, 1)).unwrap());
            let (traces, values): (Vec<_>, Vec<_>) = [Trace::new(), Trace::new()].into_iter().unzip();
            let mut writer = table.writer(0);
            let handles: Vec<_> =
                values.into_iter().map(|value| writer.insert(None, value).ok().unwrap()).collect();
            let _ = writer.finish();
            let (deleter, other) = (table.clone(), table.clone());
            let over = race(
                first,
                [
                    Box::new(move || {
                        let mut writer = deleter.writer(0);
                        let [one, last] =
                            [handles[0], handles[1]].map(|handle| writer.retire(handle).unwrap());
                        let last = if merged { one.max(last) } else { last };
                        let _ = writer.finish();
                        let _ = deleter.try_reclaim();
                        let over = deleter.is_over(last);
                        if over {
                            traces.iter().for_each(Trace::assert_dropped);
                        }
                        (over, traces)
                    }) as Part<_>,
                    Box::new(move || {
                        let _ = other.try_reclaim();
                        (true, Vec::new())
                    }),
                ],
            );
            let _ = table.try_reclaim();
            over[0].1.iter().for_each(Trace::assert_dropped);
        });
    }
}
