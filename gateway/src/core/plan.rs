//! A certificate about to be made: the linted draft, and what becomes durable in the same commit.

use std::time::Duration;

use pki::{
    AssuranceLevel, Identity, IssueError, IssuingCa, KeyDigest, LeafRequest, LintError, Linted, ListsUrl, Name, Role,
    Serial, SubjectKey, TrustDomain, UnixTime,
};
use policy::{Action, Grant};

use super::{
    admission::{Caller, lock_kind},
    audit::Event,
    ca_end::SigningCas,
    change::{Changes, Expectation},
    keys,
    lock::Locks,
    records::{
        AdmittedBy, CertRef, Certificate, CertificateEnd, Enrollment, EnrollmentState, Lineage, LockKind, Seen,
        Subject, UnixSecs,
    },
    refusal::{Fault, REMOVED, Refusal},
};

/// A certificate that may be made: the linted draft, and what is to be durable with it. Only [`Charged::plan`] and
/// [`own_leaf`] make one, and only an issuing CA makes anything of it.
#[derive(Debug)]
#[must_use = "a plan that is not signed and committed issues nothing"]
pub struct Plan {
    linted: Linted,
    issuer: KeyDigest,
    changes: Changes,
    lineage: String,
    rules: Vec<String>,
    id: String,
}

impl Plan {
    /// Whose certificate it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.linted.identity().role
    }

    /// The key of the CA that is to sign it, which its records name already.
    #[must_use]
    pub const fn issuer(&self) -> KeyDigest {
        self.issuer
    }

    /// Signs. Gives what is to be committed, in one batch, before anybody sees the certificate; its record; and the id given
    /// to the client.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn sign(self, ca: &IssuingCa) -> Result<(Changes, Certificate, String), IssueError> {
        let Self { linted, mut changes, lineage, rules, id, .. } = self;
        let issued = linted.issue(ca)?;
        let certificate = Certificate {
            serial: issued.serial,
            lineage,
            role: issued.identity.role,
            issuer: ca.key_digest(),
            name: issued.identity.name.to_string(),
            key: issued.key,
            not_before: issued.not_before.into(),
            not_after: issued.not_after.into(),
            der: issued.der,
        };
        changes.create(keys::certificate(&certificate.serial), &certificate);
        let end = CertificateEnd::from(&certificate);
        changes.put(keys::certificate_end(&end), &end);
        changes.event(Event::CertificateIssued {
            serial: certificate.serial.hex(),
            identity: issued.identity.to_string(),
            lineage: certificate.lineage.clone(),
            key: certificate.key.hex(),
            not_after: certificate.not_after.0,
            rules,
        });
        Ok((changes, certificate, id))
    }
}

/// On what terms a certificate is made. A decision of the policy is spent for it, now or when somebody approved.
#[derive(Debug)]
#[must_use = "terms that no draft is made on were granted for nothing"]
pub struct Terms {
    lifetime: Option<Duration>,
    rules: Vec<String>,
}

impl Terms {
    /// Spends a grant to enroll or to renew.
    ///
    /// # Errors
    /// [`Fault::Issue`] when it allows anything else.
    pub fn granted(grant: Grant) -> Result<Self, Fault> {
        match grant.action() {
            Action::Enroll | Action::Renew => {
                let (lifetime, rules) = grant.spend();
                Ok(Self { lifetime, rules })
            }
            Action::Request
            | Action::Approve
            | Action::Login
            | Action::Connect
            | Action::Reach
            | Action::Lock
            | Action::Read
            | Action::Report
            | Action::Administer => Err(Fault::Issue(format!("a grant to {} makes no certificate", grant.action()))),
        }
    }

    /// Those on which an enrollment was approved, as they were recorded with the approval.
    ///
    /// # Errors
    /// [`Fault::Record`] when it is not approved, or not any more.
    pub fn approved(enrollment: &Enrollment) -> Result<Self, Fault> {
        if enrollment.state != EnrollmentState::Approved {
            return Err(Fault::Record(format!("enrollment {} is not approved", enrollment.id)));
        }
        let lifetime = enrollment.lifetime.map(Duration::from_secs);
        Ok(Self { lifetime, rules: enrollment.rules.clone() })
    }

    /// Those of the certificate by which an admitted caller asks for another that ends with it.
    pub fn of_own_certificate(caller: &Caller, now: UnixTime) -> Self {
        Self { lifetime: Some(caller.not_after.since(now)), rules: Vec::new() }
    }
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
    /// The CAs that sign them.
    pub signing: &'a SigningCas,
}

impl Common<'_> {
    /// A lifetime, cut to what the CA of the role has left: a certificate that outlives its CA fails at a moment nobody
    /// planned.
    ///
    /// # Errors
    /// [`Fault::CaEnded`].
    pub fn within(&self, role: Role, lifetime: Duration, now: UnixTime) -> Result<Duration, Fault> {
        let end = self.signing.ends.of(role);
        if end <= now { Err(Fault::CaEnded { role: role.as_str(), end }) } else { Ok(lifetime.min(end.since(now))) }
    }
}

/// What a certificate is to say; the rest comes from the profile.
pub struct LeafSpec<'a> {
    /// Trust domain and lists.
    pub common: Common<'a>,
    /// Machine or person.
    pub role: Role,
    /// The name.
    pub name: Name,
    /// The key.
    pub key: SubjectKey,
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

/// Spends the terms on a draft, and lints it.
///
/// # Errors
/// [`Fault::Issue`] when our own profile would make a certificate that breaks a rule.
pub fn draft(
    terms: Terms,
    wanted: LeafSpec<'_>,
    kind: LeafKind,
    serial: Serial,
    now: UnixTime,
) -> Result<Draft, Refusal> {
    let lifetime = terms.lifetime.unwrap_or_else(|| default_lifetime(wanted.role));
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
    let (key, issuer) = (request.key.digest(), wanted.common.signing.issuer(wanted.role));
    let assurance = request.assurance;
    let draft = pki::draft(request, now);
    let draft = match kind {
        LeafKind::Own => draft,
        LeafKind::Sealed => draft.for_sealed_services(),
    };
    let draft = match wanted.common.lists {
        Some(lists) => draft.with_list(lists, &issuer),
        None => draft,
    };
    let linted = draft.lint().map_err(|error| Fault::Issue(error.to_string()))?;
    Ok(Draft { linted, key, issuer, assurance, kind, rules: terms.rules })
}

/// The plan for a certificate of the gateway's own, by no policy: whoever starts the gateway has its keys.
///
/// # Errors
/// [`LintError`] when it would break a rule.
pub fn own_leaf(request: LeafRequest, issuer: KeyDigest, at: UnixTime) -> Result<Plan, LintError> {
    let (lineage, id) = (request.identity.role.to_string(), request.identity.name.to_string());
    let linted = pki::draft(request, at).lint()?;
    Ok(Plan { linted, issuer, changes: Changes::new(), lineage, rules: Vec::new(), id })
}

/// The two kinds of certificates of a lineage, each with a budget of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LeafKind {
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

/// A linted draft that no budget was charged for.
#[derive(Debug)]
#[must_use = "a draft that is not charged makes no plan"]
pub struct Draft {
    linted: Linted,
    key: KeyDigest,
    issuer: KeyDigest,
    assurance: AssuranceLevel,
    kind: LeafKind,
    rules: Vec<String>,
}

impl Draft {
    /// Takes it from the lineage's budget. Gives the reference that the lineage is to keep as well.
    ///
    /// # Errors
    /// [`Refusal::CertificateLimit`]; [`Fault::Record`] when the lineage is not of the subject named in the draft.
    pub fn charge(
        self,
        common: Common<'_>,
        lineage: &mut Lineage,
        now: UnixTime,
    ) -> Result<(Charged, CertRef), Refusal> {
        let linted = &self.linted;
        if lineage.role != linted.identity().role {
            return Err(Fault::Record(format!("lineage {} is not of {}", lineage.id, linted.identity())).into());
        }
        let life = linted.not_after().since(now);
        let paid_until = match self.kind {
            LeafKind::Own => &mut lineage.paid_until,
            LeafKind::Sealed => &mut lineage.sealed_paid_until,
        };
        *paid_until = spend(*paid_until, life, common.per_life, now)?;
        let reference = CertRef {
            serial: linted.serial(),
            key: self.key,
            issuer: self.issuer,
            generation: common.signing.generation,
            not_after: linted.not_after().into(),
            assurance: self.assurance,
        };
        Ok((Charged { draft: self, lineage: lineage.id.clone() }, reference))
    }
}

/// A draft that its lineage's budget was charged for.
#[derive(Debug)]
#[must_use = "a draft that is charged is to become a plan"]
pub struct Charged {
    draft: Draft,
    lineage: String,
}

impl Charged {
    /// The plan: the draft, with everything that is to be durable in the same commit. `id` is what the client is given.
    pub fn plan(self, mut changes: Changes, stands: Stands, id: String) -> Plan {
        stand_on(&mut changes, stands);
        let Self { draft: Draft { linted, issuer, rules, .. }, lineage } = self;
        Plan { linted, issuer, changes, lineage, rules, id }
    }
}

/// Proof that a certificate may be made for a lineage. Only [`stands`] makes one; whoever plans a certificate, or signs
/// one for SSH, needs it.
#[derive(Debug)]
#[must_use = "a proof that is not used was looked up for nothing"]
pub struct Stands {
    expect: Vec<Expectation>,
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
    let mut expect: Vec<Expectation> =
        targets.iter().map(|(kind, target)| Expectation::Absent(keys::lock(*kind, target))).collect();
    if written {
        expect.push(Expectation::At(keys::lineage(&record.id), lineage.version));
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
