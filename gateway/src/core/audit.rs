//! Every event the gateway records, one enum. An event stands in the same batch as the change it tells of.

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

/// The names of all events, for whoever filters by them.
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

/// What may have been meant by a name that is not known: the events of its kind, which is the word before the dot, or else
/// all kinds there are. Either fits into an error's text.
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

/// Whether a filter can fit anything: it is the name of an event, or what stands before the dot of one.
#[must_use]
pub fn is_known(filter: &str) -> bool {
    NAMES.iter().any(|name| *name == filter || name.split('.').next() == Some(filter))
}

/// What happened. The names given by [`Event::name`] are stable.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An enrollment waits for a person.
    EnrollmentWaiting { enrollment: String, wanted_name: Option<String>, source: String, rules: Vec<String> },
    /// Policy admitted an enrollment without a person.
    EnrollmentAdmitted { enrollment: String, name: String, evidence: String, rules: Vec<String> },
    /// One person approved; more are wanted.
    EnrollmentApproval {
        enrollment: String,
        content: ApprovedContent,
        missing: u32,
        fallen: Vec<String>,
        rules: Vec<String>,
    },
    /// The last approval was given.
    EnrollmentApproved { enrollment: String, content: ApprovedContent, fallen: Vec<String>, rules: Vec<String> },
    /// A person typed a wrong code.
    ApprovalWrongCode { enrollment: String },
    /// A person refused.
    EnrollmentDenied { enrollment: String, wanted_name: Option<String>, reason: String, rules: Vec<String> },
    /// Nobody decided in time, or an approved one never came back.
    EnrollmentExpired { enrollment: String, state: &'static str },
    /// A token was redeemed for a key.
    TokenRedeemed { token: String, key: String },
    /// A token was made.
    TokenCreated { token: String, role: &'static str, uses: u32, rules: Vec<String> },
    /// A token was revoked.
    TokenRevoked { token: String, rules: Vec<String> },
    /// A machine asked for a certificate for its sealed services; `certificate.issued` stands beside this.
    CertificateSealed { serial: String, identity: String, lineage: String },
    /// A certificate was made; the rules are those of the enrollment or the renewal.
    CertificateIssued {
        serial: String,
        identity: String,
        lineage: String,
        key: String,
        not_after: u64,
        rules: Vec<String>,
    },
    /// An SSH certificate was made, for a machine or a person, on the strength of a certificate.
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
    /// The first use of a new certificate retired the one before.
    CertificateActivated { serial: String, identity: String, retired: Option<String> },
    /// Something that stood behind a request or a certificate does not any more.
    Standing(StandingEvent),
    /// A retired certificate was used: two holders of one lineage.
    LineageForked { lineage: String, identity: String, used: String, current: String, why: &'static str },
    /// A lock was set.
    LockSet { kind: &'static str, target: String, reason: String, rules: Vec<String> },
    /// A lock was lifted.
    LockLifted { kind: &'static str, target: String, rules: Vec<String> },
    /// A machine or person was removed by somebody else.
    SubjectRemoved { identity: String, rules: Vec<String> },
    /// A machine or person left by itself.
    SubjectLeft { identity: String },
    /// Labels, owner or groups were changed.
    SubjectSet { identity: String, changed: Vec<(&'static str, String)>, rules: Vec<String> },
    /// A machine, or all of them, were asked to renew now.
    RenewalAsked { whom: String, reason: String, rules: Vec<String> },
    /// Something about connections to services.
    Access(AccessEvent),
    /// Somebody reported a run of a configuration tool on a machine.
    MachineConverged { identity: String, run: Run, rules: Vec<String> },
    /// The policy in force changed.
    PolicyLoaded { digest: String },
    /// Something about the gateway itself and what it keeps.
    Upkeep(Upkeep),
    /// The gateway was initialised.
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

    /// The event as it is stored: who did it, when, and under which correlation id.
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
            Self::EnrollmentWaiting { enrollment: id, wanted_name, source, rules } => {
                (id, rules, waits(source, wanted_name))
            }
            Self::EnrollmentAdmitted { enrollment, name, evidence, rules } => {
                (enrollment, rules, vec![("name", name), ("evidence", evidence)])
            }
            Self::EnrollmentApproval { enrollment: id, content: of, missing, fallen, rules } => {
                (id, rules, approved(of, &fallen, missing))
            }
            Self::EnrollmentApproved { enrollment: id, content, fallen, rules } => {
                (id, rules, approved(content, &fallen, 0))
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
            Self::RenewalAsked { whom, reason, rules } => (whom, rules, given("reason", reason)),
            Self::Access(access) => access.parts(),
            Self::MachineConverged { identity, run, rules } => (identity, rules, told(run)),
            Self::ApprovalWrongCode { enrollment: to } | Self::SubjectLeft { identity: to } => (to, vec![], vec![]),
            Self::PolicyLoaded { digest: to } | Self::GatewayInitialised { trust_domain: to } => (to, vec![], vec![]),
            Self::Upkeep(upkeep) => upkeep.parts(),
        }
    }
}

/// Who waits in the fields of an event.
fn waits(source: String, wanted_name: Option<String>) -> Vec<(&'static str, String)> {
    let wanted = wanted_name.map(|name| ("wanted_name", name));
    [("source", source)].into_iter().chain(wanted).collect()
}

/// What was approved in the fields of an event, with those whose earlier approvals count no more.
fn approved(content: ApprovedContent, fallen: &[String], missing: u32) -> Vec<(&'static str, String)> {
    let labels: Vec<String> = content.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut detail = vec![("name", content.name), ("code_checked", content.code_checked.to_string())];
    detail.extend(content.owner.map(|owner| ("owner", owner.name)));
    detail.extend(Some(labels.join(" ")).filter(|labels| !labels.is_empty()).map(|labels| ("labels", labels)));
    detail.extend((missing > 0).then(|| ("missing", missing.to_string())));
    detail.extend(Some(fallen.join(" ")).filter(|names| !names.is_empty()).map(|names| ("fallen", names)));
    detail
}

/// A field that is left out when there is nothing in it.
fn given(name: &'static str, text: String) -> Vec<(&'static str, String)> {
    Some((name, text)).filter(|(_, text)| !text.is_empty()).into_iter().collect()
}

/// A run in the fields of an event.
fn told(run: Run) -> Vec<(&'static str, String)> {
    let counts = [
        ("ok", run.ok),
        ("changed", run.changed),
        ("failed", run.failed),
        ("unreachable", run.unreachable),
        ("skipped", run.skipped),
    ];
    let words = [("version", run.version), ("run_id", run.run_id), ("play", run.play)];
    let words = words.into_iter().filter_map(|(name, word)| Some((name, word?)));
    let counts = counts.map(|(name, count)| (name, count.to_string()));
    [("tool", run.tool)].into_iter().chain(words).chain(counts).collect()
}

/// One event in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The event's stable name.
    pub event: String,
    /// Who: an identity, `gateway`, or `key:<digest>` before there is an identity.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// The policy rules that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Correlation id.
    pub instance: String,
    /// The event's own fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names as they stand in the matches, each of which the compiler holds to be whole.
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
