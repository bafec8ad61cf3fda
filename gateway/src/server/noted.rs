//! Notes of operator commands that cannot open the store of a running gateway: each appends its action to a file, and the gateway records
//! it as an audit event, within a minute or when it starts.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    core::{
        audit::{Event, Offline, Upkeep},
        change::Changes,
        records::UnixSecs,
        refusal::{Fault, Refusal},
    },
    flow::shell::{Actor, Retry, Shell},
    ports::{
        files::{self, FileError},
        local,
    },
};

/// Most notes in one batch of the store, which has room for a thousand records.
const BATCH: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
struct OfflineNote {
    at: UnixSecs,
    #[serde(flatten)]
    what: Offline,
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("offline-events")
}

/// The notes that are being recorded. New notes go to a new file meanwhile.
fn taken(data_dir: &Path) -> PathBuf {
    data_dir.join("offline-events.taken")
}

/// Appends notes of actions at the time `at`.
pub fn note(data_dir: &Path, at: UnixSecs, done: Vec<Offline>) -> Result<(), FileError> {
    let path = file(data_dir);
    let mut lines = String::new();
    for what in done {
        lines.push_str(&serde_json::to_string(&OfflineNote { at, what }).unwrap_or_default());
        lines.push('\n');
    }
    let mut open = files::append(&path)?;
    open.write_all(lines.as_bytes())
        .and_then(|()| open.sync_all())
        .map_err(|error| FileError::io("write", &path, error))
}

/// Records the notes as audit events.
///
/// # Errors
/// A file cannot be read or the commit failed; the notes are kept, and the next housekeeping run tries again.
pub async fn record(shell: &Shell, data_dir: &Path) -> Result<(), Refusal> {
    let (file, taken) = (file(data_dir), taken(data_dir));
    let unreadable = |error: String| Fault::Read(format!("what commands noted: {error}"));
    if !files::exists(&taken) {
        if !files::exists(&file) {
            return Ok(());
        }
        local::rename(&file, &taken).map_err(|error| unreadable(error.to_string()))?;
    }
    let text = files::read_text(&taken).map_err(|error| unreadable(error.to_string()))?;
    let mut notes = Vec::new();
    for line in text.lines() {
        match serde_json::from_str::<OfflineNote>(line) {
            Ok(note) => notes.push(Event::Upkeep(Upkeep::Offline { at: note.at.0, what: note.what })),
            Err(error) => tracing::error!(%error, line, "a command's note for the audit cannot be read"),
        }
    }
    while !notes.is_empty() {
        let mut changes = Changes::new();
        notes.drain(..notes.len().min(BATCH)).for_each(|event| changes.event(event));
        match shell.commit(changes, &Actor { who: "gateway", instance: "offline" }).await {
            Ok(_) | Err(Retry::Conflict) => {}
            Err(Retry::Refused(refusal)) => return Err(refusal),
        }
    }
    local::remove(&taken).map_err(|error| unreadable(error.to_string()).into())
}
