//! Offboarding: the person's machines get a new owner, then the person is removed.

use pki::Role;

use super::{
    admin::remove,
    departure::may_go,
    owners, set,
    shell::{Actor, Shell, retrying},
    subjects::{SubjectRecords, find_subject, identity, resource, visible},
    views::Removal,
};
use crate::core::{
    admission::Caller,
    change::Changes,
    facts::permit,
    look::Look,
    records::{Owner, Subject},
    refusal::{Conflict, Fault, Refusal},
};

/// Most machines in one batch of the store.
const BATCH: usize = 50;

/// Gives the machines of a person to another, then removes the person. After an interruption a repeated request continues.
///
/// # Errors
/// The reason for the refusal. If one of the machines may not be handed over, nothing is changed.
pub async fn offboard(
    shell: &Shell,
    caller: &Caller,
    name: &str,
    to: &str,
    instance: &str,
) -> Result<Removal, Refusal> {
    let looked = |look: &Look| -> Result<_, Refusal> {
        let heir = visible(shell, look, caller, Role::Person, to);
        Ok((visible(shell, look, caller, Role::Person, name)?, heir))
    };
    let (leaving, heir) = shell.look(looked).await?;
    let action = policy::Action::Administer;
    permit(&shell.rules.load(), caller, action, resource(shell, &leaving), shell.now()).map(drop)?;
    may_go(shell, caller, &leaving.subject.record).await?;
    let heir = heir?;
    if to == name || heir.is_locked() {
        let conflict = if to == name { Conflict::HeirLeaves } else { Conflict::HeirLocked };
        return Err(Refusal::Conflict(conflict(to.to_owned())));
    }
    let owner = Owner::named(to, Some(&heir.subject.record));
    let machines = owners::machines(shell, &leaving.subject.record).await?;
    for names in machines.chunks(BATCH) {
        for records in all_of(shell, names).await? {
            set::owner(shell, caller, &records, &owner)?;
        }
    }
    for names in machines.chunks(BATCH) {
        hand_over(shell, caller, &leaving.subject.record, names, &owner, instance).await?;
    }
    let mut removed = remove(shell, caller, Role::Person, name, instance).await?;
    removed.handed_over = machines;
    Ok(removed)
}

/// Those of these machines that exist.
async fn all_of(shell: &Shell, names: &[String]) -> Result<Vec<SubjectRecords>, Fault> {
    let found = |look: &Look| names.iter().map(|name| find_subject(look, Role::Machine, name)).collect();
    let found: Vec<Option<SubjectRecords>> = shell.look::<_, Fault>(found).await?;
    Ok(found.into_iter().flatten().collect())
}

async fn hand_over(
    shell: &Shell,
    caller: &Caller,
    from: &Subject,
    names: &[String],
    owner: &Owner,
    instance: &str,
) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let mut changes = Changes::new();
        // A machine that got another owner meanwhile keeps that owner.
        let owned =
            |records: &SubjectRecords| records.subject.record.owner.as_ref().is_some_and(|owner| owner.is(from));
        for records in all_of(shell, names).await?.into_iter().filter(owned) {
            let rules = set::owner(shell, caller, &records, owner)?;
            let identity = identity(shell, &records.subject.record)?.to_string();
            set::write(&mut changes, &records.subject, identity, rules, |subject| subject.owner = Some(owner.clone()));
        }
        if !changes.is_empty() {
            shell.commit(changes, &Actor { who: &who, instance }).await?;
        }
        Ok(())
    })
    .await
}
