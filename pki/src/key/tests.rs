//! Public keys and encodings that are accepted and refused.

use proptest::prelude::{Just, any, prop_oneof, proptest};

use super::*;

#[track_caller]
fn check(spki: &[u8], want: Result<KeyAlgorithm, KeyError>) {
    assert_eq!(SubjectKey::from_spki_der(spki).map(|key| key.algorithm()), want);
}

fn generated(algorithm: KeyAlgorithm) -> SubjectKey {
    SoftwareKey::generate(algorithm).unwrap().0.subject_key().unwrap()
}

/// An odd number of `bits` bits, as modulus of a public key without a private one.
fn modulus(bits: usize) -> Vec<u8> {
    let mut n = vec![0xa5; bits.div_ceil(8)];
    n[0] = match bits % 8 {
        0 => 0xa5,
        rest => 1 << (rest - 1),
    };
    n
}

fn rsa(n: &[u8], e: &[u8]) -> Vec<u8> {
    let key = der::tlv(der::SEQUENCE, &[&der::unsigned(n), &der::unsigned(e)]);
    der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &der::tlv(der::BIT_STRING, &[&[0], &key])])
}

const F4: &[u8] = &[1, 0, 1];

#[test]
fn generated_keys_read_back() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519] {
        let (key, pkcs8) = SoftwareKey::generate(algorithm).unwrap();
        let subject = key.subject_key().unwrap();
        check(subject.spki_der(), Ok(algorithm));
        assert_eq!(SubjectKey::from_parts(&subject.parts()), Ok(subject.clone()));
        assert_eq!(SoftwareKey::from_pkcs8(&pkcs8).unwrap().public_key(), key.public_key());
        let signature = key.sign(b"message").unwrap();
        assert_eq!(subject.verify(b"message", &signature), Ok(()));
        assert_eq!(subject.verify(b"massage", &signature), Err(BadSignature));
        assert_eq!(generated(algorithm).verify(b"message", &signature), Err(BadSignature));
        let raw = subject.raw_public_key();
        assert_eq!(SubjectKey::from_raw(algorithm, raw), Ok(subject.clone()));
        assert_eq!(KeyDigest::parse_hex(&subject.digest().hex()), Ok(subject.digest()));
    }
}

#[test]
fn rsa_sizes() {
    for bits in [2048, 3072, 4096, 2056] {
        check(&rsa(&modulus(bits), F4), Ok(KeyAlgorithm::Rsa { bits }));
        let key = SubjectKey::from_spki_der(&rsa(&modulus(bits), F4)).unwrap();
        assert_eq!(SubjectKey::from_parts(&key.parts()), Ok(key.clone()));
        assert_eq!(SubjectKey::from_raw(KeyAlgorithm::Rsa { bits }, key.raw_public_key()), Ok(key));
    }
    for bits in [0, 512, 1024, 2040, 2047, 2049, 3071, 4104, 8192] {
        check(&rsa(&modulus(bits.max(1)), F4), Err(KeyError::RsaSize { bits: bits.max(1) }));
    }
}

#[test]
fn rsa_numbers() {
    let n = modulus(2048);
    let mut even = n.clone();
    *even.last_mut().unwrap() = 0xa4;
    check(&rsa(&even, F4), Err(KeyError::RsaModulus));
    for e in [&[0][..], &[1], &[3], &[17], &[0xff, 0xff], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
        check(&rsa(&n, e), Err(KeyError::RsaExponent));
    }
    check(&rsa(&n, &[1, 0xff, 0xff, 0xff, 0xff]), Ok(KeyAlgorithm::Rsa { bits: 2048 }));
    // Negative numbers.
    let negative = der::tlv(der::SEQUENCE, &[&der::tlv(der::INTEGER, &[&n]), &der::unsigned(F4)]);
    let spki = der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &der::tlv(der::BIT_STRING, &[&[0], &negative])]);
    check(&spki, Err(KeyError::Malformed));
}

#[test]
fn one_spelling() {
    let n = modulus(2048);
    let key = der::tlv(der::SEQUENCE, &[&der::unsigned(&n), &der::unsigned(F4)]);
    let bits = der::tlv(der::BIT_STRING, &[&[0], &key]);
    // Parameters left out instead of NULL.
    let bare = der::tlv(der::SEQUENCE, &[RSA_ALGORITHM.get(2..13).unwrap()]);
    check(&der::tlv(der::SEQUENCE, &[&bare, &bits]), Err(KeyError::NotCanonical));
    // An integer with a superfluous leading zero.
    let padded = der::tlv(der::SEQUENCE, &[&der::tlv(der::INTEGER, &[&[0, 0], &n]), &der::unsigned(F4)]);
    let spki = der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &der::tlv(der::BIT_STRING, &[&[0], &padded])]);
    assert!(SubjectKey::from_spki_der(&spki).is_err());
    // Bytes after the key, or after the structure.
    let trailing = der::tlv(der::BIT_STRING, &[&[0], &key, &[0]]);
    check(&der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &trailing]), Err(KeyError::Malformed));
    check(&[&rsa(&n, F4)[..], &[0]].concat(), Err(KeyError::Malformed));
    // A compressed point, and a point off its curve.
    let point = generated(KeyAlgorithm::P256);
    let raw = point.raw_public_key();
    let algorithm = &P256_HEAD[2..23];
    let compressed = der::tlv(der::BIT_STRING, &[&[0, 2 + (raw[64] & 1)], &raw[1..33]]);
    check(&der::tlv(der::SEQUENCE, &[algorithm, &compressed]), Err(KeyError::Point));
    let mut off = point.spki_der().to_vec();
    *off.last_mut().unwrap() ^= 1;
    check(&off, Err(KeyError::Point));
    let mut hybrid = point.spki_der().to_vec();
    hybrid[26] = 6 + (raw[64] & 1);
    check(&hybrid, Err(KeyError::Point));
    assert_eq!(SubjectKey::from_raw(KeyAlgorithm::P256, &[]), Err(KeyError::Malformed));
    assert_eq!(SubjectKey::from_raw(KeyAlgorithm::P384, raw), Err(KeyError::Malformed));
    assert_eq!(SubjectKey::from_raw(KeyAlgorithm::Rsa { bits: 4096 }, &key), Err(KeyError::Malformed));
    check(&[], Err(KeyError::Malformed));
}

#[test]
fn unsupported_kinds_are_named() {
    let named = |algorithm: &[u8], parameters: &[u8], found: &str| {
        let identifier = der::tlv(der::SEQUENCE, &[&der::tlv(der::OID, &[algorithm]), parameters]);
        let spki = der::tlv(der::SEQUENCE, &[&identifier, &der::tlv(der::BIT_STRING, &[&[0, 4, 1, 2, 3]])]);
        check(&spki, Err(KeyError::Unsupported { found: found.to_owned() }));
    };
    let ec = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    named(ec, &[6, 5, 0x2b, 0x81, 4, 0, 0x23], "P-521");
    named(ec, &[6, 5, 0x2b, 0x81, 4, 0, 0x0a], "secp256k1");
    named(ec, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1], "P-192");
    named(ec, &[0x30, 0], "explicit elliptic curve");
    named(&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], &[], "DSA");
    named(&[0x2b, 0x65, 0x6e], &[], "X25519");
    named(&[0x2b, 0x65, 0x71], &[], "Ed448");
    named(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10], &[], "RSA-PSS");
    named(&[0x2a, 3], &[], "1.2.3");
}

#[test]
fn private_keys_of_other_kinds_are_refused() {
    assert_eq!(SoftwareKey::from_pkcs8(&[]).unwrap_err(), KeyError::Private);
    let rsa = KeyAlgorithm::Rsa { bits: 2048 };
    assert_eq!(SoftwareKey::generate(rsa).unwrap_err(), KeyError::Generate(rsa));
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let _ = SubjectKey::from_spki_der(&bytes);
        let _ = SoftwareKey::from_pkcs8(&bytes);
    }

    #[test]
    fn mutated_keys_are_refused_or_differ(
        algorithm in prop_oneof![Just(KeyAlgorithm::P256), Just(KeyAlgorithm::Ed25519)],
        at in any::<proptest::sample::Index>(), flip in 1..=255_u8,
    ) {
        let key = generated(algorithm);
        let mut spki = key.spki_der().to_vec();
        spki[at.index(key.spki_der().len())] ^= flip;
        if let Ok(other) = SubjectKey::from_spki_der(&spki) {
            assert_ne!(other, key);
            assert_eq!(other.spki_der(), spki);
            assert_ne!(other.digest(), key.digest());
        }
    }
}

#[test]
fn an_ecdsa_signature_has_two_numbers_and_nothing_more() {
    let padded = |number: u8| [&[0; 31][..], &[number]].concat();
    let rows: [(&[u8], Option<Vec<u8>>); 5] = [
        (b"\x30\x06\x02\x01\x01\x02\x01\x02", Some([padded(1), padded(2)].concat())),
        (b"\x30\x06\x02\x01\x01\x02\x01\x02\x00", None),
        (b"\x30\x08\x02\x01\x01\x02\x01\x02\x05\x00", None),
        (b"\x30\x03\x02\x01\x01", None),
        (b"", None),
    ];
    for (der, want) in rows {
        assert_eq!(jws_of_p256(der).ok().map(Vec::from), want, "{der:?}");
    }
}
