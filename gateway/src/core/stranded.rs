//! Who would be stranded by retiring a root or CA: clients that have no other root (they got their roots with the certificate that they
//! use), and holders of certificates that chain to the retired CA.

use std::collections::BTreeMap;

use pki::UnixTime;
use serde::{Deserialize, Serialize};

use super::{
    records::{CertRef, Lineage, UnixSecs},
    slots::{SlotState, Slots},
};

/// Most names kept of each group, as examples for the operator.
const NAMES: usize = 10;

/// A group of machines and people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holders {
    /// Size of the group.
    pub count: u64,
    /// `notAfter` of the last of their certificates.
    pub last_end: UnixSecs,
    /// Up to 10 of them, as `machine NAME` or `person NAME`.
    pub names: Vec<String>,
}

impl Holders {
    fn add(&mut self, who: &str, end: UnixSecs) {
        self.count += 1;
        self.last_end = self.last_end.max(end);
        if self.names.len() < NAMES {
            self.names.push(who.to_owned());
        }
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.last_end = self.last_end.max(other.last_end);
        let room = NAMES.saturating_sub(self.names.len());
        self.names.extend(other.names.iter().take(room).cloned());
    }
}

/// Which roots and CAs the holders of all lineages that have not ended depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// When it was counted.
    pub at: UnixSecs,
    /// Generation of the authority at that time.
    pub generation: u64,
    /// By the generation in which the certificate in use was issued; with it the client got the roots of that generation.
    pub given: BTreeMap<u64, Holders>,
    /// Holders of a certificate that has not expired, by the key digest (hex) of the CA that signed it.
    pub signed: BTreeMap<String, Holders>,
}

impl Usage {
    /// Without holders; see [`Usage::add`].
    #[must_use]
    pub fn new(generation: u64, now: UnixTime) -> Self {
        Self { at: now.into(), generation, ..Self::default() }
    }

    /// Counts the holder of a lineage.
    pub fn add(&mut self, lineage: &Lineage) {
        if lineage.ended {
            return;
        }
        let who = format!("{} {}", lineage.role, lineage.name);
        // The client has received what came with the certificate in use. Whether it received a pending one is unknown, so that counts
        // only if it is the lineage's first.
        if let Some(used) = lineage.current.as_ref().or(lineage.pending.as_ref()) {
            self.given.entry(used.generation).or_default().add(&who, used.not_after);
        }
        let mut issuers: BTreeMap<String, UnixSecs> = BTreeMap::new();
        let good = |cert: &&CertRef| cert.not_after >= self.at;
        for cert in [&lineage.current, &lineage.pending].into_iter().flatten().chain(&lineage.sealed).filter(good) {
            let end = issuers.entry(cert.issuer.hex()).or_default();
            *end = (*end).max(cert.not_after);
        }
        for (issuer, end) in issuers {
            self.signed.entry(issuer).or_default().add(&who, end);
        }
    }

    /// Holders that never got the root with that name.
    #[must_use]
    pub fn without(&self, slots: &Slots, root: &str) -> Holders {
        let published = slots.root(root).and_then(|root| root.published).unwrap_or(u64::MAX);
        self.given_before(published)
    }

    fn given_before(&self, generation: u64) -> Holders {
        let mut all = Holders::default();
        self.given.range(..generation).for_each(|(_, holders)| all.join(holders));
        all
    }

    /// Holders that would have no root left if the slot with that name were retired.
    #[must_use]
    pub fn without_any_other(&self, slots: &Slots, name: &str) -> Holders {
        if slots.root(name).is_none() {
            return Holders::default();
        }
        let left = slots
            .roots()
            .iter()
            .filter(|root| root.name != name && matches!(root.state, SlotState::Published | SlotState::Active));
        // a client that got roots in a generation has all roots published by then
        self.given_before(left.filter_map(|root| root.published).min().unwrap_or(u64::MAX))
    }

    /// Holders of an unexpired certificate of the CA with that name, or of any CA below the root with that name.
    #[must_use]
    pub fn signed_by(&self, slots: &Slots, name: &str) -> Holders {
        let mut all = Holders::default();
        let below = slots.issuing().iter().filter(|slot| slot.name == name || slot.root == name);
        below.filter_map(|slot| self.signed.get(&slot.key.hex())).for_each(|holders| all.join(holders));
        all
    }
}

#[cfg(test)]
mod tests {
    use pki::{KeyDigest, Role, Serial};

    use super::*;
    use crate::core::slots::SlotStep;

    fn key(number: u8) -> KeyDigest {
        KeyDigest::from_spki_der(&[number])
    }

    fn slots() -> Slots {
        let first = Slots::first(key(0), [(Role::Machine, key(1)), (Role::Person, key(2)), (Role::Gateway, key(3))]);
        let below =
            [("machine-2", Role::Machine, 11), ("person-2", Role::Person, 12), ("gateway-2", Role::Gateway, 13)];
        let below = below.map(|(name, role, number)| (name.to_owned(), role, key(number))).to_vec();
        first.with_root("root-2", key(10), below).unwrap().step("root-2", SlotStep::Publish).unwrap()
    }

    fn cert(issuer: u8, generation: u64, not_after: u64) -> Option<CertRef> {
        let serial = Serial::from_entropy([7; 16]);
        let (assurance, not_after) = (pki::Assurance::SOFTWARE, UnixSecs(not_after));
        Some(CertRef { serial, key: key(99), issuer: key(issuer), generation, not_after, assurance })
    }

    fn lineage(name: &str, current: Option<CertRef>, pending: Option<CertRef>) -> Lineage {
        Lineage {
            id: name.to_owned(),
            role: Role::Machine,
            name: name.to_owned(),
            current,
            pending,
            sealed: vec![],
            activated: UnixSecs(0),
            retired: None,
            forked: false,
            ended: false,
            ended_at: None,
            created: UnixSecs(0),
            paid_until: UnixSecs(0),
            sealed_paid_until: UnixSecs(0),
            ssh_paid_until: UnixSecs(0),
            last_seen: None,
            renewal_asked: None,
        }
    }

    /// One row: lineages, and who is stranded when the first root or the first CA for machines is retired.
    #[track_caller]
    fn check(holders: &[Lineage], root: &[&str], machine: &[&str]) {
        let mut usage = Usage::new(9, UnixTime::new(1_000));
        holders.iter().for_each(|lineage| usage.add(lineage));
        let slots = slots();
        let names = |holders: Holders| {
            assert_eq!(holders.count, holders.names.len() as u64);
            holders.names
        };
        let wanted = |all: &[&str]| all.iter().map(|name| format!("machine {name}")).collect::<Vec<_>>();
        assert_eq!(names(usage.without_any_other(&slots, "root")), wanted(root));
        assert_eq!(names(usage.signed_by(&slots, "machine")), wanted(machine));
        assert_eq!(usage.without_any_other(&slots, "machine"), Holders::default());
        assert_eq!(usage.signed_by(&slots, "root"), usage.signed_by(&slots, "machine"), "it is below that root");
    }

    #[test]
    fn who_is_stranded() {
        // the second root was published in generation 3
        check(&[], &[], &[]);
        check(&[lineage("new", cert(11, 3, 2_000), None)], &[], &[]);
        check(&[lineage("old", cert(1, 2, 2_000), None)], &["old"], &["old"]);
        check(&[lineage("renewed-since", cert(1, 3, 2_000), None)], &[], &["renewed-since"]);
        check(&[lineage("away", cert(1, 1, 500), None)], &["away"], &[]);
        check(&[lineage("unused", cert(1, 2, 900), cert(11, 4, 2_000))], &["unused"], &[]);
        check(&[lineage("joined", None, cert(11, 4, 2_000))], &[], &[]);
        check(&[lineage("approved", None, None)], &[], &[]);
        check(&[Lineage { ended: true, ..lineage("gone", cert(1, 1, 2_000), None) }], &[], &[]);
        let sealed =
            Lineage { sealed: cert(1, 1, 2_000).into_iter().collect(), ..lineage("seals", cert(11, 4, 2_000), None) };
        check(&[sealed], &[], &["seals"]);
    }
}
