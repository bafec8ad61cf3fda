//! `tpm`: a machine by its TPM, which nobody needs to have provisioned.
//!
//! Evidence: JSON [`TpmEvidence`], in two rounds. In the first the client sends the public areas of the endorsement key (EK), of an
//! attestation key (AK), and of the key to be certified, if that is in the TPM. The challenge is a secret that only the TPM with the
//! EK can open, and only while it holds that AK (TPM2_MakeCredential). In the second round the client sends the secret, a
//! certification of the key by the AK, and a quote of PCRs; the AK's statements are bound to the nonce and to the key.
//!
//! Claims: see [`ROW`]. Without a path from the EK's certificate to one of `anchors` anybody can be such a TPM, in software: then the
//! assurance is `software`, and what the certificate says is stated, not claimed, for a person to decide. With such a path the
//! assurance is of the key, if that is in the TPM, or else of the host. It does not establish which system runs on the machine, nor
//! that a key beside the TPM stays on the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use pki::{EkAnchorText, EkAnchors, EkCertificate, KeyDigest, SshKey, UnixTime};
use serde::Deserialize;
use tpm::HashAlgorithm;
use wire::evidence::{TPM, TpmChallenge, TpmEvidence};

use self::{
    answer::Answered,
    boot::{AllowedBoots, AllowedSettings, Compared},
    claims::vouched,
    keys::{Asked, TpmKeys, decoded, encoded},
    reject::{certificate, ek_unsound, malformed, rejections},
};
use super::{Attestor, Built, Case, DeviceRow, Renewal, Row};
use crate::core::{
    evidence::{
        BadSection, ClaimKind, Cleared, Context, DocumentSource, Found, Message, Need, Parsed, Reject, Rejected,
        RestsOn, Section, Step,
    },
    records::LockKind,
    refusal::Fault,
};

mod answer;
mod boot;
mod claims;
mod keys;
pub mod makers;
mod reject;

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: TPM,
    prefix: "tpm",
    claims: &[
        ("ek", ClaimKind::Text),
        ("chain", ClaimKind::Text),
        ("anchor", ClaimKind::Text),
        ("maker", ClaimKind::Text),
        ("model", ClaimKind::Text),
        ("firmware", ClaimKind::Text),
        ("ek_expired", ClaimKind::Text),
        ("key", ClaimKind::Text),
        ("log", ClaimKind::Text),
        ("secure_boot", ClaimKind::Text),
        ("resets", ClaimKind::Number),
        ("clock", ClaimKind::Number),
        ("boot", ClaimKind::Text),
        ("boot_differs", ClaimKind::Text),
        ("boot_log", ClaimKind::Text),
        ("boot_uki_signer", ClaimKind::Text),
        ("boot_programs", ClaimKind::Text),
        ("boot_cmdline", ClaimKind::Text),
        ("boot_uki_linux", ClaimKind::Text),
        ("boot_uki_cmdline", ClaimKind::Text),
        ("boot_uki_initrd", ClaimKind::Text),
        ("boot_db", ClaimKind::Text),
        ("boot_dbx", ClaimKind::Text),
        ("boot_pcr_0", ClaimKind::Text),
        ("boot_pcr_1", ClaimKind::Text),
        ("boot_pcr_2", ClaimKind::Text),
        ("boot_pcr_3", ClaimKind::Text),
        ("boot_pcr_4", ClaimKind::Text),
        ("boot_pcr_5", ClaimKind::Text),
        ("boot_pcr_6", ClaimKind::Text),
        ("boot_pcr_7", ClaimKind::Text),
        ("boot_pcr_8", ClaimKind::Text),
        ("boot_pcr_9", ClaimKind::Text),
        ("boot_pcr_10", ClaimKind::Text),
        ("boot_pcr_11", ClaimKind::Text),
        ("boot_pcr_12", ClaimKind::Text),
        ("boot_pcr_13", ClaimKind::Text),
        ("boot_pcr_14", ClaimKind::Text),
        ("boot_pcr_15", ClaimKind::Text),
        ("boot_pcr_16", ClaimKind::Text),
        ("boot_pcr_17", ClaimKind::Text),
        ("boot_pcr_18", ClaimKind::Text),
        ("boot_pcr_19", ClaimKind::Text),
        ("boot_pcr_20", ClaimKind::Text),
        ("boot_pcr_21", ClaimKind::Text),
        ("boot_pcr_22", ClaimKind::Text),
        ("boot_pcr_23", ClaimKind::Text),
    ],
    renewal: Renewal::Proves,
    asks: true,
    device: Some(DeviceRow { claim: "ek", counts: &["resets", "clock"] }),
    rejections,
    build,
};

/// `[attest.tpm]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TpmSettings {
    enabled: bool,
    /// A PEM file with the CAs of makers that are trusted.
    anchors: Option<PathBuf>,
    /// The PCRs to quote.
    pcrs: Vec<u8>,
    /// The banks that a quote may be of, the preferred one first.
    banks: Vec<String>,
    /// Whether the event log is asked for with the quote, and what follows if there is none.
    log: Option<LogDemand>,
    /// The boots that are allowed, by name.
    boot: BTreeMap<String, AllowedSettings>,
}

/// What the event log is to a gateway that asks for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LogDemand {
    /// That there is none is told.
    Wanted,
    /// Evidence without one is refused.
    Required,
}

impl Default for TpmSettings {
    /// Nobody is trusted, and PCR 7 (Secure Boot) is quoted. Most TPMs have the bank of SHA-256 alone, and some that of SHA-384.
    fn default() -> Self {
        let banks = [HashAlgorithm::Sha256, HashAlgorithm::Sha384].map(|bank| bank.as_str().to_owned());
        Self { enabled: true, anchors: None, pcrs: vec![7], banks: banks.into(), log: None, boot: BTreeMap::new() }
    }
}

fn build(section: Option<&Section>) -> Built {
    let settings: TpmSettings = section.map_or_else(|| Ok(TpmSettings::default()), Section::read)?;
    if !settings.enabled {
        return Ok(None);
    }
    // The quote binds a key that is beside the TPM, so there is always one.
    let pcrs = tpm::PcrSet::of(settings.pcrs).filter(|pcrs| !pcrs.is_empty());
    let pcrs = pcrs.ok_or_else(|| BadSection::new("`pcrs` must be one or more numbers from 0 to 23"))?;
    let anchors = settings.anchors.zip(section).map(|(path, section)| section.path(&path));
    let anchors = TrustedMakers { source: anchors.map(DocumentSource::File), ..TrustedMakers::default() };
    let (banks, log) = (banks(&settings.banks)?, settings.log);
    let boots = Arc::new(AllowedBoots::build(settings.boot, pcrs, log.is_some())?);
    Ok(Some(Box::new(Tpm { makers: Arc::new(anchors), pcrs, banks, log, boots })))
}

fn banks(named: &[String]) -> Result<Vec<HashAlgorithm>, BadSection> {
    let banks: Option<Vec<HashAlgorithm>> = named.iter().map(|name| HashAlgorithm::named(name)).collect();
    let distinct = |banks: &Vec<HashAlgorithm>| banks.iter().collect::<BTreeSet<_>>().len() == banks.len();
    banks.filter(|banks| !banks.is_empty() && distinct(banks)).ok_or_else(|| {
        let all = HashAlgorithm::ALL.map(HashAlgorithm::as_str).join("`, `");
        BadSection::new(format!("`banks` must be one or more of `{all}`, each once"))
    })
}

struct Tpm {
    makers: Arc<TrustedMakers>,
    pcrs: tpm::PcrSet,
    /// The preferred one first.
    banks: Vec<HashAlgorithm>,
    log: Option<LogDemand>,
    boots: Arc<AllowedBoots>,
}

impl Attestor for Tpm {
    fn piece_max(&self) -> usize {
        if self.log.is_some() { wire::limits::EVIDENCE_PIECE_MOST } else { wire::limits::ENROLL_BODY_MAX }
    }

    fn open(&self, message: &Message<'_>, _: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let body: TpmEvidence = wire::strict::from_slice(message.body.as_bytes())
            .map_err(|_| malformed("its JSON is not that of such evidence"))?;
        let keys = TpmKeys::read(&body, &message.for_key)?;
        match (message.kept, &body.answer) {
            // an answer without a ticket starts a first round
            (None, _) => Ok(Box::new(self.ask(message, &keys)?)),
            (Some(_), None) => Err(malformed("the answer is missing")),
            (Some(kept), Some(answer)) => {
                let asked = Asked::read(kept, &keys)?;
                let answered = answer::check(answer, &keys, &asked, &message.for_key, self)?;
                let certificates = body.certificates.iter().map(|text| decoded(text)).collect::<Result<_, _>>()?;
                Ok(Box::new(AnsweredTpm {
                    makers: Arc::clone(&self.makers),
                    for_key: message.for_key,
                    keys,
                    compared: self.boots.compare(&answered.boot),
                    answered,
                    certificates,
                    vouched: OnceLock::new(),
                }))
            }
        }
    }

    fn documents(&self) -> Vec<DocumentSource> {
        self.makers.source.iter().cloned().collect()
    }

    fn complaints(&self, _: &DocumentSource, text: &[u8], _: Option<&SshKey>, now: UnixTime) -> Vec<String> {
        match EkAnchorText::read(&String::from_utf8_lossy(text), now) {
            Ok(read) => read.faults.iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("{error}; machines with a TPM cannot join or renew by it")],
        }
    }
}

impl Tpm {
    fn ask(&self, message: &Message<'_>, keys: &TpmKeys) -> Result<ChallengedTpm, Reject> {
        let asked = Asked::fresh(&message.entropy, keys);
        let credential = tpm::make_credential(&keys.ek, &keys.ak.public().name(), &asked.secret)
            .map_err(|error| ek_unsound(&error.to_string()))?;
        let challenge = TpmChallenge {
            credential: encoded(&credential.id_object),
            encrypted_secret: encoded(&credential.encrypted_secret),
            nonce: encoded(&asked.nonce),
            pcrs: self.pcrs.iter().collect(),
            banks: self.banks.iter().map(|bank| bank.as_str().to_owned()).collect(),
            log: self.log.is_some(),
        };
        // our own types can be written
        let send = serde_json::to_string(&challenge).unwrap_or_default();
        Ok(ChallengedTpm { for_key: message.for_key, ek: keys.fingerprint(), send, keep: asked.kept() })
    }
}

/// What the evidence rests on: the key, and the TPM.
fn rests_on(for_key: &KeyDigest, ek: &KeyDigest) -> RestsOn {
    let own = vec![(LockKind::Key, for_key.hex()), (LockKind::Key, ek.hex())];
    RestsOn { targets: own.clone(), own }
}

/// A TPM in the first round.
struct ChallengedTpm {
    for_key: KeyDigest,
    ek: KeyDigest,
    send: String,
    keep: Vec<u8>,
}

impl Case for ChallengedTpm {
    fn needs(&self, _: &Found) -> Result<Vec<Need>, Reject> {
        Ok(vec![])
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        Ok(rests_on(&self.for_key, &self.ek))
    }

    fn step(&self, _: &Found, _: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        Ok(Step::Ask { send: self.send.clone(), keep: self.keep.clone() })
    }
}

/// A TPM that answered.
struct AnsweredTpm {
    makers: Arc<TrustedMakers>,
    for_key: KeyDigest,
    keys: TpmKeys,
    answered: Answered,
    /// What was booted, compared with what is allowed.
    compared: Compared,
    certificates: Vec<Vec<u8>>,
    /// Found once, although a decision is asked for several times.
    vouched: OnceLock<Result<Option<EkCertificate>, Reject>>,
}

impl AnsweredTpm {
    /// What the EK's certificate comes to, if there is one.
    fn certificate(&self, anchors: &EkAnchors, now: UnixTime) -> Result<Option<EkCertificate>, Reject> {
        if self.certificates.is_empty() {
            return Ok(None);
        }
        let ek = self.keys.ek.public().key();
        let is_ek = |spki: &[u8]| tpm::PublicKey::from_spki_der(spki).is_ok_and(|key| key == *ek);
        pki::verify_ek(&self.certificates, &is_ek, anchors, now).map(Some).map_err(|error| certificate(&error))
    }
}

impl Case for AnsweredTpm {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        let source = self.makers.source.iter().filter(|_| found.is_empty());
        Ok(source.cloned().map(Need::Document).collect())
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        Ok(rests_on(&self.for_key, &self.keys.fingerprint()))
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let anchors = self.makers.anchors(found)?;
        let certificate = self.vouched.get_or_init(|| self.certificate(&anchors, context.now)).clone()?;
        let vouched = vouched(&self.keys, &self.answered, certificate.as_ref(), &self.compared, context.now);
        Ok(Step::Done(Box::new(vouched)))
    }
}

/// The makers whose TPMs are trusted.
#[derive(Default)]
struct TrustedMakers {
    source: Option<DocumentSource>,
    parsed: Parsed<Result<Arc<EkAnchors>, String>>,
}

impl TrustedMakers {
    /// The anchors in the document that was found.
    fn anchors(&self, found: &Found) -> Result<Arc<EkAnchors>, Fault> {
        if self.source.is_none() {
            return Ok(Arc::default());
        }
        let bad = |why: &str| Fault::Record(format!("`anchors` of `[attest.tpm]`: {why}"));
        let document = found.document(0).ok_or_else(|| bad("the file cannot be read"))?;
        let parsed = self.parsed.of(document, |bytes| {
            EkAnchors::from_pem(&String::from_utf8_lossy(bytes)).map(Arc::new).map_err(|error| error.to_string())
        });
        parsed.as_ref().as_ref().map(Arc::clone).map_err(|why| bad(why))
    }
}

#[cfg(test)]
mod tests;
