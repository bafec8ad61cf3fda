//! Tables of test cases for a policy: `policy test FILE CASES`.
//!
//! ```toml
//! [[case]]
//! name = "a token admits a machine"
//! action = "enroll"
//! principal.newcomer = { role = "machine", claims = { token_id = "t-1" } }
//! expect = "allow"          # or "deny"; or "wait", for `enroll` only
//! rule = "token-machine"    # optional: one of the rules that decide
//! lifetime = "24h"          # optional
//! reattest = "24h, refuse"  # optional, of a renewal
//! approvals = 1             # optional
//! principals = ["root"]     # optional, for `login`: all of them, in any order
//! ```
//!
//! `principal` is a `newcomer`, `machine` or `person`. `resource` is a `request`, `machine`, `person`, `service`, `token`, or
//! `"gateway"`, the default; `"token"` is a token for one machine without labels or owner. The `approval` of a request is what
//! its approver gives. Fields that are left out are false, empty or absent. `now` is in seconds since 1970; the default is noon
//! of 2026-01-01 UTC, a Thursday. An `enroll` case also evaluates `request`, so its result may be `wait`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::decide::{Admission, Decision, Denial, admit, decide};
use crate::facts::{
    Action, Approval, Ask, Claim, Machine, Newcomer, Person, Principal, Request, Resource, Service, Token,
};
use crate::grant::{Grant, Reattest, parse_lifetime, parse_reattest, show_lifetime};
use crate::rules::Ruleset;

/// Noon of 2026-01-01, UTC.
const NOW: u64 = 1_767_268_800;

/// The results of a table of cases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaseReport {
    /// One for each case, in the order of the table.
    pub results: Vec<CaseResult>,
    /// Rules that decided none of the cases.
    pub untested: Vec<String>,
}

impl CaseReport {
    /// Number of cases that failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.results.iter().filter(|result| result.mismatch.is_some()).count()
    }
}

/// The result of one case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// The policy's decision, with the rules that decided.
    pub outcome: String,
    /// The difference from the expected decision; `None` if the case passed.
    pub mismatch: Option<String>,
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mismatch {
            None => write!(f, "ok: {}", self.name),
            Some(mismatch) => write!(f, "FAILED: {}: {mismatch}", self.name),
        }
    }
}

/// Why a table cannot be run.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CasesError {
    /// The text has line and column.
    #[error("the cases cannot be read: {0}")]
    Unreadable(String),
    #[error("the case `{case}` cannot be asked: {why}")]
    BadCase { case: String, why: String },
    /// An error, because otherwise a mistyped `[[case]]` would pass.
    #[error("there is no case; write each under `[[case]]`")]
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    action: String,
    now: Option<u64>,
    principal: RawPrincipal,
    #[serde(default)]
    resource: RawResource,
    expect: Expect,
    rule: Option<String>,
    lifetime: Option<String>,
    approvals: Option<u32>,
    principals: Option<Vec<String>>,
    reattest: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
    Wait,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Wait => "wait",
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPrincipal {
    Newcomer(RawNewcomer),
    Machine(RawMachine),
    Person(RawPerson),
}

/// `"gateway"`, `"token"`, or a table.
#[derive(Default)]
enum RawResource {
    #[default]
    Gateway,
    Token,
    Table(Box<RawThing>),
}

impl<'de> Deserialize<'de> for RawResource {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ResourceVisitor;
        impl<'de> serde::de::Visitor<'de> for ResourceVisitor {
            type Value = RawResource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"gateway\", \"token\" or a table with one resource")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<RawResource, E> {
                match word {
                    "gateway" => Ok(RawResource::Gateway),
                    "token" => Ok(RawResource::Token),
                    _ => Err(E::unknown_variant(word, &["gateway", "token"])),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<RawResource, A::Error> {
                RawThing::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(Box::new)
                    .map(RawResource::Table)
            }
        }
        from.deserialize_any(ResourceVisitor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawThing {
    Token(RawToken),
    Request(RawNewcomer),
    Machine(RawMachine),
    Person(RawPerson),
    Service(RawService),
}

/// Also used for a request, whose `id` is that of the enrollment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNewcomer {
    #[serde(default)]
    id: String,
    #[serde(default)]
    key: String,
    role: String,
    wanted_name: Option<String>,
    #[serde(default)]
    assurance: u8,
    assurance_of: Option<String>,
    #[serde(default)]
    claims: BTreeMap<String, RawClaim>,
    #[serde(default)]
    self_reported: BTreeMap<String, String>,
    source: Option<IpAddr>,
    #[serde(default)]
    known: bool,
    #[serde(default)]
    same_device: bool,
    approvals_wanted: Option<u32>,
    approval: Option<RawApproval>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApproval {
    #[serde(default)]
    name: String,
    owner: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    code_checked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    role: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    owner: Option<String>,
    uses: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMachine {
    name: String,
    owner: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    assurance: u8,
    assurance_of: Option<String>,
    #[serde(default)]
    locked: bool,
    #[serde(default)]
    forked: bool,
    #[serde(default)]
    lineage_age: u64,
    admitted_by: Option<String>,
    #[serde(default)]
    claims: BTreeMap<String, RawClaim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPerson {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    locked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: String,
    machine: RawMachine,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a claim is a string, true, false or a whole number")]
enum RawClaim {
    Bool(bool),
    Number(i64),
    Text(String),
}

/// A parsed case.
struct Case {
    name: String,
    ask: Ask,
    expect: Expect,
    rule: Option<String>,
    lifetime: Option<Duration>,
    approvals: Option<u32>,
    principals: Option<Vec<String>>,
    reattest: Option<Reattest>,
}

/// The policy's decision, in the terms of a case.
struct Outcome {
    said: Expect,
    rules: Vec<String>,
    lifetime: Option<Duration>,
    approvals: Option<u32>,
    principals: Vec<String>,
    reattest: Option<Reattest>,
    text: String,
}

/// Runs every case of a table. A case that fails is a result and not an error.
pub fn run_cases(rules: &Ruleset, table: &str) -> Result<CaseReport, CasesError> {
    let raw: RawTable = toml::from_str(table).map_err(|error| CasesError::Unreadable(error.to_string()))?;
    if raw.case.is_empty() {
        return Err(CasesError::Empty);
    }
    let cases: Vec<Case> = raw.case.into_iter().map(parse).collect::<Result<_, _>>()?;
    let mut untested: BTreeSet<String> = rules.rule_ids().map(str::to_owned).collect();
    let mut results = Vec::with_capacity(cases.len());
    for case in &cases {
        if let Some(unknown) = case.rule.as_ref().filter(|rule| rules.place(rule).is_none()) {
            let why = format!("there is no rule `{unknown}`");
            return Err(CasesError::BadCase { case: case.name.clone(), why });
        }
        let outcome = ask(rules, case);
        for rule in &outcome.rules {
            untested.remove(rule);
        }
        results.push(CaseResult { name: case.name.clone(), mismatch: mismatch(case, &outcome), outcome: outcome.text });
    }
    Ok(CaseReport { results, untested: untested.into_iter().collect() })
}

fn parse(raw: RawCase) -> Result<Case, CasesError> {
    let bad = |why: String| CasesError::BadCase { case: raw.name.clone(), why };
    let action =
        Action::parse(&raw.action).ok_or_else(|| bad(format!("`{}` is not an action", raw.action.escape_debug())))?;
    if raw.expect == Expect::Wait && action != Action::Enroll {
        return Err(bad(format!("`{action}` never ends in `wait`; only `enroll` does")));
    }
    let lifetime = match raw.lifetime.as_deref().map(parse_lifetime).transpose() {
        Ok(lifetime) => lifetime,
        Err(error) => return Err(bad(error.to_string())),
    };
    if raw.expect == Expect::Deny && (lifetime.is_some() || raw.approvals.is_some()) {
        return Err(bad("a refusal has neither `lifetime` nor `approvals`".to_owned()));
    }
    if raw.principals.is_some() && (raw.expect == Expect::Deny || action != Action::Login) {
        return Err(bad("only a `login` that is allowed has `principals`".to_owned()));
    }
    let reattest = match raw.reattest.as_deref().map(parse_reattest).transpose() {
        Ok(reattest) => reattest,
        Err(error) => return Err(bad(error.to_string())),
    };
    if reattest.is_some() && (raw.expect == Expect::Deny || action != Action::Renew) {
        return Err(bad("only a `renew` that is allowed has `reattest`".to_owned()));
    }
    let ask =
        Ask { action, principal: raw.principal.into(), resource: raw.resource.into(), now: raw.now.unwrap_or(NOW) };
    let Ask { principal, resource, .. } = &ask;
    if action == Action::Enroll && !(matches!(principal, Principal::Newcomer(_)) && *resource == Resource::Gateway) {
        return Err(bad("`enroll` is asked by a newcomer, of the gateway".to_owned()));
    }
    let (expect, rule, approvals) = (raw.expect, raw.rule, raw.approvals);
    let principals = raw.principals.map(|mut names| {
        names.sort();
        names
    });
    Ok(Case { name: raw.name, ask, expect, rule, lifetime, approvals, principals, reattest })
}

fn ask(rules: &Ruleset, case: &Case) -> Outcome {
    let Ask { action, principal, now, .. } = &case.ask;
    if let (Action::Enroll, Principal::Newcomer(newcomer)) = (action, principal) {
        return match admit(rules, newcomer, *now) {
            Admission::Issue(grant) => granted(Expect::Allow, grant),
            Admission::Wait(grant) => granted(Expect::Wait, grant),
            Admission::Refuse(denial) => denied(denial),
        };
    }
    match decide(rules, &case.ask) {
        Decision::Allowed(grant) => granted(Expect::Allow, grant),
        Decision::Denied(denial) => denied(denial),
    }
}

fn granted(said: Expect, grant: Grant) -> Outcome {
    Outcome {
        said,
        rules: grant.rules().to_vec(),
        lifetime: grant.lifetime(),
        approvals: Some(grant.approvals()),
        principals: grant.principals().to_vec(),
        reattest: grant.reattest(),
        text: grant.explain(),
    }
}

fn denied(denial: Denial) -> Outcome {
    let text = denial.explain();
    Outcome {
        said: Expect::Deny,
        rules: denial.rules,
        lifetime: None,
        approvals: None,
        principals: Vec::new(),
        reattest: None,
        text,
    }
}

/// The most important difference, as text.
fn mismatch(case: &Case, got: &Outcome) -> Option<String> {
    if case.expect != got.said {
        return Some(format!("expected {}, got {}: {}", case.expect, got.said, got.text));
    }
    if let Some(rule) = &case.rule
        && !got.rules.contains(rule)
    {
        return Some(format!("expected rule `{rule}` to decide: {}", got.text));
    }
    if let Some(want) = case.lifetime
        && got.lifetime != Some(want)
    {
        let got = got.lifetime.map_or_else(|| "none".to_owned(), show_lifetime);
        return Some(format!("expected a lifetime of {}, got {got}", show_lifetime(want)));
    }
    if let Some(want) = &case.principals
        && got.principals != *want
    {
        return Some(format!("expected the principals {}, got {}", want.join(", "), got.principals.join(", ")));
    }
    if let Some(want) = case.reattest
        && got.reattest != Some(want)
    {
        let got = got.reattest.map_or_else(|| "none".to_owned(), |got| got.to_string());
        return Some(format!("expected `@reattest` of {want}, got {got}"));
    }
    match (case.approvals, got.approvals) {
        (Some(want), Some(got)) if want != got => Some(format!("expected {want} approvals, got {got}")),
        _ => None,
    }
}

impl From<RawPrincipal> for Principal {
    fn from(raw: RawPrincipal) -> Self {
        match raw {
            RawPrincipal::Newcomer(raw) => Self::Newcomer(Request::from(raw).newcomer),
            RawPrincipal::Machine(raw) => Self::Machine(raw.into()),
            RawPrincipal::Person(raw) => Self::Person(raw.into()),
        }
    }
}

impl From<RawResource> for Resource {
    fn from(raw: RawResource) -> Self {
        match raw {
            RawResource::Gateway => Self::Gateway,
            RawResource::Token => Self::Token(Token::default()),
            RawResource::Table(thing) => (*thing).into(),
        }
    }
}

impl From<RawThing> for Resource {
    fn from(raw: RawThing) -> Self {
        match raw {
            RawThing::Token(raw) => Self::Token(Token {
                role: raw.role,
                names: raw.names,
                groups: raw.groups,
                labels: raw.labels,
                owner: raw.owner,
                uses: raw.uses.unwrap_or(1),
            }),
            RawThing::Request(raw) => Self::Request(raw.into()),
            RawThing::Machine(raw) => Self::Machine(raw.into()),
            RawThing::Person(raw) => Self::Person(raw.into()),
            RawThing::Service(raw) => Self::Service(Service { name: raw.name, machine: raw.machine.into() }),
        }
    }
}

impl From<RawNewcomer> for Request {
    fn from(raw: RawNewcomer) -> Self {
        Self {
            id: raw.id,
            newcomer: Newcomer {
                key: raw.key,
                role: raw.role,
                wanted_name: raw.wanted_name,
                assurance: raw.assurance,
                assurance_of: raw.assurance_of,
                claims: claims(raw.claims),
                attributes: raw.self_reported,
                source: raw.source,
                known: raw.known,
                same_device: raw.same_device,
            },
            approvals_wanted: raw.approvals_wanted.unwrap_or(1),
            approval: raw.approval.map(|raw| Approval {
                name: raw.name,
                owner: raw.owner,
                labels: raw.labels,
                code_checked: raw.code_checked,
            }),
        }
    }
}

impl From<RawMachine> for Machine {
    fn from(raw: RawMachine) -> Self {
        Self {
            name: raw.name,
            owner: raw.owner,
            labels: raw.labels,
            assurance: raw.assurance,
            assurance_of: raw.assurance_of,
            locked: raw.locked,
            forked: raw.forked,
            lineage_age: raw.lineage_age,
            admitted_by: raw.admitted_by,
            claims: claims(raw.claims),
        }
    }
}

impl From<RawPerson> for Person {
    fn from(raw: RawPerson) -> Self {
        Self { name: raw.name, groups: raw.groups, locked: raw.locked }
    }
}

fn claims(raw: BTreeMap<String, RawClaim>) -> BTreeMap<String, Claim> {
    let claim = |raw| match raw {
        RawClaim::Bool(value) => Claim::Bool(value),
        RawClaim::Number(value) => Claim::Number(value),
        RawClaim::Text(value) => Claim::Text(value),
    };
    raw.into_iter().map(|(name, raw)| (name, claim(raw))).collect()
}
