//! When a record lapses, and what is removed with it: one rule for each kind that is removed by age. The table of kinds
//! ([`super::kinds`]) names the rule; housekeeping applies it.

use pki::Role;
use wire::evidence::JOIN_TOKEN;

use super::{
    audit::{AuditRecord, Event},
    change::Changes,
    keys,
    look::Look,
    queue,
    records::{
        Certificate, CertificateEnd, CountedBack, DeviceHolder, Enrollment, EnrollmentState, KeptName, Lineage,
        NumberHolder, Seen, SpentInstance, SpentJwt, Stale, Subject, Token, UnixSecs, Waiting,
    },
    refusal::Fault,
    stored::{self, RawRecord, Stored},
    subjects,
};

/// How long a decided enrollment is kept for its client.
const DECIDED_KEPT: u64 = 7 * 24 * 3600;

/// How long a redeemed token is kept after its expiry; until then the keys that redeemed it may use it again.
const REDEEMED_KEPT: u64 = 90 * 24 * 3600;

/// How long a decided enrollment with a token is kept: longer than the token, so that a denied or removed requester cannot use the
/// token again.
const DECIDED_WITH_TOKEN_KEPT: u64 = crate::limits::TOKEN_TTL_MAX.as_secs() + REDEEMED_KEPT + DECIDED_KEPT;

/// How long the use of a ticket, or of another issuer's token or document, is recorded after its expiry: a clock that is set back by
/// less allows no second use.
const TICKET_KEPT: u64 = 3600;

/// How long the use of a stale certificate is reported, and that a device counted less than before.
pub const STALE_KEPT: u64 = 7 * 24 * 3600;

/// How long a certificate's record is kept after its expiry; its holder can rejoin with it until then.
const CERTIFICATE_KEPT: u64 = 400 * 24 * 3600;

/// The times for the decision, in seconds.
#[derive(Copy, Clone, Debug)]
pub struct LapseTimes {
    /// Now, since the Unix epoch.
    pub now: u64,
    /// How long audit events are kept.
    pub audit_retention: u64,
}

/// The order in which the records of a kind are checked.
#[derive(Copy, Clone, Debug)]
pub enum Walk {
    /// All of them.
    All,
    /// Oldest first within each part, up to the first that stays; their keys contain the time. The function returns the part of a key.
    OldestFirst(fn(&str) -> &str),
}

/// The changes at the end of a record; nothing while it stays.
type LapseOf = fn(&Look, &str, &RawRecord, LapseTimes) -> Result<Option<Changes>, Fault>;

/// Removal by age of a kind of record.
#[derive(Copy, Clone, Debug)]
pub struct Rule {
    /// Which records are checked.
    pub walk: Walk,
    lapse: LapseOf,
}

impl Rule {
    /// The rule of a type of record.
    pub const fn of<T: Lapses>(walk: Walk) -> Self {
        Self { walk, lapse: erased::<T> }
    }

    /// The changes at the end of the record under this key; nothing while it stays.
    ///
    /// # Errors
    /// [`Fault::Record`] if it, or a record that must be removed with it, is damaged: then it stays.
    pub fn lapse(&self, look: &Look, key: &str, raw: &RawRecord, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        (self.lapse)(look, key, raw, times)
    }
}

fn erased<T: Lapses>(look: &Look, key: &str, raw: &RawRecord, times: LapseTimes) -> Result<Option<Changes>, Fault> {
    let (seen, damage) = stored::read::<T>(key, raw);
    if let Some(fault) = &damage {
        look.note(key, fault);
    }
    match (seen, damage) {
        (Some(seen), None) => T::lapse(&seen, key, look, times),
        // The placeholder of a damaged record has its expiry; no condition is set on its content.
        (Some(seen), Some(_)) => Ok(T::lapse(&seen, key, look, times)?.map(|_| {
            let mut changes = Changes::new();
            changes.delete(key.to_owned());
            changes
        })),
        (None, Some(fault)) => Err(fault),
        (None, None) => Ok(None),
    }
}

/// A record that is removed by age.
pub trait Lapses: Stored {
    /// The changes at its end; nothing while it stays.
    ///
    /// # Errors
    /// [`Fault::Record`] if a record that must be removed with it is damaged.
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault>;
}

/// Removes it, and nothing else, once it has expired.
fn alone<T>(seen: &Seen<T>, key: &str, over: bool) -> Option<Changes> {
    over.then(|| {
        let mut changes = Changes::new();
        changes.remove(key.to_owned(), seen);
        changes
    })
}

impl Lapses for Waiting {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        if times.now <= seen.record.expires.0 {
            return Ok(None);
        }
        queue::lapse(look, key.strip_prefix(keys::WAITING).unwrap_or_default(), seen).map(Some)
    }
}

/// A queue number belongs to the entry that lists it. Normally none remains without an entry, so this removes only numbers of
/// quarantined entries.
impl Lapses for NumberHolder {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, _: LapseTimes) -> Result<Option<Changes>, Fault> {
        let entry: Option<Seen<Waiting>> = look.get(&keys::waiting(&seen.record.0))?;
        let holds = |entry: &Seen<Waiting>| entry.record.numbers.iter().any(|number| keys::queue_number(number) == key);
        Ok(alone(seen, key, !entry.as_ref().is_some_and(holds)))
    }
}

/// Removed with its entry in the index by key, if that still refers to it. An approved enrollment that was never fetched is given up.
impl Lapses for Enrollment {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        let enrollment = &seen.record;
        let kept = match enrollment.state {
            EnrollmentState::Approved if enrollment.expires.0 + DECIDED_KEPT < times.now => {
                return give_up(seen, key, look, times.now).map(Some);
            }
            EnrollmentState::Approved => return Ok(None),
            EnrollmentState::Waiting
            | EnrollmentState::Issued
            | EnrollmentState::Denied
            | EnrollmentState::Expired
            | EnrollmentState::Removed
            | EnrollmentState::Withdrawn => {
                if enrollment.evidence.iter().all(|shown| shown.kind != JOIN_TOKEN) {
                    DECIDED_KEPT
                } else {
                    DECIDED_WITH_TOKEN_KEPT
                }
            }
        };
        let Some(mut changes) = alone(seen, key, enrollment.expires.0 + kept < times.now) else { return Ok(None) };
        let index = keys::enrollment_of_key(&enrollment.key);
        // An unreadable one is removed by its own rule, or stays.
        let entry = look.get::<String>(&index).ok().flatten();
        if let Some(entry) = entry.filter(|entry| entry.record == enrollment.id) {
            changes.remove(index, &entry);
        }
        Ok(Some(changes))
    }
}

/// Frees the name of an enrollment, if the lineage that began with it still has the name, and ends that lineage.
fn give_up(seen: &Seen<Enrollment>, key: &str, look: &Look, now: u64) -> Result<Changes, Fault> {
    let mut changes = Changes::new();
    let enrollment = Enrollment { state: EnrollmentState::Expired, ..seen.record.clone() };
    changes.update(key.to_owned(), seen, &enrollment);
    if let (Some(id), false) = (&enrollment.lineage, enrollment.rejoin) {
        // Unreadable records of it stay unchanged.
        if let Some(lineage) = look.get::<Lineage>(&keys::lineage(id)).ok().flatten() {
            let ended = Lineage { ended: true, ended_at: Some(UnixSecs(now)), ..lineage.record.clone() };
            changes.update(keys::lineage(id), &lineage, &ended);
        }
        if let Some(name) = &enrollment.name {
            let subject = look.get::<Subject>(&keys::subject(enrollment.role, name)).ok().flatten();
            if let Some(subject) = subject.filter(|subject| subject.record.lineage == *id) {
                subjects::remove(&mut changes, &subject);
                if enrollment.role == Role::Machine {
                    changes.delete(keys::convergence(name));
                }
            }
        }
    }
    changes.event(Event::EnrollmentExpired { enrollment: enrollment.id, state: "approved" });
    Ok(changes)
}

/// The index of enrollments by key: an entry is removed with its enrollment.
impl Lapses for String {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, _: LapseTimes) -> Result<Option<Changes>, Fault> {
        // An unreadable enrollment exists, too.
        let gone = look.get::<serde_json::Value>(&keys::enrollment(&seen.record))?.is_none();
        Ok(alone(seen, key, gone))
    }
}

impl Lapses for Token {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        let kept = if seen.record.redeemed.is_empty() { DECIDED_KEPT } else { REDEEMED_KEPT };
        Ok(alone(seen, key, seen.record.expires.0 + kept < times.now))
    }
}

/// The expiry of a used ticket.
impl Lapses for UnixSecs {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.0 + TICKET_KEPT < times.now))
    }
}

impl Lapses for SpentJwt {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.until.0.saturating_add(TICKET_KEPT) < times.now))
    }
}

impl Lapses for SpentInstance {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.until.0.saturating_add(TICKET_KEPT) < times.now))
    }
}

impl Lapses for Stale {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.at.0 + STALE_KEPT < times.now))
    }
}

/// The index of machines by device: goes with the lineage that it names.
impl Lapses for DeviceHolder {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, _: LapseTimes) -> Result<Option<Changes>, Fault> {
        // Also one that cannot be read is there.
        let gone = look.get::<serde_json::Value>(&keys::lineage(&seen.record.lineage))?.is_none();
        Ok(alone(seen, key, gone))
    }
}

impl Lapses for CountedBack {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.at.0 + STALE_KEPT < times.now))
    }
}

impl Lapses for AuditRecord {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.at_ms / 1000 + times.audit_retention < times.now))
    }
}

impl Lapses for Certificate {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.not_after.0 + CERTIFICATE_KEPT < times.now))
    }
}

impl Lapses for CertificateEnd {
    fn lapse(seen: &Seen<Self>, key: &str, _: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        Ok(alone(seen, key, seen.record.not_after.0 + CERTIFICATE_KEPT < times.now))
    }
}

/// Free once the last certificate with it has expired, or if the machine that was to get it is gone.
impl Lapses for KeptName {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        let free = match seen.record.until {
            Some(until) => until.0 < times.now,
            None => {
                let lineage = look.get::<Lineage>(&keys::lineage(&seen.record.lineage))?;
                lineage.is_none_or(|lineage| lineage.record.ended)
            }
        };
        Ok(alone(seen, key, free))
    }
}

/// Removed if nobody has it any more, once its last certificate has reached the greatest age.
impl Lapses for Lineage {
    fn lapse(seen: &Seen<Self>, key: &str, look: &Look, times: LapseTimes) -> Result<Option<Changes>, Fault> {
        let lineage = &seen.record;
        if last_end(lineage) + CERTIFICATE_KEPT >= times.now {
            return Ok(None);
        }
        // For an unreadable subject it is unknown which lineage it has.
        let subject = look.get::<Subject>(&keys::subject(lineage.role, &lineage.name))?;
        let gone = subject.is_none_or(|subject| subject.record.lineage != lineage.id);
        Ok(alone(seen, key, gone))
    }
}

/// The expiry of a lineage's last certificate, or the start of the lineage if it never had one.
fn last_end(lineage: &Lineage) -> u64 {
    let certificates = lineage.current.iter().chain(&lineage.pending).chain(&lineage.sealed);
    certificates.map(|cert| cert.not_after.0).max().unwrap_or(lineage.created.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::core::kinds::{self, KINDS, Term};

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 2_000 * DAY;
    const KEY: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

    fn cert(end: u64) -> Value {
        json!({ "serial": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "lineage": "l", "role": "machine", "issuer": KEY,
            "name": "edge-1", "key": KEY, "not_before": 1, "not_after": end, "der": "" })
    }

    fn enrollment(state: &str, end: u64) -> Value {
        json!({ "id": "e", "state": state, "role": "machine", "key": KEY, "spki": "", "wanted_name": null, "name": "edge-1",
            "claims": {}, "attributes": {}, "assurance": "software", "source": "192.0.2.0/24", "pin": KEY,
            "nonce": "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c", "created": 1, "expires": end, "approvals": [],
            "approvals_wanted": 1, "lifetime": null, "rules": [], "labels": {}, "groups": [], "owner": null,
            "lineage": null, "rejoin": false, "reason": null })
    }

    /// A key, a record by its age in days since its expiry, and how many days it stays.
    type Case = (&'static str, fn(u64) -> Value, u64);

    const CASES: &[Case] = &[
        ("waiting/e", |end| json!({ "wanted_name": null, "source": "192.0.2.0/24", "expires": end }), 0),
        ("enr/e", |end| enrollment("denied", end), 7),
        ("enr/e", |end| enrollment("approved", end), 7),
        ("enr/e", |end| enrollment("waiting", end), 7),
        (
            "token/t",
            |end| {
                json!({ "id": "t", "role": "machine", "uses": 1, "redeemed": [], "names": [], "labels": {},
            "groups": [], "owner": null, "key": null, "by": "gateway", "created": 1, "expires": end, "revoked": false })
            },
            7,
        ),
        (
            "token/t",
            |end| {
                json!({ "id": "t", "role": "machine", "uses": 1, "redeemed": [KEY], "names": [], "labels": {},
            "groups": [], "owner": null, "key": null, "by": "gateway", "created": 1, "expires": end, "revoked": false })
            },
            90,
        ),
        ("ticket/t", |end| json!(end + DAY - 3600), 1),
        ("jwt/t", |end| json!({ "until": end + DAY - 3600, "key": KEY }), 1),
        ("instance/i", |end| json!({ "until": end + DAY - 3600, "key": KEY }), 1),
        (
            "stale/l",
            |end| {
                json!({ "lineage": "l", "used": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            "source": "192.0.2.0/24", "at": end })
            },
            7,
        ),
        ("counted-back/l", |end| json!({ "lineage": "l", "count": "tpm_resets", "before": 2, "now": 1, "at": end }), 7),
        (
            "audit/0",
            |end| {
                json!({ "at_ms": end * 1000, "event": "lock.set", "actor": "a", "subject": "s", "rules": [],
            "instance": "i", "detail": {} })
            },
            30,
        ),
        ("cert/c", cert, 400),
        ("certend/i/e/c", cert, 400),
        ("name/machine/n", |end| json!({ "lineage": "l", "until": end }), 0),
        (
            "lineage/l",
            |end| {
                json!({ "id": "l", "role": "machine", "name": "edge-1", "current": null, "pending": null,
            "activated": 0, "forked": false, "ended": true, "created": end })
            },
            400,
        ),
    ];

    fn lapses(key: &str, record: &Value, look: &Look) -> bool {
        let kind = kinds::of(key).unwrap();
        let (Term::Short(rule) | Term::Long(rule)) = kind.term else { panic!("{key} goes by no clock") };
        let raw = Seen { record: Ok(serde_json::to_vec(record).unwrap()), version: 1 };
        let lapsed = rule.lapse(look, key, &raw, LapseTimes { now: NOW, audit_retention: 30 * DAY });
        lapsed.unwrap_or_else(|fault| panic!("{key}: {fault}")).is_some()
    }

    #[test]
    fn each_kind_goes_when_its_time_has_come() {
        for (key, record, days) in CASES {
            let at = |days: u64, more: u64| record(NOW - days * DAY - more);
            assert!(!lapses(key, &at(*days, 0), &Look::default()), "{key} stays for {days} days");
            assert!(lapses(key, &at(*days, 1), &Look::default()), "{key} goes after {days} days");
        }
    }

    /// Records that are removed together with another: entries of the index by key.
    #[test]
    fn an_index_goes_with_what_it_names() {
        let mut look = Look::default();
        assert!(lapses("enrkey/k", &json!("e"), &look));
        let there = Seen { record: Ok(b"{}".to_vec()), version: 1 };
        look.learn("enr/e".to_owned(), Some(there));
        assert!(!lapses("enrkey/k", &json!("e"), &look));
        assert!(lapses("queue/all/1", &json!("w"), &look));
        let entry = json!({ "wanted_name": null, "source": "192.0.2.0/24", "expires": 1, "numbers": ["all/1"] });
        look.learn("waiting/w".to_owned(), Some(Seen { record: Ok(entry.to_string().into_bytes()), version: 1 }));
        assert!(!lapses("queue/all/1", &json!("w"), &look));
        assert!(lapses("queue/all/2", &json!("w"), &look), "it holds another");
        let device = json!({ "lineage": "l" });
        assert!(lapses("device/tpm_ek/d", &device, &look));
        look.learn("lineage/l".to_owned(), Some(Seen { record: Ok(b"{}".to_vec()), version: 1 }));
        assert!(!lapses("device/tpm_ek/d", &device, &look));
    }

    #[test]
    fn every_kind_that_goes_by_a_clock_has_a_case() {
        let ruled = KINDS.iter().filter(|kind| !matches!(kind.term, Term::Standing)).map(|kind| kind.prefix);
        let cases = CASES.iter().map(|(key, ..)| kinds::of(key).unwrap().prefix).chain([
            keys::ENROLLMENT_KEYS,
            keys::QUEUE_NUMBERS,
            keys::DEVICES,
        ]);
        assert_eq!(ruled.collect::<BTreeSet<_>>(), cases.collect::<BTreeSet<_>>());
    }
}
