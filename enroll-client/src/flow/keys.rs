//! The key of an unfinished request, made in a thread that may block if it is to be in the TPM.

use crate::core::attestation::{KeyPlace, KeyWish};
use crate::core::key::{KeyFault, PrivateKey};
use crate::edge::keystore::{Keystore, StoreError};
use crate::edge::terminal;

/// See [`Keystore::next_key`].
pub async fn next(store: &Keystore) -> Result<PrivateKey, StoreError> {
    made(store, Keystore::next_key).await
}

/// See [`Keystore::fresh_next_key`].
pub async fn fresh(store: &Keystore) -> Result<PrivateKey, StoreError> {
    made(store, Keystore::fresh_next_key).await
}

async fn made(
    store: &Keystore,
    make: fn(&Keystore) -> Result<PrivateKey, StoreError>,
) -> Result<PrivateKey, StoreError> {
    if store.attestation()?.key == KeyPlace::File {
        return make(store);
    }
    let store = store.clone();
    let no_thread = || StoreError::Key(KeyFault::NotMade("there is no thread to speak to the TPM in".to_owned()));
    tokio::task::spawn_blocking(move || make(&store)).await.unwrap_or_else(|_| Err(no_thread()))
}

/// Records where new keys are to be made. A TPM that makes none is an error, and
/// nothing is recorded; if the wish leaves that open, it is said.
pub async fn choose(store: &Keystore, wish: KeyWish) -> Result<(), StoreError> {
    let before = store.attestation()?.key;
    let set = |place| store.change_attestation(|attestation| attestation.key = place);
    if wish == KeyWish::In(KeyPlace::File) {
        return set(KeyPlace::File);
    }
    set(KeyPlace::Tpm)?;
    match next(store).await {
        Ok(_) => Ok(()),
        Err(StoreError::Key(fault)) if wish == KeyWish::Auto => {
            terminal::say(&format!("the key is in a file, and not in the TPM: {fault}"));
            set(KeyPlace::File)
        }
        Err(error) => {
            set(before)?;
            Err(error)
        }
    }
}
