//! Renewal: one request, a new key, the same lineage.

use super::{
    admit::with_key,
    attest::{self, Entrance, Judgement},
    issue::{self, Issued},
    shell::{Actor, Retry, Shell},
};
use crate::{
    attest::{only_admit, prefixes},
    core::{
        admission::Caller, evidence::Challenge, keys, proven::ProvenKey, records::UnixSecs, renew, requester::Requester,
    },
};

/// What a renewal brings.
#[derive(Clone, Copy)]
pub struct RenewalRequest<'a> {
    /// The key to be certified, proven.
    pub key: &'a ProvenKey,
    /// The name that the caller would take.
    pub takes: Option<&'a str>,
    /// Kind and body of each piece of evidence.
    pub evidence: &'a [(String, String)],
    /// What came back of an earlier round.
    pub ticket: Option<&'a str>,
    /// Who asks, by the certificate of the connection.
    pub requester: &'a Requester,
    /// The network prefix it came from.
    pub source: &'a str,
}

/// What became of a renewal. Each front says it in its own way.
#[derive(Debug)]
pub enum RenewalOutcome {
    /// Here is the certificate.
    Issued(Box<Issued>),
    /// An attestor asks back: the same again, with the answers and the ticket.
    Challenge(Challenge),
}

/// Renews for a caller that was admitted with [`crate::core::admission::Use::Renewal`].
///
/// # Errors
/// Why not. A conflict is the caller's to retry, with a fresh admission.
pub async fn renew(
    shell: &Shell,
    caller: &Caller,
    asked: &RenewalRequest<'_>,
    instance: &str,
) -> Result<RenewalOutcome, Retry> {
    let key = asked.key.key();
    let pending = match &caller.lineage.record.pending {
        Some(reference) if reference.key == key.digest() => shell.get(keys::certificate(&reference.serial)).await?,
        _ => None,
    };
    let shown = attest::EvidenceSubmission {
        evidence: asked.evidence,
        entrance: Entrance::Renewal,
        ticket: asked.ticket,
        key: asked.key,
        requester: asked.requester,
        source: asked.source,
        instance,
    };
    let judged = match attest::judge(shell, &shown).await? {
        Judgement::Holds(judged) => *judged,
        Judgement::Asks(challenge) => {
            shell.metrics.renewal("challenged");
            return Ok(RenewalOutcome::Challenge(challenge));
        }
    };
    let ticket_spent = match &judged.ticket {
        Some(key) => shell.get::<UnixSecs>(key.clone()).await?.is_some(),
        None => false,
    };
    let (rules, settings) = (shell.rules.load(), shell.settings.load());
    let ca = shell.ca();
    let (common, now, serial) = (shell.common(&ca, &settings), shell.now(), shell.entropy.bytes());
    let caller = with_key(shell, caller, &key.digest()).await?;
    let (only_admit, prefixes) = (only_admit(), prefixes());
    let asked = renew::RenewalInput {
        key,
        takes: asked.takes,
        judged,
        ticket_spent,
        only_admit: &only_admit,
        prefixes: &prefixes,
    };
    match renew::decide(&caller, asked, pending.as_ref(), &rules, common, now, serial)? {
        renew::RenewVerdict::Known(certificate) => {
            Ok(RenewalOutcome::Issued(Box::new(issue::issued(shell, certificate.lineage.clone(), *certificate)?)))
        }
        renew::RenewVerdict::Issue(plan) => {
            let who = caller.identity.to_string();
            let reply = issue::issue(shell, *plan, &Actor { who: &who, instance }).await?;
            shell.metrics.renewal("issued");
            Ok(RenewalOutcome::Issued(Box::new(reply)))
        }
    }
}
