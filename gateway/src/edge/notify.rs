//! Words to the service manager (`sd_notify(3)`). Without one, each is a word to nobody.

use std::time::Duration;

use sd_notify::NotifyState;

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
/// `alive` ought to look at what can hang: a store that no longer commits is a reason to be restarted.
pub async fn watchdog(alive: impl Fn() -> bool + Send) {
    let Some(interval) = watchdog_interval().filter(|interval| !interval.is_zero()) else { return };
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        if alive() {
            say(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("not well; leaving the watchdog to act");
        }
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

    #[tokio::test]
    async fn without_a_service_manager_nothing_happens() {
        ready("serving");
        stopping();
        watchdog(|| false).await;
    }
}
