//! Offboarding: the machines of a person go to another, and then the person goes.

use pki::Role;

use super::{
    admin::remove,
    departure::may_go,
    owners, set,
    shell::{Actor, Shell, retrying},
    subjects::{Whole, identity, resource, visible, whole_of},
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

/// Most machines handed over in one batch of the store.
const BATCH: usize = 50;

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
        for whole in all_of(shell, names).await? {
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

/// Those of these machines that are there.
async fn all_of(shell: &Shell, names: &[String]) -> Result<Vec<Whole>, Fault> {
    let found = |look: &Look| names.iter().map(|name| whole_of(look, Role::Machine, name)).collect();
    let found: Vec<Option<Whole>> = shell.look::<_, Fault>(found).await?;
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
        // Whoever gave it to somebody else meanwhile has the last word.
        let still = |whole: &Whole| whole.subject.record.owner.as_ref().is_some_and(|owner| owner.is(from));
        for whole in all_of(shell, names).await?.into_iter().filter(still) {
            let rules = set::owner(shell, caller, &whole, owner)?;
            let identity = identity(shell, &whole.subject.record)?.to_string();
            set::write(&mut changes, &whole.subject, identity, rules, |subject| subject.owner = Some(owner.clone()));
        }
        if !changes.is_empty() {
            shell.commit(changes, &Actor { who: &who, instance }).await?;
        }
        Ok(())
    })
    .await
}
