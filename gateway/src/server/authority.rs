//! The authority of a running gateway: reloading it, and writing who depends on its slots to a file for the `ca` commands, which
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

/// Maximum age of that file: housekeeping writes it each minute, and may be late.
const FRESH: Duration = Duration::from_mins(5);

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("authority-usage.json")
}

/// Loads the authority if its files have another generation than the loaded one.
///
/// # Errors
/// The files are invalid or of an older generation; the loaded authority stays in use.
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
    // on a blocking thread, since decrypting the keys takes time
    let loaded = tokio::task::spawn_blocking(move || Authority::load(&data_dir, &domain, &passphrase, &clock)).await;
    Ok(Some(Arc::new(loaded.map_err(Complaint::failed)?.map_err(Complaint::failed)?)))
}

/// Writes who depends on which slot to a file, while a rotation is in progress.
///
/// # Errors
/// The store cannot be read or the file cannot be written; the next housekeeping run tries again.
pub async fn report(shell: &Shell, data_dir: &Path) -> Result<(), Refusal> {
    if !shell.ca().slots().is_changing() {
        return Ok(());
    }
    let usage = flow::authority::usage(shell).await?;
    let text = serde_json::to_vec(&usage).map_err(|error| Fault::Read(error.to_string()))?;
    let written = files::write_atomic(&file(data_dir), &text, FileAccess::Private, Existing::Replace);
    written.map_err(|error| Fault::Read(error.to_string()).into())
}

/// Reads the file of [`report`]; `None` if it is too old or of another generation.
#[must_use]
pub fn reported(data_dir: &Path, slots: &Slots, now: UnixTime) -> Option<Usage> {
    let text = files::read_text(&file(data_dir)).ok()?;
    let usage: Usage = serde_json::from_str(&text).ok()?;
    let fresh = now.secs().abs_diff(usage.at.0) < FRESH.as_secs();
    (fresh && usage.generation == slots.generation()).then_some(usage)
}
