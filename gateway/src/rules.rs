//! Loads policies with the claims that the attestors declare.

use std::path::{Path, PathBuf};

use policy::{ClaimDecl, Complaint, Ruleset, Source};

use crate::{
    attest,
    ports::files::{self, FileError},
};

/// Why a policy does not load.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file cannot be read.
    #[error("{0}")]
    File(#[from] FileError),
    /// Errors in the rules, all of them.
    #[error("the policy was rejected:\n{}", .0.iter().map(|complaint| format!("  {complaint}")).collect::<Vec<_>>().join("\n"))]
    Complaints(Vec<Complaint>),
}

/// Loads policy files as one policy; without files the built-in one. A rule may use the claims of all attestors, also of disabled
/// ones, since records of machines may have such claims.
pub fn load(paths: &[PathBuf]) -> Result<Ruleset, RulesError> {
    let mut texts = Vec::new();
    for path in paths {
        texts.push((name(path), files::read_text(path)?));
    }
    if texts.is_empty() {
        texts.push(("default.cedar".to_owned(), policy::DEFAULT_POLICY.to_owned()));
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    let claims: Vec<ClaimDecl> = attest::claims().collect();
    Ruleset::load(&sources, &claims).map_err(RulesError::Complaints)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
