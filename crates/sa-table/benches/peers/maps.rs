//! The Rust peers: `hashbrown`, which knows nothing of threads, and concurrent maps.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Deref;

use crate::tables::{Key, Table, Value, WINDOW, batches, key, value};

/// A key for maps that know nothing of IPsec: the same 24 bytes as an `InboundKey`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct MapKey(pub(crate) [u64; 3]);

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

/// `hashbrown` with its own hash, or with ours.
pub(crate) struct Plain<S>(hashbrown::HashMap<MapKey, Value, S>);

/// A hash that maps are measured with: their own, or the one that `sa-table` has.
pub(crate) trait MapHash: BuildHasher + Clone + Default + Send + Sync + 'static {
    /// One of a map's two names.
    fn name(own: &'static str, same: &'static str) -> &'static str;
}

impl MapHash for hashbrown::DefaultHashBuilder {
    fn name(own: &'static str, _: &'static str) -> &'static str {
        own
    }
}

impl MapHash for RandomState {
    fn name(own: &'static str, _: &'static str) -> &'static str {
        own
    }
}

impl MapHash for SameHash {
    fn name(_: &'static str, same: &'static str) -> &'static str {
        same
    }
}

/// Looks all of them up and adds the first words of their values.
#[inline]
fn sum<V: Deref<Target = Value>>(queries: &[MapKey], mut get: impl FnMut(&MapKey) -> Option<V>) -> u64 {
    let mut sum = 0u64;
    for query in queries {
        if let Some(value) = get(query) {
            sum = sum.wrapping_add(value[0]);
        }
    }
    sum
}

impl<S: MapHash> Table for Plain<S> {
    type Query = MapKey;

    const SHARED: bool = false;

    fn name() -> &'static str {
        S::name("hashbrown", "hashbrown, same hash")
    }

    fn build(keys: &[Key], _: usize) -> (Self, Vec<MapKey>) {
        let map = (0..).zip(keys).map(|(n, key)| (key.map, value(n))).collect();
        (Self(map), keys.iter().map(|key| key.map).collect())
    }

    fn run(&self, _: u32, queries: &[MapKey]) -> u64 {
        #[inline(never)]
        fn one<S: MapHash>(map: &hashbrown::HashMap<MapKey, Value, S>, batch: &[MapKey]) -> u64 {
            sum(batch, |key| map.get(key))
        }
        batches(queries, |batch| one(&self.0, batch))
    }
}

/// The churn of a map with `insert` and `remove`.
pub(crate) fn map_churn(
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

/// What is asked of a map that threads share.
pub(crate) trait SharedMap: Sync {
    fn name() -> &'static str;
    fn with_room_for(entries: usize) -> Self;
    fn insert(&self, key: MapKey, value: &Value);
    fn remove(&self, key: &MapKey);
    /// The [`sum`] of these, with one guard for all if the map has guards. Not inlined, as with all tables: one call per batch.
    fn batch(&self, queries: &[MapKey]) -> u64;
}

/// A map that threads share.
pub(crate) struct Shared<M>(M);

/// `papaya`, one guard per batch.
pub(crate) type Papaya<S> = Shared<papaya::HashMap<MapKey, Value, S>>;
/// `scc::HashIndex`, one guard per batch.
pub(crate) type Scc<S> = Shared<scc::HashIndex<MapKey, Value, S>>;
/// `dashmap`, which locks a shard for each lookup.
pub(crate) type Dash<S> = Shared<dashmap::DashMap<MapKey, Value, S>>;

impl<M: SharedMap> Table for Shared<M> {
    type Query = MapKey;

    fn name() -> &'static str {
        M::name()
    }

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<MapKey>) {
        let map = M::with_room_for(keys.len() + spare);
        for (n, key) in (0..).zip(keys) {
            map.insert(key.map, &value(n));
        }
        (Self(map), keys.iter().map(|key| key.map).collect())
    }

    fn run(&self, _: u32, queries: &[MapKey]) -> u64 {
        batches(queries, |batch| self.0.batch(batch))
    }

    fn churn(&self, _: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        map_churn(first, stop, |key, value| self.0.insert(key, &value), |key| self.0.remove(&key))
    }
}

impl<S: MapHash> SharedMap for papaya::HashMap<MapKey, Value, S> {
    fn name() -> &'static str {
        S::name("papaya", "papaya, same hash")
    }

    fn with_room_for(entries: usize) -> Self {
        Self::with_capacity_and_hasher(entries, S::default())
    }

    fn insert(&self, key: MapKey, value: &Value) {
        self.pin().insert(key, *value);
    }

    fn remove(&self, key: &MapKey) {
        self.pin().remove(key);
    }

    #[inline(never)]
    fn batch(&self, queries: &[MapKey]) -> u64 {
        let map = self.pin();
        sum(queries, |key| map.get(key))
    }
}

impl<S: MapHash> SharedMap for scc::HashIndex<MapKey, Value, S> {
    fn name() -> &'static str {
        S::name("scc HashIndex", "scc HashIndex, same hash")
    }

    fn with_room_for(entries: usize) -> Self {
        Self::with_capacity_and_hasher(entries, S::default())
    }

    fn insert(&self, key: MapKey, value: &Value) {
        // Refused only if it is there, and keys are unique.
        let _ = self.insert_sync(key, *value);
    }

    fn remove(&self, key: &MapKey) {
        self.remove_sync(key);
    }

    #[inline(never)]
    fn batch(&self, queries: &[MapKey]) -> u64 {
        let guard = scc::Guard::new();
        sum(queries, |key| self.peek(key, &guard))
    }
}

impl<S: MapHash> SharedMap for dashmap::DashMap<MapKey, Value, S> {
    fn name() -> &'static str {
        S::name("dashmap", "dashmap, same hash")
    }

    fn with_room_for(entries: usize) -> Self {
        Self::with_capacity_and_hasher(entries, S::default())
    }

    fn insert(&self, key: MapKey, value: &Value) {
        dashmap::DashMap::insert(self, key, *value);
    }

    fn remove(&self, key: &MapKey) {
        dashmap::DashMap::remove(self, key);
    }

    #[inline(never)]
    fn batch(&self, queries: &[MapKey]) -> u64 {
        sum(queries, |key| self.get(key))
    }
}
