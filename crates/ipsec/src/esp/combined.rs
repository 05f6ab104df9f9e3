//! ESP with a combined-mode algorithm (RFC 4303 §3.2.3), framed as RFC 4106 has it.

use core::fmt;
use core::mem::MaybeUninit;

use zeroize::Zeroizing;

use super::{
    ALIGNMENT, HEADER_LEN, MAX_PACKET_LEN, OpenError, Opened, SealError, SyntaxError, TRAILER_LEN, Trailer,
};
use crate::aead::{Aead, AesGcm, Backend, NONCE_LEN, Nonce, TAG_LEN};
use crate::algorithm::{Algorithm, KeyLengthError, SALT_LEN, split_key_material};
use crate::stack;

#[cfg(all(test, target_os = "linux"))]
mod stack_tests;

/// Bytes of the IV in the packet (RFC 4106 §3.1).
pub const IV_LEN: usize = 8;
/// Bytes of the ICV (RFC 4106 §6; the shorter ones are not supported).
pub const ICV_LEN: usize = TAG_LEN;
/// The shortest packet: no payload, two bytes of padding.
pub const MIN_PACKET_LEN: usize = HEADER_LEN + IV_LEN + ALIGNMENT + ICV_LEN;

/// Bytes of the longest AAD: SPI and an extended sequence number (RFC 4106 §5).
const MAX_AAD_LEN: usize = 12;

/// One ESP security association: what a packet needs of it, and nothing that changes.
///
/// It has no direction: an SA is used to [`seal`](Self::seal) or to [`open`](Self::open), as the table it lies in says.
/// Sequence numbers, IVs and replay protection are the host's, the extended sequence number's high half is
/// the caller's. Dropping it wipes the key.
///
/// It has 1,024 bytes: SPI and salt in the first 16, then the cipher. With AES-NI, and on a cache line's boundary, a
/// packet reads 6 lines of it (AES-256: 7); see [`AesGcm`].
#[repr(C)]
pub struct EspSa<A: Aead = AesGcm> {
    spi: u32,
    salt: Zeroizing<[u8; SALT_LEN]>,
    /// Zeros where there would be padding, which keeps what the stack held when the SA was moved.
    reserved: [u8; 8],
    aead: A,
}

impl EspSa {
    /// Expands `key_material`, which is key ‖ salt ([`Algorithm::key_material_len`] bytes), for the SA `spi`,
    /// the SPI as a number (not as stored on the wire).
    ///
    /// The SA is 1 KiB, and returned by value: every place it is moved through keeps a copy of the key. Where that
    /// matters, use [`EspSa::new_in`].
    ///
    /// # Errors
    /// [`KeyLengthError`] when the material has another length.
    pub fn new(algorithm: Algorithm, spi: u32, key_material: &[u8]) -> Result<Self, KeyLengthError> {
        let (key, salt) = split_key_material(algorithm, key_material)?;
        Ok(Self::with_aead(spi, salt, AesGcm::new(Backend::fastest(), &key)))
    }

    /// As [`EspSa::new`], in `slot`. On failure nothing is written.
    ///
    /// Neither the key nor anything expanded from it stays on the stack: the part that key set-up used is overwritten.
    /// With that it takes up to 5 KiB of stack in an optimised build (9 KiB with [`Backend::Portable`]), in frames smaller
    /// than a page.
    ///
    /// Whoever owns `slot` drops the SA: a `MaybeUninit` does not, and the key would stay.
    ///
    /// # Errors
    /// [`KeyLengthError`] when the material has another length.
    pub fn new_in<'a>(
        slot: &'a mut MaybeUninit<Self>,
        algorithm: Algorithm,
        spi: u32,
        key_material: &[u8],
    ) -> Result<&'a mut Self, KeyLengthError> {
        Self::new_in_over(Backend::fastest(), slot, algorithm, spi, key_material)
    }

    // Not inlined: a frame that it shared with its caller could be larger than the page.
    #[inline(never)]
    fn new_in_over<'a>(
        backend: Backend,
        slot: &'a mut MaybeUninit<Self>,
        algorithm: Algorithm,
        spi: u32,
        key_material: &[u8],
    ) -> Result<&'a mut Self, KeyLengthError> {
        let sa = Self::set_up(backend, slot, algorithm, spi, key_material);
        stack::wipe(stack::frames(backend));
        sa
    }

    /// [`EspSa::new_in`], which leaves the key on the stack; but in no frame above its own.
    #[inline(never)]
    fn set_up<'a>(
        backend: Backend,
        slot: &'a mut MaybeUninit<Self>,
        algorithm: Algorithm,
        spi: u32,
        key_material: &[u8],
    ) -> Result<&'a mut Self, KeyLengthError> {
        let (key, salt) = split_key_material(algorithm, key_material)?;
        Ok(slot.write(Self::with_aead(spi, salt, AesGcm::new(backend, &key))))
    }
}

impl<A: Aead> EspSa<A> {
    /// An SA over a cipher that is already keyed.
    pub fn with_aead(spi: u32, salt: [u8; SALT_LEN], aead: A) -> Self {
        Self { spi, salt: Zeroizing::new(salt), reserved: [0; 8], aead }
    }

    /// The SPI as a number.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// Protects `packet`, which is complete but for encryption and ICV: encrypts payload and trailer in
    /// place and writes the ICV over the last [`ICV_LEN`] bytes. Returns the trailer it found.
    ///
    /// `seq_hi` is the high half of the sequence number if the SA has extended ones, else `None`.
    /// `announced` is what the caller was told of the trailer, if anything; it must agree with the packet.
    ///
    /// The IV is the packet's. That no IV comes twice with one key is up to who wrote it.
    ///
    /// # Errors
    /// [`SealError`]; the packet is then unchanged.
    pub fn seal(
        &self,
        packet: &mut [u8],
        seq_hi: Option<u32>,
        announced: Option<Trailer>,
    ) -> Result<Trailer, SealError> {
        let parts = self.split(packet)?;
        let found = Trailer::parse(parts.body)?;
        if announced.is_some_and(|announced| announced != found) {
            return Err(SealError::TrailerMismatch { found });
        }
        let mut aad = [0; MAX_AAD_LEN];
        let aad = write_aad(&mut aad, parts.header, seq_hi);
        let tag = self
            .aead
            .seal_in_place(&self.nonce(parts.iv), aad, parts.body)
            .map_err(|_| SyntaxError::TooLong)?;
        *parts.icv = tag;
        Ok(found)
    }

    /// Verifies `packet` and decrypts payload and trailer in place. Header, IV, ICV and length stay.
    ///
    /// `seq_hi` is the high half of the sequence number if the SA has extended ones, else `None`.
    ///
    /// # Errors
    /// [`OpenError`]. The packet is unchanged unless it was authentic: only [`SyntaxError::PadLength`] is found after
    /// decryption, and says that the owner of the key sent a malformed packet.
    pub fn open(&self, packet: &mut [u8], seq_hi: Option<u32>) -> Result<Opened, OpenError> {
        let parts = self.split(packet)?;
        let mut aad = [0; MAX_AAD_LEN];
        let aad = write_aad(&mut aad, parts.header, seq_hi);
        self.aead
            .open_in_place(&self.nonce(parts.iv), aad, parts.body, parts.icv)
            .map_err(|_| OpenError::AuthenticationFailed)?;
        let trailer = Trailer::parse(parts.body)?;
        let payload_len = parts.body.len().saturating_sub(usize::from(trailer.pad_len) + TRAILER_LEN);
        let start = HEADER_LEN + IV_LEN;
        Ok(Opened { trailer, payload: start..start + payload_len })
    }

    /// Takes a packet apart and checks what can be checked before decryption.
    fn split<'p>(&self, packet: &'p mut [u8]) -> Result<Parts<'p>, SyntaxError> {
        if packet.len() > MAX_PACKET_LEN {
            return Err(SyntaxError::TooLong);
        }
        let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(SyntaxError::Truncated)?;
        let (iv, rest) = rest.split_first_chunk_mut().ok_or(SyntaxError::Truncated)?;
        let (body, icv) = rest.split_last_chunk_mut().ok_or(SyntaxError::Truncated)?;
        if body.is_empty() {
            return Err(SyntaxError::Truncated);
        }
        // RFC 4303 §2.4: the encrypted part ends on a 4-byte boundary, whatever the algorithm.
        if !body.len().is_multiple_of(ALIGNMENT) {
            return Err(SyntaxError::Misaligned);
        }
        if !header.starts_with(&self.spi.to_be_bytes()) {
            return Err(SyntaxError::Spi);
        }
        Ok(Parts { header: *header, iv: *iv, body, icv })
    }

    /// Salt ‖ IV (RFC 4106 §4).
    fn nonce(&self, iv: [u8; IV_LEN]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (salt, rest) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&*self.salt);
        rest.copy_from_slice(&iv);
        nonce
    }
}

impl<A: Aead> fmt::Debug for EspSa<A> {
    /// Shows the SPI, nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EspSa").field("spi", &format_args!("{:#010x}", self.spi)).finish_non_exhaustive()
    }
}

/// A packet taken apart.
struct Parts<'p> {
    header: [u8; HEADER_LEN],
    iv: [u8; IV_LEN],
    /// Payload, padding, pad length, next header.
    body: &'p mut [u8],
    icv: &'p mut [u8; ICV_LEN],
}

/// SPI ‖ sequence number, with the high half between them if it is extended (RFC 4106 §5).
fn write_aad(aad: &mut [u8; MAX_AAD_LEN], header: [u8; HEADER_LEN], seq_hi: Option<u32>) -> &[u8] {
    let [s0, s1, s2, s3, l0, l1, l2, l3] = header;
    if let Some(seq_hi) = seq_hi {
        let [h0, h1, h2, h3] = seq_hi.to_be_bytes();
        *aad = [s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3];
        aad
    } else {
        *aad = [s0, s1, s2, s3, l0, l1, l2, l3, 0, 0, 0, 0];
        &aad[..HEADER_LEN]
    }
}
