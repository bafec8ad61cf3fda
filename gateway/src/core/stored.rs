//! What may be read from the store, and what a record that cannot be read is taken for.

use std::{any::Any, sync::OnceLock};

use pki::{KeyDigest, Role};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    audit::AuditRecord,
    keys,
    records::{
        Certificate, CertificateEnd, Convergence, Enrollment, KeptName, LastList, Lineage, Lock, NumberHolder, Seen,
        Stale, Subject, Token, TunnelRecord, UnixSecs, Waiting,
    },
    refusal::Fault,
    subjects::Owned,
    timekeeping::ClockNote,
};

/// What may be read from the store. Every way of reading asks it what a record that cannot be read is taken for, so none can forget.
pub trait Stored: DeserializeOwned {
    /// What stands for the record under this key when it cannot be read: for the kinds without which somebody would have more rights
    /// than with it, and as far as the key tells. Every other is missing from lists, and whatever hangs on it is refused.
    #[must_use]
    fn unreadable(_key: &str) -> Option<Self> {
        None
    }
}

macro_rules! nothing_stands_for {
    ($($record:ty),+ $(,)?) => { $(impl Stored for $record {})+ };
}

nothing_stands_for! {
    Enrollment, Waiting, Token, AuditRecord, Certificate, Stale, Subject, Convergence, KeptName, Lineage, LastList, TunnelRecord,
    UnixSecs, ClockNote, NumberHolder, String, u64, serde_json::Value, IgnoredAny,
}

/// A lock whose record cannot be read still locks what its key names.
impl Stored for Lock {
    fn unreadable(key: &str) -> Option<Self> {
        let (kind, target) = keys::locked(key)?;
        let reason = "the record of this lock is damaged, so nobody can tell why it was set".to_owned();
        Some(Self {
            kind,
            target,
            reason,
            by: "gateway".to_owned(),
            at: UnixSecs(0),
            of_key: None,
            instance: String::new(),
        })
    }
}

/// The key says it all.
impl Stored for Owned {
    fn unreadable(key: &str) -> Option<Self> {
        key.rsplit_once('/').map(|(_, machine)| Self(machine.to_owned()))
    }
}

/// A certificate of which it cannot be said whose it is, is nobody's: it stands on the list of revoked ones.
impl Stored for CertificateEnd {
    fn unreadable(key: &str) -> Option<Self> {
        let (issuer, not_after, serial) = keys::certificate_ending(key)?;
        Some(Self {
            serial,
            lineage: String::new(),
            // Whoever reads the index of a CA knows its role.
            role: Role::Machine,
            issuer,
            name: String::new(),
            key: KeyDigest::from_spki_der(&[]),
            not_before: UnixSecs(0),
            not_after,
        })
    }
}

/// What stands under a key: the bytes, or why they are not what was written.
pub type RawRecord = Seen<Result<Vec<u8>, String>>;

/// A record as it was read, and what it was decoded to: a decision is asked several times, and asks for it in several places.
#[derive(Debug)]
pub struct ReadRecord {
    key: String,
    raw: RawRecord,
    damage: OnceLock<Option<String>>,
    decoded: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A record decoded as its kind, or what stands for it, and what is wrong with it.
pub type Decoded<T> = (Option<Seen<T>>, Option<Fault>);

impl ReadRecord {
    /// A record as it was read.
    #[must_use]
    pub const fn new(key: String, raw: RawRecord) -> Self {
        Self { key, raw, damage: OnceLock::new(), decoded: OnceLock::new() }
    }

    /// Why it is not what its kind reads as, where only `damage` knows the kind: it is asked once, with key and bytes.
    #[must_use]
    pub fn damage(&self, damage: impl Fn(&[u8], &[u8]) -> Option<String>) -> Option<&str> {
        let why = self.damage.get_or_init(|| match &self.raw.record {
            Ok(bytes) => damage(self.key.as_bytes(), bytes),
            Err(why) => Some(why.clone()),
        });
        why.as_deref()
    }

    /// What it holds, or what stands for it.
    #[must_use]
    pub fn decoded<T: Stored + Clone + Send + Sync + 'static>(&self) -> Decoded<T> {
        let read = || read(&self.key, self.raw.version, self.raw.record.as_deref().map_err(Clone::clone));
        let decoded = self.decoded.get_or_init(|| Box::new(read()));
        // whoever reads it as another kind decodes it again
        decoded.downcast_ref::<Decoded<T>>().cloned().unwrap_or_else(read)
    }
}

/// What an entry holds, or what stands for it when it cannot be read, and why it cannot: the one place where that is decided.
pub fn read<T: Stored>(key: &str, version: u64, value: Result<&[u8], String>) -> Decoded<T> {
    let record = value.and_then(|bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string()));
    match record {
        Ok(record) => (Some(Seen { record, version }), None),
        Err(why) => {
            let instead = T::unreadable(key).map(|record| Seen { record, version });
            (instead, Some(Fault::Record(format!("{key}: {why}"))))
        }
    }
}
