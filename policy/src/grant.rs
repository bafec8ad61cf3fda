//! Proof that policy allowed one action, and its terms.

use std::{fmt, time::Duration};

use crate::facts::Action;

/// The shortest `@lifetime`: a certificate valid for less than a minute may expire before its first use.
pub(crate) const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// The longest `@lifetime`: the longest lifetime of the certificate profiles.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(90 * 86_400);
/// The most approvals a rule may require: a request expires before more people have approved it.
pub(crate) const APPROVALS_MAX: u32 = 5;

/// Proof that the rules allowed one action. Made only by [`crate::decide()`], consumed by [`Grant::spend`].
#[derive(Debug, Eq, PartialEq)]
#[must_use = "a grant that is not spent does nothing"]
pub struct Grant {
    action: Action,
    lifetime: Option<Duration>,
    approvals: u32,
    principals: Vec<String>,
    reattest: Option<Reattest>,
    rules: Vec<String>,
}

impl Grant {
    pub(crate) fn new(action: Action, lifetime: Option<Duration>, approvals: u32, rules: Vec<String>) -> Self {
        Self { action, lifetime, approvals: approvals.max(1), principals: Vec::new(), reattest: None, rules }
    }

    pub(crate) fn with_principals(mut self, principals: Vec<String>) -> Self {
        self.principals = principals;
        self
    }

    pub(crate) fn with_reattest(mut self, reattest: Option<Reattest>) -> Self {
        self.reattest = reattest;
        self
    }

    /// Maximum age of the evidence at a renewal: the strictest `@reattest` of the rules that decided, `None` if none has it.
    pub fn reattest(&self) -> Option<Reattest> {
        self.reattest
    }

    /// What was allowed.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The shortest `@lifetime` of the rules that decided, `None` if none has it.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Number of people who must approve, at least 1: the largest `@approvals` of the rules that decided. Meaningful for
    /// `request` and `approve` only.
    pub fn approvals(&self) -> u32 {
        self.approvals
    }

    /// The login names of an SSH certificate: the union of the `@principals` of the rules that decided, for this person, sorted.
    /// Never empty for `login`, and empty for other actions.
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// The rules that decided, by their `@id`, sorted.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// Consumes it. Returns the lifetime, if a rule has one, and the rules that decided.
    pub fn spend(self) -> (Option<Duration>, Vec<String>) {
        (self.lifetime, self.rules)
    }

    /// This grant with the stricter terms of both: the shorter lifetime, the more approvals, the rules of both. The `request`
    /// grant of a waiting newcomer is narrowed by the `approve` grant of each approver.
    pub fn narrowed_by(mut self, other: &Self) -> Self {
        self.lifetime = match (self.lifetime, other.lifetime) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.approvals = self.approvals.max(other.approvals);
        self.rules.extend(other.rules.iter().cloned());
        self.rules.sort();
        self.rules.dedup();
        self
    }
}

/// The result of a renewal whose evidence is too old.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Without {
    /// The certificate gets the assurance `software`, and the old claims are dropped.
    Lower,
    /// No certificate is issued.
    Refuse,
}

/// Whether the evidence of a renewal may tell of something else than is allowed, such as another boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord)]
pub enum Measured {
    /// Whatever was measured.
    Any,
    /// Only what is allowed; anything else counts like missing evidence.
    Allowed,
}

/// `@reattest`: the maximum age of the evidence at a renewal, and the result without it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reattest {
    /// Maximum age of the evidence; zero when the renewal must carry it.
    pub within: Duration,
    /// What may be measured.
    pub measured: Measured,
    /// The result when the evidence is older, or tells of something else.
    pub without: Without,
}

impl Reattest {
    /// The stricter of both, field by field.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            within: self.within.min(other.within),
            measured: self.measured.max(other.measured),
            without: self.without.max(other.without),
        }
    }
}

impl fmt::Display for Reattest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without = match self.without {
            Without::Lower => "lower",
            Without::Refuse => "refuse",
        };
        match self.within {
            Duration::ZERO => write!(f, "always, {without}")?,
            within => write!(f, "{}, {without}", show_lifetime(within))?,
        }
        match self.measured {
            Measured::Any => Ok(()),
            Measured::Allowed => f.write_str(", boot"),
        }
    }
}

/// The text is not a valid `@reattest`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "write how old evidence may be, or `always`, what happens without it, and `boot` if the boot in it must be allowed: `24h, refuse`, \
     `always, lower` or `always, refuse, boot`"
)]
pub struct BadReattest;

/// Reads `24h`, `24h, refuse`, `7d, lower`, `always`, `always, refuse, boot`. The default result is `refuse`.
pub fn parse_reattest(text: &str) -> Result<Reattest, BadReattest> {
    let (text, measured) = match text.strip_suffix(", boot") {
        Some(rest) => (rest, Measured::Allowed),
        None => (text, Measured::Any),
    };
    let (within, without) = match text.split_once(", ") {
        None => (text, Without::Refuse),
        Some((within, "refuse")) => (within, Without::Refuse),
        Some((within, "lower")) => (within, Without::Lower),
        Some(_) => return Err(BadReattest),
    };
    let within = match within {
        "always" => Duration::ZERO,
        span => parse_lifetime(span).map_err(|_| BadReattest)?,
    };
    Ok(Reattest { within, measured, without })
}

/// Why a text is not a lifetime.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadLifetime {
    #[error("write a number and one unit: `90s`, `30m`, `12h` or `1d`")]
    Shape,
    #[error("a lifetime is between `60s` and `90d`")]
    OutOfBounds,
}

/// Reads `90s`, `30m`, `12h`, `1d`, from 60 seconds to 90 days.
pub fn parse_lifetime(text: &str) -> Result<Duration, BadLifetime> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => return Err(BadLifetime::Shape),
    };
    // `u64::from_str` also accepts a leading plus.
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadLifetime::Shape);
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .map(Duration::from_secs)
        .filter(|lifetime| (LIFETIME_MIN..=LIFETIME_MAX).contains(lifetime))
        .ok_or(BadLifetime::OutOfBounds)
}

/// A lifetime in the form of [`parse_lifetime`], in the largest unit up to hours that divides it: a day is `24h`, as usual for
/// certificates.
#[must_use]
pub fn show_lifetime(lifetime: Duration) -> String {
    match lifetime.as_secs() {
        secs if secs > 86_400 && secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        secs if secs > 0 && secs.is_multiple_of(3_600) => format!("{}h", secs / 3_600),
        secs if secs > 0 && secs.is_multiple_of(60) => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_and_shown() {
        for (text, want, shown) in [
            ("60s", Ok(60), "1m"),
            ("90s", Ok(90), "90s"),
            ("2m", Ok(120), "2m"),
            ("12h", Ok(43_200), "12h"),
            ("1d", Ok(86_400), "24h"),
            ("90d", Ok(7_776_000), "90d"),
            ("59s", Err(BadLifetime::OutOfBounds), ""),
            ("91d", Err(BadLifetime::OutOfBounds), ""),
            ("0h", Err(BadLifetime::OutOfBounds), ""),
            ("99999999999999999999d", Err(BadLifetime::OutOfBounds), ""),
            ("", Err(BadLifetime::Shape), ""),
            ("h", Err(BadLifetime::Shape), ""),
            ("12", Err(BadLifetime::Shape), ""),
            ("12 h", Err(BadLifetime::Shape), ""),
            ("+12h", Err(BadLifetime::Shape), ""),
            ("-1d", Err(BadLifetime::Shape), ""),
            ("1h30m", Err(BadLifetime::Shape), ""),
            ("12H", Err(BadLifetime::Shape), ""),
            ("1é", Err(BadLifetime::Shape), ""),
        ] {
            let got = parse_lifetime(text);
            assert_eq!(got, want.map(Duration::from_secs), "{text}");
            if let Ok(lifetime) = got {
                assert_eq!(show_lifetime(lifetime), shown);
            }
        }
    }

    #[test]
    fn reattest_is_read_shown_and_narrowed() {
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        for (text, want, shown) in [
            ("24h", Some((hours(24), Without::Refuse)), "24h, refuse"),
            ("24h, refuse", Some((hours(24), Without::Refuse)), "24h, refuse"),
            ("7d, lower", Some((hours(168), Without::Lower)), "7d, lower"),
            ("always", Some((hours(0), Without::Refuse)), "always, refuse"),
            ("always, lower", Some((hours(0), Without::Lower)), "always, lower"),
            ("24h, boot", Some((hours(24), Without::Refuse)), "24h, refuse, boot"),
            ("always, lower, boot", Some((hours(0), Without::Lower)), "always, lower, boot"),
            ("", None, ""),
            ("boot", None, ""),
            ("24h, boot, refuse", None, ""),
            ("24h, refuse, boot, boot", None, ""),
            ("0s", None, ""),
            ("24h,lower", None, ""),
            ("24h, Lower", None, ""),
            ("24h, lower, refuse", None, ""),
            ("lower", None, ""),
            ("never", None, ""),
        ] {
            let got = parse_reattest(text);
            assert_eq!(got.ok().map(|got| (got.within, got.without)), want, "{text}");
            if let Ok(got) = got {
                assert_eq!(got.to_string(), shown);
            }
        }
        let both = parse_reattest("24h, refuse").unwrap().and(parse_reattest("1h, lower").unwrap());
        assert_eq!(both.to_string(), "1h, refuse");
        assert_eq!(both.and(parse_reattest("2h, lower, boot").unwrap()).to_string(), "1h, refuse, boot");
    }

    #[test]
    fn the_stricter_of_two_grants_wins() {
        let hours = |n: u64| Some(Duration::from_secs(n * 3_600));
        for (mine, theirs, want) in [
            ((hours(24), 1), (hours(12), 2), (hours(12), 2)),
            ((hours(12), 3), (hours(24), 1), (hours(12), 3)),
            ((None, 1), (hours(24), 1), (hours(24), 1)),
            ((hours(24), 1), (None, 1), (hours(24), 1)),
            ((None, 0), (None, 0), (None, 1)),
        ] {
            let mine = Grant::new(Action::Request, mine.0, mine.1, vec!["b".into()]);
            let theirs = Grant::new(Action::Approve, theirs.0, theirs.1, vec!["a".into()]);
            let both = mine.narrowed_by(&theirs);
            assert_eq!((both.lifetime(), both.approvals()), want);
            assert_eq!(both.rules(), ["a", "b"]);
            assert_eq!(both.action(), Action::Request);
        }
    }
}
