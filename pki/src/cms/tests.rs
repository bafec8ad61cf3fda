//! Messages as stock `openssl` signs them, as they are and bent.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test writes files for a program")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::pem::to_pem;

const RSA: &str = "-newkey rsa:2048";
const TEXT: &[u8] = b"{\"a\": 1}";

/// Signers `a` and `b`, whose certificates are their own.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        std::fs::write(room.path().join("text"), TEXT).unwrap();
        room.signer("a", RSA);
        room.signer("b", RSA);
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

    fn signer(&self, name: &str, key: &str) {
        self.openssl(&format!(
            "req -x509 -new {key} -noenc -keyout {name}.key -out {name}.pem -days 1 -subj /O=Cloud/CN={name}"
        ));
    }

    fn certificate(&self, name: &str) -> Vec<u8> {
        let pem = std::fs::read_to_string(self.path().join(format!("{name}.pem"))).unwrap();
        parse_pem("CERTIFICATE", &pem).unwrap().remove(0)
    }

    /// The text, signed; with the program `cms` or `smime`, and more arguments.
    #[track_caller]
    fn signed(&self, program: &str, more: &str) -> Vec<u8> {
        self.openssl(&format!("{program} -sign -nodetach -binary -outform DER -in text -out signed {more}"));
        std::fs::read(self.path().join("signed")).unwrap()
    }

    /// Whose signature a message carries.
    fn content(&self, message: &[u8], by: &str) -> Result<Vec<u8>, CmsError> {
        SignedMessage::read(message)?.content_signed_by(&self.certificate(by)).map(<[u8]>::to_vec)
    }
}

const BY_A: &str = "-signer a.pem -inkey a.key";

#[test]
fn messages_in_ber_and_in_der_hold() {
    let room = Room::new();
    for (program, more) in [
        ("smime", BY_A.to_owned()),
        // As AWS does: indefinite lengths, the content in pieces, no certificate.
        ("smime", format!("{BY_A} -indef -nocerts")),
        ("cms", format!("{BY_A} -stream -nocerts -nosmimecap")),
        ("cms", format!("{BY_A} -noattr")),
        ("cms", format!("{BY_A} -md sha384")),
        ("cms", format!("{BY_A} -md sha512 -certfile b.pem")),
    ] {
        let message = room.signed(program, &more);
        assert_eq!(room.content(&message, "a"), Ok(TEXT.to_vec()), "{program} {more}");
        assert_eq!(room.content(&message, "b"), Err(CmsError::NoSigner), "{program} {more}");
    }
    let message = room.signed("smime", &format!("{BY_A} -indef"));
    assert_eq!(message.get(..2), Some(&[0x30, 0x80][..]), "openssl did not write what this test is about");
    for (name, curve) in [("p", "P-256"), ("q", "P-384"), ("r", "P-521")] {
        room.signer(name, &format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve}"));
        let message = room.signed("cms", &format!("-signer {name}.pem -inkey {name}.key"));
        assert_eq!(room.content(&message, name), Ok(TEXT.to_vec()), "{curve}");
    }
}

#[test]
fn the_signer_is_the_one_that_is_named() {
    let room = Room::new();
    let (a, b) = (room.certificate("a"), room.certificate("b"));
    let read = |more: &str| SignedMessage::read(&room.signed("cms", &format!("{BY_A} {more}"))).unwrap();
    // Whatever else is in the bag, and in which order.
    assert_eq!(read("-certfile b.pem").certificates_of_signer(), Ok(vec![a.clone(), b.clone()]));
    assert_eq!(read("").certificates_of_signer(), Ok(vec![a.clone()]));
    assert_eq!(read("-nocerts").certificates_of_signer(), Err(CmsError::NoSigner));
    assert_eq!(read("-nocerts -certfile b.pem").certificates_of_signer(), Err(CmsError::NoSigner));
    // A certificate of the same name and number with another key.
    room.openssl("x509 -in a.pem -noout -serial -out number");
    let number = std::fs::read_to_string(room.path().join("number")).unwrap();
    let number = number.trim().replace("serial=", "0x");
    room.openssl(&format!(
        "req -x509 -new -key b.key -out forged.pem -days 1 -subj /O=Cloud/CN=a -set_serial {number}"
    ));
    let message = room.signed("cms", &format!("{BY_A} -nocerts -certfile forged.pem"));
    assert_eq!(room.content(&message, "forged"), Err(CmsError::Signature));
    let message = room.signed("cms", &format!("{BY_A} -certfile forged.pem"));
    let both = SignedMessage::read(&message).unwrap().certificates_of_signer();
    assert_eq!(both, Err(CmsError::Ambiguous { found: 2 }));
}

#[test]
fn two_signers_or_none_are_refused() {
    let room = Room::new();
    let two = room.signed("cms", &format!("{BY_A} -signer b.pem -inkey b.key"));
    assert_eq!(SignedMessage::read(&two).unwrap_err(), CmsError::Signers { found: 2 });
    room.openssl("crl2pkcs7 -nocrl -certfile a.pem -outform DER -out none");
    let none = std::fs::read(room.path().join("none")).unwrap();
    // It has no content either, which is read first.
    assert_eq!(SignedMessage::read(&none).unwrap_err(), CmsError::Malformed);
    let by_key = room.signed("cms", &format!("{BY_A} -keyid"));
    assert_eq!(SignedMessage::read(&by_key).unwrap_err(), CmsError::SignerName);
}

#[test]
fn what_is_not_accepted_is_named() {
    let room = Room::new();
    let sha1 = room.signed("cms", &format!("{BY_A} -md sha1"));
    assert_eq!(SignedMessage::read(&sha1).unwrap_err(), CmsError::Digest);
    let pss = room.signed("cms", &format!("{BY_A} -keyopt rsa_padding_mode:pss"));
    assert_eq!(room.content(&pss, "a"), Err(CmsError::Algorithm));
    room.signer("small", "-newkey rsa:1024");
    let small = room.signed("cms", "-signer small.pem -inkey small.key");
    assert_eq!(room.content(&small, "small"), Err(CmsError::Algorithm));
    room.openssl("cms -sign -binary -outform DER -in text -out detached -signer a.pem -inkey a.key");
    let detached = std::fs::read(room.path().join("detached")).unwrap();
    assert_eq!(SignedMessage::read(&detached).unwrap_err(), CmsError::Malformed);
    let long = vec![0x30; SIGNED_MESSAGE_MAX + 1];
    assert_eq!(SignedMessage::read(&long).unwrap_err(), CmsError::TooLong { len: long.len() });
}

/// Azure names the digest by the signature with it, in both places.
#[test]
fn a_digest_may_be_named_by_its_signature() {
    let room = Room::new();
    let (sha256, with_rsa) = ("608648016503040201", "2a864886f70d01010b");
    let message = hex(&room.signed("cms", &format!("{BY_A} -nosmimecap")));
    assert_eq!(message.matches(sha256).count(), 2);
    assert_eq!(room.content(&unhex(&message.replace(sha256, with_rsa)), "a"), Ok(TEXT.to_vec()));
    // Another one does not fit what was signed.
    let sha384 = message.replace(sha256, "608648016503040202");
    assert_eq!(room.content(&unhex(&sha384), "a"), Err(CmsError::Content));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Each single byte, another: nothing that was signed can be changed, and nothing panics.
#[test]
fn a_changed_message_has_no_other_content() {
    let room = Room::new();
    for more in ["-indef -nocerts", "-nocerts", "-nocerts -noattr"] {
        let message = room.signed("smime", &format!("{BY_A} {more}"));
        assert!(room.content(&message, "a").is_ok());
        for at in 0..message.len() {
            for flip in [0x01, 0x80] {
                let mut changed = message.clone();
                changed[at] ^= flip;
                if let Ok(content) = room.content(&changed, "a") {
                    assert_eq!(content, TEXT, "{more}: byte {at}");
                }
            }
            assert!(SignedMessage::read(&message[..at]).is_err(), "{more}: cut at {at}");
        }
        assert_eq!(room.content(&[&message[..], &[0]].concat(), "a"), Err(CmsError::Malformed), "{more}");
    }
}

#[test]
fn pinned_certificates() {
    let room = Room::new();
    let pem = |name: &str| to_pem("CERTIFICATE", &room.certificate(name));
    let message = SignedMessage::read(&room.signed("smime", &format!("{BY_A} -indef -nocerts"))).unwrap();
    let pinned = |text: &str| PinnedCertificates::from_pem(text).unwrap();
    let both = pinned(&format!("{}{}", pem("b"), pem("a")));
    let (content, key) = both.content(&message).unwrap();
    let certificate = room.certificate("a");
    let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
    assert_eq!((content, key), (TEXT, KeyDigest::from_spki_der(parsed.public_key().raw)));
    assert_eq!(pinned(&pem("b")).content(&message).unwrap_err(), CmsError::NoSigner);
    let refused = |text: &str| PinnedCertificates::from_pem(text).unwrap_err();
    assert!(matches!(refused(""), PinnedError::Pem(_)));
    assert_eq!(refused(&pem("a").repeat(17)), PinnedError::TooMany { found: 17 });
    assert_eq!(refused(&to_pem("CERTIFICATE", &[1, 2])), PinnedError::Malformed { at: 1 });
    room.signer("small", "-newkey rsa:1024");
    assert_eq!(refused(&format!("{}{}", pem("a"), pem("small"))), PinnedError::Key { at: 2 });
}
