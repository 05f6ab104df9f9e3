//! IPsec Task Offload Version 2: SAs come and go, packets are protected and verified.

use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etherparse::PacketBuilder;
use ndis_sys::{
    IPSEC_OFFLOAD_V2_ADD_SA_EX, NDIS_PACKET_TYPE_PROMISCUOUS, NDIS_STATUS_FAILURE,
    NDIS_STATUS_INVALID_PARAMETER, OID_OFFLOAD_ENCAPSULATION, OID_TCP_OFFLOAD_PARAMETERS,
    OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX,
};

use super::offload::{NO_CHANGE, OFF, ON, encapsulate, ipsec_field, with};
use crate::adapter::oid::Oid;
use crate::adapter::receive::Received;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::adapter::{Adapter, HaltAction};
use crate::conformance::context::Context;
use crate::conformance::facts::GCM;
use crate::conformance::peer::{ICV, Peer};
use crate::conformance::station::{self, HEADER, Pair, SILENCE, succeed};
use crate::conformance::{Case, Need, Outcome, Stop, check, status_text};
use crate::error::LabError;
use crate::ipsec_v2::{self, AddSaList, Association, DeleteSaList, Operation, SaParameters, update_sa};
use crate::transport::{
    self, Algorithm, Direction, IV_LENGTH, KeyMaterial, OutboundSa, TransportSa, ethernet,
};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 50,
        id: "add-sa-list",
        area: "IPSecESP",
        title: "An ADD_SA list offloads what it can; an SA that it cannot offload has a NULL handle.",
        page: "oid-tcp-task-ipsec-offload-v2-add-sa",
        needs: &[Need::Esp, Need::DirectOids],
        run: add_sa_list,
    },
    Case {
        number: 50,
        id: "add-sa-ex-malformed",
        area: "IPSecESP",
        title: "An ADD_SA_EX whose lengths, offsets or counts are wrong is refused, with a NULL handle.",
        page: "oid-tcp-task-ipsec-offload-v2-add-sa-ex",
        needs: &[Need::Esp, Need::DirectOids],
        run: add_sa_ex_malformed,
    },
    Case {
        number: 51,
        id: "sa-algorithms",
        area: "IPSecESP",
        title: "SAs of advertised algorithms are taken, all others refused; with AES-GCM the other algorithm is ignored.",
        page: "ns-ndis-_ipsec_offload_v2_security_association",
        needs: &[Need::Esp, Need::DirectOids],
        run: algorithms,
    },
    Case {
        number: 52,
        id: "sa-capacity",
        area: "IPSecESP",
        title: "Just SaOffloadCapacity SAs are taken, a deleted one makes room, and no handle is used again.",
        page: "ns-ntddndis-_ndis_ipsec_offload_v2",
        needs: &[Need::Esp, Need::DirectOids],
        run: capacity,
    },
    Case {
        number: 52,
        id: "delete-sa",
        area: "IPSecESP",
        title: "DELETE_SA ends for unknown and repeated handles, and for a list that never ends.",
        page: "oid-tcp-task-ipsec-offload-v2-delete-sa",
        needs: &[Need::Esp, Need::DirectOids],
        run: delete_sa,
    },
    Case {
        number: 53,
        id: "esp-on-the-wire",
        area: "IPSecESP",
        title: "What goes out under an SA is the ESP packet that RFC 4303 and RFC 4106 describe.",
        page: "sending-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: esp_on_the_wire,
    },
    Case {
        number: 53,
        id: "esp-between-adapters",
        area: "IPSecESP",
        title: "Packets of any length and layout pass under each advertised algorithm from one adapter to the other.",
        page: "receiving-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: esp_between_adapters,
    },
    Case {
        number: 54,
        id: "handles-on-sends",
        area: "IPSecESP",
        title: "A send with a handle that is no outbound SA of the adapter fails, and nothing of it is on the wire.",
        page: "sending-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: handles_on_sends,
    },
    Case {
        number: 56,
        id: "esp-received",
        area: "IPSecESP",
        title: "A received packet is processed if it matches an SA, and each outcome is told as its page says.",
        page: "receiving-network-data-with-ipsec-offload-version-2",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: esp_received,
    },
    Case {
        number: 59,
        id: "update-sa",
        area: "IPSecESP",
        title: "UPDATE_SA of an SA that does not exist ends with NDIS_STATUS_INVALID_PARAMETER.",
        page: "oid-tcp-task-ipsec-offload-v2-update-sa",
        needs: &[Need::Ipsec, Need::DirectOids],
        run: update_missing,
    },
    Case {
        number: 59,
        id: "sa-stress",
        area: "2c_Mini6Stress",
        title: "SAs come and go at DISPATCH_LEVEL on several processors while packets pass under others.",
        page: "direct-oid-request-interface-in-ndis-6-1",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: stress,
    },
    Case {
        number: 60,
        id: "sa-outlives-changes",
        area: "IPSecAhEsp",
        title: "Pause, sleep and reset keep SAs; switched off, nothing of an SA's packets is on the wire in clear.",
        page: "impact-of-network-interface-changes-on-ipsec-offloads",
        needs: &[Need::Esp, Need::DirectOids, Need::Wire],
        run: outlives_changes,
    },
    Case {
        number: 60,
        id: "keys-are-wiped",
        area: "IPSecESP",
        title: "No memory that is freed holds a key: not after DELETE_SA, not after halt, not after a refusal.",
        page: "impact-of-network-interface-changes-on-ipsec-offloads",
        needs: &[Need::Esp, Need::DirectOids],
        run: keys_are_wiped,
    },
];

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const SPI: u32 = 0x0bad_cafe;
/// Bytes of an IPv4 header, and of SPI and sequence number.
const IP: usize = 20;
const ESP: usize = 8;
const SLOT_IPSEC: i32 = ndis_sys::IPsecOffloadV2NetBufferListInfo;
const SLOT_HEADER: i32 = ndis_sys::IPsecOffloadV2HeaderNetBufferListInfo;

/// Bits of the received out-of-band words, by the page of the structure.
const CRYPTO_DONE: usize = 1 << 1;
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

fn add_sa_list(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let good = |spi: u32| transport_sa(algorithm, spi).parameters(Direction::Outbound);
    let (outcome, handles) = adapter.add_sa_list(&[good(0x101), impossible(), good(0x102)])?;
    let given: Vec<_> = handles.iter().map(Option::is_some).collect();
    check!(
        outcome.is_success(),
        "a list with two good SAs and a bad one ends with {}",
        status_text(outcome.status)
    );
    check!(given == [true, false, true], "good, bad and good SA: which have a handle: {given:?}");
    check!(handles[0] != handles[2], "two SAs have one handle");
    delete_all(&adapter, &handles)?;
    let (outcome, handles) = adapter.add_sa_list(&[good(0x103)])?;
    check!(outcome.is_success(), "a list of one good SA ends with {}", status_text(outcome.status));
    delete_all(&adapter, &handles)?;
    let (outcome, handles) = adapter.add_sa_list(&[impossible(), impossible()])?;
    check!(!outcome.is_success(), "a list of bad SAs succeeds");
    check!(handles.iter().all(Option::is_none), "a list of bad SAs fails and gives a handle");
    // A node that claims to be something else, and a list that never ends.
    let header = ndis_sys::NDIS_OBJECT_HEADER { Type: 0x80, Revision: 1, Size: 12 };
    let list = AddSaList::new(&[good(0x104), good(0x105)])?.with_header(1, header);
    adapter.oid(list.request())?;
    delete_all(&adapter, &list.handles())?;
    let list = AddSaList::new(&[good(0x106), good(0x107)])?.with_link(1, 0);
    adapter.oid(list.request())?;
    delete_all(&adapter, &list.handles())
}

/// Writes a word into a structure.
fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn add_sa_ex_malformed(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let good = transport_sa(algorithm, 0x201).parameters(Direction::Outbound).add_sa_ex();
    let handle_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, OffloadHandle);
    let length_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyLength);
    let offset_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, KeyOffset);
    let count_at = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, NumExtHdrs);
    // IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION: the encryption algorithm lies at 28, in it the length of
    // its key at 4 and the key's place in the blob at 8.
    let encryption = offset_of!(IPSEC_OFFLOAD_V2_ADD_SA_EX, SecAssoc) + 28;
    let total = u32::try_from(good.len()).unwrap_or(0);
    let wrong: [(&str, usize, u32); 12] = [
        ("NumExtHdrs 0", count_at, 0),
        ("NumExtHdrs 3", count_at, 3),
        ("NumExtHdrs of 32 bits", count_at, u32::MAX),
        ("KeyOffset at the end", offset_at, total),
        ("KeyOffset far behind the end", offset_at, u32::MAX - 3),
        (
            "KeyOffset one too far",
            offset_at,
            u32::from_le_bytes([good[offset_at], good[offset_at + 1], 0, 0]) + 1,
        ),
        ("KeyLength one too long", length_at, u32::try_from(algorithm.key_length()).unwrap_or(0) + 1),
        ("KeyLength of 32 bits", length_at, u32::MAX),
        ("an algorithm's key behind the blob", encryption + 8, 1),
        ("an algorithm's key far behind the blob", encryption + 8, u32::MAX - 7),
        ("an algorithm's key of 32 bits", encryption + 4, u32::MAX),
        ("no encryption identifier", encryption, 0),
    ];
    for (what, at, value) in wrong {
        let mut bytes = good.clone();
        put(&mut bytes, at, value);
        // What lay there before does not count as a handle.
        bytes[handle_at..handle_at + 8].fill(0x5a);
        let request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, bytes).direct();
        let outcome = adapter.oid(request)?;
        check!(!outcome.is_success(), "ADD_SA_EX with {what} succeeds");
        let handle = ipsec_v2::handle_of_add_sa_ex(&outcome.buffer);
        check!(
            handle.is_none(),
            "ADD_SA_EX with {what} ends with {} and OffloadHandle {:#x} instead of NULL",
            status_text(outcome.status),
            handle.unwrap_or_default()
        );
    }
    for length in 0..good.len() {
        let request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, good[..length].to_vec()).direct();
        let outcome = adapter.oid(request.misaligned(length))?;
        check!(!outcome.is_success(), "{length} of {} bytes of an ADD_SA_EX succeed", good.len());
    }
    let mut header = good.clone();
    header[2..4].copy_from_slice(&100_u16.to_le_bytes());
    let outcome = adapter.oid(Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, header).direct())?;
    check!(!outcome.is_success(), "ADD_SA_EX with Header.Size 100 succeeds");
    // None of them was kept: the same SA can still be added.
    let handle = add(&adapter, &transport_sa(algorithm, 0x201).parameters(Direction::Outbound))?;
    delete(&adapter, &[handle])
}

fn algorithms(context: &Context) -> Outcome {
    let Some(ipsec) = context.facts()?.hardware().map(|hardware| hardware.IPsecV2) else { return Ok(()) };
    let adapter = context.running()?;
    let mut spi = 0x300;
    let attempt = |association: Association| -> Outcome<bool> {
        let (outcome, handle) = adapter.add_sa_ex(&parameters(false, association))?;
        check!(
            outcome.is_success() == handle.is_some(),
            "ADD_SA_EX ends with {}, and the handle is {handle:x?}",
            status_text(outcome.status)
        );
        if let Some(handle) = handle {
            delete(&adapter, &[handle])?;
        }
        Ok(handle.is_some())
    };
    let esp = |spi: u32, id: u32, length: usize| Association {
        operation: Operation::Esp,
        spi,
        esn: None,
        authentication: None,
        encryption: Some(ipsec_v2::Algorithm { id, key: vec![0x31; length], additional_info: 16 }),
    };
    for bit in 0..32 {
        let id = 1_u32 << bit;
        for length in [0, 1, 8, 16, 19, 20, 21, 24, 28, 32, 35, 36, 37, 64] {
            spi += 1;
            let taken = attempt(esp(spi, id, length))?;
            let right = Algorithm::ALL.iter().find(|a| a.identifier() == id).map(|a| a.key_length());
            let advertised = ipsec.EncryptionAlgorithms & id != 0;
            // AES-GCM needs no authentication; any other algorithm alone is encryption without it.
            let good = advertised && right == Some(length);
            check!(
                taken || !good,
                "ESP with encryption {id:#x} and a key of {length} bytes is advertised and refused"
            );
            let without_salt = right.is_some_and(|right| length + 4 == right);
            check!(
                !taken || good || without_salt,
                "ESP with encryption {id:#x} and a key of {length} bytes and no authentication is taken"
            );
            if taken && good {
                // For AES-GCM whatever authentication says is to be ignored.
                spi += 1;
                let mut both = esp(spi, id, length);
                both.authentication =
                    Some(ipsec_v2::Algorithm { id: 0xdead, key: Vec::new(), additional_info: 99 });
                check!(attempt(both)?, "with AES-GCM an authentication algorithm is not ignored");
            }
        }
    }
    for bits in [0, GCM | 1, 3, u32::MAX] {
        spi += 1;
        check!(!attempt(esp(spi, bits, 20))?, "ESP with encryption identifier {bits:#x} is taken");
    }
    if ipsec.Ah == 0 {
        let mut ah = esp(0x9000, GCM & 8, 20);
        ah.operation = Operation::Ah;
        check!(!attempt(ah)?, "an AH SA is taken, and AH is not advertised");
    }
    if ipsec.ExtendedSequenceNumbers == 0 {
        let id = GCM & ipsec.EncryptionAlgorithms & (GCM & ipsec.EncryptionAlgorithms).wrapping_neg();
        let length = Algorithm::ALL.iter().find(|a| a.identifier() == id).map_or(20, |a| a.key_length());
        let mut esn = esp(0x9001, id, length);
        esn.esn = Some(1);
        check!(!attempt(esn)?, "an ESN SA is taken, and ExtendedSequenceNumbers is not advertised");
    }
    Ok(())
}

fn capacity(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let capacity = context.facts()?.hardware().map_or(0, |hardware| hardware.IPsecV2.SaOffloadCapacity);
    let sa = |number: u32| transport_sa(algorithm, 0x1_0000 + number).parameters(Direction::Outbound);
    let mut handles = Vec::new();
    for number in 0..=capacity {
        let (outcome, handle) = adapter.add_sa_ex(&sa(number))?;
        let Some(handle) = handle else {
            check!(!outcome.is_success(), "ADD_SA_EX succeeds with a NULL handle");
            break;
        };
        handles.push(handle);
    }
    let taken = u32::try_from(handles.len()).unwrap_or(u32::MAX);
    check!(taken <= capacity, "{taken} SAs are taken, and SaOffloadCapacity is {capacity}");
    check!(
        taken == capacity,
        "{taken} SAs are taken, and SaOffloadCapacity is {capacity}: the next one is refused"
    );
    let mut sorted = handles.clone();
    sorted.sort_unstable();
    check!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "two SAs have one handle");
    let last = handles.len() - 1;
    for (at, round) in [0, last / 2, last, 0, 0, 0].into_iter().zip(1..) {
        let old = handles[at];
        delete(&adapter, &[old])?;
        handles[at] = add(&adapter, &sa(capacity + round))?;
        check!(handles[at] != old, "the handle of a deleted SA names the next one");
        let (outcome, more) = adapter.add_sa_ex(&sa(capacity + 100 + round))?;
        check!(more.is_none(), "one more than SaOffloadCapacity is taken: {}", status_text(outcome.status));
        // A list that deletes twice makes room once.
        adapter.delete_sas(&[old])?;
        let (_, more) = adapter.add_sa_ex(&sa(capacity + 200 + round))?;
        check!(more.is_none(), "deleting a deleted SA again makes room");
    }
    delete(&adapter, &handles)?;
    // All of the list: there is room for as many again.
    let again = (0..capacity.min(64)).map(|number| add(&adapter, &sa(capacity + 1000 + number)));
    let again = again.collect::<Outcome<Vec<_>>>()?;
    delete(&adapter, &again)
}

fn delete_sa(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let adapter = context.running()?;
    let sa = |spi: u32| transport_sa(algorithm, spi).parameters(Direction::Outbound);
    let handles = (0..4).map(|spi| add(&adapter, &sa(0x400 + spi))).collect::<Outcome<Vec<_>>>()?;
    // Nothing that names no SA may be followed.
    for unknown in [0, 1, usize::MAX, 0x1000, handles[0] ^ 1, handles[0].wrapping_add(1 << 32)] {
        if !handles.contains(&unknown) {
            adapter.delete_sas(&[unknown])?;
        }
    }
    delete(&adapter, &handles[..1])?;
    adapter.delete_sas(&[handles[1], handles[1], handles[0], handles[1]])?;
    let header = ndis_sys::NDIS_OBJECT_HEADER { Type: 0x80, Revision: 1, Size: 8 };
    adapter.oid(DeleteSaList::new(&handles[2..])?.with_header(1, header).request())?;
    for request in [
        DeleteSaList::new(&handles[2..])?.with_link(1, 0).request(),
        DeleteSaList::new(&handles[2..])?.with_link(0, 0).request(),
        DeleteSaList::new(&handles[2..])?.with_link(1, 1).request().at_dispatch(),
    ] {
        adapter.oid(request)?;
    }
    for length in [0, 4, 8, 23] {
        let oid = ndis_sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA;
        let outcome = adapter.oid(Oid::set(oid, vec![0; length]).direct())?;
        check!(!outcome.is_success(), "a DELETE_SA of {length} bytes succeeds");
    }
    adapter.delete_sas(&handles)?;
    let handle = add(&adapter, &sa(0x410))?;
    check!(!handles.contains(&handle), "the handle of a deleted SA is used again");
    delete(&adapter, &[handle])
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

fn esp_on_the_wire(context: &Context) -> Outcome {
    for algorithm in offered(context)? {
        let mut secured = Secured::new(context, algorithm)?;
        let monitor = monitor(context)?;
        let peer = secured.peer().ok();
        for length in (0..24).chain([64, 255, 256, 1000, 1400]) {
            let packet = udp(length, 3)?;
            let (frame, header) = secured.framed(&packet)?;
            let list =
                SendNbl::frame(frame.clone()).oob(SLOT_IPSEC, secured.out.handle).oob(SLOT_HEADER, header);
            secured.pair.carry(&[list], 1)?;
            let seen = station::receive(&monitor, 1, context.patience)?.remove(0).frame;
            let start = HEADER + IP;
            check!(
                seen.len() == frame.len().max(station::MIN_FRAME) && seen[..start] == frame[..start],
                "{algorithm}, {length} bytes: the length or the headers before ESP changed"
            );
            check!(
                seen[start..start + ESP + IV_LENGTH] == frame[start..start + ESP + IV_LENGTH],
                "{algorithm}, {length} bytes: SPI, sequence number or IV changed"
            );
            let clear = &frame[start + ESP + IV_LENGTH..frame.len() - ICV];
            let sealed = &seen[start + ESP + IV_LENGTH..frame.len() - ICV];
            check!(clear != sealed, "{algorithm}, {length} bytes: the payload is on the wire in clear");
            if let Some(peer) = &peer {
                let opened = peer.open(&seen[start..frame.len()]);
                check!(
                    opened.as_deref() == Some(clear),
                    "{algorithm}, {length} bytes: a peer with the key cannot verify the packet"
                );
            }
        }
        monitor.pause()?;
        for adapter in [&secured.pair.a, &secured.pair.b] {
            adapter.pause()?;
        }
    }
    Ok(())
}

fn esp_between_adapters(context: &Context) -> Outcome {
    let mut random = fastrand::Rng::with_seed(53);
    for algorithm in offered(context)? {
        let mut secured = Secured::new(context, algorithm)?;
        let max = station::max_frame(&secured.pair.a).min(station::max_frame(&secured.pair.b));
        let longest = max - HEADER - IP - ESP - IV_LENGTH - 2 - ICV - 8 - 3;
        for length in (0..20).chain([100, 511, 512, 1000, longest]) {
            secured.carry(&udp(length, 9)?)?;
        }
        // Cut anywhere, several at once, at DISPATCH_LEVEL.
        let mut packets = Vec::new();
        let mut lists = Vec::new();
        for length in 0..20 {
            let packet = udp(length * 37, 5)?;
            let (frame, header) = secured.framed(&packet)?;
            let list = SendNbl::frames([transport::split(&mut random, frame)]);
            lists.push(list.oob(SLOT_IPSEC, secured.out.handle).oob(SLOT_HEADER, header));
            packets.push(packet);
        }
        secured.pair.send(&lists, SendOptions::dispatch())?;
        let received = station::receive(&secured.pair.b, lists.len(), context.patience)?;
        for (received, packet) in received.iter().zip(&packets) {
            secured.accept(received, packet)?;
        }
        for adapter in [&secured.pair.a, &secured.pair.b] {
            adapter.pause()?;
        }
    }
    Ok(())
}

/// Sends a frame with a handle, which has to fail, and sees to it that nobody hears of it.
fn fails_unheard(
    context: &Context,
    adapter: &Adapter,
    monitor: &Adapter,
    list: &SendNbl,
    handle: usize,
    what: &str,
) -> Outcome {
    monitor.take_received();
    let outcome = adapter.send(&[list.clone().oob(SLOT_IPSEC, handle)])?;
    check!(
        outcome[0].status == NDIS_STATUS_FAILURE,
        "a send with {what} ends with {} instead of NDIS_STATUS_FAILURE",
        status_text(outcome[0].status)
    );
    std::thread::sleep(SILENCE);
    let heard = monitor.take_received().len();
    check!(heard == 0, "{heard} frames of a send with {what} are on the wire");
    let _ = context;
    Ok(())
}

fn handles_on_sends(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let mut secured = Secured::new(context, algorithm)?;
    let monitor = monitor(context)?;
    secured.carry(&udp(40, 1)?)?;
    let (frame, header) = secured.framed(&udp(40, 1)?)?;
    let list = SendNbl::frame(frame).oob(SLOT_HEADER, header);
    let own = secured.out.handle;
    // Another SA at A, for packets that it receives, and one that is deleted again.
    let other = transport_sa(algorithm, SPI + 1);
    let inbound = add(&secured.pair.a, &other.parameters(Direction::Inbound))?;
    let gone = add(&secured.pair.a, &transport_sa(algorithm, SPI + 2).parameters(Direction::Outbound))?;
    delete(&secured.pair.a, &[gone])?;
    let a = &secured.pair.a;
    for (handle, what) in [
        (inbound, "the handle of an inbound SA"),
        (gone, "the handle of a deleted SA"),
        (usize::MAX, "a made-up handle"),
        (1, "the handle 1"),
        (own ^ 1 << 40, "a handle of another generation"),
    ] {
        if handle != own {
            fails_unheard(context, a, &monitor, &list, handle, what)?;
        }
    }
    // The slot of the deleted SA is used again; its old handle is none of the new SA.
    let again = add(a, &transport_sa(algorithm, SPI).parameters(Direction::Outbound)).ok();
    fails_unheard(context, a, &monitor, &list, gone, "the handle of an SA whose slot is used again")?;
    if let Some(again) = again {
        delete(a, &[again])?;
    }
    // No handle: no IPsec.
    let received = secured.pair.carry(&[SendNbl::frame(secured.pair.frame(100, 3))], 1)?;
    check!(slot(&received[0], SLOT_IPSEC) == 0, "a frame in clear comes in as if it had been checked");
    secured.carry(&udp(50, 2)?)?;
    delete(&secured.pair.a, &[own])?;
    fails_unheard(context, &secured.pair.a, &monitor, &list, own, "the handle of a deleted SA")?;
    // The adapter comes back: handles of its life before are unknown.
    secured.pair.a.pause()?;
    secured.pair.a.halt(HaltAction::DeviceDisabled)?;
    let reborn = context.running()?;
    fails_unheard(context, &reborn, &monitor, &list, own, "a handle of the adapter's life before")?;
    fails_unheard(context, &reborn, &monitor, &list, inbound, "a handle of the adapter's life before")
}

/// Sets protocol-independent fields of the IPv4 header and its checksum right.
fn set_checksum(frame: &mut [u8]) {
    let header = HEADER..HEADER + 4 * usize::from(frame[HEADER] & 0xf);
    frame[HEADER + 10..HEADER + 12].fill(0);
    let mut sum: u32 =
        frame[header].as_chunks().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[HEADER + 10..HEADER + 12].copy_from_slice(&(!u16::try_from(sum).unwrap_or(0)).to_be_bytes());
}

/// Carries a frame that has to come in as it was sent, with these out-of-band words.
fn untouched(secured: &Secured<'_>, frame: &[u8], words: &[usize], what: &str) -> Outcome {
    let received = secured.pair.carry(&[SendNbl::frame(frame)], 1)?.remove(0);
    check!(received.frame == station::padded(frame), "{what}: the packet is changed");
    let word = slot(&received, SLOT_IPSEC);
    check!(words.contains(&word), "{what}: out-of-band slot 1 is {word:#x}, expected {words:x?}");
    check!(slot(&received, SLOT_HEADER) == 0, "{what}: slot 12 is {:#x}", slot(&received, SLOT_HEADER));
    Ok(())
}

/// The word that says: checked, with this result.
fn failed(status: u32) -> usize {
    CRYPTO_DONE | (status as usize) << 16
}

fn esp_received(context: &Context) -> Outcome {
    let mut secured = Secured::new(context, common(context)?)?;
    let packet = udp(64, 4)?;
    // Good ones, as a peer sends them.
    for length in [0, 1, 2, 3, 64, 900] {
        let packet = udp(length, 4)?;
        let frame = secured.sealed(&packet)?;
        let received = secured.pair.carry(&[SendNbl::frame(frame)], 1)?.remove(0);
        secured.accept(&received, &packet)?;
        let header = slot(&received, SLOT_HEADER);
        check!(header & HEADER_INFO_SET != 0 && header & 0xff == 17, "slot 12 is {header:#x}: UDP is 17");
    }
    let syntax = failed(ndis_sys::CRYPTO_INVALID_PACKET_SYNTAX);
    let authentication = failed(ndis_sys::CRYPTO_TRANSPORT_ESP_AUTH_FAILED);
    let good = secured.sealed(&packet)?;
    let end = good.len();
    // SPI and the ICV's both ends, sequence number, IV, payload: anything that is not authentic.
    for at in [HEADER + IP + 4, HEADER + IP + 7, HEADER + IP + ESP, HEADER + IP + 16, end - ICV, end - 1] {
        let mut frame = good.clone();
        frame[at] ^= 0x10;
        untouched(&secured, &frame, &[authentication], &format!("byte {at} is wrong"))?;
    }
    // No SA: another SPI, another destination.
    let mut frame = good.clone();
    frame[HEADER + IP] ^= 0x10;
    untouched(&secured, &frame, &[0], "another SPI")?;
    let mut frame = good.clone();
    frame[HEADER + 19] ^= 1;
    set_checksum(&mut frame);
    untouched(&secured, &frame, &[0], "another destination")?;
    // An SA of the other direction.
    let outbound = transport_sa(secured.sa.algorithm, SPI + 9);
    add(&secured.pair.b, &outbound.parameters(Direction::Outbound))?;
    let mut frame = good.clone();
    frame[HEADER + IP..HEADER + IP + 4].copy_from_slice(&(SPI + 9).to_be_bytes());
    untouched(&secured, &frame, &[0], "the SPI of an outbound SA")?;
    // Fragments are never processed.
    for (at, value) in [(6, 0x20), (7, 0x05)] {
        let mut frame = good.clone();
        frame[HEADER + at] = value;
        set_checksum(&mut frame);
        untouched(&secured, &frame, &[0], "a fragment")?;
    }
    // Shorter and shorter: the IP header says so, and the rest is right.
    for keep in [ESP, ESP + IV_LENGTH, ESP + IV_LENGTH + 1, ESP + IV_LENGTH + ICV - 1, ESP + IV_LENGTH + ICV]
    {
        let mut frame = good[..HEADER + IP + keep].to_vec();
        let total = u16::try_from(IP + keep).unwrap_or(0);
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
        set_checksum(&mut frame);
        // A decoder may find no trailer, or first find that nothing is authentic.
        untouched(&secured, &frame, &[syntax, authentication, 0], &format!("{keep} bytes of ESP"))?;
    }
    let can_options = context.facts()?.hardware().is_some_and(|hardware| hardware.IPsecV2.IPv4Options != 0);
    if !can_options {
        let mut frame = good.clone();
        frame.splice(HEADER + IP..HEADER + IP, [1, 1, 1, 0]);
        frame[HEADER] = 0x46;
        let total = u16::try_from(frame.len() - HEADER).unwrap_or(0);
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
        set_checksum(&mut frame);
        untouched(&secured, &frame, &[0], "IPv4 options, which are not advertised")?;
    }
    // Another protocol that looks the same.
    let mut frame = good.clone();
    frame[HEADER + 9] = 17;
    set_checksum(&mut frame);
    untouched(&secured, &frame, &[0], "UDP")?;
    // Not enabled, and deleted.
    let switch = |family| Oid::set(OID_OFFLOAD_ENCAPSULATION, encapsulate(family, NO_CHANGE));
    succeed(&secured.pair.b, switch(OFF), "OID_OFFLOAD_ENCAPSULATION")?;
    untouched(&secured, &good, &[0], "receive offload is off")?;
    succeed(&secured.pair.b, switch(ON), "OID_OFFLOAD_ENCAPSULATION")?;
    secured.carry(&packet)?;
    delete(&secured.pair.b, &[secured.inbound])?;
    untouched(&secured, &good, &[0], "the SA is deleted")?;
    // On by keyword, but not yet by OID_OFFLOAD_ENCAPSULATION.
    let fresh = context.running()?;
    station::set_filter(&fresh, NDIS_PACKET_TYPE_PROMISCUOUS)?;
    add(&fresh, &secured.sa.parameters(Direction::Inbound))?;
    secured.pair.send(&[SendNbl::frame(good.clone())], SendOptions::default())?;
    let received = station::receive(&fresh, 1, context.patience)?.remove(0);
    check!(
        received.frame == good && slot(&received, SLOT_IPSEC) == 0,
        "received packets are processed before OID_OFFLOAD_ENCAPSULATION asks for it"
    );
    Ok(())
}

fn update_missing(context: &Context) -> Outcome {
    let adapter = context.running()?;
    for handle in [0, 1, usize::MAX] {
        for operation in [Operation::Esp, Operation::Ah] {
            let outcome = adapter.oid(update_sa(handle, operation, SPI, 1))?;
            check!(
                outcome.status == NDIS_STATUS_INVALID_PARAMETER,
                "UPDATE_SA of handle {handle:#x} ends with {}",
                status_text(outcome.status)
            );
        }
    }
    Ok(())
}

fn stress(context: &Context) -> Outcome {
    const ROUNDS: u32 = 60;
    let algorithm = offered(context)?[0];
    let mut secured = Secured::new(context, algorithm)?;
    let (a, b) = (secured.pair.a.clone(), secured.pair.b.clone());
    let lists = (0..4).map(|length| secured.list(&udp(length * 90, 8)?)).collect::<Outcome<Vec<_>>>()?;
    let stop = AtomicBool::new(false);
    let patience = context.patience;
    let (bad, processed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (wrong, right) = (bad.clone(), processed.clone());
    let sink = move |_: &Adapter, frames: Vec<Received>| {
        for received in &frames {
            // Relaxed: counters that are read after all is quiet.
            match slot(received, SLOT_IPSEC) {
                CRYPTO_DONE => right.fetch_add(1, Ordering::Relaxed),
                _ => wrong.fetch_add(1, Ordering::Relaxed),
            };
        }
    };
    b.set_receive_sink(Some(Arc::new(sink)));
    let churn = |adapter: &Adapter, first: u32, direction: Direction| -> Result<(), LabError> {
        for round in 0..ROUNDS {
            let sa = transport_sa(algorithm, first + round).parameters(direction);
            let mut request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, sa.add_sa_ex()).direct();
            request.at_dispatch = round % 2 == 0;
            let outcome = adapter.oid(request)?;
            let Some(handle) = ipsec_v2::handle_of_add_sa_ex(&outcome.buffer) else { continue };
            let mut request = DeleteSaList::new(&[handle])?.request();
            request.at_dispatch = round % 3 == 0;
            adapter.oid(request)?;
        }
        Ok(())
    };
    let send = |options: SendOptions| -> Result<(), LabError> {
        // Relaxed: only ends the loop.
        while !stop.load(Ordering::Relaxed) {
            a.send_with(&lists, options)?.wait(patience)?;
        }
        Ok(())
    };
    let results: Vec<Result<(), LabError>> = std::thread::scope(|scope| {
        let senders = [scope.spawn(|| send(SendOptions::dispatch()))];
        let changers = [
            scope.spawn(|| churn(&a, 0x10_0000, Direction::Outbound)),
            scope.spawn(|| churn(&a, 0x20_0000, Direction::Inbound)),
            scope.spawn(|| churn(&b, 0x30_0000, Direction::Inbound)),
            scope.spawn(|| churn(&b, 0x40_0000, Direction::Outbound)),
        ];
        let mut results: Vec<_> = changers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        results.extend(senders.into_iter().map(std::thread::ScopedJoinHandle::join));
        results.into_iter().map(|result| result.unwrap_or(Err(LabError::NotRegistered))).collect()
    });
    std::thread::sleep(SILENCE);
    b.set_receive_sink(None);
    results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (bad, processed) = (bad.load(Ordering::Relaxed), processed.load(Ordering::Relaxed));
    // The same packets again and again: the sender may refuse to repeat an IV, so that some or most fail.
    check!(
        bad == 0,
        "{bad} packets of an SA that was not touched came in unprocessed or damaged, {processed} came in well"
    );
    b.take_received();
    secured.carry(&udp(70, 1)?)
}

fn outlives_changes(context: &Context) -> Outcome {
    let mut secured = Secured::new(context, offered(context)?[0])?;
    let monitor = monitor(context)?;
    secured.carry(&udp(80, 1)?)?;
    let (a, b) = (secured.pair.a.clone(), secured.pair.b.clone());
    for adapter in [&a, &b] {
        adapter.pause()?;
        adapter.restart()?;
        secured.carry(&udp(81, 1)?)?;
    }
    let facts = context.facts()?;
    if Need::NoPauseOnSuspend.lacking(facts).is_none() {
        for adapter in [&a, &b] {
            for state in [ndis_sys::NdisDeviceStateD3, ndis_sys::NdisDeviceStateD0] {
                succeed(
                    adapter,
                    Oid::set_u32(ndis_sys::OID_PNP_SET_POWER, state.cast_unsigned()),
                    "a power state",
                )?;
            }
            secured.carry(&udp(82, 1)?)?;
        }
    }
    if Need::Reset.lacking(facts).is_none() {
        for adapter in [&a, &b] {
            let addressing = adapter.reset(ndis_sys::PASSIVE_LEVEL)?.addressing;
            if addressing {
                station::set_filter(adapter, station::USUAL_FILTER)?;
                receive_on(adapter)?;
            }
            secured.carry(&udp(83, 1)?)?;
        }
    }
    // Switched off while SAs live.
    let Some(hardware) = facts.hardware() else { return Ok(()) };
    let switch = |value: u8| Oid::set(OID_TCP_OFFLOAD_PARAMETERS, with(ipsec_field(hardware), value));
    succeed(&a, switch(1), "switching IPsec off")?;
    let packet = udp(300, 0x41)?;
    let list = secured.list(&packet)?;
    monitor.take_received();
    a.send(&[list])?;
    std::thread::sleep(SILENCE);
    let secret = &packet[IP + 8..IP + 40];
    for seen in monitor.take_received() {
        check!(
            !seen.frame.windows(secret.len()).any(|window| window == secret),
            "a packet of an SA is on the wire in clear when IPsec is switched off"
        );
    }
    b.take_received();
    let (outcome, handle) =
        a.add_sa_ex(&transport_sa(secured.sa.algorithm, SPI + 7).parameters(Direction::Outbound))?;
    check!(handle.is_none(), "an SA is taken while IPsec is switched off: {}", status_text(outcome.status));
    succeed(&a, switch(3), "switching ESP on again")?;
    delete(&a, &[secured.out.handle])?;
    let again = add(&a, &secured.sa.parameters(Direction::Outbound))?;
    secured.out.handle = again;
    secured.carry(&udp(84, 1)?)
}

fn keys_are_wiped(context: &Context) -> Outcome {
    let algorithm = offered(context)?[0];
    let sas: Vec<_> = (0..6).map(|spi| transport_sa(algorithm, 0x700 + spi)).collect();
    let needles: Vec<Vec<u8>> = sas.iter().map(|sa| sa.key.bytes()[..16].to_vec()).collect();
    let found = Arc::new(AtomicUsize::new(0));
    let count = found.clone();
    context.lab.on_pool_free(move |_, bytes| {
        let holds = needles.iter().any(|key| bytes.windows(key.len()).any(|window| window == key));
        // Relaxed: read after all is quiet.
        count.fetch_add(usize::from(holds), Ordering::Relaxed);
    });
    let none = |when: &str| -> Outcome {
        let found = found.load(Ordering::Relaxed);
        check!(found == 0, "{found} blocks of memory were freed with a key in them, {when}");
        Ok(())
    };
    let adapter = context.driver()?.add_adapter(context.config())?;
    let first = add(&adapter, &sas[0].parameters(Direction::Outbound))?;
    delete(&adapter, &[first])?;
    let (_, handles) = adapter.add_sa_list(&[
        sas[1].parameters(Direction::Inbound),
        sas[2].parameters(Direction::Outbound),
        impossible(),
    ])?;
    delete_all(&adapter, &handles)?;
    std::thread::sleep(Duration::from_millis(1));
    none("after DELETE_SA")?;
    // Each allocation of an ADD_SA_EX fails once.
    for skip in 0..16 {
        let before = context.lab.fault_points();
        context.lab.fail_after(skip);
        let (_, handle) = adapter.add_sa_ex(&sas[3].parameters(Direction::Outbound))?;
        context.lab.clear_faults();
        delete_all(&adapter, &[handle])?;
        if context.lab.fault_points() - before <= skip {
            break;
        }
    }
    none("after an ADD_SA_EX that found no memory")?;
    add(&adapter, &sas[4].parameters(Direction::Inbound))?;
    add(&adapter, &sas[5].parameters(Direction::Outbound))?;
    adapter.restart()?;
    adapter.pause()?;
    adapter.halt(HaltAction::DeviceDisabled)?;
    none("after halt with SAs")
}
