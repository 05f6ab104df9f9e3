//! Counters: their structure, and that they tell what happened.

use ndis_sys::{
    NDIS_OBJECT_TYPE_DEFAULT, NDIS_PACKET_TYPE_PROMISCUOUS, NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV,
    NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT, NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV,
    NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT, OID_GEN_RCV_OK, OID_GEN_STATISTICS, OID_GEN_XMIT_OK,
};

use crate::adapter::Adapter;
use crate::adapter::oid::Oid;
use crate::adapter::send::SendNbl;
use crate::conformance::context::Context;
use crate::conformance::station::{self, BROADCAST, GROUP, Pair, STRANGER, succeed};
use crate::conformance::{Case, Need, Outcome, check};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 26,
        id: "statistics-structure",
        area: "Stats",
        title: "OID_GEN_STATISTICS is answered with NDIS_STATISTICS_INFO and its own flags, all zero at first.",
        page: "oid-gen-statistics",
        needs: &[Need::Ethernet],
        run: structure,
    },
    Case {
        number: 26,
        id: "statistics-count",
        area: "Stats",
        title: "Counters count frames and bytes by class, their totals are the sums, and they never run backwards.",
        page: "oid-gen-statistics",
        needs: &[Need::Wire],
        run: count,
    },
];

/// NDIS_STATISTICS_INFO: the flags, then 64-bit counters in the order of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::conformance) struct Statistics {
    flags: u32,
    counters: [u64; COUNTERS],
}

const COUNTERS: usize = 18;
/// Names of the counters, in their order.
const NAMES: [&str; COUNTERS] = [
    "ifInDiscards",
    "ifInErrors",
    "ifHCInOctets",
    "ifHCInUcastPkts",
    "ifHCInMulticastPkts",
    "ifHCInBroadcastPkts",
    "ifHCOutOctets",
    "ifHCOutUcastPkts",
    "ifHCOutMulticastPkts",
    "ifHCOutBroadcastPkts",
    "ifOutErrors",
    "ifOutDiscards",
    "ifHCInUcastOctets",
    "ifHCInMulticastOctets",
    "ifHCInBroadcastOctets",
    "ifHCOutUcastOctets",
    "ifHCOutMulticastOctets",
    "ifHCOutBroadcastOctets",
];

impl Statistics {
    /// Asks an adapter.
    pub(in crate::conformance) fn of(adapter: &Adapter) -> Outcome<Self> {
        let outcome = succeed(adapter, Oid::query(OID_GEN_STATISTICS, 152), "OID_GEN_STATISTICS")?;
        let bytes = outcome.answer();
        check!(bytes.len() == 152, "OID_GEN_STATISTICS is answered with {} bytes, not 152", bytes.len());
        let header = [NDIS_OBJECT_TYPE_DEFAULT, 1, 152, 0];
        check!(
            bytes[..4] == header,
            "the header of NDIS_STATISTICS_INFO is {:02x?}, not {header:02x?}",
            &bytes[..4]
        );
        let flags = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let mut counters = [0; COUNTERS];
        for (counter, chunk) in counters.iter_mut().zip(bytes[8..].as_chunks().0) {
            *counter = u64::from_le_bytes(*chunk);
        }
        Ok(Self { flags, counters })
    }

    /// A counter by name.
    pub(in crate::conformance) fn get(&self, name: &str) -> u64 {
        NAMES.iter().position(|known| *known == name).map_or(0, |at| self.counters[at])
    }

    fn check_sums(&self) -> Outcome {
        for direction in ["In", "Out"] {
            let total = self.get(&format!("ifHC{direction}Octets"));
            let parts = ["Ucast", "Multicast", "Broadcast"]
                .map(|cast| self.get(&format!("ifHC{direction}{cast}Octets")));
            let sum: u64 = parts.iter().sum();
            check!(total == sum, "ifHC{direction}Octets is {total}, its parts are {parts:?}");
        }
        Ok(())
    }

    fn check_not_before(&self, before: &Self, when: &str) -> Outcome {
        for (name, (now, was)) in NAMES.iter().zip(self.counters.iter().zip(&before.counters)) {
            check!(now >= was, "{name} runs backwards {when}: {was}, then {now}");
        }
        Ok(())
    }
}

fn structure(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let statistics = Statistics::of(&adapter)?;
    // In the attributes bit 1 is XMIT_OK and so on; here bits have other meanings.
    let claimed = NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV
        | NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT
        | NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV
        | NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT;
    check!(
        statistics.flags & claimed == claimed,
        "SupportedStatistics {:#x} lack some of {claimed:#x}: these are NDIS_STATISTICS_FLAGS_VALID_XXX",
        statistics.flags
    );
    check!(
        statistics.flags >> 22 == 0,
        "SupportedStatistics {:#x} has bits that mean nothing",
        statistics.flags
    );
    check!(statistics.counters == [0; COUNTERS], "a new adapter counts {:?}", statistics.counters);
    statistics.check_sums()
}

fn count(context: &Context) -> Outcome {
    let pair = Pair::new(context)?;
    station::set_filter(&pair.b, NDIS_PACKET_TYPE_PROMISCUOUS)?;
    let from = station::address(&pair.a);
    let frames = [
        (station::address(&pair.b), 100),
        (STRANGER, 200),
        (GROUP, 300),
        (GROUP, 301),
        (GROUP, 302),
        (BROADCAST, 400),
        (BROADCAST, 1514),
    ];
    let lists: Vec<_> =
        frames.iter().map(|(to, length)| SendNbl::frame(station::frame(*to, from, *length, 1))).collect();
    let (a, b) = (Statistics::of(&pair.a)?, Statistics::of(&pair.b)?);
    pair.carry(&lists, frames.len())?;
    let (sent, received) = (Statistics::of(&pair.a)?, Statistics::of(&pair.b)?);
    let expect: [(&str, u64, u64); 3] = [("Ucast", 2, 300), ("Multicast", 3, 903), ("Broadcast", 2, 1914)];
    for (cast, packets, octets) in expect {
        for (direction, before, after) in [("Out", &a, &sent), ("In", &b, &received)] {
            for (what, expect) in [("Pkts", packets), ("Octets", octets)] {
                let name = format!("ifHC{direction}{cast}{what}");
                let counted = after.get(&name).wrapping_sub(before.get(&name));
                check!(counted == expect, "{name} counts {counted} for {expect}");
            }
        }
    }
    sent.check_sums()?;
    received.check_sums()?;
    let ok = |adapter: &Adapter, oid: u32| -> Outcome<u64> {
        Ok(succeed(adapter, Oid::query(oid, 8), "a counter")?.u64().unwrap_or(0))
    };
    let packets = |s: &Statistics, direction: &str| {
        ["Ucast", "Multicast", "Broadcast"]
            .iter()
            .map(|cast| s.get(&format!("ifHC{direction}{cast}Pkts")))
            .sum::<u64>()
    };
    let (transmitted, taken) = (ok(&pair.a, OID_GEN_XMIT_OK)?, ok(&pair.b, OID_GEN_RCV_OK)?);
    check!(
        transmitted == packets(&sent, "Out"),
        "OID_GEN_XMIT_OK {transmitted}, sum {}",
        packets(&sent, "Out")
    );
    check!(taken == packets(&received, "In"), "OID_GEN_RCV_OK {taken}, sum {}", packets(&received, "In"));
    for adapter in [&pair.a, &pair.b] {
        let before = Statistics::of(adapter)?;
        adapter.pause()?;
        adapter.send(&lists)?;
        adapter.restart()?;
        let after = Statistics::of(adapter)?;
        after.check_not_before(&before, "over a pause")?;
        let (sent, sends) = (packets(&after, "Out"), packets(&before, "Out"));
        check!(sent == sends, "sends that ended with NDIS_STATUS_PAUSED are counted as sent");
        if context.facts()?.registered.characteristics.ResetHandlerEx.is_some() {
            adapter.reset(ndis_sys::PASSIVE_LEVEL)?;
            Statistics::of(adapter)?.check_not_before(&after, "over a reset")?;
        }
    }
    Ok(())
}
