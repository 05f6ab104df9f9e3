//! Google's Wycheproof vectors for AES-GCM, on every cipher behind the seam.

use ipsec::aead::{Aead, AesGcm, AuthenticationFailed, Backend, NONCE_LEN, Nonce, TAG_LEN, Tag};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

#[test]
fn valid_ones_match_both_ways_and_invalid_ones_are_refused() {
    for &backend in Backend::available() {
        run(backend);
    }
}

fn run(backend: Backend) {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    let mut key_sizes = std::collections::BTreeSet::new();
    for group in set.test_groups {
        // ESP has no other sizes: a nonce of 12 bytes and a whole tag.
        if group.nonce_size != NONCE_LEN * 8 || group.tag_size != TAG_LEN * 8 {
            continue;
        }
        key_sizes.insert(group.key_size);
        for test in &group.tests {
            let id = test.tc_id;
            let gcm = AesGcm::with_backend(backend, &test.key).unwrap();
            let nonce = Nonce::try_from(&test.nonce[..]).unwrap();
            let tag = Tag::try_from(&test.tag[..]).unwrap();
            let mut buf = test.ct.to_vec();
            let opened = gcm.open_in_place(&nonce, &test.aad, &mut buf, &tag);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    valid += 1;
                    assert_eq!(opened, Ok(()), "{backend:?} {id}");
                    assert_eq!(buf, test.pt[..], "{backend:?} {id}");
                    assert_eq!(gcm.seal_in_place(&nonce, &test.aad, &mut buf), Ok(tag), "{backend:?} {id}");
                    assert_eq!(buf, test.ct[..], "{backend:?} {id}");
                }
                TestResult::Invalid => {
                    invalid += 1;
                    assert_eq!(opened, Err(AuthenticationFailed), "{backend:?} {id}");
                    assert_eq!(buf, test.ct[..], "{backend:?} {id}");
                }
            }
        }
    }
    assert!(valid > 0 && invalid > 0, "{valid} valid, {invalid} invalid");
    assert!(key_sizes.iter().eq(&[128, 192, 256]), "{key_sizes:?}");
}
