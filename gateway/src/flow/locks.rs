//! The locks that stand.

use super::shell::Shell;
use crate::core::{
    keys,
    lock::{Locks, Target},
    records::{Lock, Seen},
    refusal::Fault,
};

/// The locks that stand among those asked for.
///
/// # Errors
/// [`Fault`] when the store fails.
pub async fn on(shell: &Shell, of: Vec<Target>) -> Result<Locks, Fault> {
    let keys = of.iter().map(|(kind, target)| keys::lock(*kind, target)).collect();
    let found: Vec<Option<Seen<Lock>>> = shell.get_all(keys).await?;
    Ok(Locks::new(of, found.into_iter().flatten().collect()))
}
