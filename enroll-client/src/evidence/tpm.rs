//! `tpm`: a TPM that nobody provisioned proves the machine. Its EK, with the certificates that its maker left in it, and an AK are sent;
//! the gateway's challenge is opened by both together, and the AK quotes the PCRs that are asked for.
//!
//! The AK is made from a fixed template each time, under the endorsement hierarchy, whose counts of starts have no offset. So nothing is
//! stored, and a machine that was wiped has the same AK again. The key to be certified is either one in a file, for which the AK vouches
//! with its signature over the key's digest, or one that the TPM made: then the AK certifies that it is in the TPM.

mod device;
mod held;
mod machine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::channel::oneshot;
use futures::lock::Mutex;
use pki::KeyDigest;
use tpm::{HashAlgorithm, KeyFile, PcrSet, Template};
use wire::evidence::{TPM, TPM_CONTEXT, TPM_NONCE_LEN, TpmAnswer, TpmChallenge, TpmEvidence, TpmQuote, TpmSigned};

pub use self::device::{Device, Place, TpmError, VARIABLE};
pub use self::held::{NO_TPM, make as make_key, read as read_key, with_key};
pub use self::machine::{About, EkName, NvCertificate};

use super::{Binding, EvidenceError, Known, Prover, Proving};
use crate::core::attestation::{FetchedCertificate, KnownEk};

/// Names the file with the event log of the boot.
pub const LOG_VARIABLE: &str = "LYCHGATE_TPM_LOG";

/// The event log of the boot, as Linux has it. Most systems let root alone read it.
const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// The file with the event log of the boot: the one that [`LOG_VARIABLE`] names, or else that of Linux.
#[must_use]
pub fn event_log_file() -> PathBuf {
    std::env::var_os(LOG_VARIABLE).filter(|named| !named.is_empty()).map_or_else(|| EVENT_LOG.into(), PathBuf::from)
}

/// Longest event log that is sent, in bytes: with the certificates, and in base64, it must fit into
/// [`wire::limits::EVIDENCE_PIECE_MOST`]. Those of PCs have 20 to 100 KiB.
const LOG_MAX: u64 = 144 * 1024;

/// How long everything that is asked of the TPM for one request may take. Making an RSA key takes some TPMs half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The prover, if the machine has a TPM or one is named.
pub fn probe(known: Known<'_>) -> Option<Box<dyn Prover>> {
    let place = Place::find()?;
    let fetched = known.attestation.fetched.iter().filter_map(certificate).collect();
    let source = TpmSource { place, log: event_log_file(), known: known.ek.cloned(), fetched };
    Some(Box::new(Tpm::new(source)))
}

/// A certificate that was fetched, as if it were in the TPM where the profile wants it; `None` if the record of it is damaged.
#[must_use]
pub fn certificate(fetched: &FetchedCertificate) -> Option<NvCertificate> {
    let index = Template::named(&fetched.template)?.certificate_index();
    Some(NvCertificate { index, der: STANDARD.decode(&fetched.certificate).ok()? })
}

/// What evidence is made from.
#[derive(Clone, Debug)]
struct TpmSource {
    place: Place,
    log: PathBuf,
    /// The EK to show, if one was shown before.
    known: Option<KnownEk>,
    /// Certificates that the TPM does not hold.
    fetched: Vec<NvCertificate>,
}

/// A body of evidence, and the EK in it.
type Proof = (String, KnownEk);

/// The prover. One that failed fails again at once: the next attempt to join makes another.
struct Tpm {
    source: TpmSource,
    /// What was asked last, and what came of it, for a request that is repeated.
    last: Mutex<Option<(Asked, Result<String, EvidenceError>)>>,
    shown: std::sync::Mutex<Option<KnownEk>>,
}

impl Tpm {
    fn new(source: TpmSource) -> Self {
        Self { source, last: Mutex::new(None), shown: std::sync::Mutex::default() }
    }
}

/// What is asked of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// The key to be certified.
    key: KeyDigest,
    /// What the TPM can use of it, if it is in the TPM.
    inside: Option<KeyFile>,
    /// The gateway's challenge, in the second round.
    challenge: Option<String>,
}

impl Prover for Tpm {
    fn kind(&self) -> &'static str {
        TPM
    }

    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a> {
        let inside = binding.inside.cloned();
        let asked = Asked { key: *binding.new_key, inside, challenge: challenge.map(str::to_owned) };
        Box::pin(async move {
            let mut last = self.last.lock().await;
            match &*last {
                Some((_, Err(error))) => return Err(error.clone()),
                Some((before, Ok(body))) if *before == asked => return Ok(body.clone()),
                Some(_) | None => {}
            }
            let (source, question) = (self.source.clone(), asked.clone());
            let outcome = with_patience(PATIENCE, move || prove(&source, &question)).await;
            let outcome = outcome.map_err(|error| EvidenceError::Machine(error.to_string())).map(|(body, ek)| {
                *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(ek);
                body
            });
            *last = Some((asked, outcome.clone()));
            outcome
        })
    }

    fn shown(&self) -> Option<KnownEk> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

fn prove(source: &TpmSource, asked: &Asked) -> Result<Proof, TpmError> {
    let mut device = Device::open(&source.place)?;
    let certificates = machine::with_fetched(machine::certificates(&mut device)?, &source.fetched);
    let ek = machine::endorsement_key(&mut device, &certificates, source.known.as_ref())?;
    let (handle, ak) = machine::attestation_key(&mut device)?;
    let answer = match &asked.challenge {
        Some(challenge) => Some(answer(&mut device, &ek, (handle, &ak), challenge, asked, &source.log)?),
        None => None,
    };
    let certificates = ek.certificates_among(certificates);
    let evidence = TpmEvidence {
        certificates: certificates.iter().map(|certificate| STANDARD.encode(&certificate.der)).collect(),
        ek: STANDARD.encode(ek.public.bytes()),
        ak: STANDARD.encode(ak.public().bytes()),
        key: asked.inside.as_ref().map(|file| STANDARD.encode(&file.key().public)),
        answer,
    };
    let body = serde_json::to_string(&evidence).map_err(|_| TpmError::Unusable("the evidence cannot be written"))?;
    Ok((body, ek.known()))
}

fn answer(
    device: &mut Device,
    ek: &machine::EndorsementKey,
    ak: (u32, &tpm::Ak),
    challenge: &str,
    asked: &Asked,
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
    let extra_data = HashAlgorithm::Sha256.digest(&[TPM_CONTEXT, &nonce, asked.key.as_bytes()]);
    let certification = match &asked.inside {
        Some(file) => Some(signed(&held::certified(device, file, ak.0, &extra_data)?)),
        None => None,
    };
    let quote = if pcrs.is_empty() {
        None
    } else {
        let quote = machine::quote(device, ak, pcrs, &banks(&challenge.banks), &extra_data)?;
        let log = if challenge.log { event_log(log) } else { None };
        Some(written(&quote, log))
    };
    Ok(TpmAnswer { secret: STANDARD.encode(secret), certification, quote })
}

/// The banks that a quote may be of, the preferred one first: those that the gateway names, or any. A bank that is not known here is
/// left out.
fn banks(named: &[String]) -> Vec<HashAlgorithm> {
    if named.is_empty() {
        return HashAlgorithm::ALL.to_vec();
    }
    named.iter().filter_map(|name| HashAlgorithm::named(name)).collect()
}

fn signed(signed: &tpm::command::Signed) -> TpmSigned {
    TpmSigned { attest: STANDARD.encode(&signed.attest), signature: STANDARD.encode(&signed.signature) }
}

fn written(quote: &machine::QuoteWithValues, log: Option<Vec<u8>>) -> TpmQuote {
    let bank = quote.bank.as_str();
    let values: BTreeMap<u8, String> = quote.values.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect();
    TpmQuote { signed: signed(&quote.signed), bank: bank.to_owned(), values, log: log.map(|log| STANDARD.encode(log)) }
}

/// The event log, if there is one that we may read and that is not too long.
fn event_log(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut log = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(LOG_MAX + 1).read_to_end(&mut log).ok()?;
    (!log.is_empty() && u64::try_from(log.len()).is_ok_and(|len| len <= LOG_MAX)).then_some(log)
}

/// The public keys of the EKs that the TPM makes from the templates whose certificates makers keep on servers.
pub async fn endorsement_keys(place: &Place) -> Result<Vec<EkName>, TpmError> {
    let place = place.clone();
    with_patience(PATIENCE, move || machine::endorsement_keys(&mut Device::open(&place)?)).await
}

/// Looks at the TPM, and whether the event log can be read.
pub async fn about(place: &Place) -> Result<(About, bool), TpmError> {
    let place = place.clone();
    let look = move || Ok((machine::about(&mut Device::open(&place)?)?, event_log(&event_log_file()).is_some()));
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
        let tpm = Tpm::new(TpmSource { place, log: EVENT_LOG.into(), known: None, fetched: Vec::new() });
        let digest = KeyDigest::from_spki_der(b"key");
        let domain = pki::TrustDomain::parse("td.example").unwrap();
        let now = pki::UnixTime::new(0);
        let binding = Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now };
        let EvidenceError::Machine(first) = tpm.body(binding, None).await.unwrap_err() else { panic!("a key") };
        assert!(first.starts_with("the TPM at unix:/") && first.contains("cannot be opened"), "{first}");
        assert_eq!(tpm.body(binding, Some("{}")).await, Err(EvidenceError::Machine(first)));
        assert_eq!(tpm.shown(), None);
    }

    #[test]
    fn the_gateway_says_which_banks_count() {
        let of = |named: &[&str]| banks(&named.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), HashAlgorithm::ALL);
        assert_eq!(of(&["sha384", "sha256"]), [HashAlgorithm::Sha384, HashAlgorithm::Sha256]);
        assert_eq!(of(&["sha3-256", "sha512", "sha1"]), [HashAlgorithm::Sha512]);
        assert_eq!(of(&["sha1"]), []);
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
