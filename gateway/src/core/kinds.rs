//! The table of all kinds of records: prefix, type, and retention. Nothing is stored without a row here, and housekeeping goes through
//! this table.

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    audit::AuditRecord,
    keys,
    lapse::{Lapses, Rule, Walk},
    records::{
        Certificate, CertificateEnd, Convergence, CountedBack, DeviceHolder, Enrollment, KeptName, LastList, Lineage,
        Lock, NumberHolder, SpentInstance, SpentJwt, Stale, Subject, Token, TunnelRecord, UnixSecs, Waiting,
    },
    stored::Stored,
    subjects::Owned,
    timekeeping::ClockNote,
};

/// Retention of a kind of record, and the rule for it.
#[derive(Copy, Clone, Debug)]
pub enum Term {
    /// Expires soon and can be recreated: removed even while the clock is doubted, by the counted time.
    Short(Rule),
    /// Removed by age, while the clock is trusted.
    Long(Rule),
    /// Removed together with what it belongs to, by an action; never by age.
    Standing,
}

/// Any of them may expire, even while the clock is doubted.
const fn short<T: Lapses>() -> Term {
    Term::Short(Rule::of::<T>(Walk::All))
}

/// Any of them may expire.
const fn long<T: Lapses>() -> Term {
    Term::Long(Rule::of::<T>(Walk::All))
}

/// The oldest expire first, in each part.
const fn oldest<T: Lapses>(part: fn(&str) -> &str) -> Term {
    Term::Long(Rule::of::<T>(Walk::OldestFirst(part)))
}

/// All audit events are one part.
fn of_audit(_: &str) -> &str {
    keys::AUDIT
}

/// Certificates are indexed by expiry below their issuing CA.
fn of_issuer(key: &str) -> &str {
    let behind = key.strip_prefix(keys::CERTIFICATE_ENDS).and_then(|rest| rest.split_once('/'));
    behind.map_or(key, |(_, rest)| key.strip_suffix(rest).unwrap_or(key))
}

/// One kind of record.
#[derive(Debug)]
pub struct RecordKind {
    /// Prefix of its keys.
    pub prefix: &'static str,
    /// Its name.
    pub what: &'static str,
    /// How long it lives.
    pub term: Term,
    /// The rule for its removal, as text.
    pub goes: &'static str,
    /// The consequence of moving one to quarantine, as text.
    pub if_lost: &'static str,
    /// Whether the bytes are a valid record.
    reads: fn(&[u8]) -> Result<(), serde_json::Error>,
}

/// Prefix of the quarantine of unreadable records.
pub const QUARANTINE: &str = "quarantine/";

const fn kind<T: Stored>(
    (prefix, what): (&'static str, &'static str),
    term: Term,
    goes: &'static str,
    if_lost: &'static str,
) -> RecordKind {
    RecordKind { prefix, what, term, goes, if_lost, reads: reads::<T> }
}

fn reads<T: DeserializeOwned>(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<T>(bytes).map(drop)
}

/// The table.
pub const KINDS: &[RecordKind] = &[
    kind::<Enrollment>(
        (keys::ENROLLMENTS, "request to join"),
        long::<Enrollment>(),
        "7 days after it was decided or lapsed, half a year when a token was redeemed with it",
        "its requester must ask to join again",
    ),
    kind::<String>(
        (keys::ENROLLMENT_KEYS, "index of requests by key"),
        long::<String>(),
        "with the request it names",
        "a requester with that key makes a new request",
    ),
    kind::<Waiting>(
        (keys::WAITING, "index of waiting requests"),
        short::<Waiting>(),
        "when the request is decided, or lapses (`pending_ttl`)",
        "the request is in no list; its machine asks to join again",
    ),
    kind::<NumberHolder>(
        (keys::QUEUE_NUMBERS, "number in the queue"),
        short::<NumberHolder>(),
        "with the waiting request that holds it",
        "until that request is decided one more may wait than should",
    ),
    kind::<Token>(
        (keys::TOKENS, "join token"),
        long::<Token>(),
        "7 days after it expired, 90 days when it was redeemed",
        "nobody can join with it any more; make another",
    ),
    kind::<Lock>(
        (keys::LOCKS, "lock"),
        Term::Standing,
        "when somebody lifts it",
        "the lock is lifted: set it again before anybody can reach the gateway",
    ),
    kind::<AuditRecord>(
        (keys::AUDIT, "audit event"),
        oldest::<AuditRecord>(of_audit),
        "after `[audit] retention`",
        "the audit lacks this event",
    ),
    kind::<Certificate>(
        (keys::CERTIFICATES, "certificate"),
        long::<Certificate>(),
        "400 days after it ended",
        "the holder of this certificate must join again",
    ),
    kind::<CertificateEnd>(
        (keys::CERTIFICATE_ENDS, "index of certificates by end"),
        oldest::<CertificateEnd>(of_issuer),
        "400 days after the certificate ended",
        "the certificate is on no list of revoked ones",
    ),
    kind::<Stale>(
        (keys::STALE, "note of an old certificate that came back"),
        long::<Stale>(),
        "after 7 days",
        "it is not reported any more",
    ),
    kind::<DeviceHolder>(
        (keys::DEVICES, "index of machines by device"),
        long::<DeviceHolder>(),
        "with the lineage it names",
        "when the machine is wiped, it is a newcomer and not the same machine again",
    ),
    kind::<CountedBack>(
        (keys::COUNTED_BACK, "note of a device that counted less than before"),
        long::<CountedBack>(),
        "after 7 days",
        "it is not reported any more",
    ),
    kind::<UnixSecs>(
        (keys::TICKETS, "ticket that was used"),
        long::<UnixSecs>(),
        "an hour after the ticket ended",
        "within its five minutes the same key may use the ticket once more",
    ),
    kind::<SpentJwt>(
        (keys::SPENT_JWTS, "token of another issuer that was used"),
        long::<SpentJwt>(),
        "an hour after the token ended",
        "until it ends, whoever has the token may use it for another key",
    ),
    kind::<SpentInstance>(
        (keys::SPENT_INSTANCES, "instance of a cloud that was admitted"),
        long::<SpentInstance>(),
        "an hour after its document is too old",
        "until then, whoever reads the instance's document may be admitted by it with another key",
    ),
    kind::<Subject>(
        (keys::SUBJECTS, "machine or person"),
        Term::Standing,
        "when it leaves or is removed; when it was approved and did not come within 7 days",
        "it must join again, under a free name",
    ),
    kind::<Owned>(
        (keys::OWNED, "index of machines by owner"),
        Term::Standing,
        "with the machine, or when it gets another owner",
        "until the next start the machine is not handed over with the others of its owner",
    ),
    kind::<KeptName>(
        (keys::KEPT_NAMES, "name of a machine that is renamed"),
        long::<KeptName>(),
        "when the last certificate with the name has ended, or the machine was removed before it took the name",
        "somebody else may get the name while a certificate with it is still valid",
    ),
    kind::<Convergence>(
        (keys::CONVERGENCES, "report of a configuration tool"),
        Term::Standing,
        "with the machine",
        "the machine shows no last run until the next is reported",
    ),
    kind::<TunnelRecord>(
        (keys::TUNNELS, "tunnel that is up"),
        Term::Standing,
        "with the tunnel, or with the lease of the gateway that holds it",
        "other gateways show the machine as offline until its tunnel comes up anew",
    ),
    kind::<Lineage>(
        (keys::LINEAGES, "lineage"),
        long::<Lineage>(),
        "400 days after its last certificate ended, when it is no machine's or person's any more",
        "its machine or person must join again",
    ),
    kind::<u64>(
        (keys::EPOCH, "lock epoch"),
        Term::Standing,
        "never",
        "the store counts as restored: see `--accept-rollback`",
    ),
    kind::<String>(
        (keys::POLICY, "digest of the policy in force"),
        Term::Standing,
        "never: there is one",
        "it is written again at the next start or reload",
    ),
    kind::<u64>(
        (keys::ORDER, "order of what is vouched for"),
        Term::Standing,
        "never: there is one",
        "the clock takes it forward at the next start",
    ),
    kind::<u64>(
        (keys::LEAD, "whose turn housekeeping is"),
        Term::Standing,
        "when its gateway stops, or is not heard of for three minutes",
        "another gateway takes the turn",
    ),
    kind::<LastList>(
        (keys::LAST_LISTS, "number of a revocation list"),
        Term::Standing,
        "never: there is one for each issuing CA",
        "the next list begins with a lower number, which some programs do not accept",
    ),
    kind::<UnixSecs>(
        (keys::RENEW_MACHINES, "request to renew"),
        Term::Standing,
        "never: there is one",
        "machines that have not received it renew at their normal time",
    ),
    kind::<ClockNote>(
        (keys::CLOCK, "time of the last housekeeping"),
        Term::Standing,
        "never: there is one",
        "the clock is compared with the newest audit event instead",
    ),
    kind::<IgnoredAny>(
        (QUARANTINE, "quarantined record"),
        Term::Standing,
        "never: export it, then look at it",
        "nothing reads it",
    ),
];

/// The kind of the record with this key.
#[must_use]
pub fn of(key: &str) -> Option<&'static RecordKind> {
    KINDS.iter().find(|kind| key.starts_with(kind.prefix))
}

/// Why the bytes under a key are not a record of its kind; `None` if they are.
#[must_use]
pub fn damage(key: &[u8], bytes: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(key) else { return Some("its key is not text".to_owned()) };
    if text.starts_with(QUARANTINE) {
        return None;
    }
    match of(text) {
        None => Some("this version knows no such kind of record".to_owned()),
        Some(kind) => (kind.reads)(bytes).err().map(|error| format!("it does not read as a {}: {error}", kind.what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new prefix in `keys.rs` needs a row here: without one its records would never be deleted.
    #[test]
    fn every_prefix_has_a_row() {
        let written = include_str!("keys.rs");
        let literals: Vec<&str> = written.split('"').skip(1).step_by(2).collect();
        let prefixes: Vec<&str> = literals.into_iter().filter(|text| text.contains('/')).collect();
        assert!(prefixes.len() >= KINDS.len() - 1, "{prefixes:?}");
        for prefix in prefixes.into_iter().filter(|prefix| !prefix.starts_with('{')) {
            assert!(of(prefix).is_some(), "`{prefix}` has no row in core/kinds.rs: when does such a record go?");
        }
    }

    #[test]
    fn no_row_hides_another() {
        for (at, kind) in KINDS.iter().enumerate() {
            let first = KINDS.iter().position(|other| kind.prefix.starts_with(other.prefix));
            assert_eq!(first, Some(at), "{}", kind.prefix);
            assert!(!kind.goes.is_empty() && !kind.if_lost.is_empty());
        }
    }

    #[test]
    fn certificates_are_in_the_part_of_their_issuer() {
        assert_eq!(of_issuer("certend/ab/0000000000000001/cd"), "certend/ab/");
        assert_eq!(of_issuer("certend/ab"), "certend/ab");
    }

    #[test]
    fn what_is_damaged_is_named() {
        for (key, bytes, want) in [
            ("meta/epoch", "7", None),
            ("meta/epoch", "\"7\"", Some("it does not read as a lock epoch: ")),
            ("lock/machine/edge-07", "{}", Some("it does not read as a lock: missing field")),
            ("lock/machine/edge-07", "", Some("it does not read as a lock: EOF")),
            ("enrkey/00", "\"id\"", None),
            ("quarantine/lock/x", "{", None),
            ("other/x", "{}", Some("this version knows no such kind")),
        ] {
            let got = damage(key.as_bytes(), bytes.as_bytes());
            match want {
                None => assert_eq!(got, None, "{key} {bytes}"),
                Some(want) => {
                    assert!(got.as_deref().is_some_and(|got| got.starts_with(want)), "{key} {bytes}: {got:?}")
                }
            }
        }
        assert_eq!(damage(&[0xff], b"{}").as_deref(), Some("its key is not text"));
    }
}
