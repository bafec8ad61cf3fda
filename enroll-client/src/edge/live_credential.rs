//! An identity that is held in memory for long, while its folder may get a newer certificate by another hand: `lychgate renew` at the
//! keyboard, a hook, a cron job. Whoever goes on with the older one is taken for a thief by the gateway, and the machine is locked.
//! So whatever lives longer than one request reaches its certificate through [`LiveCredential`], which looks into the folder before each use.

use std::sync::Arc;

use super::keystore::{Credential, Keystore};

/// A certificate with its key, as new as its folder has it.
#[derive(Clone)]
pub struct LiveCredential {
    store: Keystore,
    known: Arc<Credential>,
}

impl LiveCredential {
    /// What was read from the folder.
    #[must_use]
    pub fn new(store: &Keystore, credential: Credential) -> Self {
        Self { store: store.clone(), known: Arc::new(credential) }
    }

    /// To be used now: what the folder has, if that is newer. A folder that cannot be read, or holds nothing any more, changes
    /// nothing; nor does one that was set back to an older certificate.
    #[must_use]
    pub fn newest(&self) -> Arc<Credential> {
        newer(&self.store, &self.known).map_or_else(|| Arc::clone(&self.known), Arc::new)
    }
}

/// What the folder has, if it is another certificate than `known`, and was issued after it.
#[must_use]
pub fn newer(store: &Keystore, known: &Credential) -> Option<Credential> {
    // A link is read each time, the files behind it when it has moved.
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
        // A folder that was set back does not set us back.
        let third = LiveCredential::new(&store, install(100_020));
        install(100_005);
        assert_eq!(third.newest().serial, third.known.serial);
        store.clear().unwrap();
        assert_eq!(third.newest().serial, third.known.serial);
        assert_eq!(held.newest().serial, first);
    }
}
