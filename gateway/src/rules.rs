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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use policy::{Action, Ask, Claim, Decision, Newcomer, Principal, Resource};

    use super::*;

    /// The default policy, with the rules in it that are comments as rules.
    fn with_all_rules() -> Ruleset {
        let mut inside = false;
        let mut text = String::new();
        for line in policy::DEFAULT_POLICY.lines() {
            let rest = line.strip_prefix("//");
            inside |= rest.is_some_and(|rest| rest.trim_start().starts_with("@id("));
            text.push_str(rest.filter(|_| inside).unwrap_or(line));
            text.push('\n');
            inside &= !line.ends_with("};");
        }
        let claims: Vec<ClaimDecl> = attest::claims().collect();
        Ruleset::load(&[Source { name: "default.cedar", text: &text }], &claims).unwrap()
    }

    #[test]
    fn the_default_policy_has_a_rule_that_loads_for_each_attestor() {
        let rules = with_all_rules();
        let ids: Vec<&str> = rules.rule_ids().collect();
        for id in ["ssh-host-certificate", "jwt-machine", "tpm-machine", "idevid-machine", "same-tpm"] {
            assert!(ids.contains(&id), "{id} is not among {ids:?}");
        }
        let without = load(&[]).unwrap().rule_ids().count();
        assert!(ids.len() >= without + 6, "{} and {without}", ids.len());
        for row in attest::ALL.iter().filter(|row| row.kind != "reference") {
            let names = format!("principal.claims has {}_", row.prefix);
            assert!(policy::DEFAULT_POLICY.contains(&names), "no rule names a claim of `{}`", row.kind);
        }
    }

    /// Of TPMs, the anchor that the operator named counts, not that something is in hardware.
    #[test]
    fn a_tpm_is_admitted_for_its_makers_anchor() {
        let rules = with_all_rules();
        let all = [("tpm_anchor", "CN=Maker CA"), ("tpm_maker", "IFX"), ("tpm_key", "inside")];
        let admitted = |claims: &[(&str, &str)], same_device| {
            let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), Claim::Text((*value).to_owned())));
            let newcomer = Newcomer {
                key: "ab".repeat(32),
                role: "machine".to_owned(),
                assurance: 3,
                claims: claims.collect::<BTreeMap<_, _>>(),
                same_device,
                ..Newcomer::default()
            };
            let principal = Principal::Newcomer(newcomer);
            let ask = Ask { action: Action::Enroll, principal, resource: Resource::Gateway, now: 0 };
            matches!(policy::decide(&rules, &ask), Decision::Allowed(_))
        };
        assert!(admitted(&all, false));
        for left_out in 0..all.len() {
            let mut some = all.to_vec();
            some.remove(left_out);
            assert!(!admitted(&some, false), "{some:?}");
        }
        let chain = [("tpm_chain", "verified"), ("tpm_maker", "IFX"), ("tpm_key", "inside")];
        assert!(!admitted(&chain, false) && !admitted(&chain, true));
        assert!(admitted(&all[..1], true) && !admitted(&[], true));
    }
}
