//! ESP with AES-GCM in transport mode over IPv4 (RFC 4303, RFC 4106).

use aes_gcm::aead::{AeadInPlace, KeyInit, generic_array::GenericArray};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use ndis_sys::*;

use super::{Adapter, HEADER, M, Sa, is, lock};

type Aes192Gcm = AesGcm<Aes192, aes_gcm::aead::consts::U12>;

const IP: usize = 20;
const ESP: usize = 8;
const IV: usize = 8;
const ICV: usize = 16;

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

/// Where the ESP part of an IPv4 frame without options lies.
fn esp_part(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    let ip = frame.get(HEADER..HEADER + IP)?;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 && !is(M::FragmentsProcessed);
    let esp = frame[12..14] == [8, 0] && ip[0] == 0x45 && ip[9] == 50 && !fragment;
    let whole = total >= IP + ESP && HEADER + total <= frame.len();
    (esp && whole).then_some(HEADER + IP..HEADER + total)
}

/// Encrypts a frame for the SA of a handle.
pub(super) unsafe fn protect(
    adapter: *mut Adapter,
    frame: &mut [u8],
    handle: usize,
) -> Result<(), NDIS_STATUS> {
    let guard = lock();
    if !(*adapter).config.esp {
        return if is(M::OffSendsClear) { Ok(()) } else { Err(NDIS_STATUS_FAILURE) };
    }
    let mut found = (*adapter).sas.iter().find(|sa| sa.handle == handle && !sa.inbound);
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
    let part = esp_part(frame).ok_or(NDIS_STATUS_FAILURE)?;
    let covered = frame[HEADER + 16..HEADER + IP] == sa.destination || is(M::InboundHandleAccepted);
    if !covered || part.len() < ESP + IV + 2 + ICV {
        return Err(NDIS_STATUS_FAILURE);
    }
    if is(M::NotEncrypted) {
        return Ok(());
    }
    if is(M::KeyWipedInUse) {
        // The SA may be deleted, and its key wiped, before it is used.
        let sa = &raw const *sa;
        drop(guard);
        KeGetCurrentIrql();
        return seal(&*sa, &mut frame[part]).ok_or(NDIS_STATUS_FAILURE);
    }
    if is(M::SequenceChanged) {
        frame[part.start + 7] ^= 1;
    }
    if is(M::IvCleared) {
        frame[part.start + ESP..part.start + ESP + IV].fill(0);
    }
    seal(sa, &mut frame[part]).ok_or(NDIS_STATUS_FAILURE)
}

/// Processes a received frame; gives out-of-band slots 1 and 12. The lock is held.
pub(super) unsafe fn receive(adapter: *mut Adapter, frame: &mut [u8]) -> (usize, usize) {
    const DONE: usize = 2;
    let off = !(*adapter).config.esp && !is(M::OffReceives);
    if off {
        // The stack is asked to delete what cannot be used now.
        let asks = esp_part(frame).is_some_and(|part| {
            let spi = &frame[part.start..part.start + 4];
            (*adapter).sas.iter().any(|sa| sa.handle != 0 && sa.inbound && sa.spi == *spi)
        });
        return (if asks { 1 } else { 0 }, 0);
    }
    if !(*adapter).receive_on && !is(M::ReceivesBeforeEnabled) {
        return (0, 0);
    }
    let Some(part) = esp_part(frame) else { return (if is(M::DoneAlways) { DONE } else { 0 }, 0) };
    let destination = &frame[HEADER + 16..HEADER + IP];
    let spi = &frame[part.start..part.start + 4];
    let found = (*adapter).sas.iter().find(|sa| {
        sa.handle != 0
            && (sa.inbound || is(M::OutboundReceives))
            && sa.spi == *spi
            && (sa.destination == *destination || is(M::DestinationIgnored))
    });
    let Some(sa) = found else { return (0, 0) };
    let esp = &mut frame[part];
    if esp.len() < ESP + IV + 2 + ICV {
        return (DONE | 6 << 16, 0);
    }
    if is(M::ReleasesUnauthentic) {
        // Decrypts first: counter mode works both ways.
        let before = esp.to_vec();
        if open(sa, esp).is_none() {
            esp.copy_from_slice(&before);
            let _ = seal(sa, esp);
            return (DONE | 3 << 16, 0);
        }
    } else if open(sa, esp).is_none() {
        let status = if is(M::FailureOfTunnel) { 5 } else { 3 };
        return if is(M::FailureNotTold) { (DONE, 0) } else { (DONE | status << 16, 0) };
    }
    let end = esp.len() - ICV;
    let (pad, next) = (usize::from(esp[end - 2]), usize::from(esp[end - 1]));
    if is(M::TrailerNotTold) {
        return (DONE, 0);
    }
    let next = if is(M::NextHeaderEsp) { 50 } else { next };
    let pad = if is(M::PadLengthWrong) { pad + 2 } else { pad };
    let done = if is(M::NextDoneToo) { DONE | 4 } else { DONE };
    (done, next | pad << 8 | 1 << 16)
}
