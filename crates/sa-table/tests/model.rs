//! The table against a reference map, one thread, and its defined limits.
#![cfg(not(any(loom, shuttle)))]

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use proptest::prelude::*;
use sa_table::{Config, GracePeriod, Handle, InboundKey, Protocol, Refusal, SaTable, Stale};

fn key(n: u32) -> InboundKey {
    let protocol = if n.is_multiple_of(2) { Protocol::Esp } else { Protocol::Ah };
    if n.is_multiple_of(3) {
        InboundKey::v6(n, [0x20; 16], protocol)
    } else {
        InboundKey::v4(n, [192, 0, 2, 1], protocol)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Insert with this key, or an outbound entry.
    Insert(Option<u32>),
    /// Retire the n-th handle that was ever issued.
    Retire(usize),
    /// Open a reader.
    Enter,
    /// Close the n-th open one.
    Leave(usize),
    /// Renew the n-th open one.
    Renew(usize),
    Reclaim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u32..24).prop_map(|n| Step::Insert(Some(n))),
        2 => Just(Step::Insert(None)),
        8 => any::<usize>().prop_map(Step::Retire),
        2 => Just(Step::Enter),
        3 => any::<usize>().prop_map(Step::Leave),
        3 => any::<usize>().prop_map(Step::Renew),
        3 => Just(Step::Reclaim),
    ]
}

/// What the table should hold.
#[derive(Default)]
struct Model {
    live: HashMap<Handle, (Option<u32>, Rc<u64>)>,
    by_key: HashMap<u32, Handle>,
    issued: Vec<Handle>,
    retired: Vec<(GracePeriod, Rc<u64>)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_a_map(
        capacity in 1u32..20,
        lines in 1u32..4,
        seed: u64,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let config = Config { capacity, readers: lines, seed, first_generation: 1 };
        let mut table: SaTable<Rc<u64>> = SaTable::try_new(config).unwrap();
        let mut model = Model::default();
        let mut serial = 0u64;
        {
            let mut readers: Vec<sa_table::Reader<'_, _>> = Vec::new();
            for step in &steps {
                match *step {
                    Step::Insert(k) => {
                        serial += 1;
                        let value = Rc::new(serial);
                        let mut writer = table.writer(model.issued.len().try_into().unwrap());
                        let result = writer.insert(k.map(key), value.clone());
                        let _ = writer.finish();
                        match result {
                            Ok(handle) => {
                                prop_assert!(k.is_none_or(|k| !model.by_key.contains_key(&k)));
                                prop_assert!(!model.issued.contains(&handle), "issued twice");
                                model.issued.push(handle);
                                if let Some(k) = k {
                                    model.by_key.insert(k, handle);
                                }
                                model.live.insert(handle, (k, value));
                            }
                            Err(error) => {
                                prop_assert!(Rc::ptr_eq(&error.value, &value));
                                match error.refusal {
                                    Refusal::Duplicate(handle) => {
                                        prop_assert_eq!(model.by_key.get(&k.unwrap()), Some(&handle));
                                    }
                                    Refusal::Full => {
                                        let stats = table.stats();
                                        prop_assert_eq!(stats.occupancy + stats.pending, capacity);
                                        // With nobody reading, everything retired is reclaimed before a refusal.
                                        prop_assert!(stats.pending == 0 || !readers.is_empty());
                                    }
                                    Refusal::Neighbourhood => prop_assert!(false, "cannot be with 24 keys"),
                                }
                            }
                        }
                    }
                    Step::Retire(n) => {
                        if model.issued.is_empty() { continue; }
                        let handle = model.issued[n % model.issued.len()];
                        let mut writer = table.writer(0);
                        let result = writer.retire(handle);
                        let _ = writer.finish();
                        if let Some((k, value)) = model.live.remove(&handle) {
                            if let Some(k) = k { model.by_key.remove(&k); }
                            model.retired.push((result.unwrap(), value));
                        } else {
                            prop_assert_eq!(result, Err(Stale));
                        }
                    }
                    Step::Enter => readers.push(table.enter(readers.len().try_into().unwrap())),
                    Step::Leave(n) => {
                        if !readers.is_empty() {
                            let at = n % readers.len();
                            let _ = readers.swap_remove(at).leave();
                        }
                    }
                    Step::Renew(n) => {
                        if !readers.is_empty() {
                            let at = n % readers.len();
                            let _ = readers[at].renew();
                        }
                    }
                    Step::Reclaim => {
                        let _ = table.try_reclaim();
                        if readers.is_empty() {
                            prop_assert_eq!(table.stats().pending, 0);
                        }
                    }
                }
                // What the table has, the model has; and nothing is dropped before its time.
                let reader = table.enter(7);
                for handle in &model.issued {
                    let expected = model.live.get(handle);
                    prop_assert_eq!(reader.get(*handle).map(|v| **v), expected.map(|(_, v)| **v));
                    let entry = reader.entry(*handle);
                    prop_assert_eq!(entry.map(|e| e.key), expected.map(|(k, _)| k.map(key)));
                }
                for k in 0..24 {
                    let found = reader.find(&key(k)).map(|(handle, v)| (handle, **v));
                    let expected = model.by_key.get(&k).map(|handle| (*handle, *model.live[handle].1));
                    prop_assert_eq!(found, expected);
                }
                // More than are looked up at a time, in another order, some of them twice.
                let many: Vec<u32> = (0..70).map(|n| n * 7 % 24).collect();
                let keys: Vec<_> = many.iter().copied().map(key).collect();
                let mut seen = Vec::new();
                reader.find_many(&keys, |n, found| seen.push((n, found.map(|(handle, v)| (handle, **v)))));
                prop_assert_eq!(seen.len(), many.len());
                for (n, (at, found)) in seen.into_iter().enumerate() {
                    let expected = model.by_key.get(&many[n]).map(|handle| (*handle, *model.live[handle].1));
                    prop_assert_eq!((at, found), (n, expected));
                }
                let dump: HashSet<Handle> = reader.iter().map(|entry| entry.handle).collect();
                prop_assert_eq!(dump, model.live.keys().copied().collect::<HashSet<_>>());
                let _ = reader.leave();
                prop_assert_eq!(table.stats().occupancy as usize, model.live.len());
                for (grace, value) in &model.retired {
                    if table.is_over(*grace) {
                        prop_assert_eq!(Rc::strong_count(value), 1, "over, but not dropped");
                    }
                }
            }
            for reader in readers {
                let _ = reader.leave();
            }
        }
        let _ = table.try_reclaim();
        for (grace, value) in &model.retired {
            prop_assert!(table.is_over(*grace));
            prop_assert_eq!(Rc::strong_count(value), 1);
        }
        prop_assert_eq!(table.drain() as usize, model.live.len());
        for (_, value) in model.live.values() {
            prop_assert_eq!(Rc::strong_count(value), 1);
        }
        let reader = table.enter(0);
        prop_assert!(model.issued.iter().all(|handle| reader.get(*handle).is_none()));
    }
}
