//! Names and what is known of them: who holds one, what stands on it, whose machines name it as their owner.

use pki::Role;

use super::{
    locks,
    page::All,
    shell::{Actor, Retry, Shell, readable},
};
use crate::core::{
    admission,
    change::Changes,
    enroll::NameRecords,
    keys,
    records::{Owner, Seen, Subject},
    refusal::{Fault, Refusal},
    subjects::{self, Owned},
};

/// Most entries of the index in one batch of the store, which has room for a thousand records.
const BATCH: usize = 250;

/// The owner of that name, tied to the person who holds it now.
///
/// # Errors
/// When the store fails.
pub async fn named(shell: &Shell, name: Option<&str>) -> Result<Option<Owner>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let holder: Option<Seen<Subject>> = shell.get(keys::subject(Role::Person, name)).await?;
    Ok(Some(Owner::named(name, holder.as_ref().map(|seen| &seen.record))))
}

/// The person who holds the name of a machine's owner now.
///
/// # Errors
/// When the store fails.
pub async fn person(shell: &Shell, machine: &Subject) -> Result<Option<Seen<Subject>>, Fault> {
    match &machine.owner {
        Some(owner) => shell.get(keys::subject(Role::Person, &owner.name)).await,
        None => Ok(None),
    }
}

/// What is known of a name that somebody would get and that somebody else chose.
///
/// # Errors
/// When the store fails.
pub async fn of_name(shell: &Shell, role: Role, name: &str) -> Result<NameRecords, Fault> {
    let holder = shell.get(keys::subject(role, name)).await?;
    let kept = shell.get(keys::kept_name(role, name)).await?;
    let locks = locks::on(shell, vec![(admission::lock_kind(role), name.to_owned())]).await?;
    Ok(NameRecords { holder, locks, kept, is_owners: false })
}

/// Whether a machine names an owner of this name.
///
/// # Errors
/// When the store fails.
pub async fn is_owners(shell: &Shell, name: &str) -> Result<bool, Fault> {
    let first: Vec<(String, Seen<Owned>)> = shell.scan(&keys::owned_by(name), None, 1).await?;
    Ok(!first.is_empty())
}

/// The machines whose owner this person is.
///
/// # Errors
/// When the store fails.
pub async fn machines(shell: &Shell, person: &Subject) -> Result<Vec<String>, Fault> {
    let mut entries = All::<Owned>::of(shell, &keys::owned_by(&person.name), None);
    let mut owned = Vec::new();
    while let Some((name, _)) = entries.next().await? {
        let machine: Option<Seen<Subject>> = readable(shell.get(keys::subject(Role::Machine, &name)).await)?.flatten();
        if machine.is_some_and(|seen| seen.record.owner.as_ref().is_some_and(|owner| owner.is(person))) {
            owned.push(name);
        }
    }
    Ok(owned)
}

/// Writes the entries that the index of machines by owner lacks: those of a store that is older than the index, and those that were
/// put aside. For the start, when nobody else writes. One too many does no harm: whoever finds a machine by it looks at its owner.
///
/// # Errors
/// When the store fails.
pub async fn complete(shell: &Shell) -> Result<(), Refusal> {
    let mut machines = All::<Subject>::of(shell, &keys::subjects(Role::Machine), None);
    let mut changes = Changes::new();
    loop {
        let next = machines.next().await?;
        let missing = match next.as_ref().and_then(|(_, seen)| subjects::entry(&seen.record)) {
            Some(key) => shell.get::<Owned>(key).await?.is_none(),
            None => false,
        };
        if let Some((_, seen)) = next.as_ref().filter(|_| missing) {
            subjects::index(&mut changes, &seen.record);
        }
        if changes.writes.len() == BATCH || next.is_none() && !changes.is_empty() {
            match shell.commit(std::mem::take(&mut changes), &Actor { who: "gateway", instance: "start" }).await {
                Ok(_) | Err(Retry::Conflict) => {}
                Err(Retry::Refused(refusal)) => return Err(refusal),
            }
        }
        if next.is_none() {
            return Ok(());
        }
    }
}
