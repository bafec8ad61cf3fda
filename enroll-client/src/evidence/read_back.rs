//! `read-back`: the machine's owner, not the machine, writes a text of the gateway where the gateway can read it. Body: nothing; the
//! request has the name. It is offered only if it is named (`--attest read-back`), since a person has to do something.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wire::evidence::{READ_BACK, ReadBackChallenge, ReadBackEvidence};

use super::{Binding, EvidenceError, ForOwner, Prover, Proving};

/// First pause, in which a program of the owner may have written it.
const PAUSE_LEAST: Duration = Duration::from_secs(10);

/// Longest pause. A challenge has to be answered within five minutes.
const PAUSE_MOST: Duration = Duration::from_secs(240);

/// The prover, which every machine has.
pub fn prover() -> Box<dyn Prover> {
    Box::new(ReadBack { asked: Mutex::default() })
}

struct ReadBack {
    /// The text that the owner was asked to write, and how often it was not there yet.
    asked: Mutex<(String, u32)>,
}

impl Prover for ReadBack {
    fn kind(&self) -> &'static str {
        READ_BACK
    }

    fn for_owner(&self, challenge: &str) -> Option<ForOwner> {
        let challenge: ReadBackChallenge = serde_json::from_str(challenge).ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        // What a person is to copy from here has no other signs in it.
        if challenge.text.is_empty() || !challenge.text.chars().all(plain) {
            return None;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = if asked.0 == challenge.text { asked.1.saturating_add(1) } else { 0 };
        *asked = (challenge.text.clone(), times);
        let pause = PAUSE_LEAST.saturating_mul(2_u32.saturating_pow(times)).min(PAUSE_MOST);
        let places: Vec<String> = challenge.places.iter().map(|place| printable(place)).collect();
        let what = format!(
            "the owner of this machine writes `{}` into {}; the gateway looks for it from time to time, for half an hour",
            challenge.text,
            places.join(", or into ")
        );
        Some(ForOwner { what, pause })
    }

    fn body<'a>(&'a self, _: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        let body = serde_json::to_string(&ReadBackEvidence {}).map_err(|e| EvidenceError::Machine(e.to_string()));
        Box::pin(std::future::ready(body))
    }
}

/// A text of the gateway's operator, on one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(text: &str, places: &[&str]) -> String {
        let places = places.iter().map(|place| (*place).to_owned()).collect();
        serde_json::to_string(&ReadBackChallenge { text: text.to_owned(), places, seconds: 15 }).unwrap()
    }

    #[test]
    fn an_owner_is_told_what_to_write_and_given_time() {
        let (prover, asked) = (prover(), challenge("lychgate_a_1", &["the label x", "the record y\u{1b}[2J"]));
        let told = prover.for_owner(&asked).unwrap();
        assert_eq!(
            told.what,
            "the owner of this machine writes `lychgate_a_1` into the label x, or into the record y [2J; the gateway looks for it \
             from time to time, for half an hour"
        );
        let pauses = (0..8).map(|_| prover.for_owner(&asked).unwrap().pause.as_secs());
        assert_eq!((told.pause.as_secs(), pauses.collect::<Vec<_>>()), (10, vec![20, 40, 80, 160, 240, 240, 240, 240]));
        let other = challenge("lychgate_a_2", &["the label x"]);
        assert_eq!(prover.for_owner(&other).unwrap().pause, PAUSE_LEAST, "another text begins anew");
    }

    #[test]
    fn nobody_is_told_to_copy_anything_odd() {
        let prover = prover();
        for text in ["", "a b", "a`b", "a\nb", "$(x)", "ä"] {
            assert!(prover.for_owner(&challenge(text, &["x"])).is_none(), "{text}");
        }
        assert!(prover.for_owner("no JSON").is_none());
    }

    #[tokio::test]
    async fn there_is_nothing_in_the_body() {
        let (digest, domain) = (pki::KeyDigest::from_spki_der(b"key"), pki::TrustDomain::parse("td.example").unwrap());
        let binding =
            Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now: pki::UnixTime::new(0) };
        let prover = prover();
        for asked in [None, Some("{}")] {
            assert_eq!(prover.body(binding, asked).await.unwrap(), "{}");
        }
    }
}
