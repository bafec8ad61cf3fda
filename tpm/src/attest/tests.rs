//! Statements of TPMs, signed here with every kind of key.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair};
use proptest::prelude::*;

use super::*;
use crate::algorithm::Curve;
use crate::codec::Writer;
use crate::pcr::{Bank, PcrSet, PcrValues};
use crate::public::{Attributes, Parameters, Public, RsaBits, Scheme, Symmetric};
use crate::testing;

const AK: Attributes = Attributes::from_bits(0x0005_0072);

/// An AK with its private part.
enum Signer {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding, u16, Box<Ak>),
    Ecc(EcdsaKeyPair, Box<Ak>),
}

impl Signer {
    fn rsa(encoding: &'static dyn RsaEncoding, scheme: Scheme) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let parameters = Parameters::Rsa { symmetric: Symmetric::Null, scheme, bits: RsaBits::Rsa2048, exponent: 0 };
        let public = testing::public(AK, parameters, spki.as_ref());
        let id = if matches!(scheme, Scheme::RsaPss(_)) { 0x16 } else { 0x14 };
        Self::Rsa(pair, encoding, id, Box::new(Ak::check(public).unwrap()))
    }

    fn ecc(algorithm: &'static EcdsaSigningAlgorithm, curve: Curve, hash: HashAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let parameters = Parameters::Ecc { symmetric: Symmetric::Null, scheme: Scheme::EcDsa(hash), curve };
        let public = testing::public(AK, parameters, spki.as_ref());
        Self::Ecc(pair, Box::new(Ak::check(public).unwrap()))
    }

    fn p256() -> Self {
        Self::ecc(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, Curve::P256, HashAlgorithm::Sha256)
    }

    const fn ak(&self) -> &Ak {
        match self {
            Self::Rsa(_, _, _, ak) | Self::Ecc(_, ak) => ak,
        }
    }

    /// A TPMT_SIGNATURE.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let mut writer = Writer::default();
        match self {
            Self::Rsa(pair, encoding, id, ak) => {
                let mut value = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut value).unwrap();
                writer.u16(*id).u16(ak.hash().id()).sized("sig", &value).unwrap();
            }
            Self::Ecc(pair, ak) => {
                let value = pair.sign(&random, message).unwrap();
                let (r, s) = value.as_ref().split_at(value.as_ref().len() / 2);
                writer.u16(0x18).u16(ak.hash().id()).sized("r", r).unwrap().sized("s", s).unwrap();
            }
        }
        writer.finish()
    }

    fn verify(&self, attest: &[u8]) -> Result<Attest, AttestError> {
        verify(self.ak(), attest, &self.sign(attest))
    }
}

/// Everything before what it is about.
fn head(kind: u16, safe: u8) -> Writer {
    let mut writer = Writer::default();
    writer.u32(MAGIC).u16(kind).sized("signer", &[0, 0x0b, 1, 2]).unwrap().sized("extra", b"nonce").unwrap();
    writer.bytes(&77_u64.to_be_bytes()).u32(3).u32(4).bytes(&[safe]).bytes(&0x2019_1023_u64.to_be_bytes());
    writer
}

fn certify(of: &Name) -> Vec<u8> {
    let mut writer = head(CERTIFY, 1);
    writer.sized("name", &of.bytes()).unwrap().sized("qualified", &[0, 0x0b, 5]).unwrap();
    writer.finish()
}

/// Of PCR 0 and 7 of SHA-256.
fn quote(values: &PcrValues, hash: HashAlgorithm) -> Vec<u8> {
    let mut writer = head(QUOTE, 0);
    writer.u32(1).u16(0x000b).bytes(&[3, 0x81, 0, 0]);
    writer.sized("digest", &hash.digest(&[&values[&0], &values[&7]])).unwrap();
    writer.finish()
}

#[test]
fn every_kind_of_ak_is_believed_for_what_it_signed_and_nothing_else() {
    use HashAlgorithm::{Sha256, Sha384, Sha512};
    let signers = [
        Signer::rsa(&signature::RSA_PKCS1_SHA256, Scheme::RsaSsa(Sha256)),
        Signer::rsa(&signature::RSA_PKCS1_SHA512, Scheme::RsaSsa(Sha512)),
        Signer::rsa(&signature::RSA_PSS_SHA256, Scheme::RsaPss(Sha256)),
        Signer::rsa(&signature::RSA_PSS_SHA384, Scheme::RsaPss(Sha384)),
        Signer::p256(),
        Signer::ecc(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, Curve::P384, Sha384),
        Signer::ecc(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, Curve::P521, Sha512),
        Signer::ecc(&signature::ECDSA_P521_SHA256_FIXED_SIGNING, Curve::P521, Sha256),
    ];
    for signer in &signers {
        let attest = certify(&signer.ak().public().name());
        let said = signer.verify(&attest).unwrap();
        assert_eq!(said.extra_data, b"nonce");
        assert_eq!(said.clock, ClockInfo { clock: 77, reset_count: 3, restart_count: 4, safe: true });
        assert_eq!(said.firmware_version, 0x2019_1023);
        let Attested::Certify { name, qualified_name } = said.attested else { panic!("another kind") };
        assert_eq!((name, &qualified_name[..]), (signer.ak().public().name(), &[0, 0x0b, 5][..]));

        let wrong = Err(AttestError::Signature(SignatureError::Wrong));
        let (mut bent, good) = (attest.clone(), signer.sign(&attest));
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(verify(signer.ak(), &bent, &good), wrong);
        let mut bent = good.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(verify(signer.ak(), &attest, &bent), wrong);
        let trailing = [&good[..], &[0]].concat();
        assert!(matches!(verify(signer.ak(), &attest, &trailing), Err(AttestError::Codec(_))));
    }
    let attest = certify(&signers[0].ak().public().name());
    for (at, other) in signers.iter().enumerate().skip(1) {
        let scheme = Err(AttestError::Signature(SignatureError::Scheme));
        assert_eq!(verify(other.ak(), &attest, &signers[0].sign(&attest)), scheme, "{at}");
    }
}

#[test]
fn a_quote_gives_values_that_can_be_relied_on() {
    let signer = Signer::ecc(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, Curve::P384, HashAlgorithm::Sha384);
    let values = PcrValues::from([(0, vec![1; 32]), (7, vec![7; 32])]);
    let said = signer.verify(&quote(&values, HashAlgorithm::Sha384)).unwrap();
    let Attested::Quote(quote) = said.attested else { panic!("another kind") };
    let asked = PcrSet::of([0, 7]).unwrap();
    assert_eq!(quote.selections()[0].bank, Bank::Believed(HashAlgorithm::Sha256));
    assert!(quote.check(asked, HashAlgorithm::Sha256, &values).is_ok());
}

#[test]
fn what_is_no_statement_of_a_tpm_is_refused_although_it_is_signed() {
    let signer = Signer::p256();
    let good = certify(&signer.ak().public().name());
    let refused = |bytes: &[u8]| match signer.verify(bytes) {
        Err(AttestError::Codec(why)) => why,
        other => panic!("{other:?}"),
    };
    let with = |at: usize, byte: u8| {
        let mut bent = good.clone();
        bent[at] = byte;
        bent
    };
    assert_eq!(refused(&with(0, 0xfe)), CodecError::Value { field: "magic" });
    assert_eq!(refused(&with(5, 0x19)), CodecError::Unsupported { field: "attest type", found: 0x8019 });
    let safe = 4 + 2 + 6 + 7 + 8 + 4 + 4;
    assert_eq!(refused(&with(safe, 2)), CodecError::Value { field: "safe" });
    let trailing = [&good[..], &[0]].concat();
    assert_eq!(refused(&trailing), CodecError::Trailing { field: "attest", bytes: 1 });
    assert!(matches!(refused(&vec![0xff; ATTEST_MAX + 1]), CodecError::TooLong { field: "attest", .. }));
    for len in 0..good.len() {
        assert!(matches!(refused(&good[..len]), CodecError::Short { .. }), "{len}");
    }
    // A handle in place of a name: the key is not the TPM's own object.
    let mut handle = head(CERTIFY, 1);
    handle.sized("name", &[0x40, 0, 0, 1]).unwrap().sized("qualified", &[]).unwrap();
    assert!(matches!(refused(&handle.finish()), CodecError::Unsupported { field: "name", .. }));
    // The digest of another hash than that of the signature.
    let values = PcrValues::from([(0, vec![1; 32]), (7, vec![7; 32])]);
    assert!(matches!(refused(&quote(&values, HashAlgorithm::Sha384)), CodecError::TooLong { .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        kind in prop::sample::select(vec![CERTIFY, QUOTE, 0]),
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut attest = head(kind, 1);
        attest.bytes(&tail);
        let _ = parse(&attest.finish(), HashAlgorithm::Sha256);
        let _ = parse(&tail, HashAlgorithm::Sha256);
        let _ = Signature::parse(&tail);
        let _ = Public::parse(&tail);
    }
}
