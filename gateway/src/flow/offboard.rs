//! What becomes of what a person made and owns when they are removed, locked, or handed over.

use pki::Role;

use super::{
    admin::{Whole, identity, remove, resource, visible, whole, whole_of},
    owners,
    page::All,
    set,
    shell::{Actor, Shell, retrying},
    views::{MadeBy, Removal},
};
use crate::core::{
    admission::Caller,
    approve::{permit, person_facts},
    keys,
    records::{Enrollment, Owner, Seen, Subject, Token, Waiting},
    refusal::{Conflict, Fault, Refusal},
};

/// Most of each kind that are named in an answer. The rest is a number: nobody reads more.
const NAMED_MAX: usize = 100;

/// Most machines handed over in one batch of the store.
const BATCH: usize = 50;

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
    while let Some((id, entry)) = waiting.next().await? {
        if entry.record.withdrawn {
            continue;
        }
        let seen: Option<Seen<Enrollment>> = shell.get(keys::enrollment(&id)).await?;
        if seen.is_some_and(|seen| seen.record.approvals.iter().any(|one| one.lineage == person.lineage)) {
            note(|made| &mut made.approvals, id);
        }
    }
    owners::machines(shell, person).await?.into_iter().for_each(|name| note(|made| &mut made.machines, name));
    Ok(made)
}

/// Whether somebody other than this person may administer the gateway, and is not locked.
async fn another_administers(shell: &Shell, but: &Subject) -> Result<bool, Fault> {
    let mut people = All::<Subject>::of(shell, &keys::subjects(Role::Person), None);
    while let Some((name, seen)) = people.next().await? {
        if name != but.name && administers(shell, &seen.record) && !whole(shell, seen).await?.is_locked() {
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

/// Hands the machines of a person to another, then removes the person. Should it be interrupted, asking again goes on where
/// it was.
///
/// # Errors
/// Why not; nothing is changed when one of the machines may not be handed over.
pub async fn offboard(
    shell: &Shell,
    caller: &Caller,
    name: &str,
    to: &str,
    instance: &str,
) -> Result<Removal, Refusal> {
    let leaving = visible(shell, caller, Role::Person, name).await?;
    let action = policy::Action::Administer;
    permit(&shell.rules.load(), caller, action, resource(shell, &leaving), shell.now()).map(drop)?;
    may_go(shell, caller, &leaving.subject.record).await?;
    let heir = visible(shell, caller, Role::Person, to).await?;
    if to == name || heir.is_locked() {
        let conflict = if to == name { Conflict::HeirLeaves } else { Conflict::HeirLocked };
        return Err(Refusal::Conflict(conflict(to.to_owned())));
    }
    let owner = Owner::named(to, Some(&heir.subject.record));
    let machines = owners::machines(shell, &leaving.subject.record).await?;
    for machine in &machines {
        if let Some(whole) = whole_of(shell, Role::Machine, machine).await? {
            set::owner(shell, caller, &whole, &owner)?;
        }
    }
    for names in machines.chunks(BATCH) {
        hand_over(shell, caller, &leaving.subject.record, names, &owner, instance).await?;
    }
    let mut removed = remove(shell, caller, Role::Person, name, instance).await?;
    removed.handed_over = machines;
    Ok(removed)
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
        let mut changes = crate::core::change::Changes::new();
        for name in names {
            // Whoever gave it to somebody else meanwhile has the last word.
            let still = |whole: &Whole| whole.subject.record.owner.as_ref().is_some_and(|owner| owner.is(from));
            if let Some(whole) = whole_of(shell, Role::Machine, name).await?.filter(still) {
                let rules = set::owner(shell, caller, &whole, owner)?;
                let identity = identity(shell, &whole.subject.record)?.to_string();
                set::write(&mut changes, &whole.subject, identity, rules, |subject| {
                    subject.owner = Some(owner.clone())
                });
            }
        }
        if !changes.is_empty() {
            shell.commit(changes, &Actor { who: &who, instance }).await?;
        }
        Ok(())
    })
    .await
}
