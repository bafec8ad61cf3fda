//! The newest revocation lists, as they were made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use pki::{KeyDigest, UnixTime};

/// One list.
#[derive(Debug)]
pub struct List {
    /// DER (RFC 5280 5).
    pub der: Bytes,
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub this_update: UnixTime,
    /// The lock epoch it was made at.
    pub epoch: u64,
}

/// The newest list of each issuing CA, by its key: no more than the authority has CAs.
#[derive(Debug, Default)]
pub struct Lists(Mutex<BTreeMap<KeyDigest, Arc<Newest>>>);

/// The newest list of one issuing CA.
#[derive(Debug, Default)]
pub struct Newest {
    /// It, once one was made.
    pub list: ArcSwapOption<List>,
    /// Held by the one that makes the next; the others wait for what it makes.
    pub making: tokio::sync::Mutex<()>,
}

impl Lists {
    /// That of the CA with this key.
    #[must_use]
    pub fn of(&self, issuer: &KeyDigest) -> Arc<Newest> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(*issuer).or_default())
    }
}
