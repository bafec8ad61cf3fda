//! Names: their holder, the locks on them, and the machines that name a person as owner.

use pki::Role;

use super::{
    page::All,
    shell::{Actor, Retry, Shell, readable},
};
use crate::core::{
    admission,
    change::Changes,
    enroll::NameRecords,
    keys,
    look::Look,
    records::{Owner, Seen, Subject},
    refusal::{Fault, Refusal},
    subjects::{self, Owned},
};

/// The owner of that name, tied to the person who has the name now.
///
/// # Errors
/// [`Fault::Record`] when the person's record makes no sense.
pub fn named(look: &Look, name: Option<&str>) -> Result<Option<Owner>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let holder: Option<Seen<Subject>> = look.get(&keys::subject(Role::Person, name))?;
    Ok(Some(Owner::named(name, holder.as_ref().map(|seen| &seen.record))))
}

/// The person who now has the name of a machine's owner.
///
/// # Errors
/// [`Fault::Record`] when the person's record makes no sense.
pub fn person(look: &Look, machine: &Subject) -> Result<Option<Seen<Subject>>, Fault> {
    match &machine.owner {
        Some(owner) => look.get(&keys::subject(Role::Person, &owner.name)),
        None => Ok(None),
    }
}

/// What is known of a name that an approver or token chose for somebody.
///
/// # Errors
/// [`Fault::Record`] when a record makes no sense.
pub fn of_name(look: &Look, role: Role, name: &str) -> Result<NameRecords, Fault> {
    let holder = look.get(&keys::subject(role, name))?;
    let kept = look.get(&keys::kept_name(role, name))?;
    let locks = look.locks([(admission::lock_kind(role), name.to_owned())])?;
    Ok(NameRecords { holder, locks, kept, is_owners: false })
}

/// The keys that [`of_name`] asks for.
pub fn keys_of_name(role: Role, name: &str) -> [String; 3] {
    [keys::subject(role, name), keys::kept_name(role, name), keys::lock(admission::lock_kind(role), name)]
}

/// Whether any machine names an owner of this name.
#[must_use]
pub fn is_owners(look: &Look, name: &str) -> bool {
    look.any_under(&keys::owned_by(name))
}

/// The machines whose owner this person is.
///
/// # Errors
/// When the store fails.
pub async fn machines(shell: &Shell, person: &Subject) -> Result<Vec<String>, Fault> {
    let mut entries = All::<Owned>::of(shell, &keys::owned_by(&person.name), None);
    let mut owned = Vec::new();
    while let Some(rows) = entries.chunk().await? {
        let is_theirs = |look: &Look, name: &str| {
            let machine = readable(look.get::<Subject>(&keys::subject(Role::Machine, name)))?.flatten();
            Ok(machine.is_some_and(|seen| seen.record.owner.as_ref().is_some_and(|owner| owner.is(person))))
        };
        let theirs = |look: &Look| rows.iter().map(|(name, _)| is_theirs(look, name)).collect();
        let theirs: Vec<bool> = shell.look::<_, Fault>(theirs).await?;
        owned.extend(rows.into_iter().zip(theirs).filter_map(|((name, _), theirs)| theirs.then_some(name)));
    }
    Ok(owned)
}

/// Adds missing entries to the index of machines by owner: those of a store older than the index, and damaged ones that were removed.
/// For the start, before anything else writes. A surplus entry does no harm: its readers check the owner of the machine.
///
/// # Errors
/// When the store fails.
pub async fn complete(shell: &Shell) -> Result<(), Refusal> {
    let mut machines = All::<Subject>::of(shell, &keys::subjects(Role::Machine), None);
    while let Some(rows) = machines.chunk().await? {
        let lacks = |look: &Look, seen: &Seen<Subject>| match subjects::entry(&seen.record) {
            Some(key) => Ok(look.get::<Owned>(&key)?.is_none()),
            None => Ok(false),
        };
        let lacking = |look: &Look| rows.iter().map(|(_, seen)| lacks(look, seen)).collect();
        let lacking: Vec<bool> = shell.look::<_, Fault>(lacking).await?;
        let mut changes = Changes::new();
        for ((_, seen), _) in rows.iter().zip(lacking).filter(|(_, lacking)| *lacking) {
            subjects::index(&mut changes, &seen.record);
        }
        if changes.is_empty() {
            continue;
        }
        match shell.commit(changes, &Actor { who: "gateway", instance: "start" }).await {
            Ok(_) | Err(Retry::Conflict) => {}
            Err(Retry::Refused(refusal)) => return Err(refusal),
        }
    }
    Ok(())
}
