//! NDIS writes offload keywords to the registry before it passes OID_TCP_OFFLOAD_PARAMETERS on, so that a
//! setting outlives the adapter `[using-registry-values-to-enable-and-disable-task-offloading]`.

use super::super::AdapterCore;

/// A field of NDIS_OFFLOAD_PARAMETERS: its offset, its keyword, and its greatest value.
const FIELDS: [(usize, &str, u8); 12] = [
    (4, "*IPChecksumOffloadIPv4", 4),
    (5, "*TCPChecksumOffloadIPv4", 4),
    (6, "*UDPChecksumOffloadIPv4", 4),
    (7, "*TCPChecksumOffloadIPv6", 4),
    (8, "*UDPChecksumOffloadIPv6", 4),
    (9, "*LsoV1IPv4", 2),
    (11, "*LsoV2IPv4", 2),
    (12, "*LsoV2IPv6", 2),
    (20, "*IPsecOffloadV2", 4),
    (21, "*IPsecOffloadV2IPv4", 4),
    (22, "*RscIPv4", 2),
    (23, "*RscIPv6", 2),
];

impl AdapterCore {
    /// Writes what parameters ask for; a field of 0 changes nothing, a keyword counts from 0.
    pub(super) fn write_offload_keywords(&self, parameters: &[u8]) {
        let mut keywords = self.keywords.lock();
        for (offset, keyword, most) in FIELDS {
            // What lies behind the revision that the sender used is not there.
            let within = parameters.get(2..4).is_some_and(|size| offset < usize::from(size[0]));
            match parameters.get(offset) {
                Some(value) if within && (1..=most).contains(value) => {
                    keywords.set(keyword, (value - 1).to_string());
                }
                _ => {}
            }
        }
    }
}
