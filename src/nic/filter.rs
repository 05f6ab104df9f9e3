//! Which frames a port takes off the wire: station address, packet filter, multicast list
//! (`oid-gen-current-packet-filter`). Pure data; touches nothing.

pub use ipsec::wire::MacAddress;

/// Multicast addresses that a port can hold; what `OID_802_3_MAXIMUM_LIST_SIZE` answers.
pub const MULTICAST_CAPACITY: usize = 32;

/// Destination class of a frame, as the statistics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// One station.
    Unicast,
    /// A group address other than broadcast.
    Multicast,
    /// `FF:FF:FF:FF:FF:FF`.
    Broadcast,
}

impl Cast {
    /// The class of a destination address.
    pub fn of(destination: MacAddress) -> Self {
        if destination.is_broadcast() {
            Self::Broadcast
        } else if destination.is_multicast() {
            Self::Multicast
        } else {
            Self::Unicast
        }
    }
}

/// The kinds of frame that a port accepts (NDIS packet filter bits, decoded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the bits of the packet filter, each with a name")]
pub struct PacketFilter {
    /// Frames to this station.
    pub directed: bool,
    /// Frames to the groups in the multicast list.
    pub multicast: bool,
    /// Frames to any group.
    pub all_multicast: bool,
    /// Broadcast frames.
    pub broadcast: bool,
    /// Every frame on the wire.
    pub promiscuous: bool,
}

/// A port's receive filter. Starts closed, as NDIS expects after initialisation.
#[derive(Clone, Debug)]
pub struct ReceiveFilter {
    station: MacAddress,
    packet_filter: PacketFilter,
    groups: [MacAddress; MULTICAST_CAPACITY],
    group_count: usize,
}

/// A multicast list longer than [`MULTICAST_CAPACITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MulticastFull;

impl ReceiveFilter {
    /// A filter that accepts nothing yet.
    pub const fn new(station: MacAddress) -> Self {
        Self {
            station,
            packet_filter: PacketFilter {
                directed: false,
                multicast: false,
                all_multicast: false,
                broadcast: false,
                promiscuous: false,
            },
            groups: [MacAddress([0; 6]); MULTICAST_CAPACITY],
            group_count: 0,
        }
    }

    /// Sets which kinds of frame are accepted.
    pub fn set_packet_filter(&mut self, packet_filter: PacketFilter) {
        self.packet_filter = packet_filter;
    }

    /// Replaces the multicast list; on error the old list stays.
    ///
    /// # Errors
    /// [`MulticastFull`] when there are more than [`MULTICAST_CAPACITY`] addresses.
    pub fn set_groups(
        &mut self,
        groups: impl ExactSizeIterator<Item = MacAddress>,
    ) -> Result<(), MulticastFull> {
        let count = groups.len();
        if count > MULTICAST_CAPACITY {
            return Err(MulticastFull);
        }
        for (slot, group) in self.groups.iter_mut().zip(groups) {
            *slot = group;
        }
        self.group_count = count;
        Ok(())
    }

    /// Whether the port takes a frame to `destination`.
    pub fn accepts(&self, destination: MacAddress) -> bool {
        let filter = self.packet_filter;
        if filter.promiscuous {
            return true;
        }
        match Cast::of(destination) {
            Cast::Unicast => filter.directed && destination == self.station,
            Cast::Broadcast => filter.broadcast,
            Cast::Multicast => {
                filter.all_multicast
                    || (filter.multicast && self.groups[..self.group_count].contains(&destination))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATION: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const GROUP: MacAddress = MacAddress([1, 0, 0x5E, 0, 0, 9]);
    const OTHER_GROUP: MacAddress = MacAddress([1, 0, 0x5E, 0, 0, 10]);

    fn accepted(packet_filter: PacketFilter) -> [bool; 5] {
        let mut filter = ReceiveFilter::new(STATION);
        filter.set_groups([GROUP].into_iter()).unwrap();
        filter.set_packet_filter(packet_filter);
        [STATION, OTHER, GROUP, OTHER_GROUP, MacAddress::BROADCAST].map(|to| filter.accepts(to))
    }

    #[test]
    fn each_bit_opens_its_class_and_no_other() {
        let none = PacketFilter::default();
        assert_eq!(accepted(none), [false; 5]);
        assert_eq!(accepted(PacketFilter { directed: true, ..none }), [true, false, false, false, false]);
        assert_eq!(accepted(PacketFilter { multicast: true, ..none }), [false, false, true, false, false]);
        assert_eq!(accepted(PacketFilter { all_multicast: true, ..none }), [false, false, true, true, false]);
        assert_eq!(accepted(PacketFilter { broadcast: true, ..none }), [false, false, false, false, true]);
        assert_eq!(accepted(PacketFilter { promiscuous: true, ..none }), [true; 5]);
    }

    #[test]
    fn a_list_that_is_too_long_leaves_the_old_one() {
        let mut filter = ReceiveFilter::new(STATION);
        filter.set_packet_filter(PacketFilter { multicast: true, ..PacketFilter::default() });
        filter.set_groups([GROUP].into_iter()).unwrap();
        let long = [OTHER_GROUP; MULTICAST_CAPACITY + 1];
        assert_eq!(filter.set_groups(long.into_iter()), Err(MulticastFull));
        assert!(filter.accepts(GROUP) && !filter.accepts(OTHER_GROUP));
        filter.set_groups([].into_iter()).unwrap();
        assert!(!filter.accepts(GROUP));
    }
}
