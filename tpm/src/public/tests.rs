//! Tests of public areas.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING};
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use proptest::prelude::*;

use super::template::Template;
use super::*;
use crate::testing;

impl Public {
    /// A public area with the key of a SubjectPublicKeyInfo.
    pub(crate) fn of(area: Area, spki: &[u8]) -> Self {
        let mut unique = Writer::default();
        match PublicKey::from_spki_der(spki).unwrap() {
            PublicKey::Rsa { modulus, .. } => unique.sized("modulus", &modulus).map(|_| ()).unwrap(),
            PublicKey::Ecc { x, y, .. } => unique.sized("x", &x).unwrap().sized("y", &y).map(|_| ()).unwrap(),
        }
        Self::parse(&area.encode(&unique.finish()).unwrap()).unwrap()
    }
}

/// A key on each curve, as SubjectPublicKeyInfo.
fn ecc_spki(curve: Curve) -> Vec<u8> {
    let algorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        Curve::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
    };
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
}

fn rsa_spki(size: KeySize) -> Vec<u8> {
    let key = PrivateDecryptingKey::generate(size).unwrap().public_key();
    AsDer::<PublicKeyX509Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
}

fn signing(curve: Curve) -> Parameters {
    Parameters::Ecc { symmetric: Symmetric::Null, scheme: Scheme::EcDsa(HashAlgorithm::Sha256), curve }
}

const GOOD_AK: Attributes = Attributes::from_bits(0x0005_0072);
const GOOD_EK: Attributes = Attributes::from_bits(0x0003_00b2);
const GOOD_IDENTITY: Attributes = Attributes::from_bits(0x0004_0072);

#[test]
fn keys_are_written_in_x509_as_others_write_them() {
    let spkis = Curve::ALL.map(ecc_spki).into_iter();
    for spki in spkis.chain([rsa_spki(KeySize::Rsa2048), rsa_spki(KeySize::Rsa3072)]) {
        let key = PublicKey::from_spki_der(&spki).unwrap();
        assert_eq!(key.spki_der(), spki);
        assert_eq!(PublicKey::from_spki_der(&[&spki[..], &[0]].concat()), Err(SpkiError::Malformed));
    }
}

#[test]
fn an_rsa_key_is_the_same_under_the_name_of_its_padding() {
    let spki = rsa_spki(KeySize::Rsa2048);
    let mut oaep = spki.clone();
    let at = oaep.windows(9).position(|oid| oid == [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]).unwrap();
    oaep[at + 8] = 7;
    assert_eq!(PublicKey::from_spki_der(&oaep), PublicKey::from_spki_der(&spki));
    oaep[at + 8] = 10;
    assert_eq!(PublicKey::from_spki_der(&oaep), Err(SpkiError::Algorithm));
}

#[test]
fn coordinates_without_their_zeros_are_the_same_key_under_another_name() {
    let area = Area {
        name_algorithm: HashAlgorithm::Sha256,
        attributes: GOOD_AK,
        auth_policy: Vec::new(),
        parameters: signing(Curve::P256),
    };
    let with = |x: &[u8]| {
        let mut unique = Writer::default();
        unique.sized("x", x).unwrap().sized("y", &[9; 32]).unwrap();
        Public::parse(&area.encode(&unique.finish()).unwrap()).unwrap()
    };
    let whole = with(&[&[0][..], &[7; 31]].concat());
    let short = with(&[7; 31]);
    assert_eq!(whole.key(), short.key());
    assert_ne!(whole.name(), short.name());
    assert_eq!(short.name().bytes(), [&[0, 0x0b][..], &HashAlgorithm::Sha256.digest(&[short.bytes()])].concat());
}

#[test]
fn names_are_read_as_they_are_written() {
    let key = testing::public(GOOD_AK, signing(Curve::P256), &ecc_spki(Curve::P256));
    assert_eq!(Name::parse(&key.name().bytes()), Ok(key.name()));
    // The name of a handle, of SHA-1, and one that is too long.
    for bad in [&[0x40, 0, 0, 7][..], &[&[0, 4][..], &[0; 20]].concat(), &[&key.name().bytes()[..], &[0]].concat()] {
        assert!(Name::parse(bad).is_err());
    }
}

/// What stands between the parts of a template, byte by byte (B.3.4), so that no mistake is made twice.
#[test]
fn the_low_templates_are_those_of_the_profile() {
    let policy = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    let rsa = format!("0001000b000300b20020{policy}000600800043001008000000000001 00{}", "00".repeat(256));
    assert_eq!(hex::encode(Template::L1.encode(&[]).unwrap()), rsa.replace(' ', ""));
    let half = format!("0020{}", "00".repeat(32));
    let ecc = format!("0023000b000300b20020{policy}00060080004300100003 0010{half}{half}");
    assert_eq!(hex::encode(Template::L2.encode(&[]).unwrap()), ecc.replace(' ', ""));
    let nonce = hex::encode(Template::L2.encode(&[0xaa; 4]).unwrap());
    assert!(nonce.contains("00100020aaaaaaaa0000"), "{nonce}");
    assert!(Template::L2.encode(&[0; 33]).is_err());
}

#[test]
fn the_high_templates_are_those_of_the_profile() {
    let policies = [
        (Template::H1, "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"),
        (
            Template::H3,
            "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
        ),
        (
            Template::H4,
            "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a4\
             29c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea",
        ),
    ];
    for (template, policy) in policies {
        assert_eq!(hex::encode(template.area().auth_policy), policy, "{template:?}");
    }
    let policy = hex::encode(Template::H3.area().auth_policy);
    let want = format!("0023000c000300f20030{policy}0006010000430010000400100000 0000");
    assert_eq!(hex::encode(Template::H3.encode(&[]).unwrap()), want.replace(' ', ""));
    let end = hex::encode(Template::H7.encode(&[]).unwrap());
    assert!(end.ends_with("00060100004300101000000000000000"), "{end}");
}

#[test]
fn templates_have_names() {
    for template in Template::ALL {
        assert_eq!(Template::named(template.name()), Some(template));
    }
    assert_eq!(Template::named("H-5"), None);
}

#[test]
fn our_own_keys_are_made_from_these() {
    let storage = "0023 000b 00030472 0000 0006 0080 0043 0010 0003 0010 0000 0000";
    assert_eq!(hex::encode(template::storage_key().unwrap()), storage.replace(' ', ""));
    let identity = "0023 000b 00040472 0000 0010 0010 0003 0010 0000 0000";
    assert_eq!(hex::encode(template::identity_key().unwrap()), identity.replace(' ', ""));
}

#[test]
fn every_template_makes_a_sound_ek() {
    for template in Template::ALL {
        let spki = match template.area().parameters {
            Parameters::Rsa { bits: RsaBits::Rsa2048, .. } => rsa_spki(KeySize::Rsa2048),
            Parameters::Rsa { .. } => continue, // slow to make; nothing differs but lengths
            Parameters::Ecc { curve, .. } => ecc_spki(curve),
        };
        let ek = Ek::check(Public::of(template.area(), &spki)).unwrap();
        assert_eq!(ek.public().area(), &template.area());
        assert_eq!(ek.public().key().spki_der(), spki);
    }
}

#[test]
fn a_key_that_lacks_a_demand_is_refused_by_its_name() {
    let spki = ecc_spki(Curve::P256);
    let storage =
        Parameters::Ecc { symmetric: Symmetric::AesCfb(AesBits::Aes128), scheme: Scheme::Null, curve: Curve::P256 };
    let ek = |flip: u32| {
        Ek::check(testing::public(Attributes::from_bits(GOOD_EK.bits() ^ flip), storage, &spki)).map(|_| ())
    };
    let ak = |flip: u32| {
        Ak::check(testing::public(Attributes::from_bits(GOOD_AK.bits() ^ flip), signing(Curve::P256), &spki))
            .map(|_| ())
    };
    let identity = |flip: u32| {
        let attributes = Attributes::from_bits(GOOD_IDENTITY.bits() ^ flip);
        IdentityKey::check(testing::public(attributes, signing(Curve::P256), &spki)).map(|_| ())
    };
    let held: [(u32, &str); 3] = [(1 << 1, "fixedTPM"), (1 << 4, "fixedParent"), (1 << 5, "sensitiveDataOrigin")];
    for check in [&ek as &dyn Fn(u32) -> Result<(), Unsound>, &ak, &identity] {
        assert_eq!(check(0), Ok(()));
        for (bit, name) in held {
            assert_eq!(check(bit), Err(Unsound::NotSet(name)));
        }
    }
    assert_eq!(ek(1 << 7), Err(Unsound::NotSet("adminWithPolicy")));
    assert_eq!(ek(1 << 7 | 1 << 6), Ok(()));
    assert_eq!(ek(1 << 16), Err(Unsound::NotSet("restricted")));
    assert_eq!(ek(1 << 17), Err(Unsound::NotSet("decrypt")));
    assert_eq!(ek(1 << 18), Err(Unsound::Set("sign")));
    assert_eq!(ak(1 << 16), Err(Unsound::NotSet("restricted")));
    assert_eq!(ak(1 << 17), Err(Unsound::Set("decrypt")));
    assert_eq!(ak(1 << 18), Err(Unsound::NotSet("sign")));
    assert_eq!(identity(1 << 16), Err(Unsound::Set("restricted")));
    assert_eq!(identity(1 << 18), Err(Unsound::NotSet("sign")));
}

#[test]
fn a_key_with_the_wrong_algorithms_is_refused() {
    let spki = ecc_spki(Curve::P256);
    let with = |attributes, symmetric, scheme| {
        testing::public(attributes, Parameters::Ecc { symmetric, scheme, curve: Curve::P256 }, &spki)
    };
    let aes = Symmetric::AesCfb(AesBits::Aes128);
    let sha = HashAlgorithm::Sha256;
    assert_eq!(Ek::check(with(GOOD_EK, Symmetric::Null, Scheme::Null)), Err(Unsound::NoSymmetric));
    assert_eq!(Ek::check(with(GOOD_EK, aes, Scheme::EcDh(sha))), Err(Unsound::Scheme));
    assert_eq!(Ak::check(with(GOOD_AK, Symmetric::Null, Scheme::Null)), Err(Unsound::NoSigningScheme));
    let identity = |scheme| IdentityKey::check(with(GOOD_IDENTITY, Symmetric::Null, scheme)).map(|_| ());
    assert_eq!(identity(Scheme::Null), Ok(()));
    assert_eq!(identity(Scheme::EcDh(sha)), Err(Unsound::NoSigningScheme));
}

/// A key whose private part can be computed proves nothing, whichever of the three it is to be.
#[test]
fn keys_of_infineons_faulty_library_are_refused_by_name() {
    let PublicKey::Rsa { modulus, .. } = PublicKey::from_spki_der(&rsa_spki(KeySize::Rsa2048)).unwrap() else {
        panic!("not RSA")
    };
    let with = |attributes, symmetric, scheme, modulus: &[u8]| {
        let parameters = Parameters::Rsa { symmetric, scheme, bits: RsaBits::Rsa2048, exponent: 0 };
        let area = Area { name_algorithm: HashAlgorithm::Sha256, attributes, auth_policy: Vec::new(), parameters };
        let mut unique = Writer::default();
        unique.sized("modulus", modulus).unwrap();
        Public::parse(&area.encode(&unique.finish()).unwrap()).unwrap()
    };
    let aes = Symmetric::AesCfb(AesBits::Aes128);
    let sign = Scheme::RsaSsa(HashAlgorithm::Sha256);
    for (modulus, want) in [(modulus, Ok(())), (testing::roca_modulus(256), Err(Unsound::Roca))] {
        assert_eq!(Ek::check(with(GOOD_EK, aes, Scheme::Null, &modulus)).map(|_| ()), want);
        assert_eq!(Ak::check(with(GOOD_AK, Symmetric::Null, sign, &modulus)).map(|_| ()), want);
        let identity = with(GOOD_IDENTITY, Symmetric::Null, Scheme::Null, &modulus);
        assert_eq!(IdentityKey::check(identity).map(|_| ()), want);
    }
    assert!(Unsound::Roca.to_string().contains("CVE-2017-15361"));
}

#[test]
fn what_is_not_supported_is_named() {
    let bytes = testing::public(GOOD_AK, signing(Curve::P256), &ecc_spki(Curve::P256)).bytes().to_vec();
    let with = |at: usize, value: u16| {
        let mut bent = bytes.clone();
        bent[at..at + 2].copy_from_slice(&value.to_be_bytes());
        Public::parse(&bent).unwrap_err()
    };
    let unsupported = |field, found| CodecError::Unsupported { field, found };
    assert_eq!(with(0, 8), unsupported("type", 8)); // TPM_ALG_KEYEDHASH
    assert_eq!(with(2, 4), unsupported("nameAlg", 4));
    assert_eq!(with(8, 1), CodecError::Value { field: "authPolicy" });
    assert_eq!(with(10, 7), unsupported("symmetric", 7));
    assert_eq!(with(12, 0x14), unsupported("scheme", 0x14));
    assert_eq!(with(14, 4), unsupported("scheme hash", 4));
    assert_eq!(with(16, 32), unsupported("curveID", 32));
    assert_eq!(with(18, 0x20), unsupported("kdf", 0x20));
    assert_eq!(
        Public::parse(&[&bytes[..], &[0]].concat()),
        Err(CodecError::Trailing { field: "publicArea", bytes: 1 })
    );
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_written_again_as_they_came(
        head in prop::sample::select(vec![
            "0001000b000300b2000000060080004300100800000000000100",
            "0023000b0005007200000010 0018000b00030010",
            "",
        ]),
        tail in prop::collection::vec(any::<u8>(), 0..320),
    ) {
        let bytes = [hex::decode(head.replace(' ', "")).unwrap(), tail].concat();
        if let Ok(public) = Public::parse(&bytes) {
            prop_assert_eq!(public.bytes(), &bytes);
            let unique = &bytes[public.area().encode(&[]).unwrap().len()..];
            prop_assert_eq!(public.area().encode(unique).unwrap(), bytes);
        }
    }
}
