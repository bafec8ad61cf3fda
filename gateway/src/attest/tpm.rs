//! `tpm`: a machine by its TPM, which nobody needs to have provisioned.
//!
//! Evidence: JSON [`TpmEvidence`], in two rounds. In the first the client sends the public areas of the endorsement key (EK), of an
//! attestation key (AK), and of the key to be certified, if that is in the TPM. The challenge is a secret that only the TPM with the
//! EK can open, and only while it holds that AK (TPM2_MakeCredential). In the second round the client sends the secret, a
//! certification of the key by the AK, and a quote of PCRs; the AK's statements are bound to the nonce and to the key.
//!
//! Claims: see [`ROW`]. Without a path from the EK's certificate to one of `anchors` anybody can be such a TPM, in software: then the
//! assurance is `software`, and what the certificate says is not among the claims but for `tpm_stated`, for a person to decide. It
//! does not establish which system runs on the machine, nor that a key beside the TPM stays on the machine.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use pki::{EkAnchors, EkCertificate, KeyDigest};
use serde::Deserialize;
use wire::evidence::{TPM, TpmChallenge, TpmEvidence};

use self::{
    answer::Answered,
    claims::claims,
    keys::{Asked, TpmKeys, decoded, encoded},
    reject::{certificate, ek_unsound, malformed, rejections},
};
use super::{Attestor, Built, Case, DeviceRow, Renewal, Row};
use crate::core::{
    evidence::{
        BadSection, ClaimKind, Cleared, Context, DocumentSource, Found, Message, Need, Parsed, Reject, Rejected,
        RestsOn, Section, Step, Vouched,
    },
    records::LockKind,
    refusal::Fault,
};

mod answer;
mod claims;
mod keys;
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
        ("stated", ClaimKind::Text),
        ("ek_expired", ClaimKind::Text),
        ("key", ClaimKind::Text),
        ("secure_boot", ClaimKind::Text),
        ("resets", ClaimKind::Number),
        ("clock", ClaimKind::Number),
    ],
    renewal: Renewal::Proves,
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
    /// Whether the event log is wanted with the quote.
    event_log: bool,
}

impl Default for TpmSettings {
    /// Nobody is trusted, and PCR 7 (Secure Boot) is quoted.
    fn default() -> Self {
        Self { enabled: true, anchors: None, pcrs: vec![7], event_log: false }
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
    Ok(Some(Box::new(Tpm { makers: Arc::new(anchors), pcrs, log: settings.event_log })))
}

struct Tpm {
    makers: Arc<TrustedMakers>,
    pcrs: tpm::PcrSet,
    log: bool,
}

impl Attestor for Tpm {
    fn piece_max(&self) -> usize {
        if self.log { wire::limits::EVIDENCE_PIECE_MOST } else { wire::limits::ENROLL_BODY_MAX }
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
                    answered,
                    certificates,
                    vouched: OnceLock::new(),
                }))
            }
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
            log: self.log,
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
    certificates: Vec<Vec<u8>>,
    /// Found once, although a decision is asked for several times.
    vouched: OnceLock<Result<Option<EkCertificate>, Reject>>,
}

impl AnsweredTpm {
    /// What the EK's certificate comes to, if there is one.
    fn certificate(&self, anchors: &EkAnchors) -> Result<Option<EkCertificate>, Reject> {
        if self.certificates.is_empty() {
            return Ok(None);
        }
        let ek = self.keys.ek.public().key();
        let is_ek = |spki: &[u8]| tpm::PublicKey::from_spki_der(spki).is_ok_and(|key| key == *ek);
        pki::verify_ek(&self.certificates, &is_ek, anchors).map(Some).map_err(|error| certificate(&error))
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
        let vouched = self.vouched.get_or_init(|| self.certificate(&anchors)).clone()?;
        let claims = claims(&self.keys, &self.answered, vouched.as_ref(), context.now);
        Ok(Step::Done(Box::new(Vouched::claims(claims))))
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
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
            EkAnchors::from_pem(text).map(Arc::new).map_err(|error| error.to_string())
        });
        parsed.as_ref().as_ref().map(Arc::clone).map_err(|why| bad(why))
    }
}

#[cfg(test)]
mod tests;
