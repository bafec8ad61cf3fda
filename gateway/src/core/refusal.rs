//! Why a request is refused, sorted by whose fault it is. Each front turns these into bytes in one place; for the native front this is
//! `edge::fronts::native::problem`.

use std::time::Duration;

pub use self::{
    class::RefusalClass,
    conflict::Conflict,
    malformed::{Either, Malformed},
    missing::{BadCsr, ForWhom, Missing, QueueFull},
};

mod class;
mod conflict;
mod malformed;
mod missing;

/// Why a certificate of an ended lineage is refused. Permanent: the client need not ask again.
pub const REMOVED: &str = "its subject was removed or has left";

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is not one a correct client sends.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The CSR does not prove a key we accept.
    #[error("{0}")]
    BadCsr(#[from] BadCsr),
    /// The SSH key is not one we certify.
    #[error("{0}")]
    BadSshKey(#[from] pki::SshKeyError),
    /// The proof of possession does not hold for this connection and request.
    #[error("{0}")]
    BadProof(#[from] crate::core::proof::BadProof),
    /// Evidence was offered and does not hold.
    #[error("{0}")]
    Evidence(#[from] super::reject::Reject),
    /// Evidence was offered, and what it is checked with cannot be had now. Nothing was changed.
    #[error("the evidence cannot be checked now: {what}")]
    Unverifiable {
        /// What cannot be had.
        what: String,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// Policy said no.
    #[error("{}", denied(action, rules))]
    Denied {
        /// Ids of the rules that forbade it or failed.
        rules: Vec<String>,
        /// The action, as shown in the text.
        action: &'static str,
    },
    /// A person refused this enrollment.
    #[error("an approver denied this request: {reason}")]
    DeniedByPerson {
        /// As the approver wrote it.
        reason: String,
    },
    /// The enrollment expired undecided.
    #[error("the request lapsed before anybody decided")]
    Lapsed,
    /// The enrollment was withdrawn by whoever holds its key.
    #[error("the request was withdrawn")]
    Withdrawn,
    /// Another machine or person has the name.
    #[error("the name `{name}` is taken")]
    NameTaken {
        /// The wanted name.
        name: String,
    },
    /// The name cannot be assigned.
    #[error("the name `{name}` cannot be given: {why}")]
    NameIllegal {
        /// The wanted name.
        name: String,
        /// The rule that it breaks.
        why: String,
        /// Kind of the rule; decides the hint.
        whose: NameRule,
    },
    /// Too many requests wait for approval.
    #[error("{0}")]
    QueueFull(#[from] QueueFull),
    /// The caller exceeded a rate limit.
    #[error("too many requests")]
    TooFast {
        /// Time until the next request is allowed.
        retry_after: Duration,
    },
    /// The caller, its lineage or its key is locked.
    #[error("{what} is locked: {reason}")]
    Locked {
        /// Kind and name of the target.
        what: String,
        /// As given when the lock was set.
        reason: String,
    },
    /// The certificate belongs to a lineage with two holders.
    #[error("two holders of one key were seen: {what}")]
    Forked {
        /// The machine or person of the lineage.
        what: String,
    },
    /// The certificate was replaced, or its subject removed.
    #[error("this certificate is no longer in use: {why}")]
    Retired {
        /// Why it is not in use.
        why: &'static str,
    },
    /// The certificate was replaced within the grace; only reading is allowed with it.
    #[error("this certificate was replaced by a newer one")]
    Replaced,
    /// The lineage's budget of certificates is used up.
    #[error("too many certificates were made for this machine or person recently")]
    CertificateLimit {
        /// Time until the next one.
        retry_after: Duration,
    },
    /// The certificate has expired on an open connection.
    #[error("this certificate has expired")]
    Expired,
    /// It does not exist, or the caller may not see it.
    #[error("no such {0}")]
    NotFound(#[from] Missing),
    /// The typed code is not the one the machine shows.
    #[error("the code does not match what the machine shows")]
    WrongCode,
    /// The present state does not allow the action.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// This endpoint is not for this kind of caller.
    #[error("this endpoint is for {0}")]
    WrongCaller(#[from] ForWhom),
    /// A request that changes something has another `Content-Type`. Protects against cross-site requests (CSRF).
    #[error("a request that changes something is declared as `{wanted}`")]
    WrongMedia {
        /// The required media type.
        wanted: &'static str,
    },
    /// A browser sent the request on behalf of a page of another site (CSRF).
    #[error("the request comes from a page of another site")]
    CrossSite,
    /// The body exceeds the endpoint's limit.
    #[error("the request is larger than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The request exceeded the time limit, in seconds.
    #[error("the request took longer than {0} s")]
    TooSlow(u64),
    /// The head or the body did not arrive completely within the idle limit.
    #[error("the request did not arrive completely in time")]
    Unfinished,
    /// The HTTP version is not supported.
    #[error("only HTTP/1.1 is supported")]
    HttpVersion,
    /// The head exceeds a limit.
    #[error("the request's header is larger than {bytes} bytes or has more than {fields} lines")]
    HeadTooLarge {
        /// The limit in bytes.
        bytes: usize,
        /// The limit in header lines.
        fields: usize,
    },
    /// The path exists, but not with this method (RFC 9110 15.5.6).
    #[error("this endpoint does not support this method; `Allow` lists those that it supports")]
    Method,
    /// A service cannot be reached.
    #[error("{0}")]
    Service(#[from] Unreached),
    /// The signing key did not answer in time. Nothing was changed.
    #[error("the gateway's signing key does not answer now")]
    SignerUnavailable,
    /// A fault of the gateway. The detail is for the log.
    #[error("{0}")]
    Ours(Fault),
}

impl Refusal {
    /// The text for the client; of a fault only that there was one.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Ours(_) => "the gateway could not do this now".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Kind of the rule that a name breaks; decides the hint.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// The syntax of names.
    Form,
    /// The names that the join token allows.
    Token,
    /// A rejoining machine or person keeps its name.
    Kept,
}

/// Why a service that the caller may reach does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// The machine has no open tunnel.
    #[error("the machine `{machine}` is offline")]
    Offline {
        /// Name of the machine.
        machine: String,
    },
    /// The machine's tunnel is at another gateway.
    #[error("the machine `{machine}` cannot be reached from here: its tunnel is at gateway `{gateway}`")]
    Elsewhere {
        /// Name of the machine.
        machine: String,
        /// Name of the other gateway.
        gateway: pki::Name,
    },
    /// A stream that was to move to a connection of its own is at another gateway.
    #[error("this stream is at gateway `{gateway}`")]
    StreamElsewhere {
        /// That gateway's name.
        gateway: pki::Name,
    },
    /// The machine exposes no such service.
    #[error("the machine `{machine}` does not expose `{service}`; {}", what_else(exposed))]
    NotExposed {
        /// Name of the machine.
        machine: String,
        /// The requested service.
        service: String,
        /// The services that the caller may see instead.
        exposed: Vec<String>,
    },
    /// The machine's own access list does not admit this caller.
    #[error("the machine `{machine}` itself refused: {detail}")]
    ByMachine {
        /// Name of the machine.
        machine: String,
        /// The machine's error text.
        detail: String,
    },
    /// The service's target refused the connection.
    #[error("the machine `{machine}` cannot reach its service: {detail}")]
    TargetClosed {
        /// Name of the machine.
        machine: String,
        /// The machine's error text.
        detail: String,
    },
    /// The service's target did not answer in time.
    #[error("the service does not answer the machine `{machine}`: {detail}")]
    TargetSlow {
        /// Name of the machine.
        machine: String,
        /// The machine's error text.
        detail: String,
    },
    /// The machine did not answer in time.
    #[error("the machine `{machine}` did not answer within {seconds} s")]
    Silent {
        /// Name of the machine.
        machine: String,
        /// The timeout.
        seconds: u64,
    },
    /// A limit on streams is reached; the text names it.
    #[error("{0}")]
    TooMany(String),
}

fn what_else(names: &[String]) -> String {
    if names.is_empty() { "it exposes nothing".to_owned() } else { format!("it exposes `{}`", names.join("`, `")) }
}

fn denied(action: &str, rules: &[String]) -> String {
    match rules {
        [] => format!("no rule of the policy allows `{action}` here"),
        rules => format!("the policy refuses `{action}` here, by `{}`", rules.join("`, `")),
    }
}

/// A fault of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record could not be read.
    #[error("store read failed: {0}")]
    Read(String),
    /// A commit whose outcome is unknown: it may or may not be durable.
    #[error("store commit outcome unknown: {0}")]
    Commit(String),
    /// The store cannot be reached now.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// How long to wait before the next attempt.
        retry_after: Duration,
        /// The engine's error.
        why: String,
    },
    /// A document that an attestor is configured to read cannot be used now.
    #[error("{why}")]
    Document {
        /// How long to wait before the next attempt.
        retry_after: Duration,
        /// Which, and why.
        why: String,
    },
    /// Every attempt to commit was a conflict.
    #[error("gave up after repeated conflicts")]
    Contention,
    /// A certificate could not be issued.
    #[error("issuing failed: {0}")]
    Issue(String),
    /// The issuing CA has expired.
    #[error("the CA for {role} certificates ended at {end}; renew it with `lychgate-gateway ca renew`")]
    CaEnded {
        /// Role of the CA.
        role: &'static str,
        /// `notAfter` of the CA.
        end: pki::UnixTime,
    },
    /// A record is inconsistent with another one or with the code's assumptions.
    #[error("inconsistent record: {0}")]
    Record(String),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault)
    }
}
