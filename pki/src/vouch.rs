//! What a CA vouches for beside the leaves it issues: a statement, signed by an issuing CA's key; and another root, for whose
//! key an older root has made a certificate. Both are for parties that hold roots already and are told of more to believe.
//! Whatever is vouched for has an [`Order`], so that what was vouched for earlier cannot be shown again in its place.

use thiserror::Error;

use crate::anchor::{TrustAnchors, check_root};
use crate::ca::{IssuingCa, Root};
use crate::cert::{CertFault, Certificate};
use crate::draft::IssueError;
use crate::key::SignError;
use crate::name::Role;
use crate::serial::Serial;
use crate::time::UnixTime;

/// What precedes a statement in the bytes that are signed. A certificate or list to be signed begins with an ASN.1 tag (RFC 5280
/// 4.1.1.1), so that neither can be taken for the other.
const CONTEXT: &[u8] = b"lychgate statement v1\0";

/// When something was vouched for, among all that one trust domain vouches for: who takes it remembers the greatest and never
/// goes back. Zero stands for a gateway that says none.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u64);

impl Order {
    /// That number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one for what is vouched for next. With a clock that is believed it is no less than the seconds since the Unix epoch,
    /// so that it goes forward also when the last one was forgotten: in a store that was restored from a backup.
    #[must_use]
    pub fn next(self, now: Option<UnixTime>) -> Self {
        Self(self.0.saturating_add(1).max(now.map_or(0, UnixTime::secs)))
    }

    /// Checks that what comes with this order is no older than what was taken `before`.
    ///
    /// # Errors
    /// [`VouchError::Older`].
    pub const fn check(self, before: Self) -> Result<(), VouchError> {
        if self.0 < before.0 { Err(VouchError::Older { order: self.0, before: before.0 }) } else { Ok(()) }
    }
}

/// Why somebody's word is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VouchError {
    /// The CA's certificate.
    #[error("the CA certificate is refused: {0}")]
    Certificate(#[from] CertFault),
    /// Not a root.
    #[error("it vouches for what is no root: {0}")]
    Root(String),
    /// No root that we hold has made it.
    #[error("no root that is held has signed it")]
    UnknownIssuer,
    /// The CA is for something else.
    #[error("the CA is not the one for {}", wanted.plural())]
    WrongCa {
        /// For whom it should be.
        wanted: Role,
    },
    /// The certificate is for another key, or for a CA below a root.
    #[error("it is not made for that root")]
    OtherRoot,
    /// The signature.
    #[error("the signature does not verify")]
    Signature,
    /// It was vouched for before something that was taken already.
    #[error("it is older than what was heard before (order {order}, heard {before})")]
    Older {
        /// Its order.
        order: u64,
        /// The greatest that was heard.
        before: u64,
    },
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
/// When one of the anchors has not made that CA, it is for another role or out of date, or the signature is another's.
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

/// Verifies that one of the anchors vouches for another root: `cross` is a certificate for that root's key, made by the anchor. What an anchor made for an issuing CA is none: whoever holds that CA's key could sign themselves a root with it.
///
/// # Errors
/// When it is something else, or out of date.
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
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign_statement(&self, statement: &[u8]) -> Result<Vec<u8>, SignError> {
        self.authority().sign_bytes(&[CONTEXT, statement].concat())
    }
}

impl Root {
    /// Vouches for another root of this trust domain, for [`verify_cross`]: the certificate lasts as long as both do.
    ///
    /// # Errors
    /// When that is no root of this trust domain, or the key does not sign.
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
        // A CA of the right root for another role; the same with the right certificate shown.
        let machines = ours.ca(Role::Machine);
        check(machines, machines.cert_der(), b"believe these", Err(VouchError::WrongCa { wanted: Role::Gateway }));
        check(machines, gateways.cert_der(), b"believe these", Err(VouchError::Signature));
        for stranger in [&other, &foreign] {
            let ca = stranger.ca(Role::Gateway);
            check(ca, ca.cert_der(), b"believe these", Err(VouchError::UnknownIssuer));
        }
        // A leaf of the right CA is no CA.
        let leaf = ours.issue("spiffe://lab/machine/a");
        check(gateways, &leaf.der, b"believe these", Err(VouchError::Certificate(CertFault::NotCa)));
        // And not before or after its time.
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
            // The clock was set back, or is not believed.
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
        // For another root than the one that is shown; made by itself; by a stranger.
        check(world().root.cert_der(), &cross, Err(VouchError::OtherRoot));
        check(next.root.cert_der(), next.root.cert_der(), Err(VouchError::UnknownIssuer));
        let by_a_stranger = world().root.cross_certify(next.root.cert_der(), serial(9)).unwrap();
        check(next.root.cert_der(), &by_a_stranger, Err(VouchError::UnknownIssuer));
        assert!(ours.root.cross_certify(foreign.root.cert_der(), serial(9)).is_err());
        // What the root made for an issuing CA makes that CA no root, also when its key signs itself one of that name.
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
