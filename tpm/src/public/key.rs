//! Public keys: as the TPM writes them, and as X.509 does (SubjectPublicKeyInfo).

use thiserror::Error;

use crate::algorithm::Curve;
use crate::codec::{CodecError, Reader};
use crate::der;

use super::RsaBits;

/// A public key, the same value whichever way it was written. That a point lies on its curve is checked where it is
/// used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// An RSA key with the exponent [`super::EXPONENT`].
    Rsa {
        /// As long as `bits` says, its highest bit set.
        modulus: Vec<u8>,
        /// Its length.
        bits: RsaBits,
    },
    /// A point.
    Ecc {
        /// The curve.
        curve: Curve,
        /// As long as the curve's coordinates are.
        x: Vec<u8>,
        /// As long as the curve's coordinates are.
        y: Vec<u8>,
    },
}

/// Why a SubjectPublicKeyInfo gives no key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum SpkiError {
    #[error("the bytes are not a SubjectPublicKeyInfo in DER")]
    Malformed,
    #[error("the algorithm of the key is neither RSA nor EC on P-256, P-384 or P-521")]
    Algorithm,
    #[error("the RSA key has not 2048, 3072 or 4096 bits, or another exponent than 65537")]
    Rsa,
}

/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// id-RSAES-OAEP, 1.2.840.113549.1.1.7: Infineon's older EK certificates have it instead, with parameters.
const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7];
/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// NULL.
const NULL: &[u8] = &[5, 0];
/// The exponent 65537 as a number.
const EXPONENT_BYTES: &[u8] = &[1, 0, 1];

/// The named curve's OID.
const fn curve_oid(curve: Curve) -> &'static [u8] {
    match curve {
        Curve::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        Curve::P384 => &[0x2b, 0x81, 0x04, 0, 34],
        Curve::P521 => &[0x2b, 0x81, 0x04, 0, 35],
    }
}

impl PublicKey {
    /// Reads a TPM2B_PUBLIC_KEY_RSA.
    pub(super) fn read_modulus(reader: &mut Reader<'_>, bits: RsaBits) -> Result<Self, CodecError> {
        let modulus = reader.sized("modulus", bits.modulus_len())?;
        if modulus.len() != bits.modulus_len() || modulus.first().is_none_or(|byte| *byte < 0x80) {
            return Err(CodecError::Value { field: "modulus" });
        }
        Ok(Self::Rsa { modulus: modulus.to_vec(), bits })
    }

    /// Reads a TPMS_ECC_POINT. Some TPMs leave out zeros at the beginning of a coordinate; the key is still the same.
    pub(super) fn read_point(reader: &mut Reader<'_>, curve: Curve) -> Result<Self, CodecError> {
        let x = padded(reader.sized("x", curve.coordinate_len())?, curve);
        let y = padded(reader.sized("y", curve.coordinate_len())?, curve);
        Ok(Self::Ecc { curve, x, y })
    }

    /// As SubjectPublicKeyInfo in DER (RFC 3279 2.3.1, RFC 5480 2).
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        let (algorithm, bits) = match self {
            Self::Rsa { modulus, .. } => (
                [&der::tlv(der::OID, &[RSA_ENCRYPTION]), NULL].concat(),
                der::tlv(der::SEQUENCE, &[&der::unsigned(modulus), &der::unsigned(EXPONENT_BYTES)]),
            ),
            Self::Ecc { curve, .. } => (
                [der::tlv(der::OID, &[EC_PUBLIC_KEY]), der::tlv(der::OID, &[curve_oid(*curve)])].concat(),
                self.library_form(),
            ),
        };
        der::tlv(der::SEQUENCE, &[&der::tlv(der::SEQUENCE, &[&algorithm]), &der::tlv(der::BIT_STRING, &[&[0], &bits])])
    }

    /// The point of a key on P-256: 0x04 and two coordinates (SEC 1 2.3.3).
    #[must_use]
    pub fn p256_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Ecc { curve: Curve::P256, .. } => Some(self.library_form()),
            Self::Ecc { .. } | Self::Rsa { .. } => None,
        }
    }

    /// The key in a SubjectPublicKeyInfo, such as that of an EK certificate. Parameters of RSA algorithms are not
    /// looked at: they do not change the key, and vendors write what they like there.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, SpkiError> {
        let malformed = SpkiError::Malformed;
        let content = der::only(spki, der::SEQUENCE).ok_or(SpkiError::Malformed)?;
        let (algorithm, rest) = der::read(content, der::SEQUENCE).ok_or(SpkiError::Malformed)?;
        let bits = der::only(rest, der::BIT_STRING).and_then(|bits| bits.strip_prefix(&[0])).ok_or(malformed)?;
        let (oid, parameters) = der::read(algorithm, der::OID).ok_or(SpkiError::Malformed)?;
        match oid {
            RSA_ENCRYPTION | RSAES_OAEP => Self::from_rsa_der(bits),
            EC_PUBLIC_KEY => {
                let named = der::only(parameters, der::OID).ok_or(SpkiError::Algorithm)?;
                let curve = Curve::ALL.into_iter().find(|curve| curve_oid(*curve) == named);
                Self::from_point(bits, curve.ok_or(SpkiError::Algorithm)?)
            }
            _ => Err(SpkiError::Algorithm),
        }
    }

    fn from_rsa_der(der: &[u8]) -> Result<Self, SpkiError> {
        let content = der::only(der, der::SEQUENCE).ok_or(SpkiError::Malformed)?;
        let (modulus, rest) = der::read_unsigned(content).ok_or(SpkiError::Malformed)?;
        let (exponent, rest) = der::read_unsigned(rest).ok_or(SpkiError::Malformed)?;
        if !rest.is_empty() {
            return Err(SpkiError::Malformed);
        }
        let bits = u16::try_from(modulus.len().saturating_mul(8)).ok().and_then(RsaBits::from_bits);
        let bits = bits.filter(|_| exponent == EXPONENT_BYTES && modulus.first().is_some_and(|byte| *byte >= 0x80));
        Ok(Self::Rsa { modulus: modulus.to_vec(), bits: bits.ok_or(SpkiError::Rsa)? })
    }

    /// A point that is not compressed (SEC 1 2.3.4).
    fn from_point(point: &[u8], curve: Curve) -> Result<Self, SpkiError> {
        let coordinates = point.strip_prefix(&[4]).filter(|rest| rest.len() == 2 * curve.coordinate_len());
        let (x, y) = coordinates.ok_or(SpkiError::Malformed)?.split_at(curve.coordinate_len());
        Ok(Self::Ecc { curve, x: x.to_vec(), y: y.to_vec() })
    }

    /// As the crypto library takes it beside an algorithm: the modulus, or the point (SEC 1 2.3.3).
    pub(crate) fn library_form(&self) -> Vec<u8> {
        match self {
            Self::Rsa { modulus, .. } => modulus.clone(),
            Self::Ecc { x, y, .. } => [&[4], &x[..], y].concat(),
        }
    }
}

fn padded(bytes: &[u8], curve: Curve) -> Vec<u8> {
    let mut whole = vec![0; curve.coordinate_len().saturating_sub(bytes.len())];
    whole.extend_from_slice(bytes);
    whole
}
