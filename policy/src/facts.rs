//! What a rule can see: typed facts, and how they become Cedar entities.
//!
//! Entities are built directly, without JSON, and are not checked against the schema for each
//! request: their shape is fixed here, and a test holds it against the schema. What is not fixed
//! here (claims, roles, keys) is checked as it is converted, and a bad fact denies.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClaimDecl {
    /// `[a-z][a-z0-9_]*`.
    pub name: &'static str,
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

/// What an [`Ask`] is for Cedar.
pub(crate) struct Built {
    pub principal: EntityUid,
    pub resource: EntityUid,
    pub entities: Vec<Entity>,
    pub context: Context,
}

type Attributes = HashMap<String, RestrictedExpression>;

/// The names of the schema, parsed once, and the claims that attestors declared.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    newcomer: EntityTypeName,
    request: EntityTypeName,
    machine: EntityTypeName,
    person: EntityTypeName,
    group: EntityTypeName,
    service: EntityTypeName,
    gateway: EntityUid,
    token: EntityUid,
    role_machine: EntityUid,
    role_person: EntityUid,
    claims: HashMap<&'static str, ClaimType>,
}

impl Vocabulary {
    /// `None` only if a name below is not a Cedar name, which a test rules out.
    pub(crate) fn new(claims: &[ClaimDecl]) -> Option<Self> {
        let name = |text: &str| format!("Lychgate::{text}").parse::<EntityTypeName>().ok();
        Some(Self {
            newcomer: name("Newcomer")?,
            request: name("Request")?,
            machine: name("Machine")?,
            person: name("Person")?,
            group: name("Group")?,
            service: name("Service")?,
            gateway: uid(&name("Gateway")?, "gateway"),
            token: uid(&name("Token")?, "token"),
            role_machine: uid(&name("Role")?, "machine"),
            role_person: uid(&name("Role")?, "person"),
            claims: claims.iter().map(|claim| (claim.name, claim.kind)).collect(),
        })
    }

    /// Converts a question.
    pub(crate) fn build(&self, ask: &Ask) -> Result<Built, BadFacts> {
        let mut entities = Vec::with_capacity(3);
        let principal = match &ask.principal {
            Principal::Newcomer(newcomer) => {
                let id = uid(&self.newcomer, &newcomer.key);
                self.add(&mut entities, &id, self.newcomer(newcomer)?, HashSet::new())?;
                id
            }
            Principal::Machine(machine) => self.add_machine(&mut entities, machine)?,
            Principal::Person(person) => self.add_person(&mut entities, person)?,
        };
        let resource = match &ask.resource {
            Resource::Gateway => self.gateway.clone(),
            Resource::Token(token) => {
                self.add(&mut entities, &self.token, self.token_facts(token)?, HashSet::new())?;
                self.token.clone()
            }
            Resource::Request(request) => {
                let id = uid(&self.request, &request.id);
                let mut attributes = self.newcomer(&request.newcomer)?;
                attributes.insert("id".into(), text(&request.id));
                attributes.insert("approvals_wanted".into(), number(request.approvals_wanted.into()));
                if let Some(approval) = &request.approval {
                    attributes.insert("approval".into(), self.approval(approval)?);
                }
                self.add(&mut entities, &id, attributes, HashSet::new())?;
                id
            }
            Resource::Machine(machine) => self.add_machine(&mut entities, machine)?,
            Resource::Person(person) => self.add_person(&mut entities, person)?,
            Resource::Service(service) => {
                let machine = self.add_machine(&mut entities, &service.machine)?;
                let id = uid(&self.service, &format!("{}@{}", service.name, service.machine.name));
                let mut attributes = Attributes::with_capacity(2);
                attributes.insert("name".into(), text(&service.name));
                attributes.insert("machine".into(), RestrictedExpression::new_entity_uid(machine));
                self.add(&mut entities, &id, attributes, HashSet::new())?;
                id
            }
        };
        Ok(Built { principal, resource, entities, context: clock(ask.now)? })
    }

    /// Adds an entity, unless it is there: whoever asks about themselves is described once.
    fn add(
        &self,
        entities: &mut Vec<Entity>,
        id: &EntityUid,
        attributes: Attributes,
        parents: HashSet<EntityUid>,
    ) -> Result<(), BadFacts> {
        if entities.iter().any(|entity| &entity.uid() == id) {
            return Ok(());
        }
        let entity =
            Entity::new(id.clone(), attributes, parents).map_err(|error| BadFacts::Value(error.to_string()))?;
        entities.push(entity);
        Ok(())
    }

    fn add_machine(&self, entities: &mut Vec<Entity>, machine: &Machine) -> Result<EntityUid, BadFacts> {
        let mut attributes = Attributes::with_capacity(9);
        attributes.insert("name".into(), text(&machine.name));
        if let Some(owner) = &machine.owner {
            attributes.insert("owner".into(), self.person_ref(owner));
        }
        attributes.insert("labels".into(), pairs(&machine.labels)?);
        attributes.insert("assurance".into(), assurance(machine.assurance)?);
        attributes.insert("locked".into(), RestrictedExpression::new_bool(machine.locked));
        attributes.insert("forked".into(), RestrictedExpression::new_bool(machine.forked));
        attributes.insert("lineage_age".into(), number(machine.lineage_age));
        if let Some(person) = &machine.admitted_by {
            attributes.insert("admitted_by".into(), self.person_ref(person));
        }
        attributes.insert("claims".into(), self.claims(&machine.claims)?);
        let id = uid(&self.machine, &machine.name);
        self.add(entities, &id, attributes, HashSet::new())?;
        Ok(id)
    }

    fn add_person(&self, entities: &mut Vec<Entity>, person: &Person) -> Result<EntityUid, BadFacts> {
        let mut attributes = Attributes::with_capacity(2);
        attributes.insert("name".into(), text(&person.name));
        attributes.insert("locked".into(), RestrictedExpression::new_bool(person.locked));
        let groups = person.groups.iter().map(|group| uid(&self.group, group)).collect();
        let id = uid(&self.person, &person.name);
        self.add(entities, &id, attributes, groups)?;
        Ok(id)
    }

    fn role(&self, role: &str) -> Result<RestrictedExpression, BadFacts> {
        match role {
            "machine" => Ok(RestrictedExpression::new_entity_uid(self.role_machine.clone())),
            "person" => Ok(RestrictedExpression::new_entity_uid(self.role_person.clone())),
            _ => Err(BadFacts::Role { role: role.to_owned() }),
        }
    }

    fn approval(&self, approval: &Approval) -> Result<RestrictedExpression, BadFacts> {
        let mut fields = vec![
            ("name".to_owned(), text(&approval.name)),
            ("labels".to_owned(), pairs(&approval.labels)?),
            ("code_checked".to_owned(), RestrictedExpression::new_bool(approval.code_checked)),
        ];
        if let Some(owner) = &approval.owner {
            fields.push(("owner".to_owned(), self.person_ref(owner)));
        }
        RestrictedExpression::new_record(fields).map_err(|error| BadFacts::Value(error.to_string()))
    }

    fn token_facts(&self, token: &Token) -> Result<Attributes, BadFacts> {
        let mut attributes = Attributes::with_capacity(6);
        attributes.insert("role".into(), self.role(&token.role)?);
        attributes.insert("names".into(), texts(&token.names));
        attributes.insert("groups".into(), texts(&token.groups));
        attributes.insert("labels".into(), pairs(&token.labels)?);
        attributes.insert("uses".into(), number(token.uses.into()));
        if let Some(owner) = &token.owner {
            attributes.insert("owner".into(), self.person_ref(owner));
        }
        Ok(attributes)
    }

    fn newcomer(&self, newcomer: &Newcomer) -> Result<Attributes, BadFacts> {
        let mut attributes = Attributes::with_capacity(10);
        attributes.insert("key".into(), text(&newcomer.key));
        attributes.insert("role".into(), self.role(&newcomer.role)?);
        if let Some(name) = &newcomer.wanted_name {
            attributes.insert("wanted_name".into(), text(name));
        }
        attributes.insert("assurance".into(), assurance(newcomer.assurance)?);
        attributes.insert("claims".into(), self.claims(&newcomer.claims)?);
        attributes.insert("self_reported".into(), pairs(&newcomer.attributes)?);
        if let Some(source) = newcomer.source {
            // ::ffff:192.0.2.1 is 192.0.2.1 to whoever writes a rule.
            let source = source.to_canonical().to_string();
            attributes.insert("source".into(), RestrictedExpression::new_ip(source));
        }
        attributes.insert("known".into(), RestrictedExpression::new_bool(newcomer.known));
        Ok(attributes)
    }

    fn claims(&self, claims: &BTreeMap<String, Claim>) -> Result<RestrictedExpression, BadFacts> {
        let mut fields = Vec::with_capacity(claims.len());
        for (name, claim) in claims {
            match self.claims.get(name.as_str()) {
                None => return Err(BadFacts::UndeclaredClaim { claim: name.clone() }),
                Some(kind) if *kind != claim.kind() => {
                    return Err(BadFacts::ClaimType { claim: name.clone() });
                }
                Some(_) => {}
            }
            let value = match claim {
                Claim::Text(value) => text(value),
                Claim::Bool(value) => RestrictedExpression::new_bool(*value),
                Claim::Number(value) => RestrictedExpression::new_long(*value),
            };
            fields.push((name.clone(), value));
        }
        RestrictedExpression::new_record(fields).map_err(|error| BadFacts::Value(error.to_string()))
    }

    fn person_ref(&self, name: &str) -> RestrictedExpression {
        RestrictedExpression::new_entity_uid(uid(&self.person, name))
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts(values: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
}

/// Cedar has 64-bit signed numbers; what does not fit is as far away as can be said.
fn number(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn assurance(level: u8) -> Result<RestrictedExpression, BadFacts> {
    match level {
        0..=3 => Ok(RestrictedExpression::new_long(i64::from(level))),
        _ => Err(BadFacts::Assurance { level }),
    }
}

/// `key=value` for each pair.
fn pairs(pairs: &BTreeMap<String, String>) -> Result<RestrictedExpression, BadFacts> {
    if let Some(key) = pairs.keys().find(|key| key.contains('=')) {
        return Err(BadFacts::Key { key: key.clone() });
    }
    let set = pairs.iter().map(|(key, value)| RestrictedExpression::new_string(format!("{key}={value}")));
    Ok(RestrictedExpression::new_set(set))
}

fn clock(now: u64) -> Result<Context, BadFacts> {
    let hour = now / 3_600 % 24;
    // The epoch began on a Thursday, the fourth day.
    let weekday = (now / 86_400 + 3) % 7 + 1;
    let pairs =
        [("now".to_owned(), number(now)), ("hour".to_owned(), number(hour)), ("weekday".to_owned(), number(weekday))];
    Context::from_pairs(pairs).map_err(|error| BadFacts::Value(error.to_string()))
}
