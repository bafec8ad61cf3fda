//! A TPM in software, as far as tests and load generators need one: an EK on P-256, an AK, a key for a certificate, and its maker.

#![allow(clippy::disallowed_methods, reason = "a TPM draws its keys itself")]
#![allow(clippy::unwrap_used, reason = "only tests have it")]
#![allow(clippy::missing_panics_doc, reason = "a test that hands it nonsense fails by panicking")]

use crate::{
    Ak, Ek, HashAlgorithm, Name, PcrValues, Public,
    kdf::{kdfa, kdfe},
};
use aws_lc_rs::{
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey},
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac,
    iv::FixedLength,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SubjectPublicKeyInfo,
};

/// The public area of an EK on P-256 (TPMT_PUBLIC), to its unique field.
pub const EK_HEAD: &[u8] = &[0, 0x23, 0, 0x0b, 0, 3, 0, 0xf2, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10];
/// The same of an AK.
pub const AK_HEAD: &[u8] = &[0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10];
/// The same of a key for a certificate.
const IDENTITY_HEAD: &[u8] = &[0, 0x23, 0, 0x0b, 0, 4, 0, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10];

/// How often a [`SoftTpm`] was started.
pub const RESETS: u32 = 41;

/// The TPM: its keys.
pub struct SoftTpm {
    ek: PrivateKey,
    ak: EcdsaKeyPair,
    identity: EcdsaKeyPair,
}

fn area(head: &[u8], point: &[u8]) -> Vec<u8> {
    let (x, y) = point[1..].split_at(32);
    [head, &[0, 32], x, &[0, 32], y].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The content of a value with its length before it, and what follows.
fn content(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(u16::from_be_bytes(*length).into())
}

impl Default for SoftTpm {
    fn default() -> Self {
        Self::new()
    }
}

impl SoftTpm {
    /// One with new keys.
    #[must_use]
    pub fn new() -> Self {
        let key = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { ek: PrivateKey::generate(&ECDH_P256).unwrap(), ak: key(), identity: key() }
    }

    /// The public area of the EK with another head.
    #[must_use]
    pub fn ek_with(&self, head: &[u8]) -> Vec<u8> {
        area(head, self.ek.compute_public_key().unwrap().as_ref())
    }

    /// The public area of the EK.
    #[must_use]
    pub fn ek(&self) -> Vec<u8> {
        self.ek_with(EK_HEAD)
    }

    /// The public area of the AK with another head.
    #[must_use]
    pub fn ak_with(&self, head: &[u8]) -> Vec<u8> {
        area(head, self.ak.public_key().as_ref())
    }

    /// The public area of the AK.
    #[must_use]
    pub fn ak(&self) -> Vec<u8> {
        self.ak_with(AK_HEAD)
    }

    /// The public area of the key for a certificate.
    #[must_use]
    pub fn identity(&self) -> Vec<u8> {
        area(IDENTITY_HEAD, self.identity.public_key().as_ref())
    }

    /// The key for a certificate as a SubjectPublicKeyInfo.
    #[must_use]
    pub fn identity_spki(&self) -> Vec<u8> {
        let spki: PublicKeyX509Der<'_> = self.identity.public_key().as_der().unwrap();
        spki.as_ref().to_vec()
    }

    /// The private key for a certificate, which no other TPM gives away, as PKCS#8.
    #[must_use]
    pub fn identity_pkcs8(&self) -> Vec<u8> {
        self.identity.to_pkcs8v1().unwrap().as_ref().to_vec()
    }

    /// The EK as a SubjectPublicKeyInfo.
    #[must_use]
    pub fn ek_spki(&self) -> Vec<u8> {
        Ek::check(Public::parse(&self.ek()).unwrap()).unwrap().public().key().spki_der()
    }

    fn ak_name(&self) -> Name {
        Ak::check(Public::parse(&self.ak()).unwrap()).unwrap().public().name()
    }

    /// TPM2_ActivateCredential, with the AK of this TPM.
    #[must_use]
    pub fn activate(&self, id_object: &[u8], encrypted_secret: &[u8]) -> Option<Vec<u8>> {
        let (name, hash) = (self.ak_name().bytes(), HashAlgorithm::Sha256);
        let (x, rest) = content(content(encrypted_secret).0);
        let (y, _) = content(rest);
        let own = self.ek.compute_public_key().unwrap();
        let peer = UnparsedPublicKey::new(&ECDH_P256, [&[4], x, y].concat());
        let seed = |z: &[u8]| Ok(kdfe(hash, z, "IDENTITY", x, &own.as_ref()[1..33], 256));
        let seed = agreement::agree(&self.ek, peer, (), seed).unwrap();
        let (integrity, identity) = content(content(id_object).0);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &kdfa(hash, &seed, "INTEGRITY", &[], &[], 256));
        hmac::verify(&key, &[identity, &name].concat(), integrity).ok()?;
        let key = UnboundCipherKey::new(&AES_128, &kdfa(hash, &seed, "STORAGE", &name, &[], 128)).unwrap();
        let context = DecryptionContext::Iv128(FixedLength::from([0; 16]));
        let mut identity = identity.to_vec();
        let secret = DecryptingKey::cfb128(key).unwrap().decrypt(&mut identity, context).unwrap();
        Some(content(secret).0.to_vec())
    }

    /// A TPMS_ATTEST with this extraData, and its TPMT_SIGNATURE.
    fn signed(&self, kind: u8, extra: &[u8], what: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let head = [0xff, 0x54, 0x43, 0x47, 0x80, kind];
        let clock = [&[0; 8][..], &RESETS.to_be_bytes(), &[0, 0, 0, 1, 1], &[0x20; 8]].concat();
        let attest = [&head[..], &sized(&self.ak_name().bytes()), &sized(extra), &clock, what].concat();
        let value = self.ak.sign(&SystemRandom::new(), &attest).unwrap();
        let (r, s) = value.as_ref().split_at(32);
        let signature = [&[0, 0x18, 0, 0x0b][..], &sized(r), &sized(s)].concat();
        (attest, signature)
    }

    /// TPM2_Certify of a key.
    #[must_use]
    pub fn certify(&self, extra: &[u8], key: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let name = sized(&Public::parse(key).unwrap().name().bytes());
        self.signed(0x17, extra, &[&name[..], &name].concat())
    }

    /// TPM2_Quote of one PCR with this value.
    #[must_use]
    pub fn quote(&self, extra: &[u8], pcr: u8, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        self.quote_all(extra, &[(pcr, value.to_vec())].into())
    }

    /// TPM2_Quote of these PCRs with these values, of the bank for SHA-256.
    #[must_use]
    pub fn quote_all(&self, extra: &[u8], values: &PcrValues) -> (Vec<u8>, Vec<u8>) {
        let parts: Vec<&[u8]> = values.values().map(Vec::as_slice).collect();
        let digest = sized(&HashAlgorithm::Sha256.digest(&parts));
        let bits = values.keys().fold(0_u32, |bits, pcr| bits | 1 << pcr).to_le_bytes();
        let what = [&[0, 0, 0, 1, 0, 0x0b, 3][..], &bits[..3], &digest].concat();
        self.signed(0x18, extra, &what)
    }
}

/// A maker of TPMs: a CA for EKs.
pub struct Maker(CertifiedIssuer<'static, KeyPair>);

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

impl Maker {
    /// One of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The certificate of an EK, until this year.
    #[must_use]
    pub fn certify(&self, tpm: &SoftTpm, until: i32) -> Vec<u8> {
        let attribute = |last: u8, value: &str| {
            let oid = tlv(6, &[0x67, 0x81, 5, 2, last]);
            tlv(0x31, &tlv(0x30, &[oid, tlv(0x0c, value.as_bytes())].concat()))
        };
        let device = [attribute(1, "id:49465800"), attribute(2, "SLB9670"), attribute(3, "id:0D55")].concat();
        let names = tlv(0x30, &tlv(0xa4, &tlv(0x30, &device)));
        let mut san = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
        san.set_criticality(true);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.custom_extensions = vec![san];
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = SubjectPublicKeyInfo::from_der(&tpm.ek_spki()).unwrap();
        params.signed_by(&key, &self.0).unwrap().der().to_vec()
    }
}
