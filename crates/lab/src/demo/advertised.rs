//! What a driver registered and its adapter advertised, field by field and bit by bit.

use ndis_lab::Registered;
use ndis_lab::adapter::attributes::{Attributes, GeneralAttributes};
use ndis_sys::{
    IPSEC_OFFLOAD_V2_AND_TCP_CHECKSUM_COEXISTENCE, IPSEC_OFFLOAD_V2_AND_UDP_CHECKSUM_COEXISTENCE,
    NDIS_ENCAPSULATION_IEEE_802_3, NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q,
    NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB, NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED,
    NDIS_ENCAPSULATION_NULL, NDIS_IPSEC_OFFLOAD_V2, NDIS_OFFLOAD,
    NDIS_OFFLOAD_FLAGS_GROUP_CHECKSUM_CAPABILITIES,
};

use super::report::{Row, Section, Value};

/// All tables.
pub(super) fn tables(registered: &Registered, attributes: &Attributes) -> Vec<Section> {
    let mut sections = vec![handlers(registered), general(attributes)];
    if let Some(offload) = &attributes.offload {
        sections.push(task_offload("NDIS_OFFLOAD (hardware capabilities)", &offload.hardware));
        sections.push(ipsec("NDIS_IPSEC_OFFLOAD_V2 (hardware capabilities)", &offload.hardware.IPsecV2));
        if offload.default != offload.hardware {
            sections.push(task_offload("NDIS_OFFLOAD (default configuration)", &offload.default));
            sections.push(ipsec("NDIS_IPSEC_OFFLOAD_V2 (default configuration)", &offload.default.IPsecV2));
        }
    }
    sections
}

fn row(name: impl Into<String>, value: impl Into<Value>) -> Row {
    Row { name: name.into(), value: value.into() }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The names of the bits that are set; unknown bits by their value.
fn names(word: u32, bits: &[(u32, &str)]) -> Value {
    let mut names: Vec<String> =
        bits.iter().filter(|(bit, _)| word & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let known = bits.iter().fold(0, |known, (bit, _)| known | bit);
    if word & !known != 0 {
        names.push(format!("unknown {:#x}", word & !known));
    }
    Value::Names(names)
}

fn handlers(registered: &Registered) -> Section {
    macro_rules! handlers {
        ($($name:ident)*) => {
            vec![$(row(stringify!($name), registered.characteristics.$name.is_some())),*]
        };
    }
    let mut rows = handlers! {
        SetOptionsHandler InitializeHandlerEx HaltHandlerEx UnloadHandler PauseHandler RestartHandler
        OidRequestHandler SendNetBufferListsHandler ReturnNetBufferListsHandler CancelSendHandler
        CheckForHangHandlerEx ResetHandlerEx DevicePnPEventNotifyHandler ShutdownHandlerEx
        CancelOidRequestHandler DirectOidRequestHandler CancelDirectOidRequestHandler
    };
    let characteristics = &registered.characteristics;
    rows.insert(
        0,
        row(
            "NDIS version",
            format!("{}.{}", characteristics.MajorNdisVersion, characteristics.MinorNdisVersion),
        ),
    );
    rows.insert(
        1,
        row(
            "driver version",
            format!("{}.{}", characteristics.MajorDriverVersion, characteristics.MinorDriverVersion),
        ),
    );
    Section { title: "NDIS_MINIPORT_DRIVER_CHARACTERISTICS".into(), rows }
}

fn mac(address: &[u8]) -> String {
    address.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join("-")
}

/// "10 Gbit/s", or what there is.
fn speed(bits: u64) -> String {
    match bits {
        ndis_sys::NDIS_LINK_SPEED_UNKNOWN => "unknown".into(),
        _ if bits.is_multiple_of(1_000_000_000) => format!("{} Gbit/s", bits / 1_000_000_000),
        _ if bits.is_multiple_of(1_000_000) => format!("{} Mbit/s", bits / 1_000_000),
        _ => format!("{bits} bit/s"),
    }
}

fn general(attributes: &Attributes) -> Section {
    let general: &GeneralAttributes = &attributes.general;
    let rows = vec![
        row(
            "MediaType",
            if general.MediaType == ndis_sys::NdisMedium802_3 {
                "802.3".to_owned()
            } else {
                general.MediaType.to_string()
            },
        ),
        row("MtuSize", general.MtuSize),
        row("LookaheadSize", general.LookaheadSize),
        row("link speed (transmit / receive)", {
            format!("{} / {}", speed(general.XmitLinkSpeed), speed(general.RcvLinkSpeed))
        }),
        row("PermanentMacAddress", mac(general.permanent_address())),
        row("CurrentMacAddress", mac(general.current_address())),
        row("MaxMulticastListSize", general.MaxMulticastListSize),
        row("SupportedPacketFilters", names(general.SupportedPacketFilters, PACKET_FILTERS)),
        row("MacOptions", names(general.MacOptions, MAC_OPTIONS)),
        row("AttributeFlags", names(attributes.registration.flags, ATTRIBUTE_FLAGS)),
        row("SupportedStatistics", format!("{} counters", general.SupportedStatistics.count_ones())),
        row("SupportedOidList", format!("{} OIDs", general.supported_oids.len())),
    ];
    Section { title: "general attributes".into(), rows }
}

const PACKET_FILTERS: &[(u32, &str)] = &[
    (ndis_sys::NDIS_PACKET_TYPE_DIRECTED, "directed"),
    (ndis_sys::NDIS_PACKET_TYPE_MULTICAST, "multicast"),
    (ndis_sys::NDIS_PACKET_TYPE_ALL_MULTICAST, "all multicast"),
    (ndis_sys::NDIS_PACKET_TYPE_BROADCAST, "broadcast"),
    (ndis_sys::NDIS_PACKET_TYPE_SOURCE_ROUTING, "source routing"),
    (ndis_sys::NDIS_PACKET_TYPE_PROMISCUOUS, "promiscuous"),
    (ndis_sys::NDIS_PACKET_TYPE_ALL_LOCAL, "all local"),
    (ndis_sys::NDIS_PACKET_TYPE_NO_LOCAL, "no local"),
];

const MAC_OPTIONS: &[(u32, &str)] = &[
    (ndis_sys::NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA, "copy lookahead data"),
    (ndis_sys::NDIS_MAC_OPTION_RECEIVE_SERIALIZED, "receive serialized"),
    (ndis_sys::NDIS_MAC_OPTION_TRANSFERS_NOT_PEND, "transfers do not pend"),
    (ndis_sys::NDIS_MAC_OPTION_NO_LOOPBACK, "no loopback"),
    (ndis_sys::NDIS_MAC_OPTION_FULL_DUPLEX, "full duplex"),
    (ndis_sys::NDIS_MAC_OPTION_EOTX_INDICATION, "end of transmit"),
    (ndis_sys::NDIS_MAC_OPTION_8021P_PRIORITY, "802.1p priority"),
    (ndis_sys::NDIS_MAC_OPTION_SUPPORTS_MAC_ADDRESS_OVERWRITE, "MAC address overwrite"),
    (ndis_sys::NDIS_MAC_OPTION_RECEIVE_AT_DPC, "receive at DPC"),
    (ndis_sys::NDIS_MAC_OPTION_8021Q_VLAN, "802.1Q VLAN"),
];

const ATTRIBUTE_FLAGS: &[(u32, &str)] = &[
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE, "hardware device"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM, "WDM"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK, "surprise removal OK"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_NOT_CO_NDIS, "not CoNDIS"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_DO_NOT_BIND_TO_ALL_CO, "do not bind to all"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND, "no halt on suspend"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER, "bus master"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_CONTROLS_DEFAULT_PORT, "controls default port"),
    (ndis_sys::NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND, "no pause on suspend"),
];

const ENCAPSULATIONS: &[(u32, &str)] = &[
    (NDIS_ENCAPSULATION_NULL, "null"),
    (NDIS_ENCAPSULATION_IEEE_802_3, "802.3"),
    (NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q, "802.3 with tag"),
    (NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB, "802.3 with tag in OOB"),
    (NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED, "LLC/SNAP"),
];

const OFFLOAD_FLAGS: &[(u32, &str)] = &[
    (NDIS_OFFLOAD_FLAGS_GROUP_CHECKSUM_CAPABILITIES, "group checksum capabilities"),
    (IPSEC_OFFLOAD_V2_AND_TCP_CHECKSUM_COEXISTENCE, "IPsecV2 with TCP checksum"),
    (IPSEC_OFFLOAD_V2_AND_UDP_CHECKSUM_COEXISTENCE, "IPsecV2 with UDP checksum"),
];

/// The parts of NDIS_OFFLOAD besides IPsecV2.
fn task_offload(title: &str, offload: &NDIS_OFFLOAD) -> Section {
    /// A group of 2-bit fields: those that are not 0 are set.
    macro_rules! bits {
        ($group:expr; $($field:ident)*) => {{
            let fields = [$((stringify!($field), $group.$field() != 0)),*];
            let named = |wanted: bool| -> Vec<String> {
                fields.iter().filter(|(_, set)| *set == wanted).map(|(name, _)| (*name).to_owned()).collect()
            };
            Value::Bits { set: named(true), clear: named(false) }
        }};
    }
    macro_rules! checksum {
        ($rows:ident, $part:ident; $($field:ident)*) => {
            let part = &offload.Checksum.$part;
            let name = concat!("Checksum.", stringify!($part));
            $rows.push(row(format!("{name}.Encapsulation"), names(part.Encapsulation, ENCAPSULATIONS)));
            $rows.push(row(name, bits!(part.Bits; $($field)*)));
        };
    }
    let header = &offload.Header;
    let mut rows = vec![row(
        "Header",
        format!("type {:#x}, revision {}, {} bytes", header.Type, header.Revision, header.Size),
    )];
    checksum!(rows, IPv4Transmit; IpOptionsSupported TcpOptionsSupported TcpChecksum UdpChecksum IpChecksum);
    checksum!(rows, IPv4Receive; IpOptionsSupported TcpOptionsSupported TcpChecksum UdpChecksum IpChecksum);
    checksum!(rows, IPv6Transmit; IpExtensionHeadersSupported TcpOptionsSupported TcpChecksum UdpChecksum);
    checksum!(rows, IPv6Receive; IpExtensionHeadersSupported TcpOptionsSupported TcpChecksum UdpChecksum);
    let large = |size: u32, least: u32| format!("up to {size} bytes, at least {least} segments");
    let (v1, v2) = (&offload.LsoV1.IPv4, &offload.LsoV2);
    rows.push(row("LsoV1.IPv4.Encapsulation", names(v1.Encapsulation, ENCAPSULATIONS)));
    rows.push(row("LsoV1.IPv4", bits!(v1.Bits; TcpOptions IpOptions)));
    rows.push(row("LsoV2.IPv4.Encapsulation", names(v2.IPv4.Encapsulation, ENCAPSULATIONS)));
    rows.push(row("LsoV2.IPv4", large(v2.IPv4.MaxOffLoadSize, v2.IPv4.MinSegmentCount)));
    rows.push(row("LsoV2.IPv6.Encapsulation", names(v2.IPv6.Encapsulation, ENCAPSULATIONS)));
    rows.push(row("LsoV2.IPv6", bits!(v2.IPv6.Bits; IpExtensionHeadersSupported TcpOptionsSupported)));
    rows.push(row("IPsecV1.Encapsulation", names(offload.IPsecV1.Supported.Encapsulation, ENCAPSULATIONS)));
    rows.push(row("Flags", names(offload.Flags, OFFLOAD_FLAGS)));
    rows.push(row("Rsc.IPv4", offload.Rsc.IPv4.Enabled != 0));
    rows.push(row("Rsc.IPv6", offload.Rsc.IPv6.Enabled != 0));
    let gre = &offload.EncapsulatedPacketTaskOffloadGre.Bits;
    rows.push(row(
        "EncapsulatedPacketTaskOffloadGre",
        bits!(gre; TransmitChecksumOffloadSupported
        ReceiveChecksumOffloadSupported LsoV2Supported RssSupported VmqSupported),
    ));
    Section { title: title.to_owned(), rows }
}

const UDP_ESP: &[(u32, &str)] = &[
    (ndis_sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT, "transport"),
    (ndis_sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TUNNEL, "tunnel"),
    (ndis_sys::IPSEC_OFFLOAD_V2_TRANSPORT_OVER_UDP_ESP_ENCAPSULATION_TUNNEL, "transport over UDP-ESP tunnel"),
    (ndis_sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT_OVER_TUNNEL, "UDP-ESP transport over tunnel"),
];

const AUTHENTICATION: &[(u32, &str)] = &[
    (ndis_sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_MD5, "MD5"),
    (ndis_sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1, "SHA-1"),
    (ndis_sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256, "SHA-256"),
    (ndis_sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128, "AES-GMAC-128"),
    (ndis_sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_192, "AES-GMAC-192"),
    (ndis_sys::IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_256, "AES-GMAC-256"),
];

const ENCRYPTION: &[(u32, &str)] = &[
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_NONE, "none"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_DES_CBC, "DES-CBC"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_3_DES_CBC, "3DES-CBC"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128, "AES-GCM-128"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192, "AES-GCM-192"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256, "AES-GCM-256"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_128, "AES-CBC-128"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_192, "AES-CBC-192"),
    (ndis_sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_256, "AES-CBC-256"),
];

/// Every field of NDIS_IPSEC_OFFLOAD_V2, and every algorithm by itself.
fn ipsec(title: &str, ipsec: &NDIS_IPSEC_OFFLOAD_V2) -> Section {
    macro_rules! flags {
        ($rows:ident, $($field:ident)*) => { $($rows.push(row(stringify!($field), ipsec.$field != 0));)* };
    }
    let mut rows = vec![row("Encapsulation", names(ipsec.Encapsulation, ENCAPSULATIONS))];
    flags!(rows, IPv6Supported IPv4Options IPv6NonIPsecExtensionHeaders Ah Esp AhEspCombined Transport Tunnel
        TransportTunnelCombined LsoSupported ExtendedSequenceNumbers);
    rows.push(row("UdpEsp", names(ipsec.UdpEsp, UDP_ESP)));
    let each = |rows: &mut Vec<Row>, field: &str, word: u32, bits: &[(u32, &str)]| {
        for (bit, name) in bits {
            rows.push(row(format!("{field}: {name}"), word & bit != 0));
        }
        let known = bits.iter().fold(0, |known, (bit, _)| known | bit);
        if word & !known != 0 {
            rows.push(row(format!("{field}: unknown bits"), format!("{:#x}", word & !known)));
        }
    };
    each(&mut rows, "AuthenticationAlgorithms", ipsec.AuthenticationAlgorithms, AUTHENTICATION);
    each(&mut rows, "EncryptionAlgorithms", ipsec.EncryptionAlgorithms, ENCRYPTION);
    rows.push(row("SaOffloadCapacity", ipsec.SaOffloadCapacity));
    Section { title: title.to_owned(), rows }
}
