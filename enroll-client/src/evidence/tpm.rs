//! `tpm`: a TPM that nobody provisioned proves the machine. Its EK, with the certificates that its maker left in it, and an AK are sent;
//! the gateway's challenge is opened by both together, and the AK quotes the PCRs that are asked for.
//!
//! The AK is made from a fixed template each time, under the endorsement hierarchy, whose counts of starts have no offset. So nothing is
//! stored, and a machine that was wiped has the same AK again. The key to be certified is the one in the client's folder: the AK vouches
//! for it with its signature over the key's digest, and does not say that it is in the TPM.

mod device;
mod machine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::channel::oneshot;
use futures::lock::Mutex;
use pki::KeyDigest;
use tpm::{HashAlgorithm, PcrSet};
use wire::evidence::{TPM, TPM_CONTEXT, TPM_NONCE_LEN, TpmAnswer, TpmChallenge, TpmEvidence, TpmQuote, TpmSigned};

pub use self::device::{Device, Place, TpmError, VARIABLE};
pub use self::machine::{About, NvCertificate};

use super::{Binding, EvidenceError, Prover, Proving};

/// The event log of the boot, as Linux has it. Most systems let root alone read it.
pub const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// Longest event log that is sent, in bytes: with the certificates, and in base64, it must fit into
/// [`wire::limits::EVIDENCE_PIECE_MOST`]. Those of PCs have 20 to 100 KiB.
const LOG_MAX: u64 = 144 * 1024;

/// How long everything that is asked of the TPM for one request may take. Making an RSA key takes some TPMs half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The prover, if the machine has a TPM or one is named.
pub fn probe(_: &Path) -> Option<Box<dyn Prover>> {
    let place = Place::find()?;
    Some(Box::new(Tpm { place, log: EVENT_LOG.into(), last: Mutex::new(None) }))
}

/// The prover. One that failed fails again at once: the next attempt to join makes another.
struct Tpm {
    place: Place,
    log: PathBuf,
    /// What was asked last, and what came of it, for a request that is repeated.
    last: Mutex<Option<(Asked, Result<String, EvidenceError>)>>,
}

/// What is asked of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// The key to be certified.
    key: KeyDigest,
    /// The gateway's challenge, in the second round.
    challenge: Option<String>,
}

impl Prover for Tpm {
    fn kind(&self) -> &'static str {
        TPM
    }

    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a> {
        let asked = Asked { key: *binding.new_key, challenge: challenge.map(str::to_owned) };
        Box::pin(async move {
            let mut last = self.last.lock().await;
            match &*last {
                Some((_, Err(error))) => return Err(error.clone()),
                Some((before, Ok(body))) if *before == asked => return Ok(body.clone()),
                Some(_) | None => {}
            }
            let (place, log, question) = (self.place.clone(), self.log.clone(), asked.clone());
            let outcome = with_patience(PATIENCE, move || prove(&place, &log, &question)).await;
            let outcome = outcome.map_err(|error| EvidenceError::Machine(error.to_string()));
            *last = Some((asked, outcome.clone()));
            outcome
        })
    }
}

/// Runs this in a thread, as it blocks, and does not wait for a TPM that hangs: the thread then ends with the process.
async fn with_patience<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> Result<T, TpmError> + Send + 'static,
) -> Result<T, TpmError> {
    let (tell, told) = oneshot::channel();
    let wait = move || {
        let (done, outcome) = mpsc::channel();
        let worker = thread::Builder::new().spawn(move || done.send(work()));
        let outcome = match (worker, outcome.recv_timeout(patience)) {
            (Ok(_), Ok(outcome)) => outcome,
            (Ok(_), Err(mpsc::RecvTimeoutError::Timeout)) => Err(TpmError::Slow(patience)),
            (Ok(_), Err(mpsc::RecvTimeoutError::Disconnected)) | (Err(_), _) => Err(NO_THREAD),
        };
        let _ = tell.send(outcome);
    };
    match thread::Builder::new().spawn(wait) {
        Ok(_) => told.await.unwrap_or(Err(NO_THREAD)),
        Err(_) => Err(NO_THREAD),
    }
}

const NO_THREAD: TpmError = TpmError::Unusable("there is no thread to speak to the TPM in");

/// The body of the evidence.
fn prove(place: &Place, log: &Path, asked: &Asked) -> Result<String, TpmError> {
    let mut device = Device::open(place)?;
    let certificates = machine::certificates(&mut device)?;
    let ek = machine::endorsement_key(&mut device, &certificates)?;
    let (handle, ak) = machine::attestation_key(&mut device)?;
    let answer = match &asked.challenge {
        Some(challenge) => Some(answer(&mut device, &ek, (handle, &ak), challenge, &asked.key, log)?),
        None => None,
    };
    let evidence = TpmEvidence {
        certificates: certificates.iter().map(|certificate| STANDARD.encode(&certificate.der)).collect(),
        ek: STANDARD.encode(ek.public.bytes()),
        ak: STANDARD.encode(ak.public().bytes()),
        key: None,
        answer,
    };
    serde_json::to_string(&evidence).map_err(|_| TpmError::Unusable("the evidence cannot be written"))
}

fn answer(
    device: &mut Device,
    ek: &machine::EndorsementKey,
    ak: (u32, &tpm::Ak),
    challenge: &str,
    key: &KeyDigest,
    log: &Path,
) -> Result<TpmAnswer, TpmError> {
    let bad = || TpmError::Unusable("the gateway's challenge makes no sense");
    let challenge: TpmChallenge = serde_json::from_str(challenge).map_err(|_| bad())?;
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| bad());
    let nonce = bytes(&challenge.nonce)?;
    if nonce.len() != TPM_NONCE_LEN {
        return Err(bad());
    }
    let pcrs = PcrSet::of(challenge.pcrs.iter().copied()).ok_or_else(bad)?;
    let (credential, encrypted) = (bytes(&challenge.credential)?, bytes(&challenge.encrypted_secret)?);
    let secret = machine::activate(device, ak.0, ek, &credential, &encrypted)?;
    let extra_data = HashAlgorithm::Sha256.digest(&[TPM_CONTEXT, &nonce, key.as_bytes()]);
    let quote = if pcrs.is_empty() {
        None
    } else {
        let quote = machine::quote(device, ak, pcrs, &extra_data)?;
        let log = if challenge.log { event_log(log) } else { None };
        Some(written(&quote, log))
    };
    Ok(TpmAnswer { secret: STANDARD.encode(secret), certification: None, quote })
}

fn written(quote: &machine::QuoteWithValues, log: Option<Vec<u8>>) -> TpmQuote {
    let bank = match quote.bank {
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    };
    let values: BTreeMap<u8, String> = quote.values.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect();
    TpmQuote {
        signed: TpmSigned {
            attest: STANDARD.encode(&quote.signed.attest),
            signature: STANDARD.encode(&quote.signed.signature),
        },
        bank: bank.to_owned(),
        values,
        log: log.map(|log| STANDARD.encode(log)),
    }
}

/// The event log, if there is one that we may read and that is not too long.
fn event_log(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut log = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(LOG_MAX + 1).read_to_end(&mut log).ok()?;
    (!log.is_empty() && u64::try_from(log.len()).is_ok_and(|len| len <= LOG_MAX)).then_some(log)
}

/// Looks at the TPM, and whether the event log can be read.
pub async fn about(place: &Place) -> Result<(About, bool), TpmError> {
    let place = place.clone();
    let look = move || Ok((machine::about(&mut Device::open(&place)?)?, event_log(Path::new(EVENT_LOG)).is_some()));
    with_patience(PATIENCE, look).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tpm_that_hangs_is_left_alone() {
        let hang = || {
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        };
        let slow = with_patience(Duration::from_millis(20), hang).await.unwrap_err();
        assert_eq!(slow.to_string(), "the TPM did not finish within 0 s");
    }

    #[tokio::test]
    async fn a_tpm_that_cannot_be_opened_fails_once_and_then_at_once() {
        let room = tempfile::tempdir().unwrap();
        let place = Place::Unix(room.path().join("none"));
        let tpm = Tpm { place, log: EVENT_LOG.into(), last: Mutex::new(None) };
        let digest = KeyDigest::from_spki_der(b"key");
        let domain = pki::TrustDomain::parse("td.example").unwrap();
        let now = pki::UnixTime::new(0);
        let binding = Binding { exporter: &[9; 32], new_key: &digest, domain: &domain, now };
        let EvidenceError::Machine(first) = tpm.body(binding, None).await.unwrap_err() else { panic!("a key") };
        assert!(first.starts_with("the TPM at unix:/") && first.contains("cannot be opened"), "{first}");
        assert_eq!(tpm.body(binding, Some("{}")).await, Err(EvidenceError::Machine(first)));
    }

    #[test]
    fn an_event_log_is_sent_whole_or_not() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("log");
        assert_eq!(event_log(&path), None);
        for (len, want) in [(0, false), (1, true), (144 * 1024, true), (144 * 1024 + 1, false)] {
            std::fs::write(&path, vec![7; len]).unwrap();
            assert_eq!(event_log(&path).is_some(), want, "{len}");
        }
    }
}
