//! What CAs sign beside leaves: statements, signed with an issuing CA's key, and cross certificates, by which an older root
//! certifies the key of another root. Both extend what clients trust that hold a root already. Each has an [`Order`], so that an
//! older one cannot be replayed.

use thiserror::Error;

use crate::anchor::{TrustAnchors, check_root};
use crate::ca::{IssuingCa, Root};
use crate::cert::{CertFault, Certificate};
use crate::draft::IssueError;
use crate::key::SignError;
use crate::name::Role;
use crate::serial::Serial;
use crate::time::UnixTime;

/// Domain separation: prefix of the signed bytes of a statement. The signed bytes of a certificate or list begin with an ASN.1 tag
/// (RFC 5280 4.1.1.1), so neither can be taken for the other.
const CONTEXT: &[u8] = b"lychgate statement v1\0";

/// Sequence number of a trust domain's statements and cross certificates. A client stores the greatest that it accepted and
/// refuses smaller ones. Zero comes from a gateway that sends none.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u64);

impl Order {
    /// From the number that was sent or stored.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number to send or store.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The next number. With a trusted clock it is at least the seconds since the Unix epoch, so that it grows also when the last
    /// number was lost because the store was restored from a backup.
    #[must_use]
    pub fn next(self, now: Option<UnixTime>) -> Self {
        Self(self.0.saturating_add(1).max(now.map_or(0, UnixTime::secs)))
    }

    /// Fails if this is smaller than `before`, the greatest that was accepted.
    pub const fn check(self, before: Self) -> Result<(), VouchError> {
        if self.0 < before.0 { Err(VouchError::Older { order: self.0, before: before.0 }) } else { Ok(()) }
    }
}

/// Why a statement or cross certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum VouchError {
    #[error("the CA certificate is refused: {0}")]
    Certificate(#[from] CertFault),
    #[error("the certificate it vouches for is not a root: {0}")]
    Root(String),
    #[error("no root that is held has signed it")]
    UnknownIssuer,
    #[error("the CA is not the one for {}", wanted.plural())]
    WrongCa { wanted: Role },
    /// The cross certificate is for another key, or for a CA below a root.
    #[error("it is not made for that root")]
    OtherRoot,
    #[error("the signature does not verify")]
    Signature,
    #[error("it is older than one accepted before (order {order}, accepted {before})")]
    Older { order: u64, before: u64 },
}

fn signed_by_an_anchor(cert: &Certificate<'_>, anchors: &TrustAnchors, now: UnixTime) -> Result<(), VouchError> {
    let made_it = |root: &[u8]| {
        Certificate::read(root).is_ok_and(|root| root.check_time(now).is_ok() && cert.is_signed_by(&root))
    };
    if anchors.roots().any(made_it) { Ok(()) } else { Err(VouchError::UnknownIssuer) }
}

/// Verifies that the issuing CA for `role`, whose certificate is `ca`, signed `statement`.
///
/// # Errors
/// When the CA does not chain to an anchor, is for another role or not valid at `now`, or the signature does not verify.
pub fn verify_statement(
    statement: &[u8],
    signature: &[u8],
    ca: &[u8],
    role: Role,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<(), VouchError> {
    let ca = Certificate::read(ca)?;
    ca.check_issuer()?;
    ca.check_time(now)?;
    signed_by_an_anchor(&ca, anchors, now)?;
    if ca.role_markers() != [role] || ca.path_len() != Some(0) || ca.ca_domain().as_ref() != Some(anchors.domain()) {
        return Err(VouchError::WrongCa { wanted: role });
    }
    ca.key().verify(&[CONTEXT, statement].concat(), signature).map_err(|_| VouchError::Signature)
}

/// Verifies that one of the anchors has certified the key of `root`: `cross` is that certificate. A certificate of an issuing CA
/// is refused as `cross`: the holder of that CA's key could otherwise make it a root.
pub fn verify_cross(root: &[u8], cross: &[u8], anchors: &TrustAnchors, now: UnixTime) -> Result<(), VouchError> {
    let root = check_root(root).map_err(|error| VouchError::Root(error.to_string()))?;
    let cross = Certificate::read(cross)?;
    cross.check_issuer()?;
    cross.check_time(now)?;
    let below = !cross.role_markers().is_empty() || cross.path_len() == Some(0);
    if below || cross.key() != root.key() || root.ca_domain().as_ref() != Some(anchors.domain()) {
        return Err(VouchError::OtherRoot);
    }
    signed_by_an_anchor(&cross, anchors, now)
}

impl IssuingCa {
    /// Signs a statement, for [`verify_statement`].
    pub fn sign_statement(&self, statement: &[u8]) -> Result<Vec<u8>, SignError> {
        self.authority().sign_bytes(&[CONTEXT, statement].concat())
    }
}

impl Root {
    /// Certifies the key of another root of this trust domain, for [`verify_cross`]. The certificate is valid while both roots are.
    pub fn cross_certify(&self, other: &[u8], serial: Serial) -> Result<Vec<u8>, IssueError> {
        let refused = |why: String| IssueError::Encoding(format!("the other root: {why}"));
        let root = check_root(other).map_err(|error| refused(error.to_string()))?;
        if root.ca_domain().as_ref() != Some(self.domain()) {
            return Err(refused("it is of another trust domain".to_owned()));
        }
        self.certify_root(&root, serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, key, serial, world, world_named};

    #[test]
    fn statements() {
        let (ours, other, foreign) = (world(), world(), world_named("elsewhere"));
        let check = |signer: &IssuingCa, shown: &[u8], said: &[u8], want: Result<(), VouchError>| {
            let signature = signer.sign_statement(b"believe these").unwrap();
            assert_eq!(verify_statement(said, &signature, shown, Role::Gateway, &ours.anchors(), NOW), want);
        };
        let gateways = ours.ca(Role::Gateway);
        check(gateways, gateways.cert_der(), b"believe these", Ok(()));
        check(gateways, gateways.cert_der(), b"believe those", Err(VouchError::Signature));
        // A CA of the right root for another role; the same signature with the certificate of the right CA.
        let machines = ours.ca(Role::Machine);
        check(machines, machines.cert_der(), b"believe these", Err(VouchError::WrongCa { wanted: Role::Gateway }));
        check(machines, gateways.cert_der(), b"believe these", Err(VouchError::Signature));
        for stranger in [&other, &foreign] {
            let ca = stranger.ca(Role::Gateway);
            check(ca, ca.cert_der(), b"believe these", Err(VouchError::UnknownIssuer));
        }
        // A leaf of the right CA is not a CA.
        let leaf = ours.issue("spiffe://lab/machine/a");
        check(gateways, &leaf.der, b"believe these", Err(VouchError::Certificate(CertFault::NotCa)));
        // Before and after its validity.
        let signature = gateways.sign_statement(b"x").unwrap();
        for when in [UnixTime::new(0), gateways.not_after().plus(std::time::Duration::from_secs(1))] {
            let outcome = verify_statement(b"x", &signature, gateways.cert_der(), Role::Gateway, &ours.anchors(), when);
            assert!(matches!(outcome, Err(VouchError::Certificate(_))), "{outcome:?}");
        }
    }

    #[test]
    fn the_order_goes_forward() {
        let now = |secs| Some(UnixTime::new(secs));
        for (last, now, want) in [
            (0, now(1_000), 1_000),
            (1_000, now(1_000), 1_001),
            (1_000, now(2_000), 2_000),
            // The clock was set back, or is not trusted.
            (1_000, now(10), 1_001),
            (1_000, None, 1_001),
            (u64::MAX, None, u64::MAX),
        ] {
            assert_eq!(Order::new(last).next(now).number(), want, "{last} {now:?}");
        }
        for (order, before, ok) in
            [(0, 0, true), (5, 0, true), (5, 5, true), (6, 5, true), (4, 5, false), (0, 5, false)]
        {
            let want = if ok { Ok(()) } else { Err(VouchError::Older { order, before }) };
            assert_eq!(Order::new(order).check(Order::new(before)), want);
        }
    }

    #[test]
    fn another_root() {
        let (ours, next, foreign) = (world(), world(), world_named("elsewhere"));
        let check = |root: &[u8], cross: &[u8], want: Result<(), VouchError>| {
            assert_eq!(verify_cross(root, cross, &ours.anchors(), NOW), want);
        };
        let cross = ours.root.cross_certify(next.root.cert_der(), serial(9)).unwrap();
        check(next.root.cert_der(), &cross, Ok(()));
        // For another root; self-signed; by an unknown root.
        check(world().root.cert_der(), &cross, Err(VouchError::OtherRoot));
        check(next.root.cert_der(), next.root.cert_der(), Err(VouchError::UnknownIssuer));
        let by_a_stranger = world().root.cross_certify(next.root.cert_der(), serial(9)).unwrap();
        check(next.root.cert_der(), &by_a_stranger, Err(VouchError::UnknownIssuer));
        assert!(ours.root.cross_certify(foreign.root.cert_der(), serial(9)).is_err());
        // The certificate of an issuing CA, also when its key has signed a root of that name.
        let issuing = key();
        let below = ours.root.issue_ca(Role::Gateway, issuing, serial(3), NOW).unwrap();
        check(next.root.cert_der(), below.cert_der(), Err(VouchError::OtherRoot));
        check(
            below.cert_der(),
            below.cert_der(),
            Err(VouchError::Root("root certificate 1 is not signed by its own key".into())),
        );
    }
}
