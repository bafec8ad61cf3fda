//! SSH keys, signatures and certificates in their written form. What is read as a key is written in one way and means the
//! same key again; no text proves a key that did not sign; and no certificate is by a CA that did not make it.

use std::sync::Arc;

use pki::{Identity, KeyAlgorithm, SoftwareKey, SshCa, SshCertificate, SshDraft, SshKey, SshKind, UnixTime};

use crate::Outcome;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    Outcome::any(&[key(&text), certificate(&text), signature(&text)])
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

fn signature(text: &str) -> bool {
    ca(SshKind::User).public().verify("lychgate-host-key@v1", b"message", text).is_ok()
}

/// A CA that nobody has heard of: its key is new each time.
fn ca(kind: SshKind) -> SshCa {
    let (key, _) = SoftwareKey::generate(KeyAlgorithm::Ed25519).expect("a key");
    SshCa::new(kind, Arc::new(key)).expect("a CA")
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
