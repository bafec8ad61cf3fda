//! Certification requests. What is taken has one form, is signed by the key in it, and gives that key and nothing else.

use pki::{CaKey as _, RequestBinding, SubjectKey, csr};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _};

use crate::{
    Outcome,
    parts::{inner, mode, signed, with_mode},
    world::{LEAF_KEY, key},
};

/// The input is a whole request.
const REQUEST: u8 = 0;
/// The input is what is signed of one; it is signed here.
const REQUEST_INFO: u8 = 1;
/// The input is a SubjectPublicKeyInfo.
const SPKI: u8 = 2;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let taken = match mode % 3 {
        REQUEST => request(rest),
        REQUEST_INFO => request(&signed(rest, &key(LEAF_KEY))),
        _ => spki(rest),
    };
    Outcome::any(&[taken])
}

fn request(der: &[u8]) -> bool {
    let Ok(verified) = csr::verify(der) else { return false };
    let key = verified.key();
    assert!(der.len() <= csr::CSR_MAX);
    let (_, parsed) = X509CertificationRequest::from_der(der).expect("what was taken can be read");
    assert_eq!(parsed.certification_request_info.subject_pki.raw, key.spki_der());
    assert!(spki(key.spki_der()), "the key of a request is not one by itself");
    binding(der, &verified);
    // One form only: nothing after it, and no bit of the signature may differ.
    assert!(csr::verify(&[der, &[0]].concat()).is_err(), "a byte after the request");
    let (last, rest) = der.split_last().expect("not empty");
    assert!(csr::verify(&[rest, &[last ^ 1]].concat()).is_err(), "another signature");
    true
}

/// The connection that a bound request of [`seeds`] names.
const CONNECTION: &str = "AbC+/w==";

/// A request says at most one connection, which stands in it as it is; and it says it again when it is read again.
fn binding(der: &[u8], verified: &csr::VerifiedCsr) {
    let here = verified.binding(CONNECTION) == RequestBinding::Here;
    let stands = der.windows(CONNECTION.len()).any(|window| window == CONNECTION.as_bytes());
    assert!(!here || stands, "a connection that the request does not name");
    assert!(!here || verified.binding("AAAA") == RequestBinding::Elsewhere, "two connections");
    let silent = |binding| matches!(binding, RequestBinding::Absent | RequestBinding::Unreadable);
    assert_eq!(silent(verified.binding(CONNECTION)), silent(verified.binding("")), "two readings");
}

fn spki(der: &[u8]) -> bool {
    let Ok(key) = SubjectKey::from_spki_der(der) else { return false };
    assert_eq!(key.spki_der(), der, "a second form of one key");
    assert_eq!(SubjectKey::from_parts(&key.parts()).as_ref(), Ok(&key));
    assert_eq!(SubjectKey::from_raw(key.algorithm(), key.raw_public_key()).as_ref(), Ok(&key));
    true
}

/// Our own request; one with a subject and extensions as openssl makes it; keys of every kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let own = csr::request(&key(LEAF_KEY)).expect("a request");
    let spki_der = key(LEAF_KEY).subject_key().expect("its public key").spki_der().to_vec();
    let bound = csr::bound_request(&key(LEAF_KEY), CONNECTION).expect("a request");
    let mut seeds = vec![with_mode(REQUEST, &own), with_mode(REQUEST_INFO, inner(&own)), with_mode(SPKI, &spki_der)];
    seeds.extend([with_mode(REQUEST, &bound), with_mode(REQUEST_INFO, inner(&bound))]);
    for algorithm in [pki::KeyAlgorithm::P256, pki::KeyAlgorithm::P384] {
        let (key, _) = pki::SoftwareKey::generate(algorithm).expect("a key");
        seeds.push(with_mode(REQUEST, &csr::request(&key).expect("a request")));
        let public = SubjectKey::from_raw(algorithm, key.public_key()).expect("its public key");
        seeds.push(with_mode(SPKI, public.spki_der()));
    }
    seeds.push(with_mode(REQUEST_INFO, &with_names(&spki_der)));
    seeds.push(with_mode(SPKI, &rsa()));
    seeds
}

/// A request that wants a common name, a DNS name and to be a CA.
fn with_names(spki: &[u8]) -> Vec<u8> {
    use crate::parts::tlv;
    let oid = |bytes: &[u8]| tlv(0x06, &[bytes]);
    let name = tlv(0x30, &[&tlv(0x31, &[&tlv(0x30, &[&oid(&[0x55, 4, 3]), &tlv(0x0c, &[b"edge-07"])])])]);
    let san = tlv(0x30, &[&oid(&[0x55, 0x1d, 17]), &tlv(0x04, &[&tlv(0x30, &[&tlv(0x82, &[b"gate.example"])])])]);
    let basic = tlv(
        0x30,
        &[&oid(&[0x55, 0x1d, 19]), &tlv(0x01, &[&[0xff]]), &tlv(0x04, &[&tlv(0x30, &[&tlv(0x01, &[&[0xff]])])])],
    );
    let extensions = tlv(0x31, &[&tlv(0x30, &[&san, &basic])]);
    // extensionRequest (RFC 2985 5.4.2).
    let request = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]);
    let attributes = tlv(0xa0, &[&tlv(0x30, &[&request, &extensions])]);
    tlv(0x30, &[&[2, 1, 0], &name, spki, &attributes])
}

/// A key of RSA with 2048 bits. Nobody knows the factors of this modulus, and nobody need.
fn rsa() -> Vec<u8> {
    use crate::parts::tlv;
    let modulus = tlv(0x02, &[&[0], &[0xc5; 256]]);
    let key = tlv(0x30, &[&modulus, &[2, 3, 1, 0, 1]]);
    let algorithm = tlv(0x30, &[&tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]]), &[5, 0]]);
    tlv(0x30, &[&algorithm, &tlv(0x03, &[&[0], &key])])
}
