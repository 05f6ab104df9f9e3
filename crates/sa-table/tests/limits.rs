//! The defined limits: memory, capacity, generations; and what is dropped when.
#![cfg(not(any(loom, shuttle)))]

use std::alloc::Layout;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocator_api2::alloc::{AllocError, Allocator, Global};
use sa_table::{
    Config, CreateError, Handle, InboundKey, MAX_CAPACITY, MAX_GENERATION, MAX_READERS, Protocol, Refusal,
    SaTable, Stale,
};

fn key(spi: u32) -> InboundKey {
    InboundKey::v4(spi, [198, 51, 100, 7], Protocol::Esp)
}

fn insert<V, A: Allocator>(
    table: &SaTable<V, A>,
    key: Option<InboundKey>,
    value: V,
) -> Result<Handle, Refusal> {
    let mut writer = table.writer(0);
    let result = writer.insert(key, value).map_err(|error| error.refusal);
    let _ = writer.finish();
    result
}

fn retire<V, A: Allocator>(table: &SaTable<V, A>, handle: Handle) -> Result<(), Stale> {
    let mut writer = table.writer(0);
    let result = writer.retire(handle).map(drop);
    let _ = writer.finish();
    let _ = table.try_reclaim();
    result
}

/// A pool as a kernel has: 16-byte alignment and no more; the n-th allocation fails.
#[derive(Default)]
struct Pool {
    calls: Cell<usize>,
    live: Cell<usize>,
    fail_at: usize,
}

// SAFETY: blocks come from `Global`, shifted by 16 bytes; `deallocate` shifts them back.
unsafe impl Allocator for &Pool {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        assert!(layout.align() <= 16, "a pool has no such alignment");
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.fail_at {
            return Err(AllocError);
        }
        // 4,096-aligned plus 16: a block that is 16-byte aligned and not by chance more.
        let outer = Layout::from_size_align(layout.size() + 16, 4096).unwrap();
        let block = Global.allocate(outer)?;
        self.live.set(self.live.get() + layout.size());
        // SAFETY: the block is 16 bytes larger than asked.
        let inner = unsafe { block.cast::<u8>().add(16) };
        Ok(NonNull::slice_from_raw_parts(inner, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        self.live.set(self.live.get() - layout.size());
        let outer = Layout::from_size_align(layout.size() + 16, 4096).unwrap();
        // SAFETY: `allocate` made it so.
        unsafe { Global.deallocate(block.sub(16), outer) };
    }
}

#[test]
fn every_allocation_can_fail() {
    let mut fail_at = 1;
    loop {
        let pool = Pool { fail_at, ..Pool::default() };
        match SaTable::<u64, _>::try_new_in(Config::new(100, 4), &pool) {
            Err(error) => assert_eq!(error, CreateError::Memory),
            Ok(table) => {
                assert!(fail_at > 1, "nothing was allocated");
                let calls = pool.calls.get();
                let handles: Vec<_> =
                    (0..100).map(|n| insert(&table, Some(key(n)), u64::from(n)).unwrap()).collect();
                assert_eq!(insert(&table, None, 0), Err(Refusal::Full));
                for handle in handles {
                    retire(&table, handle).unwrap();
                }
                assert_eq!(pool.calls.get(), calls, "allocated after creation");
                assert_eq!(table.stats().bytes, pool.live.get());
                drop(table);
                assert_eq!(pool.live.get(), 0);
                return;
            }
        }
        assert_eq!(pool.live.get(), 0, "a failed creation leaked");
        fail_at += 1;
    }
}

#[test]
fn over_aligned_values_are_aligned_in_a_pool_block() {
    #[repr(align(256))]
    struct Wide(u8);
    let pool = Pool::default();
    let table = SaTable::<Wide, _>::try_new_in(Config::new(9, 1), &pool).unwrap();
    let handles: Vec<_> = (0..9u8).map(|n| insert(&table, None, Wide(n)).unwrap()).collect();
    let reader = table.enter(0);
    for (n, handle) in (0u8..).zip(handles) {
        let value = reader.get(handle).unwrap();
        assert_eq!((value.0, std::ptr::from_ref(value).addr() % 256), (n, 0));
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    let create = |capacity, readers, first_generation| {
        let config = Config { first_generation, ..Config::new(capacity, readers) };
        SaTable::<u8>::try_new(config).map(|table| table.capacity())
    };
    assert_eq!(create(0, 1, 1), Err(CreateError::Config));
    assert_eq!(create(1, 0, 1), Err(CreateError::Config));
    assert_eq!(create(MAX_CAPACITY + 1, 1, 1), Err(CreateError::Config));
    assert_eq!(create(1, MAX_READERS + 1, 1), Err(CreateError::Config));
    assert_eq!(create(1, 1, 0), Err(CreateError::Config));
    assert_eq!(create(1, 1, MAX_GENERATION + 1), Err(CreateError::Config));
    assert_eq!(create(1, MAX_READERS, MAX_GENERATION), Ok(1));
}

/// 2^64 bytes: noticed before the allocator is asked.
#[test]
fn sizes_that_overflow_are_no_memory() {
    type Huge = [u8; 1 << 48];
    assert!(matches!(SaTable::<Huge>::try_new(Config::new(MAX_CAPACITY, 1)), Err(CreateError::Memory)));
}

/// The goal of at most 24 bytes a slot beyond key and value, over the whole block.
#[test]
fn a_slot_costs_24_bytes_beyond_its_entry() {
    const ENTRY: usize = size_of::<InboundKey>() + size_of::<[u64; 27]>();
    for capacity in [4096, MAX_CAPACITY] {
        let bytes = |readers| {
            let table = SaTable::<[u64; 27]>::try_new(Config::new(capacity, readers)).unwrap();
            table.stats().bytes
        };
        let per_table = bytes(2) - bytes(1) + 512;
        let slots = capacity as usize;
        assert!(bytes(1) - per_table <= slots * (ENTRY + 24), "{}", bytes(1) / slots - ENTRY);
    }
}

#[test]
fn the_fullest_table_takes_every_slot_whatever_the_keys() {
    for seed in 0..3 {
        let config = Config { seed, ..Config::new(MAX_CAPACITY, 1) };
        let table = SaTable::<u32>::try_new(config).unwrap();
        for spi in 0..MAX_CAPACITY {
            assert!(insert(&table, Some(key(spi)), spi).is_ok(), "seed {seed}, SPI {spi}");
        }
        assert_eq!(insert(&table, None, 0), Err(Refusal::Full));
        let reader = table.enter(0);
        for spi in 0..MAX_CAPACITY {
            assert_eq!(reader.find(&key(spi)).map(|(_, value)| *value), Some(spi));
        }
        assert_eq!(reader.find(&key(MAX_CAPACITY)), None);
        let _ = reader.leave();
        assert_eq!(table.stats().occupancy, MAX_CAPACITY);
    }
}

#[test]
fn a_full_table_gives_the_value_back_and_a_reader_keeps_it_full() {
    let table = SaTable::<Box<u32>>::try_new(Config::new(2, 1)).unwrap();
    let first = insert(&table, Some(key(1)), Box::new(1)).unwrap();
    let second = insert(&table, None, Box::new(2)).unwrap();
    assert_eq!(*table.writer(0).insert(None, Box::new(3)).unwrap_err().value, 3);

    let reader = table.enter(0);
    let value = reader.get(first).unwrap();
    let mut writer = table.writer(0);
    let grace = writer.retire(first).unwrap();
    assert!(!writer.finish().ended());
    assert_eq!(reader.get(first), None);
    assert_eq!(insert(&table, None, Box::new(3)), Err(Refusal::Full));
    assert_eq!((table.stats().occupancy, table.stats().pending), (1, 1));
    let _ = table.try_reclaim();
    assert!(!table.is_over(grace));
    assert_eq!(**value, 1);
    assert!(reader.leave().ended(), "the last reader goes on");
    assert!(table.is_over(grace));
    assert_eq!((table.stats().occupancy, table.stats().pending), (1, 0));
    assert!(insert(&table, Some(key(1)), Box::new(4)).is_ok());
    retire(&table, second).unwrap();
    assert_eq!(retire(&table, second), Err(Stale));
}

#[test]
fn a_lazily_retired_entry_makes_room_for_an_insertion() {
    let table = SaTable::<u32>::try_new(Config::new(1, 1)).unwrap();
    let mut writer = table.writer(0);
    for n in 0..1000 {
        let handle = writer.insert(Some(key(n % 3)), n).unwrap();
        writer.retire(handle).unwrap();
    }
    assert!(writer.finish().ended());
}

#[test]
fn made_up_handles_are_recognised() {
    let config = Config { first_generation: 0x1234, ..Config::new(10, 1) };
    let table = SaTable::<u32>::try_new(config).unwrap();
    let handles: Vec<_> = (0..10).map(|n| insert(&table, Some(key(n)), n).unwrap()).collect();
    let stale = handles[3];
    retire(&table, stale).unwrap();
    let reader = table.enter(0);
    for handle in &handles {
        for bit in 0..usize::BITS {
            let Some(other) = Handle::from_raw(handle.into_raw() ^ 1 << bit) else { continue };
            assert_eq!(reader.get(other).is_some(), handles.contains(&other) && other != stale, "{other:?}");
            assert!(handles.contains(&other) || retire(&table, other).is_err());
        }
    }
    for raw in (0..1 << 16).chain([usize::MAX, isize::MAX as usize]) {
        assert!(Handle::from_raw(raw).is_none_or(|handle| reader.get(handle).is_none()));
    }
    assert!(table.enter(0).get(stale).is_none());
    drop(reader);
    assert!(table.stats().stale > 0);
}

/// A slot lives through its last generation and is then never used again.
#[test]
fn generations_end() {
    const LIVES: usize = 3;
    let config = Config { first_generation: MAX_GENERATION - (LIVES - 1), ..Config::new(2, 1) };
    let mut table = SaTable::<Arc<()>>::try_new(config).unwrap();
    let value = Arc::new(());
    let mut issued = Vec::new();
    for n in 0..2 * LIVES {
        assert_eq!(table.stats().worn_out as usize, n / LIVES);
        let handle = insert(&table, Some(key(7)), value.clone()).unwrap();
        assert!(!issued.contains(&handle));
        issued.push(handle);
        retire(&table, handle).unwrap();
        assert!(issued.iter().all(|handle| table.enter(0).get(*handle).is_none()));
    }
    assert_eq!(table.stats().worn_out, 2);
    assert_eq!(insert(&table, Some(key(7)), value.clone()), Err(Refusal::Full));
    assert_eq!(table.next_generation(), None);
    assert_eq!(table.drain(), 0, "nothing is dropped twice");
    assert_eq!(insert(&table, Some(key(7)), value.clone()), Err(Refusal::Full));
    drop(table);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// A table that follows another one knows none of its handles.
#[test]
fn handles_of_an_earlier_life_are_recognised() {
    let table = SaTable::<u32>::try_new(Config::new(4, 1)).unwrap();
    let mut old = Vec::new();
    for n in 0..20 {
        old.push(insert(&table, None, n).unwrap());
        if n % 4 != 0 {
            retire(&table, *old.last().unwrap()).unwrap();
        } else if n > 11 {
            for handle in &old {
                let _ = retire(&table, *handle);
            }
        }
    }
    let config = Config { first_generation: table.next_generation().unwrap(), ..Config::new(4, 1) };
    drop(table);
    let table = SaTable::<u32>::try_new(config).unwrap();
    let new: Vec<_> = (0..4).map(|n| insert(&table, None, n).unwrap()).collect();
    let reader = table.enter(0);
    assert!(old.iter().all(|handle| reader.get(*handle).is_none()));
    assert!(new.iter().all(|handle| reader.get(*handle).is_some()));
}

/// The value is dropped where it lay, so that zeroed keys leave no copy.
#[test]
fn a_value_is_dropped_in_place_and_once() {
    struct Key {
        at: Cell<usize>,
        dropped: Arc<AtomicUsize>,
    }
    impl Drop for Key {
        fn drop(&mut self) {
            assert_eq!(self.at.get(), std::ptr::from_ref(self).addr());
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut table = SaTable::try_new(Config::new(200, 2)).unwrap();
    let fill = |table: &SaTable<Key>| -> Vec<Handle> {
        let handles: Vec<_> = (0..200)
            .map(|n| {
                let sa = Key { at: Cell::new(0), dropped: dropped.clone() };
                let handle = table.writer(0).insert((n % 3 != 0).then(|| key(n)), sa);
                handle.unwrap_or_else(|error| {
                    std::mem::forget(error.value);
                    panic!("{:?}", error.refusal)
                })
            })
            .collect();
        let reader = table.enter(0);
        for handle in &handles {
            let sa = reader.get(*handle).unwrap();
            sa.at.set(std::ptr::from_ref(sa).addr());
        }
        handles
    };
    for handle in fill(&table) {
        retire(&table, handle).unwrap();
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 200);
    // Live ones and ones in limbo at halt.
    for (n, handle) in (0u32..).zip(fill(&table)) {
        if n % 2 == 0 {
            table.writer(0).retire(handle).unwrap();
        }
    }
    let in_limbo = table.stats().pending;
    assert!(in_limbo > 0);
    assert_eq!(table.drain(), 100 + in_limbo);
    assert_eq!(dropped.load(Ordering::Relaxed), 400);
    assert_eq!((table.stats().occupancy, table.stats().pending), (0, 0));
    fill(&table);
    drop(table);
    assert_eq!(dropped.load(Ordering::Relaxed), 600);
}

/// Not allowed, but it must not be unsound: nothing is dropped twice.
#[test]
fn a_panicking_drop_leaks_and_no_more() {
    struct Bomb(Arc<AtomicUsize>, bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert_eq!(self.0.fetch_sub(1, Ordering::Relaxed), 1, "dropped twice");
            assert!(!self.1, "boom");
        }
    }
    for bombs in [[true, false, false], [false, true, false], [true, true, true]] {
        let alive: Vec<_> = (0..3).map(|_| Arc::new(AtomicUsize::new(1))).collect();
        let mut table = SaTable::try_new(Config::new(3, 1)).unwrap();
        let handles: Vec<_> = (0..3)
            .map(|n| {
                insert(&table, Some(key(n)), Bomb(alive[n as usize].clone(), bombs[n as usize])).unwrap()
            })
            .collect();
        for handle in &handles[..2] {
            table.writer(0).retire(*handle).unwrap();
        }
        let _ = catch_unwind(AssertUnwindSafe(|| table.try_reclaim()));
        let _ = catch_unwind(AssertUnwindSafe(|| table.drain()));
        let _ = catch_unwind(AssertUnwindSafe(|| table.drain()));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(table)));
    }
}

#[test]
fn an_iterating_reader_sees_every_entry_once() {
    let table = SaTable::<u32>::try_new(Config::new(50, 1)).unwrap();
    let handles: Vec<_> = (0..50).map(|n| insert(&table, (n % 2 == 0).then(|| key(n)), n).unwrap()).collect();
    for handle in handles.iter().step_by(5) {
        retire(&table, *handle).unwrap();
    }
    let reader = table.enter(0);
    let dump: Vec<_> = reader.iter().map(|e| (e.handle, e.key.map(|key| key.spi()), *e.value)).collect();
    let expected: Vec<_> = (0u32..)
        .zip(&handles)
        .filter(|(n, _)| n % 5 != 0)
        .map(|(n, handle)| (*handle, (n % 2 == 0).then_some(n), n))
        .collect();
    assert_eq!(dump, expected);
}

/// A renewal is free as long as nobody waits, and ends a grace period if somebody does.
#[test]
fn a_renewed_reader_is_in_nobodys_way() {
    let table = SaTable::try_new(Config::new(4, 2)).unwrap();
    let dropped = Arc::new(());
    let handle = insert(&table, Some(key(1)), dropped.clone()).unwrap();
    let mut reader = table.enter(1);
    let epoch = table.stats().epoch;
    assert!(!reader.renew().ended(), "nobody has retired anything");
    let mut writer = table.writer(0);
    let grace = writer.retire(handle).unwrap();
    let _ = writer.finish();
    let _ = table.try_reclaim();
    assert!(!table.is_over(grace), "the reader was overlooked");
    assert!(table.stats().epoch > epoch);
    assert_eq!(reader.find(&key(1)), None);
    assert!(reader.renew().ended(), "the wake-up was lost");
    assert!(table.is_over(grace));
    assert_eq!(Arc::strong_count(&dropped), 1);
    // It is a reader again.
    let handle = insert(&table, Some(key(2)), dropped.clone()).unwrap();
    let mut writer = table.writer(0);
    let grace = writer.retire(handle).unwrap();
    let _ = writer.finish();
    let _ = table.try_reclaim();
    assert!(!table.is_over(grace), "the renewed reader was overlooked");
    assert!(reader.leave().ended());
    assert!(table.is_over(grace));
}
