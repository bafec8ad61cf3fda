//! Names and what is known of them: who holds one, what stands on it, whose machines name it as their owner.

use pki::Role;

use super::{
    admit::locks,
    page::All,
    shell::{Shell, readable},
};
use crate::core::{
    admission,
    enroll::NameRecords,
    keys,
    records::{Owner, Seen, Subject},
    refusal::Fault,
    subjects::Owned,
};

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
    let locks = locks(shell, vec![(admission::lock_kind(role), name.to_owned())]).await?;
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
