//! The authority's slots while the gateway runs: taken over at a reload, and who depends on them written down for commands, which
//! cannot open the store of a running gateway.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pki::UnixTime;

use crate::{
    complaint::Complaint,
    config::Config,
    core::{
        refusal::{Fault, Refusal},
        slots::Slots,
        stranded::Usage,
    },
    flow::{self, shell::Shell},
    ports::files::{self, Existing, FileAccess},
    signer::{Authority, CaDir, Passphrase},
};

/// How old what was written down may be: housekeeping writes it each minute, and may be late.
const FRESH: Duration = Duration::from_mins(5);

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("authority-usage.json")
}

/// The authority as its files have it, when they say another generation than the one in force.
///
/// # Errors
/// What is wrong with it. The one in force stays then.
pub async fn changed(shell: &Shell, config: &Config) -> Result<Option<Arc<Authority>>, Complaint> {
    let slots = CaDir::of(&config.data_dir).slots().map_err(Complaint::failed)?;
    let in_force = shell.ca().signing().generation;
    if slots.generation() == in_force {
        return Ok(None);
    }
    if slots.generation() < in_force {
        return Err(Complaint::failed(format!(
            "the authority in `{}` is of generation {}, and generation {in_force} is in force: was an older copy put back?",
            config.data_dir.join("ca").display(),
            slots.generation()
        )));
    }
    let passphrase = Passphrase::load(&config.passphrase_file).map_err(Complaint::failed)?;
    let (data_dir, domain, clock) = (config.data_dir.clone(), shell.domain.clone(), shell.clock.clone());
    // Opening the keys takes a while.
    let loaded = tokio::task::spawn_blocking(move || Authority::load(&data_dir, &domain, &passphrase, &clock)).await;
    Ok(Some(Arc::new(loaded.map_err(Complaint::failed)?.map_err(Complaint::failed)?)))
}

/// Writes down who depends on what, while anything is on its way in or out.
///
/// # Errors
/// When the store or the disk fails.
pub async fn report(shell: &Shell, data_dir: &Path) -> Result<(), Refusal> {
    if !shell.ca().slots().is_changing() {
        return Ok(());
    }
    let usage = flow::authority::usage(shell).await?;
    let text = serde_json::to_vec(&usage).map_err(|error| Fault::Read(error.to_string()))?;
    let written = files::write_atomic(&file(data_dir), &text, FileAccess::Private, Existing::Replace);
    written.map_err(|error| Fault::Read(error.to_string()).into())
}

/// What the running gateway wrote down of these slots, a moment ago.
#[must_use]
pub fn reported(data_dir: &Path, slots: &Slots, now: UnixTime) -> Option<Usage> {
    let text = files::read_text(&file(data_dir)).ok()?;
    let usage: Usage = serde_json::from_str(&text).ok()?;
    let fresh = now.secs().abs_diff(usage.at.0) < FRESH.as_secs();
    (fresh && usage.generation == slots.generation()).then_some(usage)
}
