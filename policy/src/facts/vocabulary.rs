//! Converts facts to entities of the schema.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use super::{
    Approval, Ask, BadFacts, Claim, ClaimDecl, ClaimType, Machine, Newcomer, Person, Principal, Resource, Token,
};
use crate::rules::Reads;

/// An [`Ask`] in Cedar's types.
pub(crate) struct Built {
    pub principal: EntityUid,
    pub resource: EntityUid,
    pub entities: Vec<Entity>,
    pub context: Context,
}

/// The attributes of an entity, as far as rules read them.
struct Attributes<'a> {
    reads: &'a Reads,
    values: HashMap<String, RestrictedExpression>,
}

impl<'a> Attributes<'a> {
    fn new(reads: &'a Reads) -> Self {
        Self { reads, values: HashMap::new() }
    }

    /// Adds an attribute if a rule reads it.
    fn put(&mut self, name: &str, value: impl FnOnce() -> RestrictedExpression) {
        if self.reads.contains(name) {
            self.values.insert(name.to_owned(), value());
        }
    }

    /// The same, of a value that may be impossible.
    fn try_put(
        &mut self,
        name: &str,
        value: impl FnOnce() -> Result<RestrictedExpression, BadFacts>,
    ) -> Result<(), BadFacts> {
        if self.reads.contains(name) {
            self.values.insert(name.to_owned(), value()?);
        }
        Ok(())
    }
}

/// The entity and type names of the schema, parsed once, and the claims that attestors declared.
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
    claims: HashMap<String, ClaimType>,
}

impl Vocabulary {
    /// `None` only if a name below is not valid in Cedar, which a test rules out.
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
            claims: claims.iter().map(|claim| (claim.name.to_string(), claim.kind)).collect(),
        })
    }

    /// The types of principal and resource.
    pub(crate) fn types(&self, ask: &Ask) -> (&EntityTypeName, &EntityTypeName) {
        let principal = match &ask.principal {
            Principal::Newcomer(_) => &self.newcomer,
            Principal::Machine(_) => &self.machine,
            Principal::Person(_) => &self.person,
        };
        let resource = match &ask.resource {
            Resource::Gateway => self.gateway.type_name(),
            Resource::Token(_) => self.token.type_name(),
            Resource::Request(_) => &self.request,
            Resource::Machine(_) => &self.machine,
            Resource::Person(_) => &self.person,
            Resource::Service(_) => &self.service,
        };
        (principal, resource)
    }

    /// Converts a question, with the attributes that rules read. All facts are checked.
    pub(crate) fn build(&self, ask: &Ask, reads: &Reads) -> Result<Built, BadFacts> {
        let mut entities = Vec::with_capacity(3);
        let principal = match &ask.principal {
            Principal::Newcomer(newcomer) => {
                let id = uid(&self.newcomer, &newcomer.key);
                add(&mut entities, &id, self.newcomer(newcomer, reads)?, HashSet::new())?;
                id
            }
            Principal::Machine(machine) => self.add_machine(&mut entities, machine, reads)?,
            Principal::Person(person) => self.add_person(&mut entities, person, reads)?,
        };
        let resource = match &ask.resource {
            Resource::Gateway => self.gateway.clone(),
            Resource::Token(token) => {
                add(&mut entities, &self.token, self.token_facts(token, reads)?, HashSet::new())?;
                self.token.clone()
            }
            Resource::Request(request) => {
                let id = uid(&self.request, &request.id);
                let mut attributes = self.newcomer(&request.newcomer, reads)?;
                attributes.put("id", || text(&request.id));
                attributes.put("approvals_wanted", || number(request.approvals_wanted.into()));
                if let Some(approval) = &request.approval {
                    check_keys(&approval.labels)?;
                    attributes.try_put("approval", || self.approval(approval))?;
                }
                add(&mut entities, &id, attributes, HashSet::new())?;
                id
            }
            Resource::Machine(machine) => self.add_machine(&mut entities, machine, reads)?,
            Resource::Person(person) => self.add_person(&mut entities, person, reads)?,
            Resource::Service(service) => {
                let machine = self.add_machine(&mut entities, &service.machine, reads)?;
                let id = uid(&self.service, &format!("{}@{}", service.name, service.machine.name));
                let mut attributes = Attributes::new(reads);
                attributes.put("name", || text(&service.name));
                attributes.put("machine", || RestrictedExpression::new_entity_uid(machine));
                add(&mut entities, &id, attributes, HashSet::new())?;
                id
            }
        };
        Ok(Built { principal, resource, entities, context: clock(ask.now)? })
    }

    fn add_machine(&self, entities: &mut Vec<Entity>, machine: &Machine, reads: &Reads) -> Result<EntityUid, BadFacts> {
        check_keys(&machine.labels)?;
        check_assurance(machine.assurance)?;
        self.check_claims(&machine.claims)?;
        let mut attributes = Attributes::new(reads);
        attributes.put("name", || text(&machine.name));
        if let Some(owner) = &machine.owner {
            attributes.put("owner", || self.person_ref(owner));
        }
        attributes.put("labels", || pairs(&machine.labels));
        attributes.put("assurance", || number(machine.assurance.into()));
        assured_of(&mut attributes, machine.assurance_of.as_deref())?;
        attributes.put("locked", || RestrictedExpression::new_bool(machine.locked));
        attributes.put("forked", || RestrictedExpression::new_bool(machine.forked));
        attributes.put("lineage_age", || number(machine.lineage_age));
        if let Some(person) = &machine.admitted_by {
            attributes.put("admitted_by", || self.person_ref(person));
        }
        attributes.try_put("claims", || claims(&machine.claims))?;
        let id = uid(&self.machine, &machine.name);
        add(entities, &id, attributes, HashSet::new())?;
        Ok(id)
    }

    fn add_person(&self, entities: &mut Vec<Entity>, person: &Person, reads: &Reads) -> Result<EntityUid, BadFacts> {
        let mut attributes = Attributes::new(reads);
        attributes.put("name", || text(&person.name));
        attributes.put("locked", || RestrictedExpression::new_bool(person.locked));
        let groups = person.groups.iter().map(|group| uid(&self.group, group)).collect();
        let id = uid(&self.person, &person.name);
        add(entities, &id, attributes, groups)?;
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
            ("labels".to_owned(), pairs(&approval.labels)),
            ("code_checked".to_owned(), RestrictedExpression::new_bool(approval.code_checked)),
        ];
        if let Some(owner) = &approval.owner {
            fields.push(("owner".to_owned(), self.person_ref(owner)));
        }
        RestrictedExpression::new_record(fields).map_err(|error| BadFacts::Value(error.to_string()))
    }

    fn token_facts<'a>(&self, token: &Token, reads: &'a Reads) -> Result<Attributes<'a>, BadFacts> {
        check_keys(&token.labels)?;
        let role = self.role(&token.role)?;
        let mut attributes = Attributes::new(reads);
        attributes.put("role", || role);
        attributes.put("names", || texts(&token.names));
        attributes.put("groups", || texts(&token.groups));
        attributes.put("labels", || pairs(&token.labels));
        attributes.put("uses", || number(token.uses.into()));
        if let Some(owner) = &token.owner {
            attributes.put("owner", || self.person_ref(owner));
        }
        Ok(attributes)
    }

    fn newcomer<'a>(&self, newcomer: &Newcomer, reads: &'a Reads) -> Result<Attributes<'a>, BadFacts> {
        check_keys(&newcomer.attributes)?;
        check_assurance(newcomer.assurance)?;
        self.check_claims(&newcomer.claims)?;
        let role = self.role(&newcomer.role)?;
        let mut attributes = Attributes::new(reads);
        attributes.put("key", || text(&newcomer.key));
        attributes.put("role", || role);
        if let Some(name) = &newcomer.wanted_name {
            attributes.put("wanted_name", || text(name));
        }
        attributes.put("assurance", || number(newcomer.assurance.into()));
        assured_of(&mut attributes, newcomer.assurance_of.as_deref())?;
        attributes.try_put("claims", || claims(&newcomer.claims))?;
        attributes.put("self_reported", || pairs(&newcomer.attributes));
        if let Some(source) = newcomer.source {
            // A rule about 192.0.2.1 also applies to ::ffff:192.0.2.1.
            attributes.put("source", || RestrictedExpression::new_ip(source.to_canonical().to_string()));
        }
        attributes.put("known", || RestrictedExpression::new_bool(newcomer.known));
        attributes.put("same_device", || RestrictedExpression::new_bool(newcomer.same_device));
        Ok(attributes)
    }

    fn check_claims(&self, claims: &BTreeMap<String, Claim>) -> Result<(), BadFacts> {
        for (name, claim) in claims {
            match self.claims.get(name.as_str()) {
                None => return Err(BadFacts::UndeclaredClaim { claim: name.clone() }),
                Some(kind) if *kind != claim.kind() => {
                    return Err(BadFacts::ClaimType { claim: name.clone() });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn person_ref(&self, name: &str) -> RestrictedExpression {
        RestrictedExpression::new_entity_uid(uid(&self.person, name))
    }
}

/// Adds an entity, unless it exists: principal and resource may be the same.
fn add(
    entities: &mut Vec<Entity>,
    id: &EntityUid,
    attributes: Attributes<'_>,
    parents: HashSet<EntityUid>,
) -> Result<(), BadFacts> {
    if entities.iter().any(|entity| &entity.uid() == id) {
        return Ok(());
    }
    let entity =
        Entity::new(id.clone(), attributes.values, parents).map_err(|error| BadFacts::Value(error.to_string()))?;
    entities.push(entity);
    Ok(())
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

/// Cedar's numbers are signed with 64 bits; larger values saturate.
fn number(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn check_assurance(level: u8) -> Result<(), BadFacts> {
    if level <= 3 { Ok(()) } else { Err(BadFacts::Assurance { level }) }
}

fn claims(claims: &BTreeMap<String, Claim>) -> Result<RestrictedExpression, BadFacts> {
    let fields = claims.iter().map(|(name, claim)| {
        let value = match claim {
            Claim::Text(value) => text(value),
            Claim::Bool(value) => RestrictedExpression::new_bool(*value),
            Claim::Number(value) => RestrictedExpression::new_long(*value),
        };
        (name.clone(), value)
    });
    RestrictedExpression::new_record(fields).map_err(|error| BadFacts::Value(error.to_string()))
}

/// A key with `=` would be read as another key, see [`pairs`].
fn check_keys(pairs: &BTreeMap<String, String>) -> Result<(), BadFacts> {
    match pairs.keys().find(|key| key.contains('=')) {
        Some(key) => Err(BadFacts::Key { key: key.clone() }),
        None => Ok(()),
    }
}

/// What the assurance is of, if that is known.
fn assured_of(attributes: &mut Attributes<'_>, of: Option<&str>) -> Result<(), BadFacts> {
    match of {
        None => Ok(()),
        Some(of @ ("host" | "key")) => {
            attributes.put("assurance_of", || text(of));
            Ok(())
        }
        Some(of) => Err(BadFacts::AssuranceOf { of: of.to_owned() }),
    }
}

/// `key=value` for each pair.
fn pairs(pairs: &BTreeMap<String, String>) -> RestrictedExpression {
    let set = pairs.iter().map(|(key, value)| RestrictedExpression::new_string(format!("{key}={value}")));
    RestrictedExpression::new_set(set)
}

fn clock(now: u64) -> Result<Context, BadFacts> {
    let hour = now / 3_600 % 24;
    // 1970-01-01 was a Thursday, day 4.
    let weekday = (now / 86_400 + 3) % 7 + 1;
    let pairs =
        [("now".to_owned(), number(now)), ("hour".to_owned(), number(hour)), ("weekday".to_owned(), number(weekday))];
    Context::from_pairs(pairs).map_err(|error| BadFacts::Value(error.to_string()))
}
