//! Locks: a machine, person, lineage or key is refused until the lock is lifted.

use std::collections::BTreeSet;

use super::{
    audit::Event,
    change::{Changes, Expectation},
    keys,
    records::{Lineage, Lock, LockKind, Seen},
    refusal::{Fault, Refusal},
    reject::Reject,
};

/// What a lock applies to: its kind, and the name, lineage id or key digest (hex).
pub type Target = (LockKind, String);

/// The locks found, and the targets that were looked up for them: only a target that was looked up can be known to have no lock.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    asked: BTreeSet<Target>,
    found: Vec<Seen<Lock>>,
}

impl Locks {
    /// `found` are all locks on the targets in `asked`.
    #[must_use]
    pub fn new(asked: impl IntoIterator<Item = Target>, found: Vec<Seen<Lock>>) -> Self {
        Self { asked: asked.into_iter().collect(), found }
    }

    /// The union.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.asked.extend(other.asked);
        self.found.extend(other.found);
        self
    }

    /// Checks that all of these were looked up.
    ///
    /// # Errors
    /// [`Fault::Record`] for a bug: the caller did not look up one of the targets.
    pub fn cover(&self, targets: &[Target]) -> Result<(), Fault> {
        match targets.iter().find(|target| !self.asked.contains(target)) {
            None => Ok(()),
            Some((kind, target)) => {
                Err(Fault::Record(format!("locks on the {} `{target}` were not looked up", kind.as_str())))
            }
        }
    }

    /// The conditions of a commit that counts on this look-up: nothing that was looked up is locked meanwhile.
    pub fn conditions(&self) -> impl Iterator<Item = Expectation> {
        self.asked.iter().map(|(kind, target)| Expectation::Absent(keys::lock(*kind, target)))
    }

    /// The locks, without their versions.
    pub fn into_found(self) -> impl Iterator<Item = Lock> {
        self.found.into_iter().map(|seen| seen.record)
    }

    /// Refuses if there is any lock.
    ///
    /// # Errors
    /// [`Refusal::Locked`] with the reason of the first one; machines and people come before lineages, and those before keys.
    pub fn refuse(&self) -> Result<(), Refusal> {
        match self.found.first() {
            None => Ok(()),
            Some(Seen { record: lock, .. }) => Err(refusal(lock)),
        }
    }

    /// Refuses if there is any lock. The client gets the reason only of a lock on itself, that is on one of `own`; a lock on
    /// somebody else, such as the creator of its token, is not disclosed.
    ///
    /// # Errors
    /// [`Refusal::Locked`] with the reason of a lock on `own`; otherwise [`Reject::suspended`](super::reject::Reject::suspended).
    pub fn refuse_telling(&self, own: &[Target]) -> Result<(), Refusal> {
        let theirs = self
            .found
            .iter()
            .find(|seen| own.iter().any(|(kind, target)| *kind == seen.record.kind && *target == seen.record.target));
        match theirs {
            Some(seen) => Err(refusal(&seen.record)),
            None if self.any() => Err(Reject::suspended().into()),
            None => Ok(()),
        }
    }

    /// Whether there is a lock on any target.
    #[must_use]
    pub const fn any(&self) -> bool {
        !self.found.is_empty()
    }
}

fn refusal(lock: &Lock) -> Refusal {
    Refusal::Locked {
        what: match lock.kind {
            LockKind::Machine => format!("the machine `{}`", lock.target),
            LockKind::Person => format!("the person `{}`", lock.target),
            LockKind::Lineage => "this certificate's lineage".to_owned(),
            LockKind::Key => "this key".to_owned(),
        },
        reason: lock.reason.clone(),
    }
}

/// The lock epoch as read; `None` in a new store.
pub type Epoch = Option<Seen<u64>>;

/// Sets a lock, with the locks that belong to it. CRLs are computed from the locks, so nothing else is written for them.
pub fn set(lock: &Lock, with: &[Lock], rules: &[String], epoch: &Epoch) -> Changes {
    let mut changes = Changes::new();
    bump(&mut changes, epoch);
    for lock in std::iter::once(lock).chain(with) {
        changes.create(keys::lock(lock.kind, &lock.target), lock);
        changes.event(Event::LockSet {
            kind: lock.kind.as_str(),
            target: lock.target.clone(),
            reason: lock.reason.clone(),
            rules: rules.to_vec(),
        });
    }
    changes
}

/// Lifts a lock, with the locks that belong to it. Lifting a lock on a lineage also clears its fork.
pub fn lift(
    lock: &Seen<Lock>,
    with: &[Seen<Lock>],
    rules: &[String],
    lineages: &[Seen<Lineage>],
    epoch: &Epoch,
) -> Changes {
    let mut changes = Changes::new();
    bump(&mut changes, epoch);
    for seen in std::iter::once(lock).chain(with) {
        changes.remove(keys::lock(seen.record.kind, &seen.record.target), seen);
        changes.event(Event::LockLifted {
            kind: seen.record.kind.as_str(),
            target: seen.record.target.clone(),
            rules: rules.to_vec(),
        });
    }
    for seen in lineages {
        if lock.record.kind == LockKind::Lineage && seen.record.forked {
            let mut lineage = seen.record.clone();
            lineage.forked = false;
            changes.update(keys::lineage(&lineage.id), seen, &lineage);
        }
    }
    changes
}

/// Increments the lock epoch. Every change that removes a right does so, because restoring an older store would undo it: a store
/// with a lower epoch than the newest known is detected.
pub fn bump(changes: &mut Changes, epoch: &Epoch) {
    let next = epoch.as_ref().map_or(0, |seen| seen.record) + 1;
    changes.upsert(keys::EPOCH.to_owned(), epoch.as_ref(), &next);
}
