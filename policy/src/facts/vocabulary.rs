//! Converts facts to entities of the schema.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use super::{
    Approval, Ask, BadFacts, Claim, ClaimDecl, ClaimType, Machine, Newcomer, Person, Principal, Resource, Token,
};

/// An [`Ask`] in Cedar's types.
pub(crate) struct Built {
    pub principal: EntityUid,
    pub resource: EntityUid,
    pub entities: Vec<Entity>,
    pub context: Context,
}

type Attributes = HashMap<String, RestrictedExpression>;

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

    /// Adds an entity, unless it exists: principal and resource may be the same.
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
        let mut attributes = Attributes::with_capacity(10);
        attributes.insert("name".into(), text(&machine.name));
        if let Some(owner) = &machine.owner {
            attributes.insert("owner".into(), self.person_ref(owner));
        }
        attributes.insert("labels".into(), pairs(&machine.labels)?);
        attributes.insert("assurance".into(), assurance(machine.assurance)?);
        assured_of(&mut attributes, machine.assurance_of.as_deref())?;
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
        let mut attributes = Attributes::with_capacity(12);
        attributes.insert("key".into(), text(&newcomer.key));
        attributes.insert("role".into(), self.role(&newcomer.role)?);
        if let Some(name) = &newcomer.wanted_name {
            attributes.insert("wanted_name".into(), text(name));
        }
        attributes.insert("assurance".into(), assurance(newcomer.assurance)?);
        assured_of(&mut attributes, newcomer.assurance_of.as_deref())?;
        attributes.insert("claims".into(), self.claims(&newcomer.claims)?);
        attributes.insert("self_reported".into(), pairs(&newcomer.attributes)?);
        if let Some(source) = newcomer.source {
            // A rule about 192.0.2.1 also applies to ::ffff:192.0.2.1.
            let source = source.to_canonical().to_string();
            attributes.insert("source".into(), RestrictedExpression::new_ip(source));
        }
        attributes.insert("known".into(), RestrictedExpression::new_bool(newcomer.known));
        attributes.insert("same_device".into(), RestrictedExpression::new_bool(newcomer.same_device));
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

/// Cedar's numbers are signed with 64 bits; larger values saturate.
fn number(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn assurance(level: u8) -> Result<RestrictedExpression, BadFacts> {
    match level {
        0..=3 => Ok(RestrictedExpression::new_long(i64::from(level))),
        _ => Err(BadFacts::Assurance { level }),
    }
}

/// What the assurance is of, if that is known.
fn assured_of(attributes: &mut Attributes, of: Option<&str>) -> Result<(), BadFacts> {
    match of {
        None => Ok(()),
        Some(of @ ("host" | "key")) => {
            attributes.insert("assurance_of".into(), text(of));
            Ok(())
        }
        Some(of) => Err(BadFacts::AssuranceOf { of: of.to_owned() }),
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
    // 1970-01-01 was a Thursday, day 4.
    let weekday = (now / 86_400 + 3) % 7 + 1;
    let pairs =
        [("now".to_owned(), number(now)), ("hour".to_owned(), number(hour)), ("weekday".to_owned(), number(weekday))];
    Context::from_pairs(pairs).map_err(|error| BadFacts::Value(error.to_string()))
}
