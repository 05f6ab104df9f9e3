//! A small IPv4 host on an adapter: it resolves and answers ARP (RFC 826), answers and sends echo
//! requests (RFC 792), and does both under ESP where it has SAs, by the adapter's offload.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::{ArpOperation, ArpPacket, EtherType, Icmpv4Type, PacketBuilder, SlicedPacket};
use ndis_lab::transport::{Direction, ETHERNET_HEADER_LENGTH, OutboundSa, PROTOCOL_ESP, Receiver, ethernet};
use ndis_lab::{Adapter, LabError, Oid, Received, SendNbl};
use ndis_sys::{
    NDIS_PACKET_TYPE_BROADCAST, NDIS_PACKET_TYPE_DIRECTED, NDIS_STATUS_SUCCESS,
    OID_GEN_CURRENT_PACKET_FILTER, OID_OFFLOAD_ENCAPSULATION,
};

use crate::demo::{encapsulation, indicated, offloaded};
use crate::sa::SaArgument;

/// How long one look for frames takes.
const TICK: Duration = Duration::from_millis(10);
/// Identifier of the station's echo requests.
const ECHO_ID: u16 = 0x1b5e;
/// Payload of an echo request.
const ECHO_PAYLOAD: [u8; 56] = [0x5a; 56];

/// What a station saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets sent and received under ESP.
    pub protected: (u64, u64),
    /// Packets sent and received in clear.
    pub clear: (u64, u64),
    /// Echo requests answered.
    pub answered: u64,
    /// ESP packets that the station would not take, and why.
    pub refused: Vec<String>,
}

/// A host on an adapter that runs.
pub struct Station {
    adapter: Adapter,
    mac: [u8; 6],
    ip: Ipv4Addr,
    neighbours: HashMap<Ipv4Addr, [u8; 6]>,
    outbound: HashMap<Ipv4Addr, OutboundSa>,
    receiver: Receiver,
    handles: Vec<usize>,
    /// Sequence numbers of echo replies.
    replies: Vec<u16>,
    seen: Seen,
}

/// Why a station cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// The lab says so.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The driver refused.
    #[error("{0} ended with {1:#010x}")]
    Refused(&'static str, u32),
    /// A packet cannot be built.
    #[error("{0}")]
    Packet(String),
}

impl Station {
    /// Sets an adapter up: packet filter, receive offload, SAs.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn new(adapter: Adapter, ip: Ipv4Addr, sas: &[SaArgument]) -> Result<Self, StationError> {
        let mac = adapter.attributes().general.current_address().try_into().unwrap_or_default();
        let mut station = Self {
            adapter,
            mac,
            ip,
            neighbours: HashMap::new(),
            outbound: HashMap::new(),
            receiver: Receiver::default(),
            handles: Vec::new(),
            replies: Vec::new(),
            seen: Seen::default(),
        };
        let filter = NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_BROADCAST;
        station.set(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, filter), "packet filter")?;
        if !sas.is_empty() {
            station.set(Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulation()), "offload encapsulation")?;
        }
        for sa in sas {
            station.add(sa)?;
        }
        Ok(station)
    }

    fn set(&self, request: Oid, name: &'static str) -> Result<(), StationError> {
        match self.adapter.oid(request)?.status {
            NDIS_STATUS_SUCCESS => Ok(()),
            status => Err(StationError::Refused(name, status.cast_unsigned())),
        }
    }

    fn add(&mut self, argument: &SaArgument) -> Result<(), StationError> {
        let sa = argument.of(self.ip);
        let (outcome, handle) = self.adapter.add_sa_ex(&sa.parameters(argument.direction))?;
        let (NDIS_STATUS_SUCCESS, Some(handle)) = (outcome.status, handle) else {
            return Err(StationError::Refused("ADD_SA_EX", outcome.status.cast_unsigned()));
        };
        self.handles.push(handle);
        match argument.direction {
            Direction::Inbound => self.receiver.add(sa),
            Direction::Outbound => drop(self.outbound.insert(sa.destination, OutboundSa::new(sa, handle, 1))),
        }
        Ok(())
    }

    /// What it saw so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Deletes its SAs.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn close(self) -> Result<(), StationError> {
        if self.handles.is_empty() {
            return Ok(());
        }
        match self.adapter.delete_sas(&self.handles)?.status {
            NDIS_STATUS_SUCCESS => Ok(()),
            status => Err(StationError::Refused("DELETE_SA", status.cast_unsigned())),
        }
    }

    /// Answers what comes in, for so long.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn serve(&mut self, time: Duration) -> Result<(), StationError> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look()?;
        }
        Ok(())
    }

    /// Sends echo requests, one after the other, and waits up to `patience` for each reply; how many came.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn ping(&mut self, to: Ipv4Addr, count: u16, patience: Duration) -> Result<u16, StationError> {
        let mut came = 0;
        for number in 1..=count {
            let deadline = Instant::now() + patience;
            while !self.neighbours.contains_key(&to) && Instant::now() < deadline {
                self.ask(to)?;
                self.serve(TICK * 5)?;
            }
            let builder =
                PacketBuilder::ipv4(self.ip.octets(), to.octets(), 64).icmpv4_echo_request(ECHO_ID, number);
            let mut packet = Vec::with_capacity(builder.size(ECHO_PAYLOAD.len()));
            builder
                .write(&mut packet, &ECHO_PAYLOAD)
                .map_err(|error| StationError::Packet(error.to_string()))?;
            self.send_ip(to, &packet)?;
            while !self.replies.contains(&number) && Instant::now() < deadline {
                self.look()?;
            }
            came += u16::from(self.replies.contains(&number));
        }
        self.replies.clear();
        Ok(came)
    }

    /// Takes what came in within a tick.
    fn look(&mut self) -> Result<(), StationError> {
        let frames = match self.adapter.wait_received(1, TICK) {
            Ok(frames) => frames,
            Err(LabError::Timeout(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for received in &frames {
            self.take(received)?;
        }
        Ok(())
    }

    fn take(&mut self, received: &Received) -> Result<(), StationError> {
        let frame = &received.frame;
        match (frame.get(12..14), frame.get(ETHERNET_HEADER_LENGTH + 9)) {
            (Some([8, 6]), _) => self.take_arp(frame),
            (Some([8, 0]), Some(&PROTOCOL_ESP)) => match self.receiver.receive(indicated(received)) {
                Ok(packet) => {
                    self.seen.protected.1 += 1;
                    self.take_ip(&packet.packet)
                }
                Err(fault) => {
                    self.seen.refused.push(fault.to_string());
                    Ok(())
                }
            },
            (Some([8, 0]), _) => {
                self.seen.clear.1 += 1;
                self.take_ip(&frame[ETHERNET_HEADER_LENGTH..])
            }
            _ => Ok(()),
        }
    }

    fn take_arp(&mut self, frame: &[u8]) -> Result<(), StationError> {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Ok(()) };
        let Some(etherparse::NetSlice::Arp(arp)) = packet.net else { return Ok(()) };
        let mac: Option<[u8; 6]> = arp.sender_hw_addr().try_into().ok();
        let ip = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
        let (Some(mac), Some(sender)) = (mac, ip(arp.sender_protocol_addr())) else { return Ok(()) };
        if ip(arp.target_protocol_addr()) != Some(self.ip) {
            return Ok(());
        }
        self.neighbours.insert(sender, mac);
        if arp.operation() == ArpOperation::REQUEST {
            self.arp(ArpOperation::REPLY, mac, mac, sender)?;
        }
        Ok(())
    }

    fn ask(&self, ip: Ipv4Addr) -> Result<(), StationError> {
        self.arp(ArpOperation::REQUEST, [0xff; 6], [0; 6], ip)
    }

    fn arp(
        &self,
        operation: ArpOperation,
        to: [u8; 6],
        target: [u8; 6],
        ip: Ipv4Addr,
    ) -> Result<(), StationError> {
        let arp = ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            operation,
            &self.mac,
            &self.ip.octets(),
            &target,
            &ip.octets(),
        );
        let arp = arp.map_err(|error| StationError::Packet(error.to_string()))?;
        let frame = [to.as_slice(), &self.mac, &[8, 6], &arp.to_bytes()].concat();
        self.send(SendNbl::frame(frame))
    }

    fn take_ip(&mut self, packet: &[u8]) -> Result<(), StationError> {
        let Ok(sliced) = SlicedPacket::from_ip(packet) else { return Ok(()) };
        let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Icmpv4(icmp))) =
            (sliced.net, sliced.transport)
        else {
            return Ok(());
        };
        let source = ip.header().source_addr();
        if ip.header().destination_addr() != self.ip {
            return Ok(());
        }
        match icmp.icmp_type() {
            Icmpv4Type::EchoReply(echo) if echo.id == ECHO_ID && icmp.payload() == ECHO_PAYLOAD => {
                self.replies.push(echo.seq);
            }
            Icmpv4Type::EchoRequest(echo) => {
                let builder = PacketBuilder::ipv4(self.ip.octets(), source.octets(), 64)
                    .icmpv4_echo_reply(echo.id, echo.seq);
                let mut reply = Vec::with_capacity(builder.size(icmp.payload().len()));
                let built = builder.write(&mut reply, icmp.payload());
                built.map_err(|error| StationError::Packet(error.to_string()))?;
                self.send_ip(source, &reply)?;
                self.seen.answered += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends an IP packet to a neighbour: under ESP if there is an SA; not at all if its address is unknown.
    fn send_ip(&mut self, to: Ipv4Addr, packet: &[u8]) -> Result<(), StationError> {
        let Some(mac) = self.neighbours.get(&to).copied() else { return self.ask(to) };
        let list = if let Some(sa) = self.outbound.get_mut(&to) {
            let framed = sa.frame(packet).map_err(|error| StationError::Packet(error.to_string()))?;
            self.seen.protected.0 += 1;
            offloaded(&framed, SendNbl::frame(ethernet(mac, self.mac, &framed.packet)))
        } else {
            self.seen.clear.0 += 1;
            SendNbl::frame(ethernet(mac, self.mac, packet))
        };
        self.send(list)
    }

    fn send(&self, list: SendNbl) -> Result<(), StationError> {
        match self.adapter.send(&[list])?.first() {
            Some(outcome) if !outcome.is_success() => {
                Err(StationError::Refused("a send", outcome.status.cast_unsigned()))
            }
            _ => Ok(()),
        }
    }
}
