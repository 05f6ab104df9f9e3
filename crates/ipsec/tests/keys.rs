//! Keying material: what is taken, how large an SA is, and what is left of a dropped one.

use std::mem::MaybeUninit;

use ipsec::aead::AesGcm;
use ipsec::algorithm::{Algorithm, KeyLengthError};
use ipsec::esp::EspSa;

#[test]
fn no_other_length_than_key_and_salt() {
    let material = [0; 64];
    for algorithm in Algorithm::ALL {
        for found in 0..=material.len() {
            let sa = EspSa::new(algorithm, 1, &material[..found]);
            let mut slot = MaybeUninit::uninit();
            let in_place = EspSa::new_in(&mut slot, algorithm, 1, &material[..found]);
            let refusal =
                (found != algorithm.key_material_len()).then_some(KeyLengthError { algorithm, found });
            assert_eq!(sa.err(), refusal);
            assert_eq!(in_place.err(), refusal);
        }
    }
    assert_eq!(Algorithm::ALL.map(Algorithm::key_material_len), [20, 28, 36]);
}

#[test]
fn debug_shows_no_key() {
    let sa = EspSa::new(Algorithm::AesGcm128, 0x1000, &[0xAA; 20]).unwrap();
    assert_eq!(format!("{sa:?}"), "EspSa { spi: 0x00001000, .. }");
}

#[cfg(target_pointer_width = "64")]
#[test]
fn an_sa_has_the_size_its_documentation_gives() {
    assert_eq!(size_of::<AesGcm>(), 1008);
    assert_eq!(size_of::<EspSa>(), 1024);
    assert_eq!(align_of::<EspSa>(), 16);
}

/// Reads this process's memory from outside the language: no rule of Rust says what a freed slot holds.
#[cfg(target_os = "linux")]
mod wiping {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use aes_gcm::aes;
    use aes_gcm::aes::cipher::{BlockEncrypt, KeyInit};
    use ipsec::algorithm::Algorithm;
    use ipsec::esp::EspSa;

    /// What lies at `sa`, whether or not it is still an SA.
    fn memory_at(sa: *const EspSa) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<EspSa>()];
        let at = sa.addr() as u64;
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn holds(memory: &[u8], needle: &[u8]) -> bool {
        memory.windows(needle.len()).any(|window| window == needle)
    }

    /// The hash key as polyval keeps it: H = AES(K, 0), byte-reversed, times x (RFC 8452 appendix A).
    fn hash_key(key: &[u8]) -> [u8; 16] {
        let mut h = aes::Block::default();
        match key.len() {
            16 => aes::Aes128Enc::new_from_slice(key).unwrap().encrypt_block(&mut h),
            24 => aes::Aes192Enc::new_from_slice(key).unwrap().encrypt_block(&mut h),
            _ => aes::Aes256Enc::new_from_slice(key).unwrap().encrypt_block(&mut h),
        }
        h.reverse();
        polyval::mulx(&h).into()
    }

    fn position(memory: &[u8], needle: &[u8]) -> usize {
        memory.windows(needle.len()).position(|window| window == needle).unwrap()
    }

    /// What `AesGcm` and `EspSa` say of their layout.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_packet_reads_few_cache_lines_of_its_sa() {
        if !is_x86_feature_detected!("aes") || !is_x86_feature_detected!("pclmulqdq") {
            eprintln!("skipped: this CPU has no AES-NI, the portable AES reads all of its schedule");
            return;
        }
        for (algorithm, rounds) in Algorithm::ALL.into_iter().zip([10, 12, 14]) {
            let material = [0x3C; 36];
            let sa = EspSa::new(algorithm, 1, &material[..algorithm.key_material_len()]).unwrap();
            let memory = memory_at(&raw const sa);
            let round_keys = position(&memory, &material[..16]);
            let hash_key = position(&memory, &hash_key(&material[..algorithm.key_len()]));
            // SPI, salt, kind and rounds, then eight powers of the hash key, then the round keys.
            assert_eq!((hash_key, round_keys), (32, 32 + 8 * 16), "{algorithm:?}");
            let lines = match algorithm {
                Algorithm::AesGcm128 | Algorithm::AesGcm192 => 6,
                Algorithm::AesGcm256 => 7,
            };
            assert_eq!((round_keys + 16 * (rounds + 1)).div_ceil(64), lines, "{algorithm:?}");
        }
    }

    #[test]
    fn a_dropped_sa_leaves_no_key() {
        let material: Vec<u8> = (0..36).map(|i: u8| i.wrapping_mul(167) ^ 0x5A).collect();
        for algorithm in Algorithm::ALL {
            let (key, salt) = material[..algorithm.key_material_len()].split_at(algorithm.key_len());
            // A vector drops in place and keeps its memory.
            let mut slots = vec![EspSa::new(algorithm, 1, &[key, salt].concat()).unwrap()];
            let before = memory_at(slots.as_ptr());
            slots.clear();
            let after = memory_at(slots.as_ptr());

            let hash_key = hash_key(key);
            let mut secrets = vec![salt, &hash_key];
            // AES-NI keeps the key itself as its first round keys; the portable AES keeps it bit-sliced.
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("aes") {
                secrets.push(&key[..16]);
            }
            for secret in secrets {
                assert!(holds(&before, secret), "{algorithm:?}: the test looks for the wrong bytes");
            }
            // Nothing else is left either, but the SPI in front.
            let (spi, rest) = after.split_at(4);
            assert_eq!(spi, 1u32.to_ne_bytes(), "{algorithm:?}");
            assert!(rest.iter().all(|&byte| byte == 0), "{algorithm:?}");
        }
    }
}
