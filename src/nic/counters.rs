//! What a port has sent and received, by destination class.
//!
//! Paths count into a [`Tally`] of their own and add it once per chain of packets, so that the shared
//! counters cost one atomic operation per class and batch, not per packet.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::filter::{Cast, MacAddress};

/// Packets and octets of one destination class. Octets include the MAC header, not the FCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub octets: u64,
}

/// What one batch did, and what [`Direction::snapshot`] returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames to one station.
    pub unicast: Traffic,
    /// Frames to a group.
    pub multicast: Traffic,
    /// Frames to all.
    pub broadcast: Traffic,
    /// Frames that could not be sent or were received damaged (`ifOutErrors`, `ifInErrors`).
    pub errors: u64,
    /// Good frames that were dropped (`ifOutDiscards`; received: no buffer, not running).
    pub discards: u64,
}

impl Tally {
    /// Counts one good frame.
    pub fn count(&mut self, destination: MacAddress, octets: usize) {
        let traffic = match Cast::of(destination) {
            Cast::Unicast => &mut self.unicast,
            Cast::Multicast => &mut self.multicast,
            Cast::Broadcast => &mut self.broadcast,
        };
        traffic.packets += 1;
        traffic.octets += octets as u64;
    }

    /// Good frames of every class.
    pub fn packets(&self) -> u64 {
        self.unicast.packets + self.multicast.packets + self.broadcast.packets
    }

    /// Octets of the good frames.
    pub fn octets(&self) -> u64 {
        self.unicast.octets + self.multicast.octets + self.broadcast.octets
    }
}

/// The counters of one direction since initialisation; they never run backwards.
#[derive(Debug, Default)]
pub struct Direction {
    packets: [AtomicU64; 3],
    octets: [AtomicU64; 3],
    errors: AtomicU64,
    discards: AtomicU64,
}

impl Direction {
    /// Adds what a batch did.
    pub fn add(&self, tally: &Tally) {
        // Relaxed throughout: each counter is a sum by itself, nothing is published through it.
        let add = |counter: &AtomicU64, n: u64| {
            if n != 0 {
                counter.fetch_add(n, Relaxed);
            }
        };
        for (i, traffic) in [tally.unicast, tally.multicast, tally.broadcast].into_iter().enumerate() {
            add(&self.packets[i], traffic.packets);
            add(&self.octets[i], traffic.octets);
        }
        add(&self.errors, tally.errors);
        add(&self.discards, tally.discards);
    }

    /// The sums so far. Counters of a batch that is being added may be seen in part.
    pub fn snapshot(&self) -> Tally {
        let traffic = |i: usize| Traffic {
            packets: self.packets[i].load(Relaxed),
            octets: self.octets[i].load(Relaxed),
        };
        Tally {
            unicast: traffic(0),
            multicast: traffic(1),
            broadcast: traffic(2),
            errors: self.errors.load(Relaxed),
            discards: self.discards.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_batches() {
        let direction = Direction::default();
        let mut tally = Tally { errors: 1, discards: 2, ..Tally::default() };
        tally.count(MacAddress([2; 6]), 60);
        tally.count(MacAddress([3; 6]), 61);
        tally.count(MacAddress::BROADCAST, 62);
        direction.add(&tally);
        direction.add(&tally);
        let sum = direction.snapshot();
        assert_eq!(sum.unicast, Traffic { packets: 2, octets: 120 });
        assert_eq!(sum.multicast, Traffic { packets: 2, octets: 122 });
        assert_eq!(sum.broadcast, Traffic { packets: 2, octets: 124 });
        assert_eq!((sum.errors, sum.discards, sum.packets(), sum.octets()), (2, 4, 6, 366));
    }
}
