//! What a rule can see: typed facts, and how they become Cedar entities.
//!
//! Entities are built directly, without JSON, and are not checked against the schema for each
//! request: their shape is fixed here, and a test holds it against the schema. What is not fixed
//! here (claims, roles, keys) is checked as it is converted, and a bad fact denies.

mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

pub(crate) use vocabulary::Vocabulary;

/// What somebody asks to do.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Come in now, without a human.
    Enroll,
    /// Wait at the gate for a human.
    Request,
    /// Admit or refuse somebody who waits.
    Approve,
    /// Exchange a valid certificate for a new one.
    Renew,
    /// Get a certificate to log in with SSH.
    Login,
    /// A person opens a connection to a service on a machine.
    Connect,
    /// A machine opens a connection to a service on another.
    Reach,
    /// Lock; unlocking is [`Action::Administer`].
    Lock,
    /// See.
    Read,
    /// Say how a run of a configuration tool went on a machine.
    Report,
    /// Change anything else.
    Administer,
}

impl Action {
    /// Every action, in the order of the schema.
    pub const ALL: [Self; 11] = [
        Self::Enroll,
        Self::Request,
        Self::Approve,
        Self::Renew,
        Self::Login,
        Self::Connect,
        Self::Reach,
        Self::Lock,
        Self::Read,
        Self::Report,
        Self::Administer,
    ];

    /// The word rules and operators use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Request => "request",
            Self::Approve => "approve",
            Self::Renew => "renew",
            Self::Login => "login",
            Self::Connect => "connect",
            Self::Reach => "reach",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Report => "report",
            Self::Administer => "administer",
        }
    }

    /// The action of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The type of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimType {
    /// Cedar `String`.
    Text,
    /// Cedar `Bool`.
    Bool,
    /// Cedar `Long`.
    Number,
}

impl ClaimType {
    pub(crate) const fn in_schema(self) -> &'static str {
        match self {
            Self::Text => "String",
            Self::Bool => "Bool",
            Self::Number => "Long",
        }
    }
}

/// A claim an attestor may make. Rules may name declared claims only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimDecl {
    /// `[a-z][a-z0-9_]*`.
    pub name: Cow<'static, str>,
    /// Its type.
    pub kind: ClaimType,
}

/// A claim an attestor made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// For [`ClaimType::Text`].
    Text(String),
    /// For [`ClaimType::Bool`].
    Bool(bool),
    /// For [`ClaimType::Number`].
    Number(i64),
}

impl Claim {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> ClaimType {
        match self {
            Self::Text(_) => ClaimType::Text,
            Self::Bool(_) => ClaimType::Bool,
            Self::Number(_) => ClaimType::Number,
        }
    }
}

impl From<&str> for Claim {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Claim {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Claim {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

impl From<i64> for Claim {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Whoever asks to join.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Newcomer {
    /// Digest of the key it wants certified, in hex.
    pub key: String,
    /// `machine` or `person`; anything else denies.
    pub role: String,
    /// The name it asks for.
    pub wanted_name: Option<String>,
    /// 0 none, 1 software, 2 hardware, 3 measured.
    pub assurance: u8,
    /// What attestors vouch for.
    pub claims: BTreeMap<String, Claim>,
    /// What it says of itself: `self_reported` in rules, as `key=value`.
    pub attributes: BTreeMap<String, String>,
    /// Where the request came from.
    pub source: Option<IpAddr>,
    /// It descends from a lineage admitted before.
    pub known: bool,
}

/// A newcomer who waits, as an approver sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// The id of the enrollment.
    pub id: String,
    /// Who waits.
    pub newcomer: Newcomer,
    /// How many people must approve.
    pub approvals_wanted: u32,
    /// What the approver gives it; `None` for a refusal, a look, or a question.
    pub approval: Option<Approval>,
}

/// What a person gives somebody who waits by approving it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Approval {
    /// The name it will have.
    pub name: String,
    /// The name of the person who will own it.
    pub owner: Option<String>,
    /// Its labels; `key=value` in rules.
    pub labels: BTreeMap<String, String>,
    /// The approver typed the code that the newcomer shows.
    pub code_checked: bool,
}

/// A join token, to be made or there already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// `machine` or `person`; anything else denies.
    pub role: String,
    /// Names it is good for.
    pub names: Vec<String>,
    /// Groups it gives.
    pub groups: Vec<String>,
    /// Labels it gives; `key=value` in rules.
    pub labels: BTreeMap<String, String>,
    /// The name of the person who will own the machine.
    pub owner: Option<String>,
    /// How many keys may redeem it.
    pub uses: u32,
}

/// The plainest token: one machine, nothing given with it.
impl Default for Token {
    fn default() -> Self {
        let role = "machine".to_owned();
        Self { role, names: vec![], groups: vec![], labels: BTreeMap::new(), owner: None, uses: 1 }
    }
}

/// A machine with a certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The name of the person who owns it.
    pub owner: Option<String>,
    /// What operators labelled it with; `key=value` in rules.
    pub labels: BTreeMap<String, String>,
    /// 0 none, 1 software, 2 hardware, 3 measured.
    pub assurance: u8,
    /// The machine, its lineage or key is locked.
    pub locked: bool,
    /// A retired certificate of its lineage was used.
    pub forked: bool,
    /// Seconds since the lineage was first admitted.
    pub lineage_age: u64,
    /// The name of the person who admitted it; `None` when policy alone did.
    pub admitted_by: Option<String>,
    /// What attestors vouched for.
    pub claims: BTreeMap<String, Claim>,
}

/// A person with a certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// The groups they are in.
    pub groups: Vec<String>,
    /// The person, their lineage or key is locked.
    pub locked: bool,
}

/// A target a machine's owner chose to expose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// What the owner calls it.
    pub name: String,
    /// Where it is.
    pub machine: Machine,
}

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Principal {
    /// Somebody with no certificate yet.
    Newcomer(Newcomer),
    /// A machine.
    Machine(Machine),
    /// A person.
    Person(Person),
}

/// What they ask it of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resource {
    /// The gateway itself.
    Gateway,
    /// Somebody who waits.
    Request(Request),
    /// A machine.
    Machine(Machine),
    /// A person.
    Person(Person),
    /// A service on a machine.
    Service(Service),
    /// A join token.
    Token(Token),
}

/// One question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// What.
    pub action: Action,
    /// By whom.
    pub principal: Principal,
    /// Of what.
    pub resource: Resource,
    /// When, in seconds since 1970.
    pub now: u64,
}

/// Facts that do not fit the schema. They deny.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadFacts {
    /// Neither machine nor person.
    #[error("the role `{role}` is neither `machine` nor `person`")]
    Role {
        /// What it was.
        role: String,
    },
    /// Above the scale.
    #[error("the assurance {level} is not between 0 and 3")]
    Assurance {
        /// What it was.
        level: u8,
    },
    /// No attestor declared it.
    #[error("the claim `{claim}` is declared by no attestor")]
    UndeclaredClaim {
        /// Its name.
        claim: String,
    },
    /// Another type than declared.
    #[error("the claim `{claim}` has another type than its attestor declared")]
    ClaimType {
        /// Its name.
        claim: String,
    },
    /// `a=b` as a key would read as the key `a` in `key=value`.
    #[error("the key `{key}` of a label or attribute contains `=`")]
    Key {
        /// The key.
        key: String,
    },
    /// The schema does not have this combination.
    #[error("the question does not fit the schema: {0}")]
    Question(String),
    /// Cedar refused the value.
    #[error("a fact cannot be represented: {0}")]
    Value(String),
}
