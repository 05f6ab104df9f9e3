//! SAs that go together: AH over ESP in one packet, and transport mode within a tunnel.

use std::net::Ipv4Addr;

use crate::adapter::Adapter;
use crate::adapter::send::{SendNbl, SendOptions};
use crate::conformance::context::Context;
use crate::conformance::peer::{AhPeer, ICV, Peer};
use crate::conformance::station::{self, HEADER};
use crate::conformance::{Outcome, Stop, check};
use crate::ipsec_v2::{self, Association, Operation, SaParameters};
use crate::transport::{Direction, IV_LENGTH, TransportSa};

use super::packets::{failed, fails_unheard, set_checksum, untouched};
use super::{
    CRYPTO_DONE, ESP, HEADER_INFO_SET, IP, NEXT_CRYPTO_DONE, SLOT_HEADER, SLOT_IPSEC, SLOT_TUNNEL, SPI,
    Secured, add, common, delete, key, monitor, slot, udp,
};

const ESP_PROTOCOL: u8 = 50;
const AH_PROTOCOL: u8 = 51;
/// IPv4 in IPv4, and UDP.
const IPV4: u8 = 4;
const UDP: usize = 17;
/// The ends of the tunnel.
const C: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const D: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// What a failure of the suite's own peer is.
fn cannot() -> Stop {
    Stop::Failed("the suite's peer cannot encrypt".into())
}

/// The SA of a pair anew: ESP, and AH over it.
struct Bundle<'c> {
    secured: Secured<'c>,
    ah: AhPeer,
    esp: Peer,
    sequence: u32,
}

impl<'c> Bundle<'c> {
    fn new(context: &'c Context) -> Outcome<Self> {
        let mut secured = Secured::new(context, common(context)?)?;
        let offered =
            context.facts()?.hardware().map_or(0, |hardware| hardware.IPsecV2.AuthenticationAlgorithms);
        let (ah, key) = AhPeer::new(offered, 0x51).ok_or_else(|| {
            Stop::NotApplicable("the suite's peer has none of its authentication algorithms for AH".into())
        })?;
        let with_ah = |mut sa: SaParameters| {
            let algorithm = ipsec_v2::Algorithm { id: ah.identifier, key: key.clone(), additional_info: 0 };
            sa.associations.push(Association {
                operation: Operation::Ah,
                spi: SPI + 1,
                esn: None,
                authentication: Some(algorithm),
                encryption: None,
            });
            sa
        };
        delete(&secured.pair.a, &[secured.out.handle])?;
        delete(&secured.pair.b, &[secured.inbound])?;
        let out = with_ah(secured.sa.parameters(Direction::Outbound));
        let inbound = with_ah(secured.sa.parameters(Direction::Inbound));
        secured.out.handle = add(&secured.pair.a, &out)?;
        secured.inbound = add(&secured.pair.b, &inbound)?;
        let esp = secured.peer()?;
        Ok(Self { secured, ah, esp, sequence: 0 })
    }

    /// A packet as the stack frames it, both ICVs 0, and its out-of-band header word.
    fn framed(&mut self, packet: &[u8]) -> Outcome<(Vec<u8>, usize)> {
        let (mut frame, word) = self.secured.framed(packet)?;
        self.sequence += 1;
        let ah = self.ah.header(ESP_PROTOCOL, SPI + 1, self.sequence);
        let length = ah.len();
        frame.splice(HEADER + IP..HEADER + IP, ah);
        let total = u16::try_from(frame.len() - HEADER).unwrap_or(0);
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
        frame[HEADER + 9] = AH_PROTOCOL;
        set_checksum(&mut frame);
        // AhHeaderOffset and EspHeaderOffset, in units of 4 bytes from the IP header.
        Ok((frame, word & 0xffff | (IP / 4) << 16 | ((IP + length) / 4) << 24))
    }

    /// As a peer protects it.
    fn sealed(&mut self, packet: &[u8]) -> Outcome<Vec<u8>> {
        let (mut frame, _) = self.framed(packet)?;
        let start = HEADER + IP + self.ah.length();
        self.esp.seal(&mut frame[start..]).ok_or_else(cannot)?;
        self.ah.seal(&mut frame[HEADER..]).ok_or_else(cannot)?;
        Ok(frame)
    }

    /// On the wire: encrypted, then authenticated.
    fn on_the_wire(&mut self, context: &Context, monitor: &Adapter, length: usize) -> Outcome {
        let (frame, word) = self.framed(&udp(length, 3)?)?;
        monitor.take_received();
        let handle = self.secured.out.handle;
        let list = SendNbl::frame(frame.clone()).oob(SLOT_IPSEC, handle).oob(SLOT_HEADER, word);
        let received = self.secured.pair.carry(&[list], 1)?.remove(0);
        let seen = station::receive(monitor, 1, context.patience)?.remove(0).frame;
        let seen = seen.get(..frame.len()).unwrap_or(&seen);
        let icv = self.ah.place();
        check!(
            seen.len() == frame.len() && seen[..HEADER + icv.start] == frame[..HEADER + icv.start],
            "{length} bytes: the length or the headers before the ICV of AH changed"
        );
        let start = HEADER + icv.end;
        check!(
            seen[start..start + ESP + IV_LENGTH] == frame[start..start + ESP + IV_LENGTH],
            "{length} bytes: SPI, sequence number or IV of ESP changed"
        );
        let clear = &frame[start + ESP + IV_LENGTH..frame.len() - ICV];
        check!(
            self.esp.open(&seen[start..]).as_deref() == Some(clear),
            "{length} bytes: a peer with the key cannot verify the ESP part under AH"
        );
        check!(
            self.ah.icv_of(&seen[HEADER..]).as_deref() == Some(&seen[HEADER..][icv]),
            "{length} bytes: the ICV of AH is not that of the packet on the wire (ESP comes first, what is \
             mutable counts as 0)"
        );
        self.good(&received.frame, &frame, (slot(&received, SLOT_IPSEC), slot(&received, SLOT_HEADER)))
    }

    /// A packet that is authentic came in: in clear, and told so.
    fn good(&self, received: &[u8], clear: &[u8], (word, header): (usize, usize)) -> Outcome {
        check!(
            word == CRYPTO_DONE,
            "slot 1 of a good packet is {word:#x}: CryptoDone alone is expected, since AH and ESP are no tunnel"
        );
        let start = HEADER + self.ah.place().end + ESP + IV_LENGTH;
        let end = clear.len() - ICV;
        check!(received.get(start..end) == Some(&clear[start..end]), "a good packet is not in clear");
        let expected = UDP | usize::from(clear[end - 2]) << 8 | HEADER_INFO_SET;
        check!(
            header == expected,
            "slot 12 of a good packet is {header:#x}, expected {expected:#x}: next header, pad length, \
             HeaderInfoSet"
        );
        Ok(())
    }
}

pub(super) fn ah_and_esp(context: &Context) -> Outcome {
    let mut bundle = Bundle::new(context)?;
    let monitor = monitor(context)?;
    for length in [0, 1, 2, 3, 64, 255, 1000] {
        bundle.on_the_wire(context, &monitor, length)?;
    }
    // As a peer sends them.
    for length in [0, 5, 64, 900] {
        let packet = udp(length, 4)?;
        let sealed = bundle.sealed(&packet)?;
        let mut clear = sealed.clone();
        let start = HEADER + bundle.ah.place().end;
        let opened = bundle.esp.open(&sealed[start..]).ok_or_else(cannot)?;
        clear[start + ESP + IV_LENGTH..sealed.len() - ICV].copy_from_slice(&opened);
        let received = bundle.secured.pair.carry(&[SendNbl::frame(sealed)], 1)?.remove(0);
        bundle.good(&received.frame, &clear, (slot(&received, SLOT_IPSEC), slot(&received, SLOT_HEADER)))?;
        // What may change on the way is not authenticated.
        let mut routed = bundle.sealed(&packet)?;
        routed[HEADER + 8] -= 1;
        set_checksum(&mut routed);
        let received = bundle.secured.pair.carry(&[SendNbl::frame(routed)], 1)?.remove(0);
        let word = slot(&received, SLOT_IPSEC);
        check!(word == CRYPTO_DONE, "a packet whose TTL a router lowered is told {word:#x}");
    }
    let good = bundle.sealed(&udp(64, 4)?)?;
    let (place, end) = (bundle.ah.place(), good.len());
    let by_ah = failed(ndis_sys::CRYPTO_TRANSPORT_AH_AUTH_FAILED);
    // AH covers all: its own fields, its ICV, and what is under it.
    for at in
        [HEADER + IP + 8, HEADER + place.start, HEADER + place.end - 1, HEADER + place.end + 20, end - 1]
    {
        let mut frame = good.clone();
        frame[at] ^= 0x10;
        untouched(&bundle.secured, &frame, &[by_ah], &format!("byte {at} is wrong"))?;
    }
    // ESP that is not authentic, under AH that is.
    let mut frame = good.clone();
    frame[end - 1] ^= 1;
    bundle.ah.seal(&mut frame[HEADER..]).ok_or_else(cannot)?;
    let by_esp = failed(ndis_sys::CRYPTO_TRANSPORT_ESP_AUTH_FAILED);
    untouched(&bundle.secured, &frame, &[by_esp], "the ICV of ESP is wrong, that of AH is right")?;
    // Another SPI names no SA.
    let mut frame = good;
    frame[HEADER + IP + 4] ^= 0x10;
    untouched(&bundle.secured, &frame, &[0], "another SPI of AH")?;
    delete(&bundle.secured.pair.a, &[bundle.secured.out.handle])?;
    delete(&bundle.secured.pair.b, &[bundle.secured.inbound])
}

/// The SA of a pair within a tunnel between C and D.
struct Tunnel<'c> {
    secured: Secured<'c>,
    /// Of the packet within, and of the tunnel.
    within: Peer,
    around: Peer,
    out: usize,
    inbound: usize,
    sequence: u32,
}

impl<'c> Tunnel<'c> {
    fn new(context: &'c Context) -> Outcome<Self> {
        let secured = Secured::new(context, common(context)?)?;
        let algorithm = secured.sa.algorithm;
        let sa =
            TransportSa { source: C, destination: D, spi: SPI + 7, algorithm, key: key(algorithm, 0x7e) };
        let out = add(&secured.pair.a, &sa.parameters(Direction::Outbound))?;
        let inbound = add(&secured.pair.b, &sa.parameters(Direction::Inbound))?;
        let around = Peer::new(sa.key.bytes()).ok_or_else(cannot)?;
        let within = secured.peer()?;
        Ok(Self { secured, within, around, out, inbound, sequence: 0 })
    }

    /// Where the outer ESP begins, the packet in it, and the ESP of that, in a frame.
    const OUTER: usize = HEADER + IP;
    const WITHIN: usize = Self::OUTER + ESP + IV_LENGTH;
    const INNER: usize = Self::WITHIN + IP;

    /// A frame with both packets in clear, and where the inner one ends.
    fn framed(&mut self, packet: &[u8]) -> Outcome<(Vec<u8>, usize)> {
        let (inner, _) = self.secured.framed(packet)?;
        let inner = &inner[HEADER..];
        self.sequence += 1;
        let pad = (4 - (inner.len() + 2) % 4) % 4;
        let total = IP + ESP + IV_LENGTH + inner.len() + pad + 2 + ICV;
        let mut outer = vec![0x45, 0];
        outer.extend(u16::try_from(total).unwrap_or(0).to_be_bytes());
        outer.extend([0, 9, 0, 0, 64, ESP_PROTOCOL, 0, 0]);
        outer.extend(C.octets());
        outer.extend(D.octets());
        outer.extend((SPI + 7).to_be_bytes());
        outer.extend(self.sequence.to_be_bytes());
        outer.extend((0x7700_0000_u64 + u64::from(self.sequence)).to_be_bytes());
        outer.extend_from_slice(inner);
        outer.extend((1..=pad).map(|at| u8::try_from(at).unwrap_or(0)));
        outer.extend([u8::try_from(pad).unwrap_or(0), IPV4]);
        outer.extend([0; ICV]);
        let (a, b) = (station::address(&self.secured.pair.a), station::address(&self.secured.pair.b));
        let mut frame = crate::transport::ethernet(b, a, &outer);
        set_checksum(&mut frame);
        Ok((frame, Self::WITHIN + inner.len()))
    }

    fn list(&self, frame: &[u8]) -> SendNbl {
        // The trailer of the packet that the header word is about, and the outer packet's ESP.
        let end = frame.len() - ICV;
        let word = usize::from(IPV4) | usize::from(frame[end - 2]) << 8 | (IP / 4) << 24;
        let list = SendNbl::frame(frame.to_vec()).oob(SLOT_IPSEC, self.secured.out.handle);
        list.oob(SLOT_TUNNEL, self.out).oob(SLOT_HEADER, word)
    }

    /// As a peer protects it: the inner packet, which `spoil` may change then, and the outer one.
    fn sealed(&mut self, packet: &[u8], spoil: impl Fn(&mut [u8])) -> Outcome<Vec<u8>> {
        let (mut frame, end) = self.framed(packet)?;
        self.within.seal(&mut frame[Self::INNER..end]).ok_or_else(cannot)?;
        spoil(&mut frame[Self::INNER..end]);
        self.around.seal(&mut frame[Self::OUTER..]).ok_or_else(cannot)?;
        Ok(frame)
    }

    /// A packet that is authentic came in: both in clear, and both told.
    fn good(received: &[u8], clear: &[u8], inner: usize, (word, header): (usize, usize)) -> Outcome {
        check!(
            word == CRYPTO_DONE | NEXT_CRYPTO_DONE,
            "slot 1 of a good packet in a tunnel is {word:#x}: CryptoDone and NextCryptoDone are expected"
        );
        let start = Self::INNER + ESP + IV_LENGTH;
        check!(
            received.get(start..inner - ICV) == Some(&clear[start..inner - ICV])
                && received.get(Self::WITHIN..Self::INNER) == Some(&clear[Self::WITHIN..Self::INNER]),
            "a good packet in a tunnel is not in clear, with its inner IP header"
        );
        // The page does not say of which of the two trailers slot 12 speaks: of one of them.
        let told =
            |end: usize| usize::from(clear[end - 1]) | usize::from(clear[end - 2]) << 8 | HEADER_INFO_SET;
        let either = [told(inner - ICV), told(clear.len() - ICV)];
        check!(
            either.contains(&header),
            "slot 12 of a good packet in a tunnel is {header:#x}, expected one of {either:x?}"
        );
        Ok(())
    }
}

pub(super) fn transport_over_tunnel(context: &Context) -> Outcome {
    let mut tunnel = Tunnel::new(context)?;
    let monitor = monitor(context)?;
    for length in [0, 1, 2, 3, 64, 255, 1000] {
        let (frame, end) = tunnel.framed(&udp(length, 3)?)?;
        monitor.take_received();
        let received = tunnel.secured.pair.carry(&[tunnel.list(&frame)], 1)?.remove(0);
        let seen = station::receive(&monitor, 1, context.patience)?.remove(0).frame;
        let start = Tunnel::WITHIN;
        check!(
            seen.len() == frame.len() && seen[..start] == frame[..start],
            "{length} bytes: the length or the headers before the payload of the tunnel changed"
        );
        let opened = tunnel.around.open(&seen[Tunnel::OUTER..]).ok_or_else(|| {
            Stop::Failed(format!("{length} bytes: a peer with its key cannot verify the tunnel's packet"))
        })?;
        let inner = opened.get(IP..end - start).unwrap_or_default();
        let clear = &frame[Tunnel::INNER + ESP + IV_LENGTH..end - ICV];
        check!(
            tunnel.within.open(inner).as_deref() == Some(clear),
            "{length} bytes: a peer with its key cannot verify the packet within the tunnel"
        );
        Tunnel::good(
            &received.frame,
            &frame,
            end,
            (slot(&received, SLOT_IPSEC), slot(&received, SLOT_HEADER)),
        )?;
    }
    // A tunnel handle that is none: nothing of it goes out.
    let (frame, _) = tunnel.framed(&udp(40, 1)?)?;
    let handle = tunnel.secured.out.handle;
    let list = tunnel.list(&frame).oob(SLOT_TUNNEL, tunnel.out ^ 1 << 40);
    fails_unheard(context, &tunnel.secured.pair.a, &monitor, &list, handle, "a made-up tunnel handle")?;
    // As a peer sends them.
    let packet = udp(64, 4)?;
    let (clear, end) = tunnel.framed(&packet)?;
    let sealed = tunnel.sealed(&packet, |_| {})?;
    let received = tunnel.secured.pair.carry(&[SendNbl::frame(sealed.clone())], 1)?.remove(0);
    let words = (slot(&received, SLOT_IPSEC), slot(&received, SLOT_HEADER));
    Tunnel::good(&received.frame, &clear, end, words)?;
    // The ICV of the tunnel is wrong; what is in it, and its next header, is not.
    let mut frame = sealed.clone();
    let last = frame.len() - 1;
    frame[last] ^= 0x10;
    let by_tunnel = failed(ndis_sys::CRYPTO_TUNNEL_ESP_AUTH_FAILED);
    untouched(&tunnel.secured, &frame, &[by_tunnel], "the ICV of the tunnel is wrong")?;
    // The ICV within is wrong: the tunnel was checked, and so was the payload, which stays as it is.
    let frame = tunnel.sealed(&packet, |inner| {
        if let Some(last) = inner.last_mut() {
            *last ^= 0x10;
        }
    })?;
    let received = tunnel.secured.pair.carry(&[SendNbl::frame(frame)], 1)?.remove(0);
    let word = slot(&received, SLOT_IPSEC);
    let want = failed(ndis_sys::CRYPTO_TRANSPORT_ESP_AUTH_FAILED) | NEXT_CRYPTO_DONE;
    check!(word == want, "the ICV within the tunnel is wrong, and slot 1 is {word:#x} instead of {want:#x}");
    let payload = Tunnel::INNER + ESP + IV_LENGTH..end - ICV;
    check!(
        received.frame.get(payload.clone()) != Some(&clear[payload]),
        "a payload within a tunnel that is not authentic is released in clear"
    );
    // The tunnel alone: its payload is told, the other one is not looked at.
    delete(&tunnel.secured.pair.b, &[tunnel.secured.inbound])?;
    tunnel.secured.pair.send(&[SendNbl::frame(sealed)], SendOptions::default())?;
    let received = station::receive(&tunnel.secured.pair.b, 1, context.patience)?.remove(0);
    let word = slot(&received, SLOT_IPSEC);
    check!(
        word == CRYPTO_DONE,
        "with the SA of the tunnel alone slot 1 is {word:#x}, CryptoDone is expected"
    );
    delete(&tunnel.secured.pair.a, &[tunnel.out, handle])?;
    delete(&tunnel.secured.pair.b, &[tunnel.inbound])
}
