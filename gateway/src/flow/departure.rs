//! When a person goes: what they made goes with them, and the last who may administer stays.

use pki::Role;

use super::{
    owners,
    page::All,
    shell::{Shell, readable},
    subjects::whole,
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

/// Most of each kind that are named in an answer. The rest is a number: nobody reads more.
const NAMED_MAX: usize = 100;

/// What a person made that counts only while they do, and what they own. All tokens and all that waits are looked through, page by
/// page, so it is asked only when somebody is locked, removed or handed over, by whoever may do that.
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

/// Whether somebody other than this person may administer the gateway, and is not locked.
async fn another_administers(shell: &Shell, but: &Subject) -> Result<bool, Fault> {
    let mut people = All::<Subject>::of(shell, &keys::subjects(Role::Person), None);
    while let Some(rows) = people.chunk().await? {
        let can = |look: &Look, seen: &Seen<Subject>| {
            let others = seen.record.name != but.name && administers(shell, &seen.record);
            // One whose records are damaged administers nothing, and keeps nobody from leaving.
            Ok(others && readable(whole(look, seen.clone()))?.is_some_and(|whole| !whole.is_locked()))
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

/// Refuses what would leave nobody who may administer the gateway. `after` is what the person would be; nothing when they
/// would be gone.
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

/// Refuses the removal of oneself, and of the last who may administer.
///
/// # Errors
/// [`Refusal::Conflict`].
pub(super) async fn may_go(shell: &Shell, caller: &Caller, person: &Subject) -> Result<(), Refusal> {
    if caller.subject.record.role == person.role && caller.subject.record.name == person.name {
        return Err(Refusal::Conflict(Conflict::RemovesSelf));
    }
    not_the_last(shell, person, None).await
}
