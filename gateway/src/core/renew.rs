//! Decides a renewal: a new key for a lineage, under today's policy.

use pki::{Serial, SubjectKey, UnixTime};
use policy::Ruleset;

use super::{
    admission::Caller,
    change::Changes,
    facts::principal,
    keys, name,
    plan::{self, Common, Kind, Plan, Terms, Wanted},
    records::{Certificate, Seen},
    refusal::{Malformed, Refusal},
};

/// What the caller asks for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The key to be certified.
    pub key: &'a SubjectKey,
    /// The name that it would take, if its program knows that it is to become another.
    pub takes: Option<&'a str>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Verdict {
    /// Make a certificate.
    Issue(Box<Plan>),
    /// The certificate made before for this key, whose reply was lost.
    Known(Box<Certificate>),
}

/// Decides. The caller is admitted, locks on the new key are among those looked up for it; `pending` the record of the lineage's pending certificate.
///
/// # Errors
/// Why not.
pub fn decide(
    caller: &Caller,
    asked: &Asked<'_>,
    pending: Option<&Seen<Certificate>>,
    rules: &Ruleset,
    common: Common<'_>,
    now: UnixTime,
    serial: [u8; 16],
) -> Result<Verdict, Refusal> {
    let (lineage, key) = (&caller.lineage.record, asked.key);
    if key.digest() == caller.key {
        return Err(Refusal::Malformed(Malformed::SameKey));
    }
    if let (Some(reference), Some(known)) = (&lineage.pending, pending)
        && reference.key == key.digest()
        && known.record.not_after.0 > now.secs()
    {
        return Ok(Verdict::Known(Box::new(known.record.clone())));
    }
    let subject = &caller.subject.record;
    let grant = match policy::decide(rules, &ask(caller, now)) {
        policy::Decision::Allowed(grant) => grant,
        policy::Decision::Denied(denial) => return Err(Refusal::Denied { rules: denial.rules, action: "renew" }),
    };
    // Whoever is renamed takes the name with the first use of this certificate.
    let takes = subject.renaming.as_deref().filter(|name| asked.takes == Some(name));
    let name = name::known(takes.unwrap_or(&subject.name))?;
    let wanted = Wanted {
        common,
        role: subject.role,
        name,
        key: key.clone(),
        assurance: subject.assurance,
        admitted_by: subject.admitted_by,
    };
    let draft = plan::draft(Terms::granted(grant)?, wanted, Kind::Own, Serial::from_entropy(serial), now)?;
    let stands = plan::stands(&caller.lineage, Some(subject), &[caller.key, key.digest()], &caller.locks)?;
    let mut renewed = lineage.clone();
    let (charged, reference) = draft.charge(common, &mut renewed, now)?;
    renewed.pending = Some(reference);
    let mut changes = Changes::new();
    changes.update(keys::lineage(&renewed.id), &caller.lineage, &renewed);
    Ok(Verdict::Issue(Box::new(charged.plan(changes, stands, renewed.id))))
}

/// The question put to the policy.
#[must_use]
pub fn ask(caller: &Caller, now: UnixTime) -> policy::Ask {
    policy::Ask {
        action: policy::Action::Renew,
        principal: principal(caller, now),
        resource: policy::Resource::Gateway,
        now: now.secs(),
    }
}
