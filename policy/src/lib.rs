//! Decides. Facts go in, a decision comes out; there is no clock, disk, socket or runtime here.
//!
//! The rules are Cedar. Three things are stricter than Cedar alone:
//!
//! - a rule that fails to evaluate denies, where Cedar would skip it (a broken `forbid` must not
//!   become permission);
//! - a rule naming a fact nobody supplies is refused at load, also where Cedar would call it
//!   false and carry on (`principal.claims has misspelt`);
//! - every rule has an `@id`, and every obligation (`@lifetime`, `@approvals`, `@principals`, `@reattest`) is parsed at load.
//!
//! Reading order: [`facts`] (what a rule can see), [`rules`] (text to [`Ruleset`]), [`decide()`],
//! [`grant`] (proof that something was allowed), [`cases`] (tables that test a policy offline).

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
pub use grant::{BadLifetime, Grant, Reattest, Without, parse_lifetime, show_lifetime};
pub use principals::BadPrincipals;
pub use rules::{Place, Ruleset, Source, schema_text};

/// The policy a new gateway starts with.
pub const DEFAULT_POLICY: &str = include_str!("../default.cedar");

/// The cases that hold [`DEFAULT_POLICY`] to its word; see [`cases`].
pub const DEFAULT_CASES: &str = include_str!("../default.cases.toml");

/// The schema, without the claims that attestors declare: every fact a rule may name.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// Rules are loaded once and asked from every thread.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Ruleset>();
};
