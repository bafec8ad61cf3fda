//! Why something was not done, sorted by whose fault it is. `edge::fronts::native::problem` turns these into bytes, once.

use std::time::Duration;

pub use self::{
    conflict::Conflict,
    malformed::{Either, Malformed},
    missing::{BadCsr, ForWhom, Missing, QueueFull},
};

mod conflict;
mod malformed;
mod missing;

/// What became of a certificate whose lineage has ended: for good, and not to be asked about again.
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
    /// Policy said no.
    #[error("{}", denied(action, rules))]
    Denied {
        /// The rules that decided: those that forbade it, or failed.
        rules: Vec<String>,
        /// What was asked, in words.
        action: &'static str,
    },
    /// A person refused this enrollment.
    #[error("an approver denied this request: {reason}")]
    DeniedByPerson {
        /// The person's reason.
        reason: String,
    },
    /// The enrollment lapsed.
    #[error("the request lapsed before anybody decided")]
    Lapsed,
    /// Another holds the name.
    #[error("the name `{name}` is taken")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is not one we can give.
    #[error("the name `{name}` cannot be given: {why}")]
    NameIllegal {
        /// The name as wanted.
        name: String,
        /// Which rule it breaks.
        why: String,
        /// Whose rule that is.
        whose: NameRule,
    },
    /// Too many wait already.
    #[error("{0}")]
    QueueFull(#[from] QueueFull),
    /// Too many requests.
    #[error("too many requests")]
    TooFast {
        /// When to try again.
        retry_after: Duration,
    },
    /// A lock stands.
    #[error("{what} is locked: {reason}")]
    Locked {
        /// What is locked.
        what: String,
        /// Why, by the words of whoever locked.
        reason: String,
    },
    /// The certificate belongs to a lineage that two holders use.
    #[error("two holders of one key were seen: {what}")]
    Forked {
        /// Whose lineage.
        what: String,
    },
    /// The certificate was replaced, or its subject removed.
    #[error("this certificate is no longer in use: {why}")]
    Retired {
        /// What became of it.
        why: &'static str,
    },
    /// The certificate was replaced a moment ago, and changes nothing any more.
    #[error("this certificate was replaced by a newer one")]
    Replaced,
    /// The lineage has had as many certificates as it may for now.
    #[error("too many certificates were made for this machine or person recently")]
    CertificateLimit {
        /// When to try again.
        retry_after: Duration,
    },
    /// The certificate has expired on an open connection.
    #[error("this certificate has expired")]
    Expired,
    /// No such thing, or not for the caller to know.
    #[error("no such {0}")]
    NotFound(#[from] Missing),
    /// The typed code is not the one the machine shows.
    #[error("the code does not match what the machine shows")]
    WrongCode,
    /// The state does not allow this any more.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// This endpoint is not for this kind of caller.
    #[error("this endpoint is for {0}")]
    WrongCaller(#[from] ForWhom),
    /// Something would change, and the request is not declared as what the protocol speaks.
    #[error("a request that changes something is declared as `{wanted}`")]
    WrongMedia {
        /// The media type.
        wanted: &'static str,
    },
    /// A page of another site asks for a change in a person's name.
    #[error("the request comes from a page of another site")]
    CrossSite,
    /// The body is larger than the endpoint takes.
    #[error("the request is larger than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The request did not come in time.
    #[error("the request took longer than {0} s")]
    TooSlow(u64),
    /// The head or the body stopped coming.
    #[error("the request did not arrive completely in time")]
    Unfinished,
    /// Another version of HTTP.
    #[error("only HTTP/1.1 is supported")]
    HttpVersion,
    /// The head is larger than we read.
    #[error("the request's header is larger than {bytes} bytes or has more than {fields} lines")]
    HeadTooLarge {
        /// The limit in bytes.
        bytes: usize,
        /// The limit in lines.
        fields: usize,
    },
    /// The path is there, and not for this method.
    #[error("this endpoint does not support this method; `Allow` lists those that it supports")]
    Method,
    /// A service cannot be reached.
    #[error("{0}")]
    Service(#[from] Unreached),
    /// The key that would sign does not answer in time. Nothing was changed.
    #[error("the gateway's signing key does not answer now")]
    SignerUnavailable,
    /// We failed. The detail is for our log.
    #[error("{0}")]
    Ours(Fault),
}

impl Refusal {
    /// What whoever asked is told. What failed inside is for our log.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Ours(_) => "the gateway could not do this now".to_owned(),
            other => other.to_string(),
        }
    }
}

/// What a name that cannot be given offends against: it says how to go on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// What a name is.
    Form,
    /// What the join token is for.
    Token,
    /// Whoever comes back keeps its name.
    Kept,
}

/// Why nobody answers at a service that the caller may reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// The machine holds no tunnel.
    #[error("the machine `{machine}` is offline")]
    Offline {
        /// Which.
        machine: String,
    },
    /// The machine exposes no such service.
    #[error("the machine `{machine}` does not expose `{service}`; {}", what_else(exposed))]
    NotExposed {
        /// Which.
        machine: String,
        /// What was asked for.
        service: String,
        /// What it does expose.
        exposed: Vec<String>,
    },
    /// The machine's owner does not let this caller in.
    #[error("the machine `{machine}` itself refused: {detail}")]
    ByMachine {
        /// Which.
        machine: String,
        /// Its words.
        detail: String,
    },
    /// Nobody listens at the service's target.
    #[error("the machine `{machine}` cannot reach its service: {detail}")]
    TargetClosed {
        /// Which.
        machine: String,
        /// Its words.
        detail: String,
    },
    /// The service's target did not answer in time.
    #[error("the service does not answer the machine `{machine}`: {detail}")]
    TargetSlow {
        /// Which.
        machine: String,
        /// Its words.
        detail: String,
    },
    /// The machine did not answer in time.
    #[error("the machine `{machine}` did not answer within {seconds} s")]
    Silent {
        /// Which.
        machine: String,
        /// How long we waited.
        seconds: u64,
    },
    /// Too many streams.
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

/// A failure of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record could not be read.
    #[error("store read failed: {0}")]
    Read(String),
    /// A change may or may not be durable.
    #[error("store commit outcome unknown: {0}")]
    Commit(String),
    /// The store cannot be reached now.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// What keeps it.
        why: String,
    },
    /// Everybody else kept changing the same records.
    #[error("gave up after repeated conflicts")]
    Contention,
    /// A certificate could not be made.
    #[error("issuing failed: {0}")]
    Issue(String),
    /// The CA that would sign it has ended.
    #[error("the CA for {role} certificates ended at {end}; renew it with `lychgate-gateway ca renew`")]
    CaEnded {
        /// Whose certificates it signs.
        role: &'static str,
        /// When it ended.
        end: pki::UnixTime,
    },
    /// A record does not say what it must.
    #[error("inconsistent record: {0}")]
    Record(String),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault)
    }
}
