//! When to renew, when to query the gateway, how long to wait after a failure, and when to warn. Time and random numbers are
//! arguments.

use std::time::Duration;

use pki::{BACKDATE, UnixTime};

/// First upper bound of the backoff: short enough for a restart of the gateway.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(5);

/// Least pause between two attempts: full jitter may draw zero, and a connection to a closed port fails at once.
pub const BACKOFF_LEAST: Duration = Duration::from_millis(500);

/// Longest interval between queries of the gateway: a lock or a request to renew is noticed within an hour.
pub const LOOK_MOST: Duration = Duration::from_secs(3_600);

/// Shortest interval between queries, for certificates that are valid for minutes.
pub const LOOK_LEAST: Duration = Duration::from_secs(5);

/// Least age at which a certificate is renewed because the gateway asks: prevents a loop if the gateway keeps asking.
pub const ASKED_LEAST: Duration = Duration::from_secs(60);

/// Longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(24 * 3_600);

/// The times of one certificate, by the gateway's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity: the last second in which it is valid (RFC 5280 4.1.2.5).
    pub not_after: UnixTime,
    /// Earliest time to renew.
    pub renew_after: UnixTime,
    /// Time by which renewal should have succeeded.
    pub renew_by: UnixTime,
}

/// How urgent the renewal of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiryState {
    /// Before `renew_by`.
    InTime,
    /// After `renew_by`.
    Late,
    /// After `not_after`.
    Expired,
}

impl Life {
    /// The lifetime of the certificate, counted from its issue and not from the backdated start.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.not_after.since(self.not_before.plus(BACKDATE)).max(Duration::from_secs(1))
    }

    /// Whether `not_after` has passed.
    #[must_use]
    pub fn is_over(&self, now: UnixTime) -> bool {
        now > self.not_after
    }

    /// The urgency at `now`.
    #[must_use]
    pub fn expiry_state(&self, now: UnixTime) -> ExpiryState {
        if self.is_over(now) {
            ExpiryState::Expired
        } else if now >= self.renew_by {
            ExpiryState::Late
        } else {
            ExpiryState::InTime
        }
    }

    /// Longest pause between attempts: 5 % of the lifetime, so that at least ten attempts fit between the normal time of renewal and
    /// the end.
    #[must_use]
    pub fn backoff_most(&self) -> Duration {
        (self.length() / 20).max(BACKOFF_FIRST)
    }

    /// Interval between queries: 10 % of the lifetime, from [`LOOK_LEAST`] to [`LOOK_MOST`].
    #[must_use]
    pub fn look_every(&self) -> Duration {
        (self.length() / 10).clamp(LOOK_LEAST, LOOK_MOST)
    }
}

/// Full jitter: a uniform draw from zero to an upper bound that doubles from [`BACKOFF_FIRST`] to `most`. The gateway's
/// `Retry-After` is a lower bound, to which up to 10 % of it are added, so that not all clients return in the same second.
#[must_use]
pub fn backoff(failures: u32, most: Duration, retry_after: Option<Duration>, draw: u64) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let ceiling = doubled.min(most.max(BACKOFF_FIRST));
    let pause = share(ceiling, draw).max(BACKOFF_LEAST);
    match retry_after {
        Some(asked) => {
            let asked = asked.min(RETRY_AFTER_MOST);
            pause.max(asked + share(asked / 10, draw))
        }
        None => pause,
    }
}

/// `draw / 2^64` of `whole`, to the millisecond.
fn share(whole: Duration, draw: u64) -> Duration {
    let millis = (whole.as_millis().min(u128::from(u64::MAX)) * u128::from(draw)) >> 64;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Nothing before this time.
    Sleep(UnixTime),
    /// Query `GET /v1/self`.
    Look,
    /// Renew.
    Renew,
    /// The certificate has expired: enroll again with it as evidence.
    Rejoin,
}

/// Schedules the renewal of one identity: failures so far, a request of the gateway to renew, and the time of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalScheduler {
    failures: u32,
    locked: bool,
    asked: bool,
    refused_as_expired: bool,
    next_try: UnixTime,
    next_look: UnixTime,
}

impl RenewalScheduler {
    /// At the start of the process: the first query is due at once.
    #[must_use]
    pub const fn new() -> Self {
        let zero = UnixTime::new(0);
        Self { failures: 0, locked: false, asked: false, refused_as_expired: false, next_try: zero, next_look: zero }
    }

    /// Number of failed attempts since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the gateway's last reply was that this identity is locked.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.locked
    }

    /// Whether the gateway has reported that the certificate has expired.
    #[must_use]
    pub const fn is_told_expired(&self) -> bool {
        self.refused_as_expired
    }

    /// The action that is due at `now`.
    #[must_use]
    pub fn next_action(&self, life: &Life, now: UnixTime) -> NextAction {
        let soonest = life.not_before.plus(BACKDATE + ASKED_LEAST);
        let wanted_at = if self.asked { soonest.min(life.renew_after) } else { life.renew_after };
        let end = life.not_after.plus(Duration::from_secs(1));
        if now < self.next_try {
            return NextAction::Sleep(self.next_try);
        }
        if life.is_over(now) || self.refused_as_expired {
            NextAction::Rejoin
        } else if now >= wanted_at {
            NextAction::Renew
        } else if now >= self.next_look {
            NextAction::Look
        } else {
            NextAction::Sleep(wanted_at.min(self.next_look).min(end))
        }
    }

    /// After a new certificate was installed. A query is due at once, which activates the certificate at the gateway.
    #[must_use]
    pub fn renewed(self, now: UnixTime) -> Self {
        Self { next_look: now, ..Self::new() }
    }

    /// After a successful query. `asked`: the gateway requests a renewal now.
    #[must_use]
    pub fn looked(self, life: &Life, asked: bool, now: UnixTime, draw: u64) -> Self {
        let every = life.look_every();
        // 90 to 110 %, so that machines that started at the same time spread out.
        let next_look = now.plus(every.mul_f32(0.9) + share(every / 5, draw));
        Self { asked, next_look, ..Self::new() }
    }

    /// After any failed attempt.
    #[must_use]
    pub fn failed(self, life: &Life, retry_after: Option<Duration>, now: UnixTime, draw: u64) -> Self {
        let failures = self.failures.saturating_add(1);
        let pause = backoff(failures, life.backoff_most(), retry_after, draw);
        Self { failures, locked: false, next_try: later(now, pause), ..self }
    }

    /// After the gateway has reported that the certificate has expired, whatever the local clock says.
    #[must_use]
    pub fn expired(self) -> Self {
        Self { failures: self.failures.saturating_add(1), refused_as_expired: true, ..self }
    }

    /// After a refusal that lasts until a person changes it: the next attempt is after 50 to 100 % of the interval between queries.
    #[must_use]
    pub fn locked(self, life: &Life, retry_after: Option<Duration>, now: UnixTime, draw: u64) -> Self {
        let every = life.look_every();
        let pause = (every / 2 + share(every / 2, draw)).max(retry_after.unwrap_or_default().min(RETRY_AFTER_MOST));
        Self { failures: self.failures.saturating_add(1), locked: true, next_try: later(now, pause), ..self }
    }
}

impl Default for RenewalScheduler {
    fn default() -> Self {
        Self::new()
    }
}

/// `now` plus `pause`, rounded up to whole seconds, so that a short pause does not become zero.
fn later(now: UnixTime, pause: Duration) -> UnixTime {
    now.plus(pause + Duration::from_millis(999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF: u64 = u64::MAX / 2 + 1;
    const ALL: u64 = u64::MAX;

    fn at(secs: u64) -> UnixTime {
        UnixTime::new(secs)
    }

    /// Valid for a day from second 100,000, to be renewed from the middle of it.
    fn day() -> Life {
        Life {
            not_before: at(100_000).minus(BACKDATE),
            not_after: at(186_400),
            renew_after: at(143_200),
            renew_by: at(164_800),
        }
    }

    #[track_caller]
    fn check(scheduler: RenewalScheduler, now: u64, want: NextAction) {
        assert_eq!(scheduler.next_action(&day(), at(now)), want);
    }

    #[test]
    fn first_look_is_due_at_once() {
        check(RenewalScheduler::new(), 100_000, NextAction::Look);
    }

    #[test]
    fn then_sleeps_until_the_next_look() {
        check(
            RenewalScheduler::new().looked(&day(), false, at(100_000), HALF),
            100_001,
            NextAction::Sleep(at(103_600)),
        );
    }

    #[test]
    fn sleeps_no_longer_than_to_the_renewal() {
        check(
            RenewalScheduler::new().looked(&day(), false, at(142_000), HALF),
            142_001,
            NextAction::Sleep(at(143_200)),
        );
    }

    #[test]
    fn renews_from_the_first_second_allowed() {
        let scheduler = RenewalScheduler::new().looked(&day(), false, at(143_100), HALF);
        check(scheduler, 143_199, NextAction::Sleep(at(143_200)));
        check(scheduler, 143_200, NextAction::Renew);
    }

    #[test]
    fn renews_when_asked_but_not_in_a_circle() {
        let scheduler = RenewalScheduler::new().looked(&day(), true, at(100_000), HALF);
        check(scheduler, 100_001, NextAction::Sleep(at(100_060)));
        check(scheduler, 100_060, NextAction::Renew);
    }

    /// The worst case: all machines start in the same second, and then all are asked to renew. Their queries are at different times,
    /// and so are their renewals.
    #[test]
    fn a_fleet_that_is_asked_renews_over_minutes() {
        let fleet = 1_000_u64;
        let mut renewals: Vec<u64> = (0..fleet)
            .map(|machine| {
                let started = RenewalScheduler::new().looked(&day(), false, at(110_000), machine * (ALL / fleet));
                let NextAction::Sleep(look) = started.next_action(&day(), at(110_001)) else { panic!("{started:?}") };
                let asked = started.looked(&day(), true, look, HALF);
                assert_eq!(asked.next_action(&day(), look), NextAction::Renew);
                look.secs() - 110_000
            })
            .collect();
        renewals.sort_unstable();
        assert!(renewals[0] >= 3_239 && renewals[999] <= 3_960, "{} to {}", renewals[0], renewals[999]);
        let busiest = renewals.chunk_by(|a, b| a == b).map(<[u64]>::len).max();
        assert!(busiest <= Some(3), "{busiest:?} of {fleet} in one second");
    }

    #[test]
    fn renews_in_the_last_second_and_rejoins_in_the_next() {
        check(RenewalScheduler::new(), 186_400, NextAction::Renew);
        check(RenewalScheduler::new(), 186_401, NextAction::Rejoin);
    }

    #[test]
    fn a_new_certificate_is_used_at_once() {
        check(RenewalScheduler::new().renewed(at(100_000)), 100_000, NextAction::Look);
    }

    #[test]
    fn a_failure_pauses_everything() {
        let scheduler = RenewalScheduler::new().failed(&day(), None, at(150_000), ALL);
        check(scheduler, 150_001, NextAction::Sleep(at(150_005)));
        check(scheduler, 150_005, NextAction::Renew);
    }

    #[test]
    fn retry_after_is_honoured() {
        let scheduler = RenewalScheduler::new().failed(&day(), Some(Duration::from_secs(600)), at(150_000), 0);
        check(scheduler, 150_100, NextAction::Sleep(at(150_600)));
    }

    #[test]
    fn a_lock_is_asked_about_slowly() {
        let scheduler = RenewalScheduler::new().locked(&day(), None, at(150_000), 0);
        assert!(scheduler.is_locked());
        check(scheduler, 150_001, NextAction::Sleep(at(151_800)));
    }

    #[test]
    fn the_gateway_knows_best_when_a_certificate_is_over() {
        check(RenewalScheduler::new().expired(), 150_000, NextAction::Rejoin);
        check(RenewalScheduler::new().expired().renewed(at(100_000)), 100_000, NextAction::Look);
    }

    #[test]
    fn a_success_forgets_the_failures() {
        let scheduler = RenewalScheduler::new().failed(&day(), None, at(1), 1).looked(&day(), false, at(100_000), 0);
        assert_eq!(scheduler.failures(), 0);
    }

    #[test]
    fn late_and_expired() {
        for (now, want) in [
            (100_000, ExpiryState::InTime),
            (164_799, ExpiryState::InTime),
            (164_800, ExpiryState::Late),
            (186_400, ExpiryState::Late),
            (186_401, ExpiryState::Expired),
        ] {
            assert_eq!(day().expiry_state(at(now)), want, "{now}");
        }
    }

    #[test]
    fn backoff_ceilings_double_up_to_a_twentieth_of_life() {
        let most = day().backoff_most();
        assert_eq!(most, Duration::from_secs(4_320));
        for (failures, want) in
            [(1, 4), (2, 9), (3, 19), (4, 39), (10, 2_559), (11, 4_319), (64, 4_319), (u32::MAX, 4_319)]
        {
            assert_eq!(backoff(failures, most, None, ALL).as_secs(), want, "{failures}");
        }
        assert_eq!(backoff(9, most, None, 0), BACKOFF_LEAST);
        assert_eq!(backoff(1, most, None, HALF), Duration::from_millis(2_500));
    }

    #[test]
    fn a_gateway_cannot_silence_a_machine_for_ever() {
        let pause = backoff(1, day().backoff_most(), Some(Duration::MAX), ALL);
        assert!(pause <= RETRY_AFTER_MOST * 11 / 10);
    }

    #[test]
    fn short_lives_have_sane_rhythms() {
        let life = Life { not_before: at(700), not_after: at(1_060), renew_after: at(1_030), renew_by: at(1_045) };
        assert_eq!(life.length(), Duration::from_secs(60));
        assert_eq!(life.look_every(), Duration::from_secs(6));
        assert_eq!(life.backoff_most(), BACKOFF_FIRST);
    }

    proptest! {
        #[test]
        fn backoff_stays_within_bounds(failures: u32, draw: u64, most in 0u64..1_000_000) {
            let most = Duration::from_secs(most);
            let pause = backoff(failures, most, None, draw);
            prop_assert!(pause >= BACKOFF_LEAST && pause <= most.max(BACKOFF_FIRST));
        }

        #[test]
        fn a_sleep_always_ends_later_than_now(now in 90_000u64..200_000, draws: [u64; 4], steps in 0usize..4) {
            let mut scheduler = RenewalScheduler::new();
            for (step, draw) in draws.iter().enumerate().take(steps) {
                scheduler = match step % 3 {
                    0 => scheduler.looked(&day(), draw % 2 == 0, at(now), *draw),
                    1 => scheduler.failed(&day(), None, at(now), *draw),
                    _ => scheduler.locked(&day(), None, at(now), *draw),
                };
            }
            if let NextAction::Sleep(until) = scheduler.next_action(&day(), at(now)) {
                prop_assert!(until > at(now));
            }
        }
    }
}
