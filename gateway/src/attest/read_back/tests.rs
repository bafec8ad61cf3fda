//! Texts that owners write, or others instead of them, at places as operators name them.

use std::{path::PathBuf, sync::LazyLock, time::Duration};

use pki::{KeyDigest, TrustDomain};
use policy::Ruleset;

use super::*;
use crate::{
    core::{
        evidence::{Document, Finding, HttpsUrl, Reach},
        refusal::Refusal,
        requester::Requester,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::Authority,
};

const NOW: u64 = 1_800_000_000;

/// The gateway, of which an attestor knows only this.
static GATEWAY: LazyLock<(TrustDomain, Authority, Ruleset)> = LazyLock::new(|| {
    let domain = TrustDomain::parse("td.example").unwrap();
    let (clock, _) = Clock::fake(UnixTime::new(NOW));
    let authority = Authority::ephemeral(&domain, &clock, &Entropy::seeded(7)).unwrap();
    (domain, authority, Ruleset::load(&[], &[]).unwrap())
});

fn built(section: &str) -> Built {
    build(Some(&Section { values: section.parse().unwrap(), folder: PathBuf::from("/etc/lychgate") }))
}

/// Two places, in the order of their names.
const PLACES: &str = "[places.dns]\ndns = 'example.com'\nresolver = 'https://dns.example/resolve'\n\
    [places.hoster]\nurl = 'https://hoster.example/labels?of={name}'\nwhere = 'a label of the server {name}'\n";

/// Who asks, when, with what, and what is at the places.
#[derive(Clone)]
struct Asking {
    wanted: Option<&'static str>,
    kept: Option<Vec<u8>>,
    at: u64,
    there: [Option<Vec<u8>>; 2],
}

impl Asking {
    fn first() -> Self {
        Self { wanted: Some("web-1"), kept: None, at: NOW, there: [None, None] }
    }

    fn answers(kept: &[u8], there: [Option<&str>; 2]) -> Self {
        let there = there.map(|text| text.map(|text| text.as_bytes().to_vec()));
        Self { kept: Some(kept.to_vec()), there, ..Self::first() }
    }
}

/// What comes of it, and what was looked up.
fn judged(section: &str, asking: &Asking) -> (Result<Step, Refusal>, Vec<Need>) {
    let attestor = built(section).unwrap().unwrap();
    let (domain, authority, rules) = &*GATEWAY;
    let (anchors, token_key) = (authority.anchors(), authority.token_key());
    let context = Context { domain, anchors, token_key, host_ca: None, rules, now: UnixTime::new(asking.at) };
    let mut entropy = [3; ENTROPY_LEN];
    entropy[..8].copy_from_slice(&asking.at.to_be_bytes());
    let message = Message {
        body: "{}",
        kept: asking.kept.as_deref(),
        entropy,
        for_key: KeyDigest::from_spki_der(b"the key to be certified"),
        exporter: &[9; 32],
        requester: &Requester::Nobody,
        purpose: Purpose::Join { wanted: asking.wanted },
    };
    let mut all = Vec::new();
    let mut judge = || -> Result<Step, Refusal> {
        let case = attestor.open(&message, &context)?;
        let mut found = Found::default();
        loop {
            let needs = case.needs(&found)?;
            if needs.is_empty() {
                break;
            }
            for (need, there) in needs.iter().zip(&asking.there) {
                let document = |bytes: &Vec<u8>| Document { bytes: bytes.clone().into(), age: Duration::ZERO };
                all.push(need.clone());
                found.push(Finding::Document(there.as_ref().map(document)));
            }
        }
        let rests_on = case.rests_on(&found, &context)?;
        let cleared = rests_on.clear(&crate::core::lock::Locks::new(vec![], vec![]))?;
        case.step(&found, &context, &cleared).map_err(|rejected| rejected.refusal)
    };
    let judged = judge();
    (judged, all)
}

fn asked(section: &str, asking: &Asking) -> (ReadBackChallenge, Vec<u8>) {
    match judged(section, asking).0 {
        Ok(Step::Ask { send, keep }) => (serde_json::from_str(&send).unwrap(), keep),
        other => panic!("{other:?}"),
    }
}

/// The place where it was found.
fn found(section: &str, asking: &Asking) -> Option<String> {
    match judged(section, asking).0 {
        Ok(Step::Ask { .. }) => None,
        Ok(Step::Done(vouched)) => match vouched.claims.values.get("place") {
            Some(Claim::Text(place)) => Some(place.clone()),
            other => panic!("{other:?}"),
        },
        Err(refusal) => panic!("{refusal}"),
    }
}

fn answer(data: &str) -> String {
    format!(r#"{{"Status":0,"AD":false,"Answer":[{{"name":"n.","type":16,"TTL":60,"data":{data:?}}}]}}"#)
}

#[test]
fn an_owner_is_asked_to_write_and_what_they_wrote_is_read() {
    let (challenge, kept) = asked(PLACES, &Asking::first());
    let text = &challenge.text;
    assert!(text.starts_with("lychgate_web-1_") && text.len() == "lychgate_web-1_".len() + 32, "{text}");
    let places = ["the TXT record of _lychgate.web-1.example.com", "a label of the server web-1"];
    assert_eq!((&challenge.places[..], challenge.seconds), (&places.map(str::to_owned)[..], 15));
    assert_eq!(judged(PLACES, &Asking::first()).1, [], "a first round reads nothing");

    let (done, needs) = judged(PLACES, &Asking::answers(&kept, [None, Some(text)]));
    let urls = needs.iter().map(|need| match need {
        Need::OfName(DocumentSource::Url(url)) => url.to_string(),
        other => panic!("{other:?}"),
    });
    let (dns, hoster) = (
        "https://dns.example/resolve?name=_lychgate.web-1.example.com&type=TXT",
        "https://hoster.example/labels?of=web-1",
    );
    assert_eq!(urls.collect::<Vec<_>>(), [dns, hoster]);
    let Ok(Step::Done(vouched)) = done else { panic!("{done:?}") };
    let Claims { values, assurance, role, names, grants } = vouched.claims;
    let claims = [("name", "web-1"), ("place", "hoster")];
    assert_eq!(values, claims.map(|(name, value)| (name.to_owned(), Claim::Text(value.to_owned()))).into());
    assert_eq!((assurance, role, names), (Assurance::SOFTWARE, Some(Role::Machine), vec!["web-1".to_owned()]));
    assert!(grants.is_none() && vouched.reference.is_none());
}

#[test]
fn while_it_is_not_there_the_same_is_asked_again() {
    let (challenge, kept) = asked(PLACES, &Asking::first());
    for later in [0, 10, 3599] {
        let again = Asking { at: NOW + later, ..Asking::answers(&kept, [None, Some("nothing yet")]) };
        assert_eq!(asked(PLACES, &again), (challenge.clone(), kept.clone()), "{later}");
    }
    // After an hour another text is asked for, and the old one does not count.
    let late = Asking { at: NOW + 3600, ..Asking::answers(&kept, [None, Some(&challenge.text)]) };
    let (other, _) = asked(PLACES, &late);
    assert_ne!(other.text, challenge.text);
    assert_eq!(judged(PLACES, &late).1, [], "and nothing is read for it");
}

#[test]
fn a_text_is_for_one_name_and_one_ticket() {
    let (challenge, kept) = asked(PLACES, &Asking::first());
    let there = [None, Some(challenge.text.as_str())];
    let other = Asking { wanted: Some("web-2"), ..Asking::answers(&kept, there) };
    assert!(asked(PLACES, &other).0.text.starts_with("lychgate_web-2_"), "another name begins anew");
    let (_, later) = asked(PLACES, &Asking { at: NOW + 1, ..Asking::first() });
    assert_eq!(found(PLACES, &Asking::answers(&later, there)), None, "another's text");
    for wanted in [None, Some(""), Some("Web"), Some("a/../b"), Some("web 1"), Some("10.0.0.1")] {
        let (refused, needs) = judged(PLACES, &Asking { wanted, ..Asking::answers(&kept, there) });
        assert_eq!(refused.unwrap_err().to_string(), no_name().text, "{wanted:?}");
        assert_eq!(needs, [], "{wanted:?}: nothing is read");
    }
    for kept in [&b""[..], b"short", &[0xff; 40]] {
        let (refused, _) = judged(PLACES, &Asking::answers(kept, there));
        assert_eq!(refused.unwrap_err().to_string(), malformed("its ticket holds something else").text);
    }
}

#[test]
fn texts_are_found_as_whole_words_and_records() {
    let (challenge, kept) = asked(PLACES, &Asking::first());
    let text = challenge.text.as_str();
    let at = |dns: Option<String>, hoster: Option<String>| {
        found(PLACES, &Asking::answers(&kept, [dns.as_deref(), hoster.as_deref()]))
    };
    let (dns, hoster) = (Some("dns".to_owned()), Some("hoster".to_owned()));
    for (said, want) in [
        (text.to_owned(), true),
        (format!("{text}\n"), true),
        (format!("[\"a\", \"{text}\"]"), true),
        (format!("join={text};"), true),
        (format!("{text}0 {text}"), true),
        (format!("{text}0"), false),
        (format!("x{text}"), false),
        (format!("{text}_"), false),
        (text.to_uppercase(), false),
        (text[..text.len() - 1].to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(at(None, Some(said.clone())), hoster.clone().filter(|_| want), "{said}");
    }
    for (said, want) in [
        (answer(text), true),
        (answer(&format!("\"{text}\"")), true),
        (answer(&format!("x {text}")), false),
        (answer("v=spf1 -all"), false),
        (answer(text).replace("\"Status\":0", "\"Status\":3"), false),
        (answer(text).replace("\"type\":16", "\"type\":5"), false),
        (r#"{"Status":0}"#.to_owned(), false),
        (text.to_owned(), false),
        ("[]".to_owned(), false),
    ] {
        assert_eq!(at(Some(said.clone()), None), dns.clone().filter(|_| want), "{said}");
    }
    assert_eq!(at(Some(answer(text)), Some(text.to_owned())), dns, "the first by name");
}

#[test]
fn files_are_read_too() {
    let section = "[places.sheet]\nfile = 'read-back/{name}.txt'\nwhere = 'the sheet'\n";
    let (challenge, kept) = asked(section, &Asking::first());
    let (_, needs) = judged(section, &Asking::answers(&kept, [Some(&challenge.text), None]));
    assert_eq!(needs, [Need::OfName(DocumentSource::File("/etc/lychgate/read-back/web-1.txt".into()))]);
    assert_eq!(found(section, &Asking::answers(&kept, [Some(&challenge.text), None])), Some("sheet".to_owned()));
}

#[test]
fn evidence_with_anything_in_it_is_malformed() {
    let attestor = built(PLACES).unwrap().unwrap();
    let (domain, authority, rules) = &*GATEWAY;
    let (anchors, token_key) = (authority.anchors(), authority.token_key());
    let context = Context { domain, anchors, token_key, host_ca: None, rules, now: UnixTime::new(NOW) };
    for body in ["", "[]", "null", r#"{"place":"dns"}"#, "{}{}"] {
        let message = Message {
            body,
            kept: None,
            entropy: [3; ENTROPY_LEN],
            for_key: KeyDigest::from_spki_der(b"the key to be certified"),
            exporter: &[9; 32],
            requester: &Requester::Nobody,
            purpose: Purpose::Join { wanted: Some("web-1") },
        };
        let refused = attestor.open(&message, &context).err().map(|reject| reject.code.name);
        assert_eq!(refused, Some("read-back-malformed"), "{body}");
    }
}

#[test]
fn sections() {
    let said = |section: &str| match built(section) {
        Ok(built) => Ok(built.is_some()),
        Err(bad) => Err(bad.what),
    };
    let one = |settings: &str| said(&format!("[places.p]\n{settings}"));
    let place = |what: &str| Err(format!("`places.p`: {what}"));
    assert_eq!((said(PLACES), said(""), said("enabled = true")), (Ok(true), Ok(false), Ok(false)));
    assert_eq!(said(&format!("enabled = false\n{PLACES}")), Ok(false));
    assert_eq!(one("file = '{name}'\nwhere = 'there'"), Ok(true));
    assert_eq!(one("url = 'https://h.example/'\nwhere = 'there'\nprivate_network = true"), Ok(true));
    for (settings, what) in [
        ("", "it must have one of `dns`, `url` and `file`"),
        ("file = 'f'\nurl = 'https://h.example/'\nwhere = 'w'", "it must have one of `dns`, `url` and `file`"),
        ("url = 'https://{name}.example/'\nwhere = 'w'", "`url` is no usable URL: `{name}` stands in its host"),
        ("url = 'https://h.example:{name}/'\nwhere = 'w'", "`url` is no usable URL: its port is no number"),
        ("url = 'http://h.example/{name}'\nwhere = 'w'", "`url` is no usable URL: it does not begin with https://"),
        ("dns = 'example.com'", "`resolver` is missing: who is asked for the record?"),
        (
            "dns = 'a&type=A'\nresolver = 'https://r.example/'",
            "`dns` must be a lower-case DNS domain such as \"example.com\"",
        ),
        ("dns = 'a'\nresolver = 'https://{name}.example/'", "`resolver` is no usable URL: `{name}` stands in its host"),
        ("file = 'f'\nresolver = 'https://r.example/'\nwhere = 'w'", "`resolver` is for `dns`"),
        ("file = 'f'\nca = 'ca.pem'\nwhere = 'w'", "`ca` and `private_network` are for `url` and `dns`"),
        ("file = 'f'", "`where` is missing: what are owners told of the place?"),
        ("file = 'f'\nwhere = ''", "`where` must be a line of at most 200 characters"),
        ("file = 'f'\nwhere = \"a\\u001b[2J\"", "`where` must be a line of at most 200 characters"),
    ] {
        assert_eq!(one(settings), place(what), "{settings}");
    }
    let many: String = (0..5).map(|n| format!("[places.p{n}]\nfile = 'f'\nwhere = 'w'\n")).collect();
    assert_eq!(said(&many), Err("there are 5 places, and at most 4 are read".to_owned()));
    let url = HttpsUrl::parse("https://h.example/web-1", Some("/etc/lychgate/ca.pem".into()), Reach::Any).unwrap();
    let section = "[places.p]\nurl = 'https://h.example/{name}'\nwhere = 'w'\nca = 'ca.pem'\nprivate_network = true";
    let (_, kept) = asked(section, &Asking::first());
    let (_, needs) = judged(section, &Asking::answers(&kept, [None, None]));
    assert_eq!(needs, [Need::OfName(DocumentSource::Url(url))]);
}
