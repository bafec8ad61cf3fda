//! SSH keys, signatures and certificates in their written form. What is read as a key is written in one way and means the
//! same key again; no text proves a key that did not sign; and no certificate is by a CA that did not make it.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA512, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{
    CaKey as _, ForeignSshCertificate, Identity, KeyAlgorithm, SoftwareKey, SshCa, SshCertificate, SshDraft, SshKey,
    SshKind, UnixTime,
};

use crate::{Outcome, world::NOW};

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    Outcome::any(&[key(&text), certificate(&text), foreign(&text), signature(&text)])
}

fn key(text: &str) -> bool {
    let Ok(key) = SshKey::parse(text) else { return false };
    let line = key.line();
    assert!(line.starts_with(key.algorithm()) && !line.contains(['\n', '\r']), "{line:?}");
    assert_eq!(SshKey::parse(&line).as_ref(), Ok(&key), "another key than was read");
    assert!(key.fingerprint().starts_with("SHA256:"));
    // It has signed nothing.
    assert!(key.verify("lychgate-host-key@v1", b"message", text).is_err());
    true
}

fn certificate(text: &str) -> bool {
    let Ok(cert) = SshCertificate::parse(text) else { return false };
    // A key made just now has made no certificate.
    assert!(cert.check_signed_by(ca(SshKind::Host).public()).is_err());
    assert!(!cert.certifies(ca(SshKind::User).public()));
    true
}

/// What says that a CA made it was made by that CA.
fn foreign(text: &str) -> bool {
    let Ok(read) = ForeignSshCertificate::parse(text) else { return false };
    assert!(read.principals.len() <= 256 && !read.key_id.contains(char::is_control));
    assert_eq!(SshKey::parse(&read.key.line()).as_ref(), Ok(&read.key));
    if let Ok(ours) = SshCertificate::parse(text) {
        assert!(ours.certifies(&read.key) && ours.check_signed_by(&read.ca).is_ok() && ours.kind() == read.kind);
        assert_eq!((ours.principals(), ours.key_id()), (read.principals.as_slice(), read.key_id.as_str()));
    }
    true
}

fn signature(text: &str) -> bool {
    ca(SshKind::User).public().verify("lychgate-host-key@v1", b"message", text).is_ok()
}

/// A CA that nobody has heard of: its key is new each time.
fn ca(kind: SshKind) -> SshCa {
    let (key, _) = SoftwareKey::generate(KeyAlgorithm::Ed25519).expect("a key");
    SshCa::new(kind, Arc::new(key)).expect("a CA")
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
}

/// The line of an Ed25519 key.
#[must_use]
pub fn line(key: &SoftwareKey) -> String {
    let blob = [string(b"ssh-ed25519"), string(key.public_key())].concat();
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

/// A certificate for a host with an Ed25519 key, by a CA that nobody has heard of.
#[must_use]
pub fn host_certificate(key: &SoftwareKey) -> String {
    let identity = Identity::parse("spiffe://lab.example/machine/edge-07").expect("an identity");
    let key = SshKey::parse(&line(key)).expect("a key");
    let until = UnixTime::new(NOW.secs() + 3_600);
    let draft = SshDraft::host(key, &identity, until, [7; 8], NOW).expect("a draft");
    draft.issue(&ca(SshKind::Host), [1; 32]).expect("a certificate").line
}

/// What `ssh-keygen -Y sign` writes with an Ed25519 key (OpenSSH's PROTOCOL.sshsig).
#[must_use]
pub fn sshsig(key: &SoftwareKey, namespace: &str, message: &[u8]) -> String {
    let about = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
    let signed = [b"SSHSIG", about.as_slice(), &string(digest(&SHA512, message).as_ref())].concat();
    let signature = [string(b"ssh-ed25519"), string(&key.sign(&signed).expect("a key in memory signs"))].concat();
    let blob = [string(b"ssh-ed25519"), string(key.public_key())].concat();
    let whole = [b"SSHSIG\0\0\0\x01".as_slice(), &string(&blob), &about, &string(&signature)].concat();
    let text = STANDARD.encode(whole);
    let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}

/// Keys, a certificate, and the beginning of a signature.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----\n@\n-----END SSH SIGNATURE-----\n";
    let identity = Identity::parse("spiffe://lab.example/machine/edge-07").expect("an identity");
    let key = ca(SshKind::User).public().clone();
    let (now, until) = (UnixTime::new(1_000_000), UnixTime::new(1_003_600));
    let draft = SshDraft::host(key.clone(), &identity, until, [7; 8], now).expect("a draft");
    let certificate = draft.issue(&ca(SshKind::Host), [1; 32]).expect("a certificate");
    let p256 = SoftwareKey::generate(KeyAlgorithm::P256).expect("a key").0;
    let p256 = SshCa::new(SshKind::User, Arc::new(p256)).expect("a CA").public().line();
    let texts = [
        format!("{} a comment", key.line()),
        p256,
        certificate.line,
        SIGNATURE.replace('@', "U1NIU0lHAAAAAQAAADMAAAAL"),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
