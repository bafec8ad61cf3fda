//! Parses and validates policy text into a [`Ruleset`]. Every complaint has a line and a column.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use cedar_policy::{
    ActionConstraint, Authorizer, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint,
    RequestEnv, ResourceConstraint, Schema, ValidationError, ValidationMode, ValidationWarning, Validator,
};
use sha2::{Digest, Sha256};

use crate::complaint::{Complaint, did_you_mean};
use crate::facts::{Action, ClaimDecl, Vocabulary};
use crate::grant::Reattest;
use crate::principals::Principals;

pub(crate) use reads::Reads;

mod advice;
mod annotations;
mod bounds;
mod names;
mod reads;
#[cfg(test)]
pub(crate) mod tests;

/// One policy file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// File name in complaints.
    pub name: &'a str,
    /// Cedar source.
    pub text: &'a str,
}

/// The position of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The name of the [`Source`].
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A rule's place and obligations.
#[derive(Debug)]
pub(crate) struct Rule {
    pub place: Place,
    pub lifetime: Option<Duration>,
    pub approvals: Option<u32>,
    pub reattest: Option<Reattest>,
    /// Empty without the annotation.
    pub principals: Principals,
}

/// The rules of one action.
pub(crate) struct ForAction {
    pub uid: EntityUid,
    /// One for each combination of types that the schema allows for the action.
    for_types: Vec<ForTypes>,
}

/// The rules of one action that can apply to one type of principal and of resource.
pub(crate) struct ForTypes {
    principal: EntityTypeName,
    resource: EntityTypeName,
    /// No others: evaluation is linear in their number.
    pub policies: PolicySet,
    /// The attributes that they read.
    pub reads: Reads,
}

impl ForAction {
    /// The rules for these types; `None` if the schema does not allow the combination.
    pub fn of(&self, principal: &EntityTypeName, resource: &EntityTypeName) -> Option<&ForTypes> {
        self.for_types.iter().find(|types| types.principal == *principal && types.resource == *resource)
    }
}

/// Validated rules.
pub struct Ruleset {
    #[cfg(test)]
    schema: Schema,
    vocabulary: Vocabulary,
    authorizer: Authorizer,
    by_action: HashMap<Action, ForAction>,
    rules: BTreeMap<String, Rule>,
    groups: BTreeSet<String>,
    advice: Vec<Complaint>,
    digest: String,
}

impl fmt::Debug for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ruleset").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// A parsed rule that is not validated yet.
struct Draft<'a> {
    source: Source<'a>,
    policy: Policy,
    /// Byte offset of the rule in its source.
    start: usize,
}

impl Draft<'_> {
    fn complain(&self, message: impl Into<String>) -> Complaint {
        Complaint::at(self.source.name, self.source.text, self.start, message)
    }
}

impl Ruleset {
    /// Loads rules from files, together. `claims` are those of all attestors in use.
    ///
    /// # Errors
    /// All complaints, in the order of the files.
    pub fn load(sources: &[Source<'_>], claims: &[ClaimDecl]) -> Result<Self, Vec<Complaint>> {
        // The caller's stack may be too small for Cedar, see `bounds::STACK`.
        stacker::grow(bounds::STACK, || Self::load_here(sources, claims))
    }

    fn load_here(sources: &[Source<'_>], claims: &[ClaimDecl]) -> Result<Self, Vec<Complaint>> {
        let (schema_text, schema) = schema(claims)?;
        let mut complaints = Vec::new();
        let mut drafts = Vec::new();
        for source in sources {
            match parse(*source) {
                Ok(parsed) => drafts.extend(parsed),
                Err(wrong) => complaints.extend(wrong),
            }
        }
        if drafts.len() > bounds::RULES_MAX {
            let message = format!("there are more than {} rules", bounds::RULES_MAX);
            complaints.extend(drafts.get(bounds::RULES_MAX).map(|rule| rule.complain(message)));
            return Err(complaints);
        }
        let actions = actions();
        let rules = annotations::read(&drafts, &actions, &mut complaints);
        names::check(&drafts, &schema_text, claims, &mut complaints);
        let enroll = actions.iter().find(|(action, _)| *action == Action::Enroll).map(|(_, uid)| uid);
        let advice = in_order(advice::give(&drafts, enroll), sources);
        let drafts = name(drafts);
        let set = validate(&drafts, &schema, &mut complaints);
        if !complaints.is_empty() {
            return Err(in_order(complaints, sources));
        }
        let vocabulary = Vocabulary::new(claims);
        match (vocabulary, by_action(&set, &actions, &schema)) {
            (Some(vocabulary), Some(by_action)) => Ok(Self {
                #[cfg(test)]
                schema,
                vocabulary,
                authorizer: Authorizer::new(),
                by_action,
                rules,
                groups: groups(&set),
                advice,
                digest: digest(&schema_text, sources),
            }),
            // Tests rule out both; refusing is the safe result.
            _ => Err(vec![builtin("the rules could not be indexed")]),
        }
    }

    /// The `@id` of every rule, sorted.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.keys().map(String::as_str)
    }

    /// The groups that rules name, sorted. Other groups have no effect.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    /// Warnings for the author of the rules, see `rules/advice.rs`.
    #[must_use]
    pub fn advice(&self) -> &[Complaint] {
        &self.advice
    }

    /// Position of the rule with this `@id`.
    #[must_use]
    pub fn place(&self, rule: &str) -> Option<&Place> {
        self.rules.get(rule).map(|rule| &rule.place)
    }

    /// SHA-256, in hex, of the schema and the text of all files in order. Identifies the policy in audit events.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id)
    }

    #[cfg(test)]
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    pub(crate) fn for_action(&self, action: Action) -> Option<&ForAction> {
        self.by_action.get(&action)
    }
}

/// The schema with the claims of the attestors.
///
/// # Errors
/// When two attestors declare one claim with different types, or a claim has an invalid name.
pub fn schema_text(claims: &[ClaimDecl]) -> Result<String, Vec<Complaint>> {
    schema(claims).map(|(text, _)| text)
}

/// The groups that rules name.
fn groups(set: &PolicySet) -> BTreeSet<String> {
    let entities = set.policies().flat_map(Policy::entity_literals);
    let groups = entities.filter(|entity| entity.type_name().basename() == "Group");
    groups.map(|group| group.id().unescaped().to_owned()).collect()
}

/// The schema with the claims of the attestors in it.
fn schema(claims: &[ClaimDecl]) -> Result<(String, Schema), Vec<Complaint>> {
    let mut declared: BTreeMap<&str, &ClaimDecl> = BTreeMap::new();
    let mut complaints = Vec::new();
    for claim in claims {
        let mut bytes = claim.name.bytes();
        let good = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !good {
            complaints.push(builtin(&format!(
                "the claim `{}` must be lower-case letters, digits and `_`, a letter first",
                claim.name.escape_debug()
            )));
        } else if declared.insert(&claim.name, claim).is_some_and(|other| other != claim) {
            complaints.push(builtin(&format!("two attestors declare the claim `{}` with different types", claim.name)));
        }
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    let lines: Vec<String> =
        declared.values().map(|claim| format!("\"{}\"?: {},", claim.name, claim.kind.in_schema())).collect();
    let text = crate::SCHEMA.replacen("// <claims>", &lines.join("\n    "), 1);
    match Schema::from_cedarschema_str(&text) {
        Ok((schema, _)) => Ok((text, schema)),
        Err(error) => Err(vec![builtin(&format!("the schema does not load: {error}"))]),
    }
}

/// A complaint about the built-in schema, not about a policy file.
fn builtin(message: &str) -> Complaint {
    Complaint::at("schema.cedarschema", "", 0, message)
}

fn actions() -> Vec<(Action, EntityUid)> {
    Action::ALL
        .into_iter()
        .filter_map(|action| {
            let uid = format!("Lychgate::Action::\"{action}\"").parse().ok()?;
            Some((action, uid))
        })
        .collect()
}

fn parse(source: Source<'_>) -> Result<Vec<Draft<'_>>, Vec<Complaint>> {
    bounds::check(source).map_err(|complaint| vec![complaint])?;
    let set: PolicySet = source.text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        errors.iter().map(|error| Complaint::from_cedar(source.name, source.text, 0, error)).collect::<Vec<_>>()
    })?;
    let templates: Vec<Complaint> = set
        .templates()
        .map(|template| {
            // Cedar gives the location only in its own syntax tree.
            let start = template.as_ref().loc().map_or(0, |loc| loc.span.offset());
            Complaint::at(source.name, source.text, start, "a rule cannot have slots")
                .hint("write the entity instead of `?principal` or `?resource`")
        })
        .collect();
    if !templates.is_empty() {
        return Err(templates);
    }
    let mut drafts: Vec<Draft<'_>> = set
        .policies()
        .map(|policy| {
            let start = policy.as_ref().loc().map_or(0, |loc| loc.span.offset());
            Draft { source, policy: policy.clone(), start }
        })
        .collect();
    drafts.sort_by_key(|draft| draft.start);
    Ok(drafts)
}

/// Sets each policy's Cedar id to its `@id`, which decisions and Cedar's complaints then contain. A rule with a missing or repeated
/// id has a complaint already, and is still validated under an id made from its position.
fn name(drafts: Vec<Draft<'_>>) -> Vec<Draft<'_>> {
    let mut seen = std::collections::HashSet::new();
    drafts
        .into_iter()
        .enumerate()
        .map(|(index, draft)| {
            let id = match draft.policy.annotation("id") {
                Some(id) if !id.is_empty() && seen.insert(id.to_owned()) => id.to_owned(),
                _ => format!("rule {} of {}", index + 1, draft.source.name),
            };
            Draft { policy: draft.policy.new_id(PolicyId::new(id)), ..draft }
        })
        .collect()
}

/// Strict validation of all rules together. Warnings are complaints too: a rule that can never apply, or contains confusable
/// characters, is a mistake.
fn validate(drafts: &[Draft<'_>], schema: &Schema, complaints: &mut Vec<Complaint>) -> PolicySet {
    let mut set = PolicySet::new();
    for draft in drafts {
        if let Err(error) = set.add(draft.policy.clone()) {
            complaints.push(draft.complain(error.to_string()));
        }
    }
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result.validation_errors().map(|error| Found {
        rule: error.policy_id(),
        vague: matches!(error, ValidationError::InvalidActionApplication(_)),
        hint: matches!(error, ValidationError::UnrecognizedActionId(_)).then(|| which_action(&error.to_string())),
        diagnostic: error,
    });
    let warnings = result.validation_warnings().map(|warning| Found {
        rule: warning.policy_id(),
        vague: matches!(
            warning,
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
        ),
        hint: None,
        diagnostic: warning,
    });
    let mut found: Vec<Found<'_>> = errors.chain(warnings).collect();
    found.sort_by_key(|found| found.vague);
    for (index, found_here) in found.iter().enumerate() {
        let earlier = found.iter().take(index);
        complaints.extend(found_here.complaint(earlier, drafts));
    }
    set
}

/// A finding of Cedar's validator.
struct Found<'a> {
    rule: &'a PolicyId,
    vague: bool,
    /// Replaces Cedar's hint.
    hint: Option<String>,
    diagnostic: &'a dyn miette::Diagnostic,
}

impl Found<'_> {
    /// `None` for "this rule can never apply" when the rule has another finding, from which that follows.
    fn complaint<'a>(
        &self,
        mut earlier: impl Iterator<Item = &'a Found<'a>>,
        drafts: &[Draft<'_>],
    ) -> Option<Complaint> {
        if self.vague && earlier.any(|other| other.rule == self.rule) {
            return None;
        }
        let Some(draft) = drafts.iter().find(|draft| draft.policy.id() == self.rule) else {
            return Some(builtin(&self.diagnostic.to_string()));
        };
        let Source { name, text } = draft.source;
        let complaint = Complaint::from_cedar(name, text, draft.start, self.diagnostic);
        Some(match &self.hint {
            Some(hint) => complaint.hint(hint),
            None => complaint,
        })
    }
}

/// A hint for an unknown action. Cedar's own suggests an action even if none is close, and not always the same one.
fn which_action(message: &str) -> String {
    let typed = message.split('"').nth(1).unwrap_or_default();
    let actions = Action::ALL.map(Action::as_str);
    if actions.contains(&typed) {
        return format!("write `Lychgate::Action::\"{typed}\"`");
    }
    did_you_mean(typed, actions.into_iter()).unwrap_or_else(|| format!("the actions are {}", actions.join(", ")))
}

/// Sorts complaints by position and removes duplicates: Cedar reports in the order of its hash maps.
fn in_order(mut complaints: Vec<Complaint>, sources: &[Source<'_>]) -> Vec<Complaint> {
    complaints.sort_by_cached_key(|complaint| {
        let file = sources.iter().position(|source| source.name == complaint.file);
        (file, complaint.line, complaint.column, complaint.message.clone())
    });
    complaints.dedup();
    complaints
}

/// Whether a rule's scope names an action, instead of including all actions.
fn names_action(policy: &Policy, action: &EntityUid) -> bool {
    !matches!(policy.action_constraint(), ActionConstraint::Any) && covers(policy, action)
}

/// Whether a rule's scope includes an action. The schema has no action groups, so `in` lists actions.
fn covers(policy: &Policy, action: &EntityUid) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(only) => only == *action,
        ActionConstraint::In(list) => list.contains(action),
    }
}

fn by_action(set: &PolicySet, actions: &[(Action, EntityUid)], schema: &Schema) -> Option<HashMap<Action, ForAction>> {
    let rules: Vec<(&Policy, BTreeSet<String>)> =
        set.policies().map(|policy| Some((policy, reads::of(policy)?))).collect::<Option<_>>()?;
    let for_types = |env: &RequestEnv| {
        let (principal, resource) = (env.principal(), env.resource());
        let applies = |policy: &Policy| covers(policy, env.action()) && is_about(policy, principal, resource);
        let rules: Vec<_> = rules.iter().filter(|(policy, _)| applies(policy)).collect();
        let policies = PolicySet::from_policies(rules.iter().map(|(policy, _)| (*policy).clone())).ok()?;
        let reads = Reads::Only(rules.iter().flat_map(|(_, reads)| reads).cloned().collect());
        Some(ForTypes { principal: principal.clone(), resource: resource.clone(), policies, reads })
    };
    let mut by_action = HashMap::new();
    for (action, uid) in actions {
        let envs = schema.request_envs().filter(|env| env.action() == uid);
        let for_types = envs.map(|env| for_types(&env)).collect::<Option<_>>()?;
        by_action.insert(*action, ForAction { uid: uid.clone(), for_types });
    }
    Some(by_action)
}

/// Whether a rule's scope can hold for these types of principal and resource. Not told of `in`, which depends on the entity.
fn is_about(policy: &Policy, principal: &EntityTypeName, resource: &EntityTypeName) -> bool {
    let by = match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        PrincipalConstraint::Eq(one) => one.type_name() == principal,
        PrincipalConstraint::Is(of) | PrincipalConstraint::IsIn(of, _) => of == *principal,
    };
    let to = match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::In(_) => true,
        ResourceConstraint::Eq(one) => one.type_name() == resource,
        ResourceConstraint::Is(of) | ResourceConstraint::IsIn(of, _) => of == *resource,
    };
    by && to
}

fn digest(schema: &str, sources: &[Source<'_>]) -> String {
    let mut hash = Sha256::new();
    for text in std::iter::once(schema).chain(sources.iter().map(|source| source.text)) {
        // The length prefix keeps text from moving between files with the same digest.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
