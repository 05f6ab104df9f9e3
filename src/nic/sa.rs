//! One security association as the NIC's slot holds it (RFC 4301 §4.4.2): selectors, transform, counters.
//!
//! Immutable once it is in the table, but for its counters. Dropping it wipes the key ([`EspSa`] does).

use core::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use ipsec::esp::{EspSa, IV_LEN};

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

/// A transport-mode ESP SA over IPv4.
pub struct Sa {
    direction: Direction,
    /// Sender of the packets; unspecified (0.0.0.0) matches any.
    source: Ipv4Addr,
    /// Receiver of the packets; for an outbound SA, unspecified matches any.
    destination: Ipv4Addr,
    /// Apart from the slot: a kilobyte of key schedule, built once where it stays.
    esp: PoolBox<EspSa>,
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
    /// An SA for packets from `source` to `destination`.
    pub fn new(direction: Direction, source: Ipv4Addr, destination: Ipv4Addr, esp: PoolBox<EspSa>) -> Self {
        Self {
            direction,
            source,
            destination,
            esp,
            last_iv: AtomicU64::new(UNUSED_IV),
            packets: AtomicU64::new(0),
            octets: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
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
