//! MiniportInitializeEx: attributes, keywords, failures, addresses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ndis_sys::{
    NDIS_OFFLOAD, NdisMedium802_3, OID_802_3_CURRENT_ADDRESS, OID_802_3_MAXIMUM_LIST_SIZE,
    OID_802_3_MULTICAST_LIST, OID_802_3_PERMANENT_ADDRESS, OID_GEN_CURRENT_LOOKAHEAD,
    OID_GEN_CURRENT_PACKET_FILTER, OID_GEN_MAXIMUM_TOTAL_SIZE, OID_GEN_RCV_OK, OID_GEN_RECEIVE_BLOCK_SIZE,
    OID_GEN_RECEIVE_BUFFER_SPACE, OID_GEN_STATISTICS, OID_GEN_TRANSMIT_BLOCK_SIZE,
    OID_GEN_TRANSMIT_BUFFER_SPACE, OID_GEN_VENDOR_DESCRIPTION, OID_GEN_VENDOR_DRIVER_VERSION,
    OID_GEN_VENDOR_ID, OID_GEN_XMIT_OK, OID_PNP_QUERY_POWER, OID_PNP_SET_POWER,
};

use crate::adapter::attributes::Attributes;
use crate::adapter::oid::Oid;
use crate::adapter::send::SendNbl;
use crate::adapter::{Adapter, HaltAction};
use crate::conformance::context::Context;
use crate::conformance::run::each;
use crate::conformance::station::{self, BROADCAST, Mac, STRANGER};
use crate::conformance::{Case, Need, Outcome, Stop, check};
use crate::error::LabError;
use crate::fault::FaultPoint;
use crate::objects::Value;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 3,
        id: "attribute-order",
        area: "GenericMiniportRequirements",
        title: "MiniportInitializeEx sets registration, general and then other attributes, once each.",
        page: "nf-ndis-ndismsetminiportattributes",
        needs: &[],
        run: |context| context.adapter().map(drop).map_err(Into::into),
    },
    Case {
        number: 4,
        id: "attribute-values",
        area: "GenericMiniportRequirements",
        title: "General attributes have the values that an Ethernet miniport must have.",
        page: "ns-ndis-_ndis_miniport_adapter_general_attributes",
        needs: &[Need::Ethernet],
        run: attribute_values,
    },
    Case {
        number: 5,
        id: "initialize-fails",
        area: "1c_FaultHandling",
        title: "Each call that may fail in MiniportInitializeEx does once: nothing is left, and the next try succeeds.",
        page: "nc-ndis-miniport_initialize",
        needs: &[],
        run: initialize_fails,
    },
    Case {
        number: 6,
        id: "parallel-initialize",
        area: "GenericMiniportRequirements",
        title: "Adapters are initialised and halted in parallel, and each has an address of its own.",
        page: "summary-of-changes-required-to-port-a-miniport-driver-to-ndis-6-30",
        needs: &[],
        run: parallel_initialize,
    },
    Case {
        number: 7,
        id: "malformed-keywords",
        area: "StandardizedKeywords",
        title: "No missing, malformed or foreign keyword value makes initialisation fail.",
        page: "nf-ndis-ndisreadconfiguration",
        needs: &[Need::Ethernet],
        run: malformed_keywords,
    },
    Case {
        number: 7,
        id: "keywords-out-of-range",
        area: "StandardizedKeywords",
        title: "A keyword whose value is out of range counts as its default.",
        page: "enumeration-keywords",
        needs: &[Need::Ethernet],
        run: keywords_out_of_range,
    },
    Case {
        number: 8,
        id: "offload-keywords",
        area: "OffloadMISC",
        title: "Keywords switch offloads off in the default configuration and leave the hardware capabilities alone.",
        page: "using-registry-values-to-enable-and-disable-task-offloading",
        needs: &[Need::Offload],
        run: offload_keywords,
    },
    Case {
        number: 9,
        id: "network-address",
        area: "AddressChange",
        title: "A valid NetworkAddress becomes the current address, an invalid one is ignored, the permanent one stays.",
        page: "nf-ndis-ndisreadnetworkaddress",
        needs: &[Need::Ethernet],
        run: network_address,
    },
    Case {
        number: 10,
        id: "many-lives",
        area: "GenericMiniportRequirements",
        title: "Adapters come and go many times, and nothing is left after the driver is unloaded.",
        page: "nc-ndis-miniport_halt",
        needs: &[],
        run: many_lives,
    },
];

/// OIDs that a connectionless miniport answers itself `[mandatory-oids-for-miniport-drivers]`.
const MANDATORY: &[u32] = &[
    OID_GEN_TRANSMIT_BUFFER_SPACE,
    OID_GEN_RECEIVE_BUFFER_SPACE,
    OID_GEN_TRANSMIT_BLOCK_SIZE,
    OID_GEN_RECEIVE_BLOCK_SIZE,
    OID_GEN_VENDOR_ID,
    OID_GEN_VENDOR_DESCRIPTION,
    OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_CURRENT_LOOKAHEAD,
    OID_GEN_MAXIMUM_TOTAL_SIZE,
    OID_GEN_VENDOR_DRIVER_VERSION,
    OID_GEN_XMIT_OK,
    OID_GEN_RCV_OK,
    OID_GEN_STATISTICS,
    OID_802_3_PERMANENT_ADDRESS,
    OID_802_3_CURRENT_ADDRESS,
    OID_802_3_MULTICAST_LIST,
    OID_802_3_MAXIMUM_LIST_SIZE,
    OID_PNP_SET_POWER,
    OID_PNP_QUERY_POWER,
];

fn attribute_values(context: &Context) -> Outcome {
    let adapter = context.adapter()?;
    let attributes = adapter.attributes();
    let general = &attributes.general;
    check!(general.Flags == 0, "Flags {:#x}: they are reserved", general.Flags);
    check!(general.MediaType == NdisMedium802_3, "MediaType {}", general.MediaType);
    check!(general.IfType == ndis_sys::IF_TYPE_ETHERNET_CSMACD, "IfType {}", general.IfType);
    check!(
        general.AccessType == ndis_sys::NET_IF_ACCESS_BROADCAST,
        "AccessType {}: Ethernet is NET_IF_ACCESS_BROADCAST",
        general.AccessType
    );
    check!(
        general.ConnectionType == ndis_sys::NET_IF_CONNECTION_DEDICATED,
        "ConnectionType {}: Ethernet is NET_IF_CONNECTION_DEDICATED",
        general.ConnectionType
    );
    check!(general.MtuSize >= 1500, "MtuSize {}", general.MtuSize);
    check!(general.MaxMulticastListSize >= 32, "MaxMulticastListSize {}", general.MaxMulticastListSize);
    let filters = station::USUAL_FILTER;
    check!(
        general.SupportedPacketFilters & filters == filters,
        "SupportedPacketFilters {:#x} lack some of {filters:#x}",
        general.SupportedPacketFilters
    );
    let statistics =
        ndis_sys::NDIS_STATISTICS_XMIT_OK_SUPPORTED | ndis_sys::NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED;
    check!(
        general.SupportedStatistics & statistics == statistics,
        "SupportedStatistics {:#x} lack XMIT_OK or GEN_STATISTICS: these are the flags NDIS_STATISTICS_XXX_SUPPORTED",
        general.SupportedStatistics
    );
    check!(general.permanent_address() != [0; 6], "the permanent address is zero");
    check!(general.current_address() != [0; 6], "the current address is zero");
    check!(
        general.MediaConnectState != ndis_sys::MediaConnectStateConnected
            || general.XmitLinkSpeed > 0 && general.RcvLinkSpeed > 0,
        "the medium is connected, and the link speeds are {} and {} bits a second",
        general.XmitLinkSpeed,
        general.RcvLinkSpeed
    );
    if let Some(total) = adapter.oid(Oid::query(ndis_sys::OID_GEN_MAXIMUM_TOTAL_SIZE, 4))?.u32() {
        // Its page takes four bytes off for a tag; drivers do not.
        let frame = general.MtuSize.saturating_add(14);
        check!(
            total == frame || total + 4 == frame,
            "OID_GEN_MAXIMUM_TOTAL_SIZE is {total}, MtuSize {}: the one has a MAC header of 14 bytes, the other not",
            general.MtuSize
        );
    }
    let description = adapter.oid(Oid::query(ndis_sys::OID_GEN_VENDOR_DESCRIPTION, 512))?;
    check!(
        !description.is_success() || description.answer().last() == Some(&0),
        "OID_GEN_VENDOR_DESCRIPTION does not end with a NUL"
    );
    if let Some(offload) = attributes.offload {
        for (name, part) in
            [("hardware capabilities", offload.hardware), ("default configuration", offload.default)]
        {
            check!(
                part.IPsecV1 == ndis_sys::NDIS_IPSEC_OFFLOAD_V1::default(),
                "the {name} claim IPsec offload version 1, which Windows has not known since 8"
            );
        }
    }
    let listed = |oid: u32| general.supported_oids.contains(&oid);
    let missing: Vec<_> =
        MANDATORY.iter().filter(|oid| !listed(**oid)).map(|oid| format!("{oid:#010x}")).collect();
    check!(missing.is_empty(), "SupportedOidList lacks mandatory OIDs: {}", missing.join(", "));
    let mut oids = general.supported_oids.clone();
    oids.sort_unstable();
    check!(oids.windows(2).all(|pair| pair[0] != pair[1]), "SupportedOidList names an OID twice");
    Ok(())
}

/// Which calls are alike: each distinct one is failed at its first, second and last occurrence.
type Place = (&'static str, &'static str, usize, u32);

fn place(point: &FaultPoint) -> Place {
    (point.function, point.handler, point.size, point.tag)
}

/// The calls of one run that may fail, in order.
fn fault_places(context: &Context, run: impl FnOnce() -> Outcome) -> Outcome<Vec<Place>> {
    let seen: Arc<Mutex<Vec<Place>>> = Arc::default();
    let record = seen.clone();
    context.lab.set_faults(move |point| {
        record.lock().unwrap_or_else(PoisonError::into_inner).push(place(point));
        false
    });
    let result = run();
    context.lab.clear_faults();
    result?;
    let places = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(places)
}

fn initialize_fails(context: &Context) -> Outcome {
    let driver = context.driver()?;
    let places = fault_places(context, || {
        driver.add_adapter(context.config())?.halt(HaltAction::DeviceDisabled)?;
        Ok(())
    })?;
    let clean = context.lab.census();
    let mut count: HashMap<Place, (u64, u64)> = HashMap::new();
    for place in &places {
        count.entry(*place).or_insert((0, 0)).1 += 1;
    }
    for (at, place) in (0_u64..).zip(&places) {
        let Some((seen, total)) = count.get_mut(place) else { continue };
        *seen += 1;
        if *seen > 2 && *seen < *total {
            continue;
        }
        context.lab.fail_after(at);
        let result = driver.add_adapter(context.config());
        context.lab.clear_faults();
        let (function, handler, ..) = place;
        match result {
            Err(LabError::Initialize(_)) => {}
            // It did without.
            Ok(adapter) => adapter.halt(HaltAction::DeviceDisabled)?,
            Err(error) => return Err(error.into()),
        }
        let census = context.lab.census();
        check!(
            census.lines().len() <= clean.lines().len(),
            "after {function} failed in {handler} (call {at}): {census}"
        );
    }
    context.adapter()?;
    Ok(())
}

fn parallel_initialize(context: &Context) -> Outcome {
    let (driver, config) = (context.driver()?, context.config());
    for _ in 0..8 {
        let adapters: Vec<Result<Adapter, LabError>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| driver.add_adapter(config.clone()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(LabError::NotRegistered))).collect()
        });
        let adapters = adapters.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut addresses: Vec<Vec<u8>> =
            adapters.iter().map(|a| a.attributes().general.permanent_address().to_vec()).collect();
        addresses.sort();
        let shared = addresses.windows(2).any(|pair| pair[0] == pair[1]);
        std::thread::scope(|scope| {
            for adapter in &adapters {
                scope.spawn(|| adapter.restart().and_then(|()| adapter.pause()));
            }
        });
        let halted: Vec<Result<(), LabError>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                adapters.iter().map(|a| scope.spawn(|| a.halt(HaltAction::DeviceDisabled))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(LabError::NotRegistered))).collect()
        });
        halted.into_iter().collect::<Result<Vec<_>, _>>()?;
        check!(!shared, "two adapters have one permanent address");
    }
    Ok(())
}

/// Keywords that drivers read `[enumeration-keywords]`, `[keywords-that-can-be-edited]`.
const KEYWORDS: &[&str] = &[
    "*SpeedDuplex",
    "*FlowControl",
    "*PriorityVLANTag",
    "*InterruptModeration",
    "*RSS",
    "*RscIPv4",
    "*RscIPv6",
    "*IPChecksumOffloadIPv4",
    "*TCPChecksumOffloadIPv4",
    "*TCPChecksumOffloadIPv6",
    "*UDPChecksumOffloadIPv4",
    "*UDPChecksumOffloadIPv6",
    "*TCPUDPChecksumOffloadIPv4",
    "*TCPUDPChecksumOffloadIPv6",
    "*LsoV1IPv4",
    "*LsoV2IPv4",
    "*LsoV2IPv6",
    "*IPsecOffloadV2",
    "*IPsecOffloadV2IPv4",
    "*JumboPacket",
    "*ReceiveBuffers",
    "*TransmitBuffers",
    "*NdisDeviceType",
    "*WakeOnPattern",
    "*WakeOnMagicPacket",
    "NetworkAddress",
    "VlanId",
];

/// The names that a test of keywords goes through: the standard ones and the subject's own.
fn keyword_names(context: &Context) -> Vec<String> {
    let own = context.keywords().iter().map(|(name, _)| name.to_owned());
    let standard = KEYWORDS.iter().map(|name| (*name).to_owned());
    standard.filter(|name| context.keywords().get(name).is_none()).chain(own).collect()
}

/// Checks that an adapter with these keywords is one that works.
fn works(context: &Context, keywords: &[(String, Value)], what: &str) -> Outcome<Attributes> {
    let mut config = context.config();
    for (name, value) in keywords {
        config.keywords.set(name, value.clone());
    }
    let driver = context.driver()?;
    let adapter =
        driver.add_adapter(config).map_err(|error| Stop::Failed(format!("with {what}: {error}")))?;
    let attributes = adapter.attributes();
    adapter.restart()?;
    adapter.oid(Oid::query(OID_GEN_MAXIMUM_TOTAL_SIZE, 4))?;
    adapter.send(&[SendNbl::frame(station::frame(STRANGER, station::address(&adapter), 100, 3))])?;
    adapter.pause()?;
    adapter.halt(HaltAction::DeviceDisabled)?;
    let mtu = attributes.general.MtuSize;
    check!((1500..=65_535).contains(&mtu), "with {what}: MtuSize {mtu}");
    let first = attributes.general.current_address().first().copied().unwrap_or(1);
    check!(first & 1 == 0, "with {what}: the current address is a group address");
    Ok(attributes)
}

fn malformed_keywords(context: &Context) -> Outcome {
    let values: [(&str, Value); 9] = [
        ("an empty text", Value::Text(String::new())),
        ("a text that is no number", Value::Text("rubbish \u{1F9C0}".into())),
        ("a negative number", Value::Text("-1".into())),
        ("a number of 33 bits", Value::Text("4294967296".into())),
        ("a very long text", Value::Text("9".repeat(2000))),
        ("a DWORD of all ones", Value::Dword(u32::MAX)),
        ("several texts", Value::Texts(vec!["1".into(), "2".into()])),
        ("bytes", Value::Binary(vec![0xff; 3])),
        ("no bytes", Value::Binary(Vec::new())),
    ];
    let names = keyword_names(context);
    for (what, value) in &values {
        let all: Vec<_> = names.iter().map(|name| (name.clone(), value.clone())).collect();
        works(context, &all, &format!("every keyword {what}"))?;
    }
    for name in &names {
        let (what, value) = &values[2];
        works(context, &[(name.clone(), value.clone())], &format!("{name} {what}"))?;
    }
    let foreign = vec![("*NoSuchKeyword".to_owned(), Value::Text("7".into()))];
    works(context, &foreign, "a keyword that nobody knows")?;
    // Without any keyword, its own included.
    let driver = context.driver()?;
    driver.add_adapter(crate::AdapterConfig::new())?.halt(HaltAction::DeviceDisabled)?;
    Ok(())
}

fn keywords_out_of_range(context: &Context) -> Outcome {
    let huge = || Value::Text("4294967295".into());
    let plain = works(context, &[], "its usual keywords")?;
    for name in ["*JumboPacket", "*TransmitBuffers", "*ReceiveBuffers", "*SpeedDuplex", "*PriorityVLANTag"] {
        if context.keywords().get(name).is_some() {
            continue;
        }
        let attributes = works(context, &[(name.to_owned(), huge())], &format!("{name} 4294967295"))?;
        check!(
            attributes.general.MtuSize == plain.general.MtuSize,
            "with {name} 4294967295 MtuSize is {}, by default {}",
            attributes.general.MtuSize,
            plain.general.MtuSize
        );
    }
    for value in ["0", "1513"] {
        let attributes =
            works(context, &[("*JumboPacket".into(), value.into())], &format!("*JumboPacket {value}"))?;
        check!(
            attributes.general.MtuSize >= 1500,
            "with *JumboPacket {value} MtuSize is {}",
            attributes.general.MtuSize
        );
    }
    for name in OFFLOAD_KEYWORDS.iter().flat_map(|keyword| keyword.names) {
        if context.keywords().get(name).is_some() {
            continue;
        }
        for value in [huge(), "4".into()] {
            let attributes = works(context, &[((*name).to_owned(), value)], &format!("{name} out of range"))?;
            let default = |attributes: &Attributes| attributes.offload.map(|offload| offload.default);
            check!(
                default(&attributes) == default(&plain),
                "with {name} out of range the default offload configuration is not the usual one"
            );
        }
    }
    Ok(())
}

/// What keywords say of one offload.
struct OffloadKeyword {
    /// Names for the same thing; a device has one of them.
    names: &'static [&'static str],
    /// The part of NDIS_OFFLOAD for a direction or kind: (what bit 0 of the value switches, bit 1).
    part: fn(&NDIS_OFFLOAD) -> [u32; 2],
}

const OFFLOAD_KEYWORDS: &[OffloadKeyword] = &[
    OffloadKeyword {
        names: &["*IPChecksumOffloadIPv4"],
        part: |o| [o.Checksum.IPv4Transmit.Bits.IpChecksum(), o.Checksum.IPv4Receive.Bits.IpChecksum()],
    },
    OffloadKeyword {
        names: &["*TCPChecksumOffloadIPv4"],
        part: |o| [o.Checksum.IPv4Transmit.Bits.TcpChecksum(), o.Checksum.IPv4Receive.Bits.TcpChecksum()],
    },
    OffloadKeyword {
        names: &["*UDPChecksumOffloadIPv4"],
        part: |o| [o.Checksum.IPv4Transmit.Bits.UdpChecksum(), o.Checksum.IPv4Receive.Bits.UdpChecksum()],
    },
    OffloadKeyword {
        names: &["*TCPChecksumOffloadIPv6"],
        part: |o| [o.Checksum.IPv6Transmit.Bits.TcpChecksum(), o.Checksum.IPv6Receive.Bits.TcpChecksum()],
    },
    OffloadKeyword {
        names: &["*UDPChecksumOffloadIPv6"],
        part: |o| [o.Checksum.IPv6Transmit.Bits.UdpChecksum(), o.Checksum.IPv6Receive.Bits.UdpChecksum()],
    },
    OffloadKeyword { names: &["*LsoV2IPv4"], part: |o| [o.LsoV2.IPv4.MaxOffLoadSize, 0] },
    OffloadKeyword { names: &["*LsoV2IPv6"], part: |o| [o.LsoV2.IPv6.MaxOffLoadSize, 0] },
    OffloadKeyword {
        names: &["*IPsecOffloadV2", "*IPsecOffloadV2IPv4"],
        part: |o| [u32::from(o.IPsecV2.Ah), u32::from(o.IPsecV2.Esp)],
    },
];

fn offload_keywords(context: &Context) -> Outcome {
    let facts = context.facts()?;
    let Some(hardware) = facts.hardware().copied() else { return Ok(()) };
    let mut tried = 0;
    for keyword in OFFLOAD_KEYWORDS {
        let can = (keyword.part)(&hardware);
        if can == [0, 0] {
            continue;
        }
        tried += 1;
        let values = if keyword.names[0].starts_with("*Lso") { 0..2_u32 } else { 0..4 };
        each(values, |value| {
            let names = keyword.names.join(" and ");
            let set: Vec<_> = keyword
                .names
                .iter()
                .map(|name| ((*name).to_owned(), Value::Text(value.to_string())))
                .collect();
            let attributes = works(context, &set, &format!("{names} {value}"))?;
            let offload = attributes.offload.ok_or_else(|| {
                Stop::Failed(format!(
                    "with {names} {value} there are no offload attributes: the capabilities are gone"
                ))
            })?;
            check!(offload.hardware == hardware, "{names} {value} changes HardwareOffloadCapabilities");
            let on = [0, 1].map(|bit| if value >> bit & 1 == 1 { can[bit] } else { 0 });
            let found = (keyword.part)(&offload.default);
            check!(
                found == on,
                "with {names} {value} the default configuration has {found:?} for what should be {on:?}"
            );
            if value == 0 && keyword.names[0] == "*IPsecOffloadV2" {
                check!(
                    offload.default.IPsecV2 == ndis_sys::NDIS_IPSEC_OFFLOAD_V2::default(),
                    "with {names} 0 the IPsecV2 part of the default configuration is not all zero"
                );
            }
            Ok(())
        })?;
    }
    if tried == 0 {
        return Err(Stop::NotApplicable("it offloads nothing that a keyword switches".into()));
    }
    Ok(())
}

fn network_address(context: &Context) -> Outcome {
    let permanent = works(context, &[], "its usual keywords")?.general.permanent_address().to_vec();
    let valid: Mac = [0x02, 0x5c, 0x11, 0x22, 0x33, 0x44];
    let try_one = |text: &str, expect: Option<Mac>| -> Outcome {
        let driver = context.driver()?;
        let mut config = context.config();
        config.keywords.set("NetworkAddress", text);
        let adapter = driver
            .add_adapter(config)
            .map_err(|error| Stop::Failed(format!("with NetworkAddress {text:?}: {error}")))?;
        let general = adapter.attributes().general;
        let answer = adapter.oid(Oid::query(OID_802_3_CURRENT_ADDRESS, 6))?;
        let born = adapter.oid(Oid::query(OID_802_3_PERMANENT_ADDRESS, 6))?;
        adapter.halt(HaltAction::DeviceDisabled)?;
        let (current, own) = (general.current_address(), general.permanent_address());
        check!(
            !answer.is_success() || answer.answer() == current,
            "OID_802_3_CURRENT_ADDRESS is not the attribute"
        );
        check!(
            !born.is_success() || born.answer() == own,
            "OID_802_3_PERMANENT_ADDRESS is not the attribute"
        );
        check!(expect.is_none_or(|_| own != valid), "NetworkAddress changes the permanent address");
        let wanted: &[u8] = expect.as_ref().map_or(own, |mac| mac);
        check!(
            current == wanted,
            "with NetworkAddress {text:?} the current address is {current:02x?}, not {wanted:02x?} (permanent {permanent:02x?})"
        );
        Ok(())
    };
    try_one("025C11223344", Some(valid))?;
    try_one("02-5c-11-22-33-44", Some(valid))?;
    for bad in [
        "",
        "000000000000",
        "FFFFFFFFFFFF",
        "01005E000001",
        "025C112233",
        "025C1122334455",
        "02:5C:11:22:33:44",
    ] {
        try_one(bad, None)?;
    }
    // The address is the one that frames are received for.
    if !context.facts()?.shares_wire {
        return Ok(());
    }
    let mut config = context.config();
    config.keywords.set("NetworkAddress", "025C11223344");
    let (a, b) = (context.running()?, context.adapter_of(config)?);
    b.restart()?;
    station::set_filter(&b, ndis_sys::NDIS_PACKET_TYPE_DIRECTED)?;
    let lists = [STRANGER, valid, BROADCAST]
        .map(|to| SendNbl::frame(station::frame(to, station::address(&a), 80, to[5])));
    a.send(&lists)?;
    let received = station::receive(&b, 1, context.patience)?;
    check!(received[0].frame[..6] == valid, "a frame to {:02x?} came in", &received[0].frame[..6]);
    Ok(())
}

fn many_lives(context: &Context) -> Outcome {
    let driver = context.driver()?;
    let mut first = None;
    for _ in 0..6 {
        let adapter = driver.add_adapter(context.config())?;
        adapter.restart()?;
        adapter.pause()?;
        adapter.restart()?;
        adapter.send(&[SendNbl::frame(station::frame(STRANGER, station::address(&adapter), 100, 3))])?;
        adapter.pause()?;
        adapter.halt(HaltAction::DeviceDisabled)?;
        let census = context.lab.census();
        let lines = census.lines().len();
        let first = *first.get_or_insert(lines);
        check!(lines <= first, "each life of an adapter leaves more behind: {census}");
    }
    Ok(())
}
