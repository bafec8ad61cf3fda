//! Requests that are accepted and refused. `tests/interop.rs` does the same with OpenSSL's requests.

use proptest::prelude::{any, proptest};

use super::*;
use crate::key::SoftwareKey;

fn made(algorithm: KeyAlgorithm) -> (SubjectKey, Vec<u8>) {
    let key = SoftwareKey::generate(algorithm).unwrap().0;
    (key.subject_key().unwrap(), request(&key).unwrap())
}

#[test]
fn own_requests_verify() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519] {
        let (key, csr) = made(algorithm);
        let verified = verify(&csr).unwrap();
        assert_eq!(verified.key(), &key);
        assert_eq!(verified.into_key(), key);
    }
}

#[test]
fn refusals() {
    let (_, csr) = made(KeyAlgorithm::P256);
    assert_eq!(verify(&[]), Err(CsrError::Malformed));
    assert_eq!(verify(&vec![0x30; CSR_MAX + 1]), Err(CsrError::TooLong { len: CSR_MAX + 1 }));
    assert_eq!(verify(&[&csr[..], &[0, 0]].concat()), Err(CsrError::TrailingBytes(2)));
    assert_eq!(verify(&csr[..csr.len() - 1]), Err(CsrError::Malformed));
}

/// The key of one request under the signature of another.
#[test]
fn somebody_elses_key_is_refused() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::Ed25519] {
        let (key, csr) = made(algorithm);
        let (other, _) = made(algorithm);
        let at = csr.windows(key.spki_der().len()).position(|w| w == key.spki_der()).unwrap();
        let mut forged = csr.clone();
        forged[at..at + key.spki_der().len()].copy_from_slice(other.spki_der());
        assert_eq!(verify(&forged), Err(CsrError::Signature));
    }
}

#[test]
fn signature_algorithms_fit_the_key() {
    let rsa = KeyAlgorithm::Rsa { bits: 2048 };
    for (key, signature, want) in [
        (KeyAlgorithm::P256, "1.2.840.10045.4.3.2", true),
        (KeyAlgorithm::P384, "1.2.840.10045.4.3.2", true),
        (KeyAlgorithm::P256, "1.2.840.10045.4.1", false),
        (KeyAlgorithm::P256, "1.3.101.112", false),
        (KeyAlgorithm::Ed25519, "1.2.840.10045.4.3.2", false),
        (rsa, "1.2.840.113549.1.1.11", true),
        (rsa, "1.2.840.113549.1.1.5", false),
        (rsa, "1.2.840.113549.1.1.10", false),
        (rsa, "1.3.14.3.2.29", false),
    ] {
        assert_eq!(fitting(key).iter().any(|(oid, _)| *oid == signature), want, "{key} {signature}");
    }
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) { let _ = verify(&bytes); }

    /// Every change of a single byte is refused.
    #[test]
    fn mutations_are_refused(at in any::<proptest::sample::Index>(), flip in 1..=255_u8) {
        let (key, mut csr) = made(KeyAlgorithm::Ed25519);
        let at = at.index(csr.len());
        csr[at] ^= flip;
        if let Ok(verified) = verify(&csr) {
            panic!("accepted with byte {at} changed, key equal: {}", *verified.key() == key);
        }
    }
}
