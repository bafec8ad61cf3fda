//! The attestation document of AWS's Nitro hypervisor: of an instance with a NitroTPM, or of an enclave. COSE_Sign1 (RFC 9052 4.2) with
//! ES384 over a map in CBOR, whose certificates lead to the root that AWS publishes.
//!
//! The nonce is that of the challenge. The key to be certified is in `user_data`, by its digest, or in `public_key`, as it is. Everybody
//! can have an instance at AWS, so the section names PCRs. It establishes that the hypervisor measured these values in an instance whose
//! software put this key into the document. It does not establish whose account that instance is of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use pki::{Assurance, AssuranceOf, KeyDigest, PATH_CERTIFICATES_MAX, PathAnchors, UnixTime, UnprovenLeaf};
use serde::Deserialize;
use wire::evidence::CLOUD_AWS_NITRO;

use super::{
    AskedDocument, AttestedInstance, DocumentFault, DocumentKind, LEEWAY, ROW, ReadDocument,
    cbor::{CborReader, NotCbor},
    reject, texts,
};
use crate::core::{
    evidence::{DocumentFile, DocumentSource, Found, Reject, Section},
    records::Claim,
    ticket::TICKET_LIFE_SECS,
};

/// Longest document, in bytes: one of an enclave has 4 to 5 thousand, plus what was put into it.
const NITRO_MAX: usize = 16 * 1024;

/// Most members of the map: ten are known.
const MEMBERS_MAX: usize = 32;

/// PCRs: their numbers, and the length of a value (SHA-384).
const PCRS_MAX: u64 = 32;
const PCR_LEN: usize = 48;

/// The PCRs in which something is measured whenever anything is: firmware or image, and what it starts.
const ALWAYS_MEASURED: [u64; 3] = [0, 1, 2];

/// The protected header `{1: -35}`: ES384 (RFC 9053 2.1), in the one form that the reader takes.
const ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];

/// Tag of COSE_Sign1 (RFC 9052 2), which AWS leaves out.
const COSE_SIGN1: u64 = 18;

/// Length of a signature.
const SIGNATURE_LEN: usize = 96;

/// `[attest.cloud.aws-nitro]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NitroSettings {
    /// A PEM file with the root of AWS Nitro.
    root: PathBuf,
    /// The values that PCRs must have, by their numbers.
    #[serde(default)]
    pcrs: BTreeMap<String, ExpectedPcr>,
    /// Whether documents are accepted although nothing was measured.
    #[serde(default)]
    debug: bool,
}

/// One value or several, in hex.
#[derive(Deserialize)]
#[serde(untagged)]
enum ExpectedPcr {
    One(String),
    OneOf(Vec<String>),
}

pub(super) struct Nitro {
    root: DocumentFile<PathAnchors>,
    pcrs: BTreeMap<u64, Vec<Vec<u8>>>,
    debug: bool,
}

impl Nitro {
    pub(super) fn new(settings: NitroSettings, section: &Section) -> Result<Self, String> {
        if settings.pcrs.is_empty() {
            let why = "everybody can have such a document, so `pcrs` must name a PCR and its values, such as pcrs.4";
            return Err(why.to_owned());
        }
        let pcrs = settings.pcrs.into_iter().map(|(number, expected)| pcr(&number, expected));
        Ok(Self {
            root: DocumentFile::at(DocumentSource::File(section.path(&settings.root))),
            pcrs: pcrs.collect::<Result<_, _>>()?,
            debug: settings.debug,
        })
    }
}

fn pcr(number: &str, expected: ExpectedPcr) -> Result<(u64, Vec<Vec<u8>>), String> {
    let index = number.parse().ok().filter(|index: &u64| *index < PCRS_MAX && number == index.to_string());
    let index = index.ok_or_else(|| format!("`pcrs.{number}`: the numbers of PCRs are 0 to {}", PCRS_MAX - 1))?;
    let all = match expected {
        ExpectedPcr::One(value) => vec![value],
        ExpectedPcr::OneOf(values) => values,
    };
    let read = |text: &String| hex::decode(text).ok().filter(|value| value.len() == PCR_LEN);
    let values: Option<Vec<_>> = all.iter().map(read).collect();
    let values = values.filter(|values| !values.is_empty());
    values.map(|values| (index, values)).ok_or_else(|| format!("`pcrs.{number}` must be a value of SHA-384 in hex"))
}

fn read_root(text: &[u8]) -> Result<PathAnchors, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    PathAnchors::from_pem(text).map_err(|error| error.to_string())
}

impl DocumentKind for Nitro {
    fn name(&self) -> &'static str {
        CLOUD_AWS_NITRO
    }

    fn files(&self) -> Vec<DocumentSource> {
        vec![self.root.source().clone()]
    }

    fn complaint(&self, _: &DocumentSource, text: &[u8]) -> Option<String> {
        read_root(text).err()
    }

    fn read(self: Arc<Self>, document: &[u8], asked: &AskedDocument) -> Result<Box<dyn ReadDocument>, Reject> {
        if document.len() > NITRO_MAX {
            return Err(reject::malformed("it is too long"));
        }
        let signed = CoseSign1::read(document).map_err(|_| reject::malformed("it is no COSE_Sign1 with ES384"))?;
        let said = NitroPayload::read(&signed.payload)?;
        said.check_binding(asked)?;
        said.check_time(asked.now)?;
        Ok(Box::new(NitroDocument { nitro: self, signed, said }))
    }
}

/// COSE_Sign1, as far as it is needed.
struct CoseSign1 {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl CoseSign1 {
    fn read(document: &[u8]) -> Result<Self, NotCbor> {
        let mut reader = CborReader::of(document);
        reader.optional_tag(COSE_SIGN1);
        if reader.array()? != 4 || reader.bytes()? != ES384 || reader.map()? != 0 {
            return Err(NotCbor);
        }
        let (payload, signature) = (reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
        reader.end()?;
        if signature.len() == SIGNATURE_LEN { Ok(Self { payload, signature }) } else { Err(NotCbor) }
    }

    /// `Sig_structure` (RFC 9052 4.4): what is signed, around the bytes as they came.
    fn to_be_verified(&self) -> Vec<u8> {
        let mut bytes = b"\x84\x6aSignature1".to_vec();
        bytes.push(0x44);
        bytes.extend_from_slice(ES384);
        bytes.push(0x40);
        // The payload has at most 16 KiB.
        bytes.extend_from_slice(&match u8::try_from(self.payload.len()) {
            Ok(length @ 0..24) => vec![0x40 | length],
            Ok(length) => vec![0x58, length],
            Err(_) => [&[0x59], &u16::try_from(self.payload.len()).unwrap_or(u16::MAX).to_be_bytes()[..]].concat(),
        });
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Which of the two it is of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum NitroModule {
    NitroTpm,
    Enclave,
}

/// What the document says.
struct NitroPayload {
    module_id: String,
    module: NitroModule,
    at: UnixTime,
    pcrs: BTreeMap<u64, Vec<u8>>,
    /// The leaf first.
    certificates: Vec<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    public_key: Option<Vec<u8>>,
}

/// The members of the map, before it is known that all are there.
#[derive(Default)]
struct PayloadMembers<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp: Option<u64>,
    pcrs: Option<(NitroModule, BTreeMap<u64, Vec<u8>>)>,
    certificate: Option<&'a [u8]>,
    cabundle: Option<Vec<&'a [u8]>>,
    public_key: Option<&'a [u8]>,
    user_data: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
}

impl<'a> PayloadMembers<'a> {
    /// AWS writes the map with or without its length.
    fn read(payload: &'a [u8]) -> Result<Self, NotCbor> {
        let (mut members, mut known) = (Self::default(), BTreeSet::new());
        let mut reader = CborReader::of(payload);
        let mut entries = reader.map_of_any_length()?;
        while reader.more(&mut entries)? {
            let name = reader.text()?;
            if !known.insert(name) || known.len() > MEMBERS_MAX {
                return Err(NotCbor);
            }
            match name {
                "module_id" => members.module_id = Some(reader.text()?),
                "digest" => members.digest = Some(reader.text()?),
                "timestamp" => members.timestamp = Some(reader.unsigned()?),
                "pcrs" | "nitrotpm_pcrs" if members.pcrs.is_some() => return Err(NotCbor),
                "pcrs" => members.pcrs = Some((NitroModule::Enclave, pcrs(&mut reader)?)),
                "nitrotpm_pcrs" => members.pcrs = Some((NitroModule::NitroTpm, pcrs(&mut reader)?)),
                "certificate" => members.certificate = Some(reader.bytes()?),
                "cabundle" => members.cabundle = Some(bundle(&mut reader)?),
                "public_key" => members.public_key = reader.bytes_or_null()?,
                "user_data" => members.user_data = reader.bytes_or_null()?,
                "nonce" => members.nonce = reader.bytes_or_null()?,
                _ => reader.skip()?,
            }
        }
        reader.end().map(|()| members)
    }
}

fn pcrs(reader: &mut CborReader<'_>) -> Result<BTreeMap<u64, Vec<u8>>, NotCbor> {
    let (count, mut all) = (reader.map()?, BTreeMap::new());
    if count > PCRS_MAX {
        return Err(NotCbor);
    }
    for _ in 0..count {
        let (number, value) = (reader.unsigned()?, reader.bytes()?);
        if number >= PCRS_MAX || value.len() != PCR_LEN || all.insert(number, value.to_vec()).is_some() {
            return Err(NotCbor);
        }
    }
    Ok(all)
}

fn bundle<'a>(reader: &mut CborReader<'a>) -> Result<Vec<&'a [u8]>, NotCbor> {
    let count = usize::try_from(reader.array()?).ok().filter(|count| *count < PATH_CERTIFICATES_MAX).ok_or(NotCbor)?;
    (0..count).map(|_| reader.bytes()).collect()
}

impl NitroPayload {
    fn read(payload: &[u8]) -> Result<Self, Reject> {
        let bad = || reject::malformed("its payload is not that of a Nitro attestation document");
        let members = PayloadMembers::read(payload).map_err(|_| bad())?;
        if members.digest != Some("SHA384") {
            return Err(bad());
        }
        let plain = |id: &&str| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let module_id = members.module_id.filter(plain).ok_or_else(bad)?.to_owned();
        let (module, pcrs) = members.pcrs.ok_or_else(bad)?;
        let (leaf, above) = members.certificate.zip(members.cabundle).ok_or_else(bad)?;
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Ok(Self {
            module_id,
            module,
            at: UnixTime::new(members.timestamp.ok_or_else(bad)? / 1000),
            pcrs,
            certificates: std::iter::once(leaf).chain(above).map(<[u8]>::to_vec).collect(),
            nonce: owned(members.nonce),
            user_data: owned(members.user_data),
            public_key: owned(members.public_key),
        })
    }

    /// It must be for this challenge and this key.
    fn check_binding(&self, asked: &AskedDocument) -> Result<(), Reject> {
        let digest = Some(&asked.for_key.as_bytes()[..]);
        let is_key = |spki: &Vec<u8>| KeyDigest::from_spki_der(spki) == asked.for_key;
        let names_key = self.user_data.as_deref() == digest || self.public_key.as_ref().is_some_and(is_key);
        if self.nonce.as_deref() == Some(&asked.nonce[..]) && names_key { Ok(()) } else { Err(reject::other_nonce()) }
    }

    /// It must have been made while the ticket is good.
    fn check_time(&self, now: UnixTime) -> Result<(), Reject> {
        let (at, now) = (self.at.secs(), now.secs());
        let is_now = at <= now.saturating_add(LEEWAY) && at.saturating_add(TICKET_LIFE_SECS + LEEWAY) >= now;
        if is_now { Ok(()) } else { Err(reject::other_time(self.at)) }
    }

    /// Whether nothing was measured, as in an enclave in debug mode.
    fn is_debug(&self) -> bool {
        let nothing = |value: &Vec<u8>| value.iter().all(|byte| *byte == 0);
        ALWAYS_MEASURED.iter().any(|number| self.pcrs.get(number).is_none_or(nothing))
    }

    /// The instance, or the enclave in it.
    fn device(&self) -> String {
        let instance = self.module_id.split_once("-tpm").map(|(instance, _)| instance);
        match self.module {
            NitroModule::NitroTpm => format!("aws {}", instance.unwrap_or(&self.module_id)),
            NitroModule::Enclave => format!("aws {}", self.module_id),
        }
    }

    fn claims(&self, debug: bool) -> BTreeMap<String, Claim> {
        let device = self.device();
        let module = match self.module {
            NitroModule::NitroTpm => "nitrotpm",
            NitroModule::Enclave => "enclave",
        };
        let mut claims = texts([
            ("document", Some(CLOUD_AWS_NITRO)),
            ("bound", Some("key")),
            ("device", Some(&device)),
            ("instance", Some(&self.module_id)),
            ("module", Some(module)),
            ("debug", Some(if debug { "yes" } else { "no" })),
        ]);
        for (number, value) in &self.pcrs {
            let name = format!("pcr{number}");
            if ROW.claims.iter().any(|(declared, _)| *declared == name) {
                claims.insert(name, Claim::Text(hex::encode(value)));
            }
        }
        claims
    }
}

/// A document for this challenge and key.
struct NitroDocument {
    nitro: Arc<Nitro>,
    signed: CoseSign1,
    said: NitroPayload,
}

impl NitroDocument {
    fn verify(&self, root: &PathAnchors, now: UnixTime) -> Result<Vec<KeyDigest>, Reject> {
        let path = pki::verify_path(&self.said.certificates, root, now).map_err(|error| reject::path(&error))?;
        path.check_time(self.said.at).map_err(|error| reject::path(&error))?;
        let leaf = UnprovenLeaf::first(&self.said.certificates).map_err(|error| reject::path(&error))?;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, leaf.spki_der())
            .verify(&self.signed.to_be_verified(), &self.signed.signature)
            .map_err(|_| reject::signature("the signature is not by the key of its certificate"))?;
        Ok(std::iter::once(path.leaf().key).chain(path.issuer_keys()).collect())
    }
}

impl ReadDocument for NitroDocument {
    fn source(&self) -> &DocumentSource {
        self.nitro.root.source()
    }

    fn judge(&self, found: &Found, now: UnixTime) -> Result<AttestedInstance, DocumentFault> {
        let root = self.nitro.root.read(found, 0, read_root).map_err(DocumentFault::Unusable)?;
        let signers = self.verify(&root, now)?;
        let debug = self.said.is_debug();
        if debug && !self.nitro.debug {
            return Err(reject::debug().into());
        }
        let other = self
            .nitro
            .pcrs
            .iter()
            .find(|(number, expected)| !self.said.pcrs.get(number).is_some_and(|value| expected.contains(value)));
        // In debug mode they are all zero.
        if let Some((number, _)) = other.filter(|_| !debug) {
            return Err(reject::measured(*number, self.said.pcrs.get(number).map(Vec::as_slice)).into());
        }
        let assurance = if debug { Assurance::SOFTWARE } else { Assurance::hardware(AssuranceOf::Host) };
        Ok(AttestedInstance { values: self.said.claims(debug), assurance, signers, until: None })
    }
}
