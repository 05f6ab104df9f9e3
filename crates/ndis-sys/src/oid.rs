//! Object identifiers.
//!
//! Each says what the request is: query, set or method, with which data (ULONG where nothing is said).
//! "NDIS answers" marks what never reaches the miniport: it gave NDIS the answer in attributes or indications. The page of
//! an OID is its name in lower case with hyphens, `[oid-gen-supported-list]` for example.

use crate::NDIS_OID;

#[cfg(doc)] // for links
use crate::*;

// General: operation.

/// Query (NDIS answers) and set: lookahead in bytes.
pub const OID_GEN_CURRENT_LOOKAHEAD: NDIS_OID = 0x0001_010F;
/// Query (NDIS answers) and set: `NDIS_PACKET_TYPE_…`.
pub const OID_GEN_CURRENT_PACKET_FILTER: NDIS_OID = 0x0001_010E;
/// Query: NDIS version of the driver; NDIS answers.
pub const OID_GEN_DRIVER_VERSION: NDIS_OID = 0x0001_0110;
/// Query: ports; NDIS answers.
pub const OID_GEN_ENUMERATE_PORTS: NDIS_OID = 0x0001_020D;
/// Query: the adapter's name; NDIS answers.
pub const OID_GEN_FRIENDLY_NAME: NDIS_OID = 0x0002_0216;
/// Query: [`NDIS_HARDWARE_STATUS`].
pub const OID_GEN_HARDWARE_STATUS: NDIS_OID = 0x0001_0102;
/// Query and set: [`NDIS_INTERRUPT_MODERATION_PARAMETERS`].
pub const OID_GEN_INTERRUPT_MODERATION: NDIS_OID = 0x0001_0209;
/// Set: [`NDIS_LINK_PARAMETERS`].
pub const OID_GEN_LINK_PARAMETERS: NDIS_OID = 0x0001_0208;
/// Query: speed in units of 100 bit/s; NDIS answers.
pub const OID_GEN_LINK_SPEED: NDIS_OID = 0x0001_0107;
/// Query: speeds; NDIS answers.
pub const OID_GEN_LINK_SPEED_EX: NDIS_OID = 0x0001_028B;
/// Query: [`NDIS_LINK_STATE`]; NDIS answers.
pub const OID_GEN_LINK_STATE: NDIS_OID = 0x0001_0207;
/// Set: the computer's name, UTF-16 without terminator.
pub const OID_GEN_MACHINE_NAME: NDIS_OID = 0x0001_021A;
/// Query: `NDIS_MAC_OPTION_…`; NDIS answers.
pub const OID_GEN_MAC_OPTIONS: NDIS_OID = 0x0001_0113;
/// Query: payload in bytes; NDIS answers.
pub const OID_GEN_MAXIMUM_FRAME_SIZE: NDIS_OID = 0x0001_0106;
/// Query: lookahead in bytes; NDIS answers.
pub const OID_GEN_MAXIMUM_LOOKAHEAD: NDIS_OID = 0x0001_0105;
/// Query: obsolete.
pub const OID_GEN_MAXIMUM_SEND_PACKETS: NDIS_OID = 0x0001_0115;
/// Query: bytes of a frame, with the MAC header.
pub const OID_GEN_MAXIMUM_TOTAL_SIZE: NDIS_OID = 0x0001_0111;
/// Query: highest speeds; NDIS answers.
pub const OID_GEN_MAX_LINK_SPEED: NDIS_OID = 0x0001_0206;
/// Query: [`NDIS_MEDIA_STATE`]; NDIS answers.
pub const OID_GEN_MEDIA_CONNECT_STATUS: NDIS_OID = 0x0001_0114;
/// Query: [`NET_IF_MEDIA_CONNECT_STATE`]; NDIS answers.
pub const OID_GEN_MEDIA_CONNECT_STATUS_EX: NDIS_OID = 0x0001_028A;
/// Query: [`NET_IF_MEDIA_DUPLEX_STATE`]; NDIS answers.
pub const OID_GEN_MEDIA_DUPLEX_STATE: NDIS_OID = 0x0001_028C;
/// Query: media in use; NDIS answers.
pub const OID_GEN_MEDIA_IN_USE: NDIS_OID = 0x0001_0104;
/// Query: media supported; NDIS answers.
pub const OID_GEN_MEDIA_SUPPORTED: NDIS_OID = 0x0001_0103;
/// In restart attributes: [`NDIS_RESTART_GENERAL_ATTRIBUTES`].
pub const OID_GEN_MINIPORT_RESTART_ATTRIBUTES: NDIS_OID = 0x0001_021D;
/// Set: network addresses of a binding.
pub const OID_GEN_NETWORK_LAYER_ADDRESSES: NDIS_OID = 0x0001_0118;
/// Query: [`NDIS_PHYSICAL_MEDIUM`]; NDIS answers.
pub const OID_GEN_PHYSICAL_MEDIUM: NDIS_OID = 0x0001_0202;
/// Query: bytes of one receive buffer.
pub const OID_GEN_RECEIVE_BLOCK_SIZE: NDIS_OID = 0x0001_010B;
/// Query: bytes of receive buffers.
pub const OID_GEN_RECEIVE_BUFFER_SPACE: NDIS_OID = 0x0001_0109;
/// Query and set: hashes of received frames.
pub const OID_GEN_RECEIVE_HASH: NDIS_OID = 0x0001_021F;
/// Query: receive-side scaling.
pub const OID_GEN_RECEIVE_SCALE_CAPABILITIES: NDIS_OID = 0x0001_0203;
/// Query and set: receive-side scaling.
pub const OID_GEN_RECEIVE_SCALE_PARAMETERS: NDIS_OID = 0x0001_0204;
/// Query: OIDs supported; NDIS answers.
pub const OID_GEN_SUPPORTED_LIST: NDIS_OID = 0x0001_0101;
/// Query: bytes of one send buffer.
pub const OID_GEN_TRANSMIT_BLOCK_SIZE: NDIS_OID = 0x0001_010A;
/// Query: bytes of send buffers.
pub const OID_GEN_TRANSMIT_BUFFER_SPACE: NDIS_OID = 0x0001_0108;
/// Set: size of a transport's headers.
pub const OID_GEN_TRANSPORT_HEADER_OFFSET: NDIS_OID = 0x0001_0119;
/// Query: terminated string.
pub const OID_GEN_VENDOR_DESCRIPTION: NDIS_OID = 0x0001_010D;
/// Query: major version in the high word, minor in the low word.
pub const OID_GEN_VENDOR_DRIVER_VERSION: NDIS_OID = 0x0001_0116;
/// Query: OUI in the first 3 bytes, then a device number; 0xFFFFFF without an OUI.
pub const OID_GEN_VENDOR_ID: NDIS_OID = 0x0001_010C;
/// Query and set: VLAN identifier, 0 to 4095.
pub const OID_GEN_VLAN_ID: NDIS_OID = 0x0001_021C;

// General: statistics.

/// Query: bytes of broadcast frames received; NDIS answers from the statistics.
pub const OID_GEN_BROADCAST_BYTES_RCV: NDIS_OID = 0x0002_020B;
/// Query: bytes of broadcast frames sent; NDIS answers from the statistics.
pub const OID_GEN_BROADCAST_BYTES_XMIT: NDIS_OID = 0x0002_0205;
/// Query: broadcast frames received; NDIS answers from the statistics.
pub const OID_GEN_BROADCAST_FRAMES_RCV: NDIS_OID = 0x0002_020C;
/// Query: broadcast frames sent; NDIS answers from the statistics.
pub const OID_GEN_BROADCAST_FRAMES_XMIT: NDIS_OID = 0x0002_0206;
/// Query: bytes received; NDIS answers from the statistics.
pub const OID_GEN_BYTES_RCV: NDIS_OID = 0x0002_0219;
/// Query: bytes sent; NDIS answers from the statistics.
pub const OID_GEN_BYTES_XMIT: NDIS_OID = 0x0002_021A;
/// Query: bytes of directed frames received; NDIS answers from the statistics.
pub const OID_GEN_DIRECTED_BYTES_RCV: NDIS_OID = 0x0002_0207;
/// Query: bytes of directed frames sent; NDIS answers from the statistics.
pub const OID_GEN_DIRECTED_BYTES_XMIT: NDIS_OID = 0x0002_0201;
/// Query: directed frames received; NDIS answers from the statistics.
pub const OID_GEN_DIRECTED_FRAMES_RCV: NDIS_OID = 0x0002_0208;
/// Query: directed frames sent; NDIS answers from the statistics.
pub const OID_GEN_DIRECTED_FRAMES_XMIT: NDIS_OID = 0x0002_0202;
/// Query: milliseconds that initialisation took; NDIS answers.
pub const OID_GEN_INIT_TIME_MS: NDIS_OID = 0x0002_0213;
/// Query: link changes; NDIS answers.
pub const OID_GEN_MEDIA_SENSE_COUNTS: NDIS_OID = 0x0002_0215;
/// Query: bytes of multicast frames received; NDIS answers from the statistics.
pub const OID_GEN_MULTICAST_BYTES_RCV: NDIS_OID = 0x0002_0209;
/// Query: bytes of multicast frames sent; NDIS answers from the statistics.
pub const OID_GEN_MULTICAST_BYTES_XMIT: NDIS_OID = 0x0002_0203;
/// Query: multicast frames received; NDIS answers from the statistics.
pub const OID_GEN_MULTICAST_FRAMES_RCV: NDIS_OID = 0x0002_020A;
/// Query: multicast frames sent; NDIS answers from the statistics.
pub const OID_GEN_MULTICAST_FRAMES_XMIT: NDIS_OID = 0x0002_0204;
/// Query: frames received with a bad checksum.
pub const OID_GEN_RCV_CRC_ERROR: NDIS_OID = 0x0002_020D;
/// Query: receives discarded; NDIS answers from the statistics.
pub const OID_GEN_RCV_DISCARDS: NDIS_OID = 0x0002_021B;
/// Query: frames received with errors, 4 or 8 bytes.
pub const OID_GEN_RCV_ERROR: NDIS_OID = 0x0002_0104;
/// Query: frames lost for lack of buffers, 4 or 8 bytes.
pub const OID_GEN_RCV_NO_BUFFER: NDIS_OID = 0x0002_0105;
/// Query: frames received, 4 or 8 bytes.
pub const OID_GEN_RCV_OK: NDIS_OID = 0x0002_0102;
/// Query: resets; NDIS answers.
pub const OID_GEN_RESET_COUNTS: NDIS_OID = 0x0002_0214;
/// Query: [`NDIS_STATISTICS_INFO`].
pub const OID_GEN_STATISTICS: NDIS_OID = 0x0002_0106;
/// Query: frames queued to be sent.
pub const OID_GEN_TRANSMIT_QUEUE_LENGTH: NDIS_OID = 0x0002_020E;
/// Query: sends discarded; NDIS answers from the statistics.
pub const OID_GEN_XMIT_DISCARDS: NDIS_OID = 0x0002_021C;
/// Query: frames not sent, 4 or 8 bytes.
pub const OID_GEN_XMIT_ERROR: NDIS_OID = 0x0002_0103;
/// Query: frames sent, 4 or 8 bytes.
pub const OID_GEN_XMIT_OK: NDIS_OID = 0x0002_0101;

// Ethernet.

/// Set, of protocols: adds to the multicast list; NDIS merges it.
pub const OID_802_3_ADD_MULTICAST_ADDRESS: NDIS_OID = 0x0101_0208;
/// Query: the address in use, 6 bytes.
pub const OID_802_3_CURRENT_ADDRESS: NDIS_OID = 0x0101_0102;
/// Set, of protocols: takes from the multicast list; NDIS merges it.
pub const OID_802_3_DELETE_MULTICAST_ADDRESS: NDIS_OID = 0x0101_0209;
/// Query: obsolete.
pub const OID_802_3_MAC_OPTIONS: NDIS_OID = 0x0101_0105;
/// Query: addresses that fit the multicast list.
pub const OID_802_3_MAXIMUM_LIST_SIZE: NDIS_OID = 0x0101_0104;
/// Query (NDIS answers) and set: 6 bytes per address.
pub const OID_802_3_MULTICAST_LIST: NDIS_OID = 0x0101_0103;
/// Query: the address that the NIC was made with, 6 bytes.
pub const OID_802_3_PERMANENT_ADDRESS: NDIS_OID = 0x0101_0101;
/// Query: frames received with alignment errors.
pub const OID_802_3_RCV_ERROR_ALIGNMENT: NDIS_OID = 0x0102_0101;
/// Query: frames lost to overruns.
pub const OID_802_3_RCV_OVERRUN: NDIS_OID = 0x0102_0203;
/// Query: frames sent after deferring.
pub const OID_802_3_XMIT_DEFERRED: NDIS_OID = 0x0102_0201;
/// Query: frames sent without heartbeat.
pub const OID_802_3_XMIT_HEARTBEAT_FAILURE: NDIS_OID = 0x0102_0205;
/// Query: late collisions.
pub const OID_802_3_XMIT_LATE_COLLISIONS: NDIS_OID = 0x0102_0207;
/// Query: frames not sent for too many collisions.
pub const OID_802_3_XMIT_MAX_COLLISIONS: NDIS_OID = 0x0102_0202;
/// Query: frames sent after several collisions.
pub const OID_802_3_XMIT_MORE_COLLISIONS: NDIS_OID = 0x0102_0103;
/// Query: frames sent after one collision.
pub const OID_802_3_XMIT_ONE_COLLISION: NDIS_OID = 0x0102_0102;
/// Query: losses of carrier while sending.
pub const OID_802_3_XMIT_TIMES_CRS_LOST: NDIS_OID = 0x0102_0206;
/// Query: frames not sent for underruns.
pub const OID_802_3_XMIT_UNDERRUN: NDIS_OID = 0x0102_0204;

// Power management before NDIS 6.20.

/// Set: a wake-up pattern; before NDIS 6.20.
pub const OID_PNP_ADD_WAKE_UP_PATTERN: NDIS_OID = 0xFD01_0103;
/// Query: [`NDIS_PNP_CAPABILITIES`]; before NDIS 6.20.
pub const OID_PNP_CAPABILITIES: NDIS_OID = 0xFD01_0100;
/// Query and set: wake-up methods; before NDIS 6.20.
pub const OID_PNP_ENABLE_WAKE_UP: NDIS_OID = 0xFD01_0106;
/// Query: may [`NDIS_DEVICE_POWER_STATE`] be entered?
pub const OID_PNP_QUERY_POWER: NDIS_OID = 0xFD01_0102;
/// Set: a wake-up pattern; before NDIS 6.20.
pub const OID_PNP_REMOVE_WAKE_UP_PATTERN: NDIS_OID = 0xFD01_0104;
/// Set: [`NDIS_DEVICE_POWER_STATE`] to enter.
pub const OID_PNP_SET_POWER: NDIS_OID = 0xFD01_0101;
/// Query: wake-up patterns; before NDIS 6.20.
pub const OID_PNP_WAKE_UP_PATTERN_LIST: NDIS_OID = 0xFD01_0105;

// Power management since NDIS 6.20.

/// Set: a protocol offload for low power.
pub const OID_PM_ADD_PROTOCOL_OFFLOAD: NDIS_OID = 0xFD01_010D;
/// Set: a wake-on-LAN pattern.
pub const OID_PM_ADD_WOL_PATTERN: NDIS_OID = 0xFD01_010A;
/// Query: [`NDIS_PM_CAPABILITIES`] in force; NDIS answers.
pub const OID_PM_CURRENT_CAPABILITIES: NDIS_OID = 0xFD01_0107;
/// Method: a protocol offload for low power.
pub const OID_PM_GET_PROTOCOL_OFFLOAD: NDIS_OID = 0xFD01_010E;
/// Query: [`NDIS_PM_CAPABILITIES`] of the hardware; NDIS answers.
pub const OID_PM_HARDWARE_CAPABILITIES: NDIS_OID = 0xFD01_0108;
/// Query (NDIS answers) and set: [`NDIS_PM_PARAMETERS`].
pub const OID_PM_PARAMETERS: NDIS_OID = 0xFD01_0109;
/// Query: protocol offloads; NDIS answers.
pub const OID_PM_PROTOCOL_OFFLOAD_LIST: NDIS_OID = 0xFD01_0110;
/// Set: a protocol offload for low power.
pub const OID_PM_REMOVE_PROTOCOL_OFFLOAD: NDIS_OID = 0xFD01_010F;
/// Set: a wake-on-LAN pattern.
pub const OID_PM_REMOVE_WOL_PATTERN: NDIS_OID = 0xFD01_010B;
/// Query: wake-on-LAN patterns; NDIS answers.
pub const OID_PM_WOL_PATTERN_LIST: NDIS_OID = 0xFD01_010C;

// Task offload.

/// Query: [`NDIS_OFFLOAD`] in force; NDIS answers.
pub const OID_TCP_OFFLOAD_CURRENT_CONFIG: NDIS_OID = 0xFC01_020B;
/// Query: [`NDIS_OFFLOAD`] of the hardware; NDIS answers.
pub const OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES: NDIS_OID = 0xFC01_020D;
/// Set: [`NDIS_OFFLOAD_PARAMETERS`].
pub const OID_TCP_OFFLOAD_PARAMETERS: NDIS_OID = 0xFC01_020C;
/// Direct; set: a list of [`IPSEC_OFFLOAD_V2_ADD_SA`].
pub const OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA: NDIS_OID = 0xFC03_0202;
/// Direct; set: one [`IPSEC_OFFLOAD_V2_ADD_SA_EX`].
pub const OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX: NDIS_OID = 0xFC03_0205;
/// Direct; set: a list of [`IPSEC_OFFLOAD_V2_DELETE_SA`].
pub const OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA: NDIS_OID = 0xFC03_0203;
/// Direct; set: one [`IPSEC_OFFLOAD_V2_UPDATE_SA`].
pub const OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA: NDIS_OID = 0xFC03_0204;
/// NDIS 5.
pub const OID_TCP_TASK_OFFLOAD: NDIS_OID = 0xFC01_0201;
/// Query (NDIS answers) and set: [`NDIS_OFFLOAD_ENCAPSULATION`].
pub const OID_OFFLOAD_ENCAPSULATION: NDIS_OID = 0x0101_010A;
