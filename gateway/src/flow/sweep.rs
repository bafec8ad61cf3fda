//! Housekeeping: goes through the table of record kinds and removes what has lapsed, on one of the gateways of a store.

use super::{
    clock,
    lead::{self, Lead},
    shell::{self, Actor, Retry, Shell},
};
use crate::{
    core::{
        change::Changes,
        kinds::{KINDS, Term},
        lapse::{LapseTimes, Rule, Walk},
        refusal::{Fault, Refusal},
        stored::RawRecord,
        timekeeping::Deletes,
    },
    store::{Key, StoreLimits},
};

/// Most records processed together.
const PAGE: usize = 256;

/// Sorts after every key with the same prefix.
const BEHIND: char = '~';

/// One round, as far as the clock is trusted.
///
/// # Errors
/// If the store fails; the next round continues.
pub async fn sweep(shell: &Shell) -> Result<(), Refusal> {
    // Each gateway checks its own clock.
    let deletes = clock::look(shell).await?;
    let now = match deletes {
        Deletes::Nothing => return Ok(()),
        Deletes::ShortLived(now) | Deletes::Everything(now) => now,
    };
    let times = LapseTimes { now, audit_retention: shell.settings.load().audit_retention.as_secs() };
    let of = |short: bool| KINDS.iter().filter(move |kind| matches!(kind.term, Term::Short(_)) == short);
    let mut first = Ok(());
    // Waiting requests come first. A failure with one kind does not prevent the others.
    for kind in of(true).chain(of(false)) {
        let walked = match (&kind.term, deletes) {
            (Term::Short(rule), _) | (Term::Long(rule), Deletes::Everything(_)) => {
                walk(shell, kind.prefix, rule, times).await
            }
            (Term::Long(_), Deletes::ShortLived(_) | Deletes::Nothing) | (Term::Standing, _) => Ok(()),
        };
        first = first.and(walked);
    }
    first
}

/// Goes through the records of one kind page by page, while this gateway is the leader.
async fn walk(shell: &Shell, prefix: &str, rule: &Rule, times: LapseTimes) -> Result<(), Refusal> {
    let mut after = None;
    while let Some(lead) = lead::lead(shell).await? {
        let (rows, more) = page(shell, prefix, after.as_deref()).await?;
        let decided = |look: &_| Ok(rows.iter().map(|(key, raw)| rule.lapse(look, key, raw, times)).collect());
        let decided: Vec<Result<Option<Changes>, Fault>> = shell.look::<_, Fault>(decided).await?;
        let (mut lapsed, mut skipped) = (Vec::new(), None);
        for ((key, _), decided) in rows.iter().zip(decided) {
            match (decided, rule.walk) {
                (Ok(Some(changes)), _) => lapsed.push(changes),
                (Ok(None), Walk::OldestFirst(part)) => {
                    skipped = Some(format!("{}{BEHIND}", part(key)));
                    break;
                }
                // A damaged record is reported, and kept.
                (Ok(None), Walk::All) | (Err(_), _) => {}
            }
        }
        end(shell, lead, lapsed).await?;
        after = match (skipped, rows.into_iter().next_back()) {
            (Some(skipped), _) => Some(skipped),
            (None, Some((last, _))) if more => Some(last),
            (None, _) => return Ok(()),
        };
    }
    Ok(())
}

async fn page(shell: &Shell, prefix: &str, after: Option<&str>) -> Result<(Vec<(String, RawRecord)>, bool), Fault> {
    let (prefix, after) = (Key::from(prefix), after.map(Key::from));
    let page = shell.store.scan(&prefix, after.as_ref(), PAGE).await.map_err(|error| shell.fault(error))?;
    Ok((page.rows.into_iter().map(|(key, entry)| (key.to_string(), shell::raw(entry))).collect(), page.more))
}

/// Commits the changes in batches. After a conflict the records of the batch are committed one by one; the one that was changed
/// meanwhile is checked again in the next round.
async fn end(shell: &Shell, lead: Lead, lapsed: Vec<Changes>) -> Result<(), Refusal> {
    for batch in batches(lapsed, &shell.store.limits()) {
        let mut together = Changes::new();
        batch.iter().for_each(|one| together.extend(one.clone()));
        if quietly(shell, lead, together).await? || batch.len() == 1 {
            continue;
        }
        for one in batch {
            quietly(shell, lead, one).await?;
        }
    }
    Ok(())
}

/// Combines as many changes as fit into one batch.
fn batches(lapsed: Vec<Changes>, limits: &StoreLimits) -> Vec<Vec<Changes>> {
    let mut batches: Vec<Vec<Changes>> = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    for changes in lapsed {
        // One more expectation: that this gateway is the leader.
        (items, bytes) = (items + changes.items(), bytes + changes.bytes());
        match batches.last_mut() {
            Some(batch) if items < limits.batch_items && bytes <= limits.batch_bytes => batch.push(changes),
            Some(_) | None => {
                (items, bytes) = (changes.items(), changes.bytes());
                batches.push(vec![changes]);
            }
        }
    }
    batches
}

/// Commits, unless there is a conflict. Returns whether it did.
async fn quietly(shell: &Shell, lead: Lead, mut changes: Changes) -> Result<bool, Refusal> {
    lead.guards(&mut changes);
    match shell.commit(changes, &Actor { who: "gateway", instance: "sweep" }).await {
        Ok(_) => Ok(true),
        Err(Retry::Conflict) => Ok(false),
        Err(Retry::Refused(refusal)) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(writes: usize) -> Changes {
        let mut changes = Changes::new();
        (0..writes).for_each(|at| changes.delete(format!("key/{at}")));
        changes
    }

    #[test]
    fn batches_are_what_the_store_takes() {
        let limits = StoreLimits { batch_items: 4, batch_bytes: 1_000, page_bytes: 1 };
        let lens = |sizes: &[usize]| -> Vec<usize> {
            batches(sizes.iter().map(|size| of(*size)).collect(), &limits).iter().map(Vec::len).collect()
        };
        assert_eq!(lens(&[]), [0; 0]);
        assert_eq!(lens(&[1, 1, 1, 1]), [3, 1]);
        assert_eq!(lens(&[2, 2, 1]), [1, 2]);
        assert_eq!(lens(&[9, 1]), [1, 1], "one that does not fit goes alone");
    }
}
