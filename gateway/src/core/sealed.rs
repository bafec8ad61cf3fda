//! Decides the leaf for a machine's sealed services. The machine's agent uses it as a TLS server towards people who connect through the
//! gateway, which then carries ciphertext only.
//!
//! It is not part of the lineage's succession: it is never current or pending, it is not accepted as a client certificate, and it ends
//! with the machine's own certificate. The lineage records the newest two; all others are on the CRL.

use pki::{Assurance, Identity, Serial, SubjectKey, UnixTime};

use super::{
    admission::Caller,
    audit::Event,
    change::Changes,
    keys,
    plan::{self, Common, LeafKind, LeafSpec, Plan, Terms},
    records::{Certificate, Seen},
    refusal::{Malformed, Refusal},
};

/// Leaves that may be in use at the same time: the newest, and the one that it replaces.
const KEPT: usize = 2;

/// The decision.
#[derive(Debug)]
pub enum SealedVerdict {
    /// Issue a certificate.
    Issue(Box<Plan>),
    /// Send the certificate issued before for this key again; the reply may have been lost.
    Known(Box<Certificate>),
}

/// The serial of an earlier leaf for this key, if it ends when a new one would.
#[must_use]
pub fn made_before(caller: &Caller, key: &SubjectKey) -> Option<Serial> {
    let sealed = caller.lineage.record.sealed.iter();
    let same =
        |cert: &&super::records::CertRef| cert.key == key.digest() && cert.not_after.0 == caller.not_after.secs();
    sealed.rev().find(same).map(|cert| cert.serial)
}

/// Decides. The caller is an admitted machine; `known` is the record of the serial from [`made_before`].
///
/// # Errors
/// [`Refusal::Malformed`] if the key is that of the machine's own certificate, [`Refusal::Expired`] in the last second of that
/// certificate.
pub fn decide(
    caller: &Caller,
    key: SubjectKey,
    known: Option<&Seen<Certificate>>,
    common: Common<'_>,
    now: UnixTime,
    serial: [u8; 16],
) -> Result<SealedVerdict, Refusal> {
    if key.digest() == caller.key {
        return Err(Refusal::Malformed(Malformed::OwnKeySealed));
    }
    if let Some(known) = known {
        return Ok(SealedVerdict::Known(Box::new(known.record.clone())));
    }
    let lifetime = common.within(caller.subject.record.role, caller.not_after.since(now), now)?;
    if lifetime.is_zero() {
        return Err(Refusal::Expired);
    }
    let subject = &caller.subject.record;
    let identity = Identity { domain: common.domain.clone(), role: subject.role, name: caller.identity.name.clone() };
    let wanted = LeafSpec {
        common,
        role: subject.role,
        name: identity.name.clone(),
        key: key.clone(),
        // evidence was for the machine's own key, not for this one
        assurance: Assurance::SOFTWARE,
        admitted_by: subject.admitted_by,
    };
    let serial = Serial::from_entropy(serial);
    let draft = plan::draft(Terms::of_own_certificate(caller, now), wanted, LeafKind::Sealed, serial, now)?;
    let stands = plan::stands(&caller.lineage, Some(subject), &[caller.key, key.digest()], &caller.locks)?;
    let mut lineage = caller.lineage.record.clone();
    let (charged, reference) = draft.charge(common, &mut lineage, now)?;
    let mut changes = Changes::new();
    lineage.sealed.retain(|cert| cert.not_after.0 >= now.secs());
    lineage.sealed.push(reference);
    while lineage.sealed.len() > KEPT {
        lineage.sealed.remove(0);
    }
    changes.update(keys::lineage(&lineage.id), &caller.lineage, &lineage);
    changes.event(Event::CertificateSealed {
        serial: serial.hex(),
        identity: identity.to_string(),
        lineage: lineage.id.clone(),
    });
    Ok(SealedVerdict::Issue(Box::new(charged.plan(changes, stands, lineage.id))))
}
