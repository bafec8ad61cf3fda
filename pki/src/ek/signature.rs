//! Signatures on certificates of makers of TPMs: RSA of 2048 to 4096 bits and ECDSA on P-256, P-384 and P-521, with SHA-2. The reader
//! of certificates knows no P-521. Parameters of ECDSA are not looked at: Intel writes NULL there.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SHA1_WITH_RSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// Bounds of an RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// ecdsa-with-SHA1 (RFC 3279 2.2.3).
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";

/// What is wrong with a signature.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum SignatureFault {
    /// The issuer's key is not accepted.
    Key,
    /// The algorithm is not accepted, or not one for the issuer's key.
    Algorithm,
    /// It is not the issuer's.
    Wrong,
}

/// Whether signatures with this algorithm are over a digest of SHA-1.
pub(super) fn is_sha1(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let oid = &algorithm.algorithm;
    *oid == OID_PKCS1_SHA1WITHRSA || *oid == OID_SHA1_WITH_RSA || oid.to_id_string() == ECDSA_WITH_SHA1
}

/// Checks the signature over the signed part as it came.
pub(super) fn verify(cert: &X509Certificate<'_>, issuer: &SubjectPublicKeyInfo<'_>) -> Result<(), SignatureFault> {
    let algorithm = algorithm(&cert.signature_algorithm, issuer)?;
    let key = UnparsedPublicKey::new(algorithm, &issuer.subject_public_key.data);
    let signed = cert.tbs_certificate.as_ref();
    key.verify(signed, &cert.signature_value.data).map_err(|_| SignatureFault::Wrong)
}

fn algorithm(
    signed: &AlgorithmIdentifier<'_>,
    issuer: &SubjectPublicKeyInfo<'_>,
) -> Result<&'static dyn VerificationAlgorithm, SignatureFault> {
    let (oid, key) = (&signed.algorithm, &issuer.algorithm);
    let unfit = SignatureFault::Algorithm;
    if key.algorithm == OID_PKCS1_RSAENCRYPTION {
        let bits = match issuer.parsed() {
            Ok(PublicKey::RSA(rsa)) => rsa.key_size(),
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
    if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(SignatureFault::Key);
    }
    let curve = key.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok()).ok_or(SignatureFault::Key)?;
    let curves = [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521];
    let hashes = [OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512];
    let by_curve: [[&'static dyn VerificationAlgorithm; 3]; 3] = [
        [&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P256_SHA384_ASN1, &signature::ECDSA_P256_SHA512_ASN1],
        [&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA512_ASN1],
        [&signature::ECDSA_P521_SHA256_ASN1, &signature::ECDSA_P521_SHA384_ASN1, &signature::ECDSA_P521_SHA512_ASN1],
    ];
    let (_, by_hash) = curves.iter().zip(by_curve).find(|(of, _)| **of == curve).ok_or(SignatureFault::Key)?;
    hashes.iter().zip(by_hash).find(|(hash, _)| *hash == oid).map(|(_, found)| found).ok_or(unfit)
}
