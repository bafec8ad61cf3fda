//! How often one may ask, by source prefix and in total.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use governor::{
    NotUntil, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::DashMapStateStore},
};

use super::metrics::Metrics;
use crate::{
    core::refusal::Refusal,
    limits::{ClassLimits, PREFIXES_MAX, Quota, RateLimits},
};

/// The part of an address that one party is likely to hold: /24 of IPv4, /48 of IPv6.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// A /24.
    V4([u8; 3]),
    /// A /48.
    V6([u8; 6]),
}

impl Prefix {
    /// The prefix of an address. IPv4 that came in by an IPv6 socket counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let group = |high, low| u16::from_be_bytes([high, low]);
                let address = std::net::Ipv6Addr::new(group(a, b), group(c, d), group(e, g), 0, 0, 0, 0, 0);
                write!(f, "{address}/48")
            }
        }
    }
}

/// What kind of request it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// A new enrollment.
    Anonymous,
    /// A poll of an enrollment, or a public download.
    Poll,
    /// A machine with a certificate.
    Machine,
    /// A person with a certificate.
    Person,
    /// A connection to a service.
    Connect,
    /// A health check.
    Health,
}

impl Class {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Poll => "poll",
            Self::Machine => "machine",
            Self::Person => "person",
            Self::Connect => "connect",
            Self::Health => "health",
        }
    }
}

/// Over the rate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Whole seconds after which one more will be let through; at least 1. For `Retry-After`.
    pub retry_after: u64,
}

impl From<Limited> for Refusal {
    fn from(limited: Limited) -> Self {
        Self::TooFast { retry_after: Duration::from_secs(limited.retry_after) }
    }
}

/// The rates of all classes.
pub struct Rates<C: Clock = DefaultClock> {
    clock: C,
    anonymous: Pair<C>,
    poll: Pair<C>,
    machine: Pair<C>,
    person: Pair<C>,
    connect: Pair<C>,
    health: Pair<C>,
    metrics: Arc<Metrics>,
}

impl<C: Clock> fmt::Debug for Rates<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

type NoOp<C> = NoOpMiddleware<<C as Clock>::Instant>;

struct Pair<C: Clock> {
    per_prefix: RateLimiter<Prefix, DashMapStateStore<Prefix>, C, NoOp<C>>,
    total: RateLimiter<NotKeyed, InMemoryState, C, NoOp<C>>,
}

fn quota(quota: Quota) -> governor::Quota {
    governor::Quota::per_second(quota.per_second).allow_burst(quota.burst)
}

impl<C: Clock + Clone> Pair<C> {
    fn new(limits: &ClassLimits, clock: &C) -> Self {
        let store = DashMapStateStore::default();
        Self {
            per_prefix: RateLimiter::new(quota(limits.per_prefix), store, clock.clone()),
            total: RateLimiter::direct_with_clock(quota(limits.total), clock.clone()),
        }
    }
}

impl Rates {
    /// Rates by the system's clock.
    #[must_use]
    pub fn new(limits: &RateLimits, metrics: Arc<Metrics>) -> Self {
        Self::with_clock(limits, metrics, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    /// Rates by a given clock.
    #[must_use]
    pub fn with_clock(limits: &RateLimits, metrics: Arc<Metrics>, clock: C) -> Self {
        Self {
            anonymous: Pair::new(&limits.anonymous, &clock),
            poll: Pair::new(&limits.poll, &clock),
            machine: Pair::new(&limits.machine, &clock),
            person: Pair::new(&limits.person, &clock),
            connect: Pair::new(&limits.connect, &clock),
            health: Pair::new(&limits.health, &clock),
            clock,
            metrics,
        }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// [`Limited`], when it is one too many.
    pub fn check(&self, class: Class, source: IpAddr) -> Result<(), Limited> {
        let pair = self.pair(class);
        // The prefix first: what one source is refused takes nothing from everybody's share. When more prefixes are
        // under way than we remember, only the share of all is left to go by.
        let by_prefix =
            if pair.per_prefix.len() < PREFIXES_MAX { pair.per_prefix.check_key(&Prefix::of(source)) } else { Ok(()) };
        by_prefix.and_then(|()| pair.total.check()).map_err(|until| {
            self.metrics.rate_limited(class);
            self.limited(&until)
        })
    }

    /// Forgets prefixes whose quota has refilled. To be called every [`crate::limits::RATES_SWEEP`].
    pub fn sweep(&self) {
        for class in [Class::Anonymous, Class::Poll, Class::Machine, Class::Person, Class::Connect, Class::Health] {
            let per_prefix = &self.pair(class).per_prefix;
            per_prefix.retain_recent();
            per_prefix.shrink_to_fit();
        }
    }

    const fn pair(&self, class: Class) -> &Pair<C> {
        match class {
            Class::Anonymous => &self.anonymous,
            Class::Poll => &self.poll,
            Class::Machine => &self.machine,
            Class::Person => &self.person,
            Class::Connect => &self.connect,
            Class::Health => &self.health,
        }
    }

    fn limited<P: Reference>(&self, until: &NotUntil<P>) -> Limited
    where
        C: Clock<Instant = P>,
    {
        let wait: Duration = until.wait_time_from(self.clock.now());
        Limited { retry_after: wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[track_caller]
    fn prefix(address: &str, want: &str) {
        assert_eq!(Prefix::of(address.parse().unwrap()).to_string(), want);
    }

    #[test]
    fn prefixes() {
        prefix("192.0.2.77", "192.0.2.0/24");
        prefix("::ffff:192.0.2.77", "192.0.2.0/24");
        prefix("2001:db8:1:2::3", "2001:db8:1::/48");
    }

    fn rates(per_prefix: Quota, total: Quota) -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let limits = RateLimits { anonymous: ClassLimits { per_prefix, total }, ..RateLimits::default() };
        (Rates::with_clock(&limits, Arc::new(Metrics::new()), clock.clone()), clock)
    }

    #[test]
    fn a_prefix_has_its_burst_and_then_its_rate() {
        let (rates, clock) = rates(Quota::of(1, 2), Quota::of(100, 100));
        let (a, neighbour, far) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), "198.51.100.1".parse().unwrap());
        assert_eq!(rates.check(Class::Anonymous, a), Ok(()));
        assert_eq!(rates.check(Class::Anonymous, neighbour), Ok(()));
        assert_eq!(rates.check(Class::Anonymous, a), Err(Limited { retry_after: 1 }));
        assert_eq!(rates.check(Class::Anonymous, far), Ok(()));
        assert_eq!(rates.check(Class::Poll, a), Ok(()), "classes are counted apart");
        clock.advance(Duration::from_secs(1));
        assert_eq!(rates.check(Class::Anonymous, a), Ok(()));
        assert!(rates.check(Class::Anonymous, a).is_err());
    }

    #[test]
    fn all_prefixes_share_the_total() {
        let (rates, _clock) = rates(Quota::of(10, 10), Quota::of(1, 3));
        let results: Vec<bool> =
            (0..5).map(|n| rates.check(Class::Anonymous, IpAddr::from([198, 51, n, 1])).is_ok()).collect();
        assert_eq!(results, [true, true, true, false, false]);
    }

    #[test]
    fn refused_requests_of_one_prefix_take_nothing_from_the_total() {
        let (rates, _clock) = rates(Quota::of(1, 1), Quota::of(1, 2));
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([198, 51, 100, 1]));
        let results = [a, a, a, b].map(|source| rates.check(Class::Anonymous, source).is_ok());
        assert_eq!(results, [true, false, false, true]);
    }

    #[test]
    fn refilled_prefixes_are_forgotten_and_the_table_is_bounded() {
        let (rates, clock) = rates(Quota::of(1, 1), Quota::of(1_000_000, 1_000_000));
        let source = |n: usize| IpAddr::from(u32::try_from(n << 8).unwrap().to_be_bytes());
        for n in 0..PREFIXES_MAX + 100 {
            assert_eq!(rates.check(Class::Anonymous, source(n)), Ok(()));
        }
        assert_eq!(rates.anonymous.per_prefix.len(), PREFIXES_MAX);
        clock.advance(Duration::from_secs(2));
        rates.sweep();
        assert_eq!(rates.anonymous.per_prefix.len(), 0);
        assert_eq!(rates.check(Class::Anonymous, source(1)), Ok(()));
    }
}
