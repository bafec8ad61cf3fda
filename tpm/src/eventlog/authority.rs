//! By what programs were verified that Secure Boot let run, from what was measured into PCR 7
//! (EV_EFI_VARIABLE_AUTHORITY; PC Client Platform Firmware Profile, 3.3.4.8).
//!
//! The firmware measures an authority before the first program that it verifies by it, and shim does the same. Each is
//! measured once. So as long as only such programs ran as measure what they start, nothing ran that none of these had
//! signed. All of them count: a later one can be a forgery only of a program that an earlier one signed.

use super::boot::{BootError, Told, ToldLog};
use super::secure_boot::PCR;
use super::variable::{Namespace, Variable};
use crate::algorithm::HashAlgorithm;

/// By what a program was verified.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Authority<'a> {
    /// A certificate, DER: the program's signer, or a CA above it.
    Certificate(&'a [u8]),
    /// The digest of the program itself: it is listed, and needs no signature.
    Program(&'a [u8]),
}

impl Authority<'_> {
    /// SHA-256 of the certificate, or the digest of the program.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        match self {
            Self::Certificate(der) => HashAlgorithm::Sha256.digest(&[der]),
            Self::Program(digest) => digest.to_vec(),
        }
    }
}

/// Variables that are measured into PCR 7 and verify no program.
const NO_AUTHORITY: [&str; 11] = [
    "AuditMode",
    "DeployedMode",
    "KEK",
    "MokListTrusted",
    "PK",
    "SbatLevel",
    "SecureBoot",
    "SetupMode",
    "dbr",
    "dbt",
    "dbx",
];

/// Bytes in the GUID of an owner, before the certificate or digest (EFI_SIGNATURE_DATA).
const OWNER_LEN: usize = 16;

/// Bytes in a digest of a program: SHA-256, whatever the bank is.
const PROGRAM_LEN: usize = 32;

/// All authorities. After the separator everything must be known; before it, all but authorities describes the policy.
pub(super) fn read<'a>(told: &ToldLog<'_, 'a>) -> Result<Vec<Authority<'a>>, BootError> {
    let mut found: Vec<Authority<'a>> = Vec::new();
    let mut separated = false;
    for event in told.events(PCR)? {
        if told.is_separator(event.digest) {
            separated = true;
            continue;
        }
        match one(told, &event, separated)? {
            Some(authority) if !found.contains(&authority) => found.push(authority),
            Some(_) | None => {}
        }
    }
    Ok(found)
}

/// What an event says.
fn one<'a>(told: &ToldLog<'_, 'a>, event: &Told<'a>, separated: bool) -> Result<Option<Authority<'a>>, BootError> {
    let covered = covered(told, event).ok_or(BootError::Data { event: event.at })?;
    let variable = Variable::read(covered);
    let is_none = |variable: &Variable<'_>| NO_AUTHORITY.contains(&variable.name.as_str());
    let authority = variable.as_ref().filter(|variable| !is_none(variable)).and_then(|one| signature(one.value));
    let known = authority.is_some() || variable.is_some_and(|variable| is_none(&variable) || is_list(&variable));
    if separated && !known { Err(BootError::Form { event: event.at }) } else { Ok(authority) }
}

/// The data that the digest is of. Shim up to 15.4 logs a byte more than it measures.
fn covered<'a>(told: &ToldLog<'_, 'a>, event: &Told<'a>) -> Option<&'a [u8]> {
    let shorter = event.data.split_last().map(|(_, data)| data);
    [Some(event.data), shorter].into_iter().flatten().find(|data| told.is_of(event.digest, data))
}

/// Whether it is the list of all authorities (EFI_SIGNATURE_LIST), which firmware measures again when it changes.
fn is_list(variable: &Variable<'_>) -> bool {
    let len = variable.value.get(16..20).and_then(|len| len.first_chunk().copied()).map(u32::from_le_bytes);
    let fits = len.is_some_and(|len| usize::try_from(len).is_ok_and(|len| 28 <= len && len <= variable.value.len()));
    variable.namespace == Namespace::ImageSecurity && (variable.value.is_empty() || fits)
}

/// One entry of such a list (EFI_SIGNATURE_DATA), or a certificate alone, as shim measures its own.
fn signature(value: &[u8]) -> Option<Authority<'_>> {
    if is_certificate(value) {
        return Some(Authority::Certificate(value));
    }
    let (_, value) = value.split_at_checked(OWNER_LEN)?;
    match value.len() {
        PROGRAM_LEN => Some(Authority::Program(value)),
        _ => is_certificate(value).then_some(Authority::Certificate(value)),
    }
}

/// Whether it has the length of one SEQUENCE in DER, as certificates do, and no more.
fn is_certificate(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x82, high, low, rest @ ..] => usize::from(u16::from_be_bytes([*high, *low])) == rest.len(),
        _ => false,
    }
}
