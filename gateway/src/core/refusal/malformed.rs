//! What is wrong with a request that no correct client sends: one variant for each rule, with the limit that it breaks.

use wire::limits::{
    ATTRIBUTE_NAME_MAX, ATTRIBUTE_VALUE_MAX, ATTRIBUTES_MAX, REASON_MAX, REPORT_PLAY_MAX, REPORT_TOOL_MAX,
    REPORT_WORD_MAX, TOKEN_NAMES_MAX, WORD_MAX,
};

use crate::limits::{
    GROUP_NAME_MAX, GROUPS_MAX, LABEL_KEY_MAX, LABEL_VALUE_MAX, LABELS_MAX, RENEWALS_NAMED_MAX, TOKEN_TTL_MAX,
    TOKEN_USES_MAX,
};

/// A rule that a request breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// HTTP's own rules; which one.
    #[error("the request is malformed: {0}")]
    Framing(String),
    /// A header that means one thing, said twice.
    #[error("more than one `{0}` header")]
    HeaderTwice(String),
    /// RFC 3986 2.1.
    #[error("the percent-decoded path is not UTF-8")]
    Path,
    /// Not `name=value&...`.
    #[error("the query is malformed")]
    Query,
    /// A member that the endpoint does not know.
    #[error("unknown parameter `{name}` in the query; {instead}")]
    QueryUnknown {
        /// The member, cut.
        name: String,
        /// What the endpoint takes.
        instead: String,
    },
    /// A member said twice.
    #[error("`{0}` is in the query twice")]
    QueryTwice(String),
    /// A member that counts.
    #[error("`{0}` must be a whole number")]
    Number(String),
    /// A member that is a truth value.
    #[error("`{0}` is `true` or `false`")]
    TrueOrFalse(&'static str),
    /// A place in a listing that no page of it gave.
    #[error("`after` is not a cursor of this listing; start again without it")]
    Place,
    /// The body ended before its end, or is not framed right.
    #[error("the body is incomplete or malformed")]
    Body,
    /// The body is JSON of another shape, or none; where.
    #[error("the body is not the JSON wanted here: {0}")]
    Json(String),
    /// Two members that exclude each other.
    #[error("give either {0}")]
    Either(Either),
    /// More entries than a list may have.
    #[error("`{what}` has at most {max} entries")]
    Entries {
        /// The list.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A word that a person gives.
    #[error("`{0}` must have 1 to {WORD_MAX} bytes, without control characters or blanks at its ends")]
    Word(String),
    /// A reason that is no line, or too long a one.
    #[error("a reason is one line of at most {REASON_MAX} bytes")]
    Reason,
    /// A reason that is missing.
    #[error("a reason is required; the person concerned will see it")]
    NoReason,
    /// Too many labels.
    #[error("a machine has at most {LABELS_MAX} labels")]
    Labels,
    /// A label's key.
    #[error(
        "the label `{0}` cannot be given: a key is a word of at most {LABEL_KEY_MAX} letters, digits, `.`, `_`, `-` and `/`, \
         beginning with a letter or digit"
    )]
    LabelKey(String),
    /// A label's value; of which label.
    #[error(
        "the value of the label `{0}` cannot be given: it is one line of at most {LABEL_VALUE_MAX} bytes, without blanks at its ends"
    )]
    LabelValue(String),
    /// Too many groups.
    #[error("a person is in at most {GROUPS_MAX} groups")]
    Groups,
    /// A group's name.
    #[error(
        "the group `{0}` cannot be given: it is a word of at most {GROUP_NAME_MAX} letters, digits, `.`, `_`, `-` and `/`, \
         beginning with a letter or digit"
    )]
    Group(String),
    /// An owner whom nobody knows.
    #[error(
        "there is no person `{0}` who could own a machine: invite them first (`lychgate people invite`), and set the owner \
         when they have joined (`lychgate machines set`)"
    )]
    UnknownOwner(String),
    /// Too much evidence.
    #[error("more than {max} pieces of evidence")]
    Evidence {
        /// The limit.
        max: usize,
    },
    /// What a newcomer says of itself.
    #[error(
        "attributes: at most {ATTRIBUTES_MAX}, names without `=` up to {ATTRIBUTE_NAME_MAX} bytes, values up to \
         {ATTRIBUTE_VALUE_MAX} bytes"
    )]
    Attributes,
    /// A renewal by the key that is to be replaced.
    #[error("a renewal needs a new key")]
    SameKey,
    /// A sealed service's certificate by the machine's own key.
    #[error("a certificate for sealed services needs a separate key")]
    OwnKeySealed,
    /// A certificate that is to stand for a renewed connection; what is wrong with it.
    #[error("the renewed certificate {0}")]
    Renewed(String),
    /// What no service can be called.
    #[error("`{0}` cannot name a service")]
    ServiceName(String),
    /// A target of `CONNECT`; what is wrong with it.
    #[error("{0}")]
    Target(String),
    /// Something other than `CONNECT` on the proxy face.
    #[error(
        "this is the proxy face, where `CONNECT <service>.<machine>:<port>` is understood and nothing else; with curl, add \
         --proxytunnel"
    )]
    NotConnect,
    /// A report's tool.
    #[error("`tool` must have 1 to {REPORT_TOOL_MAX} letters, digits, `.`, `_`, `+`, `:` or `-`")]
    ReportTool,
    /// Another word of a report.
    #[error("`{0}` must have 1 to {REPORT_WORD_MAX} letters, digits, `.`, `_`, `+`, `:` or `-`, or be absent")]
    ReportWord(&'static str),
    /// A report's play.
    #[error("`play` must have at most {REPORT_PLAY_MAX} bytes and no control characters")]
    ReportPlay,
    /// A report of a run that ended before it began.
    #[error("`finished` must not be before `started`")]
    ReportOrder,
    /// A report of a run that is no moment of ours.
    #[error("`finished` must be in seconds since 1970, before the year 10000")]
    ReportTime,
    /// A token for what none is for.
    #[error("a token is for a machine or a person, not for `{0}`")]
    TokenRole(String),
    /// A token's uses.
    #[error("`uses` must be from 1 to {TOKEN_USES_MAX}")]
    TokenUses,
    /// A token's life.
    #[error("`ttl` must be from 1 second to {} days", TOKEN_TTL_MAX.as_secs() / 86_400)]
    TokenLife,
    /// A token's names.
    #[error("a token is for at most {TOKEN_NAMES_MAX} names and patterns")]
    TokenNames,
    /// A token's key.
    #[error("`key` must be the SHA-256 digest of the key, 64 hexadecimal digits")]
    TokenKey,
    /// More machines than are asked to renew at once.
    #[error("name at most {RENEWALS_NAMED_MAX} machines at once, or ask `all`")]
    Renewals,
    /// What cannot be locked.
    #[error("`{0}` cannot be locked: use machine, person, lineage or key")]
    LockKind(String),
    /// A key that is not given by its digest.
    #[error("a key is locked by its SHA-256 digest, 64 hexadecimal digits")]
    LockKey,
    /// An event that there is not.
    #[error("no event is called `{name}`; there are {known}")]
    Event {
        /// As asked for.
        name: String,
        /// Those that are like it, or all.
        known: String,
    },
    /// An action that the policy does not know.
    #[error("`{name}` is not an action of the policy{meant}: use one of {known}")]
    Action {
        /// As asked for.
        name: String,
        /// What may have been meant.
        meant: &'static str,
        /// All there are.
        known: String,
    },
    /// An action asked about what it does not concern.
    #[error("`{action}` {concerns}")]
    Concern {
        /// The action.
        action: &'static str,
        /// What it concerns, and how that is written.
        concerns: &'static str,
    },
    /// A name that several requests ask for.
    #[error("several requests ask for the name `{name}`: give one of {ids}")]
    SeveralRequests {
        /// The name.
        name: String,
        /// Their ids.
        ids: String,
    },
}

/// Members of a request that exclude each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Either {
    /// Of an approval.
    #[error("the code or `unchecked`, not both or neither")]
    CodeOrUnchecked,
    /// Of an approval.
    #[error("`same_as`, or `name`, `labels` and `owner`")]
    SameAsOrOwn,
    /// Of a change to a machine.
    #[error("`owner` or `no_owner`")]
    OwnerOrNone,
    /// Of a call to renew.
    #[error("`machines` or `all`, not both or neither")]
    MachinesOrAll,
}
