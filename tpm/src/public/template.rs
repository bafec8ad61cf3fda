//! The templates from which TPMs make their EKs, and those of our own keys (TCG EK Credential Profile for TPM 2.0, B.3 and B.4). A
//! TPM that is given the template of a certificate makes the certified key again, as often as it is asked.

use crate::algorithm::{AesBits, Curve, HashAlgorithm};
use crate::codec::{CodecError, Writer};

use super::{Area, Attributes, Parameters, RsaBits, Scheme, Symmetric};

/// A standard EK.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Template {
    /// RSA-2048 in the low range.
    L1,
    /// P-256 in the low range.
    L2,
    /// RSA-2048.
    H1,
    /// P-256.
    H2,
    /// P-384.
    H3,
    /// P-521.
    H4,
    /// RSA-3072.
    H6,
    /// RSA-4096.
    H7,
}

/// How a TPM lets its EK be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EkAuthorization {
    /// By a policy session with TPM2_PolicySecret of the endorsement hierarchy. Its password is refused.
    PolicySecret,
    /// By its password, which is empty. The policy is an alternative to it, for administrators.
    EmptyPassword,
}

impl Template {
    /// All but that of SM2, which is not supported (H-5).
    pub const ALL: [Self; 8] = [Self::L1, Self::L2, Self::H1, Self::H2, Self::H3, Self::H4, Self::H6, Self::H7];

    /// Its name in the profile.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "L-1",
            Self::L2 => "L-2",
            Self::H1 => "H-1",
            Self::H2 => "H-2",
            Self::H3 => "H-3",
            Self::H4 => "H-4",
            Self::H6 => "H-6",
            Self::H7 => "H-7",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name() == name)
    }

    /// The index in NV memory of the certificate (2.2.1.4).
    #[must_use]
    pub const fn certificate_index(self) -> u32 {
        match self {
            Self::L1 => 0x01c0_0002,
            Self::L2 => 0x01c0_000a,
            Self::H1 => 0x01c0_0012,
            Self::H2 => 0x01c0_0014,
            Self::H3 => 0x01c0_0016,
            Self::H4 => 0x01c0_0018,
            Self::H6 => 0x01c0_001c,
            Self::H7 => 0x01c0_001e,
        }
    }

    /// The index in NV memory of a nonce that replaces the beginning of the unique field, if there is one.
    #[must_use]
    pub const fn nonce_index(self) -> Option<u32> {
        match self {
            Self::L1 => Some(0x01c0_0003),
            Self::L2 => Some(0x01c0_000b),
            Self::H1 | Self::H2 | Self::H3 | Self::H4 | Self::H6 | Self::H7 => None,
        }
    }

    /// How the EK is used. Each range refuses what the other one takes.
    #[must_use]
    pub const fn authorization(self) -> EkAuthorization {
        match self {
            Self::L1 | Self::L2 => EkAuthorization::PolicySecret,
            Self::H1 | Self::H2 | Self::H3 | Self::H4 | Self::H6 | Self::H7 => EkAuthorization::EmptyPassword,
        }
    }

    /// The public area without its key.
    #[must_use]
    pub fn area(self) -> Area {
        let (name_algorithm, aes) = match self {
            Self::L1 | Self::L2 | Self::H1 | Self::H2 => (HashAlgorithm::Sha256, AesBits::Aes128),
            Self::H3 | Self::H6 | Self::H7 => (HashAlgorithm::Sha384, AesBits::Aes256),
            Self::H4 => (HashAlgorithm::Sha512, AesBits::Aes256),
        };
        let (symmetric, scheme) = (Symmetric::AesCfb(aes), Scheme::Null);
        let rsa = |bits| Parameters::Rsa { symmetric, scheme, bits, exponent: 0 };
        let ecc = |curve| Parameters::Ecc { symmetric, scheme, curve };
        let parameters = match self {
            Self::L1 | Self::H1 => rsa(RsaBits::Rsa2048),
            Self::L2 | Self::H2 => ecc(Curve::P256),
            Self::H3 => ecc(Curve::P384),
            Self::H4 => ecc(Curve::P521),
            Self::H6 => rsa(RsaBits::Rsa3072),
            Self::H7 => rsa(RsaBits::Rsa4096),
        };
        let (attributes, auth_policy) = match self.authorization() {
            EkAuthorization::PolicySecret => (COMMON, policy_a(name_algorithm)),
            EkAuthorization::EmptyPassword => (COMMON | Attributes::USER_WITH_AUTH, policy_b(name_algorithm)),
        };
        Area { name_algorithm, attributes, auth_policy, parameters }
    }

    /// The TPMT_PUBLIC that makes the EK. `nonce` is what the TPM has at [`Template::nonce_index`], or empty.
    pub fn encode(self, nonce: &[u8]) -> Result<Vec<u8>, CodecError> {
        let area = self.area();
        let mut unique = Writer::default();
        match (self.nonce_index(), area.parameters) {
            (Some(_), Parameters::Rsa { bits, .. }) => {
                unique.sized("unique", &filled(nonce, bits.modulus_len())?)?;
            }
            (Some(_), Parameters::Ecc { curve, .. }) => {
                let len = curve.coordinate_len();
                unique.sized("unique x", &filled(nonce, len)?)?.sized("unique y", &vec![0; len])?;
            }
            (None, Parameters::Rsa { .. }) => {
                unique.sized("unique", &[])?;
            }
            (None, Parameters::Ecc { .. }) => {
                unique.sized("unique x", &[])?.sized("unique y", &[])?;
            }
        }
        area.encode(&unique.finish())
    }
}

/// The AKs that this client makes. A TPM makes the same one from its template as often as it is asked, so that none is stored, and an
/// answer fits its challenge also when another process gives it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AkTemplate {
    /// ECDSA on P-256.
    P256,
    /// RSASSA-PKCS1-v1_5 with RSA-2048.
    Rsa2048,
}

impl AkTemplate {
    /// All of them, the faster one first.
    pub const ALL: [Self; 2] = [Self::P256, Self::Rsa2048];

    /// The TPMT_PUBLIC that makes the AK, signing with SHA-256.
    pub fn encode(self) -> Result<Vec<u8>, CodecError> {
        let hash = HashAlgorithm::Sha256;
        let symmetric = Symmetric::Null;
        let (parameters, unique) = match self {
            Self::P256 => (Parameters::Ecc { symmetric, scheme: Scheme::EcDsa(hash), curve: Curve::P256 }, vec![0; 4]),
            Self::Rsa2048 => {
                let (scheme, bits) = (Scheme::RsaSsa(hash), RsaBits::Rsa2048);
                (Parameters::Rsa { symmetric, scheme, bits, exponent: 0 }, vec![0; 2])
            }
        };
        let attributes = OURS | Attributes::RESTRICTED | Attributes::SIGN;
        Area { name_algorithm: hash, attributes, auth_policy: Vec::new(), parameters }.encode(&unique)
    }
}

/// What every key of ours is: made by the TPM, kept by it, without a password.
const OURS: Attributes = Attributes::from_bits(
    Attributes::FIXED_TPM.bits()
        | Attributes::FIXED_PARENT.bits()
        | Attributes::SENSITIVE_DATA_ORIGIN.bits()
        | Attributes::USER_WITH_AUTH.bits()
        | Attributes::NO_DA.bits(),
);

/// The TPMT_PUBLIC of the storage key below which keys in files are, if the file names the storage hierarchy as their parent (ASN.1
/// Specification for TPM 2.0 Key Files, 3.1.8). It is on P-256, and the TPM makes the same one each time until it is cleared.
pub fn storage_key() -> Result<Vec<u8>, CodecError> {
    let parameters =
        Parameters::Ecc { symmetric: Symmetric::AesCfb(AesBits::Aes128), scheme: Scheme::Null, curve: Curve::P256 };
    let attributes = OURS | Attributes::RESTRICTED | Attributes::DECRYPT;
    Area { name_algorithm: HashAlgorithm::Sha256, attributes, auth_policy: Vec::new(), parameters }.encode(&[0; 4])
}

/// The TPMT_PUBLIC from which an identity key is made: on P-256, for signatures in whatever scheme its user names.
pub fn identity_key() -> Result<Vec<u8>, CodecError> {
    let parameters = Parameters::Ecc { symmetric: Symmetric::Null, scheme: Scheme::Null, curve: Curve::P256 };
    let attributes = OURS | Attributes::SIGN;
    Area { name_algorithm: HashAlgorithm::Sha256, attributes, auth_policy: Vec::new(), parameters }.encode(&[0; 4])
}

/// The nonce, and zeros after it.
fn filled(nonce: &[u8], len: usize) -> Result<Vec<u8>, CodecError> {
    if nonce.len() > len {
        return Err(CodecError::TooLong { field: "nonce", found: nonce.len(), most: len });
    }
    let mut unique = nonce.to_vec();
    unique.resize(len, 0);
    Ok(unique)
}

/// The attributes of both ranges.
const COMMON: Attributes = Attributes::from_bits(
    Attributes::FIXED_TPM.bits()
        | Attributes::FIXED_PARENT.bits()
        | Attributes::SENSITIVE_DATA_ORIGIN.bits()
        | Attributes::ADMIN_WITH_POLICY.bits()
        | Attributes::RESTRICTED.bits()
        | Attributes::DECRYPT.bits(),
);

/// TPM_CC_PolicySecret.
const POLICY_SECRET: u32 = 0x0000_0151;
/// TPM_CC_PolicyOR.
const POLICY_OR: u32 = 0x0000_0171;
/// TPM_CC_PolicyAuthorizeNV.
const POLICY_AUTHORIZE_NV: u32 = 0x0000_0192;
/// TPM_RH_ENDORSEMENT.
const ENDORSEMENT: u32 = 0x4000_000b;
/// The attributes of the NV indices that hold policies for EKs (B.6.3).
const POLICY_INDEX_ATTRIBUTES: u32 = 0x220f_1008;

/// Policy A: TPM2_PolicySecret of the endorsement hierarchy (B.6.2).
fn policy_a(hash: HashAlgorithm) -> Vec<u8> {
    let zeros = vec![0; hash.digest_len()];
    let asserted = hash.digest(&[&zeros, &POLICY_SECRET.to_be_bytes(), &ENDORSEMENT.to_be_bytes()]);
    // The reference of the policy is empty, and is hashed apart.
    hash.digest(&[&asserted])
}

/// Policy C: whatever policy the NV index for this hash holds (B.6.4).
fn policy_c(hash: HashAlgorithm) -> Vec<u8> {
    let (index, size): (u32, u16) = match hash {
        HashAlgorithm::Sha256 => (0x01c0_7f01, 2 + 32),
        HashAlgorithm::Sha384 => (0x01c0_7f02, 2 + 48),
        HashAlgorithm::Sha512 => (0x01c0_7f03, 2 + 64),
    };
    let policy = policy_a(hash);
    // TPMS_NV_PUBLIC. `size` is that of a digest with its algorithm.
    let mut public = Writer::default();
    public.u32(index).u16(hash.id()).u32(POLICY_INDEX_ATTRIBUTES);
    public.u16(size - 2).bytes(&policy).u16(size);
    let name = [&hash.id().to_be_bytes()[..], &hash.digest(&[&public.finish()])].concat();
    hash.digest(&[&vec![0; hash.digest_len()], &POLICY_AUTHORIZE_NV.to_be_bytes(), &name])
}

/// Policy B: A or C (B.6.5).
fn policy_b(hash: HashAlgorithm) -> Vec<u8> {
    let zeros = vec![0; hash.digest_len()];
    hash.digest(&[&zeros, &POLICY_OR.to_be_bytes(), &policy_a(hash), &policy_c(hash)])
}
