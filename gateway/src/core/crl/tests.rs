//! CRL entries as a table: what happened to a certificate, and its entry.

use pki::{KeyDigest, Serial};

use super::*;
use crate::core::records::CertRef;

const ISSUED: u64 = 1_800_000_000;
const DAY: u64 = 24 * 3600;
/// A time after all events in the rows.
const NOW: u64 = ISSUED + 3600;

fn cert(number: u8) -> CertificateEnd {
    CertificateEnd {
        serial: Serial::from_entropy([number; 16]),
        lineage: "l1".to_owned(),
        role: Role::Machine,
        issuer: KeyDigest::from_spki_der(&[0]),
        name: "m-1".to_owned(),
        key: KeyDigest::from_spki_der(&[number]),
        not_before: UnixSecs(ISSUED - BACKDATE.as_secs()),
        not_after: UnixSecs(ISSUED + DAY),
    }
}

fn reference(number: u8) -> CertRef {
    let cert = cert(number);
    CertRef {
        serial: cert.serial,
        key: cert.key,
        issuer: cert.issuer,
        generation: 1,
        not_after: cert.not_after,
        assurance: pki::Assurance::SOFTWARE,
    }
}

/// Certificate 1 is in use, 2 is pending, 3 and 4 are for sealed services, 9 was in use before 1 and 8 before 9.
fn lineage() -> Lineage {
    Lineage {
        id: "l1".to_owned(),
        role: Role::Machine,
        name: "m-1".to_owned(),
        current: Some(reference(1)),
        pending: Some(reference(2)),
        sealed: vec![reference(3), reference(4)],
        activated: UnixSecs(ISSUED),
        retired: Some(reference(9)),
        forked: false,
        ended: false,
        ended_at: None,
        created: UnixSecs(ISSUED - DAY),
        paid_until: UnixSecs(0),
        sealed_paid_until: UnixSecs(0),
        ssh_paid_until: UnixSecs(0),
        last_seen: None,
        renewal_asked: None,
    }
}

fn lock(kind: LockKind, target: &str) -> StandingLocks {
    let at = UnixSecs(ISSUED + 60);
    StandingLocks::of([Lock {
        kind,
        target: target.to_owned(),
        reason: String::new(),
        by: String::new(),
        at,
        of_key: None,
        instance: String::new(),
    }])
}

const HELD: Option<RevocationReason> = Some(RevocationReason::CertificateHold);
const CEASED: Option<RevocationReason> = Some(RevocationReason::CessationOfOperation);
const COMPROMISED: Option<RevocationReason> = Some(RevocationReason::KeyCompromise);
const REPLACED: Option<RevocationReason> = Some(RevocationReason::Superseded);

#[track_caller]
fn check(
    what: &str,
    number: u8,
    change: impl FnOnce(&mut Lineage),
    locks: &StandingLocks,
    want: Option<RevocationReason>,
) {
    let mut lineage = lineage();
    change(&mut lineage);
    let now = UnixTime::new(NOW);
    let entry = entry(&cert(number), Some(&lineage), locks, now);
    assert_eq!(entry.map(|entry| entry.reason), want, "{what}, certificate {number}");
    assert!(entry.is_none_or(|entry| entry.at <= now), "{what}: revoked in the future");
}

#[test]
fn what_stands_on_the_list() {
    let none = StandingLocks::default();
    let same = |_: &mut Lineage| {};
    let in_use = [1, 2, 3, 4];
    let all = [1, 2, 3, 4, 5, 8, 9];
    for number in in_use {
        check("nothing happened", number, same, &none, None);
    }
    for number in [5, 8, 9] {
        check("replaced or overwritten", number, same, &none, REPLACED);
    }
    for locks in [lock(LockKind::Machine, "m-1"), lock(LockKind::Lineage, "l1")] {
        for number in in_use {
            check("locked by name or lineage", number, same, &locks, HELD);
        }
        check("locked, and replaced for good", 8, same, &locks, REPLACED);
    }
    let key = lock(LockKind::Key, &cert(2).key.hex());
    check("its key is locked", 2, same, &key, HELD);
    check("the key of another", 1, same, &key, None);
    check("another kind", 1, same, &lock(LockKind::Person, "m-1"), None);
    check("another name", 1, same, &lock(LockKind::Machine, "m-2"), None);
    for number in all {
        check("removed", number, |l| l.ended = true, &none, CEASED);
        check("removed and locked", number, |l| l.ended = true, &lock(LockKind::Lineage, "l1"), CEASED);
        check("forked", number, |l| l.forked = true, &none, COMPROMISED);
    }
    check("overwritten while pending", 2, |l| l.pending = Some(reference(7)), &none, REPLACED);
    check(
        "a lock raced the renewal, lock first",
        7,
        |l| l.pending = Some(reference(7)),
        &lock(LockKind::Machine, "m-1"),
        HELD,
    );
    check("sealed, replaced twice", 3, |l| l.sealed.truncate(0), &none, REPLACED);
}

#[test]
fn a_certificate_of_no_lineage() {
    let now = UnixTime::new(NOW);
    let orphan = entry(&cert(1), None, &StandingLocks::default(), now);
    assert_eq!(orphan.map(|entry| entry.reason), CEASED);
    let own = CertificateEnd { role: Role::Gateway, name: "gateway".to_owned(), ..cert(1) };
    assert_eq!(entry(&own, None, &StandingLocks::default(), now), None);
    let locked = entry(&own, None, &lock(LockKind::Key, &own.key.hex()), now);
    assert_eq!(locked.map(|entry| entry.reason), HELD);
}

#[test]
fn a_retired_certificate_has_its_grace() {
    let at = |number: u8, now: u64| {
        entry(&cert(number), Some(&lineage()), &StandingLocks::default(), UnixTime::new(now)).is_some()
    };
    assert!(!at(9, ISSUED + 120));
    assert!(at(9, ISSUED + 121));
    // one that was retired earlier, or never used, has no grace
    assert!(at(8, ISSUED + 1));
    assert!(at(5, ISSUED + 1));
    // a lock has no grace
    let locked = entry(&cert(9), Some(&lineage()), &lock(LockKind::Machine, "m-1"), UnixTime::new(ISSUED + 60));
    assert_eq!(locked.map(|entry| entry.reason), HELD);
}

#[test]
fn numbers_only_grow() {
    let first = next(None, 5_000);
    assert_eq!((first.number, first.this_update), (5_000, UnixSecs(5)));
    assert_eq!(next(Some(first), 9_000).number, 9_000);
    assert_eq!(next(Some(first), 5_000).number, 5_001, "the same millisecond");
    assert_eq!(
        next(Some(first), 2_000),
        LastList { number: 5_001, this_update: UnixSecs(2) },
        "the clock was set back"
    );
}

#[test]
fn an_entry_outlives_its_certificate_by_one_list() {
    let from = |last: Option<u64>, now| {
        looks_from(last.map(|at| LastList { number: 1, this_update: UnixSecs(at) }), UnixTime::new(now)).0
    };
    assert_eq!(from(None, 100), 100);
    assert_eq!(from(Some(40), 100), 40, "what ended since the last list stands on this one");
    assert_eq!(from(Some(140), 100), 100, "the clock was set back");
}

#[test]
fn the_bound_keeps_what_matters() {
    let row = |end: u64, number: u8, reason| {
        let serial = Serial::from_entropy([number; 16]);
        (UnixSecs(end), RevokedEntry { serial, at: UnixTime::new(1), reason })
    };
    let all = vec![
        row(10, 1, RevocationReason::Superseded),
        row(5, 2, RevocationReason::CertificateHold),
        row(20, 3, RevocationReason::Superseded),
        row(1, 4, RevocationReason::CessationOfOperation),
    ];
    let check = |max: usize, want: &[u8], left_out: usize| {
        let mut entries = all.clone();
        assert_eq!(bound(&mut entries, max), left_out);
        let mut kept: Vec<Serial> = entries.iter().map(|(_, entry)| entry.serial).collect();
        let mut want: Vec<Serial> = want.iter().map(|&number| Serial::from_entropy([number; 16])).collect();
        kept.sort();
        want.sort();
        assert_eq!(kept, want, "{max}");
    };
    check(4, &[1, 2, 3, 4], 0);
    check(3, &[2, 3, 4], 1);
    check(2, &[2, 4], 2);
    check(1, &[2], 3);
}
