//! Names and what is known of them: who holds one, what stands on it, whose machines name it as their owner.

use pki::Role;

use super::{admit::locks, shell::Shell};
use crate::core::{
    admission,
    enroll::NameRecords,
    keys,
    records::{Owner, Seen, Subject},
    refusal::Fault,
};

/// Machines read at a time, on the way through all of them.
const PAGE: usize = 256;

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
    let locks = locks(shell, vec![(admission::lock_kind(role), name.to_owned())]).await?;
    Ok(NameRecords { holder, locks, is_owners: false })
}

/// Whether a machine names an owner of this name. Every machine is looked at, so it is asked only for a person who comes
/// with a token that leaves the name to them.
///
/// # Errors
/// When the store fails.
pub async fn is_owners(shell: &Shell, name: &str) -> Result<bool, Fault> {
    let prefix = keys::subjects(Role::Machine);
    let mut after: Option<String> = None;
    loop {
        let rows: Vec<(String, Seen<Subject>)> = shell.scan(&prefix, after.as_deref(), PAGE).await?;
        if rows.iter().any(|(_, seen)| seen.record.owner.as_ref().is_some_and(|owner| owner.name == name)) {
            return Ok(true);
        }
        if rows.len() < PAGE {
            return Ok(false);
        }
        after = rows.into_iter().last().map(|(key, _)| key);
    }
}
