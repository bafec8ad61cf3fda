//! Decides SSH certificates: a machine's for its host names, a person's for the logins that the policy grants.
//!
//! The proof of possession is checked first. A repeated request gets a new certificate: that costs only the lineage's own budget, and
//! the certificate never outlives the one with which it was requested.

use std::time::Duration;

use pki::{SshDraft, SshError, SshKey, UnixTime};
use policy::Ruleset;

use super::{
    admission::Caller,
    audit::Event,
    change::Changes,
    facts::principal,
    keys, plan,
    proof::BadProof,
    refusal::{Fault, Refusal},
};
use crate::limits::{SSH_CERTIFICATES_PER_LIFE, SSH_LIFE};

/// An SSH key with proof that its holder is on this connection. Made only by [`prove`].
#[derive(Debug)]
#[must_use = "a proven key that is not certified was proven for nothing"]
pub struct ProvenSshKey(SshKey);

/// Verifies the caller's signature by the SSH key over the connection's exporter value.
///
/// # Errors
/// [`Refusal::BadSshKey`] for a key type that is not certified, [`BadProof::Ssh`] for an invalid signature.
pub fn prove(public_key: &str, signature: &str, namespace: &str, exporter: &[u8; 32]) -> Result<ProvenSshKey, Refusal> {
    let key = SshKey::parse(public_key).map_err(Refusal::from)?;
    key.verify(namespace, &wire::ssh::proof_message(exporter), signature).map_err(BadProof::Ssh)?;
    Ok(ProvenSshKey(key))
}

/// A certificate that may be signed once `changes` are committed.
#[derive(Debug)]
#[must_use = "a plan that is not carried out issues nothing"]
pub struct SshPlan {
    /// To be signed.
    pub draft: SshDraft,
    /// To be committed first: the event, on condition that the lineage is still valid.
    pub changes: Changes,
}

/// A host certificate for a machine, with its own names and until its own certificate ends.
///
/// # Errors
/// [`Refusal::Expired`] in the last second of the machine's certificate; [`Fault::Issue`] if SSH does not allow the names.
pub fn host(
    caller: &Caller,
    ProvenSshKey(key): ProvenSshKey,
    entropy: [u8; 8],
    now: UnixTime,
) -> Result<SshPlan, Refusal> {
    let draft = SshDraft::host(key, &caller.identity, caller.not_after, entropy, now);
    planned(caller, draft.map_err(not_made)?, vec![], SSH_LIFE, now)
}

/// A user certificate with the logins and the lifetime that the policy grants; it ends with the person's own certificate at the latest.
///
/// # Errors
/// [`Refusal::Denied`]; [`Refusal::Expired`] as for machines; [`Fault::Issue`] if SSH does not allow the policy's logins.
pub fn user(
    caller: &Caller,
    ProvenSshKey(key): ProvenSshKey,
    rules: &Ruleset,
    entropy: [u8; 8],
    now: UnixTime,
) -> Result<SshPlan, Refusal> {
    let grant = match policy::decide(rules, &ask(caller, now)) {
        policy::Decision::Allowed(grant) => grant,
        policy::Decision::Denied(denial) => return Err(Refusal::Denied { rules: denial.rules, action: "login" }),
    };
    let until = grant.lifetime().map_or(caller.not_after, |lifetime| now.plus(lifetime).min(caller.not_after));
    let draft = SshDraft::user(key, &caller.identity, grant.principals().to_vec(), until, entropy, now);
    let life = grant.lifetime().unwrap_or(SSH_LIFE);
    planned(caller, draft.map_err(not_made)?, grant.rules().to_vec(), life, now)
}

fn ask(caller: &Caller, now: UnixTime) -> policy::Ask {
    policy::Ask {
        action: policy::Action::Login,
        principal: principal(caller, now),
        resource: policy::Resource::Gateway,
        now: now.secs(),
    }
}

/// Names and times do not come from the client, so an error in them is a fault of ours.
fn not_made(error: SshError) -> Refusal {
    match error {
        SshError::Over => Refusal::Expired,
        other => Fault::Issue(other.to_string()).into(),
    }
}

/// `life` is the longest lifetime of such a certificate and the period of the budget. The certificate itself may end sooner, with the
/// caller's own.
fn planned(
    caller: &Caller,
    draft: SshDraft,
    rules: Vec<String>,
    life: Duration,
    now: UnixTime,
) -> Result<SshPlan, Refusal> {
    let mut changes = Changes::new();
    let mut lineage = caller.lineage.record.clone();
    lineage.ssh_paid_until = plan::spend(lineage.ssh_paid_until, life, SSH_CERTIFICATES_PER_LIFE, now)?;
    changes.update(keys::lineage(&lineage.id), &caller.lineage, &lineage);
    let subject = Some(&caller.subject.record);
    plan::stand_on(&mut changes, plan::stands(&caller.lineage, subject, &[caller.key], &caller.locks)?);
    changes.event(Event::SshIssued {
        identity: caller.identity.to_string(),
        kind: draft.kind().as_str(),
        serial: draft.serial(),
        key_id: draft.key_id().to_owned(),
        principals: draft.principals().join(","),
        key: draft.key().fingerprint(),
        certificate: caller.serial.hex(),
        not_after: draft.valid_before().secs(),
        rules,
    });
    Ok(SshPlan { draft, changes })
}
