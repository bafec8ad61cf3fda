//! Corrections of what was assigned at admission: name, labels and owner of a machine, groups of a person.
//!
//! A name is part of the certificates, so a machine gets a new name together with a new certificate: it is asked to renew, and the
//! first use of the renewed certificate changes all records at once (`core::admission`). Until then the old name is valid; afterwards
//! the old name stays reserved until the last certificate with it has expired.

use pki::Role;

use super::{
    asked::{MachineCorrection, PersonCorrection},
    departure, owners,
    shell::{Actor, Shell, retrying},
    subjects::{SubjectRecords, identity, load_subject, resource, view, visible},
    tokens,
    views::Correction,
};
use crate::core::{
    admission::Caller,
    audit::Event,
    change::Changes,
    enroll::NameRecords,
    facts::permit,
    given::{Groups, Labels, known_owner},
    keys,
    look::Look,
    name,
    records::{KeptName, Owner, Seen, Subject},
    refusal::{Conflict, Either, Fault, Malformed, Refusal},
    renew_now, subjects,
};

/// Changes labels and owner of a machine.
///
/// # Errors
/// Why not; [`Refusal::NotFound`] also when the caller may not know of it.
pub async fn machine(
    shell: &Shell,
    caller: &Caller,
    name: &str,
    asked: &MachineCorrection,
    instance: &str,
) -> Result<Correction, Refusal> {
    if asked.owner.is_some() && asked.no_owner {
        return Err(Refusal::Malformed(Malformed::Either(Either::OwnerOrNone)));
    }
    let owner = shell.look(|look| owners::named(look, asked.owner.as_deref())).await?;
    change(shell, caller, (Role::Machine, name), instance, |subject| {
        if let Some(new) = &asked.name {
            subject.renaming = Some(renaming(subject, new)?);
        }
        let mut labels = subject.labels.clone();
        labels.retain(|key, _| !asked.no_labels.contains(key));
        labels.extend(asked.labels.clone());
        subject.labels = Labels::parse(&labels)?.into_map();
        if asked.no_owner {
            subject.owner = None;
        }
        if owner.is_some() {
            known_owner(owner.as_ref())?;
            subject.owner.clone_from(&owner);
        }
        Ok(())
    })
    .await
}

/// The new name of a machine, if it may have that name.
fn renaming(subject: &Subject, new: &str) -> Result<String, Refusal> {
    if let Some(becomes) = &subject.renaming {
        let (name, becomes) = (subject.name.clone(), becomes.clone());
        return Err(Refusal::Conflict(Conflict::Renaming { name, becomes }));
    }
    if new == subject.name {
        return Err(Refusal::Conflict(Conflict::SameName(new.to_owned())));
    }
    Ok(name::legal(new)?.to_string())
}

/// The changes for a renaming in addition to the subject's record: the new name is reserved, and the machine is asked to renew. While a
/// lock stands against either name, the machine cannot be renamed.
fn rename(
    shell: &Shell,
    changes: &mut Changes,
    before: &SubjectRecords,
    (new, records): (&str, NameRecords),
    rules: &[String],
) -> Result<(), Refusal> {
    let subject = &before.subject.record;
    if before.is_locked() {
        return Err(Refusal::Conflict(Conflict::RenameLocked(subject.name.clone())));
    }
    records.locks.refuse()?;
    if records.is_taken(shell.now()) {
        return Err(Refusal::NameTaken { name: new.to_owned() });
    }
    changes.unchanged::<Subject>(keys::subject(subject.role, new), None);
    let kept = KeptName { lineage: subject.lineage.clone(), until: None };
    changes.upsert(keys::kept_name(subject.role, new), records.kept.as_ref(), &kept);
    let lineage = before.lineage.as_ref().ok_or_else(|| Fault::Record("a machine without a lineage".to_owned()))?;
    let identity = identity(shell, subject)?.to_string();
    renew_now::ask(changes, lineage, identity, &format!("to be called {new}"), rules, shell.now());
    Ok(())
}

/// Changes the groups of a person.
///
/// # Errors
/// Why not; [`Refusal::NotFound`] also when the caller may not know of them.
pub async fn person(
    shell: &Shell,
    caller: &Caller,
    name: &str,
    asked: &PersonCorrection,
    instance: &str,
) -> Result<Correction, Refusal> {
    let mut reply = change(shell, caller, (Role::Person, name), instance, |subject| {
        let mut groups = subject.groups.clone();
        groups.retain(|group| !asked.no_groups.contains(group));
        groups.extend(asked.groups.clone());
        subject.groups = Groups::parse(&groups)?.into_vec();
        Ok(())
    })
    .await?;
    reply.warnings = tokens::unruled(shell, &asked.groups);
    Ok(reply)
}

/// Changes a subject: the caller must be permitted to administer it as it is and as it will be.
async fn change(
    shell: &Shell,
    caller: &Caller,
    (role, name): (Role, &str),
    instance: &str,
    how: impl Fn(&mut Subject) -> Result<(), Refusal>,
) -> Result<Correction, Refusal> {
    let who = caller.identity.to_string();
    let (after, version) = retrying(|| async {
        let mut version = None;
        let looked = |look: &Look| -> Result<_, Refusal> {
            // Includes what a loss of rights changes, so that of two people who take rights from each other one conflicts and is
            // decided again.
            let epoch = look.get(keys::EPOCH)?;
            let before = visible(shell, look, caller, role, name)?;
            may(shell, caller, &before)?;
            let mut subject = before.subject.record.clone();
            how(&mut subject)?;
            let after = load_subject(look, Seen { record: subject, version: before.subject.version })?;
            let becomes = &after.subject.record.renaming;
            let becomes = match becomes.as_ref().filter(|_| before.subject.record.renaming.is_none()) {
                Some(name) => Some((name.clone(), owners::of_name(look, role, name)?)),
                None => None,
            };
            Ok((epoch, before, after, becomes))
        };
        let (epoch, before, after, becomes) = shell.look(looked).await?;
        let subject = after.subject.record.clone();
        let rules = may_make(shell, caller, &after)?;
        if role == Role::Person {
            departure::not_the_last(shell, &before.subject.record, Some(&subject)).await?;
        }
        let identity = identity(shell, &subject)?.to_string();
        let mut changes = Changes::new();
        if let Some((name, records)) = becomes {
            rename(shell, &mut changes, &before, (&name, records), &rules)?;
        }
        write(&mut changes, &before.subject, identity, rules, |record| *record = subject.clone());
        if !changes.is_empty() {
            crate::core::lock::bump(&mut changes, &epoch);
            // Labels, owners and groups decide who reaches what.
            version = Some(shell.commit(changes, &Actor { who: &who, instance }).await?);
        }
        Ok((after, version))
    })
    .await?;
    if let Some(version) = version {
        shell.enforcer.passed(version).await;
    }
    let subject = shell.look(|look| view(shell, look, after.clone())).await?;
    Ok(Correction { subject, warnings: vec![] })
}

fn may(shell: &Shell, caller: &Caller, records: &SubjectRecords) -> Result<Vec<String>, Refusal> {
    let (action, resource) = (policy::Action::Administer, resource(shell, records));
    Ok(permit(&shell.rules.load(), caller, action, resource, shell.now())?.rules().to_vec())
}

/// Checks that the caller may set these values. If they are the caller's own, the policy is asked about a copy with an impossible name,
/// because it knows the caller only as they are now.
fn may_make(shell: &Shell, caller: &Caller, after: &SubjectRecords) -> Result<Vec<String>, Refusal> {
    let resource = match resource(shell, after) {
        policy::Resource::Person(person) if person.name == caller.subject.record.name => {
            policy::Resource::Person(policy::Person { name: format!("{} as changed", person.name), ..person })
        }
        other => other,
    };
    under_each_name(shell, caller, &after.subject.record, resource)
}

/// Checks that the caller may administer the subject. A machine that is being renamed is checked under both names, because the change
/// applies under both.
fn under_each_name(
    shell: &Shell,
    caller: &Caller,
    subject: &Subject,
    resource: policy::Resource,
) -> Result<Vec<String>, Refusal> {
    let renamed = if let (policy::Resource::Machine(machine), Some(name)) = (&resource, &subject.renaming) {
        Some(policy::Resource::Machine(policy::Machine { name: name.clone(), ..machine.clone() }))
    } else {
        None
    };
    let (rules, mut by) = (shell.rules.load(), Vec::new());
    for resource in [resource].into_iter().chain(renamed) {
        by.extend(permit(&rules, caller, policy::Action::Administer, resource, shell.now())?.rules().to_vec());
    }
    by.sort();
    by.dedup();
    Ok(by)
}

/// Checks that the caller may give a machine to this owner, as it is and as it will be. Returns the rules.
///
/// # Errors
/// [`Refusal::Denied`].
pub(super) fn owner(
    shell: &Shell,
    caller: &Caller,
    records: &SubjectRecords,
    owner: &Owner,
) -> Result<Vec<String>, Refusal> {
    may(shell, caller, records)?;
    let after = match resource(shell, records) {
        policy::Resource::Machine(machine) => {
            policy::Resource::Machine(policy::Machine { owner: Some(owner.name.clone()), ..machine })
        }
        other => other,
    };
    under_each_name(shell, caller, &records.subject.record, after)
}

/// Writes a changed subject with the event for the change; nothing without a difference.
pub(super) fn write(
    changes: &mut Changes,
    seen: &Seen<Subject>,
    identity: String,
    rules: Vec<String>,
    how: impl FnOnce(&mut Subject),
) {
    let mut subject = seen.record.clone();
    how(&mut subject);
    let changed = differences(&seen.record, &subject);
    if !changed.is_empty() {
        subjects::update(changes, seen, &subject);
        changes.event(Event::SubjectSet { identity, changed, rules });
    }
}

/// The differences, for the audit: `+a=1 -b`, `bob -> carol`.
fn differences(before: &Subject, after: &Subject) -> Vec<(&'static str, String)> {
    let mut changed = Vec::new();
    let gone = before.labels.keys().filter(|key| !after.labels.contains_key(*key)).map(|key| format!("-{key}"));
    let new = after.labels.iter().filter(|(key, value)| before.labels.get(*key) != Some(value));
    let labels: Vec<String> = new.map(|(key, value)| format!("+{key}={value}")).chain(gone).collect();
    let gone = before.groups.iter().filter(|group| !after.groups.contains(group)).map(|group| format!("-{group}"));
    let new = after.groups.iter().filter(|group| !before.groups.contains(group)).map(|group| format!("+{group}"));
    let groups: Vec<String> = new.chain(gone).collect();
    for (what, list) in [("labels", labels), ("groups", groups)] {
        if !list.is_empty() {
            changed.push((what, list.join(" ")));
        }
    }
    if let Some(name) = after.renaming.as_ref().filter(|_| before.renaming.is_none()) {
        changed.push(("name", format!("{} -> {name}", before.name)));
    }
    if before.owner != after.owner {
        let named =
            |owner: &Option<Owner>| owner.as_ref().map_or_else(|| "nobody".to_owned(), |owner| owner.name.clone());
        changed.push(("owner", format!("{} -> {}", named(&before.owner), named(&after.owner))));
    }
    changed
}
