//! What a person should be told when it next looks: locks that the gateway set by itself.

use super::shell::Shell;
use crate::core::{
    admission::Caller,
    approve::permit,
    keys,
    records::{Lineage, Lock, LockKind, Seen, Subject},
    refusal::Refusal,
};

/// Most locks looked at: a person who must be told of more has a fire to fight already.
const LOOKED_AT: usize = 200;

/// Notices for a caller: forks of machines it owns, or of any when it may read the gateway; of itself, always.
///
/// # Errors
/// When the store fails.
pub async fn of(shell: &Shell, caller: &Caller) -> Result<Vec<String>, Refusal> {
    if caller.identity.role != pki::Role::Person {
        return Ok(vec![]);
    }
    let prefix = keys::lock(LockKind::Lineage, "");
    let locks: Vec<(String, Seen<Lock>)> = shell.scan(&prefix, None, LOOKED_AT).await?;
    if locks.is_empty() {
        return Ok(vec![]);
    }
    let everything =
        permit(&shell.rules.load(), caller, policy::Action::Read, policy::Resource::Gateway, shell.now()).is_ok();
    let mut notices = Vec::new();
    for (_, lock) in locks {
        let lineage: Option<Seen<Lineage>> = shell.get(keys::lineage(&lock.record.target)).await?;
        let Some(lineage) = lineage else { continue };
        if lineage.record.ended {
            continue;
        }
        let key = keys::subject(lineage.record.role, &lineage.record.name);
        let subject: Option<Seen<Subject>> = shell.get(key).await?;
        let owner = subject.and_then(|seen| seen.record.owner);
        if everything || owner.is_some_and(|owner| owner.is(&caller.subject.record)) {
            let role = lineage.record.role.as_str();
            notices.push(format!("{role} `{}` is locked: {}", lineage.record.name, lock.record.reason));
        }
    }
    Ok(notices)
}
