//! Tokens of issuers in memory, by sections as operators write them.

use std::{collections::BTreeSet, path::PathBuf, sync::LazyLock};

use pki::TrustDomain;
use policy::Ruleset;
use serde_json::{Value, json};

use super::{
    presets::{PRESETS, Preset},
    *,
};
use crate::{
    core::{
        change::{Expectation, RecordWrite},
        evidence::{Document, ENTROPY_LEN, Finding, Purpose},
        jwt::soft::{SoftKey, key_set},
        lock::Locks,
        records::Seen,
        requester::Requester,
        stored::ReadRecord,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::Authority,
};

const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<SoftKey> = LazyLock::new(SoftKey::p256);
static RSA: LazyLock<SoftKey> = LazyLock::new(SoftKey::rsa);

/// The gateway, of which an attestor knows only this.
static GATEWAY: LazyLock<(TrustDomain, Authority, Ruleset)> = LazyLock::new(|| {
    let domain = TrustDomain::parse("td.example").unwrap();
    let (clock, _) = Clock::fake(UnixTime::new(NOW));
    let authority = Authority::ephemeral(&domain, &clock, &Entropy::seeded(7)).unwrap();
    (domain, authority, Ruleset::load(&[], &[]).unwrap())
});

fn for_key() -> KeyDigest {
    KeyDigest::from_spki_der(b"the key to be certified")
}

fn built(section: &str) -> Built {
    build(Some(&Section { values: section.parse().unwrap(), folder: PathBuf::from("/etc/lychgate") }))
}

/// An issuer of no special kind, with its keys in a file.
const PLAIN: &str =
    "[issuers.ci]\npreset = 'oidc'\nissuer = 'https://issuer.example'\nkeys = 'keys.json'\naudience = 'us'\n";

/// The same, for one key.
const BOUND: &str =
    "[issuers.ci]\npreset = 'oidc'\nissuer = 'https://issuer.example'\nkeys = 'keys.json'\naudience = 'us:{key}'\n";

/// The same, with its keys at a URL.
const BY_URL: &str = "[issuers.ci]\npreset = 'oidc'\nissuer = 'https://issuer.example'\n\
    keys = 'https://issuer.example/k'\naudience = 'us'\n";

fn good() -> Value {
    json!({ "iss": "https://issuer.example", "aud": "us", "sub": "who", "iat": NOW, "exp": NOW + 300 })
}

fn with(mut claims: Value, more: &Value) -> Value {
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// What there is to be found.
struct World<'a> {
    /// The key set that is kept, and its age.
    kept: Option<(Vec<u8>, u64)>,
    /// The newest one.
    newest: Option<Vec<u8>>,
    /// For which key the token was used.
    spent: Option<&'a [u8]>,
}

impl World<'_> {
    fn with(keys: &[Value]) -> Self {
        Self { kept: Some((key_set(keys), 0)), newest: None, spent: None }
    }
}

fn document(bytes: &[u8], age: u64) -> Document {
    Document { bytes: bytes.into(), age: Duration::from_secs(age) }
}

/// Judges a token; gives the needs in their order, too.
fn judged(section: &str, body: &str, world: &World<'_>) -> (Result<Vouched, Refusal>, Vec<Need>) {
    let attestor = built(section).unwrap().unwrap();
    let (domain, authority, rules) = &*GATEWAY;
    let (anchors, token_key) = (authority.anchors(), authority.token_key());
    let context = Context { domain, anchors, token_key, host_ca: None, rules, now: UnixTime::new(NOW) };
    let message = Message {
        body,
        kept: None,
        entropy: [3; ENTROPY_LEN],
        for_key: for_key(),
        exporter: &[9; 32],
        requester: &Requester::Nobody,
        purpose: Purpose::Join { wanted: None },
    };
    let mut all = Vec::new();
    let mut judge = || -> Result<Vouched, Refusal> {
        let case = attestor.open(&message, &context)?;
        let mut found = Found::default();
        loop {
            let needs = case.needs(&found)?;
            if needs.is_empty() {
                break;
            }
            for need in needs {
                found.push(match &need {
                    Need::Document(_) => {
                        Finding::Document(world.kept.as_ref().map(|(bytes, age)| document(bytes, *age)))
                    }
                    Need::Newest(_) => Finding::Document(world.newest.as_ref().map(|bytes| document(bytes, 0))),
                    Need::OfName(source) => panic!("a token names nothing to read: {source}"),
                    Need::Record(key) => Finding::Record(world.spent.map(|record| {
                        let raw = Seen { record: Ok(record.to_vec()), version: 7 };
                        Arc::new(ReadRecord::new(key.clone(), raw))
                    })),
                });
                all.push(need);
            }
        }
        let rests_on = case.rests_on(&found, &context)?;
        let locks = Locks::new(rests_on.targets.clone(), vec![]);
        match case.step(&found, &context, &rests_on.clear(&locks)?).map_err(|rejected| rejected.refusal)? {
            Step::Done(vouched) => Ok(*vouched),
            Step::Ask { .. } => panic!("it asks back"),
        }
    };
    let outcome = judge();
    (outcome, all)
}

fn vouched(section: &str, body: &str, world: &World<'_>) -> Result<Vouched, Refusal> {
    judged(section, body, world).0
}

/// The claims of a token with these claims, by a key without a name.
fn claims(section: &str, token: &Value) -> Result<BTreeMap<String, Claim>, Refusal> {
    let key = if section.contains("oidc") || section.contains("spiffe") || section.contains("kubernetes") {
        &KEY
    } else {
        &RSA
    };
    let world = World::with(&[key.jwk()]);
    vouched(section, &key.sign(None, token), &world).map(|vouched| vouched.claims.values)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Refusal>, code: &str, says: &str) {
    match outcome {
        Err(Refusal::Evidence(reject)) => {
            assert_eq!(reject.code.name, code, "{reject}");
            assert!(reject.text.contains(says), "{reject} instead of {says}");
        }
        other => panic!("{other:?} instead of {code}"),
    }
}

#[track_caller]
fn unverifiable<T: std::fmt::Debug>(outcome: Result<T, Refusal>, says: &str) {
    match outcome {
        Err(Refusal::Unverifiable { what, retry_after }) => {
            assert_eq!((what.as_str(), retry_after), (says, KEYS_PATIENCE));
        }
        other => panic!("{other:?} instead of {says}"),
    }
}

#[test]
fn a_token_is_believed_and_spent() {
    let (token, world) = (KEY.sign(Some("1"), &good()), World::with(&[KEY.jwk_with(&json!({ "kid": "1" }))]));
    let (outcome, needs) = judged(PLAIN, &format!("{token}\n"), &world);
    let vouched = outcome.unwrap();
    let record = format!("jwt/{}", hex::encode(Jwt::read(&token).unwrap().digest()));
    let keys = DocumentSource::File("/etc/lychgate/keys.json".into());
    assert_eq!(needs, [Need::Document(keys), Need::Record(record.clone())]);
    assert_eq!(vouched.spends.expect, [Expectation::Absent(record.clone())]);
    let [RecordWrite::Put(key, value)] = vouched.spends.writes.as_slice() else { panic!("{:?}", vouched.spends) };
    let spent: SpentJwt = serde_json::from_slice(value).unwrap();
    assert_eq!((key, &spent.key, spent.until.0), (&record, &for_key(), NOW + 300));
    let Claims { values, assurance, role, names, grants } = vouched.claims;
    assert!(role.is_none() && names.is_empty() && grants.is_none());
    assert_eq!(assurance, Assurance::SOFTWARE);
    let text = |name: &str| values[name].text();
    assert_eq!((text("issuer"), text("subject"), text("bound")), ("ci".into(), "who".into(), "use".into()));
    // For the same key it is a repetition, for another a theft.
    let mine = serde_json::to_vec(&spent).unwrap();
    let again =
        super::tests::vouched(PLAIN, &token, &World { spent: Some(&mine), ..World::with(&[KEY.jwk()]) }).unwrap();
    assert!(again.spends.writes.is_empty());
    let other = SpentJwt { key: KeyDigest::from_spki_der(b"another"), ..spent };
    let other = serde_json::to_vec(&other).unwrap();
    let world = World { spent: Some(&other), ..World::with(&[KEY.jwk()]) };
    refused(super::tests::vouched(PLAIN, &token, &world), "jwt-used", "used already for another key");
}

/// However far its end is, it is not remembered for ever.
#[test]
fn a_spent_token_is_forgotten_when_it_cannot_count_any_more() {
    let token = KEY.sign(None, &with(good(), &json!({ "exp": u64::MAX })));
    let vouched = vouched(PLAIN, &token, &World::with(&[KEY.jwk()])).unwrap();
    let [RecordWrite::Put(_, value)] = vouched.spends.writes.as_slice() else { panic!("{:?}", vouched.spends) };
    let spent: SpentJwt = serde_json::from_slice(value).unwrap();
    assert_eq!(spent.until.0, NOW + MAX_AGE_MOST.as_secs());
}

#[test]
fn a_token_for_one_key_is_not_spent_and_is_nobody_elses() {
    let world = World::with(&[KEY.jwk()]);
    let token = KEY.sign(None, &with(good(), &json!({ "aud": format!("us:{}", for_key().hex()) })));
    let (outcome, needs) = judged(BOUND, &token, &world);
    let vouched = outcome.unwrap();
    assert!(vouched.spends.writes.is_empty() && needs.len() == 1);
    assert_eq!(vouched.claims.values["bound"].text(), "key");
    for aud in ["us:", "us", "us:{key}"] {
        let token = KEY.sign(None, &with(good(), &json!({ "aud": aud })));
        refused(super::tests::vouched(BOUND, &token, &world), "jwt-audience", "must be for \"us:");
    }
    let stolen = format!("us:{}", KeyDigest::from_spki_der(b"another").hex());
    let token = KEY.sign(None, &with(good(), &json!({ "aud": stolen })));
    refused(super::tests::vouched(BOUND, &token, &world), "jwt-audience", "must be for \"us:");
}

#[test]
fn what_does_not_hold_is_refused_by_name() {
    for (more, code, says) in [
        (json!({ "aud": "them" }), "jwt-audience", r#"it is for "them", and must be for "us" alone"#),
        (json!({ "aud": ["us", "them"] }), "jwt-audience", r#"it is for ["us","them"]"#),
        (json!({ "iss": "https://other.example" }), "jwt-issuer", "\"https://other.example\", which this gateway does"),
        (json!({ "iss": null }), "jwt-issuer", "the JWT names no issuer"),
        (json!({ "exp": NOW - 70 }), "jwt-expired", "it ended 70 s ago"),
        (json!({ "iat": NOW - 1000 }), "jwt-expired", "it was issued 1000 s ago, and 900 s are allowed"),
        (json!({ "nbf": NOW + 70 }), "jwt-not-yet", "not valid for another 70 s"),
        (json!({ "iat": NOW + 70 }), "jwt-not-yet", "issued 70 s in the future"),
        (json!({ "sub": null }), "jwt-malformed", "the claim `sub` is missing"),
        (json!({ "sub": "s".repeat(513) }), "jwt-claims", "`subject` is longer than 512 bytes"),
    ] {
        refused(claims(PLAIN, &with(good(), &more)), code, says);
    }
    let world = World::with(&[KEY.jwk()]);
    for (token, code, says) in [
        (RSA.sign(None, &good()), "jwt-signature", "none of the keys"),
        (SoftKey::p256().sign(None, &good()), "jwt-signature", "not by its issuer's key"),
        (KEY.sign_text(r#"{"alg":"none"}"#, &good().to_string()), "jwt-algorithm", "its algorithm is \"none\""),
        (KEY.sign_text(r#"{"alg":"ES256","typ":"at+jwt"}"#, &good().to_string()), "jwt-type", "\"at+jwt\""),
        (KEY.sign_text(r#"{"alg":"ES256","crit":["x"]}"#, &good().to_string()), "jwt-malformed", "`crit`"),
        ("no token".to_owned(), "jwt-malformed", "it is not a signed JWT"),
        (String::new(), "jwt-malformed", "it is not a signed JWT"),
    ] {
        refused(vouched(PLAIN, &token, &world), code, says);
    }
    let section = format!("{PLAIN}algorithms = ['EdDSA']\n");
    refused(claims(&section, &good()), "jwt-algorithm", "ES256, which is not allowed for its issuer");
}

#[test]
fn keys_that_cannot_be_had_are_said_with_their_issuer() {
    let (token, none) = (KEY.sign(Some("1"), &good()), World { kept: None, newest: None, spent: None });
    unverifiable(vouched(PLAIN, &token, &none), "the keys of the issuer `ci` cannot be had");
    unverifiable(vouched(BY_URL, &token, &none), "the keys of the issuer `ci` cannot be had");
    let keys = key_set(&[KEY.jwk_with(&json!({ "kid": "1" }))]);
    let aged = |age: u64| World { kept: Some((keys.clone(), age)), newest: None, spent: None };
    assert!(vouched(BY_URL, &token, &aged(6 * 3600)).is_ok());
    unverifiable(
        vouched(BY_URL, &token, &aged(6 * 3600 + 1)),
        "the keys of the issuer `ci` are too old, and newer ones cannot be had",
    );
    assert!(vouched(PLAIN, &token, &aged(u64::from(u32::MAX))).is_ok(), "a file is as old as it is");
    let junk = World { kept: Some((b"<html>".to_vec(), 0)), newest: None, spent: None };
    unverifiable(vouched(BY_URL, &token, &junk), "the keys of the issuer `ci` cannot be read");
}

#[test]
fn a_key_that_is_not_there_yet_is_looked_for_once() {
    let token = KEY.sign(Some("2"), &good());
    let (old, new) = (RSA.jwk_with(&json!({ "kid": "1" })), KEY.jwk_with(&json!({ "kid": "2" })));
    let world =
        |newest: Option<&[Value]>| World { newest: newest.map(key_set), ..World::with(std::slice::from_ref(&old)) };
    let both = [old.clone(), new];
    let (outcome, needs) = judged(BY_URL, &token, &world(Some(&both)));
    assert!(outcome.is_ok() && matches!(needs.as_slice(), [Need::Document(_), Need::Record(_), Need::Newest(_)]));
    refused(vouched(BY_URL, &token, &world(Some(std::slice::from_ref(&old)))), "jwt-signature", "none of the keys");
    unverifiable(vouched(BY_URL, &token, &world(None)), "the keys of the issuer `ci` cannot be had");
    // one whose key is there asks nobody
    let (outcome, needs) = judged(BY_URL, &RSA.sign(Some("1"), &good()), &world(None));
    assert!(outcome.is_ok() && needs.len() == 2);
    // a file is read anew by itself
    let (outcome, needs) = judged(PLAIN, &token, &world(None));
    refused(outcome, "jwt-signature", "none of the keys");
    assert_eq!(needs.len(), 2);
}

#[test]
fn a_lock_on_the_issuers_key_stops_all_its_tokens() {
    let world = World::with(&[KEY.jwk()]);
    let signer = vouched(PLAIN, &KEY.sign(None, &good()), &world).unwrap().claims.values["signer"].text();
    let attestor = built(PLAIN).unwrap().unwrap();
    let (domain, authority, rules) = &*GATEWAY;
    let context = Context {
        domain,
        anchors: authority.anchors(),
        token_key: authority.token_key(),
        host_ca: None,
        rules,
        now: UnixTime::new(NOW),
    };
    let message = Message {
        body: &KEY.sign(None, &good()),
        kept: None,
        entropy: [3; ENTROPY_LEN],
        for_key: for_key(),
        exporter: &[9; 32],
        requester: &Requester::Nobody,
        purpose: Purpose::Join { wanted: None },
    };
    let case = attestor.open(&message, &context).unwrap();
    let mut found = Found::default();
    found.push(Finding::Document(Some(document(&key_set(&[KEY.jwk()]), 0))));
    found.push(Finding::Record(None));
    assert_eq!(case.rests_on(&found, &context).unwrap().targets, [(LockKind::Key, signer)]);
}

/// A token with all that a preset knows.
fn token_of(preset: &Preset, section: &str) -> Value {
    let issuer = preset.issuer.unwrap_or("https://issuer.example");
    let audience = jwt_audience(preset.audience.unwrap_or("us"), "td.example", &for_key().hex());
    let sub = if preset.name == "spiffe" { "spiffe://sp.example/db" } else { "who" };
    let mut token = json!({ "iss": issuer, "aud": audience, "sub": sub, "iat": NOW, "exp": NOW + 300 });
    for claim in preset.claims {
        let fixed = preset.fixed.iter().find(|(name, _)| *name == claim.name);
        let value = json!(fixed.map_or_else(|| format!("The-{}", claim.name), |(_, value)| (*value).to_owned()));
        match &claim.at {
            presets::At::Member(name) | presets::At::Caseless(name) => token[*name] = value,
            presets::At::Path([one, two]) => token[*one][*two] = value,
            presets::At::Path([one, two, three]) => token[*one][*two][*three] = value,
            presets::At::Path(_) => panic!("{section}: another depth"),
        }
    }
    token
}

/// A section with what a preset cannot know.
fn section_of(preset: &Preset) -> String {
    let mut section = format!("[issuers.x]\npreset = '{}'\n", preset.name);
    if preset.name == "spiffe" {
        section += "issuer = 'spiffe://sp.example'\n";
    } else if preset.issuer.is_none() {
        section += "issuer = 'https://issuer.example'\n";
    }
    if preset.keys.is_none() {
        section += "keys = 'keys.json'\n";
    }
    if preset.audience.is_none() {
        section += "audience = 'us'\n";
    }
    if let Some(pin) = preset.pinned.first() {
        section += &format!("require.{pin} = 'The-{pin}'\n");
    }
    section
}

#[test]
fn presets_tell_their_claims_and_demand_those_that_matter() {
    for preset in PRESETS {
        let section = section_of(preset);
        let token = token_of(preset, &section);
        let told = claims(&section, &token).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        for claim in preset.claims {
            let text = told[&preset.full(claim.name)].text();
            assert!(text.eq_ignore_ascii_case(&format!("The-{}", claim.name)) || !preset.fixed.is_empty(), "{text}");
        }
        let pin = preset.pinned.first();
        for claim in preset.claims {
            let mut without = token.clone();
            match &claim.at {
                presets::At::Member(name) | presets::At::Caseless(name) => without[*name] = Value::Null,
                presets::At::Path([one, two]) => without[*one][*two] = Value::Null,
                presets::At::Path([one, two, three]) => without[*one][*two][*three] = Value::Null,
                presets::At::Path(_) => panic!("another depth"),
            }
            match (claims(&section, &without), claim.demand) {
                (Ok(_), Demand::IfThere) => {}
                (outcome, Demand::Always) => refused(outcome, "jwt-claims", "is missing"),
                (Err(error), Demand::IfThere) => panic!("{} {}: {error}", preset.name, claim.name),
            }
        }
        if let Some(pin) = pin {
            let other = section.replace(&format!("'The-{pin}'"), "['1', '2']");
            refused(claims(&other, &token), "jwt-claims", "which is not admitted");
            let open: String =
                section.lines().filter(|line| !line.starts_with("require")).collect::<Vec<_>>().join("\n");
            let error = built(&open).err().unwrap().to_string();
            assert!(error.contains("this issuer issues tokens to everybody") && error.contains(pin), "{error}");
        }
        for (claim, _) in preset.fixed {
            let presets::At::Member(name) = &preset.claim(claim).unwrap().at else { panic!("{claim}") };
            refused(claims(&section, &with(token.clone(), &json!({ *name: "plan" }))), "jwt-claims", "\"plan\"");
        }
    }
}

/// The list in [`ROW`] is what the presets tell.
#[test]
fn every_claim_of_a_preset_is_declared() {
    let declared: BTreeSet<String> = ROW.claims.iter().map(|(name, _)| (*name).to_owned()).collect();
    let own = ["issuer", "subject", "signer", "bound", "machine"].map(str::to_owned);
    let of_presets = PRESETS.iter().flat_map(|preset| preset.claims.iter().map(|claim| preset.full(claim.name)));
    assert_eq!(declared, own.into_iter().chain(of_presets).collect());
    assert_eq!(declared.len(), ROW.claims.len());
    assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
    for preset in PRESETS {
        for name in preset.pinned.iter().chain(preset.machine).chain(preset.fixed.iter().map(|(name, _)| name)) {
            assert_eq!(preset.claim(name).map(|claim| claim.demand), Some(Demand::Always), "{} {name}", preset.name);
        }
    }
}

#[test]
fn machines_are_told_apart() {
    let gcp = Preset::named("gcp").unwrap();
    let section = section_of(gcp);
    assert_eq!(claims(&section, &token_of(gcp, &section)).unwrap()["machine"].text(), "gcp:The-instance_id");
    let azure = Preset::named("azure").unwrap();
    let section = section_of(azure);
    // Azure writes the path of a resource in any case.
    let token = with(token_of(azure, &section), &json!({ "xms_mirid": "/Subscriptions/AB/resourcegroups/X" }));
    let told = claims(&section, &token).unwrap();
    assert_eq!(told["machine"].text(), "azure:/subscriptions/ab/resourcegroups/x");
    let section = format!("{section}require.resource_id = '/subscriptions/AB/resourceGroups/x'\n");
    assert!(claims(&section, &token).is_ok());
    assert!(!claims(PLAIN, &good()).unwrap().contains_key("machine"));
}

#[test]
fn what_a_section_requires_must_be_in_the_token() {
    let check = |require: &str, more: Value, says: Option<&str>| {
        let outcome = claims(&format!("{PLAIN}{require}\n"), &with(good(), &more));
        match says {
            None => assert!(outcome.is_ok(), "{require} {more}: {outcome:?}"),
            Some(says) => refused(outcome, "jwt-claims", says),
        }
    };
    check("require.project_id = '28'", json!({ "project_id": "28" }), None);
    check("require.project_id = 28", json!({ "project_id": "28" }), None);
    check("require.project_id = '28'", json!({ "project_id": 28 }), None);
    check("require.protected = true", json!({ "protected": true }), None);
    check("require.protected = true", json!({ "protected": "true" }), None);
    check("require.ref = ['a', 'b']", json!({ "ref": "b" }), None);
    check("require.'/a/b~1c/d~0' = 'x'", json!({ "a": { "b/c": { "d~": "x" } } }), None);
    check("require.project_id = '28'", json!({ "project_id": "281" }), Some("`project_id` is \"281\""));
    check("require.project_id = '28'", json!({ "project_id": ["28"] }), Some("`project_id` is missing"));
    check("require.project_id = '28'", json!({ "project_id": null }), Some("`project_id` is missing"));
    check("require.project_id = '28'", json!({}), Some("`project_id` is missing"));
    check("require.'/a/b' = 'x'", json!({ "a": "x" }), Some("`/a/b` is missing"));
    check("require.a = '1'\nrequire.b = '2'", json!({ "a": "1" }), Some("`b` is missing"));
}

#[test]
fn an_issuer_is_found_by_its_token() {
    let section = format!(
        "{PLAIN}[issuers.mesh]\npreset = 'spiffe'\nissuer = 'spiffe://sp.example'\nkeys = 'bundle.json'\naudience = 'us'\n"
    );
    let world = World::with(&[KEY.jwk_with(&json!({ "use": "jwt-svid" }))]);
    let svid = json!({ "aud": ["us"], "sub": "spiffe://sp.example/db", "iat": NOW, "exp": NOW + 300 });
    let issuer = |token: &Value, world: &World<'_>| {
        vouched(&section, &KEY.sign(None, token), world).map(|vouched| vouched.claims.values["issuer"].text())
    };
    assert_eq!(issuer(&svid, &world).unwrap(), "mesh");
    // with or without an `iss` of its own
    assert_eq!(issuer(&with(svid.clone(), &json!({ "iss": "https://oidc.sp.example" })), &world).unwrap(), "mesh");
    refused(issuer(&good(), &world), "jwt-signature", "none of the keys");
    assert_eq!(issuer(&good(), &World::with(&[KEY.jwk()])).unwrap(), "ci");
    refused(
        issuer(&with(svid, &json!({ "sub": "spiffe://other.example/db" })), &world),
        "jwt-issuer",
        "names no issuer",
    );
}

#[test]
fn what_is_wrong_with_a_section_is_said() {
    for (section, says) in [
        ("issuers = 7", "invalid type: integer `7`"),
        ("[issuers.x]\npreset = 'tarot'", "`issuers.x`: there is no preset `tarot`; there are `azure`, `buildkite`"),
        ("[issuers.x]", "missing field `preset`"),
        ("[issuers.x]\npreset = 'oidc'\nfoo = 1", "unknown field `foo`"),
        ("[issuers.x]\npreset = 'oidc'", "`issuer` is missing"),
        ("[issuers.x]\npreset = 'oidc'\nissuer = ''\nkeys = 'k'\naudience = 'us'", "`issuer` is empty"),
        ("[issuers.x]\npreset = 'oidc'\nissuer = 'https://a.example'", "`keys` is missing"),
        ("[issuers.x]\npreset = 'oidc'\nissuer = 'https://a.example'\nkeys = 'k'", "`audience` is missing"),
        (
            "[issuers.x]\npreset = 'oidc'\nissuer = 'a'\nkeys = 'http://a.example/'\naudience = 'us'",
            "does not begin with https",
        ),
        (
            "[issuers.x]\npreset = 'oidc'\nissuer = 'a'\nkeys = 'k'\nca = 'c'\naudience = 'us'",
            "are for `keys` that are an https",
        ),
        ("[issuers.x]\npreset = 'spiffe'\nissuer = 'https://a.example'\nkeys = 'k'", "must be a trust domain such as"),
        ("[issuers.X]\npreset = 'oidc'", "its name must be lower-case letters"),
        ("[issuers.x]\npreset = 'github-actions'", "`require` must name `repository_id` or `repository_owner_id`"),
        (
            "[issuers.x]\npreset = 'github-actions'\nrequire.repository_id = ''",
            "`require.repository_id` has an empty value",
        ),
        (
            "[issuers.x]\npreset = 'github-actions'\nrequire.repository_id = []",
            "`require.repository_id` has an empty value",
        ),
    ] {
        let error = built(section).err().unwrap_or_else(|| panic!("{section}")).to_string();
        assert!(error.contains(says), "{section}: {error}");
    }
    for (more, says) in [
        ("algorithms = ['HS256']", "`algorithms` has `HS256`; there are RS256, RS384"),
        ("algorithms = []", "`algorithms` is empty"),
        ("max_age = 'soon'", "`max_age` must be a time such as"),
        ("max_age = '31d'", "`max_age` must be a time such as"),
        ("max_age = '0s'", "`max_age` must be a time such as"),
        (
            "[issuers.two]\npreset = 'oidc'\nissuer = 'https://issuer.example'\nkeys = 'k'\naudience = 'us'",
            "`issuers.ci` and `issuers.two` are one issuer",
        ),
    ] {
        let error = built(&format!("{PLAIN}{more}")).err().unwrap_or_else(|| panic!("{more}")).to_string();
        assert!(error.contains(says), "{more}: {error}");
    }
}

/// Which documents are read is for the operator to say, whatever a token names.
#[test]
fn no_address_in_a_token_is_read() {
    let world = World::with(&[KEY.jwk()]);
    let thief = "https://169.254.169.254/keys";
    for section in [PLAIN, BY_URL] {
        let configured = built(section).unwrap().unwrap().documents();
        let mut looked_up = 0;
        for claims in [good(), with(good(), &json!({ "iss": thief, "jwks_uri": thief }))] {
            for kid in ["1", "2"] {
                let header = json!({ "alg": "ES256", "kid": kid, "jku": thief, "x5u": thief });
                let (_, needs) = judged(section, &KEY.sign_text(&header.to_string(), &claims.to_string()), &world);
                for need in needs {
                    let (Need::Document(source) | Need::Newest(source)) = need else { continue };
                    assert!(configured.contains(&source), "{source}");
                    looked_up += 1;
                }
            }
        }
        assert!(looked_up > 0);
    }
}

#[test]
fn without_an_issuer_there_is_no_attestor() {
    assert!(build(None).unwrap().is_none());
    assert!(built("").unwrap().is_none());
    assert!(built(&format!("enabled = false\n{PLAIN}")).unwrap().is_none());
    let attestor = built(PLAIN).unwrap().unwrap();
    let keys = DocumentSource::File("/etc/lychgate/keys.json".into());
    assert_eq!(attestor.documents(), std::slice::from_ref(&keys));
    let odd = key_set(&[json!({ "kid": "odd", "kty": "oct" }), KEY.jwk()]);
    assert_eq!(
        attestor.complaints(&keys, &odd, None, UnixTime::new(NOW)),
        ["the key \"odd\" cannot be used: it is a shared secret"]
    );
    assert_eq!(
        attestor.complaints(&keys, b"{}", None, UnixTime::new(NOW)),
        ["it is not a JSON Web Key Set: it has no list `keys`"]
    );
}
