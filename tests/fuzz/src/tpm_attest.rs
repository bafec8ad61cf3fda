//! Public areas, statements and signatures of TPMs. What is taken means one thing; nothing is believed that the AK did not sign;
//! and keys mean the same in X.509.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use tpm::{
    Ak, Attest, Attested, CredentialError, Ek, IdentityKey, Name, Public, PublicKey, Signature, make_credential,
    template::Template, verify,
};

use crate::{
    Outcome,
    parts::{mode, with_mode},
};

/// The input is a TPMT_PUBLIC.
const PUBLIC: u8 = 0;
/// The input is a TPMS_ATTEST; it is signed here.
const ATTEST: u8 = 1;
/// The input is a TPMT_SIGNATURE.
const SIGNATURE: u8 = 2;
/// The input is a SubjectPublicKeyInfo.
const SPKI: u8 = 3;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let taken = match mode % 4 {
        PUBLIC => public(rest),
        ATTEST => attest(rest),
        SIGNATURE => signature(rest),
        _ => spki(rest),
    };
    Outcome::any(&[taken])
}

fn public(bytes: &[u8]) -> bool {
    let Ok(public) = Public::parse(bytes) else { return false };
    assert_eq!(public.bytes(), bytes);
    assert_eq!(Name::parse(&public.name().bytes()), Ok(public.name()));
    assert!(Public::parse(&[bytes, &[0]].concat()).is_err(), "a byte after the area");
    assert!(Public::parse(&bytes[..bytes.len() - 1]).is_err(), "a byte less");
    assert!(spki(&public.key().spki_der()), "a key that X.509 does not have");
    let kinds = [
        Ek::check(public.clone()).is_ok(),
        Ak::check(public.clone()).is_ok(),
        IdentityKey::check(public.clone()).is_ok(),
    ];
    assert!(kinds.iter().filter(|is| **is).count() < 2, "a key of two kinds");
    if let Ok(ek) = Ek::check(public.clone()) {
        match make_credential(&ek, &public.name(), &[7; 32]) {
            Ok(credential) => assert!(credential.id_object.len() > 32 && credential.encrypted_secret.len() > 64),
            Err(CredentialError::Point | CredentialError::Library) => {}
            Err(other) => panic!("{other}"),
        }
    }
    true
}

fn spki(der: &[u8]) -> bool {
    let Ok(key) = PublicKey::from_spki_der(der) else { return false };
    assert_eq!(PublicKey::from_spki_der(&key.spki_der()), Ok(key), "another key");
    assert!(PublicKey::from_spki_der(&[der, &[0]].concat()).is_err(), "a byte after the key");
    true
}

fn attest(bytes: &[u8]) -> bool {
    let Some(said) = statement(bytes) else { return false };
    assert!(holds(bytes, &said.extra_data), "a nonce that it does not have");
    assert!(statement(&[bytes, &[0]].concat()).is_none(), "a byte after the statement");
    let other = [&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat();
    assert!(verify(&AK.1, &other, &sign(bytes)).is_err(), "another statement under the same signature");
    match said.attested {
        Attested::Certify { name, .. } => assert!(holds(bytes, &name.bytes()), "a name that it does not have"),
        Attested::Quote(quote) => assert!(quote.selections().len() <= 16),
    }
    true
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

fn signature(bytes: &[u8]) -> bool {
    let Ok(signature) = Signature::parse(bytes) else { return false };
    assert!(signature.verify(&AK.1, b"nothing was ever signed like this").is_err());
    assert!(Signature::parse(&[bytes, &[0]].concat()).is_err(), "a byte after the signature");
    true
}

/// What a TPM whose AK this process made says.
pub fn statement(attest: &[u8]) -> Option<Attest> {
    verify(&AK.1, attest, &sign(attest)).ok()
}

/// An AK, new in each process.
static AK: LazyLock<(EcdsaKeyPair, Ak)> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let ak = Ak::check(Public::parse(&area(AK_HEAD, &pair)).expect("an area")).expect("an AK");
    (pair, ak)
});

/// A TPMT_PUBLIC of ECC on P-256 to its unique field: an AK, an EK and an identity key.
const AK_HEAD: &[u8] = &[0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10];
const EK_HEAD: &[u8] = &[0, 0x23, 0, 0x0b, 0, 3, 0, 0xf2, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10];
const IDENTITY_HEAD: &[u8] = &[0, 0x23, 0, 0x0b, 0, 4, 0, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10];

fn area(head: &[u8], pair: &EcdsaKeyPair) -> Vec<u8> {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    [head, &[0, 32], x, &[0, 32], y].concat()
}

/// The public areas of an EK and of the AK of this process.
pub fn ek_and_ak() -> [Vec<u8>; 2] {
    [EK_HEAD, AK_HEAD].map(|head| area(head, &AK.0))
}

/// The AK's TPMT_SIGNATURE.
fn sign(message: &[u8]) -> Vec<u8> {
    let value = AK.0.sign(&SystemRandom::new(), message).expect("a signature");
    let (r, s) = value.as_ref().split_at(32);
    [&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat()
}

/// A statement about something: its head with a nonce, and what it is about.
#[must_use]
pub fn about(kind: u8, what: &[u8]) -> Vec<u8> {
    let head = [0xff, 0x54, 0x43, 0x47, 0x80, kind, 0, 2, 0, 0x0b, 0, 5, b'n', b'o', b'n', b'c', b'e'];
    [&head[..], &[0; 8], &[0, 0, 0, 3, 0, 0, 0, 4, 1], &[0x20; 8], what].concat()
}

/// The last byte of TPM_ST_ATTEST_QUOTE.
pub const QUOTE: u8 = 0x18;

/// Every kind of area, of statement, of signature.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        [AK_HEAD, EK_HEAD, IDENTITY_HEAD].map(|head| with_mode(PUBLIC, &area(head, &AK.0))).into();
    let template = Template::H1.encode(&[]).expect("a template");
    let (modulus, size) = ([0xc5; 256], [1, 0]);
    let rsa = [&template[..template.len() - 2], &size, &modulus].concat();
    seeds.push(with_mode(SPKI, &Public::parse(&rsa).expect("an area").key().spki_der()));
    seeds.push(with_mode(PUBLIC, &rsa));
    let name = AK.1.public().name().bytes();
    seeds.push(with_mode(ATTEST, &about(0x17, &[&[0, 34], &name[..], &[0, 34], &name].concat())));
    let quote = [&[0, 0, 0, 1, 0, 0x0b, 3, 0x81, 0, 0, 0, 32][..], &[7; 32]].concat();
    seeds.push(with_mode(ATTEST, &about(QUOTE, &quote)));
    seeds.push(with_mode(SIGNATURE, &sign(b"a message")));
    seeds.push(with_mode(SIGNATURE, &[&[0, 0x16, 0, 0x0c, 1, 0][..], &[7; 256]].concat()));
    let spki = AK.0.public_key().as_der().map(|der: PublicKeyX509Der<'_>| der.as_ref().to_vec());
    seeds.push(with_mode(SPKI, &spki.expect("a public key")));
    seeds
}
