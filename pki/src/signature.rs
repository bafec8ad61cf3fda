//! Signatures of CAs and devices that are none of ours: RSA of 2048 to 4096 bits and ECDSA on P-256, P-384 and P-521, with SHA-2, and
//! Ed25519. The reader of certificates knows no P-521. Parameters of ECDSA are not looked at: Intel writes NULL there.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SHA1_WITH_RSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Bounds of an RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Longest RSA exponent, in bytes: the work of a signature grows with it. All CAs in use have 65537, which takes three.
const RSA_EXPONENT_MAX: usize = 5;

/// ecdsa-with-SHA1 (RFC 3279 2.2.3).
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";

/// What is wrong with a signature.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    /// The issuer's key is not accepted.
    Key,
    /// The algorithm is not accepted, or not one for the issuer's key.
    Algorithm,
    /// It is not the issuer's.
    Wrong,
}

/// Whether signatures with this algorithm are over a digest of SHA-1.
pub(crate) fn is_sha1(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let oid = &algorithm.algorithm;
    *oid == OID_PKCS1_SHA1WITHRSA || *oid == OID_SHA1_WITH_RSA || oid.to_id_string() == ECDSA_WITH_SHA1
}

/// Checks the signature over the signed part of a certificate as it came.
pub(crate) fn verify(cert: &X509Certificate<'_>, issuer: &SubjectPublicKeyInfo<'_>) -> Result<(), SignatureFault> {
    verify_signed(&cert.signature_algorithm, cert.tbs_certificate.as_ref(), &cert.signature_value.data, issuer)
}

/// Checks a signature with an algorithm that is named beside it.
pub(crate) fn verify_signed(
    algorithm: &AlgorithmIdentifier<'_>,
    signed: &[u8],
    value: &[u8],
    issuer: &SubjectPublicKeyInfo<'_>,
) -> Result<(), SignatureFault> {
    let algorithm = by_algorithm(algorithm, issuer)?;
    let key = UnparsedPublicKey::new(algorithm, &issuer.subject_public_key.data);
    key.verify(signed, value).map_err(|_| SignatureFault::Wrong)
}

/// Checks a signature whose algorithm follows from the key: RSA PKCS#1 v1.5 with SHA-256, ECDSA in ASN.1 with the SHA-2 of the
/// curve's size, or Ed25519.
pub(crate) fn verify_message(
    signed: &[u8],
    value: &[u8],
    signer: &SubjectPublicKeyInfo<'_>,
) -> Result<(), SignatureFault> {
    let all = [
        OID_PKCS1_SHA256WITHRSA,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_SIG_ECDSA_WITH_SHA512,
        OID_SIG_ED25519,
    ];
    let at = if signer.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        0
    } else if signer.algorithm.algorithm == OID_SIG_ED25519 {
        4
    } else {
        1 + CURVES.iter().position(|curve| curve_of(signer).as_ref() == Some(curve)).ok_or(SignatureFault::Key)?
    };
    let oid = all.into_iter().nth(at).ok_or(SignatureFault::Key)?;
    verify_signed(&AlgorithmIdentifier::new(oid, None), signed, value, signer)
}

/// Reads a SubjectPublicKeyInfo without anything behind it.
pub(crate) fn key(spki: &[u8]) -> Option<SubjectPublicKeyInfo<'_>> {
    SubjectPublicKeyInfo::from_der(spki).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, key)| key)
}

/// Whether signatures by a key are checked here at all.
pub(crate) fn is_accepted(key: &SubjectPublicKeyInfo<'_>) -> bool {
    !matches!(verify_message(&[], &[], key), Err(SignatureFault::Key | SignatureFault::Algorithm))
}

/// The curves of accepted EC keys.
const CURVES: [Oid<'static>; 3] = [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521];

fn curve_of<'a>(key: &'a SubjectPublicKeyInfo<'_>) -> Option<Oid<'a>> {
    key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok())
}

fn by_algorithm(
    signed: &AlgorithmIdentifier<'_>,
    issuer: &SubjectPublicKeyInfo<'_>,
) -> Result<&'static dyn VerificationAlgorithm, SignatureFault> {
    let (oid, key) = (&signed.algorithm, &issuer.algorithm);
    let unfit = SignatureFault::Algorithm;
    if key.algorithm == OID_PKCS1_RSAENCRYPTION {
        let bits = match issuer.parsed() {
            Ok(PublicKey::RSA(rsa)) if rsa.exponent.len() <= RSA_EXPONENT_MAX => rsa.key_size(),
            Ok(_) | Err(_) => return Err(SignatureFault::Key),
        };
        if !RSA_BITS.contains(&bits) {
            return Err(SignatureFault::Key);
        }
        let hashes = [OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA];
        let by_hash: [&'static dyn VerificationAlgorithm; 3] = [
            &signature::RSA_PKCS1_2048_8192_SHA256,
            &signature::RSA_PKCS1_2048_8192_SHA384,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ];
        return hashes.iter().zip(by_hash).find(|(hash, _)| *hash == oid).map(|(_, found)| found).ok_or(unfit);
    }
    if key.algorithm == OID_SIG_ED25519 {
        return if *oid == OID_SIG_ED25519 { Ok(&signature::ED25519) } else { Err(unfit) };
    }
    if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(SignatureFault::Key);
    }
    let curve = curve_of(issuer).ok_or(SignatureFault::Key)?;
    let hashes = [OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512];
    let by_curve: [[&'static dyn VerificationAlgorithm; 3]; 3] = [
        [&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P256_SHA384_ASN1, &signature::ECDSA_P256_SHA512_ASN1],
        [&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA512_ASN1],
        [&signature::ECDSA_P521_SHA256_ASN1, &signature::ECDSA_P521_SHA384_ASN1, &signature::ECDSA_P521_SHA512_ASN1],
    ];
    let (_, by_hash) = CURVES.iter().zip(by_curve).find(|(of, _)| **of == curve).ok_or(SignatureFault::Key)?;
    hashes.iter().zip(by_hash).find(|(hash, _)| *hash == oid).map(|(_, found)| found).ok_or(unfit)
}
