//! Tickets: what attestors keep between two rounds, sealed, in a stranger's hands. What is opened is what was sealed, and nothing else
//! opens.

use std::collections::BTreeMap;

use gateway::core::ticket::{Ticket, TicketKey};
use pki::{KeyDigest, UnixTime};

use crate::{
    Outcome,
    parts::{mode, with_mode},
    world::NOW,
};

/// The input is what a ticket keeps, and is sealed here.
const SEAL: u8 = 0x80;

fn key() -> TicketKey {
    TicketKey::new(b"the key of one gateway")
}

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    if mode & SEAL != 0 {
        let kept = rest.split(|byte| *byte == b'\n').map(|line| (line.len().to_string(), line.to_vec()));
        sealed(kept.collect(), mode);
        return Outcome::Taken;
    }
    Outcome::any(&[opened(&String::from_utf8_lossy(rest))])
}

fn sealed(kept: BTreeMap<String, Vec<u8>>, number: u8) {
    let (id, for_key) = ([number; 16], KeyDigest::from_spki_der(&[number]));
    let ticket = Ticket { id, for_key, ends: NOW, kept };
    let text = key().seal(&ticket).expect("the cipher takes any length");
    // One that keeps more than attestors may is too long, and refused as a whole.
    if let Ok(again) = key().open(&text) {
        assert_eq!(again, ticket);
    }
    assert!(TicketKey::new(b"the key of another").open(&text).is_err());
    let kinds: Vec<&str> = ticket.kept.keys().map(String::as_str).collect();
    assert!(ticket.holds(&for_key, &kinds, NOW).is_ok());
    assert!(ticket.holds(&KeyDigest::from_spki_der(&[number, 0]), &kinds, NOW).is_err());
    assert!(ticket.holds(&for_key, &kinds, UnixTime::new(NOW.secs() + 1)).is_err());
}

fn opened(text: &str) -> bool {
    let Ok(ticket) = key().open(text) else { return false };
    let again = key().seal(&ticket).expect("the cipher takes any length");
    assert_eq!(key().open(&again).as_ref(), Ok(&ticket));
    true
}

/// Tickets, one of them cut short, and what is sealed here.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let kept = BTreeMap::from([("tpm".to_owned(), vec![1, 2, 3]), ("x509".to_owned(), vec![])]);
    let ticket = Ticket { id: [7; 16], for_key: KeyDigest::from_spki_der(b"a key"), ends: NOW, kept };
    let text = key().seal(&ticket).expect("a short one");
    let cut = &text[..text.len() - 4];
    vec![with_mode(0, text.as_bytes()), with_mode(0, cut.as_bytes()), with_mode(SEAL, b"one\ntwo lines")]
}
