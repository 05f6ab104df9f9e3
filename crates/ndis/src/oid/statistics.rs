//! The answer to OID_GEN_STATISTICS (`[oid-gen-statistics]`).

use ndis_sys::{
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT, NDIS_SIZEOF_STATISTICS_INFO_REVISION_1,
    NDIS_STATISTICS_INFO, NDIS_STATISTICS_INFO_REVISION_1,
};

/// Counters since initialisation. Octets include the MAC header and not the FCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// `NDIS_STATISTICS_FLAGS_VALID_*`: which counters count. Not the `_SUPPORTED` bits of the general attributes.
    pub valid: u32,
    /// Frames received and dropped: errors and want of buffers.
    pub in_discards: u64,
    /// Frames received with errors.
    pub in_errors: u64,
    /// Directed frames received.
    pub in_directed: u64,
    /// Multicast frames received.
    pub in_multicast: u64,
    /// Broadcast frames received.
    pub in_broadcast: u64,
    /// Octets in them.
    pub in_directed_octets: u64,
    /// Octets in multicast frames received.
    pub in_multicast_octets: u64,
    /// Octets in broadcast frames received.
    pub in_broadcast_octets: u64,
    /// Frames that could not be sent for errors.
    pub out_errors: u64,
    /// Frames not sent though they had no error.
    pub out_discards: u64,
    /// Directed frames sent.
    pub out_directed: u64,
    /// Multicast frames sent.
    pub out_multicast: u64,
    /// Broadcast frames sent.
    pub out_broadcast: u64,
    /// Octets in directed frames sent.
    pub out_directed_octets: u64,
    /// Octets in multicast frames sent.
    pub out_multicast_octets: u64,
    /// Octets in broadcast frames sent.
    pub out_broadcast_octets: u64,
}

impl Statistics {
    /// The structure on the wire. The octet totals are the sums that the header's comments define.
    pub(crate) fn to_raw(self) -> NDIS_STATISTICS_INFO {
        NDIS_STATISTICS_INFO {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NDIS_STATISTICS_INFO_REVISION_1,
                Size: NDIS_SIZEOF_STATISTICS_INFO_REVISION_1,
            },
            SupportedStatistics: self.valid,
            ifInDiscards: self.in_discards,
            ifInErrors: self.in_errors,
            ifHCInOctets: self
                .in_directed_octets
                .wrapping_add(self.in_multicast_octets)
                .wrapping_add(self.in_broadcast_octets),
            ifHCInUcastPkts: self.in_directed,
            ifHCInMulticastPkts: self.in_multicast,
            ifHCInBroadcastPkts: self.in_broadcast,
            ifHCOutOctets: self
                .out_directed_octets
                .wrapping_add(self.out_multicast_octets)
                .wrapping_add(self.out_broadcast_octets),
            ifHCOutUcastPkts: self.out_directed,
            ifHCOutMulticastPkts: self.out_multicast,
            ifHCOutBroadcastPkts: self.out_broadcast,
            ifOutErrors: self.out_errors,
            ifOutDiscards: self.out_discards,
            ifHCInUcastOctets: self.in_directed_octets,
            ifHCInMulticastOctets: self.in_multicast_octets,
            ifHCInBroadcastOctets: self.in_broadcast_octets,
            ifHCOutUcastOctets: self.out_directed_octets,
            ifHCOutMulticastOctets: self.out_multicast_octets,
            ifHCOutBroadcastOctets: self.out_broadcast_octets,
        }
    }
}
