//! Words to the service manager (`sd_notify(3)`). Without one, each is a word to nobody.

use std::{future::Future, time::Duration};

use sd_notify::NotifyState;

use crate::limits::{START_ASKED, START_EVERY, START_EXTENSIONS};

/// Does what must be done before the gateway serves, and asks for more time meanwhile: every record is checked first, which may
/// take longer than a service manager waits. It is not asked for ever: what hangs is to be started anew.
pub async fn starting<T>(work: impl Future<Output = T>) -> T {
    let patience = async {
        for _ in 0..START_EXTENSIONS {
            tokio::time::sleep(START_EVERY).await;
            say(&[NotifyState::ExtendTimeoutUsec(START_ASKED), NotifyState::Status("checking the store")]);
        }
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        never = patience => never,
    }
}

/// Says that the gateway serves.
pub fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the gateway stops.
pub fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// How often the service manager wants a sign of life: half the time after which it would kill.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let mut micros = 0;
    sd_notify::watchdog_enabled(false, &mut micros).then(|| Duration::from_micros(micros / 2))
}

/// Gives signs of life for as long as `alive` says so; for ever, or at once when no watchdog is set.
///
/// `alive` ought to look at what can hang: a store that no longer answers is a reason to be restarted.
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
                "not well: no sign of life, so that the service manager starts the gateway anew if it lasts"
            );
            // Sooner than usual: what has mended itself is not to be killed for a look that came too late.
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
        const { assert!((START_ASKED as u128) > 2 * START_EVERY.as_micros(), "the next word comes in time") };
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
        // Ill from the 40th to the 69th second, with a watchdog that wants a sign every 30.
        let alive = async || !(40..70).contains(&at());
        let beating = beat(Duration::from_secs(30), alive, || signs.lock().unwrap().push(at()));
        tokio::time::timeout(Duration::from_secs(140), beating).await.unwrap_err();
        assert_eq!(signs.into_inner().unwrap(), [0, 30, 72, 102, 132]);
    }
}
