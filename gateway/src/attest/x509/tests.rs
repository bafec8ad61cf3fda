//! Certificates, signatures and lists as stock `openssl` makes them.
#![expect(clippy::disallowed_methods, reason = "a test writes files for a program")]

use std::{path::Path, process::Command, sync::LazyLock, time::Duration};

use pki::TrustDomain;
use policy::Ruleset;
use tempfile::TempDir;

use super::*;
use crate::{
    core::{
        evidence::{Document, ENTROPY_LEN, Finding},
        lock::Locks,
        refusal::Fault,
        requester::Requester,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::Authority,
};

const EXPORTER: [u8; 32] = [9; 32];

/// The gateway, of which an attestor knows only this. `openssl` makes certificates for now, so now is when it is.
static GATEWAY: LazyLock<(TrustDomain, Authority, Ruleset, pki::UnixTime)> = LazyLock::new(|| {
    let domain = TrustDomain::parse("td.example").unwrap();
    let now = Clock::system().now().plus(Duration::from_secs(60));
    let (clock, _) = Clock::fake(now);
    let authority = Authority::ephemeral(&domain, &clock, &Entropy::seeded(7)).unwrap();
    (domain, authority, Ruleset::load(&[], &[]).unwrap(), now)
});

fn for_key() -> KeyDigest {
    KeyDigest::from_spki_der(b"the key to be certified")
}

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";

/// What `openssl ca -gencrl` wants to read.
const CA_CONFIG: &str = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\ncrlnumber = number\ndefault_md = sha256\n";

/// A CA `ca`, and a device.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        room.ca("ca", EC);
        room
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

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn ca(&self, name: &str, key: &str) {
        self.openssl(&format!(
            "req -x509 -new {key} -noenc -keyout {name}.key -out {name}.pem -days 1 -subj /CN={name}"
        ));
    }

    /// A device `leaf` with this subject, by the CA.
    fn device(&self, key: &str, subject: &str, extensions: &str) {
        self.device_of("ca", key, subject, extensions, "");
    }

    fn device_of(&self, ca: &str, key: &str, subject: &str, extensions: &str, more: &str) {
        self.write("extensions", format!("basicConstraints=CA:FALSE\n{extensions}\n"));
        self.openssl(&format!("req -new {key} -noenc -keyout leaf.key -out leaf.csr -subj {subject}"));
        self.openssl(&format!(
            "x509 -req -in leaf.csr -CA {ca}.pem -CAkey {ca}.key -days 1 -extfile extensions -out leaf.pem {more}"
        ));
    }

    /// The list of the CA, with the leaf on it or not, good until then.
    fn list(&self, revoked: bool, until: &str) {
        self.write("config", CA_CONFIG);
        self.write("number", "01\n");
        self.write("index", "");
        if revoked {
            self.openssl("ca -config config -keyfile ca.key -cert ca.pem -revoke leaf.pem");
        }
        self.openssl(&format!("ca -config config -gencrl -keyfile ca.key -cert ca.pem {until} -out ca.crl"));
    }

    fn signature(&self, key: &str, hash: &str, text: &[u8]) -> String {
        self.write("text", text);
        match hash {
            "" => self.openssl(&format!("pkeyutl -sign -rawin -inkey {key} -in text -out text.sig")),
            hash => self.openssl(&format!("dgst -{hash} -sign {key} -out text.sig text")),
        }
        STANDARD.encode(std::fs::read(self.path().join("text.sig")).unwrap())
    }

    /// Good evidence of the device.
    fn body(&self, hash: &str) -> String {
        let text = x509_message("td.example", &EXPORTER, for_key().as_bytes());
        evidence(&self.read("leaf.pem"), &self.signature("leaf.key", hash, &text))
    }

    fn attestor(&self, section: &str) -> Box<dyn Attestor> {
        let section = Section { values: section.parse().unwrap(), folder: self.path().to_owned() };
        build(Some(&section)).unwrap().unwrap()
    }

    fn found(needs: Vec<Need>) -> Found {
        let mut found = Found::default();
        for need in needs {
            let Need::Document(DocumentSource::File(path)) = need else { panic!("{need:?}") };
            let bytes = std::fs::read(path).ok();
            found.push(Finding::Document(bytes.map(|bytes| Document { bytes: bytes.into(), age: Duration::ZERO })));
        }
        found
    }

    fn judge(&self, section: &str, body: &str, purpose: Purpose<'_>) -> Result<Box<Vouched>, Refusal> {
        with_context(|context| {
            let (entropy, requester) = ([3; ENTROPY_LEN], &Requester::Nobody);
            let (kept, for_key) = (None, for_key());
            let message = Message { body, kept, entropy, for_key, exporter: &EXPORTER, requester, purpose };
            let case = self.attestor(section).open(&message, context)?;
            let found = Self::found(case.needs(&Found::default())?);
            assert!(case.needs(&found)?.is_empty());
            // Everything is asked for again until all look-ups are made.
            let mut nothing = Found::default();
            (0..found.len()).for_each(|_| nothing.push(Finding::Document(None)));
            let early = case.rests_on(&nothing, context)?;
            let cleared = early.clear(&Locks::new(early.targets.clone(), vec![]))?;
            assert!(case.step(&nothing, context, &cleared).is_err());
            let rests_on = case.rests_on(&found, context)?;
            let locks = Locks::new(rests_on.targets.clone(), vec![]);
            match case.step(&found, context, &rests_on.clear(&locks)?).map_err(|rejected| rejected.refusal)? {
                Step::Done(vouched) => Ok(vouched),
                Step::Ask { .. } => panic!("it asks back"),
            }
        })
    }

    fn joins(&self, section: &str, body: &str) -> Result<Box<Vouched>, Refusal> {
        self.judge(section, body, Purpose::Join { wanted: Some("web1") })
    }

    #[track_caller]
    fn refused(&self, section: &str, body: &str, code: &str, says: &str) {
        match self.joins(section, body) {
            Err(Refusal::Evidence(reject)) => {
                assert_eq!(reject.code.name, code, "{reject}");
                assert!(reject.text.contains(says), "{reject}");
            }
            other => panic!("{other:?} instead of {code}"),
        }
    }

    /// It is this gateway that cannot judge.
    #[track_caller]
    fn unavailable(&self, section: &str, says: &str) {
        match self.joins(section, &self.body("sha256")) {
            Err(Refusal::Ours(Fault::Document { why, .. })) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?} instead of {says}"),
        }
    }
}

fn with_context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let (domain, authority, rules, now) = &*GATEWAY;
    let (anchors, token_key) = (authority.anchors(), authority.token_key());
    work(&Context { domain, anchors, token_key, host_ca: None, rules, now: *now })
}

fn renewal() -> Purpose<'static> {
    static KNOWN: BTreeMap<String, Claim> = BTreeMap::new();
    Purpose::Renewal { name: "web1", known: &KNOWN }
}

fn evidence(certificates: &str, signature: &str) -> String {
    let (certificates, signature) = (certificates.to_owned(), signature.to_owned());
    serde_json::to_string(&X509Evidence { certificates, signature }).unwrap()
}

#[track_caller]
fn told(vouched: Result<Box<Vouched>, Refusal>, claim: &str) -> Option<String> {
    vouched.unwrap().claims.values.get(claim).map(Claim::text)
}

const ACME: &str = "[issuers.acme]\nanchors = 'ca.pem'\n";
const LISTED: &str = "[issuers.acme]\nanchors = 'ca.pem'\ncrls = ['ca.crl']\n";

#[test]
fn an_idevid_is_believed_and_told() {
    let room = Room::new();
    room.device(EC, "/O=Acme/serialNumber=SN-42", "keyUsage=critical,digitalSignature");
    let vouched = room.joins(ACME, &room.body("sha256")).unwrap();
    let claims = &vouched.claims;
    let text = |name: &str| claims.values.get(name).map(Claim::text).unwrap_or_default();
    assert_eq!((text("issuer"), text("serial_number")), ("acme".to_owned(), "SN-42".to_owned()));
    assert_eq!(
        (text("device"), text("subject")),
        ("acme serial-number SN-42".into(), "O=Acme, serialNumber=SN-42".into())
    );
    room.openssl("x509 -in leaf.pem -outform DER -out leaf.der");
    let der = std::fs::read(room.path().join("leaf.der")).unwrap();
    assert_eq!(text("fingerprint"), KeyDigest::from_spki_der(&der).hex());
    assert!(claims.names.is_empty() && claims.grants.is_none(), "{claims:?}");
    assert_eq!((claims.assurance, claims.role), (Assurance::SOFTWARE, Some(Role::Machine)));
    let declared: Vec<&str> = ROW.claims.iter().map(|(name, _)| *name).collect();
    assert!(claims.values.keys().all(|name| declared.contains(&name.as_str())), "{claims:?}");
    let hardware = room.joins(&format!("{ACME}hardware = true"), &room.body("sha256")).unwrap();
    assert_eq!(
        hardware.claims.assurance,
        Assurance::hardware(AssuranceOf::Host),
        "of another key than the one to be certified"
    );
}

#[test]
fn every_kind_of_key_signs_with_its_hash() {
    let room = Room::new();
    for (key, hash) in [
        (EC, "sha256"),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-384", "sha384"),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-521", "sha512"),
        ("-newkey rsa:2048", "sha256"),
        ("-newkey ed25519", ""),
    ] {
        room.device(key, "/CN=web1", "");
        assert!(room.joins(ACME, &room.body(hash)).is_ok(), "{key}");
    }
    // A CA on P-521 and one on Ed25519.
    for (at, key) in ["-newkey ec -pkeyopt ec_paramgen_curve:P-521", "-newkey ed25519"].iter().enumerate() {
        room.ca(&format!("ca{at}"), key);
        room.device_of(&format!("ca{at}"), EC, "/CN=web1", "", "");
        let section = ACME.replace("ca.pem", &format!("ca{at}.pem"));
        assert!(room.joins(&section, &room.body("sha256")).is_ok(), "{key}");
    }
}

#[test]
fn signatures_that_do_not_hold() {
    let room = Room::new();
    room.device(EC, "/CN=web1", "");
    let leaf = room.read("leaf.pem");
    let signed = |key: &str, text: &[u8]| evidence(&leaf, &room.signature(key, "sha256", text));
    let check = |body: &str| room.refused(ACME, body, "x509-signature", "does not fit");
    let good = x509_message("td.example", &EXPORTER, for_key().as_bytes());
    check(&signed("ca.key", &good));
    check(&signed("leaf.key", &x509_message("other.example", &EXPORTER, for_key().as_bytes())));
    check(&signed("leaf.key", &x509_message("td.example", &[8; 32], for_key().as_bytes())));
    check(&signed("leaf.key", &x509_message("td.example", &EXPORTER, &[7; 32])));
    check(&evidence(&leaf, ""));
    // Somebody else's certificate.
    room.device(EC, "/CN=web2", "");
    check(&evidence(&leaf, &room.signature("leaf.key", "sha256", &good)));
}

#[test]
fn what_cannot_be_read_is_malformed() {
    let room = Room::new();
    room.device(EC, "/CN=web1", "");
    let leaf = room.read("leaf.pem");
    let check = |body: &str, says: &str| room.refused(ACME, body, "x509-malformed", says);
    check("", "JSON");
    check(r#"{"certificates":"x","signature":"y","more":1}"#, "JSON");
    check(&evidence("", "AAAA"), "no `-----BEGIN CERTIFICATE-----`");
    check(&evidence(&leaf.repeat(9), "AAAA"), "there are 9 certificates");
    check(&evidence(&leaf, "%"), "the signature is not base64");
    check(
        &evidence("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "AAAA"),
        "certificate 1 is not an X.509",
    );
}

#[test]
fn weak_keys_and_hashes_are_refused_by_name() {
    let room = Room::new();
    let refused = |code: &str, says: &str| room.refused(ACME, &room.body("sha256"), code, says);
    room.device("-newkey rsa:1024", "/CN=web1", "");
    refused("x509-certificate", "RSA of 2048");
    room.device("-newkey ec -pkeyopt ec_paramgen_curve:secp256k1", "/CN=web1", "");
    refused("x509-certificate", "P-256");
    room.device_of("ca", EC, "/CN=web1", "", "-sha1");
    refused("x509-path", "`CN=web1` is signed with SHA-1");
    room.ca("small", "-newkey rsa:1024");
    room.device_of("small", EC, "/CN=web1", "", "");
    room.refused(
        &ACME.replace("ca.pem", "small.pem"),
        &room.body("sha256"),
        "x509-path",
        "the key of `CN=small` is not RSA of 2048",
    );
}

#[test]
fn what_an_issuer_must_have_certified() {
    let room = Room::new();
    room.device(EC, "/CN=web1", "extendedKeyUsage=clientAuth\ncertificatePolicies=1.2.3.4");
    let body = room.body("sha256");
    let needs = |more: &str| format!("{ACME}{more}");
    let good = needs("extended_key_usages = ['1.3.6.1.5.5.7.3.2']\ncertificate_policies = ['1.2.3.4']");
    assert_eq!(told(room.joins(&good, &body), "usages").as_deref(), Some("1.3.6.1.5.5.7.3.2"));
    assert_eq!(told(room.joins(&good, &body), "policies").as_deref(), Some("1.2.3.4"));
    room.refused(&needs("extended_key_usages = ['1.3.6.1.5.5.7.3.1']"), &body, "x509-requirement", "1.3.6.1.5.5.7.3.1");
    room.refused(&needs("certificate_policies = ['1.2.3.5']"), &body, "x509-requirement", "policy 1.2.3.5");
    // The first issuer, by name, of which all holds.
    let two = format!("{ACME}extended_key_usages = ['1.2.3']\n[issuers.beta]\nanchors = 'ca.pem'\n");
    assert_eq!(told(room.joins(&two, &body), "issuer").as_deref(), Some("beta"));
    room.device(EC, "/CN=web1", "keyUsage=critical,keyEncipherment");
    room.refused(ACME, &room.body("sha256"), "x509-certificate", "key usage");
    room.write("leaf.pem", room.read("ca.pem"));
    room.write("leaf.key", room.read("ca.key"));
    room.refused(ACME, &room.body("sha256"), "x509-certificate", "of a CA");
}

#[test]
fn an_unknown_issuer_is_named() {
    let room = Room::new();
    room.ca("other", EC);
    room.device_of("other", EC, "/CN=web1", "", "");
    room.refused(ACME, &room.body("sha256"), "x509-issuer", "`CN=other`");
    // A machine that is in goes on, and nothing is said of it.
    let renewed = room.judge(ACME, &room.body("sha256"), renewal()).unwrap();
    assert!(renewed.claims.values.is_empty() && renewed.claims.assurance == Assurance::SOFTWARE, "{renewed:?}");
    // It may be an issuer whose file cannot be read.
    let two = format!("{ACME}[issuers.beta]\nanchors = 'gone.pem'\n");
    room.unavailable(&two, "gone.pem: it cannot be read");
    room.write("gone.pem", "nothing");
    room.unavailable(&two, "gone.pem: the text holds no `-----BEGIN CERTIFICATE-----` block");
    room.write("gone.pem", room.read("other.pem"));
    assert_eq!(told(room.joins(&two, &room.body("sha256")), "issuer").as_deref(), Some("beta"));
}

#[test]
fn names_are_taken_only_as_configured() {
    let room = Room::new();
    room.device(
        EC,
        "/serialNumber=EDGE7",
        "subjectAltName=DNS:Web1.example.com,DNS:web2.other.example,DNS:*.example.com",
    );
    let body = room.body("sha256");
    let names = |more: &str, purpose| room.judge(&format!("{ACME}{more}"), &body, purpose).unwrap().claims.names;
    let join = Purpose::Join { wanted: None };
    assert!(names("", join).is_empty());
    assert_eq!(names("name = 'dns'\ndomain = 'example.com'", join), ["web1"]);
    assert_eq!(names("name = 'serial-number'", join), ["edge7"]);
    assert!(names("name = 'serial-number'", renewal()).is_empty(), "it may have been renamed");
    assert_eq!(told(room.joins(ACME, &body), "names").as_deref(), Some("web1.example.com,web2.other.example"));
    room.refused(&format!("{ACME}name = 'dns'\ndomain = 'lab.example'"), &body, "x509-names", "web1.example.com");
    room.device(EC, "/CN=web1", "");
    let body = room.body("sha256");
    room.refused(&format!("{ACME}name = 'serial-number'"), &body, "x509-names", "has no name");
    // The same subject with another key is the same device.
    let device = told(room.joins(ACME, &body), "device");
    room.device(EC, "/CN=web1", "");
    assert_eq!(told(room.joins(ACME, &room.body("sha256")), "device"), device);
}

#[test]
fn revocation_fails_closed() {
    let room = Room::new();
    room.device(EC, "/CN=web1", "");
    room.unavailable(LISTED, "ca.crl: it cannot be read");
    room.list(false, "-crldays 1");
    assert!(room.joins(LISTED, &room.body("sha256")).is_ok());
    room.openssl("crl -in ca.crl -outform DER -out ca.der");
    assert!(room.joins(&LISTED.replace("ca.crl", "ca.der"), &room.body("sha256")).is_ok(), "DER");
    room.unavailable(
        &format!("{LISTED}crl_max_age = '1s'"),
        "`crls` of the issuer `acme`: the list of `CN=ca` was good until",
    );
    room.list(false, "-crlsec 1");
    room.unavailable(LISTED, "was good until");
    room.list(true, "-crldays 1");
    room.refused(LISTED, &room.body("sha256"), "x509-revoked", "`CN=web1` was revoked");
    // Another issuer with the same CAs and without lists does not let it in.
    let two = format!("[issuers.aaa]\nanchors = 'ca.pem'\n{LISTED}");
    room.refused(&two, &room.body("sha256"), "x509-revoked", "revoked");
    room.write("ca.crl", "nothing");
    room.unavailable(LISTED, "ca.crl: the text holds no `-----BEGIN X509 CRL-----` block");
    // A list of another CA says nothing, and one in the name of this CA neither.
    room.ca("other", EC);
    room.write("config", CA_CONFIG);
    room.write("index", "");
    room.openssl("ca -config config -gencrl -keyfile other.key -cert other.pem -crldays 1 -out ca.crl");
    room.unavailable(LISTED, "there is no list by `CN=ca`");
    room.openssl("req -x509 -new -key other.key -out forged.pem -days 1 -subj /CN=ca");
    room.openssl("ca -config config -gencrl -keyfile other.key -cert forged.pem -crldays 1 -out ca.crl");
    room.unavailable(LISTED, "is not signed by that CA");
}

#[test]
fn whoever_waits_is_judged_again() {
    let room = Room::new();
    room.device(EC, "/CN=web1", "");
    room.list(false, "-crldays 1");
    let attestor = room.attestor(LISTED);
    let reference = room.joins(LISTED, &room.body("sha256")).unwrap().reference.unwrap();
    let still = |attestor: &dyn Attestor| {
        let found = Room::found(attestor.recheck_needs(&reference, &Found::default()));
        with_context(|context| attestor.recheck(&reference, &for_key(), &found, context)).map(|_| ())
    };
    assert_eq!(still(&*attestor), Ok(()));
    let code = |result: Result<(), Refusal>| match result {
        Err(Refusal::Evidence(reject)) => reject.code.name,
        other => panic!("{other:?}"),
    };
    room.list(true, "-crldays 1");
    assert_eq!(code(still(&*attestor)), "x509-revoked");
    std::fs::remove_file(room.path().join("ca.crl")).unwrap();
    assert_eq!(code(still(&*attestor)), "x509-unchecked");
    room.list(false, "-crldays 1");
    room.ca("other", EC);
    room.write("ca.pem", room.read("other.pem"));
    assert_eq!(code(still(&*attestor)), "x509-issuer", "the anchor was removed");
    let renamed = room.attestor(&LISTED.replace("acme", "beta"));
    assert_eq!(code(still(&*renamed)), "x509-issuer", "the issuer was removed");
}

#[test]
fn evidence_rests_on_the_key_and_on_the_cas() {
    let room = Room::new();
    room.device(EC, "/CN=web1", "");
    let body = room.body("sha256");
    with_context(|context| {
        let (entropy, requester, purpose) = ([3; ENTROPY_LEN], &Requester::Nobody, renewal());
        let (body, kept, for_key) = (body.as_str(), None, for_key());
        let message = Message { body, kept, entropy, for_key, exporter: &EXPORTER, requester, purpose };
        let case = room.attestor(ACME).open(&message, context).unwrap();
        let found = Room::found(case.needs(&Found::default()).unwrap());
        let rests_on = case.rests_on(&found, context).unwrap();
        let digest = |pem: &str| {
            room.openssl(&format!("pkey -in {pem} -pubout -outform DER -out public"));
            KeyDigest::from_spki_der(&std::fs::read(room.path().join("public")).unwrap()).hex()
        };
        assert_eq!(rests_on.targets, [(LockKind::Key, digest("leaf.key")), (LockKind::Key, digest("ca.key"))]);
    });
}

#[test]
fn sections_that_do_not_fit_are_told() {
    let room = Room::new();
    let check = |text: &str, says: &str| {
        let section = Section { values: text.parse().unwrap(), folder: room.path().to_owned() };
        match build(Some(&section)) {
            Err(bad) => assert!(bad.what.contains(says), "{text}: {bad}"),
            Ok(_) => panic!("{text}"),
        }
    };
    check("", "there is no issuer");
    check("[issuers.acme]", "missing field `anchors`");
    check("[issuers.'A b']\nanchors = 'x'", "a name of an issuer");
    check(&format!("{ACME}extended_key_usages = ['clientAuth']"), "`clientAuth` is not an object identifier");
    check(&format!("{ACME}crl_max_age = '7d'"), "`crl_max_age` is for `crls`");
    check(&format!("{LISTED}crl_max_age = 'soon'"), "`crl_max_age` must be a time span");
    check(&format!("{ACME}name = 'dns'"), "needs `domain`");
    check(&format!("{ACME}domain = 'example.com'"), "`domain` is for");
    check(&format!("{ACME}name = 'common-name'"), "unknown variant `common-name`");
    check(&format!("{ACME}crls = [{}]", "'x',".repeat(32)), "33 files, and at most 32");
    assert!(build(None).unwrap().is_none());
    let off = Section { values: "enabled = false".parse().unwrap(), folder: room.path().to_owned() };
    assert!(build(Some(&off)).unwrap().is_none());
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let (room, now) = (Room::new(), GATEWAY.3);
    let attestor = room.attestor(LISTED);
    let [anchors, list] = attestor.documents().try_into().unwrap();
    assert_eq!(attestor.complaints(&anchors, room.read("ca.pem").as_bytes(), None, now), Vec::<String>::new());
    assert_eq!(
        attestor.complaints(&anchors, b"x", None, now),
        ["the text holds no `-----BEGIN CERTIFICATE-----` block"]
    );
    assert_eq!(attestor.complaints(&list, b"x", None, now), ["the text holds no `-----BEGIN X509 CRL-----` block"]);
}

#[test]
fn the_section_in_the_example_builds() {
    const EXAMPLE: &str = include_str!("../../../gateway.example.toml");
    let lines = EXAMPLE.lines().skip_while(|line| *line != "# [attest.x509]").take_while(|line| !line.is_empty());
    let text: String = lines.map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let table: toml::Table = text.parse().unwrap();
    let values = table["attest"]["x509"].as_table().unwrap().clone();
    let attestor = build(Some(&Section { values, folder: "/etc/lychgate".into() })).unwrap().unwrap();
    let files = ["/etc/lychgate/acme-roots.pem", "/etc/lychgate/acme.crl"];
    assert_eq!(attestor.documents(), files.map(|file| DocumentSource::File(file.into())));
}
