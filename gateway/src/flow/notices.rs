//! Messages for a person's next request: locks that the gateway set by itself, stale certificates that were used, and problems for an
//! operator.

use std::time::Duration;

use pki::UnixTime;

use super::shell::{Shell, readable};
use crate::core::{
    admission::Caller,
    facts::permit,
    keys,
    lapse::STALE_KEPT,
    look::Look,
    records::{CountedBack, Lineage, Lock, LockKind, Seen, Stale, Subject},
    refusal::{Fault, Refusal},
};

/// How long the use of a stale certificate is reported.
const STALE_TOLD: Duration = Duration::from_secs(STALE_KEPT);

/// Most locks that are read: somebody with more has other problems already.
const LOOKED_AT: usize = 200;

/// Notices for a caller: about forks of machines it owns, or of all machines if it may read the gateway, and always about itself.
///
/// # Errors
/// When the store fails.
pub async fn of(shell: &Shell, caller: &Caller) -> Result<Vec<String>, Refusal> {
    if caller.identity.role != pki::Role::Person {
        return Ok(vec![]);
    }
    let prefix = keys::lock(LockKind::Lineage, "");
    let locks: Vec<(String, Seen<Lock>)> = shell.scan(&prefix, None, LOOKED_AT).await?;
    let stale: Vec<(String, Seen<Stale>)> = shell.scan(keys::STALE, None, LOOKED_AT).await?;
    let told = |(_, seen): &(String, Seen<Stale>)| shell.now() <= UnixTime::from(seen.record.at).plus(STALE_TOLD);
    let locks = locks.into_iter().map(|(_, seen)| (seen.record.target, format!(" is locked: {}", seen.record.reason)));
    let stale = stale.into_iter().filter(told).map(|(_, seen)| (seen.record.lineage.clone(), came_back(&seen.record)));
    let lower: Vec<(String, Seen<CountedBack>)> = shell.scan(keys::COUNTED_BACK, None, LOOKED_AT).await?;
    let lower = lower.into_iter().map(|(_, seen)| seen.record);
    let lower = lower.filter(|lower| shell.now() <= UnixTime::from(lower.at).plus(STALE_TOLD));
    let lower = lower.map(|lower| (lower.lineage.clone(), counted_back(&lower)));
    let sayings: Vec<(String, String)> = locks.chain(stale).chain(lower).collect();
    let doubt = super::clock::doubt(shell);
    let damaged = shell.damaged.count();
    if sayings.is_empty() && doubt.is_none() && damaged == 0 {
        return Ok(vec![]);
    }
    let everything =
        permit(&shell.rules.load(), caller, policy::Action::Read, policy::Resource::Gateway, shell.now()).is_ok();
    let mut notices = Vec::new();
    if everything && let Some(doubt) = doubt {
        notices.push(format!(
            "the gateway's clock is {}: it deletes nothing until its clock is set right, or an operator runs \
             `lychgate-gateway clock accept`",
            doubt.off
        ));
    }
    if everything && damaged > 0 {
        notices.push(format!("the gateway met {damaged} damaged records: its log and `store check` name them"));
    }
    let looked = |look: &Look, lineage: &str| -> Result<_, Fault> {
        let lineage = readable(look.get::<Lineage>(&keys::lineage(lineage)))?.flatten();
        let Some(lineage) = lineage.filter(|seen| !seen.record.ended) else { return Ok(None) };
        let subject: Option<Seen<Subject>> = look.get(&keys::subject(lineage.record.role, &lineage.record.name))?;
        Ok(Some((lineage, subject.and_then(|seen| seen.record.owner))))
    };
    let looked = |look: &Look| sayings.iter().map(|(lineage, _)| looked(look, lineage)).collect();
    let looked: Vec<_> = shell.look::<_, Fault>(looked).await?;
    for ((_, saying), found) in sayings.iter().zip(looked) {
        let Some((lineage, owner)) = found else { continue };
        if everything || owner.is_some_and(|owner| owner.is(&caller.subject.record)) {
            let role = lineage.record.role.as_str();
            notices.push(format!("{role} `{}`{saying}", lineage.record.name));
        }
    }
    Ok(notices)
}

fn came_back(stale: &Stale) -> String {
    format!(
        ": an old certificate of it that no longer holds was shown from {}; nothing was locked for that, but a copy of its \
         folder, or an old disk, is in use somewhere",
        stale.source
    )
}

fn counted_back(lower: &CountedBack) -> String {
    let CountedBack { count, before, now, .. } = lower;
    format!(
        ": its device counted back, `{count}` from {before} to {now}; nothing was locked for that, but the TPM was cleared, or it is an \
         emulated one that was copied or set back to an earlier state"
    )
}
