//! Records that do not read as what they should be, as the gateway starts.

use super::shell::Shell;
use crate::{
    core::{keys, kinds, refusal::Fault},
    store::{self, Key},
};

/// Names what is damaged already when the gateway starts, and finds what it must not start with: a record that may have been a
/// lock, of which its key does not tell on what. Whatever could have been meant would go unlocked.
///
/// # Errors
/// When the store fails, or such a record is there: [`Fault::Record`] names it.
pub async fn at_start(shell: &Shell) -> Result<(), Fault> {
    let may_lock = |key: &Key| {
        let text = key.to_string();
        text.starts_with(keys::LOCKS) && keys::locked(&text).is_none()
    };
    let untold =
        |key: &Key| Fault::Record(format!("{key}: it may have been a lock, and its key does not tell of what"));
    for key in shell.store.damaged() {
        shell.damaged.note(&key.to_string(), &Fault::Record(format!("{key}: its checksum is wrong")));
        // The checksum is of the key as well: one that belongs to no kind may have belonged to any.
        if may_lock(key) || kinds::of(&key.to_string()).is_none() {
            return Err(untold(key));
        }
    }
    let (prefix, mut after) = (Key::from(keys::LOCKS), None::<Key>);
    loop {
        let page = shell.store.scan(&prefix, after.as_ref(), store::SCAN_MAX).await;
        let page = page.map_err(|error| shell.fault(error))?;
        if let Some((key, _)) = page.rows.iter().find(|(key, _)| may_lock(key)) {
            return Err(untold(key));
        }
        if !page.more {
            return Ok(());
        }
        after = page.rows.into_iter().next_back().map(|(key, _)| key);
    }
}
