//! Locks: standing refusals of a machine, person, lineage or key.

use std::collections::BTreeSet;

use super::{
    audit::Event,
    change::Changes,
    keys,
    records::{Lineage, Lock, LockKind, Seen},
    refusal::{Fault, Refusal},
    reject::Reject,
};

/// What a lock can hit: a kind, and which one.
pub type Target = (LockKind, String);

/// The locks that stand among the targets that were looked up, with which those were: a target that nobody looked up is not
/// one without a lock.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    asked: BTreeSet<Target>,
    found: Vec<Seen<Lock>>,
}

impl Locks {
    /// What was found for these targets.
    #[must_use]
    pub fn new(asked: impl IntoIterator<Item = Target>, found: Vec<Seen<Lock>>) -> Self {
        Self { asked: asked.into_iter().collect(), found }
    }

    /// These and those.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.asked.extend(other.asked);
        self.found.extend(other.found);
        self
    }

    /// Whether all of these were looked up.
    ///
    /// # Errors
    /// [`Fault::Record`]: a way to a certificate forgot one, which must not pass for one without a lock.
    pub fn cover(&self, targets: &[Target]) -> Result<(), Fault> {
        match targets.iter().find(|target| !self.asked.contains(target)) {
            None => Ok(()),
            Some((kind, target)) => {
                Err(Fault::Record(format!("locks on the {} `{target}` were not looked up", kind.as_str())))
            }
        }
    }

    /// The locks.
    pub fn into_found(self) -> impl Iterator<Item = Lock> {
        self.found.into_iter().map(|seen| seen.record)
    }

    /// Refuses when any lock stands.
    ///
    /// # Errors
    /// [`Refusal::Locked`] with the reason of the first, machine or person before lineage before key.
    pub fn refuse(&self) -> Result<(), Refusal> {
        match self.found.first() {
            None => Ok(()),
            Some(Seen { record: lock, .. }) => Err(refusal(lock)),
        }
    }

    /// Refuses when any lock stands, and tells the reason of one that stands against whoever hears it: `own` is what they are. A
    /// lock on somebody else, such as the maker of their token, is none of their business.
    ///
    /// # Errors
    /// [`Refusal::Locked`] with the reason of one of their own; else that their token does not count at present.
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

    /// Whether any lock stands.
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

/// The lock epoch, seen.
pub type Epoch = Option<Seen<u64>>;

/// Sets a lock, with those that come with it. The revocation lists are computed from the locks that stand, so nothing else
/// is written for them.
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

/// Lifts a lock, with those that came with it. A fork is forgiven with it when the lineage itself was locked.
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

/// Moves the lock epoch on with everything that takes a right away, so that a restored store, which would give it back,
/// can be told from the newest one.
pub fn bump(changes: &mut Changes, epoch: &Epoch) {
    let next = epoch.as_ref().map_or(0, |seen| seen.record) + 1;
    changes.upsert(keys::EPOCH.to_owned(), epoch.as_ref(), &next);
}
