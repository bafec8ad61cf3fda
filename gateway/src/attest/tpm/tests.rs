//! Two rounds of a TPM in software with an attestor, and every way in which its evidence can be wrong.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Assurance, AssuranceOf, KeyAlgorithm, Root, Serial, SoftwareKey, TrustAnchors, TrustDomain, UnixTime};
use policy::Ruleset;
use wire::evidence::{TPM_CONTEXT, TpmAnswer, TpmQuote, TpmSigned};

use tpm::soft::{AK_HEAD, EK_HEAD, Maker, RESETS, SoftTpm};

use super::*;
use crate::core::{
    evidence::{Claims, Document, ENTROPY_LEN, Finding, Purpose, Vouched},
    lock::Locks,
    records::Claim,
    requester::Requester,
    token::TokenKey,
};

mod settings;

/// 2026-03-01T12:00:00Z.
const NOW: UnixTime = UnixTime::new(1_772_366_400);

/// The value of PCR 7.
const PCR_7: [u8; 32] = [7; 32];

/// A gateway's attestor, and what it is configured with.
struct Judge {
    attestor: Box<dyn Attestor>,
    anchors: String,
    domain: TrustDomain,
    roots: TrustAnchors,
    token_key: TokenKey,
    rules: Ruleset,
}

impl Judge {
    fn new(settings: &str, maker: &Maker) -> Self {
        let values = format!("anchors = \"anchors.pem\"\n{settings}").parse().unwrap();
        let section = Section { values, folder: "/etc/lychgate".into() };
        let domain = TrustDomain::parse("lab").unwrap();
        let key = Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0);
        let root = Root::create(&domain, key, Serial::from_entropy([1; 16]), NOW, 10).unwrap();
        Self {
            attestor: build(Some(&section)).unwrap().unwrap(),
            anchors: maker.pem(),
            roots: TrustAnchors::new(&domain, &[root.cert_der()], NOW).unwrap(),
            domain,
            token_key: TokenKey::new(&[4; 65]),
            rules: Ruleset::load(&[], &[]).unwrap(),
        }
    }

    fn step(&self, body: &TpmEvidence, kept: Option<&[u8]>, for_key: KeyDigest) -> Result<Step, String> {
        let context = Context {
            domain: &self.domain,
            anchors: &self.roots,
            token_key: &self.token_key,
            host_ca: None,
            rules: &self.rules,
            now: NOW,
        };
        let text = serde_json::to_string(body).unwrap();
        let entropy = std::array::from_fn::<u8, ENTROPY_LEN, _>(|at| u8::try_from(at).unwrap());
        let (requester, purpose) = (&Requester::Nobody, Purpose::Join { wanted: None });
        let message = Message { body: &text, kept, entropy, for_key, exporter: &[9; 32], requester, purpose };
        let code = |reject: &Reject| format!("{}: {reject}", reject.code.name);
        let case = self.attestor.open(&message, &context).map_err(|reject| code(&reject))?;
        let mut found = Found::default();
        for need in case.needs(&found).unwrap() {
            assert_eq!(need, Need::Document(DocumentSource::File("/etc/lychgate/anchors.pem".into())));
            let document = Document { bytes: self.anchors.as_bytes().into(), age: Duration::ZERO };
            found.push(Finding::Document(Some(document)));
        }
        let rests_on = case.rests_on(&found, &context).unwrap();
        let cleared = rests_on.clear(&Locks::new(rests_on.targets.clone(), vec![])).unwrap();
        case.step(&found, &context, &cleared).map_err(|rejected| match rejected.refusal {
            crate::core::refusal::Refusal::Evidence(reject) => code(&reject),
            other => other.to_string(),
        })
    }

    /// The first round.
    fn ask(&self, body: &TpmEvidence, for_key: KeyDigest) -> Result<(TpmChallenge, Vec<u8>), String> {
        match self.step(body, None, for_key)? {
            Step::Ask { send, keep } => Ok((serde_json::from_str(&send).unwrap(), keep)),
            Step::Done(_) => panic!("believed at once"),
        }
    }
}

/// Evidence of a TPM, with the key in it or beside it.
fn evidence(tpm: &SoftTpm, certificates: &[Vec<u8>], inside: bool) -> TpmEvidence {
    TpmEvidence {
        certificates: certificates.iter().map(|der| STANDARD.encode(der)).collect(),
        ek: STANDARD.encode(tpm.ek()),
        ak: STANDARD.encode(tpm.ak()),
        key: inside.then(|| STANDARD.encode(tpm.identity())),
        answer: None,
    }
}

pub(super) fn signed((attest, signature): (Vec<u8>, Vec<u8>)) -> TpmSigned {
    TpmSigned { attest: STANDARD.encode(attest), signature: STANDARD.encode(signature) }
}

pub(super) fn extra(challenge: &TpmChallenge, for_key: &KeyDigest) -> Vec<u8> {
    let nonce = STANDARD.decode(&challenge.nonce).unwrap();
    tpm::HashAlgorithm::Sha256.digest(&[TPM_CONTEXT, &nonce, for_key.as_bytes()])
}

fn quote(tpm: &SoftTpm, extra: &[u8], pcr: u8, value: &[u8]) -> TpmQuote {
    let signed = signed(tpm.quote(extra, pcr, value));
    TpmQuote { signed, bank: "sha256".to_owned(), values: [(pcr, hex::encode(value))].into(), log: None }
}

/// The answer of a TPM that does everything right.
fn answer(tpm: &SoftTpm, challenge: &TpmChallenge, for_key: &KeyDigest, inside: bool) -> TpmAnswer {
    let open = |text: &String| STANDARD.decode(text).unwrap();
    let secret = tpm.activate(&open(&challenge.credential), &open(&challenge.encrypted_secret));
    let extra = extra(challenge, for_key);
    TpmAnswer {
        secret: STANDARD.encode(secret.unwrap_or_default()),
        certification: inside.then(|| signed(tpm.certify(&extra, &tpm.identity()))),
        quote: Some(quote(tpm, &extra, 7, &PCR_7)),
    }
}

/// A story: a TPM, its maker, a gateway.
pub(super) struct Story {
    judge: Judge,
    pub(super) tpm: SoftTpm,
    maker: Maker,
}

impl Story {
    pub(super) fn with(settings: &str) -> Self {
        let maker = Maker::named("Maker CA");
        Self { judge: Judge::new(settings, &maker), tpm: SoftTpm::new(), maker }
    }

    fn new() -> Self {
        Self::with("")
    }

    pub(super) fn certificate(&self) -> Vec<u8> {
        self.maker.certify(&self.tpm, 2050)
    }

    pub(super) fn for_key(&self) -> KeyDigest {
        KeyDigest::from_spki_der(&self.tpm.identity_spki())
    }

    /// What is claimed after both rounds, with an answer that `bend` may change.
    pub(super) fn told(
        &self,
        certificates: &[Vec<u8>],
        bend: impl FnOnce(&mut TpmEvidence, &TpmChallenge),
    ) -> Result<Claims, String> {
        self.vouched(certificates, bend).map(|vouched| vouched.claims)
    }

    /// The same, with what is only stated.
    fn vouched(
        &self,
        certificates: &[Vec<u8>],
        bend: impl FnOnce(&mut TpmEvidence, &TpmChallenge),
    ) -> Result<Vouched, String> {
        let mut body = evidence(&self.tpm, certificates, true);
        let (challenge, kept) = self.judge.ask(&body, self.for_key())?;
        body.answer = Some(answer(&self.tpm, &challenge, &self.for_key(), true));
        bend(&mut body, &challenge);
        match self.judge.step(&body, Some(&kept), self.for_key())? {
            Step::Done(vouched) => Ok(*vouched),
            Step::Ask { .. } => panic!("asked twice"),
        }
    }

    #[track_caller]
    fn refused(&self, bend: impl FnOnce(&mut TpmAnswer, &TpmChallenge), says: &str) {
        let told = self.told(&[self.certificate()], |body, challenge| bend(body.answer.as_mut().unwrap(), challenge));
        let error = told.unwrap_err();
        assert!(error.starts_with(says), "{error}");
    }

    #[track_caller]
    fn certificate_refused(&self, certificate: Vec<u8>, says: &str) {
        let error = self.told(&[certificate], |_, _| {}).unwrap_err();
        assert!(error.starts_with("tpm-ek-certificate") && error.contains(says), "{error}");
    }
}

pub(super) fn text(claims: &Claims, name: &str) -> String {
    claims.values.get(name).map(Claim::text).unwrap_or_default()
}

#[test]
fn a_tpm_of_a_trusted_maker_is_hardware() {
    let story = Story::new();
    let claims = story.told(&[story.certificate()], |_, _| {}).unwrap();
    assert_eq!(claims.assurance, Assurance::hardware(AssuranceOf::Key));
    assert!(claims.grants.is_none() && claims.names.is_empty());
    let ek = tpm::Public::parse(&story.tpm.ek()).unwrap().key().spki_der();
    let ek = KeyDigest::from_spki_der(&ek).hex();
    for (name, value) in [
        ("ek", ek.as_str()),
        ("chain", "verified"),
        ("anchor", "CN=Maker CA"),
        ("maker", "IFX"),
        ("model", "SLB9670"),
        ("firmware", "0D55"),
        ("ek_expired", "no"),
        ("key", "inside"),
        ("secure_boot", "unknown"),
    ] {
        assert_eq!(text(&claims, name), value, "{name}");
    }
    assert_eq!(claims.values.get("resets"), Some(&Claim::Number(RESETS.into())));
    assert!(claims.values.keys().all(|name| ROW.claims.iter().any(|(declared, _)| declared == name)));
}

#[test]
fn a_tpm_that_nobody_vouches_for_is_software() {
    let story = Story::new();
    let claims = story.told(&[], |_, _| {}).unwrap();
    assert_eq!((claims.assurance, text(&claims, "chain").as_str()), (Assurance::SOFTWARE, "none"));
    let other = Maker::named("Another CA").certify(&story.tpm, 2050);
    let Vouched { claims, stated, .. } = story.vouched(&[other], |_, _| {}).unwrap();
    let told = ["chain", "anchor", "maker", "model", "firmware"].map(|name| text(&claims, name));
    assert_eq!(claims.assurance, Assurance::SOFTWARE);
    assert_eq!(told, ["unknown-issuer", "", "", "", ""], "no rule may believe a maker that nobody vouches for");
    let want = [("firmware", "0D55"), ("maker", "IFX"), ("model", "SLB9670")];
    assert_eq!(stated, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let vouched = story.vouched(&[story.certificate()], |_, _| {}).unwrap();
    assert!(vouched.stated.is_empty(), "what a trusted maker signed is claimed");
}

#[test]
fn an_expired_certificate_is_told() {
    let story = Story::new();
    let claims = story.told(&[story.maker.certify(&story.tpm, 2024)], |_, _| {}).unwrap();
    assert_eq!(
        (claims.assurance, text(&claims, "ek_expired").as_str()),
        (Assurance::hardware(AssuranceOf::Key), "yes")
    );
}

#[test]
fn a_key_beside_the_tpm_is_bound_by_the_quote() {
    let story = Story::new();
    let for_key = KeyDigest::from_spki_der(b"a key in a file");
    let mut body = evidence(&story.tpm, &[story.certificate()], false);
    let (challenge, kept) = story.judge.ask(&body, for_key).unwrap();
    body.answer = Some(answer(&story.tpm, &challenge, &for_key, false));
    let Ok(Step::Done(vouched)) = story.judge.step(&body, Some(&kept), for_key) else { panic!("refused") };
    assert_eq!(text(&vouched.claims, "key"), "beside");
    assert_eq!(vouched.claims.assurance, Assurance::hardware(AssuranceOf::Host), "the key can be copied");
    let other = KeyDigest::from_spki_der(b"another");
    let error = story.judge.step(&body, Some(&kept), other).unwrap_err();
    assert!(error.starts_with("tpm-quote-wrong") && error.contains("another key"), "{error}");
}

#[test]
fn two_challenges_differ_and_an_answer_is_for_one() {
    let story = Story::new();
    let body = evidence(&story.tpm, &[], true);
    let (one, _) = story.judge.ask(&body, story.for_key()).unwrap();
    let (two, _) = story.judge.ask(&body, story.for_key()).unwrap();
    assert!(one.credential != two.credential && one.encrypted_secret != two.encrypted_secret);
    let stale = |answer: &mut TpmAnswer, _: &TpmChallenge| answer.secret = STANDARD.encode([0xaa; 32]);
    story.refused(stale, "tpm-secret-wrong");
    story.refused(|answer, _| answer.secret = STANDARD.encode([]), "tpm-secret-wrong");
    story.refused(|answer, _| answer.secret = "?".to_owned(), "tpm-malformed");
}

/// The kept state is of other keys of the same machine.
#[test]
fn the_keys_are_those_of_the_first_round() {
    let story = Story::new();
    let (other, mut body) = (SoftTpm::new(), evidence(&story.tpm, &[], true));
    let (challenge, kept) = story.judge.ask(&body, story.for_key()).unwrap();
    body.answer = Some(answer(&story.tpm, &challenge, &story.for_key(), true));
    for bent in [
        TpmEvidence { ek: STANDARD.encode(other.ek()), ..body.clone() },
        TpmEvidence { ak: STANDARD.encode(other.ak()), ..body.clone() },
        TpmEvidence { key: None, ..body.clone() },
    ] {
        let error = story.judge.step(&bent, Some(&kept), story.for_key()).unwrap_err();
        assert!(error.starts_with("ticket-invalid"), "{error}");
    }
    assert!(story.judge.step(&body, Some(b"short"), story.for_key()).is_err());
    let unanswered = evidence(&story.tpm, &[], true);
    let error = story.judge.step(&unanswered, Some(&kept), story.for_key()).unwrap_err();
    assert!(error.starts_with("tpm-malformed"), "{error}");
}

#[test]
fn the_tpm_with_the_ek_answers_and_no_other() {
    let story = Story::new();
    let thief = SoftTpm::new();
    let mut body = evidence(&thief, &[], true);
    body.ek = STANDARD.encode(story.tpm.ek());
    let (challenge, kept) = story.judge.ask(&body, KeyDigest::from_spki_der(&thief.identity_spki())).unwrap();
    body.answer = Some(answer(&thief, &challenge, &KeyDigest::from_spki_der(&thief.identity_spki()), true));
    let error = story.judge.step(&body, Some(&kept), KeyDigest::from_spki_der(&thief.identity_spki())).unwrap_err();
    assert!(error.starts_with("tpm-secret-wrong"), "{error}");
}

#[test]
fn keys_that_prove_nothing_are_refused() {
    let story = Story::new();
    let ask = |ek: &[u8], ak: &[u8]| {
        let body = evidence(&story.tpm, &[], true);
        let body = TpmEvidence { ek: STANDARD.encode(ek), ak: STANDARD.encode(ak), ..body };
        story.judge.ask(&body, story.for_key()).unwrap_err()
    };
    let bent = |head: &[u8], at: usize, value: u8| {
        let mut head = head.to_vec();
        head[at] = value;
        head
    };
    let (tpm, ek, ak) = (&story.tpm, story.tpm.ek(), story.tpm.ak());
    let error = ask(&ek, &tpm.ak_with(&bent(AK_HEAD, 5, 4)));
    assert!(error.starts_with("tpm-ak-unsound") && error.contains("`restricted`"), "{error}");
    let error = ask(&ek, &tpm.ak_with(&bent(AK_HEAD, 3, 4)));
    assert!(error.starts_with("tpm-ak-unsound") && error.contains("nameAlg"), "{error}");
    let error = ask(&tpm.ek_with(&bent(EK_HEAD, 5, 1)), &ak);
    assert!(error.starts_with("tpm-ek-unsound") && error.contains("`decrypt`"), "{error}");
    let error = ask(&[&ek[..], &[0]].concat(), &ak);
    assert!(error.starts_with("tpm-ek-unsound"), "{error}");
    assert!(ask(&[0; 1100], &ak).starts_with("tpm-malformed"), "too long to be one");
    assert!(ask(&ak, &ak).starts_with("tpm-ek-unsound"), "an AK is no EK");
}

#[test]
fn certificates_that_do_not_hold_are_refused() {
    let story = Story::new();
    let padded = [story.certificate(), vec![0xff; 431]].concat();
    story.certificate_refused(padded, "431 bytes follow certificate 1");
    let others = story.maker.certify(&SoftTpm::new(), 2050);
    story.certificate_refused(others, "none of the certificates is of this EK");
    let mut bent = story.certificate();
    *bent.last_mut().unwrap() ^= 1;
    story.certificate_refused(bent, "is not its issuer's");
}

#[test]
fn a_key_that_the_tpm_does_not_certify_is_refused() {
    let story = Story::new();
    let (moved, code) = (SoftTpm::new(), "tpm-key-not-certified");
    story.refused(|answer, _| answer.certification = None, code);
    // Another TPM's AK certified it, or this one's another key, another challenge, or a quote instead.
    let key = story.for_key();
    story.refused(
        |answer, asked| {
            answer.certification = Some(signed(moved.certify(&extra(asked, &key), &story.tpm.identity())));
        },
        code,
    );
    story.refused(
        |answer, asked| {
            answer.certification = Some(signed(story.tpm.certify(&extra(asked, &key), &moved.identity())));
        },
        code,
    );
    story.refused(
        |answer, _| answer.certification = Some(signed(story.tpm.certify(&[5; 32], &story.tpm.identity()))),
        code,
    );
    story.refused(|answer, _| answer.certification = answer.quote.as_ref().map(|quote| quote.signed.clone()), code);
    // The key of another machine's TPM, for whose certificate somebody asks.
    let body = evidence(&moved, &[], true);
    let error = story.judge.ask(&body, key).unwrap_err();
    assert!(error.starts_with(code), "{error}");
}

#[test]
fn a_quote_of_something_else_is_refused() {
    let story = Story::new();
    let (key, code) = (story.for_key(), "tpm-quote-wrong");
    story.refused(|answer, _| answer.quote = None, code);
    story.refused(|answer, asked| answer.quote = Some(quote(&story.tpm, &extra(asked, &key), 0, &PCR_7)), code);
    story.refused(|answer, _| answer.quote = Some(quote(&story.tpm, &[5; 32], 7, &PCR_7)), code);
    let value = |value: &str| {
        let value = value.to_owned();
        move |answer: &mut TpmAnswer, _: &TpmChallenge| {
            answer.quote.as_mut().unwrap().values.insert(7, value);
        }
    };
    story.refused(value(&hex::encode([8; 32])), code);
    story.refused(value("07"), code);
    story.refused(value("no hex"), "tpm-malformed");
    story.refused(|answer, _| answer.quote.as_mut().unwrap().bank = "sha1".to_owned(), code);
    story.refused(|answer, _| answer.quote.as_mut().unwrap().bank = "sha384".to_owned(), code);
    story.refused(
        |answer, asked| {
            answer.quote.as_mut().unwrap().signed = signed(story.tpm.certify(&extra(asked, &key), &story.tpm.ak()));
        },
        code,
    );
}

/// A log with one event for PCR 7, the digest of which is of `data`, and the value that it leads to.
fn log(data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let hash = tpm::HashAlgorithm::Sha256;
    let spec = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &[1, 0, 0, 0, 0x0b, 0, 32, 0], &[0]].concat();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let mut log = [&[0, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20], &length(&spec), &spec].concat();
    let mut pcr = vec![0; 32];
    for data in [data, &[0; 4]] {
        let digest = hash.digest(&[data]);
        let head = [7, 0, 0, 0, 1, 0, 0, 0x80, 1, 0, 0, 0, 0x0b, 0];
        log.extend([&head[..], &digest, &length(data), data].concat());
        pcr = hash.digest(&[&pcr, &digest]);
    }
    (log, pcr)
}

/// UEFI_VARIABLE_DATA of the variable SecureBoot.
pub(super) fn secure_boot_is(value: u8) -> Vec<u8> {
    let guid = hex::decode("61dfe48bca93d211aa0d00e098032b8c").unwrap();
    let name: Vec<u8> = "SecureBoot".encode_utf16().flat_map(u16::to_le_bytes).collect();
    [&guid[..], &10_u64.to_le_bytes(), &1_u64.to_le_bytes(), &name, &[value]].concat()
}

#[test]
fn the_log_tells_of_secure_boot() {
    let story = Story::with("log = 'wanted'");
    let key = story.for_key();
    let told = |log: &[u8], pcr: &[u8]| {
        let claims = story.told(&[], |body, challenge| {
            assert!(challenge.log);
            let answer = body.answer.as_mut().unwrap();
            let mut quote = quote(&story.tpm, &extra(challenge, &key), 7, pcr);
            quote.log = Some(STANDARD.encode(log));
            answer.quote = Some(quote);
        });
        claims.map(|claims| text(&claims, "secure_boot"))
    };
    for (value, word) in [(1, "on"), (0, "off")] {
        let (log, pcr) = log(&secure_boot_is(value));
        assert_eq!(told(&log, &pcr), Ok(word.to_owned()));
        let error = told(&log, &PCR_7).unwrap_err();
        assert!(error.starts_with("tpm-log-mismatch"), "{error}");
    }
    let (silent, pcr) = log(b"something else");
    assert_eq!(told(&silent, &pcr), Ok("unknown".to_owned()));
    let error = told(&[0x5a; 1000], &pcr).unwrap_err();
    assert!(error.starts_with("tpm-log-mismatch"), "{error}");
}

#[test]
fn evidence_has_a_size() {
    let piece = |settings: &str| Judge::new(settings, &Maker::named("Another CA")).attestor.piece_max();
    assert_eq!(piece(""), wire::limits::ENROLL_BODY_MAX);
    // 300 KiB of junk are never read, whatever is wanted.
    assert!(piece("log = 'required'") < 300 * 1024);
    // A log that was not asked for is not looked at.
    let story = Story::new();
    let junk = |body: &mut TpmEvidence, _: &TpmChallenge| {
        let quote = body.answer.as_mut().and_then(|answer| answer.quote.as_mut());
        quote.unwrap().log = Some(STANDARD.encode([0x5a; 1000]));
    };
    assert!(story.told(&[], junk).is_ok());
}

#[test]
fn anchors_that_cannot_be_read_are_our_fault() {
    let mut story = Story::new();
    story.judge.anchors = "no PEM".to_owned();
    let error = story.told(&[story.certificate()], |_, _| {}).unwrap_err();
    assert!(error.contains("`anchors` of `[attest.tpm]`"), "{error}");
    assert!(story.judge.step(&evidence(&story.tpm, &[], true), None, story.for_key()).is_ok(), "the first round");
}

#[test]
fn a_changed_file_counts_at_once() {
    let mut story = Story::new();
    let other = Maker::named("Another CA");
    let certificate = other.certify(&story.tpm, 2050);
    let chain = |story: &Story| text(&story.told(std::slice::from_ref(&certificate), |_, _| {}).unwrap(), "chain");
    assert_eq!(chain(&story), "unknown-issuer");
    story.judge.anchors.push_str(&other.pem());
    assert_eq!(chain(&story), "verified");
}
