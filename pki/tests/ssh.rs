//! Interoperability with OpenSSH's `ssh-keygen`: it reads our certificates, we read its keys and signatures. A missing program fails
//! the test, so that a passing run means that both agreed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test starts programs and writes files for them"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use pki::{
    BadSshSignature, ForeignSshCertificate, ForeignSshError, Identity, KeyAlgorithm, SoftwareKey, SshCa, SshDraft,
    SshIssued, SshKey, SshKeyError, SshKind, UnixTime,
};

const NOW: UnixTime = UnixTime::new(1_772_366_400);
const UNTIL: UnixTime = UnixTime::new(1_772_370_000);

/// Runs `ssh-keygen` and returns its standard output.
#[track_caller]
fn keygen(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("ssh-keygen");
    // `ssh-keygen` prints local time.
    command.args(args).current_dir(dir).env("TZ", "UTC");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("`ssh-keygen` could not be started ({error}); run `tests/run`, which installs what the tests need")
        });
    // A command that reads no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ssh-keygen {args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every accepted kind of key: `ssh-keygen -t`, `-b`, and the algorithm's name.
const KINDS: [(&str, &str, &str); 6] = [
    ("ed25519", "256", "ssh-ed25519"),
    ("ecdsa", "256", "ecdsa-sha2-nistp256"),
    ("ecdsa", "384", "ecdsa-sha2-nistp384"),
    ("ecdsa", "521", "ecdsa-sha2-nistp521"),
    ("rsa", "2048", "ssh-rsa"),
    ("rsa", "4096", "ssh-rsa"),
];

fn make(dir: &Path, kind: &str, bits: &str) -> (String, SshKey) {
    let name = format!("id-{kind}-{bits}");
    keygen(dir, &["-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f", &name], b"");
    let line = std::fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
    (name, SshKey::parse(&line).unwrap())
}

fn ca(kind: SshKind, algorithm: KeyAlgorithm) -> SshCa {
    SshCa::new(kind, Arc::new(SoftwareKey::generate(algorithm).unwrap().0)).unwrap()
}

/// The output of `ssh-keygen -L`, which refuses a certificate whose signature does not verify.
#[track_caller]
fn listed(dir: &Path, issued: &SshIssued) -> Vec<String> {
    std::fs::write(dir.join("x-cert.pub"), format!("{}\n", issued.line)).unwrap();
    let text = keygen(dir, &["-L", "-f", "x-cert.pub"], b"");
    text.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn it_reads_what_we_make_for_every_kind_of_key_and_ca() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::parse("spiffe://kernel.example/machine/edge-7").unwrap();
    for (kind, bits, algorithm) in KINDS {
        let (name, key) = make(dir.path(), kind, bits);
        assert_eq!(key.algorithm(), algorithm);
        let shown = keygen(dir.path(), &["-l", "-f", &format!("{name}.pub")], b"");
        assert!(shown.contains(&format!(" {} ", key.fingerprint())), "{shown}");
        for by in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384] {
            let ca = ca(SshKind::Host, by);
            let draft = SshDraft::host(key.clone(), &identity, UNTIL, [0xab; 8], NOW).unwrap();
            let said = listed(dir.path(), &draft.issue(&ca, [3; 32]).unwrap());
            let signed_by = format!("{} (using {})", ca.public().fingerprint(), ca.public().algorithm());
            assert_eq!(said[0], format!("Type: {algorithm}-cert-v01@openssh.com host certificate"));
            assert!(said[1].ends_with(&key.fingerprint()), "{said:?}");
            assert!(said[2].starts_with("Signing CA:") && said[2].ends_with(&signed_by), "{said:?}");
            assert_eq!(
                said[3..],
                [
                    "Key ID: \"spiffe://kernel.example/machine/edge-7#abababababababab\"",
                    "Serial: 12370169555311111083",
                    "Valid: from 2026-03-01T11:55:00 to 2026-03-01T13:00:00",
                    "Principals:",
                    "edge-7",
                    "edge-7.machine.kernel.example",
                    "Critical Options: (none)",
                    "Extensions: (none)",
                ]
            );
        }
    }
}

#[test]
fn a_users_certificate_permits_what_ssh_keygen_itself_would() {
    let dir = tempfile::tempdir().unwrap();
    let (name, key) = make(dir.path(), "ed25519", "256");
    let identity = Identity::parse("spiffe://kernel.example/person/ada").unwrap();
    let principals = vec!["root".to_owned(), "ada".to_owned()];
    let draft = SshDraft::user(key, &identity, principals, UNTIL, [1; 8], NOW).unwrap();
    let ours = listed(dir.path(), &draft.issue(&ca(SshKind::User, KeyAlgorithm::Ed25519), [3; 32]).unwrap());
    assert_eq!(ours[0], "Type: ssh-ed25519-cert-v01@openssh.com user certificate");

    keygen(dir.path(), &["-q", "-t", "ed25519", "-N", "", "-f", "ca"], b"");
    let public = format!("{name}.pub");
    keygen(dir.path(), &["-q", "-s", "ca", "-I", "x", "-n", "root,ada", &public], b"");
    let theirs = keygen(dir.path(), &["-L", "-f", &format!("{name}-cert.pub")], b"");
    let theirs: Vec<String> = theirs.lines().skip(1).map(|line| line.trim().to_owned()).collect();
    let from_principals = |lines: &[String]| lines.iter().skip_while(|line| *line != "Principals:").cloned().collect();
    let (ours, theirs): (Vec<String>, Vec<String>) = (from_principals(&ours), from_principals(&theirs));
    assert_eq!(ours, theirs);
}

#[test]
fn its_signatures_prove_its_keys_for_one_message_and_one_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let (_, other) = make(dir.path(), "ed25519", "256");
    let (name, _) = make(dir.path(), "ecdsa", "256");
    for (kind, bits, _) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (name, key) = make(dir.path(), kind, bits);
        for hash in ["sha256", "sha512"] {
            let option = format!("hashalg={hash}");
            let sign = ["-q", "-Y", "sign", "-f", &name, "-n", "lychgate-test@v1", "-O", &option];
            let signature = keygen(dir.path(), &sign, b"a message");
            assert_eq!(key.verify("lychgate-test@v1", b"a message", &signature), Ok(()), "{kind} {bits} {hash}");
            assert_eq!(key.verify("lychgate-test@v1", b"another", &signature), Err(BadSshSignature::Wrong));
            let elsewhere = key.verify("lychgate-test@v2", b"a message", &signature);
            assert_eq!(elsewhere, Err(BadSshSignature::Namespace { found: "lychgate-test@v1".to_owned() }));
            assert_eq!(other.verify("lychgate-test@v1", b"a message", &signature), Err(BadSshSignature::OtherKey));
        }
    }
    // Flip one bit of the signature.
    let key = SshKey::parse(&std::fs::read_to_string(dir.path().join(format!("{name}.pub"))).unwrap()).unwrap();
    let good = keygen(dir.path(), &["-q", "-Y", "sign", "-f", &name, "-n", "n"], b"m");
    let lines: Vec<&str> = good.lines().collect();
    let last = lines[lines.len() - 2];
    let flipped = last.replacen(|c: char| c.is_ascii_lowercase(), "A", 1);
    let bad = good.replace(last, &flipped);
    assert_ne!(bad, good);
    assert!(key.verify("n", b"m", &good).is_ok() && key.verify("n", b"m", &bad).is_err());
}

#[test]
fn keys_of_the_past_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    keygen(dir.path(), &["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "short"], b"");
    let line = std::fs::read_to_string(dir.path().join("short.pub")).unwrap();
    assert_eq!(
        SshKey::parse(&line).unwrap_err().to_string(),
        "an RSA key of 1024 bits is not accepted; use a multiple of 8 between 2048 and 4096"
    );
}

/// Has a CA sign a public key with more arguments, and returns the certificate's line.
fn signed(dir: &Path, ca: &str, more: &[&str], key: &str) -> String {
    let public = format!("{key}.pub");
    keygen(dir, &[&["-q", "-s", ca, "-I", "an id"], more, &[&public]].concat(), b"");
    std::fs::read_to_string(dir.join(format!("{key}-cert.pub"))).unwrap()
}

#[test]
fn we_read_certificates_of_other_cas() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, bits, _) in KINDS {
        let (host, key) = make(dir.path(), kind, bits);
        for (ca_kind, ca_bits, _) in KINDS {
            let ca = format!("ca-{ca_kind}-{ca_bits}");
            if !dir.path().join(&ca).exists() {
                keygen(dir.path(), &["-q", "-t", ca_kind, "-b", ca_bits, "-N", "", "-f", &ca], b"");
            }
            let line = signed(dir.path(), &ca, &["-h", "-n", "web1,web1.example.com"], &host);
            let read = ForeignSshCertificate::parse(&line).unwrap();
            let ca_line = std::fs::read_to_string(dir.path().join(format!("{ca}.pub"))).unwrap();
            assert_eq!((&read.key, &read.ca), (&key, &SshKey::parse(&ca_line).unwrap()));
            assert_eq!((read.kind, read.key_id.as_str()), (SshKind::Host, "an id"));
            assert_eq!(read.principals, ["web1", "web1.example.com"]);
            assert_eq!((read.valid_after, read.valid_before), (UnixTime::new(0), UnixTime::new(u64::MAX)), "for ever");
            assert!(read.critical_options.is_empty());
        }
    }
}

#[test]
fn what_is_special_in_a_certificate_of_another_ca_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (host, _) = make(dir.path(), "ed25519", "256");
    let (ca, _) = make(dir.path(), "rsa", "2048");
    let read = |more: &[&str]| ForeignSshCertificate::parse(&signed(dir.path(), &ca, more, &host));
    let user = read(&["-n", "root"]).unwrap();
    assert_eq!((user.kind, user.principals.as_slice()), (SshKind::User, &["root".to_owned()][..]));
    assert!(read(&["-h"]).unwrap().principals.is_empty());
    let within = read(&["-h", "-V", "20260301120000Z:20260301130000Z"]).unwrap();
    assert_eq!((within.valid_after, within.valid_before), (NOW, UNTIL));
    let options = read(&["-h", "-O", "critical:odd@example.com=1", "-O", "extension:fine@example.com=2"]).unwrap();
    assert_eq!(options.critical_options, ["odd@example.com"]);
    assert_eq!(read(&["-h", "-t", "ssh-rsa"]).unwrap_err(), ForeignSshError::Sha1);
}

#[test]
fn what_is_no_good_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (host, _) = make(dir.path(), "ed25519", "256");
    let (ca, _) = make(dir.path(), "ecdsa", "256");
    let line = signed(dir.path(), &ca, &["-h", "-n", "web1"], &host);
    let (algorithm, base64) = line.trim().split_once(' ').unwrap();
    let base64 = base64.split(' ').next().unwrap();
    let refused = |line: &str| ForeignSshCertificate::parse(line).unwrap_err();
    for text in ["", "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com %", base64] {
        assert!(matches!(refused(text), ForeignSshError::Unreadable(_)), "{text}");
    }
    assert!(matches!(refused(&line.replacen("ed25519", "dss", 1)), ForeignSshError::Unreadable(_)));
    // Every part of it is signed.
    let raw = pem_bytes(base64);
    for at in [40, 60, raw.len() / 2, raw.len() - 20] {
        let mut bent = raw.clone();
        bent[at] ^= 1;
        assert!(ForeignSshCertificate::parse(&format!("{algorithm} {}", to_base64(&bent))).is_err(), "{at}");
    }
    let longer = [raw.as_slice(), &[0]].concat();
    assert!(matches!(refused(&format!("{algorithm} {}", to_base64(&longer))), ForeignSshError::Unreadable(_)));
    for end in 0..raw.len() {
        let shorter = format!("{algorithm} {}", to_base64(&raw[..end]));
        assert!(ForeignSshCertificate::parse(&shorter).is_err(), "{end}");
    }
    let security = "sk-ssh-ed25519-cert-v01@openssh.com";
    let text = format!("{security} {}", to_base64(&[&[0, 0, 0, 35], security.as_bytes(), &[0, 0, 0, 0]].concat()));
    let found = "sk-ssh-ed25519".to_owned();
    assert_eq!(refused(&text), ForeignSshError::Key(SshKeyError::Unsupported { found }));
}

fn pem_bytes(base64: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).unwrap()
}

fn to_base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

/// OpenSSH makes no such signatures any more; this one is its own with another name of the algorithm.
#[test]
fn signatures_with_sha1_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (name, key) = make(dir.path(), "rsa", "2048");
    let armored = keygen(dir.path(), &["-q", "-Y", "sign", "-n", "join@lychgate", "-f", &name], b"message");
    assert_eq!(key.verify("join@lychgate", b"message", &armored), Ok(()));
    let base64: String = armored.lines().filter(|line| !line.starts_with('-')).collect();
    let raw = pem_bytes(&base64);
    let named: Vec<u8> = [&[0, 0, 0, 12], b"rsa-sha2-512".as_slice()].concat();
    let at = raw.windows(named.len()).position(|window| window == named).unwrap();
    let length = u32::from_be_bytes(raw[at - 4..at].try_into().unwrap()) - 5;
    let sha1 = [&raw[..at - 4], &length.to_be_bytes(), &[0, 0, 0, 7], b"ssh-rsa", &raw[at + named.len()..]].concat();
    let text = to_base64(&sha1);
    let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let armored = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
    assert_eq!(key.verify("join@lychgate", b"message", &armored), Err(BadSshSignature::Sha1));
}
