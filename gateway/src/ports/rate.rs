//! Rate limits, by source prefix and in total.

use std::{fmt, net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    NotUntil, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::DashMapStateStore},
};

use crate::{
    core::refusal::Refusal,
    limits::{ClassLimits, PREFIXES_MAX, Quota, RateLimits, SHARES_OF_IPV6},
    ports::metrics::Metrics,
};

/// The prefix of an address that usually belongs to one party: /24 of IPv4; /64, /48 or /32 of IPv6.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// The three octets of a /24.
    V4([u8; 3]),
    /// A prefix of at most 64 bits.
    V6 {
        /// Its length: 64, 48 or 32.
        bits: u8,
        /// The first 64 bits of the address; those after `bits` are zero.
        half: u64,
    },
}

impl Prefix {
    /// The longest prefix of an address. An IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6 { bits: 64, half: u64::from_be_bytes([a, b, c, d, e, f, g, h]) }
            }
        }
    }

    /// Whether it is a /24 of IPv4 or a /64 of IPv6.
    #[must_use]
    pub const fn is_narrowest(self) -> bool {
        matches!(self, Self::V4(_) | Self::V6 { bits: 64, .. })
    }

    /// All prefixes that an address counts for, longest first, each with its multiple of the limit for one prefix.
    pub fn shares(address: IpAddr) -> impl Iterator<Item = (Self, u32)> {
        let [narrow, company, provider] = SHARES_OF_IPV6;
        let all = match Self::of(address) {
            v4 @ Self::V4(_) => [Some((v4, 1)), None, None],
            v6 @ Self::V6 { half, .. } => [
                Some((v6, narrow)),
                Some((Self::V6 { bits: 48, half: half & (u64::MAX << 16) }, company)),
                Some((Self::V6 { bits: 32, half: half & (u64::MAX << 32) }, provider)),
            ],
        };
        all.into_iter().flatten()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6 { bits, half } => {
                let address = std::net::Ipv6Addr::from(u128::from(half) << 64);
                write!(f, "{address}/{bits}")
            }
        }
    }
}

/// Kind of request for rate limits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// A new enrollment.
    Anonymous,
    /// A poll of an enrollment, or a public download.
    Poll,
    /// A request of a machine with a certificate.
    Machine,
    /// A request of a person with a certificate.
    Person,
    /// A connection to a service.
    Connect,
    /// A health check.
    Health,
}

impl Class {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Anonymous, Self::Poll, Self::Machine, Self::Person, Self::Connect, Self::Health];

    /// Label in logs and metrics.
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

/// The rate limit is exceeded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Whole seconds until the next request is allowed, at least 1; for `Retry-After` (RFC 9110 10.2.3).
    pub retry_after: u64,
}

impl From<Limited> for Refusal {
    fn from(limited: Limited) -> Self {
        Self::TooFast { retry_after: Duration::from_secs(limited.retry_after) }
    }
}

/// The rate limiters of all classes.
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

type PerPrefix<C> = RateLimiter<Prefix, DashMapStateStore<Prefix>, C, NoOp<C>>;

struct Pair<C: Clock> {
    /// One for each length of prefix, longest first.
    per_prefix: [PerPrefix<C>; SHARES_OF_IPV6.len()],
    total: RateLimiter<NotKeyed, InMemoryState, C, NoOp<C>>,
}

/// A quota times `share`.
fn quota(quota: Quota, share: u32) -> governor::Quota {
    let share = NonZeroU32::new(share).unwrap_or(NonZeroU32::MIN);
    governor::Quota::per_second(quota.per_second.saturating_mul(share)).allow_burst(quota.burst.saturating_mul(share))
}

impl<C: Clock + Clone> Pair<C> {
    fn new(limits: &ClassLimits, clock: &C) -> Self {
        let per_prefix = SHARES_OF_IPV6.map(|share| {
            RateLimiter::new(quota(limits.per_prefix, share), DashMapStateStore::default(), clock.clone())
        });
        Self { per_prefix, total: RateLimiter::direct_with_clock(quota(limits.total, 1), clock.clone()) }
    }
}

impl Rates {
    /// With the system's clock.
    #[must_use]
    pub fn new(limits: &RateLimits, metrics: Arc<Metrics>) -> Self {
        Self::with_clock(limits, metrics, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    /// With the given clock.
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
    /// [`Limited`] if it exceeds the limit of one of its prefixes or the total.
    pub fn check(&self, class: Class, source: IpAddr) -> Result<(), Limited> {
        let pair = self.pair(class);
        // The prefix first, so that refused requests of one source do not count towards the total. If more prefixes are active than
        // the table can have, only the total is checked for the others.
        let by_prefix = Prefix::shares(source).zip(&pair.per_prefix).try_for_each(|((prefix, _), limiter)| {
            if limiter.len() < PREFIXES_MAX { limiter.check_key(&prefix) } else { Ok(()) }
        });
        by_prefix.and_then(|()| pair.total.check()).map_err(|until| {
            self.metrics.rate_limited(class.as_str());
            self.limited(&until)
        })
    }

    /// Removes prefixes whose quota has refilled. To be called every [`crate::limits::RATES_SWEEP`].
    pub fn sweep(&self) {
        for class in Class::ALL {
            for per_prefix in &self.pair(class).per_prefix {
                per_prefix.retain_recent();
                per_prefix.shrink_to_fit();
            }
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
        prefix("2001:db8:1:2::3", "2001:db8:1:2::/64");
        let shown = |address: &str| -> Vec<String> {
            Prefix::shares(address.parse().unwrap()).map(|(prefix, share)| format!("{prefix} {share}")).collect()
        };
        assert_eq!(shown("::ffff:192.0.2.77"), ["192.0.2.0/24 1"]);
        assert_eq!(shown("2001:db8:1:2::3"), ["2001:db8:1:2::/64 1", "2001:db8:1::/48 4", "2001:db8::/32 8"]);
    }

    #[test]
    fn a_company_may_ask_more_often_than_one_network_of_it() {
        let from = |company: u16, network: u16| IpAddr::from([0x2001, 0xdb8, company, network, 0, 0, 0, 1]);
        let (rates, _clock) = rates_of_poll(Quota::of(1, 2));
        let allowed = |company: u16| -> usize {
            (0..20).map(|n| (0..3).filter(|_| rates.check(Class::Poll, from(company, n)).is_ok()).count()).sum()
        };
        assert_eq!(
            [allowed(1), allowed(2), allowed(3)],
            [8, 8, 0],
            "four shares each, and eight for all of the provider"
        );
    }

    fn rates_of_poll(per_prefix: Quota) -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let poll = ClassLimits { per_prefix, total: Quota::of(1_000, 1_000) };
        let limits = RateLimits { poll, ..RateLimits::default() };
        (Rates::with_clock(&limits, Arc::new(Metrics::new()), clock.clone()), clock)
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
        assert_eq!(rates.anonymous.per_prefix[0].len(), PREFIXES_MAX);
        clock.advance(Duration::from_secs(2));
        rates.sweep();
        assert_eq!(rates.anonymous.per_prefix[0].len(), 0);
        assert_eq!(rates.check(Class::Anonymous, source(1)), Ok(()));
    }
}
