//! `prior-certificate`: a machine that was off past expiry comes back with its last certificate and that key.
//!
//! Evidence: JSON [`PriorCertificate`]. The old key signs the connection's exporter and the new key's digest, so the
//! evidence can neither be moved to another connection nor lent to another key. Claims: `prior_name`,
//! `prior_expired_for` (seconds, 0 while it is still valid).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pki::{AssuranceLevel, Peer, Role, UnixTime};
use wire::enroll::{PRIOR_CERTIFICATE, PRIOR_CERTIFICATE_CONTEXT, PriorCertificate as Body};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Attestor;
use crate::core::{
    admission::lock_kind,
    evidence::{
        Behind, ClaimKind, Claims, Cleared, Code, Context, Found, Grants, Message, Need, Prior, Reject, Replaced,
    },
    records::{Claim, LockKind},
};

/// Most certificates we take along with the leaf: our own chains hold one.
const CHAIN_MAX: usize = 2;

static INVALID: Code = Code::refused("prior-invalid", Some("join again without the old certificate"));

fn invalid(why: &str) -> Reject {
    Reject::new(&INVALID, format!("the prior certificate does not hold: {why}"))
}

/// For a certificate that was replaced.
#[must_use]
pub fn replaced() -> Reject {
    invalid("it was replaced by a newer one")
}

/// The attestor.
pub struct PriorCertificate;

impl Attestor for PriorCertificate {
    fn kind(&self) -> &'static str {
        PRIOR_CERTIFICATE
    }

    fn rejections(&self) -> Vec<Reject> {
        vec![replaced()]
    }

    fn claims(&self) -> &'static [(&'static str, ClaimKind)] {
        &[("prior_name", ClaimKind::Text), ("prior_expired_for", ClaimKind::Number)]
    }

    fn needs(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Vec<Need>, Reject> {
        Ok(vec![Need::Prior(proven(message, context)?.serial)])
    }

    fn behind(&self, message: &Message<'_>, found: &Found, context: &Context<'_>) -> Result<Behind, Reject> {
        let peer = proven(message, context)?;
        let lineage = &prior(found)?.lineage.record;
        let newest = [&lineage.current, &lineage.pending].into_iter().flatten().any(|cert| cert.serial == peer.serial);
        let replaced =
            (!newest).then(|| Replaced { used: peer.serial, lineage: lineage.id.clone(), not_after: peer.not_after });
        let targets = vec![
            (lock_kind(lineage.role), lineage.name.clone()),
            (LockKind::Lineage, lineage.id.clone()),
            (LockKind::Key, peer.key.hex()),
        ];
        Ok(Behind { own: targets.clone(), targets, replaced })
    }

    fn step(&self, message: &Message<'_>, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Claims, Reject> {
        let peer = proven(message, context)?;
        let prior = prior(found)?;
        let lineage = &prior.lineage.record;
        if self.behind(message, found, context)?.replaced.is_some() {
            return Err(replaced());
        }
        // Whether that is too long is for the policy to say: who may not come back at once may wait for a person.
        let expired_for = context.now.since(peer.not_after);
        let subject = prior.subject.as_ref().map(|seen| &seen.record);
        Ok(Claims {
            values: BTreeMap::from([
                ("prior_name".to_owned(), Claim::Text(lineage.name.clone())),
                (
                    "prior_expired_for".to_owned(),
                    Claim::Number(i64::try_from(expired_for.as_secs()).unwrap_or(i64::MAX)),
                ),
            ]),
            // What the old certificate says was proven of another key.
            assurance: AssuranceLevel::Software,
            role: Some(lineage.role),
            names: vec![lineage.name.clone()],
            redeem: vec![],
            grants: Some(Grants {
                labels: subject.map(|subject| subject.labels.clone()).unwrap_or_default(),
                groups: subject.map(|subject| subject.groups.clone()).unwrap_or_default(),
                owner: subject.and_then(|subject| subject.owner.clone()),
                rejoin: Some(prior.clone()),
            }),
        })
    }
}

/// The certificate with what it belongs to, unless that is gone or somebody else's by now.
fn prior(found: &Found) -> Result<&Prior, Reject> {
    let prior = found.prior.as_ref().ok_or_else(|| invalid("this gateway has no record of it"))?;
    let lineage = &prior.lineage.record;
    let holds = prior.subject.as_ref().is_some_and(|subject| subject.record.lineage == lineage.id);
    if lineage.ended || !holds {
        return Err(invalid("its machine was removed"));
    }
    Ok(prior)
}

/// The certificate's holder, proven by the old key on this connection.
fn proven(message: &Message<'_>, context: &Context<'_>) -> Result<Peer, Reject> {
    let body: Body = wire::strict::from_slice(message.body.as_bytes()).map_err(|_| invalid("its JSON is malformed"))?;
    let ders = pki::parse_pem("CERTIFICATE", &body.certificate).map_err(|_| invalid("it is not PEM"))?;
    let (leaf, rest) = ders.split_first().ok_or_else(|| invalid("it is not PEM"))?;
    // Ours come first; what else was sent may hold an older issuing CA of ours.
    let sent = rest.iter().take(CHAIN_MAX).map(Vec::as_slice);
    let intermediates: Vec<&[u8]> = context.issuing.into_iter().chain(sent).collect();
    let peer = verified_in_its_time(leaf, &intermediates, context)?;
    let signature = URL_SAFE_NO_PAD.decode(&body.signature).map_err(|_| invalid("its signature is malformed"))?;
    let key = pki::SubjectKey::from_spki_der(&peer.spki).map_err(|_| invalid("its key is not one we accept"))?;
    let mut signed = PRIOR_CERTIFICATE_CONTEXT.to_vec();
    signed.extend_from_slice(message.exporter);
    signed.extend_from_slice(message.for_key.as_bytes());
    key.verify(&signed, &signature).map_err(|_| invalid("its key did not sign for this connection"))?;
    Ok(peer)
}

/// Verifies the chain at the last second of the certificate's life, or now if it still lives.
fn verified_in_its_time(leaf: &[u8], intermediates: &[&[u8]], context: &Context<'_>) -> Result<Peer, Reject> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| invalid("it is not a certificate"))?;
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).map(UnixTime::new);
    let at = not_after.map_err(|_| invalid("it is not a certificate"))?.min(context.now);
    let roles = [Role::Machine, Role::Person];
    pki::verify_peer(leaf, intermediates, context.anchors, &roles, at)
        .map_err(|_| invalid("this gateway's authority did not issue it"))
}
