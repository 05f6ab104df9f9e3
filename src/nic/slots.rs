//! The SA slots: [`sa_table::SaTable`] of [`Sa`]s, with the NIC's words for it.

use core::{net::Ipv4Addr, num::NonZeroUsize};

use sa_table::{Config, InboundKey, Protocol, Refusal, SaTable};
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

/// Generations of one slot that belong to one life of an adapter; [`Slots::try_new`] says what for.
const GENERATIONS_PER_LIFE: u32 = 32;

impl Slots {
    /// Takes the memory for `capacity` SAs.
    ///
    /// `life` is another number for each NIC that this image has had, so that a handle of one life means nothing in
    /// another. `processors` may look SAs up at once without slowing each other down.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_new(capacity: u32, processors: u32, life: usize) -> Result<Self, OutOfMemory> {
        let config = Config {
            // No table begins at 0, as the first life would.
            first_generation: ((life << GENERATIONS_PER_LIFE) & sa_table::MAX_GENERATION).max(1),
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
