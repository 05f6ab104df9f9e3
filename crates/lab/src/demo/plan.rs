//! What to carry, and under which security associations.
//!
//! Each unordered pair of addresses {a, b} of the capture becomes a pair of SAs. The address that speaks first
//! lives on adapter 1, the other one on adapter 2; one host may so live on both, in different pairs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;

use ndis_lab::transport::{Algorithm, KeyMaterial, TransportSa};

use super::AlgorithmChoice;
use crate::input::{Capture, Carried, Reason, classify};

/// One of the two adapters that talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Station {
    One,
    Two,
}

impl Station {
    pub(super) const BOTH: [Self; 2] = [Self::One, Self::Two];

    pub(super) fn other(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::One,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::One => 0,
            Self::Two => 1,
        }
    }

    /// 1 or 2.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// One security association, and who uses it.
#[derive(Clone, Debug)]
pub(super) struct PlannedSa {
    pub(super) parameters: TransportSa,
    pub(super) sender: Station,
    /// The pair that it belongs to.
    pub(super) pair: usize,
}

/// A packet to carry, by number of its SA.
#[derive(Clone, Debug)]
pub(super) struct PlannedPacket {
    /// Its number in the capture, from 1.
    pub(super) number: u64,
    pub(super) packet: Vec<u8>,
    pub(super) sa: usize,
}

/// What a capture comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) sas: Vec<PlannedSa>,
    pub(super) packets: Vec<PlannedPacket>,
    pub(super) not_carried: BTreeMap<Reason, u64>,
    pub(super) protocols: BTreeMap<u8, u64>,
    pub(super) checksums_filled: u64,
}

/// SAs of one pair that each adapter holds.
const SAS_PER_PAIR: usize = 2;
/// SPIs up to 255 are reserved (RFC 4303, section 2.1).
const FIRST_SPI: u32 = 0x1000;

/// Judges every packet of a capture.
pub(super) fn judge(capture: &Capture, mtu: usize) -> Judged {
    let mut judged = Judged::default();
    for (number, packet) in (1..).zip(capture.packets()) {
        match classify(packet, mtu) {
            Ok(carried) => judged.carried.push((number, carried)),
            Err(reason) => *judged.not_carried.entry(reason).or_insert(0) += 1,
        }
    }
    judged
}

/// Packets by what can be done with them.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) carried: Vec<(u64, Carried)>,
    pub(super) not_carried: BTreeMap<Reason, u64>,
}

impl Judged {
    /// SA slots that each adapter needs for all of it.
    pub(super) fn slots(&self) -> usize {
        let pairs: HashSet<_> = self.carried.iter().map(|(_, packet)| pair_of(packet)).collect();
        pairs.len() * SAS_PER_PAIR
    }

    /// Plans SAs for as many pairs as `capacity` slots per adapter allow.
    pub(super) fn plan(self, capacity: usize, choice: AlgorithmChoice, random: &mut fastrand::Rng) -> Plan {
        let mut plan = Plan { not_carried: self.not_carried, ..Plan::default() };
        let mut pairs: HashMap<(Ipv4Addr, Ipv4Addr), Option<[usize; 2]>> = HashMap::new();
        // Far enough below the end of the numbers for any capture's SAs.
        let mut spi = random.u32(FIRST_SPI..u32::MAX / 2);
        let mut count = 0;
        for (number, carried) in self.carried {
            let pair = *pairs.entry(pair_of(&carried)).or_insert_with(|| {
                ((count + 1) * SAS_PER_PAIR <= capacity).then(|| {
                    let algorithm = choice.of_pair(count);
                    let here = [(carried.source, carried.destination, Station::One)];
                    let there = [(carried.destination, carried.source, Station::Two)];
                    let first = plan.sas.len();
                    for (source, destination, sender) in here.into_iter().chain(there) {
                        let key = KeyMaterial::generate(algorithm, |bytes| random.fill(bytes));
                        let parameters = TransportSa { source, destination, spi, algorithm, key };
                        plan.sas.push(PlannedSa { parameters, sender, pair: count });
                        spi += 1;
                    }
                    count += 1;
                    [first, first + 1]
                })
            });
            let Some([there, back]) = pair else {
                *plan.not_carried.entry(Reason::NoSlot).or_insert(0) += 1;
                continue;
            };
            let forth = plan.sas[there].parameters.source == carried.source;
            *plan.protocols.entry(carried.protocol).or_insert(0) += 1;
            plan.checksums_filled += u64::from(carried.checksum_filled);
            let sa = if forth { there } else { back };
            plan.packets.push(PlannedPacket { number, packet: carried.packet, sa });
        }
        plan
    }
}

/// The unordered pair of a packet's addresses.
fn pair_of(packet: &Carried) -> (Ipv4Addr, Ipv4Addr) {
    let (a, b) = (packet.source, packet.destination);
    (a.min(b), a.max(b))
}

impl AlgorithmChoice {
    /// The algorithm of a pair's SAs.
    fn of_pair(self, pair: usize) -> Algorithm {
        match self {
            Self::Gcm128 => Algorithm::AesGcm128,
            Self::Gcm192 => Algorithm::AesGcm192,
            Self::Gcm256 => Algorithm::AesGcm256,
            Self::Mixed => Algorithm::ALL[pair % Algorithm::ALL.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::DEFAULT_CAPTURE;

    fn judged() -> Judged {
        judge(&Capture::from_bytes(DEFAULT_CAPTURE.to_vec()).unwrap(), 9000)
    }

    #[test]
    fn every_pair_gets_two_sas_with_numbers_and_keys_of_their_own() {
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(judged().slots(), 6); // three hosts, each talks to each
        let plan = judged().plan(6, AlgorithmChoice::Mixed, &mut random);
        assert_eq!(plan.sas.len(), 6);
        let spis: HashSet<_> = plan.sas.iter().map(|sa| sa.parameters.spi).collect();
        let keys: HashSet<_> = plan.sas.iter().map(|sa| sa.parameters.key.bytes().to_vec()).collect();
        let algorithms: HashSet<_> = plan.sas.iter().map(|sa| sa.parameters.algorithm).collect();
        assert_eq!((spis.len(), keys.len(), algorithms.len()), (6, 6, 3));
        for packet in &plan.packets {
            let sa = &plan.sas[packet.sa].parameters;
            assert_eq!(packet.packet[12..16], sa.source.octets());
            assert_eq!(packet.packet[16..20], sa.destination.octets());
        }
        assert!(!plan.not_carried.contains_key(&Reason::NoSlot));
    }

    #[test]
    fn what_finds_no_slot_is_counted() {
        let mut random = fastrand::Rng::with_seed(1);
        let all = judged().carried.len();
        let plan = judged().plan(3, AlgorithmChoice::Gcm256, &mut random);
        assert_eq!(plan.sas.len(), 2);
        let left = usize::try_from(plan.not_carried[&Reason::NoSlot]).unwrap();
        assert_eq!(plan.packets.len() + left, all);
        assert!(plan.sas.iter().all(|sa| sa.parameters.algorithm == Algorithm::AesGcm256));
    }
}
