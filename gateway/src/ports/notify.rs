//! Notifications to the service manager (`sd_notify(3)`). Without one they do nothing.

use std::{future::Future, time::Duration};

use sd_notify::NotifyState;

use crate::limits::{START_ASKED, START_EVERY, START_EXTENSIONS};

/// Runs the work before the gateway serves, and asks for more time meanwhile: checking every record may take longer than the service
/// manager's start timeout. The number of extensions is limited, so that a start that hangs is restarted.
pub async fn starting<T>(work: impl Future<Output = T>) -> T {
    let extend = async {
        for _ in 0..START_EXTENSIONS {
            tokio::time::sleep(START_EVERY).await;
            say(&[NotifyState::ExtendTimeoutUsec(START_ASKED), NotifyState::Status("checking the store")]);
        }
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        never = extend => never,
    }
}

/// `READY=1`: the gateway serves.
pub fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// `STOPPING=1`: the gateway drains.
pub fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Interval of watchdog notifications: half of the service manager's timeout. `None` without a watchdog.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let mut micros = 0;
    sd_notify::watchdog_enabled(false, &mut micros).then(|| Duration::from_micros(micros / 2))
}

/// Sends watchdog notifications while `alive` returns true. Never returns, or returns at once without a watchdog.
///
/// `alive` must check what can hang: a store that does not answer is a reason for a restart.
pub async fn watchdog<F: Future<Output = bool>>(alive: impl Fn() -> F) {
    let Some(interval) = watchdog_interval().filter(|interval| !interval.is_zero()) else { return };
    beat(interval, alive, || say(&[NotifyState::Watchdog])).await;
}

async fn beat<F: Future<Output = bool>>(interval: Duration, alive: impl Fn() -> F, sign: impl Fn()) {
    loop {
        let pause = if alive().await {
            sign();
            interval
        } else {
            tracing::error!(
                "the gateway is not healthy: no watchdog notification; the service manager restarts it if this continues"
            );
            // sooner than usual, so that a gateway that has recovered is not killed because of a late check
            interval / 5
        };
        tokio::time::sleep(pause).await;
    }
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "cannot reach the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_start_ends_with_what_it_did() {
        assert_eq!(starting(async { tokio::time::sleep(START_EVERY * 3).await }).await, ());
        const { assert!((START_ASKED as u128) > 2 * START_EVERY.as_micros(), "the next notification is in time") };
    }

    #[tokio::test]
    async fn without_a_service_manager_nothing_happens() {
        ready("serving");
        stopping();
        watchdog(async || false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_stop_while_it_is_not_well_and_come_back() {
        let begun = tokio::time::Instant::now();
        let at = || begun.elapsed().as_secs();
        let signs = std::sync::Mutex::new(Vec::new());
        // not healthy from second 40 to 69, with a watchdog interval of 30 s
        let alive = async || !(40..70).contains(&at());
        let beating = beat(Duration::from_secs(30), alive, || signs.lock().unwrap().push(at()));
        tokio::time::timeout(Duration::from_secs(140), beating).await.unwrap_err();
        assert_eq!(signs.into_inner().unwrap(), [0, 30, 72, 102, 132]);
    }
}
