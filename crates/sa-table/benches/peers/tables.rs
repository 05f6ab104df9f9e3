//! The tables that are compared, behind one trait.

use std::hash::{BuildHasher, Hash, Hasher};

use sa_table::{Config, Handle, InboundKey, Protocol, SaTable};

/// The entry: 280 bytes, what an expanded AES-128 key, powers of the GHASH key, replay window, counters and addresses take.
pub(crate) type Value = [u64; 35];

/// Lookups per epoch entry, and per call of the tables that have none.
pub(crate) const BATCH: usize = 32;

/// A key for maps that know nothing of IPsec: the same 24 bytes as an `InboundKey`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapKey([u64; 3]);

impl Hash for MapKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.0 {
            state.write_u64(word);
        }
    }
}

/// The hash of `sa-table`, for the maps: so that not the hash functions are compared.
#[derive(Clone, Copy, Default)]
pub(crate) struct SameHash;

#[derive(Clone, Copy)]
pub(crate) struct SameHasher([u64; 3], usize);

const SEED: u64 = 0xe220_a839_7b1d_cdaf;

impl BuildHasher for SameHash {
    type Hasher = SameHasher;

    fn build_hasher(&self) -> SameHasher {
        SameHasher([0; 3], 0)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for SameHasher {
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0[self.1 % 3] = word;
        self.1 += 1;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are words");
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.0[1] ^ SEED, self.0[2] ^ SEED)
    }
}

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

    const NAME: &'static str;
    /// Whether threads may write while others read.
    const SHARED: bool = true;

    /// A table with these keys and room for `spare` more; and the query for each key.
    fn build(keys: &[Key], spare: usize) -> (Self, Vec<Self::Query>)
    where
        Self: Sized;

    /// Looks all of them up, which are there, and adds the first words of their values.
    fn batch(&self, cpu: u32, queries: &[Self::Query]) -> u64;

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

impl Table for Slab {
    type Query = u64;

    const NAME: &'static str = "bare slab";
    const SHARED: bool = false;

    fn build(keys: &[Key], _: usize) -> (Self, Vec<u64>) {
        let entries = (0..keys.len() as u64).map(|n| (7 << 17 | n, value(n))).collect();
        (Self(entries), (0..keys.len() as u64).map(|n| 7 << 17 | n).collect())
    }

    #[inline(never)]
    fn batch(&self, _: u32, queries: &[u64]) -> u64 {
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

/// `sa-table` by handle.
pub(crate) struct ByHandle(SaTable<Value>);

/// `sa-table` by key.
pub(crate) struct ByKey(SaTable<Value>);

fn sa_table(keys: &[Key], spare: usize) -> (SaTable<Value>, Vec<Handle>) {
    let config = Config { first_generation: 7, ..Config::new((keys.len() + spare) as u32, 4) };
    let table = SaTable::try_new(config).unwrap();
    let mut writer = table.writer(0);
    let handles =
        (0..).zip(keys).map(|(n, key)| writer.insert(Some(key.inbound), value(n)).unwrap()).collect();
    let _ = writer.finish();
    (table, handles)
}

fn sa_churn(table: &SaTable<Value>, cpu: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
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

impl Table for ByHandle {
    type Query = Handle;

    const NAME: &'static str = "sa-table";

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<Handle>) {
        let (table, handles) = sa_table(keys, spare);
        (Self(table), handles)
    }

    #[inline(never)]
    fn batch(&self, cpu: u32, queries: &[Handle]) -> u64 {
        let mut sum = 0u64;
        let reader = self.0.enter(cpu);
        for query in queries {
            if let Some(value) = reader.get(*query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        let _ = reader.leave();
        sum
    }

    fn churn(&self, cpu: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        sa_churn(&self.0, cpu, first, stop)
    }
}

impl Table for ByKey {
    type Query = InboundKey;

    const NAME: &'static str = "sa-table";

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<InboundKey>) {
        let (table, _) = sa_table(keys, spare);
        (Self(table), keys.iter().map(|key| key.inbound).collect())
    }

    #[inline(never)]
    fn batch(&self, cpu: u32, queries: &[InboundKey]) -> u64 {
        let mut sum = 0u64;
        let reader = self.0.enter(cpu);
        for query in queries {
            if let Some((_, value)) = reader.find(query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        let _ = reader.leave();
        sum
    }

    fn churn(&self, cpu: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        sa_churn(&self.0, cpu, first, stop)
    }
}

/// `hashbrown` with its own hash, or with ours.
pub(crate) struct Plain<S>(hashbrown::HashMap<MapKey, Value, S>);

pub(crate) trait Named: BuildHasher + Default + Sync {
    const NAME: &'static str;
}

impl Named for hashbrown::DefaultHashBuilder {
    const NAME: &'static str = "hashbrown";
}

impl Named for SameHash {
    const NAME: &'static str = "hashbrown, same hash";
}

impl<S: Named> Table for Plain<S> {
    type Query = MapKey;

    const NAME: &'static str = S::NAME;
    const SHARED: bool = false;

    fn build(keys: &[Key], _: usize) -> (Self, Vec<MapKey>) {
        let map = (0..).zip(keys).map(|(n, key)| (key.map, value(n))).collect();
        (Self(map), keys.iter().map(|key| key.map).collect())
    }

    #[inline(never)]
    fn batch(&self, _: u32, queries: &[MapKey]) -> u64 {
        let mut sum = 0u64;
        for query in queries {
            if let Some(value) = self.0.get(query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }
}

/// The churn of a map with `insert` and `remove`.
fn map_churn(
    first: u64,
    stop: &dyn Fn() -> bool,
    mut insert: impl FnMut(MapKey, Value),
    mut remove: impl FnMut(MapKey),
) -> u64 {
    let mut n = first;
    while !stop() {
        for _ in 0..16 {
            insert(key(n).map, value(n));
            if n - first >= WINDOW {
                remove(key(n - WINDOW).map);
            }
            n += 1;
        }
    }
    for n in n.saturating_sub(WINDOW).max(first)..n {
        remove(key(n).map);
    }
    n - first
}

/// `papaya`, one guard per batch.
pub(crate) struct Papaya(papaya::HashMap<MapKey, Value, SameHash>);

impl Table for Papaya {
    type Query = MapKey;

    const NAME: &'static str = "papaya";

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<MapKey>) {
        let map = papaya::HashMap::with_capacity_and_hasher(keys.len() + spare, SameHash);
        for (n, key) in (0..).zip(keys) {
            map.pin().insert(key.map, value(n));
        }
        (Self(map), keys.iter().map(|key| key.map).collect())
    }

    #[inline(never)]
    fn batch(&self, _: u32, queries: &[MapKey]) -> u64 {
        let mut sum = 0u64;
        let map = self.0.pin();
        for query in queries {
            if let Some(value) = map.get(query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }

    fn churn(&self, _: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        map_churn(
            first,
            stop,
            |key, value| {
                self.0.pin().insert(key, value);
            },
            |key| {
                self.0.pin().remove(&key);
            },
        )
    }
}

/// `scc::HashIndex`, one guard per batch.
pub(crate) struct Scc(scc::HashIndex<MapKey, Value, SameHash>);

impl Table for Scc {
    type Query = MapKey;

    const NAME: &'static str = "scc HashIndex";

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<MapKey>) {
        let map = scc::HashIndex::with_capacity_and_hasher(keys.len() + spare, SameHash);
        for (n, key) in (0..).zip(keys) {
            let _ = map.insert_sync(key.map, value(n));
        }
        (Self(map), keys.iter().map(|key| key.map).collect())
    }

    #[inline(never)]
    fn batch(&self, _: u32, queries: &[MapKey]) -> u64 {
        let mut sum = 0u64;
        let guard = scc::Guard::new();
        for query in queries {
            if let Some(value) = self.0.peek(query, &guard) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }

    fn churn(&self, _: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        map_churn(
            first,
            stop,
            |key, value| {
                let _ = self.0.insert_sync(key, value);
            },
            |key| {
                self.0.remove_sync(&key);
            },
        )
    }
}

/// `dashmap`, which locks a shard for each lookup.
pub(crate) struct Dash(dashmap::DashMap<MapKey, Value, SameHash>);

impl Table for Dash {
    type Query = MapKey;

    const NAME: &'static str = "dashmap";

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<MapKey>) {
        let map = dashmap::DashMap::with_capacity_and_hasher(keys.len() + spare, SameHash);
        for (n, key) in (0..).zip(keys) {
            map.insert(key.map, value(n));
        }
        (Self(map), keys.iter().map(|key| key.map).collect())
    }

    #[inline(never)]
    fn batch(&self, _: u32, queries: &[MapKey]) -> u64 {
        let mut sum = 0u64;
        for query in queries {
            if let Some(value) = self.0.get(query) {
                sum = sum.wrapping_add(value[0]);
            }
        }
        sum
    }

    fn churn(&self, _: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        map_churn(
            first,
            stop,
            |key, value| {
                self.0.insert(key, value);
            },
            |key| {
                self.0.remove(&key);
            },
        )
    }
}
