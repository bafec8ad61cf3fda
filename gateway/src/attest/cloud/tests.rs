//! Documents as clouds write them, made here: the identity documents and attested documents by stock `openssl`, in BER and in DER, those
//! of Nitro in CBOR by [`nitro`].
#![expect(clippy::disallowed_methods, reason = "a test writes files for a program")]

use std::{path::Path, process::Command, sync::LazyLock, time::Duration};

use pki::{AssuranceOf, TrustDomain};
use policy::Ruleset;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    core::{
        evidence::{Document, ENTROPY_LEN, Finding},
        lock::Locks,
        records::Seen,
        refusal::Fault,
        requester::Requester,
        stored::ReadRecord,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::Authority,
};

mod nitro;

/// The gateway, of which an attestor knows only this. `openssl` makes certificates for now, so now is when it is.
static GATEWAY: LazyLock<(TrustDomain, Authority, Ruleset, UnixTime)> = LazyLock::new(|| {
    let domain = TrustDomain::parse("td.example").unwrap();
    let now = Clock::system().now().plus(Duration::from_secs(60));
    let (clock, _) = Clock::fake(now);
    let authority = Authority::ephemeral(&domain, &clock, &Entropy::seeded(7)).unwrap();
    (domain, authority, Ruleset::load(&[], &[]).unwrap(), now)
});

fn now() -> u64 {
    GATEWAY.3.secs()
}

fn key_of(name: &[u8]) -> KeyDigest {
    KeyDigest::from_spki_der(name)
}

fn for_key() -> KeyDigest {
    key_of(b"the key to be certified")
}

/// A machine that was asked: the challenge, and what the ticket keeps.
struct AskedMachine {
    challenge: CloudChallenge,
    kept: Vec<u8>,
}

impl AskedMachine {
    fn nonce(&self) -> Vec<u8> {
        STANDARD.decode(&self.challenge.nonce).unwrap()
    }

    /// The nonce that Azure is given.
    fn azure_nonce(&self, key: &KeyDigest) -> String {
        let message = wire::evidence::cloud_azure_message(&self.nonce(), key.as_bytes());
        KeyDigest::from_spki_der(&message).hex()[..32].to_owned()
    }
}

/// The records in a store.
#[derive(Default)]
struct StoredRecords(BTreeMap<String, Value>);

/// A folder with the files of a cloud and its keys.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn openssl(&self, line: &str) {
        let done = Command::new("openssl").args(line.split_whitespace()).current_dir(self.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), bytes).unwrap();
    }

    fn attestor(&self, section: &str) -> Box<dyn Attestor> {
        let section = Section { values: section.parse().unwrap(), folder: self.path().to_owned() };
        build(Some(&section)).unwrap().unwrap()
    }

    /// The text in `document`, signed.
    fn sign(&self, document: &Value, more: &str) -> Vec<u8> {
        self.write("document", serde_json::to_vec_pretty(document).unwrap());
        self.openssl(&format!("smime -sign -nodetach -binary -outform DER -in document -out signed {more}"));
        std::fs::read(self.path().join("signed")).unwrap()
    }

    fn found(needs: Vec<Need>, records: &StoredRecords) -> Found {
        let mut found = Found::default();
        for need in needs {
            found.push(match need {
                Need::Document(DocumentSource::File(path)) => {
                    let bytes = std::fs::read(path).ok();
                    Finding::Document(bytes.map(|bytes| Document { bytes: bytes.into(), age: Duration::ZERO }))
                }
                Need::Record(key) => Finding::Record(records.0.get(&key).map(|record| {
                    let raw = Seen { record: Ok(serde_json::to_vec(record).unwrap()), version: 1 };
                    Arc::new(ReadRecord::new(key.clone(), raw))
                })),
                other => panic!("{other:?}"),
            });
        }
        found
    }
}

fn with_context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let (domain, authority, rules, now) = &*GATEWAY;
    let (anchors, token_key) = (authority.anchors(), authority.token_key());
    work(&Context { domain, anchors, token_key, host_ca: None, rules, now: *now })
}

fn body(has: &[&str], document: Option<&[u8]>) -> String {
    let has = has.iter().map(|name| (*name).to_owned()).collect();
    serde_json::to_string(&CloudEvidence { has, document: document.map(|bytes| STANDARD.encode(bytes)) }).unwrap()
}

fn message<'a>(body: &'a str, kept: Option<&'a [u8]>, for_key: KeyDigest, purpose: Purpose<'a>) -> Message<'a> {
    let requester = &Requester::Nobody;
    Message { body, kept, entropy: [3; ENTROPY_LEN], for_key, exporter: &[9; 32], requester, purpose }
}

const JOIN: Purpose<'static> = Purpose::Join { wanted: Some("web1") };

/// The first round.
fn ask(attestor: &dyn Attestor, has: &[&str]) -> Result<AskedMachine, Refusal> {
    with_context(|context| {
        let body = body(has, None);
        let case = attestor.open(&message(&body, None, for_key(), JOIN), context)?;
        assert!(case.needs(&Found::default())?.is_empty());
        let rests_on = case.rests_on(&Found::default(), context)?;
        let cleared = rests_on.clear(&Locks::new(rests_on.targets.clone(), vec![]))?;
        match case.step(&Found::default(), context, &cleared).map_err(|rejected| rejected.refusal)? {
            Step::Ask { send, keep } => {
                Ok(AskedMachine { challenge: serde_json::from_str(&send).unwrap(), kept: keep })
            }
            Step::Done(vouched) => panic!("it believes at once: {vouched:?}"),
        }
    })
}

/// The second round.
fn judge(
    attestor: &dyn Attestor,
    asked: &AskedMachine,
    document: &[u8],
    (key, purpose): (KeyDigest, Purpose<'_>),
    records: &StoredRecords,
) -> Result<Box<Vouched>, Refusal> {
    with_context(|context| {
        let body = body(&[&asked.challenge.document], Some(document));
        let case = attestor.open(&message(&body, Some(&asked.kept), key, purpose), context)?;
        let found = Room::found(case.needs(&Found::default())?, records);
        assert!(case.needs(&found)?.is_empty());
        // Everything is asked for again until all look-ups are made.
        let mut nothing = Found::default();
        (0..found.len()).for_each(|_| nothing.push(Finding::Document(None)));
        let early = case.rests_on(&nothing, context)?;
        let cleared = early.clear(&Locks::new(early.targets.clone(), vec![]))?;
        assert!(case.step(&nothing, context, &cleared).is_err(), "believed without a file");
        let rests_on = case.rests_on(&found, context)?;
        let locks = Locks::new(rests_on.targets.clone(), vec![]);
        match case.step(&found, context, &rests_on.clear(&locks)?).map_err(|rejected| rejected.refusal)? {
            Step::Done(vouched) => Ok(vouched),
            Step::Ask { .. } => panic!("it asks back"),
        }
    })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Refusal>, code: &str, says: &str) {
    match outcome {
        Err(Refusal::Evidence(reject)) => {
            assert_eq!(reject.code.name, code, "{reject}");
            assert!(reject.text.contains(says), "{reject}");
        }
        other => panic!("{other:?} instead of {code}"),
    }
}

fn claims(vouched: &Vouched) -> BTreeMap<&str, String> {
    let declared: Vec<&str> = ROW.claims.iter().map(|(name, _)| *name).collect();
    let told = vouched.claims.values.iter().map(|(name, value)| (name.as_str(), value.text()));
    told.inspect(|(name, _)| assert!(declared.contains(name), "{name}")).collect()
}

/// AWS, with two regions.
struct Aws(Room);

const AWS: &str =
    "[aws-identity]\naccounts = ['111122223333']\nregions.here-1 = 'here.pem'\nregions.there-1 = 'there.pem'\n";
const BER: &str = "-indef -nocerts -signer here.pem -inkey here.key";

impl Aws {
    fn new() -> Self {
        let room = Room::new();
        for region in ["here", "there", "elsewhere"] {
            let names = format!("-keyout {region}.key -out {region}.pem -subj /C=US/O=Cloud/CN={region}");
            room.openssl(&format!("req -x509 -newkey rsa:2048 -noenc -days 1 {names}"));
        }
        Self(room)
    }

    fn document(age: u64) -> Value {
        json!({
            "accountId": "111122223333", "architecture": "x86_64", "availabilityZone": "here-1b", "billingProducts": null,
            "devpayProductCodes": null, "imageId": "ami-5fb8c835", "instanceId": "i-1234567890abcdef0",
            "instanceType": "t2.micro", "kernelId": null, "marketplaceProductCodes": ["1abc2defghijklm3nopqrs4tu"],
            "pendingTime": UnixTime::new(now() - age).to_string(), "privateIp": "10.158.112.84", "ramdiskId": null,
            "region": "here-1", "version": "2017-09-30",
        })
    }

    fn changed(member: &str, value: &str) -> Value {
        let mut document = Self::document(60);
        document[member] = value.into();
        document
    }

    fn joins(
        &self,
        section: &str,
        document: &[u8],
        key: KeyDigest,
        records: &StoredRecords,
    ) -> Result<Box<Vouched>, Refusal> {
        let attestor = self.0.attestor(section);
        let asked = ask(&*attestor, &["aws-identity"]).unwrap();
        judge(&*attestor, &asked, document, (key, JOIN), records)
    }

    #[track_caller]
    fn refused(&self, document: &[u8], code: &str, says: &str) {
        refused(self.joins(AWS, document, for_key(), &StoredRecords::default()), code, says);
    }
}

#[test]
fn an_identity_document_is_believed_and_told() {
    let aws = Aws::new();
    let document = aws.0.sign(&Aws::document(60), BER);
    assert_eq!(document.get(..2), Some(&[0x30, 0x80][..]), "openssl did not write what this test is about");
    let vouched = aws.joins(AWS, &document, for_key(), &StoredRecords::default()).unwrap();
    let want = [
        ("account", "111122223333"),
        ("bound", "use"),
        ("device", "aws i-1234567890abcdef0"),
        ("document", "aws-identity"),
        ("image", "ami-5fb8c835"),
        ("instance", "i-1234567890abcdef0"),
        ("region", "here-1"),
    ];
    assert_eq!(claims(&vouched), want.map(|(name, text)| (name, text.to_owned())).into());
    let Claims { assurance, role, names, grants, .. } = &vouched.claims;
    assert_eq!((*assurance, *role), (Assurance::SOFTWARE, Some(Role::Machine)));
    assert!(names.is_empty() && grants.is_none());
    assert_eq!(vouched.spends.writes.len(), 1);
}

#[test]
fn an_instance_is_admitted_once() {
    let aws = Aws::new();
    let document = aws.0.sign(&Aws::document(60), BER);
    let device = "aws i-1234567890abcdef0";
    let spent = |key: KeyDigest| (keys::spent_instance(device), json!({ "until": now() + 840, "key": key.hex() }));
    let records = |all: [(String, Value); 1]| StoredRecords(all.into());
    let joins = |key, records| aws.joins(AWS, &document, key, &records);
    // A repetition, such as after a lost reply, uses nothing up.
    let again = joins(for_key(), records([spent(for_key())])).unwrap();
    assert!(again.spends.writes.is_empty());
    // Replayed by another instance, or by whoever read it.
    refused(joins(key_of(b"thief"), records([spent(for_key())])), "cloud-used", "was admitted already");
    // The instance is a machine already: nobody comes back as that by a text.
    let holder = (keys::device(DEVICE, device), json!({ "lineage": "l" }));
    refused(joins(key_of(b"thief"), records([holder.clone()])), "cloud-used", "was admitted already");
    // That machine shows it again when it renews, also when it is old.
    let attestor = aws.0.attestor(AWS);
    let asked = ask(&*attestor, &["aws-identity"]).unwrap();
    let old = aws.0.sign(&Aws::document(90_000), BER);
    let known = BTreeMap::from([(DEVICE.to_owned(), Claim::Text(device.to_owned()))]);
    let renewal = Purpose::Renewal { name: "web1", known: &known };
    let renewed = judge(&*attestor, &asked, &old, (key_of(b"next"), renewal), &records([holder])).unwrap();
    assert!(renewed.spends.writes.is_empty());
    // A machine that is not known as it, or as another, does not.
    for known in [BTreeMap::new(), BTreeMap::from([(DEVICE.to_owned(), Claim::Text("aws i-2".to_owned()))])] {
        let renewal = Purpose::Renewal { name: "web1", known: &known };
        let renewed = judge(&*attestor, &asked, &old, (key_of(b"next"), renewal), &StoredRecords::default());
        refused(renewed, "cloud-time", "admitted the instance until 89100 s ago");
    }
}

#[test]
fn an_identity_document_of_anybody_else_is_refused() {
    let aws = Aws::new();
    let sign =
        |document: &Value, by: &str| aws.0.sign(document, &format!("-indef -nocerts -signer {by}.pem -inkey {by}.key"));
    // Of another region, signed there: the key of each region counts for it alone.
    aws.refused(&sign(&Aws::document(60), "there"), "cloud-signature", "the certificate of its signer is not there");
    aws.refused(&sign(&Aws::changed("region", "there-1"), "here"), "cloud-signature", "its signer is not there");
    aws.refused(&sign(&Aws::changed("region", "gone-1"), "elsewhere"), "cloud-account", "region `gone-1`");
    aws.refused(&sign(&Aws::changed("accountId", "999999999999"), "here"), "cloud-account", "account `999999999999`");
    // Two signers, one of whom is AWS.
    let both = format!("{BER} -signer elsewhere.pem -inkey elsewhere.key");
    aws.refused(&aws.0.sign(&Aws::document(60), &both), "cloud-malformed", "it has 2 signers");
    // The name and number of AWS's certificate, with a key of one's own.
    aws.0.openssl("x509 -in here.pem -noout -serial -out number");
    let number = std::fs::read_to_string(aws.0.path().join("number")).unwrap().trim().replace("serial=", "0x");
    let forged = format!("-days 1 -out forged.pem -subj /C=US/O=Cloud/CN=here -set_serial {number}");
    aws.0.openssl(&format!("req -x509 -new -key elsewhere.key {forged}"));
    let forged = aws.0.sign(&Aws::document(60), "-signer forged.pem -inkey elsewhere.key");
    aws.refused(&forged, "cloud-signature", "not by the key of its signer");
    let weak = aws.0.sign(&Aws::document(60), &format!("{BER} -md sha1"));
    aws.refused(&weak, "cloud-signature", "its digest is not SHA-256");
    // The content is changed: nothing of what came is read but what was signed.
    let mut bent = aws.0.sign(&Aws::document(60), BER);
    let at = bent.windows(4).position(|part| part == b"i-12").unwrap();
    bent[at + 2] = b'9';
    aws.refused(&bent, "cloud-signature", "what is signed is not its content");
}

#[test]
fn an_identity_document_is_good_for_a_while_after_the_start() {
    let aws = Aws::new();
    let joins = |age: u64, section: &str| {
        aws.joins(section, &aws.0.sign(&Aws::document(age), BER), for_key(), &StoredRecords::default())
    };
    assert!(joins(900, AWS).is_ok());
    refused(joins(901, AWS), "cloud-time", "until 1 s ago");
    let longer = AWS.replace("[aws-identity]", "[aws-identity]\nmax_age = '1h'");
    assert!(joins(3600, &longer).is_ok());
    refused(joins(3601, &longer), "cloud-time", "until 1 s ago");
    let soon = |ahead: u64| Aws::changed("pendingTime", &UnixTime::new(now() + ahead).to_string());
    assert!(aws.joins(AWS, &aws.0.sign(&soon(60), BER), for_key(), &StoredRecords::default()).is_ok());
    aws.refused(&aws.0.sign(&soon(61), BER), "cloud-time", "which has not come yet");
}

#[test]
fn what_cannot_be_read_is_malformed() {
    let aws = Aws::new();
    let sign = |document: &Value| aws.0.sign(document, BER);
    aws.refused(b"", "cloud-malformed", "no signed message");
    aws.refused(&[0x30; 20_000], "cloud-malformed", "at most 16384");
    aws.refused(&sign(&json!([])), "cloud-malformed", "the JSON of such a document");
    aws.refused(&sign(&Aws::changed("pendingTime", "yesterday")), "cloud-malformed", "`pendingTime` is no time");
    aws.refused(&sign(&Aws::changed("instanceId", "i-1 i-2")), "cloud-malformed", "no id");
    let mut twice = String::from_utf8(serde_json::to_vec(&Aws::document(60)).unwrap()).unwrap();
    twice.insert_str(1, "\"accountId\": \"111122223333\",");
    aws.0.write("document", twice);
    aws.0.openssl(&format!("smime -sign -nodetach -binary -outform DER -in document -out signed {BER}"));
    let twice = std::fs::read(aws.0.path().join("signed")).unwrap();
    aws.refused(&twice, "cloud-malformed", "the JSON of such a document");
    let attestor = aws.0.attestor(AWS);
    let asked = ask(&*attestor, &["aws-identity"]).unwrap();
    let open = |body: &str, kept: &[u8]| {
        with_context(|context| {
            let opened = attestor.open(&message(body, Some(kept), for_key(), JOIN), context);
            opened.map(|_| ()).map_err(Refusal::from)
        })
    };
    refused(open("{", &asked.kept), "cloud-malformed", "its JSON");
    refused(open(r#"{"has":[],"document":"%"}"#, &asked.kept), "cloud-malformed", "not base64");
    refused(open(r#"{"has":[]}"#, &asked.kept), "cloud-malformed", "the document is missing");
    refused(open(r#"{"has":[],"document":""}"#, b"short"), "ticket-invalid", "for another document");
    let other = [&asked.kept[..32], b"aws-nitro"].concat();
    refused(open(r#"{"has":[],"document":""}"#, &other), "ticket-invalid", "for another document");
    let many = format!(r#"{{"has":[{}"x"]}}"#, r#""x","#.repeat(16));
    refused(open(&many, &asked.kept), "cloud-malformed", "too many documents");
}

#[test]
fn the_document_that_says_most_is_asked_for() {
    let room = Room::new();
    let attestor = room.attestor(&nitro::example());
    let wanted = |has: &[&str]| ask(&*attestor, has).map(|asked| asked.challenge.document);
    assert_eq!(wanted(&["aws-identity", "aws-nitro"]).as_deref(), Ok("aws-nitro"));
    assert_eq!(wanted(&["aws-identity", "of-tomorrow"]).as_deref(), Ok("aws-identity"));
    assert_eq!(wanted(&["azure-attested"]).as_deref(), Ok("azure-attested"));
    refused(wanted(&["of-tomorrow"]), "cloud-document", "has `of-tomorrow`, and the gateway accepts `aws-nitro`");
    refused(wanted(&[]), "cloud-document", "has no document of a cloud");
}

/// Azure: a root, a CA below it, and the signer of the metadata service.
struct Microsoft(Room);

const AZURE: &str =
    "[azure-attested]\nanchors = 'root.pem'\nsubscriptions = ['6D0A5C1E-0000-4000-8000-000000000001']\n";
const DER: &str = "-signer signer.pem -inkey signer.key -certfile ca.pem";

impl Microsoft {
    fn new() -> Self {
        let room = Room::new();
        for root in ["root", "other"] {
            room.openssl(&format!(
                "req -x509 -newkey rsa:2048 -noenc -keyout {root}.key -out {root}.pem -days 1 -subj /CN={root}"
            ));
        }
        let cloud = Self(room);
        cloud.certify("ca", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign");
        cloud.signer("signer", "ca", "DNS:westeurope.metadata.azure.com");
        cloud
    }

    fn certify(&self, name: &str, by: &str, extensions: &str) {
        self.0.write("extensions", format!("{extensions}\n"));
        let key = format!("-newkey rsa:2048 -noenc -keyout {name}.key -out {name}.csr -subj /CN={name}");
        self.0.openssl(&format!("req -new {key}"));
        let by = format!("-CA {by}.pem -CAkey {by}.key -extfile extensions -days 1");
        self.0.openssl(&format!("x509 -req -in {name}.csr {by} -out {name}.pem"));
    }

    fn signer(&self, name: &str, by: &str, names: &str) {
        let usages = "keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth";
        self.certify(name, by, &format!("basicConstraints=CA:FALSE\n{usages}\nsubjectAltName={names}"));
    }

    fn times(from: u64, until: u64) -> Value {
        let text = |at: u64| {
            // 2026-11-30T15:00:00Z
            let text = UnixTime::new(at).to_string();
            format!("{}/{}/{} {} -0000", &text[5..7], &text[8..10], &text[2..4], &text[11..19])
        };
        json!({ "createdOn": text(from), "expiresOn": text(until) })
    }

    fn document(nonce: &str) -> Value {
        json!({
            "nonce": nonce, "plan": { "name": "", "product": "", "publisher": "" }, "sku": "24_04-lts",
            "subscriptionId": "6d0a5c1e-0000-4000-8000-000000000001", "timeStamp": Self::times(now(), now() + 21_600),
            "vmId": "02AAB8A4-74EF-476E-8182-F6D2BA4166A6",
        })
    }

    /// What comes of the document, bent, with a signature by these.
    fn joins(&self, bend: impl FnOnce(&mut Value), by: &str) -> Result<Box<Vouched>, Refusal> {
        self.joins_with(AZURE, bend, by)
    }

    fn joins_with(&self, section: &str, bend: impl FnOnce(&mut Value), by: &str) -> Result<Box<Vouched>, Refusal> {
        let attestor = self.0.attestor(section);
        let asked = ask(&*attestor, &["azure-attested"]).unwrap();
        let mut document = Self::document(&asked.azure_nonce(&for_key()));
        bend(&mut document);
        let signed = self.0.sign(&document, by);
        judge(&*attestor, &asked, &signed, (for_key(), JOIN), &StoredRecords::default())
    }
}

#[test]
fn an_attested_document_is_believed_and_told() {
    let azure = Microsoft::new();
    let vouched = azure.joins(|_| {}, DER).unwrap();
    let want = [
        ("account", "6d0a5c1e-0000-4000-8000-000000000001"),
        ("bound", "key"),
        ("device", "azure 02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
        ("document", "azure-attested"),
        ("instance", "02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
    ];
    assert_eq!(claims(&vouched), want.map(|(name, text)| (name, text.to_owned())).into());
    assert_eq!(vouched.claims.assurance, Assurance::SOFTWARE);
    assert!(vouched.spends.writes.is_empty());
    // An intermediate CA may be the anchor, as Azure leaves it out.
    let intermediate = AZURE.replace("root.pem", "ca.pem");
    assert!(azure.joins_with(&intermediate, |_| {}, "-signer signer.pem -inkey signer.key").is_ok());
    // The digest is named as Azure does.
    let attestor = azure.0.attestor(AZURE);
    let asked = ask(&*attestor, &["azure-attested"]).unwrap();
    let signed = azure.0.sign(&Microsoft::document(&asked.azure_nonce(&for_key())), DER);
    let (sha256, with_rsa) = ("608648016503040201", "2a864886f70d01010b");
    let signed = hex::encode(signed).replacen(sha256, with_rsa, 1);
    let signed = hex::decode(signed).unwrap();
    assert!(judge(&*attestor, &asked, &signed, (for_key(), JOIN), &StoredRecords::default()).is_ok());
}

#[test]
fn an_attested_document_is_for_one_challenge_and_key() {
    let azure = Microsoft::new();
    let says = "made for another challenge or another key";
    for nonce in ["1234567890", "", "0123456789abcdef0123456789abcdef"] {
        refused(azure.joins(|document| document["nonce"] = nonce.into(), DER), "cloud-nonce", says);
    }
    let attestor = azure.0.attestor(AZURE);
    let asked = ask(&*attestor, &["azure-attested"]).unwrap();
    let signed = azure.0.sign(&Microsoft::document(&asked.azure_nonce(&key_of(b"victim"))), DER);
    refused(judge(&*attestor, &asked, &signed, (for_key(), JOIN), &StoredRecords::default()), "cloud-nonce", says);
    let mut other = ask(&*attestor, &["azure-attested"]).unwrap();
    other.kept[0] ^= 1;
    let signed = azure.0.sign(&Microsoft::document(&asked.azure_nonce(&for_key())), DER);
    refused(judge(&*attestor, &other, &signed, (for_key(), JOIN), &StoredRecords::default()), "cloud-nonce", says);
}

#[test]
fn an_attested_document_by_anybody_else_is_refused() {
    let azure = Microsoft::new();
    let good = |_: &mut Value| {};
    // Somebody who is certified by the same CA, but for another name.
    azure.signer("thief", "ca", "DNS:metadata.azure.com.thief.example");
    let by_thief = "-signer thief.pem -inkey thief.key -certfile ca.pem";
    refused(azure.joins(good, by_thief), "cloud-signature", "is for metadata.azure.com.thief.example");
    azure.signer("glued", "ca", "DNS:notmetadata.azure.com");
    let glued = "-signer glued.pem -inkey glued.key -certfile ca.pem";
    refused(azure.joins(good, glued), "cloud-signature", "is for notmetadata.azure.com");
    // The right certificate lies in the bag, first or last, and another one signed.
    azure
        .0
        .openssl("req -x509 -newkey rsa:2048 -noenc -keyout own.key -out own.pem -days 1 -subj /CN=metadata.azure.com");
    for more in ["signer.pem", "ca.pem"] {
        let by = format!("-signer own.pem -inkey own.key -certfile {more}");
        let outcome = azure.joins(good, &by);
        assert!(
            matches!(&outcome, Err(Refusal::Evidence(reject)) if reject.code.name == "cloud-signature"),
            "{outcome:?}"
        );
    }
    azure.signer("stray", "other", "DNS:metadata.azure.com");
    let stray = "-signer stray.pem -inkey stray.key -certfile other.pem";
    refused(azure.joins(good, stray), "cloud-signature", "no trusted CA has the name `CN=other`");
    refused(azure.joins(good, &format!("{DER} -nocerts")), "cloud-signature", "certificate of its signer is not there");
    let both = format!("{DER} -signer stray.pem -inkey stray.key");
    refused(azure.joins(good, &both), "cloud-malformed", "it has 2 signers");
    let section = format!("{AZURE}signers = ['metadata.azure.us']");
    refused(azure.joins_with(&section, good, DER), "cloud-signature", "is for westeurope.metadata.azure.com");
}

#[test]
fn what_an_attested_document_says_must_be_so_now_and_for_us() {
    let azure = Microsoft::new();
    let other = "6d0a5c1e-0000-4000-8000-00000000000f";
    let subscription = |document: &mut Value| document["subscriptionId"] = other.into();
    refused(azure.joins(subscription, DER), "cloud-account", &format!("subscription `{other}`"));
    let timed =
        |from: u64, until: u64| azure.joins(|document| document["timeStamp"] = Microsoft::times(from, until), DER);
    assert!(timed(now() + 60, now()).is_ok());
    refused(timed(now() + 61, now() + 90), "cloud-time", "has not come yet");
    refused(timed(now() - 90, now() - 1), "cloud-time", "ended at");
    let no_time = |document: &mut Value| document["timeStamp"]["expiresOn"] = "soon".into();
    refused(azure.joins(no_time, DER), "cloud-malformed", "`timeStamp`");
    refused(azure.joins(|document| document["vmId"] = "web1".into(), DER), "cloud-malformed", "no id");
}
