//! Every back end of AES-GCM against the portable one, at every length around the batches of the fast one.

use ipsec::aead::{Aead, AesGcm, AuthenticationFailed, Backend};

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap().wrapping_mul(29) ^ seed).collect()
}

#[test]
fn all_give_the_same_bytes_and_refuse_every_change() {
    for key_len in [16, 24, 32] {
        let key = bytes(key_len, 0x3A);
        let nonce = [7; 12];
        let portable = AesGcm::with_backend(Backend::Portable, &key).unwrap();
        for &backend in Backend::available() {
            let gcm = AesGcm::with_backend(backend, &key).unwrap();
            for aad_len in [0, 8, 12, 17, 129] {
                let aad = bytes(aad_len, 0x51);
                for len in (0..=145).chain([255, 256, 257, 1404, 1535]) {
                    let clear = bytes(len, 0xC7);
                    let (mut expected, mut found) = (clear.clone(), clear.clone());
                    let tag = portable.seal_in_place(&nonce, &aad, &mut expected).unwrap();
                    assert_eq!(
                        gcm.seal_in_place(&nonce, &aad, &mut found),
                        Ok(tag),
                        "{backend:?} {aad_len} {len}"
                    );
                    assert_eq!(found, expected, "{backend:?} {aad_len} {len}");

                    let mut wrong = tag;
                    wrong[len % 16] ^= 1 << (len % 8);
                    assert_eq!(
                        gcm.open_in_place(&nonce, &aad, &mut found, &wrong),
                        Err(AuthenticationFailed)
                    );
                    if let Some(middle) = found.get_mut(len / 2) {
                        *middle ^= 0x10;
                        let before = found.clone();
                        assert_eq!(
                            gcm.open_in_place(&nonce, &aad, &mut found, &tag),
                            Err(AuthenticationFailed)
                        );
                        assert_eq!(found, before, "{backend:?} {aad_len} {len}");
                        found[len / 2] ^= 0x10;
                    }
                    assert_eq!(found, expected, "{backend:?} {aad_len} {len}");
                    assert_eq!(gcm.open_in_place(&nonce, &aad, &mut found, &tag), Ok(()));
                    assert_eq!(found, clear, "{backend:?} {aad_len} {len}");
                }
            }
        }
    }
}

#[test]
fn keys_of_other_lengths_are_refused() {
    for len in (0..64).filter(|len| ![16, 24, 32].contains(len)) {
        for &backend in Backend::available() {
            assert!(AesGcm::with_backend(backend, &vec![0; len]).is_none(), "{backend:?} {len}");
        }
    }
}
