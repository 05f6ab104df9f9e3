//! The key that finds an inbound SA (RFC 4301, section 4.1: SPI, destination address, protocol), and its hash.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPsec protocol of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// Encapsulating Security Payload, IP protocol 50 (RFC 4303).
    Esp = 50,
    /// Authentication Header, IP protocol 51 (RFC 4302).
    Ah = 51,
}

/// What an inbound packet is looked up by: SPI, destination address and protocol.
///
/// An IPv4 address is held as its IPv4-mapped form (`::ffff:a.b.c.d`) together with the family, so that an
/// IPv4 packet never finds the SA of an IPv6 packet that is addressed to the mapped form of the same address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundKey {
    /// The high half of the address; the low one, exclusive-or the high one turned ([`mix`]), as the hash wants it; then
    /// SPI, protocol, family and a mark that is never 0.
    words: [u64; 3],
}

/// What a high half adds to the low one. For IPv4, 0.
const fn mix(high: u64) -> u64 {
    high.rotate_left(40)
}

const PROTOCOL_SHIFT: u32 = 32;
const FAMILY_V6: u64 = 1 << 40;
/// Set in every key, so that the all-zero key words can mean "outbound, no key" in a slot.
const INBOUND: u64 = 1 << 41;

impl InboundKey {
    /// The key of packets to an address of either family; `spi` is a number, not bytes in network order.
    pub const fn new(spi: u32, destination: IpAddr, protocol: Protocol) -> Self {
        match destination {
            IpAddr::V4(address) => Self::v4(spi, address.octets(), protocol),
            IpAddr::V6(address) => Self::v6(spi, address.octets(), protocol),
        }
    }

    /// The key of packets to an IPv4 address, given as in the header.
    #[inline]
    pub const fn v4(spi: u32, destination: [u8; 4], protocol: Protocol) -> Self {
        let address = 0xffff_0000_0000 | u32::from_be_bytes(destination) as u64;
        Self { words: [0, address, Self::meta(spi, protocol)] }
    }

    /// The key of packets to an IPv6 address, given as in the header.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a u128")]
    pub const fn v6(spi: u32, destination: [u8; 16], protocol: Protocol) -> Self {
        let address = u128::from_be_bytes(destination);
        let high = (address >> 64) as u64;
        Self { words: [high, address as u64 ^ mix(high), Self::meta(spi, protocol) | FAMILY_V6] }
    }

    #[inline]
    const fn meta(spi: u32, protocol: Protocol) -> u64 {
        spi as u64 | (protocol as u64) << PROTOCOL_SHIFT | INBOUND
    }

    /// The security parameters index, as a number.
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the SPI")]
    pub const fn spi(&self) -> u32 {
        self.words[2] as u32
    }

    /// The destination address, of the family that the key was made with.
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the IPv4 address")]
    pub const fn destination(&self) -> IpAddr {
        if self.words[2] & FAMILY_V6 == 0 {
            IpAddr::V4(Ipv4Addr::from_bits(self.words[1] as u32))
        } else {
            let low = self.words[1] ^ mix(self.words[0]);
            IpAddr::V6(Ipv6Addr::from_bits((self.words[0] as u128) << 64 | low as u128))
        }
    }

    /// The protocol.
    #[expect(clippy::cast_possible_truncation, reason = "the byte that `meta` put there")]
    pub const fn protocol(&self) -> Protocol {
        if (self.words[2] >> PROTOCOL_SHIFT) as u8 == Protocol::Ah as u8 {
            Protocol::Ah
        } else {
            Protocol::Esp
        }
    }

    /// The words, as a slot keeps them.
    #[inline]
    pub(crate) const fn words(&self) -> &[u64; 3] {
        &self.words
    }

    /// The key with these words; `None` for the words of an outbound slot.
    #[inline]
    pub(crate) const fn from_words(words: [u64; 3]) -> Option<Self> {
        if words[2] & INBOUND == 0 { None } else { Some(Self { words }) }
    }
}

/// The key words of an outbound entry, which is found by its handle alone.
pub(crate) const OUTBOUND: [u64; 3] = [0; 3];

impl fmt::Debug for InboundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboundKey({:?} {:#010x} to {})", self.protocol(), self.spi(), self.destination())
    }
}

/// The seed of a table's hash: one folded multiplication of the last two words of a key. It keeps whoever does not know
/// it from choosing SPIs that collide. (IPv6 addresses whose halves add up to the same could be chosen. But those
/// are addresses of this host, and chains are bounded.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher {
    seed: u64,
}

impl Hasher {
    pub(crate) fn new(seed: u64) -> Self {
        // splitmix64, so that any number makes a seed with ones and zeros all over.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { seed: z ^ z >> 31 }
    }

    #[inline]
    pub(crate) fn hash(self, words: &[u64; 3]) -> u64 {
        fold(words[1] ^ self.seed, words[2] ^ self.seed)
    }
}

/// Both halves of the 128-bit product: every bit of the operands reaches every bit of the result's middle.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a u128")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_what_it_was_made_of() {
        let addresses = ["192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "::ffff:192.0.2.1"];
        let mut keys = std::collections::HashSet::new();
        for address in addresses {
            let address: IpAddr = address.parse().unwrap();
            for spi in [0, 1, 0x1000, u32::MAX] {
                for protocol in [Protocol::Esp, Protocol::Ah] {
                    let key = InboundKey::new(spi, address, protocol);
                    assert_eq!((key.spi(), key.destination(), key.protocol()), (spi, address, protocol));
                    assert_eq!(InboundKey::from_words(*key.words()), Some(key));
                    assert!(keys.insert(key), "{key:?} equals another key");
                    assert!(format!("{key:?}").contains(&format!("{address}")));
                }
            }
        }
        assert_eq!(InboundKey::from_words(OUTBOUND), None);
    }

    /// Consecutive SPIs to one address, the usual load, must spread as random ones do, over the buckets and over the tags.
    #[test]
    fn consecutive_spis_spread() {
        for seed in [0, 1, 0xdead_beef] {
            let hasher = Hasher::new(seed);
            let (mut buckets, mut tags) = (vec![0u32; 1000], vec![0u32; 1024]);
            for spi in 0..16 * 1024 {
                let key = InboundKey::v4(0x1000 + spi, [192, 0, 2, 1], Protocol::Esp);
                let hash = hasher.hash(key.words());
                buckets[crate::index::home_number(hash, 1000)] += 1;
                tags[usize::try_from(hash % 1024).unwrap()] += 1;
            }
            // Poisson with mean 16: more than 48 in one of 1,024 has a probability below 1e-7.
            for of in [buckets, tags] {
                assert!(of.iter().all(|&n| n < 48), "seed {seed}: {:?}", of.iter().max());
            }
        }
    }
}
