//! What is compared, behind one trait: here `sa-table` and the bare slab, in `maps` the Rust peers, in `foreign` those in C.

use std::hint::black_box;
use std::marker::PhantomData;

use sa_table::{Config, Handle, InboundKey, Protocol, Reader, SaTable};

use crate::maps::MapKey;

/// The entry: 280 bytes, what an expanded AES-128 key, powers of the GHASH key, replay window, counters and addresses take.
pub(crate) type Value = [u64; 35];

/// Lookups per epoch entry, and per call of the tables that have none.
pub(crate) const BATCH: usize = 32;

/// One SA in both forms.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub inbound: InboundKey,
    pub map: MapKey,
}

/// The n-th key: random SPI, one of a few local addresses, a quarter of them IPv6.
pub(crate) fn key(n: u64) -> Key {
    // splitmix64 is a bijection: different n, different keys.
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let spi = z as u32;
    let host = (z >> 32) as u32;
    let (inbound, address) = if host.is_multiple_of(4) {
        let address = 0x2001_0db8_u128 << 96 | u128::from(host);
        (InboundKey::v6(spi, address.to_be_bytes(), Protocol::Esp), address)
    } else {
        let address = 0xffff_0000_0000 | u128::from(host);
        (InboundKey::v4(spi, host.to_be_bytes(), Protocol::Esp), address)
    };
    let (high, low) = ((address >> 64) as u64, address as u64);
    // The halves mixed as in `InboundKey`, for the sake of the same hash.
    Key { inbound, map: MapKey([high, low ^ high.rotate_left(40), u64::from(spi) | 50 << 32]) }
}

pub(crate) fn value(n: u64) -> Value {
    [n; 35]
}

/// A table that is measured.
pub(crate) trait Table: Sync {
    /// What a lookup takes.
    type Query: Copy + Send + Sync;

    /// What it is called in the report.
    fn name() -> &'static str;

    /// Whether threads may write while others read.
    const SHARED: bool = true;

    /// A table with these keys and room for `spare` more; and the query for each key.
    fn build(keys: &[Key], spare: usize) -> (Self, Vec<Self::Query>)
    where
        Self: Sized;

    /// Looks all of them up, which are there, in batches of [`BATCH`], and adds the first words of their values.
    fn run(&self, cpu: u32, queries: &[Self::Query]) -> u64;

    /// Adds and deletes keys, starting with the n-th, until told to stop; gives the number of pairs. At most
    /// [`WINDOW`] are in the table at a time.
    fn churn(&self, cpu: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        let _ = (cpu, first, stop);
        0
    }
}

/// How many of its keys a writer leaves in the table.
pub(crate) const WINDOW: u64 = 64;

/// Generation and value in the slot, nothing else.
pub(crate) struct Slab(Vec<(u64, Value)>);

impl Slab {
    #[inline(never)]
    fn batch(&self, queries: &[u64]) -> u64 {
        let mut sum = 0u64;
        for query in queries {
            if let Some((generation, value)) = self.0.get((query & 0xffff) as usize)
                && generation == query
            {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }
}

impl Table for Slab {
    type Query = u64;

    const SHARED: bool = false;

    fn name() -> &'static str {
        "bare slab"
    }

    fn build(keys: &[Key], _: usize) -> (Self, Vec<u64>) {
        let entries = (0..keys.len() as u64).map(|n| (7 << 17 | n, value(n))).collect();
        (Self(entries), (0..keys.len() as u64).map(|n| 7 << 17 | n).collect())
    }

    fn run(&self, _: u32, queries: &[u64]) -> u64 {
        batches(queries, |batch| self.batch(batch))
    }
}

/// `sa-table`, looked up in one of several ways.
pub(crate) struct Ours<W>(SaTable<Value>, PhantomData<W>);

/// How entries of `sa-table` are looked up.
pub(crate) trait Way: Sync {
    /// A handle or a key.
    type Query: Copy + Send + Sync;
    const NAME: &'static str;
    fn query(handle: Handle, key: &Key) -> Self::Query;
    fn run(table: &SaTable<Value>, cpu: u32, queries: &[Self::Query]) -> u64;
}

/// By handle or by key, a reader for each batch.
pub(crate) struct Entered<Q>(PhantomData<Q>);
/// By handle or by key, one reader that is renewed after each batch.
pub(crate) struct Renewed<Q>(PhantomData<Q>);
/// As `Renewed`, but all keys of a batch at once.
pub(crate) struct Many;

/// What a batch is made of.
pub(crate) trait Query: Copy + Send + Sync {
    fn of(handle: Handle, key: &Key) -> Self;
    /// Looks all of them up.
    fn batch(reader: &Reader<'_, Value>, queries: &[Self]) -> u64;
}

impl Query for Handle {
    fn of(handle: Handle, _: &Key) -> Self {
        handle
    }

    #[inline]
    fn batch(reader: &Reader<'_, Value>, queries: &[Self]) -> u64 {
        let mut sum = 0u64;
        for query in queries {
            if let Some(value) = reader.get(*query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }
}

impl Query for InboundKey {
    fn of(_: Handle, key: &Key) -> Self {
        key.inbound
    }

    #[inline]
    fn batch(reader: &Reader<'_, Value>, queries: &[Self]) -> u64 {
        let mut sum = 0u64;
        for query in queries {
            if let Some((_, value)) = reader.find(query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }
}

impl<Q: Query> Way for Entered<Q> {
    type Query = Q;
    const NAME: &'static str = "sa-table";

    fn query(handle: Handle, key: &Key) -> Q {
        Q::of(handle, key)
    }

    fn run(table: &SaTable<Value>, cpu: u32, queries: &[Q]) -> u64 {
        // Not inlined, as with all tables: one call per batch.
        #[inline(never)]
        fn one<Q: Query>(table: &SaTable<Value>, cpu: u32, batch: &[Q]) -> u64 {
            let reader = table.enter(cpu);
            let sum = Q::batch(&reader, batch);
            let _ = reader.leave();
            sum
        }
        batches(queries, |batch| one(table, cpu, batch))
    }
}

impl<Q: Query> Way for Renewed<Q> {
    type Query = Q;
    const NAME: &'static str = "sa-table, renewed";

    fn query(handle: Handle, key: &Key) -> Q {
        Q::of(handle, key)
    }

    fn run(table: &SaTable<Value>, cpu: u32, queries: &[Q]) -> u64 {
        #[inline(never)]
        fn one<Q: Query>(reader: &mut Reader<'_, Value>, batch: &[Q]) -> u64 {
            let sum = Q::batch(reader, batch);
            let _ = reader.renew();
            sum
        }
        let mut reader = table.enter(cpu);
        let sum = batches(queries, |batch| one(&mut reader, batch));
        let _ = reader.leave();
        sum
    }
}

impl Way for Many {
    type Query = InboundKey;
    const NAME: &'static str = "sa-table, find_many";

    fn query(_: Handle, key: &Key) -> InboundKey {
        key.inbound
    }

    fn run(table: &SaTable<Value>, cpu: u32, queries: &[InboundKey]) -> u64 {
        #[inline(never)]
        fn one(reader: &mut Reader<'_, Value>, keys: &[InboundKey]) -> u64 {
            let mut sum = 0u64;
            reader.find_many(keys, |_, found| {
                if let Some((_, value)) = found {
                    sum = sum.wrapping_add(value[0]);
                }
            });
            let _ = reader.renew();
            sum
        }
        let mut reader = table.enter(cpu);
        let sum = batches(queries, |batch| one(&mut reader, batch));
        let _ = reader.leave();
        sum
    }
}

/// Adds up what the batches of these queries give.
pub(crate) fn batches<Q>(queries: &[Q], mut batch: impl FnMut(&[Q]) -> u64) -> u64 {
    queries.chunks(BATCH).fold(0, |sum, queries| sum ^ batch(black_box(queries)))
}

impl<W: Way> Table for Ours<W> {
    type Query = W::Query;

    fn name() -> &'static str {
        W::NAME
    }

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<W::Query>) {
        let config = Config { first_generation: 7, ..Config::new((keys.len() + spare) as u32, 4) };
        let table = SaTable::try_new(config).unwrap();
        let mut writer = table.writer(0);
        let queries = (0..)
            .zip(keys)
            .map(|(n, key)| W::query(writer.insert(Some(key.inbound), value(n)).unwrap(), key))
            .collect();
        let _ = writer.finish();
        (Self(table, PhantomData), queries)
    }

    fn run(&self, cpu: u32, queries: &[W::Query]) -> u64 {
        W::run(&self.0, cpu, queries)
    }

    fn churn(&self, cpu: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        let table = &self.0;
        let mut window = std::collections::VecDeque::new();
        let mut pairs = 0;
        let mut n = first;
        while !stop() {
            let mut writer = table.writer(cpu);
            for _ in 0..16 {
                // Full while a reader is preempted: try again.
                if let Ok(handle) = writer.insert(Some(key(n).inbound), value(n)) {
                    window.push_back(handle);
                    n += 1;
                }
                if window.len() as u64 >= WINDOW {
                    let _ = writer.retire(window.pop_front().unwrap());
                    pairs += 1;
                }
            }
            let _ = writer.finish();
        }
        let mut writer = table.writer(cpu);
        for handle in window {
            let _ = writer.retire(handle);
        }
        let _ = writer.finish();
        let _ = table.try_reclaim();
        pairs
    }
}
