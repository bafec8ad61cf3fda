//! The types of records in the store, and their placeholders when a record is unreadable.

use std::{any::Any, sync::OnceLock};

use pki::{KeyDigest, Role};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    audit::AuditRecord,
    keys,
    records::{
        Certificate, CertificateEnd, Convergence, CountedBack, DeviceHolder, Enrollment, KeptName, LastList, Lineage,
        Lock, NumberHolder, Seen, SpentInstance, SpentJwt, Stale, Subject, Token, TunnelRecord, UnixSecs, Waiting,
    },
    refusal::Fault,
    subjects::Owned,
    timekeeping::ClockNote,
};

/// A type of record in the store. Every reader gets the placeholder of an unreadable record from here, so that none can forget it.
pub trait Stored: DeserializeOwned {
    /// The placeholder for an unreadable record whose loss would grant rights (a lock, for example), rebuilt from its key. Other kinds
    /// have none: they are left out of lists, and what depends on them is refused.
    #[must_use]
    fn unreadable(_key: &str) -> Option<Self> {
        None
    }
}

macro_rules! no_placeholder {
    ($($record:ty),+ $(,)?) => { $(impl Stored for $record {})+ };
}

no_placeholder! {
    Enrollment, Waiting, Token, AuditRecord, Certificate, SpentInstance, SpentJwt, Stale, Subject, Convergence, KeptName, Lineage,
    LastList, TunnelRecord,
    UnixSecs, ClockNote, NumberHolder, DeviceHolder, CountedBack, String, u64, serde_json::Value, IgnoredAny,
}

/// An unreadable lock still locks the target in its key.
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

/// The key contains the entire record.
impl Stored for Owned {
    fn unreadable(key: &str) -> Option<Self> {
        key.rsplit_once('/').map(|(_, machine)| Self(machine.to_owned()))
    }
}

/// A certificate with an unreadable record has no owner: it is listed as revoked.
impl Stored for CertificateEnd {
    fn unreadable(key: &str) -> Option<Self> {
        let (issuer, not_after, serial) = keys::certificate_ending(key)?;
        Some(Self {
            serial,
            lineage: String::new(),
            // The reader of a CA's index knows its role.
            role: Role::Machine,
            issuer,
            name: String::new(),
            key: KeyDigest::from_spki_der(&[]),
            not_before: UnixSecs(0),
            not_after,
        })
    }
}

/// The value under a key: the bytes, or why they are damaged.
pub type RawRecord = Seen<Result<Vec<u8>, String>>;

/// A record as it was read, and its decoded value: a decision is evaluated several times, and asks for it in several places.
#[derive(Debug)]
pub struct ReadRecord {
    key: String,
    raw: RawRecord,
    damage: OnceLock<Option<String>>,
    decoded: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A record decoded as its kind, or its placeholder, and the damage.
pub type Decoded<T> = (Option<Seen<T>>, Option<Fault>);

impl ReadRecord {
    /// A record as it was read.
    #[must_use]
    pub const fn new(key: String, raw: RawRecord) -> Self {
        Self { key, raw, damage: OnceLock::new(), decoded: OnceLock::new() }
    }

    /// The damage of a record whose kind only `damage` can check, which is called once, with key and bytes.
    #[must_use]
    pub fn damage(&self, damage: impl Fn(&[u8], &[u8]) -> Option<String>) -> Option<&str> {
        let why = self.damage.get_or_init(|| match &self.raw.record {
            Ok(bytes) => damage(self.key.as_bytes(), bytes),
            Err(why) => Some(why.clone()),
        });
        why.as_deref()
    }

    /// The value, or the placeholder.
    #[must_use]
    pub fn decoded<T: Stored + Clone + Send + Sync + 'static>(&self) -> Decoded<T> {
        let read = || read(&self.key, &self.raw);
        let decoded = self.decoded.get_or_init(|| Box::new(read()));
        // A reader with another type decodes it again.
        decoded.downcast_ref::<Decoded<T>>().cloned().unwrap_or_else(read)
    }
}

/// The value of a record, or the placeholder and the damage if it is unreadable. This is decided only here.
pub fn read<T: Stored>(key: &str, raw: &RawRecord) -> Decoded<T> {
    let version = raw.version;
    let record = match &raw.record {
        Ok(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Err(why) => Err(why.clone()),
    };
    match record {
        Ok(record) => (Some(Seen { record, version }), None),
        Err(why) => {
            let instead = T::unreadable(key).map(|record| Seen { record, version });
            (instead, Some(Fault::Record(format!("{key}: {why}"))))
        }
    }
}
