//! Decides the leaf for a machine's sealed services: what the machine's agent shows to people who reach it through the
//! gateway, which then carries ciphertext only.
//!
//! It stands beside the chain of the lineage and never in it: it is never current or pending, nobody takes it from a
//! client, and it ends with the machine's own certificate. The lineage remembers the newest two; any other is on
//! the revocation list.

use pki::{Identity, LeafRequest, Serial, SubjectKey, UnixTime};

use super::{
    admission::Caller,
    audit::Event,
    change::Changes,
    keys,
    plan::{self, Common, Kind, Plan},
    records::{CertState, Certificate, Seen},
    refusal::{Fault, Malformed, Refusal},
};

/// Leaves that may be in use at once: one, and the one it replaces.
const KEPT: usize = 2;

/// What is to be done.
#[derive(Debug)]
pub enum Verdict {
    /// Make a certificate.
    Issue(Box<Plan>),
    /// The certificate made before for this key, whose reply was lost.
    Known(Box<Certificate>),
}

/// The serial of the leaf made before for this key, if it is good for as long as a new one would be.
#[must_use]
pub fn made_before(caller: &Caller, key: &SubjectKey) -> Option<Serial> {
    let sealed = caller.lineage.record.sealed.iter();
    let same =
        |cert: &&super::records::CertRef| cert.key == key.digest() && cert.not_after.0 == caller.not_after.secs();
    sealed.rev().find(same).map(|cert| cert.serial)
}

/// Decides. The caller is an admitted machine; `known` is the record of [`made_before`].
///
/// # Errors
/// [`Refusal::Malformed`] for the machine's own key, [`Refusal::Expired`] in the last second of its certificate.
pub fn decide(
    caller: &Caller,
    key: SubjectKey,
    known: Option<&Seen<Certificate>>,
    common: Common<'_>,
    now: UnixTime,
    serial: [u8; 16],
) -> Result<Verdict, Refusal> {
    if key.digest() == caller.key {
        return Err(Refusal::Malformed(Malformed::OwnKeySealed));
    }
    if let Some(known) = known.filter(|known| known.record.state == CertState::Issued) {
        return Ok(Verdict::Known(Box::new(known.record.clone())));
    }
    let lifetime = common.within(caller.subject.record.role, caller.not_after.since(now), now)?;
    if lifetime.is_zero() {
        return Err(Refusal::Expired);
    }
    let subject = &caller.subject.record;
    let identity = Identity { domain: common.domain.clone(), role: subject.role, name: caller.identity.name.clone() };
    let request = LeafRequest {
        key: key.clone(),
        identity: identity.clone(),
        serial: Serial::from_entropy(serial),
        lifetime,
        assurance: subject.assurance,
        admitted_by: subject.admitted_by.into(),
        gateway_names: vec![],
    };
    let draft = pki::draft(request, now).for_sealed_services();
    let draft = match common.lists {
        Some(lists) => draft.with_list(lists),
        None => draft,
    };
    let linted = draft.lint().map_err(|error| Fault::Issue(error.to_string()))?;
    let stands = plan::stands(&caller.lineage, Some(subject), &[caller.key, key.digest()], &caller.locks)?;
    let mut lineage = caller.lineage.record.clone();
    let (certificate, reference) = plan::reserved(common, &linted, Kind::Sealed, &mut lineage, &key, now)?;
    let mut changes = Changes::new();
    lineage.sealed.retain(|cert| cert.not_after.0 >= now.secs());
    lineage.sealed.push(reference);
    while lineage.sealed.len() > KEPT {
        lineage.sealed.remove(0);
    }
    changes.update(keys::lineage(&lineage.id), &caller.lineage, &lineage);
    plan::reserve(&mut changes, stands, &certificate, &identity, &[]);
    changes.event(Event::CertificateSealed {
        serial: certificate.serial.hex(),
        identity: identity.to_string(),
        lineage: lineage.id.clone(),
    });
    let id = lineage.id;
    Ok(Verdict::Issue(Box::new(Plan { linted, reserve: changes, certificate, enrollment: None, id })))
}
