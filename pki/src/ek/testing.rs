//! Certificates as makers of TPMs write them: put together byte by byte, since no library for issuing writes what they do.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair};

use crate::der::{self, BIT_STRING, NULL, OID, SEQUENCE, SET, tlv};

/// Content octets of algorithms and attributes.
pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
pub(super) const RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(super) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
pub(super) const COUNTRY: &[u8] = &[0x55, 4, 6];
/// 2.23.133.2.1 and its neighbours.
pub(super) const MAKER: &[u8] = &[0x67, 0x81, 5, 2, 1];
pub(super) const MODEL: &[u8] = &[0x67, 0x81, 5, 2, 2];
pub(super) const FIRMWARE: &[u8] = &[0x67, 0x81, 5, 2, 3];
/// tcg-kp-EKCertificate, 2.23.133.8.1.
pub(super) const EK_PURPOSE: &[u8] = &[0x67, 0x81, 5, 8, 1];

/// A key of a maker or of a TPM.
pub(super) enum MakerKey {
    Ec(EcdsaKeyPair, &'static [u8]),
    Rsa(RsaKeyPair),
}

impl MakerKey {
    fn ec(algorithm: &'static EcdsaSigningAlgorithm, oid: &'static [u8]) -> Self {
        Self::Ec(EcdsaKeyPair::generate(algorithm).unwrap(), oid)
    }

    pub(super) fn p256() -> Self {
        Self::ec(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_SHA256)
    }

    pub(super) fn p384() -> Self {
        Self::ec(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_SHA384)
    }

    pub(super) fn p521() -> Self {
        Self::ec(&signature::ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_SHA512)
    }

    pub(super) fn rsa(size: KeySize) -> Self {
        Self::Rsa(RsaKeyPair::generate(size).unwrap())
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ec(pair, _) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    /// The content of an AlgorithmIdentifier.
    fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::Ec(_, oid) => tlv(OID, &[oid]),
            Self::Rsa(_) => [tlv(OID, &[RSA_SHA256]), tlv(NULL, &[])].concat(),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut value = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut value).unwrap();
                value
            }
        }
    }
}

/// A relative name with these attributes, in this order, whatever DER says of it.
pub(super) fn rdn(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let each: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(oid, value)| tlv(SEQUENCE, &[&tlv(OID, &[oid]), &tlv(der::UTF8_STRING, &[value.as_bytes()])]))
        .collect();
    tlv(SET, &[&each.concat()])
}

pub(super) fn common_name(name: &str) -> Vec<u8> {
    tlv(SEQUENCE, &[&rdn(&[(COMMON_NAME, name)])])
}

fn extension(oid: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(SEQUENCE, &[&tlv(OID, &[oid]), critical, &tlv(4, &[content])])
}

/// A certificate before it is signed.
#[derive(Clone)]
pub(super) struct MakerDraft {
    pub(super) serial: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) spki: Vec<u8>,
    pub(super) not_before: &'static str,
    pub(super) not_after: &'static str,
    pub(super) extensions: Vec<Vec<u8>>,
    /// Instead of the algorithm of the key that signs.
    pub(super) algorithm: Option<Vec<u8>>,
}

impl MakerDraft {
    /// A CA of this name, with critical policies.
    pub(super) fn ca(name: &str, issuer: &str, key: &MakerKey) -> Self {
        Self {
            serial: vec![7],
            issuer: common_name(issuer),
            subject: common_name(name),
            spki: key.spki(),
            not_before: "20200101000000Z",
            not_after: "20491231235959Z",
            extensions: vec![
                extension(&[0x55, 29, 19], true, &[0x30, 3, 1, 1, 0xff]),
                extension(&[0x55, 29, 15], true, &[3, 2, 1, 6]),
                extension(&[0x55, 29, 32], true, &crate::oid::policies(&[&crate::oid::ANY_POLICY])),
            ],
            algorithm: None,
        }
    }

    /// An EK's: no subject, and a critical name that is a directory name of these relative names.
    pub(super) fn ek(issuer: &str, spki: Vec<u8>, device: &[Vec<u8>]) -> Self {
        let device = tlv(SEQUENCE, &[&device.concat()]);
        Self {
            serial: vec![9],
            issuer: common_name(issuer),
            subject: tlv(SEQUENCE, &[]),
            spki,
            not_before: "20200101000000Z",
            not_after: "99991231235959Z",
            extensions: vec![
                extension(&[0x55, 29, 17], true, &tlv(SEQUENCE, &[&tlv(0xa4, &[&device])])),
                extension(&[0x55, 29, 15], true, &[3, 2, 5, 0x20]),
                extension(&[0x55, 29, 37], false, &tlv(SEQUENCE, &[&tlv(OID, &[EK_PURPOSE])])),
                extension(&[0x55, 29, 19], true, &[0x30, 0]),
            ],
            algorithm: None,
        }
    }

    /// With another extension.
    pub(super) fn and(mut self, oid: &[u8], critical: bool, content: &[u8]) -> Self {
        self.extensions.push(extension(oid, critical, content));
        self
    }

    pub(super) fn sign(&self, key: &MakerKey) -> Vec<u8> {
        let algorithm = tlv(SEQUENCE, &[&self.algorithm.clone().unwrap_or_else(|| key.algorithm())]);
        let time = |text: &str| tlv(0x18, &[text.as_bytes()]);
        let signed = tlv(
            SEQUENCE,
            &[
                &tlv(0xa0, &[&[2, 1, 2]]),
                &tlv(der::INTEGER, &[&self.serial]),
                &algorithm,
                &self.issuer,
                &tlv(SEQUENCE, &[&time(self.not_before), &time(self.not_after)]),
                &self.subject,
                &self.spki,
                &tlv(0xa3, &[&tlv(SEQUENCE, &[&self.extensions.concat()])]),
            ],
        );
        let signature = tlv(BIT_STRING, &[&[0], &key.sign(&signed)]);
        tlv(SEQUENCE, &[&signed, &algorithm, &signature])
    }
}
