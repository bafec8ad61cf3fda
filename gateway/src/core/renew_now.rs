//! Requests to machines to renew now: their records, and which certificates they apply to.

use pki::UnixTime;

use super::{
    audit::Event,
    change::Changes,
    keys,
    records::{Lineage, Seen, UnixSecs},
};

/// Whether the holder of a certificate issued at `issued` must renew: it, or every machine, was asked after that. A request in the
/// same second does not count: a machine that receives it by its tunnel renews within that second and would renew again. A
/// request in the future does not count either: after the clock was set back, machines would renew repeatedly until that time.
#[must_use]
pub fn is_wanted(issued: UnixTime, lineage: &Lineage, everybody: Option<UnixSecs>, now: UnixTime) -> bool {
    let asked = lineage.renewal_asked.into_iter().chain(everybody).map(UnixTime::from);
    asked.filter(|asked| *asked <= now).any(|asked| issued < asked)
}

/// Asks the holder of one lineage to renew. Its present certificates stay valid.
pub fn ask(
    changes: &mut Changes,
    seen: &Seen<Lineage>,
    identity: String,
    reason: &str,
    rules: &[String],
    now: UnixTime,
) {
    let mut lineage = seen.record.clone();
    lineage.renewal_asked = Some(now.into());
    changes.update(keys::lineage(&lineage.id), seen, &lineage);
    changes.event(Event::RenewalAsked { whom: identity, reason: reason.to_owned(), rules: rules.to_vec() });
}

/// Asks all machines to renew, with one record.
pub fn ask_all(reason: &str, rules: &[String], now: UnixTime) -> Changes {
    let mut changes = Changes::new();
    changes.put(keys::RENEW_MACHINES.to_owned(), &UnixSecs::from(now));
    let whom = "all machines".to_owned();
    changes.event(Event::RenewalAsked { whom, reason: reason.to_owned(), rules: rules.to_vec() });
    changes
}

#[cfg(test)]
mod tests {
    use pki::Role;

    use super::*;

    /// A certificate issued at 100, at time 200.
    #[track_caller]
    fn check(own: Option<u64>, everybody: Option<u64>, want: bool) {
        let lineage = Lineage {
            id: "l".to_owned(),
            role: Role::Machine,
            name: "m".to_owned(),
            current: None,
            pending: None,
            sealed: Vec::new(),
            activated: UnixSecs(0),
            forked: false,
            ended: false,
            ended_at: None,
            retired: None,
            created: UnixSecs(0),
            paid_until: UnixSecs(0),
            sealed_paid_until: UnixSecs(0),
            ssh_paid_until: UnixSecs(0),
            last_seen: None,
            renewal_asked: own.map(UnixSecs),
        };
        let got = is_wanted(UnixTime::new(100), &lineage, everybody.map(UnixSecs), UnixTime::new(200));
        assert_eq!(got, want, "{own:?} {everybody:?}");
    }

    #[test]
    fn whoever_was_asked_since_the_issue_is_to_renew() {
        check(None, None, false);
        check(Some(99), None, false);
        check(Some(100), None, false);
        check(Some(101), None, true);
        check(Some(200), None, true);
        check(None, Some(99), false);
        check(None, Some(100), false);
        check(None, Some(101), true);
        check(Some(99), Some(150), true);
        check(Some(150), Some(99), true);
        check(Some(201), Some(201), false);
        check(Some(201), Some(150), true);
    }
}
