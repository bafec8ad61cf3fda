//! A renewal whose evidence measured something else than is allowed, where the policy wants what is allowed (`@reattest` with `boot`).

use std::collections::BTreeMap;

use pki::UnixTime;
use policy::{Measured, Reattest};

use super::RenewalInput;
use crate::core::{
    admission::Caller,
    change::Changes,
    evidence::{DIFFERS, FollowUp, Judged, Reject, Rejected},
    keys,
    records::{Claim, Subject},
    subjects,
};

/// Why the policy does not want what was measured. What was measured earlier counts, until other evidence takes its place: a machine
/// cannot leave out the evidence that tells of a difference.
pub(super) fn unwanted(
    subject: &Subject,
    asked: &RenewalInput<'_>,
    reattest: Option<Reattest>,
    now: UnixTime,
) -> Option<Reject> {
    match reattest?.measured {
        Measured::Any => return None,
        Measured::Allowed => {}
    }
    if let Some(reject) = &asked.judged.differs {
        return Some(reject.clone());
    }
    let (claim, _) = differences(&subject.claims).next()?;
    let kind = asked.prefixes.iter().find(|(_, prefix)| subjects::is_of(claim, prefix)).map(|(kind, _)| *kind)?;
    let at = subject.evidence.iter().find(|shown| shown.kind == kind).map(|shown| shown.at);
    Some(Reject::wanted(&[kind], at.map_or(0, |at| now.since(at.into()).as_secs())))
}

/// A refusal. What was measured is recorded when it was not known, so that it is seen; when evidence was last accepted stays as it was.
pub(super) fn refused(caller: &Caller, subject: &Subject, judged: &Judged, rejected: Rejected) -> Rejected {
    let before = &caller.subject.record;
    if judged.differs.is_none() || differences(&subject.claims).eq(differences(&before.claims)) {
        return rejected;
    }
    let known = Subject { evidence: before.evidence.clone(), ..subject.clone() };
    let mut changes = Changes::new();
    changes.update(keys::subject(known.role, &known.name), &caller.subject, &known);
    changes.extend(judged.changes_of(&caller.identity.to_string()));
    Rejected { follow_up: Some(Box::new(FollowUp { changes, forks: false })), ..rejected }
}

/// The claims that say how what was measured differs.
fn differences(claims: &BTreeMap<String, Claim>) -> impl Iterator<Item = (&String, &Claim)> {
    claims.iter().filter(|(name, _)| name.ends_with(DIFFERS))
}
