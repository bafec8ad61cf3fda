//! `cloud`: a document by which a cloud says which of its instances a machine is: AWS's Nitro attestation document and instance identity
//! document, and Azure's attested document. Google Cloud's is a token, for [`super::jwt`].
//!
//! Evidence: JSON [`CloudEvidence`], in two rounds. In the first the machine says which documents it can get; the challenge says which one
//! is wanted, with a nonce. The documents of Nitro and of Azure have the nonce and the key to be certified in them. The identity document
//! of AWS has neither: it admits an instance once, for one key, shortly after the instance was started.
//!
//! Claims: see [`ROW`]; all of them are what the cloud says of the instance. It does not establish who on the instance asked for the
//! document: whoever reaches the metadata service there, or the NitroTPM, is the instance. Nor does it establish where the key is stored.
//! The identity document of AWS is a text that can be copied; it establishes no more than that somebody could read it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Assurance, KeyDigest, Role, SshKey, UnixTime};
use serde::Deserialize;
use wire::evidence::{CLOUD, CLOUD_NONCE_LEN, CloudChallenge, CloudEvidence};

use self::{
    azure::{AzureDocuments, AzureSettings},
    identity::{IdentityDocuments, IdentitySettings},
    nitro::{Nitro, NitroSettings},
    reject::{malformed, no_document, rejections, used},
};
use super::{Attestor, Built, Case, DeviceRow, Renewal, Row};
use crate::core::{
    change::Changes,
    evidence::{
        BadSection, ClaimKind, Claims, Cleared, Context, DocumentSource, Found, Message, Need, Purpose, Reject,
        Rejected, RestsOn, Section, Step, Vouched, unavailable,
    },
    keys,
    records::{Claim, DeviceHolder, LockKind, SpentInstance},
    refusal::Refusal,
};

mod azure;
mod cbor;
mod identity;
mod nitro;
mod reject;
#[cfg(test)]
mod tests;

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: CLOUD,
    prefix: "cloud",
    claims: &[
        ("document", ClaimKind::Text),
        ("bound", ClaimKind::Text),
        ("device", ClaimKind::Text),
        ("instance", ClaimKind::Text),
        ("account", ClaimKind::Text),
        ("region", ClaimKind::Text),
        ("image", ClaimKind::Text),
        ("module", ClaimKind::Text),
        ("debug", ClaimKind::Text),
        ("pcr0", ClaimKind::Text),
        ("pcr1", ClaimKind::Text),
        ("pcr2", ClaimKind::Text),
        ("pcr3", ClaimKind::Text),
        ("pcr4", ClaimKind::Text),
        ("pcr5", ClaimKind::Text),
        ("pcr7", ClaimKind::Text),
        ("pcr8", ClaimKind::Text),
        ("pcr9", ClaimKind::Text),
        ("pcr11", ClaimKind::Text),
        ("pcr12", ClaimKind::Text),
        ("pcr13", ClaimKind::Text),
        ("pcr14", ClaimKind::Text),
    ],
    renewal: Renewal::Proves,
    asks: true,
    device: Some(DeviceRow { claim: "device", counts: &[] }),
    rejections,
    build,
};

/// [`DeviceRow::claim`], with the prefix.
const DEVICE: &str = "cloud_device";

/// Most documents that a machine may say that it has.
const HAS_MAX: usize = 16;

/// Times may be off by so many seconds.
const LEEWAY: u64 = 60;

/// `[attest.cloud]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CloudSettings {
    enabled: bool,
    #[serde(rename = "aws-nitro")]
    nitro: Option<NitroSettings>,
    #[serde(rename = "aws-identity")]
    identity: Option<IdentitySettings>,
    #[serde(rename = "azure-attested")]
    azure: Option<AzureSettings>,
}

impl Default for CloudSettings {
    fn default() -> Self {
        Self { enabled: true, nitro: None, identity: None, azure: None }
    }
}

fn build(section: Option<&Section>) -> Built {
    let Some(section) = section else { return Ok(None) };
    let CloudSettings { enabled, nitro, identity, azure } = section.read()?;
    let named = |name: &str, what: String| BadSection::new(format!("`{name}`: {what}"));
    // What says most comes first: it is asked for if the machine has it.
    let mut kinds: Vec<Arc<dyn DocumentKind>> = Vec::new();
    if let Some(settings) = nitro {
        kinds.push(Arc::new(Nitro::new(settings, section).map_err(|what| named("aws-nitro", what))?));
    }
    if let Some(settings) = azure {
        kinds.push(Arc::new(AzureDocuments::new(settings, section).map_err(|what| named("azure-attested", what))?));
    }
    if let Some(settings) = identity {
        kinds.push(Arc::new(IdentityDocuments::new(settings, section).map_err(|what| named("aws-identity", what))?));
    }
    if !enabled {
        return Ok(None);
    }
    if kinds.is_empty() {
        let what = "no document is accepted; write a section `aws-nitro`, `aws-identity` or `azure-attested` below it";
        return Err(BadSection::new(what));
    }
    Ok(Some(Box::new(Clouds { kinds })))
}

/// A kind of document that is accepted.
trait DocumentKind: Send + Sync {
    /// Its name in evidence and configuration.
    fn name(&self) -> &'static str;

    /// Its files.
    fn files(&self) -> Vec<DocumentSource>;

    /// What in one of its files cannot be used.
    fn complaint(&self, source: &DocumentSource, text: &[u8]) -> Option<String>;

    /// Reads a document, and checks what needs no file: above all that it was made for this challenge and key.
    fn read(self: Arc<Self>, document: &[u8], asked: &AskedDocument) -> Result<Box<dyn ReadDocument>, Reject>;
}

/// A document that was read. Whose it is, is not known yet.
trait ReadDocument: Send + Sync {
    /// The file that says who may have signed it.
    fn source(&self) -> &DocumentSource;

    /// Whether it holds. `found` begins with the file.
    fn judge(&self, found: &Found, now: UnixTime) -> Result<AttestedInstance, DocumentFault>;

    /// The instance, as [`DEVICE`] says it, if the document is good for the first key alone.
    fn once(&self) -> Option<&str> {
        None
    }
}

/// What was asked for.
struct AskedDocument {
    nonce: [u8; CLOUD_NONCE_LEN],
    for_key: KeyDigest,
    now: UnixTime,
}

/// An instance, as a document that holds says.
struct AttestedInstance {
    /// The claims.
    values: BTreeMap<String, Claim>,
    assurance: Assurance,
    /// The keys that signed, from the document's upwards.
    signers: Vec<KeyDigest>,
    /// For a document without a nonce: until when it admits.
    until: Option<UnixTime>,
}

/// Why a document does not hold.
#[derive(Clone)]
enum DocumentFault {
    /// It is the document's fault.
    Rejected(Box<Reject>),
    /// A file of this gateway cannot be used; why, for the operator.
    Unusable(String),
}

impl From<Reject> for DocumentFault {
    fn from(reject: Reject) -> Self {
        Self::Rejected(Box::new(reject))
    }
}

/// Claims of these texts; those that are not there are left out.
fn texts<const N: usize>(all: [(&str, Option<&str>); N]) -> BTreeMap<String, Claim> {
    all.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Claim::Text(text?.to_owned())))).collect()
}

/// What a document says in JSON: all of it is there once.
fn json<T: serde::de::DeserializeOwned>(content: &[u8]) -> Result<T, Reject> {
    wire::strict::from_slice(content).map_err(|_| malformed("its content is not the JSON of such a document"))
}

/// The accepted documents, the one that says most first.
struct Clouds {
    kinds: Vec<Arc<dyn DocumentKind>>,
}

impl Attestor for Clouds {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let body: CloudEvidence =
            wire::strict::from_slice(message.body.as_bytes()).map_err(|_| malformed("its JSON is malformed"))?;
        if body.has.len() > HAS_MAX {
            return Err(malformed("it names too many documents"));
        }
        let for_key = message.for_key;
        let Some(kept) = message.kept else {
            // a document without a ticket starts a first round
            return Ok(Box::new(self.ask(&body, message)?));
        };
        let document = body.document.ok_or_else(|| malformed("the document is missing"))?;
        let document = STANDARD.decode(document).map_err(|_| malformed("the document is not base64"))?;
        let kept = kept.split_first_chunk().and_then(|(nonce, name)| {
            let kind = self.kinds.iter().find(|kind| kind.name().as_bytes() == name)?;
            Some((Arc::clone(kind), AskedDocument { nonce: *nonce, for_key, now: context.now }))
        });
        let (kind, asked) = kept.ok_or_else(|| Reject::ticket("it is for another document"))?;
        let read = kind.read(&document, &asked)?;
        let known = match message.purpose {
            Purpose::Join { .. } => None,
            Purpose::Renewal { known, .. } => known.get(DEVICE).map(Claim::text),
        };
        Ok(Box::new(ShownDocument { read, for_key, known, judged: OnceLock::new() }))
    }

    fn documents(&self) -> Vec<DocumentSource> {
        self.kinds.iter().flat_map(|kind| kind.files()).collect()
    }

    fn complaints(&self, source: &DocumentSource, text: &[u8], _: Option<&SshKey>, _: UnixTime) -> Vec<String> {
        let of = self.kinds.iter().filter(|kind| kind.files().contains(source));
        of.filter_map(|kind| kind.complaint(source, text)).collect()
    }
}

impl Clouds {
    /// Asks for the first of the accepted documents that the machine has.
    fn ask(&self, body: &CloudEvidence, message: &Message<'_>) -> Result<ChallengedMachine, Reject> {
        let wanted = self.kinds.iter().find(|kind| body.has.iter().any(|has| has == kind.name()));
        let names = || self.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        let wanted = wanted.ok_or_else(|| no_document(&body.has, &names()))?.name();
        let mut nonce = [0; CLOUD_NONCE_LEN];
        nonce.iter_mut().zip(message.entropy).for_each(|(byte, random)| *byte = random);
        let challenge = CloudChallenge { document: wanted.to_owned(), nonce: STANDARD.encode(nonce) };
        Ok(ChallengedMachine {
            for_key: message.for_key,
            // our own types can be written
            send: serde_json::to_string(&challenge).unwrap_or_default(),
            keep: [&nonce[..], wanted.as_bytes()].concat(),
        })
    }
}

/// A machine in the first round.
struct ChallengedMachine {
    for_key: KeyDigest,
    send: String,
    keep: Vec<u8>,
}

impl Case for ChallengedMachine {
    fn needs(&self, _: &Found) -> Result<Vec<Need>, Reject> {
        Ok(vec![])
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        Ok(rests_on(&[self.for_key]))
    }

    fn step(&self, _: &Found, _: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        Ok(Step::Ask { send: self.send.clone(), keep: self.keep.clone() })
    }
}

fn rests_on(keys: &[KeyDigest]) -> RestsOn {
    let targets: Vec<_> = keys.iter().map(|key| (LockKind::Key, key.hex())).collect();
    RestsOn { own: targets.clone(), targets }
}

/// A machine with the document that it was asked for.
struct ShownDocument {
    read: Box<dyn ReadDocument>,
    for_key: KeyDigest,
    /// The instance that the machine is known to be, at a renewal.
    known: Option<String>,
    /// Found once, although a decision is asked for several times.
    judged: OnceLock<Result<Arc<AttestedInstance>, DocumentFault>>,
}

/// Index in [`Found`] of the record that the instance was admitted, and of that which machine it is. The file is before them.
const SPENT: usize = 1;
const HOLDER: usize = 2;

impl ShownDocument {
    /// What the document says. It is kept once the file is there: before, not all look-ups may have been made.
    fn judge(&self, found: &Found, context: &Context<'_>) -> Result<Arc<AttestedInstance>, DocumentFault> {
        let judge = || self.read.judge(found, context.now).map(Arc::new);
        match found.document(0) {
            Some(_) => self.judged.get_or_init(judge).clone(),
            None => judge(),
        }
    }

    /// What admitting an instance by a document without a nonce uses up. A machine that is known as this instance shows it again.
    fn spend(&self, device: &str, until: Option<UnixTime>, found: &Found, now: UnixTime) -> Result<Changes, Reject> {
        let mut spends = Changes::new();
        if self.known.as_deref() == Some(device) {
            return Ok(spends);
        }
        let until = until.unwrap_or(now);
        match found.record::<SpentInstance>(SPENT) {
            Some(seen) if seen.record.key != self.for_key => return Err(used(device)),
            // a repetition, such as after a lost reply
            Some(_) => return Ok(spends),
            None => {}
        }
        // Whoever can read the document must not come back as the machine.
        if found.record::<DeviceHolder>(HOLDER).is_some() {
            return Err(used(device));
        }
        spends.create(keys::spent_instance(device), &SpentInstance { until: until.into(), key: self.for_key });
        Ok(spends)
    }

    /// Whether the age of the document matters: not for a machine that is known as its instance.
    fn is_known(&self) -> bool {
        self.read.once().is_some_and(|device| self.known.as_deref() == Some(device))
    }
}

impl Case for ShownDocument {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        if !found.is_empty() {
            return Ok(vec![]);
        }
        let records = self.read.once().map(|device| [keys::spent_instance(device), keys::device(DEVICE, device)]);
        let records = records.into_iter().flatten().map(Need::Record);
        Ok([Need::Document(self.read.source().clone())].into_iter().chain(records).collect())
    }

    fn rests_on(&self, found: &Found, context: &Context<'_>) -> Result<RestsOn, Reject> {
        let mut keys = vec![self.for_key];
        if let Ok(attested) = self.judge(found, context) {
            keys.extend(&attested.signers);
        }
        Ok(rests_on(&keys))
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let attested = match self.judge(found, context) {
            Ok(attested) => attested,
            Err(DocumentFault::Rejected(reject)) => return Err((*reject).into()),
            Err(DocumentFault::Unusable(why)) => return Err(Refusal::from(unavailable(CLOUD, &why)).into()),
        };
        if let Some(until) = attested.until.filter(|until| *until < context.now && !self.is_known()) {
            return Err(reject::late(until, context.now).into());
        }
        let spends = match self.read.once() {
            Some(device) => self.spend(device, attested.until, found, context.now)?,
            None => Changes::new(),
        };
        let AttestedInstance { values, assurance, .. } = &*attested;
        let (values, assurance) = (values.clone(), *assurance);
        let claims = Claims { values, assurance, role: Some(Role::Machine), names: vec![], grants: None };
        Ok(Step::Done(Box::new(Vouched { spends, ..Vouched::claims(claims) })))
    }
}
