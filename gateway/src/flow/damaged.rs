//! Unreadable records, at the start of the gateway.

use super::shell::Shell;
use crate::{
    core::{keys, kinds, refusal::Fault},
    store::{self, Key},
};

/// Reports the damaged records at the start. Fails if a damaged record may be a lock whose target cannot be read from its key.
///
/// # Errors
/// When the store fails, or for such a record: [`Fault::Record`] names it.
pub async fn at_start(shell: &Shell) -> Result<(), Fault> {
    let may_lock = |key: &Key| {
        let text = key.to_string();
        text.starts_with(keys::LOCKS) && keys::locked(&text).is_none()
    };
    let untold =
        |key: &Key| Fault::Record(format!("{key}: it may have been a lock, and its key does not tell of what"));
    for key in shell.store.damaged() {
        shell.damaged.note(&key.to_string(), &Fault::Record(format!("{key}: its checksum is wrong")));
        // The checksum includes the key: a record whose key belongs to no kind may have been of any kind.
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
