//! ESP with AES-GCM over IPv4 (RFC 4303, RFC 4106), alone, under AH with HMAC-SHA-1-96 (RFC 4302, RFC 2404), or in
//! transport mode within a tunnel.

use aes_gcm::aead::{AeadInPlace, KeyInit, generic_array::GenericArray};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use hmac::{Hmac, Mac};
use ndis_sys::*;
use sha1::Sha1;

use super::{Adapter, HEADER, M, Sa, is, lock};

type Aes192Gcm = AesGcm<Aes192, aes_gcm::aead::consts::U12>;

const IP: usize = 20;
const ESP: usize = 8;
const IV: usize = 8;
const ICV: usize = 16;
/// AH with its ICV, and where that lies.
const AH: usize = 24;
const AH_FIXED: usize = 12;
/// Protocols: IPv4 in IPv4, ESP, AH.
const IPV4: u8 = 4;
const ESP_PROTOCOL: u8 = 50;
const AH_PROTOCOL: u8 = 51;

// Bits and results of the received out-of-band word.
const DONE: usize = 2;
const NEXT_DONE: usize = 4;
const TRANSPORT_AH: usize = 2 << 16;
const TRANSPORT_ESP: usize = 3 << 16;
const TUNNEL_ESP: usize = 5 << 16;
const SYNTAX: usize = 6 << 16;

fn nonce(sa: &Sa, esp: &[u8]) -> [u8; 12] {
    let salt = &sa.key[sa.key_length - 4..sa.key_length];
    let mut nonce = [0; 12];
    if is(M::NonceSwapped) {
        nonce[..8].copy_from_slice(&esp[ESP..ESP + IV]);
        nonce[8..].copy_from_slice(salt);
    } else {
        nonce[..4].copy_from_slice(salt);
        nonce[4..].copy_from_slice(&esp[ESP..ESP + IV]);
    }
    nonce
}

/// SPI, the high half of an extended sequence number, its low half.
fn aad(sa: &Sa, esp: &[u8]) -> Vec<u8> {
    let high = sa.high.to_be_bytes();
    let high: &[u8] = if sa.extended && !is(M::HighHalfIgnored) { &high } else { &[] };
    [&esp[..4], high, &esp[4..ESP]].concat()
}

fn seal(sa: &Sa, esp: &mut [u8]) -> Option<()> {
    let nonce = *GenericArray::from_slice(&nonce(sa, esp));
    let aad = aad(sa, esp);
    let end = esp.len() - ICV;
    let data = &mut esp[ESP + IV..end];
    let key = &sa.key[..sa.key_length - 4];
    let tag = match key.len() {
        16 => Aes128Gcm::new_from_slice(key).ok()?.encrypt_in_place_detached(&nonce, &aad, data),
        24 => Aes192Gcm::new_from_slice(key).ok()?.encrypt_in_place_detached(&nonce, &aad, data),
        _ => Aes256Gcm::new_from_slice(key).ok()?.encrypt_in_place_detached(&nonce, &aad, data),
    };
    esp[end..].copy_from_slice(&tag.ok()?);
    Some(())
}

fn open(sa: &Sa, esp: &mut [u8]) -> Option<()> {
    let nonce = *GenericArray::from_slice(&nonce(sa, esp));
    let aad = aad(sa, esp);
    let (body, tag) = esp.split_at_mut(esp.len() - ICV);
    let tag = *GenericArray::from_slice(tag);
    let data = &mut body[ESP + IV..];
    let key = &sa.key[..sa.key_length - 4];
    let result = match key.len() {
        16 => Aes128Gcm::new_from_slice(key).ok()?.decrypt_in_place_detached(&nonce, &aad, data, &tag),
        24 => Aes192Gcm::new_from_slice(key).ok()?.decrypt_in_place_detached(&nonce, &aad, data, &tag),
        _ => Aes256Gcm::new_from_slice(key).ok()?.decrypt_in_place_detached(&nonce, &aad, data, &tag),
    };
    result.ok()
}

/// The ICV of AH over a whole packet: what changes on the way counts as 0, and the ICV itself.
fn ah_icv(sa: &Sa, packet: &[u8]) -> [u8; AH - AH_FIXED] {
    let mut covered = packet.to_vec();
    // DSCP and ECN, flags and fragment offset, TTL, header checksum.
    for at in [1, 6, 7, 8, 10, 11] {
        if at != 8 || !is(M::AhTtlCovered) {
            covered[at] = 0;
        }
    }
    covered[IP + AH_FIXED..IP + AH].fill(0);
    let mut icv = [0; AH - AH_FIXED];
    // A key of any length is one for HMAC.
    if let Ok(mut mac) = <Hmac<Sha1> as Mac>::new_from_slice(&sa.ah_key) {
        mac.update(&covered);
        icv.copy_from_slice(&mac.finalize().into_bytes()[..AH - AH_FIXED]);
    }
    icv
}

/// The headers of an IPv4 packet without options.
struct Layers {
    /// Its bytes.
    total: usize,
    /// Whether AH comes first.
    ah: bool,
    /// Where ESP begins, if there is any.
    esp: Option<usize>,
}

/// `None`: nothing that IPsec could be found in.
fn layers(packet: &[u8]) -> Option<Layers> {
    let ip = packet.get(..IP)?;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 && !is(M::FragmentsProcessed);
    if ip[0] != 0x45 || fragment || total > packet.len() {
        return None;
    }
    let ah = ip[9] == AH_PROTOCOL && total >= IP + AH && packet[IP + 1] == 4;
    let (at, next) = if ah { (IP + AH, packet[IP]) } else { (IP, ip[9]) };
    let esp = (next == ESP_PROTOCOL && total >= at + ESP).then_some(at);
    (ah || esp.is_some()).then_some(Layers { total, ah, esp })
}

/// The IPv4 packet of a frame.
fn packet(frame: &mut [u8]) -> Option<&mut [u8]> {
    (frame.get(12..14)? == [8, 0]).then(|| &mut frame[HEADER..])
}

/// Protects a packet for one SA.
fn protect_packet(sa: &Sa, packet: &mut [u8]) -> Option<()> {
    let layers = layers(packet)?;
    let covered = packet[16..IP] == sa.destination || is(M::InboundHandleAccepted);
    if !covered || layers.ah != sa.ah {
        return None;
    }
    if is(M::AhBeforeEsp) && sa.ah {
        let icv = ah_icv(sa, &packet[..layers.total]);
        packet[IP + AH_FIXED..IP + AH].copy_from_slice(&icv);
    }
    if sa.esp {
        let esp = &mut packet[layers.esp?..layers.total];
        if esp.len() < ESP + IV + 2 + ICV {
            return None;
        }
        if is(M::SequenceChanged) {
            esp[7] ^= 1;
        }
        if is(M::IvCleared) {
            esp[ESP..ESP + IV].fill(0);
        }
        let clear = is(M::NotEncrypted) || is(M::BundleClear) && sa.ah;
        if !clear {
            seal(sa, esp)?;
        }
    }
    if sa.ah && !is(M::AhNotComputed) && !is(M::AhBeforeEsp) {
        let icv = ah_icv(sa, &packet[..layers.total]);
        packet[IP + AH_FIXED..IP + AH].copy_from_slice(&icv);
    }
    Some(())
}

/// The packet within the ESP of a tunnel, in clear.
fn inner(packet: &mut [u8]) -> Option<&mut [u8]> {
    let layers = layers(packet)?;
    let start = layers.esp? + ESP + IV;
    packet.get_mut(start..layers.total.checked_sub(ICV + 2)?)
}

/// Encrypts a frame for the SA of a handle, and for that of a tunnel around it if there is one.
pub(super) unsafe fn protect(
    adapter: *mut Adapter,
    frame: &mut [u8],
    handle: usize,
    tunnel: usize,
) -> Result<(), NDIS_STATUS> {
    let guard = lock();
    if !(*adapter).config.esp && !(*adapter).config.ah {
        return if is(M::OffSendsClear) { Ok(()) } else { Err(NDIS_STATUS_FAILURE) };
    }
    let of = |handle: usize| (*adapter).sas.iter().find(|sa| sa.handle == handle && !sa.inbound);
    let mut found = of(handle);
    if is(M::InboundHandleAccepted) {
        found = (*adapter).sas.iter().find(|sa| sa.handle == handle);
    }
    if is(M::HandleOfOther) {
        let all = *super::WIRE.adapters.get();
        for other in all.into_iter().filter(|other| !other.is_null()) {
            found = found.or((*other).sas.iter().find(|sa| sa.handle == handle && !sa.inbound));
        }
    }
    let Some(sa) = found else {
        return if is(M::UnknownHandleSendsClear) { Ok(()) } else { Err(NDIS_STATUS_FAILURE) };
    };
    let packet = packet(frame).ok_or(NDIS_STATUS_FAILURE)?;
    if tunnel != 0 {
        let Some(outer) = of(tunnel) else {
            return if is(M::TunnelHandleUnknown) { Ok(()) } else { Err(NDIS_STATUS_FAILURE) };
        };
        let done = protect_nested(sa, outer, packet);
        return done.ok_or(NDIS_STATUS_FAILURE);
    }
    if is(M::KeyWipedInUse) {
        // The SA may be deleted, and its key wiped, before it is used.
        let sa = &raw const *sa;
        drop(guard);
        KeGetCurrentIrql();
        return protect_packet(&*sa, packet).ok_or(NDIS_STATUS_FAILURE);
    }
    protect_packet(sa, packet).ok_or(NDIS_STATUS_FAILURE)
}

/// Transport over tunnel: first the inner packet, then the outer one around it.
fn protect_nested(transport: &Sa, tunnel: &Sa, packet: &mut [u8]) -> Option<()> {
    if is(M::TunnelFirst) {
        protect_packet(tunnel, packet)?;
    }
    if !is(M::TunnelInnerClear) && !is(M::TunnelFirst) {
        protect_packet(transport, inner(packet)?)?;
    }
    if is(M::TunnelOuterClear) || is(M::TunnelFirst) { Some(()) } else { protect_packet(tunnel, packet) }
}

/// How a packet of a matching SA came out: its word, and what slot 12 says of the trailer.
struct Processed {
    word: usize,
    info: usize,
    /// The ESP part was decrypted, and holds an IPv4 packet.
    tunnel: bool,
}

/// Next header, pad length, HeaderInfoSet.
fn trailer(esp: &[u8]) -> usize {
    let end = esp.len() - ICV;
    let (pad, next) = (usize::from(esp[end - 2]), usize::from(esp[end - 1]));
    if is(M::TrailerNotTold) {
        return 0;
    }
    let next = if is(M::NextHeaderEsp) { 50 } else { next };
    let pad = if is(M::PadLengthWrong) { pad + 2 } else { pad };
    next | pad << 8 | 1 << 16
}

/// Verifies and decrypts a packet of this SA.
fn process(sa: &Sa, packet: &mut [u8], layers: &Layers) -> Processed {
    let bad = |word: usize| Processed { word: DONE | word, info: 0, tunnel: false };
    let wrong = sa.ah && ah_icv(sa, &packet[..layers.total]) != packet[IP + AH_FIXED..IP + AH];
    if wrong && !is(M::AhNotChecked) {
        return bad(if is(M::AhFailureOfEsp) { TRANSPORT_ESP } else { TRANSPORT_AH });
    }
    if !sa.esp {
        return bad(0);
    }
    let Some(at) = layers.esp else { return bad(SYNTAX) };
    let esp = &mut packet[at..layers.total];
    if esp.len() < ESP + IV + 2 + ICV {
        return bad(SYNTAX);
    }
    let before = esp.to_vec();
    if open(sa, esp).is_none() {
        // Counter mode works both ways: the next header is what it is, authentic or not.
        let _ = seal(sa, esp);
        let tunnel = esp[esp.len() - ICV - 1] == IPV4;
        let kept = if is(M::ReleasesUnauthentic) { esp.len() - ICV } else { 0 };
        esp[kept..].copy_from_slice(&before[kept..]);
        let mut word = if tunnel && !is(M::TunnelFailureOfTransport) { TUNNEL_ESP } else { TRANSPORT_ESP };
        if is(M::FailureOfTunnel) {
            word = TUNNEL_ESP;
        }
        return bad(if is(M::FailureNotTold) { 0 } else { word });
    }
    let info = if sa.ah && is(M::BundleTrailerNotTold) { 0 } else { trailer(esp) };
    let done = if is(M::NextDoneToo) || sa.ah && is(M::BundleNextDone) { DONE | NEXT_DONE } else { DONE };
    let tunnel = esp[esp.len() - ICV - 1] == IPV4;
    Processed { word: done, info, tunnel }
}

/// The inbound SA that a packet names by its first header and its destination.
unsafe fn matching<'a>(adapter: *mut Adapter, packet: &[u8], layers: &Layers) -> Option<&'a Sa> {
    let at = if layers.ah { IP + 4 } else { layers.esp? };
    let (spi, destination) = (packet.get(at..at + 4)?, &packet[16..IP]);
    (*adapter).sas.iter().find(|sa| {
        let own = if layers.ah { sa.ah_spi } else { sa.spi };
        sa.handle != 0
            && (sa.inbound || is(M::OutboundReceives))
            && sa.ah == layers.ah
            && own == *spi
            && (sa.destination == *destination || is(M::DestinationIgnored))
    })
}

/// Processes a received frame; gives out-of-band slots 1 and 12. The lock is held.
pub(super) unsafe fn receive(adapter: *mut Adapter, frame: &mut [u8]) -> (usize, usize) {
    let on = (*adapter).config.esp || (*adapter).config.ah;
    let Some(packet) = packet(frame) else { return (if is(M::DoneAlways) { DONE } else { 0 }, 0) };
    let Some(layers) = layers(packet) else {
        let said = is(M::DoneAlways) && on && (*adapter).receive_on;
        return (if said { DONE } else { 0 }, 0);
    };
    let found = matching(adapter, packet, &layers);
    if !on && !is(M::OffReceives) {
        // The stack is asked to delete what cannot be used now.
        return (if found.is_some() { 1 } else { 0 }, 0);
    }
    if !(*adapter).receive_on && !is(M::ReceivesBeforeEnabled) {
        return (0, 0);
    }
    let Some(sa) = found else { return (0, 0) };
    let outer = process(sa, packet, &layers);
    if !outer.tunnel || sa.ah {
        return (outer.word, outer.info);
    }
    // A tunnel: what it holds may be for another SA.
    let Some(start) = layers.esp else { return (outer.word, outer.info) };
    let inner = &mut packet[start + ESP + IV..layers.total - ICV];
    let Some(within) = self::layers(inner) else { return (outer.word, outer.info) };
    let Some(sa) = matching(adapter, inner, &within) else { return (outer.word, outer.info) };
    let processed = process(sa, inner, &within);
    let next = if is(M::TunnelNextNotDone) { 0 } else { NEXT_DONE };
    let mut word = processed.word | next;
    if is(M::TunnelInnerFailure) && word & TRANSPORT_ESP == TRANSPORT_ESP {
        word = word & 0xffff | TUNNEL_ESP;
    }
    (word, processed.info)
}
