//! Why a certificate of another CA is rejected.

use pki::{PathError, RevocationError, UnixTime};

use crate::core::evidence::{Reject, RejectionCode};

static MALFORMED: RejectionCode = RejectionCode::malformed("x509-malformed", None);
static SIGNATURE: RejectionCode = RejectionCode::refused(
    "x509-signature",
    Some("sign the four lines for this connection and key with the key of the first certificate"),
);
static CERTIFICATE: RejectionCode = RejectionCode::refused(
    "x509-certificate",
    Some(
        "show a device's certificate whose key signs: RSA of 2048 to 4096 bits, EC on P-256, P-384 or P-521, or Ed25519",
    ),
);
static ISSUER: RejectionCode = RejectionCode::refused(
    "x509-issuer",
    Some("send the CAs above the certificate too, or ask the operator whether the gateway should know its issuer"),
);
static PATH: RejectionCode =
    RejectionCode::refused("x509-path", Some("send the CAs above the certificate, or ask its issuer for another"));
static TIME: RejectionCode = RejectionCode::refused(
    "x509-time",
    Some("renew the certificate, and compare the clocks of this machine and the gateway"),
);
static REQUIREMENT: RejectionCode = RejectionCode::refused(
    "x509-requirement",
    Some("show another certificate of this issuer, or ask the operator what the gateway requires of it"),
);
static REVOKED: RejectionCode = RejectionCode::refused("x509-revoked", Some("ask the issuer of the certificate why"));
static NAMES: RejectionCode = RejectionCode::refused(
    "x509-names",
    Some("ask the operator about `name` and `domain` of this issuer in the gateway's configuration"),
);
static UNCHECKED: RejectionCode =
    RejectionCode::refused("x509-unchecked", Some("try again later; the gateway's log says what it misses"));

pub(super) fn malformed(why: &str) -> Reject {
    Reject::new(&MALFORMED, format!("the certificate cannot be judged: {why}"))
}

pub(super) fn signature() -> Reject {
    Reject::new(
        &SIGNATURE,
        "the signature does not fit the certificate, the key to be certified, the connection or this gateway",
    )
}

pub(super) fn other_issuer(issuer: &str) -> Reject {
    Reject::new(&ISSUER, format!("the certificate does not lead to an issuer that this gateway knows, but to {issuer}"))
}

pub(super) fn no_name(names: &[String]) -> Reject {
    let text = if names.is_empty() {
        "the certificate has no name that a machine here could be called by".to_owned()
    } else {
        format!("the certificate is for {}, and none of these is a name for a machine here", names.join(", "))
    };
    Reject::new(&NAMES, text)
}

/// Whether it was revoked meanwhile is not known.
pub(super) fn unchecked() -> Reject {
    Reject::new(&UNCHECKED, "whether the certificate still holds cannot be checked at this gateway now")
}

/// For the one [`RevocationError`] that is about the certificate and not about the lists.
pub(super) fn revoked(error: &RevocationError) -> Reject {
    Reject::new(&REVOKED, error.to_string())
}

pub(super) fn is_revoked(reject: &Reject) -> bool {
    reject.code == &REVOKED
}

pub(super) fn is_other_issuer(reject: &Reject) -> bool {
    reject.code == &ISSUER
}

impl From<PathError> for Reject {
    fn from(error: PathError) -> Self {
        use PathError as P;
        let code = match &error {
            P::Empty
            | P::TooMany { .. }
            | P::TooLong { .. }
            | P::Malformed { .. }
            | P::TrailingBytes { .. }
            | P::Extensions { .. }
            | P::BadExtension { .. } => return malformed(&error.to_string()),
            P::UnknownIssuer { issuer } => return other_issuer(&format!("`{issuer}`")),
            P::LeafIsCa | P::LeafKeyUsage | P::LeafKey => &CERTIFICATE,
            P::NotYetValid { .. } | P::Expired { .. } => &TIME,
            P::UnknownCritical { .. }
            | P::Sha1 { .. }
            | P::Algorithm { .. }
            | P::Signature { .. }
            | P::IssuerKey { .. }
            | P::NotCa { .. }
            | P::PathLength { .. }
            | P::TooDeep
            | P::TooMuch
            | P::Constrained { .. }
            | P::ConstraintForm { .. }
            | P::Constraints { .. }
            | P::NoPolicy => &PATH,
            P::PolicyMissing { .. } | P::UsageMissing { .. } | P::UsageBarred { .. } => &REQUIREMENT,
        };
        Self::new(code, error.to_string())
    }
}

pub(super) fn rejections() -> Vec<Reject> {
    let subject = || "CN=web1".to_owned();
    let (at, oid) = (UnixTime::new(1_000_000), || "1.3.6.1.5.5.7.3.2".to_owned());
    vec![
        malformed("its JSON is malformed"),
        PathError::TooMany { found: 9 }.into(),
        PathError::BadExtension { at: 1, oid: oid() }.into(),
        signature(),
        PathError::LeafIsCa.into(),
        PathError::LeafKeyUsage.into(),
        PathError::LeafKey.into(),
        PathError::UnknownIssuer { issuer: subject() }.into(),
        PathError::Expired { subject: subject(), at }.into(),
        PathError::NotYetValid { subject: subject(), from: at }.into(),
        PathError::UnknownCritical { subject: subject(), oid: oid() }.into(),
        PathError::Sha1 { subject: subject() }.into(),
        PathError::Algorithm { subject: subject() }.into(),
        PathError::Signature { subject: subject() }.into(),
        PathError::IssuerKey { subject: subject() }.into(),
        PathError::NotCa { subject: subject() }.into(),
        PathError::PathLength { subject: subject(), below: 1 }.into(),
        PathError::TooDeep.into(),
        PathError::TooMuch.into(),
        PathError::Constrained { by: subject(), name: "web1.example.com".to_owned() }.into(),
        PathError::ConstraintForm { by: subject(), name: "web1.example.com".to_owned() }.into(),
        PathError::Constraints { by: subject() }.into(),
        PathError::NoPolicy.into(),
        PathError::PolicyMissing { oid: oid() }.into(),
        PathError::UsageMissing { oid: oid() }.into(),
        PathError::UsageBarred { subject: subject(), oid: oid() }.into(),
        revoked(&RevocationError::Revoked { subject: subject() }),
        no_name(&["web1.example.com".to_owned()]),
        no_name(&[]),
        unchecked(),
    ]
}
