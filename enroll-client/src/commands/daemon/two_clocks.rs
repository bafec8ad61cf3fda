//! Time by two clocks: the wall clock may be set back, and the monotonic clock stops during a suspend.

use std::time::Duration;

use pki::UnixTime;

use crate::edge::clock;
use crate::platform::StopSignal;

/// Longest single sleep. After a suspend or a change of the clock, a due action is noticed within this time.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Sleeps until `pause` has passed by the wall clock or by the monotonic clock, whichever is first. False when a signal comes before.
pub async fn sleep_by_the_clock(pause: Duration, stop: &mut StopSignal) -> bool {
    let (began, until) = (tokio::time::Instant::now(), clock::now().plus(pause));
    while let Some(sleep) = next_sleep(began.elapsed(), pause, clock::now(), until) {
        tokio::select! {
            _ = stop.wait() => return false,
            () = tokio::time::sleep(sleep) => {}
        }
    }
    true
}

/// The later of the times by the two clocks.
pub fn by_two_clocks(by_the_day: UnixTime, then: UnixTime, elapsed: Duration) -> UnixTime {
    by_the_day.max(then.plus(elapsed))
}

/// Length of the next single sleep; `None` when the pause has passed by either clock.
fn next_sleep(slept: Duration, pause: Duration, now: UnixTime, until: UnixTime) -> Option<Duration> {
    let left = until.since(now).min(pause.saturating_sub(slept));
    (!left.is_zero()).then_some(left.min(MAX_SLEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An action that is due in days is due at the right time although one of the clocks was wrong meanwhile.
    #[test]
    fn what_is_due_in_days_by_two_clocks() {
        const DAY: u64 = 86_400;
        const NOW: u64 = 20_000 * DAY;
        for days in [8, 500] {
            let due = UnixTime::new(NOW + days * DAY);
            for (what, by_the_day, elapsed, want) in [
                ("at the start", NOW, 0, false),
                ("a second before", NOW + days * DAY - 1, days * DAY - 1, false),
                ("on time", NOW + days * DAY, days * DAY, true),
                ("after a suspend", NOW + days * DAY, 10, true),
                ("set back meanwhile", NOW - 500 * DAY, days * DAY, true),
                ("set back, and not yet", NOW - 500 * DAY, days * DAY - 1, false),
                ("set ahead: the gateway is asked before anything is believed over", NOW + 2 * days * DAY, 10, true),
            ] {
                let now = by_two_clocks(UnixTime::new(by_the_day), UnixTime::new(NOW), Duration::from_secs(elapsed));
                assert_eq!(now >= due, want, "{what}, {days} days");
            }
        }
    }

    /// A pause of days with suspends and changes of the clock: it ends by either clock, and is never longer than requested.
    #[test]
    fn pauses_by_two_clocks() {
        const DAY: u64 = 86_400;
        const NOW: u64 = 20_000 * DAY;
        for days in [8, 500] {
            let pause = Duration::from_secs(days * DAY);
            let until = UnixTime::new(NOW + days * DAY);
            for (what, slept, now, want) in [
                ("at the start", 0, NOW, true),
                ("half-way", days * DAY / 2, NOW + days * DAY / 2, true),
                ("after a suspend that was longer", 10, NOW + days * DAY, false),
                ("when the clock was set ahead", 10, NOW + 2 * days * DAY, false),
                ("when the clock was set back, before it is over", days * DAY - 1, NOW - 500 * DAY, true),
                ("when the clock was set back, and it is over", days * DAY, NOW - 500 * DAY, false),
            ] {
                let sleep = next_sleep(Duration::from_secs(slept), pause, UnixTime::new(now), until);
                assert_eq!(sleep.is_some(), want, "{what}, {days} days");
                assert!(
                    sleep.is_none_or(|sleep| sleep <= MAX_SLEEP),
                    "{what}, {days} days: looks at the clock within the minute"
                );
            }
        }
    }
}
