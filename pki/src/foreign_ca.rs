//! A CA that is none of ours, as an operator looks at it before trusting it: that of a maker of TPMs.
//!
//! What is read here was said by whoever made the certificate. That it is the maker's is not established: its fingerprint is for a
//! person to compare.

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::parsed::{authority_key_id, ca_limit, subject_key_id};
use crate::shown::shown;
use crate::signature;
use crate::time::UnixTime;

/// The certificate of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCa {
    der: Vec<u8>,
    subject: String,
    /// Subject and issuer, each by name as it came, and by key identifier.
    own: CaNames,
    issuer: CaNames,
    sha256: [u8; 32],
    not_before: UnixTime,
    not_after: UnixTime,
    sha1: bool,
}

/// What a CA is called in certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CaNames {
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
}

/// Why a certificate is not one of a CA.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum ForeignCaError {
    #[error("it is not an X.509 certificate")]
    Malformed,
    #[error("{bytes} bytes follow the certificate")]
    TrailingBytes { bytes: usize },
    #[error("the certificate of `{subject}` is not one of a CA that may sign certificates")]
    NotCa { subject: String },
}

impl ForeignCa {
    /// Reads a certificate, DER.
    ///
    /// # Errors
    /// It cannot be read, or it is not one of a CA (RFC 5280 4.2.1.3, 4.2.1.9).
    pub fn read(der: &[u8]) -> Result<Self, ForeignCaError> {
        let (rest, cert) = X509Certificate::from_der(der).map_err(|_| ForeignCaError::Malformed)?;
        if !rest.is_empty() {
            return Err(ForeignCaError::TrailingBytes { bytes: rest.len() });
        }
        let subject = shown(&cert.subject().to_string());
        if ca_limit(&cert).is_none() {
            return Err(ForeignCaError::NotCa { subject });
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, der).as_ref());
        Ok(Self {
            own: CaNames { name: cert.subject().as_raw().to_vec(), key_id: subject_key_id(&cert).map(<[u8]>::to_vec) },
            issuer: CaNames {
                name: cert.issuer().as_raw().to_vec(),
                key_id: authority_key_id(&cert).map(<[u8]>::to_vec),
            },
            not_before: UnixTime::from_signed(cert.validity().not_before.timestamp()),
            not_after: UnixTime::from_signed(cert.validity().not_after.timestamp()),
            sha1: signature::is_sha1(&cert.signature_algorithm),
            der: der.to_vec(),
            subject,
            sha256,
        })
    }

    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its name, as texts show it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Begin of its validity.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// End of its validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Whether its own signature is over a digest of SHA-1.
    #[must_use]
    pub const fn is_signed_with_sha1(&self) -> bool {
        self.sha1
    }

    /// Whether this CA signed the certificate of `other`. By name or key identifier it may have (makers write one name in two ways), and
    /// the signature decides. Validity and limits of paths are not checked.
    #[must_use]
    pub fn issued(&self, other: &Self) -> bool {
        let by_key = other.issuer.key_id.is_some() && self.own.key_id == other.issuer.key_id;
        if self.own.name != other.issuer.name && !by_key {
            return false;
        }
        match (X509Certificate::from_der(&self.der), X509Certificate::from_der(&other.der)) {
            (Ok((_, ca)), Ok((_, cert))) => signature::verify(&cert, ca.public_key()).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Role;
    use crate::testing::{NOW, world, world_named};

    #[test]
    fn a_ca_is_read_and_nothing_else_is() {
        let world = world();
        let (root, leaf) = (world.root.cert_der(), world.issue("spiffe://lab/machine/m").der);
        let ca = ForeignCa::read(root).unwrap();
        assert_eq!((ca.der(), ca.is_signed_with_sha1()), (root, false));
        assert_eq!(ca.sha256()[..], *digest(&SHA256, root).as_ref());
        assert!(ca.not_before() <= NOW && NOW < ca.not_after());
        assert!(matches!(ForeignCa::read(&leaf), Err(ForeignCaError::NotCa { .. })));
        assert_eq!(ForeignCa::read(&[root, &[0][..]].concat()), Err(ForeignCaError::TrailingBytes { bytes: 1 }));
        assert_eq!(ForeignCa::read(&root[..root.len() - 1]), Err(ForeignCaError::Malformed));
    }

    #[test]
    fn who_signed_whom_is_seen_by_the_signature() {
        let (ours, other) = (world(), world_named("maker"));
        let read = |der: &[u8]| ForeignCa::read(der).unwrap();
        let (root, machine) = (read(ours.root.cert_der()), read(ours.ca(Role::Machine).cert_der()));
        assert!(root.issued(&machine) && root.issued(&root));
        assert!(!machine.issued(&root) && !read(other.root.cert_der()).issued(&machine));
        // the same name, another key
        let namesake = world();
        assert!(!read(namesake.root.cert_der()).issued(&machine));
    }
}
