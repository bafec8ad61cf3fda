//! A certificate about to be made: the linted draft, and what must be durable before it may be signed.

use std::time::Duration;

use pki::{
    AssuranceLevel, Identity, KeyDigest, LeafRequest, Linted, ListsUrl, Name, Role, Serial, SubjectKey, TrustDomain,
    UnixTime,
};

use super::{
    admission::lock_kind,
    audit::Event,
    ca_end::CaEnds,
    change::{Changes, Expect},
    keys,
    lock::Locks,
    records::{
        AdmittedBy, CertRef, CertState, Certificate, CertificateEnd, Enrollment, Lineage, LockKind, Seen, Subject,
        UnixSecs,
    },
    refusal::{Fault, REMOVED, Refusal},
};

/// A certificate that may be made once `reserve` is committed.
#[derive(Debug)]
#[must_use = "a plan that is not carried out issues nothing"]
pub struct Plan {
    /// The draft, linted.
    pub linted: Linted,
    /// What must be durable first: serial, token, names, events.
    pub reserve: Changes,
    /// The certificate's record as reserved.
    pub certificate: Certificate,
    /// The enrollment to mark as issued when the certificate is recorded.
    pub enrollment: Option<Enrollment>,
    /// The id given to the client: enrollment or lineage.
    pub id: String,
}

/// What the certificates of machines and people have in common here.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// The trust domain.
    pub domain: &'a TrustDomain,
    /// Where third parties find the revocation lists, if they are told.
    pub lists: Option<&'a ListsUrl>,
    /// How many certificates of each kind a lineage may have made in one life of them.
    pub per_life: u32,
    /// When the CAs end that sign them.
    pub ends: &'a CaEnds,
}

impl Common<'_> {
    /// A lifetime, cut to what the CA of the role has left: a certificate that outlives its CA fails at a moment nobody
    /// planned.
    ///
    /// # Errors
    /// [`Fault::CaEnded`].
    pub fn within(&self, role: Role, lifetime: Duration, now: UnixTime) -> Result<Duration, Fault> {
        let end = self.ends.of(role);
        if end <= now { Err(Fault::CaEnded { role: role.as_str(), end }) } else { Ok(lifetime.min(end.since(now))) }
    }
}

/// What a certificate is to say; the rest comes from the profile.
pub struct Wanted<'a> {
    /// Trust domain and lists.
    pub common: Common<'a>,
    /// Machine or person.
    pub role: Role,
    /// The name.
    pub name: Name,
    /// The key.
    pub key: SubjectKey,
    /// By policy; the profile's default when absent.
    pub lifetime: Option<Duration>,
    /// How far the subject is proven.
    pub assurance: AssuranceLevel,
    /// Who admitted it.
    pub admitted_by: AdmittedBy,
}

/// Lifetime when no rule says: machines a day, people half a day.
const fn default_lifetime(role: Role) -> Duration {
    match role {
        Role::Machine => Duration::from_secs(24 * 3600),
        Role::Person => Duration::from_secs(12 * 3600),
        Role::Gateway => Duration::from_secs(30 * 24 * 3600),
    }
}

/// Drafts and lints.
///
/// # Errors
/// [`Fault::Issue`] when our own profile would make a certificate that breaks a rule.
pub fn draft(wanted: Wanted<'_>, serial: Serial, now: UnixTime) -> Result<Linted, Refusal> {
    let lifetime = wanted.lifetime.unwrap_or_else(|| default_lifetime(wanted.role));
    let lifetime = wanted.common.within(wanted.role, lifetime, now)?;
    let request = LeafRequest {
        key: wanted.key,
        identity: Identity { domain: wanted.common.domain.clone(), role: wanted.role, name: wanted.name },
        serial,
        lifetime,
        assurance: wanted.assurance,
        admitted_by: wanted.admitted_by.into(),
        gateway_names: vec![],
    };
    let draft = pki::draft(request, now);
    let draft = match wanted.common.lists {
        Some(lists) => draft.with_list(lists),
        None => draft,
    };
    draft.lint().map_err(|error| Fault::Issue(error.to_string()).into())
}

/// The two kinds of certificates of a lineage, each with a budget of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With which its holder comes to us.
    Own,
    /// For a machine's sealed services.
    Sealed,
}

/// Takes one certificate from a budget of so many in a life: as many at once after a rest, then one for each part of a life.
/// `paid_until` is when the budget is full again.
///
/// # Errors
/// [`Refusal::CertificateLimit`], with when there is one again.
pub(super) fn spend(paid_until: UnixSecs, life: Duration, per_life: u32, now: UnixTime) -> Result<UnixSecs, Refusal> {
    let (life, now) = (life.as_secs(), now.secs());
    let each = life / u64::from(per_life.max(1));
    let full = now.saturating_add(life);
    // What was spent by a clock that was ahead, or in a longer life, must not shut anybody out: there is one, at least.
    let before = if paid_until.0 > full { full.saturating_sub(each) } else { paid_until.0.max(now) };
    let paid = before.saturating_add(each);
    let over = paid.saturating_sub(full);
    if over > 0 {
        return Err(Refusal::CertificateLimit { retry_after: Duration::from_secs(over) });
    }
    Ok(UnixSecs(paid))
}

/// The record of a draft's certificate, reserved, and the reference a lineage keeps. It is taken from the lineage's budget.
///
/// # Errors
/// [`Refusal::CertificateLimit`].
pub fn reserved(
    common: Common<'_>,
    linted: &Linted,
    kind: Kind,
    lineage: &mut Lineage,
    key: &SubjectKey,
    now: UnixTime,
) -> Result<(Certificate, CertRef), Refusal> {
    let life = linted.not_after().since(now);
    let paid_until = match kind {
        Kind::Own => &mut lineage.paid_until,
        Kind::Sealed => &mut lineage.sealed_paid_until,
    };
    *paid_until = spend(*paid_until, life, common.per_life, now)?;
    let reference = CertRef { serial: linted.serial(), key: key.digest(), not_after: linted.not_after().into() };
    let certificate = Certificate {
        serial: linted.serial(),
        lineage: lineage.id.clone(),
        role: lineage.role,
        name: linted.identity().name.to_string(),
        key: key.digest(),
        not_before: linted.not_before().into(),
        not_after: linted.not_after().into(),
        state: CertState::Reserved,
        der: Vec::new(),
    };
    Ok((certificate, reference))
}

/// Writes a certificate's record, and files it by its end: the only place where either is written. A serial that is
/// reserved must be new.
pub fn file(changes: &mut Changes, certificate: &Certificate) {
    let key = keys::certificate(&certificate.serial);
    match certificate.state {
        CertState::Reserved => changes.create(key, certificate),
        CertState::Issued => changes.put(key, certificate),
    }
    let end = CertificateEnd::from(certificate);
    changes.put(keys::certificate_end(&end), &end);
}

/// Proof that a certificate may be made for a lineage. Only [`stands`] makes one; whoever reserves a certificate, or signs
/// one for SSH, needs it.
#[derive(Debug)]
#[must_use = "a proof that is not used was looked up for nothing"]
pub struct Stands {
    expect: Vec<Expect>,
}

/// Looks whether a certificate may be made for a lineage: it is not ended and not forked, the subject that has the name holds
/// this lineage, and no lock stands on name, lineage or any of these keys. Every way to a certificate asks this and
/// nothing else.
///
/// # Errors
/// [`Refusal::Retired`], [`Refusal::Forked`], [`Refusal::Locked`]; [`Fault::Record`] when not every lock was looked up.
pub fn stands(
    lineage: &Seen<Lineage>,
    subject: Option<&Subject>,
    keys: &[KeyDigest],
    locks: &Locks,
) -> Result<Stands, Refusal> {
    let record = &lineage.record;
    let holds = subject.is_some_and(|subject| {
        subject.lineage == record.id && subject.name == record.name && subject.role == record.role
    });
    if record.ended || !holds {
        return Err(Refusal::Retired { why: REMOVED });
    }
    if record.forked {
        return Err(Refusal::Forked { what: format!("{} `{}`", record.role, record.name) });
    }
    // Nobody can have locked a lineage that is not written yet.
    let written = lineage.version != 0;
    let mut targets = vec![(lock_kind(record.role), record.name.clone())];
    targets.extend(written.then(|| (LockKind::Lineage, record.id.clone())));
    targets.extend(keys.iter().map(|key| (LockKind::Key, key.hex())));
    locks.cover(&targets)?;
    locks.refuse()?;
    // A lock, a fork or a removal at the same moment is a conflict.
    let mut expect: Vec<Expect> =
        targets.iter().map(|(kind, target)| Expect::Absent(keys::lock(*kind, target))).collect();
    if written {
        expect.push(Expect::At(keys::lineage(&record.id), lineage.version));
    }
    Ok(Stands { expect })
}

/// Makes `changes` hold only while what was proven holds.
pub fn stand_on(changes: &mut Changes, stands: Stands) {
    for expect in stands.expect {
        if !changes.expect.contains(&expect) {
            changes.expect.push(expect);
        }
    }
}

/// Adds the reservation of a certificate to `changes`.
pub fn reserve(
    changes: &mut Changes,
    stands: Stands,
    certificate: &Certificate,
    identity: &Identity,
    rules: &[String],
) {
    stand_on(changes, stands);
    file(changes, certificate);
    changes.event(Event::CertificateReserved {
        serial: certificate.serial.hex(),
        identity: identity.to_string(),
        lineage: certificate.lineage.clone(),
        rules: rules.to_vec(),
    });
}

/// What recording the signed certificate changes.
pub fn record(
    mut certificate: Certificate,
    der: Vec<u8>,
    enrollment: Option<Enrollment>,
    identity: &Identity,
) -> (Changes, Certificate) {
    certificate.state = CertState::Issued;
    certificate.der = der;
    let mut changes = Changes::new();
    file(&mut changes, &certificate);
    if let Some(mut enrollment) = enrollment {
        enrollment.state = super::records::EnrollmentState::Issued;
        changes.put(keys::enrollment(&enrollment.id), &enrollment);
    }
    changes.event(Event::CertificateIssued {
        serial: certificate.serial.hex(),
        identity: identity.to_string(),
        lineage: certificate.lineage.clone(),
        key: certificate.key.hex(),
        not_after: certificate.not_after.0,
    });
    (changes, certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// How many certificates are had, asking once at each of these times.
    #[track_caller]
    fn check(what: &str, per_life: u32, times: impl IntoIterator<Item = u64>, want: usize) {
        let mut paid = UnixSecs(0);
        let mut had = 0;
        for now in times {
            if let Ok(next) = spend(paid, DAY, per_life, UnixTime::new(now)) {
                (paid, had) = (next, had + 1);
            }
        }
        assert_eq!(had, want, "{what}");
    }

    #[test]
    fn a_few_in_a_life() {
        let start = 1_800_000_000;
        let day = DAY.as_secs();
        check("at once", 16, std::iter::repeat_n(start, 1000), 16);
        check("as fast as can be for a day", 16, start..start + day, 31);
        check("at two thirds of each life, for months", 16, (0..100).map(|at| start + at * day * 2 / 3), 100);
        check("one at most", 1, [start, start + 1, start + day], 2);
        // The clock was 500 days ahead and is back.
        let ahead = std::iter::repeat_n(start + 500 * day, 16);
        check("a clock set back", 16, ahead.clone().chain([start, start]), 17);
        check("and a little later", 16, ahead.chain([start, start + day / 16]), 18);
        check("no bound", 1_000_000, std::iter::repeat_n(start, 1000), 1000);
    }

    #[test]
    fn what_is_over_says_when() {
        let full = UnixSecs(1_000 + DAY.as_secs());
        let refused = spend(full, DAY, 16, UnixTime::new(1_000));
        assert_eq!(refused, Err(Refusal::CertificateLimit { retry_after: DAY / 16 }));
    }
}
