//! `prior-certificate`: a machine whose certificate expired while it was off rejoins with that certificate and its key.
//!
//! Evidence: JSON [`PriorCertificate`]. The old key signs the connection's exporter value and the new key's digest, so the
//! evidence is bound to this connection and the new key. Claims: `prior_name`, `prior_expired_for` (seconds, 0 while it is
//! valid). It does not establish where the old key is stored.
//!
//! [`PriorCertificate`]: Body

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pki::{Assurance, Identity, Peer, Role, UnixTime};
use wire::evidence::{PRIOR_CERTIFICATE, PRIOR_CERTIFICATE_CONTEXT, PriorCertificate as Body};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Attestor, Built, Case, Renewal, Row, switched};
use crate::core::{
    admission::{self, ShownAgain, lock_kind},
    evidence::{
        ClaimKind, Claims, Cleared, Context, Continues, FollowUp, Found, Grants, Message, Need, Reject, Rejected,
        RejectionCode, RestsOn, Section, Step, Vouched,
    },
    keys,
    lock::Locks,
    name,
    records::{Certificate, Claim, Lineage, LockKind, Seen, Stale, Subject},
    refusal::Refusal,
};

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: PRIOR_CERTIFICATE,
    prefix: "prior",
    claims: &[("name", ClaimKind::Text), ("expired_for", ClaimKind::Number)],
    renewal: Renewal::OnlyAdmits,
    asks: false,
    device: None,
    rejections,
    build,
};

fn build(section: Option<&Section>) -> Built {
    switched(section, PriorCertificate)
}

/// Most certificates that are used of the chain after the leaf: our own chains have one.
const CHAIN_MAX: usize = 2;

static INVALID: RejectionCode = RejectionCode::refused("prior-invalid", Some("join again without the old certificate"));

fn invalid(why: &str) -> Reject {
    Reject::new(&INVALID, format!("the prior certificate does not hold: {why}"))
}

/// The rejection of a certificate that was replaced.
fn replaced() -> Reject {
    invalid("it was replaced by a newer one")
}

fn rejections() -> Vec<Reject> {
    vec![replaced()]
}

struct PriorCertificate;

impl Attestor for PriorCertificate {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        Ok(Box::new(ProvenHolder { peer: proven(message, context)? }))
    }
}

/// The certificate's holder, who has proven possession of the old key on this connection.
struct ProvenHolder {
    peer: Peer,
}

/// Indices of the records in [`Found`].
const CERTIFICATE: usize = 0;
const LINEAGE: usize = 1;
const SUBJECT: usize = 2;
const STALE: usize = 3;
const EPOCH: usize = 4;
/// The subject under its present name, if it was renamed since the certificate was issued.
const RENAMED: usize = 5;

/// The records of the certificate.
struct Prior {
    lineage: Seen<Lineage>,
    subject: Seen<Subject>,
}

impl ProvenHolder {
    /// The certificate's records. Fails if they were removed, or if the name belongs to another lineage now.
    fn prior(&self, found: &Found) -> Result<Prior, Reject> {
        let unknown = || invalid("this gateway has no record of it");
        found.record::<Certificate>(CERTIFICATE).ok_or_else(unknown)?;
        let lineage = found.record::<Lineage>(LINEAGE).ok_or_else(unknown)?;
        let at = if found.len() > RENAMED { RENAMED } else { SUBJECT };
        let subject = found.record::<Subject>(at);
        let subject = subject.filter(|seen| seen.record.lineage == lineage.record.id && !lineage.record.ended);
        Ok(Prior { subject: subject.ok_or_else(|| invalid("its machine was removed"))?, lineage })
    }

    /// Whether a newer certificate has replaced it.
    fn is_replaced(&self, lineage: &Lineage) -> bool {
        let newest = [&lineage.current, &lineage.pending];
        !newest.into_iter().flatten().any(|cert| cert.serial == self.peer.serial)
    }
}

impl Case for ProvenHolder {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        let (role, name) = (self.peer.identity.role, self.peer.identity.name.as_str());
        let keys = match found.len() {
            CERTIFICATE => vec![keys::certificate(&self.peer.serial)],
            LINEAGE => match found.record::<Certificate>(CERTIFICATE) {
                Some(Seen { record, .. }) => vec![
                    keys::lineage(&record.lineage),
                    keys::subject(role, name),
                    keys::stale(&record.lineage),
                    keys::EPOCH.to_owned(),
                ],
                None => vec![],
            },
            RENAMED => match found.record::<Lineage>(LINEAGE) {
                Some(Seen { record, .. }) if record.name != name => vec![keys::subject(role, &record.name)],
                Some(_) | None => vec![],
            },
            _ => vec![],
        };
        Ok(keys.into_iter().map(Need::Record).collect())
    }

    fn rests_on(&self, found: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        let lineage = self.prior(found)?.lineage.record;
        let targets = vec![
            (lock_kind(lineage.role), lineage.name),
            (LockKind::Lineage, lineage.id),
            (LockKind::Key, self.peer.key.hex()),
        ];
        Ok(RestsOn { own: targets.clone(), targets })
    }

    /// For a certificate that was replaced: either its lineage has two holders and is locked, or the certificate is stale, which is
    /// only recorded.
    fn alarm(&self, found: &Found, locks: &Locks, source: &str, context: &Context<'_>) -> Option<Rejected> {
        let lineage = self.prior(found).ok()?.lineage;
        if !self.is_replaced(&lineage.record) {
            return None;
        }
        let name = match name::known(&lineage.record.name) {
            Ok(name) => name,
            Err(refusal) => return Some(Rejected { refusal, follow_up: None }),
        };
        let identity = Identity { domain: context.domain.clone(), role: lineage.record.role, name };
        let (now, not_after, used) = (context.now, self.peer.not_after, self.peer.serial);
        let forked = Refusal::Forked { what: identity.to_string() };
        if lineage.record.forked && now <= not_after {
            return Some(Rejected { refusal: forked, follow_up: None });
        }
        if admission::shown_again(not_after, locks, now) == ShownAgain::Stale {
            let before = found.record::<Stale>(STALE);
            let changes = admission::stale(before.as_ref(), &lineage.record, used, source, now);
            let follow_up = changes.map(|changes| Box::new(FollowUp { changes, forks: false }));
            return Some(Rejected { refusal: replaced().into(), follow_up });
        }
        let standing = admission::AdmissionRecords { epoch: found.record::<u64>(EPOCH), ..Default::default() };
        let why = "a certificate that was replaced asked to rejoin";
        let changes = admission::fork(&lineage, &identity, used, &standing, why, now);
        Some(Rejected { refusal: forked, follow_up: Some(Box::new(FollowUp { changes, forks: true })) })
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let Prior { lineage, subject } = self.prior(found)?;
        if self.is_replaced(&lineage.record) {
            return Err(replaced().into());
        }
        // the policy decides whether that is too long; it can also require an approval
        let expired_for = context.now.since(self.peer.not_after).as_secs();
        Ok(Step::Done(Box::new(Vouched::claims(Claims {
            values: BTreeMap::from([
                ("name".to_owned(), Claim::Text(lineage.record.name.clone())),
                ("expired_for".to_owned(), Claim::Number(i64::try_from(expired_for).unwrap_or(i64::MAX))),
            ]),
            // the level in the old certificate was proven for another key
            assurance: Assurance::SOFTWARE,
            role: Some(lineage.record.role),
            names: vec![lineage.record.name.clone()],
            grants: Some(Grants {
                labels: subject.record.labels.clone(),
                groups: subject.record.groups.clone(),
                owner: subject.record.owner.clone(),
                continues: Some(Continues { lineage, subject }),
            }),
        }))))
    }
}

fn proven(message: &Message<'_>, context: &Context<'_>) -> Result<Peer, Reject> {
    let body: Body = wire::strict::from_slice(message.body.as_bytes()).map_err(|_| invalid("its JSON is malformed"))?;
    let ders = pki::parse_pem("CERTIFICATE", &body.certificate).map_err(|_| invalid("it is not PEM"))?;
    let (leaf, rest) = ders.split_first().ok_or_else(|| invalid("it is not PEM"))?;
    // our own issuing CAs are among the anchors
    let intermediates: Vec<&[u8]> = rest.iter().take(CHAIN_MAX).map(Vec::as_slice).collect();
    let peer = verified_before_expiry(leaf, &intermediates, context)?;
    let signature = URL_SAFE_NO_PAD.decode(&body.signature).map_err(|_| invalid("its signature is malformed"))?;
    let key = pki::SubjectKey::from_spki_der(&peer.spki).map_err(|_| invalid("its key is not one we accept"))?;
    let mut signed = PRIOR_CERTIFICATE_CONTEXT.to_vec();
    signed.extend_from_slice(message.exporter);
    signed.extend_from_slice(message.for_key.as_bytes());
    key.verify(&signed, &signature).map_err(|_| invalid("its key did not sign for this connection"))?;
    Ok(peer)
}

/// Verifies the chain at the certificate's `notAfter`, or now if that is earlier.
fn verified_before_expiry(leaf: &[u8], intermediates: &[&[u8]], context: &Context<'_>) -> Result<Peer, Reject> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| invalid("it is not a certificate"))?;
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).map(UnixTime::new);
    let at = not_after.map_err(|_| invalid("it is not a certificate"))?.min(context.now);
    let roles = [Role::Machine, Role::Person];
    pki::verify_peer(leaf, intermediates, context.anchors, &roles, at)
        .map_err(|_| invalid("this gateway's authority did not issue it"))
}
