//! The CAs of makers that are trusted, out of a PEM file. Each certificate in it is judged by itself: one that cannot be used is named,
//! and the others count.

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::subject;
use crate::cert::CERT_MAX;
use crate::parsed::{ca_limit, subject_key_id};
use crate::pem::{PemError, parse_pem_each};
use crate::signature;
use crate::time::UnixTime;

/// Most anchors: three times the roots and intermediate CAs of all makers.
pub(super) const ANCHORS_MAX: usize = 512;

/// CAs of makers that are trusted. Any may be an intermediate one: some makers publish no root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EkAnchors(Vec<EkAnchor>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EkAnchor {
    der: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) key_id: Option<Vec<u8>>,
}

/// Why a text gives no anchors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum EkAnchorError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("there are {found} certificates and at most {ANCHORS_MAX} are read")]
    TooMany { found: usize },
    #[error("none of the {found} certificates can be used; the first: {first}")]
    NothingUsable { found: usize, first: EkAnchorFault },
}

/// What is wrong with one certificate of such a text. All but an expired one are left out. The TPMs below an expired one are still its
/// maker's; that it has expired is told of them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum EkAnchorFault {
    #[error("certificate {at} cannot be read: {why}")]
    Pem { at: usize, why: PemError },
    #[error("certificate {at} is not an X.509 certificate")]
    Malformed { at: usize },
    #[error("certificate {at}, of `{subject}`, is not of a CA that may sign certificates")]
    NotCa { at: usize, subject: String },
    #[error("certificate {at}, of `{subject}`, is signed with SHA-1")]
    Sha1 { at: usize, subject: String },
    #[error("certificate {at}, of `{subject}`, expired at {not_after}, and so have the certificates of its TPMs")]
    Expired { at: usize, subject: String, not_after: UnixTime },
}

/// What a text gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkAnchorText {
    /// The anchors that can be used; there is at least one.
    pub anchors: EkAnchors,
    /// What is wrong with the others, and with those that have expired.
    pub faults: Vec<EkAnchorFault>,
}

impl EkAnchorText {
    /// Reads PEM, such as the collections that makers and others publish. The signature on an anchor is not checked: whoever wrote the
    /// file vouches for it. But one with SHA-1 may be of two certificates, and is not taken.
    ///
    /// # Errors
    /// There is nothing in it that can be used.
    pub fn read(text: &str, now: UnixTime) -> Result<Self, EkAnchorError> {
        let ders = parse_pem_each("CERTIFICATE", text)?;
        let found = ders.len();
        if found > ANCHORS_MAX {
            return Err(EkAnchorError::TooMany { found });
        }
        let (mut anchors, mut faults) = (Vec::new(), Vec::new());
        for (der, at) in ders.into_iter().zip(1..) {
            let read = der.map_err(|why| EkAnchorFault::Pem { at, why }).and_then(|der| EkAnchor::read(der, at));
            match read {
                Ok((anchor, subject, not_after)) => {
                    anchors.push(anchor);
                    if not_after < now {
                        faults.push(EkAnchorFault::Expired { at, subject, not_after });
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        match faults.first() {
            Some(first) if anchors.is_empty() => Err(EkAnchorError::NothingUsable { found, first: first.clone() }),
            Some(_) | None => Ok(Self { anchors: EkAnchors(anchors), faults }),
        }
    }
}

impl EkAnchors {
    /// The anchors of a text that can be used.
    ///
    /// # Errors
    /// As [`EkAnchorText::read`].
    pub fn from_pem(text: &str) -> Result<Self, EkAnchorError> {
        EkAnchorText::read(text, UnixTime::new(0)).map(|read| read.anchors)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &EkAnchor> {
        self.0.iter()
    }
}

impl EkAnchor {
    /// With its subject, for people, and its end.
    fn read(der: Vec<u8>, at: usize) -> Result<(Self, String, UnixTime), EkAnchorFault> {
        if der.len() > CERT_MAX {
            return Err(EkAnchorFault::Malformed { at });
        }
        let parsed = parse(&der).ok_or(EkAnchorFault::Malformed { at })?;
        let shown = subject(&parsed);
        if ca_limit(&parsed).is_none() {
            return Err(EkAnchorFault::NotCa { at, subject: shown });
        }
        if signature::is_sha1(&parsed.signature_algorithm) {
            return Err(EkAnchorFault::Sha1 { at, subject: shown });
        }
        let (subject, key_id) = (parsed.subject().as_raw().to_vec(), subject_key_id(&parsed).map(<[u8]>::to_vec));
        let not_after = UnixTime::from_signed(parsed.validity().not_after.timestamp());
        Ok((Self { der, subject, key_id }, shown, not_after))
    }

    /// The certificate, which was read before.
    pub(super) fn parsed(&self) -> Option<X509Certificate<'_>> {
        parse(&self.der)
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}
