//! What may be read from the store, and what a record that cannot be read is taken for.

use pki::{KeyDigest, Role};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    audit::AuditRecord,
    keys,
    records::{
        Certificate, CertificateEnd, Convergence, Enrollment, KeptName, LastList, Lineage, Lock, NumberHolder, Stale,
        Subject, Token, TunnelRecord, UnixSecs, Waiting,
    },
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
