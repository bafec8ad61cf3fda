//! Malformed requests, which no correct client sends: one variant for each rule, with its limit.

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
    /// Breaks a rule of HTTP/1.1 (RFC 9112), which the text names.
    #[error("the request is malformed: {0}")]
    Framing(String),
    /// A header with a single value is present twice.
    #[error("more than one `{0}` header")]
    HeaderTwice(String),
    /// Percent-encoding: RFC 3986 2.1.
    #[error("the percent-decoded path is not UTF-8")]
    Path,
    /// The query is not `name=value&...`.
    #[error("the query is malformed")]
    Query,
    /// The endpoint does not have this parameter.
    #[error("unknown parameter `{name}` in the query; {instead}")]
    QueryUnknown {
        /// The parameter, truncated.
        name: String,
        /// The endpoint's parameters.
        instead: String,
    },
    /// A parameter is present twice.
    #[error("`{0}` is in the query twice")]
    QueryTwice(String),
    /// The parameter is a number.
    #[error("`{0}` must be a whole number")]
    Number(String),
    /// The parameter is a boolean.
    #[error("`{0}` is `true` or `false`")]
    TrueOrFalse(&'static str),
    /// The parameter is one of a few values.
    #[error("`{name}` is one of {}", allowed.join(", "))]
    NoneOf {
        /// The parameter.
        name: &'static str,
        /// The values that it may have.
        allowed: &'static [&'static str],
    },
    /// The cursor is not from a page of this listing.
    #[error("`after` is not a cursor of this listing; start again without it")]
    Place,
    /// The body is truncated or its framing is invalid.
    #[error("the body is incomplete or malformed")]
    Body,
    /// The body does not deserialize; the text has line and column.
    #[error("the body is not the JSON wanted here: {0}")]
    Json(String),
    /// Fields that exclude each other.
    #[error("give either {0}")]
    Either(Either),
    /// A list exceeds its limit.
    #[error("`{what}` has at most {max} entries")]
    Entries {
        /// Name of the field.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A short text of a person, in this field.
    #[error("`{0}` must have 1 to {WORD_MAX} bytes, without control characters or blanks at its ends")]
    Word(String),
    /// A reason exceeds its limit or has several lines.
    #[error("a reason is one line of at most {REASON_MAX} bytes")]
    Reason,
    /// A reason that is missing.
    #[error("a reason is required; the person concerned will see it")]
    NoReason,
    /// Too many labels.
    #[error("a machine has at most {LABELS_MAX} labels")]
    Labels,
    /// The key of a label.
    #[error(
        "the label `{0}` cannot be given: a key is a word of at most {LABEL_KEY_MAX} letters, digits, `.`, `_`, `-` and `/`, \
         beginning with a letter or digit"
    )]
    LabelKey(String),
    /// The value of the label with this key.
    #[error(
        "the value of the label `{0}` cannot be given: it is one line of at most {LABEL_VALUE_MAX} bytes, without blanks at its ends"
    )]
    LabelValue(String),
    /// Too many groups.
    #[error("a person is in at most {GROUPS_MAX} groups")]
    Groups,
    /// The name of a group.
    #[error(
        "the group `{0}` cannot be given: it is a word of at most {GROUP_NAME_MAX} letters, digits, `.`, `_`, `-` and `/`, \
         beginning with a letter or digit"
    )]
    Group(String),
    /// The owner does not exist.
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
    /// The attributes of an enrollment exceed a limit.
    #[error(
        "attributes: at most {ATTRIBUTES_MAX}, names without `=` up to {ATTRIBUTE_NAME_MAX} bytes, values up to \
         {ATTRIBUTE_VALUE_MAX} bytes"
    )]
    Attributes,
    /// A renewal with the key of the certificate to be replaced.
    #[error("a renewal needs a new key")]
    SameKey,
    /// A request for a sealed services' certificate with the machine's own key.
    #[error("a certificate for sealed services needs a separate key")]
    OwnKeySealed,
    /// The certificate in a re-authentication frame is not accepted; the text says why.
    #[error("the renewed certificate {0}")]
    Renewed(String),
    /// Not a valid service name.
    #[error("`{0}` cannot name a service")]
    ServiceName(String),
    /// The target of `CONNECT` is invalid; the text says why.
    #[error("{0}")]
    Target(String),
    /// A method other than `CONNECT` on the proxy face.
    #[error(
        "this is the proxy face, where `CONNECT <service>.<machine>:<port>` is understood and nothing else; with curl, add \
         --proxytunnel"
    )]
    NotConnect,
    /// `tool` of a report.
    #[error("`tool` must have 1 to {REPORT_TOOL_MAX} letters, digits, `.`, `_`, `+`, `:` or `-`")]
    ReportTool,
    /// Another field of a report.
    #[error("`{0}` must have 1 to {REPORT_WORD_MAX} letters, digits, `.`, `_`, `+`, `:` or `-`, or be absent")]
    ReportWord(&'static str),
    /// `play` of a report.
    #[error("`play` must have at most {REPORT_PLAY_MAX} bytes and no control characters")]
    ReportPlay,
    /// A report of a run with its end before its start.
    #[error("`finished` must not be before `started`")]
    ReportOrder,
    /// A report of a run with an impossible time.
    #[error("`finished` must be in seconds since 1970, before the year 10000")]
    ReportTime,
    /// Tokens are not for this role.
    #[error("a token is for a machine or a person, not for `{0}`")]
    TokenRole(String),
    /// `uses` of a token.
    #[error("`uses` must be from 1 to {TOKEN_USES_MAX}")]
    TokenUses,
    /// `ttl` of a token.
    #[error("`ttl` must be from 1 second to {} days", TOKEN_TTL_MAX.as_secs() / 86_400)]
    TokenLife,
    /// `names` of a token.
    #[error("a token is for at most {TOKEN_NAMES_MAX} names and patterns")]
    TokenNames,
    /// `key` of a token.
    #[error("`key` must be the SHA-256 digest of the key, 64 hexadecimal digits")]
    TokenKey,
    /// A request to renew names too many machines.
    #[error("name at most {RENEWALS_NAMED_MAX} machines at once, or ask `all`")]
    Renewals,
    /// There is no lock of this kind.
    #[error("`{0}` cannot be locked: use machine, person, lineage or key")]
    LockKind(String),
    /// The target of a lock on a key is not a digest.
    #[error("a key is locked by its SHA-256 digest, 64 hexadecimal digits")]
    LockKey,
    /// A filter names an unknown audit event.
    #[error("no event is called `{name}`; there are {known}")]
    Event {
        /// The filter.
        name: String,
        /// Similar events, or all kinds.
        known: String,
    },
    /// The policy has no such action.
    #[error("`{name}` is not an action of the policy{meant}: use one of {known}")]
    Action {
        /// The requested action.
        name: String,
        /// A suggestion, or empty.
        meant: &'static str,
        /// All actions.
        known: String,
    },
    /// The action does not apply to this resource.
    #[error("`{action}` {concerns}")]
    Concern {
        /// The action.
        action: &'static str,
        /// Resources to which it applies, and how to write them.
        concerns: &'static str,
    },
    /// Several requests want this name.
    #[error("several requests ask for the name `{name}`: give one of {ids}")]
    SeveralRequests {
        /// The wanted name.
        name: String,
        /// Ids of the requests.
        ids: String,
    },
}

/// Fields of a request that exclude each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Either {
    /// In an approval: whether the code was checked.
    #[error("the code or `unchecked`, not both or neither")]
    CodeOrUnchecked,
    /// In an approval: what is approved.
    #[error("`same_as`, or `name`, `labels` and `owner`")]
    SameAsOrOwn,
    /// In a change to a machine.
    #[error("`owner` or `no_owner`")]
    OwnerOrNone,
    /// In a request to renew now.
    #[error("`machines` or `all`, not both or neither")]
    MachinesOrAll,
}
