//! What the task that ends things tells those who wait for it. The task itself is `flow::enforcer`.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

use crate::{core::refusal::Fault, limits::ENFORCE_TIME, store::Version};

/// What a lock ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// Sessions.
    pub sessions: usize,
    /// How long that took, in milliseconds.
    pub millis: u64,
    /// Sessions that had not ended by then.
    pub left: usize,
}

/// What became of the open sessions under a new policy.
#[derive(Debug, Default)]
pub struct Rechecked {
    /// How many it does not allow. They were ended.
    pub ended: usize,
    /// About how many it could not be asked, and why the first. They were ended too: whatever goes wrong denies.
    pub unasked: Option<(usize, Fault)>,
    /// About how many it could not be asked because the store is away. They go on until it can.
    pub later: usize,
}

/// An order to hold all sessions against the policy, and where the outcome goes.
pub type RecheckOrder = oneshot::Sender<Rechecked>;

/// Outcomes of locks that are kept for whoever set them: more than are set at once.
const OUTCOMES_KEPT: usize = 256;

/// What requests ask of it, and what it tells them.
#[derive(Debug)]
pub struct Enforcer {
    passed: watch::Sender<Version>,
    outcomes: watch::Sender<VecDeque<(Version, Enforced)>>,
    turns: AtomicU64,
    orders: mpsc::Sender<RecheckOrder>,
    taken: Mutex<Option<mpsc::Receiver<RecheckOrder>>>,
    /// Told when another gateway has put a policy in force that is not the one here.
    pub policy_elsewhere: Notify,
}

impl Default for Enforcer {
    fn default() -> Self {
        let (orders, taken) = mpsc::channel(1);
        Self {
            passed: watch::Sender::new(0),
            outcomes: watch::Sender::default(),
            turns: AtomicU64::new(0),
            orders,
            taken: Mutex::new(Some(taken)),
            policy_elsewhere: Notify::new(),
        }
    }
}

impl Enforcer {
    /// Ready when everything that this commit ends here was told to end, or after [`ENFORCE_TIME`]. For commits of locks, machines,
    /// people and the policy's digest: others are not waited for by anybody.
    pub async fn passed(&self, version: Version) {
        let mut passed = self.passed.subscribe();
        if timeout(ENFORCE_TIME, passed.wait_for(|passed| *passed >= version)).await.is_err() {
            tracing::error!(version, "what was committed has not been enforced in time");
        }
    }

    /// What the lock of this commit ended here, once the last of it has ended or was given up.
    pub async fn outcome(&self, version: Version) -> Option<Enforced> {
        let mut outcomes = self.outcomes.subscribe();
        let of =
            |kept: &VecDeque<(Version, Enforced)>| kept.iter().find(|(at, _)| *at == version).map(|(_, what)| *what);
        // As long again as its sessions are waited for: the task may have to wait for the store first.
        let found = timeout(2 * ENFORCE_TIME, outcomes.wait_for(|kept| of(kept).is_some())).await;
        found.ok()?.ok().and_then(|kept| of(&kept))
    }

    /// Grows before anything is ended. Whoever enters a table looks before it reads what it rests on and afterwards: if this has
    /// grown meanwhile, the walk through the table may have missed it, and it must read again.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Holds every open session against the policy that is in force here now.
    pub async fn policy_changed(&self) -> Rechecked {
        let (done, rechecked) = oneshot::channel();
        // Both errors mean that the task has ended, and the process does.
        if self.orders.send(done).await.is_err() {
            return Rechecked::default();
        }
        rechecked.await.unwrap_or_default()
    }

    /// What requests order, once: for the task.
    pub fn orders(&self) -> Option<mpsc::Receiver<RecheckOrder>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Something is about to be ended.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// Everything that commits up to this one end was told to end.
    pub fn has_passed(&self, version: Version) {
        self.passed.send_modify(|passed| *passed = version.max(*passed));
    }

    /// The lock of a commit was enforced.
    pub fn ended(&self, version: Version, outcome: Enforced) {
        self.outcomes.send_modify(|kept| {
            kept.truncate(OUTCOMES_KEPT - 1);
            kept.push_front((version, outcome));
        });
    }
}
