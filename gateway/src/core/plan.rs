//! The plan of a certificate: the linted draft, and the changes of the same commit.

use std::time::Duration;

use pki::{
    Assurance, Identity, IssueError, IssuingCa, KeyDigest, LeafRequest, LintError, Linted, ListsUrl, Name, Role,
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

/// A certificate that may be signed: the linted draft, and the changes to commit with it. Only [`Charged::plan`] and [`own_leaf`] make
/// one; its only use is [`Plan::sign`].
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
    /// Role of the leaf.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.linted.identity().role
    }

    /// Key digest of the CA that must sign it; the records in the plan name it already.
    #[must_use]
    pub const fn issuer(&self) -> KeyDigest {
        self.issuer
    }

    /// Signs. Returns the changes to commit in one batch before the certificate is released, its record, and the id for the client.
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

/// Lifetime and rules of a certificate. Made from a grant of the policy, now or at the approval.
#[derive(Debug)]
#[must_use = "terms are for one draft"]
pub struct Terms {
    lifetime: Option<Duration>,
    rules: Vec<String>,
}

impl Terms {
    /// Uses up a grant to enroll or to renew.
    ///
    /// # Errors
    /// [`Fault::Issue`] for a bug: the grant is for another action.
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

    /// The terms recorded with the approval of an enrollment.
    ///
    /// # Errors
    /// [`Fault::Record`] for a bug: the enrollment is not approved.
    pub fn approved(enrollment: &Enrollment) -> Result<Self, Fault> {
        if enrollment.state != EnrollmentState::Approved {
            return Err(Fault::Record(format!("enrollment {} is not approved", enrollment.id)));
        }
        let lifetime = enrollment.lifetime.map(Duration::from_secs);
        Ok(Self { lifetime, rules: enrollment.rules.clone() })
    }

    /// For a certificate that ends with the caller's own.
    pub fn of_own_certificate(caller: &Caller, now: UnixTime) -> Self {
        Self { lifetime: Some(caller.not_after.since(now)), rules: Vec::new() }
    }
}

/// Settings for all certificates of machines and people.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// In the SPIFFE ID.
    pub domain: &'a TrustDomain,
    /// URL of the CRLs for the extension `cRLDistributionPoints` (RFC 5280 4.2.1.13), if configured.
    pub lists: Option<&'a ListsUrl>,
    /// Most certificates of each kind for a lineage within one lifetime of a certificate.
    pub per_life: u32,
    /// The active issuing CAs.
    pub signing: &'a SigningCas,
}

impl Common<'_> {
    /// A lifetime, limited to the rest of the CA's validity: a certificate that outlives its CA becomes invalid before its own end,
    /// when its holder does not expect it.
    ///
    /// # Errors
    /// [`Fault::CaEnded`] if the CA has expired.
    pub fn within(&self, role: Role, lifetime: Duration, now: UnixTime) -> Result<Duration, Fault> {
        let end = self.signing.ends.of(role);
        if end <= now { Err(Fault::CaEnded { role: role.as_str(), end }) } else { Ok(lifetime.min(end.since(now))) }
    }
}

/// Contents of a certificate; the rest comes from the profile.
pub struct LeafSpec<'a> {
    /// Trust domain, CRL URL and issuing CAs.
    pub common: Common<'a>,
    /// Machine or person.
    pub role: Role,
    /// Last part of the SPIFFE ID.
    pub name: Name,
    /// Its possession must be proven.
    pub key: SubjectKey,
    /// As a certificate policy OID.
    pub assurance: Assurance,
    /// As a certificate policy OID.
    pub admitted_by: AdmittedBy,
}

/// Lifetime if no rule sets one: machines a day, people half a day.
const fn default_lifetime(role: Role) -> Duration {
    match role {
        Role::Machine => Duration::from_secs(24 * 3600),
        Role::Person => Duration::from_secs(12 * 3600),
        Role::Gateway => Duration::from_secs(30 * 24 * 3600),
    }
}

/// Makes a draft and lints it.
///
/// # Errors
/// [`Fault::Issue`] for a bug: the profile breaks a lint. [`Fault::CaEnded`] if the CA has expired.
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

/// The plan of the gateway's own certificate. No policy is asked, since the process that starts the gateway has its keys.
///
/// # Errors
/// [`LintError`] if the certificate breaks a rule of the profile.
pub fn own_leaf(request: LeafRequest, issuer: KeyDigest, at: UnixTime) -> Result<Plan, LintError> {
    let Identity { role, name, .. } = &request.identity;
    let (lineage, id) = (format!("{role}-{name}"), name.to_string());
    let linted = pki::draft(request, at).lint()?;
    Ok(Plan { linted, issuer, changes: Changes::new(), lineage, rules: Vec::new(), id })
}

/// The two kinds of certificates of a lineage, each with a budget of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LeafKind {
    /// The holder's certificate for the gateway.
    Own,
    /// For a machine's sealed services.
    Sealed,
}

/// Takes one certificate from a budget of `per_life` certificates in each `life`: a token bucket of that size that refills evenly.
/// `paid_until` is the time when it is full again; returns the new value.
///
/// # Errors
/// [`Refusal::CertificateLimit`] with the time until the next one.
pub(super) fn spend(paid_until: UnixSecs, life: Duration, per_life: u32, now: UnixTime) -> Result<UnixSecs, Refusal> {
    let (life, now) = (life.as_secs(), now.secs());
    let each = life / u64::from(per_life.max(1));
    let full = now.saturating_add(life);
    // `paid_until` from a clock that was ahead, or from a longer lifetime, must not block the holder: then one certificate is left
    let before = if paid_until.0 > full { full.saturating_sub(each) } else { paid_until.0.max(now) };
    let paid = before.saturating_add(each);
    let over = paid.saturating_sub(full);
    if over > 0 {
        return Err(Refusal::CertificateLimit { retry_after: Duration::from_secs(over) });
    }
    Ok(UnixSecs(paid))
}

/// A linted draft that is not charged to a budget yet.
#[derive(Debug)]
#[must_use = "a draft that is not charged makes no plan"]
pub struct Draft {
    linted: Linted,
    key: KeyDigest,
    issuer: KeyDigest,
    assurance: Assurance,
    kind: LeafKind,
    rules: Vec<String>,
}

impl Draft {
    /// Charges it to the lineage's budget. Also returns the reference for the lineage's record.
    ///
    /// # Errors
    /// [`Refusal::CertificateLimit`]; [`Fault::Record`] for a bug: the lineage is not of the subject in the draft.
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

/// A draft that is charged to its lineage's budget.
#[derive(Debug)]
#[must_use = "a draft that is charged is to become a plan"]
pub struct Charged {
    draft: Draft,
    lineage: String,
}

impl Charged {
    /// Adds the changes of the same commit. `id` is the certificate's id for the client.
    pub fn plan(self, mut changes: Changes, stands: Stands, id: String) -> Plan {
        stand_on(&mut changes, stands);
        let Self { draft: Draft { linted, issuer, rules, .. }, lineage } = self;
        Plan { linted, issuer, changes, lineage, rules, id }
    }
}

/// Proof that a certificate may be issued for a lineage. Only [`stands`] makes one; it is needed to plan an X.509 or an SSH
/// certificate.
#[derive(Debug)]
#[must_use = "a proof is for one certificate"]
pub struct Stands {
    expect: Vec<Expectation>,
}

/// Checks that a certificate may be issued for a lineage: it is neither ended nor forked, the subject with its name has this lineage,
/// and there is no lock on name, lineage, any of these keys, or anything else that `locks` were looked up for. Every certificate of a
/// machine or person passes this check.
///
/// # Errors
/// [`Refusal::Retired`], [`Refusal::Forked`], [`Refusal::Locked`]; [`Fault::Record`] for a bug: not every lock was looked up.
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
    // a lineage that is not written yet cannot be locked
    let written = lineage.version != 0;
    let mut targets = vec![(lock_kind(record.role), record.name.clone())];
    targets.extend(written.then(|| (LockKind::Lineage, record.id.clone())));
    targets.extend(keys.iter().map(|key| (LockKind::Key, key.hex())));
    locks.cover(&targets)?;
    locks.refuse()?;
    // a concurrent fork or removal, or a lock on anything that was looked up, makes the commit a conflict
    let mut expect: Vec<Expectation> = locks.conditions().collect();
    if written {
        expect.push(Expectation::At(keys::lineage(&record.id), lineage.version));
    }
    Ok(Stands { expect })
}

/// Adds the proof's conditions to `changes`.
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

    /// Counts the certificates granted, with one request at each of these times.
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
        // the clock was 500 days ahead and was set right
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
