//! What the public area of a sound EK, AK or identity key must say. Each kind is a type that exists only if it does.

use thiserror::Error;

use crate::algorithm::{AesBits, HashAlgorithm};

use super::{Attributes, Public, PublicKey, Scheme, Symmetric, roca};

/// Why a public area is not that of such a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum Unsound {
    #[error("its attribute `{0}` is not set and must be")]
    NotSet(&'static str),
    #[error("its attribute `{0}` is set and must not be")]
    Set(&'static str),
    #[error("it protects what it holds with no symmetric algorithm (`symmetric` is TPM_ALG_NULL)")]
    NoSymmetric,
    #[error("it has a `scheme` and must have none")]
    Scheme,
    #[error("its `scheme` is none for signatures")]
    NoSigningScheme,
    #[error(
        "its RSA key was made by the faulty library of Infineon (ROCA, CVE-2017-15361), and its private part can be computed"
    )]
    Roca,
}

/// What every key must be that is believed to stay in its TPM.
const HELD: Attributes = Attributes::from_bits(
    Attributes::FIXED_TPM.bits() | Attributes::FIXED_PARENT.bits() | Attributes::SENSITIVE_DATA_ORIGIN.bits(),
);

/// The names of attributes are those of the specification; the first that is missing, and the first that is too much. A key whose
/// private part anybody can compute is none, whatever it says of itself.
fn demand(public: &Public, set: Attributes, clear: Attributes) -> Result<(), Unsound> {
    let attributes = public.area().attributes;
    let missing = Attributes::from_bits(set.bits() & !attributes.bits());
    if let Some(name) = missing.names().next() {
        return Err(Unsound::NotSet(name));
    }
    let excess = Attributes::from_bits(clear.bits() & attributes.bits());
    if let Some(name) = excess.names().next() {
        return Err(Unsound::Set(name));
    }
    match public.key() {
        PublicKey::Rsa { modulus, .. } if roca::has_fingerprint(modulus) => Err(Unsound::Roca),
        PublicKey::Rsa { .. } | PublicKey::Ecc { .. } => Ok(()),
    }
}

/// An endorsement key's public area. That it is a real TPM's is established by its certificate, whose key must be this
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ek {
    public: Public,
    symmetric: AesBits,
}

impl Ek {
    /// A restricted key for decryption that cannot leave its TPM (TCG EK Credential Profile, 2.1.5).
    pub fn check(public: Public) -> Result<Self, Unsound> {
        let set = HELD | Attributes::RESTRICTED | Attributes::DECRYPT;
        demand(&public, set, Attributes::SIGN)?;
        let attributes = public.area().attributes;
        if !attributes.contains(Attributes::USER_WITH_AUTH) && !attributes.contains(Attributes::ADMIN_WITH_POLICY) {
            return Err(Unsound::NotSet("adminWithPolicy"));
        }
        if public.area().parameters.scheme() != Scheme::Null {
            return Err(Unsound::Scheme);
        }
        match public.area().parameters.symmetric() {
            Symmetric::AesCfb(symmetric) => Ok(Self { public, symmetric }),
            Symmetric::Null => Err(Unsound::NoSymmetric),
        }
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// The symmetric algorithm by which it protects what is sent to it.
    #[must_use]
    pub const fn symmetric(&self) -> AesBits {
        self.symmetric
    }
}

/// An attestation key's public area. That a TPM holds it is established by a credential made for its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ak {
    public: Public,
    scheme: Scheme,
    hash: HashAlgorithm,
}

impl Ak {
    /// A restricted key for signatures that cannot leave its TPM: it signs what the TPM itself says, and nothing that
    /// looks like it.
    pub fn check(public: Public) -> Result<Self, Unsound> {
        demand(&public, HELD | Attributes::RESTRICTED | Attributes::SIGN, Attributes::DECRYPT)?;
        match public.area().parameters.scheme() {
            scheme @ (Scheme::RsaSsa(hash) | Scheme::RsaPss(hash) | Scheme::EcDsa(hash)) => {
                Ok(Self { public, scheme, hash })
            }
            Scheme::Null | Scheme::Oaep(_) | Scheme::EcDh(_) => Err(Unsound::NoSigningScheme),
        }
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// The scheme of every signature that it makes.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The hash of its scheme.
    #[must_use]
    pub const fn hash(&self) -> HashAlgorithm {
        self.hash
    }
}

/// The public area of a key that a machine's certificate may be for. That a TPM holds it is established by an AK that
/// certifies its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityKey {
    public: Public,
}

impl IdentityKey {
    /// A key for any signatures that cannot leave its TPM.
    pub fn check(public: Public) -> Result<Self, Unsound> {
        demand(&public, HELD | Attributes::SIGN, Attributes::RESTRICTED)?;
        match public.area().parameters.scheme() {
            Scheme::Null | Scheme::RsaSsa(_) | Scheme::RsaPss(_) | Scheme::EcDsa(_) => Ok(Self { public }),
            Scheme::Oaep(_) | Scheme::EcDh(_) => Err(Unsound::NoSigningScheme),
        }
    }

    /// Its public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }
}
