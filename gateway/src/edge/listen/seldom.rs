//! What happens as often as others like is said in the log now and then, with how often it happened.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{limits::TURNED_AWAY_LOG, ports::metrics::TurnedAway};

/// What is said seldom.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Recurring {
    /// No room for a connection.
    TurnedAway(TurnedAway),
    /// A balancer's connection without a good header.
    Header,
}

/// When each kind was said last, and how often it happened since. As many entries as there are kinds.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    said: Mutex<HashMap<Recurring, (Instant, u64)>>,
}

impl Seldom {
    /// It happened once more. Gives how often since it was said last, if it is to be said now.
    pub fn count(&self, kind: Recurring) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, count)) = said.get_mut(&kind) else {
            said.insert(kind, (now, 0));
            return Some(1);
        };
        *count += 1;
        (now.duration_since(*last) >= TURNED_AWAY_LOG).then(|| {
            *last = now;
            std::mem::take(count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_and_then_once_in_a_while() {
        let seldom = Seldom::default();
        let full = Recurring::TurnedAway(TurnedAway::Prefix);
        assert_eq!([seldom.count(full), seldom.count(full), seldom.count(full)], [Some(1), None, None]);
        assert_eq!(seldom.count(Recurring::Header), Some(1), "kinds are counted apart");
        tokio::time::advance(TURNED_AWAY_LOG).await;
        assert_eq!([seldom.count(full), seldom.count(full)], [Some(3), None]);
    }
}
