//! Policy decisions from facts, without clock, disk, socket or runtime.
//!
//! The rules are written in Cedar. Three things are stricter than in Cedar alone:
//!
//! - a rule that fails to evaluate denies; Cedar skips it, so that a failing `forbid` would permit;
//! - a rule that uses a fact outside the schema does not load, also where Cedar treats it as false (`principal.claims has
//!   misspelt`);
//! - every rule has an `@id`, and every obligation (`@lifetime`, `@approvals`, `@principals`, `@reattest`) is parsed at load.
//!
//! Reading order: [`facts`] (what a rule can use), [`rules`] (text to [`Ruleset`]), [`decide()`],
//! [`grant`] (proof that an action was allowed), [`cases`] (tables that test a policy offline).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cases;
mod complaint;
mod decide;
pub mod facts;
pub mod grant;
mod principals;
pub mod rules;

pub use cases::{CaseReport, CaseResult, CasesError, run_cases};
pub use complaint::{Complaint, did_you_mean};
pub use decide::{Admission, Decision, Denial, Why, admit, decide};
pub use facts::{
    Action, Approval, Ask, BadFacts, Claim, ClaimDecl, ClaimType, Machine, Newcomer, Person, Principal, Request,
    Resource, Service, Token,
};
pub use grant::{BadLifetime, Grant, Measured, Reattest, Without, parse_lifetime, show_lifetime};
pub use principals::BadPrincipals;
pub use rules::{Place, Ruleset, Source, schema_text};

/// The policy a new gateway starts with.
pub const DEFAULT_POLICY: &str = include_str!("../default.cedar");

/// The test cases of [`DEFAULT_POLICY`]; see [`cases`].
pub const DEFAULT_CASES: &str = include_str!("../default.cases.toml");

/// The schema, without the claims that attestors declare.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// Rules are loaded once and used by every thread.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Ruleset>();
};
