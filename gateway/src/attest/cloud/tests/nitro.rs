//! Documents of the Nitro hypervisor: certificates by `rcgen`, CBOR written here, in both forms that AWS writes.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
};

use super::*;

/// A head (RFC 8949 3): the major type, and its argument in the shortest form.
fn head(major: u8, argument: usize) -> Vec<u8> {
    let first = |low: u8| major << 5 | low;
    match argument {
        0..24 => vec![first(u8::try_from(argument).unwrap())],
        24..256 => vec![first(24), u8::try_from(argument).unwrap()],
        _ => [vec![first(25)], u16::try_from(argument).unwrap().to_be_bytes().to_vec()].concat(),
    }
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len()), bytes.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [head(3, text.len()), text.as_bytes().to_vec()].concat()
}

fn pcrs(values: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let entries = values.iter().map(|(number, value)| [head(0, *number), bytes(value)].concat());
    [vec![head(5, values.len())], entries.collect()].concat().concat()
}

/// A certificate and its key.
struct Certified {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
    pem: String,
}

impl Certified {
    fn new(name: &str, is_ca: bool, by: Option<&Self>) -> Self {
        Self::of(name, is_ca, by, &PKCS_ECDSA_P384_SHA384)
    }

    fn of(name: &str, is_ca: bool, by: Option<&Self>, algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        } else {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        Self::issue(params, by, algorithm)
    }

    fn issue(params: CertificateParams, by: Option<&Self>, algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = match by {
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }

    /// A signature as COSE wants it (RFC 9053 2.1).
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

/// AWS: its root, a CA below it, and the hypervisor of an instance.
struct Hypervisor {
    room: Room,
    root: Certified,
    ca: Certified,
    leaf: Certified,
}

const NITRO: &str = "[aws-nitro]\nroot = 'root.pem'\n";

fn section() -> String {
    format!("{NITRO}pcrs.4 = '{}'\n", "44".repeat(48))
}

/// The members of a document, each as CBOR.
type Members = Vec<(&'static str, Vec<u8>)>;

impl Hypervisor {
    fn new() -> Self {
        let root = Certified::new("aws.nitro-enclaves", true, None);
        let ca = Certified::new("zonal", true, Some(&root));
        let leaf = Certified::new("i-1234567890abcdef0", false, Some(&ca));
        let room = Room::new();
        room.write("root.pem", &root.pem);
        Self { room, root, ca, leaf }
    }

    fn members(&self, asked: &AskedMachine) -> Members {
        let measured = |number: usize| (number, vec![u8::try_from(number * 16 + number).unwrap(); 48]);
        let bundle = [bytes(&self.root.der), bytes(&self.ca.der)].concat();
        vec![
            ("module_id", text("i-1234567890abcdef0-tpm0000000000000000")),
            ("digest", text("SHA384")),
            ("timestamp", [vec![0x1b], (now() * 1000 + 7).to_be_bytes().to_vec()].concat()),
            ("nitrotpm_pcrs", pcrs(&[(0, vec![0xaa; 48]), measured(1), measured(2), measured(4), measured(7)])),
            ("certificate", bytes(&self.leaf.der)),
            ("cabundle", [head(4, 2), bundle].concat()),
            ("public_key", vec![0xf6]),
            ("user_data", bytes(for_key().as_bytes())),
            ("nonce", bytes(&asked.nonce())),
        ]
    }

    fn payload(members: &Members, length: Vec<u8>, end: &[u8]) -> Vec<u8> {
        let members = members.iter().map(|(name, value)| [text(name), value.clone()].concat());
        [vec![length], members.collect(), vec![end.to_vec()]].concat().concat()
    }

    fn signed(&self, payload: &[u8]) -> Vec<u8> {
        signed(&self.leaf, payload)
    }

    fn document(&self, members: &Members) -> Vec<u8> {
        self.signed(&Self::payload(members, head(5, members.len()), &[]))
    }

    fn shows(&self, section: &str, make: impl FnOnce(&AskedMachine) -> Vec<u8>) -> Result<Box<Vouched>, Refusal> {
        let attestor = self.room.attestor(section);
        let asked = ask(&*attestor, &["aws-nitro"]).unwrap();
        let document = make(&asked);
        judge(&*attestor, &asked, &document, (for_key(), JOIN), &StoredRecords::default())
    }

    /// What comes of a document with other members.
    fn bent(&self, section: &str, bend: impl FnOnce(&mut Members)) -> Result<Box<Vouched>, Refusal> {
        self.shows(section, |asked| {
            let mut members = self.members(asked);
            bend(&mut members);
            self.document(&members)
        })
    }

    #[track_caller]
    fn refused(&self, bend: impl FnOnce(&mut Members), code: &str, says: &str) {
        refused(self.bent(&section(), bend), code, says);
    }
}

/// COSE_Sign1 (RFC 9052 4.2).
fn signed(by: &Certified, payload: &[u8]) -> Vec<u8> {
    let protected = bytes(&[0xa1, 0x01, 0x38, 0x22]);
    let structure = [&b"\x84\x6aSignature1"[..], &protected, &[0x40], &bytes(payload)].concat();
    let signature = by.sign(&structure);
    [&[0x84][..], &protected, &[0xa0], &bytes(payload), &bytes(&signature)].concat()
}

fn set(members: &mut Members, name: &str, value: Vec<u8>) {
    for (known, old) in members {
        if *known == name {
            *old = value;
            return;
        }
    }
    panic!("there is no {name}");
}

#[test]
fn a_document_of_a_nitro_tpm_is_believed_and_told() {
    let aws = Hypervisor::new();
    let vouched = aws.bent(&section(), |_| {}).unwrap();
    let (one, two, four, seven) = ("11".repeat(48), "22".repeat(48), "44".repeat(48), "77".repeat(48));
    let want = [
        ("bound", "key"),
        ("debug", "no"),
        ("device", "aws i-1234567890abcdef0"),
        ("document", "aws-nitro"),
        ("instance", "i-1234567890abcdef0-tpm0000000000000000"),
        ("module", "nitrotpm"),
        ("pcr0", &"aa".repeat(48)),
        ("pcr1", &one),
        ("pcr2", &two),
        ("pcr4", &four),
        ("pcr7", &seven),
    ];
    assert_eq!(claims(&vouched), want.map(|(name, text)| (name, text.to_owned())).into());
    let Claims { assurance, role, names, grants, .. } = &vouched.claims;
    assert_eq!((*assurance, *role), (Assurance::hardware(AssuranceOf::Host), Some(Role::Machine)));
    assert!(names.is_empty() && grants.is_none() && vouched.spends.writes.is_empty());
    // A map without its length, as AWS writes it now; a tag before it all; a member that is not known.
    let indefinite =
        aws.shows(&section(), |asked| aws.signed(&Hypervisor::payload(&aws.members(asked), vec![0xbf], &[0xff])));
    assert!(indefinite.is_ok(), "{indefinite:?}");
    let tagged = aws.shows(&section(), |asked| [vec![0xd2], aws.document(&aws.members(asked))].concat());
    assert!(tagged.is_ok(), "{tagged:?}");
    let more = |members: &mut Members| members.push(("of_tomorrow", vec![0x81, 0xa1, 1, 0x61, b'x']));
    assert!(aws.bent(&section(), more).is_ok());
    // The key as it is, where others put one to encrypt to.
    let with_key = |members: &mut Members| {
        set(members, "user_data", vec![0xf6]);
        set(members, "public_key", bytes(b"the key to be certified"));
    };
    assert!(aws.bent(&section(), with_key).is_ok());
}

#[test]
fn an_enclave_is_not_its_instance() {
    let aws = Hypervisor::new();
    let enclave = |members: &mut Members| {
        members.retain(|(name, _)| *name != "nitrotpm_pcrs");
        let measured = [0, 1, 2, 4].map(|number| (number, vec![0x44; 48]));
        members.push(("pcrs", pcrs(&measured)));
        set(members, "module_id", text("i-1234567890abcdef0-enc0123456789abcdef"));
    };
    let vouched = aws.bent(&section(), enclave).unwrap();
    let told = claims(&vouched);
    assert_eq!((&*told["device"], &*told["module"]), ("aws i-1234567890abcdef0-enc0123456789abcdef", "enclave"));
}

#[test]
fn a_document_is_for_one_challenge_and_key() {
    let aws = Hypervisor::new();
    let says = "made for another challenge or another key";
    for value in [vec![0xf6], bytes(b""), bytes(&[3; 31]), bytes(&[4; 32])] {
        aws.refused(|members| set(members, "nonce", value), "cloud-nonce", says);
    }
    aws.refused(|members| members.retain(|(name, _)| *name != "nonce"), "cloud-nonce", says);
    for value in [vec![0xf6], bytes(key_of(b"victim").as_bytes()), bytes(b"the key to be certified")] {
        aws.refused(|members| set(members, "user_data", value), "cloud-nonce", says);
    }
    let other = |members: &mut Members| {
        set(members, "user_data", vec![0xf6]);
        set(members, "public_key", bytes(for_key().as_bytes()));
    };
    aws.refused(other, "cloud-nonce", says);
}

#[test]
fn a_document_is_from_now() {
    let aws = Hypervisor::new();
    let made = |at: u64| {
        let at = [vec![0x1b], (at * 1000).to_be_bytes().to_vec()].concat();
        aws.bent(&section(), |members| set(members, "timestamp", at))
    };
    assert!(made(now() + 60).is_ok() && made(now() - 360).is_ok());
    refused(made(now() + 61), "cloud-time", "not for this challenge");
    refused(made(now() - 361), "cloud-time", "not for this challenge");
    // The hypervisor's certificate holds for three hours, and must hold when the document was made, too.
    let validity = |from: u64, until: u64| {
        let mut params = aws.leaf.params.clone();
        let at = |secs: u64| time::OffsetDateTime::from_unix_timestamp(i64::try_from(secs).unwrap()).unwrap();
        (params.not_before, params.not_after) = (at(from), at(until));
        Certified::issue(params, Some(&aws.ca), &PKCS_ECDSA_P384_SHA384)
    };
    for (from, until, at, says) in [
        (now() - 9000, now() - 1, now() - 60, Some("expired at")),
        (now() - 30, now() + 9000, now() - 60, Some("is not valid before")),
        (now() - 9000, now() + 9000, now() - 60, None),
    ] {
        let leaf = validity(from, until);
        let outcome = aws.shows(&section(), |asked| {
            let mut members = aws.members(asked);
            set(&mut members, "certificate", bytes(&leaf.der));
            set(&mut members, "timestamp", [vec![0x1b], (at * 1000).to_be_bytes().to_vec()].concat());
            signed(&leaf, &Hypervisor::payload(&members, head(5, members.len()), &[]))
        });
        match says {
            Some(says) => refused(outcome, "cloud-time", says),
            None => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
}

#[test]
fn a_document_by_anybody_else_is_refused() {
    let aws = Hypervisor::new();
    // A chain of one's own, with the names of AWS.
    let mut other = Hypervisor::new();
    let theirs = aws.shows(&section(), |asked| other.document(&other.members(asked)));
    refused(theirs, "cloud-signature", "is not its issuer's");
    // AWS's certificates, and a signature of one's own.
    let stolen = aws.shows(&section(), |asked| other.document(&aws.members(asked)));
    refused(stolen, "cloud-signature", "not by the key of its certificate");
    // A CA of AWS does not speak for an instance, and an instance is no CA.
    let ca = |members: &mut Members| set(members, "certificate", bytes(&aws.ca.der));
    aws.refused(ca, "cloud-signature", "is of a CA");
    other.leaf = Certified::new("i-2", false, Some(&aws.leaf));
    let below = aws.shows(&section(), |asked| {
        let mut members = aws.members(asked);
        let bundle = [&aws.root.der, &aws.ca.der, &aws.leaf.der].map(|der| bytes(der)).concat();
        set(&mut members, "cabundle", [head(4, 3), bundle].concat());
        set(&mut members, "certificate", bytes(&other.leaf.der));
        other.document(&members)
    });
    refused(below, "cloud-signature", "is not a CA");
    // A key on another curve.
    let p256 = Certified::of("i-3", false, Some(&aws.ca), &PKCS_ECDSA_P256_SHA256);
    let small = |members: &mut Members| set(members, "certificate", bytes(&p256.der));
    aws.refused(small, "cloud-signature", "not by the key of its certificate");
    // Somebody else's root in the file.
    aws.room.write("root.pem", &Certified::new("another", true, None).pem);
    aws.refused(|_| {}, "cloud-signature", "no trusted CA has the name `CN=aws.nitro-enclaves`");
}

#[test]
fn what_was_not_measured_is_debug_mode() {
    let aws = Hypervisor::new();
    let debug = |members: &mut Members| {
        let zero = [0, 1, 2, 4].map(|number| (number, vec![0; 48]));
        set(members, "nitrotpm_pcrs", pcrs(&zero));
    };
    aws.refused(debug, "cloud-debug", "nothing was measured");
    let allowed = aws.bent(&format!("{NITRO}debug = true\npcrs.4 = '{}'", "44".repeat(48)), debug).unwrap();
    assert_eq!((&*claims(&allowed)["debug"], allowed.claims.assurance), ("yes", Assurance::SOFTWARE));
    // One that is zero or missing is enough.
    for measured in [vec![0, 1, 4], vec![1, 2, 4], vec![]] {
        let values: Vec<_> = measured.into_iter().map(|number| (number, vec![0x44; 48])).collect();
        aws.refused(|members| set(members, "nitrotpm_pcrs", pcrs(&values)), "cloud-debug", "nothing was measured");
    }
}

#[test]
fn the_operator_says_what_must_be_measured() {
    let aws = Hypervisor::new();
    let measured = |pcrs: &str| aws.bent(&format!("{NITRO}{pcrs}"), |_| {});
    let (four, five, seven) = ("44".repeat(48), "55".repeat(48), "77".repeat(48));
    assert!(measured(&format!("pcrs.4 = ['{five}', '{four}']\npcrs.7 = '{seven}'")).is_ok());
    refused(measured(&format!("pcrs.4 = '{five}'")), "cloud-measured", &format!("PCR 4 is {four}"));
    refused(measured(&format!("pcrs.4 = '{four}'\npcrs.7 = '{five}'")), "cloud-measured", "PCR 7 is");
    refused(measured(&format!("pcrs.11 = '{four}'")), "cloud-measured", "PCR 11 is missing");
}

#[test]
fn what_is_no_document_is_malformed() {
    let aws = Hypervisor::new();
    let says = "its payload is not that of a Nitro attestation document";
    for name in ["module_id", "digest", "timestamp", "nitrotpm_pcrs", "certificate", "cabundle"] {
        aws.refused(|members| members.retain(|(known, _)| *known != name), "cloud-malformed", says);
        let twice = |members: &mut Members| {
            let again = members.iter().find(|(known, _)| *known == name).unwrap().clone();
            members.push(again);
        };
        aws.refused(twice, "cloud-malformed", says);
    }
    for (name, value) in [
        ("module_id", text("")),
        ("module_id", text("i 1")),
        ("module_id", text(&"i".repeat(129))),
        ("digest", text("SHA256")),
        ("timestamp", bytes(b"1")),
        ("nitrotpm_pcrs", pcrs(&[(0, vec![1; 32])])),
        ("nitrotpm_pcrs", pcrs(&[(32, vec![1; 48])])),
        ("nitrotpm_pcrs", pcrs(&[(0, vec![1; 48]), (0, vec![2; 48])])),
        ("nitrotpm_pcrs", [vec![0xbf], head(0, 0), bytes(&[1; 48]), vec![0xff]].concat()),
        ("cabundle", [head(4, 8), bytes(b"x").repeat(8)].concat()),
        ("user_data", vec![0x5f, 0x41, 1, 0xff]),
    ] {
        aws.refused(|members| set(members, name, value), "cloud-malformed", says);
    }
    let both = |members: &mut Members| members.push(("pcrs", pcrs(&[(0, vec![1; 48])])));
    aws.refused(both, "cloud-malformed", says);
    let many = |members: &mut Members| {
        for at in 0..30_usize {
            members.push((format!("more{at}").leak(), vec![0]));
        }
    };
    aws.refused(many, "cloud-malformed", says);
    let trailing = aws.shows(&section(), |asked| {
        let members = aws.members(asked);
        aws.signed(&Hypervisor::payload(&members, head(5, members.len()), &[0]))
    });
    refused(trailing, "cloud-malformed", says);
    let says = "it is no COSE_Sign1 with ES384";
    let cose = |bend: fn(Vec<u8>) -> Vec<u8>| {
        let outcome = aws.shows(&section(), |asked| bend(aws.document(&aws.members(asked))));
        refused(outcome, "cloud-malformed", says);
    };
    cose(|document| [document, vec![0]].concat());
    cose(|document| document[..document.len() - 1].to_vec());
    cose(|document| [&[0x85][..], &document[1..], &[0]].concat());
    // ES256 in the header; a header that is not protected; another tag.
    cose(|mut document| {
        document[4..6].copy_from_slice(&[0x26, 0x00]);
        document
    });
    cose(|document| [&document[..6], &[0xa1, 1, 1], &document[7..]].concat());
    cose(|document| [vec![0xd1], document].concat());
    cose(|_| vec![]);
    refused(aws.shows(&section(), |_| vec![0x84; 20_000]), "cloud-malformed", "too long");
}

/// Each single byte, another: what is signed counts, and nothing panics.
#[test]
fn a_changed_document_is_refused() {
    let aws = Hypervisor::new();
    let attestor = aws.room.attestor(&section());
    let asked = ask(&*attestor, &["aws-nitro"]).unwrap();
    let document = aws.document(&aws.members(&asked));
    for at in 0..document.len() {
        let mut changed = document.clone();
        changed[at] ^= 1;
        assert!(
            judge(&*attestor, &asked, &changed, (for_key(), JOIN), &StoredRecords::default()).is_err(),
            "byte {at}"
        );
    }
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
    check("", "no document is accepted");
    check("[aws]", "unknown field `aws`");
    check("[aws-nitro]\npcrs.4 = 'x'", "missing field `root`");
    check(NITRO, "`aws-nitro`: everybody can have such a document");
    check(&format!("{NITRO}pcrs.32 = '{}'", "44".repeat(48)), "`pcrs.32`: the numbers of PCRs are 0 to 31");
    check(&format!("{NITRO}pcrs.04 = '{}'", "44".repeat(48)), "`pcrs.04`: the numbers");
    check(&format!("{NITRO}pcrs.4 = '{}'", "44".repeat(32)), "`pcrs.4` must be a value of SHA-384");
    check(&format!("{NITRO}pcrs.4 = []"), "`pcrs.4` must be a value of SHA-384");
    check("[aws-identity]\naccounts = []\nregions.here-1 = 'x'", "`aws-identity`: `accounts` must be");
    check("[aws-identity]\naccounts = ['1']\nregions.here-1 = 'x'", "`accounts` must be");
    check("[aws-identity]\naccounts = ['111122223333']\nregions = {}", "`regions` must name");
    check(&AWS.replace("[aws-identity]", "[aws-identity]\nmax_age = 'soon'"), "`max_age` must be a time");
    check(&AWS.replace("[aws-identity]", "[aws-identity]\nmax_age = '31d'"), "`max_age` must be a time");
    check("[azure-attested]\nanchors = 'x'\nsubscriptions = []", "`azure-attested`: `subscriptions` must be");
    check("[azure-attested]\nanchors = 'x'\nsubscriptions = ['x']", "`subscriptions` must be");
    check(&format!("{AZURE}signers = []"), "`signers` must be");
    check(&format!("{AZURE}signers = ['com']"), "`signers` must be");
    check(&format!("{AZURE}signers = ['*.azure.com']"), "`signers` must be");
    assert!(build(None).unwrap().is_none());
    let off = Section { values: "enabled = false".parse().unwrap(), folder: room.path().to_owned() };
    assert!(build(Some(&off)).unwrap().is_none());
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let aws = Hypervisor::new();
    let attestor = aws.room.attestor(&example());
    let complaint = "the text holds no `-----BEGIN CERTIFICATE-----` block";
    let files = attestor.documents();
    assert_eq!(files.len(), 3);
    for file in &files {
        assert_eq!(attestor.complaints(file, b"x", None, GATEWAY.3), [complaint], "{file}");
    }
    assert_eq!(attestor.complaints(&files[0], aws.root.pem.as_bytes(), None, GATEWAY.3), Vec::<String>::new());
    // A file that is not usable is no fault of the machine.
    for (content, says) in [(None, "root.pem: it cannot be read"), (Some("x"), complaint)] {
        match content {
            None => std::fs::remove_file(aws.room.path().join("root.pem")).unwrap(),
            Some(text) => aws.room.write("root.pem", text),
        }
        match aws.bent(&section(), |_| {}) {
            Err(Refusal::Ours(Fault::Document { why, .. })) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?} instead of {says}"),
        }
    }
}

/// The section in the example of a configuration.
pub(super) fn example() -> String {
    const EXAMPLE: &str = include_str!("../../../../gateway.example.toml");
    let lines = EXAMPLE.lines().skip_while(|line| *line != "# [attest.cloud]").take_while(|line| !line.is_empty());
    let text: String = lines.map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let table: toml::Table = text.parse().unwrap();
    table["attest"]["cloud"].as_table().unwrap().to_string()
}
