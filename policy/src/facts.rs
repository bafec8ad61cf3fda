//! The facts that a rule can use, and their conversion to Cedar entities.
//!
//! Entities are built directly, without JSON, and are not checked against the schema for each request: their shape is fixed here,
//! and a test compares it with the schema. Claims, roles and keys are checked during conversion, and a bad fact denies.

mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

#[cfg(test)]
pub(crate) use vocabulary::Built;
pub(crate) use vocabulary::Vocabulary;

/// The actions of the schema.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Be admitted at once, without an approver.
    Enroll,
    /// Wait for approval.
    Request,
    /// Approve or deny a waiting request.
    Approve,
    /// Exchange a valid certificate for a new one.
    Renew,
    /// Get a certificate to log in with SSH.
    Login,
    /// A person opens a connection to a service on a machine.
    Connect,
    /// A machine opens a connection to a service on another machine.
    Reach,
    /// Lock; unlocking is [`Action::Administer`].
    Lock,
    /// Read records, and the lists that contain them.
    Read,
    /// Report the result of a configuration tool's run on a machine.
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

    /// The name in rules and on the command line.
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

/// A claim that an attestor may make. Rules can use declared claims only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimDecl {
    /// `[a-z][a-z0-9_]*`.
    pub name: Cow<'static, str>,
    /// Its type in the schema.
    pub kind: ClaimType,
}

/// The value of a claim.
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

/// A machine or person that asks to join.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Newcomer {
    /// SHA-256 of the public key to be certified, in hex.
    pub key: String,
    /// `machine` or `person`; anything else denies.
    pub role: String,
    /// The name it asks for.
    pub wanted_name: Option<String>,
    /// 0 none, 1 software, 2 hardware, 3 measured.
    pub assurance: u8,
    /// What is in the hardware: `host` or `key`.
    pub assurance_of: Option<String>,
    /// Claims that attestors verified.
    pub claims: BTreeMap<String, Claim>,
    /// Attributes that it reports of itself, unverified: `self_reported` in rules, as `key=value`.
    pub attributes: BTreeMap<String, String>,
    /// The address the request came from.
    pub source: Option<IpAddr>,
    /// It descends from a lineage admitted before.
    pub known: bool,
    /// Its evidence is of the same device, such as a TPM, as a machine's: it would come back as that machine.
    pub same_device: bool,
}

/// A waiting request, as an approver sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// The id of the enrollment.
    pub id: String,
    /// The newcomer that waits.
    pub newcomer: Newcomer,
    /// How many people must approve.
    pub approvals_wanted: u32,
    /// What the approver gives it; `None` for a denial, for reading, and for `can-i`.
    pub approval: Option<Approval>,
}

/// What an approver gives a waiting newcomer.
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

/// A join token that exists or is about to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// `machine` or `person`; anything else denies.
    pub role: String,
    /// Names it may be redeemed for; any when empty.
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

/// A token for one machine, without names, labels or owner.
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
    /// Its labels; `key=value` in rules.
    pub labels: BTreeMap<String, String>,
    /// 0 none, 1 software, 2 hardware, 3 measured.
    pub assurance: u8,
    /// What is in the hardware: `host` or `key`.
    pub assurance_of: Option<String>,
    /// The machine, its lineage or key is locked.
    pub locked: bool,
    /// A replaced certificate of its lineage was used again.
    pub forked: bool,
    /// Seconds since the lineage was first admitted.
    pub lineage_age: u64,
    /// The name of the person who admitted it; `None` when policy alone did.
    pub admitted_by: Option<String>,
    /// Claims that attestors verified when it last gave evidence.
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

/// A service that a machine exposes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// Its name on the machine, such as `ssh`.
    pub name: String,
    /// The machine that exposes it.
    pub machine: Machine,
}

/// Who does it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Principal {
    /// A machine or person without a certificate.
    Newcomer(Newcomer),
    /// A machine.
    Machine(Machine),
    /// A person.
    Person(Person),
}

/// What it is done to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resource {
    /// The gateway itself.
    Gateway,
    /// A waiting enrollment.
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

/// One question: may `principal` do `action` to `resource` at `now`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// A combination outside the schema is denied.
    pub action: Action,
    /// Who does it.
    pub principal: Principal,
    /// What it is done to.
    pub resource: Resource,
    /// Seconds since 1970.
    pub now: u64,
}

/// Facts that do not fit the schema. They deny.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadFacts {
    #[error("the role `{role}` is neither `machine` nor `person`")]
    Role { role: String },
    #[error("the assurance {level} is not between 0 and 3")]
    Assurance { level: u8 },
    #[error("the assurance is of `{of}` and must be of `host` or `key`")]
    AssuranceOf { of: String },
    #[error("the claim `{claim}` is declared by no attestor")]
    UndeclaredClaim { claim: String },
    #[error("the claim `{claim}` has another type than its attestor declared")]
    ClaimType { claim: String },
    /// The key `a=b` would be read as the key `a` in `key=value`.
    #[error("the key `{key}` of a label or attribute contains `=`")]
    Key { key: String },
    #[error("the question does not fit the schema: {0}")]
    Question(String),
    #[error("a fact cannot be represented: {0}")]
    Value(String),
}
