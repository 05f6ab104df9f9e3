//! The table itself: creation, what is done outside of readers and writers, and its end.

use core::fmt;

use allocator_api2::alloc::{AllocError, Allocator, Global};

use crate::epoch::Counter;
use crate::handle::{MAX_CAPACITY, MAX_GENERATION, MIN_GENERATION};
use crate::index::buckets_for;
use crate::key::{Hasher, InboundKey};
use crate::progress::{GracePeriod, Progress};
use crate::reader::Reader;
use crate::shared::Core;
use crate::storage::{Dimensions, Storage};
use crate::sync::Ordering;
use crate::writer::Writer;

/// How a table is made.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Slots, 1 to [`MAX_CAPACITY`]: live entries and those whose grace period is not over.
    pub capacity: u32,
    /// Lines of pin counters, 1 to [`MAX_READERS`]: as many as processors. Fewer work too, more slowly; a line is
    /// not claimed by anybody, so there is no most number of readers.
    pub readers: u32,
    /// Seed of the hash; a random one where others choose keys.
    pub seed: u64,
    /// The generation that all slots begin with, 1 to [`MAX_GENERATION`](crate::MAX_GENERATION). Handles of an earlier
    /// table (or another adapter's) are recognised if this one's generations do not meet that one's: pass a random
    /// number of 45 bits, or [`SaTable::next_generation`] of the table that this one follows.
    pub first_generation: usize,
}

impl Config {
    /// A table with this many slots for this many processors, with fixed seed and first generation.
    pub const fn new(capacity: u32, readers: u32) -> Self {
        Self { capacity, readers, seed: 0, first_generation: MIN_GENERATION }
    }
}

/// The most lines of pin counters.
pub const MAX_READERS: u32 = 4096;

/// Why a table was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// A number in the [`Config`] is out of its range.
    Config,
    /// The allocator has no such block.
    Memory,
}

/// A table of security associations; see the [crate's documentation](crate) for the protocol.
///
/// `V` is the association. Its `Drop` runs when no reader can see it any more, on whichever thread finds that out (at
/// its IRQL): it must not block or panic, and is where keys are zeroed. It lies in the table from
/// [`insert`](Writer::insert) on, and is not moved again.
pub struct SaTable<V, A: Allocator = Global> {
    core: Core<V>,
    allocator: A,
}

impl<V> SaTable<V> {
    /// [`try_new_in`](Self::try_new_in) the global allocator.
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    pub fn try_new(config: Config) -> Result<Self, CreateError> {
        Self::try_new_in(config, Global)
    }
}

impl<V, A: Allocator> SaTable<V, A> {
    /// Makes a table, and takes all memory that it will ever use: one block, of which no more than 16-byte alignment is
    /// asked.
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    pub fn try_new_in(config: Config, allocator: A) -> Result<Self, CreateError> {
        let Config { capacity, readers, seed, first_generation } = config;
        if !(1..=MAX_CAPACITY).contains(&capacity)
            || !(1..=MAX_READERS).contains(&readers)
            || !(MIN_GENERATION..=MAX_GENERATION).contains(&first_generation)
        {
            return Err(CreateError::Config);
        }
        let buckets = buckets_for(capacity);
        let dims = Dimensions { slots: capacity, buckets, lines: readers, first_generation };
        let storage = Storage::try_new_in(dims, &allocator).map_err(|AllocError| CreateError::Memory)?;
        Ok(Self { core: Core { storage, hasher: Hasher::new(seed) }, allocator })
    }

    /// Begins a batch of lookups: one read-modify-write here and one at its end. Wait-free; any IRQL up to DISPATCH, and the
    /// thread may be preempted while in it.
    ///
    /// `hint` is the number of the current processor; any number is right, but readers that share one slow each other
    /// down.
    ///
    /// # Panics
    ///
    /// When 2^30 readers with the same hint are alive, that is, when they are being leaked.
    #[inline]
    pub fn enter(&self, hint: u32) -> Reader<'_, V> {
        Reader::new(&self.core, hint)
    }

    /// Begins a series of insertions and retirements; `hint` as in [`enter`](Self::enter).
    pub fn writer(&self, hint: u32) -> Writer<'_, V> {
        Writer::new(&self.core, hint)
    }

    /// Reclaims what was retired, as far as readers allow, and sees to it that the last reader in the way goes on with
    /// it when it leaves. Never waits. Not to be called by a thread that is itself a reader: it would be in its own way
    /// (and go on when it leaves).
    pub fn try_reclaim(&self) -> Progress {
        if self.core.pending() == 0 { Progress::default() } else { self.core.drive() }
    }

    /// Whether no reader can see what was retired with this token, and its values have been dropped. Includes a full
    /// fence.
    ///
    /// Once true, true for ever for entries with this token; but while others are retired all the time it may become true
    /// only with one of theirs.
    pub fn is_over(&self, grace: GracePeriod) -> bool {
        self.core.is_over(grace)
    }

    /// Slots, free or not.
    pub fn capacity(&self) -> u32 {
        self.core.storage.slot_count()
    }

    /// The number of the bucket in which an entry with this key is looked for: keys that share it share its lanes and its chain. For
    /// those who want to see how the keys they use spread, or a full neighbourhood. Tables of one size and seed agree on it.
    pub fn neighbourhood(&self, key: &InboundKey) -> u32 {
        self.core.storage.index().number(self.core.hasher.hash(key.words()))
    }

    /// Counters. Those of writers are exact once the writers have finished. `probes` and `stale` may be a little low if more
    /// threads than there are lines look things up at the same time.
    pub fn stats(&self) -> Stats {
        let sum = |counter| self.core.sum(counter);
        let (inserted, retired) = (sum(Counter::Inserted), sum(Counter::Retired));
        Stats {
            capacity: self.capacity(),
            occupancy: u32::try_from(inserted.saturating_sub(retired))
                .unwrap_or(u32::MAX)
                .min(self.capacity()),
            pending: self.core.pending(),
            // Relaxed: a statistic.
            worn_out: self.core.control().limbo.0.worn_out.load(Ordering::Relaxed),
            inserted,
            retired,
            refused: sum(Counter::Refused),
            retries: sum(Counter::Retries),
            probes: sum(Counter::Probes),
            stale: sum(Counter::Stale),
            epoch: self.core.epoch(),
            bytes: self.core.storage.bytes(),
        }
    }

    /// Drops all values now, at halt, say; returns how many. The table is empty afterwards, and can be used; handles and
    /// tokens of before are stale and over.
    pub fn drain(&mut self) -> u32 {
        self.core.reset()
    }

    /// A generation that no slot has reached, as [`Config::first_generation`] for the table that follows this one; `None`
    /// if the numbers are used up.
    pub fn next_generation(&self) -> Option<usize> {
        // Relaxed: the caller is about to drop the table.
        let generation = |slot: &crate::slot::Slot<V>| {
            crate::handle::State(slot.state.load(Ordering::Relaxed)).generation()
        };
        let next = self.core.slots().iter().map(generation).max()? + 1;
        (next <= MAX_GENERATION).then_some(next)
    }
}

impl<V, A: Allocator> Drop for SaTable<V, A> {
    fn drop(&mut self) {
        self.core.reset();
        // SAFETY: the block came from this allocator, and this is the end of the table.
        unsafe { self.core.storage.free(&self.allocator) };
    }
}

impl<V, A: Allocator> fmt::Debug for SaTable<V, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SaTable").field(&self.stats()).finish()
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "a number in the configuration is out of range",
            Self::Memory => "no memory for the table",
        })
    }
}

impl core::error::Error for CreateError {}

/// The state of a table in numbers; all counters since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Slots.
    pub capacity: u32,
    /// Live entries.
    pub occupancy: u32,
    /// Retired entries that have not been reclaimed.
    pub pending: u32,
    /// Slots that have had all their generations and will not be used again.
    pub worn_out: u32,
    /// Insertions that succeeded.
    pub inserted: u64,
    /// Retirements that succeeded.
    pub retired: u64,
    /// Insertions that were refused, for whatever reason.
    pub refused: u64,
    /// Attempts that writers repeated because another writer was faster.
    pub retries: u64,
    /// Slots that lookups by key compared in vain, beyond the one they were looking for.
    pub probes: u64,
    /// Lookups and retirements with a handle that named no live entry.
    pub stale: u64,
    /// The epoch number.
    pub epoch: u64,
    /// Bytes taken from the allocator.
    pub bytes: usize,
}
