//! Commands that need no running gateway: checks of configuration and policy, export and import.

use std::{
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use policy::{CaseResult, Ruleset};

use super::{Complaint, load};
use crate::{
    edge::{clock::Clock, files, local},
    rules, server,
    store::{self, transfer},
};

/// Reads configuration and policy as `run` would.
///
/// # Errors
/// What is wrong.
pub fn check_config(path: &Path) -> Result<(), Complaint> {
    let config = load(path)?;
    let rules = rules::load(&config.policy_files).map_err(Complaint::wrong)?;
    println!("{}: good; {}", path.display(), counted(rules.rule_ids().count(), "policy rule"));
    Ok(())
}

/// Checks policy files.
///
/// # Errors
/// Every complaint.
pub fn policy_check(files: &[PathBuf]) -> Result<(), Complaint> {
    let rules = rules::load(files).map_err(Complaint::wrong)?;
    println!("good: {}", counted(rules.rule_ids().count(), "rule"));
    Ok(())
}

/// Prints what rules are checked against.
///
/// # Errors
/// When the claims that are built in do not fit together.
pub fn policy_schema() -> Result<(), Complaint> {
    let text = policy::schema_text(&rules::claims()).map_err(|complaints| {
        Complaint::failed(complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    print!("{text}");
    Ok(())
}

/// Runs a table of cases, the last of the files, against the policy in the others.
///
/// # Errors
/// When a case does not come out as expected.
pub fn policy_test(files: &[PathBuf]) -> Result<(), Complaint> {
    let Some((cases, files)) = files.split_last() else {
        return Err(Complaint::wrong("no table of cases is named".to_owned()));
    };
    let rules: Ruleset = rules::load(files).map_err(Complaint::wrong)?;
    let table = files::read_text(cases).map_err(Complaint::wrong)?;
    let report =
        policy::run_cases(&rules, &table).map_err(|error| Complaint::wrong(format!("{}: {error}", cases.display())))?;
    for CaseResult { name, outcome, mismatch } in &report.results {
        match mismatch {
            None => println!("ok    {name}: {outcome}"),
            Some(mismatch) => println!("FAIL  {name}: {mismatch}"),
        }
    }
    if !report.untested.is_empty() {
        println!("rules that decided no case: {}", report.untested.join(", "));
    }
    match report.failures() {
        0 => {
            println!("{} passed", counted(report.results.len(), "case"));
            Ok(())
        }
        failures => Err(Complaint::wrong(format!("{failures} of {} failed", counted(report.results.len(), "case")))),
    }
}

/// Writes everything in the store.
///
/// # Errors
/// When the store or the file cannot be used.
pub async fn export(config: &Path, out: Option<&Path>) -> Result<(), Complaint> {
    let config = load(config)?;
    let store = store::open(config.store.engine, &config.store.path, config.store.cache_bytes / server::MIB)
        .map_err(Complaint::store)?;
    let now = Clock::system().now().to_string();
    let written = match out {
        None => {
            let mut to = BufWriter::new(std::io::stdout());
            let written = transfer::export(store.as_ref(), &now, &mut to).await.map_err(Complaint::store)?;
            to.flush().map_err(Complaint::failed)?;
            written
        }
        Some(path) => {
            let mut bytes = Vec::new();
            let written = transfer::export(store.as_ref(), &now, &mut bytes).await.map_err(Complaint::store)?;
            files::write_atomic(path, &bytes, files::Access::Private, files::Existing::Replace)
                .map_err(Complaint::failed)?;
            written
        }
    };
    store.close().await;
    eprintln!("{} exported, sha256 {}", counted(written.records, "record"), written.sha256);
    Ok(())
}

/// Fills an empty store.
///
/// # Errors
/// When the export is not whole, or the store not empty.
pub async fn import(config: &Path, input: &Path) -> Result<(), Complaint> {
    let config = load(config)?;
    let store = store::open(config.store.engine, &config.store.path, config.store.cache_bytes / server::MIB)
        .map_err(Complaint::store)?;
    let file =
        local::open(input).map_err(|error| Complaint::failed(format!("cannot open `{}`: {error}", input.display())))?;
    let read = transfer::import(store.as_ref(), &mut BufReader::new(file)).await.map_err(Complaint::store)?;
    store.close().await;
    eprintln!("{} imported", counted(read.records, "record"));
    Ok(())
}

/// `1 rule`, `2 rules`.
fn counted<N: From<u8> + PartialEq + std::fmt::Display>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
