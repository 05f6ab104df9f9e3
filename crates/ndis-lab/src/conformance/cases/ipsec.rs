//! IPsec Task Offload Version 2: SAs come and go, packets are protected and verified.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use ndis_sys::{NDIS_PACKET_TYPE_PROMISCUOUS, OID_OFFLOAD_ENCAPSULATION};

use super::offload::{NO_CHANGE, ON, encapsulate};
use crate::adapter::Adapter;
use crate::adapter::oid::Oid;
use crate::adapter::receive::Received;
use crate::adapter::send::SendNbl;
use crate::conformance::context::Context;
use crate::conformance::peer::Peer;
use crate::conformance::station::{self, HEADER, Pair, succeed};
use crate::conformance::{Case, Need, Outcome, Stop, check, status_text};
use crate::ipsec_v2::{self, Association, SaParameters};
use crate::transport::{self, Algorithm, Direction, KeyMaterial, OutboundSa, TransportSa, ethernet};

mod bundles;
mod extended;
mod large;
mod life;
mod orders;
mod packets;
mod sa;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 50,
        id: "add-sa-list",
        area: "IPSecESP",
        title: "An ADD_SA list offloads what it can; an SA that it cannot offload has a NULL handle.",
        page: "oid-tcp-task-ipsec-offload-v2-add-sa",
        needs: &[Need::Esp, Need::DirectOids],
        run: sa::add_sa_list,
    },
    Case {
        number: 50,
        id: "add-sa-ex-malformed",
        area: "IPSecESP",
        title: "An ADD_SA_EX whose lengths, offsets or counts are wrong is refused, with a NULL handle.",
        page: "oid-tcp-task-ipsec-offload-v2-add-sa-ex",
        needs: &[Need::Esp, Need::DirectOids],
        run: sa::add_sa_ex_malformed,
    },
    Case {
        number: 50,
        id: "sa-lengths",
        area: "IPSecESP",
        title: "An SA request in a buffer that is too short is refused, and says how many bytes it needs.",
        page: "nc-ndis-miniport_direct_oid_request",
        needs: &[Need::Ipsec, Need::DirectOids],
        run: sa::lengths,
    },
    Case {
        number: 51,
        id: "sa-algorithms",
        area: "IPSecESP",
        title: "SAs of advertised algorithms are taken, all others refused; with AES-GCM the other algorithm is ignored.",
        page: "ns-ndis-_ipsec_offload_v2_security_association",
        needs: &[Need::Esp, Need::DirectOids],
        run: sa::algorithms,
    },
    Case {
        number: 52,
        id: "sa-capacity",
        area: "IPSecESP",
        title: "Just SaOffloadCapacity SAs are taken, a deleted one makes room, and no handle is used again.",
        page: "ns-ntddndis-_ndis_ipsec_offload_v2",
        needs: &[Need::Esp, Need::DirectOids],
        run: sa::capacity,
    },
    Case {
        number: 52,
        id: "delete-sa",
        area: "IPSecESP",
        title: "DELETE_SA ends for unknown and repeated handles, and for a list that never ends.",
        page: "oid-tcp-task-ipsec-offload-v2-delete-sa",
        needs: &[Need::Esp, Need::DirectOids],
        run: sa::delete_sa,
    },
    Case {
        number: 53,
        id: "esp-on-the-wire",
        area: "IPSecESP",
        title: "What goes out under an SA is the ESP packet that RFC 4303 and RFC 4106 describe.",
        page: "sending-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: packets::esp_on_the_wire,
    },
    Case {
        number: 53,
        id: "esp-between-adapters",
        area: "IPSecESP",
        title: "Packets of any length and layout pass under each advertised algorithm from one adapter to the other.",
        page: "receiving-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: packets::esp_between_adapters,
    },
    Case {
        number: 53,
        id: "extended-sequence-numbers",
        area: "IPSecESP",
        title: "The high half of an extended sequence number is in the ICV, and UPDATE_SA changes it for that SA alone.",
        page: "oid-tcp-task-ipsec-offload-v2-update-sa",
        needs: &[Need::Esp, Need::ExtendedSequenceNumbers, Need::DirectOids, Need::Wire],
        run: extended::sequence_numbers,
    },
    Case {
        number: 54,
        id: "handles-of-other-lives",
        area: "IPSecESP",
        title: "An adapter that comes back gives no handle that it had given before.",
        page: "impact-of-network-interface-changes-on-ipsec-offloads",
        needs: &[Need::Esp, Need::DirectOids],
        run: life::handles_of_other_lives,
    },
    Case {
        number: 54,
        id: "handles-on-sends",
        area: "IPSecESP",
        title: "A send with a handle that is no outbound SA of the adapter fails, and nothing of it is on the wire.",
        page: "sending-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: packets::handles_on_sends,
    },
    Case {
        number: 55,
        id: "large-sends-under-esp",
        area: "IPSecESP",
        title: "A large send under an SA becomes ESP packets with numbers, IVs, trailers and ICVs of their own.",
        page: "sending-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire, Need::LargeSend, Need::LargeSendsUnderEsp],
        run: large::large_sends,
    },
    Case {
        number: 56,
        id: "esp-received",
        area: "IPSecESP",
        title: "A received packet is processed if it matches an SA, and each outcome is told as its page says.",
        page: "receiving-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: packets::esp_received,
    },
    Case {
        number: 57,
        id: "ah-and-esp",
        area: "IPSecAhEsp",
        title: "Under an SA of ESP and AH a packet is encrypted, then authenticated as a whole; each failure is told for what it is.",
        page: "ns-ndis-_ipsec_offload_v2_add_sa_ex",
        needs: &[Need::Esp, Need::AhAndEsp, Need::DirectOids, Need::Wire],
        run: bundles::ah_and_esp,
    },
    Case {
        number: 57,
        id: "transport-over-tunnel",
        area: "IPSecESP",
        title: "With two handles the inner packet is encrypted, then the tunnel around it; received, both payloads are told.",
        page: "sending-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::TransportOverTunnel, Need::DirectOids, Need::Wire],
        run: bundles::transport_over_tunnel,
    },
    Case {
        number: 58,
        id: "sa-delete-request",
        area: "IPSecESP",
        title: "An SA works both ways until its DELETE_SA comes, also if the miniport asked for it by SaDeleteReq.",
        page: "managing-security-associations-in-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: life::delete_request,
    },
    Case {
        number: 59,
        id: "update-sa",
        area: "IPSecESP",
        title: "UPDATE_SA of an SA that does not exist ends with NDIS_STATUS_INVALID_PARAMETER.",
        page: "oid-tcp-task-ipsec-offload-v2-update-sa",
        needs: &[Need::Ipsec, Need::DirectOids],
        run: sa::update_missing,
    },
    Case {
        number: 59,
        id: "delete-sa-orders",
        area: "IPSecESP",
        title: "A DELETE_SA ends in every order of its calls and those of a packet of its SA that is on its way out.",
        page: "oid-tcp-task-ipsec-offload-v2-delete-sa",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: orders::delete_orders,
    },
    Case {
        number: 59,
        id: "sa-stress",
        area: "2c_Mini6Stress",
        title: "SAs come and go at DISPATCH_LEVEL on several processors while packets pass under others.",
        page: "direct-oid-request-interface-in-ndis-6-1",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: life::stress,
    },
    Case {
        number: 60,
        id: "sa-outlives-changes",
        area: "IPSecAhEsp",
        title: "Pause, sleep and reset keep SAs; switched off, nothing of an SA's packets is on the wire in clear.",
        page: "impact-of-network-interface-changes-on-ipsec-offloads",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: life::outlives_changes,
    },
    Case {
        number: 60,
        id: "keys-are-wiped",
        area: "IPSecESP",
        title: "No memory that is freed holds a key: not after DELETE_SA, not after halt, not after a refusal.",
        page: "impact-of-network-interface-changes-on-ipsec-offloads",
        needs: &[Need::Esp, Need::DirectOids],
        run: sa::keys_are_wiped,
    },
];

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SPI: u32 = 0x0bad_cafe;
/// Bytes of an IPv4 header, and of SPI and sequence number.
const IP: usize = 20;
const ESP: usize = 8;
const SLOT_IPSEC: i32 = ndis_sys::IPsecOffloadV2NetBufferListInfo;
const SLOT_TUNNEL: i32 = ndis_sys::IPsecOffloadV2TunnelNetBufferListInfo;
const SLOT_HEADER: i32 = ndis_sys::IPsecOffloadV2HeaderNetBufferListInfo;

/// Bits of the received out-of-band words, by the page of the structure.
const SA_DELETE_REQUEST: usize = 1;
const CRYPTO_DONE: usize = 1 << 1;
const NEXT_CRYPTO_DONE: usize = 1 << 2;
const HEADER_INFO_SET: usize = 1 << 16;

fn offered(context: &Context) -> Outcome<Vec<Algorithm>> {
    let mask = context.facts()?.hardware().map_or(0, |hardware| hardware.IPsecV2.EncryptionAlgorithms);
    Ok(Algorithm::ALL.into_iter().filter(|algorithm| mask & algorithm.identifier() != 0).collect())
}

fn key(algorithm: Algorithm, seed: u64) -> KeyMaterial {
    let mut random = fastrand::Rng::with_seed(seed);
    KeyMaterial::generate(algorithm, |bytes| random.fill(bytes))
}

fn transport_sa(algorithm: Algorithm, spi: u32) -> TransportSa {
    TransportSa { source: A, destination: B, spi, algorithm, key: key(algorithm, u64::from(spi)) }
}

/// SA parameters with a key of any length.
fn parameters(inbound: bool, association: Association) -> SaParameters {
    SaParameters::new(inbound, A.into(), B.into(), association)
}

fn add(adapter: &Adapter, sa: &SaParameters) -> Outcome<usize> {
    let (outcome, handle) = adapter.add_sa_ex(sa)?;
    check!(outcome.is_success(), "a good ADD_SA_EX ends with {}", status_text(outcome.status));
    handle.ok_or_else(|| Stop::Failed("ADD_SA_EX succeeds with a NULL handle".into()))
}

fn delete(adapter: &Adapter, handles: &[usize]) -> Outcome {
    let outcome = adapter.delete_sas(handles)?;
    check!(
        outcome.is_success(),
        "DELETE_SA of {} SAs ends with {}",
        handles.len(),
        status_text(outcome.status)
    );
    Ok(())
}

/// Deletes all SAs of a list of outcomes.
fn delete_all(adapter: &Adapter, handles: &[Option<usize>]) -> Outcome {
    let handles: Vec<usize> = handles.iter().copied().flatten().collect();
    if handles.is_empty() { Ok(()) } else { delete(adapter, &handles) }
}

fn receive_on(adapter: &Adapter) -> Outcome {
    let request = Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulate(ON, NO_CHANGE));
    succeed(adapter, request, "OID_OFFLOAD_ENCAPSULATION").map(drop)
}

fn udp(length: usize, seed: u8) -> Outcome<Vec<u8>> {
    let payload: Vec<u8> = (0..251).cycle().take(length).map(|at: u8| seed.wrapping_add(at)).collect();
    let mut packet = Vec::new();
    PacketBuilder::ipv4(A.octets(), B.octets(), 64)
        .udp(7, 9)
        .write(&mut packet, &payload)
        .map_err(|error| Stop::Failed(error.to_string()))?;
    Ok(packet)
}

/// A pair with an outbound SA at A and the inbound one at B.
struct Secured<'c> {
    pair: Pair<'c>,
    sa: TransportSa,
    out: OutboundSa,
    inbound: usize,
    receiver: transport::Receiver,
}

impl<'c> Secured<'c> {
    fn new(context: &'c Context, algorithm: Algorithm) -> Outcome<Self> {
        let pair = Pair::new(context)?;
        receive_on(&pair.a)?;
        receive_on(&pair.b)?;
        let sa = transport_sa(algorithm, SPI);
        let out = add(&pair.a, &sa.parameters(Direction::Outbound))?;
        let inbound = add(&pair.b, &sa.parameters(Direction::Inbound))?;
        let mut receiver = transport::Receiver::default();
        receiver.add(sa.clone());
        Ok(Self { pair, out: OutboundSa::new(sa.clone(), out, 0x1122_3344_5566_0000), sa, inbound, receiver })
    }

    /// The next packet as the stack frames it: (frame, out-of-band header word).
    fn framed(&mut self, packet: &[u8]) -> Outcome<(Vec<u8>, usize)> {
        let framed = self.out.frame(packet).map_err(|error| Stop::Failed(error.to_string()))?;
        let frame = ethernet(station::address(&self.pair.b), station::address(&self.pair.a), &framed.packet);
        Ok((frame, framed.header))
    }

    fn list(&mut self, packet: &[u8]) -> Outcome<SendNbl> {
        let (frame, header) = self.framed(packet)?;
        Ok(SendNbl::frame(frame).oob(SLOT_IPSEC, self.out.handle).oob(SLOT_HEADER, header))
    }

    /// Judges a packet that came in at B.
    fn accept(&mut self, received: &Received, packet: &[u8]) -> Outcome {
        let indicated = transport::Indicated {
            frame: &received.frame,
            ipsec: slot(received, SLOT_IPSEC),
            header: slot(received, SLOT_HEADER),
        };
        match self.receiver.receive(indicated) {
            Ok(got) if got.packet == packet => Ok(()),
            Ok(_) => Err(Stop::Failed(format!("a packet of {} bytes came in different", packet.len()))),
            Err(fault) => Err(Stop::Failed(format!("a packet of {} bytes: {fault}", packet.len()))),
        }
    }

    /// Carries a packet from A to B under the SA.
    fn carry(&mut self, packet: &[u8]) -> Outcome {
        let list = self.list(packet)?;
        let received = self.pair.carry(&[list], 1)?;
        self.accept(&received[0], packet)
    }

    /// The ESP packet of a frame as a peer encrypts it.
    fn sealed(&mut self, packet: &[u8]) -> Outcome<Vec<u8>> {
        let (mut frame, _) = self.framed(packet)?;
        let peer = self.peer()?;
        peer.seal(&mut frame[HEADER + IP..]).ok_or_else(|| Stop::Failed("the peer cannot encrypt".into()))?;
        Ok(frame)
    }

    fn peer(&self) -> Outcome<Peer> {
        Peer::new(self.sa.key.bytes())
            .ok_or_else(|| Stop::NotApplicable(format!("the suite's peer has no {}", self.sa.algorithm)))
    }
}

fn slot(received: &Received, slot: i32) -> usize {
    usize::try_from(slot).map_or(0, |slot| received.oob[slot])
}

/// An algorithm that both the driver and the suite's peer have.
fn common(context: &Context) -> Outcome<Algorithm> {
    let offered = offered(context)?;
    [Algorithm::AesGcm128, Algorithm::AesGcm256]
        .into_iter()
        .find(|algorithm| offered.contains(algorithm))
        .ok_or_else(|| Stop::NotApplicable("it has neither AES-GCM-128 nor AES-GCM-256".into()))
}

/// An SA that the driver does not claim: encryption by an algorithm that no bit stands for.
fn impossible() -> SaParameters {
    let mut association = Association::esp_gcm(77, &[5; 20]);
    association.encryption = association.encryption.map(|a| ipsec_v2::Algorithm { id: 0x4000_0000, ..a });
    parameters(false, association)
}

/// Another adapter that sees everything.
fn monitor(context: &Context) -> Outcome<Adapter> {
    let supported = context.facts()?.attributes.general.SupportedPacketFilters;
    if supported & NDIS_PACKET_TYPE_PROMISCUOUS == 0 {
        return Err(Stop::NotApplicable(
            "no adapter can watch the wire: NDIS_PACKET_TYPE_PROMISCUOUS is not supported".into(),
        ));
    }
    let monitor = context.running()?;
    station::set_filter(&monitor, NDIS_PACKET_TYPE_PROMISCUOUS)?;
    Ok(monitor)
}
