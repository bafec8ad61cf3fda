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

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;

/// An attribute with these values.
fn attribute(oid: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    der::tlv(der::SEQUENCE, &[&der::tlv(der::OID, &[oid]), &der::tlv(der::SET, &values)])
}

fn password(tag: u8, text: &str) -> Vec<u8> {
    attribute(&CHALLENGE_PASSWORD, &[der::tlv(tag, &[text.as_bytes()])])
}

/// What a request with these attributes says of the connection `AbC+/w==`.
#[track_caller]
fn check_binding(attributes: &[Vec<u8>], want: RequestBinding) {
    assert_eq!(read_with(attributes).map(|read| read.binding("AbC+/w==")), Ok(want), "{attributes:02x?}");
}

fn read_with(attributes: &[Vec<u8>]) -> Result<VerifiedCsr, CsrError> {
    let key = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0;
    verify(&signed(&key, &attributes.concat()).unwrap())
}

#[test]
fn a_challenge_password_names_one_connection_or_nothing() {
    use RequestBinding::{Absent, Elsewhere, Here, Unreadable};
    let other = attribute(&[0x55, 4, 3], &[der::tlv(UTF8, &[b"AbC+/w=="])]);
    check_binding(&[], Absent);
    check_binding(std::slice::from_ref(&other), Absent);
    for tag in [UTF8, PRINTABLE] {
        check_binding(&[password(tag, "AbC+/w==")], Here);
        check_binding(&[other.clone(), password(tag, "AbC+/w==")], Here);
        for text in ["AbC+/w=", "abc+/w==", "AbC+/w== ", "x"] {
            check_binding(&[password(tag, text)], Elsewhere);
        }
        check_binding(&[password(tag, &"x".repeat(CHALLENGE_MAX))], Elsewhere);
        check_binding(&[password(tag, &"x".repeat(CHALLENGE_MAX + 1))], Unreadable);
        check_binding(&[password(tag, "")], Unreadable);
        let twice = [password(tag, "AbC+/w=="), password(tag, "AbC+/w==")];
        check_binding(&twice, Unreadable);
        let value = der::tlv(tag, &[b"AbC+/w=="]);
        check_binding(&[attribute(&CHALLENGE_PASSWORD, &[value.clone(), value])], Unreadable);
    }
    // A TeletexString: the RFC lets it be, and nobody writes base64 in one.
    check_binding(&[password(0x14, "AbC+/w==")], Unreadable);
    // What the parser takes for no text at all.
    for value in [password(PRINTABLE, "a@b"), password(0x02, "1"), attribute(&CHALLENGE_PASSWORD, &[])] {
        assert_eq!(read_with(&[value]).unwrap_err(), CsrError::Malformed);
    }
}

#[test]
fn bound_requests_name_their_connection() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519] {
        let key = SoftwareKey::generate(algorithm).unwrap().0;
        let verified = verify(&bound_request(&key, "AbC+/w==").unwrap()).unwrap();
        assert_eq!(verified.key(), &key.subject_key().unwrap());
        assert_eq!(verified.binding("AbC+/w=="), RequestBinding::Here);
        assert_eq!(verified.binding("AAAA"), RequestBinding::Elsewhere);
    }
}

proptest! {
    /// Whatever stands where the password should: it is taken for none but itself, and nothing panics.
    #[test]
    fn no_attribute_passes_for_another(tag: u8, bytes: Vec<u8>) {
        let key = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0;
        let attribute = attribute(&CHALLENGE_PASSWORD, &[der::tlv(tag, &[&bytes])]);
        if let Ok(verified) = verify(&signed(&key, &attribute).unwrap()) {
            let here = verified.binding("AbC+/w==") == RequestBinding::Here;
            assert_eq!(here, bytes == b"AbC+/w==" && [UTF8, PRINTABLE].contains(&tag));
        }
    }

    #[test]
    fn never_panics(bytes: Vec<u8>) { let _ = verify(&bytes); }

    /// Every change of a single byte is refused.
    #[test]
    fn mutations_are_refused(at in any::<proptest::sample::Index>(), flip in 1..=255_u8, bound: bool) {
        let key = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0;
        let mut csr = if bound { bound_request(&key, "AbC+/w==") } else { request(&key) }.unwrap();
        let key = key.subject_key().unwrap();
        let at = at.index(csr.len());
        csr[at] ^= flip;
        if let Ok(verified) = verify(&csr) {
            panic!("accepted with byte {at} changed, key equal: {}", *verified.key() == key);
        }
    }
}
