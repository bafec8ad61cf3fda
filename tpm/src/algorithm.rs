//! The algorithms that are understood, each with its TPM_ALG_ID or TPM_ECC_CURVE (TCG Algorithm Registry).

use aws_lc_rs::{agreement, cipher, digest, hmac, rsa};

/// TPM_ALG_NULL: no algorithm.
pub(crate) const NULL: u16 = 0x0010;
/// TPM_ALG_RSA.
pub(crate) const RSA: u16 = 0x0001;
/// TPM_ALG_ECC.
pub(crate) const ECC: u16 = 0x0023;
/// TPM_ALG_AES.
pub(crate) const AES: u16 = 0x0006;
/// TPM_ALG_CFB.
pub(crate) const CFB: u16 = 0x0043;
/// TPM_ALG_RSASSA.
pub(crate) const RSASSA: u16 = 0x0014;
/// TPM_ALG_RSAPSS.
pub(crate) const RSAPSS: u16 = 0x0016;
/// TPM_ALG_OAEP.
pub(crate) const OAEP: u16 = 0x0017;
/// TPM_ALG_ECDSA.
pub(crate) const ECDSA: u16 = 0x0018;
/// TPM_ALG_ECDH.
pub(crate) const ECDH: u16 = 0x0019;

/// A hash algorithm that is believed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the algorithms'")]
pub enum HashAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its TPM_ALG_ID.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The algorithm with this TPM_ALG_ID.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.id() == id)
    }

    /// Its name, as in messages and settings: `sha256`, `sha384` or `sha512`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.as_str() == name)
    }

    /// Bytes in a digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of the parts, one after the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        digest_of(self.algorithm(), parts)
    }

    /// The HMAC of the parts, one after the other.
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().to_vec()
    }

    /// In the crypto library.
    pub(crate) fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// OAEP with this hash, also in its mask (part 1, B.4).
    pub(crate) const fn oaep(self) -> &'static rsa::OaepAlgorithm {
        match self {
            Self::Sha256 => &rsa::OAEP_SHA256_MGF1SHA256,
            Self::Sha384 => &rsa::OAEP_SHA384_MGF1SHA384,
            Self::Sha512 => &rsa::OAEP_SHA512_MGF1SHA512,
        }
    }
}

/// The digest of the parts, one after the other.
pub(crate) fn digest_of(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// A curve.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the curves'")]
pub enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Its TPM_ECC_CURVE.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::P256 => 0x0003,
            Self::P384 => 0x0004,
            Self::P521 => 0x0005,
        }
    }

    /// The curve with this TPM_ECC_CURVE.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.id() == id)
    }

    /// Bytes in a coordinate.
    #[must_use]
    pub const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// ECDH on it, in the crypto library.
    pub(crate) fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
            Self::P521 => &agreement::ECDH_P521,
        }
    }
}

/// The length of an AES key.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the lengths")]
pub enum AesBits {
    Aes128,
    Aes256,
}

impl AesBits {
    /// The length in bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes256 => 256,
        }
    }

    /// The length that has this many bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        match bits {
            128 => Some(Self::Aes128),
            256 => Some(Self::Aes256),
            _ => None,
        }
    }

    /// In the crypto library.
    pub(crate) fn algorithm(self) -> &'static cipher::Algorithm {
        match self {
            Self::Aes128 => &cipher::AES_128,
            Self::Aes256 => &cipher::AES_256,
        }
    }
}
