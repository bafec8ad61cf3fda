//! SSH certificates and keys that are accepted and refused. `pki/tests/ssh.rs` does the same with OpenSSH.

use super::*;
use crate::key::{KeyAlgorithm, SoftwareKey};
use crate::testing::{HOUR, NOW};

fn ca(kind: SshKind, algorithm: KeyAlgorithm) -> SshCa {
    SshCa::new(kind, Arc::new(SoftwareKey::generate(algorithm).unwrap().0)).unwrap()
}

fn key() -> SshKey {
    SshKey::of_ca(&SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0).unwrap()
}

fn identity(uri: &str) -> Identity {
    Identity::parse(uri).unwrap()
}

fn host(uri: &str, until: UnixTime) -> Result<SshDraft, SshError> {
    SshDraft::host(key(), &identity(uri), until, [7; 8], NOW)
}

fn user(uri: &str, principals: &[&str]) -> Result<SshDraft, SshError> {
    let principals = principals.iter().map(|&text| text.to_owned()).collect();
    SshDraft::user(key(), &identity(uri), principals, NOW.plus(HOUR), [0; 8], NOW)
}

#[test]
fn a_host_gets_its_two_names_and_nothing_else() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let ca = ca(SshKind::Host, algorithm);
        let draft = host("spiffe://lab/machine/edge-7", NOW.plus(HOUR)).unwrap();
        let key = draft.key().clone();
        let issued = draft.issue(&ca, [1; 32]).unwrap();
        let cert = SshCertificate::parse(&format!("{} a comment\n", issued.line)).unwrap();
        assert!(cert.certifies(&key));
        assert_eq!(cert.check_signed_by(ca.public()), Ok(()));
        assert_eq!(cert.kind(), SshKind::Host);
        assert_eq!(cert.principals(), ["edge-7", "edge-7.machine.lab"]);
        assert_eq!(cert.key_id(), "spiffe://lab/machine/edge-7#0707070707070707");
        assert_eq!((cert.valid_after(), cert.valid_before()), (NOW.minus(BACKDATE), NOW.plus(HOUR)));
        assert!(cert.0.critical_options().is_empty() && cert.0.extensions().is_empty());
        assert_eq!(cert.0.nonce(), [1; 32]);
    }
}

#[test]
fn a_person_gets_the_principals_of_the_policy_and_what_ssh_keygen_permits() {
    let ca = ca(SshKind::User, KeyAlgorithm::Ed25519);
    let issued = user("spiffe://lab/person/ada", &["ada", "root"]).unwrap().issue(&ca, [1; 32]).unwrap();
    let cert = SshCertificate::parse(&issued.line).unwrap();
    assert_eq!((cert.kind(), cert.principals()), (SshKind::User, &["ada".to_owned(), "root".to_owned()][..]));
    assert_eq!((cert.serial(), issued.serial), (1, 1), "zero would mean no number");
    let extensions: Vec<&str> = cert.0.extensions().keys().map(String::as_str).collect();
    assert_eq!(extensions, USER_EXTENSIONS);
}

#[test]
fn what_makes_no_certificate() {
    let wrong = |kind, uri: &str| Some(SshError::Role { kind, identity: uri.to_owned() });
    let (machine, person, gateway) = ("spiffe://lab/machine/a", "spiffe://lab/person/a", "spiffe://lab/gateway/a");
    assert_eq!(host(person, NOW.plus(HOUR)).err(), wrong(SshKind::Host, person));
    assert_eq!(host(gateway, NOW.plus(HOUR)).err(), wrong(SshKind::Host, gateway));
    assert_eq!(user(machine, &["a"]).err(), wrong(SshKind::User, machine));
    assert_eq!(host(machine, NOW).err(), Some(SshError::Over));
    assert_eq!(user(person, &[]).err(), Some(SshError::Principals { found: 0 }), "it would be good for everybody");
    assert_eq!(user(person, &["a"; 257]).err(), Some(SshError::Principals { found: 257 }));
    for bad in ["", "-oProxyCommand=x", "a b", "a,b", "a\n", "*", "ä", &"a".repeat(129)] {
        assert_eq!(user(person, &["a", bad]).err(), Some(SshError::Principal { principal: bad.to_owned() }), "{bad:?}");
    }
}

#[test]
fn one_ca_does_not_do_the_work_of_the_other() {
    let [users, hosts] = SshKind::ALL.map(|kind| ca(kind, KeyAlgorithm::Ed25519));
    let draft = || host("spiffe://lab/machine/a", NOW.plus(HOUR)).unwrap();
    let refused = draft().issue(&users, [1; 32]).err();
    assert_eq!(refused, Some(SshError::WrongCa { ca: SshKind::User, kind: SshKind::Host }));
    let cert = SshCertificate::parse(&draft().issue(&hosts, [1; 32]).unwrap().line).unwrap();
    assert_eq!(cert.check_signed_by(users.public()), Err(SshCertError::NotByThisCa));
    assert!(!cert.certifies(&key()));
}

/// A device that signs with another key than the one it shows.
struct Liar(SoftwareKey, SoftwareKey);

impl CaKey for Liar {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm()
    }
    fn public_key(&self) -> &[u8] {
        self.0.public_key()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.1.sign(message)
    }
}

#[test]
fn a_ca_key_that_is_not_itself_is_noticed() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
        let [one, two] = [0, 1].map(|_| SoftwareKey::generate(algorithm).unwrap().0);
        assert_eq!(SshCa::new(SshKind::User, Arc::new(Liar(one, two))).err(), Some(SshError::CaMismatch));
    }
}

#[track_caller]
fn check_key(line: &str, want: &str) {
    let got = SshKey::parse(line).map(|key| key.algorithm().to_owned()).unwrap_or_else(|error| error.to_string());
    assert!(got.starts_with(want), "{line}: {got}");
}

#[test]
fn keys() {
    const SK: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo= a";
    check_key(&key().line(), "ssh-ed25519");
    check_key(&format!("  {} ada@laptop\n", key().line()), "ssh-ed25519");
    check_key(SK, "`sk-ssh-ed25519@openssh.com` keys are not supported");
    check_key("", "it is not an SSH public key");
    check_key("ssh-ed25519", "it is not an SSH public key");
    check_key("ssh-ed25519 AAAA", "it is not an SSH public key");
    check_key(&key().line().replace("ssh-ed25519", "ssh-rsa"), "it is not an SSH public key");
    check_key(&format!("no-pty {}", key().line()), "it is not an SSH public key");
    // An RSA key of 1024 bits.
    let mut blob = Vec::new();
    string(&mut blob, b"ssh-rsa");
    string(&mut blob, &[1, 0, 1]);
    string(&mut blob, &[&[0][..], &[0xff; 128]].concat());
    let short = PublicLine::of(&blob);
    check_key(&short, "an RSA key of 1024 bits is not accepted");
}

/// A `.pub` line of any bytes.
struct PublicLine;

impl PublicLine {
    fn of(blob: &[u8]) -> String {
        ssh_key::PublicKey::from_bytes(blob).unwrap().to_openssh().unwrap()
    }
}

#[test]
fn signatures_that_are_none() {
    for text in ["", "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----", "nonsense"] {
        let error = key().verify("n", b"m", text).unwrap_err();
        assert!(matches!(error, BadSshSignature::Unreadable(_)), "{text}: {error}");
    }
    for text in ["", "ssh-ed25519-cert-v01@openssh.com AAAA", "\0"] {
        assert!(matches!(SshCertificate::parse(text), Err(SshCertError::Unreadable(_))), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(text in proptest::prelude::any::<String>(), bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = SshKey::parse(&text);
        let _ = SshCertificate::parse(&text);
        let _ = key().verify("n", b"m", &text);
        let _ = key().verify_blob(b"m", &bytes);
    }
}
