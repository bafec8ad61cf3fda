//! All audit events. An event is committed in the same batch as the change that it records.

use std::collections::BTreeMap;

mod access;
mod standing;
mod upkeep;

use serde::{Deserialize, Serialize};

pub use self::{
    access::AccessEvent,
    standing::StandingEvent,
    upkeep::{Offline, SignedWhere, Upkeep},
};

use super::records::{ApprovedContent, Run};

/// The names of all events, sorted, for filters.
pub const NAMES: &[&str] = &[
    "ca.key",
    "ca.renewed",
    "ca.root-list",
    "ca.slot",
    "certificate.activated",
    "certificate.issued",
    "certificate.sealed",
    "certificate.stale",
    "clock.believed",
    "clock.doubted",
    "device.counted-back",
    "device.returned",
    "enrollment.admitted",
    "enrollment.approval",
    "enrollment.approved",
    "enrollment.denied",
    "enrollment.ended",
    "enrollment.expired",
    "enrollment.reopened",
    "enrollment.waiting",
    "enrollment.withdrawn",
    "enrollment.wrong-code",
    "evidence.differs",
    "evidence.lapsed",
    "evidence.taken",
    "gateway.initialised",
    "lineage.forked",
    "lock.enforced",
    "lock.lifted",
    "lock.set",
    "machine.converged",
    "policy.loaded",
    "record.quarantined",
    "renewal.asked",
    "session.closed",
    "session.killed",
    "session.opened",
    "ssh.issued",
    "store.imported",
    "store.rollback-accepted",
    "subject.left",
    "subject.removed",
    "subject.renamed",
    "subject.set",
    "token.created",
    "token.redeemed",
    "token.revoked",
    "tunnel.twice",
];

/// Suggestions for an unknown event name: the events of its kind, which is the word before the dot, or else all kinds. Both lists are
/// short enough for an error's text.
#[must_use]
pub fn like(event: &str) -> Vec<&'static str> {
    let kind = |name: &'static str| name.split('.').next().unwrap_or(name);
    let wanted = event.split('.').next();
    let same: Vec<&str> = NAMES.iter().copied().filter(|name| Some(kind(name)) == wanted).collect();
    if !same.is_empty() {
        return same;
    }
    let mut kinds: Vec<&str> = NAMES.iter().copied().map(kind).collect();
    kinds.dedup();
    kinds
}

/// Whether a filter can match: it is the name of an event, or the kind before the dot.
#[must_use]
pub fn is_known(filter: &str) -> bool {
    NAMES.iter().any(|name| *name == filter || name.split('.').next() == Some(filter))
}

/// What happened. The names given by [`Event::name`] are stable.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An enrollment waits for approval.
    EnrollmentWaiting {
        enrollment: String,
        wanted_name: Option<String>,
        source: String,
        stated: BTreeMap<String, String>,
        asked: Asker,
        rules: Vec<String>,
    },
    /// The policy admitted an enrollment without approval.
    EnrollmentAdmitted {
        enrollment: String,
        name: String,
        evidence: String,
        stated: BTreeMap<String, String>,
        asked: Asker,
        rules: Vec<String>,
    },
    /// One person approved; more approvals are needed.
    EnrollmentApproval {
        enrollment: String,
        content: ApprovedContent,
        missing: u32,
        fallen: Vec<String>,
        rules: Vec<String>,
    },
    /// The last approval was given.
    EnrollmentApproved { enrollment: String, content: ApprovedContent, fallen: Vec<String>, rules: Vec<String> },
    /// An approver typed a wrong code.
    ApprovalWrongCode { enrollment: String },
    /// A person denied an enrollment.
    EnrollmentDenied { enrollment: String, wanted_name: Option<String>, reason: String, rules: Vec<String> },
    /// A request lapsed undecided, or the client did not fetch its certificate after approval.
    EnrollmentExpired { enrollment: String, state: &'static str },
    /// A token was redeemed for a key.
    TokenRedeemed { token: String, key: String },
    /// A token was created.
    TokenCreated { token: String, role: &'static str, uses: u32, rules: Vec<String> },
    /// A token was revoked.
    TokenRevoked { token: String, rules: Vec<String> },
    /// A machine got a certificate for its sealed services; recorded together with `certificate.issued`.
    CertificateSealed { serial: String, identity: String, lineage: String },
    /// A certificate was issued; the rules are those of the enrollment or the renewal.
    CertificateIssued {
        serial: String,
        identity: String,
        lineage: String,
        key: String,
        not_after: u64,
        rules: Vec<String>,
    },
    /// An SSH certificate was issued to the holder of an X.509 certificate.
    SshIssued {
        identity: String,
        kind: &'static str,
        serial: u64,
        key_id: String,
        principals: String,
        key: String,
        certificate: String,
        not_after: u64,
        rules: Vec<String>,
    },
    /// The first use of a new certificate retired its predecessor.
    CertificateActivated { serial: String, identity: String, retired: Option<String> },
    /// Changes to requests, names and evidence.
    Standing(StandingEvent),
    /// A retired certificate was used: two holders of one lineage, which is now locked.
    LineageForked { lineage: String, identity: String, used: String, current: String, why: &'static str },
    /// A lock was set.
    LockSet { kind: &'static str, target: String, reason: String, rules: Vec<String> },
    /// A lock was lifted.
    LockLifted { kind: &'static str, target: String, rules: Vec<String> },
    /// A person removed a machine or person.
    SubjectRemoved { identity: String, rules: Vec<String> },
    /// A machine or person left on its own request.
    SubjectLeft { identity: String },
    /// Labels, owner or groups of a subject were changed.
    SubjectSet { identity: String, changed: Vec<(&'static str, String)>, rules: Vec<String> },
    /// One or all machines were asked to renew now.
    RenewalAsked { whom: String, reason: String, rules: Vec<String> },
    /// Connections to services.
    Access(AccessEvent),
    /// A run of a configuration tool on a machine was reported.
    MachineConverged { identity: String, run: Run, rules: Vec<String> },
    /// Another policy was loaded.
    PolicyLoaded { digest: String },
    /// The gateway itself and its store.
    Upkeep(Upkeep),
    /// `init` created the gateway's store.
    GatewayInitialised { trust_domain: String },
}

impl Event {
    /// The stable name, for filters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EnrollmentWaiting { .. } => "enrollment.waiting",
            Self::EnrollmentAdmitted { .. } => "enrollment.admitted",
            Self::EnrollmentApproval { .. } => "enrollment.approval",
            Self::EnrollmentApproved { .. } => "enrollment.approved",
            Self::ApprovalWrongCode { .. } => "enrollment.wrong-code",
            Self::EnrollmentDenied { .. } => "enrollment.denied",
            Self::EnrollmentExpired { .. } => "enrollment.expired",
            Self::TokenRedeemed { .. } => "token.redeemed",
            Self::TokenCreated { .. } => "token.created",
            Self::TokenRevoked { .. } => "token.revoked",
            Self::CertificateSealed { .. } => "certificate.sealed",
            Self::CertificateIssued { .. } => "certificate.issued",
            Self::SshIssued { .. } => "ssh.issued",
            Self::CertificateActivated { .. } => "certificate.activated",
            Self::Standing(standing) => standing.name(),
            Self::LineageForked { .. } => "lineage.forked",
            Self::LockSet { .. } => "lock.set",
            Self::LockLifted { .. } => "lock.lifted",
            Self::SubjectRemoved { .. } => "subject.removed",
            Self::SubjectLeft { .. } => "subject.left",
            Self::SubjectSet { .. } => "subject.set",
            Self::RenewalAsked { .. } => "renewal.asked",
            Self::Access(access) => access.name(),
            Self::MachineConverged { .. } => "machine.converged",
            Self::PolicyLoaded { .. } => "policy.loaded",
            Self::Upkeep(upkeep) => upkeep.name(),
            Self::GatewayInitialised { .. } => "gateway.initialised",
        }
    }

    /// The record in the store. `instance` is the correlation id.
    #[must_use]
    pub fn record(self, actor: &str, at_ms: u64, instance: &str) -> AuditRecord {
        let event = self.name().to_owned();
        let (subject, rules, detail) = self.parts();
        AuditRecord {
            at_ms,
            event,
            actor: actor.to_owned(),
            subject,
            rules,
            instance: instance.to_owned(),
            detail: detail.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }

    fn parts(self) -> (String, Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::EnrollmentWaiting { enrollment: id, wanted_name, source, stated, asked, rules } => {
                (id, rules, asked.after(waiting_fields(source, wanted_name), &stated))
            }
            Self::EnrollmentAdmitted { enrollment, name, evidence, stated, asked, rules } => {
                (enrollment, rules, asked.after(vec![("name", name), ("evidence", evidence)], &stated))
            }
            Self::EnrollmentApproval { enrollment: id, content: of, missing, fallen, rules } => {
                (id, rules, approval_fields(of, &fallen, missing))
            }
            Self::EnrollmentApproved { enrollment: id, content, fallen, rules } => {
                (id, rules, approval_fields(content, &fallen, 0))
            }
            Self::EnrollmentDenied { enrollment, wanted_name, reason, rules } => {
                let wanted = wanted_name.map(|name| ("wanted_name", name));
                (enrollment, rules, [("reason", reason)].into_iter().chain(wanted).collect())
            }
            Self::EnrollmentExpired { enrollment, state } => (enrollment, vec![], vec![("state", state.to_owned())]),
            Self::TokenRedeemed { token, key } => (token, vec![], vec![("key", key)]),
            Self::TokenCreated { token, role, uses, rules } => {
                (token, rules, vec![("role", role.to_owned()), ("uses", uses.to_string())])
            }
            Self::CertificateSealed { serial, identity, lineage } => {
                (identity, vec![], vec![("serial", serial), ("lineage", lineage)])
            }
            Self::CertificateIssued { serial, identity, lineage, key, not_after, rules } => (
                identity,
                rules,
                vec![("serial", serial), ("lineage", lineage), ("key", key), ("not_after", not_after.to_string())],
            ),
            Self::SshIssued { identity, kind, serial, key_id, principals, key, certificate, not_after, rules } => {
                let text = [("key_id", key_id), ("principals", principals), ("key", key), ("certificate", certificate)];
                let (kind, serial) = (("kind", kind.to_owned()), ("serial", serial.to_string()));
                let end = ("not_after", not_after.to_string());
                (identity, rules, [kind, serial].into_iter().chain(text).chain([end]).collect())
            }
            Self::CertificateActivated { serial, identity, retired } => {
                let retired = retired.map(|serial| ("retired", serial));
                (identity, vec![], [("serial", serial)].into_iter().chain(retired).collect())
            }
            Self::Standing(standing) => standing.parts(),
            Self::LineageForked { lineage, identity, used, current, why } => {
                let why = why.to_owned();
                (identity, vec![], vec![("lineage", lineage), ("used", used), ("current", current), ("why", why)])
            }
            Self::LockSet { kind, target, reason, rules } => {
                (target, rules, vec![("kind", kind.to_owned()), ("reason", reason)])
            }
            Self::LockLifted { kind, target, rules } => (target, rules, vec![("kind", kind.to_owned())]),
            Self::SubjectRemoved { identity: subject, rules } | Self::TokenRevoked { token: subject, rules } => {
                (subject, rules, vec![])
            }
            Self::SubjectSet { identity, changed, rules } => (identity, rules, changed),
            Self::RenewalAsked { whom, reason, rules } => (whom, rules, non_empty_field("reason", reason)),
            Self::Access(access) => access.parts(),
            Self::MachineConverged { identity, run, rules } => (identity, rules, run_fields(run)),
            Self::ApprovalWrongCode { enrollment: to } | Self::SubjectLeft { identity: to } => (to, vec![], vec![]),
            Self::PolicyLoaded { digest: to } | Self::GatewayInitialised { trust_domain: to } => (to, vec![], vec![]),
            Self::Upkeep(upkeep) => upkeep.parts(),
        }
    }
}

/// Who asked for a first certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// How its key was proven.
    pub proof: &'static str,
    /// The certificate that was shown with the request, if one was.
    pub certificate: Option<String>,
}

impl Asker {
    /// It, after other fields of an event, and before what its evidence states.
    fn after(
        self,
        mut fields: Vec<(&'static str, String)>,
        stated: &BTreeMap<String, String>,
    ) -> Vec<(&'static str, String)> {
        fields.push(("proof", self.proof.to_owned()));
        fields.extend(self.certificate.map(|shown| ("certificate", shown)));
        let stated: Vec<String> = stated.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        fields.extend((!stated.is_empty()).then(|| ("stated", stated.join(" "))));
        fields
    }
}

fn waiting_fields(source: String, wanted_name: Option<String>) -> Vec<(&'static str, String)> {
    let wanted = wanted_name.map(|name| ("wanted_name", name));
    [("source", source)].into_iter().chain(wanted).collect()
}

/// `fallen` are the people whose earlier approvals were dropped.
fn approval_fields(content: ApprovedContent, fallen: &[String], missing: u32) -> Vec<(&'static str, String)> {
    let labels: Vec<String> = content.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut detail = vec![("name", content.name), ("code_checked", content.code_checked.to_string())];
    detail.extend(content.owner.map(|owner| ("owner", owner.name)));
    detail.extend(Some(labels.join(" ")).filter(|labels| !labels.is_empty()).map(|labels| ("labels", labels)));
    detail.extend((missing > 0).then(|| ("missing", missing.to_string())));
    detail.extend(Some(fallen.join(" ")).filter(|names| !names.is_empty()).map(|names| ("fallen", names)));
    detail
}

/// A field that is omitted if empty.
fn non_empty_field(name: &'static str, text: String) -> Vec<(&'static str, String)> {
    Some((name, text)).filter(|(_, text)| !text.is_empty()).into_iter().collect()
}

fn run_fields(run: Run) -> Vec<(&'static str, String)> {
    let counts = [
        ("ok", run.ok),
        ("changed", run.changed),
        ("failed", run.failed),
        ("unreachable", run.unreachable),
        ("skipped", run.skipped),
    ];
    let texts = [("version", run.version), ("run_id", run.run_id), ("play", run.play)];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let counts = counts.map(|(name, count)| (name, count.to_string()));
    [("tool", run.tool)].into_iter().chain(texts).chain(counts).collect()
}

/// An event in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// From [`Event::name`].
    pub event: String,
    /// Who did it: an identity, `gateway`, or `key:<digest>` for a client without an identity.
    pub actor: String,
    /// What it was done to, such as an identity, an id or a serial.
    pub subject: String,
    /// Ids of the policy rules that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Correlation id.
    pub instance: String,
    /// The fields of this kind of event.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All names in the `match` expressions, which the compiler checks for completeness.
    #[test]
    fn every_event_can_be_filtered_by() {
        let sources = [
            include_str!("audit.rs"),
            include_str!("audit/access.rs"),
            include_str!("audit/standing.rs"),
            include_str!("audit/upkeep.rs"),
        ];
        let arms =
            sources.iter().flat_map(|source| source.lines()).filter_map(|line| line.trim().strip_prefix("Self::"));
        let named =
            arms.filter_map(|arm| arm.split_once("=> \"")?.1.split('"').next()).filter(|name| name.contains('.'));
        let found: BTreeSet<&str> = named.collect();
        assert_eq!(found, NAMES.iter().copied().collect());
        assert!(NAMES.is_sorted());
        for (filter, known) in [("lock", true), ("lock.set", true), ("lock.", false), ("loc", false), ("", false)] {
            assert_eq!(is_known(filter), known, "{filter}");
        }
    }
}
