//! One security association as the NIC's slot holds it (RFC 4301 §4.4.2): selectors, transform, counters.
//!
//! Immutable once it is in the table, but for its counters, the high half of its sequence number and the mark that says
//! whether the device holds it. Dropping it wipes the key ([`EspSa`] does).

use core::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use ipsec::{
    algorithm::Algorithm,
    esp::{EspSa, IV_LEN},
};

use super::esn::Esn;
use crate::kernel::PoolBox;

/// What [`Sa::take_iv`] takes for the IV before the first: that one IV of 2^64 is never accepted as the first.
const UNUSED_IV: u64 = u64::MAX;

/// Which way an SA protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received packets: verify and decrypt.
    Inbound,
    /// Sent packets: encrypt and sign.
    Outbound,
}

/// What an SA is, but for its SPI and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which way it protects.
    pub direction: Direction,
    /// Sender of the packets; unspecified (0.0.0.0) matches any.
    pub source: Ipv4Addr,
    /// Receiver of the packets; unspecified matches any.
    pub destination: Ipv4Addr,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// High half of the sequence number, if extended ones are used.
    pub sequence_high: Option<u32>,
}

/// An ESP SA over IPv4.
pub struct Sa {
    direction: Direction,
    algorithm: Algorithm,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    /// The incarnation of the device that has this SA in its slot; 0 for none.
    loaded: AtomicU32,
    /// Apart from the slot: a kilobyte of key schedule, built once where it stays.
    esp: PoolBox<EspSa>,
    esn: Option<Esn>,
    /// The last IV that went out, as a number; see [`Sa::take_iv`].
    last_iv: AtomicU64,
    packets: AtomicU64,
    octets: AtomicU64,
    failures: AtomicU64,
}

/// What an SA has done so far. Counters are sums by themselves and may be seen apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaCounters {
    /// Packets protected, or verified.
    pub packets: u64,
    /// Bytes of their ESP parts.
    pub octets: u64,
    /// Packets refused: malformed, IV used before, or not authentic.
    pub failures: u64,
}

impl Sa {
    /// An SA with this transform; in no slot yet.
    pub fn new(description: &Description, esp: PoolBox<EspSa>) -> Self {
        let &Description { direction, source, destination, algorithm, sequence_high } = description;
        Self {
            direction,
            algorithm,
            source,
            destination,
            loaded: AtomicU32::new(0),
            esp,
            esn: sequence_high.map(Esn::new),
            last_iv: AtomicU64::new(UNUSED_IV),
            packets: AtomicU64::new(0),
            octets: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Puts it into the slots of this incarnation of the device.
    pub(super) fn load(&self, incarnation: u32) {
        // Relaxed: whoever looks has come by it through the table, or through the gate that a reset closes.
        self.loaded.store(incarnation, Relaxed);
    }

    /// Whether this incarnation of the device has it.
    pub fn is_loaded(&self, incarnation: u32) -> bool {
        self.loaded.load(Relaxed) == incarnation
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its extended sequence numbers, if it has them.
    pub fn esn(&self) -> Option<&Esn> {
        self.esn.as_ref()
    }

    /// Which way it protects.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The SPI as a number.
    pub fn spi(&self) -> u32 {
        self.esp.spi()
    }

    /// The receiver of its packets.
    pub fn destination(&self) -> Ipv4Addr {
        self.destination
    }

    /// The sender of its packets.
    pub fn source(&self) -> Ipv4Addr {
        self.source
    }

    /// The transform.
    pub fn esp(&self) -> &EspSa {
        &self.esp
    }

    /// Whether a packet between these addresses belongs to the SA.
    pub fn covers(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        let matches = |selector: Ipv4Addr, address| selector.is_unspecified() || selector == address;
        matches(self.source, source) && matches(self.destination, destination)
    }

    /// Claims an IV for one packet. `false` when it is the one that was used last.
    ///
    /// The IV is the host's (RFC 4106 §3.1 asks only that it never repeats under one key). The NIC cannot
    /// remember all of them; it catches the failure that is likely and fatal, an IV field left as it was.
    pub fn take_iv(&self, iv: [u8; IV_LEN]) -> bool {
        let iv = u64::from_be_bytes(iv);
        // Relaxed: one word; a swap, so that of two packets with one IV at most one sees another before it.
        self.last_iv.swap(iv, Relaxed) != iv
    }

    /// Counts a packet whose ESP part has `octets` bytes.
    pub fn count(&self, octets: usize) {
        self.packets.fetch_add(1, Relaxed);
        self.octets.fetch_add(octets as u64, Relaxed);
    }

    /// Counts a packet that was refused.
    pub fn count_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// What it has done so far.
    pub fn counters(&self) -> SaCounters {
        SaCounters {
            packets: self.packets.load(Relaxed),
            octets: self.octets.load(Relaxed),
            failures: self.failures.load(Relaxed),
        }
    }
}
