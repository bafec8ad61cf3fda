//! An identity in a long-running process. Meanwhile another process (`lychgate renew`, a cron job) may put a newer certificate into
//! the folder. The gateway treats use of the older one as theft and locks the machine, so a long-running process must get its
//! certificate from [`LiveCredential`], which checks the folder before each use.

use std::sync::Arc;

use super::keystore::{Credential, Keystore};

/// The newest certificate of the folder, with its key.
#[derive(Clone)]
pub struct LiveCredential {
    store: Keystore,
    known: Arc<Credential>,
}

impl LiveCredential {
    /// With a certificate that was read from the folder.
    #[must_use]
    pub fn new(store: &Keystore, credential: Credential) -> Self {
        Self { store: store.clone(), known: Arc::new(credential) }
    }

    /// The certificate to use now: the folder's, if it is newer. A folder that is unreadable, empty, or restored to an older
    /// certificate changes nothing.
    #[must_use]
    pub fn newest(&self) -> Arc<Credential> {
        newer(&self.store, &self.known).map_or_else(|| Arc::clone(&self.known), Arc::new)
    }
}

/// The folder's certificate, if it was issued after `known`.
#[must_use]
pub fn newer(store: &Keystore, known: &Credential) -> Option<Credential> {
    // Reads the symbolic link each time, and the files only if it has changed.
    store.serial_in_use().filter(|serial| *serial != known.serial)?;
    let found = store.credential().ok().flatten()?;
    (found.serial != known.serial && found.life.not_before >= known.life.not_before).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::target::Address;
    use crate::testing::Authority;

    #[test]
    fn the_newer_one_counts() {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let store = Keystore::at(dir.path().join("id"));
        store.prepare().unwrap();
        let gateway = Address::parse("gw.example:443", 443).unwrap();
        let install = |now: u64| {
            let key = store.next_key().unwrap();
            store.install(&authority.issued(&key, "edge-07", now), &key, &gateway).unwrap()
        };
        let held = LiveCredential::new(&store, install(100_000));
        let first = held.newest().serial;
        assert_eq!(store.serial_in_use(), Some(first));
        let second = install(100_010).serial;
        assert_eq!(held.newest().serial, second);
        // A folder restored to an older certificate changes nothing.
        let third = LiveCredential::new(&store, install(100_020));
        install(100_005);
        assert_eq!(third.newest().serial, third.known.serial);
        store.clear().unwrap();
        assert_eq!(third.newest().serial, third.known.serial);
        assert_eq!(held.newest().serial, first);
    }
}
