//! The SA slots: [`sa_table::SaTable`] of [`Sa`]s, with the NIC's words for it.
//!
//! An [`Sa`] owns its key. It is moved in once ([`Slots::add`]) and dropped where it lies, by the table, after every [`Reader`] that could
//! have found it has left; what a reader finds borrows it, so nothing here can be kept longer. `docs/freed-keys.md` has the whole
//! argument why no packet touches a key that was freed, and why a DELETE_SA does not say so too early.

use core::{
    net::Ipv4Addr,
    num::{NonZeroU32, NonZeroUsize},
};

use sa_table::{Config, InboundKey, MAX_GENERATION, Protocol, Refusal, SaTable};
pub use sa_table::{GracePeriod, Handle, Progress, Stats};

use super::{
    engine::Selector,
    sa::{Direction, Sa},
};
use crate::kernel::{OutOfMemory, Pool};

/// Why an SA was not added. It has been dropped, its key wiped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// No slot is free.
    Full,
    /// An inbound SA with this SPI, destination and protocol exists. It stays as it is.
    Duplicate,
}

/// The slots of one NIC.
pub struct Slots {
    table: SaTable<Sa, Pool>,
}

/// Which NIC of all that there have been this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The load of the image that it belongs to: a number that no other load has had.
    pub load: u64,
    /// Its number among the NICs of that load.
    pub number: usize,
}

impl Life {
    /// Generations of one slot that belong to one life.
    const GENERATIONS: u32 = 32;
    /// Lives of a load whose generations do not meet. The first generation of any is below half of what a slot can have, so
    /// that no slot wears out early.
    const APART: usize = MAX_GENERATION.div_ceil(2) >> Self::GENERATIONS;

    /// The generation that all slots of this life begin with.
    ///
    /// Lives of one load are 2^32 generations apart: a handle of one names nothing in another, for sure while no slot is
    /// used more often than that and there have been no more than [`APART`](Self::APART) lives. Where a load begins is
    /// not known to any other load, whose lives nobody counts together with this one's: it is made of its number by a mixer.
    /// A given handle of another load names something in a life of this one by one chance in 2^44.
    #[expect(clippy::cast_possible_truncation, reason = "kernels that this is for have 64 bits")]
    fn first_generation(self) -> usize {
        let round = (self.number / Self::APART) as u64;
        let [low, high] = [mix(self.load ^ round << 48), mix(!self.load)].map(|mixed| mixed as usize);
        let apart = (self.number % Self::APART).wrapping_add(high) % Self::APART;
        // No table begins at 0.
        (apart << Self::GENERATIONS | (low & ((1 << (Self::GENERATIONS - 1)) - 1))).max(1)
    }
}

/// A bijection of 64 bits in which each bit of the result depends on all of the argument (Stafford's 13th variant of
/// MurmurHash3's finaliser, as in SplitMix64).
const fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

impl Slots {
    /// Takes the memory for `capacity` SAs.
    ///
    /// `life` is another one for each NIC there has been, so that a handle of one means nothing in another. `processors` may look SAs up at once without slowing each other down.
    /// With `uses`, for tests, each slot is worn out after so many SAs, and the handles of two NICs may be alike.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_new(
        capacity: u32,
        processors: u32,
        life: Life,
        uses: Option<NonZeroU32>,
    ) -> Result<Self, OutOfMemory> {
        let last = |uses: NonZeroU32| (MAX_GENERATION + 1).saturating_sub(uses.get() as usize).max(1);
        // The hash has no secret seed: inbound SPIs are chosen by this host (RFC 4301, 4.1), and what a packet with a chosen
        // SPI can have looked at is a chain of bounded length.
        let config = Config {
            first_generation: uses.map_or_else(|| life.first_generation(), last),
            ..Config::new(capacity, processors.clamp(1, sa_table::MAX_READERS))
        };
        SaTable::try_new_in(config, Pool::default()).map(|table| Self { table }).map_err(|_| OutOfMemory)
    }

    /// Publishes an SA; its handle is never 0. The [`Progress`] counts whether it was added or refused: looking for room
    /// or for a duplicate can be what ends a grace period.
    pub fn add(&self, processor: u32, sa: Sa) -> (Result<NonZeroUsize, AddError>, Progress) {
        let key = match sa.direction() {
            Direction::Inbound => Some(InboundKey::v4(sa.spi(), sa.destination().octets(), Protocol::Esp)),
            Direction::Outbound => None,
        };
        let mut writer = self.table.writer(processor);
        let added = writer.insert(key, sa);
        let progress = writer.finish();
        let handle = match added {
            Ok(handle) => NonZeroUsize::new(handle.into_raw()).ok_or(AddError::Full),
            Err(refused) => Err(match refused.refusal {
                Refusal::Duplicate(_) => AddError::Duplicate,
                _ => AddError::Full,
            }),
        };
        (handle, progress)
    }

    /// Begins to delete SAs.
    pub fn deleter(&self, processor: u32) -> Deleter<'_> {
        Deleter { writer: self.table.writer(processor), unknown: 0 }
    }

    /// Begins a batch of look-ups.
    pub fn enter(&self, processor: u32) -> Reader<'_> {
        Reader { reader: self.table.enter(processor) }
    }

    /// Frees what was deleted, as far as no reader is in the way; the last reader that is goes on with it.
    pub fn try_reclaim(&self) -> Progress {
        self.table.try_reclaim()
    }

    /// What there is and what was done, in numbers.
    pub fn stats(&self) -> Stats {
        self.table.stats()
    }

    /// Whether what was deleted under `grace` is freed.
    pub fn is_over(&self, grace: GracePeriod) -> bool {
        self.table.is_over(grace)
    }
}

/// A series of deletions. End it with [`Deleter::finish`].
pub struct Deleter<'a> {
    writer: sa_table::Writer<'a, Sa>,
    unknown: u32,
}

impl Deleter<'_> {
    /// Unpublishes an SA: from now on no packet finds it. A handle that names none is skipped and counted.
    pub fn delete(&mut self, handle: usize) {
        let retired = Handle::from_raw(handle).map(|handle| self.writer.retire(handle));
        if !matches!(retired, Some(Ok(_))) {
            self.unknown += 1;
        }
    }

    /// Ends the series: the grace period that all its SAs are freed after (`None` if there were none), and how many
    /// handles were skipped.
    pub fn finish(self) -> (Option<GracePeriod>, u32, Progress) {
        let grace = self.writer.grace();
        (grace, self.unknown, self.writer.finish())
    }
}

/// A batch of look-ups. What it finds lives as long as the batch.
pub struct Reader<'a> {
    reader: sa_table::Reader<'a, Sa>,
}

impl Reader<'_> {
    /// The SA that the host calls `handle`.
    pub fn get(&self, handle: usize) -> Option<&Sa> {
        self.reader.get(Handle::from_raw(handle)?)
    }

    /// The inbound SA that a packet asks for (RFC 4301 §4.1): the one for its destination if it is from the right sender,
    /// else one for any destination.
    pub fn find(&self, selector: &Selector) -> Option<&Sa> {
        self.find_to(selector, selector.destination).or_else(|| self.find_to(selector, Ipv4Addr::UNSPECIFIED))
    }

    fn find_to(&self, selector: &Selector, destination: Ipv4Addr) -> Option<&Sa> {
        let key = InboundKey::v4(selector.spi, destination.octets(), Protocol::Esp);
        let (_, sa) = self.reader.find(&key)?;
        sa.covers(selector.source, selector.destination).then_some(sa)
    }

    /// Every SA with its handle, by slot number.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &Sa)> {
        self.reader.iter().map(|entry| (entry.handle, entry.value))
    }

    /// Ends the batch.
    pub fn leave(self) -> Progress {
        self.reader.leave()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, vec::Vec};

    use super::*;

    #[test]
    fn lives_of_a_load_are_apart_and_loads_begin_anywhere() {
        let mut beginnings = HashSet::new();
        for load in [0, 1, 2, 1000, u64::MAX] {
            let first = |number| Life { load, number }.first_generation();
            let mut firsts: Vec<_> = (0..Life::APART).map(first).collect();
            assert!(firsts.iter().all(|first| (1..=MAX_GENERATION / 2 + 1).contains(first)));
            firsts.sort_unstable();
            assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] == 1 << 32), "load {load}");
            assert_ne!(first(Life::APART), first(0), "the next round begins elsewhere");
            assert!(beginnings.insert(first(0)) && beginnings.insert(firsts[0]));
        }
    }
}
