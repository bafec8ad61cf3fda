//! Expiry of the authority's certificates, and the notices about it.

use std::{fmt, time::Duration};

use pki::{KeyDigest, Role, UnixTime};

/// When the active CAs and the root's CRL expire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CaEnds {
    /// `notAfter` of the root.
    pub root: UnixTime,
    /// `nextUpdate` of the root's CRL, if there is one.
    pub root_list: Option<UnixTime>,
    /// `notAfter` of the CA for machines.
    pub machine: UnixTime,
    /// `notAfter` of the CA for people.
    pub person: UnixTime,
    /// `notAfter` of the CA for gateways.
    pub gateway: UnixTime,
}

impl CaEnds {
    /// `notAfter` of the issuing CA for a role.
    #[must_use]
    pub const fn of(&self, role: Role) -> UnixTime {
        match role {
            Role::Machine => self.machine,
            Role::Person => self.person,
            Role::Gateway => self.gateway,
        }
    }

    /// All of them, each with its label in metrics.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, UnixTime)> {
        let mut all = vec![("root", self.root)];
        all.extend(self.root_list.map(|end| ("root-crl", end)));
        all.extend(Role::ALL.map(|role| (role.as_str(), self.of(role))));
        all
    }

    /// A notice for each that ends within 90 days.
    #[must_use]
    pub fn notices(&self, now: UnixTime) -> Vec<Notice> {
        let notice =
            |(ca, end)| Nearness::of(end, now).map(|nearness| Notice { ca, end, nearness, left: end.since(now) });
        self.all().into_iter().filter_map(notice).collect()
    }
}

/// The active issuing CAs, as far as a decision about a certificate needs them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SigningCas {
    /// Generation of the authority, incremented with every change of a slot.
    pub generation: u64,
    /// Also of the root and its CRL.
    pub ends: CaEnds,
    /// Key digest of the CA for machines.
    pub machine: KeyDigest,
    /// Key digest of the CA for people.
    pub person: KeyDigest,
    /// Key digest of the CA for gateways.
    pub gateway: KeyDigest,
}

impl SigningCas {
    /// Key digest of the CA for a role.
    #[must_use]
    pub const fn issuer(&self, role: Role) -> KeyDigest {
        match role {
            Role::Machine => self.machine,
            Role::Person => self.person,
            Role::Gateway => self.gateway,
        }
    }
}

const DAY: Duration = Duration::from_hours(24);

/// How soon a certificate or CRL expires.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Within 90 days. Early, since the root's key may be offline.
    Quarter,
    /// Within 30 days.
    Month,
    /// Within 7 days: issued certificates get shorter lifetimes.
    Week,
    /// It has expired.
    Ended,
}

impl Nearness {
    fn of(end: UnixTime, now: UnixTime) -> Option<Self> {
        let within = |days: u32| end <= now.plus(DAY * days);
        match () {
            () if end <= now => Some(Self::Ended),
            () if within(7) => Some(Self::Week),
            () if within(30) => Some(Self::Month),
            () if within(90) => Some(Self::Quarter),
            () => None,
        }
    }
}

/// A warning that a CA or CRL expires soon, or has expired.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Label in metrics: `root`, `root-crl` or a role.
    pub ca: &'static str,
    /// `notAfter` or `nextUpdate`.
    pub end: UnixTime,
    /// Decides the log level.
    pub nearness: Nearness,
    left: Duration,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.ca {
            "root" => "the root".to_owned(),
            "root-crl" => "the root's revocation list".to_owned(),
            role => format!("the CA for {role} certificates"),
        };
        match (self.nearness, self.left.as_secs() / DAY.as_secs()) {
            (Nearness::Ended, _) => write!(f, "{what} ended at {}", self.end)?,
            (_, 0) => write!(f, "{what} ends today, at {}", self.end)?,
            (_, 1) => write!(f, "{what} ends in 1 day, at {}", self.end)?,
            (_, days) => write!(f, "{what} ends in {days} days, at {}", self.end)?,
        }
        f.write_str(match self.ca {
            "root" => ": everything below ends with it; give every machine and person a new root before",
            "root-crl" => ": make a new one with `lychgate-gateway ca crl`",
            _ => ": renew it with `lychgate-gateway ca renew`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(days: u32) -> CaEnds {
        let later = |days: u32| UnixTime::new(1_000_000_000).plus(DAY * days);
        let end = later(days);
        CaEnds { root: later(7_000), root_list: Some(later(1_800)), machine: end, person: end, gateway: later(1_000) }
    }

    #[test]
    fn who_is_told_when() {
        let now = UnixTime::new(1_000_000_000);
        let near = |days| ends(days).notices(now).iter().map(|notice| (notice.ca, notice.nearness)).collect::<Vec<_>>();
        let both = |nearness| vec![("machine", nearness), ("person", nearness)];
        assert_eq!(near(91), []);
        assert_eq!(near(90), both(Nearness::Quarter));
        assert_eq!(near(31), both(Nearness::Quarter));
        assert_eq!(near(30), both(Nearness::Month));
        assert_eq!(near(7), both(Nearness::Week));
        assert_eq!(near(1), both(Nearness::Week));
        assert_eq!(near(0), both(Nearness::Ended));
        assert_eq!(CaEnds { root: now, ..ends(500) }.notices(now)[0].nearness, Nearness::Ended);
        assert_eq!(CaEnds { root_list: None, ..ends(500) }.notices(now), []);
    }

    #[test]
    fn what_they_say() {
        let now = UnixTime::new(1_000_000_000);
        let says = |ends: CaEnds| ends.notices(now).first().map(ToString::to_string).unwrap_or_default();
        let day = |days: u32| now.plus(DAY * days);
        let machine = |end| CaEnds { machine: end, person: day(500), ..ends(500) };
        assert_eq!(
            says(machine(day(6))),
            "the CA for machine certificates ends in 6 days, at 2001-09-15T01:46:40Z: renew it with `lychgate-gateway ca renew`"
        );
        assert!(says(machine(day(1))).contains("ends in 1 day, at"));
        assert!(says(machine(now.plus(DAY / 2))).contains("ends today, at"));
        assert!(says(machine(now)).contains("machine certificates ended at 2001-09-09T01:46:40Z"));
        assert!(says(CaEnds { root: day(3), ..ends(500) }).starts_with("the root ends in 3 days"));
        assert!(says(CaEnds { root_list: Some(day(3)), ..ends(500) }).ends_with("`lychgate-gateway ca crl`"));
    }
}
