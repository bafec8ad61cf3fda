//! Shared by the `ca` commands: notes for the audit, request files, what makes keys, loading the root with its key, warnings about
//! expiry.

use std::path::Path;

use pki::{Role, Root};

use crate::{
    complaint::Complaint,
    config::Config,
    core::{audit::Offline, ca_end::CaEnds, slots::SlotState},
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Existing, FileAccess},
    },
    server::noted,
    signer::{
        CaBuilder, Passphrase, SignerError,
        offline::{self, Listed},
    },
};

/// Notes actions for the audit in a file, since the running gateway may have the store open; the gateway records them.
pub(super) fn note(config: &Config, clock: &Clock, done: Vec<Offline>) -> Result<(), Complaint> {
    noted::note(&config.data_dir, clock.now().into(), done).map_err(Complaint::failed)
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Complaint> {
    files::write_atomic(path, text.as_bytes(), FileAccess::Public, Existing::Replace).map_err(Complaint::failed)
}

/// What makes keys and certificates for the gateway, with its passphrase.
pub(super) fn builder(config: &Config) -> Result<CaBuilder, Complaint> {
    Ok(builder_with(config, Passphrase::load(&config.passphrase_file).map_err(Complaint::failed)?))
}

/// The same, with a passphrase that is not in its place yet.
pub(super) fn builder_with(config: &Config, passphrase: Passphrase) -> CaBuilder {
    let (data_dir, domain) = (config.data_dir.clone(), config.trust_domain.clone());
    CaBuilder { data_dir, domain, passphrase, clock: Clock::system(), entropy: Entropy::os() }
}

/// The active root with its key, which is at `key` or else in the data folder.
pub(super) fn root(config: &Config, key: Option<&Path>, passphrase: Option<&Path>) -> Result<Root, Complaint> {
    let here = offline::root_key(&config.data_dir).map_err(Complaint::failed)?;
    let key = key.unwrap_or(&here);
    if !files::exists(key) {
        return Err(Complaint::failed(format!("the root's key is not at `{}`", key.display())).hint(
            "give its path with --root-key; or, if it must not be on this machine, sign where it is: `ca renew --request FILE`",
        ));
    }
    let passphrase = Passphrase::load(passphrase.unwrap_or(&config.passphrase_file)).map_err(Complaint::failed)?;
    let certificate = offline::root_certificate(&config.data_dir).map_err(Complaint::failed)?;
    offline::open_root(&certificate, key, &passphrase).map_err(|error| match error {
        wrong @ SignerError::WrongPassphrase { .. } => {
            Complaint::failed(wrong).hint("give the file with the root key's passphrase with --root-passphrase-file")
        }
        other => Complaint::failed(other),
    })
}

/// Warnings about CAs and CRLs that expire soon.
pub(super) fn notices(listed: &[Listed], clock: &Clock) -> Vec<String> {
    let active = |role: Option<Role>| {
        listed
            .iter()
            .find(|one| one.state == SlotState::Active && one.root.is_some() == role.is_some() && one.info.role == role)
    };
    let end = |role| active(role).map(|one| one.info.not_after);
    let (Some(root), Some(machine), Some(person), Some(gateway)) =
        (end(None), end(Some(Role::Machine)), end(Some(Role::Person)), end(Some(Role::Gateway)))
    else {
        return Vec::new();
    };
    let root_list = active(None).and_then(|one| one.list).and_then(|list| list.next_update);
    let ends = CaEnds { root, root_list, machine, person, gateway };
    ends.notices(clock.now()).iter().map(ToString::to_string).collect()
}
