//! The write side: insertions and retirements, lock-free, from any number of threads at once.

use core::fmt;
use core::mem::ManuallyDrop;

use crate::epoch::{self, Counter, Line};
use crate::handle::{Handle, Phase, State};
use crate::index::{Bucket, Commit, Home, LANES, MAX_CHAIN};
use crate::key::{InboundKey, OUTBOUND};
use crate::progress::{GracePeriod, Progress};
use crate::shared::Core;
use crate::slot::{LANE, LINK_MASK, MARK, NONE, Slot};
use crate::sync::Ordering;

/// How many retired entries accumulate in one list before a writer tries to reclaim on its own, unasked. It mostly gets one
/// step of three further at a time, if there are readers.
const LAZY: u32 = 32;

/// A series of insertions and retirements, one direct OID request, say.
///
/// Made by [`SaTable::writer`](crate::SaTable::writer); end it with [`finish`](Self::finish). Between two calls it keeps
/// nobody waiting, and each call is pinned only for its own duration; a thread that is preempted in one delays
/// reclamation as a reader does, but no other reader or writer.
pub struct Writer<'t, V> {
    core: &'t Core<V>,
    line: &'t Line,
    progress: Progress,
    grace: Option<GracePeriod>,
    inserted: u32,
    retired: u32,
    refused: u32,
    stale: u32,
    retries: u32,
}

/// A value that was not inserted, given back.
pub struct InsertError<V> {
    /// Why.
    pub refusal: Refusal,
    /// What was to be inserted.
    pub value: V,
}

/// Why a value was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No slot is free: all are live, wait for readers to leave, or are worn out.
    Full,
    /// A live inbound entry has the same key: this one.
    Duplicate(Handle),
    /// The key's home bucket has all lanes in use and [`MAX_CHAIN`] entries behind them.
    Neighbourhood,
}

/// The handle names no live entry: it was retired before, perhaps by another thread, or was made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

impl<'t, V> Writer<'t, V> {
    pub(crate) fn new(core: &'t Core<V>, hint: u32) -> Self {
        Self {
            core,
            line: core.line(hint),
            progress: Progress::default(),
            grace: None,
            inserted: 0,
            retired: 0,
            refused: 0,
            stale: 0,
            retries: 0,
        }
    }

    /// Publishes an entry: one that is found by `key`, or without a key an outbound one, found by its handle alone.
    /// It is complete when the first reader sees it.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]; the value comes back, and no reader has seen it.
    pub fn insert(&mut self, key: Option<InboundKey>, value: V) -> Result<Handle, InsertError<V>> {
        let Some(index) = self.free_slot() else {
            self.refused += 1;
            return Err(InsertError { refusal: Refusal::Full, value });
        };
        let slot = self.core.slot(index);
        // Relaxed: this thread owns the slot.
        let free = State(slot.state.load(Ordering::Relaxed));
        let words = key.map_or(OUTBOUND, |key| *key.words());
        // SAFETY: `free_slot` gave this thread the slot, which is Free.
        unsafe { slot.fill(words, value) };
        // Outbound entries are in no lane.
        slot.place.store(NONE, Ordering::Relaxed);
        if key.is_none() {
            // Release: whoever loads Live finds the entry complete.
            slot.state.store(free.to(Phase::Live).0, Ordering::Release);
        } else {
            // Release: whoever finds the entry in the index may load Built, and make it Live for this thread.
            slot.state.store(free.to(Phase::Built).0, Ordering::Release);
            let epoch = self.core.pin(self.line);
            let committed = self.commit(index, &words);
            if committed.is_ok() {
                publish(slot, free);
            }
            self.unpin(epoch);
            if let Err(refusal) = committed {
                slot.state.store(free.0, Ordering::Relaxed);
                // SAFETY: the index does not hold the entry, so it never was Live, and this thread owns the slot still.
                let value = unsafe { slot.take() };
                self.core.push_free(index);
                self.refused += 1;
                return Err(InsertError { refusal, value });
            }
        }
        self.inserted += 1;
        Ok(free.to_handle())
    }

    fn free_slot(&mut self) -> Option<u32> {
        if let Some(index) = self.core.pop_free(&mut self.retries) {
            return Some(index);
        }
        if self.core.pending() != 0 {
            self.progress |= self.core.drive_lazily();
        }
        self.core.pop_free(&mut self.retries)
    }

    /// Puts a Built entry into the index, unless its key is there. The caller is pinned.
    fn commit(&mut self, index: u32, words: &[u64; 3]) -> Result<(), Refusal> {
        let home = self.core.home(words);
        let bucket = home.bucket;
        let place = &self.core.slot(index).place;
        let mut lane = None;
        let mut commit = bucket.load();
        loop {
            let refusal = match self.scan(home, commit, words) {
                Scan::Found(handle) => Some(Refusal::Duplicate(handle)),
                Scan::Absent { chained } if chained >= MAX_CHAIN => {
                    (lane.is_none() && commit.free_lane().is_none()).then_some(Refusal::Neighbourhood)
                }
                Scan::Absent { .. } => None,
            };
            if let Some(refusal) = refusal {
                if let Some(lane) = lane {
                    // It never was valid, so nobody relies on it: no grace period is needed.
                    bucket.give_back(lane);
                }
                return Err(refusal);
            }
            if lane.is_none()
                && let Some(free) = commit.free_lane()
            {
                let taken = commit.with_taken(free);
                if let Err(now) = bucket.exchange(commit, taken) {
                    commit = now;
                    self.retries += 1;
                    continue;
                }
                // The lane is this thread's. What was scanned is still all there is, as the word had not changed.
                commit = taken;
                lane = Some(free);
                home.lanes.set(free, index, home.tag);
            }
            let to = if let Some(lane) = lane {
                // Relaxed, also below: the exchange releases it.
                place.store(LANE | lane, Ordering::Relaxed);
                commit.with_valid(lane)
            } else {
                place.store(commit.head(), Ordering::Relaxed);
                commit.with_head(index)
            };
            match bucket.exchange(commit, to) {
                Ok(()) => return Ok(()),
                Err(now) => commit = now,
            }
            self.retries += 1;
        }
    }

    /// Looks for a live entry with this key among those that `commit`, loaded while pinned, holds.
    fn scan(&self, home: Home<'_>, commit: Commit, words: &[u64; 3]) -> Scan {
        let tagged = home.lanes.matches(home.tag);
        for lane in (0..LANES).filter(|&lane| commit.valid() >> lane & 1 != 0 && tagged.has(lane)) {
            if let Some(handle) = self.same(u32::from(home.lanes.slot(lane)), words) {
                return Scan::Found(handle);
            }
        }
        let mut chained = 0;
        let mut index = commit.head();
        while index != NONE {
            let slot = self.core.slot(index);
            if let Some(handle) = self.same(index, words) {
                return Scan::Found(handle);
            }
            // SeqCst: as in `Bucket::load`.
            let place = slot.place.load(Ordering::SeqCst);
            chained += u32::from(place & MARK == 0);
            index = place & LINK_MASK;
        }
        Scan::Absent { chained }
    }

    /// Whether the entry in this slot, which the index holds, has this key and is not retired.
    fn same(&self, index: u32, words: &[u64; 3]) -> Option<Handle> {
        let slot = self.core.slot(index);
        // Acquire: with Built or Live comes the key.
        let state = State(slot.state.load(Ordering::Acquire));
        if !state.is(Phase::Built) && !state.is(Phase::Live) {
            return None;
        }
        // SAFETY: this thread is pinned, and the entry was in the index while it was: it is committed, so its writer will
        // not take it back, and it is not reclaimed before this thread unpins. It was filled before it was Built.
        if unsafe { slot.key() } != words {
            return None;
        }
        if state.is(Phase::Built) {
            // Its writer has committed it but not published it yet. "Duplicate" must not be said of what no reader
            // finds, so that is done for it here.
            publish(slot, state);
        }
        Some(state.to_handle())
    }

    /// Unpublishes an entry at once: lookups that begin after this do not find it, and its key may be inserted again. It is
    /// dropped when its grace period is over. The token covers all that this writer has retired.
    ///
    /// Unless [`SaTable::try_reclaim`](crate::SaTable::try_reclaim) is called afterwards, that may be when a later insertion
    /// or retirement needs it: whoever wants the value gone soon calls it, see the crate's documentation.
    ///
    /// # Errors
    ///
    /// [`Stale`] if there is no such live entry (any more).
    pub fn retire(&mut self, handle: Handle) -> Result<GracePeriod, Stale> {
        let epoch = self.core.pin(self.line);
        let retired = self.unpublish(handle);
        self.unpin(epoch);
        let Some((grace, pending)) = retired else {
            self.stale += 1;
            return Err(Stale);
        };
        self.retired += 1;
        let grace = self.grace.map_or(grace, |earlier| earlier.max(grace));
        self.grace = Some(grace);
        if pending.is_multiple_of(LAZY) {
            self.progress |= self.core.drive_lazily();
        }
        Ok(grace)
    }

    /// The caller is pinned.
    fn unpublish(&mut self, handle: Handle) -> Option<(GracePeriod, u32)> {
        let index = handle.index();
        let slot = self.core.slots().get(index as usize)?;
        let live = State(handle.into_raw());
        // SeqCst: K of the proof in `epoch`. Acquire comes with it: the key and the place are complete.
        slot.state
            .compare_exchange(live.0, live.to(Phase::Retired).0, Ordering::SeqCst, Ordering::Relaxed)
            .ok()?;
        // SAFETY: this thread retired the entry, and has not put it into limbo.
        let words = unsafe { slot.key() };
        if *words != OUTBOUND {
            let bucket = self.core.home(words).bucket;
            // Relaxed: nobody else changes what says that this is a lane; and of a node only the link changes.
            let place = slot.place.load(Ordering::Relaxed);
            if place & LANE == 0 {
                // SeqCst: the link is frozen from here on, in S before the stamp.
                slot.place.fetch_or(MARK, Ordering::SeqCst);
                self.unlink_marked(bucket);
            } else {
                bucket.invalidate(place & LINK_MASK);
            }
        }
        Some(self.core.push_limbo(index))
    }

    /// Walks a chain to its end, taking every marked node out on the way. The caller is pinned.
    ///
    /// Afterwards no node that was marked before the call can be reached from the head. (Harris and Michael: a node is
    /// taken out by exchanging the link that leads to it, which fails if the node that has that link was itself
    /// marked, or anything else happened there; then the walk starts again, as another thread has made progress.)
    fn unlink_marked(&mut self, bucket: &Bucket) {
        'walk: loop {
            let mut commit = bucket.load();
            let mut previous: Option<&Slot<V>> = None;
            let mut index = commit.head();
            while index != NONE {
                let slot = self.core.slot(index);
                // SeqCst: as in `Bucket::load`, also below.
                let place = slot.place.load(Ordering::SeqCst);
                let next = place & LINK_MASK;
                if place & MARK == 0 {
                    previous = Some(slot);
                } else {
                    let done = if let Some(previous) = previous {
                        previous
                            .place
                            .compare_exchange(index, next, Ordering::SeqCst, Ordering::SeqCst)
                            .is_ok()
                    } else {
                        let to = commit.with_head(next);
                        bucket.exchange(commit, to).map(|()| commit = to).is_ok()
                    };
                    if !done {
                        self.retries += 1;
                        continue 'walk;
                    }
                }
                index = next;
            }
            return;
        }
    }

    fn unpin(&mut self, epoch: u64) {
        if epoch::unpin(self.line, epoch) {
            self.progress |= self.core.drive();
        }
    }

    /// The grace period of all that this writer has retired; `None` if that is nothing.
    pub fn grace(&self) -> Option<GracePeriod> {
        self.grace
    }

    /// Ends the series. [`Progress::ended`] tells whether grace periods, anybody's, may have ended in it.
    pub fn finish(self) -> Progress {
        ManuallyDrop::new(self).end()
    }

    fn end(&mut self) -> Progress {
        self.line.count(Counter::Inserted, self.inserted);
        self.line.count(Counter::Retired, self.retired);
        self.line.count(Counter::Refused, self.refused);
        self.line.count(Counter::Stale, self.stale);
        self.line.count(Counter::Retries, self.retries);
        self.progress
    }
}

impl<V> Drop for Writer<'_, V> {
    /// As [`finish`](Writer::finish), but tells nobody of the progress: for users that wait for no grace period.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

enum Scan {
    Found(Handle),
    /// Not there, among this many entries in the chain.
    Absent {
        chained: u32,
    },
}

/// Makes a committed entry Live, unless that has been done.
fn publish<V>(slot: &Slot<V>, state: State) {
    let (built, live) = (state.to(Phase::Built), state.to(Phase::Live));
    // Release: whoever loads Live finds the entry complete. Acquire: for a helper, which passes on what the writer
    // released with Built. Failing means that another thread has done it (and perhaps retired the entry since).
    let _ = slot.state.compare_exchange(built.0, live.0, Ordering::AcqRel, Ordering::Relaxed);
}

impl<V> fmt::Debug for Writer<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("inserted", &self.inserted)
            .field("retired", &self.retired)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsertError").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<V> fmt::Display for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no free slot"),
            Self::Duplicate(handle) => write!(f, "the key is that of {handle:?}"),
            Self::Neighbourhood => f.write_str("the key's neighbourhood is full"),
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no live entry has this handle")
    }
}

impl<V> core::error::Error for InsertError<V> {}
impl core::error::Error for Stale {}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::{Config, Protocol, SaTable};

    /// One lane (in unit tests) and `MAX_CHAIN` nodes, then no more, until one of them is reclaimed.
    #[test]
    fn a_full_neighbourhood_refuses_and_recovers() {
        let capacity = 200;
        let table = SaTable::try_new(Config::new(capacity, 1)).unwrap();
        let neighbours: Vec<_> = (0..)
            .map(|spi| InboundKey::v4(spi, [192, 0, 2, 1], Protocol::Esp))
            .filter(|key| table.neighbourhood(key) == 3)
            .take(MAX_CHAIN as usize + 2)
            .collect();
        let (last, keys) = neighbours.split_last().unwrap();
        let mut writer = table.writer(0);
        let handles: Vec<_> = keys.iter().map(|key| writer.insert(Some(*key), key.spi()).unwrap()).collect();
        let refused = writer.insert(Some(*last), 7).unwrap_err();
        assert_eq!((refused.refusal, refused.value), (Refusal::Neighbourhood, 7));
        assert_eq!(
            writer.insert(Some(keys[5]), 7).unwrap_err().refusal,
            Refusal::Duplicate(handles[5]),
            "a duplicate is named as one in a full neighbourhood, too"
        );
        for (n, handle) in handles.iter().enumerate() {
            // Behind a reader each removed entry is out of the chain, but its slot not free yet.
            let reader = table.enter(0);
            writer.retire(*handle).unwrap();
            for (key, handle) in keys.iter().zip(&handles).skip(n + 1) {
                assert_eq!(reader.find(key), Some((*handle, &key.spi())));
            }
            assert_eq!(reader.find(&keys[n]), None);
        }
        assert!(writer.insert(Some(*last), 7).is_ok());
    }
}
