//! Devices, such as TPMs: which machines they are known as.

use std::collections::BTreeMap;

use super::attest::Judgement;
use crate::core::{
    admission::lock_kind,
    device::{KnownDevice, KnownDevices},
    evidence::{Cleared, Continues, DeviceClaims, RestsOn},
    keys,
    look::Look,
    records::{Claim, DeviceHolder, Lineage, LockKind, Seen},
    refusal::{Fault, Refusal},
};

/// The devices that claims are of, each with what is on record of it.
///
/// # Errors
/// [`Fault::Record`] when a record makes no sense.
pub(super) fn of(
    look: &Look,
    claims: &BTreeMap<String, Claim>,
    devices: &[DeviceClaims],
) -> Result<KnownDevices, Fault> {
    let shown = devices.iter().filter_map(|device| Some((&device.device, claims.get(&device.device)?)));
    let known = shown.map(|(claim, value)| known(look, keys::device(claim, &value.text())));
    known.collect::<Result<_, Fault>>().map(KnownDevices)
}

/// The devices that judged evidence is of; none while an attestor asks back.
///
/// # Errors
/// As [`of`].
pub(super) fn of_judged(look: &Look, judgement: &Judgement, devices: &[DeviceClaims]) -> Result<KnownDevices, Fault> {
    match judgement {
        Judgement::Holds(judged) => of(look, &judged.claims.values, devices),
        Judgement::Asks(_) => Ok(KnownDevices::default()),
    }
}

fn known(look: &Look, key: String) -> Result<KnownDevice, Fault> {
    let holder: Option<Seen<DeviceHolder>> = look.get(&key)?;
    let lineage: Option<Seen<Lineage>> = match &holder {
        Some(seen) => look.get(&keys::lineage(&seen.record.lineage))?,
        None => None,
    };
    let subject = match &lineage {
        Some(seen) => look.get(&keys::subject(seen.record.role, &seen.record.name))?,
        None => None,
    };
    Ok(KnownDevice { key, holder, lineage, subject })
}

/// No lock on the machine that comes back by its device: not on its name, its lineage, or the key of its certificate.
///
/// # Errors
/// [`Refusal::Locked`].
pub(super) fn cleared(look: &Look, machine: &Continues) -> Result<Cleared, Refusal> {
    let lineage = &machine.lineage.record;
    let certs = [&lineage.current, &lineage.pending].into_iter().flatten();
    let mut targets: Vec<_> = certs.map(|cert| (LockKind::Key, cert.key.hex())).collect();
    targets.push((lock_kind(lineage.role), lineage.name.clone()));
    targets.push((LockKind::Lineage, lineage.id.clone()));
    let locks = look.locks(targets.clone())?;
    RestsOn { own: targets.clone(), targets }.clear(&locks)
}
