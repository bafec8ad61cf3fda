//! Interoperability in both directions with OpenSSL, GnuTLS, Python's cryptography and pkilint. A missing program fails the test,
//! so that a passing run means that all of them agreed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test starts programs, writes files for them and needs today's date, for they use the system's clock"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pki::{
    AdmittedBy, Assurance, AssuranceOf, GatewayName, Identity, IssuingCa, KeyAlgorithm, LeafRequest, ListsUrl,
    RevocationReason, RevokedEntry, Role, Root, Serial, SoftwareKey, SubjectKey, TrustAnchors, TrustDomain, UnixTime,
    csr, to_pem,
};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> UnixTime {
    UnixTime::new(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

/// Runs a program. Returns whether it succeeded, and its standard output and error together.
fn run(dir: &Path, program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap_or_else(|error| {
        panic!("`{program}` could not be started ({error}); run `tests/run`, which installs what the tests need")
    });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn must(dir: &Path, program: &str, args: &[&str]) -> String {
    let (ok, text) = run(dir, program, args);
    assert!(ok, "{program} {}\n{text}", args.join(" "));
    text
}

fn serial(n: u8) -> Serial {
    Serial::from_entropy([n; 16])
}

/// A trust domain in files: `root.pem`, `<role>-ca.pem`, `<role>.pem`, `<role>-chain.pem`, `<role>.crl`.
struct Domain {
    dir: tempfile::TempDir,
    root: Root,
    cas: Vec<IssuingCa>,
}

/// The wildcard is for a gateway that offers machines' services below its own name (RFC 9525 6.3).
fn names(role: Role) -> Vec<GatewayName> {
    let all = ["gate.kernel.example", "*.gate.kernel.example", "192.0.2.7", "2001:db8::7"];
    if role == Role::Gateway { all.iter().map(|name| GatewayName::parse(name).unwrap()).collect() } else { Vec::new() }
}

fn leaf(ca: &IssuingCa, key: SubjectKey) -> Vec<u8> {
    leaf_named(ca, key, names(ca.role()))
}

fn leaf_named(ca: &IssuingCa, key: SubjectKey, gateway_names: Vec<GatewayName>) -> Vec<u8> {
    let identity = Identity::parse(&format!("spiffe://kernel.example/{}/some-name-7", ca.role())).unwrap();
    let request = LeafRequest {
        key,
        identity,
        serial: serial(7),
        lifetime: DAY,
        assurance: Assurance::hardware(AssuranceOf::Host),
        admitted_by: AdmittedBy::Person,
        gateway_names,
    };
    let draft = pki::draft(request, now());
    // One role has a CRL distribution point, the others have none.
    let lists = ListsUrl::parse("http://crl.kernel.example").unwrap();
    let draft = if ca.role() == Role::Machine { draft.with_list(&lists, &ca.key_digest()) } else { draft };
    draft.lint().unwrap().issue(ca).unwrap().der
}

fn domain(algorithm: KeyAlgorithm) -> Domain {
    let key = || Arc::new(SoftwareKey::generate(algorithm).unwrap().0);
    let root = Root::create(&TrustDomain::parse("kernel.example").unwrap(), key(), serial(1), now(), 10).unwrap();
    let issue = |role| root.issue_ca(role, key(), serial(2), now()).unwrap();
    let cas: Vec<IssuingCa> = Role::ALL.into_iter().map(issue).collect();
    let made = Domain { dir: tempfile::tempdir().unwrap(), root, cas };
    let cert = |der: &[u8]| to_pem("CERTIFICATE", der);
    made.write("root.pem", cert(made.root.cert_der()).as_bytes());
    for ca in &made.cas {
        let role = ca.role();
        let leaf_pem = cert(&leaf(ca, key().subject_key().unwrap()));
        let (ca_pem, root_pem) = (cert(ca.cert_der()), cert(made.root.cert_der()));
        made.write(&format!("{role}-ca.pem"), ca_pem.as_bytes());
        made.write(&format!("{role}.pem"), leaf_pem.as_bytes());
        made.write(&format!("{role}-chain.pem"), format!("{leaf_pem}{ca_pem}{root_pem}").as_bytes());
        let entry = |n, reason| RevokedEntry { serial: serial(n), at: now().minus(DAY), reason };
        let entries = [entry(8, RevocationReason::KeyCompromise), entry(9, RevocationReason::Unspecified)];
        let list = pki::crl(ca, &entries, 300, now(), now().plus(DAY)).unwrap();
        made.write(&format!("{role}.crl"), to_pem("X509 CRL", &list).as_bytes());
        let empty = pki::crl(ca, &[], u64::MAX, now(), now().plus(DAY)).unwrap();
        made.write(&format!("{role}-empty.crl"), to_pem("X509 CRL", &empty).as_bytes());
        let own = pki::crl(ca, &[entry(7, RevocationReason::Superseded)], 301, now(), now().plus(DAY)).unwrap();
        made.write(&format!("{role}-revoking.crl"), to_pem("X509 CRL", &own).as_bytes());
    }
    made
}

impl Domain {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn ca(&self, role: Role) -> &IssuingCa {
        self.cas.iter().find(|ca| ca.role() == role).unwrap()
    }
}

const ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519];

#[test]
fn openssl_verifies_every_role() {
    for algorithm in ALGORITHMS {
        let domain = domain(algorithm);
        for role in Role::ALL {
            let purpose = if role == Role::Gateway { "sslserver" } else { "sslclient" };
            let (ca, leaf) = (format!("{role}-ca.pem"), format!("{role}.pem"));
            let base = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", &ca, "-purpose"];
            must(domain.path(), "openssl", &[&base[..], &[purpose, &leaf]].concat());
            // The other purpose is refused: no machine can impersonate the gateway, and no gateway a machine.
            let other = if role == Role::Gateway { "sslclient" } else { "sslserver" };
            let (ok, text) = run(domain.path(), "openssl", &[&base[..], &[other, &leaf]].concat());
            assert!(!ok, "{role} passes for {other}: {text}");
        }
    }
}

#[test]
fn openssl_matches_gateway_names() {
    let domain = domain(KeyAlgorithm::P256);
    let base =
        ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "gateway-ca.pem", "-purpose", "sslserver"];
    for (option, name, want) in [
        ("-verify_hostname", "gate.kernel.example", true),
        ("-verify_hostname", "ssh--build-7.gate.kernel.example", true),
        ("-verify_hostname", "kernel.example", false),
        ("-verify_ip", "192.0.2.7", true),
        ("-verify_ip", "2001:db8::7", true),
        ("-verify_ip", "192.0.2.8", false),
    ] {
        let (ok, text) = run(domain.path(), "openssl", &[&base[..], &[option, name, "gateway.pem"]].concat());
        assert_eq!(ok, want, "{name}: {text}");
    }
}

#[test]
fn openssl_obeys_our_lists() {
    for algorithm in ALGORITHMS {
        let domain = domain(algorithm);
        for role in Role::ALL {
            let (ca, leaf) = (format!("{role}-ca.pem"), format!("{role}.pem"));
            let verify = |list: &str| {
                let base = ["verify", "-x509_strict", "-crl_check", "-CAfile", "root.pem", "-untrusted", &ca];
                run(domain.path(), "openssl", &[&base[..], &["-CRLfile", list, &leaf]].concat())
            };
            for list in [format!("{role}.crl"), format!("{role}-empty.crl")] {
                let (ok, text) = verify(&list);
                assert!(ok, "{text}");
            }
            let (ok, text) = verify(&format!("{role}-revoking.crl"));
            assert!(!ok && text.contains("revoked"), "{text}");
        }
    }
}

#[test]
fn openssl_shows_what_we_meant() {
    let domain = domain(KeyAlgorithm::P256);
    let show = |file: &str| must(domain.path(), "openssl", &["x509", "-in", file, "-noout", "-text"]);
    let machine = show("machine.pem");
    for want in [
        "Subject: CN = some-name-7",
        "URI:spiffe://kernel.example/machine/some-name-7, DNS:some-name-7.machine.kernel.example\n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
        "X509v3 CRL Distribution Points: \n                Full Name:\n                  URI:http://crl.kernel.example/",
        "Policy: 2.25.28445.78702019.172855195.41814556.156070738.2.2\n",
        "Policy: 2.25.28445.78702019.172855195.41814556.156070738.3.2\n",
        "Issuer: CN = kernel.example machines CA\n",
    ] {
        assert!(machine.contains(want), "{want:?} is not in\n{machine}");
    }
    let ca = show("machine-ca.pem");
    for want in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign\n",
        "URI:spiffe://kernel.example\n",
        "Policy: 2.25.28445.78702019.172855195.41814556.156070738.1.1\n",
        "Policy: X509v3 Any Policy\n",
    ] {
        assert!(ca.contains(want), "{want:?} is not in\n{ca}");
    }
    assert!(show("root.pem").contains("CA:TRUE, pathlen:1"));
    let list = must(domain.path(), "openssl", &["crl", "-in", "machine.crl", "-noout", "-text"]);
    for want in ["X509v3 CRL Number: \n                300\n", "Key Compromise\n", "X509v3 Authority Key Identifier:"] {
        assert!(list.contains(want), "{want:?} is not in\n{list}");
    }
}

#[test]
fn gnutls_verifies_every_role() {
    for algorithm in ALGORITHMS {
        let domain = domain(algorithm);
        for role in Role::ALL {
            let chain = format!("{role}-chain.pem");
            let text =
                must(domain.path(), "certtool", &["--verify", "--load-ca-certificate", "root.pem", "--infile", &chain]);
            assert!(text.contains("Chain verification output: Verified. The certificate is trusted."), "{text}");
            must(domain.path(), "certtool", &["--certificate-info", "--infile", &format!("{role}.pem")]);
            let list = format!("{role}.crl");
            let ca = format!("{role}-ca.pem");
            let text =
                must(domain.path(), "certtool", &["--verify-crl", "--load-ca-certificate", &ca, "--infile", &list]);
            assert!(text.contains("Verified"), "{text}");
        }
    }
}

/// Python's cryptography follows the rules of the public web, which do not include Ed25519.
const PYTHON: &str = r#"
import sys, datetime
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

read = lambda name: x509.load_pem_x509_certificate(open(name, "rb").read())
builder = PolicyBuilder().store(Store([read("root.pem")])).time(datetime.datetime.now(datetime.timezone.utc))
for role in ("machine", "person"):
    verified = builder.build_client_verifier().verify(read(f"{role}.pem"), [read(f"{role}-ca.pem")])
    uris = [n.value for n in verified.subjects if isinstance(n, x509.UniformResourceIdentifier)]
    assert uris == [f"spiffe://kernel.example/{role}/some-name-7"], uris
gateway = builder.build_server_verifier(x509.DNSName("gate.kernel.example"))
assert len(gateway.verify(read("gateway.pem"), [read("gateway-ca.pem")])) == 3
try:
    builder.build_client_verifier().verify(read("gateway.pem"), [read("gateway-ca.pem")])
    sys.exit("a gateway passes for a client")
except x509.verification.VerificationError:
    pass
arc = "2.25.28445.78702019.172855195.41814556.156070738"
policies = lambda cert: [
    p.policy_identifier.dotted_string
    for p in cert.extensions.get_extension_for_class(x509.CertificatePolicies).value
]
for number, role in enumerate(("machine", "person", "gateway"), start=1):
    assert policies(read(f"{role}.pem")) == [f"{arc}.2.2", f"{arc}.3.2", f"{arc}.4.1"]
    assert policies(read(f"{role}-ca.pem")) == [f"{arc}.1.{number}", "2.5.29.32.0"]
    ca = read(f"{role}-ca.pem")
    crl = x509.load_pem_x509_crl(open(f"{role}.crl", "rb").read())
    assert crl.is_signature_valid(ca.public_key()) and crl.issuer == ca.subject and len(crl) == 2
    ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    aki = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert ski == aki
    assert crl.get_revoked_certificate_by_serial_number(int("08" * 16, 16)) is not None
print("all verified")
"#;

#[test]
fn python_cryptography_verifies_every_role() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let domain = domain(algorithm);
        let text = must(domain.path(), "python3", &["-c", PYTHON]);
        assert!(text.contains("all verified"), "{text}");
    }
}

/// Findings of pkilint 0.13 in all our certificates, and why they are not fixed.
fn is_known(code: &str, message: &str) -> bool {
    match code {
        // Reported for every `spiffe://` URI, which SPIFFE requires.
        "pkix.invalid_uri_syntax" => message.contains("spiffe://"),
        _ => false,
    }
}

/// All other findings of pkilint that are at least warnings.
fn findings(dir: &Path, program: &str, args: &[&str]) -> Vec<String> {
    let (_, text) = run(dir, program, &[&["lint", "-s", "WARNING", "-f", "JSON"], args].concat());
    let json: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{program} said ({error}):\n{text}"));
    let mut found = Vec::new();
    for result in json["results"].as_array().unwrap() {
        for finding in result["finding_descriptions"].as_array().unwrap() {
            let code = finding["code"].as_str().unwrap();
            let message = finding["message"].as_str().unwrap_or_default();
            if !is_known(code, message) {
                found.push(format!("{} {code}: {message} at {}", finding["severity"], result["node_path"]));
            }
        }
    }
    found
}

#[test]
fn pkilint_finds_nothing() {
    let domain = domain(KeyAlgorithm::P256);
    // RFC 5280 4.2.1.6 leaves wildcards undefined and pkilint reports them, so the gateway has none here.
    let gateway = domain.ca(Role::Gateway);
    let plain = names(Role::Gateway).into_iter().filter(|name| !name.to_string().starts_with('*')).collect();
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0.subject_key().unwrap();
    domain.write("gateway.pem", to_pem("CERTIFICATE", &leaf_named(gateway, key, plain)).as_bytes());
    let mut found = String::new();
    let mut note = |file: &str, findings: Vec<String>| {
        findings.iter().for_each(|finding| writeln!(found, "{file}: {finding}").unwrap());
    };
    note("root.pem", findings(domain.path(), "lint_pkix_cert", &["root.pem"]));
    for role in Role::ALL {
        for file in [format!("{role}.pem"), format!("{role}-ca.pem")] {
            note(&file, findings(domain.path(), "lint_pkix_cert", &[&file]));
        }
        for file in [format!("{role}.crl"), format!("{role}-empty.crl")] {
            note(&file, findings(domain.path(), "lint_crl", &["-p", "PKIX", "-t", "CRL", &file]));
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// Configuration of a request that asks for CA rights and other forbidden extensions.
const HOSTILE: &str = "
[req]
prompt = no
distinguished_name = dn
req_extensions = ext
attributes = attrs
[dn]
O = Victim
CN = victim.example
[attrs]
challengePassword = let me in
[ext]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
extendedKeyUsage = serverAuth,1.2.3.4.5
subjectAltName = DNS:victim.example,URI:spiffe://kernel.example/gateway/victim,IP:192.0.2.99,email:root@victim.example
certificatePolicies = 2.25.28445.78702019.172855195.41814556.156070738.2.3
1.2.3.4.6 = critical,ASN1:UTF8String:victim
";

/// Makes a key and a hostile request with OpenSSL; the request in DER.
fn openssl_csr(dir: &Path, genpkey: &[&str], req: &[&str]) -> Vec<u8> {
    std::fs::write(dir.join("hostile.cnf"), HOSTILE).unwrap();
    must(dir, "openssl", &[&["genpkey", "-out", "key.pem"], genpkey].concat());
    let base = ["req", "-new", "-config", "hostile.cnf", "-key", "key.pem", "-outform", "DER", "-out", "request.der"];
    must(dir, "openssl", &[&base[..], req].concat());
    std::fs::read(dir.join("request.der")).unwrap()
}

fn curve(name: &'static str) -> Vec<&'static str> {
    let option = match name {
        "P-256" => "ec_paramgen_curve:P-256",
        "P-384" => "ec_paramgen_curve:P-384",
        "P-521" => "ec_paramgen_curve:P-521",
        "P-192" => "ec_paramgen_curve:P-192",
        other => panic!("{other}"),
    };
    vec!["-algorithm", "EC", "-pkeyopt", option, "-pkeyopt", "ec_param_enc:named_curve"]
}

const RSA2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

#[test]
fn supported_requests_are_certified_and_nothing_of_them_but_the_key() {
    let domain = domain(KeyAlgorithm::P256);
    let ca = domain.ca(Role::Machine);
    let rsa = |bits| vec!["-algorithm", "RSA", "-pkeyopt", bits];
    let rows: [(KeyAlgorithm, Vec<&str>, &[&str]); 10] = [
        (KeyAlgorithm::P256, curve("P-256"), &[]),
        (KeyAlgorithm::P256, curve("P-256"), &["-sha384"]),
        // The default of `openssl req`: SHA-256 with a P-384 key.
        (KeyAlgorithm::P384, curve("P-384"), &[]),
        (KeyAlgorithm::P384, curve("P-384"), &["-sha384"]),
        (KeyAlgorithm::Ed25519, vec!["-algorithm", "ED25519"], &[]),
        (KeyAlgorithm::Rsa { bits: 2048 }, RSA2048.to_vec(), &[]),
        (KeyAlgorithm::Rsa { bits: 2048 }, RSA2048.to_vec(), &["-sha384"]),
        (KeyAlgorithm::Rsa { bits: 2048 }, RSA2048.to_vec(), &["-sha512"]),
        (KeyAlgorithm::Rsa { bits: 3072 }, rsa("rsa_keygen_bits:3072"), &[]),
        (KeyAlgorithm::Rsa { bits: 4096 }, rsa("rsa_keygen_bits:4096"), &[]),
    ];
    for (algorithm, genpkey, req) in rows {
        let request = openssl_csr(domain.path(), &genpkey, req);
        let key = csr::verify(&request).unwrap_or_else(|e| panic!("{algorithm} {req:?}: {e}")).into_key();
        assert_eq!(key.algorithm(), algorithm);
        must(domain.path(), "openssl", &["pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "public.der"]);
        assert_eq!(key.spki_der(), std::fs::read(domain.path().join("public.der")).unwrap(), "byte for byte");

        let der = leaf(ca, key);
        domain.write("issued.pem", to_pem("CERTIFICATE", &der).as_bytes());
        let verify = ["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "machine-ca.pem"];
        must(domain.path(), "openssl", &[&verify[..], &["-purpose", "sslclient", "issued.pem"]].concat());
        let text = must(domain.path(), "openssl", &["x509", "-in", "issued.pem", "-noout", "-text", "-ext", "all"]);
        for foreign in ["ictim", "CA:TRUE", "Certificate Sign", "Server", "1.2.3.4", "let me in", "29736018.2.3\n"] {
            assert!(!text.contains(foreign), "{foreign} got into\n{text}");
        }
        let root = domain.root.cert_der();
        let anchors = TrustAnchors::new(domain.root.domain(), &[root], now()).unwrap();
        let peer = pki::verify_peer(&der, &[ca.cert_der()], &anchors, &[Role::Machine], now()).unwrap();
        assert_eq!(peer.assurance, Assurance::hardware(AssuranceOf::Host));

        // The last byte of a request belongs to its signature.
        let mut broken = request;
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(csr::verify(&broken), Err(pki::CsrError::Signature));
    }
}

#[test]
fn other_requests_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let dsa = ["genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024", "-out", "dsa.pem"];
    must(dir, "openssl", &dsa);
    let rsa = |options: &[&'static str]| {
        let each = options.iter().flat_map(|option| ["-pkeyopt", *option]);
        ["-algorithm", "RSA"].into_iter().chain(each).collect::<Vec<&str>>()
    };
    let explicit = vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"];
    let koblitz = vec!["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"];
    let rows: [(Vec<&str>, &[&str], &str); 13] = [
        (curve("P-521"), &[], "P-521 keys are not supported"),
        (curve("P-192"), &[], "P-192 keys are not supported"),
        (koblitz, &[], "secp256k1 keys are not supported"),
        (explicit, &[], "explicit elliptic curve keys are not supported"),
        (vec!["-algorithm", "ED448"], &[], "Ed448 keys are not supported"),
        (vec!["-paramfile", "dsa.pem"], &[], "DSA keys are not supported"),
        (vec!["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], &[], "RSA-PSS keys are not supported"),
        (rsa(&["rsa_keygen_bits:1024"]), &[], "an RSA key of 1024 bits is not accepted"),
        (rsa(&["rsa_keygen_bits:2047"]), &[], "an RSA key of 2047 bits is not accepted"),
        (rsa(&["rsa_keygen_bits:2048", "rsa_keygen_pubexp:3"]), &[], "the RSA exponent must be odd"),
        (RSA2048.to_vec(), &["-sigopt", "rsa_padding_mode:pss"], "signed with 1.2.840.113549.1.1.10"),
        (RSA2048.to_vec(), &["-sha1"], "signed with 1.2.840.113549.1.1.5"),
        (curve("P-256"), &["-sha1"], "signed with 1.2.840.10045.4.1"),
    ];
    for (genpkey, req, want) in rows {
        let request = openssl_csr(dir, &genpkey, req);
        let got = csr::verify(&request).expect_err(want).to_string();
        assert!(got.contains(want), "{genpkey:?} {req:?}: {got}");
    }
}

#[test]
fn openssl_reads_our_requests_and_keys() {
    let dir = tempfile::tempdir().unwrap();
    for algorithm in ALGORITHMS {
        let (key, pkcs8) = SoftwareKey::generate(algorithm).unwrap();
        std::fs::write(dir.path().join("own.der"), csr::request(&key).unwrap()).unwrap();
        let text = must(dir.path(), "openssl", &["req", "-inform", "DER", "-in", "own.der", "-verify", "-noout"]);
        assert!(text.contains("verify OK"), "{text}");
        std::fs::write(dir.path().join("key.pem"), to_pem("PRIVATE KEY", &pkcs8)).unwrap();
        must(dir.path(), "openssl", &["pkey", "-in", "key.pem", "-check", "-noout"]);
    }
}

/// Keys made by OpenSSL load as CA keys.
#[test]
fn openssl_keys_sign() {
    let dir = tempfile::tempdir().unwrap();
    for (algorithm, genpkey) in [
        (KeyAlgorithm::P256, curve("P-256")),
        (KeyAlgorithm::P384, curve("P-384")),
        (KeyAlgorithm::Ed25519, vec!["-algorithm", "ED25519"]),
    ] {
        must(dir.path(), "openssl", &[&["genpkey", "-out", "key.pem"], &genpkey[..]].concat());
        let pem = std::fs::read_to_string(dir.path().join("key.pem")).unwrap();
        let key = SoftwareKey::from_pkcs8(&pki::parse_pem("PRIVATE KEY", &pem).unwrap()[0]).unwrap();
        assert_eq!(pki::CaKey::algorithm(&key), algorithm);
        assert!(csr::verify(&csr::request(&key).unwrap()).is_ok());
    }
}
