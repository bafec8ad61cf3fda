//! Messages that others signed. What is read has one signer and one content, and nothing behind it; and nobody's certificate is taken for
//! the signer's but the one that the message names.

use pki::{CmsError, Role, SIGNED_MESSAGE_MAX, SignedMessage};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{
    Outcome,
    parts::tlv,
    world::{WORLD, leaf},
};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const WRAPPED: u8 = 0xa0;

/// id-signedData, id-data (RFC 5652 5.1, 4), and SHA-256 and RSA.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Ok(message) = SignedMessage::read(data) else { return Outcome::Refused };
    assert!(data.len() <= SIGNED_MESSAGE_MAX);
    assert!(SignedMessage::read(&[data, &[0]].concat()).is_err(), "with a byte after it");
    let root = WORLD.root.cert_der();
    if let Ok(certificates) = message.certificates_of_signer() {
        assert!(!certificates.is_empty() && certificates.len() <= 8);
        if certificates[0] != root {
            assert_eq!(message.content_signed_by(root), Err(CmsError::NoSigner));
        }
        // It holds, or not; but never for other bytes than those that are shown.
        if let Ok(content) = message.content_signed_by(&certificates[0]) {
            assert_eq!(content, message.unverified_content());
        }
    }
    Outcome::Taken
}

/// A value that ends where it says so, and not after a length.
fn endless(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80][..], &content.concat(), &[0, 0]].concat()
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(OID, &[oid]), &[5, 0]])
}

/// The one who signed: the machine of the world, whose key is no RSA key. So the signature never holds.
fn signer(certificate: &[u8]) -> Vec<u8> {
    let (_, parsed) = X509Certificate::from_der(certificate).expect("our own certificate");
    let name = tlv(SEQUENCE, &[parsed.issuer().as_raw(), &tlv(INTEGER, &[parsed.raw_serial()])]);
    tlv(SEQUENCE, &[&tlv(INTEGER, &[&[1]]), &name, &algorithm(SHA256), &algorithm(RSA), &tlv(OCTETS, &[&[7; 256]])])
}

/// A message, in DER, with so many signers.
fn message(content: &[u8], signers: usize) -> Vec<u8> {
    let certificate = leaf(Role::Machine);
    let content = tlv(SEQUENCE, &[&tlv(OID, &[DATA]), &tlv(WRAPPED, &[&tlv(OCTETS, &[content])])]);
    let signers = tlv(SET, &[&signer(&certificate).repeat(signers)]);
    let parts: [&[u8]; 5] =
        [&tlv(INTEGER, &[&[1]]), &tlv(SET, &[]), &content, &tlv(WRAPPED, &[&certificate]), &signers];
    tlv(SEQUENCE, &[&tlv(OID, &[SIGNED_DATA]), &tlv(WRAPPED, &[&tlv(SEQUENCE, &parts)])])
}

/// A message with this content, by the machine of the world.
#[must_use]
pub fn unsigned(content: &[u8]) -> Vec<u8> {
    message(content, 1)
}

/// The same, without lengths and in pieces.
fn streamed(content: &[u8]) -> Vec<u8> {
    let pieces: Vec<u8> = content.chunks(5).flat_map(|piece| tlv(OCTETS, &[piece])).collect();
    let content = endless(SEQUENCE, &[&tlv(OID, &[DATA]), &endless(WRAPPED, &[&endless(0x24, &[&pieces])])]);
    let signers = tlv(SET, &[&signer(&leaf(Role::Machine))]);
    let data = endless(SEQUENCE, &[&tlv(INTEGER, &[&[1]]), &tlv(SET, &[]), &content, &signers]);
    endless(SEQUENCE, &[&tlv(OID, &[SIGNED_DATA]), &endless(WRAPPED, &[&data])])
}

/// Messages, good and bent.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    vec![unsigned(b"{}"), message(b"{}", 0), message(b"{}", 2), streamed(b"{\"a\": 1, \"b\": 2}")]
}
