//! Signatures of TPMs (TPMT_SIGNATURE), and whether an AK made them.

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use thiserror::Error;

use crate::algorithm::{self, Curve, HashAlgorithm};
use crate::codec::{CodecError, Reader};
use crate::der;
use crate::public::{Ak, EXPONENT, PublicKey, Scheme, hash};

/// Longest signature value read, in bytes: that of an RSA-4096 key.
const SIGNATURE_MAX: usize = 512;

/// A signature, with its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    scheme: Scheme,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Rsa(Vec<u8>),
    EcDsa { r: Vec<u8>, s: Vec<u8> },
}

/// Why a signature is not one by this key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum SignatureError {
    #[error("the signature has another scheme or hash than its key has")]
    Scheme,
    #[error("the signature does not verify")]
    Wrong,
}

impl Signature {
    /// Reads a TPMT_SIGNATURE.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let id = reader.u16("sigAlg")?;
        let scheme = match id {
            algorithm::RSASSA => Scheme::RsaSsa(hash(&mut reader, "signature hash")?),
            algorithm::RSAPSS => Scheme::RsaPss(hash(&mut reader, "signature hash")?),
            algorithm::ECDSA => Scheme::EcDsa(hash(&mut reader, "signature hash")?),
            _ => return Err(CodecError::Unsupported { field: "sigAlg", found: id.into() }),
        };
        let value = if id == algorithm::ECDSA {
            let longest = Curve::P521.coordinate_len();
            let r = reader.sized("signatureR", longest)?.to_vec();
            Value::EcDsa { r, s: reader.sized("signatureS", longest)?.to_vec() }
        } else {
            Value::Rsa(reader.sized("sig", SIGNATURE_MAX)?.to_vec())
        };
        reader.finish("signature")?;
        Ok(Self { scheme, value })
    }

    /// An ECDSA signature as X.509 and TLS have it (Ecdsa-Sig-Value; RFC 3279 2.2.3).
    #[must_use]
    pub fn ecdsa_der(&self) -> Option<Vec<u8>> {
        match &self.value {
            Value::EcDsa { r, s } => Some(der::tlv(der::SEQUENCE, &[&der::unsigned(r), &der::unsigned(s)])),
            Value::Rsa(_) => None,
        }
    }

    /// Whether this AK made it over these bytes. RSASSA-PSS must have a salt as long as the digest, which is what TPMs
    /// of revision 1.38 and later take (FIPS 186-4 5.5); older ones take a longer one and are refused.
    pub fn verify(&self, ak: &Ak, message: &[u8]) -> Result<(), SignatureError> {
        if self.scheme != ak.scheme() {
            return Err(SignatureError::Scheme);
        }
        match self.scheme {
            Scheme::RsaSsa(hash) => self.verify_rsa(rsassa(hash), ak.public().key(), message),
            Scheme::RsaPss(hash) => self.verify_rsa(rsapss(hash), ak.public().key(), message),
            Scheme::EcDsa(hash) => self.verify_ecdsa(hash, ak.public().key(), message),
            Scheme::Null | Scheme::Oaep(_) | Scheme::EcDh(_) => Err(SignatureError::Scheme),
        }
    }

    fn verify_rsa(
        &self,
        parameters: &'static RsaParameters,
        key: &PublicKey,
        message: &[u8],
    ) -> Result<(), SignatureError> {
        let (Value::Rsa(value), PublicKey::Rsa { modulus, .. }) = (&self.value, key) else {
            return Err(SignatureError::Scheme);
        };
        let exponent = EXPONENT.to_be_bytes();
        let key = RsaPublicKeyComponents { n: modulus.as_slice(), e: der::without_zeros(&exponent) };
        key.verify(parameters, message, value).map_err(|_| SignatureError::Wrong)
    }

    fn verify_ecdsa(&self, hash: HashAlgorithm, key: &PublicKey, message: &[u8]) -> Result<(), SignatureError> {
        let (Some(value), PublicKey::Ecc { curve, .. }) = (self.ecdsa_der(), key) else {
            return Err(SignatureError::Scheme);
        };
        let key = UnparsedPublicKey::new(ecdsa(*curve, hash), key.library_form());
        key.verify(message, &value).map_err(|_| SignatureError::Wrong)
    }
}

const fn rsassa(hash: HashAlgorithm) -> &'static RsaParameters {
    match hash {
        HashAlgorithm::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        HashAlgorithm::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        HashAlgorithm::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
    }
}

const fn rsapss(hash: HashAlgorithm) -> &'static RsaParameters {
    match hash {
        HashAlgorithm::Sha256 => &signature::RSA_PSS_2048_8192_SHA256,
        HashAlgorithm::Sha384 => &signature::RSA_PSS_2048_8192_SHA384,
        HashAlgorithm::Sha512 => &signature::RSA_PSS_2048_8192_SHA512,
    }
}

fn ecdsa(curve: Curve, hash: HashAlgorithm) -> &'static dyn VerificationAlgorithm {
    match (curve, hash) {
        (Curve::P256, HashAlgorithm::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, HashAlgorithm::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, HashAlgorithm::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, HashAlgorithm::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, HashAlgorithm::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, HashAlgorithm::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, HashAlgorithm::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, HashAlgorithm::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, HashAlgorithm::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
    }
}
