//! The call to renew now: who may make it, and whom it reaches.

use std::collections::BTreeSet;

use pki::{Role, UnixTime};

use super::{
    shell::{Actor, Shell, readable, retrying},
    subjects::{identity, resource, visible},
};
use crate::core::{
    admission::Caller,
    change::Changes,
    facts::permit,
    keys,
    records::{Seen, UnixSecs},
    refusal::{Fault, Missing, Refusal},
    renew_now,
};

/// Who is to renew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// These machines.
    Named(BTreeSet<String>),
    /// All machines.
    All,
}

/// Asks machines to renew now: all that are named, or none when one of them cannot be asked.
///
/// # Errors
/// Why not.
pub async fn ask(shell: &Shell, caller: &Caller, whom: &Whom, reason: &str, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let changes = match whom {
            Whom::Named(names) => named(shell, caller, names, reason).await?,
            Whom::All => {
                let (action, resource) = (policy::Action::Administer, policy::Resource::Gateway);
                let grant = permit(&shell.rules.load(), caller, action, resource, shell.now())?;
                renew_now::ask_all(reason, grant.rules(), shell.now())
            }
        };
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(())
    })
    .await?;
    // Those that hold a tunnel hear of it now, the others when they next ask.
    match whom {
        Whom::All => shell.tunnels.all_renew_now(),
        Whom::Named(names) => {
            for name in names.iter().filter_map(|name| pki::Name::parse(name).ok()) {
                let identity = pki::Identity { domain: shell.domain.clone(), role: Role::Machine, name };
                shell.tunnels.renew_now(&identity);
            }
        }
    }
    Ok(())
}

async fn named(shell: &Shell, caller: &Caller, names: &BTreeSet<String>, reason: &str) -> Result<Changes, Refusal> {
    let mut changes = Changes::new();
    for name in names {
        let whole = visible(shell, caller, Role::Machine, name).await.map_err(|refusal| match refusal {
            Refusal::NotFound(_) if names.len() > 1 => Refusal::NotFound(Missing::OneOfMachines),
            other => other,
        })?;
        let action = policy::Action::Administer;
        let grant = permit(&shell.rules.load(), caller, action, resource(shell, &whole), shell.now())?;
        let lineage = whole.lineage.ok_or_else(|| Fault::Record(format!("machine {name} has no lineage")))?;
        let identity = identity(shell, &whole.subject.record)?.to_string();
        renew_now::ask(&mut changes, &lineage, identity, reason, grant.rules(), shell.now());
    }
    Ok(changes)
}

/// Whether a caller, whose certificate begins at `not_before`, is to renew now.
///
/// # Errors
/// When the store fails.
pub async fn is_wanted(shell: &Shell, caller: &Caller, not_before: UnixTime) -> Result<bool, Fault> {
    let everybody: Option<Seen<UnixSecs>> = match caller.identity.role {
        // A call that cannot be read is heard by nobody, and keeps nobody from renewing in time.
        Role::Machine => readable(shell.get(keys::RENEW_MACHINES.to_owned()).await)?.flatten(),
        Role::Person | Role::Gateway => None,
    };
    let (issued, everybody) = (not_before.plus(pki::BACKDATE), everybody.map(|seen| seen.record));
    Ok(renew_now::is_wanted(issued, &caller.lineage.record, everybody, shell.now()))
}
