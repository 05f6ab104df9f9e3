//! AES-GCM (NIST SP 800-38D) with AES-NI and PCLMULQDQ, eight blocks at a time.
//!
//! Legacy-SSE encodings only, as long as the crate is compiled without AVX: the x64 kernel may use XMM registers freely,
//! and wider state only between calls that save it.
//!
//! GHASH runs as POLYVAL over byte-reversed blocks (RFC 8452 appendix A), with one reduction for eight blocks.
#![allow(unsafe_code)]

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_clmulepi64_si128,
    _mm_cvtsi128_si32, _mm_insert_epi32, _mm_loadu_si128, _mm_set_epi8, _mm_set_epi64x, _mm_set1_epi32,
    _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_slli_si128, _mm_srli_si128, _mm_storeu_si128,
    _mm_test_all_zeros, _mm_xor_si128,
};

use super::{AuthenticationFailed, LimitExceeded, Nonce, Tag};

cpufeatures::new!(cpu, "aes", "pclmulqdq", "sse4.1", "ssse3");

/// Bytes of a block.
const BLOCK: usize = 16;
/// Blocks that are processed side by side.
const LANES: usize = 8;
/// Round keys of AES-256.
const MAX_ROUND_KEYS: usize = 15;
/// Bytes that one nonce may encrypt, or authenticate (SP 800-38D §5.2.1.1).
const MAX_LEN: u64 = (1 << 36) - 32;

type Block = [u8; BLOCK];

/// An expanded key, which proves that this CPU has what [`cpu`] asks for: [`SseGcm::new`] checks, and nothing else makes one.
///
/// It has 368 bytes; a packet reads the powers and the round keys that are used, from the front.
#[repr(C)]
pub(super) struct SseGcm {
    /// H, H², … H⁸, H as RFC 8452 has it.
    powers: [__m128i; LANES],
    /// The first `rounds + 1` are used.
    round_keys: [__m128i; MAX_ROUND_KEYS],
}

/// The number of rounds, kept apart from the key so that it lies beside the discriminant of the enum that holds both.
#[derive(Clone, Copy)]
pub(super) struct Rounds(u32);

impl SseGcm {
    /// Whether this CPU has the instructions.
    pub(super) fn is_available() -> bool {
        cpu::get()
    }

    /// Expands `key`, which has 16, 24 or 32 bytes; `None` when this CPU has not the instructions.
    pub(super) fn new<const N: usize>(key: &[u8; N]) -> Option<(Rounds, Self)> {
        const { assert!(N == 16 || N == 24 || N == 32) };
        // SAFETY: the features that `expand` is compiled for are those of `cpu`, and this CPU has them.
        Self::is_available().then(|| unsafe { Self::expand(key) })
    }

    pub(super) fn seal(
        &self,
        rounds: Rounds,
        nonce: &Nonce,
        aad: &[u8],
        buf: &mut [u8],
    ) -> Result<Tag, LimitExceeded> {
        if !within_limits(aad, buf) {
            return Err(LimitExceeded);
        }
        // SAFETY: `self` exists, so this CPU has the features that `seal_blocks` is compiled for.
        Ok(unsafe { self.seal_blocks(rounds, nonce, aad, buf) })
    }

    pub(super) fn open(
        &self,
        rounds: Rounds,
        nonce: &Nonce,
        aad: &[u8],
        buf: &mut [u8],
        tag: &Tag,
    ) -> Result<(), AuthenticationFailed> {
        if !within_limits(aad, buf) {
            return Err(AuthenticationFailed);
        }
        // SAFETY: `self` exists, so this CPU has the features that `open_blocks` is compiled for.
        unsafe { self.open_blocks(rounds, nonce, aad, buf, tag) }
    }

    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn expand<const N: usize>(key: &[u8; N]) -> (Rounds, Self) {
        let words = N / 4;
        let rounds = words + 6;
        // FIPS 197 §5.2, the words as they lie in memory.
        let mut schedule = [0_u32; 4 * MAX_ROUND_KEYS];
        for (word, bytes) in schedule.iter_mut().zip(key.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let mut rcon = 1_u32;
        for i in words..4 * (rounds + 1) {
            let mut word = schedule[i - 1];
            if i % words == 0 {
                word = sub_word(word).rotate_right(8) ^ rcon;
                rcon = (rcon << 1) ^ (0x11B * (rcon >> 7));
            } else if words == 8 && i % words == 4 {
                word = sub_word(word);
            }
            schedule[i] = schedule[i - words] ^ word;
        }
        let mut gcm =
            Self { powers: [_mm_setzero_si128(); LANES], round_keys: [_mm_setzero_si128(); MAX_ROUND_KEYS] };
        for (round_key, words) in gcm.round_keys.iter_mut().zip(schedule.as_chunks::<4>().0) {
            let mut bytes = Block::default();
            for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes();
            }
            *round_key = load(&bytes);
        }
        #[allow(clippy::cast_possible_truncation)] // 10, 12 or 14
        let rounds = Rounds(rounds as u32);

        let mut h = Block::default();
        store(&mut h, gcm.encrypt(rounds, _mm_setzero_si128()));
        // `mulX_POLYVAL`, without a branch on the secret.
        let h = u128::from_be_bytes(h);
        let h = (h << 1) ^ ((h >> 127) * ((0xC2 << 120) | 1));
        let h = load(&h.to_le_bytes());
        let mut power = h;
        for slot in &mut gcm.powers {
            *slot = power;
            power = Product::of(power, h).reduce();
        }
        (rounds, gcm)
    }

    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn seal_blocks(&self, rounds: Rounds, nonce: &Nonce, aad: &[u8], buf: &mut [u8]) -> Tag {
        let counter = first_counter(nonce);
        let mask = self.encrypt(rounds, with_count(counter, 1));
        let mut hash = self.hash_padded(_mm_setzero_si128(), aad);
        let lengths = lengths(aad, buf);
        let mut count = 2_u32;
        let (batches, rest) = split_batches(buf);
        for batch in batches {
            self.apply_key_stream(rounds, counter, count, batch);
            hash = self.absorb(hash, batch);
            count = count.wrapping_add(8);
        }
        self.apply_key_stream_to_rest(rounds, counter, count, rest);
        hash = self.hash_padded(hash, rest);
        hash = self.absorb(hash, &[lengths]);
        let mut tag = Tag::default();
        store(&mut tag, _mm_xor_si128(reverse(hash), mask));
        tag
    }

    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn open_blocks(
        &self,
        rounds: Rounds,
        nonce: &Nonce,
        aad: &[u8],
        buf: &mut [u8],
        tag: &Tag,
    ) -> Result<(), AuthenticationFailed> {
        let counter = first_counter(nonce);
        let mask = self.encrypt(rounds, with_count(counter, 1));
        let mut hash = self.hash_padded(_mm_setzero_si128(), aad);
        hash = self.hash_padded(hash, buf);
        hash = self.absorb(hash, &[lengths(aad, buf)]);
        let difference = _mm_xor_si128(_mm_xor_si128(reverse(hash), mask), load(tag));
        // All bits in one instruction: the time says nothing of where the tags differ.
        if _mm_test_all_zeros(difference, difference) == 0 {
            return Err(AuthenticationFailed);
        }
        let mut count = 2_u32;
        let (batches, rest) = split_batches(buf);
        for batch in batches {
            self.apply_key_stream(rounds, counter, count, batch);
            count = count.wrapping_add(8);
        }
        self.apply_key_stream_to_rest(rounds, counter, count, rest);
        Ok(())
    }

    /// AES of one block.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn encrypt(&self, rounds: Rounds, block: __m128i) -> __m128i {
        self.encrypt_lanes(rounds, [block])[0]
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn encrypt_lanes<const N: usize>(&self, rounds: Rounds, mut lanes: [__m128i; N]) -> [__m128i; N] {
        let [first, rest @ ..] = &self.round_keys;
        for lane in &mut lanes {
            *lane = _mm_xor_si128(*lane, *first);
        }
        let mut last = first;
        for (round, key) in (1..=rounds.0).zip(rest) {
            last = key;
            if round == rounds.0 {
                break;
            }
            for lane in &mut lanes {
                *lane = _mm_aesenc_si128(*lane, *key);
            }
        }
        for lane in &mut lanes {
            *lane = _mm_aesenclast_si128(*lane, *last);
        }
        lanes
    }

    /// The key stream of eight blocks from `count` on.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn key_stream(&self, rounds: Rounds, counter: __m128i, count: u32) -> [__m128i; LANES] {
        let lanes = [
            with_count(counter, count),
            with_count(counter, count.wrapping_add(1)),
            with_count(counter, count.wrapping_add(2)),
            with_count(counter, count.wrapping_add(3)),
            with_count(counter, count.wrapping_add(4)),
            with_count(counter, count.wrapping_add(5)),
            with_count(counter, count.wrapping_add(6)),
            with_count(counter, count.wrapping_add(7)),
        ];
        self.encrypt_lanes(rounds, lanes)
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn apply_key_stream(&self, rounds: Rounds, counter: __m128i, count: u32, batch: &mut [Block; LANES]) {
        let stream = self.key_stream(rounds, counter, count);
        for (block, stream) in batch.iter_mut().zip(stream) {
            let mixed = _mm_xor_si128(load(block), stream);
            store(block, mixed);
        }
    }

    /// As [`Self::apply_key_stream`], for what is shorter.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn apply_key_stream_to_rest(&self, rounds: Rounds, counter: __m128i, count: u32, rest: &mut [u8]) {
        if rest.is_empty() {
            return;
        }
        let mut batch = [Block::default(); LANES];
        batch.as_flattened_mut()[..rest.len()].copy_from_slice(rest);
        self.apply_key_stream(rounds, counter, count, &mut batch);
        rest.copy_from_slice(&batch.as_flattened()[..rest.len()]);
    }

    /// GHASH of `data`, its last block filled up with zeros.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn hash_padded(&self, mut hash: __m128i, data: &[u8]) -> __m128i {
        let (blocks, tail) = data.as_chunks::<BLOCK>();
        let (batches, blocks) = blocks.as_chunks::<LANES>();
        for batch in batches {
            hash = self.absorb(hash, batch);
        }
        // At most seven blocks and the tail.
        let mut last = [Block::default(); LANES];
        last[..blocks.len()].copy_from_slice(blocks);
        let mut count = blocks.len();
        if !tail.is_empty() {
            last[count][..tail.len()].copy_from_slice(tail);
            count += 1;
        }
        if count == 0 { hash } else { self.absorb(hash, &last[..count]) }
    }

    /// GHASH of at most eight blocks: (hash + b₁)·Hⁿ + b₂·Hⁿ⁻¹ + … + bₙ·H. More would be left out.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn absorb(&self, hash: __m128i, blocks: &[Block]) -> __m128i {
        debug_assert!((1..=LANES).contains(&blocks.len()));
        let mut sum = Product::zero();
        let mut before = hash;
        // The first block meets the highest power.
        let skipped = LANES.saturating_sub(blocks.len());
        for (block, power) in blocks.iter().zip(self.powers.iter().rev().skip(skipped)) {
            sum.add(&Product::of(_mm_xor_si128(before, reverse(load(block))), *power));
            before = _mm_setzero_si128();
        }
        sum.reduce()
    }
}

/// A product of two polynomials before reduction: low, middle (which overlaps both) and high 128 bits.
struct Product {
    low: __m128i,
    middle: __m128i,
    high: __m128i,
}

impl Product {
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn zero() -> Self {
        let zero = _mm_setzero_si128();
        Self { low: zero, middle: zero, high: zero }
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn of(a: __m128i, b: __m128i) -> Self {
        Self {
            low: _mm_clmulepi64_si128::<0x00>(a, b),
            middle: _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(a, b), _mm_clmulepi64_si128::<0x10>(a, b)),
            high: _mm_clmulepi64_si128::<0x11>(a, b),
        }
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn add(&mut self, other: &Self) {
        self.low = _mm_xor_si128(self.low, other.low);
        self.middle = _mm_xor_si128(self.middle, other.middle);
        self.high = _mm_xor_si128(self.high, other.high);
    }

    /// Times x⁻¹²⁸, modulo x¹²⁸ + x¹²⁷ + x¹²⁶ + x¹²¹ + 1 (RFC 8452 §3, `dot`).
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
    fn reduce(self) -> __m128i {
        let polynomial = _mm_set_epi64x(0xC2 << 56, 1);
        let low = _mm_xor_si128(self.low, _mm_slli_si128::<8>(self.middle));
        let high = _mm_xor_si128(self.high, _mm_srli_si128::<8>(self.middle));
        let fold = |low| {
            let swapped = _mm_shuffle_epi32::<0b01_00_11_10>(low);
            _mm_xor_si128(swapped, _mm_clmulepi64_si128::<0x10>(low, polynomial))
        };
        _mm_xor_si128(high, fold(fold(low)))
    }
}

fn within_limits(aad: &[u8], buf: &[u8]) -> bool {
    aad.len() as u64 <= MAX_LEN && buf.len() as u64 <= MAX_LEN
}

/// The block of lengths in bits (SP 800-38D §7.1 step 5); [`within_limits`] has checked them.
fn lengths(aad: &[u8], buf: &[u8]) -> Block {
    let bits = |bytes: &[u8]| u128::from(bytes.len() as u64) << 3;
    ((bits(aad) << 64) | bits(buf)).to_be_bytes()
}

fn split_batches(buf: &mut [u8]) -> (&mut [[Block; LANES]], &mut [u8]) {
    let whole = buf.len() - buf.len() % (LANES * BLOCK);
    let (batches, rest) = buf.split_at_mut(whole);
    (batches.as_chunks_mut().0.as_chunks_mut().0, rest)
}

/// `SubWord` of FIPS 197 §5.2, without a table.
#[inline]
#[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
fn sub_word(word: u32) -> u32 {
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(_mm_set1_epi32(word.cast_signed()))).cast_unsigned()
}

/// The nonce, and room for the count.
#[inline]
#[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
fn first_counter(nonce: &Nonce) -> __m128i {
    let mut block = Block::default();
    block[..nonce.len()].copy_from_slice(nonce);
    load(&block)
}

#[inline]
#[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
fn with_count(counter: __m128i, count: u32) -> __m128i {
    _mm_insert_epi32::<3>(counter, count.swap_bytes().cast_signed())
}

/// The bytes in the other order.
#[inline]
#[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
fn reverse(block: __m128i) -> __m128i {
    _mm_shuffle_epi8(block, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
}

#[inline]
#[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
fn load(block: &Block) -> __m128i {
    // SAFETY: a reference to 16 bytes is readable for 16 bytes; `loadu` asks for no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "aes,pclmulqdq,sse4.1,ssse3")]
fn store(block: &mut Block, value: __m128i) {
    // SAFETY: a unique reference to 16 bytes is writable for 16 bytes; `storeu` asks for no alignment.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
}
