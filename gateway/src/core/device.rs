//! The device behind evidence, such as a TPM, by which a machine is the same one again after it was wiped.

use std::collections::BTreeMap;

use pki::{Role, UnixTime};

use super::{
    audit::{Event, StandingEvent},
    change::Changes,
    evidence::{Claims, Continues, DeviceClaims},
    keys, name,
    records::{Claim, CountedBack, DeviceHolder, Lineage, Seen, Shown, Subject},
    subjects,
};

/// A device that evidence is of, and what is on record of it.
#[derive(Clone, Debug)]
pub struct KnownDevice {
    /// Its key in the store.
    pub key: String,
    /// Which machine it was last known as.
    pub holder: Option<Seen<DeviceHolder>>,
    /// That machine's lineage, ended or not.
    pub lineage: Option<Seen<Lineage>>,
    /// The machine; `None` if it was removed.
    pub subject: Option<Seen<Subject>>,
}

impl KnownDevice {
    /// The machine that it is, while there is one.
    fn machine(&self) -> Option<Continues> {
        let lineage = self.lineage.clone().filter(|seen| !seen.record.ended)?;
        let subject = self.subject.clone().filter(|seen| seen.record.lineage == lineage.record.id)?;
        Some(Continues { lineage, subject })
    }
}

/// The devices that the evidence of a request is of.
#[derive(Clone, Debug, Default)]
pub struct KnownDevices(pub Vec<KnownDevice>);

impl KnownDevices {
    /// The machine that all of them are, while there is one.
    #[must_use]
    pub fn machine(&self) -> Option<Continues> {
        let mut machines = self.0.iter().filter_map(KnownDevice::machine);
        let first = machines.next()?;
        machines.all(|other| other.lineage.record.id == first.lineage.record.id).then_some(first)
    }

    /// The name of a machine that one of them was, and that was removed.
    #[must_use]
    pub fn removed(&self) -> Option<&str> {
        let gone = self.0.iter().find(|known| known.machine().is_none())?;
        gone.lineage.as_ref().map(|seen| seen.record.name.as_str())
    }

    /// The machine as which a newcomer with these claims comes back. Whoever is admitted by something else, such as a token, does not: at
    /// most one piece of evidence grants. Nor does a newcomer whose evidence is for other names.
    #[must_use]
    pub fn comes_back(&self, claims: &Claims) -> Option<Continues> {
        let machine = self.machine()?;
        let named = &machine.lineage.record.name;
        let fits = claims.names.is_empty() || claims.names.iter().any(|pattern| name::matches(pattern, named));
        let is_machine = claims.role.is_none_or(|role| role == Role::Machine);
        (claims.grants.is_none() && fits && is_machine).then_some(machine)
    }

    /// From now on they are this lineage's machine. One that is another machine's stays that while there is that machine: else whoever
    /// has a token could take a machine's device away from it.
    pub fn belong(&self, changes: &mut Changes, lineage: &str) {
        for known in &self.0 {
            let is_known = known.holder.as_ref().is_some_and(|seen| seen.record.lineage == lineage);
            if !is_known && known.machine().is_none() {
                let holder = DeviceHolder { lineage: lineage.to_owned() };
                changes.upsert(known.key.clone(), known.holder.as_ref(), &holder);
            }
        }
    }
}

/// A count of a device that is lower than it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerCount {
    count: String,
    before: i64,
    now: i64,
}

impl LowerCount {
    /// The first count of a device that is lower now than it is known; `None` if the device is another or is not known.
    #[must_use]
    pub fn of(
        known: &BTreeMap<String, Claim>,
        shown: &BTreeMap<String, Claim>,
        devices: &[DeviceClaims],
    ) -> Option<Self> {
        let same = |claims: &&DeviceClaims| {
            known.get(&claims.device).is_some_and(|device| shown.get(&claims.device) == Some(device))
        };
        devices.iter().filter(same).find_map(|claims| {
            for count in &claims.counts {
                let (Some(Claim::Number(before)), Some(Claim::Number(now))) = (known.get(count), shown.get(count))
                else {
                    return None;
                };
                if now < before {
                    return Some(Self { count: count.clone(), before: *before, now: *now });
                }
                if now > before {
                    return None;
                }
            }
            None
        })
    }

    /// Tells of it: in the audit, and for a while to whoever looks after the machine.
    pub fn tell(self, changes: &mut Changes, lineage: &str, identity: String, at: UnixTime) {
        let Self { count, before, now } = self;
        let record = CountedBack { lineage: lineage.to_owned(), count: count.clone(), before, now, at: at.into() };
        changes.put(keys::counted_back(lineage), &record);
        changes.event(Event::Standing(StandingEvent::DeviceCountedBack { identity, count, before, now }));
    }
}

/// What a machine shows when it comes back.
#[derive(Clone, Copy, Debug)]
pub struct Showing<'a> {
    /// Its claims.
    pub claims: &'a BTreeMap<String, Claim>,
    /// What its evidence says and nobody vouches for.
    pub stated: &'a BTreeMap<String, String>,
    /// The pieces of evidence.
    pub shown: &'a [Shown],
    /// Kinds of evidence that can be shown again at renewal, each with the prefix of its claims.
    pub again: &'a [(&'static str, &'static str)],
    /// The claims about devices.
    pub devices: &'a [DeviceClaims],
}

/// A machine or person comes back to its lineage: what it shows now takes the place of what was known. Returns it as it is from now on.
pub fn back(
    changes: &mut Changes,
    (lineage, seen): (&str, &Seen<Subject>),
    identity: String,
    showing: Showing<'_>,
    now: UnixTime,
) -> Subject {
    let mut subject = seen.record.clone();
    subjects::remember(&mut subject, showing.claims, showing.stated, showing.shown, showing.again);
    if let Some(lower) = LowerCount::of(&seen.record.claims, &subject.claims, showing.devices) {
        lower.tell(changes, lineage, identity, now);
    }
    let before = &seen.record;
    if (&subject.claims, &subject.stated, &subject.evidence) != (&before.claims, &before.stated, &before.evidence) {
        changes.update(keys::subject(subject.role, &subject.name), seen, &subject);
    }
    subject
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{change::RecordWrite, evidence::Grants, records::UnixSecs};

    fn tpm() -> Vec<DeviceClaims> {
        vec![DeviceClaims { device: "tpm_ek".into(), counts: vec!["tpm_resets".into(), "tpm_clock".into()] }]
    }

    fn claims(ek: &str, counts: &[(&str, i64)]) -> BTreeMap<String, Claim> {
        let ek = ("tpm_ek".to_owned(), Claim::Text(ek.to_owned()));
        counts.iter().map(|(name, value)| ((*name).to_owned(), Claim::Number(*value))).chain([ek]).collect()
    }

    #[test]
    fn a_count_is_lower_only_on_the_same_device() {
        let at = |ek, resets, clock| claims(ek, &[("tpm_resets", resets), ("tpm_clock", clock)]);
        for (known, shown, want) in [
            (at("a", 7, 100), at("a", 7, 100), None),
            (at("a", 7, 100), at("a", 7, 101), None),
            (at("a", 7, 100), at("a", 8, 5), None),
            (at("a", 7, 100), at("a", 7, 99), Some(("tpm_clock", 100, 99))),
            (at("a", 7, 100), at("a", 6, 500), Some(("tpm_resets", 7, 6))),
            (at("a", 7, 100), at("b", 0, 0), None),
            (claims("a", &[]), at("a", 0, 0), None),
            (at("a", 7, 100), claims("a", &[]), None),
            (BTreeMap::new(), at("a", 0, 0), None),
        ] {
            let want = want.map(|(count, before, now)| LowerCount { count: count.to_owned(), before, now });
            assert_eq!(LowerCount::of(&known, &shown, &tpm()), want, "{known:?} {shown:?}");
        }
    }

    fn lineage(id: &str, name: &str, ended: bool) -> Seen<Lineage> {
        let text = format!(
            r#"{{"id":"{id}","role":"machine","name":"{name}","current":null,"pending":null,"activated":0,
            "forked":false,"ended":{ended},"created":0}}"#
        );
        Seen { record: serde_json::from_str(&text).unwrap(), version: 3 }
    }

    fn known(id: &str, name: &str, ended: bool) -> KnownDevice {
        let subject = subjects::sample(Role::Machine, name, id, None);
        KnownDevice {
            key: keys::device("tpm_ek", id),
            holder: Some(Seen { record: DeviceHolder { lineage: id.to_owned() }, version: 2 }),
            lineage: Some(lineage(id, name, ended)),
            subject: (!ended).then_some(Seen { record: subject, version: 4 }),
        }
    }

    fn unknown() -> KnownDevice {
        KnownDevice { key: keys::device("tpm_ek", "new"), holder: None, lineage: None, subject: None }
    }

    #[test]
    fn a_newcomer_comes_back_by_its_device_alone() {
        let name = |devices: &[KnownDevice], claims: &Claims| {
            KnownDevices(devices.to_vec()).comes_back(claims).map(|machine| machine.subject.record.name)
        };
        let plain = Claims { role: Some(Role::Machine), ..Claims::of_a_key() };
        let one = known("l1", "edge-1", false);
        assert_eq!(name(std::slice::from_ref(&one), &plain).as_deref(), Some("edge-1"));
        assert_eq!(name(&[one.clone(), unknown()], &plain).as_deref(), Some("edge-1"));
        assert_eq!(name(&[unknown()], &plain), None);
        assert_eq!(name(&[known("l1", "edge-1", true)], &plain), None, "removed");
        assert_eq!(name(&[one.clone(), known("l2", "edge-2", false)], &plain), None, "of two machines");
        let mut other = one.clone();
        other.subject.as_mut().unwrap().record.lineage = "l9".to_owned();
        assert_eq!(name(&[other], &plain), None, "another has its name by now");
        for (claims, want) in [
            (Claims { names: vec!["edge-*".to_owned()], ..plain.clone() }, Some("edge-1")),
            (Claims { names: vec!["web1".to_owned()], ..plain.clone() }, None),
            (Claims { grants: Some(Grants::default()), ..plain.clone() }, None),
            (Claims { role: Some(Role::Person), ..plain.clone() }, None),
        ] {
            assert_eq!(name(std::slice::from_ref(&one), &claims).as_deref(), want, "{claims:?}");
        }
    }

    #[test]
    fn a_device_stays_with_the_machine_that_has_it() {
        let after = |device: KnownDevice, lineage: &str| {
            let mut changes = Changes::new();
            KnownDevices(vec![device]).belong(&mut changes, lineage);
            let put = changes.writes.first().map(|write| match write {
                RecordWrite::Put(_, value) => serde_json::from_slice::<DeviceHolder>(value).unwrap().lineage,
                RecordWrite::Delete(key) => panic!("{key} goes"),
            });
            (put, changes.expect.len())
        };
        assert_eq!(after(unknown(), "l2"), (Some("l2".to_owned()), 1), "and nobody else was first");
        assert_eq!(after(known("l1", "edge-1", false), "l1"), (None, 0));
        assert_eq!(after(known("l1", "edge-1", false), "l2"), (None, 0));
        assert_eq!(after(known("l1", "edge-1", true), "l2"), (Some("l2".to_owned()), 1), "that machine was removed");
    }

    #[test]
    fn what_is_shown_now_takes_the_place_of_what_was_known() {
        let mut subject = subjects::sample(Role::Machine, "edge-1", "l1", None);
        let piece = |kind: &str, at| Shown { kind: kind.to_owned(), at: UnixSecs(at), reference: None };
        subject.claims = claims("a", &[("tpm_resets", 7), ("other_n", 1)]);
        subject.evidence = vec![piece("tpm", 10), piece("other", 10)];
        let seen = Seen { record: subject, version: 1 };
        let again = [("tpm", "tpm"), ("other", "other")];
        let shown = claims("a", &[("tpm_clock", 5), ("prior_expired_for", 9)]);
        let mut changes = Changes::new();
        let after = |changes: &mut Changes, shown: &BTreeMap<_, _>, pieces: &[Shown]| {
            let showing =
                Showing { claims: shown, stated: &BTreeMap::new(), shown: pieces, again: &again, devices: &[] };
            back(changes, ("l1", &seen), "m".to_owned(), showing, UnixTime::new(20))
        };
        let got = after(&mut changes, &shown, &[piece("tpm", 20), piece("prior-certificate", 20)]);
        assert_eq!(got.claims, claims("a", &[("tpm_clock", 5), ("other_n", 1)]));
        assert_eq!(got.evidence, [piece("other", 10), piece("tpm", 20)]);
        assert_eq!(changes.writes.len(), 1);
        let mut changes = Changes::new();
        assert_eq!(after(&mut changes, &shown, &[]).claims, seen.record.claims);
        assert!(changes.is_empty(), "nothing was shown");
    }
}
