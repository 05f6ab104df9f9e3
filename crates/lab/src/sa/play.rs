//! Two adapters on a segment: the one whose table is looked at, and the other end of its SAs.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::PacketBuilder;
use ndis_lab::ipsec_v2::{self, Operation, SaParameters};
use ndis_lab::transport::{Algorithm, Direction, KeyMaterial, OutboundSa, TransportSa, ethernet};
use ndis_lab::{Adapter, Driver, LabError, Oid, SendNbl};
use ndis_sys::{
    NDIS_PACKET_TYPE_DIRECTED, NDIS_STATUS_SUCCESS, OID_GEN_CURRENT_PACKET_FILTER, OID_OFFLOAD_ENCAPSULATION,
};

use super::script::{Addition, Sending, Spi, Step};
use crate::demo::{encapsulation, offloaded};
use crate::life::Subject;

/// MAC and IP addresses of the adapter and of the other end.
const STATIONS: [([u8; 6], Ipv4Addr); 2] =
    [([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 1)), ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 0, 2))];
/// How long a packet is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Where the SPI's last byte is in a frame: behind Ethernet's and IPv4's headers.
const SPI_END: usize = 14 + 20 + 3;

/// The two adapters, running.
pub(super) struct Pair {
    adapters: [Adapter; 2],
    /// SAs of the adapter, as they were added.
    sas: Vec<Live>,
}

/// An SA that was added.
struct Live {
    spi: Spi,
    direction: Direction,
    handle: usize,
    /// The sender's half, wherever that is.
    sender: OutboundSa,
}

impl Pair {
    /// Starts them.
    pub(super) fn start(subject: &Subject, driver: &Driver) -> Result<Self, LabError> {
        let start = |index: usize| {
            let adapter = driver.add_adapter(subject.config(STATIONS[index].0))?;
            adapter.restart()?;
            adapter.oid(Oid::set_u32(OID_GEN_CURRENT_PACKET_FILTER, NDIS_PACKET_TYPE_DIRECTED))?;
            adapter.oid(Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulation()))?;
            Ok::<_, LabError>(adapter)
        };
        Ok(Self { adapters: [start(0)?, start(1)?], sas: Vec::new() })
    }

    /// The adapter whose table is looked at.
    pub(super) fn subject(&self) -> &Adapter {
        &self.adapters[0]
    }

    /// Both.
    pub(super) fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// Does one step; what of it was not done.
    pub(super) fn play(&mut self, step: &Step) -> Result<Vec<String>, LabError> {
        match step {
            Step::Add(addition) => {
                let (outcome, handle) =
                    self.subject().add_sa_ex(&parameters(addition, addition.direction))?;
                let complaint = self.added(addition, outcome.status, handle)?;
                Ok(complaint.into_iter().collect())
            }
            Step::AddList(additions) => self.add_list(additions),
            Step::Send(sending) => self.send(sending),
            Step::Update { spi, high } => self.update(*spi, *high),
            Step::Delete(spis) => self.delete(spis),
        }
    }

    fn add_list(&mut self, additions: &[Addition]) -> Result<Vec<String>, LabError> {
        let list: Vec<_> = additions.iter().map(|sa| parameters(sa, sa.direction)).collect();
        let (outcome, handles) = self.subject().add_sa_list(&list)?;
        let mut complaints = Vec::new();
        for (addition, handle) in additions.iter().zip(handles) {
            complaints.extend(self.added(addition, outcome.status, handle)?);
        }
        Ok(complaints)
    }

    /// Keeps an SA, and adds its other end.
    fn added(
        &mut self,
        addition: &Addition,
        status: i32,
        handle: Option<usize>,
    ) -> Result<Option<String>, LabError> {
        let Some(handle) = handle else { return Ok(Some(refused("ADD_SA", addition.spi, status))) };
        let other = match addition.direction {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        };
        let (_, others) = self.adapters[1].add_sa_ex(&parameters(addition, other))?;
        let used = if addition.direction == Direction::Outbound { handle } else { others.unwrap_or(0) };
        // IVs that tell the SPI, so that a capture can be read.
        let sender = OutboundSa::new(transport(addition), used, u64::from(addition.spi.0) << 32);
        self.sas.push(Live { spi: addition.spi, direction: addition.direction, handle, sender });
        Ok(None)
    }

    fn position(&self, spi: Spi) -> Option<usize> {
        self.sas.iter().rposition(|sa| sa.spi == spi)
    }

    fn send(&mut self, sending: &Sending) -> Result<Vec<String>, LabError> {
        let Some(position) = self.position(sending.spi) else { return Ok(vec![no_sa(sending.spi)]) };
        let sa = &mut self.sas[position];
        let from = usize::from(sa.direction == Direction::Inbound);
        let (sender, receiver) = (&self.adapters[from], &self.adapters[1 - from]);
        let mut complaints = Vec::new();
        for number in 1..=sending.packets {
            let complaint = |what: &str| format!("packet {number} through SA {}: {what}", sending.spi);
            let framed = match packet(&sa.sender.parameters, sending.bytes)
                .and_then(|packet| sa.sender.frame(&packet).map_err(|error| error.to_string()))
            {
                Ok(framed) => framed,
                Err(error) => return Ok(vec![complaint(&error)]),
            };
            let mut frame = ethernet(STATIONS[1 - from].0, STATIONS[from].0, &framed.packet);
            let list = match (sending.damaged, sa.direction) {
                (false, _) => offloaded(&framed, SendNbl::frame(frame)),
                (true, Direction::Outbound) => {
                    frame[SPI_END] ^= 1;
                    offloaded(&framed, SendNbl::frame(frame))
                }
                // As it is: in clear, its ICV zero.
                (true, Direction::Inbound) => SendNbl::frame(frame),
            };
            let sent =
                sender.send(&[list])?.first().is_some_and(|outcome| outcome.status == NDIS_STATUS_SUCCESS);
            let to_be_sent = !(sending.damaged && sa.direction == Direction::Outbound);
            if sent != to_be_sent {
                complaints.push(complaint(if sent { "went out" } else { "was not sent" }));
            } else if sent && let Err(LabError::Timeout(_)) = receiver.wait_received(1, PATIENCE) {
                complaints.push(complaint("did not arrive"));
            }
        }
        Ok(complaints)
    }

    fn update(&mut self, spi: Spi, high: u32) -> Result<Vec<String>, LabError> {
        let Some(position) = self.position(spi) else { return Ok(vec![no_sa(spi)]) };
        let request = ipsec_v2::update_sa(self.sas[position].handle, Operation::Esp, spi.0, high);
        let status = self.subject().oid(request)?.status;
        Ok(if status == NDIS_STATUS_SUCCESS { Vec::new() } else { vec![refused("UPDATE_SA", spi, status)] })
    }

    fn delete(&mut self, spis: &[Spi]) -> Result<Vec<String>, LabError> {
        let mut complaints = Vec::new();
        let mut handles = Vec::new();
        for &spi in spis {
            match self.position(spi) {
                Some(position) => handles.push(self.sas.remove(position).handle),
                None => complaints.push(no_sa(spi)),
            }
        }
        if !handles.is_empty() {
            let status = self.subject().delete_sas(&handles)?.status;
            if status != NDIS_STATUS_SUCCESS {
                complaints.push(format!("DELETE_SA ended with {:#010x}", status.cast_unsigned()));
            }
        }
        Ok(complaints)
    }
}

fn refused(what: &str, spi: Spi, status: i32) -> String {
    format!("{what} of SA {spi} was refused, {:#010x}", status.cast_unsigned())
}

fn no_sa(spi: Spi) -> String {
    format!("there is no SA {spi}")
}

/// Source and destination of an SA's packets, any being the stations' own.
fn ends(addition: &Addition) -> (Ipv4Addr, Ipv4Addr) {
    let [(_, own), (_, other)] = STATIONS;
    match addition.direction {
        Direction::Inbound => (addition.source.unwrap_or(other), addition.destination.unwrap_or(own)),
        Direction::Outbound => (addition.source.unwrap_or(own), addition.destination.unwrap_or(other)),
    }
}

fn parameters(addition: &Addition, direction: Direction) -> SaParameters {
    let (source, destination) = ends(addition);
    let mut association = ipsec_v2::Association::esp_gcm(addition.spi.0, &addition.key.0);
    association.esn = addition.esn;
    SaParameters::new(direction == Direction::Inbound, source.into(), destination.into(), association)
}

/// The SA as a sender uses it: with addresses, and any key, which is not used.
fn transport(addition: &Addition) -> TransportSa {
    let (source, destination) = ends(addition);
    let [(_, own), (_, other)] = STATIONS;
    let (first, second) = if addition.direction == Direction::Outbound { (own, other) } else { (other, own) };
    let concrete = |address: Ipv4Addr, any| if address.is_unspecified() { any } else { address };
    TransportSa {
        source: concrete(source, first),
        destination: concrete(destination, second),
        spi: addition.spi.0,
        algorithm: Algorithm::AesGcm128,
        key: KeyMaterial::generate(Algorithm::AesGcm128, |_| ()),
    }
}

/// An IPv4 packet with so many bytes of UDP payload.
fn packet(sa: &TransportSa, bytes: u16) -> Result<Vec<u8>, String> {
    let builder = PacketBuilder::ipv4(sa.source.octets(), sa.destination.octets(), 64).udp(4000, 4000);
    let payload = vec![0x5a; bytes.into()];
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, &payload).map_err(|error| error.to_string())?;
    Ok(packet)
}
