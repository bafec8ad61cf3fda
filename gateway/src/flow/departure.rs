//! Removal of a person: what they made ends too, and the last administrator cannot be removed.

use pki::Role;

use super::{
    owners,
    page::All,
    shell::{Shell, readable},
    subjects::load_subject,
    views::MadeBy,
};
use crate::core::{
    admission::Caller,
    facts::person_facts,
    keys,
    look::Look,
    records::{Enrollment, Seen, Subject, Token, Waiting},
    refusal::{Conflict, Fault, Refusal},
};

/// Most entries of each kind in an answer. The others are counted: nobody reads more.
const NAMED_MAX: usize = 100;

/// What has no effect without this person, and what they own. Reads all tokens and waiting requests page by page, so it is only used
/// for a lock, a removal or a handover that was permitted.
///
/// # Errors
/// When the store fails.
pub(super) async fn made(shell: &Shell, person: &Subject) -> Result<MadeBy, Fault> {
    let mut made = MadeBy::default();
    let mut note = |list: fn(&mut MadeBy) -> &mut Vec<String>, name: String| {
        if list(&mut made).len() < NAMED_MAX {
            list(&mut made).push(name);
        } else {
            made.more += 1;
        }
    };
    let now = shell.now();
    let mut tokens = All::<Token>::of(shell, keys::TOKENS, None);
    while let Some((id, seen)) = tokens.next().await? {
        let live = !seen.record.revoked && now.secs() <= seen.record.expires.0;
        if live && seen.record.maker.as_ref() == Some(&person.lineage) {
            note(|made| &mut made.tokens, id);
        }
    }
    let mut waiting = All::<Waiting>::of(shell, keys::WAITING, None);
    while let Some(rows) = waiting.chunk().await? {
        let approved = |look: &Look, id: &str, entry: &Waiting| -> Result<bool, Fault> {
            if entry.withdrawn {
                return Ok(false);
            }
            let seen: Option<Seen<Enrollment>> = look.get(&keys::enrollment(id))?;
            let by = |seen: Seen<Enrollment>| seen.record.approvals.iter().any(|one| one.lineage == person.lineage);
            Ok(seen.is_some_and(by))
        };
        let approved = |look: &Look| rows.iter().map(|(id, entry)| approved(look, id, &entry.record)).collect();
        let approved: Vec<bool> = shell.look::<_, Fault>(approved).await?;
        let of_theirs = rows.into_iter().zip(approved).filter(|(_, approved)| *approved);
        of_theirs.for_each(|((id, _), _)| note(|made| &mut made.approvals, id));
    }
    owners::machines(shell, person).await?.into_iter().for_each(|name| note(|made| &mut made.machines, name));
    Ok(made)
}

/// Whether another person may administer the gateway and is not locked.
async fn another_administers(shell: &Shell, but: &Subject) -> Result<bool, Fault> {
    let mut people = All::<Subject>::of(shell, &keys::subjects(Role::Person), None);
    while let Some(rows) = people.chunk().await? {
        let can = |look: &Look, seen: &Seen<Subject>| {
            let others = seen.record.name != but.name && administers(shell, &seen.record);
            // A person with damaged records does not count as an administrator; the removal of others goes on.
            Ok(others && readable(load_subject(look, seen.clone()))?.is_some_and(|records| !records.is_locked()))
        };
        let can = |look: &Look| rows.iter().map(|(_, seen)| can(look, seen)).collect();
        if shell.look::<Vec<bool>, Fault>(can).await?.contains(&true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a person may administer the gateway.
pub(super) fn administers(shell: &Shell, person: &Subject) -> bool {
    let ask = policy::Ask {
        action: policy::Action::Administer,
        principal: policy::Principal::Person(person_facts(person)),
        resource: policy::Resource::Gateway,
        now: shell.now().secs(),
    };
    matches!(policy::decide(&shell.rules.load(), &ask), policy::Decision::Allowed(_))
}

/// Refuses a change that would leave nobody who may administer the gateway. `after` is the changed person, or nothing for a removal.
///
/// # Errors
/// [`Refusal::Conflict`].
pub(super) async fn not_the_last(shell: &Shell, person: &Subject, after: Option<&Subject>) -> Result<(), Refusal> {
    let loses = administers(shell, person) && !after.is_some_and(|after| administers(shell, after));
    if !loses || another_administers(shell, person).await? {
        return Ok(());
    }
    Err(Refusal::Conflict(Conflict::LastAdministrator(person.name.clone())))
}

/// Refuses the removal of oneself, and of the last administrator.
///
/// # Errors
/// [`Refusal::Conflict`].
pub(super) async fn may_go(shell: &Shell, caller: &Caller, person: &Subject) -> Result<(), Refusal> {
    if caller.subject.record.role == person.role && caller.subject.record.name == person.name {
        return Err(Refusal::Conflict(Conflict::RemovesSelf));
    }
    not_the_last(shell, person, None).await
}
