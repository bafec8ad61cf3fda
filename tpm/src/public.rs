//! Public areas of keys (TPMT_PUBLIC): parsed, named, and held against what a sound EK, AK or identity key must be.
//!
//! A public area says of itself what it likes. That a TPM keeps a key with these attributes is established by a
//! credential that only this TPM can open ([`crate::credential`]), or by an AK that certifies the key's name
//! ([`crate::attest`]).

use crate::algorithm::{self, AesBits, Curve, HashAlgorithm};
use crate::codec::{self, CodecError, Reader, Writer};

mod attributes;
mod key;
mod roca;
mod sound;
pub mod template;

pub use attributes::Attributes;
pub use key::{PublicKey, SpkiError};
pub use sound::{Ak, Ek, IdentityKey, Unsound};

/// Longest public area read: one with an RSA-4096 key and a policy of SHA-512 has 614 bytes.
pub const PUBLIC_MAX: usize = 1024;

/// The only RSA exponent that is accepted. In a public area 0 stands for it (part 2, 12.2.3.5).
pub const EXPONENT: u32 = 65_537;

/// The length of an RSA key.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the lengths")]
pub enum RsaBits {
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

impl RsaBits {
    /// The length in bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }

    /// The length that has this many bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        match bits {
            2048 => Some(Self::Rsa2048),
            3072 => Some(Self::Rsa3072),
            4096 => Some(Self::Rsa4096),
            _ => None,
        }
    }

    /// Bytes in a modulus.
    #[must_use]
    pub fn modulus_len(self) -> usize {
        usize::from(self.bits() / 8)
    }
}

/// How a parent protects what it holds (TPMT_SYM_DEF_OBJECT).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Symmetric {
    /// Not at all: the key is no parent.
    Null,
    /// AES in CFB mode.
    AesCfb(AesBits),
}

/// What the key may do with which hash (TPMT_RSA_SCHEME, TPMT_ECC_SCHEME).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// None: each use of the key says its own.
    Null,
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(HashAlgorithm),
    /// RSASSA-PSS.
    RsaPss(HashAlgorithm),
    /// RSAES-OAEP.
    Oaep(HashAlgorithm),
    /// ECDSA.
    EcDsa(HashAlgorithm),
    /// ECDH.
    EcDh(HashAlgorithm),
}

/// The parameters of a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Parameters {
    /// TPMS_RSA_PARMS. `exponent` is as it was written: 0 or [`EXPONENT`].
    Rsa { symmetric: Symmetric, scheme: Scheme, bits: RsaBits, exponent: u32 },
    /// TPMS_ECC_PARMS. Its key derivation scheme is none.
    Ecc { symmetric: Symmetric, scheme: Scheme, curve: Curve },
}

impl Parameters {
    /// How the key protects what it holds.
    #[must_use]
    pub const fn symmetric(&self) -> Symmetric {
        match self {
            Self::Rsa { symmetric, .. } | Self::Ecc { symmetric, .. } => *symmetric,
        }
    }

    /// What the key may do.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Rsa { scheme, .. } | Self::Ecc { scheme, .. } => *scheme,
        }
    }
}

/// A public area without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The hash of the key's name and of its policy.
    pub name_algorithm: HashAlgorithm,
    /// What the key may be used for, and how it was made.
    pub attributes: Attributes,
    /// The policy that allows its use; empty, or as long as a digest of `name_algorithm`.
    pub auth_policy: Vec<u8>,
    /// Algorithms and sizes.
    pub parameters: Parameters,
}

/// A public area (TPMT_PUBLIC), with the bytes that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    area: Area,
    key: PublicKey,
    bytes: Vec<u8>,
}

impl Public {
    /// Reads a TPMT_PUBLIC.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > PUBLIC_MAX {
            return Err(CodecError::TooLong { field: "publicArea", found: bytes.len(), most: PUBLIC_MAX });
        }
        let mut reader = Reader::new(bytes);
        let area = read_area(&mut reader)?;
        let key = match area.parameters {
            Parameters::Rsa { bits, .. } => PublicKey::read_modulus(&mut reader, bits)?,
            Parameters::Ecc { curve, .. } => PublicKey::read_point(&mut reader, curve)?,
        };
        reader.finish("publicArea")?;
        Ok(Self { area, key, bytes: bytes.to_vec() })
    }

    /// Reads a TPM2B_PUBLIC.
    pub fn parse_sized(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::parse(codec::unwrap_sized("TPM2B_PUBLIC", bytes, PUBLIC_MAX)?)
    }

    /// Everything but the key.
    #[must_use]
    pub const fn area(&self) -> &Area {
        &self.area
    }

    /// The public key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The TPMT_PUBLIC as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name that the TPM has for it (part 1, 16): nothing of the area can differ under the same name.
    #[must_use]
    pub fn name(&self) -> Name {
        let algorithm = self.area.name_algorithm;
        Name { algorithm, digest: algorithm.digest(&[&self.bytes]) }
    }
}

/// The name of a key (TPM2B_NAME): the hash algorithm, and the digest of its public area.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    algorithm: HashAlgorithm,
    digest: Vec<u8>,
}

impl Name {
    /// Reads the content of a TPM2B_NAME. Names of handles are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let algorithm = hash(&mut reader, "name")?;
        let digest = reader.bytes("name", algorithm.digest_len())?.to_vec();
        reader.finish("name")?;
        Ok(Self { algorithm, digest })
    }

    /// The content of the TPM2B_NAME.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&self.algorithm.id().to_be_bytes()[..], &self.digest].concat()
    }
}

/// A hash algorithm that is believed.
pub(crate) fn hash(reader: &mut Reader<'_>, field: &'static str) -> Result<HashAlgorithm, CodecError> {
    let id = reader.u16(field)?;
    HashAlgorithm::from_id(id).ok_or(CodecError::Unsupported { field, found: id.into() })
}

fn read_area(reader: &mut Reader<'_>) -> Result<Area, CodecError> {
    let kind = reader.u16("type")?;
    let name_algorithm = hash(reader, "nameAlg")?;
    let attributes = Attributes::from_bits(reader.u32("objectAttributes")?);
    let auth_policy = reader.sized("authPolicy", name_algorithm.digest_len())?.to_vec();
    if ![0, name_algorithm.digest_len()].contains(&auth_policy.len()) {
        return Err(CodecError::Value { field: "authPolicy" });
    }
    let parameters = match kind {
        algorithm::RSA => read_rsa(reader)?,
        algorithm::ECC => read_ecc(reader)?,
        _ => return Err(CodecError::Unsupported { field: "type", found: kind.into() }),
    };
    Ok(Area { name_algorithm, attributes, auth_policy, parameters })
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<Parameters, CodecError> {
    let symmetric = read_symmetric(reader)?;
    let scheme = match reader.u16("scheme")? {
        algorithm::NULL => Scheme::Null,
        algorithm::RSASSA => Scheme::RsaSsa(hash(reader, "scheme hash")?),
        algorithm::RSAPSS => Scheme::RsaPss(hash(reader, "scheme hash")?),
        algorithm::OAEP => Scheme::Oaep(hash(reader, "scheme hash")?),
        other => return Err(CodecError::Unsupported { field: "scheme", found: other.into() }),
    };
    let bits = reader.u16("keyBits")?;
    let bits = RsaBits::from_bits(bits).ok_or(CodecError::Unsupported { field: "keyBits", found: bits.into() })?;
    let exponent = reader.u32("exponent")?;
    if ![0, EXPONENT].contains(&exponent) {
        return Err(CodecError::Unsupported { field: "exponent", found: exponent });
    }
    Ok(Parameters::Rsa { symmetric, scheme, bits, exponent })
}

fn read_ecc(reader: &mut Reader<'_>) -> Result<Parameters, CodecError> {
    let symmetric = read_symmetric(reader)?;
    let scheme = match reader.u16("scheme")? {
        algorithm::NULL => Scheme::Null,
        algorithm::ECDSA => Scheme::EcDsa(hash(reader, "scheme hash")?),
        algorithm::ECDH => Scheme::EcDh(hash(reader, "scheme hash")?),
        other => return Err(CodecError::Unsupported { field: "scheme", found: other.into() }),
    };
    let curve = reader.u16("curveID")?;
    let curve = Curve::from_id(curve).ok_or(CodecError::Unsupported { field: "curveID", found: curve.into() })?;
    match reader.u16("kdf")? {
        algorithm::NULL => Ok(Parameters::Ecc { symmetric, scheme, curve }),
        other => Err(CodecError::Unsupported { field: "kdf", found: other.into() }),
    }
}

fn read_symmetric(reader: &mut Reader<'_>) -> Result<Symmetric, CodecError> {
    match reader.u16("symmetric")? {
        algorithm::NULL => Ok(Symmetric::Null),
        algorithm::AES => {
            let bits = reader.u16("symmetric keyBits")?;
            let unsupported = CodecError::Unsupported { field: "symmetric keyBits", found: bits.into() };
            let bits = AesBits::from_bits(bits).ok_or(unsupported)?;
            match reader.u16("symmetric mode")? {
                algorithm::CFB => Ok(Symmetric::AesCfb(bits)),
                other => Err(CodecError::Unsupported { field: "symmetric mode", found: other.into() }),
            }
        }
        other => Err(CodecError::Unsupported { field: "symmetric", found: other.into() }),
    }
}

impl Area {
    /// The TPMT_PUBLIC with this unique field, which is encoded already.
    fn encode(&self, unique: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut writer = Writer::default();
        let kind = match self.parameters {
            Parameters::Rsa { .. } => algorithm::RSA,
            Parameters::Ecc { .. } => algorithm::ECC,
        };
        writer.u16(kind).u16(self.name_algorithm.id()).u32(self.attributes.bits());
        writer.sized("authPolicy", &self.auth_policy)?;
        match self.parameters.symmetric() {
            Symmetric::Null => writer.u16(algorithm::NULL),
            Symmetric::AesCfb(aes) => writer.u16(algorithm::AES).u16(aes.bits()).u16(algorithm::CFB),
        };
        match self.parameters.scheme() {
            Scheme::Null => writer.u16(algorithm::NULL),
            Scheme::RsaSsa(hash) => writer.u16(algorithm::RSASSA).u16(hash.id()),
            Scheme::RsaPss(hash) => writer.u16(algorithm::RSAPSS).u16(hash.id()),
            Scheme::Oaep(hash) => writer.u16(algorithm::OAEP).u16(hash.id()),
            Scheme::EcDsa(hash) => writer.u16(algorithm::ECDSA).u16(hash.id()),
            Scheme::EcDh(hash) => writer.u16(algorithm::ECDH).u16(hash.id()),
        };
        match self.parameters {
            Parameters::Rsa { bits, exponent, .. } => writer.u16(bits.bits()).u32(exponent),
            Parameters::Ecc { curve, .. } => writer.u16(curve.id()).u16(algorithm::NULL),
        };
        writer.bytes(unique);
        Ok(writer.finish())
    }
}

#[cfg(test)]
mod tests;
