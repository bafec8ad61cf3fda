//! `ca list`: every root and issuing CA with its state, its end, and, during a rotation, who depends on it.

use std::path::Path;

use pki::UnixTime;
use serde::Serialize;

use super::{at_home, authority::notices, load, rotation};
use crate::{
    complaint::Complaint,
    core::{
        slots::{SlotState, Slots},
        stranded::{Holders, Usage},
    },
    ports::clock::Clock,
    signer::{
        CaDir,
        offline::{self, Listed},
    },
};

/// Lists roots and issuing CAs.
pub fn list(path: &Path, json: bool) -> Result<(), Complaint> {
    let config = load(path)?;
    at_home(path, &config, async |config| {
        let listed = offline::list(&config.data_dir).map_err(Complaint::failed)?;
        let slots = CaDir::of(&config.data_dir).slots().map_err(Complaint::failed)?;
        let usage = if slots.is_changing() { Some(rotation::usage(config, &slots).await) } else { None };
        if json {
            return as_json(&listed, &slots, usage.and_then(Result::ok).as_ref());
        }
        show(&listed, &Clock::system());
        match usage {
            None => {}
            Some(Ok(usage)) => dependents(&slots, &usage).iter().for_each(|line| println!("{line}")),
            Some(Err(complaint)) => println!("who depends on what is not known: {complaint}"),
        }
        Ok(())
    })
}

/// Prints the table, and warnings about expiry.
pub(super) fn show(listed: &[Listed], clock: &Clock) {
    println!("{:<10} {:<9}  {:<20}  {:<64}  FILE", "CA", "STATE", "ENDS", "KEY");
    for one in listed {
        let (state, end, key) = (one.state.as_str(), one.info.not_after.to_string(), one.info.key.hex());
        println!("{:<10} {state:<9}  {end:<20}  {key}  {}", one.name, one.path.display());
        if let Some(end) = one.list.and_then(|list| list.next_update) {
            println!("{:<10} {:<9}  {end:<20}", format!("{}-crl", one.name), "");
        }
    }
    if listed.iter().any(|one| one.root.is_none() && one.state == SlotState::Active && one.list.is_none()) {
        println!("there is no revocation list of the root: make it with `lychgate-gateway ca crl`");
    }
    for line in notices(listed, clock) {
        println!("{line}");
    }
}

/// Lines about clients that do not have a published root yet, and about holders of certificates of a CA that was active before.
fn dependents(slots: &Slots, usage: &Usage) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |what: String, holders: &Holders| {
        if holders.count > 0 {
            lines.push(format!("{what}: {}", rotation::summary(holders)));
        }
    };
    for root in slots.roots().iter().filter(|root| matches!(root.state, SlotState::Active | SlotState::Published)) {
        line(format!("not given `{}` yet", root.name), &usage.without(slots, &root.name));
    }
    for ca in slots.issuing().iter().filter(|ca| matches!(ca.state, SlotState::Published | SlotState::Retired)) {
        let holders = usage.signed_by(slots, &ca.name);
        line(
            format!("with certificates of `{}`, the last until {}", ca.name, UnixTime::from(holders.last_end)),
            &holders,
        );
    }
    lines
}

/// Output of `--json`.
#[derive(Serialize)]
struct AuthorityView<'a> {
    generation: u64,
    slots: Vec<SlotView<'a>>,
}

/// One root or issuing CA.
#[derive(Serialize)]
struct SlotView<'a> {
    name: &'a str,
    role: Option<&'static str>,
    root: Option<&'a str>,
    state: &'static str,
    key: String,
    serial: &'a str,
    not_before: u64,
    not_after: u64,
    file: String,
    list_until: Option<u64>,
    /// For a root: number of machines and people that do not have it.
    without: Option<u64>,
    /// Number of machines and people with an unexpired certificate of it, or of a CA below it.
    holders: Option<u64>,
}

fn as_json<'a>(listed: &'a [Listed], slots: &Slots, usage: Option<&Usage>) -> Result<(), Complaint> {
    let view = |one: &'a Listed| SlotView {
        name: &one.name,
        role: one.info.role.map(pki::Role::as_str),
        root: one.root.as_deref(),
        state: one.state.as_str(),
        key: one.info.key.hex(),
        serial: &one.info.serial,
        not_before: one.info.not_before.secs(),
        not_after: one.info.not_after.secs(),
        file: one.path.display().to_string(),
        list_until: one.list.and_then(|list| list.next_update).map(UnixTime::secs),
        without: usage.filter(|_| one.root.is_none()).map(|usage| usage.without(slots, &one.name).count),
        holders: usage.map(|usage| usage.signed_by(slots, &one.name).count),
    };
    let view = AuthorityView { generation: slots.generation(), slots: listed.iter().map(view).collect() };
    let text = serde_json::to_string_pretty(&view);
    println!("{}", text.map_err(Complaint::failed)?);
    Ok(())
}
