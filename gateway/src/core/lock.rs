//! Locks: standing refusals of a machine, person, lineage or key.

use super::{
    audit::Event,
    change::Changes,
    keys,
    records::{Lineage, Lock, LockKind, Seen},
    refusal::Refusal,
};

/// The locks found for one caller or newcomer.
#[derive(Clone, Debug, Default)]
pub struct Locks(pub Vec<Seen<Lock>>);

impl Locks {
    /// Refuses when any lock stands.
    ///
    /// # Errors
    /// [`Refusal::Locked`] with the reason of the first, machine or person before lineage before key.
    pub fn refuse(&self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some(Seen { record: lock, .. }) => Err(Refusal::Locked {
                what: match lock.kind {
                    LockKind::Machine => format!("the machine `{}`", lock.target),
                    LockKind::Person => format!("the person `{}`", lock.target),
                    LockKind::Lineage => "this certificate's lineage".to_owned(),
                    LockKind::Key => "this key".to_owned(),
                },
                reason: lock.reason.clone(),
            }),
        }
    }

    /// Whether any lock stands.
    #[must_use]
    pub const fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The lock epoch, seen.
pub type Epoch = Option<Seen<u64>>;

/// Sets a lock. The revocation lists are computed from the locks that stand, so nothing else is written for them.
pub fn set(lock: &Lock, rules: Vec<String>, epoch: &Epoch) -> Changes {
    let mut changes = Changes::new();
    changes.create(keys::lock(lock.kind, &lock.target), lock);
    bump(&mut changes, epoch);
    changes.event(Event::LockSet {
        kind: lock.kind.as_str(),
        target: lock.target.clone(),
        reason: lock.reason.clone(),
        rules,
    });
    changes
}

/// Lifts a lock. A fork is forgiven with it when the lineage itself was locked.
pub fn lift(lock: &Seen<Lock>, rules: Vec<String>, lineages: &[Seen<Lineage>], epoch: &Epoch) -> Changes {
    let mut changes = Changes::new();
    changes.remove(keys::lock(lock.record.kind, &lock.record.target), lock);
    bump(&mut changes, epoch);
    for seen in lineages {
        if lock.record.kind == LockKind::Lineage && seen.record.forked {
            let mut lineage = seen.record.clone();
            lineage.forked = false;
            changes.update(keys::lineage(&lineage.id), seen, &lineage);
        }
    }
    changes.event(Event::LockLifted { kind: lock.record.kind.as_str(), target: lock.record.target.clone(), rules });
    changes
}

/// Moves the lock epoch on with everything that takes a right away, so that a restored store, which would give it back,
/// can be told from the newest one.
pub fn bump(changes: &mut Changes, epoch: &Epoch) {
    let next = epoch.as_ref().map_or(0, |seen| seen.record) + 1;
    changes.upsert(keys::EPOCH.to_owned(), epoch.as_ref(), &next);
}
