//! How many SAs there can be: the fullest table, the fullest neighbourhood of its index, slots that have had all their handles.
#![allow(clippy::doc_markdown, reason = "ADD_SA, IPsec and the like are words of the field, not Rust items")]

mod control;

use control::{Flow, add, delete, ip, refuses, status, table};
use ndis_lab::AdapterConfig;
use ndis_sys::{NDIS_STATUS_INVALID_PARAMETER, NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS};

on_both! {
    /// A table of the largest and of the smallest size there is, filled by lists, emptied by one.
    fn the_fullest_table(bench) {
        for (capacity, inbound) in [(65_536_u32, true), (1, true), (1, false)] {
            let config = AdapterConfig::new().keyword("SaOffloadCapacity", capacity.to_string());
            let adapter = bench.adapter(config);
            let sa = |spi| Flow::new(1, 2, spi).parameters(inbound);
            let mut handles = Vec::new();
            for first in (1..=capacity).step_by(8192) {
                let last = capacity.min(first + 8191);
                let (outcome, added) = adapter.add_sa_list(&(first..=last).map(sa).collect::<Vec<_>>()).unwrap();
                assert_eq!(status(outcome.status), status(NDIS_STATUS_SUCCESS));
                handles.extend(added.into_iter().flatten());
            }
            // By key there may be no room in the neighbourhood of one of them; it is refused like one too many.
            let missing = capacity as usize - handles.len();
            assert!(missing <= capacity as usize / 1000, "{missing} refused");
            if missing == 0 {
                refuses(&adapter, &sa(capacity + 1), NDIS_STATUS_RESOURCES);
            }
            assert_eq!(table(&adapter).1.len(), handles.len());
            let distinct: std::collections::HashSet<_> = handles.iter().collect();
            assert_eq!(distinct.len(), handles.len());
            delete(&adapter, &handles);
            let (summary, entries) = table(&adapter);
            assert_eq!((entries.len(), summary.waiting, summary.skipped), (0, 0, 0));
            let handle = add(&adapter, &sa(1));
            assert!(!distinct.contains(&handle));
            control::stop(&adapter);
        }
    }

    /// A neighbourhood of the table that is full, though the table is not: the next key of it is refused like one too many, all
    /// others are taken, and those in the chain are found by packets like any.
    fn the_fullest_neighbourhood(bench) {
        const SLOTS: u32 = 128;
        let a = bench.station(1);
        let b = bench.station_with(2, AdapterConfig::new().keyword("SaOffloadCapacity", SLOTS.to_string()));
        // A table of this size, and with the driver's seed.
        let alike = sa_table::SaTable::<()>::try_new(sa_table::Config::new(SLOTS, 1)).unwrap();
        let home = |spi| alike.neighbourhood(&sa_table::InboundKey::v4(spi, ip(2).octets(), sa_table::Protocol::Esp));
        let sa = |spi| Flow::new(1, 2, spi).parameters(true);
        let mut neighbours = (1..).filter(|spi| home(*spi) == 5);
        let spis: Vec<u32> = neighbours.by_ref().take(16 + sa_table::MAX_CHAIN as usize).collect();
        let mut handles: Vec<_> = spis.iter().map(|spi| add(&b, &sa(*spi))).collect();
        let next = neighbours.next().unwrap();
        refuses(&b, &sa(next), NDIS_STATUS_RESOURCES);
        refuses(&b, &sa(spis[3]), NDIS_STATUS_INVALID_PARAMETER);
        refuses(&b, &sa(spis[79]), NDIS_STATUS_INVALID_PARAMETER);
        let elsewhere = (1..1000).find(|spi| home(*spi) == 6).unwrap();
        delete(&b, &[add(&b, &sa(elsewhere)), add(&b, &Flow::new(2, 1, next).parameters(false))]);
        for (spi, inbound) in spis.iter().zip(&handles) {
            let mut flow = Flow { inbound: *inbound, ..Flow::new(1, 2, *spi) };
            flow.handle = add(&a, &flow.parameters(false));
            flow.works(&a, &b);
            delete(&a, &[flow.handle]);
        }
        // One goes, from a lane or from the chain, and the next one comes, once.
        for (gone, new) in [(2, next), (77, neighbours.next().unwrap())] {
            delete(&b, &[handles[gone]]);
            handles[gone] = add(&b, &sa(new));
            refuses(&b, &sa(spis[gone]), NDIS_STATUS_RESOURCES);
        }
        let (summary, entries) = table(&b);
        assert_eq!((summary.refused, entries.len()), (5, 80));
        delete(&b, &handles);
        assert_eq!((table(&b).0.skipped, table(&b).1.len()), (0, 0));
    }

    /// Slots that have had all their handles are used no more; until then no handle comes twice, and none of before is valid.
    fn worn_out_slots(bench) {
        for uses in [1_usize, 2, 5] {
            let config = AdapterConfig::new().keyword("FaultInjection", "1").keyword("SaOffloadCapacity", "3");
            let adapter = bench.adapter(config.keyword("SaSlotUses", uses.to_string()));
            let mut issued = Vec::new();
            for spi in 1..=3 * u32::try_from(uses).unwrap() {
                let inbound = spi % 2 == 0;
                let handle = add(&adapter, &Flow::new(1, 2, spi).parameters(inbound));
                assert!(!issued.contains(&handle), "{handle:#x} comes twice");
                issued.push(handle);
                delete(&adapter, &issued);
            }
            for inbound in [false, true] {
                refuses(&adapter, &Flow::new(1, 2, 99).parameters(inbound), NDIS_STATUS_RESOURCES);
            }
            delete(&adapter, &issued);
            let (summary, entries) = table(&adapter);
            assert_eq!((summary.added, summary.deleted, summary.waiting, entries.len()), (3 * uses as u64, 3 * uses as u64, 0, 0));
            control::stop(&adapter);
        }
        // Only with fault injection.
        let config = AdapterConfig::new().keyword("SaOffloadCapacity", "3").keyword("SaSlotUses", "1");
        let adapter = bench.adapter(config);
        for spi in 1..20 {
            delete(&adapter, &[add(&adapter, &Flow::new(1, 2, spi).parameters(true))]);
        }
    }
}
