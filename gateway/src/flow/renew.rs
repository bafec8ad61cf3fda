//! Renewal: one request, a new key, the same lineage.

use super::{
    attest::{self, InForce, Judgement},
    devices,
    issue::{self, Issued},
    shell::{Actor, Retry, Shell},
};
use crate::core::{
    admission::Caller,
    evidence::{Challenge, Purpose, Rejected},
    keys,
    look::Look,
    proven::ProvenKey,
    records::LockKind,
    renew,
    requester::Requester,
};

/// Input of a renewal.
#[derive(Clone, Copy)]
pub struct RenewalRequest<'a> {
    /// The key to be certified, proven.
    pub key: &'a ProvenKey,
    /// The new name that the caller accepts.
    pub takes: Option<&'a str>,
    /// Kind and body of each piece of evidence.
    pub evidence: &'a [(String, String)],
    /// The ticket of an earlier challenge.
    pub ticket: Option<&'a str>,
    /// The requester, by the certificate of the connection.
    pub requester: &'a Requester,
    /// The network prefix it came from.
    pub source: &'a str,
}

/// The result of a renewal. Each front has its own form for it.
#[derive(Debug)]
pub enum RenewalOutcome {
    /// A certificate.
    Issued(Box<Issued>),
    /// An attestor challenges: the client repeats the request with the answers and the ticket.
    Challenge(Challenge),
}

/// Renews for a caller that was admitted with [`crate::core::admission::Use::Renewal`].
///
/// # Errors
/// The reason for the refusal. After a conflict the caller tries again, with a new admission.
pub async fn renew(
    shell: &Shell,
    caller: &Caller,
    asked: &RenewalRequest<'_>,
    instance: &str,
) -> Result<RenewalOutcome, Retry> {
    let key = asked.key.key();
    let shown = attest::EvidenceSubmission {
        evidence: asked.evidence,
        purpose: Purpose::Renewal { name: &caller.subject.record.name, known: &caller.subject.record.claims },
        ticket: asked.ticket,
        key: asked.key,
        requester: asked.requester,
        source: asked.source,
        instance,
    };
    let in_force = InForce::of(shell);
    let opened = attest::open(shell, &shown, &in_force)?;
    let looked = |look: &Look| -> Result<_, Rejected> {
        let pending = match &caller.lineage.record.pending {
            Some(reference) if reference.key == key.digest() => look.get(&keys::certificate(&reference.serial))?,
            _ => None,
        };
        let locks = look.locks([(LockKind::Key, key.digest().hex())])?;
        let judged = opened.judge(look)?;
        let known_devices = devices::of_judged(look, &judged, in_force.settings.attestors.devices())?;
        Ok((pending, locks, opened.ticket_spent(look)?, judged, known_devices))
    };
    let (pending, locks, ticket_spent, judged, known_devices) = match shell.look(looked).await {
        Ok(looked) => looked,
        Err(rejected) => return Err(attest::rejected(shell, rejected, instance).await),
    };
    let judged = match judged {
        Judgement::Holds(judged) => *judged,
        Judgement::Asks(questions) => {
            shell.metrics.renewal("challenged");
            return Ok(RenewalOutcome::Challenge(opened.challenge(shell, questions)?));
        }
    };
    let InForce { settings, rules, ca } = &in_force;
    let (common, now, serial) = (shell.common(ca, settings), shell.now(), shell.entropy.bytes());
    let asked = renew::RenewalInput {
        key,
        takes: asked.takes,
        judged,
        ticket_spent,
        only_admit: settings.attestors.only_admit(),
        prefixes: settings.attestors.prefixes(),
        devices: settings.attestors.devices(),
        known_devices: &known_devices,
    };
    let caller = caller.clone().with_locks(locks);
    match renew::decide(&caller, asked, pending.as_ref(), rules, common, now, serial) {
        Ok(renew::RenewVerdict::Known(certificate)) => {
            Ok(RenewalOutcome::Issued(Box::new(issue::issued(shell, certificate.lineage.clone(), *certificate)?)))
        }
        Ok(renew::RenewVerdict::Issue(plan)) => {
            let who = caller.identity.to_string();
            let reply = issue::issue(shell, *plan, &Actor { who: &who, instance }).await?;
            shell.metrics.renewal("issued");
            Ok(RenewalOutcome::Issued(Box::new(reply)))
        }
        Err(rejected) => Err(attest::rejected(shell, rejected, instance).await),
    }
}
