//! Two adapters that talk, and one that listens, on one Ethernet segment.

use std::time::Duration;

use ndis_lab::adapter::oid::Oid;
use ndis_lab::adapter::receive::{Received, ReturnPolicy};
use ndis_lab::adapter::send::{SendNbl, SendOptions, SendOutcome};
use ndis_lab::transport::{Algorithm, ETHERNET_HEADER_LENGTH};
use ndis_lab::{Adapter, AdapterConfig, Driver, HaltAction, LabError};
use ndis_sys::{
    NDIS_ENCAPSULATION_IEEE_802_3, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION,
    NDIS_OFFLOAD_ENCAPSULATION_REVISION_1, NDIS_OFFLOAD_SET_NO_CHANGE, NDIS_OFFLOAD_SET_ON,
    NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED, NDIS_PACKET_TYPE_MULTICAST,
    NDIS_PACKET_TYPE_PROMISCUOUS, NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1, NDIS_STATUS_SUCCESS,
    OID_GEN_CURRENT_PACKET_FILTER, OID_OFFLOAD_ENCAPSULATION,
};

use super::StepError;
use super::plan::Station;

/// `*JumboPacket`: the frame without its FCS. Leaves room for ESP around full-size packets of a capture.
pub(super) const JUMBO_PACKET: u32 = 9014;
/// `*IPsecOffloadV2IPv4`: ESP and AH as far as the driver has them.
const IPSEC_ON: &str = "3";
/// `SegmentId`: any number, the same for all.
const SEGMENT: &str = "1";
/// The least `SaOffloadCapacity` that is asked for, and the most that the driver knows.
const CAPACITY: std::ops::RangeInclusive<usize> = 64..=65536;
/// Long enough for any frame on a busy machine, short enough to wait for in vain.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long silence on the wire is listened to.
pub(super) const SILENCE: Duration = Duration::from_millis(100);

/// Locally administered addresses of the two stations and the monitor.
const ADDRESSES: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 0xff]];

/// The adapters.
pub(super) struct Stations {
    pub(super) adapters: [Adapter; 2],
    pub(super) monitor: Adapter,
}

impl Stations {
    /// Initialises and starts the adapters, with room for `slots` SAs each.
    pub(super) fn start(driver: &Driver, slots: usize) -> Result<Self, StepError> {
        let capacity = slots.clamp(*CAPACITY.start(), *CAPACITY.end());
        let add = |address: [u8; 6]| {
            let config = AdapterConfig::new()
                .keyword("*JumboPacket", JUMBO_PACKET.to_string())
                .keyword("*IPsecOffloadV2IPv4", IPSEC_ON)
                .keyword("SegmentId", SEGMENT)
                .keyword("SaOffloadCapacity", capacity.to_string())
                .network_address(address);
            let adapter = driver.add_adapter(config)?;
            adapter.restart()?;
            Ok::<_, LabError>(adapter)
        };
        let [one, two, monitor] = ADDRESSES;
        let this = Self { adapters: [add(one)?, add(two)?], monitor: add(monitor)? };
        for (adapter, address) in this.all().zip(ADDRESSES) {
            let general = adapter.attributes().general;
            if general.current_address() != address {
                return Err(StepError::Driver(format!("{} ignores NetworkAddress", adapter.id())));
            }
            if general.MtuSize as usize + ETHERNET_HEADER_LENGTH != JUMBO_PACKET as usize {
                let mtu = general.MtuSize;
                return Err(StepError::Driver(format!(
                    "{}: MtuSize {mtu} with *JumboPacket {JUMBO_PACKET}",
                    adapter.id()
                )));
            }
        }
        // Return receives at once on one side, late on the other.
        this.adapters[1].set_return_policy(ReturnPolicy::After);
        Ok(this)
    }

    fn all(&self) -> impl Iterator<Item = &Adapter> {
        self.adapters.iter().chain([&self.monitor])
    }

    pub(super) fn describe() -> String {
        let name = |address: [u8; 6]| address.map(|byte| format!("{byte:02X}")).join("-");
        format!(
            "adapter 1 {}, adapter 2 {}, monitor port {}, all running; frames of up to {JUMBO_PACKET} bytes",
            name(ADDRESSES[0]),
            name(ADDRESSES[1]),
            name(ADDRESSES[2])
        )
    }

    pub(super) fn adapter(&self, station: Station) -> &Adapter {
        &self.adapters[station.index()]
    }

    pub(super) fn address(station: Station) -> [u8; 6] {
        ADDRESSES[station.index()]
    }

    /// Checks that what the demo needs is offered; gives the number of SA slots of each adapter.
    pub(super) fn offered(&self, algorithms: &[Algorithm]) -> Result<usize, StepError> {
        let mut capacity = usize::MAX;
        for adapter in &self.adapters {
            let lacks = |what: &str| StepError::NotOffered(what.to_owned());
            let ipsec = adapter.attributes().offload.ok_or(lacks("any task offload"))?.hardware.IPsecV2;
            if ipsec.Encapsulation & NDIS_ENCAPSULATION_IEEE_802_3 == 0 {
                return Err(lacks("IPsec Task Offload Version 2 over Ethernet"));
            }
            if ipsec.Esp == 0 || ipsec.Transport == 0 {
                return Err(lacks("ESP in transport mode"));
            }
            for algorithm in algorithms {
                if ipsec.EncryptionAlgorithms & algorithm.identifier() == 0 {
                    return Err(lacks(algorithm.name()));
                }
            }
            capacity = capacity.min(ipsec.SaOffloadCapacity as usize);
        }
        if capacity < 2 {
            return Err(StepError::NotOffered("room for two SAs".into()));
        }
        Ok(capacity)
    }

    /// Turns receive offload on and opens the packet filters.
    pub(super) fn configure(&self) -> Result<(), StepError> {
        for adapter in &self.adapters {
            expect(
                adapter,
                Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulation()),
                "OID_OFFLOAD_ENCAPSULATION",
            )?;
            let filter = NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_MULTICAST | NDIS_PACKET_TYPE_BROADCAST;
            expect(adapter, Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, filter), "packet filter")?;
        }
        let filter = Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, NDIS_PACKET_TYPE_PROMISCUOUS);
        expect(&self.monitor, filter, "packet filter")
    }

    /// Sends lists from a station and waits until they are back.
    pub(super) fn send(
        &self,
        station: Station,
        lists: &[SendNbl],
        options: SendOptions,
    ) -> Result<Vec<SendOutcome>, LabError> {
        self.adapter(station).send_with(lists, options)?.wait(PATIENCE)
    }

    /// Waits for `count` frames; names who misses them.
    pub(super) fn receive(adapter: &Adapter, who: &str, count: usize) -> Result<Vec<Received>, StepError> {
        match adapter.wait_received(count, PATIENCE) {
            Ok(frames) if frames.len() == count => Ok(frames),
            Ok(frames) => {
                let got = frames.len();
                Err(StepError::Driver(format!(
                    "{who} was indicated {got} frames where {count} were sent to it"
                )))
            }
            Err(LabError::Timeout(_)) => {
                let got = adapter.take_received().len();
                Err(StepError::Driver(format!("{who} was indicated {got} of {count} frames")))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Pauses all adapters, then halts them.
    pub(super) fn stop(&self) -> Result<(), LabError> {
        for adapter in self.all() {
            adapter.pause()?;
        }
        for adapter in self.all() {
            adapter.halt(HaltAction::DeviceDisabled)?;
        }
        Ok(())
    }
}

/// Sends a request that has to succeed.
pub(super) fn expect(adapter: &Adapter, oid: Oid, name: &str) -> Result<(), StepError> {
    match adapter.oid(oid)?.status {
        NDIS_STATUS_SUCCESS => Ok(()),
        status => {
            let id = adapter.id();
            Err(StepError::Driver(format!("{id}: {name} ended with {:#010x}", status.cast_unsigned())))
        }
    }
}

/// NDIS_OFFLOAD_ENCAPSULATION: IPv4 in Ethernet frames on, IPv6 as it is.
pub(crate) fn encapsulation() -> Vec<u8> {
    let header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION,
        Revision: NDIS_OFFLOAD_ENCAPSULATION_REVISION_1,
        Size: NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1,
    };
    let mut bytes = vec![header.Type, header.Revision];
    bytes.extend(header.Size.to_ne_bytes());
    // A MAC header has 14 bytes.
    let families =
        [[NDIS_OFFLOAD_SET_ON, NDIS_ENCAPSULATION_IEEE_802_3, 14], [NDIS_OFFLOAD_SET_NO_CHANGE, 0, 0]];
    bytes.extend(families.as_flattened().iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}
