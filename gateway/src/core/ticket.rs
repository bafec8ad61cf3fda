//! Tickets: the state of attestors between two rounds, encrypted and held by the client. An abandoned first round costs the
//! gateway no memory, and the second round may come to another process, on another connection.
//!
//! A ticket is for one key and valid for a few minutes. It can be used once: its id is recorded in the commit of the decision.

use std::collections::BTreeMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use pki::{KeyDigest, UnixTime};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::reject::Reject;

/// Lifetime of a ticket in seconds: a slow TPM takes 20 s for the second round, and a person may have to touch a security key.
pub const TICKET_LIFE_SECS: u64 = 300;

/// Most bytes of state of one attestor: a nonce, a secret, and digests of what was sent.
pub const KEPT_MAX: usize = 4 * 1024;

/// Most bytes of one attestor's challenge: a wrapped credential has one or two thousand.
pub const ASK_MAX: usize = 64 * 1024;

/// Longest ticket that is decrypted, in characters: the state of every piece of evidence, base64 twice.
pub(crate) const TICKET_MAX: usize = 2 * wire::limits::EVIDENCE_MAX * KEPT_MAX + 1024;

/// Version of the format, the first byte of a ticket.
const VERSION: u8 = 1;

/// Bytes of an id: random, so long that none is ever drawn twice.
const ID_LEN: usize = 16;

/// Derives the keys that encrypt tickets; the same for all processes of a gateway.
pub struct TicketKey(hmac::Key);

/// A decrypted ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Random; also selects the encryption key.
    pub id: [u8; ID_LEN],
    /// The client key for which it is valid.
    pub for_key: KeyDigest,
    /// The last second in which it is valid.
    pub ends: UnixTime,
    /// State of each attestor, by its kind.
    pub kept: BTreeMap<String, Vec<u8>>,
}

/// The plaintext of a ticket.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    for_key: String,
    ends: u64,
    kept: BTreeMap<String, String>,
}

impl TicketKey {
    /// From the private key in `ticket.key`, PKCS#8. Its format is that of the other keys; here it is only a random secret, used for
    /// nothing else.
    #[must_use]
    pub fn new(pkcs8: &[u8]) -> Self {
        let secret = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pkcs8), b"lychgate ticket key v1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))
    }

    /// The key of one ticket. It encrypts one text, so the nonce can be constant.
    fn of(&self, id: &[u8; ID_LEN]) -> Option<(LessSafeKey, Nonce)> {
        let bytes = Zeroizing::new(hmac::sign(&self.0, id).as_ref().to_vec());
        let key = UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)?;
        Some((key, Nonce::assume_unique_for_key([0; NONCE_LEN])))
    }

    /// Encrypts a ticket; `None` if the cipher fails. The id must never have been used before.
    #[must_use]
    pub fn seal(&self, ticket: &Ticket) -> Option<String> {
        let (key, nonce) = self.of(&ticket.id)?;
        let kept = ticket.kept.iter().map(|(kind, bytes)| (kind.clone(), STANDARD_NO_PAD.encode(bytes)));
        let sealed = Sealed { for_key: ticket.for_key.hex(), ends: ticket.ends.secs(), kept: kept.collect() };
        let mut text = serde_json::to_vec(&sealed).ok()?;
        key.seal_in_place_append_tag(nonce, Aad::from([VERSION]), &mut text).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&[VERSION][..], &ticket.id, &text].concat()))
    }

    /// Decrypts a ticket.
    ///
    /// # Errors
    /// [`super::reject::TICKET_INVALID`] if this gateway did not make it.
    pub fn open(&self, text: &str) -> Result<Ticket, Reject> {
        self.opened(text).ok_or_else(|| Reject::ticket("this gateway did not make it"))
    }

    fn opened(&self, text: &str) -> Option<Ticket> {
        let bytes = URL_SAFE_NO_PAD.decode(Some(text).filter(|text| text.len() <= TICKET_MAX)?).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (id, sealed) = rest.split_at_checked(ID_LEN)?;
        let (id, mut sealed) = (id.try_into().ok().filter(|_| *version == VERSION)?, sealed.to_vec());
        let (key, nonce) = self.of(&id)?;
        let text = key.open_in_place(nonce, Aad::from([VERSION]), &mut sealed).ok()?;
        let inner: Sealed = serde_json::from_slice(text).ok()?;
        let kept = inner.kept.into_iter().map(|(kind, text)| Some((kind, STANDARD_NO_PAD.decode(text).ok()?)));
        let for_key = KeyDigest::parse_hex(&inner.for_key).ok()?;
        Some(Ticket { id, for_key, ends: UnixTime::new(inner.ends), kept: kept.collect::<Option<_>>()? })
    }
}

impl Ticket {
    /// Checks that it is valid for this key, at this time, with evidence of these kinds.
    ///
    /// # Errors
    /// [`super::reject::TICKET_INVALID`] for another key or other kinds, [`super::reject::TICKET_EXPIRED`] after [`Ticket::ends`].
    pub fn holds(&self, for_key: &KeyDigest, kinds: &[&str], now: UnixTime) -> Result<(), Reject> {
        if self.for_key != *for_key {
            return Err(Reject::ticket("it is for another key"));
        }
        if now > self.ends {
            return Err(Reject::late_ticket(now.since(self.ends).as_secs()));
        }
        match self.kept.keys().find(|kind| kinds.iter().filter(|sent| *sent == kind).count() != 1) {
            Some(kind) => Err(Reject::ticket(&format!("it is for one piece of evidence of kind `{kind}`"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            id: [7; ID_LEN],
            for_key: KeyDigest::from_spki_der(b"mine"),
            ends: UnixTime::new(1_000),
            kept: BTreeMap::from([("tpm".to_owned(), vec![1, 2, 3]), ("x509".to_owned(), vec![])]),
        }
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_gateway_alone() {
        let key = TicketKey::new(b"pkcs8");
        let text = key.seal(&ticket()).unwrap();
        assert_eq!(key.open(&text), Ok(ticket()));
        let refused = Err(Reject::ticket("this gateway did not make it"));
        assert_eq!(TicketKey::new(b"another").open(&text), refused);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            // base64url: some bits of the last character are unused
            if at + 1 < text.len() {
                assert_eq!(key.open(&String::from_utf8(changed).unwrap()), refused, "{at}");
            }
        }
        for text in ["", "A", "!", &text[..40], &format!("{text}AAAA"), &"A".repeat(TICKET_MAX + 1)] {
            assert_eq!(key.open(text), refused, "{text}");
        }
    }

    #[track_caller]
    fn check(key: &[u8], kinds: &[&str], now: u64, want: &str) {
        let told = ticket().holds(&KeyDigest::from_spki_der(key), kinds, UnixTime::new(now));
        assert_eq!(
            told.map_err(|reject| format!("{}: {reject}", reject.code.name)),
            match want {
                "" => Ok(()),
                text => Err(text.to_owned()),
            }
        );
    }

    #[test]
    fn a_ticket_is_for_one_key_its_time_and_its_kinds() {
        check(b"mine", &["tpm", "x509"], 1_000, "");
        check(b"mine", &["x509", "other", "tpm"], 0, "");
        check(b"mine", &["tpm", "x509"], 1_007, "ticket-expired: the ticket ended 7 s ago");
        check(b"other", &["tpm", "x509"], 1, "ticket-invalid: the ticket does not hold: it is for another key");
        for kinds in [&[][..], &["tpm"], &["tpm", "x509", "x509"]] {
            let says = "ticket-invalid: the ticket does not hold: it is for one piece of evidence of kind `x509`";
            check(b"mine", kinds, 1, if kinds.is_empty() { says.replace("x509", "tpm").leak() } else { says });
        }
    }
}
